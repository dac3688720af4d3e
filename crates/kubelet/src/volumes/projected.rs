//! Files of projected volumes that come from certificates: trust bundles, and a pod's own.

use std::collections::HashMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{ClusterTrustBundleProjection, PodCertificateProjection, Volume, VolumeProjection};

use super::Setup;
use super::atomic_writer::{File, Payload};
use super::payload::PayloadError;
use crate::pod_certificates::{CertificateError, Credentials};
use crate::trust_bundles::TrustError;

/// A source of a projected volume: the volume's name and the place in its list.
pub type Place = (String, usize);

/// The certificates of trust bundles, as PEM.
pub type Bundles = HashMap<Place, Result<String, Arc<TrustError>>>;

/// The pod's own certificates with their keys.
pub type Certificates = HashMap<Place, Result<Credentials, CertificateError>>;

/// What projections of certificates show.
#[derive(Debug, Default)]
pub struct Projected {
    pub bundles: Bundles,
    pub certificates: Certificates,
}

/// The sources of projected volumes with their places.
pub fn sources<'a>(volumes: impl Iterator<Item = &'a Volume>) -> impl Iterator<Item = (Place, &'a VolumeProjection)> {
    volumes.flat_map(|volume| {
        let sources = volume.projected.iter().flat_map(|p| p.sources.iter().flatten());
        sources
            .enumerate()
            .map(|(i, source)| ((volume.name.clone(), i), source))
    })
}

impl Setup<'_> {
    pub(super) fn trust_bundle(
        &self,
        place: &Place,
        source: &ClusterTrustBundleProjection,
        default: Option<i32>,
        files: &mut Payload,
    ) -> Result<(), PayloadError> {
        match self.projected.bundles.get(place) {
            Some(Ok(certificates)) => {
                files.insert(source.path.clone(), self.private_file(certificates.clone(), default));
                Ok(())
            }
            Some(Err(error)) => Err(error.clone().into()),
            None => Err(Arc::new(TrustError::NotSynced).into()),
        }
    }

    pub(super) fn pod_certificate(
        &self,
        place: &Place,
        source: &PodCertificateProjection,
        default: Option<i32>,
        files: &mut Payload,
    ) -> Result<(), PayloadError> {
        let Credentials { key, chain } = match self.projected.certificates.get(place) {
            Some(Ok(credentials)) => credentials,
            Some(Err(error)) => return Err(error.clone().into()),
            None => return Err(CertificateError::NotIssued.into()),
        };
        for (path, content) in [
            (&source.credential_bundle_path, format!("{key}{chain}")),
            (&source.key_path, key.clone()),
            (&source.certificate_chain_path, chain.clone()),
        ] {
            if let Some(path) = path.as_ref().filter(|path| !path.is_empty()) {
                files.insert(path.clone(), self.private_file(content, default));
            }
        }
        Ok(())
    }

    fn private_file(&self, content: String, default: Option<i32>) -> File {
        let (owner, mode) = self.private(default);
        File {
            content: content.into_bytes(),
            mode,
            owner,
        }
    }
}
