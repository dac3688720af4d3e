//! The flags of `skiff server`, named as k3s names them, and the file they can come from.

use std::ffi::OsString;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::Value;

/// Read when `--config` names no other.
pub const DEFAULT_CONFIG: &str = "/etc/skiff/config.yaml";

#[derive(Debug, Args)]
pub struct ServerArgs {
    /// Let requests without credentials ask for anything, as `system:anonymous`. Without it they may ask for health alone.
    #[arg(long, hide = true)]
    pub anonymous_auth: bool,
    /// YAML file of flags; what the command line says wins. /etc/skiff/config.yaml is read if it is there.
    #[arg(short = 'c', long)]
    pub config: Option<PathBuf>,
    /// Folder that holds state.
    #[arg(short = 'd', long, default_value = crate::node_paths::DEFAULT_DATA_DIR)]
    pub data_dir: PathBuf,
    /// Address to listen on.
    #[arg(long, default_value = "0.0.0.0")]
    pub bind_address: IpAddr,
    /// Port to listen on.
    #[arg(long, default_value_t = 6443)]
    pub https_listen_port: u16,
    /// Address that members of the cluster reach the server by; the node's own unless given.
    #[arg(long)]
    pub advertise_address: Option<IpAddr>,
    /// More names and addresses for the server's certificate.
    #[arg(long, value_delimiter = ',')]
    pub tls_san: Vec<String>,
    /// IPv4 network of pods.
    #[arg(long, default_value = "10.42.0.0/16")]
    pub cluster_cidr: String,
    /// IPv4 network of Services.
    #[arg(long, default_value = "10.43.0.0/16")]
    pub service_cidr: String,
    /// Ports of Services of type NodePort.
    #[arg(long, default_value = "30000-32767")]
    pub service_node_port_range: String,
    /// Address of the cluster's DNS; the tenth of the Service network unless given.
    #[arg(long)]
    pub cluster_dns: Option<IpAddr>,
    /// Domain of the cluster.
    #[arg(long, default_value = "cluster.local")]
    pub cluster_domain: String,
    /// Where to write the administrator's kubeconfig; `<data-dir>/server/cred/admin.kubeconfig` unless given.
    #[arg(short = 'o', long)]
    pub write_kubeconfig: Option<PathBuf>,
    /// Mode of that file, octal.
    #[arg(long, default_value = "600")]
    pub write_kubeconfig_mode: String,
    /// The cluster's secret; made on first start unless given, and kept in `<data-dir>/server/token`. Agents cannot join yet.
    #[arg(short = 't', long)]
    pub token: Option<String>,
    /// Built-in parts to leave out: coredns (the cluster's DNS).
    #[arg(long, value_delimiter = ',')]
    pub disable: Vec<String>,
    /// Run no node beside the control plane.
    #[arg(long)]
    pub disable_agent: bool,
    /// Run no scheduler.
    #[arg(long)]
    pub disable_scheduler: bool,
    /// Run no controllers.
    #[arg(long)]
    pub disable_controller_manager: bool,
    /// Run no kube-proxy.
    #[arg(long)]
    pub disable_kube_proxy: bool,
    #[command(flatten)]
    pub limits: LimitArgs,
    #[command(flatten)]
    pub node: NodeArgs,
}

/// What the API server takes on at a time, by upstream's names.
#[derive(Debug, Clone, Args)]
pub struct LimitArgs {
    /// Requests that are answered at a time and change nothing; 0 is no limit. Administrators' do not count.
    #[arg(long, default_value_t = 400)]
    pub max_requests_inflight: usize,
    /// Requests that are answered at a time and change something; 0 is no limit.
    #[arg(long, default_value_t = 200)]
    pub max_mutating_requests_inflight: usize,
    /// How long a request may take, as 1m0s; watches, logs and the like may last.
    #[arg(long, default_value = "1m0s", value_parser = duration)]
    pub request_timeout: std::time::Duration,
}

/// A Go duration, as 1m0s.
fn duration(text: &str) -> Result<std::time::Duration, String> {
    let nanos = api::time::parse_duration(text).and_then(|nanos| u64::try_from(nanos).ok());
    nanos
        .map(std::time::Duration::from_nanos)
        .ok_or_else(|| "is not a duration, such as 1m0s".to_owned())
}

impl LimitArgs {
    pub fn limits(&self) -> apiserver::server::limits::Limits {
        apiserver::server::limits::Limits::new(
            self.max_requests_inflight,
            self.max_mutating_requests_inflight,
            self.request_timeout,
            crate::memory::give_back,
        )
    }
}

