//! Contexts of clusters of `skiff dev` in the user's kubeconfig.

use std::path::{Path, PathBuf};
use std::process::Command;

use client::{Config, Kubeconfig};

use super::DevError;
use super::record::Record;

/// The file that `kubectl` would change.
fn target() -> Result<PathBuf, DevError> {
    let set = std::env::var_os("KUBECONFIG").filter(|set| !set.is_empty());
    if let Some(set) = set
        && let Some(first) = std::env::split_paths(&set).find(|path| !path.as_os_str().is_empty())
    {
        return Ok(first);
    }
    let home = std::env::var_os("HOME").filter(|home| !home.is_empty());
    home.map(|home| Path::new(&home).join(".kube/config"))
        .ok_or(DevError::NoHome)
}

/// `skiff kubectl config` over these files, the first of which is changed.
fn config(files: &[&Path], words: &[&str]) -> Result<String, DevError> {
    let program = std::env::current_exe().map_err(DevError::at(Path::new("/proc/self/exe")))?;
    let joined = std::env::join_paths(files).map_err(|e| DevError::Kubeconfig(e.to_string()))?;
    let output = Command::new(program)
        .args(["kubectl", "config"])
        .args(words)
        .env("KUBECONFIG", joined)
        .output()
        .map_err(DevError::at(Path::new("/proc/self/exe")))?;
    match output.status.success() {
        true => Ok(String::from_utf8_lossy(&output.stdout).into_owned()),
        false => Err(DevError::Kubeconfig(
            String::from_utf8_lossy(&output.stderr).trim().to_owned(),
        )),
    }
}

/// The way to a cluster as its administrator, from this machine.
pub fn way(record: &Record, home: &Path) -> Result<Config, DevError> {
    let path = record.data_dir(home, 0).join("server/cred/admin.kubeconfig");
    let mut config = Kubeconfig::load(path)?.config(None)?;
    config.server = record.url();
    Ok(config)
}

/// The administrator's kubeconfig of a cluster, for this machine.
pub fn kubeconfig(record: &Record, home: &Path) -> Result<String, DevError> {
    let tls = way(record, home)?.tls;
    let text = |pem: Option<Vec<u8>>| {
        let text = pem.and_then(|pem| String::from_utf8(pem).ok());
        text.ok_or_else(|| DevError::Kubeconfig("the server's own has no certificates".into()))
    };
    let (authority, certificate, key) = (text(tls.ca_pem)?, text(tls.cert_pem)?, text(tls.key_pem)?);
    Ok(pki::kubeconfig(
        &record.context(),
        &record.url(),
        &authority,
        &certificate,
        &key,
    ))
}

/// Adds the cluster's context to the user's kubeconfig, and makes it the current one; returns where that is.
pub fn add(record: &Record, home: &Path) -> Result<PathBuf, DevError> {
    let target = target()?;
    remove(record)?;
    let made = record.folder(home).join("kubeconfig");
    pki::write_file(&made, kubeconfig(record, home)?.as_bytes(), 0o600)?;
    let merged = match target.exists() {
        true => config(&[&target, &made], &["view", "--flatten", "--raw"])?,
        false => config(&[&made], &["view", "--raw"])?,
    };
    if let Some(folder) = target.parent() {
        std::fs::create_dir_all(folder).map_err(DevError::at(folder))?;
    }
    pki::write_file(&target, merged.as_bytes(), 0o600)?;
    config(&[&target], &["use-context", &record.context()])?;
    Ok(target)
}

/// Takes the cluster's context out of the user's kubeconfig.
pub fn remove(record: &Record) -> Result<(), DevError> {
    let target = target()?;
    if !target.exists() {
        return Ok(());
    }
    let name = record.context();
    let there = |list: String| list.lines().any(|line| line.trim() == name);
    if there(config(&[&target], &["get-contexts", "-o", "name"])?) {
        let current = config(&[&target], &["view", "-o", "jsonpath={.current-context}"])?;
        config(&[&target], &["delete-context", &name])?;
        if current.trim() == name {
            config(&[&target], &["unset", "current-context"])?;
        }
    }
    if there(config(&[&target], &["get-clusters"])?) {
        config(&[&target], &["delete-cluster", &name])?;
    }
    if there(config(&[&target], &["get-users"])?) {
        config(&[&target], &["delete-user", &name])?;
    }
    Ok(())
}
