//! Rules of storage classes, of the classes of volumes' attributes, and of the room that there is for a class.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use api::field::FieldError;

use super::Check;
use crate::strategy::validation::common::{
    Errors, dns_subdomain, immutable, label_selector, one_of_or_none, qualified_name, require,
};
use crate::strategy::validation::cursor::Cursor;

const PARAMETERS: usize = 512;
const PARAMETERS_SIZE: usize = 256 << 10;

pub fn storage_class(check: &Check) -> Errors {
    let mut errors = Errors::new();
    let root = check.root();
    if let Some(old) = check.before() {
        for field in ["parameters", "provisioner", "reclaimPolicy", "volumeBindingMode"] {
            immutable(&mut errors, &root.get(field), &old.get(field));
        }
    }
    provisioner(&mut errors, &root.get("provisioner"));
    parameters(&mut errors, &root.get("parameters"));
    one_of_or_none(&mut errors, &root.get("reclaimPolicy"), &["Delete", "Retain"]);
    let mode = root.get("volumeBindingMode");
    if mode.is_some() {
        one_of_or_none(&mut errors, &mode, &["Immediate", "WaitForFirstConsumer"]);
    } else {
        errors.push(mode.required(""));
    }
    topologies(&mut errors, &root.get("allowedTopologies"));
    errors
}

fn provisioner(errors: &mut Errors, at: &Cursor) {
    if require(errors, at) {
        let found = api::names::qualified_name_errors(&at.text().to_lowercase());
        errors.extend(found.into_iter().map(|p| at.wrong(at.text().to_lowercase(), p)));
    }
}

/// Where volumes of a class may be: no term twice. An empty term is told once for each term there is, as upstream does.
fn topologies(errors: &mut Errors, list: &Cursor) {
    let mut before: HashMap<BTreeMap<&str, BTreeSet<&str>>, usize> = HashMap::new();
    before.insert(BTreeMap::new(), list.list().len());
    for term in list.items() {
        let mut keys: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
        let expressions = term.get("matchLabelExpressions");
        for expression in expressions.items() {
            let (key, values) = (expression.get("key"), expression.get("values"));
            if values.list().is_empty() {
                errors.push(values.required(""));
            }
            let mut unique = BTreeSet::new();
            for value in values.items().filter(|v| !unique.insert(v.text())) {
                errors.push(value.duplicate(value.text()));
            }
            qualified_name(errors, &key);
            if keys.insert(key.text(), unique).is_some() {
                errors.push(key.duplicate(key.text()));
            }
        }
        let alike = before.entry(keys).or_default();
        errors.extend((0..*alike).map(|_| expressions.duplicate("")));
        *alike += 1;
    }
}

pub fn volume_attributes_class(check: &Check) -> Errors {
    let mut errors = Errors::new();
    let root = check.root();
    let parameters_at = root.get("parameters");
    if let Some(old) = check.before() {
        for field in ["driverName", "parameters"] {
            let at = root.get(field);
            if at.value != old.get(field).value {
                errors.push(at.forbidden(format!("updates to {field} are forbidden.")));
            }
        }
    }
    provisioner(&mut errors, &root.get("driverName"));
    parameters(&mut errors, &parameters_at);
    if parameters_at.map().is_none_or(serde_json::Map::is_empty) {
        errors.push(parameters_at.required("must contain at least one key/value pair"));
    }
    errors
}

pub fn storage_capacity(check: &Check) -> Errors {
    let mut errors = Errors::new();
    let root = check.root();
    let (topology, class, capacity) = (
        root.get("nodeTopology"),
        root.get("storageClassName"),
        root.get("capacity"),
    );
    label_selector(&mut errors, &topology);
    dns_subdomain(&mut errors, &class);
    if let Some(amount) = capacity.quantity().filter(api::quantity::Quantity::is_negative) {
        errors.push(capacity.wrong(amount.to_string(), "must be greater than or equal to 0"));
    }
    if let Some(old) = check.before() {
        immutable(&mut errors, &topology, &old.get("nodeTopology"));
        immutable(&mut errors, &class, &old.get("storageClassName"));
    }
    errors
}

fn parameters(errors: &mut Errors, at: &Cursor) {
    let all: Vec<(&str, Cursor)> = at.entries().collect();
    if all.len() > PARAMETERS {
        errors.push(FieldError::too_long(&at.path, PARAMETERS));
        return;
    }
    if all.iter().any(|(key, _)| key.is_empty()) {
        errors.push(at.wrong("", "field can not be empty."));
    }
    if all
        .iter()
        .map(|(key, value)| key.len() + value.text().len())
        .sum::<usize>()
        > PARAMETERS_SIZE
    {
        errors.push(FieldError::too_long(&at.path, PARAMETERS_SIZE));
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn found(terms: serde_json::Value) -> Errors {
        let class = json!({ "provisioner": "p", "volumeBindingMode": "Immediate", "allowedTopologies": terms });
        let check = Check {
            new: &class,
            old: None,
            subresource: "",
        };
        storage_class(&check)
    }

    #[test]
    fn terms_that_stand_twice_are_told_and_not_each_pair_of_many() {
        assert_eq!(found(json!([{}])).len(), 1);
        assert_eq!(found(json!([{}, {}])).len(), 5);
        assert_eq!(found(json!(vec![json!({}); 50_000])).len(), Errors::MOST);
    }
}
