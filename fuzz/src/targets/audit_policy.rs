//! Audit policies.

use apiserver::audit::policy::Policy;
use apiserver::audit::policy_file;
use apiserver::http::request_info::{Query, RequestInfo};
use apiserver::http::user::User;
use http::Method;

use super::text;
use crate::{Form, Target};

pub const TARGET: Target = Target::new("audit_policy", Form::Bytes, check);

fn check(input: &[u8]) {
    let Some(text) = text(input) else { return };
    let Ok((file, _)) = policy_file::read(text) else { return };
    let policy = Policy::of(file);
    let user = User::new("alice", &["system:authenticated"]);
    for path in [
        "/api/v1/namespaces/default/pods/a/log",
        "/apis/apps/v1/deployments",
        "/healthz/ping",
    ] {
        if let Ok(info) = RequestInfo::parse(&Method::GET, path, &Query::parse(None)) {
            let _ = (policy.evaluate(&info, Some(&user)), policy.evaluate(&info, None));
        }
    }
}
