//! How a proxy in front of an API server shows who asks: the certificate that proves it to be one, and the headers that name the user.
//! This server is one to extension servers, and may stand behind one itself.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arc_swap::ArcSwapOption;
use http::{HeaderMap, HeaderName, HeaderValue, header};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use rustls::SignatureScheme;
use rustls::client::ResolvesClientCert;
use rustls::sign::CertifiedKey;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::{Value, json};

use crate::http::user::User;

/// What a header's name may have beside letters and digits (RFC 9110, token); a percent sign is none, as it begins an escape.
const KEY: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'!')
    .remove(b'#')
    .remove(b'$')
    .remove(b'&')
    .remove(b'\'')
    .remove(b'*')
    .remove(b'+')
    .remove(b'-')
    .remove(b'.')
    .remove(b'^')
    .remove(b'_')
    .remove(b'`')
    .remove(b'|')
    .remove(b'~');

/// Why a certificate cannot be shown to servers.
#[derive(Debug, thiserror::Error)]
pub enum CertificateError {
    /// The certificate or the key is no PEM.
    #[error(transparent)]
    Pem(#[from] rustls_pki_types::pem::Error),
    /// The text has no certificate in it.
    #[error("there is no certificate")]
    Missing,
    /// The key is of no kind that is known.
    #[error(transparent)]
    Key(#[from] rustls::Error),
}

/// Why a user cannot be named to a server, in Go's words.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum IdentityError {
    /// What is known of the user does not fit into the header of this name.
    #[error("net/http: invalid header field value for {}", api::go::quote(.0))]
    Value(String),
    /// A key of what else is known makes no name of a header.
    #[error("net/http: invalid header field name {}", api::go::quote(.0))]
    Name(String),
}

/// Whom this server takes for a proxy in front of it, and by which headers it names users: the `--requestheader` flags.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestHeaders {
    /// PEM of who vouches for proxies; none are known without it.
    pub authority: String,
    /// Common names of proxies; all that the authority vouches for, where there are none.
    pub allowed_names: Vec<String>,
    pub username: Vec<String>,
    pub uid: Vec<String>,
    pub group: Vec<String>,
    pub extra_prefix: Vec<String>,
}

impl RequestHeaders {
    /// What the ConfigMap `extension-apiserver-authentication` says of it.
    pub fn data(&self) -> BTreeMap<&'static str, String> {
        if self.authority.is_empty() {
            return BTreeMap::new();
        }
        let list = |names: &[String]| json!(names).to_string();
        let mut data = BTreeMap::from([
            ("requestheader-client-ca-file", self.authority.clone()),
            ("requestheader-allowed-names", list(&self.allowed_names)),
            ("requestheader-username-headers", list(&self.username)),
            ("requestheader-group-headers", list(&self.group)),
            ("requestheader-extra-headers-prefix", list(&self.extra_prefix)),
        ]);
        if !self.uid.is_empty() {
            data.insert("requestheader-uid-headers", list(&self.uid));
        }
        data
    }

    /// Whether a certificate's name is that of a proxy.
    pub fn allows(&self, common_name: &str) -> bool {
        self.allowed_names.is_empty() || self.allowed_names.iter().any(|name| name == common_name)
    }

    /// The user that the headers name; `None` when they name nobody.
    pub fn user(&self, headers: &HeaderMap) -> Option<User> {
        let text = |value: &HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
        let first = |names: &[String]| {
            let values = names.iter().filter_map(|name| headers.get(name.as_str()));
            values.map(text).find(|value| !value.is_empty())
        };
        let name = first(&self.username)?;
        let groups = self.group.iter().flat_map(|name| headers.get_all(name.as_str()));
        let groups: Vec<String> = groups.map(text).filter(|group| !group.is_empty()).collect();
        let groups: Vec<&str> = groups.iter().map(String::as_str).collect();
        let mut user = User::new(name, &groups);
        user.uid = first(&self.uid).unwrap_or_default();
        for prefix in &self.extra_prefix {
            for (name, value) in headers {
                let Some(key) = strip_prefix(name, prefix) else {
                    continue;
                };
                let decoded = percent_decode_str(key).decode_utf8();
                let key = decoded.map_or_else(|_| key.to_owned(), std::borrow::Cow::into_owned);
                user.extra.entry(key).or_default().push(text(value));
            }
        }
        Some(user)
    }

    /// Takes the headers out that name users.
    pub fn strip(&self, headers: &mut HeaderMap) {
        for name in self.username.iter().chain(&self.uid).chain(&self.group) {
            headers.remove(name.as_str());
        }
        for prefix in &self.extra_prefix {
            remove_prefixed(headers, prefix);
        }
    }
}

