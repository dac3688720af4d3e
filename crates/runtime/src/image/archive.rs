//! Import of images: OCI layouts and `docker save` archives, as a tar file or a directory.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::manifest::{Configuration, Descriptor, Document, architecture, choose};
use super::reference::Reference;
use super::store::{Image, ImageStore, Layers, StoreError, at};
use super::unpack::{Hashing, decompress, digest_of};
use crate::sys;

/// Documents are small; a larger one is refused. Bytes.
const LARGEST_DOCUMENT: u64 = 8 << 20;

/// Files by name, wherever they are.
enum Archive {
    Directory(PathBuf),
    Tar {
        file: File,
        members: HashMap<String, (u64, u64)>,
        path: PathBuf,
    },
}

impl Archive {
    fn open(path: &Path) -> Result<Self, StoreError> {
        if path.is_dir() {
            return Ok(Self::Directory(path.to_owned()));
        }
        let mut file = regular(path)?;
        let mut magic = [0; 4];
        let read = file.read(&mut magic).map_err(at(path))?;
        file.rewind().map_err(at(path))?;
        if matches!(&magic[..read], [0x1f, 0x8b, ..] | [0x28, 0xb5, 0x2f, 0xfd]) {
            // Compressed as a whole: members are found by place, so it is unpacked to a file without a name.
            let mut plain = decompress(file).map_err(at(path))?;
            let dir = path.parent().unwrap_or(Path::new("/tmp"));
            let mut scratch = unnamed(dir).map_err(at(dir))?;
            io::copy(&mut plain, &mut scratch).map_err(at(path))?;
            scratch.rewind().map_err(at(path))?;
            file = scratch;
        }
        let members = members(&mut file).map_err(at(path))?;
        Ok(Self::Tar {
            file,
            members,
            path: path.to_owned(),
        })
    }

    fn has(&self, name: &str) -> bool {
        match self {
            Self::Directory(dir) => dir.join(name).exists(),
            Self::Tar { members, .. } => members.contains_key(name),
        }
    }

    fn reader(&self, name: &str) -> Result<Box<dyn Read + '_>, StoreError> {
        if name.split('/').any(|part| part == "..") {
            return Err(at(Path::new(name))(io::Error::new(
                io::ErrorKind::InvalidInput,
                "leaves the archive",
            )));
        }
        match self {
            Self::Directory(dir) => {
                let root = File::open(dir).map_err(at(dir))?;
                let file = sys::open_regular_in_root(root.as_fd(), name).map_err(at(&dir.join(name)))?;
                Ok(Box::new(file))
            }
            Self::Tar { file, members, path } => {
                let missing = || at(&path.join(name))(io::ErrorKind::NotFound.into());
                let (offset, length) = members.get(name).copied().ok_or_else(missing)?;
                Ok(Box::new(Section {
                    file,
                    at: offset,
                    end: offset + length,
                }))
            }
        }
    }

    fn document(&self, name: &str) -> Result<Vec<u8>, StoreError> {
        let mut bytes = Vec::new();
        self.reader(name)?
            .take(LARGEST_DOCUMENT)
            .read_to_end(&mut bytes)
            .map_err(at(Path::new(name)))?;
        Ok(bytes)
    }
}

/// Opens an archive: a file, or a link to one. A FIFO by the name of one must not stop who reads it.
fn regular(path: &Path) -> Result<File, StoreError> {
    let whole = fs::canonicalize(path).map_err(at(path))?;
    files::regular_file(&whole).map_err(at(path))
}

/// A part of a file that others read too.
struct Section<'a> {
    file: &'a File,
    at: u64,
    end: u64,
}

impl Read for Section<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        use std::os::unix::fs::FileExt;
        let room = usize::try_from(self.end - self.at)
            .unwrap_or(usize::MAX)
            .min(buffer.len());
        let n = self.file.read_at(&mut buffer[..room], self.at)?;
        self.at += n as u64;
        Ok(n)
    }
}

