//! `create namespace`, `serviceaccount`, `quota`, `poddisruptionbudget` and `priorityclass`.

use serde_json::{Map, Value, json};

use super::{Common, Draft, name_of};
use crate::error::{Result, fail, message};
use crate::session::Session;

/// Create a namespace with the specified name
#[derive(Debug, clap::Args)]
pub struct Namespace {
    names: Vec<String>,
    #[command(flatten)]
    pub common: Common,
}

/// Create a service account with the specified name
#[derive(Debug, clap::Args)]
pub struct ServiceAccount {
    names: Vec<String>,
    #[command(flatten)]
    pub common: Common,
}

/// Create a quota with the specified name
#[derive(Debug, clap::Args)]
pub struct Quota {
    names: Vec<String>,
    /// A comma-delimited set of resource=quantity pairs that define a hard limit
    #[arg(long, default_value = "", hide_default_value = true)]
    hard: String,
    /// A comma-delimited set of quota scopes that must all match each object tracked by the quota
    #[arg(long, default_value = "", hide_default_value = true)]
    scopes: String,
    #[command(flatten)]
    pub common: Common,
}

/// Create a pod disruption budget with the specified name
#[derive(Debug, clap::Args)]
pub struct PodDisruptionBudget {
    names: Vec<String>,
    /// A label selector to use for this budget
    #[arg(long, default_value = "", hide_default_value = true)]
    selector: String,
    /// The minimum number or percentage of available pods this budget requires
    #[arg(long, default_value = "", hide_default_value = true)]
    min_available: String,
    /// The maximum number or percentage of unavailable pods this budget requires
    #[arg(long, default_value = "", hide_default_value = true)]
    max_unavailable: String,
    #[command(flatten)]
    pub common: Common,
}

/// Create a priority class with the specified name
#[derive(Debug, clap::Args)]
pub struct PriorityClass {
    names: Vec<String>,
    /// The value of this priority class
    #[arg(long, default_value_t = 0, allow_negative_numbers = true, hide_default_value = true)]
    value: i32,
    /// Whether this PriorityClass should be considered as the default priority
    #[arg(long)]
    global_default: bool,
    /// An arbitrary string that usually provides guidelines on when this priority class should be used
    #[arg(long, default_value = "", hide_default_value = true)]
    description: String,
    /// The policy for preempting pods with lower priority
    #[arg(long, default_value = "PreemptLowerPriority", hide_default_value = true)]
    preemption_policy: String,
    #[command(flatten)]
    pub common: Common,
}

impl Namespace {
    pub(crate) fn draft(&self, session: &Session) -> Result<Draft> {
        let name = name_of(session, &self.names)?;
        Ok(Draft {
            object: json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}, "spec": {}, "status": {}}),
            plural: "namespaces",
            namespaced: false,
            called: String::new(),
        })
    }
}

impl ServiceAccount {
    pub(crate) fn draft(&self, session: &Session) -> Result<Draft> {
        let name = name_of(session, &self.names)?;
        Ok(Draft {
            object: json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": name}}),
            plural: "serviceaccounts",
            namespaced: true,
            called: "serviceaccount".to_owned(),
        })
    }
}

impl Quota {
    pub(crate) fn draft(&self, session: &Session) -> Result<Draft> {
        let name = name_of(session, &self.names)?;
        let mut spec = json!({});
        if !self.hard.is_empty() {
            let mut hard = Map::new();
            for pair in self.hard.split(',') {
                match pair.split('=').collect::<Vec<_>>()[..] {
                    [resource, quantity] => {
                        let parsed: api::quantity::Quantity = quantity.parse().map_err(|_| {
                            message("quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'")
                        })?;
                        hard.insert(resource.to_owned(), json!(parsed.to_string()));
                    }
                    _ => return fail(format!("Invalid argument syntax {pair}, expected <resource>=<value>")),
                }
            }
            spec["hard"] = Value::Object(hard);
        }
        if !self.scopes.is_empty() {
            let scopes: Vec<&str> = self.scopes.split(',').collect();
            if scopes.contains(&"") {
                return fail("invalid resource quota scope \"\"");
            }
            spec["scopes"] = json!(scopes);
        }
        Ok(Draft {
            object: json!({"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": name}, "spec": spec, "status": {}}),
            plural: "resourcequotas",
            namespaced: true,
            called: "quota".to_owned(),
        })
    }
}

/// A number, or a percentage.
fn int_or_percent(text: &str) -> Option<Value> {
    let digits = |t: &str| !t.is_empty() && t.bytes().all(|b| b.is_ascii_digit());
    match text.strip_suffix('%') {
        Some(percent) if digits(percent) => Some(json!(text)),
        None if digits(text) => text.parse::<i32>().ok().map(|n| json!(n)),
        _ => None,
    }
}

impl PodDisruptionBudget {
    pub(crate) fn draft(&self, session: &Session) -> Result<Draft> {
        let name = name_of(session, &self.names)?;
        if self.selector.is_empty() {
            return fail("a selector must be specified");
        }
        let mut spec = json!({"selector": selector_tree(&self.selector)?});
        match (self.min_available.as_str(), self.max_unavailable.as_str()) {
            ("", "") => return fail("one of min-available or max-unavailable must be specified"),
            (min, "") => match int_or_percent(min) {
                Some(value) => spec["minAvailable"] = value,
                None => return fail("invalid format specified for min-available"),
            },
            ("", max) => match int_or_percent(max) {
                Some(value) => spec["maxUnavailable"] = value,
                None => return fail("invalid format specified for max-unavailable"),
            },
            _ => return fail("min-available and max-unavailable cannot be both specified"),
        }
        let status = json!({"currentHealthy": 0, "desiredHealthy": 0, "disruptionsAllowed": 0, "expectedPods": 0});
        Ok(Draft {
            object: json!({
                "apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "metadata": {"name": name},
                "spec": spec, "status": status,
            }),
            plural: "poddisruptionbudgets",
            namespaced: true,
            called: "poddisruptionbudgets".to_owned(),
        })
    }
}

/// `a=1,b=2` as `matchLabels`.
fn selector_tree(text: &str) -> Result<Value> {
    let mut labels = Map::new();
    for part in text.split(',') {
        match part.split_once('=') {
            Some((key, value)) if !key.ends_with('!') => {
                labels.insert(key.to_owned(), json!(value.trim_start_matches('=')));
            }
            _ => {
                return fail(format!(
                    "couldn't parse the selector string {text:?}: only equality is supported"
                ));
            }
        }
    }
    Ok(json!({"matchLabels": labels}))
}

impl PriorityClass {
    pub(crate) fn draft(&self, session: &Session) -> Result<Draft> {
        let name = name_of(session, &self.names)?;
        let mut object = json!({
            "apiVersion": "scheduling.k8s.io/v1",
            "kind": "PriorityClass",
            "metadata": {"name": name},
            "value": self.value,
            "preemptionPolicy": self.preemption_policy,
        });
        if self.global_default {
            object["globalDefault"] = json!(true);
        }
        if !self.description.is_empty() {
            object["description"] = json!(self.description);
        }
        Ok(Draft {
            object,
            plural: "priorityclasses",
            namespaced: false,
            called: "priorityclass".to_owned(),
        })
    }
}
