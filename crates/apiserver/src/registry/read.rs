//! GET and LIST, from the cache; an older revision from the store.

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::{Response, StatusCode};
use serde::{Deserialize, Serialize};

use crate::http::json_text;
use crate::http::negotiate::Accept;
use crate::http::request_info::Query;
use crate::http::status::{ApiError, Result};
use crate::registry::body::{self, Body, ListMeta};
use crate::registry::cached::Cached;
use crate::registry::selection::Selection;
use crate::registry::{Registry, Served};
use crate::server::options::META;
use crate::table;

/// Where a chunked list goes on.
#[derive(Debug, Serialize, Deserialize)]
struct Continue {
    v: String,
    /// `NEWEST` where the rest is of whatever is newest.
    rv: i64,
    start: String,
}

const NEWEST: i64 = -1;
const INCONSISTENT: &str = "The provided continue parameter is too old to display a consistent list result. You can \
    start a new list without the continue parameter, or use the continue token in this response to retrieve the \
    remainder of the results. Continuing with the provided token results in an inconsistent list - objects that were \
    created, modified, or deleted between the time the first chunk was returned and now may show up in the list.";

/// The parameters of a list.
#[derive(Debug, Default)]
pub struct ListOptions {
    limit: usize,
    /// From which key on, and of which revision if not the newest.
    token: Option<(Option<u64>, String)>,
    /// The revision and whether it must be exactly that one.
    revision: Option<(u64, bool)>,
}

/// Reads the resourceVersion of an object.
pub fn parse_revision(text: &str) -> Result<u64> {
    text.parse().map_err(|_| ApiError::plain(not_unsigned(text)))
}

fn not_unsigned(text: &str) -> String {
    format!("strconv.ParseUint: parsing {text:?}: invalid syntax")
}

/// Why a resourceVersion to list or watch from is none.
pub fn bad_revision(text: &str) -> String {
    format!("resourceVersion: Invalid value: {text:?}: {}", not_unsigned(text))
}

/// Reads the resourceVersion of a get or list.
fn list_revision(text: &str) -> Result<u64> {
    let bad = |_| ApiError::bad_request(format!("invalid resource version: {}", bad_revision(text)));
    text.parse().map_err(bad)
}

impl ListOptions {
    pub fn parse(query: &Query) -> Result<ListOptions> {
        let limit = match query.text("limit") {
            Some(text) => text
                .parse()
                .map_err(|_| ApiError::bad_request(format!("strconv.ParseInt: parsing {text:?}: invalid syntax")))?,
            None => 0,
        };
        let matching = query.text("resourceVersionMatch");
        let version = query.text("resourceVersion");
        let token = match query.text("continue") {
            Some(text) => Some(decode_continue(text)?),
            None => None,
        };
        let forbid = |field: &'static str, why: &'static str| {
            Err(ApiError::invalid(
                META,
                "ListOptions",
                "",
                &[api::field::FieldError::forbidden(field, why)],
            ))
        };
        if let Some(matching) = matching {
            if version.is_none() {
                return forbid(
                    "resourceVersionMatch",
                    "resourceVersionMatch is forbidden unless resourceVersion is provided",
                );
            }
            if token.is_some() {
                return forbid(
                    "resourceVersionMatch",
                    "resourceVersionMatch is forbidden when continue is provided",
                );
            }
            if !matches!(matching, "Exact" | "NotOlderThan") {
                let allowed = ["Exact", "NotOlderThan", ""];
                let error = api::field::FieldError::not_supported("resourceVersionMatch", matching.into(), &allowed);
                return Err(ApiError::invalid(META, "ListOptions", "", &[error]));
            }
            if matching == "Exact" && version == Some("0") {
                return forbid(
                    "resourceVersionMatch",
                    "resourceVersionMatch \"exact\" is forbidden for resourceVersion \"0\"",
                );
            }
        }
        if token.is_some() && version.is_some_and(|v| v != "0") {
            return Err(ApiError::bad_request(
                "specifying resource version is not allowed when using continue",
            ));
        }
        let revision = match version {
            Some(text) => {
                let n = list_revision(text)?;
                // with a limit a plain resourceVersion means exactly that one
                let exact = matching == Some("Exact") || (matching.is_none() && limit > 0 && n > 0);
                Some((n, exact))
            }
            None => None,
        };
        Ok(ListOptions { limit, token, revision })
    }
}

fn decode_continue(text: &str) -> Result<(Option<u64>, String)> {
    let bad = |why: String| ApiError::bad_request(format!("invalid continue token: continue key is not valid: {why}"));
    let bytes = URL_SAFE_NO_PAD.decode(text.trim_end_matches('=')).map_err(|e| {
        let at = match e {
            base64::DecodeError::InvalidByte(at, _) => at,
            _ => text.len() / 4 * 4,
        };
        bad(format!("illegal base64 data at input byte {at}"))
    })?;
    let token: Continue = serde_json::from_slice(&bytes).map_err(|_| bad(json_text::problem(&bytes)))?;
    if token.v != "meta.k8s.io/v1" {
        let version = token.v;
        return Err(bad(format!(
            "server does not recognize this encoded version {version:?}"
        )));
    }
    if token.start.is_empty() || token.start.split('/').any(|p| p == "..") {
        return Err(bad(format!("{:?}", token.start)));
    }
    let revision = match token.rv {
        NEWEST => None,
        rv => Some(u64::try_from(rv).map_err(|e| bad(e.to_string()))?),
    };
    Ok((revision, token.start))
}

