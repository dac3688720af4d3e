//! Getting the image of a container: pull policy, credentials, back-off, and the events upstream tells.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use client::EventRecorder;
use cri::v1;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{Container, ObjectReference, Pod, Secret};

use crate::backoff::Backoffs;
use crate::image_credentials::{self, Login, LoginError};
use crate::pod::PodExt;
use crate::pull_records::{PullRecords, PullSecret, PulledWith};
use crate::runtime::Runtime;
use crate::security::ImageUser;

/// Why the container must wait: the reason and message of its waiting state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NotReady {
    pub reason: &'static str,
    pub message: String,
    /// When trying again makes sense.
    pub retry_at: Option<Timestamp>,
}

/// An image that is there.
#[derive(Debug, Clone, Default)]
pub struct Ready {
    pub image_ref: String,
    pub user: ImageUser,
}

/// Pulls images for all pods of the node; remembers failures.
#[derive(Debug, Clone)]
pub struct Images {
    runtime: Runtime,
    recorder: EventRecorder,
    failures: Arc<Mutex<Backoffs<String>>>,
    records: Arc<PullRecords>,
}

/// A reference without tag or digest means `:latest`.
pub fn with_tag(image: &str) -> String {
    let last = image.rsplit('/').next().unwrap_or(image);
    if last.contains(':') || image.contains('@') {
        image.to_owned()
    } else {
        format!("{image}:latest")
    }
}

/// Host and path of a name as Docker divides them: the first part is a host if it looks like one.
fn divided(name: &str) -> (&str, String) {
    match name.split_once('/') {
        Some((first, rest))
            if first.contains(['.', ':']) || first == "localhost" || first.chars().any(char::is_uppercase) =>
        {
            (first, rest.to_owned())
        }
        Some(_) => ("docker.io", name.to_owned()),
        None => ("docker.io", format!("library/{name}")),
    }
}

/// Why a name is no reference, in the words of the reference library.
#[derive(Debug, thiserror::Error)]
enum ReferenceError {
    #[error("invalid reference format")]
    Format,
    #[error("invalid reference format: repository name ({0}) must be lowercase")]
    Case(String),
}

/// Why an image was not pulled.
#[derive(Debug, thiserror::Error)]
enum PullError {
    #[error(transparent)]
    Login(#[from] LoginError),
    #[error("Failed to record image pull intent for container image {image:?}: {source}")]
    Record { image: String, source: std::io::Error },
    /// What the runtime said to each try, as upstream writes several errors as one.
    #[error("{}", one_of(.0))]
    Refused(Vec<String>),
}

fn one_of(errors: &[String]) -> String {
    match errors {
        [one] => one.clone(),
        many => format!("[{}]", many.join(", ")),
    }
}

/// By the grammar of references: lower-case path components, a tag, a digest.
fn check(image: &str) -> Result<(), ReferenceError> {
    let (host, rest) = divided(image);
    let remote = rest.split(':').next().unwrap_or_default();
    if remote.to_lowercase() != remote {
        return Err(ReferenceError::Case(remote.to_owned()));
    }
    let host_fits = host
        .chars()
        .all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | ':' | '[' | ']'));
    let (name, digest) = rest
        .split_once('@')
        .map_or((rest.as_str(), None), |(n, d)| (n, Some(d)));
    let digest_fits = |d: &str| {
        d.split_once(':')
            .is_some_and(|(a, h)| !a.is_empty() && h.len() >= 32 && h.chars().all(|c| c.is_ascii_hexdigit()))
    };
    let (path, tag) = name.split_once(':').map_or((name, None), |(p, t)| (p, Some(t)));
    let tag_fits = |t: &str| {
        !t.is_empty()
            && t.len() <= 128
            && !t.starts_with(['.', '-'])
            && t.chars().all(|c| c.is_ascii_alphanumeric() || "._-".contains(c))
    };
    let edge = |c: Option<char>| c.is_some_and(|c| c.is_ascii_lowercase() || c.is_ascii_digit());
    let path_fits = path.split('/').all(|p| {
        edge(p.chars().next())
            && edge(p.chars().last())
            && p.chars()
                .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || "._-".contains(c))
    });
    if host_fits && path_fits && tag.is_none_or(tag_fits) && digest.is_none_or(digest_fits) {
        Ok(())
    } else {
        Err(ReferenceError::Format)
    }
}

fn policy<'a>(container: &'a Container, image: &str) -> &'a str {
    container
        .image_pull_policy
        .as_deref()
        .unwrap_or(if image.ends_with(":latest") {
            "Always"
        } else {
            "IfNotPresent"
        })
}

