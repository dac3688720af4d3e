//! `skiff server`: the datastore and the API server in one process.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use apiserver::authentication::Authenticator;
use apiserver::authentication::service_account::TokenIssuer;
use apiserver::authorization::Authorizer;
use apiserver::registry::{Machine, Registry};
use apiserver::server::{ApiServer, connection};
use apiserver::subresource::kubelet::KubeletClient;
use clap::Args;
use etcd::Store;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::GIT_VERSION;
use crate::certificates::Certificates;

/// Flags, named as k3s names them.
#[derive(Debug, Args)]
pub struct ServerArgs {
    /// Folder that holds state.
    #[arg(short = 'd', long, default_value = "/var/lib/skiff")]
    data_dir: PathBuf,
    /// Address to listen on.
    #[arg(long, default_value = "0.0.0.0")]
    bind_address: IpAddr,
    /// Port to listen on.
    #[arg(long, default_value_t = 6443)]
    https_listen_port: u16,
    /// Address that members of the cluster reach the server by; the bind address unless that is unspecified.
    #[arg(long)]
    advertise_address: Option<IpAddr>,
    /// More names and addresses for the server's certificate.
    #[arg(long)]
    tls_san: Vec<String>,
    /// IPv4 network of Services.
    #[arg(long, default_value = "10.43.0.0/16")]
    service_cidr: String,
    /// Domain of the cluster.
    #[arg(long, default_value = "cluster.local")]
    cluster_domain: String,
    /// Where to write the administrator's kubeconfig; `<data-dir>/server/cred/admin.kubeconfig` unless given.
    #[arg(short = 'o', long)]
    write_kubeconfig: Option<PathBuf>,
    /// Mode of that file, octal.
    #[arg(long, default_value = "600")]
    write_kubeconfig_mode: String,
}

