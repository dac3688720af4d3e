//! `scale`: the number of replicas of anything that has one, as `autoscaling/v1` `Scale`.

use std::sync::{Arc, LazyLock};

use api::apply::ManagerContext;
use api::schema::json::Voice;
use http::{Response, StatusCode};
use serde_json::{Value, json};

use crate::http::status::{ApiError, Result};
use crate::kinds::columns::{AGE, BuiltinColumn, NAME, count};
use crate::pipeline::patch::PatchKind;
use crate::pipeline::{Change, View, Write};
use crate::registry::Served;
use crate::registry::metadata;
use crate::registry::resource::Resource;
use crate::server::body::{self, Body};
use crate::server::decode::{check_identity, check_namespace, decode_kind, decode_tree};
use crate::server::sent::{self, Sent};
use crate::server::{ApiServer, Request, apply, resources};
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

/// What stands for replicas of a custom object that says nothing of them, as upstream has it.
const UNSET: i64 = i32::MIN as i64;

/// Whether a custom object says nothing of its replicas; those of other kinds have a default.
fn lacks_replicas(resource: &Resource, tree: &Value) -> bool {
    let paths = resource.scale.as_ref();
    paths.is_some_and(|paths| at_path(tree, &paths.spec_replicas).is_none())
}

/// A Scale of no replicas says nothing of them, and nobody manages their number.
fn without_zero(scale: &mut Value) {
    if let Some(spec) = scale.get_mut("spec").and_then(Value::as_object_mut)
        && spec.get("replicas").is_some_and(|count| count.is_null() || *count == 0)
    {
        spec.remove("replicas");
    }
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
    without_zero(&mut scale);
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

/// A Scale is of the object that it scales.
fn same_uid(resource: &Resource, object: &Value, wanted: &str) -> Result<()> {
    let found = metadata::text(object, "uid");
    if wanted == found {
        return Ok(());
    }
    let why = format!("Precondition failed: UID in precondition: {wanted}, UID in object meta: {found}");
    let plural = format!("{}/scale", resource.plural);
    let name = metadata::text(object, "name");
    Err(ApiError::conflict(&resource.group, &plural, name, &why))
}

/// What admission sees of an object that is scaled.
struct Seen {
    resource: Arc<Resource>,
    /// The `Scale` as it was sent, and the one before.
    sent: (Value, Value),
}

impl View for Seen {
    fn of(&self, tree: &Value) -> Result<Value> {
        Ok(scale_of(&self.resource, tree))
    }

    fn sent(&self) -> Option<(Value, Value)> {
        Some(self.sent.clone())
    }

    fn put(&self, tree: &mut Value, seen: Value) -> Result<()> {
        let uid = metadata::text(&seen, "uid");
        if !uid.is_empty() {
            same_uid(&self.resource, tree, uid)?;
        }
        let replicas = seen.pointer("/spec/replicas").and_then(Value::as_i64).unwrap_or(0);
        set(tree, spec_path(&self.resource), json!(replicas));
        Ok(())
    }
}

/// A `Scale` as a body is read.
fn body() -> Result<&'static Resource> {
    static SCALE: LazyLock<Option<Resource>> =
        LazyLock::new(|| Resource::of_body(&api::gvk::GroupVersionKind::new("autoscaling", "v1", "Scale")));
    SCALE.as_ref().ok_or_else(|| ApiError::internal("Scale has no schema"))
}

/// What becomes of the present `Scale`.
enum Rescale<'r> {
    Put(Value),
    Patch(Sent<'r>),
    /// The configuration, and whether it takes from others what they have.
    Apply(Value, bool),
}

impl Rescale<'_> {
    /// The `Scale` that this makes of the present one; `called` are the namespace and the name of the object.
    fn made(&self, before: &Value, context: &mut ManagerContext, called: [&str; 2]) -> Result<Value> {
        let kind = body()?;
        let target = api::apply::Target::new(kind.schema.get(), kind.root);
        let [namespace, name] = called;
        let mut scale = match self {
            Rescale::Put(scale) => scale.clone(),
            Rescale::Patch(sent) => sent.patched(kind, before, namespace)?,
            Rescale::Apply(config, force) => {
                context.operation = "Apply".into();
                context.force = *force;
                let applied = api::apply::apply(&target, Some(before), config, context)
                    .map_err(|e| apply::refused(kind, config, &e))?;
                let called = ["namespace", "name"].map(|key| metadata::text(config, key).to_owned());
                let decoded = decode_tree(kind, applied, Voice::Converter);
                let decoded = decoded.map_err(|why| apply::unconverted(kind, &called, &why))?;
                let mut scale = decoded.value;
                check_namespace(kind, &mut scale, namespace)?;
                check_identity(name, &scale)?;
                return Ok(scale);
            }
        };
        without_zero(&mut scale);
        api::apply::track_update(&target, Some(before), &mut scale, context);
        Ok(scale)
    }
}

