//! `skiff kubelet`: upstream's main flags.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;

use client::{Client, RotatingTransport};
use tokio_util::sync::CancellationToken;

use crate::certificates::{self, CertificateError, ClientCertificate, ServingCertificate, Store, Way};
use crate::flags::FieldFlags;
use crate::{ConfigError, KubeletConfig, KubeletError, ServerTls};

/// Flags of the kubelet as a program of its own. Flags win over the file.
#[derive(Debug, clap::Parser)]
#[command(name = "kubelet", about = "Runs the pods that are bound to this node")]
pub struct Args {
    /// How to reach the API server. With --bootstrap-kubeconfig it is made where it is not there, or its certificate has expired
    #[arg(long)]
    pub kubeconfig: PathBuf,
    /// How to reach the API server to request a client certificate of it
    #[arg(long)]
    pub bootstrap_kubeconfig: Option<PathBuf>,
    /// Where requested certificates are; pki of the root directory unless given
    #[arg(long)]
    pub cert_dir: Option<PathBuf>,
    /// Settings of the node.
    #[command(flatten)]
    pub settings: Settings,
}

/// The flags that are settings of the node.
#[derive(Debug, clap::Parser)]
#[command(name = "kubelet", no_binary_name = true, args_override_self = true)]
pub struct Settings {
    /// A KubeletConfiguration file
    #[arg(long)]
    pub config: Option<PathBuf>,
    /// Features that are switched on or off: A=true,B=false
    #[arg(long, value_parser = api::features::check)]
    pub feature_gates: Vec<String>,
    /// The node's name in place of the host's
    #[arg(long)]
    pub hostname_override: Option<String>,
    /// The node's addresses, one of each family at most
    #[arg(long, value_delimiter = ',')]
    pub node_ip: Vec<IpAddr>,
    /// Labels for registration, as key=value
    #[arg(long, value_delimiter = ',')]
    pub node_labels: Vec<String>,
    /// Where volumes and other files of pods are
    #[arg(long)]
    pub root_dir: Option<PathBuf>,
    /// Taints for registration, as key=value:effect
    #[arg(long, value_delimiter = ',')]
    pub register_with_taints: Vec<String>,
    /// Fields of the configuration that are flags too.
    #[command(flatten)]
    pub fields: FieldFlags,
}

