//! The file `head`: how far the log was durable when its last batch was. Written after each sync and never waited for, so
//! that an end of the log before it is damage and not a write that a crash cut short.

use std::io;

use bytes::{Buf, BufMut, Bytes};

use super::{LogError, read_all};
use crate::disk::{Disk, DiskFile};

pub(super) const NAME: &str = "head";
const MAGIC: &[u8; 8] = b"SKIFHED1";
/// Magic, count, segment, offset, revision, checksum of the log up to there, checksum of these.
const MARK: usize = 48;
/// Marks are written by turns to two pages: a torn one leaves the one before it.
const PAGE: u64 = 4096;

/// A place in the log between two records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place {
    /// The segment's number.
    pub sequence: u64,
    /// Bytes from the segment's start. 0: the segment need not be there yet.
    pub offset: u64,
    /// The checksum of everything before.
    pub sum: u32,
    /// The store's revision.
    pub revision: u64,
}

/// The open file.
#[derive(Default)]
pub(super) struct Head {
    file: Option<Box<dyn DiskFile>>,
    count: u64,
}

impl Head {
    /// The file and its newest mark. A file that was being made when the machine stopped counts as none.
    pub fn read(disk: &dyn Disk) -> Result<(Head, Option<Place>), LogError> {
        if !disk.list()?.iter().any(|n| n == NAME) {
            return Ok((Head::default(), None));
        }
        let file = disk.open(NAME)?;
        let bytes = read_all(&*file)?;
        let newest = (0..2)
            .filter_map(|turn| decode(&bytes, turn))
            .max_by_key(|(count, _)| *count);
        let Some((count, place)) = newest else {
            if bytes.iter().all(|b| *b == 0) {
                return Ok((Head::default(), None));
            }
            return Err(LogError::Head("both of its marks are damaged"));
        };
        let file = Some(file);
        Ok((Head { file, count }, Some(place)))
    }

    /// Returns whether the file is there.
    pub fn is_made(&self) -> bool {
        self.file.is_some()
    }

    /// Makes the file, durable, with its first mark.
    pub fn make(&mut self, disk: &dyn Disk, place: Place) -> io::Result<()> {
        let mut file = disk.open(NAME)?;
        file.allocate(2 * PAGE)?;
        let mut made = Head {
            file: Some(file),
            count: 0,
        };
        made.mark(place)?;
        made.sync()?;
        disk.sync_names()?;
        *self = made;
        Ok(())
    }

    /// Remembers a place that is durable. Needs no room on the disk.
    pub fn mark(&mut self, place: Place) -> io::Result<()> {
        let Some(file) = &mut self.file else { return Ok(()) };
        self.count += 1;
        let mut out = Vec::with_capacity(MARK);
        out.put_slice(MAGIC);
        out.put_u64_le(self.count);
        out.put_u64_le(place.sequence);
        out.put_u64_le(place.offset);
        out.put_u64_le(place.revision);
        out.put_u32_le(place.sum);
        out.put_u32_le(crc32c::crc32c(&out));
        file.write_at(self.count % 2 * PAGE, &out)
    }

    /// Makes the marks durable.
    pub fn sync(&mut self) -> io::Result<()> {
        self.file.as_mut().map_or(Ok(()), |file| file.sync())
    }
}

fn decode(bytes: &Bytes, turn: u64) -> Option<(u64, Place)> {
    let start = usize::try_from(turn * PAGE).ok()?;
    let mark = bytes.get(start..start + MARK)?;
    let (content, mut own) = mark.split_at(MARK - 4);
    if own.get_u32_le() != crc32c::crc32c(content) {
        return None;
    }
    let mut rest = content.strip_prefix(MAGIC)?;
    let count = rest.get_u64_le();
    let place = Place {
        sequence: rest.get_u64_le(),
        offset: rest.get_u64_le(),
        revision: rest.get_u64_le(),
        sum: rest.get_u32_le(),
    };
    Some((count, place))
}
