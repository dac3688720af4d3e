//! SIGTERM and SIGINT: told to everyone at once, and the process's end soon after, whatever is still at work.

use std::time::Duration;

use tokio_util::sync::CancellationToken;

/// How long the process goes on after a signal. What was acknowledged is durable by then.
const LAST: Duration = Duration::from_millis(1800);

/// A token that the signals cancel. They are waited for on a thread of its own: workers that are busy for long, as the scheduler's
/// with a long queue, neither delay the token nor the end.
///
/// # Errors
/// When the thread cannot be started or the signals cannot be waited for.
pub fn at_signal() -> std::io::Result<CancellationToken> {
    let stop = CancellationToken::new();
    let told = stop.clone();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (ready, waits) = std::sync::mpsc::channel();
    std::thread::Builder::new().name("signals".into()).spawn(move || {
        runtime.block_on(async move {
            let signals = signals();
            let failed = signals.as_ref().err().map(|e| e.kind());
            let (Ok(()), Ok((mut term, mut interrupt))) = (ready.send(failed), signals) else {
                return;
            };
            tokio::select! {
                _ = term.recv() => {}
                _ = interrupt.recv() => {}
            }
            told.cancel();
            tokio::time::sleep(LAST).await;
            tracing::info!("what is still at work ends with the process");
            std::process::exit(0);
        });
    })?;
    match waits.recv() {
        Ok(None) => Ok(stop),
        Ok(Some(kind)) => Err(kind.into()),
        Err(_) => Err(std::io::ErrorKind::BrokenPipe.into()),
    }
}

fn signals() -> std::io::Result<(tokio::signal::unix::Signal, tokio::signal::unix::Signal)> {
    use tokio::signal::unix::{SignalKind, signal};
    Ok((signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?))
}
