//! What a server has for its agents beside the API, on the same port and by k3s's paths: the cluster's authorities and settings,
//! certificates for nodes, and the change of the token.

pub mod node_password;
mod sign;
mod tunnel;

use cni::link::Net;
use std::collections::HashSet;
use std::sync::Arc;

use apiserver::audit::Trail;
use apiserver::authentication::certificate::{Expired, Peer, Proof};
use apiserver::http::status::ApiError;
use apiserver::http::user::User;
use apiserver::server::ApiServer;
use apiserver::server::beside::Beside;
use apiserver::server::body::{self, Body};
use apiserver::server::intake::Payload;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use client::Client;
use futures::future::BoxFuture;
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode, header};
use hyper::upgrade::OnUpgrade;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use serde_json::{Value, json};
use tokio::sync::Semaphore;

pub use self::tunnel::EgressSelectorMode;
use super::token::{Role, Tokens};
use crate::certificates::Certificates;
use crate::join::{self, BOOTSTRAPPERS};
use crate::node::ClusterSettings;

const NODES: &str = "system:nodes";
/// Requests that are answered at a time, those that make certificates and others, as k3s has it. Agents try again.
const SIGNING: usize = 10;
const OTHERS: usize = 20;
/// The same of those for a tunnel, which wait for whether there is a direct way.
const CONNECTING: usize = 50;
/// Seconds after which an agent that was one too many may ask again.
const AGAIN: u32 = 1;

type Result<T> = std::result::Result<T, ApiError>;

/// Answers agents.
pub struct Supervisor {
    pub api: Arc<ApiServer>,
    pub certificates: Arc<Certificates>,
    pub tokens: Arc<Tokens>,
    pub settings: ClusterSettings,
    /// Acts as the server itself.
    pub client: Client,
    /// The server's own node, whose name is no agent's.
    pub own_node: Option<String>,
    /// Addresses and names that are the API's: no node gets a certificate for them.
    pub own_names: HashSet<String>,
    pub service_networks: Vec<Net>,
    /// How agents are reached.
    pub egress: EgressSelectorMode,
    pub seats: Seats,
}

/// Places for requests in flight.
pub struct Seats {
    signing: Semaphore,
    others: Semaphore,
    connecting: Semaphore,
}

impl Default for Seats {
    fn default() -> Seats {
        Seats {
            signing: Semaphore::new(SIGNING),
            others: Semaphore::new(OTHERS),
            connecting: Semaphore::new(CONNECTING),
        }
    }
}

/// Who asks.
#[derive(Debug)]
enum Asker {
    /// By the secret of a token.
    Token(Role),
    User(User),
}

impl Beside for Supervisor {
    fn serves(&self, path: &str) -> bool {
        path == join::CA_CERTS || path == join::PING || path.starts_with(join::PREFIX)
    }

    fn answer(
        self: Arc<Self>,
        parts: Parts,
        payload: Payload,
        upgrade: Option<OnUpgrade>,
        peer: Arc<Peer>,
    ) -> BoxFuture<'static, Response<Body>> {
        Box::pin(async move {
            let answered = self.respond(&parts, payload, upgrade, &peer).await;
            answered.unwrap_or_else(|error| {
                if error.code >= 500 || error.code == 403 {
                    tracing::warn!(%error, path = parts.uri.path(), from = %peer.address, "an agent's request failed");
                }
                body::error_response(Default::default(), &error)
            })
        })
    }
}

