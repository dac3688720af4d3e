//! The certificates by which a server is known to others, and their renewal while it runs.

use std::sync::Arc;

use apiserver::http::front_proxy::FrontProxy;
use apiserver::server::connection::ServeError;
use apiserver::subresource::kubelet::KubeletClient;
use serving::Certificate;
use time::OffsetDateTime;

use crate::aggregation_flags::AggregationFlags;
use crate::certificates::{Certificates, Kubeconfigs};
use crate::server::ServerError;
use pki::renewal::Renewable;

/// How often a certificate is read again that somebody else renews.
const LOOK_AGAIN: time::Duration = time::Duration::minutes(1);

/// What a server shows of itself.
#[derive(Clone)]
pub struct Shown {
    pub certificates: Arc<Certificates>,
    /// To its clients.
    pub serving: Arc<Certificate>,
    /// To extension servers.
    pub front_proxy: Arc<FrontProxy>,
    pub aggregation: AggregationFlags,
    /// To kubelets.
    pub kubelets: KubeletClient,
}

/// Renews it, and the kubeconfigs with it.
pub struct Renewal {
    pub shown: Shown,
    pub kubeconfigs: Kubeconfigs,
}

impl Renewable for Renewal {
    type Error = ServerError;

    const WHOSE: &str = "server";

    fn due(&self, chance: f64) -> OffsetDateTime {
        let due = self.shown.certificates.due(chance);
        match self.shown.aggregation.shows_a_file() {
            // its owner replaces it when he will
            true => due.min(OffsetDateTime::now_utc() + LOOK_AGAIN),
            false => due,
        }
    }

    async fn renew(&mut self) -> Result<bool, ServerError> {
        let shown = &self.shown;
        let certificates = &shown.certificates;
        let new = certificates.renew(OffsetDateTime::now_utc())?;
        let (certificate, key) = certificates.serving()?;
        shown.serving.replace(&certificate, &key).map_err(ServeError::from)?;
        let (certificate, key) = certificates.to_kubelets()?;
        shown.kubelets.show(&certificate, &key)?;
        shown.aggregation.show(&shown.front_proxy, certificates)?;
        self.kubeconfigs.write(certificates)?;
        Ok(new)
    }
}
