//! Getting the image of a container: pull policy, credentials, back-off, and the events upstream tells.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use base64::Engine;
use client::EventRecorder;
use cri::v1;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{Container, ObjectReference, Pod, Secret};

use crate::backoff::Backoffs;
use crate::pod::PodExt;
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

/// By the grammar of references: lower-case path components, a tag, a digest.
fn is_valid(image: &str) -> bool {
    let (name, digest) = image.split_once('@').map_or((image, None), |(n, d)| (n, Some(d)));
    if digest.is_some_and(|d| {
        !d.split_once(':')
            .is_some_and(|(a, h)| !a.is_empty() && h.len() >= 32 && h.chars().all(|c| c.is_ascii_hexdigit()))
    }) {
        return false;
    }
    let at = name.rfind('/').map_or(0, |i| i + 1);
    let (path, tag) = match name[at..].split_once(':') {
        Some((_, tag)) => (&name[..name.len() - tag.len() - 1], Some(tag)),
        None => (name, None),
    };
    let tag_ok = |t: &str| {
        !t.is_empty()
            && t.len() <= 128
            && !t.starts_with(['.', '-'])
            && t.chars().all(|c| c.is_ascii_alphanumeric() || "._-".contains(c))
    };
    if !tag.is_none_or(tag_ok) {
        return false;
    }
    let parts: Vec<&str> = path.split('/').collect();
    let host = parts.len() > 1 && (parts[0].contains(['.', ':']) || parts[0] == "localhost");
    let edge = |c: Option<char>| c.is_some_and(|c| c.is_ascii_lowercase() || c.is_ascii_digit());
    parts[usize::from(host)..].iter().all(|p| {
        edge(p.chars().next())
            && edge(p.chars().last())
            && p.chars()
                .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || "._-".contains(c))
    })
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
    pub fn new(runtime: Runtime, recorder: EventRecorder) -> Images {
        let backoffs = Backoffs::new(SignedDuration::from_secs(10), SignedDuration::from_secs(300));
        Images {
            runtime,
            recorder,
            failures: Arc::new(Mutex::new(backoffs)),
        }
    }

    /// Makes sure the container's image is there.
    pub async fn ensure(
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
        if !is_valid(image) {
            let message = format!(
                "Failed to apply default image tag {image:?}: couldn't parse image name {image:?}: invalid reference format"
            );
            self.recorder.warning(about, "InspectFailed", &message);
            return Err(wait("InvalidImageName", message, None));
        }
        let full = with_tag(image);
        let policy = policy(container, &full);
        let present = self.runtime.image_status(&full).await.map_err(|error| {
            let message = format!("Failed to inspect image {full:?}: {error}");
            self.recorder.warning(about, "InspectFailed", &message);
            wait(
                "ImageInspectError",
                message,
                Some(Timestamp::now() + SignedDuration::from_secs(10)),
            )
        })?;
        match (present, policy) {
            (Some(found), "Never" | "IfNotPresent") => {
                let message =
                    format!("Container image {image:?} already present on machine and can be accessed by the pod");
                self.recorder.normal(about, "Pulled", message);
                return Ok(ready(found));
            }
            (None, "Never") => {
                let message = format!("Container image {image:?} is not present with pull policy of Never");
                self.recorder.warning(about, "ErrImageNeverPull", &message);
                return Err(wait("ErrImageNeverPull", message, None));
            }
            _ => {}
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
        self.recorder
            .normal(about, "Pulling", format!("Pulling image {image:?}"));
        let started = Instant::now();
        match self.pull(&full, secrets, sandbox).await {
            Ok(image_ref) => {
                self.failures
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .forget(&key);
                let found = self.runtime.image_status(&image_ref).await.ok().flatten();
                let size = found.as_ref().map_or(0, |i| i.size);
                let took = duration(started.elapsed());
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
                self.recorder.warning(about, "Failed", "Error: ErrImagePull");
                let now = Timestamp::now();
                let mut failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
                failures.next(&key, now, format!("ErrImagePull: {error}"));
                let end = failures.last(&key).map(|(end, _)| end);
                Err(wait("ErrImagePull", error, end))
            }
        }
    }

    async fn pull(&self, image: &str, secrets: &[Secret], sandbox: &v1::PodSandboxConfig) -> Result<String, String> {
        let mut logins: Vec<Option<v1::AuthConfig>> = credentials(image, secrets).into_iter().map(Some).collect();
        logins.push(None);
        let mut errors = Vec::new();
        for login in logins {
            match self.runtime.pull(image, login, Some(sandbox.clone())).await {
                Ok(image_ref) => return Ok(image_ref),
                Err(error) => errors.push(error.to_string()),
            }
        }
        errors.dedup();
        Err(errors.join(", "))
    }
}

