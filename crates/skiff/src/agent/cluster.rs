//! The conversation with a server before and beside the API: whom to trust, what the cluster's settings are, certificates.

use bytes::Bytes;
use client::{Config, HttpsTransport, TlsConfig, Transport};
use http::{Method, Request, StatusCode, header};
use http_body_util::BodyExt;
use serde_json::{Value, json};

use crate::join::token::ca_hash;
use crate::join::{self, AGENT_USER, JoinToken, SERVER_USER};
use crate::node::{ClusterSettings, NodeIdentity};

/// Bytes of an answer that are read.
const LONGEST: usize = 1 << 20;

/// Why a server does not take a node.
#[derive(Debug, thiserror::Error)]
pub enum ClusterError {
    #[error("failed to get CA certs: {0}")]
    Unreachable(#[source] client::Error),
    #[error("CA cert validation failed: {0}")]
    Unverified(#[source] client::Error),
    #[error("token CA hash does not match the Cluster CA certificate hash: {expected} != {found}")]
    Hash { expected: String, found: String },
    #[error(
        "the cluster's CA is another one than when this node joined, and the token has no CA hash that would say which is right: \
         give the full token of the server's node-token file"
    )]
    OtherAuthority,
    #[error(
        "Node password rejected, duplicate hostname or contents of the node's password file may not match the server's \
         {node}.node-password.skiff Secret, try enabling a unique node name with the --with-node-id flag: {message}"
    )]
    Name { node: String, message: String },
    #[error("the server refuses the token: {path}: {message}")]
    Token { path: String, message: String },
    #[error("{path}: {code}: {message}")]
    Refused {
        path: String,
        code: StatusCode,
        message: String,
    },
    #[error(transparent)]
    Client(#[from] client::Error),
    #[error("{path}: the answer cannot be read: {why}")]
    Answer { path: String, why: String },
    #[error("--token is required")]
    NoToken,
    #[error(transparent)]
    Pki(#[from] pki::PkiError),
}

impl ClusterError {
    /// Whether waiting will not make it right: somebody has to change something first.
    pub fn is_final(&self) -> bool {
        match self {
            ClusterError::Hash { .. }
            | ClusterError::OtherAuthority
            | ClusterError::Name { .. }
            | ClusterError::Token { .. }
            | ClusterError::NoToken
            | ClusterError::Pki(_) => true,
            ClusterError::Refused { code, .. } => *code == StatusCode::BAD_REQUEST || *code == StatusCode::FORBIDDEN,
            ClusterError::Unreachable(_)
            | ClusterError::Unverified(_)
            | ClusterError::Client(_)
            | ClusterError::Answer { .. } => false,
        }
    }
}

type Result<T> = std::result::Result<T, ClusterError>;

/// A certificate by which the node is known, and its key, as PEM.
#[derive(Debug, Clone)]
pub struct Pair {
    pub certificate: String,
    pub key: String,
}

/// A cluster whose authority is known.
#[derive(Debug, Clone)]
pub struct Cluster {
    url: String,
    /// PEM of the authority of its servers' certificates.
    pub authority: String,
    token: Option<JoinToken>,
}

impl Cluster {
    /// Asks a server for the cluster's authority and holds it against the token's digest. Without a digest, the authority that the node
    /// joined with is the only right one; at first any is.
    ///
    /// # Errors
    /// When no server answers, and for an authority that is not the right one.
    pub async fn find(url: &str, token: Option<JoinToken>, joined: Option<&str>) -> Result<Cluster> {
        let unverified = TlsConfig {
            insecure: true,
            ..TlsConfig::default()
        };
        let transport = HttpsTransport::new(&config(url, unverified)).map_err(ClusterError::Unreachable)?;
        let authority = get(&transport, join::CA_CERTS, None)
            .await
            .map_err(|error| match error {
                ClusterError::Client(error) => ClusterError::Unreachable(error),
                other => other,
            })?;
        match token.as_ref().and_then(|token| token.ca_hash.as_ref()) {
            Some(expected) => {
                let found = ca_hash(&authority);
                if *expected != found {
                    let expected = expected.clone();
                    return Err(ClusterError::Hash { expected, found });
                }
            }
            None => match joined {
                Some(joined) if joined != authority => return Err(ClusterError::OtherAuthority),
                Some(_) => {}
                None => tracing::warn!(
                    "the token does not include a CA hash: the cluster's CA is believed as it is; use the full token from the \
                     server's node-token file to have it validated"
                ),
            },
        }
        let cluster = Cluster {
            url: url.to_owned(),
            authority,
            token,
        };
        let verified = cluster.transport(None).map_err(ClusterError::Unverified)?;
        match get(&verified, join::CA_CERTS, None).await {
            Err(ClusterError::Client(error)) => Err(ClusterError::Unverified(error)),
            other => other.map(|_| cluster),
        }
    }

    /// The way to the API as whom a certificate names.
    pub fn config(&self, identity: Option<&Pair>) -> Config {
        let pem = |text: fn(&Pair) -> &String| identity.map(|pair| text(pair).clone().into_bytes());
        config(
            &self.url,
            TlsConfig {
                ca_pem: Some(self.authority.clone().into_bytes()),
                cert_pem: pem(|pair| &pair.certificate),
                key_pem: pem(|pair| &pair.key),
                ..TlsConfig::default()
            },
        )
    }

    fn transport(&self, identity: Option<&Pair>) -> client::Result<HttpsTransport> {
        HttpsTransport::new(&self.config(identity))
    }

    /// The cluster's settings.
    pub async fn settings(&self, identity: Option<&Pair>) -> Result<ClusterSettings> {
        let text = self.ask(Method::GET, join::CONFIG, identity, None, Vec::new()).await?;
        serde_json::from_str(&text).map_err(|e| ClusterError::Answer {
            path: join::CONFIG.into(),
            why: e.to_string(),
        })
    }

    /// The authority of clients' certificates.
    pub async fn client_authority(&self, identity: Option<&Pair>) -> Result<String> {
        self.ask(Method::GET, join::CLIENT_CA, identity, None, Vec::new()).await
    }

    /// The addresses of all servers.
    pub async fn servers(&self, identity: Option<&Pair>) -> Result<Vec<String>> {
        let text = self
            .ask(Method::GET, join::API_SERVERS, identity, None, Vec::new())
            .await?;
        serde_json::from_str(&text).map_err(|e| ClusterError::Answer {
            path: join::API_SERVERS.into(),
            why: e.to_string(),
        })
    }

    /// A certificate for a new key, which stays here.
    pub async fn certificate(&self, path: &str, identity: Option<&Pair>, node: &Named<'_>) -> Result<Pair> {
        let (key, request) = pki::key_and_request()?;
        let certificate = self.ask(Method::POST, path, identity, Some(node), request).await?;
        // what is no certificate is not kept
        pki::needs_renewal(&certificate, time::OffsetDateTime::now_utc()).map_err(|e| ClusterError::Answer {
            path: path.into(),
            why: e.to_string(),
        })?;
        Ok(Pair { certificate, key })
    }

    /// Puts another token in the place of the cluster's: a random one unless it is given. Asks as a server.
    pub async fn rotate(&self, new: Option<&str>) -> Result<()> {
        let body = json!({ "newToken": new }).to_string();
        let token = self.token.as_ref().ok_or(ClusterError::NoToken)?;
        let mut asked = request(&Method::PUT, join::TOKEN, None, None, body.as_bytes())?;
        let header = token.credentials.header(SERVER_USER).parse().map_err(http::Error::from);
        asked
            .headers_mut()
            .insert(header::AUTHORIZATION, header.map_err(client::Error::from)?);
        let answered = answer(&self.transport(None)?, join::TOKEN, asked).await;
        answered.map(drop).map_err(|error| named(error, None))
    }

    /// Asks as the node, and by the token where the server does not know the node (any more).
    async fn ask(
        &self,
        method: Method,
        path: &str,
        identity: Option<&Pair>,
        node: Option<&Named<'_>>,
        body: Vec<u8>,
    ) -> Result<String> {
        if identity.is_some() {
            let asked = request(&method, path, node, None, &body)?;
            match answer(&self.transport(identity)?, path, asked).await {
                Err(ClusterError::Refused { code, .. }) if code == StatusCode::UNAUTHORIZED && self.token.is_some() => {
                    tracing::info!(path, "the node's certificate is not accepted; asking by the token");
                }
                other => return other.map_err(|error| named(error, node)),
            }
        }
        let token = self.token.as_ref().ok_or(ClusterError::NoToken)?;
        let asked = request(&method, path, node, Some(token), &body)?;
        let answered = answer(&self.transport(None)?, path, asked).await;
        answered.map_err(|error| named(error, node))
    }
}

/// A node as it names itself when it asks for a certificate.
#[derive(Debug, Clone, Copy)]
pub struct Named<'a> {
    pub identity: &'a NodeIdentity,
    pub password: &'a str,
}

