//! Access reviews: the question of a SubjectAccessReview and its kin, and the authorizers' answer.

use std::collections::BTreeMap;

use api::field::FieldError;
use api::names;
use api::selectors::{FieldSelector, FieldTerm, LabelSelector};
use serde_json::{Map, Value, json};

use crate::authorization::{Attributes, Authorizer};
use crate::http::status::{ApiError, Result};
use crate::http::user::User;

const GROUP: &str = "authorization.k8s.io";

fn text<'a>(tree: &'a Value, path: &str) -> &'a str {
    tree.pointer(path).and_then(Value::as_str).unwrap_or_default()
}

fn strings(tree: &Value, path: &str) -> Vec<String> {
    let list = tree.pointer(path).and_then(Value::as_array).into_iter().flatten();
    list.filter_map(|v| v.as_str().map(Into::into)).collect()
}

fn invalid(errors: &[FieldError]) -> Result<()> {
    match errors {
        [] => Ok(()),
        errors => Err(ApiError::invalid(GROUP, "", "", errors)),
    }
}

/// Answers a SubjectAccessReview, or a LocalSubjectAccessReview in its namespace. The tree is decoded and normalized.
///
/// # Errors
/// `422` when the question is not one.
pub fn of_subject(authorizer: &Authorizer, kind: &str, tree: &mut Value) -> Result<()> {
    let mut errors = attribute_errors(tree);
    if text(tree, "/spec/user").is_empty() && strings(tree, "/spec/groups").is_empty() {
        let why = "at least one of user or group must be specified";
        errors.push(FieldError::invalid("spec.user", json!(""), why));
    }
    errors.extend(selector_errors(tree));
    if kind == "LocalSubjectAccessReview" {
        errors.extend(metadata_error(tree, true));
        let (home, of) = (text(tree, "/metadata/namespace"), "/spec/resourceAttributes/namespace");
        if tree.pointer("/spec/resourceAttributes").is_some() && text(tree, of) != home {
            let at = "spec.resourceAttributes.namespace";
            errors.push(FieldError::invalid(
                at,
                json!(text(tree, of)),
                "must match metadata.namespace",
            ));
        }
        if let Some(other) = tree.pointer("/spec/nonResourceAttributes") {
            let error = FieldError::invalid(
                "spec.nonResourceAttributes",
                Value::Null,
                "disallowed on this kind of request",
            );
            errors.push(error.shown(&non_resource(other)));
        }
    } else {
        errors.extend(metadata_error(tree, false));
    }
    invalid(&errors)?;
    let extra = tree.pointer("/spec/extra").cloned();
    let extra: Option<BTreeMap<String, Vec<String>>> = extra
        .map(serde_json::from_value)
        .transpose()
        .map_err(|e| ApiError::bad_request(format!("spec.extra: {e}")))?;
    let user = User {
        name: text(tree, "/spec/user").to_owned(),
        uid: text(tree, "/spec/uid").to_owned(),
        groups: strings(tree, "/spec/groups"),
        extra: extra.unwrap_or_default(),
    };
    tree["status"] = answer(authorizer, &user, tree);
    Ok(())
}

/// Answers a SelfSubjectAccessReview.
///
/// # Errors
/// `422` when the question is not one.
pub fn of_self(authorizer: &Authorizer, user: &User, tree: &mut Value) -> Result<()> {
    let mut errors = attribute_errors(tree);
    errors.extend(selector_errors(tree));
    errors.extend(metadata_error(tree, false));
    invalid(&errors)?;
    tree["status"] = answer(authorizer, user, tree);
    Ok(())
}

fn non_resource(attributes: &Value) -> String {
    format!(
        "{{\"Path\":{},\"Verb\":{}}}",
        json!(text(attributes, "/path")),
        json!(text(attributes, "/verb"))
    )
}

/// What is wrong with the question: it is about a resource or about a path.
fn attribute_errors(tree: &Value) -> Vec<FieldError> {
    let part = |key: &str| tree.pointer(&format!("/spec/{key}"));
    let path = part("nonResourceAttributes");
    if part("resourceAttributes").is_some() != path.is_some() {
        return Vec::new();
    }
    let why = "exactly one of nonResourceAttributes or resourceAttributes must be specified";
    let error = FieldError::invalid("spec", Value::Null, why);
    vec![match path {
        Some(path) => error.shown(&non_resource(path)),
        None => error,
    }]
}

