//! API priority and fairness: each request is of a flow schema, each schema of a priority level, and each level has seats; where they are
//! all taken, flows queue fairly (KEP-1040, `k8s.io/apiserver/pkg/util/flowcontrol`).

mod allocation;
mod configuration;
pub mod default;
mod demand;
mod dropped;
mod dump;
pub mod keep;
mod level;
mod metrics;
mod queue_set;
mod schema;
mod shuffle;
mod work;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use http::{Method, Uri};
use tokio::sync::oneshot;

use crate::http::request_info::{Query, RequestInfo};
use crate::http::user::User;
use crate::registry::Registry;
use crate::registry::cache::Cache;
use configuration::Configuration;
use level::{Level, State};
use queue_set::{Arrived, Width};
pub use schema::Schema;

/// The group of schemas and levels.
pub const GROUP: &str = "flowcontrol.apiserver.k8s.io";
/// The resource of schemas.
pub const SCHEMAS: &str = "flowschemas";
/// The resource of priority levels.
pub const LEVELS: &str = "prioritylevelconfigurations";

/// How often levels lend and give back.
const PERIOD: Duration = Duration::from_secs(10);
/// Periods after which nothing is left of a demand.
const FORGOTTEN: u32 = 400;
/// How long a request waits at most, whatever its time.
const LONGEST_WAIT: Duration = Duration::from_secs(60);

/// The levels of a server, and who is in them.
pub struct FlowControl {
    registry: Arc<Registry>,
    begun: (Instant, jiff::Timestamp),
    /// Requests at a time.
    seats: u32,
    caches: Option<[Arc<Cache>; 2]>,
    current: ArcSwap<Configuration>,
    compiling: Mutex<()>,
    /// A task looks after the demand of levels.
    ticking: AtomicBool,
    /// When demand was looked at last.
    looked: Mutex<Duration>,
    times: metrics::Times,
}

/// A request as it is classified and shown.
#[derive(Clone, Copy)]
pub struct Asked<'a> {
    pub info: &'a RequestInfo,
    pub query: &'a Query,
    pub user: &'a Arc<User>,
    pub method: &'a Method,
    pub uri: &'a Uri,
}

/// What became of a request, and the headers that tell its class.
pub struct Admission {
    pub schema: Arc<Schema>,
    /// A seat, or after how many seconds the client may try again.
    pub outcome: Result<Seat, u64>,
}

/// The seats of a request; others may take them when this is dropped.
pub struct Seat {
    control: Arc<FlowControl>,
    level: Arc<Level>,
    id: u64,
    width: Width,
    began: Duration,
}

impl Seat {
    /// Whether the request reads so much that it takes several seats while it is answered.
    pub fn is_wide(&self) -> bool {
        self.width.initial > 1
    }
}

impl std::fmt::Debug for Seat {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Seat")
            .field("level", &self.level.name)
            .field("id", &self.id)
            .finish()
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let now = self.control.now();
        let mut state = self.level.lock();
        let shown = state.shown.remove(&self.id);
        let next = state.set.finish(now, self.id);
        state.tell(next);
        self.control.wake_later(&self.level, &mut state);
        drop(state);
        if let Some(shown) = shown {
            let took = now.saturating_sub(self.began);
            let times = &self.control.times;
            times.executed(&shown.schema.name, &self.level.name, shown.watch, took);
        }
    }
}

/// A request that waits leaves its queue when its client does not wait any longer.
struct Waiter<'a> {
    control: &'a Arc<FlowControl>,
    level: &'a Arc<Level>,
    id: u64,
    left: bool,
}

impl Waiter<'_> {
    /// Leaves the queue; `false` when the request has been let go meanwhile.
    fn leave(&mut self) -> bool {
        self.left = true;
        let now = self.control.now();
        let mut state = self.level.lock();
        let next = state.set.give_up(now, self.id);
        if next.is_some() {
            state.waiters.remove(&self.id);
            if let Some(shown) = state.shown.remove(&self.id) {
                state.count(&shown.schema.name, |counts| counts.timed_out += 1);
            }
        }
        let waited = next.is_some();
        state.tell(next.unwrap_or_default());
        waited
    }
}

impl Drop for Waiter<'_> {
    fn drop(&mut self) {
        if !self.left && !self.leave() {
            // nobody is there to take the seats
            let now = self.control.now();
            let mut state = self.level.lock();
            state.shown.remove(&self.id);
            let next = state.set.finish(now, self.id);
            state.tell(next);
            self.control.wake_later(self.level, &mut state);
        }
    }
}

impl FlowControl {
    /// The flow control of a server that answers so many requests at a time.
    pub fn new(registry: &Arc<Registry>, seats: u32) -> Arc<FlowControl> {
        let catalog = registry.catalog();
        let cache = |plural| catalog.stored(GROUP, plural).map(|served| served.cache.clone());
        let caches = cache(SCHEMAS).zip(cache(LEVELS)).map(<[_; 2]>::from);
        let control = FlowControl {
            caches,
            registry: registry.clone(),
            begun: (Instant::now(), jiff::Timestamp::now()),
            seats,
            current: ArcSwap::default(),
            compiling: Mutex::default(),
            ticking: AtomicBool::new(false),
            looked: Mutex::default(),
            times: metrics::Times::default(),
        };
        control.compile();
        Arc::new(control)
    }

