//! DeviceTaintRule. KEP-5055.

use api::field::FieldError;
use api::names;
use serde_json::{Value, json};

use crate::kinds::columns::{AGE, BuiltinColumn, NAME, since, text_at};
use crate::kinds::conditions::conditions;
use crate::kinds::resource::GROUP;
use crate::kinds::resource::devices::{EFFECTS, pool_name};
use crate::kinds::rules::{dns_label, one_of, problems, qualified_name};
use crate::kinds::{Check, Cursor, Errors, Generation, Kind, STATUS_ALONE, volume};

pub(in crate::kinds) const KIND: Kind = Kind {
    generation: Generation::Counted,
    unconditional_update: false,
    prepare_create: |rule, writer| date(rule, writer.now),
    prepare_update: date_again,
    parts: &[STATUS_ALONE],
    columns: COLUMNS,
    ..Kind::new(GROUP, "devicetaintrules", validate)
};

const COLUMNS: &[BuiltinColumn] = &[
    NAME,
    ("Key", "string", 0, |r| json!(text_at(r, "/spec/taint/key"))),
    ("Value", "string", 0, |r| json!(text_at(r, "/spec/taint/value"))),
    ("Effect", "string", 0, |r| json!(text_at(r, "/spec/taint/effect"))),
    ("TimeAdded", "string", 0, |r| {
        match text_at(r, "/spec/taint/timeAdded") {
            "" => json!(""),
            time => since(time),
        }
    }),
    AGE,
];

/// A taint says since when it is.
fn date(rule: &mut Value, now: &str) {
    if let Some(taint) = rule.pointer_mut("/spec/taint").and_then(Value::as_object_mut)
        && taint.get("timeAdded").is_none_or(Value::is_null)
    {
        taint.insert("timeAdded".into(), json!(now));
    }
}

/// Tolerations count from when the effect was added: a new effect has a new time, unless its writer gave one.
fn date_again(new: &mut Value, old: &Value, now: &str) {
    date(new, now);
    let same = |field: &str| {
        let path = format!("/spec/taint/{field}");
        new.pointer(&path) == old.pointer(&path)
    };
    if !same("effect")
        && same("timeAdded")
        && let Some(taint) = new.pointer_mut("/spec/taint").and_then(Value::as_object_mut)
    {
        taint.insert("timeAdded".into(), json!(now));
    }
}

const CONDITIONS: usize = 8;

fn validate(check: &Check) -> Errors {
    let mut errors = Errors::new();
    let root = check.root();
    if check.is_status() {
        let list = root.at(&["status", "conditions"]);
        conditions(&mut errors, &list);
        if list.list().len() > CONDITIONS {
            errors.push(FieldError::too_many(&list.path, list.list().len(), CONDITIONS));
        }
        return errors;
    }
    let spec = root.get("spec");
    let selector = spec.get("deviceSelector");
    let (driver, pool, device) = (selector.get("driver"), selector.get("pool"), selector.get("device"));
    if driver.is_some() {
        volume::driver_name(&mut errors, &driver);
    }
    if pool.is_some() {
        pool_name(&mut errors, &pool);
    }
    if device.is_some() {
        dns_label(&mut errors, &device);
    }
    let before = check.before().map(|old| old.at(&["spec", "taint"]));
    taint(&mut errors, &spec.get("taint"), before.as_ref());
    errors
}

/// An effect that is there already may be one that is no longer known.
fn taint(errors: &mut Errors, at: &Cursor, before: Option<&Cursor>) {
    let (value, effect) = (at.get("value"), at.get("effect"));
    qualified_name(errors, &at.get("key"));
    if !value.text().is_empty() {
        problems(errors, &value, names::label_value_errors(value.text()));
    }
    if before.is_none_or(|before| before.get("effect").text() != effect.text()) {
        one_of(errors, &effect, &EFFECTS);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_effect_has_a_new_time() {
        let rule = |effect: &str, time: Value| json!({ "spec": { "taint": { "key": "k", "effect": effect, "timeAdded": time } } });
        let (then, now) = ("2026-01-01T00:00:00Z", "2026-02-02T00:00:00Z");
        for (effect, given, want) in [
            ("NoSchedule", json!(then), then),
            ("NoExecute", json!(then), now),
            ("NoExecute", json!("2026-03-03T00:00:00Z"), "2026-03-03T00:00:00Z"),
            ("NoSchedule", Value::Null, now),
        ] {
            let mut new = rule(effect, given);
            date_again(&mut new, &rule("NoSchedule", json!(then)), now);
            assert_eq!(new["spec"]["taint"]["timeAdded"], want, "{effect}");
        }
    }

    #[test]
    fn a_rule_selects_by_names_and_has_a_known_effect() {
        let check = |spec: Value| {
            let new = json!({ "spec": spec });
            let check = Check {
                new: &new,
                old: None,
                subresource: "",
                custom: None,
                now: 0,
            };
            validate(&check).iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        let taint = json!({ "key": "example.com/k", "value": "v", "effect": "NoExecute" });
        assert!(
            check(json!({ "taint": taint, "deviceSelector": { "driver": "a.b", "pool": "p/q", "device": "d" } }))
                .is_empty()
        );
        assert!(check(json!({ "taint": taint })).is_empty());
        let errors = check(json!({ "deviceSelector": { "device": "D" }, "taint": { "key": "k", "effect": "Other" } }));
        assert!(
            errors[0].starts_with("spec.deviceSelector.device: Invalid value"),
            "{errors:?}"
        );
        assert!(
            errors[1].starts_with("spec.taint.effect: Unsupported value: \"Other\""),
            "{errors:?}"
        );
    }
}
