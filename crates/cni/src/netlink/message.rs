//! Encoding and decoding of netlink messages and their attributes. No I/O.

/// Nested attributes carry this bit in their type.
const NESTED: u16 = 0x8000;
const TYPE_MASK: u16 = 0x3fff;

pub(crate) const REQUEST: u16 = 1;
/// `NLM_F_ACK`: the kernel is to say when the message is done.
pub const ACK: u16 = 4;
/// `NLM_F_DUMP`: the answer is a list.
pub const DUMP: u16 = 0x300;
/// `NLM_F_REPLACE`: what is there is replaced.
pub const REPLACE: u16 = 0x100;
/// `NLM_F_EXCL`: it is an error that the thing is there.
pub const EXCL: u16 = 0x200;
/// `NLM_F_CREATE`: what is not there is made.
pub const CREATE: u16 = 0x400;
/// `NLM_F_APPEND`: the new thing goes behind those that are there.
pub const APPEND: u16 = 0x800;

/// A message being written: `nlmsghdr`, the family's header, attributes. Also used for the inside of nested
/// attributes, so that both have the same methods.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Attributes {
    bytes: Vec<u8>,
}

impl Attributes {
    /// Adds an attribute of any bytes, padded to a multiple of four. Lengths have 16 bits: more than 65,531 bytes do
    /// not fit.
    pub fn put(&mut self, kind: u16, data: &[u8]) {
        let len = u16::try_from(data.len() + 4).unwrap_or(u16::MAX);
        self.bytes.extend(len.to_ne_bytes());
        self.bytes.extend(kind.to_ne_bytes());
        self.bytes.extend(data);
        self.pad();
    }

    fn pad(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }

    /// Adds a byte.
    pub fn u8(&mut self, kind: u16, value: u8) {
        self.put(kind, &[value]);
    }

    /// Adds 16 bits in the host's order.
    pub fn u16(&mut self, kind: u16, value: u16) {
        self.put(kind, &value.to_ne_bytes());
    }

    /// Adds 32 bits in the host's order.
    pub fn u32(&mut self, kind: u16, value: u32) {
        self.put(kind, &value.to_ne_bytes());
    }

    /// Adds 16 bits in network order.
    pub fn be16(&mut self, kind: u16, value: u16) {
        self.put(kind, &value.to_be_bytes());
    }

    /// Adds 32 bits in network order.
    pub fn be32(&mut self, kind: u16, value: u32) {
        self.put(kind, &value.to_be_bytes());
    }

    /// Adds 64 bits in network order.
    pub fn be64(&mut self, kind: u16, value: u64) {
        self.put(kind, &value.to_be_bytes());
    }

    /// With the closing zero byte.
    pub fn text(&mut self, kind: u16, value: &str) {
        let mut bytes = value.as_bytes().to_vec();
        bytes.push(0);
        self.put(kind, &bytes);
    }

    /// Adds an attribute that is made of those that `write` adds.
    pub fn nest(&mut self, kind: u16, write: impl FnOnce(&mut Attributes)) {
        let start = self.bytes.len();
        self.bytes.extend([0, 0]);
        self.bytes.extend((kind | NESTED).to_ne_bytes());
        write(self);
        let len = u16::try_from(self.bytes.len() - start).unwrap_or(u16::MAX);
        if let Some(head) = self.bytes.get_mut(start..start + 2) {
            head.copy_from_slice(&len.to_ne_bytes());
        }
    }

    /// Bytes that are no attribute: a header inside a nested attribute.
    pub fn raw(&mut self, bytes: &[u8]) {
        self.bytes.extend(bytes);
        self.pad();
    }

    /// Bytes written so far, with padding.
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Returns whether nothing is written yet.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// What is written so far.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }
}

/// A whole message but for its sequence number, which the socket gives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// `nlmsg_type`: the family's number of the command.
    pub kind: u16,
    /// `nlmsg_flags`.
    pub flags: u16,
    /// The family's header and the attributes after it.
    pub body: Attributes,
}

impl Message {
    /// `header` is the family's own, `rtmsg` or `nfgenmsg` and so on.
    pub fn new(kind: u16, flags: u16, header: &[u8]) -> Message {
        let mut body = Attributes::default();
        body.raw(header);
        Message {
            kind,
            flags: flags | REQUEST,
            body,
        }
    }

    /// Appends the message with its netlink header, as sent by port 0 (the kernel fills in the socket's own).
    pub fn encode(&self, sequence: u32, out: &mut Vec<u8>) {
        let len = u32::try_from(self.body.len() + 16).unwrap_or(u32::MAX);
        out.extend(len.to_ne_bytes());
        out.extend(self.kind.to_ne_bytes());
        out.extend(self.flags.to_ne_bytes());
        out.extend(sequence.to_ne_bytes());
        out.extend(0u32.to_ne_bytes());
        out.extend(self.body.as_bytes());
    }
}

/// The attributes in `bytes`, type and payload, up to the first malformed one.
pub fn attributes(bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    let mut rest = bytes;
    std::iter::from_fn(move || {
        let len = usize::from(u16::from_ne_bytes([*rest.first()?, *rest.get(1)?]));
        let kind = u16::from_ne_bytes([*rest.get(2)?, *rest.get(3)?]) & TYPE_MASK;
        let data = rest.get(4..len)?;
        rest = rest.get(len.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, data))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_come_back_as_written() {
        let mut a = Attributes::default();
        a.text(1, "eth0");
        a.nest(2, |a| {
            a.u8(3, 9);
            a.be16(4, 53);
        });
        a.u32(5, 7);
        let all: Vec<_> = attributes(a.as_bytes()).collect();
        assert_eq!(all[0], (1, &b"eth0\0"[..]));
        assert_eq!(all[1].0, 2);
        let inner: Vec<_> = attributes(all[1].1).collect();
        assert_eq!(inner, [(3, &[9u8][..]), (4, &[0u8, 53][..])]);
        assert_eq!(all[2], (5, &7u32.to_ne_bytes()[..]));
    }

    #[test]
    fn malformed_attributes_end_the_iteration() {
        assert_eq!(attributes(&[1, 0, 0]).count(), 0);
        assert_eq!(attributes(&[200, 0, 1, 0, 1, 2]).count(), 0);
        assert_eq!(attributes(&[2, 0, 1, 0]).count(), 0);
    }
}
