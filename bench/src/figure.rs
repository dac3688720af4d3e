//! The figures of the table, in its order, and how they are printed.

use std::collections::BTreeMap;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Better {
    Lower,
    Higher,
}

#[derive(Debug, Clone, Copy)]
pub enum Unit {
    Seconds,
    Bytes,
    /// A share of one core.
    Percent,
    PerSecond,
}

/// One line of the table.
pub struct Figure {
    /// `row.figure`; the row is what `--rows` names.
    pub key: &'static str,
    pub title: &'static str,
    pub unit: Unit,
    pub better: Better,
    /// What is to be reached first; 0 where it is a multiple of upstream's.
    pub goal: f64,
    /// Upstream's times this.
    pub goal_ratio: f64,
}

const fn time(key: &'static str, title: &'static str, goal: f64) -> Figure {
    Figure {
        key,
        title,
        unit: Unit::Seconds,
        better: Better::Lower,
        goal,
        goal_ratio: 0.0,
    }
}

const fn memory(key: &'static str, title: &'static str, goal_mib: f64) -> Figure {
    Figure {
        key,
        title,
        unit: Unit::Bytes,
        better: Better::Lower,
        goal: goal_mib * 1048576.0,
        goal_ratio: 0.0,
    }
}

const fn rate(key: &'static str, title: &'static str, goal_ratio: f64) -> Figure {
    Figure {
        key,
        title,
        unit: Unit::PerSecond,
        better: Better::Higher,
        goal: 0.0,
        goal_ratio,
    }
}

pub const FIGURES: &[Figure] = &[
    time("start.api", "start: first process to API ready", 1.0),
    time("start.node", "start: to node Ready", 1.0),
    time("start.dns", "start: to cluster DNS answering", 1.0),
    memory("idle.pss", "idle node with DNS, all processes: PSS", 60.0),
    memory(
        "idle.anonymous",
        "idle node with DNS, all processes: anonymous memory",
        0.0,
    ),
    Figure {
        key: "idle.cpu",
        title: "idle node: CPU, of one core",
        unit: Unit::Percent,
        better: Better::Lower,
        goal: 0.2,
        goal_ratio: 0.0,
    },
    time("pods.running_p50", "pod bound to container running, 2 pods/s, p50", 0.1),
    time(
        "pods.running_p99",
        "pod bound to container running, 2 pods/s, p99",
        0.25,
    ),
    time("pods.cpu", "CPU a pod costs the node from create to gone", 0.06),
    time("deployment.ready", "Deployment of 50 pods: all Ready", 3.0),
    memory("deployment.pss", "memory a pod adds, all processes: PSS", 2.5),
    time(
        "service.answer",
        "`kubectl apply` of a Deployment and a Service to the first answer by DNS name",
        1.0,
    ),
    time(
        "container.ours",
        "container create + start + delete: CRI over the socket, beside runc's three commands",
        0.0,
    ),
    time("container.crun", "the same beside crun's three commands", 0.0),
    rate("creates.one", "creates of ConfigMaps, 1 client", 0.0),
    rate("creates.many", "creates of ConfigMaps, 32 clients", 0.0),
    time("creates.cpu", "server CPU a create", 250e-6),
    rate("updates.many", "updates of ConfigMaps, 32 clients", 0.0),
    time("updates.cpu", "server CPU an update", 300e-6),
    rate("gets.many", "GETs of a ConfigMap, 32 clients", 0.0),
    time("gets.cpu", "server CPU a GET", 80e-6),
    rate("podcreates.many", "creates of Pods, 32 clients", 0.0),
    time("podcreates.cpu", "server CPU a Pod's create", 600e-6),
    time("list.time", "LIST of 3,000 pods, JSON", 0.03),
    time("list.cpu", "server CPU a LIST", 0.025),
    Figure {
        key: "list.bytes",
        title: "size of that LIST",
        unit: Unit::Bytes,
        better: Better::Lower,
        goal: 0.0,
        goal_ratio: 0.0,
    },
    rate("watch.deliveries", "watch: 100 watchers, 8 writers: deliveries", 0.0),
    time("watch.cpu", "server CPU an update and its 100 deliveries", 1e-3),
    memory("memory.idle", "control plane, idle: PSS", 60.0),
    memory("memory.loaded", "control plane after the load: PSS", 150.0),
    rate(
        "store.put1",
        "synced puts of 1 KiB, 1 client: our store in process, etcd over gRPC",
        2.0,
    ),
    rate("store.put100", "the same, 100 clients", 2.0),
    rate("store.put1000", "the same, 1,000 clients", 2.0),
    rate(
        "store.range",
        "ranges of one key, 100 clients: our store in process, etcd over gRPC",
        2.0,
    ),
];

