//! What a request asks for, read from its method, path and query: upstream's `RequestInfo`.

use std::collections::HashMap;

use api::selectors::{FieldSelector, LabelSelector};
use http::Method;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};

use crate::http::status::{ApiError, Result};

/// What Go leaves in a query as it is.
const QUERY: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');

/// The request's verb and object.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RequestInfo {
    /// `get`, `list`, `watch`, `create`, `update`, `patch`, `delete`, `deletecollection`, or the lower-case method.
    pub verb: &'static str,
    /// Whether the path names a resource under `/api` or `/apis`.
    pub is_resource: bool,
    pub path: String,
    pub group: String,
    pub version: String,
    pub namespace: String,
    pub resource: String,
    pub subresource: String,
    pub name: String,
    /// What follows the subresource (`proxy/...`).
    pub rest: String,
    /// The field selector of a list, watch or deletion of a collection, for authorizers that look at it.
    pub field_selector: String,
}

/// Decoded query parameters; of repeated ones, all.
#[derive(Debug, Clone, Default)]
pub struct Query(HashMap<String, Vec<String>>);

impl Query {
    /// Reads a query as Go does: a pair that is broken, or has a semicolon in it, is not there.
    pub fn parse(query: Option<&str>) -> Query {
        let mut map: HashMap<String, Vec<String>> = HashMap::new();
        for pair in query.unwrap_or_default().split('&').filter(|p| !p.is_empty()) {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            let read = (decode(key), decode(value));
            if let (Some(key), Some(value)) = read
                && !pair.contains(';')
            {
                map.entry(key).or_default().push(value);
            }
        }
        Query(map)
    }

    /// The one name that a list's field selector asks for, when all its options can be read.
    fn single_name(&self) -> Option<String> {
        let number = |key: &str| self.get(key).is_none_or(|text| text.parse::<i64>().is_ok());
        let labels = self.get("labelSelector").unwrap_or_default();
        if !number("timeoutSeconds") || !number("limit") || LabelSelector::parse(labels).is_err() {
            return None;
        }
        let selector = FieldSelector::parse(self.get("fieldSelector")?).ok()?;
        let name = selector.exact("metadata.name")?;
        let is_segment = !matches!(name, "." | "..") && !name.contains(['/', '%']);
        is_segment.then(|| name.to_owned())
    }

    /// The first value of a parameter.
    pub fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key)?.first().map(String::as_str)
    }

    /// A whole number.
    ///
    /// # Errors
    /// `400` for anything else, nothing included.
    pub fn number(&self, key: &str) -> Result<Option<i64>> {
        use std::num::IntErrorKind::{NegOverflow, PosOverflow};
        let Some(text) = self.get(key) else {
            return Ok(None);
        };
        let number = text.parse::<i64>().map_err(|error| {
            let why = match error.kind() {
                PosOverflow | NegOverflow => "value out of range",
                _ => "invalid syntax",
            };
            ApiError::bad_request(format!("strconv.ParseInt: parsing {}: {why}", api::go::quote(text)))
        })?;
        Ok(Some(number))
    }

    /// The parameters as Go writes them, in the order of their names.
    pub fn encode(&self) -> String {
        let mut keys: Vec<&String> = self.0.keys().collect();
        keys.sort_unstable();
        let pairs = keys
            .into_iter()
            .flat_map(|key| self.all(key).iter().map(move |value| (key, value)));
        let escaped = |text: &str| utf8_percent_encode(text, QUERY).to_string().replace("%20", "+");
        let pairs: Vec<String> = pairs
            .map(|(key, value)| format!("{}={}", escaped(key), escaped(value)))
            .collect();
        pairs.join("&")
    }

    /// All values of a parameter, in the order of the URL.
    pub fn all(&self, key: &str) -> &[String] {
        self.0.get(key).map_or(&[], Vec::as_slice)
    }

    /// The parameter, unless it is absent or empty.
    pub fn text(&self, key: &str) -> Option<&str> {
        self.get(key).filter(|v| !v.is_empty())
    }

    /// Go's reading of a boolean parameter: present and neither `0` nor `false` is true.
    pub fn flag(&self, key: &str) -> bool {
        self.get(key)
            .is_some_and(|v| !matches!(v.to_ascii_lowercase().as_str(), "0" | "false"))
    }
}

/// A part of a query; `None` when its percent-encoding is broken.
fn decode(text: &str) -> Option<String> {
    let bytes = text.as_bytes();
    let whole = |at: usize| {
        bytes
            .get(at + 1..at + 3)
            .is_some_and(|two| two.iter().all(u8::is_ascii_hexdigit))
    };
    if (0..bytes.len()).any(|at| bytes[at] == b'%' && !whole(at)) {
        return None;
    }
    let decoded = percent_decode_str(&text.replace('+', " "))
        .decode_utf8_lossy()
        .into_owned();
    Some(decoded)
}

