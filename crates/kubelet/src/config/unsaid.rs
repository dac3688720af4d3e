//! Fields of a `KubeletConfiguration` that say nothing: kubeadm writes every field, most of them with the value that stands for
//! upstream's default.

use serde_json::Value;

/// Fields of which zero, an empty text, list or object means what the kubelet chooses (`SetDefaults_KubeletConfiguration` of
/// upstream's `pkg/kubelet/apis/config/v1beta1`), most of them such that this kubelet does not have. Where zero means zero, as with
/// `registryPullQPS`, the field is not here.
const FIELDS: [&str; 25] = [
    "authentication.webhook.cacheTTL",
    "authorization.webhook",
    "cpuManagerPolicyOptions",
    "cpuManagerReconcilePeriod",
    "crashLoopBackOff",
    "fileCheckFrequency",
    "httpCheckFrequency",
    "imageServiceEndpoint",
    "kubeletCgroups",
    "logging",
    "memorySwap",
    "nodeStatusReportFrequency",
    "nodeStatusUpdateFrequency",
    "providerID",
    "reservedMemory",
    "runtimeRequestTimeout",
    "shutdownGracePeriod",
    "shutdownGracePeriodByPodPriority",
    "shutdownGracePeriodCriticalPods",
    "staticPodURL",
    "streamingConnectionIdleTimeout",
    "syncFrequency",
    "systemCgroups",
    "topologyManagerPolicyOptions",
    "volumeStatsAggPeriod",
];

/// Takes them out of a file.
pub(super) fn drop_from(file: &mut Value) {
    for path in FIELDS {
        let (parents, name) = path.rsplit_once('.').unwrap_or(("", path));
        let mut at = Some(&mut *file);
        for parent in parents.split('.').filter(|p| !p.is_empty()) {
            at = at.and_then(|value| value.get_mut(parent));
        }
        if let Some(Value::Object(fields)) = at
            && fields.get(name).is_some_and(says_nothing)
        {
            fields.remove(name);
        }
    }
}

fn says_nothing(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Bool(value) => !value,
        Value::Number(number) => number.as_f64() == Some(0.0),
        Value::String(text) => matches!(text.as_str(), "" | "0" | "0s"),
        Value::Array(items) => items.is_empty(),
        Value::Object(fields) => fields.values().all(says_nothing),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_says_nothing_is_dropped_and_what_says_something_stays() {
        let mut file = json!({
            "syncFrequency": "0s", "logging": { "flushFrequency": 0, "options": { "json": { "infoBufferSize": "0" } } },
            "authentication": { "webhook": { "cacheTTL": "0s", "enabled": true } },
            "nodeStatusReportFrequency": "1m", "registryPullQPS": 0,
        });
        drop_from(&mut file);
        assert_eq!(
            file,
            json!({
                "authentication": { "webhook": { "enabled": true } },
                "nodeStatusReportFrequency": "1m", "registryPullQPS": 0,
            })
        );
    }
}
