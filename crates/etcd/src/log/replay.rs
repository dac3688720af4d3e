//! Reading the log at a start: every entry in order, up to its end or to the first thing that does not check. Writes nothing.

use bytes::Bytes;

use super::head::{Head, Place};
use super::tail::{self, Tail};
use super::{Covered, LogError, SEGMENT_HEADER, check_header, name, read_all, segments};
use crate::disk::{Disk, DiskFile};
use crate::record::{self, Entry};

/// The last segment that was read, up to the last whole record.
pub(super) struct End {
    pub file: Box<dyn DiskFile>,
    pub place: Place,
    /// The file's length.
    pub allocated: u64,
    /// Where the bytes of a torn write end, if there is one behind the place.
    pub torn: u64,
    /// Bytes of the segments before this one.
    pub before: u64,
}

/// What was read.
pub(super) struct Replayed {
    /// `None` when there is no segment that can be read.
    pub end: Option<End>,
    pub head: Head,
    /// How far the log was durable at least.
    pub mark: Option<Place>,
    /// Why reading ended before the log did.
    pub fault: Option<LogError>,
}

struct Reader<'a> {
    mark: Option<Place>,
    /// Whether the mark's place was met.
    met: bool,
    /// Whether a segment says that there is a head.
    has_head: bool,
    revision: u64,
    each: &'a mut dyn FnMut(Entry),
}

/// Reads the part of the log that no snapshot covers.
///
/// # Errors
/// Only those of the disk; what does not check is the answer's `fault`.
pub(super) fn replay(disk: &dyn Disk, covered: Covered, each: &mut dyn FnMut(Entry)) -> Result<Replayed, LogError> {
    let first = covered.first;
    let (head, mark, unreadable) = match Head::read(disk) {
        Ok((head, mark)) => (head, mark, None),
        Err(error @ LogError::Head(_)) => (Head::default(), None, Some(error)),
        Err(error) => return Err(error),
    };
    let mut reader = Reader {
        mark,
        met: mark.is_none_or(|m| m.sequence < first || (m.sequence == first && m.offset == 0)),
        has_head: false,
        revision: covered.revision,
        each,
    };
    let (end, mut fault) = reader.segments(disk, covered)?;
    if fault.is_none() {
        fault = unreadable;
    }
    if fault.is_none() && mark.is_none() && reader.has_head {
        fault = Some(LogError::Head("is missing or empty"));
    }
    Ok(Replayed { end, head, mark, fault })
}

impl Reader<'_> {
    /// The last segment read, with the first fault.
    fn segments(
        &mut self,
        disk: &dyn Disk,
        Covered { first, snapshot, .. }: Covered,
    ) -> Result<(Option<End>, Option<LogError>), LogError> {
        let all: Vec<u64> = segments(disk)?.into_iter().filter(|s| *s >= first).collect();
        let mut end: Option<(End, Bytes)> = None;
        for sequence in first.. {
            let needed = (snapshot && sequence == first)
                || self.mark.is_some_and(|m| m.sequence >= sequence && !self.met)
                || all.last().is_some_and(|last| *last > sequence);
            if !all.contains(&sequence) {
                if needed {
                    return Ok((end.map(|e| e.0), Some(LogError::Missing(name(sequence)))));
                }
                break;
            }
            let file = disk.open(&name(sequence))?;
            let bytes = read_all(&*file)?;
            let Some(continued) = check_header(&bytes, sequence) else {
                // being made when the machine stopped: nothing in it was acknowledged
                let blank = bytes.iter().skip(SEGMENT_HEADER as usize).all(|b| *b == 0);
                if blank && !needed {
                    break;
                }
                let why = "its header does not match its checksum";
                return Ok((end.map(|e| e.0), Some(damaged(sequence, 0, why))));
            };
            if let Some((before, _)) = &end
                && before.place.sum != continued
            {
                let Place { sequence, offset, .. } = before.place;
                let why = "the next segment continues another record than the last whole one here";
                return Ok((end.map(|e| e.0), Some(damaged(sequence, offset, why))));
            }
            let before = end.as_ref().map_or(0, |(e, _)| e.before + e.place.offset);
            let mut place = Place {
                sequence,
                offset: SEGMENT_HEADER,
                sum: continued,
                revision: self.revision,
            };
            let fault = self.records(&bytes, &mut place);
            let allocated = bytes.len() as u64;
            let read = End {
                file,
                place,
                allocated,
                torn: 0,
                before,
            };
            if fault.is_some() {
                return Ok((Some(read), fault));
            }
            end = Some((read, bytes));
        }
        let Some((mut end, bytes)) = end else {
            return Ok((None, None));
        };
        let Place { sequence, offset, .. } = end.place;
        let fault = match tail::judge(&bytes, offset as usize, end.place.revision, self.mark.is_some()) {
            _ if !self.met => Some(damaged(sequence, offset, "the log was durable beyond this place")),
            Tail::Clean => None,
            Tail::Damaged(why) => Some(damaged(sequence, offset, why)),
            Tail::Torn(until) => {
                end.torn = until as u64;
                None
            }
        };
        Ok((Some(end), fault))
    }

    /// Reads a segment's records, moving `place` behind each.
    fn records(&mut self, bytes: &Bytes, place: &mut Place) -> Option<LogError> {
        loop {
            if let Some(mark) = self.mark.filter(|m| m.sequence == place.sequence && !self.met) {
                if mark.offset == place.offset {
                    if mark.sum != place.sum {
                        let why = "other records are here than were written";
                        return Some(damaged(place.sequence, place.offset, why));
                    }
                    self.met = true;
                } else if mark.offset < place.offset {
                    let why = "a record is here that crosses the place up to which the log was durable";
                    return Some(damaged(place.sequence, mark.offset, why));
                }
            }
            let (mut body, sum) = record::open(&bytes.slice(place.offset as usize..), place.sum)?;
            let len = (record::HEADER + body.len()) as u64;
            while let Some(entry) = Entry::decode(&mut body) {
                if entry.revision() > record::MOST {
                    let why = "an entry is of a revision that no store reaches";
                    return Some(damaged(place.sequence, place.offset, why));
                }
                self.has_head |= matches!(entry, Entry::Begin { .. });
                self.revision = self.revision.max(entry.revision());
                (self.each)(entry);
            }
            if !body.is_empty() {
                return Some(damaged(
                    place.sequence,
                    place.offset,
                    "an entry is of no kind that is known",
                ));
            }
            place.offset += len;
            place.sum = sum;
            place.revision = self.revision;
        }
    }
}

fn damaged(sequence: u64, offset: u64, why: &'static str) -> LogError {
    LogError::Damaged {
        segment: name(sequence),
        offset,
        why,
    }
}
