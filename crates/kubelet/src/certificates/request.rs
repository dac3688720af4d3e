//! A CertificateSigningRequest, and the wait for its certificate.

use std::time::Duration;

use client::{Client, WatchEvent};
use futures::StreamExt;
use k8s_openapi::ByteString;
use k8s_openapi::api::certificates::v1::{CertificateSigningRequest, CertificateSigningRequestSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use pki::Identity;

/// How long a request may wait for its approval and its certificate: upstream's `certificateWaitTimeout`. Another is made then.
const PATIENCE: Duration = Duration::from_secs(15 * 60);

/// Why there is no certificate.
#[derive(Debug, thiserror::Error)]
pub enum RequestError {
    #[error("certificate signing request: {0}")]
    Client(#[from] client::Error),
    #[error("certificate signing request: {0}")]
    Pki(#[from] pki::PkiError),
    #[error("certificate signing request: {0}")]
    Unreadable(#[from] serde_json::Error),
    #[error("certificate signing request {name} is {verdict}, reason: {reason}, message: {message}")]
    Refused {
        name: String,
        verdict: &'static str,
        reason: String,
        message: String,
    },
    #[error("certificate signing request {0} was deleted")]
    Deleted(String),
    #[error("certificate signing request {0} has no certificate after a quarter of an hour")]
    Late(String),
}

/// What a certificate is asked for.
#[derive(Debug, Clone)]
pub(super) struct Wanted {
    /// `spec.signerName`.
    pub signer: &'static str,
    /// `client auth` or `server auth`.
    pub usage: &'static str,
    pub node: String,
    /// Names and addresses of a server.
    pub names: Vec<String>,
}

impl Wanted {
    /// Asks the cluster and waits: the certificate and its new key in one PEM text.
    ///
    /// # Errors
    /// When the request cannot be made, or comes to nothing.
    pub async fn ask(&self, client: &Client) -> Result<String, RequestError> {
        let common_name = format!("system:node:{}", self.node);
        let who = Identity {
            common_name: &common_name,
            organizations: &["system:nodes"],
        };
        let (key, request) = pki::key_and_request_for(&who, self.names.clone())?;
        let made: CertificateSigningRequest = client
            .create(&CertificateSigningRequest {
                metadata: ObjectMeta {
                    generate_name: Some("csr-".into()),
                    ..ObjectMeta::default()
                },
                spec: CertificateSigningRequestSpec {
                    request: ByteString(request.into_bytes()),
                    signer_name: self.signer.into(),
                    usages: Some(vec!["digital signature".into(), self.usage.into()]),
                    ..CertificateSigningRequestSpec::default()
                },
                status: None,
            })
            .await?;
        let name = made.metadata.name.unwrap_or_default();
        tracing::info!(request = name, signer = self.signer, "waiting for a certificate");
        match tokio::time::timeout(PATIENCE, certificate(client, &name)).await {
            Ok(certificate) => Ok(format!("{}{key}", certificate?)),
            Err(_) => Err(RequestError::Late(name)),
        }
    }
}

/// Waits for the certificate of a request.
async fn certificate(client: &Client, name: &str) -> Result<String, RequestError> {
    let request = Client::collection::<CertificateSigningRequest>("").fields(format!("metadata.name={name}"));
    let mut events = client.list_watch(request);
    while let Some(event) = events.next().await {
        let found = match event {
            WatchEvent::Restarted(found) => found.into_iter().next(),
            WatchEvent::Applied(found) => Some(found),
            WatchEvent::Deleted(_) => None,
            WatchEvent::Bookmark(_) => continue,
        };
        let found = found.ok_or_else(|| RequestError::Deleted(name.into()))?;
        if let Some(certificate) = issued(name, &found.decode()?)? {
            return Ok(certificate);
        }
    }
    Err(RequestError::Late(name.into()))
}

/// The certificate, once there is one.
fn issued(name: &str, request: &CertificateSigningRequest) -> Result<Option<String>, RequestError> {
    let Some(status) = &request.status else { return Ok(None) };
    for condition in status.conditions.iter().flatten() {
        let verdict = match condition.type_.as_str() {
            "Denied" => "denied",
            "Failed" => "failed",
            _ => continue,
        };
        return Err(RequestError::Refused {
            name: name.into(),
            verdict,
            reason: condition.reason.clone().unwrap_or_default(),
            message: condition.message.clone().unwrap_or_default(),
        });
    }
    let pem = status
        .certificate
        .as_ref()
        .filter(|certificate| !certificate.0.is_empty());
    Ok(pem.map(|certificate| String::from_utf8_lossy(&certificate.0).into_owned()))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_request_is_open_until_it_has_a_certificate_or_is_refused() {
        let of = |status: serde_json::Value| {
            let request = serde_json::from_value(json!({
                "metadata": { "name": "csr-a" }, "spec": { "request": "", "signerName": "s" }, "status": status,
            }));
            issued("csr-a", &request.unwrap())
        };
        let condition = |kind: &str| json!({ "type": kind, "status": "True", "reason": "R", "message": "m" });
        assert!(of(json!({})).unwrap().is_none());
        assert!(of(json!({ "conditions": [condition("Approved")] })).unwrap().is_none());
        let both = of(json!({ "conditions": [condition("Approved")], "certificate": "aGk=" }));
        assert_eq!(both.unwrap().as_deref(), Some("hi"));
        let denied = of(json!({ "conditions": [condition("Denied")], "certificate": "aGk=" }));
        let said = denied.unwrap_err().to_string();
        assert_eq!(
            said,
            "certificate signing request csr-a is denied, reason: R, message: m"
        );
        assert!(of(json!({ "conditions": [condition("Failed")] })).is_err());
    }
}
