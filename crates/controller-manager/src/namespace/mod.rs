//! Deletes everything in a namespace that is being deleted, pods first, and lets the namespace go then.

mod conditions;

use std::time::Duration;

use bytes::Bytes;
use client::{Cache, Client, ListParams};
use http::Method;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Namespace, Pod};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::Error;
use crate::context::Context;
use crate::discovery::{ServedResource, Verb, discover};
use crate::error::decode;
use crate::informers::BY_NAMESPACE;
use conditions::Findings;

const FINALIZER: &str = "kubernetes";
/// How long the owners of finalizers are given before the next look.
const FINALIZER_SECONDS: i64 = 15;

#[derive(Clone)]
struct Controller {
    client: Client,
    namespaces: Cache,
    pods: Cache,
}

pub(crate) async fn run(ctx: Context) -> Result<(), Error> {
    let controller = Controller {
        client: ctx.client.clone(),
        namespaces: ctx.informers.get::<Namespace>(),
        pods: ctx.informers.get::<Pod>(),
    };
    if !ctx.synced(&[&controller.namespaces, &controller.pods]).await {
        return Ok(());
    }
    let queue = ctx.queue("namespace");
    ctx.each_change(&controller.namespaces, {
        let queue = queue.clone();
        move |change| {
            if let Some(namespace) = change.new.filter(|n| n.meta.deleting) {
                queue.add(namespace.key());
            }
        }
    });
    ctx.each_change(&controller.pods, {
        let (queue, namespaces, pods) = (queue.clone(), controller.namespaces.clone(), controller.pods.clone());
        move |change| {
            // The last pod is gone: the rest may follow.
            let (Some(gone), None) = (&change.old, &change.new) else {
                return;
            };
            let namespace = &gone.meta.namespace;
            if namespaces.get(namespace).is_some_and(|n| n.meta.deleting)
                && pods.by_index(BY_NAMESPACE, namespace).is_empty()
            {
                queue.add(namespace.to_string());
            }
        }
    });
    let workers = ctx.config.concurrent_namespace_syncs;
    ctx.work(queue, workers, move |key| {
        let controller = controller.clone();
        async move { controller.sync(&key).await }
    })
    .await;
    Ok(())
}

#[derive(Deserialize)]
struct Remaining {
    #[serde(default)]
    items: Option<Vec<RemainingItem>>,
}

#[derive(Deserialize)]
struct RemainingItem {
    #[serde(default)]
    metadata: RemainingMeta,
}

#[derive(Deserialize, Default)]
struct RemainingMeta {
    #[serde(default)]
    finalizers: Option<Vec<String>>,
}

impl Controller {
    async fn sync(&self, name: &str) -> Result<Option<Duration>, Error> {
        let Some(object) = self.namespaces.get(name) else {
            return Ok(None);
        };
        let namespace: Namespace = decode(&object)?;
        let finalizers = namespace
            .spec
            .as_ref()
            .and_then(|s| s.finalizers.clone())
            .unwrap_or_default();
        if !object.meta.deleting || !finalizers.iter().any(|f| f == FINALIZER) {
            return Ok(None);
        }
        let mut findings = Findings::default();
        let deleted_at = namespace.metadata.deletion_timestamp.as_ref().map(|t| t.0);
        let wait = self.delete_content(name, deleted_at, &mut findings).await?;
        let old = namespace
            .status
            .clone()
            .unwrap_or_default()
            .conditions
            .unwrap_or_default();
        if let Some(conditions) = conditions::update(&old, &findings, Timestamp::now()) {
            let mut status = namespace.status.clone().unwrap_or_default();
            status.phase = Some("Terminating".to_owned());
            status.conditions = Some(conditions);
            crate::status::put(&self.client, &object, &status).await?;
        }
        if !findings.errors.is_empty() || !findings.discovery.is_empty() {
            let errors = findings.discovery.iter().map(|(gv, e)| format!("{gv}: {e}"));
            let errors: Vec<String> = errors.chain(findings.errors.iter().cloned()).collect();
            return Err(Error::State(format!("namespace {name}: {}", errors.join(", "))));
        }
        if !findings.remaining.is_empty() {
            return Ok(Some(Duration::from_secs(u64::try_from(wait / 2 + 1).unwrap_or(1))));
        }
        self.finalize(name).await?;
        Ok(None)
    }

