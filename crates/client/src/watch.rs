//! Following a collection by LIST and WATCH requests over any way of sending them.

use std::sync::Arc;
use std::time::Duration;

use api::object::Object;
use bytes::{Bytes, BytesMut};
use futures::future::BoxFuture;
use futures::stream::BoxStream;
use http_body_util::BodyExt;
use serde::Deserialize;
use serde_json::value::RawValue;
use tokio::sync::mpsc;
use tokio_util::task::AbortOnDropHandle;

use crate::client::{error_of, read_all};
use crate::{Body, Error, ListWatch, Result, WatchEvent};

/// Sends one request: what the loop needs of a transport.
pub type CallFn = Arc<dyn Fn(http::Request<Bytes>) -> BoxFuture<'static, Result<http::Response<Body>>> + Send + Sync>;

const FIRST_DELAY: Duration = Duration::from_millis(800);
const LONGEST_DELAY: Duration = Duration::from_secs(30);
/// A stream that was up this long starts again with the shortest delay.
const HEALTHY: Duration = Duration::from_secs(120);

/// A `list_watch` made of LIST and WATCH requests sent by `call`.
pub fn list_watch_over(call: CallFn, request: ListWatch) -> BoxStream<'static, WatchEvent> {
    let (events, receiver) = mpsc::channel(64);
    let task = AbortOnDropHandle::new(tokio::spawn(follow(call, request, events)));
    Box::pin(futures::stream::unfold(
        (receiver, task),
        |(mut receiver, task)| async move { receiver.recv().await.map(|event| (event, (receiver, task))) },
    ))
}

/// Why one WATCH request ended.
enum End {
    /// The server closed it, as it does every few minutes.
    Closed,
    /// The version to go on from is gone.
    Expired,
    /// Nobody listens.
    Unwanted,
}

async fn follow(call: CallFn, request: ListWatch, events: mpsc::Sender<WatchEvent>) {
    let mut delay = FIRST_DELAY;
    // The cache of the server is good enough at first; after 410 the newest state is asked for.
    let mut from_cache = true;
    let mut version: Option<String> = None;
    loop {
        let started = tokio::time::Instant::now();
        let outcome = match version.take() {
            None => match list(&call, &request, from_cache).await {
                Ok((objects, at)) => {
                    if events.send(WatchEvent::Restarted(objects)).await.is_err() {
                        return;
                    }
                    version = Some(at);
                    delay = FIRST_DELAY;
                    continue;
                }
                Err(error) => Err(error),
            },
            Some(mut at) => {
                let ended = watch(&call, &request, &mut at, &events).await;
                version = Some(at);
                ended
            }
        };
        match outcome {
            Ok(End::Unwanted) => return,
            Ok(End::Closed) if started.elapsed() > Duration::from_secs(1) => {
                delay = FIRST_DELAY;
                continue;
            }
            Ok(End::Closed) => {}
            Ok(End::Expired) => {
                version = None;
                from_cache = false;
            }
            Err(error) => {
                tracing::warn!(path = request.path, %error, "watch failed; trying again");
            }
        }
        if started.elapsed() > HEALTHY {
            delay = FIRST_DELAY;
        }
        tokio::time::sleep(jittered(delay)).await;
        delay = (delay * 2).min(LONGEST_DELAY);
    }
}

/// Between the duration and twice the duration.
pub(crate) fn jittered(duration: Duration) -> Duration {
    duration + duration.mul_f64(random_fraction())
}

pub(crate) fn random_fraction() -> f64 {
    let random = getrandom::u32().unwrap_or(u32::MAX / 2);
    f64::from(random) / f64::from(u32::MAX)
}

fn get(uri: &str) -> Result<http::Request<Bytes>> {
    Ok(http::Request::get(uri)
        .header(http::header::ACCEPT, "application/json")
        .body(Bytes::new())?)
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawList<'a> {
    #[serde(default)]
    api_version: String,
    #[serde(default)]
    kind: String,
    metadata: RawListMeta,
    #[serde(borrow, default)]
    items: Option<Vec<&'a RawValue>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawListMeta {
    #[serde(default)]
    resource_version: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct TypeProbe<'a> {
    #[serde(borrow, default)]
    kind: Option<std::borrow::Cow<'a, str>>,
}

/// Items of typed lists carry neither `apiVersion` nor `kind`; a cached object carries both.
fn with_type(item: &str, api_version: &str, kind: &str) -> Bytes {
    let has_kind = serde_json::from_str::<TypeProbe>(item).is_ok_and(|p| p.kind.is_some());
    if has_kind || kind.is_empty() {
        return Bytes::copy_from_slice(item.as_bytes());
    }
    let rest = item.trim_start().trim_start_matches('{');
    let comma = if rest.trim_start().starts_with('}') { "" } else { "," };
    Bytes::from(format!(
        r#"{{"apiVersion":"{api_version}","kind":"{kind}"{comma}{rest}"#
    ))
}

