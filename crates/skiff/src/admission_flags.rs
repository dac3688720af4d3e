//! The API server's flags of admission by upstream's names, and the plugins that they make.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use apiserver::admission::Admission;
use apiserver::admission::configuration::{Configuration, ConfigurationError};
use apiserver::admission::image_policy_webhook::Reviewer;
use apiserver::registry::Registry;
use bytes::Bytes;
use clap::Args;
use client::{Kubeconfig, Transport};
use futures::future::BoxFuture;
use http::{Request, header};
use http_body_util::BodyExt;

/// How long one attempt may take.
const TIMEOUT: Duration = Duration::from_secs(30);

/// The API server's flags of admission.
#[derive(Debug, Clone, Default, Args)]
pub struct AdmissionFlags {
    /// Admission plugins that are on beside those that are on by default. Their order does not matter.
    #[arg(long, value_delimiter = ',')]
    enable_admission_plugins: Vec<String>,
    /// Admission plugins that are off although they are on by default.
    #[arg(long, value_delimiter = ',')]
    disable_admission_plugins: Vec<String>,
    /// File that configures admission plugins: an AdmissionConfiguration of apiserver.config.k8s.io/v1.
    #[arg(long)]
    admission_control_config_file: Option<PathBuf>,
}

impl AdmissionFlags {
    /// Reads what the flags say.
    ///
    /// # Errors
    /// For plugins that nobody knows or that are both on and off, and for files that cannot be read.
    pub fn read(&self) -> Result<Configuration, ConfigurationError> {
        Configuration::read(
            &self.enable_admission_plugins,
            &self.disable_admission_plugins,
            self.admission_control_config_file.as_deref(),
        )
    }

    /// The plugins that are on.
    ///
    /// # Errors
    /// As `read`, and when a plugin cannot be as it is configured.
    pub fn admission(&self, registry: &Arc<Registry>) -> Result<Admission, ConfigurationError> {
        Admission::new(registry, &self.read()?, &open)
    }
}

/// The server that an image policy is asked of.
struct Server {
    transport: client::HttpsTransport,
    path: String,
}

/// Why there is no answer of the server.
type Unanswered = Box<dyn std::error::Error + Send + Sync>;

fn open(kubeconfig: &Path) -> Result<Box<dyn Reviewer>, Unanswered> {
    let load = || {
        let mut config = Kubeconfig::load(kubeconfig)?.config(None)?;
        // the server's address is a whole URL: reviews go to it and not below it
        let (server, path) = crate::audit_webhook::split(&config.server);
        let path = format!("{path}?timeout={}s", TIMEOUT.as_secs());
        config.server = server.to_owned();
        let transport = client::HttpsTransport::new(&config)?;
        Ok(Server { transport, path })
    };
    let loaded: client::Result<Server> = load();
    Ok(Box::new(loaded?))
}

impl Server {
    async fn once(&self, review: Bytes) -> Result<(u16, Bytes), Unanswered> {
        let request = Request::post(&self.path)
            .header(header::ACCEPT, "application/json, */*")
            .header(header::CONTENT_TYPE, "application/json")
            .header(header::USER_AGENT, format!("kube-apiserver/{}", crate::GIT_VERSION))
            .body(review)?;
        let response = self.transport.call(request).await?;
        let code = response.status().as_u16();
        let body = response.into_body().collect().await?;
        Ok((code, body.to_bytes()))
    }
}

impl Reviewer for Server {
    fn post(&self, review: Bytes) -> BoxFuture<'_, Result<(u16, Bytes), Unanswered>> {
        Box::pin(async move {
            let answered = tokio::time::timeout(TIMEOUT, self.once(review)).await;
            answered.unwrap_or_else(|_| Err("the server did not answer in time".into()))
        })
    }
}
