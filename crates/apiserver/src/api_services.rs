//! The APIServices of what this server serves itself: made at start for the built-in groups, and kept as custom resources come
//! and go. Somebody's own APIService of the same name, without the label, is left alone.

use std::collections::BTreeSet;
use std::sync::Arc;

use serde_json::{Value, json};

use crate::aggregator::api_service::Priorities;
use crate::http::status::{ApiError, Result};
use crate::pipeline::Pipeline;
use crate::pipeline::delete::DeleteOptions;
use crate::pipeline::{Origin, Write, WriteOptions};
use crate::registry::Served;
use crate::registry::cached::Cached;
use crate::registry::own::Own;

/// The group of APIServices.
pub const GROUP: &str = "apiregistration.k8s.io";
/// Their resource.
pub const PLURAL: &str = "apiservices";

const MANAGED: &str = "kube-aggregator.kubernetes.io/automanaged";
/// Made at start and not looked at again.
const AT_START: &str = "onstart";
/// Follows the custom resources.
const ALWAYS: &str = "true";

/// Group, version, `groupPriorityMinimum`, `versionPriority`, as upstream's aggregator has them.
const BUILT_IN: [(&str, &str, i32, i32); 22] = [
    ("", "v1", 18000, 1),
    ("apps", "v1", 17800, 15),
    ("events.k8s.io", "v1", 17750, 15),
    ("authentication.k8s.io", "v1", 17700, 15),
    ("authorization.k8s.io", "v1", 17600, 15),
    ("autoscaling", "v1", 17500, 15),
    ("autoscaling", "v2", 17500, 30),
    ("batch", "v1", 17400, 15),
    ("certificates.k8s.io", "v1", 17300, 15),
    ("networking.k8s.io", "v1", 17200, 15),
    ("policy", "v1", 17100, 15),
    ("rbac.authorization.k8s.io", "v1", 17000, 15),
    ("storage.k8s.io", "v1", 16800, 15),
    ("apiextensions.k8s.io", "v1", 16700, 15),
    ("admissionregistration.k8s.io", "v1", 16700, 15),
    ("scheduling.k8s.io", "v1", 16600, 15),
    ("coordination.k8s.io", "v1", 16500, 15),
    ("node.k8s.io", "v1", 16300, 15),
    ("discovery.k8s.io", "v1", 16200, 15),
    ("resource.k8s.io", "v1", 16200, 21),
    ("flowcontrol.apiserver.k8s.io", "v1", 16100, 21),
    ("storagemigration.k8s.io", "v1", 15800, 15),
];
/// Those of custom resources.
const CUSTOM: (i32, i32) = (1000, 100);
/// Of the group of APIServices, which no APIService names.
const OWN: (i32, i32) = (20001, 0);

/// Where a group version that this server serves itself stands in discovery.
pub fn priorities(group: &str, version: &str) -> Priorities {
    let built_in = BUILT_IN.iter().find(|row| row.0 == group && row.1 == version);
    let (group, version) = match built_in {
        Some(row) => (row.2, row.3),
        None if group == GROUP => OWN,
        None => CUSTOM,
    };
    Priorities {
        group: group.into(),
        version: version.into(),
    }
}

fn spec(group: &str, version: &str, priorities: (i32, i32)) -> Value {
    let mut spec = json!({ "version": version, "groupPriorityMinimum": priorities.0, "versionPriority": priorities.1 });
    if !group.is_empty() {
        spec["group"] = json!(group);
    }
    spec
}

fn served(pipeline: &Pipeline) -> Result<Served> {
    let catalog = pipeline.registry.catalog();
    let served = catalog.stored(GROUP, PLURAL).cloned();
    served.ok_or_else(|| ApiError::internal(format!("{PLURAL} are not served")))
}

fn managed(object: &Cached) -> Option<&str> {
    object.object.meta.label(MANAGED)
}

/// Makes those of the built-in groups, and puts right what somebody changed in them since the last start.
///
/// # Errors
/// The first; the others are made nevertheless.
pub async fn start(pipeline: &Arc<Pipeline>) -> Result<()> {
    let served = served(pipeline)?;
    // together, so that they share syncs
    let made = BUILT_IN.iter().map(|(group, version, of_group, of_version)| {
        let spec = spec(group, version, (*of_group, *of_version));
        ensure(pipeline, &served, format!("{version}.{group}"), AT_START, spec)
    });
    futures::future::join_all(made).await.into_iter().collect()
}

/// Makes and removes those of a group of custom resources, as its versions are served now.
pub async fn sync(pipeline: &Arc<Pipeline>, group: &str) -> Result<()> {
    let services = served(pipeline)?;
    let catalog = pipeline.registry.catalog();
    let custom = catalog
        .all()
        .filter(|s| s.resource.is_custom() && s.resource.group == group);
    let versions: BTreeSet<&str> = custom.map(|s| s.resource.version.as_str()).collect();
    for version in &versions {
        let spec = spec(group, version, CUSTOM);
        ensure(pipeline, &services, format!("{version}.{group}"), ALWAYS, spec).await?;
    }
    let suffix = format!(".{group}");
    for object in services.cache.list("").items {
        let name = &object.object.meta.name;
        let gone = name
            .strip_suffix(suffix.as_str())
            .is_some_and(|version| !versions.contains(version));
        if !gone || managed(&object) != Some(ALWAYS) {
            continue;
        }
        let options = WriteOptions::own("");
        match write(pipeline, &services, &options)
            .delete(name, &DeleteOptions::default())
            .await
        {
            Err(error) if error.reason != "NotFound" => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

/// Somebody wrote or deleted an APIService.
pub async fn written(pipeline: &Arc<Pipeline>, object: &Cached) -> Result<()> {
    match object.object.meta.name.split_once('.') {
        Some((_, group)) => sync(pipeline, group).await,
        None => Ok(()),
    }
}

fn write<'a>(pipeline: &'a Pipeline, served: &'a Served, options: &'a WriteOptions) -> Write<'a> {
    Write {
        pipeline,
        served,
        namespace: "",
        options,
    }
}

async fn ensure(pipeline: &Arc<Pipeline>, served: &Served, name: String, how: &str, spec: Value) -> Result<()> {
    let options = WriteOptions::own("");
    let write = write(pipeline, served, &options);
    let Some(object) = served.cache.get("", &name) else {
        let mut tree = json!({
            "apiVersion": served.resource.api_version(), "kind": served.resource.kind,
            "metadata": { "name": name, "labels": { MANAGED: how } }, "spec": spec,
        });
        served.resource.set_defaults(&mut tree);
        return match write.create(tree, Origin::Post).await {
            Err(error) if error.reason != "AlreadyExists" => Err(error),
            _ => Ok(()),
        };
    };
    if managed(&object).is_none() || object.tree()?["spec"] == spec {
        return Ok(());
    }
    let repaired = Own {
        registry: &pipeline.registry,
        group: GROUP,
        plural: PLURAL,
        namespace: "",
        name: &name,
        options: WriteOptions::own(""),
    };
    let repaired = repaired.swap(|tree| {
        tree["spec"] = spec.clone();
        Ok(())
    });
    repaired.await.map(|_| ())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_built_in_group_has_its_priorities() {
        // the aggregator's own group is not one that it aggregates
        let all = api::resources::all().iter().filter(|r| r.group != GROUP);
        let served: BTreeSet<(&str, &str)> = all.map(|r| (r.group, r.version)).collect();
        let rows: BTreeSet<(&str, &str)> = BUILT_IN.iter().map(|row| (row.0, row.1)).collect();
        assert_eq!(served, rows);
    }
}
