//! WATCH: a stream of frames over the cache's changes.

use std::sync::Arc;
use std::time::Duration;

use api::schema::envelope;
use bytes::Bytes;
use futures::stream;
use http::{HeaderValue, Response, StatusCode, header};
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Frame;
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::http::negotiate::{Accept, Encoding, Transform};
use crate::http::request_info::Query;
use crate::http::status::META;
use crate::http::status::{ApiError, Result};
use crate::metrics::Watched;
use crate::registry::cache::Subscription;
use crate::registry::cached::{Cached, Change, json_frame};
use crate::registry::resource::Resource;
use crate::registry::selection::Selection;
use crate::registry::{Registry, Served};
use crate::server::body::{self, Body};
use crate::server::read::bad_revision;
use crate::table;

/// How often a watcher that asked for bookmarks hears the revision it has reached.
const BOOKMARK_EVERY: Duration = Duration::from_secs(60);
/// Ends a watch when the client names no time: upstream draws between 30 and 60 minutes.
const LONGEST: Duration = Duration::from_secs(45 * 60);

/// A change that comes sooner than this after the last frame waits for it, so that a watcher of many changes is given
/// several by one system call. The first after a pause goes at once.
const GATHER: Duration = Duration::from_millis(2);
/// Changes that are gathered end at this size.
const GATHERED: usize = 64 << 10;

/// Objects of the past that are converted with the one that is told.
const AHEAD: usize = 499;

/// What the client asked for.
#[derive(Debug)]
pub struct WatchOptions {
    since: Option<u64>,
    bookmarks: bool,
    /// Ends the initial events with an annotated bookmark.
    initial_events: bool,
    timeout: Duration,
    include: table::Include,
}

impl WatchOptions {
    /// Reads the parameters of a watch.
    ///
    /// # Errors
    /// `400` and `422` for values that are none or do not go together.
    pub fn parse(query: &Query) -> Result<WatchOptions> {
        let forbid = |field: &'static str, why: &'static str| {
            Err(ApiError::invalid(
                META,
                "ListOptions",
                "",
                &[api::field::FieldError::forbidden(field, why)],
            ))
        };
        let initial = query.get("sendInitialEvents").map(|_| query.flag("sendInitialEvents"));
        let matching = query.text("resourceVersionMatch");
        match (initial, matching) {
            (Some(_), None) => {
                return forbid(
                    "resourceVersionMatch",
                    "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan",
                );
            }
            (Some(_), Some(m)) if m != "NotOlderThan" => {
                return forbid(
                    "resourceVersionMatch",
                    "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan",
                );
            }
            (None, Some(_)) => {
                return forbid(
                    "resourceVersionMatch",
                    "resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided",
                );
            }
            _ => {}
        }
        let bookmarks = query.flag("allowWatchBookmarks");
        let since = match query.text("resourceVersion") {
            None | Some("0") => None,
            Some(text) => Some(text.parse().map_err(|_| ApiError::plain(bad_revision(text)))?),
        };
        let timeout = match query.number("timeoutSeconds")?.unwrap_or(0) {
            // less than nothing is over at once, as upstream's timer is
            seconds if seconds < 0 => Duration::ZERO,
            0 => LONGEST,
            seconds => Duration::from_secs(seconds.unsigned_abs()),
        };
        Ok(WatchOptions {
            since: if initial == Some(true) { None } else { since },
            bookmarks,
            initial_events: initial == Some(true),
            timeout,
            include: table::Include::parse(query)?,
        })
    }
}

/// Writes events in the form the client takes.
struct Framer {
    resource: Arc<Resource>,
    accept: Accept,
    include: table::Include,
    /// A table's first event carries the columns.
    first: bool,
    counted: Watched,
}

impl Framer {
    fn change(&mut self, kind: &'static str, change: &Change, object: &Cached) -> Result<Bytes> {
        let plain = self.accept.encoding == Encoding::Json && self.accept.transform == Transform::Whole;
        if plain
            && kind == change.natural_type()
            && std::ptr::eq(object, &*change.current)
            && self.resource.is_stored_as_served(object)
        {
            let frame = change.json_frame();
            self.counted.event(frame.len());
            return Ok(frame);
        }
        self.object(kind, object)
    }

