//! An answer on its way to the client: what it repeats of the request, and how much of it fits. Pure.

use hickory_proto::op::{Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::DNSClass;
use hickory_proto::serialize::binary::{BinEncodable, BinEncoder};

use crate::request::{Edns, HEADER, Request, bit};

/// Every client takes as much, whatever it says.
const LEAST: u16 = 512;
/// Where the header counts additional records.
const ADDITIONALS: usize = 10;

pub(crate) struct Answer {
    pub message: Message,
    edns: Option<Edns>,
}

impl Answer {
    /// An answer without records yet.
    pub(crate) fn to(request: &Request) -> Answer {
        let op_code = OpCode::from_u8(request.op_code());
        let mut message = Message::new(request.id, MessageType::Response, op_code);
        if op_code == OpCode::Query {
            message.metadata.recursion_desired = request.has(bit::RECURSION_DESIRED);
            message.metadata.checking_disabled = request.has(bit::CHECKING_DISABLED);
        }
        if let Some(question) = &request.question {
            let mut query = Query::query(question.name.clone(), question.kind);
            query.set_query_class(DNSClass::from(question.class));
            message.add_query(query);
        }
        let edns = request.edns.clone().map(|edns| Edns { version: 0, ..edns });
        Answer { message, edns }
    }

    /// An answer that says what went wrong.
    pub(crate) fn failed(request: &Request, code: ResponseCode) -> Answer {
        let mut answer = Answer::to(request);
        answer.message.metadata.response_code = code;
        answer
    }

    /// The answer to a version of EDNS that is not known.
    pub(crate) fn bad_version(request: &Request) -> Answer {
        let mut answer = Answer::failed(request, ResponseCode::BADVERS);
        answer.edns = Some(Edns {
            size: 0,
            version: 0,
            flags: 0,
            options: Vec::new(),
        });
        answer
    }

    /// Encodes the answer. Records that the client has no room for are left out, the last ones first, and the client is told to ask by
    /// TCP; nothing where no answer can be made.
    pub(crate) fn encode(&self, limit: u16) -> Option<Vec<u8>> {
        let edns = self.edns_record();
        let room = limit.max(LEAST) - u16::try_from(edns.len()).unwrap_or(u16::MAX).min(LEAST / 2);
        let mut bytes = Vec::with_capacity(usize::from(LEAST));
        let mut encoder = BinEncoder::new(&mut bytes);
        encoder.set_max_size(room);
        if let Err(error) = self.message.emit(&mut encoder) {
            tracing::warn!("encoding an answer: {error}");
            return None;
        }
        // a record that did not fit leaves its first bytes
        encoder.trim();
        if !edns.is_empty() && bytes.len() >= HEADER {
            let counted = bytes.get_mut(ADDITIONALS..HEADER)?;
            let count = u16::from_be_bytes([*counted.first()?, *counted.last()?]);
            counted.copy_from_slice(&(count + 1).to_be_bytes());
            bytes.extend(edns);
        }
        Some(bytes)
    }

    /// The client's EDNS record, as a server repeats it.
    fn edns_record(&self) -> Vec<u8> {
        let Some(edns) = &self.edns else {
            return Vec::new();
        };
        let options = u16::try_from(edns.options.len()).unwrap_or(0);
        let mut record = vec![0, 0, 41];
        record.extend(edns.size.to_be_bytes());
        record.extend([self.message.metadata.response_code.high(), edns.version]);
        record.extend(edns.flags.to_be_bytes());
        record.extend(options.to_be_bytes());
        record.extend(&edns.options);
        record
    }
}
