//! Who counts anything in this process.

use std::sync::{Arc, Mutex, PoisonError};

use crate::page::Page;

/// Somebody who counts.
pub trait Source: Send + Sync {
    /// Writes what was counted so far.
    fn show(&self, page: &mut Page);
}

/// The owners of all that a page shows. Cheap to clone.
#[derive(Clone, Default)]
pub struct Registry {
    sources: Arc<Mutex<Vec<Arc<dyn Source>>>>,
}

impl std::fmt::Debug for Registry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let sources = self.sources.lock().unwrap_or_else(PoisonError::into_inner);
        f.debug_struct("Registry").field("sources", &sources.len()).finish()
    }
}

impl Registry {
    /// Adds somebody whose metrics every page shows from now on. Nobody is removed again.
    pub fn add(&self, source: Arc<dyn Source>) {
        self.sources.lock().unwrap_or_else(PoisonError::into_inner).push(source);
    }

    /// Writes what all have counted so far.
    pub fn show(&self, page: &mut Page) {
        let sources = self.sources.lock().unwrap_or_else(PoisonError::into_inner).clone();
        for source in sources {
            source.show(page);
        }
    }
}
