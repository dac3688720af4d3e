//! Container logs in CRI's format: reading with `kubectl logs`' options, following, and rotation.

use std::io::{self, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use jiff::Timestamp;
use tokio::fs::File;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncSeekExt, BufReader};
use tokio::sync::mpsc;

use crate::config::KubeletConfig;
use crate::cri_config::{CONTAINER_NAME, POD_NAME, POD_NAMESPACE, POD_UID};
use crate::inotify::Watcher;
use crate::node_context::NodeContext;

/// What part of a log, and how.
#[derive(Debug, Clone, Default)]
pub struct LogOptions {
    pub follow: bool,
    pub timestamps: bool,
    pub since: Option<Timestamp>,
    pub tail_lines: Option<u64>,
    pub limit_bytes: Option<u64>,
    /// `Stdout` or `Stderr` alone.
    pub stream: Option<String>,
}

/// One line in CRI's format. A partial one (`P`) goes on in the next; the text carries its line end.
struct Line<'a> {
    time: &'a [u8],
    stream: &'a [u8],
    partial: bool,
    text: &'a [u8],
}

fn parse(line: &[u8]) -> Option<Line<'_>> {
    let mut parts = line.splitn(4, |b| *b == b' ');
    let (time, stream, tag, text) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    let partial = tag.split(|b| *b == b':').next() == Some(b"P");
    Some(Line {
        time,
        stream,
        partial,
        text,
    })
}

/// The log's directory may be mounted into a pod, which then can put anything in its place.
async fn open(path: &Path) -> io::Result<File> {
    let path = path.to_owned();
    let opened = tokio::task::spawn_blocking(move || files::regular_file(&path)).await;
    opened.map_err(io::Error::other)?.map(File::from_std)
}

/// Where the last `lines` whole lines begin.
async fn tail_offset(path: &Path, lines: u64) -> io::Result<u64> {
    let mut file = open(path).await?;
    let mut end = file.metadata().await?.len();
    if lines == 0 {
        return Ok(end);
    }
    let mut found = 0;
    let mut block = vec![0u8; 64 << 10];
    let size = end;
    while end > 0 {
        let start = end.saturating_sub(block.len() as u64);
        let n = usize::try_from(end - start).unwrap_or(0);
        file.seek(SeekFrom::Start(start)).await?;
        file.read_exact(&mut block[..n]).await?;
        for i in (0..n).rev() {
            let at = start + i as u64;
            // The newline that ends the file ends no line before it.
            if block[i] == b'\n' && at + 1 < size {
                found += 1;
                if found == lines {
                    return Ok(at + 1);
                }
            }
        }
        end = start;
    }
    Ok(0)
}

/// Reads a log into `out` until its end, or, when following, until `ended` says that no more can come.
pub async fn read(
    path: PathBuf,
    options: LogOptions,
    out: mpsc::Sender<io::Result<Bytes>>,
    mut ended: impl FnMut() -> futures::future::BoxFuture<'static, bool> + Send,
) -> io::Result<()> {
    let watcher = if options.follow {
        let watcher = Watcher::new()?;
        watcher.watch_file(&path)?;
        if let Some(dir) = path.parent() {
            watcher.watch_dir(dir)?;
        }
        Some(watcher)
    } else {
        None
    };
    let mut file = open(&path).await?;
    if let Some(lines) = options.tail_lines {
        file.seek(SeekFrom::Start(tail_offset(&path, lines).await?)).await?;
    }
    let mut reader = BufReader::new(file);
    let mut left = options.limit_bytes;
    let mut line = Vec::new();
    let mut continued = false;
    let mut last = false;
    loop {
        let n = reader.read_until(b'\n', &mut line).await?;
        if n > 0 && line.ends_with(b"\n") {
            let piece = format_line(&line, &options, &mut continued);
            line.clear();
            if let Some(mut piece) = piece {
                if let Some(left) = &mut left {
                    piece.truncate(usize::try_from(*left).unwrap_or(usize::MAX));
                    *left -= piece.len() as u64;
                }
                if out.send(Ok(Bytes::from(piece))).await.is_err() || left == Some(0) {
                    return Ok(());
                }
            }
            continue;
        }
        let Some(watcher) = &watcher else { return Ok(()) };
        if last {
            return Ok(());
        }
        if rotated(&path, reader.get_ref()).await {
            watcher.watch_file(&path)?;
            reader = BufReader::new(open(&path).await?);
            line.clear();
            continue;
        }
        // The writer may have ended with nothing more written: its end is asked for now and then.
        tokio::select! {
            changed = watcher.changed() => changed?,
            () = tokio::time::sleep(Duration::from_secs(2)) => last = ended().await,
            () = out.closed() => return Ok(()),
        }
    }
}

async fn rotated(path: &Path, open: &File) -> bool {
    use std::os::unix::fs::MetadataExt;
    let (Ok(now), Ok(then)) = (tokio::fs::metadata(path).await, open.metadata().await) else {
        return false;
    };
    now.ino() != then.ino()
}

pub(crate) fn format_line(line: &[u8], options: &LogOptions, continued: &mut bool) -> Option<Vec<u8>> {
    let Line {
        time,
        stream,
        partial,
        text,
    } = parse(line)?;
    if let Some(wanted) = &options.stream
        && !wanted.as_bytes().eq_ignore_ascii_case(stream)
    {
        return None;
    }
    if let Some(since) = options.since {
        let at: Timestamp = std::str::from_utf8(time).ok()?.parse().ok()?;
        if at < since {
            return None;
        }
    }
    let mut piece = Vec::with_capacity(line.len());
    if options.timestamps && !*continued {
        piece.extend_from_slice(time);
        piece.push(b' ');
    }
    piece.extend_from_slice(if partial {
        text.strip_suffix(b"\n").unwrap_or(text)
    } else {
        text
    });
    *continued = partial;
    Some(piece)
}