impl Images {
    /// Pulls by this runtime; nothing is being pulled yet.
    pub fn new(runtime: Runtime, recorder: EventRecorder, records: PullRecords) -> Images {
        let backoffs = Backoffs::new(SignedDuration::from_secs(10), SignedDuration::from_secs(300));
        Images {
            runtime,
            recorder,
            failures: Arc::new(Mutex::new(backoffs)),
            records: Arc::new(records),
        }
    }

    /// What an earlier kubelet was pulling when it ended is looked at.
    pub async fn take_over(&self) {
        let taken = match self.runtime.list_images().await {
            Ok(images) => {
                let named = |i: v1::Image| (i.id, i.repo_digests.into_iter().chain(i.repo_tags).collect());
                let images: Vec<_> = images.into_iter().map(named).collect();
                self.records.take_over(&images).map_err(|e| e.to_string())
            }
            Err(error) => Err(error.to_string()),
        };
        if let Err(error) = taken {
            tracing::warn!(error, "records of images that were being pulled");
        }
    }

    /// Forgets who pulled images that have gone.
    pub async fn prune(&self) {
        let since = Timestamp::now();
        let pruned = match self.runtime.list_images().await {
            Ok(images) => {
                let there = images.into_iter().map(|i| i.id).collect();
                self.records.prune(&there, since).map_err(|e| e.to_string())
            }
            Err(error) => Err(error.to_string()),
        };
        if let Err(error) = pruned {
            tracing::warn!(error, "records of images that are gone");
        }
    }

    /// Makes sure the container's image is there and the pod may use it.
    pub async fn ensure(
        &self,
        pod: &Pod,
        container: &Container,
        about: &ObjectReference,
        secrets: &[Secret],
        sandbox: &v1::PodSandboxConfig,
    ) -> Result<Ready, NotReady> {
        let found = self.find_or_pull(pod, container, about, secrets, sandbox).await;
        if let Err(not_ready) = &found {
            self.recorder
                .warning(about, "Failed", format!("Error: {}", not_ready.reason));
        }
        found
    }

    async fn find_or_pull(
        &self,
        pod: &Pod,
        container: &Container,
        about: &ObjectReference,
        secrets: &[Secret],
        sandbox: &v1::PodSandboxConfig,
    ) -> Result<Ready, NotReady> {
        let image = container.image.as_deref().unwrap_or_default();
        let wait = |reason, message: String, retry_at| NotReady {
            reason,
            message,
            retry_at,
        };
        if let Err(reason) = check(image) {
            let message =
                format!("Failed to apply default image tag {image:?}: couldn't parse image name {image:?}: {reason}");
            self.recorder.warning(about, "InspectFailed", &message);
            return Err(wait("InvalidImageName", message, None));
        }
        let full = with_tag(image);
        let policy = policy(container, &full);
        let present = match policy {
            "Always" => None,
            _ => self.runtime.image_status(&full).await.map_err(|error| {
                let message = format!("Failed to inspect image {full:?}: {error}");
                self.recorder.warning(about, "InspectFailed", &message);
                wait(
                    "ImageInspectError",
                    message,
                    Some(Timestamp::now() + SignedDuration::from_secs(10)),
                )
            })?,
        };
        let logins = image_credentials::logins(&full, secrets);
        if let Some(found) = present {
            let own: Vec<PullSecret> = logins.iter().flatten().map(|l| l.from.clone()).collect();
            if !self.records.must_pull(image, &found.id, &own) {
                let message =
                    format!("Container image {image:?} already present on machine and can be accessed by the pod");
                self.recorder.normal(about, "Pulled", message);
                return Ok(ready(found));
            }
        }
        if policy == "Never" {
            // The same words whether it is missing or another's: who may not use it need not know that it is there.
            let message = format!("Container image {image:?} is not present with pull policy of Never");
            self.recorder.warning(about, "ErrImageNeverPull", &message);
            return Err(wait("ErrImageNeverPull", message, None));
        }
        let key = format!("{}_{full}", pod.uid());
        let now = Timestamp::now();
        let waiting = {
            let failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
            let last = failures.last(&key).filter(|(end, _)| *end > now);
            last.map(|(end, before)| (end, before.clone()))
        };
        if let Some((end, before)) = waiting {
            self.recorder
                .normal(about, "BackOff", format!("Back-off pulling image {image:?}"));
            return Err(wait(
                "ImagePullBackOff",
                format!("Back-off pulling image {image:?}: {before}"),
                Some(end),
            ));
        }
        let started = Instant::now();
        let pulled = match logins {
            Ok(logins) => {
                self.recorder
                    .normal(about, "Pulling", format!("Pulling image {image:?}"));
                self.pull(image, &full, logins, sandbox).await
            }
            Err(error) => Err(error.into()),
        };
        self.pulled(pulled, image, &key, about, started.elapsed()).await
    }

