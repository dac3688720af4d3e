//! Expressions that would take more than they may: they end with the error of the limit, however they go about it.
#![allow(clippy::unwrap_used)]

use cel::{Environment, Fault, Limits, Type, Value, View};
use serde_json::{Value as Json, json};

fn evaluate(expr: &str, data: &Json, limits: &Limits<'_>) -> (Result<String, Fault>, u64) {
    let environment = Environment::kubernetes(37).with_variable("self", Type::Dyn);
    let checked = environment.compile(expr).unwrap_or_else(|e| panic!("{expr}: {e}"));
    let program = environment.plan(&checked).unwrap();
    let variables = [("self", cel::read(View::of(data), None).unwrap())];
    let evaluation = program.evaluate(&variables[..], limits);
    (evaluation.outcome.map(|v| v.show()), evaluation.cost)
}

fn big() -> Json {
    json!({
        "list": (0..20_000).collect::<Vec<u32>>(),
        "text": "a".repeat(1_000_000),
        "texts": (0..20_000).map(|n| format!("[a-z]{{{}}}x{n}", n % 30)).collect::<Vec<_>>(),
    })
}

#[test]
fn what_costs_more_than_it_may_ends_with_the_limits_error() {
    let data = big();
    for expr in [
        "self.list.all(a, self.list.all(b, self.list.all(c, a + b + c >= 0)))",
        "self.list.map(a, self.list.map(b, [a, b])).size() > 0",
        "self.text.replace('', self.text).size() > 0",
        "self.list.map(a, self.text).join(self.text).size() > 0",
        "'%s'.format([self.list.map(a, self.text)]).size() > 0",
        "lists.range(1000000).map(n, n).size() > 0",
        "self.list.distinct().size() > 0",
        "sets.contains(self.list, self.list)",
        "self.texts.all(t, !'abc'.matches(t))",
        "self.list.map(a, self.text + self.text).size() > 0",
        "self.list.transformMap(i, v, self.list).size() > 0 && self.list.all(a, self.list.all(b, b >= 0))",
    ] {
        let (outcome, cost) = evaluate(expr, &data, &Limits::default());
        assert_eq!(outcome, Err(Fault::CostLimit), "{expr} cost {cost}");
    }
}

#[test]
fn joined_lists_are_not_copied() {
    let data = big();
    let expr = "self.list.all(a, (self.list + self.list + self.list)[59999] == 19999)";
    let limits = Limits {
        cost: u64::MAX,
        ..Limits::default()
    };
    assert_eq!(evaluate(expr, &data, &limits).0, Ok("true".into()));
}

#[test]
fn the_deepest_expressions_fit_a_small_stack() {
    let environment = Environment::kubernetes(37).with_variable("self", Type::Dyn);
    let compile = |text: &str| environment.compile(text);
    let nested =
        |open: &str, inside: &str, close: &str, n: usize| format!("{}{inside}{}", open.repeat(n), close.repeat(n));
    for text in [
        nested("(", "self", ")", 249),
        nested("[", "1", "]", 248),
        nested("{'a': ", "1", "}", 248),
        nested("[1].map(x, ", "x", ")", 120),
        nested("[1].all(x, ", "true", ")", 120),
        nested("-(", "self", ")", 240),
        nested("size([", "1", "])", 120),
        nested("(true ? ", "1", " : 2)", 120),
        format!("1{}", " + 1".repeat(250)),
        format!("self{}", ".a".repeat(250)),
        format!("true{}", " && true".repeat(12_000)),
        format!("[{}]", "[],".repeat(30_000)),
    ] {
        let Ok(checked) = compile(&text) else {
            continue;
        };
        let _ = environment.estimate(&checked);
        let program = environment.plan(&checked).unwrap();
        let variables = [("self", Value::Null)];
        let _ = program.evaluate(&variables[..], &Limits::default());
    }
    for text in [
        "(".repeat(100_000),
        "[".repeat(100_000),
        "-".repeat(100_000),
        "a.".repeat(50_000),
        "!(".repeat(50_000),
    ] {
        assert!(compile(&text).is_err());
    }
}

#[test]
fn an_evaluation_stops_when_it_is_asked_to() {
    let stop = std::sync::atomic::AtomicBool::new(true);
    let limits = Limits {
        cost: u64::MAX,
        interrupt: Some(&stop),
    };
    let (outcome, cost) = evaluate("self.list.all(a, self.list.all(b, a + b >= 0))", &big(), &limits);
    assert_eq!(outcome, Err(Fault::Interrupted));
    assert!(cost < 2_000, "{cost}");
}
