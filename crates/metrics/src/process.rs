//! What Linux tells of this process, under the names that Prometheus' own clients use.

use std::fs;

use crate::page::{Kind, Metric, Page};

const CPU: Metric = Metric::foreign(
    "process_cpu_seconds_total",
    "Seconds of CPU time that the process has used.",
);
const RESIDENT: Metric = Metric::foreign("process_resident_memory_bytes", "Bytes of memory that the process has.");
const VIRTUAL: Metric = Metric::foreign(
    "process_virtual_memory_bytes",
    "Bytes of address space that the process has.",
);
const START: Metric = Metric::foreign(
    "process_start_time_seconds",
    "When the process was started, in seconds since 1970.",
);
const OPEN: Metric = Metric::foreign("process_open_fds", "File descriptors that are open.");
const MOST: Metric = Metric::foreign("process_max_fds", "File descriptors that may be open.");

/// Ticks of `/proc/self/stat` in a second: the kernel's `USER_HZ`, which is the same on all machines.
const TICKS: f64 = 100.0;
/// Bytes of a page that `/proc/self/stat` counts.
const PAGE: f64 = 4096.0;

/// Shows it. What cannot be read is left out.
#[allow(clippy::cast_precision_loss)]
pub fn show(page: &mut Page) {
    let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // the name of the program may have spaces: what follows it are the fields from the third on (proc_pid_stat(5))
    let fields: Vec<&str> = stat.rsplit_once(") ").map_or("", |(_, rest)| rest).split(' ').collect();
    let field = |number: usize| fields.get(number - 3).and_then(|text| text.trim().parse::<f64>().ok());
    if let (Some(user), Some(system)) = (field(14), field(15)) {
        page.samples(&CPU, Kind::Counter).number(&[], (user + system) / TICKS);
    }
    if let Some(bytes) = field(23) {
        page.number(&VIRTUAL, bytes);
    }
    if let Some(pages) = field(24) {
        page.number(&RESIDENT, pages * PAGE);
    }
    if let (Some(ticks), Some(boot)) = (field(22), boot()) {
        page.number(&START, boot + ticks / TICKS);
    }
    if let Ok(open) = fs::read_dir("/proc/self/fd") {
        page.number(&OPEN, open.count() as f64);
    }
    if let Some(most) = most() {
        page.number(&MOST, most);
    }
}

/// When the machine was started, in seconds since 1970.
fn boot() -> Option<f64> {
    let stat = fs::read_to_string("/proc/stat").ok()?;
    let line = stat.lines().find_map(|line| line.strip_prefix("btime "))?;
    line.trim().parse().ok()
}

fn most() -> Option<f64> {
    let limits = fs::read_to_string("/proc/self/limits").ok()?;
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    line.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_has_memory_and_a_beginning() {
        let mut page = Page::default();
        show(&mut page);
        let text = page.text();
        for name in [
            "process_resident_memory_bytes",
            "process_start_time_seconds",
            "process_open_fds",
        ] {
            let prefix = format!("{name} ");
            let line = text.lines().find_map(|line| line.strip_prefix(&prefix));
            assert!(line.unwrap().parse::<f64>().unwrap() > 0.0, "{text}");
        }
    }
}
