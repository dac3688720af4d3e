//! Rules of CustomResourceDefinitions.

use std::collections::HashSet;

use api::names;
use api::schema::structural;
use api::schema::structural::{Node, field_path};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use serde_json::{Value, json};

use crate::kinds::custom::rules::{self, Known};
use crate::kinds::rules::{immutable, require};
use crate::kinds::webhook_client::client_config;
use crate::kinds::{Check, Cursor, Errors};

const COLUMN_TYPES: [&str; 5] = ["boolean", "date", "integer", "number", "string"];

const COLUMN_FORMATS: [&str; 9] = [
    "int32",
    "int64",
    "float",
    "double",
    "byte",
    "date",
    "date-time",
    "password",
    "",
];

/// Returns everything in which an object breaks the rules of its kind.
pub fn validate(check: &Check) -> Errors {
    let mut errors = Errors::new();
    let root = check.root();
    let spec = root.get("spec");
    if !check.is_status() {
        let (name, plural, group) = (
            root.at(&["metadata", "name"]),
            spec.at(&["names", "plural"]),
            spec.get("group"),
        );
        // a name that is missing is told as that
        let named = check.old.is_none() && !name.text().is_empty();
        if named && name.text() != format!("{}.{}", plural.text(), group.text()) {
            errors.push(name.wrong(name.text(), "must be spec.names.plural+\".\"+spec.group"));
        }
        whole_spec(&mut errors, &spec, &Before::of(check.old));
        conversion(&mut errors, &spec.get("conversion"), check.before().as_ref());
        if let Some(old) = check.before() {
            update(&mut errors, &spec, &old);
        }
    }
    stored_versions(&mut errors, &root);
    approval(&mut errors, &root, check.before().as_ref());
    let before = check
        .before()
        .is_some_and(|old| old.at(&["spec", "preserveUnknownFields"]).is_true());
    let preserve = spec.get("preserveUnknownFields");
    if preserve.is_true() && !before {
        errors.push(preserve.invalid(
            "cannot set to true, set x-kubernetes-preserve-unknown-fields to true in spec.versions[*].schema instead",
        ));
    }
    errors
}

/// The problems of a name in one sentence.
fn label(errors: &mut Errors, at: &Cursor, lower: bool) {
    let text = if lower {
        at.text().to_lowercase()
    } else {
        at.text().to_owned()
    };
    let found = names::dns1035_label_errors(&text);
    if at.text().is_empty() || found.is_empty() {
        return;
    }
    let prefix = if lower {
        "may have mixed case, but should otherwise match: "
    } else {
        ""
    };
    errors.push(at.invalid(format!("{prefix}{}", found.join(","))));
}

/// The schemas of a definition before it was changed.
struct Before<'a> {
    versions: &'a [Value],
    expressions: Known,
}

