//! What components count of their work, and the text that Prometheus scrapes it in. A component owns what it counts; a
//! registry knows the owners.
#![deny(missing_docs)]

mod family;
mod page;
pub mod process;
mod registry;
mod value;

pub use family::Family;
pub use page::{Kind, Metric, Page, Samples};
pub use registry::{Registry, Source};
pub use value::{Bounds, Counter, Gauge, Histogram, exponential};

/// The media type of a page.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8; escaping=underscores";

/// Bounds of those histograms that name none: Prometheus' `DefBuckets`, in seconds.
pub const DEFAULT_BOUNDS: [f64; 11] = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];
