//! The errors a request can end with.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Status;

/// The answer to a request, or why there is none.
pub type Result<T> = std::result::Result<T, Error>;

/// Why a request did not give an answer that can be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The API server refused, with its own words.
    #[error("{}", .0.message.as_deref().unwrap_or("the server refused the request"))]
    Api(Box<Status>),
    /// The server answered something that is no `Status`.
    #[error("{method} {path}: http status {code}: {body}")]
    Http {
        /// The method of the request.
        method: String,
        /// The path of the request.
        path: String,
        /// The answer's status.
        code: u16,
        /// The beginning of the answer's body.
        body: String,
    },
    /// No connection, or it broke.
    #[error("{path}: {source}")]
    Connection {
        /// The path of the request.
        path: String,
        /// What the connection failed with.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The answer is not the JSON of what was asked for.
    #[error("{path}: the answer cannot be decoded: {source}")]
    Decode {
        /// The path of the request.
        path: String,
        /// Where it is wrong.
        source: serde_json::Error,
    },
    /// What is to be sent has no JSON.
    #[error("{what} cannot be encoded: {source}")]
    Encode {
        /// The kind of what is to be sent.
        what: &'static str,
        /// Why not.
        source: serde_json::Error,
    },
    /// The object to be written has no name.
    #[error("{0} has no metadata.name")]
    NoName(&'static str),
    /// The request cannot be made: its path is no URI.
    #[error("invalid request: {0}")]
    Request(#[from] http::Error),
    /// Kubeconfig, certificates and other settings that cannot be used.
    #[error("{0}")]
    Config(String),
    /// The settings of TLS do not fit each other.
    #[error("tls: {0}")]
    Tls(#[from] rustls::Error),
}

impl Error {
    pub(crate) fn connection(
        path: impl Into<String>,
        source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> Error {
        Error::Connection {
            path: path.into(),
            source: source.into(),
        }
    }

    /// The refusal, if the API server made one.
    pub fn status(&self) -> Option<&Status> {
        match self {
            Error::Api(status) => Some(status),
            _ => None,
        }
    }

    /// The HTTP status code of the answer, if there was one.
    pub fn code(&self) -> Option<u16> {
        match self {
            Error::Api(status) => status.code.and_then(|c| u16::try_from(c).ok()),
            Error::Http { code, .. } => Some(*code),
            _ => None,
        }
    }

    fn has_reason(&self, reason: &str) -> bool {
        self.status().and_then(|s| s.reason.as_deref()) == Some(reason)
    }

    /// Returns whether the server answered 404.
    pub fn is_not_found(&self) -> bool {
        self.code() == Some(404)
    }

    /// Returns whether an object of the name is there already.
    pub fn is_already_exists(&self) -> bool {
        self.has_reason("AlreadyExists")
    }

    /// Returns whether the object has changed since it was read.
    pub fn is_conflict(&self) -> bool {
        self.has_reason("Conflict")
    }

    /// Returns whether the server answered 403.
    pub fn is_forbidden(&self) -> bool {
        self.code() == Some(403)
    }

    /// Returns whether the server answered 401.
    pub fn is_unauthorized(&self) -> bool {
        self.code() == Some(401)
    }

    /// Returns whether the object breaks the rules of its kind.
    pub fn is_invalid(&self) -> bool {
        self.has_reason("Invalid")
    }

    /// The resource version asked for is no longer kept.
    pub fn is_gone(&self) -> bool {
        self.code() == Some(410)
    }

    /// The namespace is going away, so nothing can be created in it.
    pub fn is_namespace_terminating(&self) -> bool {
        self.status()
            .and_then(|s| s.details.as_ref())
            .and_then(|d| d.causes.as_ref())
            .is_some_and(|causes| {
                causes
                    .iter()
                    .any(|c| c.reason.as_deref() == Some("NamespaceTerminating"))
            })
    }

    /// Whether the same request may succeed later without a change.
    pub fn is_transient(&self) -> bool {
        match self {
            Error::Connection { .. } => true,
            _ => matches!(self.code(), Some(429 | 500 | 502 | 503 | 504)),
        }
    }

    /// Seconds the server asked to wait before the next try.
    pub fn retry_after(&self) -> Option<std::time::Duration> {
        let seconds = self.status()?.details.as_ref()?.retry_after_seconds?;
        u64::try_from(seconds)
            .ok()
            .filter(|s| *s > 0)
            .map(std::time::Duration::from_secs)
    }
}
