//! Who may ask what of the kubelet: client certificates and tokens, permissions by the API server.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use client::Client;
use http::{Method, Request, Response, StatusCode, header};
use hyper::body::Incoming;
use k8s_openapi::api::authentication::v1::{TokenReview, TokenReviewSpec};
use k8s_openapi::api::authorization::v1::{ResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec};

use super::{Peer, ServerBody, plain};
use crate::config::KubeletConfig;

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct User {
    name: String,
    groups: Vec<String>,
}

/// User, verb, part of the node.
type Question = (User, &'static str, &'static str);

/// How long answers of the API server are good for: upstream's defaults for tokens, yes and no.
const TOKEN_TTL: Duration = Duration::from_secs(120);
const ALLOWED_TTL: Duration = Duration::from_secs(300);
const DENIED_TTL: Duration = Duration::from_secs(30);
const REMEMBERED: usize = 1024;

pub struct Authorizer {
    client: Client,
    node: String,
    anonymous: bool,
    webhook: bool,
    tokens: Mutex<HashMap<String, (Option<User>, Instant)>>,
    decisions: Mutex<HashMap<Question, (bool, Instant)>>,
}

/// The verb of a method.
fn verb(method: &Method) -> &'static str {
    match *method {
        Method::POST => "create",
        Method::PUT => "update",
        Method::PATCH => "patch",
        Method::DELETE => "delete",
        Method::GET => "get",
        // As upstream: nobody is allowed it by a rule for a verb.
        _ => "",
    }
}

/// The parts of the node a path belongs to, as upstream divides them: who may use one of them may use the path.
fn subresources(path: &str) -> &'static [&'static str] {
    match path.trim_start_matches('/').split('/').next().unwrap_or_default() {
        "stats" => &["stats"],
        "metrics" => &["metrics"],
        "logs" => &["log"],
        "checkpoint" => &["checkpoint"],
        "statusz" => &["statusz"],
        "flagz" => &["configz"],
        "healthz" => &["healthz", "proxy"],
        "pods" | "runningpods" => &["pods", "proxy"],
        "configz" => &["configz", "proxy"],
        _ => &["proxy"],
    }
}

impl Authorizer {
    pub fn new(client: Client, config: &KubeletConfig) -> Authorizer {
        Authorizer {
            client,
            node: config.node_name.clone(),
            anonymous: config.anonymous,
            webhook: config.webhook,
            tokens: Mutex::default(),
            decisions: Mutex::default(),
        }
    }

    pub async fn allow(&self, peer: &Peer, request: &Request<Incoming>) -> Result<(), Response<ServerBody>> {
        let (method, path) = (request.method().clone(), request.uri().path().to_owned());
        let bearer = request
            .headers()
            .get(header::AUTHORIZATION)
            .and_then(|v| v.to_str().ok())
            .and_then(|v| v.strip_prefix("Bearer "))
            .map(str::to_owned);
        let Some(user) = self.authenticate(peer, bearer.as_deref()).await else {
            return Err(plain(StatusCode::UNAUTHORIZED, "Unauthorized"));
        };
        if !self.webhook {
            return Ok(());
        }
        let (verb, parts) = (verb(&method), subresources(&path));
        let about = format!(
            "(user={}, verb={verb}, resource=nodes, subresource(s)=[{}])",
            user.name,
            parts.join(" ")
        );
        for part in parts {
            match self.authorize(&user, verb, part).await {
                Ok(true) => return Ok(()),
                Ok(false) => {}
                Err(error) => {
                    tracing::warn!(%error, "permission not known");
                    let text = format!("Authorization error {about}");
                    return Err(plain(StatusCode::INTERNAL_SERVER_ERROR, text));
                }
            }
        }
        Err(plain(StatusCode::FORBIDDEN, format!("Forbidden {about}\n")))
    }

