//! The language by itself: values, errors and costs that upstream gives for the same questions.
#![allow(clippy::unwrap_used)]

use std::sync::Arc;

use cel::{Declared, Environment, Limits, Schema, View};
use serde_json::{Value as Json, json};

fn schema() -> Schema {
    Schema::from_openapi(&json!({
        "type": "object",
        "properties": {
            "n": { "type": "integer" },
            "s": { "type": "string", "maxLength": 10 },
            "t": { "type": "string", "format": "date-time" },
            "y": { "type": "string", "format": "byte" },
            "p": { "x-kubernetes-int-or-string": true },
            "set": { "type": "array", "x-kubernetes-list-type": "set", "items": { "type": "string" } },
            "namespace": { "type": "string" },
            "m": { "type": "object", "additionalProperties": { "type": "integer" } }
        }
    }))
}

fn data() -> Json {
    json!({
        "n": 3, "s": "abc", "t": "2024-02-29T12:00:00Z", "y": "YWJj", "p": "50%", "set": ["a", "b"], "namespace": "default",
        "m": { "x": 1 }
    })
}

/// The value or error, and the cost.
fn evaluate(expr: &str) -> (String, u64) {
    let schema = schema();
    let declared = Arc::new(Declared::from_schema(&schema, false, "selfType").unwrap());
    let environment = Environment::kubernetes(37).with_declared("self", &declared);
    let checked = environment.compile(expr).unwrap_or_else(|e| panic!("{e}"));
    let program = environment.plan(&checked).unwrap();
    let data = data();
    let variables = [("self", cel::read(View::of(&data), Some(&schema)).unwrap())];
    let evaluation = program.evaluate(&variables[..], &Limits::default());
    let shown = evaluation.outcome.map_or_else(|f| f.to_string(), |v| v.show());
    (shown, evaluation.cost)
}

#[test]
fn expressions_have_upstreams_values_and_costs() {
    for (expr, value, cost) in [
        ("self.n + 1 == 4", "true", 4),
        ("has(self.s) && self.s.startsWith('a')", "true", 4),
        ("self.t.getFullYear()", "2024", 3),
        ("self.y", "b\"\\141\\142\\143\"", 2),
        ("type(self.p) == string", "true", 4),
        ("self.set + ['b', 'c']", "[\"a\", \"b\", \"c\"]", 3),
        ("self.set == ['b', 'a']", "true", 3),
        ("self.__namespace__", "\"default\"", 2),
        ("[1, 2, 3].map(x, x * 2)", "[2, 4, 6]", 43),
        ("self.m['x']", "1", 3),
        ("self.m['z']", "no such key: z", 3),
        ("1 / (self.n - 3)", "division by zero", 4),
        ("self.n == 3 || 1 / 0 == 1", "true", 3),
        ("[1, 2][self.n]", "index out of bounds: 3", 3),
    ] {
        assert_eq!(evaluate(expr), (value.to_owned(), cost), "{expr}");
    }
}
