//! Requests as they come: the header, the question and the client's EDNS, read as strictly as CoreDNS reads them. Pure.

use hickory_proto::rr::{Name, RecordType};
use hickory_proto::serialize::binary::{BinDecodable, BinDecoder, DecodeError};

pub(crate) const HEADER: usize = 12;
const OPT: u16 = 41;
const QUERY: u8 = 0;
const NOTIFY: u8 = 4;

/// Bits of the header's second word.
pub(crate) mod bit {
    pub(crate) const RESPONSE: u16 = 0x8000;
    pub(crate) const AUTHORITATIVE: u16 = 0x0400;
    pub(crate) const RECURSION_DESIRED: u16 = 0x0100;
    pub(crate) const RESERVED: u16 = 0x0040;
    pub(crate) const AUTHENTIC: u16 = 0x0020;
    pub(crate) const CHECKING_DISABLED: u16 = 0x0010;
}

/// Response codes that this file gives.
const FORMAT_ERROR: u16 = 1;
const NOT_IMPLEMENTED: u16 = 4;

/// What a datagram or a frame holds.
#[derive(Debug, PartialEq)]
pub(crate) enum Received {
    /// Too short, or an answer: an answer to it could be answered for ever.
    Nothing,
    /// A request that is not understood, and the message that says so.
    Refused(Vec<u8>),
    Request(Request),
}

/// The one question of a request.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Question {
    /// As the client wrote it: answers keep its case.
    pub name: Name,
    pub kind: RecordType,
    pub class: u16,
}

/// The client's EDNS record (RFC 6891).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Edns {
    /// Bytes that the client takes in a datagram, as it wrote them.
    pub size: u16,
    pub version: u8,
    /// The first is "DNSSEC OK"; those of the lower byte are not kept.
    pub flags: u16,
    /// Those that a server may repeat, as they came.
    pub options: Vec<u8>,
}

impl Edns {
    pub(crate) fn dnssec(&self) -> bool {
        self.flags & 0x8000 != 0
    }
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Request {
    pub id: u16,
    /// The header's second word.
    pub bits: u16,
    /// Nothing where the message ends after its header.
    pub question: Option<Question>,
    pub edns: Option<Edns>,
}

impl Request {
    pub(crate) fn op_code(&self) -> u8 {
        op_code(self.bits)
    }

    pub(crate) fn has(&self, bit: u16) -> bool {
        self.bits & bit != 0
    }

