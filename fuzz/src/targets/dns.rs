//! Messages of DNS: of clients, and of the servers that questions are passed on to.

use crate::{Form, Target};

pub const TARGET: Target = Target::new("dns", Form::Bytes, check);

/// What an answer may take where the client says nothing of it.
const LIMIT: usize = 512;

fn check(input: &[u8]) {
    if let Some(answer) = dns::fuzzing::answered(input) {
        assert!(
            answer.len() >= 12 && answer.len() <= LIMIT.max(input.len()),
            "{} bytes",
            answer.len()
        );
        assert_eq!(answer[..2], input[..2], "the client's number");
        assert!(answer[2] & 0x80 != 0, "it is an answer");
        assert!(dns::fuzzing::answered(&answer).is_none(), "an answer is not answered");
    }
    dns::fuzzing::forwarded(input);
}
