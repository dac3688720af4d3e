//! Files of the pod's containers on the node: termination messages, logs and the links to them, and what is cleaned away.

use std::fs;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use super::certificates::Certificates;
use super::{SyncError, Worker};
use crate::cri_config::log_directory;
use crate::pod::PodExt;
use crate::runtime_pod::{RuntimePod, State};
use crate::volumes;

/// Bytes of a termination message.
const LONGEST_MESSAGE: u64 = 4096;
/// Bytes and lines taken of the log in place of a message.
const LOG_BYTES: u64 = 2048;
const LOG_LINES: usize = 80;

impl Worker {
    pub(super) fn termination_log(&self, container: &str, attempt: u32) -> PathBuf {
        self.node
            .pod_dir(self.pod.uid())
            .join("containers")
            .join(container)
            .join(attempt.to_string())
    }

    /// Fills in the messages of containers that have ended since.
    pub(super) fn read_termination_messages(&self, runtime: &mut RuntimePod) {
        for container in runtime.containers.iter_mut().filter(|c| c.state == State::Exited) {
            if self
                .runtime
                .containers
                .iter()
                .any(|c| c.id == container.id && c.state == State::Exited)
            {
                continue;
            }
            let mut message = read_head(&self.termination_log(&container.name, container.attempt));
            let policy = container
                .annotations
                .get("io.kubernetes.container.terminationMessagePolicy");
            if message.is_empty() && container.exit_code != 0 && policy.is_some_and(|p| p == "FallbackToLogsOnError") {
                message = log_tail(Path::new(&container.log_path));
            }
            if !message.is_empty() {
                if !container.message.is_empty() {
                    message = format!("{}: {message}", container.message);
                }
                container.message = message;
            }
        }
    }

    /// How many containers of this name have left a log. Upstream: `calcRestartCountByLogDir`.
    pub(super) fn attempts_by_logs(&self, container: &str) -> u32 {
        let dir = Path::new(&log_directory(&self.pod, &self.node.settings)).join(container);
        let names = fs::read_dir(dir).into_iter().flatten().flatten().map(|e| e.file_name());
        let number = |name: std::ffi::OsString| {
            let name = name.to_str()?.to_owned();
            let (attempt, rest) = name.split_once('.')?;
            // A rotated one has its time behind.
            let log = rest == "log" || rest.starts_with("log.");
            attempt.parse::<u32>().ok().filter(|_| log)
        };
        names.filter_map(number).max().map_or(0, |last| last.saturating_add(1))
    }

    fn log_link(&self, container: &str, id: &str) -> PathBuf {
        self.node.container_log_links.join(format!(
            "{}_{}_{container}-{id}.log",
            self.pod.name(),
            self.pod.namespace()
        ))
    }

    /// `/var/log/containers` is where log collectors look.
    pub(super) fn link_log(&self, container: &str, attempt: u32, id: &str) {
        let log = Path::new(&log_directory(&self.pod, &self.node.settings))
            .join(container)
            .join(format!("{attempt}.log"));
        let link = self.log_link(container, id);
        if let Err(error) = std::os::unix::fs::symlink(&log, &link)
            && error.kind() != std::io::ErrorKind::AlreadyExists
        {
            tracing::warn!(link = %link.display(), %error, "log link not made");
        }
    }

    /// Removes containers and sandboxes that nobody asks about any more: one ended container a name is kept beside the newest.
    pub(super) async fn collect_dead(&mut self) -> Result<(), SyncError> {
        let mut seen: std::collections::HashMap<&str, u32> = std::collections::HashMap::new();
        let mut dead = Vec::new();
        for container in &self.runtime.containers {
            let count = seen.entry(&container.name).or_insert(0);
            *count += 1;
            if *count > 2 && container.state == State::Exited {
                dead.push((container.id.clone(), container.name.clone(), container.log_path.clone()));
            }
        }
        for (id, name, log) in &dead {
            self.node.runtime.remove_container(id).await?;
            remove_file(Path::new(log));
            remove_file(&self.log_link(name, id));
        }
        self.runtime
            .containers
            .retain(|c| dead.iter().all(|(id, ..)| *id != c.id));
        let newest = self.runtime.sandbox().map(|s| s.id.clone());
        let old: Vec<String> = self
            .runtime
            .sandboxes
            .iter()
            .filter(|s| !s.ready && Some(&s.id) != newest.as_ref())
            .filter(|s| self.runtime.containers.iter().all(|c| c.sandbox_id != s.id))
            .map(|s| s.id.clone())
            .collect();
        for id in old {
            self.node.runtime.remove_sandbox(&id).await?;
            self.runtime.sandboxes.retain(|s| s.id != id);
        }
        Ok(())
    }

