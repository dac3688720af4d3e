//! Subresources that write one part of an object and leave the rest: `pods/ephemeralcontainers`, `pods/resize`,
//! `certificatesigningrequests/approval`, `namespaces/finalize`.

use std::sync::Arc;

use http::{Response, StatusCode};
use serde_json::{Value, json};

use crate::http::status::{ApiError, Result};
use crate::registry::Served;
use crate::registry::body::{self, Body};
use crate::registry::patch::{Patch, PatchKind};
use crate::registry::read::{self, parse_revision};
use crate::registry::write::{Change, Write};
use crate::registry::{metadata, resource::Resource};
use crate::server::decode::decode_kind;
use crate::server::{ApiServer, Request};

/// Takes what the subresource may change from `new` into a copy of `old`.
fn merge(subresource: &str, new: &Value, old: &Value) -> Result<Value> {
    let mut tree = old.clone();
    let take = |tree: &mut Value, path: [&str; 2]| {
        let value = new.get(path[0]).and_then(|v| v.get(path[1])).cloned();
        match (value, tree[path[0]].as_object_mut()) {
            (Some(value), Some(parent)) => {
                parent.insert(path[1].into(), value);
            }
            (None, Some(parent)) => {
                parent.remove(path[1]);
            }
            _ => {}
        }
    };
    match subresource {
        "ephemeralcontainers" => {
            let list = |t: &Value| {
                t.pointer("/spec/ephemeralContainers")
                    .and_then(Value::as_array)
                    .cloned()
                    .unwrap_or_default()
            };
            let (before, after) = (list(old), list(new));
            let find = |c: &Value| after.iter().find(|a| a["name"] == c["name"]);
            if before.iter().any(|c| find(c) != Some(c)) {
                let why = "existing ephemeral containers may not be removed or changed";
                return Err(ApiError::forbidden("", "pods", metadata::text(old, "name"), why));
            }
            take(&mut tree, ["spec", "ephemeralContainers"]);
        }
        "resize" => {
            take(&mut tree, ["spec", "resources"]);
            for field in ["containers", "initContainers"] {
                resize(&mut tree["spec"], &new["spec"], field);
            }
        }
        "approval" => take(&mut tree, ["status", "conditions"]),
        "finalize" => take(&mut tree, ["spec", "finalizers"]),
        other => return Err(ApiError::internal(format!("no rule for subresource {other}"))),
    }
    Ok(tree)
}

/// Takes the containers' resources. A list whose containers come, go, move or are renamed is taken as it is, for
/// validation to refuse.
fn resize(spec: &mut Value, new: &Value, field: &str) {
    let list = |spec: &Value| spec.get(field).and_then(Value::as_array).cloned().unwrap_or_default();
    let (olds, news) = (list(spec), list(new));
    let same = olds.len() == news.len() && olds.iter().zip(&news).all(|(o, n)| o["name"] == n["name"]);
    if !same {
        spec[field] = news.into();
        return;
    }
    for (container, new) in spec[field].as_array_mut().into_iter().flatten().zip(&news) {
        container["resources"] = new.get("resources").cloned().unwrap_or_else(|| json!({}));
        if let Some(policy) = new.get("resizePolicy") {
            container["resizePolicy"] = policy.clone();
        }
    }
}

fn recheck(resource: &Resource, tree: Value) -> Result<Value> {
    let decoded = resource.schema.get().decode_value(resource.root, tree);
    let mut tree = decoded.map_err(|e| ApiError::bad_request(e.to_string()))?.value;
    resource.schema.get().set_defaults(resource.root, &mut tree);
    Ok(tree)
}

