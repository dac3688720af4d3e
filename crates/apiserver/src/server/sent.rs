//! A patch or configuration as a client sent it, and the object that a patch makes of another. The resource may also be the kind
//! of a subresource.

use api::schema::Document;
use api::schema::json::DecodeError;
use serde::de::IgnoredAny;
use serde_json::{Value, json};

use crate::http::status::{ApiError, META, Result};
use crate::pipeline::patch::{Patch, PatchKind};
use crate::pipeline::patch_text;
use crate::registry::resource::Resource;
use crate::server::Request;
use crate::server::decode::{check_identity, check_namespace, check_type, decode_tree, foreign, yaml_problem};

/// A patch of a request.
pub struct Sent<'r> {
    request: &'r Request,
    patch: Patch,
    /// What strict decoding objects to in its text.
    objections: Vec<String>,
}

impl Sent<'_> {
    /// Reads the patch of a request, which is none of server-side apply.
    ///
    /// # Errors
    /// When it cannot be read, or is told to force.
    pub fn read(request: &Request, kind: PatchKind) -> Result<Sent<'_>> {
        if request.query.get("force").is_some() {
            let error = api::field::FieldError::forbidden("force", "may not be specified for non-apply patch");
            return Err(ApiError::invalid(META, "PatchOptions", "", &[error]));
        }
        let (patch, objections) = Patch::parse(kind, &request.body)?;
        request.trail.request_patch(|| request.body.clone());
        Ok(Sent {
            request,
            patch,
            objections,
        })
    }

    /// What the patch makes of an object, read and held against the path.
    ///
    /// # Errors
    /// When it does not fit, or makes something else of the object.
    pub fn patched(&self, resource: &Resource, old: &Value, namespace: &str) -> Result<Value> {
        let patch = &self.patch;
        let mut patched = patch.apply(resource, old)?;
        if !resource.is_custom() && patched.is_object() {
            if matches!(patch, Patch::Strategic(_)) {
                // it goes into an object of the kind, whatever it says of itself
                patched["kind"] = json!(resource.kind);
                patched["apiVersion"] = json!(resource.api_version());
            } else if let Some(why) = foreign(resource, &patched) {
                return Err(patch.unfit(resource, old, &patched, &why));
            }
        }
        let decoded = decode_tree(resource, patched.clone(), patch.voice());
        let decoded = decoded.map_err(|why| {
            let why = self.first_mistake(resource, &patched).unwrap_or(why);
            patch.unfit(resource, old, &patched, &why.to_string())
        })?;
        let strict = [self.objections.clone(), decoded.strict_errors()].concat();
        if let Some(why) = self.request.strict_problem(&strict) {
            return Err(patch.unfit(resource, old, &patched, &why));
        }
        let mut tree = decoded.value;
        check_type(resource, &mut tree)?;
        check_namespace(resource, &mut tree, namespace)?;
        check_identity(&self.request.info.name, &tree)?;
        Ok(tree)
    }

    /// Returns the first mistake in the text of what a JSON patch makes of a built-in object.
    fn first_mistake(&self, resource: &Resource, patched: &Value) -> Option<DecodeError> {
        if resource.is_custom() || !matches!(self.patch, Patch::Json(_)) {
            return None;
        }
        let text = patch_text::written(&self.request.body, patched).ok()?;
        resource.schema.get().decode_json(resource.root, text.as_bytes()).err()
    }
}

/// The configuration of a server-side apply, which must say what it is; and what strict decoding objects to in its text.
///
/// # Errors
/// When it cannot be read or is of another kind.
pub fn configuration(request: &Request, resource: &Resource) -> Result<(Value, Option<String>)> {
    if request.query.text("fieldManager").is_none() {
        let error = api::field::FieldError::required("fieldManager", "is required for apply patch");
        return Err(ApiError::invalid(META, "PatchOptions", "", &[error]));
    }
    let unreadable = |why: &str| {
        // a text that begins as JSON does is only read when it is applied
        let json = request.body.trim_ascii_start().starts_with(b"{");
        let what = if json { "decoding" } else { "encoding" };
        ApiError::bad_request(format!(
            "error {what} patch: error converting YAML to JSON: yaml: {why}"
        ))
    };
    // JSON is recorded as it came, before anybody objects to it
    let is_json = serde_json::from_slice::<IgnoredAny>(&request.body).is_ok();
    if is_json {
        request.trail.request_patch(|| request.body.clone());
    }
    if let Some(why) = api::yaml::unreadable(&request.body) {
        return Err(unreadable(why));
    }
    let document = Document::from_yaml(&request.body).map_err(|error| unreadable(yaml_problem(&error.to_string())))?;
    let repeated = document.yaml_problem();
    let tree = document.value;
    if !is_json {
        request.trail.request_patch(|| tree.to_string().into());
    }
    if tree.pointer("/metadata/managedFields").is_some_and(Value::is_array) {
        return Err(ApiError::bad_request("metadata.managedFields must be nil"));
    }
    let text = |key: &str| tree.get(key).and_then(Value::as_str).unwrap_or_default();
    let (api_version, kind) = (text("apiVersion"), text("kind"));
    if (api_version, kind) != (&*resource.api_version(), &*resource.kind) {
        let (group, version) = api::gvk::split_api_version(api_version);
        let why = format!("invalid object type: {group}/{version}, Kind={kind}");
        return Err(ApiError::bad_request(why));
    }
    Ok((tree, repeated))
}
