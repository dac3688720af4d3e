//! The parts of an autoscaler that `autoscaling/v1` has no fields for, as texts in annotations (upstream's
//! `pkg/apis/autoscaling/v1/conversion.go`): metrics and conditions in the forms that v1 had for them, and the behavior as Go
//! writes the type that upstream keeps it in. Go writes members in the order in which it declares them.

use api::go;
use api::gvk::GroupVersionKind;
use api::quantity::rewritten;
use api::schema::Schema;
use serde_json::{Value, json};

use crate::tree::take;

const METRICS: &str = "autoscaling.alpha.kubernetes.io/metrics";
const BEHAVIOR: &str = "autoscaling.alpha.kubernetes.io/behavior";
const CURRENT: &str = "autoscaling.alpha.kubernetes.io/current-metrics";
const CONDITIONS: &str = "autoscaling.alpha.kubernetes.io/conditions";
/// Of no use any more; upstream drops them too.
const TOLERANCES: [&str; 2] = [
    "autoscaling.alpha.kubernetes.io/scale-down-tolerance",
    "autoscaling.alpha.kubernetes.io/scale-up-tolerance",
];

/// The sources of metrics: their type, and the member that describes them.
const SOURCES: [&str; 5] = ["object", "pods", "resource", "containerResource", "external"];

/// What is kept in annotations.
#[derive(Debug, Default)]
pub struct Kept {
    pub metrics: Option<Vec<Value>>,
    pub behavior: Option<Value>,
    pub current: Option<Vec<Value>>,
    pub conditions: Option<Value>,
}

impl Kept {
    /// Writes it into the annotations of an object of v1, in place of what they have of it.
    pub fn write(&self, tree: &mut Value) {
        drop_from(tree);
        let list = |items: Vec<String>| format!("[{}]", items.join(","));
        let some = |list: &Option<Vec<Value>>| list.clone().filter(|list| !list.is_empty());
        let texts = [
            (
                METRICS,
                some(&self.metrics).map(|all| list(all.iter().map(spec_written).collect())),
            ),
            (
                CURRENT,
                some(&self.current).map(|all| list(all.iter().map(status_written).collect())),
            ),
            (BEHAVIOR, self.behavior.as_ref().map(behavior_written)),
            (
                CONDITIONS,
                self.conditions
                    .as_ref()
                    .and_then(Value::as_array)
                    .filter(|all| !all.is_empty())
                    .map(|all| list(all.iter().map(condition_written).collect())),
            ),
        ];
        for (key, text) in texts {
            if let Some(text) = text {
                tree["metadata"]["annotations"][key] = json!(go::html_escaped(text));
            }
        }
    }

    /// Takes it out of the annotations of an object of v1. A text that is not of its form counts as none.
    pub fn take(tree: &mut Value) -> Kept {
        let kept = Kept {
            metrics: Kept::metrics_of(tree),
            current: list_of(tree, CURRENT, status_read, ["status", "currentMetrics"]),
            behavior: text_of(tree, BEHAVIOR)
                .map(|text| behavior_read(&text))
                .filter(|behavior| behavior != &json!({}) && fits(["spec", "behavior"], behavior)),
            conditions: text_of(tree, CONDITIONS)
                .filter(|list| list.is_array() && fits(["status", "conditions"], list)),
        };
        drop_from(tree);
        kept
    }

    /// The metrics that the annotations of an object of v1 have.
    pub fn metrics_of(tree: &Value) -> Option<Vec<Value>> {
        list_of(tree, METRICS, spec_read, ["spec", "metrics"])
    }
}

fn text_of(tree: &Value, key: &str) -> Option<Value> {
    let text = tree.get("metadata")?.get("annotations")?.get(key)?.as_str()?;
    serde_json::from_str(text).ok()
}

/// The list in an annotation, its items by `read` in the form of v2, if it is of the type of a field.
fn list_of(tree: &Value, key: &str, read: fn(&Value) -> Value, field: [&str; 2]) -> Option<Vec<Value>> {
    let Value::Array(list) = text_of(tree, key)? else {
        return None;
    };
    let list: Vec<Value> = list.iter().map(read).collect();
    fits(field, &json!(list)).then_some(list)
}

