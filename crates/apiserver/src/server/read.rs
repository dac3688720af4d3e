//! GET and LIST, from the cache; an older revision from the store.

use std::sync::Arc;

use api::field::FieldError;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::Response;
use serde::{Deserialize, Serialize};

use crate::http::json_text;
use crate::http::negotiate::{Accept, Transform};
use crate::http::request_info::Query;
use crate::http::status::META;
use crate::http::status::{ApiError, Result};
use crate::registry::cached::Cached;
use crate::registry::chunk::{Chunk, Range};
use crate::registry::selection::{Selection, Selectors};
use crate::registry::{Registry, Served};
use crate::server::body::{self, Body};
use crate::server::list::{self, ListMeta};
use crate::table;

/// Where a chunked list goes on.
#[derive(Debug, Serialize, Deserialize)]
struct Continue {
    v: String,
    /// `NEWEST` where the rest is of whatever is newest.
    rv: i64,
    start: String,
    /// How many objects there are from `start` on, where that was known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    rest: Option<usize>,
}

const NEWEST: i64 = -1;
const INCONSISTENT: &str = "The provided continue parameter is too old to display a consistent list result. You can \
    start a new list without the continue parameter, or use the continue token in this response to retrieve the \
    remainder of the results. Continuing with the provided token results in an inconsistent list - objects that were \
    created, modified, or deleted between the time the first chunk was returned and now may show up in the list.";

/// Where a list goes on.
#[derive(Debug)]
struct Token {
    /// The revision that is listed, if not the newest.
    revision: Option<u64>,
    start: String,
    rest: Option<usize>,
}

/// The parameters of a list.
#[derive(Debug, Default)]
pub struct ListOptions {
    limit: usize,
    token: Option<Token>,
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
    /// Whether the numbers among the options are numbers, which is looked at before what the others mean.
    ///
    /// # Errors
    /// `400` when one is not.
    pub fn numbers(query: &Query) -> Result<()> {
        query.number("timeoutSeconds")?;
        query.number("limit")?;
        Ok(())
    }

    /// Whether the options are those of a list, which is looked at before what they select (`internalversion/validation`). Returns
    /// the selectors among them.
    ///
    /// # Errors
    /// `400` for a number or a selector that is none, `422` for options that do not go together.
    pub fn check(query: &Query) -> Result<Selectors> {
        ListOptions::numbers(query)?;
        let selectors = Selectors::parse(query)?;
        const MATCH: &str = "resourceVersionMatch";
        let version = query.text("resourceVersion");
        let mut errors = Vec::new();
        if let Some(matching) = query.text(MATCH) {
            let mut forbid =
                |why: &str| errors.push(FieldError::forbidden(MATCH, format!("resourceVersionMatch {why}")));
            if version.is_none() {
                forbid("is forbidden unless resourceVersion is provided");
            }
            if query.text("continue").is_some() {
                forbid("is forbidden when continue is provided");
            }
            if matching == "Exact" && version == Some("0") {
                forbid("\"exact\" is forbidden for resourceVersion \"0\"");
            }
            if !matches!(matching, "Exact" | "NotOlderThan") {
                errors.push(FieldError::not_supported(
                    MATCH,
                    matching.into(),
                    &["Exact", "NotOlderThan", ""],
                ));
            }
        }
        if query.get("sendInitialEvents").is_some() {
            errors.push(FieldError::forbidden(
                "sendInitialEvents",
                "sendInitialEvents is forbidden for list",
            ));
        }
        match errors.is_empty() {
            true => Ok(selectors),
            false => Err(ApiError::invalid(META, "ListOptions", "", &errors)),
        }
    }

