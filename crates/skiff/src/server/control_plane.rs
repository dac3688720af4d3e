//! The datastore and the API server in this process.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use apiserver::aggregator::{Aggregator, Follower};
use apiserver::allocator::{Network, Ranges};
use apiserver::audit::Audit;
use apiserver::authentication::Authenticator;
use apiserver::authentication::service_account::TokenIssuer;
use apiserver::http::front_proxy;
use apiserver::http::status::ApiError;
use apiserver::http::user::{MASTERS, User};
use apiserver::pipeline::Pipeline;
use apiserver::registry::{Machine, Registry};
use apiserver::server::beside::Beside;
use apiserver::server::{ApiServer, connection};
use apiserver::subresource::kubelet::KubeletClient;
use cni::link::Net;
use etcd::Store;
use serving::Certificate;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::GIT_VERSION;
use crate::certificates::Certificates;
use crate::in_process;
use crate::networks;
use crate::server::ServerError;
use crate::server::args::ServerArgs;
use crate::server::compaction::Compaction;
use crate::server::shown::Shown;
use crate::server::supervisor::{Seats, Supervisor, node_password};
use crate::server::token::{self, Tokens};

/// How often a full disk is looked at again for what the cluster lacks.
const ROOM_AGAIN: Duration = Duration::from_secs(10);

/// How long events of audit that wait may take to be delivered at the end.
const LAST_EVENTS: Duration = Duration::from_secs(10);

fn networks(flag: &'static str, text: &str, lengths: &networks::Lengths) -> Result<Vec<Net>, ServerError> {
    networks::parse(text, lengths).map_err(|why| ServerError::Flag {
        flag,
        value: text.into(),
        why: why.to_string(),
    })
}

fn parse_ports(text: &str) -> Result<std::ops::RangeInclusive<u16>, ServerError> {
    let parsed = text
        .split_once('-')
        .and_then(|(a, b)| Some((a.parse().ok()?, b.parse().ok()?)));
    match parsed {
        Some((first, last)) if 0 < first && first <= last => Ok(first..=last),
        _ => Err(ServerError::Flag {
            flag: "service-node-port-range",
            value: text.into(),
            why: "is not of the form 30000-32767".into(),
        }),
    }
}

/// A control plane that serves.
pub struct ControlPlane {
    pub api: Arc<ApiServer>,
    pub certificates: Arc<Certificates>,
    /// How this machine reaches it.
    pub local: SocketAddr,
    pub cluster_dns: IpAddr,
    /// What it shows of itself.
    pub shown: Shown,
    store: Arc<etcd::Embedded>,
    serving: tokio::task::JoinHandle<()>,
    stop: CancellationToken,
}

/// The addresses and ports that Services are given, and the network of those that Services have first.
fn ranges(args: &ServerArgs, service_networks: &[Net]) -> Result<(Ranges, Network), ServerError> {
    networks("cluster-cidr", &args.cluster_cidr, &networks::PODS)?;
    let service_networks = service_networks.iter();
    let ranges = Ranges {
        service_networks: service_networks
            .filter_map(|net| Network::new(net.ip, net.prefix))
            .collect(),
        node_ports: parse_ports(&args.service_node_port_range)?,
    };
    match ranges.service_networks.first().copied() {
        Some(first) => Ok((ranges, first)),
        None => Err(ServerError::Flag {
            flag: "service-cidr",
            value: args.service_cidr.clone(),
            why: "names no network".into(),
        }),
    }
}

async fn listen(address: SocketAddr) -> Result<TcpListener, ServerError> {
    TcpListener::bind(address).await.map_err(|source| {
        let used = source.kind() == std::io::ErrorKind::AddrInUse;
        let hint = if used {
            listener_of(address.port()).unwrap_or_default()
        } else {
            String::new()
        };
        ServerError::Listen { address, source, hint }
    })
}

/// The names that clients may know the server by, for its certificate.
fn names(args: &ServerArgs, service_ip: IpAddr, advertise: IpAddr) -> Vec<String> {
    let mut names: Vec<String> = vec![
        "kubernetes".into(),
        "kubernetes.default".into(),
        "kubernetes.default.svc".into(),
        format!("kubernetes.default.svc.{}", args.cluster_domain),
        "localhost".into(),
        "127.0.0.1".into(),
        service_ip.to_string(),
        advertise.to_string(),
    ];
    names.extend(args.tls_san.iter().cloned());
    names
}

