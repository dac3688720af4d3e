//! A VolumeAttributesClass stays as long as a claim or a volume names it.

use api::object::Object;
use client::Cache;
use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim};
use k8s_openapi::api::storage::v1::VolumeAttributesClass;

use super::{Need, need, queue_if_needed, set};
use crate::Error;
use crate::context::Context;
use crate::error::decode;

const FINALIZER: &str = "kubernetes.io/vac-protection";

pub(crate) async fn run(ctx: Context) -> Result<(), Error> {
    let classes = ctx.informers.get::<VolumeAttributesClass>();
    let claims = ctx.informers.get::<PersistentVolumeClaim>();
    let volumes = ctx.informers.get::<PersistentVolume>();
    if !ctx.synced(&[&classes, &claims, &volumes]).await {
        return Ok(());
    }
    let queue = ctx.queue("vacprotection");
    ctx.each_change(&classes, {
        let queue = queue.clone();
        move |change| queue_if_needed(&queue, change.new.as_deref(), FINALIZER)
    });
    for (cache, names) in [(&claims, names_of_claim as Names), (&volumes, names_of_volume as Names)] {
        let (queue, classes) = (queue.clone(), classes.clone());
        ctx.each_change(cache, move |change| {
            let still = change.new.as_deref().map(names).unwrap_or_default();
            let before = change.old.as_deref().map(names).unwrap_or_default();
            for name in before.iter().filter(|n| !still.contains(n)) {
                queue_if_needed(&queue, classes.get(name).as_deref(), FINALIZER);
            }
        });
    }
    let client = ctx.client.clone();
    ctx.work(queue, 1, move |name: String| {
        let (client, classes) = (client.clone(), classes.clone());
        let (claims, volumes) = (claims.clone(), volumes.clone());
        async move {
            let Some(object) = classes.get(&name) else {
                return Ok(None);
            };
            match need(&object, FINALIZER) {
                Need::Nothing => Ok(None),
                Need::Add => set(&client, &object, FINALIZER, true).await,
                Need::Judge
                    if is_named(&name, &claims, names_of_claim) || is_named(&name, &volumes, names_of_volume) =>
                {
                    Ok(None)
                }
                Need::Judge => set(&client, &object, FINALIZER, false).await,
            }
        }
    })
    .await;
    Ok(())
}

type Names = fn(&Object) -> Vec<String>;

fn is_named(name: &str, cache: &Cache, names: Names) -> bool {
    cache.list().iter().any(|o| names(o).iter().any(|n| n == name))
}

/// The classes a claim asks for, has, and is on its way to.
fn names_of_claim(object: &Object) -> Vec<String> {
    let Ok(claim) = decode::<PersistentVolumeClaim>(object) else {
        return Vec::new();
    };
    let asked = claim.spec.and_then(|s| s.volume_attributes_class_name);
    let status = claim.status.unwrap_or_default();
    let target = status
        .modify_volume_status
        .and_then(|m| m.target_volume_attributes_class_name);
    [asked, status.current_volume_attributes_class_name, target]
        .into_iter()
        .flatten()
        .collect()
}

fn names_of_volume(object: &Object) -> Vec<String> {
    let volume = decode::<PersistentVolume>(object).ok();
    let name = volume.and_then(|v| v.spec).and_then(|s| s.volume_attributes_class_name);
    name.into_iter().collect()
}
