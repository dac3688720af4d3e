//! The formats of strings that schemas of custom resources may demand, as `kube-openapi/pkg/validation/strfmt` checks
//! them. Formats it does not know hold for every text.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::OnceLock;

use regex::Regex;

use super::pattern;

/// Whether a text is of a format. Dashes in the format's name do not count.
pub fn holds(format: &str, text: &str) -> bool {
    match format.replace('-', "").as_str() {
        "bsonobjectid" => text.len() == 24 && text.bytes().all(|b| b.is_ascii_hexdigit()),
        "uri" => request_uri(text),
        "email" => email(text),
        "hostname" => matches("hostname", text) && text.len() <= 255 && text.split('.').all(|part| part.len() <= 63),
        "ipv4" => text.contains('.') && sloppy_ip(text).is_some(),
        "ipv6" => text.parse::<Ipv6Addr>().is_ok(),
        "cidr" => cidr(text),
        "mac" => mac(text),
        "isbn" => isbn10(text) || isbn13(text),
        "isbn10" => isbn10(text),
        "isbn13" => isbn13(text),
        "creditcard" => credit_card(text),
        "ssn" => text.len() == 11 && matches("ssn", text),
        "date" => date(text),
        "duration" => duration(text),
        "datetime" => date_time(text),
        "k8sshortname" => text.len() <= 63 && short_name(text),
        "k8slongname" => text.len() <= 253 && text.split('.').all(short_name),
        name @ ("uuid" | "uuid3" | "uuid4" | "uuid5" | "hexcolor" | "rgbcolor" | "byte") => matches(name, text),
        _ => true,
    }
}

/// Whether a format is checked of values of a type.
pub fn is_known_of(kind: &str, format: &str) -> bool {
    match kind {
        "" | "string" => is_known(format),
        "integer" => matches!(format, "int32" | "int64"),
        "number" => matches!(format, "float" | "double"),
        _ => false,
    }
}

/// Whether a schema's format is checked at all.
pub fn is_known(format: &str) -> bool {
    const KNOWN: [&str; 26] = [
        "bsonobjectid",
        "uri",
        "email",
        "hostname",
        "ipv4",
        "ipv6",
        "cidr",
        "mac",
        "uuid",
        "uuid3",
        "uuid4",
        "uuid5",
        "isbn",
        "isbn10",
        "isbn13",
        "creditcard",
        "ssn",
        "hexcolor",
        "rgbcolor",
        "byte",
        "password",
        "date",
        "duration",
        "datetime",
        "k8sshortname",
        "k8slongname",
    ];
    KNOWN.contains(&format.replace('-', "").as_str())
}

/// Formats that are an expression, and parts of others.
const EXPRESSIONS: [(&str, &str); 12] = [
    (
        "hostname",
        r"^([a-zA-Z0-9\p{S}\p{L}]((-?[a-zA-Z0-9\p{S}\p{L}]{0,62})?)|([a-zA-Z0-9\p{S}\p{L}](([a-zA-Z0-9-\p{S}\p{L}]{0,61}[a-zA-Z0-9\p{S}\p{L}])?)(\.)){1,}([a-zA-Z\p{L}]){2,63})$",
    ),
    (
        "uuid",
        "(?i)^[0-9a-f]{8}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{12}$",
    ),
    (
        "uuid3",
        "(?i)^[0-9a-f]{8}-?[0-9a-f]{4}-?3[0-9a-f]{3}-?[0-9a-f]{4}-?[0-9a-f]{12}$",
    ),
    (
        "uuid4",
        "(?i)^[0-9a-f]{8}-?[0-9a-f]{4}-?4[0-9a-f]{3}-?[89ab][0-9a-f]{3}-?[0-9a-f]{12}$",
    ),
    (
        "uuid5",
        "(?i)^[0-9a-f]{8}-?[0-9a-f]{4}-?5[0-9a-f]{3}-?[89ab][0-9a-f]{3}-?[0-9a-f]{12}$",
    ),
    (
        "creditcard",
        r"^(?:4[0-9]{12}(?:[0-9]{3})?|5[1-5][0-9]{14}|6(?:011|5[0-9][0-9])[0-9]{12}|3[47][0-9]{13}|3(?:0[0-5]|[68][0-9])[0-9]{11}|(?:2131|1800|35\d{3})\d{11})$",
    ),
    ("hexcolor", "^#?([0-9a-fA-F]{3}|[0-9a-fA-F]{6})$"),
    (
        "rgbcolor",
        r"^rgb\(\s*(0|[1-9]\d?|1\d\d?|2[0-4]\d|25[0-5])\s*,\s*(0|[1-9]\d?|1\d\d?|2[0-4]\d|25[0-5])\s*,\s*(0|[1-9]\d?|1\d\d?|2[0-4]\d|25[0-5])\s*\)$",
    ),
    (
        "byte",
        r"^(?:[A-Za-z0-9+\/]{4})*(?:[A-Za-z0-9+\/]{2}==|[A-Za-z0-9+\/]{3}=|[A-Za-z0-9+\/]{4})$",
    ),
    ("ssn", r"^\d{3}[- ]?\d{2}[- ]?\d{4}$"),
    (
        "time of day",
        r"^([0-9]{2}):([0-9]{2}):([0-9]{2})(.[0-9]+)?(z|([+-][0-9]{2}:[0-9]{2}))$",
    ),
    ("amount", r"(\d+)\s*([A-Za-zµ]+)"),
];

