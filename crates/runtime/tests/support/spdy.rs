//! A client of SPDY/3.1 as Kubernetes' own are: it opens streams, sends, and collects what comes.
#![allow(dead_code, clippy::unwrap_used, clippy::expect_used)]

use std::collections::HashMap;

use bytes::Bytes;
use streaming::spdy::frame::{self, Frame, Head};
use streaming::spdy::header_block::{Compressor, Decompressor};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

pub struct Client<T> {
    io: T,
    compressor: Compressor,
    decompressor: Decompressor,
    next: u32,
    /// What came on each stream.
    pub said: HashMap<u32, Vec<u8>>,
    pub finished: Vec<u32>,
}

impl<T: AsyncRead + AsyncWrite + Unpin> Client<T> {
    pub fn new(io: T) -> Self {
        Self {
            io,
            compressor: Compressor::new().unwrap(),
            decompressor: Decompressor::default(),
            next: 1,
            said: HashMap::new(),
            finished: Vec::new(),
        }
    }

    async fn send(&mut self, frame: &Frame) {
        let bytes = frame::encode(frame, &mut self.compressor).unwrap();
        self.io.write_all(&bytes).await.unwrap();
    }

    pub async fn open(&mut self, headers: &[(&str, &str)]) -> u32 {
        let id = self.next;
        self.next += 2;
        let own = |(n, v): &(&str, &str)| ((*n).to_owned(), (*v).to_owned());
        let headers = headers.iter().map(own).collect();
        self.send(&Frame::SynStream {
            id,
            fin: false,
            headers,
        })
        .await;
        id
    }

    pub async fn data(&mut self, id: u32, bytes: &[u8], fin: bool) {
        let bytes = Bytes::copy_from_slice(bytes);
        self.send(&Frame::Data { id, fin, bytes }).await;
    }

    /// One frame; `false` at the end.
    pub async fn step(&mut self) -> bool {
        let mut head = [0u8; 8];
        let read = tokio::time::timeout(super::support::PATIENCE, self.io.read_exact(&mut head)).await;
        if read.expect("nothing came").is_err() {
            return false;
        }
        let head = Head(head);
        let mut payload = vec![0u8; head.length()];
        self.io.read_exact(&mut payload).await.unwrap();
        match frame::decode(head, payload.into(), &mut self.decompressor).unwrap() {
            Frame::Data { id, fin, bytes } => {
                self.said.entry(id).or_default().extend_from_slice(&bytes);
                if fin {
                    self.finished.push(id);
                }
            }
            Frame::GoAway { .. } => return false,
            _ => {}
        }
        true
    }

    pub async fn drain(&mut self) {
        while self.step().await {}
    }

    pub fn text(&self, id: u32) -> String {
        String::from_utf8(self.said.get(&id).cloned().unwrap_or_default()).unwrap()
    }
}
