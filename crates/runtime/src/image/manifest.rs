//! The documents that describe an image: index, manifest, configuration. OCI and Docker name the same fields alike.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// A reference to a blob or manifest, as OCI's image specification has it.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Descriptor {
    /// What the content claims to be. Registries are often wrong about layers.
    #[serde(default)]
    pub media_type: String,
    /// The content's digest, as `sha256:` and 64 hexadecimal digits.
    pub digest: String,
    /// The content's bytes as they come.
    #[serde(default)]
    pub size: u64,
    /// In an index, the machine the manifest is for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub platform: Option<Platform>,
    /// Annotations of OCI, as `org.opencontainers.image.ref.name` in the index of an archive.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub annotations: Option<BTreeMap<String, String>>,
}

/// The machine an image is for, by Go's names.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Platform {
    /// `amd64`, `arm64` and so on.
    #[serde(default)]
    pub architecture: String,
    /// `linux`, `windows` and so on.
    #[serde(default)]
    pub os: String,
    /// `v7` of `arm` and the like, or empty.
    #[serde(default)]
    pub variant: String,
}

/// An index or a manifest: only one of the two has `manifests`.
#[derive(Debug, Clone, Default, Deserialize)]
pub struct Document {
    /// Of an index: the manifests to choose from.
    #[serde(default)]
    pub manifests: Option<Vec<Descriptor>>,
    /// Of a manifest: the image's configuration.
    #[serde(default)]
    pub config: Option<Descriptor>,
    /// Of a manifest: the layers, lowest first.
    #[serde(default)]
    pub layers: Vec<Descriptor>,
}

impl Document {
    /// Bytes of a manifest of so many with all that it names, as they come.
    pub fn size(&self, manifest: usize) -> u64 {
        let parts = self.layers.iter().chain(&self.config).map(|d| d.size);
        parts.fold(manifest as u64, u64::saturating_add)
    }
}

/// What an image says about the containers made of it.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Settings {
    /// `USER`: name or number, with `:group` or without; empty is root.
    pub user: String,
    /// `NAME=value`.
    #[serde(deserialize_with = "or_default")]
    pub env: Vec<String>,
    /// `ENTRYPOINT`, which a container's `command` replaces.
    #[serde(deserialize_with = "or_default")]
    pub entrypoint: Vec<String>,
    /// `CMD`, which a container's `args` replace.
    #[serde(deserialize_with = "or_default")]
    pub cmd: Vec<String>,
    /// `WORKDIR`, or empty for `/`.
    pub working_dir: String,
    /// `STOPSIGNAL` by name or number, or empty for `SIGTERM`.
    pub stop_signal: String,
    /// Paths where data is expected; the values say nothing.
    #[serde(deserialize_with = "or_default")]
    pub volumes: BTreeMap<String, serde_json::Value>,
    /// `LABEL`.
    #[serde(deserialize_with = "or_default")]
    pub labels: BTreeMap<String, String>,
}

fn or_default<'de, D: serde::Deserializer<'de>, T: Deserialize<'de> + Default>(d: D) -> Result<T, D::Error> {
    Ok(Option::<T>::deserialize(d)?.unwrap_or_default())
}

/// An image's configuration document, as far as a runtime reads it.
#[derive(Debug, Clone, Default, Deserialize)]
pub struct Configuration {
    /// The machine the image is for, by Go's name.
    #[serde(default)]
    pub architecture: String,
    /// The system the image is for.
    #[serde(default)]
    pub os: String,
    /// What containers of the image start with.
    #[serde(default, deserialize_with = "or_default")]
    pub config: Settings,
    /// What the layers contain.
    #[serde(default)]
    pub rootfs: RootFs,
}

/// The layers of an image by their content.
#[derive(Debug, Clone, Default, Deserialize)]
pub struct RootFs {
    /// Digests of the layers' uncompressed archives, lowest first.
    #[serde(default)]
    pub diff_ids: Vec<String>,
}

/// This machine's name in images.
pub fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

/// The manifest of an index that fits this machine.
pub fn choose(manifests: &[Descriptor]) -> Option<&Descriptor> {
    let fits = |d: &&Descriptor| {
        d.platform
            .as_ref()
            .is_some_and(|p| p.os == "linux" && p.architecture == architecture())
    };
    let unnamed = |d: &&Descriptor| {
        d.platform
            .as_ref()
            .is_none_or(|p| p.os.is_empty() && p.architecture.is_empty())
    };
    manifests.iter().find(fits).or_else(|| manifests.iter().find(unnamed))
}
