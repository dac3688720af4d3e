//! `describe` of certificate signing requests: what is asked for is in the request itself, which is DER.

use std::net::{Ipv4Addr, Ipv6Addr};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use super::text::{Text, date, in_one_line, items, str_of};
use crate::error::{Result, message};

/// Types of DER.
const SEQUENCE: u8 = 0x30;
const OBJECT: u8 = 0x06;
/// The attributes of a request, `[0]` in it.
const ATTRIBUTES: u8 = 0xa0;
/// `pkcs-9-at-extensionRequest` and `subjectAltName`.
const EXTENSIONS: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x09, 0x0e];
const ALTERNATIVES: &[u8] = &[0x55, 0x1d, 0x11];
/// What a subject may have beside its name and number, by the last byte of `2.5.4.x`.
const LISTS: [(u8, &str); 7] = [
    (10, "Organization"),
    (11, "Organizational Unit"),
    (6, "Country"),
    (7, "Locality"),
    (8, "Province"),
    (9, "StreetAddress"),
    (17, "PostalCode"),
];

/// A value of DER: its type and what is in it.
#[derive(Clone, Copy)]
struct Item<'a> {
    kind: u8,
    bytes: &'a [u8],
}

/// The first value of some bytes, and the bytes after it.
fn first(bytes: &[u8]) -> Option<(Item<'_>, &[u8])> {
    let (&kind, rest) = bytes.split_first()?;
    let (&short, rest) = rest.split_first()?;
    let (length, rest) = match short {
        0..0x80 => (usize::from(short), rest),
        long => {
            let (digits, rest) = rest.split_at_checked(usize::from(long & 0x7f))?;
            let length = digits.iter().try_fold(0_usize, |all, digit| {
                all.checked_mul(256)?.checked_add(usize::from(*digit))
            });
            (length?, rest)
        }
    };
    let (bytes, rest) = rest.split_at_checked(length)?;
    Some((Item { kind, bytes }, rest))
}

impl<'a> Item<'a> {
    /// The values in it, up to the first that is none.
    fn items(self) -> impl Iterator<Item = Item<'a>> {
        let mut rest = self.bytes;
        std::iter::from_fn(move || {
            let (item, after) = first(rest)?;
            rest = after;
            Some(item)
        })
    }

    fn text(self) -> String {
        String::from_utf8_lossy(self.bytes).into_owned()
    }
}

/// What a request asks for.
#[derive(Debug, Default, PartialEq)]
struct Asked {
    /// The last byte of an attribute's type, and its value.
    subject: Vec<(u8, String)>,
    dns: Vec<String>,
    mail: Vec<String>,
    uris: Vec<String>,
    addresses: Vec<String>,
}

impl Asked {
    fn read(pem: &[u8]) -> Option<Asked> {
        let text = std::str::from_utf8(pem).ok()?;
        let (_, text) = text.split_once("-----BEGIN CERTIFICATE REQUEST-----")?;
        let (text, _) = text.split_once("-----END")?;
        let der = STANDARD.decode(text.split_whitespace().collect::<String>()).ok()?;
        let (request, _) = first(&der)?;
        let info = request.items().find(|item| item.kind == SEQUENCE)?;
        let mut asked = Asked::default();
        let subject = info.items().find(|item| item.kind == SEQUENCE)?;
        for attribute in subject.items().flat_map(Item::items) {
            let mut parts = attribute.items();
            if let (Some(kind), Some(value)) = (parts.next(), parts.next())
                && let [0x55, 0x04, number] = kind.bytes
            {
                asked.subject.push((*number, value.text()));
            }
        }
        let attributes = info.items().find(|item| item.kind == ATTRIBUTES);
        let extensions = attributes.and_then(|all| all.items().find(|one| is(*one, EXTENSIONS)));
        // a set of one list of extensions
        let extensions = extensions.and_then(|found| found.items().nth(1)?.items().next());
        let alternatives = extensions.and_then(|all| all.items().find(|one| is(*one, ALTERNATIVES)));
        if let Some(names) = alternatives.and_then(|found| Some(first(found.items().last()?.bytes)?.0)) {
            names.items().for_each(|name| asked.name(name));
        }
        Some(asked)
    }

    fn name(&mut self, name: Item<'_>) {
        match name.kind & 0x1f {
            1 => self.mail.push(name.text()),
            2 => self.dns.push(name.text()),
            6 => self.uris.push(name.text()),
            7 => {
                let four: Option<[u8; 4]> = name.bytes.try_into().ok();
                let sixteen: Option<[u8; 16]> = name.bytes.try_into().ok();
                let address = four.map(|ip| Ipv4Addr::from(ip).to_string());
                self.addresses
                    .extend(address.or(sixteen.map(|ip| Ipv6Addr::from(ip).to_string())));
            }
            _ => {}
        }
    }

    fn all(&self, number: u8) -> Vec<String> {
        let of = |(kind, value): &(u8, String)| (*kind == number).then(|| value.clone());
        self.subject.iter().filter_map(of).collect()
    }
}

