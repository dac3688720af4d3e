//! `audit.k8s.io/v1` Event: what is known of one request, and how it is written.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::Arc;

use bytes::Bytes;
use jiff::Timestamp;
use serde::Serialize;
use serde_json::Value;

use crate::audit::policy::{Level, Stage};
use crate::http::user::User;

/// What requests are about.
#[derive(Debug, Clone, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ObjectReference {
    #[serde(skip_serializing_if = "String::is_empty")]
    pub resource: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub namespace: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub name: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub uid: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub api_group: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub api_version: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub resource_version: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub subresource: String,
}

/// `authentication.k8s.io/v1` UserInfo.
#[derive(Serialize)]
struct UserInfo<'a> {
    #[serde(skip_serializing_if = "str::is_empty")]
    username: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    uid: &'a str,
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    groups: &'a [String],
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    extra: &'a BTreeMap<String, Vec<String>>,
}

impl<'a> UserInfo<'a> {
    fn of(user: &'a User) -> UserInfo<'a> {
        UserInfo {
            username: &user.name,
            uid: &user.uid,
            groups: &user.groups,
            extra: &user.extra,
        }
    }
}

/// Who a request was made as, and by which mode.
#[derive(Debug, Clone)]
pub struct Impersonated {
    pub user: Arc<User>,
    /// Empty for the old mode.
    pub constraint: &'static str,
}

/// One request.
#[derive(Debug, Clone, Default)]
pub struct Event {
    pub level: Level,
    pub audit_id: String,
    pub request_uri: String,
    pub verb: &'static str,
    /// Nobody where credentials were refused.
    pub user: Arc<User>,
    pub impersonated: Option<Impersonated>,
    pub source_ips: Vec<String>,
    pub user_agent: String,
    pub object: Option<ObjectReference>,
    /// A `Status` without type.
    pub status: Option<Value>,
    /// Objects in JSON.
    pub request_object: Option<Bytes>,
    pub response_object: Option<Bytes>,
    pub received: Timestamp,
    pub annotations: BTreeMap<String, String>,
}

/// When an event is written, and for what.
#[derive(Debug, Clone, Copy)]
pub struct Moment {
    pub stage: Stage,
    pub at: Timestamp,
}

/// What says that objects were left out of an event that is too large.
const TRUNCATED: &str = "audit.k8s.io/truncated";

/// Writes the members of a JSON object.
struct Members<'o> {
    out: &'o mut Vec<u8>,
    any: bool,
}

impl Members<'_> {
    fn raw(&mut self, key: &str, value: &[u8]) {
        self.out.extend_from_slice(if self.any { b",\"" } else { b"\"" });
        self.any = true;
        self.out.extend_from_slice(key.as_bytes());
        self.out.extend_from_slice(b"\":");
        self.out.extend_from_slice(value);
    }

    fn add(&mut self, key: &str, value: &impl Serialize) -> serde_json::Result<()> {
        self.raw(key, b"");
        serde_json::to_writer(&mut *self.out, value)
    }
}

/// A time with microseconds (`metav1.MicroTime`).
fn micro(at: Timestamp) -> String {
    at.strftime("%Y-%m-%dT%H:%M:%S.%6fZ").to_string()
}

impl Event {
    /// The event in JSON; without its objects when it is truncated, and without its type as an item of a list.
    ///
    /// # Errors
    /// None that a tree is the cause of.
    pub fn write(&self, moment: Moment, typed: bool, truncated: bool) -> serde_json::Result<Vec<u8>> {
        let objects = [&self.request_object, &self.response_object];
        let length = objects.iter().filter_map(|o| o.as_ref()).map(Bytes::len).sum::<usize>();
        let mut out = Vec::with_capacity(1024 + if truncated { 0 } else { length });
        out.push(b'{');
        let mut members = Members {
            out: &mut out,
            any: false,
        };
        if typed {
            members.raw("kind", b"\"Event\"");
            members.raw("apiVersion", b"\"audit.k8s.io/v1\"");
        }
        members.add("level", &self.level.name())?;
        members.add("auditID", &self.audit_id)?;
        members.add("stage", &moment.stage.name())?;
        members.add("requestURI", &self.request_uri)?;
        members.add("verb", &self.verb)?;
        members.add("user", &UserInfo::of(&self.user))?;
        if let Some(other) = &self.impersonated {
            members.add("impersonatedUser", &UserInfo::of(&other.user))?;
            if !other.constraint.is_empty() {
                let metadata = BTreeMap::from([("impersonationConstraint", other.constraint)]);
                members.add("authenticationMetadata", &metadata)?;
            }
        }
        if !self.source_ips.is_empty() {
            members.add("sourceIPs", &self.source_ips)?;
        }
        if !self.user_agent.is_empty() {
            members.add("userAgent", &self.user_agent)?;
        }
        if let Some(object) = &self.object {
            members.add("objectRef", object)?;
        }
        if let Some(status) = &self.status {
            members.add("responseStatus", status)?;
        }
        for (key, object) in ["requestObject", "responseObject"].into_iter().zip(objects) {
            if let Some(object) = object.as_ref().filter(|_| !truncated) {
                members.raw(key, object);
            }
        }
        members.add("requestReceivedTimestamp", &micro(self.received))?;
        members.add("stageTimestamp", &micro(moment.at))?;
        if truncated {
            let mut annotations = self.annotations.clone();
            annotations.insert(TRUNCATED.into(), "true".into());
            members.add("annotations", &annotations)?;
        } else if !self.annotations.is_empty() {
            members.add("annotations", &self.annotations)?;
        }
        out.push(b'}');
        Ok(out)
    }