impl<'a> Before<'a> {
    fn of(old: Option<&'a Value>) -> Before<'a> {
        let versions = old.and_then(|old| old.pointer("/spec/versions")?.as_array());
        Before {
            versions: versions.map(Vec::as_slice).unwrap_or_default(),
            expressions: old.map(Known::of).unwrap_or_default(),
        }
    }

    /// Whether a version had this schema.
    fn had(&self, version: &str, schema: &Value) -> bool {
        let before = self.versions.iter().find(|v| v["name"] == *version);
        before.and_then(|v| v.pointer("/schema/openAPIV3Schema")) == Some(schema)
    }
}

fn whole_spec(errors: &mut Errors, spec: &Cursor, before: &Before) {
    let group = spec.get("group");
    let found = names::dns1123_subdomain_errors(group.text());
    if group.text().is_empty() {
        errors.push(group.required(""));
    } else if !found.is_empty() {
        errors.push(group.invalid(found.join(",")));
    } else if !group.text().contains('.') {
        errors.push(group.invalid("should be a domain with at least one dot"));
    }
    let scope = spec.get("scope");
    if !matches!(scope.text(), "Cluster" | "Namespaced") {
        if scope.text().is_empty() {
            errors.push(scope.required(""));
        } else {
            errors.push(scope.not_supported(&["Cluster", "Namespaced"]));
        }
    }
    let versions = spec.get("versions");
    for version in versions.items() {
        let schema = version.at(&["schema", "openAPIV3Schema"]);
        if !schema.is_some() {
            errors.push(schema.required(""));
        }
    }
    // what all versions share is named as the definition's own
    let shared = |field: &'static str| {
        let mut values = versions.items().map(|v| v.get(field).value.clone());
        let first = values.next();
        first.is_some() && values.all(|v| Some(&v) == first.as_ref())
    };
    let fields = ["schema", "subresources", "additionalPrinterColumns", "selectableFields"];
    let [schemas, subresources, columns, selectable] = fields.map(shared);
    let has_status = |version: &Cursor| version.at(&["subresources", "status"]).is_some();
    let mut seen = HashSet::new();
    let mut unique = true;
    for version in versions.items() {
        let name = version.get("name");
        unique &= seen.insert(name.text());
        let found = names::dns1035_label_errors(name.text());
        if !found.is_empty() {
            errors.push(name.wrong(name.text(), found.join(",")));
        }
        deprecation(errors, &version);
        let schema = version.at(&["schema", "openAPIV3Schema"]);
        if !schemas {
            structural(errors, &schema, has_status(&version), before, name.text());
        }
        if !subresources {
            scale(errors, &version.get("subresources"));
        }
        if !columns {
            printer_columns(errors, &version.get("additionalPrinterColumns"));
        }
        if !selectable {
            selectable_fields(errors, &version.get("selectableFields"), &schema);
        }
    }
    if !unique {
        errors.push(versions.invalid("must contain unique version names"));
    }
    if versions.items().filter(|v| v.get("storage").is_true()).count() != 1 {
        errors.push(versions.wrong(
            versions.value.clone(),
            "must have exactly one version marked as storage version",
        ));
    }
    resource_names(errors, &spec.get("names"));
    if let Some(first) = versions.items().next() {
        if schemas {
            let schema = first.at(&["schema", "openAPIV3Schema"]);
            let at = format!("{}.validation.openAPIV3Schema", spec.path);
            let status = versions.items().any(|v| has_status(&v));
            structural(errors, &schema.named(at), status, before, first.get("name").text());
        }
        if subresources {
            scale(
                errors,
                &first.get("subresources").named(format!("{}.subresources", spec.path)),
            );
        }
        if columns {
            let at = format!("{}.additionalPrinterColumns", spec.path);
            printer_columns(errors, &first.get("additionalPrinterColumns").named(at));
        }
        if selectable {
            let at = format!("{}.selectableFields", spec.path);
            let schema = first.at(&["schema", "openAPIV3Schema"]);
            selectable_fields(errors, &first.get("selectableFields").named(at), &schema);
        }
    }
}

fn conversion(errors: &mut Errors, at: &Cursor, old: Option<&Cursor>) {
    let strategy = at.get("strategy");
    match strategy.text() {
        _ if !at.is_some() => {}
        "" => errors.push(strategy.required("")),
        "None" => {
            if at.get("webhook").is_some() {
                let client = at.get("webhookClientConfig");
                errors.push(client.forbidden("should not be set when strategy is not set to Webhook"));
            }
        }
        "Webhook" => webhook(errors, at, old),
        _ => errors.push(strategy.not_supported(&["None", "Webhook"])),
    }
}