    fn object(&mut self, kind: &'static str, object: &Cached) -> Result<Bytes> {
        let frame = self.write(kind, object)?;
        self.counted.event(frame.len());
        Ok(frame)
    }

    fn write(&mut self, kind: &'static str, object: &Cached) -> Result<Bytes> {
        if self.accept.transform == Transform::Table {
            let bytes = self.resource.present(object)?;
            let tree = table::of_included(
                &table::Rows::of(&self.resource, self.include, self.accept.version),
                &[bytes],
                std::mem::take(&mut self.first),
            )?;
            return self.tree(kind, &tree);
        }
        let one = body::encode_object(&self.resource, object, self.accept)?;
        Ok(match self.accept.encoding {
            Encoding::Json => json_frame(kind, &one),
            Encoding::Yaml => yaml_frame(kind, &self.resource.present(object)?)?,
            Encoding::Protobuf => envelope::watch_frame(kind, &one).into(),
        })
    }

    fn tree(&self, kind: &'static str, tree: &Value) -> Result<Bytes> {
        match self.accept.encoding {
            Encoding::Json => Ok(json_frame(kind, tree.to_string().as_bytes())),
            Encoding::Yaml => yaml_frame(kind, tree.to_string().as_bytes()),
            Encoding::Protobuf => {
                let one = body::encode_tree(tree, Encoding::Protobuf)?;
                Ok(envelope::watch_frame(kind, &one).into())
            }
        }
    }

    /// An object of the kind with nothing but a resourceVersion.
    fn bookmark(&self, revision: u64, ends_initial: bool) -> Result<Bytes> {
        if self.accept.of_list == Some(true) {
            return Err(ApiError::plain("a bookmark is not a list"));
        }
        let mut tree = json!({
            "kind": self.resource.kind,
            "apiVersion": self.resource.api_version(),
            "metadata": { "resourceVersion": revision.to_string() },
        });
        // what upstream has of one that a webhook converts is a tree with nothing that nobody set
        if !self.resource.is_converted() {
            tree["metadata"]["creationTimestamp"] = Value::Null;
        }
        if ends_initial {
            tree["metadata"]["annotations"] = json!({ "k8s.io/initial-events-end": "true" });
        }
        let version = self.accept.version.api_version();
        match self.accept.transform {
            Transform::Metadata => {
                tree["kind"] = json!("PartialObjectMetadata");
                tree["apiVersion"] = json!(version);
            }
            Transform::Table => {
                let cells = Value::Array(Vec::new());
                tree = json!({
                    "kind": "Table", "apiVersion": version,
                    "metadata": { "resourceVersion": revision.to_string() },
                    "columnDefinitions": [],
                    "rows": [{ "cells": cells, "object": { "kind": "PartialObjectMetadata", "apiVersion": version, "metadata": tree["metadata"] } }],
                });
            }
            Transform::Whole => {}
        }
        let frame = self.tree("BOOKMARK", &tree)?;
        self.counted.event(frame.len());
        Ok(frame)
    }
}

fn yaml_frame(kind: &str, object: &[u8]) -> Result<Bytes> {
    let object: Value = serde_json::from_slice(object).map_err(ApiError::internal)?;
    Ok(format!(
        "{}---\n",
        api::yaml::to_string(&json!({ "type": kind, "object": object }))
    )
    .into())
}

/// The state of one watch.
struct Stream {
    subscription: Option<Subscription>,
    selection: Selection,
    framer: Framer,
    served: Served,
    /// What is told before what happens from now on. It is framed when the client reads, so that one who does not
    /// holds no copies.
    past: Past,
    pending: std::collections::VecDeque<Bytes>,
    ends: Instant,
    next_bookmark: Option<Instant>,
    told: u64,
    begun: Instant,
    /// When the last change was handed on.
    gave: Option<Instant>,
}

/// The beginning of a watch: the objects there are, the end of them, and the changes since a revision.
#[derive(Default)]
struct Past {
    objects: std::vec::IntoIter<Arc<Cached>>,
    /// The revision of those objects, where the client asked to hear that they have ended.
    end: Option<u64>,
    changes: std::vec::IntoIter<Arc<Change>>,
}

