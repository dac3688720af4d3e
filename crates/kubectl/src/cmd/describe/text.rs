//! The lines of a description: labels, annotations, times, and events at the end.

use jiff::Timestamp;
use serde_json::Value;

use crate::age;
use crate::api::{Call, Query};
use crate::cmd::apply::LAST_APPLIED;
use crate::error::Result;
use crate::print::tabwriter::TabWriter;
use crate::session::Session;

/// Annotations longer than this are cut. Characters.
const LONGEST_ANNOTATION: usize = 140;

/// Text in columns that grows line by line.
#[derive(Debug)]
pub struct Text {
    columns: TabWriter,
    /// Tabs stay tabs.
    raw: bool,
    out: String,
}

impl Text {
    pub(crate) fn new() -> Text {
        Text {
            columns: TabWriter::describe(),
            raw: false,
            out: String::new(),
        }
    }

    pub(crate) fn raw() -> Text {
        Text {
            raw: true,
            ..Text::new()
        }
    }

    /// A line at a depth of two spaces each.
    pub fn line(&mut self, depth: usize, text: &str) {
        let line = format!("{}{text}", "  ".repeat(depth));
        if self.raw {
            self.out.push_str(&line);
            self.out.push('\n');
        } else {
            self.columns.line(&line);
        }
    }

    /// `Title:` and a value.
    pub fn pair(&mut self, depth: usize, title: &str, value: &str) {
        self.line(depth, &format!("{title}:\t{value}"));
    }

    /// The same where there is a value.
    pub fn some(&mut self, depth: usize, title: &str, value: &Value) {
        match value {
            Value::Null => {}
            Value::String(text) if text.is_empty() => {}
            value => self.pair(depth, title, &crate::print::go::sprint(value)),
        }
    }

    /// Lines from here on have columns of their own.
    fn part(&mut self) {
        let text = self.columns.flush();
        self.out.push_str(&text);
    }

    pub(crate) fn end(mut self) -> String {
        self.part();
        self.out
    }

    /// A title with a value a line.
    fn several(&mut self, indent: &str, title: &str, values: &[String]) {
        match values {
            [] => self.line(0, &format!("{indent}{title}:\t<none>")),
            [first, rest @ ..] => {
                self.line(0, &format!("{indent}{title}:\t{first}"));
                for value in rest {
                    self.line(0, &format!("{indent}\t{value}"));
                }
            }
        }
    }

    /// `indent` stands before the title and every further line.
    pub fn labels(&mut self, indent: &str, title: &str, labels: &Value) {
        let pairs: Vec<String> = entries(labels).map(|(k, v)| format!("{k}={v}")).collect();
        self.several(indent, title, &pairs);
    }

    pub(crate) fn list(&mut self, title: &str, values: &[String]) {
        self.several("", title, values);
    }

    pub(crate) fn annotations(&mut self, title: &str, annotations: &Value) {
        let shown: Vec<(&str, &str)> = entries(annotations).filter(|(k, _)| *k != LAST_APPLIED).collect();
        if shown.is_empty() {
            self.line(0, &format!("{title}:\t<none>"));
            return;
        }
        for (i, (key, value)) in shown.into_iter().enumerate() {
            let head = if i == 0 { format!("{title}:\t") } else { "\t".to_owned() };
            let value = value.strip_suffix('\n').unwrap_or(value);
            if value.len() + key.len() + 2 > LONGEST_ANNOTATION || value.contains('\n') {
                self.line(0, &format!("{head}{key}:"));
                for line in value.split('\n') {
                    self.line(0, &format!("\t  {}", shorten(line, LONGEST_ANNOTATION - 2)));
                }
            } else {
                self.line(0, &format!("{head}{key}: {value}"));
            }
        }
    }

    pub(crate) fn taints(&mut self, taints: &Value) {
        let mut list: Vec<(String, String)> = items(taints)
            .map(|t| {
                let (key, value, effect) = (str_of(&t["key"]), str_of(&t["value"]), str_of(&t["effect"]));
                let text = match (value, effect) {
                    (_, "") => match value {
                        "" => key.to_owned(),
                        _ => format!("{key}={value}:"),
                    },
                    ("", effect) => format!("{key}:{effect}"),
                    (value, effect) => format!("{key}={value}:{effect}"),
                };
                (format!("{effect},{key}"), text)
            })
            .collect();
        list.sort();
        let texts: Vec<String> = list.into_iter().map(|(_, text)| text).collect();
        self.list("Taints", &texts);
    }

