//! Who goes next at one priority level: fair queuing for requests that use seats for a time
//! (`k8s.io/apiserver/pkg/util/flowcontrol/fairqueuing/queueset`, KEP-1040). Pure: it is told of arrivals and ends and of the time, and
//! says which requests go on. The requests are known by numbers; whoever they belong to waits elsewhere.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::time::Duration;

use super::demand::Demand;
use super::shuffle::Dealer;

/// Seats used for a time, in nanoseconds.
pub type Work = i128;

/// How long a request is taken to last until it is known.
const ESTIMATED: Duration = Duration::from_millis(3);

fn work(seats: u32, time: Duration) -> Work {
    // a request lasts minutes at most: its nanoseconds fit many times over
    Work::from(seats) * i128::try_from(time.as_nanos()).unwrap_or(i128::MAX / 1_000_000)
}

/// The seats that a request takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Width {
    /// While it is answered.
    pub initial: u32,
    /// Afterwards, while watchers are told of what it changed.
    pub last: u32,
    pub afterwards: Duration,
}

impl Width {
    /// A request that is over once it is answered.
    pub fn of(seats: u32) -> Width {
        Width {
            initial: seats,
            last: 0,
            afterwards: Duration::ZERO,
        }
    }

    /// The seats that the request takes at once at most.
    pub fn most(self) -> u32 {
        self.initial.max(self.last)
    }

    fn total(self) -> Work {
        work(self.initial, ESTIMATED) + work(self.last, self.afterwards)
    }

    /// No more seats at the end than there are; the same work lasts longer then.
    fn within(self, limit: u32) -> Width {
        if self.last <= limit || limit == 0 {
            return self;
        }
        let nanos = work(self.last, self.afterwards) / Work::from(limit);
        Width {
            last: limit,
            afterwards: Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX)),
            ..self
        }
    }
}

/// How requests queue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Queuing {
    /// There is no limit.
    Exempt,
    /// What has no seat is refused.
    Reject,
    Queue {
        dealer: Dealer,
        /// Requests that wait in one queue.
        length: usize,
    },
}

/// What becomes of a request that arrives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Arrived {
    Goes,
    Waits,
    /// There is no seat, and nobody waits here.
    NoSeat,
    QueueFull,
}

#[derive(Debug)]
struct Waiting {
    id: u64,
    width: Width,
    /// The meter when it arrived.
    arrival: Work,
}

#[derive(Debug, Clone, Copy)]
struct Going {
    queue: Option<usize>,
    width: Width,
    started: Duration,
}

/// One queue.
#[derive(Debug, Default)]
pub struct Queue {
    waiting: VecDeque<Waiting>,
    going: usize,
    seats_in_use: u32,
    /// Where the meter must be for its next request to go.
    next_dispatch: Work,
    waiting_work: Work,
    waiting_seats: u32,
}

/// What a queue looks like from outside.
#[derive(Debug, Clone, PartialEq)]
pub struct QueueView {
    pub waiting: Vec<u64>,
    pub going: usize,
    pub seats_in_use: u32,
    pub next_dispatch: Work,
    pub initial_seats: u32,
    pub most_seats: u32,
    pub work: Work,
}

impl Queue {
    fn is_idle(&self) -> bool {
        self.waiting.is_empty() && self.going == 0
    }

    /// No request goes before it has arrived: a queue that does not use its share may not save it up.
    fn bound(&mut self) {
        if let Some(first) = self.waiting.front() {
            self.next_dispatch = self.next_dispatch.max(first.arrival);
        }
    }
}

