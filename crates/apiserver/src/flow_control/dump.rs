//! `/debug/api_priority_and_fairness/...`: who is where, as text in columns (`flowcontrol/apf_controller_debug.go`).

use std::time::Duration;

use super::FlowControl;
use super::level::{Counts, Shown, State};
use crate::http::request_info::{Query, RequestInfo};

/// Text in columns, each as wide as its widest cell.
#[derive(Default)]
struct Columns(Vec<Vec<String>>);

impl Columns {
    fn row<T: Into<String>>(&mut self, cells: impl IntoIterator<Item = T>) {
        self.0.push(cells.into_iter().map(Into::into).collect());
    }

    /// Go's tab writer: cells of at least eight characters, one space between them.
    fn text(self) -> String {
        const LEAST: usize = 8;
        let columns = self.0.iter().map(Vec::len).max().unwrap_or(0);
        let width = |column: usize| {
            let cells = self.0.iter().filter_map(|row| row.get(column));
            let widest = cells.map(|cell| cell.chars().count() + 1).max().unwrap_or(0);
            (widest + 1).max(LEAST)
        };
        let widths: Vec<usize> = (0..columns).map(width).collect();
        let mut text = String::new();
        for row in &self.0 {
            for (at, cell) in row.iter().enumerate() {
                match at + 1 == row.len() {
                    true => text.push_str(cell),
                    false => text.push_str(&format!("{:width$}", format!("{cell},"), width = widths[at])),
                }
            }
            text.push('\n');
        }
        text
    }
}

/// Seat-seconds as Go prints them.
fn seat_seconds(work: i128) -> String {
    format!("{:.8}ss", work as f64 / 1e9)
}

impl FlowControl {
    /// A page of `/debug/api_priority_and_fairness/`; `None` for one that there is not.
    pub fn page(&self, name: &str, query: &Query) -> Option<String> {
        self.refresh();
        match name {
            "dump_priority_levels" => Some(self.levels()),
            "dump_queues" => Some(self.queues()),
            "dump_requests" => Some(self.requests(query.text("includeRequestDetails").is_some())),
            _ => None,
        }
    }

    fn levels(&self) -> String {
        let mut table = Columns::default();
        table.row([
            "PriorityLevelName",
            "ActiveQueues",
            "IsIdle",
            "IsQuiescing",
            "WaitingRequests",
            "ExecutingRequests",
            "DispatchedRequests",
            "RejectedRequests",
            "TimedoutRequests",
            "CancelledRequests",
        ]);
        for (name, level) in &self.current.load().levels {
            let state = level.lock();
            let sum = |of: fn(&Counts) -> u64| state.counts.values().map(of).sum::<u64>();
            table.row([
                name.clone(),
                state
                    .set
                    .view()
                    .filter(|queue| !queue.waiting.is_empty())
                    .count()
                    .to_string(),
                state.set.is_idle().to_string(),
                state.quiescing.to_string(),
                state.set.waiting().to_string(),
                state.set.going().to_string(),
                sum(|counts| counts.dispatched).to_string(),
                sum(|counts| counts.queue_full + counts.no_seat + counts.timed_out).to_string(),
                // upstream does not tell these from those that are cancelled
                "0".to_owned(),
                sum(|counts| counts.timed_out).to_string(),
            ]);
        }
        table.text()
    }

    fn queues(&self) -> String {
        let mut table = Columns::default();
        table.row([
            "PriorityLevelName",
            "Index",
            "PendingRequests",
            "ExecutingRequests",
            "SeatsInUse",
            "NextDispatchR",
            "InitialSeatsSum",
            "MaxSeatsSum",
            "TotalWorkSum",
        ]);
        for (name, level) in &self.current.load().levels {
            for (at, queue) in level.lock().set.view().enumerate() {
                table.row([
                    name.clone(),
                    at.to_string(),
                    queue.waiting.len().to_string(),
                    queue.going.to_string(),
                    queue.seats_in_use.to_string(),
                    seat_seconds(queue.next_dispatch),
                    queue.initial_seats.to_string(),
                    queue.most_seats.to_string(),
                    seat_seconds(queue.work),
                ]);
            }
        }
        table.text()
    }

    fn requests(&self, details: bool) -> String {
        let mut table = Columns::default();
        let mut head = vec![
            "PriorityLevelName",
            "FlowSchemaName",
            "QueueIndex",
            "RequestIndexInQueue",
            "FlowDistingsher",
            "ArriveTime",
            "InitialSeats",
            "FinalSeats",
            "AdditionalLatency",
            "StartTime",
        ];
        if details {
            head.extend([
                "UserName",
                "Verb",
                "APIPath",
                "Namespace",
                "Name",
                "APIVersion",
                "Resource",
                "SubResource",
            ]);
        }
        table.row(head);
        for (name, level) in &self.current.load().levels {
            let state = level.lock();
            let queues: Vec<_> = state.set.view().collect();
            for (at, queue) in queues.iter().enumerate() {
                for (place, id) in queue.waiting.iter().enumerate() {
                    self.request(&mut table, name, &state, *id, [at as i64, place as i64], details);
                }
            }
            let mut going: Vec<u64> = (state.shown.keys().copied())
                .filter(|id| state.set.started(*id).is_some())
                .collect();
            going.sort_unstable();
            for id in going {
                let at = state.set.queue_of(id).map_or(-1, |at| at as i64);
                self.request(&mut table, name, &state, id, [at, -1], details);
            }
        }
        table.text()
    }

    fn request(&self, table: &mut Columns, level: &str, state: &State, id: u64, at: [i64; 2], details: bool) {
        let Some(shown) = state.shown.get(&id) else { return };
        let info = info_of(shown);
        let mut row = vec![
            level.to_owned(),
            shown.schema.name.clone(),
            at[0].to_string(),
            at[1].to_string(),
            shown.schema.distinguisher.read(&info, &shown.user).to_owned(),
            self.time(Some(shown.arrived)),
            shown.width.initial.to_string(),
            shown.width.last.to_string(),
            api::time::format_duration(i64::try_from(shown.width.afterwards.as_nanos()).unwrap_or(i64::MAX)),
            self.time(state.set.started(id)),
        ];
        if details {
            let version = match info.group.as_str() {
                "" => info.version.clone(),
                group => format!("{group}/{}", info.version),
            };
            row.extend([
                shown.user.name.clone(),
                info.verb.to_owned(),
                info.path,
                info.namespace,
                info.name,
                version,
                info.resource,
                info.subresource,
            ]);
        }
        table.row(row);
    }

    /// A time since the start as one of the clock; Go's zero where there is none.
    fn time(&self, since: Option<Duration>) -> String {
        let at = since.and_then(|since| {
            self.begun
                .1
                .checked_add(jiff::SignedDuration::try_from(since).ok()?)
                .ok()
        });
        at.map_or_else(|| "0001-01-01T00:00:00Z".to_owned(), |at| at.to_string())
    }
}

/// What a request asks for, read again: nobody keeps it but for this.
fn info_of(shown: &Shown) -> RequestInfo {
    let query = Query::parse(shown.uri.query());
    RequestInfo::parse(&shown.method, shown.uri.path(), &query).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_stand_below_each_other() {
        let mut table = Columns::default();
        table.row(["PriorityLevelName", "A", "B"]);
        table.row(["x", "true", ""]);
        assert_eq!(
            table.text(),
            "PriorityLevelName, A,      B\nx,                 true,   \n"
        );
        assert_eq!(seat_seconds(1_500_000_000), "1.50000000ss");
    }
}