impl Supervisor {
    async fn respond(
        &self,
        parts: &Parts,
        payload: Payload,
        upgrade: Option<OnUpgrade>,
        peer: &Peer,
    ) -> Result<Response<Body>> {
        let path = parts.uri.path();
        match path {
            join::PING => return Ok(text("pong")),
            join::CA_CERTS => return Ok(text(self.certificates.server_authority.certificate())),
            _ => {}
        }
        let asker = self.who(&parts.headers, peer).await?;
        let may = match path {
            join::TOKEN => matches!(asker, Asker::Token(Role::Server)),
            _ => match &asker {
                Asker::Token(role) => *role == Role::Agent,
                Asker::User(user) => user.in_group(NODES) || user.in_group(BOOTSTRAPPERS),
            },
        };
        if !may {
            return Err(ApiError::forbidden("", "", "", "not authorized"));
        }
        let signs = matches!(
            path,
            join::SERVING_KUBELET | join::CLIENT_KUBELET | join::CLIENT_KUBE_PROXY | join::CLIENT_CONTROLLER
        );
        let seats = match path {
            _ if signs => &self.seats.signing,
            join::CONNECT => &self.seats.connecting,
            _ => &self.seats.others,
        };
        let too_many = |_| ApiError::too_many_requests("too many agents ask at a time, please try again later", AGAIN);
        let _seat = seats.try_acquire().map_err(too_many)?;
        let wanted = match path {
            _ if signs => Method::POST,
            join::TOKEN => Method::PUT,
            _ => Method::GET,
        };
        if parts.method != wanted {
            return Err(ApiError::method_not_allowed());
        }
        let limits = &self.api.limits;
        let (content, _held) = payload.read(&limits.bodies, limits.request_timeout).await?;
        match path {
            join::CLIENT_CA => Ok(text(self.certificates.client_authority.certificate())),
            join::SERVER_CA => Ok(text(self.certificates.server_authority.certificate())),
            join::READYZ => Ok(text("ok")),
            join::CONNECT => self.connect(&asker, upgrade).await,
            join::CONFIG => {
                let settings = serde_json::to_value(&self.settings).map_err(ApiError::internal)?;
                Ok(body::json_response(StatusCode::OK, &settings))
            }
            join::API_SERVERS => Ok(body::json_response(StatusCode::OK, &self.api_servers().await?)),
            join::TOKEN => self.rotate(&content),
            _ if signs => self.sign(path, &parts.headers, &asker, &content).await,
            _ => Ok(body::no_such_page()),
        }
    }

    /// Who asks: the user of a client certificate, or the holder of a token.
    async fn who(&self, headers: &HeaderMap, peer: &Peer) -> Result<Asker> {
        let presented = headers.get(header::AUTHORIZATION).and_then(|v| v.to_str().ok());
        let Some(presented) = presented else {
            let now = self.api.registry.environment.now();
            return match peer.proof(now) {
                Ok(Some(Proof::User(user))) => Ok(Asker::User(user.clone())),
                Ok(Some(Proof::Proxy) | None) | Err(Expired) => Err(ApiError::unauthorized()),
            };
        };
        if let Some(pair) = presented.strip_prefix("Basic ") {
            let decoded = STANDARD
                .decode(pair.trim())
                .ok()
                .and_then(|b| String::from_utf8(b).ok());
            let decoded = decoded.ok_or_else(ApiError::unauthorized)?;
            let (user, secret) = decoded.split_once(':').ok_or_else(ApiError::unauthorized)?;
            return self
                .tokens
                .role(user, secret)
                .map(Asker::Token)
                .ok_or_else(ApiError::unauthorized);
        }
        let token = presented.strip_prefix("Bearer ").ok_or_else(ApiError::unauthorized)?;
        let known = self.api.authenticator.token(token, &[], &Trail::default()).await;
        known
            .map(|known| Asker::User(known.user))
            .ok_or_else(ApiError::unauthorized)
    }

    /// The endpoints of the Service `kubernetes`.
    async fn api_servers(&self) -> Result<Value> {
        let params = client::ListParams {
            label_selector: Some("kubernetes.io/service-name=kubernetes".into()),
            ..client::ListParams::default()
        };
        let slices = self.client.list::<EndpointSlice>("default", &params).await;
        let slices = slices.map_err(ApiError::internal)?.items;
        Ok(json!(join::endpoints(&slices)))
    }

    fn rotate(&self, content: &[u8]) -> Result<Response<Body>> {
        let wanted: Value = serde_json::from_slice(content).map_err(|e| ApiError::bad_request(e.to_string()))?;
        let new = match &wanted["newToken"] {
            Value::Null => None,
            Value::String(text) => Some(text.as_str()).filter(|text| !text.is_empty()),
            _ => return Err(ApiError::bad_request("newToken is not a text")),
        };
        self.tokens.rotate(new).map_err(|error| match error {
            super::ServerError::Flag { .. } => ApiError::bad_request(error.to_string()),
            other => ApiError::internal(other),
        })?;
        tracing::info!("the token was rotated");
        Ok(text(""))
    }
}

fn text(content: &str) -> Response<Body> {
    let mut response = Response::new(body::full(content.to_owned()));
    let plain = HeaderValue::from_static("text/plain; charset=utf-8");
    response.headers_mut().insert(header::CONTENT_TYPE, plain);
    response
}