/// The queues of one priority level.
#[derive(Debug)]
pub struct QueueSet {
    queuing: Queuing,
    /// Seats.
    limit: u32,
    queues: Vec<Queue>,
    /// The work that each queue with something to do was due since the start.
    meter: Work,
    /// When the meter was read.
    read: Duration,
    /// Queues that are not idle.
    active: usize,
    /// The queue that was served last.
    robin: usize,
    enqueued: usize,
    requests_waiting: usize,
    seats_waiting: u32,
    seats_in_use: u32,
    going: HashMap<u64, Going>,
    /// In which queue a request waits.
    places: HashMap<u64, usize>,
    /// Seats that are kept for a while after their request, by when they are free.
    lingering: BTreeMap<(Duration, u64), (Option<usize>, u32)>,
    pub demand: Demand,
}

impl QueueSet {
    /// No request is here at first.
    pub fn new(queuing: Queuing, limit: u32, now: Duration) -> QueueSet {
        let mut set = QueueSet {
            queuing: Queuing::Exempt,
            limit,
            queues: Vec::new(),
            meter: 0,
            read: now,
            active: 0,
            robin: 0,
            enqueued: 0,
            requests_waiting: 0,
            seats_waiting: 0,
            seats_in_use: 0,
            going: HashMap::new(),
            places: HashMap::new(),
            lingering: BTreeMap::new(),
            demand: Demand::new(now),
        };
        set.configure(now, queuing, limit);
        set
    }

    /// Changes how requests queue, and how many seats there are; answers who goes on.
    pub fn configure(&mut self, now: Duration, queuing: Queuing, limit: u32) -> Vec<u64> {
        self.advance(now);
        if let Queuing::Queue { dealer, .. } = &queuing {
            while self.queues.len() < dealer.queues() {
                self.queues.push(Queue::default());
            }
        }
        self.queuing = queuing;
        self.limit = limit;
        self.shrink();
        self.dispatch(now)
    }

    /// Changes how many seats there are.
    pub fn set_limit(&mut self, now: Duration, limit: u32) -> Vec<u64> {
        if limit == self.limit {
            return Vec::new();
        }
        self.advance(now);
        self.limit = limit;
        self.dispatch(now)
    }

    /// Seats that may be taken.
    pub fn limit(&self) -> u32 {
        self.limit
    }

    /// Whether no request runs or waits.
    pub fn is_idle(&self) -> bool {
        self.requests_waiting == 0 && self.going.is_empty()
    }

    /// Requests that wait.
    pub fn waiting(&self) -> usize {
        self.requests_waiting
    }

    /// Requests that run.
    pub fn going(&self) -> usize {
        self.going.len()
    }

    /// Seats that are taken.
    pub fn seats_in_use(&self) -> u32 {
        self.seats_in_use
    }

    /// Seats that the requests in the queues want.
    pub fn seats_waiting(&self) -> u32 {
        self.seats_waiting
    }

    /// When seats get free that nobody tells of, if somebody waits for them.
    pub fn wake(&self) -> Option<Duration> {
        let (at, _) = self.lingering.keys().next().filter(|_| self.requests_waiting > 0)?;
        Some(*at)
    }

    /// A request arrives. Others may go on with it, who were waiting for the time to pass.
    pub fn arrive(&mut self, now: Duration, id: u64, hash: u64, width: Width) -> (Arrived, Vec<u64>) {
        self.advance(now);
        let Queuing::Queue { dealer, length } = &self.queuing else {
            if !self.has_room(width.most()) {
                return (Arrived::NoSeat, Vec::new());
            }
            self.go(now, id, None, width);
            self.note_demand(now);
            return (Arrived::Goes, Vec::new());
        };
        let at = self.shortest(dealer, hash);
        if self.seats_in_use >= self.limit && self.queues[at].waiting.len() >= *length {
            return (Arrived::QueueFull, Vec::new());
        }
        self.enqueued = self.enqueued.wrapping_add(1);
        if self.queues[at].is_idle() {
            self.queues[at].next_dispatch = self.meter;
            self.active += 1;
        }
        if self.requests_waiting == 0 && self.has_room(width.most()) {
            // nobody is before it
            let queue = &mut self.queues[at];
            queue.next_dispatch = queue.next_dispatch.max(self.meter);
            self.serve(now, id, at, width);
            self.note_demand(now);
            return (Arrived::Goes, Vec::new());
        }
        let queue = &mut self.queues[at];
        queue.waiting.push_back(Waiting {
            id,
            width,
            arrival: self.meter,
        });
        queue.waiting_work += width.total();
        queue.waiting_seats += width.most();
        queue.bound();
        self.requests_waiting += 1;
        self.seats_waiting += width.most();
        self.places.insert(id, at);
        let mut others = self.dispatch(now);
        self.note_demand(now);
        let before = others.len();
        others.retain(|other| *other != id);
        match others.len() < before {
            true => (Arrived::Goes, others),
            false => (Arrived::Waits, others),
        }
    }

