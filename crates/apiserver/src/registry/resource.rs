//! What the registry knows of one resource in one version, built-in or custom.

use std::sync::Arc;

use api::field::FieldErrors;
use api::gvk::GroupVersionKind;
use api::schema::rules::FieldPath;
use api::schema::{Schema, TypeId};
use bytes::Bytes;
use serde_json::Value;

use crate::http::status::{ApiError, Result};
use crate::kinds::Kind;
use crate::kinds::custom::ScalePaths;
use crate::kinds::custom::rules::Rules;
use crate::registry::cached::{Cached, Fields, write_canonical};
use crate::registry::conversion::{Conversion, Converter, batches};
use crate::tree::at_path;

/// The schema that a resource is decoded by.
#[derive(Debug, Clone)]
pub enum SchemaRef {
    Builtin,
    Custom(Arc<Schema>),
}

impl SchemaRef {
    /// The schema.
    pub fn get(&self) -> &Schema {
        match self {
            SchemaRef::Builtin => Schema::builtin(),
            SchemaRef::Custom(schema) => schema,
        }
    }
}

/// A subresource as discovery names it.
#[derive(Debug, Clone)]
pub struct Subresource {
    pub name: String,
    pub kind: String,
    /// Group and version of the body when they differ from the resource's.
    pub group: String,
    pub version: String,
    pub verbs: Vec<String>,
}

/// A printer column of a custom resource.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Column {
    pub name: String,
    pub kind: String,
    pub format: String,
    pub description: String,
    pub priority: i32,
    pub json_path: String,
}

/// One resource in one version.
#[derive(Debug)]
pub struct Resource {
    pub group: String,
    pub version: String,
    pub kind: String,
    pub list_kind: String,
    pub plural: String,
    pub singular: String,
    pub short_names: Vec<String>,
    pub categories: Vec<String>,
    pub namespaced: bool,
    pub verbs: Vec<String>,
    pub subresources: Vec<Subresource>,
    /// Where its objects are kept, as upstream: `/registry/pods/`.
    pub prefix: String,
    /// Field paths that field selectors may use beside `metadata.name` and `metadata.namespace`.
    pub selectable: Vec<String>,
    /// The fields whose values are kept with an object; the first is indexed. Of a built-in resource those of `selectable`,
    /// one by one, as stored objects have them; of a custom one those that any version names.
    pub selectable_stored: Vec<String>,
    pub schema: SchemaRef,
    pub root: TypeId,
    /// All that is particular to its kind.
    pub rules: &'static Kind,
    /// The fields of features that are off.
    pub switched_off: Vec<FieldPath>,
    /// The columns of a custom resource; built-in ones have theirs in their kind.
    pub columns: Option<Vec<Column>>,
    /// Dotted paths of `scale` for a custom resource: spec replicas, status replicas, label selector.
    pub scale: Option<ScalePaths>,
    /// The validation rules of a custom resource, compiled.
    pub validations: Option<Arc<Rules>>,
    /// `group/version` that objects are stored in, and how they get there and back.
    pub stored_as: String,
    /// What a custom resource is stored by, when that is another version.
    pub stored_schema: Option<(Arc<Schema>, TypeId)>,
    pub conversion: Conversion,
    /// What everybody who asks for a custom resource in this version is warned of.
    pub deprecation: Option<String>,
    /// Of the definition that a custom resource is served by; 0 for built-in ones.
    pub generation: i64,
}

/// The kind of what is no resource has no rules.
static NO_RULES: Kind = Kind::new("", "", |_| FieldErrors::new());

impl Resource {
    /// Adds what a tree of this version has though its writer did not say so: defaults, of the schema and of the kind.
    pub fn set_defaults(&self, tree: &mut Value) {
        self.schema.get().set_defaults(self.root, tree);
        (self.rules.read)(tree);
    }

    /// A built-in kind that is the body of a subresource alone, as the ways in which bodies are read want it.
    pub fn of_body(kind: &GroupVersionKind) -> Option<Resource> {
        Some(Resource {
            group: kind.group.clone(),
            version: kind.version.clone(),
            kind: kind.kind.clone(),
            list_kind: String::new(),
            plural: String::new(),
            singular: String::new(),
            short_names: Vec::new(),
            categories: Vec::new(),
            namespaced: true,
            verbs: Vec::new(),
            subresources: Vec::new(),
            prefix: String::new(),
            selectable: Vec::new(),
            selectable_stored: Vec::new(),
            schema: SchemaRef::Builtin,
            root: Schema::builtin().type_for(kind)?,
            rules: &NO_RULES,
            switched_off: Vec::new(),
            columns: None,
            scale: None,
            validations: None,
            stored_as: String::new(),
            stored_schema: None,
            conversion: Conversion::Rename,
            deprecation: None,
            generation: 0,
        })
    }

