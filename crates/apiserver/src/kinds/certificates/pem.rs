//! PEM as Go's `encoding/pem` reads it: what is no block is passed over, and headers are told, which RFC 7468 does not have.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

const BEGIN: &str = "-----BEGIN ";
const END: &str = "\n-----END ";
const DASHES: &str = "-----";

/// A block.
#[derive(Debug, PartialEq, Eq)]
pub struct Block {
    pub label: String,
    pub has_headers: bool,
    pub contents: Vec<u8>,
}

/// The blocks of a text, in order.
pub fn blocks(text: &str) -> Vec<Block> {
    let mut found = Vec::new();
    let mut rest = text;
    while let Some(end) = rest.find(END) {
        let (before, after) = (&rest[..end], &rest[end + END.len()..]);
        // a beginning without an end is passed over: the last one counts
        if let Some(begin) = before
            .rfind(BEGIN)
            .filter(|&at| at == 0 || before[..at].ends_with('\n'))
        {
            found.extend(block(&before[begin + BEGIN.len()..], after));
        }
        rest = after;
    }
    found
}

/// A block by what stands between its beginning and its end, and what follows its end.
fn block(between: &str, after: &str) -> Option<Block> {
    let (first, mut body) = between.split_once('\n').unwrap_or((between, ""));
    let label = first.trim_end().strip_suffix(DASHES)?;
    let mut has_headers = false;
    while body.lines().next().is_some_and(|line| line.contains(':')) {
        has_headers = true;
        body = body.split_once('\n').map_or("", |(_, rest)| rest);
    }
    let closed = after.strip_prefix(label)?.strip_prefix(DASHES)?;
    if !closed.lines().next().unwrap_or_default().trim_end().is_empty() {
        return None;
    }
    let digits: String = body.chars().filter(|c| !c.is_ascii_whitespace()).collect();
    Some(Block {
        label: label.to_owned(),
        has_headers,
        contents: STANDARD.decode(digits).ok()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_found_among_other_text_and_headers_are_told() {
        let text = "note\n-----BEGIN A-----\naGVs\nbG8=\n-----END A-----\n\n-----BEGIN B-----\nk: v\n\naGVsbG8=\n-----END B-----";
        let block = |label: &str, has_headers| Block {
            label: label.to_owned(),
            has_headers,
            contents: b"hello".to_vec(),
        };
        assert_eq!(blocks(text), [block("A", false), block("B", true)]);
    }

    #[test]
    fn what_is_not_whole_is_no_block() {
        for text in [
            "",
            "-----BEGIN A-----\naGVsbG8=\n",
            "-----BEGIN A-----\n*\n-----END A-----\n",
            "-----BEGIN A-----\naGVsbG8=\n-----END B-----\n",
            "-----BEGIN A-----\naGVsbG8=\n-----END A----- more\n",
            " -----BEGIN A-----\naGVsbG8=\n-----END A-----\n",
        ] {
            assert_eq!(blocks(text), [], "{text:?}");
        }
        let again = "-----BEGIN A-----\n-----BEGIN A-----\naGVsbG8=\n-----END A-----\n";
        assert_eq!(blocks(again).len(), 1);
    }
}
