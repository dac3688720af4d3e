//! Frames of SPDY, on one connection: their headers are one compressed stream.

use bytes::Bytes;
use streaming::spdy::frame::{Frame, Head, LARGEST, decode, encode};
use streaming::spdy::header_block::{Compressor, Decompressor};

use crate::{Form, Target};

pub const TARGET: Target = Target::new("spdy", Form::Bytes, check);

fn check(input: &[u8]) {
    let mut rest = input;
    let mut decompressor = Decompressor::default();
    let Ok(mut compressor) = Compressor::new() else { return };
    let mut again = Decompressor::default();
    while let Some((head, after)) = rest.split_first_chunk::<8>() {
        let head = Head(*head);
        let Some((payload, after)) = after
            .split_at_checked(head.length())
            .filter(|_| head.length() <= LARGEST)
        else {
            return;
        };
        rest = after;
        let Ok(frame) = decode(head, Bytes::copy_from_slice(payload), &mut decompressor) else {
            return;
        };
        if frame == Frame::Other {
            continue;
        }
        let bytes = encode(&frame, &mut compressor).unwrap_or_else(|error| panic!("{error}: {frame:?}"));
        let (head, payload) = bytes
            .split_first_chunk::<8>()
            .unwrap_or_else(|| panic!("{frame:?} has no head"));
        let copy = decode(Head(*head), Bytes::copy_from_slice(payload), &mut again);
        assert_eq!(Some(&frame), copy.as_ref().ok(), "decoding what was encoded");
    }
}
