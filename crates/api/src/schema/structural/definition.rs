//! What keeps an `openAPIV3Schema` from being one of a definition: the rules of `schema.ValidateStructural`, of
//! `defaulting.ValidateDefaults` and of apiextensions' validation of a schema.

use std::collections::{BTreeMap, HashSet};

use serde_json::{Map, Value, json};

use super::embedded;
use super::field_path;
use super::formats;
use super::node::{Node, prune, text};
use super::pattern;
use crate::field::FieldError;
use crate::schema::path::Path;

type Errors = Vec<FieldError>;

/// Where a schema stands.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Level {
    Root,
    Item,
    Field,
}

/// What is wrong with a version's schema.
#[derive(Debug)]
pub struct Findings {
    /// The errors, in upstream's order.
    pub errors: Vec<FieldError>,
    /// Where in the errors those of single keywords begin; those before concern the schema as a whole and its defaults.
    pub keywords: usize,
    /// It is a structural schema, so that validation rules may be compiled by it.
    pub structural: bool,
    /// A default breaks its own schema.
    pub defaults: bool,
    /// The paths of the schemas whose keywords are wrong.
    pub places: Vec<String>,
}

/// The errors of keywords, and where they were found.
#[derive(Default)]
struct Found {
    errors: Errors,
    places: Vec<String>,
}

/// Everything that is wrong with a version's schema, but for the expressions of its validation rules. `at` is its path; `status` says
/// that the version has a status subresource.
pub fn errors(schema: &Value, at: &str, status: bool) -> Findings {
    let mut found = Errors::new();
    let (mut structural_schema, mut bad_defaults) = (false, false);
    if status {
        root_with_status(schema, at, &mut found);
    }
    if flag(schema, "nullable") {
        found.push(FieldError::forbidden(
            format!("{at}.nullable"),
            "nullable cannot be true at the root",
        ));
    }
    // of what is no structural schema at all the last check says more
    if structural_form(schema) {
        let mut invariants = Errors::new();
        structural(schema, Level::Root, at, &mut invariants);
        complete(schema, Some(schema), at, at, &mut invariants);
        invariants.sort_by_key(ToString::to_string);
        if invariants.is_empty() {
            let before = found.len();
            let mut node = Node::compile(schema);
            node.forget_unions();
            defaults(&node, true, false, at, &mut found);
            structural_schema = true;
            bad_defaults = found.len() > before;
        } else {
            found.extend(invariants);
        }
    }
    let keywords = found.len();
    let mut of_keywords = Found::default();
    openapi(
        schema,
        at,
        &Defaults {
            root: true,
            ..Defaults::default()
        },
        &mut of_keywords,
    );
    found.extend(of_keywords.errors);
    Findings {
        errors: found,
        keywords,
        structural: structural_schema,
        defaults: bad_defaults,
        places: of_keywords.places,
    }
}

fn flag(schema: &Value, key: &str) -> bool {
    schema.get(key) == Some(&Value::Bool(true))
}

fn object<'v>(schema: &'v Value, key: &str) -> Option<&'v Map<String, Value>> {
    schema.get(key).and_then(Value::as_object)
}

/// A schema below a key, when there is one.
fn inner<'v>(schema: &'v Value, key: &str) -> Option<&'v Value> {
    schema.get(key).filter(|v| v.is_object())
}

fn list<'v>(schema: &'v Value, key: &str) -> &'v [Value] {
    schema
        .get(key)
        .and_then(Value::as_array)
        .map(Vec::as_slice)
        .unwrap_or_default()
}

/// Whether Go's type has something else than nothing there, be it an empty text.
fn is_given(schema: &Value, key: &str) -> bool {
    // the type points to these
    const POINTERS: [&str; 3] = ["$ref", "x-kubernetes-list-type", "x-kubernetes-map-type"];
    schema.get(key).is_some_and(|v| match v {
        Value::String(s) => !s.is_empty() || POINTERS.contains(&key),
        Value::Array(_) | Value::Object(_) => true,
        _ => is_set(schema, key),
    })
}

