//! Requests for resources: from the path to the registry's verbs.

use std::sync::Arc;

use api::apply::ApplyError;
use api::schema::json::Voice;
use api::schema::structural::Nulls;
use http::{Method, Response, StatusCode};
use serde_json::{Value, json};

use crate::custom::follow;
use crate::http::negotiate::Accept;
use crate::http::status::{ApiError, Result};
use crate::metrics::Asked;
use crate::pipeline::delete::{DeleteOptions, Deleted, dry_run};
use crate::pipeline::owners::{self, Found};
use crate::pipeline::patch::PatchKind;
use crate::pipeline::{Change, Origin, Write, WriteOptions};
use crate::registry::cached::Cached;
use crate::registry::resource::Resource;
use crate::registry::selection::Selection;
use crate::registry::{Served, metadata};
use crate::server::body::{self, Body};
use crate::server::decode::{check_identity, check_namespace, check_type, decode_builtin, decode_tree};
use crate::server::read::{self, ListOptions};
use crate::server::sent::{self, Sent};
use crate::server::watch;
use crate::server::{ApiServer, Request, websocket};
use crate::subresource;

impl ApiServer {
    /// Answers a request for a resource or subresource.
    pub async fn resource(
        self: &Arc<Self>,
        mut request: Request,
        negotiated: Result<Accept>,
    ) -> Result<Response<Body>> {
        let info = &request.info;
        let catalog = self.registry.catalog();
        let found = catalog.find(&info.group, &info.version, &info.resource).cloned();
        // nobody negotiates about a group that is not there
        if found.is_none() {
            let known = api::resources::all().iter().any(|row| row.group == info.group);
            if !known && !catalog.all().any(|s| s.resource.group == info.group) {
                return Ok(body::no_such_page());
            }
        }
        // tables and protobuf are of resources; proxies negotiate with whom they proxy to
        if !matches!(
            request.info.subresource.as_str(),
            "log" | "proxy" | "exec" | "attach" | "portforward"
        ) {
            match negotiated {
                Err(_) if found.as_ref().is_some_and(|s| s.resource.is_custom()) => return Err(Accept::no_such_form()),
                other => other?,
            };
        }
        if let Some(text) = found.as_ref().and_then(|served| served.resource.deprecation.as_ref()) {
            request.warnings.add(text);
            request.trail.annotate("k8s.io/deprecated", || "true".into());
        }
        let Some(served) = found else {
            return Box::pin(self.review(&request)).await;
        };
        let resource = &served.resource;
        let known = info.subresource.is_empty() || resource.subresource(&info.subresource).is_some();
        if known && resource.verbs.iter().any(|verb| verb == info.verb) {
            request.tell(|| Asked::of(info, &request.query, &request.headers, resource));
            self.registry.metrics.requests.deprecated(resource, &info.subresource);
        }
        // it can be asked whether somebody may, but there is no such path
        if info.verb == "proxy" {
            return Err(ApiError::no_such_path());
        }
        // across all namespaces there is nothing but looking
        if resource.namespaced && info.namespace.is_empty() && !matches!(info.verb, "list" | "watch") {
            return Err(match info.name.is_empty() && info.subresource.is_empty() {
                true => ApiError::method_not_allowed(),
                false => ApiError::no_such_path(),
            });
        }
        if !resource.namespaced && !info.namespace.is_empty() && !resource.is("", "namespaces") {
            return Err(ApiError::no_such_path());
        }
        // a path goes on behind proxies alone, and they alone say what an answer would be
        let proxied = info.subresource == "proxy";
        if !info.rest.is_empty() && !proxied {
            return Err(ApiError::no_such_path());
        }
        let by_path = matches!(info.verb, "watch" | "proxy") && request.method != Method::GET;
        let nowhere =
            !info.subresource.is_empty() || resource.namespaced && info.namespace.is_empty() && !info.name.is_empty();
        if by_path && info.verb == "watch" && nowhere && !resource.is_custom() {
            return Err(ApiError::no_such_path());
        }
        if by_path || request.method == Method::HEAD && !proxied {
            return Err(ApiError::method_not_allowed());
        }
        // no object has such a name, and none is looked for
        if matches!(info.verb, "get" | "delete") {
            let problems = api::names::path_segment_errors(&info.name);
            if !problems.is_empty() {
                let why = format!("Name parameter invalid: {:?}: {}", info.name, problems.join(";"));
                return Err(ApiError::bad_request(why));
            }
        }
        if !info.subresource.is_empty() {
            let Some(subresource) = resource.subresource(&info.subresource) else {
                return Err(match resource.is_custom() {
                    true => ApiError::not_found(&resource.group, &resource.plural, &info.name),
                    false => ApiError::no_such_path(),
                });
            };
            if resource.rules.part(&info.subresource).is_none() {
                return Box::pin(subresource::answer(self, served, request)).await;
            }
            if !subresource.verbs.iter().any(|v| v == info.verb) {
                return Err(ApiError::method_not_allowed());
            }
        }
        // objects are made in their collection and changed by their name
        let misplaced = match info.verb {
            "create" => !info.name.is_empty(),
            "update" | "patch" => info.name.is_empty(),
            _ => false,
        };
        if misplaced || !resource.verbs.iter().any(|v| v == info.verb) {
            return Err(ApiError::method_not_allowed());
        }
        // nothing stores them
        if resource.is("", "componentstatuses") {
            return Box::pin(self.component_statuses(&served, &request)).await;
        }
        // a request takes the memory that its own verb needs, not that of the largest
        match info.verb {
            "get" => {
                read::get(
                    &self.registry,
                    &served,
                    self.namespace_of(&request, resource),
                    &info.name,
                    &request.query,
                    request.accept,
                )
                .await
            }
            "list" => {
                ListOptions::check(&request.query)?;
                let selection = Selection::parse(resource, &info.namespace, &request.query)?;
                let list = read::list(&self.registry, &served, &selection, &request.query, request.accept);
                Box::pin(list).await
            }
            "watch" => {
                ListOptions::numbers(&request.query)?;
                let namespace = self.namespace_of(&request, resource);
                let mut selection = Selection::parse(resource, namespace, &request.query)?;
                if !info.name.is_empty() {
                    selection = selection.with_name(&info.name);
                }
                let response = Box::pin(watch::watch(
                    &self.registry,
                    &served,
                    selection,
                    &request.query,
                    request.accept,
                ))
                .await?;
                websocket::watch(&request.headers, request.upgrade.take(), response)
            }
            "create" => Box::pin(self.create(&served, &request)).await,
            "update" => Box::pin(self.update(&served, &request)).await,
            "patch" => Box::pin(self.patch(&served, &request)).await,
            "delete" => Box::pin(self.delete(&served, &request)).await,
            "deletecollection" => Box::pin(self.delete_collection(&served, &request)).await,
            _ => Err(ApiError::method_not_allowed()),
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
        let options = request.write_options()?;
        let mut tree = request.decode(&served.resource)?;
        let namespace = self.namespace_of(request, &served.resource).to_owned();
        check_namespace(&served.resource, &mut tree, &namespace)?;
        let mut tree = self.complete(served, tree)?;
        owners::once(&mut tree, Found::InRequest, &options.warnings);
        let write = Write {
            pipeline: &self.pipeline,
            served,
            namespace: &namespace,
            options: &options,
        };
        let created = write.create(tree, Origin::Post).await?;
        self.answer_write(StatusCode::CREATED, &write, &created, request).await
    }

    /// Defaults, and for custom resources pruning.
    fn complete(&self, served: &Served, mut tree: Value) -> Result<Value> {
        served.resource.set_defaults(&mut tree);
        Ok(tree)
    }

    async fn update(self: &Arc<Self>, served: &Served, request: &Request) -> Result<Response<Body>> {
        let resource = &served.resource;
        let options = request.write_options()?;
        let mut tree = request.decode(resource)?;
        let namespace = self.namespace_of(request, resource).to_owned();
        check_namespace(resource, &mut tree, &namespace)?;
        let name = metadata::text(&tree, "name").to_owned();
        check_identity(&request.info.name, &tree)?;
        let mut tree = self.complete(served, tree)?;
        owners::once(&mut tree, Found::InRequest, &options.warnings);
        let exists = served.cache.get(&namespace, &name).is_some();
        let creates = !exists && resource.rules.create_on_update && options.subresource.is_empty();
        let version = metadata::text(&tree, "resourceVersion");
        let revision = match exists {
            true => insisted(resource, &name, version)?,
            // a new object may insist on what it likes, as long as it is a number
            false if creates => number(version).map(|_| None)?,
            false => None,
        };
        let write = Write {
            pipeline: &self.pipeline,
            served,
            namespace: &namespace,
            options: &options,
        };
        let uid = Some(metadata::text(&tree, "uid").to_owned()).filter(|u| !u.is_empty());
        if creates {
            if let Some(uid) = uid {
                return Err(resource.other_uid(&namespace, &name, (&uid, ""), write.options.dry_run));
            }
            let created = write.create(tree, Origin::Put).await?;
            return self.answer_write(StatusCode::CREATED, &write, &created, request).await;
        }
        let updated = write
            .update(&name, |_| {
                Ok(Change {
                    uid: uid.clone(),
                    revision,
                    ..Change::to(tree.clone())
                })
            })
            .await?;
        self.answer_write(StatusCode::OK, &write, &updated, request).await
    }

    async fn patch(self: &Arc<Self>, served: &Served, request: &Request) -> Result<Response<Body>> {
        let resource = &served.resource;
        let kind = PatchKind::of(request.header("content-type"), resource)?;
        let options = request.write_options()?;
        let namespace = self.namespace_of(request, resource).to_owned();
        let write = Write {
            pipeline: &self.pipeline,
            served,
            namespace: &namespace,
            options: &options,
        };
        if kind == PatchKind::Apply {
            return self.apply(served, request, &write).await;
        }
        let sent = Sent::read(request, kind)?;
        let name = &request.info.name;
        let updated = write
            .update(name, |old| {
                let tree = sent.patched(resource, old, &namespace)?;
                let revision = match (
                    metadata::text(&tree, "resourceVersion"),
                    metadata::text(old, "resourceVersion"),
                ) {
                    (new, old) if new == old => None,
                    (new, _) => insisted(resource, name, new)?,
                };
                let tree = self.complete(served, tree)?;
                Ok(Change {
                    revision,
                    ..Change::to(tree)
                })
            })
            .await?;
        self.answer_write(StatusCode::OK, &write, &updated, request).await
    }

    async fn apply(self: &Arc<Self>, served: &Served, request: &Request, write: &Write<'_>) -> Result<Response<Body>> {
        let resource = &served.resource;
        let force = request.query.flag("force");
        let name = &request.info.name;
        let (tree, repeated) = sent::configuration(request, resource)?;
        let decoded = if resource.is_custom() {
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
                        Some(why) => unfit_configuration(resource, &whole, &why),
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
            if let Some(why) = why {
                return Err(unfit_configuration(resource, &decoded.value, &why));
            }
            decoded
        } else {
            if let Some(why) = api::apply::unfit(resource.schema.get(), resource.root, &tree, &[]) {
                return Err(unfit_configuration(resource, &tree, &why));
            }
            let called = ["namespace", "name"].map(|key| metadata::text(&tree, key).to_owned());
            match decode_tree(resource, tree, Voice::Converter) {
                Ok(decoded) => decoded,
                // what others have is told before what is wrong with the object
                Err(why) => {
                    let (whole, _) = sent::configuration(request, resource)?;
                    let context = write.place().manager(write.options, "Apply", force);
                    if let Some(object) = served.cache.get(write.namespace, name) {
                        let old = resource.served(&object).await?;
                        if let Err(conflict @ ApplyError::Conflicts(_)) =
                            write.place().apply(Some(&old), &whole, &context)
                        {
                            return Err(refused(resource, &whole, &conflict));
                        }
                    }
                    return Err(unconverted(resource, &called, &why));
                }
            }
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

    /// The end of every write: what follows from it, then the answer.
    async fn answer_write(
        &self,
        code: StatusCode,
        write: &Write<'_>,
        object: &Arc<Cached>,
        request: &Request,
    ) -> Result<Response<Body>> {
        if !write.options.dry_run {
            follow::write(&self.pipeline, write.served, object).await?;
        }
        write.served.resource.ready(std::slice::from_ref(object)).await?;
        body::object_response(code, &write.served.resource, object, request.accept)
    }

    /// Deletes an object, and what follows from that.
    async fn delete_one(&self, write: &Write<'_>, name: &str, options: &DeleteOptions) -> Result<Deleted> {
        let deleted = write.delete(name, options).await?;
        if !write.options.dry_run {
            match &deleted {
                Deleted::Now(object) => follow::end(&self.pipeline, write.served, object).await?,
                Deleted::Later(object) => follow::write(&self.pipeline, write.served, object).await?,
            }
        }
        Ok(deleted)
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
        write_options.dry_run = dry_run(&options.dry_run).unwrap_or_default();
        let namespace = self.namespace_of(request, resource).to_owned();
        let write = Write {
            pipeline: &self.pipeline,
            served,
            namespace: &namespace,
            options: &write_options,
        };
        if options.is_unsafe() {
            return Err(write.refuse_unsafe(&request.info.name));
        }
        warn_of_dependents(resource, &options, &write_options);
        match self.delete_one(&write, &request.info.name, &options).await? {
            Deleted::Later(object) => {
                resource.ready(std::slice::from_ref(&object)).await?;
                // who asked for dependents to go too, in the old way, is told that they have not gone yet
                let code = match options.orphan_dependents {
                    Some(false) => StatusCode::ACCEPTED,
                    _ => StatusCode::OK,
                };
                body::object_response(code, resource, &object, request.accept)
            }
            Deleted::Now(object) => {
                if resource.rules.returns_deleted {
                    return body::object_response(StatusCode::OK, resource, &object, request.accept);
                }
                let mut details = json!({ "name": request.info.name, "group": resource.group, "kind": resource.plural, "uid": object.object.meta.uid });
                if let Some(map) = details.as_object_mut() {
                    map.retain(|_, v| v.as_str() != Some(""));
                }
                let status = json!({ "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": details });
                request.trail.status(&status);
                Ok(body::tree_response(StatusCode::OK, request.accept, &status))
            }
        }
    }

    async fn delete_collection(self: &Arc<Self>, served: &Served, request: &Request) -> Result<Response<Body>> {
        let resource = &served.resource;
        let options = self.delete_options(request)?.of_collection()?;
        let mut write_options = request.write_options()?;
        write_options.dry_run = dry_run(&options.dry_run).unwrap_or_default();
        warn_of_dependents(resource, &options, &write_options);
        ListOptions::check(&request.query)?;
        let selection = Selection::parse(resource, &request.info.namespace, &request.query)?;
        let list = ListOptions::parse(&request.query)?;
        let (items, meta) = read::select(&self.registry, served, &selection, &list).await?;
        // those that cannot be read are told of before any is deleted
        resource.ready_list(&items).await?;
        for object in &items {
            let namespace = object.object.meta.namespace.to_string();
            let write = Write {
                pipeline: &self.pipeline,
                served,
                namespace: &namespace,
                options: &write_options,
            };
            match self.delete_one(&write, &object.object.meta.name, &options).await {
                Ok(Deleted::Now(_) | Deleted::Later(_)) => {}
                // another client deleted it first
                Err(error) if error.reason == "NotFound" => {}
                Err(error) => return Err(error),
            }
        }
        resource.ready(&items).await?;
        body::list_response(
            resource,
            items,
            &meta,
            request.accept,
            crate::table::Include::parse(&request.query)?,
        )
    }
}

/// Warns of dependents that stay though nobody said so.
fn warn_of_dependents(resource: &Resource, options: &DeleteOptions, write: &WriteOptions) {
    if options.leaves_dependents_open()
        && let Some(warning) = resource.rules.open_dependents
    {
        write.warnings.add(warning);
    }
}

/// Reads the resourceVersion that an object bears: 0 where it bears none.
pub fn number(version: &str) -> Result<u64> {
    match version {
        "" => Ok(0),
        text => read::parse_revision(text),
    }
}

/// The revision that a writer insists on who sends an object with this resourceVersion.
///
/// # Errors
/// When it is no number, and when there is none though the kind is not written over whatever is there.
fn insisted(resource: &Resource, name: &str, version: &str) -> Result<Option<u64>> {
    match number(version)? {
        0 if resource.rules.unconditional_update => Ok(None),
        0 => {
            let why = "must be specified for an update";
            let error = api::field::FieldError::invalid("metadata.resourceVersion", json!(0), why);
            Err(ApiError::invalid(&resource.group, &resource.plural, name, &[error]))
        }
        revision => Ok(Some(revision)),
    }
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
        ApplyError::Configuration(_) => unfit_configuration(resource, config, error),
        ApplyError::ManagedFields(_) | ApplyError::Unconverted(_) => ApiError::plain(error.to_string()),
    }
}

/// Why what an applied configuration makes of an object is none of the resource.
pub fn unconverted(resource: &Resource, [namespace, name]: &[String; 2], why: &str) -> ApiError {
    let kind = format!("{}/{}, Kind={}", resource.group, resource.version, resource.kind);
    ApiError::plain(format!(
        "failed to convert new object ({namespace}/{name}; {kind}) to proper version: unable to convert unstructured object to {kind}: {why}"
    ))
}

/// Why an applied configuration is no object of the resource.
fn unfit_configuration(resource: &Resource, config: &Value, why: &dyn std::fmt::Display) -> ApiError {
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