    /// `v1` or `apps/v1`.
    pub fn api_version(&self) -> String {
        if self.group.is_empty() {
            self.version.clone()
        } else {
            format!("{}/{}", self.group, self.version)
        }
    }

    /// `deployments.apps`, or `pods` in the core group.
    pub fn qualified(&self) -> String {
        if self.group.is_empty() {
            self.plural.clone()
        } else {
            format!("{}.{}", self.plural, self.group)
        }
    }

    /// Whether it is this resource, in any version.
    pub fn is(&self, group: &str, plural: &str) -> bool {
        self.group == group && self.plural == plural
    }

    /// Whether a definition made it.
    pub fn is_custom(&self) -> bool {
        matches!(self.schema, SchemaRef::Custom(_))
    }

    /// Whether upstream checks it by what its types declare too, after which no error stands twice.
    pub fn is_declared(&self) -> bool {
        self.is_protobuf()
    }

    /// Whether upstream stores it as protocol buffers, which do not tell an empty list from none. Its servers of definitions and of
    /// APIServices store JSON.
    pub fn is_protobuf(&self) -> bool {
        !self.is_custom() && !matches!(self.group.as_str(), "apiextensions.k8s.io" | "apiregistration.k8s.io")
    }

    /// A subresource by its name.
    pub fn subresource(&self, name: &str) -> Option<&Subresource> {
        self.subresources.iter().find(|s| s.name == name)
    }

    /// The kind of the object or of one of its subresources.
    pub fn kind_of(&self, subresource: &str) -> GroupVersionKind {
        let found = self.subresource(subresource).filter(|s| !s.kind.is_empty());
        match found {
            Some(s) if s.version.is_empty() => GroupVersionKind::new(&self.group, &self.version, &s.kind),
            Some(s) => GroupVersionKind::new(&s.group, &s.version, &s.kind),
            None => GroupVersionKind::new(&self.group, &self.version, &self.kind),
        }
    }

    /// A tree of this version in another version of the same resource.
    ///
    /// # Errors
    /// Those of a webhook that converts it.
    pub async fn to_version(&self, other: &Resource, tree: Value) -> Result<Value> {
        match &self.conversion {
            Conversion::Webhook(converter) => other.converted(converter, tree).await,
            Conversion::Rename if self.is_custom() => Ok(other.convert(tree, &other.api_version())),
            Conversion::Rename | Conversion::Function(_) => Ok(other.to_served(self.to_stored(tree))),
        }
    }

    /// What a webhook makes of a tree for this version.
    async fn converted(&self, converter: &Converter, tree: Value) -> Result<Value> {
        let to = self.api_version();
        if tree.get("apiVersion").and_then(Value::as_str) == Some(&to) {
            return Ok(tree);
        }
        let done = converter.convert(&[tree], &to, Converter::deadline()).await?;
        let mut done = done.into_iter();
        let tree = done
            .next()
            .ok_or_else(|| ApiError::internal("a webhook converted nothing"))?;
        Ok(self.complete(self.schema.get(), self.root, tree))
    }

    /// A converted tree without what its version does not specify, with what it defaults.
    fn complete(&self, schema: &Schema, root: TypeId, mut tree: Value) -> Value {
        schema.prune(&mut tree);
        schema.set_defaults(root, &mut tree);
        tree
    }

    /// A tree of the served version as it is stored.
    ///
    /// # Errors
    /// Those of a webhook that converts it.
    pub async fn stored(&self, tree: Value) -> Result<Value> {
        let Conversion::Webhook(converter) = &self.conversion else {
            return Ok(self.to_stored(tree));
        };
        if self.is_stored_version() {
            return Ok(tree);
        }
        let done = converter
            .convert(&[tree], &self.stored_as, Converter::deadline())
            .await?;
        let mut done = done.into_iter();
        let tree = done
            .next()
            .ok_or_else(|| ApiError::internal("a webhook converted nothing"))?;
        Ok(match &self.stored_schema {
            Some((schema, root)) => self.complete(schema, *root, tree),
            None => self.complete(self.schema.get(), self.root, tree),
        })
    }

