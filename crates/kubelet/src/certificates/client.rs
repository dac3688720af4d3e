//! The certificate by which the API server knows the kubelet.

use std::path::Path;
use std::time::Duration;

use client::{Client, Config, Kubeconfig, RotatingTransport};
use pki::renewal::{self, Renewable};
use time::OffsetDateTime;

use super::request::Wanted;
use super::{CertificateError, Store};

/// Between requests at the start; doubles.
const FIRST_RETRY: Duration = Duration::from_secs(1);
const LONGEST_RETRY: Duration = Duration::from_secs(60);

/// Where a kubelet finds its way to the API server, or makes it.
pub(crate) struct Way<'a> {
    /// `--kubeconfig`
    pub kubeconfig: &'a Path,
    /// `--bootstrap-kubeconfig`
    pub bootstrap: Option<&'a Path>,
    pub store: &'a Store,
    pub node: &'a str,
    /// `rotateCertificates`
    pub rotate: bool,
}

/// The configuration of the kubelet's client. A kubeconfig that is not there, or whose certificate is over, is made with the one for
/// bootstrapping: this waits until the cluster has signed.
///
/// # Errors
/// For kubeconfigs that cannot be used, and a refused request.
pub(crate) async fn find(way: &Way<'_>) -> Result<Config, CertificateError> {
    let now = OffsetDateTime::now_utc();
    let Some(bootstrap) = way.bootstrap.filter(|_| !is_valid(way.kubeconfig, now)) else {
        let mut config = Kubeconfig::load(way.kubeconfig)?.config(None)?;
        // a kubeconfig that kubeadm wrote holds the first certificate for ever
        if let Some(pem) = way.store.load(now)?.filter(|_| way.rotate) {
            config.set_client_certificate(&pem);
        }
        return Ok(config);
    };
    let config = Kubeconfig::load(bootstrap)?.config(None)?;
    if way.store.load(now)?.is_none() {
        let client = config.client("skiff-kubelet")?;
        let pem = until_issued(&wanted(way.node), &client).await?;
        way.store.save(&pem, OffsetDateTime::now_utc())?;
    }
    let text = kubeconfig(&config, &way.store.current());
    let path = way.kubeconfig;
    pki::write_file(path, text.as_bytes(), 0o600).map_err(|error| CertificateError::File {
        path: path.to_owned(),
        source: std::io::Error::other(error),
    })?;
    Ok(Kubeconfig::load(path)?.config(None)?)
}

fn wanted(node: &str) -> Wanted {
    Wanted {
        signer: "kubernetes.io/kube-apiserver-client-kubelet",
        usage: "client auth",
        node: node.to_owned(),
        names: Vec::new(),
    }
}

/// Asks until there is a certificate. What is refused stays so: a kubelet that goes on asking would only fill the list.
async fn until_issued(wanted: &Wanted, client: &Client) -> Result<String, CertificateError> {
    use super::RequestError::{Client as Unanswered, Deleted, Late};
    let mut delay = FIRST_RETRY;
    loop {
        match wanted.ask(client).await {
            Err(error @ (Unanswered(_) | Deleted(_) | Late(_))) => {
                tracing::warn!(%error, "waiting for the kubelet's certificate");
                tokio::time::sleep(delay.mul_f64(1.0 + renewal::chance())).await;
                delay = (delay * 2).min(LONGEST_RETRY);
            }
            done => return Ok(done?),
        }
    }
}

/// Whether a kubeconfig is there whose certificate, if it has one, is valid.
fn is_valid(path: &Path, now: OffsetDateTime) -> bool {
    let config = Kubeconfig::load(path).and_then(|config| config.config(None));
    match config.map(|config| config.tls.cert_pem) {
        Ok(Some(pem)) => pki::has_expired(&String::from_utf8_lossy(&pem), now).is_ok_and(|expired| !expired),
        Ok(None) => true,
        Err(_) => false,
    }
}

/// The way of the one for bootstrapping, with the certificate that is kept. JSON is YAML.
fn kubeconfig(bootstrap: &Config, current: &Path) -> String {
    use base64::Engine;
    let tls = &bootstrap.tls;
    let mut cluster = serde_json::json!({ "server": bootstrap.server });
    if let Some(pem) = &tls.ca_pem {
        cluster["certificate-authority-data"] = base64::engine::general_purpose::STANDARD.encode(pem).into();
    }
    if let Some(name) = &tls.server_name {
        cluster["tls-server-name"] = name.as_str().into();
    }
    if tls.insecure {
        cluster["insecure-skip-tls-verify"] = true.into();
    }
    let tree = serde_json::json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "default-context",
        "clusters": [{ "name": "default-cluster", "cluster": cluster }],
        "contexts": [{
            "name": "default-context",
            "context": { "cluster": "default-cluster", "namespace": "default", "user": "default-auth" },
        }],
        "users": [{
            "name": "default-auth", "user": { "client-certificate": current, "client-key": current },
        }],
    });
    api::yaml::to_string(&tree)
}

/// Renews it (`rotateCertificates`).
pub(crate) struct ClientCertificate {
    pub store: Store,
    pub node: String,
    pub config: Config,
    pub transport: RotatingTransport,
    pub client: Client,
}

impl Renewable for ClientCertificate {
    type Error = CertificateError;

    const WHOSE: &str = "kubelet's client";

    fn due(&self, chance: f64) -> OffsetDateTime {
        let pem = self.config.tls.cert_pem.as_deref().unwrap_or_default();
        renewal::first([pki::renewal_time(&String::from_utf8_lossy(pem), chance)])
    }

    async fn renew(&mut self) -> Result<bool, CertificateError> {
        let pem = wanted(&self.node).ask(&self.client).await?;
        self.store.save(&pem, OffsetDateTime::now_utc())?;
        self.config.set_client_certificate(&pem);
        self.transport.replace(&self.config)?;
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kubeconfig_that_is_made_leads_where_the_one_for_bootstrapping_led() {
        let dir = tempfile::tempdir().unwrap();
        let current = dir.path().join("kubelet-client-current.pem");
        std::fs::write(&current, "both").unwrap();
        let mut bootstrap = Config {
            server: "https://a:6443".into(),
            ..Config::default()
        };
        bootstrap.tls.ca_pem = Some(b"authority".to_vec());
        let made = Kubeconfig::parse(&kubeconfig(&bootstrap, &current))
            .unwrap()
            .config(None)
            .unwrap();
        assert_eq!(
            (made.server, made.namespace.as_deref()),
            (bootstrap.server.clone(), Some("default"))
        );
        assert_eq!(made.tls.ca_pem, bootstrap.tls.ca_pem);
        assert_eq!(
            (made.tls.cert_pem.as_deref(), made.tls.key_pem.as_deref()),
            (Some(&b"both"[..]), Some(&b"both"[..]))
        );
        let now = OffsetDateTime::now_utc();
        assert!(!is_valid(&dir.path().join("none"), now));
        let path = dir.path().join("kubeconfig");
        std::fs::write(&path, kubeconfig(&bootstrap, &current)).unwrap();
        assert!(!is_valid(&path, now), "no certificate is in the file");
    }
}
