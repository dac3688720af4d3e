//! Impersonation: a user who may act as another does so by headers.

use std::collections::BTreeMap;

use http::HeaderMap;
use percent_encoding::percent_decode_str;

use crate::http::status::{ApiError, Result};
use crate::http::user::{ANONYMOUS, AUTHENTICATED, UNAUTHENTICATED, User};

/// The user asked for, and what the asker must be allowed to `impersonate`: (group, resource, subresource, namespace, name).
pub type Asked = (User, Vec<(&'static str, &'static str, String, String, String)>);

/// Reads the headers; `None` when none is there.
pub fn asked(headers: &HeaderMap) -> Result<Option<Asked>> {
    let text = |name: &str| {
        headers
            .get(name)
            .and_then(|v| v.to_str().ok())
            .unwrap_or_default()
            .to_owned()
    };
    let name = text("impersonate-user");
    let uid = text("impersonate-uid");
    let groups: Vec<String> = headers
        .get_all("impersonate-group")
        .iter()
        .filter_map(|v| v.to_str().ok())
        .map(Into::into)
        .collect();
    let mut extra: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (key, value) in headers {
        if let Some(key) = key.as_str().strip_prefix("impersonate-extra-") {
            let key = percent_decode_str(key).decode_utf8_lossy().into_owned();
            extra
                .entry(key)
                .or_default()
                .push(value.to_str().unwrap_or_default().to_owned());
        }
    }
    if name.is_empty() {
        if groups.is_empty() && extra.is_empty() && uid.is_empty() {
            return Ok(None);
        }
        let why = "requested [] without impersonating a user";
        return Err(ApiError::bad_request(why));
    }
    let mut checks = Vec::new();
    let mut user = User {
        name: name.clone(),
        uid: uid.clone(),
        groups: groups.clone(),
        extra: extra.clone(),
    };
    if let Some((namespace, account)) = user.service_account() {
        checks.push((
            "",
            "serviceaccounts",
            String::new(),
            namespace.to_owned(),
            account.to_owned(),
        ));
        let all = [
            "system:serviceaccounts".to_owned(),
            format!("system:serviceaccounts:{namespace}"),
        ];
        if groups.is_empty() {
            user.groups.extend(all);
        }
    } else {
        checks.push(("", "users", String::new(), String::new(), name));
    }
    checks.extend(
        groups
            .iter()
            .map(|g| ("", "groups", String::new(), String::new(), g.clone())),
    );
    let authentication = "authentication.k8s.io";
    if !uid.is_empty() {
        checks.push((authentication, "uids", String::new(), String::new(), uid));
    }
    for (key, values) in extra {
        let one = |value: String| (authentication, "userextras", key.clone(), String::new(), value);
        checks.extend(values.into_iter().map(one));
    }
    let implied = if user.name == ANONYMOUS {
        UNAUTHENTICATED
    } else {
        AUTHENTICATED
    };
    if !user.in_group(AUTHENTICATED) && !user.in_group(UNAUTHENTICATED) {
        user.groups.push(implied.to_owned());
    }
    Ok(Some((user, checks)))
}
