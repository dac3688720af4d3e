//! Authentication: client certificates, service-account tokens, bootstrap tokens, static tokens; impersonation.

pub mod bootstrap_token;
pub mod certificate;
pub mod impersonation;
pub mod service_account;

use std::collections::HashMap;
use std::sync::Arc;

use http::{HeaderMap, header};

use crate::http::status::{ApiError, Result};
use crate::http::user::User;
use crate::registry::Registry;
use service_account::TokenIssuer;

/// What identifies users.
pub struct Authenticator {
    pub registry: Arc<Registry>,
    pub tokens: Arc<TokenIssuer>,
    /// Fixed tokens of the server's own components.
    pub fixed: HashMap<String, User>,
    /// Whether requests without credentials count as `system:anonymous` everywhere, not only for health checks.
    pub anonymous: bool,
}

/// Paths that need no credentials even where anonymous requests are off.
const OPEN: [&str; 3] = ["/healthz", "/livez", "/readyz"];

impl Authenticator {
    /// Who makes the request. `certificate` is the connection's verified client certificate.
    ///
    /// # Errors
    /// `401` when credentials are wrong, or missing where they are needed.
    pub async fn authenticate(&self, headers: &HeaderMap, path: &str, certificate: Option<&User>) -> Result<User> {
        if let Some(user) = certificate {
            return Ok(user.clone());
        }
        if let Some(value) = headers.get(header::AUTHORIZATION) {
            let text = value.to_str().map_err(|_| ApiError::unauthorized())?;
            if let Some((scheme, token)) = text.split_once(' ')
                && scheme.eq_ignore_ascii_case("bearer")
            {
                return self.token(token.trim(), &[]).await.ok_or_else(ApiError::unauthorized);
            }
        }
        // browsers cannot set headers on a WebSocket: the token may come as a subprotocol
        if let Some(token) = websocket_token(headers) {
            return self.token(&token, &[]).await.ok_or_else(ApiError::unauthorized);
        }
        let open = OPEN.iter().any(|p| path == *p || path.starts_with(&format!("{p}/")));
        if self.anonymous || open {
            Ok(User::anonymous())
        } else {
            Err(ApiError::unauthorized())
        }
    }

    /// Whose token this is, for these audiences (none: the API server's own).
    pub async fn token(&self, token: &str, audiences: &[String]) -> Option<User> {
        if token.is_empty() {
            return None;
        }
        if let Some(user) = self.fixed.get(token) {
            return Some(user.clone());
        }
        if let Some(user) = bootstrap_token::authenticate(&self.registry, token) {
            return Some(user);
        }
        self.tokens.authenticate(&self.registry, token, audiences)
    }
}

fn websocket_token(headers: &HeaderMap) -> Option<String> {
    use base64::Engine;
    let protocols = headers.get(header::SEC_WEBSOCKET_PROTOCOL)?.to_str().ok()?;
    let encoded = protocols
        .split(',')
        .find_map(|p| p.trim().strip_prefix("base64url.bearer.authorization.k8s.io."))?;
    let bytes = base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(encoded).ok()?;
    String::from_utf8(bytes).ok()
}
