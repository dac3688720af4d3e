//! The strategy of pods.

use api::field::FieldError;
use serde_json::{Value, json};

use crate::strategy::{DEFAULT, Strategy, text};

pub static POD: Strategy = Strategy {
    has_generation: true,
    prepare_create: |pod| {
        let gated = pod
            .pointer("/spec/schedulingGates")
            .and_then(Value::as_array)
            .is_some_and(|g| !g.is_empty());
        let mut status = json!({ "phase": "Pending", "qosClass": qos_class(pod) });
        if gated {
            status["conditions"] = json!([{
                "type": "PodScheduled", "status": "False", "reason": "SchedulingGated",
                "message": "Scheduling is blocked due to non-empty scheduling gates",
            }]);
        }
        pod["status"] = status;
    },
    validate,
    grace: |pod, asked| {
        // what never ran or has ended needs no time to end
        let scheduled = text(pod, &["spec", "nodeName"]).is_some_and(|n| !n.is_empty());
        let ended = matches!(text(pod, &["status", "phase"]), Some("Succeeded" | "Failed"));
        if !scheduled || ended {
            return Some(0);
        }
        let own = pod
            .pointer("/spec/terminationGracePeriodSeconds")
            .and_then(Value::as_i64);
        // a negative period is read as one second
        Some(asked.or(own).unwrap_or(30)).map(|s| if s < 0 { 1 } else { s })
    },
    absent: |path| match path {
        "spec.hostNetwork" => "false",
        _ => "",
    },
    ..DEFAULT
};

const COMPUTE: [&str; 2] = ["cpu", "memory"];

/// `Guaranteed`, `Burstable` or `BestEffort`, from the requests and limits of all containers.
pub fn qos_class(pod: &Value) -> &'static str {
    let list = |field: &str| {
        pod.pointer(&format!("/spec/{field}"))
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
    };
    let mut any = false;
    let mut guaranteed = true;
    let mut containers = list("containers").chain(list("initContainers")).peekable();
    if containers.peek().is_none() {
        guaranteed = false;
    }
    for container in containers {
        for resource in COMPUTE {
            let get = |kind: &str| {
                let value = container
                    .pointer(&format!("/resources/{kind}/{resource}"))
                    .and_then(Value::as_str);
                value
                    .and_then(|v| v.parse::<api::quantity::Quantity>().ok())
                    .filter(|q| !q.is_zero())
            };
            let (request, limit) = (get("requests"), get("limits"));
            any |= request.is_some() || limit.is_some();
            let equal = match (&request, &limit) {
                (Some(r), Some(l)) => r == l,
                (None, Some(_)) => true,
                _ => false,
            };
            guaranteed &= equal;
        }
    }
    match (any, guaranteed) {
        (true, true) => "Guaranteed",
        (true, false) => "Burstable",
        (false, _) => "BestEffort",
    }
}

fn validate(new: &Value, old: Option<&Value>) -> Vec<FieldError> {
    let mut errors = validate_template(new.get("spec"), "spec");
    if let Some(old) = old {
        errors.extend(validate_update(new, old));
    }
    errors
}

/// Rules of a pod's spec, alone or in a template.
pub fn validate_template(spec: Option<&Value>, path: &str) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let Some(spec) = spec else {
        return vec![FieldError::required(path, "")];
    };
    let volumes: Vec<&str> = names(spec, "volumes").collect();
    let mut seen = std::collections::HashSet::new();
    for (i, name) in volumes.iter().enumerate() {
        let at = format!("{path}.volumes[{i}].name");
        check_label(&mut errors, &at, name);
        if !seen.insert(*name) {
            errors.push(FieldError::duplicate(at, json!(name)));
        }
    }
    let containers = spec.get("containers").and_then(Value::as_array);
    if containers.is_none_or(Vec::is_empty) {
        errors.push(FieldError::required(format!("{path}.containers"), ""));
    }
    let mut seen = std::collections::HashSet::new();
    for field in ["initContainers", "containers", "ephemeralContainers"] {
        let list = spec.get(field).and_then(Value::as_array).into_iter().flatten();
        for (i, container) in list.enumerate() {
            let at = format!("{path}.{field}[{i}]");
            validate_container(&mut errors, container, &at, &volumes);
            let name = text(container, &["name"]).unwrap_or_default();
            if !name.is_empty() && !seen.insert(name.to_owned()) {
                errors.push(FieldError::duplicate(format!("{at}.name"), json!(name)));
            }
        }
    }
    let one_of = |errors: &mut Vec<FieldError>, field: &str, allowed: &[&str]| {
        if let Some(value) = text(spec, &[field])
            && !allowed.contains(&value)
        {
            errors.push(FieldError::not_supported(
                format!("{path}.{field}"),
                json!(value),
                allowed,
            ));
        }
    };
    one_of(&mut errors, "restartPolicy", &["Always", "OnFailure", "Never"]);
    one_of(
        &mut errors,
        "dnsPolicy",
        &["ClusterFirstWithHostNet", "ClusterFirst", "Default", "None"],
    );
    for (field, least) in [("terminationGracePeriodSeconds", 0), ("activeDeadlineSeconds", 1)] {
        if let Some(value) = spec.get(field).and_then(Value::as_i64)
            && value < least
        {
            let why = if least == 0 {
                "must be greater than or equal to 0".to_owned()
            } else {
                "must be between 1 and 2147483647, inclusive".to_owned()
            };
            errors.push(FieldError::invalid(format!("{path}.{field}"), json!(value), why));
        }
    }
    errors
}

