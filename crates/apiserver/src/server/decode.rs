//! Bodies: from the bytes of a request to a tree of the resource's type, and what is wrong with those that are not.

use api::gvk::{GroupVersionKind, split_api_version};
use api::schema::json::{DecodeError, Voice};
use api::schema::structural::{Nulls, whole_numbers};
use api::schema::weight::TOO_HEAVY;
use api::schema::{Decoded, Document, Schema, envelope};
use serde_json::{Value, json};

use crate::http::json_text;
use crate::http::negotiate::{self, Encoding};
use crate::http::status::{ApiError, Result};
use crate::registry::metadata;
use crate::registry::resource::{Resource, internal_package};
use crate::server::Request;
use crate::server::options::FieldValidation;

/// Bytes of a body that an error shows.
const SHOWN: usize = 30;

impl Request {
    /// The encoding of the body, by its `Content-Type`.
    ///
    /// # Errors
    /// `415` for one that is not known.
    pub fn encoding(&self) -> Result<Encoding> {
        negotiate::body_encoding(self.header("content-type"))
    }

    /// The body as a tree of the resource, checked for unknown and duplicate fields.
    pub fn decode(&self, resource: &Resource) -> Result<Value> {
        let schema = resource.schema.get();
        let encoding = self.encoding()?;
        let bad = |e: &dyn std::fmt::Display| self.undecodable(resource, encoding, e);
        let decoded = match encoding {
            Encoding::Json if resource.is_custom() => {
                let document = Document::from_json(&self.body).map_err(|e| bad(&e))?;
                let decoded = schema
                    .decode_custom(document.value, Nulls::Dropped)
                    .map_err(|e| bad(&e))?;
                let duplicate = document.repeated.into_iter().map(|r| r.path).collect();
                Decoded { duplicate, ..decoded }
            }
            Encoding::Yaml if resource.is_custom() => {
                let document = Document::from_yaml(&self.body).map_err(|e| bad(&e))?;
                let text = document.yaml_problem();
                let decoded = schema
                    .decode_custom(document.value, Nulls::Dropped)
                    .map_err(|e| bad(&e))?;
                Decoded { text, ..decoded }
            }
            Encoding::Json => schema.decode_json(resource.root, &self.body).map_err(|e| bad(&e))?,
            Encoding::Yaml => schema.decode_yaml(resource.root, &self.body).map_err(|e| bad(&e))?,
            Encoding::Protobuf if resource.is_custom() => {
                let why = "custom resources are not sent as protobuf";
                return Err(ApiError::unsupported_media_type(why));
            }
            Encoding::Protobuf => {
                let unknown = envelope::unwrap_unknown(&self.body)
                    .ok_or_else(|| ApiError::bad_request("the body is not in the protobuf envelope"))?
                    .map_err(|e| bad(&e))?;
                let mut value = schema.decode_proto(resource.root, unknown.raw).map_err(|e| bad(&e))?;
                value["apiVersion"] = json!(unknown.api_version);
                value["kind"] = json!(unknown.kind);
                Decoded {
                    value,
                    unknown: Vec::new(),
                    duplicate: Vec::new(),
                    text: None,
                }
            }
        };
        let strict = match resource.is_custom() {
            true => decoded.strict_errors_of_custom(),
            false => decoded.strict_errors(),
        };
        let mut tree = decoded.value;
        if resource.is_custom() {
            self.check_kind(resource, &tree)?;
        }
        check_type(resource, &mut tree)?;
        if let Some(why) = self.strict_problem(&strict) {
            return Err(unfit(&resource.kind, &resource.version, &resource.kind, &why));
        }
        self.trail.request_object(&tree, |tree| {
            resource.set_defaults(tree);
            match resource.is_custom() {
                true => whole_numbers(tree),
                false => schema.normalize(resource.root, tree),
            }
        });
        Ok(tree)
    }

    /// Notes what strict decoding objects to as warnings, or returns it when it refuses the request.
    pub fn strict_problem(&self, errors: &[String]) -> Option<String> {
        match self.field_validation() {
            _ if errors.is_empty() => None,
            FieldValidation::Ignore => None,
            FieldValidation::Warn => {
                let all = errors.iter().flat_map(|error| warnings_of(error));
                all.for_each(|text| self.warnings.add(text));
                None
            }
            FieldValidation::Strict => Some(format!("strict decoding error: {}", errors.join(", "))),
        }
    }

