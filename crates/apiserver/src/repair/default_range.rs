//! The ServiceCIDR `kubernetes`: the networks that the server was started with, made and kept ready.

use std::sync::Arc;

use serde_json::{Value, json};

use super::event;
use crate::allocator::ip_address::GROUP;
use crate::allocator::network::{DEFAULT, is_ready};
use crate::http::status::{ApiError, Result};
use crate::pipeline::Pipeline;
use crate::pipeline::{Change, Origin, Write, WriteOptions};
use crate::registry::own::Own;

const MANAGER: &str = "kubernetes-service-cidr-controller";

#[derive(Debug, PartialEq, Eq)]
enum Step {
    Create,
    /// A network of the other family was added to the server's.
    Add,
    SetReady,
    Leave,
    /// The object has other networks than the server was started with.
    Differs,
}

fn step(current: Option<&Value>, networks: &[String]) -> Step {
    let Some(current) = current else { return Step::Create };
    if current.pointer("/metadata/deletionTimestamp").is_some() {
        return Step::Leave;
    }
    let has = current.pointer("/spec/cidrs").and_then(Value::as_array);
    let has: Vec<&str> = has.into_iter().flatten().filter_map(Value::as_str).collect();
    if has != networks {
        return match (has.as_slice(), networks) {
            ([had], [first, _]) if had == first => Step::Add,
            _ => Step::Differs,
        };
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
    let networks = &pipeline.allocator.ranges.service_networks;
    let networks: Vec<String> = networks.iter().map(ToString::to_string).collect();
    let options = |subresource: &str| WriteOptions {
        manager: MANAGER.into(),
        ..WriteOptions::own(subresource)
    };
    // made first, completed, then ready
    for _ in 0..3 {
        let current = served.cache.get("", DEFAULT);
        let tree = current.as_ref().map(|c| c.tree()).transpose()?;
        let step = step(tree.as_ref(), &networks);
        let options = match step {
            Step::SetReady => options("status"),
            _ => WriteOptions::own(""),
        };
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
                    "metadata": { "name": DEFAULT }, "spec": { "cidrs": networks },
                });
                match write.create(tree, Origin::Post).await {
                    Err(error) if error.reason == "AlreadyExists" => {}
                    other => drop(other?),
                }
            }
            Step::Add => {
                let write = Write {
                    pipeline,
                    served,
                    namespace: "",
                    options: &options,
                };
                let added = write.update(DEFAULT, |current| {
                    let mut tree = current.clone();
                    tree["spec"]["cidrs"] = json!(networks);
                    Ok(Change::to(tree))
                });
                added.await?;
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
                    "The default ServiceCIDR [{}] does not match the controller flag configurations [{}]",
                    has.join(" "),
                    networks.join(" ")
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
        let networks = [own.to_owned()];
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
            assert_eq!(step(current.as_ref(), &networks), wanted, "{current:?}");
        }
        let both = [own.to_owned(), "fd00:96::/112".to_owned()];
        let mut complete = cidr(None, own);
        complete["spec"]["cidrs"] = json!(both);
        assert_eq!(step(Some(&cidr(Some("True"), own)), &both), Step::Add);
        assert_eq!(step(Some(&complete), &both), Step::SetReady);
        assert_eq!(step(Some(&complete), &networks), Step::Differs);
        assert_eq!(step(Some(&cidr(None, "10.0.0.0/24")), &both), Step::Differs);
    }
}
