//! ComponentStatuses: nothing stores them, each is asked for when somebody reads it.
//!
//! As upstream, the scheduler and the controller manager are asked at the ports that they serve on by default, unless they run in
//! this process, where it is seen whether they still run.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Method, Response, StatusCode};
use http_body_util::BodyExt;
use serde_json::{Value, json};
use tokio::task::AbortHandle;

use crate::http::status::{ApiError, Result};
use crate::registry::Served;
use crate::registry::cached::{Cached, Encoded};
use crate::registry::selection::Selection;
use crate::server::body::{self, Body};
use crate::server::list::{self, ListMeta};
use crate::server::{ApiServer, Request, health};
use crate::subresource::kubelet::Endpoint;
use crate::table;

/// How long a component is waited for.
const PATIENCE: Duration = Duration::from_secs(20);
/// So much of what a component says is read. Bytes.
const LONGEST: usize = 10 << 10;

/// The components that may run in this process.
#[derive(Debug, Default)]
pub struct Components {
    pub controller_manager: Component,
    pub scheduler: Component,
}

/// A component's task, once it is started here.
#[derive(Debug, Default)]
pub struct Component(OnceLock<AbortHandle>);

impl Component {
    /// Says that the component runs here. Only the first counts.
    pub fn runs(&self, task: AbortHandle) {
        let _ = self.0.set(task);
    }
}

/// What a component is found to be.
struct Finding {
    status: &'static str,
    message: String,
    error: String,
}

impl Finding {
    fn healthy(message: &str) -> Finding {
        Finding {
            status: "True",
            message: message.to_owned(),
            error: String::new(),
        }
    }

    /// It answers, or refuses to.
    fn unhealthy(message: String) -> Finding {
        Finding {
            status: "False",
            message,
            error: String::new(),
        }
    }

    fn object(&self, name: &str) -> Value {
        let mut condition = json!({ "type": "Healthy", "status": self.status });
        for (key, text) in [("message", &self.message), ("error", &self.error)] {
            if !text.is_empty() {
                condition[key] = json!(text);
            }
        }
        json!({ "apiVersion": "v1", "kind": "ComponentStatus", "metadata": { "name": name }, "conditions": [condition] })
    }
}

/// What there is, in order of name.
const NAMES: [&str; 3] = ["controller-manager", "etcd-0", "scheduler"];

impl ApiServer {
    /// Answers a get or a list.
    ///
    /// # Errors
    /// `404` for a component that nobody knows, and what is wrong with selectors.
    pub(crate) async fn component_statuses(&self, served: &Served, request: &Request) -> Result<Response<Body>> {
        let resource = &served.resource;
        let name = request.info.name.as_str();
        if request.info.verb == "get" {
            let Some(known) = NAMES.into_iter().find(|known| *known == name) else {
                // upstream names the kind here, not the resource
                return Err(ApiError::not_found("", "componentstatus", name));
            };
            let object = self.component(served, known).await?;
            return body::object_response(StatusCode::OK, resource, &object, request.accept);
        }
        let selection = Selection::parse(resource, "", &request.query)?;
        let include = table::Include::parse(&request.query)?;
        let found = futures::future::try_join_all(NAMES.map(|name| self.component(served, name))).await?;
        let items = found
            .into_iter()
            .filter(|o| selection.matches(o))
            .map(Arc::new)
            .collect();
        list::list_response(resource, items, &ListMeta::default(), request.accept, include)
    }

    async fn component(&self, served: &Served, name: &str) -> Result<Cached> {
        let finding = match name {
            "scheduler" => self.running(&self.components.scheduler, 10259).await,
            "controller-manager" => self.running(&self.components.controller_manager, 10257).await,
            _ if health::stored(self) => Finding::healthy("ok"),
            _ => Finding::unhealthy(String::new()),
        };
        Ok(Encoded::of(&served.resource, &mut finding.object(name))?.at(None))
    }

    async fn running(&self, component: &Component, port: u16) -> Finding {
        match component.0.get() {
            Some(task) if task.is_finished() => Finding::unhealthy("it runs no more".to_owned()),
            Some(_) => Finding::healthy("ok"),
            None => self.asked(port).await,
        }
    }

    async fn asked(&self, port: u16) -> Finding {
        let to = Endpoint {
            host: "127.0.0.1".to_owned(),
            port,
            tls: true,
            known: false,
            way: None,
        };
        let url = format!("https://127.0.0.1:{port}/healthz");
        let asked = async {
            let headers = HeaderMap::new();
            let answer = self
                .kubelets
                .forward(&to, Method::GET, "/healthz", &headers, Bytes::new(), None);
            let answer = answer.await.map_err(|error| {
                let why = error.message.rsplit_once("error dialing backend: ");
                let why = why.map_or(error.message.as_str(), |(_, why)| why);
                format!("Get {url:?}: {why}")
            })?;
            let status = answer.status();
            let limited = http_body_util::Limited::new(answer.into_body(), LONGEST);
            let text = limited
                .collect()
                .await
                .map_err(|error| format!("Get {url:?}: {error}"))?;
            Ok((status, String::from_utf8_lossy(&text.to_bytes()).into_owned()))
        };
        match tokio::time::timeout(PATIENCE, asked).await {
            Ok(Ok((status, text))) if status.is_success() => Finding::healthy(&text),
            Ok(Ok((status, _))) => {
                Finding::unhealthy(format!("HTTP probe failed with statuscode: {}", status.as_u16()))
            }
            Ok(Err(error)) => Finding::unhealthy(error),
            Err(_) => Finding::unhealthy(format!("Get {url:?}: context deadline exceeded")),
        }
    }
}