    /// Tells of a pull, and how the container goes on after it. `key` is the pod's and image's in the memory of failures.
    async fn pulled(
        &self,
        pulled: Result<String, PullError>,
        image: &str,
        key: &str,
        about: &ObjectReference,
        took: Duration,
    ) -> Result<Ready, NotReady> {
        match pulled {
            Ok(image_ref) => {
                self.failures.lock().unwrap_or_else(PoisonError::into_inner).forget(key);
                let found = self.runtime.image_status(&image_ref).await.ok().flatten();
                let size = found.as_ref().map_or(0, |i| i.size);
                let took = duration(took);
                let message = format!(
                    "Successfully pulled image {image:?} in {took} ({took} including waiting). Image size: {size} bytes."
                );
                self.recorder.normal(about, "Pulled", message);
                Ok(found.map(ready).unwrap_or(Ready {
                    image_ref,
                    user: ImageUser::default(),
                }))
            }
            Err(error) => {
                self.recorder
                    .warning(about, "Failed", format!("Failed to pull image {image:?}: {error}"));
                let now = Timestamp::now();
                let mut failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
                failures.next(key, now, format!("ErrImagePull: {error}"));
                let end = failures.last(key).map(|(end, _)| end);
                Err(NotReady {
                    reason: "ErrImagePull",
                    message: error.to_string(),
                    retry_at: end,
                })
            }
        }
    }

    /// Pulls with each login until one is good, without any if there is none; and writes down which.
    async fn pull(
        &self,
        image: &str,
        full: &str,
        logins: Vec<Login>,
        sandbox: &v1::PodSandboxConfig,
    ) -> Result<String, PullError> {
        self.records.begin(image).map_err(|source| PullError::Record {
            image: image.to_owned(),
            source,
        })?;
        let pulled = self.pull_with(full, logins, sandbox).await;
        let came = pulled.as_ref().ok().map(|(image_ref, with)| (image_ref.as_str(), with));
        if let Err(error) = self.records.end(image, came) {
            tracing::warn!(image, %error, "record of the image not written");
        }
        pulled.map(|(image_ref, _)| image_ref)
    }

    async fn pull_with(
        &self,
        full: &str,
        logins: Vec<Login>,
        sandbox: &v1::PodSandboxConfig,
    ) -> Result<(String, PulledWith), PullError> {
        let mut tries: Vec<(Option<v1::AuthConfig>, PulledWith)> = logins
            .into_iter()
            .map(|l| (Some(l.auth), PulledWith::Secret(l.from)))
            .collect();
        if tries.is_empty() {
            tries.push((None, PulledWith::Node));
        }
        let mut errors = Vec::new();
        for (login, with) in tries {
            match self.runtime.pull(full, login, Some(sandbox.clone())).await {
                Ok(image_ref) => return Ok((image_ref, with)),
                // a code that says nothing is left out, as by upstream's client
                Err(error) if error.code == tonic::Code::Unknown => errors.push(error.message),
                Err(error) => errors.push(error.to_string()),
            }
        }
        errors.dedup();
        Err(PullError::Refused(errors))
    }
}

fn ready(image: v1::Image) -> Ready {
    // an image that names no user is root's, and a group then needs no user beside it
    let root = image.username.is_empty().then_some(0);
    Ready {
        image_ref: image.id,
        user: ImageUser {
            uid: image.uid.map(|u| u.value).or(root),
            username: image.username,
        },
    }
}

/// As Go prints durations: `1.234s`, `45ms`.
pub fn duration(d: std::time::Duration) -> String {
    if d.as_secs() >= 60 {
        format!("{}m{:.3}s", d.as_secs() / 60, d.as_secs_f64() % 60.0)
    } else if d.as_millis() >= 1000 {
        format!("{:.3}s", d.as_secs_f64())
    } else {
        format!("{}ms", d.as_millis())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_are_checked_and_completed() {
        for (image, ok) in [
            ("nginx", true),
            ("a.b:5000/x/y:1", true),
            ("Nginx", false),
            ("x:", false),
            ("a//b", false),
            ("", false),
            ("x@sha256:zz", false),
        ] {
            assert_eq!(check(image).is_ok(), ok, "{image}");
        }
        for (image, name) in [("UPPER/Case:x", "Case"), ("Nginx", "library/Nginx"), ("a/B", "a/B")] {
            let want = format!("invalid reference format: repository name ({name}) must be lowercase");
            assert_eq!(check(image).unwrap_err().to_string(), want);
        }
        assert_eq!(with_tag("localhost:5000/a"), "localhost:5000/a:latest");
        assert_eq!(with_tag("a:1"), "a:1");
    }
}
