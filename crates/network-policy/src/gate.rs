//! A pod's policies hold before its first container starts: the kubelet tells of the pod's addresses and waits.

use std::net::IpAddr;
use std::time::Duration;

use api::object::Object;
use k8s_openapi::api::core::v1::Pod as ApiPod;
use tokio::sync::{mpsc, oneshot};

use crate::pod::Pod;

/// A node whose rules cannot be made, or that has not seen the API server yet, starts its pods all the same: so late.
const PATIENCE: Duration = Duration::from_secs(10);

/// A pod that has just been given its addresses.
#[derive(Debug)]
pub struct Ask {
    pub pod: Pod,
    pub done: oneshot::Sender<()>,
}

/// Where pods are told of. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Gate(mpsc::UnboundedSender<Ask>);

/// The gate, and the questions that [`crate::run`] answers.
pub fn gate() -> (Gate, mpsc::UnboundedReceiver<Ask>) {
    let (sender, receiver) = mpsc::unbounded_channel();
    (Gate(sender), receiver)
}

impl Gate {
    /// Returns when the policies of the pod, which has these addresses, are in force.
    pub async fn pass(&self, pod: ApiPod, ips: Vec<IpAddr>) {
        let name = pod.metadata.name.clone().unwrap_or_default();
        let read = serde_json::to_vec(&pod)
            .map_err(|e| e.to_string())
            .and_then(|bytes| Object::parse(bytes.into()).map_err(|e| e.to_string()))
            .and_then(|object| Pod::read(&object).map_err(|e| e.to_string()));
        let mut pod = match read {
            Ok(Some(pod)) => pod,
            Ok(None) => return,
            Err(error) => {
                tracing::error!(
                    pod = name,
                    error,
                    "network policies cannot be held against a pod that cannot be read"
                );
                return;
            }
        };
        pod.ips = ips;
        let (done, answer) = oneshot::channel();
        if self.0.send(Ask { pod, done }).is_err() {
            // the end of this process
            return;
        }
        match tokio::time::timeout(PATIENCE, answer).await {
            Ok(Ok(()) | Err(_)) => {}
            Err(_) => tracing::warn!(
                pod = name,
                "a pod starts before it is known which network policies select it"
            ),
        }
    }
}