    /// The event as a line of text: the format `legacy`.
    pub fn line(&self, moment: Moment) -> String {
        let quoted = |list: &[String]| list.iter().map(|one| api::go::quote(one)).collect::<Vec<_>>().join(",");
        let or = |text: &str, none: &str| {
            if text.is_empty() {
                none.to_owned()
            } else {
                text.to_owned()
            }
        };
        let user = or(&self.user.name, "<none>");
        let groups = match self.user.name.is_empty() || self.user.groups.is_empty() {
            true => "<none>".to_owned(),
            false => quoted(&self.user.groups),
        };
        let (other, other_groups) = match &self.impersonated {
            Some(other) => (other.user.name.clone(), quoted(&other.user.groups)),
            None => ("<self>".into(), "<lookup>".into()),
        };
        let namespace = self.object.as_ref().map_or("", |object| object.namespace.as_str());
        let code = self.status.as_ref().map(|status| status["code"].as_i64().unwrap_or(0));
        let code = code.map_or_else(|| "<deferred>".to_owned(), |code| code.to_string());
        let ip = self.source_ips.first().map_or("<unknown>", String::as_str);
        let mut line = format!("{} AUDIT:", nano(self.received));
        for (key, text) in [
            ("id", self.audit_id.as_str()),
            ("stage", moment.stage.name()),
            ("ip", ip),
            ("method", self.verb),
            ("user", &user),
            ("groups", &groups),
            ("as", &other),
            ("asgroups", &other_groups),
            ("user-agent", &self.user_agent),
            ("namespace", &or(namespace, "<none>")),
            ("uri", &self.request_uri),
        ] {
            // writing to a string does not fail
            let _ = write!(line, " {key}={}", api::go::quote(text));
        }
        format!("{line} response=\"{code}\"")
    }
}

/// Go's RFC 3339 with as many digits as there are.
fn nano(at: Timestamp) -> String {
    let text = at.strftime("%Y-%m-%dT%H:%M:%S.%9f").to_string();
    format!("{}Z", text.trim_end_matches('0').trim_end_matches('.'))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn event() -> Event {
        Event {
            level: Level::RequestResponse,
            audit_id: "id".into(),
            request_uri: "/api/v1/namespaces/n/pods?a=b".into(),
            verb: "create",
            user: Arc::new(User::new("ann", &["g"])),
            source_ips: vec!["1.2.3.4".into()],
            user_agent: "curl".into(),
            object: Some(ObjectReference {
                resource: "pods".into(),
                namespace: "n".into(),
                api_version: "v1".into(),
                ..ObjectReference::default()
            }),
            status: Some(json!({"metadata": {}, "code": 201})),
            request_object: Some(Bytes::from_static(b"{\"a\":1}")),
            received: "2026-01-02T03:04:05.006007Z".parse().unwrap(),
            annotations: BTreeMap::from([("a/b".into(), "c".into())]),
            ..Event::default()
        }
    }

    fn moment() -> Moment {
        Moment {
            stage: Stage::ResponseComplete,
            at: "2026-01-02T03:04:06Z".parse().unwrap(),
        }
    }

    #[test]
    fn an_event_is_written_as_upstream_writes_it() {
        let text = String::from_utf8(event().write(moment(), true, false).unwrap()).unwrap();
        assert_eq!(
            text,
            r#"{"kind":"Event","apiVersion":"audit.k8s.io/v1","level":"RequestResponse","auditID":"id","stage":"ResponseComplete","requestURI":"/api/v1/namespaces/n/pods?a=b","verb":"create","user":{"username":"ann","groups":["g","system:authenticated"]},"sourceIPs":["1.2.3.4"],"userAgent":"curl","objectRef":{"resource":"pods","namespace":"n","apiVersion":"v1"},"responseStatus":{"code":201,"metadata":{}},"requestObject":{"a":1},"requestReceivedTimestamp":"2026-01-02T03:04:05.006007Z","stageTimestamp":"2026-01-02T03:04:06.000000Z","annotations":{"a/b":"c"}}"#
        );
        let short: Value = serde_json::from_slice(&event().write(moment(), false, true).unwrap()).unwrap();
        assert_eq!(
            short["annotations"],
            json!({"a/b": "c", "audit.k8s.io/truncated": "true"})
        );
        assert!(short.get("requestObject").is_none() && short.get("kind").is_none());
    }

    #[test]
    fn an_event_is_a_line_of_text() {
        assert_eq!(
            event().line(moment()),
            "2026-01-02T03:04:05.006007Z AUDIT: id=\"id\" stage=\"ResponseComplete\" ip=\"1.2.3.4\" method=\"create\" user=\"ann\" \
             groups=\"\\\"g\\\",\\\"system:authenticated\\\"\" as=\"<self>\" asgroups=\"<lookup>\" user-agent=\"curl\" namespace=\"n\" \
             uri=\"/api/v1/namespaces/n/pods?a=b\" response=\"201\""
        );
    }
}
