//! Events of a component (core/v1): repeated ones are counted in one object, floods are held back.

use std::collections::HashMap;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Event, EventSource, ObjectReference};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use tokio::sync::mpsc;

use crate::{Client, Error, Patch};

/// More similar events than this within [`SIMILAR_SECONDS`] are told as one.
const MANY: usize = 10;
const SIMILAR_SECONDS: i64 = 600;
/// Each object may have a burst of events, then one every five minutes.
const BURST: f64 = 25.0;
const SECONDS_A_TOKEN: f64 = 300.0;
/// Keys remembered; upstream's cache has the same size.
const REMEMBERED: usize = 4096;

/// Records events in the background; never blocks and never fails its caller.
#[derive(Debug, Clone)]
pub struct EventRecorder {
    sender: mpsc::Sender<Report>,
}

#[derive(Debug, Clone)]
struct Report {
    object: ObjectReference,
    type_: &'static str,
    reason: String,
    message: String,
    at: Timestamp,
}

impl EventRecorder {
    /// For a component, such as `kubelet`, on a host (empty for components that are not of a node).
    pub fn new(client: Client, component: &str, host: &str) -> EventRecorder {
        let (sender, receiver) = mpsc::channel(1000);
        let source = EventSource {
            component: Some(component.to_owned()),
            host: (!host.is_empty()).then(|| host.to_owned()),
        };
        tokio::spawn(deliver(client, source, receiver));
        EventRecorder { sender }
    }

    pub fn normal(&self, object: &ObjectReference, reason: &str, message: impl Into<String>) {
        self.report(object, "Normal", reason, message.into());
    }

    pub fn warning(&self, object: &ObjectReference, reason: &str, message: impl Into<String>) {
        self.report(object, "Warning", reason, message.into());
    }

    fn report(&self, object: &ObjectReference, type_: &'static str, reason: &str, message: String) {
        let report = Report {
            object: object.clone(),
            type_,
            reason: reason.to_owned(),
            message,
            at: Timestamp::now(),
        };
        if self.sender.try_send(report).is_err() {
            tracing::debug!(reason, "event dropped: too many are waiting");
        }
    }
}

/// What a report turns into.
#[derive(Debug, PartialEq)]
enum Verdict {
    Drop,
    Create {
        key: String,
        message: String,
    },
    Count {
        key: String,
        name: String,
        count: i32,
        message: String,
    },
}

#[derive(Default)]
struct Correlator {
    /// By object: tokens left, when they were counted.
    spam: HashMap<String, (f64, Timestamp)>,
    /// By everything but the message: messages seen, since when.
    similar: HashMap<String, (std::collections::HashSet<String>, Timestamp)>,
    /// By everything: the event's name and its count.
    recorded: HashMap<String, (String, i32)>,
}

impl Correlator {
    fn judge(&mut self, report: &Report) -> Verdict {
        for full in [self.spam.len(), self.similar.len(), self.recorded.len()] {
            if full > REMEMBERED {
                *self = Correlator::default();
            }
        }
        let o = &report.object;
        let field = |f: &Option<String>| f.clone().unwrap_or_default();
        let object = [&o.kind, &o.namespace, &o.name, &o.uid, &o.api_version]
            .map(field)
            .join("/");
        let without_message = format!("{object}/{}/{}/{}", field(&o.field_path), report.type_, report.reason);
        let (messages, since) = self
            .similar
            .entry(without_message.clone())
            .or_insert_with(|| (Default::default(), report.at));
        if report.at.as_second() - since.as_second() > SIMILAR_SECONDS {
            messages.clear();
            *since = report.at;
        }
        messages.insert(report.message.clone());
        let (key, message) = if messages.len() > MANY {
            messages.truncate_to_one();
            (
                without_message,
                format!("(combined from similar events): {}", report.message),
            )
        } else {
            (format!("{without_message}/{}", report.message), report.message.clone())
        };
        let (tokens, counted) = self.spam.entry(object).or_insert((BURST, report.at));
        let passed = report.at.duration_since(*counted).as_secs_f64().max(0.0);
        *tokens = (*tokens + passed / SECONDS_A_TOKEN).min(BURST);
        *counted = report.at;
        if *tokens < 1.0 {
            return Verdict::Drop;
        }
        *tokens -= 1.0;
        match self.recorded.get_mut(&key) {
            Some((name, count)) => {
                *count += 1;
                Verdict::Count {
                    name: name.clone(),
                    count: *count,
                    message,
                    key,
                }
            }
            None => Verdict::Create { key, message },
        }
    }
}