    async fn authenticate(&self, peer: &Peer, bearer: Option<&str>) -> Option<User> {
        if let Some(user) = peer.certificate.as_ref().and_then(|c| user_of(c)) {
            return Some(user);
        }
        if let Some(token) = bearer.filter(|_| self.webhook) {
            return self.review(token).await;
        }
        self.anonymous.then(|| User {
            name: "system:anonymous".to_owned(),
            groups: vec!["system:unauthenticated".to_owned()],
        })
    }

    async fn review(&self, token: &str) -> Option<User> {
        if let Some((user, at)) = self.tokens.lock().unwrap_or_else(PoisonError::into_inner).get(token)
            && at.elapsed() < TOKEN_TTL
        {
            return user.clone();
        }
        let review = TokenReview {
            spec: TokenReviewSpec {
                token: token.to_owned(),
                audiences: None,
            },
            ..TokenReview::default()
        };
        let status = match self.client.create(&review).await {
            Ok(review) => review.status.unwrap_or_default(),
            Err(error) => {
                tracing::warn!(%error, "token not reviewed");
                return None;
            }
        };
        let user = status
            .user
            .filter(|_| status.authenticated == Some(true))
            .map(|u| User {
                name: u.username.unwrap_or_default(),
                groups: u.groups.unwrap_or_default(),
            });
        let mut tokens = self.tokens.lock().unwrap_or_else(PoisonError::into_inner);
        if tokens.len() >= REMEMBERED {
            tokens.clear();
        }
        tokens.insert(token.to_owned(), (user.clone(), Instant::now()));
        user
    }

    async fn authorize(&self, user: &User, verb: &'static str, part: &'static str) -> Result<bool, client::Error> {
        let key = (user.clone(), verb, part);
        if let Some((allowed, at)) = self.decisions.lock().unwrap_or_else(PoisonError::into_inner).get(&key)
            && at.elapsed() < if *allowed { ALLOWED_TTL } else { DENIED_TTL }
        {
            return Ok(*allowed);
        }
        let review = SubjectAccessReview {
            spec: SubjectAccessReviewSpec {
                user: Some(user.name.clone()),
                groups: Some(user.groups.clone()),
                resource_attributes: Some(ResourceAttributes {
                    verb: Some(verb.to_owned()),
                    version: Some("v1".to_owned()),
                    resource: Some("nodes".to_owned()),
                    subresource: Some(part.to_owned()),
                    name: Some(self.node.clone()),
                    ..ResourceAttributes::default()
                }),
                ..SubjectAccessReviewSpec::default()
            },
            ..SubjectAccessReview::default()
        };
        let allowed = self.client.create(&review).await?.status.is_some_and(|s| s.allowed);
        let mut decisions = self.decisions.lock().unwrap_or_else(PoisonError::into_inner);
        if decisions.len() >= REMEMBERED {
            decisions.clear();
        }
        decisions.insert(key, (allowed, Instant::now()));
        Ok(allowed)
    }
}

/// The subject's common name and organisations; `None` when it names nobody, or in a way that is not understood.
fn user_of(der: &[u8]) -> Option<User> {
    let subject = pki::Subject::of_certificate(der).ok()?;
    if subject.common_name.is_empty() {
        return None;
    }
    let mut groups = subject.organizations;
    groups.push("system:authenticated".to_owned());
    Some(User {
        name: subject.common_name,
        groups,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_belong_to_the_parts_of_a_node() {
        for (path, parts) in [
            ("/stats/summary", &["stats"][..]),
            ("/metrics/cadvisor", &["metrics"]),
            ("/exec/a/b/c", &["proxy"]),
            ("/pods", &["pods", "proxy"]),
            ("/healthz", &["healthz", "proxy"]),
        ] {
            assert_eq!(subresources(path), parts);
        }
        assert_eq!(
            (verb(&Method::GET), verb(&Method::HEAD), verb(&Method::POST)),
            ("get", "", "create")
        );
    }
}