impl RequestInfo {
    /// Reads a request. `path` is as it stands in the request line.
    ///
    /// # Errors
    /// `400` when the path has a broken percent-encoding, `500` as upstream when `watch` or `proxy` is all that follows the version.
    pub fn parse(method: &Method, path: &str, query: &Query) -> Result<RequestInfo> {
        // decoded first and split then: an encoded slash is a slash to everybody, whoever asks or answers
        let path = decode_path(path)?;
        let mut info = RequestInfo {
            verb: method_verb(method),
            ..RequestInfo::default()
        };
        // two slashes have an empty part between them, which is no part less
        let parts: Vec<&str> = path.trim_matches('/').split('/').collect();
        match parts.as_slice() {
            ["api", version, rest @ ..] => {
                info.version = (*version).to_owned();
                info.read_resource(method, &path, rest, query)?;
            }
            ["apis", group, version, rest @ ..] => {
                info.group = (*group).to_owned();
                info.version = (*version).to_owned();
                info.read_resource(method, &path, rest, query)?;
            }
            ["apis", group] => info.group = (*group).to_owned(),
            _ => {}
        }
        info.path = path;
        Ok(info)
    }

    /// Reads what follows the version; nothing makes it a request for discovery.
    fn read_resource(&mut self, method: &Method, path: &str, mut rest: &[&str], query: &Query) -> Result<()> {
        let Some(first) = rest.first() else { return Ok(()) };
        self.is_resource = true;
        self.verb = match *method {
            Method::POST => "create",
            Method::GET | Method::HEAD => "get",
            Method::PUT => "update",
            Method::PATCH => "patch",
            Method::DELETE => "delete",
            _ => "",
        };
        let by_path = match *first {
            "watch" => Some("watch"),
            "proxy" => Some("proxy"),
            _ => None,
        };
        if let Some(verb) = by_path {
            rest = &rest[1..];
            if rest.is_empty() {
                let why =
                    format!("failed to create RequestInfo: unable to determine kind and namespace from url, {path}");
                return Err(ApiError::plain(format!("Internal Server Error: {path:?}: {why}")));
            }
            self.verb = verb;
        }
        if rest[0] == "namespaces" && rest.len() > 1 {
            rest[1].clone_into(&mut self.namespace);
            // /namespaces/{name}/{status,finalize} are of the namespace itself
            if rest.len() > 2 && !matches!(rest[2], "status" | "finalize") {
                rest = &rest[2..];
            }
        }
        let part = |at: usize| rest.get(at).map(|p| (*p).to_owned()).unwrap_or_default();
        self.resource = part(0);
        self.name = part(1);
        if self.verb == "proxy" {
            self.rest = rest.get(2..).unwrap_or_default().join("/");
        } else {
            self.subresource = part(2);
            self.rest = rest.get(3..).unwrap_or_default().join("/");
        }
        if self.name.is_empty() && self.verb == "get" {
            self.verb = if query.flag("watch") { "watch" } else { "list" };
            // a list of one name is a question about that name
            if let Some(name) = query.single_name() {
                self.name = name;
            }
        }
        if self.name.is_empty() && self.verb == "delete" {
            self.verb = "deletecollection";
        }
        // watches by path have selectors in some of their forms and not in others: none counts
        if by_path.is_none() && matches!(self.verb, "list" | "watch" | "deletecollection") {
            self.field_selector = query.get("fieldSelector").unwrap_or_default().to_owned();
        }
        Ok(())
    }
}

/// The path as a handler sees it.
fn decode_path(path: &str) -> Result<String> {
    let bytes = path.as_bytes();
    let broken = bytes.iter().enumerate().any(|(at, byte)| {
        let hex = |i: usize| bytes.get(i).is_some_and(u8::is_ascii_hexdigit);
        *byte == b'%' && !(hex(at + 1) && hex(at + 2))
    });
    if broken {
        return Err(ApiError::bad_request(format!("invalid URL escape in {path:?}")));
    }
    Ok(percent_decode_str(path).decode_utf8_lossy().into_owned())
}

