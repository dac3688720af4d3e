//! What clients of Kubernetes say of an answer that is no success, as it comes to stand in events and conditions. Upstream:
//! `NewGenericServerResponse` of `apimachinery/pkg/api/errors`.

use client::Error;

/// Why something about a target or its metrics is not known, in upstream's words: conditions and events show them.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(super) struct Told(String);

impl Told {
    /// The words of an error.
    pub(super) fn of(error: impl std::fmt::Display) -> Told {
        Told(error.to_string())
    }
}

impl From<String> for Told {
    fn from(words: String) -> Told {
        Told(words)
    }
}

impl From<&str> for Told {
    fn from(words: &str) -> Told {
        Told(words.to_owned())
    }
}

/// The server's own words, or those for a status code without any: `the server could not find the requested resource (get
/// pods.metrics.k8s.io)`. The verb is in small letters; the name may be empty.
pub(super) fn said(error: &Error, verb: &str, resource: &str, name: &str) -> Told {
    let Error::Http { code, body, .. } = error else {
        return Told::of(error);
    };
    let body = body.trim();
    let what = match code {
        400 => "the server rejected our request for an unknown reason".to_owned(),
        401 => "the server has asked for the client to provide credentials".to_owned(),
        403 | 415 => body.to_owned(),
        404 => "the server could not find the requested resource".to_owned(),
        405 => "the server does not allow this method on the requested resource".to_owned(),
        406 if body.is_empty() => {
            "the server was unable to respond with a content type that the client supports".to_owned()
        }
        406 => body.to_owned(),
        409 => "the server reported a conflict".to_owned(),
        422 => "the server rejected our request due to an error in our request".to_owned(),
        429 => "the server has received too many requests and has asked us to try again later".to_owned(),
        503 => "the server is currently unable to handle the request".to_owned(),
        504 => {
            "the server was unable to return a response in the time allotted, but may still be processing the request"
                .to_owned()
        }
        500.. => format!("an error on the server ({body:?}) has prevented the request from succeeding"),
        _ => format!("the server responded with the status code {code} but did not return more information"),
    };
    match name {
        "" => format!("{what} ({verb} {resource})").into(),
        _ => format!("{what} ({verb} {resource} {name})").into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_without_a_status_are_told_as_clients_tell_them() {
        let http = |code, body: &str| Error::Http {
            method: "GET".into(),
            path: "/x".into(),
            code,
            body: body.into(),
        };
        for (code, body, name, text) in [
            (
                404,
                "404 page not found\n",
                "",
                "the server could not find the requested resource (get pods.metrics.k8s.io)",
            ),
            (
                503,
                "service unavailable\n",
                "*",
                "the server is currently unable to handle the request (get pods.metrics.k8s.io *)",
            ),
            (403, "no\n", "", "no (get pods.metrics.k8s.io)"),
            (
                500,
                "a \"b\"",
                "",
                r#"an error on the server ("a \"b\"") has prevented the request from succeeding (get pods.metrics.k8s.io)"#,
            ),
            (
                418,
                "",
                "",
                "the server responded with the status code 418 but did not return more information (get pods.metrics.k8s.io)",
            ),
        ] {
            assert_eq!(said(&http(code, body), "get", "pods.metrics.k8s.io", name), text.into());
        }
    }
}