    /// A request was answered; answers who goes on.
    pub fn finish(&mut self, now: Duration, id: u64) -> Vec<u64> {
        self.advance(now);
        let Some(request) = self.going.remove(&id) else {
            return Vec::new();
        };
        let Going { queue, width, started } = request;
        if let Some(at) = queue {
            let took = now.saturating_sub(started);
            let queue = &mut self.queues[at];
            queue.going -= 1;
            // what was estimated is made good
            queue.next_dispatch += work(width.initial, took) - work(width.initial, ESTIMATED);
            queue.bound();
            if queue.is_idle() {
                self.active -= 1;
            }
        }
        match width.afterwards.is_zero() {
            true => self.release(queue, width.most()),
            false => drop(
                self.lingering
                    .insert((now + width.afterwards, id), (queue, width.most())),
            ),
        }
        self.shrink();
        let next = self.dispatch(now);
        self.note_demand(now);
        next
    }

    /// A request does not wait any longer; answers who goes on without it, and nothing when it goes already.
    pub fn give_up(&mut self, now: Duration, id: u64) -> Option<Vec<u64>> {
        self.advance(now);
        let at = self.places.remove(&id)?;
        let queue = &mut self.queues[at];
        if let Some(place) = queue.waiting.iter().position(|one| one.id == id)
            && let Some(one) = queue.waiting.remove(place)
        {
            queue.waiting_work -= one.width.total();
            queue.waiting_seats -= one.width.most();
            queue.bound();
            if queue.is_idle() {
                self.active -= 1;
            }
            self.requests_waiting -= 1;
            self.seats_waiting -= one.width.most();
        }
        let next = self.dispatch(now);
        self.note_demand(now);
        Some(next)
    }

    /// Time has passed; answers who goes on.
    pub fn pass(&mut self, now: Duration) -> Vec<u64> {
        self.advance(now);
        let next = self.dispatch(now);
        self.note_demand(now);
        next
    }

    /// The queues as they are.
    pub fn view(&self) -> impl Iterator<Item = QueueView> {
        self.queues.iter().map(|queue| QueueView {
            waiting: queue.waiting.iter().map(|one| one.id).collect(),
            going: queue.going,
            seats_in_use: queue.seats_in_use,
            next_dispatch: queue.next_dispatch,
            initial_seats: queue.waiting.iter().map(|one| one.width.initial).sum(),
            most_seats: queue.waiting_seats,
            work: queue.waiting_work,
        })
    }

    /// When a request went; `None` while it waits.
    pub fn started(&self, id: u64) -> Option<Duration> {
        self.going.get(&id).map(|going| going.started)
    }

    /// The queue that a request goes or waits in.
    pub fn queue_of(&self, id: u64) -> Option<usize> {
        let going = self.going.get(&id).and_then(|going| going.queue);
        going.or_else(|| self.places.get(&id).copied())
    }

    /// Moves the meter on, and frees the seats whose time is over.
    fn advance(&mut self, now: Duration) {
        while let Some(entry) = self.lingering.first_entry().filter(|entry| entry.key().0 <= now) {
            let ((at, _), (queue, seats)) = entry.remove_entry();
            self.turn(at);
            self.release(queue, seats);
        }
        self.turn(now);
    }