pub async fn answer(server: &Arc<ApiServer>, served: &Served, request: &Request) -> Result<Response<Body>> {
    let resource = &served.resource;
    let info = &request.info;
    let namespace = if resource.namespaced {
        info.namespace.as_str()
    } else {
        ""
    };
    let name = &info.name;
    let subresource = info.subresource.as_str();
    if info.verb == "get" {
        return read::get(
            &server.registry,
            served,
            namespace,
            name,
            &request.query,
            request.accept,
        );
    }
    if subresource == "approval" {
        let about = json!({ "metadata": { "name": name } });
        crate::authorization::signers::check(server, resource, request, &about)?;
    }
    let options = request.write_options()?;
    let write = Write {
        registry: &server.registry,
        served,
        namespace,
        options: &options,
    };
    let updated = if info.verb == "patch" {
        let kind = PatchKind::of(request.header("content-type"), resource)?;
        if kind == PatchKind::Apply {
            return Err(ApiError::unsupported_media_type(format!(
                "server-side apply to {}/{subresource} is not implemented",
                resource.plural
            )));
        }
        let patch = Patch::parse(kind, &request.body)?;
        let change = |old: &Value| {
            let patched = recheck(resource, patch.apply(resource, old)?)?;
            Ok(Change {
                tree: merge(subresource, &patched, old)?,
                uid: None,
                revision: None,
                applied: false,
            })
        };
        write.update(name, change).await?
    } else {
        let tree = decode_kind(
            request,
            resource.schema.get(),
            &[(&resource.api_version(), &resource.kind)],
        )?;
        let tree = recheck(resource, tree)?;
        let revision = match metadata::text(&tree, "resourceVersion") {
            "" | "0" => None,
            text => Some(parse_revision(text)?),
        };
        let change = |old: &Value| {
            Ok(Change {
                tree: merge(subresource, &tree, old)?,
                uid: None,
                revision,
                applied: false,
            })
        };
        if subresource == "finalize" {
            finalize(server, served, name, change).await?
        } else {
            write.update(name, change).await?
        }
    };
    body::object_response(StatusCode::OK, resource, &updated, request.accept)
}

/// A namespace whose last finalizer goes while it is being deleted is gone.
async fn finalize(
    server: &Arc<ApiServer>,
    served: &Served,
    name: &str,
    mut change: impl FnMut(&Value) -> Result<Change>,
) -> Result<Arc<crate::registry::cached::Cached>> {
    use crate::registry::cached::Encoded;
    use etcd::{Compare, CompareTarget, KeyRange, Op, Put, Txn};
    let resource = &served.resource;
    for _ in 0..8 {
        let current = served.cache.get("", name).ok_or_else(|| resource.not_found(name))?;
        let Change { mut tree, revision, .. } = change(&current.tree()?)?;
        if revision.is_some_and(|r| r != current.revision()) {
            return Err(ApiError::modified(&resource.group, &resource.plural, name));
        }
        let waits = |path: &str| {
            tree.pointer(path)
                .and_then(Value::as_array)
                .is_some_and(|f| !f.is_empty())
        };
        let gone = current.object.meta.deleting && !waits("/spec/finalizers") && !waits("/metadata/finalizers");
        let encoded = Encoded::of(resource, &mut tree)?;
        let key = resource.key("", name);
        let op = if gone {
            Op::Delete(KeyRange::One(key.clone()))
        } else {
            let hint = Some(Arc::new(encoded.prepared.clone()) as _);
            Op::Put(Put {
                key: key.clone(),
                value: encoded.value(),
                lease: 0,
                hint,
            })
        };
        let compare = vec![Compare {
            key,
            target: CompareTarget::ModRevision(current.revision()),
        }];
        let result = server
            .registry
            .store
            .txn(Txn {
                compare,
                success: vec![op],
                failure: Vec::new(),
            })
            .await?;
        if result.succeeded {
            return Ok(Arc::new(encoded.at(Some(result.revision))));
        }
    }
    Err(ApiError::modified(&resource.group, &resource.plural, name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_resize_takes_resources_and_leaves_what_validation_must_see() {
        let pod = |containers: Value| json!({"spec": {"containers": containers, "nodeName": "n"}});
        let old = pod(json!([{"name": "a", "image": "x"}, {"name": "b"}]));
        let asked = json!({"requests": {"cpu": "1"}});
        let new = pod(json!([{"name": "a", "image": "y", "resources": asked}, {"name": "b"}]));
        let merged = merge("resize", &new, &old).unwrap();
        assert_eq!(
            merged["spec"]["containers"][0],
            json!({"name": "a", "image": "x", "resources": asked})
        );
        for renamed in [
            json!([{"name": "b"}, {"name": "a"}]),
            json!([{"name": "a"}]),
            json!([{"name": "a"}, {"name": "c"}]),
        ] {
            let merged = merge("resize", &pod(renamed.clone()), &old).unwrap();
            assert_eq!(merged["spec"]["containers"], renamed);
        }
    }
}
