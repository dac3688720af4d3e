//! How fast nodes may lose their pods. When many nodes of a zone fail at once, it is more likely the network between them and this controller that
//! failed: then pods are taken from few nodes, and from none when no node at all is heard of. Pure: the time comes in.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use api::object::Object;
use tokio::time::Instant;

/// With this label a node does not count in its zone.
const EXCLUDED: &str = "node.kubernetes.io/exclude-disruption";
/// Fewer nodes than these never make a zone unhealthy.
const LEAST_UNREADY: usize = 3;

/// Nodes a second that may lose their pods, and when a zone is not healthy.
#[derive(Debug, Clone, Copy)]
pub struct EvictionRates {
    /// In a healthy zone.
    pub normal: f64,
    /// In an unhealthy zone of more nodes than `large`; in a smaller one no node loses its pods.
    pub secondary: f64,
    /// A zone of more nodes is large.
    pub large: usize,
    /// The share of nodes that are not ready from which on a zone is unhealthy.
    pub unhealthy: f64,
}

impl Default for EvictionRates {
    fn default() -> EvictionRates {
        EvictionRates {
            normal: 0.1,
            secondary: 0.01,
            large: 50,
            unhealthy: 0.55,
        }
    }
}

/// Region and zone of a node.
pub(super) type Zone = [String; 2];

/// What of a node counts here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Member {
    pub zone: Zone,
    pub ready: bool,
    /// Whether it counts when its zone is judged.
    pub counts: bool,
}

impl Member {
    pub(super) fn of(node: &Object, zone: Zone, ready: bool) -> Member {
        Member {
            zone,
            ready,
            counts: node.meta.label(EXCLUDED).is_none(),
        }
    }
}

/// Whether a node may lose its pods.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Turn {
    Now,
    /// It is to ask again then.
    In(Duration),
    /// Nobody of its zone may for now. [`Affected`] tells when that changes.
    Not,
}

/// Nodes that are to be looked at again.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Affected {
    Nobody,
    These(Vec<String>),
    /// All, as no node is heard of any more: none loses its pods.
    Lost,
    /// All, as one is heard of again; of none is it known how long it was silent.
    Found,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Normal,
    /// Most nodes are not ready.
    Partial,
    /// No node is ready.
    Full,
}

#[derive(Debug)]
struct Health {
    ready: usize,
    unready: usize,
    state: State,
    /// Nodes a second; 0 for none.
    rate: f64,
    /// When the next node may lose its pods.
    free: Instant,
    /// Those that wait for that, the first first.
    waiting: BTreeMap<u64, String>,
}

impl Health {
    fn slow_down(&mut self, rate: f64, now: Instant) {
        // who waited for the old rate waits for the new one
        if rate > 0.0 && self.free > now {
            self.free = now + Duration::from_secs_f64(1.0 / rate);
        }
        self.rate = rate;
    }
}

#[derive(Debug)]
pub(super) struct Zones {
    rates: EvictionRates,
    members: HashMap<String, (Member, Option<u64>)>,
    zones: HashMap<Zone, Health>,
    /// No node is ready anywhere.
    lost: bool,
    sequence: u64,
}

impl Zones {
    pub(super) fn new(rates: EvictionRates) -> Zones {
        Zones {
            rates,
            members: HashMap::new(),
            zones: HashMap::new(),
            lost: false,
            sequence: 0,
        }
    }

    /// Whether no node at all is heard of, so that none loses its pods.
    pub(super) fn lost(&self) -> bool {
        self.lost
    }

    /// A node is there, in this state.
    pub(super) fn set(&mut self, name: &str, member: Member, now: Instant) -> Affected {
        match self.members.get(name) {
            Some((known, _)) if *known == member => return Affected::Nobody,
            Some((known, _)) if known.zone == member.zone && !member.ready => {
                // it keeps its place
                let old = known.clone();
                self.count(&old, false, now);
                self.count(&member, true, now);
                if let Some((known, _)) = self.members.get_mut(name) {
                    *known = member;
                }
                return self.judge(now);
            }
            Some(_) => self.forget(name, now),
            None => {}
        }
        self.count(&member, true, now);
        self.members.insert(name.to_owned(), (member, None));
        self.judge(now)
    }

