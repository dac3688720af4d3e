//! The line of a request and its headers: the method, the path with its query, what is accepted, each on a line of its own.

use apiserver::http::negotiate::{Accept, body_encoding};
use apiserver::http::request_info::{Query, RequestInfo};
use apiserver::subresource::stream_options;
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use streaming::Kind;

use super::text;
use crate::{Form, Target};

pub const TARGET: Target = Target::new("request", Form::Bytes, check);

fn check(input: &[u8]) {
    let Some(text) = text(input) else { return };
    let mut lines = text.lines();
    let method = lines
        .next()
        .and_then(|line| Method::from_bytes(line.as_bytes()).ok())
        .unwrap_or(Method::GET);
    let target = lines.next().unwrap_or_default();
    let (path, query) = target
        .split_once('?')
        .map_or((target, None), |(path, query)| (path, Some(query)));
    let query = Query::parse(query);
    let again = Query::parse(Some(&query.encode()));
    assert_eq!(query.encode(), again.encode(), "a query goes on as it was understood");
    let _ = RequestInfo::parse(&method, path, &query);
    let _ = (query.number("limit"), query.flag("watch"));
    let _ = (
        stream_options::remote_command(&query, true),
        stream_options::port_forward(&query),
        stream_options::log(&query, "pod"),
    );
    for part in ["exec", "attach", "portforward", "log", "proxy"] {
        if let Ok(tree) = stream_options::tree(&query, part) {
            stream_options::query(&tree);
        }
    }
    let accept = lines.next();
    let _ = (
        Accept::parse(accept),
        Accept::of_collection(accept),
        Accept::without_tables(accept),
        body_encoding(accept),
    );
    let mut headers = HeaderMap::new();
    for line in lines {
        if let Some((name, value)) = line.split_once(':')
            && let (Ok(name), Ok(value)) = (HeaderName::try_from(name), HeaderValue::try_from(value.trim()))
        {
            headers.append(name, value);
        }
    }
    for kind in [Kind::RemoteCommand, Kind::PortForward, Kind::Bytes, Kind::Messages] {
        match streaming::negotiate(kind, &headers) {
            Ok(accepted) => drop(accepted.response(String::new())),
            Err(refused) => drop(refused.response::<String>()),
        }
    }
    runtime::fuzzing::challenge(text);
}