fn expression(name: &str) -> Option<&'static Regex> {
    static COMPILED: OnceLock<HashMap<&'static str, Regex>> = OnceLock::new();
    let compiled = COMPILED.get_or_init(|| {
        let all = EXPRESSIONS.iter();
        all.filter_map(|(name, text)| Some((*name, pattern::compile(text).ok()?)))
            .collect()
    });
    compiled.get(name)
}

fn matches(name: &str, text: &str) -> bool {
    expression(name).is_some_and(|regex| regex.is_match(text))
}

fn short_name(text: &str) -> bool {
    crate::names::dns1123_label_errors(&text[..text.floor_char_boundary(63)]).is_empty()
        && text
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
        && !text.ends_with('-')
}

/// An address in which numbers of IPv4 may begin with zeros.
fn sloppy_ip(text: &str) -> Option<IpAddr> {
    let decimal = |part: &str| -> Option<u8> {
        let digits = !part.is_empty() && part.len() <= 255 && part.bytes().all(|b| b.is_ascii_digit());
        digits.then(|| part.trim_start_matches('0'))?;
        let significant = part.trim_start_matches('0');
        if significant.is_empty() {
            Some(0)
        } else {
            significant.parse().ok()
        }
    };
    if text.contains(':') {
        return text.parse::<Ipv6Addr>().ok().map(IpAddr::V6);
    }
    let parts: Option<Vec<u8>> = text.split('.').map(decimal).collect();
    let parts: [u8; 4] = parts?.try_into().ok()?;
    Some(IpAddr::V4(Ipv4Addr::from(parts)))
}

fn cidr(text: &str) -> bool {
    let Some((address, bits)) = text.split_once('/') else {
        return false;
    };
    let width = match sloppy_ip(address) {
        Some(IpAddr::V4(_)) => 32,
        Some(IpAddr::V6(_)) => 128,
        None => return false,
    };
    !bits.is_empty() && bits.bytes().all(|b| b.is_ascii_digit()) && bits.parse::<u32>().is_ok_and(|n| n <= width)
}

fn mac(text: &str) -> bool {
    let hex = |part: &str, length: usize| part.len() == length && part.bytes().all(|b| b.is_ascii_hexdigit());
    let of = |separator: char, length: usize, counts: [usize; 3]| {
        let parts: Vec<&str> = text.split(separator).collect();
        counts.contains(&parts.len()) && parts.iter().all(|part| hex(part, length))
    };
    let plain = [12, 16, 40].iter().any(|length| hex(text, *length));
    plain || of(':', 2, [6, 8, 20]) || of('-', 2, [6, 8, 20]) || of('.', 4, [3, 4, 10])
}

fn without_spaces(text: &str) -> Vec<u8> {
    let kept = text
        .bytes()
        .filter(|b| !matches!(b, b'\t' | b'\n' | 12 | b'\r' | b' ' | b'-'));
    kept.collect()
}

