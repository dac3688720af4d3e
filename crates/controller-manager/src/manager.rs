//! Starts the controllers that are switched on and waits for their end.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use client::{Client, LeaderElector};
use tokio_util::sync::CancellationToken;

use crate::context::Context;
use crate::informers::Informers;
use crate::replicaset::Flavor;
use crate::{ControllerConfig, Error};

type Run = Pin<Box<dyn Future<Output = Result<(), Error>> + Send>>;

/// A controller: its name, its ServiceAccount in `kube-system` (without one it acts as the manager), how it starts.
struct Entry {
    name: &'static str,
    account: &'static str,
    /// Whether `*` means it too.
    by_default: bool,
    start: fn(Context) -> Run,
}

macro_rules! entry {
    ($name:literal, $account:literal, $run:expr) => {
        entry!($name, $account, true, $run)
    };
    ($name:literal, $account:literal, $by_default:literal, $run:expr) => {
        Entry {
            name: $name,
            account: $account,
            by_default: $by_default,
            start: |ctx| Box::pin($run(ctx)),
        }
    };
}

const CONTROLLERS: &[Entry] = &[
    entry!("replicaset-controller", "replicaset-controller", |ctx| {
        crate::replicaset::run(ctx, Flavor::ReplicaSet)
    }),
    entry!("replicationcontroller-controller", "replication-controller", |ctx| {
        crate::replicaset::run(ctx, Flavor::ReplicationController)
    }),
    entry!("deployment-controller", "deployment-controller", crate::deployment::run),
    entry!("endpointslice-controller", "endpointslice-controller", |ctx| {
        crate::endpoints::run(ctx, crate::endpoints::Flavor::Slices)
    }),
    entry!("endpoints-controller", "endpoint-controller", |ctx| {
        crate::endpoints::run(ctx, crate::endpoints::Flavor::Endpoints)
    }),
    entry!(
        "serviceaccount-controller",
        "service-account-controller",
        crate::serviceaccount::run
    ),
    // it makes the credentials of all others
    entry!("serviceaccount-token-controller", "", crate::serviceaccount_token::run),
    entry!("ttl-controller", "ttl-controller", crate::ttl::run),
    entry!(
        "bootstrap-signer-controller",
        "bootstrap-signer",
        false,
        crate::bootstrap_signer::run
    ),
    entry!(
        "token-cleaner-controller",
        "token-cleaner",
        false,
        crate::token_cleaner::run
    ),
    entry!(
        "service-lb-controller",
        "service-controller",
        false,
        crate::service_lb::run
    ),
    entry!(
        "root-ca-certificate-publisher-controller",
        "root-ca-cert-publisher",
        crate::root_ca::run
    ),
    entry!("namespace-controller", "namespace-controller", crate::namespace::run),
    entry!(
        "clusterrole-aggregation-controller",
        "clusterrole-aggregation-controller",
        crate::clusterrole_aggregation::run
    ),
    entry!("node-ipam-controller", "node-controller", crate::node_ipam::run),
    entry!(
        "garbage-collector-controller",
        "generic-garbage-collector",
        crate::garbage_collector::run
    ),
    entry!(
        "node-lifecycle-controller",
        "node-controller",
        crate::node_lifecycle::run
    ),
    entry!(
        "taint-eviction-controller",
        "node-controller",
        crate::taint_eviction::run
    ),
    entry!(
        "pod-garbage-collector-controller",
        "pod-garbage-collector",
        crate::pod_gc::run
    ),
    entry!("daemonset-controller", "daemon-set-controller", crate::daemonset::run),
    entry!(
        "statefulset-controller",
        "statefulset-controller",
        crate::statefulset::run
    ),
    entry!("cronjob-controller", "cronjob-controller", crate::cronjob::run),
    entry!(
        "certificatesigningrequest-approving-controller",
        "certificate-controller",
        crate::certificates::run_approving
    ),
    entry!(
        "certificatesigningrequest-signing-controller",
        "certificate-controller",
        crate::certificates::run_signing
    ),
    entry!(
        "certificatesigningrequest-cleaner-controller",
        "certificate-controller",
        crate::certificates::run_cleaning
    ),
    entry!(
        "podcertificaterequest-cleaner-controller",
        "podcertificaterequestcleaner",
        crate::pod_certificate_cleaner::run
    ),
    entry!(
        "kube-apiserver-serving-clustertrustbundle-publisher-controller",
        "kube-apiserver-serving-clustertrustbundle-publisher",
        crate::trust_bundle_publisher::run
    ),
    entry!(
        "storage-version-migrator-controller",
        "storage-version-migrator-controller",
        crate::storage_version_migrator::run
    ),
    entry!(
        "resourcequota-controller",
        "resourcequota-controller",
        crate::resourcequota::run
    ),
    entry!(
        "endpointslice-mirroring-controller",
        "endpointslicemirroring-controller",
        crate::endpoints::mirroring::run
    ),
    entry!("disruption-controller", "disruption-controller", crate::disruption::run),
    entry!("job-controller", "job-controller", crate::job::run),
    entry!(
        "ttl-after-finished-controller",
        "ttl-after-finished-controller",
        crate::ttl_after_finished::run
    ),
    entry!(
        "horizontal-pod-autoscaler-controller",
        "horizontal-pod-autoscaler",
        crate::horizontal_pod_autoscaler::run
    ),
    entry!(
        "service-cidr-controller",
        "service-cidrs-controller",
        crate::servicecidrs::run
    ),
    entry!(
        "validatingadmissionpolicy-status-controller",
        "validatingadmissionpolicy-status-controller",
        crate::validatingadmissionpolicy_status::run
    ),
    entry!(
        "persistentvolume-binder-controller",
        "persistent-volume-binder",
        crate::persistentvolume::run
    ),
    entry!(
        "ephemeral-volume-controller",
        "ephemeral-volume-controller",
        crate::ephemeral_volume::run
    ),
    entry!(
        "persistentvolumeclaim-protection-controller",
        "pvc-protection-controller",
        crate::volume_protection::run_claim
    ),
    entry!(
        "persistentvolume-protection-controller",
        "pv-protection-controller",
        crate::volume_protection::run_volume
    ),
    entry!(
        "volumeattributesclass-protection-controller",
        "volumeattributesclass-protection-controller",
        crate::volume_protection::run_attributes_class
    ),
];

