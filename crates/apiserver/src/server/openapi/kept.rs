//! Documents that were made and are still right: making one takes a hundred times longer than handing it out.

use std::collections::HashMap;
use std::sync::Arc;

use tokio::sync::Mutex;

use crate::http::status::{ApiError, Result};
use crate::registry::Catalog;
use crate::server::ApiServer;
use crate::server::tagged::Tagged;

/// What documents are made of: what is served, the last change of the definitions of custom resources, and what other servers say.
type Basis = (Arc<Catalog>, u64, u64);

/// Documents by path and format, while what they are made of stays.
#[derive(Debug, Default)]
pub struct Kept(Mutex<(Option<Basis>, HashMap<String, Tagged>)>);

impl Kept {
    /// The document, made away from the threads that answer if nobody has asked for it before. Who asks for one that is being
    /// made waits for it.
    pub async fn get(
        &self,
        server: &Arc<ApiServer>,
        name: &str,
        make: impl FnOnce(&ApiServer, &Catalog) -> Result<Tagged> + Send + 'static,
    ) -> Result<Tagged> {
        let mut kept = self.0.lock().await;
        let catalog = server.registry.catalog();
        // before they are read: one that changes meanwhile makes the basis another
        let changed = catalog.changed("apiextensions.k8s.io", "customresourcedefinitions");
        let (basis, documents) = &mut *kept;
        let said = server.aggregator.changed();
        let same = |b: &Basis| Arc::ptr_eq(&b.0, &catalog) && (b.1, b.2) == (changed, said);
        if !basis.as_ref().is_some_and(same) {
            documents.clear();
            *basis = Some((catalog.clone(), changed, said));
        }
        if let Some(document) = documents.get(name) {
            return Ok(document.clone());
        }
        let server = server.clone();
        let made = tokio::task::spawn_blocking(move || make(&server, &catalog)).await;
        let made = made.map_err(ApiError::internal)??;
        documents.insert(name.to_owned(), made.clone());
        Ok(made)
    }

    /// Lets go of all of them.
    pub async fn clear(&self) {
        *self.0.lock().await = Default::default();
    }
}
