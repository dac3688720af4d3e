//! An object on its way through a kustomization, with the names it had.

use api::gvk::GroupVersionKind;
use serde_json::{Value, json};

/// Whom a name means: kind, name and namespace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Id {
    pub group: String,
    pub version: String,
    pub kind: String,
    pub name: String,
    pub namespace: String,
}

/// What becomes of an object that is there already when a generator makes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Behavior {
    #[default]
    Create,
    Replace,
    Merge,
}

#[derive(Debug, Clone, Default)]
pub(crate) struct Resource {
    pub object: Value,
    /// The ids before each change of name, the first one first.
    pub previous: Vec<Id>,
    pub prefixes: Vec<String>,
    pub suffixes: Vec<String>,
    pub needs_hash: bool,
    pub behavior: Behavior,
}

impl Id {
    /// Whether a kind without a place in a namespace is meant. Kinds that are not built in are taken to have one.
    pub fn is_cluster_scoped(&self) -> bool {
        let gvk = GroupVersionKind {
            group: self.group.clone(),
            version: self.version.clone(),
            kind: self.kind.clone(),
        };
        api::resources::find_kind(&gvk).is_some_and(|row| !row.namespaced)
    }

    /// The namespace that counts: none is "default".
    pub fn effective_namespace(&self) -> &str {
        match (self.is_cluster_scoped(), self.namespace.as_str()) {
            (true, _) => "_non_namespaceable_",
            (false, "") => "default",
            (false, namespace) => namespace,
        }
    }

    pub(crate) fn same_kind(&self, other: &Id) -> bool {
        self.group == other.group && self.version == other.version && self.kind == other.kind
    }

    /// Whether both mean the same object.
    pub fn equals(&self, other: &Id) -> bool {
        self.same_kind(other) && self.name == other.name && self.effective_namespace() == other.effective_namespace()
    }

    /// Whether it is of a kind; what is empty of that counts as any.
    pub fn is_selected(&self, group: &str, version: &str, kind: &str) -> bool {
        let is = |wanted: &str, has: &str| wanted.is_empty() || wanted == has;
        is(group, &self.group) && is(version, &self.version) && is(kind, &self.kind)
    }
}

impl std::fmt::Display for Id {
    /// As kustomize writes it: `Deployment.v1.apps/name.namespace`.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let or = |text: &str, none: &str| {
            if text.is_empty() {
                none.to_owned()
            } else {
                text.to_owned()
            }
        };
        let (group, version, kind) = (
            or(&self.group, "[noGrp]"),
            or(&self.version, "[noVer]"),
            or(&self.kind, "[noKind]"),
        );
        let (name, namespace) = (or(&self.name, "[noName]"), or(&self.namespace, "[noNs]"));
        write!(f, "{kind}.{version}.{group}/{name}.{namespace}")
    }
}

impl Resource {
    pub(crate) fn new(object: Value) -> Resource {
        Resource {
            object,
            ..Resource::default()
        }
    }

    fn text(&self, pointer: &str) -> &str {
        self.object.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
    }

    pub(crate) fn name(&self) -> &str {
        self.text("/metadata/name")
    }

    pub(crate) fn namespace(&self) -> &str {
        self.text("/metadata/namespace")
    }

    pub(crate) fn kind(&self) -> &str {
        self.text("/kind")
    }

    pub(crate) fn set_name(&mut self, name: &str) {
        self.object["metadata"]["name"] = json!(name);
    }

    /// Who it is now.
    pub fn id(&self) -> Id {
        let gvk = GroupVersionKind::from_api_version(self.text("/apiVersion"), self.kind());
        Id {
            group: gvk.group,
            version: gvk.version,
            kind: gvk.kind,
            name: self.name().to_owned(),
            namespace: self.namespace().to_owned(),
        }
    }

    /// Who it was when it was read.
    pub fn original(&self) -> Id {
        self.previous.first().cloned().unwrap_or_else(|| self.id())
    }

    /// Notes who it is before a name changes.
    pub fn remember(&mut self) {
        let id = self.id();
        self.previous.push(id);
    }

    /// Whether it is or was what an id means.
    pub fn was(&self, matches: impl Fn(&Id) -> bool) -> bool {
        self.previous.iter().any(&matches) || matches(&self.id())
    }
}
