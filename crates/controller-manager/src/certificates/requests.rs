//! Which certificate requests are a kubelet's own, and which a signer may sign.

use std::collections::BTreeSet;

use k8s_openapi::api::certificates::v1::CertificateSigningRequest;
use pki::Request;

pub(super) const CLIENT: &str = "kubernetes.io/kube-apiserver-client";
pub(super) const KUBELET_CLIENT: &str = "kubernetes.io/kube-apiserver-client-kubelet";
pub(super) const LEGACY_UNKNOWN: &str = "kubernetes.io/legacy-unknown";
pub(super) const KUBELET_SERVING: &str = "kubernetes.io/kubelet-serving";

/// Why a signer does not sign a request, in upstream's words: the message of the condition `Failed`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum Unsigned {
    #[error("subject organization is not system:nodes")]
    Organization,
    #[error("subject common name does not begin with system:node:")]
    CommonName,
    #[error("DNS, IP, email and URI subject alternative names are not allowed")]
    Names,
    #[error("DNS or IP subjectAltName is required")]
    NoNames,
    #[error("email and URI subject alternative names are not allowed")]
    OtherNames,
    #[error("usages did not match the ones of a kubelet's client certificate")]
    KubeletClient,
    #[error("usages did not match the ones of a kubelet's serving certificate")]
    KubeletServing,
    #[error("usages must contain client auth and nothing but digital signature and key encipherment")]
    Client,
    #[error(transparent)]
    Usage(#[from] pki::UnknownUsage),
}

pub(super) fn usages(csr: &CertificateSigningRequest) -> BTreeSet<&str> {
    csr.spec.usages.iter().flatten().map(String::as_str).collect()
}

/// Whether exactly these usages are asked for; `key encipherment` may be left out.
fn are(usages: &BTreeSet<&str>, purpose: &str) -> bool {
    let mut rest = usages.clone();
    rest.remove("key encipherment");
    rest == BTreeSet::from(["digital signature", purpose])
}

fn is_node(request: &Request) -> Result<(), Unsigned> {
    if request.organizations() != ["system:nodes"] {
        return Err(Unsigned::Organization);
    }
    if !request.common_name().starts_with("system:node:") {
        return Err(Unsigned::CommonName);
    }
    Ok(())
}

/// Names that are neither a host's nor an address: mail addresses and URIs.
fn has_other_names(request: &Request) -> bool {
    request.alternative_names().iter().any(|n| n.contains('('))
}

pub(super) fn is_kubelet_client(request: &Request, usages: &BTreeSet<&str>) -> Result<(), Unsigned> {
    is_node(request)?;
    if !request.alternative_names().is_empty() {
        return Err(Unsigned::Names);
    }
    match are(usages, "client auth") {
        true => Ok(()),
        false => Err(Unsigned::KubeletClient),
    }
}

fn is_kubelet_serving(request: &Request, usages: &BTreeSet<&str>) -> Result<(), Unsigned> {
    is_node(request)?;
    if request.alternative_names().is_empty() {
        return Err(Unsigned::NoNames);
    }
    if has_other_names(request) {
        return Err(Unsigned::OtherNames);
    }
    match are(usages, "server auth") {
        true => Ok(()),
        false => Err(Unsigned::KubeletServing),
    }
}

fn is_client(usages: &BTreeSet<&str>) -> Result<(), Unsigned> {
    let allowed = ["client auth", "digital signature", "key encipherment"];
    if !usages.contains("client auth") || usages.iter().any(|u| !allowed.contains(u)) {
        return Err(Unsigned::Client);
    }
    Ok(())
}

/// Whether the signer may sign it; `None` for signers that are somebody else's.
pub(super) fn may_sign(signer: &str, request: &Request, usages: &BTreeSet<&str>) -> Option<Result<(), Unsigned>> {
    match signer {
        CLIENT => Some(is_client(usages)),
        KUBELET_CLIENT => Some(is_kubelet_client(request, usages)),
        KUBELET_SERVING => Some(is_kubelet_serving(request, usages)),
        LEGACY_UNKNOWN => Some(Ok(())),
        _ => None,
    }
}

pub(super) fn has(csr: &CertificateSigningRequest, type_: &str) -> bool {
    let conditions = csr.status.as_ref().and_then(|s| s.conditions.as_ref());
    conditions.into_iter().flatten().any(|c| c.type_ == type_)
}

pub(super) fn has_certificate(csr: &CertificateSigningRequest) -> bool {
    let certificate = csr.status.as_ref().and_then(|s| s.certificate.as_ref());
    certificate.is_some_and(|c| !c.0.is_empty())
}