    /// An object of the cache in the served version.
    ///
    /// # Errors
    /// Those of a webhook that converts it.
    pub async fn served(&self, object: &Arc<Cached>) -> Result<Value> {
        if !matches!(self.conversion, Conversion::Webhook(_)) {
            return Ok(self.to_served(object.tree()?));
        }
        self.ready(std::slice::from_ref(object)).await?;
        serde_json::from_slice(&self.present(object)?).map_err(ApiError::internal)
    }

    /// Whether a webhook has to convert an object before it can be presented.
    pub fn lacks(&self, object: &Cached) -> bool {
        matches!(self.conversion, Conversion::Webhook(_))
            && !self.is_stored_as_served(object)
            && object.form(&self.version).is_none()
    }

    /// Whether a webhook converts its objects.
    pub fn is_converted(&self) -> bool {
        matches!(self.conversion, Conversion::Webhook(_))
    }

    /// The place of a field that selectors may use among the values that are kept with an object.
    pub fn selectable_at(&self, field: &str) -> Option<usize> {
        let named = |list: &[String]| list.iter().position(|f| f == field);
        let at = named(&self.selectable)?;
        if self.is_custom() {
            named(&self.selectable_stored)
        } else {
            Some(at)
        }
    }

    /// Sees to it that objects can be presented: those that a webhook has to convert are converted, many at once, and kept.
    ///
    /// # Errors
    /// Those of the webhook.
    pub async fn ready(&self, objects: &[Arc<Cached>]) -> Result<()> {
        let Conversion::Webhook(converter) = &self.conversion else {
            return Ok(());
        };
        let missing: Vec<&Arc<Cached>> = objects.iter().filter(|object| self.lacks(object)).collect();
        let mut rest = &missing[..];
        for length in batches(missing.iter().map(|object| object.object.bytes.len())) {
            let (batch, after) = rest.split_at(length);
            rest = after;
            let (claim, others) = converter.claim(batch, &self.version, |object| self.lacks(object));
            self.make_forms(converter, claim.objects.iter()).await?;
            drop(claim);
            for mut over in others {
                // an error says that it is over: nothing else is ever told
                let _over = over.changed().await;
            }
            // whose conversions failed for others is asked about again, now by each for itself: a slow webhook that fails would
            // hold up those who wait one after the other
            self.make_forms(converter, batch.iter().copied()).await?;
        }
        Ok(())
    }

    /// What is told of an object that is stored and cannot be converted, as upstream's storage tells it.
    fn undecodable(object: &Cached, why: &ApiError) -> String {
        format!("object not decodable revision={}: {}", object.revision(), why.message)
    }

    fn corrupt(&self, object: &Cached, within: &str, why: &ApiError) -> (String, String) {
        let meta = &object.object.meta;
        let key = self.key(&meta.namespace, &meta.name);
        let key = String::from_utf8_lossy(&key).into_owned();
        let key = key.strip_prefix(within).unwrap_or(&key).to_owned();
        let told = Resource::undecodable(object, why);
        let error = format!(
            "StorageError: corrupt object, Code: 7, Key: {key}, ResourceVersion: 0, AdditionalErrorMsg: {told}"
        );
        (key, error)
    }

    /// An object of the cache that is changed, in the served version.
    ///
    /// # Errors
    /// Those of a webhook that converts it.
    pub async fn changed(&self, object: &Arc<Cached>) -> Result<Value> {
        let served = self.served(object).await;
        served.map_err(|error| match self.is_converted() {
            true => ApiError::plain(Resource::undecodable(object, &error)),
            false => error,
        })
    }

    /// Sees to it that an object that is read by its name can be presented.
    ///
    /// # Errors
    /// Those of a webhook that converts it.
    pub async fn ready_one(&self, object: &Arc<Cached>) -> Result<()> {
        let ready = self.ready(std::slice::from_ref(object)).await;
        ready.map_err(|error| ApiError::internal(self.corrupt(object, "/registry", &error).1))
    }