/// The number that a `Scale` of an object asks for.
fn replicas(resource: &Resource, name: &str, scale: &Value) -> Result<i64> {
    let at = spec_path(resource);
    let replicas = scale.pointer("/spec/replicas").and_then(Value::as_i64).unwrap_or(0);
    if replicas == UNSET && resource.is_custom() {
        let why = format!("the spec replicas field \".{at}\" cannot be empty");
        return Err(ApiError::bad_request(why));
    }
    if replicas < 0 && resource.is_custom() {
        let why = "should be a non-negative integer";
        let error = api::field::FieldError::invalid(format!(".{at}"), json!(replicas), why);
        return Err(resource.invalid(name, &[error]));
    }
    if replicas < 0 {
        let why = "must be greater than or equal to 0";
        let error = api::field::FieldError::invalid("spec.replicas", json!(replicas), why);
        return Err(ApiError::invalid("autoscaling", "Scale", name, &[error]));
    }
    Ok(replicas)
}

fn wanted<'r>(server: &ApiServer, resource: &Resource, request: &'r Request) -> Result<Rescale<'r>> {
    let body = body()?;
    if request.info.verb != "patch" {
        let mut scale = decode_kind(request, body.schema.get(), &[(SCALE_VERSION, "Scale")])?;
        check_namespace(body, &mut scale, &request.info.namespace)?;
        check_identity(&request.info.name, &scale)?;
        return Ok(Rescale::Put(scale));
    }
    let catalog = server.registry.catalog();
    let builtin = catalog.stored("apps", "deployments").map(|s| s.resource.clone());
    let kind = PatchKind::of(request.header("content-type"), builtin.as_deref().unwrap_or(resource))?;
    if kind != PatchKind::Apply {
        return Ok(Rescale::Patch(Sent::read(request, kind)?));
    }
    let (config, repeated) = sent::configuration(request, body)?;
    if let Some(repeated) = repeated {
        let error = format!("error converting YAML to JSON: {repeated}");
        if request.strict_problem(std::slice::from_ref(&error)).is_some() {
            return Err(ApiError::bad_request(format!("error strict decoding patch: {error}")));
        }
    }
    Ok(Rescale::Apply(config, request.query.flag("force")))
}

fn set(tree: &mut Value, path: &str, value: Value) {
    let mut at = tree;
    for key in path.split('.').filter(|k| !k.is_empty()) {
        at = &mut at[key];
    }
    *at = value;
}

async fn get(served: &Served, request: &Request) -> Result<Response<Body>> {
    let resource = &served.resource;
    let object = served.cache.get(&request.info.namespace, &request.info.name);
    let object = object.ok_or_else(|| resource.not_found(&request.info.name))?;
    let tree = resource.served(&object).await?;
    if lacks_replicas(resource, &tree) {
        let path = spec_path(resource);
        return Err(ApiError::internal(format!(
            "the spec replicas field \".{path}\" does not exist"
        )));
    }
    shown(request, &scale_of(resource, &tree))
}

/// Answers a get, update or patch of `scale`.
///
/// # Errors
/// `404` where there is no such object, and all that an update fails with.
pub async fn answer(server: &Arc<ApiServer>, served: &Served, request: &Request) -> Result<Response<Body>> {
    let resource = &served.resource;
    let (namespace, name) = (&request.info.namespace, &request.info.name);
    if request.info.verb == "get" {
        return get(served, request).await;
    }
    let options = request.write_options()?;
    let write = Write {
        pipeline: &server.pipeline,
        served,
        namespace,
        options: &options,
    };
    let wanted = wanted(server, resource, request)?;
    let (api_version, replicas_at) = (resource.api_version(), spec_path(resource));
    let updated = write
        .update(name, |old| {
            let mut before = scale_of(resource, old);
            if lacks_replicas(resource, old) {
                before["spec"]["replicas"] = json!(UNSET);
            }
            let unreadable = |why: api::apply::ManagedFieldsError| ApiError::internal(why.to_string());
            api::apply::scale::to_scale(old, &mut before, &api_version, replicas_at).map_err(unreadable)?;
            let mut context = options.context(&server.registry, SCALE_VERSION);
            let scale = wanted.made(&before, &mut context, [namespace.as_str(), name.as_str()])?;
            let replicas = replicas(resource, name, &scale)?;
            let uid = Some(metadata::text(&scale, "uid")).filter(|uid| !uid.is_empty());
            if matches!(wanted, Rescale::Patch(_) | Rescale::Apply(..))
                && let Some(wanted) = uid
                && !resource.is_custom()
            {
                same_uid(resource, old, wanted)?;
            }
            let (new, now) = [&scale, old].map(|tree| metadata::text(tree, "resourceVersion")).into();
            let revision = match resources::number(new)? {
                0 => None,
                _ if new == now => None,
                revision => Some(revision),
            };
            let mut tree = old.clone();
            set(&mut tree, replicas_at, json!(replicas));
            api::apply::scale::from_scale(&mut tree, &scale, &api_version, replicas_at).map_err(unreadable)?;
            Ok(Change {
                tree,
                uid: uid.map(str::to_owned),
                revision,
                // who has the number now is written down already
                applied: true,
                seen: Some(Box::new(Seen {
                    resource: served.resource.clone(),
                    sent: (scale, before),
                })),
            })
        })
        .await?;
    let tree = resource.served(&updated).await?;
    shown(request, &scale_of(resource, &tree))
}
