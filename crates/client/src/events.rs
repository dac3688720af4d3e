//! Events of a component (core/v1): repeated ones are counted in one object, floods are held back.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Event, EventSource, ObjectReference};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use smallvec::SmallVec;
use tokio::sync::mpsc;

use crate::{Client, Error, Patch};

/// More similar events than this within [`SIMILAR_SECONDS`] are told as one.
const MANY: usize = 10;
const COMBINED: &str = "(combined from similar events): ";
const SIMILAR_SECONDS: i64 = 600;
/// Each object may have a burst of events, then one every five minutes.
const BURST: f64 = 25.0;
const SECONDS_A_TOKEN: f64 = 300.0;
/// Entries remembered; upstream's cache has the same size.
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
        EventRecorder::limited(client, component, host, None)
    }

    /// The same with at most so many events a second and at once; 0 a second is the default, 5.
    pub fn limited(client: Client, component: &str, host: &str, rate: Option<(u32, u32)>) -> EventRecorder {
        let (sender, receiver) = mpsc::channel(1000);
        let source = EventSource {
            component: Some(component.to_owned()),
            host: (!host.is_empty()).then(|| host.to_owned()),
        };
        tokio::spawn(deliver(client, source, receiver, rate.map(Bucket::new)));
        EventRecorder { sender }
    }

    /// Records what users may like to know of an object.
    pub fn normal(&self, object: &ObjectReference, reason: &str, message: impl Into<String>) {
        self.report(object, "Normal", reason, message.into());
    }

    /// Records what users should look at.
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

/// Tokens for requests: a burst at once, then so many a second.
#[derive(Debug)]
struct Bucket {
    each: f64,
    burst: f64,
    tokens: f64,
    at: f64,
}

impl Bucket {
    fn new((qps, burst): (u32, u32)) -> Bucket {
        let qps = if qps == 0 { 5 } else { qps };
        Bucket {
            each: f64::from(qps),
            burst: f64::from(burst.max(1)),
            tokens: f64::from(burst.max(1)),
            at: 0.0,
        }
    }

    /// Takes a token at a time in seconds; how long to wait for it.
    fn take(&mut self, now: f64) -> f64 {
        self.tokens = (self.tokens + (now - self.at).max(0.0) * self.each).min(self.burst) - 1.0;
        self.at = now;
        (-self.tokens / self.each).max(0.0)
    }
}

/// What a report turns into.
#[derive(Debug, PartialEq)]
enum Verdict {
    Drop,
    /// Told for the first time, or again after it was forgotten.
    Create {
        key: u64,
        message: String,
    },
    /// Told before, in the event made at `since`.
    Count {
        key: u64,
        since: Timestamp,
        count: i32,
        message: String,
    },
}

/// What was last used, by a hash of its key, up to [`REMEMBERED`] of each kind: tables of small plain entries, so that what
/// is remembered of thousands of objects neither grows nor keeps memory from being given back.
struct Remembered<T> {
    recent: HashMap<u64, T>,
    /// Used before all of `recent`; forgotten when that is full.
    older: HashMap<u64, T>,
}

impl<T> Default for Remembered<T> {
    fn default() -> Remembered<T> {
        Remembered {
            recent: HashMap::new(),
            older: HashMap::new(),
        }
    }
}

impl<T> Remembered<T> {
    fn get(&mut self, key: u64) -> Option<&mut T> {
        if let Some(entry) = self.older.remove(&key) {
            return Some(self.get_or(key, entry));
        }
        self.recent.get_mut(&key)
    }

    fn get_or(&mut self, key: u64, first: T) -> &mut T {
        let kept = self.older.remove(&key).unwrap_or(first);
        if self.recent.len() >= REMEMBERED / 2 && !self.recent.contains_key(&key) {
            self.older = std::mem::take(&mut self.recent);
        }
        self.recent.entry(key).or_insert(kept)
    }

    fn insert(&mut self, key: u64, entry: T)
    where
        T: Copy,
    {
        *self.get_or(key, entry) = entry;
    }
}

/// Reports that differ in their message only.
struct Similar {
    /// Hashes of the messages, up to one more than [`MANY`].
    messages: SmallVec<[u64; 1]>,
    since: Timestamp,
}

#[derive(Default)]
struct Correlator {
    hasher: RandomState,
    /// By object: tokens left, when they were counted.
    spam: Remembered<(f64, Timestamp)>,
    /// By everything but the message.
    similar: Remembered<Similar>,
    /// By everything: when the event was made and how often it was told.
    recorded: Remembered<(Timestamp, i32)>,
}