fn is_set(schema: &Value, key: &str) -> bool {
    schema.get(key).is_some_and(|v| match v {
        Value::Null => false,
        Value::String(s) => !s.is_empty(),
        Value::Array(l) => !l.is_empty(),
        Value::Object(m) => !m.is_empty(),
        Value::Bool(b) => *b,
        Value::Number(_) => true,
    })
}

/// Every schema in a schema, itself included.
fn each<'v>(schema: &'v Value, visit: &mut impl FnMut(&'v Value)) {
    visit(schema);
    for key in ["properties", "patternProperties", "definitions"] {
        object(schema, key)
            .into_iter()
            .flatten()
            .for_each(|(_, s)| each(s, visit));
    }
    for key in ["items", "additionalProperties", "not"] {
        inner(schema, key).into_iter().for_each(|s| each(s, visit));
    }
    for key in ["allOf", "anyOf", "oneOf"] {
        list(schema, key).iter().for_each(|s| each(s, visit));
    }
}

/// The formats in a schema that nothing is held against, in the order of the schema.
pub fn unknown_formats(schema: &Value) -> Vec<String> {
    let mut found = Vec::new();
    each(schema, &mut |s| {
        let format = text(s, "format");
        if !format.is_empty() && !formats::is_known_of(text(s, "type"), format) {
            found.push(format.to_owned());
        }
    });
    found
}

/// What no structural schema can be made of.
fn structural_form(schema: &Value) -> bool {
    const NEVER: [&str; 6] = [
        "id",
        "$schema",
        "$ref",
        "patternProperties",
        "dependencies",
        "definitions",
    ];
    let mut fine = true;
    each(schema, &mut |s| {
        fine &= !NEVER.iter().any(|key| is_set(s, key))
            && s.get("additionalItems").is_none_or(Value::is_null)
            && !s.get("items").is_some_and(Value::is_array)
            && s.get("x-kubernetes-preserve-unknown-fields") != Some(&Value::Bool(false));
    });
    fine
}

/// With a status subresource the schema of status is taken out of the root's: only what is not lost then may stand there.
fn root_with_status(schema: &Value, at: &str, errors: &mut Errors) {
    // in the order of upstream's type, which the message shows
    const ALLOWED: [(&str, &str); 22] = [
        ("Description", "description"),
        ("Type", "type"),
        ("Format", "format"),
        ("Title", "title"),
        ("Maximum", "maximum"),
        ("ExclusiveMaximum", "exclusiveMaximum"),
        ("Minimum", "minimum"),
        ("ExclusiveMinimum", "exclusiveMinimum"),
        ("MaxLength", "maxLength"),
        ("MinLength", "minLength"),
        ("Pattern", "pattern"),
        ("MaxItems", "maxItems"),
        ("MinItems", "minItems"),
        ("UniqueItems", "uniqueItems"),
        ("MultipleOf", "multipleOf"),
        ("Required", "required"),
        ("Items", "items"),
        ("Properties", "properties"),
        ("ExternalDocs", "externalDocs"),
        ("Example", "example"),
        ("XPreserveUnknownFields", "x-kubernetes-preserve-unknown-fields"),
        ("XValidations", "x-kubernetes-validations"),
    ];
    let kind = text(schema, "type");
    if !kind.is_empty() && kind != "object" {
        let why =
            "only \"object\" is allowed as the type at the root of the schema if the status subresource is enabled";
        errors.push(FieldError::invalid(format!("{at}.type"), json!(kind), why));
        return;
    }
    let known = |key: &str| ALLOWED.iter().any(|(_, name)| *name == key);
    let keys = schema.as_object().into_iter().flatten().map(|(key, _)| key);
    if keys.into_iter().any(|key| is_given(schema, key) && !known(key)) {
        let names: Vec<&str> = ALLOWED.iter().map(|(name, _)| *name).collect();
        let why = format!(
            "only [{}] fields are allowed at the root of the schema if the status subresource is enabled",
            names.join(" ")
        );
        errors.push(FieldError::invalid(at, schema.clone(), why));
    }
}