fn encode_continue(revision: Option<u64>, start: String) -> Result<String> {
    let rv = revision.map_or(Ok(NEWEST), i64::try_from).map_err(ApiError::internal)?;
    let token = Continue {
        v: "meta.k8s.io/v1".into(),
        rv,
        start,
    };
    Ok(URL_SAFE_NO_PAD.encode(serde_json::to_vec(&token).map_err(ApiError::internal)?))
}

/// Answers GET of one object.
pub fn get(
    registry: &Registry,
    served: &Served,
    namespace: &str,
    name: &str,
    query: &Query,
    accept: Accept,
) -> Result<Response<Body>> {
    if let Some(text) = query.text("resourceVersion") {
        not_in_the_future(registry, list_revision(text)?)?;
    }
    let object = served
        .cache
        .get(namespace, name)
        .ok_or_else(|| served.resource.not_found(name))?;
    body::object_response(StatusCode::OK, &served.resource, &object, accept)
}

fn not_in_the_future(registry: &Registry, revision: u64) -> Result<()> {
    let current = registry.store.revision();
    if revision > current {
        let message = format!("Too large resource version: {revision}, current: {current}");
        let mut error = ApiError::timeout(message, 1);
        if let Some(details) = error.details.as_mut().and_then(|d| d.as_object_mut()) {
            let cause =
                serde_json::json!({ "reason": "ResourceVersionTooLarge", "message": "Too large resource version" });
            details.insert("causes".into(), serde_json::json!([cause]));
        }
        return Err(error);
    }
    Ok(())
}

/// Answers LIST.
pub async fn list(
    registry: &Registry,
    served: &Served,
    selection: &Selection,
    query: &Query,
    accept: Accept,
) -> Result<Response<Body>> {
    let options = ListOptions::parse(query)?;
    let (items, meta) = select(registry, served, selection, &options).await?;
    body::list_response(&served.resource, items, &meta, accept, table::Include::parse(query)?)
}

/// The objects that a list asks for.
pub async fn select(
    registry: &Registry,
    served: &Served,
    selection: &Selection,
    options: &ListOptions,
) -> Result<(Vec<Arc<Cached>>, ListMeta)> {
    let exact = match (&options.token, options.revision) {
        (Some((revision, _)), _) => *revision,
        (None, Some((revision, true))) => Some(revision),
        (None, Some((revision, false))) => {
            not_in_the_future(registry, revision)?;
            None
        }
        (None, None) => None,
    };
    let (revision, all) = match exact {
        Some(revision) => {
            let found = at_revision(registry, served, selection, revision).await;
            (revision, found.map_err(|error| expired(error, options))?)
        }
        None => {
            if let Some(name) = selection
                .name()
                .filter(|_| !selection.namespace.is_empty() || !served.resource.namespaced)
            {
                let revision = served.cache.revision();
                let found = served.cache.get(&selection.namespace, name);
                (revision, found.into_iter().collect())
            } else {
                let listing = served.cache.list(&selection.namespace);
                (listing.revision, listing.items)
            }
        }
    };
    let mut meta = ListMeta {
        revision,
        ..ListMeta::default()
    };
    let start = options.token.as_ref().map(|(_, start)| start.as_str());
    let mut matching: Vec<Arc<Cached>> = all
        .into_iter()
        .filter(|o| start.is_none_or(|s| o.object.key().as_str() >= s))
        .filter(|o| selection.matches(o))
        .collect();
    if options.limit > 0 && matching.len() > options.limit {
        let rest = matching.split_off(options.limit);
        if let Some(next) = rest.first() {
            meta.continue_token = Some(encode_continue(Some(revision), next.object.key())?);
        }
        if !selection.is_filtered() {
            meta.remaining = Some(rest.len());
        }
    }
    Ok((matching, meta))
}

/// Says how a list whose revision is gone may go on.
fn expired(error: ApiError, options: &ListOptions) -> ApiError {
    let Some((_, start)) = options.token.as_ref().filter(|_| error.reason == "Expired") else {
        return error;
    };
    match encode_continue(None, start.clone()) {
        Ok(token) => ApiError::expired(INCONSISTENT).with_continue(token),
        Err(error) => error,
    }
}

/// The resource as it was at a revision.
async fn at_revision(
    registry: &Registry,
    served: &Served,
    selection: &Selection,
    revision: u64,
) -> Result<Vec<Arc<Cached>>> {
    let resource = &served.resource;
    let prefix = match selection.namespace.as_str() {
        "" => resource.prefix.clone(),
        namespace => format!("{}{namespace}/", resource.prefix),
    };
    let range = etcd::KeyRange::prefix(prefix.as_bytes());
    let found = registry
        .store
        .range(range, 0, Some(revision))
        .await
        .map_err(|e| match e {
            etcd::StoreError::FutureRevision { .. } => {
                not_in_the_future(registry, revision).err().unwrap_or_else(|| e.into())
            }
            other => other.into(),
        })?;
    found
        .kvs
        .into_iter()
        .map(|kv| Ok(Arc::new(served.cache.decode(kv.value)?)))
        .collect()
}
