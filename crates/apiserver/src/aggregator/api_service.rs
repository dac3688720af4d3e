//! What an APIService says.

use std::cmp::Ordering;

use serde_json::Value;

use crate::webhook::service::Service;

/// An APIService with a server of its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Spec {
    pub name: String,
    pub group: String,
    pub version: String,
    pub priorities: Priorities,
    pub service: Service,
    pub insecure: bool,
    /// In base64.
    pub bundle: String,
}

/// Where a version stands in discovery.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Priorities {
    pub group: i64,
    pub version: i64,
}

fn text<'a>(tree: &'a Value, path: &str) -> &'a str {
    tree.pointer(path).and_then(Value::as_str).unwrap_or_default()
}

impl Spec {
    /// `None` for one that this server answers for itself.
    pub fn read(tree: &Value) -> Option<Spec> {
        let service = tree.pointer("/spec/service").filter(|s| s.is_object())?;
        let port = service.get("port").and_then(Value::as_u64).unwrap_or(443);
        Some(Spec {
            name: text(tree, "/metadata/name").to_owned(),
            group: text(tree, "/spec/group").to_owned(),
            version: text(tree, "/spec/version").to_owned(),
            priorities: Priorities::read(tree),
            service: Service {
                namespace: text(service, "/namespace").to_owned(),
                name: text(service, "/name").to_owned(),
                // validation lets no other through
                port: u16::try_from(port).unwrap_or_default(),
            },
            insecure: tree.pointer("/spec/insecureSkipTLSVerify") == Some(&Value::Bool(true)),
            bundle: text(tree, "/spec/caBundle").to_owned(),
        })
    }

    /// The path that its server must answer.
    pub fn path(&self) -> String {
        match self.name == "v1." {
            true => format!("/api/{}", self.version),
            false => format!("/apis/{}/{}", self.group, self.version),
        }
    }
}

impl Priorities {
    /// Reads both from an APIService; what is absent is 0.
    pub fn read(tree: &Value) -> Priorities {
        let number = |path: &str| tree.pointer(path).and_then(Value::as_i64).unwrap_or_default();
        Priorities {
            group: number("/spec/groupPriorityMinimum"),
            version: number("/spec/versionPriority"),
        }
    }
}

fn condition(tree: &Value) -> Option<&Value> {
    let conditions = tree.pointer("/status/conditions").and_then(Value::as_array);
    conditions.into_iter().flatten().find(|c| c["type"] == "Available")
}

/// Whether the status says that requests may be passed on.
pub fn is_available(tree: &Value) -> bool {
    condition(tree).is_some_and(|c| c["status"] == "True")
}

/// Whether the status is that of one without a server of its own.
pub fn is_told_local(tree: &Value) -> bool {
    condition(tree).is_some_and(|c| c["status"] == "True" && c["reason"] == "Local")
}

/// What a check found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Available {
    pub status: &'static str,
    pub reason: &'static str,
    pub message: String,
}

impl Available {
    /// What is told of group versions that this server serves itself.
    pub fn local() -> Available {
        Available {
            status: "True",
            reason: "Local",
            message: "Local APIServices are always available".into(),
        }
    }

    /// Puts it among the conditions of the status.
    pub fn write(&self, tree: &mut Value, now: &str) {
        if !tree["status"]["conditions"].is_array() {
            tree["status"]["conditions"] = Value::Array(Vec::new());
        }
        let Some(conditions) = tree.pointer_mut("/status/conditions").and_then(Value::as_array_mut) else {
            return;
        };
        let at = match conditions.iter().position(|c| c["type"] == "Available") {
            Some(at) => at,
            None => {
                conditions.push(serde_json::json!({ "type": "Available" }));
                conditions.len() - 1
            }
        };
        let condition = &mut conditions[at];
        if condition["status"] != self.status {
            condition["status"] = self.status.into();
            condition["lastTransitionTime"] = now.into();
        }
        condition["reason"] = self.reason.into();
        condition["message"] = self.message.clone().into();
    }
}

/// Versions as `version.CompareKubeAwareVersionStrings` has them, the preferred one first: v2, v1, v1beta1, v1alpha1, others by name.
pub fn compare_versions(a: &str, b: &str) -> Ordering {
    let numbers = |text: &str| -> Option<(u8, u32, u32)> {
        let rest = text.strip_prefix('v')?;
        for (word, rank) in [("alpha", 1), ("beta", 2)] {
            if let Some((major, minor)) = rest.split_once(word) {
                return Some((rank, major.parse().ok()?, minor.parse().ok()?));
            }
        }
        Some((3, rest.parse().ok()?, 0))
    };
    match (numbers(a), numbers(b)) {
        (None, None) => a.cmp(b),
        (a, b) => b.cmp(&a),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_condition_keeps_its_time_while_its_status_stays() {
        let mut tree = json!({ "status": {} });
        let failed = |message: &str| Available {
            status: "False",
            reason: "FailedDiscoveryCheck",
            message: message.into(),
        };
        failed("a").write(&mut tree, "t1");
        failed("b").write(&mut tree, "t2");
        let condition = json!({ "type": "Available", "status": "False", "lastTransitionTime": "t1", "reason": "FailedDiscoveryCheck", "message": "b" });
        assert_eq!(tree["status"]["conditions"], json!([condition]));
        assert!(!is_available(&tree));
        Available::local().write(&mut tree, "t3");
        assert_eq!(
            tree.pointer("/status/conditions/0/lastTransitionTime"),
            Some(&json!("t3"))
        );
        assert!(is_available(&tree) && is_told_local(&tree));
    }

    #[test]
    fn versions_stand_by_stability_and_age() {
        let mut all = ["foo", "v1", "v1alpha1", "v2beta1", "v10", "v2", "bar", "v1beta1"];
        all.sort_by(|a, b| compare_versions(a, b));
        assert_eq!(all, ["v10", "v2", "v1", "v2beta1", "v1beta1", "v1alpha1", "bar", "foo"]);
    }
}
