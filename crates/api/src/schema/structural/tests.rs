//! What upstream's API server was seen to do with custom resources and their definitions.

use serde_json::{Value, json};

use super::*;

fn spec(properties: Value) -> Value {
    json!({ "type": "object", "properties": { "spec": { "type": "object", "properties": properties } } })
}

/// The spec of an object as it is stored, and what is wrong with it.
fn stored(openapi: &Value, spec: Value) -> (Value, Vec<String>) {
    let (schema, root) = Schema::from_crd(openapi);
    let object = json!({ "apiVersion": "g.example.com/v1", "kind": "K", "metadata": { "name": "a" }, "spec": spec });
    let mut decoded = schema.decode_custom(object, Nulls::Dropped).unwrap();
    schema.set_defaults(root, &mut decoded.value);
    let errors = schema.validate_structural(&decoded.value, None, Written::Whole);
    let errors = errors.iter().map(ToString::to_string).collect();
    whole_numbers(&mut decoded.value);
    (decoded.value["spec"].take(), errors)
}

/// `StripUnsupportedFormatsPostProcessorForVersion` and `ToKubeOpenAPI`.
#[test]
fn formats_that_nobody_knows_count_for_defaults_alone_and_the_types_of_a_union_for_objects_alone() {
    let mut openapi = spec(json!({
        "i": { "type": "integer", "format": "float" }, "x": { "x-kubernetes-int-or-string": true },
        "m": { "type": "object", "additionalProperties": { "type": "object", "properties": { "n": { "type": "number", "maximum": 1 } } } },
    }));
    let unfit = "spec.i: Invalid value: \"number\": spec.i in body must be of type integer: \"number\"";
    assert_eq!(stored(&openapi, json!({ "i": 1.5 })).1[0], unfit);
    assert_eq!(stored(&openapi, json!({ "x": true })).1.len(), 1);
    openapi["properties"]["spec"]["default"] = json!({ "i": 1.5, "x": true, "m": { "": { "n": 1e6 } } });
    let refused = refused(&openapi);
    let at = "schema.properties[spec].default";
    let wanted = [
        format!("{at}.i: Invalid value: \"float64\": i in body must be of type float: \"float64\""),
        format!("{at}.m..n: Invalid value: 1e+06: m..n in body should be less than or equal to 1"),
    ];
    for want in wanted {
        assert!(refused.contains(&want), "{want} in {refused:?}");
    }
    assert!(!refused.iter().any(|error| error.contains(".x")), "{refused:?}");
}

fn refused(openapi: &Value) -> Vec<String> {
    let errors = definition::errors(openapi, "schema", false).errors;
    errors.iter().map(ToString::to_string).collect()
}

#[test]
fn objects_are_pruned_defaulted_and_validated() {
    let mut openapi = spec(json!({
        "engine": { "type": "string", "enum": ["postgres", "mysql"] },
        "replicas": { "type": "integer", "minimum": 1, "maximum": 5, "default": 1 },
        "port": { "x-kubernetes-int-or-string": true },
        "users": { "type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"],
                   "items": { "type": "object", "required": ["name"], "properties": { "name": { "type": "string" } } } },
    }));
    openapi["properties"]["spec"]["required"] = json!(["engine"]);
    assert_eq!(refused(&openapi), Vec::<String>::new());
    let (schema, root) = Schema::from_crd(&openapi);
    let object = json!({ "metadata": { "name": "a" }, "spec": { "engine": "postgres", "foo": 1 } });
    let mut decoded = schema.decode_custom(object, Nulls::Dropped).unwrap();
    assert_eq!(decoded.unknown, ["spec.foo"]);
    schema.set_defaults(root, &mut decoded.value);
    assert_eq!(decoded.value["spec"], json!({ "engine": "postgres", "replicas": 1 }));
    let bad = json!({ "engine": "oracle", "replicas": 9, "port": true, "users": [{ "name": "a" }, { "name": "a" }] });
    assert_eq!(
        stored(&openapi, bad).1,
        [
            "spec.engine: Unsupported value: \"oracle\": supported values: \"postgres\", \"mysql\"",
            "spec.port: Invalid value: \"boolean\": spec.port in body must be of type integer,string: \"boolean\"",
            "spec.replicas: Invalid value: 9: spec.replicas in body should be less than or equal to 5",
            "spec.users[1]: Duplicate value: {\"name\":\"a\"}",
        ]
    );
    assert_eq!(stored(&openapi, json!({})).1, ["spec.engine: Required value"]);
}

