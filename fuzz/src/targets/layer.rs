//! Layers of images, unpacked into a directory: nothing changes outside of it.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use nix::sys::resource::{Resource, setrlimit};
use nix::sys::signal::{SigHandler, Signal, signal};
use runtime::image::unpack::{decompress, digest_of, layer};

use crate::{Form, Target};

pub const TARGET: Target = Target::new("layer", Form::Bytes, check);

/// Bytes of the largest file, so that a layer that says it is full of zeros does not fill the disk.
const LARGEST: u64 = 1 << 20;

fn check(input: &[u8]) {
    bound_files();
    let Ok(outside) = tempfile::tempdir() else { return };
    let inside = outside.path().join("layer");
    if fs::create_dir(&inside).is_err() || fs::write(outside.path().join("canary"), "alive").is_err() {
        return;
    }
    let Ok(plain) = decompress(input) else { return };
    let _ = layer(std::io::Read::take(plain, LARGEST), &inside, &[], &digest_of(input));
    let names: BTreeSet<_> = fs::read_dir(outside.path())
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.file_name())
        .collect();
    assert_eq!(
        names,
        ["canary", "layer"].map(Into::into).into(),
        "a layer left its directory"
    );
    let canary = fs::read(outside.path().join("canary")).unwrap_or_default();
    assert_eq!(canary, b"alive", "a layer changed what is outside of it");
    emptied(&inside);
}

/// Layers may hold directories without permissions and what cannot be opened.
fn emptied(dir: &Path) {
    runtime::fuzzing::remove_tree(dir).unwrap_or_else(|error| panic!("what a layer holds can be removed: {error}"));
}

#[allow(unsafe_code)]
fn bound_files() {
    let bounded = setrlimit(Resource::RLIMIT_FSIZE, LARGEST, LARGEST);
    // SAFETY: a signal that is ignored runs no code of ours.
    let ignored = unsafe { signal(Signal::SIGXFSZ, SigHandler::SigIgn) };
    bounded
        .and(ignored)
        .unwrap_or_else(|error| panic!("bounding files: {error}"));
}
