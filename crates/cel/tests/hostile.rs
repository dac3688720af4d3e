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

/// What an expression would keep in memory, or walk over, ends it as its cost does.
#[test]
fn what_costs_little_but_makes_much_ends_with_the_limits_error() {
    let data = json!({
        "list": (0..50_000).collect::<Vec<u32>>(),
        "text": "a".repeat(3_000_000),
        "texts": { ("k".repeat(1_000_000)): 1 },
    });
    let doubled = format!("[1]{}", ".map(a, [a, a])".repeat(60));
    for expr in [
        "self.list.map(c, '%.9000000f'.format([1.0])).size() > 0".to_owned(),
        "self.list.map(c, '%s'.format([self.text])).size() > 0".to_owned(),
        format!("self.list.map(c, [c{}]).size() > 0", ", c".repeat(20_000)),
        format!(
            "self.list.map(c, {{c: 1{}}}).size() > 0",
            (0..5_000)
                .map(|n| format!(", dyn({}): 1", n + 100_000))
                .collect::<String>()
        ),
        "self.list.map(c, {self.text: c}).size() > 0".to_owned(),
        "self.list.map(c, self.texts.transformMap(k, v, v)).size() > 0".to_owned(),
        format!(
            "[self.list{}].map(l, l.reverse()).size() > 0",
            " + self.list".repeat(200)
        ),
        format!("{doubled} == {doubled}"),
        format!("'%s'.format([{doubled}]).size() > 0"),
        format!("{doubled}.map(l, {{l: 1}}).size() > 0"),
    ] {
        let (outcome, cost) = evaluate(&expr, &data, &Limits::default());
        let shown = expr.get(..60).unwrap_or(&expr);
        assert_eq!(outcome, Err(Fault::CostLimit), "{shown} cost {cost}");
    }
}

#[test]
fn numbers_have_as_many_decimals_as_are_asked_for() {
    for clause in ["f", "e"] {
        let expr = format!("'%.70000{clause}'.format([0.5]).size() > 70000");
        assert_eq!(
            evaluate(&expr, &json!({}), &Limits::default()).0,
            Ok("true".into()),
            "{expr}"
        );
    }
}

/// A split text is kept as places of the text: three million parts take 24 MB, whatever is made of them later.
#[test]
fn parts_of_a_text_are_places_in_it() {
    let data = json!({ "text": "aé".repeat(1_000_000), "words": "a b  c" });
    for (expr, want) in [
        (
            "self.text.split('')[1999999] == 'é' && self.text.split('').size() == 2000000",
            "true",
        ),
        ("self.text.findAll('é').size() == 1000000", "true"),
        ("self.text.split('').map(c, self.text.split('')).size() > 0", "limit"),
        ("self.words.split(' ')", "[\"a\", \"b\", \"\", \"c\"]"),
        ("self.words.split(' ', 2)", "[\"a\", \"b  c\"]"),
        ("self.words.split('', 3)", "[\"a\", \" \", \"b  c\"]"),
        ("('x,' + self.words).split(',')", "[\"x\", \"a b  c\"]"),
        ("''.split(',')", "[\"\"]"),
        ("''.split('')", "[]"),
    ] {
        let (outcome, _) = evaluate(expr, &data, &Limits::default());
        let told = outcome.unwrap_or_else(|fault| {
            if fault == Fault::CostLimit {
                "limit".into()
            } else {
                fault.to_string()
            }
        });
        assert_eq!(told, want, "{expr}");
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
