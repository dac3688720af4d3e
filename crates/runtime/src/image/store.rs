//! The images of a node: one index file, layers as directories with short names.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::manifest::{Configuration, Settings};
use super::reference::Reference;
use super::unpack::{self, UnpackError, digest_of};

/// A broken-off download may be resumed for so long.
const STALE: Duration = Duration::from_secs(24 * 60 * 60);

/// Why the store cannot do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The disk, or the index on it.
    #[error("{path}: {error}")]
    Io {
        /// The file or directory.
        path: String,
        /// What the system says.
        error: io::Error,
    },
    /// A layer cannot be unpacked.
    #[error("layer {layer}: {error}")]
    Layer {
        /// The digest of its uncompressed archive.
        layer: String,
        /// Why not.
        error: UnpackError,
    },
    /// An image or archive is not as the specifications have it.
    #[error("image {image}: {text}")]
    Image {
        /// What the fault is in: an image's name or a document.
        image: String,
        /// What is wrong.
        text: String,
    },
}

pub(crate) fn at(path: &Path) -> impl FnOnce(io::Error) -> StoreError {
    let path = path.display().to_string();
    move |error| StoreError::Io { path, error }
}

/// An image that can be run.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Image {
    /// Digest of its configuration.
    pub id: String,
    /// Full names with a tag.
    pub tags: Vec<String>,
    /// Full names with a digest.
    pub digests: Vec<String>,
    /// Bytes of its manifest, configuration and layers as they come; of its layers' content where that is not known.
    pub size: u64,
    /// Names below the layer directory, topmost first.
    pub layers: Vec<String>,
    /// What containers of the image start with.
    pub settings: Settings,
    /// Nobody but a client who names it removes it: what comes from an archive may be in no registry.
    #[serde(default)]
    pub pinned: bool,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Layer {
    name: String,
    size: u64,
    #[serde(default)]
    inodes: u64,
}

#[derive(Debug, Default, Serialize, Deserialize)]
struct Index {
    images: BTreeMap<String, Image>,
    /// By chain id: a layer together with those below.
    layers: BTreeMap<String, Layer>,
    next: u64,
}

/// The images of a node, on its disk. One process at a time may have it open.
#[derive(Debug)]
pub struct ImageStore {
    root: PathBuf,
    index: Mutex<Index>,
    /// Chain ids of layers being unpacked: two pulls of the same layer do it once.
    unpacking: Mutex<BTreeSet<String>>,
    unpacked: Condvar,
    /// Names of layers that an image on its way stands on, once for each.
    pinned: Mutex<Vec<String>>,
}

/// Layers that are not to be removed although no image has them yet.
struct Pins<'a> {
    store: &'a ImageStore,
    names: Vec<String>,
}

impl Drop for Pins<'_> {
    fn drop(&mut self) {
        let mut pinned = lock(&self.store.pinned);
        for name in &self.names {
            if let Some(i) = pinned.iter().position(|p| p == name) {
                pinned.swap_remove(i);
            }
        }
    }
}

/// A layer that this caller unpacks. Its end lets the others go on, however it comes.
struct Claim<'a> {
    store: &'a ImageStore,
    chain: &'a str,
}

impl Drop for Claim<'_> {
    fn drop(&mut self) {
        lock(&self.store.unpacking).remove(self.chain);
        self.store.unpacked.notify_all();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Replaces a file so that after a crash it is the old or the new one.
pub fn write_atomically(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let new = path.with_extension("new");
    let mut file = File::create(&new)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&new, path)?;
    if let Some(dir) = path.parent() {
        File::open(dir)?.sync_all()?;
    }
    Ok(())
}

/// Where an image's layers come from: the n-th, lowest first.
pub trait Layers {
    /// Opens the archive of the layer, compressed or not.
    ///
    /// # Errors
    /// When there is no such layer or it cannot be read.
    fn open(&mut self, n: usize) -> Result<Box<dyn Read + '_>, StoreError>;
}

