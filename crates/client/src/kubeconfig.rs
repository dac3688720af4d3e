//! Kubeconfig files: which server, whom to trust, who we are.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use base64::Engine;
use serde::Deserialize;

use crate::{Client, Error, HttpsTransport, Result, TlsConfig};

/// What `Authorization` says with each request: a bearer token, where it is kept, or a name and a password.
#[derive(Debug, Clone)]
pub enum Token {
    /// The token itself.
    Value(String),
    /// A file with the token, which is read again as it changes.
    File(PathBuf),
    /// Basic authentication, which proxies before a server may ask for.
    Password {
        /// The user's name.
        username: String,
        /// The user's password.
        password: String,
    },
}

/// What is needed to reach one API server.
#[derive(Debug, Clone, Default)]
pub struct Config {
    /// `https://host:port`, optionally with a path prefix.
    pub server: String,
    /// Trust and identity.
    pub tls: TlsConfig,
    /// What is sent with each request.
    pub token: Option<Token>,
    /// The namespace of the context, if it names one.
    pub namespace: Option<String>,
}

impl Config {
    /// The configuration of a pod's service account.
    pub fn in_cluster() -> Result<Config> {
        const DIR: &str = "/var/run/secrets/kubernetes.io/serviceaccount";
        let var =
            |name: &str| std::env::var(name).map_err(|_| Error::Config(format!("{name} is not set: not in a pod")));
        let host = var("KUBERNETES_SERVICE_HOST")?;
        let host = if host.contains(':') { format!("[{host}]") } else { host };
        Ok(Config {
            server: format!("https://{host}:{}", var("KUBERNETES_SERVICE_PORT")?),
            tls: TlsConfig {
                ca_pem: Some(read(Path::new(&format!("{DIR}/ca.crt")))?),
                ..TlsConfig::default()
            },
            token: Some(Token::File(format!("{DIR}/token").into())),
            namespace: std::fs::read_to_string(format!("{DIR}/namespace")).ok(),
        })
    }

    /// Makes who asks known by a certificate; it and its key are one PEM text.
    pub fn set_client_certificate(&mut self, pem: &str) {
        self.tls.cert_pem = Some(pem.as_bytes().to_vec());
        self.tls.key_pem = self.tls.cert_pem.clone();
        self.token = None;
    }

    /// A client over HTTPS.
    pub fn client(&self, user_agent: &str) -> Result<Client> {
        Ok(Client::new(Arc::new(HttpsTransport::new(self)?), user_agent))
    }
}

/// A kubeconfig file (`client.authentication.k8s.io` exec plugins are refused).
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub struct Kubeconfig {
    /// The name of the context that is used unless another is asked for.
    #[serde(rename = "current-context")]
    pub current_context: String,
    /// Servers by name.
    pub clusters: Vec<Named<Cluster>>,
    /// Pairs of a cluster and a user by name.
    pub contexts: Vec<Named<Context>>,
    /// Credentials by name.
    pub users: Vec<Named<User>>,
    /// Relative paths in the file start here.
    #[serde(skip)]
    pub dir: PathBuf,
}

/// An entry of one of the three lists.
#[derive(Debug, Clone, Default, Deserialize)]
pub struct Named<T> {
    /// The entry's name.
    pub name: String,
    /// The entry's content.
    #[serde(alias = "cluster", alias = "context", alias = "user")]
    pub value: T,
}

/// A server, and how it is trusted.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub struct Cluster {
    /// `https://host:port`, with or without a path.
    pub server: String,
    /// The name in the server's certificate, where it is not the host.
    pub tls_server_name: Option<String>,
    /// Any certificate is right.
    pub insecure_skip_tls_verify: bool,
    /// A file with the certificates that sign the server's, as PEM.
    pub certificate_authority: Option<PathBuf>,
    /// The same in base64, before the file.
    pub certificate_authority_data: Option<String>,
    /// A proxy before the server, which is refused.
    pub proxy_url: Option<String>,
}

