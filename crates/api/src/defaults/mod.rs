//! Defaulting: what an absent field counts as. What the schema's table says is done for every kind and custom resource
//! alike; what depends on other fields is a small function per kind.

mod admission;
mod core;
mod flowcontrol;
mod resource;
mod storage;
mod workloads;

use serde_json::{Map, Value};

use crate::quantity::Quantity;
use crate::schema::{Field, Scalar, Schema, Shape, TypeId};

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

/// Nothing finer than a thousandth is kept of a resource.
fn round_up(quantity: &mut Value) {
    let text = match &*quantity {
        Value::String(text) => text.trim().parse::<Quantity>(),
        Value::Number(number) => number.to_string().parse(),
        _ => return,
    };
    if let Ok(exact) = text
        && let rounded = exact.round_up_to_milli()
        && rounded != exact
    {
        *quantity = Value::from(rounded.to_string());
    }
}

impl Schema {
    /// Whether a field of a type is a `ResourceList`, which the core group alone has.
    fn is_resource_list(&self, owner: TypeId, field: &Field) -> bool {
        let quantities = |value: &TypeId| matches!(self.shape(*value), Shape::Scalar(Scalar::Quantity));
        matches!(self.shape(field.ty), Shape::Map { value } if quantities(value))
            && self.get(owner).name.starts_with("core.v1.")
    }

    /// Sets the defaults of an object and everything in it.
    pub fn set_defaults(&self, root: TypeId, tree: &mut Value) {
        if let Some(node) = &self.structural {
            node.set_defaults(tree);
            return;
        }
        self.default_declared(root, tree);
        let text = |key: &str| tree.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
        let (api_version, kind) = (text("apiVersion"), text("kind"));
        let Some(top) = tree.as_object_mut() else { return };
        match (api_version.as_str(), kind.as_str()) {
            ("v1", _) => core::default(&kind, top),
            ("admissionregistration.k8s.io/v1", _) => admission::default(&kind, top),
            ("apps/v1" | "batch/v1" | "autoscaling/v1" | "autoscaling/v2" | "policy/v1", _) => {
                workloads::default(&kind, top);
            }
            ("networking.k8s.io/v1", "IngressClass") => {
                if let Some(parameters) = object(top, "spec").and_then(|spec| object(spec, "parameters")) {
                    set(parameters, "scope", "Cluster");
                }
            }
            ("apiregistration.k8s.io/v1", "APIService") => {
                if let Some(service) = object(top, "spec").and_then(|spec| object(spec, "service")) {
                    set(service, "port", 443);
                }
            }
            ("resource.k8s.io/v1", _) => resource::default(&kind, top),
            ("networking.k8s.io/v1", "NetworkPolicy") => workloads::network_policy(top),
            ("rbac.authorization.k8s.io/v1", "RoleBinding" | "ClusterRoleBinding") => workloads::binding(top),
            ("storage.k8s.io/v1", _) => storage::default(&kind, top),
            ("scheduling.k8s.io/v1", "PriorityClass") => set(top, "preemptionPolicy", "PreemptLowerPriority"),
            ("certificates.k8s.io/v1", _) | ("discovery.k8s.io/v1", "EndpointSlice") => workloads::endpoint_slice(top),
            ("flowcontrol.apiserver.k8s.io/v1", _) => flowcontrol::default(&kind, top),
            ("apiextensions.k8s.io/v1", "CustomResourceDefinition") => workloads::definition(top),
            _ => {}
        }
    }

    /// Whether Go cannot tell the value of a field from none: null, and for fields that are no pointers also the empty
    /// text, zero and false.
    fn is_unset(&self, field: &Field, value: &Value) -> bool {
        let zero = match (self.shape(field.ty), value) {
            (Shape::Scalar(Scalar::String), Value::String(text)) => text.is_empty(),
            (Shape::Scalar(Scalar::Bool), Value::Bool(set)) => !set,
            (Shape::Scalar(Scalar::Int32 | Scalar::Int64 | Scalar::Double), Value::Number(n)) => {
                n.as_f64() == Some(0.0)
            }
            _ => false,
        };
        value.is_null() || (zero && !field.pointer)
    }

    /// The defaults that the table declares.
    fn default_declared(&self, ty: TypeId, tree: &mut Value) {
        match (self.shape(ty), tree) {
            (Shape::Struct(_), Value::Object(object)) => {
                object.retain(|key, value| !self.field(ty, key).is_some_and(|field| self.is_unset(field, value)));
                for field in self.defaulted_fields(ty) {
                    // to set what Go has anyway would hide that nothing was said
                    if let Some(default) = &field.default
                        && !object.contains_key(&*field.name)
                        && !self.is_unset(field, default)
                    {
                        object.insert(field.name.to_string(), (**default).clone());
                    }
                }
                for (key, inner) in object.iter_mut().filter(|(_, v)| v.is_object() || v.is_array()) {
                    if let Some(field) = self.field(ty, key) {
                        if self.is_resource_list(ty, field) {
                            inner
                                .as_object_mut()
                                .into_iter()
                                .flatten()
                                .for_each(|(_, v)| round_up(v));
                            continue;
                        }
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
