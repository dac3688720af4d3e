//! Questions about expressions that upstream's libraries and ours must answer alike: what upstream's own tests compile and evaluate,
//! drawn from its modules, and random ones. `SKIFF_TEST_CEL` names the folder that `tests/upstream/build.sh DIR cel` filled.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::{Value as Json, json};
use support::{Upstream, answer, generator};

/// Where upstream's program and the drawn questions are; `None` where Go's modules cannot be had.
fn folder() -> Option<PathBuf> {
    match std::env::var_os("SKIFF_TEST_CEL") {
        Some(folder) => Some(folder.into()),
        None => {
            eprintln!("skipped: SKIFF_TEST_CEL names no folder; tests/upstream/build.sh DIR cel fills one");
            None
        }
    }
}

/// The differences that stay, by what begins their question or ends an answer; each with its cause.
fn accepted(question: &Json, ours: &Json, theirs: &Json) -> Option<&'static str> {
    let expr = question["expr"].as_str().unwrap_or_default();
    let text = |answer: &Json, key: &str| answer[key].as_str().unwrap_or_default().to_owned();
    if expr.contains("google.protobuf.") || expr.contains("google.expr.") {
        return Some("protocol buffer messages are not built");
    }
    if text(theirs, "error").starts_with("internal error:") || text(theirs, "refused").starts_with("panic") {
        return Some("upstream panics");
    }
    let syntax = |answer: &Json| {
        text(answer, "compile").contains("Syntax error") || text(answer, "compile").contains("recursion")
    };
    if syntax(ours) && syntax(theirs) {
        return Some("both find an error of syntax, and say differently what follows from it");
    }
    None
}

#[derive(Default)]
struct Tally {
    asked: usize,
    equal: usize,
    accepted: BTreeMap<&'static str, usize>,
    different: Vec<String>,
    kinds: BTreeMap<String, usize>,
}

impl Tally {
    /// Asks both. Upstream walks maps in a random order, so a difference is asked some more times.
    fn ask(&mut self, upstream: &mut Upstream, question: &Json) {
        let ours = answer(question);
        let mut theirs = upstream.ask(question);
        for _ in 0..20 {
            if ours == theirs || accepted(question, &ours, &theirs).is_some() {
                break;
            }
            theirs = upstream.ask(question);
        }
        self.count(question, &ours, &theirs);
    }

    fn count(&mut self, question: &Json, ours: &Json, theirs: &Json) {
        self.asked += 1;
        if ours == theirs {
            self.equal += 1;
        } else if let Some(cause) = accepted(question, ours, theirs) {
            *self.accepted.entry(cause).or_default() += 1;
        } else {
            let keys = ["compile", "type", "min", "max", "program", "value", "error", "cost"];
            let differ: Vec<&str> = keys.into_iter().filter(|k| ours[*k] != theirs[*k]).collect();
            *self.kinds.entry(differ.join(" ")).or_default() += 1;
            self.different
                .push(format!("{question}\n  ours   {ours}\n  theirs {theirs}"));
        }
    }

    fn finish(self, name: &str) {
        println!(
            "{name}: {} asked, {} equal, accepted {:?}",
            self.asked, self.equal, self.accepted
        );
        let shown: usize = std::env::var("SKIFF_TEST_CEL_SHOW").map_or(10, |n| n.parse().unwrap());
        for different in self.different.iter().take(shown) {
            println!("{different}");
        }
        assert!(
            self.different.is_empty(),
            "{name}: {} answers differ, by what differs: {:#?}",
            self.different.len(),
            self.kinds
        );
    }
}

fn play(name: &str, folder: &Path) {
    let mut upstream = Upstream::start(&folder.join("cel"));
    let questions = std::fs::read_to_string(folder.join(name)).unwrap();
    let mut tally = Tally::default();
    for line in questions.lines() {
        let question: Json = serde_json::from_str(line).unwrap();
        tally.ask(&mut upstream, &question);
    }
    tally.finish(name);
}

#[test]
fn what_upstreams_tests_of_custom_resources_ask_is_answered_alike() {
    if let Some(folder) = folder() {
        play("recorded.jsonl", &folder);
    }
}

#[test]
fn what_stands_in_upstreams_tests_is_answered_alike() {
    if let Some(folder) = folder() {
        play("drawn.jsonl", &folder);
    }
}

#[test]
fn random_expressions_are_answered_alike() {
    let Some(folder) = folder() else { return };
    let seeds: u64 = std::env::var("SKIFF_TEST_CEL_SEEDS").map_or(2000, |n| n.parse().unwrap());
    let mut upstream = Upstream::start(&folder.join("cel"));
    let mut tally = Tally::default();
    for seed in 0..seeds {
        let question = generator::question(seed);
        tally.ask(&mut upstream, &question);
    }
    tally.finish("random");
}

#[test]
fn older_versions_know_what_they_knew() {
    let Some(folder) = folder() else { return };
    let mut upstream = Upstream::start(&folder.join("cel"));
    let mut tally = Tally::default();
    let expressions = [
        "[1].includes(1)",
        "[1, 2].slice(0, 1)",
        "semver('1.2.3')",
        "[1].all(i, v, v > 0)",
        "format.dns1123Label()",
        "ip('::1')",
        "cidr('10.0.0.0/8')",
        "sets.contains([1], [1])",
        "'%d'.format([1])",
        "quantity('1')",
        "optional.none()",
        "1 < 2.0",
        "[1, 'a']",
        "duration('x')",
        "authorizer.path('/x')",
    ];
    for minor in [28, 29, 30, 31, 32, 33, 34, 35, 36, 37] {
        for expr in expressions {
            let question = json!({ "expr": expr, "minor": minor });
            tally.ask(&mut upstream, &question);
        }
    }
    tally.finish("versions");
}

/// Run with `--release --ignored --nocapture`: how long twenty rules take here and upstream, when they are evaluated again.
#[test]
#[ignore = "a measurement"]
fn twenty_rules_take_less_time_than_upstream() {
    const TIMES: u32 = 20_000;
    let Some(folder) = folder() else { return };
    let mut upstream = Upstream::start(&folder.join("cel"));
    let text: Json = serde_json::from_str(include_str!("support/rules.json")).unwrap();
    let mut whole = [Duration::ZERO; 2];
    for rule in text["rules"].as_array().unwrap() {
        let question = |repeat: u32| json!({ "expr": rule, "schema": text["schema"], "self": text["self"], "oldSelf": text["self"], "repeat": repeat });
        let (none, many) = (question(0), question(TIMES));
        assert_eq!(answer(&none), upstream.ask(&none), "{rule}");
        let took = |ask: &mut dyn FnMut(&Json) -> Json| {
            let first = Instant::now();
            ask(&none);
            let compiled = first.elapsed();
            let second = Instant::now();
            ask(&many);
            second.elapsed().saturating_sub(compiled) / TIMES
        };
        let (ours, theirs) = (took(&mut |q| answer(q)), took(&mut |q| upstream.ask(q)));
        whole[0] += ours;
        whole[1] += theirs;
        println!("{ours:>10.2?} {theirs:>10.2?} {rule}");
    }
    println!("{:>10.2?} {:>10.2?} all", whole[0], whole[1]);
}
