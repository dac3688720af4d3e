//! Defaults of `admissionregistration.k8s.io`.

use serde_json::{Map, Value, json};

use super::{items, object, set};

pub(crate) fn default(kind: &str, top: &mut Map<String, Value>) {
    match kind {
        "MutatingWebhookConfiguration" | "ValidatingWebhookConfiguration" => webhooks(kind, top),
        "MutatingAdmissionPolicy" | "ValidatingAdmissionPolicy" => {
            if let Some(spec) = object(top, "spec") {
                set(spec, "failurePolicy", "Fail");
                match_resources(spec, "matchConstraints");
            }
        }
        "MutatingAdmissionPolicyBinding" | "ValidatingAdmissionPolicyBinding" => {
            if let Some(spec) = object(top, "spec") {
                match_resources(spec, "matchResources");
            }
        }
        _ => {}
    }
}

fn match_resources(spec: &mut Map<String, Value>, key: &str) {
    let Some(resources) = object(spec, key) else { return };
    set(resources, "matchPolicy", "Equivalent");
    set(resources, "namespaceSelector", json!({}));
    set(resources, "objectSelector", json!({}));
    for rules in ["resourceRules", "excludeResourceRules"] {
        for rule in items(resources, rules) {
            set(rule, "scope", "*");
        }
    }
}

fn webhooks(kind: &str, top: &mut Map<String, Value>) {
    for hook in items(top, "webhooks") {
        set(hook, "failurePolicy", "Fail");
        set(hook, "matchPolicy", "Equivalent");
        set(hook, "namespaceSelector", json!({}));
        set(hook, "objectSelector", json!({}));
        set(hook, "timeoutSeconds", 10);
        if kind == "MutatingWebhookConfiguration" {
            set(hook, "reinvocationPolicy", "Never");
        }
        if let Some(service) = object(hook, "clientConfig").and_then(|config| object(config, "service")) {
            set(service, "port", 443);
        }
        for rule in items(hook, "rules") {
            set(rule, "scope", "*");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_webhook_that_says_nothing_refuses_when_it_fails_and_has_ten_seconds() {
        let given = json!({ "webhooks": [{ "clientConfig": { "service": { "name": "s" } }, "rules": [{}] }] });
        let mut top = given.as_object().unwrap().clone();
        default("MutatingWebhookConfiguration", &mut top);
        let want = json!({ "webhooks": [{
            "clientConfig": { "service": { "name": "s", "port": 443 } }, "rules": [{ "scope": "*" }],
            "failurePolicy": "Fail", "matchPolicy": "Equivalent", "namespaceSelector": {}, "objectSelector": {},
            "timeoutSeconds": 10, "reinvocationPolicy": "Never",
        }] });
        assert_eq!(Value::Object(top), want);
        let mut top = given.as_object().unwrap().clone();
        default("ValidatingWebhookConfiguration", &mut top);
        assert!(top["webhooks"][0].get("reinvocationPolicy").is_none());
    }
}
