//! CertificateSigningRequests: kubelets' client certificates are approved, approved ones are signed, old ones forgotten.

mod requests;

use std::sync::Arc;
use std::time::Duration;

use api::object::Object;
use client::{Cache, DeleteParams};
use http::Method;
use jiff::Timestamp;
use k8s_openapi::ByteString;
use k8s_openapi::api::authorization::v1::{ResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec};
use k8s_openapi::api::certificates::v1::{CertificateSigningRequest, CertificateSigningRequestCondition};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use pki::Request;
use serde_json::Value;

use crate::Error;
use crate::context::Context;
use crate::error::{decode, tree};
use crate::meta::{name, uid};
use requests::{
    KUBELET_CLIENT, KUBELET_SERVING, LEGACY_UNKNOWN, has, has_certificate, is_kubelet_client, may_sign, usages,
};

/// How long requests are kept: approved and denied ones, and those nobody decided.
const DECIDED_SECONDS: f64 = 3600.0;
const PENDING_SECONDS: f64 = 24.0 * 3600.0;

fn parse(csr: &CertificateSigningRequest) -> Result<Request, Error> {
    Ok(Request::from_pem(&String::from_utf8_lossy(&csr.spec.request.0))?)
}

fn condition(type_: &str, reason: &str, message: String) -> CertificateSigningRequestCondition {
    let now = Some(Time(Timestamp::now()));
    CertificateSigningRequestCondition {
        type_: type_.to_owned(),
        status: "True".to_owned(),
        reason: Some(reason.to_owned()),
        message: Some(message),
        last_update_time: now.clone(),
        last_transition_time: now,
    }
}

async fn each<F, Fut>(ctx: Context, workers: usize, sync: F) -> Result<(), Error>
where
    F: Fn(Context, Arc<Object>) -> Fut + Clone + Send + 'static,
    Fut: Future<Output = Result<Option<Duration>, Error>> + Send + 'static,
{
    let requests: Cache = ctx.informers.get::<CertificateSigningRequest>();
    if !ctx.synced(&[&requests]).await {
        return Ok(());
    }
    let queue = ctx.queue("certificate");
    ctx.each_change(&requests, {
        let queue = queue.clone();
        move |change| {
            if let Some(object) = change.new {
                queue.add(object.key());
            }
        }
    });
    let shared = ctx.clone();
    ctx.work(queue, workers, move |key| {
        let found = requests.get(&key).map(|object| sync(shared.clone(), object));
        async move {
            match found {
                Some(work) => work.await,
                None => Ok(None),
            }
        }
    })
    .await;
    Ok(())
}

pub(crate) async fn run_approving(ctx: Context) -> Result<(), Error> {
    each(ctx, 5, approve).await
}

/// Who signs certificate requests.
#[derive(Clone)]
pub struct Signing {
    /// Signs what clients of the API show.
    pub clients: Arc<pki::Authority>,
    /// Signs what kubelets show to the API server, and what was asked for before there were signers, as k3s has it.
    pub servers: Arc<pki::Authority>,
}

impl Signing {
    /// The same authority for all signers.
    pub fn by(authority: Arc<pki::Authority>) -> Signing {
        Signing {
            clients: authority.clone(),
            servers: authority,
        }
    }

    fn of(&self, signer: &str) -> &pki::Authority {
        match signer {
            KUBELET_SERVING | LEGACY_UNKNOWN => &self.servers,
            _ => &self.clients,
        }
    }
}

pub(crate) async fn run_signing(ctx: Context) -> Result<(), Error> {
    if ctx.config.signing.is_none() {
        return Ok(());
    }
    each(ctx, 5, sign).await
}

pub(crate) async fn run_cleaning(ctx: Context) -> Result<(), Error> {
    each(ctx, 1, clean).await
}

async fn approve(ctx: Context, object: Arc<Object>) -> Result<Option<Duration>, Error> {
    let csr: CertificateSigningRequest = decode(&object)?;
    if has_certificate(&csr) || has(&csr, "Approved") || has(&csr, "Denied") || csr.spec.signer_name != KUBELET_CLIENT {
        return Ok(None);
    }
    let Ok(request) = parse(&csr) else { return Ok(None) };
    if is_kubelet_client(&request, &usages(&csr)).is_err() {
        return Ok(None);
    }
    let own = csr.spec.username.as_deref() == Some(request.common_name());
    let kinds: &[(&str, &str)] = match own {
        true => &[
            (
                "selfnodeclient",
                "Auto approving self kubelet client certificate after SubjectAccessReview.",
            ),
            (
                "nodeclient",
                "Auto approving kubelet client certificate after SubjectAccessReview.",
            ),
        ],
        false => &[(
            "nodeclient",
            "Auto approving kubelet client certificate after SubjectAccessReview.",
        )],
    };
    for (subresource, message) in kinds {
        if !allowed(&ctx, &csr, subresource).await? {
            continue;
        }
        let mut whole: Value = decode(&object)?;
        let mut conditions = csr.status.clone().unwrap_or_default().conditions.unwrap_or_default();
        conditions.push(condition("Approved", "AutoApproved", (*message).to_owned()));
        whole["status"]["conditions"] = tree("conditions", &conditions)?;
        let path = format!("{}/approval", crate::status::path_of(&object)?);
        let _: Value = ctx.client.json(Method::PUT, &path, &[], Some(&whole)).await?;
        return Ok(None);
    }
    Err(Error::State(format!(
        "recognized csr {:?} as [selfnodeclient nodeclient] but subject access review was not approved",
        name(&csr)
    )))
}

