//! All plugins in upstream's order (`pkg/kubeapiserver/options/plugins.go`): what they are called, which are on unless switched off,
//! and how they are made.

use std::path::Path;
use std::sync::{Arc, OnceLock, Weak};

use serde_json::Value;

use super::certificate_signers::CertificateSigners;
use super::error::PluginError;
use super::image_policy_webhook::Reviewer;
use super::{
    Plugin, always_deny, always_pull_images, default_class, default_toleration_seconds, deny_service_external_ips,
    event_rate_limit, extended_resource_toleration, image_policy_webhook, limit_pod_hard_anti_affinity_topology,
    limit_ranger, namespace_auto_provision, namespace_exists, namespace_lifecycle, node_declared_feature_validator,
    node_restriction, owner_references_permission_enforcement, persistent_volume_claim_resize, pod_node_selector,
    pod_resize_validator, pod_security, pod_toleration_restriction, pod_topology_labels, policy, priority,
    resource_quota, runtime_class, service_account, storage_object_in_use_protection, taint_nodes_by_condition,
    webhook,
};
use crate::pipeline::Pipeline;
use crate::registry::Registry;

/// Opens the way to the server that a kubeconfig names.
pub type OpenReviewer<'a> = &'a dyn Fn(&Path) -> Result<Box<dyn Reviewer>, Box<dyn std::error::Error + Send + Sync>>;

/// What plugins are made of.
pub struct Context<'a> {
    pub registry: &'a Arc<Registry>,
    /// Where writes of a plugin go; it is there once the server is.
    pub pipeline: &'a Arc<OnceLock<Weak<Pipeline>>>,
    /// The plugin's own configuration.
    pub config: Option<&'a Value>,
    pub open_reviewer: OpenReviewer<'a>,
}

/// The parts of admission that a plugin has a word in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Steps {
    Admit,
    Validate,
    Both,
}

type Made = Result<Option<Box<dyn Plugin>>, PluginError>;

/// A plugin that can be switched on and off.
pub struct Known {
    pub name: &'static str,
    /// It is on unless it is switched off.
    pub on: bool,
    pub steps: Steps,
    /// Makes it; one that has nothing to do in this server is not made.
    pub make: fn(&Context<'_>) -> Made,
}

const fn on(name: &'static str, steps: Steps, make: fn(&Context<'_>) -> Made) -> Known {
    let on = true;
    Known { name, on, steps, make }
}

const fn off(name: &'static str, steps: Steps, make: fn(&Context<'_>) -> Made) -> Known {
    let on = false;
    Known { name, on, steps, make }
}

#[allow(clippy::unnecessary_wraps)]
fn made(plugin: impl Plugin + 'static) -> Made {
    Ok(Some(Box::new(plugin)))
}

/// A plugin whose configuration is not built: only what it does without one can be had.
fn plain(plugin: impl Plugin + 'static, context: &Context<'_>) -> Made {
    match context.config {
        Some(_) => Err(PluginError::Unsupported),
        None => made(plugin),
    }
}

/// Returns whether there is a plugin of this name.
pub fn is_known(name: &str) -> bool {
    KNOWN.iter().any(|known| known.name == name)
}

