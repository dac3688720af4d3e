//! Trust bundles and certificates for the pod's volumes: followed and asked for while the pod lives.

use std::collections::HashMap;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::ByteString;
use k8s_openapi::api::certificates::v1::{PodCertificateRequest, PodCertificateRequestSpec};
use k8s_openapi::api::core::v1::{ClusterTrustBundleProjection, Node, PodCertificateProjection, ServiceAccount};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use pki::StubRequest;

use super::{SyncError, Worker};
use crate::pod::PodExt;
use crate::pod_certificates::{Asked, State};
use crate::shared_watch::Waking;
use crate::trust_bundles;
use crate::volumes::{self, Place, Projected};

/// The most that times are put off, so that not all kubelets ask at once.
const JITTER_MS: u64 = 5 * 60 * 1000;
/// A renewal that could not be asked for is tried again after this.
const AGAIN: SignedDuration = SignedDuration::from_secs(30);

/// What the worker keeps of both.
#[derive(Debug, Default)]
pub(super) struct Certificates {
    states: HashMap<Place, State>,
    requests: Option<Waking>,
    bundles: Option<Waking>,
}

fn jitter() -> SignedDuration {
    let random = getrandom::u64().unwrap_or(JITTER_MS / 2) % JITTER_MS;
    SignedDuration::from_millis(i64::try_from(random).unwrap_or_default())
}

impl Worker {
    /// What the pod's projections of trust bundles and certificates show now.
    pub(super) async fn projected(&mut self) -> Projected {
        Projected {
            bundles: self.trust_bundles().await,
            certificates: self.pod_certificates().await,
        }
    }

    async fn trust_bundles(&mut self) -> volumes::Bundles {
        let sources: Vec<(Place, ClusterTrustBundleProjection)> = volumes::sources(volumes::used(&self.pod))
            .filter_map(|(place, source)| Some((place, source.cluster_trust_bundle.clone()?)))
            .collect();
        if sources.is_empty() {
            return HashMap::new();
        }
        let node = self.node.clone();
        if self.certificates.bundles.is_none() {
            let wanted: Vec<_> = sources.iter().map(|(_, source)| source.clone()).collect();
            let wake = self.object_changes.clone();
            let concerns = move |change: &client::Change| trust_bundles::concerns(change, &wanted);
            self.certificates.bundles = Some(Waking::new(node.trust_bundles.hold(), wake, concerns));
        }
        let mut found = HashMap::new();
        if let Some(bundles) = &self.certificates.bundles {
            for (place, source) in sources {
                let shown = node.trust_bundles.certificates(&bundles.cache, &source).await;
                found.insert(place, shown.map_err(Arc::new));
            }
        }
        found
    }

    async fn pod_certificates(&mut self) -> volumes::Certificates {
        let every = self.pod.spec.iter().flat_map(|s| s.volumes.iter().flatten());
        let sources: Vec<(Place, PodCertificateProjection)> = volumes::sources(every)
            .filter_map(|(place, source)| Some((place, source.pod_certificate.clone()?)))
            .collect();
        if sources.is_empty() {
            return HashMap::new();
        }
        if self.certificates.requests.is_none() {
            let uid = self.pod.uid().to_owned();
            let ours = move |change: &client::Change| {
                let owners = change.object().map(|object| &object.meta.owners);
                owners.is_some_and(|owners| owners.iter().any(|owner| *owner.uid == *uid))
            };
            let cache = self.node.certificate_requests.hold();
            self.certificates.requests = Some(Waking::new(cache, self.object_changes.clone(), ours));
        }
        for (place, source) in &sources {
            if let Err(error) = self.advance(place, source).await {
                let (volume, index) = place;
                tracing::warn!(pod = self.pod.describe(), volume, index, %error, "certificate not asked for");
                self.wake_at(Timestamp::now() + AGAIN);
            }
        }
        let places = sources.into_iter().map(|(place, _)| place);
        let states = &mut self.certificates.states;
        places
            .map(|place| {
                let shown = states.entry(place.clone()).or_default().credentials();
                (place, shown)
            })
            .collect()
    }

    async fn advance(&mut self, place: &Place, source: &PodCertificateProjection) -> Result<(), SyncError> {
        // what is not in the API cannot be named in a request
        if self.pod.is_static() {
            return Ok(());
        }
        let namespace = self.pod.namespace().to_owned();
        let Some(requests) = &self.certificates.requests else {
            return Ok(());
        };
        let cache = requests.cache.clone();
        cache.synced().await;
        let look = |name: &str| {
            let found = cache.decode::<PodCertificateRequest>(&format!("{namespace}/{name}"));
            found.unwrap_or_else(|error| {
                tracing::warn!(namespace, name, %error, "a PodCertificateRequest cannot be read");
                None
            })
        };
        let state = self.certificates.states.entry(place.clone()).or_default();
        let due = state.advance(look, Timestamp::now(), jitter());
        for (reason, message) in due.events {
            self.node.recorder.warning(&self.pod.reference(), reason, message);
        }
        if let Some(at) = due.at {
            self.wake_at(at);
        }
        if due.ask {
            let asked = self.ask(source).await?;
            self.wake_at(asked.abandon_at);
            self.certificates.states.entry(place.clone()).or_default().asked(asked);
        }
        Ok(())
    }

    /// Makes a request with a key of its own.
    async fn ask(&self, source: &PodCertificateProjection) -> Result<Asked, SyncError> {
        let (pod, client) = (&self.pod, &self.node.client);
        let spec = pod.spec.as_ref();
        let account = spec
            .and_then(|s| s.service_account_name.as_deref())
            .unwrap_or("default");
        let account: ServiceAccount = client.get(pod.namespace(), account).await?;
        let node: Node = client.get("", &self.node.settings.node_name).await?;
        let key_type = source.key_type.parse()?;
        let stub = tokio::task::spawn_blocking(move || StubRequest::make(key_type)).await??;
        let request = PodCertificateRequest {
            metadata: ObjectMeta {
                namespace: pod.metadata.namespace.clone(),
                generate_name: Some("req-".to_owned()),
                owner_references: Some(vec![OwnerReference {
                    api_version: "v1".to_owned(),
                    kind: "Pod".to_owned(),
                    name: pod.name().to_owned(),
                    uid: pod.uid().to_owned(),
                    ..OwnerReference::default()
                }]),
                ..ObjectMeta::default()
            },
            spec: PodCertificateRequestSpec {
                signer_name: source.signer_name.clone(),
                pod_name: pod.name().to_owned(),
                pod_uid: pod.uid().to_owned(),
                service_account_name: account.metadata.name.unwrap_or_default(),
                service_account_uid: account.metadata.uid.unwrap_or_default(),
                node_name: self.node.settings.node_name.clone(),
                node_uid: node.metadata.uid.unwrap_or_default(),
                max_expiration_seconds: source.max_expiration_seconds,
                stub_pkc_s10_request: ByteString(stub.der),
                unverified_user_annotations: source.user_annotations.clone(),
            },
            status: None,
        };
        let made = client.create(&request).await?;
        let created = made.metadata.creation_timestamp.map_or_else(Timestamp::now, |t| t.0);
        Ok(Asked::new(
            stub.key,
            made.metadata.name.unwrap_or_default(),
            created,
            jitter(),
        ))
    }
}
