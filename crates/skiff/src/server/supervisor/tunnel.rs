//! Tunnels of agents: which of them need one, and the connections that become one (k3s's `/connect`).

use std::time::Duration;

use apiserver::egress::Carries;
use apiserver::http::status::ApiError;
use apiserver::server::body::{self, Body};
use apiserver::subresource;
use clap::ValueEnum;
use http::{HeaderValue, Response, StatusCode, header};
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use streaming::tunnel::PROTOCOL;

use super::{Asker, Result, Supervisor};

/// How long a kubelet has to answer where its Node says it is.
const PROBE: Duration = Duration::from_secs(3);

/// How the API server reaches agents and their pods, by k3s's names, and `auto`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum EgressSelectorMode {
    /// Directly where that is possible, else through a tunnel.
    Auto,
    /// Agents through tunnels, pods directly.
    Agent,
    /// Agents and pods through tunnels.
    Pod,
    /// The same.
    Cluster,
    /// Directly.
    Disabled,
}

impl Supervisor {
    /// Makes a connection the tunnel of the node that asks, unless it needs none.
    pub(super) async fn connect(&self, asker: &Asker, upgrade: Option<OnUpgrade>) -> Result<Response<Body>> {
        let node = match asker {
            Asker::User(user) => user.node_name(),
            Asker::Token(_) => None,
        };
        let node = node.ok_or_else(|| ApiError::forbidden("", "", "", "only nodes have tunnels"))?;
        // whose Node is gone is no node; one that is new is there in a moment
        let place = subresource::kubelet(&self.api, node, "nodes")?;
        let carries = match self.egress {
            EgressSelectorMode::Disabled => None,
            EgressSelectorMode::Agent => Some(Carries::Node),
            EgressSelectorMode::Pod | EgressSelectorMode::Cluster => Some(Carries::NodeAndPods),
            EgressSelectorMode::Auto => {
                let direct = self.api.kubelets.is_at(node, &place);
                match tokio::time::timeout(PROBE, direct).await {
                    Ok(Ok(())) => None,
                    Ok(Err(error)) => {
                        tracing::info!(node, %error, "the node is reached through its tunnel");
                        Some(Carries::NodeAndPods)
                    }
                    Err(_) => {
                        tracing::info!(node, "the node does not answer; it is reached through its tunnel");
                        Some(Carries::NodeAndPods)
                    }
                }
            }
        };
        let Some(carries) = carries else {
            self.api.registry.egress.forget(node);
            let mut response = Response::new(body::full(""));
            *response.status_mut() = StatusCode::NO_CONTENT;
            return Ok(response);
        };
        let upgrade = upgrade.ok_or_else(|| ApiError::bad_request("Upgrade request required"))?;
        let (registry, node) = (self.api.registry.clone(), node.to_owned());
        tokio::spawn(async move {
            let ended = match upgrade.await {
                Ok(connection) => registry.egress.keep(&node, carries, TokioIo::new(connection)).await,
                Err(error) => Err(error),
            };
            if registry.get("", "nodes", "", &node).is_none() {
                registry.egress.forget(&node);
            }
            tracing::info!(
                node,
                error = ended.err().map(tracing::field::display),
                "the node's tunnel ended"
            );
        });
        let mut response = Response::new(body::full(""));
        *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        let headers = response.headers_mut();
        headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
        headers.insert(header::UPGRADE, HeaderValue::from_static(PROTOCOL));
        Ok(response)
    }
}
