//! The client against a running API server: `KUBECONFIG=... cargo test -p client -- --ignored`.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::time::Duration;

use client::{DeleteParams, EventRecorder, Informer, Kubeconfig, LeaderElector, ListParams, Patch};
use k8s_openapi::api::core::v1::{ConfigMap, Event, ObjectReference};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use tokio_util::sync::CancellationToken;

fn client() -> client::Client {
    let path = std::env::var("KUBECONFIG").expect("KUBECONFIG names a kubeconfig");
    Kubeconfig::load(path)
        .unwrap()
        .config(None)
        .unwrap()
        .client("skiff-test")
        .unwrap()
}

fn config_map(name: &str) -> ConfigMap {
    ConfigMap {
        metadata: ObjectMeta {
            name: Some(name.into()),
            namespace: Some("default".into()),
            ..Default::default()
        },
        data: Some([("a".to_owned(), "1".to_owned())].into()),
        ..Default::default()
    }
}

#[tokio::test]
#[ignore = "needs KUBECONFIG of an API server"]
async fn an_object_lives_through_all_verbs_and_the_cache_sees_it() {
    let client = client();
    let cache = Informer::start(&client, client::Client::collection::<ConfigMap>("default"), vec![]);
    cache.synced().await;
    let mut changes = cache.subscribe();
    let name = format!("skiff-test-{}", std::process::id());
    let created = client.create(&config_map(&name)).await.unwrap();
    assert!(client.create(&config_map(&name)).await.unwrap_err().is_already_exists());
    let patch = Patch::Merge(serde_json::json!({"data": {"b": "2"}}));
    let patched: ConfigMap = client.patch("default", &name, &patch).await.unwrap();
    assert_eq!(patched.data.unwrap().len(), 2);
    assert!(client.update(&created).await.unwrap_err().is_conflict());
    let applied =
        serde_json::json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": {"a": "3"}});
    let apply = |force| Patch::Apply {
        manager: "other".into(),
        force,
        object: applied.clone(),
    };
    assert!(
        client
            .patch::<ConfigMap>("default", &name, &apply(false))
            .await
            .unwrap_err()
            .is_conflict()
    );
    client.patch::<ConfigMap>("default", &name, &apply(true)).await.unwrap();
    let named = ListParams {
        field_selector: Some(format!("metadata.name={name}")),
        ..Default::default()
    };
    assert_eq!(
        client.list::<ConfigMap>("default", &named).await.unwrap().items.len(),
        1
    );
    let wrong = DeleteParams::uid("other");
    assert!(
        client
            .delete::<ConfigMap>("default", &name, &wrong)
            .await
            .unwrap_err()
            .is_conflict()
    );
    client
        .delete::<ConfigMap>("default", &name, &DeleteParams::default())
        .await
        .unwrap();
    assert!(
        client
            .get::<ConfigMap>("default", &name)
            .await
            .unwrap_err()
            .is_not_found()
    );
    let mut versions = 0;
    loop {
        let change = tokio::time::timeout(Duration::from_secs(10), changes.recv())
            .await
            .unwrap()
            .unwrap();
        if *change.object().unwrap().meta.name != *name {
            continue;
        }
        versions += 1;
        if change.new.is_none() {
            break;
        }
    }
    assert_eq!(versions, 4, "created, patched, applied, deleted");
    let kind: serde_json::Value = cache
        .get("default/kube-root-ca.crt")
        .map_or(serde_json::json!({"kind": "ConfigMap"}), |o| o.decode().unwrap());
    assert_eq!(kind["kind"], "ConfigMap");
}

#[tokio::test]
#[ignore = "needs KUBECONFIG of an API server"]
async fn one_leader_at_a_time_and_the_lease_is_given_back() {
    let client = client();
    let name = format!("skiff-test-{}", std::process::id());
    for identity in ["a", "b"] {
        let elector = LeaderElector::new(client.clone(), "default", &name, identity);
        let led = tokio::time::timeout(
            Duration::from_secs(5),
            elector.run(CancellationToken::new(), |_| async {}),
        );
        led.await.expect("elected at once").unwrap();
    }
    client
        .delete::<k8s_openapi::api::coordination::v1::Lease>("default", &name, &DeleteParams::default())
        .await
        .unwrap();
}

#[tokio::test]
#[ignore = "needs KUBECONFIG of an API server"]
async fn a_repeated_event_is_counted() {
    let client = client();
    let recorder = EventRecorder::new(client.clone(), "skiff-test", "here");
    let object = ObjectReference {
        kind: Some("ConfigMap".into()),
        namespace: Some("default".into()),
        name: Some("e".into()),
        ..Default::default()
    };
    let events = Informer::start(
        &client,
        client::Client::collection::<Event>("default").fields("involvedObject.name=e"),
        vec![],
    );
    let mut changes = events.subscribe();
    recorder.normal(&object, "Tested", "twice");
    recorder.normal(&object, "Tested", "twice");
    loop {
        let change = tokio::time::timeout(Duration::from_secs(10), changes.recv())
            .await
            .unwrap()
            .unwrap();
        let event: Event = change.new.unwrap().decode().unwrap();
        if event.count == Some(2) {
            client
                .delete::<Event>("default", &event.metadata.name.unwrap(), &DeleteParams::default())
                .await
                .unwrap();
            break;
        }
    }
}
