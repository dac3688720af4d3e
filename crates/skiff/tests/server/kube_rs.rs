//! The client library of Rust's controllers against a server of ours.

use futures::TryStreamExt;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::ConfigMap;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ManagedFieldsEntry;
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Client, Config};
use serde_json::json;

use crate::common::Server;

async fn client(s: &Server) -> Client {
    let kubeconfig = Kubeconfig::read_from(s.kubeconfig()).unwrap();
    let options = KubeConfigOptions::default();
    let config = Config::from_custom_kubeconfig(kubeconfig, &options).await.unwrap();
    Client::try_from(config).unwrap()
}

#[tokio::test]
async fn who_applies_a_scale_has_the_number_of_replicas() {
    let s = Server::start();
    let deployments: Api<Deployment> = Api::namespaced(client(&s).await, "default");
    let made = json!({ "apiVersion": "apps/v1", "kind": "Deployment", "metadata": { "name": "d" }, "spec": {
        "replicas": 1, "selector": { "matchLabels": { "a": "b" } },
        "template": { "metadata": { "labels": { "a": "b" } }, "spec": { "containers": [{ "name": "c", "image": "i" }] } } } });
    let owner = PatchParams::apply("owner");
    deployments.patch("d", &owner, &Patch::Apply(made)).await.unwrap();
    let scale = json!({ "apiVersion": "autoscaling/v1", "kind": "Scale", "metadata": { "name": "d" }, "spec": { "replicas": 3 } });
    let scaler = PatchParams::apply("scaler");
    let conflict = deployments
        .patch_scale("d", &scaler, &Patch::Apply(&scale))
        .await
        .unwrap_err()
        .to_string();
    assert!(conflict.contains("conflict with \"owner\""), "{conflict}");
    let scaled = deployments
        .patch_scale("d", &scaler.force(), &Patch::Apply(&scale))
        .await
        .unwrap();
    assert_eq!(scaled.spec.unwrap().replicas, Some(3));
    let deployment = deployments.get("d").await.unwrap();
    assert_eq!(deployment.spec.replicas, Some(3));
    let of_replicas = |entry: &ManagedFieldsEntry| {
        entry
            .fields_v1
            .as_ref()
            .is_some_and(|f| f.0["f:spec"].get("f:replicas").is_some())
    };
    let entries = deployment
        .metadata
        .managed_fields
        .unwrap_or_default()
        .into_iter()
        .filter(of_replicas);
    let who: Vec<_> = entries
        .map(|e| (e.manager.unwrap(), e.operation.unwrap(), e.subresource.unwrap()))
        .collect();
    assert_eq!(who, [("scaler".into(), "Apply".into(), "scale".into())]);
}

#[tokio::test]
async fn a_kube_rs_client_writes_lists_and_watches() {
    let s = Server::start();
    let client = client(&s).await;
    assert_eq!(
        client.apiserver_version().await.unwrap().minor,
        api::version::MINOR.to_string()
    );
    let maps: Api<ConfigMap> = Api::namespaced(client, "default");
    let named = |name: &str| serde_json::from_value(json!({ "metadata": { "name": name }, "data": { "a": "1" } }));
    let made = maps
        .create(&PostParams::default(), &named("one").unwrap())
        .await
        .unwrap();
    assert!(made.metadata.uid.is_some());
    let selected = watcher::Config::default().fields("metadata.name=one");
    let mut seen = Box::pin(watcher(maps.clone(), selected).applied_objects());
    let mut next = async || {
        let wait = std::time::Duration::from_secs(20);
        tokio::time::timeout(wait, seen.try_next())
            .await
            .unwrap()
            .unwrap()
            .unwrap()
    };
    assert_eq!(next().await.data.unwrap()["a"], "1");
    let change = Patch::Apply(json!({
        "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": "one" }, "data": { "b": "2" },
    }));
    maps.patch("one", &PatchParams::apply("test"), &change).await.unwrap();
    assert_eq!(next().await.data.unwrap()["b"], "2");
    maps.create(&PostParams::default(), &named("two").unwrap())
        .await
        .unwrap();
    let page = maps.list(&ListParams::default().limit(1)).await.unwrap();
    assert_eq!(page.items.len(), 1);
    let rest = ListParams::default().continue_token(&page.metadata.continue_.unwrap());
    let names = maps
        .list(&rest)
        .await
        .unwrap()
        .items
        .into_iter()
        .map(|m| m.metadata.name.unwrap());
    assert_eq!(names.collect::<Vec<_>>(), ["two"]);
    maps.delete("one", &DeleteParams::default()).await.unwrap();
    let gone = maps.get("one").await.unwrap_err();
    assert!(
        matches!(&gone, kube::Error::Api(status) if status.code == 404),
        "{gone}"
    );
}
