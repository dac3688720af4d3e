//! After a start: pods whose shims still run are taken up again, what ended meanwhile is learnt, what was half-made or
//! half-removed is cleared away.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use super::connection::Connection;
use super::container::Container;
use super::error::{Result, at};
use super::sandbox::{self, Sandbox};
use super::{Runtime, network};
use crate::shim::message::{Call, ContainerState};

fn entries(dir: &Path) -> Result<Vec<(String, std::path::PathBuf)>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).map_err(at(dir))? {
        let entry = entry.map_err(at(dir))?;
        found.push((entry.file_name().to_string_lossy().into_owned(), entry.path()));
    }
    Ok(found)
}

/// What cannot be removed now is left for the next start: it must not keep the runtime from running.
fn remove(path: &Path) {
    tracing::info!(path = %path.display(), "clear away what was not finished");
    if let Err(error) = files::remove_tree(path) {
        tracing::warn!(path = %path.display(), %error, "not cleared away");
    }
}

pub(crate) async fn restore(runtime: &Arc<Runtime>) -> Result<()> {
    let root = &runtime.config.root;
    let (mut half_made, mut whole) = (Vec::new(), Vec::new());
    for (id, path) in entries(&root.join("sandboxes"))? {
        let Some(record) = Sandbox::load(&path).filter(|r| r.id == id) else {
            remove(&path);
            continue;
        };
        let made = record.made;
        let sandbox = Arc::new(Sandbox::new(runtime, record));
        runtime.restore_sandbox(&sandbox);
        if made { &mut whole } else { &mut half_made }.push(sandbox);
    }
    for (id, path) in entries(&root.join("containers"))? {
        match Container::load(&path).filter(|r| r.id == id) {
            Some(record) if runtime.sandbox(&record.sandbox_id).is_ok() => {
                runtime.restore_container(&Arc::new(Container::new(runtime, record)));
            }
            _ => remove(&path),
        }
    }
    for sandbox in half_made {
        // Its shim may run already, or be about to.
        if let Err(error) = sandbox::started(&sandbox.shim_dir).await {
            tracing::warn!(sandbox = sandbox.id, %error, "start of a sandbox that was not finished");
        }
        if let Err(error) = sandbox::connect(runtime, &sandbox) {
            tracing::debug!(sandbox = sandbox.id, %error, "no shim of a sandbox that was not finished");
        }
        sandbox::clear(runtime, &sandbox).await;
    }
    for sandbox in whole {
        if sandbox.is_ready() {
            take_up(runtime, &sandbox).await;
        }
    }
    let known: Vec<_> = runtime.sandboxes().iter().map(|s| s.shim_dir.clone()).collect();
    for (_, path) in entries(&runtime.config.state)? {
        if path.is_dir()
            && !known.contains(&path)
            && let Err(error) = abandon(&path).await
        {
            tracing::warn!(path = %path.display(), %error, "shim without a sandbox");
        }
    }
    network::collect(runtime).await;
    Ok(())
}

/// A shim's directory without a sandbox: its shim, if there is one, is told to leave.
async fn abandon(path: &Path) -> Result<()> {
    sandbox::started(path).await?;
    if let Ok(shim) = Connection::open(path, |_| {}) {
        if let Err(error) = shim.call(Call::Shutdown, &[]).await {
            tracing::debug!(path = %path.display(), %error, "shutdown of a shim without a sandbox");
        }
        shim.closed().await;
    }
    crate::shim::destroy(path);
    remove(path);
    Ok(())
}

/// Connects to a sandbox's shim and compares what it says with what is known.
async fn take_up(runtime: &Runtime, sandbox: &Sandbox) {
    let state = match sandbox::connect(runtime, sandbox).and_then(|()| sandbox.shim()) {
        Ok(shim) => shim.call(Call::State, &[]).await,
        Err(error) => Err(error),
    };
    let mut there: HashMap<String, ContainerState> = match state {
        Ok((answer, _)) => answer.containers.into_iter().map(|c| (c.id.clone(), c)).collect(),
        Err(error) => {
            tracing::warn!(sandbox = sandbox.id, %error, "the sandbox's shim is gone");
            sandbox.set_shim(None);
            runtime.sandbox_lost(sandbox);
            return;
        }
    };
    for container in runtime.containers_of(&sandbox.id) {
        let Some(state) = there.remove(&container.id) else {
            if container.is_running()
                && let Err(error) = container.lost("the container is not known to its shim")
            {
                tracing::error!(container = container.id, %error, "end of the container is not on disk");
            }
            continue;
        };
        // Its start was asked for and not answered before the end of the daemon.
        if container.with(|r| r.started_at == 0) {
            let started = container.update(|r| {
                r.pid = state.pid;
                r.started_at = state.started_at;
            });
            if let Err(error) = started {
                tracing::error!(container = container.id, %error, "start of the container is not on disk");
            }
        }
        if let Some(exit) = state.exit {
            runtime.container_exited(&container, &exit);
        }
    }
}