    /// Releases what the pod held on the node while it ran.
    pub(super) async fn release(&mut self) -> Result<(), SyncError> {
        self.held.clear();
        self.certificates = Certificates::default();
        let (node, uid) = (self.node.clone(), self.pod.uid().to_owned());
        tokio::task::spawn_blocking(move || {
            volumes::tear_down(&node.pod_dir(&uid).join("volumes"))?;
            volumes::tear_down(&node.pod_dir(&uid).join("volume-subpaths"))?;
            node.cgroups.remove_pod(&uid)
        })
        .await??;
        Ok(())
    }

    /// Removes every trace of the pod.
    pub(super) async fn remove_from_node(&mut self) -> Result<(), SyncError> {
        self.node.figures.forget(self.pod.uid());
        for sandbox in &self.runtime.sandboxes {
            self.node.runtime.remove_sandbox(&sandbox.id).await?;
        }
        for container in &self.runtime.containers {
            remove_file(&self.log_link(&container.name, &container.id));
        }
        let (node, uid, logs) = (
            self.node.clone(),
            self.pod.uid().to_owned(),
            log_directory(&self.pod, &self.node.settings),
        );
        tokio::task::spawn_blocking(move || {
            volumes::tear_down(&node.pod_dir(&uid))?;
            files::remove_tree(Path::new(&logs))
        })
        .await??;
        Ok(())
    }
}

fn remove_file(path: &Path) {
    if let Err(error) = fs::remove_file(path)
        && error.kind() != std::io::ErrorKind::NotFound
    {
        tracing::warn!(path = %path.display(), %error, "not removed");
    }
}

fn read_head(path: &Path) -> String {
    let mut bytes = Vec::new();
    match files::regular_file(path).and_then(|f| f.take(LONGEST_MESSAGE).read_to_end(&mut bytes)) {
        Ok(_) => String::from_utf8_lossy(&bytes).into_owned(),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
        Err(error) => format!("Error on reading termination log {}: {error}", path.display()),
    }
}

fn log_tail(path: &Path) -> String {
    let read = || -> std::io::Result<String> {
        let mut file = files::regular_file(path)?;
        // Each line also carries its time and stream.
        let from = file.metadata()?.len().saturating_sub(LOG_BYTES * 4);
        file.seek(SeekFrom::Start(from))?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        Ok(tail_of(&String::from_utf8_lossy(&bytes), from > 0))
    };
    read().unwrap_or_default()
}

/// What the container wrote last, of text in CRI's log format: `time stream tag content`, where the tag `P` says that the
/// container did not end the line there. `cut` is text that does not begin with a line.
fn tail_of(text: &str, cut: bool) -> String {
    let mut lines: Vec<String> = Vec::new();
    let mut open = false;
    for line in text.lines().skip(usize::from(cut)) {
        let mut fields = line.splitn(4, ' ').skip(2);
        let (Some(tags), Some(content)) = (fields.next(), fields.next()) else {
            continue;
        };
        let ends = tags.split(':').next() != Some("P");
        match lines.last_mut().filter(|_| open) {
            Some(last) => last.push_str(content),
            None => lines.push(content.to_owned()),
        }
        if let Some(last) = lines.last_mut().filter(|_| ends) {
            last.push('\n');
        }
        open = !ends;
    }
    lines.drain(..lines.len().saturating_sub(LOG_LINES));
    let tail = lines.concat();
    let most = usize::try_from(LOG_BYTES).unwrap_or(usize::MAX);
    let mut from = tail.len().saturating_sub(most);
    while !tail.is_char_boundary(from) {
        from += 1;
    }
    tail[from..].to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tail_of_a_log_ends_as_the_container_ended_it() {
        let line = |tag: &str, text: &str| format!("2026-01-01T00:00:00.0Z stdout {tag} {text}\n");
        for (log, cut, tail) in [
            (line("P", "DONE"), false, "DONE"),
            (line("F", "DONE"), false, "DONE\n"),
            (
                line("P", "a") + &line("P", "b") + &line("F", "c") + &line("F", "d"),
                false,
                "abc\nd\n",
            ),
            (line("F", "first") + &line("F", ""), true, "\n"),
            ("torn".to_owned(), false, ""),
        ] {
            assert_eq!(tail_of(&log, cut), tail, "{log}");
        }
        let long = tail_of(&line("P", &"\u{e9}x".repeat(2000)), false);
        assert!(long.len() <= 2048 && long.len() > 2040);
    }
}
