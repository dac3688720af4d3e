//! Which fields hold labels, names of other objects and the like, by kind (`api/internal/konfig/builtinpluginconsts`).

use super::fields::Field;

/// Where pods are described: kind, the path before the pod's own.
const POD: (&str, &str) = ("Pod", "spec");
const PODS: [(&str, &str); 8] = [
    POD,
    ("PodTemplate", "template/spec"),
    ("Deployment", "spec/template/spec"),
    ("ReplicaSet", "spec/template/spec"),
    ("DaemonSet", "spec/template/spec"),
    ("StatefulSet", "spec/template/spec"),
    ("Job", "spec/template/spec"),
    ("CronJob", "spec/jobTemplate/spec/template/spec"),
];
const WORKLOADS: [(&str, &str); 7] = [
    POD,
    ("StatefulSet", "spec/template/spec"),
    ("Deployment", "spec/template/spec"),
    ("ReplicationController", "spec/template/spec"),
    ("CronJob", "spec/jobTemplate/spec/template/spec"),
    ("Job", "spec/template/spec"),
    ("DaemonSet", "spec/template/spec"),
];
const CONFIG_MAP: [&str; 6] = [
    "volumes/configMap/name",
    "containers/env/valueFrom/configMapKeyRef/name",
    "initContainers/env/valueFrom/configMapKeyRef/name",
    "containers/envFrom/configMapRef/name",
    "initContainers/envFrom/configMapRef/name",
    "volumes/projected/sources/configMap/name",
];
const SECRET: [&str; 7] = [
    "volumes/secret/secretName",
    "containers/env/valueFrom/secretKeyRef/name",
    "initContainers/env/valueFrom/secretKeyRef/name",
    "containers/envFrom/secretRef/name",
    "initContainers/envFrom/secretRef/name",
    "imagePullSecrets/name",
    "volumes/projected/sources/secret/name",
];
const RBAC: &str = "rbac.authorization.k8s.io";
const ADMISSION: &str = "admissionregistration.k8s.io";

/// A kind whose objects others name, and the fields in which they do.
pub struct Referred {
    pub group: &'static str,
    pub version: &'static str,
    pub kind: &'static str,
    pub by: Vec<Field>,
}

fn in_pods(places: &[(&str, &str)], paths: &[&str]) -> Vec<Field> {
    let of = |(kind, prefix): &(&str, &str)| {
        let field = |path: &&str| Field::of("", "", kind, &format!("{prefix}/{path}"), false);
        paths.iter().map(field).collect::<Vec<_>>()
    };
    places.iter().flat_map(of).collect()
}

fn fields(list: &[(&str, &str, &str)]) -> Vec<Field> {
    list.iter()
        .map(|(group, kind, path)| Field::of(group, "", kind, path, false))
        .collect()
}

/// Fields outside pods that name ConfigMaps.
fn config_maps() -> Vec<Field> {
    fields(&[
        ("", "Node", "spec/configSource/configMap"),
        ("", "Role", "rules/resourceNames"),
        ("", "ClusterRole", "rules/resourceNames"),
        (
            "",
            "Ingress",
            "metadata/annotations/nginx.ingress.kubernetes.io\\/fastcgi-params-configmap",
        ),
    ])
}

/// Fields outside pods that name Secrets.
fn secrets() -> Vec<Field> {
    fields(&[
        ("", "Ingress", "spec/tls/secretName"),
        (
            "",
            "Ingress",
            "metadata/annotations/ingress.kubernetes.io\\/auth-secret",
        ),
        (
            "",
            "Ingress",
            "metadata/annotations/nginx.ingress.kubernetes.io\\/auth-secret",
        ),
        (
            "",
            "Ingress",
            "metadata/annotations/nginx.ingress.kubernetes.io\\/auth-tls-secret",
        ),
        ("", "ServiceAccount", "imagePullSecrets/name"),
        ("", "StorageClass", "parameters/secretName"),
        ("", "StorageClass", "parameters/adminSecretName"),
        ("", "StorageClass", "parameters/userSecretName"),
        ("", "StorageClass", "parameters/secretRef"),
        ("", "Role", "rules/resourceNames"),
        ("", "ClusterRole", "rules/resourceNames"),
        (
            "serving.knative.dev",
            "Service",
            "spec/template/spec/containers/env/valueFrom/secretKeyRef/name",
        ),
        ("", "PersistentVolume", "spec/azureFile/secretName"),
    ])
}

