//! Reading a few fields of an object's JSON where it stands, without a tree of the whole: members and items are found by
//! skipping what lies between them. It trusts that the text is JSON, as everything that is stored is.

use memchr::memchr2;
use serde_json::{Map, Value};

/// Where the value that begins at `at` ends.
fn end_of(text: &[u8], at: usize) -> Option<usize> {
    match text.get(at)? {
        b'"' => string_end(text, at),
        b'{' | b'[' => {
            let (mut depth, mut at) = (0usize, at);
            loop {
                match text.get(at)? {
                    b'"' => {
                        at = string_end(text, at)?;
                        continue;
                    }
                    b'{' | b'[' => depth += 1,
                    b'}' | b']' => {
                        depth -= 1;
                        if depth == 0 {
                            return Some(at + 1);
                        }
                    }
                    _ => {}
                }
                at += 1;
            }
        }
        _ => {
            let rest = text[at..].iter();
            let size = rest.take_while(|b| !matches!(b, b',' | b'}' | b']') && !b.is_ascii_whitespace());
            Some(at + size.count())
        }
    }
}

/// Where the string that begins at `at` ends, after its closing quote.
fn string_end(text: &[u8], at: usize) -> Option<usize> {
    let mut at = at + 1;
    loop {
        at += memchr2(b'"', b'\\', text.get(at..)?)?;
        if text[at] == b'"' {
            return Some(at + 1);
        }
        // whatever is escaped is no end
        at += 2;
    }
}

fn skip_space(text: &[u8], at: usize) -> usize {
    at + text[at.min(text.len())..]
        .iter()
        .take_while(|b| b.is_ascii_whitespace())
        .count()
}

/// The values within an object or array, in order; of an object with their keys as they are written, escapes and all.
#[derive(Debug)]
struct Parts<'a> {
    text: &'a [u8],
    at: usize,
    keyed: bool,
}

impl<'a> Parts<'a> {
    fn of(text: &'a [u8]) -> Parts<'a> {
        let at = skip_space(text, 0);
        Parts {
            text,
            at: at + 1,
            keyed: text.get(at) == Some(&b'{'),
        }
    }
}

impl<'a> Iterator for Parts<'a> {
    type Item = (&'a [u8], &'a [u8]);

    fn next(&mut self) -> Option<(&'a [u8], &'a [u8])> {
        let text = self.text;
        let mut at = skip_space(text, self.at);
        if text.get(at) == Some(&b',') {
            at = skip_space(text, at + 1);
        }
        let mut key: &[u8] = &[];
        if self.keyed {
            if text.get(at) != Some(&b'"') {
                return None;
            }
            let end = string_end(text, at)?;
            key = &text[at + 1..end - 1];
            // past the colon
            at = skip_space(text, skip_space(text, end) + 1);
        }
        if matches!(text.get(at), None | Some(b']' | b'}')) {
            return None;
        }
        let end = end_of(text, at)?;
        self.at = end;
        Some((key, &text[at..end]))
    }
}

/// The JSON text of one member of an object.
pub fn member<'a>(object: &'a [u8], key: &str) -> Option<&'a [u8]> {
    Parts::of(object)
        .find(|(k, _)| *k == key.as_bytes())
        .map(|(_, value)| value)
}

/// The fields of an object that somebody reads; paths cross lists without a step of their own.
///
/// ```
/// let reads = api::raw::Projection::new(&["metadata/name", "spec/containers/image", "data/*"]);
/// let object = br#"{"metadata":{"name":"a","uid":"u"},"spec":{"containers":[{"image":"i","tty":true}]},"data":{"k":"v"}}"#;
/// assert_eq!(
///     reads.read(object).unwrap(),
///     serde_json::json!({ "metadata": { "name": "a" }, "spec": { "containers": [{ "image": "i" }] }, "data": { "k": null } })
/// );
/// ```
#[derive(Debug, Default)]
pub struct Projection {
    wanted: Wanted,
}

