//! Snapshots: all keys as of one revision, written beside the running store, so that the log before it can go.

use std::io;

use bytes::{Buf, BufMut, Bytes};

use crate::disk::{Disk, DiskFile};
use crate::log::read_all;
use crate::record::{self, Entry, MOST};
use crate::store::KeyValue;

pub(crate) const NAME: &str = "snapshot";
const UNFINISHED: &str = "snapshot.new";
pub(crate) const MAGIC: &[u8; 8] = b"SKIFSNP1";

/// Why a snapshot cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    #[error("snapshot: {0}")]
    Io(#[from] io::Error),
    #[error("snapshot is damaged at byte {0}")]
    Damaged(usize),
}

/// What a snapshot holds.
#[derive(Debug)]
pub struct Snapshot {
    pub revision: u64,
    /// The log continues in this segment.
    pub first_segment: u64,
    pub leases: Vec<(i64, i64)>,
    pub kvs: Vec<KeyValue>,
    /// Bytes of the file.
    pub size: u64,
}

/// Writes a snapshot piece by piece; it replaces the old one only when finished.
pub struct Writer {
    file: Box<dyn DiskFile>,
    offset: u64,
    sum: u32,
}

impl Writer {
    /// Begins a snapshot of a revision, whose log continues in a segment, with the ids and seconds of all leases.
    pub fn begin(disk: &dyn Disk, revision: u64, first_segment: u64, leases: &[(i64, i64)]) -> io::Result<Writer> {
        if disk.list()?.iter().any(|n| n == UNFINISHED) {
            disk.remove(UNFINISHED)?;
        }
        let mut file = disk.open(UNFINISHED)?;
        file.write_at(0, MAGIC)?;
        let mut writer = Writer {
            file,
            offset: MAGIC.len() as u64,
            sum: 0,
        };
        let mut out = Vec::new();
        let start = record::begin(&mut out);
        out.put_u64_le(revision);
        out.put_u64_le(first_segment);
        for (id, ttl) in leases {
            out.put_i64_le(*id);
            out.put_i64_le(*ttl);
        }
        writer.write(out, start)?;
        Ok(writer)
    }

    /// Appends a record of keys.
    pub fn add(&mut self, kvs: Vec<KeyValue>) -> io::Result<()> {
        let mut out = Vec::new();
        let start = record::begin(&mut out);
        kvs.into_iter().for_each(|kv| Entry::Put(kv).encode(&mut out));
        self.write(out, start)
    }

    /// Marks the end, syncs, and puts the snapshot in the old one's place; returns its size.
    pub fn finish(mut self, disk: &dyn Disk) -> io::Result<u64> {
        let mut out = Vec::new();
        let start = record::begin(&mut out);
        Entry::Compact { revision: 0 }.encode(&mut out);
        self.write(out, start)?;
        self.file.sync()?;
        disk.rename(UNFINISHED, NAME)?;
        disk.sync_names()?;
        Ok(self.offset)
    }

    fn write(&mut self, mut out: Vec<u8>, start: usize) -> io::Result<()> {
        self.sum = record::seal(&mut out, start, self.sum);
        self.file.write_at(self.offset, &out)?;
        self.offset += out.len() as u64;
        Ok(())
    }
}

/// Reads the snapshot if there is one.
///
/// # Errors
/// `Damaged` when it does not end as it was finished: the store then refuses to start rather than lose data.
pub fn read(disk: &dyn Disk) -> Result<Option<Snapshot>, SnapshotError> {
    if !disk.list()?.iter().any(|n| n == NAME) {
        return Ok(None);
    }
    let bytes = read_all(&*disk.open(NAME)?)?;
    let mut offset = MAGIC.len();
    if bytes.get(..offset) != Some(&MAGIC[..]) {
        return Err(SnapshotError::Damaged(0));
    }
    let mut sum = 0;
    let mut next = |offset: &mut usize| -> Result<Bytes, SnapshotError> {
        let (body, found) = record::open(&bytes.slice(*offset..), sum).ok_or(SnapshotError::Damaged(*offset))?;
        sum = found;
        *offset += record::HEADER + body.len();
        Ok(body)
    };
    let mut head = next(&mut offset)?;
    if head.len() < 16 || head.len() % 16 != 0 {
        return Err(SnapshotError::Damaged(MAGIC.len()));
    }
    let mut snapshot = Snapshot {
        revision: head.get_u64_le(),
        first_segment: head.get_u64_le(),
        leases: Vec::new(),
        kvs: Vec::new(),
        size: bytes.len() as u64,
    };
    // numbers that no store has counted to, and from which it could not count on
    if snapshot.revision > MOST || snapshot.first_segment > MOST {
        return Err(SnapshotError::Damaged(MAGIC.len()));
    }
    while head.has_remaining() {
        snapshot.leases.push((head.get_i64_le(), head.get_i64_le()));
    }
    loop {
        let mut body = next(&mut offset)?;
        while body.has_remaining() {
            match Entry::decode(&mut body) {
                Some(Entry::Put(kv)) => snapshot.kvs.push(kv),
                Some(Entry::Compact { .. }) => return Ok(Some(snapshot)),
                _ => return Err(SnapshotError::Damaged(offset)),
            }
        }
    }
}
