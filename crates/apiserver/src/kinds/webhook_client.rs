//! The way to a webhook in a configuration: a URL or a Service (`k8s.io/apiserver/pkg/util/webhook/validation.go`).

use api::names;

use crate::kinds::Cursor;
use crate::kinds::rules::Errors;

const FORM: &str = "; desired format: https://host[/path]";

/// Exactly one of the two, and that a right one.
pub fn client_config(errors: &mut Errors, at: &Cursor) {
    let (address, service) = (at.get("url"), at.get("service"));
    match (address.is_some(), service.is_some()) {
        (true, false) => url(errors, &address),
        (false, true) => of_service(errors, &service),
        _ => errors.push(at.required("exactly one of url or service is required")),
    }
}

/// The parts of a URL, as Go's parser tells them apart.
#[derive(Debug, Default, PartialEq, Eq)]
struct Url<'a> {
    scheme: &'a str,
    user: Option<&'a str>,
    host: &'a str,
    query: &'a str,
    fragment: &'a str,
}

/// A text is no URL, in Go's words.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("parse {}: {why}", api::go::quote(.text))]
struct UrlError {
    text: String,
    why: String,
}

/// The parts, or what is wrong with the text.
fn parse(text: &str) -> Result<Url<'_>, UrlError> {
    let refuse = |why: &str| {
        Err(UrlError {
            text: text.to_owned(),
            why: why.to_owned(),
        })
    };
    if text.bytes().any(|b| b < 0x20 || b == 0x7f) {
        return refuse("net/url: invalid control character in URL");
    }
    let (rest, fragment) = text.split_once('#').unwrap_or((text, ""));
    let first = rest.find(|c: char| !c.is_ascii_alphanumeric() && !"+-.".contains(c));
    let (scheme, rest) = match first {
        Some(0) if rest.starts_with(':') => return refuse("missing protocol scheme"),
        Some(end) if rest[end..].starts_with(':') && rest.starts_with(|c: char| c.is_ascii_alphabetic()) => {
            (&rest[..end], &rest[end + 1..])
        }
        _ => ("", rest),
    };
    let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
    if scheme.is_empty() && !rest.starts_with('/') && rest.split('/').next().is_some_and(|first| first.contains(':')) {
        return refuse("first path segment in URL cannot contain colon");
    }
    let mut url = Url {
        scheme,
        query,
        fragment,
        ..Url::default()
    };
    if let Some(rest) = rest.strip_prefix("//") {
        let authority = rest.split('/').next().unwrap_or_default();
        (url.user, url.host) = match authority.rsplit_once('@') {
            Some((user, host)) => (Some(user), host),
            None => (None, authority),
        };
        if let Some(bad) = url.host.chars().find(|c| " \"<>\\^`{|}".contains(*c)) {
            return refuse(&format!(
                "invalid character {} in host name",
                api::go::quote(&bad.to_string())
            ));
        }
        let port = match url.host.rsplit_once(']') {
            Some((_, port)) => port,
            None => url.host.find(':').map_or("", |at| &url.host[at..]),
        };
        let digits = port.strip_prefix(':');
        if !port.is_empty() && !digits.is_some_and(|d| d.bytes().all(|b| b.is_ascii_digit())) {
            return refuse(&format!("invalid port {} after host", api::go::quote(port)));
        }
    }
    Ok(url)
}

fn url(errors: &mut Errors, at: &Cursor) {
    let url = match parse(at.text()) {
        Ok(url) => url,
        Err(why) => {
            errors.push(at.required(&format!("url must be a valid URL: {why}{FORM}")));
            return;
        }
    };
    if !url.scheme.eq_ignore_ascii_case("https") {
        let why = format!("'https' is the only allowed URL scheme{FORM}");
        errors.push(at.wrong(url.scheme.to_ascii_lowercase(), why));
    }
    if url.host.is_empty() {
        errors.push(at.wrong("", format!("host must be specified{FORM}")));
    }
    if let Some(user) = url.user {
        errors.push(at.wrong(user, "user information is not permitted in the URL"));
    }
    if !url.fragment.is_empty() {
        errors.push(at.wrong(url.fragment, "fragments are not permitted in the URL"));
    }
    if !url.query.is_empty() {
        errors.push(at.wrong(url.query, "query parameters are not permitted in the URL"));
    }
}

