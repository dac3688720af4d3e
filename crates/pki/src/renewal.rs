//! Renewal of certificates while they are used.

use std::fmt::Display;
use std::future::Future;
use std::time::Duration;

use time::OffsetDateTime;
use tokio_util::sync::CancellationToken;

/// Between attempts when a renewal fails; doubles.
const FIRST_RETRY: Duration = Duration::from_secs(2);
const LONGEST_RETRY: Duration = Duration::from_secs(600);
/// After so long the clock is looked at anew: it may have been set, or the machine have slept.
const LONGEST_WAIT: Duration = Duration::from_secs(3600);

/// Certificates that are renewed together.
pub trait Renewable {
    /// Why they are not renewed.
    type Error: Display;

    /// Whose they are, as the log names them.
    const WHOSE: &str;

    /// When the first of them is to be renewed. `chance` of 0 to 1 chooses, so that those who were issued together are not renewed
    /// together.
    fn due(&self, chance: f64) -> OffsetDateTime;

    /// Renews what is due; those who connect from now on see it. Says whether there was anything.
    fn renew(&mut self) -> impl Future<Output = Result<bool, Self::Error>> + Send;
}

/// Waits until the certificates are due and renews them, again and again, until `stop`.
pub async fn keep<R: Renewable>(mut of: R, stop: CancellationToken) {
    let mut retry = FIRST_RETRY;
    let mut due = of.due(chance());
    loop {
        let wait = Duration::try_from(due - OffsetDateTime::now_utc()).unwrap_or_default();
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(wait.min(LONGEST_WAIT)) => {}
        }
        if wait > LONGEST_WAIT {
            continue;
        }
        match of.renew().await {
            Ok(new) => {
                if new {
                    tracing::info!(whose = R::WHOSE, "certificates were renewed");
                }
                retry = FIRST_RETRY;
                // whatever they say, they are not issued without end
                due = of.due(chance()).max(OffsetDateTime::now_utc() + retry);
            }
            Err(error) => {
                tracing::warn!(whose = R::WHOSE, %error, "certificates are not renewed yet");
                due = OffsetDateTime::now_utc() + retry;
                retry = (retry * 2).min(LONGEST_RETRY);
            }
        }
    }
}

/// The first of these times; the past if one cannot be told.
pub fn first<E>(times: impl IntoIterator<Item = Result<OffsetDateTime, E>>) -> OffsetDateTime {
    let times = times.into_iter().map(|time| time.unwrap_or(OffsetDateTime::UNIX_EPOCH));
    times.min().unwrap_or(OffsetDateTime::UNIX_EPOCH)
}

/// From 0 to 1.
pub fn chance() -> f64 {
    f64::from(getrandom::u32().unwrap_or_default()) / f64::from(u32::MAX)
}
