//! What the scheduler writes into pods' statuses. The writes of one pod go out in order, so that the last word stands; one that waits for
//! another of its pod is joined with those that come meanwhile.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use client::{Client, Patch};
use jiff::Timestamp;
use k8s_openapi::api::core::v1 as core;
use serde_json::{Value, json};
use tokio::sync::oneshot;

use crate::pod::PodInfo;

/// Writes statuses in the background.
#[derive(Clone)]
pub struct StatusWrites {
    client: Client,
    /// By uid, pods one write of which is on its way.
    lines: Arc<Mutex<HashMap<Box<str>, Line>>>,
}

/// What waits for a write.
#[derive(Default)]
struct Line {
    next: Option<Value>,
    waiting: Vec<oneshot::Sender<()>>,
}

impl StatusWrites {
    /// Writes by this client; nothing waits to be written.
    pub fn new(client: Client) -> StatusWrites {
        StatusWrites {
            client,
            lines: Arc::default(),
        }
    }

    /// Says in the pod's status why it has no node, and where it is to be once others have left. What stands there already is not written.
    pub fn refused(&self, pod: &Arc<PodInfo>, message: &str, nominated: Option<&str>) {
        let stands = pod.object.decode::<Value>().ok().and_then(|tree| {
            let conditions = tree.pointer("/status/conditions")?.as_array()?;
            conditions.iter().find(|c| c["type"] == "PodScheduled").cloned()
        });
        let stands = stands.filter(|c| c["status"] == "False").unwrap_or_default();
        let generation = pod.object.meta.generation;
        let same = stands["message"] == message
            && stands["reason"] == "Unschedulable"
            && stands["observedGeneration"] == generation;
        if same && nominated.is_none() && !self.locked().contains_key(pod.uid()) {
            return;
        }
        let since = match &stands["lastTransitionTime"] {
            Value::Null => Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string().into(),
            since => since.clone(),
        };
        let mut status = json!({ "conditions": [{
            "type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": message,
            "lastProbeTime": null, "lastTransitionTime": since, "observedGeneration": generation,
        }] });
        if let Some(node) = nominated {
            status["nominatedNodeName"] = node.into();
        }
        self.write(pod, status);
    }

    /// Says where a pod will be whose volumes may take long, and returns when that is written.
    pub async fn nominate(&self, pod: &Arc<PodInfo>, node: &str) {
        self.write(pod, json!({ "nominatedNodeName": node }));
        self.written(pod).await;
    }

    /// Returns when nothing of the pod waits to be written.
    pub async fn written(&self, pod: &PodInfo) {
        let waits = self.locked().get_mut(pod.uid()).map(|line| {
            let (done, waits) = oneshot::channel();
            line.waiting.push(done);
            waits
        });
        if let Some(waits) = waits {
            // the sender goes with its line
            let _ = waits.await;
        }
    }

    fn locked(&self) -> std::sync::MutexGuard<'_, HashMap<Box<str>, Line>> {
        self.lines.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn write(&self, pod: &Arc<PodInfo>, status: Value) {
        {
            let mut lines = self.locked();
            if let Some(line) = lines.get_mut(pod.uid()) {
                match line.next.as_mut().and_then(Value::as_object_mut) {
                    Some(next) => next.extend(status.as_object().cloned().unwrap_or_default()),
                    None => line.next = Some(status),
                }
                return;
            }
            lines.insert(pod.uid().into(), Line::default());
        }
        let (writes, pod) = (self.clone(), pod.clone());
        tokio::spawn(async move {
            let mut status = status;
            loop {
                patch(&writes.client, &pod, status).await;
                let mut lines = writes.locked();
                match lines.get_mut(pod.uid()).and_then(|line| line.next.take()) {
                    Some(next) => status = next,
                    None => {
                        lines.remove(pod.uid());
                        return;
                    }
                }
            }
        });
    }
}