fn structural(schema: &Value, level: Level, at: &str, errors: &mut Errors) {
    let kind = text(schema, "type");
    if kind == "array" && inner(schema, "items").is_none() {
        errors.push(FieldError::required(format!("{at}.items"), "must be specified"));
    }
    if let Some(items) = inner(schema, "items") {
        structural(items, Level::Item, &format!("{at}.items"), errors);
    }
    for (name, property) in object(schema, "properties").into_iter().flatten() {
        structural(property, Level::Field, &format!("{at}.properties[{name}]"), errors);
    }
    let additional = schema.get("additionalProperties").filter(|a| !a.is_null());
    let additional_at = format!("{at}.additionalProperties");
    if let Some(additional) = additional {
        if level == Level::Root {
            errors.push(FieldError::forbidden(&additional_at, "must not be used at the root"));
        }
        if additional.is_object() {
            structural(additional, Level::Field, &additional_at, errors);
        }
    }
    let [int_or_string, preserve, embedded] = [
        "x-kubernetes-int-or-string",
        "x-kubernetes-preserve-unknown-fields",
        "x-kubernetes-embedded-resource",
    ]
    .map(|key| flag(schema, key));
    for (key, set) in [
        ("x-kubernetes-preserve-unknown-fields", preserve),
        ("x-kubernetes-embedded-resource", embedded),
    ] {
        if int_or_string && set {
            let why = "must be false if x-kubernetes-int-or-string is true";
            errors.push(FieldError::invalid(format!("{at}.{key}"), json!(true), why));
        }
    }
    let is_pair = |schemas: &[Value]| schemas == [json!({ "type": "integer" }), json!({ "type": "string" })];
    let first = list(schema, "allOf").first();
    let skip = (
        is_pair(list(schema, "anyOf")),
        first.is_some_and(|all| is_pair(list(all, "anyOf"))),
    );
    value_validation(schema, skip, at, errors);
    let type_at = format!("{at}.type");
    if embedded && kind != "object" {
        let why = "must be object if x-kubernetes-embedded-resource is true";
        errors.push(match kind {
            "" => FieldError::required(type_at, why),
            kind => FieldError::invalid(type_at, json!(kind), why),
        });
    } else if kind.is_empty() && !int_or_string && !preserve {
        let why = match level {
            Level::Root => "must not be empty at the root",
            Level::Item => "must not be empty for specified array items",
            Level::Field => "must not be empty for specified object fields",
        };
        errors.push(FieldError::required(type_at, why));
    } else if level == Level::Root && !kind.is_empty() && kind != "object" {
        errors.push(FieldError::invalid(type_at, json!(kind), "must be object at the root"));
    }
    if embedded && additional.is_some() {
        let why = "must not be used if x-kubernetes-embedded-resource is set";
        errors.push(FieldError::forbidden(additional_at, why));
    }
    let check_metadata = level == Level::Root || embedded;
    let property = |name: &str| object(schema, "properties").and_then(|p| p.get(name));
    for name in ["kind", "apiVersion"] {
        if let Some(property) = property(name)
            && check_metadata
            && text(property, "type") != "string"
        {
            let at = format!("{at}.properties[{name}].type");
            errors.push(FieldError::invalid(at, json!(text(property, "type")), "must be string"));
        }
    }
    if let Some(property) = property("metadata") {
        let at = format!("{at}.properties[metadata]");
        if check_metadata && text(property, "type") != "object" {
            let kind = json!(text(property, "type"));
            errors.push(FieldError::invalid(format!("{at}.type"), kind, "must be object"));
        }
        if level == Level::Root && !names_alone(property) {
            let why =
                "must not specify anything other than name and generateName, but metadata is implicitly specified";
            errors.push(FieldError::forbidden(at, why));
        }
    }
    if embedded && !preserve && object(schema, "properties").is_none_or(Map::is_empty) {
        let why = "must not be empty if x-kubernetes-embedded-resource is true without \
                   x-kubernetes-preserve-unknown-fields";
        errors.push(FieldError::required(format!("{at}.properties"), why));
    }
}