/// Fields that name Services.
fn services() -> Vec<Field> {
    fields(&[
        ("apps", "StatefulSet", "spec/serviceName"),
        ("", "Ingress", "spec/rules/http/paths/backend/serviceName"),
        ("", "Ingress", "spec/backend/serviceName"),
        ("", "Ingress", "spec/rules/http/paths/backend/service/name"),
        ("", "Ingress", "spec/defaultBackend/service/name"),
        ("apiregistration.k8s.io", "APIService", "spec/service/name"),
        (
            ADMISSION,
            "ValidatingWebhookConfiguration",
            "webhooks/clientConfig/service",
        ),
        (
            ADMISSION,
            "MutatingWebhookConfiguration",
            "webhooks/clientConfig/service",
        ),
    ])
}

/// What names what.
pub fn references() -> Vec<Referred> {
    let referred = |group, version, kind, by: Vec<Field>| Referred {
        group,
        version,
        kind,
        by,
    };
    let scaled = || fields(&[("", "HorizontalPodAutoscaler", "spec/scaleTargetRef/name")]);
    let subjects = fields(&[
        (RBAC, "RoleBinding", "subjects"),
        (RBAC, "ClusterRoleBinding", "subjects"),
    ]);
    let roles = |kinds: &[&str]| -> Vec<Field> {
        kinds
            .iter()
            .map(|kind| Field::of(RBAC, "", kind, "roleRef/name", false))
            .collect()
    };
    vec![
        referred("", "", "Deployment", scaled()),
        referred("", "", "ReplicationController", scaled()),
        referred("", "", "ReplicaSet", scaled()),
        referred("", "", "StatefulSet", scaled()),
        referred(
            "",
            "v1",
            "ConfigMap",
            [in_pods(&PODS, &CONFIG_MAP), config_maps()].concat(),
        ),
        referred("", "v1", "Secret", [in_pods(&PODS, &SECRET), secrets()].concat()),
        referred("", "v1", "Service", services()),
        referred(RBAC, "", "Role", roles(&["RoleBinding"])),
        referred(RBAC, "", "ClusterRole", roles(&["RoleBinding", "ClusterRoleBinding"])),
        referred(
            "",
            "v1",
            "ServiceAccount",
            [subjects, in_pods(&WORKLOADS, &["serviceAccountName"])].concat(),
        ),
        referred(
            "",
            "v1",
            "PersistentVolumeClaim",
            in_pods(&WORKLOADS, &["volumes/persistentVolumeClaim/claimName"]),
        ),
        referred(
            "",
            "v1",
            "PersistentVolume",
            fields(&[
                ("", "PersistentVolumeClaim", "spec/volumeName"),
                ("", "ClusterRole", "rules/resourceNames"),
            ]),
        ),
        referred(
            "storage.k8s.io",
            "v1",
            "StorageClass",
            fields(&[
                ("", "PersistentVolume", "spec/storageClassName"),
                ("", "PersistentVolumeClaim", "spec/storageClassName"),
                ("", "StatefulSet", "spec/volumeClaimTemplates/spec/storageClassName"),
            ]),
        ),
        referred(
            "scheduling.k8s.io",
            "v1",
            "PriorityClass",
            in_pods(&WORKLOADS, &["priorityClassName"]),
        ),
        referred(
            ADMISSION,
            "",
            "ValidatingAdmissionPolicy",
            fields(&[(ADMISSION, "ValidatingAdmissionPolicyBinding", "spec/policyName")]),
        ),
    ]
}

/// Labels of templates: group, version, kind, path.
fn templates(what: &str) -> Vec<Field> {
    let plain = format!("spec/template/metadata/{what}");
    let job = format!("spec/jobTemplate/metadata/{what}");
    let pod = format!("spec/jobTemplate/spec/template/metadata/{what}");
    vec![
        Field::of("", "v1", "ReplicationController", &plain, true),
        Field::of("", "", "Deployment", &plain, true),
        Field::of("", "", "ReplicaSet", &plain, true),
        Field::of("", "", "DaemonSet", &plain, true),
        Field::of(
            if what == "labels" { "apps" } else { "" },
            "",
            "StatefulSet",
            &plain,
            true,
        ),
        Field::of("batch", "", "Job", &plain, true),
        Field::of("batch", "", "CronJob", &job, true),
        Field::of("batch", "", "CronJob", &pod, true),
    ]
}

