//! What may be set about autoscaling, with upstream's defaults.

use std::time::Duration;

/// Settings of the horizontal pod autoscaler controller.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AutoscalerSettings {
    /// How often each autoscaler is looked at.
    pub sync_period: Duration,
    /// Without a behavior of its own an autoscaler goes no lower than what it recommended within this time.
    pub downscale_stabilization: Duration,
    /// How far from 1.0 the ratio of usage to target may be before anything is scaled.
    pub tolerance: f64,
    /// CPU samples of a pod count only once it is ready within this time after its start.
    pub cpu_initialization_period: Duration,
    /// A pod that became unready within this time after its start has never been ready.
    pub initial_readiness_delay: Duration,
}

impl Default for AutoscalerSettings {
    fn default() -> AutoscalerSettings {
        AutoscalerSettings {
            sync_period: Duration::from_secs(15),
            downscale_stabilization: Duration::from_secs(300),
            tolerance: 0.1,
            cpu_initialization_period: Duration::from_secs(300),
            initial_readiness_delay: Duration::from_secs(30),
        }
    }
}
