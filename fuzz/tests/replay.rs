//! What fuzzers have found and real inputs, through every target; and a few changes of them that the seed decides.

use std::fs;
use std::path::{Path, PathBuf};

use fuzz::{Meter, Random, Target, bytes, targets};

#[global_allocator]
static METER: Meter = Meter;

/// Changed inputs for each target, where `FUZZ_CHANGES` does not say another number.
const CHANGES: u64 = 100;

fn bytes_of(path: &Path) -> Vec<u8> {
    fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The seeds of a target, or the one file that `FUZZ_INPUT` names.
fn seeds(target: &Target) -> Vec<(PathBuf, Vec<u8>)> {
    if let Some(path) = std::env::var_os("FUZZ_INPUT").map(PathBuf::from) {
        return vec![(path.clone(), bytes_of(&path))];
    }
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("seeds").join(target.name);
    let entries = fs::read_dir(&dir).unwrap_or_else(|error| panic!("{}: {error}", dir.display()));
    let mut files: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    files.sort();
    assert!(!files.is_empty(), "{} has no seeds", target.name);
    files.into_iter().map(|path| (path.clone(), bytes_of(&path))).collect()
}

fn number(name: &str, otherwise: u64) -> u64 {
    std::env::var(name)
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(otherwise)
}

/// Runs an input; whether it kept the laws. One that did not is kept for the next look.
fn holds(target: &Target, named: &str, input: &[u8]) -> bool {
    let run = || target.run(input);
    let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(run));
    if outcome.is_err() {
        let path = std::env::temp_dir().join(format!("skiff-fuzz-{}", target.name));
        let kept = fs::write(&path, input);
        println!(
            "{}: {named}: the input is in {} ({kept:?})",
            target.name,
            path.display()
        );
    }
    outcome.is_ok()
}

/// How many inputs break a law of a target.
fn broken(target: &Target, changes: u64, seed: u64) -> usize {
    let seeds = seeds(target);
    let kept = |(path, input): &&(PathBuf, Vec<u8>)| !holds(target, &path.display().to_string(), input);
    let mut broken = seeds.iter().filter(kept).count();
    let mut random = Random::new(seed);
    for n in 0..changes {
        let (_, input) = &seeds[random.below(seeds.len())];
        let (_, other) = &seeds[random.below(seeds.len())];
        let tree = (n % 2 == 0).then(|| target.mutate(input, random.number())).flatten();
        let changed = tree.unwrap_or_else(|| bytes::mutated(input, other, &mut random));
        let named = format!("change {n} by FUZZ_SEED={seed}");
        broken += usize::from(!holds(target, &named, &changed));
        if broken > 3 {
            break;
        }
    }
    broken
}

#[test]
fn every_target_keeps_its_laws_for_its_seeds_and_changes_of_them() {
    let (changes, seed) = (number("FUZZ_CHANGES", CHANGES), number("FUZZ_SEED", 1));
    let wanted = std::env::var("FUZZ_TARGET").ok();
    let mut bad = Vec::new();
    for target in targets::ALL
        .iter()
        .filter(|target| wanted.as_ref().is_none_or(|name| name == target.name))
    {
        let begun = std::time::Instant::now();
        if broken(target, changes, seed) > 0 {
            bad.push(target.name);
        }
        println!("{}: {:?}", target.name, begun.elapsed());
    }
    assert!(bad.is_empty(), "{bad:?}");
}
