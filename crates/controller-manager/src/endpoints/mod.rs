//! Endpoints and EndpointSlices: which pods serve a Service.

mod address;
pub(crate) mod mirroring;
mod selectors;
mod slices;
mod subsets;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::time::Duration;

use client::{Cache, DeleteParams, EventRecorder};
use k8s_openapi::api::core::v1::{Endpoints, Node, Pod, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;

use crate::Error;
use crate::context::{Context, split_key};
use crate::error::decode;
use crate::expectations::Expectations;
use crate::informers::BY_NAMESPACE;
use crate::meta::{is_deleting, key_of, name, namespace, reference, uid};
use selectors::ServiceSelectors;

const ZONE: &str = "topology.kubernetes.io/zone";

/// Which of the two kinds an instance writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Flavor {
    Slices,
    Endpoints,
}

#[derive(Clone)]
struct Controller {
    ctx: Context,
    services: Cache,
    pods: Cache,
    nodes: Cache,
    written: Cache,
    recorder: EventRecorder,
    expectations: Expectations,
}

pub(crate) async fn run(ctx: Context, flavor: Flavor) -> Result<(), Error> {
    let controller = Controller {
        services: ctx.informers.get::<Service>(),
        pods: ctx.informers.get::<Pod>(),
        nodes: ctx.informers.get::<Node>(),
        written: match flavor {
            Flavor::Slices => ctx.informers.get::<EndpointSlice>(),
            Flavor::Endpoints => ctx.informers.get::<Endpoints>(),
        },
        recorder: ctx.recorder(match flavor {
            Flavor::Slices => "endpoint-slice-controller",
            Flavor::Endpoints => "endpoint-controller",
        }),
        expectations: Expectations::default(),
        ctx: ctx.clone(),
    };
    let c = &controller;
    if !ctx.synced(&[&c.services, &c.pods, &c.nodes, &c.written]).await {
        return Ok(());
    }
    let queue = ctx.queue(match flavor {
        Flavor::Slices => "endpoint_slice",
        Flavor::Endpoints => "endpoint",
    });
    let selectors = ServiceSelectors::default();
    ctx.each_change(&c.services, {
        let (queue, selectors) = (queue.clone(), selectors.clone());
        move |change| {
            selectors.observe(&change);
            if let Some(object) = change.object() {
                queue.add(object.key());
            }
        }
    });
    ctx.each_change(&c.pods, {
        let queue = queue.clone();
        move |change| {
            for key in selectors.of(&change) {
                queue.add(key);
            }
        }
    });
    ctx.each_change(&c.written, {
        let (queue, expectations) = (queue.clone(), controller.expectations.clone());
        move |change| {
            expectations.observe(&change);
            let Some(object) = change.object() else { return };
            let service = match flavor {
                // what users write into them stays until the pods change
                Flavor::Endpoints => Some(&*object.meta.name).filter(|_| change.new.is_none()),
                Flavor::Slices => object.meta.label(slices::SERVICE_NAME),
            };
            if let Some(service) = service {
                queue.add(format!("{}/{service}", object.meta.namespace));
            }
        }
    });
    if flavor == Flavor::Endpoints {
        // those whose Service was deleted while nobody looked
        for left in c.written.list().iter().filter(|e| c.services.get(&e.key()).is_none()) {
            queue.add(left.key());
        }
    }
    let workers = match flavor {
        Flavor::Slices => ctx.config.concurrent_service_endpoint_syncs,
        Flavor::Endpoints => ctx.config.concurrent_endpoint_syncs,
    };
    ctx.work(queue, workers, move |key| {
        let controller = controller.clone();
        async move {
            match flavor {
                Flavor::Slices => controller.sync_slices(&key).await,
                Flavor::Endpoints => controller.sync_endpoints(&key).await,
            }
        }
    })
    .await;
    Ok(())
}

/// The selector of a Service whose endpoints a controller makes.
fn selector(service: &Service) -> Option<&BTreeMap<String, String>> {
    let spec = service.spec.as_ref()?;
    if spec.type_.as_deref() == Some("ExternalName") {
        return None;
    }
    spec.selector.as_ref().filter(|s| !s.is_empty())
}

impl Controller {
    fn selected_pods(&self, service: &Service) -> Result<Vec<Pod>, Error> {
        let Some(selector) = selector(service) else {
            return Ok(Vec::new());
        };
        let pods = self.pods.by_index(BY_NAMESPACE, namespace(service));
        pods.iter()
            .filter(|p| selector.iter().all(|(k, v)| p.meta.label(k) == Some(v)))
            .map(|p| decode(p))
            .collect()
    }

    fn nodes_of(&self, pods: &[Pod]) -> slices::Nodes {
        let names = pods.iter().map(|p| crate::pods::node_name(p).to_owned());
        names
            .filter_map(|name| {
                let node = self.nodes.get(&name)?;
                Some((name, node.meta.label(ZONE).map(str::to_owned)))
            })
            .collect()
    }

