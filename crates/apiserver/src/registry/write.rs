//! Create and update: from a decoded tree to a stored object.

use std::sync::Arc;

use api::apply::{self, ManagerContext};
use api::field::FieldError;
use etcd::{Compare, CompareTarget, Op, OpResponse, Put, Txn};
use serde_json::{Value, json};

use crate::admission::{self, Attributes, Operation};
use crate::authorization::escalation::{self, Author};
use crate::http::status::{ApiError, Result};
use crate::http::user::User;
use crate::http::warnings::Warnings;
use crate::kinds::check::{Check, Custom};
use crate::kinds::kind::Writer;
use crate::kinds::{self, disabled};
use crate::registry::cached::{Cached, Encoded};
use crate::registry::resource::Resource;
use crate::registry::versions::OtherVersions;
use crate::registry::{Registry, Served, metadata};

/// Upstream retries a conflicting write of its own this many times before it gives up.
const ATTEMPTS: usize = 8;

/// What a namespace bears whose users may use devices that are in use by others.
const ADMIN_ACCESS: &str = "resource.kubernetes.io/admin-access";

/// Who writes, and how.
#[derive(Debug, Clone)]
pub struct WriteOptions {
    pub user: Arc<User>,
    pub dry_run: bool,
    /// `metadata.managedFields[].manager`.
    pub manager: String,
    pub subresource: String,
    /// What the writer is told beside the answer.
    pub warnings: Warnings,
}

impl WriteOptions {
    /// The server itself writes.
    pub fn own(subresource: &str) -> WriteOptions {
        WriteOptions {
            user: Arc::new(User::new("system:apiserver", &["system:masters"])),
            dry_run: false,
            manager: "kube-apiserver".into(),
            subresource: subresource.into(),
            warnings: Warnings::default(),
        }
    }

    /// Who updates, as managed fields name them.
    pub fn context(&self, registry: &Registry, api_version: &str) -> ManagerContext {
        ManagerContext {
            manager: self.manager.clone(),
            operation: "Update".into(),
            subresource: self.subresource.clone(),
            api_version: api_version.to_owned(),
            now: registry.timestamp(),
            force: false,
            reset: apply::Reset::NOTHING,
        }
    }
}

/// How a new object comes about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// A POST to the collection: `create` is what was asked for and allowed.
    Post,
    /// A PUT to a name that is not there.
    Put,
    /// A server-side apply of a name that is not there; the managed fields are written already.
    Apply,
}

/// The parts of a write that a caller's change is made in.
pub struct Write<'a> {
    pub registry: &'a Arc<Registry>,
    pub served: &'a Served,
    pub namespace: &'a str,
    pub options: &'a WriteOptions,
}

