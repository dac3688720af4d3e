//! The fields that a path of writing never changes, and that nobody comes to manage by it: what upstream's strategies
//! return from `GetResetFields`.

use api::apply::Reset;

use crate::registry::resource::Resource;

/// The fields that writes of a resource by a path leave as they are; `subresource` is empty for the object itself.
pub fn reset_fields(resource: &Resource, subresource: &str) -> Reset {
    const STATUS: Reset = Reset::Except(&[&["status"]]);
    let of = (resource.group.as_str(), resource.plural.as_str());
    match subresource {
        "" => match of {
            ("certificates.k8s.io", "certificatesigningrequests") => Reset::Except(&[&["spec"], &["status"]]),
            _ if resource.strategy.has_status => STATUS,
            _ => Reset::NOTHING,
        },
        "status" => status(resource, of),
        "approval" => Reset::Except(&[&["spec"], &["status", "certificate"]]),
        "finalize" => STATUS,
        "ephemeralcontainers" => Reset::AllBut(&[&["spec", "ephemeralContainers"]]),
        "resize" => Reset::AllBut(&[
            &["spec", "resources"],
            &["spec", "containers", "*", "resources"],
            &["spec", "containers", "*", "resizePolicy"],
            &["spec", "initContainers", "*", "resources"],
            &["spec", "initContainers", "*", "resizePolicy"],
        ]),
        _ => Reset::NOTHING,
    }
}

fn status(resource: &Resource, of: (&str, &str)) -> Reset {
    match of {
        ("", "pods") => Reset::Except(&[
            &["spec"],
            &["metadata", "deletionTimestamp"],
            &["metadata", "ownerReferences"],
        ]),
        ("apps", "deployments") => Reset::Except(&[&["spec"], &["metadata", "labels"]]),
        ("certificates.k8s.io", "certificatesigningrequests") => Reset::Except(&[&["spec"], &["status", "conditions"]]),
        (
            "admissionregistration.k8s.io"
            | "apiregistration.k8s.io"
            | "flowcontrol.apiserver.k8s.io"
            | "resource.k8s.io",
            _,
        )
        | ("networking.k8s.io", "servicecidrs")
        | ("storage.k8s.io", "volumeattachments") => Reset::Except(&[&["metadata"], &["spec"]]),
        _ if resource.is_custom() => Reset::Except(&[&["metadata"], &["spec"]]),
        _ => Reset::Except(&[&["spec"]]),
    }
}
