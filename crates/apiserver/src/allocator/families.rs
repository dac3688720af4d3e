//! Of which families a Service's addresses are. KEP-563.

use api::field::{FieldError, FieldErrors};
use serde_json::{Value, json};

use super::network::Family;
use crate::kinds::core::service::validation as service;
use crate::kinds::cursor::Cursor;
use crate::tree::text;

/// Sets the policy and the families of a Service that has addresses; what of them cannot be. `configured` are the families that
/// the cluster has networks of, its own first.
pub fn settle(service: &mut Value, old: Option<&Value>, configured: &[Family]) -> FieldErrors {
    if old.is_some_and(|old| stays(service, old)) {
        return FieldErrors::new();
    }
    // an empty policy is one, which the rules refuse
    if service.pointer("/spec/ipFamilyPolicy").is_none_or(Value::is_null) {
        let before = old.map(policy).unwrap_or_default();
        service["spec"]["ipFamilyPolicy"] = json!(match before {
            "" if serves_itself(service) => "RequireDualStack",
            "" => "SingleStack",
            before => before,
        });
    }
    let mut errors = FieldErrors::new();
    let before = old.map(|old| Cursor::of(old.get("spec"), "spec"));
    service::addresses(&mut errors, &Cursor::of(service.get("spec"), "spec"), before.as_ref());
    if !errors.is_empty() {
        return errors;
    }
    if let Some(old) = old {
        reduced(&mut errors, service, old);
    }
    if policy(service) == "SingleStack" {
        for (field, what) in [("clusterIPs", "cluster IPs"), ("ipFamilies", "IP families")] {
            if list(service, field).len() == 2 {
                let why = format!("must be 'RequireDualStack' or 'PreferDualStack' when multiple {what} are specified");
                errors.push(of_policy(service, &why));
            }
        }
    }
    from_addresses(&mut errors, service, configured);
    if !errors.is_empty() {
        return errors;
    }
    if serves_itself(service) {
        let mut families = list(service, "ipFamilies").to_vec();
        if families.is_empty() {
            families.extend(configured.first().map(|f| json!(f.as_str())));
        }
        if policy(service) != "SingleStack" {
            add_other(&mut families);
        }
        service["spec"]["ipFamilies"] = Value::Array(families);
        return errors;
    }
    if policy(service) == "RequireDualStack" && configured.len() < 2 {
        errors.push(of_policy(
            service,
            "this cluster is not configured for dual-stack services",
        ));
    }
    for (i, family) in list(service, "ipFamilies").iter().enumerate() {
        let known = family.as_str().and_then(Family::named);
        if !known.is_some_and(|f| configured.contains(&f)) {
            let path = format!("spec.ipFamilies[{i}]");
            errors.push(FieldError::invalid(
                path,
                family.clone(),
                "not configured on this cluster",
            ));
        }
    }
    if errors.is_empty() {
        let mut families = list(service, "ipFamilies").to_vec();
        if families.is_empty() {
            families.extend(configured.first().map(|f| json!(f.as_str())));
        }
        if policy(service) != "SingleStack" && configured.len() == 2 {
            add_other(&mut families);
        }
        service["spec"]["ipFamilies"] = Value::Array(families);
    }
    errors
}

/// The family that a list of one does not have.
fn add_other(families: &mut Vec<Value>) {
    if let [only] = families.as_slice()
        && let Some(family) = only.as_str().and_then(Family::named)
    {
        families.push(json!(family.other().as_str()));
    }
}

fn list<'a>(service: &'a Value, field: &str) -> &'a [Value] {
    let list = service
        .get("spec")
        .and_then(|spec| spec.get(field))
        .and_then(Value::as_array);
    list.map(Vec::as_slice).unwrap_or_default()
}

fn policy(service: &Value) -> &str {
    text(service, &["spec", "ipFamilyPolicy"]).unwrap_or_default()
}

fn of_policy(service: &Value, why: &str) -> FieldError {
    FieldError::invalid("spec.ipFamilyPolicy", json!(policy(service)), why)
}

fn same(service: &Value, old: &Value, field: &str) -> bool {
    list(service, field) == list(old, field)
}

/// Whether nobody gives the Service addresses and endpoints: it may name families that the cluster does not have.
fn serves_itself(service: &Value) -> bool {
    let selector = service.pointer("/spec/selector").and_then(Value::as_object);
    text(service, &["spec", "clusterIP"]) == Some("None") && selector.is_none_or(|s| s.is_empty())
}

/// A Service that prefers both families keeps what it got when the cluster had others.
fn stays(service: &Value, old: &Value) -> bool {
    const PREFERS: &str = "PreferDualStack";
    let kind = |service| text(service, &["spec", "type"]);
    kind(service) == kind(old)
        && policy(service) == PREFERS
        && matches!(policy(old), "" | PREFERS)
        && same(service, old, "clusterIPs")
        && same(service, old, "ipFamilies")
}

/// The second address goes with the policy that asked for it.
fn reduced(errors: &mut FieldErrors, service: &mut Value, old: &Value) {
    for (field, what) in [("clusterIPs", "cluster IP"), ("ipFamilies", "IP family")] {
        let (now, before) = (list(service, field).len(), list(old, field).len());
        if policy(service) == "SingleStack" {
            if now > 1
                && same(service, old, field)
                && let Some(list) = service["spec"][field].as_array_mut()
            {
                list.truncate(1);
            }
        } else if now > 0 && now < before {
            errors.push(of_policy(
                service,
                &format!("must be 'SingleStack' to release the secondary {what}"),
            ));
        }
    }
}