    /// A custom resource says what it is: upstream reads its kind from the body.
    fn check_kind(&self, resource: &Resource, tree: &Value) -> Result<()> {
        let misfit = |key: &'static str| {
            let found = tree.get(key).filter(|found| !found.is_string() && !found.is_null())?;
            Some((key, json_text::kind(found)))
        };
        if let Some((key, found)) = misfit("apiVersion").or_else(|| misfit("kind")) {
            let why = format!(
                "couldn't get version/kind; json parse error: json: cannot unmarshal {found} into Go struct field .{key} of type string"
            );
            return Err(self.unrecognized(resource, &why));
        }
        let why = match tree.get("kind") {
            Some(Value::String(kind)) if !kind.is_empty() && tree.get("apiVersion") == Some(&Value::Null) => {
                let why = ".apiVersion accessor error: <nil> is of the type <nil>, expected string";
                return Err(unfit(kind, "", &resource.kind, why));
            }
            Some(Value::String(kind)) if !kind.is_empty() => return Ok(()),
            _ => format!("Object 'Kind' is missing in '{}'", String::from_utf8_lossy(&self.body)),
        };
        // only a strict reader knows by then that there is no kind; the other one takes the path's
        if matches!(self.field_validation(), FieldValidation::Ignore) {
            let version = match tree["apiVersion"].as_str().map(split_api_version) {
                None | Some((_, "")) => resource.version.as_str(),
                Some((_, version)) => version,
            };
            return Err(unfit(&resource.kind, version, &resource.kind, &why));
        }
        Err(self.unrecognized(resource, &why))
    }

    fn unrecognized(&self, resource: &Resource, why: &str) -> ApiError {
        ApiError::bad_request(format!(
            "the object provided is unrecognized (must be of type {}): {why} ({})",
            resource.kind,
            summary(&self.body)
        ))
    }

    /// Why the body is no object of the resource.
    fn undecodable(&self, resource: &Resource, encoding: Encoding, error: &dyn std::fmt::Display) -> ApiError {
        if error.to_string().starts_with(TOO_HEAVY) {
            return ApiError::new(
                413,
                "RequestEntityTooLarge",
                format!("Request entity too large: {TOO_HEAVY}"),
            );
        }
        let head: Option<Value> = match encoding {
            Encoding::Json => serde_json::from_slice(&self.body).ok(),
            Encoding::Yaml => Document::from_yaml(&self.body).ok().map(|d| d.value),
            Encoding::Protobuf => Some(Value::Null),
        };
        match (head, encoding) {
            (None, Encoding::Json) if let Some(number) = json_text::beyond_float(&self.body) => unfit(
                &resource.kind,
                &resource.version,
                &resource.kind,
                &json_text::no_float(number),
            ),
            (None, Encoding::Json) => {
                let why = json_text::problem(&self.body);
                self.unrecognized(resource, &format!("couldn't get version/kind; json parse error: {why}"))
            }
            (None, _) => self.unrecognized(resource, &format!("yaml: {}", yaml_problem(&error.to_string()))),
            (Some(head), _) => {
                if resource.is_custom()
                    && let Err(other) = self.check_kind(resource, &head)
                {
                    return other;
                }
                let mut typed = json!({ "kind": head.get("kind"), "apiVersion": head.get("apiVersion") });
                if let Err(other) = check_type(resource, &mut typed) {
                    return other;
                }
                unfit(&resource.kind, &resource.version, &resource.kind, &error.to_string())
            }
        }
    }
}

/// The warnings of an error: what a reader of YAML says has a line for each.
fn warnings_of(error: &str) -> impl Iterator<Item = &str> {
    let lines = error.split_once("yaml: unmarshal errors:\n").map(|(_, lines)| lines);
    lines.unwrap_or(error).lines().map(str::trim)
}

/// A YAML reader's words without the place they are about, which upstream's do not name.
pub fn yaml_problem(text: &str) -> &str {
    let line = text.lines().next().unwrap_or_default();
    let line = line.rsplit_once("error: ").map_or(line, |(_, rest)| rest);
    match line.strip_prefix("line ").and_then(|rest| rest.split_once(": ")) {
        Some((_, rest)) => rest,
        None => line,
    }
}

/// The beginning of a body: as it is if it looks like JSON, else in hexadecimal.
fn summary(body: &[u8]) -> String {
    if body.is_empty() {
        return "<empty>".into();
    }
    let shown = &body[..body.len().min(SHOWN)];
    let mut text = if body[0] == b'{' {
        String::from_utf8_lossy(shown).into_owned()
    } else {
        shown.iter().map(|b| format!("{b:02x}")).collect()
    };
    if body.len() > SHOWN {
        text.push_str(" ...");
    }
    text
}

fn unfit(kind: &str, version: &str, wanted: &str, why: &str) -> ApiError {
    ApiError::bad_request(format!(
        "{kind} in version {version:?} cannot be handled as a {wanted}: {why}"
    ))
}

