//! The kinds of objects: each is one file with one constant that says all that is particular to it. The list below is the only
//! place that names them all.

pub mod admissionregistration;
pub mod apiextensions {
    //! Definitions of custom resources.
    pub mod custom_resource_definition;
}
pub mod apiregistration {
    //! The groups and versions that are served.
    pub mod api_service;
}
pub mod apps {
    //! Workloads.
    pub mod controller_revision;
    pub mod daemon_set;
    pub mod deployment;
    pub mod replica_set;
    pub mod stateful_set;
}
pub mod authentication {
    //! Questions about users.
    pub mod self_subject_review;
    pub mod token_review;
}
pub mod authorization {
    //! Questions about rights.
    pub mod local_subject_access_review;
    pub mod self_subject_access_review;
    pub mod self_subject_rules_review;
    pub mod subject_access_review;
}
pub mod autoscaling {
    //! Workloads that grow and shrink.
    pub mod horizontal_pod_autoscaler;
    mod round_trip;
}
pub mod batch {
    //! Work that ends.
    pub mod cron_job;
    pub mod job;
    mod schedule;
}
pub mod certificates {
    //! Signing of certificates.
    pub mod certificate_signing_request;
    pub mod cluster_trust_bundle;
    mod pem;
    pub mod pod_certificate_request;
    pub mod signer;
}
pub mod check;
pub mod columns;
pub mod conditions;
pub mod coordination {
    //! Leases.
    pub mod lease;
}
pub mod core {
    //! The core group.
    pub mod binding;
    pub mod component_status;
    pub mod config_map;
    mod data;
    pub mod endpoints;
    pub mod event;
    pub mod limit_range;
    pub mod namespace;
    pub mod node;
    pub mod persistent_volume;
    pub mod persistent_volume_claim;
    pub mod pod;
    pub mod pod_template;
    pub mod replication_controller;
    pub mod resource_quota;
    pub mod secret;
    pub mod service;
    pub mod service_account;
}
pub mod cursor;
pub mod custom;
pub mod disabled;
pub mod discovery {
    //! Endpoints of Services.
    pub mod endpoint_slice;
}
pub mod external_volume;
pub mod flowcontrol;
pub mod kind;
pub mod metadata;
pub mod networking {
    //! Networks and the ways into them.
    pub mod ingress;
    pub mod ingress_class;
    pub mod ip_address;
    pub mod network_policy;
    pub mod service_cidr;
}
pub mod node {
    //! Runtimes of containers.
    pub mod runtime_class;
}
pub mod part;
pub mod pod_template;
pub mod policy {
    //! Limits of disruption.
    pub mod pod_disruption_budget;
}
pub mod rbac;
pub mod resource;
pub mod rules;
pub mod scheduling {
    //! Priorities.
    pub mod priority_class;
}
pub mod storage;
pub mod storagemigration;
mod volume;
pub mod warnings;
mod webhook_client;
mod workload;

pub use check::Check;
pub use cursor::Cursor;
pub use kind::{Follow, Generation, Hold, Kind, Stored, Writer, no_rules};
pub use metadata::{Again, Asked, Rules};
pub use part::{Part, STATUS, STATUS_ALONE};
pub use rules::Errors;

/// Every kind that the server knows of by itself.
pub static ALL: &[Kind] = &[
    admissionregistration::mutating_admission_policy::KIND,
    admissionregistration::mutating_admission_policy_binding::KIND,
    admissionregistration::mutating_webhook_configuration::KIND,
    admissionregistration::validating_admission_policy::KIND,
    admissionregistration::validating_admission_policy_binding::KIND,
    admissionregistration::validating_webhook_configuration::KIND,
    apiextensions::custom_resource_definition::KIND,
    apiregistration::api_service::KIND,
    apps::controller_revision::KIND,
    apps::daemon_set::KIND,
    apps::deployment::KIND,
    apps::replica_set::KIND,
    apps::stateful_set::KIND,
    authentication::self_subject_review::KIND,
    authentication::token_review::KIND,
    authorization::local_subject_access_review::KIND,
    authorization::self_subject_access_review::KIND,
    authorization::self_subject_rules_review::KIND,
    authorization::subject_access_review::KIND,
    autoscaling::horizontal_pod_autoscaler::KIND,
    batch::cron_job::KIND,
    batch::job::KIND,
    certificates::certificate_signing_request::KIND,
    certificates::cluster_trust_bundle::KIND,
    certificates::pod_certificate_request::KIND,
    coordination::lease::KIND,
    core::binding::KIND,
    core::component_status::KIND,
    core::config_map::KIND,
    core::endpoints::KIND,
    core::event::IN_EVENTS,
    core::event::KIND,
    core::limit_range::KIND,
    core::namespace::KIND,
    core::node::KIND,
    core::persistent_volume::KIND,
    core::persistent_volume_claim::KIND,
    core::pod::KIND,
    core::pod_template::KIND,
    core::replication_controller::KIND,
    core::resource_quota::KIND,
    core::secret::KIND,
    core::service::KIND,
    core::service_account::KIND,
    discovery::endpoint_slice::KIND,
    flowcontrol::flow_schema::KIND,
    flowcontrol::priority_level_configuration::KIND,
    networking::ingress::KIND,
    networking::ingress_class::KIND,
    networking::ip_address::KIND,
    networking::network_policy::KIND,
    networking::service_cidr::KIND,
    node::runtime_class::KIND,
    policy::pod_disruption_budget::KIND,
    rbac::cluster_role::KIND,
    rbac::cluster_role_binding::KIND,
    rbac::role::KIND,
    rbac::role_binding::KIND,
    resource::device_class::KIND,
    resource::device_taint_rule::KIND,
    resource::resource_claim::KIND,
    resource::resource_claim_template::KIND,
    resource::resource_slice::KIND,
    scheduling::priority_class::KIND,
    storage::csi_driver::KIND,
    storage::csi_node::KIND,
    storage::csi_storage_capacity::KIND,
    storage::storage_class::KIND,
    storage::volume_attachment::KIND,
    storage::volume_attributes_class::KIND,
    storagemigration::KIND,
];

/// The kind of a built-in resource. A request finds it in its resource: this is for the start.
pub fn find(group: &str, plural: &str) -> Option<&'static Kind> {
    ALL.iter().find(|kind| kind.group == group && kind.plural == plural)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn each_row_of_the_resource_table_has_its_kind_and_each_kind_its_row() {
        let rows: BTreeSet<_> = api::resources::all()
            .iter()
            .map(|row| (row.group, row.plural))
            .collect();
        let kinds: BTreeSet<_> = ALL.iter().map(|kind| (kind.group, kind.plural)).collect();
        assert_eq!(rows, kinds);
        assert_eq!(kinds.len(), ALL.len(), "a kind stands twice in the list");
    }

    #[test]
    fn each_status_of_the_resource_table_is_a_part_of_its_kind() {
        for row in api::resources::all() {
            let kind = find(row.group, row.plural).unwrap();
            let has = row.subresources.iter().any(|s| s.name == "status");
            assert!(!has || kind.part("status").is_some(), "{}", row.plural);
        }
    }
}