    /// The time since the start.
    fn now(&self) -> Duration {
        self.begun.0.elapsed()
    }

    /// Waits for seats; a quarter of `time` at most.
    pub async fn admit(self: &Arc<Self>, asked: Asked<'_>, time: Duration) -> Admission {
        self.refresh();
        let schema = self.current.load().classify(asked.info, asked.user);
        let level = schema.level.clone();
        self.tick_later();
        let came = self.now();
        let waits = level.name != level::EXEMPT;
        let (id, width, turn) = match self.arrive(&schema, &level, asked) {
            Ok(arrived) => arrived,
            Err(retry_after) => {
                let outcome = Err(retry_after);
                return Admission { schema, outcome };
            }
        };
        if let Some(turn) = turn {
            let mut waiter = Waiter {
                control: self,
                level: &level,
                id,
                left: false,
            };
            let patience = (time / 4).min(LONGEST_WAIT);
            let told = tokio::time::timeout(patience, turn).await;
            if !matches!(told, Ok(Ok(()))) && waiter.leave() {
                let waited = self.now().saturating_sub(came);
                self.times.waited(&schema.name, &level.name, false, waited);
                let outcome = Err(level.lock().dropped.note(self.now().as_secs()));
                return Admission { schema, outcome };
            }
            waiter.left = true;
        }
        let began = self.now();
        if waits {
            let waited = began.saturating_sub(came);
            self.times.waited(&schema.name, &level.name, true, waited);
        }
        self.times.estimated(&schema.name, &level.name, width.most());
        let control = self.clone();
        let outcome = Ok(Seat {
            control,
            level,
            id,
            width,
            began,
        });
        Admission { schema, outcome }
    }

    /// A request arrives at its level: its number, its width, and what it waits for if it does.
    fn arrive(
        self: &Arc<Self>,
        schema: &Arc<Schema>,
        level: &Arc<Level>,
        asked: Asked<'_>,
    ) -> Result<(u64, Width, Option<oneshot::Receiver<()>>), u64> {
        let flow = schema.distinguisher.read(asked.info, asked.user);
        let now = self.now();
        let (queues, widest) = {
            let state = level.lock();
            (state.queues(), state.widest())
        };
        let width = match queues {
            0 if level.name == level::EXEMPT => Width::of(1),
            _ => work::estimate(&self.registry, asked.info, asked.query, widest),
        };
        let hash = if queues > 1 {
            shuffle::hash(&schema.name, flow)
        } else {
            0
        };
        let mut state = level.lock();
        let id = state.number();
        let (arrived, others) = state.set.arrive(now, id, hash, width);
        state.tell(others);
        let refusal = match arrived {
            Arrived::Goes => {
                state.show(id, schema, asked, width, now);
                state.count(&schema.name, |counts| counts.dispatched += 1);
                return Ok((id, width, None));
            }
            Arrived::Waits => {
                state.show(id, schema, asked, width, now);
                let (sender, receiver) = oneshot::channel();
                state.waiters.insert(id, sender);
                self.wake_later(level, &mut state);
                return Ok((id, width, Some(receiver)));
            }
            Arrived::NoSeat => |counts: &mut level::Counts| counts.no_seat += 1,
            Arrived::QueueFull => |counts: &mut level::Counts| counts.queue_full += 1,
        };
        state.count(&schema.name, refusal);
        Err(state.dropped.note(now.as_secs()))
    }

    /// Somebody waits for seats that get free with time alone: a task will see to it.
    fn wake_later(self: &Arc<Self>, level: &Arc<Level>, state: &mut State) {
        let Some(at) = state.set.wake().filter(|_| !state.wakes) else {
            return;
        };
        // a runtime that ends answers nobody
        let Ok(runtime) = tokio::runtime::Handle::try_current() else {
            return;
        };
        state.wakes = true;
        let (control, level) = (self.clone(), level.clone());
        runtime.spawn(async move {
            tokio::time::sleep(at.saturating_sub(control.now())).await;
            let mut state = level.lock();
            state.wakes = false;
            let next = state.set.pass(control.now());
            state.tell(next);
            control.wake_later(&level, &mut state);
        });
    }

    /// Looks at the demand of levels from now on, until there was none for a whole period.
    fn tick_later(self: &Arc<Self>) {
        if self.ticking.load(Ordering::Relaxed) || self.ticking.swap(true, Ordering::AcqRel) {
            return;
        }
        let Ok(runtime) = tokio::runtime::Handle::try_current() else {
            return self.ticking.store(false, Ordering::Release);
        };
        let control = self.clone();
        runtime.spawn(async move {
            control.lend(true);
            loop {
                tokio::time::sleep(PERIOD).await;
                if !control.lend(false) {
                    break;
                }
            }
            control.ticking.store(false, Ordering::Release);
        });
    }
}
