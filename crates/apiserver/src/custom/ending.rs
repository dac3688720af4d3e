//! The end of a definition: its objects are deleted first, and those with finalizers hold it back.

use std::sync::Arc;

use serde_json::Value;

use crate::custom::{GROUP, PLURAL, definition};
use crate::http::status::Result;
use crate::kinds::apiextensions::custom_resource_definition::CLEANUP;
use crate::pipeline::Pipeline;
use crate::pipeline::delete::{DeleteOptions, Deleted};
use crate::pipeline::{Write, WriteOptions};
use crate::registry::cached::Cached;
use crate::registry::own::Own;
use crate::registry::resource::Resource;

/// Does what can be done now for a definition that is being deleted.
pub async fn advance(pipeline: &Arc<Pipeline>, object: &Cached) -> Result<()> {
    let meta = &object.object.meta;
    if !meta.finalizers.iter().any(|f| **f == *CLEANUP) {
        if meta.finalizers.is_empty() {
            deleted(pipeline, object).await;
        }
        return Ok(());
    }
    let tree = object.tree()?;
    let (group, plural) = names(&tree);
    // at start a definition on its way out is served yet, so that its objects can be freed
    if pipeline.registry.catalog().stored(&group, &plural).is_none()
        && let Ok(resources) = definition::compile(&tree, &pipeline.registry)
    {
        pipeline.registry.serve(resources).await?;
    }
    if clear(pipeline, &group, &plural).await? && release(pipeline, &meta.name).await? {
        deleted(pipeline, object).await;
    }
    Ok(())
}

/// A custom object is gone: its definition may have waited for it.
pub async fn object_gone(pipeline: &Arc<Pipeline>, resource: &Resource) -> Result<()> {
    let name = format!("{}.{}", resource.plural, resource.group);
    match pipeline.registry.get(GROUP, PLURAL, "", &name) {
        Some(definition) if definition.object.meta.deleting => advance(pipeline, &definition).await,
        _ => Ok(()),
    }
}

fn names(tree: &Value) -> (String, String) {
    let text = |path: &str| tree.pointer(path).and_then(Value::as_str).unwrap_or_default();
    (text("/spec/group").into(), text("/spec/names/plural").into())
}

/// Deletes the objects of a resource; `false` when some wait for finalizers.
async fn clear(pipeline: &Arc<Pipeline>, group: &str, plural: &str) -> Result<bool> {
    let catalog = pipeline.registry.catalog();
    let Some(served) = catalog.stored(group, plural) else {
        return Ok(true);
    };
    // their definition's end is decided: nobody is asked of each
    let options = WriteOptions {
        admitted: true,
        ..WriteOptions::own("")
    };
    for object in served.cache.list("").items {
        let meta = &object.object.meta;
        if meta.deleting {
            continue;
        }
        let write = Write {
            pipeline,
            served,
            namespace: &meta.namespace,
            options: &options,
        };
        match write.delete(&meta.name, &DeleteOptions::default()).await {
            Ok(Deleted::Now(_) | Deleted::Later(_)) => {}
            // somebody else deleted it first
            Err(error) if error.reason == "NotFound" => {}
            Err(error) => return Err(error),
        }
    }
    Ok(served.cache.is_empty())
}

/// Takes the finalizer off; whether the definition is gone then.
async fn release(pipeline: &Arc<Pipeline>, name: &str) -> Result<bool> {
    let definition = Own {
        registry: &pipeline.registry,
        group: GROUP,
        plural: PLURAL,
        namespace: "",
        name,
        options: WriteOptions::own(""),
    };
    let left = definition.swap(|tree| {
        let list = tree.pointer_mut("/metadata/finalizers").and_then(Value::as_array_mut);
        if let Some(list) = list {
            list.retain(|f| f != CLEANUP);
        }
        Ok(())
    });
    Ok(left.await?.is_none())
}

/// Stops serving a definition that is gone, and leaves nothing of its objects.
pub async fn deleted(pipeline: &Arc<Pipeline>, object: &Cached) {
    let Ok(tree) = object.tree() else { return };
    let (group, plural) = names(&tree);
    let prefix = definition::prefix(&group, &plural);
    let rest = etcd::Txn {
        success: vec![etcd::Op::Delete(etcd::KeyRange::prefix(prefix.as_bytes()))],
        ..etcd::Txn::default()
    };
    if let Err(error) = pipeline.registry.store.txn(rest).await {
        tracing::error!(%error, %group, %plural, "objects of a deleted definition remain");
    }
    pipeline.registry.withdraw(&group, &plural).await;
    if let Err(error) = crate::api_services::sync(pipeline, &group).await {
        tracing::error!(%error, %group, "the APIServices of a deleted definition remain");
    }
}
