//! A page of metrics in Prometheus' text format (version 0.0.4).

use std::collections::BTreeMap;
use std::fmt::Write;

use crate::value::{Counter, Gauge, Histogram};

/// Kinds of metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A number that only grows while the process runs.
    Counter,
    /// A number that goes up and down.
    Gauge,
    /// Observations counted in buckets, with their sum.
    Histogram,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
        }
    }
}

/// What a metric is called, how stable it is (KEP-1209), and what it says.
#[derive(Debug, Clone, Copy)]
pub struct Metric {
    /// The name, with its unit as suffix where it has one (`_seconds`, `_bytes`).
    pub name: &'static str,
    stability: &'static str,
    help: &'static str,
}

impl Metric {
    /// A metric whose name and labels upstream keeps (`STABLE`).
    pub const fn stable(name: &'static str, help: &'static str) -> Metric {
        let stability = "[STABLE] ";
        Metric { name, stability, help }
    }

    /// A metric whose labels may become more (`BETA`).
    pub const fn beta(name: &'static str, help: &'static str) -> Metric {
        let stability = "[BETA] ";
        Metric { name, stability, help }
    }

    /// A metric that may change or go with any version (`ALPHA`).
    pub const fn alpha(name: &'static str, help: &'static str) -> Metric {
        let stability = "[ALPHA] ";
        Metric { name, stability, help }
    }

    /// One of those that are not Kubernetes' own, like those of a process.
    pub const fn foreign(name: &'static str, help: &'static str) -> Metric {
        let stability = "";
        Metric { name, stability, help }
    }
}

#[derive(Debug)]
struct Block {
    kind: Kind,
    metric: Metric,
    lines: String,
}

/// All metrics that are shown, by name: what several owners count under one name stands together.
#[derive(Debug, Default)]
pub struct Page {
    blocks: BTreeMap<&'static str, Block>,
}

/// Where the samples of one metric are written.
#[derive(Debug)]
pub struct Samples<'a> {
    name: &'static str,
    out: &'a mut String,
}

impl Page {
    /// The place for the samples of a metric; without one it is not shown.
    pub fn samples(&mut self, metric: &Metric, kind: Kind) -> Samples<'_> {
        let block = self.blocks.entry(metric.name).or_insert_with(|| Block {
            kind,
            metric: *metric,
            lines: String::new(),
        });
        Samples {
            name: metric.name,
            out: &mut block.lines,
        }
    }

    /// A counter without labels.
    pub fn counter(&mut self, metric: &Metric, value: &Counter) {
        self.samples(metric, Kind::Counter).count(&[], value.get());
    }

    /// A gauge without labels.
    #[allow(clippy::cast_precision_loss)]
    pub fn gauge(&mut self, metric: &Metric, value: &Gauge) {
        self.number(metric, value.get() as f64);
    }

    /// A gauge without labels that is read when it is shown.
    pub fn number(&mut self, metric: &Metric, value: f64) {
        self.samples(metric, Kind::Gauge).number(&[], value);
    }

    /// A histogram without labels.
    pub fn histogram(&mut self, metric: &Metric, value: &Histogram) {
        self.samples(metric, Kind::Histogram).histogram(&[], value);
    }

    /// Shows how many metrics there are, by how stable they are. Those that are put on the page later are not among them.
    pub fn count_metrics(&mut self) {
        const REGISTERED: Metric = Metric::beta(
            "registered_metrics_total",
            "Metrics that there are, by how stable they are.",
        );
        const DISABLED: Metric = Metric::beta("disabled_metrics_total", "Metrics that were switched off.");
        const HIDDEN: Metric = Metric::beta("hidden_metrics_total", "Metrics that are hidden.");
        let mut levels = BTreeMap::<&str, u64>::new();
        for block in self.blocks.values() {
            let level = block.metric.stability.trim_matches(['[', ']', ' ']);
            *levels.entry(level).or_default() += 1;
        }
        // what is not Kubernetes' own has no level
        levels.remove("");
        let mut samples = self.samples(&REGISTERED, Kind::Counter);
        for (level, count) in levels {
            samples.count(&[("deprecated_version", ""), ("stability_level", level)], count);
        }
        // none can be switched off or hidden here
        self.samples(&DISABLED, Kind::Counter).count(&[], 0);
        self.samples(&HIDDEN, Kind::Counter).count(&[], 0);
    }

    /// The page as it is scraped.
    pub fn text(&self) -> String {
        let mut text = String::new();
        for (name, block) in self.blocks.iter().filter(|(_, block)| !block.lines.is_empty()) {
            let Metric { stability, help, .. } = block.metric;
            let help = help.replace('\\', "\\\\").replace('\n', "\\n");
            // writing to a string cannot fail
            let _ = writeln!(
                text,
                "# HELP {name} {stability}{help}\n# TYPE {name} {}",
                block.kind.name()
            );
            text.push_str(&block.lines);
        }
        text
    }
}

