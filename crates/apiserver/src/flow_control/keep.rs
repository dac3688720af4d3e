//! Keeps the flow schemas and priority levels that a server has, and tells schemas whose level is missing so in their status
//! (`pkg/registry/flowcontrol/ensurer`, `syncOne` of `apf_controller.go`).

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::configuration::is_mandatory;
use super::{GROUP, LEVELS, SCHEMAS, default};
use crate::http::status::{ApiError, Result};
use crate::kinds::flowcontrol::without_empty;
use crate::pipeline::delete::DeleteOptions;
use crate::pipeline::{Change, Origin, Pipeline, Write, WriteOptions};
use crate::registry::Served;
use crate::registry::cache::{Scope, Subscription};
use crate::registry::cached::Cached;

const PRODUCER: &str = "api-priority-and-fairness-config-producer-v1";
const CONSUMER: &str = "api-priority-and-fairness-config-consumer-v1";
const DANGLING: &str = "Dangling";
/// Between two looks: whoever changes what is kept again and again does not keep the server busy.
const PAUSE: Duration = Duration::from_secs(1);

/// The changes to follow.
pub struct Follower([Subscription; 2]);

fn served(pipeline: &Pipeline, plural: &str) -> Result<Served> {
    let catalog = pipeline.registry.catalog();
    let served = catalog.stored(GROUP, plural).cloned();
    served.ok_or_else(|| ApiError::internal(format!("{plural} are not served")))
}

/// The changes from now on; [`ensure`] then looks at what is there.
///
/// # Errors
/// When the kinds are not served.
pub fn watch(pipeline: &Pipeline) -> Result<Follower> {
    let watch = |plural| -> Result<Subscription> { Ok(served(pipeline, plural)?.cache.watch(Scope::All, "", None)?.0) };
    Ok(Follower([watch(SCHEMAS)?, watch(LEVELS)?]))
}

/// Makes what is missing, and puts right what the server keeps.
///
/// # Errors
/// The first; the others are made nevertheless.
pub async fn ensure(pipeline: &Arc<Pipeline>) -> Result<()> {
    let (schemas, levels) = (served(pipeline, SCHEMAS)?, served(pipeline, LEVELS)?);
    let wanted_levels: Vec<Value> = (default::suggested_levels().into_iter())
        .chain(default::mandatory_levels())
        .collect();
    let wanted_schemas: Vec<Value> = (default::suggested_schemas().into_iter())
        .chain(default::mandatory_schemas())
        .collect();
    // together, so that they share syncs
    let (levels_kept, schemas_kept) = futures::future::join(
        keep_all(pipeline, &levels, &wanted_levels),
        keep_all(pipeline, &schemas, &wanted_schemas),
    )
    .await;
    levels_kept
        .and(schemas_kept)
        .and(tell_all(pipeline, &schemas, &levels).await)
}

/// Makes those of a kind that are missing, and removes those that were suggested once.
async fn keep_all(pipeline: &Arc<Pipeline>, served: &Served, wanted: &[Value]) -> Result<()> {
    let made = wanted.iter().map(|one| keep(pipeline, served, one));
    let mut outcome: Result<()> = futures::future::join_all(made).await.into_iter().collect();
    for object in served.cache.list("").items {
        let name = &*object.object.meta.name;
        let known = wanted.iter().any(|one| one["metadata"]["name"] == *name);
        if !known && auto_update(&object.tree()?) == Some(true) {
            outcome = outcome.and(remove(pipeline, served, name).await);
        }
    }
    outcome
}

/// Tells each schema whether its level is there.
async fn tell_all(pipeline: &Arc<Pipeline>, schemas: &Served, levels: &Served) -> Result<()> {
    let list = schemas.cache.list("").items;
    let told = list.iter().map(|object| tell(pipeline, schemas, levels, object));
    futures::future::join_all(told).await.into_iter().collect()
}

