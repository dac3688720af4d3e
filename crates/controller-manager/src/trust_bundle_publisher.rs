//! The ClusterTrustBundle of the signer `kubernetes.io/kube-apiserver-serving`: whom clients of the API server trust.

use std::time::Duration;

use client::{Cache, Client, DeleteParams, Informer};
use k8s_openapi::api::certificates::v1::{ClusterTrustBundle, ClusterTrustBundleSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use sha2::{Digest, Sha256};

use crate::Error;
use crate::context::Context;
use crate::error::decode;

const SIGNER: &str = "kubernetes.io/kube-apiserver-serving";

/// The signer's name and a part of the content's hash: new content is a new object.
fn bundle_name(content: &str) -> String {
    let hash = Sha256::digest(content);
    let hash: String = hash.iter().take(12).map(|byte| format!("{byte:02x}")).collect();
    format!("{}:{hash}", SIGNER.replace('/', ":"))
}

pub(crate) async fn run(ctx: Context) -> Result<(), Error> {
    if ctx.config.root_ca.is_empty() {
        return Ok(());
    }
    let of_signer = Client::collection::<ClusterTrustBundle>("").fields(format!("spec.signerName={SIGNER}"));
    let bundles = Informer::start(&ctx.client, of_signer, vec![]);
    if !ctx.synced(&[&bundles]).await {
        return Ok(());
    }
    let queue = ctx.queue("ca_cert_publisher_cluster_trust_bundles");
    queue.add(());
    ctx.each_change(&bundles, {
        let queue = queue.clone();
        move |_| queue.add(())
    });
    let shared = ctx.clone();
    ctx.work(queue, 1, move |()| {
        let (ctx, bundles) = (shared.clone(), bundles.clone());
        async move { publish(&ctx, &bundles).await }
    })
    .await;
    Ok(())
}

async fn publish(ctx: &Context, bundles: &Cache) -> Result<Option<Duration>, Error> {
    let content = &ctx.config.root_ca;
    let name = bundle_name(content);
    match bundles.get(&name) {
        None => {
            let bundle = ClusterTrustBundle {
                metadata: ObjectMeta {
                    name: Some(name.clone()),
                    ..ObjectMeta::default()
                },
                spec: ClusterTrustBundleSpec {
                    signer_name: Some(SIGNER.to_owned()),
                    trust_bundle: content.clone(),
                },
            };
            ctx.client.create(&bundle).await?;
        }
        Some(there) => {
            let mut there: ClusterTrustBundle = decode(&there)?;
            if there.spec.trust_bundle != *content {
                there.spec.trust_bundle.clone_from(content);
                ctx.client.update(&there).await?;
            }
        }
    }
    // those of certificates before
    let old = bundles.list().into_iter().filter(|bundle| *bundle.meta.name != *name);
    let mut outcome = Ok(None);
    for bundle in old {
        let params = DeleteParams::default();
        match ctx
            .client
            .delete::<ClusterTrustBundle>("", &bundle.meta.name, &params)
            .await
        {
            Err(error) if !error.is_not_found() => outcome = Err(error.into()),
            _ => {}
        }
    }
    outcome
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bundle_is_named_by_its_signer_and_content() {
        // what upstream's controller names the bundle of these bytes: the hash is that of `sha256sum`
        let name = bundle_name("abc");
        assert_eq!(name, "kubernetes.io:kube-apiserver-serving:ba7816bf8f01cfea414140de");
    }
}
