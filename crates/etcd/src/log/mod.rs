//! The write-ahead log: preallocated segments of checksummed records, appended to by one writer. `docs/datastore.md`
//! describes the files.
//!
//! A segment `<sequence>.wal` begins with a header naming the checksum it continues, and with an entry that says at which
//! revision. [`replay`](mod@replay) reads the log, [`head`] remembers how far it was durable, [`tail`] tells a write that a
//! crash cut short from damage, [`truncate`] gives up what follows a damage.

mod head;
mod replay;
mod tail;
#[cfg(test)]
mod tests;
mod truncate;

use std::io;

use bytes::Bytes;

use crate::disk::{Disk, DiskFile};
use crate::record::{self, Entry};
use head::{Head, Place};
use replay::End;
pub use truncate::{TruncateError, Truncated, truncate};

const MAGIC: &[u8; 8] = b"SKIFWAL1";
/// Magic, sequence, checksum to continue, checksum of these.
const SEGMENT_HEADER: u64 = 24;
/// What a segment takes of the disk at first, in bytes.
const FIRST_ALLOCATION: u64 = 1 << 20;

/// Why a log cannot be read. It was not changed.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    #[error("write-ahead log: {0}")]
    Io(#[from] io::Error),
    #[error("write-ahead log segment {segment} is damaged at byte {offset}: {why}")]
    Damaged {
        segment: String,
        offset: u64,
        why: &'static str,
    },
    #[error("write-ahead log segment {0} is missing")]
    Missing(String),
    #[error("write-ahead log: the file head, which says how far the log was durable, {0}")]
    Head(&'static str),
}

/// The open log.
pub struct Log {
    /// `None` until the first append to a log without segments.
    file: Option<Box<dyn DiskFile>>,
    sequence: u64,
    end: u64,
    allocated: u64,
    sum: u32,
    /// Bytes of the segments before this one that no snapshot covers.
    before: u64,
    /// Up to here are bytes of a write that failed or was cut short, to be zeroed before anything is written.
    torn: u64,
    /// A segment is closed when it has grown past this.
    segment_size: u64,
    head: Head,
    buffer: Vec<u8>,
}

pub(crate) fn name(sequence: u64) -> String {
    format!("{sequence:016x}.wal")
}

fn segments(disk: &dyn Disk) -> io::Result<Vec<u64>> {
    let names = disk.list()?;
    Ok(names
        .iter()
        .filter_map(|n| u64::from_str_radix(n.strip_suffix(".wal")?, 16).ok())
        .collect())
}

/// What a snapshot says of the log: it covers everything before segment `first`.
#[derive(Debug, Clone, Copy)]
pub struct Covered {
    pub first: u64,
    /// Of the snapshot; of an empty store when there is none.
    pub revision: u64,
    /// Whether there is a snapshot.
    pub snapshot: bool,
}

impl Default for Covered {
    fn default() -> Covered {
        Covered {
            first: 0,
            revision: crate::mvcc::Mvcc::new().revision(),
            snapshot: false,
        }
    }
}

impl Log {
    /// Replays the log from what `covered` leaves on and opens it for appending. Writes nothing: a full disk does not stop a
    /// start.
    ///
    /// # Errors
    /// When anything that was acknowledged cannot be read. Only one last write that a crash cut short is passed over.
    pub fn open(
        disk: &dyn Disk,
        covered: Covered,
        segment_size: u64,
        mut each: impl FnMut(Entry),
    ) -> Result<Log, LogError> {
        let replayed = replay::replay(disk, covered, &mut each)?;
        if let Some(fault) = replayed.fault {
            return Err(fault);
        }
        let Some(end) = replayed.end else {
            return Ok(Log::empty(covered.first, segment_size, replayed.head));
        };
        if end.torn > 0 {
            tracing::warn!(
                segment = name(end.place.sequence),
                offset = end.place.offset,
                bytes = end.torn - end.place.offset,
                "the last write to the log was cut short by a crash before it was acknowledged; it is dropped"
            );
        }
        Ok(Log::of(end, segment_size, replayed.head))
    }

    /// A log whose first segment is made by the first append.
    fn empty(sequence: u64, segment_size: u64, head: Head) -> Log {
        Log {
            file: None,
            sequence,
            end: 0,
            allocated: 0,
            sum: 0,
            before: 0,
            torn: 0,
            segment_size,
            head,
            buffer: Vec::new(),
        }
    }

    fn of(end: End, segment_size: u64, head: Head) -> Log {
        Log {
            file: Some(end.file),
            sequence: end.place.sequence,
            end: end.place.offset,
            allocated: end.allocated,
            sum: end.place.sum,
            before: end.before,
            torn: end.torn,
            segment_size,
            head,
            buffer: Vec::new(),
        }
    }

    /// Bytes that a start would replay.
    pub fn size(&self) -> u64 {
        self.before + self.end
    }

    fn place(&self, revision: u64) -> Place {
        Place {
            sequence: self.sequence,
            offset: self.end,
            sum: self.sum,
            revision,
        }
    }

    /// Writes one record without syncing. `revision` is the store's before it. When it fails the log is as it was.
    pub fn append<'a>(
        &mut self,
        disk: &dyn Disk,
        revision: u64,
        entries: impl IntoIterator<Item = &'a Entry>,
    ) -> io::Result<()> {
        if !self.head.is_made() {
            self.head.make(disk, self.place(revision))?;
        }
        if self.file.is_none() {
            self.create(disk, self.sequence, revision, 0)?;
        }
        self.zero_torn()?;
        if self.end >= self.segment_size {
            self.next(disk, revision, self.size())?;
        }
        self.buffer.clear();
        let start = record::begin(&mut self.buffer);
        entries.into_iter().for_each(|e| e.encode(&mut self.buffer));
        let sum = record::seal(&mut self.buffer, start, self.sum);
        let need = self.end + self.buffer.len() as u64;
        let Some(file) = &mut self.file else {
            return Err(io::Error::other("the log has no segment"));
        };
        if need > self.allocated {
            // grown in steps: a small cluster need not hold 16 MiB of disk, a busy one seldom pays for the allocation
            let grown = need.max((self.allocated * 2).min(self.segment_size));
            file.allocate(grown)?;
            self.allocated = grown;
        }
        if let Err(error) = file.write_at(self.end, &self.buffer) {
            self.torn = need;
            // a part of a refused write must not be read as a whole one; should this fail too, the next append tries again
            if let Err(error) = zero(&mut **file, self.end, need.min(self.allocated)) {
                tracing::warn!(%error, "a refused write is left in the write-ahead log");
            }
            return Err(error);
        }
        self.end = need;
        self.sum = sum;
        if self.buffer.capacity() > 1 << 20 {
            self.buffer = Vec::new();
        }
        Ok(())
    }

    /// Zeroes what a failed write left behind the end, so that nothing takes it for damage.
    fn zero_torn(&mut self) -> io::Result<()> {
        if let Some(file) = &mut self.file
            && self.torn > self.end
        {
            zero(&mut **file, self.end, self.torn)?;
            file.sync()?;
        }
        self.torn = 0;
        Ok(())
    }

    /// Makes what was appended durable; the store is then at `revision`.
    pub fn sync(&mut self, revision: u64) -> io::Result<()> {
        if let Some(file) = &mut self.file {
            file.sync()?;
        }
        let place = self.place(revision);
        if let Err(error) = self.head.mark(place) {
            // only the watch over the log's end suffers
            tracing::warn!(%error, "cannot write down how far the log is durable");
        }
        Ok(())
    }

    /// Makes durable how far the log is: at an orderly end.
    pub fn close(&mut self) {
        if let Err(error) = self.head.sync() {
            tracing::warn!(%error, "cannot write down how far the log is durable");
        }
    }

    /// Closes the segment and begins the next, with which the log begins once a snapshot covers what was before; returns
    /// its number.
    pub fn cut(&mut self, disk: &dyn Disk, revision: u64) -> io::Result<u64> {
        if !self.head.is_made() {
            self.head.make(disk, self.place(revision))?;
        }
        self.next(disk, revision, 0)?;
        Ok(self.sequence)
    }

    fn next(&mut self, disk: &dyn Disk, revision: u64, before: u64) -> io::Result<()> {
        if let Some(file) = &mut self.file {
            file.sync()?;
        }
        self.create(disk, self.sequence + 1, revision, before)
    }

    /// Ends a log that was cut after `kept`, and begins a segment in which the store is at `revision`.
    fn begin_again(&mut self, disk: &dyn Disk, kept: u64, revision: u64) -> io::Result<()> {
        self.zero_torn()?;
        if !self.head.is_made() {
            if disk.list()?.iter().any(|n| n == head::NAME) {
                disk.remove(head::NAME)?;
            }
            self.head.make(disk, self.place(kept))?;
        }
        let sequence = self.sequence + u64::from(self.file.is_some());
        self.create(disk, sequence, revision, 0)
    }

    /// Makes a segment, durable, and the head that knows of it.
    fn create(&mut self, disk: &dyn Disk, sequence: u64, revision: u64, before: u64) -> io::Result<()> {
        let mut file = disk.open(&name(sequence))?;
        let allocated = FIRST_ALLOCATION.min(self.segment_size);
        file.allocate(allocated)?;
        let mut header = header(sequence, self.sum);
        let start = record::begin(&mut header);
        Entry::Begin { revision }.encode(&mut header);
        let sum = record::seal(&mut header, start, self.sum);
        file.write_at(0, &header)?;
        file.sync()?;
        disk.sync_names()?;
        let end = header.len() as u64;
        let place = Place {
            sequence,
            offset: end,
            sum,
            revision,
        };
        self.head.mark(place)?;
        self.head.sync()?;
        *self = Log {
            file: Some(file),
            sequence,
            end,
            allocated,
            sum,
            before,
            torn: 0,
            segment_size: self.segment_size,
            head: std::mem::take(&mut self.head),
            buffer: std::mem::take(&mut self.buffer),
        };
        Ok(())
    }

    /// Removes the segments before `first`: a snapshot covers them.
    pub fn remove_before(disk: &dyn Disk, first: u64) -> io::Result<()> {
        for sequence in segments(disk)?.into_iter().filter(|s| *s < first) {
            disk.remove(&name(sequence))?;
        }
        disk.sync_names()
    }
}

