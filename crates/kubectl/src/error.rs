//! What goes wrong, and the words and exit code upstream has for it.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Status;

pub(crate) type Result<T> = std::result::Result<T, Error>;

/// Why a command did not do all it was asked to.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Printed after `error: `.
    #[error("{0}")]
    Message(String),
    /// Printed as it is.
    #[error("{0}")]
    Plain(String),
    /// A wrong command line.
    #[error("{message}")]
    Usage { command: String, message: String },
    /// The server's refusal, or no answer from it.
    #[error(transparent)]
    Api(#[from] client::Error),
    /// The server at this address did not answer.
    #[error("{reason}")]
    Unreachable { server: String, reason: String },
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))]
    Many(Vec<Error>),
    /// Everything is said; only the code is left.
    #[error("exit code {0}")]
    Exit(u8),
    #[error(transparent)]
    Io(#[from] std::io::Error),
    /// A message with an exit code of its own.
    #[error("{message}")]
    Coded { code: u8, message: String },
}

impl From<crate::jsonpath::JsonPathError> for Error {
    fn from(error: crate::jsonpath::JsonPathError) -> Error {
        Error::Message(error.0)
    }
}

/// An error that is a text.
pub fn message(text: impl Into<String>) -> Error {
    Error::Message(text.into())
}

/// The same as a result.
pub fn fail<T>(text: impl Into<String>) -> Result<T> {
    Err(Error::Message(text.into()))
}

/// All errors of a pass that went on after each of them.
pub fn all(errors: Vec<Error>) -> Result<()> {
    let mut errors = errors;
    match errors.len() {
        0 => Ok(()),
        1 => Err(errors.remove(0)),
        _ => Err(Error::Many(errors)),
    }
}

impl Error {
    /// The process' exit code.
    pub fn code(&self) -> u8 {
        match self {
            Error::Exit(code) | Error::Coded { code, .. } => *code,
            _ => 1,
        }
    }

    /// What is printed on the standard error stream; nothing for [`Error::Exit`].
    pub fn report(&self) -> Option<String> {
        match self {
            Error::Exit(_) => None,
            Error::Plain(text) => Some(text.clone()),
            Error::Coded { message, .. } => Some(message.clone()),
            Error::Many(errors) => {
                let texts: Vec<String> = errors.iter().map(Error::one_of_many).collect();
                Some(texts.join("\n"))
            }
            Error::Usage { command, message } => {
                Some(format!("error: {message}\nSee '{command} -h' for help and examples"))
            }
            Error::Api(client::Error::Api(status)) if status.reason.as_deref() == Some("Invalid") => {
                Some(invalid(status))
            }
            other => Some(other.standard().unwrap_or_else(|| {
                let text = other.to_string();
                if text.starts_with("error: ") {
                    text
                } else {
                    format!("error: {text}")
                }
            })),
        }
    }

    fn one_of_many(&self) -> String {
        self.standard().unwrap_or_else(|| self.to_string())
    }

    /// The sentence for refusals and missing connections.
    fn standard(&self) -> Option<String> {
        match self {
            Error::Api(client::Error::Api(status)) => {
                let text = status.message.as_deref().unwrap_or_default();
                Some(match status.reason.as_deref() {
                    Some("Unauthorized") => format!("error: You must be logged in to the server ({text})"),
                    Some(reason) if !reason.is_empty() => format!("Error from server ({reason}): {text}"),
                    _ => format!("Error from server: {text}"),
                })
            }
            Error::Api(client::Error::Http {
                method,
                path,
                code,
                body,
            }) => Some(generic(method, path, *code, body)),
            Error::Unreachable { server, reason } if reason.contains("onnection refused") => Some(format!(
                "The connection to the server {server} was refused - did you specify the right host or port?"
            )),
            Error::Unreachable { reason, .. } => Some(format!("Unable to connect to the server: {reason}")),
            _ => None,
        }
    }

    pub(crate) fn is_not_found(&self) -> bool {
        matches!(self, Error::Api(e) if e.is_not_found())
    }

    pub(crate) fn is_conflict(&self) -> bool {
        matches!(self, Error::Api(e) if e.is_conflict())
    }

    pub(crate) fn is_already_exists(&self) -> bool {
        matches!(self, Error::Api(e) if e.is_already_exists())
    }

    /// The code of the server's answer.
    pub fn http_code(&self) -> Option<u16> {
        match self {
            Error::Api(e) => e.code(),
            _ => None,
        }
    }

    /// Says which file's object failed at what.
    pub fn with_source(self, verb: &str, source: &str) -> Error {
        if source.is_empty() {
            return self;
        }
        let wrap = |text: &str| format!("error when {verb} {}: {text}", crate::print::go::quote(source));
        match self {
            Error::Api(client::Error::Api(mut status)) => {
                status.message = Some(wrap(status.message.as_deref().unwrap_or_default()));
                Error::Api(client::Error::Api(status))
            }
            other @ (Error::Unreachable { .. } | Error::Exit(_)) => other,
            other => Error::Message(wrap(&other.to_string())),
        }
    }
}

