//! Tolerations that are merged and held against lists (`pkg/util/tolerations`).

use serde_json::Value;

/// Whether `all` tolerates whatever `one` tolerates.
fn covers(all: &Value, one: &Value) -> bool {
    let text = |toleration: &'_ Value, key: &str| toleration[key].as_str().unwrap_or_default().to_owned();
    let seconds = |toleration: &Value| toleration["tolerationSeconds"].as_i64();
    if same(all, one) {
        return true;
    }
    let operator = text(all, "operator");
    if text(one, "key") != text(all, "key") && (!text(all, "key").is_empty() || operator != "Exists") {
        return false;
    }
    let effect = text(all, "effect");
    if text(one, "effect") != effect && !effect.is_empty() {
        return false;
    }
    if effect == "NoExecute"
        && let Some(longest) = seconds(all)
        && seconds(one).is_none_or(|own| own > longest)
    {
        return false;
    }
    match operator.as_str() {
        "" | "Equal" => text(one, "operator") == "Equal" && text(one, "value") == text(all, "value"),
        "Exists" => true,
        other => {
            tracing::error!(operator = other, "unknown toleration operator");
            false
        }
    }
}

/// Whether two tolerations have the same fields; an empty one is none.
fn same(one: &Value, other: &Value) -> bool {
    ["key", "operator", "value", "effect"]
        .iter()
        .all(|key| one[*key].as_str().unwrap_or_default() == other[*key].as_str().unwrap_or_default())
        && one["tolerationSeconds"].as_i64() == other["tolerationSeconds"].as_i64()
}

/// Both lists as one, without what others of it cover.
pub fn merge(first: &[Value], second: &[Value]) -> Vec<Value> {
    let all: Vec<&Value> = first.iter().chain(second).collect();
    let mut merged: Vec<Value> = Vec::new();
    for (i, one) in all.iter().enumerate() {
        let before = merged.iter().any(|kept| covers(kept, one));
        // of equal ones the first is kept
        let later = all[i + 1..].iter().any(|later| !same(later, one) && covers(later, one));
        if !before && !later {
            merged.push((*one).clone());
        }
    }
    merged
}

/// Whether each of these is covered by one of the list; an empty list allows all.
pub fn are_allowed(tolerations: &[Value], list: &[Value]) -> bool {
    list.is_empty()
        || tolerations
            .iter()
            .all(|one| list.iter().any(|allowed| covers(allowed, one)))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_others_cover_is_merged_into_them() {
        let exists = json!({ "operator": "Exists" });
        let equal = |value: &str| json!({ "key": "k", "operator": "Equal", "value": value, "effect": "NoSchedule" });
        let brief = |seconds: i64| json!({ "key": "k", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": seconds });
        assert_eq!(
            merge(&[equal("a")], &[equal("a"), equal("b")]),
            [equal("a"), equal("b")]
        );
        assert_eq!(merge(&[equal("a")], std::slice::from_ref(&exists)), [exists]);
        assert_eq!(merge(&[brief(5)], &[brief(9)]), [brief(9)]);
        assert_eq!(merge(&[brief(9)], &[brief(5)]), [brief(9)]);
        let any_effect = json!({ "key": "k", "operator": "Exists" });
        assert!(are_allowed(&[equal("a")], std::slice::from_ref(&any_effect)) && are_allowed(&[equal("a")], &[]));
        assert!(!are_allowed(&[any_effect], &[equal("a")]));
    }
}