/// The certificates of the cluster, made where there are none yet.
fn certificates(args: &ServerArgs, directory: &Path, names: Vec<String>) -> Result<Arc<Certificates>, ServerError> {
    let lifetime = args.certificate_lifetime;
    let lifetime = time::Duration::try_from(lifetime).map_err(|why| ServerError::Flag {
        flag: "certificate-lifetime",
        value: format!("{lifetime:?}"),
        why: why.to_string(),
    })?;
    let now = time::OffsetDateTime::now_utc();
    Ok(Arc::new(Certificates::prepare(directory, names, lifetime, now)?))
}

/// The tokens by which machines join.
fn tokens(args: &ServerArgs, directory: &Path, certificates: &Certificates) -> Result<Arc<Tokens>, ServerError> {
    let read = |value: &Option<String>, file: &Option<PathBuf>| {
        token::given(value.as_ref(), file.as_ref()).map_err(ServerError::TokenFile)
    };
    Tokens::ensure(
        directory,
        certificates.server_authority.certificate(),
        read(&args.token, &args.token_file)?.as_deref(),
        read(&args.agent_token, &args.agent_token_file)?.as_deref(),
    )
}

fn open_store(args: &ServerArgs, path: PathBuf) -> Result<Arc<etcd::Embedded>, ServerError> {
    let disk = etcd::disk::Directory::open(&path).map_err(|source| ServerError::File { path, source })?;
    let opened = etcd::Embedded::open(Arc::new(disk), etcd::EmbeddedConfig::default());
    Ok(Arc::new(opened.map_err(|e| store_error(e, args))?))
}

/// The API server of a store, which does not serve yet.
fn api_server(
    args: &ServerArgs,
    registry: Arc<Registry>,
    certificates: &Certificates,
    issuer: TokenIssuer,
    audit: Option<Arc<Audit>>,
    ranges: Ranges,
) -> Result<Arc<ApiServer>, ServerError> {
    let admission = args.admission.admission(&registry)?;
    let pipeline = Pipeline::new(registry.clone(), admission, ranges);
    let front_proxy = args.aggregation.front_proxy(certificates)?;
    let (kubelet_certificate, kubelet_key) = certificates.to_kubelets()?;
    Ok(Arc::new(ApiServer {
        pipeline,
        aggregator: Aggregator::new(registry.clone(), front_proxy.clone(), args.aggregation.options()),
        authenticator: Authenticator {
            registry: registry.clone(),
            front_proxy,
            tokens: Arc::new(issuer),
            fixed: std::collections::HashMap::new(),
            last_modes: apiserver::authentication::impersonation::LastModes::default(),
            anonymous: args.anonymous_auth,
        },
        discovery: apiserver::server::discovery::Documents,
        openapi: apiserver::server::openapi::Documents::default(),
        kubelets: KubeletClient::new(
            certificates.server_authority.certificate(),
            &kubelet_certificate,
            &kubelet_key,
        )?,
        version: apiserver::Version {
            git_version: GIT_VERSION.into(),
            git_commit: String::new(),
            build_date: "1970-01-01T00:00:00Z".into(),
        },
        health: apiserver::server::health::Health::default(),
        components: apiserver::server::component_status::Components::default(),
        limits: args.limits.limits(&registry),
        audit,
        others: metrics::Registry::default(),
        pod_resources: std::sync::OnceLock::new(),
        registry,
    }))
}

