//! Pods leave nodes whose `NoExecute` taints they do not tolerate, or no longer do.

use std::time::Duration;

use client::{Cache, DeleteParams, EventRecorder, Patch, WorkQueue};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Node, Pod, Taint};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde_json::json;

use crate::Error;
use crate::context::Context;
use crate::error::decode;
use crate::informers::BY_NODE;
use crate::meta::{is_deleting, name, namespace, reference, uid};
use crate::pods::node_name;
use crate::taints::{Stay, stay};

#[derive(Clone)]
struct Controller {
    ctx: Context,
    nodes: Cache,
    pods: Cache,
    recorder: EventRecorder,
}

fn no_execute(node: &Node) -> impl Iterator<Item = &Taint> {
    let taints = node.spec.as_ref().and_then(|s| s.taints.as_deref()).unwrap_or_default();
    taints.iter().filter(|t| t.effect == "NoExecute")
}

/// Seconds until the pod has to leave; `None` if it may stay.
fn seconds_left(node: &Node, pod: &Pod, now: Timestamp) -> Option<f64> {
    let tolerations = pod
        .spec
        .as_ref()
        .and_then(|s| s.tolerations.as_deref())
        .unwrap_or_default();
    match stay(no_execute(node), tolerations) {
        Stay::ForEver => None,
        Stay::Not => Some(0.0),
        Stay::Seconds(seconds) => {
            let added = no_execute(node)
                .filter_map(|t| t.time_added.as_ref())
                .map(|t| t.0)
                .min();
            let passed = added.map_or(0.0, |at| now.duration_since(at).as_secs_f64());
            Some((seconds as f64 - passed).max(0.0))
        }
    }
}

pub(crate) async fn run(ctx: Context) -> Result<(), Error> {
    let controller = Controller {
        nodes: ctx.informers.get::<Node>(),
        pods: ctx.informers.get::<Pod>(),
        recorder: ctx.recorder("taint-eviction-controller"),
        ctx: ctx.clone(),
    };
    if !ctx.synced(&[&controller.nodes, &controller.pods]).await {
        return Ok(());
    }
    let queue = WorkQueue::default();
    ctx.each_change(&controller.nodes, {
        let (queue, pods) = (queue.clone(), controller.pods.clone());
        move |change| {
            let tainted = |o: &std::sync::Arc<api::object::Object>| {
                o.decode::<Node>().is_ok_and(|n| no_execute(&n).next().is_some())
            };
            let Some(node) = change.new.filter(tainted) else { return };
            for pod in pods.by_index(BY_NODE, &node.meta.name) {
                queue.add(pod.key());
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
                _ => false,
            };
            if let Some(pod) = change.new.filter(|_| news) {
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
    async fn sync(&self, key: &str) -> Result<Option<Duration>, Error> {
        let Some(object) = self.pods.get(key) else {
            return Ok(None);
        };
        let pod: Pod = decode(&object)?;
        let Some(node) = self.nodes.get(node_name(&pod)).filter(|_| !is_deleting(&pod)) else {
            return Ok(None);
        };
        let now = Timestamp::now();
        let Some(left) = seconds_left(&decode(&node)?, &pod, now) else {
            return Ok(None);
        };
        if left > 0.0 {
            return Ok(Some(Duration::from_secs_f64(left)));
        }
        let message = format!("Marking for deletion Pod {key}");
        self.recorder.normal(&reference(&pod), "TaintManagerEviction", message);
        let patch = json!({"metadata": {"uid": uid(&pod)}, "status": {"conditions": [{
            "type": "DisruptionTarget", "status": "True", "reason": "DeletionByTaintManager",
            "message": "Taint manager: deleting due to NoExecute taint", "lastTransitionTime": Time(now)}]}});
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
            Err(error) if !error.is_not_found() => Err(error.into()),
            _ => Ok(None),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn toleration_counts_from_when_the_taint_came() {
        let node: Node = serde_json::from_value(
            json!({"apiVersion": "v1", "kind": "Node", "metadata": {}, "spec": {"taints": [
            {"key": "k", "effect": "NoExecute", "timeAdded": "1970-01-01T00:01:40Z"}]}}),
        )
        .unwrap();
        let pod: Pod = serde_json::from_value(json!({"apiVersion": "v1", "kind": "Pod", "metadata": {},
            "spec": {"containers": [], "tolerations": [{"key": "k", "operator": "Exists", "tolerationSeconds": 30}]}}))
        .unwrap();
        let at = |s| Timestamp::from_second(s).unwrap();
        assert_eq!(seconds_left(&node, &pod, at(110)), Some(20.0));
        assert_eq!(seconds_left(&node, &pod, at(200)), Some(0.0));
    }
}