    /// A node is gone.
    pub(super) fn remove(&mut self, name: &str, now: Instant) -> Affected {
        self.forget(name, now);
        self.judge(now)
    }

    fn forget(&mut self, name: &str, now: Instant) {
        let Some((member, place)) = self.members.remove(name) else {
            return;
        };
        self.count(&member, false, now);
        if let (Some(place), Some(zone)) = (place, self.zones.get_mut(&member.zone)) {
            zone.waiting.remove(&place);
        }
    }

    fn count(&mut self, member: &Member, comes: bool, now: Instant) {
        let normal = self.rates.normal;
        let zone = self.zones.entry(member.zone.clone()).or_insert_with(|| Health {
            ready: 0,
            unready: 0,
            state: State::Normal,
            rate: normal,
            free: now,
            waiting: BTreeMap::new(),
        });
        if !member.counts {
            return;
        }
        let count = if member.ready {
            &mut zone.ready
        } else {
            &mut zone.unready
        };
        *count = if comes { *count + 1 } else { count.saturating_sub(1) };
    }

    /// Looks at the zones' states after a change of their counts.
    fn judge(&mut self, now: Instant) -> Affected {
        let rates = self.rates;
        let mut again = Vec::new();
        let mut every = true;
        for zone in self.zones.values_mut() {
            let (ready, unready) = (zone.ready, zone.unready);
            let state = if ready == 0 && unready > 0 {
                State::Full
            } else if unready >= LEAST_UNREADY && share(unready, ready + unready) >= rates.unhealthy {
                State::Partial
            } else {
                State::Normal
            };
            // a zone without nodes that count says nothing
            every &= state == State::Full || ready + unready == 0;
            if state != zone.state {
                zone.state = state;
                let slow = state == State::Partial;
                let rate = match (slow, ready + unready > rates.large) {
                    (false, _) => rates.normal,
                    (true, true) => rates.secondary,
                    (true, false) => 0.0,
                };
                zone.slow_down(rate, now);
                again.extend(zone.waiting.values().cloned());
            }
        }
        let lost = every && self.zones.values().any(|zone| zone.state == State::Full);
        if lost != self.lost {
            self.lost = lost;
            return if lost { Affected::Lost } else { Affected::Found };
        }
        if again.is_empty() || lost {
            Affected::Nobody
        } else {
            Affected::These(again)
        }
    }

    /// Asks for a node that is not ready whether it may lose its pods now. One that may is no longer waited for.
    pub(super) fn turn(&mut self, name: &str, now: Instant) -> Turn {
        let Some((member, place)) = self.members.get_mut(name) else {
            return Turn::Not;
        };
        let Some(zone) = self.zones.get_mut(&member.zone) else {
            return Turn::Not;
        };
        let at = *place.get_or_insert_with(|| {
            self.sequence += 1;
            zone.waiting.insert(self.sequence, name.to_owned());
            self.sequence
        });
        if self.lost || zone.rate <= 0.0 {
            return Turn::Not;
        }
        let before = zone.waiting.range(..at).count();
        let one = Duration::from_secs_f64(1.0 / zone.rate);
        if before == 0 && zone.free <= now {
            zone.waiting.remove(&at);
            *place = None;
            zone.free = now + one;
            return Turn::Now;
        }
        let before = u32::try_from(before).unwrap_or(u32::MAX);
        Turn::In(zone.free.saturating_duration_since(now) + one.saturating_mul(before))
    }