fn method_verb(method: &Method) -> &'static str {
    match *method {
        Method::GET => "get",
        Method::HEAD => "head",
        Method::POST => "post",
        Method::PUT => "put",
        Method::PATCH => "patch",
        Method::DELETE => "delete",
        Method::OPTIONS => "options",
        Method::TRACE => "trace",
        Method::CONNECT => "connect",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(method: &str, uri: &str) -> Result<String> {
        let (path, query) = uri.split_once('?').map_or((uri, None), |(p, q)| (p, Some(q)));
        let i = RequestInfo::parse(&method.parse().unwrap(), path, &Query::parse(query))?;
        let kind = if i.is_resource { "" } else { "path " };
        Ok(format!(
            "{kind}{} {}/{} {} {}/{} {}",
            i.verb, i.group, i.version, i.namespace, i.resource, i.subresource, i.name
        ))
    }

    #[test]
    fn paths_become_verbs_and_resources() {
        for (method, uri, want) in [
            ("GET", "/api/v1/namespaces/a/pods/b/log", "get /v1 a pods/log b"),
            ("GET", "/api/v1/namespaces/a/pods?watch=true", "watch /v1 a pods/ "),
            ("GET", "/api/v1/namespaces/a/pods?watch", "watch /v1 a pods/ "),
            ("GET", "/api/v1/namespaces/a/pods?watch=0", "list /v1 a pods/ "),
            ("GET", "/api/v1/watch/namespaces/a/pods/b", "watch /v1 a pods/ b"),
            ("GET", "/api/v1/namespaces/a", "get /v1 a namespaces/ a"),
            (
                "PUT",
                "/api/v1/namespaces/a/finalize",
                "update /v1 a namespaces/finalize a",
            ),
            (
                "DELETE",
                "/apis/apps/v1/namespaces/a/deployments",
                "deletecollection apps/v1 a deployments/ ",
            ),
            ("POST", "/api/v1/namespaces", "create /v1  namespaces/ "),
            ("OPTIONS", "/api/v1/pods", " /v1  pods/ "),
            ("GET", "/apis/apps/v1", "path get apps/v1  / "),
            ("HEAD", "/api/v1", "path head /v1  / "),
            ("GET", "/version", "path get /  / "),
        ] {
            assert_eq!(read(method, uri).unwrap(), want, "{method} {uri}");
        }
    }

    #[test]
    fn a_query_goes_on_as_it_was_understood() {
        let query = Query::parse(Some("b=2&a=x%20y&a=%2F+&c;d=1&%zz=1&e"));
        assert_eq!(query.encode(), "a=x+y&a=%2F+&b=2&e=");
    }

    #[test]
    fn an_encoded_slash_is_a_slash_and_two_slashes_have_nothing_between_them() {
        for (uri, want) in [
            ("/api/v1/namespaces/a%2Fsecrets/b", "get /v1 a secrets/ b"),
            ("/api%2fv1/pods", "list /v1  pods/ "),
            ("/api/v1//pods", "get /v1  / pods"),
            ("/api/v1/namespaces//pods", "list /v1  pods/ "),
            ("/api//v1/pods", "get /  v1/ pods"),
            ("//api/v1/pods//", "list /v1  pods/ "),
        ] {
            assert_eq!(read("GET", uri).unwrap(), want, "{uri}");
        }
        assert_eq!(read("GET", "/api/v1/pods/%zz").unwrap_err().code, 400);
        assert_eq!(read("GET", "/api/v1/watch").unwrap_err().code, 500);
    }

    /// As `requestinfo.go` reads selectors: what does not parse names nobody, and only a plain list or watch has a name.
    #[test]
    fn a_selector_names_an_object_only_where_it_narrows_what_is_read() {
        let list = "/api/v1/nodes?fieldSelector=";
        for (selector, name) in [
            ("metadata.name%3Dn1", "n1"),
            ("metadata.name%3D%3Dn1", "n1"),
            ("spec.unschedulable%3Dtrue,metadata.name%3Dn1", "n1"),
            ("metadata.name%3D%20n1", " n1"),
            ("%20metadata.name%3Dn1", ""),
            ("metadata.name!%3Dn1", ""),
            ("metadata.name%3Dn1%2Cx", ""),
            ("metadata.name%3Dn1%3D", ""),
            ("metadata.name%3Da/b", ""),
            ("metadata.name%3D..", ""),
            ("metadata.name%3Dn1&limit=x", ""),
            ("metadata.name%3Dn1&limit=5", "n1"),
            ("metadata.name%3Dn1&labelSelector=a b", ""),
            ("&fieldSelector=metadata.name%3Dn1", ""),
        ] {
            let want = format!("list /v1  nodes/ {name}");
            assert_eq!(read("GET", &format!("{list}{selector}")).unwrap(), want, "{selector}");
        }
        let query = "?fieldSelector=metadata.name%3Dn1";
        let deleted = read("DELETE", &format!("/api/v1/nodes{query}"));
        assert_eq!(deleted.unwrap(), "deletecollection /v1  nodes/ ");
        let watched = read("GET", &format!("/api/v1/watch/nodes{query}"));
        assert_eq!(watched.unwrap(), "watch /v1  nodes/ ");
    }
}