/// Whether the schema of metadata restricts nothing but names.
fn names_alone(metadata: &Value) -> bool {
    let fields = metadata.as_object().into_iter().flatten();
    fields.into_iter().all(|(key, value)| match key.as_str() {
        "type" | "default" => true,
        "properties" => {
            let names: Vec<&str> = value
                .as_object()
                .into_iter()
                .flatten()
                .map(|(k, _)| k.as_str())
                .collect();
            names.iter().all(|name| matches!(*name, "name" | "generateName"))
        }
        // what has no items comes to the same
        "enum" | "allOf" | "anyOf" | "oneOf" => !is_set(metadata, key),
        key => !is_given(metadata, key),
    })
}

fn value_validation(schema: &Value, (skip_any, skip_first_all): (bool, bool), at: &str, errors: &mut Errors) {
    if !skip_any {
        for (i, nested) in list(schema, "anyOf").iter().enumerate() {
            nested_validation(nested, false, &format!("{at}.anyOf[{i}]"), errors);
        }
    }
    for (i, nested) in list(schema, "allOf").iter().enumerate() {
        nested_validation(nested, skip_first_all && i == 0, &format!("{at}.allOf[{i}]"), errors);
    }
    for (i, nested) in list(schema, "oneOf").iter().enumerate() {
        nested_validation(nested, false, &format!("{at}.oneOf[{i}]"), errors);
    }
    if let Some(nested) = inner(schema, "not") {
        nested_validation(nested, false, &format!("{at}.not"), errors);
    }
    let expression = text(schema, "pattern");
    if let Err(why) = pattern::compile(expression) {
        let why = format!("must be a valid regular expression, but isn't: {why}");
        errors.push(FieldError::invalid(format!("{at}.pattern"), json!(expression), why));
    }
}

/// A schema below a logical one may demand things, but specify none.
fn nested_validation(schema: &Value, skip_any: bool, at: &str, errors: &mut Errors) {
    value_validation(schema, (skip_any, false), at, errors);
    if let Some(items) = inner(schema, "items") {
        nested_validation(items, false, &format!("{at}.items"), errors);
    }
    for (name, property) in object(schema, "properties").into_iter().flatten() {
        nested_validation(property, false, &format!("{at}.properties[{name}]"), errors);
    }
    const FORBIDDEN: [(&str, &str); 12] = [
        ("type", "must be empty to be structural"),
        ("additionalProperties", "must be undefined to be structural"),
        ("default", "must be undefined to be structural"),
        ("title", "must be empty to be structural"),
        ("description", "must be empty to be structural"),
        ("nullable", "must be false to be structural"),
        ("x-kubernetes-preserve-unknown-fields", "must be false to be structural"),
        ("x-kubernetes-embedded-resource", "must be false to be structural"),
        ("x-kubernetes-int-or-string", "must be false to be structural"),
        ("x-kubernetes-list-map-keys", "must be empty to be structural"),
        ("x-kubernetes-list-type", "must be undefined to be structural"),
        ("x-kubernetes-map-type", "must be undefined to be structural"),
    ];
    for (key, why) in FORBIDDEN {
        let set = match key {
            "default" => schema.get(key).is_some_and(|d| !d.is_null()),
            "additionalProperties" => schema
                .get(key)
                .is_some_and(|a| a.is_object() || *a == Value::Bool(true)),
            "x-kubernetes-list-type" | "x-kubernetes-map-type" => schema.get(key).is_some_and(Value::is_string),
            key => is_set(schema, key),
        };
        if set {
            errors.push(FieldError::forbidden(format!("{at}.{key}"), why));
        }
    }
    if is_set(schema, "x-kubernetes-validations") {
        let at = format!("{at}.x-kubernetes-validations");
        errors.push(FieldError::forbidden(at, "must be empty to be structural"));
    }
    if object(schema, "properties").is_some_and(|p| p.contains_key("metadata")) {
        let at = format!("{at}.properties[metadata]");
        errors.push(FieldError::forbidden(at, "must not be specified in a nested context"));
    }
}