    /// The node whose turn it was did not take it.
    pub(super) fn give_back(&mut self, name: &str, now: Instant) {
        let zone = self.members.get(name).map(|(member, _)| &member.zone);
        if let Some(zone) = zone.and_then(|zone| self.zones.get_mut(zone)) {
            zone.free = now;
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "counts of nodes are small")]
fn share(part: usize, whole: usize) -> f64 {
    part as f64 / whole as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(zone: &str, ready: bool) -> Member {
        Member {
            zone: [String::new(), zone.into()],
            ready,
            counts: true,
        }
    }

    fn cluster(nodes: usize, now: Instant) -> Zones {
        let mut zones = Zones::new(EvictionRates::default());
        for i in 0..nodes {
            zones.set(&format!("n{i}"), node("a", true), now);
        }
        zones
    }

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn nodes_of_a_healthy_zone_lose_their_pods_one_after_another() {
        let now = Instant::now();
        let mut zones = cluster(10, now);
        for name in ["n0", "n1", "n2"] {
            assert_eq!(zones.set(name, node("a", false), now), Affected::Nobody);
        }
        assert_eq!(zones.turn("n0", now), Turn::Now);
        assert_eq!(zones.turn("n1", now), Turn::In(seconds(10)));
        assert_eq!(zones.turn("n2", now), Turn::In(seconds(20)));
        let later = now + seconds(10);
        assert_eq!(zones.turn("n2", later), Turn::In(seconds(10)), "n1 came first");
        assert_eq!(zones.turn("n1", later), Turn::Now);
        // one that is back holds up nobody
        zones.set("n2", node("a", true), later);
        zones.set("n3", node("a", false), later);
        assert_eq!(zones.turn("n3", later), Turn::In(seconds(10)));
        zones.remove("n3", later);
        zones.set("n4", node("a", false), later);
        assert_eq!(zones.turn("n4", later + seconds(10)), Turn::Now);
    }

    #[test]
    fn a_small_zone_most_of_which_fails_keeps_its_pods() {
        let now = Instant::now();
        let mut zones = cluster(5, now);
        for name in ["n0", "n1"] {
            zones.set(name, node("a", false), now);
        }
        assert_eq!(zones.turn("n0", now), Turn::Now);
        assert_eq!(zones.turn("n1", now), Turn::In(seconds(10)));
        assert_eq!(
            zones.set("n2", node("a", false), now),
            Affected::These(vec!["n1".into()])
        );
        assert_eq!(zones.turn("n1", now + seconds(60)), Turn::Not);
        assert_eq!(zones.turn("n2", now), Turn::Not);
        let again = zones.set("n0", node("a", true), now);
        assert_eq!(again, Affected::These(vec!["n1".into(), "n2".into()]));
        assert_eq!(zones.turn("n1", now + seconds(10)), Turn::Now);
    }

    #[test]
    fn a_large_zone_most_of_which_fails_loses_pods_slowly() {
        let now = Instant::now();
        let mut zones = cluster(60, now);
        for i in 0..33 {
            zones.set(&format!("n{i}"), node("a", false), now);
        }
        assert_eq!(zones.turn("n0", now), Turn::Now);
        assert_eq!(zones.turn("n1", now), Turn::In(seconds(100)));
    }

    #[test]
    fn no_node_loses_its_pods_while_none_is_heard_of() {
        let now = Instant::now();
        let mut zones = cluster(2, now);
        zones.set("m", node("b", true), now);
        assert_eq!(zones.set("m", node("b", false), now), Affected::Nobody);
        assert_eq!(zones.turn("m", now), Turn::Now, "the other zone is heard of");
        zones.set("n0", node("a", false), now);
        assert!(!zones.lost());
        assert_eq!(zones.set("n1", node("a", false), now), Affected::Lost);
        assert!(zones.lost());
        assert_eq!(zones.turn("n0", now), Turn::Not);
        assert_eq!(zones.set("m", node("b", true), now), Affected::Found);
        assert_eq!(zones.turn("n0", now), Turn::Now);
        assert_eq!(zones.turn("n1", now), Turn::In(seconds(10)));
    }

    #[test]
    fn a_node_that_does_not_count_decides_nothing() {
        let now = Instant::now();
        let mut zones = cluster(1, now);
        let excluded = Member {
            counts: false,
            ..node("a", true)
        };
        zones.set("x", excluded, now);
        assert_eq!(zones.set("n0", node("a", false), now), Affected::Lost);
    }
}