/// A tree held against the resource's schema.
///
/// # Errors
/// Why it is no such tree.
pub fn decode_tree(resource: &Resource, tree: Value, voice: Voice) -> std::result::Result<Decoded, DecodeError> {
    let schema = resource.schema.get();
    match voice {
        _ if resource.is_custom() => schema.decode_custom(tree, Nulls::Dropped),
        Voice::Json => schema.decode_value(resource.root, tree),
        Voice::Converter => schema.convert_value(resource.root, &tree),
    }
}

/// The body must be of the type that the path names; absent, the type is filled in.
pub fn check_type(resource: &Resource, tree: &mut Value) -> Result<()> {
    let api_version = resource.api_version();
    let object = tree
        .as_object_mut()
        .ok_or_else(|| ApiError::bad_request("the body is not an object"))?;
    let text = |v: Option<&Value>| v.and_then(Value::as_str).unwrap_or_default().to_owned();
    let (kind, version) = (text(object.get("kind")), text(object.get("apiVersion")));
    if kind.is_empty() && resource.is_custom() {
        return Err(ApiError::bad_request("Object 'Kind' is missing"));
    }
    let other_kind = !kind.is_empty() && kind != resource.kind;
    if resource.is_custom() {
        if version != api_version {
            return Err(other_version(&api_version, &version));
        }
        if other_kind {
            let name = object
                .get("metadata")
                .and_then(|meta| meta.get("name"))
                .and_then(Value::as_str);
            let why = format!("must be {}", resource.kind);
            let error = api::field::FieldError::invalid("kind", json!(kind), why);
            return Err(ApiError::invalid(
                &resource.group,
                &kind,
                name.unwrap_or_default(),
                &[error],
            ));
        }
        return Ok(());
    }
    if other_kind || (!version.is_empty() && version != api_version) {
        return Err(other_type((&api_version, &resource.kind), &kind, &version));
    }
    object.insert("kind".into(), json!(resource.kind));
    object.insert("apiVersion".into(), json!(api_version));
    Ok(())
}

fn other_version(wanted: &str, version: &str) -> ApiError {
    ApiError::bad_request(format!(
        "the API version in the data ({version}) does not match the expected API version ({wanted})"
    ))
}

/// The error of a body that is of another type than the path, whose version and kind are `wanted`.
fn other_type(wanted: (&str, &str), kind: &str, version: &str) -> ApiError {
    let kind = if kind.is_empty() { wanted.1 } else { kind };
    let version = if version.is_empty() { wanted.0 } else { version };
    match no_version_of(wanted, kind, version) {
        None => other_version(wanted.0, version),
        Some(why) => unfit(kind, split_api_version(version).1, wanted.1, &why),
    }
}

/// Why a kind is no version of the wanted one.
fn no_version_of(wanted: (&str, &str), kind: &str, version: &str) -> Option<String> {
    let known = Schema::builtin()
        .type_for(&GroupVersionKind::from_api_version(version, kind))
        .is_some();
    let (group, _) = split_api_version(wanted.0);
    let (_, short) = split_api_version(version);
    match known {
        true if kind == wanted.1 => None,
        true => Some(format!(
            "converting ({short}.{kind}) to ({}.{}): unknown conversion",
            internal_package(group),
            wanted.1
        )),
        false => Some(unregistered(kind, version)),
    }
}

/// Why what a tree says of itself is no version of a built-in kind. What it does not say is right.
pub fn foreign(resource: &Resource, tree: &Value) -> Option<String> {
    let api_version = resource.api_version();
    let text = |key: &str| tree.get(key).and_then(Value::as_str).filter(|text| !text.is_empty());
    let kind = text("kind").unwrap_or(&resource.kind);
    let version = text("apiVersion").unwrap_or(&api_version);
    no_version_of((&api_version, &resource.kind), kind, version)
}

fn unregistered(kind: &str, version: &str) -> String {
    format!("no kind {kind:?} is registered for version {version:?} in scheme \"pkg/runtime/scheme.go:111\"")
}

/// Decodes a body of a built-in kind that is no resource.
pub fn decode_builtin(request: &Request, kind: &str) -> Result<Value> {
    decode_kind(request, Schema::builtin(), &[("v1", kind), ("meta.k8s.io/v1", kind)])
}