async fn allowed(ctx: &Context, csr: &CertificateSigningRequest, subresource: &str) -> Result<bool, Error> {
    let spec = &csr.spec;
    let review = SubjectAccessReview {
        spec: SubjectAccessReviewSpec {
            user: spec.username.clone(),
            uid: spec.uid.clone(),
            groups: spec.groups.clone(),
            extra: spec.extra.clone(),
            resource_attributes: Some(ResourceAttributes {
                group: Some("certificates.k8s.io".to_owned()),
                resource: Some("certificatesigningrequests".to_owned()),
                verb: Some("create".to_owned()),
                subresource: Some(subresource.to_owned()),
                version: Some("*".to_owned()),
                ..ResourceAttributes::default()
            }),
            non_resource_attributes: None,
        },
        ..SubjectAccessReview::default()
    };
    let answer = ctx.client.create(&review).await?;
    Ok(answer.status.is_some_and(|s| s.allowed))
}

async fn sign(ctx: Context, object: Arc<Object>) -> Result<Option<Duration>, Error> {
    let csr: CertificateSigningRequest = decode(&object)?;
    let Some(signing) = &ctx.config.signing else {
        return Ok(None);
    };
    if !has(&csr, "Approved") || has(&csr, "Denied") || has(&csr, "Failed") || has_certificate(&csr) {
        return Ok(None);
    }
    let mut request = parse(&csr)?;
    let usages = usages(&csr);
    let verdict = match may_sign(&csr.spec.signer_name, &request, &usages) {
        None => return Ok(None),
        Some(verdict) => verdict.and_then(|()| Ok(request.set_usages(usages.iter().copied())?)),
    };
    let mut status = csr.status.clone().unwrap_or_default();
    match verdict {
        Err(problem) => {
            let failed = condition("Failed", "SignerValidationFailure", problem.to_string());
            status.conditions.get_or_insert_default().push(failed);
        }
        Ok(()) => {
            let longest = i64::try_from(ctx.config.cluster_signing_duration.as_secs()).unwrap_or(i64::MAX);
            let wanted = csr.spec.expiration_seconds.map_or(longest, i64::from).max(600);
            let lifetime = time::Duration::seconds(wanted.min(longest));
            let authority = signing.of(&csr.spec.signer_name);
            let pem = authority.sign(request, lifetime, time::OffsetDateTime::now_utc())?;
            status.certificate = Some(ByteString(pem.into_bytes()));
        }
    }
    crate::status::put(&ctx.client, &object, &status).await?;
    Ok(None)
}

/// Seconds until a request may be forgotten.
fn seconds_left(csr: &CertificateSigningRequest, now: Timestamp) -> Option<f64> {
    let conditions = csr
        .status
        .as_ref()
        .and_then(|s| s.conditions.as_deref())
        .unwrap_or_default();
    let decided = conditions
        .iter()
        .filter(|c| matches!(c.type_.as_str(), "Approved" | "Denied" | "Failed"));
    let since = decided.filter_map(|c| c.last_update_time.as_ref()).map(|t| t.0).max();
    let created = csr.metadata.creation_timestamp.as_ref().map(|t| t.0);
    let pending = conditions.is_empty() || !has_certificate(csr) && has(csr, "Approved");
    let (from, keep) = match pending {
        true => (created?, PENDING_SECONDS),
        false => (since?, DECIDED_SECONDS),
    };
    Some((keep - now.duration_since(from).as_secs_f64()).max(0.0))
}

async fn clean(ctx: Context, object: Arc<Object>) -> Result<Option<Duration>, Error> {
    let csr: CertificateSigningRequest = decode(&object)?;
    match seconds_left(&csr, Timestamp::now()) {
        None => Ok(None),
        Some(left) if left > 0.0 => Ok(Some(Duration::from_secs_f64(left))),
        Some(_) => {
            let params = DeleteParams::uid(uid(&csr));
            match ctx
                .client
                .delete::<CertificateSigningRequest>("", name(&csr), &params)
                .await
            {
                Err(error) if !error.is_not_found() => Err(error.into()),
                _ => Ok(None),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn decided_requests_are_forgotten_sooner() {
        let csr = |status: Value| -> CertificateSigningRequest {
            serde_json::from_value(json!({"apiVersion": "certificates.k8s.io/v1", "kind": "CertificateSigningRequest",
                "metadata": {"creationTimestamp": "1970-01-01T00:00:00Z"}, "spec": {"request": "", "signerName": ""}, "status": status}))
            .unwrap()
        };
        let at = Timestamp::from_second(4000).unwrap();
        assert_eq!(seconds_left(&csr(json!({})), at), Some(82400.0));
        let denied =
            json!({"conditions": [{"type": "Denied", "status": "True", "lastUpdateTime": "1970-01-01T00:00:00Z"}]});
        assert_eq!(seconds_left(&csr(denied), at), Some(0.0));
    }

    #[test]
    fn what_kubelets_serve_with_is_of_the_servers_authority() {
        let dir = std::env::temp_dir().join(format!("skiff-signing-{}", std::process::id()));
        let now = time::OffsetDateTime::now_utc();
        let make = |name: &str| Arc::new(pki::Authority::load_or_create(&dir, name, now).unwrap());
        let signing = Signing {
            clients: make("clients"),
            servers: make("servers"),
        };
        std::fs::remove_dir_all(&dir).unwrap();
        for (signer, authority) in [
            ("kubernetes.io/kube-apiserver-client", &signing.clients),
            (KUBELET_CLIENT, &signing.clients),
            (KUBELET_SERVING, &signing.servers),
            (LEGACY_UNKNOWN, &signing.servers),
        ] {
            let by = signing.of(signer).certificate();
            assert_eq!(by, authority.certificate(), "{signer}");
        }
    }
}
