//! Webhooks that convert custom resources.

use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

use crate::common::Server;
use crate::webhooks::Webhook;

fn converted(review: &Value, convert: impl Fn(&Value) -> Value) -> (u16, String) {
    let request = &review["request"];
    let objects: Vec<Value> = request["objects"].as_array().unwrap().iter().map(convert).collect();
    let response = json!({ "uid": request["uid"], "result": { "status": "Success" }, "convertedObjects": objects });
    let answer = json!({ "kind": "ConversionReview", "apiVersion": "apiextensions.k8s.io/v1", "response": response });
    (200, answer.to_string())
}

/// Moves `spec.size` of version v1 to `spec.length` of version v2 and back.
fn convert(review: &Value) -> (u16, String) {
    let to = review["request"]["desiredAPIVersion"].clone();
    converted(review, |object| {
        let mut made = object.clone();
        made["apiVersion"] = to.clone();
        let (from, into) = if to == "example.org/v2" {
            ("size", "length")
        } else {
            ("length", "size")
        };
        let spec = made["spec"].as_object_mut().unwrap();
        if let Some(value) = spec.remove(from) {
            spec.insert(into.to_owned(), value);
        }
        // what a webhook makes of other metadata does not count
        made["metadata"]["generation"] = json!(99);
        made
    })
}

/// A definition of Ropes in two versions, of which one is stored.
fn ropes(w: &Webhook, path: &str, stored: &str) -> String {
    let version = |name: &str, field: &str| {
        let spec = json!({ "type": "object", "properties": { field: { "type": "integer" } } });
        let schema = json!({ "type": "object", "properties": { "spec": spec } });
        json!({ "name": name, "served": true, "storage": name == stored, "schema": { "openAPIV3Schema": schema } })
    };
    let webhook =
        json!({ "conversionReviewVersions": ["v1"], "clientConfig": { "url": w.url(path), "caBundle": w.bundle() } });
    let definition = json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition", "metadata": { "name": "ropes.example.org" },
        "spec": {
            "group": "example.org", "scope": "Namespaced", "names": { "plural": "ropes", "kind": "Rope" },
            "versions": [version("v1", "size"), version("v2", "length")],
            "conversion": { "strategy": "Webhook", "webhook": webhook },
        },
    });
    definition.to_string()
}