/// What is demanded of a field must be demanded of one that is specified. `main` is the specifying schema.
fn complete(validation: &Value, main: Option<&Value>, main_at: &str, at: &str, errors: &mut Errors) {
    let mut nested = |schema: &Value, at: String| complete_nested(schema, main, main_at, &at, errors);
    if let Some(not) = inner(validation, "not") {
        nested(not, format!("{at}.not"));
    }
    for key in ["allOf", "anyOf", "oneOf"] {
        for (i, schema) in list(validation, key).iter().enumerate() {
            nested(schema, format!("{at}.{key}[{i}]"));
        }
    }
}

fn complete_nested(validation: &Value, main: Option<&Value>, main_at: &str, at: &str, errors: &mut Errors) {
    let Some(specified) = main else {
        let why = format!("because it is defined in {at}");
        errors.push(FieldError::required(main_at, why));
        return;
    };
    complete(validation, main, main_at, at, errors);
    if let Some(items) = inner(validation, "items") {
        let (main_at, at) = (format!("{main_at}.items"), format!("{at}.items"));
        complete_nested(items, inner(specified, "items"), &main_at, &at, errors);
    }
    for (name, property) in object(validation, "properties").into_iter().flatten() {
        let (main_at, at) = (
            format!("{main_at}.properties[{name}]"),
            format!("{at}.properties[{name}]"),
        );
        let main = object(specified, "properties").and_then(|p| p.get(name));
        complete_nested(property, main, &main_at, &at, errors);
    }
}

/// Defaults must themselves keep to the schema. `meta` says that the schema is of metadata.
fn defaults(node: &Node, root: bool, meta: bool, at: &str, errors: &mut Errors) {
    let embedded = node.embedded || root;
    let meta = meta && !embedded;
    if let Some(default) = &node.default {
        let under = format!("{at}.default");
        let mut pruned = default.clone();
        let mut unknown = Vec::new();
        if !meta {
            prune(Some(node), &mut pruned, node.embedded, &Path::Root, &mut unknown);
        }
        if !unknown.is_empty() {
            errors.push(FieldError::invalid(
                &under,
                default.clone(),
                "must not have unknown fields",
            ));
        }
        let place = Path::Key(&Path::Root, &under);
        let coerced = embedded::coerce(node, &mut default.clone(), &place, &mut Vec::new());
        let of_objects = match coerced {
            Err(error) if !meta => vec![error],
            _ => embedded::errors(node, default, &place, node.embedded),
        };
        if of_objects.is_empty() {
            errors.extend(node.check_part(default, None, &under));
        } else {
            errors.extend(of_objects);
        }
    }
    if let Some(items) = &node.items {
        defaults(items, false, meta, &format!("{at}.items"), errors);
    }
    for (name, property) in &node.properties {
        let of_meta = embedded && matches!(&**name, "metadata" | "apiVersion" | "kind");
        defaults(
            property,
            false,
            meta || of_meta,
            &format!("{at}.properties[{name}]"),
            errors,
        );
    }
}

/// Where defaults are forbidden, and why.
#[derive(Clone, Default)]
struct Defaults {
    root: bool,
    inside_meta: bool,
    forbidden: Option<String>,
}

impl Defaults {
    fn below(&self) -> Defaults {
        Defaults {
            root: false,
            ..self.clone()
        }
    }
}