    fn turn(&mut self, now: Duration) {
        let passed = now.saturating_sub(self.read);
        self.read = self.read.max(now);
        if self.active > 0 {
            let seats = self.limit.min(self.seats_in_use + self.seats_waiting);
            self.meter += work(seats, passed) / self.active as Work;
        }
    }

    fn note_demand(&mut self, now: Duration) {
        self.demand.set(now, self.seats_in_use + self.seats_waiting);
    }

    fn has_room(&self, seats: u32) -> bool {
        match self.queuing {
            Queuing::Exempt => true,
            // it would never have: it goes alone
            _ if seats > self.limit => self.going.is_empty(),
            _ => self.seats_in_use + seats <= self.limit,
        }
    }

    /// Of the queues that a flow is dealt, the one with the least work; those that are equal take turns.
    fn shortest(&self, dealer: &Dealer, hash: u64) -> usize {
        let hand = dealer.deal(hash);
        let first = self.enqueued % hand.len();
        let turned = (0..hand.len()).map(|i| hand[(first + i) % hand.len()]);
        turned.min_by_key(|at| self.queues[*at].waiting_work).unwrap_or(0)
    }

    fn go(&mut self, now: Duration, id: u64, queue: Option<usize>, width: Width) {
        self.seats_in_use += width.most();
        let started = now;
        self.going.insert(id, Going { queue, width, started });
    }

    /// A request of a queue goes.
    fn serve(&mut self, now: Duration, id: u64, at: usize, width: Width) {
        let width = width.within(self.limit);
        let queue = &mut self.queues[at];
        queue.going += 1;
        queue.seats_in_use += width.most();
        queue.next_dispatch += width.total();
        self.robin = at;
        self.go(now, id, Some(at), width);
    }

    /// Lets requests go as long as there are seats: of the queues the one whose first request would be done first.
    fn dispatch(&mut self, now: Duration) -> Vec<u64> {
        let mut next = Vec::new();
        while self.requests_waiting > 0 && self.seats_in_use < self.limit {
            let count = self.queues.len();
            let turned = (1..=count).map(|i| (self.robin + i) % count);
            let finish = |at: &usize| {
                let queue = &self.queues[*at];
                let first = queue.waiting.front()?;
                Some((queue.next_dispatch + first.width.total(), *at))
            };
            let least = turned.filter_map(|at| finish(&at)).min_by_key(|(finish, _)| *finish);
            let Some((_, at)) = least else { break };
            let first = self.queues[at].waiting.front();
            // it is not overtaken by narrower ones, or it would wait for ever
            if !first.is_some_and(|one| self.has_room(one.width.most())) {
                break;
            }
            let Some(one) = self.queues[at].waiting.pop_front() else {
                break;
            };
            let queue = &mut self.queues[at];
            queue.waiting_work -= one.width.total();
            queue.waiting_seats -= one.width.most();
            self.requests_waiting -= 1;
            self.seats_waiting -= one.width.most();
            self.places.remove(&one.id);
            self.serve(now, one.id, at, one.width);
            self.queues[at].bound();
            next.push(one.id);
        }
        next
    }

    fn release(&mut self, queue: Option<usize>, seats: u32) {
        self.seats_in_use -= seats;
        if let Some(queue) = queue.and_then(|at| self.queues.get_mut(at)) {
            queue.seats_in_use -= seats;
        }
    }

    /// Queues that are more than are wanted go once they are empty.
    fn shrink(&mut self) {
        let wanted = match &self.queuing {
            Queuing::Queue { dealer, .. } => dealer.queues(),
            _ => 0,
        };
        while self.queues.len() > wanted
            && self
                .queues
                .last()
                .is_some_and(|queue| queue.is_idle() && queue.seats_in_use == 0)
        {
            self.queues.pop();
        }
        self.robin = self.robin.min(self.queues.len().saturating_sub(1));
    }
}

#[cfg(test)]
#[path = "queue_set_tests.rs"]
mod tests;
