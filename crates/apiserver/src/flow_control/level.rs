//! A priority level: its queues, who waits in them, and how many seats it has.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use http::{Method, Uri};
use serde::Deserialize;
use tokio::sync::oneshot;

use super::Asked;
use super::allocation::Wish;
use super::demand::Smoothed;
use super::dropped::Dropped;
use super::queue_set::{QueueSet, Queuing, Width};
use super::schema::Schema;
use super::shuffle::Dealer;
use crate::http::user::User;

/// The level that has no limit.
pub const EXEMPT: &str = "exempt";
/// The level of whom no schema names.
pub const CATCH_ALL: &str = "catch-all";

/// `flowcontrol.apiserver.k8s.io/v1` PriorityLevelConfigurationSpec.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct LevelSpec {
    r#type: String,
    limited: Option<Limited>,
    exempt: Option<Exempt>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Limited {
    nominal_concurrency_shares: Option<u32>,
    lendable_percent: Option<u32>,
    borrowing_limit_percent: Option<u32>,
    limit_response: Response,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
struct Response {
    queuing: Option<QueuingSpec>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct QueuingSpec {
    queues: usize,
    hand_size: usize,
    queue_length_limit: usize,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Exempt {
    nominal_concurrency_shares: Option<u32>,
    lendable_percent: Option<u32>,
}

/// Shares of a level that does not say.
const SHARES: u32 = 30;

/// What a level's object comes to.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    pub exempt: bool,
    pub shares: u32,
    lendable: u32,
    borrowing: Option<u32>,
    queuing: Queuing,
    hand: usize,
}

impl Settings {
    /// Reads a spec; `None` for one that cannot be obeyed, which nobody could have stored.
    pub fn read(name: &str, spec: &LevelSpec) -> Option<Settings> {
        let exempt = spec.r#type == "Exempt";
        if exempt != (name == EXEMPT) || exempt == spec.limited.is_some() {
            return None;
        }
        if exempt {
            let of = spec.exempt.clone().unwrap_or_default();
            return Some(Settings {
                exempt: true,
                shares: of.nominal_concurrency_shares.unwrap_or(0),
                lendable: of.lendable_percent.unwrap_or(0),
                borrowing: None,
                queuing: Queuing::Exempt,
                hand: 1,
            });
        }
        let of = spec.limited.as_ref()?;
        let (queuing, hand) = match &of.limit_response.queuing {
            None => (Queuing::Reject, 1),
            Some(spec) => (
                Queuing::Queue {
                    dealer: Dealer::new(spec.queues, spec.hand_size)?,
                    length: spec.queue_length_limit,
                },
                spec.hand_size,
            ),
        };
        Some(Settings {
            exempt: false,
            shares: of.nominal_concurrency_shares.unwrap_or(SHARES),
            lendable: of.lendable_percent.unwrap_or(0),
            borrowing: of.borrowing_limit_percent,
            queuing,
            hand,
        })
    }
}

/// What dumps show of a request; nothing of it is copied.
#[derive(Debug, Clone)]
pub struct Shown {
    pub schema: Arc<Schema>,
    pub user: Arc<User>,
    pub method: Method,
    pub uri: Uri,
    pub width: Width,
    pub arrived: Duration,
    pub watch: bool,
}

/// Counts of one schema at a level.
#[derive(Debug, Clone, Copy, Default)]
pub struct Counts {
    pub dispatched: u64,
    pub queue_full: u64,
    pub no_seat: u64,
    /// Those that waited too long, or whose clients went away.
    pub timed_out: u64,
}

/// What a level's lock guards.
#[derive(Debug)]
pub struct State {
    pub settings: Settings,
    pub set: QueueSet,
    /// Who is told when a request may go.
    pub waiters: HashMap<u64, oneshot::Sender<()>>,
    /// All requests that wait or go.
    pub shown: HashMap<u64, Shown>,
    next: u64,
    /// Seats without lending and borrowing, and the bounds of both.
    pub nominal: u32,
    pub least: u32,
    pub most: u32,
    pub demand: Smoothed,
    /// Its object is gone, and it is only kept for who is in it.
    pub quiescing: bool,
    /// A task waits for seats that get free with time.
    pub wakes: bool,
    pub counts: BTreeMap<String, Counts>,
    pub dropped: Dropped,
}

/// A priority level.
#[derive(Debug)]
pub struct Level {
    pub name: String,
    state: Mutex<State>,
}

impl Level {
    /// A level that has no seats yet: its limit is set once those of all levels are known.
    pub fn new(name: &str, settings: Settings, now: Duration) -> Level {
        let set = QueueSet::new(settings.queuing.clone(), 0, now);
        Level {
            name: name.to_owned(),
            state: Mutex::new(State {
                settings,
                set,
                waiters: HashMap::new(),
                shown: HashMap::new(),
                next: 0,
                nominal: 0,
                least: 0,
                most: 0,
                demand: Smoothed::default(),
                quiescing: false,
                wakes: false,
                counts: BTreeMap::new(),
                dropped: Dropped::default(),
            }),
        }
    }

    /// The state, held until the guard is dropped.
    pub fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// The number of a new request.
    pub fn number(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    /// Tells requests that they may go.
    pub fn tell(&mut self, next: Vec<u64>) {
        for id in next {
            // who does not wait any longer gives its seat back by itself
            if let Some(waiter) = self.waiters.remove(&id) {
                if let Some(schema) = self.shown.get(&id).map(|shown| shown.schema.clone()) {
                    self.count(&schema.name, |counts| counts.dispatched += 1);
                }
                let _ = waiter.send(());
            }
        }
    }

    /// Keeps what dumps show of a request.
    pub fn show(&mut self, id: u64, schema: &Arc<Schema>, asked: Asked<'_>, width: Width, arrived: Duration) {
        let shown = Shown {
            schema: schema.clone(),
            user: asked.user.clone(),
            method: asked.method.clone(),
            uri: asked.uri.clone(),
            width,
            arrived,
            watch: asked.info.verb == "watch",
        };
        self.shown.insert(id, shown);
    }

    /// How many queues there are to choose from.
    pub fn queues(&self) -> usize {
        match &self.settings.queuing {
            Queuing::Queue { dealer, .. } => dealer.queues(),
            Queuing::Exempt | Queuing::Reject => 0,
        }
    }

    /// Gives the level its part of the server's seats.
    pub fn share(&mut self, seats: u32, shares: u32) {
        let settings = &self.settings;
        let part = |percent: u32, of: u32| (f64::from(of) * f64::from(percent) / 100.0).round() as u32;
        self.nominal = match shares {
            0 => 0,
            all => (f64::from(seats) * f64::from(settings.shares) / f64::from(all)).ceil() as u32,
        };
        let lendable = part(settings.lendable, self.nominal);
        self.least = self.nominal - lendable.min(self.nominal);
        let borrows = settings.borrowing.map_or(seats, |percent| part(percent, self.nominal));
        self.most = self.nominal.saturating_add(borrows);
    }

    /// The most seats that one request takes here.
    pub fn widest(&self) -> u32 {
        let hand = u32::try_from(self.settings.hand).unwrap_or(u32::MAX).max(1);
        match &self.settings.queuing {
            Queuing::Queue { .. } => {
                let part = (f64::from(self.nominal) * 0.15).ceil() as u32;
                part.min(self.nominal / hand).max(1)
            }
            // nothing is worked out for it
            Queuing::Exempt | Queuing::Reject => u32::MAX,
        }
    }

    /// The seats that the level wants in this period, and what bounds them.
    pub fn wish(&self) -> Wish {
        Wish {
            exempt: self.settings.exempt,
            nominal: self.nominal,
            least: self.least,
            most: self.most,
            peak: self.demand.last.most,
            smoothed: self.demand.smoothed,
        }
    }

    /// Obeys changed settings.
    pub fn configure(&mut self, now: Duration, settings: Settings) {
        self.quiescing = false;
        if self.settings == settings {
            return;
        }
        self.settings = settings;
        let limit = self.set.limit();
        let next = self.set.configure(now, self.settings.queuing.clone(), limit);
        self.tell(next);
    }

    /// Sets how many seats may be taken, and wakes the requests that now fit.
    pub fn set_limit(&mut self, now: Duration, limit: u32) {
        let next = self.set.set_limit(now, limit);
        self.tell(next);
    }

    /// Changes the counts of the level's requests of a schema.
    pub fn count(&mut self, schema: &str, note: impl FnOnce(&mut Counts)) {
        match self.counts.get_mut(schema) {
            Some(counts) => note(counts),
            None => note(self.counts.entry(schema.to_owned()).or_default()),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn seats_are_shared_as_upstream_shares_them() {
        let level = |name: &str, spec: serde_json::Value| {
            let spec: LevelSpec = serde_json::from_value(spec).unwrap();
            Level::new(name, Settings::read(name, &spec).unwrap(), Duration::ZERO)
        };
        let queuing = json!({ "queues": 128, "handSize": 6, "queueLengthLimit": 50 });
        let low = level(
            "workload-low",
            json!({ "type": "Limited", "limited": {
            "nominalConcurrencyShares": 100, "lendablePercent": 90, "limitResponse": { "type": "Queue", "queuing": queuing },
        } }),
        );
        let mut state = low.lock();
        state.share(600, 245);
        assert_eq!((state.nominal, state.least, state.most), (245, 24, 845));
        assert_eq!(state.widest(), 37);
        let bounded = level(
            "x",
            json!({ "type": "Limited", "limited": {
            "nominalConcurrencyShares": 5, "borrowingLimitPercent": 50, "limitResponse": { "type": "Reject" },
        } }),
        );
        let mut state = bounded.lock();
        state.share(600, 245);
        assert_eq!((state.nominal, state.least, state.most), (13, 13, 20));
        let exempt = json!({ "type": "Exempt", "exempt": {} });
        let exempt: LevelSpec = serde_json::from_value(exempt).unwrap();
        assert!(Settings::read("exempt", &exempt).is_some() && Settings::read("other", &exempt).is_none());
    }
}