impl ImageStore {
    /// Opens the store below `root`, or makes it. Layers that a process left half unpacked are removed, and so are
    /// downloads that nobody resumed for a day.
    ///
    /// # Errors
    /// When the directories cannot be made or read, or the index is damaged.
    pub fn open(root: &Path) -> Result<Self, StoreError> {
        let layers = root.join("layers");
        fs::create_dir_all(&layers).map_err(at(&layers))?;
        let path = root.join("index.json");
        let index: Index = match fs::read(&path) {
            Ok(text) => serde_json::from_slice(&text).map_err(|e| at(&path)(e.into()))?,
            Err(e) if e.kind() == io::ErrorKind::NotFound => Index::default(),
            Err(e) => return Err(at(&path)(e)),
        };
        let known: BTreeSet<&str> = index.layers.values().map(|l| l.name.as_str()).collect();
        for entry in fs::read_dir(&layers).map_err(at(&layers))?.flatten() {
            // Begun and not finished, or no longer needed, when the process ended.
            if !entry.file_name().to_str().is_some_and(|n| known.contains(n))
                && let Err(error) = files::remove_tree(&entry.path())
            {
                // It takes room and harms nobody; the next start tries again.
                tracing::warn!(path = %entry.path().display(), %error, "layer of no image not removed");
            }
        }
        let store = Self {
            root: root.to_owned(),
            index: Mutex::new(index),
            unpacking: Mutex::default(),
            unpacked: Condvar::new(),
            pinned: Mutex::default(),
        };
        if let Err(error) = store.drop_stale_downloads() {
            tracing::warn!(%error, "downloads that nobody wants any more");
        }
        Ok(store)
    }

    /// What began to come and was not wanted again for a day.
    fn drop_stale_downloads(&self) -> Result<(), StoreError> {
        for entry in fs::read_dir(self.ingest_dir()).into_iter().flatten().flatten() {
            let path = entry.path();
            let modified = entry.metadata().and_then(|m| m.modified()).map_err(at(&path))?;
            if modified.elapsed().is_ok_and(|age| age > STALE) {
                fs::remove_file(&path).map_err(at(&path))?;
            }
        }
        Ok(())
    }

    /// The directory that holds the layers, one directory each.
    pub fn layer_dir(&self) -> PathBuf {
        self.root.join("layers")
    }

    /// For what is being downloaded.
    pub fn ingest_dir(&self) -> PathBuf {
        self.root.join("ingest")
    }

    /// Every image, by id.
    pub fn list(&self) -> Vec<Image> {
        lock(&self.index).images.values().cloned().collect()
    }

    /// By id (also its beginning), tag or digest name.
    pub fn find(&self, name: &str) -> Option<Image> {
        let index = lock(&self.index);
        if let Some(image) = index.images.get(name) {
            return Some(image.clone());
        }
        if let Some(image) = index.images.get(&format!("sha256:{name}")) {
            return Some(image.clone());
        }
        let reference = Reference::parse(name).ok()?;
        let wanted = match &reference.digest {
            Some(digest) => reference.with_digest(digest),
            None => reference.tagged()?,
        };
        let has = |image: &&Image| image.tags.contains(&wanted) || image.digests.contains(&wanted);
        index.images.values().find(has).cloned()
    }

    fn save(&self, index: &Index) -> Result<(), StoreError> {
        let path = self.root.join("index.json");
        let text = serde_json::to_vec(index).map_err(|e| at(&path)(e.into()))?;
        write_atomically(&path, &text).map_err(at(&path))
    }