/// A cluster with a user of it.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub struct Context {
    /// The cluster's name.
    pub cluster: String,
    /// The user's name.
    pub user: String,
    /// The namespace of commands that name none.
    pub namespace: Option<String>,
}

/// Credentials.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub struct User {
    /// A file with a certificate, as PEM.
    pub client_certificate: Option<PathBuf>,
    /// The same in base64, before the file.
    pub client_certificate_data: Option<String>,
    /// A file with the certificate's key, as PEM.
    pub client_key: Option<PathBuf>,
    /// The same in base64, before the file.
    pub client_key_data: Option<String>,
    /// A bearer token.
    pub token: Option<String>,
    /// A file with a bearer token, which is read again as it changes.
    #[serde(rename = "tokenFile")]
    pub token_file: Option<PathBuf>,
    /// The name of basic authentication.
    pub username: Option<String>,
    /// The password of basic authentication.
    pub password: Option<String>,
    /// A program that gives credentials, which is refused here.
    pub exec: Option<serde_json::Value>,
    /// A plugin that gives credentials, which is refused.
    #[serde(rename = "auth-provider")]
    pub auth_provider: Option<serde_json::Value>,
}

fn read(path: &Path) -> Result<Vec<u8>> {
    std::fs::read(path).map_err(|e| Error::Config(format!("{}: {e}", path.display())))
}

impl Kubeconfig {
    /// Reads a file.
    pub fn load(path: impl AsRef<Path>) -> Result<Kubeconfig> {
        let path = path.as_ref();
        let text =
            String::from_utf8(read(path)?).map_err(|_| Error::Config(format!("{}: not text", path.display())))?;
        let mut config = Kubeconfig::parse(&text).map_err(|e| Error::Config(format!("{}: {e}", path.display())))?;
        config.dir = path.parent().unwrap_or(Path::new(".")).to_owned();
        Ok(config)
    }

    /// Adds what another file has and this one lacks: of entries with the same name the first one counts.
    pub fn merge(&mut self, mut other: Kubeconfig) {
        other.absolute();
        self.absolute();
        if self.current_context.is_empty() {
            self.current_context = other.current_context;
        }
        add_missing(&mut self.clusters, other.clusters);
        add_missing(&mut self.contexts, other.contexts);
        add_missing(&mut self.users, other.users);
    }

    /// Makes paths independent of the file that named them.
    fn absolute(&mut self) {
        let dir = std::mem::take(&mut self.dir);
        let join = |path: &mut Option<PathBuf>| {
            if let Some(path) = path.as_mut().filter(|p| !p.as_os_str().is_empty()) {
                *path = dir.join(&*path);
            }
        };
        for cluster in &mut self.clusters {
            join(&mut cluster.value.certificate_authority);
        }
        for Named { value: user, .. } in &mut self.users {
            join(&mut user.client_certificate);
            join(&mut user.client_key);
            join(&mut user.token_file);
        }
    }

    /// Reads the text of a file.
    ///
    /// # Errors
    /// `Config` for what is no kubeconfig.
    pub fn parse(text: &str) -> Result<Kubeconfig> {
        serde_saphyr::from_str(text).map_err(|e| Error::Config(e.to_string()))
    }

    /// The file's data, or the bytes of base64 text.
    fn data(&self, text: Option<&String>, path: Option<&PathBuf>, what: &str) -> Result<Option<Vec<u8>>> {
        if let Some(text) = text.filter(|t| !t.is_empty()) {
            let bytes = base64::engine::general_purpose::STANDARD.decode(text.trim());
            return bytes.map(Some).map_err(|e| Error::Config(format!("{what}: {e}")));
        }
        path.filter(|p| !p.as_os_str().is_empty())
            .map(|p| read(&self.dir.join(p)))
            .transpose()
    }

    /// The settings of a context, by default the current one.
    pub fn config(&self, context: Option<&str>) -> Result<Config> {
        let name = context.unwrap_or(&self.current_context);
        let context = self
            .contexts
            .iter()
            .find(|c| c.name == name)
            .ok_or_else(|| find_error("context", name))?;
        self.config_of(&context.value)
    }

