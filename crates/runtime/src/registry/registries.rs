//! `registries.yaml`: mirrors of registries, and how to speak to each endpoint. The format is K3s'.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use regex::Regex;
use serde::Deserialize;

use super::auth::Credentials;
use super::proxy::Proxies;

/// Why a `registries.yaml` cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum RegistriesError {
    /// The file cannot be read.
    #[error("{path}: {error}")]
    Read {
        /// The file.
        path: String,
        /// What the system says.
        error: std::io::Error,
    },
    /// The file is not YAML of the shape.
    #[error("{path}: {reason}")]
    Parse {
        /// The file, or `registries` for a text.
        path: String,
        /// Where and why.
        reason: String,
    },
    /// A pattern of `rewrite` is no regular expression.
    #[error("registries: rewrite {pattern:?}: {error}")]
    Rewrite {
        /// The pattern.
        pattern: String,
        /// Where it is wrong.
        error: regex::Error,
    },
    /// A mirror's endpoint has another scheme than `http` and `https`, or no host.
    #[error("registries: endpoint {0:?} is not an http or https URL")]
    Endpoint(String),
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct File {
    #[serde(deserialize_with = "or_default")]
    mirrors: BTreeMap<String, Option<MirrorFile>>,
    #[serde(deserialize_with = "or_default")]
    configs: BTreeMap<String, Option<ConfigFile>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct MirrorFile {
    #[serde(deserialize_with = "or_default")]
    endpoint: Vec<String>,
    #[serde(deserialize_with = "or_default")]
    rewrite: BTreeMap<String, String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct ConfigFile {
    auth: Option<AuthFile>,
    tls: Option<TlsFiles>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct AuthFile {
    username: String,
    password: String,
    auth: String,
    identity_token: String,
}

/// Files of the TLS to an endpoint.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct TlsFiles {
    /// PEM certificates of the authorities that may sign the endpoint's certificate, in place of the public ones.
    pub ca_file: Option<PathBuf>,
    /// The client's certificate in PEM.
    pub cert_file: Option<PathBuf>,
    /// The key of that certificate in PEM.
    pub key_file: Option<PathBuf>,
    /// Any certificate of the endpoint is taken.
    pub insecure_skip_verify: bool,
}

#[derive(Debug, Clone)]
struct Mirror {
    endpoints: Vec<String>,
    rewrite: Vec<(Regex, String)>,
}

/// Settings of registries. The default has none: every registry is itself, over HTTPS.
#[derive(Debug, Clone, Default)]
pub struct Registries {
    mirrors: BTreeMap<String, Mirror>,
    configs: BTreeMap<String, (Option<Credentials>, TlsFiles)>,
    /// The proxies on the way to registries.
    pub proxies: Proxies,
}

/// Where a repository may be got.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// Scheme, host and path, without `/v2` and without a slash at the end.
    pub base: String,
    /// The repository's path there.
    pub path: String,
    /// A mirror is told whose registry it stands for.
    pub namespace: Option<String>,
}

/// An endpoint without a scheme is spoken to by HTTPS, but for a port of this machine.
fn with_scheme(endpoint: String) -> Result<String, RegistriesError> {
    match endpoint.split_once("://") {
        Some(("http" | "https", rest)) if !rest.is_empty() => Ok(endpoint),
        None if !endpoint.is_empty() => {
            let host = endpoint.split('/').next().unwrap_or_default();
            let has_port = host.rsplit_once(':').is_some_and(|(name, _)| !name.is_empty());
            let scheme = if is_local(host) && has_port { "http" } else { "https" };
            Ok(format!("{scheme}://{endpoint}"))
        }
        _ => Err(RegistriesError::Endpoint(endpoint)),
    }
}

/// What is there and null is as what is not there: `mirrors: {docker.io:}` has no endpoints.
fn or_default<'de, T: Default + Deserialize<'de>, D: serde::Deserializer<'de>>(from: D) -> Result<T, D::Error> {
    Option::deserialize(from).map(Option::unwrap_or_default)
}

fn is_local(host: &str) -> bool {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|b| b.is_ascii_digit()) => name,
        _ => host,
    };
    let name = name.trim_start_matches('[').trim_end_matches(']');
    name == "localhost" || name.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

impl Registries {
    /// A file that is not there is an empty one.
    pub fn load(path: &Path) -> Result<Self, RegistriesError> {
        match std::fs::read_to_string(path) {
            Ok(text) => Self::parse(&text).map_err(|e| match e {
                RegistriesError::Parse { reason, .. } => RegistriesError::Parse {
                    path: path.display().to_string(),
                    reason,
                },
                other => other,
            }),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(Self::default()),
            Err(error) => Err(RegistriesError::Read {
                path: path.display().to_string(),
                error,
            }),
        }
    }