    /// Takes an image: unpacks the layers that are missing and gives it `names`. `config` is its configuration's text, `size`
    /// its size where that is known.
    pub fn add(
        &self,
        config: &[u8],
        names: &[Reference],
        manifest: Option<&str>,
        size: Option<u64>,
        layers: &mut dyn Layers,
    ) -> Result<Image, StoreError> {
        let id = digest_of(config);
        let parsed: Configuration = serde_json::from_slice(config).map_err(|e| StoreError::Image {
            image: id.clone(),
            text: format!("configuration: {e}"),
        })?;
        let mut pins = Pins {
            store: self,
            names: Vec::new(),
        };
        let (mut chain, mut names_below, mut total) = (String::new(), Vec::new(), 0);
        for (n, diff_id) in parsed.rootfs.diff_ids.iter().enumerate() {
            chain = if chain.is_empty() {
                diff_id.clone()
            } else {
                digest_of(format!("{chain} {diff_id}").as_bytes())
            };
            let layer = loop {
                if let Some(layer) = self.pin(&chain, &mut pins) {
                    break layer;
                }
                let Some(_claim) = self.claim(&chain) else { continue };
                // Whoever had the claim before may just have finished.
                if let Some(layer) = self.pin(&chain, &mut pins) {
                    break layer;
                }
                let layer = self.unpack(n, diff_id, &names_below, layers)?;
                lock(&self.pinned).push(layer.name.clone());
                pins.names.push(layer.name.clone());
                lock(&self.index).layers.insert(chain.clone(), layer.clone());
                break layer;
            };
            total += layer.size;
            names_below.insert(0, layer.name);
        }
        // Also for layers that another image's pull unpacked and has not saved yet.
        self.sync()?;
        let mut index = lock(&self.index);
        let tags: Vec<String> = names.iter().filter_map(Reference::tagged).collect();
        for image in index.images.values_mut() {
            image.tags.retain(|t| !tags.contains(t));
        }
        let image = index.images.entry(id.clone()).or_insert_with(|| Image {
            id: id.clone(),
            tags: Vec::new(),
            digests: Vec::new(),
            size: size.unwrap_or(total),
            layers: names_below,
            settings: parsed.config,
            pinned: false,
        });
        for tag in tags {
            if !image.tags.contains(&tag) {
                image.tags.push(tag);
            }
        }
        for digest in manifest
            .iter()
            .flat_map(|d| names.iter().map(move |n| n.with_digest(d)))
        {
            if !image.digests.contains(&digest) {
                image.digests.push(digest);
            }
        }
        let image = image.clone();
        self.save(&index)?;
        Ok(image)
    }

    /// Has images stay until a client removes them by name.
    pub fn keep(&self, images: &mut [Image]) -> Result<(), StoreError> {
        let mut index = lock(&self.index);
        let mut any = false;
        for image in images {
            if let Some(known) = index.images.get_mut(&image.id) {
                any |= !known.pinned;
                known.pinned = true;
                image.pinned = true;
            }
        }
        match any {
            true => self.save(&index),
            false => Ok(()),
        }
    }

    fn pin(&self, chain: &str, pins: &mut Pins) -> Option<Layer> {
        let index = lock(&self.index);
        let layer = index.layers.get(chain)?.clone();
        lock(&self.pinned).push(layer.name.clone());
        pins.names.push(layer.name.clone());
        Some(layer)
    }

    /// `None` after another caller's claim has ended.
    fn claim<'a>(&'a self, chain: &'a str) -> Option<Claim<'a>> {
        let mut unpacking = lock(&self.unpacking);
        if unpacking.insert(chain.to_owned()) {
            return Some(Claim { store: self, chain });
        }
        while unpacking.contains(chain) {
            unpacking = self.unpacked.wait(unpacking).unwrap_or_else(PoisonError::into_inner);
        }
        None
    }

    fn unpack(&self, n: usize, diff_id: &str, below: &[String], layers: &mut dyn Layers) -> Result<Layer, StoreError> {
        let name = {
            let mut index = lock(&self.index);
            index.next += 1;
            index.next.to_string()
        };
        let dir = self.layer_dir().join(&name);
        // A number given out before a crash may have left its directory.
        let _ = files::remove_tree(&dir);
        fs::create_dir(&dir).map_err(at(&dir))?;
        let parents: Vec<PathBuf> = below.iter().map(|l| self.layer_dir().join(l)).collect();
        let unpacked = layers.open(n).and_then(|reader| {
            let failed = |error| StoreError::Layer {
                layer: diff_id.to_owned(),
                error,
            };
            let plain = unpack::decompress(reader).map_err(|e| failed(UnpackError::Archive(e)))?;
            unpack::layer(plain, &dir, &parents, diff_id).map_err(failed)
        });
        match unpacked {
            Ok(amount) => Ok(Layer {
                name,
                size: amount.bytes,
                inodes: amount.inodes,
            }),
            Err(e) => {
                let _ = files::remove_tree(&dir);
                Err(e)
            }
        }
    }

