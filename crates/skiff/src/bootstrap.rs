//! What a fresh cluster holds: the system namespaces, the default roles, the system's priority classes and the
//! `kubernetes` Service with its endpoint.

use std::net::IpAddr;
use std::sync::Arc;

use apiserver::http::status::ApiError;
use apiserver::pipeline::{Change, Origin, Pipeline, Write, WriteOptions};
use serde_json::{Value, json};

/// Creates an object unless it is there; of one that is there, these fields get the values they have in `tree`, and what a reader adds
/// is added: the label of a namespace's name, which clusters of older versions lack.
async fn ensure_with(
    pipeline: &Arc<Pipeline>,
    group: &str,
    plural: &str,
    namespace: &str,
    tree: Value,
    fields: &[&str],
) -> Result<(), ApiError> {
    let catalog = pipeline.registry.catalog();
    let served = catalog
        .stored(group, plural)
        .ok_or_else(|| ApiError::internal(format!("{plural} is not served")))?;
    let name = tree
        .pointer("/metadata/name")
        .and_then(Value::as_str)
        .unwrap_or_default();
    let options = WriteOptions::own("");
    let write = Write {
        pipeline,
        served,
        namespace,
        options: &options,
    };
    let resource = &served.resource;
    let complete = |old: &Value| {
        let mut wanted = old.clone();
        for field in fields {
            wanted[*field] = tree[*field].clone();
        }
        resource.set_defaults(&mut wanted);
        wanted
    };
    if let Some(there) = served.cache.get(namespace, name) {
        let there = there.tree()?;
        if complete(&there) == there {
            return Ok(());
        }
        return write
            .update(name, |old| Ok(Change::to(complete(old))))
            .await
            .map(|_| ());
    }
    let mut new = tree.clone();
    resource.set_defaults(&mut new);
    match write.create(new, Origin::Post).await {
        Err(error) if error.reason == "AlreadyExists" => Ok(()),
        other => other.map(|_| ()),
    }
}

async fn ensure(
    pipeline: &Arc<Pipeline>,
    group: &str,
    plural: &str,
    namespace: &str,
    tree: Value,
) -> Result<(), ApiError> {
    ensure_with(pipeline, group, plural, namespace, tree, &[]).await
}

/// Makes what is missing.
pub async fn bootstrap(
    pipeline: &Arc<Pipeline>,
    service_ip: IpAddr,
    advertise: IpAddr,
    port: u16,
    authentication: &Value,
) -> Result<(), ApiError> {
    let namespace = |name: &str| json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": name } });
    let names = ["kube-system", "kube-public", "kube-node-lease", "default"];
    futures::future::try_join_all(names.map(|n| ensure(pipeline, "", "namespaces", "", namespace(n)))).await?;
    let classes = [
        (
            "system-node-critical",
            2_000_001_000,
            "Used for system critical pods that must not be moved from their current node.",
        ),
        (
            "system-cluster-critical",
            2_000_000_000,
            "Used for system critical pods that must run in the cluster, but can be moved to another node if necessary.",
        ),
    ];
    let classes = classes.map(|(name, value, description)| {
        let class = json!({
            "apiVersion": "scheduling.k8s.io/v1", "kind": "PriorityClass",
            "metadata": { "name": name }, "value": value, "description": description,
        });
        ensure(pipeline, "scheduling.k8s.io", "priorityclasses", "", class)
    });
    // all of it together, so that it shares syncs
    let (policy, services, classes, flows, maps, service) = tokio::join!(
        apiserver::bootstrap_policy::reconcile(pipeline),
        apiserver::api_services::start(pipeline),
        futures::future::try_join_all(classes),
        apiserver::flow_control::keep::ensure(pipeline),
        config_maps(pipeline, authentication),
        own_service(pipeline, service_ip, advertise, port),
    );
    classes?;
    policy.and(services).and(flows).and(maps).and(service)
}

/// By these, servers behind this one find out whom to trust, and cleaners since when token use is written down.
async fn config_maps(pipeline: &Arc<Pipeline>, authentication: &Value) -> Result<(), ApiError> {
    let today = pipeline.registry.timestamp().chars().take(10).collect::<String>();
    let map = |name: &str, data: Value| {
        json!({
            "apiVersion": "v1", "kind": "ConfigMap",
            "metadata": { "name": name, "namespace": "kube-system" }, "data": data,
        })
    };
    let tracking = map(
        "kube-apiserver-legacy-service-account-token-tracking",
        json!({ "since": today }),
    );
    // authorities may be others than at the last start
    let authentication = map("extension-apiserver-authentication", authentication.clone());
    let (tracking, authentication) = tokio::join!(
        ensure(pipeline, "", "configmaps", "kube-system", tracking),
        ensure_with(pipeline, "", "configmaps", "kube-system", authentication, &["data"]),
    );
    tracking.and(authentication)
}

/// The Service by which pods reach this server.
async fn own_service(
    pipeline: &Arc<Pipeline>,
    service_ip: IpAddr,
    advertise: IpAddr,
    port: u16,
) -> Result<(), ApiError> {
    let labels = json!({ "component": "apiserver", "provider": "kubernetes" });
    let service = json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": { "name": "kubernetes", "namespace": "default", "labels": labels },
        "spec": {
            "type": "ClusterIP", "clusterIP": service_ip.to_string(), "ipFamilyPolicy": "SingleStack",
            "ports": [{ "name": "https", "port": 443, "targetPort": port, "protocol": "TCP" }],
        },
    });
    let service = ensure(pipeline, "", "services", "default", service);
    if advertise.is_loopback() {
        // no endpoint may have such an address; a machine without a network serves itself
        tracing::warn!(%advertise, "the Service kubernetes has no endpoint: give --advertise-address for clients in pods");
        return service.await;
    }
    // where the server is may be another place than at its last start
    let endpoints = json!({
        "apiVersion": "v1", "kind": "Endpoints",
        "metadata": {
            "name": "kubernetes", "namespace": "default",
            "labels": { "endpointslice.kubernetes.io/skip-mirror": "true" },
        },
        "subsets": [{
            "addresses": [{ "ip": advertise.to_string() }],
            "ports": [{ "name": "https", "port": port, "protocol": "TCP" }],
        }],
    });
    let endpoints = ensure_with(pipeline, "", "endpoints", "default", endpoints, &["subsets"]);
    let slice = json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
        "metadata": { "name": "kubernetes", "namespace": "default", "labels": { "kubernetes.io/service-name": "kubernetes" } },
        "addressType": if advertise.is_ipv4() { "IPv4" } else { "IPv6" },
        "endpoints": [{ "addresses": [advertise.to_string()], "conditions": { "ready": true } }],
        "ports": [{ "name": "https", "port": port, "protocol": "TCP" }],
    });
    let fields = ["endpoints", "ports"];
    let slice = ensure_with(
        pipeline,
        "discovery.k8s.io",
        "endpointslices",
        "default",
        slice,
        &fields,
    );
    let (service, endpoints, slice) = tokio::join!(service, endpoints, slice);
    service.and(endpoints).and(slice)
}
