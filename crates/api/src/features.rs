//! Feature gates as upstream has them, from `data/gates.txt`. Regenerate with `gen/gates.py`. `--feature-gates` of any component
//! switches them for the process, before anything asks for one.

use std::collections::BTreeMap;
use std::sync::OnceLock;

use metrics::{Kind, Metric, Page};

use crate::schema::rules::{Rules, TableError};
use crate::version::MINOR;

/// How far a feature has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// Off unless somebody switches it on; may go without notice.
    Alpha,
    /// On in most cases; may still change.
    Beta,
    /// Always on.
    Ga,
    /// On its way out.
    Deprecated,
}

impl Stage {
    /// As metrics name it.
    pub fn name(self) -> &'static str {
        match self {
            Stage::Alpha => "ALPHA",
            Stage::Beta => "BETA",
            Stage::Ga => "",
            Stage::Deprecated => "DEPRECATED",
        }
    }
}

/// A gate in our version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gate {
    /// How far it has come in this version.
    pub stage: Stage,
    /// By default.
    pub enabled: bool,
    /// The default may not be changed.
    pub locked: bool,
}

/// Why gates cannot be set as asked, in upstream's words where it refuses too.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum GateError {
    /// An entry has no `=`.
    #[error("missing bool value for {0}")]
    Missing(String),
    /// The value is not a boolean as Go reads one.
    #[error("invalid value of {name}={value}, err: strconv.ParseBool: parsing {value:?}: invalid syntax")]
    Value {
        /// The gate.
        name: String,
        /// What was given.
        value: String,
    },
    /// There is no such gate, or this version has it no longer.
    #[error("unrecognized feature gate: {0}")]
    Unknown(String),
    /// Upstream no longer lets the gate be changed.
    #[error("cannot set feature gate {name} to {value}, feature is locked to {}", !value)]
    Locked {
        /// The gate.
        name: String,
        /// What was asked for.
        value: bool,
    },
    /// Upstream lets the gate be changed, but skiff has only one of the two ways.
    #[error("cannot set feature gate {name} to {value}: there is no other way built than {}", !value)]
    NotBuilt {
        /// The gate.
        name: String,
        /// What was asked for.
        value: bool,
    },
    /// Something in this process has asked for a gate before they were set.
    #[error("feature gates of one process are set once: they are in use already")]
    InUse,
    /// Nobody can tell which fields belong to gates.
    #[error("the table of rules: {0}")]
    Rules(#[from] TableError),
}

/// Gates by their names.
type Gates = BTreeMap<&'static str, Gate>;

/// Gates that the program itself asks for, beside those whose fields go when they are off.
const ASKED: [&str; 3] = [
    "HPAScaleToZero",
    "PersistentVolumeClaimUnusedSinceTime",
    "VolumeBindMountOptions",
];

static GATES: OnceLock<Gates> = OnceLock::new();

/// Every gate of our version by its name.
pub fn all() -> &'static Gates {
    GATES.get_or_init(defaults)
}

fn defaults() -> Gates {
    read(include_str!("../data/gates.txt"), MINOR)
}

/// Whether gates may be set so: `A=true,B=false`. The text itself.
///
/// # Errors
/// For what upstream refuses, and for what is not built.
pub fn check(text: &str) -> Result<String, GateError> {
    switched(text).map(|_| text.to_owned())
}

/// Sets gates for this process.
///
/// # Errors
/// As `check`, and when gates are in use already and are others.
pub fn set(text: &str) -> Result<(), GateError> {
    if text.is_empty() {
        return Ok(());
    }
    let wanted = switched(text)?;
    if *GATES.get_or_init(|| wanted.clone()) == wanted {
        Ok(())
    } else {
        Err(GateError::InUse)
    }
}

fn switched(text: &str) -> Result<Gates, GateError> {
    let defaults = defaults();
    let gates = applied(&defaults, text)?;
    let fields = Rules::builtin().map_err(Clone::clone)?.gates();
    for (name, gate) in &gates {
        let value = gate.enabled;
        // a field that goes takes its feature along; what a field brings along has to be built
        let built = ASKED.contains(name) || !value && fields.contains(name);
        if defaults.get(name).is_some_and(|d| d.enabled != value) && !built {
            let name = (*name).to_owned();
            return Err(GateError::NotBuilt { name, value });
        }
    }
    Ok(gates)
}

/// What Go's `strconv.ParseBool` takes.
fn boolean(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}

/// Gates with a flag's value. `AllAlpha` and `AllBeta` are for those that it does not name.
fn applied(defaults: &Gates, text: &str) -> Result<Gates, GateError> {
    let mut named = BTreeMap::new();
    for part in text.split(',').filter(|part| !part.is_empty()) {
        let (name, value) = match part.split_once('=') {
            Some((name, value)) => (name.trim(), value.trim()),
            None => return Err(GateError::Missing(part.trim().to_owned())),
        };
        let Some(on) = boolean(value) else {
            let (name, value) = (name.to_owned(), value.to_owned());
            return Err(GateError::Value { name, value });
        };
        named.insert(name.to_owned(), on);
    }
    let mut gates = defaults.clone();
    for (all, stage) in [("AllAlpha", Stage::Alpha), ("AllBeta", Stage::Beta)] {
        if let Some(value) = named.remove(all) {
            for gate in gates.values_mut().filter(|gate| gate.stage == stage) {
                gate.enabled = value;
            }
        }
    }
    for (name, value) in named {
        let Some(gate) = gates.get_mut(name.as_str()) else {
            return Err(GateError::Unknown(name));
        };
        // a locked one may have been taken along by all of its stage
        let default = defaults.get(name.as_str()).is_some_and(|d| d.enabled);
        if gate.locked && default != value {
            return Err(GateError::Locked { name, value });
        }
        gate.enabled = value;
    }
    Ok(gates)
}

