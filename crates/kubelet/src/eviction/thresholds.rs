//! What a node must keep free: signals, thresholds (`evictionHard`, `evictionSoft`), and the conditions of the node they stand for.

use std::collections::BTreeMap;
use std::time::Duration;

/// Why thresholds cannot be used, in upstream's words where it has some.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ThresholdError {
    /// There is no signal of this name.
    #[error("unsupported eviction signal {0}")]
    Signal(String),
    /// A soft threshold without its grace period.
    #[error("grace period must be specified for the soft eviction threshold {0}")]
    NoGrace(&'static str),
    /// A part of what there is is none.
    #[error("eviction percentage threshold {name} must be 0% to 100%: {value}")]
    Percentage {
        /// The signal.
        name: String,
        /// What is said of it.
        value: String,
    },
    /// An amount is below nothing, or nothing.
    #[error("eviction threshold {name} must be positive: {value}")]
    NotPositive {
        /// The signal.
        name: String,
        /// What is said of it.
        value: String,
    },
    /// A part to win back is none.
    #[error("eviction percentage minimum reclaim {name} must be positive: {value}")]
    ReclaimPercentage {
        /// The signal.
        name: String,
        /// What is said of it.
        value: String,
    },
    /// An amount to win back is below nothing.
    #[error("negative eviction minimum reclaim specified for {0}")]
    NegativeReclaim(String),
    /// A grace period is none.
    #[error("{name}: {value:?} {why}")]
    Grace {
        /// The signal.
        name: String,
        /// What is said of it.
        value: String,
        /// What is wrong with that.
        why: &'static str,
    },
    /// A text ends as a percentage and is none.
    #[error("{0:?} is not a percentage")]
    NoPercentage(String),
    /// A text is no quantity.
    #[error("{0:?} is not a quantity")]
    NoQuantity(String),
}

/// What is looked at, in the order in which it is won back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Signal {
    /// Bytes of memory.
    MemoryAvailable,
    /// Bytes of the disk that pods are on.
    NodefsAvailable,
    /// Inodes of that disk.
    NodefsInodesFree,
    /// Bytes of the disk that images are on.
    ImagefsAvailable,
    /// Inodes of that disk.
    ImagefsInodesFree,
    /// Processes.
    PidAvailable,
}

/// Of the node's status.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Pressure {
    /// Too little memory.
    Memory,
    /// Too little room or too few inodes on a disk.
    Disk,
    /// Too few processes.
    Pid,
}

impl Pressure {
    /// The condition's type.
    pub fn as_str(self) -> &'static str {
        match self {
            Pressure::Memory => "MemoryPressure",
            Pressure::Disk => "DiskPressure",
            Pressure::Pid => "PIDPressure",
        }
    }
}

impl Signal {
    const ALL: [(&'static str, Signal); 6] = [
        ("memory.available", Signal::MemoryAvailable),
        ("nodefs.available", Signal::NodefsAvailable),
        ("nodefs.inodesFree", Signal::NodefsInodesFree),
        ("imagefs.available", Signal::ImagefsAvailable),
        ("imagefs.inodesFree", Signal::ImagefsInodesFree),
        ("pid.available", Signal::PidAvailable),
    ];

    fn named(name: &str) -> Result<Signal, ThresholdError> {
        Signal::ALL
            .into_iter()
            .find(|(known, _)| *known == name)
            .map(|(_, signal)| signal)
            .ok_or_else(|| ThresholdError::Signal(name.to_owned()))
    }

    /// Its name in `evictionHard`.
    pub fn as_str(self) -> &'static str {
        let named = Signal::ALL.into_iter().find(|(_, signal)| *signal == self);
        named.map_or("", |(name, _)| name)
    }

    /// The pressure that the signal stands for.
    pub fn pressure(self) -> Pressure {
        match self {
            Signal::MemoryAvailable => Pressure::Memory,
            Signal::PidAvailable => Pressure::Pid,
            _ => Pressure::Disk,
        }
    }