impl Write<'_> {
    fn manager(&self, operation: &'static str, force: bool) -> ManagerContext {
        ManagerContext {
            manager: self.options.manager.clone(),
            operation: operation.into(),
            subresource: self.options.subresource.clone(),
            api_version: self.served.resource.api_version(),
            now: self.registry.timestamp(),
            force,
            reset: self.served.resource.rules.reset_fields(&self.options.subresource),
        }
    }

    /// Lays an applied configuration over an object, or makes a new one.
    ///
    /// # Errors
    /// Conflicts, and what is wrong with the configuration.
    pub fn apply(
        &self,
        live: Option<&Value>,
        config: &Value,
        context: &ManagerContext,
    ) -> std::result::Result<Value, apply::ApplyError> {
        let versions = OtherVersions::of(self.registry, self.served);
        apply::apply(&self.target(&versions, &context.api_version), live, config, context)
    }

    fn target<'s>(&'s self, versions: &'s OtherVersions, api_version: &'s str) -> apply::Target<'s> {
        let resource = &self.served.resource;
        apply::Target::new(resource.schema.get(), resource.root).with_versions(api_version, versions)
    }

    pub fn apply_context(&self, force: bool) -> ManagerContext {
        self.manager("Apply", force)
    }

    fn attributes<'b>(&'b self, operation: Operation, name: &'b str) -> Attributes<'b> {
        Attributes {
            registry: self.registry,
            user: &self.options.user,
            operation,
            resource: &self.served.resource,
            subresource: &self.options.subresource,
            namespace: self.namespace,
            name,
            dry_run: self.options.dry_run,
            warnings: &self.options.warnings,
        }
    }

    /// Stores a new object. `tree` is of the served version, decoded and defaulted.
    pub async fn create(&self, mut tree: Value, origin: Origin) -> Result<Arc<Cached>> {
        let resource = &self.served.resource;
        if origin == Origin::Post {
            metadata::wipe(&mut tree)?;
        }
        let status = match tree.as_object_mut() {
            Some(object) if resource.rules.has_status => object.remove("status"),
            _ => None,
        };
        if origin != Origin::Apply {
            self.track(None, &mut tree);
        }
        if let Some(status) = status.and_then(resource.rules.status_on_create) {
            tree["status"] = status;
        }
        let versioned = metadata::text(&tree, "resourceVersion")
            .parse()
            .is_ok_and(|n: u64| n != 0);
        metadata::prepare_create(self.registry, resource, &mut tree, self.namespace)?;
        let name = metadata::text(&tree, "name").to_owned();
        let attributes = self.attributes(Operation::Create, &name);
        admission::mutate(&attributes, &mut tree)?;
        let mut told = Vec::new();
        (resource.rules.warn_before_creation)(&mut told, &tree);
        told.into_iter().for_each(|text| self.options.warnings.add(text));
        disabled::drop_disabled(resource.rules, &mut tree, None);
        let writer = Writer {
            now: &self.registry.timestamp(),
            user: &self.options.user,
        };
        (resource.rules.prepare_create)(&mut tree, &writer);
        if !resource.is_custom() {
            let schema = resource.schema.get();
            schema.set_defaults(resource.root, &mut tree);
            schema.normalize(resource.root, &mut tree);
        }
        let requested = if origin == Origin::Post { "" } else { name.as_str() };
        escalation::check(&self.author(requested), &tree, None)?;
        let mut allocated = crate::allocator::allocate(self.registry, resource, &mut tree, None, self.options.dry_run)?;
        self.check(&tree, None)?;
        if origin != Origin::Post {
            self.authorize_create(&name)?;
        }
        self.warn(&tree, None);
        let charge = admission::validate(&attributes, &tree, None).await?;
        let claims = allocated.claims(self.registry, &tree, None)?;
        if resource.is_custom() {
            // a status that the definition gives is there from the start, though its writer could not set one
            resource.schema.get().set_defaults(resource.root, &mut tree);
        }
        let mut stored = resource.to_stored(tree);
        let encoded = Encoded::of(resource, &mut stored)?;
        if self.options.dry_run {
            if self.served.cache.get(self.namespace, &name).is_some() {
                return Err(ApiError::already_exists(&resource.group, &resource.plural, &name));
            }
            return Ok(Arc::new(encoded.at(None)));
        }
        if versioned {
            return Err(ApiError::plain(
                "resourceVersion should not be set on objects to be created",
            ));
        }
        let key = resource.key(self.namespace, &name);
        let lease = self.lease().await?;
        let mut txn = Txn {
            compare: vec![Compare {
                key: key.clone(),
                target: CompareTarget::ModRevision(0),
            }],
            success: vec![Op::Put(Put {
                key,
                value: encoded.value(),
                lease,
                hint: Some(Arc::new(encoded.prepared.clone())),
            })],
            failure: Vec::new(),
        };
        claims.join(&mut txn);
        let result = self.registry.store.txn(txn).await?;
        if !result.succeeded {
            if self.served.cache.get(self.namespace, &name).is_none()
                && let Some(error) = allocated.lost(resource, &name)
            {
                return Err(error);
            }
            return Err(ApiError::already_exists(&resource.group, &resource.plural, &name));
        }
        allocated.keep();
        charge.keep();
        stored_object(&encoded, &result.responses, result.revision)
    }

    fn author<'b>(&'b self, requested: &'b str) -> Author<'b> {
        Author {
            registry: self.registry,
            user: &self.options.user,
            resource: &self.served.resource,
            namespace: self.namespace,
            requested,
        }
    }

    /// Who may change an object that is there may not therefore make one that is not.
    fn authorize_create(&self, name: &str) -> Result<()> {
        let resource = &self.served.resource;
        let attributes = crate::authorization::Attributes {
            verb: "create",
            is_resource: true,
            group: &resource.group,
            namespace: self.namespace,
            resource: &resource.plural,
            subresource: &self.options.subresource,
            name,
            ..Default::default()
        };
        self.registry.authorize(&self.options.user, &attributes)
    }

    fn warn(&self, tree: &Value, old: Option<&Value>) {
        let resource = &self.served.resource;
        // upstream warns of built-in kinds by the writes of the objects themselves alone
        if resource.is_custom() || self.options.subresource.is_empty() {
            let mut told = Vec::new();
            (resource.rules.warn)(&mut told, tree, old);
            told.into_iter().for_each(|text| self.options.warnings.add(text));
        }
    }

    async fn lease(&self) -> Result<i64> {
        let store = &*self.registry.store;
        self.registry.event_lease.of(&self.served.resource, store).await
    }

    /// Changes an object by `change`, which gets it in the served version and may be called again when another writer
    /// was first, unless the caller insists on a resourceVersion.
    pub async fn update(&self, name: &str, mut change: impl FnMut(&Value) -> Result<Change>) -> Result<Arc<Cached>> {
        let resource = &self.served.resource;
        for _ in 0..ATTEMPTS {
            let current = self
                .served
                .cache
                .get(self.namespace, name)
                .ok_or_else(|| resource.not_found(name))?;
            let old = resource.to_served(current.tree()?);
            let Change {
                mut tree,
                uid,
                revision,
                applied,
            } = change(&old)?;
            if let Some(uid) = uid
                && *uid != *current.object.meta.uid
            {
                let key = resource.key(self.namespace, name);
                let why = format!(
                    "StorageError: invalid object, Code: 4, Key: {}, ResourceVersion: 0, AdditionalErrorMsg: Precondition \
                     failed: UID in precondition: {uid}, UID in object meta: {}",
                    String::from_utf8_lossy(&key),
                    current.object.meta.uid
                );
                return Err(ApiError::conflict(&resource.group, &resource.plural, name, &why));
            }
            if revision.is_some_and(|r| r != current.revision()) {
                return Err(ApiError::modified(&resource.group, &resource.plural, name));
            }
            metadata::prepare_update(&mut tree, &old)?;
            let attributes = self.attributes(Operation::Update, name);
            // a node is kept to its own by what it asks for, not by what its path lets through
            admission::node_restriction::admit(&attributes, &tree, Some(&old))?;
            resource.rules.confine(&self.options.subresource, &mut tree, &old);
            // a pod that is bound stays what its writers made of it
            let bound = self.options.subresource == "binding";
            if !applied && !bound {
                self.track(Some(&old), &mut tree);
            }
            disabled::drop_disabled(resource.rules, &mut tree, Some(&old));
            (resource.rules.prepare_update)(&mut tree, &old, &self.registry.timestamp());
            admission::mutate(&attributes, &mut tree)?;
            if !resource.is_custom() {
                let schema = resource.schema.get();
                schema.set_defaults(resource.root, &mut tree);
                schema.normalize(resource.root, &mut tree);
            }
            if !bound {
                metadata::bump_generation(resource.rules, &self.options.subresource, &mut tree, &old)?;
            }
            escalation::check(&self.author(name), &tree, Some(&old))?;
            let mut allocated =
                crate::allocator::allocate(self.registry, resource, &mut tree, Some(&old), self.options.dry_run)?;
            self.check(&tree, Some(&old))?;
            self.warn(&tree, Some(&old));
            let charge = admission::validate(&attributes, &tree, Some(&old)).await?;
            if same(&tree, &old) {
                return Ok(current);
            }
            let ends = ends_now(resource, &tree, &old);
            let claims = match ends {
                true => crate::allocator::release(self.registry, resource, &old)?,
                false => allocated.claims(self.registry, &tree, Some(&old))?,
            };
            let mut stored = resource.to_stored(tree);
            let encoded = Encoded::of(resource, &mut stored)?;
            if self.options.dry_run {
                return Ok(Arc::new(encoded.at(Some(current.revision()))));
            }
            let key = resource.key(self.namespace, name);
            let op = if ends {
                Op::Delete(etcd::KeyRange::One(key.clone()))
            } else {
                let hint = Some(Arc::new(encoded.prepared.clone()) as _);
                Op::Put(Put {
                    key: key.clone(),
                    value: encoded.value(),
                    lease: self.lease().await?,
                    hint,
                })
            };
            let mut txn = Txn {
                compare: vec![Compare {
                    key,
                    target: CompareTarget::ModRevision(current.revision()),
                }],
                success: vec![op],
                failure: Vec::new(),
            };
            claims.join(&mut txn);
            let result = self.registry.store.txn(txn).await?;
            if result.succeeded {
                allocated.keep();
                charge.keep();
                if ends {
                    return Ok(Arc::new(encoded.at(Some(result.revision))));
                }
                return stored_object(&encoded, &result.responses, result.revision);
            }
            if revision.is_some() {
                return Err(ApiError::modified(&resource.group, &resource.plural, name));
            }
        }
        Err(ApiError::modified(&resource.group, &resource.plural, name))
    }

    /// Records what the writer has set: before the strategy and admission add their own.
    fn track(&self, old: Option<&Value>, tree: &mut Value) {
        let resource = &self.served.resource;
        let schema = resource.schema.get();
        if !resource.is_custom() {
            // An empty list is no absent one here: it asks to forget who manages what.
            let clears = apply::forgets_managers(tree);
            schema.normalize(resource.root, tree);
            if let Some(metadata) = tree.get_mut("metadata").filter(|_| clears) {
                metadata["managedFields"] = json!([]);
            }
        }
        let context = self.manager("Update", false);
        let versions = OtherVersions::of(self.registry, self.served);
        apply::track_update(&self.target(&versions, &context.api_version), old, tree, &context);
    }

    fn check(&self, tree: &Value, old: Option<&Value>) -> Result<()> {
        let resource = &self.served.resource;
        let subresource = self.options.subresource.as_str();
        let rules = resource.rules;
        let mut errors = kinds::metadata::validate(rules, tree, old, subresource);
        let check = Check {
            new: tree,
            old,
            subresource,
            custom: resource.is_custom().then(|| Custom {
                schema: resource.schema.get(),
                scale: resource.scale.as_ref(),
            }),
        };
        if let Some(at) = (rules.admin_access)(&check) {
            let namespace = self.registry.get("", "namespaces", "", self.namespace);
            if namespace.is_none_or(|namespace| namespace.object.meta.label(ADMIN_ACCESS) != Some("true")) {
                let why = format!(
                    "admin access to devices requires the `{ADMIN_ACCESS}: true` label on the containing namespace"
                );
                errors.push(FieldError::forbidden(at, why));
            }
        }
        let found = (rules.validate)(&check);
        if old.is_none() && rules.metadata.last && !found.is_empty() {
            errors.clear();
        }
        errors.extend(found);
        if errors.is_empty() {
            return Ok(());
        }
        if !resource.is_custom() {
            let schema = resource.schema.get();
            for error in errors.iter_mut().filter(|e| e.bad_value == Some(Value::Null)) {
                if let Some(zero) = schema.zero_at(resource.root, &error.field) {
                    error.bad_value = Some(zero);
                }
            }
        }
        Err(resource.invalid(metadata::text(tree, "name"), &errors))
    }
}

