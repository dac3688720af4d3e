//! Services of type LoadBalancer without a cloud: nodes answer for them by their own addresses, and kube-proxy leads what comes there to the
//! endpoints. k3s does the same by pods on host ports (ServiceLB); its labels and its class mean the same here, and no pods are needed.

mod plan;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use api::object::Object;
use client::{Cache, EventRecorder};
use k8s_openapi::api::core::v1::{Node, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use serde_json::json;

use crate::Error;
use crate::context::Context;
use crate::error::decode;
use crate::meta::reference;
use plan::{Balanced, Front, Plan, plan};

/// The Service whose endpoints a slice holds.
const OF_SERVICE: &str = "kubernetes.io/service-name";

/// What is known of the cluster.
#[derive(Default)]
struct Known {
    fronts: BTreeMap<String, Front>,
    services: BTreeMap<String, Balanced>,
    by_port: BTreeMap<(String, i32), BTreeSet<String>>,
    /// Services whose event told which port is taken, by whom.
    told: BTreeMap<String, (String, i32, String)>,
}

impl Known {
    /// Takes note of a Service, and tells which others share a port with it, before or after.
    fn set_service(&mut self, key: &str, now: Option<Balanced>) -> BTreeSet<String> {
        let mut others = BTreeSet::new();
        if self.services.get(key) == now.as_ref() {
            return others;
        }
        if let Some(old) = self.services.remove(key) {
            for port in &old.ports {
                if let Some(same) = self.by_port.get_mut(port) {
                    same.remove(key);
                    others.extend(same.iter().cloned());
                    if same.is_empty() {
                        self.by_port.remove(port);
                    }
                }
            }
        }
        match now {
            Some(now) => {
                for port in &now.ports {
                    let same = self.by_port.entry(port.clone()).or_default();
                    others.extend(same.iter().cloned());
                    same.insert(key.to_owned());
                }
                self.services.insert(key.to_owned(), now);
            }
            None => drop(self.told.remove(key)),
        }
        others
    }

    fn rivals(&self, service: &Balanced) -> Vec<&Balanced> {
        let keys: BTreeSet<&String> = service
            .ports
            .iter()
            .filter_map(|port| self.by_port.get(port))
            .flatten()
            .collect();
        let others = keys.into_iter().filter(|key| **key != service.key);
        others.filter_map(|key| self.services.get(key)).collect()
    }
}

#[derive(Clone)]
struct Controller {
    ctx: Context,
    services: Cache,
    slices: Cache,
    recorder: EventRecorder,
    known: Arc<Mutex<Known>>,
}

pub(crate) async fn run(ctx: Context) -> Result<(), Error> {
    let controller = Controller {
        services: ctx.informers.get::<Service>(),
        slices: ctx.informers.get::<EndpointSlice>(),
        recorder: ctx.recorder("service-controller"),
        known: Arc::default(),
        ctx: ctx.clone(),
    };
    let nodes = ctx.informers.get::<Node>();
    if !ctx.synced(&[&controller.services, &controller.slices, &nodes]).await {
        return Ok(());
    }
    let queue = ctx.queue("service");
    ctx.each_change(&nodes, {
        let (queue, controller) = (queue.clone(), controller.clone());
        move |change| {
            let Some(object) = change.object() else { return };
            let now = match &change.new {
                Some(_) => read::<Node>(object).and_then(|node| Front::of(&node)),
                None => None,
            };
            let mut known = controller.known();
            let name = &*object.meta.name;
            // heartbeats change nothing here
            if known.fronts.get(name) == now.as_ref() {
                return;
            }
            match now {
                Some(now) => drop(known.fronts.insert(name.to_owned(), now)),
                None => drop(known.fronts.remove(name)),
            }
            known.services.keys().for_each(|key| queue.add(key.clone()));
        }
    });
    ctx.each_change(&controller.services, {
        let (queue, controller) = (queue.clone(), controller.clone());
        move |change| {
            let Some(object) = change.object() else { return };
            let now = match &change.new {
                Some(_) => read::<Service>(object).and_then(|service| Balanced::of(&service)),
                None => None,
            };
            let key = object.key();
            let ours = now.is_some();
            let others = controller.known().set_service(&key, now);
            others.into_iter().for_each(|other| queue.add(other));
            if ours {
                queue.add(key);
            }
        }
    });
    ctx.each_change(&controller.slices, {
        let (queue, controller) = (queue.clone(), controller.clone());
        move |change| {
            let Some(slice) = change.object() else { return };
            let Some(name) = slice.meta.label(OF_SERVICE) else {
                return;
            };
            let key = format!("{}/{name}", slice.meta.namespace);
            if controller
                .known()
                .services
                .get(&key)
                .is_some_and(|service| service.local)
            {
                queue.add(key);
            }
        }
    });
    ctx.work(queue, 5, move |key| {
        let controller = controller.clone();
        async move { controller.sync(&key).await }
    })
    .await;
    Ok(())
}

/// An object that cannot be read is said and counts for nothing.
fn read<K: serde::de::DeserializeOwned>(object: &Object) -> Option<K> {
    decode::<K>(object)
        .inspect_err(|error| tracing::error!(%error, "it does not count for load balancers"))
        .ok()
}

impl Controller {
    fn known(&self) -> std::sync::MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn sync(&self, key: &str) -> Result<Option<Duration>, Error> {
        let Some(object) = self.services.get(key) else {
            return Ok(None);
        };
        let Some(balanced) = self.known().services.get(key).cloned() else {
            return Ok(None);
        };
        if balanced.uid != *object.meta.uid {
            // the change that brings the new one comes
            return Ok(None);
        }
        let serving = match balanced.local {
            true => self.serving(key),
            false => BTreeSet::new(),
        };
        let Plan { addresses, taken } = {
            let known = self.known();
            let fronts: Vec<Front> = known.fronts.values().cloned().collect();
            let reserved = &self.ctx.config.reserved_ports;
            plan(&balanced, &fronts, &known.rivals(&balanced), reserved, |node| {
                serving.contains(node)
            })
        };
        let service: Service = decode(&object)?;
        let reference = reference(&service);
        if addresses.is_empty()
            && let Some(taken) = taken
        {
            let (protocol, port, by) = &taken;
            let message = format!(
                "Error syncing load balancer: port {port}/{protocol} is taken by {by} on every node that could answer"
            );
            let news = self.known().told.insert(key.to_owned(), taken.clone()).as_ref() != Some(&taken);
            if news {
                self.recorder.warning(&reference, "SyncLoadBalancerFailed", message);
            }
        } else {
            self.known().told.remove(key);
        }
        let mut has: Vec<IpAddr> = Vec::new();
        let ingress = service
            .status
            .as_ref()
            .and_then(|s| s.load_balancer.as_ref()?.ingress.as_deref());
        for one in ingress.unwrap_or_default() {
            has.extend(one.ip.as_deref().and_then(|ip| ip.parse::<IpAddr>().ok()));
        }
        if has == addresses {
            return Ok(None);
        }
        let mut status = service.status.clone().unwrap_or_default();
        let ingress = addresses
            .iter()
            .map(|ip| json!({"ip": ip.to_string(), "ipMode": "VIP"}));
        let balancer = json!({"ingress": ingress.collect::<Vec<_>>()});
        status.load_balancer = serde_json::from_value(balancer).map_err(|source| Error::Encode {
            what: "load balancer",
            source,
        })?;
        crate::status::put(&self.ctx.client, &object, &status).await?;
        if !addresses.is_empty() {
            let message = "Ensured load balancer";
            self.recorder.normal(&reference, "EnsuredLoadBalancer", message);
        }
        Ok(None)
    }

    /// The nodes with a ready endpoint of a Service.
    fn serving(&self, key: &str) -> BTreeSet<String> {
        let (namespace, name) = crate::context::split_key(key);
        let slices = self.slices.by_index(crate::informers::BY_NAMESPACE, namespace);
        let own = slices.iter().filter(|slice| slice.meta.label(OF_SERVICE) == Some(name));
        let mut nodes = BTreeSet::new();
        for slice in own.filter_map(|slice| read::<EndpointSlice>(slice)) {
            for endpoint in slice.endpoints.into_iter().flatten() {
                let ready = endpoint.conditions.as_ref().and_then(|c| c.ready).unwrap_or(true);
                nodes.extend(endpoint.node_name.filter(|_| ready));
            }
        }
        nodes
    }
}