/// Follows changes until `stop`.
pub async fn follow(pipeline: Arc<Pipeline>, mut follower: Follower, stop: CancellationToken) {
    loop {
        let [schemas, levels] = &mut follower.0;
        let ended = tokio::select! {
            () = stop.cancelled() => return,
            change = schemas.queue.recv() => change.is_none(),
            change = levels.queue.recv() => change.is_none(),
        };
        // what came together is looked at together
        for subscription in &mut follower.0 {
            while subscription.queue.try_recv().is_ok() {}
        }
        if ended {
            match watch(&pipeline) {
                Ok(again) => follower = again,
                Err(error) => return tracing::error!(%error, "flow schemas are not kept any more"),
            }
        }
        if let Err(error) = ensure(&pipeline).await {
            tracing::warn!(%error, "flow schemas and priority levels are not kept");
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(PAUSE) => {}
        }
    }
}

/// Whether an object says that the server keeps its spec.
fn auto_update(tree: &Value) -> Option<bool> {
    let text = tree["metadata"]["annotations"][default::AUTO_UPDATE].as_str()?;
    // as Go reads a boolean
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}

/// The object as it is to be, if it is not so.
fn revised(old: &Value, wanted: &Value) -> Option<Value> {
    let name = wanted["metadata"]["name"].as_str().unwrap_or_default();
    let said = auto_update(old);
    let keeps = is_mandatory(name) || said.unwrap_or(old["metadata"]["generation"] == 1);
    let mut new = old.clone();
    if said != Some(keeps) {
        new["metadata"]["annotations"][default::AUTO_UPDATE] = json!(keeps.to_string());
    }
    let mut spec = wanted["spec"].clone();
    // how many seats the exempt level has and lends is its user's to say
    if spec["exempt"].is_object() && old["spec"]["exempt"].is_object() {
        spec["exempt"] = old["spec"]["exempt"].clone();
    }
    if keeps && without_empty(&old["spec"]) != without_empty(&spec) {
        new["spec"] = wanted["spec"].clone();
    }
    (new != *old).then_some(new)
}

async fn keep(pipeline: &Arc<Pipeline>, served: &Served, wanted: &Value) -> Result<()> {
    let name = wanted["metadata"]["name"].as_str().unwrap_or_default();
    let options = WriteOptions {
        manager: PRODUCER.into(),
        ..WriteOptions::own("")
    };
    let write = Write {
        pipeline,
        served,
        namespace: "",
        options: &options,
    };
    let resource = &served.resource;
    let defaulted = |mut tree: Value| {
        resource.set_defaults(&mut tree);
        tree
    };
    let wanted = defaulted(wanted.clone());
    let Some(current) = served.cache.get("", name) else {
        return match write.create(wanted, Origin::Post).await {
            Err(error) if error.reason == "AlreadyExists" => Ok(()),
            made => made.map(drop),
        };
    };
    if revised(&current.tree()?, &wanted).is_none() {
        return Ok(());
    }
    let change = |old: &Value| Ok(Change::to(revised(old, &wanted).unwrap_or_else(|| old.clone())));
    match write.update(name, change).await {
        Err(error) if matches!(error.reason, "NotFound" | "Conflict") => Ok(()),
        changed => changed.map(drop),
    }
}

/// Removes what an earlier version has made.
async fn remove(pipeline: &Arc<Pipeline>, served: &Served, name: &str) -> Result<()> {
    let options = WriteOptions::own("");
    let write = Write {
        pipeline,
        served,
        namespace: "",
        options: &options,
    };
    match write.delete(name, &DeleteOptions::default()).await {
        Err(error) if error.reason == "NotFound" => Ok(()),
        gone => gone.map(drop),
    }
}

/// The condition of a schema whose level is there, or is not.
fn dangling(level: &str, found: bool) -> Value {
    let about = format!("This FlowSchema references the PriorityLevelConfiguration object named {level:?}");
    match found {
        true => {
            json!({ "type": DANGLING, "status": "False", "reason": "Found", "message": format!("{about} and it exists") })
        }
        false => {
            let message = format!("{about} but there is no such object");
            json!({ "type": DANGLING, "status": "True", "reason": "NotFound", "message": message })
        }
    }
}