    pub(crate) fn tolerations(&mut self, indent: &str, tolerations: &Value) {
        let mut list: Vec<&Value> = items(tolerations).collect();
        list.sort_by_key(|t| str_of(&t["key"]));
        let texts: Vec<String> = list.into_iter().map(toleration).collect();
        self.several(indent, "Tolerations", &texts);
    }

    /// The events, or that there are none.
    pub fn events(&mut self, events: &[Value]) {
        if events.is_empty() {
            self.line(0, "Events:\t<none>");
            return;
        }
        self.part();
        let now = Timestamp::now();
        let mut events: Vec<&Value> = events.iter().collect();
        events.sort_by_key(|e| str_of(&e["lastTimestamp"]));
        self.line(0, "Events:");
        self.line(1, "Type\tReason\tAge\tFrom\tMessage");
        self.line(1, "----\t------\t----\t----\t-------");
        for event in events {
            let when = interval(event, now);
            let source = match str_of(&event["source"]["component"]) {
                "" => str_of(&event["reportingComponent"]),
                component => component,
            };
            let message = str_of(&event["message"]).trim();
            let message = match str_of(&event["involvedObject"]["fieldPath"]) {
                "" => message.to_owned(),
                path => format!("{path}: {message}"),
            };
            let (kind, reason) = (str_of(&event["type"]), str_of(&event["reason"]));
            self.line(1, &format!("{kind}\t{reason}\t{when}\t{source}\t{message}"));
        }
    }
}

/// How long ago an event was, and how often it has been seen since when.
pub fn interval(event: &Value, now: Timestamp) -> String {
    let since = |at: &Value| age::since(str_of(at), now);
    let first = match event["eventTime"].as_str() {
        Some(_) => since(&event["eventTime"]),
        None => since(&event["firstTimestamp"]),
    };
    let count = int(&event["count"]);
    if event["series"].is_object() {
        let series = &event["series"];
        let last = since(&series["lastObservedTime"]);
        format!("{last} (x{} over {first})", int(&series["count"]))
    } else if count > 1 {
        format!("{} (x{count} over {first})", since(&event["lastTimestamp"]))
    } else {
        first
    }
}

fn toleration(t: &Value) -> String {
    let mut text = str_of(&t["key"]).to_owned();
    let (value, effect) = (str_of(&t["value"]), str_of(&t["effect"]));
    if !value.is_empty() {
        text.push_str(&format!("={value}"));
    }
    if !effect.is_empty() {
        text.push_str(&format!(":{effect}"));
    }
    if t["operator"] == "Exists" && value.is_empty() {
        text.push_str(if text.is_empty() { "op=Exists" } else { " op=Exists" });
    }
    if let Some(seconds) = t["tolerationSeconds"].as_i64() {
        text.push_str(&format!(" for {seconds}s"));
    }
    text
}

fn shorten(text: &str, longest: usize) -> String {
    match text.char_indices().map(|(at, _)| at).find(|at| *at >= longest) {
        Some(at) if text.len() > longest => format!("{}...", &text[..at]),
        _ => text.to_owned(),
    }
}

