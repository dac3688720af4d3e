//! Controllers that need no node.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::common::Server;

fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !holds() {
        assert!(Instant::now() < deadline, "{what}: not within a minute");
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn get(s: &Server, arguments: &[&str]) -> Value {
    let arguments = [&["get"], arguments, &["-o", "json"]].concat();
    serde_json::from_str(&s.ok(&arguments)).unwrap()
}

fn condition<'a>(object: &'a Value, kind: &str) -> Option<&'a Value> {
    object["status"]["conditions"]
        .as_array()?
        .iter()
        .find(|c| c["type"] == kind)
}

#[test]
fn the_trust_bundle_of_the_api_server_is_published_and_kept() {
    let s = Server::start_with(&["--disable-agent", "--disable-scheduler"]);
    let of_signer = || {
        let field = "spec.signerName=kubernetes.io/kube-apiserver-serving";
        let list = get(&s, &["clustertrustbundles", "--field-selector", field]);
        list["items"].as_array().unwrap().clone()
    };
    until("it is there", || of_signer().len() == 1);
    let bundle = of_signer().remove(0);
    let name = bundle["metadata"]["name"].as_str().unwrap();
    assert!(name.starts_with("kubernetes.io:kube-apiserver-serving:"), "{name}");
    let map = get(&s, &["configmap", "kube-root-ca.crt"]);
    assert_eq!(bundle["spec"]["trustBundle"], map["data"]["ca.crt"]);

    s.ok(&["delete", "clustertrustbundle", name]);
    until("it is there again", || of_signer().len() == 1);
    // another of the signer goes
    let mut other = bundle.clone();
    other["metadata"] = json!({ "name": "kubernetes.io:kube-apiserver-serving:old" });
    s.ok_with(&["create", "-f", "-"], &other.to_string());
    until("the other is gone", || {
        let all = of_signer();
        all.len() == 1 && all[0]["metadata"]["name"] == name
    });
}

fn ropes(stored: &str) -> String {
    let version = |name: &str| {
        let schema = json!({ "type": "object", "x-kubernetes-preserve-unknown-fields": true });
        json!({ "name": name, "served": true, "storage": name == stored, "schema": { "openAPIV3Schema": schema } })
    };
    let definition = json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition", "metadata": { "name": "ropes.example.org" },
        "spec": { "group": "example.org", "scope": "Namespaced", "names": { "plural": "ropes", "kind": "Rope" },
            "versions": [version("v1"), version("v2")] },
    });
    definition.to_string()
}

fn migrate(s: &Server, name: &str, group: &str, plural: &str) {
    let migration = json!({ "apiVersion": "storagemigration.k8s.io/v1", "kind": "StorageVersionMigration", "metadata": { "name": name },
        "spec": { "resource": { "group": group, "resource": plural } } });
    s.ok_with(&["create", "-f", "-"], &migration.to_string());
}

#[test]
fn a_migration_writes_objects_in_the_version_that_is_stored_now() {
    let s = Server::start_with(&["--disable-agent", "--disable-scheduler"]);
    s.ok_with(&["apply", "-f", "-"], &ropes("v1"));
    s.ok(&["wait", "--for=condition=Established", "crd/ropes.example.org"]);
    for n in 0..3 {
        let rope = json!({ "apiVersion": "example.org/v1", "kind": "Rope", "metadata": { "name": format!("r{n}") }, "length": n });
        s.ok_with(&["create", "-f", "-"], &rope.to_string());
    }
    s.ok_with(&["apply", "-f", "-"], &ropes("v2"));
    let definition = || get(&s, &["crd", "ropes.example.org"]);
    assert_eq!(definition()["status"]["storedVersions"], json!(["v1", "v2"]));
    let versions = || {
        let list = get(&s, &["ropes"]);
        let items = list["items"].as_array().unwrap().clone();
        items
            .iter()
            .map(|item| {
                (
                    item["metadata"]["resourceVersion"].clone(),
                    item["metadata"]["generation"].clone(),
                )
            })
            .collect::<Vec<_>>()
    };
    let before = versions();
    // two of one resource: one after the other
    migrate(&s, "first", "example.org", "ropes");
    migrate(&s, "second", "example.org", "ropes");
    let migration = |name: &str| get(&s, &["storageversionmigration", name]);
    for name in ["first", "second"] {
        until("it is over", || {
            condition(&migration(name), "Running").is_some_and(|c| c["status"] == "False")
        });
        let done = migration(name);
        let succeeded = condition(&done, "Succeeded").unwrap();
        assert_eq!(
            (&succeeded["status"], &succeeded["reason"], &succeeded["message"]),
            (
                &json!("True"),
                &json!("StorageVersionMigrationSucceeded"),
                &json!("Migration completed")
            )
        );
        let running = condition(&done, "Running").unwrap();
        assert_eq!(
            (&running["reason"], &running["message"]),
            (&json!("MigrationCompleted"), &json!("Migration completed"))
        );
        assert!(condition(&done, "Failed").is_none());
    }
    let after = definition();
    assert_eq!(after["status"]["storedVersions"], json!(["v2"]));
    let told = condition(&after, "StorageMigrating").unwrap();
    assert_eq!(
        (&told["status"], &told["reason"]),
        (&json!("False"), &json!("MigrationSucceeded"))
    );
    let now = versions();
    let pairs = before.iter().zip(&now);
    assert!(
        pairs.clone().all(|(b, n)| b.0 != n.0),
        "written anew: {before:?} {now:?}"
    );
    assert!(
        pairs.clone().all(|(b, n)| b.1 == n.1),
        "and not changed: {before:?} {now:?}"
    );

    // what cannot be migrated says why
    migrate(&s, "reviews", "authorization.k8s.io", "subjectaccessreviews");
    until("it failed", || condition(&migration("reviews"), "Failed").is_some());
    let message = condition(&migration("reviews"), "Failed").unwrap()["message"].clone();
    assert_eq!(
        message,
        r#"resource "authorization.k8s.io/v1, Resource=subjectaccessreviews" does not support discovery operations: [update patch list]"#
    );
}

