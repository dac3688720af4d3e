//! Rules of the built-in kinds beyond their schemas, a file for each group of kinds.

mod api_service;
mod certificate;
mod cluster;
mod common;
mod config;
mod cron_job;
pub(super) mod cursor;
mod definition;
mod device_slice;
mod device_status;
mod devices;
mod endpoints;
mod flow;
mod job;
mod job_indexes;
mod job_status;
mod limits;
mod network;
mod persistent_volume;
mod pod;
mod rbac;
mod schedule;
pub(crate) mod service;
mod service_range;
mod storage;
mod storage_class;
mod workload;

use serde_json::Value;

use common::Errors;
pub(crate) use cursor::Cursor;

/// An object that is to be stored.
#[derive(Debug, Clone, Copy)]
pub struct Check<'a> {
    pub new: &'a Value,
    /// The object as it is stored, when this is an update.
    pub old: Option<&'a Value>,
    pub subresource: &'a str,
}

impl<'a> Check<'a> {
    fn root(&self) -> Cursor<'a> {
        Cursor::root(self.new)
    }

    fn before(&self) -> Option<Cursor<'a>> {
        self.old.map(Cursor::root)
    }

    fn is_status(&self) -> bool {
        self.subresource == "status"
    }
}

/// The place in an object that only namespaces marked for it may have.
pub fn admin_access(group: &str, plural: &str, check: &Check) -> Option<String> {
    match (group, plural) {
        ("resource.k8s.io", "resourceclaims" | "resourceclaimtemplates") => devices::admin_access(check),
        _ => None,
    }
}

/// Everything in which an object of a built-in kind breaks its rules.
pub fn validate(group: &str, plural: &str, check: &Check) -> Errors {
    match (group, plural) {
        ("", "pods") => pod::pod(check),
        ("", "podtemplates") => workload::pod_template(check),
        ("", "replicationcontrollers") => workload::replication_controller(check),
        ("", "services") => service::service(check),
        ("", "endpoints") => endpoints::endpoints(check),
        ("", "secrets") => config::secret(check),
        ("", "configmaps") => config::config_map(check),
        ("", "nodes") => cluster::node(check),
        ("", "namespaces") => cluster::namespace(check),
        ("" | "events.k8s.io", "events") => cluster::event(check),
        ("", "limitranges") => limits::limit_range(check),
        ("", "resourcequotas") => limits::quota(check),
        ("", "persistentvolumes") => persistent_volume::volume(check),
        ("", "persistentvolumeclaims") => storage::claim(check),
        ("apps", "deployments") => workload::deployment(check),
        ("apps", "replicasets") => workload::replica_set(check),
        ("apps", "statefulsets") => workload::stateful_set(check),
        ("apps", "daemonsets") => workload::daemon_set(check),
        ("apps", "controllerrevisions") => workload::controller_revision(check),
        ("batch", "jobs") => job::job(check),
        ("batch", "cronjobs") => cron_job::cron_job(check),
        ("discovery.k8s.io", _) => endpoints::slice(check),
        ("networking.k8s.io", "ingresses") => network::ingress(check),
        ("networking.k8s.io", "ingressclasses") => network::ingress_class(check),
        ("networking.k8s.io", "networkpolicies") => network::network_policy(check),
        ("networking.k8s.io", "ipaddresses") => service_range::ip_address(check),
        ("networking.k8s.io", "servicecidrs") if !check.is_status() => service_range::service_cidr(check),
        ("rbac.authorization.k8s.io", "roles") => rbac::role(check),
        ("rbac.authorization.k8s.io", "clusterroles") => rbac::cluster_role(check),
        ("rbac.authorization.k8s.io", "rolebindings") => rbac::role_binding(check),
        ("rbac.authorization.k8s.io", "clusterrolebindings") => rbac::cluster_role_binding(check),
        ("policy", "poddisruptionbudgets") => limits::disruption_budget(check),
        ("autoscaling", "horizontalpodautoscalers") => limits::autoscaler(check),
        ("coordination.k8s.io", "leases") => cluster::lease(check),
        ("scheduling.k8s.io", "priorityclasses") => cluster::priority_class(check),
        ("node.k8s.io", "runtimeclasses") => cluster::runtime_class(check),
        ("storage.k8s.io", "storageclasses") => storage_class::storage_class(check),
        ("storage.k8s.io", "volumeattachments") => storage::volume_attachment(check),
        ("storage.k8s.io", "volumeattributesclasses") => storage_class::volume_attributes_class(check),
        ("storage.k8s.io", "csistoragecapacities") => storage_class::storage_capacity(check),
        ("storage.k8s.io", "csinodes") => storage::csi_node(check),
        ("storage.k8s.io", "csidrivers") => storage::csi_driver(check),
        ("certificates.k8s.io", "certificatesigningrequests") => certificate::signing_request(check),
        ("flowcontrol.apiserver.k8s.io", "flowschemas") => flow::flow_schema(check),
        ("flowcontrol.apiserver.k8s.io", "prioritylevelconfigurations") => flow::priority_level(check),
        ("apiextensions.k8s.io", _) => definition::definition(check),
        ("resource.k8s.io", "resourceclaims") => devices::claim(check),
        ("resource.k8s.io", "resourceclaimtemplates") => devices::claim_template(check),
        ("resource.k8s.io", "deviceclasses") => devices::class(check),
        ("resource.k8s.io", "resourceslices") => device_slice::slice(check),
        ("apiregistration.k8s.io", _) => api_service::api_service(check),
        ("admissionregistration.k8s.io", _) => workload::refused(check),
        _ => Errors::new(),
    }
}
