//! A document that clients keep until its tag changes.

use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header};
use serde_json::Value;

use crate::http::status::{ApiError, Result};
use crate::server::Request;
use crate::server::body::{self, Body};

/// The bytes of a document with what is said of them.
#[derive(Debug, Clone)]
pub struct Tagged {
    bytes: Bytes,
    tag: HeaderValue,
    media_type: &'static str,
}

impl Tagged {
    /// A document and its tag, the digest of its bytes.
    ///
    /// # Errors
    /// `500` when the tag fits into no header.
    pub fn new(bytes: Vec<u8>, media_type: &'static str) -> Result<Tagged> {
        let digest = ring::digest::digest(&ring::digest::SHA256, &bytes);
        let hex: String = digest.as_ref().iter().map(|b| format!("{b:02X}")).collect();
        Ok(Tagged {
            bytes: bytes.into(),
            tag: HeaderValue::try_from(format!("\"{hex}\"")).map_err(ApiError::internal)?,
            media_type,
        })
    }

    /// A document written as JSON.
    ///
    /// # Errors
    /// As `new`.
    pub fn json(document: &Value, media_type: &'static str) -> Result<Tagged> {
        Tagged::new(document.to_string().into_bytes(), media_type)
    }

    /// The document, or `304` for who has it.
    pub fn answer(&self, request: &Request) -> Response<Body> {
        let same = request.headers.get(header::IF_NONE_MATCH) == Some(&self.tag);
        let mut response = Response::new(body::full(if same { Bytes::new() } else { self.bytes.clone() }));
        if same {
            *response.status_mut() = StatusCode::NOT_MODIFIED;
        }
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(self.media_type));
        headers.insert(header::VARY, HeaderValue::from_static("Accept"));
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("public"));
        headers.insert(header::ETAG, self.tag.clone());
        response
    }
}