    /// Reads options that [`ListOptions::check`] has passed.
    ///
    /// # Errors
    /// `400` for a revision or a token that is none, and for both together.
    pub fn parse(query: &Query) -> Result<ListOptions> {
        // less than none is as many as there are
        let limit = query
            .number("limit")?
            .and_then(|limit| limit.try_into().ok())
            .unwrap_or(0);
        let matching = query.text("resourceVersionMatch");
        let version = query.text("resourceVersion");
        let token = match query.text("continue") {
            Some(text) => Some(decode_continue(text)?),
            None => None,
        };
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

fn decode_continue(text: &str) -> Result<Token> {
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
    Ok(Token {
        revision,
        start: token.start,
        rest: token.rest,
    })
}

fn encode_continue(revision: Option<u64>, start: String, rest: Option<usize>) -> Result<String> {
    let rv = revision.map_or(Ok(NEWEST), i64::try_from).map_err(ApiError::internal)?;
    let token = Continue {
        v: "meta.k8s.io/v1".into(),
        rv,
        start,
        rest,
    };
    Ok(URL_SAFE_NO_PAD.encode(serde_json::to_vec(&token).map_err(ApiError::internal)?))
}

/// Answers GET of one object.
pub async fn get(
    registry: &Registry,
    served: &Served,
    namespace: &str,
    name: &str,
    query: &Query,
    accept: Accept,
) -> Result<Response<Body>> {
    if let Some(text) = query.text("resourceVersion") {
        let revision = text.parse().map_err(|_| ApiError::plain(bad_revision(text)))?;
        not_in_the_future(registry, revision)?;
    }
    let object = served
        .cache
        .get(namespace, name)
        .ok_or_else(|| served.resource.not_found(name))?;
    served.resource.ready_one(&object).await?;
    let include = match accept.transform {
        Transform::Table => table::Include::parse(query)?,
        _ => table::Include::default(),
    };
    body::read_response(&served.resource, &object, accept, include)
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
    served.resource.ready_list(&items).await?;
    list::list_response(&served.resource, items, &meta, accept, table::Include::parse(query)?)
}

/// The objects that a list asks for.
pub async fn select(
    registry: &Registry,
    served: &Served,
    selection: &Selection,
    options: &ListOptions,
) -> Result<(Vec<Arc<Cached>>, ListMeta)> {
    let cache = &served.cache;
    let exact = match (&options.token, options.revision) {
        (Some(token), _) => token.revision,
        (None, Some((revision, true))) => Some(revision),
        (None, Some((revision, false))) => {
            not_in_the_future(registry, revision)?;
            None
        }
        (None, None) => None,
    };
    if exact.is_none()
        && let Some(name) = selection.name()
        && (!selection.namespace.is_empty() || !served.resource.namespaced)
    {
        let meta = ListMeta {
            revision: cache.revision(),
            ..ListMeta::default()
        };
        let mut found = Vec::from_iter(cache.get(&selection.namespace, name));
        selection.ready(&found).await?;
        found.retain(|o| selection.matches(o));
        return Ok((found, meta));
    }
    if let Some(revision) = exact {
        not_in_the_future(registry, revision)?;
    }
    let known = options.token.as_ref().and_then(|token| token.rest);
    let range = Range {
        namespace: &selection.namespace,
        start: options.token.as_ref().map(|token| token.start.as_str()),
        limit: options.limit,
    };
    let count = !selection.is_filtered() && known.is_none();
    let (revision, mut chunk) = match cached(served, selection, range, exact, count).await? {
        Some(found) => found,
        None => {
            // only of an exact revision may the cache know nothing
            let revision = exact.unwrap_or_else(|| cache.revision());
            let found = at_revision(registry, served, selection, range, revision).await;
            (revision, found.map_err(|error| expired(error, options))?)
        }
    };
    if let Some(known) = known {
        chunk.rest = known.saturating_sub(chunk.items.len());
    }
    let mut meta = ListMeta {
        revision,
        ..ListMeta::default()
    };
    if let Some(next) = chunk.next {
        let rest = (!selection.is_filtered()).then_some(chunk.rest);
        meta.continue_token = Some(encode_continue(Some(revision), next, rest)?);
        meta.remaining = rest;
    }
    Ok((chunk.items, meta))
}

/// A chunk from the cache, once it can be said of its objects whether they are selected; `None` as of the cache.
async fn cached(
    served: &Served,
    selection: &Selection,
    range: Range<'_>,
    mut revision: Option<u64>,
    count: bool,
) -> Result<Option<(u64, Chunk)>> {
    loop {
        let mut unsure = Vec::new();
        let found = served.cache.chunk(range, revision, count, |object| {
            let selected = selection.is_selected(object);
            if selected.is_none() {
                unsure.push(object.clone());
            }
            selected == Some(true)
        });
        if unsure.is_empty() {
            return Ok(found);
        }
        selection.ready(&unsure).await?;
        // what is looked at again is what was looked at
        revision = found.map(|(revision, _)| revision);
    }
}

/// Says how a list whose revision is gone may go on.
fn expired(error: ApiError, options: &ListOptions) -> ApiError {
    let Some(token) = options.token.as_ref().filter(|_| error.reason == "Expired") else {
        return error;
    };
    match encode_continue(None, token.start.clone(), None) {
        Ok(token) => ApiError::expired(INCONSISTENT).with_continue(token),
        Err(error) => error,
    }
}

/// Keys that are read from the store at once where not all of them may match.
const STEP: usize = 500;

/// A chunk of the resource as the store has it at a revision that the cache no longer knows.
async fn at_revision(
    registry: &Registry,
    served: &Served,
    selection: &Selection,
    range: Range<'_>,
    revision: u64,
) -> Result<Chunk> {
    let prefix = &served.resource.prefix;
    let within = match range.namespace {
        "" => etcd::KeyRange::prefix(prefix.as_bytes()),
        namespace => etcd::KeyRange::prefix(format!("{prefix}{namespace}/").as_bytes()),
    };
    let etcd::KeyRange::Span { mut start, end } = within else {
        return Err(ApiError::internal("a resource's prefix has no end"));
    };
    if let Some(from) = range.start {
        start = start.max(bytes::Bytes::from(format!("{prefix}{from}")));
    }
    let limit = if range.limit == 0 {
        0
    } else {
        (range.limit + 1).max(STEP)
    };
    let mut chunk = Chunk::default();
    loop {
        let step = etcd::KeyRange::Span {
            start: start.clone(),
            end: end.clone(),
        };
        let found = registry.store.range(step, limit, Some(revision)).await;
        let found = found.map_err(|e| match e {
            etcd::StoreError::FutureRevision { .. } => {
                not_in_the_future(registry, revision).err().unwrap_or_else(|| e.into())
            }
            other => other.into(),
        })?;
        let last = found.kvs.last().map(|kv| kv.key.clone());
        let decoded = found
            .kvs
            .into_iter()
            .map(|kv| served.cache.decode(kv.value).map(Arc::new));
        let objects = decoded.collect::<Result<Vec<_>>>()?;
        selection.ready(&objects).await?;
        for (i, object) in objects.into_iter().enumerate() {
            if !selection.matches(&object) {
                continue;
            }
            if range.limit > 0 && chunk.items.len() == range.limit {
                chunk.next = Some(object.object.key());
                chunk.rest = found.count - i;
                return Ok(chunk);
            }
            chunk.items.push(object);
        }
        match last.filter(|_| found.more) {
            // the least key after the last one
            Some(last) => start = [&last[..], &[0]].concat().into(),
            None => return Ok(chunk),
        }
    }
}
