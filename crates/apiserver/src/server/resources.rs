//! Requests for resources: from the path to the registry's verbs.

use std::sync::Arc;

use api::schema::{Decoded, envelope};
use http::{Response, StatusCode};
use serde_json::{Value, json};

use crate::http::negotiate::{self, Encoding};
use crate::http::status::{ApiError, Result};
use crate::registry::body::{self, Body};
use crate::registry::delete::{DeleteOptions, Deleted};
use crate::registry::patch::{Patch, PatchKind};
use crate::registry::read::{self, ListOptions};
use crate::registry::resource::Resource;
use crate::registry::selection::Selection;
use crate::registry::write::{Change, Write, WriteOptions};
use crate::registry::{Served, metadata, watch};
use crate::server::{ApiServer, Request, Warnings, add_warnings};
use crate::subresource;

/// How bad fields in a body are met.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum FieldValidation {
    Ignore,
    Warn,
    Strict,
}

impl FieldValidation {
    fn parse(request: &Request) -> Result<FieldValidation> {
        match request.query.text("fieldValidation") {
            None | Some("Warn") => Ok(FieldValidation::Warn),
            Some("Strict") => Ok(FieldValidation::Strict),
            Some("Ignore") => Ok(FieldValidation::Ignore),
            Some(other) => {
                let allowed = ["Ignore", "Strict", "Warn"];
                let error = api::field::FieldError::not_supported("fieldValidation", json!(other), &allowed);
                Err(ApiError::invalid("", "CreateOptions", "", &[error]))
            }
        }
    }
}

/// `dryRun=All`.
fn dry_run(values: &[String]) -> Result<bool> {
    match values {
        [] => Ok(false),
        [one] if one.is_empty() => Ok(false),
        all if all.iter().all(|v| v == "All") => Ok(true),
        other => {
            let bad = other.iter().find(|v| *v != "All").cloned().unwrap_or_default();
            let error = api::field::FieldError::not_supported("dryRun", json!(bad), &["All"]);
            Err(ApiError::invalid("", "CreateOptions", "", &[error]))
        }
    }
}

impl Request {
    pub fn write_options(&self) -> Result<WriteOptions> {
        let agent = self.header("user-agent").unwrap_or("unknown");
        let default = agent.split('/').next().unwrap_or(agent);
        let manager = self.query.text("fieldManager").unwrap_or(default);
        if manager.chars().count() > 128 {
            let error = api::field::FieldError::too_long("fieldManager", 128);
            return Err(ApiError::invalid("", "CreateOptions", "", &[error]));
        }
        Ok(WriteOptions {
            user: self.user.clone(),
            dry_run: dry_run(self.query.all("dryRun"))?,
            manager: manager.to_owned(),
            subresource: self.info.subresource.clone(),
        })
    }

    fn encoding(&self) -> Result<Encoding> {
        negotiate::body_encoding(self.header("content-type"))
    }

    /// The body as a tree of the resource, checked for unknown and duplicate fields.
    fn decode(&self, resource: &Resource, warnings: &mut Warnings) -> Result<Value> {
        let schema = resource.schema.get();
        let bad = |e: &dyn std::fmt::Display| {
            let kind = &resource.kind;
            ApiError::bad_request(format!(
                "{kind} in version {:?} cannot be handled as a {kind}: {e}",
                resource.version
            ))
        };
        let decoded = match self.encoding()? {
            Encoding::Json if resource.is_custom() => {
                let value = serde_json::from_slice(&self.body).map_err(|e| bad(&e))?;
                schema.decode_custom(resource.root, value).map_err(|e| bad(&e))?
            }
            Encoding::Yaml if resource.is_custom() => {
                let value = serde_saphyr::from_slice(&self.body).map_err(|e| bad(&e))?;
                schema.decode_custom(resource.root, value).map_err(|e| bad(&e))?
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
                }
            }
        };
        self.check_strict(&decoded.strict_errors(), warnings)?;
        let mut tree = decoded.value;
        check_type(resource, &mut tree)?;
        Ok(tree)
    }

    fn check_strict(&self, errors: &[String], warnings: &mut Warnings) -> Result<()> {
        if errors.is_empty() {
            return Ok(());
        }
        match FieldValidation::parse(self)? {
            FieldValidation::Ignore => Ok(()),
            FieldValidation::Warn => {
                warnings.0.extend_from_slice(errors);
                Ok(())
            }
            FieldValidation::Strict => {
                let text = errors.join(", ");
                Err(ApiError::bad_request(format!("strict decoding error: {text}")))
            }
        }
    }

    /// A tree that a patch made, held against the schema again.
    fn recheck(&self, resource: &Resource, tree: Value, warnings: &mut Warnings) -> Result<Value> {
        let decoded = decode_tree(resource, tree)?;
        self.check_strict(&decoded.strict_errors(), warnings)?;
        Ok(decoded.value)
    }
}

