//! Reviews: questions about tokens and access that are answered and not kept.

use std::sync::Arc;

use api::field::FieldError;
use http::{Response, StatusCode};
use serde_json::{Value, json};

use crate::authorization::Attributes;
use crate::http::negotiate::Accept;
use crate::http::status::{ApiError, Result};
use crate::http::user::User;
use crate::registry::body::{self, Body};
use crate::server::decode::decode_kind;
use crate::server::{ApiServer, Request};

fn user_info(user: &User) -> Value {
    let mut info = json!({ "username": user.name, "groups": user.groups });
    if !user.uid.is_empty() {
        info["uid"] = json!(user.uid);
    }
    if !user.extra.is_empty() {
        info["extra"] = json!(user.extra);
    }
    info
}

fn text<'a>(tree: &'a Value, path: &str) -> &'a str {
    tree.pointer(path).and_then(Value::as_str).unwrap_or_default()
}

fn strings(tree: &Value, path: &str) -> Vec<String> {
    let list = tree.pointer(path).and_then(Value::as_array).into_iter().flatten();
    list.filter_map(|v| v.as_str().map(Into::into)).collect()
}

/// What is wrong with the question of an access review: it is about a resource or about a path.
fn attribute_errors(tree: &Value) -> Vec<FieldError> {
    let part = |key: &str| tree.pointer(&format!("/spec/{key}")).filter(|v| !v.is_null());
    let (resource, other) = (part("resourceAttributes"), part("nonResourceAttributes"));
    let at = "spec.nonResourceAttributes";
    match (resource, other) {
        (Some(_), Some(other)) => {
            let shown = format!(
                "{{\"Path\":{},\"Verb\":{}}}",
                json!(text(other, "/path")),
                json!(text(other, "/verb"))
            );
            let why = "cannot be specified in combination with resourceAttributes";
            vec![FieldError::invalid(at, Value::Null, why).shown(&shown)]
        }
        (None, None) => {
            let why = "exactly one of nonResourceAttributes or resourceAttributes must be specified";
            vec![FieldError::invalid("spec.resourceAttributes", Value::Null, why)]
        }
        _ => Vec::new(),
    }
}

impl ApiServer {
    /// Answers a POST of a review; anything else that the catalog does not have is not there.
    pub async fn review(self: &Arc<Self>, request: &Request) -> Result<Response<Body>> {
        let info = &request.info;
        let row =
            api::resources::find(&info.group, &info.version, &info.resource).ok_or_else(ApiError::no_such_path)?;
        if !info.subresource.is_empty() || !info.name.is_empty() {
            return Err(ApiError::no_such_path());
        }
        if info.verb != "create" {
            return Err(ApiError::method_not_allowed());
        }
        let accept = Accept::without_tables(request.header("accept"))?;
        let version = row.api_version();
        let schema = api::schema::Schema::builtin();
        let mut tree = decode_kind(request, schema, &[(&version, row.kind)])?;
        if tree.get("metadata").is_none_or(Value::is_null) {
            tree["metadata"] = json!({});
        }
        // what a rules review asks is not shown, and so not recorded
        if row.kind != "SelfSubjectRulesReview" {
            let context = request.write_options()?.context(&self.registry, &version);
            let target = api::apply::Target::new(schema, row.type_id);
            api::apply::track_update(&target, None, &mut tree, &context);
        }
        match row.kind {
            "TokenReview" => self.review_token(&mut tree).await,
            "SubjectAccessReview" | "LocalSubjectAccessReview" => self.review_access(request, row.kind, &mut tree)?,
            "SelfSubjectAccessReview" => {
                let errors = attribute_errors(&tree);
                if !errors.is_empty() {
                    return Err(ApiError::invalid("authorization.k8s.io", "", "", &errors));
                }
                let allowed = self.allowed(&request.user, &tree);
                tree["status"] = allowed;
            }
            "SelfSubjectReview" => {
                tree["metadata"]["creationTimestamp"] = json!(self.registry.timestamp());
                tree["status"] = json!({ "userInfo": user_info(&request.user) });
            }
            "SelfSubjectRulesReview" => self.review_rules(&request.user, &mut tree),
            other => {
                return Err(ApiError::new(
                    501,
                    "NotImplemented",
                    format!("{other} is not implemented"),
                ));
            }
        }
        Ok(body::tree_response(StatusCode::CREATED, accept, &tree))
    }

