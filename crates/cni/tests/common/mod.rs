//! Network namespaces for tests: made under a name starting with `skiff-`, gone when dropped.
#![allow(dead_code, clippy::unwrap_used)]

use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

static NEXT: AtomicU32 = AtomicU32::new(0);

pub struct Namespace {
    pub name: String,
}

impl Namespace {
    pub fn new(purpose: &str) -> Namespace {
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("skiff-{purpose}-{}-{number}", std::process::id());
        run("ip", &["netns", "add", &name]);
        let namespace = Namespace { name };
        namespace.sh("ip link set lo up");
        namespace
    }

    pub fn path(&self) -> PathBuf {
        PathBuf::from("/run/netns").join(&self.name)
    }

    /// Runs a shell line inside and gives its output; fails the test if it fails.
    pub fn sh(&self, line: &str) -> String {
        let out = self.try_sh(line);
        assert!(out.status.success(), "{line}: {}", String::from_utf8_lossy(&out.stderr));
        String::from_utf8_lossy(&out.stdout).into_owned()
    }

    pub fn try_sh(&self, line: &str) -> Output {
        Command::new("ip")
            .args(["netns", "exec", &self.name, "sh", "-c", line])
            .stdin(Stdio::null())
            .output()
            .unwrap()
    }

    /// Runs work of ours inside.
    pub fn inside<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        cni::netns::inside(&self.path(), work).unwrap()
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        run("ip", &["netns", "del", &self.name]);
    }
}

pub fn run(program: &str, args: &[&str]) {
    let out = Command::new(program).args(args).output().unwrap();
    if !out.status.success() {
        eprintln!("{program} {args:?}: {}", String::from_utf8_lossy(&out.stderr));
    }
}
