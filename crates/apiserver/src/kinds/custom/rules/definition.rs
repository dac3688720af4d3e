//! What keeps the expressions of a definition's rules from being accepted: their types, their costs, what they read
//! (`ValidateCustomResourceDefinitionOpenAPISchema`), and defaults that break them (`defaulting.ValidateDefaults`).

use std::sync::Arc;

use api::field::{FieldError, FieldErrorKind};
use api::schema::path::Path;
use api::schema::structural::Node;
use api::schema::structural::definition::Findings;
use cel::Schema;
use serde_json::{Value, json};

use super::cost::{self, Total};
use super::known::{Accepted, Known};
use super::rule::{self, Rule, Scope, Written};
use super::{KEYWORD, Rules, any};

/// Adds what is wrong with the rules of a version's schema to what is wrong with the schema itself. `unchanged` says that the version
/// had this schema before: no single rule of it is too expensive then.
pub fn check(openapi: &Value, at: &str, found: Findings, known: &Known, unchanged: bool) -> Vec<FieldError> {
    let Findings {
        mut errors,
        keywords,
        structural,
        defaults: bad_defaults,
        places,
    } = found;
    if !structural || !any(openapi) {
        return errors;
    }
    let of_defaults = defaults(openapi, at, &errors[..keywords]);
    if bad_defaults || !of_defaults.is_empty() {
        errors.splice(keywords..keywords, of_defaults);
        return errors;
    }
    let mut walk = Walk {
        known,
        unchanged,
        broken: places,
        total: Total::default(),
        errors: Vec::new(),
    };
    let root = Schema::from_openapi(openapi).with_type_and_meta();
    let place = Place {
        seen: Some(&root),
        at,
        cardinality: Some(1),
        uncorrelatable: None,
    };
    walk.schema(openapi, &place);
    errors.extend(walk.errors);
    errors.extend(walk.total.errors(at));
    errors
}

/// A place of the schema.
struct Place<'w> {
    /// What expressions see of such data, when those above it see it.
    seen: Option<&'w Schema>,
    at: &'w str,
    /// How often a value may occur here; `None` when nothing bounds it.
    cardinality: Option<u64>,
    /// The path of the schema above whose values are not known again after an update.
    uncorrelatable: Option<&'w str>,
}

struct Walk<'w> {
    known: &'w Known,
    unchanged: bool,
    /// The schemas that are wrong: of those around them no expression is looked at.
    broken: Vec<String>,
    total: Total,
    errors: Vec<FieldError>,
}

impl Walk<'_> {
    fn schema(&mut self, openapi: &Value, place: &Place<'_>) {
        let most = cost::most_elements(openapi);
        let cardinality = place
            .cardinality
            .zip(most)
            .map(|(here, most)| here.saturating_mul(most));
        let below =
            |walk: &mut Self, inner: &Value, seen: Option<&Schema>, at: String, uncorrelatable: Option<&str>| {
                let place = Place {
                    seen,
                    at: &at,
                    cardinality,
                    uncorrelatable,
                };
                walk.schema(inner, &place);
            };
        if let Some(values) = openapi.get("additionalProperties").filter(|a| a.is_object()) {
            let seen = place.seen.and_then(|s| s.additional_properties.as_deref());
            let at = format!("{}.additionalProperties", place.at);
            below(self, values, seen, at, place.uncorrelatable);
        }
        let properties = openapi.get("properties").and_then(Value::as_object);
        for (name, property) in properties.into_iter().flatten() {
            let seen = place.seen.and_then(|s| s.properties.as_ref()?.get(name));
            let at = format!("{}.properties[{name}]", place.at);
            below(self, property, seen, at, place.uncorrelatable);
        }
        if let Some(items) = openapi.get("items").filter(|i| i.is_object()) {
            let keyed = openapi.get("x-kubernetes-list-type").and_then(Value::as_str) == Some("map");
            let uncorrelatable = place.uncorrelatable.or((!keyed).then_some(place.at));
            let seen = place.seen.and_then(|s| s.items.as_deref());
            below(self, items, seen, format!("{}.items", place.at), uncorrelatable);
        }
        let written = rule::written(openapi);
        if !written.is_empty() && !self.is_broken(place.at) {
            self.rules(written, openapi, place);
        }
    }

    /// Whether the schema is wrong at a path or below.
    fn is_broken(&self, at: &str) -> bool {
        self.broken.iter().any(|place| is_within(place, at))
    }

    fn rules(&mut self, written: Vec<Written>, openapi: &Value, place: &Place<'_>) {
        let at = format!("{}.{KEYWORD}", place.at);
        let own;
        let seen = match place.seen {
            Some(seen) => seen,
            None => {
                own = Schema::from_openapi(openapi);
                &own
            }
        };
        let Some(scope) = Scope::new(seen) else {
            let why = "internal error: failed to construct type information for x-kubernetes-validations rules: unable to \
                       convert structural schema to CEL declarations";
            self.errors.push(internal(at, why));
            return;
        };
        let often = place.cardinality.unwrap_or_else(|| scope.cardinality());
        for (i, written) in written.into_iter().enumerate() {
            let rule = Rule::compile(written, &scope, openapi, Accepted::Known(self.known));
            self.rule(&rule, &format!("{at}[{i}]"), often, place.uncorrelatable);
        }
    }

    fn rule(&mut self, rule: &Rule, at: &str, often: u64, uncorrelatable: Option<&str>) {
        let (rule_at, message_at) = (format!("{at}.rule"), format!("{at}.messageExpression"));
        let cost = rule.cost.saturating_mul(often);
        if !self.unchanged {
            self.errors
                .extend(cost::too_expensive("estimated rule cost", cost, rule_at.clone()));
        }
        self.total.add(cost, rule_at.clone());
        if let Err(why) = &rule.program {
            self.errors
                .push(with_rule(rule_at.clone(), &rule.written, &why.to_string()));
        }
        match &rule.message {
            Err(why) => self.errors.push(with_rule(message_at, &rule.written, &why.to_string())),
            Ok(None) => {}
            Ok(Some(_)) => {
                let cost = rule.message_cost;
                if !self.unchanged {
                    let what = "estimated messageExpression cost";
                    self.errors.extend(cost::too_expensive(what, cost, message_at.clone()));
                }
                self.total.add(cost, message_at);
            }
        }
        match (rule.uses_old_self, uncorrelatable, rule.written.optional_old_self) {
            (true, Some(path), _) => {
                let why = format!("oldSelf cannot be used on the uncorrelatable portion of the schema within {path}");
                self.errors
                    .push(FieldError::invalid(rule_at, json!(&*rule.written.rule), why));
            }
            (false, _, Some(optional)) => {
                let why = "may not be set if oldSelf is not used in rule";
                self.errors.push(FieldError::invalid(
                    format!("{at}.optionalOldSelf"),
                    json!(optional),
                    why,
                ));
            }
            _ => {}
        }
    }
}

