//! ServiceCIDR. KEP-1880.

use api::names;
use serde_json::{Value, json};

use crate::kinds::columns::{AGE, BuiltinColumn, NAME, list_at};
use crate::kinds::rules::{immutable, problems};
use crate::kinds::{Check, Cursor, Errors, Kind, STATUS_ALONE};

/// Upstream asks nothing of its status.
pub(in crate::kinds) const KIND: Kind = Kind {
    parts: &[STATUS_ALONE],
    columns: COLUMNS,
    ..Kind::new("networking.k8s.io", "servicecidrs", |check| match check.is_status() {
        true => Errors::new(),
        false => validate(check),
    })
};

const COLUMNS: &[BuiltinColumn] = &[
    NAME,
    ("CIDRs", "string", 0, |s| {
        let all: Vec<&str> = list_at(s, "/spec/cidrs").filter_map(Value::as_str).collect();
        json!(all.join(","))
    }),
    AGE,
];

fn networks(errors: &mut Errors, list: &Cursor) {
    if list.list().is_empty() {
        errors.push(list.required("at least one CIDR required"));
        return;
    }
    if list.list().len() > 2 {
        errors.push(list.wrong(
            serde_json::json!({ "CIDRs": list.value }),
            "may only hold up to 2 values",
        ));
        return;
    }
    for network in list.items() {
        problems(errors, &network, names::canonical_cidr_errors(network.text()));
    }
    let v6 = |text: &str| text.contains(':');
    let texts: Vec<&str> = list.items().map(|i| i.value.as_str().unwrap_or_default()).collect();
    if let [first, second] = texts.as_slice()
        && v6(first) == v6(second)
        && texts.iter().all(|t| names::cidr_errors(t).is_none())
    {
        let why = "may specify no more than one IP for each IP family, i.e 192.168.0.0/24 and 2001:db8::/64";
        errors.push(list.invalid(why));
    }
}

fn validate(check: &Check) -> Errors {
    let mut errors = Errors::new();
    let list = check.root().at(&["spec", "cidrs"]);
    let Some(old) = check.before() else {
        networks(&mut errors, &list);
        return errors;
    };
    let before = old.at(&["spec", "cidrs"]);
    match (before.list().len(), list.list().len()) {
        (had, has) if had == has => {
            for (new, old) in list.items().zip(before.items()) {
                immutable(&mut errors, &new, &old);
            }
        }
        // a network of the other family may be added
        (1, 2) => {
            if let (Some(new), Some(old)) = (list.items().next(), before.items().next()) {
                immutable(&mut errors, &new, &old);
            }
            networks(&mut errors, &list);
        }
        _ => errors.push(list.invalid("field is immutable")),
    }
    errors
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::kinds::networking::ip_address;

    fn found(rule: fn(&Check) -> Errors, new: &Value, old: Option<&Value>) -> Vec<String> {
        let check = Check {
            new,
            old,
            subresource: "",
            custom: None,
            now: 0,
        };
        rule(&check).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_service_cidr_has_one_network_of_each_family_and_only_the_second_may_come_later() {
        let cidrs = |list: Value| json!({ "spec": { "cidrs": list } });
        let one = cidrs(json!(["10.0.0.0/24"]));
        for (new, old, expected) in [
            (
                json!([]),
                None,
                "spec.cidrs: Required value: at least one CIDR required",
            ),
            (json!(["10.0.0.0/24", "fd00::/64"]), None, ""),
            (json!(["10.0.0.0/24"]), None, ""),
            (json!(["FD00::/64"]), None, "must be in canonical form (\"fd00::/64\")"),
            (
                json!(["10.0.0.1/24"]),
                None,
                "must not have bits set beyond the prefix length",
            ),
            (
                json!(["10.0.0.0/24", "10.1.0.0/24"]),
                None,
                "no more than one IP for each IP family",
            ),
            (json!(["10.0.0.0/24", "fd00::/64"]), Some(&one), ""),
            (
                json!(["10.1.0.0/24"]),
                Some(&one),
                "spec.cidrs[0]: Invalid value: \"10.1.0.0/24\": field is immutable",
            ),
            (json!([]), Some(&one), "field is immutable"),
        ] {
            let errors = found(validate, &cidrs(new.clone()), old);
            match expected {
                "" => assert!(errors.is_empty(), "{new}: {errors:?}"),
                _ => assert!(errors.iter().any(|e| e.contains(expected)), "{new}: {errors:?}"),
            }
        }
    }

    #[test]
    fn an_ip_address_names_what_it_belongs_to() {
        let address = |parent: Value| json!({ "spec": { "parentRef": parent } });
        let good = address(json!({ "resource": "services", "namespace": "a", "name": "b" }));
        assert!(found(ip_address::validate, &good, Some(&good)).is_empty());
        let errors = found(
            ip_address::validate,
            &address(json!({ "group": "A_", "name": "a/b" })),
            None,
        );
        assert_eq!(errors.len(), 3, "{errors:?}");
        let errors = found(ip_address::validate, &address(Value::Null), Some(&good));
        assert!(errors[0].contains("Required"), "{errors:?}");
    }
}
