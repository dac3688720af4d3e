//! ResourceQuotas: `status.used` is brought to what the namespace's objects really use.

use std::collections::BTreeMap;
use std::time::Duration;

use api::object::Object;
use api::quantity::{Format, Quantity};
use api::quota::{self, Usage};
use api::time::Instant;
use client::{Cache, Client};
use http::Method;
use jiff::Timestamp;
use k8s_openapi::Resource;
use k8s_openapi::api::apps::v1::{DaemonSet, Deployment, ReplicaSet, StatefulSet};
use k8s_openapi::api::batch::v1::{CronJob, Job};
use k8s_openapi::api::core::v1::{
    ConfigMap, PersistentVolumeClaim, Pod, ReplicationController, ResourceQuota, ResourceQuotaSpec,
    ResourceQuotaStatus, Secret, Service,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as Text;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::Error;
use crate::context::{Context, split_key};
use crate::discovery::group_path;
use crate::error::decode;
use crate::informers::BY_NAMESPACE;

/// Quotas are counted again after this time: the count may have begun before what was admitted last was to be seen.
const RESYNC: Duration = Duration::from_secs(300);

const PODS: &str = "pods";
const SERVICES: &str = "services";
const CLAIMS: &str = "persistentvolumeclaims";

/// An object may come into these and leave them again.
const SCOPES_THAT_CHANGE: [&str; 2] = ["Terminating", "BestEffort"];

#[derive(Clone)]
struct Controller {
    client: Client,
    quotas: Cache,
    pods: Cache,
    services: Cache,
    claims: Cache,
    /// Watched kinds that are only counted, by `count/` name.
    counted: BTreeMap<String, Cache>,
}

fn count_name<K: Resource>() -> String {
    match K::GROUP {
        "" => format!("count/{}", K::URL_PATH_SEGMENT),
        group => format!("count/{}.{group}", K::URL_PATH_SEGMENT),
    }
}

pub(crate) async fn run(ctx: Context) -> Result<(), Error> {
    let informers = &ctx.informers;
    let counted = BTreeMap::from([
        (count_name::<ConfigMap>(), informers.get::<ConfigMap>()),
        (count_name::<Secret>(), informers.get::<Secret>()),
        (
            count_name::<ReplicationController>(),
            informers.get::<ReplicationController>(),
        ),
        (count_name::<ResourceQuota>(), informers.get::<ResourceQuota>()),
        (count_name::<Deployment>(), informers.get::<Deployment>()),
        (count_name::<ReplicaSet>(), informers.get::<ReplicaSet>()),
        (count_name::<StatefulSet>(), informers.get::<StatefulSet>()),
        (count_name::<DaemonSet>(), informers.get::<DaemonSet>()),
        (count_name::<Job>(), informers.get::<Job>()),
        (count_name::<CronJob>(), informers.get::<CronJob>()),
    ]);
    let controller = Controller {
        client: ctx.client.clone(),
        quotas: informers.get::<ResourceQuota>(),
        pods: informers.get::<Pod>(),
        services: informers.get::<Service>(),
        claims: informers.get::<PersistentVolumeClaim>(),
        counted,
    };
    let c = &controller;
    let mut all = vec![&c.quotas, &c.pods, &c.services, &c.claims];
    all.extend(c.counted.values());
    if !ctx.synced(&all).await {
        return Ok(());
    }
    let queue = ctx.queue("resourcequota_primary");
    ctx.each_change(&c.quotas, {
        let queue = queue.clone();
        move |change| {
            // admission writes the status of a quota for what it admits
            if let Some(quota) = change.new
                && !change.old.is_some_and(|old| spec(&old) == spec(&quota))
            {
                queue.add(quota.key());
            }
        }
    });
    let kinds = [
        (&c.pods, Some(PODS)),
        (&c.services, Some(SERVICES)),
        (&c.claims, Some(CLAIMS)),
    ];
    let counted = c.counted.values().map(|cache| (cache, None));
    for (cache, kind) in kinds.into_iter().chain(counted) {
        let (queue, quotas) = (queue.clone(), c.quotas.clone());
        ctx.each_change(cache, move |change| {
            // what is new was charged when it was admitted: counting before all of it is to be seen would undo that
            let Some(old) = change.old else { return };
            let quotas = quotas.by_index(BY_NAMESPACE, &old.meta.namespace);
            let same = |new: &Object| kind.is_none_or(|kind| counts_as(kind, new) == counts_as(kind, &old));
            if quotas.is_empty() || change.new.is_some_and(|new| same(&new)) {
                return;
            }
            for quota in quotas {
                queue.add(quota.key());
            }
        });
    }
    let workers = ctx.config.concurrent_resource_quota_syncs;
    ctx.work(queue, workers, move |key| {
        let controller = controller.clone();
        async move { controller.sync(&key).await }
    })
    .await;
    Ok(())
}

fn spec(quota: &Object) -> Option<ResourceQuotaSpec> {
    decode::<ResourceQuota>(quota).ok()?.spec
}

fn now() -> Instant {
    let now = Timestamp::now();
    Instant {
        seconds: now.as_second(),
        nanos: 0,
    }
}

/// What decides how quotas count an object: what it uses, and which scopes take it in.
fn counts_as(kind: &str, object: &Object) -> Option<(Usage, [bool; SCOPES_THAT_CHANGE.len()])> {
    let tree: Value = object.decode().ok()?;
    let scopes = SCOPES_THAT_CHANGE.map(|scope| quota::in_scope(&json!({ "scopes": [scope] }), kind, &tree));
    Some((quota::usage(kind, &tree, now()), scopes))
}

/// What the objects use of what the quota limits. `counts` are of kinds that are only counted, by their names in `hard`.
fn used<'a>(
    spec: &ResourceQuotaSpec,
    objects: impl Iterator<Item = (&'static str, &'a Object)>,
    counts: &BTreeMap<String, i64>,
) -> Result<BTreeMap<String, Text>, Error> {
    let scopes = serde_json::to_value(spec).map_err(|source| Error::Encode {
        what: "ResourceQuota",
        source,
    })?;
    let mut total = Usage::new();
    let mut add = |name: String, amount: &Quantity| {
        let entry = total.entry(name).or_insert(Quantity::ZERO);
        *entry = entry.add(amount);
    };
    for (kind, object) in objects {
        let tree: Value = decode(object)?;
        if quota::in_scope(&scopes, kind, &tree) {
            for (name, amount) in quota::usage(kind, &tree, now()) {
                add(name, &amount);
            }
        }
    }
    if quota::in_scope(&scopes, "", &Value::Null) {
        for (name, count) in counts {
            add(name.clone(), &Quantity::new(*count, Format::DecimalSi));
        }
    }
    let hard = spec.hard.iter().flatten();
    let amounts = hard.map(|(name, _)| {
        let amount = total.get(name).copied().unwrap_or(Quantity::ZERO);
        (name.clone(), Text(amount.to_string()))
    });
    Ok(amounts.collect())
}

