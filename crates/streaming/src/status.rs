//! How a remote command ended, as the error channel says it: a Kubernetes Status.

use serde::Serialize;

/// How a command ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Status {
    metadata: Metadata,
    /// `Success` or `Failure`.
    pub status: &'static str,
    /// What a user is told.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub message: String,
    /// `NonZeroExitCode` or `InternalError`; empty for success.
    #[serde(skip_serializing_if = "str::is_empty")]
    pub reason: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    details: Option<Details>,
    /// The code of an HTTP answer that says the same.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub code: Option<u16>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
struct Metadata {}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Details {
    causes: Vec<Cause>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Cause {
    reason: &'static str,
    message: String,
}

impl Status {
    /// The command ended with exit code 0.
    pub fn success() -> Self {
        Self {
            metadata: Metadata {},
            status: "Success",
            message: String::new(),
            reason: "",
            details: None,
            code: None,
        }
    }

    /// The command's own exit code; 0 is success.
    pub fn exit_code(code: i32) -> Self {
        if code == 0 {
            return Self::success();
        }
        let cause = Cause {
            reason: "ExitCode",
            message: code.to_string(),
        };
        Self {
            status: "Failure",
            message: format!("command terminated with non-zero exit code: exit status {code}"),
            reason: "NonZeroExitCode",
            details: Some(Details { causes: vec![cause] }),
            ..Self::success()
        }
    }

    /// The command could not be run.
    pub fn error(message: impl Into<String>) -> Self {
        Self {
            status: "Failure",
            message: message.into(),
            reason: "InternalError",
            code: Some(500),
            ..Self::success()
        }
    }

    /// Returns whether the command ended with exit code 0.
    pub fn is_success(&self) -> bool {
        self.status == "Success"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_exit_code_is_a_cause() {
        let text = serde_json::to_string(&Status::exit_code(7)).unwrap();
        assert_eq!(
            text,
            r#"{"metadata":{},"status":"Failure","message":"command terminated with non-zero exit code: exit status 7","reason":"NonZeroExitCode","details":{"causes":[{"reason":"ExitCode","message":"7"}]}}"#
        );
        let success = serde_json::to_string(&Status::exit_code(0)).unwrap();
        assert_eq!(success, r#"{"metadata":{},"status":"Success"}"#);
    }
}
