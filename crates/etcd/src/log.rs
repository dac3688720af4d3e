//! The write-ahead log: preallocated segments of checksummed records, appended to by one writer.
//!
//! A segment `<first sequence>.wal` begins with a header naming the checksum it continues. The log ends at the first place
//! where no whole record stands; that is only allowed in the last segment.

use std::io;

use bytes::Bytes;

use crate::disk::{Disk, DiskFile};
use crate::record::{self, Entry};

const MAGIC: &[u8; 8] = b"SKIFWAL1";
/// Magic, sequence, checksum to continue, checksum of these.
const SEGMENT_HEADER: u64 = 24;
/// A segment is closed when it has grown past this.
const SEGMENT_SIZE: u64 = 16 << 20;

/// Why a log cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    #[error("write-ahead log: {0}")]
    Io(#[from] io::Error),
    #[error("write-ahead log segment {segment} is damaged at byte {offset}, and later segments follow it")]
    Damaged { segment: String, offset: u64 },
    #[error("write-ahead log segment {0} is missing")]
    Missing(String),
}

/// The open log.
pub struct Log {
    file: Box<dyn DiskFile>,
    sequence: u64,
    end: u64,
    allocated: u64,
    sum: u32,
    /// Bytes of the segments before this one that no snapshot covers.
    before: u64,
    buffer: Vec<u8>,
}

fn name(sequence: u64) -> String {
    format!("{sequence:016x}.wal")
}

fn segments(disk: &dyn Disk) -> io::Result<Vec<u64>> {
    let names = disk.list()?;
    Ok(names
        .iter()
        .filter_map(|n| u64::from_str_radix(n.strip_suffix(".wal")?, 16).ok())
        .collect())
}

impl Log {
    /// Replays the log from segment `first` on (older ones are covered by a snapshot) and opens it for appending.
    pub fn open(disk: &dyn Disk, first: u64, mut each: impl FnMut(Entry)) -> Result<Log, LogError> {
        let all: Vec<u64> = segments(disk)?.into_iter().filter(|s| *s >= first).collect();
        let mut last = None;
        let mut before = 0;
        for (i, (sequence, expect)) in all.iter().copied().zip(first..).enumerate() {
            if sequence != expect {
                return Err(LogError::Missing(name(expect)));
            }
            let segment = name(sequence);
            let file = disk.open(&segment)?;
            let bytes = read_all(&*file)?;
            let Some(mut sum) = check_header(&bytes, sequence) else {
                // the segment was being made when the machine stopped: nothing in it was acknowledged
                if i + 1 == all.len() {
                    break;
                }
                return Err(LogError::Damaged { segment, offset: 0 });
            };
            let mut offset = SEGMENT_HEADER;
            while let Some((mut body, next)) = record::open(&bytes.slice(offset as usize..), sum) {
                offset += (record::HEADER + body.len()) as u64;
                sum = next;
                while let Some(entry) = Entry::decode(&mut body) {
                    each(entry);
                }
                if !body.is_empty() {
                    return Err(LogError::Damaged { segment, offset });
                }
            }
            if i + 1 < all.len() && !ends_here(&bytes, offset) {
                return Err(LogError::Damaged { segment, offset });
            }
            last = Some(Log {
                file,
                sequence,
                end: offset,
                allocated: bytes.len() as u64,
                sum,
                before,
                buffer: Vec::new(),
            });
            before += offset;
        }
        match last {
            Some(log) => Ok(log),
            None => Ok(Log::create(disk, first, 0, 0)?),
        }
    }

    fn create(disk: &dyn Disk, sequence: u64, sum: u32, before: u64) -> io::Result<Log> {
        let mut file = disk.open(&name(sequence))?;
        file.allocate(1 << 20)?;
        let mut header = Vec::with_capacity(SEGMENT_HEADER as usize);
        header.extend_from_slice(MAGIC);
        header.extend_from_slice(&sequence.to_le_bytes());
        header.extend_from_slice(&sum.to_le_bytes());
        header.extend_from_slice(&crc32c::crc32c(&header).to_le_bytes());
        // a segment of this name may be left from an unfinished start: its records must not follow the new header
        header.extend_from_slice(&[0; record::HEADER]);
        file.write_at(0, &header)?;
        file.sync()?;
        disk.sync_names()?;
        Ok(Log {
            file,
            sequence,
            end: SEGMENT_HEADER,
            allocated: 1 << 20,
            sum,
            before,
            buffer: Vec::new(),
        })
    }

    /// Bytes that a start would replay.
    pub fn size(&self) -> u64 {
        self.before + self.end
    }

    /// Writes one record without syncing. When it fails the log is as it was.
    pub fn append<'a>(&mut self, disk: &dyn Disk, entries: impl IntoIterator<Item = &'a Entry>) -> io::Result<()> {
        if self.end >= SEGMENT_SIZE {
            self.next(disk, self.size())?;
        }
        self.buffer.clear();
        let start = record::begin(&mut self.buffer);
        entries.into_iter().for_each(|e| e.encode(&mut self.buffer));
        let sum = record::seal(&mut self.buffer, start, self.sum);
        let need = self.end + self.buffer.len() as u64;
        if need > self.allocated {
            // grown in steps: a small cluster need not hold 16 MiB of disk, a busy one seldom pays for the allocation
            let grown = need.max((self.allocated * 2).min(SEGMENT_SIZE));
            self.file.allocate(grown)?;
            self.allocated = grown;
        }
        self.file.write_at(self.end, &self.buffer)?;
        self.end = need;
        self.sum = sum;
        if self.buffer.capacity() > 1 << 20 {
            self.buffer = Vec::new();
        }
        Ok(())
    }

    pub fn sync(&mut self) -> io::Result<()> {
        self.file.sync()
    }

    /// Closes the segment and begins the next, with which the log begins once a snapshot covers what was before; returns
    /// its number.
    pub fn cut(&mut self, disk: &dyn Disk) -> io::Result<u64> {
        self.next(disk, 0)?;
        Ok(self.sequence)
    }

    fn next(&mut self, disk: &dyn Disk, before: u64) -> io::Result<()> {
        self.file.sync()?;
        *self = Log::create(disk, self.sequence + 1, self.sum, before)?;
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

fn check_header(bytes: &Bytes, sequence: u64) -> Option<u32> {
    let header = bytes.get(..SEGMENT_HEADER as usize)?;
    let own = crc32c::crc32c(&header[..20]).to_le_bytes();
    let fits = &header[..8] == MAGIC && header[8..16] == sequence.to_le_bytes() && header[20..] == own;
    fits.then(|| u32::from_le_bytes([header[16], header[17], header[18], header[19]]))
}

fn ends_here(bytes: &Bytes, offset: u64) -> bool {
    bytes[offset as usize..].iter().take(record::HEADER).all(|b| *b == 0)
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
