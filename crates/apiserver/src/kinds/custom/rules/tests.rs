//! Rules over objects and in definitions. The cases are drawn from upstream's own tables (`apiserver/schema/cel/validation_test.go`,
//! `apis/apiextensions/validation/validation_test.go`); the differential rig asks upstream itself.

use api::schema::structural;
use api::schema::structural::Node;
use serde_json::{Value, json};

use super::{Known, Rules, definition};

fn rule(text: &str) -> Value {
    json!({ "rule": text })
}

/// A schema with rules at it.
fn with(mut schema: Value, rules: Vec<Value>) -> Value {
    schema["x-kubernetes-validations"] = Value::Array(rules);
    schema
}

fn object(properties: Value) -> Value {
    json!({ "type": "object", "properties": properties })
}

fn found(schema: &Value, new: &Value, old: Option<&Value>) -> (Vec<String>, Vec<String>) {
    let rules = Rules::compile(schema, true, &Default::default()).unwrap_or_else(|| panic!("no rules: {schema}"));
    let found = rules.check(&Node::compile(schema), new, old);
    (found.errors.iter().map(ToString::to_string).collect(), found.warnings)
}

fn errors(schema: &Value, new: Value) -> Vec<String> {
    found(schema, &new, None).0
}

/// What a definition with this schema is told, and whether its rules are accepted.
fn told(schema: &Value) -> Vec<String> {
    told_before(schema, &Known::default(), false)
}

fn told_before(schema: &Value, known: &Known, unchanged: bool) -> Vec<String> {
    let findings = structural::definition::errors(schema, "schema", false);
    let errors = definition::check(schema, "schema", findings, known, unchanged);
    errors.iter().map(ToString::to_string).collect()
}

#[test]
fn a_rule_sees_the_data_as_its_schema_says() {
    let int_or_string = json!({ "x-kubernetes-int-or-string": true });
    let string = |format: &str| json!({ "type": "string", "format": format });
    let keyed = json!({
        "type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["k"],
        "items": { "type": "object", "required": ["k"], "properties": { "k": { "type": "string" }, "v": { "type": "integer" } } },
    });
    // (schema of `v`, its value, rules that hold, rules that do not)
    for (schema, value, holds, fails) in [
        (
            json!({ "type": "integer" }),
            json!(3),
            vec!["self.v == 3", "self.v % 2 == 1"],
            vec!["self.v > 3"],
        ),
        (
            json!({ "type": "number" }),
            json!(3),
            vec!["self.v == 3.0", "self.v / 2.0 == 1.5"],
            vec!["self.v < 3.0"],
        ),
        (
            json!({ "type": "boolean" }),
            json!(true),
            vec!["self.v"],
            vec!["!self.v"],
        ),
        (
            json!({ "type": "string" }),
            json!("abc"),
            vec!["self.v.startsWith('a')", "size(self.v) == 3"],
            vec!["self.v == ''"],
        ),
        (
            string("date-time"),
            json!("2020-01-01T00:00:00Z"),
            vec!["self.v < timestamp('2021-01-01T00:00:00Z')"],
            vec![],
        ),
        (
            string("duration"),
            json!("1h"),
            vec!["self.v > duration('59m')"],
            vec!["self.v == duration('1s')"],
        ),
        (
            string("byte"),
            json!("YWI="),
            vec!["self.v == b'ab'"],
            vec!["string(self.v) == 'x'"],
        ),
        (
            int_or_string.clone(),
            json!(5),
            vec!["type(self.v) == int && self.v == 5", "self.v > 4"],
            vec!["type(self.v) == string"],
        ),
        (
            int_or_string,
            json!("5%"),
            vec!["type(self.v) == string && self.v == '5%'"],
            vec!["type(self.v) == int"],
        ),
        (
            keyed,
            json!([{ "k": "a", "v": 1 }, { "k": "b" }]),
            vec![
                "self.v.exists(e, e.k == 'b' && !has(e.v))",
                "self.v == [self.v[1], self.v[0]]",
            ],
            vec!["self.v.all(e, has(e.v))"],
        ),
        (
            json!({ "type": "object", "additionalProperties": { "type": "integer" } }),
            json!({ "a": 1 }),
            vec!["'a' in self.v && self.v.all(k, self.v[k] == 1)"],
            vec!["'b' in self.v"],
        ),
        (
            json!({ "type": "object", "x-kubernetes-embedded-resource": true, "x-kubernetes-preserve-unknown-fields": true }),
            json!({ "apiVersion": "v1", "kind": "Pod", "metadata": { "name": "a" } }),
            vec!["self.v.metadata.name == 'a' && self.v.kind == 'Pod'"],
            vec!["has(self.v.metadata.generateName)"],
        ),
    ] {
        let object = json!({ "apiVersion": "g/v1", "kind": "K", "metadata": { "name": "n" }, "v": value });
        for text in holds {
            let schema = with(self::object(json!({ "v": schema })), vec![rule(text)]);
            assert_eq!(told(&schema), [""; 0], "{text}");
            assert_eq!(errors(&schema, object.clone()), [""; 0], "{text}");
        }
        for text in fails {
            let schema = with(self::object(json!({ "v": schema })), vec![rule(text)]);
            assert_eq!(told(&schema), [""; 0], "{text}");
            let want = format!("<nil>: Invalid value: failed rule: {text}");
            assert_eq!(errors(&schema, object.clone()), [want], "{text}");
        }
    }
}

