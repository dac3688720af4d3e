//! Pages of metrics, read and held against the list of what upstream's components count (`tests/metrics`).

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::{Command, Stdio};

/// A metric of a page.
#[derive(Debug, Default)]
pub struct Shown {
    pub kind: String,
    pub help: String,
    /// The names of the labels of each series, without the bounds of buckets.
    pub labels: BTreeSet<Vec<String>>,
    pub bounds: BTreeSet<String>,
    pub values: Vec<(String, f64)>,
}

/// Reads Prometheus' text format; whatever is not of it fails the test.
pub fn parse(text: &str) -> BTreeMap<String, Shown> {
    let mut page = BTreeMap::<String, Shown>::new();
    let mut current = String::new();
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            let (name, help) = rest.split_once(' ').unwrap();
            assert!(!page.contains_key(name), "{name} stands there twice");
            page.entry(name.to_owned()).or_default().help = help.to_owned();
            current = name.to_owned();
        } else if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').unwrap();
            assert_eq!(name, current, "{line}");
            page.get_mut(name).unwrap().kind = kind.to_owned();
        } else {
            let end = line.rfind('}').map_or_else(|| line.find(' ').unwrap(), |at| at + 1);
            let (series, values) = line.split_at(end);
            // a value, and when it was measured
            let value = values.trim_start().split(' ').next().unwrap();
            let (name, labels) = series
                .split_once('{')
                .map_or((series, ""), |(n, l)| (n, l.strip_suffix('}').unwrap()));
            let shown = page.get_mut(&current).unwrap();
            let suffix = name
                .strip_prefix(current.as_str())
                .unwrap_or_else(|| panic!("{line} is not of {current}"));
            match shown.kind.as_str() {
                "histogram" => assert!(["_bucket", "_sum", "_count"].contains(&suffix), "{line}"),
                _ => assert_eq!(suffix, "", "{line}"),
            }
            let mut names = Vec::new();
            for part in split(labels) {
                let (key, value) = part.split_once('=').unwrap();
                match key {
                    "le" => drop(shown.bounds.insert(value.trim_matches('"').to_owned())),
                    key => names.push(key.to_owned()),
                }
            }
            shown.labels.insert(names);
            shown.values.push((series.to_owned(), value.parse().unwrap()));
        }
    }
    page
}

/// Labels, apart at the commas that are not in a value.
fn split(labels: &str) -> Vec<&str> {
    let (mut parts, mut start, mut quoted, mut escaped) = (Vec::new(), 0, false, false);
    for (i, c) in labels.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => quoted = !quoted,
            ',' if !quoted => {
                parts.push(&labels[start..i]);
                start = i + 1;
            }
            _ => {}
        }
    }
    parts.push(&labels[start..]);
    parts.retain(|part| !part.is_empty());
    parts
}

pub fn file(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../tests/metrics")
        .join(name);
    std::fs::read_to_string(path).unwrap()
}

/// Whether a metric is one of kubelets: a test with a node looks for it.
pub fn is_of_nodes(name: &str) -> bool {
    const OF_NODES: [&str; 9] = [
        "container_",
        "kubelet_",
        "node_cpu_",
        "node_memory_",
        "pod_",
        "prober_",
        "resource_scrape_error",
        "storage_operation_",
        "volume_operation_",
    ];
    OF_NODES.iter().any(|prefix| name.starts_with(prefix))
}

/// What is wrong with a page, beside the list; and the metrics of the list that it has.
pub fn compare(page: &BTreeMap<String, Shown>) -> (Vec<String>, BTreeSet<String>) {
    let (mut wrong, mut found) = (Vec::new(), BTreeSet::new());
    for line in file("upstream.tsv").lines() {
        let row: Vec<&str> = line.split('\t').collect();
        let [name, stability, kind, labels, _, bounds] = row[..] else {
            panic!("{line}")
        };
        let Some(shown) = page.get(name) else { continue };
        found.insert(name.to_owned());
        if kind != "custom" && shown.kind != kind {
            wrong.push(format!("{name} is a {}, not a {kind}", shown.kind));
        }
        if !shown.help.starts_with(&format!("[{stability}] ")) {
            wrong.push(format!("{name} is {stability}: {}", shown.help));
        }
        let labels: Vec<String> = labels.split(',').filter(|l| !l.is_empty()).map(str::to_owned).collect();
        if shown.labels != BTreeSet::from([labels.clone()]) {
            wrong.push(format!("{name} has {:?}, not {labels:?}", shown.labels));
        }
        let wanted: BTreeSet<String> = bounds.split(',').filter(|b| !b.is_empty()).map(str::to_owned).collect();
        let mut own = shown.bounds.clone();
        if shown.kind == "histogram" && !own.remove("+Inf") {
            wrong.push(format!("{name} has no bucket for all"));
        }
        if own != wanted {
            wrong.push(format!("{name} has the bounds {own:?}, not {wanted:?}"));
        }
    }
    (wrong, found)
}

/// Prometheus' own tool reads the page without an error. What it only dislikes about names is upstream's to decide.
pub fn read_by_prometheus(text: &str) {
    use std::io::Write;
    let child = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let mut child = child.expect("promtool is a program of the Debian package prometheus");
    child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned() + &String::from_utf8_lossy(&output.stdout);
    // 3: it has read everything and dislikes something
    assert!(matches!(output.status.code(), Some(0 | 3)), "{said}");
    let known = file("disliked.txt");
    let known: BTreeSet<&str> = known
        .lines()
        .filter(|l| !l.starts_with('#'))
        .filter_map(|l| l.split('\t').next())
        .collect();
    let new: Vec<&str> = said
        .lines()
        .filter(|l| !known.contains(l.split(' ').next().unwrap_or_default()))
        .collect();
    assert!(new.is_empty(), "{}", new.join("\n"));
}
