//! IPAddress. KEP-1880.

use api::names;
use serde_json::json;

use crate::kinds::columns::{BuiltinColumn, NAME, text_at};
use crate::kinds::rules::{immutable, problems, require};
use crate::kinds::{Again, Asked, Check, Errors, Kind};

pub(in crate::kinds) const KIND: Kind = Kind {
    name: |name| names::canonical_ip_errors(name).into_iter().collect(),
    metadata: Asked::on_update(Again::BOTH),
    columns: COLUMNS,
    ..Kind::plain("networking.k8s.io", "ipaddresses", validate)
};

const COLUMNS: &[BuiltinColumn] = &[
    NAME,
    ("ParentRef", "string", 0, |a| {
        let part = |field: &str| text_at(a, &format!("/spec/parentRef/{field}"));
        let group = part("group");
        let resource = if group.is_empty() {
            part("resource").to_owned()
        } else {
            format!("{}.{group}", part("resource"))
        };
        let parts = [resource.as_str(), part("namespace"), part("name")];
        json!(
            parts
                .into_iter()
                .filter(|p| !p.is_empty())
                .collect::<Vec<_>>()
                .join("/")
        )
    }),
];

/// Returns everything in which an object breaks the rules of its kind.
pub fn validate(check: &Check) -> Errors {
    let mut errors = Errors::new();
    let parent = check.root().at(&["spec", "parentRef"]);
    if !parent.is_some() {
        errors.push(parent.required(""));
    } else {
        let group = parent.get("group");
        if !group.text().is_empty() {
            problems(&mut errors, &group, names::dns1123_subdomain_errors(group.text()));
        }
        for key in ["resource", "name"] {
            let at = parent.get(key);
            if require(&mut errors, &at) {
                problems(&mut errors, &at, names::path_segment_errors(at.text()));
            }
        }
        let namespace = parent.get("namespace");
        problems(&mut errors, &namespace, names::path_segment_errors(namespace.text()));
    }
    if let Some(old) = check.before() {
        immutable(&mut errors, &parent, &old.at(&["spec", "parentRef"]));
    }
    errors
}
