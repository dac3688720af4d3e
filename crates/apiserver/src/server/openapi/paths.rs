//! The paths of a resource, and the operations on them, as upstream's installer of the API has them.

use api::schema::Schema;
use serde_json::{Map, Value, json};

use super::parameters::{self, Parameter};
use super::place;
use crate::registry::resource::{Resource, Subresource};

const META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.";
const PROTOBUF: &str = "application/vnd.kubernetes.protobuf";

/// A kind and the component of its objects.
#[derive(Debug, Clone)]
pub struct Body {
    pub group: String,
    pub version: String,
    pub kind: String,
    pub component: String,
}

/// A resource as its paths need it.
pub struct Paths<'a> {
    pub resource: &'a Resource,
    /// What the objects are.
    pub object: Body,
    pub list: String,
    /// The kinds of subresources, in their order; those that only connect have no component.
    pub bodies: Vec<Body>,
}

/// What an operation is before it stands at its path.
struct Operation {
    method: &'static str,
    id: String,
    text: String,
    action: &'static str,
    of: Body,
    parameters: Vec<Parameter>,
    /// What is sent, as which media types, and whether it must be.
    sent: Option<(Vec<&'static str>, String, bool)>,
    /// What is answered, by status.
    codes: &'static [(&'static str, &'static str)],
    answer: Value,
    media: Vec<&'static str>,
}

const READ: &[(&str, &str)] = &[("200", "OK")];
const CREATE: &[(&str, &str)] = &[("200", "OK"), ("201", "Created"), ("202", "Accepted")];
const UPDATE: &[(&str, &str)] = &[("200", "OK"), ("201", "Created")];
const DELETE: &[(&str, &str)] = &[("200", "OK"), ("202", "Accepted")];

/// `RbacAuthorization` for `rbac.authorization.k8s.io`, `Core` for the group without a name.
pub fn camel(group: &str) -> String {
    let group = match group.strip_suffix(".k8s.io").unwrap_or(group) {
        "" => "core",
        group => group,
    };
    group.split(['.', '-']).map(capital).collect()
}

fn capital(word: &str) -> String {
    let mut chars = word.chars();
    let first = chars.next().map(|c| c.to_ascii_uppercase());
    first.into_iter().chain(chars).collect()
}

/// `rbacAuthorization` for `rbac.authorization.k8s.io`.
pub fn tag(group: &str) -> String {
    let name = camel(group);
    let mut chars = name.chars();
    let first = chars.next().map(|c| c.to_ascii_lowercase());
    first.into_iter().chain(chars).collect()
}

/// The noun with its article.
fn a(noun: &str) -> String {
    let vowel = noun.chars().next().is_some_and(|c| "AEIOUaeiou".contains(c));
    format!("{} {noun}", if vowel { "an" } else { "a" })
}

fn reference(component: &str) -> Value {
    api::openapi::reference(component)
}

impl Paths<'_> {
    /// Adds them all.
    pub fn add(&self, schema: &Schema, paths: &mut Map<String, Value>) {
        let r = self.resource;
        let place = place(r);
        let (home, within): (String, Vec<Parameter>) = match r.namespaced {
            true => ("namespaces/{namespace}/".into(), vec![parameters::namespace()]),
            false => (String::new(), Vec::new()),
        };
        let base = format!("/{place}/{home}{}", r.plural);
        let named = [&within[..], &[parameters::name(&r.kind)]].concat();
        put(paths, base.clone(), &self.tag(), &self.of_collection(), &within);
        put(
            paths,
            format!("{base}/{{name}}"),
            &self.tag(),
            &self.of_object(),
            &named,
        );
        if r.namespaced && self.can("list") {
            put(
                paths,
                format!("/{place}/{}", r.plural),
                &self.tag(),
                &[self.list("ForAllNamespaces", "")],
                &[],
            );
        }
        if self.can("watch") && !r.is_custom() {
            let watched = |home: &str| format!("/{place}/watch/{home}{}", r.plural);
            put(
                paths,
                watched(&home),
                &self.tag(),
                &[self.watch_list(self.home(), "")],
                &within,
            );
            put(
                paths,
                format!("{}/{{name}}", watched(&home)),
                &self.tag(),
                &[self.watch()],
                &named,
            );
            if r.namespaced {
                put(
                    paths,
                    watched(""),
                    &self.tag(),
                    &[self.watch_list("", "ForAllNamespaces")],
                    &[],
                );
            }
        }
        for (sub, body) in r.subresources.iter().zip(&self.bodies) {
            let named = [&within[..], &[parameters::name(&body.kind)]].concat();
            let at = format!("{base}/{{name}}/{}", sub.name);
            let (operations, through) = self.of_subresource(schema, sub, body);
            put(paths, at.clone(), &self.tag(), &operations, &named);
            if let Some(operations) = through {
                let named = [&named[..], &[parameters::path()]].concat();
                put(paths, format!("{at}/{{path}}"), &self.tag(), &operations, &named);
            }
        }
    }

