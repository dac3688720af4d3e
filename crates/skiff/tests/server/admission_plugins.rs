//! Admission plugins that are off unless they are switched on, and those that are on switched off.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::common::Server;
use crate::webhooks::Webhook;

const ALONE: [&str; 3] = ["--disable-agent", "--disable-scheduler", "--disable-controller-manager"];

/// A server with arguments of its API server.
fn server(args: &[&str]) -> Server {
    let args: Vec<String> = args.iter().map(|arg| format!("--kube-apiserver-arg={arg}")).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    Server::start_with(&[&ALONE[..], &args].concat())
}

fn pod(name: &str, spec: &Value) -> String {
    let mut pod = json!({ "apiVersion": "v1", "kind": "Pod", "metadata": { "name": name },
        "spec": { "containers": [{ "name": "c", "image": "x:1", "imagePullPolicy": "IfNotPresent" }] } });
    for (key, value) in spec.as_object().unwrap() {
        pod["spec"][key] = value.clone();
    }
    pod.to_string()
}

/// Makes a pod and shows a part of it.
fn made(s: &Server, name: &str, spec: &Value, path: &str) -> String {
    s.ok_with(&["create", "-f", "-"], &pod(name, spec));
    s.ok(&["get", "pod", name, "-o", &format!("jsonpath={path}")])
}

fn refused(s: &Server, name: &str, spec: &Value) -> String {
    s.fails(&["create", "-f", "-"], &pod(name, spec))
}

/// A file of a test, gone with it.
fn file(dir: &Path, name: &str, text: &str) -> PathBuf {
    let path = dir.join(name);
    std::fs::write(&path, text).unwrap();
    path
}

/// The namespace `default`, with the account that its pods run as and an annotation.
fn annotate(s: &Server, annotation: &str) {
    s.ok(&["annotate", "--overwrite", "namespace", "default", annotation]);
}

