//! Kustomizations: objects of files, changed as a `kustomization.yaml` says. The order of steps and the names of what is changed are
//! those of kustomize v5 (`api/internal/target`). What is not built is refused.

mod change;
mod fields;
mod file;
mod generate;
mod merge;
mod names;
mod order;
mod patch;
mod references;
mod resource;
mod tables;
mod target;

pub(crate) use names::hash;

use std::path::Path;

use serde_json::Value;

use crate::error::Result;

/// The version whose behaviour this is.
pub const VERSION: &str = "v5.8.1";

/// In which order objects come out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Order {
    /// As they were read.
    Read,
    /// By kinds, where the file does not ask for another.
    Kinds,
}

/// Builds the objects of a directory. `warn` is told of fields that are deprecated.
///
/// # Errors
/// When a file cannot be read or understood, and for what is not built.
pub fn build(dir: &Path, warn: &mut dyn FnMut(&str)) -> Result<Vec<Value>> {
    let mut resources = target::accumulate(dir, warn)?;
    names::add_hashes(&mut resources)?;
    references::fix(&mut resources)?;
    let order = target::order(dir)?.unwrap_or(Order::Kinds);
    if order == Order::Kinds {
        order::by_kinds(&mut resources);
    }
    let is_local = |object: &Value| {
        let mark = &object["metadata"]["annotations"]["config.kubernetes.io/local-config"];
        mark.as_str().is_some_and(|mark| mark != "false")
    };
    let objects = resources.into_iter().map(|resource| resource.object);
    Ok(objects.filter(|object| !is_local(object)).collect())
}

#[cfg(test)]
mod tests;