    fn can(&self, verb: &str) -> bool {
        self.resource.verbs.iter().any(|v| v == verb)
    }

    fn home(&self) -> &'static str {
        if self.resource.namespaced { "Namespaced" } else { "" }
    }

    fn tag(&self) -> String {
        format!("{}_{}", tag(&self.resource.group), self.resource.version)
    }

    /// `createCoreV1NamespacedPod`.
    fn id(&self, verb: &str, rest: &str) -> String {
        let r = self.resource;
        format!("{verb}{}{}{rest}", camel(&r.group), capital(&r.version))
    }

    fn id_here(&self, verb: &str, sub: &str) -> String {
        self.id(verb, &format!("{}{}{}", self.home(), self.resource.kind, capital(sub)))
    }

    fn media(&self, streamed: bool) -> Vec<&'static str> {
        match (self.resource.is_custom(), streamed) {
            (true, _) => vec!["application/json", "application/yaml"],
            (false, false) => vec!["application/json", PROTOBUF, "application/yaml"],
            (false, true) => vec![
                "application/json",
                "application/json;stream=watch",
                PROTOBUF,
                "application/vnd.kubernetes.protobuf;stream=watch",
                "application/yaml",
            ],
        }
    }

    fn sent(&self, component: &str) -> Option<(Vec<&'static str>, String, bool)> {
        let media = if self.resource.is_custom() {
            self.media(false)
        } else {
            vec!["*/*"]
        };
        Some((media, component.to_owned(), true))
    }

    fn operation(&self, method: &'static str, action: &'static str, id: String, text: String) -> Operation {
        Operation {
            method,
            id,
            text,
            action,
            of: self.object.clone(),
            parameters: parameters::pretty(),
            sent: None,
            codes: READ,
            answer: reference(&self.object.component),
            media: self.media(false),
        }
    }

    fn list(&self, rest: &str, home: &str) -> Operation {
        let kind = &self.resource.kind;
        let how = if self.can("watch") { "list or watch" } else { "list" };
        let id = self.id("list", &format!("{home}{kind}{rest}"));
        Operation {
            parameters: parameters::list(),
            answer: reference(&self.list),
            media: self.media(true),
            ..self.operation("get", "list", id, format!("{how} objects of kind {kind}"))
        }
    }

    fn watch_list(&self, home: &str, rest: &str) -> Operation {
        let kind = &self.resource.kind;
        let text = format!(
            "watch individual changes to a list of {kind}. deprecated: use the 'watch' parameter with a list operation instead."
        );
        self.watching("watchlist", self.id("watch", &format!("{home}{kind}List{rest}")), text)
    }

    fn watch(&self) -> Operation {
        let text = format!(
            "watch changes to an object of kind {}. deprecated: use the 'watch' parameter with a list operation instead, \
             filtered to a single item with the 'fieldSelector' parameter.",
            self.resource.kind
        );
        self.watching("watch", self.id_here("watch", ""), text)
    }

    fn watching(&self, action: &'static str, id: String, text: String) -> Operation {
        Operation {
            parameters: parameters::list(),
            answer: reference(&format!("{META}WatchEvent")),
            media: self.media(true),
            ..self.operation("get", action, id, text)
        }
    }

    fn of_collection(&self) -> Vec<Operation> {
        let kind = &self.resource.kind;
        let mut out = Vec::new();
        if self.can("list") {
            out.push(self.list("", self.home()));
        }
        if self.can("create") {
            out.push(Operation {
                parameters: parameters::write(),
                sent: self.sent(&self.object.component),
                codes: CREATE,
                ..self.operation(
                    "post",
                    "post",
                    self.id_here("create", ""),
                    format!("create {}", a(kind)),
                )
            });
        }
        if self.can("deletecollection") {
            let custom = self.resource.is_custom();
            let id = self.id("delete", &format!("Collection{}{kind}", self.home()));
            out.push(Operation {
                parameters: if custom {
                    parameters::list()
                } else {
                    parameters::delete_collection()
                },
                sent: self.delete_options().filter(|_| !custom),
                answer: reference(&format!("{META}Status")),
                ..self.operation("delete", "deletecollection", id, format!("delete collection of {kind}"))
            });
        }
        out
    }

    fn delete_options(&self) -> Option<(Vec<&'static str>, String, bool)> {
        let (media, component, _) = self.sent(&format!("{META}DeleteOptions"))?;
        Some((media, component, false))
    }

    fn of_object(&self) -> Vec<Operation> {
        let r = self.resource;
        let kind = &r.kind;
        let mut out = Vec::new();
        if self.can("get") {
            out.push(self.read("", &self.object, &format!("the specified {kind}")));
        }
        if self.can("update") {
            out.push(self.update("", &self.object, &format!("the specified {kind}")));
        }
        if self.can("delete") {
            let answer = match r.rules.returns_deleted {
                true => self.object.component.clone(),
                false => format!("{META}Status"),
            };
            out.push(Operation {
                parameters: parameters::delete(),
                sent: self.delete_options(),
                codes: DELETE,
                answer: reference(&answer),
                ..self.operation(
                    "delete",
                    "delete",
                    self.id_here("delete", ""),
                    format!("delete {}", a(kind)),
                )
            });
        }
        if self.can("patch") {
            out.push(self.patch("", &self.object, &format!("the specified {kind}")));
        }
        out
    }

    fn read(&self, sub: &str, body: &Body, what: &str) -> Operation {
        let mut parameters = parameters::pretty();
        if self.resource.is_custom() {
            parameters.push(parameters::resource_version());
        }
        Operation {
            of: body.clone(),
            parameters,
            answer: reference(&body.component),
            ..self.operation("get", "get", self.id_here("read", sub), format!("read {what}"))
        }
    }

    fn update(&self, sub: &str, body: &Body, what: &str) -> Operation {
        Operation {
            parameters: parameters::write(),
            sent: self.sent(&body.component),
            codes: UPDATE,
            of: body.clone(),
            answer: reference(&body.component),
            ..self.operation("put", "put", self.id_here("replace", sub), format!("replace {what}"))
        }
    }

    fn patch(&self, sub: &str, body: &Body, what: &str) -> Operation {
        let mut media = vec![
            "application/apply-patch+yaml",
            "application/json-patch+json",
            "application/merge-patch+json",
        ];
        if !self.resource.is_custom() {
            media.push("application/strategic-merge-patch+json");
        }
        Operation {
            parameters: parameters::patch(),
            sent: Some((media, format!("{META}Patch"), true)),
            codes: if self.resource.is_custom() { READ } else { UPDATE },
            of: body.clone(),
            answer: reference(&body.component),
            ..self.operation(
                "patch",
                "patch",
                self.id_here("patch", sub),
                format!("partially update {what}"),
            )
        }
    }

    /// The operations on a subresource, and those on what is behind it, if it leads to paths of others.
    fn of_subresource(
        &self,
        schema: &Schema,
        sub: &Subresource,
        body: &Body,
    ) -> (Vec<Operation>, Option<Vec<Operation>>) {
        let kind = &self.resource.kind;
        let what = format!("{} of the specified {kind}", sub.name);
        match sub.name.as_str() {
            "exec" | "attach" | "portforward" => {
                let methods = &["get", "post"];
                return (self.connect(schema, sub, body, methods, ""), None);
            }
            "proxy" => {
                let methods = &["get", "put", "post", "delete", "options", "head", "patch"];
                let through = self.connect(schema, sub, body, methods, "WithPath");
                return (self.connect(schema, sub, body, methods, ""), Some(through));
            }
            "log" => {
                let mut media = vec!["text/plain"];
                media.extend(self.media(false));
                let read = Operation {
                    parameters: [parameters::pretty(), parameters::options(schema, "PodLogOptions")].concat(),
                    answer: json!({ "type": "string" }),
                    media,
                    ..self.operation("get", "get", self.id_here("read", "log"), format!("read {what}"))
                };
                return (vec![read], None);
            }
            _ => {}
        }
        let can = |verb: &str| sub.verbs.iter().any(|v| v == verb);
        let mut out = Vec::new();
        // a scale of a custom object is its kind's, as upstream has it
        let scaled = Body {
            component: body.component.clone(),
            ..self.object.clone()
        };
        let body = if self.resource.is_custom() { &scaled } else { body };
        if can("get") {
            out.push(self.read(&sub.name, body, &what));
        }
        if can("update") {
            out.push(self.update(&sub.name, body, &what));
        }
        if can("create") {
            let text = format!("create {} of {}", sub.name, a(kind));
            out.push(Operation {
                parameters: parameters::write(),
                sent: self.sent(&body.component),
                codes: CREATE,
                of: body.clone(),
                answer: reference(&body.component),
                ..self.operation("post", "post", self.id_here("create", &sub.name), text)
            });
        }
        if can("patch") {
            out.push(self.patch(&sub.name, body, &what));
        }
        (out, None)
    }

    fn connect(
        &self,
        schema: &Schema,
        sub: &Subresource,
        body: &Body,
        methods: &[&'static str],
        rest: &str,
    ) -> Vec<Operation> {
        let one = |method: &&'static str| {
            let text = format!(
                "connect {} requests to {} of {}",
                method.to_uppercase(),
                sub.name,
                self.resource.kind
            );
            let home = format!(
                "{}{}{}{}{rest}",
                capital(method),
                self.home(),
                self.resource.kind,
                capital(&sub.name)
            );
            Operation {
                parameters: parameters::options(schema, &body.kind),
                of: body.clone(),
                answer: json!({ "type": "string" }),
                media: vec!["*/*"],
                ..self.operation(method, "connect", self.id("connect", &home), text)
            }
        };
        methods.iter().map(one).collect()
    }
}

