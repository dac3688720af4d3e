//! Event, in the core group and in `events.k8s.io`: one kind with two names for most of its fields.

use api::names;
use serde_json::{Value, json};

use crate::kinds::columns::{BuiltinColumn, count, since, text_at};
use crate::kinds::rules::{immutable, qualified_name, require};
use crate::kinds::{Asked, Check, Cursor, Errors, Kind, Stored};
use crate::tree::{put, take, text};

pub(in crate::kinds) const KIND: Kind = Kind {
    create_on_update: true,
    metadata: Asked::LAST,
    name: names::path_segment_errors,
    stored: Some(Stored { version: "v1", convert }),
    expires: true,
    no_dependents: true,
    selected: |stored, path| {
        if path == "source" {
            let component = text(stored, &["source", "component"]).filter(|c| !c.is_empty());
            return component.or_else(|| text(stored, &["reportingComponent"]));
        }
        None
    },
    columns: COLUMNS,
    ..Kind::plain("", "events", validate)
};

/// The same kind in its own group. Of the two it is the core one that errors name.
pub(in crate::kinds) const IN_EVENTS: Kind = Kind {
    group: "events.k8s.io",
    metadata: Asked::DEFAULT,
    name: names::dns1123_subdomain_errors,
    error_group: Some(""),
    ..KIND
};

const COLUMNS: &[BuiltinColumn] = &[
    ("Last Seen", "string", 0, |e| Times::of(e).last),
    ("Type", "string", 0, |e| json!(text_at(e, "/type"))),
    ("Reason", "string", 0, |e| json!(text_at(e, "/reason"))),
    ("Object", "string", 0, involved),
    ("Subobject", "string", 1, |e| {
        json!(text_at(e, "/involvedObject/fieldPath"))
    }),
    ("Source", "string", 1, event_source),
    ("Message", "string", 0, |e| {
        json!(event_text(e, "/message", "/note").trim())
    }),
    ("First Seen", "string", 1, |e| Times::of(e).first),
    ("Count", "string", 1, |e| json!(Times::of(e).count)),
    ("Name", "string", 1, |e| json!(text_at(e, "/metadata/name"))),
];

/// When an event was first and last seen, and how often.
struct Times {
    first: Value,
    last: Value,
    count: i64,
}

/// A field that has another name in `events.k8s.io`.
fn event_text<'a>(event: &'a Value, core: &str, other: &str) -> &'a str {
    match text_at(event, core) {
        "" => text_at(event, other),
        text => text,
    }
}

impl Times {
    fn of(event: &Value) -> Times {
        let first = match event_text(event, "/firstTimestamp", "/deprecatedFirstTimestamp") {
            "" => since(text_at(event, "/eventTime")),
            at => since(at),
        };
        let last = match event_text(event, "/lastTimestamp", "/deprecatedLastTimestamp") {
            "" => first.clone(),
            at => since(at),
        };
        let plain = count(event, "/count").max(count(event, "/deprecatedCount"));
        match event.get("series").filter(|s| !s.is_null()) {
            Some(series) => Times {
                first,
                last: since(text_at(series, "/lastObservedTime")),
                count: count(series, "/count"),
            },
            None => Times {
                first,
                last,
                count: plain.max(1),
            },
        }
    }
}

fn involved(event: &Value) -> Value {
    let object = if event.get("involvedObject").is_some() {
        &event["involvedObject"]
    } else {
        &event["regarding"]
    };
    let kind = text_at(object, "/kind").to_lowercase();
    json!(match text_at(object, "/name") {
        "" => kind,
        name => format!("{kind}/{name}"),
    })
}

fn event_source(event: &Value) -> Value {
    let source = |field: &str, other: &str, third: &str| {
        let all = [text_at(event, field), text_at(event, other), text_at(event, third)];
        all.into_iter().find(|t| !t.is_empty()).unwrap_or_default().to_owned()
    };
    let component = source(
        "/source/component",
        "/deprecatedSource/component",
        "/reportingComponent",
    );
    let instance = source("/source/host", "/deprecatedSource/host", "/reportingInstance");
    json!(if instance.is_empty() {
        component
    } else {
        format!("{component}, {instance}")
    })
}

const EVENT_TEXT: usize = 128;

const EVENT_NOTE: usize = 1024;

