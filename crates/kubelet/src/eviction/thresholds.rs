//! What a node must keep free: signals, thresholds (`evictionHard`), and the conditions of the node they stand for.

use std::collections::BTreeMap;

/// What is looked at, in the order in which it is won back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Signal {
    MemoryAvailable,
    NodefsAvailable,
    NodefsInodesFree,
    ImagefsAvailable,
    ImagefsInodesFree,
    PidAvailable,
}

/// Of the node's status.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Pressure {
    Memory,
    Disk,
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

    /// Its name in `evictionHard`.
    pub fn as_str(self) -> &'static str {
        let named = Signal::ALL.into_iter().find(|(_, signal)| *signal == self);
        named.map_or("", |(name, _)| name)
    }

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
    Quantity(i64),
    Percent(f64),
}

impl Amount {
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

pub type Thresholds = BTreeMap<Signal, Amount>;

/// What is there of something, and how much of it is free.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Observation {
    pub capacity: i64,
    pub available: i64,
}

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

/// Reads `evictionHard`. What it says replaces the defaults as a whole; an amount of nothing switches a signal off.
pub fn parse(statements: &BTreeMap<String, String>) -> Result<Thresholds, String> {
    let mut thresholds = Thresholds::new();
    for (name, value) in statements {
        let (_, signal) = Signal::ALL
            .into_iter()
            .find(|(known, _)| known == name)
            .ok_or_else(|| format!("unsupported eviction signal {name}"))?;
        let amount = match value.strip_suffix('%') {
            Some(percent) => match percent.parse::<f64>() {
                Ok(percent) if (0.0..=100.0).contains(&percent) => Amount::Percent(percent),
                _ => {
                    return Err(format!(
                        "eviction percentage threshold {name} must be 0% to 100%: {value}"
                    ));
                }
            },
            None => {
                let milli = crate::resources::parse_milli(value).map(|m| m / 1000);
                match milli {
                    Some(quantity) if quantity >= 0 => Amount::Quantity(quantity),
                    _ => {
                        return Err(format!(
                            "eviction threshold {name} must be a positive quantity: {value}"
                        ));
                    }
                }
            }
        };
        let nothing =
            matches!(amount, Amount::Quantity(0)) || matches!(amount, Amount::Percent(p) if p == 0.0 || p == 100.0);
        if !nothing {
            thresholds.insert(signal, amount);
        }
    }
    Ok(thresholds)
}

/// The signals whose thresholds are met: less is free than must be.
pub fn met(thresholds: &Thresholds, observations: &Observations) -> Vec<Signal> {
    let short = |(signal, amount): (&Signal, &Amount)| {
        let seen = observations.get(signal)?;
        (seen.available < amount.of(seen.capacity)).then_some(*signal)
    };
    thresholds.iter().filter_map(short).collect()
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
        let seen = |signal, capacity, available| (signal, Observation { capacity, available });
        let observations = [
            seen(Signal::MemoryAvailable, 8 << 30, (1 << 30) - 1),
            seen(Signal::NodefsAvailable, 1000, 100),
            seen(Signal::ImagefsInodesFree, 1000, 0),
            seen(Signal::PidAvailable, 32_768, 999),
        ];
        assert_eq!(
            met(&thresholds, &observations.into()),
            [Signal::MemoryAvailable, Signal::PidAvailable]
        );
    }

    #[test]
    fn what_is_no_threshold_is_refused() {
        for (name, value) in [
            ("memory", "1Gi"),
            ("memory.available", "-1"),
            ("memory.available", "much"),
            ("nodefs.available", "101%"),
            ("nodefs.available", "x%"),
        ] {
            assert!(parse(&statements(&[(name, value)])).is_err(), "{name}={value}");
        }
    }
}
