//! Reviews: questions about tokens and access that are answered and not kept.

use std::sync::Arc;

use http::{Response, StatusCode};
use serde_json::{Value, json};

use crate::audit::Trail;
use crate::http::negotiate::Accept;
use crate::http::status::{ApiError, Result};
use crate::http::user::User;
use crate::registry::metadata;
use crate::server::body::{self, Body};
use crate::server::decode::decode_kind;
use crate::server::{ApiServer, Request, access_review};

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
        if row.kind == "Binding" {
            let pods = self.registry.catalog().stored("", "pods").cloned();
            let pods = pods.ok_or_else(|| ApiError::internal("pods are not served"))?;
            return crate::subresource::binding::create(self, &pods, request).await;
        }
        let accept = Accept::without_tables(request.header("accept"))?;
        let version = row.api_version();
        let schema = api::schema::Schema::builtin();
        let mut tree = decode_kind(request, schema, &[(&version, row.kind)])?;
        // what is asked is read as it would be stored
        schema.set_defaults(row.type_id, &mut tree);
        schema.normalize(row.type_id, &mut tree);
        if tree.get("metadata").is_none_or(Value::is_null) {
            tree["metadata"] = json!({});
        }
        if request.user.node_name() == Some("") {
            let why = format!("could not determine node from user {:?}", request.user.name);
            return Err(ApiError::forbidden(&info.group, &info.resource, "Unknown", &why));
        }
        if row.namespaced {
            let own = metadata::text(&tree, "namespace");
            if own.is_empty() {
                tree["metadata"]["namespace"] = json!(info.namespace);
            } else if own != info.namespace {
                let why = "the namespace of the provided object does not match the namespace sent on the request";
                return Err(ApiError::bad_request(why));
            }
        }
        // what a rules review asks is not shown, and so not recorded
        if row.kind != "SelfSubjectRulesReview" {
            let context = request.write_options()?.context(&self.registry, &version);
            let target = api::apply::Target::new(schema, row.type_id);
            api::apply::track_update(&target, None, &mut tree, &context);
        }
        match row.kind {
            "TokenReview" => self.review_token(&mut tree, &request.trail).await?,
            "SubjectAccessReview" | "LocalSubjectAccessReview" => {
                access_review::of_subject(&self.pipeline.authorizer, row.kind, &mut tree)?;
            }
            "SelfSubjectAccessReview" => access_review::of_self(&self.pipeline.authorizer, &request.user, &mut tree)?,
            "SelfSubjectReview" => {
                tree["metadata"]["creationTimestamp"] = json!(self.registry.timestamp());
                tree["status"] = json!({ "userInfo": user_info(&request.user) });
            }
            "SelfSubjectRulesReview" => self.review_rules(&request.user, &mut tree)?,
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

    async fn review_token(&self, tree: &mut Value, trail: &Trail) -> Result<()> {
        let audiences = strings(tree, "/spec/audiences");
        let token = text(tree, "/spec/token").to_owned();
        if token.is_empty() {
            return Err(ApiError::bad_request(
                "token is required for TokenReview in authentication",
            ));
        }
        tree["status"] = match self.authenticator.token(&token, &audiences, trail).await {
            Some(known) => {
                json!({ "authenticated": true, "user": user_info(&known.user), "audiences": known.audiences })
            }
            None => json!({ "user": {}, "error": "invalid bearer token" }),
        };
        Ok(())
    }

    fn review_rules(&self, user: &User, tree: &mut Value) -> Result<()> {
        let namespace = text(tree, "/spec/namespace").to_owned();
        if namespace.is_empty() {
            return Err(ApiError::bad_request("no namespace on request"));
        }
        let mut resources = Vec::new();
        let mut others = Vec::new();
        let (rules, missing) = self.pipeline.authorizer.granted(user, &namespace);
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
        // what a node may do depends on what runs on it
        let is_node = user.node_name().is_some();
        let unknown = is_node.then(|| "node authorizer does not support user rule resolution".to_owned());
        let missing = missing.iter().map(ToString::to_string);
        let error = crate::authorization::rbac::all_of(unknown.into_iter().chain(missing));
        tree["spec"] = json!({});
        tree["status"] = json!({ "resourceRules": resources, "nonResourceRules": others, "incomplete": is_node });
        if let Some(error) = error {
            tree["status"]["evaluationError"] = json!(error);
        }
        Ok(())
    }
}
