//! A volume stays as long as it is bound.

use k8s_openapi::api::core::v1::PersistentVolume;

use super::{Need, need, queue_if_needed, set};
use crate::Error;
use crate::context::Context;
use crate::error::decode;

const FINALIZER: &str = "kubernetes.io/pv-protection";

pub(crate) async fn run(ctx: Context) -> Result<(), Error> {
    let volumes = ctx.informers.get::<PersistentVolume>();
    if !ctx.synced(&[&volumes]).await {
        return Ok(());
    }
    let queue = ctx.queue("pvprotection");
    ctx.each_change(&volumes, {
        let queue = queue.clone();
        move |change| queue_if_needed(&queue, change.new.as_deref(), FINALIZER)
    });
    let client = ctx.client.clone();
    ctx.work(queue, 1, move |name| {
        let (client, volumes) = (client.clone(), volumes.clone());
        async move {
            let Some(object) = volumes.get(&name) else {
                return Ok(None);
            };
            match need(&object, FINALIZER) {
                Need::Nothing => Ok(None),
                Need::Add => set(&client, &object, FINALIZER, true).await,
                Need::Judge if is_bound(&decode(&object)?) => Ok(None),
                Need::Judge => set(&client, &object, FINALIZER, false).await,
            }
        }
    })
    .await;
    Ok(())
}

fn is_bound(volume: &PersistentVolume) -> bool {
    volume.status.as_ref().and_then(|s| s.phase.as_deref()) == Some("Bound")
}
