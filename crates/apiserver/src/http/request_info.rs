//! What a request asks for, read from its method, path and query: upstream's `RequestInfo`.

use std::collections::HashMap;

use http::Method;
use percent_encoding::percent_decode_str;

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
}

/// Decoded query parameters; of repeated ones, all.
#[derive(Debug, Clone, Default)]
pub struct Query(HashMap<String, Vec<String>>);

impl Query {
    pub fn parse(query: Option<&str>) -> Query {
        let mut map: HashMap<String, Vec<String>> = HashMap::new();
        for pair in query.unwrap_or_default().split('&').filter(|p| !p.is_empty()) {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            map.entry(decode(key)).or_default().push(decode(value));
        }
        Query(map)
    }

    pub fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key)?.first().map(String::as_str)
    }

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

fn decode(text: &str) -> String {
    percent_decode_str(&text.replace('+', " "))
        .decode_utf8_lossy()
        .into_owned()
}

impl RequestInfo {
    pub fn parse(method: &Method, path: &str, query: &Query) -> RequestInfo {
        let mut info = RequestInfo {
            path: path.to_owned(),
            verb: method_verb(method),
            ..RequestInfo::default()
        };
        let mut parts = path
            .trim_matches('/')
            .split('/')
            .filter(|p| !p.is_empty())
            .map(|p| percent_decode_str(p).decode_utf8_lossy().into_owned());
        match parts.next().as_deref() {
            Some("api") => {}
            Some("apis") => match parts.next() {
                Some(group) => info.group = group,
                None => return info,
            },
            _ => return info,
        }
        let Some(version) = parts.next() else { return info };
        info.version = version;
        let mut rest: Vec<String> = parts.collect();
        if rest.is_empty() {
            return info;
        }
        info.is_resource = true;
        info.verb = match *method {
            Method::POST => "create",
            Method::GET | Method::HEAD => "get",
            Method::PUT => "update",
            Method::PATCH => "patch",
            Method::DELETE => "delete",
            _ => info.verb,
        };
        let mut watching = false;
        if rest[0] == "watch" && rest.len() > 1 {
            rest.remove(0);
            watching = true;
        } else if rest[0] == "proxy" && rest.len() > 1 {
            info.verb = "proxy";
            rest.remove(0);
        }
        if rest[0] == "namespaces" && rest.len() > 1 {
            info.namespace.clone_from(&rest[1]);
            // /namespaces/{name}/{status,finalize} are of the namespace itself
            if rest.len() > 2 && !matches!(rest[2].as_str(), "status" | "finalize") {
                rest.drain(..2);
            }
        }
        let mut rest = rest.into_iter();
        info.resource = rest.next().unwrap_or_default();
        info.name = rest.next().unwrap_or_default();
        info.subresource = rest.next().unwrap_or_default();
        info.rest = rest.collect::<Vec<_>>().join("/");
        if watching {
            info.verb = "watch";
        } else if info.name.is_empty() {
            match info.verb {
                "get" if query.flag("watch") => info.verb = "watch",
                "get" => info.verb = "list",
                "delete" => info.verb = "deletecollection",
                _ => {}
            }
        } else if info.verb == "get" && info.subresource.is_empty() && query.flag("watch") {
            info.verb = "watch";
        }
        // `fieldSelector=metadata.name=x` on a list narrows authorization to that name
        if info.name.is_empty()
            && matches!(info.verb, "list" | "watch" | "deletecollection")
            && let Some(name) = query.get("fieldSelector").and_then(single_name)
        {
            info.name = name;
        }
        info
    }
}

/// The name in a selector that asks for exactly one.
fn single_name(selector: &str) -> Option<String> {
    selector.split(',').find_map(|term| {
        let (key, value) = term.split_once('=')?;
        let value = value.strip_prefix('=').unwrap_or(value);
        (key.trim() == "metadata.name" && !value.is_empty()).then(|| value.trim().to_owned())
    })
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
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_become_verbs_and_resources() {
        let cases = [
            ("GET", "/api/v1/namespaces/a/pods/b/log", "get /v1 a pods/log b"),
            ("GET", "/api/v1/namespaces/a/pods?watch=true", "watch /v1 a pods/ "),
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
            (
                "GET",
                "/api/v1/nodes?fieldSelector=metadata.name%3Dn1",
                "list /v1  nodes/ n1",
            ),
            ("GET", "/apis/apps/v1", "get apps/v1  / "),
            ("GET", "/version", "get /  / "),
        ];
        for (method, uri, want) in cases {
            let (path, query) = uri.split_once('?').map_or((uri, None), |(p, q)| (p, Some(q)));
            let i = RequestInfo::parse(&method.parse().unwrap(), path, &Query::parse(query));
            let got = format!(
                "{} {}/{} {} {}/{} {}",
                i.verb, i.group, i.version, i.namespace, i.resource, i.subresource, i.name
            );
            assert_eq!(got, want, "{method} {uri}");
        }
    }
}
