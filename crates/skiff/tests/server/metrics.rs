//! What a server counts, held against the list of what upstream's components count.

use std::collections::BTreeSet;

use crate::common::Server;
use crate::prometheus::{compare, file, is_of_nodes, parse, read_by_prometheus};

/// A definition with a rule, a policy with a binding that denies, and what both are asked about.
const OBJECTS: &str = r#"
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: foos.ex.io}
spec:
  group: ex.io
  scope: Namespaced
  names: {plural: foos, kind: Foo}
  versions:
  - name: v1
    served: true
    storage: true
    schema:
      openAPIV3Schema:
        type: object
        properties:
          size: {type: integer}
        x-kubernetes-validations:
        - {rule: "!has(self.size) || self.size < 10"}
---
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicy
metadata: {name: small.ex.io}
spec:
  matchConstraints: {resourceRules: [{apiGroups: [""], apiVersions: [v1], operations: [CREATE], resources: [configmaps]}]}
  validations: [{expression: "!object.metadata.name.startsWith('large')"}]
---
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicyBinding
metadata: {name: small.ex.io}
spec: {policyName: small.ex.io, validationActions: [Deny]}
---
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingWebhookConfiguration
metadata: {name: nobody.ex.io}
webhooks:
- name: nobody.ex.io
  admissionReviewVersions: [v1]
  sideEffects: None
  failurePolicy: Ignore
  timeoutSeconds: 1
  clientConfig: {url: "https://127.0.0.1:9/"}
  rules: [{apiGroups: [""], apiVersions: [v1], operations: [CREATE], resources: [configmaps]}]
"#;

const NODE: &str = "{apiVersion: v1, kind: Node, metadata: {name: nobody, labels: {topology.kubernetes.io/zone: z}}}";

/// A Service, a pod that no node has room for, a Job that ends well and one whose failure ends it, and an autoscaler that nobody tells a metric.
const WORK: &str = r#"
apiVersion: v1
kind: Service
metadata: {name: near, namespace: default}
spec: {selector: {a: b}, ports: [{port: 80}], trafficDistribution: PreferSameZone}
---
apiVersion: v1
kind: Pod
metadata: {name: large, namespace: default}
spec: {containers: [{name: c, image: x, resources: {requests: {cpu: "100"}, limits: {cpu: "100"}}}]}
---
apiVersion: batch/v1
kind: Job
metadata: {name: done, namespace: default}
spec:
  parallelism: 12
  completions: 12
  template: {spec: {restartPolicy: Never, containers: [{name: c, image: x}]}}
---
apiVersion: batch/v1
kind: Job
metadata: {name: spoilt, namespace: default}
spec:
  podFailurePolicy: {rules: [{action: FailJob, onExitCodes: {operator: In, values: [42]}}]}
  template: {spec: {restartPolicy: Never, containers: [{name: c, image: x}]}}
---
apiVersion: v1
kind: ReplicationController
metadata: {name: scaled, namespace: default}
spec:
  replicas: 1
  selector: {app: scaled}
  template: {metadata: {labels: {app: scaled}}, spec: {containers: [{name: c, image: x}]}}
---
apiVersion: autoscaling/v2
kind: HorizontalPodAutoscaler
metadata: {name: scaled, namespace: default}
spec: {maxReplicas: 3, scaleTargetRef: {apiVersion: v1, kind: ReplicationController, name: scaled}}
"#;

