//! A blocking netlink socket. The kernel handles a request while it is being sent, so every answer is in the
//! receive queue when `send` returns.
#![allow(unsafe_code)]

use std::os::fd::{AsRawFd, OwnedFd};

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, recv, send, setsockopt, socket,
    sockopt,
};

use super::message::{ACK, Attributes, DUMP, Message, attributes};

/// Which part of the kernel a socket speaks to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// Links, addresses, routes and neighbours (`NETLINK_ROUTE`).
    Route,
    /// nftables and connection tracking (`NETLINK_NETFILTER`).
    Netfilter,
}

/// Why a request to the kernel did not succeed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A system call on the socket failed, or a dump ended with an error.
    #[error("netlink {what}: {source}")]
    Socket {
        /// What was tried: `socket`, `bind`, `send`, `receive`, `dump` or `send buffer`.
        what: &'static str,
        /// The system's error.
        source: Errno,
    },
    /// `index` counts the messages of the request; `message` is the kernel's own explanation, if it gave one.
    #[error("{}{source}", if message.is_empty() { String::new() } else { format!("{message}: ") })]
    Refused {
        /// Which message was refused, from 0.
        index: usize,
        /// The kernel's explanation (`NLMSGERR_ATTR_MSG`), or empty.
        message: String,
        /// The system's error.
        source: Errno,
    },
    /// The kernel took the messages and acknowledged none.
    #[error("netlink: the kernel did not answer")]
    NoAnswer,
}

impl Error {
    /// The system's error, if there is one.
    pub fn errno(&self) -> Option<Errno> {
        match self {
            Error::Socket { source, .. } | Error::Refused { source, .. } => Some(*source),
            Error::NoAnswer => None,
        }
    }
}

/// A message of the kernel: its type, and what follows the netlink header.
#[derive(Debug, Clone)]
pub struct Reply {
    /// `nlmsg_type`: the family's number of what the message tells.
    pub kind: u16,
    /// The family's header and the attributes after it.
    pub body: Vec<u8>,
}

impl Reply {
    /// The attributes after a family header of `header` bytes.
    pub fn attributes(&self, header: usize) -> impl Iterator<Item = (u16, &[u8])> {
        attributes(self.body.get(header..).unwrap_or_default())
    }
}

/// A socket to the kernel, bound to the network namespace it was opened in. Its calls block.
pub struct Socket {
    fd: OwnedFd,
    sequence: u32,
}

const ERROR: u16 = 2;
const DONE: u16 = 3;
/// Of a dump's message: what is listed changed meanwhile, and the list may lack what was there all the time (`NLM_F_DUMP_INTR`).
const INTERRUPTED: u16 = 0x10;
/// So often is a dump asked for before what changes all the time is an error.
const TRIES: usize = 100;
const SOL_NETLINK: i32 = 270;
const NETLINK_EXT_ACK: i32 = 11;
/// Of an error: its own attributes follow the echoed header only (the request is left out).
const CAPPED: u16 = 0x100;
const ACK_TLVS: u16 = 0x200;

impl Socket {
    /// Opens it in the network namespace of this thread.
    pub fn open(protocol: Protocol) -> Result<Socket, Error> {
        let failed = |what| move |source| Error::Socket { what, source };
        let protocol = match protocol {
            Protocol::Route => SockProtocol::NetlinkRoute,
            Protocol::Netfilter => SockProtocol::NetlinkNetFilter,
        };
        let fd = socket(AddressFamily::Netlink, SockType::Raw, SockFlag::SOCK_CLOEXEC, protocol)
            .map_err(failed("socket"))?;
        bind(fd.as_raw_fd(), &NetlinkAddr::new(0, 0)).map_err(failed("bind"))?;
        let on: libc::c_int = 1;
        // SAFETY: the descriptor is open, and the option's value is an int of the length given. A kernel without
        // the option only explains its refusals less well, so the result does not matter.
        unsafe {
            libc::setsockopt(
                fd.as_raw_fd(),
                SOL_NETLINK,
                NETLINK_EXT_ACK,
                (&raw const on).cast(),
                size_of::<libc::c_int>() as libc::socklen_t,
            );
        }
        Ok(Socket { fd, sequence: 0 })
    }

    /// Sends one message and gives what came back before the acknowledgement, or the whole dump.
    pub fn request(&mut self, mut message: Message) -> Result<Vec<Reply>, Error> {
        message.flags |= ACK;
        self.exchange(std::slice::from_ref(&message))
    }

