//! The parameters of a binding: objects of any kind, by name or by their labels (`generic.CollectParams`).

use std::sync::Arc;

use serde_json::Value;

use super::compiled::{Binding, Policy};
use crate::admission::Attributes;
use crate::registry::cached::Cached;
use crate::registry::resource::Resource;
use crate::registry::{Registry, Served};

/// A kind of parameters as it is served: in the version that the policy names.
pub struct Kind {
    resource: Arc<Resource>,
    cache: Arc<crate::registry::cache::Cache>,
}

/// The kind of a policy's parameters; `None` when it has none.
///
/// # Errors
/// When nobody serves it.
pub fn kind(policy: &Policy, registry: &Registry) -> Result<Option<Kind>, String> {
    let Some(wanted) = &policy.params else { return Ok(None) };
    let catalog = registry.catalog();
    let is = |served: &&Served| {
        let resource = &served.resource;
        (&resource.group, &resource.version, &resource.kind) == (&wanted.group, &wanted.version, &wanted.kind)
    };
    match catalog.all().find(is) {
        Some(served) => Ok(Some(Kind {
            resource: served.resource.clone(),
            cache: served.cache.clone(),
        })),
        None => {
            let group = if wanted.group.is_empty() { "" } else { &wanted.group };
            Err(format!(
                "failed to find resource referenced by paramKind: '{group}/{}, Kind={}'",
                wanted.version, wanted.kind
            ))
        }
    }
}

/// The parameters that a binding holds a request against, one after the other: `None` stands for no parameter.
///
/// # Errors
/// When there are none and that denies, or when the binding does not fit the kind.
pub async fn collect(
    kind: Option<&Kind>,
    binding: &Binding,
    asked: &Attributes<'_>,
) -> Result<Vec<Option<Value>>, String> {
    let (Some(kind), Some(reference)) = (kind, &binding.params) else {
        return Ok(vec![None]);
    };
    let namespace = match (kind.resource.namespaced, reference.namespace.as_str()) {
        (false, "") => "",
        (false, _) => return Err("paramRef.namespace must not be provided for a cluster-scoped `paramKind`".into()),
        (true, "") if asked.namespace_asked().is_empty() => {
            let why = "cannot use namespaced paramRef in policy binding that matches cluster-scoped resources";
            return Err(why.into());
        }
        (true, "") => asked.namespace_asked(),
        (true, namespace) => namespace,
    };
    let found: Vec<Arc<Cached>> = match &reference.selector {
        _ if !reference.name.is_empty() => kind.cache.get(namespace, &reference.name).into_iter().collect(),
        Some(Ok(selector)) => {
            let all = kind.cache.list(namespace).items.into_iter();
            all.filter(|object| selector.matches(|key| object.object.meta.label(key)))
                .collect()
        }
        Some(Err(why)) => return Err(why.clone()),
        None => return Err("one of name or selector must be provided".into()),
    };
    if found.is_empty() && reference.denies_without {
        return Err("no params found for policy binding with `Deny` parameterNotFoundAction".into());
    }
    let mut served = Vec::with_capacity(found.len());
    for object in &found {
        let tree = kind.resource.served(object).await;
        served.push(Some(tree.map_err(|error| error.message)?));
    }
    Ok(served)
}
