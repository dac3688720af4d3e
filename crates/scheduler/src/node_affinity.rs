//! Selectors over the labels and the name of a node, as numbers.

use serde::Deserialize;

use crate::label::LabelText;
use crate::node::NodeInfo;

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Operator {
    In(Vec<LabelText>),
    NotIn(Vec<LabelText>),
    Exists,
    DoesNotExist,
    /// The value as an integer is greater, or less.
    Gt(Option<i64>),
    Lt(Option<i64>),
}

/// One requirement on a label.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Requirement {
    key: LabelText,
    operator: Operator,
}

/// One requirement on `metadata.name`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct NameRequirement {
    inside: bool,
    names: Vec<String>,
}

/// Requirements that must all hold.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Term {
    labels: Vec<Requirement>,
    names: Vec<NameRequirement>,
}

/// A pod's `nodeSelector` and required node affinity.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct NodeSelector {
    pub labels: Vec<Requirement>,
    /// One of them must match; none can when there are none.
    pub terms: Option<Vec<Term>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct RawNodeSelectorTerm {
    #[serde(default)]
    match_expressions: Option<Vec<RawRequirement>>,
    #[serde(default)]
    match_fields: Option<Vec<RawRequirement>>,
}

#[derive(Deserialize)]
struct RawRequirement {
    key: String,
    operator: String,
    #[serde(default)]
    values: Option<Vec<String>>,
}

impl Requirement {
    /// A label that has this value.
    pub fn equals(key: &str, value: &str) -> Requirement {
        Requirement {
            key: LabelText::of(key),
            operator: Operator::In(vec![LabelText::of(value)]),
        }
    }

    fn of(raw: &RawRequirement) -> Requirement {
        let values = raw.values.as_deref().unwrap_or_default();
        let texts = || values.iter().map(|v| LabelText::of(v)).collect();
        let number = || values.first().and_then(|v| v.parse().ok());
        let operator = match raw.operator.as_str() {
            "In" => Operator::In(texts()),
            "NotIn" => Operator::NotIn(texts()),
            "Exists" => Operator::Exists,
            "DoesNotExist" => Operator::DoesNotExist,
            "Gt" => Operator::Gt(number()),
            "Lt" => Operator::Lt(number()),
            // validation lets no other in; none of a set matches nothing
            _ => Operator::In(Vec::new()),
        };
        Requirement {
            key: LabelText::of(&raw.key),
            operator,
        }
    }

    fn matches(&self, node: &NodeInfo) -> bool {
        let value = node.label(self.key);
        match &self.operator {
            Operator::In(values) => value.is_some_and(|v| values.contains(&v)),
            Operator::NotIn(values) => value.is_none_or(|v| !values.contains(&v)),
            Operator::Exists => value.is_some(),
            Operator::DoesNotExist => value.is_none(),
            Operator::Gt(than) => matches!((node.number(self.key), than), (Some(n), Some(than)) if n > *than),
            Operator::Lt(than) => matches!((node.number(self.key), than), (Some(n), Some(than)) if n < *than),
        }
    }
}

impl Term {
    pub(crate) fn of(raw: &RawNodeSelectorTerm) -> Term {
        let fields = raw.match_fields.iter().flatten().map(|f| NameRequirement {
            inside: f.operator == "In",
            names: f.values.clone().unwrap_or_default(),
        });
        Term {
            labels: raw.match_expressions.iter().flatten().map(Requirement::of).collect(),
            names: fields.collect(),
        }
    }

    /// A term without requirements matches nothing.
    pub fn matches(&self, node: &NodeInfo) -> bool {
        !(self.labels.is_empty() && self.names.is_empty())
            && self.labels.iter().all(|r| r.matches(node))
            && self
                .names
                .iter()
                .all(|r| r.names.iter().any(|n| **n == *node.name) == r.inside)
    }
}

impl NodeSelector {
    /// Whether a node has all labels, and one of the terms where there are some.
    pub fn matches(&self, node: &NodeInfo) -> bool {
        self.labels.iter().all(|r| r.matches(node))
            && self.terms.as_ref().is_none_or(|t| t.iter().any(|t| t.matches(node)))
    }
}
