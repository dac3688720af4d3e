//! `metav1.Status`: the error every refused request is answered with, in upstream's reasons and wording.

use api::field::FieldError;
use serde_json::{Value, json};

/// The group that options are named by in errors.
pub const META: &str = "meta.k8s.io";

/// An API error. Its JSON form is a `Status` of `Failure`.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{message}")]
pub struct ApiError {
    pub code: u16,
    pub reason: &'static str,
    pub message: String,
    pub details: Option<Value>,
    /// Where a list whose revision is gone may go on.
    continue_token: Option<String>,
    /// The whole `Status`, where another server has made it.
    made: Option<Box<Value>>,
}

/// What the API answers, or the `Status` that it fails with.
pub type Result<T, E = ApiError> = std::result::Result<T, E>;

/// Errors of one object that are told; what breaks the rules a thousand times is no mistake.
const ERRORS_TOLD: usize = 1000;

/// A resource with its group, as errors name it.
pub fn qualified(group: &str, resource: &str) -> String {
    if group.is_empty() {
        resource.to_owned()
    } else {
        format!("{resource}.{group}")
    }
}

impl ApiError {
    /// An error of a code and a reason, which says nothing of an object.
    pub fn new(code: u16, reason: &'static str, message: impl Into<String>) -> ApiError {
        ApiError {
            code,
            reason,
            message: message.into(),
            details: None,
            continue_token: None,
            made: None,
        }
    }

    /// A `Status` that another server has made, passed on as it is.
    pub fn of_status(status: Value) -> ApiError {
        let code = status["code"].as_u64().and_then(|code| u16::try_from(code).ok());
        // what HTTP cannot say is a fault of who said it
        let code = code.filter(|code| (100..1000).contains(code)).unwrap_or(500);
        let mut error = ApiError::new(code, "", status["message"].as_str().unwrap_or_default());
        error.details = status.get("details").filter(|details| !details.is_null()).cloned();
        error.made = Some(Box::new(status));
        error
    }

    fn about(mut self, group: &str, kind: &str, name: &str) -> ApiError {
        let mut details = json!({ "name": name, "group": group, "kind": kind });
        if let Some(map) = details.as_object_mut() {
            map.retain(|_, v| v.as_str() != Some(""));
        }
        self.details = Some(details);
        self
    }

    /// `400 BadRequest`.
    pub fn bad_request(message: impl Into<String>) -> ApiError {
        ApiError::new(400, "BadRequest", message)
    }

    /// `401 Unauthorized`: nobody knows who asks.
    pub fn unauthorized() -> ApiError {
        ApiError::new(401, "Unauthorized", "Unauthorized")
    }

    /// `403 Forbidden`: who asks may not do this to the object, or `why` it may not be done. Empty names are left out.
    pub fn forbidden(group: &str, resource: &str, name: &str, why: &str) -> ApiError {
        let what = qualified(group, resource);
        let message = if what.is_empty() {
            format!("forbidden: {why}")
        } else if name.is_empty() {
            format!("{what} is forbidden: {why}")
        } else {
            format!("{what} {name:?} is forbidden: {why}")
        };
        ApiError::new(403, "Forbidden", message).about(group, resource, name)
    }

    /// `404 NotFound` of an object of a group's resource.
    pub fn not_found(group: &str, resource: &str, name: &str) -> ApiError {
        let message = format!("{} {name:?} not found", qualified(group, resource));
        ApiError::new(404, "NotFound", message).about(group, resource, name)
    }

    /// There is no such path or resource type.
    pub fn no_such_path() -> ApiError {
        let mut e = ApiError::new(404, "NotFound", "the server could not find the requested resource");
        e.details = Some(json!({}));
        e
    }

    /// `405 MethodNotAllowed`.
    pub fn method_not_allowed() -> ApiError {
        let message = "the server does not allow this method on the requested resource";
        ApiError::new(405, "MethodNotAllowed", message).without_details()
    }

    /// `406 NotAcceptable`: none of the `accepted` representations is asked for.
    pub fn not_acceptable(accepted: &str) -> ApiError {
        let message = format!("406: Not Acceptable\n\nAvailable representations: {accepted}");
        ApiError::new(406, "NotAcceptable", message).without_details()
    }

    /// The media type is one of ours, what is to be made of the object is not.
    pub fn no_such_form(accepted: &str) -> ApiError {
        let message = format!("only the following media types are accepted: {accepted}");
        ApiError::new(406, "NotAcceptable", message)
    }

    /// The form that is asked for does not go with what would be written in it.
    pub fn no_such_form_of(why: &str) -> ApiError {
        ApiError::new(406, "NotAcceptable", why)
    }

    /// The media type of a patch is not known.
    pub fn unknown_patch_type() -> ApiError {
        ApiError::new(415, "UnsupportedMediaType", "415: Unsupported Media Type").without_details()
    }

    /// A JSON Patch that does not fit the object.
    pub fn unfit_patch() -> ApiError {
        let message = "the server rejected our request due to an error in our request";
        ApiError::new(422, "Invalid", message).without_details()
    }

    /// An error that upstream does not classify.
    pub fn plain(message: impl Into<String>) -> ApiError {
        ApiError::new(500, "", message)
    }

    /// Upstream writes empty details for what it refuses by the code alone.
    fn without_details(mut self) -> ApiError {
        self.details = Some(json!({}));
        self
    }

    /// `409 AlreadyExists` of an object of a group's resource.
    pub fn already_exists(group: &str, resource: &str, name: &str) -> ApiError {
        let message = format!("{} {name:?} already exists", qualified(group, resource));
        ApiError::new(409, "AlreadyExists", message).about(group, resource, name)
    }