/// Opens the store, makes what a cluster needs and serves.
///
/// # Errors
/// For flags without sense, a port or a data directory in use, and files that cannot be read or written.
/// `node` is the name of the server's own node.
pub async fn start(args: &ServerArgs, advertise: IpAddr, node: Option<&str>) -> Result<ControlPlane, ServerError> {
    let service_networks = networks("service-cidr", &args.service_cidr, &networks::SERVICES)?;
    let (ranges, own_network) = ranges(args, &service_networks)?;
    let service_ip = own_network.first();
    let cluster_dns = args.cluster_dns.unwrap_or_else(|| own_network.nth(10));
    let server_dir = args.data_dir.join("server");

    // the port first: whoever has it is named before anything is written
    let address = SocketAddr::new(args.bind_address, args.https_listen_port);
    let listener = listen(address).await?;
    let port = listener.local_addr().map_err(ServerError::Signals)?.port();

    let names = names(args, service_ip, advertise);
    let own_names = names.iter().cloned().collect();
    let tls_dir = server_dir.join("tls");
    let certificates = certificates(args, &tls_dir, names)?;
    let tokens = tokens(args, &server_dir, &certificates)?;
    let issuer = token_issuer(&tls_dir, &args.cluster_domain)?;
    let audit = match &args.audit {
        Some(flags) => flags.start()?,
        None => None,
    };
    let store = open_store(args, server_dir.join("db"))?;
    let registry = Arc::new(Registry::start(store.clone(), Arc::new(Machine)).await?);
    let api = api_server(args, registry, &certificates, issuer, audit, ranges)?;
    let (pipeline, front_proxy) = (api.pipeline.clone(), api.authenticator.front_proxy.clone());
    let cluster_ips = apiserver::repair::watch(&pipeline)?;
    let flows = apiserver::flow_control::keep::watch(&pipeline)?;
    let cluster = Cluster {
        api: api.clone(),
        store: store.clone(),
        service_ip,
        advertise,
        port,
        authentication: front_proxy::authentication_data(
            certificates.client_authority.certificate(),
            &front_proxy.behind,
        ),
    };
    let stop = CancellationToken::new();
    cluster.complete_now_or_later(&stop).await?;

    let (certificate, key) = certificates.serving()?;
    let serving = Certificate::new(&certificate, &key).map_err(connection::ServeError::from)?;
    let client_authority = certificates.client_authority.certificate();
    let acceptor = connection::tls(serving.clone(), client_authority, &front_proxy.behind, &args.tls)?;
    let reach = if args.bind_address.is_unspecified() {
        IpAddr::V4(Ipv4Addr::LOCALHOST)
    } else {
        args.bind_address
    };
    // requests for the groups of extension servers are theirs from the first one on
    tokio::spawn(Follower::start(api.aggregator.clone())?.run(stop.clone()));
    tokio::spawn(apiserver::repair::follow(pipeline.clone(), cluster_ips, stop.clone()));
    tokio::spawn(apiserver::flow_control::keep::follow(
        pipeline.clone(),
        flows,
        stop.clone(),
    ));
    let beside = args.joinable.then(|| -> Arc<dyn Beside> {
        let client = in_process::client(&api, User::new("system:skiff", &[MASTERS]), "skiff");
        tokio::spawn(node_password::forget(client.clone(), stop.clone()));
        Arc::new(Supervisor {
            api: api.clone(),
            certificates: certificates.clone(),
            tokens,
            settings: args.cluster_settings(cluster_dns),
            client,
            own_node: node.map(str::to_owned),
            own_names,
            service_networks,
            egress: args.egress_selector_mode,
            seats: Seats::default(),
        })
    });
    let task = tokio::spawn(connection::serve(api.clone(), beside, listener, acceptor, stop.clone()));
    tokio::spawn(maintain(store.clone(), api.clone(), stop.clone()));
    Ok(ControlPlane {
        local: SocketAddr::new(reach, port),
        cluster_dns,
        shown: Shown {
            certificates: certificates.clone(),
            serving,
            front_proxy,
            aggregation: args.aggregation.clone(),
            kubelets: api.kubelets.clone(),
        },
        api,
        certificates,
        store,
        serving: task,
        stop,
    })
}

/// What a cluster must have is made from this at every start.
struct Cluster {
    api: Arc<ApiServer>,
    store: Arc<etcd::Embedded>,
    service_ip: IpAddr,
    advertise: IpAddr,
    port: u16,
    /// Whom extension servers may believe.
    authentication: serde_json::Value,
}

impl Cluster {
    /// Serves the custom resources, repairs cluster IPs and makes what is missing: all of it that can be done.
    async fn complete(&self) -> Result<(), ApiError> {
        let pipeline = &self.api.pipeline;
        let repaired = apiserver::repair::repair(pipeline).await;
        let data = &self.authentication;
        let made = crate::bootstrap::bootstrap(pipeline, self.service_ip, self.advertise, self.port, data).await;
        let restored = apiserver::custom::restore(pipeline).await;
        let health = &self.api.health;
        for (part, result) in [
            (&health.repaired, &repaired),
            (&health.made, &made),
            (&health.restored, &restored),
        ] {
            part.store(result.is_ok(), std::sync::atomic::Ordering::Relaxed);
        }
        repaired.and(made).and(restored)
    }

    /// Completes the cluster, if there is room on the disk for it; else as soon as there is.
    async fn complete_now_or_later(self, stop: &CancellationToken) -> Result<(), ApiError> {
        match self.complete().await {
            Err(error) if self.store.is_full() => {
                tracing::warn!(%error, "the disk is full: what the cluster has is served, what it lacks is made when there is room");
                tokio::spawn(self.complete_later(stop.clone()));
                Ok(())
            }
            done => done,
        }
    }

    /// Tries until there is room on the disk.
    async fn complete_later(self, stop: CancellationToken) {
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(ROOM_AGAIN) => {}
            }
            match self.complete().await {
                Ok(()) => return tracing::info!("there is room again: the cluster is complete"),
                Err(error) if self.store.is_full() => tracing::debug!(%error, "the disk is still full"),
                Err(error) => tracing::warn!(%error, "what the cluster lacks cannot be made yet"),
            }
        }
    }
}