fn of_service(errors: &mut Errors, at: &Cursor) {
    // upstream takes the one for the other
    if at.get("namespace").text().is_empty() {
        errors.push(at.get("name").required(""));
    }
    if at.get("name").text().is_empty() {
        errors.push(at.get("namespace").required(""));
    }
    let port = at.get("port").int().unwrap_or(0);
    if !(1..=65535).contains(&port) {
        let why = "port is not valid: must be between 1 and 65535, inclusive";
        errors.push(at.get("port").wrong(port, why));
    }
    let path = at.get("path");
    let text = path.text();
    match text {
        "" | "/" => return,
        "//" => {
            errors.push(path.invalid("segment[0] may not be empty"));
            return;
        }
        _ => {}
    }
    if !text.starts_with('/') {
        errors.push(path.invalid("must start with a '/'"));
    }
    // upstream cuts the first byte whatever it is
    let mut first = text.char_indices().skip(1);
    let rest = first.next().map_or("", |(at, _)| &text[at..]);
    let rest = rest.strip_suffix('/').unwrap_or(rest);
    for (i, step) in rest.split('/').enumerate() {
        if step.is_empty() {
            errors.push(path.invalid(format!("segment[{i}] may not be empty")));
            continue;
        }
        let found = names::dns1123_subdomain_errors(step);
        errors.extend(
            found
                .into_iter()
                .map(|why| path.invalid(format!("segment[{i}]: {why}"))),
        );
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn told(config: &Value) -> Vec<String> {
        let mut errors = Errors::new();
        client_config(&mut errors, &Cursor::of(Some(config), "c"));
        errors.into_iter().map(|e| e.to_string()).collect()
    }

    #[test]
    fn a_url_is_https_with_a_host_and_a_path() {
        for (url, want) in [
            ("https://a.b/c", vec![]),
            ("https://[::1]:8443", vec![]),
            (
                "http://a",
                vec![
                    "c.url: Invalid value: \"http\": 'https' is the only allowed URL scheme; desired format: https://host[/path]",
                ],
            ),
            (
                "https://u:p@a/b?c=d#e",
                vec![
                    "c.url: Invalid value: \"u:p\": user information is not permitted in the URL",
                    "c.url: Invalid value: \"e\": fragments are not permitted in the URL",
                    "c.url: Invalid value: \"c=d\": query parameters are not permitted in the URL",
                ],
            ),
            (
                "https://a:b",
                vec![
                    "c.url: Required value: url must be a valid URL: parse \"https://a:b\": invalid port \":b\" after host; desired format: https://host[/path]",
                ],
            ),
        ] {
            assert_eq!(told(&json!({ "url": url })), want, "{url}");
        }
        assert_eq!(
            told(&json!({})),
            ["c: Required value: exactly one of url or service is required"]
        );
    }

    #[test]
    fn a_service_has_a_name_a_port_and_a_path_of_plain_steps() {
        let of = |more: Value| {
            let mut service = json!({ "name": "n", "namespace": "ns", "port": 443 });
            for (key, value) in more.as_object().unwrap() {
                service[key] = value.clone();
            }
            told(&json!({ "service": service }))
        };
        assert!(of(json!({ "path": "/a/b/" })).is_empty());
        assert_eq!(of(json!({ "namespace": "" })), ["c.service.name: Required value"]);
        assert_eq!(
            of(json!({ "port": 0 })),
            ["c.service.port: Invalid value: 0: port is not valid: must be between 1 and 65535, inclusive"]
        );
        assert_eq!(
            of(json!({ "path": "/a//b" })),
            ["c.service.path: Invalid value: \"/a//b\": segment[1] may not be empty"]
        );
        assert_eq!(
            of(json!({ "path": "a" }))[0],
            "c.service.path: Invalid value: \"a\": must start with a '/'"
        );
    }
}
