//! Pods leave nodes whose `NoExecute` taints they do not tolerate, or no longer do.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use client::{Cache, DeleteParams, EventRecorder, Patch};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Node, ObjectReference, Pod, Taint};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde_json::json;
use tokio::time::Instant;

use crate::Error;
use crate::context::{Context, split_key};
use crate::error::decode;
use crate::informers::BY_NODE;
use crate::meta::{name, namespace, reference, uid};
use crate::pods::node_name;
use crate::taints::{Stay, stay};

#[derive(Clone)]
struct Controller {
    ctx: Context,
    nodes: Cache,
    pods: Cache,
    recorder: EventRecorder,
    /// By key: pods that are to leave, with their uids.
    leaving: Arc<Mutex<HashMap<String, (String, Leaving)>>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Leaving {
    /// It tolerates its node's taints for a while, which began then: a taint that a user sets does not say when it came.
    Since(Instant),
    /// It was deleted.
    Told,
}

/// What becomes of a pod.
#[derive(Debug, PartialEq, Eq)]
enum Next {
    Stay,
    Wait {
        since: Instant,
        left: Duration,
    },
    Leave,
    /// It is on its way.
    Nothing,
}

fn next(stay: &Stay, known: Option<Leaving>, now: Instant) -> Next {
    match (stay, known) {
        (Stay::ForEver, _) => Next::Stay,
        (_, Some(Leaving::Told)) => Next::Nothing,
        (Stay::Not, _) => Next::Leave,
        (Stay::Seconds(seconds), known) => {
            let since = match known {
                Some(Leaving::Since(since)) => since,
                _ => now,
            };
            let whole = Duration::from_secs(u64::try_from(*seconds).unwrap_or(0));
            let left = whole.saturating_sub(now.duration_since(since));
            if left.is_zero() {
                Next::Leave
            } else {
                Next::Wait { since, left }
            }
        }
    }
}

fn no_execute(node: &Node) -> impl Iterator<Item = &Taint> {
    let taints = node.spec.as_ref().and_then(|s| s.taints.as_deref()).unwrap_or_default();
    taints.iter().filter(|t| t.effect == "NoExecute")
}

/// How long the pod may stay.
fn stays(node: &Node, pod: &Pod) -> Stay {
    let spec = pod.spec.as_ref();
    stay(
        no_execute(node),
        spec.and_then(|s| s.tolerations.as_deref()).unwrap_or_default(),
    )
}

pub(crate) async fn run(ctx: Context) -> Result<(), Error> {
    let controller = Controller {
        nodes: ctx.informers.get::<Node>(),
        pods: ctx.informers.get::<Pod>(),
        recorder: ctx.recorder("taint-eviction-controller"),
        leaving: Arc::default(),
        ctx: ctx.clone(),
    };
    if !ctx.synced(&[&controller.nodes, &controller.pods]).await {
        return Ok(());
    }
    let queue = ctx.queue("noexec_taint_pod");
    ctx.each_change(&controller.nodes, {
        let (queue, pods) = (queue.clone(), controller.pods.clone());
        move |change| {
            let taints = |o: Option<&Arc<api::object::Object>>| {
                let node = o.and_then(|o| o.decode::<Node>().ok());
                node.map_or_else(Vec::new, |n| no_execute(&n).cloned().collect::<Vec<_>>())
            };
            let Some(node) = &change.new else { return };
            if taints(change.old.as_ref()) != taints(Some(node)) {
                for pod in pods.by_index(BY_NODE, &node.meta.name) {
                    queue.add(pod.key());
                }
            }
        }
    });
    ctx.each_change(&controller.pods, {
        let queue = queue.clone();
        move |change| {
            let bound = |o: &api::object::Object| !crate::informers::node_of(o).is_empty();
            // Only a new binding or new tolerations change the answer; tolerations come with a new generation.
            let news = match (&change.old, &change.new) {
                (Some(old), Some(new)) => bound(new) && (!bound(old) || old.meta.generation != new.meta.generation),
                (None, Some(new)) => bound(new),
                (Some(old), None) => bound(old),
                (None, None) => false,
            };
            if let Some(pod) = change.object().filter(|_| news) {
                queue.add(pod.key());
            }
        }
    });
    ctx.work(queue, 8, move |key| {
        let controller = controller.clone();
        async move { controller.sync(&key).await }
    })
    .await;
    Ok(())
}

impl Controller {
    fn leaving(&self) -> std::sync::MutexGuard<'_, HashMap<String, (String, Leaving)>> {
        self.leaving.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The pod is not to leave any more after a while, be it that it is gone.
    fn keep(&self, key: &str, pod: Option<&Pod>) {
        let before = self.leaving().remove(key);
        if let Some((_, Leaving::Since(_))) = before {
            let (namespace, name) = split_key(key);
            let gone = ObjectReference {
                api_version: Some("v1".to_owned()),
                kind: Some("Pod".to_owned()),
                namespace: Some(namespace.to_owned()),
                name: Some(name.to_owned()),
                ..ObjectReference::default()
            };
            let message = format!("Cancelling deletion of Pod {key}");
            self.recorder
                .normal(&pod.map_or(gone, reference), "TaintManagerEviction", message);
        }
    }