/// Values by side (`skiff`, `upstream`) and key; several are reduced to their median.
#[derive(Debug, Default)]
pub struct Figures(BTreeMap<(String, String), Vec<f64>>);

fn median(values: &[f64]) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len().checked_sub(1)? / 2;
    Some(match sorted.len() % 2 {
        0 => f64::midpoint(sorted[middle], sorted[middle + 1]),
        _ => sorted[middle],
    })
}

fn three_digits(value: f64) -> String {
    let digits = if value == 0.0 {
        0
    } else {
        2 - value.abs().log10().floor() as i32
    };
    format!("{value:.*}", digits.clamp(0, 4) as usize)
}

impl Unit {
    fn print(self, value: f64) -> String {
        match self {
            Unit::Seconds if value < 1e-3 => format!("{} µs", three_digits(value * 1e6)),
            Unit::Seconds if value < 1.0 => format!("{} ms", three_digits(value * 1e3)),
            Unit::Seconds => format!("{} s", three_digits(value)),
            Unit::Bytes => format!("{} MiB", three_digits(value / 1048576.0)),
            Unit::Percent => format!("{} %", three_digits(value)),
            Unit::PerSecond => format!("{value:.0}/s"),
        }
    }
}

impl Figures {
    pub fn add(&mut self, side: &str, key: &str, value: f64) {
        self.0.entry((side.to_owned(), key.to_owned())).or_default().push(value);
    }

    fn get(&self, side: &str, key: &str) -> Option<f64> {
        median(self.0.get(&(side.to_owned(), key.to_owned()))?)
    }

    /// A markdown table of what was measured. A ratio above 1 is in skiff's favour.
    pub fn table(&self) -> String {
        let mut out =
            "| figure | skiff | upstream | ratio | first goal |\n| --- | --- | --- | --- | --- |\n".to_owned();
        for figure in FIGURES {
            let (ours, theirs) = (self.get("skiff", figure.key), self.get("upstream", figure.key));
            if ours.is_none() && theirs.is_none() {
                continue;
            }
            let print = |value: Option<f64>| value.map_or_else(|| "-".to_owned(), |v| figure.unit.print(v));
            let ratio = match (ours, theirs, figure.better) {
                (Some(ours), Some(theirs), Better::Lower) => format!("{} x", three_digits(theirs / ours)),
                (Some(ours), Some(theirs), Better::Higher) => format!("{} x", three_digits(ours / theirs)),
                _ => "-".to_owned(),
            };
            let goal = if figure.goal > 0.0 {
                Some(figure.goal)
            } else {
                theirs.map(|t| t * figure.goal_ratio).filter(|g| *g > 0.0)
            };
            let goal = match (goal, ours) {
                (None, _) => String::new(),
                (Some(goal), None) => figure.unit.print(goal),
                (Some(goal), Some(ours)) => {
                    let reached = match figure.better {
                        Better::Lower => ours <= goal,
                        Better::Higher => ours >= goal,
                    };
                    format!("{}{}", figure.unit.print(goal), if reached { "" } else { ", missed" })
                }
            };
            out += &format!(
                "| {} | {} | {} | {ratio} | {goal} |\n",
                figure.title,
                print(ours),
                print(theirs)
            );
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_has_medians_ratios_and_goals_that_are_missed() {
        let mut figures = Figures::default();
        for value in [0.3, 0.5, 0.4] {
            figures.add("skiff", "start.api", value);
        }
        figures.add("upstream", "start.api", 2.0);
        figures.add("skiff", "store.put1", 3000.0);
        figures.add("upstream", "store.put1", 2000.0);
        let table = figures.table();
        assert!(
            table.contains("| start: first process to API ready | 400 ms | 2.00 s | 5.00 x | 1.00 s |"),
            "{table}"
        );
        assert!(
            table.contains("| 3000/s | 2000/s | 1.50 x | 4000/s, missed |"),
            "{table}"
        );
        assert_eq!(table.lines().count(), 4);
    }
}
