//! What stands behind the last whole record of the newest segment: nothing, a write that a crash cut short, or damage.

use crate::record;

/// The least that a disk writes at once.
const SECTOR: usize = 512;

/// The judgement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tail {
    /// Nothing was written.
    Clean,
    /// One record that was never acknowledged: pieces of it were not written. It ends before this offset.
    Torn(usize),
    /// More than one write that a crash cut short leaves.
    Damaged(&'static str),
}

/// Judges the bytes of a segment from `end` on, where no whole record stands; `revision` is the last before. `marked`: a head
/// says that the log was durable up to here at least.
///
/// A record is written at once, and the next only when it is durable. So a crash leaves a record of which at least a sector
/// is still zero, and zeros behind it.
pub(super) fn judge(bytes: &[u8], end: usize, revision: u64, marked: bool) -> Tail {
    let Some(last) = bytes[end..].iter().rposition(|b| *b != 0).map(|i| end + i) else {
        return Tail::Clean;
    };
    let body = end + record::HEADER;
    // a header within one sector was written whole or not at all: its length is true
    let whole_header = end / SECTOR == (body - 1) / SECTOR;
    if whole_header && let Some(len) = record::length(&bytes[end..]) {
        let claimed = body.saturating_add(len);
        if claimed <= bytes.len() {
            if last >= claimed {
                return Tail::Damaged("a record does not match its checksum, and more follows it");
            }
            if !has_hole(bytes, end, claimed) {
                return Tail::Damaged("the last record is complete and does not match its checksum");
            }
        }
    }
    // logs of before there was a head: a damaged length must not pass for a write cut short
    if !marked && body <= last && record::are_entries(&bytes[body..=last], revision, &mut bytes.len()) {
        return Tail::Damaged("the last record is complete, and its header does not match it");
    }
    if record_after(bytes, end + 1, last, revision) {
        return Tail::Damaged("no whole record is here, but one follows");
    }
    Tail::Torn(last + 1)
}

/// Whether a piece of the record was not written: a sector of it is all zeros, or its end is.
fn has_hole(bytes: &[u8], start: usize, end: usize) -> bool {
    let mut at = start;
    while at < end {
        let next = ((at / SECTOR + 1) * SECTOR).min(end);
        if bytes[at..next].iter().all(|b| *b == 0) {
            return true;
        }
        at = next;
    }
    bytes[end - 1] == 0
}

/// Whether a later record begins anywhere in `from..=last`. The checksum it continues is not known: it is told by its length and
/// by entries that fill it, with a later revision.
fn record_after(bytes: &[u8], from: usize, last: usize, revision: u64) -> bool {
    // values may look like many records; what cannot be told in bounded time counts as damage, which loses nothing
    let mut budget = 4 * bytes.len();
    for at in from..=last {
        let Some(len) = record::length(&bytes[at..=last]) else {
            continue;
        };
        let body = at + record::HEADER;
        let Some(content) = body.checked_add(len).and_then(|end| bytes.get(body..end)) else {
            continue;
        };
        if record::are_entries(content, revision, &mut budget) || budget == 0 {
            return true;
        }
    }
    false
}
