//! `create token`: a token of a service account, from the server.

use std::io::IsTerminal;

use http::Method;
use serde_json::json;

use super::{Common, name_of};
use crate::api::Call;
use crate::error::{Error, Result, fail};
use crate::print::Format;
use crate::session::{Session, duration};

const BOUND_KINDS: [&str; 3] = ["Node", "Pod", "Secret"];

/// Request a service account token
#[derive(Debug, clap::Args)]
pub struct Token {
    names: Vec<String>,
    /// Audience of the requested token; may be repeated
    #[arg(long)]
    audience: Vec<String>,
    /// Requested lifetime of the issued token
    #[arg(long, default_value = "0s", hide_default_value = true)]
    duration: String,
    /// Kind of an object to bind the token to
    #[arg(long)]
    bound_object_kind: Option<String>,
    /// Name of an object to bind the token to
    #[arg(long)]
    bound_object_name: Option<String>,
    /// UID of an object to bind the token to
    #[arg(long)]
    bound_object_uid: Option<String>,
    #[command(flatten)]
    pub common: Common,
}

impl Token {
    pub(crate) async fn run(&self, session: &Session) -> Result<()> {
        let name = name_of(session, &self.names)?;
        let format = Format::for_change(&self.common.change.output)?;
        if self.audience.iter().any(String::is_empty) {
            return fail("--audience must not be an empty string");
        }
        let mut spec = json!({"audiences": self.audience});
        if let Some(length) = duration(&self.duration)? {
            if length.subsec_nanos() != 0 {
                return fail("--duration cannot be expressed in units less than seconds");
            }
            spec["expirationSeconds"] = json!(length.as_secs());
        }
        match (&self.bound_object_kind, &self.bound_object_name, &self.bound_object_uid) {
            (None, Some(_), _) => {
                return fail("--bound-object-name can only be set if --bound-object-kind is provided");
            }
            (None, None, Some(_)) => {
                return fail("--bound-object-uid can only be set if --bound-object-kind is provided");
            }
            (None, None, None) => {}
            (Some(kind), _, _) if !BOUND_KINDS.contains(&kind.as_str()) => {
                return fail(format!(
                    "supported --bound-object-kind values are {}",
                    BOUND_KINDS.join(", ")
                ));
            }
            (Some(_), None, _) => return fail("--bound-object-name is required if --bound-object-kind is provided"),
            (Some(kind), Some(name), uid) => {
                spec["boundObjectRef"] = json!({"kind": kind, "apiVersion": "v1", "name": name});
                if let Some(uid) = uid {
                    spec["boundObjectRef"]["uid"] = json!(uid);
                }
            }
        }
        let request =
            json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "metadata": {}, "spec": spec});
        let path = format!(
            "/api/v1/namespaces/{}/serviceaccounts/{}/token",
            session.namespace()?,
            crate::api::escape(name)
        );
        let answer = session.api()?.json(&Call::new(Method::POST, path).json(&request)).await;
        let answer = answer.map_err(|e| match e {
            e @ Error::Api(_) => Error::Message(format!("failed to create token: {e}")),
            other => other,
        })?;
        if !format.is_human() {
            return session.print(&format.typed(&answer)?);
        }
        match answer["status"]["token"].as_str().filter(|t| !t.is_empty()) {
            None => fail("failed to create token: no token in server response"),
            Some(token) if std::io::stdout().is_terminal() => session.println(token),
            Some(token) => session.print(token),
        }
    }
}
