//! Where long work is done: requests with large bodies are decoded, checked and written on a thread of their own, one at a
//! time, so that the threads which answer everybody else never wait for them.

use std::future::Future;
use std::sync::{Mutex, PoisonError};

use tokio::runtime::{Builder, Handle, Runtime};
use tokio::sync::Semaphore;

use crate::http::status::{ApiError, Result};

/// What the threads that answer need of a stack, in bytes: patterns of definitions may nest a thousand deep, as Go's. Only what is
/// used takes memory.
pub const STACK: usize = 8 << 20;

/// A body above this is long work.
const LONG: usize = 128 << 10;
/// A document in YAML above this is: what reads YAML keeps hundreds of bytes for a character.
const LONG_YAML: usize = 16 << 10;

/// Whether a body of so many bytes is long work.
pub fn is_long(bytes: usize, yaml: bool) -> bool {
    bytes > if yaml { LONG_YAML } else { LONG }
}

/// A thread that is started when it is needed first.
#[derive(Debug)]
pub struct Lane {
    runtime: Mutex<Option<Runtime>>,
    turn: Semaphore,
    give_back: fn(),
}

impl Lane {
    /// `give_back` returns the memory that some work has left to the system.
    pub fn new(give_back: fn()) -> Lane {
        Lane {
            runtime: Mutex::default(),
            turn: Semaphore::new(1),
            give_back,
        }
    }

    fn handle(&self) -> Result<Handle> {
        let mut runtime = self.runtime.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(runtime) = &*runtime {
            return Ok(runtime.handle().clone());
        }
        let made = Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("long-work")
            .thread_stack_size(STACK)
            .enable_all()
            .build()
            .map_err(ApiError::internal)?;
        Ok(runtime.insert(made).handle().clone())
    }

    /// Does some work there.
    ///
    /// # Errors
    /// `500` when there can be no thread.
    pub async fn run<T: Send + 'static>(&self, work: impl Future<Output = T> + Send + 'static) -> Result<T> {
        let _turn = self.turn.acquire().await.map_err(ApiError::internal)?;
        let give_back = self.give_back;
        let work = async move {
            let done = work.await;
            give_back();
            done
        };
        self.handle()?.spawn(work).await.map_err(ApiError::internal)
    }
}

impl Drop for Lane {
    fn drop(&mut self) {
        // a runtime may not wait for its threads on another one's
        let runtime = self.runtime.get_mut().unwrap_or_else(PoisonError::into_inner);
        if let Some(runtime) = runtime.take() {
            runtime.shutdown_background();
        }
    }
}