/// What a caller made of an object.
pub struct Change {
    pub tree: Value,
    /// Must be the object's uid.
    pub uid: Option<String>,
    /// Must be the object's resourceVersion.
    pub revision: Option<u64>,
    /// Server-side apply has written the managed fields already.
    pub applied: bool,
}

/// Whether nothing would change but the record of who wrote.
fn same(new: &Value, old: &Value) -> bool {
    let strip = |tree: &Value| {
        let mut tree = tree.clone();
        if let Some(metadata) = tree.get_mut("metadata").and_then(Value::as_object_mut) {
            metadata.remove("resourceVersion");
            // an apply that changes only the owners of fields is a change; a time alone is not
            if let Some(Value::Array(entries)) = metadata.get_mut("managedFields") {
                for entry in entries.iter_mut().filter_map(Value::as_object_mut) {
                    entry.remove("time");
                }
            }
        }
        tree
    };
    strip(new) == strip(old)
}

/// Whether an update removes the last thing that a deletion waited for.
fn ends_now(resource: &Resource, new: &Value, old: &Value) -> bool {
    let any = |list: Option<&Value>| list.and_then(Value::as_array).is_some_and(|l| !l.is_empty());
    let waits = |tree: &Value| {
        any(tree.pointer("/metadata/finalizers")) || resource.rules.hold.is_some_and(|hold| (hold.holds)(tree))
    };
    let grace = new
        .pointer("/metadata/deletionGracePeriodSeconds")
        .and_then(Value::as_i64)
        .unwrap_or(0);
    !metadata::text(old, "deletionTimestamp").is_empty() && waits(old) && !waits(new) && grace == 0
}

fn stored_object(encoded: &Encoded, responses: &[OpResponse], revision: u64) -> Result<Arc<Cached>> {
    match responses.first() {
        Some(OpResponse::Put { value, .. }) => Ok(Arc::new(Cached::from_prepared(
            &encoded.prepared,
            value.clone(),
            revision,
        ))),
        _ => Err(ApiError::internal("the store answered a put with something else")),
    }
}