/// Why the server cannot start.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    #[error("--{flag} {value:?}: {why}")]
    Flag {
        flag: &'static str,
        value: String,
        why: String,
    },
    #[error("{}: {source}", path.display())]
    File { path: PathBuf, source: std::io::Error },
    #[error("cannot listen on {address}: {source}{hint}")]
    Listen {
        address: SocketAddr,
        source: std::io::Error,
        hint: String,
    },
    #[error("another skiff uses {}: stop it or choose another --data-dir", .0.display())]
    Locked(PathBuf),
    #[error(transparent)]
    Pki(#[from] pki::PkiError),
    #[error("datastore: {0}")]
    Store(#[from] etcd::embedded::OpenError),
    #[error("starting the API server: {0}")]
    Api(#[from] apiserver::http::status::ApiError),
    #[error(transparent)]
    Serve(#[from] connection::ServeError),
    #[error("signals: {0}")]
    Signals(std::io::Error),
}

fn parse_cidr(text: &str) -> Result<(Ipv4Addr, u8), ServerError> {
    let bad = |why: &str| ServerError::Flag {
        flag: "service-cidr",
        value: text.into(),
        why: why.into(),
    };
    let (address, prefix) = text
        .split_once('/')
        .ok_or_else(|| bad("is not of the form 10.43.0.0/16"))?;
    let address: Ipv4Addr = address.parse().map_err(|_| bad("is not an IPv4 network"))?;
    let prefix: u8 = prefix.parse().map_err(|_| bad("its prefix length is not a number"))?;
    if !(8..=28).contains(&prefix) {
        return Err(bad("its prefix length must be between 8 and 28"));
    }
    let mask = u32::MAX << (32 - u32::from(prefix));
    Ok((Ipv4Addr::from(u32::from(address) & mask), prefix))
}

/// Runs until SIGTERM or SIGINT.
pub async fn run(args: ServerArgs) -> Result<(), ServerError> {
    let started = std::time::Instant::now();
    let (network, prefix) = parse_cidr(&args.service_cidr)?;
    let mode = u32::from_str_radix(&args.write_kubeconfig_mode, 8).map_err(|_| ServerError::Flag {
        flag: "write-kubeconfig-mode",
        value: args.write_kubeconfig_mode.clone(),
        why: "is not an octal mode".into(),
    })?;
    let ranges = apiserver::allocator::Ranges {
        service_network: network,
        service_prefix: prefix,
        node_ports: 30000..=32767,
    };
    let service_ip = IpAddr::V4(ranges.first());
    apiserver::allocator::configure(ranges);
    let advertise = args.advertise_address.unwrap_or(match args.bind_address {
        address if address.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        address => address,
    });
    let server_dir = args.data_dir.join("server");
    let _lock = lock(&args.data_dir)?;

    // the port first: whoever has it is named before anything is written
    let address = SocketAddr::new(args.bind_address, args.https_listen_port);
    let listener = TcpListener::bind(address).await.map_err(|source| {
        let used = source.kind() == std::io::ErrorKind::AddrInUse;
        let hint = if used {
            listener_of(address.port()).unwrap_or_default()
        } else {
            String::new()
        };
        ServerError::Listen { address, source, hint }
    })?;
    let port = listener.local_addr().map_err(ServerError::Signals)?.port();

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
    let now = time::OffsetDateTime::now_utc();
    let tls_dir = server_dir.join("tls");
    let certificates = Certificates::prepare(&tls_dir, names, now)?;
    let issuer = token_issuer(&tls_dir, &args.cluster_domain)?;

    let database = server_dir.join("db");
    let disk = etcd::disk::Directory::open(&database).map_err(|source| ServerError::File { path: database, source })?;
    let store = Arc::new(etcd::Embedded::open(Arc::new(disk), etcd::EmbeddedConfig::default())?);
    let registry = Arc::new(Registry::start(store.clone(), Arc::new(Machine)).await?);
    let (kubelet_certificate, kubelet_key) = certificates.to_kubelets()?;
    let server = Arc::new(ApiServer {
        registry: registry.clone(),
        authenticator: Authenticator {
            registry: registry.clone(),
            tokens: Arc::new(issuer),
            fixed: std::collections::HashMap::new(),
            anonymous: false,
        },
        authorizer: Authorizer::new(registry.clone()),
        discovery: apiserver::server::discovery::Documents,
        openapi: apiserver::server::openapi::Documents,
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
    });
    crate::bootstrap::bootstrap(&registry, service_ip, advertise, port).await?;
    apiserver::custom::restore(&server).await?;

    let (certificate, key) = certificates.serving()?;
    let serving = connection::Certificate::new(&certificate, &key)?;
    let acceptor = connection::tls(serving.clone(), certificates.client_authority.certificate())?;
    let reach = if args.bind_address.is_unspecified() {
        IpAddr::V4(Ipv4Addr::LOCALHOST)
    } else {
        args.bind_address
    };
    let kubeconfig = args
        .write_kubeconfig
        .unwrap_or_else(|| server_dir.join("cred/admin.kubeconfig"));
    let text = certificates.admin_kubeconfig(&format!("https://{}", SocketAddr::new(reach, port)))?;
    pki::write_file(&kubeconfig, text.as_bytes(), mode)?;

    let stop = CancellationToken::new();
    let serving_task = tokio::spawn(connection::serve(server.clone(), listener, acceptor, stop.clone()));
    tokio::spawn(maintain(store.clone(), certificates, serving, stop.clone()));
    tracing::info!(
        address = %SocketAddr::new(reach, port),
        kubeconfig = %kubeconfig.display(),
        milliseconds = started.elapsed().as_millis(),
        "API server is ready"
    );
    wait_for_stop().await.map_err(ServerError::Signals)?;
    server.health.stopping.store(true, std::sync::atomic::Ordering::Relaxed);
    stop.cancel();
    if let Err(error) = serving_task.await {
        tracing::error!(%error, "the server's task failed");
    }
    Ok(())
}

/// Compacts the store as upstream does, every five minutes if anything changed, and renews certificates once a day.
async fn maintain(
    store: Arc<etcd::Embedded>,
    certificates: Certificates,
    serving: Arc<connection::Certificate>,
    stop: CancellationToken,
) {
    const COMPACTION: Duration = Duration::from_secs(300);
    const RENEWAL_EVERY: u32 = 288;
    let mut previous = store.revision();
    let mut round = 0u32;
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(COMPACTION) => {}
        }
        let current = store.revision();
        // what was current five minutes ago: nobody's list takes longer
        if current != previous {
            match store.compact(previous).await {
                Ok(()) | Err(etcd::StoreError::Compacted { .. }) => {}
                Err(error) => tracing::warn!(%error, "compaction failed"),
            }
            previous = current;
        }
        round += 1;
        if round.is_multiple_of(RENEWAL_EVERY) {
            let renewed = certificates.renew(time::OffsetDateTime::now_utc()).and_then(|new| {
                if new {
                    certificates.serving().map(Some)
                } else {
                    Ok(None)
                }
            });
            match renewed {
                Ok(Some((certificate, key))) => {
                    if let Err(error) = serving.replace(&certificate, &key) {
                        tracing::error!(%error, "the renewed serving certificate cannot be used");
                    }
                }
                Ok(None) => {}
                Err(error) => tracing::error!(%error, "certificates cannot be renewed"),
            }
        }
    }
}

/// Returns at SIGTERM or SIGINT.
pub async fn wait_for_stop() -> std::io::Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut term = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    tokio::select! {
        _ = term.recv() => {}
        _ = interrupt.recv() => {}
    }
    Ok(())
}

/// One skiff a data directory.
fn lock(data_dir: &Path) -> Result<std::fs::File, ServerError> {
    let path = data_dir.join("lock");
    let failed = |source| ServerError::File {
        path: path.clone(),
        source,
    };
    std::fs::create_dir_all(data_dir).map_err(failed)?;
    let file = std::fs::OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&path)
        .map_err(failed)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(std::fs::TryLockError::WouldBlock) => Err(ServerError::Locked(data_dir.to_owned())),
        Err(std::fs::TryLockError::Error(source)) => Err(failed(source)),
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
    Ok(TokenIssuer::new(
        key.secret_pkcs8_der(),
        issuer.clone(),
        vec![issuer, "skiff".into()],
    )?)
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