    async fn sync(&self, key: &str) -> Result<Option<Duration>, Error> {
        let Some(object) = self.pods.get(key) else {
            self.keep(key, None);
            return Ok(None);
        };
        let pod: Pod = decode(&object)?;
        let Some(node) = self.nodes.get(node_name(&pod)) else {
            return Ok(None);
        };
        let known = self.leaving().get(key).cloned();
        if known.as_ref().is_some_and(|(of, _)| of != uid(&pod)) {
            // an earlier pod of this name
            self.keep(key, None);
        }
        let known = known.filter(|(of, _)| of == uid(&pod)).map(|(_, leaving)| leaving);
        let remember = |leaving| self.leaving().insert(key.to_owned(), (uid(&pod).to_owned(), leaving));
        match next(&stays(&decode(&node)?, &pod), known, Instant::now()) {
            Next::Stay => {
                self.keep(key, Some(&pod));
                return Ok(None);
            }
            Next::Nothing => return Ok(None),
            Next::Wait { since, left } => {
                remember(Leaving::Since(since));
                return Ok(Some(left));
            }
            Next::Leave => remember(Leaving::Told),
        };
        let message = format!("Marking for deletion Pod {key}");
        self.recorder.normal(&reference(&pod), "TaintManagerEviction", message);
        let patch = json!({"metadata": {"uid": uid(&pod)}, "status": {"conditions": [{
            "type": "DisruptionTarget", "status": "True", "reason": "DeletionByTaintManager",
            "message": "Taint manager: deleting due to NoExecute taint", "lastTransitionTime": Time(Timestamp::now())}]}});
        let client = &self.ctx.client;
        let marked = client
            .patch_status::<Pod>(namespace(&pod), name(&pod), &Patch::Strategic(patch))
            .await;
        let gone = match marked {
            Ok(_) => {
                client
                    .delete::<Pod>(namespace(&pod), name(&pod), &DeleteParams::uid(uid(&pod)))
                    .await
            }
            Err(error) => Err(error),
        };
        match gone {
            Err(error) if !error.is_not_found() => {
                // to be told and tried again
                self.leaving().remove(key);
                Err(error.into())
            }
            _ => Ok(None),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pod_leaves_when_the_time_it_tolerates_is_over_whoever_set_the_taint() {
        let now = Instant::now() + Duration::from_secs(100);
        let (stay, before) = (Stay::Seconds(30), now - Duration::from_secs(20));
        let wait = |since, left| Next::Wait {
            since,
            left: Duration::from_secs(left),
        };
        assert_eq!(next(&stay, None, now), wait(now, 30));
        assert_eq!(next(&stay, Some(Leaving::Since(before)), now), wait(before, 10));
        let long_ago = now - Duration::from_secs(30);
        assert_eq!(next(&stay, Some(Leaving::Since(long_ago)), now), Next::Leave);
        assert_eq!(next(&stay, Some(Leaving::Told), now), Next::Nothing);
        assert_eq!(next(&Stay::ForEver, Some(Leaving::Since(before)), now), Next::Stay);
        assert_eq!(next(&Stay::Not, Some(Leaving::Since(before)), now), Next::Leave);
    }
}
