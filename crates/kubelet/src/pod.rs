//! Short ways to the parts of a pod, and its kinds of containers.

use k8s_openapi::api::core::v1::{Container, EphemeralContainer, ObjectReference, Pod};

/// Where a container stands in a pod's spec.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    Init,
    Regular,
    Ephemeral,
}

impl Kind {
    /// The field of the pod's spec.
    pub fn field(self) -> &'static str {
        match self {
            Kind::Init => "initContainers",
            Kind::Regular => "containers",
            Kind::Ephemeral => "ephemeralContainers",
        }
    }
}

/// Readers of a pod that do not care what is left out.
pub trait PodExt {
    fn uid(&self) -> &str;
    fn name(&self) -> &str;
    fn namespace(&self) -> &str;
    fn containers(&self) -> &[Container];
    fn init_containers(&self) -> &[Container];
    fn ephemeral_containers(&self) -> Vec<Container>;
    fn restart_policy(&self) -> &str;
    fn host_network(&self) -> bool;
    fn deleting(&self) -> bool;
    /// `Succeeded` or `Failed`.
    fn has_ended(&self) -> bool;
    fn annotation(&self, key: &str) -> Option<&str>;
    /// `name_namespace(uid)`, as messages name pods.
    fn describe(&self) -> String;
    fn reference(&self) -> ObjectReference;
    fn container_reference(&self, kind: Kind, name: &str) -> ObjectReference;
    /// Where the pod came from: `api` or `file`.
    fn source(&self) -> &str;
    fn is_static(&self) -> bool;
    /// Whether this is the API's picture of a static pod.
    fn is_mirror(&self) -> bool;
    fn every_container(&self) -> Vec<(Kind, Container)>;
    /// Seconds the containers have to end once the pod is deleted.
    fn grace_period(&self) -> i64;
}

/// Where a pod comes from: `api`, `file` or `http`.
pub const SOURCE_ANNOTATION: &str = "kubernetes.io/config.source";
/// Marks the object that stands in the API for a static pod; its value is that pod's hash.
pub const MIRROR_ANNOTATION: &str = "kubernetes.io/config.mirror";
/// When the kubelet first saw a static pod.
pub const SEEN_ANNOTATION: &str = "kubernetes.io/config.seen";
/// The hash of a static pod.
pub const HASH_ANNOTATION: &str = "kubernetes.io/config.hash";

impl PodExt for Pod {
    fn uid(&self) -> &str {
        self.metadata.uid.as_deref().unwrap_or_default()
    }

    fn name(&self) -> &str {
        self.metadata.name.as_deref().unwrap_or_default()
    }

    fn namespace(&self) -> &str {
        self.metadata.namespace.as_deref().unwrap_or_default()
    }

    fn containers(&self) -> &[Container] {
        self.spec.as_ref().map_or(&[], |s| &s.containers)
    }

    fn init_containers(&self) -> &[Container] {
        self.spec
            .as_ref()
            .and_then(|s| s.init_containers.as_deref())
            .unwrap_or_default()
    }

    fn ephemeral_containers(&self) -> Vec<Container> {
        let containers = self
            .spec
            .as_ref()
            .and_then(|s| s.ephemeral_containers.as_deref())
            .unwrap_or_default();
        containers.iter().map(container_of).collect()
    }

    fn restart_policy(&self) -> &str {
        self.spec
            .as_ref()
            .and_then(|s| s.restart_policy.as_deref())
            .unwrap_or("Always")
    }

    fn host_network(&self) -> bool {
        self.spec.as_ref().and_then(|s| s.host_network).unwrap_or(false)
    }

    fn deleting(&self) -> bool {
        self.metadata.deletion_timestamp.is_some()
    }

    fn has_ended(&self) -> bool {
        let phase = self.status.as_ref().and_then(|s| s.phase.as_deref());
        matches!(phase, Some("Succeeded" | "Failed"))
    }

    fn annotation(&self, key: &str) -> Option<&str> {
        self.metadata.annotations.as_ref()?.get(key).map(String::as_str)
    }

    fn describe(&self) -> String {
        format!("{}_{}({})", self.name(), self.namespace(), self.uid())
    }

    fn reference(&self) -> ObjectReference {
        ObjectReference {
            api_version: Some("v1".to_owned()),
            kind: Some("Pod".to_owned()),
            namespace: self.metadata.namespace.clone(),
            name: self.metadata.name.clone(),
            uid: self.metadata.uid.clone(),
            resource_version: self.metadata.resource_version.clone(),
            field_path: None,
        }
    }