#[test]
fn names_that_are_no_identifiers_are_escaped() {
    let properties = json!({ "a-b": { "type": "integer" }, "namespace": { "type": "string" }, "a.b/c": { "type": "integer" }, "1st": { "type": "integer" } });
    let schema = with(
        object(properties),
        vec![rule(
            "self.a__dash__b == self.a__dot__b__slash__c && self.namespace == 'x'",
        )],
    );
    assert_eq!(told(&schema), [""; 0]);
    let new = json!({ "a-b": 1, "a.b/c": 1, "namespace": "x", "1st": 5 });
    assert_eq!(errors(&schema, new), [""; 0]);
    // a field that expressions cannot name has rules of its own nevertheless
    let schema = object(json!({ "1st": with(json!({ "type": "integer" }), vec![rule("self > 5")]) }));
    assert_eq!(told(&schema), [""; 0]);
    assert_eq!(
        errors(&schema, json!({ "1st": 5 })),
        ["1st: Invalid value: 5: failed rule: self > 5"]
    );
}

#[test]
fn only_names_are_seen_of_metadata() {
    let schema = with(
        object(json!({})),
        vec![
            rule("self.metadata.name.size() > 2"),
            rule("!has(self.metadata.generateName)"),
        ],
    );
    assert_eq!(told(&schema), [""; 0]);
    assert_eq!(
        errors(&schema, json!({ "metadata": { "name": "ab" } })),
        ["<nil>: Invalid value: failed rule: self.metadata.name.size() > 2"]
    );
    let schema = with(object(json!({})), vec![rule("self.metadata.labels.size() > 2")]);
    assert!(told(&schema)[0].contains("undefined field 'labels'"));
    // below the root there is no metadata
    let schema = object(
        json!({ "spec": with(object(json!({ "a": { "type": "string" } })), vec![rule("self.metadata.name == ''")]) }),
    );
    assert!(told(&schema)[0].contains("undefined field 'metadata'"));
}

