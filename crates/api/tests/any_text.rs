//! Whatever text a client sends is read or refused: nothing that reads one ends the process.
#![allow(clippy::unwrap_used)]

use api::jsonpath::JsonPath;
use api::quantity::Quantity;
use api::raw::Projection;
use api::schema::structural::Written;
use api::schema::{Document, Schema, envelope};
use api::selectors::{FieldSelector, LabelSelector};
use api::{names, time};
use serde_json::json;

/// Pieces that readers treat in a way of their own, and letters of one to four bytes.
const PIECES: [&str; 72] = [
    "",
    "a",
    "0",
    "9",
    "-",
    "+",
    ".",
    ",",
    ":",
    ";",
    "/",
    "\\",
    "'",
    "\"",
    "(",
    ")",
    "[",
    "]",
    "{",
    "}",
    "<",
    ">",
    "?",
    "*",
    "|",
    "^",
    "$",
    "@",
    "=",
    "!",
    "%",
    "%2",
    "%zz",
    "&",
    "#",
    "~",
    "_",
    " ",
    "\n",
    "\t",
    "\0",
    "é",
    "€",
    "𐍈",
    "\u{301}",
    "e9",
    "0x1f",
    "1h",
    "T",
    "Z",
    "in",
    "==",
    "..",
    "(?P<n>",
    "(?i:",
    "\\p",
    "\\pL",
    "\\p{Greek}",
    "\\x{41}",
    "\\Q",
    "\\E",
    "\\012",
    "[[:alpha:]]",
    "{1,2}",
    "{1001}",
    "[?(@.a==1)]",
    "{range .a[*]}",
    "{end}",
    "2026-01-02T03:04:05",
    ".123456",
    "+01:00",
    "https://",
];

/// Texts of pieces, the same in each run.
fn texts(count: usize) -> impl Iterator<Item = String> {
    let mut state = 0x9e37_79b9_7f4a_7c15u64;
    let mut draw = move |of: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        usize::try_from(state % of as u64).unwrap()
    };
    (0..count).map(move |_| {
        let pieces = draw(12);
        let mut text: String = (0..pieces).map(|_| PIECES[draw(PIECES.len())]).collect();
        // some are long: limits are counted in bytes, and letters lie across them
        if draw(8) == 0 {
            text = [&"é".repeat(draw(140)), text.as_str(), &"x".repeat(draw(70))].concat();
        }
        text
    })
}

#[test]
fn readers_of_texts_return_whatever_they_are_given() {
    let object = json!({ "a": [{ "b": 1 }, "é"], "n": null });
    for text in texts(20_000) {
        let _ = LabelSelector::parse(&text);
        let _ = FieldSelector::parse(&text);
        let _ = text.parse::<Quantity>();
        let _ = time::parse_duration(&text);
        let _ = (time::Instant::read(&text, false), time::Instant::read(&text, true));
        if let Ok(path) = JsonPath::parse(&text) {
            let _ = path.execute(&object);
        }
        let _ = api::jsonpath::relaxed(&text);
        let _ = names::qualified_name_errors(&text);
        let _ = (names::label_value_errors(&text), names::path_segment_errors(&text));
        let _ = (
            names::dns1123_subdomain_errors(&text),
            names::wildcard_subdomain_errors(&text),
        );
        let _ = (
            names::ip_errors(&text),
            names::cidr_errors(&text),
            names::canonical_cidr_errors(&text),
        );
        let _ = (
            names::config_map_key_errors(&text),
            names::env_name_errors(&text),
            names::port_name_errors(&text),
        );
        let _ = names::finalizer_error(&text);
    }
}

#[test]
fn readers_of_documents_return_whatever_they_are_given() {
    let pod = Schema::builtin().type_named("core.v1.Pod").unwrap();
    let reads = Projection::new(&["metadata/name", "spec/containers/name", "data/*"]);
    for text in texts(5_000) {
        let _ = Document::from_json(text.as_bytes());
        let _ = Document::from_yaml(text.as_bytes());
        let _ = Schema::builtin().decode_json(pod, text.as_bytes());
        let _ = Schema::builtin().decode_proto(pod, text.as_bytes());
        let _ = envelope::unwrap_unknown(&[b"k8s\0", text.as_bytes()].concat());
        let _ = reads.read(text.as_bytes());
        let _ = api::raw::member(text.as_bytes(), "metadata");
        let inside = format!("{{\"metadata\":{{\"name\":\"{text}\"}},\"data\":{text}}}");
        let _ = reads.read(inside.as_bytes());
    }
}

#[test]
fn patterns_and_formats_return_whatever_they_are_given() {
    const FORMATS: [&str; 24] = [
        "bsonobjectid",
        "uri",
        "email",
        "hostname",
        "ipv4",
        "ipv6",
        "cidr",
        "mac",
        "isbn",
        "isbn10",
        "isbn13",
        "creditcard",
        "ssn",
        "date",
        "duration",
        "date-time",
        "k8s-short-name",
        "k8s-long-name",
        "uuid",
        "uuid5",
        "hexcolor",
        "rgbcolor",
        "byte",
        "other",
    ];
    let properties: serde_json::Map<_, _> = FORMATS
        .iter()
        .map(|f| ((*f).to_owned(), json!({ "type": "string", "format": f })))
        .collect();
    let openapi = json!({ "type": "object", "properties": properties });
    let (schema, _) = Schema::from_crd(&openapi);
    for text in texts(3_000) {
        let object: serde_json::Map<_, _> = FORMATS.iter().map(|f| ((*f).to_owned(), json!(text))).collect();
        let _ = schema.validate_structural(&object.into(), None, Written::Whole);
        let patterned = json!({ "type": "object", "properties": { "a": { "type": "string", "pattern": text } } });
        let (patterned, _) = Schema::from_crd(&patterned);
        let _ = patterned.validate_structural(&json!({ "a": text }), None, Written::Whole);
    }
}
