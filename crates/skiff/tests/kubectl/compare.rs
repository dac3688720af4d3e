//! Runs one command line by both programs against one server, and compares.

use std::cell::RefCell;
use std::path::Path;
use std::process::{Command, Stdio};

use regex::Regex;

use crate::common::Server;

pub struct Both {
    pub server: Server,
    dir: tempfile::TempDir,
    /// What is made anew for each object, and so differs.
    unique: Vec<(Regex, &'static str)>,
    /// Told together at the end.
    differences: RefCell<Vec<String>>,
}

/// What a command line leads to.
#[derive(Debug, PartialEq, Eq)]
struct Outcome {
    code: Option<i32>,
    stdout: String,
    stderr: String,
}

/// As long as each other, so that columns are as wide.
const NAMESPACES: [&str; 2] = ["theirs", "our-ns"];

impl Both {
    pub fn start(flags: &[&str]) -> Both {
        let server = Server::start_with(flags);
        for namespace in NAMESPACES {
            server.ok(&["create", "ns", namespace]);
        }
        let unique = [
            (r"uid: [0-9a-f-]{36}", "uid: U"),
            (r#"(resourceVersion: )"[0-9]+""#, "$1V"),
            (r"[0-9]{4}-[0-9]{2}-[0-9]{2}[T ][0-9:.]+( \+0000|Z)?", "T"),
            (r"\b10\.43\.[0-9]+\.[0-9]+\b", "IP"),
            (r"(nodePort: )[0-9]+", "${1}N"),
            (r"(LIVE|MERGED)-[0-9a-z]+", "$1"),
            // Ages may pass a second between the two.
            (r"\b[0-9]+m?[0-9]*s\b", "AGE"),
            (r"(?m)^(E[0-9]{4} .*memcache.*\n)+", ""),
        ];
        Both {
            server,
            dir: tempfile::tempdir().unwrap(),
            unique: unique.map(|(pattern, by)| (Regex::new(pattern).unwrap(), by)).to_vec(),
            differences: RefCell::default(),
        }
    }

    pub fn path(&self, name: &str) -> String {
        self.dir.path().join(name).to_str().unwrap().to_owned()
    }

    pub fn write(&self, name: &str, text: &str) {
        std::fs::write(self.dir.path().join(name), text).unwrap();
    }

    fn run(&self, program: &[&str], words: &[&str]) -> Outcome {
        let output = Command::new(program[0])
            .args(&program[1..])
            .args(words)
            .current_dir(self.dir.path())
            .env("KUBECONFIG", self.server.kubeconfig())
            .env("HOME", self.dir.path())
            .stdin(Stdio::null())
            .output()
            .unwrap();
        let text = |bytes: &[u8]| {
            let mut text = String::from_utf8_lossy(bytes).into_owned();
            for (pattern, by) in &self.unique {
                text = pattern.replace_all(&text, *by).into_owned();
            }
            text
        };
        Outcome {
            code: output.status.code(),
            stdout: text(&output.stdout),
            stderr: text(&output.stderr),
        }
    }

    fn theirs(&self, words: &[&str]) -> Outcome {
        let kubectl = std::env::var("SKIFF_TEST_KUBECTL").expect("SKIFF_TEST_KUBECTL names upstream's kubectl");
        assert!(Path::new(&kubectl).exists(), "{kubectl} is not there");
        self.run(&[&kubectl], words)
    }

    fn ours(&self, words: &[&str]) -> Outcome {
        self.run(&[env!("CARGO_BIN_EXE_skiff"), "kubectl"], words)
    }

    fn compare(&self, line: &str, theirs: &Outcome, ours: &Outcome) {
        if theirs != ours {
            let text = format!("=== kubectl {line}\n{}", show(theirs, ours));
            self.differences.borrow_mut().push(text);
        }
    }

    /// A command that changes nothing.
    pub fn same(&self, line: &str) {
        let words: Vec<&str> = line.split(' ').collect();
        let (theirs, ours) = (self.theirs(&words), self.ours(&words));
        self.compare(line, &theirs, &ours);
    }

    /// A command that each program runs in its own namespace.
    pub fn same_apart(&self, line: &str) {
        let of = |namespace: &'static str| {
            ["-n", namespace]
                .into_iter()
                .chain(line.split(' '))
                .collect::<Vec<&str>>()
        };
        let (mut theirs, ours) = (self.theirs(&of(NAMESPACES[0])), self.ours(&of(NAMESPACES[1])));
        for text in [&mut theirs.stdout, &mut theirs.stderr] {
            *text = text.replace(NAMESPACES[0], NAMESPACES[1]);
        }
        self.compare(line, &theirs, &ours);
    }
}

impl Drop for Both {
    fn drop(&mut self) {
        let differences = self.differences.borrow();
        if !differences.is_empty() && !std::thread::panicking() {
            panic!(
                "{} command lines differ:\n{}",
                differences.len(),
                differences.join("\n")
            );
        }
    }
}

fn show(theirs: &Outcome, ours: &Outcome) -> String {
    let one = |o: &Outcome| format!("{:?}\n{}{}", o.code, o.stdout, o.stderr);
    format!("--- theirs {}\n--- ours {}", one(theirs), one(ours))
}