#[test]
fn pods_are_changed_and_refused_by_plugins_that_are_on() {
    let s = server(&[
        "enable-admission-plugins=AlwaysPullImages,ExtendedResourceToleration,LimitPodHardAntiAffinityTopology,PodNodeSelector",
        "enable-admission-plugins=PodTolerationRestriction,AlwaysAdmit",
        "disable-admission-plugins=ServiceAccount,DefaultTolerationSeconds",
    ]);
    // ServiceAccount is off: there is no account, and nothing is mounted
    let image = json!({ "volumes": [{ "name": "v", "image": { "reference": "y:1", "pullPolicy": "Never" } }] });
    let pulled = made(
        &s,
        "pulled",
        &image,
        "{.spec.containers[*].imagePullPolicy} {.spec.volumes[*].image.pullPolicy} {.spec.serviceAccountName}",
    );
    assert_eq!(pulled, "Always Always");

    let gpu =
        json!({ "containers": [{ "name": "c", "image": "x", "resources": { "limits": { "example.com/gpu": "1" } } }] });
    let tolerated = made(
        &s,
        "gpu",
        &gpu,
        "{.spec.tolerations[*].key} {.spec.tolerations[*].operator}",
    );
    assert_eq!(tolerated, "example.com/gpu Exists");

    let apart = |topology: &str| {
        json!({ "affinity": { "podAntiAffinity": { "requiredDuringSchedulingIgnoredDuringExecution": [
            { "topologyKey": topology, "labelSelector": { "matchLabels": { "a": "b" } } } ] } } })
    };
    made(&s, "apart", &apart("kubernetes.io/hostname"), "{.metadata.name}");
    assert_eq!(
        refused(&s, "far", &apart("topology.kubernetes.io/zone")),
        "Error from server (Forbidden): error when creating \"STDIN\": pods \"far\" is forbidden: \
         affinity.PodAntiAffinity.RequiredDuringScheduling has TopologyKey topology.kubernetes.io/zone but only key \
         kubernetes.io/hostname is allowed"
    );

    annotate(&s, "scheduler.alpha.kubernetes.io/node-selector=disk=ssd,zone=a");
    let selected = made(
        &s,
        "selected",
        &json!({ "nodeSelector": { "zone": "a" } }),
        "{.spec.nodeSelector}",
    );
    assert_eq!(selected, r#"{"disk":"ssd","zone":"a"}"#);
    let other = refused(&s, "other", &json!({ "nodeSelector": { "zone": "b" } }));
    assert!(
        other.ends_with(
            "pods \"other\" is forbidden: pod node label selector conflicts with its namespace node label selector"
        ),
        "{other}"
    );
    annotate(&s, "scheduler.alpha.kubernetes.io/node-selector=disk");
    let unreadable = refused(&s, "unreadable", &json!({}));
    assert!(unreadable.ends_with("invalid selector: [disk]"), "{unreadable}");
    s.ok(&[
        "annotate",
        "namespace",
        "default",
        "scheduler.alpha.kubernetes.io/node-selector-",
    ]);

    annotate(
        &s,
        r#"scheduler.alpha.kubernetes.io/defaultTolerations=[{"key":"k","operator":"Exists"}]"#,
    );
    annotate(
        &s,
        r#"scheduler.alpha.kubernetes.io/tolerationsWhitelist=[{"key":"k","operator":"Exists"}]"#,
    );
    let tolerates = made(&s, "tolerates", &json!({}), "{.spec.tolerations[*].key}");
    assert_eq!(tolerates, "k");
    let too_much = refused(
        &s,
        "too-much",
        &json!({ "tolerations": [{ "key": "l", "operator": "Exists" }] }),
    );
    assert!(
        too_much.ends_with(
            "pod tolerations (possibly merged with namespace default tolerations) conflict with its namespace whitelist"
        ),
        "{too_much}"
    );
    annotate(&s, "scheduler.alpha.kubernetes.io/tolerationsWhitelist={}");
    let unreadable = refused(&s, "unreadable", &json!({}));
    assert!(
        unreadable.ends_with("json: cannot unmarshal object into Go value of type []v1.Toleration"),
        "{unreadable}"
    );
}

#[test]
fn namespaces_services_and_owners_are_guarded_by_plugins_that_are_on() {
    let s = server(&[
        "enable-admission-plugins=NamespaceAutoProvision,NamespaceExists,DenyServiceExternalIPs,OwnerReferencesPermissionEnforcement",
    ]);
    // what is only tried makes no namespace
    let tried = s.fails(&["create", "configmap", "c", "-n", "tried", "--dry-run=server"], "");
    assert!(tried.ends_with("namespaces \"tried\" not found"), "{tried}");
    s.ok(&["create", "configmap", "c", "-n", "made"]);
    let phase = [
        "get",
        "namespace",
        "made",
        "-o",
        "jsonpath={.status.phase} {.spec.finalizers} {.metadata.labels}",
    ];
    assert_eq!(
        s.ok(&phase),
        r#"Active ["kubernetes"] {"kubernetes.io/metadata.name":"made"}"#
    );
    s.fails(&["get", "namespace", "tried"], "");

    let service = |ips: &str| {
        format!(
            "{{apiVersion: v1, kind: Service, metadata: {{name: s, namespace: default}}, spec: {{ports: [{{port: 80}}], externalIPs: {ips}}}}}"
        )
    };
    let denied = s.fails(&["create", "-f", "-"], &service("[192.0.2.1]"));
    assert!(
        denied.ends_with("services \"s\" is forbidden: Use of external IPs is denied by admission control"),
        "{denied}"
    );
    s.ok_with(&["create", "-f", "-"], &service("[]"));
    s.fails(&["apply", "--server-side", "-f", "-"], &service("[192.0.2.1]"));

    // a user who may make configmaps and change them, and no more
    let role = [
        "create",
        "clusterrole",
        "maker",
        "--verb=create,update,patch,get",
        "--resource=configmaps",
    ];
    s.ok(&role);
    s.ok(&[
        "create",
        "clusterrolebinding",
        "maker",
        "--clusterrole=maker",
        "--user=maker",
    ]);
    let uid = s.ok(&["get", "namespace", "default", "-o", "jsonpath={.metadata.uid}"]);
    let owned = |name: &str, owner: &str, block: bool| {
        format!(
            "{{apiVersion: v1, kind: ConfigMap, metadata: {{name: {name}, namespace: default, ownerReferences: \
             [{{apiVersion: v1, kind: {owner}, name: default, uid: {uid}, blockOwnerDeletion: {block}}}]}}}}"
        )
    };
    let create = ["create", "-f", "-", "--as=maker"];
    s.ok_with(&create, &owned("a", "Namespace", false));
    assert_eq!(
        s.fails(&create, &owned("b", "Namespace", true)),
        "Error from server (Forbidden): error when creating \"STDIN\": configmaps \"b\" is forbidden: cannot set blockOwnerDeletion if an \
         ownerReference refers to a resource you can't set finalizers on: , <nil>"
    );
    let unknown = s.fails(&create, &owned("b", "Nothing", true));
    assert!(
        unknown.ends_with(
            "cannot set blockOwnerDeletion in this case because cannot find RESTMapping for APIVersion v1 Kind Nothing: no matches for \
             kind \"Nothing\" in version \"v1\""
        ),
        "{unknown}"
    );
    s.ok_with(&["create", "-f", "-"], &owned("b", "Namespace", true));
    let forget = [
        "patch",
        "configmap",
        "a",
        "--as=maker",
        "--type=merge",
        "-p",
        r#"{"metadata":{"ownerReferences":null}}"#,
    ];
    let undeletable = s.fails(&forget, "");
    assert!(
        undeletable
            .ends_with("configmaps \"a\" is forbidden: cannot set an ownerRef on a resource you can't delete: , <nil>"),
        "{undeletable}"
    );
}

#[test]
fn namespaces_have_to_exist_and_everything_may_be_denied() {
    let s = server(&[
        "enable-admission-plugins=NamespaceExists",
        "disable-admission-plugins=NamespaceLifecycle",
    ]);
    let missing = s.fails(&["create", "configmap", "c", "-n", "nowhere"], "");
    assert!(missing.ends_with("namespaces \"nowhere\" not found"), "{missing}");
    // nothing guards it any more
    s.ok(&["delete", "namespace", "default", "--wait=false"]);

    let s = server(&["disable-admission-plugins=NamespaceLifecycle"]);
    s.ok(&["create", "configmap", "c", "-n", "nowhere"]);
}

#[test]
fn events_are_limited_as_the_file_says() {
    let dir = tempfile::tempdir().unwrap();
    let limits = "apiVersion: eventratelimit.admission.k8s.io/v1alpha1\nkind: Configuration\nlimits:\n- {type: User, qps: 1, burst: 3}\n";
    file(dir.path(), "limits.yaml", limits);
    let plugins = "apiVersion: apiserver.config.k8s.io/v1\nkind: AdmissionConfiguration\nplugins:\n- {name: EventRateLimit, path: limits.yaml}\n";
    let plugins = file(dir.path(), "admission.yaml", plugins);
    let s = server(&[
        "enable-admission-plugins=EventRateLimit",
        &format!("admission-control-config-file={}", plugins.display()),
    ]);
    let event = |name: usize| {
        format!(
            "{{apiVersion: v1, kind: Event, metadata: {{name: e{name}, namespace: default}}, involvedObject: {{kind: Pod, name: p, namespace: default}}}}"
        )
    };
    let made: Vec<bool> = (0..12)
        .map(|n| s.try_with(&["create", "-f", "-"], &event(n)))
        .map(|made| match made {
            Ok(_) => true,
            Err(why) => {
                let limited = "limit reached on type User for key system:admin";
                assert!(why.contains(limited), "{why}");
                false
            }
        })
        .collect();
    assert!(made[..3].iter().all(|made| *made), "{made:?}");
    assert!(made.iter().any(|made| !made), "{made:?}");
    // others are not concerned
    s.ok(&["create", "configmap", "c"]);
}

#[test]
fn a_server_outside_says_which_images_may_run_and_is_asked_once() {
    let hook = Webhook::start(|path, review| {
        assert_eq!(path, "/images");
        let images = review["spec"]["containers"].as_array().unwrap();
        let bad = images.iter().any(|container| container["image"] == "bad");
        let status = match bad {
            true => json!({ "allowed": false, "reason": "it is bad" }),
            false => json!({ "allowed": true }),
        };
        let answer = json!({ "kind": "ImageReview", "apiVersion": "imagepolicy.k8s.io/v1alpha1", "status": status });
        (if images.len() > 1 { 400 } else { 200 }, answer.to_string())
    });
    let dir = tempfile::tempdir().unwrap();
    let kubeconfig = json!({ "apiVersion": "v1", "kind": "Config", "current-context": "c",
        "clusters": [{ "name": "c", "cluster": { "server": hook.url("/images"), "certificate-authority-data": hook.bundle() } }],
        "users": [{ "name": "u", "user": {} }], "contexts": [{ "name": "c", "context": { "cluster": "c", "user": "u" } }] });
    let kubeconfig = file(dir.path(), "kubeconfig", &kubeconfig.to_string());
    let plugins = format!(
        "imagePolicy: {{kubeConfigFile: {}, allowTTL: 60, defaultAllow: false}}",
        kubeconfig.display()
    );
    let plugins = file(dir.path(), "admission.yaml", &plugins);
    let s = server(&[
        "enable-admission-plugins=ImagePolicyWebhook",
        "disable-admission-plugins=ServiceAccount",
        &format!("admission-control-config-file={}", plugins.display()),
    ]);
    made(&s, "good", &json!({}), "{.metadata.name}");
    made(&s, "good-too", &json!({}), "{.metadata.name}");
    let reviews = hook.take();
    assert_eq!(reviews.len(), 1, "the second answer was kept: {reviews:?}");
    assert_eq!(
        reviews[0],
        json!({ "kind": "ImageReview", "apiVersion": "imagepolicy.k8s.io/v1alpha1", "metadata": {}, "status": { "allowed": false },
            "spec": { "containers": [{ "image": "x:1" }], "namespace": "default" } })
    );
    let bad = json!({ "containers": [{ "name": "c", "image": "bad" }] });
    assert_eq!(
        refused(&s, "bad", &bad),
        "Error from server (Forbidden): error when creating \"STDIN\": pods \"bad\" is forbidden: image policy webhook backend denied one \
         or more images: it is bad"
    );
    let two = json!({ "containers": [{ "name": "c", "image": "a" }, { "name": "d", "image": "b" }] });
    let unasked = refused(&s, "two", &two);
    assert!(unasked.contains("pods \"two\" is forbidden: "), "{unasked}");
}

#[test]
fn what_is_wrong_with_plugins_is_said_at_the_start() {
    let s = Server::start_with(&ALONE);
    let dir = tempfile::tempdir().unwrap();
    let unfit = file(dir.path(), "unfit.yaml", "kind: Pod\napiVersion: v1\n");
    let said = |args: &[&str]| {
        let args: Vec<String> = args.iter().map(|arg| format!("--kube-apiserver-arg={arg}")).collect();
        let mut flags = vec!["--data-dir", dir.path().to_str().unwrap()];
        flags.extend(args.iter().map(String::as_str));
        let (well, said) = s.try_command(&flags);
        assert!(!well, "{said}");
        said
    };
    for (args, why) in [
        (
            &["enable-admission-plugins=Nobody"][..],
            "enable-admission-plugins plugin \"Nobody\" is unknown",
        ),
        (
            &[
                "enable-admission-plugins=Priority",
                "disable-admission-plugins=Priority",
            ],
            "[Priority] in enable-admission-plugins and disable-admission-plugins overlapped",
        ),
        (
            &["enable-admission-plugins=EventRateLimit"],
            "couldn't init admission plugin \"EventRateLimit\": limits: Invalid value: null: must not be empty",
        ),
        (
            &["enable-admission-plugins=ImagePolicyWebhook"],
            "couldn't init admission plugin \"ImagePolicyWebhook\": no config specified",
        ),
        (
            &[&*format!("admission-control-config-file={}", unfit.display())],
            "no kind \"Pod\" is registered for version \"v1\"",
        ),
        (
            &["admission-control-config-file=/nowhere"],
            "open /nowhere: no such file or directory",
        ),
    ] {
        let said = said(args);
        assert!(said.contains(why), "{args:?}: {said}");
    }
}
