//! How many seats a request takes: lists by what they bring into memory, writes by the watchers that are told
//! (`k8s.io/apiserver/pkg/util/flowcontrol/request`).

use std::time::Duration;

use super::queue_set::Width;
use crate::http::request_info::{Query, RequestInfo};
use crate::registry::Registry;

/// The most seats of a list and of a write, whatever its level allows.
const WIDEST_LIST: u32 = 100;
const WIDEST_WRITE: u32 = 10;
/// Bytes of objects for which a list takes a seat.
const BYTES: u64 = 100_000;
/// What a list that is sent while it is made has in memory at most.
const STREAMED: u64 = 1_000_000;
/// Watchers for which a write takes a seat, and how long each of them is told.
const WATCHERS: usize = 10;
const TELLING: Duration = Duration::from_millis(5);

/// The width of a request at a level whose requests take `widest` seats at most.
pub fn estimate(registry: &Registry, info: &RequestInfo, query: &Query, widest: u32) -> Width {
    match info.verb {
        "list" | "watch" => Width::of(of_list(registry, info, query).clamp(1, widest.min(WIDEST_LIST))),
        "create" | "update" | "patch" | "delete" => of_write(watchers(registry, info), widest.min(WIDEST_WRITE)),
        _ => Width::of(1),
    }
}

fn of_list(registry: &Registry, info: &RequestInfo, query: &Query) -> u32 {
    let revision = query.text("resourceVersion").unwrap_or("0");
    // a watch costs what it begins with
    if info.verb == "watch" && !query.flag("sendInitialEvents") && revision != "0" {
        return 1;
    }
    let catalog = registry.catalog();
    let Some(served) = catalog.find(&info.group, &info.version, &info.resource) else {
        return 1;
    };
    let (count, bytes) = served.cache.size();
    let mean = bytes.checked_div(count).unwrap_or(0);
    let limit = query
        .text("limit")
        .and_then(|text| text.parse::<u64>().ok())
        .filter(|limit| *limit > 0);
    let limited = limit.map_or(count, |limit| limit.min(count));
    // an older revision may be read from the datastore, with all that a selector leaves out
    let stored = info.verb == "list" && query.get("resourceVersionMatch") == Some("Exact");
    let selects = ["fieldSelector", "labelSelector"]
        .iter()
        .any(|key| query.text(key).is_some());
    let loaded = match () {
        () if !info.name.is_empty() => 1,
        () if stored && selects => limited.max(count / 2),
        () => limited,
    };
    let memory = loaded.saturating_mul(mean);
    let memory = if stored { memory } else { memory.min(STREAMED) };
    u32::try_from(memory.div_ceil(BYTES)).unwrap_or(u32::MAX)
}

fn watchers(registry: &Registry, info: &RequestInfo) -> usize {
    // a token is no change
    if info.resource == "serviceaccounts" && info.subresource == "token" {
        return 0;
    }
    let catalog = registry.catalog();
    let served = catalog.find(&info.group, &info.version, &info.resource);
    served.map_or(0, |served| served.cache.interested(&info.namespace, &info.name))
}

fn of_write(watchers: usize, widest: u32) -> Width {
    if watchers < WATCHERS {
        return Width::of(1);
    }
    let seats = u32::try_from(watchers.div_ceil(WATCHERS)).unwrap_or(u32::MAX);
    let last = seats.min(widest).max(1);
    Width {
        initial: 1,
        last,
        // the same work by fewer
        afterwards: TELLING.mul_f64(f64::from(seats) / f64::from(last)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `mutating_work_estimator.go`
    #[test]
    fn a_write_takes_seats_for_those_who_are_told() {
        assert_eq!(of_write(9, 10), Width::of(1));
        let of = |watchers, widest| {
            let width = of_write(watchers, widest);
            (width.initial, width.last, width.afterwards.as_millis())
        };
        assert_eq!(of(10, 10), (1, 1, 5));
        assert_eq!(of(99, 10), (1, 10, 5));
        assert_eq!(of(2000, 10), (1, 10, 100));
        assert_eq!(of(200, 4), (1, 4, 25));
    }
}
