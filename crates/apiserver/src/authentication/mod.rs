//! Authentication: client certificates, service-account tokens, bootstrap tokens, static tokens; impersonation.

pub mod bootstrap_token;
pub mod certificate;
pub mod impersonation;
pub mod secret_token;
pub mod service_account;

use std::collections::HashMap;
use std::sync::Arc;

use http::{HeaderMap, HeaderValue, header};
use serde_json::{Value, json};

use crate::audit::Trail;
use crate::authentication::certificate::{Expired, Peer, Proof};
use crate::http::front_proxy::FrontProxy;
use crate::http::request_info::Query;
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
    /// How proxies name users.
    pub front_proxy: Arc<FrontProxy>,
    /// How users became others before.
    pub last_modes: impersonation::LastModes,
    /// Whether requests without credentials count as `system:anonymous` everywhere, not only for health checks.
    pub anonymous: bool,
}

/// The beginning of a subprotocol that is a token.
const PROTOCOL: &str = "base64url.bearer.authorization.k8s.io.";

/// Paths that need no credentials even where anonymous requests are off.
const OPEN: [&str; 3] = ["/healthz", "/livez", "/readyz"];

impl Authenticator {
    /// Who makes the request. `peer` is the other end of the connection.
    ///
    /// # Errors
    /// `401` when credentials are wrong, or missing where they are needed.
    pub async fn authenticate(
        &self,
        headers: &HeaderMap,
        path: &str,
        peer: Option<&Peer>,
        trail: &Trail,
    ) -> Result<User> {
        let now = self.registry.environment.now();
        let shown = peer.map_or(Ok(None), |peer| peer.proof(now));
        match shown {
            Ok(Some(Proof::User(user))) => return Ok(user.clone()),
            Ok(Some(Proof::Proxy)) => {
                if let Some(user) = self.front_proxy.behind.user(headers) {
                    return Ok(user);
                }
            }
            Ok(None) | Err(Expired) => {}
        }
        let bearer = bearer_token(headers)?;
        // browsers cannot set headers on a WebSocket: the token may come as a subprotocol
        let presented = match bearer {
            Some(token) => Some(token),
            None => websocket_token(headers)?,
        };
        if let Some(token) = presented {
            let known = self.token(&token, &[], trail).await;
            return known.map(|known| known.user).ok_or_else(ApiError::unauthorized);
        }
        // who was somebody and is not any more does not become anonymous
        shown.map_err(|Expired| ApiError::unauthorized())?;
        let open = OPEN.iter().any(|p| path == *p || path.starts_with(&format!("{p}/")));
        if self.anonymous || open {
            Ok(User::anonymous())
        } else {
            Err(ApiError::unauthorized())
        }
    }

    /// Whose token this is, for these audiences (none: the API server's own).
    pub async fn token(&self, token: &str, audiences: &[String], trail: &Trail) -> Option<Known> {
        if token.is_empty() {
            return None;
        }
        let own = &self.tokens.audiences;
        let asked = if audiences.is_empty() { own } else { audiences };
        // tokens that say nothing of an audience are for this server alone
        let implied: Vec<String> = own.iter().filter(|a| asked.contains(a)).cloned().collect();
        if !implied.is_empty() {
            let user = self.fixed.get(token).cloned();
            let user = user.or_else(|| bootstrap_token::authenticate(&self.registry, token));
            if let Some(user) = user {
                let audiences = implied;
                return Some(Known {
                    user,
                    audiences,
                    keeper: None,
                });
            }
        }
        let known = self.tokens.authenticate(&self.registry, token, asked)?;
        let counted = &self.registry.metrics.tokens;
        match known.keeper {
            Some(_) => counted.legacy.increment(),
            None => counted.valid.increment(),
        }
        if let Some(keeper) = known.keeper.as_ref().filter(|_| trail.is_kept()) {
            trail.annotate("authentication.k8s.io/legacy-token", || known.user.name.clone());
            keeper.tell(&self.registry, &known.user, trail);
        }
        if let Some(keeper) = &known.keeper
            && let Err(error) = secret_token::note_use(&self.registry, keeper).await
        {
            tracing::warn!(?error, "the use of a Secret's token cannot be noted");
        }
        Some(known)
    }
}

/// Whose a token is, and for which of the audiences asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Known {
    pub user: User,
    pub audiences: Vec<String>,
    /// The Secret that keeps the token, if one does.
    pub keeper: Option<secret_token::Keeper>,
}

/// The token of `Authorization: Bearer`. Another scheme, and a scheme without a token, present nothing.
///
/// # Errors
/// `401` for a header that is not text: it is there and says something.
fn bearer_token(headers: &HeaderMap) -> Result<Option<String>> {
    let Some(value) = headers.get(header::AUTHORIZATION) else {
        return Ok(None);
    };
    let text = std::str::from_utf8(value.as_bytes()).map_err(|_| ApiError::unauthorized())?;
    // one space stands between the two: a second one makes the token an empty one
    let mut parts = text.trim().splitn(3, ' ');
    let scheme = parts.next().unwrap_or_default();
    let token = parts.next().unwrap_or_default();
    let presented = scheme.eq_ignore_ascii_case("bearer") && !token.is_empty();
    Ok(presented.then(|| token.to_owned()))
}