/// A tree held against the resource's schema.
fn decode_tree(resource: &Resource, tree: Value) -> Result<Decoded> {
    let schema = resource.schema.get();
    let decoded = if resource.is_custom() {
        schema.decode_custom(resource.root, tree)
    } else {
        schema.decode_value(resource.root, tree)
    };
    decoded.map_err(|e| ApiError::bad_request(e.to_string()))
}

/// The body must be of the type that the path names; absent, the type is filled in.
fn check_type(resource: &Resource, tree: &mut Value) -> Result<()> {
    let api_version = resource.api_version();
    let object = tree
        .as_object_mut()
        .ok_or_else(|| ApiError::bad_request("the body is not an object"))?;
    let text = |v: Option<&Value>| v.and_then(Value::as_str).unwrap_or_default().to_owned();
    let (kind, version) = (text(object.get("kind")), text(object.get("apiVersion")));
    if kind.is_empty() && resource.is_custom() {
        return Err(ApiError::bad_request("Object 'Kind' is missing"));
    }
    if (!kind.is_empty() && kind != resource.kind) || (!version.is_empty() && version != api_version) {
        let message =
            format!("the API version in the data ({version}) does not match the expected API version ({api_version})");
        if kind == resource.kind || kind.is_empty() {
            return Err(ApiError::bad_request(message));
        }
        let (group, v) = api::gvk::split_api_version(&version);
        let got = format!("{group}/{v}, Kind={kind}");
        let want = format!("{}/{}, Kind={}", resource.group, resource.version, resource.kind);
        return Err(ApiError::bad_request(format!(
            "the object provided is unrecognized (must be of type {}): no kind match: {got} is not {want}",
            resource.kind
        )));
    }
    object.insert("kind".into(), json!(resource.kind));
    object.insert("apiVersion".into(), json!(api_version));
    Ok(())
}

impl ApiServer {
    /// Answers a request for a resource or subresource.
    pub async fn resource(self: &Arc<Self>, request: Request) -> Result<Response<Body>> {
        let info = &request.info;
        let catalog = self.registry.catalog();
        let Some(served) = catalog.find(&info.group, &info.version, &info.resource).cloned() else {
            return self.review(&request).await;
        };
        let resource = &served.resource;
        if resource.namespaced
            && info.namespace.is_empty()
            && !matches!(info.verb, "list" | "watch" | "deletecollection")
        {
            return Err(ApiError::no_such_path());
        }
        if !resource.namespaced && !info.namespace.is_empty() && !resource.is("", "namespaces") {
            return Err(ApiError::no_such_path());
        }
        if !info.subresource.is_empty() {
            let known = resource.subresource(&info.subresource).is_some();
            if !known {
                return Err(ApiError::no_such_path());
            }
            if info.subresource != "status" {
                return subresource::answer(self, served, request).await;
            }
        }
        if !resource.verbs.iter().any(|v| v == info.verb) {
            return Err(ApiError::method_not_allowed(
                &resource.group,
                &resource.plural,
                info.verb,
            ));
        }
        match info.verb {
            "get" => read::get(
                &self.registry,
                &served,
                self.namespace_of(&request, resource),
                &info.name,
                &request.query,
                request.accept,
            ),
            "list" => {
                let selection = Selection::parse(resource, &info.namespace, &request.query)?;
                read::list(&self.registry, &served, &selection, &request.query, request.accept).await
            }
            "watch" => {
                let namespace = self.namespace_of(&request, resource);
                let mut selection = Selection::parse(resource, namespace, &request.query)?;
                if !info.name.is_empty() {
                    selection = selection.with_name(&info.name);
                }
                watch::watch(&served, selection, &request.query, request.accept)
            }
            "create" => self.create(&served, &request).await,
            "update" => self.update(&served, &request).await,
            "patch" => self.patch(&served, &request).await,
            "delete" => self.delete(&served, &request).await,
            "deletecollection" => self.delete_collection(&served, &request).await,
            _ => Err(ApiError::method_not_allowed(
                &resource.group,
                &resource.plural,
                info.verb,
            )),
        }
    }