/// Enters the operations on a path. A parameter that all of them have is the path's.
fn put(paths: &mut Map<String, Value>, at: String, tag: &str, operations: &[Operation], in_path: &[Parameter]) {
    let Some(first) = operations.first() else { return };
    let everywhere = |p: &Parameter| operations.iter().all(|o| o.parameters.contains(p));
    let mut common: Vec<Parameter> = first.parameters.iter().filter(|p| everywhere(p)).cloned().collect();
    let mut item = Map::new();
    for operation in operations {
        let mut own: Vec<Parameter> = operation
            .parameters
            .iter()
            .filter(|p| !common.contains(p))
            .cloned()
            .collect();
        own.sort();
        item.insert(operation.method.to_owned(), tree(operation, tag, &own));
    }
    common.extend_from_slice(in_path);
    common.sort();
    if !common.is_empty() {
        item.insert("parameters".into(), parameters::tree(&common));
    }
    paths.insert(at, Value::Object(item));
}

fn content(media: &[&str], schema: &Value) -> Value {
    let entries = media.iter().map(|m| ((*m).to_owned(), json!({ "schema": schema })));
    Value::Object(entries.collect())
}

fn tree(operation: &Operation, tag: &str, parameters: &[Parameter]) -> Value {
    let mut responses = Map::new();
    for (code, text) in operation.codes {
        let answer = json!({ "description": text, "content": content(&operation.media, &operation.answer) });
        responses.insert((*code).to_owned(), answer);
    }
    responses.insert("401".into(), json!({ "description": "Unauthorized" }));
    let of = &operation.of;
    let mut tree = json!({
        "tags": [tag],
        "description": operation.text,
        "operationId": operation.id,
        "responses": responses,
        "x-kubernetes-action": operation.action,
        "x-kubernetes-group-version-kind": { "group": of.group, "version": of.version, "kind": of.kind },
    });
    if !parameters.is_empty() {
        tree["parameters"] = parameters::tree(parameters);
    }
    if let Some((media, component, required)) = &operation.sent {
        tree["requestBody"] = json!({ "content": content(media, &reference(component)) });
        if *required {
            tree["requestBody"]["required"] = json!(true);
        }
    }
    tree
}

/// The path of a page that says what there is; `answer` is one of `meta/v1`.
pub fn page(path: &str, tag: &str, id: &str, text: &str, answer: &str) -> Map<String, Value> {
    let media = ["application/json", PROTOBUF, "application/yaml"];
    let schema = reference(&format!("{META}{answer}"));
    plain_page(path, tag, id, text, &media, &schema)
}

/// The path of another page.
pub fn plain_page(path: &str, tag: &str, id: &str, text: &str, media: &[&str], schema: &Value) -> Map<String, Value> {
    let operation = json!({
        "tags": [tag], "description": text, "operationId": id,
        "responses": {
            "200": { "description": "OK", "content": content(media, schema) },
            "401": { "description": "Unauthorized" },
        },
    });
    Map::from_iter([(path.to_owned(), json!({ "get": operation }))])
}