/// Takes all of it out of the annotations.
pub fn drop_from(tree: &mut Value) {
    let Some(annotations) = tree.pointer_mut("/metadata/annotations") else {
        return;
    };
    for key in [METRICS, BEHAVIOR, CURRENT, CONDITIONS].into_iter().chain(TOLERANCES) {
        take(annotations, key);
    }
    if annotations.as_object().is_some_and(serde_json::Map::is_empty) {
        take(&mut tree["metadata"], "annotations");
    }
}

/// Whether a value is of the type of a field of v2.
fn fits([part, field]: [&str; 2], value: &Value) -> bool {
    let schema = Schema::builtin();
    let root = schema.type_for(&GroupVersionKind::new("autoscaling", "v2", "HorizontalPodAutoscaler"));
    root.is_some_and(|root| schema.decode_value(root, json!({ part: { field: value } })).is_ok())
}

/// JSON of an object with these members; those that are `None` are left out.
fn written(members: &[(&str, Option<String>)]) -> String {
    let all = members
        .iter()
        .filter_map(|(key, value)| Some(format!("\"{key}\":{}", value.as_ref()?)));
    format!("{{{}}}", all.collect::<Vec<_>>().join(","))
}

/// A text that is always written.
fn text(of: &Value, key: &str) -> Option<String> {
    Some(json!(of[key].as_str().unwrap_or_default()).to_string())
}

/// A value that is written if it is there.
fn some(of: &Value, key: &str) -> Option<String> {
    of.get(key)
        .filter(|value| !value.is_null() && *value != "")
        .map(Value::to_string)
}

/// A quantity that is written if it is there.
fn amount(of: &Value, key: &str) -> Option<String> {
    let text = match of.get(key)? {
        Value::Null => return None,
        Value::String(text) => rewritten(text.trim()),
        other => rewritten(&other.to_string()),
    };
    text.ok().map(|text| json!(text).to_string())
}

/// A quantity that is always written.
fn amount_or_zero(of: &Value, key: &str) -> Option<String> {
    amount(of, key).or_else(|| Some("\"0\"".to_owned()))
}

fn selector(metric: &Value) -> Option<String> {
    let selector = metric.get("selector").filter(|selector| !selector.is_null())?;
    let expressions = selector["matchExpressions"].as_array().filter(|all| !all.is_empty());
    let expressions = expressions.map(|all| {
        let one = |expression: &Value| {
            let values = expression["values"].as_array().filter(|values| !values.is_empty());
            written(&[
                ("key", text(expression, "key")),
                ("operator", text(expression, "operator")),
                ("values", values.map(|_| expression["values"].to_string())),
            ])
        };
        format!("[{}]", all.iter().map(one).collect::<Vec<_>>().join(","))
    });
    let labels = selector["matchLabels"].as_object().filter(|labels| !labels.is_empty());
    Some(written(&[
        ("matchLabels", labels.map(|_| selector["matchLabels"].to_string())),
        ("matchExpressions", expressions),
    ]))
}

fn reference(of: &Value) -> Option<String> {
    Some(written(&[
        ("kind", text(of, "kind")),
        ("name", text(of, "name")),
        ("apiVersion", some(of, "apiVersion")),
    ]))
}

/// A metric of v2 in the form of v1; `source` writes what describes it.
fn metric_written(metric: &Value, source: fn(&str, &Value) -> String) -> String {
    let described = |kind: &'static str| {
        let described = metric.get(kind).filter(|source| !source.is_null())?;
        Some(source(kind, described))
    };
    let mut members = vec![("type", text(metric, "type"))];
    members.extend(SOURCES.map(|kind| (kind, described(kind))));
    written(&members)
}

