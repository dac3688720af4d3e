//! Keys waiting to be reconciled: each at most once in line, never by two workers at once, later again after failures.

use std::collections::{HashMap, VecDeque};
use std::fmt::{Debug, Display};
use std::future::Future;
use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

use crate::queue_metrics::{Busy, Counted, QueueMetrics};

/// How long a failing key waits: `base` doubled with every failure, at most `max`.
#[derive(Debug, Clone, Copy)]
pub struct Backoff {
    /// The wait after the first failure.
    pub base: Duration,
    /// The longest wait.
    pub max: Duration,
}

impl Default for Backoff {
    fn default() -> Backoff {
        Backoff {
            base: Duration::from_millis(5),
            max: Duration::from_secs(1000),
        }
    }
}

impl Backoff {
    /// The wait after this many failures before.
    pub fn delay(&self, failures: u32) -> Duration {
        self.base.saturating_mul(2u32.saturating_pow(failures)).min(self.max)
    }
}

struct State<K> {
    line: VecDeque<K>,
    /// Added since the worker took it, or waiting in line, and when that was.
    dirty: HashMap<K, Instant>,
    /// With the workers, and since when.
    processing: HashMap<K, Instant>,
    failures: HashMap<K, u32>,
    /// The earliest time a key comes back by itself.
    waiting: HashMap<K, Instant>,
    shut_down: bool,
}

struct Inner<K> {
    state: Mutex<State<K>>,
    wake: Notify,
    backoff: Backoff,
    counted: Counted,
}

impl<K: Send> Busy for Inner<K> {
    fn times(&self, now: Instant) -> Vec<Duration> {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let since = state.processing.values();
        since.map(|since| now.saturating_duration_since(*since)).collect()
    }
}

/// A queue of keys. Cheap to clone.
pub struct WorkQueue<K> {
    inner: Arc<Inner<K>>,
}

impl<K> Clone for WorkQueue<K> {
    fn clone(&self) -> Self {
        WorkQueue {
            inner: self.inner.clone(),
        }
    }
}

impl<K: Eq + Hash + Clone + Send + 'static> Default for WorkQueue<K> {
    fn default() -> Self {
        WorkQueue::new(Backoff::default())
    }
}

impl<K: Eq + Hash + Clone + Send + 'static> WorkQueue<K> {
    /// An empty queue that counts nothing.
    pub fn new(backoff: Backoff) -> WorkQueue<K> {
        WorkQueue::with(backoff, Counted::default())
    }

    /// A queue that is counted under a name.
    pub fn named(name: &str, metrics: &QueueMetrics) -> WorkQueue<K> {
        let queue = WorkQueue::with(Backoff::default(), metrics.queue(name));
        let inner: Arc<dyn Busy> = queue.inner.clone();
        metrics.watch(name, &inner);
        queue
    }

    fn with(backoff: Backoff, counted: Counted) -> WorkQueue<K> {
        let state = State {
            line: VecDeque::new(),
            dirty: HashMap::new(),
            processing: HashMap::new(),
            failures: HashMap::new(),
            waiting: HashMap::new(),
            shut_down: false,
        };
        WorkQueue {
            inner: Arc::new(Inner {
                state: Mutex::new(state),
                wake: Notify::new(),
                backoff,
                counted,
            }),
        }
    }

    fn state(&self) -> MutexGuard<'_, State<K>> {
        self.inner.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts a key in line unless it is there; one being worked on comes again after that.
    pub fn add(&self, key: K) {
        let mut state = self.state();
        if state.shut_down || state.dirty.contains_key(&key) {
            return;
        }
        state.dirty.insert(key.clone(), Instant::now());
        self.inner.counted.added();
        if state.processing.contains_key(&key) {
            return;
        }
        state.line.push_back(key);
        self.inner.counted.depth(state.line.len());
        drop(state);
        self.inner.wake.notify_one();
    }

    /// Adds the key after a while; an earlier time already set stands.
    pub fn add_after(&self, key: K, delay: Duration) {
        if delay.is_zero() {
            return self.add(key);
        }
        let at = Instant::now() + delay;
        {
            let mut state = self.state();
            if state.shut_down || state.waiting.get(&key).is_some_and(|set| *set <= at) {
                return;
            }
            state.waiting.insert(key.clone(), at);
        }
        let queue = Arc::downgrade(&self.inner);
        tokio::spawn(async move {
            tokio::time::sleep_until(at).await;
            let Some(inner) = queue.upgrade() else { return };
            let queue = WorkQueue { inner };
            {
                let mut state = queue.state();
                if state.waiting.get(&key) != Some(&at) {
                    return;
                }
                state.waiting.remove(&key);
            }
            queue.add(key);
        });
    }

    /// Adds the key after the wait its failures so far deserve.
    pub fn add_rate_limited(&self, key: K) {
        let delay = {
            let mut state = self.state();
            let failures = state.failures.entry(key.clone()).or_insert(0);
            let delay = self.inner.backoff.delay(*failures);
            *failures = failures.saturating_add(1);
            delay
        };
        self.inner.counted.retried();
        self.add_after(key, delay);
    }

    /// Forgets the failures of a key.
    pub fn forget(&self, key: &K) {
        self.state().failures.remove(key);
    }

    /// How often the key failed in a row.
    pub fn failures(&self, key: &K) -> u32 {
        self.state().failures.get(key).copied().unwrap_or(0)
    }

    /// The next key, to be given back with [`done`](Self::done); `None` once the queue is shut down and empty.
    pub async fn next(&self) -> Option<K> {
        loop {
            let notified = self.inner.wake.notified();
            {
                let mut state = self.state();
                if let Some(key) = state.line.pop_front() {
                    let now = Instant::now();
                    if let Some(since) = state.dirty.remove(&key) {
                        self.inner.counted.waited(now.saturating_duration_since(since));
                    }
                    state.processing.insert(key.clone(), now);
                    self.inner.counted.depth(state.line.len());
                    if !state.line.is_empty() {
                        self.inner.wake.notify_one();
                    }
                    return Some(key);
                }
                if state.shut_down {
                    self.inner.wake.notify_one();
                    return None;
                }
            }
            notified.await;
        }
    }

    /// Says that the work on a key has ended; a key that was added meanwhile is in line again.
    pub fn done(&self, key: &K) {
        let mut state = self.state();
        if let Some(since) = state.processing.remove(key) {
            self.inner.counted.worked(since.elapsed());
        }
        if state.dirty.contains_key(key) {
            state.line.push_back(key.clone());
            self.inner.counted.depth(state.line.len());
            drop(state);
            self.inner.wake.notify_one();
        } else if state.shut_down {
            drop(state);
            self.inner.wake.notify_one();
        }
    }

    /// How many keys are in line.
    pub fn len(&self) -> usize {
        self.state().line.len()
    }

    /// Returns whether no key is in line.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Accepts nothing more; what is in line is still worked on.
    pub fn shut_down(&self) {
        self.state().shut_down = true;
        self.inner.wake.notify_one();
    }
}

