//! The disk as the store sees it: named files in one directory. `Directory` is the real one; `MemoryDisk` loses what
//! was not synced when it crashes, and can fill up.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

/// One directory of files.
pub trait Disk: Send + Sync + 'static {
    /// Names of all files, sorted.
    fn list(&self) -> io::Result<Vec<String>>;
    /// Opens a file for reading and writing, making it if it is not there.
    fn open(&self, name: &str) -> io::Result<Box<dyn DiskFile>>;
    /// Gives a file another name, in place of the file that had it.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;
    /// Removes a file.
    fn remove(&self, name: &str) -> io::Result<()>;
    /// Makes creations, renames and removals durable.
    fn sync_names(&self) -> io::Result<()>;
}

/// One open file.
pub trait DiskFile: Send {
    /// The file's length in bytes.
    fn size(&self) -> io::Result<u64>;
    /// Reads from `offset` on; returns how many bytes, 0 at the end.
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<usize>;
    /// Writes all of `data` at `offset`.
    fn write_at(&mut self, offset: u64, data: &[u8]) -> io::Result<()>;
    /// Reserves room for `len` bytes, so that a later write cannot find the disk full.
    fn allocate(&mut self, len: u64) -> io::Result<()>;
    /// Makes the data durable.
    fn sync(&mut self) -> io::Result<()>;
}

/// A directory of the file system.
#[derive(Debug)]
pub struct Directory {
    path: PathBuf,
}

impl Directory {
    /// Makes the directory if it is not there; it is its owner's alone (mode 0700).
    pub fn open(path: &Path) -> io::Result<Directory> {
        use std::os::unix::fs::DirBuilderExt;
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path)?;
        let kept = std::fs::metadata(path)?.permissions();
        if kept.mode() & 0o077 != 0 {
            std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o700))?;
        }
        Ok(Directory { path: path.to_owned() })
    }
}

struct RealFile(File);

impl Disk for Directory {
    fn list(&self) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in std::fs::read_dir(&self.path)? {
            if let Ok(name) = entry?.file_name().into_string() {
                names.push(name);
            }
        }
        names.sort();
        Ok(names)
    }

    fn open(&self, name: &str) -> io::Result<Box<dyn DiskFile>> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(self.path.join(name))?;
        Ok(Box::new(RealFile(file)))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        std::fs::rename(self.path.join(from), self.path.join(to))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        std::fs::remove_file(self.path.join(name))
    }

    fn sync_names(&self) -> io::Result<()> {
        File::open(&self.path)?.sync_all()
    }
}

impl DiskFile for RealFile {
    fn size(&self) -> io::Result<u64> {
        Ok(self.0.metadata()?.len())
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        self.0.read_at(buf, offset)
    }

    fn write_at(&mut self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.0.write_all_at(data, offset)
    }

    fn allocate(&mut self, len: u64) -> io::Result<()> {
        let len = i64::try_from(len).map_err(io::Error::other)?;
        match nix::fcntl::posix_fallocate(&self.0, 0, len) {
            Ok(()) => Ok(()),
            Err(e) => Err(io::Error::from_raw_os_error(e as i32)),
        }
    }

    fn sync(&mut self) -> io::Result<()> {
        self.0.sync_data()
    }
}

#[derive(Debug, Default, Clone)]
struct MemoryFile {
    now: Vec<u8>,
    synced: Vec<u8>,
}

#[derive(Debug, Default)]
struct MemoryState {
    files: BTreeMap<String, MemoryFile>,
    /// Bytes that may still be added; `None` for no limit.
    room: Option<u64>,
    fail_sync: bool,
}

/// A disk in memory for simulation.
#[derive(Debug, Default, Clone)]
pub struct MemoryDisk(Arc<Mutex<MemoryState>>);

struct MemoryHandle {
    disk: MemoryDisk,
    name: String,
}