/// Writes a part of a pod's status. That the pod is another one by now is no failure.
async fn patch(client: &Client, pod: &PodInfo, status: Value) {
    let patch = Patch::Strategic(json!({ "metadata": { "uid": pod.uid() }, "status": status }));
    match client
        .patch_status::<core::Pod>(pod.namespace(), pod.name(), &patch)
        .await
    {
        Ok(_) => {}
        Err(error) if error.is_not_found() || error.code() == Some(409) => {}
        Err(error) => tracing::warn!(pod = %pod.key, %error, "the pod's status cannot be written"),
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use client::{Body, ListWatch, Transport, WatchEvent, body_of};
    use futures::future::BoxFuture;
    use futures::stream::BoxStream;
    use futures::{FutureExt, StreamExt, stream};

    use super::*;
    use crate::pod::tests::pod;

    /// A server that keeps what it is sent and answers when it is told to.
    struct Slow {
        sent: Mutex<Vec<Value>>,
        answers: Arc<tokio::sync::Semaphore>,
    }

    impl Slow {
        fn new() -> Arc<Slow> {
            Arc::new(Slow {
                sent: Mutex::default(),
                answers: Arc::new(tokio::sync::Semaphore::new(0)),
            })
        }

        fn sent(&self) -> Vec<Value> {
            self.sent.lock().unwrap().clone()
        }
    }

    impl Transport for Slow {
        fn call(
            &self,
            request: http::Request<Bytes>,
        ) -> BoxFuture<'static, Result<http::Response<Body>, client::Error>> {
            let sent: Value = serde_json::from_slice(request.body()).unwrap();
            self.sent.lock().unwrap().push(sent["status"].clone());
            let answers = self.answers.clone();
            async move {
                answers.acquire().await.unwrap().forget();
                Ok(http::Response::new(body_of(request.into_body())))
            }
            .boxed()
        }

        fn list_watch(&self, _: ListWatch) -> BoxStream<'static, WatchEvent> {
            stream::pending().boxed()
        }
    }

    async fn turns() {
        for _ in 0..20 {
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn the_writes_of_a_pod_go_out_one_after_another_and_the_last_stands() {
        let server = Slow::new();
        let writes = StatusWrites::new(Client::new(server.clone(), "test"));
        let pod = pod(json!({ "metadata": { "name": "a", "uid": "u" }, "spec": { "containers": [] } }));
        writes.refused(&pod, "first", Some("n"));
        turns().await;
        writes.refused(&pod, "second", Some("m"));
        writes.refused(&pod, "third", None);
        turns().await;
        assert_eq!(server.sent().len(), 1);
        let mut written = std::pin::pin!(writes.written(&pod));
        assert!(written.as_mut().now_or_never().is_none());
        server.answers.add_permits(2);
        written.await;
        let sent = server.sent();
        assert_eq!(sent.len(), 2);
        assert_eq!(sent[0]["conditions"][0]["message"], "first");
        assert_eq!(sent[1]["conditions"][0]["message"], "third");
        assert_eq!(sent[1]["nominatedNodeName"], "m");
        assert!(writes.locked().is_empty());
    }

    #[tokio::test]
    async fn what_stands_in_a_status_is_not_written_and_keeps_its_time() {
        let server = Slow::new();
        server.answers.add_permits(9);
        let writes = StatusWrites::new(Client::new(server.clone(), "test"));
        let since = "2026-01-02T03:04:05Z";
        let pod = pod(json!({
            "metadata": { "name": "a", "uid": "u", "generation": 2 }, "spec": { "containers": [] },
            "status": { "conditions": [{
                "type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "why",
                "lastTransitionTime": since, "observedGeneration": 2,
            }] },
        }));
        writes.refused(&pod, "why", None);
        writes.written(&pod).await;
        assert!(server.sent().is_empty());
        writes.refused(&pod, "other", None);
        writes.written(&pod).await;
        assert_eq!(server.sent()[0]["conditions"][0]["lastTransitionTime"], since);
    }
}