    /// The settings of a context that need not be in the file.
    pub fn config_of(&self, context: &Context) -> Result<Config> {
        let cluster = self
            .clusters
            .iter()
            .find(|c| c.name == context.cluster)
            .ok_or_else(|| find_error("cluster", &context.cluster))?;
        let cluster = &cluster.value;
        if cluster.proxy_url.as_ref().is_some_and(|proxy| !proxy.is_empty()) {
            return Err(Error::Config(format!(
                "cluster {:?}: proxies are not supported",
                context.cluster
            )));
        }
        let none = User::default();
        let user = match self.users.iter().find(|u| u.name == context.user) {
            Some(user) => &user.value,
            None if context.user.is_empty() => &none,
            None => return Err(find_error("user", &context.user)),
        };
        if user.exec.is_some() || user.auth_provider.is_some() {
            return Err(Error::Config(format!(
                "user {:?}: exec plugins and auth providers are not supported",
                context.user
            )));
        }
        let token = match (&user.token_file, &user.token) {
            (Some(path), _) => Some(Token::File(self.dir.join(path))),
            (None, Some(text)) => Some(Token::Value(text.clone())),
            (None, None) => user.username.clone().map(|username| Token::Password {
                username,
                password: user.password.clone().unwrap_or_default(),
            }),
        };
        Ok(Config {
            server: cluster.server.clone(),
            tls: TlsConfig {
                ca_pem: self.data(
                    cluster.certificate_authority_data.as_ref(),
                    cluster.certificate_authority.as_ref(),
                    "certificate-authority-data",
                )?,
                cert_pem: self.data(
                    user.client_certificate_data.as_ref(),
                    user.client_certificate.as_ref(),
                    "client-certificate-data",
                )?,
                key_pem: self.data(
                    user.client_key_data.as_ref(),
                    user.client_key.as_ref(),
                    "client-key-data",
                )?,
                server_name: cluster.tls_server_name.clone(),
                insecure: cluster.insecure_skip_tls_verify,
            },
            token,
            namespace: context.namespace.clone(),
        })
    }
}

fn find_error(kind: &str, name: &str) -> Error {
    Error::Config(format!("{kind} {name:?} does not exist in the kubeconfig"))
}

fn add_missing<T>(ours: &mut Vec<Named<T>>, theirs: Vec<Named<T>>) {
    for entry in theirs {
        if !ours.iter().any(|o| o.name == entry.name) {
            ours.push(entry);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_merged_files_the_first_entry_of_a_name_counts() {
        let mut first = Kubeconfig::parse("clusters:\n- {name: c, cluster: {server: 'https://a'}}\n").unwrap();
        first.merge(Kubeconfig::parse(TEXT).unwrap());
        let config = first.config(None).unwrap();
        assert_eq!(
            (config.server.as_str(), config.namespace.as_deref()),
            ("https://a", Some("n"))
        );
    }

    const TEXT: &str = "apiVersion: v1\nkind: Config\ncurrent-context: a\nclusters:\n- name: c\n  cluster: {server: 'https://127.0.0.1:6443', certificate-authority-data: aGk=}\n\
        contexts:\n- name: a\n  context: {cluster: c, user: u, namespace: n}\nusers:\n- name: u\n  user: {token: t}\n";

    #[test]
    fn the_current_context_is_followed() {
        let config = Kubeconfig::parse(TEXT).unwrap().config(None).unwrap();
        assert_eq!(config.server, "https://127.0.0.1:6443");
        assert_eq!(config.tls.ca_pem.as_deref(), Some(&b"hi"[..]));
        assert!(matches!(config.token, Some(Token::Value(t)) if t == "t"));
        assert_eq!(config.namespace.as_deref(), Some("n"));
    }

    #[test]
    fn a_missing_context_is_named() {
        let error = Kubeconfig::parse(TEXT).unwrap().config(Some("x")).unwrap_err();
        assert_eq!(error.to_string(), "context \"x\" does not exist in the kubeconfig");
    }
}
