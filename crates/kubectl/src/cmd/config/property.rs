//! `config set` and `config unset`: one field, by its path.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::change::{save, target, upsert};
use super::load;
use crate::error::{Result, fail, message};
use crate::print::go::quote;
use crate::session::Session;

#[derive(Debug, clap::Args)]
pub(crate) struct Set {
    args: Vec<String>,
    /// When writing to a field of bytes, write the value as it is and not as base64
    #[arg(long)]
    set_raw_bytes: bool,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Unset {
    args: Vec<String>,
}

/// What a field holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Text,
    Switch,
    Bytes,
}

use Kind::{Bytes, Switch, Text};

/// The list in the file, what its entries hold, and the fields of that.
type List = (&'static str, &'static str, &'static [(&'static str, Kind)]);

const LISTS: [List; 3] = [
    (
        "clusters",
        "cluster",
        &[
            ("server", Text),
            ("tls-server-name", Text),
            ("insecure-skip-tls-verify", Switch),
            ("certificate-authority", Text),
            ("certificate-authority-data", Bytes),
            ("proxy-url", Text),
            ("disable-compression", Switch),
        ],
    ),
    (
        "contexts",
        "context",
        &[("cluster", Text), ("user", Text), ("namespace", Text)],
    ),
    (
        "users",
        "user",
        &[
            ("client-certificate", Text),
            ("client-certificate-data", Bytes),
            ("client-key", Text),
            ("client-key-data", Bytes),
            ("token", Text),
            ("tokenFile", Text),
            ("act-as", Text),
            ("act-as-uid", Text),
            ("username", Text),
            ("password", Text),
        ],
    ),
];

/// Where a path leads.
#[derive(Debug, PartialEq, Eq)]
enum Place<'a> {
    CurrentContext,
    List(&'static str),
    Entry {
        list: &'static str,
        inner: &'static str,
        name: &'a str,
        field: Option<(&'static str, Kind)>,
    },
}

/// A name may have dots: it ends before the first part that is a field, or with the path.
fn place(path: &str) -> Result<Place<'_>> {
    if path == "current-context" {
        return Ok(Place::CurrentContext);
    }
    let (head, rest) = path.split_once('.').map_or((path, None), |(h, r)| (h, Some(r)));
    let Some((list, inner, fields)) = LISTS.iter().find(|(list, ..)| *list == head) else {
        return fail(format!("unable to parse {path} after [] at api.Config"));
    };
    let Some(rest) = rest else {
        return Ok(Place::List(list));
    };
    for (at, _) in rest.match_indices('.') {
        let tail = &rest[at + 1..];
        let first = tail.split('.').next().unwrap_or(tail);
        if let Some(field) = fields.iter().find(|(field, _)| *field == first) {
            if tail != first {
                return fail(format!("unable to parse one or more field values of {path}"));
            }
            let name = &rest[..at];
            return Ok(Place::Entry {
                list,
                inner,
                name,
                field: Some(*field),
            });
        }
    }
    Ok(Place::Entry {
        list,
        inner,
        name: rest,
        field: None,
    })
}

fn value_of(kind: Kind, text: &str, raw: bool) -> Result<Value> {
    match kind {
        Text => Ok(json!(text)),
        Switch => match text {
            "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(json!(true)),
            "" | "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(json!(false)),
            other => fail(format!("strconv.ParseBool: parsing {}: invalid syntax", quote(other))),
        },
        Bytes if raw => Ok(json!(STANDARD.encode(text))),
        Bytes => match STANDARD.decode(text) {
            Ok(bytes) => Ok(json!(STANDARD.encode(bytes))),
            Err(error) => Err(message(format!("error decoding input value: {error}"))),
        },
    }
}

pub(crate) fn set(session: &Session, args: &Set) -> Result<()> {
    let [path, text] = &args.args[..] else {
        return session.usage_with_help(format!("Unexpected args: [{}]", args.args.join(" ")));
    };
    match place(path)? {
        Place::CurrentContext => {
            let file = target(session, "current-context", "")?;
            let mut config = load(&file)?;
            config["current-context"] = json!(text);
            save(&file, &config)?;
        }
        Place::Entry {
            list,
            inner,
            name,
            field: Some((field, kind)),
        } => {
            let value = value_of(kind, text, args.set_raw_bytes)?;
            upsert(session, list, inner, name, |entry| {
                entry.insert(field.to_owned(), value);
            })?;
        }
        Place::List(_) | Place::Entry { .. } => return fail(format!("can't set a map to a value: {path}")),
    }
    session.println(&format!("Property {} set.", quote(path)))
}

pub(crate) fn unset(session: &Session, args: &Unset) -> Result<()> {
    let [path] = &args.args[..] else {
        return session.usage_with_help(format!("Unexpected args: [{}]", args.args.join(" ")));
    };
    let at = place(path)?;
    let file = match &at {
        Place::CurrentContext => target(session, "current-context", "")?,
        Place::List(list) => target(session, list, "")?,
        Place::Entry { list, name, .. } => target(session, list, name)?,
    };
    let mut config = load(&file)?;
    match at {
        Place::CurrentContext => config["current-context"] = json!(""),
        Place::List(list) => config[list] = Value::Null,
        Place::Entry {
            list,
            inner,
            name,
            field,
        } => {
            let entries = config[list].as_array_mut();
            match (field, entries) {
                (None, Some(entries)) => entries.retain(|e| e["name"] != name),
                (None, None) => {}
                (Some((field, _)), entries) => {
                    let entry = entries.into_iter().flatten().find(|e| e["name"] == name);
                    let Some(entry) = entry else {
                        return fail(format!("current map key `{name}` is invalid"));
                    };
                    if let Some(map) = entry[inner].as_object_mut() {
                        map.remove(field);
                    }
                }
            }
        }
    }
    save(&file, &config)?;
    session.println(&format!("Property {} unset.", quote(path)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_may_have_dots() {
        let entry = |name, field| Place::Entry {
            list: "clusters",
            inner: "cluster",
            name,
            field,
        };
        assert_eq!(
            place("clusters.10.1.2.3.server").unwrap(),
            entry("10.1.2.3", Some(("server", Text)))
        );
        assert_eq!(place("clusters.a.b").unwrap(), entry("a.b", None));
        assert_eq!(place("current-context").unwrap(), Place::CurrentContext);
        assert_eq!(
            place("nope.x").unwrap_err().to_string(),
            "unable to parse nope.x after [] at api.Config"
        );
    }

    #[test]
    fn bytes_are_base64_unless_they_are_raw() {
        assert_eq!(value_of(Bytes, "aGVsbG8=", false).unwrap(), json!("aGVsbG8="));
        assert_eq!(value_of(Bytes, "hello", true).unwrap(), json!("aGVsbG8="));
        assert!(value_of(Bytes, "!", false).is_err());
        assert!(value_of(Switch, "maybe", false).is_err());
    }
}