/// `The Pod "x" is invalid: ...` with a line for each cause where there are several.
fn invalid(status: &Status) -> String {
    let message = status.message.as_deref().unwrap_or_default();
    let Some(details) = &status.details else {
        return match message {
            "" => "The request is invalid".to_owned(),
            text => format!("The request is invalid: {text}"),
        };
    };
    let mut causes: Vec<String> = Vec::new();
    for cause in details.causes.iter().flatten() {
        let field = cause.field.as_deref().unwrap_or_default();
        let text = format!("{field}: {}", cause.message.as_deref().unwrap_or_default());
        if !causes.contains(&text) {
            causes.push(text);
        }
    }
    let (kind, name) = (
        details.kind.as_deref().unwrap_or_default(),
        details.name.as_deref().unwrap_or_default(),
    );
    let mut head = "The request is invalid".to_owned();
    if !kind.is_empty() || !name.is_empty() {
        head = format!("The {kind} {} is invalid", crate::print::go::quote(name));
    } else if !message.is_empty() && causes.is_empty() {
        head = format!("{head}: {message}");
    }
    match &causes[..] {
        [] => head,
        [one] => format!("{head}: {one}"),
        many => {
            let lines: Vec<String> = many.iter().map(|c| format!("* {c}")).collect();
            format!("{head}: \n{}", lines.join("\n"))
        }
    }
}

/// An answer that is no `Status`: what its code means, and what was asked for.
fn generic(method: &str, path: &str, code: u16, body: &str) -> String {
    let (reason, text) = match code {
        400 => (
            "BadRequest",
            "the server rejected our request for an unknown reason".to_owned(),
        ),
        401 => (
            "Unauthorized",
            "the server has asked for the client to provide credentials".to_owned(),
        ),
        403 => ("Forbidden", body.trim().to_owned()),
        404 => (
            "NotFound",
            "the server could not find the requested resource".to_owned(),
        ),
        405 => (
            "MethodNotAllowed",
            "the server does not allow this method on the requested resource".to_owned(),
        ),
        409 => ("Conflict", "the server reported a conflict".to_owned()),
        415 => (
            "UnsupportedMediaType",
            "the body of the request was in an unknown format".to_owned(),
        ),
        429 => (
            "TooManyRequests",
            "the server has received too many requests and has asked us to try again later".to_owned(),
        ),
        500.. => {
            let said = crate::print::go::quote(body.trim());
            let reason = match code {
                503 => "ServiceUnavailable",
                504 => "Timeout",
                _ => "InternalError",
            };
            (
                reason,
                format!("an error on the server ({said}) has prevented the request from succeeding"),
            )
        }
        _ => (
            "",
            format!("the server responded with the status code {code} but did not return more information"),
        ),
    };
    let about = subject(path).map_or(String::new(), |s| format!(" ({} {s})", method.to_lowercase()));
    let reason = if reason.is_empty() {
        String::new()
    } else {
        format!(" ({reason})")
    };
    format!("Error from server{reason}: {text}{about}")
}

/// `pods x` of `/api/v1/namespaces/n/pods/x/log`.
fn subject(path: &str) -> Option<String> {
    let path = path.split('?').next()?;
    let mut parts = path.trim_start_matches('/').split('/');
    let group = match parts.next()? {
        "api" => "",
        "apis" => parts.next()?,
        _ => return None,
    };
    parts.next()?;
    let mut rest: Vec<&str> = parts.collect();
    if rest.first() == Some(&"namespaces") && rest.len() > 2 {
        rest.drain(..2);
    }
    let resource = rest.first().filter(|r| !r.is_empty())?;
    let resource = if group.is_empty() {
        (*resource).to_owned()
    } else {
        format!("{resource}.{group}")
    };
    Some(match rest.get(1) {
        Some(name) => format!("{resource} {name}"),
        None => resource,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn refused(status: serde_json::Value) -> Error {
        Error::Api(client::Error::Api(Box::new(serde_json::from_value(status).unwrap())))
    }

    #[test]
    fn refusals_are_told_as_upstream_tells_them() {
        let error = refused(json!({"status": "Failure", "reason": "NotFound", "message": "pods \"x\" not found"}));
        assert_eq!(
            error.report().unwrap(),
            "Error from server (NotFound): pods \"x\" not found"
        );
        let error = error.with_source("creating", "a.yaml");
        assert_eq!(
            error.report().unwrap(),
            "Error from server (NotFound): error when creating \"a.yaml\": pods \"x\" not found"
        );
    }

    #[test]
    fn an_answer_without_a_status_is_told_by_its_code() {
        let text = generic("GET", "/api/v1/namespaces/n/pods/x/log?container=c", 400, "no");
        assert_eq!(
            text,
            "Error from server (BadRequest): the server rejected our request for an unknown reason (get pods x)"
        );
        assert_eq!(
            subject("/apis/apps/v1/deployments").as_deref(),
            Some("deployments.apps")
        );
        assert_eq!(subject("/version"), None);
    }

    #[test]
    fn every_cause_of_an_invalid_object_has_its_line() {
        let cause = |field: &str| json!({"field": field, "message": "Required value"});
        let mut status = json!({"status": "Failure", "reason": "Invalid", "message": "m",
            "details": {"kind": "Pod", "name": "x", "causes": [cause("a")]}});
        assert_eq!(
            refused(status.clone()).report().unwrap(),
            "The Pod \"x\" is invalid: a: Required value"
        );
        status["details"]["causes"] = json!([cause("a"), cause("b"), cause("a")]);
        assert_eq!(
            refused(status).report().unwrap(),
            "The Pod \"x\" is invalid: \n* a: Required value\n* b: Required value"
        );
    }
}