#[derive(Debug, Default)]
enum Wanted {
    /// The value as it is.
    #[default]
    Whole,
    /// The keys of a map, with nothing for their values.
    Keys,
    Members(Vec<(&'static str, Wanted)>),
    /// Everything but these members.
    Without(Vec<&'static str>),
}

impl Projection {
    /// Fields by path, such as `status/conditions/type`; `data/*` is the keys of `data` alone.
    pub fn new(paths: &[&'static str]) -> Projection {
        let mut wanted = Wanted::Members(Vec::new());
        for path in paths {
            wanted.add(path);
        }
        Projection { wanted }
    }

    /// Everything but some members of one object below the root, such as `metadata`'s `managedFields`.
    pub fn without(object: &'static str, members: &[&'static str]) -> Projection {
        Projection {
            wanted: Wanted::Members(vec![(object, Wanted::Without(members.to_vec())), ("*", Wanted::Whole)]),
        }
    }

    /// The tree of those fields.
    ///
    /// # Errors
    /// When a value is not JSON.
    pub fn read(&self, text: &[u8]) -> Result<Value, serde_json::Error> {
        self.wanted.read(text)
    }
}

impl Wanted {
    fn add(&mut self, path: &'static str) {
        let (first, rest) = path.split_once('/').map_or((path, None), |(f, r)| (f, Some(r)));
        if first == "*" {
            *self = Wanted::Keys;
            return;
        }
        if !matches!(self, Wanted::Members(_)) {
            *self = Wanted::Members(Vec::new());
        }
        let Wanted::Members(members) = self else { return };
        let place = match members.iter().position(|(name, _)| *name == first) {
            Some(at) => at,
            None => {
                let inside = rest.map_or(Wanted::Whole, |_| Wanted::Members(Vec::new()));
                members.push((first, inside));
                members.len() - 1
            }
        };
        if let Some(rest) = rest {
            members[place].1.add(rest);
        }
    }

    fn of(&self, key: &[u8]) -> Option<&Wanted> {
        match self {
            Wanted::Whole => Some(self),
            Wanted::Keys => None,
            Wanted::Without(members) => (!members.iter().any(|m| m.as_bytes() == key)).then_some(&Wanted::Whole),
            Wanted::Members(members) => {
                let named = members.iter().find(|(name, _)| name.as_bytes() == key);
                named
                    .or_else(|| members.iter().find(|(name, _)| *name == "*"))
                    .map(|(_, wanted)| wanted)
            }
        }
    }

    fn read(&self, text: &[u8]) -> Result<Value, serde_json::Error> {
        if matches!(self, Wanted::Whole) {
            return serde_json::from_slice(text);
        }
        match text.get(skip_space(text, 0)) {
            Some(b'{') => {
                let mut out = Map::new();
                for (key, value) in Parts::of(text) {
                    let value = match self.of(key) {
                        Some(wanted) => wanted.read(value)?,
                        None if matches!(self, Wanted::Keys) => Value::Null,
                        None => continue,
                    };
                    out.insert(unescaped(key)?, value);
                }
                Ok(Value::Object(out))
            }
            Some(b'[') => {
                let items = Parts::of(text).map(|(_, item)| self.read(item));
                items.collect::<Result<_, _>>().map(Value::Array)
            }
            _ => serde_json::from_slice(text),
        }
    }
}

fn unescaped(key: &[u8]) -> Result<String, serde_json::Error> {
    if !key.contains(&b'\\')
        && let Ok(plain) = std::str::from_utf8(key)
    {
        return Ok(plain.to_owned());
    }
    serde_json::from_slice(&[b"\"", key, b"\""].concat())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_member_is_found_whatever_lies_before_it() {
        let text = br#" { "a" : [1,{"b":"}]\""},[]] , "c\"":-1.5e3,"d":"x\\","b":{"b":1},"e":true } "#;
        let at = |key| member(text, key).map(|v| String::from_utf8_lossy(v).into_owned());
        assert_eq!(at("a").as_deref(), Some(r#"[1,{"b":"}]\""},[]]"#));
        assert_eq!(at("b").as_deref(), Some(r#"{"b":1}"#));
        assert_eq!(at("d").as_deref(), Some(r#""x\\""#));
        assert_eq!(at("e").as_deref(), Some("true"));
        assert_eq!(at("f"), None);
        assert_eq!(member(b"{}", "a"), None);
        assert_eq!(member(b"", "a"), None);
        assert_eq!(member(br#"{"a":"#, "a"), None);
    }

    #[test]
    fn what_is_left_out_is_not_read() {
        let text = br#"{"metadata":{"name":"n","managedFields":[{"x":1}]},"spec":{"a":[[1,2]]},"kind":"K"}"#;
        assert_eq!(
            Projection::without("metadata", &["managedFields"]).read(text).unwrap(),
            json!({ "metadata": { "name": "n" }, "spec": { "a": [[1, 2]] }, "kind": "K" })
        );
        assert_eq!(
            Projection::new(&["spec"]).read(text).unwrap(),
            json!({ "spec": { "a": [[1, 2]] } })
        );
        assert_eq!(
            Projection::new(&["metadata/*"]).read(text).unwrap(),
            json!({ "metadata": { "name": null, "managedFields": null } })
        );
    }
}
