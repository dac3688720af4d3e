//! Expressions: read, checked, estimated, planned and evaluated over an object.

use cel::{Environment, Limits, Type};

use super::text;
use crate::{Form, Target};

pub const TARGET: Target = Target::new("cel", Form::Bytes, check);

fn check(input: &[u8]) {
    let Some(text) = text(input) else { return };
    let environment = Environment::stored()
        .with_variable("self", Type::Dyn)
        .with_variable("oldSelf", Type::Dyn)
        .with_mutation();
    let checked = match environment.compile(text) {
        Ok(checked) => checked,
        Err(issues) => return drop(issues.to_string()),
    };
    let Ok(program) = environment.plan(&checked) else {
        return;
    };
    let data = serde_json::json!({
        "a": 1, "b": [1, 2, 3], "c": { "d": "text", "e": null, "f": 1.5 }, "t": "2026-12-01T00:00:00Z", "q": "1Gi", "ip": "10.0.0.1",
    });
    let Ok(value) = cel::read(cel::View::of(&data), None) else {
        return;
    };
    let variables = [("self", value.clone()), ("oldSelf", value)];
    let limits = Limits {
        cost: 100_000,
        interrupt: None,
    };
    let first = program.evaluate(&variables[..], &limits);
    let second = program.evaluate(&variables[..], &limits);
    assert_eq!(first.cost, second.cost, "an expression costs the same each time");
    assert_eq!(
        format!("{:?}", first.outcome),
        format!("{:?}", second.outcome),
        "and gives the same"
    );
}