/// A core Event; one that comes as `events.k8s.io` has more rules.
fn validate(check: &Check) -> Errors {
    let mut errors = Errors::new();
    let root = check.root();
    let newer = root.get("apiVersion").text() != "v1";
    // the two groups have other names for the same fields
    let field = |core: &'static str, other: &'static str| root.get(if newer { other } else { core }).named(core);
    let object = field("involvedObject", "regarding");
    let own = root.at(&["metadata", "namespace"]).text();
    let of_object = object.get("namespace");
    let mismatch = |errors: &mut Errors| {
        errors.push(of_object.wrong(of_object.text(), "does not match event.namespace"));
    };
    if !root.get("eventTime").is_some() {
        let fits = match of_object.text() {
            "" => matches!(own, "" | "default"),
            namespace => namespace == own,
        };
        if !fits {
            mismatch(&mut errors);
        }
    } else {
        if of_object.text().is_empty() && !matches!(own, "default" | "kube-system") {
            mismatch(&mut errors);
        }
        let controller = if newer {
            root.get("reportingController")
        } else {
            root.get("reportingComponent")
        };
        require(&mut errors, &controller);
        qualified_name(&mut errors, &controller);
        for name in ["reportingInstance", "action", "reason"] {
            let at = root.get(name);
            require(&mut errors, &at);
            if at.text().len() > EVENT_TEXT {
                errors.push(at.wrong("", format!("can have at most {EVENT_TEXT} characters")));
            }
        }
        let message = field("message", "note");
        if message.text().len() > EVENT_NOTE {
            errors.push(message.wrong("", format!("can have at most {EVENT_NOTE} characters")));
        }
    }
    if newer {
        newer_event(&mut errors, check, &root);
    }
    errors
}

fn newer_event(errors: &mut Errors, check: &Check, root: &Cursor) {
    let series = root.get("series");
    let Some(old) = check.before() else {
        if series.is_some() {
            event_series(errors, &series);
        }
        let at = root.get("eventTime");
        if !at.is_some() {
            errors.push(at.required(""));
        }
        let kind = root.get("type");
        if !matches!(kind.text(), "Normal" | "Warning") {
            errors.push(kind.wrong("", format!("has invalid value: {}", kind.text())));
        }
        for (field, shown) in [
            ("deprecatedFirstTimestamp", "firstTimestamp"),
            ("deprecatedLastTimestamp", "lastTimestamp"),
            ("deprecatedCount", "count"),
            ("deprecatedSource", "source"),
        ] {
            let at = root.get(field).named(shown);
            let empty = at.map().is_some_and(|m| m.is_empty()) || at.int() == Some(0);
            if at.is_some() && !empty {
                errors.push(at.wrong("", "needs to be unset"));
            }
        }
        return;
    };
    if series.is_some() && series.value != old.get("series").value {
        event_series(errors, &series);
    }
    for (field, shown) in [
        ("regarding", "involvedObject"),
        ("reason", "reason"),
        ("note", "message"),
        ("deprecatedSource", "source"),
        ("deprecatedFirstTimestamp", "firstTimestamp"),
        ("deprecatedLastTimestamp", "lastTimestamp"),
        ("deprecatedCount", "count"),
        ("type", "type"),
        ("eventTime", "eventTime"),
        ("action", "action"),
        ("related", "related"),
        ("reportingController", "reportingController"),
        ("reportingInstance", "reportingInstance"),
    ] {
        immutable(errors, &root.get(field).named(shown), &old.get(field));
    }
}

fn event_series(errors: &mut Errors, series: &Cursor) {
    if series.get("count").int().unwrap_or(0) < 2 {
        errors.push(series.get("count").wrong("", "should be at least 2"));
    }
    let last = series.get("lastObservedTime");
    if !last.is_some() {
        errors.push(last.required(""));
    }
}

/// Core `v1` Events and `events.k8s.io/v1` Events are one kind under two names for each field.
fn convert(mut tree: Value, to: &str) -> Value {
    const NAMES: [(&str, &str); 7] = [
        ("involvedObject", "regarding"),
        ("message", "note"),
        ("source", "deprecatedSource"),
        ("firstTimestamp", "deprecatedFirstTimestamp"),
        ("lastTimestamp", "deprecatedLastTimestamp"),
        ("count", "deprecatedCount"),
        ("reportingComponent", "reportingController"),
    ];
    for (core, events) in NAMES {
        let (from, into) = if to == "v1" { (events, core) } else { (core, events) };
        let value = take(&mut tree, from);
        put(&mut tree, into, value);
    }
    tree["apiVersion"] = json!(to);
    tree
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_survives_the_way_to_the_other_group_and_back() {
        let core =
            json!({ "apiVersion": "v1", "message": "m", "involvedObject": { "name": "p" }, "reportingComponent": "k" });
        let other = convert(core.clone(), "events.k8s.io/v1");
        assert_eq!(other["note"], "m");
        assert_eq!(other["reportingController"], "k");
        assert_eq!(convert(other, "v1"), core);
    }
}
