//! Dynamic resource allocation: devices, their classes, and claims on them. Statuses of claims are asked no rules of metadata.

pub mod device_class;
mod device_status;
pub mod device_taint_rule;
mod devices;
pub mod resource_claim;
pub mod resource_claim_template;
pub mod resource_slice;
mod selector;

const GROUP: &str = "resource.k8s.io";
