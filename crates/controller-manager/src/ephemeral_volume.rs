//! The claims of pods' `ephemeral` volumes: made from their templates, owned by their pods. Upstream: `volume/ephemeral`.

use std::time::Duration;

use client::{Cache, Client, EventRecorder};
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod, Volume};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use crate::Error;
use crate::context::Context;
use crate::error::decode;
use crate::informers::BY_NAMESPACE;
use crate::meta::{controller_of, controller_reference, is_deleting, namespace, reference, uid};
use crate::pods::{claims_of, ephemeral_claim, has_ephemeral, volumes};

/// As many as upstream has.
const WORKERS: usize = 5;

pub(crate) async fn run(ctx: Context) -> Result<(), Error> {
    let (pods, claims) = (ctx.informers.get::<Pod>(), ctx.informers.get::<PersistentVolumeClaim>());
    if !ctx.synced(&[&pods, &claims]).await {
        return Ok(());
    }
    let queue = ctx.queue("ephemeral_volume");
    ctx.each_change(&pods, {
        let queue = queue.clone();
        move |change| {
            // A pod's volumes do not change; the garbage collector takes the claims of one that goes.
            if let (None, Some(pod)) = (change.old, change.new)
                && has_ephemeral(&pod)
            {
                queue.add(pod.key());
            }
        }
    });
    ctx.each_change(&claims, {
        let (queue, pods) = (queue.clone(), pods.clone());
        move |change| {
            let (Some(gone), None) = (change.old, change.new) else {
                return;
            };
            for pod in pods.by_index(BY_NAMESPACE, &gone.meta.namespace) {
                if claims_of(&pod).contains(&gone.key()) {
                    queue.add(pod.key());
                }
            }
        }
    });
    let (client, recorder) = (ctx.client.clone(), ctx.recorder("ephemeral_volume"));
    ctx.work(queue, WORKERS, move |key| {
        let (client, recorder) = (client.clone(), recorder.clone());
        let (pods, claims) = (pods.clone(), claims.clone());
        async move { sync(&client, &recorder, &pods, &claims, &key).await }
    })
    .await;
    Ok(())
}

async fn sync(
    client: &Client,
    recorder: &EventRecorder,
    pods: &Cache,
    claims: &Cache,
    key: &str,
) -> Result<Option<Duration>, Error> {
    let Some(object) = pods.get(key) else { return Ok(None) };
    let pod: Pod = decode(&object)?;
    if is_deleting(&pod) {
        return Ok(None);
    }
    for volume in volumes(&pod) {
        let known = ephemeral_claim(&pod, volume).and_then(|name| claims.get(&format!("{}/{name}", namespace(&pod))));
        let known = known.map(|claim| decode(&claim)).transpose()?;
        let done = match step(&pod, volume, known.as_ref()) {
            Step::Nothing => Ok(()),
            Step::Foreign(why) => Err(why),
            Step::Create(claim) => match client.create(&*claim).await {
                Ok(_) => Ok(()),
                Err(error) => {
                    let name = claim.metadata.name.unwrap_or_default();
                    Err(format!("create PVC {name}: {error}"))
                }
            },
        };
        if let Err(why) = done {
            let text = format!("ephemeral volume {}: {why}", volume.name);
            recorder.warning(&reference(&pod), "FailedBinding", text.clone());
            return Err(Error::State(format!("pod {key}, {text}")));
        }
    }
    Ok(None)
}

#[derive(Debug, PartialEq)]
enum Step {
    Nothing,
    Create(Box<PersistentVolumeClaim>),
    /// The claim's name is somebody else's.
    Foreign(String),
}

fn step(pod: &Pod, volume: &Volume, known: Option<&PersistentVolumeClaim>) -> Step {
    let (Some(name), Some(source)) = (ephemeral_claim(pod, volume), &volume.ephemeral) else {
        return Step::Nothing;
    };
    if let Some(claim) = known {
        return match controller_of(claim).is_some_and(|owner| owner.uid == uid(pod)) {
            true => Step::Nothing,
            false => Step::Foreign(format!(
                "PVC {}/{name} was not created for pod {}/{} (pod is not owner)",
                namespace(pod),
                namespace(pod),
                crate::meta::name(pod)
            )),
        };
    }
    let template = source.volume_claim_template.clone().unwrap_or_default();
    let meta = template.metadata.unwrap_or_default();
    Step::Create(Box::new(PersistentVolumeClaim {
        metadata: ObjectMeta {
            name: Some(name),
            namespace: Some(namespace(pod).to_owned()),
            labels: meta.labels,
            annotations: meta.annotations,
            owner_references: Some(vec![controller_reference(pod)]),
            ..ObjectMeta::default()
        },
        spec: Some(template.spec),
        status: None,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_claim_is_made_for_its_pod_and_anothers_is_left_alone() {
        let pod: Pod = serde_json::from_value(json!({ "metadata": { "name": "p", "namespace": "n", "uid": "u" },
            "spec": { "containers": [], "volumes": [
                { "name": "plain", "emptyDir": {} },
                { "name": "scratch", "ephemeral": { "volumeClaimTemplate": {
                    "metadata": { "labels": { "a": "b" } }, "spec": { "storageClassName": "fast" } } } }] } }))
        .unwrap();
        let [plain, scratch] = [0, 1].map(|at| &pod.spec.as_ref().unwrap().volumes.as_ref().unwrap()[at]);
        assert_eq!(step(&pod, plain, None), Step::Nothing);
        let Step::Create(claim) = step(&pod, scratch, None) else {
            panic!("no claim is made")
        };
        let owner = json!([{ "apiVersion": "v1", "kind": "Pod", "name": "p", "uid": "u", "controller": true, "blockOwnerDeletion": true }]);
        let want = json!({ "apiVersion": "v1", "kind": "PersistentVolumeClaim", "spec": { "storageClassName": "fast" },
            "metadata": { "name": "p-scratch", "namespace": "n", "labels": { "a": "b" }, "ownerReferences": owner } });
        assert_eq!(serde_json::to_value(&claim).unwrap(), want);
        assert_eq!(step(&pod, scratch, Some(&claim)), Step::Nothing);
        let other = PersistentVolumeClaim::default();
        let why = "PVC n/p-scratch was not created for pod n/p (pod is not owner)";
        assert_eq!(step(&pod, scratch, Some(&other)), Step::Foreign(why.to_owned()));
    }
}
