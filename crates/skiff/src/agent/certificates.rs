//! The node's certificates: their files below `agent`, in k3s's layout, and their renewal while the node runs.

use std::path::PathBuf;
use std::sync::Arc;

use client::RotatingTransport;
use time::OffsetDateTime;

use super::cluster::{Cluster, ClusterError, Named, Pair};
use crate::join;
use crate::node::NodeIdentity;
use pki::renewal::{self, Renewable};

const SERVING: &str = "serving-kubelet";
const KUBELET: &str = "client-kubelet";
const KUBE_PROXY: &str = "client-kube-proxy";
const CONTROLLER: &str = "client-skiff-controller";

/// What the node is known by.
#[derive(Debug, Clone)]
pub struct Certificates {
    pub serving: Pair,
    pub kubelet: Pair,
    pub kube_proxy: Pair,
    pub controller: Pair,
}

/// The folder of the files.
#[derive(Debug, Clone)]
pub struct Files(pub PathBuf);

impl Files {
    fn read(&self, name: &str) -> Option<String> {
        std::fs::read_to_string(self.0.join(name)).ok()
    }

    /// The authority that the node joined with.
    pub fn server_authority(&self) -> Option<String> {
        self.read("server-ca.crt")
    }

    /// The kubelet's own certificate, if there is one that is still valid.
    pub fn kubelet(&self, now: OffsetDateTime) -> Option<Pair> {
        let certificate = self.read(&format!("{KUBELET}.crt"))?;
        let key = self.read(&format!("{KUBELET}.key"))?;
        let valid = pki::has_expired(&certificate, now).is_ok_and(|expired| !expired);
        valid.then_some(Pair { certificate, key })
    }

    /// Writes everything that a program beside skiff needs to act as the node: certificates, authorities, kubeconfigs.
    pub fn write(
        &self,
        certificates: &Certificates,
        cluster: &Cluster,
        client_authority: &str,
        server: &str,
    ) -> Result<(), pki::PkiError> {
        let put = |name: &str, text: &str, mode| pki::write_file(&self.0.join(name), text.as_bytes(), mode);
        put("server-ca.crt", &cluster.authority, 0o644)?;
        put("client-ca.crt", client_authority, 0o644)?;
        for (name, pair) in [
            (SERVING, &certificates.serving),
            (KUBELET, &certificates.kubelet),
            (KUBE_PROXY, &certificates.kube_proxy),
            (CONTROLLER, &certificates.controller),
        ] {
            put(&format!("{name}.key"), &pair.key, 0o600)?;
            put(&format!("{name}.crt"), &pair.certificate, 0o644)?;
        }
        for (name, pair) in [
            ("kubelet.kubeconfig", &certificates.kubelet),
            ("kubeproxy.kubeconfig", &certificates.kube_proxy),
            ("skiffcontroller.kubeconfig", &certificates.controller),
        ] {
            let text = pki::kubeconfig("default", server, &cluster.authority, &pair.certificate, &pair.key);
            put(name, &text, 0o600)?;
        }
        Ok(())
    }
}

/// Asks for all of them.
pub async fn ask(cluster: &Cluster, known_as: Option<&Pair>, named: &Named<'_>) -> Result<Certificates, ClusterError> {
    // the kubelet's first: whoever may not have the name has nothing
    let kubelet = cluster.certificate(join::CLIENT_KUBELET, known_as, named).await?;
    Ok(Certificates {
        serving: cluster.certificate(join::SERVING_KUBELET, known_as, named).await?,
        kube_proxy: cluster.certificate(join::CLIENT_KUBE_PROXY, known_as, named).await?,
        controller: cluster.certificate(join::CLIENT_CONTROLLER, known_as, named).await?,
        kubelet,
    })
}

/// Renews the certificates, all at a time.
pub struct Renewal {
    pub cluster: Cluster,
    pub files: Files,
    pub identity: NodeIdentity,
    pub password: String,
    pub client_authority: String,
    pub server: String,
    pub current: Certificates,
    pub kubelet: RotatingTransport,
    pub kube_proxy: RotatingTransport,
    pub controller: RotatingTransport,
    pub serving: Arc<serving::Certificate>,
}

/// Why certificates are not renewed.
#[derive(Debug, thiserror::Error)]
pub enum RenewalError {
    #[error(transparent)]
    Cluster(#[from] ClusterError),
    #[error(transparent)]
    Pki(#[from] pki::PkiError),
    #[error(transparent)]
    Client(#[from] client::Error),
    #[error(transparent)]
    Serving(#[from] serving::CertificateError),
}

impl Renewable for Renewal {
    type Error = RenewalError;

    const WHOSE: &str = "agent";

    fn due(&self, chance: f64) -> OffsetDateTime {
        let current = &self.current;
        let all = [
            &current.serving,
            &current.kubelet,
            &current.kube_proxy,
            &current.controller,
        ];
        renewal::first(all.map(|pair| pki::renewal_time(&pair.certificate, chance)))
    }

    async fn renew(&mut self) -> Result<bool, RenewalError> {
        let named = Named {
            identity: &self.identity,
            password: &self.password,
        };
        let expired = pki::has_expired(&self.current.kubelet.certificate, OffsetDateTime::now_utc())?;
        let known_as = (!expired).then_some(&self.current.kubelet);
        let new = ask(&self.cluster, known_as, &named).await?;
        self.files
            .write(&new, &self.cluster, &self.client_authority, &self.server)?;
        self.serving.replace(&new.serving.certificate, &new.serving.key)?;
        self.kubelet.replace(&self.cluster.config(Some(&new.kubelet)))?;
        self.kube_proxy.replace(&self.cluster.config(Some(&new.kube_proxy)))?;
        self.controller.replace(&self.cluster.config(Some(&new.controller)))?;
        self.current = new;
        Ok(true)
    }
}
