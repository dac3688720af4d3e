//! NodeRestriction of pod certificates: a kubelet asks for those that its pods mount. KEP-4317.

use serde_json::Value;

use crate::admission::{Attributes, Operation};
use crate::authorization;
use crate::http::status::{ApiError, Result};
use crate::tree::text;

const GROUP: &str = "certificates.k8s.io";
const MIRROR: &str = "kubernetes.io/config.mirror";

/// Refuses a request for a certificate that a node may not make.
pub fn admit(asked: &Attributes<'_>, node: &str, request: &Value) -> Result<()> {
    let question = Question { asked, node, request };
    question.check()
}

/// What a node asks for.
struct Question<'a> {
    asked: &'a Attributes<'a>,
    node: &'a str,
    request: &'a Value,
}

impl Question<'_> {
    fn spec(&self, field: &str) -> &str {
        text(self.request, &["spec", field]).unwrap_or_default()
    }

    fn refuse(&self, why: &str) -> Result<()> {
        let name = match self.asked.name {
            "" => "Unknown",
            name => name,
        };
        Err(self.asked.resource.forbidden(name, why))
    }

    fn check(&self) -> Result<()> {
        let (asked, node) = (self.asked, self.node);
        if asked.operation != Operation::Create {
            return self.refuse(&format!("unexpected operation {}", asked.operation.name()));
        }
        if !asked.subresource.is_empty() {
            return self.refuse(&format!("unexpected subresource {}", asked.subresource));
        }
        let named = self.spec("nodeName");
        if named != node {
            return self.refuse(&format!(
                "PodCertificateRequest.Spec.NodeName={named:?}, which is not the requesting node {node:?}"
            ));
        }
        let (pod_name, account) = (self.spec("podName"), self.spec("serviceAccountName"));
        let pod_place = format!("{}/{pod_name}", asked.namespace);
        let Some(found) = asked.registry.get("", "nodes", "", named) else {
            return missing("node", named, &format!("nodes {named:?} not found"));
        };
        if *found.object.meta.uid != *self.spec("nodeUID") {
            return later(&format!(
                "PodCertificateRequest for pod {pod_place:?} names node UID {:?}, inconsistent with the running node ({:?})",
                self.spec("nodeUID"),
                found.object.meta.uid
            ));
        }
        let Some(found) = asked.registry.get("", "pods", asked.namespace, pod_name) else {
            return missing("pod", &pod_place, &format!("pods {pod_name:?} not found"));
        };
        if *found.object.meta.uid != *self.spec("podUID") {
            return later(&format!(
                "PodCertificateRequest for pod {pod_place:?} contains pod UID ({:?}) which differs from running pod {:?}",
                self.spec("podUID"),
                found.object.meta.uid
            ));
        }
        let pod = found.tree()?;
        self.runs_here(&pod, &pod_place, account)?;
        let place = format!("{}/{account}", asked.namespace);
        let Some(found) = asked.registry.get("", "serviceaccounts", asked.namespace, account) else {
            return missing(
                "service account",
                &place,
                &format!("serviceaccounts {account:?} not found"),
            );
        };
        if *found.object.meta.uid != *self.spec("serviceAccountUID") {
            return later(&format!(
                "PodCertificateRequest for pod {pod_place:?} names service account UID {:?}, which differs from the running service account ({:?})",
                self.spec("serviceAccountUID"),
                found.object.meta.uid
            ));
        }
        self.has_reason(&pod, &pod_place, account)
    }

    /// The pod is a real one of this node, and of the account that the request names.
    fn runs_here(&self, pod: &Value, place: &str, account: &str) -> Result<()> {
        if text(pod, &["spec", "nodeName"]) != Some(self.node) {
            return self.refuse(&format!(
                "pod {place:?} is not running on node {:?} named in the PodCertificateRequest",
                self.node
            ));
        }
        let annotations = pod.pointer("/metadata/annotations");
        if annotations.is_some_and(|a| a.get(MIRROR).is_some()) {
            return self.refuse(&format!("pod {place:?} is a mirror pod"));
        }
        let own = text(pod, &["spec", "serviceAccountName"]).unwrap_or_default();
        if own != account {
            return self.refuse(&format!(
                "PodCertificateRequest for pod {place:?} contains serviceAccountName ({account:?}) that differs from running pod ({own:?})"
            ));
        }
        Ok(())
    }

    /// The pod mounts a certificate of the signer, or an administrator allows the node this signer for the account.
    fn has_reason(&self, pod: &Value, place: &str, account: &str) -> Result<()> {
        let signer = self.spec("signerName");
        if mounts(pod, signer) {
            return Ok(());
        }
        // a resource of RBAC has no slash but before its subresource
        let resource = signer.replace('/', ":");
        let attributes = authorization::Attributes {
            verb: "request-serviceaccounts-podcertificate-signer",
            is_resource: true,
            group: GROUP,
            namespace: self.asked.namespace,
            resource: &resource,
            name: account,
            ..authorization::Attributes::default()
        };
        if self.asked.authorizer.allows(self.asked.user, &attributes) {
            return Ok(());
        }
        self.refuse(&format!(
            "pod {place:?} does not mount a podCertificate projected volume for signer {signer:?}"
        ))
    }
}

/// The object may yet come: the node asks again after a fault that is not its own.
fn later(why: &str) -> Result<()> {
    Err(ApiError::plain(why))
}

fn missing(kind: &str, name: &str, why: &str) -> Result<()> {
    later(&format!(
        "while retrieving {kind} {name:?} named in the PodCertificateRequest: {why}"
    ))
}

/// Whether a volume of the pod has a certificate of the signer.
fn mounts(pod: &Value, signer: &str) -> bool {
    let list = |tree: &Value, path: &str| -> Vec<Value> {
        tree.pointer(path)
            .and_then(Value::as_array)
            .cloned()
            .unwrap_or_default()
    };
    let volumes = list(pod, "/spec/volumes");
    volumes.iter().any(|volume| {
        let sources = list(volume, "/projected/sources");
        sources
            .iter()
            .any(|source| text(source, &["podCertificate", "signerName"]) == Some(signer))
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_pod_mounts_certificates_of_the_signers_that_its_volumes_name() {
        let pod = json!({ "spec": { "volumes": [{ "emptyDir": {} }, { "projected": { "sources": [
            { "secret": { "name": "s" } }, { "podCertificate": { "signerName": "example.com/a" } }] } }] } });
        assert!(mounts(&pod, "example.com/a"));
        assert!(!mounts(&pod, "example.com/b"));
    }
}