fn config(url: &str, tls: TlsConfig) -> Config {
    Config {
        server: url.to_owned(),
        tls,
        ..Config::default()
    }
}

fn request(
    method: &Method,
    path: &str,
    node: Option<&Named<'_>>,
    token: Option<&JoinToken>,
    body: &[u8],
) -> Result<Request<Bytes>> {
    let mut request = Request::builder().method(method).uri(path);
    if let Some(node) = node {
        let addresses = node.identity.ips.iter().chain(&node.identity.external_ips);
        let addresses: Vec<String> = addresses.map(ToString::to_string).collect();
        request = request
            .header(join::NODE_NAME, &node.identity.name)
            .header(join::NODE_PASSWORD, node.password)
            .header(join::NODE_IP, addresses.join(","));
    }
    if let Some(token) = token {
        request = request.header(header::AUTHORIZATION, token.credentials.header(AGENT_USER));
    }
    let request = request.body(Bytes::copy_from_slice(body));
    Ok(request.map_err(client::Error::from)?)
}

async fn get(transport: &HttpsTransport, path: &str, token: Option<&JoinToken>) -> Result<String> {
    answer(transport, path, request(&Method::GET, path, None, token, &[])?).await
}

/// Sends a request and reads its answer.
async fn answer(transport: &HttpsTransport, path: &str, request: Request<Bytes>) -> Result<String> {
    let response = transport.call(request).await?;
    let code = response.status();
    let body = http_body_util::Limited::new(response.into_body(), LONGEST)
        .collect()
        .await;
    let unreadable = |why: String| ClusterError::Answer {
        path: path.to_owned(),
        why,
    };
    let bytes = body.map_err(|e| unreadable(e.to_string()))?.to_bytes();
    if code.is_success() {
        return String::from_utf8(bytes.to_vec()).map_err(|e| unreadable(e.to_string()));
    }
    let status: Value = serde_json::from_slice(&bytes).unwrap_or_default();
    let message = status["message"].as_str().unwrap_or_default().to_owned();
    Err(ClusterError::Refused {
        path: path.to_owned(),
        code,
        message,
    })
}

/// A refusal in the words of who asked.
fn named(error: ClusterError, node: Option<&Named<'_>>) -> ClusterError {
    match (error, node) {
        (ClusterError::Refused { code, message, .. }, Some(node)) if code == StatusCode::FORBIDDEN => {
            ClusterError::Name {
                node: node.identity.name.clone(),
                message,
            }
        }
        (ClusterError::Refused { path, code, message }, _) if code == StatusCode::UNAUTHORIZED => {
            ClusterError::Token { path, message }
        }
        (other, _) => other,
    }
}
