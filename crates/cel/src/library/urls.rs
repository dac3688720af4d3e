//! URLs: `url("https://host/path")` and its parts, as Go's `net/url` reads them.

use std::any::Any;
use std::sync::Arc;

use api::go::quote;

use super::ip::AddressError;
use crate::cost::{Actual, Estimate, Estimated, Range, STRING};
use crate::environment::Declarations;
use crate::value::{Entries, Fault, Map, Opaque, Value, error, no_overload};

/// A URL by its parts; escapes in user, host and path are undone.
#[derive(Debug, Clone, Default)]
pub(crate) struct Url {
    scheme: String,
    opaque: String,
    user: Option<String>,
    host: String,
    omit_host: bool,
    raw_path: String,
    query: String,
    force_query: bool,
    fragment: String,
}

impl Opaque for Url {
    fn type_name(&self) -> &str {
        "kubernetes.URL"
    }

    fn as_any(&self) -> &dyn Any {
        self
    }

    fn equals(&self, other: &dyn Opaque) -> Option<bool> {
        let other = other.as_any().downcast_ref::<Url>()?;
        Some(self.text() == other.text())
    }

    fn show(&self) -> String {
        self.text()
    }
}

pub(super) fn declare(into: &mut Declarations) {
    into.global("url", "string_to_url", "string -> kubernetes.URL", |args| {
        let text = args[0].as_str().map_or_else(no_overload, Ok)?;
        let wrong = |why: UrlError| error(format!("URL parse error during conversion from string: {why}"));
        if let Some(why) = request_problem(text) {
            return wrong(why);
        }
        parse(text).map_or_else(wrong, |url| Ok(Value::opaque(url)))
    });
    into.global("isURL", "is_url_string", "string -> bool", |args| {
        match args[0].as_str() {
            Some(text) => Ok(Value::Bool(request_problem(text).is_none())),
            None => no_overload(),
        }
    });
    let mut part = |name: &str, id: &str, does: crate::environment::Implementation| {
        into.member(name, id, "kubernetes.URL -> string", does);
    };
    part("getScheme", "url_get_scheme", |a| {
        Ok(Value::text(of(a)?.scheme.as_str()))
    });
    part("getHost", "url_get_host", |a| Ok(Value::text(of(a)?.host.as_str())));
    part("getHostname", "url_get_hostname", |a| {
        Ok(Value::text(of(a)?.host_and_port().0))
    });
    part("getPort", "url_get_port", |a| Ok(Value::text(of(a)?.host_and_port().1)));
    part("getEscapedPath", "url_get_escaped_path", |a| {
        Ok(Value::text(of(a)?.escaped_path()))
    });
    into.member(
        "getQuery",
        "url_get_query",
        "kubernetes.URL -> map(string, list(string))",
        |args| Ok(query(&of(args)?.query)),
    );
}

