//! Rules of ServiceCIDRs and of the IPAddresses that are given out of them.

use api::names;

use super::Check;
use crate::strategy::validation::common::{Errors, immutable, problems, require};
use crate::strategy::validation::cursor::Cursor;

pub fn ip_address(check: &Check) -> Errors {
    let mut errors = Errors::new();
    let parent = check.root().at(&["spec", "parentRef"]);
    if !parent.is_some() {
        errors.push(parent.required(""));
    } else {
        let group = parent.get("group");
        if !group.text().is_empty() {
            problems(&mut errors, &group, names::dns1123_subdomain_errors(group.text()));
        }
        for key in ["resource", "name"] {
            let at = parent.get(key);
            if require(&mut errors, &at) {
                problems(&mut errors, &at, names::path_segment_errors(at.text()));
            }
        }
        let namespace = parent.get("namespace");
        problems(&mut errors, &namespace, names::path_segment_errors(namespace.text()));
    }
    if let Some(old) = check.before() {
        immutable(&mut errors, &parent, &old.at(&["spec", "parentRef"]));
    }
    errors
}

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

pub fn service_cidr(check: &Check) -> Errors {
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

    fn found(rule: fn(&Check) -> Errors, new: &Value, old: Option<&Value>) -> Vec<String> {
        let check = Check {
            new,
            old,
            subresource: "",
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
            let errors = found(service_cidr, &cidrs(new.clone()), old);
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
        assert!(found(ip_address, &good, Some(&good)).is_empty());
        let errors = found(ip_address, &address(json!({ "group": "A_", "name": "a/b" })), None);
        assert_eq!(errors.len(), 3, "{errors:?}");
        let errors = found(ip_address, &address(Value::Null), Some(&good));
        assert!(errors[0].contains("Required"), "{errors:?}");
    }
}