#[test]
fn a_webhook_converts_custom_objects_many_at_once_and_each_once() {
    let s = Server::start();
    let w = Webhook::start(|path, review| match path {
        "/convert" => convert(review),
        _ => (500, String::new()),
    });
    s.ok_with(&["apply", "-f", "-"], &ropes(&w, "/convert", "v1"));
    s.ok(&["wait", "--for=condition=Established", "crd/ropes.example.org"]);
    let rope = |n: usize| json!({ "apiVersion": "example.org/v1", "kind": "Rope", "metadata": { "name": format!("r{n:02}") }, "spec": { "size": n } });
    let list = json!({ "apiVersion": "v1", "kind": "List", "items": (0..20).map(rope).collect::<Vec<_>>() });
    s.ok_with(&["create", "-f", "-"], &list.to_string());
    assert!(w.take().is_empty(), "what is stored as it is sent is not converted");

    let read = |of: &str, path: &str| s.ok(&["get", of, "-o", &format!("jsonpath={path}")]);
    let all = "{.items[*].spec.length}";
    let numbers: Vec<String> = (0..20).map(|n| n.to_string()).collect();
    assert_eq!(read("ropes.v2.example.org", all), numbers.join(" "));
    let reviews = w.take();
    assert_eq!(reviews.len(), 1);
    assert_eq!(reviews[0]["request"]["objects"].as_array().unwrap().len(), 20);
    assert_eq!(reviews[0]["request"]["desiredAPIVersion"], "example.org/v2");
    assert_eq!(read("ropes.v2.example.org", all), numbers.join(" "));
    assert!(w.take().is_empty(), "what was converted is kept");

    // a write in the other version is stored in that of the definition
    let mut other = rope(7);
    other["apiVersion"] = json!("example.org/v2");
    other["spec"] = json!({ "length": 70 });
    s.ok_with(&["replace", "-f", "-"], &other.to_string());
    let seventh = |version: &str, path: &str| {
        let of = format!("ropes.{version}.example.org/r07");
        s.ok(&["get", &of, "-o", &format!("jsonpath={path}")])
    };
    assert_eq!(seventh("v1", "{.spec.size} {.metadata.generation}"), "70 2");
    assert_eq!(seventh("v2", "{.spec.length} {.metadata.generation}"), "70 2");

    // what was stored before stays readable when another version is stored, and is stored anew when it is written
    s.ok_with(&["apply", "-f", "-"], &ropes(&w, "/convert", "v2"));
    let stored = s.ok(&[
        "get",
        "crd",
        "ropes.example.org",
        "-o",
        "jsonpath={.status.storedVersions}",
    ]);
    assert_eq!(stored, r#"["v1","v2"]"#);
    assert_eq!(
        read("ropes.v2.example.org", all),
        numbers.join(" ").replace(" 7 ", " 70 ")
    );
    assert_eq!(
        read("ropes.v1.example.org", "{.items[*].spec.size}"),
        numbers.join(" ").replace(" 7 ", " 70 ")
    );

    // a webhook that fails is told of
    s.ok_with(&["apply", "-f", "-"], &ropes(&w, "/broken", "v2"));
    let told = s.fails(&["get", "ropes.v2.example.org", "r08"], "");
    assert!(
        told.contains("conversion webhook for example.org/v1, Kind=Rope failed: an error on the server"),
        "{told}"
    );
}

#[test]
fn a_slow_conversion_holds_up_nobody_who_wants_another_object() {
    let s = Server::start();
    // each of two conversions is answered once both are asked for
    let (both, asked) = (Arc::new(std::sync::Barrier::new(2)), Arc::new(Mutex::new(0)));
    let (met, counted) = (both.clone(), asked.clone());
    let w = Webhook::start(move |_, review| {
        *counted.lock().unwrap() += 1;
        met.wait();
        convert(review)
    });
    s.ok_with(&["apply", "-f", "-"], &ropes(&w, "/convert", "v1"));
    s.ok(&["wait", "--for=condition=Established", "crd/ropes.example.org"]);
    let rope = |name: &str| json!({ "apiVersion": "example.org/v1", "kind": "Rope", "metadata": { "name": name }, "spec": { "size": 1 } });
    let list = json!({ "apiVersion": "v1", "kind": "List", "items": [rope("a"), rope("b")] });
    s.ok_with(&["create", "-f", "-"], &list.to_string());

    let get = |name: &str| s.ok(&["get", "ropes.v2.example.org", name, "-o", "jsonpath={.spec.length}"]);
    let found = std::thread::scope(|threads| {
        let other = threads.spawn(|| get("a"));
        (get("b"), other.join().unwrap())
    });
    assert_eq!(found, ("1".to_owned(), "1".to_owned()));
    assert_eq!(*asked.lock().unwrap(), 2);
}

/// Splits `hostPort` of version v1 into `host` and `port` of version v2, and joins them; a label names the version.
fn convert_place(review: &Value) -> (u16, String) {
    let to = review["request"]["desiredAPIVersion"].clone();
    converted(review, |object| {
        let mut made = json!({ "apiVersion": to, "kind": object["kind"], "metadata": object["metadata"] });
        made["metadata"]["labels"] = json!({ "version": to.as_str().unwrap().trim_start_matches("example.org/") });
        match object["hostPort"].as_str() {
            Some(joined) => {
                let (host, port) = joined.split_once(':').unwrap();
                made["host"] = json!(host);
                made["port"] = json!(port);
            }
            None => {
                let part = |name: &str| object[name].as_str().unwrap_or_default().to_owned();
                made["hostPort"] = json!(format!("{}:{}", part("host"), part("port")));
            }
        }
        made
    })
}

#[test]
fn selectors_of_a_version_choose_by_what_a_webhook_makes_of_objects_for_it() {
    let s = Server::start();
    let w = Webhook::start(|_, review| convert_place(review));
    let version = |name: &str, fields: &[&str]| {
        let properties: Value = fields
            .iter()
            .map(|f| ((*f).to_owned(), json!({ "type": "string" })))
            .collect();
        let selectable: Vec<Value> = fields.iter().map(|f| json!({ "jsonPath": format!(".{f}") })).collect();
        json!({ "name": name, "served": true, "storage": name == "v1", "selectableFields": selectable,
            "schema": { "openAPIV3Schema": { "type": "object", "properties": properties } } })
    };
    let definition = json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition", "metadata": { "name": "places.example.org" },
        "spec": {
            "group": "example.org", "scope": "Namespaced", "names": { "plural": "places", "kind": "Place" },
            "versions": [version("v1", &["hostPort"]), version("v2", &["host", "port"])],
            "conversion": { "strategy": "Webhook", "webhook": {
                "conversionReviewVersions": ["v1"], "clientConfig": { "url": w.url("/"), "caBundle": w.bundle() },
            } },
        },
    });
    s.ok_with(&["apply", "-f", "-"], &definition.to_string());
    s.ok(&["wait", "--for=condition=Established", "crd/places.example.org"]);
    let list: Value = serde_json::from_str(&s.ok(&["get", "--raw", "/apis/example.org/v2/places"])).unwrap();
    let start = list["metadata"]["resourceVersion"].as_str().unwrap().to_owned();
    for (name, host, port) in [("a", "one", "80"), ("b", "one", "8080"), ("c", "two", "80")] {
        let place = json!({ "apiVersion": "example.org/v2", "kind": "Place", "metadata": { "name": name }, "host": host, "port": port });
        s.ok_with(&["create", "-f", "-"], &place.to_string());
    }
    let selected = |of: &str, by: &[&str]| {
        let arguments = [&["get", of, "-o", "jsonpath={.items[*].metadata.name}"], by].concat();
        s.ok(&arguments)
    };
    let by_field = |of: &str, fields: &str| selected(of, &["--field-selector", fields]);
    assert_eq!(by_field("places.v2.example.org", "host=one"), "a b");
    assert_eq!(by_field("places.v2.example.org", "host=one,port=80"), "a");
    assert_eq!(by_field("places.v2.example.org", "port!=80"), "b");
    assert_eq!(by_field("places.v1.example.org", "hostPort=one:8080"), "b");
    assert_eq!(selected("places.v2.example.org", &["-l", "version=v2"]), "a b c");
    assert_eq!(selected("places.v2.example.org", &["-l", "version=v1"]), "");
    // pages of what is selected
    let page = s.ok(&[
        "get",
        "--raw",
        "/apis/example.org/v2/namespaces/default/places?fieldSelector=port%3D80&limit=1",
    ]);
    let page: Value = serde_json::from_str(&page).unwrap();
    assert_eq!(page["items"][0]["metadata"]["name"], "a");
    let rest = page["metadata"]["continue"].as_str().unwrap();
    let rest = s.ok(&[
        "get",
        "--raw",
        &format!("/apis/example.org/v2/namespaces/default/places?fieldSelector=port%3D80&limit=1&continue={rest}"),
    ]);
    let rest: Value = serde_json::from_str(&rest).unwrap();
    assert_eq!(
        (
            rest["items"].as_array().unwrap().len(),
            &rest["items"][0]["metadata"]["name"]
        ),
        (1, &json!("c"))
    );
    let told = s.fails(
        &["get", "places.v2.example.org", "--field-selector", "hostPort=one:80"],
        "",
    );
    assert!(told.contains("field label not supported: hostPort"), "{told}");

    // one is deleted by its fields, one leaves what is selected
    let gone = s.ok(&[
        "delete",
        "places.v2.example.org",
        "--field-selector",
        "host=one,port=80",
    ]);
    assert_eq!(gone, "place.example.org \"a\" deleted from default namespace");
    s.ok(&[
        "patch",
        "places.v2.example.org",
        "b",
        "--type=merge",
        "-p",
        r#"{"host":"two"}"#,
    ]);
    assert_eq!(by_field("places.v2.example.org", "host=two"), "b c");
    let watched = |version: &str, fields: &str| {
        // all has happened: what is told of the past comes before the end of the watch
        let path = format!(
            "/apis/example.org/{version}/namespaces/default/places?watch=1&timeoutSeconds=1&resourceVersion={start}&fieldSelector={fields}"
        );
        let told = s.ok(&["get", "--raw", &path]);
        let events = told.lines().map(|line| {
            let event: Value = serde_json::from_str(line).unwrap();
            format!(
                "{} {} {}",
                event["type"].as_str().unwrap(),
                event["object"]["metadata"]["name"].as_str().unwrap(),
                event["object"]["host"]
            )
        });
        events.collect::<Vec<_>>().join(", ")
    };
    assert_eq!(
        watched("v2", "host%3Done"),
        r#"ADDED a "one", ADDED b "one", DELETED a "one", DELETED b "one""#
    );
    assert_eq!(
        watched("v2", "host%3Done,port%3D80"),
        r#"ADDED a "one", DELETED a "one""#
    );
    assert_eq!(watched("v1", "hostPort%3Done:80"), "ADDED a null, DELETED a null");
}