    /// Reads the YAML of a `registries.yaml`. An empty text has no settings.
    ///
    /// # Errors
    /// When the text is not of the shape, a pattern is no regular expression, or an endpoint no URL.
    pub fn parse(text: &str) -> Result<Self, RegistriesError> {
        if text.trim().is_empty() {
            return Ok(Self::default());
        }
        let file: File = serde_saphyr::from_str(text).map_err(|e| RegistriesError::Parse {
            path: "registries".to_owned(),
            reason: e.to_string(),
        })?;
        let mut mirrors = BTreeMap::new();
        for (host, mirror) in file.mirrors {
            let mirror = mirror.unwrap_or_default();
            let mut rewrite = Vec::new();
            for (pattern, to) in mirror.rewrite {
                let regex = Regex::new(&pattern).map_err(|error| RegistriesError::Rewrite { pattern, error })?;
                rewrite.push((regex, to));
            }
            let mut endpoints = Vec::new();
            for endpoint in mirror.endpoint {
                let endpoint = with_scheme(endpoint)?;
                let base = endpoint.trim_end_matches('/');
                endpoints.push(base.strip_suffix("/v2").unwrap_or(base).to_owned());
            }
            mirrors.insert(host, Mirror { endpoints, rewrite });
        }
        let configs = file.configs.into_iter().map(|(host, config)| {
            let config = config.unwrap_or_default();
            let auth = config
                .auth
                .and_then(|a| Credentials::from_parts(&a.username, &a.password, &a.auth, &a.identity_token, ""));
            (host, (auth, config.tls.unwrap_or_default()))
        });
        Ok(Self {
            mirrors,
            configs: configs.collect(),
            proxies: Proxies::default(),
        })
    }

    /// Where to ask for a repository, in order; the registry itself is the last.
    pub fn endpoints(&self, host: &str, path: &str) -> Vec<Endpoint> {
        let mut found = Vec::new();
        if let Some(mirror) = self.mirrors.get(host).or_else(|| self.mirrors.get("*")) {
            let rewritten = mirror
                .rewrite
                .iter()
                .find(|(pattern, _)| pattern.is_match(path))
                .map(|(pattern, to)| pattern.replace(path, to.as_str()).into_owned());
            for base in &mirror.endpoints {
                found.push(Endpoint {
                    base: base.clone(),
                    path: rewritten.clone().unwrap_or_else(|| path.to_owned()),
                    namespace: Some(host.to_owned()),
                });
            }
        }
        let own = match host {
            "docker.io" => "https://registry-1.docker.io".to_owned(),
            host if is_local(host) && self.tls_of(host).is_none() => format!("http://{host}"),
            host => format!("https://{host}"),
        };
        if !found.iter().any(|e| e.base == own && e.path == path) {
            found.push(Endpoint {
                base: own,
                path: path.to_owned(),
                namespace: None,
            });
        }
        found
    }

    fn tls_of(&self, host: &str) -> Option<&TlsFiles> {
        self.configs
            .get(host)
            .map(|(_, tls)| tls)
            .filter(|tls| **tls != TlsFiles::default())
    }

    /// The TLS settings of an endpoint's host; the default if it has none.
    pub fn tls(&self, host: &str) -> TlsFiles {
        self.tls_of(host).cloned().unwrap_or_default()
    }

    /// The credentials for an endpoint's host. Those of `docker.io` are good for `registry-1.docker.io` too.
    pub fn credentials(&self, host: &str) -> Option<Credentials> {
        let name = if host == "registry-1.docker.io" {
            "docker.io"
        } else {
            host
        };
        let of = |name: &str| self.configs.get(name).and_then(|(auth, _)| auth.clone());
        of(host).or_else(|| of(name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mirrors_come_first_and_rewrite_paths() {
        let text = r#"
mirrors:
  docker.io:
    endpoint: ["http://mirror:5000/v2", "https://second/sub/"]
    rewrite:
      "^library/(.*)": "hub/$1"
  "*":
    endpoint: ["https://all"]
configs:
  "mirror:5000":
    auth: {username: u, password: p}
  "reg:1":
    tls: {ca_file: /ca, insecure_skip_verify: true}
"#;
        let registries = Registries::parse(text).unwrap();
        let bases = |host: &str, path: &str| {
            let found = registries.endpoints(host, path);
            found
                .into_iter()
                .map(|e| format!("{} {}", e.base, e.path))
                .collect::<Vec<_>>()
        };
        assert_eq!(
            bases("docker.io", "library/x"),
            [
                "http://mirror:5000 hub/x",
                "https://second/sub hub/x",
                "https://registry-1.docker.io library/x"
            ]
        );
        assert_eq!(bases("quay.io", "a/b"), ["https://all a/b", "https://quay.io a/b"]);
        assert!(registries.credentials("mirror:5000").is_some() && registries.credentials("x").is_none());
        assert!(registries.tls("reg:1").insecure_skip_verify);
        let plain = Registries::default();
        assert_eq!(plain.endpoints("127.0.0.1:5000", "x")[0].base, "http://127.0.0.1:5000");
        assert_eq!(plain.endpoints("reg:5000", "x")[0].base, "https://reg:5000");
        assert!(Registries::parse("mirrors: {x: {endpoint: [ftp://y]}}").is_err());
    }

    #[test]
    fn an_endpoint_without_a_scheme_is_https_and_null_is_nothing() {
        let text = "mirrors:\n  docker.io:\n    endpoint: [mirror.example.com:5000, \"localhost:5000/v2\", localhost]\n  \
                    quay.io:\nconfigs:\n  mirror.example.com:5000:\n";
        let registries = Registries::parse(text).unwrap();
        let bases = |host: &str| -> Vec<String> {
            let found = registries.endpoints(host, "a/b").into_iter();
            found.map(|e| e.base).collect()
        };
        let want = [
            "https://mirror.example.com:5000",
            "http://localhost:5000",
            "https://localhost",
            "https://registry-1.docker.io",
        ];
        assert_eq!(bases("docker.io"), want);
        assert_eq!(bases("quay.io"), ["https://quay.io"]);
        assert!(Registries::parse("mirrors:\nconfigs:\n").is_ok());
    }
}
