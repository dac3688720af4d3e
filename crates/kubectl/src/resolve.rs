//! Objects of files: which resource they are of, and in which namespace.

use std::sync::Arc;

use api::selectors::LabelSelector;
use serde_json::Value;

use crate::discovery::ResourceType;
use crate::error::{Error, Result, fail, message};
use crate::flags::Files;
use crate::manifest::{self, Manifest};
use crate::print::go::quote;
use crate::select::Info;
use crate::session::Session;

/// Items of typed lists carry neither `apiVersion` nor `kind`.
pub fn with_type(item: &mut Value, ty: &ResourceType) {
    with_type_of(item, &ty.api_version(), &ty.kind);
}

pub(crate) fn with_type_of(item: &mut Value, api_version: &str, kind: &str) {
    if let Some(map) = item.as_object_mut() {
        map.entry("apiVersion").or_insert_with(|| Value::from(api_version));
        map.entry("kind").or_insert_with(|| Value::from(kind));
    }
}

/// The objects of files, with their types and namespaces found; and what is wrong with others.
pub async fn from_files(session: &Session, files: &Files) -> Result<(Vec<Info>, Vec<Error>)> {
    let mut infos = Vec::new();
    let mut errors = Vec::new();
    for manifest in manifest::read(files).await? {
        match resolve(session, manifest).await {
            Ok(info) => infos.push(info),
            Err(error) => errors.push(error),
        }
    }
    Ok((infos, errors))
}

/// The objects of files as they are, without a server that knows their types.
pub async fn from_files_alone(files: &Files) -> Result<(Vec<Info>, Vec<Error>)> {
    let mut infos = Vec::new();
    let mut errors = Vec::new();
    for manifest in manifest::read(files).await? {
        match typed(&manifest) {
            Ok((api_version, kind)) => {
                let ty = Arc::new(ResourceType::named(&api_version, &kind));
                let source = manifest.source;
                infos.push(Info {
                    source,
                    ..Info::of(&ty, manifest.object)
                });
            }
            Err(error) => errors.push(error),
        }
    }
    Ok((infos, errors))
}

/// Leaves what a label selector matches.
pub fn filter_by_labels(infos: &mut Vec<Info>, selector: &str) -> Result<()> {
    let selector = LabelSelector::parse(selector).map_err(|e| message(e.to_string()))?;
    infos.retain(|info| selector.matches(|key| info.object["metadata"]["labels"][key].as_str()));
    Ok(())
}

/// The `apiVersion` and the `kind` of an object.
fn typed(manifest: &Manifest) -> Result<(String, String)> {
    let Manifest { source, object } = manifest;
    let text = |field: &str| object[field].as_str().unwrap_or_default().to_owned();
    let (api_version, kind) = (text("apiVersion"), text("kind"));
    let missing: Vec<&str> = [
        (api_version.is_empty(), "apiVersion not set"),
        (kind.is_empty(), "kind not set"),
    ]
    .into_iter()
    .filter_map(|(is, what)| is.then_some(what))
    .collect();
    if !missing.is_empty() {
        let what = match &missing[..] {
            [one] => (*one).to_owned(),
            many => format!("[{}]", many.join(", ")),
        };
        return fail(format!(
            "error validating {}: error validating data: {what}; if you choose to ignore these errors, turn validation off with --validate=false",
            quote(source)
        ));
    }
    Ok((api_version, kind))
}

/// Finds the resource of an object, and puts it into its namespace.
pub async fn resolve(session: &Session, manifest: Manifest) -> Result<Info> {
    let (api_version, kind) = typed(&manifest)?;
    let Manifest { source, mut object } = manifest;
    let meta = |object: &Value, field: &str| object["metadata"][field].as_str().unwrap_or_default().to_owned();
    let (name, own) = (meta(&object, "name"), meta(&object, "namespace"));
    let Some(ty) = session.resources().await?.kind(&api_version, &kind) else {
        return fail(format!(
            "resource mapping not found for name: {} namespace: {} from {}: no matches for kind {} in version {}\nensure CRDs are installed first",
            quote(&name),
            quote(&own),
            quote(&source),
            quote(&kind),
            quote(&api_version)
        ));
    };
    let mut namespace = String::new();
    if ty.namespaced {
        namespace = session.namespace()?;
        if !own.is_empty() && own != namespace {
            if session.explicit_namespace() {
                return fail(format!(
                    "the namespace from the provided object {} does not match the namespace {}. You must pass '--namespace={own}' to perform this operation.",
                    quote(&own),
                    quote(&namespace)
                ));
            }
            namespace = own;
        }
        if !object["metadata"].is_object() {
            object["metadata"] = Value::Object(serde_json::Map::new());
        }
        object["metadata"]["namespace"] = Value::from(namespace.clone());
    }
    Ok(Info {
        ty,
        namespace,
        name,
        source,
        object,
    })
}
