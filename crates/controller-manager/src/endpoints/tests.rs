//! Services and pods in, slices and Endpoints out.

use std::collections::HashMap;

use k8s_openapi::api::core::v1::{Pod, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use serde_json::{Value, json};

use super::{slices, subsets};

fn service(more: &Value) -> Service {
    let mut tree = json!({"apiVersion": "v1", "kind": "Service",
        "metadata": {"name": "web", "namespace": "n", "uid": "su", "labels": {"tier": "front"}},
        "spec": {"clusterIP": "10.0.0.1", "ipFamilies": ["IPv4"], "selector": {"app": "web"},
            "ports": [{"name": "http", "port": 80, "targetPort": "serve", "protocol": "TCP"}]}});
    for (k, v) in more.as_object().unwrap() {
        tree["spec"][k] = v.clone();
    }
    serde_json::from_value(tree).unwrap()
}

fn pod(name: &str, ip: &str, ready: bool, more: &Value) -> Pod {
    let mut tree = json!({"apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": name, "namespace": "n", "uid": name, "labels": {"app": "web"}},
        "spec": {"nodeName": "node-1", "containers": [{"name": "c", "ports": [{"name": "serve", "containerPort": 8080, "protocol": "TCP"}]}]},
        "status": {"phase": "Running", "podIP": ip, "podIPs": [{"ip": ip}],
            "conditions": [{"type": "Ready", "status": if ready { "True" } else { "False" }}]}});
    for (k, v) in more.as_object().unwrap() {
        for (inner, value) in v.as_object().unwrap() {
            tree[k][inner] = value.clone();
        }
    }
    serde_json::from_value(tree).unwrap()
}

fn nodes() -> slices::Nodes {
    HashMap::from([("node-1".to_owned(), None)])
}

fn named(mut slice: EndpointSlice, name: &str) -> EndpointSlice {
    slice.metadata.name = Some(name.to_owned());
    slice
}