/// Answers WATCH.
pub async fn watch(
    registry: &Registry,
    served: &Served,
    selection: Selection,
    query: &Query,
    accept: Accept,
) -> Result<Response<Body>> {
    let options = WatchOptions::parse(query)?;
    // each object is told by itself; who wants each as a list is told nothing, and the first that comes ends the watch
    let accept = Accept {
        of_list: accept.of_list.filter(|list| *list),
        ..accept
    };
    let mut stream = Stream::open(registry, served, selection, &options, accept).await?;
    let media_type = match accept.encoding {
        Encoding::Json => HeaderValue::from_static("application/json"),
        Encoding::Yaml => HeaderValue::from_static("application/yaml;stream=watch"),
        Encoding::Protobuf => HeaderValue::from_static("application/vnd.kubernetes.protobuf;stream=watch"),
    };
    // headers go out before the first event
    stream.pending.shrink_to_fit();
    let frames = stream::unfold(stream, |mut stream| async move {
        let bytes = stream.next().await?;
        Some((Ok(Frame::data(bytes)), stream))
    });
    let mut response = Response::new(StreamBody::new(frames).boxed_unsync());
    *response.status_mut() = StatusCode::OK;
    response.headers_mut().insert(header::CONTENT_TYPE, media_type);
    response
        .headers_mut()
        .insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache, private"));
    Ok(response)
}

impl Stream {
    async fn open(
        registry: &Registry,
        served: &Served,
        selection: Selection,
        options: &WatchOptions,
        accept: Accept,
    ) -> Result<Stream> {
        let scope = selection.scope(&served.resource);
        let resource = served.resource.clone();
        let counted = registry.metrics.watches.of(&resource, selection.scope_name());
        let framer = Framer {
            resource,
            accept,
            include: options.include,
            first: true,
            counted,
        };
        let now = Instant::now();
        let mut stream = Stream {
            subscription: None,
            selection,
            framer,
            served: served.clone(),
            past: Past::default(),
            pending: std::collections::VecDeque::new(),
            ends: now + options.timeout,
            next_bookmark: options.bookmarks.then_some(now + BOOKMARK_EVERY),
            told: options.since.unwrap_or(0),
            begun: now,
            gave: None,
        };
        match served.cache.watch(scope, &stream.selection.namespace, options.since) {
            Ok((subscription, listing, backlog)) => {
                stream.subscription = Some(subscription);
                if options.since.is_none() {
                    stream.told = listing.revision;
                }
                let ended = options.initial_events && options.bookmarks;
                let mut objects = listing.items;
                stream.selection.ready(&objects).await?;
                objects.retain(|o| stream.selection.matches(o));
                stream.past = Past {
                    objects: objects.into_iter(),
                    end: ended.then_some(listing.revision),
                    changes: backlog.into_iter(),
                };
                // what cannot be written in the form that was asked for is refused before the answer begins
                match stream.replay().await {
                    Ok(first) => stream.pending.extend(first),
                    // the answer has begun by then with upstream
                    Err(_) if accept.of_list == Some(true) => {
                        stream.subscription = None;
                        stream.past = Past::default();
                    }
                    Err(error) => return Err(error),
                }
            }
            // a watch that cannot go on is told so inside the stream
            Err(error) => stream.pending.push_back(stream.framer.tree("ERROR", &error.status())?),
        }
        Ok(stream)
    }

    async fn frame(&mut self, change: &Change) -> Result<Option<Bytes>> {
        if change.revision <= self.told {
            return Ok(None);
        }
        if self.selection.is_of_converted() {
            let seen = change.previous.iter().chain([&change.current]);
            self.selection.ready(&seen.cloned().collect::<Vec<_>>()).await?;
        }
        let Some(kind) = self.selection.event_type(change) else {
            return Ok(None);
        };
        self.told = change.revision;
        if kind == "DELETED" && !change.deleted {
            // it left the selection: show what it was, at the revision it left
            let last = change
                .previous
                .as_ref()
                .unwrap_or(&change.current)
                .restamped(change.revision);
            let last = Arc::new(last);
            self.framer.resource.ready(std::slice::from_ref(&last)).await?;
            return self.framer.object(kind, &last).map(Some);
        }
        self.framer
            .resource
            .ready(std::slice::from_ref(&change.current))
            .await?;
        self.framer.change(kind, change, &change.current).map(Some)
    }

