//! The file of `skiff dev up`: what a project needs of a cluster.

use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::DevError;
use super::record::{Port, PortError};

/// The file that is read unless another is named.
pub const DEFAULT: &str = "skiff-dev.yaml";

/// A cluster as a file describes it. Paths are relative to the file's folder.
#[derive(Debug, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct EnvFile {
    /// The cluster's name; the folder's unless given.
    #[serde(default)]
    pub name: Option<String>,
    #[serde(default)]
    pub nodes: Option<u8>,
    /// Ports of this machine that lead to the server, as `8080:30080`.
    #[serde(default)]
    ports: Vec<String>,
    /// Archives of images.
    #[serde(default)]
    images: Vec<PathBuf>,
    /// Manifests, or folders of them.
    #[serde(default)]
    manifests: Vec<PathBuf>,
    /// More flags of the server.
    #[serde(default)]
    pub server_args: Vec<String>,
    /// More flags of each node.
    #[serde(default)]
    pub node_args: Vec<String>,
    #[serde(skip)]
    path: PathBuf,
}

impl EnvFile {
    /// Reads the file.
    ///
    /// # Errors
    /// When it cannot be read or is none.
    pub fn load(path: &Path) -> Result<EnvFile, DevError> {
        let text = std::fs::read_to_string(path).map_err(DevError::at(path))?;
        let unfit = |why: String| DevError::EnvFile {
            path: path.to_owned(),
            why,
        };
        let mut file: EnvFile = serde_saphyr::from_str(&text).map_err(|e| unfit(e.to_string()))?;
        let path = std::path::absolute(path).map_err(DevError::at(path))?;
        file.path = path;
        Ok(file)
    }

    fn folder(&self) -> &Path {
        self.path.parent().unwrap_or(Path::new("/"))
    }

    /// The name of the cluster: the file's own, or that of its folder.
    pub fn name(&self) -> String {
        let folder = || {
            self.folder()
                .file_name()
                .unwrap_or_default()
                .to_string_lossy()
                .to_lowercase()
        };
        self.name.clone().unwrap_or_else(folder)
    }

    /// Ports of the machine that lead into the cluster.
    ///
    /// # Errors
    /// When one is not written as it should be.
    pub fn ports(&self) -> Result<Vec<Port>, DevError> {
        let read = self.ports.iter().map(|text| text.parse());
        read.collect::<Result<_, PortError>>().map_err(|why| DevError::EnvFile {
            path: self.path.clone(),
            why: why.to_string(),
        })
    }

    /// Archives of images that the nodes have, relative to the file's folder.
    pub fn images(&self) -> Vec<PathBuf> {
        self.images.iter().map(|path| self.folder().join(path)).collect()
    }

    /// The manifests; of a folder those of its files that are YAML or JSON.
    pub fn manifests(&self) -> Result<Vec<PathBuf>, DevError> {
        let mut files = Vec::new();
        for path in &self.manifests {
            let path = self.folder().join(path);
            if !path.is_dir() {
                files.push(path);
                continue;
            }
            let entries = std::fs::read_dir(&path).map_err(DevError::at(&path))?;
            let mut inside: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
            inside.retain(|file| {
                let kind = file.extension().and_then(|e| e.to_str());
                matches!(kind, Some("yaml" | "yml" | "json"))
            });
            inside.sort();
            files.extend(inside);
        }
        Ok(files)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_says_what_a_project_needs() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("Shop");
        std::fs::create_dir_all(folder.join("k8s")).unwrap();
        for name in ["b.yaml", "a.json", "README.md"] {
            std::fs::write(folder.join("k8s").join(name), "").unwrap();
        }
        let path = folder.join(DEFAULT);
        std::fs::write(
            &path,
            "nodes: 2\nports: ['8080:30080']\nimages: [web.tar]\nmanifests: [k8s, one.yaml]\n",
        )
        .unwrap();
        let file = EnvFile::load(&path).unwrap();
        assert_eq!((file.name().as_str(), file.nodes), ("shop", Some(2)));
        assert_eq!(file.ports().unwrap().len(), 1);
        assert_eq!(file.images(), [folder.join("web.tar")]);
        let k8s = folder.join("k8s");
        assert_eq!(
            file.manifests().unwrap(),
            [k8s.join("a.json"), k8s.join("b.yaml"), folder.join("one.yaml")]
        );
        std::fs::write(&path, "node: 2\n").unwrap();
        assert!(EnvFile::load(&path).unwrap_err().to_string().contains("node"));
    }
}
