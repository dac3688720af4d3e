//! The options of `log`, `exec`, `attach` and `portforward`, read from a query as upstream reads them and written as kubelets
//! read them.

use api::field::FieldError;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Value, json};

use crate::http::request_info::Query;
use crate::http::status::{ApiError, Result};

/// A query of pairs, in order.
fn encoded(pairs: &[(&str, String)]) -> String {
    let escape = |text: &str| utf8_percent_encode(text, NON_ALPHANUMERIC).to_string();
    let pairs: Vec<String> = pairs
        .iter()
        .map(|(key, value)| format!("{key}={}", escape(value)))
        .collect();
    pairs.join("&")
}

/// What `exec` and `attach` ask of the kubelet. A flag that is there is set, unless it is `0` or `false`.
pub fn remote_command(query: &Query, with_command: bool) -> String {
    let flags = [
        ("stdin", "input"),
        ("stdout", "output"),
        ("stderr", "error"),
        ("tty", "tty"),
    ];
    let set = flags.iter().filter(|(name, _)| query.flag(name));
    let mut pairs: Vec<(&str, String)> = set.map(|(_, name)| (*name, "1".to_owned())).collect();
    if with_command {
        pairs.extend(query.all("command").iter().map(|word| ("command", word.clone())));
    }
    encoded(&pairs)
}

/// The ports of `portforward`, for clients that do not name them by stream.
///
/// # Errors
/// `400` for what is not a port.
pub fn port_forward(query: &Query) -> Result<String> {
    let ports = query.all("ports").iter().flat_map(|list| list.split(','));
    let ports: Vec<&str> = ports.collect();
    for port in &ports {
        if port.parse::<u16>().is_err() || !port.bytes().all(|b| b.is_ascii_digit()) {
            let why = parse_error(
                "ParseUint",
                port,
                port.bytes().all(|b| b.is_ascii_digit()) && !port.is_empty(),
            );
            return Err(ApiError::bad_request(format!("cannot convert to []int32: {why}")));
        }
    }
    if ports.is_empty() {
        return Ok(String::new());
    }
    Ok(encoded(&[("port", ports.join(","))]))
}

const FLAGS: [&str; 4] = ["stdin", "stdout", "stderr", "tty"];

/// The options of a connection as an object: `PodExecOptions`, `PodAttachOptions` or `PodPortForwardOptions`.
///
/// # Errors
/// `400` for what is not a port.
pub fn tree(query: &Query, subresource: &str) -> Result<Value> {
    let kind = match subresource {
        "exec" => "PodExecOptions",
        "attach" => "PodAttachOptions",
        _ => "PodPortForwardOptions",
    };
    let mut tree = json!({ "apiVersion": "v1", "kind": kind });
    if subresource == "portforward" {
        port_forward(query)?;
        let ports = query.all("ports").iter().flat_map(|list| list.split(','));
        let ports: Vec<u16> = ports.filter_map(|port| port.parse().ok()).collect();
        if !ports.is_empty() {
            tree["ports"] = json!(ports);
        }
        return Ok(tree);
    }
    for flag in FLAGS.into_iter().filter(|flag| query.flag(flag)) {
        tree[flag] = json!(true);
    }
    if let Some(container) = query.text("container") {
        tree["container"] = json!(container);
    }
    if subresource == "exec" {
        tree["command"] = json!(query.all("command"));
    }
    Ok(tree)
}

/// The query of options that were changed.
pub fn query(tree: &Value) -> Query {
    let texts = |key: &str| tree.get(key).and_then(Value::as_array).into_iter().flatten();
    let mut pairs: Vec<(&str, String)> = Vec::new();
    for flag in FLAGS.into_iter().filter(|flag| tree.get(flag) == Some(&json!(true))) {
        pairs.push((flag, "true".into()));
    }
    if let Some(container) = tree.get("container").and_then(Value::as_str) {
        pairs.push(("container", container.into()));
    }
    pairs.extend(
        texts("command")
            .filter_map(Value::as_str)
            .map(|word| ("command", word.to_owned())),
    );
    pairs.extend(texts("ports").map(|port| ("ports", port.to_string())));
    Query::parse(Some(&encoded(&pairs)))
}

/// Go's words on a number that is none, or too large.
fn parse_error(function: &str, text: &str, range: bool) -> String {
    let why = if range { "value out of range" } else { "invalid syntax" };
    format!("strconv.{function}: parsing {text:?}: {why}")
}

fn number(query: &Query, key: &str) -> Result<Option<i64>> {
    let Some(text) = query.get(key) else { return Ok(None) };
    text.parse().map(Some).map_err(|e: std::num::ParseIntError| {
        use std::num::IntErrorKind::{NegOverflow, PosOverflow};
        let range = matches!(e.kind(), PosOverflow | NegOverflow);
        ApiError::bad_request(parse_error("ParseInt", text, range))
    })
}

