//! PriorityLevelConfiguration.

use serde_json::{Value, json};

use crate::kinds::columns::{AGE, BuiltinColumn, NAME, int_or, text_at};
use crate::kinds::flowcontrol::{conditions, of_flowcontrol, without_empty};
use crate::kinds::{Check, Cursor, Errors, Kind};

pub(in crate::kinds) const KIND: Kind = Kind {
    columns: COLUMNS,
    ..of_flowcontrol("prioritylevelconfigurations", validate)
};

const COLUMNS: &[BuiltinColumn] = &[
    NAME,
    ("Type", "string", 0, |p| json!(text_at(p, "/spec/type"))),
    ("NominalConcurrencyShares", "string", 0, |p| {
        number_or_none(p, "/spec/limited/nominalConcurrencyShares")
    }),
    ("Queues", "string", 0, |p| {
        number_or_none(p, "/spec/limited/limitResponse/queuing/queues")
    }),
    ("HandSize", "string", 0, |p| {
        number_or_none(p, "/spec/limited/limitResponse/queuing/handSize")
    }),
    ("QueueLengthLimit", "string", 0, |p| {
        number_or_none(p, "/spec/limited/limitResponse/queuing/queueLengthLimit")
    }),
    AGE,
];

fn number_or_none(tree: &Value, path: &str) -> Value {
    match tree.pointer(path) {
        Some(Value::Number(n)) => json!(n),
        _ => int_or(tree, path, "<none>"),
    }
}

/// What stands beside a level of `v1beta3` whose zero shares are meant.
const ZERO_SHARES: &str = "flowcontrol.k8s.io/v1beta3-preserve-zero-concurrency-shares";

const MOST_QUEUES: i64 = 10_000_000;

/// Bits of the hash that deals requests to queues.
const HASH_BITS: f64 = 60.0;

/// Returns everything in which an object breaks the rules of its kind.
pub fn validate(check: &Check) -> Errors {
    let mut errors = Errors::new();
    let root = check.root();
    if !check.is_status() {
        let name = root.at(&["metadata", "name"]);
        let annotations = root.at(&["metadata", "annotations"]);
        if annotations.get(ZERO_SHARES).is_some() {
            errors.push(annotations.forbidden(format!("annotation '{ZERO_SHARES}' is forbidden")));
        }
        let spec = root.get("spec");
        level_spec(&mut errors, &spec, name.text());
        let mut has = without_empty(spec.value);
        let (fixed, but) = match name.text() {
            "exempt" => {
                has.as_object_mut().map(|spec| spec.remove("exempt"));
                (json!({ "type": "Exempt" }), " except the 'spec.exempt' field")
            }
            "catch-all" => (fixed_level(), ""),
            _ => (has.clone(), ""),
        };
        if has != fixed {
            errors.push(spec.invalid(format!("spec of '{}'{but} must equal the fixed value", name.text())));
        }
    }
    conditions(&mut errors, &root);
    errors
}

/// The spec that the level `catch-all` has in any case.
pub fn fixed_level() -> Value {
    json!({ "type": "Limited", "limited": {
        "nominalConcurrencyShares": 5, "lendablePercent": 0, "limitResponse": { "type": "Reject" },
    } })
}

fn level_spec(errors: &mut Errors, spec: &Cursor, name: &str) {
    let (kind, limited, exempt) = (spec.get("type"), spec.get("limited"), spec.get("exempt"));
    if (name == "exempt") != (kind.text() == "Exempt") {
        errors.push(kind.wrong(kind.text(), "must be 'Exempt' if and only if `name` is 'exempt'"));
    }
    match kind.text() {
        "Exempt" => {
            if limited.is_some() {
                errors.push(limited.forbidden("must be nil if the type is not Limited"));
            }
            shares(errors, &exempt);
        }
        "Limited" => {
            if exempt.is_some() {
                errors.push(exempt.forbidden("must be nil if the type is Limited"));
            }
            if limited.is_some() {
                limits(errors, &limited);
            } else {
                errors.push(limited.required("must not be empty when type is Limited"));
            }
        }
        "" => errors.push(kind.required("")),
        _ => errors.push(kind.not_supported(&["Exempt", "Limited"])),
    }
}

fn shares(errors: &mut Errors, at: &Cursor) {
    let nominal = at.get("nominalConcurrencyShares");
    if nominal.int().is_some_and(|n| n < 0) {
        errors.push(nominal.invalid("must be a non-negative integer"));
    }
    let lendable = at.get("lendablePercent");
    if lendable.int().is_some_and(|n| !(0..=100).contains(&n)) {
        errors.push(lendable.invalid("must be between 0 and 100, inclusive"));
    }
}

fn limits(errors: &mut Errors, limited: &Cursor) {
    shares(errors, limited);
    let borrowing = limited.get("borrowingLimitPercent");
    if borrowing.int().is_some_and(|n| n < 0) {
        errors.push(borrowing.invalid("if specified, must be a non-negative integer"));
    }
    let response = limited.get("limitResponse");
    let (kind, queuing) = (response.get("type"), response.get("queuing"));
    match kind.text() {
        "Reject" if queuing.is_some() => {
            errors.push(queuing.forbidden("must be nil if limited.limitResponse.type is not Limited"));
        }
        "Reject" => {}
        "Queue" if !queuing.is_some() => {
            errors.push(queuing.required("must not be empty if limited.limitResponse.type is Limited"));
        }
        "Queue" => queues(errors, &queuing),
        "" => errors.push(kind.required("")),
        _ => errors.push(kind.not_supported(&["Queue", "Reject"])),
    }
}

fn queues(errors: &mut Errors, queuing: &Cursor) {
    let number = |field: &'static str| queuing.get(field).int().unwrap_or(0);
    let (length, queues, hand) = (number("queueLengthLimit"), number("queues"), number("handSize"));
    if length <= 0 {
        errors.push(queuing.get("queueLengthLimit").wrong(length, "must be positive"));
    }
    if queues <= 0 {
        errors.push(queuing.get("queues").wrong(queues, "must be positive"));
    } else if queues > MOST_QUEUES {
        errors.push(
            queuing
                .get("queues")
                .wrong(queues, format!("must not be greater than {MOST_QUEUES}")),
        );
    }
    let at = queuing.get("handSize");
    let bits = ((queues as f64).log2() * hand as f64).ceil();
    if hand <= 0 {
        errors.push(at.wrong(hand, "must be positive"));
    } else if hand > queues {
        errors.push(at.wrong(hand, format!("should not be greater than queues ({queues})")));
    } else if bits > HASH_BITS {
        let why = format!(
            "required entropy bits of deckSize {queues} and handSize {hand} should not be greater than {HASH_BITS}"
        );
        errors.push(at.wrong(hand, why));
    }
}
