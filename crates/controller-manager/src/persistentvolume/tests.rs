use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim};
use serde_json::{Value, json};

use super::bind;
use super::claim::{ClaimStep, Class, View, next_step};
use super::matching::best_match;
use super::volume::{self, Deletion, VolumeStep};
use crate::meta::name;

fn merged(mut base: Value, extra: &Value) -> Value {
    if let (Some(base), Some(extra)) = (base.as_object_mut(), extra.as_object()) {
        for (key, value) in extra {
            let old = base.remove(key).unwrap_or_default();
            base.insert(
                key.clone(),
                if value.is_object() {
                    merged(old_or_map(old), value)
                } else {
                    value.clone()
                },
            );
        }
    }
    base
}

fn old_or_map(old: Value) -> Value {
    if old.is_null() { json!({}) } else { old }
}

fn volume(name: &str, size: &str, extra: &Value) -> PersistentVolume {
    let base = json!({"apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": name, "uid": format!("uid-{name}")},
        "spec": {"capacity": {"storage": size}, "accessModes": ["ReadWriteOnce"], "persistentVolumeReclaimPolicy": "Retain",
            "hostPath": {"path": "/tmp/x"}},
        "status": {"phase": "Available"}});
    serde_json::from_value(merged(base, extra)).unwrap()
}