/// Decodes a body of one of several types.
pub fn decode_kind(request: &Request, schema: &Schema, types: &[(&str, &str)]) -> Result<Value> {
    let mut found = types.iter().filter_map(|(version, kind)| {
        let gvk = GroupVersionKind::from_api_version(version, kind);
        Some((*version, *kind, schema.type_for(&gvk)?))
    });
    let (version, kind, root) = found
        .next()
        .ok_or_else(|| ApiError::internal("the body's type has no schema"))?;
    let bad = |e: &dyn std::fmt::Display| ApiError::bad_request(e.to_string());
    let is_options = kind == "DeleteOptions";
    let of_type = |e: api::schema::json::DecodeError| {
        if is_options {
            return ApiError::bad_request(e.to_string());
        }
        unfit(
            kind,
            version.rsplit('/').next().unwrap_or_default(),
            kind,
            &e.to_string(),
        )
    };
    let decoded = match request.encoding()? {
        Encoding::Json => schema.decode_json(root, &request.body).map_err(|error| {
            // upstream reads the type first, and so says of what is no JSON that it has none
            if let Ok(tree) = serde_json::from_slice::<Value>(&request.body) {
                if is_options && !tree.is_object() && !tree.is_null() {
                    let why = format!("json: cannot unmarshal {} into Go value of type struct", json_text::kind(&tree));
                    return ApiError::bad_request(format!(
                        "couldn't get version/kind; json parse error: {why} {{ APIVersion string \"json:\\\"apiVersion,omitempty\\\"\"; Kind string \"json:\\\"kind,omitempty\\\"\" }}"
                    ));
                }
                return of_type(error);
            }
            let why = json_text::problem(&request.body);
            ApiError::bad_request(format!("couldn't get version/kind; json parse error: {why}"))
        })?,
        Encoding::Yaml => schema.decode_yaml(root, &request.body).map_err(of_type)?,
        Encoding::Protobuf => {
            let unknown = envelope::unwrap_unknown(&request.body)
                .ok_or_else(|| ApiError::bad_request("the body is not in the protobuf envelope"))?
                .map_err(|e| bad(&e))?;
            let mut value = schema.decode_proto(root, unknown.raw).map_err(|e| bad(&e))?;
            value["apiVersion"] = json!(unknown.api_version);
            value["kind"] = json!(unknown.kind);
            Decoded {
                value,
                unknown: Vec::new(),
                duplicate: Vec::new(),
                text: None,
            }
        }
    };
    let text = |key: &str| decoded.value.get(key).and_then(Value::as_str).unwrap_or_default();
    if is_options {
        // they come in the version of whatever is deleted, and nobody is told what else is in them
        let (own, of) = (text("kind"), text("apiVersion"));
        if !own.is_empty() && own != kind {
            let of = if of.is_empty() { "meta.k8s.io/v1" } else { of };
            return Err(ApiError::bad_request(unregistered(own, of)));
        }
    } else {
        let (own, of) = (text("kind"), text("apiVersion"));
        let same = |known: &str, given: &str| given.is_empty() || given == known;
        if !types.iter().any(|(version, kind)| same(kind, own) && same(version, of)) {
            return Err(other_type((version, kind), own, of));
        }
        if let Some(why) = request.strict_problem(&decoded.strict_errors()) {
            return Err(unfit(kind, split_api_version(version).1, kind, &why));
        }
    }
    let mut tree = decoded.value;
    // options that name no version are read as upstream's own
    let version = if is_options { "meta.k8s.io/__internal" } else { version };
    let given = tree["apiVersion"]
        .as_str()
        .filter(|given| is_options && !given.is_empty());
    tree["apiVersion"] = json!(given.unwrap_or(version));
    tree["kind"] = json!(kind);
    request.trail.request_object(&tree, |tree| {
        schema.set_defaults(root, tree);
        schema.normalize(root, tree);
    });
    Ok(tree)
}

/// The object's namespace is the path's.
pub fn check_namespace(resource: &Resource, tree: &mut Value, namespace: &str) -> Result<()> {
    let own = metadata::text(tree, "namespace").to_owned();
    if resource.namespaced {
        if own.is_empty() {
            metadata::of(tree)?.insert("namespace".into(), json!(namespace));
        } else if own != namespace {
            let why = "the namespace of the provided object does not match the namespace sent on the request";
            return Err(ApiError::bad_request(why));
        }
    } else if !own.is_empty() {
        metadata::of(tree)?.remove("namespace");
    }
    Ok(())
}

/// The object's name is the path's.
pub fn check_identity(name: &str, tree: &Value) -> Result<()> {
    let own = metadata::text(tree, "name");
    if own == name {
        return Ok(());
    }
    if own.is_empty() {
        let why = format!("the name of the object ({name} based on URL) was undeterminable: name must be provided");
        return Err(ApiError::bad_request(why));
    }
    let why = format!("the name of the object ({own}) does not match the name on the URL ({name})");
    Err(ApiError::bad_request(why))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_line_of_what_a_reader_of_yaml_says_is_a_warning() {
        let all = |error: &'static str| warnings_of(error).collect::<Vec<_>>();
        let two = "error converting YAML to JSON: yaml: unmarshal errors:\n  line 1: key \"a\" already set in map\n  line 2: key \"b\" already set in map";
        assert_eq!(
            all(two),
            [
                r#"line 1: key "a" already set in map"#,
                r#"line 2: key "b" already set in map"#
            ]
        );
        assert_eq!(all(r#"unknown field "x""#), [r#"unknown field "x""#]);
    }
}