/// Keeps the set over its limit without growing: only its size matters.
trait TruncateToOne {
    fn truncate_to_one(&mut self);
}

impl TruncateToOne for std::collections::HashSet<String> {
    fn truncate_to_one(&mut self) {
        while self.len() > MANY + 1 {
            let Some(any) = self.iter().next().cloned() else { return };
            self.remove(&any);
        }
    }
}

async fn deliver(client: Client, source: EventSource, mut reports: mpsc::Receiver<Report>) {
    let mut correlator = Correlator::default();
    while let Some(report) = reports.recv().await {
        let outcome = match correlator.judge(&report) {
            Verdict::Drop => continue,
            Verdict::Create { key, message } => create(&client, &source, &report, message, 1)
                .await
                .map(|name| (key, name, 1)),
            Verdict::Count {
                key,
                name,
                count,
                message,
            } => {
                let namespace = namespace_of(&report.object);
                let patch = serde_json::json!({"count": count, "message": message, "lastTimestamp": Time(report.at)});
                match client.patch::<Event>(&namespace, &name, &Patch::Strategic(patch)).await {
                    Ok(_) => Ok((key, name, count)),
                    // Events expire; the count goes on in a new one.
                    Err(error) if error.is_not_found() => create(&client, &source, &report, message, count)
                        .await
                        .map(|name| (key, name, count)),
                    Err(error) => Err(error),
                }
            }
        };
        match outcome {
            Ok((key, name, count)) => {
                correlator.recorded.insert(key, (name, count));
            }
            Err(error) => tracing::debug!(reason = report.reason, %error, "event not recorded"),
        }
    }
}

fn namespace_of(object: &ObjectReference) -> String {
    object
        .namespace
        .clone()
        .filter(|n| !n.is_empty())
        .unwrap_or_else(|| "default".to_owned())
}

async fn create(
    client: &Client,
    source: &EventSource,
    report: &Report,
    message: String,
    count: i32,
) -> Result<String, Error> {
    let object = &report.object;
    let name = format!(
        "{}.{:x}",
        object.name.as_deref().unwrap_or_default(),
        report.at.as_nanosecond()
    );
    let event = Event {
        metadata: ObjectMeta {
            name: Some(name.clone()),
            namespace: Some(namespace_of(object)),
            ..ObjectMeta::default()
        },
        involved_object: object.clone(),
        reason: Some(report.reason.clone()),
        message: Some(message),
        type_: Some(report.type_.to_owned()),
        source: Some(source.clone()),
        reporting_component: source.component.clone(),
        reporting_instance: Some(source.host.clone().unwrap_or_default()),
        first_timestamp: Some(Time(report.at)),
        last_timestamp: Some(Time(report.at)),
        count: Some(count),
        ..Event::default()
    };
    client.create(&event).await?;
    Ok(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(reason: &str, message: &str, second: i64) -> Report {
        Report {
            object: ObjectReference {
                name: Some("a".to_owned()),
                ..ObjectReference::default()
            },
            type_: "Normal",
            reason: reason.to_owned(),
            message: message.to_owned(),
            at: Timestamp::from_second(second).unwrap(),
        }
    }

    #[test]
    fn the_same_event_is_counted() {
        let mut correlator = Correlator::default();
        let Verdict::Create { key, .. } = correlator.judge(&report("Pulled", "m", 0)) else {
            panic!("first is new")
        };
        correlator.recorded.insert(key, ("n".to_owned(), 1));
        assert!(matches!(
            correlator.judge(&report("Pulled", "m", 1)),
            Verdict::Count { count: 2, .. }
        ));
    }

    #[test]
    fn many_similar_events_are_told_as_one() {
        let mut correlator = Correlator::default();
        for i in 0..10 {
            assert!(
                matches!(correlator.judge(&report("Failed", &i.to_string(), i)), Verdict::Create { message, .. } if message == i.to_string())
            );
        }
        assert!(
            matches!(correlator.judge(&report("Failed", "z", 11)), Verdict::Create { message, .. } if message == "(combined from similar events): z")
        );
    }

    #[test]
    fn a_flood_is_held_back() {
        let mut correlator = Correlator::default();
        let told = (0..100)
            .filter(|_| correlator.judge(&report("BackOff", "m", 0)) != Verdict::Drop)
            .count();
        assert_eq!(told, 25);
        assert_ne!(correlator.judge(&report("BackOff", "m", 300)), Verdict::Drop);
    }
}