impl MemoryDisk {
    fn with<T>(&self, f: impl FnOnce(&mut MemoryState) -> T) -> T {
        f(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// The disk after power was lost: what was not synced is gone, except for the first `kept` bytes of what was written last.
    pub fn after_power_loss(&self, kept: usize) -> MemoryDisk {
        let files = self.with(|s| s.files.clone());
        let files = files
            .into_iter()
            .map(|(name, f)| {
                let mut data = f.synced.clone();
                let same = f.synced.iter().zip(&f.now).take_while(|(a, b)| a == b).count();
                let torn = (same + kept).min(f.now.len());
                data.resize(data.len().max(torn), 0);
                data[same.min(torn)..torn].copy_from_slice(&f.now[same.min(torn)..torn]);
                (
                    name,
                    MemoryFile {
                        now: data.clone(),
                        synced: data,
                    },
                )
            })
            .collect();
        MemoryDisk(Arc::new(Mutex::new(MemoryState {
            files,
            room: None,
            fail_sync: false,
        })))
    }

    /// The disk after power was lost in the middle of writing: of each 512 bytes that were not synced, `keeps` says whether they
    /// are there, by file and offset.
    pub fn after_torn_writes(&self, mut keeps: impl FnMut(&str, usize) -> bool) -> MemoryDisk {
        const SECTOR: usize = 512;
        let torn = self.fork();
        torn.with(|s| {
            for (name, file) in &mut s.files {
                file.synced.resize(file.now.len().max(file.synced.len()), 0);
                file.now.resize(file.synced.len(), 0);
                for at in (0..file.now.len()).step_by(SECTOR) {
                    let sector = at..(at + SECTOR).min(file.now.len());
                    if file.now[sector.clone()] != file.synced[sector.clone()] && !keeps(name, at) {
                        file.now[sector.clone()].copy_from_slice(&file.synced[sector]);
                    }
                }
                file.synced.clone_from(&file.now);
            }
        });
        torn
    }

    /// A copy that goes its own way: the same files, room without limit.
    pub fn fork(&self) -> MemoryDisk {
        let files = self.with(|s| s.files.clone());
        MemoryDisk(Arc::new(Mutex::new(MemoryState {
            files,
            room: None,
            fail_sync: false,
        })))
    }

    /// A file's bytes.
    pub fn content(&self, name: &str) -> Option<Vec<u8>> {
        self.with(|s| s.files.get(name).map(|f| f.now.clone()))
    }

    /// Gives a file these bytes, durable.
    pub fn set_content(&self, name: &str, bytes: Vec<u8>) {
        let file = MemoryFile {
            synced: bytes.clone(),
            now: bytes,
        };
        self.with(|s| s.files.insert(name.to_owned(), file));
    }

    /// Lets `bytes` more be written before the disk is full.
    pub fn set_room(&self, bytes: Option<u64>) {
        self.with(|s| s.room = bytes);
    }

    /// Makes every later sync fail.
    pub fn fail_sync(&self) {
        self.with(|s| s.fail_sync = true);
    }
}

impl Disk for MemoryDisk {
    fn list(&self) -> io::Result<Vec<String>> {
        Ok(self.with(|s| s.files.keys().cloned().collect()))
    }

    fn open(&self, name: &str) -> io::Result<Box<dyn DiskFile>> {
        self.with(|s| {
            s.files.entry(name.to_owned()).or_default();
        });
        Ok(Box::new(MemoryHandle {
            disk: self.clone(),
            name: name.to_owned(),
        }))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.with(|s| {
            let file = s.files.remove(from).ok_or(io::ErrorKind::NotFound)?;
            s.files.insert(to.to_owned(), file);
            Ok(())
        })
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.with(|s| {
            s.files
                .remove(name)
                .map(|_| ())
                .ok_or_else(|| io::ErrorKind::NotFound.into())
        })
    }

    fn sync_names(&self) -> io::Result<()> {
        Ok(())
    }
}

impl MemoryHandle {
    fn file<T>(&self, f: impl FnOnce(&mut MemoryFile, &mut Option<u64>) -> io::Result<T>) -> io::Result<T> {
        self.disk.with(|s| {
            let file = s.files.get_mut(&self.name).ok_or(io::ErrorKind::NotFound)?;
            f(file, &mut s.room)
        })
    }
}

impl DiskFile for MemoryHandle {
    fn size(&self) -> io::Result<u64> {
        self.file(|f, _| Ok(f.now.len() as u64))
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        self.file(|f, _| {
            let start = usize::try_from(offset).map_err(io::Error::other)?.min(f.now.len());
            let n = buf.len().min(f.now.len() - start);
            buf[..n].copy_from_slice(&f.now[start..start + n]);
            Ok(n)
        })
    }

    fn write_at(&mut self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.file(|f, room| {
            let start = usize::try_from(offset).map_err(io::Error::other)?;
            let end = start + data.len();
            if end > f.now.len() {
                let more = (end - f.now.len()) as u64;
                if let Some(room) = room {
                    *room = room.checked_sub(more).ok_or(io::ErrorKind::StorageFull)?;
                }
                f.now.resize(end, 0);
            }
            f.now[start..end].copy_from_slice(data);
            Ok(())
        })
    }

    fn allocate(&mut self, len: u64) -> io::Result<()> {
        let have = self.size()?;
        if have < len {
            let zeros = vec![0; usize::try_from(len - have).map_err(io::Error::other)?];
            self.write_at(have, &zeros)?;
        }
        Ok(())
    }

    fn sync(&mut self) -> io::Result<()> {
        if self.disk.with(|s| s.fail_sync) {
            return Err(io::Error::other("sync failed"));
        }
        self.file(|f, _| {
            f.synced.clone_from(&f.now);
            Ok(())
        })
    }
}