    /// Lists what there is at one moment: a list that changed while it was read is read again.
    pub fn dump(&mut self, mut message: Message) -> Result<Vec<Reply>, Error> {
        message.flags |= DUMP;
        for _ in 0..TRIES {
            let answer = self.send_and_receive(std::slice::from_ref(&message))?;
            if !answer.interrupted {
                return Ok(answer.replies);
            }
        }
        Err(Error::Socket {
            what: "dump",
            source: Errno::EINTR,
        })
    }

    /// Sends the messages as one datagram: for nftables a transaction. The last one that asks for an
    /// acknowledgement decides when it is complete.
    pub fn exchange(&mut self, messages: &[Message]) -> Result<Vec<Reply>, Error> {
        Ok(self.send_and_receive(messages)?.replies)
    }

    fn send_and_receive(&mut self, messages: &[Message]) -> Result<Answer, Error> {
        let first = self.sequence.wrapping_add(1);
        let mut bytes = Vec::with_capacity(messages.iter().map(|m| m.body.len() + 16).sum());
        for message in messages {
            self.sequence = self.sequence.wrapping_add(1);
            message.encode(self.sequence, &mut bytes);
        }
        let dump = messages.iter().any(|m| m.flags & DUMP == DUMP && messages.len() == 1);
        self.send(&bytes)?;
        self.receive(first, messages.len(), dump)
    }

    fn send(&mut self, bytes: &[u8]) -> Result<(), Error> {
        let failed = |what| move |source| Error::Socket { what, source };
        // The kernel counts its own overhead against the buffer too.
        let need = bytes.len() + bytes.len() / 2 + 65536;
        if need > 180_000 && setsockopt(&self.fd, sockopt::SndBufForce, &need).is_err() {
            setsockopt(&self.fd, sockopt::SndBuf, &need).map_err(failed("send buffer"))?;
        }
        // a socket that is connected to nobody speaks to the kernel
        send(self.fd.as_raw_fd(), bytes, MsgFlags::empty()).map_err(failed("send"))?;
        Ok(())
    }

    fn receive(&mut self, first: u32, count: usize, dump: bool) -> Result<Answer, Error> {
        let mut gathered = Gathered::new(first, count, dump);
        let mut buffer = vec![0u8; 64 * 1024];
        while !gathered.complete {
            // A dump is made in pieces as the queue is read; anything else is there already.
            let flags = if dump {
                MsgFlags::empty()
            } else {
                MsgFlags::MSG_DONTWAIT
            };
            match recv(self.fd.as_raw_fd(), &mut buffer, flags) {
                Ok(len) => gathered.add(buffer.get(..len).unwrap_or_default()),
                Err(Errno::EINTR) => {}
                Err(Errno::EAGAIN) => break,
                Err(source) => return gathered.broken(source),
            }
        }
        gathered.finish()
    }
}

/// What came back.
#[derive(Default)]
struct Answer {
    replies: Vec<Reply>,
    /// A list that may lack something.
    interrupted: bool,
}

/// The datagrams of an answer, put together.
struct Gathered {
    /// The sequence number of the first message that was sent.
    first: u32,
    /// How many messages were sent.
    count: usize,
    dump: bool,
    answer: Answer,
    acknowledged: bool,
    refused: Option<Error>,
    /// Nothing more comes.
    complete: bool,
}

impl Gathered {
    fn new(first: u32, count: usize, dump: bool) -> Gathered {
        Gathered {
            first,
            count,
            dump,
            answer: Answer::default(),
            acknowledged: false,
            refused: None,
            complete: false,
        }
    }

    /// Adds the messages of a datagram.
    fn add(&mut self, datagram: &[u8]) {
        let mut rest = datagram;
        while let Some((header, body, next)) = split(rest) {
            rest = next;
            let index = header.sequence.wrapping_sub(self.first) as usize;
            if index >= self.count {
                continue;
            }
            self.answer.interrupted |= self.dump && header.flags & INTERRUPTED != 0;
            match header.kind {
                ERROR => match error_of(header.flags, body) {
                    (0, _) => self.acknowledged = true,
                    (errno, message) => {
                        self.refused.get_or_insert(Error::Refused {
                            index,
                            message,
                            source: Errno::from_raw(errno),
                        });
                    }
                },
                DONE => {
                    let errno = errno_of(body);
                    self.acknowledged = true;
                    if errno > 0 {
                        let source = Errno::from_raw(errno);
                        self.refused = Some(Error::Socket { what: "dump", source });
                    }
                    self.complete = true;
                    return;
                }
                kind => self.answer.replies.push(Reply {
                    kind,
                    body: body.to_vec(),
                }),
            }
        }
        self.complete |= self.dump && self.refused.is_some();
    }