#[test]
fn an_error_has_the_field_reason_and_message_that_the_rule_asks_for() {
    let spec = json!({ "type": "object", "properties": { "n": { "type": "integer" }, "m": { "type": "object", "additionalProperties": { "type": "integer" } } } });
    for (more, want) in [
        (json!({}), "spec: Invalid value: failed rule: self.n > 5"),
        (
            json!({ "message": " must be more " }),
            "spec: Invalid value: must be more",
        ),
        (
            json!({ "messageExpression": "'got ' + (self.n == 1 ? 'one' : 'more')" }),
            "spec: Invalid value: got one",
        ),
        (
            json!({ "message": "m", "messageExpression": "'a\\nb'" }),
            "spec: Invalid value: m",
        ),
        (
            json!({ "message": "m", "messageExpression": "string(self.m['x'])" }),
            "spec: Invalid value: m",
        ),
        (
            json!({ "reason": "FieldValueForbidden" }),
            "spec: Forbidden: failed rule: self.n > 5",
        ),
        (
            json!({ "reason": "FieldValueRequired", "message": "m" }),
            "spec: Required value: m",
        ),
        (
            json!({ "reason": "FieldValueDuplicate", "message": "m" }),
            "spec: Duplicate value",
        ),
        (
            json!({ "fieldPath": ".n" }),
            "spec.n: Invalid value: failed rule: self.n > 5",
        ),
        (
            json!({ "fieldPath": ".m['a']" }),
            "spec.m[a]: Invalid value: failed rule: self.n > 5",
        ),
    ] {
        let mut rule = rule("self.n > 5");
        for (key, value) in more.as_object().into_iter().flatten() {
            rule[key] = value.clone();
        }
        let schema = object(json!({ "spec": with(spec.clone(), vec![rule]) }));
        assert_eq!(told(&schema), [""; 0], "{more}");
        assert_eq!(
            errors(&schema, json!({ "spec": { "n": 1, "m": {} } })),
            [want],
            "{more}"
        );
    }
}

#[test]
fn transition_rules_need_something_to_compare_with() {
    let keyed = |rules| {
        json!({
            "type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["k"],
            "items": with(json!({ "type": "object", "required": ["k"], "properties": { "k": { "type": "string" }, "v": { "type": "integer" } } }), rules),
        })
    };
    let schema = object(json!({ "l": keyed(vec![rule("self.v >= oldSelf.v")]) }));
    assert_eq!(told(&schema), [""; 0]);
    let list = |items: Value| json!({ "l": items });
    let old = list(json!([{ "k": "a", "v": 3 }, { "k": "b", "v": 3 }]));
    let new = list(json!([{ "k": "b", "v": 2 }, { "k": "c", "v": 1 }, { "k": "a", "v": 4 }]));
    assert_eq!(
        found(&schema, &new, Some(&old)).0,
        ["l[0]: Invalid value: failed rule: self.v >= oldSelf.v"]
    );
    assert_eq!(
        errors(&schema, new),
        [""; 0],
        "nothing is compared with when an object is made"
    );

    let optional = json!({ "rule": "oldSelf.hasValue() || self.v == 1", "optionalOldSelf": true });
    let schema = object(json!({ "l": keyed(vec![optional]) }));
    assert_eq!(told(&schema), [""; 0]);
    let new = list(json!([{ "k": "b", "v": 2 }, { "k": "c", "v": 2 }]));
    let want = "l[1]: Invalid value: failed rule: oldSelf.hasValue() || self.v == 1";
    assert_eq!(found(&schema, &new, Some(&old)).0, [want]);
}

#[test]
fn of_what_was_wrong_before_the_writer_is_only_warned() {
    let inner = with(object(json!({ "n": { "type": "integer" } })), vec![rule("self.n > 5")]);
    let atomic = json!({ "type": "array", "items": with(json!({ "type": "integer" }), vec![rule("self > 5")]) });
    let schema = object(json!({ "a": inner, "l": atomic, "b": { "type": "integer" } }));
    let object = |n: i64, l: Value, b: i64| json!({ "a": { "n": n }, "l": l, "b": b });
    let old = object(1, json!([1]), 1);
    let (errors, warnings) = found(&schema, &object(1, json!([1]), 2), Some(&old));
    assert_eq!(errors, [""; 0]);
    assert_eq!(
        warnings,
        [
            "a: Invalid value: failed rule: self.n > 5",
            "l[0]: Invalid value: 1: failed rule: self > 5"
        ]
    );
    let (errors, _) = found(&schema, &object(2, json!([1, 7]), 1), Some(&old));
    assert_eq!(errors.len(), 2, "{errors:?}");
    // what a rule says of a change is never ratcheted
    let schema = self::object(json!({ "a": with(json!({ "type": "integer" }), vec![rule("self > oldSelf")]) }));
    let (errors, _) = found(&schema, &json!({ "a": 1 }), Some(&json!({ "a": 1 })));
    assert_eq!(errors, ["a: Invalid value: 1: failed rule: self > oldSelf"]);
}