#[test]
fn a_server_counts_what_upstreams_components_count() {
    let s = Server::start_with(&["--disable-agent"]);
    let waited = |args: &[&str], what: &str| s.ok(&[&["wait", "--timeout=30s", what][..], args].concat());
    s.ok_with(&["apply", "-f", "-"], OBJECTS);
    s.ok(&["wait", "--for=condition=Established", "crd/foos.ex.io"]);
    let foo = "{apiVersion: ex.io/v1, kind: Foo, metadata: {name: a, namespace: default}, size: 3}";
    s.ok_with(&["create", "-f", "-"], foo);
    s.ok(&["create", "configmap", "small"]);
    s.fails(&["create", "configmap", "large"], "");
    s.ok(&["get", "endpoints"]);
    s.ok(&["get", "--raw", "/readyz"]);
    // a watch that shows what there is, and ends
    let watch = "/api/v1/configmaps?watch=1&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true&timeoutSeconds=1";
    s.ok(&["get", "--raw", watch]);
    // whoever is not exempt from flow control
    s.ok(&[
        "get",
        "--raw",
        "/version",
        "--as=someone",
        "--as-group=system:authenticated",
    ]);
    // a node that nobody is, and what runs on it by our word
    s.ok_with(&["create", "-f", "-"], NODE);
    let status = r#"{"status": {"capacity": {"cpu": "8", "memory": "8Gi", "pods": "20"}, "allocatable": {"cpu": "8", "memory": "8Gi", "pods": "20"},
        "conditions": [{"type": "Ready", "status": "True", "reason": "KubeletReady", "message": "it is"}]}}"#;
    s.ok(&[
        "patch",
        "node",
        "nobody",
        "--subresource=status",
        "--type=merge",
        "-p",
        status,
    ]);
    s.ok_with(&["create", "-f", "-"], WORK);
    let scheduled = "--for=jsonpath={.spec.nodeName}=nobody";
    waited(&["pods", "-l", "batch.kubernetes.io/job-name"], scheduled);
    waited(&["pod", "large"], "--for=condition=PodScheduled=false");
    for (job, phase, code) in [("done", "Succeeded", 0), ("spoilt", "Failed", 42)] {
        let label = format!("batch.kubernetes.io/job-name={job}");
        let pods = s.ok(&["get", "pods", "-l", &label, "-o", "name"]);
        for pod in pods.lines() {
            let ended = format!(
                r#"{{"status": {{"phase": "{phase}", "containerStatuses": [{{"name": "c", "image": "x", "imageID": "x", "ready": false,
                    "restartCount": 0, "state": {{"terminated": {{"exitCode": {code}}}}}}}]}}}}"#
            );
            s.ok(&["patch", pod, "--subresource=status", "--type=merge", "-p", &ended]);
        }
    }
    waited(&["job", "done"], "--for=condition=Complete");
    waited(&["job", "spoilt"], "--for=condition=Failed");
    waited(&["hpa", "scaled"], "--for=condition=ScalingActive=false");
    let pages = ["/metrics", "/metrics/slis", "/metrics/resources"];
    let texts = pages.map(|page| s.ok(&["get", "--raw", page]) + "\n");
    let [text, ..] = &texts;
    let mut page = parse(text);
    page.extend(texts[1..].iter().flat_map(|text| parse(text)));
    let (mut wrong, found) = compare(&page);
    let absent = file("absent.txt");
    let absent: BTreeSet<&str> = absent
        .lines()
        .filter(|line| !line.starts_with('#'))
        .map(|line| line.split_once('\t').unwrap().0)
        .collect();
    for line in file("upstream.tsv").lines() {
        let name = line.split('\t').next().unwrap();
        if is_of_nodes(name) {
            continue;
        }
        match (found.contains(name), absent.contains(name)) {
            (false, false) => wrong.push(format!("{name} is not there")),
            (true, true) => wrong.push(format!("{name} is there: take it off the list of those that are not")),
            _ => {}
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    texts.iter().for_each(|text| read_by_prometheus(text));
    let value = |series: &str| {
        let all = page.values().flat_map(|shown| &shown.values);
        let mut found = all.filter(|(name, _)| name == series);
        found.next().unwrap_or_else(|| panic!("{series} is not there")).1
    };
    let of = |group: &str, resource: &str, verb: &str, version: &str| {
        format!(
            "apiserver_request_total{{code=\"201\",component=\"apiserver\",dry_run=\"\",group=\"{group}\",resource=\"{resource}\",\
             scope=\"resource\",subresource=\"\",verb=\"{verb}\",version=\"{version}\"}}"
        )
    };
    assert_eq!(value(&of("ex.io", "foos", "POST", "v1")) as u64, 1);
    let deprecated = "apiserver_requested_deprecated_apis{group=\"\",removed_release=\"\",resource=\"endpoints\",subresource=\"\",version=\"v1\"}";
    assert_eq!(value(deprecated) as u64, 1);
    let denied = "apiserver_validating_admission_policy_check_total{enforcement_action=\"deny\",error_type=\"invalid_error\",\
                  policy=\"small.ex.io\",policy_binding=\"small.ex.io\"}";
    assert_eq!(value(denied) as u64, 1);
    assert!(value("apiserver_storage_objects{resource=\"namespaces\"}") >= 4.0);
    assert!(value("apiserver_storage_size_bytes{storage_cluster_id=\"etcd-0\"}") > 1000.0);
    let admitted = "apiserver_admission_controller_admission_duration_seconds_count{name=\"NamespaceLifecycle\",operation=\"CREATE\",\
                    rejected=\"false\",type=\"admit\"}";
    assert!(value(admitted) >= 3.0);
}

/// A component of skiff in a process of its own, ended with the test.
struct Alone(std::process::Child);

impl Drop for Alone {
    fn drop(&mut self) {
        // it may have ended already
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

#[test]
fn the_scheduler_and_the_controllers_alone_show_themselves_to_whom_the_api_server_lets() {
    let s = Server::start();
    s.ok(&["create", "serviceaccount", "reader", "-n", "kube-system"]);
    s.ok(&[
        "create",
        "clusterrole",
        "reader",
        "--verb=get",
        "--non-resource-url=/metrics",
    ]);
    s.ok(&[
        "create",
        "clusterrolebinding",
        "reader",
        "--clusterrole=reader",
        "--serviceaccount=kube-system:reader",
    ]);
    let tokens = ["reader", "default"].map(|account| {
        let _ = s.try_with(&["create", "serviceaccount", account, "-n", "kube-system"], "");
        s.ok(&["create", "token", account, "-n", "kube-system"])
    });
    let kubeconfig = s.kubeconfig();
    let kubeconfig = kubeconfig.to_str().unwrap();
    for (program, metric) in [
        ("kube-scheduler", "scheduler_pending_pods"),
        ("kube-controller-manager", "running_managed_controllers"),
    ] {
        // the port is another's for a moment at most
        let port = std::net::TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap()
            .port();
        let child = std::process::Command::new(env!("CARGO_BIN_EXE_skiff"))
            .args([program, "--leader-elect=false", "--bind-address=127.0.0.1"])
            .args(
                [
                    "--kubeconfig",
                    "--authentication-kubeconfig",
                    "--authorization-kubeconfig",
                ]
                .map(|flag| format!("{flag}={kubeconfig}")),
            )
            .arg(format!("--secure-port={port}"))
            .spawn();
        let _alone = Alone(child.unwrap());
        let ask = |path: &str, more: &[&str]| {
            let url = format!("https://127.0.0.1:{port}{path}");
            let output = std::process::Command::new("curl")
                .args(["-sk", "-w", "\n%{http_code}", &url])
                .args(more)
                .output();
            let text = String::from_utf8(output.unwrap().stdout).unwrap();
            let (body, code) = text.rsplit_once('\n').unwrap();
            (body.to_owned(), code.to_owned())
        };
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(30);
        while ask("/healthz", &[]).1 != "200" {
            assert!(std::time::Instant::now() < deadline, "{program} does not answer");
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
        let verbose = ask("/readyz?verbose", &[]);
        assert_eq!(
            verbose,
            ("[+]ping ok\n[+]shutdown ok\nreadyz check passed\n".into(), "200".into())
        );
        let (refusal, code) = ask("/metrics", &[]);
        assert_eq!(
            (refusal.as_str(), code.as_str()),
            (
                "forbidden: User \"system:anonymous\" cannot get path \"/metrics\"\n",
                "403"
            )
        );
        let bearer = tokens.clone().map(|token| format!("Authorization: Bearer {token}"));
        assert_eq!(ask("/metrics", &["-H", &bearer[1]]).1, "403");
        assert_eq!(ask("/metrics", &["-H", "Authorization: Bearer nonsense"]).1, "401");
        while !ask("/metrics", &["-H", &bearer[0]]).0.contains(metric) {
            assert!(std::time::Instant::now() < deadline, "{program} does not begin");
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
        let (text, code) = ask("/metrics", &["-H", &bearer[0]]);
        assert_eq!(code, "200");
        let (wrong, found) = compare(&parse(&text));
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
        assert!(
            found.contains(metric) && found.contains("kubernetes_build_info"),
            "{found:?}"
        );
        read_by_prometheus(&text);
    }
}