async fn list(call: &CallFn, request: &ListWatch, from_cache: bool) -> Result<(Vec<Arc<Object>>, String)> {
    let uri = request.uri_with(if from_cache { &[("resourceVersion", "0")] } else { &[] });
    let body = read_all("GET", &uri, call(get(&uri)?).await?).await?;
    parse_list(&body).map_err(|source| Error::Decode { path: uri, source })
}

pub(crate) fn parse_list(body: &[u8]) -> std::result::Result<(Vec<Arc<Object>>, String), serde_json::Error> {
    let list: RawList = serde_json::from_slice(body)?;
    let kind = list.kind.strip_suffix("List").unwrap_or_default();
    let mut objects = Vec::new();
    for item in list.items.unwrap_or_default() {
        let object = Object::parse(with_type(item.get(), &list.api_version, kind)).map_err(serde::de::Error::custom)?;
        objects.push(object);
    }
    Ok((objects, list.metadata.resource_version))
}

#[derive(Deserialize)]
struct RawEvent<'a> {
    #[serde(rename = "type")]
    type_: &'a str,
    #[serde(borrow)]
    object: &'a RawValue,
}

async fn watch(call: &CallFn, request: &ListWatch, at: &mut String, events: &mpsc::Sender<WatchEvent>) -> Result<End> {
    let timeout = 300 + (300.0 * random_fraction()) as u64;
    let uri = request.uri_with(&[
        ("watch", "1"),
        ("allowWatchBookmarks", "true"),
        ("resourceVersion", at),
        ("timeoutSeconds", &timeout.to_string()),
    ]);
    let response = call(get(&uri)?).await?;
    if response.status() == http::StatusCode::GONE {
        return Ok(End::Expired);
    }
    if !response.status().is_success() {
        return Err(error_of("GET", &uri, response).await);
    }
    let mut body = response.into_body();
    let mut pending = BytesMut::new();
    loop {
        while let Some(end) = memchr::memchr(b'\n', &pending) {
            let line = pending.split_to(end + 1);
            if line.iter().all(u8::is_ascii_whitespace) {
                continue;
            }
            let raw: RawEvent = serde_json::from_slice(&line).map_err(|source| Error::Decode {
                path: uri.clone(),
                source,
            })?;
            if raw.type_ == "ERROR" {
                let status: k8s_openapi::apimachinery::pkg::apis::meta::v1::Status =
                    serde_json::from_str(raw.object.get()).map_err(|source| Error::Decode {
                        path: uri.clone(),
                        source,
                    })?;
                let error = Error::Api(Box::new(status));
                return if error.is_gone() { Ok(End::Expired) } else { Err(error) };
            }
            let object =
                Object::parse(Bytes::copy_from_slice(raw.object.get().as_bytes())).map_err(|e| Error::Decode {
                    path: uri.clone(),
                    source: serde::de::Error::custom(e),
                })?;
            *at = object.meta.resource_version.to_string();
            let event = match raw.type_ {
                "ADDED" | "MODIFIED" => WatchEvent::Applied(object),
                "DELETED" => WatchEvent::Deleted(object),
                "BOOKMARK" => WatchEvent::Bookmark(object.meta.resource_version),
                other => return Err(Error::Config(format!("{uri}: unknown watch event type {other:?}"))),
            };
            if events.send(event).await.is_err() {
                return Ok(End::Unwanted);
            }
        }
        match body.frame().await {
            None => return Ok(End::Closed),
            Some(Err(error)) => return Err(error),
            Some(Ok(frame)) => {
                if let Ok(data) = frame.into_data() {
                    pending.extend_from_slice(&data);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn list_items_get_the_type_of_their_list() {
        let body = br#"{"kind":"PodList","apiVersion":"v1","metadata":{"resourceVersion":"12"},"items":[
            {"metadata":{"name":"a","namespace":"n","resourceVersion":"7"}},{"kind":"Pod","apiVersion":"v1","metadata":{"name":"b"}}]}"#;
        let (objects, version) = parse_list(body).unwrap();
        assert_eq!(version, "12");
        let kinds: Vec<serde_json::Value> = objects.iter().map(|o| o.decode().unwrap()).collect();
        assert_eq!(kinds[0]["kind"], "Pod");
        assert_eq!(kinds[1]["apiVersion"], "v1");
        assert_eq!(objects[0].key(), "n/a");
    }

    #[test]
    fn selectors_are_escaped_in_the_query() {
        let request = ListWatch::path("/api/v1/pods")
            .fields("spec.nodeName=a,metadata.name!=b")
            .labels("app in (x, y)");
        assert_eq!(
            request.uri_with(&[("resourceVersion", "0")]),
            "/api/v1/pods?labelSelector=app%20in%20%28x%2C%20y%29&fieldSelector=spec.nodeName%3Da%2Cmetadata.name%21%3Db&resourceVersion=0"
        );
    }
}