/// `validate.MultipleOf` of kube-openapi.
#[test]
fn what_is_a_multiple_has_a_quotient_that_is_nearly_whole_and_not_too_large() {
    let openapi = spec(json!({ "n": { "type": "number", "multipleOf": 0.1 } }));
    for (value, fits) in [
        (json!(0.3), true),
        (json!(0.35), false),
        (json!(1e-12), false),
        (json!(9.3e18), false),
    ] {
        assert_eq!(stored(&openapi, json!({ "n": value })).1.is_empty(), fits, "{value}");
    }
}

/// `validate.Enum` of kube-openapi converts a number to the type of the listed one; texts are quoted by Go's rules.
#[test]
fn listed_values_are_compared_as_upstream_converts_them() {
    let openapi = spec(json!({
        "whole": { "type": "number", "enum": [0] },
        "real": { "type": "number", "enum": [0.5] },
        "text": { "type": "string", "enum": ["a"] },
    }));
    assert_eq!(
        stored(&openapi, json!({ "whole": 0.5, "real": 0.5 })).1,
        Vec::<String>::new()
    );
    assert_eq!(
        stored(&openapi, json!({ "whole": 1.5, "real": 0, "text": "<\u{0}>" })).1,
        [
            "spec.real: Unsupported value: 0: supported values: \"0.5\"",
            "spec.text: Unsupported value: \"<\\x00>\": supported values: \"a\"",
            "spec.whole: Unsupported value: 1.5: supported values: \"0\"",
        ]
    );
}

#[test]
fn nulls_are_dropped_defaulted_or_kept_as_the_schema_says() {
    let openapi = spec(json!({
        "list": { "type": "array", "items": { "type": "string" } },
        "map": { "type": "object", "additionalProperties": { "type": "string" } },
        "obj": { "type": "object", "properties": { "a": { "type": "integer" } } },
        "dflt": { "type": "string", "default": "hello" },
        "keep": { "type": "string", "nullable": true, "default": "hello" },
        "ints": { "type": "array", "items": { "type": "integer", "nullable": true } },
        "any": { "x-kubernetes-preserve-unknown-fields": true },
    }));
    let given = json!({ "list": null, "map": { "k": null, "l": "v" }, "obj": { "a": null }, "dflt": null, "keep": null,
        "ints": [1, null, 2], "any": null });
    let want = json!({ "map": { "l": "v" }, "obj": {}, "dflt": "hello", "keep": null, "ints": [1, null, 2] });
    assert_eq!(stored(&openapi, given), (want, vec![]));
}

#[test]
fn what_is_below_a_preserving_schema_is_kept() {
    let openapi = spec(json!({
        "list": { "type": "array", "x-kubernetes-preserve-unknown-fields": true, "items": { "type": "object",
            "properties": { "known": { "type": "object", "properties": { "a": { "type": "string" } } } } } },
        "obj": { "type": "object", "x-kubernetes-preserve-unknown-fields": true,
            "properties": { "a": { "type": "object", "properties": {} } } },
        "bare": { "type": "array", "items": { "type": "object", "x-kubernetes-preserve-unknown-fields": true } },
    }));
    let given = json!({ "list": [{ "x": 1, "known": { "a": "b", "c": 1 } }], "obj": { "b": { "c": 1 }, "a": { "z": 1 } },
        "bare": [{ "x": [1, { "y": 2 }] }] });
    let want = json!({ "list": [{ "x": 1, "known": { "a": "b" } }], "obj": { "b": { "c": 1 }, "a": {} },
        "bare": [{ "x": [1, { "y": 2 }] }] });
    assert_eq!(stored(&openapi, given), (want, vec![]));
}

#[test]
fn embedded_objects_say_what_they_are_and_have_metadata() {
    let openapi = spec(
        json!({ "emb": { "type": "object", "x-kubernetes-embedded-resource": true,
        "x-kubernetes-preserve-unknown-fields": true } }),
    );
    assert_eq!(refused(&openapi), Vec::<String>::new());
    let missing = stored(&openapi, json!({ "emb": { "a": 1 } })).1;
    assert_eq!(
        missing,
        ["spec.emb.apiVersion: Required value", "spec.emb.kind: Required value"]
    );
    let given = json!({ "emb": { "apiVersion": "v1", "kind": "Pod", "metadata": { "name": "a", "foo": 1 }, "x": 1 } });
    let want = json!({ "emb": { "apiVersion": "v1", "kind": "Pod", "metadata": { "name": "a" }, "x": 1 } });
    assert_eq!(stored(&openapi, given), (want, vec![]));
}