    /// Layers are many files: one call for the file system that holds them.
    fn sync(&self) -> Result<(), StoreError> {
        let dir = self.layer_dir();
        let file = File::open(&dir).map_err(at(&dir))?;
        nix::unistd::syncfs(&file).map_err(|e| at(&dir)(e.into()))
    }

    /// Returns whether the topmost of these layers (lowest first) is unpacked together with those below.
    pub fn has_layer(&self, diff_ids: &[String]) -> bool {
        let chain = diff_ids.iter().fold(String::new(), |chain, diff_id| {
            if chain.is_empty() {
                diff_id.clone()
            } else {
                digest_of(format!("{chain} {diff_id}").as_bytes())
            }
        });
        lock(&self.index).layers.contains_key(&chain)
    }

    /// Takes one name from an image that has others too. Whether it did: a last name, or an id, means the image itself.
    pub fn untag(&self, name: &str) -> Result<bool, StoreError> {
        let Some(image) = self.find(name) else { return Ok(false) };
        let Ok(reference) = Reference::parse(name) else {
            return Ok(false);
        };
        let mut index = lock(&self.index);
        let Some(known) = index.images.get_mut(&image.id) else {
            return Ok(false);
        };
        let tag = reference.tagged().filter(|_| reference.digest.is_none());
        if known.tags.len() < 2 || !tag.as_ref().is_some_and(|t| known.tags.contains(t)) {
            return Ok(false);
        }
        known.tags.retain(|t| Some(t) != tag.as_ref());
        // Names by digest are of the repositories that are left.
        let left: Vec<String> = known
            .tags
            .iter()
            .filter_map(|t| Some(t.rsplit_once(':')?.0.to_owned()))
            .collect();
        known.digests.retain(|d| {
            d.split_once('@')
                .is_none_or(|(repository, _)| left.iter().any(|l| l == repository))
        });
        self.save(&index)?;
        Ok(true)
    }

    /// Forgets an image that has this id, or one name; layers go with the last image, unless `used` by a container.
    pub fn remove(&self, name: &str, used: &BTreeSet<String>) -> Result<(), StoreError> {
        let Some(image) = self.find(name) else { return Ok(()) };
        let mut index = lock(&self.index);
        index.images.remove(&image.id);
        self.save(&index)?;
        drop(index);
        self.collect(used)
    }

    /// Removes layers that no image, no image on its way and no container has.
    pub fn collect(&self, used: &BTreeSet<String>) -> Result<(), StoreError> {
        let mut index = lock(&self.index);
        let pinned = lock(&self.pinned).clone();
        let images = index.images.values().flat_map(|i| &i.layers);
        let needed: BTreeSet<&String> = images.chain(used).chain(&pinned).collect();
        let gone: Vec<(String, String)> = index
            .layers
            .iter()
            .filter(|(_, l)| !needed.contains(&l.name))
            .map(|(chain, l)| (chain.clone(), l.name.clone()))
            .collect();
        if gone.is_empty() {
            return Ok(());
        }
        for (chain, _) in &gone {
            index.layers.remove(chain);
        }
        self.save(&index)?;
        drop(index);
        for (_, name) in gone {
            let dir = self.layer_dir().join(name);
            files::remove_tree(&dir).map_err(at(&dir))?;
        }
        Ok(())
    }

    /// Bytes and files of all layers.
    pub fn usage(&self) -> (u64, u64) {
        let index = lock(&self.index);
        let layers = index.layers.values();
        layers.fold((0, 0), |(bytes, inodes), l| (bytes + l.size, inodes + l.inodes))
    }
}