    fn container_reference(&self, kind: Kind, name: &str) -> ObjectReference {
        ObjectReference {
            field_path: Some(format!("spec.{}{{{name}}}", kind.field())),
            ..self.reference()
        }
    }

    fn source(&self) -> &str {
        self.annotation(SOURCE_ANNOTATION).unwrap_or("api")
    }

    fn is_static(&self) -> bool {
        self.source() != "api"
    }

    fn is_mirror(&self) -> bool {
        self.annotation(MIRROR_ANNOTATION).is_some()
    }

    fn every_container(&self) -> Vec<(Kind, Container)> {
        let init = self.init_containers().iter().map(|c| (Kind::Init, c.clone()));
        let regular = self.containers().iter().map(|c| (Kind::Regular, c.clone()));
        let ephemeral = self.ephemeral_containers().into_iter().map(|c| (Kind::Ephemeral, c));
        init.chain(regular).chain(ephemeral).collect()
    }

    fn grace_period(&self) -> i64 {
        let spec = self.spec.as_ref().and_then(|s| s.termination_grace_period_seconds);
        self.metadata.deletion_grace_period_seconds.or(spec).unwrap_or(30)
    }
}

/// Whether the init container keeps running beside the regular ones.
pub fn is_sidecar(container: &Container) -> bool {
    container.restart_policy.as_deref() == Some("Always")
}

fn container_of(e: &EphemeralContainer) -> Container {
    let e = e.clone();
    Container {
        args: e.args,
        command: e.command,
        env: e.env,
        env_from: e.env_from,
        image: e.image,
        image_pull_policy: e.image_pull_policy,
        lifecycle: e.lifecycle,
        liveness_probe: e.liveness_probe,
        name: e.name,
        ports: e.ports,
        readiness_probe: e.readiness_probe,
        resize_policy: e.resize_policy,
        resources: e.resources,
        restart_policy: e.restart_policy,
        restart_policy_rules: e.restart_policy_rules,
        security_context: e.security_context,
        startup_probe: e.startup_probe,
        stdin: e.stdin,
        stdin_once: e.stdin_once,
        termination_message_path: e.termination_message_path,
        termination_message_policy: e.termination_message_policy,
        tty: e.tty,
        volume_devices: e.volume_devices,
        volume_mounts: e.volume_mounts,
        working_dir: e.working_dir,
    }
}

/// The debug container's target, whose namespaces it joins.
pub fn ephemeral_target<'a>(pod: &'a Pod, name: &str) -> Option<&'a str> {
    let containers = pod.spec.as_ref()?.ephemeral_containers.as_deref()?;
    containers
        .iter()
        .find(|c| c.name == name)?
        .target_container_name
        .as_deref()
        .filter(|t| !t.is_empty())
}

/// The action of the container's first rule that fits an exit code.
fn rule_action(container: &Container, exit_code: i32) -> Option<&str> {
    let mut rules = container.restart_policy_rules.iter().flatten();
    let fits = rules.find(|rule| {
        rule.exit_codes.as_ref().is_some_and(|on| {
            let listed = on.values.as_deref().unwrap_or_default().contains(&exit_code);
            listed == (on.operator == "In")
        })
    })?;
    Some(&fits.action)
}

/// Whether the end of a container with this code starts all containers of the pod anew (KEP-5532).
pub fn restarts_all(container: &Container, exit_code: i32) -> bool {
    rule_action(container, exit_code) == Some("RestartAllContainers")
}

/// Whether a container that ended with this code is started again.
pub fn restarts(pod: &Pod, container: &Container, exit_code: i32) -> bool {
    if rule_action(container, exit_code) == Some("Restart") {
        return true;
    }
    match container.restart_policy.as_deref().unwrap_or(pod.restart_policy()) {
        "Never" => false,
        "OnFailure" => exit_code != 0,
        _ => true,
    }
}

/// Identifies what a running container was made from: only its name and image may change in place.
pub fn container_hash(container: &Container) -> String {
    use sha2::Digest;
    let text = format!("{}\n{}", container.name, container.image.as_deref().unwrap_or_default());
    let digest = sha2::Sha256::digest(text.as_bytes());
    digest.iter().take(4).map(|b| format!("{b:02x}")).collect()
}