/// Addresses without families say of which they are.
fn from_addresses(errors: &mut FieldErrors, service: &mut Value, configured: &[Family]) {
    let mut families = list(service, "ipFamilies").to_vec();
    for (i, address) in list(service, "clusterIPs").iter().enumerate() {
        if address == "None" {
            break;
        }
        let family = match address.as_str().is_some_and(|a| a.contains(':')) {
            true => Family::V6,
            false => Family::V4,
        };
        if i < families.len() {
            continue;
        }
        if configured.contains(&family) {
            families.push(json!(family.as_str()));
        } else {
            let shown = Value::Array(list(service, "clusterIPs").to_vec());
            let why = format!("{} is not configured on this cluster", family.as_str());
            errors.push(FieldError::invalid(format!("spec.clusterIPs[{i}]"), shown, why));
        }
    }
    if !families.is_empty() {
        service["spec"]["ipFamilies"] = Value::Array(families);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn on(configured: &[Family], spec: Value, old: Option<Value>) -> (Value, Vec<String>) {
        let mut service = json!({ "spec": spec });
        let errors = settle(
            &mut service,
            old.map(|spec| json!({ "spec": spec })).as_ref(),
            configured,
        );
        (service["spec"].take(), errors.iter().map(ToString::to_string).collect())
    }

    fn settled(spec: Value, old: Option<Value>) -> (Value, Vec<String>) {
        on(&[Family::V4], spec, old)
    }

    #[test]
    fn a_cluster_of_both_families_gives_both_to_who_asks() {
        let both = [Family::V6, Family::V4];
        for (spec, families) in [
            (json!({}), json!(["IPv6"])),
            (json!({ "ipFamilyPolicy": "PreferDualStack" }), json!(["IPv6", "IPv4"])),
            (json!({ "ipFamilyPolicy": "RequireDualStack" }), json!(["IPv6", "IPv4"])),
            (json!({ "ipFamilies": ["IPv4"] }), json!(["IPv4"])),
            (
                json!({ "ipFamilies": ["IPv4"], "ipFamilyPolicy": "PreferDualStack" }),
                json!(["IPv4", "IPv6"]),
            ),
            (
                json!({ "clusterIP": "10.0.0.9", "clusterIPs": ["10.0.0.9"], "ipFamilyPolicy": "RequireDualStack" }),
                json!(["IPv4", "IPv6"]),
            ),
            (
                json!({ "clusterIP": "None", "clusterIPs": ["None"] }),
                json!(["IPv6", "IPv4"]),
            ),
        ] {
            let (spec, errors) = on(&both, spec, None);
            assert_eq!((&spec["ipFamilies"], errors.len()), (&families, 0), "{spec} {errors:?}");
        }
        let two = json!({ "ipFamilies": ["IPv4", "IPv6"], "clusterIP": "10.0.0.9", "clusterIPs": ["10.0.0.9", "fd00::9"],
            "ipFamilyPolicy": "PreferDualStack" });
        let mut single = two.clone();
        single["ipFamilyPolicy"] = json!("SingleStack");
        let (spec, errors) = on(&both, single, Some(two.clone()));
        assert_eq!(
            (&spec["ipFamilies"], &spec["clusterIPs"], errors.len()),
            (&json!(["IPv4"]), &json!(["10.0.0.9"]), 0)
        );
        let mut fewer = two.clone();
        fewer["ipFamilies"] = json!(["IPv4"]);
        let (_, errors) = on(&both, fewer, Some(two));
        assert_eq!(
            errors,
            [
                "spec.ipFamilyPolicy: Invalid value: \"PreferDualStack\": must be 'SingleStack' to release the secondary IP family"
            ]
        );
    }

    #[test]
    fn a_service_gets_the_family_that_the_cluster_has_and_no_other() {
        let (spec, errors) = settled(json!({ "ipFamilyPolicy": "PreferDualStack" }), None);
        assert_eq!((&spec["ipFamilies"], errors.len()), (&json!(["IPv4"]), 0));
        let refused = |spec: Value| settled(spec, None).1.join("; ");
        assert!(refused(json!({ "ipFamilyPolicy": "" })).starts_with("spec.ipFamilyPolicy: Unsupported value: \"\""));
        assert_eq!(
            refused(json!({ "ipFamilies": ["IPv6"] })),
            "spec.ipFamilies[0]: Invalid value: \"IPv6\": not configured on this cluster"
        );
        assert_eq!(
            refused(json!({ "ipFamilyPolicy": "RequireDualStack" })),
            "spec.ipFamilyPolicy: Invalid value: \"RequireDualStack\": this cluster is not configured for dual-stack services"
        );
        assert_eq!(
            refused(json!({ "clusterIP": "2001::1", "clusterIPs": ["2001::1"] })),
            "spec.clusterIPs[0]: Invalid value: [\"2001::1\"]: IPv6 is not configured on this cluster"
        );
    }

    #[test]
    fn a_headless_service_without_selector_is_of_both_families() {
        let (spec, errors) = settled(json!({ "clusterIP": "None", "clusterIPs": ["None"] }), None);
        assert_eq!(errors.len(), 0);
        assert_eq!(
            (&spec["ipFamilyPolicy"], &spec["ipFamilies"]),
            (&json!("RequireDualStack"), &json!(["IPv4", "IPv6"]))
        );
        let single = json!({ "clusterIP": "None", "clusterIPs": ["None"], "ipFamilies": ["IPv4", "IPv6"],
            "ipFamilyPolicy": "SingleStack" });
        let (spec, errors) = settled(single.clone(), Some(spec));
        assert_eq!((&spec["ipFamilies"], errors.len()), (&json!(["IPv4"]), 0));
        let (_, errors) = settled(single, None);
        assert_eq!(errors.len(), 1, "{errors:?}");
    }
}
