//! Going on knowingly after a damage: the log is cut at the last record before it. What is cut off is kept beside it.

use std::io;

use bytes::Bytes;

use super::replay::replay;
use super::{Covered, Log, LogError, SEGMENT_HEADER, check_header, name, read_all, segments};
use crate::disk::{Disk, DiskFile};
use crate::record::{self, Entry};

/// No revision that a client may have seen is used again. The head may lag some seconds behind the log when power was lost:
/// by fewer revisions than this.
const MARGIN: u64 = 1_000_000;

/// Why a log was not cut. Nothing that can be read was lost.
#[derive(Debug, thiserror::Error)]
pub enum TruncateError {
    /// The log cannot be read for another reason than damage.
    #[error(transparent)]
    Log(#[from] LogError),
    /// The snapshot is damaged, not the log.
    #[error("{0}; a snapshot cannot be cut: put back a backup, or move the directory away to begin with nothing")]
    Snapshot(#[from] crate::snapshot::SnapshotError),
    /// The disk refused.
    #[error("cutting the write-ahead log: {0}")]
    Io(#[from] io::Error),
    /// The damage is at the log's beginning.
    #[error("{0}; nothing before it can be read: put back a backup, or move the directory away to begin with nothing")]
    NothingLeft(LogError),
}

/// What a truncation did.
#[derive(Debug, PartialEq, Eq)]
pub struct Truncated {
    /// What was wrong.
    pub fault: String,
    /// The last revision that is kept.
    pub kept: u64,
    /// The highest revision that is known to be given up; `None` when nothing tells.
    pub lost: Option<u64>,
    /// Bytes cut off.
    pub bytes: u64,
    /// The files that hold them.
    pub files: Vec<String>,
    /// The revision that the store continues after, higher than any that clients have seen.
    pub revision: u64,
}

/// Cuts the log at the last whole record before the first damage. `Ok(None)` when it has none: nothing was changed. A truncation
/// that was interrupted is repeated by the next.
///
/// # Errors
/// When there is nothing before the damage, or the disk refuses.
pub fn truncate(disk: &dyn Disk, covered: Covered, segment_size: u64) -> Result<Option<Truncated>, TruncateError> {
    let replayed = replay(disk, covered, &mut |_| {})?;
    let Some(fault) = replayed.fault else { return Ok(None) };
    let kept = match &replayed.end {
        Some(end) => end.place.revision,
        None if covered.snapshot => covered.revision,
        None => return Err(TruncateError::NothingLeft(fault)),
    };
    let mut lost = replayed.mark.map(|m| m.revision);
    let mut bytes = 0;
    let mut files = Vec::new();

    let mut torn = 0;
    let last = replayed.end.as_ref().map(|e| e.place.sequence);
    // copied first, zeroed after the names are durable: a truncation that is interrupted loses nothing
    if let Some(end) = &replayed.end {
        let content = read_all(&*end.file)?;
        let offset = end.place.offset;
        let used = content.iter().rposition(|b| *b != 0).map_or(0, |i| i + 1);
        torn = used as u64;
        if let Some(cut) = content.get(offset as usize..used).filter(|cut| !cut.is_empty()) {
            let (aside, mut file) = set_aside(disk, &format!("{}.{offset}", name(end.place.sequence)))?;
            file.write_at(0, cut)?;
            file.sync()?;
            bytes += cut.len() as u64;
            files.push(aside);
        }
    }
    for sequence in segments(disk)? {
        if sequence >= covered.first && last.is_none_or(|last| sequence > last) {
            let content = read_all(&*disk.open(&name(sequence))?)?;
            bytes += content.iter().rposition(|b| *b != 0).map_or(0, |i| i as u64 + 1);
            lost = lost.max(newest_in(&content, sequence));
            let (aside, _) = set_aside(disk, &name(sequence))?;
            disk.rename(&name(sequence), &aside)?;
            files.push(aside);
        }
    }
    disk.sync_names()?;
    let lost = lost.filter(|lost| *lost > kept);
    let revision = kept.max(lost.unwrap_or_default()) + MARGIN;
    let mut log = match replayed.end {
        Some(end) => Log {
            torn,
            ..Log::of(end, segment_size, replayed.head)
        },
        None => Log::empty(covered.first, segment_size, replayed.head),
    };
    // the head is last: until it has its new mark, another run finds that there is something to do
    log.begin_again(disk, kept, revision)?;
    Ok(Some(Truncated {
        fault: fault.to_string(),
        kept,
        lost,
        bytes,
        files,
        revision,
    }))
}

/// A name for what is cut off, and its file.
fn set_aside(disk: &dyn Disk, of: &str) -> io::Result<(String, Box<dyn DiskFile>)> {
    let taken = disk.list()?;
    let names = std::iter::once(format!("{of}.cut")).chain((1..).map(|n| format!("{of}.cut.{n}")));
    for name in names {
        if !taken.contains(&name) {
            let file = disk.open(&name)?;
            return Ok((name, file));
        }
    }
    Err(io::ErrorKind::AlreadyExists.into())
}

/// The newest revision in a segment that is cut off as a whole, as far as it can be read.
fn newest_in(content: &Bytes, sequence: u64) -> Option<u64> {
    let mut sum = check_header(content, sequence)?;
    let mut offset = SEGMENT_HEADER as usize;
    let mut newest = 0;
    while let Some((mut body, next)) = record::open(&content.slice(offset..), sum) {
        offset += record::HEADER + body.len();
        sum = next;
        while let Some(entry) = Entry::decode(&mut body) {
            newest = newest.max(entry.revision());
        }
    }
    Some(newest)
}