/// Whether two lists of amounts are the same, however they are written.
fn same(a: &ResourceQuotaStatus, b: &ResourceQuotaStatus) -> bool {
    let amounts = |s: &ResourceQuotaStatus| {
        let plain = |m: &Option<BTreeMap<String, Text>>| {
            let all = m.iter().flatten();
            all.map(|(k, v)| (k.clone(), v.0.parse::<Quantity>().ok()))
                .collect::<Vec<_>>()
        };
        (plain(&s.hard), plain(&s.used))
    };
    amounts(a) == amounts(b)
}

impl Controller {
    async fn sync(&self, key: &str) -> Result<Option<Duration>, Error> {
        let Some(object) = self.quotas.get(key).filter(|q| !q.meta.deleting) else {
            return Ok(None);
        };
        let (namespace, _) = split_key(key);
        let quota: ResourceQuota = decode(&object)?;
        let spec = quota.spec.clone().unwrap_or_default();
        let mut counts = BTreeMap::new();
        for name in spec.hard.iter().flatten().map(|(k, _)| k) {
            let full = match name.as_str() {
                "configmaps" | "secrets" | "replicationcontrollers" | "resourcequotas" => format!("count/{name}"),
                counted if counted.starts_with("count/") => counted.to_owned(),
                _ => continue,
            };
            if matches!(
                full.as_str(),
                "count/pods" | "count/services" | "count/persistentvolumeclaims"
            ) {
                continue;
            }
            let count = match self.counted.get(&full) {
                Some(cache) => cache.by_index(BY_NAMESPACE, namespace).len(),
                None => self.count_live(&full, namespace).await?,
            };
            counts.insert(name.clone(), i64::try_from(count).unwrap_or(i64::MAX));
        }
        let of = |kind: &'static str, cache: &Cache| {
            cache
                .by_index(BY_NAMESPACE, namespace)
                .into_iter()
                .map(move |o| (kind, o))
        };
        let all = of(PODS, &self.pods)
            .chain(of(SERVICES, &self.services))
            .chain(of(CLAIMS, &self.claims));
        let all: Vec<_> = all.collect();
        let status = ResourceQuotaStatus {
            hard: spec.hard.clone(),
            used: Some(used(
                &spec,
                all.iter().map(|(kind, object)| (*kind, &**object)),
                &counts,
            )?),
        };
        if !quota.status.as_ref().is_some_and(|old| same(old, &status)) {
            crate::status::put(&self.client, &object, &status).await?;
        }
        Ok(Some(RESYNC))
    }

    /// Counts a kind by asking for its list; a kind that is not served has no objects.
    async fn count_live(&self, name: &str, namespace: &str) -> Result<usize, Error> {
        #[derive(Deserialize)]
        struct List {
            #[serde(default)]
            items: Option<Vec<Value>>,
        }
        let resource = name.trim_start_matches("count/");
        let (plural, group) = resource.split_once('.').unwrap_or((resource, ""));
        let path = if group.is_empty() {
            group_path("", "v1")
        } else {
            let group: Result<Value, _> = self
                .client
                .json(Method::GET, &format!("/apis/{group}"), &[], None::<&()>)
                .await;
            match group {
                Err(error) if error.is_not_found() => return Ok(0),
                other => {
                    let group = other?;
                    let version = group["preferredVersion"]["groupVersion"].as_str().unwrap_or_default();
                    format!("/apis/{version}")
                }
            }
        };
        let path = format!("{path}/namespaces/{namespace}/{plural}");
        match self.client.json::<List>(Method::GET, &path, &[], None::<&()>).await {
            Ok(list) => Ok(list.items.map_or(0, |i| i.len())),
            Err(error) if error.is_not_found() => Ok(0),
            Err(error) => Err(error.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(tree: &Value) -> std::sync::Arc<Object> {
        Object::parse(tree.to_string().into()).unwrap()
    }

    #[test]
    fn objects_in_scope_add_up() {
        let pod = |more: &Value| {
            let mut tree = json!({ "metadata": { "name": "p", "namespace": "n" }, "spec": {
                "containers": [{ "name": "c", "resources": { "requests": { "cpu": "250m" } } }] } });
            tree["spec"]["activeDeadlineSeconds"] = more.clone();
            object(&tree)
        };
        let (ends, runs) = (pod(&json!(5)), pod(&Value::Null));
        let service = object(&json!({ "metadata": { "name": "s", "namespace": "n" }, "spec": {} }));
        let all = || [(PODS, &*ends), (PODS, &*runs), (SERVICES, &*service)].into_iter();
        let counts = BTreeMap::from([("count/configmaps".to_owned(), 4)]);
        let amounts = |spec: Value| {
            let spec: ResourceQuotaSpec = serde_json::from_value(spec).unwrap();
            let used = used(&spec, all(), &counts).unwrap();
            used.into_iter()
                .map(|(name, q)| format!("{name}={}", q.0))
                .collect::<Vec<_>>()
        };
        let hard = json!({ "count/configmaps": "9", "cpu": "9", "pods": "9", "services": "9", "unknown": "9" });
        assert_eq!(
            amounts(json!({ "hard": hard })),
            ["count/configmaps=4", "cpu=500m", "pods=2", "services=1", "unknown=0"]
        );
        assert_eq!(
            amounts(json!({ "hard": hard, "scopes": ["Terminating"] })),
            ["count/configmaps=0", "cpu=250m", "pods=1", "services=0", "unknown=0"]
        );
        assert_ne!(counts_as(PODS, &ends), counts_as(PODS, &runs));
    }
}
