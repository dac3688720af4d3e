//! What a webhook answered: a JSON tree, or why it is none, as `client-go` reads and words it.

use api::schema::Document;
use bytes::Bytes;
use http::StatusCode;
use serde_json::Value;

use crate::http::json_text;

/// An answer that was read whole.
#[derive(Debug)]
pub struct Answer {
    pub status: StatusCode,
    pub content_type: Option<String>,
    /// Seconds to wait before it is asked again.
    pub retry_after: Option<u64>,
    pub body: Bytes,
}

/// Why an answer is no tree, in the words of `client-go`.
#[derive(Debug, thiserror::Error)]
pub enum AnswerError {
    /// The answer is an error, told by the message of its `Status` or by its code.
    #[error("{0}")]
    Status(String),
    /// The answer has no body.
    #[error("0-length response with status code: {code} and content type: {kind}")]
    Empty {
        /// The status code.
        code: u16,
        /// The content type.
        kind: String,
    },
    /// The answer begins as an object of JSON and is none.
    #[error("couldn't get version/kind; json parse error: {0}")]
    Json(String),
    /// The answer is neither JSON nor YAML.
    #[error("error converting YAML to JSON: yaml: {0}")]
    Yaml(#[from] serde_saphyr::Error),
}

/// Bytes of a text that is no JSON and is shown.
const SHOWN: usize = 2048;

impl Answer {
    /// Seconds after which the webhook wants to be asked again: when it has too much to do, or has failed.
    pub fn wait(&self) -> Option<u64> {
        let busy = self.status == StatusCode::TOO_MANY_REQUESTS || self.status.as_u16() >= 500;
        self.retry_after.filter(|_| busy)
    }

    /// The tree.
    ///
    /// # Errors
    /// When the answer is an error, empty, or no JSON.
    pub fn tree(&self) -> Result<Value, AnswerError> {
        let code = self.status.as_u16();
        if !(200..=206).contains(&code) {
            let told = self.of_status().unwrap_or_else(|| self.unexpected(code));
            return Err(AnswerError::Status(told));
        }
        if self.body.is_empty() {
            let kind = self.content_type.as_deref().unwrap_or("application/json");
            return Err(AnswerError::Empty {
                code,
                kind: kind.to_owned(),
            });
        }
        // what does not begin as an object may be YAML
        if self.body.trim_ascii_start().starts_with(b"{") {
            return serde_json::from_slice(&self.body).map_err(|_| AnswerError::Json(json_text::problem(&self.body)));
        }
        Ok(Document::from_yaml(&self.body)?.value)
    }

    /// The message of a `Status` that says what went wrong.
    fn of_status(&self) -> Option<String> {
        let tree: Value = serde_json::from_slice(&self.body).ok()?;
        let is = |key: &str, wanted: &str| tree.get(key).and_then(Value::as_str) == Some(wanted);
        let versioned = is("apiVersion", "v1") || tree.get("apiVersion").is_none();
        let told = versioned && is("kind", "Status") && is("status", "Failure");
        told.then(|| {
            tree.get("message")
                .and_then(Value::as_str)
                .unwrap_or_default()
                .to_owned()
        })
    }

    fn unexpected(&self, code: u16) -> String {
        let text = match &self.content_type {
            None => true,
            Some(kind) => kind.trim_start().to_ascii_lowercase().starts_with("text/"),
        };
        let shown = &self.body[..self.body.len().min(SHOWN)];
        let said = match text {
            true => String::from_utf8_lossy(shown).trim().to_owned(),
            false => "unknown".to_owned(),
        };
        match code {
            400 => "the server rejected our request for an unknown reason".into(),
            401 => "the server has asked for the client to provide credentials".into(),
            403 | 415 => said,
            404 => "the server could not find the requested resource".into(),
            405 => "the server does not allow this method on the requested resource".into(),
            406 if said.is_empty() || said == "unknown" => {
                "the server was unable to respond with a content type that the client supports".into()
            }
            406 => said,
            409 => "the server reported a conflict".into(),
            422 => "the server rejected our request due to an error in our request".into(),
            429 => "the server has received too many requests and has asked us to try again later".into(),
            503 => "the server is currently unable to handle the request".into(),
            504 => {
                "the server was unable to return a response in the time allotted, but may still be processing the request"
                    .into()
            }
            code if code >= 500 => {
                let said = api::go::quote(&said);
                format!("an error on the server ({said}) has prevented the request from succeeding")
            }
            code => format!("the server responded with the status code {code} but did not return more information"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(code: u16, content_type: Option<&str>, body: &'static str) -> Answer {
        Answer {
            status: StatusCode::from_u16(code).unwrap(),
            content_type: content_type.map(Into::into),
            retry_after: None,
            body: Bytes::from_static(body.as_bytes()),
        }
    }

    #[test]
    fn errors_read_as_those_of_client_go() {
        let json = Some("application/json");
        for (code, kind, body, want) in [
            (
                200,
                json,
                "",
                "0-length response with status code: 200 and content type: application/json",
            ),
            (
                200,
                None,
                "{x",
                "couldn't get version/kind; json parse error: invalid character 'x' looking for beginning of object key string",
            ),
            (404, json, "{}", "the server could not find the requested resource"),
            (
                500,
                Some("text/plain"),
                " it broke\n",
                "an error on the server (\"it broke\") has prevented the request from succeeding",
            ),
            (
                500,
                json,
                "{}",
                "an error on the server (\"unknown\") has prevented the request from succeeding",
            ),
            (
                502,
                json,
                r#"{"kind":"Status","apiVersion":"v1","status":"Failure","message":"why"}"#,
                "why",
            ),
            (
                302,
                None,
                "",
                "the server responded with the status code 302 but did not return more information",
            ),
        ] {
            let told = answer(code, kind, body).tree().unwrap_err();
            assert_eq!(told.to_string(), want, "{code} {body}");
        }
        assert_eq!(answer(206, None, "<html>").tree().unwrap(), "<html>");
    }

    #[test]
    fn who_fails_may_ask_for_time() {
        let of = |code: u16| Answer {
            retry_after: Some(1),
            ..answer(code, None, "")
        };
        assert_eq!(
            (of(503).wait(), of(429).wait(), of(400).wait()),
            (Some(1), Some(1), None)
        );
    }
}