/// A damaged store's error says how to go on.
fn store_error(error: etcd::embedded::OpenError, args: &ServerArgs) -> ServerError {
    if !error.is_damage() {
        return ServerError::Store(error);
    }
    ServerError::Damaged {
        error,
        dir: args.data_dir.join("server/db"),
        command: format!(
            "{} --data-dir {} --unsafe-truncate-log",
            args.command,
            args.data_dir.display()
        ),
    }
}

impl ControlPlane {
    /// Answers what was asked, then ends.
    pub async fn stop(self) {
        self.api
            .health
            .stopping
            .store(true, std::sync::atomic::Ordering::Relaxed);
        self.stop.cancel();
        if let Err(error) = self.serving.await {
            tracing::error!(%error, "the server's task failed");
        }
        if let Some(audit) = &self.api.audit
            && tokio::time::timeout(LAST_EVENTS, audit.close()).await.is_err()
        {
            tracing::error!("audit events that wait are lost: their backend does not take them");
        }
        drop(self.store);
    }
}

/// Compacts the store as upstream does, every five minutes if there is something to forget, and gives back the memory that was for it.
async fn maintain(store: Arc<etcd::Embedded>, api: Arc<ApiServer>, stop: CancellationToken) {
    const COMPACTION: Duration = Duration::from_secs(300);
    let mut compaction = Compaction::new(store.revision());
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(COMPACTION) => {}
        }
        // what was current five minutes ago: nobody's list takes longer
        if let Some(previous) = compaction.due(store.revision(), store.compacted()) {
            match store.compact(previous).await {
                Ok(()) | Err(etcd::StoreError::Compacted { .. }) => api.registry.compact(previous),
                Err(error) => tracing::warn!(%error, "compaction failed"),
            }
            api.openapi.clear().await;
            if let Err(error) = tokio::task::spawn_blocking(crate::memory::give_back_all).await {
                tracing::error!(%error, "memory is not given back");
            }
        }
    }
}

/// The key that service-account tokens are signed with: `service.key`, made on first start.
fn token_issuer(dir: &Path, domain: &str) -> Result<TokenIssuer, ServerError> {
    use rustls_pki_types::PrivatePkcs8KeyDer;
    use rustls_pki_types::pem::PemObject;
    let path = dir.join("service.key");
    if !path.exists() {
        let random = ring::rand::SystemRandom::new();
        let algorithm = &ring::signature::ECDSA_P256_SHA256_FIXED_SIGNING;
        let document = ring::signature::EcdsaKeyPair::generate_pkcs8(algorithm, &random)
            .map_err(|_| apiserver::http::status::ApiError::internal("the service account key cannot be made"))?;
        pki::write_file(&path, pki::private_key_pem(document.as_ref()).as_bytes(), 0o600)?;
    }
    let pem = std::fs::read(&path).map_err(|source| ServerError::File {
        path: path.clone(),
        source,
    })?;
    let key = PrivatePkcs8KeyDer::from_pem_slice(&pem).map_err(|e| pki::PkiError::Parse {
        what: path.display().to_string(),
        detail: e.to_string(),
    })?;
    let issuer = format!("https://kubernetes.default.svc.{domain}");
    Ok(TokenIssuer::new(key.secret_pkcs8_der(), issuer.clone(), vec![issuer])?)
}

/// `: port 6443 is in use by pid 12 (nginx)`, if it can be found out.
fn listener_of(port: u16) -> Option<String> {
    let wanted = format!(":{port:04X}");
    let table = ["/proc/net/tcp", "/proc/net/tcp6"]
        .iter()
        .filter_map(|p| std::fs::read_to_string(p).ok())
        .collect::<String>();
    let inode = table.lines().find_map(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let listening = fields.get(3) == Some(&"0A") && fields.get(1).is_some_and(|a| a.ends_with(&wanted));
        listening
            .then(|| fields.get(9).map(|i| format!("socket:[{i}]")))
            .flatten()
    })?;
    for process in std::fs::read_dir("/proc").ok()?.flatten() {
        let Ok(files) = std::fs::read_dir(process.path().join("fd")) else {
            continue;
        };
        let holds = files
            .flatten()
            .any(|f| std::fs::read_link(f.path()).is_ok_and(|l| l.as_os_str() == inode.as_str()));
        if holds {
            let name = std::fs::read_to_string(process.path().join("comm")).unwrap_or_default();
            let pid = process.file_name().to_string_lossy().into_owned();
            return Some(format!(": port {port} is in use by pid {pid} ({})", name.trim()));
        }
    }
    None
}