impl Samples<'_> {
    /// A number of things.
    pub fn count(&mut self, labels: &[(&str, &str)], value: u64) {
        self.series("", labels, None);
        let _ = writeln!(self.out, " {value}");
    }

    /// A number that need not be whole.
    pub fn number(&mut self, labels: &[(&str, &str)], value: f64) {
        self.series("", labels, None);
        let _ = writeln!(self.out, " {}", number(value));
    }

    /// A number that was measured at a time, in milliseconds since 1970, if that is known.
    pub fn measured(&mut self, labels: &[(&str, &str)], value: f64, at: Option<i64>) {
        let Some(at) = at else {
            return self.number(labels, value);
        };
        self.series("", labels, None);
        let _ = writeln!(self.out, " {} {at}", number(value));
    }

    /// A histogram: a line a bucket (`_bucket`, with the label `le`), then `_sum` and `_count`.
    pub fn histogram(&mut self, labels: &[(&str, &str)], value: &Histogram) {
        let counts = value.counts();
        let bounds = value.bounds().iter().map(|bound| number(*bound));
        for (bound, count) in bounds.chain(["+Inf".to_owned()]).zip(&counts) {
            self.series("_bucket", labels, Some(&bound));
            let _ = writeln!(self.out, " {count}");
        }
        self.series("_sum", labels, None);
        let _ = writeln!(self.out, " {}", number(value.sum()));
        self.series("_count", labels, None);
        let _ = writeln!(self.out, " {}", counts.last().copied().unwrap_or(0));
    }

    fn series(&mut self, suffix: &str, labels: &[(&str, &str)], bound: Option<&str>) {
        self.out.push_str(self.name);
        self.out.push_str(suffix);
        let mut open = '{';
        for (key, value) in labels.iter().copied().chain(bound.map(|bound| ("le", bound))) {
            self.out.push(open);
            open = ',';
            self.out.push_str(key);
            self.out.push_str("=\"");
            for c in value.chars() {
                match c {
                    '\\' => self.out.push_str("\\\\"),
                    '"' => self.out.push_str("\\\""),
                    '\n' => self.out.push_str("\\n"),
                    c => self.out.push(c),
                }
            }
            self.out.push('"');
        }
        if open == ',' {
            self.out.push('}');
        }
    }
}

/// A number as Go writes it (`strconv.FormatFloat`, `g`, the shortest that reads back the same): series of upstream's clients are known by their bounds.
fn number(value: f64) -> String {
    if value.is_nan() {
        return "NaN".into();
    }
    if value.is_infinite() {
        return if value > 0.0 { "+Inf" } else { "-Inf" }.into();
    }
    let text = format!("{value:e}");
    let Some((digits, exponent)) = text.split_once('e') else {
        return text;
    };
    match exponent.parse::<i32>() {
        Ok(exponent) if !(-4..6).contains(&exponent) => {
            let sign = if exponent < 0 { '-' } else { '+' };
            format!("{digits}e{sign}{:02}", exponent.abs())
        }
        _ => format!("{value}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_as_go_writes_them() {
        for (value, text) in [
            (0.0, "0"),
            (1.0, "1"),
            (0.005, "0.005"),
            (5e-7, "5e-07"),
            (1e-5, "1e-05"),
            (100_000.0, "100000"),
            (1e6, "1e+06"),
            (1_024.0, "1024"),
            (1_234_567.0, "1.234567e+06"),
            (2_621.44, "2621.44"),
            (f64::INFINITY, "+Inf"),
        ] {
            assert_eq!(number(value), text);
        }
    }

    #[test]
    fn metrics_of_one_name_stand_together_and_one_without_samples_is_not_there() {
        let mut page = Page::default();
        let metric = Metric::stable("a", "It\nis.");
        page.samples(&metric, Kind::Gauge).number(&[("b", "1")], 1.0);
        page.samples(&Metric::beta("empty", "None."), Kind::Counter);
        page.samples(&metric, Kind::Gauge).number(&[("b", "2")], 2.5);
        page.histogram(&Metric::foreign("h", "Sizes."), &Histogram::new(&[1e6]));
        assert_eq!(
            page.text(),
            "# HELP a [STABLE] It\\nis.\n# TYPE a gauge\na{b=\"1\"} 1\na{b=\"2\"} 2.5\n# HELP h Sizes.\n# TYPE h histogram\n\
             h_bucket{le=\"1e+06\"} 0\nh_bucket{le=\"+Inf\"} 0\nh_sum 0\nh_count 0\n"
        );
    }
}