#[test]
fn pods_become_endpoints_with_their_conditions() {
    let zones = HashMap::from([("node-1".to_owned(), Some("z".to_owned()))]);
    let gone = json!({"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}});
    let ended = json!({"status": {"phase": "Failed"}});
    let pods = [
        pod("a", "10.1.0.1", true, &json!({})),
        pod("b", "10.1.0.2", false, &json!({})),
        pod("c", "10.1.0.3", true, &gone),
        pod("d", "10.1.0.4", true, &ended),
        pod("e", "fd00::1", true, &json!({})),
    ];
    let plan = slices::plan(&service(&json!({})), &pods, &zones, vec![]);
    assert_eq!((plan.create.len(), plan.update.len(), plan.delete.len()), (1, 0, 0));
    let slice = &plan.create[0];
    assert_eq!(slices::port_numbers(slice), [8080].into());
    let labels = slice.metadata.labels.as_ref().unwrap();
    assert_eq!(
        (labels[slices::SERVICE_NAME].as_str(), labels["tier"].as_str()),
        ("web", "front")
    );
    let found: Vec<_> = slice
        .endpoints
        .as_ref()
        .unwrap()
        .iter()
        .map(|e| {
            let c = e.conditions.clone().unwrap();
            (
                e.addresses[0].as_str(),
                c.ready.unwrap(),
                c.serving.unwrap(),
                c.terminating.unwrap(),
            )
        })
        .collect();
    assert_eq!(
        found,
        [
            ("10.1.0.1", true, true, false),
            ("10.1.0.2", false, false, false),
            ("10.1.0.3", false, true, true)
        ]
    );
    assert_eq!(slice.endpoints.as_ref().unwrap()[0].zone.as_deref(), Some("z"));
}

#[test]
fn a_service_without_pods_has_one_empty_slice_of_each_family() {
    let dual = service(&json!({"ipFamilies": ["IPv4", "IPv6"]}));
    let plan = slices::plan(&dual, &[], &nodes(), vec![]);
    assert_eq!(plan.create.len(), 2);
    let kept: Vec<_> = plan
        .create
        .into_iter()
        .enumerate()
        .map(|(i, s)| named(s, &i.to_string()))
        .collect();
    let again = slices::plan(&dual, &[], &nodes(), kept);
    assert_eq!((again.create.len(), again.update.len(), again.delete.len()), (0, 0, 0));
}

#[test]
fn only_the_slices_that_differ_are_written() {
    let service = service(&json!({}));
    let pods: Vec<Pod> = (0..150)
        .map(|i| pod(&format!("p{i:03}"), &format!("10.1.1.{i}"), true, &json!({})))
        .collect();
    let first = slices::plan(&service, &pods, &nodes(), vec![]);
    let sizes: Vec<usize> = first
        .create
        .iter()
        .map(|s| s.endpoints.as_ref().unwrap().len())
        .collect();
    assert_eq!(sizes, [100, 50]);
    let kept: Vec<_> = first
        .create
        .into_iter()
        .enumerate()
        .map(|(i, s)| named(s, &i.to_string()))
        .collect();
    let same = slices::plan(&service, &pods, &nodes(), kept.clone());
    assert_eq!((same.create.len(), same.update.len(), same.delete.len()), (0, 0, 0));
    let fewer = slices::plan(&service, &pods[..100], &nodes(), kept.clone());
    assert_eq!((fewer.create.len(), fewer.update.len(), fewer.delete.len()), (0, 0, 1));
    let none = slices::plan(&service, &[], &nodes(), kept);
    // one of the two becomes the empty one
    assert_eq!((none.create.len(), none.update.len(), none.delete.len()), (0, 1, 1));
    assert_eq!(none.update[0].endpoints.as_ref().unwrap().len(), 0);
}

#[test]
fn a_pod_without_the_named_port_is_listed_without_ports() {
    let asked = json!({"ports": [{"port": 80, "targetPort": "other", "protocol": "TCP"}]});
    let plan = slices::plan(
        &service(&asked),
        &[pod("a", "10.1.0.1", true, &json!({}))],
        &nodes(),
        vec![],
    );
    let slice = &plan.create[0];
    assert_eq!(
        (
            slices::port_numbers(slice).len(),
            slice.endpoints.as_ref().unwrap().len()
        ),
        (0, 1)
    );
}

#[test]
fn a_pod_of_a_node_that_is_gone_is_left_out_and_slices_of_an_earlier_service_go() {
    let pods = [pod("a", "10.1.0.1", true, &json!({}))];
    let plan = slices::plan(&service(&json!({})), &pods, &HashMap::new(), vec![]);
    assert_eq!(plan.create[0].endpoints.as_ref().unwrap().len(), 0);
    let stays = service(&json!({"publishNotReadyAddresses": true}));
    let plan = slices::plan(&stays, &pods, &HashMap::new(), vec![]);
    assert_eq!(plan.create[0].endpoints.as_ref().unwrap().len(), 1);
    let mut earlier = named(plan.create[0].clone(), "s");
    earlier.metadata.owner_references.as_mut().unwrap()[0].uid = "earlier".to_owned();
    let plan = slices::plan(&stays, &pods, &nodes(), vec![earlier]);
    assert_eq!((plan.create.len(), plan.update.len(), plan.delete.len()), (1, 0, 1));
}

#[test]
fn headless_services_name_their_pods() {
    let headless = service(&json!({"clusterIP": "None", "ports": []}));
    let member = pod(
        "a",
        "10.1.0.1",
        false,
        &json!({"spec": {"hostname": "a", "subdomain": "web"}}),
    );
    let plan = slices::plan(&headless, std::slice::from_ref(&member), &nodes(), vec![]);
    let slice = &plan.create[0];
    assert!(slice.metadata.labels.as_ref().unwrap().contains_key(slices::HEADLESS));
    assert_eq!(slice.endpoints.as_ref().unwrap()[0].hostname.as_deref(), Some("a"));
    let endpoints = subsets::plan(&headless, &[member], None).unwrap();
    let subset = &endpoints.subsets.unwrap()[0];
    assert!(subset.ports.is_none() && subset.addresses.is_none());
    assert_eq!(
        subset.not_ready_addresses.as_ref().unwrap()[0].hostname.as_deref(),
        Some("a")
    );
}

#[test]
fn endpoints_group_ports_of_the_same_pods() {
    let two = service(&json!({"ports": [
        {"name": "http", "port": 80, "targetPort": "serve", "protocol": "TCP"},
        {"name": "metrics", "port": 9090, "targetPort": 9090, "protocol": "TCP"}]}));
    let other = json!({"spec": {"containers": [{"name": "c"}]}});
    let pods = [
        pod("a", "10.1.0.1", true, &json!({})),
        pod("b", "10.1.0.2", true, &other),
    ];
    let endpoints = subsets::plan(&two, &pods, None).unwrap();
    let found: Vec<(usize, Vec<i32>)> = endpoints
        .subsets
        .as_ref()
        .unwrap()
        .iter()
        .map(|s| {
            (
                s.addresses.as_ref().unwrap().len(),
                s.ports.as_ref().unwrap().iter().map(|p| p.port).collect(),
            )
        })
        .collect();
    assert_eq!(found, [(1, vec![8080]), (2, vec![9090])]);
    assert!(subsets::plan(&two, &pods, Some(&endpoints)).is_none());
}

#[test]
fn addresses_that_are_not_ready_are_published_when_asked() {
    let eager = service(&json!({"publishNotReadyAddresses": true}));
    let pods = [pod("a", "10.1.0.1", false, &json!({}))];
    let plan = slices::plan(&eager, &pods, &nodes(), vec![]);
    assert_eq!(
        plan.create[0].endpoints.as_ref().unwrap()[0]
            .conditions
            .as_ref()
            .unwrap()
            .ready,
        Some(true)
    );
    assert!(subsets::subsets(&eager, &pods)[0].addresses.is_some());
}
