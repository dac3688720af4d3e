//! The certificate that the kubelet's server shows (`serverTLSBootstrap`).

use std::sync::Arc;

use client::Client;
use pki::renewal::{self, Renewable};
use serving::Certificate;
use time::OffsetDateTime;

use super::request::Wanted;
use super::{CertificateError, Store};

/// Asks for it and renews it. Somebody has to approve each request: the cluster does not by itself.
pub(crate) struct ServingCertificate {
    store: Store,
    wanted: Wanted,
    client: Client,
    /// The newest; none before the first is issued.
    pem: Option<String>,
    shown: Arc<Certificate>,
}

impl ServingCertificate {
    /// The certificate that is kept, or none yet: connections fail until there is one, as upstream's.
    ///
    /// # Errors
    /// When what is kept cannot be read or shown.
    pub fn load(
        store: Store,
        node: &str,
        names: Vec<String>,
        client: Client,
    ) -> Result<ServingCertificate, CertificateError> {
        let pem = store.load(OffsetDateTime::now_utc())?;
        let shown = match &pem {
            Some(pem) => Certificate::new(pem, pem)?,
            None => Certificate::missing(),
        };
        let wanted = Wanted {
            signer: "kubernetes.io/kubelet-serving",
            usage: "server auth",
            node: node.to_owned(),
            names,
        };
        Ok(ServingCertificate {
            store,
            wanted,
            client,
            pem,
            shown,
        })
    }

    /// What a server is to show.
    pub fn shown(&self) -> Arc<Certificate> {
        self.shown.clone()
    }
}

impl Renewable for ServingCertificate {
    type Error = CertificateError;

    const WHOSE: &str = "kubelet's server";

    fn due(&self, chance: f64) -> OffsetDateTime {
        renewal::first(self.pem.as_ref().map(|pem| pki::renewal_time(pem, chance)))
    }

    async fn renew(&mut self) -> Result<bool, CertificateError> {
        let pem = self.wanted.ask(&self.client).await?;
        self.store.save(&pem, OffsetDateTime::now_utc())?;
        self.shown.replace(&pem, &pem)?;
        self.pem = Some(pem);
        Ok(true)
    }
}