    async fn review_token(&self, tree: &mut Value) {
        let audiences = strings(tree, "/spec/audiences");
        let token = text(tree, "/spec/token").to_owned();
        tree["status"] = match self.authenticator.token(&token, &audiences).await {
            Some(user) => {
                let own = &self.authenticator.tokens.audiences;
                let audiences = if audiences.is_empty() { own.clone() } else { audiences };
                json!({ "authenticated": true, "user": user_info(&user), "audiences": audiences })
            }
            None => json!({ "user": {}, "error": "invalid bearer token" }),
        };
    }

    fn review_access(&self, request: &Request, kind: &str, tree: &mut Value) -> Result<()> {
        let namespace = text(tree, "/spec/resourceAttributes/namespace");
        if kind == "LocalSubjectAccessReview" && namespace != request.info.namespace {
            let why = format!(
                "spec.resourceAttributes.namespace must match namespace: {}",
                request.info.namespace
            );
            return Err(ApiError::bad_request(why));
        }
        let user = User {
            name: text(tree, "/spec/user").to_owned(),
            uid: text(tree, "/spec/uid").to_owned(),
            groups: strings(tree, "/spec/groups"),
            extra: tree
                .pointer("/spec/extra")
                .and_then(|e| serde_json::from_value(e.clone()).ok())
                .unwrap_or_default(),
        };
        let mut errors = attribute_errors(tree);
        if user.name.is_empty() && user.groups.is_empty() {
            let why = "at least one of user or group must be specified";
            errors.push(FieldError::invalid("spec.user", json!(""), why));
        }
        if !errors.is_empty() {
            return Err(ApiError::invalid("authorization.k8s.io", "", "", &errors));
        }
        let allowed = self.allowed(&user, tree);
        tree["status"] = allowed;
        Ok(())
    }

    fn allowed(&self, user: &User, tree: &Value) -> Value {
        let resource = tree.pointer("/spec/resourceAttributes").filter(|v| !v.is_null());
        let other = tree.pointer("/spec/nonResourceAttributes").filter(|v| !v.is_null());
        let get = |v: &'_ Value, key: &str| v.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
        let (verb, group, namespace, plural, sub, name, path) = match (resource, other) {
            (Some(r), _) => (
                get(r, "verb"),
                get(r, "group"),
                get(r, "namespace"),
                get(r, "resource"),
                get(r, "subresource"),
                get(r, "name"),
                String::new(),
            ),
            (None, n) => {
                let n = n.unwrap_or(&Value::Null);
                let none = String::new;
                (get(n, "verb"), none(), none(), none(), none(), none(), get(n, "path"))
            }
        };
        let attributes = Attributes {
            verb: &verb,
            is_resource: resource.is_some(),
            group: &group,
            namespace: &namespace,
            resource: &plural,
            subresource: &sub,
            name: &name,
            path: &path,
        };
        let decision = self.authorizer.decide(user, &attributes);
        let mut status = json!({ "allowed": decision.is_some() });
        if let Some(reason) = decision.filter(|r| !r.is_empty()) {
            status["reason"] = json!(reason);
        }
        status
    }

    fn review_rules(&self, user: &User, tree: &mut Value) {
        let namespace = text(tree, "/spec/namespace").to_owned();
        let mut resources = Vec::new();
        let mut others = Vec::new();
        let mut rules = self.authorizer.rbac().rules_for(user, &namespace);
        if user.in_group(crate::http::user::MASTERS) {
            let all = || vec!["*".to_owned()];
            let everything = crate::authorization::rbac::PolicyRule {
                verbs: all(),
                api_groups: all(),
                resources: all(),
                non_resource_urls: all(),
                resource_names: Vec::new(),
            };
            rules.push(everything);
        }
        for rule in rules {
            if !rule.resources.is_empty() {
                let mut one = json!({ "verbs": rule.verbs, "apiGroups": rule.api_groups, "resources": rule.resources });
                if !rule.resource_names.is_empty() {
                    one["resourceNames"] = json!(rule.resource_names);
                }
                resources.push(one);
            }
            if !rule.non_resource_urls.is_empty() {
                others.push(json!({ "verbs": rule.verbs, "nonResourceURLs": rule.non_resource_urls }));
            }
        }
        tree["spec"] = json!({});
        tree["status"] = json!({ "resourceRules": resources, "nonResourceRules": others, "incomplete": false });
    }
}
