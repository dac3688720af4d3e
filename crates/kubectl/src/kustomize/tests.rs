//! Whole kustomizations; the expected objects are kustomize's own.

use std::path::Path;

use serde_json::{Value, json};

use super::*;

fn write(dir: &Path, files: &[(&str, &str)]) {
    for (name, text) in files {
        let path = dir.join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }
}

fn built(files: &[(&str, &str)], dir: &str) -> Result<Vec<Value>> {
    let root = tempfile::tempdir().unwrap();
    write(root.path(), files);
    build(&root.path().join(dir), &mut |_| {})
}

const DEPLOYMENT: &str = "apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  replicas: 1
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      containers:
      - {name: web, image: nginx, envFrom: [{configMapRef: {name: conf}}]}
";

#[test]
fn a_base_and_an_overlay_are_put_together() {
    let files = [
        (
            "base/kustomization.yaml",
            "resources: [web.yaml]\nconfigMapGenerator:\n- {name: conf, literals: [a=b]}\n",
        ),
        ("base/web.yaml", DEPLOYMENT),
        (
            "over/kustomization.yaml",
            "resources: [../base]\nnamePrefix: p-\nnamespace: ns\nlabels:\n- {pairs: {team: x}, includeSelectors: true}\nimages:\n- {name: nginx, newTag: \"1\"}\nreplicas:\n- {name: web, count: 3}\npatches:\n- patch: |-\n    - {op: add, path: /metadata/annotations, value: {k: v}}\n  target: {kind: Deployment}\n",
        ),
    ];
    let objects = built(&files, "over").unwrap();
    let name = "p-conf-9mbch64g5k";
    assert_eq!(objects[0]["metadata"]["namespace"], "ns");
    assert_eq!(objects[0]["metadata"]["labels"], json!({"team": "x"}));
    let generated = objects[0]["metadata"]["name"].as_str().unwrap();
    assert!(
        generated.starts_with("p-conf-") && generated.len() == name.len(),
        "{generated}"
    );
    let web = &objects[1];
    assert_eq!(
        web["metadata"],
        json!({"name": "p-web", "namespace": "ns", "labels": {"team": "x"}, "annotations": {"k": "v"}})
    );
    assert_eq!(web["spec"]["replicas"], 3);
    assert_eq!(
        web["spec"]["selector"],
        json!({"matchLabels": {"app": "web", "team": "x"}})
    );
    let container = &web["spec"]["template"]["spec"]["containers"][0];
    assert_eq!(container["image"], "nginx:1");
    assert_eq!(container["envFrom"][0]["configMapRef"]["name"], generated);
}

#[test]
fn what_is_not_built_or_not_there_is_told() {
    let one = |text: &str| built(&[("kustomization.yaml", text)], "").unwrap_err().to_string();
    assert_eq!(
        one("helmCharts: []\n"),
        "the field helmCharts of kustomizations is not supported"
    );
    assert_eq!(one("foo: 1\n"), "invalid Kustomization: json: unknown field \"foo\"");
    assert_eq!(one("kind: Kustomization\n"), "kustomization.yaml is empty");
    assert!(one("resources: [../x.yaml]\n").contains("x.yaml"));
    let outside = built(
        &[
            ("a/kustomization.yaml", "resources: [../x.yaml]\n"),
            ("x.yaml", DEPLOYMENT),
        ],
        "a",
    )
    .unwrap_err()
    .to_string();
    assert!(outside.contains("security; file '"), "{outside}");
    assert!(
        built(&[("x.yaml", "")], "")
            .unwrap_err()
            .to_string()
            .starts_with("unable to find one of 'kustomization.yaml'")
    );
    let cycle = built(&[("kustomization.yaml", "resources: [.]\n")], "")
        .unwrap_err()
        .to_string();
    assert!(cycle.contains("cycle detected"), "{cycle}");
}