fn names<'a>(spec: &'a Value, field: &str) -> impl Iterator<Item = &'a str> {
    let list = spec.get(field).and_then(Value::as_array).into_iter().flatten();
    list.map(|v| text(v, &["name"]).unwrap_or_default())
}

fn check_label(errors: &mut Vec<FieldError>, path: &str, name: &str) {
    if name.is_empty() {
        errors.push(FieldError::required(path, ""));
        return;
    }
    for problem in api::names::dns1123_label_errors(name) {
        errors.push(FieldError::invalid(path, json!(name), problem));
    }
}

fn validate_container(errors: &mut Vec<FieldError>, container: &Value, path: &str, volumes: &[&str]) {
    check_label(
        errors,
        &format!("{path}.name"),
        text(container, &["name"]).unwrap_or_default(),
    );
    let image = text(container, &["image"]).unwrap_or_default();
    if image.is_empty() {
        errors.push(FieldError::required(format!("{path}.image"), ""));
    } else if image.trim() != image {
        let why = "must not have leading or trailing whitespace";
        errors.push(FieldError::invalid(format!("{path}.image"), json!(image), why));
    }
    let policy = text(container, &["imagePullPolicy"]).unwrap_or("IfNotPresent");
    let policies = ["Always", "IfNotPresent", "Never"];
    if !policies.contains(&policy) {
        errors.push(FieldError::not_supported(
            format!("{path}.imagePullPolicy"),
            json!(policy),
            &policies,
        ));
    }
    let list = |field: &str| {
        container
            .get(field)
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
            .enumerate()
    };
    for (i, mount) in list("volumeMounts") {
        let name = text(mount, &["name"]).unwrap_or_default();
        if name.is_empty() {
            errors.push(FieldError::required(format!("{path}.volumeMounts[{i}].name"), ""));
        } else if !volumes.contains(&name) {
            errors.push(FieldError::not_found(
                format!("{path}.volumeMounts[{i}].name"),
                json!(name),
            ));
        }
        if text(mount, &["mountPath"]).unwrap_or_default().is_empty() {
            errors.push(FieldError::required(format!("{path}.volumeMounts[{i}].mountPath"), ""));
        }
    }
    for (i, port) in list("ports") {
        let number = port.get("containerPort").and_then(Value::as_i64).unwrap_or(0);
        if number == 0 {
            errors.push(FieldError::required(format!("{path}.ports[{i}].containerPort"), ""));
        } else if !(1..=65535).contains(&number) {
            let why = "must be between 1 and 65535, inclusive";
            errors.push(FieldError::invalid(
                format!("{path}.ports[{i}].containerPort"),
                json!(number),
                why,
            ));
        }
        let protocol = text(port, &["protocol"]).unwrap_or("TCP");
        if !matches!(protocol, "TCP" | "UDP" | "SCTP") {
            let supported = ["SCTP", "TCP", "UDP"];
            errors.push(FieldError::not_supported(
                format!("{path}.ports[{i}].protocol"),
                json!(protocol),
                &supported,
            ));
        }
    }
    for (i, variable) in list("env") {
        if text(variable, &["name"]).unwrap_or_default().is_empty() {
            errors.push(FieldError::required(format!("{path}.env[{i}].name"), ""));
        }
    }
    validate_resources(errors, container, path);
}

