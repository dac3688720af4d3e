//! NamespaceAutoProvision: a namespace is made for the first object in it.

use std::sync::{Arc, OnceLock, Weak};

use serde_json::{Value, json};

use crate::admission::{Attributes, Later, Operation, Passes, Plugin};
use crate::http::status::{ApiError, Result};
use crate::pipeline::{Origin, Pipeline, Write, WriteOptions};

/// Makes namespaces.
pub struct NamespaceAutoProvision {
    pipeline: Arc<OnceLock<Weak<Pipeline>>>,
}

impl NamespaceAutoProvision {
    /// It writes by this pipeline once that is there.
    pub fn new(pipeline: &Arc<OnceLock<Weak<Pipeline>>>) -> NamespaceAutoProvision {
        let pipeline = pipeline.clone();
        NamespaceAutoProvision { pipeline }
    }

    async fn provide(&self, asked: &Attributes<'_>, tree: &Value) -> Result<()> {
        let pipeline = self.pipeline.get().and_then(Weak::upgrade);
        let pipeline = pipeline.ok_or_else(|| asked.refuse(tree, "not yet ready to handle request"))?;
        let catalog = pipeline.registry.catalog();
        let served = catalog
            .stored("", "namespaces")
            .ok_or_else(|| ApiError::internal("namespaces are not served"))?;
        let mut namespace = json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": asked.namespace } });
        served.resource.set_defaults(&mut namespace);
        let options = WriteOptions::own("");
        let write = Write {
            pipeline: &pipeline,
            served,
            namespace: "",
            options: &options,
        };
        match write.create(namespace, Origin::Post).await {
            Err(error) if error.reason != "AlreadyExists" => Err(asked.refuse(tree, &error.message)),
            _ => Ok(()),
        }
    }
}

impl Plugin for NamespaceAutoProvision {
    fn handles(&self, asked: &Attributes<'_>) -> bool {
        asked.operation == Operation::Create
            && !asked.dry_run
            && !asked.namespace.is_empty()
            && !asked.resource.is("", "namespaces")
            && asked.registry.get("", "namespaces", "", asked.namespace).is_none()
    }

    fn change<'a>(
        &'a self,
        asked: &'a Attributes<'_>,
        _: &'a mut Passes,
        tree: &'a mut Value,
        _: Option<&'a Value>,
    ) -> Option<Later<'a, ()>> {
        Some(Box::pin(self.provide(asked, tree)))
    }
}
