//! Header blocks of SPDY/3.1: names and values, compressed as one stream over the whole connection.

use std::io;

use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress, Status};

use super::dictionary::DICTIONARY;

/// Names and values, in order.
pub type Headers = Vec<(String, String)>;

/// The most that a block may hold once it is unpacked. Bytes.
const LARGEST: usize = 256 * 1024;

fn bad(text: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("spdy header block: {text}"))
}

/// The sending half of a connection's compression.
#[derive(Debug)]
pub struct Compressor(Compress);

impl Compressor {
    /// Begins the stream, with SPDY's dictionary.
    ///
    /// # Errors
    /// Those of the compression.
    pub fn new() -> io::Result<Self> {
        let mut compress = Compress::new(Compression::best(), true);
        compress.set_dictionary(DICTIONARY).map_err(io::Error::other)?;
        Ok(Self(compress))
    }

    /// Compresses the headers of one frame.
    ///
    /// # Errors
    /// Those of the compression.
    pub fn encode(&mut self, headers: &Headers) -> io::Result<Vec<u8>> {
        let mut plain = Vec::new();
        let mut put = |bytes: &[u8]| {
            plain.extend_from_slice(&(bytes.len() as u32).to_be_bytes());
            plain.extend_from_slice(bytes);
        };
        for (name, value) in headers {
            put(name.as_bytes());
            put(value.as_bytes());
        }
        plain.splice(0..0, (headers.len() as u32).to_be_bytes());
        let mut out = Vec::with_capacity(plain.len() + 64);
        let mut taken = 0;
        loop {
            let before = self.0.total_in();
            out.reserve(256);
            let status = self
                .0
                .compress_vec(&plain[taken..], &mut out, FlushCompress::Sync)
                .map_err(io::Error::other)?;
            taken += usize::try_from(self.0.total_in() - before).map_err(io::Error::other)?;
            // Room that is left over means that everything is flushed.
            if taken == plain.len() && (out.len() < out.capacity() || status == Status::BufError) {
                return Ok(out);
            }
        }
    }
}

/// The receiving half of a connection's compression.
#[derive(Debug)]
pub struct Decompressor(Decompress);

impl Default for Decompressor {
    fn default() -> Self {
        Self(Decompress::new(true))
    }
}

impl Decompressor {
    /// Reads the headers of one frame.
    ///
    /// # Errors
    /// `InvalidData` for what is no block of headers, or one of more than 256 KiB.
    pub fn decode(&mut self, block: &[u8]) -> io::Result<Headers> {
        let mut plain = Vec::with_capacity(1024);
        let mut taken = 0;
        loop {
            let before = (self.0.total_in(), plain.len());
            plain.reserve(1024);
            let result = self
                .0
                .decompress_vec(&block[taken..], &mut plain, FlushDecompress::Sync);
            taken += usize::try_from(self.0.total_in() - before.0).map_err(io::Error::other)?;
            match result {
                Ok(_) => {}
                Err(error) if error.needs_dictionary().is_some() => {
                    self.0.set_dictionary(DICTIONARY).map_err(io::Error::other)?;
                    continue;
                }
                Err(error) => return Err(bad(&error.to_string())),
            }
            if plain.len() > LARGEST {
                return Err(bad("it is too large"));
            }
            if taken == block.len() && plain.len() < plain.capacity() {
                break;
            }
            // a peer may say that its compressed stream has ended, and go on
            if (self.0.total_in(), plain.len()) == before {
                return Err(bad("it goes on after its end"));
            }
        }
        parse(&plain)
    }
}

fn parse(mut rest: &[u8]) -> io::Result<Headers> {
    fn number(rest: &mut &[u8]) -> io::Result<usize> {
        let (head, tail) = rest.split_first_chunk::<4>().ok_or_else(|| bad("it is cut short"))?;
        *rest = tail;
        Ok(u32::from_be_bytes(*head) as usize)
    }
    fn text(rest: &mut &[u8]) -> io::Result<String> {
        let length = number(rest)?;
        let (head, tail) = rest.split_at_checked(length).ok_or_else(|| bad("it is cut short"))?;
        *rest = tail;
        String::from_utf8(head.to_vec()).map_err(|_| bad("it is not UTF-8"))
    }
    let count = number(&mut rest)?;
    let mut headers = Headers::new();
    for _ in 0..count {
        let name = text(&mut rest)?;
        // Several values of one name are parted by NUL; every use here has one.
        let value = text(&mut rest)?;
        headers.push((name, value.split('\0').next().unwrap_or_default().to_owned()));
    }
    Ok(headers)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_one_compressed_stream() {
        let (mut compressor, mut decompressor) = (Compressor::new().unwrap(), Decompressor::default());
        for n in 0..50 {
            let headers = vec![
                ("streamtype".to_owned(), "stdin".to_owned()),
                ("port".to_owned(), n.to_string()),
                ("x".to_owned(), "y".repeat(n * 100)),
            ];
            let block = compressor.encode(&headers).unwrap();
            assert_eq!(decompressor.decode(&block).unwrap(), headers);
        }
        let empty = compressor.encode(&Vec::new()).unwrap();
        assert!(decompressor.decode(&empty).unwrap().is_empty());
    }

    #[test]
    fn a_block_that_goes_on_after_its_end_is_refused() {
        let mut whole = Compress::new(Compression::fast(), true);
        whole.set_dictionary(DICTIONARY).unwrap();
        let mut block = Vec::with_capacity(64);
        whole
            .compress_vec(&[0; 4], &mut block, flate2::FlushCompress::Finish)
            .unwrap();
        let mut decompressor = Decompressor::default();
        assert!(decompressor.decode(&block).unwrap().is_empty());
        assert!(decompressor.decode(&block).is_err());
        block.push(0);
        assert!(Decompressor::default().decode(&block).is_err());
    }

    #[test]
    fn broken_blocks_are_refused() {
        assert!(Decompressor::default().decode(b"no zlib").is_err());
        assert!(parse(&[0, 0, 0, 1, 0, 0, 0, 9]).is_err());
    }
}
