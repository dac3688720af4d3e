//! `serviceaccounts/token`: a TokenRequest answered with a token.

use std::sync::Arc;

use api::field::FieldError;
use api::gvk::GroupVersionKind;
use http::{Response, StatusCode};
use serde_json::{Value, json};

use crate::admission::Operation;
use crate::authentication::service_account::{Bound, TokenRequest};
use crate::http::status::{ApiError, Result};
use crate::pipeline::Write;
use crate::pipeline::owners::{self, Found};
use crate::registry::{Served, format_time, metadata};
use crate::server::body::{self, Body};
use crate::server::decode::{check_namespace, decode_kind};
use crate::server::{ApiServer, Request};
use crate::subresource::recorded;
use crate::tree::take;

const GROUP: &str = "authentication.k8s.io";
/// What a token of a webhook attests: the groups whose objects it may review.
const ATTESTED: &str = "admissionReviewAPIGroups";

/// Seconds.
const SHORTEST: i64 = 600;
const LONGEST: i64 = 1 << 32;
const DEFAULT: i64 = 3600;

/// Issues a token of a service account.
///
/// # Errors
/// `400` and `422` for a request that is none, `404` where there is no such account or bound object, `409` when it was replaced.
pub async fn create(server: &Arc<ApiServer>, served: &Served, request: &Request) -> Result<Response<Body>> {
    let mut tree = decode_kind(
        request,
        api::schema::Schema::builtin(),
        &[("authentication.k8s.io/v1", "TokenRequest")],
    )?;
    let (namespace, name) = (request.info.namespace.as_str(), request.info.name.as_str());
    let registry = &server.registry;
    let asking = request.write_options()?;
    let asked = Write {
        pipeline: &server.pipeline,
        served,
        namespace,
        options: &asking,
    };
    let attributes = asked.attributes(Operation::Create, name, name);
    let admission = &server.pipeline.admission;
    check_namespace(&served.resource, &mut tree, namespace)?;
    if tree.pointer("/spec/expirationSeconds").is_none_or(Value::is_null) {
        tree["spec"]["expirationSeconds"] = json!(DEFAULT);
    }
    owners::once(&mut tree, Found::InRequest, &asking.warnings);
    let schema = api::schema::Schema::builtin();
    if let Some(root) = schema.type_for(&GroupVersionKind::new(GROUP, "v1", "TokenRequest")) {
        // nobody set what is empty
        schema.normalize(root, &mut tree);
    }
    tree = recorded(server, &asking, tree);
    admission.admit(&attributes, &mut tree, None).await?;
    owners::once(&mut tree, Found::AfterAdmission, &asking.warnings);
    let refused = |called: &str, errors: &[FieldError]| ApiError::invalid(GROUP, "TokenRequest", called, errors);
    for (key, wanted, of) in [("name", name, "name"), ("namespace", namespace, "namespace")] {
        let given = metadata::text(&tree, key);
        if !given.is_empty() && given != wanted {
            let why = format!("must match the service account {of} if specified");
            let error = FieldError::invalid(format!("metadata.{key}"), json!(given), why);
            return Err(refused(name, &[error]));
        }
    }
    let account = registry
        .get("", "serviceaccounts", namespace, name)
        .ok_or_else(|| ApiError::not_found("", "serviceaccounts", name))?;
    let uid = &*account.object.meta.uid;
    let given = metadata::text(&tree, "uid");
    if !given.is_empty() && given != uid {
        let why =
            format!("the UID in the token request ({given}) does not match the UID of the service account ({uid})");
        return Err(ApiError::conflict(GROUP, "TokenRequest", name, &why));
    }
    let seconds = tree["spec"]["expirationSeconds"].as_i64().unwrap_or(DEFAULT);
    let audiences = audiences(server, &tree);
    tree["spec"]["audiences"] = json!(audiences);
    let now = registry.environment.now();
    for (key, value) in [
        ("name", name),
        ("namespace", namespace),
        ("uid", uid),
        ("creationTimestamp", &format_time(now)),
    ] {
        tree["metadata"][key] = json!(value);
    }
    take(&mut tree, "status");
    let errors = problems(&tree);
    if !errors.is_empty() {
        return Err(refused("", &errors));
    }
    admission.validate(&attributes, &tree, None).await?;
    let (bound, node) = match tree.pointer("/spec/boundObjectRef").filter(|r| !r.is_null()) {
        Some(reference) => bound(server, request, namespace, reference)?,
        None => (None, None),
    };
    let id = registry.uid();
    let token = server.authenticator.tokens.issue(
        registry,
        &TokenRequest {
            id: &id,
            namespace,
            name,
            uid,
            audiences,
            seconds,
            bound,
            node,
        },
    )?;
    let issued = "authentication.kubernetes.io/issued-credential-id";
    request.trail.annotate(issued, || format!("JTI={id}"));
    let expires = now
        .checked_add(jiff::SignedDuration::from_secs(seconds))
        .map_err(ApiError::internal)?;
    if tree["spec"].get("boundObjectRef").is_none() {
        tree["spec"]["boundObjectRef"] = Value::Null;
    }
    tree["status"] = json!({ "token": token, "expirationTimestamp": format_time(expires) });
    Ok(body::tree_response(StatusCode::CREATED, request.accept, &tree))
}

