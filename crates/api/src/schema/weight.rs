//! How much memory a document takes as a tree, estimated while it is read: a few bytes of text may become hundreds.

use std::cell::Cell;

/// What a tree may take: some twenty times the largest object that can be stored.
const MOST: usize = 32 << 20;
/// A value's place in what holds it.
const PLACE: usize = 32;
/// An object's table of members, which holds eleven, and what each further one adds.
const TABLE: usize = 640;
const MEMBER: usize = 80;

/// The message of what is refused.
pub const TOO_HEAVY: &str = "the document takes more than 32 MiB of memory";

/// The sum of what was read so far.
#[derive(Debug, Default)]
pub struct Weight(Cell<usize>);

/// The document takes too much.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{TOO_HEAVY}")]
pub struct TooHeavy;

impl Weight {
    fn add(&self, bytes: usize) -> Result<(), TooHeavy> {
        let sum = self.0.get().saturating_add(bytes);
        self.0.set(sum);
        if sum > MOST { Err(TooHeavy) } else { Ok(()) }
    }

    /// A number, a boolean, an array, or text of so many bytes.
    pub fn value(&self, text: usize) -> Result<(), TooHeavy> {
        self.add(PLACE + text)
    }

    /// The next member of an object that has so many already.
    pub fn member(&self, there: usize, key: usize) -> Result<(), TooHeavy> {
        self.add(key + if there == 0 { TABLE } else { MEMBER })
    }
}

#[cfg(test)]
mod tests {
    use crate::schema::Document;
    use crate::schema::Schema;

    use super::*;

    #[test]
    fn a_document_that_becomes_too_large_is_refused_and_a_large_one_is_not() {
        let small_objects = format!("[{}]", vec!["{\"a\":0}"; 300_000].join(","));
        let refused = Document::from_json(small_objects.as_bytes()).unwrap_err().to_string();
        assert!(refused.starts_with(TOO_HEAVY), "{refused}");
        assert!(Document::from_yaml(small_objects.as_bytes()).is_err());
        let text = format!(
            "[{}]",
            vec!["\"some text that is as long as texts are\""; 30_000].join(",")
        );
        assert!(Document::from_json(text.as_bytes()).is_ok());
        let pod = Schema::builtin().type_named("core.v1.Pod").unwrap();
        let volumes = vec!["{\"name\":\"a\",\"x\":1}"; 100_000].join(",");
        let body = format!("{{\"spec\":{{\"volumes\":[{volumes}]}}}}");
        assert_eq!(
            Schema::builtin()
                .decode_json(pod, body.as_bytes())
                .unwrap_err()
                .to_string(),
            TOO_HEAVY
        );
        // spec (field 2) with a million empty volumes (field 1)
        let mut spec = vec![0x12, 0x80, 0x89, 0x7a];
        spec.extend([0x0a, 0x00].repeat(1_000_000));
        assert_eq!(
            Schema::builtin().decode_proto(pod, &spec).unwrap_err().to_string(),
            TOO_HEAVY
        );
    }
}