/// All plugins, in the order in which they are asked.
pub const KNOWN: [Known; 39] = [
    off("AlwaysAdmit", Steps::Both, |_| {
        deprecated("AlwaysAdmit");
        Ok(None)
    }),
    off("NamespaceAutoProvision", Steps::Admit, |context| {
        made(namespace_auto_provision::NamespaceAutoProvision::new(context.pipeline))
    }),
    on("NamespaceLifecycle", Steps::Admit, |_| {
        made(namespace_lifecycle::NamespaceLifecycle)
    }),
    off("NamespaceExists", Steps::Validate, |_| {
        made(namespace_exists::NamespaceExists)
    }),
    off("LimitPodHardAntiAffinityTopology", Steps::Validate, |_| {
        made(limit_pod_hard_anti_affinity_topology::LimitPodHardAntiAffinityTopology)
    }),
    on("LimitRanger", Steps::Both, |_| made(limit_ranger::LimitRanger)),
    on("ServiceAccount", Steps::Both, |_| made(service_account::ServiceAccount)),
    // on in every cluster whose authorization has the mode Node, as this server's always has
    on("NodeRestriction", Steps::Admit, |_| {
        made(node_restriction::NodeRestriction)
    }),
    on("TaintNodesByCondition", Steps::Admit, |_| {
        made(taint_nodes_by_condition::TaintNodesByCondition)
    }),
    off("AlwaysPullImages", Steps::Both, |_| {
        made(always_pull_images::AlwaysPullImages)
    }),
    off("ImagePolicyWebhook", Steps::Validate, |context| {
        made(image_policy_webhook::ImagePolicyWebhook::new(context)?)
    }),
    on("PodSecurity", Steps::Validate, |context| {
        plain(pod_security::PodSecurity, context)
    }),
    off("PodNodeSelector", Steps::Both, |context| {
        made(pod_node_selector::PodNodeSelector::new(context.config)?)
    }),
    on("Priority", Steps::Both, |_| made(priority::Priority)),
    on("DefaultTolerationSeconds", Steps::Admit, |_| {
        made(default_toleration_seconds::DefaultTolerationSeconds)
    }),
    off("PodTolerationRestriction", Steps::Both, |context| {
        made(pod_toleration_restriction::PodTolerationRestriction::new(
            context.config,
        )?)
    }),
    off("EventRateLimit", Steps::Validate, |context| {
        made(event_rate_limit::EventRateLimit::new(context.config)?)
    }),
    off("ExtendedResourceToleration", Steps::Admit, |_| {
        made(extended_resource_toleration::ExtendedResourceToleration)
    }),
    on("DefaultStorageClass", Steps::Admit, |_| {
        made(default_class::DefaultStorageClass)
    }),
    on("StorageObjectInUseProtection", Steps::Admit, |_| {
        made(storage_object_in_use_protection::StorageObjectInUseProtection)
    }),
    // its feature, GenericWorkload, cannot be switched on
    on("PodGroupProtection", Steps::Admit, |_| Ok(None)),
    off("OwnerReferencesPermissionEnforcement", Steps::Validate, |_| {
        made(owner_references_permission_enforcement::OwnerReferencesPermissionEnforcement)
    }),
    on("PersistentVolumeClaimResize", Steps::Validate, |_| {
        made(persistent_volume_claim_resize::PersistentVolumeClaimResize)
    }),
    on("RuntimeClass", Steps::Both, |_| made(runtime_class::RuntimeClass)),
    on("CertificateApproval", Steps::Validate, |_| {
        made(CertificateSigners::Approval)
    }),
    on("CertificateSigning", Steps::Validate, |_| {
        made(CertificateSigners::Signing)
    }),
    on("ClusterTrustBundleAttest", Steps::Validate, |_| {
        made(CertificateSigners::Attest)
    }),
    on("CertificateSubjectRestriction", Steps::Validate, |_| {
        made(CertificateSigners::SubjectRestriction)
    }),
    on("DefaultIngressClass", Steps::Admit, |_| {
        made(default_class::DefaultIngressClass)
    }),
    off("DenyServiceExternalIPs", Steps::Validate, |_| {
        made(deny_service_external_ips::DenyServiceExternalIps)
    }),
    on("PodTopologyLabels", Steps::Admit, |_| {
        made(pod_topology_labels::PodTopologyLabels)
    }),
    on("NodeDeclaredFeatureValidator", Steps::Validate, |_| {
        made(node_declared_feature_validator::NodeDeclaredFeatureValidator)
    }),
    on("PodResizeValidator", Steps::Validate, |_| {
        made(pod_resize_validator::PodResizeValidator)
    }),
    on("MutatingAdmissionPolicy", Steps::Admit, |context| {
        made(policy::Mutating::new(context.registry))
    }),
    on("MutatingAdmissionWebhook", Steps::Admit, |context| {
        plain(webhook::Mutating::new(context.registry.clone()), context)
    }),
    on("ValidatingAdmissionPolicy", Steps::Validate, |context| {
        made(policy::Validating::new(context.registry))
    }),
    on("ValidatingAdmissionWebhook", Steps::Validate, |context| {
        plain(webhook::Validating::new(context.registry.clone()), context)
    }),
    // quotas come so late that nothing is charged that is refused
    on("ResourceQuota", Steps::Validate, |context| {
        plain(resource_quota::ResourceQuota::default(), context)
    }),
    off("AlwaysDeny", Steps::Both, |_| {
        deprecated("AlwaysDeny");
        made(always_deny::AlwaysDeny)
    }),
];

fn deprecated(name: &str) {
    tracing::warn!(
        "{name} admission controller is deprecated. Please remove this controller from your configuration files and scripts."
    );
}