/// What `log` asks of the kubelet.
///
/// # Errors
/// `400` for what is not a number or a time, `422` for what is out of bounds or does not go together.
pub fn log(query: &Query, pod: &str) -> Result<String> {
    let tail = number(query, "tailLines")?;
    let limit = number(query, "limitBytes")?;
    let since = number(query, "sinceSeconds")?;
    let time = match query.get("sinceTime") {
        None => None,
        Some(text) => {
            let at: jiff::Timestamp = text.parse().map_err(|_| {
                let form = "2006-01-02T15:04:05Z07:00";
                ApiError::bad_request(format!(
                    "parsing time {text:?} as {form:?}: cannot parse {text:?} as \"2006\""
                ))
            })?;
            Some(crate::registry::format_time(at))
        }
    };
    let mut errors = Vec::new();
    let mut at_least = |value: Option<i64>, least: i64, key: &str, why: &str| {
        if let Some(value) = value.filter(|value| *value < least) {
            errors.push(FieldError::invalid(key, json!(value), why));
        }
    };
    at_least(tail, 0, "tailLines", "must be greater than or equal to 0");
    at_least(limit, 1, "limitBytes", "must be greater than 0");
    if since.is_some() && time.is_some() {
        let why = "at most one of `sinceTime` or `sinceSeconds` may be specified";
        // upstream's path of no name
        errors.push(FieldError::forbidden("[]", why));
    } else {
        at_least(since, 1, "sinceSeconds", "must be greater than 0");
    }
    // to choose one of the two streams is behind a gate that is off
    if query.get("stream").is_some() {
        errors.push(FieldError::forbidden("stream", "may not be specified"));
    }
    if !errors.is_empty() {
        return Err(ApiError::invalid("", "PodLogOptions", pod, &errors));
    }
    let flags = ["follow", "previous", "timestamps"];
    let set = flags.into_iter().filter(|name| query.flag(name));
    let mut pairs: Vec<(&str, String)> = set.map(|name| (name, "true".to_owned())).collect();
    let numbers = [("sinceSeconds", since), ("tailLines", tail), ("limitBytes", limit)];
    pairs.extend(
        numbers
            .iter()
            .filter_map(|(key, value)| Some((*key, value.as_ref()?.to_string()))),
    );
    pairs.extend(time.map(|time| ("sinceTime", time)));
    Ok(encoded(&pairs))
}

/// The container that is meant: the one asked for, or the only one.
///
/// # Errors
/// `400` when it is not one of the pod's, or when there is a choice.
pub fn container(pod: &Value, asked: Option<&str>, name: &str) -> Result<String> {
    let names = |field: &str| -> Vec<String> {
        let list = pod.pointer(&format!("/spec/{field}")).and_then(Value::as_array);
        let names = list.into_iter().flatten().filter_map(|c| c["name"].as_str());
        names.map(str::to_owned).collect()
    };
    let main = names("containers");
    let all = [names("initContainers"), main.clone(), names("ephemeralContainers")].concat();
    match (asked, main.as_slice()) {
        (Some(asked), _) if all.iter().any(|name| name == asked) => Ok(asked.to_owned()),
        (Some(asked), _) => Err(ApiError::bad_request(format!(
            "container {asked} is not valid for pod {name}"
        ))),
        (None, [one]) => Ok(one.clone()),
        (None, []) => Err(ApiError::bad_request(format!(
            "a container name must be specified for pod {name}"
        ))),
        (None, _) => Err(ApiError::bad_request(format!(
            "a container name must be specified for pod {name}, choose one of: [{}]",
            all.join(" ")
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn query(text: &str) -> Query {
        Query::parse(Some(text))
    }

    #[test]
    fn a_flag_that_is_there_is_set_unless_it_is_false_or_0() {
        for (text, want) in [
            ("stdin=1&tty=True", "input=1&tty=1"),
            ("stdin=true&stdout=yes", "input=1&output=1"),
            ("stdin&stderr=", "input=1&error=1"),
            ("stdin=0&tty=FALSE&stdout=false", ""),
            (
                "command=sh&command=-c&command=echo%20a%26b&stdout=1",
                "output=1&command=sh&command=%2Dc&command=echo%20a%26b",
            ),
            ("container=x&other=1", ""),
        ] {
            assert_eq!(remote_command(&query(text), true), want, "{text}");
        }
        assert_eq!(remote_command(&query("command=a"), false), "");
    }

    #[test]
    fn ports_are_numbers() {
        assert_eq!(
            port_forward(&query("ports=80,81&ports=82")).unwrap(),
            "port=80%2C81%2C82"
        );
        assert_eq!(port_forward(&query("")).unwrap(), "");
        for bad in ["ports=x", "ports=", "ports=65536", "ports=%2B1"] {
            assert_eq!(port_forward(&query(bad)).unwrap_err().code, 400, "{bad}");
        }
    }

    #[test]
    fn a_log_is_asked_for_within_bounds() {
        let asked = log(
            &query("container=c&follow=true&previous=0&tailLines=5&sinceTime=2026-01-02T03:04:05Z"),
            "p",
        );
        assert_eq!(
            asked.unwrap(),
            "follow=true&tailLines=5&sinceTime=2026%2D01%2D02T03%3A04%3A05Z"
        );
        for (text, code) in [
            ("tailLines=x", 400),
            ("tailLines=-1", 422),
            ("limitBytes=0", 422),
            ("sinceSeconds=0", 422),
            ("sinceSeconds=1&sinceTime=2026-01-02T03:04:05Z", 422),
            ("sinceTime=yesterday", 400),
            ("stream=Stdout", 422),
        ] {
            assert_eq!(log(&query(text), "p").unwrap_err().code, code, "{text}");
        }
    }

    #[test]
    fn a_container_is_named_where_there_is_a_choice() {
        let pod = json!({ "spec": { "initContainers": [{ "name": "i" }], "containers": [{ "name": "a" }, { "name": "b" }] } });
        let why = "a container name must be specified for pod p, choose one of: [i a b]";
        assert_eq!(container(&pod, None, "p").unwrap_err().message, why);
        assert_eq!(container(&pod, Some("i"), "p").unwrap(), "i");
        assert_eq!(container(&pod, Some("x"), "p").unwrap_err().code, 400);
        assert_eq!(
            container(&json!({ "spec": { "containers": [{ "name": "a" }] } }), None, "p").unwrap(),
            "a"
        );
    }
}
