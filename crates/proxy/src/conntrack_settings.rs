//! What kube-proxy sets of the kernel's connection tracking, as upstream's does: how many connections it may hold, and how long it keeps
//! those that are silent.

use std::time::Duration;

use serde::Deserialize;

const SETTINGS: &str = "/proc/sys/net/netfilter";
const BUCKETS: &str = "/sys/module/nf_conntrack/parameters/hashsize";
/// However many processors there are: a table of so many connections takes a third of a GB.
const MOST: u64 = 1 << 20;
/// Connections for each bucket of the table.
const IN_A_BUCKET: u64 = 4;

/// `conntrack` of a KubeProxyConfiguration. What is 0 is not set.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "Written")]
pub struct ConntrackConfig {
    /// Connections for each processor; 0 leaves the limit and `min` alone.
    pub max_per_core: u32,
    /// Connections at least.
    pub min: u32,
    /// How long a silent TCP connection is kept.
    pub tcp_established_timeout: Duration,
    /// How long one is kept that the other side has closed.
    pub tcp_close_wait_timeout: Duration,
    /// Packets outside of a connection's window are not taken for invalid.
    pub tcp_be_liberal: bool,
    /// How long a UDP flow is kept that nobody answers.
    pub udp_timeout: Duration,
    /// How long one is kept that is answered.
    pub udp_stream_timeout: Duration,
}

impl Default for ConntrackConfig {
    fn default() -> ConntrackConfig {
        ConntrackConfig {
            max_per_core: 32 << 10,
            min: 128 << 10,
            tcp_established_timeout: Duration::from_secs(24 * 3600),
            tcp_close_wait_timeout: Duration::from_secs(3600),
            tcp_be_liberal: false,
            udp_timeout: Duration::ZERO,
            udp_stream_timeout: Duration::ZERO,
        }
    }
}

/// The same in a file, where null is the default as kubeadm writes it.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Written {
    max_per_core: Option<u32>,
    min: Option<u32>,
    tcp_established_timeout: Option<String>,
    tcp_close_wait_timeout: Option<String>,
    tcp_be_liberal: Option<bool>,
    udp_timeout: Option<String>,
    udp_stream_timeout: Option<String>,
}

/// A field of `conntrack` is no duration.
#[derive(Debug, thiserror::Error)]
#[error("conntrack.{field}: {text:?} {why}")]
pub struct BadDuration {
    field: &'static str,
    text: String,
    why: &'static str,
}

impl TryFrom<Written> for ConntrackConfig {
    type Error = BadDuration;

    fn try_from(file: Written) -> Result<ConntrackConfig, BadDuration> {
        let default = ConntrackConfig::default();
        let time = |field, text: Option<String>, default: Duration| match text {
            Some(text) => api::time::flag_duration(&text).map_err(|why| BadDuration { field, text, why }),
            None => Ok(default),
        };
        Ok(ConntrackConfig {
            max_per_core: file.max_per_core.unwrap_or(default.max_per_core),
            min: file.min.unwrap_or(default.min),
            tcp_established_timeout: time(
                "tcpEstablishedTimeout",
                file.tcp_established_timeout,
                default.tcp_established_timeout,
            )?,
            tcp_close_wait_timeout: time(
                "tcpCloseWaitTimeout",
                file.tcp_close_wait_timeout,
                default.tcp_close_wait_timeout,
            )?,
            tcp_be_liberal: file.tcp_be_liberal.unwrap_or_default(),
            udp_timeout: time("udpTimeout", file.udp_timeout, Duration::ZERO)?,
            udp_stream_timeout: time("udpStreamTimeout", file.udp_stream_timeout, Duration::ZERO)?,
        })
    }
}

impl ConntrackConfig {
    /// How many connections the kernel may hold at least; `None` leaves its limit alone.
    fn limit(&self, processors: u64) -> Option<u64> {
        let scaled = u64::from(self.max_per_core) * processors;
        match scaled {
            0 => None,
            MOST.. => Some(MOST),
            _ => Some(scaled.max(self.min.into())),
        }
    }

    /// The other settings by their names.
    fn settings(&self) -> Vec<(&'static str, u64)> {
        let mut settings = vec![
            ("tcp_timeout_established", self.tcp_established_timeout.as_secs()),
            ("tcp_timeout_close_wait", self.tcp_close_wait_timeout.as_secs()),
            ("tcp_be_liberal", self.tcp_be_liberal.into()),
            ("udp_timeout", self.udp_timeout.as_secs()),
            ("udp_timeout_stream", self.udp_stream_timeout.as_secs()),
        ];
        settings.retain(|(_, value)| *value != 0);
        settings
    }

    /// Sets all of it. What the kernel does not let be set, as the limit in a container, stays as it is, and the log says so: Services
    /// work without.
    pub(crate) fn apply(&self) {
        let processors = std::thread::available_parallelism().map_or(1, |n| n.get() as u64);
        if let Some(limit) = self.limit(processors) {
            at_least(&format!("{SETTINGS}/nf_conntrack_max"), limit);
            at_least(BUCKETS, limit / IN_A_BUCKET);
        }
        for (name, value) in self.settings() {
            let path = format!("{SETTINGS}/nf_conntrack_{name}");
            if let Err(error) = cni::sysctl::set(&path, &value.to_string()) {
                tracing::warn!(path, value, %error, "connection tracking keeps its own setting");
            }
        }
    }
}

/// Raises a number, if it is below.
fn at_least(path: &str, wanted: u64) {
    let now = std::fs::read_to_string(path);
    if now
        .as_ref()
        .is_ok_and(|text| text.trim().parse().is_ok_and(|now: u64| now >= wanted))
    {
        return;
    }
    // only the machine's own network namespace may
    if let Err(error) = now.and_then(|_| std::fs::write(path, wanted.to_string())) {
        tracing::info!(path, wanted, %error, "connection tracking keeps its own limit");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> ConntrackConfig {
        serde_saphyr::from_str(text).unwrap()
    }

    #[test]
    fn the_limit_grows_with_the_processors_up_to_a_million() {
        let default = ConntrackConfig::default();
        assert_eq!(default.limit(1), Some(131_072));
        assert_eq!(default.limit(16), Some(524_288));
        assert_eq!(default.limit(256), Some(1 << 20));
        assert_eq!(read("maxPerCore: 0\nmin: 7").limit(16), None);
        assert_eq!(read("min: 2000000").limit(16), Some(2_000_000));
    }

    #[test]
    fn what_is_zero_is_left_alone_and_null_is_the_default() {
        assert_eq!(
            ConntrackConfig::default().settings(),
            [("tcp_timeout_established", 86_400), ("tcp_timeout_close_wait", 3_600)]
        );
        let own = read(
            "tcpEstablishedTimeout: 0s\ntcpCloseWaitTimeout: \"0\"\ntcpBeLiberal: true\nudpTimeout: 30s\nudpStreamTimeout: 5m\n",
        );
        assert_eq!(
            own.settings(),
            [("tcp_be_liberal", 1), ("udp_timeout", 30), ("udp_timeout_stream", 300)]
        );
        let of_kubeadm = "maxPerCore: null\nmin: null\ntcpCloseWaitTimeout: null\ntcpEstablishedTimeout: null\n";
        assert_eq!(read(of_kubeadm), ConntrackConfig::default());
        assert!(serde_saphyr::from_str::<ConntrackConfig>("udpTimeout: -1s").is_err());
    }
}
