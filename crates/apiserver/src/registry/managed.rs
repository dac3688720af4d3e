//! Who writes, and the record of it in managed fields, in all versions of a resource.

use std::sync::Arc;
use std::time::Duration;

use api::apply::{self, ManagerContext, Target, Unconverted, Versions};
use api::gvk::split_api_version;
use api::schema::structural::{has_whole_reals, whole_numbers};
use api::schema::{Schema, TypeId};
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::audit::Trail;
use crate::http::user::User;
use crate::http::warnings::Warnings;
use crate::registry::commit::Place;
use crate::registry::conversion::Conversion;
use crate::registry::resource::Resource;
use crate::registry::{Catalog, Registry, Served};

/// Who writes, and how.
#[derive(Debug, Clone)]
pub struct WriteOptions {
    pub user: Arc<User>,
    pub dry_run: bool,
    /// `metadata.managedFields[].manager`.
    pub manager: String,
    pub subresource: String,
    /// The options as the client gave them.
    pub given: Value,
    /// When the client is told that it took too long.
    pub deadline: Instant,
    /// Admission has had its say already, or has none.
    pub admitted: bool,
    /// What the writer is told beside the answer.
    pub warnings: Warnings,
    /// The record of the request.
    pub trail: Trail,
}

/// How long a write may take (`endpoints/handlers`' `requestTimeoutUpperBound`).
pub const LONGEST: Duration = Duration::from_secs(34);

impl WriteOptions {
    /// The server itself writes.
    pub fn own(subresource: &str) -> WriteOptions {
        WriteOptions {
            user: Arc::new(User::new("system:apiserver", &["system:masters"])),
            dry_run: false,
            manager: "kube-apiserver".into(),
            subresource: subresource.into(),
            given: Value::Null,
            deadline: Instant::now() + LONGEST,
            admitted: false,
            warnings: Warnings::default(),
            trail: Trail::default(),
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

/// What is wrong with managed fields, where they cannot be read.
pub fn unfit(managed: &Value) -> Option<String> {
    let entries = managed.as_array()?;
    entries.iter().enumerate().find_map(|(i, entry)| {
        let text = |key: &str| entry.get(key).and_then(Value::as_str).unwrap_or_default();
        if !matches!(text("operation"), "Apply" | "Update") {
            return Some("operation must be `Apply` or `Update`".to_owned());
        }
        if text("apiVersion").is_empty() {
            return Some("apiVersion must not be empty".into());
        }
        match text("fieldsType") {
            "FieldsV1" => None,
            "" => Some(format!("missing fieldsType in managed fields entry {i}")),
            other => Some(format!("invalid fieldsType {other:?} in managed fields entry {i}")),
        }
    })
}

impl Place<'_> {
    /// Who writes this resource by this path.
    pub fn manager(&self, options: &WriteOptions, operation: &'static str, force: bool) -> ManagerContext {
        let resource = &self.served.resource;
        ManagerContext {
            operation: operation.into(),
            force,
            reset: resource.rules.reset_fields(&options.subresource),
            ..options.context(self.registry, &resource.api_version())
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
    ) -> Result<Value, apply::ApplyError> {
        let versions = OtherVersions::of(self.registry, self.served);
        apply::apply(&self.target(&versions, &context.api_version), live, config, context)
    }

    fn target<'s>(&'s self, versions: &'s OtherVersions, api_version: &'s str) -> Target<'s> {
        let resource = &self.served.resource;
        Target::new(resource.schema.get(), resource.root).with_versions(api_version, versions)
    }

    /// Records what the writer has set.
    pub fn track(&self, options: &WriteOptions, old: Option<&Value>, tree: &mut Value) {
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
        let context = self.manager(options, "Update", false);
        let versions = OtherVersions::of(self.registry, self.served);
        let target = self.target(&versions, &context.api_version);
        if resource.is_custom() && has_whole_reals(tree) {
            // fields are compared as they will be stored
            let mut whole = tree.clone();
            whole_numbers(&mut whole);
            apply::track_update(&target, old, &mut whole, &context);
            if let (Some(metadata), Some(whole)) = (tree.get_mut("metadata"), whole.get_mut("metadata")) {
                *metadata = whole.take();
            }
            return;
        }
        apply::track_update(&target, old, tree, &context);
    }
}

/// A resource and the catalog that its other versions stand in.
struct OtherVersions {
    catalog: Arc<Catalog>,
    own: Served,
}

impl OtherVersions {
    fn of(registry: &Registry, served: &Served) -> OtherVersions {
        OtherVersions {
            catalog: registry.catalog(),
            own: served.clone(),
        }
    }

    /// The resource in a version. Events are one kind in two groups.
    fn find(&self, api_version: &str) -> Option<&Resource> {
        let (group, version) = split_api_version(api_version);
        let found = self.catalog.find(group, version, &self.own.resource.plural)?;
        (found.resource.prefix == self.own.resource.prefix).then_some(&*found.resource)
    }
}

impl Versions for OtherVersions {
    fn type_in(&self, api_version: &str) -> Option<(&Schema, TypeId)> {
        let resource = self.find(api_version)?;
        Some((resource.schema.get(), resource.root))
    }

    fn convert(&self, tree: Value, from: &str, to: &str) -> Result<Option<Value>, Unconverted> {
        let (Some(from), Some(to)) = (self.find(from), self.find(to)) else {
            return Ok(None);
        };
        if !matches!(from.conversion, Conversion::Webhook(_)) {
            return Ok(Some(to.to_served(from.to_stored(tree))));
        }
        // managers of several versions are rare, and what they manage is found out by functions that do not wait
        let converting = from.to_version(to, tree);
        let done = tokio::task::block_in_place(|| tokio::runtime::Handle::current().block_on(converting));
        done.map(Some).map_err(|error| {
            tracing::warn!(%error, "managed fields of another version cannot be converted");
            Unconverted(error.message)
        })
    }
}
