//! `scale`: the number of replicas of anything that has one, as `autoscaling/v1` `Scale`.

use std::sync::Arc;

use http::{Response, StatusCode};
use serde_json::{Value, json};

use crate::http::status::{ApiError, Result};
use crate::registry::Served;
use crate::registry::body::{self, Body};
use crate::registry::metadata;
use crate::registry::patch::{Patch, PatchKind};
use crate::registry::read::parse_revision;
use crate::registry::resource::{Resource, at_path};
use crate::registry::write::{Change, Write};
use crate::server::decode::decode_kind;
use crate::server::{ApiServer, Request};

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

/// Makes the wanted `Scale` of the present one.
type Rescale = Box<dyn Fn(&Value) -> Result<Value> + Send + Sync>;

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
        let tree = resource.to_served(object.tree()?);
        return Ok(body::tree_response(
            StatusCode::OK,
            request.accept,
            &scale_of(resource, &tree),
        ));
    }
    let options = request.write_options()?;
    let write = Write {
        registry: &server.registry,
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
    let wanted: Rescale = if request.info.verb == "patch" {
        let builtin = server
            .registry
            .catalog()
            .stored("apps", "deployments")
            .map(|s| s.resource.clone());
        let kind = PatchKind::of(request.header("content-type"), builtin.as_deref().unwrap_or(resource))?;
        if kind == PatchKind::Apply {
            return Err(ApiError::unsupported_media_type(
                "server-side apply to a scale is not implemented",
            ));
        }
        let (patch, objections) = Patch::parse(kind, &request.body)?;
        strict = objections;
        Box::new(move |scale| match &patch {
            Patch::Strategic(tree) => schema
                .strategic_merge(root, scale, tree)
                .map_err(|e| ApiError::bad_request(e.to_string())),
            Patch::Merge(tree) => {
                let mut scale = scale.clone();
                json_patch::merge(&mut scale, tree);
                Ok(scale)
            }
            Patch::Json(patch) => {
                let mut scale = scale.clone();
                json_patch::patch(&mut scale, patch).map_err(|e| ApiError::bad_request(e.to_string()))?;
                Ok(scale)
            }
        })
    } else {
        let scale = decode_kind(request, schema, &[("autoscaling/v1", "Scale")])?;
        Box::new(move |_| Ok(scale.clone()))
    };
    let updated = write
        .update(name, |old| {
            let before = scale_of(resource, old);
            let decoded = schema.decode_value(root, wanted(&before)?);
            let decoded = decoded.map_err(|e| ApiError::bad_request(e.to_string()))?;
            let objections = [strict.clone(), decoded.strict_errors()].concat();
            if let Some(why) = request.strict_problem(&objections) {
                return Err(ApiError::bad_request(why));
            }
            let scale = decoded.value;
            let replicas = scale.pointer("/spec/replicas").and_then(Value::as_i64).unwrap_or(0);
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
            set(&mut tree, spec_path(resource), json!(replicas));
            Ok(Change {
                tree,
                uid: None,
                revision,
                applied: false,
            })
        })
        .await?;
    let tree = resource.to_served(updated.tree()?);
    Ok(body::tree_response(
        StatusCode::OK,
        request.accept,
        &scale_of(resource, &tree),
    ))
}