    /// The namespace that the object's key has: none for namespaces themselves.
    fn namespace_of<'a>(&self, request: &'a Request, resource: &Resource) -> &'a str {
        if resource.namespaced {
            &request.info.namespace
        } else {
            ""
        }
    }

    async fn create(self: &Arc<Self>, served: &Served, request: &Request) -> Result<Response<Body>> {
        let mut warnings = Warnings::default();
        let mut tree = request.decode(&served.resource, &mut warnings)?;
        let namespace = self.namespace_of(request, &served.resource).to_owned();
        check_namespace(&served.resource, &mut tree, &namespace)?;
        self.guard(served, request, &tree)?;
        let options = request.write_options()?;
        let tree = self.complete(served, tree)?;
        let write = Write {
            registry: &self.registry,
            served,
            namespace: &namespace,
            options: &options,
        };
        let created = write.create(tree, false).await?;
        self.after_write(served, &created).await?;
        let mut response = body::object_response(StatusCode::CREATED, &served.resource, &created, request.accept)?;
        add_warnings(&mut response, &warnings);
        Ok(response)
    }

    /// Defaults, and for custom resources pruning.
    fn complete(&self, served: &Served, mut tree: Value) -> Result<Value> {
        let schema = served.resource.schema.get();
        schema.set_defaults(served.resource.root, &mut tree);
        Ok(tree)
    }

    async fn update(self: &Arc<Self>, served: &Served, request: &Request) -> Result<Response<Body>> {
        let resource = &served.resource;
        let mut warnings = Warnings::default();
        let mut tree = request.decode(resource, &mut warnings)?;
        let namespace = self.namespace_of(request, resource).to_owned();
        check_namespace(resource, &mut tree, &namespace)?;
        let name = metadata::text(&tree, "name").to_owned();
        if name.is_empty() {
            let error = api::field::FieldError::required("metadata.name", "name must be provided");
            return Err(resource.invalid("", &[error]));
        }
        if name != request.info.name {
            let why = format!(
                "the name of the object ({name}) does not match the name on the URL ({})",
                request.info.name
            );
            return Err(ApiError::bad_request(why));
        }
        self.guard(served, request, &tree)?;
        let options = request.write_options()?;
        let tree = self.complete(served, tree)?;
        let revision = match metadata::text(&tree, "resourceVersion") {
            "" | "0" => None,
            text => Some(read::parse_revision(text)?),
        };
        if revision.is_none()
            && !resource.strategy.unconditional_update
            && served.cache.get(&namespace, &name).is_some()
        {
            let error = api::field::FieldError::invalid(
                "metadata.resourceVersion",
                json!(0),
                "must be specified for an update",
            );
            return Err(resource.invalid(&name, &[error]));
        }
        let write = Write {
            registry: &self.registry,
            served,
            namespace: &namespace,
            options: &options,
        };
        if resource.strategy.create_on_update
            && options.subresource.is_empty()
            && served.cache.get(&namespace, &name).is_none()
        {
            if revision.is_some() {
                return Err(resource.not_found(&name));
            }
            let created = write.create(tree, false).await?;
            self.after_write(served, &created).await?;
            return body::object_response(StatusCode::CREATED, resource, &created, request.accept);
        }
        let uid = Some(metadata::text(&tree, "uid").to_owned()).filter(|u| !u.is_empty());
        let updated = write
            .update(&name, |_| {
                Ok(Change {
                    tree: tree.clone(),
                    uid: uid.clone(),
                    revision,
                    applied: false,
                })
            })
            .await?;
        self.after_write(served, &updated).await?;
        let mut response = body::object_response(StatusCode::OK, resource, &updated, request.accept)?;
        add_warnings(&mut response, &warnings);
        Ok(response)
    }

    async fn patch(self: &Arc<Self>, served: &Served, request: &Request) -> Result<Response<Body>> {
        let resource = &served.resource;
        let kind = PatchKind::of(request.header("content-type"), resource)?;
        let options = request.write_options()?;
        let namespace = self.namespace_of(request, resource).to_owned();
        let write = Write {
            registry: &self.registry,
            served,
            namespace: &namespace,
            options: &options,
        };
        if kind == PatchKind::Apply {
            return self.apply(served, request, &write).await;
        }
        if request.query.get("force").is_some() {
            let error = api::field::FieldError::forbidden("force", "may not be specified for non-apply patch");
            return Err(ApiError::invalid("meta.k8s.io", "PatchOptions", "", &[error]));
        }
        let patch = Patch::parse(kind, &request.body)?;
        let mut warnings = Warnings::default();
        let name = &request.info.name;
        let updated = write
            .update(name, |old| {
                warnings.0.clear();
                let tree = patch.apply(resource, old)?;
                let mut tree = request.recheck(resource, tree, &mut warnings)?;
                check_type(resource, &mut tree)?;
                check_identity(resource, name, &tree)?;
                self.guard(served, request, &tree)?;
                let revision = match (
                    metadata::text(&tree, "resourceVersion"),
                    metadata::text(old, "resourceVersion"),
                ) {
                    (new, old) if new == old || new.is_empty() => None,
                    (new, _) => Some(read::parse_revision(new)?),
                };
                let uid = Some(metadata::text(&tree, "uid").to_owned()).filter(|u| !u.is_empty());
                let tree = self.complete(served, tree)?;
                Ok(Change {
                    tree,
                    uid,
                    revision,
                    applied: false,
                })
            })
            .await?;
        self.after_write(served, &updated).await?;
        let mut response = body::object_response(StatusCode::OK, resource, &updated, request.accept)?;
        add_warnings(&mut response, &warnings);
        Ok(response)
    }

    async fn apply(self: &Arc<Self>, served: &Served, request: &Request, write: &Write<'_>) -> Result<Response<Body>> {
        let resource = &served.resource;
        if request.query.text("fieldManager").is_none() {
            let error = api::field::FieldError::required("fieldManager", "is required for apply patch");
            return Err(ApiError::invalid("meta.k8s.io", "PatchOptions", "", &[error]));
        }
        let force = request.query.flag("force");
        let mut warnings = Warnings::default();
        let schema = resource.schema.get();
        let body: Value = serde_saphyr::from_slice(&request.body)
            .map_err(|e| ApiError::bad_request(format!("error decoding YAML: {e}")))?;
        let decoded = decode_tree(resource, body)?;
        request.check_strict(&decoded.strict_errors(), &mut warnings)?;
        let mut config = decoded.value;
        check_type(resource, &mut config)?;
        let name = &request.info.name;
        if metadata::text(&config, "name").is_empty() {
            metadata::of(&mut config)?.insert("name".into(), json!(name));
        }
        check_identity(resource, name, &config)?;
        if config.pointer("/metadata/managedFields").is_some_and(|m| !m.is_null()) {
            return Err(ApiError::bad_request("metadata.managedFields must be nil"));
        }
        let conflict = |e: api::apply::ApplyError| match e {
            api::apply::ApplyError::Conflicts(conflicts) => {
                let causes = conflicts.iter().map(|c| {
                    json!({ "reason": "FieldManagerConflict", "message": format!("conflict with {}", c.manager_text()), "field": c.field })
                });
                ApiError::apply_conflict(api::apply::conflict_message(&conflicts), &causes.collect::<Vec<_>>())
            }
            other => ApiError::bad_request(other.to_string()),
        };
        let context = write.apply_context(force);
        if served.cache.get(write.namespace, name).is_none() {
            if !metadata::text(&config, "uid").is_empty() {
                return Err(resource.not_found(name));
            }
            check_namespace(resource, &mut config, write.namespace)?;
            let tree = api::apply::apply(schema, resource.root, None, &config, &context).map_err(conflict)?;
            self.guard(served, request, &tree)?;
            let tree = self.complete(served, tree)?;
            match write.create(tree, true).await {
                // somebody was first: it is an update then
                Err(error) if error.reason == "AlreadyExists" => {}
                other => {
                    let created = other?;
                    self.after_write(served, &created).await?;
                    let mut response = body::object_response(StatusCode::CREATED, resource, &created, request.accept)?;
                    add_warnings(&mut response, &warnings);
                    return Ok(response);
                }
            }
        }
        let updated = write
            .update(name, |old| {
                let tree = api::apply::apply(schema, resource.root, Some(old), &config, &context).map_err(conflict)?;
                self.guard(served, request, &tree)?;
                let tree = self.complete(served, tree)?;
                let uid = Some(metadata::text(&config, "uid").to_owned()).filter(|u| !u.is_empty());
                let revision = match metadata::text(&config, "resourceVersion") {
                    "" => None,
                    text => Some(read::parse_revision(text)?),
                };
                Ok(Change {
                    tree,
                    uid,
                    revision,
                    applied: true,
                })
            })
            .await?;
        self.after_write(served, &updated).await?;
        let mut response = body::object_response(StatusCode::OK, resource, &updated, request.accept)?;
        add_warnings(&mut response, &warnings);
        Ok(response)
    }

    fn delete_options(&self, request: &Request) -> Result<DeleteOptions> {
        let tree = if request.body.is_empty() {
            None
        } else {
            Some(decode_builtin(request, "DeleteOptions")?)
        };
        DeleteOptions::read(tree, &request.query)
    }

    async fn delete(self: &Arc<Self>, served: &Served, request: &Request) -> Result<Response<Body>> {
        let resource = &served.resource;
        let options = self.delete_options(request)?;
        let mut write_options = request.write_options()?;
        write_options.dry_run = dry_run(&options.dry_run)?;
        let namespace = self.namespace_of(request, resource).to_owned();
        let write = Write {
            registry: &self.registry,
            served,
            namespace: &namespace,
            options: &write_options,
        };
        match write.delete(&request.info.name, &options).await? {
            Deleted::Later(object) => {
                self.after_write(served, &object).await?;
                body::object_response(StatusCode::OK, resource, &object, request.accept)
            }
            Deleted::Now(object) => {
                if !write_options.dry_run {
                    self.after_delete(served, &object).await;
                }
                // pods and a few others answer with what they were, as upstream
                let returns_object = [
                    "pods",
                    "persistentvolumeclaims",
                    "persistentvolumes",
                    "services",
                    "serviceaccounts",
                    "podtemplates",
                    "resourcequotas",
                ];
                if resource.group.is_empty() && returns_object.contains(&resource.plural.as_str()) {
                    return body::object_response(StatusCode::OK, resource, &object, request.accept);
                }
                let mut details = json!({ "name": request.info.name, "group": resource.group, "kind": resource.plural, "uid": object.object.meta.uid });
                if let Some(map) = details.as_object_mut() {
                    map.retain(|_, v| v.as_str() != Some(""));
                }
                let status = json!({ "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": details });
                Ok(body::tree_response(StatusCode::OK, request.accept, &status))
            }
        }
    }

    async fn delete_collection(self: &Arc<Self>, served: &Served, request: &Request) -> Result<Response<Body>> {
        let resource = &served.resource;
        let options = self.delete_options(request)?;
        let mut write_options = request.write_options()?;
        write_options.dry_run = dry_run(&options.dry_run)?;
        let selection = Selection::parse(resource, &request.info.namespace, &request.query)?;
        let list = ListOptions::parse(&request.query)?;
        let (items, meta) = read::select(&self.registry, served, &selection, &list).await?;
        for object in &items {
            let namespace = object.object.meta.namespace.to_string();
            let write = Write {
                registry: &self.registry,
                served,
                namespace: &namespace,
                options: &write_options,
            };
            match write.delete(&object.object.meta.name, &options).await {
                Ok(Deleted::Now(object)) if !write_options.dry_run => self.after_delete(served, &object).await,
                Ok(_) => {}
                // somebody else deleted it first
                Err(error) if error.reason == "NotFound" => {}
                Err(error) => return Err(error),
            }
        }
        body::list_response(
            resource,
            items,
            &meta,
            request.accept,
            crate::table::Include::parse(&request.query)?,
        )
    }

    /// Rules that need to know who asks: roles may not grant more than their author has.
    fn guard(&self, served: &Served, request: &Request, tree: &Value) -> Result<()> {
        crate::authorization::escalation::check(self, &served.resource, request, tree)
    }

    /// What a write of some kinds does to the server itself.
    async fn after_write(self: &Arc<Self>, served: &Served, object: &crate::registry::cached::Cached) -> Result<()> {
        if served.resource.is("apiextensions.k8s.io", "customresourcedefinitions") {
            crate::custom::written(self, object).await?;
        }
        Ok(())
    }

    async fn after_delete(self: &Arc<Self>, served: &Served, object: &crate::registry::cached::Cached) {
        if served.resource.is("apiextensions.k8s.io", "customresourcedefinitions") {
            crate::custom::deleted(self, object).await;
        }
    }
}

