//! Leader election over a `coordination.k8s.io/v1` Lease: one of several instances acts at a time.

use std::future::Future;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::watch::jittered;
use crate::{Client, Error};

/// Why an elected instance stopped.
#[derive(Debug, thiserror::Error)]
pub enum LeaderError {
    /// The lease was not renewed in time, or another instance has it.
    #[error("lease {0} was lost")]
    Lost(String),
}

/// Takes part in the election for one lease.
#[derive(Debug, Clone)]
pub struct LeaderElector {
    /// The way to the lease.
    pub client: Client,
    /// The lease's namespace.
    pub namespace: String,
    /// The lease's name.
    pub name: String,
    /// Unique to this instance.
    pub identity: String,
    /// How long others wait for a leader that says nothing.
    pub lease_duration: Duration,
    /// How long a leader tries to renew before it gives up.
    pub renew_deadline: Duration,
    /// Time between tries.
    pub retry_period: Duration,
}

/// A rival's record as last seen, and when it was first seen on our own clock: clocks of other machines are not compared.
struct Observed {
    lease: Lease,
    at: Instant,
}

impl LeaderElector {
    /// With upstream's 15 s lease, 10 s deadline and 2 s retries.
    pub fn new(client: Client, namespace: &str, name: &str, identity: &str) -> LeaderElector {
        LeaderElector {
            client,
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            identity: identity.to_owned(),
            lease_duration: Duration::from_secs(15),
            renew_deadline: Duration::from_secs(10),
            retry_period: Duration::from_secs(2),
        }
    }

    /// Waits to be elected, then runs `lead` until it ends, `shutdown` comes (the lease is then given back) or the lease is lost.
    /// The token given to `lead` is cancelled when it must stop.
    pub async fn run<F, Fut>(&self, shutdown: CancellationToken, lead: F) -> Result<(), LeaderError>
    where
        F: FnOnce(CancellationToken) -> Fut,
        Fut: Future<Output = ()>,
    {
        let mut observed = None;
        loop {
            tokio::select! {
                () = shutdown.cancelled() => return Ok(()),
                held = self.try_acquire(&mut observed) => match held {
                    Ok(true) => break,
                    Ok(false) => {}
                    Err(error) => tracing::warn!(lease = self.name, %error, "cannot take part in the election"),
                },
            }
            tokio::select! {
                () = shutdown.cancelled() => return Ok(()),
                () = tokio::time::sleep(jittered(self.retry_period)) => {}
            }
        }
        tracing::info!(lease = self.name, identity = self.identity, "elected leader");
        let stop = shutdown.child_token();
        let outcome = tokio::select! {
            () = lead(stop.clone()) => Ok(()),
            () = self.renew(&mut observed) => Err(LeaderError::Lost(format!("{}/{}", self.namespace, self.name))),
            () = shutdown.cancelled() => Ok(()),
        };
        stop.cancel();
        if outcome.is_ok() {
            self.release().await;
        }
        outcome
    }

    /// Returns when the lease is lost.
    async fn renew(&self, observed: &mut Option<Observed>) {
        let mut renewed = Instant::now();
        loop {
            tokio::time::sleep(self.retry_period).await;
            match tokio::time::timeout(self.renew_deadline, self.try_acquire(observed)).await {
                Ok(Ok(true)) => renewed = Instant::now(),
                Ok(Ok(false)) => return,
                Ok(Err(error)) => tracing::warn!(lease = self.name, %error, "cannot renew the lease"),
                Err(_) => return,
            }
            if renewed.elapsed() > self.renew_deadline {
                return;
            }
        }
    }

    /// One try to take or renew the lease.
    async fn try_acquire(&self, observed: &mut Option<Observed>) -> Result<bool, Error> {
        let now = MicroTime(Timestamp::now());
        let lease: Lease = match self.client.get(&self.namespace, &self.name).await {
            Ok(lease) => lease,
            Err(error) if error.is_not_found() => {
                let lease = Lease {
                    metadata: ObjectMeta {
                        namespace: Some(self.namespace.clone()),
                        name: Some(self.name.clone()),
                        ..ObjectMeta::default()
                    },
                    spec: Some(self.spec(&now, None)),
                };
                return match self.client.create(&lease).await {
                    Ok(_) => Ok(true),
                    Err(error) if error.is_already_exists() => Ok(false),
                    Err(error) => Err(error),
                };
            }
            Err(error) => return Err(error),
        };
        let old = lease.spec.clone().unwrap_or_default();
        let holder = old.holder_identity.as_deref().unwrap_or_default();
        if observed.as_ref().is_none_or(|o| o.lease.spec != lease.spec) {
            *observed = Some(Observed {
                lease: lease.clone(),
                at: Instant::now(),
            });
        }
        let valid = u64::try_from(old.lease_duration_seconds.unwrap_or(0)).unwrap_or(0);
        let fresh = observed
            .as_ref()
            .is_some_and(|o| o.at.elapsed() < Duration::from_secs(valid));
        if !holder.is_empty() && holder != self.identity && fresh {
            return Ok(false);
        }
        let new = Lease {
            spec: Some(self.spec(&now, Some(&old))),
            ..lease
        };
        match self.client.update(&new).await {
            Ok(_) => Ok(true),
            Err(error) if error.is_conflict() => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn spec(&self, now: &MicroTime, old: Option<&LeaseSpec>) -> LeaseSpec {
        let ours = old.and_then(|o| o.holder_identity.as_ref()) == Some(&self.identity);
        let transitions = old.and_then(|o| o.lease_transitions).unwrap_or(0);
        LeaseSpec {
            holder_identity: Some(self.identity.clone()),
            lease_duration_seconds: i32::try_from(self.lease_duration.as_secs()).ok(),
            acquire_time: if ours {
                old.and_then(|o| o.acquire_time.clone())
            } else {
                Some(now.clone())
            },
            renew_time: Some(now.clone()),
            lease_transitions: Some(if ours || old.is_none() {
                transitions
            } else {
                transitions + 1
            }),
            ..LeaseSpec::default()
        }
    }

    /// Lets the next instance take over at once.
    async fn release(&self) {
        let released = async {
            let mut lease: Lease = self.client.get(&self.namespace, &self.name).await?;
            if let Some(spec) = lease
                .spec
                .as_mut()
                .filter(|s| s.holder_identity.as_ref() == Some(&self.identity))
            {
                spec.holder_identity = Some(String::new());
                spec.lease_duration_seconds = Some(1);
                self.client.update(&lease).await?;
            }
            Ok::<_, Error>(())
        };
        if let Ok(Err(error)) = tokio::time::timeout(Duration::from_secs(2), released).await {
            tracing::warn!(lease = self.name, %error, "cannot give the lease back");
        }
    }
}
