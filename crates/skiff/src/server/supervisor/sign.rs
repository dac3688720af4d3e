//! Certificates for nodes: the agent makes the key and sends a request for it; whom the certificate names is decided here.

use std::net::IpAddr;

use apiserver::http::status::ApiError;
use apiserver::server::body::Body;
use http::{HeaderMap, Response};
use pki::{Identity, Request, Usage};

use super::node_password::{self, PasswordError};
use super::{Asker, Result, Supervisor, text};
use crate::join;

/// The node that a request names, whose name is its own.
struct Asking {
    node: String,
    ips: Vec<IpAddr>,
}

impl Supervisor {
    pub(super) async fn sign(
        &self,
        path: &str,
        headers: &HeaderMap,
        asker: &Asker,
        request: &[u8],
    ) -> Result<Response<Body>> {
        let request = Request::from_der(request).map_err(|e| ApiError::bad_request(e.to_string()))?;
        let now = time::OffsetDateTime::now_utc();
        let certificates = &self.certificates;
        let issued = match path {
            join::CLIENT_KUBE_PROXY | join::CLIENT_CONTROLLER => {
                let common_name = match path {
                    join::CLIENT_CONTROLLER => join::CONTROLLER_USER,
                    _ => "system:kube-proxy",
                };
                let who = Identity {
                    common_name,
                    organizations: &[],
                };
                let authority = &certificates.client_authority;
                authority.issue_for(request, &who, &Usage::Client, certificates.lifetime, now)
            }
            join::SERVING_KUBELET | join::CLIENT_KUBELET => {
                let asking = self.asking(headers, asker).await?;
                let name = format!("system:node:{}", asking.node);
                let who = Identity {
                    common_name: &name,
                    organizations: &["system:nodes"],
                };
                if path == join::CLIENT_KUBELET {
                    let authority = &certificates.client_authority;
                    authority.issue_for(request, &who, &Usage::Client, certificates.lifetime, now)
                } else {
                    let ips = asking.ips.iter().map(ToString::to_string);
                    let own = [asking.node.clone(), "localhost".into(), "127.0.0.1".into()];
                    let usage = Usage::Server(own.into_iter().chain(ips).collect());
                    let authority = &certificates.server_authority;
                    authority.issue_for(request, &who, &usage, certificates.lifetime, now)
                }
            }
            _ => return Err(ApiError::no_such_path()),
        };
        Ok(text(&issued.map_err(ApiError::internal)?))
    }

    /// Finds out which node asks, and that its name is its own.
    async fn asking(&self, headers: &HeaderMap, asker: &Asker) -> Result<Asking> {
        let value = |name: &str| headers.get(name).and_then(|v| v.to_str().ok()).unwrap_or_default();
        let node = value(join::NODE_NAME).to_lowercase();
        if node.is_empty() {
            return Err(ApiError::bad_request("node name not set"));
        }
        if let Some(why) = api::names::dns1123_subdomain_errors(&node).into_iter().next() {
            return Err(ApiError::bad_request(format!("node name {node:?}: {why}")));
        }
        let password = value(join::NODE_PASSWORD);
        if password.is_empty() {
            return Err(ApiError::bad_request("node password not set"));
        }
        let mut ips = Vec::new();
        for text in value(join::NODE_IP).split(',').filter(|t| !t.is_empty()) {
            let ip: IpAddr = text
                .parse()
                .map_err(|_| ApiError::bad_request(format!("invalid node IP address {text}")))?;
            if self.own_names.contains(&ip.to_string()) || self.service_networks.iter().any(|net| net.contains(ip)) {
                return Err(ApiError::bad_request(format!("{ip} is the API server's own address")));
            }
            ips.push(ip);
        }
        if self.own_node.as_deref() == Some(&node) || self.own_names.contains(&node) {
            return Err(ApiError::forbidden("", "nodes", &node, "the name is the server's own"));
        }
        if let Asker::User(user) = asker
            && let Some(known) = user.node_name()
        {
            if known != node {
                return Err(ApiError::bad_request("header node name does not match auth node name"));
            }
            // a certificate outlives its Node
            if self.api.registry.get("", "nodes", "", &node).is_none() {
                return Err(ApiError::unauthorized());
            }
        }
        match node_password::ensure(&self.client, &node, password).await {
            Ok(()) => Ok(Asking { node, ips }),
            Err(error @ (PasswordError::Wrong(_) | PasswordError::Unreadable(_))) => {
                Err(ApiError::forbidden("", "nodes", &node, &error.to_string()))
            }
            Err(error) => Err(ApiError::unavailable(error.to_string())),
        }
    }
}