/// How a client has tried in vain to say who it is, as the record of its request shows it (`getAuthMethods`).
pub fn failed(headers: &HeaderMap, query: &Query, peer: Option<&Peer>) -> Value {
    let text = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let (scheme, rest) = text.unwrap_or_default().trim().split_once(' ').unwrap_or_default();
    let tried = [
        ("basic", scheme.eq_ignore_ascii_case("basic") && is_basic(rest)),
        ("bearer", scheme.eq_ignore_ascii_case("bearer")),
        (
            "access_token",
            query.text("access_token").is_some_and(|token| !token.trim().is_empty()),
        ),
        ("x509", peer.is_some_and(Peer::has_certificate)),
    ];
    let tried: Vec<&str> = tried.iter().filter(|(_, is)| *is).map(|(name, _)| *name).collect();
    let message = match tried.is_empty() {
        true => "Authentication failed, no credentials provided".to_owned(),
        false => format!("Authentication failed, attempted: {}", tried.join(", ")),
    };
    json!({ "message": message })
}

/// Whether these are a name and a password.
fn is_basic(credentials: &str) -> bool {
    use base64::Engine;
    let decoded = base64::engine::general_purpose::STANDARD.decode(credentials);
    decoded.is_ok_and(|text| text.contains(&b':'))
}

/// The token among the subprotocols of a WebSocket.
///
/// # Errors
/// `401` when there are two, when one cannot be read, or when it is the only subprotocol.
fn websocket_token(headers: &HeaderMap) -> Result<Option<String>> {
    use base64::Engine;
    if !streaming::handshake::is_websocket(headers) {
        return Ok(None);
    }
    let mut protocols = Vec::new();
    for value in headers.get_all(header::SEC_WEBSOCKET_PROTOCOL) {
        let text = value.to_str().map_err(|_| ApiError::unauthorized())?;
        protocols.extend(text.split(',').map(str::trim));
    }
    let (tokens, others): (Vec<&str>, Vec<&str>) = protocols.into_iter().partition(|p| p.starts_with(PROTOCOL));
    let encoded = match tokens.as_slice() {
        [] => return Ok(None),
        [one] => &one[PROTOCOL.len()..],
        _ => return Err(ApiError::unauthorized()),
    };
    let bytes = base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(encoded);
    let token = bytes.ok().and_then(|bytes| String::from_utf8(bytes).ok());
    let token = token.ok_or_else(ApiError::unauthorized)?;
    if token.is_empty() {
        return Ok(None);
    }
    if others.is_empty() {
        return Err(ApiError::unauthorized());
    }
    Ok(Some(token))
}

/// Takes the token out of the subprotocols of a WebSocket.
pub fn strip_websocket_token(headers: &mut HeaderMap) {
    let name = header::SEC_WEBSOCKET_PROTOCOL;
    let values = headers.get_all(&name).iter().filter_map(|v| v.to_str().ok());
    let protocols: Vec<&str> = values.flat_map(|v| v.split(',')).map(str::trim).collect();
    if !protocols.iter().any(|p| p.starts_with(PROTOCOL)) {
        return;
    }
    let others: Vec<&str> = protocols.into_iter().filter(|p| !p.starts_with(PROTOCOL)).collect();
    match HeaderValue::from_str(&others.join(",")) {
        Ok(value) if !others.is_empty() => headers.insert(name, value),
        _ => headers.remove(name),
    };
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderName;

    fn headers(pairs: &[(HeaderName, &[u8])]) -> HeaderMap {
        let pairs = pairs.iter().cloned();
        let value = |bytes: &[u8]| HeaderValue::from_bytes(bytes).unwrap();
        pairs.map(|(name, bytes)| (name, value(bytes))).collect()
    }

    #[test]
    fn a_bearer_token_stands_after_one_space() {
        let token = |text: &str| bearer_token(&headers(&[(header::AUTHORIZATION, text.as_bytes())])).unwrap();
        let some = |text: &str| Some(text.to_owned());
        assert_eq!(token("Bearer abc"), some("abc"));
        assert_eq!(token("bearer abc def"), some("abc"));
        assert_eq!(token("  Bearer abc  "), some("abc"));
        assert_eq!(token("Bearer  abc"), None);
        assert_eq!(token("Bearer"), None);
        assert_eq!(token("Basic YTpi"), None);
        assert!(bearer_token(&headers(&[(header::AUTHORIZATION, b"Bearer \xff")])).is_err());
    }

    #[test]
    fn a_token_among_subprotocols_stands_alone_and_not_only() {
        let ask = |protocols: &str| {
            websocket_token(&headers(&[
                (header::CONNECTION, b"Upgrade"),
                (header::UPGRADE, b"websocket"),
                (header::SEC_WEBSOCKET_PROTOCOL, protocols.as_bytes()),
            ]))
        };
        let token = "base64url.bearer.authorization.k8s.io.YWJj";
        assert_eq!(
            ask(&format!("{token}, v4.channel.k8s.io")).unwrap(),
            Some("abc".to_owned())
        );
        assert_eq!(ask("v4.channel.k8s.io").unwrap(), None);
        assert!(ask(token).is_err());
        assert!(ask(&format!("{token},{token},v4.channel.k8s.io")).is_err());
        assert!(ask(&format!("{token}=,v4.channel.k8s.io")).is_err());
    }
}
