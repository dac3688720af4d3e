//! The ConfigMap `kube-root-ca.crt` in every namespace: whom pods trust when they talk to the API server.

use std::collections::BTreeMap;
use std::time::Duration;

use client::Cache;
use k8s_openapi::api::core::v1::{ConfigMap, Namespace};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use crate::Error;
use crate::context::Context;
use crate::error::decode;

const NAME: &str = "kube-root-ca.crt";
const KEY: &str = "ca.crt";
const DESCRIPTION: &str = "kubernetes.io/description";
const DESCRIBED: &str = "Contains a CA bundle that can be used to verify the kube-apiserver when using internal \
    endpoints such as the internal service IP or kubernetes.default.svc. No other usage is guaranteed across \
    distributions of Kubernetes clusters.";

pub(crate) async fn run(ctx: Context) -> Result<(), Error> {
    if ctx.config.root_ca.is_empty() {
        return Ok(());
    }
    let (namespaces, maps) = (ctx.informers.get::<Namespace>(), ctx.informers.get::<ConfigMap>());
    if !ctx.synced(&[&namespaces, &maps]).await {
        return Ok(());
    }
    let queue = ctx.queue("root_ca_cert_publisher");
    ctx.each_change(&namespaces, {
        let queue = queue.clone();
        move |change| {
            if let Some(namespace) = change.new {
                queue.add(namespace.key());
            }
        }
    });
    ctx.each_change(&maps, {
        let queue = queue.clone();
        move |change| {
            if let Some(map) = change.object().filter(|m| &*m.meta.name == NAME) {
                queue.add(map.meta.namespace.to_string());
            }
        }
    });
    let shared = ctx.clone();
    ctx.work(queue, 1, move |namespace| {
        let (ctx, namespaces, maps) = (shared.clone(), namespaces.clone(), maps.clone());
        async move { publish(&ctx, &namespaces, &maps, &namespace).await }
    })
    .await;
    Ok(())
}

async fn publish(ctx: &Context, namespaces: &Cache, maps: &Cache, namespace: &str) -> Result<Option<Duration>, Error> {
    if namespaces.get(namespace).is_none_or(|n| n.meta.deleting) {
        return Ok(None);
    }
    let data = BTreeMap::from([(KEY.to_owned(), ctx.config.root_ca.clone())]);
    let annotations = BTreeMap::from([(DESCRIPTION.to_owned(), DESCRIBED.to_owned())]);
    let written = match maps.get(&format!("{namespace}/{NAME}")) {
        None => {
            let map = ConfigMap {
                metadata: ObjectMeta {
                    name: Some(NAME.to_owned()),
                    namespace: Some(namespace.to_owned()),
                    annotations: Some(annotations),
                    ..ObjectMeta::default()
                },
                data: Some(data),
                ..ConfigMap::default()
            };
            ctx.client.create(&map).await
        }
        Some(there) => {
            let mut there: ConfigMap = decode(&there)?;
            if there.data.as_ref() == Some(&data) && crate::meta::annotation(&there, DESCRIPTION) == Some(DESCRIBED) {
                return Ok(None);
            }
            there.data = Some(data);
            there.metadata.annotations.get_or_insert_default().extend(annotations);
            ctx.client.update(&there).await
        }
    };
    match written {
        Ok(_) => Ok(None),
        Err(error) if error.is_already_exists() || error.is_namespace_terminating() => Ok(None),
        Err(error) => Err(error.into()),
    }
}
