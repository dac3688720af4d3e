//! JSON and YAML documents of any shape as trees. Of keys that stand twice in a map the last wins, and all are told.

use std::cell::RefCell;
use std::fmt;
use std::marker::PhantomData;

use serde::de::{Deserialize, DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};
use serde_saphyr::{DuplicateKeyPolicy, Spanned};

use crate::schema::json::{OBJECTIONS, real, text_of};
use crate::schema::path::Path;
use crate::schema::weight::Weight;

/// Larger numbers have no exact integer.
const LARGEST_WHOLE: f64 = 9e18;

/// A tree and the keys that its text has more than once.
#[derive(Debug)]
pub struct Document {
    /// The tree; of a key that stands more than once the last value.
    pub value: Value,
    /// Those keys, in the order of the text.
    pub repeated: Vec<Repeated>,
}

/// A key that its map has already.
#[derive(Debug, PartialEq, Eq)]
pub struct Repeated {
    /// Such as `spec.containers[0].name`.
    pub path: String,
    /// The key.
    pub key: String,
    /// Where it stands again, from 1; 0 in JSON.
    pub line: u64,
}

impl Document {
    /// One JSON document, its numbers as JSON has them.
    ///
    /// # Errors
    /// Where the text is not JSON, or goes on after its end.
    pub fn from_json(bytes: &[u8]) -> Result<Document, serde_json::Error> {
        let mut deserializer = serde_json::Deserializer::from_slice(bytes);
        let document = read::<String, _>(&mut deserializer)?;
        deserializer.end()?;
        Ok(document)
    }

    /// One YAML document, its numbers as Kubernetes reads them: `0755` is octal as in YAML 1.1, `1.0` and `1e3` are
    /// integers.
    ///
    /// # Errors
    /// What is no YAML.
    pub fn from_yaml(bytes: &[u8]) -> Result<Document, serde_saphyr::Error> {
        let options = serde_saphyr::options! {
            duplicate_keys: DuplicateKeyPolicy::LastWins,
            legacy_octal_numbers: true,
        };
        let read = |bytes: &[u8]| {
            serde_saphyr::with_deserializer_from_slice_with_options(bytes, options.clone(), |d| {
                read::<Spanned<String>, _>(d)
            })
        };
        let mut mended: Option<Vec<u8>> = None;
        for _ in 0..MOST_BEYOND {
            let text = mended.as_deref().unwrap_or(bytes);
            match read(text) {
                Err(error) => match beyond_all_as_text(text, &error) {
                    Some(next) => mended = Some(next),
                    None => return Err(error),
                },
                done => return done,
            }
        }
        read(mended.as_deref().unwrap_or(bytes))
    }

    /// What Go's YAML reader says of repeated keys when it is strict.
    pub fn yaml_problem(&self) -> Option<String> {
        let line = |r: &Repeated| format!("\n  line {}: key {:?} already set in map", r.line, r.key);
        let lines: String = self.repeated.iter().map(line).collect();
        (!lines.is_empty()).then(|| format!("yaml: unmarshal errors:{lines}"))
    }
}

/// How many numbers of a text may be beyond all numbers.
const MOST_BEYOND: usize = 20;

/// The text with a number that is beyond all numbers in quotes: to Go's reader such a word is a text.
fn beyond_all_as_text(text: &[u8], mut error: &serde_saphyr::Error) -> Option<Vec<u8>> {
    while let serde_saphyr::Error::WithSnippet { error: inner, .. } = error {
        error = inner;
    }
    let serde_saphyr::Error::NonFiniteFloat { value, location } = error else {
        return None;
    };
    let at = usize::try_from(location.span().byte_offset()?).ok()?;
    let (before, rest) = text.split_at_checked(at)?;
    let rest = rest.strip_prefix(value.as_bytes())?;
    let is_decimal = value.bytes().any(|byte| byte.is_ascii_digit());
    is_decimal.then(|| [before, b"'", value.as_bytes(), b"'", rest].concat())
}

fn read<'de, K: Key, D: Deserializer<'de>>(deserializer: D) -> Result<Document, D::Error> {
    let (repeated, weight) = (RefCell::default(), Weight::default());
    let seed = Tree::<K> {
        repeated: &repeated,
        weight: &weight,
        path: &Path::Root,
        key: PhantomData,
    };
    let value = seed.deserialize(deserializer)?;
    Ok(Document {
        value,
        repeated: repeated.into_inner(),
    })
}

/// A map's key with or without its place.
trait Key: for<'de> Deserialize<'de> {
    /// Whether a number without a fraction is an integer, however it is written: Go's reader makes JSON of YAML.
    const WHOLE_NUMBERS: bool;

    fn into_parts(self) -> (String, u64);
}

impl Key for String {
    const WHOLE_NUMBERS: bool = false;

