//! The estimated costs of a definition's rules.

use api::field::FieldError;
use cel::limits::{ESTIMATE_PER_DEFINITION, ESTIMATE_PER_RULE};
use serde_json::Value;

/// How many of the most expensive rules are named when all together cost too much.
const NAMED: usize = 4;

/// The sum of all rules of a schema, and which cost the most.
#[derive(Debug, Default)]
pub(super) struct Total {
    sum: u64,
    most: Vec<(u64, String)>,
}

impl Total {
    /// Counts a rule; `at` is the path of its expression.
    pub fn add(&mut self, cost: u64, at: String) {
        self.sum = self.sum.saturating_add(cost);
        if cost >= ESTIMATE_PER_DEFINITION / 100 {
            self.most.push((cost, at));
            self.most.sort_by_key(|(cost, _)| std::cmp::Reverse(*cost));
            self.most.truncate(NAMED);
        }
    }

    /// What is wrong with the sum. `at` is the path of the schema.
    pub fn errors(self, at: &str) -> Vec<FieldError> {
        if self.sum <= ESTIMATE_PER_DEFINITION {
            return Vec::new();
        }
        let why = "contributed to estimated rule cost total exceeding cost limit for entire OpenAPIv3 schema";
        let mut errors: Vec<FieldError> = self
            .most
            .into_iter()
            .map(|(_, at)| FieldError::forbidden(at, why))
            .collect();
        let name = "x-kubernetes-validations estimated rule cost total for entire OpenAPIv3 schema";
        errors.push(FieldError::forbidden(
            at,
            exceeded(name, self.sum, ESTIMATE_PER_DEFINITION),
        ));
        errors
    }
}

/// What is said of one expression that may cost too much; `what` names the cost.
pub(super) fn too_expensive(what: &str, cost: u64, at: String) -> Option<FieldError> {
    (cost > ESTIMATE_PER_RULE).then(|| FieldError::forbidden(at, exceeded(what, cost, ESTIMATE_PER_RULE)))
}

fn exceeded(what: &str, cost: u64, limit: u64) -> String {
    let factor = cost as f64 / limit as f64;
    let factor = if factor > 100.0 {
        "more than 100x".to_owned()
    } else if factor < 1.5 {
        format!("{factor:.6}x")
    } else {
        format!("{factor:.1}x")
    };
    format!(
        "{what} exceeds budget by factor of {factor} (try simplifying the rule, or adding maxItems, maxProperties, and maxLength \
         where arrays, maps, and strings are declared)"
    )
}

/// How much more often than the value of a schema a value in it may occur: `None` when nothing bounds it.
pub(super) fn most_elements(openapi: &Value) -> Option<u64> {
    let bound = |key: &str| {
        openapi
            .get(key)
            .and_then(Value::as_i64)
            .map(|n| u64::try_from(n).unwrap_or_default())
    };
    match openapi.get("type").and_then(Value::as_str) {
        Some("object") if openapi.get("additionalProperties").is_some_and(|a| !a.is_null()) => bound("maxProperties"),
        Some("array") => bound("maxItems"),
        _ => Some(1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_factor_is_told_as_upstream_tells_it() {
        for (cost, want) in [
            (ESTIMATE_PER_RULE, None),
            (ESTIMATE_PER_RULE + 1, Some("1.000000x")),
            (ESTIMATE_PER_RULE * 3 / 2, Some("1.5x")),
            (ESTIMATE_PER_RULE * 100, Some("100.0x")),
            (u64::MAX, Some("more than 100x")),
        ] {
            let told = too_expensive("estimated rule cost", cost, "at".into());
            let told = told.map(|e| e.detail);
            let want = want.map(|f| format!("estimated rule cost exceeds budget by factor of {f} (try"));
            assert_eq!(told.is_some(), want.is_some(), "{cost}");
            assert!(
                told.unwrap_or_default().starts_with(&want.unwrap_or_default()),
                "{cost}"
            );
        }
    }

    #[test]
    fn the_four_most_expensive_rules_are_named_when_all_cost_too_much() {
        let mut total = Total::default();
        for n in 1..=6 {
            total.add(n * 10_000_000, format!("r{n}"));
        }
        total.add(1, "small".into());
        let named: Vec<String> = total.errors("schema").into_iter().map(|e| e.field).collect();
        assert_eq!(named, ["r6", "r5", "r4", "r3", "schema"]);
        let mut total = Total::default();
        total.add(ESTIMATE_PER_DEFINITION, "r".into());
        assert_eq!(total.errors("schema"), []);
    }
}