fn spec_written(metric: &Value) -> String {
    metric_written(metric, |kind, source| {
        let (metric, target) = (&source["metric"], &source["target"]);
        match kind {
            "object" => written(&[
                ("target", reference(&source["describedObject"])),
                ("metricName", text(metric, "name")),
                ("targetValue", amount_or_zero(target, "value")),
                ("selector", selector(metric)),
                ("averageValue", amount(target, "averageValue")),
            ]),
            "pods" => written(&[
                ("metricName", text(metric, "name")),
                ("targetAverageValue", amount_or_zero(target, "averageValue")),
                ("selector", selector(metric)),
            ]),
            "external" => written(&[
                ("metricName", text(metric, "name")),
                ("metricSelector", selector(metric)),
                ("targetValue", amount(target, "value")),
                ("targetAverageValue", amount(target, "averageValue")),
            ]),
            _ => written(&[
                ("name", text(source, "name")),
                ("targetAverageUtilization", some(target, "averageUtilization")),
                ("targetAverageValue", amount(target, "averageValue")),
                (
                    "container",
                    text(source, "container").filter(|_| kind == "containerResource"),
                ),
            ]),
        }
    })
}

fn status_written(metric: &Value) -> String {
    metric_written(metric, |kind, source| {
        let (metric, current) = (&source["metric"], &source["current"]);
        match kind {
            "object" => written(&[
                ("target", reference(&source["describedObject"])),
                ("metricName", text(metric, "name")),
                ("currentValue", amount_or_zero(current, "value")),
                ("selector", selector(metric)),
                ("averageValue", amount(current, "averageValue")),
            ]),
            "pods" => written(&[
                ("metricName", text(metric, "name")),
                ("currentAverageValue", amount_or_zero(current, "averageValue")),
                ("selector", selector(metric)),
            ]),
            "external" => written(&[
                ("metricName", text(metric, "name")),
                ("metricSelector", selector(metric)),
                ("currentValue", amount_or_zero(current, "value")),
                ("currentAverageValue", amount(current, "averageValue")),
            ]),
            _ => written(&[
                ("name", text(source, "name")),
                ("currentAverageUtilization", some(current, "averageUtilization")),
                ("currentAverageValue", amount_or_zero(current, "averageValue")),
                (
                    "container",
                    text(source, "container").filter(|_| kind == "containerResource"),
                ),
            ]),
        }
    })
}

fn condition_written(condition: &Value) -> String {
    written(&[
        ("type", text(condition, "type")),
        ("status", text(condition, "status")),
        ("lastTransitionTime", Some(condition["lastTransitionTime"].to_string())),
        ("reason", some(condition, "reason")),
        ("message", some(condition, "message")),
        ("observedGeneration", some(condition, "observedGeneration")),
    ])
}

fn behavior_written(behavior: &Value) -> String {
    let rules = |direction: &str| {
        let Some(rules) = behavior.get(direction).filter(|rules| !rules.is_null()) else {
            return Some("null".to_owned());
        };
        let policy = |policy: &Value| {
            written(&[
                ("Type", text(policy, "type")),
                ("Value", Some(policy["value"].as_i64().unwrap_or(0).to_string())),
                (
                    "PeriodSeconds",
                    Some(policy["periodSeconds"].as_i64().unwrap_or(0).to_string()),
                ),
            ])
        };
        let policies = rules["policies"].as_array().map(|all| {
            let all: Vec<String> = all.iter().map(policy).collect();
            format!("[{}]", all.join(","))
        });
        let or_null = |value: Option<String>| value.or_else(|| Some("null".to_owned()));
        Some(written(&[
            (
                "StabilizationWindowSeconds",
                Some(rules["stabilizationWindowSeconds"].to_string()),
            ),
            ("SelectPolicy", Some(rules["selectPolicy"].to_string())),
            ("Policies", or_null(policies)),
            ("Tolerance", or_null(amount(rules, "tolerance"))),
        ]))
    };
    written(&[("ScaleUp", rules("scaleUp")), ("ScaleDown", rules("scaleDown"))])
}

/// The members of a value under other names; those that are absent stay so.
fn renamed(of: &Value, names: &[(&str, &str)]) -> Value {
    let members = names
        .iter()
        .filter_map(|(old, new)| Some(((*new).to_owned(), of.get(*old)?.clone())));
    Value::Object(members.filter(|(_, value)| !value.is_null()).collect())
}