fn of<'v>(args: &'v [Value<'_>]) -> Result<&'v Url, Fault> {
    args[0].downcast::<Url>().map_or_else(no_overload, Ok)
}

impl Url {
    fn host_and_port(&self) -> (&str, &str) {
        let (mut host, mut port) = (self.host.as_str(), "");
        if let Some(colon) = host.rfind(':')
            && is_port(&host[colon..])
        {
            (host, port) = (&host[..colon], &host[colon + 1..]);
        }
        if let Some(inside) = host.strip_prefix('[').and_then(|h| h.strip_suffix(']')) {
            host = inside;
        }
        (host, port)
    }

    fn escaped_path(&self) -> String {
        escaped(&self.raw_path, |b| b == b'?')
    }

    fn text(&self) -> String {
        let mut out = String::new();
        if !self.scheme.is_empty() {
            out.push_str(&self.scheme);
            out.push(':');
        }
        if self.opaque.is_empty() {
            let named = !self.scheme.is_empty() || !self.host.is_empty() || self.user.is_some();
            let omitted = self.omit_host && self.host.is_empty() && self.user.is_none();
            if named && !omitted {
                if !self.host.is_empty() || !self.raw_path.is_empty() || self.user.is_some() {
                    out.push_str("//");
                }
                if let Some(user) = &self.user {
                    out.push_str(user);
                    out.push('@');
                }
                out.push_str(&self.host);
            }
            out.push_str(&self.escaped_path());
        } else {
            out.push_str(&self.opaque);
        }
        if self.force_query || !self.query.is_empty() {
            out.push('?');
            out.push_str(&self.query);
        }
        if !self.fragment.is_empty() {
            out.push('#');
            out.push_str(&escaped(&self.fragment, |_| false));
        }
        out
    }
}

/// Why a text is no URL, in the words of Go's `net/url`.
#[derive(Debug, thiserror::Error)]
#[error("parse {}: {why}", quote(.text))]
pub(super) struct UrlError {
    text: String,
    why: Misfit,
}

/// What is wrong in a URL.
#[derive(Debug, thiserror::Error)]
enum Misfit {
    #[error("net/url: invalid control character in URL")]
    Control,
    #[error("empty url")]
    Empty,
    #[error("invalid URI for request")]
    NotOfRequest,
    #[error("first path segment in URL cannot contain colon")]
    Colon,
    #[error("missing protocol scheme")]
    NoScheme,
    #[error("net/url: invalid userinfo")]
    User,
    #[error("invalid port {} after host", quote(.0))]
    Port(String),
    #[error("missing ']' in host")]
    Unclosed,
    #[error("invalid IP-literal")]
    Literal,
    #[error("invalid host: {0}")]
    Host(#[from] AddressError),
    #[error("invalid URL escape {}", quote(.0))]
    Escape(String),
    #[error("invalid character {} in host name", quote(&.0.to_string()))]
    Character(char),
}

/// Why a text is no URL of a request.
pub(super) fn request_problem(text: &str) -> Option<UrlError> {
    split(text, true).err().map(|why| UrlError {
        text: text.to_owned(),
        why,
    })
}

fn parse(text: &str) -> Result<Url, UrlError> {
    let (before, fragment) = text.split_once('#').unwrap_or((text, ""));
    let wrong = |why| UrlError {
        text: text.to_owned(),
        why,
    };
    let mut url = split(before, false).map_err(wrong)?;
    url.fragment = unescaped(fragment).map(|_| fragment.to_owned()).map_err(wrong)?;
    Ok(url)
}

fn split(text: &str, request: bool) -> Result<Url, Misfit> {
    if text.bytes().any(|b| b < b' ' || b == 0x7f) {
        return Err(Misfit::Control);
    }
    if text.is_empty() && request {
        return Err(Misfit::Empty);
    }
    if text == "*" {
        return Ok(Url {
            raw_path: "*".into(),
            ..Url::default()
        });
    }
    let (scheme, mut rest) = scheme(text)?;
    let mut url = Url {
        scheme: scheme.to_ascii_lowercase(),
        ..Url::default()
    };
    if rest.ends_with('?') && rest.matches('?').count() == 1 {
        url.force_query = true;
        rest = &rest[..rest.len() - 1];
    } else if let Some((before, query)) = rest.split_once('?') {
        url.query = query.to_owned();
        rest = before;
    }
    if !rest.starts_with('/') {
        if !url.scheme.is_empty() {
            url.opaque = rest.to_owned();
            return Ok(url);
        }
        if request {
            return Err(Misfit::NotOfRequest);
        }
        if rest.split('/').next().is_some_and(|first| first.contains(':')) {
            return Err(Misfit::Colon);
        }
    }
    let relative = !request && !rest.starts_with("///");
    if let Some(after) = rest.strip_prefix("//")
        && (!url.scheme.is_empty() || relative)
    {
        let end = after.find('/').unwrap_or(after.len());
        authority(&mut url, &after[..end])?;
        rest = &after[end..];
    } else if !url.scheme.is_empty() {
        url.omit_host = true;
    }
    unescaped(rest)?;
    url.raw_path = rest.to_owned();
    Ok(url)
}

fn scheme(text: &str) -> Result<(&str, &str), Misfit> {
    for (at, c) in text.char_indices() {
        match c {
            'a'..='z' | 'A'..='Z' => {}
            '0'..='9' | '+' | '-' | '.' if at > 0 => {}
            ':' if at == 0 => return Err(Misfit::NoScheme),
            ':' => return Ok((&text[..at], &text[at + 1..])),
            _ => break,
        }
    }
    Ok(("", text))
}

fn authority(url: &mut Url, text: &str) -> Result<(), Misfit> {
    let (user, host) = match text.rsplit_once('@') {
        Some((user, host)) => (Some(user), host),
        None => (None, text),
    };
    url.host = parse_host(&url.scheme, host)?;
    if let Some(user) = user {
        let fits = |b: u8| b.is_ascii_alphanumeric() || b"-._:~!$&'()*+,;=%@".contains(&b);
        if !user.bytes().all(fits) {
            return Err(Misfit::User);
        }
        unescaped(user)?;
        url.user = Some(user.to_owned());
    }
    Ok(())
}

fn is_port(text: &str) -> bool {
    text.is_empty()
        || text
            .strip_prefix(':')
            .is_some_and(|n| n.bytes().all(|b| b.is_ascii_digit()))
}

fn parse_host(scheme: &str, host: &str) -> Result<String, Misfit> {
    let bad_port = |port: &str| Err(Misfit::Port(port.to_owned()));
    match host.rfind('[') {
        Some(0) => {
            let Some(close) = host.rfind(']') else {
                return Err(Misfit::Unclosed);
            };
            let port = &host[close + 1..];
            if !is_port(port) {
                return bad_port(port);
            }
            let inside = &host[1..close];
            let name = match inside.find("%25") {
                Some(zone) => format!("{}{}", host_name(&inside[..zone])?, unescaped(&inside[zone..])?),
                None => host_name(inside)?,
            };
            return match super::ip::parse_any(&name) {
                Ok((std::net::IpAddr::V6(_), _)) => Ok(format!("[{name}]{port}")),
                Ok(_) => Err(Misfit::Literal),
                Err(why) => Err(why.into()),
            };
        }
        Some(_) => return Err(Misfit::Literal),
        None => {}
    }
    let strict = matches!(scheme, "http" | "https");
    let colon = if strict { host.find(':') } else { host.rfind(':') };
    if let Some(colon) = colon
        && !is_port(&host[colon..])
    {
        return bad_port(&host[colon..]);
    }
    host_name(host)
}

/// A host's name with its escapes undone; only what is not ASCII may be escaped.
fn host_name(host: &str) -> Result<String, Misfit> {
    let bytes = host.as_bytes();
    for (at, byte) in bytes.iter().enumerate() {
        if *byte == b'%' {
            let triple = host.get(at..(at + 3).min(host.len())).unwrap_or("%");
            let high = bytes.get(at + 1).is_some_and(|b| b"89abcdefABCDEF".contains(b));
            if !is_escape(bytes, at) || !(high || triple == "%25") {
                return Err(Misfit::Escape(triple.to_owned()));
            }
            continue;
        }
        let fits = !byte.is_ascii() || byte.is_ascii_alphanumeric() || b"-_.~!$&'()*+,;=:[]<>\"".contains(byte);
        if !fits {
            return Err(Misfit::Character(char::from(*byte)));
        }
    }
    unescaped(host)
}

fn is_escape(bytes: &[u8], at: usize) -> bool {
    bytes
        .get(at + 1..at + 3)
        .is_some_and(|hex| hex.iter().all(u8::is_ascii_hexdigit))
}

fn unescaped(text: &str) -> Result<String, Misfit> {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        if bytes[at] != b'%' {
            out.push(bytes[at]);
            at += 1;
            continue;
        }
        if !is_escape(bytes, at) {
            let end = text.ceil_char_boundary((at + 3).min(text.len()));
            return Err(Misfit::Escape(text[at..end].to_owned()));
        }
        let hex = |b: u8| char::from(b).to_digit(16).unwrap_or_default() as u8;
        out.push(hex(bytes[at + 1]) << 4 | hex(bytes[at + 2]));
        at += 3;
    }
    Ok(String::from_utf8_lossy(&out).into_owned())
}

/// A path as it is when it is well escaped, and escaped anew otherwise.
fn escaped(text: &str, also: fn(u8) -> bool) -> String {
    let plain =
        |b: u8| b.is_ascii_alphanumeric() || (b"-_.~$&+,/:;=@".contains(&b) && !also(b)) || (b == b'?' && !also(b));
    if text.bytes().all(|b| plain(b) || b"!'()*[]%".contains(&b)) {
        return text.to_owned();
    }
    let bytes = text.as_bytes();
    let mut out = String::with_capacity(text.len());
    let mut at = 0;
    while at < bytes.len() {
        let byte = bytes[at];
        if byte == b'%' && is_escape(bytes, at) {
            out.push_str(&text[at..at + 3].to_ascii_uppercase());
            at += 3;
            continue;
        }
        if plain(byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
        at += 1;
    }
    out
}

fn query<'a>(text: &str) -> Value<'a> {
    let mut all: Vec<(String, Vec<String>)> = Vec::new();
    for pair in text.split('&') {
        if pair.is_empty() || pair.contains(';') {
            continue;
        }
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        let plus = |text: &str| unescaped(&text.replace('+', " "));
        let (Ok(key), Ok(value)) = (plus(key), plus(value)) else {
            continue;
        };
        match all.iter_mut().find(|(k, _)| *k == key) {
            Some((_, values)) => values.push(value),
            None => all.push((key, vec![value])),
        }
    }
    let entries: Entries<'a> = all
        .into_iter()
        .map(|(k, v)| (Value::text(k), Value::texts(v)))
        .collect();
    Value::Map(Map::Values(Arc::new(entries)))
}

const PARTS: [&str; 6] = [
    "getScheme",
    "getHostname",
    "getHost",
    "getPort",
    "getEscapedPath",
    "getQuery",
];

pub(super) fn actual(call: &Actual<'_, '_>) -> Option<u64> {
    if PARTS.contains(&call.function) {
        return Some(1);
    }
    (call.function == "url" && !call.args.is_empty()).then(|| (call.own_size(0) as f64 * STRING).ceil() as u64)
}

pub(super) fn estimate(call: &Estimated<'_, '_>) -> Option<Estimate> {
    if PARTS.contains(&call.function) {
        return Some(Estimate::cost(Range::fixed(1)));
    }
    let [text] = &call.args[..] else { return None };
    let size = call.size(text);
    (call.function == "url").then(|| Estimate::sized(size.factor(STRING), size))
}