/// Shows the gates as upstream's components do.
pub fn show(page: &mut Page) {
    const ENABLED: Metric = Metric::beta(
        "kubernetes_feature_enabled",
        "Whether a feature of Kubernetes is on, and its stage.",
    );
    let mut samples = page.samples(&ENABLED, Kind::Gauge);
    for (name, gate) in all() {
        let labels = [("name", *name), ("stage", gate.stage.name())];
        samples.number(&labels, f64::from(u8::from(gate.enabled)));
    }
}

/// Whether a feature is on. One that the table does not have is off.
pub fn enabled(name: &str) -> bool {
    all().get(name).is_some_and(|gate| gate.enabled)
}

/// The gates of a minor version: of each the last stage that has begun.
fn read(table: &'static str, minor: u32) -> BTreeMap<&'static str, Gate> {
    let gates = table.lines().filter_map(|line| {
        let (name, stages) = line.split_once(' ')?;
        let mut begun = stages.split(' ').filter_map(stage).filter(|(since, _)| *since <= minor);
        Some((name, begun.next_back()?.1))
    });
    gates.collect()
}

/// `1.31:Beta:on:locked`: the minor version and what begins with it.
fn stage(text: &str) -> Option<(u32, Gate)> {
    let mut parts = text.split(':');
    let since = parts.next()?.strip_prefix("1.")?.parse().ok()?;
    let stage = match parts.next()? {
        "Alpha" => Stage::Alpha,
        "Beta" => Stage::Beta,
        "GA" => Stage::Ga,
        "Deprecated" => Stage::Deprecated,
        _ => return None,
    };
    let enabled = parts.next()? == "on";
    let gate = Gate {
        stage,
        enabled,
        locked: parts.next() == Some("locked"),
    };
    Some((since, gate))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &str = "A 1.20:Alpha:off 1.37:Beta:on\nB 1.38:Alpha:off\nC 1.0:GA:on 1.36:Deprecated:off:locked\n";

    #[test]
    fn a_gate_is_what_its_last_stage_says() {
        let gate = |stage, enabled, locked| Gate { stage, enabled, locked };
        let of = |minor| read(TABLE, minor).into_iter().collect::<Vec<_>>();
        let old = gate(Stage::Ga, true, false);
        let locked = gate(Stage::Deprecated, false, true);
        assert_eq!(of(35), [("A", gate(Stage::Alpha, false, false)), ("C", old)]);
        assert_eq!(of(37), [("A", gate(Stage::Beta, true, false)), ("C", locked)]);
        assert_eq!(of(38).len(), 3);
    }

    #[test]
    fn gates_are_set_by_name_or_by_stage_as_upstream_does() {
        let defaults = read(TABLE, 37);
        let on = |text: &str| {
            let gates = applied(&defaults, text).unwrap();
            gates
                .iter()
                .filter(|(_, g)| g.enabled)
                .map(|(n, _)| *n)
                .collect::<Vec<_>>()
        };
        assert_eq!(on(""), ["A"]);
        assert_eq!(on(" A = false ,"), Vec::<&str>::new());
        assert_eq!(on("AllBeta=false"), Vec::<&str>::new());
        assert_eq!(on("A=1,AllBeta=F"), ["A"]);
        for (text, message) in [
            ("A", "missing bool value for A"),
            (
                "A=yes",
                r#"invalid value of A=yes, err: strconv.ParseBool: parsing "yes": invalid syntax"#,
            ),
            ("B=true", "unrecognized feature gate: B"),
            (
                "C=true",
                "cannot set feature gate C to true, feature is locked to false",
            ),
        ] {
            assert_eq!(applied(&defaults, text).unwrap_err().to_string(), message);
        }
    }

    #[test]
    fn what_a_gate_brings_along_has_to_be_built() {
        assert!(check("MaxUnavailableStatefulSet=false,PersistentVolumeClaimUnusedSinceTime=false").is_ok());
        let told = check("GenericWorkload=true").unwrap_err().to_string();
        assert_eq!(
            told,
            "cannot set feature gate GenericWorkload to true: there is no other way built than false"
        );
        assert!(check("GenericWorkload=false").is_ok(), "as it is");
        assert!(matches!(check("AllAlpha=true"), Err(GateError::NotBuilt { .. })));
        assert!(check("AllAlpha=false,AllBeta=true").is_err());
    }

    #[test]
    fn every_line_of_the_table_is_read() {
        let table = include_str!("../data/gates.txt");
        for line in table.lines() {
            let (_, stages) = line.split_once(' ').unwrap();
            assert!(stages.split(' ').all(|text| stage(text).is_some()), "{line}");
        }
        assert!(all().len() > 150);
        assert!(enabled("MaxUnavailableStatefulSet") && !enabled("WorkloadWithJob") && !enabled("Nothing"));
    }
}