#[test]
fn numbers_are_what_their_type_and_bounds_say() {
    let openapi = spec(json!({
        "i": { "type": "integer" }, "i32": { "type": "integer", "format": "int32" },
        "third": { "type": "number", "multipleOf": 0.5 }, "even": { "type": "integer", "multipleOf": 2 },
        "text": { "type": "string", "maxLength": 2, "format": "date" }, "few": { "type": "array", "maxItems": 1,
            "items": { "type": "string" } },
    }));
    assert_eq!(
        stored(&openapi, json!({ "i": 3.0, "third": 1.5, "even": 4 })),
        (json!({ "i": 3, "third": 1.5, "even": 4 }), vec![])
    );
    let cases: [(Value, &[&str]); 9] = [
        (
            json!({ "i": 3.5 }),
            &[
                "spec.i: Invalid value: \"number\": spec.i in body must be of type integer: \"number\"",
                "<nil>: Invalid value: \"\": Checked value must be of type integer (default format) in spec.i",
            ],
        ),
        (
            json!({ "i32": 1.5 }),
            &[
                "spec.i32: Invalid value: \"float64\": spec.i32 in body must be of type int32: \"float64\"",
                "<nil>: Invalid value: \"\": Checked value must be of type integer with format int32 in spec.i32",
            ],
        ),
        (
            json!({ "i32": 3_000_000_000i64 }),
            &["<nil>: Invalid value: \"\": Checked value must be of type integer with format int32 in spec.i32"],
        ),
        (
            json!({ "third": 0.75 }),
            &["spec.third: Invalid value: 0.75: spec.third in body should be a multiple of 0.5"],
        ),
        // an integer is divided as one, by what is left of the step
        (
            json!({ "third": 3 }),
            &["spec.third: Invalid value: 0: factor MultipleOf declared for spec.third must be positive: 0"],
        ),
        (
            json!({ "even": 3 }),
            &["spec.even: Invalid value: 3: spec.even in body should be a multiple of 2"],
        ),
        (
            json!({ "few": ["a", "b"] }),
            &["spec.few: Too many: 2: must have at most 1 item"],
        ),
        (
            json!({ "text": "2020-01-01" }),
            &["spec.text: Too long: may not be more than 2 bytes"],
        ),
        (
            json!({ "text": 5 }),
            &["spec.text: Invalid value: \"int64\": spec.text in body must be of type date: \"int64\""],
        ),
    ];
    for (given, want) in cases {
        assert_eq!(stored(&openapi, given).1, want);
    }
}

#[test]
fn an_update_is_not_asked_about_what_it_leaves_as_it_was() {
    let openapi = spec(
        json!({ "a": { "type": "string", "maxLength": 1 }, "b": { "type": "integer" },
        "l": { "type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["k"],
            "items": { "type": "object", "required": ["k"],
                "properties": { "k": { "type": "string" }, "v": { "type": "string", "maxLength": 1 } } } } }),
    );
    let (schema, _) = Schema::from_crd(&openapi);
    let old = json!({ "spec": { "a": "long", "b": 1, "l": [{ "k": "x", "v": "long" }] } });
    let changed = json!({ "spec": { "a": "long", "b": 2, "l": [{ "k": "y" }, { "k": "x", "v": "long" }] } });
    assert_eq!(schema.validate_structural(&changed, Some(&old), Written::Whole), []);
    let longer = json!({ "spec": { "a": "longer", "b": 2 } });
    assert_eq!(schema.validate_structural(&longer, Some(&old), Written::Whole).len(), 1);
}

#[test]
fn of_alternatives_the_one_that_fits_best_is_shown() {
    let mut openapi = spec(json!({ "a": { "type": "string" }, "b": { "type": "string" } }));
    openapi["properties"]["spec"]["oneOf"] = json!([{ "required": ["a"] }, { "required": ["b"] }]);
    assert_eq!(refused(&openapi), Vec::<String>::new());
    assert_eq!(stored(&openapi, json!({ "a": "x" })).1, Vec::<String>::new());
    let both = stored(&openapi, json!({ "a": "x", "b": "y" })).1;
    let why = "\"spec\" must validate one and only one schema (oneOf). Found 2 valid alternatives";
    assert_eq!(both, [format!("<nil>: Invalid value: \"\": {why}")]);
}