impl Correlator {
    fn judge(&mut self, report: &Report) -> Verdict {
        let o = &report.object;
        let object = self
            .hasher
            .hash_one([&o.kind, &o.namespace, &o.name, &o.uid, &o.api_version]);
        let without_message = self
            .hasher
            .hash_one((object, &o.field_path, report.type_, &report.reason));
        let message = self.hasher.hash_one(&report.message);
        let first = Similar {
            messages: SmallVec::new(),
            since: report.at,
        };
        let similar = self.similar.get_or(without_message, first);
        if report.at.as_second() - similar.since.as_second() > SIMILAR_SECONDS {
            similar.messages.clear();
            similar.since = report.at;
        }
        if similar.messages.len() <= MANY && !similar.messages.contains(&message) {
            similar.messages.push(message);
        }
        let (key, message) = if similar.messages.len() > MANY {
            let message = format!("{COMBINED}{}", report.message);
            (without_message, message)
        } else {
            let key = self.hasher.hash_one((without_message, message));
            (key, report.message.clone())
        };
        let (tokens, counted) = self.spam.get_or(object, (BURST, report.at));
        let passed = report.at.duration_since(*counted).as_secs_f64().max(0.0);
        *tokens = (*tokens + passed / SECONDS_A_TOKEN).min(BURST);
        *counted = report.at;
        if *tokens < 1.0 {
            return Verdict::Drop;
        }
        *tokens -= 1.0;
        match self.recorded.get(key) {
            Some((since, count)) => {
                *count += 1;
                Verdict::Count {
                    since: *since,
                    count: *count,
                    message,
                    key,
                }
            }
            None => Verdict::Create { key, message },
        }
    }
}

async fn deliver(client: Client, source: EventSource, mut reports: mpsc::Receiver<Report>, mut bucket: Option<Bucket>) {
    let start = tokio::time::Instant::now();
    let mut correlator = Correlator::default();
    while let Some(report) = reports.recv().await {
        let verdict = correlator.judge(&report);
        if let Some(bucket) = &mut bucket
            && verdict != Verdict::Drop
        {
            let wait = bucket.take(start.elapsed().as_secs_f64());
            if wait > 0.0 {
                tokio::time::sleep(Duration::from_secs_f64(wait)).await;
            }
        }
        let outcome = match verdict {
            Verdict::Drop => continue,
            Verdict::Create { key, message } => {
                let made = create(&client, &source, &report, message, 1).await;
                made.map(|()| (key, (report.at, 1)))
            }
            Verdict::Count {
                key,
                since,
                count,
                message,
            } => {
                let namespace = namespace_of(&report.object);
                let name = name_of(&report.object, since);
                let patch = serde_json::json!({"count": count, "message": message, "lastTimestamp": Time(report.at)});
                match client.patch::<Event>(&namespace, &name, &Patch::Strategic(patch)).await {
                    Ok(_) => Ok((key, (since, count))),
                    // Events expire; the count goes on in a new one.
                    Err(error) if error.is_not_found() => {
                        let made = create(&client, &source, &report, message, count).await;
                        made.map(|()| (key, (report.at, count)))
                    }
                    Err(error) => Err(error),
                }
            }
        };
        match outcome {
            Ok((key, recorded)) => correlator.recorded.insert(key, recorded),
            Err(error) => tracing::debug!(reason = report.reason, %error, "event not recorded"),
        }
    }
}

/// The name of the event made of an object at a time.
pub(crate) fn name_of(object: &ObjectReference, at: Timestamp) -> String {
    format!(
        "{}.{:x}",
        object.name.as_deref().unwrap_or_default(),
        at.as_nanosecond()
    )
}

pub(crate) fn namespace_of(object: &ObjectReference) -> String {
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
) -> Result<(), Error> {
    let object = &report.object;
    // one that stands for many has no reporter of its own
    let combined = message.starts_with(COMBINED);
    let event = Event {
        metadata: ObjectMeta {
            name: Some(name_of(object, report.at)),
            namespace: Some(namespace_of(object)),
            ..ObjectMeta::default()
        },
        involved_object: object.clone(),
        reason: Some(report.reason.clone()),
        message: Some(message),
        type_: Some(report.type_.to_owned()),
        source: Some(source.clone()),
        reporting_component: source.component.clone().filter(|_| !combined),
        reporting_instance: Some(source.host.clone().unwrap_or_default()),
        first_timestamp: Some(Time(report.at)),
        last_timestamp: Some(Time(report.at)),
        count: Some(count),
        ..Event::default()
    };
    client.create(&event).await?;
    Ok(())
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
        let made = Timestamp::from_second(0).unwrap();
        correlator.recorded.insert(key, (made, 1));
        assert!(matches!(
            correlator.judge(&report("Pulled", "m", 1)),
            Verdict::Count { count: 2, since, .. } if since == made
        ));
        assert!(matches!(
            correlator.judge(&report("Pulled", "another", 1)),
            Verdict::Create { .. }
        ));
    }

    #[test]
    fn events_go_out_in_a_burst_and_then_at_their_rate() {
        let mut bucket = Bucket::new((2, 3));
        let waits: Vec<f64> = (0..5).map(|_| bucket.take(10.0)).collect();
        assert_eq!(waits, [0.0, 0.0, 0.0, 0.5, 1.0]);
        assert_eq!(bucket.take(11.0), 0.5);
        assert_eq!(bucket.take(100.0), 0.0);
        assert_eq!(Bucket::new((0, 1)).each, 5.0);
    }

    #[test]
    fn what_is_used_is_remembered_and_what_is_not_is_forgotten() {
        let mut remembered = Remembered::default();
        for key in 0..10 * REMEMBERED as u64 {
            *remembered.get_or(0, 0) += 1;
            remembered.insert(key + 1, 1);
            assert!(remembered.recent.len() + remembered.older.len() <= REMEMBERED);
        }
        assert_eq!(remembered.get(0), Some(&mut (10 * REMEMBERED)));
        assert_eq!(remembered.get(1), None);
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
