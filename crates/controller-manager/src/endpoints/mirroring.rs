//! Endpoints that people write by hand for Services without a selector, mirrored into EndpointSlices.

use std::time::Duration;

use client::{Cache, Client, DeleteParams};
use k8s_openapi::api::core::v1::{EndpointAddress, Endpoints, Service};
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointConditions, EndpointPort, EndpointSlice};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::slices::{MANAGED_BY, SERVICE_NAME};
use crate::Error;
use crate::context::Context;
use crate::error::decode;
use crate::expectations::Expectations;
use crate::informers::BY_CONTROLLER;
use crate::meta::{annotation, controller_reference, is_deleting, key_of, label, name, namespace, uid};

const MIRROR: &str = "endpointslicemirroring-controller.k8s.io";
const SKIP: &str = "endpointslice.kubernetes.io/skip-mirror";
const LEADER: &str = "control-plane.alpha.kubernetes.io/leader";
const MOST_ADDRESSES: usize = 1000;

#[derive(Clone)]
struct Controller {
    client: Client,
    services: Cache,
    endpoints: Cache,
    slices: Cache,
    expectations: Expectations,
}

fn endpoint(address: &EndpointAddress, ready: bool) -> Endpoint {
    Endpoint {
        addresses: vec![address.ip.clone()],
        conditions: Some(EndpointConditions {
            ready: Some(ready),
            ..EndpointConditions::default()
        }),
        hostname: address.hostname.clone(),
        node_name: address.node_name.clone(),
        target_ref: address.target_ref.clone(),
        ..Endpoint::default()
    }
}

/// One slice for each subset and family.
fn mirrored(endpoints: &Endpoints) -> Vec<EndpointSlice> {
    let mut labels = endpoints.metadata.labels.clone().unwrap_or_default();
    labels.insert(SERVICE_NAME.to_owned(), name(endpoints).to_owned());
    labels.insert(MANAGED_BY.to_owned(), MIRROR.to_owned());
    let mut annotations = endpoints.metadata.annotations.clone().unwrap_or_default();
    annotations.remove("kubectl.kubernetes.io/last-applied-configuration");
    annotations.remove("endpoints.kubernetes.io/last-change-trigger-time");
    let mut slices = Vec::new();
    for subset in endpoints.subsets.iter().flatten() {
        let ready = subset.addresses.iter().flatten().map(|a| (a, true));
        let not_ready = subset.not_ready_addresses.iter().flatten().map(|a| (a, false));
        let all: Vec<(&EndpointAddress, bool)> = ready.chain(not_ready).take(MOST_ADDRESSES).collect();
        let ports: Vec<EndpointPort> = subset
            .ports
            .iter()
            .flatten()
            .map(|p| EndpointPort {
                name: Some(p.name.clone().unwrap_or_default()),
                port: Some(p.port),
                protocol: Some(p.protocol.clone().unwrap_or_else(|| "TCP".to_owned())),
                app_protocol: p.app_protocol.clone(),
            })
            .collect();
        for (family, v6) in [("IPv4", false), ("IPv6", true)] {
            let of_family = all.iter().filter(|(a, _)| a.ip.contains(':') == v6);
            let endpoints_of: Vec<Endpoint> = of_family.map(|(a, ready)| endpoint(a, *ready)).collect();
            if endpoints_of.is_empty() {
                continue;
            }
            slices.push(EndpointSlice {
                metadata: ObjectMeta {
                    generate_name: Some(format!("{}-", name(endpoints))),
                    namespace: endpoints.metadata.namespace.clone(),
                    labels: Some(labels.clone()),
                    annotations: (!annotations.is_empty()).then(|| annotations.clone()),
                    owner_references: Some(vec![controller_reference(endpoints)]),
                    ..ObjectMeta::default()
                },
                address_type: family.to_owned(),
                ports: Some(ports.clone()),
                endpoints: Some(endpoints_of),
            });
        }
    }
    slices
}

/// Slices to create, to update and to delete.
type Plan = (Vec<EndpointSlice>, Vec<EndpointSlice>, Vec<EndpointSlice>);

/// Keeps existing slices of the same family and ports.
fn plan(wanted: Vec<EndpointSlice>, mut existing: Vec<EndpointSlice>) -> Plan {
    let (mut create, mut update) = (Vec::new(), Vec::new());
    for slice in wanted {
        let alike = |old: &EndpointSlice| old.address_type == slice.address_type && old.ports == slice.ports;
        let Some(at) = existing.iter().position(alike) else {
            create.push(slice);
            continue;
        };
        let mut old = existing.swap_remove(at);
        let same = old.endpoints == slice.endpoints
            && old.metadata.labels == slice.metadata.labels
            && old.metadata.annotations == slice.metadata.annotations;
        if !same {
            old.endpoints = slice.endpoints;
            old.metadata.labels = slice.metadata.labels;
            old.metadata.annotations = slice.metadata.annotations;
            update.push(old);
        }
    }
    (create, update, existing)
}