/// The names that `--controllers` knows.
pub fn names() -> Vec<&'static str> {
    CONTROLLERS.iter().map(|e| e.name).collect()
}

/// Runs the controllers until `shutdown`. With leader election they run while the lease is held; losing it is an error.
pub async fn run(config: ControllerConfig, client: Client, shutdown: CancellationToken) -> Result<(), Error> {
    if !config.leader_elect {
        return run_controllers(config, client, shutdown).await;
    }
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let random = getrandom::u64().unwrap_or_else(|_| u64::from(std::process::id()));
    let identity = format!("{}_{random:016x}", host.trim());
    let elector = LeaderElector::new(client.clone(), "kube-system", "kube-controller-manager", &identity);
    let outcome = Arc::new(std::sync::Mutex::new(Ok(())));
    let keep = outcome.clone();
    elector
        .run(shutdown, |stop| async move {
            let ended = run_controllers(config, client, stop).await;
            *keep.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = ended;
        })
        .await?;
    let mut outcome = outcome.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    std::mem::replace(&mut *outcome, Ok(()))
}

async fn run_controllers(config: ControllerConfig, client: Client, shutdown: CancellationToken) -> Result<(), Error> {
    let stop = shutdown.child_token();
    let ctx = Context {
        informers: Informers::new(client.clone()),
        client,
        config: Arc::new(config),
        counted: Arc::default(),
        shutdown: stop.clone(),
    };
    ctx.config.metrics.add(ctx.counted.clone());
    let mut running = tokio::task::JoinSet::new();
    for entry in CONTROLLERS {
        if ctx.config.controllers.is_on(entry.name, entry.by_default) {
            let mut own = ctx.clone();
            if let Some(client_for) = ctx.config.client_for.as_ref().filter(|_| !entry.account.is_empty()) {
                own.client = client_for(entry.account);
            }
            let run = (entry.start)(own);
            let counted = ctx.counted.clone();
            running.spawn(async move {
                counted.runs(entry.name, true);
                let ended = run.await;
                counted.runs(entry.name, false);
                (entry.name, ended)
            });
        }
    }
    drop(ctx);
    let mut first = Ok(());
    while let Some(ended) = running.join_next().await {
        match ended {
            Ok((_, Ok(()))) => {}
            Ok((name, Err(error))) => {
                tracing::error!(controller = name, %error, "controller failed");
                stop.cancel();
                first = first.and(Err(error));
            }
            Err(error) => {
                stop.cancel();
                first = first.and(Err(Error::State(format!("a controller died: {error}"))));
            }
        }
    }
    first
}