    /// Sees to it that the objects of a list can be presented.
    ///
    /// # Errors
    /// Those of a webhook that converts them.
    pub async fn ready_list(&self, objects: &[Arc<Cached>]) -> Result<()> {
        const TOLD: usize = 100;
        let Err(error) = self.ready(objects).await else {
            return Ok(());
        };
        let lacking = objects.iter().filter(|object| self.lacks(object)).take(TOLD);
        let all: Vec<(String, String)> = lacking.map(|object| self.corrupt(object, "", &error)).collect();
        let Some((_, first)) = all.first() else {
            return Err(error);
        };
        let more = match all.len() - 1 {
            0 => String::new(),
            more => format!(" (and {more} more)"),
        };
        let of = crate::http::status::qualified(&self.group, &self.plural);
        let message = format!("failed to read one or more {of} from the storage: {first}{more}");
        let causes = all.iter().map(
            |(key, why)| serde_json::json!({ "reason": "UnexpectedServerResponse", "message": why, "field": key }),
        );
        let causes: Vec<Value> = causes.collect();
        let mut told = ApiError::new(500, "StorageReadError", message);
        told.details =
            Some(serde_json::json!({ "name": "list", "group": self.group, "kind": self.plural, "causes": causes }));
        Err(told)
    }

    /// Has those converted that still lack a form, and keeps what they become.
    async fn make_forms(&self, converter: &Converter, objects: impl Iterator<Item = &Arc<Cached>>) -> Result<()> {
        let objects: Vec<&Arc<Cached>> = objects.filter(|object| self.lacks(object)).collect();
        let trees = objects.iter().map(|object| object.tree()).collect::<Result<Vec<_>>>()?;
        let done = converter
            .convert(&trees, &self.api_version(), Converter::deadline())
            .await?;
        for (object, tree) in objects.iter().zip(done) {
            object.keep_form(self, &self.complete(self.schema.get(), self.root, tree))?;
        }
        Ok(())
    }

    /// The store's key of an object.
    pub fn key(&self, namespace: &str, name: &str) -> Bytes {
        if namespace.is_empty() {
            Bytes::from(format!("{}{name}", self.prefix))
        } else {
            Bytes::from(format!("{}{namespace}/{name}", self.prefix))
        }
    }

    /// What the object has in the fields that selectors may use; an absent field is the empty string, as upstream.
    pub fn selectable_values(&self, stored: &Value) -> Fields {
        let value = |path: &String| match (self.rules.selected)(stored, path) {
            Some(text) => text.into(),
            None => match at_path(stored, path) {
                None | Some(Value::Null) => (self.rules.absent)(path).into(),
                Some(Value::String(s)) => s.as_str().into(),
                Some(other) => other.to_string().into(),
            },
        };
        self.selectable_stored.iter().map(value).collect()
    }

    /// The object in protobuf.
    ///
    /// # Errors
    /// `406` for custom resources.
    pub fn encode_protobuf(&self, tree: &Value) -> Result<Bytes> {
        if self.is_custom() {
            let accepted = "application/json, application/yaml";
            return Err(ApiError::not_acceptable(accepted));
        }
        Ok(Bytes::from(
            self.schema
                .get()
                .encode_proto(self.root, tree)
                .map_err(ApiError::internal)?,
        ))
    }

    fn convert(&self, mut tree: Value, to: &str) -> Value {
        if tree.get("apiVersion").and_then(Value::as_str) == Some(to) {
            return tree;
        }
        match &self.conversion {
            // what a webhook converts has been converted before
            Conversion::Rename | Conversion::Webhook(_) => {
                tree["apiVersion"] = Value::String(to.to_owned());
                tree
            }
            Conversion::Function(convert) => {
                let mut tree = convert(tree, to);
                // the other version may demand fields that this one leaves out, and the other way round
                let kind = tree.get("kind").and_then(Value::as_str).unwrap_or_default();
                let gvk = GroupVersionKind::from_api_version(to, kind);
                if let Some(root) = Schema::builtin().type_for(&gvk) {
                    Schema::builtin().normalize(root, &mut tree);
                }
                tree
            }
        }
    }

    /// A tree of the served version in the stored one. What that version of a custom resource does not specify goes, what
    /// it defaults is there.
    pub fn to_stored(&self, tree: Value) -> Value {
        let mut tree = self.convert(tree, &self.stored_as);
        if let Some((schema, root)) = &self.stored_schema {
            schema.prune(&mut tree);
            schema.set_defaults(*root, &mut tree);
        }
        tree
    }

