//! The checks against upstream's fixtures: for each version pods that violate nothing of a level and pods that each violate
//! one check of it. They are in the module `k8s.io/pod-security-admission` of our version; `POD_SECURITY_TESTDATA` names the
//! directory if it is elsewhere.

use std::path::{Path, PathBuf};

use api::gvk::GroupVersionKind;
use api::schema::{Document, Schema};
use api::version::{MINOR, VERSION};
use serde_json::Value;

use super::level::{Level, LevelVersion, Version};
use super::part;
use super::policy::{Violation, violations};
use super::restricted::RESTRICTED;

fn directory() -> Option<PathBuf> {
    if let Some(dir) = std::env::var_os("POD_SECURITY_TESTDATA") {
        return Some(dir.into());
    }
    let cache = std::env::var_os("GOMODCACHE").map(PathBuf::from).or_else(|| {
        let home = PathBuf::from(std::env::var_os("HOME")?);
        Some(home.join("go/pkg/mod"))
    })?;
    let staging = VERSION.trim_start_matches("v1.");
    let dir = cache.join(format!("k8s.io/pod-security-admission@v0.{staging}/test/testdata"));
    dir.is_dir().then_some(dir)
}

/// File name without its ending, and the pod.
fn pods(dir: &Path) -> Vec<(String, Value)> {
    let files = std::fs::read_dir(dir).unwrap_or_else(|e| panic!("{}: {e}", dir.display()));
    let schema = Schema::builtin();
    let root = schema.type_for(&GroupVersionKind::new("", "v1", "Pod")).unwrap();
    let mut pods: Vec<(String, Value)> = files
        .map(|file| {
            let path = file.unwrap().path();
            let pod = Document::from_yaml(&std::fs::read(&path).unwrap());
            let stem = path.file_stem().unwrap().to_string_lossy().into_owned();
            let mut pod = pod.unwrap().value;
            schema.set_defaults(root, &mut pod);
            (stem, pod)
        })
        .collect();
    pods.sort_by(|a, b| a.0.cmp(&b.0));
    pods
}

/// `runasnonroot12` is about `runAsNonRoot`, or about what stands for it.
fn is_about(file: &str, violation: &Violation) -> bool {
    let check = file.trim_end_matches(|c: char| c.is_ascii_digit());
    let stands_for = RESTRICTED
        .iter()
        .find(|c| c.id == violation.check)
        .map_or("", |c| c.overrides);
    [violation.check, stands_for]
        .iter()
        .any(|id| id.to_lowercase() == check)
}

#[test]
fn every_version_of_every_check_judges_upstreams_fixtures_as_upstream_does() {
    let dir = directory()
        .expect("k8s.io/pod-security-admission is not in the module cache: tests/upstream/build.sh fetches it");
    let (mut count, mut wrong) = (0, Vec::new());
    for (name, level) in [("baseline", Level::Baseline), ("restricted", Level::Restricted)] {
        for minor in 0..=u64::from(MINOR) {
            let version = Version::Minor(minor);
            let asked = LevelVersion { level, version };
            let folder = dir.join(name).join(version.to_string());
            for (file, pod) in pods(&folder.join("pass")) {
                count += 1;
                let found = violations(asked, part(&pod));
                if !found.is_empty() {
                    wrong.push(format!("{asked} pass/{file}: {found:?}"));
                }
            }
            for (file, pod) in pods(&folder.join("fail")) {
                count += 1;
                let found = violations(asked, part(&pod));
                // some settings ask for others that are forbidden too
                if !found.iter().any(|v| is_about(&file, v)) {
                    wrong.push(format!("{asked} fail/{file}: {found:?}"));
                }
            }
        }
    }
    assert!(count > 3000, "{count} fixtures");
    assert!(wrong.is_empty(), "{} of {count}:\n{}", wrong.len(), wrong.join("\n"));
}