fn metric_read(metric: &Value, source: fn(&str, &Value) -> Value) -> Value {
    let mut read = renamed(metric, &[("type", "type")]);
    for kind in SOURCES {
        if let Some(described) = metric.get(kind).filter(|source| !source.is_null()) {
            read[kind] = source(kind, described);
        }
    }
    read
}

fn spec_read(metric: &Value) -> Value {
    metric_read(metric, |kind, source| {
        let is_zero = |key: &str| amount_or_zero(source, key).is_none_or(|amount| amount == "\"0\"");
        let has = |key: &str| source.get(key).is_some_and(|value| !value.is_null());
        let mut made = match kind {
            "resource" | "containerResource" => renamed(source, &[("name", "name"), ("container", "container")]),
            "external" => {
                json!({ "metric": renamed(source, &[("metricName", "name"), ("metricSelector", "selector")]) })
            }
            _ => json!({ "metric": renamed(source, &[("metricName", "name"), ("selector", "selector")]) }),
        };
        let mut target = match kind {
            "object" => {
                made["describedObject"] = source["target"].clone();
                renamed(source, &[("targetValue", "value"), ("averageValue", "averageValue")])
            }
            _ => renamed(
                source,
                &[
                    ("targetValue", "value"),
                    ("targetAverageValue", "averageValue"),
                    ("targetAverageUtilization", "averageUtilization"),
                ],
            ),
        };
        if kind == "object" && has("averageValue") && is_zero("targetValue") {
            take(&mut target, "value");
        }
        if kind == "object" && !has("averageValue") && !has("targetValue") {
            target["value"] = json!("0");
        }
        if kind == "pods" && !has("targetAverageValue") {
            target["averageValue"] = json!("0");
        }
        let averaged = match kind {
            "object" => has("averageValue"),
            "external" => !has("targetValue"),
            "pods" => true,
            _ => !has("targetAverageUtilization"),
        };
        target["type"] = json!(match kind {
            _ if averaged => "AverageValue",
            "object" | "external" => "Value",
            _ => "Utilization",
        });
        made["target"] = target;
        made
    })
}

fn status_read(metric: &Value) -> Value {
    metric_read(metric, |kind, source| {
        let mut made = match kind {
            "resource" | "containerResource" => renamed(source, &[("name", "name"), ("container", "container")]),
            "external" => {
                json!({ "metric": renamed(source, &[("metricName", "name"), ("metricSelector", "selector")]) })
            }
            _ => json!({ "metric": renamed(source, &[("metricName", "name"), ("selector", "selector")]) }),
        };
        let mut current = renamed(
            source,
            &[
                ("currentValue", "value"),
                ("currentAverageValue", "averageValue"),
                ("currentAverageUtilization", "averageUtilization"),
            ],
        );
        if kind == "object" {
            made["describedObject"] = source["target"].clone();
            current = renamed(source, &[("currentValue", "value"), ("averageValue", "averageValue")]);
        }
        // these are always there
        let always = match kind {
            "object" | "external" => "value",
            _ => "averageValue",
        };
        if current.get(always).is_none() {
            current[always] = json!("0");
        }
        made["current"] = current;
        made
    })
}

fn behavior_read(behavior: &Value) -> Value {
    let mut read = json!({});
    for (old, new) in [("ScaleUp", "scaleUp"), ("ScaleDown", "scaleDown")] {
        let Some(rules) = behavior.get(old).filter(|rules| !rules.is_null()) else {
            continue;
        };
        let mut made = renamed(
            rules,
            &[
                ("StabilizationWindowSeconds", "stabilizationWindowSeconds"),
                ("SelectPolicy", "selectPolicy"),
                ("Tolerance", "tolerance"),
                ("Policies", "policies"),
            ],
        );
        for policy in made
            .get_mut("policies")
            .and_then(Value::as_array_mut)
            .into_iter()
            .flatten()
        {
            *policy = renamed(
                policy,
                &[("Type", "type"), ("Value", "value"), ("PeriodSeconds", "periodSeconds")],
            );
        }
        read[new] = made;
    }
    read
}
