//! The load generator: N clients, each on its own connection with one request at a time, against any API server.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::Barrier;
use tokio::task::JoinSet;

use crate::error::{Error, Result};
use crate::http::{Call, Endpoint};
use crate::process::Groups;

/// How long the clients go on.
#[derive(Debug, Clone, Copy)]
pub enum Extent {
    For(Duration),
    /// Requests of each client.
    Each(usize),
}

/// What came of it.
#[derive(Debug, Clone, Copy)]
pub struct Outcome {
    pub requests: usize,
    pub elapsed: Duration,
    /// Processor time of the server's processes.
    pub cpu: Duration,
}

impl Outcome {
    pub fn per_second(&self) -> f64 {
        self.requests as f64 / self.elapsed.as_secs_f64()
    }

    /// Seconds of server processor time a request.
    pub fn cpu_each(&self) -> f64 {
        self.cpu.as_secs_f64() / self.requests.max(1) as f64
    }
}

/// Runs `clients` until `extent`; `call` makes the `i`th request of a client. Every answer must be a success.
pub async fn run(
    endpoint: &Endpoint,
    groups: &Groups,
    clients: usize,
    extent: Extent,
    call: impl Fn(usize, usize) -> Call + Send + Sync + 'static,
) -> Result<Outcome> {
    let call = Arc::new(call);
    // connected before the clock starts
    let barrier = Arc::new(Barrier::new(clients + 1));
    let mut tasks = JoinSet::new();
    for client in 0..clients {
        let mut connection = endpoint.connect().await?;
        let (call, barrier) = (call.clone(), barrier.clone());
        tasks.spawn(async move {
            barrier.wait().await;
            let started = Instant::now();
            let mut done = 0;
            while match extent {
                Extent::For(time) => started.elapsed() < time,
                Extent::Each(count) => done < count,
            } {
                let call = call(client, done);
                let request = format!("{} {}", call.method, call.path);
                let (status, _) = connection.measure(call).await?;
                if !status.is_success() {
                    return Err(Error::Refused {
                        request,
                        status,
                        message: String::new(),
                    });
                }
                done += 1;
            }
            Ok(done)
        });
    }
    let cpu = groups.cpu()?;
    barrier.wait().await;
    let started = Instant::now();
    let mut requests = 0;
    while let Some(done) = tasks.join_next().await {
        requests += done??;
    }
    Ok(Outcome {
        requests,
        elapsed: started.elapsed(),
        cpu: groups.cpu()? - cpu,
    })
}
