//! What policies say of requests. Requests that go through a whole server are asked of upstream too (the rig `policies`).

use serde_json::{Value, json};

use super::compiled::Policy;
use super::decision::{Annotation, Decision, Verdict};

fn policy(spec: &Value) -> Policy {
    Policy::read(&json!({ "metadata": { "name": "p" }, "spec": spec }))
}

/// What a policy says of an object, without anybody who asks.
fn verdict(spec: &Value, object: &Value) -> Verdict {
    let variables = |name: &str| (name == "object").then(|| cel::read(cel::View::of(object), None));
    policy(spec).validate(&variables)
}

fn denied(spec: &Value, object: &Value) -> Vec<String> {
    let decisions = verdict(spec, object).decisions.into_iter();
    let told = decisions.filter_map(|decision| match decision {
        Decision::Deny { message, .. } => Some(message),
        Decision::Admit => None,
    });
    told.collect()
}

#[test]
fn a_denial_has_the_message_that_the_policy_gives_it() {
    let object = json!({ "n": 5 });
    for (validation, want) in [
        (json!({ "expression": "object.n > 4" }), None),
        (
            json!({ "expression": " object.n > 5 " }),
            Some("failed expression: object.n > 5"),
        ),
        (
            json!({ "expression": "object.n > 5", "message": " more " }),
            Some("more"),
        ),
        (
            json!({ "expression": "object.n > 5", "message": "m", "messageExpression": "'got ' + string(object.n)" }),
            Some("got 5"),
        ),
        (
            json!({ "expression": "object.n > 5", "message": "m", "messageExpression": "'a\\nb'" }),
            Some("m"),
        ),
        (
            json!({ "expression": "object.n > 5", "messageExpression": "object.x" }),
            Some("failed expression: object.n > 5"),
        ),
        (
            json!({ "expression": "object.x > 5" }),
            Some("expression 'object.x > 5' resulted in error: no such key: x"),
        ),
    ] {
        let spec = json!({ "validations": [validation] });
        assert_eq!(
            denied(&spec, &object),
            want.into_iter().collect::<Vec<_>>(),
            "{validation}"
        );
    }
    let ignored = json!({ "failurePolicy": "Ignore", "validations": [{ "expression": "object.x > 5" }] });
    assert_eq!(denied(&ignored, &object), [""; 0]);
}

#[test]
fn variables_are_read_by_those_after_them_and_fail_only_who_reads_them() {
    let object = json!({ "n": 5 });
    let spec = |expression: &str| {
        json!({
            "variables": [
                { "name": "bad", "expression": "object.x" },
                { "name": "twice", "expression": "object.n * 2" },
                { "name": "more", "expression": "variables.twice + 1" },
            ],
            "validations": [{ "expression": expression }],
        })
    };
    assert_eq!(
        denied(&spec("variables.more == 11 && variables.twice == 10"), &object),
        [""; 0]
    );
    assert_eq!(
        denied(&spec("variables.more == 11 || variables.bad == 1"), &object),
        [""; 0]
    );
    let want = "expression 'variables.bad == 1' resulted in error: composited variable \"bad\" fails to evaluate: no such key: x";
    assert_eq!(denied(&spec("variables.bad == 1"), &object), [want]);
}

#[test]
fn evaluations_share_a_budget_that_variables_are_paid_from() {
    let object = json!({ "l": vec![0; 280] });
    let dear = "object.l.all(a, object.l.all(b, a == b)) || true";
    let validations = |count: usize| vec![json!({ "expression": dear }); count];
    assert_eq!(denied(&json!({ "validations": validations(5) }), &object), [""; 0]);
    let want = "validation failed due to running out of cost budget, no further validation rules will be run";
    assert_eq!(denied(&json!({ "validations": validations(60) }), &object), [want]);
}

#[test]
fn conditions_decide_whether_a_policy_says_anything() {
    let object = json!({ "n": 5 });
    let spec = |condition: &str| json!({ "matchConditions": [{ "name": "c", "expression": condition }], "validations": [{ "expression": "false" }] });
    assert_eq!(denied(&spec("object.n == 4"), &object), [""; 0]);
    assert_eq!(denied(&spec("object.n == 5"), &object), ["failed expression: false"]);
}

#[test]
fn annotations_are_texts_or_nothing() {
    let object = json!({ "n": 5 });
    let spec = |expression: &str| json!({ "auditAnnotations": [{ "key": "k", "valueExpression": expression }] });
    let made = |expression: &str| verdict(&spec(expression), &object).annotations;
    let value = Annotation::Made {
        key: "k".into(),
        value: "got 5".into(),
    };
    assert_eq!(made("'got ' + string(object.n)"), [value]);
    assert_eq!(made("null"), []);
    assert_eq!(made("' '"), []);
    assert!(matches!(made("string(object.x)").as_slice(), [Annotation::Failed(why)] if why.contains("no such key")));
}
