//! A request as metrics name it: few enough names that no client can make them many.

use std::borrow::Cow;
use std::sync::Arc;

use http::{HeaderMap, header};

use crate::http::request_info::{Query, RequestInfo};
use crate::registry::resource::Resource;

/// The content type of server-side apply.
const APPLY: &[u8] = b"application/apply-patch+yaml";

/// The labels of a request.
#[derive(Debug, Clone)]
pub struct Asked {
    pub verb: &'static str,
    pub dry_run: &'static str,
    pub group: Cow<'static, str>,
    pub version: Cow<'static, str>,
    pub plural: Cow<'static, str>,
    pub subresource: Cow<'static, str>,
    /// `resource`, `namespace`, `cluster`, or nothing.
    pub scope: &'static str,
    /// Its answer is read for its content: how large it is counts.
    pub reads: bool,
}

impl Asked {
    /// A request for a resource that is served, or for a subresource of it.
    pub fn of(info: &RequestInfo, query: &Query, headers: &HeaderMap, resource: &Arc<Resource>) -> Asked {
        let list = matches!(info.verb, "list" | "watch" | "deletecollection");
        // a list of one name is still one of a collection
        let scope = match info.verb {
            "create" => "resource",
            _ if !list => "resource",
            _ if !info.namespace.is_empty() => "namespace",
            _ => "cluster",
        };
        Asked {
            verb: verb(info, headers),
            dry_run: dry_run(query),
            group: resource.group.clone().into(),
            version: resource.version.clone().into(),
            plural: resource.plural.clone().into(),
            subresource: info.subresource.clone().into(),
            scope,
            reads: matches!(info.verb, "get" | "list"),
        }
    }

    /// A page of the server's own, such as a health check.
    pub fn page(path: &'static str) -> Asked {
        Asked {
            verb: "GET",
            dry_run: "",
            group: "".into(),
            version: "".into(),
            plural: "".into(),
            subresource: path.into(),
            scope: "",
            reads: true,
        }
    }
}

fn verb(info: &RequestInfo, headers: &HeaderMap) -> &'static str {
    if matches!(
        info.subresource.as_str(),
        "log" | "exec" | "portforward" | "attach" | "proxy"
    ) {
        return "CONNECT";
    }
    match info.verb {
        "get" => "GET",
        "list" => "LIST",
        "watch" => "WATCH",
        "create" => "POST",
        "update" => "PUT",
        "patch" => match headers.get(header::CONTENT_TYPE).map(http::HeaderValue::as_bytes) {
            Some(APPLY) => "APPLY",
            _ => "PATCH",
        },
        "delete" | "deletecollection" => "DELETE",
        _ => "other",
    }
}

/// What is tried only, as upstream's `cleanDryRun`.
fn dry_run(query: &Query) -> &'static str {
    match query.all("dryRun") {
        [] => "",
        all if all.iter().all(|value| value == "All") => "All",
        _ => "invalid",
    }
}