#[test]
fn evaluations_cost_no_more_than_they_may() {
    let list = json!({ "type": "array", "items": { "type": "integer" } });
    let expensive = "self.all(a, self.all(b, self.all(c, a + b + c >= 0)))";
    let schema = object(json!({ "l": with(list.clone(), vec![rule(expensive), rule("false")]) }));
    let told = errors(&schema, json!({ "l": (0..1_000).collect::<Vec<i64>>() }));
    let want = format!(
        "l: Invalid value: \"array\": 'operation cancelled: actual cost limit exceeded': no further validation rules will be run due to call cost exceeds limit for rule: {expensive}"
    );
    assert_eq!(told, [want]);

    let quadratic = "self.all(a, self.all(b, a + b >= 0))";
    let schema = object(json!({ "l": with(list, vec![rule(quadratic); 60]) }));
    let told = errors(&schema, json!({ "l": (0..200).collect::<Vec<i64>>() }));
    assert_eq!(
        told,
        [
            "l: Invalid value: \"array\": validation failed due to running out of cost budget, no further validation rules will be run"
        ]
    );
}

#[test]
fn errors_of_evaluations_name_the_rule() {
    let map = json!({ "type": "object", "additionalProperties": { "x-kubernetes-int-or-string": true } });
    for (text, want) in [
        (
            "self['a'] == 1",
            "m: Invalid value: \"object\": no such key: a evaluating rule: self['a'] == 1",
        ),
        (
            "self['b'] + 1 == 1",
            "m: Invalid value: \"object\": 'no such overload': call arguments did not match a supported operator, function or macro signature for rule: self['b'] + 1 == 1",
        ),
    ] {
        let schema = object(json!({ "m": with(map.clone(), vec![rule(text)]) }));
        assert_eq!(told(&schema), [""; 0], "{text}");
        assert_eq!(errors(&schema, json!({ "m": { "b": "x" } })), [want]);
    }
}

#[test]
fn a_definition_is_told_what_is_wrong_with_its_rules() {
    let spec = |rule: Value| object(json!({ "spec": with(object(json!({ "n": { "type": "integer" } })), vec![rule]) }));
    let at = "schema.properties[spec].x-kubernetes-validations[0]";
    for (rule, want) in [
        (json!({ "rule": " " }), "rule: Required value: rule is not specified"),
        (
            json!({ "rule": "true", "message": " " }),
            "message: Invalid value: \" \": must be non-empty if specified",
        ),
        (
            json!({ "rule": "true", "message": "a\nb" }),
            "message: Invalid value: \"a\\nb\": must not contain line breaks",
        ),
        (
            json!({ "rule": "self.n\n > 1" }),
            "message: Required value: message must be specified if rule contains line breaks",
        ),
        (
            json!({ "rule": "true", "messageExpression": " " }),
            "messageExpression: Required value: messageExpression must be non-empty if specified",
        ),
        (
            json!({ "rule": "true", "reason": "x" }),
            "reason: Unsupported value: \"x\": supported values: \"FieldValueDuplicate\", \"FieldValueForbidden\", \"FieldValueInvalid\", \"FieldValueRequired\"",
        ),
        (
            json!({ "rule": "true", "fieldPath": ".m" }),
            "fieldPath: Invalid value: \".m\": must be a valid path",
        ),
        (
            json!({ "rule": "self.n" }),
            "rule: Invalid value: {\"Rule\":\"self.n\",\"Message\":\"\",\"MessageExpression\":\"\",\"Reason\":null,\"FieldPath\":\"\",\"OptionalOldSelf\":null}: cel expression must evaluate to a bool",
        ),
        (
            json!({ "rule": "true", "messageExpression": "1" }),
            "messageExpression: Invalid value: {\"Rule\":\"true\",\"Message\":\"\",\"MessageExpression\":\"1\",\"Reason\":null,\"FieldPath\":\"\",\"OptionalOldSelf\":null}: messageExpression must evaluate to a string",
        ),
        (
            json!({ "rule": "self.n > 1", "optionalOldSelf": true }),
            "optionalOldSelf: Invalid value: true: may not be set if oldSelf is not used in rule",
        ),
    ] {
        assert_eq!(told(&spec(rule.clone())), [format!("{at}.{want}")], "{rule}");
    }
    let issues = told(&spec(json!({ "rule": "self.x > 1" })));
    assert!(
        issues[0].contains("compilation failed: ERROR: <input>:1:5: undefined field 'x'\n | self.x > 1\n | ....^"),
        "{issues:?}"
    );
}