    /// What is short, in upstream's words.
    pub fn resource(self) -> &'static str {
        match self {
            Signal::MemoryAvailable => "memory",
            Signal::NodefsAvailable | Signal::ImagefsAvailable => "ephemeral-storage",
            Signal::NodefsInodesFree | Signal::ImagefsInodesFree => "inodes",
            Signal::PidAvailable => "pids",
        }
    }
}

/// An amount (bytes or pieces), or a part of what there is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Amount {
    /// Bytes or pieces.
    Quantity(i64),
    /// A hundredth part of what there is, as often.
    Percent(f64),
}

impl Amount {
    /// The amount, for a part of a capacity.
    pub fn of(self, capacity: i64) -> i64 {
        match self {
            Amount::Quantity(quantity) => quantity,
            // A part of a disk is far from where a float has no whole numbers.
            #[allow(clippy::cast_possible_truncation, clippy::cast_precision_loss)]
            Amount::Percent(percent) => (capacity as f64 * percent / 100.0) as i64,
        }
    }
}

impl std::fmt::Display for Amount {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Amount::Quantity(quantity) => f.write_str(&crate::resources::memory_quantity(*quantity).0),
            Amount::Percent(percent) => write!(f, "{percent}%"),
        }
    }
}

/// How little may be left, by signal.
pub type Thresholds = BTreeMap<Signal, Amount>;

/// When pods are evicted and how: the fields of a `KubeletConfiguration` that begin with `eviction`.
#[derive(Debug, Clone, PartialEq)]
pub struct Policy {
    /// Less than this evicts at once.
    pub hard: Thresholds,
    /// Less than this evicts once it has lasted for the signal's grace period.
    pub soft: Thresholds,
    /// How long a soft threshold is met before pods are evicted.
    pub soft_grace: BTreeMap<Signal, Duration>,
    /// A threshold that is met stays met until so much more is free.
    pub minimum_reclaim: Thresholds,
    /// A condition of the node stays for so long after its threshold was met last.
    pub transition: Duration,
    /// Seconds that a pod has at most to end after a soft threshold.
    pub max_pod_grace: i64,
}

impl Default for Policy {
    fn default() -> Policy {
        Policy {
            hard: defaults(),
            soft: Thresholds::new(),
            soft_grace: BTreeMap::new(),
            minimum_reclaim: Thresholds::new(),
            transition: TRANSITION,
            max_pod_grace: 0,
        }
    }
}

/// Upstream's default of `evictionPressureTransitionPeriod`.
pub const TRANSITION: Duration = Duration::from_secs(300);

/// Less than an amount of something may not be free, or pods are evicted.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Threshold {
    /// What is looked at.
    pub signal: Signal,
    /// How much must be free.
    pub amount: Amount,
    /// How long it is met before pods are evicted; `None` for a hard threshold.
    pub grace: Option<Duration>,
    /// How much more must be free before it is met no longer.
    pub minimum_reclaim: Option<Amount>,
}

impl Policy {
    /// The thresholds in the order in which they are won back: memory first, and of a signal the hard one first.
    ///
    /// # Errors
    /// For a soft threshold without a grace period.
    pub fn thresholds(&self) -> Result<Vec<Threshold>, ThresholdError> {
        let of = |(signal, amount): (&Signal, &Amount), grace| Threshold {
            signal: *signal,
            amount: *amount,
            grace,
            minimum_reclaim: self.minimum_reclaim.get(signal).copied(),
        };
        let mut all: Vec<Threshold> = self.hard.iter().map(|pair| of(pair, None)).collect();
        for pair in &self.soft {
            let grace = self.soft_grace.get(pair.0);
            let grace = grace.ok_or_else(|| ThresholdError::NoGrace(pair.0.as_str()))?;
            all.push(of(pair, Some(*grace)));
        }
        all.sort_by_key(|threshold| (threshold.signal, threshold.grace));
        Ok(all)
    }
}

impl Threshold {
    /// Whether less is free than must be; `won_back` asks for the minimum to reclaim on top.
    pub fn met(&self, seen: &Observations, won_back: bool) -> bool {
        let Some(seen) = seen.get(&self.signal) else {
            return false;
        };
        let more = self.minimum_reclaim.filter(|_| won_back);
        let wanted = self.amount.of(seen.capacity) + more.map_or(0, |more| more.of(seen.capacity));
        seen.available < wanted
    }

