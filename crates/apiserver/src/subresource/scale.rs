//! `scale`: the number of replicas of anything that has one, as `autoscaling/v1` `Scale`.

use std::sync::Arc;

use api::schema::{Document, Schema, TypeId};
use http::{Response, StatusCode};
use serde_json::{Value, json};

use crate::http::status::{ApiError, Result};
use crate::kinds::columns::{AGE, BuiltinColumn, NAME, count};
use crate::pipeline::patch::{Patch, PatchKind};
use crate::pipeline::{Change, View, Write};
use crate::registry::Served;
use crate::registry::metadata;
use crate::registry::resource::Resource;
use crate::server::body::{self, Body};
use crate::server::decode::decode_kind;
use crate::server::read::parse_revision;
use crate::server::{ApiServer, Request, resources};
use crate::tree::at_path;

const SCALE_VERSION: &str = "autoscaling/v1";

fn selector_text(resource: &Resource, tree: &Value) -> String {
    if let Some(paths) = &resource.scale {
        let at = paths.label_selector.as_deref().and_then(|p| at_path(tree, p));
        return at.and_then(Value::as_str).unwrap_or_default().to_owned();
    }
    let selector = tree.pointer("/spec/selector");
    // a ReplicationController's selector is a plain map
    let labels = selector
        .map(|s| s.get("matchLabels").unwrap_or(s))
        .and_then(Value::as_object);
    let mut terms: Vec<String> = labels
        .into_iter()
        .flatten()
        .filter_map(|(k, v)| Some(format!("{k}={}", v.as_str()?)))
        .collect();
    for e in selector
        .and_then(|s| s.get("matchExpressions"))
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
    {
        let key = e["key"].as_str().unwrap_or_default();
        let list = e["values"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
            .collect::<Vec<_>>()
            .join(",");
        terms.push(match e["operator"].as_str().unwrap_or_default() {
            "In" => format!("{key} in ({list})"),
            "NotIn" => format!("{key} notin ({list})"),
            "Exists" => key.to_owned(),
            _ => format!("!{key}"),
        });
    }
    terms.sort();
    terms.join(",")
}

fn spec_path(resource: &Resource) -> &str {
    resource.scale.as_ref().map_or("spec.replicas", |p| &p.spec_replicas)
}

fn scale_of(resource: &Resource, tree: &Value) -> Value {
    let number = |path: &str| at_path(tree, path).and_then(Value::as_i64).unwrap_or(0);
    let status = resource
        .scale
        .as_ref()
        .map_or("status.replicas", |p| &p.status_replicas);
    let mut scale = json!({
        "kind": "Scale",
        "apiVersion": "autoscaling/v1",
        "metadata": {},
        "spec": { "replicas": number(spec_path(resource)) },
        "status": { "replicas": number(status) },
    });
    for key in ["name", "namespace", "uid", "resourceVersion", "creationTimestamp"] {
        if let Some(value) = tree.get("metadata").and_then(|m| m.get(key)) {
            scale["metadata"][key] = value.clone();
        }
    }
    if number(spec_path(resource)) == 0
        && let Some(spec) = scale["spec"].as_object_mut()
    {
        spec.remove("replicas");
    }
    let selector = selector_text(resource, tree);
    if !selector.is_empty() {
        scale["status"]["selector"] = json!(selector);
    }
    scale
}

const COLUMNS: &[BuiltinColumn] = &[
    NAME,
    ("Desired", "integer", 0, |t| json!(count(t, "/spec/replicas"))),
    ("Available", "integer", 0, |t| json!(count(t, "/status/replicas"))),
    AGE,
];

/// The `Scale` in the form that the client wants.
fn shown(request: &Request, scale: &Value) -> Result<Response<Body>> {
    body::made_response(StatusCode::OK, request.accept, scale, COLUMNS, "*autoscaling.Scale")
}

/// What admission sees of an object that is scaled.
struct Seen(Arc<Resource>);

impl View for Seen {
    fn of(&self, tree: &Value) -> Result<Value> {
        Ok(scale_of(&self.0, tree))
    }

    fn put(&self, tree: &mut Value, seen: Value) -> Result<()> {
        let uid = |tree: &Value| metadata::text(tree, "uid").to_owned();
        if !uid(&seen).is_empty() && uid(&seen) != uid(tree) {
            let (wanted, found) = (uid(&seen), uid(tree));
            let why = format!("Precondition failed: UID in precondition: {wanted}, UID in object meta: {found}");
            let plural = format!("{}/scale", self.0.plural);
            return Err(ApiError::conflict(
                &self.0.group,
                &plural,
                metadata::text(tree, "name"),
                &why,
            ));
        }
        let replicas = seen.pointer("/spec/replicas").and_then(Value::as_i64).unwrap_or(0);
        set(tree, spec_path(&self.0), json!(replicas));
        Ok(())
    }
}

/// What becomes of the present `Scale`.
enum Rescale {
    Put(Value),
    Patch(Patch),
    /// The configuration, and whether it takes from others what they have.
    Apply(Value, bool),
}

fn patched(schema: &Schema, root: TypeId, scale: &Value, patch: &Patch) -> Result<Value> {
    let mut scale = scale.clone();
    match patch {
        Patch::Strategic(tree) => {
            let merged = schema.strategic_merge(root, &scale, tree);
            return merged.map_err(|e| ApiError::bad_request(e.to_string()));
        }
        Patch::Merge(tree) => json_patch::merge(&mut scale, tree),
        Patch::Json(patch) => {
            json_patch::patch(&mut scale, patch).map_err(|e| ApiError::bad_request(e.to_string()))?;
        }
        Patch::Misfit => return Err(ApiError::unfit_patch()),
    }
    Ok(scale)
}

/// The applied configuration, which must say what it is.
fn configuration(request: &Request) -> Result<Value> {
    let document = Document::from_yaml(&request.body);
    let config = document
        .map_err(|e| ApiError::bad_request(format!("error decoding YAML: {e}")))?
        .value;
    request.trail.request_patch(|| config.to_string().into());
    if config.pointer("/metadata/managedFields").is_some_and(|m| !m.is_null()) {
        return Err(ApiError::bad_request("metadata.managedFields must be nil"));
    }
    let text = |key: &str| config.get(key).and_then(Value::as_str).unwrap_or_default();
    let (version, kind) = (text("apiVersion"), text("kind"));
    if (version, kind) != (SCALE_VERSION, "Scale") {
        let (group, version) = api::gvk::split_api_version(version);
        return Err(ApiError::bad_request(format!(
            "invalid object type: {group}/{version}, Kind={kind}"
        )));
    }
    Ok(config)
}

fn set(tree: &mut Value, path: &str, value: Value) {
    let mut at = tree;
    for key in path.split('.').filter(|k| !k.is_empty()) {
        at = &mut at[key];
    }
    *at = value;
}

pub async fn answer(server: &Arc<ApiServer>, served: &Served, request: &Request) -> Result<Response<Body>> {
    let resource = &served.resource;
    let (namespace, name) = (&request.info.namespace, &request.info.name);
    if request.info.verb == "get" {
        let object = served
            .cache
            .get(namespace, name)
            .ok_or_else(|| resource.not_found(name))?;
        let tree = resource.served(&object).await?;
        return shown(request, &scale_of(resource, &tree));
    }
    let options = request.write_options()?;
    let write = Write {
        pipeline: &server.pipeline,
        served,
        namespace,
        options: &options,
    };
    let schema = api::schema::Schema::builtin();
    let gvk = api::gvk::GroupVersionKind::new("autoscaling", "v1", "Scale");
    let root = schema
        .type_for(&gvk)
        .ok_or_else(|| ApiError::internal("Scale has no schema"))?;
    let mut strict = Vec::new();
    let wanted = if request.info.verb == "patch" {
        let builtin = server
            .registry
            .catalog()
            .stored("apps", "deployments")
            .map(|s| s.resource.clone());
        let kind = PatchKind::of(request.header("content-type"), builtin.as_deref().unwrap_or(resource))?;
        if kind == PatchKind::Apply {
            Rescale::Apply(configuration(request)?, request.query.flag("force"))
        } else {
            let (patch, objections) = Patch::parse(kind, &request.body)?;
            request.trail.request_patch(|| request.body.clone());
            strict = objections;
            Rescale::Patch(patch)
        }
    } else {
        let scale = decode_kind(request, schema, &[(SCALE_VERSION, "Scale")])?;
        Rescale::Put(scale)
    };
    let (api_version, replicas_at) = (resource.api_version(), spec_path(resource));
    let updated = write
        .update(name, |old| {
            let target = api::apply::Target::new(schema, root);
            let mut before = scale_of(resource, old);
            let unreadable = |why: String| ApiError::internal(why);
            api::apply::scale::to_scale(old, &mut before, &api_version, replicas_at).map_err(unreadable)?;
            let mut context = options.context(&server.registry, SCALE_VERSION);
            let after = match &wanted {
                Rescale::Put(scale) => scale.clone(),
                Rescale::Patch(patch) => patched(schema, root, &before, patch)?,
                Rescale::Apply(config, force) => {
                    context.operation = "Apply".into();
                    context.force = *force;
                    api::apply::apply(&target, Some(&before), config, &context)
                        .map_err(|e| resources::refused(resource, config, &e))?
                }
            };
            let decoded = schema.decode_value(root, after);
            let decoded = decoded.map_err(|e| ApiError::bad_request(e.to_string()))?;
            let objections = [strict.clone(), decoded.strict_errors()].concat();
            if let Some(why) = request.strict_problem(&objections) {
                return Err(ApiError::bad_request(why));
            }
            let mut scale = decoded.value;
            if !matches!(wanted, Rescale::Apply(..)) {
                api::apply::track_update(&target, Some(&before), &mut scale, &context);
            }
            let replicas = scale.pointer("/spec/replicas").and_then(Value::as_i64).unwrap_or(0);
            if replicas < 0 && resource.is_custom() {
                let why = "should be a non-negative integer";
                let error = api::field::FieldError::invalid(format!(".{replicas_at}"), json!(replicas), why);
                return Err(resource.invalid(name, &[error]));
            }
            if replicas < 0 {
                let why = "must be greater than or equal to 0";
                let error = api::field::FieldError::invalid("spec.replicas", json!(replicas), why);
                return Err(ApiError::invalid("autoscaling", "Scale", name, &[error]));
            }
            let revision = match (
                metadata::text(&scale, "resourceVersion"),
                metadata::text(old, "resourceVersion"),
            ) {
                ("" | "0", _) => None,
                (new, old) if new == old => None,
                (new, _) => Some(parse_revision(new)?),
            };
            let mut tree = old.clone();
            set(&mut tree, replicas_at, json!(replicas));
            api::apply::scale::from_scale(&mut tree, &scale, &api_version, replicas_at).map_err(unreadable)?;
            Ok(Change {
                tree,
                uid: Some(metadata::text(&scale, "uid").to_owned()).filter(|uid| !uid.is_empty()),
                revision,
                // who has the number now is written down already
                applied: true,
                seen: Some(Box::new(Seen(served.resource.clone()))),
            })
        })
        .await?;
    let tree = resource.served(&updated).await?;
    shown(request, &scale_of(resource, &tree))
}