/// The webhook of a conversion; upstream names its parts as an older version did.
fn webhook(errors: &mut Errors, at: &Cursor, old: Option<&Cursor>) {
    let of = |path: &[&'static str], key: &str| Cursor::of(Some(at.at(path).value), format!("{}.{key}", at.path));
    let client = of(&["webhook", "clientConfig"], "webhookClientConfig");
    let before = old.map(|old| old.at(&["spec", "conversion", "webhook"]));
    match client.is_some() {
        false => errors.push(client.required("required when strategy is set to Webhook")),
        true => {
            client_config(errors, &client);
            let bundle = client.get("caBundle");
            let lenient = old.is_none_or(|old| {
                let conditions = old.at(&["status", "conditions"]);
                let mut conditions = conditions.items();
                let was = old.at(&["spec", "conversion", "webhook", "clientConfig", "caBundle"]);
                !conditions.any(|c| c.get("type").text() == "Established" && c.get("status").text() == "True")
                    || !was.text().is_empty() && !is_bundle(was.text())
            });
            if !lenient && !bundle.text().is_empty() && !is_bundle(bundle.text()) {
                let why = "unable to load root certificates: unable to parse bytes as PEM block";
                errors.push(bundle.invalid(why));
            }
        }
    }
    let versions = of(&["webhook", "conversionReviewVersions"], "conversionReviewVersions");
    let known = |versions: &Cursor| versions.items().any(|v| matches!(v.text(), "v1" | "v1beta1"));
    let before = before.map(|webhook| webhook.get("conversionReviewVersions"));
    let lenient = before.is_some_and(|versions| !versions.list().is_empty() && !known(&versions));
    if versions.list().is_empty() {
        errors.push(versions.required(""));
        return;
    }
    let mut seen = HashSet::new();
    for version in versions.items() {
        if !seen.insert(version.text()) {
            errors.push(version.invalid("duplicate version"));
            continue;
        }
        let found = names::dns1035_label_errors(version.text());
        errors.extend(found.into_iter().map(|why| version.invalid(why)));
    }
    if !lenient && !known(&versions) {
        errors.push(versions.invalid("must include at least one of v1, v1beta1"));
    }
}

/// Whether a text is base64 of certificates.
fn is_bundle(text: &str) -> bool {
    let bytes = STANDARD.decode(text).unwrap_or_default();
    let mut found = CertificateDer::pem_slice_iter(&bytes);
    found.any(|certificate| certificate.is_ok())
}

fn structural(errors: &mut Errors, at: &Cursor, status: bool, before: &Before, version: &str) {
    if at.is_some() {
        let path = at.path.to_string();
        let found = structural::definition::errors(at.value, &path, status);
        let unchanged = before.had(version, at.value);
        errors.extend(rules::definition::check(
            at.value,
            &path,
            found,
            &before.expressions,
            unchanged,
        ));
    }
}

fn deprecation(errors: &mut Errors, version: &Cursor) {
    const LONGEST: usize = 256;
    let Some(warning) = version.get("deprecationWarning").present() else {
        return;
    };
    if !version.get("deprecated").is_true() {
        errors.push(warning.invalid("can only be set for deprecated versions"));
        return;
    }
    if warning.text().len() > LONGEST {
        errors.push(warning.invalid(format!("must be <= {LONGEST} characters long")));
    }
    if warning.text().is_empty() {
        errors.push(warning.invalid("must not be an empty string"));
    }
    if let Some((at, c)) = warning.text().char_indices().find(|(_, c)| c.is_control()) {
        let kind = if c.is_ascii_control() {
            "non-printable"
        } else {
            "control"
        };
        let why = format!("must only contain printable UTF-8 characters; {kind} character found at index {at}");
        errors.push(warning.invalid(why));
    }
}

fn selectable_fields(errors: &mut Errors, list: &Cursor, schema: &Cursor) {
    const MOST: usize = 8;
    let mut seen = HashSet::new();
    let root = Node::compile(schema.value);
    for field in list.items() {
        let path = field.get("jsonPath");
        if path.text().is_empty() {
            errors.push(path.required(""));
            continue;
        }
        match field_path::resolve(&root, path.text(), false) {
            Err(why) => {
                errors.push(path.invalid(format!("is an invalid path: {why}")));
                continue;
            }
            Ok((_, node)) => {
                if path.text().trim_start_matches('.').split('.').next() == Some("metadata") {
                    errors.push(path.invalid("must not point to fields in metadata"));
                }
                if node.is_none_or(|node| !matches!(&*node.kind, "string" | "boolean" | "integer")) {
                    errors.push(path.invalid(
                        "must point to a field of type string, boolean or integer. Enum string fields and strings with \
                         formats are allowed.",
                    ));
                }
            }
        }
        if !seen.insert(path.text()) {
            errors.push(path.duplicate(path.text()));
        }
    }
    if seen.len() > MOST {
        errors.push(api::field::FieldError::too_many(
            list.path.to_string(),
            seen.len(),
            MOST,
        ));
    }
}

/// Groups of the Kubernetes project take kinds that its reviewers approved.
fn approval(errors: &mut Errors, root: &Cursor, old: Option<&Cursor>) {
    const ANNOTATION: &str = "api-approved.kubernetes.io";
    let group = root.at(&["spec", "group"]).text();
    let protected = ["k8s.io", "kubernetes.io"]
        .iter()
        .any(|domain| group == *domain || group.strip_suffix(domain).is_some_and(|rest| rest.ends_with('.')));
    let at = |root: &Cursor| root.at(&["metadata", "annotations", ANNOTATION]).text().to_owned();
    #[derive(PartialEq)]
    enum State {
        Missing,
        Bypassed,
        Approved,
        Invalid,
    }
    let state = |text: &str| match text {
        "" => State::Missing,
        text if text.starts_with("unapproved") => State::Bypassed,
        text => match text.split_once("://") {
            Some((scheme, rest)) if !scheme.is_empty() && !rest.is_empty() && !rest.starts_with('/') => State::Approved,
            _ => State::Invalid,
        },
    };
    let text = at(root);
    let now = state(&text);
    if !protected || old.is_some_and(|old| state(&at(old)) == now) {
        return;
    }
    let path = format!("metadata.annotations[{ANNOTATION}]");
    let must = format!("protected groups must have approval annotation {ANNOTATION:?}");
    let see = "see https://github.com/kubernetes/enhancements/pull/1111";
    match now {
        State::Missing => errors.push(api::field::FieldError::required(path, format!("{must}, {see}"))),
        State::Invalid => {
            let why = format!("{must} with either a URL or a reason starting with \"unapproved\", {see}");
            errors.push(api::field::FieldError::invalid(path, json!(text), why));
        }
        State::Bypassed | State::Approved => {}
    }
}

fn resource_names(errors: &mut Errors, at: &Cursor) {
    let [plural, singular, kind, list_kind] = ["plural", "singular", "kind", "listKind"].map(|field| at.get(field));
    for name in [&plural, &singular, &kind, &list_kind] {
        require(errors, name);
    }
    label(errors, &plural, false);
    label(errors, &singular, false);
    label(errors, &kind, true);
    label(errors, &list_kind, true);
    for name in at.get("shortNames").items() {
        label(errors, &name, false);
    }
    if !kind.text().is_empty() && kind.text() == list_kind.text() {
        errors.push(list_kind.invalid("kind and listKind may not be the same"));
    }
    for category in at.get("categories").items() {
        label(errors, &category, false);
    }
}

fn scale(errors: &mut Errors, at: &Cursor) {
    let Some(scale) = at.get("scale").present() else { return };
    for (field, below) in [("specReplicasPath", ".spec."), ("statusReplicasPath", ".status.")] {
        let path = scale.get(field);
        if require(errors, &path) && dotted(errors, &path) && !path.text().starts_with(below) {
            let parent = below.trim_end_matches('.');
            errors.push(path.invalid(format!("should be a json path under {parent}")));
        }
    }
    let labels = scale.get("labelSelectorPath");
    let text = labels.text();
    if !text.is_empty() && dotted(errors, &labels) && !text.starts_with(".spec.") && !text.starts_with(".status.") {
        errors.push(labels.invalid("should be a json path under either .spec or .status"));
    }
}

fn printer_columns(errors: &mut Errors, list: &Cursor) {
    for column in list.items() {
        require(errors, &column.get("name"));
        let kind = column.get("type");
        let why = format!("must be one of {}", COLUMN_TYPES.join(","));
        if kind.text().is_empty() {
            errors.push(kind.required(&why));
        } else if !COLUMN_TYPES.contains(&kind.text()) {
            errors.push(kind.invalid(why));
        }
        let format = column.get("format");
        if !COLUMN_FORMATS.contains(&format.text()) {
            let mut sorted = COLUMN_FORMATS[..8].to_vec();
            sorted.sort_unstable();
            errors.push(format.invalid(format!("must be one of {}", sorted.join(","))));
        }
        let path = column.get("jsonPath").named(format!("{}.JSONPath", column.path));
        if require(errors, &path) {
            dotted(errors, &path);
        }
    }
}

fn dotted(errors: &mut Errors, path: &Cursor) -> bool {
    let fine = path.text().starts_with('.');
    if !fine {
        errors.push(path.invalid("must be a simple json path starting with ."));
    }
    fine
}

fn update(errors: &mut Errors, spec: &Cursor, old: &Cursor) {
    let before = old.get("spec");
    let established = old
        .at(&["status", "conditions"])
        .items()
        .any(|c| c.get("type").text() == "Established" && c.get("status").text() == "True");
    let fixed: &[&[&str]] = if established {
        &[&["scope"], &["names", "kind"], &["group"], &["names", "plural"]]
    } else {
        &[&["group"], &["names", "plural"]]
    };
    for way in fixed {
        immutable(errors, &spec.at(way), &before.at(way));
    }
}

/// Objects may be stored in every version that is listed: none may go missing.
fn stored_versions(errors: &mut Errors, root: &Cursor) {
    let stored = root.at(&["status", "storedVersions"]);
    if stored.list().is_empty() {
        errors.push(stored.wrong(Value::Null, "must have at least one stored version"));
        return;
    }
    let versions = root.at(&["spec", "versions"]);
    for version in versions.items().filter(|v| v.get("storage").is_true()) {
        let name = version.get("name");
        if !stored.list().contains(name.value) {
            errors.push(stored.invalid(format!("must have the storage version {}", name.text())));
        }
    }
    for name in stored.items() {
        if !versions.items().any(|v| v.get("name").text() == name.text()) {
            let text = name.text();
            errors.push(name.invalid(format!(
                "missing from spec.versions; {text} was previously a storage version, and must remain in spec.versions \
                 until a storage migration ensures no data remains persisted in {text} and removes {text} from \
                 status.storedVersions"
            )));
        }
    }
}
