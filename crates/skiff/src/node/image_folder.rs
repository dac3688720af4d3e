//! The folder of image archives while the node runs: what is put there is imported.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use kubelet::inotify::Watcher;
use runtime::Runtime;
use tokio_util::sync::CancellationToken;

/// Size and time of an archive: the same ones mean the same archive.
type Look = (u64, SystemTime);

fn archives(dir: &Path) -> std::io::Result<HashMap<PathBuf, Look>> {
    let mut found = HashMap::new();
    for entry in std::fs::read_dir(dir)? {
        let path = entry?.path();
        if !runtime::is_archive(&path) {
            continue;
        }
        // One that went away meanwhile is none.
        if let Ok(meta) = std::fs::metadata(&path) {
            found.insert(path, (meta.len(), meta.modified()?));
        }
    }
    Ok(found)
}

/// Imports archives that appear or change, until `stop`. Those that are there already were imported at the start. One that
/// is being copied in fails until it is whole: its last write tells that it is.
pub async fn follow(runtime: Arc<Runtime>, dir: PathBuf, stop: CancellationToken) {
    let outcome = tokio::select! {
        outcome = watch(&runtime, &dir) => outcome,
        () = stop.cancelled() => return,
    };
    if let Err(error) = outcome {
        tracing::error!(path = %dir.display(), %error, "new archives of images are not seen any more");
    }
}

async fn watch(runtime: &Runtime, dir: &Path) -> std::io::Result<()> {
    let watcher = Watcher::new()?;
    watcher.watch_dir(dir)?;
    let mut known = archives(dir)?;
    loop {
        watcher.changed().await?;
        let mut now = archives(dir)?;
        let fresh = now.iter().filter(|(path, look)| known.get(*path) != Some(look));
        let mut fresh: Vec<PathBuf> = fresh.map(|(path, _)| path.clone()).collect();
        fresh.sort();
        for path in fresh {
            match runtime.import(&path).await {
                Ok(images) => tracing::info!(path = %path.display(), count = images.len(), "imported images"),
                Err(error) => {
                    tracing::warn!(path = %path.display(), %error, "import of images failed");
                    now.remove(&path);
                }
            }
        }
        known = now;
    }
}
