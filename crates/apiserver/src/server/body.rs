//! Response bodies: single objects, lists and errors in each encoding, written from the cached bytes.

use std::pin::Pin;
use std::task::{Context, Poll};

use api::gvk::GroupVersionKind;
use api::schema::{Schema, envelope};
use bytes::Bytes;
use futures::stream;
use http::{HeaderValue, Response, StatusCode, header};
use http_body_util::{BodyExt, Full, StreamBody, combinators::UnsyncBoxBody};
use hyper::body::{Frame, SizeHint};
use serde_json::{Value, json};

use crate::http::negotiate::{Accept, Encoding, FormVersion, Transform};
use crate::http::status::{ApiError, Result};
use crate::kinds::columns::BuiltinColumn;
use crate::registry::cached::Cached;
use crate::registry::resource::{Resource, internal_package};
use crate::table;

/// Every response's body.
pub type Body = UnsyncBoxBody<Bytes, std::io::Error>;

/// Bytes per frame of a streamed list.
const CHUNK: usize = 64 << 10;

/// A body that is there whole.
pub fn full(bytes: impl Into<Bytes>) -> Body {
    Full::new(bytes.into()).map_err(|never| match never {}).boxed_unsync()
}

/// A body that breaks off.
pub fn failing(error: std::io::Error) -> Body {
    StreamBody::new(stream::iter([Err(error)])).boxed_unsync()
}

/// A body that holds something until it has been sent, or given up.
pub fn holding<T: Send + 'static>(body: Body, held: T) -> Body {
    body.map_frame(move |frame| {
        let _ = &held;
        frame
    })
    .boxed_unsync()
}

/// The body of an answer that another server gives, and what is held until it has come. What breaks off after its head reaches the
/// client so, as Go passes it on.
pub fn forwarded<B, H>(body: B, held: H) -> Body
where
    B: hyper::body::Body<Data = Bytes> + Send + Unpin + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    H: Send + Unpin + 'static,
{
    let body = body.map_err(move |error| {
        let _ = &held;
        std::io::Error::other(error)
    });
    HeadFirst { body, ready: false }.boxed_unsync()
}

/// A body that lets the head go out before anything of it is looked at: an error that comes first would end the connection with
/// the head unsent.
struct HeadFirst<B> {
    body: B,
    ready: bool,
}