/// A file without a name, gone with its last user.
pub fn unnamed(dir: &Path) -> io::Result<File> {
    use std::os::unix::fs::OpenOptionsExt;
    File::options()
        .read(true)
        .write(true)
        .custom_flags(libc::O_TMPFILE)
        .open(dir)
}

fn members(file: &mut File) -> io::Result<HashMap<String, (u64, u64)>> {
    let (mut members, mut links) = (HashMap::new(), Vec::new());
    let mut archive = tar::Archive::new(&mut *file);
    for entry in archive.entries_with_seek()? {
        let entry = entry?;
        let name = entry.path()?.to_string_lossy().trim_start_matches("./").to_owned();
        if let Some(target) = entry.link_name()? {
            // Old archives repeat a layer by a link; a symbolic one is relative to its own directory.
            let symbolic = entry.header().entry_type() == tar::EntryType::Symlink;
            let base = if symbolic {
                Path::new(&name).parent().unwrap_or(Path::new(""))
            } else {
                Path::new("")
            };
            let mut path = PathBuf::new();
            for part in base.join(&target).components() {
                match part {
                    std::path::Component::ParentDir => drop(path.pop()),
                    std::path::Component::Normal(part) => path.push(part),
                    _ => {}
                }
            }
            links.push((name, path.to_string_lossy().into_owned()));
        } else {
            members.insert(name, (entry.raw_file_position(), entry.size()));
        }
    }
    for (name, target) in links {
        if let Some(place) = members.get(&target).copied() {
            members.insert(name, place);
        }
    }
    file.seek(SeekFrom::Start(0))?;
    Ok(members)
}

/// An image's layers by the names of their files; OCI's have a digest to be checked.
struct Files<'a> {
    archive: &'a Archive,
    names: Vec<(String, Option<String>)>,
}

impl Layers for Files<'_> {
    fn open(&mut self, n: usize) -> Result<Box<dyn Read + '_>, StoreError> {
        let (name, digest) = self.names.get(n).ok_or_else(|| StoreError::Image {
            image: "manifest".to_owned(),
            text: format!("has {} layers, its configuration more", self.names.len()),
        })?;
        if let Some(digest) = digest {
            let found = Hashing::new(self.archive.reader(name)?)
                .finish()
                .map_err(at(Path::new(name)))?;
            if found != *digest {
                let text = format!("digest is {found}, not {digest}");
                return Err(at(Path::new(name))(io::Error::new(io::ErrorKind::InvalidData, text)));
            }
        }
        self.archive.reader(name)
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Saved {
    config: String,
    #[serde(default)]
    repo_tags: Option<Vec<String>>,
    layers: Vec<String>,
}

fn parse<T: serde::de::DeserializeOwned>(name: &str, bytes: &[u8]) -> Result<T, StoreError> {
    serde_json::from_slice(bytes).map_err(|e| at(Path::new(name))(e.into()))
}

fn blob(digest: &str) -> Result<String, StoreError> {
    let (algorithm, hex) = digest.split_once(':').unwrap_or_default();
    if algorithm != "sha256" || hex.len() != 64 {
        let text = format!("digest {digest:?} is not supported");
        return Err(StoreError::Image {
            image: "manifest".to_owned(),
            text,
        });
    }
    Ok(format!("blobs/sha256/{hex}"))
}