    /// Seconds that a pod has to end, of those that it asks for.
    pub fn pod_grace(&self, policy: &Policy, asked: i64) -> i64 {
        match self.grace.filter(|grace| !grace.is_zero()) {
            Some(_) => policy.max_pod_grace.min(asked),
            None => IMMEDIATE_GRACE,
        }
    }
}

/// Seconds: upstream's `immediateEvictionGracePeriodSeconds`.
pub const IMMEDIATE_GRACE: i64 = 1;

/// What is there of something, and how much of it is free.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Observation {
    /// All of it.
    pub capacity: i64,
    /// What is free.
    pub available: i64,
}

/// What is left, by signal.
pub type Observations = BTreeMap<Signal, Observation>;

/// Upstream's thresholds where nothing is said.
pub fn defaults() -> Thresholds {
    [
        (Signal::MemoryAvailable, Amount::Quantity(100 << 20)),
        (Signal::NodefsAvailable, Amount::Percent(10.0)),
        (Signal::NodefsInodesFree, Amount::Percent(5.0)),
        (Signal::ImagefsAvailable, Amount::Percent(15.0)),
        (Signal::ImagefsInodesFree, Amount::Percent(5.0)),
    ]
    .into()
}

/// Reads `evictionHard` or `evictionSoft`. What it says replaces what was there as a whole; 0% and 100% switch a signal off.
///
/// # Errors
/// For unknown signals, and for amounts that are none.
pub fn parse(statements: &BTreeMap<String, String>) -> Result<Thresholds, ThresholdError> {
    let mut thresholds = Thresholds::new();
    for (name, value) in statements {
        let signal = Signal::named(name)?;
        let stated = || (name.clone(), value.clone());
        let amount = match percentage(value)? {
            Some(percent) if !(0.0..=100.0).contains(&percent) => {
                let (name, value) = stated();
                return Err(ThresholdError::Percentage { name, value });
            }
            Some(percent) => Amount::Percent(percent),
            None => match quantity(value)? {
                quantity if quantity > 0 => Amount::Quantity(quantity),
                _ => {
                    let (name, value) = stated();
                    return Err(ThresholdError::NotPositive { name, value });
                }
            },
        };
        if !matches!(value.as_str(), "0%" | "100%") {
            thresholds.insert(signal, amount);
        }
    }
    Ok(thresholds)
}

/// Reads `evictionMinimumReclaim`.
///
/// # Errors
/// For unknown signals, and for amounts that are none.
pub fn parse_minimum_reclaim(statements: &BTreeMap<String, String>) -> Result<Thresholds, ThresholdError> {
    let read = |(name, value): (&String, &String)| {
        let signal = Signal::named(name)?;
        let amount = match percentage(value)? {
            Some(percent) if percent > 0.0 => Amount::Percent(percent),
            Some(_) => {
                let (name, value) = (name.clone(), value.clone());
                return Err(ThresholdError::ReclaimPercentage { name, value });
            }
            None => match quantity(value)? {
                quantity if quantity >= 0 => Amount::Quantity(quantity),
                _ => return Err(ThresholdError::NegativeReclaim(name.clone())),
            },
        };
        Ok((signal, amount))
    };
    statements.iter().map(read).collect()
}

/// Reads `evictionSoftGracePeriod`.
///
/// # Errors
/// For unknown signals, and for texts that are no duration.
pub fn parse_grace(statements: &BTreeMap<String, String>) -> Result<BTreeMap<Signal, Duration>, ThresholdError> {
    let read = |(name, value): (&String, &String)| {
        let signal = Signal::named(name)?;
        let grace = api::time::flag_duration(value).map_err(|why| ThresholdError::Grace {
            name: name.clone(),
            value: value.clone(),
            why,
        })?;
        Ok((signal, grace))
    };
    statements.iter().map(read).collect()
}

fn percentage(value: &str) -> Result<Option<f64>, ThresholdError> {
    let Some(number) = value.strip_suffix('%') else {
        return Ok(None);
    };
    let percent = number.parse().ok().filter(|percent: &f64| percent.is_finite());
    let percent = percent.ok_or_else(|| ThresholdError::NoPercentage(value.to_owned()))?;
    Ok(Some(percent))
}

