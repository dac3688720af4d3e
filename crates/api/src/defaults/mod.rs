//! Defaulting: what an absent field counts as. What the schema's table says is done for every kind and custom resource
//! alike; what depends on other fields is a small function per kind.

mod core;
mod storage;
mod workloads;

use serde_json::{Map, Value};

use crate::schema::{Schema, Shape, TypeId};

/// Puts a default where nothing is.
fn set(object: &mut Map<String, Value>, key: &str, value: impl Into<Value>) {
    match object.get_mut(key) {
        Some(Value::Null) | None => {
            object.insert(key.to_owned(), value.into());
        }
        Some(_) => {}
    }
}

/// A member that is an object, if it is there.
fn object<'a>(parent: &'a mut Map<String, Value>, key: &str) -> Option<&'a mut Map<String, Value>> {
    parent.get_mut(key)?.as_object_mut()
}

/// A member that is an object, made if it is not there.
fn made<'a>(parent: &'a mut Map<String, Value>, key: &str) -> Option<&'a mut Map<String, Value>> {
    set(parent, key, Value::Object(Map::new()));
    object(parent, key)
}

/// The items of a list of objects.
fn items<'a>(parent: &'a mut Map<String, Value>, key: &str) -> impl Iterator<Item = &'a mut Map<String, Value>> {
    parent
        .get_mut(key)
        .and_then(Value::as_array_mut)
        .into_iter()
        .flatten()
        .filter_map(Value::as_object_mut)
}

impl Schema {
    /// Sets the defaults of an object and everything in it.
    pub fn set_defaults(&self, root: TypeId, tree: &mut Value) {
        self.default_declared(root, tree);
        let text = |key: &str| tree.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
        let (api_version, kind) = (text("apiVersion"), text("kind"));
        let Some(top) = tree.as_object_mut() else { return };
        match (api_version.as_str(), kind.as_str()) {
            ("v1", _) => core::default(&kind, top),
            ("apps/v1" | "batch/v1" | "autoscaling/v1" | "autoscaling/v2" | "policy/v1", _) => {
                workloads::default(&kind, top);
            }
            ("networking.k8s.io/v1", "NetworkPolicy") => workloads::network_policy(top),
            ("rbac.authorization.k8s.io/v1", "RoleBinding" | "ClusterRoleBinding") => workloads::binding(top),
            ("storage.k8s.io/v1", _) => storage::default(&kind, top),
            ("scheduling.k8s.io/v1", "PriorityClass") => set(top, "preemptionPolicy", "PreemptLowerPriority"),
            ("certificates.k8s.io/v1", _) | ("discovery.k8s.io/v1", "EndpointSlice") => workloads::endpoint_slice(top),
            ("apiextensions.k8s.io/v1", "CustomResourceDefinition") => workloads::definition(top),
            _ => {}
        }
    }

    /// The defaults that the table or a custom schema declares.
    fn default_declared(&self, ty: TypeId, tree: &mut Value) {
        match (self.shape(ty), tree) {
            (Shape::Struct(_), Value::Object(object)) => {
                for field in self.defaulted_fields(ty) {
                    if let Some(default) = &field.default
                        && !object.contains_key(&*field.name)
                    {
                        object.insert(field.name.to_string(), (**default).clone());
                    }
                }
                for (key, inner) in object.iter_mut().filter(|(_, v)| v.is_object() || v.is_array()) {
                    if let Some(field) = self.field(ty, key) {
                        self.default_declared(field.ty, inner);
                    }
                }
            }
            (Shape::Map { value }, Value::Object(object)) => {
                object
                    .values_mut()
                    .for_each(|inner| self.default_declared(*value, inner));
            }
            (Shape::List { item, .. } | Shape::WrappedList { item }, Value::Array(list)) => {
                list.iter_mut().for_each(|inner| self.default_declared(*item, inner));
            }
            _ => {}
        }
    }
}
