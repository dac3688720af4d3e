//! The expressions by which claims and classes select devices (`k8s.io/dynamic-resource-allocation/cel`).

use std::sync::{Arc, LazyLock};

use api::field::FieldError;
use cel::{Declared, Environment, Type};

use crate::expressions;
use crate::kinds::{Cursor, Errors};

/// Bytes of an expression.
const LONGEST: usize = 10 << 10;
/// What one expression may cost.
const MAX_COST: u64 = 1_000_000;
/// Attributes or capacities of a device.
const MANY: i64 = 32;
/// Characters of the two parts of their names.
const DOMAIN: i64 = 63;
const ID: i64 = 32;
/// Characters of a text among their values, and of the name of a driver.
const TEXT: i64 = 64;
const DRIVER: i64 = 63;

/// Where the variable `device` is declared.
static ENVIRONMENT: LazyLock<Environment> = LazyLock::new(|| {
    let device = Arc::new(device());
    expressions::for_new()
        .clone()
        .with_declared("device", &device)
        .with_bindings()
});

/// A device: of the values of its attributes only their sizes are known.
fn device() -> Declared {
    let text = |most| Declared::bounded(Type::String, most);
    let by_name = |value| Declared::map(text(DOMAIN), Declared::map(text(ID), value, MANY), MANY);
    let fields = [
        ("driver", text(DRIVER)),
        ("allowMultipleAllocations", Declared::bounded(Type::Bool, 1)),
        ("attributes", by_name(Declared::bounded(Type::Dyn, TEXT))),
        (
            "capacity",
            by_name(Declared::unbounded(Type::object("kubernetes.Quantity"))),
        ),
    ];
    Declared::record("kubernetes.DRADevice", fields)
}

/// The rules of an expression that is new.
pub fn expression(errors: &mut Errors, at: &Cursor) {
    if at.text().len() > LONGEST {
        errors.push(FieldError::too_long(&at.path, LONGEST));
        return;
    }
    let checked = match ENVIRONMENT.compile(at.text()) {
        Ok(checked) => checked,
        Err(issues) => {
            errors.push(at.wrong(at.text(), format!("compilation failed: {issues}")));
            return;
        }
    };
    match checked.output() {
        Type::Bool | Type::Dyn => {}
        other => {
            let why = format!("must evaluate to bool or the unknown type, not {other}");
            errors.push(at.wrong(at.text(), why));
            return;
        }
    }
    if let Err(fault) = ENVIRONMENT.plan(&checked) {
        let why = format!("program instantiation failed: {fault}");
        errors.push(at.wrong(at.text(), why));
    } else if ENVIRONMENT.estimate(&checked).max > MAX_COST {
        errors.push(at.forbidden("too complex, exceeds cost limit"));
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn told(text: &str) -> Vec<String> {
        let mut errors = Errors::new();
        let value = json!(text);
        expression(&mut errors, &Cursor::of(Some(&value), "expression"));
        errors.iter().map(ToString::to_string).collect()
    }

    /// `compile_test.go` of upstream's package.
    #[test]
    fn an_expression_selects_devices() {
        for fine in [
            "true",
            r#"device.driver == "dra.example.com""#,
            r#"device.attributes["dra.example.com"].name == "x" && device.attributes["dra.example.com"].size > 3"#,
            r#"device.attributes["dra.example.com"].flag"#,
            r#"device.capacity["dra.example.com"].memory.isGreaterThan(quantity("1Gi"))"#,
            r#"cel.bind(dra, device.attributes["dra.example.com"], dra.a && dra.b)"#,
            r#"device.allowMultipleAllocations && "dra.example.com" in device.attributes"#,
        ] {
            assert_eq!(told(fine), [""; 0], "{fine}");
        }
        let text = told(r#""text""#).join("; ");
        assert!(
            text.ends_with("must evaluate to bool or the unknown type, not string"),
            "{text}"
        );
        let undeclared = told("dev.x").join("; ");
        assert!(
            undeclared.contains("compilation failed: ERROR: <input>:1:1: undeclared reference to 'dev'"),
            "{undeclared}"
        );
        let no_name = told("cel.bind(a.b, 1, true)").join("; ");
        assert!(
            no_name.contains("cel.bind() variable names must be simple identifiers"),
            "{no_name}"
        );
    }

    #[test]
    fn an_expression_may_not_cost_too_much() {
        let each = r#"device.attributes.all(d, device.attributes[d].all(i, device.attributes.all(e, device.attributes[e].all(j, d == e && i == j))))"#;
        assert_eq!(told(each), ["expression: Forbidden: too complex, exceeds cost limit"]);
    }
}