/// Works on a queue with `workers` tasks until it is shut down. `Ok(Some(d))` brings the key back after `d`;
/// an error brings it back rate-limited and is logged.
pub async fn run_workers<K, F, Fut, E>(queue: WorkQueue<K>, workers: usize, reconcile: F)
where
    K: Eq + Hash + Clone + Debug + Send + 'static,
    F: Fn(K) -> Fut + Clone + Send + 'static,
    Fut: Future<Output = Result<Option<Duration>, E>> + Send,
    E: Display + Send,
{
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..workers.max(1) {
        let (queue, reconcile) = (queue.clone(), reconcile.clone());
        tasks.spawn(async move {
            while let Some(key) = queue.next().await {
                match reconcile(key.clone()).await {
                    Ok(None) => queue.forget(&key),
                    Ok(Some(delay)) => {
                        queue.forget(&key);
                        queue.add_after(key.clone(), delay);
                    }
                    Err(error) => {
                        tracing::warn!(?key, %error, "reconcile failed");
                        queue.add_rate_limited(key.clone());
                    }
                }
                queue.done(&key);
            }
        });
    }
    while tasks.join_next().await.is_some() {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_key_is_in_line_once_and_never_with_two_workers() {
        let queue = WorkQueue::default();
        queue.add("a");
        queue.add("a");
        assert_eq!(queue.len(), 1);
        assert_eq!(queue.next().await, Some("a"));
        queue.add("a");
        assert!(queue.is_empty(), "it waits until the first worker is done");
        queue.done(&"a");
        assert_eq!(queue.next().await, Some("a"));
        queue.done(&"a");
        queue.shut_down();
        assert_eq!(queue.next().await, None);
        assert_eq!(queue.next().await, None);
    }

    #[tokio::test(start_paused = true)]
    async fn failures_double_the_wait_until_forgotten() {
        let queue = WorkQueue::new(Backoff {
            base: Duration::from_secs(1),
            max: Duration::from_secs(3),
        });
        let started = Instant::now();
        for expected in [1, 3, 6, 9] {
            queue.add_rate_limited("a");
            assert_eq!(queue.next().await, Some("a"));
            queue.done(&"a");
            assert_eq!(started.elapsed().as_secs(), expected);
        }
        queue.forget(&"a");
        assert_eq!(queue.failures(&"a"), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn the_earlier_of_two_times_counts() {
        let queue = WorkQueue::default();
        let started = Instant::now();
        queue.add_after("a", Duration::from_secs(60));
        queue.add_after("a", Duration::from_secs(5));
        queue.add_after("a", Duration::from_secs(30));
        assert_eq!(queue.next().await, Some("a"));
        assert_eq!(started.elapsed().as_secs(), 5);
    }
}
