//! The flags of a component's own server, by upstream's names.

use std::net::IpAddr;
use std::path::{Path, PathBuf};

use clap::Args;
use client::{Client, Kubeconfig};
use k8s_openapi::api::core::v1::ConfigMap;
use serving::TlsSettings;

use crate::delegated::Delegated;

/// Where and with what a component serves, and whom it lets ask; a part of the component's own flags.
#[derive(Debug, Clone, Args)]
pub struct ServingFlags {
    /// Address to serve health and metrics on
    #[arg(long, default_value = "0.0.0.0")]
    pub bind_address: IpAddr,
    /// Port to serve health and metrics on by HTTPS; 0 serves nothing
    #[arg(long)]
    pub secure_port: Option<u16>,
    /// Certificate to serve with, its chain after it; without one the server signs its own
    #[arg(long, requires = "tls_private_key_file")]
    pub tls_cert_file: Option<PathBuf>,
    /// The certificate's key
    #[arg(long, requires = "tls_cert_file")]
    pub tls_private_key_file: Option<PathBuf>,
    /// Cipher suites of TLS 1.2 that are offered; all that are safe unless given
    #[arg(long, value_delimiter = ',')]
    tls_cipher_suites: Vec<String>,
    /// VersionTLS12 or VersionTLS13
    #[arg(long, default_value = "VersionTLS12")]
    tls_min_version: String,
    /// Whoever shows a certificate of this authority is the user that it names; without one, the authority of the cluster's client
    /// certificates, which --authentication-kubeconfig finds
    #[arg(long)]
    pub client_ca_file: Option<PathBuf>,
    /// How to have the API server review tokens; without it only certificates say who asks
    #[arg(long)]
    pub authentication_kubeconfig: Option<PathBuf>,
    /// Do not look for the authority of client certificates in the cluster
    #[arg(long, default_value_t = false, num_args = 0..=1, require_equals = true, default_missing_value = "true", action = clap::ArgAction::Set)]
    pub authentication_skip_lookup: bool,
    /// How to ask the API server who may ask for what; without it only --authorization-always-allow-paths are answered
    #[arg(long)]
    pub authorization_kubeconfig: Option<PathBuf>,
    /// Paths that everybody may ask for; /a/* is all below
    #[arg(long, value_delimiter = ',', default_values = ["/healthz", "/readyz", "/livez"])]
    pub authorization_always_allow_paths: Vec<String>,
}

/// Why flags cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum FlagError {
    /// A file that a flag names cannot be read.
    #[error("{}: {source}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// The system's error.
        source: std::io::Error,
    },
    /// A cipher suite or version of TLS that is unknown, unsafe or not to be had together.
    #[error("--tls-cipher-suites, --tls-min-version: {0}")]
    Tls(#[from] serving::TlsError),
    /// A path has its `*` elsewhere than at the end.
    #[error("--authorization-always-allow-paths: {0:?} has a * that is not at its end")]
    Pattern(String),
    /// A kubeconfig that a flag names cannot be used.
    #[error(transparent)]
    Client(#[from] client::Error),
}

/// A certificate and its key, in PEM.
pub(crate) type Identity = (Vec<u8>, Vec<u8>);

fn read(path: &Path) -> Result<Vec<u8>, FlagError> {
    std::fs::read(path).map_err(|source| FlagError::File {
        path: path.to_owned(),
        source,
    })
}

impl ServingFlags {
    /// What is offered to who connects.
    pub(crate) fn tls(&self) -> Result<TlsSettings, FlagError> {
        Ok(TlsSettings::new(&self.tls_cipher_suites, &self.tls_min_version)?)
    }

    /// What to serve with, if it is given.
    pub(crate) fn identity(&self) -> Result<Option<Identity>, FlagError> {
        match (&self.tls_cert_file, &self.tls_private_key_file) {
            (Some(certificate), Some(key)) => Ok(Some((read(certificate)?, read(key)?))),
            _ => Ok(None),
        }
    }

    /// How the API server is asked about users, and the authority of client certificates, in PEM.
    pub(crate) async fn delegated(&self, program: &str) -> Result<(Delegated, Option<Vec<u8>>), FlagError> {
        let client = |path: &Option<PathBuf>| -> Result<Option<Client>, FlagError> {
            let Some(path) = path else { return Ok(None) };
            Ok(Some(Kubeconfig::load(path)?.config(None)?.client(program)?))
        };
        let tokens_by = client(&self.authentication_kubeconfig)?;
        let authority = match (&self.client_ca_file, &tokens_by) {
            (Some(path), _) => Some(read(path)?),
            (None, Some(client)) if !self.authentication_skip_lookup => look_up(client).await,
            _ => None,
        };
        let permissions_by = client(&self.authorization_kubeconfig)?;
        Ok((Delegated::new(tokens_by, permissions_by), authority))
    }

    /// The paths that everybody may ask for.
    pub(crate) fn open_paths(&self) -> Result<OpenPaths, FlagError> {
        OpenPaths::new(&self.authorization_always_allow_paths)
    }
}

/// The authority of the cluster's client certificates, as API servers publish it. Without it certificates say nothing, which is no
/// reason not to serve.
async fn look_up(client: &Client) -> Option<Vec<u8>> {
    let name = "extension-apiserver-authentication";
    match client.get::<ConfigMap>("kube-system", name).await {
        Ok(published) => published
            .data
            .and_then(|mut data| data.remove("client-ca-file"))
            .map(String::into_bytes),
        Err(error) => {
            tracing::warn!(%error, "the authority of client certificates is not known: nobody is known by one");
            None
        }
    }
}

/// Paths that everybody may ask for.
#[derive(Debug, Clone, Default)]
pub(crate) struct OpenPaths {
    whole: Vec<String>,
    below: Vec<String>,
}

impl OpenPaths {
    fn new(patterns: &[String]) -> Result<OpenPaths, FlagError> {
        let mut open = OpenPaths::default();
        for pattern in patterns.iter().filter(|pattern| !pattern.is_empty()) {
            let path = pattern.trim_start_matches('/');
            match path.strip_suffix('*') {
                Some(prefix) if !prefix.contains('*') => open.below.push(prefix.to_owned()),
                None if !path.contains('*') => open.whole.push(path.to_owned()),
                _ => return Err(FlagError::Pattern(pattern.clone())),
            }
        }
        Ok(open)
    }

    pub(crate) fn has(&self, path: &str) -> bool {
        let path = path.trim_start_matches('/');
        self.whole.iter().any(|open| open == path) || self.below.iter().any(|prefix| path.starts_with(prefix))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn open_paths_are_whole_or_all_below() {
        let open = |patterns: &[&str]| {
            let patterns: Vec<String> = patterns.iter().map(|p| (*p).to_owned()).collect();
            OpenPaths::new(&patterns)
        };
        let some = open(&["/healthz", "/livez/*"]).unwrap();
        assert!(some.has("/healthz") && some.has("/livez/ping"));
        assert!(!some.has("/healthz/ping") && !some.has("/metrics"));
        assert!(open(&["/a*b"]).is_err());
    }
}