/// Flags of the node's side.
#[derive(Debug, Args)]
pub struct NodeArgs {
    /// The node's name; the host's unless given.
    #[arg(long)]
    pub node_name: Option<String>,
    /// The node's address; the one its default route uses unless given.
    #[arg(short = 'i', long)]
    pub node_ip: Option<IpAddr>,
    /// Labels the node registers with, as key=value.
    #[arg(long, value_delimiter = ',')]
    pub node_label: Vec<String>,
    /// Taints the node registers with, as key=value:effect.
    #[arg(long, value_delimiter = ',')]
    pub node_taint: Vec<String>,
    /// A kubelet's setting, as flag=value.
    #[arg(long)]
    pub kubelet_arg: Vec<String>,
    /// Where registries' settings are, as k3s's registries.yaml.
    #[arg(long, default_value = "/etc/skiff/registries.yaml")]
    pub private_registry: PathBuf,
    /// resolv.conf that pods and the cluster's DNS start from.
    #[arg(long)]
    pub resolv_conf: Option<PathBuf>,
    /// Use this CRI runtime in place of skiff's own.
    #[arg(long)]
    pub container_runtime_endpoint: Option<String>,
}

/// Why a file of flags cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error("{}: {source}", path.display())]
    Read { path: PathBuf, source: std::io::Error },
    #[error("{}: {why}", path.display())]
    Parse { path: PathBuf, why: String },
}

/// The command line with the flags of the configuration file put in, in front of its own.
///
/// # Errors
/// When the file that `--config` names is not there, or is not a map of flags.
pub fn with_config(args: Vec<OsString>) -> Result<Vec<OsString>, ConfigError> {
    if args.get(1).and_then(|a| a.to_str()) != Some("server") {
        return Ok(args);
    }
    let texts: Vec<String> = args.iter().map(|a| a.to_string_lossy().into_owned()).collect();
    let mut named = None;
    for (i, text) in texts.iter().enumerate() {
        if let Some(path) = text.strip_prefix("--config=") {
            named = Some(path.to_owned());
        } else if text == "--config" || text == "-c" {
            named = texts.get(i + 1).cloned();
        }
    }
    let path = match &named {
        Some(path) => Path::new(path),
        None if Path::new(DEFAULT_CONFIG).exists() => Path::new(DEFAULT_CONFIG),
        None => return Ok(args),
    };
    let text = std::fs::read_to_string(path).map_err(|source| ConfigError::Read {
        path: path.to_owned(),
        source,
    })?;
    let parsed = flags_of(&text, &texts).map_err(|why| ConfigError::Parse {
        path: path.to_owned(),
        why,
    })?;
    let mut merged = args[..2].to_vec();
    merged.extend(parsed.into_iter().map(OsString::from));
    merged.extend_from_slice(&args[2..]);
    Ok(merged)
}

fn flags_of(text: &str, given: &[String]) -> Result<Vec<String>, String> {
    let tree: Value = serde_saphyr::from_str(text).map_err(|e| e.to_string())?;
    let map = match &tree {
        Value::Null => return Ok(Vec::new()),
        Value::Object(map) => map,
        _ => return Err("is not a map of flags".into()),
    };
    let mut flags = Vec::new();
    for (key, value) in map {
        let flag = format!("--{key}");
        let prefix = format!("{flag}=");
        if given.iter().any(|g| *g == flag || g.starts_with(&prefix)) {
            continue;
        }
        let mut push = |value: &Value| {
            flags.push(match value {
                Value::Bool(true) => flag.clone(),
                Value::Bool(false) | Value::Null => return Ok(()),
                Value::String(s) => format!("{prefix}{s}"),
                Value::Number(n) => format!("{prefix}{n}"),
                _ => return Err(format!("{key}: is neither a value nor a list of values")),
            });
            Ok(())
        };
        match value {
            Value::Array(list) => list.iter().try_for_each(&mut push)?,
            one => push(one)?,
        }
    }
    Ok(flags)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_gives_what_the_command_line_does_not() {
        let text =
            "data-dir: /x\nhttps-listen-port: 7000\ntls-san: [a, b]\ndisable-agent: true\ndisable-scheduler: false\n";
        let given = vec!["skiff".to_owned(), "server".to_owned(), "--data-dir=/y".to_owned()];
        let mut flags = flags_of(text, &given).unwrap();
        flags.sort();
        assert_eq!(
            flags,
            [
                "--disable-agent",
                "--https-listen-port=7000",
                "--tls-san=a",
                "--tls-san=b"
            ]
        );
        assert!(flags_of("- a", &given).is_err());
        assert!(flags_of("a: {b: c}", &given).is_err());
    }
}