/// Whether a value begins with an object identifier.
fn is(item: Item<'_>, object: &[u8]) -> bool {
    item.items()
        .next()
        .is_some_and(|head| head.kind == OBJECT && head.bytes == object)
}

fn status(request: &Value) -> String {
    let has = |kind: &str| items(&request["status"]["conditions"]).any(|one| one["type"] == kind);
    let mut text = match (has("Denied"), has("Approved")) {
        (true, _) => "Denied",
        (_, true) => "Approved",
        _ => "Pending",
    }
    .to_owned();
    if has("Failed") {
        text.push_str(",Failed");
    }
    if !str_of(&request["status"]["certificate"]).is_empty() {
        text.push_str(",Issued");
    }
    text
}

fn lines(w: &mut Text, title: &str, values: &[String]) {
    if let [first, more @ ..] = values {
        w.line(0, &format!("\t{title}:\t{first}"));
        more.iter().for_each(|value| w.line(0, &format!("\t\t{value}")));
    }
}

/// Describes a request.
///
/// # Errors
/// When its certificate request cannot be read.
pub fn request(w: &mut Text, request: &Value) -> Result<()> {
    let (meta, spec) = (&request["metadata"], &request["spec"]);
    let pem = STANDARD.decode(str_of(&spec["request"])).ok();
    let asked = pem
        .and_then(|pem| Asked::read(&pem))
        .ok_or_else(|| message("Error parsing CSR: PEM block type must be CERTIFICATE REQUEST"))?;
    w.pair(0, "Name", str_of(&meta["name"]));
    w.pair(0, "Labels", &in_one_line(&meta["labels"]));
    w.pair(0, "Annotations", &in_one_line(&meta["annotations"]));
    w.pair(0, "CreationTimestamp", &date(&meta["creationTimestamp"]));
    w.pair(0, "Requesting User", str_of(&spec["username"]));
    if !str_of(&spec["signerName"]).is_empty() {
        w.pair(0, "Signer", str_of(&spec["signerName"]));
    }
    if let Some(seconds) = spec["expirationSeconds"].as_i64() {
        w.pair(0, "Requested Duration", &::api::duration::human(seconds));
    }
    w.pair(0, "Status", &status(request));
    w.line(0, "Subject:");
    let one = |number: u8| asked.all(number).pop().unwrap_or_default();
    w.line(0, &format!("\tCommon Name:\t{}", one(3)));
    w.line(0, &format!("\tSerial Number:\t{}", one(5)));
    for (number, title) in LISTS {
        lines(w, title, &asked.all(number));
    }
    let names = [
        ("DNS Names", &asked.dns),
        ("Email Addresses", &asked.mail),
        ("URIs", &asked.uris),
        ("IP Addresses", &asked.addresses),
    ];
    if names.iter().any(|(_, all)| !all.is_empty()) {
        w.line(0, "Subject Alternative Names:");
        names.iter().for_each(|(title, all)| lines(w, title, all));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const REQUEST: &str = "-----BEGIN CERTIFICATE REQUEST-----
MIIBRzCB7gIBADAsMQ0wCwYDVQQKDARkZXZzMQwwCgYDVQQKDANvcHMxDTALBgNV
BAMMBGphbmUwWTATBgcqhkjOPQIBBggqhkjOPQMBBwNCAATE0Sv1EwGdagrMSBSV
E5ChXmZbjM6qybOX6Uvv2568OnrB4H6Bye+Djo7ql+xxSVo32sUaM4qs+JBKHRRG
hW3boGAwXgYJKoZIhvcNAQkOMVEwTzBNBgNVHREERjBEgg1hLmV4YW1wbGUub3Jn
hwTAAAIBhxAgAQ24AAAAAAAAAAAAAAABgQ1qQGV4YW1wbGUub3JnhgxzcGlmZmU6
Ly9hL2IwCgYIKoZIzj0EAwIDSAAwRQIgStQOIuSvdOYJ4eL+z3H6erQnGGnO5iHc
TYsfJrDlirsCIQDV76Y2TVDlRpIanI13dfhbUWHLuN0e8r3iW8maJ1DR4w==
-----END CERTIFICATE REQUEST-----";

    #[test]
    fn a_request_says_whom_it_is_for() {
        let asked = Asked::read(REQUEST.as_bytes()).unwrap();
        assert_eq!(
            (asked.all(3), asked.all(10)),
            (vec!["jane".to_owned()], vec!["devs".to_owned(), "ops".to_owned()])
        );
        assert_eq!(
            (asked.dns, asked.addresses),
            (
                vec!["a.example.org".to_owned()],
                vec!["192.0.2.1".to_owned(), "2001:db8::1".to_owned()]
            )
        );
        assert_eq!(
            (asked.mail, asked.uris),
            (vec!["j@example.org".to_owned()], vec!["spiffe://a/b".to_owned()])
        );
        // what is cut off is none
        assert_eq!(Asked::read(&REQUEST.as_bytes()[..200]), None);
    }
}
