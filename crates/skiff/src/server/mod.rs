//! `skiff server`: the control plane and, unless it is left out, a node, in one process.

pub mod args;
mod compaction;
mod config_file;
mod control_plane;
mod dns;
mod manifests;
mod own_node;
mod roles;
mod shown;
mod supervisor;
pub mod token;
mod truncate;

use std::net::{IpAddr, SocketAddr};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use apiserver::authentication::secret_token::SecretToken;
use apiserver::http::user::{MASTERS, User};
use args::ServerArgs;
use controller_manager::ControllerFlags;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::GIT_VERSION;
use crate::certificates::Kubeconfigs;
use crate::in_process;
use crate::node::identity::default_address;
use crate::node::{NodeError, NodeIdentity, ready};
use crate::node_paths::NodePaths;
pub use control_plane::ControlPlane;
use pki::renewal;
use shown::Renewal;

/// Where kubelets are reached.
const KUBELET_PORT: u16 = 10250;
/// How long components may go on with what they do after a stop.
const LAST_WORK: std::time::Duration = std::time::Duration::from_millis(400);

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
    Audit(#[from] crate::audit_flags::AuditError),
    #[error(transparent)]
    Admission(#[from] apiserver::admission::configuration::ConfigurationError),
    #[error(transparent)]
    Pki(#[from] pki::PkiError),
    #[error("--kube-apiserver-arg: {0}")]
    ApiServerArg(String),
    #[error("--kube-controller-manager-arg: {0}")]
    ControllerArg(controller_manager::Error),
    #[error("datastore: {0}")]
    Store(#[from] etcd::embedded::OpenError),
    #[error(
        "datastore: {error} (in {}). Nothing was changed. Put back a backup of that directory; without one, `{command}` goes on \
         from the last good record before the damage and gives up what was written after it",
        dir.display()
    )]
    Damaged {
        error: etcd::embedded::OpenError,
        dir: PathBuf,
        command: String,
    },
    #[error("datastore: {0}")]
    Truncate(#[from] etcd::TruncateError),
    #[error("starting the API server: {0}")]
    Api(#[from] apiserver::http::status::ApiError),
    #[error(transparent)]
    Serve(#[from] apiserver::server::connection::ServeError),
    #[error(transparent)]
    Node(#[from] NodeError),
    #[error("token: {0}")]
    TokenFile(std::io::Error),
    #[error("signals: {0}")]
    Signals(std::io::Error),
}

/// Runs until SIGTERM or SIGINT.
pub async fn run(mut args: ServerArgs) -> Result<(), ServerError> {
    let started = std::time::Instant::now();
    let mode = u32::from_str_radix(&args.write_kubeconfig_mode, 8).map_err(|_| ServerError::Flag {
        flag: "write-kubeconfig-mode",
        value: args.write_kubeconfig_mode.clone(),
        why: "is not an octal mode".into(),
    })?;
    if args.unsafe_truncate_log {
        let _lock = lock(&args.data_dir)?;
        return truncate::run(&args);
    }
    if !args.kube_apiserver_arg.is_empty() {
        crate::api_server_flags::apply_args(&mut args).map_err(|e| ServerError::ApiServerArg(e.to_string()))?;
    }
    let controlling = ControllerFlags::of(&args.kube_controller_manager_arg).map_err(ServerError::ControllerArg)?;
    let paths = NodePaths::of(&args.data_dir);
    let node = match args.disable_agent {
        true => None,
        false => Some(NodeIdentity::of(&args.node, &paths)?),
    };
    let _lock = lock(&args.data_dir)?;
    let own = args.node.node_ip.first().copied().or_else(default_address);
    let advertise = args.advertise_address.or(own).unwrap_or(match args.bind_address {
        address if address.is_unspecified() => IpAddr::from([127, 0, 0, 1]),
        address => address,
    });
    let signalled = crate::stop::at_signal().map_err(ServerError::Signals)?;
    let plane = control_plane::start(&args, advertise, node.as_ref().map(|n| n.name.as_str())).await?;
    let stop = CancellationToken::new();
    let components = TaskTracker::new();
    start_components(&args, &controlling, &plane, &components, &stop)?;

    let dir = args.data_dir.join("server/manifests");
    let watcher = manifests::watch(&dir).map_err(|source| ServerError::File {
        path: dir.clone(),
        source,
    })?;
    let deployer = in_process::client(&plane.api, User::new("system:skiff", &[MASTERS]), "skiff");
    components.spawn(roles::announce(deployer.clone()));
    components.spawn(manifests::follow(
        plane.api.registry.clone(),
        deployer,
        dir,
        watcher,
        stop.clone(),
    ));
    let url = format!("https://{}", plane.local);
    let cred = args.data_dir.join("server/cred");
    let kubeconfig = args
        .write_kubeconfig
        .clone()
        .unwrap_or_else(|| cred.join("admin.kubeconfig"));
    let renewal = Renewal {
        shown: plane.shown.clone(),
        kubeconfigs: Kubeconfigs {
            dir: cred,
            admin: (kubeconfig.clone(), mode),
            server: url,
        },
    };
    renewal.kubeconfigs.write(&plane.certificates)?;
    components.spawn(renewal::keep(renewal, stop.clone()));
    tracing::info!(
        address = %plane.local,
        kubeconfig = %kubeconfig.display(),
        milliseconds = started.elapsed().as_millis(),
        "API server is ready"
    );
    if let Some(node) = node {
        let watcher = in_process::client(&plane.api, User::new("system:skiff", &[MASTERS]), "skiff");
        components.spawn(ready::announce_node(watcher, node.name.clone(), stop.clone()));
        own_node::start(&args, &plane, paths, node, &components, &stop).await?;
    } else {
        ready::notify();
        let stop = stop.clone();
        components.spawn(async move { crate::memory::give_back_start(&stop).await });
    }
    signalled.cancelled().await;
    stop.cancel();
    components.close();
    if tokio::time::timeout(LAST_WORK, components.wait()).await.is_err() {
        tracing::info!("components were still at work when they were ended");
    }
    plane.stop().await;
    Ok(())
}

/// The scheduler and the controllers, unless they are left out.
fn start_components(
    args: &ServerArgs,
    controlling: &ControllerFlags,
    plane: &ControlPlane,
    components: &TaskTracker,
    stop: &CancellationToken,
) -> Result<(), ServerError> {
    if !args.disable_scheduler {
        let user = User::new("system:kube-scheduler", &[]);
        let client = in_process::client(&plane.api, user, "kube-scheduler");
        let config = scheduler::SchedulerConfig {
            metrics: plane.api.others.clone(),
            ..scheduler::SchedulerConfig::default()
        };
        plane.api.pod_resources.get_or_init(|| config.resources.clone());
        let task = components.spawn(scheduler::run(config, client, stop.clone()));
        plane.api.components.scheduler.runs(task.abort_handle());
    }
    if !args.disable_controller_manager {
        let user = User::new("system:kube-controller-manager", &[MASTERS]);
        let client = in_process::client(&plane.api, user, "kube-controller-manager");
        // each controller may do what its own account may; only the shared caches see everything
        let api = plane.api.clone();
        let client_for = move |account: &str| {
            let groups = ["system:serviceaccounts", "system:serviceaccounts:kube-system"];
            let user = User::new(User::service_account_name("kube-system", account), &groups);
            // what stands before the slash is the manager of the fields that they write, the same for all
            let agent = format!(
                "kube-controller-manager/{GIT_VERSION} (linux/amd64) kubernetes/{}",
                user.name
            );
            in_process::client(&api, user, &agent)
        };
        let tokens = plane.api.authenticator.tokens.clone();
        let account_token = move |of: &controller_manager::TokenOf<'_>| {
            let secret = SecretToken {
                namespace: of.namespace,
                account: of.account,
                uid: of.uid,
                secret: of.secret,
            };
            let token = tokens.issue_for_secret(&secret);
            token.map_err(|error| controller_manager::Error::State(error.message))
        };
        let mut config = controller_manager::ControllerConfig {
            controllers: controller_manager::ControllerSwitch::of_server(!args.disables("servicelb")),
            reserved_ports: vec![plane.local.port(), KUBELET_PORT],
            client_for: Some(Arc::new(client_for)),
            account_token: Some(Arc::new(account_token)),
            cluster_cidr: Some(args.cluster_cidr.clone()),
            allocate_node_cidrs: true,
            root_ca: plane.certificates.server_authority.certificate().to_owned(),
            metrics: plane.api.others.clone(),
            signing: Some(controller_manager::Signing {
                clients: plane.certificates.client_authority.clone(),
                servers: plane.certificates.server_authority.clone(),
            }),
            ..controller_manager::ControllerConfig::default()
        };
        controlling.apply(&mut config).map_err(ServerError::ControllerArg)?;
        let stop = stop.clone();
        let task = components.spawn(async move {
            if let Err(error) = controller_manager::run(config, client, stop).await {
                tracing::error!(%error, "the controllers ended");
            }
        });
        plane.api.components.controller_manager.runs(task.abort_handle());
    }
    Ok(())
}

/// One skiff a data directory.
pub fn lock(data_dir: &Path) -> Result<std::fs::File, ServerError> {
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
        .mode(0o600)
        .open(&path)
        .map_err(failed)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(std::fs::TryLockError::WouldBlock) => Err(ServerError::Locked(data_dir.to_owned())),
        Err(std::fs::TryLockError::Error(source)) => Err(failed(source)),
    }
}
