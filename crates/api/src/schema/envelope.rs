//! The protobuf envelope of the API: `k8s\0` and a `runtime.Unknown` around each object; watch frames; lists put
//! together from items that are encoded already.

use crate::schema::json::DecodeError;
use crate::schema::proto_decode::{Fields, Wire, utf8};
use crate::schema::proto_encode::Reversed;

/// What every protobuf body begins with.
pub const MAGIC: [u8; 4] = *b"k8s\0";

/// The content of an envelope.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unknown<'b> {
    /// Group and version of the object.
    pub api_version: String,
    /// The object's kind.
    pub kind: String,
    /// The object's own message.
    pub raw: &'b [u8],
}

/// Puts an object's message into the envelope.
pub fn wrap_unknown(api_version: &str, kind: &str, raw: &[u8]) -> Vec<u8> {
    let mut out = Reversed::default();
    // contentType and contentEncoding are always written, and empty.
    out.bytes(4, b"");
    out.bytes(3, b"");
    out.bytes(2, raw);
    let start = out.len();
    out.bytes(2, kind.as_bytes());
    out.bytes(1, api_version.as_bytes());
    out.close(1, start);
    out.raw(&MAGIC);
    out.finish()
}

/// Opens an envelope. `None` if the bytes have none.
pub fn unwrap_unknown(bytes: &[u8]) -> Option<Result<Unknown<'_>, DecodeError>> {
    Some(open(bytes.strip_prefix(&MAGIC)?))
}

fn open(bytes: &[u8]) -> Result<Unknown<'_>, DecodeError> {
    let mut unknown = Unknown {
        api_version: String::new(),
        kind: String::new(),
        raw: &[],
    };
    let mut fields = Fields(bytes);
    while let Some(field) = fields.next()? {
        match field {
            (1, Wire::Bytes(meta)) => {
                let mut meta = Fields(meta);
                while let Some(field) = meta.next()? {
                    match field {
                        (1, Wire::Bytes(b)) => unknown.api_version = utf8(b)?,
                        (2, Wire::Bytes(b)) => unknown.kind = utf8(b)?,
                        _ => {}
                    }
                }
            }
            (2, Wire::Bytes(raw)) => unknown.raw = raw,
            _ => {}
        }
    }
    Ok(unknown)
}

/// A `metav1.WatchEvent` around an object in its envelope, without the frame's length.
pub fn watch_event(event_type: &str, enveloped: &[u8]) -> Vec<u8> {
    let mut out = Reversed::default();
    let start = out.len();
    out.bytes(1, enveloped);
    out.close(2, start);
    out.bytes(1, event_type.as_bytes());
    out.finish()
}

/// A frame of a protobuf watch stream: the length, four bytes big-endian, and the event.
pub fn watch_frame(event_type: &str, enveloped: &[u8]) -> Vec<u8> {
    let event = watch_event(event_type, enveloped);
    let mut out = Vec::with_capacity(event.len() + 4);
    out.extend((event.len() as u32).to_be_bytes());
    out.extend(event);
    out
}

/// `metav1.ListMeta` as a message. `remaining` is `remainingItemCount`.
pub fn list_meta(resource_version: &str, continue_token: &str, remaining: Option<i64>) -> Vec<u8> {
    let mut out = Reversed::default();
    if let Some(n) = remaining {
        out.number(4, n);
    }
    out.bytes(3, continue_token.as_bytes());
    out.bytes(2, resource_version.as_bytes());
    out.bytes(1, b"");
    out.finish()
}

fn forward_varint(mut value: u64, out: &mut Vec<u8>) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// What stands around the items of an enveloped list, so that they can be sent one after the other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListFrame {
    /// The bytes before the first item: envelope, metadata.
    pub head: Vec<u8>,
    /// The bytes behind the last item.
    pub tail: &'static [u8],
}

/// Returns the frame of a list whose items' messages (without envelopes) have these lengths. Every list type has metadata as field 1 and
/// items as field 2; before each item goes its [`item_head`].
pub fn list_frame(api_version: &str, kind: &str, meta: &[u8], items: impl IntoIterator<Item = usize>) -> ListFrame {
    let field = |tag: u8, bytes: &[u8]| {
        let mut out = vec![tag << 3 | 2];
        forward_varint(bytes.len() as u64, &mut out);
        out.extend_from_slice(bytes);
        out
    };
    let meta = field(1, meta);
    let items: usize = items.into_iter().map(|length| item_head(length).len() + length).sum();
    let mut head = MAGIC.to_vec();
    head.extend(field(
        1,
        &[field(1, api_version.as_bytes()), field(2, kind.as_bytes())].concat(),
    ));
    head.push(2 << 3 | 2);
    forward_varint((meta.len() + items) as u64, &mut head);
    head.extend(meta);
    // contentEncoding and contentType are always written, and empty
    let tail = &[3 << 3 | 2, 0, 4 << 3 | 2, 0];
    ListFrame { head, tail }
}

/// Returns what goes before an item of so many bytes.
pub fn item_head(length: usize) -> Vec<u8> {
    let mut out = vec![2 << 3 | 2];
    forward_varint(length as u64, &mut out);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_sent_in_pieces_is_the_enveloped_list() {
        let (meta, items) = (list_meta("7", "", None), [vec![1; 3], vec![2; 300]]);
        let frame = list_frame("v1", "PodList", &meta, items.iter().map(Vec::len));
        let mut sent = frame.head;
        for item in &items {
            sent.extend(item_head(item.len()));
            sent.extend(item);
        }
        sent.extend(frame.tail);
        let mut list = vec![10, meta.len() as u8];
        list.extend(&meta);
        list.extend([18, 3, 1, 1, 1, 18, 172, 2]);
        list.extend([2; 300]);
        assert_eq!(sent, wrap_unknown("v1", "PodList", &list));
    }
}
