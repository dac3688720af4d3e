//! Results of ADD on disk, one file an attachment, in libcni's layout: `results/<network>-<container>-<ifname>`.

use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::{Map, Value};

use crate::types::Error;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Entry {
    pub kind: String,
    pub container_id: String,
    /// libcni keeps the configuration as base64.
    #[serde(serialize_with = "to_base64", deserialize_with = "from_base64")]
    pub config: Value,
    pub if_name: String,
    pub network_name: String,
    #[serde(default)]
    pub netns: PathBuf,
    #[serde(default)]
    pub cni_args: Vec<(String, String)>,
    #[serde(default)]
    pub capability_args: Map<String, Value>,
    pub result: Value,
}

fn to_base64<S: Serializer>(value: &Value, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&STANDARD.encode(value.to_string()))
}

fn from_base64<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Value, D::Error> {
    use serde::de::Error;
    let text = String::deserialize(deserializer)?;
    let bytes = STANDARD.decode(text).map_err(D::Error::custom)?;
    serde_json::from_slice(&bytes).map_err(D::Error::custom)
}

pub(crate) struct Cache {
    dir: PathBuf,
}

impl Cache {
    pub(crate) fn new(dir: &Path) -> Cache {
        Cache {
            dir: dir.join("results"),
        }
    }

    pub(crate) fn path(&self, entry: &Entry) -> PathBuf {
        let name = format!("{}-{}-{}", entry.network_name, entry.container_id, entry.if_name);
        self.dir.join(name)
    }

    pub(crate) fn save(&self, entry: &Entry) -> Result<(), Error> {
        let path = self.path(entry);
        let write = || {
            std::fs::create_dir_all(&self.dir)?;
            files::replace_own(&path, &serde_json::to_vec(entry)?)
        };
        write().map_err(|source| failed(&path, source))
    }

    pub(crate) fn remove(&self, entry: &Entry) -> Result<(), Error> {
        let path = self.path(entry);
        match std::fs::remove_file(&path) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(failed(&path, e)),
            _ => Ok(()),
        }
    }

    pub(crate) fn of_container(&self, id: &str) -> Result<Vec<Entry>, Error> {
        let mut entries = self.named(&format!("-{id}-"))?;
        entries.retain(|e| e.container_id == id);
        Ok(entries)
    }

    pub(crate) fn all(&self) -> Result<Vec<Entry>, Error> {
        self.named("")
    }

    /// Attachments whose file's name has this part. A file that cannot be read as one is reported and passed over.
    fn named(&self, part: &str) -> Result<Vec<Entry>, Error> {
        let files = match std::fs::read_dir(&self.dir) {
            Ok(files) => files,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(e) => return Err(failed(&self.dir, e)),
        };
        let mut entries = Vec::new();
        for file in files {
            let path = file.map_err(|e| failed(&self.dir, e))?.path();
            let name = path.file_name().map(|n| n.to_string_lossy()).unwrap_or_default();
            if name.ends_with(".new") || !name.contains(part) {
                continue;
            }
            let bytes = match std::fs::read(&path) {
                Ok(bytes) => bytes,
                Err(e) if e.kind() == std::io::ErrorKind::NotFound => continue,
                Err(e) => return Err(failed(&path, e)),
            };
            match serde_json::from_slice(&bytes) {
                Ok(entry) => entries.push(entry),
                Err(e) => tracing::warn!("cached network result {}: {e}", path.display()),
            }
        }
        Ok(entries)
    }
}

fn failed(path: &Path, source: std::io::Error) -> Error {
    Error::Cache {
        path: path.display().to_string(),
        source,
    }
}
