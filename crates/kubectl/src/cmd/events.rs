//! `events`: what happened, the oldest first.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::describe::{interval, str_of};
use crate::api::{Call, JSON, Query};
use crate::error::{Result, fail};
use crate::flags::Output;
use crate::print::Format;
use crate::print::tabwriter::TabWriter;
use crate::select::CHUNK;
use crate::session::Session;
use crate::watch;

/// List events
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    output: Output,
    /// If present, list the events of all namespaces
    #[arg(long, short = 'A')]
    all_namespaces: bool,
    /// After listing the requested events, watch for more
    #[arg(long, short)]
    watch: bool,
    /// Only events about this resource, as TYPE/NAME
    #[arg(long = "for")]
    about: Option<String>,
    /// Only events of these types
    #[arg(long, value_delimiter = ',')]
    types: Vec<String>,
    /// Print no headers
    #[arg(long)]
    no_headers: bool,
    /// Return large lists in chunks rather than all at once
    #[arg(long, default_value_t = CHUNK, hide_default_value = true)]
    chunk_size: u32,
    /// Upstream takes any, and heeds none
    #[arg(hide = true)]
    _rest: Vec<String>,
}

pub(crate) async fn run(session: &Session, args: &Args) -> Result<()> {
    let mut query: Query = Vec::new();
    if let Some(about) = args.about.as_deref().filter(|a| !a.is_empty()) {
        query.push(("fieldSelector", selector(session, about).await?));
    }
    let format = Format::for_change(&args.output)?;
    if args.types.iter().any(|t| !is(t, "Normal") && !is(t, "Warning")) {
        return fail("valid --types are Normal or Warning");
    }
    let here = session.namespace()?;
    let path = match args.all_namespaces {
        true => "/api/v1/events".to_owned(),
        false => format!("/api/v1/namespaces/{here}/events"),
    };
    let mut shown = Shown {
        session,
        args,
        format,
        headed: args.no_headers,
        table: TabWriter::table(),
    };
    if args.watch {
        let mut events = watch::open(session.api()?, &path, query, JSON).await?;
        while let Some(event) = events.next().await? {
            if event.kind != "DELETED" && event.kind != "BOOKMARK" && wanted(args, &event.object) {
                shown.events(&[event.object])?;
            }
        }
        return Ok(());
    }
    let mut found = list(session, &path, &query).await?;
    found.retain(|event| wanted(args, event));
    if found.is_empty() {
        session.warn(&match args.all_namespaces {
            true => "No events found.".to_owned(),
            false => format!("No events found in {here} namespace."),
        });
        return Ok(());
    }
    found.sort_by_key(when);
    if shown.format.is_human() {
        return shown.events(&found);
    }
    let list = json!({"apiVersion": "v1", "kind": "EventList", "metadata": {}, "items": found});
    // upstream has a struct for it
    session.print(&shown.format.typed(&list)?)
}

fn is(given: &str, kind: &str) -> bool {
    given.eq_ignore_ascii_case(kind)
}

fn wanted(args: &Args, event: &Value) -> bool {
    args.types.is_empty() || args.types.iter().any(|t| is(t, str_of(&event["type"])))
}

/// When it happened last; what says nothing of that is the oldest.
fn when(event: &Value) -> Option<Timestamp> {
    let at = |value: &Value| str_of(value).parse::<Timestamp>().ok();
    if event["series"].is_object() {
        return at(&event["series"]["lastObservedTime"]);
    }
    at(&event["lastTimestamp"]).or_else(|| at(&event["eventTime"]))
}

async fn list(session: &Session, path: &str, query: &Query) -> Result<Vec<Value>> {
    let (mut found, mut next) = (Vec::new(), String::new());
    loop {
        let mut query = query.clone();
        query.push(("limit", CHUNK.to_string()));
        if !next.is_empty() {
            query.push(("continue", std::mem::take(&mut next)));
        }
        let mut page = session.api()?.json(&Call::get(path).query(query)).await?;
        if let Value::Array(items) = page["items"].take() {
            found.extend(items);
        }
        for event in &mut found {
            crate::resolve::with_type_of(event, "v1", "Event");
        }
        str_of(&page["metadata"]["continue"]).clone_into(&mut next);
        if next.is_empty() {
            return Ok(found);
        }
    }
}

/// `pod/web` as a selector of fields.
async fn selector(session: &Session, about: &str) -> Result<String> {
    let (resource, name) = match about.split('/').collect::<Vec<_>>()[..] {
        [resource, name] => (resource, name),
        [_] => return fail("--for must be in resource/name form"),
        _ => return fail("arguments in resource/name form may not have more than one slash"),
    };
    let ty = session.resources().await?.require(&resource.to_lowercase())?;
    let (version, kind) = (ty.api_version(), &ty.kind);
    Ok(format!(
        "involvedObject.apiVersion={version},involvedObject.kind={kind},involvedObject.name={name}"
    ))
}

struct Shown<'a> {
    session: &'a Session,
    args: &'a Args,
    format: Format,
    /// The head of the table has been printed, or is not wanted.
    headed: bool,
    table: TabWriter,
}

impl Shown<'_> {
    fn events(&mut self, events: &[Value]) -> Result<()> {
        if !self.format.is_human() {
            for event in events {
                self.session.print(&self.format.object(event)?)?;
            }
            return Ok(());
        }
        let table = &mut self.table;
        let namespace = |text: &str| match self.args.all_namespaces {
            true => format!("{text}\t"),
            false => String::new(),
        };
        if !std::mem::replace(&mut self.headed, true) {
            table.line(&format!(
                "{}LAST SEEN\tTYPE\tREASON\tOBJECT\tMESSAGE",
                namespace("NAMESPACE")
            ));
        }
        let now = Timestamp::now();
        for event in events {
            let object = &event["involvedObject"];
            table.line(&format!(
                "{}{}\t{}\t{}\t{}/{}\t{}",
                namespace(str_of(&event["metadata"]["namespace"])),
                interval(event, now),
                str_of(&event["type"]),
                str_of(&event["reason"]),
                str_of(&object["kind"]),
                str_of(&object["name"]),
                str_of(&event["message"]).trim()
            ));
        }
        let text = table.flush();
        self.session.print(&text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_time_counts() {
        let at = |event: Value| when(&event).map(|t| t.as_second());
        assert_eq!(
            at(json!({"lastTimestamp": "1970-01-01T00:00:05Z", "eventTime": "1970-01-01T00:00:09Z"})),
            Some(5)
        );
        assert_eq!(at(json!({"eventTime": "1970-01-01T00:00:09.000000Z"})), Some(9));
        assert_eq!(at(json!({})), None);
    }
}