fn isbn10(text: &str) -> bool {
    let digits = without_spaces(text);
    let plain = digits.len() == 10 && digits[..9].iter().all(u8::is_ascii_digit);
    if !plain || !(digits[9].is_ascii_digit() || digits[9] == b'X') {
        return false;
    }
    let value = |d: u8| if d == b'X' { 10 } else { u32::from(d - b'0') };
    let sum: u32 = digits.iter().zip(1..).map(|(d, place)| place * value(*d)).sum();
    sum.is_multiple_of(11)
}

fn isbn13(text: &str) -> bool {
    let digits = without_spaces(text);
    if digits.len() != 13 || !digits.iter().all(u8::is_ascii_digit) {
        return false;
    }
    let weighed = digits.iter().zip([1, 3].into_iter().cycle());
    let sum: u32 = weighed.map(|(d, weight)| weight * u32::from(d - b'0')).sum();
    sum.is_multiple_of(10)
}

fn credit_card(text: &str) -> bool {
    let digits: String = text.chars().filter(char::is_ascii_digit).collect();
    let numbers = digits.bytes().rev().map(|d| u32::from(d - b'0')).zip(0..);
    let sum: u32 = numbers
        .map(|(d, place)| match (place % 2, d * 2) {
            (0, _) => d,
            (_, twice) => twice % 10 + twice / 10,
        })
        .sum();
    matches("creditcard", &digits) && sum.is_multiple_of(10)
}

fn date(text: &str) -> bool {
    let bytes = text.as_bytes();
    let shape = bytes.len() == 10 && bytes[4] == b'-' && bytes[7] == b'-';
    let number = |range: std::ops::Range<usize>| -> Option<u32> {
        let part = text.get(range)?;
        part.bytes().all(|b| b.is_ascii_digit()).then(|| part.parse().ok())?
    };
    let (Some(year), Some(month), Some(day)) = (number(0..4), number(5..7), number(8..10)) else {
        return false;
    };
    let leap = year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    let days = match month {
        2 => 28 + u32::from(leap),
        4 | 6 | 9 | 11 => 30,
        1..=12 => 31,
        _ => return false,
    };
    shape && (1..=days).contains(&day)
}

fn date_time(text: &str) -> bool {
    let lower = text.to_lowercase();
    let mut parts = lower.split('t');
    let (Some(day), Some(time)) = (parts.next(), parts.next()) else {
        return false;
    };
    // the expression says where the numbers stand
    let number = |at: usize| time.get(at..at + 2).unwrap_or("99");
    date(day) && matches("time of day", time) && number(0) <= "23" && number(3) <= "59" && number(6) <= "59"
}

/// Go's durations, and sums of amounts such as `3 days`.
fn duration(text: &str) -> bool {
    const UNITS: [&[&str]; 8] = [
        &["ns", "nano"],
        &["us", "µs", "micro"],
        &["ms", "milli"],
        &["s", "sec"],
        &["m", "min"],
        &["h", "hr", "hour"],
        &["d", "day"],
        &["w", "wk", "week"],
    ];
    if crate::time::parse_duration(text).is_some() {
        return true;
    }
    let Some(amount) = expression("amount") else {
        return false;
    };
    let mut known = false;
    for found in amount.find_iter(text) {
        let found = found.as_str();
        let digits = found.bytes().take_while(u8::is_ascii_digit).count();
        let (number, unit) = found.split_at(digits);
        if number.parse::<i64>().is_err() {
            return false;
        }
        let unit = unit.trim_start().to_lowercase();
        known |= UNITS.iter().any(|names| {
            let longest = names.last().is_some_and(|name| unit.starts_with(name));
            longest || names.contains(&unit.as_str())
        });
    }
    known
}

/// What Go's `url.ParseRequestURI` takes: an absolute URI or an absolute path.
fn request_uri(text: &str) -> bool {
    if text.is_empty() || text.bytes().any(|b| b < b' ' || b == 0x7f) {
        return false;
    }
    if text == "*" {
        return true;
    }
    let Some((scheme, rest)) = scheme(text) else {
        return false;
    };
    let rest = rest.split('?').next().unwrap_or_default();
    if !rest.starts_with('/') {
        return !scheme.is_empty();
    }
    let mut path = rest;
    if let (false, Some(after)) = (scheme.is_empty(), rest.strip_prefix("//")) {
        let end = after.find('/').unwrap_or(after.len());
        path = &after[end..];
        if !authority(&after[..end]) {
            return false;
        }
    }
    escapes_are_whole(path)
}

