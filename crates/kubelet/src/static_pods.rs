//! Pods from manifest files of a directory, read again whenever the directory changes.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use api::schema::Document;
use k8s_openapi::api::core::v1::{Pod, Toleration};
use sha2::Digest;
use tokio::sync::mpsc;
use tokio_util::task::AbortOnDropHandle;

use crate::config::KubeletConfig;
use crate::inotify::Watcher;
use crate::pod::{HASH_ANNOTATION, SEEN_ANNOTATION, SOURCE_ANNOTATION};

/// Why a file is no static pod.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ManifestError {
    #[error(transparent)]
    Read(#[from] std::io::Error),
    #[error("{0}")]
    Parse(String),
    #[error("expected v1 Pod, got {0} {1}")]
    Kind(String, String),
    #[error("the pod has no metadata.name")]
    NoName,
}

/// The directory's pods by `namespace/name`: now, and after each change. The second value keeps it going.
pub fn follow(
    config: &KubeletConfig,
) -> (
    mpsc::UnboundedReceiver<BTreeMap<String, Pod>>,
    Option<AbortOnDropHandle<()>>,
) {
    let (sender, receiver) = mpsc::unbounded_channel();
    let Some(dir) = config.static_pod_path.clone() else {
        return (receiver, None);
    };
    let node = config.node_name.clone();
    let task = tokio::spawn(async move {
        loop {
            if let Err(error) = watch(&dir, &node, &sender).await {
                tracing::warn!(dir = %dir.display(), %error, "static pods are not followed; trying again");
            }
            if sender.is_closed() {
                return;
            }
            tokio::time::sleep(Duration::from_secs(20)).await;
        }
    });
    (receiver, Some(AbortOnDropHandle::new(task)))
}

async fn watch(dir: &Path, node: &str, sender: &mpsc::UnboundedSender<BTreeMap<String, Pod>>) -> std::io::Result<()> {
    std::fs::create_dir_all(dir)?;
    let watcher = Watcher::new()?;
    watcher.watch_dir(dir)?;
    loop {
        if sender.send(read_dir(dir, node)?).is_err() {
            return Ok(());
        }
        watcher.changed().await?;
    }
}

fn read_dir(dir: &Path, node: &str) -> std::io::Result<BTreeMap<String, Pod>> {
    let mut paths: Vec<PathBuf> = std::fs::read_dir(dir)?
        .map(|e| e.map(|e| e.path()))
        .collect::<Result<_, _>>()?;
    paths.sort();
    let mut pods = BTreeMap::new();
    for path in paths.iter().filter(|p| p.is_file()) {
        // Editors' and installers' temporary files begin with a dot.
        if path.file_name().is_some_and(|n| n.to_string_lossy().starts_with('.')) {
            continue;
        }
        match std::fs::read_to_string(path)
            .map_err(ManifestError::from)
            .and_then(|text| parse(&text, node))
        {
            Ok((key, mut pod)) => {
                let annotations = pod.metadata.annotations.get_or_insert_default();
                annotations.insert(SEEN_ANNOTATION.to_owned(), jiff::Timestamp::now().to_string());
                pods.insert(key, pod);
            }
            Err(error) => tracing::error!(path = %path.display(), %error, "not a static pod"),
        }
    }
    Ok(pods)
}

pub(crate) fn parse(text: &str, node: &str) -> Result<(String, Pod), ManifestError> {
    let read = Document::from_yaml(text.as_bytes()).map_err(|e| ManifestError::Parse(e.to_string()))?;
    let value = read.value;
    let field = |name: &str| value[name].as_str().unwrap_or_default().to_owned();
    if (field("apiVersion").as_str(), field("kind").as_str()) != ("v1", "Pod") {
        return Err(ManifestError::Kind(field("apiVersion"), field("kind")));
    }
    let mut pod: Pod = serde_json::from_value(value).map_err(|e| ManifestError::Parse(e.to_string()))?;
    let name = pod
        .metadata
        .name
        .clone()
        .filter(|n| !n.is_empty())
        .ok_or(ManifestError::NoName)?;
    let name = format!("{name}-{node}");
    let namespace = pod.metadata.namespace.clone().unwrap_or_else(|| "default".to_owned());
    let digest = sha2::Sha256::digest(format!("{node}\n{text}").as_bytes());
    let uid: String = digest.iter().take(16).map(|b| format!("{b:02x}")).collect();
    pod.metadata.name = Some(name.clone());
    pod.metadata.namespace = Some(namespace.clone());
    pod.metadata.uid = Some(uid.clone());
    let annotations = pod.metadata.annotations.get_or_insert_default();
    annotations.insert(SOURCE_ANNOTATION.to_owned(), "file".to_owned());
    annotations.insert(HASH_ANNOTATION.to_owned(), uid);
    let spec = pod.spec.get_or_insert_default();
    spec.node_name = Some(node.to_owned());
    // A static pod stays whatever happens to the node.
    spec.tolerations.get_or_insert_default().push(Toleration {
        operator: Some("Exists".to_owned()),
        effect: Some("NoExecute".to_owned()),
        ..Toleration::default()
    });
    pod.status = None;
    Ok((format!("{namespace}/{name}"), pod))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_manifest_gets_the_nodes_name_and_an_identity_of_its_content() {
        let text = "apiVersion: v1\nkind: Pod\nmetadata: {name: a}\nspec: {containers: [{name: c, image: x}]}\n";
        let (key, pod) = parse(text, "n1").unwrap();
        assert_eq!(key, "default/a-n1");
        assert_eq!(parse(text, "n1").unwrap().1.metadata.uid, pod.metadata.uid);
        assert_ne!(
            parse(&format!("{text}# x"), "n1").unwrap().1.metadata.uid,
            pod.metadata.uid
        );
        assert!(parse("kind: Job", "n1").is_err());
    }
}