    async fn sync_slices(&self, key: &str) -> Result<Option<Duration>, Error> {
        let (in_namespace, service_name) = split_key(key);
        let Some(object) = self.services.get(key) else {
            self.ctx.counted.slices.gone(key);
            return Ok(None);
        };
        let service: Service = decode(&object)?;
        // Slices are the Service's dependents: the garbage collector deletes them with it.
        if selector(&service).is_none() || is_deleting(&service) {
            return Ok(None);
        }
        let me = uid(&service);
        if !self.expectations.satisfied(me) {
            return Ok(None);
        }
        let existing = self.written.by_index(BY_NAMESPACE, in_namespace);
        let existing = existing
            .iter()
            .filter(|s| slices::is_ours(s, service_name) && !s.meta.deleting);
        let existing = existing.map(|s| decode(s)).collect::<Result<Vec<EndpointSlice>, _>>()?;
        let pods = self.selected_pods(&service)?;
        let nodes = self.nodes_of(&pods);
        let stranded = pods.iter().find(|pod| slices::is_stranded(&service, pod, &nodes));
        let stranded = stranded.map(|pod| {
            let (pod, node) = (name(pod), crate::pods::node_name(pod));
            Error::State(format!("skipping Pod {pod} for Service {key}: Node {node} Not Found"))
        });
        let before = existing.clone();
        let plan = slices::plan(&service, &pods, &nodes, existing);
        let (added, removed, mut held) = slices::count(&before, &plan);
        held.traffic = service.spec.as_ref().and_then(|spec| spec.traffic_distribution.clone());
        self.ctx.counted.slices.synced(key, added, removed, held);
        let outcome = self.perform(me, plan).await;
        match outcome {
            Err(Error::Client(error)) if error.is_namespace_terminating() => Ok(None),
            Err(Error::Client(error)) if !error.is_conflict() => {
                let message = format!("Error updating Endpoint Slices for Service {key}: {error}");
                self.recorder
                    .warning(&reference(&service), "FailedToUpdateEndpointSlices", message);
                Err(error.into())
            }
            Err(error) => Err(error),
            // a node that is not there yet is looked for again
            Ok(()) => stranded.map_or(Ok(None), Err),
        }
    }

    async fn perform(&self, service: &str, plan: slices::Plan) -> Result<(), Error> {
        let client = &self.ctx.client;
        for slice in plan.create {
            self.expectations.expect_creations(service, 1);
            if let Err(error) = client.create(&slice).await {
                self.expectations.creation_observed(service);
                return Err(error.into());
            }
        }
        for slice in plan.update {
            client.update(&slice).await?;
        }
        for slice in plan.delete {
            self.expectations.expect_deletions(service, [key_of(&slice)]);
            let params = DeleteParams::uid(uid(&slice));
            if let Err(error) = client
                .delete::<EndpointSlice>(namespace(&slice), name(&slice), &params)
                .await
            {
                self.expectations.deletion_observed(service, &key_of(&slice));
                if !error.is_not_found() {
                    return Err(error.into());
                }
            }
        }
        Ok(())
    }

    async fn sync_endpoints(&self, key: &str) -> Result<Option<Duration>, Error> {
        let (in_namespace, service_name) = split_key(key);
        let client = &self.ctx.client;
        let Some(object) = self.services.get(key) else {
            if self
                .written
                .get(key)
                .is_none_or(|endpoints| is_leader_record(&endpoints))
            {
                return Ok(None);
            }
            let deleted = client
                .delete::<Endpoints>(in_namespace, service_name, &DeleteParams::default())
                .await;
            return match deleted {
                Err(error) if !error.is_not_found() => Err(error.into()),
                _ => Ok(None),
            };
        };
        let service: Service = decode(&object)?;
        if selector(&service).is_none() {
            return Ok(None);
        }
        let existing: Option<Endpoints> = self.written.get(key).map(|e| decode(&e)).transpose()?;
        let pods = self.selected_pods(&service)?;
        let Some(endpoints) = subsets::plan(&service, &pods, existing.as_ref()) else {
            return Ok(None);
        };
        let (verb, written) = match existing {
            Some(_) => ("Update", client.update(&endpoints).await),
            None => ("Create", client.create(&endpoints).await),
        };
        match written {
            Ok(_) => Ok(None),
            Err(error) if error.is_namespace_terminating() || error.is_conflict() => Ok(None),
            // the cache does not show it yet
            Err(error) if error.is_already_exists() => Ok(Some(Duration::from_millis(50))),
            Err(error) => {
                let message = format!("Failed to {} endpoints {key}: {error}", verb.to_lowercase());
                let reason = format!("FailedTo{verb}Endpoint");
                self.recorder.warning(&reference(&endpoints), &reason, message);
                Err(error.into())
            }
        }
    }
}

/// Endpoints once carried leader election records; those belong to nobody's Service.
fn is_leader_record(endpoints: &api::object::Object) -> bool {
    let endpoints = endpoints.decode::<Endpoints>();
    endpoints.is_ok_and(|e| crate::meta::annotation(&e, "control-plane.alpha.kubernetes.io/leader").is_some())
}