/// Whether a path is another one or goes on from it.
fn is_within(path: &str, other: &str) -> bool {
    let rest = path.strip_prefix(other);
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
}

fn internal(at: String, why: &str) -> FieldError {
    FieldError {
        kind: FieldErrorKind::Internal,
        ..FieldError::unfit(at, why)
    }
}

/// An error that shows the whole rule, as upstream's own type is written in JSON.
fn with_rule(at: String, written: &Written, why: &str) -> FieldError {
    let text = |text: &str| api::go::json(&json!(text), None);
    let reason = match written.reason {
        None => "null".to_owned(),
        Some(reason) => text(reason.name()),
    };
    let optional = written
        .optional_old_self
        .map_or("null".to_owned(), |set| set.to_string());
    let shown = format!(
        "{{\"Rule\":{},\"Message\":{},\"MessageExpression\":{},\"Reason\":{reason},\"FieldPath\":{},\"OptionalOldSelf\":{optional}}}",
        text(&written.rule),
        text(&written.message),
        text(&written.message_expression),
        text(&written.field_path),
    );
    FieldError::unfit(at, why).shown(&shown)
}

/// What is wrong with defaults by the rules that hold for them. Those that are wrong already are not looked at.
fn defaults(openapi: &Value, at: &str, wrong: &[FieldError]) -> Vec<FieldError> {
    let mut walk = DefaultsWalk {
        wrong,
        budget: i64::try_from(cel::limits::RUNTIME_BUDGET).unwrap_or(i64::MAX),
        errors: Vec::new(),
    };
    walk.schema(openapi, true, at);
    walk.errors
}

struct DefaultsWalk<'w> {
    wrong: &'w [FieldError],
    /// What evaluations may cost yet; nothing follows when it is negative.
    budget: i64,
    errors: Vec<FieldError>,
}

impl DefaultsWalk<'_> {
    fn schema(&mut self, openapi: &Value, root: bool, at: &str) {
        if self.budget < 0 || !any(openapi) {
            return;
        }
        self.default(openapi, root, &format!("{at}.default"));
        if let Some(items) = openapi.get("items") {
            self.schema(items, false, &format!("{at}.items"));
        }
        let properties = openapi.get("properties").and_then(Value::as_object);
        for (name, property) in properties.into_iter().flatten() {
            self.schema(property, false, &format!("{at}.properties[{name}]"));
        }
    }

    fn default(&mut self, openapi: &Value, root: bool, under: &str) {
        let Some(default) = openapi.get("default").filter(|d| !d.is_null()) else {
            return;
        };
        // unknown fields keep a default from being accepted, but not from being looked at
        let stops = |error: &&FieldError| error.detail != "must not have unknown fields";
        if self
            .wrong
            .iter()
            .filter(stops)
            .any(|error| is_within(&error.field, under))
        {
            return;
        }
        let resource = root || openapi.get("x-kubernetes-embedded-resource") == Some(&Value::Bool(true));
        if let Some(rules) = Rules::compile(openapi, resource, &Arc::default()) {
            let at = Path::Key(&Path::Root, under);
            let (found, left) = rules.check_default(&Node::compile(openapi), default, &at, self.budget);
            self.errors.extend(found);
            self.budget = left;
        }
    }
}