fn ready(image: v1::Image) -> Ready {
    Ready {
        image_ref: image.id,
        user: ImageUser {
            uid: image.uid.map(|u| u.value),
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

/// The logins in pull secrets that fit the image's registry, the most specific first.
pub fn credentials(image: &str, secrets: &[Secret]) -> Vec<v1::AuthConfig> {
    let first = image.split('/').next().unwrap_or_default();
    let has_host = image.contains('/') && (first.contains(['.', ':']) || first == "localhost");
    let full = if has_host {
        image.to_owned()
    } else {
        format!("index.docker.io/{image}")
    };
    let mut found: Vec<(usize, v1::AuthConfig)> = Vec::new();
    for secret in secrets {
        let data = secret.data.as_ref();
        let json = |key: &str| {
            data.and_then(|d| d.get(key))
                .and_then(|b| serde_json::from_slice::<serde_json::Value>(&b.0).ok())
        };
        let entries = json(".dockerconfigjson")
            .map(|v| v["auths"].clone())
            .or_else(|| json(".dockercfg"));
        for (key, login) in entries.as_ref().and_then(|e| e.as_object()).into_iter().flatten() {
            let registry = key.trim_start_matches("https://").trim_start_matches("http://");
            let registry = registry
                .trim_end_matches('/')
                .trim_end_matches("/v1")
                .trim_end_matches("/v2");
            if !matches(registry, &full) {
                continue;
            }
            let text = |field: &str| login[field].as_str().unwrap_or_default().to_owned();
            let (mut username, mut password) = (text("username"), text("password"));
            if let Ok(decoded) = base64::engine::general_purpose::STANDARD.decode(text("auth"))
                && let Some((u, p)) = String::from_utf8_lossy(&decoded).split_once(':')
                && username.is_empty()
            {
                (username, password) = (u.to_owned(), p.trim_end_matches('\0').to_owned());
            }
            let auth = v1::AuthConfig {
                username,
                password,
                identity_token: text("identitytoken"),
                ..Default::default()
            };
            found.push((registry.len(), auth));
        }
    }
    found.sort_by_key(|(specific, _)| std::cmp::Reverse(*specific));
    found.into_iter().map(|(_, auth)| auth).collect()
}

/// Host labels may be `*`; the path is a prefix.
fn matches(registry: &str, image: &str) -> bool {
    let (want_host, want_path) = registry.split_once('/').unwrap_or((registry, ""));
    let (host, path) = image.split_once('/').unwrap_or((image, ""));
    let want_host = if matches!(want_host, "docker.io" | "registry-1.docker.io") {
        "index.docker.io"
    } else {
        want_host
    };
    let host = if host == "docker.io" { "index.docker.io" } else { host };
    let (want, have): (Vec<&str>, Vec<&str>) = (want_host.split('.').collect(), host.split('.').collect());
    let hosts = want.len() == have.len() && want.iter().zip(&have).all(|(w, h)| *w == "*" || w == h);
    hosts && path.starts_with(want_path)
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
            assert_eq!(is_valid(image), ok, "{image}");
        }
        assert_eq!(with_tag("localhost:5000/a"), "localhost:5000/a:latest");
        assert_eq!(with_tag("a:1"), "a:1");
    }

    #[test]
    fn logins_fit_registries_by_host_and_path() {
        let secret = |json: &str| Secret {
            data: Some(
                [(
                    ".dockerconfigjson".to_owned(),
                    k8s_openapi::ByteString(json.as_bytes().to_vec()),
                )]
                .into(),
            ),
            ..Default::default()
        };
        let secrets = [secret(
            r#"{"auths":{"https://index.docker.io/v1/":{"auth":"dTpw"},"*.corp.io/team":{"username":"x","password":"y"}}}"#,
        )];
        assert_eq!(credentials("nginx", &secrets)[0].password, "p");
        assert_eq!(credentials("r.corp.io/team/app:1", &secrets)[0].username, "x");
        assert!(credentials("r.corp.io/other/app", &secrets).is_empty());
    }
}
