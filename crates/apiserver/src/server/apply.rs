//! Server-side apply: a patch that is a configuration, from its body to the object (`handlers/patch.go`).

use std::sync::Arc;

use api::apply::ApplyError;
use api::schema::Decoded;
use api::schema::json::{DecodeError, Voice};
use api::schema::structural::Nulls;
use http::{Response, StatusCode};
use serde_json::{Value, json};

use crate::http::status::{ApiError, Result};
use crate::pipeline::{Change, Origin, Write};
use crate::registry::resource::Resource;
use crate::registry::{Served, metadata};
use crate::server::body::Body;
use crate::server::decode::{check_identity, check_namespace, check_type, decode_tree};
use crate::server::resources::{insisted, number};
use crate::server::{ApiServer, Request, sent};

impl ApiServer {
    /// Makes or changes an object as a configuration wants it, and records who applied it.
    pub(super) async fn apply(
        self: &Arc<Self>,
        served: &Served,
        request: &Request,
        write: &Write<'_>,
    ) -> Result<Response<Body>> {
        let resource = &served.resource;
        let force = request.query.flag("force");
        let name = &request.info.name;
        let (tree, repeated) = sent::configuration(request, resource)?;
        let decoded = match resource.is_custom() {
            true => custom(request, resource, tree)?,
            false => builtin(request, write, tree, force).await?,
        };
        if let Some(repeated) = repeated {
            let error = format!("error converting YAML to JSON: {repeated}");
            if request.strict_problem(std::slice::from_ref(&error)).is_some() {
                return Err(ApiError::bad_request(format!("error strict decoding patch: {error}")));
            }
        }
        let mut config = decoded.value;
        check_type(resource, &mut config)?;
        let nameless = metadata::text(&config, "name").is_empty();
        if nameless {
            metadata::of(&mut config)?.insert("name".into(), json!(name));
        }
        check_namespace(resource, &mut config, write.namespace)?;
        check_identity(name, &config)?;
        let context = write.place().manager(write.options, "Apply", force);
        if served.cache.get(write.namespace, name).is_none() {
            let uid = metadata::text(&config, "uid");
            if !uid.is_empty() {
                let why =
                    format!("uid mismatch: the provided object specified uid {uid}, and no existing object was found");
                return Err(ApiError::conflict(&resource.group, &resource.plural, name, &why));
            }
            if nameless {
                check_identity(name, &Value::Null)?;
            }
            let tree = write
                .place()
                .apply(None, &config, &context)
                .map_err(|e| refused(resource, &config, &e))?;
            let mut tree = self.complete(served, tree)?;
            metadata::wipe(&mut tree)?;
            number(metadata::text(&config, "resourceVersion"))?;
            match write.create(tree, Origin::Apply).await {
                // somebody was first: it is an update then
                Err(error) if error.reason == "AlreadyExists" => {}
                created => {
                    let created = created?;
                    return self.answer_write(StatusCode::CREATED, write, &created, request).await;
                }
            }
        }
        let updated = write
            .update(name, |old| {
                let tree = write
                    .place()
                    .apply(Some(old), &config, &context)
                    .map_err(|e| refused(resource, &config, &e))?;
                let tree = self.complete(served, tree)?;
                let revision = match metadata::text(&config, "resourceVersion") {
                    "" => None,
                    text => insisted(resource, name, text)?,
                };
                Ok(Change {
                    revision,
                    applied: true,
                    ..Change::to(tree)
                })
            })
            .await?;
        self.answer_write(StatusCode::OK, write, &updated, request).await
    }
}

/// Decodes the configuration of a custom resource.
fn custom(request: &Request, resource: &Resource, tree: Value) -> Result<Decoded> {
    let schema = resource.schema.get();
    let loose = schema.loose(&tree);
    let decoded = match schema.decode_custom(tree, Nulls::Kept) {
        Ok(mut decoded) => {
            decoded.unknown.retain(|path| !loose.contains(path));
            decoded
        }
        Err(error) => {
            let (whole, _) = sent::configuration(request, resource)?;
            let mut unknown = schema.undeclared(&whole);
            unknown.retain(|path| !loose.contains(path));
            return Err(match api::apply::unfit(schema, resource.root, &whole, &unknown) {
                Some(why) => unfit(resource, &whole, &why),
                None => ApiError::bad_request(error.to_string()),
            });
        }
    };
    let why = match decoded.unknown.is_empty() {
        true => api::apply::unfit(schema, resource.root, &decoded.value, &[]),
        false => {
            // what was dropped is told beside what is wrong with the rest
            let (whole, _) = sent::configuration(request, resource)?;
            api::apply::unfit(schema, resource.root, &whole, &decoded.unknown)
        }
    };
    match why {
        Some(why) => Err(unfit(resource, &decoded.value, &why)),
        None => Ok(decoded),
    }
}

/// Decodes the configuration of a built-in resource.
async fn builtin(request: &Request, write: &Write<'_>, tree: Value, force: bool) -> Result<Decoded> {
    let resource = &write.served.resource;
    if let Some(why) = api::apply::unfit(resource.schema.get(), resource.root, &tree, &[]) {
        return Err(unfit(resource, &tree, &why));
    }
    let called = ["namespace", "name"].map(|key| metadata::text(&tree, key).to_owned());
    let why = match decode_tree(resource, tree, Voice::Converter) {
        Ok(decoded) => return Ok(decoded),
        Err(why) => why,
    };
    // what others have is told before what is wrong with the object
    let (whole, _) = sent::configuration(request, resource)?;
    let context = write.place().manager(write.options, "Apply", force);
    if let Some(object) = write.served.cache.get(write.namespace, &request.info.name) {
        let old = resource.served(&object).await?;
        if let Err(conflict @ ApplyError::Conflicts(_)) = write.place().apply(Some(&old), &whole, &context) {
            return Err(refused(resource, &whole, &conflict));
        }
    }
    Err(unconverted(resource, &called, &why))
}

/// Why an apply is refused.
pub fn refused(resource: &Resource, config: &Value, error: &ApplyError) -> ApiError {
    match error {
        ApplyError::Conflicts(conflicts) => {
            let causes = conflicts.iter().map(|c| {
                json!({ "reason": "FieldManagerConflict", "message": format!("conflict with {}", c.manager), "field": c.field() })
            });
            ApiError::apply_conflict(error.to_string(), &causes.collect::<Vec<_>>())
        }
        ApplyError::Configuration(_) => unfit(resource, config, error),
        ApplyError::ManagedFields(_) | ApplyError::Unconverted(_) => ApiError::plain(error.to_string()),
    }
}

/// Why what an applied configuration makes of an object is none of the resource.
pub fn unconverted(resource: &Resource, [namespace, name]: &[String; 2], why: &DecodeError) -> ApiError {
    let kind = format!("{}/{}, Kind={}", resource.group, resource.version, resource.kind);
    ApiError::plain(format!(
        "failed to convert new object ({namespace}/{name}; {kind}) to proper version: unable to convert unstructured object to {kind}: {why}"
    ))
}

/// Why an applied configuration is no object of the resource.
fn unfit(resource: &Resource, config: &Value, why: &dyn std::fmt::Display) -> ApiError {
    let text = |key: &str| metadata::text(config, key);
    ApiError::plain(format!(
        "failed to create typed patch object ({}/{}; {}/{}, Kind={}): {why}",
        text("namespace"),
        text("name"),
        resource.group,
        resource.version,
        resource.kind
    ))
}
