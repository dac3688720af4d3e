//! What kube-proxy sets of the kernel's connection tracking, as upstream's does: how many connections it may hold, and how long it keeps
//! those that are silent.

use std::time::Duration;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer};

const SETTINGS: &str = "/proc/sys/net/netfilter";
const BUCKETS: &str = "/sys/module/nf_conntrack/parameters/hashsize";
/// However many processors there are: a table of so many connections takes a third of a GB.
const MOST: u64 = 1 << 20;
/// Connections for each bucket of the table.
const IN_A_BUCKET: u64 = 4;

/// What is set of the kernel's connection tracking. What is 0 is not set.
#[derive(Debug, Clone, PartialEq, Eq)]
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

/// What is said of it, by upstream's flags or by `conntrack` of a KubeProxyConfiguration; null is the default, as kubeadm writes it.
#[derive(Debug, Default, clap::Args, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct ConntrackSettings {
    /// Connections that are tracked at most, for each processor; 0 leaves the limit and --conntrack-min alone [default: 32768]
    #[arg(long = "conntrack-max-per-core")]
    max_per_core: Option<u32>,
    /// Connections that may be tracked whatever the processors [default: 131072]
    #[arg(long = "conntrack-min")]
    min: Option<u32>,
    /// How long a silent TCP connection is tracked; 0 leaves it as it is [default: 24h]
    #[arg(long = "conntrack-tcp-timeout-established", value_parser = api::time::flag_duration)]
    #[serde(deserialize_with = "duration")]
    tcp_established_timeout: Option<Duration>,
    /// How long one is tracked that the other side has closed; 0 leaves it as it is [default: 1h]
    #[arg(long = "conntrack-tcp-timeout-close-wait", value_parser = api::time::flag_duration)]
    #[serde(deserialize_with = "duration")]
    tcp_close_wait_timeout: Option<Duration>,
    /// Takes no packet outside of its connection's window for invalid
    #[arg(long = "conntrack-tcp-be-liberal")]
    tcp_be_liberal: bool,
    /// How long a UDP flow is tracked that nobody answers; 0 leaves it as it is
    #[arg(long = "conntrack-udp-timeout", value_parser = api::time::flag_duration)]
    #[serde(deserialize_with = "duration")]
    udp_timeout: Option<Duration>,
    /// How long one is tracked that is answered; 0 leaves it as it is
    #[arg(long = "conntrack-udp-timeout-stream", value_parser = api::time::flag_duration)]
    #[serde(deserialize_with = "duration")]
    udp_stream_timeout: Option<Duration>,
}

fn duration<'de, D: Deserializer<'de>>(source: D) -> Result<Option<Duration>, D::Error> {
    let Some(text) = Option::<String>::deserialize(source)? else {
        return Ok(None);
    };
    let read = api::time::flag_duration(&text);
    read.map(Some)
        .map_err(|why| D::Error::custom(format_args!("{text:?} {why}")))
}

impl ConntrackSettings {
    /// What these flags and this file come to.
    pub(crate) fn over(&self, file: &ConntrackSettings) -> ConntrackConfig {
        let default = ConntrackConfig::default();
        let time = |flag: Option<Duration>, file: Option<Duration>, default| flag.or(file).unwrap_or(default);
        ConntrackConfig {
            max_per_core: self.max_per_core.or(file.max_per_core).unwrap_or(default.max_per_core),
            min: self.min.or(file.min).unwrap_or(default.min),
            tcp_established_timeout: time(
                self.tcp_established_timeout,
                file.tcp_established_timeout,
                default.tcp_established_timeout,
            ),
            tcp_close_wait_timeout: time(
                self.tcp_close_wait_timeout,
                file.tcp_close_wait_timeout,
                default.tcp_close_wait_timeout,
            ),
            tcp_be_liberal: self.tcp_be_liberal || file.tcp_be_liberal,
            udp_timeout: time(self.udp_timeout, file.udp_timeout, default.udp_timeout),
            udp_stream_timeout: time(
                self.udp_stream_timeout,
                file.udp_stream_timeout,
                default.udp_stream_timeout,
            ),
        }
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
        ConntrackSettings::default().over(&serde_saphyr::from_str(text).unwrap())
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
        assert!(serde_saphyr::from_str::<ConntrackSettings>("udpTimeout: -1s").is_err());
    }
}
