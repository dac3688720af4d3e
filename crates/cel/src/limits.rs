//! What expressions of Kubernetes may cost (`k8s.io/apiserver/pkg/apis/cel/config.go`).

/// One evaluation.
pub const PER_CALL: u64 = 1_000_000;
/// All evaluations for one object: the rules of a custom resource, a policy's binding.
pub const RUNTIME_BUDGET: u64 = 10_000_000;
/// The match conditions of a webhook or a binding, for one object.
pub const MATCH_CONDITIONS_BUDGET: u64 = 2_500_000;
/// The estimate of one rule of a custom resource definition.
pub const ESTIMATE_PER_RULE: u64 = 10_000_000;
/// The estimates of all rules of a custom resource definition.
pub const ESTIMATE_PER_DEFINITION: u64 = 100_000_000;
/// Turns of a fold between two looks at whether to stop.
pub const INTERRUPT_EVERY: u32 = 100;
