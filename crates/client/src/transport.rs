//! The seam between components and the API server: the same messages in process and over HTTPS.

use std::sync::Arc;

use api::object::Object;
use bytes::Bytes;
use futures::future::BoxFuture;
use futures::stream::BoxStream;
use http_body_util::{BodyExt, Full, combinators::UnsyncBoxBody};

use crate::Error;
use crate::client::encode;

/// The body of an answer; read as it comes.
pub type Body = UnsyncBoxBody<Bytes, Error>;

/// A body of bytes at hand.
pub fn body_of(bytes: Bytes) -> Body {
    Full::new(bytes).map_err(|never| match never {}).boxed_unsync()
}

/// Which objects to follow.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct ListWatch {
    /// The collection, as `/api/v1/pods` or `/api/v1/namespaces/x/pods`.
    pub path: String,
    /// As the query has it; `None` selects all.
    pub label_selector: Option<String>,
    /// As the query has it; `None` selects all.
    pub field_selector: Option<String>,
}

impl ListWatch {
    /// All objects of a collection.
    pub fn path(path: impl Into<String>) -> ListWatch {
        ListWatch {
            path: path.into(),
            ..ListWatch::default()
        }
    }

    /// Only objects whose fields a selector selects.
    pub fn fields(mut self, selector: impl Into<String>) -> ListWatch {
        self.field_selector = Some(selector.into());
        self
    }

    /// The path with the selectors as its query.
    pub fn uri(&self) -> String {
        self.uri_with(&[])
    }

    pub(crate) fn uri_with(&self, more: &[(&str, &str)]) -> String {
        let mut uri = self.path.clone();
        let selectors = [
            ("labelSelector", self.label_selector.as_deref()),
            ("fieldSelector", self.field_selector.as_deref()),
        ];
        let selectors = selectors.iter().filter_map(|(k, v)| v.map(|v| (*k, v)));
        for (i, (k, v)) in selectors.chain(more.iter().copied()).enumerate() {
            uri.push(if i == 0 { '?' } else { '&' });
            uri.push_str(k);
            uri.push('=');
            uri.push_str(&encode(v));
        }
        uri
    }

    /// Only objects whose labels a selector selects.
    pub fn labels(mut self, selector: impl Into<String>) -> ListWatch {
        self.label_selector = Some(selector.into());
        self
    }
}

/// What happens to a followed collection.
#[derive(Debug, Clone)]
pub enum WatchEvent {
    /// The whole collection, at the start and whenever continuity was lost.
    Restarted(Vec<Arc<Object>>),
    /// An object is new, has changed, or is selected now.
    Applied(Arc<Object>),
    /// The last state of an object that is gone, or no longer selected.
    Deleted(Arc<Object>),
    /// Everything up to this resource version has been delivered.
    Bookmark(u64),
}

/// A way to the API server.
pub trait Transport: Send + Sync {
    /// One request. Paths carry no host.
    fn call(&self, request: http::Request<Bytes>) -> BoxFuture<'static, Result<http::Response<Body>, Error>>;

    /// Follows a collection. Never ends; what goes wrong is retried with back-off inside. Dropping the stream stops it.
    fn list_watch(&self, request: ListWatch) -> BoxStream<'static, WatchEvent>;
}