    /// The object asked for a name of the server's choice.
    pub fn generated_name_exists(group: &str, resource: &str, name: &str) -> ApiError {
        let mut error = ApiError::already_exists(group, resource, name);
        error.message += ", the server was not able to generate a unique name for the object";
        if let Some(details) = error.details.as_mut().and_then(|d| d.as_object_mut()) {
            details.insert("retryAfterSeconds".into(), json!(1));
        }
        error
    }

    /// `409 Conflict`: the object has changed, or `why` it cannot be written.
    pub fn conflict(group: &str, resource: &str, name: &str, why: &str) -> ApiError {
        let message = format!(
            "Operation cannot be fulfilled on {} {name:?}: {why}",
            qualified(group, resource)
        );
        ApiError::new(409, "Conflict", message).about(group, resource, name)
    }

    /// The object changed since it was read.
    pub fn modified(group: &str, resource: &str, name: &str) -> ApiError {
        let why = "the object has been modified; please apply your changes to the latest version and try again";
        ApiError::conflict(group, resource, name, why)
    }

    /// Server-side apply met fields of other managers.
    pub fn apply_conflict(message: String, causes: &[Value]) -> ApiError {
        let mut e = ApiError::new(409, "Conflict", message);
        e.details = Some(json!({ "causes": causes }));
        e
    }

    /// `410 Expired`: the revision asked for is gone.
    pub fn expired(message: impl Into<String>) -> ApiError {
        ApiError::new(410, "Expired", message)
    }

    /// Adds the token with which a client goes on with a list that expired.
    #[must_use]
    pub fn with_continue(mut self, token: String) -> ApiError {
        self.continue_token = Some(token);
        self
    }

    /// `410 Expired`: a watch from a revision before the oldest that is kept.
    pub fn too_old(asked: u64, oldest: u64) -> ApiError {
        ApiError::expired(format!("too old resource version: {asked} ({oldest})"))
    }

    /// `413 RequestEntityTooLarge`: the body has more bytes than the limit.
    pub fn too_large(limit: usize) -> ApiError {
        let message = format!("Request entity too large: limit is {limit}");
        ApiError::new(413, "RequestEntityTooLarge", message)
    }

    /// `415 UnsupportedMediaType`.
    pub fn unsupported_media_type(message: impl Into<String>) -> ApiError {
        ApiError::new(415, "UnsupportedMediaType", message)
    }

    /// The object breaks rules of its kind.
    pub fn invalid(group: &str, kind: &str, name: &str, errors: &[FieldError]) -> ApiError {
        let more = errors.len().saturating_sub(ERRORS_TOLD);
        let errors = &errors[..errors.len() - more];
        // the same twice is said once, though it is counted as two causes
        let mut said = std::collections::HashSet::new();
        let mut texts: Vec<String> = errors.iter().map(ToString::to_string).collect();
        texts.retain(|text| said.insert(text.clone()));
        if more > 0 {
            texts.push(format!("{more} more errors"));
        }
        let all = match texts.as_slice() {
            [one] => one.clone(),
            many => format!("[{}]", many.join(", ")),
        };
        let message = format!("{} {name:?} is invalid: {all}", qualified(group, kind));
        let mut e = ApiError::new(422, "Invalid", message).about(group, kind, name);
        if let Some(Value::Object(details)) = &mut e.details {
            details.insert("causes".into(), errors.iter().map(FieldError::cause).collect());
        }
        e
    }

    /// `429 TooManyRequests`; after these seconds it is worth trying again.
    pub fn too_many_requests(message: impl Into<String>, retry_after_seconds: u32) -> ApiError {
        let mut e = ApiError::new(429, "TooManyRequests", message);
        e.details = Some(json!({ "retryAfterSeconds": retry_after_seconds }));
        e
    }

    /// `500 InternalError`, with the message as its cause.
    pub fn internal(message: impl std::fmt::Display) -> ApiError {
        let mut e = ApiError::new(500, "InternalError", format!("Internal error occurred: {message}"));
        e.details = Some(json!({ "causes": [{ "message": message.to_string() }] }));
        e
    }

    /// `503 ServiceUnavailable`.
    pub fn unavailable(message: impl Into<String>) -> ApiError {
        ApiError::new(503, "ServiceUnavailable", message)
    }

    /// `504 Timeout`; after these seconds, unless 0, it is worth trying again.
    pub fn timeout(message: impl Into<String>, retry_after_seconds: u32) -> ApiError {
        let mut e = ApiError::new(504, "Timeout", format!("Timeout: {}", message.into()));
        e.details = Some(match retry_after_seconds {
            0 => json!({}),
            seconds => json!({ "retryAfterSeconds": seconds }),
        });
        e
    }

    /// The `Status` object.
    pub fn status(&self) -> Value {
        if let Some(made) = &self.made {
            return Value::clone(made);
        }
        let mut status = json!({
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {},
            "status": "Failure",
            "message": self.message,
            "code": self.code,
        });
        if !self.reason.is_empty() {
            status["reason"] = json!(self.reason);
        }
        if let Some(token) = &self.continue_token {
            status["metadata"]["continue"] = json!(token);
        }
        if let Some(details) = &self.details {
            status["details"] = details.clone();
        }
        status
    }

    /// Seconds after which the client may try again, where the error says so.
    pub fn retry_after(&self) -> Option<u64> {
        self.details.as_ref()?.get("retryAfterSeconds")?.as_u64()
    }
}

impl From<etcd::StoreError> for ApiError {
    fn from(error: etcd::StoreError) -> ApiError {
        match error {
            etcd::StoreError::Compacted { .. } => {
                ApiError::expired("The resourceVersion for the provided list is too old.")
            }
            etcd::StoreError::Unavailable(why) => ApiError::unavailable(why),
            other => ApiError::internal(other),
        }
    }
}