/// Whom the token is for: the API server, if its request does not say.
fn audiences(server: &ApiServer, tree: &Value) -> Vec<String> {
    let asked = tree.pointer("/spec/audiences").and_then(Value::as_array);
    let asked: Vec<String> = asked
        .into_iter()
        .flatten()
        .filter_map(|a| a.as_str().map(Into::into))
        .collect();
    match asked.is_empty() {
        true => server.authenticator.tokens.audiences.clone(),
        false => asked,
    }
}

/// What is wrong with a request.
fn problems(tree: &Value) -> Vec<FieldError> {
    let spec = &tree["spec"];
    let mut errors = Vec::new();
    let seconds = spec["expirationSeconds"].as_i64().unwrap_or(DEFAULT);
    let at = "spec.expirationSeconds";
    if seconds < SHORTEST {
        let why = "may not specify a duration less than 10 minutes";
        errors.push(FieldError::invalid(at, json!(seconds), why));
    }
    if seconds > LONGEST {
        let why = "may not specify a duration larger than 2^32 seconds";
        errors.push(FieldError::invalid(at, json!(seconds), why));
    }
    let attestations = spec.get("attestations").and_then(Value::as_object);
    let at = "spec.attestations";
    let given = json!(attestations);
    if !is_webhook(&spec["boundObjectRef"]) {
        if attestations.is_some_and(|all| !all.is_empty()) {
            let why = "attestations may only be specified with a webhook bound object reference";
            return vec![FieldError::invalid(at, given, why)];
        }
        return errors;
    }
    if spec["audiences"].as_array().map_or(0, Vec::len) != 1 {
        let why = "must be length 1 when bound to a webhook config";
        errors.push(FieldError::invalid("spec.audiences", spec["audiences"].clone(), why));
    }
    match attestations.filter(|all| all.len() == 1) {
        None => {
            let why = "webhook bound requests require exactly one admissionReviewAPIGroups attestation";
            errors.push(FieldError::invalid(at, given, why));
        }
        Some(one) => errors.extend(one.iter().flat_map(|(key, values)| attestation(at, key, values))),
    }
    errors
}

/// What is wrong with what a webhook's token is to attest.
fn attestation(at: &str, key: &str, values: &Value) -> Vec<FieldError> {
    let at = format!("{at}[{key}]");
    if key != ATTESTED {
        return vec![FieldError::not_supported(at, json!(key), &[ATTESTED])];
    }
    let Some([group]) = values.as_array().map(Vec::as_slice) else {
        return vec![FieldError::invalid(at, values.clone(), "must specify a single value")];
    };
    let (at, text) = (format!("{at}[0]"), group.as_str().unwrap_or_default());
    match text {
        "" => vec![FieldError::invalid(at, json!(text), "may not be an empty string")],
        "*" => Vec::new(),
        text => {
            let problems = api::names::dns1123_subdomain_errors(text).into_iter();
            let why = |why| format!("must specify a valid API Group: {why}");
            problems
                .map(|one| FieldError::invalid(at.clone(), json!(text), why(one)))
                .collect()
        }
    }
}

fn is_webhook(reference: &Value) -> bool {
    let kinds = ["ValidatingWebhookConfiguration", "MutatingWebhookConfiguration"];
    let is_kind = reference["kind"].as_str().is_some_and(|kind| kinds.contains(&kind));
    is_kind && reference["apiVersion"] == "admissionregistration.k8s.io/v1"
}

type BoundTo = (Option<Bound>, Option<(String, String)>);

fn bound(server: &ApiServer, request: &Request, namespace: &str, reference: &Value) -> Result<BoundTo> {
    let text = |key: &str| {
        reference
            .get(key)
            .and_then(Value::as_str)
            .unwrap_or_default()
            .to_owned()
    };
    let (kind, name, uid) = (text("kind"), text("name"), text("uid"));
    let api_version = text("apiVersion");
    let (group, version) = api::gvk::split_api_version(&api_version);
    let (plural, home) = match (group, kind.as_str()) {
        ("", "Pod") => ("pods", namespace),
        ("", "Secret") => ("secrets", namespace),
        ("", "Node") => ("nodes", ""),
        _ => {
            let mut why = format!("cannot bind token to object of type {group}/{version}, Kind={kind}");
            if is_webhook(reference) {
                why.push_str(" (feature gate APIServerWebhookAuthenticationToken is disabled)");
            }
            return Err(ApiError::bad_request(why));
        }
    };
    let object = server
        .registry
        .get("", plural, home, &name)
        .ok_or_else(|| ApiError::not_found("", plural, &name))?;
    let mut node = None;
    if kind == "Pod" {
        let pod = object.tree()?;
        let account = pod["spec"]["serviceAccountName"].as_str().unwrap_or_default();
        if account != request.info.name {
            let why = format!(
                "cannot bind token for serviceaccount {:?} to pod running with different serviceaccount name.",
                request.info.name
            );
            return Err(ApiError::bad_request(why));
        }
        let node_name = pod["spec"]["nodeName"].as_str().unwrap_or_default().to_owned();
        // of a node that is not there the name is known still
        let there = server.registry.get("", "nodes", "", &node_name);
        let uid = there.map_or_else(String::new, |n| n.object.meta.uid.to_string());
        node = Some((node_name, uid)).filter(|(name, _)| !name.is_empty());
    }
    let found = object.object.meta.uid.to_string();
    if !uid.is_empty() && uid != found {
        let why = format!(
            "the UID in the bound object reference ({uid}) does not match the UID in record. The object might have been deleted and then recreated"
        );
        return Err(ApiError::conflict("", &kind, &name, &why));
    }
    Ok((Some(Bound { kind, name, uid: found }), node))
}