pub(crate) fn str_of(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

/// A text, or another one where there is none.
pub fn or<'a>(value: &'a Value, otherwise: &'a str) -> &'a str {
    value.as_str().filter(|text| !text.is_empty()).unwrap_or(otherwise)
}

/// Name, namespace, labels and annotations of an object.
pub fn head(w: &mut Text, object: &Value) {
    let meta = &object["metadata"];
    w.pair(0, "Name", str_of(&meta["name"]));
    w.pair(0, "Namespace", str_of(&meta["namespace"]));
    w.labels("", "Labels", &meta["labels"]);
    w.annotations("Annotations", &meta["annotations"]);
}

/// A map on one line: `a=b,c=d`.
pub fn in_one_line(map: &Value) -> String {
    let pairs: Vec<String> = entries(map).map(|(k, v)| format!("{k}={v}")).collect();
    if pairs.is_empty() {
        "<none>".to_owned()
    } else {
        pairs.join(",")
    }
}

pub(crate) fn int(value: &Value) -> i64 {
    value.as_i64().unwrap_or(0)
}

pub(crate) fn items(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

/// The entries of a map of texts, sorted.
pub fn entries(value: &Value) -> impl Iterator<Item = (&str, &str)> {
    value
        .as_object()
        .into_iter()
        .flatten()
        .map(|(k, v)| (k.as_str(), str_of(v)))
}

/// Texts of a list, joined.
pub fn joined(value: &Value, between: &str) -> String {
    let texts: Vec<&str> = items(value).map(str_of).collect();
    texts.join(between)
}

/// `Sat, 21 Nov 2026 12:00:00 +0000`.
pub fn date(value: &Value) -> String {
    match str_of(value).parse::<Timestamp>() {
        Ok(at) => at
            .to_zoned(jiff::tz::TimeZone::UTC)
            .strftime("%a, %d %b %Y %H:%M:%S %z")
            .to_string(),
        Err(_) => "Mon, 01 Jan 0001 00:00:00 +0000".to_owned(),
    }
}

/// `Kind/name` of the controller that owns an object.
pub fn controller(object: &Value) -> Option<String> {
    let owner = items(&object["metadata"]["ownerReferences"]).find(|o| o["controller"] == true)?;
    Some(format!("{}/{}", str_of(&owner["kind"]), str_of(&owner["name"])))
}

/// A `LabelSelector` as a selector is written: `a=b,c in (d,e)`.
pub fn selector(tree: &Value) -> String {
    let mut parts: Vec<(String, String)> = entries(&tree["matchLabels"])
        .map(|(k, v)| (k.to_owned(), format!("{k}={v}")))
        .collect();
    for term in items(&tree["matchExpressions"]) {
        let key = str_of(&term["key"]);
        let mut values: Vec<&str> = items(&term["values"]).map(str_of).collect();
        values.sort_unstable();
        let values = values.join(",");
        let text = match str_of(&term["operator"]) {
            "In" => format!("{key} in ({values})"),
            "NotIn" => format!("{key} notin ({values})"),
            "Exists" => key.to_owned(),
            _ => format!("!{key}"),
        };
        parts.push((key.to_owned(), text));
    }
    parts.sort_by(|a, b| a.0.cmp(&b.0));
    let texts: Vec<String> = parts.into_iter().map(|(_, text)| text).collect();
    texts.join(",")
}

/// The events about an object; an empty kind is any. None where they may not be read.
pub async fn events_of(session: &Session, object: &Value, kind: &str, uid: &str) -> Result<Vec<Value>> {
    let meta = &object["metadata"];
    let namespace = str_of(&meta["namespace"]);
    let mut terms = vec![
        format!("involvedObject.name={}", str_of(&meta["name"])),
        format!("involvedObject.namespace={namespace}"),
    ];
    if !kind.is_empty() {
        terms.push(format!("involvedObject.kind={kind}"));
    }
    if !uid.is_empty() {
        terms.push(format!("involvedObject.uid={uid}"));
    }
    let path = match namespace {
        "" => "/api/v1/events".to_owned(),
        namespace => format!("/api/v1/namespaces/{namespace}/events"),
    };
    list(session, &path, vec![("fieldSelector", terms.join(","))]).await
}

/// Everything of a collection.
pub async fn list(session: &Session, path: &str, query: Query) -> Result<Vec<Value>> {
    let answer = session.api()?.json(&Call::get(path).query(query)).await?;
    match answer {
        Value::Object(mut list) => match list.remove("items") {
            Some(Value::Array(items)) => Ok(items),
            _ => Ok(Vec::new()),
        },
        _ => Ok(Vec::new()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn labels_and_annotations_are_a_line_each() {
        let mut text = Text::new();
        text.labels("", "Labels", &json!({"b": "2", "a": "1"}));
        text.annotations("Annotations", &json!({LAST_APPLIED: "x", "k": "v", "l": "1\n2\n"}));
        assert_eq!(
            text.end(),
            "Labels:       a=1\n              b=2\nAnnotations:  k: v\n              l:\n                1\n                2\n"
        );
    }

    #[test]
    fn selectors_and_tolerations_are_written_short() {
        let tree = json!({"matchLabels": {"b": "1"}, "matchExpressions": [{"key": "a", "operator": "In", "values": ["y", "x"]}]});
        assert_eq!(selector(&tree), "a in (x,y),b=1");
        let forgiving = json!({"key": "k", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300});
        assert_eq!(toleration(&forgiving), "k:NoExecute op=Exists for 300s");
        assert_eq!(toleration(&json!({"operator": "Exists"})), "op=Exists");
        assert_eq!(date(&json!("2026-11-21T01:02:03Z")), "Sat, 21 Nov 2026 01:02:03 +0000");
    }
}