fn strip_prefix<'a>(name: &'a HeaderName, prefix: &str) -> Option<&'a str> {
    let (head, rest) = name.as_str().split_at_checked(prefix.len())?;
    head.eq_ignore_ascii_case(prefix).then_some(rest)
}

fn remove_prefixed(headers: &mut HeaderMap, prefix: &str) {
    let found: Vec<HeaderName> = headers
        .keys()
        .filter(|n| strip_prefix(n, prefix).is_some())
        .cloned()
        .collect();
    for name in found {
        headers.remove(name);
    }
}

/// This server as a proxy in front of others.
#[derive(Debug)]
pub struct FrontProxy {
    /// What it shows of itself; extension servers know nobody where there is none.
    own: Arc<Own>,
    /// How often that has changed.
    renewals: AtomicU64,
    /// Whom it believes itself.
    pub behind: RequestHeaders,
}

#[derive(Debug, Default)]
struct Own(ArcSwapOption<CertifiedKey>);

impl ResolvesClientCert for Own {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        self.0.load_full()
    }

    fn has_certs(&self) -> bool {
        self.0.load().is_some()
    }
}

impl FrontProxy {
    /// Nothing is shown to servers yet; `behind` are the proxies that this server stands behind.
    pub fn new(behind: RequestHeaders) -> Arc<FrontProxy> {
        Arc::new(FrontProxy {
            own: Arc::default(),
            renewals: AtomicU64::new(0),
            behind,
        })
    }

    /// Connections made from now on show this certificate, both in PEM.
    ///
    /// # Errors
    /// When there is none in it, or no key.
    pub fn show(&self, certificate: &str, key: &str) -> Result<(), CertificateError> {
        let chain = CertificateDer::pem_slice_iter(certificate.as_bytes()).collect::<Result<Vec<_>, _>>()?;
        if chain.is_empty() {
            return Err(CertificateError::Missing);
        }
        let key = PrivateKeyDer::from_pem_slice(key.as_bytes())?;
        let key = rustls::crypto::ring::sign::any_supported_type(&key)?;
        let new = CertifiedKey::new(chain, key);
        let before = self.own.0.swap(Some(Arc::new(new.clone())));
        if before.is_none_or(|before| before.cert != new.cert) {
            self.renewals.fetch_add(1, Ordering::Release);
        }
        Ok(())
    }

    /// How often another certificate was shown: connections that are kept are used no more once this has changed.
    pub fn renewals(&self) -> u64 {
        self.renewals.load(Ordering::Acquire)
    }

    /// What shows it to a server.
    pub fn certificate(&self) -> Arc<dyn ResolvesClientCert> {
        self.own.clone()
    }
}

/// Takes out of a client's headers what tells this server who he is: it is nobody else's business.
pub fn strip_credentials(headers: &mut HeaderMap) {
    headers.remove(header::AUTHORIZATION);
    for name in ["impersonate-user", "impersonate-uid", "impersonate-group"] {
        headers.remove(name);
    }
    remove_prefixed(headers, "impersonate-extra-");
}