/// The scheme and what follows; `None` for a colon with nothing before it.
fn scheme(text: &str) -> Option<(&str, &str)> {
    for (i, c) in text.char_indices() {
        match c {
            'a'..='z' | 'A'..='Z' => {}
            '0'..='9' | '+' | '-' | '.' if i > 0 => {}
            ':' if i == 0 => return None,
            ':' => return Some((&text[..i], &text[i + 1..])),
            _ => break,
        }
    }
    Some(("", text))
}

fn escapes_are_whole(text: &str) -> bool {
    text.split('%').skip(1).all(|after| {
        let digits = after.as_bytes().get(..2);
        digits.is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit))
    })
}

fn authority(text: &str) -> bool {
    let (user, host) = match text.rsplit_once('@') {
        Some((user, host)) => (user, host),
        None => ("", text),
    };
    let of_user = |b: u8| b.is_ascii_alphanumeric() || b"-._:~!$&'()*+,;=%@".contains(&b);
    if !user.bytes().all(of_user) || !escapes_are_whole(user) {
        return false;
    }
    let port = |text: &str| {
        let digits = text.strip_prefix(':').unwrap_or(text);
        (text.is_empty() || text.starts_with(':')) && digits.bytes().all(|b| b.is_ascii_digit())
    };
    if let Some(inside) = host.strip_prefix('[') {
        let Some((address, after)) = inside.rsplit_once(']') else {
            return false;
        };
        let address = address.split('%').next().unwrap_or_default();
        return port(after) && address.parse::<Ipv6Addr>().is_ok();
    }
    let (name, after) = match host.find(':') {
        Some(at) => host.split_at(at),
        None => (host, ""),
    };
    let of_host = |b: u8| !b.is_ascii() || b.is_ascii_alphanumeric() || b"-_.~!$&'()*+,;=<>\"%".contains(&b);
    let escaped = |after: &str| after.as_bytes().first().is_some_and(|b| b"89abcdefABCDEF".contains(b));
    port(after) && name.bytes().all(of_host) && escapes_are_whole(name) && name.split('%').skip(1).all(escaped)
}

/// An address of mail with or without a name before it, as RFC 5322 has them.
fn email(text: &str) -> bool {
    let text = text.trim_matches([' ', '\t']);
    if let Some(inside) = text.strip_suffix('>') {
        let Some((name, address)) = inside.rsplit_once('<') else {
            return false;
        };
        let name = name.trim_matches([' ', '\t']);
        let quoted = name.len() >= 2 && name.starts_with('"') && name.ends_with('"');
        let words = name
            .split([' ', '\t'])
            .all(|word| word.chars().all(|c| is_atom(c) || c == '.'));
        return (quoted || words) && mail_address(address);
    }
    mail_address(text)
}

fn mail_address(text: &str) -> bool {
    let Some((local, domain)) = text.rsplit_once('@') else {
        return false;
    };
    let dotted = |text: &str| {
        text.split('.')
            .all(|part| !part.is_empty() && part.chars().all(is_atom))
    };
    let quoted = local.len() >= 2 && local.starts_with('"') && local.ends_with('"');
    let literal = domain.strip_prefix('[').and_then(|d| d.strip_suffix(']'));
    let domain_holds = match literal {
        Some(address) => address.trim_start_matches("IPv6:").parse::<IpAddr>().is_ok(),
        None => dotted(domain),
    };
    (quoted || dotted(local)) && domain_holds
}

