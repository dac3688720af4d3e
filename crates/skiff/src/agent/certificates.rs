//! The node's certificates: their files below `agent`, in k3s's layout, and their renewal while the node runs.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use client::RotatingTransport;
use time::OffsetDateTime;
use tokio_util::sync::CancellationToken;

use super::cluster::{Cluster, ClusterError, Named, Pair};
use crate::join;
use crate::node::NodeIdentity;

const SERVING: &str = "serving-kubelet";
const KUBELET: &str = "client-kubelet";
const KUBE_PROXY: &str = "client-kube-proxy";
const CONTROLLER: &str = "client-skiff-controller";
/// Between attempts when a renewal fails; doubles.
const FIRST_RETRY: Duration = Duration::from_secs(2);
const LONGEST_RETRY: Duration = Duration::from_secs(600);

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
enum RenewalError {
    #[error(transparent)]
    Cluster(#[from] ClusterError),
    #[error(transparent)]
    Pki(#[from] pki::PkiError),
    #[error(transparent)]
    Client(#[from] client::Error),
    #[error(transparent)]
    Serving(#[from] serving::CertificateError),
}

impl Renewal {
    /// Waits until they are due, again and again, until `stop`.
    pub async fn run(mut self, stop: CancellationToken) {
        let mut retry = FIRST_RETRY;
        let mut failed = false;
        loop {
            let wait = match failed {
                true => retry,
                false => until(due(&self.current, chance()), OffsetDateTime::now_utc()),
            };
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(wait) => {}
            }
            match self.renew().await {
                Ok(()) => {
                    tracing::info!("the node's certificates were renewed");
                    (failed, retry) = (false, FIRST_RETRY);
                }
                Err(error) => {
                    tracing::warn!(%error, "the node's certificates are not renewed yet");
                    retry = if failed {
                        (retry * 2).min(LONGEST_RETRY)
                    } else {
                        FIRST_RETRY
                    };
                    failed = true;
                }
            }
        }
    }

    async fn renew(&mut self) -> Result<(), RenewalError> {
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
        Ok(())
    }
}

/// When the first of them is to be renewed; at once if it cannot be told.
fn due(certificates: &Certificates, chance: f64) -> OffsetDateTime {
    let all = [
        &certificates.serving,
        &certificates.kubelet,
        &certificates.kube_proxy,
        &certificates.controller,
    ];
    let times = all.map(|pair| pki::renewal_time(&pair.certificate, chance));
    let first = times
        .into_iter()
        .map(|time| time.unwrap_or(OffsetDateTime::UNIX_EPOCH))
        .min();
    first.unwrap_or(OffsetDateTime::UNIX_EPOCH)
}

fn until(at: OffsetDateTime, now: OffsetDateTime) -> Duration {
    Duration::try_from(at - now).unwrap_or_default()
}

/// From 0 to 1.
pub fn chance() -> f64 {
    f64::from(getrandom::u32().unwrap_or_default()) / f64::from(u32::MAX)
}
