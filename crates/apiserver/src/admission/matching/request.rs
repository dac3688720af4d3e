//! The AdmissionRequest of a request, as expressions read it and as others are sent it, without the objects.

use serde_json::{Value, json};

use super::criteria::Version;
use crate::admission::Attributes;

/// Describes a request: the resource and kind that it is shown as, and those that it was made for.
pub fn describe(asked: &Attributes<'_>, shown: &Version) -> Value {
    let (own, kind) = (asked.resource, asked.kind());
    let resource = |group: &str, version: &str| json!({ "group": group, "version": version, "resource": own.plural });
    let shown_as = match shown {
        Version::Asked => own,
        Version::Other(other) => other,
    };
    let shown_kind = shown_as.kind_of(asked.subresource);
    let user = asked.user;
    let mut info = json!({});
    for (key, value) in [("username", &user.name), ("uid", &user.uid)] {
        if !value.is_empty() {
            info[key] = json!(value);
        }
    }
    if !user.groups.is_empty() {
        info["groups"] = json!(user.groups);
    }
    if !user.extra.is_empty() {
        info["extra"] = json!(user.extra);
    }
    let of_kind =
        |kind: &api::gvk::GroupVersionKind| json!({ "group": kind.group, "version": kind.version, "kind": kind.kind });
    let mut request = json!({
        "kind": of_kind(&shown_kind),
        "resource": resource(&shown_as.group, &shown_as.version),
        "requestKind": of_kind(&kind),
        "requestResource": resource(&own.group, &own.version),
        "operation": asked.operation.name(),
        "userInfo": info,
        "dryRun": asked.dry_run,
        "options": asked.options(),
    });
    let texts = [
        ("subResource", asked.subresource),
        ("requestSubResource", asked.subresource),
        ("name", asked.known_name),
        ("namespace", asked.namespace_asked()),
    ];
    for (key, text) in texts.into_iter().filter(|(_, text)| !text.is_empty()) {
        request[key] = json!(text);
    }
    request
}