/// Imports every image of an archive that fits this machine.
pub fn import(store: &ImageStore, path: &Path) -> Result<Vec<Image>, StoreError> {
    let archive = Archive::open(path)?;
    let mut images = Vec::new();
    let saved: Vec<Saved> = if archive.has("manifest.json") {
        parse("manifest.json", &archive.document("manifest.json")?)?
    } else {
        Vec::new()
    };
    if archive.has("index.json") && archive.has("oci-layout") {
        let index: Document = parse("index.json", &archive.document("index.json")?)?;
        for descriptor in index.manifests.iter().flatten() {
            images.extend(oci(store, &archive, descriptor, &saved)?);
        }
    } else {
        for image in &saved {
            let config = archive.document(&image.config)?;
            fits(&image.config, &config)?;
            let names = references(image.repo_tags.iter().flatten())?;
            let files = image.layers.iter().map(|l| (l.clone(), None)).collect();
            images.push(store.add(
                &config,
                &names,
                None,
                None,
                &mut Files {
                    archive: &archive,
                    names: files,
                },
            )?);
        }
    }
    if images.is_empty() {
        let text = "holds no image for this machine (neither index.json with oci-layout nor manifest.json)".to_owned();
        return Err(StoreError::Image {
            image: path.display().to_string(),
            text,
        });
    }
    store.keep(&mut images)?;
    Ok(images)
}

/// An archive of one image says only there for which machine it is.
fn fits(name: &str, config: &[u8]) -> Result<(), StoreError> {
    let said = parse::<Configuration>(name, config)?.architecture;
    if said.is_empty() || said == architecture() {
        return Ok(());
    }
    Err(StoreError::Image {
        image: name.to_owned(),
        text: format!("is for {said}, this node is {}", architecture()),
    })
}

fn references<'a>(names: impl Iterator<Item = &'a String>) -> Result<Vec<Reference>, StoreError> {
    names
        .map(|n| {
            Reference::parse(n).map_err(|e| StoreError::Image {
                image: n.clone(),
                text: e.to_string(),
            })
        })
        .collect()
}

fn oci(store: &ImageStore, archive: &Archive, top: &Descriptor, saved: &[Saved]) -> Result<Option<Image>, StoreError> {
    let annotation = |key: &str| top.annotations.as_ref().and_then(|a| a.get(key)).cloned();
    let mut names: Vec<String> = annotation("io.containerd.image.name").into_iter().collect();
    // Where it is only a tag it names nothing.
    let full = |n: &String| n.contains(['/', ':']);
    if names.is_empty() {
        names.extend(annotation("org.opencontainers.image.ref.name").filter(full));
    }
    let mut descriptor = top.clone();
    // An index may hold indexes; deeper than this nobody nests them.
    for _ in 0..4 {
        let name = blob(&descriptor.digest)?;
        if !archive.has(&name) {
            // Archives for one platform may keep the whole index and only their own manifest.
            return Ok(None);
        }
        let bytes = archive.document(&name)?;
        if digest_of(&bytes) != descriptor.digest {
            let text = format!("digest is {}, not {}", digest_of(&bytes), descriptor.digest);
            return Err(at(Path::new(&name))(io::Error::new(io::ErrorKind::InvalidData, text)));
        }
        let document: Document = parse(&name, &bytes)?;
        if let Some(manifests) = &document.manifests {
            let Some(next) = choose(manifests) else { return Ok(None) };
            descriptor = next.clone();
            continue;
        }
        let Some(config) = &document.config else {
            return Ok(None);
        };
        let config_name = blob(&config.digest)?;
        let hex = config_name.trim_start_matches("blobs/sha256/");
        let same = |s: &&Saved| s.config == config_name || s.config == format!("{hex}.json");
        names.extend(
            saved
                .iter()
                .filter(same)
                .flat_map(|s| s.repo_tags.iter().flatten().cloned()),
        );
        names.dedup();
        let config = archive.document(&config_name)?;
        fits(&config_name, &config)?;
        let files = document
            .layers
            .iter()
            .map(|l| Ok((blob(&l.digest)?, Some(l.digest.clone()))))
            .collect::<Result<_, StoreError>>()?;
        let names = references(names.iter())?;
        let mut files = Files { archive, names: files };
        let size = document.size(bytes.len());
        return store
            .add(&config, &names, Some(&top.digest), Some(size), &mut files)
            .map(Some);
    }
    Ok(None)
}

