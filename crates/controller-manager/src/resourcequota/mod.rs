//! ResourceQuotas: `status.used` is brought to what the namespace's objects really use.

mod usage;

use std::collections::BTreeMap;
use std::time::Duration;

use api::object::Object;
use api::quantity::Quantity;
use client::{Cache, Client, WorkQueue};
use http::Method;
use k8s_openapi::Resource;
use k8s_openapi::api::apps::v1::{DaemonSet, Deployment, ReplicaSet, StatefulSet};
use k8s_openapi::api::batch::v1::{CronJob, Job};
use k8s_openapi::api::core::v1::{
    ConfigMap, PersistentVolumeClaim, Pod, ReplicationController, ResourceQuota, ResourceQuotaSpec,
    ResourceQuotaStatus, Secret, Service,
};
use serde::Deserialize;
use serde_json::Value;

use crate::Error;
use crate::context::{Context, split_key};
use crate::discovery::group_path;
use crate::error::decode;
use crate::informers::BY_NAMESPACE;
use usage::Usage;

/// Quotas are counted again after this time: the count may have begun before what was admitted last was to be seen.
const RESYNC: Duration = Duration::from_secs(300);

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
    let queue = WorkQueue::default();
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
    let kinds: [(&Cache, UsageOf); 3] = [
        (&c.pods, of_pod),
        (&c.services, |o| decode(o).ok().as_ref().map(usage::of_service)),
        (&c.claims, |o| decode(o).ok().as_ref().map(usage::of_claim)),
    ];
    let counted = c.counted.values().map(|cache| (cache, (|_| None) as UsageOf));
    for (cache, usage) in kinds.into_iter().chain(counted) {
        let (queue, quotas) = (queue.clone(), c.quotas.clone());
        ctx.each_change(cache, move |change| {
            // what is new was charged when it was admitted: counting before all of it is to be seen would undo that
            let Some(old) = change.old else { return };
            let quotas = quotas.by_index(BY_NAMESPACE, &old.meta.namespace);
            if quotas.is_empty() || change.new.is_some_and(|new| usage(&new) == usage(&old)) {
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

/// What an object uses of what quotas limit, beside being there.
type UsageOf = fn(&Object) -> Option<Usage>;

fn spec(quota: &Object) -> Option<ResourceQuotaSpec> {
    decode::<ResourceQuota>(quota).ok()?.spec
}

/// What decides how a quota counts a pod.
fn of_pod(pod: &Object) -> Option<Usage> {
    let pod: Pod = decode(pod).ok()?;
    let mut usage = usage::of_pod(&pod);
    // whether scopes take it in
    if pod.spec.is_some_and(|s| s.active_deadline_seconds.is_some()) {
        usage.insert("Terminating".to_owned(), Quantity::ZERO);
    }
    Some(usage)
}

fn typed<K: serde::de::DeserializeOwned>(cache: &Cache, namespace: &str) -> Result<Vec<K>, Error> {
    let objects = cache.by_index(BY_NAMESPACE, namespace);
    objects.iter().map(|o| decode(o)).collect()
}

/// Whether two lists of amounts are the same, however they are written.
fn same(a: &ResourceQuotaStatus, b: &ResourceQuotaStatus) -> bool {
    let amounts = |s: &ResourceQuotaStatus| {
        let plain = |m: &Option<BTreeMap<String, k8s_openapi::apimachinery::pkg::api::resource::Quantity>>| {
            let all = m.iter().flatten();
            all.map(|(k, v)| (k.clone(), v.0.parse::<api::quantity::Quantity>().ok()))
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
        let pods: Vec<Pod> = typed(&self.pods, namespace)?;
        let services: Vec<Service> = typed(&self.services, namespace)?;
        let claims: Vec<PersistentVolumeClaim> = typed(&self.claims, namespace)?;
        let status = ResourceQuotaStatus {
            hard: spec.hard.clone(),
            used: Some(usage::used(&spec, &pods, &services, &claims, &counts)),
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