/// Names the user to a server behind this one (`transport.SetAuthProxyHeaders`).
///
/// # Errors
/// When the user's name, or what else is known of the user, fits into no header.
pub fn identify(headers: &mut HeaderMap, user: &User) -> Result<(), IdentityError> {
    const USER: &str = "x-remote-user";
    const UID: &str = "x-remote-uid";
    const GROUP: &str = "x-remote-group";
    const EXTRA: &str = "x-remote-extra-";
    for name in [USER, UID, GROUP] {
        headers.remove(name);
    }
    remove_prefixed(headers, EXTRA);
    let value = |shown: &str, text: &str| {
        HeaderValue::from_bytes(text.as_bytes()).map_err(|_| IdentityError::Value(shown.to_owned()))
    };
    headers.insert(USER, value("X-Remote-User", &user.name)?);
    if !user.uid.is_empty() {
        headers.insert(UID, value("X-Remote-Uid", &user.uid)?);
    }
    for group in &user.groups {
        headers.append(GROUP, value("X-Remote-Group", group)?);
    }
    for (key, values) in &user.extra {
        let shown = format!("X-Remote-Extra-{}", utf8_percent_encode(key, KEY));
        let name = HeaderName::from_bytes(shown.as_bytes());
        let name = name.map_err(|_| IdentityError::Name(shown.clone()))?;
        for text in values {
            headers.append(name.clone(), value(&shown, text)?);
        }
    }
    Ok(())
}

/// The data of the ConfigMap by which extension servers know whom to believe.
pub fn authentication_data(client_authority: &str, behind: &RequestHeaders) -> Value {
    let mut data = json!({ "client-ca-file": client_authority });
    for (key, text) in behind.data() {
        data[key] = text.into();
    }
    data
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names() -> RequestHeaders {
        let list = |name: &str| vec![name.to_owned()];
        RequestHeaders {
            authority: "pem".into(),
            allowed_names: list("proxy"),
            username: list("X-Remote-User"),
            uid: list("X-Remote-Uid"),
            group: list("X-Remote-Group"),
            extra_prefix: list("X-Remote-Extra-"),
        }
    }

    #[test]
    fn a_user_is_named_to_others_as_he_is_read_from_them() {
        let mut user = User::new("jörg", &["a", "b"]);
        user.uid = "7".into();
        user.extra
            .insert("example.org/100%".into(), vec!["x".into(), "y".into()]);
        let mut headers = HeaderMap::new();
        // what a client says of himself does not count
        headers.insert("x-remote-group", HeaderValue::from_static("system:masters"));
        headers.insert("x-remote-extra-old", HeaderValue::from_static("x"));
        identify(&mut headers, &user).unwrap();
        assert_eq!(headers.get_all("x-remote-extra-example.org%2f100%25").iter().count(), 2);
        let mut read = names().user(&headers).unwrap();
        // the group of all who are known is added again
        read.groups.pop();
        assert_eq!(read, user);
        names().strip(&mut headers);
        assert!(headers.is_empty());
        user.name = "a\nb".into();
        let why = identify(&mut headers, &user).unwrap_err();
        assert_eq!(
            why.to_string(),
            r#"net/http: invalid header field value for "X-Remote-User""#
        );
    }

    #[test]
    fn extension_servers_are_told_whom_to_believe() {
        let data = authentication_data("ca", &names());
        assert_eq!(
            data,
            json!({
                "client-ca-file": "ca",
                "requestheader-client-ca-file": "pem",
                "requestheader-allowed-names": "[\"proxy\"]",
                "requestheader-username-headers": "[\"X-Remote-User\"]",
                "requestheader-uid-headers": "[\"X-Remote-Uid\"]",
                "requestheader-group-headers": "[\"X-Remote-Group\"]",
                "requestheader-extra-headers-prefix": "[\"X-Remote-Extra-\"]",
            })
        );
        let none = RequestHeaders {
            authority: String::new(),
            ..names()
        };
        assert_eq!(authentication_data("ca", &none), json!({ "client-ca-file": "ca" }));
    }
}
