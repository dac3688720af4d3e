//! How many seats a priority level was asked for over a time: mean, deviation and the most
//! (`fairqueuing/integrator.go`, `seatDemandStats` of `apf_controller.go`).

use std::time::Duration;

/// Integrals of a number of seats.
#[derive(Debug, Clone)]
pub struct Demand {
    seats: u32,
    since: Duration,
    /// Seconds, seat-seconds, squares of seats times seconds.
    elapsed: f64,
    sum: f64,
    squares: f64,
    most: u32,
}

/// What a time has shown.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Observed {
    /// Seconds.
    pub elapsed: f64,
    pub mean: f64,
    pub deviation: f64,
    pub most: u32,
}

impl Demand {
    /// No demand, observed from `now` on.
    pub fn new(now: Duration) -> Demand {
        Demand {
            seats: 0,
            since: now,
            elapsed: 0.0,
            sum: 0.0,
            squares: 0.0,
            most: 0,
        }
    }

    fn advance(&mut self, now: Duration) {
        let passed = now.saturating_sub(self.since).as_secs_f64();
        self.since = self.since.max(now);
        let seats = f64::from(self.seats);
        self.elapsed += passed;
        self.sum += seats * passed;
        self.squares += seats * seats * passed;
    }

    /// So many seats are asked for from now on.
    pub fn set(&mut self, now: Duration, seats: u32) {
        self.advance(now);
        self.seats = seats;
        self.most = self.most.max(seats);
    }

    /// What was seen since this was asked last.
    pub fn take(&mut self, now: Duration) -> Observed {
        self.advance(now);
        let mut observed = Observed {
            elapsed: self.elapsed,
            most: self.most,
            ..Observed::default()
        };
        if self.elapsed > 0.0 {
            observed.mean = self.sum / self.elapsed;
            let variance = self.squares / self.elapsed - observed.mean * observed.mean;
            observed.deviation = variance.max(0.0).sqrt();
        }
        (self.elapsed, self.sum, self.squares, self.most) = (0.0, 0.0, 0.0, self.seats);
        observed
    }
}

/// How much of a demand is remembered from one time to the next: half of it after five minutes.
const REMEMBERED: f64 = 0.977;

/// The demand of a level over many times.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Smoothed {
    pub last: Observed,
    /// Follows a rise at once and a fall slowly.
    pub smoothed: f64,
}

impl Smoothed {
    /// Takes in what was observed in one period.
    pub fn update(&mut self, observed: Observed) {
        self.last.most = observed.most;
        if observed.elapsed <= 0.0 {
            return;
        }
        self.last = observed;
        let envelope = observed.mean + observed.deviation;
        self.smoothed = envelope.max(REMEMBERED * self.smoothed + (1.0 - REMEMBERED) * envelope);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_demand_is_weighed_by_its_time() {
        let at = Duration::from_secs;
        let mut demand = Demand::new(at(0));
        demand.set(at(2), 4);
        demand.set(at(4), 0);
        let observed = demand.take(at(8));
        assert_eq!((observed.elapsed, observed.mean, observed.most), (8.0, 1.0, 4));
        assert!((observed.deviation - 3f64.sqrt()).abs() < 1e-9);
        demand.set(at(8), 2);
        assert_eq!(demand.take(at(9)).mean, 2.0);
        // what goes on is seen again
        assert_eq!(demand.take(at(10)).most, 2);
    }

    #[test]
    fn a_rise_is_followed_at_once_and_a_fall_slowly() {
        let mut smoothed = Smoothed::default();
        let observed = |mean| Observed {
            elapsed: 10.0,
            mean,
            deviation: 0.0,
            most: 1,
        };
        smoothed.update(observed(100.0));
        assert_eq!(smoothed.smoothed, 100.0);
        for _ in 0..30 {
            smoothed.update(observed(0.0));
        }
        assert!((45.0..52.0).contains(&smoothed.smoothed), "{}", smoothed.smoothed);
    }
}
