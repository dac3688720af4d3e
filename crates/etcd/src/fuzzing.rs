//! The doors of the fuzz targets to parsers that are private otherwise. Not a part of what the crate offers.

use bytes::{Buf, Bytes};

use crate::log;
use crate::record::{self, Entry};
use crate::snapshot;

/// The name of the snapshot's file.
pub const SNAPSHOT: &str = snapshot::NAME;

/// The name of a segment's file.
pub fn segment_name(sequence: u64) -> String {
    log::name(sequence)
}

/// A segment of these bodies, each behind a byte with its length, sealed as the store seals its own.
pub fn segment(sequence: u64, bodies: &[u8]) -> Vec<u8> {
    let mut out = log::header(sequence, 0);
    sealed(&mut out, bodies, 0);
    out
}

/// A snapshot of these bodies, each behind a byte with its length, sealed as the store seals its own.
pub fn snapshot(bodies: &[u8]) -> Vec<u8> {
    let mut out = snapshot::MAGIC.to_vec();
    sealed(&mut out, bodies, 0);
    out
}

fn sealed(out: &mut Vec<u8>, bodies: &[u8], mut sum: u32) {
    let mut rest = bodies;
    while let Some((length, after)) = rest.split_first() {
        let (body, after) = after.split_at(usize::from(*length).min(after.len()));
        let start = record::begin(out);
        out.extend_from_slice(body);
        sum = record::seal(out, start, sum);
        rest = after;
    }
}

/// Reads entries up to the first that is none; how many. Each is written again and read again.
///
/// # Panics
/// When an entry is not the same afterwards.
pub fn entries(bytes: &Bytes) -> usize {
    let mut rest = bytes.clone();
    let mut count = 0;
    while rest.has_remaining()
        && let Some(entry) = Entry::decode(&mut rest)
    {
        let mut written = Vec::new();
        entry.encode(&mut written);
        let again = Entry::decode(&mut Bytes::from(written));
        assert_eq!(Some(&entry), again.as_ref(), "decoding what was encoded");
        count += 1;
    }
    count
}
