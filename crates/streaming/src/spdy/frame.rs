//! Frames of SPDY/3.1 as bytes.

use std::io;

use bytes::Bytes;

use super::header_block::{Compressor, Decompressor, Headers};

const VERSION: u16 = 3;
/// The flag of a sender's last frame of a stream.
pub const FIN: u8 = 1;
/// Frames say their length in 24 bits; nothing sane sends more than this. Bytes.
pub const LARGEST: usize = 16 << 20;

/// A frame as far as Kubernetes' peers use it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Frame {
    /// A peer opens a stream.
    SynStream {
        /// The stream's number.
        id: u32,
        /// The peer sends nothing on it.
        fin: bool,
        /// What the stream is for.
        headers: Headers,
    },
    /// A peer knows of a stream that the other has opened.
    SynReply {
        /// The stream's number.
        id: u32,
        /// Empty between Kubernetes' peers.
        headers: Headers,
    },
    /// Bytes of a stream.
    Data {
        /// The stream's number.
        id: u32,
        /// They are the last that the peer sends on it.
        fin: bool,
        /// The bytes; may be none.
        bytes: Bytes,
    },
    /// A stream ends at once, in both directions.
    RstStream {
        /// The stream's number.
        id: u32,
        /// Why, as the protocol numbers it; 5 is `CANCEL`.
        status: u32,
    },
    /// The peer wants the same frame back.
    Ping {
        /// Odd where the client asks, even where the server does.
        id: u32,
    },
    /// The peer takes no more streams.
    GoAway {
        /// The last stream that it has taken.
        last: u32,
    },
    /// SETTINGS, HEADERS, WINDOW_UPDATE and what is not known: peers of Kubernetes do without them.
    Other,
}

/// The first 8 bytes of any frame.
#[derive(Debug, Clone, Copy)]
pub struct Head(pub [u8; 8]);

impl Head {
    /// Bytes that follow the head.
    pub fn length(self) -> usize {
        u32::from_be_bytes([0, self.0[5], self.0[6], self.0[7]]) as usize
    }

    fn flags(self) -> u8 {
        self.0[4]
    }

    fn is_control(self) -> bool {
        self.0[0] & 0x80 != 0
    }
}

fn word(payload: &[u8], at: usize) -> io::Result<u32> {
    let bytes = payload.get(at..).and_then(|p| p.first_chunk::<4>());
    let bytes = bytes.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "spdy frame is cut short"))?;
    Ok(u32::from_be_bytes(*bytes))
}

/// Reads a frame. Headers are one compressed stream over a connection: `decompressor` is the connection's.
///
/// # Errors
/// `InvalidData` for another version than 3, a frame that is cut short, and headers that are not right.
pub fn decode(head: Head, payload: Bytes, decompressor: &mut Decompressor) -> io::Result<Frame> {
    let fin = head.flags() & FIN != 0;
    if !head.is_control() {
        let id = word(&head.0, 0)?;
        return Ok(Frame::Data {
            id,
            fin,
            bytes: payload,
        });
    }
    let version = u16::from_be_bytes([head.0[0] & 0x7f, head.0[1]]);
    if version != VERSION {
        let text = format!("spdy version {version} is not supported");
        return Err(io::Error::new(io::ErrorKind::InvalidData, text));
    }
    let id = |at| word(&payload, at).map(|w| w & 0x7fff_ffff);
    let kind = u16::from_be_bytes([head.0[2], head.0[3]]);
    Ok(match kind {
        1 => Frame::SynStream {
            id: id(0)?,
            fin,
            headers: decompressor.decode(payload.get(10..).unwrap_or_default())?,
        },
        2 => Frame::SynReply {
            id: id(0)?,
            headers: decompressor.decode(payload.get(4..).unwrap_or_default())?,
        },
        3 => Frame::RstStream {
            id: id(0)?,
            status: word(&payload, 4)?,
        },
        6 => Frame::Ping { id: word(&payload, 0)? },
        7 => Frame::GoAway { last: id(0)? },
        8 => {
            // Nobody reads them, but the compression goes on through them.
            decompressor.decode(payload.get(4..).unwrap_or_default())?;
            Frame::Other
        }
        _ => Frame::Other,
    })
}

fn control(kind: u16, flags: u8, payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(8 + payload.len());
    out.extend_from_slice(&(0x8000 | VERSION).to_be_bytes());
    out.extend_from_slice(&kind.to_be_bytes());
    out.extend_from_slice(&((u32::from(flags) << 24) | payload.len() as u32).to_be_bytes());
    out.extend_from_slice(payload);
    out
}

/// Writes a frame; `compressor` is the connection's. `Other` gives no bytes.
///
/// # Errors
/// Those of the compression.
pub fn encode(frame: &Frame, compressor: &mut Compressor) -> io::Result<Vec<u8>> {
    let flag = |fin: &bool| if *fin { FIN } else { 0 };
    Ok(match frame {
        Frame::SynStream { id, fin, headers } => {
            let mut payload = id.to_be_bytes().to_vec();
            payload.extend_from_slice(&[0; 6]);
            payload.extend(compressor.encode(headers)?);
            control(1, flag(fin), &payload)
        }
        Frame::SynReply { id, headers } => {
            let mut payload = id.to_be_bytes().to_vec();
            payload.extend(compressor.encode(headers)?);
            control(2, 0, &payload)
        }
        Frame::Data { id, fin, bytes } => {
            let mut out = Vec::with_capacity(8 + bytes.len());
            out.extend_from_slice(&id.to_be_bytes());
            out.extend_from_slice(&((u32::from(flag(fin)) << 24) | bytes.len() as u32).to_be_bytes());
            out.extend_from_slice(bytes);
            out
        }
        Frame::RstStream { id, status } => {
            let payload = [id.to_be_bytes(), status.to_be_bytes()].concat();
            control(3, 0, &payload)
        }
        Frame::Ping { id } => control(6, 0, &id.to_be_bytes()),
        Frame::GoAway { last } => control(7, 0, &[last.to_be_bytes(), [0; 4]].concat()),
        Frame::Other => Vec::new(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_survive_the_wire() {
        let (mut compressor, mut decompressor) = (Compressor::new().unwrap(), Decompressor::default());
        let headers = vec![("streamtype".to_owned(), "error".to_owned())];
        for frame in [
            Frame::SynStream {
                id: 1,
                fin: true,
                headers: headers.clone(),
            },
            Frame::SynReply { id: 3, headers },
            Frame::Data {
                id: 5,
                fin: false,
                bytes: Bytes::from_static(b"hello"),
            },
            Frame::RstStream { id: 7, status: 5 },
            Frame::Ping { id: 9 },
            Frame::GoAway { last: 11 },
        ] {
            let bytes = encode(&frame, &mut compressor).unwrap();
            let head = Head(*bytes.first_chunk().unwrap());
            assert_eq!(head.length(), bytes.len() - 8);
            let payload = Bytes::copy_from_slice(&bytes[8..]);
            assert_eq!(decode(head, payload, &mut decompressor).unwrap(), frame);
        }
    }
}