/// How often sizes are looked at, as upstream's `containerLogMonitorInterval`.
const ROTATION_CHECK: Duration = Duration::from_secs(10);

/// Rotates the logs of running containers as they grow: `0.log` becomes `0.log.<time>`, and only so many are kept.
pub async fn rotate_forever(node: Arc<NodeContext>, config: KubeletConfig) {
    let mut ticks = tokio::time::interval(ROTATION_CHECK);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let large = match large_logs(&config.pod_log_dir, config.container_log_max_size) {
            Ok(large) => large,
            Err(error) => {
                tracing::warn!(%error, "log sizes not known");
                continue;
            }
        };
        if large.is_empty() {
            continue;
        }
        let containers = node.runtime.list_containers(None).await.unwrap_or_default();
        for path in large {
            let running = containers
                .iter()
                .filter(|c| c.state() == cri::v1::ContainerState::ContainerRunning)
                .find(|c| {
                    let label = |key: &str| c.labels.get(key).map(String::as_str).unwrap_or_default();
                    let attempt = c.metadata.as_ref().map_or(0, |m| m.attempt);
                    let dir = format!("{}_{}_{}", label(POD_NAMESPACE), label(POD_NAME), label(POD_UID));
                    path == config
                        .pod_log_dir
                        .join(dir)
                        .join(label(CONTAINER_NAME))
                        .join(format!("{attempt}.log"))
                });
            let Some(container) = running else { continue };
            if let Err(error) = rotate(&path, config.container_log_max_files) {
                tracing::warn!(path = %path.display(), %error, "log not rotated");
                continue;
            }
            if let Err(error) = node.runtime.reopen_log(&container.id).await {
                tracing::warn!(path = %path.display(), %error, "log not reopened");
            }
        }
    }
}

fn large_logs(dir: &Path, limit: u64) -> io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for pod in std::fs::read_dir(dir)? {
        let Ok(containers) = std::fs::read_dir(pod?.path()) else {
            continue;
        };
        for container in containers.flatten() {
            let Ok(logs) = std::fs::read_dir(container.path()) else {
                continue;
            };
            for log in logs.flatten() {
                let path = log.path();
                if path.extension().is_some_and(|e| e == "log") && log.metadata().is_ok_and(|m| m.len() > limit) {
                    found.push(path);
                }
            }
        }
    }
    Ok(found)
}

fn rotate(path: &Path, keep: u32) -> io::Result<()> {
    let stamp = Timestamp::now().strftime("%Y%m%d-%H%M%S").to_string();
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{stamp}"));
    std::fs::rename(path, name)?;
    let (Some(dir), Some(base)) = (path.parent(), path.file_name().and_then(|n| n.to_str())) else {
        return Ok(());
    };
    let prefix = format!("{base}.");
    let mut old: Vec<PathBuf> = std::fs::read_dir(dir)?
        .filter_map(|e| e.ok().map(|e| e.path()))
        .filter(|p| {
            p.file_name()
                .and_then(|n| n.to_str())
                .is_some_and(|n| n.starts_with(&prefix))
        })
        .collect();
    old.sort();
    // The one being written counts too.
    let most = usize::try_from(keep.saturating_sub(1)).unwrap_or(usize::MAX);
    for path in old.iter().take(old.len().saturating_sub(most)) {
        std::fs::remove_file(path)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOG: &str = "2026-01-01T00:00:01Z stdout F one\n2026-01-01T00:00:02Z stdout P tw\n2026-01-01T00:00:02Z stdout F o\n2026-01-01T00:00:03Z stderr F three\n";

    async fn text(options: LogOptions) -> String {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("0.log");
        std::fs::write(&path, LOG).unwrap();
        let (sender, mut receiver) = mpsc::channel(64);
        read(path, options, sender, || Box::pin(async { true })).await.unwrap();
        let mut all = Vec::new();
        while let Some(piece) = receiver.recv().await {
            all.extend_from_slice(&piece.unwrap());
        }
        String::from_utf8(all).unwrap()
    }

    #[tokio::test]
    async fn every_option_of_kubectl_logs_is_honoured() {
        assert_eq!(text(LogOptions::default()).await, "one\ntwo\nthree\n");
        assert_eq!(
            text(LogOptions {
                tail_lines: Some(1),
                ..Default::default()
            })
            .await,
            "three\n"
        );
        assert_eq!(
            text(LogOptions {
                limit_bytes: Some(5),
                ..Default::default()
            })
            .await,
            "one\nt"
        );
        assert_eq!(
            text(LogOptions {
                since: Some("2026-01-01T00:00:03Z".parse().unwrap()),
                ..Default::default()
            })
            .await,
            "three\n"
        );
        assert_eq!(
            text(LogOptions {
                timestamps: true,
                tail_lines: Some(1),
                ..Default::default()
            })
            .await,
            "2026-01-01T00:00:03Z three\n"
        );
        assert_eq!(
            text(LogOptions {
                tail_lines: Some(0),
                ..Default::default()
            })
            .await,
            ""
        );
    }
}