#[test]
fn a_claim_says_whether_a_pod_names_it() {
    let s = Server::start_with(&["--disable-agent", "--disable-scheduler"]);
    let volume = json!({ "apiVersion": "v1", "kind": "PersistentVolume", "metadata": { "name": "v" },
        "spec": { "capacity": { "storage": "1Gi" }, "accessModes": ["ReadWriteOnce"], "storageClassName": "",
            "hostPath": { "path": "/tmp/none" } } });
    let claim = json!({ "apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": { "name": "c" },
        "spec": { "volumeName": "v", "storageClassName": "", "accessModes": ["ReadWriteOnce"],
            "resources": { "requests": { "storage": "1Gi" } } } });
    s.ok_with(&["create", "-f", "-"], &volume.to_string());
    s.ok_with(&["create", "-f", "-"], &claim.to_string());
    let said = || {
        let claim = get(&s, &["pvc", "c"]);
        let unused = condition(&claim, "Unused").map(|c| format!("{} {}", c["status"], c["reason"]));
        unused.unwrap_or_default()
    };
    until("nobody names it", || said() == r#""True" "NoPodsUsingPVC""#);
    until("pods may be made", || {
        s.run(&["get", "serviceaccount", "default"], "").status.success()
    });
    let pod = json!({ "apiVersion": "v1", "kind": "Pod", "metadata": { "name": "p" },
        "spec": { "containers": [{ "name": "c", "image": "none" }],
            "volumes": [{ "name": "v", "persistentVolumeClaim": { "claimName": "c" } }] } });
    s.ok_with(&["create", "-f", "-"], &pod.to_string());
    until("a pod names it", || said() == r#""False" "PodUsingPVC""#);
    s.ok(&["delete", "pod", "p"]);
    until("nobody names it again", || said() == r#""True" "NoPodsUsingPVC""#);
}

#[test]
fn feature_gates_are_set_as_upstream_takes_them_and_what_is_not_built_is_refused() {
    let flags = ["--disable-agent", "--disable-scheduler", "--disable-controller-manager"];
    let off = "--kube-apiserver-arg=feature-gates=MaxUnavailableStatefulSet=false";
    let s = Server::start_with(&[&flags[..], &[off]].concat());
    let metrics = s.ok(&["get", "--raw", "/metrics"]);
    for line in [
        r#"kubernetes_feature_enabled{name="MaxUnavailableStatefulSet",stage="BETA"} 0"#,
        r#"kubernetes_feature_enabled{name="VolumeBindMountOptions",stage="ALPHA"} 0"#,
        r#"kubernetes_feature_enabled{name="ClusterTrustBundle",stage=""} 1"#,
    ] {
        assert!(metrics.lines().any(|l| l == line), "{line}");
    }
    // the field of a feature that is off goes
    let set = json!({ "apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": { "name": "s" },
        "spec": { "serviceName": "s", "selector": { "matchLabels": { "a": "b" } },
            "updateStrategy": { "type": "RollingUpdate", "rollingUpdate": { "maxUnavailable": 2, "partition": 1 } },
            "template": { "metadata": { "labels": { "a": "b" } }, "spec": { "containers": [{ "name": "c", "image": "i" }] } } } });
    s.ok_with(&["create", "-f", "-"], &set.to_string());
    let kept = get(&s, &["statefulset", "s"])["spec"]["updateStrategy"]["rollingUpdate"].clone();
    assert_eq!(kept, json!({ "partition": 1 }));

    let mut s = Server::start_with(&flags);
    s.kill();
    for (gates, why) in [
        ("Nothing=true", "unrecognized feature gate: Nothing"),
        ("ClusterTrustBundle", "missing bool value for ClusterTrustBundle"),
        (
            "GenericWorkload=true",
            "cannot set feature gate GenericWorkload to true: there is no other way built than false",
        ),
    ] {
        let (ended_well, told) = s.try_command(&[&format!("--kube-apiserver-arg=feature-gates={gates}")]);
        assert!(!ended_well && told.contains(why), "{gates}: {told}");
    }
}