fn is_atom(c: char) -> bool {
    !c.is_ascii() || c.is_ascii_alphanumeric() || "!#$%&'*+-/=?^_`{|}~".contains(c)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_format_takes_and_refuses_what_upstream_does() {
        let cases: &[(&str, &[&str], &[&str])] = &[
            (
                "bsonobjectid",
                &["507f1f77bcf86cd799439011"],
                &["507f", "z07f1f77bcf86cd799439011"],
            ),
            (
                "uri",
                &[
                    "http://a.b/c?d=e f",
                    "/path",
                    "mailto:a@b",
                    "http://[::1]:80/",
                    "https://a_b:8443",
                    "http://é/",
                ],
                &[
                    "not a uri",
                    "",
                    ":a",
                    "a/b",
                    "http://a b/",
                    "http://[::1",
                    "http://a:x/",
                    "/%zz",
                ],
            ),
            (
                "email",
                &["a@b", "A B <a.b@c.d>", "\"x y\"@z"],
                &["a", "a@", "@b", "a b@c", "a..b@c"],
            ),
            (
                "hostname",
                &["a.bc", "1a", "exämple.com", "a"],
                &["a_b", "-a", "a.b-", ""],
            ),
            (
                "ipv4",
                &["1.2.3.4", "010.0.0.1", "::ffff:1.2.3.4"],
                &["::1", "1.2.3", "1.2.3.256", "a"],
            ),
            ("ipv6", &["::1", "::ffff:1.2.3.4"], &["1.2.3.4", "::g", "fe80::1%eth0"]),
            (
                "cidr",
                &["10.0.0.0/8", "10.1.2.3/8", "010.0.0.0/8", "::/0"],
                &["10.0.0.0", "10.0.0.0/33", "a/8"],
            ),
            (
                "mac",
                &[
                    "00:00:5e:00:53:01",
                    "00-00-5e-00-53-01",
                    "0000.5e00.5301",
                    "02:00:5e:10:00:00:00:01",
                ],
                &["x", "00:00:5e:00:53", "00:00:5e:00:53:0g"],
            ),
            (
                "uuid",
                &[
                    "7ff2f3c0-0000-4000-8000-000000000000",
                    "7FF2F3C0000040008000000000000000",
                ],
                &["x"],
            ),
            (
                "uuid3",
                &["7ff2f3c0-0000-3000-8000-000000000000"],
                &["7ff2f3c0-0000-4000-8000-000000000000"],
            ),
            (
                "uuid4",
                &["7ff2f3c0-0000-4000-8000-000000000000"],
                &["7ff2f3c0-0000-4000-7000-000000000000"],
            ),
            (
                "uuid5",
                &["7ff2f3c0-0000-5000-8000-000000000000"],
                &["7ff2f3c0-0000-4000-8000-000000000000"],
            ),
            ("isbn", &["0321751043", "978-0321751041"], &["0321751042", "a"]),
            ("isbn10", &["0321751043", "080442957X"], &["978-0321751041"]),
            ("isbn13", &["978-0321751041"], &["0321751043", "978-0321751042"]),
            (
                "creditcard",
                &["4111 1111 1111 1111", "4111-1111-1111-1111"],
                &["4111-1111-1111-1112", "1"],
            ),
            ("ssn", &["111-11-1111", "111 11 1111"], &["111111111", "1"]),
            ("hexcolor", &["#FFF", "a1b2c3"], &["x", "#ffff"]),
            ("rgbcolor", &["rgb(1, 2,255)"], &["rgb(256,0,0)", "1"]),
            ("byte", &["YQ==", "abcd"], &["!!", "", "YQ="]),
            ("password", &["anything"], &[]),
            (
                "date",
                &["2024-02-29", "0001-01-01"],
                &["2024-02-30", "2023-02-29", "2024-13-01", "24-1-1", "2024/01/01"],
            ),
            (
                "duration",
                &["1h30m", "3 days", "2 wk", "2 weeks", "1µs", "22 ns"],
                &["1 fortnight", "", "x"],
            ),
            (
                "date-time",
                &[
                    "2014-12-15T19:30:20.000Z",
                    "2014-12-15t19:30:20+01:00",
                    "2014-12-15T19:30:20z",
                ],
                &[
                    "2024-13-01",
                    "2014-12-15T24:30:20Z",
                    "2014-12-15 19:30:20Z",
                    "2014-12-15T19:30:20",
                ],
            ),
            ("datetime", &["2014-12-15T19:30:20.000Z"], &["x"]),
            ("k8s-short-name", &["a-1"], &["A_", "", "-a", "a.b", "a-"]),
            ("k8s-long-name", &["a-1.b"], &["A_", "", "a..b", "a.-b"]),
            ("zz", &["anything", ""], &[]),
        ];
        for (format, yes, no) in cases {
            for text in *yes {
                assert!(holds(format, text), "{format} refuses {text:?}");
            }
            for text in *no {
                assert!(!holds(format, text), "{format} takes {text:?}");
            }
        }
    }
}
