//! Events that wait to be delivered: a bounded queue, and the task that delivers what it holds in batches
//! (`plugin/pkg/audit/buffered`). With nothing in the queue there is no timer.

use std::future::Future;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::mpsc::{self, error::TrySendError};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until, timeout_at};
use tokio_util::task::TaskTracker;

/// How events are gathered.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct BatchConfig {
    /// Events that wait; what comes when there are so many is lost.
    pub buffer: usize,
    /// Events of a batch.
    pub max_size: usize,
    /// How long the first event of a batch waits for others.
    pub max_wait: Duration,
    /// Batches a second, and how many may come at once.
    pub throttle: Option<(f32, u32)>,
    /// Bytes of a batch; one event may have more.
    pub max_bytes: Option<u64>,
    /// Whether a batch is delivered beside the next one.
    pub concurrent: bool,
}

/// The queue and its task.
#[derive(Debug)]
pub struct Batches {
    sender: Mutex<Option<mpsc::Sender<Vec<u8>>>>,
    task: Mutex<Option<JoinHandle<()>>>,
}

/// Why an event is not in the queue.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum QueueError {
    #[error("audit buffer queue blocked")]
    Full,
    #[error("audit backend shut down")]
    Closed,
}

impl Batches {
    /// Starts the task. `deliver` is handed the events of a batch.
    pub fn start<F: Future<Output = ()> + Send + 'static>(
        config: BatchConfig,
        deliver: impl Fn(Vec<Vec<u8>>) -> F + Send + 'static,
    ) -> Batches {
        let (sender, receiver) = mpsc::channel(config.buffer.max(1));
        Batches {
            sender: Mutex::new(Some(sender)),
            task: Mutex::new(Some(tokio::spawn(run(config, receiver, deliver)))),
        }
    }

    /// Puts an event at the end of the queue.
    ///
    /// # Errors
    /// When there is no room, or no task any more.
    pub fn put(&self, event: Vec<u8>) -> Result<(), QueueError> {
        let sender = self.sender.lock().unwrap_or_else(PoisonError::into_inner);
        let sender = sender.as_ref().ok_or(QueueError::Closed)?;
        sender.try_send(event).map_err(|error| match error {
            TrySendError::Full(_) => QueueError::Full,
            TrySendError::Closed(_) => QueueError::Closed,
        })
    }

    /// Takes no more, and waits until everything is delivered.
    pub async fn close(&self) {
        drop(self.sender.lock().unwrap_or_else(PoisonError::into_inner).take());
        let task = self.task.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(task) = task
            && let Err(error) = task.await
        {
            tracing::error!(%error, "audit events are lost");
        }
    }
}

async fn run<F: Future<Output = ()> + Send + 'static>(
    config: BatchConfig,
    mut queue: mpsc::Receiver<Vec<u8>>,
    deliver: impl Fn(Vec<Vec<u8>>) -> F,
) {
    let mut bucket = config.throttle.map(|(rate, burst)| Bucket::new(rate, burst));
    let delivering = TaskTracker::new();
    let mut over = None;
    while let Some(first) = next(&mut over, &mut queue).await {
        let until = Instant::now() + config.max_wait;
        let mut bytes = first.len() as u64;
        let mut batch = vec![first];
        while batch.len() < config.max_size {
            let Ok(Some(event)) = timeout_at(until, queue.recv()).await else {
                break;
            };
            bytes += event.len() as u64;
            if config.max_bytes.is_some_and(|most| bytes > most) {
                over = Some(event);
                break;
            }
            batch.push(event);
        }
        if let Some(bucket) = &mut bucket {
            sleep_until(bucket.take(Instant::now())).await;
        }
        match config.concurrent {
            true => drop(delivering.spawn(deliver(batch))),
            false => deliver(batch).await,
        }
    }
    delivering.close();
    delivering.wait().await;
}

async fn next(over: &mut Option<Vec<u8>>, queue: &mut mpsc::Receiver<Vec<u8>>) -> Option<Vec<u8>> {
    match over.take() {
        Some(event) => Some(event),
        None => queue.recv().await,
    }
}

/// A token bucket.
struct Bucket {
    every: Duration,
    burst: u32,
    /// When the bucket would be full again.
    full_at: Option<Instant>,
}

impl Bucket {
    fn new(rate: f32, burst: u32) -> Bucket {
        Bucket {
            every: Duration::try_from_secs_f32(1.0 / rate).unwrap_or(Duration::MAX),
            burst: burst.max(1),
            full_at: None,
        }
    }

    /// Takes a token; when it is there.
    fn take(&mut self, now: Instant) -> Instant {
        let full_at = self.full_at.map_or(now, |at| at.max(now)) + self.every;
        self.full_at = Some(full_at);
        now.max(full_at.checked_sub(self.every * self.burst).unwrap_or(now))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    const CONFIG: BatchConfig = BatchConfig {
        buffer: 4,
        max_size: 2,
        max_wait: Duration::from_secs(30),
        throttle: None,
        max_bytes: None,
        concurrent: false,
    };

    type Delivered = Arc<Mutex<Vec<(u64, Vec<usize>)>>>;

    fn start(config: BatchConfig) -> (Batches, Delivered) {
        let delivered = Delivered::default();
        let (all, begun) = (delivered.clone(), Instant::now());
        let batches = Batches::start(config, move |batch| {
            let all = all.clone();
            async move {
                let lengths = batch.iter().map(Vec::len).collect();
                all.lock().unwrap().push((begun.elapsed().as_secs(), lengths));
            }
        });
        (batches, delivered)
    }

    #[tokio::test(start_paused = true)]
    async fn a_batch_is_delivered_when_it_is_full_or_has_waited_and_at_the_end() {
        let (batches, delivered) = start(CONFIG);
        for length in [1, 2, 3] {
            batches.put(vec![0; length]).unwrap();
        }
        tokio::time::sleep(Duration::from_secs(40)).await;
        assert_eq!(*delivered.lock().unwrap(), [(0, vec![1, 2]), (30, vec![3])]);
        batches.put(vec![0; 4]).unwrap();
        batches.close().await;
        assert_eq!(delivered.lock().unwrap().last().unwrap().1, [4]);
        assert_eq!(batches.put(Vec::new()), Err(QueueError::Closed));
    }

    #[tokio::test(start_paused = true)]
    async fn what_has_no_room_is_lost_and_bytes_bound_a_batch() {
        let (batches, delivered) = start(BatchConfig {
            max_size: 100,
            max_bytes: Some(5),
            ..CONFIG
        });
        for length in [3, 2, 1, 9] {
            batches.put(vec![0; length]).unwrap();
        }
        assert_eq!(batches.put(Vec::new()), Err(QueueError::Full));
        batches.close().await;
        let lengths: Vec<Vec<usize>> = delivered
            .lock()
            .unwrap()
            .iter()
            .map(|(_, batch)| batch.clone())
            .collect();
        assert_eq!(lengths, [vec![3, 2], vec![1], vec![9]]);
    }

    #[tokio::test(start_paused = true)]
    async fn batches_come_no_faster_than_they_may() {
        let (batches, delivered) = start(BatchConfig {
            buffer: 100,
            max_size: 1,
            throttle: Some((0.5, 3)),
            ..CONFIG
        });
        for _ in 0..6 {
            batches.put(vec![0]).unwrap();
        }
        batches.close().await;
        let times: Vec<u64> = delivered.lock().unwrap().iter().map(|(at, _)| *at).collect();
        assert_eq!(times, [0, 0, 0, 2, 4, 6]);
    }
}
