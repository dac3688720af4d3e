//! Flags of aggregation by upstream's names: how this server shows itself to extension servers, and whom it takes for a proxy itself.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use apiserver::aggregator::Options;
use apiserver::http::front_proxy::{FrontProxy, RequestHeaders};
use clap::Args;

use crate::certificates::{Certificates, FRONT_PROXY_NAME};
use crate::server::ServerError;

/// The API server's flags of extension servers and of proxies in front of it.
#[derive(Debug, Clone, Args)]
pub struct AggregationFlags {
    /// Send requests for extension servers to endpoints of their Services and not to the cluster IPs.
    #[arg(long, default_value_t = false, num_args = 0..=1, require_equals = true, default_missing_value = "true", action = clap::ArgAction::Set)]
    enable_aggregator_routing: bool,
    /// Answer for an extension server that redirects with an error.
    #[arg(long, default_value_t = true, num_args = 0..=1, require_equals = true, default_missing_value = "true", action = clap::ArgAction::Set)]
    aggregator_reject_forwarding_redirect: bool,
    /// Certificate that proves this server to extension servers; one of its own unless given.
    #[arg(long, requires = "proxy_client_key_file")]
    proxy_client_cert_file: Option<PathBuf>,
    /// Key of --proxy-client-cert-file.
    #[arg(long, requires = "proxy_client_cert_file")]
    proxy_client_key_file: Option<PathBuf>,
    /// Authority of the certificates of proxies that name users in headers; one of its own unless given.
    #[arg(long)]
    requestheader_client_ca_file: Option<PathBuf>,
    /// Common names of these proxies; system:auth-proxy unless an authority is given, which vouches for all then.
    #[arg(long, value_delimiter = ',')]
    requestheader_allowed_names: Vec<String>,
    /// Headers with the user's name.
    #[arg(long, value_delimiter = ',', default_values = ["X-Remote-User"])]
    requestheader_username_headers: Vec<String>,
    /// Headers with the user's UID.
    #[arg(long, value_delimiter = ',', default_values = ["X-Remote-Uid"])]
    requestheader_uid_headers: Vec<String>,
    /// Headers with the user's groups.
    #[arg(long, value_delimiter = ',', default_values = ["X-Remote-Group"])]
    requestheader_group_headers: Vec<String>,
    /// Beginnings of headers with what else is known of the user.
    #[arg(long, value_delimiter = ',', default_values = ["X-Remote-Extra-"])]
    requestheader_extra_headers_prefix: Vec<String>,
}

impl Default for AggregationFlags {
    fn default() -> AggregationFlags {
        let list = |name: &str| vec![name.to_owned()];
        AggregationFlags {
            enable_aggregator_routing: false,
            aggregator_reject_forwarding_redirect: true,
            proxy_client_cert_file: None,
            proxy_client_key_file: None,
            requestheader_client_ca_file: None,
            requestheader_allowed_names: Vec::new(),
            requestheader_username_headers: list("X-Remote-User"),
            requestheader_uid_headers: list("X-Remote-Uid"),
            requestheader_group_headers: list("X-Remote-Group"),
            requestheader_extra_headers_prefix: list("X-Remote-Extra-"),
        }
    }
}

fn read(path: &Path) -> Result<String, ServerError> {
    std::fs::read_to_string(path).map_err(|source| ServerError::File {
        path: path.to_owned(),
        source,
    })
}

impl AggregationFlags {
    /// How requests reach extension servers.
    pub fn options(&self) -> Options {
        Options {
            to_endpoints: self.enable_aggregator_routing,
            reject_redirects: self.aggregator_reject_forwarding_redirect,
        }
    }

    /// This server as a proxy, and whom it takes for one.
    ///
    /// # Errors
    /// For files that cannot be read or do not hold what they should.
    pub fn front_proxy(&self, certificates: &Certificates) -> Result<Arc<FrontProxy>, ServerError> {
        let (authority, mut allowed_names) = match &self.requestheader_client_ca_file {
            Some(path) => (read(path)?, self.requestheader_allowed_names.clone()),
            None => {
                let own = certificates.request_header_authority.certificate().to_owned();
                (own, self.requestheader_allowed_names.clone())
            }
        };
        if allowed_names.is_empty() && self.requestheader_client_ca_file.is_none() {
            allowed_names.push(FRONT_PROXY_NAME.to_owned());
        }
        let proxy = FrontProxy::new(RequestHeaders {
            authority,
            allowed_names,
            username: self.requestheader_username_headers.clone(),
            uid: self.requestheader_uid_headers.clone(),
            group: self.requestheader_group_headers.clone(),
            extra_prefix: self.requestheader_extra_headers_prefix.clone(),
        });
        self.show(&proxy, certificates)?;
        Ok(proxy)
    }

    /// Whether extension servers are shown a certificate that somebody else renews.
    pub fn shows_a_file(&self) -> bool {
        self.proxy_client_cert_file.is_some()
    }

    /// Connections made from now on show the certificate as the files have it now.
    ///
    /// # Errors
    /// For files that cannot be read or do not hold what they should.
    pub fn show(&self, proxy: &FrontProxy, certificates: &Certificates) -> Result<(), ServerError> {
        let (certificate, key) = match (&self.proxy_client_cert_file, &self.proxy_client_key_file) {
            (Some(certificate), Some(key)) => (read(certificate)?, read(key)?),
            _ => certificates.front_proxy()?,
        };
        proxy.show(&certificate, &key).map_err(|why| ServerError::Flag {
            flag: "proxy-client-cert-file",
            value: self
                .proxy_client_cert_file
                .as_deref()
                .map(|p| p.display().to_string())
                .unwrap_or_default(),
            why: why.to_string(),
        })
    }
}