    fn broken(self, source: Errno) -> Result<Answer, Error> {
        Err(self.refused.unwrap_or(Error::Socket {
            what: "receive",
            source,
        }))
    }

    fn finish(self) -> Result<Answer, Error> {
        match self.refused {
            Some(refused) => Err(refused),
            None if self.acknowledged => Ok(self.answer),
            None => Err(Error::NoAnswer),
        }
    }
}

/// Reads one datagram as the whole answer to a message with the sequence number 1.
pub(crate) fn replies(datagram: &[u8], dump: bool) -> Result<Vec<Reply>, Error> {
    let mut gathered = Gathered::new(1, 1, dump);
    gathered.add(datagram);
    gathered.finish().map(|answer| answer.replies)
}

struct Header {
    kind: u16,
    flags: u16,
    sequence: u32,
}

/// The first message of `bytes`, and what follows it.
fn split(bytes: &[u8]) -> Option<(Header, &[u8], &[u8])> {
    let len = u32::from_ne_bytes(bytes.get(..4)?.try_into().ok()?) as usize;
    let header = Header {
        kind: u16::from_ne_bytes(bytes.get(4..6)?.try_into().ok()?),
        flags: u16::from_ne_bytes(bytes.get(6..8)?.try_into().ok()?),
        sequence: u32::from_ne_bytes(bytes.get(8..12)?.try_into().ok()?),
    };
    let next = bytes.get(len.next_multiple_of(4)..).unwrap_or_default();
    Some((header, bytes.get(16..len)?, next))
}

/// The errno that a message begins with, 0 for success: the kernel writes its negative.
fn errno_of(body: &[u8]) -> i32 {
    let number = body.first_chunk::<4>();
    number.map_or(0, |bytes| i32::from_ne_bytes(*bytes).saturating_neg())
}

/// The errno and the kernel's explanation.
fn error_of(flags: u16, body: &[u8]) -> (i32, String) {
    let mut message = String::new();
    if flags & ACK_TLVS != 0 {
        let echoed = body
            .get(4..8)
            .and_then(|b| b.try_into().ok())
            .map_or(16, u32::from_ne_bytes) as usize;
        let skip = if flags & CAPPED != 0 {
            16
        } else {
            echoed.next_multiple_of(4)
        };
        for (kind, data) in attributes(body.get(4 + skip..).unwrap_or_default()) {
            if kind == 1 {
                message = String::from_utf8_lossy(data).trim_end_matches('\0').to_owned();
            }
        }
    }
    (errno_of(body), message)
}

/// Attributes are often read one by one: the payload of attribute `kind` in `bytes`.
pub fn find(bytes: &[u8], kind: u16) -> Option<&[u8]> {
    attributes(bytes).find(|(k, _)| *k == kind).map(|(_, data)| data)
}

impl Attributes {
    /// The payload of the first attribute of this type.
    pub fn find(&self, kind: u16) -> Option<&[u8]> {
        find(self.as_bytes(), kind)
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::os::unix::net::UnixStream;

    use super::*;

    /// A message of the kernel's.
    fn message(kind: u16, flags: u16, sequence: u32, body: [u8; 4]) -> Vec<u8> {
        let mut bytes = 20u32.to_ne_bytes().to_vec();
        bytes.extend(kind.to_ne_bytes());
        bytes.extend(flags.to_ne_bytes());
        bytes.extend(sequence.to_ne_bytes());
        bytes.extend([0; 4]);
        bytes.extend(body);
        bytes
    }

    #[test]
    fn a_list_that_changed_while_it_was_read_is_read_again() {
        const RULE: u16 = 100;
        let (ours, mut kernel) = UnixStream::pair().unwrap();
        let answering = std::thread::spawn(move || {
            let mut request = [0; 20];
            for (flags, end) in [(INTERRUPTED, 0), (0, INTERRUPTED), (0, 0)] {
                kernel.read_exact(&mut request).unwrap();
                let sequence = u32::from_ne_bytes(request[8..12].try_into().unwrap());
                let body = sequence.to_ne_bytes();
                let answer = [
                    message(RULE, flags, sequence, body),
                    message(DONE, end, sequence, [0; 4]),
                ]
                .concat();
                kernel.write_all(&answer).unwrap();
            }
        });
        let mut socket = Socket {
            fd: ours.into(),
            sequence: 0,
        };
        let replies = socket.dump(Message::new(RULE, 0, &[0; 4])).unwrap();
        answering.join().unwrap();
        assert_eq!((replies.len(), &replies[0].body[..]), (1, &3u32.to_ne_bytes()[..]));
    }
}