fn validate_resources(errors: &mut Vec<FieldError>, container: &Value, path: &str) {
    let map = |kind: &str| {
        container
            .pointer(&format!("/resources/{kind}"))
            .and_then(Value::as_object)
    };
    let quantity = |v: &Value| v.as_str().and_then(|s| s.parse::<api::quantity::Quantity>().ok());
    for kind in ["limits", "requests"] {
        for (name, value) in map(kind).into_iter().flatten() {
            let at = format!("{path}.resources.{kind}[{name}]");
            match quantity(value) {
                Some(q) if q.is_negative() => {
                    errors.push(FieldError::invalid(
                        at,
                        value.clone(),
                        "must be greater than or equal to 0",
                    ));
                }
                _ => {}
            }
        }
    }
    for (name, request) in map("requests").into_iter().flatten() {
        let limit = map("limits").and_then(|l| l.get(name));
        if let (Some(r), Some(l)) = (quantity(request), limit.and_then(quantity))
            && r > l
        {
            let text = limit.and_then(Value::as_str).unwrap_or_default();
            let why = format!("must be less than or equal to {name} limit of {text}");
            errors.push(FieldError::invalid(
                format!("{path}.resources.requests"),
                request.clone(),
                why,
            ));
        }
    }
}

/// Only few fields of a pod's spec may change.
fn validate_update(new: &Value, old: &Value) -> Vec<FieldError> {
    let mut munged = new.get("spec").cloned().unwrap_or_default();
    let before = old.get("spec").cloned().unwrap_or_default();
    for field in ["containers", "initContainers"] {
        let olds = before.get(field).and_then(Value::as_array);
        if let (Some(news), Some(olds)) = (munged.get_mut(field).and_then(Value::as_array_mut), olds) {
            for (new, old) in news.iter_mut().zip(olds) {
                new["image"] = old.get("image").cloned().unwrap_or_default();
            }
        }
    }
    let keep = |munged: &mut Value, field: &str| crate::strategy::keep(munged, &before, field);
    keep(&mut munged, "activeDeadlineSeconds");
    keep(&mut munged, "schedulingGates");
    let added = |field: &str| {
        let list = |tree: &Value| {
            tree.pointer(&format!("/spec/{field}"))
                .and_then(Value::as_array)
                .cloned()
                .unwrap_or_default()
        };
        let now = list(new);
        list(old).iter().all(|t| now.contains(t))
    };
    if added("tolerations") {
        keep(&mut munged, "tolerations");
    }
    // may be set to 1 by a forced deletion
    let grace = |tree: &Value| {
        tree.pointer("/spec/terminationGracePeriodSeconds")
            .and_then(Value::as_i64)
    };
    if grace(old).is_some_and(|s| s < 0) && grace(new) == Some(1) {
        keep(&mut munged, "terminationGracePeriodSeconds");
    }
    // a gated pod's placement may be narrowed
    let gated = old
        .pointer("/spec/schedulingGates")
        .and_then(Value::as_array)
        .is_some_and(|g| !g.is_empty());
    if gated {
        keep(&mut munged, "nodeSelector");
        keep(&mut munged, "affinity");
    }
    keep(&mut munged, "nodeName");
    keep(&mut munged, "ephemeralContainers");
    if munged == before {
        return Vec::new();
    }
    let why = "pod updates may not change fields other than `spec.containers[*].image`,`spec.initContainers[*].image`,\
               `spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing tolerations),\
               `spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)";
    vec![FieldError::forbidden("spec", why)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_quality_of_service_follows_requests_and_limits() {
        let pod = |resources: Value| json!({ "spec": { "containers": [{ "resources": resources }] } });
        let both = json!({ "cpu": "1", "memory": "1Gi" });
        assert_eq!(qos_class(&pod(json!({}))), "BestEffort");
        assert_eq!(qos_class(&pod(json!({ "requests": { "cpu": "1" } }))), "Burstable");
        assert_eq!(qos_class(&pod(json!({ "limits": both }))), "Guaranteed");
        assert_eq!(
            qos_class(&pod(
                json!({ "limits": both, "requests": { "cpu": "1000m", "memory": "1Gi" } })
            )),
            "Guaranteed"
        );
        assert_eq!(
            qos_class(&pod(json!({ "limits": both, "requests": { "cpu": "1m" } }))),
            "Burstable"
        );
    }
}
