//! The `default` ServiceAccount of every namespace.

use std::time::Duration;

use client::Cache;
use k8s_openapi::api::core::v1::{Namespace, ServiceAccount};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use crate::Error;
use crate::context::Context;

const DEFAULT: &str = "default";

pub(crate) async fn run(ctx: Context) -> Result<(), Error> {
    let (namespaces, accounts) = (ctx.informers.get::<Namespace>(), ctx.informers.get::<ServiceAccount>());
    if !ctx.synced(&[&namespaces, &accounts]).await {
        return Ok(());
    }
    let queue = ctx.queue("serviceaccount");
    ctx.each_change(&namespaces, {
        let queue = queue.clone();
        move |change| {
            if let Some(namespace) = change.new {
                queue.add(namespace.key());
            }
        }
    });
    ctx.each_change(&accounts, {
        let queue = queue.clone();
        move |change| {
            if let (Some(gone), None) = (change.old, change.new)
                && &*gone.meta.name == DEFAULT
            {
                queue.add(gone.meta.namespace.to_string());
            }
        }
    });
    let workers = ctx.config.concurrent_serviceaccount_syncs;
    let client = ctx.client.clone();
    ctx.work(queue, workers, move |namespace| {
        let (client, namespaces, accounts) = (client.clone(), namespaces.clone(), accounts.clone());
        async move { ensure(&client, &namespaces, &accounts, &namespace).await }
    })
    .await;
    Ok(())
}

async fn ensure(
    client: &client::Client,
    namespaces: &Cache,
    accounts: &Cache,
    namespace: &str,
) -> Result<Option<Duration>, Error> {
    let alive = namespaces.get(namespace).is_some_and(|n| !n.meta.deleting);
    if !alive || accounts.get(&format!("{namespace}/{DEFAULT}")).is_some() {
        return Ok(None);
    }
    let account = ServiceAccount {
        metadata: ObjectMeta {
            name: Some(DEFAULT.to_owned()),
            namespace: Some(namespace.to_owned()),
            ..ObjectMeta::default()
        },
        ..ServiceAccount::default()
    };
    match client.create(&account).await {
        Ok(_) => Ok(None),
        Err(error) if error.is_already_exists() || error.is_namespace_terminating() => Ok(None),
        Err(error) => Err(error.into()),
    }
}
