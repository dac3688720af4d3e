//! Requests for resources: from the path to the registry's verbs.

use std::sync::Arc;

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
use crate::server::decode::{check_identity, check_namespace, decode_builtin};
use crate::server::list;
use crate::server::read::{self, ListOptions};
use crate::server::sent::Sent;
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
        check_path(&request, resource)?;
        if !info.subresource.is_empty() && resource.rules.part(&info.subresource).is_none() {
            return Box::pin(subresource::answer(self, served, request)).await;
        }
        check_verb(&request, resource)?;
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
                let selectors = ListOptions::check(&request.query)?;
                let selection = Selection::of(resource, &info.namespace, selectors)?;
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
    pub(super) fn complete(&self, served: &Served, mut tree: Value) -> Result<Value> {
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

    /// The end of every write: what follows from it, then the answer.
    pub(super) async fn answer_write(
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
        let selectors = ListOptions::check(&request.query)?;
        let selection = Selection::of(resource, &request.info.namespace, selectors)?;
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
        list::list_response(
            resource,
            items,
            &meta,
            request.accept,
            crate::table::Include::parse(&request.query)?,
        )
    }
}

/// Refuses a path that there is not, or that does not go with its method.
fn check_path(request: &Request, resource: &Resource) -> Result<()> {
    let info = &request.info;
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
    if !info.subresource.is_empty() && resource.subresource(&info.subresource).is_none() {
        return Err(match resource.is_custom() {
            true => ApiError::not_found(&resource.group, &resource.plural, &info.name),
            false => ApiError::no_such_path(),
        });
    }
    Ok(())
}

/// Refuses what the resource, or the part of it that is asked for, does not do.
fn check_verb(request: &Request, resource: &Resource) -> Result<()> {
    let info = &request.info;
    let has = |verbs: &[String]| verbs.iter().any(|verb| verb == info.verb);
    if resource
        .subresource(&info.subresource)
        .is_some_and(|part| !has(&part.verbs))
    {
        return Err(ApiError::method_not_allowed());
    }
    // objects are made in their collection and changed by their name
    let misplaced = match info.verb {
        "create" => !info.name.is_empty(),
        "update" | "patch" => info.name.is_empty(),
        _ => false,
    };
    if misplaced || !has(&resource.verbs) {
        return Err(ApiError::method_not_allowed());
    }
    Ok(())
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
pub(super) fn insisted(resource: &Resource, name: &str, version: &str) -> Result<Option<u64>> {
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