    /// Some of the past, if there is any left.
    async fn replay(&mut self) -> Result<Option<Bytes>> {
        let mut all = Vec::new();
        while all.len() < GATHERED {
            if let Some(object) = self.past.objects.next() {
                if self.framer.resource.lacks(&object) {
                    // those that come next are made ready with it
                    let next = self.past.objects.as_slice();
                    let ahead = [std::slice::from_ref(&object), &next[..next.len().min(AHEAD)]].concat();
                    self.framer.resource.ready(&ahead).await?;
                }
                all.extend_from_slice(&self.framer.object("ADDED", &object)?);
            } else if let Some(revision) = self.past.end.take() {
                all.extend_from_slice(&self.framer.bookmark(revision, true)?);
                self.framer.counted.listed(self.begun.elapsed());
            } else if let Some(change) = self.past.changes.next() {
                if let Some(frame) = self.frame(&change).await? {
                    all.extend_from_slice(&frame);
                }
            } else {
                // the lists themselves
                self.past = Past::default();
                break;
            }
        }
        Ok((!all.is_empty()).then(|| all.into()))
    }

    async fn next(&mut self) -> Option<Bytes> {
        loop {
            if let Some(frame) = self.pending.pop_front() {
                return Some(frame);
            }
            match self.replay().await {
                Ok(Some(frames)) => return Some(frames),
                Ok(None) => {}
                Err(error) => return self.fail(&error),
            }
            let subscription = self.subscription.as_mut()?;
            let wake = self.next_bookmark.map_or(self.ends, |at| at.min(self.ends));
            tokio::select! {
                change = subscription.queue.recv() => match change {
                    Some(change) => match self.frame(&change).await {
                        Ok(Some(frame)) => return Some(self.gather(frame).await),
                        Ok(None) => {}
                        Err(error) => return self.fail(&error),
                    },
                    None => {
                        let error = ApiError::expired("the watch fell behind or the resource is no longer served");
                        return self.fail(&error);
                    }
                },
                () = tokio::time::sleep_until(wake) => {
                    let now = Instant::now();
                    if now >= self.ends {
                        return None;
                    }
                    self.next_bookmark = Some(now + BOOKMARK_EVERY);
                    let revision = self.served.cache.revision();
                    // what is queued must be seen before a bookmark passes it
                    if revision > self.told && self.subscription.as_ref().is_some_and(|s| s.queue.is_empty()) {
                        self.told = revision;
                        return match self.framer.bookmark(revision, false) {
                            Ok(frame) => Some(frame),
                            Err(error) => self.fail(&error),
                        };
                    }
                }
            }
        }
    }

    /// A frame with those that came soon after it.
    async fn gather(&mut self, first: Bytes) -> Bytes {
        if let Some(gave) = self.gave
            && gave.elapsed() < GATHER
        {
            tokio::time::sleep_until(gave + GATHER).await;
        }
        self.gave = Some(Instant::now());
        let mut all = Vec::new();
        while all.len() < GATHERED {
            let Some(Ok(change)) = self.subscription.as_mut().map(|s| s.queue.try_recv()) else {
                break;
            };
            match self.frame(&change).await {
                Ok(Some(frame)) => {
                    if all.is_empty() {
                        all.extend_from_slice(&first);
                    }
                    all.extend_from_slice(&frame);
                }
                Ok(None) => {}
                Err(error) => {
                    let last = self.fail(&error);
                    self.pending.extend(last);
                }
            }
        }
        if all.is_empty() { first } else { all.into() }
    }

    /// The last frame: why the watch ends.
    fn fail(&mut self, error: &ApiError) -> Option<Bytes> {
        self.subscription = None;
        if self.framer.accept.of_list == Some(true) {
            return None;
        }
        self.framer.tree("ERROR", &error.status()).ok()
    }
}