fn openapi(schema: &Value, at: &str, context: &Defaults, found: &mut Found) {
    let mut own = Errors::new();
    supported(schema, at, context, &mut own);
    if flag(schema, "uniqueItems") {
        let why = "uniqueItems cannot be set to true since the runtime complexity becomes quadratic";
        own.push(FieldError::forbidden(format!("{at}.uniqueItems"), why));
    }
    let properties = object(schema, "properties").filter(|p| !p.is_empty());
    let additional = schema.get("additionalProperties").filter(|a| !a.is_null());
    if let Some(additional) = additional
        && properties.is_some()
        && *additional != Value::Bool(true)
    {
        let why = "additionalProperties and properties are mutual exclusive";
        own.push(FieldError::forbidden(format!("{at}.additionalProperties"), why));
    }
    let mut wrong = !own.is_empty();
    found.errors.append(&mut own);
    openapi_below(schema, at, context, found);
    if schema.get("x-kubernetes-preserve-unknown-fields") == Some(&Value::Bool(false)) {
        let at = format!("{at}.x-kubernetes-preserve-unknown-fields");
        own.push(FieldError::invalid(at, json!(false), "must be true or undefined"));
    }
    collections(schema, at, &mut own);
    validations(schema, at, &mut own);
    wrong |= !own.is_empty();
    found.errors.append(&mut own);
    if wrong {
        found.places.push(at.to_owned());
    }
}

/// The schemas in a schema.
fn openapi_below(schema: &Value, at: &str, context: &Defaults, found: &mut Found) {
    if let Some(additional) = schema.get("additionalProperties").filter(|a| a.is_object()) {
        let mut below = context.below();
        if context.inside_meta {
            below.forbidden = Some("inside additionalProperties applying to object metadata".into());
        }
        openapi(additional, &format!("{at}.additionalProperties"), &below, found);
    }
    for (name, property) in object(schema, "properties").into_iter().flatten() {
        let mut below = context.below();
        if (context.root || flag(schema, "x-kubernetes-embedded-resource"))
            && matches!(name.as_str(), "metadata" | "kind" | "apiVersion")
        {
            below.inside_meta = true;
            if context.root {
                below.forbidden = Some(format!("in top-level {name}"));
            }
        }
        openapi(property, &format!("{at}.properties[{name}]"), &below, found);
    }
    if let Some(not) = inner(schema, "not") {
        openapi(not, &format!("{at}.not"), &context.below(), found);
    }
    for key in ["allOf", "oneOf", "anyOf"] {
        for (i, nested) in list(schema, key).iter().enumerate() {
            openapi(nested, &format!("{at}.{key}[{i}]"), &context.below(), found);
        }
    }
    if let Some(items) = inner(schema, "items") {
        openapi(items, &format!("{at}.items"), &context.below(), found);
    }
}

/// The form of validation rules; their expressions are not looked at.
fn validations(schema: &Value, at: &str, errors: &mut Errors) {
    const REASONS: [&str; 4] = [
        "FieldValueDuplicate",
        "FieldValueForbidden",
        "FieldValueInvalid",
        "FieldValueRequired",
    ];
    const LINE_BREAKS: [char; 2] = ['\n', '\r'];
    let mut node = None;
    for (i, rule) in list(schema, "x-kubernetes-validations").iter().enumerate() {
        let at = |key: &str| format!("{at}.x-kubernetes-validations[{i}].{key}");
        let [expression, message, message_expression, path] =
            ["rule", "message", "messageExpression", "fieldPath"].map(|key| text(rule, key));
        let trimmed = message.trim();
        if expression.trim().is_empty() {
            errors.push(FieldError::required(at("rule"), "rule is not specified"));
        } else if !message.is_empty() && trimmed.is_empty() {
            let why = "must be non-empty if specified";
            errors.push(FieldError::invalid(at("message"), json!(message), why));
        } else if trimmed.contains(LINE_BREAKS) {
            let why = "must not contain line breaks";
            errors.push(FieldError::invalid(at("message"), json!(message), why));
        } else if expression.trim().contains(LINE_BREAKS) && trimmed.is_empty() {
            let why = "message must be specified if rule contains line breaks";
            errors.push(FieldError::required(at("message"), why));
        }
        if !message_expression.is_empty() && message_expression.trim().is_empty() {
            let why = "messageExpression must be non-empty if specified";
            errors.push(FieldError::required(at("messageExpression"), why));
        }
        if let Some(reason) = rule.get("reason").and_then(Value::as_str)
            && !REASONS.contains(&reason)
        {
            errors.push(FieldError::not_supported(at("reason"), json!(reason), &REASONS));
        }
        if path.is_empty() {
            continue;
        }
        let mut wrong = |why: &str| errors.push(FieldError::invalid(at("fieldPath"), json!(path), why));
        if path.trim().is_empty() {
            wrong("must be non-empty if specified");
        }
        if path.contains(LINE_BREAKS) {
            wrong("must not contain line breaks");
        }
        let node = node.get_or_insert_with(|| structural_form(schema).then(|| Node::compile(schema)));
        if node
            .as_ref()
            .is_some_and(|node| field_path::resolve(node, path, true).is_err())
        {
            wrong("must be a valid path");
        }
    }
}

