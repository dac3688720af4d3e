//! Events of a component as `events.k8s.io/v1` has them: with the action that failed or was done; repeated ones are a series. KEP-383.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::api::events::v1::{Event, EventSeries};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use tokio::sync::mpsc;

use crate::events::{name_of, namespace_of};
use crate::{Client, Error, Patch};

/// What is not seen again for this long is forgotten, a series with its last count.
const FORGET_SECONDS: i64 = 360;
/// Characters of a note that the server takes.
const LONGEST_NOTE: usize = 1024;

/// Records events in the background; never blocks and never fails its caller.
#[derive(Debug, Clone)]
pub struct SeriesRecorder {
    sender: mpsc::Sender<Report>,
}

/// What is told.
#[derive(Debug, Clone)]
pub struct Told<'a> {
    /// `Normal` or `Warning`.
    pub type_: &'static str,
    /// Why, in one word.
    pub reason: &'static str,
    /// What was done or tried.
    pub action: &'static str,
    /// Another object that had part in it.
    pub related: Option<&'a ObjectReference>,
}

#[derive(Debug, Clone)]
struct Report {
    regarding: ObjectReference,
    related: Option<ObjectReference>,
    type_: &'static str,
    reason: &'static str,
    action: &'static str,
    note: String,
    at: Timestamp,
}

impl SeriesRecorder {
    /// For a component, such as `default-scheduler`, on a host.
    pub fn new(client: Client, controller: &str, host: &str) -> SeriesRecorder {
        let (sender, receiver) = mpsc::channel(1000);
        let source = (controller.to_owned(), format!("{controller}-{host}"));
        tokio::spawn(deliver(client, source, receiver));
        SeriesRecorder { sender }
    }

    /// Records what happened to an object, in words of at most 1024 characters.
    pub fn tell(&self, regarding: &ObjectReference, what: &Told<'_>, note: impl Into<String>) {
        let mut note = note.into();
        if let Some((end, _)) = note.char_indices().nth(LONGEST_NOTE) {
            note.truncate(end);
        }
        let report = Report {
            regarding: regarding.clone(),
            related: what.related.cloned(),
            type_: what.type_,
            reason: what.reason,
            action: what.action,
            note,
            at: Timestamp::now(),
        };
        if self.sender.try_send(report).is_err() {
            tracing::debug!(reason = what.reason, "event dropped: too many are waiting");
        }
    }
}

/// An event that was told.
#[derive(Debug)]
struct Known {
    since: Timestamp,
    last: Timestamp,
    /// Of a series: how often it was told, and its namespace and name.
    series: Option<(i32, String, String)>,
}

#[derive(Debug, PartialEq)]
enum Verdict {
    Create,
    /// The event of that time becomes a series.
    Begin(Timestamp),
    /// The series is counted and told when it is over.
    Count,
}

#[derive(Default)]
struct Correlator {
    hasher: RandomState,
    /// By a hash of everything but the note.
    known: HashMap<u64, Known>,
}

impl Correlator {
    fn judge(&mut self, report: &Report) -> Verdict {
        let object = |o: &ObjectReference| {
            let text = [&o.kind, &o.namespace, &o.name, &o.uid, &o.resource_version];
            self.hasher.hash_one(text)
        };
        let related = report.related.as_ref().map(object);
        let key = (
            object(&report.regarding),
            related,
            report.type_,
            report.reason,
            report.action,
        );
        let key = self.hasher.hash_one(key);
        let Some(known) = self.known.get_mut(&key) else {
            let new = Known {
                since: report.at,
                last: report.at,
                series: None,
            };
            self.known.insert(key, new);
            return Verdict::Create;
        };
        known.last = report.at;
        if let Some((count, _, _)) = &mut known.series {
            *count += 1;
            return Verdict::Count;
        }
        let name = name_of(&report.regarding, known.since);
        known.series = Some((2, namespace_of(&report.regarding), name));
        Verdict::Begin(known.since)
    }

