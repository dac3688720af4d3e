//! A stopwatch for the extension points of one cycle. Time comes in as an argument: without a clock nothing is measured.

use std::time::Duration;

use crate::framework::{Cycle, Plugin, Refusal};
use crate::metrics::{Point, SchedulerMetrics};

/// What tells the time and who is told.
pub struct Meter<'a> {
    to: Option<(&'a SchedulerMetrics, &'a dyn Fn() -> Duration)>,
    /// Each plugin is measured by itself.
    single: bool,
}

fn status(well: bool) -> &'static str {
    if well { "Success" } else { "Unschedulable" }
}

impl<'a> Meter<'a> {
    /// One that measures nothing.
    #[cfg(test)]
    pub fn none() -> Meter<'static> {
        Meter {
            to: None,
            single: false,
        }
    }

    /// One that tells `metrics` what a clock says, of single plugins only where `single` says so: that costs more.
    pub fn new(metrics: &'a SchedulerMetrics, clock: &'a dyn Fn() -> Duration, single: bool) -> Meter<'a> {
        Meter {
            to: Some((metrics, clock)),
            single,
        }
    }

    /// Measures an extension point; `well` says whether a node may still be found.
    pub fn point<T>(&self, point: Point, work: impl FnOnce() -> T, well: impl Fn(&T) -> bool) -> T {
        let Some((metrics, clock)) = self.to else {
            return work();
        };
        let begun = clock();
        let done = work();
        metrics.point(point, status(well(&done)), clock().saturating_sub(begun));
        done
    }

    /// Measures a plugin at an extension point that it fills.
    pub fn plugin(
        &self,
        point: Point,
        plugin: &dyn Plugin,
        work: impl FnOnce() -> Result<(), Refusal>,
    ) -> Result<(), Refusal> {
        let Some((metrics, clock)) = self.to.filter(|_| self.single && plugin.points().contains(&point)) else {
            return work();
        };
        let begun = clock();
        let done = work();
        metrics.plugin(
            point,
            plugin.name(),
            status(done.is_ok()),
            clock().saturating_sub(begun),
        );
        done
    }

    /// Measures every plugin's Filter on one node: of all nodes it would cost more than it says.
    pub fn filters(&self, plugins: &[Box<dyn Plugin>], cycle: &Cycle<'_>) {
        let Some(node) = cycle.snapshot.nodes.first().filter(|_| self.single) else {
            return;
        };
        for plugin in plugins {
            // what it says of the node was asked before
            let _ = self.plugin(Point::Filter, &**plugin, || plugin.filter(cycle, node));
        }
    }

    /// Counts that each plugin which fills a point was asked so often.
    pub fn asked(&self, plugins: &[Box<dyn Plugin>], point: Point, times: u64) {
        let Some((metrics, _)) = self.to else { return };
        for plugin in plugins.iter().filter(|plugin| plugin.points().contains(&point)) {
            metrics.asked(point, plugin.name(), times);
        }
    }
}