    fn into_parts(self) -> (String, u64) {
        (self, 0)
    }
}

impl Key for Spanned<String> {
    const WHOLE_NUMBERS: bool = true;

    fn into_parts(self) -> (String, u64) {
        (self.value, self.referenced.line())
    }
}

struct Tree<'a, K> {
    repeated: &'a RefCell<Vec<Repeated>>,
    weight: &'a Weight,
    path: &'a Path<'a>,
    key: PhantomData<K>,
}

impl<'a, K> Tree<'a, K> {
    fn below<'b>(&self, path: &'b Path<'b>) -> Tree<'b, K>
    where
        'a: 'b,
    {
        Tree {
            repeated: self.repeated,
            weight: self.weight,
            path,
            key: PhantomData,
        }
    }
}

impl<'de, K: Key> DeserializeSeed<'de> for Tree<'_, K> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de, K: Key> Visitor<'de> for Tree<'_, K> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any value")
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Value, E> {
        if K::WHOLE_NUMBERS && value.fract() == 0.0 && value.abs() < LARGEST_WHOLE {
            return Ok((value as i64).into());
        }
        Ok(real(value))
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_string<E: Error>(self, value: String) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_unit<E: Error>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_none<E: Error>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        self.deserialize(deserializer)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        loop {
            let path = Path::Index(self.path, list.len());
            match access.next_element_seed(self.below(&path))? {
                Some(item) => {
                    self.weight.value(text_of(&item)).map_err(A::Error::custom)?;
                    list.push(item);
                }
                None => return Ok(Value::Array(list)),
            }
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Value, A::Error> {
        let mut map = Map::new();
        while let Some(key) = access.next_key::<K>()? {
            let (key, line) = key.into_parts();
            let path = Path::Key(self.path, &key);
            let value = access.next_value_seed(self.below(&path))?;
            if map.contains_key(&key) {
                let mut repeated = self.repeated.borrow_mut();
                if repeated.len() < OBJECTIONS {
                    let (path, key) = (path.text(true), key.clone());
                    repeated.push(Repeated { path, key, line });
                }
            }
            let size = key.len() + text_of(&value);
            self.weight.member(map.len(), size).map_err(A::Error::custom)?;
            map.insert(key, value);
        }
        Ok(Value::Object(map))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_last_of_repeated_keys_wins_and_each_is_told_with_its_place() {
        let json = br#"{"a":1,"b":[{"c":1,"c":2}],"a":3}"#;
        let document = Document::from_json(json).unwrap();
        assert_eq!(document.value, json!({"a": 3, "b": [{"c": 2}]}));
        let paths: Vec<&str> = document.repeated.iter().map(|r| r.path.as_str()).collect();
        assert_eq!(paths, ["b[0].c", "a"]);

        let document = Document::from_yaml(b"\na: 1\nb:\n- c: 1.5\n  c: true\na: null\n").unwrap();
        assert_eq!(document.value, json!({"a": null, "b": [{"c": true}]}));
        let said =
            "yaml: unmarshal errors:\n  line 5: key \"c\" already set in map\n  line 6: key \"a\" already set in map";
        assert_eq!(document.yaml_problem().as_deref(), Some(said));
    }

    #[test]
    fn numbers_in_yaml_are_those_of_yaml_1_1_and_whole_where_they_can_be() {
        for (text, want) in [
            ("0755", json!(493)),
            ("0400", json!(256)),
            ("-010", json!(-8)),
            ("0o440", json!(288)),
            ("0x1f", json!(31)),
            ("0b101", json!(5)),
            ("1_000", json!(1000)),
            ("+7", json!(7)),
            ("0", json!(0)),
            ("1.0", json!(1)),
            ("1e3", json!(1000)),
            ("1.5", json!(1.5)),
            ("08", json!(8)),
            ("\"0755\"", json!("0755")),
            ("yes", json!(true)),
            ("off", json!(false)),
            ("2024-01-01", json!("2024-01-01")),
            ("1.2.3", json!("1.2.3")),
            ("[1e400, -2e999]", json!(["1e400", "-2e999"])),
            ("~", json!(null)),
        ] {
            let document = Document::from_yaml(format!("v: {text}").as_bytes()).unwrap();
            assert_eq!(document.value["v"], want, "{text}");
        }
        assert_eq!(
            Document::from_json(b"{\"v\": 1.0, \"w\": -0}").unwrap().value,
            json!({ "v": 1.0, "w": 0 })
        );
    }

    #[test]
    fn text_that_is_no_document_is_refused() {
        assert!(Document::from_json(b"{} {}").is_err());
        assert!(Document::from_yaml(b"a: [").is_err());
        assert!(Document::from_yaml(b"a: .inf").is_err());
        assert_eq!(Document::from_yaml(b"a: 1").unwrap().yaml_problem(), None);
    }
}
