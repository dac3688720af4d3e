//! The file of `--audit-log-path`: it grows to a size, then goes on under another name, and old ones are removed or compressed. Names and
//! limits are those of lumberjack, which upstream writes with, so that who collects them finds them.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use flate2::Compression;
use flate2::write::GzEncoder;
use jiff::{Timestamp, ToSpan};

/// How a log is rotated.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Rotation {
    /// Bytes of a file; 0 is no limit, and no rotation.
    pub max_bytes: u64,
    /// Days that old files are kept; 0 is for ever.
    pub max_age_days: u32,
    /// Old files that are kept; 0 is all.
    pub max_backups: usize,
    /// Old files are compressed with gzip.
    pub compress: bool,
}

/// Where lines go.
#[derive(Debug)]
pub enum LogFile {
    Stdout,
    File(Mutex<Rotated>),
}

/// A file that is rotated.
#[derive(Debug)]
pub struct Rotated {
    path: PathBuf,
    rotation: Rotation,
    file: File,
    size: u64,
}

const BACKUP_TIME: &str = "%Y-%m-%dT%H-%M-%S";

impl LogFile {
    /// Opens the log; `-` is standard output. The file and its folder are made where they are missing.
    ///
    /// # Errors
    /// When they cannot be.
    pub fn open(path: &Path, rotation: Rotation) -> io::Result<LogFile> {
        if path == Path::new("-") {
            return Ok(LogFile::Stdout);
        }
        if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
            std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
        }
        let file = open(path, 0o600)?;
        let size = file.metadata()?.len();
        let mut log = Rotated {
            path: path.to_owned(),
            rotation,
            file,
            size,
        };
        log.tidy();
        Ok(LogFile::File(Mutex::new(log)))
    }

    /// Writes a line, or several.
    ///
    /// # Errors
    /// When the disk does not take it, or it is longer than a file may be.
    pub fn write(&self, line: &[u8], now: Timestamp) -> io::Result<()> {
        match self {
            LogFile::Stdout => {
                let mut out = io::stdout().lock();
                out.write_all(line)?;
                out.flush()
            }
            LogFile::File(log) => log.lock().unwrap_or_else(PoisonError::into_inner).write(line, now),
        }
    }
}

fn open(path: &Path, mode: u32) -> io::Result<File> {
    OpenOptions::new().create(true).append(true).mode(mode).open(path)
}

impl Rotated {
    fn write(&mut self, line: &[u8], now: Timestamp) -> io::Result<()> {
        let (length, most) = (line.len() as u64, self.rotation.max_bytes);
        if most > 0 && length > most {
            let why = format!("write length {length} exceeds maximum file size {most}");
            return Err(io::Error::new(io::ErrorKind::InvalidInput, why));
        }
        if most > 0 && self.size + length > most {
            self.rotate(now)?;
        }
        self.file.write_all(line)?;
        self.size += length;
        Ok(())
    }

    fn rotate(&mut self, now: Timestamp) -> io::Result<()> {
        let mode = self.file.metadata()?.permissions().mode() & 0o7777;
        // somebody may have taken the file away
        match std::fs::rename(&self.path, self.backup(now)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        self.file = open(&self.path, mode)?;
        self.size = 0;
        self.tidy();
        Ok(())
    }

    /// `audit-2026-01-02T03-04-05.678.log`
    fn backup(&self, now: Timestamp) -> PathBuf {
        let (stem, extension) = self.parts();
        let millis = now.as_millisecond().rem_euclid(1000);
        let name = format!("{stem}-{}.{millis:03}{extension}", now.strftime(BACKUP_TIME));
        self.path.with_file_name(name)
    }

    /// The name without its extension, and the extension with its dot.
    fn parts(&self) -> (String, String) {
        let name = self.path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        match name.rfind('.') {
            Some(dot) => (name[..dot].to_owned(), name[dot..].to_owned()),
            None => (name, String::new()),
        }
    }

    /// Removes and compresses old files on a thread of its own.
    fn tidy(&mut self) {
        let Rotation {
            max_bytes,
            max_age_days,
            max_backups,
            compress,
        } = self.rotation;
        if max_bytes == 0 || (max_age_days, max_backups, compress) == (0, 0, false) {
            return;
        }
        let (parts, path, rotation) = (self.parts(), self.path.clone(), self.rotation);
        let tidied = std::thread::Builder::new().name("audit-log".into()).spawn(move || {
            if let Err(error) = tidy(&path, &parts, rotation, Timestamp::now()) {
                tracing::error!(%error, path = %path.display(), "old audit logs cannot be tidied");
            }
        });
        if let Err(error) = tidied {
            tracing::error!(%error, "old audit logs cannot be tidied");
        }
    }
}

/// The time in the name of an old file.
fn time_of(name: &str, (stem, extension): &(String, String)) -> Option<Timestamp> {
    let text = name.strip_prefix(&format!("{stem}-"))?;
    let text = text
        .strip_suffix(".gz")
        .unwrap_or(text)
        .strip_suffix(extension.as_str())?;
    let (seconds, millis) = text.rsplit_once('.')?;
    let at = jiff::civil::DateTime::strptime(BACKUP_TIME, seconds).ok()?;
    let at = at.to_zoned(jiff::tz::TimeZone::UTC).ok()?.timestamp();
    at.checked_add(millis.parse::<i64>().ok()?.milliseconds()).ok()
}

fn tidy(path: &Path, parts: &(String, String), rotation: Rotation, now: Timestamp) -> io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    let mut old = Vec::new();
    for entry in std::fs::read_dir(folder.unwrap_or(Path::new(".")))? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if let Some(at) = time_of(&name, parts) {
            old.push((at, entry.path()));
        }
    }
    // newest first; a file and its compressed form are one
    old.sort_by(|a, b| b.cmp(a));
    let oldest = match rotation.max_age_days {
        0 => None,
        days => now.checked_sub((i64::from(days) * 24).hours()).ok(),
    };
    let (mut kept, mut last) = (0, None);
    for (at, path) in old {
        kept += usize::from(last != Some(at));
        last = Some(at);
        let many = rotation.max_backups > 0 && kept > rotation.max_backups;
        if many || oldest.is_some_and(|oldest| at < oldest) {
            std::fs::remove_file(&path)?;
        } else if rotation.compress && path.extension().is_none_or(|e| e != "gz") {
            compress(&path)?;
        }
    }
    Ok(())
}