impl<B: hyper::body::Body + Unpin> hyper::body::Body for HeadFirst<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<std::result::Result<Frame<B::Data>, B::Error>>> {
        if !std::mem::replace(&mut self.ready, true) {
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// A body whose bytes are counted as they go.
pub fn counting(body: Body, mut count: impl FnMut(usize) + Send + 'static) -> Body {
    body.map_frame(move |frame| {
        count(frame.data_ref().map_or(0, Bytes::len));
        frame
    })
    .boxed_unsync()
}

pub(super) fn respond(code: StatusCode, media_type: &'static str, body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    *response.status_mut() = code;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(media_type));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache, private"));
    response
}

/// What upstream's outermost handler says of a path that nobody serves.
pub fn no_such_page() -> Response<Body> {
    plain_error(StatusCode::NOT_FOUND, "404 page not found\n")
}

/// An error as text, where upstream has no `Status`.
pub fn plain_error(code: StatusCode, text: impl Into<Bytes>) -> Response<Body> {
    let mut response = respond(code, "text/plain; charset=utf-8", full(text));
    let nosniff = HeaderValue::from_static("nosniff");
    response.headers_mut().insert(header::X_CONTENT_TYPE_OPTIONS, nosniff);
    response
}

/// A JSON document.
pub fn json_response(code: StatusCode, value: &Value) -> Response<Body> {
    respond(code, "application/json", full(value.to_string()))
}

/// A tree of a built-in kind that is not stored (`Status`, `TokenReview`, `Scale`, ...).
pub fn tree_response(code: StatusCode, accept: Accept, tree: &Value) -> Response<Body> {
    let text = |key: &str| tree.get(key).and_then(Value::as_str).unwrap_or_default();
    match accept.encoding {
        Encoding::Json => json_response(code, tree),
        Encoding::Yaml => respond(code, Encoding::Yaml.media_type(), full(api::yaml::to_string(tree))),
        Encoding::Protobuf => {
            let schema = Schema::builtin();
            let Some(root) = schema.type_for(&GroupVersionKind::from_api_version(text("apiVersion"), text("kind")))
            else {
                return json_response(code, tree);
            };
            let raw = match schema.encode_proto(root, tree) {
                Ok(raw) => raw,
                Err(error) => {
                    return json_response(StatusCode::INTERNAL_SERVER_ERROR, &ApiError::internal(error).status());
                }
            };
            let body = envelope::wrap_unknown(text("apiVersion"), text("kind"), &raw);
            respond(code, Encoding::Protobuf.media_type(), full(body))
        }
    }
}

/// The answer of an error: its `Status`, and `Retry-After` where it says when to come again.
pub fn error_response(accept: Accept, error: &ApiError) -> Response<Body> {
    let code = StatusCode::from_u16(error.code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut response = tree_response(code, accept, &error.status());
    if let Some(seconds) = error.retry_after() {
        response
            .headers_mut()
            .insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    }
    response
}

/// The object's JSON in the version that was asked for.
pub(super) fn json_of(resource: &Resource, object: &Cached) -> Result<Bytes> {
    resource.present(object)
}

/// The object's own protobuf message in the version that was asked for.
pub(super) fn protobuf_of(resource: &Resource, object: &Cached) -> Result<Bytes> {
    if resource.is_stored_as_served(object) {
        return object.protobuf(resource);
    }
    let tree: Value = serde_json::from_slice(&json_of(resource, object)?).map_err(ApiError::internal)?;
    resource.encode_protobuf(&tree)
}

/// `PartialObjectMetadata` of an object.
pub(super) fn metadata_of(resource: &Resource, object: &Cached, version: FormVersion) -> Result<Bytes> {
    let mut out = Vec::new();
    write_metadata_of(resource, object, version, &mut out)?;
    Ok(out.into())
}

/// Labels and annotations are what a webhook that converts the object makes of them.
pub(super) fn write_metadata_of(
    resource: &Resource,
    object: &Cached,
    version: FormVersion,
    out: &mut Vec<u8>,
) -> Result<()> {
    match resource.is_converted() {
        true => table::write_metadata(&json_of(resource, object)?, version, out),
        false => table::write_metadata(&object.object.bytes, version, out),
    }
    Ok(())
}

/// The bytes of one object under a transformation and encoding.
pub fn encode_object(resource: &Resource, object: &Cached, accept: Accept) -> Result<Bytes> {
    encode_object_with(resource, object, accept, table::Include::Metadata)
}

/// The same; `include` says what a row of a table has of the object.
fn encode_object_with(resource: &Resource, object: &Cached, accept: Accept, include: table::Include) -> Result<Bytes> {
    let tree = match accept.transform {
        Transform::Whole => match accept.encoding {
            Encoding::Json => return json_of(resource, object),
            Encoding::Protobuf => {
                let raw = protobuf_of(resource, object)?;
                return Ok(envelope::wrap_unknown(&resource.api_version(), &resource.kind, &raw).into());
            }
            Encoding::Yaml => serde_json::from_slice(&json_of(resource, object)?).map_err(ApiError::internal)?,
        },
        Transform::Metadata => {
            if accept.of_list == Some(true) {
                if resource.is_custom() {
                    return Err(ApiError::plain("content is not a list"));
                }
                let kind = format!("*{}.{}", internal_package(&resource.group), resource.kind);
                return Err(ApiError::no_such_form_of(&format!(
                    "you requested PartialObjectMetadataList, but the requested object is not a list ({kind})"
                )));
            }
            let json = metadata_of(resource, object, accept.version)?;
            if accept.encoding == Encoding::Json {
                return Ok(json);
            }
            serde_json::from_slice(&json).map_err(ApiError::internal)?
        }
        Transform::Table => {
            let rows = table::Rows::of(resource, include, accept.version);
            table::of_included(&rows, std::slice::from_ref(&json_of(resource, object)?), true)?
        }
    };
    encode_tree(&tree, accept.encoding)
}

/// A tree in an encoding.
///
/// # Errors
/// `500` when it has no protobuf.
pub fn encode_tree(tree: &Value, encoding: Encoding) -> Result<Bytes> {
    let text = |key: &str| tree.get(key).and_then(Value::as_str).unwrap_or_default();
    match encoding {
        Encoding::Json => Ok(serde_json::to_vec(tree).map_err(ApiError::internal)?.into()),
        Encoding::Yaml => Ok(api::yaml::to_string(tree).into()),
        Encoding::Protobuf => {
            let schema = Schema::builtin();
            let root = schema
                .type_for(&GroupVersionKind::from_api_version(text("apiVersion"), text("kind")))
                .ok_or_else(|| ApiError::not_acceptable("application/json, application/yaml"))?;
            let raw = schema.encode_proto(root, tree).map_err(ApiError::internal)?;
            Ok(envelope::wrap_unknown(text("apiVersion"), text("kind"), &raw).into())
        }
    }
}

/// Answers with an object that is not stored as such, in the form that the client wants. `kind` is what Go calls its type.
pub fn made_response(
    code: StatusCode,
    accept: Accept,
    tree: &Value,
    columns: &[BuiltinColumn],
    kind: &str,
) -> Result<Response<Body>> {
    let formed = match accept.transform {
        Transform::Whole => return Ok(tree_response(code, accept, tree)),
        Transform::Metadata if accept.of_list == Some(true) => {
            return Err(ApiError::no_such_form_of(&format!(
                "you requested PartialObjectMetadataList, but the requested object is not a list ({kind})"
            )));
        }
        Transform::Metadata => {
            json!({ "kind": "PartialObjectMetadata", "apiVersion": accept.version.api_version(), "metadata": tree["metadata"] })
        }
        Transform::Table => {
            let object = Bytes::from(tree.to_string());
            table::of_included(&table::Rows::of_columns(columns, accept.version), &[object], true)?
        }
    };
    Ok(respond(
        code,
        accept.encoding.media_type(),
        full(encode_tree(&formed, accept.encoding)?),
    ))
}

/// The answer of one object in the form and version that the client accepts.
///
/// # Errors
/// `406` when it cannot be had so, `500` when it cannot be written.
pub fn object_response(
    code: StatusCode,
    resource: &Resource,
    object: &Cached,
    accept: Accept,
) -> Result<Response<Body>> {
    let body = encode_object(resource, object, accept)?;
    Ok(respond(code, accept.encoding.media_type(), full(body)))
}

/// An object that is read; `include` says what the row of a table has of it.
pub fn read_response(
    resource: &Resource,
    object: &Cached,
    accept: Accept,
    include: table::Include,
) -> Result<Response<Body>> {
    let body = encode_object_with(resource, object, accept, include)?;
    Ok(respond(StatusCode::OK, accept.encoding.media_type(), full(body)))
}

/// A body that is made while it is sent: `next` writes one more part, or says that there is none.
pub(super) fn pieces(
    head: Vec<u8>,
    mut next: impl FnMut(&mut Vec<u8>) -> Result<bool> + Send + 'static,
    tail: Vec<u8>,
) -> Body {
    let mut pending = Some(head);
    let mut ended = false;
    let chunks = stream::iter(std::iter::from_fn(move || {
        if ended {
            return None;
        }
        let mut out = Vec::with_capacity(CHUNK + (CHUNK >> 2));
        if let Some(head) = pending.take() {
            out.extend_from_slice(&head);
        }
        while out.len() < CHUNK {
            match next(&mut out) {
                Ok(true) => {}
                Ok(false) => {
                    out.extend_from_slice(&tail);
                    ended = true;
                    break;
                }
                Err(error) => {
                    ended = true;
                    return Some(Err(std::io::Error::other(error)));
                }
            }
        }
        Some(Ok(Frame::data(Bytes::from(out))))
    }));
    StreamBody::new(chunks).boxed_unsync()
}