/// Whether a file has the name of an archive.
pub fn is_archive(path: &Path) -> bool {
    let name = path.file_name().map(|n| n.to_string_lossy().into_owned());
    let ends = [".tar", ".tar.gz", ".tgz", ".tar.zst"];
    name.is_some_and(|n| ends.iter().any(|end| n.ends_with(end)))
}

/// Imports what lies in a directory, in the order of names; one broken file does not stop the others.
pub fn import_all(store: &ImageStore, dir: &Path) -> Vec<(PathBuf, Result<Vec<Image>, StoreError>)> {
    let mut paths: Vec<PathBuf> = fs::read_dir(dir)
        .into_iter()
        .flatten()
        .flatten()
        .map(|e| e.path())
        .collect();
    paths.retain(|p| is_archive(p));
    paths.sort();
    paths
        .into_iter()
        .map(|path| (path.clone(), import(store, &path)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::unpack::digest_of;
    use std::io::Write;

    fn tar(files: &[(&str, &[u8])]) -> Vec<u8> {
        let mut builder = tar::Builder::new(Vec::new());
        for (name, content) in files {
            let mut header = tar::Header::new_gnu();
            header.set_size(content.len() as u64);
            header.set_mode(0o644);
            header.set_uid(0);
            header.set_gid(0);
            header.set_mtime(0);
            builder.append_data(&mut header, name, *content).unwrap();
        }
        builder.into_inner().unwrap()
    }

    /// As `docker save` writes it.
    fn saved(arch: &str, tag: &str) -> Vec<u8> {
        let layer = tar(&[("hello", b"hi")]);
        let config = format!(
            r#"{{"architecture":"{arch}","os":"linux","config":{{}},"rootfs":{{"diff_ids":["{}"]}}}}"#,
            digest_of(&layer)
        );
        let manifest = format!(r#"[{{"Config":"c.json","RepoTags":["{tag}","other:1"],"Layers":["l/layer.tar"]}}]"#);
        tar(&[
            ("l/layer.tar", layer.as_slice()),
            ("c.json", config.as_bytes()),
            ("manifest.json", manifest.as_bytes()),
        ])
    }

    #[test]
    fn a_saved_image_is_imported_however_the_archive_is_compressed() {
        let dir = tempfile::tempdir().unwrap();
        let plain = saved(architecture(), "x:1");
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gzip.write_all(&plain).unwrap();
        for (name, bytes) in [
            ("a.tar", plain.clone()),
            ("a.tar.gz", gzip.finish().unwrap()),
            ("a.tar.zst", zstd::encode_all(plain.as_slice(), 1).unwrap()),
        ] {
            let store = ImageStore::open(&dir.path().join(format!("store-{name}"))).unwrap();
            let path = dir.path().join(name);
            fs::write(&path, bytes).unwrap();
            let images = import(&store, &path).unwrap();
            let names = ["docker.io/library/x:1", "docker.io/library/other:1"];
            assert_eq!(images[0].tags, names, "{name}");
            // It may be in no registry.
            assert!(images[0].pinned && store.find("x:1").is_some_and(|image| image.pinned));
            // One name goes, the other stays with the image.
            assert!(store.untag("other:1").unwrap());
            assert!(store.find("other:1").is_none() && store.find("x:1").is_some());
            assert!(!store.untag("x:1").unwrap(), "the last name");
        }
    }

    #[test]
    fn what_is_no_archive_for_this_machine_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let store = ImageStore::open(&dir.path().join("store")).unwrap();
        let (fifo, other) = (dir.path().join("fifo.tar"), dir.path().join("other.tar"));
        nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
        fs::write(&other, saved("riscv64", "x:1")).unwrap();
        for (path, want) in [(fifo, "not a regular file"), (other, "is for riscv64")] {
            let text = import(&store, &path).unwrap_err().to_string();
            assert!(text.contains(want), "{text}");
        }
    }
}