fn claim(extra: &Value) -> PersistentVolumeClaim {
    let base = json!({"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "c", "namespace": "n", "uid": "u"},
        "spec": {"storageClassName": "", "accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "5Gi"}}},
        "status": {"phase": "Pending"}});
    serde_json::from_value(merged(base, extra)).unwrap()
}

fn none() -> Value {
    json!({})
}

fn owner(name: &str, uid: &str) -> Value {
    json!({"spec": {"claimRef": {"kind": "PersistentVolumeClaim", "namespace": "n", "name": name, "uid": uid}}})
}

#[test]
fn the_smallest_volume_that_suits_is_taken() {
    let labelled = json!({"metadata": {"labels": {"disk": "fast"}}});
    let many = json!({"spec": {"accessModes": ["ReadWriteOnce", "ReadWriteMany"]}});
    let classy = json!({"spec": {"storageClassName": "fast"}});
    let block = json!({"spec": {"volumeMode": "Block"}});
    let released = json!({"status": {"phase": "Released"}});
    let leaving = json!({"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}});
    let volumes = vec![
        volume("small", "1Gi", &none()),
        volume("large", "20Gi", &none()),
        volume("enough", "6Gi", &none()),
        volume("shared", "5Gi", &many),
        volume("classy", "5Gi", &classy),
        volume("block", "5Gi", &block),
        volume("released", "5Gi", &released),
        volume("leaving", "5Gi", &leaving),
        volume("taken", "5Gi", &owner("other", "o")),
        volume("fast", "30Gi", &labelled),
    ];
    let found = |extra: Value, delayed| {
        best_match(&claim(&extra), &volumes, delayed)
            .unwrap()
            .map(|v| name(v).to_owned())
    };
    for (what, extra, want) in [
        ("fewest modes, then size", none(), Some("enough")),
        (
            "access modes",
            json!({"spec": {"accessModes": ["ReadWriteMany"]}}),
            Some("shared"),
        ),
        ("class", json!({"spec": {"storageClassName": "fast"}}), Some("classy")),
        ("mode", json!({"spec": {"volumeMode": "Block"}}), Some("block")),
        (
            "labels",
            json!({"spec": {"selector": {"matchLabels": {"disk": "fast"}}}}),
            Some("fast"),
        ),
        (
            "size",
            json!({"spec": {"resources": {"requests": {"storage": "40Gi"}}}}),
            None,
        ),
        (
            "one that names it",
            json!({"metadata": {"name": "other", "uid": "o"}}),
            Some("taken"),
        ),
    ] {
        assert_eq!(found(extra, false).as_deref(), want, "{what}");
    }
    assert_eq!(found(none(), true), None, "a pod comes first");
    assert_eq!(
        found(json!({"metadata": {"name": "other", "uid": "o"}}), true).as_deref(),
        Some("taken")
    );
}

#[test]
fn a_claim_waits_binds_or_is_lost_as_upstream_says() {
    let class = |provisioner: &str, waits| Class {
        provisioner: provisioner.to_owned(),
        waits,
    };
    let view = |volumes: Vec<PersistentVolume>| View {
        volumes,
        classes: [
            ("slow".to_owned(), class("kubernetes.io/no-provisioner", false)),
            ("late".to_owned(), class("example.com/x", true)),
            ("now".to_owned(), class("example.com/x", false)),
        ]
        .into(),
        default_class: Some("now".to_owned()),
        waiting_pods: Vec::new(),
    };
    let step = |extra: Value, volumes: Vec<PersistentVolume>| match next_step(&claim(&extra), &view(volumes)).unwrap() {
        ClaimStep::Bind(volume) => format!("bind {}", name(&*volume)),
        ClaimStep::UseClass(class) => format!("class {class}"),
        ClaimStep::Wait(None) => "wait".to_owned(),
        ClaimStep::Wait(Some(r)) => format!("wait {}", r.reason),
        ClaimStep::Provision(by) => format!("provision {by}"),
        ClaimStep::CannotProvision(r) => format!("cannot {}", r.message),
        ClaimStep::Lost(r) => format!("lost {}", r.reason),
        ClaimStep::Misbound { owner, .. } => format!("misbound {owner}"),
    };
    let named = |volume: &str| json!({"spec": {"volumeName": volume}});
    let completed = |volume: &str| {
        merged(
            named(volume),
            &json!({"metadata": {"annotations": {"pv.kubernetes.io/bind-completed": "yes"}}}),
        )
    };
    let in_class = |class: Value| json!({"spec": {"storageClassName": class}});
    let selected = json!({"metadata": {"annotations": {"volume.kubernetes.io/selected-node": "node"}}});
    let pv = |extra: &Value| vec![volume("v", "5Gi", extra)];
    for (extra, volumes, want) in [
        (none(), pv(&none()), "bind v"),
        (none(), vec![], "wait FailedBinding"),
        (in_class(Value::Null), vec![], "class now"),
        (in_class(json!("now")), vec![], "provision example.com/x"),
        (in_class(json!("late")), vec![], "wait WaitForFirstConsumer"),
        (
            merged(in_class(json!("late")), &selected),
            vec![],
            "provision example.com/x",
        ),
        (
            in_class(json!("slow")),
            vec![],
            "cannot no volume plugin matched name: kubernetes.io/no-provisioner",
        ),
        (
            in_class(json!("x")),
            vec![],
            "cannot storageclass.storage.k8s.io \"x\" not found",
        ),
        (named("v"), vec![], "wait"),
        (named("v"), pv(&none()), "bind v"),
        (
            named("v"),
            pv(&json!({"spec": {"capacity": {"storage": "1Gi"}}})),
            "wait VolumeMismatch",
        ),
        (named("v"), pv(&owner("c", "")), "bind v"),
        (named("v"), pv(&owner("other", "o")), "wait FailedBinding"),
        (
            merged(
                named("v"),
                &json!({"metadata": {"annotations": {"pv.kubernetes.io/bound-by-controller": "yes"}}}),
            ),
            pv(&owner("other", "o")),
            "misbound n/other",
        ),
        (completed(""), vec![], "lost ClaimLost"),
        (completed("v"), vec![], "lost ClaimLost"),
        (completed("v"), pv(&none()), "bind v"),
        (completed("v"), pv(&owner("c", "u")), "bind v"),
        (completed("v"), pv(&owner("c", "another")), "lost ClaimMisbound"),
    ] {
        assert_eq!(step(extra.clone(), volumes), want, "{extra}");
    }
}

#[test]
fn binding_writes_each_side_once_and_can_be_undone() {
    let (free, claim) = (volume("v", "6Gi", &none()), claim(&none()));
    let bound = bind::volume_to_claim(&free, &claim).unwrap();
    let reference = bound.spec.as_ref().unwrap().claim_ref.clone().unwrap();
    assert_eq!(
        (reference.name.as_deref(), reference.uid.as_deref()),
        (Some("c"), Some("u"))
    );
    assert_eq!(
        crate::meta::annotation(&bound, "pv.kubernetes.io/bound-by-controller"),
        Some("yes")
    );
    assert_eq!(bind::volume_to_claim(&bound, &claim), None);
    let kept = bind::volume_to_claim(&volume("v", "6Gi", &owner("c", "")), &claim).unwrap();
    assert_eq!(
        crate::meta::annotation(&kept, "pv.kubernetes.io/bound-by-controller"),
        None,
        "the user chose"
    );

    let with_volume = bind::claim_to_volume(&claim, &bound).unwrap();
    assert_eq!(with_volume.spec.as_ref().unwrap().volume_name.as_deref(), Some("v"));
    assert_eq!(bind::claim_to_volume(&with_volume, &bound), None);
    let status = bind::claim_status(&with_volume, "Bound", Some(&bound)).unwrap();
    assert_eq!(
        serde_json::to_value(&status.status).unwrap(),
        json!({"phase": "Bound", "accessModes": ["ReadWriteOnce"], "capacity": {"storage": "6Gi"}})
    );
    assert_eq!(bind::claim_status(&status, "Bound", Some(&bound)), None);

    let undone = bind::unbound(&bound);
    assert_eq!(undone.spec, free.spec);
    let undone = bind::unbound(&kept).spec.unwrap().claim_ref.unwrap();
    assert_eq!(
        (undone.name.as_deref(), undone.uid),
        (Some("c"), None),
        "kept for the claim"
    );
}

#[test]
fn a_volume_follows_its_claim() {
    let bound_to = |v: &str| claim(&json!({"spec": {"volumeName": v}}));
    let made = json!({"metadata": {"annotations": {"pv.kubernetes.io/provisioned-by": "example.com/x"}},
        "spec": {"persistentVolumeReclaimPolicy": "Delete"}});
    for (what, extra, claim, want) in [
        ("nobody's", none(), None, VolumeStep::Available),
        ("kept for a claim", owner("c", ""), None, VolumeStep::Available),
        ("its claim is gone", owner("c", "u"), None, VolumeStep::Reclaim),
        (
            "its claim has yet to take it",
            owner("c", "u"),
            Some(bound_to("")),
            VolumeStep::AskClaim,
        ),
        (
            "its claim cannot take it",
            merged(owner("c", "u"), &json!({"spec": {"volumeMode": "Block"}})),
            Some(bound_to("")),
            VolumeStep::ModesDiffer,
        ),
        ("its claim's", owner("c", "u"), Some(bound_to("v")), VolumeStep::Bound),
        (
            "its claim took another",
            owner("c", "u"),
            Some(bound_to("w")),
            VolumeStep::Unbind,
        ),
        (
            "made in vain",
            merged(owner("c", "u"), &made),
            Some(bound_to("w")),
            VolumeStep::Reclaim,
        ),
    ] {
        assert_eq!(
            volume::next_step(&volume("v", "5Gi", &extra), claim.as_ref()),
            want,
            "{what}"
        );
    }
}

#[test]
fn only_what_was_made_for_it_is_deleted() {
    let at = |path: &str| json!({"spec": {"hostPath": {"path": path}}});
    let deletion = |extra: &Value| volume::deletion(&volume("v", "5Gi", extra));
    assert_eq!(deletion(&at("/tmp/a")), Deletion::Directory("/tmp/a".to_owned()));
    for path in ["/tmp/", "/var/a", "/tmp/../etc"] {
        assert!(matches!(deletion(&at(path)), Deletion::Impossible(_)), "{path}");
    }
    let by = |who: &str| json!({"metadata": {"annotations": {"pv.kubernetes.io/provisioned-by": who}}});
    assert_eq!(deletion(&by("example.com/x")), Deletion::External);
    let local = json!({"spec": {"hostPath": null, "local": {"path": "/mnt"}}});
    assert!(matches!(deletion(&local), Deletion::Impossible(_)));
}
