//! The log's record: length, checksum, entries. The checksum of a record continues that of the one before, so bytes left
//! over from an abandoned write can never pass for the log's continuation.

use bytes::{Buf, BufMut, Bytes};

use crate::store::{Event, EventKind, KeyValue};

/// One thing the log remembers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Entry {
    Put(KeyValue),
    Delete {
        key: Bytes,
        revision: u64,
    },
    LeaseGrant {
        id: i64,
        ttl: i64,
    },
    LeaseRevoke {
        id: i64,
    },
    Compact {
        revision: u64,
    },
    /// The first entry of a segment: the store's revision then. After a truncation it is higher than any that was given up, so
    /// that no revision is used twice.
    Begin {
        revision: u64,
    },
}

/// The highest revision, and the highest number of a segment: etcd's are signed.
pub const MOST: u64 = i64::MAX as u64;

/// Length and checksum, four bytes each.
pub const HEADER: usize = 8;

const PUT: u8 = 1;
const DELETE: u8 = 2;
const LEASE_GRANT: u8 = 3;
const LEASE_REVOKE: u8 = 4;
const COMPACT: u8 = 5;
const BEGIN: u8 = 6;

impl Entry {
    /// The entry that repeats a change.
    pub fn of(event: &Event) -> Entry {
        match event.kind {
            EventKind::Put => Entry::Put(event.kv.clone()),
            EventKind::Delete => Entry::Delete {
                key: event.kv.key.clone(),
                revision: event.kv.mod_revision,
            },
        }
    }

    /// Appends the entry's bytes.
    pub fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Entry::Put(kv) => {
                out.put_u8(PUT);
                out.put_u64_le(kv.mod_revision);
                out.put_u64_le(kv.create_revision);
                out.put_u64_le(kv.version);
                out.put_i64_le(kv.lease);
                put_bytes(out, &kv.key);
                put_bytes(out, &kv.value);
            }
            Entry::Delete { key, revision } => {
                out.put_u8(DELETE);
                out.put_u64_le(*revision);
                put_bytes(out, key);
            }
            Entry::LeaseGrant { id, ttl } => {
                out.put_u8(LEASE_GRANT);
                out.put_i64_le(*id);
                out.put_i64_le(*ttl);
            }
            Entry::LeaseRevoke { id } => {
                out.put_u8(LEASE_REVOKE);
                out.put_i64_le(*id);
            }
            Entry::Compact { revision } => {
                out.put_u8(COMPACT);
                out.put_u64_le(*revision);
            }
            Entry::Begin { revision } => {
                out.put_u8(BEGIN);
                out.put_u64_le(*revision);
            }
        }
    }

    /// The store's revision that the entry makes or speaks of; 0 for none.
    pub fn revision(&self) -> u64 {
        match self {
            Entry::Put(kv) => kv.mod_revision,
            Entry::Delete { revision, .. } | Entry::Compact { revision } | Entry::Begin { revision } => *revision,
            Entry::LeaseGrant { .. } | Entry::LeaseRevoke { .. } => 0,
        }
    }

    /// `None` when the bytes are not an entry.
    pub fn decode(from: &mut Bytes) -> Option<Entry> {
        let kind = from.try_get_u8().ok()?;
        Some(match kind {
            PUT => Entry::Put(KeyValue {
                mod_revision: from.try_get_u64_le().ok()?,
                create_revision: from.try_get_u64_le().ok()?,
                version: from.try_get_u64_le().ok()?,
                lease: from.try_get_i64_le().ok()?,
                key: get_bytes(from)?,
                value: get_bytes(from)?,
            }),
            DELETE => Entry::Delete {
                revision: from.try_get_u64_le().ok()?,
                key: get_bytes(from)?,
            },
            LEASE_GRANT => Entry::LeaseGrant {
                id: from.try_get_i64_le().ok()?,
                ttl: from.try_get_i64_le().ok()?,
            },
            LEASE_REVOKE => Entry::LeaseRevoke {
                id: from.try_get_i64_le().ok()?,
            },
            COMPACT => Entry::Compact {
                revision: from.try_get_u64_le().ok()?,
            },
            BEGIN => Entry::Begin {
                revision: from.try_get_u64_le().ok()?,
            },
            _ => return None,
        })
    }
}

fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    // a request is limited to a few MiB long before this
    out.put_u32_le(u32::try_from(bytes.len()).unwrap_or(u32::MAX));
    out.put_slice(bytes);
}

fn get_bytes(from: &mut Bytes) -> Option<Bytes> {
    let len = from.try_get_u32_le().ok()? as usize;
    // copied: a value must not keep the whole record alive
    (from.remaining() >= len).then(|| Bytes::copy_from_slice(&from.split_to(len)))
}