/// Keywords that are refused wherever they stand.
fn supported(schema: &Value, at: &str, context: &Defaults, errors: &mut Errors) {
    const TYPES: [&str; 6] = ["array", "boolean", "integer", "number", "object", "string"];
    let kind = text(schema, "type");
    if !kind.is_empty() && !TYPES.contains(&kind) {
        errors.push(FieldError::text_not_supported(format!("{at}.type"), kind, &TYPES));
    }
    if let (Some(reason), true) = (&context.forbidden, schema.get("default").is_some_and(|d| !d.is_null())) {
        errors.push(FieldError::forbidden(
            format!("{at}.default"),
            format!("must not be set {reason}"),
        ));
    }
    let mut refuse = |key: &str, why: &str| errors.push(FieldError::forbidden(format!("{at}.{key}"), why));
    for key in ["id", "patternProperties", "definitions"] {
        if is_set(schema, key) {
            refuse(key, &format!("{key} is not supported"));
        }
    }
    for key in ["additionalItems", "dependencies", "$ref"] {
        if schema.get(key).is_some_and(|v| !v.is_null()) {
            refuse(key, &format!("{key} is not supported"));
        }
    }
    if kind == "null" {
        refuse("type", "type cannot be set to null, use nullable as an alternative");
    }
    if schema.get("items").is_some_and(Value::is_array) {
        refuse("items", "items must be a schema object and not an array");
    }
    if context.inside_meta && flag(schema, "x-kubernetes-embedded-resource") {
        refuse(
            "x-kubernetes-embedded-resource",
            "must not be used inside of resource meta",
        );
    }
}

/// How lists and maps are merged.
fn collections(schema: &Value, at: &str, errors: &mut Errors) {
    let kind = text(schema, "type");
    let word = |key: &str| schema.get(key).and_then(Value::as_str);
    let (map_type, list_type) = (word("x-kubernetes-map-type"), word("x-kubernetes-list-type"));
    let mut must_be = |wanted: &str, key: &str| {
        let why = format!("must be {wanted} if {key} is specified");
        errors.push(match kind {
            "" => FieldError::required(format!("{at}.type"), why),
            kind => FieldError::invalid(format!("{at}.type"), json!(kind), why),
        });
    };
    if map_type.is_some() && kind != "object" {
        must_be("object", "x-kubernetes-map-type");
    }
    if list_type.is_some() && kind != "array" {
        must_be("array", "x-kubernetes-list-type");
    } else if let (Some("set"), Some(items)) = (list_type, inner(schema, "items")) {
        let why = "must be atomic as item of a list with x-kubernetes-list-type=set";
        let own = items.get("x-kubernetes-list-type").cloned().unwrap_or_default();
        let bad = match text(items, "type") {
            "array" if !matches!(own.as_str(), None | Some("atomic")) => Some("x-kubernetes-list-type"),
            "object" if text(items, "x-kubernetes-map-type") != "atomic" => Some("x-kubernetes-map-type"),
            _ => None,
        };
        errors.extend(bad.map(|key| FieldError::invalid(format!("{at}.items.{key}"), own, why)));
    }
    for (key, value, known) in [
        ("x-kubernetes-map-type", map_type, &["atomic", "granular"][..]),
        ("x-kubernetes-list-type", list_type, &["atomic", "set", "map"][..]),
    ] {
        if let Some(value) = value.filter(|value| !known.contains(value)) {
            errors.push(FieldError::text_not_supported(format!("{at}.{key}"), value, known));
        }
    }
    let keys = list(schema, "x-kubernetes-list-map-keys");
    let type_at = format!("{at}.x-kubernetes-list-type");
    if !keys.is_empty() && list_type != Some("map") {
        let why = "must be map if x-kubernetes-list-map-keys is non-empty";
        errors.push(match list_type {
            None => FieldError::required(type_at, why),
            Some(other) => FieldError::invalid(type_at, json!(other), why),
        });
    }
    if list_type == Some("map") {
        list_map(schema, keys, at, errors);
    }
    if let (Some(list_type @ ("set" | "map")), Some(items)) = (list_type, inner(schema, "items"))
        && flag(items, "nullable")
    {
        let why = format!("cannot be nullable when x-kubernetes-list-type is {list_type}");
        errors.push(FieldError::forbidden(format!("{at}.items.nullable"), why));
    }
    if list_type == Some("map") {
        list_map_keys(schema, keys, at, errors);
    }
}

