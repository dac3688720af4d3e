//! OpenAPI documents: kept while they are right, made again when a definition has changed.

use http::header::{CACHE_CONTROL, ETAG, IF_NONE_MATCH, LOCATION};
use http::{Request, StatusCode};
use http_body_util::BodyExt;
use kube::client::Body;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};

use crate::common::Server;

const DEFINITION: &str = "
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: boats.example.com}
spec:
  group: example.com
  scope: Namespaced
  names: {plural: boats, singular: boat, kind: Boat}
  versions:
  - name: v1
    served: true
    storage: true
    schema:
      openAPIV3Schema: {type: object, properties: {FIELD: {type: string}}}
";

/// The answer's code, tag and text.
async fn get(client: &Client, path: &str, tag: &str) -> (StatusCode, String, String) {
    let request = Request::get(path)
        .header(IF_NONE_MATCH, tag)
        .body(Body::empty())
        .unwrap();
    let response = client.send(request).await.unwrap();
    let (head, body) = response.into_parts();
    let tag = head.headers[ETAG].to_str().unwrap().to_owned();
    let bytes = body.collect().await.unwrap().to_bytes();
    (head.status, tag, String::from_utf8(bytes.to_vec()).unwrap())
}

#[tokio::test]
async fn a_document_changes_with_the_definitions_and_not_otherwise() {
    let s = Server::start();
    let kubeconfig = Kubeconfig::read_from(s.kubeconfig()).unwrap();
    let options = KubeConfigOptions::default();
    let config = Config::from_custom_kubeconfig(kubeconfig, &options).await.unwrap();
    let client = Client::try_from(config).unwrap();
    let (code, before, text) = get(&client, "/openapi/v2", "").await;
    assert_eq!(code, StatusCode::OK);
    assert!(!text.contains("com.example.v1.Boat"));
    let (code, same, text) = get(&client, "/openapi/v2", &before).await;
    assert_eq!(
        (code, same.as_str(), text.as_str()),
        (StatusCode::NOT_MODIFIED, &*before, "")
    );

    s.ok_with(&["apply", "-f", "-"], &DEFINITION.replace("FIELD", "mizzen"));
    s.ok(&["wait", "--for=condition=Established", "crd/boats.example.com"]);
    for path in ["/openapi/v2", "/openapi/v3/apis/example.com/v1"] {
        let (_, tag, text) = get(&client, path, &before).await;
        assert!(
            text.contains("com.example.v1.Boat") && text.contains("mizzen"),
            "{path}"
        );
        s.ok_with(&["apply", "-f", "-"], &DEFINITION.replace("FIELD", "rudder"));
        let (code, _, text) = get(&client, path, &tag).await;
        assert_eq!(code, StatusCode::OK);
        assert!(text.contains("rudder") && !text.contains("mizzen"), "{path}");
        s.ok_with(&["apply", "-f", "-"], &DEFINITION.replace("FIELD", "mizzen"));
    }
    // a hash names what never changes
    let index = || {
        let index: serde_json::Value = serde_json::from_str(&s.ok(&["get", "--raw", "/openapi/v3"])).unwrap();
        let url = &index["paths"]["apis/example.com/v1"]["serverRelativeURL"];
        url.as_str().unwrap().to_owned()
    };
    let url = index();
    let head = |url: String| async {
        let request = Request::get(url).body(Body::empty()).unwrap();
        client.send(request).await.unwrap().into_parts().0
    };
    assert_eq!(head(url.clone()).await.headers[CACHE_CONTROL], "public, immutable");
    s.ok_with(&["apply", "-f", "-"], &DEFINITION.replace("FIELD", "rudder"));
    let moved = head(url.clone()).await;
    assert_eq!(
        (moved.status, moved.headers[LOCATION].to_str().unwrap()),
        (StatusCode::MOVED_PERMANENTLY, &*index())
    );
    assert_ne!(url, index());
    s.ok(&["delete", "crd", "boats.example.com"]);
    let (code, tag, _) = get(&client, "/openapi/v2", "").await;
    assert_eq!((code, tag), (StatusCode::OK, before));
}

#[test]
fn documents_say_what_can_be_asked_and_with_which_values() {
    let s = Server::start();
    let document = |place: &str| -> serde_json::Value {
        serde_json::from_str(&s.ok(&["get", "--raw", &format!("/openapi/v3/{place}")])).unwrap()
    };
    let core = document("api/v1");
    let log = &core["paths"]["/api/v1/namespaces/{namespace}/pods/{name}/log"];
    assert_eq!(log["get"]["operationId"], "readCoreV1NamespacedPodLog");
    let names = |parameters: &serde_json::Value| -> Vec<String> {
        let all = parameters.as_array().unwrap().iter();
        all.map(|p| p["name"].as_str().unwrap().to_owned()).collect()
    };
    // one operation: all parameters are the path's, those of its options among them
    assert_eq!(
        names(&log["parameters"]),
        [
            "container",
            "follow",
            "insecureSkipTLSVerifyBackend",
            "limitBytes",
            "name",
            "namespace",
            "pretty",
            "previous",
            "sinceSeconds",
            "stream",
            "tailLines",
            "timestamps"
        ]
    );
    let pods = &core["paths"]["/api/v1/namespaces/{namespace}/pods/{name}"];
    assert_eq!(names(&pods["parameters"]), ["name", "namespace", "pretty"]);
    let patch = ["dryRun", "fieldManager", "fieldValidation", "force"];
    assert_eq!(names(&pods["patch"]["parameters"]), patch);
    let schemas = &core["components"]["schemas"];
    let container = &schemas["io.k8s.api.core.v1.Container"]["properties"];
    assert_eq!(
        container["imagePullPolicy"]["enum"],
        serde_json::json!(["Always", "IfNotPresent", "Never"])
    );
    // the fields of an embedded struct are said as those of the whole
    let ephemeral = &schemas["io.k8s.api.core.v1.EphemeralContainer"]["properties"]["env"];
    assert_eq!(ephemeral["x-kubernetes-list-map-keys"], serde_json::json!(["name"]));
    let time = &schemas["io.k8s.apimachinery.pkg.apis.meta.v1.Time"];
    assert_eq!(
        (&time["type"], &time["format"]),
        (&"string".into(), &"date-time".into())
    );

    let reviews = document("apis/authorization.k8s.io/v1");
    let path = "/apis/authorization.k8s.io/v1/subjectaccessreviews";
    assert_eq!(
        reviews["paths"][path]["post"]["operationId"],
        "createAuthorizationV1SubjectAccessReview"
    );
    for (place, path) in [("apis/apps", "/apis/apps/"), ("version", "/version/"), ("api", "/api/")] {
        assert!(document(place)["paths"][path]["get"].is_object(), "{place}");
    }
    assert!(
        s.ok(&["explain", "pod.spec.restartPolicy"])
            .contains("ENUM:\n    Always\n    Never\n    OnFailure")
    );
    assert!(
        s.ok(&["explain", "subjectaccessreview.spec"])
            .contains("resourceAttributes")
    );
}
