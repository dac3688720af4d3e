//! Manifests in `server/manifests` of the data directory and the folders in it are applied: at start, and whenever one changes.
//! A file `x.yaml` with a file `x.yaml.skip` beside it is left alone. Taking a file away deletes nothing.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use apiserver::registry::Registry;
use client::{Client, Patch};
use kubectl::manifest::{self, Manifest};
use kubelet::inotify::Watcher;
use serde_json::Value;
use tokio_util::sync::CancellationToken;

const MANAGER: &str = "skiff";
/// What cannot be applied yet (its kind or namespace is still to come) is tried again, less and less often.
const FIRST_DELAY: Duration = Duration::from_millis(200);
const LONGEST_DELAY: Duration = Duration::from_secs(60);

#[derive(Debug, thiserror::Error)]
enum ManifestError {
    #[error("cannot be read: {0}")]
    Read(#[from] std::io::Error),
    #[error("{0}")]
    Parse(String),
    #[error("no kind {kind:?} is served in version {api_version:?}")]
    Kind { api_version: String, kind: String },
    #[error("an object without metadata.name")]
    NoName,
    #[error(transparent)]
    Apply(#[from] client::Error),
}

/// Makes the directory if it is missing, and watches it.
pub fn watch(dir: &Path) -> std::io::Result<Watcher> {
    std::fs::create_dir_all(dir)?;
    let watcher = Watcher::new()?;
    watcher.watch_dir(dir)?;
    Ok(watcher)
}

/// Applies what is in the watched directory until `stop`.
pub async fn follow(registry: Arc<Registry>, client: Client, dir: PathBuf, watcher: Watcher, stop: CancellationToken) {
    let mut applied = HashMap::new();
    let mut delay = FIRST_DELAY;
    loop {
        let complete = apply_all(&registry, &client, &dir, &watcher, &mut applied).await;
        let again = async {
            match complete {
                true => std::future::pending().await,
                false => tokio::time::sleep(delay).await,
            }
        };
        tokio::select! {
            () = stop.cancelled() => return,
            changed = watcher.changed() => {
                if let Err(error) = changed {
                    tracing::error!(dir = %dir.display(), %error, "manifests are followed no longer");
                    return;
                }
                delay = FIRST_DELAY;
            }
            () = again => delay = (delay * 2).min(LONGEST_DELAY),
        }
    }
}

/// Applies every file whose text is not the one in `applied`; says whether all are.
async fn apply_all(
    registry: &Arc<Registry>,
    client: &Client,
    dir: &Path,
    watcher: &Watcher,
    applied: &mut HashMap<PathBuf, String>,
) -> bool {
    let mut complete = true;
    let files = match files(dir, watcher) {
        Ok(files) => files,
        Err(error) => {
            tracing::error!(dir = %dir.display(), %error, "manifests cannot be listed");
            return false;
        }
    };
    applied.retain(|path, _| files.contains(path));
    for path in files {
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) => {
                tracing::warn!(path = %path.display(), error = %ManifestError::Read(error), "not applied");
                complete = false;
                continue;
            }
        };
        if applied.get(&path) == Some(&text) {
            continue;
        }
        match apply_text(registry, client, &path, &text).await {
            Ok(()) => {
                applied.insert(path, text);
            }
            Err(error) => {
                tracing::warn!(path = %path.display(), %error, "not applied");
                complete = false;
            }
        }
    }
    complete
}

/// The manifests of a directory and the folders in it, by path. Each folder is watched before it is read, so that no
/// change is missed. Links to folders are not followed: they may lead back.
fn files(dir: &Path, watcher: &Watcher) -> std::io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut folders = vec![dir.to_owned()];
    while let Some(folder) = folders.pop() {
        let entries = watcher.watch_dir(&folder).and_then(|_| std::fs::read_dir(&folder));
        let entries = match entries {
            Ok(entries) => entries,
            // it has gone meanwhile, of which its parent tells
            Err(error) if error.kind() == std::io::ErrorKind::NotFound && folder != dir => continue,
            Err(error) => return Err(error),
        };
        for entry in entries {
            let entry = entry?;
            let path = entry.path();
            let known = path
                .extension()
                .is_some_and(|e| e == "yaml" || e == "yml" || e == "json");
            if entry.file_type()?.is_dir() {
                folders.push(path);
            } else if known && path.is_file() && !path.with_added_extension("skip").exists() {
                found.push(path);
            }
        }
    }
    found.sort();
    Ok(found)
}

/// Applies all objects of a text; the first error is returned when all have been tried.
async fn apply_text(registry: &Arc<Registry>, client: &Client, path: &Path, text: &str) -> Result<(), ManifestError> {
    let source = path.to_string_lossy();
    let objects = manifest::objects(&source, text).map_err(|e| ManifestError::Parse(e.to_string()))?;
    let mut first = None;
    for Manifest { object, .. } in objects {
        if let Err(error) = apply(registry, client, object).await {
            first.get_or_insert(error);
        }
    }
    first.map_or(Ok(()), Err)
}

async fn apply(registry: &Arc<Registry>, client: &Client, object: Value) -> Result<(), ManifestError> {
    let text = |pointer: &str| object.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
    let (api_version, kind, name) = (text("/apiVersion"), text("/kind"), text("/metadata/name"));
    if name.is_empty() {
        return Err(ManifestError::NoName);
    }
    let namespace = match text("/metadata/namespace") {
        "" => "default",
        namespace => namespace,
    };
    let catalog = registry.catalog();
    let resource = catalog
        .all()
        .map(|served| &served.resource)
        .find(|r| r.kind == kind && r.api_version() == api_version)
        .ok_or_else(|| ManifestError::Kind {
            api_version: api_version.to_owned(),
            kind: kind.to_owned(),
        })?;
    let group = if resource.group.is_empty() { "api" } else { "apis" };
    let place = match resource.namespaced {
        true => format!(
            "/{group}/{api_version}/namespaces/{namespace}/{}/{name}",
            resource.plural
        ),
        false => format!("/{group}/{api_version}/{}/{name}", resource.plural),
    };
    let patch = Patch::Apply {
        manager: MANAGER.into(),
        force: true,
        object,
    };
    client.patch_path::<Value>(&place, &patch).await?;
    Ok(())
}