fn quantity(value: &str) -> Result<i64, ThresholdError> {
    let milli = crate::resources::parse_milli(value);
    milli
        .map(|milli| milli / 1000)
        .ok_or_else(|| ThresholdError::NoQuantity(value.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn statements(list: &[(&str, &str)]) -> BTreeMap<String, String> {
        list.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
    }

    #[test]
    fn thresholds_are_read_and_compared() {
        let thresholds = parse(&statements(&[
            ("memory.available", "1Gi"),
            ("nodefs.available", "10%"),
            ("imagefs.inodesFree", "0%"),
            ("pid.available", "1k"),
        ]))
        .unwrap();
        assert_eq!(thresholds.len(), 3);
        let policy = Policy {
            hard: thresholds,
            ..Policy::default()
        };
        let seen = |signal, capacity, available| (signal, Observation { capacity, available });
        let observations = [
            seen(Signal::MemoryAvailable, 8 << 30, (1 << 30) - 1),
            seen(Signal::NodefsAvailable, 1000, 100),
            seen(Signal::ImagefsInodesFree, 1000, 0),
            seen(Signal::PidAvailable, 32_768, 999),
        ];
        let observations = observations.into();
        let thresholds = policy.thresholds().unwrap();
        let met: Vec<Signal> = thresholds
            .iter()
            .filter(|t| t.met(&observations, false))
            .map(|t| t.signal)
            .collect();
        assert_eq!(met, [Signal::MemoryAvailable, Signal::PidAvailable]);
    }

    #[test]
    fn a_soft_threshold_needs_its_time_and_a_minimum_to_reclaim_adds_to_it() {
        let mut policy = Policy {
            hard: parse(&statements(&[("memory.available", "100")])).unwrap(),
            soft: parse(&statements(&[("memory.available", "20%")])).unwrap(),
            minimum_reclaim: parse_minimum_reclaim(&statements(&[("memory.available", "10%")])).unwrap(),
            max_pod_grace: 20,
            ..Policy::default()
        };
        assert_eq!(
            policy.thresholds().unwrap_err().to_string(),
            "grace period must be specified for the soft eviction threshold memory.available"
        );
        policy.soft_grace = parse_grace(&statements(&[("memory.available", "1m30s")])).unwrap();
        let thresholds = policy.thresholds().unwrap();
        let [hard, soft] = thresholds.as_slice() else {
            panic!("{thresholds:?}");
        };
        assert_eq!((hard.grace, soft.grace), (None, Some(Duration::from_secs(90))));
        let free = |available| {
            let seen = Observation {
                capacity: 1000,
                available,
            };
            Observations::from([(Signal::MemoryAvailable, seen)])
        };
        for (available, now, won_back) in [(99, true, true), (100, false, true), (200, false, false)] {
            assert_eq!(hard.met(&free(available), false), now, "{available}");
            assert_eq!(hard.met(&free(available), true), won_back, "{available}");
        }
        assert!(soft.met(&free(199), false) && !soft.met(&free(200), false));
        assert_eq!((hard.pod_grace(&policy, 30), soft.pod_grace(&policy, 30)), (1, 20));
        assert_eq!(soft.pod_grace(&policy, 5), 5);
    }

    #[test]
    fn what_is_no_threshold_is_refused() {
        for (name, value) in [
            ("memory", "1Gi"),
            ("memory.available", "-1"),
            ("memory.available", "much"),
            ("memory.available", "0"),
            ("nodefs.available", "101%"),
            ("nodefs.available", "x%"),
        ] {
            assert!(parse(&statements(&[(name, value)])).is_err(), "{name}={value}");
        }
        for value in ["0%", "-5%", "-1"] {
            assert!(
                parse_minimum_reclaim(&statements(&[("nodefs.available", value)])).is_err(),
                "{value}"
            );
        }
        for value in ["", "5", "-5s"] {
            assert!(
                parse_grace(&statements(&[("nodefs.available", value)])).is_err(),
                "{value}"
            );
        }
    }
}