/// Starts a record at the end of `out`; entries follow, then [`seal`].
pub fn begin(out: &mut Vec<u8>) -> usize {
    let start = out.len();
    out.put_bytes(0, HEADER);
    start
}

/// Fills in the header of the record begun at `start` and returns the checksum that the next record continues.
pub fn seal(out: &mut [u8], start: usize, previous: u32) -> u32 {
    let body = &out[start + HEADER..];
    let len = u32::try_from(body.len()).unwrap_or(u32::MAX);
    let sum = crc32c::crc32c_append(crc32c::crc32c_append(previous, &len.to_le_bytes()), body);
    out[start..start + 4].copy_from_slice(&len.to_le_bytes());
    out[start + 4..start + 8].copy_from_slice(&sum.to_le_bytes());
    sum
}

/// The body of the record at the start of `from` and the checksum to continue; `None` where no whole record stands.
pub fn open(from: &Bytes, previous: u32) -> Option<(Bytes, u32)> {
    let header = from.get(..HEADER)?;
    let len = u32::from_le_bytes(header[..4].try_into().ok()?);
    let sum = u32::from_le_bytes(header[4..].try_into().ok()?);
    if len == 0 {
        return None;
    }
    let body = from.get(HEADER..HEADER.checked_add(len as usize)?)?;
    let found = crc32c::crc32c_append(crc32c::crc32c_append(previous, &len.to_le_bytes()), body);
    (found == sum).then(|| (from.slice(HEADER..HEADER + len as usize), sum))
}

/// The length that the header at the start of `from` gives the record's body; `None` where none can begin.
pub fn length(from: &[u8]) -> Option<usize> {
    let header = from.get(..HEADER)?;
    let len = u32::from_le_bytes(header[..4].try_into().ok()?);
    (len != 0).then_some(len as usize)
}

/// Whether entries fill `body` exactly and write revisions that can follow `revision`. Each entry that is looked at costs one
/// of `budget`; when it is used up the answer is no.
pub fn are_entries(body: &[u8], revision: u64, budget: &mut usize) -> bool {
    /// More revisions than a log can have between two of its records.
    const FAR: u64 = 1 << 40;
    let mut rest = body;
    let mut writes = false;
    while let Some((kind, content)) = rest.split_first() {
        let Some(left) = budget.checked_sub(1) else {
            return false;
        };
        *budget = left;
        let number = |at: usize| Some(u64::from_le_bytes(content.get(at..at + 8)?.try_into().ok()?));
        let sized = |at: usize| {
            let len = u32::from_le_bytes(content.get(at..at + 4)?.try_into().ok()?);
            (at + 4).checked_add(len as usize)
        };
        let len = match *kind {
            PUT => sized(32).and_then(sized),
            DELETE => sized(8),
            LEASE_GRANT => Some(16),
            LEASE_REVOKE | COMPACT | BEGIN => Some(8),
            _ => None,
        };
        if matches!(*kind, PUT | DELETE) {
            let follows = number(0).is_some_and(|r| r > revision && r - revision < FAR);
            if !follows {
                return false;
            }
            writes = true;
        }
        let Some(next) = len.and_then(|len| content.get(len..)) else {
            return false;
        };
        rest = next;
    }
    writes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_come_back_and_a_broken_byte_is_seen() {
        let entries = [
            Entry::Put(KeyValue {
                key: "k".into(),
                value: "v".into(),
                create_revision: 1,
                mod_revision: 2,
                version: 2,
                lease: 9,
            }),
            Entry::Delete {
                key: "k".into(),
                revision: 3,
            },
            Entry::LeaseGrant { id: 4, ttl: 5 },
            Entry::LeaseRevoke { id: 4 },
            Entry::Compact { revision: 2 },
            Entry::Begin { revision: 3 },
        ];
        let mut out = Vec::new();
        let start = begin(&mut out);
        entries.iter().for_each(|e| e.encode(&mut out));
        let sum = seal(&mut out, start, 7);
        let bytes = Bytes::from(out);
        let (mut body, next) = open(&bytes, 7).unwrap();
        assert_eq!(next, sum);
        let back: Vec<_> = std::iter::from_fn(|| Entry::decode(&mut body)).collect();
        assert_eq!(back, entries);
        assert!(are_entries(&bytes[HEADER..], 1, &mut 100));
        assert!(!are_entries(&bytes[HEADER..], 2, &mut 100), "revisions only grow");
        assert!(!are_entries(&bytes[HEADER..], 1, &mut 3), "the budget");
        assert!(!are_entries(&bytes[HEADER..bytes.len() - 1], 1, &mut 100));
        assert!(open(&bytes, 8).is_none(), "another predecessor");
        for i in 0..bytes.len() {
            let mut broken = bytes.to_vec();
            broken[i] ^= 1;
            assert!(open(&Bytes::from(broken), 7).is_none(), "byte {i}");
        }
    }
}