pub(crate) async fn run(ctx: Context) -> Result<(), Error> {
    let controller = Controller {
        client: ctx.client.clone(),
        services: ctx.informers.get::<Service>(),
        endpoints: ctx.informers.get::<Endpoints>(),
        slices: ctx.informers.get::<EndpointSlice>(),
        expectations: Expectations::default(),
    };
    let c = &controller;
    if !ctx.synced(&[&c.services, &c.endpoints, &c.slices]).await {
        return Ok(());
    }
    let queue = ctx.queue("endpoint_slice_mirroring");
    for cache in [&c.services, &c.endpoints] {
        let queue = queue.clone();
        ctx.each_change(cache, move |change| {
            if let Some(object) = change.object() {
                queue.add(object.key());
            }
        });
    }
    ctx.each_change(&c.slices, {
        let (queue, expectations) = (queue.clone(), c.expectations.clone());
        move |change| {
            let ours = change
                .object()
                .filter(|s| s.meta.label(MANAGED_BY) == Some(MIRROR))
                .cloned();
            let Some(slice) = ours else { return };
            expectations.observe(&change);
            if let Some(service) = slice.meta.label(SERVICE_NAME) {
                queue.add(format!("{}/{service}", slice.meta.namespace));
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

impl Controller {
    async fn sync(&self, key: &str) -> Result<Option<Duration>, Error> {
        // Slices are the Endpoints' dependents: the garbage collector deletes them with it.
        let Some(object) = self.endpoints.get(key) else {
            return Ok(None);
        };
        let endpoints: Endpoints = decode(&object)?;
        let me = uid(&endpoints);
        if is_deleting(&endpoints) || !self.expectations.satisfied(me) {
            return Ok(None);
        }
        let by_hand = match self.services.get(key) {
            None => false,
            Some(service) => {
                let service: Service = decode(&service)?;
                service.spec.is_some_and(|s| s.selector.is_none_or(|s| s.is_empty()))
            }
        };
        let skipped = label(&endpoints, SKIP) == Some("true") || annotation(&endpoints, LEADER).is_some();
        let existing = self.slices.by_index(BY_CONTROLLER, me);
        let existing = existing
            .iter()
            .map(|s| decode(s))
            .collect::<Result<Vec<EndpointSlice>, _>>()?;
        let existing = existing
            .into_iter()
            .filter(|s| label(s, MANAGED_BY) == Some(MIRROR))
            .collect();
        let wanted = if by_hand && !skipped {
            mirrored(&endpoints)
        } else {
            Vec::new()
        };
        let (create, update, delete) = plan(wanted, existing);
        for slice in create {
            self.expectations.expect_creations(me, 1);
            if let Err(error) = self.client.create(&slice).await {
                self.expectations.creation_observed(me);
                if error.is_namespace_terminating() {
                    return Ok(None);
                }
                return Err(error.into());
            }
        }
        for slice in update {
            self.client.update(&slice).await?;
        }
        for slice in delete {
            self.expectations.expect_deletions(me, [key_of(&slice)]);
            let params = DeleteParams::uid(uid(&slice));
            if let Err(error) = self
                .client
                .delete::<EndpointSlice>(namespace(&slice), name(&slice), &params)
                .await
            {
                self.expectations.deletion_observed(me, &key_of(&slice));
                if !error.is_not_found() {
                    return Err(error.into());
                }
            }
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn subsets_become_slices_by_family() {
        let endpoints: Endpoints = serde_json::from_value(json!({"apiVersion": "v1", "kind": "Endpoints",
            "metadata": {"name": "e", "namespace": "n", "uid": "u", "labels": {"a": "b"}},
            "subsets": [{"addresses": [{"ip": "10.0.0.1"}, {"ip": "fd00::1"}], "notReadyAddresses": [{"ip": "10.0.0.2"}],
                "ports": [{"name": "p", "port": 80, "protocol": "TCP"}]}]}))
        .unwrap();
        let slices = mirrored(&endpoints);
        let found: Vec<(&str, usize)> = slices
            .iter()
            .map(|s| (s.address_type.as_str(), s.endpoints.as_ref().unwrap().len()))
            .collect();
        assert_eq!(found, [("IPv4", 2), ("IPv6", 1)]);
        let (create, update, delete) = plan(slices.clone(), slices.clone());
        assert_eq!((create.len(), update.len(), delete.len()), (0, 0, 0));
        let (create, update, delete) = plan(vec![], slices);
        assert_eq!((create.len(), update.len(), delete.len()), (0, 0, 2));
    }
}
