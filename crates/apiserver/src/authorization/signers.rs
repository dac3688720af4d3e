//! Certificate signing requests: who may approve and sign for a signer, and what may not be asked of one.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::pem::Pem;
use x509_parser::prelude::FromDer;

use crate::authorization::Attributes;
use crate::http::status::Result;
use crate::http::user::{MASTERS, User};
use crate::registry::resource::Resource;
use crate::server::{ApiServer, Request};

const GROUP: &str = "certificates.k8s.io";
const CLIENT_SIGNER: &str = "kubernetes.io/kube-apiserver-client";

/// Refuses what only those who are trusted with a signer may do.
pub fn check(server: &ApiServer, resource: &Resource, request: &Request, tree: &Value) -> Result<()> {
    if !resource.is(GROUP, "certificatesigningrequests") {
        return Ok(());
    }
    let name = tree["metadata"]["name"].as_str().unwrap_or_default();
    let stored = server.registry.get(GROUP, &resource.plural, "", name);
    let old = match &stored {
        Some(stored) => stored.tree()?,
        None => Value::Null,
    };
    let verb = match request.info.subresource.as_str() {
        "approval" => "approve",
        "status" if changed(tree, &old) => "sign",
        "" if stored.is_none() && asks_for_everything(tree) => {
            let why = format!("use of {CLIENT_SIGNER} signer with {MASTERS} group is not allowed");
            return Err(resource.forbidden(name, &why));
        }
        _ => return Ok(()),
    };
    let signer = old.pointer("/spec/signerName").and_then(Value::as_str);
    let signer = signer.unwrap_or_default();
    if trusted(server, &request.user, verb, signer) {
        return Ok(());
    }
    let why = format!("user not permitted to {verb} requests with signerName {signer:?}");
    Err(resource.forbidden(name, &why))
}

fn changed(new: &Value, old: &Value) -> bool {
    ["/status/certificate", "/status/conditions"]
        .iter()
        .any(|path| new.pointer(path) != old.pointer(path))
}

/// For the signer itself or for all signers of its domain.
fn trusted(server: &ApiServer, user: &User, verb: &str, signer: &str) -> bool {
    let allowed = |name: &str| {
        let attributes = Attributes {
            verb,
            is_resource: true,
            group: GROUP,
            resource: "signers",
            name,
            ..Attributes::default()
        };
        server.authorizer.allows(user, &attributes)
    };
    let domain = signer.split('/').next().unwrap_or_default();
    allowed(signer) || allowed(&format!("{domain}/*"))
}

/// Whether a client certificate of the group that no authorizer is asked about is wanted.
fn asks_for_everything(tree: &Value) -> bool {
    let text = |path: &str| tree.pointer(path).and_then(Value::as_str).unwrap_or_default();
    if text("/spec/signerName") != CLIENT_SIGNER {
        return false;
    }
    // a request that cannot be read is refused by the rules of its kind
    let Ok(pem) = STANDARD.decode(text("/spec/request")) else {
        return false;
    };
    let Some(Ok(block)) = Pem::iter_from_buffer(&pem).next() else {
        return false;
    };
    let Ok((_, request)) = X509CertificationRequest::from_der(&block.contents) else {
        return false;
    };
    let subject = &request.certification_request_info.subject;
    subject.iter_organization().any(|o| o.as_str() == Ok(MASTERS))
}

/// A request says who made it: the server's word, not the client's.
pub fn claim(tree: &mut Value, user: &User) {
    let Some(spec) = tree.get_mut("spec").and_then(Value::as_object_mut) else {
        return;
    };
    for (key, value) in [
        ("username", json!(user.name)),
        ("uid", json!(user.uid)),
        ("groups", json!(user.groups)),
        ("extra", json!(user.extra)),
    ] {
        let empty = match &value {
            Value::String(text) => text.is_empty(),
            Value::Array(list) => list.is_empty(),
            Value::Object(map) => map.is_empty(),
            _ => true,
        };
        if empty {
            spec.remove(key);
        } else {
            spec.insert(key.into(), value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_asks_is_not_what_the_request_says() {
        let mut tree = json!({ "spec": { "username": "system:node:a", "uid": "1", "groups": ["system:nodes"], "extra": { "a": ["b"] } } });
        claim(&mut tree, &User::new("jane", &["dev"]));
        let spec = json!({ "username": "jane", "groups": ["dev", "system:authenticated"] });
        assert_eq!(tree["spec"], spec);
    }

    #[test]
    fn only_what_a_signer_writes_is_signing() {
        let old = json!({ "status": { "conditions": [] } });
        assert!(!changed(&old, &old));
        assert!(changed(
            &json!({ "status": { "conditions": [], "certificate": "x" } }),
            &old
        ));
    }
}