    /// A stored tree in the served version.
    pub fn to_served(&self, tree: Value) -> Value {
        let mut tree = self.convert(tree, &self.api_version());
        if self.stored_schema.is_some() {
            self.schema.get().prune(&mut tree);
        }
        tree
    }

    /// Whether objects are stored in this version.
    pub fn is_stored_version(&self) -> bool {
        api::gvk::split_api_version(&self.stored_as) == (&self.group, &self.version)
    }

    /// Whether the cached bytes, in canonical form, are of the served version.
    pub fn is_stored_as_served(&self, object: &Cached) -> bool {
        let slash = if self.group.is_empty() { "" } else { "/" };
        is_of(object, &[&self.group, slash, &self.version])
    }

    /// Whether the cached bytes are of the version that objects are stored in now: definitions change it.
    pub fn is_stored_as_now(&self, object: &Cached) -> bool {
        is_of(object, &[&self.stored_as])
    }

    /// The object's JSON in the served version.
    pub fn present(&self, object: &Cached) -> Result<Bytes> {
        if self.is_stored_as_served(object) {
            return Ok(object.object.bytes.clone());
        }
        if matches!(self.conversion, Conversion::Webhook(_)) {
            let form = object.form(&self.version).map(|form| form.object.bytes.clone());
            return form.ok_or_else(|| ApiError::internal("an object was not converted before it was shown"));
        }
        let tree = self.to_served(object.tree()?);
        let mut out = Vec::with_capacity(object.object.bytes.len() + 64);
        write_canonical(&tree, &mut out)?;
        Ok(out.into())
    }

    /// The error of an object that is not there.
    pub fn not_found(&self, name: &str) -> ApiError {
        ApiError::not_found(&self.group, &self.plural, name)
    }

    /// The error of a write that insists on another uid than an object has; where there is none, `found` is empty.
    /// A dry run is checked before the store that knows where it keeps objects.
    pub fn other_uid(&self, namespace: &str, name: &str, uids: (&str, &str), dry_run: bool) -> ApiError {
        self.unlike_wanted(namespace, name, "UID", uids, dry_run)
    }

    /// The error of a write that insists on another version than an object has.
    pub fn other_version(&self, namespace: &str, name: &str, wanted: &str, found: &str) -> ApiError {
        self.unlike_wanted(namespace, name, "ResourceVersion", (wanted, found), false)
    }

    fn unlike_wanted(
        &self,
        namespace: &str,
        name: &str,
        what: &str,
        (wanted, found): (&str, &str),
        dry_run: bool,
    ) -> ApiError {
        let key = self.key(namespace, name);
        let key = String::from_utf8_lossy(&key);
        let key = match dry_run {
            true => key.strip_prefix("/registry").unwrap_or(&key),
            false => &key,
        };
        let why = format!(
            "StorageError: invalid object, Code: 4, Key: {key}, ResourceVersion: 0, AdditionalErrorMsg: Precondition failed: \
             {what} in precondition: {wanted}, {what} in object meta: {found}"
        );
        ApiError::conflict(&self.group, &self.plural, name, &why)
    }

    /// The error of what may not be done to an object.
    pub fn forbidden(&self, name: &str, why: &str) -> ApiError {
        ApiError::forbidden(&self.group, &self.plural, name, why)
    }

    /// The error of an object that breaks its rules.
    pub fn invalid(&self, name: &str, errors: &[api::field::FieldError]) -> ApiError {
        let group = self.rules.error_group.unwrap_or(&self.group);
        ApiError::invalid(group, &self.kind, name, errors)
    }
}

/// Whether the bytes of an object, in canonical form, are of a version that is given in parts.
fn is_of(object: &Cached, version: &[&str]) -> bool {
    let mut rest = &object.object.bytes[..];
    let mut parts = ["{\"apiVersion\":\""].iter().chain(version).chain(&["\","]);
    parts.all(|part| rest.strip_prefix(part.as_bytes()).inspect(|left| rest = left).is_some())
}

/// The name that upstream's own types of a group go by.
pub fn internal_package(group: &str) -> &str {
    match group {
        "" | "events.k8s.io" => "core",
        group => group.split('.').next().unwrap_or(group),
    }
}