fn list_map(schema: &Value, keys: &[Value], at: &str, errors: &mut Errors) {
    let keys_at = format!("{at}.x-kubernetes-list-map-keys");
    if keys.is_empty() {
        let why = "must not be empty if x-kubernetes-list-type is map";
        errors.push(FieldError::required(&keys_at, why));
    }
    let Some(items) = inner(schema, "items") else {
        if schema.get("items").is_none_or(Value::is_null) {
            let why = "must have a schema if x-kubernetes-list-type is map";
            errors.push(FieldError::required(format!("{at}.items"), why));
        } else {
            let why = "must only have a single schema if x-kubernetes-list-type is map";
            errors.push(FieldError::invalid(format!("{at}.items"), schema["items"].clone(), why));
        }
        return;
    };
    let kind = text(items, "type");
    if kind != "object" {
        let why = "must be object if parent array's x-kubernetes-list-type is map";
        errors.push(FieldError::invalid(format!("{at}.items.type"), json!(kind), why));
        return;
    }
    let mut seen = HashSet::new();
    for key in keys.iter().filter_map(Value::as_str) {
        match object(items, "properties").and_then(|p| p.get(key)) {
            Some(property) if matches!(text(property, "type"), "array" | "object") => {
                let why = "must be a scalar type if parent array's x-kubernetes-list-type is map";
                let at = format!("{at}.items.properties[{key}].type");
                errors.push(FieldError::invalid(at, json!(kind), why));
            }
            Some(_) => {}
            None => {
                let why = "entries must all be names of item properties";
                errors.push(FieldError::invalid(&keys_at, Value::Array(keys.to_vec()), why));
            }
        }
        if !seen.insert(key) {
            let why = "must not contain duplicate entries";
            errors.push(FieldError::invalid(&keys_at, Value::Array(keys.to_vec()), why));
        }
    }
}

/// An item without a key could not be told apart.
fn list_map_keys(schema: &Value, keys: &[Value], at: &str, errors: &mut Errors) {
    let Some(items) = inner(schema, "items") else { return };
    let required = list(items, "required");
    let properties: BTreeMap<&str, &Value> = object(items, "properties")
        .into_iter()
        .flatten()
        .map(|(k, v)| (k.as_str(), v))
        .collect();
    for key in keys.iter().filter_map(Value::as_str) {
        let Some(property) = properties.get(key) else { continue };
        let at = format!("{at}.items.properties[{key}]");
        if !required.iter().any(|r| r == key) && property.get("default").is_none_or(Value::is_null) {
            let why =
                "this property is in x-kubernetes-list-map-keys, so it must have a default or be a required property";
            errors.push(FieldError::required(format!("{at}.default"), why));
        }
        if flag(property, "nullable") {
            let why = "this property is in x-kubernetes-list-map-keys, so it cannot be nullable";
            errors.push(FieldError::forbidden(format!("{at}.nullable"), why));
        }
    }
}
