//! What clusterTrustBundle projections show: the certificates of one bundle, or those of a signer's bundles. KEP-3257.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use api::object::Object;
use api::selectors::{LabelSelector, SelectorError};
use client::{Cache, Change, Client, Indexer};
use k8s_openapi::api::certificates::v1::ClusterTrustBundle;
use k8s_openapi::api::core::v1::ClusterTrustBundleProjection;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use sha2::{Digest, Sha256};

use crate::shared_watch::SharedWatch;

/// Why a projection cannot be filled, in upstream's words.
#[derive(Debug, thiserror::Error)]
pub enum TrustError {
    #[error("ClusterTrustBundle informer has not yet synced")]
    NotSynced,
    #[error("while getting ClusterTrustBundle: clustertrustbundle.certificates.k8s.io {0:?} not found")]
    NotFound(String),
    #[error("combination of signerName and labelSelector matched zero ClusterTrustBundles")]
    NoneMatched,
    #[error("while parsing label selector: {0}")]
    Selector(SelectorError),
    #[error("ClusterTrustBundle projection requires either name or signerName to be set")]
    NothingNamed,
    #[error("while reading ClusterTrustBundle: {0}")]
    Json(#[from] serde_json::Error),
    #[error("while normalizing trust anchors: {0}")]
    Pem(#[from] rustls_pki_types::pem::Error),
}

/// The first list may take this long.
const SYNC_TIMEOUT: Duration = Duration::from_secs(10);

/// The bundles of the cluster, while a pod of this node shows some.
#[derive(Debug)]
pub struct TrustBundles {
    watch: SharedWatch,
    /// Gives certificates an order that stays while this kubelet runs and is another each time, so that nobody comes to rely on it.
    seed: [u8; 16],
}

fn by_signer() -> Vec<Indexer> {
    vec![Indexer::new("signer", |object| signer_of(object).into_iter().collect())]
}

fn signer_of(object: &Object) -> Option<String> {
    let bundle: ClusterTrustBundle = object.decode().ok()?;
    bundle.spec.signer_name
}

impl TrustBundles {
    /// `seed` is random.
    pub fn new(client: Client, seed: [u8; 16]) -> TrustBundles {
        let request = Client::collection::<ClusterTrustBundle>("");
        TrustBundles {
            watch: SharedWatch::new(client, request, by_signer),
            seed,
        }
    }

    /// The trust bundles, followed for as long as this is held.
    pub fn hold(&self) -> Arc<Cache> {
        self.watch.hold()
    }

    /// The certificates that a projection shows, each once, as PEM.
    pub async fn certificates(
        &self,
        bundles: &Cache,
        source: &ClusterTrustBundleProjection,
    ) -> Result<String, TrustError> {
        if tokio::time::timeout(SYNC_TIMEOUT, bundles.synced()).await.is_err() {
            return Err(TrustError::NotSynced);
        }
        let found = match (&source.name, &source.signer_name) {
            (Some(name), _) => match bundles.get(name) {
                Some(found) => vec![found],
                None if source.optional == Some(true) => return Ok(String::new()),
                None => return Err(TrustError::NotFound(name.clone())),
            },
            (None, Some(signer)) => {
                // none selects nothing, an empty one everything
                let selector = match &source.label_selector {
                    Some(selector) => {
                        LabelSelector::from_tree(&serde_json::to_value(selector)?).map_err(TrustError::Selector)?
                    }
                    None => LabelSelector::nothing(),
                };
                let mut found = bundles.by_index("signer", signer);
                found.retain(|object| selector.matches(|key| object.meta.label(key)));
                if found.is_empty() && source.optional != Some(true) {
                    return Err(TrustError::NoneMatched);
                }
                found
            }
            (None, None) => return Err(TrustError::NothingNamed),
        };
        let bundles = found.iter().map(|object| object.decode::<ClusterTrustBundle>());
        let texts = bundles.map(|bundle| bundle.map(|b| b.spec.trust_bundle));
        normalized(&self.seed, &texts.collect::<Result<Vec<_>, _>>()?)
    }
}

/// Every certificate once, without what stands between them.
fn normalized(seed: &[u8], bundles: &[String]) -> Result<String, TrustError> {
    let mut anchors = BTreeSet::new();
    for bundle in bundles {
        for certificate in CertificateDer::pem_slice_iter(bundle.as_bytes()) {
            let certificate = certificate?;
            let order = Sha256::new().chain_update(seed).chain_update(&certificate).finalize();
            anchors.insert((order, certificate.to_vec()));
        }
    }
    Ok(anchors.iter().map(|(_, der)| pki::certificate_pem(der)).collect())
}

/// Whether a change of a bundle concerns one of the projections.
pub fn concerns(change: &Change, sources: &[ClusterTrustBundleProjection]) -> bool {
    let sides = [&change.old, &change.new];
    sides.into_iter().flatten().any(|object| {
        let signer = signer_of(object);
        sources.iter().any(|source| match &source.name {
            Some(name) => **name == *object.meta.name,
            None => source.signer_name.is_some() && source.signer_name == signer,
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn anchor(content: &[u8]) -> String {
        pki::certificate_pem(content)
    }

    #[test]
    fn certificates_of_several_bundles_are_shown_once_in_an_order_that_stays() {
        let (a, b) = (anchor(b"one"), anchor(b"two"));
        let bundles = [format!("said before\n{a}{b}"), b.clone(), format!("\n\n{a}")];
        let shown = normalized(b"seed", &bundles).unwrap();
        assert!(shown == format!("{a}{b}") || shown == format!("{b}{a}"), "{shown}");
        let other = [b.clone(), a.clone()];
        assert_eq!(normalized(b"seed", &other).unwrap(), shown);
        let orders: BTreeSet<String> = (0..64u8).map(|seed| normalized(&[seed], &other).unwrap()).collect();
        assert_eq!(orders.len(), 2, "the order does not depend on the seed");
    }

    #[test]
    fn a_change_concerns_those_who_show_its_bundle_or_its_signers() {
        let bundle = |name: &str, signer: &str| {
            let json = serde_json::json!({ "metadata": { "name": name, "resourceVersion": "1" },
                "spec": { "signerName": signer, "trustBundle": "" } });
            Object::parse(json.to_string().into()).unwrap()
        };
        let source =
            |json: serde_json::Value| -> ClusterTrustBundleProjection { serde_json::from_value(json).unwrap() };
        let named = [source(serde_json::json!({ "name": "a", "path": "p" }))];
        let signed = [source(serde_json::json!({ "signerName": "e/s", "path": "p" }))];
        let change = |old: Option<(&str, &str)>, new: Option<(&str, &str)>| Change {
            old: old.map(|(n, s)| bundle(n, s)),
            new: new.map(|(n, s)| bundle(n, s)),
        };
        assert!(concerns(&change(None, Some(("a", "x/y"))), &named));
        assert!(!concerns(&change(None, Some(("b", "e/s"))), &named));
        assert!(concerns(&change(Some(("b", "e/s")), None), &signed));
        assert!(!concerns(&change(Some(("b", "e/t")), None), &signed));
    }
}