/// Why the program ends.
#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    /// A configuration file cannot be read or used.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The API server cannot be reached.
    #[error(transparent)]
    Client(#[from] client::Error),
    /// The container runtime cannot be reached.
    #[error(transparent)]
    Runtime(#[from] cri::ConnectError),
    /// The kubelet cannot start.
    #[error(transparent)]
    Kubelet(#[from] KubeletError),
    /// A label has no equals sign.
    #[error("--node-labels: {0:?} is not key=value")]
    Label(String),
    /// A taint lacks a part.
    #[error("--register-with-taints: {0:?} is not key=value:effect")]
    Taint(String),
    /// `--feature-gates` names what there is not.
    #[error("--feature-gates: {0}")]
    FeatureGates(#[from] api::features::GateError),
    /// The client certificate cannot be had.
    #[error(transparent)]
    Certificate(#[from] CertificateError),
    /// No runtime is named.
    #[error("no container runtime: give --container-runtime-endpoint")]
    NoRuntime,
    /// The host has no address that others reach.
    #[error("the node has no address: give --node-ip")]
    NoAddress,
}

/// Runs until `shutdown`.
pub async fn run(args: Args, shutdown: CancellationToken) -> Result<(), CommandError> {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let name = host.trim().to_lowercase();
    let mut config = KubeletConfig::new(args.settings.hostname_override.as_deref().unwrap_or(&name));
    let endpoint = args.settings.apply(&mut config)?;
    if config.node_ips.is_empty() {
        config.node_ips.push(default_address().ok_or(CommandError::NoAddress)?);
    }
    let runtime = cri::connect(&endpoint.ok_or(CommandError::NoRuntime)?)?;
    let dir = args.cert_dir.unwrap_or_else(|| config.root_dir.join("pki"));
    let store = |name| Store { dir: dir.clone(), name };
    let known_by = store("kubelet-client");
    let way = Way {
        kubeconfig: &args.kubeconfig,
        bootstrap: args.bootstrap_kubeconfig.as_deref(),
        store: &known_by,
        node: &config.node_name,
        rotate: config.rotate_certificates,
    };
    let connection = tokio::select! {
        found = certificates::find(&way) => found?,
        () = shutdown.cancelled() => return Ok(()),
    };
    let transport = RotatingTransport::new(&connection)?;
    let client = Client::new(Arc::new(transport.clone()), "skiff-kubelet");
    let ended = shutdown.child_token();
    let _stop = ended.clone().drop_guard();
    if config.rotate_certificates {
        let certificate = ClientCertificate {
            store: known_by,
            node: config.node_name.clone(),
            config: connection,
            transport,
            client: client.clone(),
        };
        tokio::spawn(pki::renewal::keep(certificate, ended.clone()));
    }
    let named = !matches!(config.server_tls, ServerTls::SelfSigned);
    if config.server_tls_bootstrap && named {
        tracing::warn!("tlsCertFile names the serving certificate: serverTLSBootstrap requests none");
    } else if config.server_tls_bootstrap {
        let addresses = config.node_ips.iter().chain(&config.node_external_ips);
        let names = [config.node_name.clone()]
            .into_iter()
            .chain(addresses.map(ToString::to_string));
        let store = store("kubelet-server");
        let certificate = ServingCertificate::load(store, &config.node_name, names.collect(), client.clone())?;
        config.server_tls = ServerTls::Renewed(certificate.shown());
        tokio::spawn(pki::renewal::keep(certificate, ended));
    }
    crate::run(config, client, runtime, shutdown).await?;
    Ok(())
}

impl Settings {
    /// Puts what was given into the configuration; flags win over the file. The runtime endpoint, if one is named.
    ///
    /// # Errors
    /// For a file that cannot be used, and labels and taints that cannot be read.
    pub fn apply(self, config: &mut KubeletConfig) -> Result<Option<String>, CommandError> {
        api::features::set(&self.feature_gates.join(","))?;
        let mut endpoint = None;
        if let Some(path) = &self.config {
            endpoint = config.apply_file(path)?;
        }
        endpoint = config.apply_flags(&self.fields)?.or(endpoint);
        config.node_labels.extend(labels(&self.node_labels)?);
        for text in &self.register_with_taints {
            config.register_taints.push(taint(text)?);
        }
        if !self.node_ip.is_empty() {
            config.node_ips = self.node_ip;
        }
        if let Some(dir) = self.root_dir {
            config.root_dir = dir;
        }
        config.check()?;
        Ok(endpoint)
    }
}

/// `key=value:effect` or `key:effect`.
fn taint(text: &str) -> Result<k8s_openapi::api::core::v1::Taint, CommandError> {
    let bad = || CommandError::Taint(text.to_owned());
    let (key, effect) = text.rsplit_once(':').ok_or_else(bad)?;
    let (key, value) = key
        .split_once('=')
        .map_or((key, None), |(k, v)| (k, Some(v.to_owned())));
    if key.is_empty() || !matches!(effect, "NoSchedule" | "PreferNoSchedule" | "NoExecute") {
        return Err(bad());
    }
    Ok(k8s_openapi::api::core::v1::Taint {
        key: key.to_owned(),
        value,
        effect: effect.to_owned(),
        ..Default::default()
    })
}

fn labels(pairs: &[String]) -> Result<BTreeMap<String, String>, CommandError> {
    let split = |p: &String| {
        p.split_once('=')
            .map(|(k, v)| (k.to_owned(), v.to_owned()))
            .ok_or_else(|| CommandError::Label(p.clone()))
    };
    pairs.iter().map(split).collect()
}

/// The address this host would use towards the outside. A connected UDP socket sends nothing.
fn default_address() -> Option<IpAddr> {
    let socket = std::net::UdpSocket::bind(("0.0.0.0", 0)).ok()?;
    socket.connect(("192.0.2.1", 9)).ok()?;
    socket
        .local_addr()
        .ok()
        .map(|a| a.ip())
        .filter(|ip| !ip.is_unspecified())
}
