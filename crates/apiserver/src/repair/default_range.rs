//! The ServiceCIDR `kubernetes`: the network that the server was started with, made and kept ready.

use std::sync::Arc;

use serde_json::{Value, json};

use super::event;
use crate::allocator::ip_address::GROUP;
use crate::allocator::network::{DEFAULT, is_ready};
use crate::http::status::{ApiError, Result};
use crate::pipeline::Pipeline;
use crate::pipeline::{Origin, Write, WriteOptions};
use crate::registry::own::Own;

const MANAGER: &str = "kubernetes-service-cidr-controller";

#[derive(Debug, PartialEq, Eq)]
enum Step {
    Create,
    SetReady,
    Leave,
    /// The object has other networks than the server was started with.
    Differs,
}

fn step(current: Option<&Value>, network: &str) -> Step {
    let Some(current) = current else { return Step::Create };
    if current.pointer("/metadata/deletionTimestamp").is_some() {
        return Step::Leave;
    }
    if current.pointer("/spec/cidrs") != Some(&json!([network])) {
        return Step::Differs;
    }
    match is_ready(current) {
        None => Step::SetReady,
        // whoever says that it is not ready knows why
        Some(_) => Step::Leave,
    }
}

/// Makes the ServiceCIDR and says that it is ready, as far as that is to be done.
pub async fn ensure(pipeline: &Arc<Pipeline>) -> Result<()> {
    let catalog = pipeline.registry.catalog();
    let served = catalog
        .stored(GROUP, "servicecidrs")
        .ok_or_else(|| ApiError::internal("servicecidrs are not served"))?;
    let network = pipeline.allocator.ranges.service_network.to_string();
    let options = |subresource: &str| WriteOptions {
        manager: MANAGER.into(),
        ..WriteOptions::own(subresource)
    };
    // made first, then ready
    for _ in 0..2 {
        let current = served.cache.get("", DEFAULT);
        let tree = current.as_ref().map(|c| c.tree()).transpose()?;
        let step = step(tree.as_ref(), &network);
        let options = options(if step == Step::SetReady { "status" } else { "" });
        match step {
            Step::Create => {
                let write = Write {
                    pipeline,
                    served,
                    namespace: "",
                    options: &options,
                };
                let tree = json!({
                    "apiVersion": served.resource.api_version(), "kind": "ServiceCIDR",
                    "metadata": { "name": DEFAULT }, "spec": { "cidrs": [network] },
                });
                match write.create(tree, Origin::Post).await {
                    Err(error) if error.reason == "AlreadyExists" => {}
                    other => drop(other?),
                }
            }
            Step::SetReady => {
                let condition = json!({
                    "type": "Ready", "status": "True", "reason": "",
                    "message": "Kubernetes default Service CIDR is ready",
                    "lastTransitionTime": pipeline.registry.timestamp(),
                });
                let range = Own {
                    registry: &pipeline.registry,
                    group: GROUP,
                    plural: "servicecidrs",
                    namespace: "",
                    name: DEFAULT,
                    options,
                };
                let ready = range.swap(|tree| {
                    tree["status"]["conditions"] = json!([condition]);
                    Ok(())
                });
                ready.await?;
            }
            Step::Leave => return Ok(()),
            Step::Differs => {
                let tree = tree.unwrap_or_default();
                let has: Vec<&str> = tree["spec"]["cidrs"]
                    .as_array()
                    .into_iter()
                    .flatten()
                    .filter_map(Value::as_str)
                    .collect();
                let note = format!(
                    "The default ServiceCIDR [{}] does not match the controller flag configurations [{network}]",
                    has.join(" ")
                );
                event::warn(
                    pipeline,
                    &tree,
                    MANAGER,
                    "KubernetesDefaultServiceCIDRInconsistent",
                    "",
                    &note,
                )
                .await;
                return Ok(());
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_range_is_made_once_and_becomes_ready_unless_somebody_knows_better() {
        let cidr = |status: Option<&str>, network: &str| {
            let conditions: Vec<Value> = status
                .map(|s| json!({"type": "Ready", "status": s}))
                .into_iter()
                .collect();
            json!({"metadata": {}, "spec": {"cidrs": [network]}, "status": {"conditions": conditions}})
        };
        let own = "10.96.0.0/16";
        let mut deleted = cidr(None, own);
        deleted["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
        for (current, wanted) in [
            (None, Step::Create),
            (Some(cidr(None, own)), Step::SetReady),
            (Some(cidr(Some("Unknown"), own)), Step::SetReady),
            (Some(cidr(Some("True"), own)), Step::Leave),
            (Some(cidr(Some("False"), own)), Step::Leave),
            (Some(cidr(None, "10.0.0.0/24")), Step::Differs),
            (Some(deleted), Step::Leave),
        ] {
            assert_eq!(step(current.as_ref(), own), wanted, "{current:?}");
        }
    }
}
