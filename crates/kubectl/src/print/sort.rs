//! `--sort-by`: objects and rows of tables in the order of one of their fields.

use std::cmp::Ordering;

use api::quantity::Quantity;
use serde_json::Value;

use crate::error::{Result, fail};
use crate::jsonpath::{JsonPath, relaxed};
use crate::print::go::quote;

/// Sorts by the field `path` of `object(item)`; items without it come first.
pub fn sort_by<T>(items: &mut [T], path: &str, object: impl Fn(&T) -> &Value) -> Result<()> {
    let field = relaxed(path)?;
    let parsed = JsonPath::parse(&field)?.allow_missing(true);
    let mut keys: Vec<Option<Value>> = Vec::new();
    for item in items.iter() {
        let found = parsed.find(object(item))?;
        keys.push(
            found
                .into_iter()
                .next()
                .and_then(|g| g.into_iter().next())
                .map(std::borrow::Cow::into_owned),
        );
    }
    if !items.is_empty() && keys.iter().all(Option::is_none) {
        return fail(format!(
            "couldn't find any field with path {} in the list of objects",
            quote(&field)
        ));
    }
    let mut order: Vec<usize> = (0..items.len()).collect();
    order.sort_by(|&a, &b| compare(keys[a].as_ref(), keys[b].as_ref()));
    permute(items, order);
    Ok(())
}

/// Puts item `order[i]` at place `i`.
fn permute<T>(items: &mut [T], mut order: Vec<usize>) {
    for i in 0..items.len() {
        let mut from = order[i];
        // Items before `i` are in place; what stood there went on to where its place was taken from.
        while from < i {
            from = order[from];
        }
        items.swap(i, from);
        order[i] = from;
    }
}

fn compare(a: Option<&Value>, b: Option<&Value>) -> Ordering {
    match (a, b) {
        (None, None) => Ordering::Equal,
        (None, _) => Ordering::Less,
        (_, None) => Ordering::Greater,
        (Some(Value::Number(a)), Some(Value::Number(b))) => {
            a.as_f64().partial_cmp(&b.as_f64()).unwrap_or(Ordering::Equal)
        }
        (Some(Value::String(a)), Some(Value::String(b))) => match (quantity(a), quantity(b)) {
            (Some(a), Some(b)) => a.partial_cmp(&b).unwrap_or(Ordering::Equal),
            _ => a.cmp(b),
        },
        (Some(Value::Bool(a)), Some(Value::Bool(b))) => a.cmp(b),
        _ => Ordering::Equal,
    }
}

fn quantity(text: &str) -> Option<Quantity> {
    text.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn items_are_sorted_by_any_kind_of_field() {
        let mut items = vec![
            json!({"n": "1Gi", "i": 3}),
            json!({"n": "200Mi", "i": 1}),
            json!({"i": 2}),
        ];
        sort_by(&mut items, ".n", |v| v).unwrap();
        let ids: Vec<i64> = items.iter().map(|v| v["i"].as_i64().unwrap()).collect();
        assert_eq!(ids, [2, 1, 3]);
        sort_by(&mut items, "{.i}", |v| v).unwrap();
        assert_eq!(items[0]["i"], 1);
        let error = sort_by(&mut items, ".x", |v| v).unwrap_err();
        assert_eq!(
            error.to_string(),
            "couldn't find any field with path \"{.x}\" in the list of objects"
        );
    }

    #[test]
    fn a_permutation_is_followed_to_its_end() {
        let mut items = vec!['a', 'b', 'c', 'd', 'e'];
        permute(&mut items, vec![3, 0, 4, 2, 1]);
        assert_eq!(items, ['d', 'a', 'e', 'c', 'b']);
    }
}