fn compress(path: &Path) -> io::Result<()> {
    let mut from = File::open(path)?;
    let mode = from.metadata()?.permissions().mode() & 0o7777;
    let mut name = path.as_os_str().to_owned();
    name.push(".gz");
    let target = PathBuf::from(name);
    let to = OpenOptions::new()
        .create(true)
        .write(true)
        .truncate(true)
        .mode(mode)
        .open(&target)?;
    let mut encoder = GzEncoder::new(to, Compression::default());
    io::copy(&mut from, &mut encoder)?;
    encoder.finish()?.sync_all()?;
    std::fs::remove_file(path)
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    fn names(folder: &Path) -> Vec<String> {
        let entries = std::fs::read_dir(folder).unwrap();
        let mut names: Vec<String> = entries
            .map(|e| e.unwrap().file_name().to_string_lossy().into_owned())
            .collect();
        names.sort();
        names
    }

    fn folder(name: &str) -> PathBuf {
        let path = std::env::temp_dir().join(format!("skiff-audit-{}-{name}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        path
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_767_323_045 + second).unwrap()
    }

    #[test]
    fn a_full_log_goes_on_under_another_name() {
        let folder = folder("full");
        let rotation = Rotation {
            max_bytes: 10,
            ..Rotation::default()
        };
        let log = LogFile::open(&folder.join("audit.log"), rotation).unwrap();
        log.write(b"123456\n", at(0)).unwrap();
        log.write(b"abc\n", at(1)).unwrap();
        assert!(log.write(b"longer than a file\n", at(1)).is_err());
        assert_eq!(names(&folder), ["audit-2026-01-02T03-04-06.000.log", "audit.log"]);
        assert_eq!(std::fs::read(folder.join("audit.log")).unwrap(), b"abc\n");
        // it goes on where it was
        let log = LogFile::open(&folder.join("audit.log"), rotation).unwrap();
        log.write(b"1234567\n", at(2)).unwrap();
        assert_eq!(names(&folder).len(), 3);
        std::fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn old_logs_are_removed_by_number_and_age_and_compressed() {
        let folder = folder("old");
        let rotation = Rotation {
            max_bytes: 4,
            max_age_days: 2,
            max_backups: 2,
            compress: true,
        };
        std::fs::create_dir_all(&folder).unwrap();
        let parts = ("audit".to_owned(), ".log".to_owned());
        for name in [
            "audit.log",
            "audit-2026-01-02T03-04-05.000.log",
            "audit-2026-01-01T03-04-05.000.log",
            "audit-2026-01-01T01-04-05.000.log",
            "audit-2025-01-01T01-04-05.000.log.gz",
            "audit-x.log",
        ] {
            std::fs::write(folder.join(name), "text").unwrap();
        }
        tidy(&folder.join("audit.log"), &parts, rotation, at(0)).unwrap();
        let kept = [
            "audit-2026-01-01T03-04-05.000.log.gz",
            "audit-2026-01-02T03-04-05.000.log.gz",
            "audit-x.log",
            "audit.log",
        ];
        assert_eq!(names(&folder), kept);
        let mut text = String::new();
        let file = File::open(folder.join(kept[0])).unwrap();
        flate2::read::GzDecoder::new(file).read_to_string(&mut text).unwrap();
        assert_eq!(text, "text");
        let later = at(36 * 3600);
        tidy(&folder.join("audit.log"), &parts, rotation, later).unwrap();
        assert_eq!(
            names(&folder),
            ["audit-2026-01-02T03-04-05.000.log.gz", "audit-x.log", "audit.log"]
        );
        std::fs::remove_dir_all(folder).unwrap();
    }
}