/// A review is nothing that is kept: it has no name or labels.
fn metadata_error(tree: &Value, namespaced: bool) -> Option<FieldError> {
    let metadata = tree.get("metadata").and_then(Value::as_object)?;
    let mut others = metadata
        .keys()
        .filter(|key| *key != "managedFields" && !(namespaced && *key == "namespace"));
    others.next()?;
    let why = if namespaced {
        "must be empty except for namespace"
    } else {
        "must be empty"
    };
    Some(FieldError::invalid("metadata", Value::Null, why).shown(&as_go(metadata)))
}

/// Metadata with its fields in the order of upstream's type.
fn as_go(metadata: &Map<String, Value>) -> String {
    const METADATA: [&str; 15] = [
        "name",
        "generateName",
        "namespace",
        "selfLink",
        "uid",
        "resourceVersion",
        "generation",
        "creationTimestamp",
        "deletionTimestamp",
        "deletionGracePeriodSeconds",
        "labels",
        "annotations",
        "ownerReferences",
        "finalizers",
        "managedFields",
    ];
    const ENTRY: [&str; 7] = [
        "manager",
        "operation",
        "apiVersion",
        "time",
        "fieldsType",
        "fieldsV1",
        "subresource",
    ];
    let object = |map: &Map<String, Value>, order: &[&str], show: &dyn Fn(&Value) -> String| {
        let fields = order
            .iter()
            .filter_map(|key| Some(format!("{}:{}", json!(key), show(map.get(*key)?))));
        format!("{{{}}}", fields.collect::<Vec<_>>().join(","))
    };
    let entry = |value: &Value| match value.as_object() {
        Some(map) => object(map, &ENTRY, &Value::to_string),
        None => value.to_string(),
    };
    let field = |value: &Value| match value.as_array() {
        Some(list) => format!("[{}]", list.iter().map(entry).collect::<Vec<_>>().join(",")),
        None => value.to_string(),
    };
    object(metadata, &METADATA, &field)
}

fn selector_errors(tree: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    for (selector, labels) in [("fieldSelector", false), ("labelSelector", true)] {
        let at = format!("spec.resourceAttributes.{selector}");
        let Some(selector) = tree.pointer(&format!("/spec/resourceAttributes/{selector}")) else {
            continue;
        };
        let raw = text(selector, "/rawSelector");
        let requirements = selector.get("requirements").and_then(Value::as_array);
        let requirements = requirements.map(Vec::as_slice).unwrap_or_default();
        if !raw.is_empty() && !requirements.is_empty() {
            let why = "may not specified at the same time as requirements";
            errors.push(FieldError::invalid(format!("{at}.rawSelector"), json!(raw), why));
        }
        if raw.is_empty() && requirements.is_empty() {
            let why = format!("when {at} is specified, requirements or rawSelector is required");
            errors.push(FieldError::required(format!("{at}.requirements"), &why));
        }
        for (i, requirement) in requirements.iter().enumerate() {
            requirement_errors(&format!("{at}.requirements[{i}]"), requirement, labels, &mut errors);
        }
    }
    errors
}

fn requirement_errors(at: &str, requirement: &Value, labels: bool, errors: &mut Vec<FieldError>) {
    let (key, values) = (text(requirement, "/key"), strings(requirement, "/values"));
    let mut of_key = Vec::new();
    if labels {
        let invalid = |why| FieldError::invalid(format!("{at}.key"), json!(key), why);
        of_key.extend(names::qualified_name_errors(key).into_iter().map(invalid));
        for (i, value) in values.iter().enumerate() {
            let invalid = |why| FieldError::invalid(format!("{at}.values[{i}]"), json!(value), why);
            of_key.extend(names::label_value_errors(value).into_iter().map(invalid));
        }
    } else if key.is_empty() {
        errors.push(FieldError::required(format!("{at}.key"), "must be specified"));
    }
    let at = format!("{at}.values");
    match text(requirement, "/operator") {
        "In" | "NotIn" if values.is_empty() => {
            let why = "must be specified when `operator` is 'In' or 'NotIn'";
            errors.push(FieldError::required(at, why));
        }
        "Exists" | "DoesNotExist" if !values.is_empty() => {
            let why = "may not be specified when `operator` is 'Exists' or 'DoesNotExist'";
            errors.push(FieldError::forbidden(at, why));
        }
        // newer clients may know operators that are not known here
        _ => {}
    }
    errors.extend(of_key);
}

