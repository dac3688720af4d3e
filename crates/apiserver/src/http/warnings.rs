//! What a client is warned of while its request is served: `Warning` headers (RFC 7234, code 299), one a text.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};

use http::HeaderValue;

/// Characters that all texts may have before each of them is cut.
const TOTAL: usize = 4096;
/// Characters that each text may have then.
const EACH: usize = 256;

/// The warnings of one request; copies are the same.
#[derive(Debug, Clone, Default)]
pub struct Warnings(Arc<Mutex<Told>>);

#[derive(Debug, Default)]
struct Told {
    texts: Vec<String>,
    known: HashSet<String>,
}

impl Warnings {
    /// Notes a warning, once.
    pub fn add(&self, text: impl Into<String>) {
        let text = text.into();
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // what would break out of a header is not told
        if !text.is_empty() && !text.contains(char::is_control) && all.known.insert(text.clone()) {
            all.texts.push(text);
        }
    }

    /// The `Warning` headers of the answer; long ones are cut when there are many (`warning.go`).
    pub fn headers(&self) -> Vec<HeaderValue> {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        shown(&all.texts).iter().filter_map(|text| header(text)).collect()
    }
}

/// The texts, cut when they are too much for a response's head.
fn shown(all: &[String]) -> Vec<String> {
    let length = |text: &String| text.chars().count();
    if all.iter().map(length).sum::<usize>() <= TOTAL {
        return all.to_vec();
    }
    let mut told = 0;
    let cut = all.iter().map(|text| text.chars().take(EACH).collect());
    cut.take_while(|text| {
        let room = told < TOTAL;
        told += length(text);
        room
    })
    .collect()
}

fn header(text: &str) -> Option<HeaderValue> {
    let quoted = text.replace('\\', "\\\\").replace('"', "\\\"");
    HeaderValue::from_bytes(format!("299 - \"{quoted}\"").as_bytes()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_told_once_and_quoted() {
        let warnings = Warnings::default();
        for text in ["unknown field \"spec.x\"", "a\\b", "a\\b", "", "two\nlines"] {
            warnings.add(text);
        }
        let headers = warnings.headers();
        let told: Vec<&str> = headers.iter().filter_map(|h| h.to_str().ok()).collect();
        assert_eq!(told, [r#"299 - "unknown field \"spec.x\"""#, r#"299 - "a\\b""#]);
    }

    #[test]
    fn texts_are_cut_when_they_are_too_many() {
        let long = |n: usize| -> Vec<String> { (0..n).map(|i| format!("{i:1000}")).collect() };
        assert_eq!(shown(&long(4)), long(4));
        let cut = shown(&long(20));
        assert!(cut.iter().all(|text| text.len() == EACH));
        assert_eq!(cut.len(), TOTAL / EACH);
    }
}