/// Tells a schema whether its level is there.
async fn tell(pipeline: &Arc<Pipeline>, schemas: &Served, levels: &Served, object: &Arc<Cached>) -> Result<()> {
    let tree = object.tree()?;
    let level = tree["spec"]["priorityLevelConfiguration"]["name"]
        .as_str()
        .unwrap_or_default();
    let found = levels.cache.get("", level).is_some() || is_mandatory(level);
    let mut condition = dangling(level, found);
    let conditions = tree["status"]["conditions"].as_array();
    let told = conditions.into_iter().flatten().find(|one| one["type"] == DANGLING);
    if told.is_some_and(|told| {
        ["status", "reason", "message"]
            .iter()
            .all(|key| told[*key] == condition[*key])
    }) {
        return Ok(());
    }
    condition["lastTransitionTime"] = json!(pipeline.registry.timestamp());
    let options = WriteOptions {
        manager: CONSUMER.into(),
        ..WriteOptions::own("status")
    };
    let write = Write {
        pipeline,
        served: schemas,
        namespace: "",
        options: &options,
    };
    let name = &*object.object.meta.name;
    let applied = json!({
        "apiVersion": schemas.resource.api_version(), "kind": schemas.resource.kind,
        "metadata": { "name": name }, "status": { "conditions": [condition] },
    });
    let context = write.place().manager(&options, "Apply", true);
    let change = |old: &Value| {
        let tree = write.place().apply(Some(old), &applied, &context);
        Ok(Change {
            applied: true,
            ..Change::to(tree.map_err(|error| ApiError::plain(error.to_string()))?)
        })
    };
    match write.update(name, change).await {
        Err(error) if matches!(error.reason, "NotFound" | "Conflict") => Ok(()),
        changed => changed.map(drop),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `ensurer/strategy.go`
    #[test]
    fn what_a_user_has_taken_over_is_left_alone_unless_no_server_is_without_it() {
        let wanted = &default::suggested_levels()[0];
        let with = |annotation: Option<&str>, generation: u64, shares: u64| {
            let mut old = wanted.clone();
            old["metadata"]["generation"] = json!(generation);
            match annotation {
                Some(text) => old["metadata"]["annotations"][default::AUTO_UPDATE] = json!(text),
                None => old["metadata"]["annotations"] = json!({}),
            }
            old["spec"]["limited"]["nominalConcurrencyShares"] = json!(shares);
            let new = revised(&old, wanted)?;
            let annotation = new["metadata"]["annotations"][default::AUTO_UPDATE].as_str();
            let shares = new["spec"]["limited"]["nominalConcurrencyShares"].as_u64();
            Some((annotation.unwrap_or_default().to_owned(), shares.unwrap_or_default()))
        };
        let some = |annotation: &str, shares| Some((annotation.to_owned(), shares));
        assert_eq!(with(Some("true"), 1, 30), None);
        assert_eq!(with(Some("true"), 2, 5), some("true", 30));
        assert_eq!(with(Some("false"), 2, 5), None);
        assert_eq!(with(None, 1, 5), some("true", 30));
        assert_eq!(with(None, 2, 5), some("false", 5));
        assert_eq!(with(Some("odd"), 2, 5), some("false", 5));
        let mandatory = &default::mandatory_levels()[1];
        let mut old = mandatory.clone();
        old["metadata"]["annotations"][default::AUTO_UPDATE] = json!("false");
        old["spec"]["limited"]["nominalConcurrencyShares"] = json!(50);
        assert_eq!(revised(&old, mandatory), Some(mandatory.clone()));
        let exempt = &default::mandatory_levels()[0];
        let mut old = exempt.clone();
        old["spec"]["exempt"]["nominalConcurrencyShares"] = json!(50);
        assert_eq!(revised(&old, exempt), None);
    }

    #[test]
    fn a_schema_is_told_whether_its_level_is_there() {
        assert_eq!(dangling("a", true)["status"], "False");
        assert_eq!(
            dangling("a", false)["message"],
            "This FlowSchema references the PriorityLevelConfiguration object named \"a\" but there is no such object"
        );
    }
}