/// What a question is narrowed to, and what of its selectors was left out because it is not understood.
fn selectors(resource: &Value) -> (Vec<FieldTerm>, Vec<String>) {
    let mut ignored = Vec::new();
    let mut note = |what: &str, some: bool| {
        let partially = if some { "partially " } else { "" };
        ignored.push(format!(
            "spec.resourceAttributes.{what} {partially}ignored due to parse error"
        ));
    };
    let list = |path: &str| resource.pointer(path).and_then(Value::as_array).into_iter().flatten();
    let raw = text(resource, "/fieldSelector/rawSelector");
    let mut terms = match FieldSelector::parse(raw) {
        Ok(selector) => selector.terms().to_vec(),
        Err(_) => {
            note("fieldSelector", false);
            Vec::new()
        }
    };
    let (mut given, before) = (0, terms.len());
    for requirement in list("/fieldSelector/requirements") {
        given += 1;
        let values = strings(requirement, "/values");
        let equal = match text(requirement, "/operator") {
            "In" => true,
            "NotIn" => false,
            _ => continue,
        };
        if let [value] = values.as_slice() {
            terms.push(FieldTerm {
                field: text(requirement, "/key").to_owned(),
                value: value.clone(),
                equal,
            });
        }
    }
    if terms.len() - before < given {
        note("fieldSelector", terms.len() > before);
    }
    // no authorizer here looks at labels; whether they were understood is said nevertheless
    if LabelSelector::parse(text(resource, "/labelSelector/rawSelector")).is_err() {
        note("labelSelector", false);
    }
    let known = |requirement: &Value| LabelSelector::from_tree(&json!({ "matchExpressions": [requirement] })).is_ok();
    let understood: Vec<bool> = list("/labelSelector/requirements").map(known).collect();
    if understood.contains(&false) {
        note("labelSelector", understood.contains(&true));
    }
    (terms, ignored)
}

/// The status of a review.
fn answer(authorizer: &Authorizer, user: &User, tree: &Value) -> Value {
    let resource = tree.pointer("/spec/resourceAttributes");
    let other = tree.pointer("/spec/nonResourceAttributes").unwrap_or(&Value::Null);
    let (attributes, ignored) = match resource {
        Some(asked) => {
            let (fields, ignored) = selectors(asked);
            let attributes = Attributes {
                verb: text(asked, "/verb"),
                is_resource: true,
                group: text(asked, "/group"),
                namespace: text(asked, "/namespace"),
                resource: text(asked, "/resource"),
                subresource: text(asked, "/subresource"),
                name: text(asked, "/name"),
                path: "",
                fields,
            };
            (attributes, ignored)
        }
        None => {
            let attributes = Attributes {
                verb: text(other, "/verb"),
                path: text(other, "/path"),
                ..Attributes::default()
            };
            (attributes, Vec::new())
        }
    };
    let decision = authorizer.decide(user, &attributes);
    let mut status = json!({ "allowed": decision.allowed });
    if !decision.reason.is_empty() {
        status["reason"] = json!(decision.reason);
    }
    if !ignored.is_empty() {
        status["evaluationError"] = json!(ignored.join("; "));
    }
    status
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_selector_that_is_not_understood_narrows_nothing_and_is_said() {
        let asked = |selectors_: Value| selectors(&selectors_);
        let (terms, ignored) = asked(json!({ "fieldSelector": { "rawSelector": "spec.nodeName=a" } }));
        assert_eq!((terms.len(), ignored.len()), (1, 0));
        let (terms, ignored) =
            asked(json!({ "fieldSelector": { "rawSelector": "a" }, "labelSelector": { "rawSelector": "a in" } }));
        assert!(terms.is_empty());
        let want = [
            "spec.resourceAttributes.fieldSelector ignored due to parse error",
            "spec.resourceAttributes.labelSelector ignored due to parse error",
        ];
        assert_eq!(ignored, want);
        let requirement = |operator: &str, values: Value| json!({ "key": "k", "operator": operator, "values": values });
        let some = json!([requirement("In", json!(["a"])), requirement("In", json!(["a", "b"]))]);
        let (terms, ignored) = asked(json!({ "fieldSelector": { "requirements": some } }));
        assert_eq!(terms.len(), 1);
        assert_eq!(
            ignored,
            ["spec.resourceAttributes.fieldSelector partially ignored due to parse error"]
        );
    }
}
