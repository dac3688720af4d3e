//! Who has to know a pod's addresses before its first container starts: whoever holds network policies on this node.

use std::net::IpAddr;
use std::sync::Arc;

use futures::future::BoxFuture;
use k8s_openapi::api::core::v1::Pod;

type Tell = dyn Fn(Pod, Vec<IpAddr>) -> BoxFuture<'static, ()> + Send + Sync;

/// Called with each pod that is not on the node's own network and has a new sandbox; the pod's containers start when it returns.
/// The default lets all pass at once.
#[derive(Clone, Default)]
pub struct NetworkGate(Option<Arc<Tell>>);

impl NetworkGate {
    /// Before a pod's containers start, `tell` is called with the pod and its addresses, and is waited for.
    pub fn new(tell: impl Fn(Pod, Vec<IpAddr>) -> BoxFuture<'static, ()> + Send + Sync + 'static) -> NetworkGate {
        NetworkGate(Some(Arc::new(tell)))
    }

    pub(crate) async fn pass(&self, pod: &Pod, ips: &[String]) {
        let own_network = pod.spec.as_ref().and_then(|s| s.host_network) != Some(true);
        if let Some(tell) = self.0.as_ref().filter(|_| own_network) {
            let ips = ips.iter().filter_map(|ip| ip.parse().ok()).collect();
            tell(pod.clone(), ips).await;
        }
    }
}

impl std::fmt::Debug for NetworkGate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("NetworkGate").field(&self.0.is_some()).finish()
    }
}