/// The labels of objects.
pub fn own_labels() -> Vec<Field> {
    vec![Field::of_any("metadata/labels", true)]
}

/// The labels of objects and of what they make.
pub fn template_labels() -> Vec<Field> {
    let claims = Field::of(
        "apps",
        "",
        "StatefulSet",
        "spec/volumeClaimTemplates[]/metadata/labels",
        true,
    );
    [own_labels(), templates("labels"), vec![claims]].concat()
}

/// The labels of objects, of what they make, and those by which they select.
pub fn all_labels() -> Vec<Field> {
    let mut all = vec![
        Field::of("", "v1", "Service", "spec/selector", true),
        Field::of("", "v1", "ReplicationController", "spec/selector", true),
        Field::of("", "", "Deployment", "spec/selector/matchLabels", true),
        Field::of("", "", "ReplicaSet", "spec/selector/matchLabels", true),
        Field::of("", "", "DaemonSet", "spec/selector/matchLabels", true),
        Field::of("apps", "", "StatefulSet", "spec/selector/matchLabels", true),
        Field::of("batch", "", "Job", "spec/selector/matchLabels", false),
        Field::of(
            "batch",
            "",
            "CronJob",
            "spec/jobTemplate/spec/selector/matchLabels",
            false,
        ),
        Field::of("policy", "", "PodDisruptionBudget", "spec/selector/matchLabels", false),
    ];
    let policies = [
        "spec/podSelector",
        "spec/ingress/from/podSelector",
        "spec/egress/to/podSelector",
    ];
    all.extend(policies.map(|path| {
        Field::of(
            "networking.k8s.io",
            "",
            "NetworkPolicy",
            &format!("{path}/matchLabels"),
            false,
        )
    }));
    let near = [
        "affinity/podAffinity/preferredDuringSchedulingIgnoredDuringExecution/podAffinityTerm",
        "affinity/podAffinity/requiredDuringSchedulingIgnoredDuringExecution",
        "affinity/podAntiAffinity/preferredDuringSchedulingIgnoredDuringExecution/podAffinityTerm",
        "affinity/podAntiAffinity/requiredDuringSchedulingIgnoredDuringExecution",
        "topologySpreadConstraints",
    ];
    for kind in ["Deployment", "StatefulSet"] {
        all.extend(near.map(|path| {
            Field::of(
                "apps",
                "",
                kind,
                &format!("spec/template/spec/{path}/labelSelector/matchLabels"),
                false,
            )
        }));
    }
    all.extend(template_labels());
    all
}

pub(crate) fn annotations() -> Vec<Field> {
    [
        vec![Field::of_any("metadata/annotations", true)],
        templates("annotations"),
    ]
    .concat()
}

/// Images that are not in lists of containers too.
pub fn images() -> Vec<Field> {
    let paths = [
        "containers[]/image",
        "initContainers[]/image",
        "volumes[]/image/reference",
    ];
    let places = ["spec", "spec/template/spec"];
    let of = |place: &str| paths.map(|path| Field::of_any(&format!("{place}/{path}"), false));
    places.into_iter().flat_map(of).collect()
}

pub(crate) fn replicas() -> Vec<Field> {
    let kinds = ["Deployment", "ReplicationController", "ReplicaSet", "StatefulSet"];
    kinds
        .map(|kind| Field::of("", "", kind, "spec/replicas", true))
        .to_vec()
}

/// Namespaces outside of metadata.
pub fn namespaces() -> Vec<Field> {
    vec![
        Field::of("", "v1", "Namespace", "metadata/name", true),
        Field::of(
            "apiregistration.k8s.io",
            "",
            "APIService",
            "spec/service/namespace",
            true,
        ),
        Field::of(
            "apiextensions.k8s.io",
            "",
            "CustomResourceDefinition",
            "spec/conversion/webhook/clientConfig/service/namespace",
            false,
        ),
    ]
}