#[test]
fn definitions_are_refused_for_what_upstream_refuses() {
    let l = "schema.properties[spec].properties[l]";
    let s = "schema.properties[spec].properties[s]";
    let cases: Vec<(Value, String)> = vec![
        (
            json!({ "l": { "type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["k"],
                "items": { "type": "object", "properties": { "k": { "type": "string" } } } } }),
            format!(
                "{l}.items.properties[k].default: Required value: this property is in x-kubernetes-list-map-keys, so it must have a default or be a required property"
            ),
        ),
        (
            json!({ "l": { "type": "array", "x-kubernetes-list-type": "set", "items": { "type": "object" } } }),
            format!(
                "{l}.items.x-kubernetes-map-type: Invalid value: null: must be atomic as item of a list with x-kubernetes-list-type=set"
            ),
        ),
        (
            json!({ "s": { "type": "string", "default": 5 } }),
            format!("{s}.default: Invalid value: \"integer\":  in body must be of type string: \"integer\""),
        ),
        (
            json!({ "s": { "type": "object", "default": { "zz": 1 }, "properties": { "a": { "type": "string" } } } }),
            format!("{s}.default: Invalid value: {{\"zz\":1}}: must not have unknown fields"),
        ),
        (
            json!({ "l": { "type": "array", "uniqueItems": true, "items": { "type": "string" } } }),
            format!(
                "{l}.uniqueItems: Forbidden: uniqueItems cannot be set to true since the runtime complexity becomes quadratic"
            ),
        ),
        (
            json!({ "s": { "type": "object", "anyOf": [{ "type": "object" }] } }),
            format!("{s}.anyOf[0].type: Forbidden: must be empty to be structural"),
        ),
        (
            json!({ "s": { "type": "object", "x-kubernetes-preserve-unknown-fields": false } }),
            format!("{s}.x-kubernetes-preserve-unknown-fields: Invalid value: false: must be true or undefined"),
        ),
        (
            json!({ "s": { "type": "object", "properties": { "a": { "type": "string" } }, "additionalProperties": false } }),
            format!("{s}.additionalProperties: Forbidden: additionalProperties and properties are mutual exclusive"),
        ),
        (
            json!({ "s": {} }),
            format!("{s}.type: Required value: must not be empty for specified object fields"),
        ),
        (
            json!({ "s": { "type": "string", "pattern": "a**" } }),
            format!(
                "{s}.pattern: Invalid value: \"a**\": must be a valid regular expression, but isn't: error parsing regexp: invalid nested repetition operator: `**`"
            ),
        ),
    ];
    for (properties, want) in cases {
        assert_eq!(refused(&spec(properties)), [want]);
    }
    let mut open = spec(json!({}));
    open["anyOf"] = json!([{ "properties": { "b": { "minimum": 1 } } }]);
    let why = "because it is defined in schema.anyOf[0].properties[b]";
    assert_eq!(refused(&open), [format!("schema.properties[b]: Required value: {why}")]);
    let metadata = |schema: Value| json!({ "type": "object", "properties": { "metadata": schema } });
    let named = metadata(json!({ "type": "object", "properties": { "name": { "type": "string", "maxLength": 9 } } }));
    assert_eq!(refused(&named), Vec::<String>::new());
    let labels = metadata(
        json!({ "type": "object", "properties": { "labels": { "type": "object", "additionalProperties": { "type": "string" } } } }),
    );
    assert_eq!(refused(&labels).len(), 1);
    let default = metadata(json!({ "type": "object", "properties": { "name": { "type": "string", "default": "x" } } }));
    let why = "must not be set in top-level metadata";
    assert_eq!(
        refused(&default),
        [format!(
            "schema.properties[metadata].properties[name].default: Forbidden: {why}"
        )]
    );
}

#[test]
fn what_upstream_takes_is_taken() {
    let cases = [
        json!({ "s": { "type": "object", "properties": { "a": { "type": "string" } }, "additionalProperties": true } }),
        json!({ "s": { "anyOf": [{ "type": "integer" }, { "type": "string" }], "x-kubernetes-int-or-string": true, "pattern": "^[^[\\]]+$" } }),
        json!({ "s": { "type": "string", "allOf": [{ "maxLength": 3 }, { "minLength": 1 }], "format": "unheard-of" } }),
        json!({ "s": { "type": "object", "x-kubernetes-map-type": "atomic", "default": {}, "properties": { "a": { "type": "integer", "default": 3 } } } }),
        json!({ "s": { "type": "array", "nullable": true, "items": { "x-kubernetes-preserve-unknown-fields": true } } }),
        json!({ "s": { "type": "string", "enum": ["a", ""], "default": "" } }),
    ];
    for properties in cases {
        assert_eq!(refused(&spec(properties.clone())), Vec::<String>::new(), "{properties}");
    }
}
