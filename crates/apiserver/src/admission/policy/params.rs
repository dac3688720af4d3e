//! The parameters of a binding: objects of any kind, by name or by their labels (`generic.CollectParams`).

use std::sync::Arc;

use api::selectors::SelectorError;
use serde_json::Value;

use super::compiled::{Binding, Policy};
use crate::admission::Attributes;
use crate::http::status::ApiError;
use crate::registry::cached::Cached;
use crate::registry::resource::Resource;
use crate::registry::{Registry, Served};

/// Why a policy or binding has no parameters, in upstream's words.
#[derive(Debug, thiserror::Error)]
pub enum ParamError {
    /// Nobody serves their kind: its group and version, and its name.
    #[error("failed to find resource referenced by paramKind: '{version}, Kind={kind}'")]
    NoKind {
        /// The group and version.
        version: String,
        /// The kind.
        kind: String,
    },
    /// The binding names a namespace, and the kind has none.
    #[error("paramRef.namespace must not be provided for a cluster-scoped `paramKind`")]
    Namespaced,
    /// The binding names no namespace, and the request has none.
    #[error("cannot use namespaced paramRef in policy binding that matches cluster-scoped resources")]
    NoNamespace,
    /// The binding selects by what is no selector.
    #[error(transparent)]
    Selector(#[from] SelectorError),
    /// The binding neither names nor selects them.
    #[error("one of name or selector must be provided")]
    NoReference,
    /// There are none, and the binding denies then.
    #[error("no params found for policy binding with `Deny` parameterNotFoundAction")]
    NotFound,
    /// They cannot be had in the version that the policy names.
    #[error(transparent)]
    Unserved(#[from] ApiError),
}

/// A kind of parameters as it is served: in the version that the policy names.
pub struct Kind {
    resource: Arc<Resource>,
    cache: Arc<crate::registry::cache::Cache>,
}

/// The kind of a policy's parameters; `None` when it has none.
///
/// # Errors
/// When nobody serves it.
pub fn kind(policy: &Policy, registry: &Registry) -> Result<Option<Kind>, ParamError> {
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
        None => Err(ParamError::NoKind {
            version: format!("{}/{}", wanted.group, wanted.version),
            kind: wanted.kind.clone(),
        }),
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
) -> Result<Vec<Option<Value>>, ParamError> {
    let (Some(kind), Some(reference)) = (kind, &binding.params) else {
        return Ok(vec![None]);
    };
    let namespace = match (kind.resource.namespaced, reference.namespace.as_str()) {
        (false, "") => "",
        (false, _) => return Err(ParamError::Namespaced),
        (true, "") if asked.namespace_asked().is_empty() => return Err(ParamError::NoNamespace),
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
        Some(Err(why)) => return Err(why.clone().into()),
        None => return Err(ParamError::NoReference),
    };
    if found.is_empty() && reference.denies_without {
        return Err(ParamError::NotFound);
    }
    let mut served = Vec::with_capacity(found.len());
    for object in &found {
        served.push(Some(kind.resource.served(object).await?));
    }
    Ok(served)
}