/// The header of a segment that continues a record with this checksum.
pub(crate) fn header(sequence: u64, continued: u32) -> Vec<u8> {
    let mut header = Vec::with_capacity(64);
    header.extend_from_slice(MAGIC);
    header.extend_from_slice(&sequence.to_le_bytes());
    header.extend_from_slice(&continued.to_le_bytes());
    header.extend_from_slice(&crc32c::crc32c(&header).to_le_bytes());
    header
}

fn check_header(bytes: &Bytes, sequence: u64) -> Option<u32> {
    let header = bytes.get(..SEGMENT_HEADER as usize)?;
    let own = crc32c::crc32c(&header[..20]).to_le_bytes();
    let fits = &header[..8] == MAGIC && header[8..16] == sequence.to_le_bytes() && header[20..] == own;
    fits.then(|| u32::from_le_bytes([header[16], header[17], header[18], header[19]]))
}

/// Overwrites `from..to` with zeros.
fn zero(file: &mut dyn DiskFile, from: u64, to: u64) -> io::Result<()> {
    let zeros = vec![0; 1 << 16];
    let mut at = from;
    while at < to {
        let n = (to - at).min(zeros.len() as u64);
        file.write_at(at, &zeros[..n as usize])?;
        at += n;
    }
    Ok(())
}

pub(crate) fn read_all(file: &dyn DiskFile) -> io::Result<Bytes> {
    let len = usize::try_from(file.size()?).map_err(io::Error::other)?;
    let mut bytes = vec![0; len];
    let mut at = 0;
    while at < len {
        match file.read_at(at as u64, &mut bytes[at..])? {
            0 => break,
            n => at += n,
        }
    }
    bytes.truncate(at);
    Ok(Bytes::from(bytes))
}
