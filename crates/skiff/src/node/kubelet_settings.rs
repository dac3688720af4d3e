//! The kubelet's configuration, from the node's flags and what the cluster says.

use clap::Parser;
use kubelet::KubeletConfig;
use kubelet::thresholds::{Amount, Signal};

use super::args::NodeArgs;
use super::{ClusterSettings, KubeletIdentity, NodeError, NodeIdentity};
use crate::node_paths::NodePaths;

/// # Errors
/// For flags that the kubelet does not have, and a kernel that is not as they ask for.
pub fn config(
    args: &NodeArgs,
    cluster: &ClusterSettings,
    node: &NodeIdentity,
    paths: &NodePaths,
    shown: &KubeletIdentity,
) -> Result<KubeletConfig, NodeError> {
    let mut config = KubeletConfig::new(&node.name);
    // Disks are shared with much that is no pod's: only when one is all but full do pods have to go for it. Who wants
    // upstream's tenth says so by --kubelet-arg=eviction-hard.
    for signal in [
        Signal::NodefsAvailable,
        Signal::NodefsInodesFree,
        Signal::ImagefsAvailable,
        Signal::ImagefsInodesFree,
    ] {
        config.eviction.hard.insert(signal, Amount::Percent(1.0));
    }
    config.node_ips = node.ips.clone();
    config.node_external_ips = node.external_ips.clone();
    config.cluster_dns = vec![cluster.cluster_dns.to_string()];
    config.cluster_domain = cluster.cluster_domain.clone();
    config.cgroup_root = paths.cgroup.clone();
    config.root_dir = paths.kubelet.clone();
    config.pod_log_dir = paths.pod_logs.clone();
    config.container_log_links = paths.container_logs.clone();
    config.static_pod_path = Some(paths.manifests());
    config.protect_kernel_defaults = args.protect_kernel_defaults;
    config.server_tls = kubelet::ServerTls::Renewed(shown.serving.clone());
    config.client_ca = Some(shown.client_authority.as_bytes().to_vec());
    if let Some(path) = &args.resolv_conf {
        config.resolv_conf = path.clone();
    }
    let flag = |name: &str, values: &[String]| values.iter().map(|v| format!("--{name}={v}")).collect::<Vec<_>>();
    let mut flags = flag("node-labels", &args.node_label);
    flags.extend(flag("register-with-taints", &args.node_taint));
    flags.extend(
        args.kubelet_arg
            .iter()
            .map(|a| format!("--{}", a.trim_start_matches("--"))),
    );
    let settings = kubelet::command::Settings::try_parse_from(flags)
        .map_err(|e| NodeError::KubeletArg(e.render().to_string().trim_start_matches("error: ").trim().to_owned()))?;
    config.rotate_certificates = true;
    let endpoint = settings.apply(&mut config)?;
    if !config.rotate_certificates {
        return Err(NodeError::KubeletArg(
            "rotateCertificates: a node's certificates are always renewed".into(),
        ));
    }
    if config.server_tls_bootstrap {
        let why = "serverTLSBootstrap: the server signs the kubelet's serving certificate by itself";
        return Err(NodeError::KubeletArg(why.into()));
    }
    kubelet::check_kernel(&config).map_err(|e| NodeError::KubeletArg(e.to_string()))?;
    if endpoint.is_some() {
        return Err(NodeError::KubeletArg(
            "name the runtime by --container-runtime-endpoint of the node".into(),
        ));
    }
    Ok(config)
}
