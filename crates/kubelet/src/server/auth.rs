//! Who may ask what of the kubelet: client certificates and tokens, permissions by the API server.

use client::Client;
use component::{Delegated, Question, User};
use http::{Method, Request, Response, StatusCode, header};
use hyper::body::Incoming;

use super::{Peer, ServerBody, plain};
use crate::config::KubeletConfig;

/// Lets in who may see or use the node, as the API server says.
pub struct Authorizer {
    users: Delegated,
    node: String,
    anonymous: bool,
    webhook: bool,
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
    /// Asks the API server for users of tokens and for what users may do.
    pub fn new(client: Client, config: &KubeletConfig) -> Authorizer {
        Authorizer {
            users: Delegated::new(Some(client.clone()), Some(client)),
            node: config.node_name.clone(),
            anonymous: config.anonymous,
            webhook: config.webhook,
        }
    }

    /// Lets a request in.
    ///
    /// # Errors
    /// The answer to one that may not come in.
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
            let question = Question::Object {
                verb,
                resource: "nodes",
                subresource: part,
                name: self.node.clone(),
            };
            match self.users.allows(&user, &question).await {
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
        if let Some(user) = peer.certificate.as_ref().and_then(|c| User::of_certificate(c)) {
            return Some(user);
        }
        if let Some(token) = bearer.filter(|_| self.webhook) {
            return self.users.user_of(token).await;
        }
        self.anonymous.then(User::anonymous)
    }
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