/// Decodes a body of a built-in kind that is no resource.
pub fn decode_builtin(request: &Request, kind: &str) -> Result<Value> {
    let schema = api::schema::Schema::builtin();
    decode_kind(request, schema, &[("v1", kind), ("meta.k8s.io/v1", kind)])
}

/// Decodes a body of one of several types.
pub fn decode_kind(request: &Request, schema: &api::schema::Schema, types: &[(&str, &str)]) -> Result<Value> {
    let mut found = types.iter().filter_map(|(version, kind)| {
        let gvk = api::gvk::GroupVersionKind::from_api_version(version, kind);
        Some((*version, *kind, schema.type_for(&gvk)?))
    });
    let (version, kind, root) = found
        .next()
        .ok_or_else(|| ApiError::internal("the body's type has no schema"))?;
    let bad = |e: &dyn std::fmt::Display| ApiError::bad_request(e.to_string());
    let mut tree = match request.encoding()? {
        Encoding::Json => schema.decode_json(root, &request.body).map_err(|e| bad(&e))?.value,
        Encoding::Yaml => schema.decode_yaml(root, &request.body).map_err(|e| bad(&e))?.value,
        Encoding::Protobuf => {
            let unknown = envelope::unwrap_unknown(&request.body)
                .ok_or_else(|| ApiError::bad_request("the body is not in the protobuf envelope"))?
                .map_err(|e| bad(&e))?;
            schema.decode_proto(root, unknown.raw).map_err(|e| bad(&e))?
        }
    };
    tree["apiVersion"] = json!(version);
    tree["kind"] = json!(kind);
    Ok(tree)
}

fn check_namespace(resource: &Resource, tree: &mut Value, namespace: &str) -> Result<()> {
    let own = metadata::text(tree, "namespace").to_owned();
    if resource.namespaced {
        if own.is_empty() {
            metadata::of(tree)?.insert("namespace".into(), json!(namespace));
        } else if own != namespace {
            let why = format!(
                "the namespace of the provided object does not match the namespace sent on the request: {own} is not {namespace}"
            );
            return Err(ApiError::bad_request(why));
        }
    } else if !own.is_empty() {
        let why = "namespace may not be set on a cluster-scoped object";
        return Err(ApiError::bad_request(why));
    }
    Ok(())
}

fn check_identity(resource: &Resource, name: &str, tree: &Value) -> Result<()> {
    let own = metadata::text(tree, "name");
    if own != name {
        let error = api::field::FieldError::invalid("metadata.name", json!(own), "field is immutable");
        if own.is_empty() {
            return Err(ApiError::bad_request("the patched object has no name"));
        }
        return Err(resource.invalid(name, &[error]));
    }
    Ok(())
}