    /// Whether the client wants to know whether data is authentic.
    pub(crate) fn asks_for_authenticity(&self) -> bool {
        self.has(bit::AUTHENTIC) || self.edns.as_ref().is_some_and(Edns::dnssec)
    }
}

fn op_code(bits: u16) -> u8 {
    ((bits >> 11) & 0xf) as u8
}

/// Reads a request.
pub(crate) fn read(bytes: &[u8]) -> Received {
    let Some(header) = header(bytes) else {
        return Received::Nothing;
    };
    let [id, bits, questions, answers, authorities, additionals] = header;
    if bits & bit::RESPONSE != 0 {
        return Received::Nothing;
    }
    if !matches!(op_code(bits), QUERY | NOTIFY) {
        return Received::Refused(refusal(id, bits, NOT_IMPLEMENTED, &[]));
    }
    // a notification may carry one answer, a request for changes one authority; EDNS and a signature are additional
    if questions != 1 || answers > 1 || authorities > 1 || additionals > 2 {
        return Received::Refused(refusal(id, bits, FORMAT_ERROR, &[]));
    }
    let mut request = Request {
        id,
        bits,
        question: None,
        edns: None,
    };
    if bytes.len() == HEADER {
        return Received::Request(request);
    }
    let (question, end) = match question(bytes) {
        Ok(read) => read,
        Err(error) => {
            tracing::debug!("not a question: {error}");
            return Received::Refused(refusal(id, bits, FORMAT_ERROR, &[]));
        }
    };
    request.question = Some(question);
    match edns(bytes, end, answers + authorities, additionals) {
        Ok(edns) => request.edns = edns,
        Err(error) => {
            tracing::debug!("not a record: {error}");
            let question = bytes.get(HEADER..end).unwrap_or_default();
            return Received::Refused(refusal(id, bits, FORMAT_ERROR, question));
        }
    }
    Received::Request(request)
}

fn header(bytes: &[u8]) -> Option<[u16; 6]> {
    let mut words = [0; 6];
    for (word, pair) in words.iter_mut().zip(bytes.get(..HEADER)?.chunks_exact(2)) {
        *word = u16::from_be_bytes(pair.try_into().ok()?);
    }
    Some(words)
}

/// The answer to a request that is not understood: its own header, and its question where that was read.
fn refusal(id: u16, bits: u16, code: u16, question: &[u8]) -> Vec<u8> {
    let kept = bits & !(bit::AUTHORITATIVE | bit::RESERVED | 0xf);
    let kept = if code == FORMAT_ERROR { kept & !0x7800 } else { kept };
    let count = u16::from(!question.is_empty());
    let words = [id, kept | bit::RESPONSE | code, count, 0, 0, 0];
    let mut message: Vec<u8> = words.iter().flat_map(|word| word.to_be_bytes()).collect();
    message.extend(question);
    message
}

/// The question, and where it ends. A message that ends within it has zeros there.
fn question(bytes: &[u8]) -> Result<(Question, usize), DecodeError> {
    let whole = BinDecoder::new(bytes);
    let mut decoder = whole.clone(u16::try_from(HEADER).unwrap_or(u16::MAX));
    let name = Name::read(&mut decoder)?;
    let mut word = || -> Result<u16, DecodeError> {
        match decoder.is_empty() {
            true => Ok(0),
            false => Ok(decoder.read_u16()?.unverified()),
        }
    };
    let (kind, class) = (RecordType::from(word()?), word()?);
    Ok((Question { name, kind, class }, decoder.index()))
}

/// The last EDNS record among the additional ones. Counts that promise more than comes are lies that do no harm.
fn edns(bytes: &[u8], from: usize, before: u16, additionals: u16) -> Result<Option<Edns>, DecodeError> {
    let whole = BinDecoder::new(bytes);
    let mut decoder = whole.clone(u16::try_from(from).unwrap_or(u16::MAX));
    let mut found = None;
    for nth in 0..before + additionals {
        if decoder.is_empty() {
            break;
        }
        Name::read(&mut decoder)?;
        let kind = decoder.read_u16()?.unverified();
        let size = decoder.read_u16()?.unverified();
        let ttl = decoder.read_u32()?.unverified();
        let length = decoder.read_u16()?.unverified();
        let data = decoder.read_slice(usize::from(length))?.unverified();
        if kind == OPT && nth >= before {
            let [_, version, flags @ ..] = ttl.to_be_bytes();
            found = Some(Edns {
                size,
                version,
                flags: u16::from_be_bytes(flags) & 0xff00,
                options: repeatable(data)?,
            });
        }
    }
    Ok(found)
}

/// Options that answers repeat: NSID, expire, cookie, TCP keep-alive, padding.
fn repeatable(data: &[u8]) -> Result<Vec<u8>, DecodeError> {
    let mut decoder = BinDecoder::new(data);
    let mut kept = Vec::new();
    while !decoder.is_empty() {
        let code = decoder.read_u16()?.unverified();
        let length = decoder.read_u16()?.unverified();
        let value = decoder.read_slice(usize::from(length))?.unverified();
        if matches!(code, 3 | 9 | 10 | 11 | 12) {
            kept.extend(code.to_be_bytes());
            kept.extend(length.to_be_bytes());
            kept.extend(value);
        }
    }
    Ok(kept)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(hex: &str) -> Vec<u8> {
        let digits: Vec<u8> = hex.bytes().filter(u8::is_ascii_hexdigit).collect();
        let pair = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
        digits.chunks(2).map(pair).collect()
    }

    /// What CoreDNS answers to the same bytes.
    #[test]
    fn what_is_no_request_is_refused_as_coredns_refuses_it() {
        let cases = [
            ("", None),
            ("1092", None),
            // an answer
            ("109281000001000000000000 0161 00 0001 0001", None),
            // an update: not implemented, its own code of operation
            (
                "10922900 0001000000000000 0161 00 0001 0001",
                Some("1092a904 0000000000000000"),
            ),
            // two questions, none, three additional records
            (
                "109201000002000000000000 0161 00 0001 0001",
                Some("10928101 0000000000000000"),
            ),
            ("109201000000000000000000", Some("10928101 0000000000000000")),
            (
                "109201000001000000000003 0161 00 0001 0001",
                Some("10928101 0000000000000000"),
            ),
            // a name that points at itself, one that is cut off
            (
                "109201000001000000000000 c00c 0001 0001",
                Some("10928101 0000000000000000"),
            ),
            ("109201000001000000000000 0361", Some("10928101 0000000000000000")),
            // a record that is cut off: the question was read
            (
                "109201000001000000000001 0161 00 0001 0001 00 0029 10",
                Some("10928101 0001000000000000 0161 00 0001 0001"),
            ),
        ];
        for (request, answer) in cases {
            let expected = answer.map_or(Received::Nothing, |hex| Received::Refused(bytes(hex)));
            assert_eq!(read(&bytes(request)), expected, "{request}");
        }
    }

    #[test]
    fn a_message_may_end_where_a_question_would_begin_or_within_it() {
        let ask = |hex: &str| match read(&bytes(hex)) {
            Received::Request(request) => request
                .question
                .map(|q| (q.name.to_ascii(), u16::from(q.kind), q.class)),
            other => panic!("{other:?}"),
        };
        assert_eq!(ask("109201000001000000000000"), None);
        assert_eq!(ask("109201000001000000000000 0161 00"), Some(("a.".into(), 0, 0)));
        assert_eq!(ask("109201000001000000000000 0161 00 0001"), Some(("a.".into(), 1, 0)));
    }

    #[test]
    fn of_edns_the_size_the_upper_flags_and_options_for_repetition_are_kept() {
        // a cookie is repeated, a client's subnet is not
        let options = "000a0008 1122334455667788 00080007 000118000a0000";
        let request = format!("109201000001000000000001 0161 00 0001 0001 00 0029 0064 0001 8001 0017 {options}");
        let Received::Request(request) = read(&bytes(&request)) else {
            panic!("refused");
        };
        let expected = Edns {
            size: 100,
            version: 1,
            flags: 0x8000,
            options: bytes("000a0008 1122334455667788"),
        };
        assert_eq!(request.edns, Some(expected));
    }
}
