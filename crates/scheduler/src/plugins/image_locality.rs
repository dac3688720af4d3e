//! ImageLocality: prefers nodes that have the pod's images, the more so the larger and the more widely present they are.

use crate::framework::{ClusterEvent, Cycle, MAX_SCORE, Plugin};
use crate::metrics::Point;
use crate::node::NodeInfo;
use crate::pod::PodInfo;

/// Prefers nodes that have the pod's images, by their size.
pub struct ImageLocality;

/// Less than this counts as nothing.
const MIN: i64 = 23 * 1024 * 1024;
/// More than this, for each container, counts as this.
const MAX: i64 = 1000 * 1024 * 1024;

/// A reference without tag and digest names `latest`.
pub fn normalized(image: &str) -> String {
    let last = image.rsplit('/').next().unwrap_or(image);
    if last.contains(':') || last.contains('@') {
        image.to_owned()
    } else {
        format!("{image}:latest")
    }
}

impl Plugin for ImageLocality {
    fn name(&self) -> &'static str {
        "ImageLocality"
    }

    fn points(&self) -> &'static [Point] {
        &[Point::Score]
    }

    fn weight(&self) -> Option<i64> {
        Some(1)
    }

    fn score(&self, cycle: &Cycle<'_>, node: &NodeInfo) -> i64 {
        let snapshot = cycle.snapshot;
        let total = snapshot.nodes.len().max(1) as f64;
        let mut sum = 0;
        for image in &cycle.pod.images {
            if let Some(bytes) = node.facts.images.get(image.as_str()) {
                let nodes = snapshot.image_nodes.get(image.as_str()).copied().unwrap_or(1);
                sum += (*bytes as f64 * (nodes as f64 / total)) as i64;
            }
        }
        let max = MAX * cycle.pod.containers.max(1) as i64;
        MAX_SCORE * (sum.clamp(MIN, max) - MIN) / (max - MIN)
    }

    fn wakes(&self, _: &PodInfo, _: &ClusterEvent<'_>) -> bool {
        false
    }
}
