//! Of which families a Service's addresses are, on a cluster whose addresses are all IPv4. KEP-563.

use api::field::{FieldError, FieldErrors};
use serde_json::{Value, json};

use crate::kinds::core::service::validation as service;
use crate::kinds::cursor::Cursor;
use crate::tree::text;

/// The only family that addresses are given out of.
const FAMILY: &str = "IPv4";

/// Sets the policy and the families of a Service that has addresses; what of them cannot be.
pub fn settle(service: &mut Value, old: Option<&Value>) -> FieldErrors {
    if old.is_some_and(|old| stays(service, old)) {
        return FieldErrors::new();
    }
    if policy(service).is_empty() {
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
    from_addresses(&mut errors, service);
    if !errors.is_empty() {
        return errors;
    }
    if serves_itself(service) {
        let mut families = list(service, "ipFamilies").to_vec();
        if families.is_empty() {
            families.push(json!(FAMILY));
        }
        if families.len() == 1 && policy(service) != "SingleStack" {
            families.push(json!(if families[0] == FAMILY { "IPv6" } else { FAMILY }));
        }
        service["spec"]["ipFamilies"] = Value::Array(families);
        return errors;
    }
    if policy(service) == "RequireDualStack" {
        errors.push(of_policy(
            service,
            "this cluster is not configured for dual-stack services",
        ));
    }
    for (i, family) in list(service, "ipFamilies").iter().enumerate() {
        if family != FAMILY {
            let path = format!("spec.ipFamilies[{i}]");
            errors.push(FieldError::invalid(
                path,
                family.clone(),
                "not configured on this cluster",
            ));
        }
    }
    if errors.is_empty() && list(service, "ipFamilies").is_empty() {
        service["spec"]["ipFamilies"] = json!([FAMILY]);
    }
    errors
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
fn from_addresses(errors: &mut FieldErrors, service: &mut Value) {
    let mut families = list(service, "ipFamilies").to_vec();
    for (i, address) in list(service, "clusterIPs").iter().enumerate() {
        if address == "None" {
            break;
        }
        let family = if address.as_str().is_some_and(|a| a.contains(':')) {
            "IPv6"
        } else {
            FAMILY
        };
        if i < families.len() {
            continue;
        }
        if family == FAMILY {
            families.push(json!(family));
        } else {
            let shown = Value::Array(list(service, "clusterIPs").to_vec());
            let why = format!("{family} is not configured on this cluster");
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

    fn settled(spec: Value, old: Option<Value>) -> (Value, Vec<String>) {
        let mut service = json!({ "spec": spec });
        let errors = settle(&mut service, old.map(|spec| json!({ "spec": spec })).as_ref());
        (service["spec"].take(), errors.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn a_service_gets_the_family_that_the_cluster_has_and_no_other() {
        let (spec, errors) = settled(json!({ "ipFamilyPolicy": "PreferDualStack" }), None);
        assert_eq!((&spec["ipFamilies"], errors.len()), (&json!(["IPv4"]), 0));
        let refused = |spec: Value| settled(spec, None).1.join("; ");
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
