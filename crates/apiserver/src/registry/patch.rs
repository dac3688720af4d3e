//! PATCH: JSON Patch, JSON Merge Patch, strategic merge patch and server-side apply, each onto the served version.

use api::schema::Document;
use serde_json::Value;

use crate::http::json_text;
use crate::http::status::{ApiError, Result};
use crate::registry::resource::Resource;

/// The four media types of a patch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PatchKind {
    Json,
    Merge,
    Strategic,
    Apply,
}

/// What upstream allows one JSON Patch to hold.
const MAX_OPERATIONS: usize = 10_000;

impl PatchKind {
    /// # Errors
    /// `415` for any other media type, or a strategic merge of a custom resource.
    pub fn of(content_type: Option<&str>, resource: &Resource) -> Result<PatchKind> {
        let name = content_type
            .unwrap_or_default()
            .split(';')
            .next()
            .unwrap_or_default()
            .trim();
        let kind = match name {
            "application/json-patch+json" => PatchKind::Json,
            "application/merge-patch+json" => PatchKind::Merge,
            "application/strategic-merge-patch+json" if !resource.is_custom() => PatchKind::Strategic,
            "application/apply-patch+yaml" => PatchKind::Apply,
            _ if !resource.is_custom() => return Err(ApiError::unknown_patch_type()),
            _ => {
                let known = [
                    "application/json-patch+json",
                    "application/merge-patch+json",
                    "application/apply-patch+yaml",
                ];
                let message = format!(
                    "the body of the request was in an unknown format - accepted media types include: {}",
                    known.join(", ")
                );
                return Err(ApiError::unsupported_media_type(message));
            }
        };
        Ok(kind)
    }
}

/// A patch that was read.
#[derive(Debug)]
pub enum Patch {
    Json(json_patch::Patch),
    Merge(Value),
    Strategic(Value),
}

impl Patch {
    /// The patch, and what strict decoding objects to in its text.
    pub fn parse(kind: PatchKind, body: &[u8]) -> Result<(Patch, Vec<String>)> {
        let document = Document::from_json(body)
            .map_err(|_| ApiError::bad_request(format!("error decoding patch: {}", json_text::problem(body))))?;
        let repeated = document.repeated.iter();
        let mut strict: Vec<String> = repeated.map(|r| format!("duplicate field \"{}\"", r.path)).collect();
        let tree = document.value;
        let patch = match kind {
            PatchKind::Json => {
                let Value::Array(operations) = &tree else {
                    let found = json_text::kind(&tree);
                    return Err(ApiError::bad_request(format!(
                        "error decoding patch: json: cannot unmarshal {found} into Go value of type []handlers.jsonPatchOp"
                    )));
                };
                strict.extend(unknown_in(operations));
                strict.iter_mut().for_each(|error| error.insert_str(0, "json patch "));
                let patch: json_patch::Patch = serde_json::from_value(tree).map_err(|_| ApiError::unfit_patch())?;
                if patch.0.len() > MAX_OPERATIONS {
                    let message = format!(
                        "The allowed maximum operations in a JSON patch is {MAX_OPERATIONS}, got {}",
                        patch.0.len()
                    );
                    return Err(ApiError::new(413, "RequestEntityTooLarge", message));
                }
                Patch::Json(patch)
            }
            PatchKind::Merge => Patch::Merge(tree),
            PatchKind::Strategic | PatchKind::Apply => Patch::Strategic(tree),
        };
        Ok((patch, strict))
    }

    /// The error of a patch that makes something else of the object than its kind.
    pub fn unfit(&self, resource: &Resource, patched: &Value, why: &str) -> ApiError {
        let shown = match self {
            Patch::Json(_) => resource.schema.get().go_json(resource.root, patched, &Value::Null),
            Patch::Merge(patch) => resource.schema.get().go_json(resource.root, patched, patch),
            Patch::Strategic(patch) => json_text::go_map(patch),
        };
        let error = api::field::FieldError::invalid("patch", Value::String(shown), why);
        ApiError::invalid("", "", "", &[error])
    }

    /// The object after the patch; not yet checked against the schema.
    pub fn apply(&self, resource: &Resource, old: &Value) -> Result<Value> {
        match self {
            Patch::Json(patch) => {
                let mut tree = old.clone();
                json_patch::patch(&mut tree, patch).map_err(|_| ApiError::unfit_patch())?;
                Ok(tree)
            }
            Patch::Merge(patch) => {
                if !patch.is_object() {
                    return Err(ApiError::bad_request("merge patch must be a JSON object"));
                }
                let mut tree = old.clone();
                json_patch::merge(&mut tree, patch);
                Ok(tree)
            }
            Patch::Strategic(patch) => resource
                .schema
                .get()
                .strategic_merge(resource.root, old, patch)
                .map_err(|e| ApiError::bad_request(e.to_string())),
        }
    }
}

/// Fields of a JSON patch's operations that operations do not have.
fn unknown_in(operations: &[Value]) -> impl Iterator<Item = String> {
    const FIELDS: [&str; 4] = ["op", "path", "value", "from"];
    let fields = |(i, operation): (usize, &Value)| -> Vec<String> {
        let keys = operation.as_object().into_iter().flat_map(|o| o.keys());
        keys.filter(|k| !FIELDS.contains(&k.as_str()))
            .map(|k| format!("unknown field \"[{i}].{k}\""))
            .collect()
    };
    operations.iter().enumerate().flat_map(fields)
}