    /// Forgets what is over; the series among it, with when they were told last.
    fn sweep(&mut self, now: Timestamp) -> Vec<(i32, String, String, Timestamp)> {
        let over = |known: &Known| now.as_second() - known.last.as_second() >= FORGET_SECONDS;
        let ended = self.known.extract_if(|_, known| over(known));
        ended
            .filter_map(|(_, known)| {
                let (count, namespace, name) = known.series?;
                Some((count, namespace, name, known.last))
            })
            .collect()
    }
}

async fn deliver(client: Client, source: (String, String), mut reports: mpsc::Receiver<Report>) {
    let mut correlator = Correlator::default();
    let pause = Duration::from_secs(FORGET_SECONDS.unsigned_abs());
    let mut sweep = tokio::time::Instant::now() + pause;
    loop {
        tokio::select! {
            report = reports.recv() => {
                let Some(report) = report else { return };
                if correlator.known.is_empty() {
                    sweep = tokio::time::Instant::now() + pause;
                }
                let outcome = match correlator.judge(&report) {
                    Verdict::Create => create(&client, &source, &report).await,
                    Verdict::Begin(since) => {
                        let name = name_of(&report.regarding, since);
                        count(&client, &namespace_of(&report.regarding), &name, 2, report.at).await
                    }
                    Verdict::Count => Ok(()),
                };
                if let Err(error) = outcome {
                    tracing::debug!(reason = report.reason, %error, "event not recorded");
                }
            }
            () = tokio::time::sleep_until(sweep), if !correlator.known.is_empty() => {
                sweep += pause;
                for (times, namespace, name, last) in correlator.sweep(Timestamp::now()) {
                    if let Err(error) = count(&client, &namespace, &name, times, last).await {
                        tracing::debug!(name, %error, "the end of a series of events is not recorded");
                    }
                }
            }
        }
    }
}

async fn create(client: &Client, (controller, instance): &(String, String), report: &Report) -> Result<(), Error> {
    let event = Event {
        metadata: ObjectMeta {
            name: Some(name_of(&report.regarding, report.at)),
            namespace: Some(namespace_of(&report.regarding)),
            ..ObjectMeta::default()
        },
        event_time: Some(MicroTime(report.at)),
        reporting_controller: Some(controller.clone()),
        reporting_instance: Some(instance.clone()),
        action: Some(report.action.to_owned()),
        reason: Some(report.reason.to_owned()),
        regarding: Some(report.regarding.clone()),
        related: report.related.clone(),
        note: Some(report.note.clone()),
        type_: Some(report.type_.to_owned()),
        ..Event::default()
    };
    client.create(&event).await.map(|_| ())
}

async fn count(client: &Client, namespace: &str, name: &str, times: i32, last: Timestamp) -> Result<(), Error> {
    let series = EventSeries {
        count: times,
        last_observed_time: MicroTime(last),
    };
    let patch = Patch::Strategic(serde_json::json!({ "series": series }));
    client.patch::<Event>(namespace, name, &patch).await.map(|_| ())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(version: &str, note: &str, second: i64) -> Report {
        Report {
            regarding: ObjectReference {
                name: Some("p".to_owned()),
                resource_version: Some(version.to_owned()),
                ..ObjectReference::default()
            },
            related: None,
            type_: "Warning",
            reason: "FailedScheduling",
            action: "Scheduling",
            note: note.to_owned(),
            at: Timestamp::from_second(second).unwrap(),
        }
    }

    #[test]
    fn what_is_told_of_the_same_version_again_is_a_series_whose_end_is_told() {
        let mut correlator = Correlator::default();
        let first = Timestamp::from_second(0).unwrap();
        assert_eq!(correlator.judge(&report("1", "a", 0)), Verdict::Create);
        assert_eq!(correlator.judge(&report("1", "b", 1)), Verdict::Begin(first));
        assert_eq!(correlator.judge(&report("1", "b", 2)), Verdict::Count);
        assert_eq!(correlator.judge(&report("2", "b", 3)), Verdict::Create);
        assert!(correlator.sweep(Timestamp::from_second(300).unwrap()).is_empty());
        let ended = correlator.sweep(Timestamp::from_second(500).unwrap());
        let [(3, _, name, last)] = ended.as_slice() else {
            panic!("{ended:?}")
        };
        assert_eq!((name.as_str(), last.as_second()), ("p.0", 2));
        assert!(correlator.known.is_empty());
    }
}