    /// Deletes all it can. Gives the seconds that what is left may take.
    async fn delete_content(
        &self,
        namespace: &str,
        deleted_at: Option<Timestamp>,
        findings: &mut Findings,
    ) -> Result<i64, Error> {
        let discovered = discover(&self.client).await?;
        findings.discovery = discovered.failed;
        let mut resources: Vec<ServedResource> = discovered
            .resources
            .into_iter()
            .filter(|r| r.namespaced && r.can(Verb::Delete))
            .collect();
        let is_pods = |r: &ServedResource| r.group.is_empty() && r.plural == "pods";
        resources.sort_by_key(|r| !is_pods(r));
        let mut longest = 0;
        for resource in &resources {
            let grace = if is_pods(resource) {
                self.grace(namespace, deleted_at).await?
            } else {
                0
            };
            match self.delete_collection(resource, namespace, grace, findings).await {
                Ok(wait) => longest = longest.max(wait),
                Err(Error::Client(error)) if matches!(error.code(), Some(404 | 405)) => {}
                Err(error) => findings.errors.push(error.to_string()),
            }
            if is_pods(resource) && !findings.remaining.is_empty() {
                findings.only_pods = true;
                break;
            }
        }
        Ok(longest)
    }

    async fn delete_collection(
        &self,
        resource: &ServedResource,
        namespace: &str,
        grace: i64,
        findings: &mut Findings,
    ) -> Result<i64, Error> {
        let path = resource.collection(namespace);
        let remaining: Remaining = self.client.json(Method::GET, &path, &[], None::<&()>).await?;
        if remaining.items.is_none_or(|i| i.is_empty()) {
            return Ok(0);
        }
        let options = json!({"apiVersion": "v1", "kind": "DeleteOptions", "propagationPolicy": "Background"});
        if resource.can(Verb::DeleteCollection) {
            let body = Bytes::from(options.to_string());
            self.client
                .raw(Method::DELETE, &path, &[], "application/json", body)
                .await?;
        } else {
            self.delete_each(resource, namespace).await?;
        }
        let remaining: Remaining = self.client.json(Method::GET, &path, &[], None::<&()>).await?;
        let items = remaining.items.unwrap_or_default();
        if items.is_empty() {
            return Ok(0);
        }
        *findings
            .remaining
            .entry(format!("{}.{}", resource.plural, resource.group))
            .or_default() += items.len();
        let held = items.iter().flat_map(|i| i.metadata.finalizers.iter().flatten());
        let mut any_held = false;
        for finalizer in held {
            any_held = true;
            *findings.finalizers.entry(finalizer.clone()).or_default() += 1;
        }
        match (grace, any_held) {
            (0, true) => Ok(FINALIZER_SECONDS),
            (0, false) => Err(Error::State(format!(
                "unexpected items still remain in namespace: {namespace} for gvr: {}/{}, Resource={}",
                resource.group, resource.version, resource.plural
            ))),
            (grace, _) => Ok(grace),
        }
    }

    async fn delete_each(&self, resource: &ServedResource, namespace: &str) -> Result<(), Error> {
        let list: Value = self
            .client
            .json(Method::GET, &resource.collection(namespace), &[], None::<&()>)
            .await?;
        for item in list["items"].as_array().into_iter().flatten() {
            let Some(name) = item["metadata"]["name"].as_str() else {
                continue;
            };
            let params = client::DeleteParams::propagation("Background");
            match self
                .client
                .delete_path(&resource.object(namespace, name), &params)
                .await
            {
                Err(error) if !error.is_not_found() => return Err(error.into()),
                _ => {}
            }
        }
        Ok(())
    }

    /// Seconds the namespace's pods may still take to end in good order.
    async fn grace(&self, namespace: &str, deleted_at: Option<Timestamp>) -> Result<i64, Error> {
        let pods = self.client.list::<Pod>(namespace, &ListParams::default()).await?;
        let running = pods.items.iter().filter(|p| !crate::pods::is_terminal(p));
        let grace = running
            .filter_map(|p| p.spec.as_ref()?.termination_grace_period_seconds)
            .max()
            .unwrap_or(0);
        let passed = deleted_at.map_or(0, |at| Timestamp::now().as_second() - at.as_second());
        Ok(if passed >= grace { 0 } else { grace })
    }

    async fn finalize(&self, name: &str) -> Result<(), Error> {
        let path = format!("/api/v1/namespaces/{name}");
        let live: Result<Value, _> = self.client.json(Method::GET, &path, &[], None::<&()>).await;
        let mut live = match live {
            Err(error) if error.is_not_found() => return Ok(()),
            other => other?,
        };
        if let Some(finalizers) = live["spec"]["finalizers"].as_array_mut() {
            finalizers.retain(|f| f.as_str() != Some(FINALIZER));
        }
        let sent: Result<Value, _> = self
            .client
            .json(Method::PUT, &format!("{path}/finalize"), &[], Some(&live))
            .await;
        match sent {
            Err(error) if !error.is_not_found() => Err(error.into()),
            _ => Ok(()),
        }
    }
}