#[test]
fn what_cannot_be_correlated_has_no_transition_rules() {
    let item = with(json!({ "type": "integer" }), vec![rule("self > oldSelf")]);
    let schema = object(json!({ "l": { "type": "array", "items": item } }));
    let want = "schema.properties[l].items.x-kubernetes-validations[0].rule: Invalid value: \"self > oldSelf\": oldSelf cannot be used on the uncorrelatable portion of the schema within schema.properties[l]";
    assert_eq!(told(&schema), [want]);
}

#[test]
fn rules_that_may_cost_too_much_are_refused() {
    let list = |rule: &str, bounds: Value| {
        let mut list = with(
            json!({ "type": "array", "items": { "type": "string" } }),
            vec![self::rule(rule)],
        );
        for (key, value) in bounds.as_object().into_iter().flatten() {
            list[key] = value.clone();
        }
        object(json!({ "l": list }))
    };
    let expensive = "self.all(x, self.all(y, x == y))";
    let told_of = told(&list(expensive, json!({})));
    let tail = "(try simplifying the rule, or adding maxItems, maxProperties, and maxLength where arrays, maps, and strings are declared)";
    let at = "schema.properties[l].x-kubernetes-validations[0].rule";
    assert_eq!(
        told_of,
        [
            format!("{at}: Forbidden: estimated rule cost exceeds budget by factor of more than 100x {tail}"),
            format!(
                "{at}: Forbidden: contributed to estimated rule cost total exceeding cost limit for entire OpenAPIv3 schema"
            ),
            format!(
                "schema: Forbidden: x-kubernetes-validations estimated rule cost total for entire OpenAPIv3 schema exceeds budget by factor of more than 100x {tail}"
            ),
        ]
    );
    assert_eq!(told(&list("self.all(x, x != '')", json!({ "maxItems": 100 }))), [""; 0]);
    // of a version that had this schema only the sum is told
    let told_of = told_before(&list(expensive, json!({})), &Known::default(), true);
    assert_eq!(told_of.len(), 2, "{told_of:?}");
}

#[test]
fn what_only_a_newer_server_knows_stays_where_it_was() {
    let schema = object(
        json!({ "l": with(json!({ "type": "array", "maxItems": 3, "items": { "type": "integer" } }), vec![rule("self.includes(1)")]) }),
    );
    assert!(told(&schema)[0].contains("undeclared reference to 'includes'"));
    let stored = json!({ "spec": { "versions": [{ "schema": { "openAPIV3Schema": schema } }] } });
    assert_eq!(told_before(&schema, &Known::of(&stored), false), [""; 0]);
}

#[test]
fn defaults_keep_to_the_rules() {
    let with_default = |default: i64, rule: &str| {
        let mut n = with(json!({ "type": "integer" }), vec![self::rule(rule)]);
        n["default"] = json!(default);
        object(json!({ "spec": object(json!({ "n": n })) }))
    };
    assert_eq!(told(&with_default(6, "self > 5")), [""; 0]);
    assert_eq!(
        told(&with_default(5, "self > 5")),
        ["schema.properties[spec].properties[n].default: Invalid value: 5: failed rule: self > 5"]
    );
    // a default is compared with itself
    assert_eq!(told(&with_default(5, "self >= oldSelf")), [""; 0]);
}
