//! Service-account tokens: JSON Web Tokens (ES256) bound to a service account and, if asked, to a pod, node or secret.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::rand::SystemRandom;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair, UnparsedPublicKey,
};
use serde_json::{Value, json};

use crate::authentication::{Known, secret_token};
use crate::http::status::{ApiError, Result};
use crate::http::user::User;
use crate::registry::Registry;
use crate::registry::cached::Cached;

/// Signs and checks tokens.
pub struct TokenIssuer {
    key: EcdsaKeyPair,
    key_id: String,
    pub issuer: String,
    /// What the API server answers to; the first is given when nothing is asked for.
    pub audiences: Vec<String>,
}

/// The object that a token dies with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bound {
    pub kind: String,
    pub name: String,
    pub uid: String,
}

/// What goes into a token.
#[derive(Debug, Clone)]
pub struct TokenRequest<'a> {
    /// Names the token.
    pub id: &'a str,
    pub namespace: &'a str,
    pub name: &'a str,
    pub uid: &'a str,
    pub audiences: Vec<String>,
    pub seconds: i64,
    pub bound: Option<Bound>,
    /// Node that the bound pod runs on.
    pub node: Option<(String, String)>,
}

/// Clocks differ: seconds that an object's token outlives the end of its grace period.
const LEEWAY: i64 = 60;

/// Whether an object that a token is of is not one that should have been gone.
fn is_alive(registry: &Registry, object: &Cached) -> bool {
    if !object.object.meta.deleting {
        return true;
    }
    let tree = object.tree();
    let at = tree.ok().and_then(|tree| {
        let at = tree.pointer("/metadata/deletionTimestamp")?.as_str()?;
        at.parse::<jiff::Timestamp>().ok()
    });
    at.is_some_and(|at| registry.environment.now().as_second() - LEEWAY <= at.as_second())
}

impl TokenIssuer {
    /// `key` is a PKCS #8 P-256 key.
    pub fn new(key: &[u8], issuer: String, audiences: Vec<String>) -> Result<TokenIssuer> {
        let random = SystemRandom::new();
        let key = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, key, &random)
            .map_err(|e| ApiError::internal(format!("service account key: {e}")))?;
        let digest = ring::digest::digest(&ring::digest::SHA256, key.public_key().as_ref());
        let key_id = URL_SAFE_NO_PAD.encode(digest.as_ref());
        Ok(TokenIssuer {
            key,
            key_id,
            issuer,
            audiences,
        })
    }

    /// The public key as a JSON Web Key Set.
    pub fn jwks(&self) -> Value {
        // an uncompressed point: 4, x, y
        let point = self.key.public_key().as_ref();
        json!({ "keys": [{
            "use": "sig", "kty": "EC", "kid": self.key_id, "crv": "P-256", "alg": "ES256",
            "x": URL_SAFE_NO_PAD.encode(&point[1..33]), "y": URL_SAFE_NO_PAD.encode(&point[33..65]),
        }] })
    }

    /// A signed token.
    pub fn issue(&self, registry: &Registry, request: &TokenRequest<'_>) -> Result<String> {
        let now = registry.environment.now().as_second();
        let mut kubernetes = json!({
            "namespace": request.namespace,
            "serviceaccount": { "name": request.name, "uid": request.uid },
        });
        if let Some(bound) = &request.bound {
            kubernetes[bound.kind.to_lowercase()] = json!({ "name": bound.name, "uid": bound.uid });
        }
        if let Some((name, uid)) = &request.node {
            kubernetes["node"] = json!({ "name": name });
            if !uid.is_empty() {
                kubernetes["node"]["uid"] = json!(uid);
            }
        }
        let claims = json!({
            "aud": request.audiences,
            "exp": now + request.seconds,
            "iat": now,
            "nbf": now,
            "iss": self.issuer,
            "jti": request.id,
            "kubernetes.io": kubernetes,
            "sub": User::service_account_name(request.namespace, request.name),
        });
        self.sign(&claims)
    }

    pub(super) fn sign(&self, claims: &Value) -> Result<String> {
        let header = json!({ "alg": "ES256", "kid": self.key_id });
        let encode = |v: &Value| URL_SAFE_NO_PAD.encode(v.to_string());
        let signed = format!("{}.{}", encode(&header), encode(claims));
        let random = SystemRandom::new();
        let signature = self
            .key
            .sign(&random, signed.as_bytes())
            .map_err(|_| ApiError::internal("cannot sign a token"))?;
        Ok(format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature.as_ref())))
    }

    /// The user of a token that is ours, in time, for one of the audiences, and whose objects are still there.
    pub fn authenticate(&self, registry: &Registry, token: &str, audiences: &[String]) -> Option<Known> {
        let (signed, signature) = token.rsplit_once('.')?;
        let (header, claims) = signed.split_once('.')?;
        let decode = |part: &str| URL_SAFE_NO_PAD.decode(part).ok();
        let header: Value = serde_json::from_slice(&decode(header)?).ok()?;
        if header["alg"] != "ES256" {
            return None;
        }
        let key = UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, self.key.public_key().as_ref());
        key.verify(signed.as_bytes(), &decode(signature)?).ok()?;
        let claims: Value = serde_json::from_slice(&decode(claims)?).ok()?;
        if claims["iss"] == secret_token::ISSUER {
            return secret_token::known(registry, token, &claims, &self.audiences, audiences);
        }
        let now = registry.environment.now().as_second();
        if claims["iss"] != self.issuer.as_str() || claims["exp"].as_i64()? <= now || claims["nbf"].as_i64()? > now + 60
        {
            return None;
        }
        let own = claims["aud"].as_array()?.iter().filter_map(Value::as_str);
        let audiences: Vec<String> = own
            .filter(|a| audiences.iter().any(|b| a == b))
            .map(str::to_owned)
            .collect();
        if audiences.is_empty() {
            return None;
        }
        let user = self.still_there(registry, &claims)?;
        Some(Known {
            user,
            audiences,
            keeper: None,
        })
    }

    fn still_there(&self, registry: &Registry, claims: &Value) -> Option<User> {
        let bound = claims.get("kubernetes.io")?;
        let namespace = bound["namespace"].as_str()?;
        let name = bound["serviceaccount"]["name"].as_str()?;
        let uid = bound["serviceaccount"]["uid"].as_str()?;
        let check = |plural: &str, namespace: &str, key: &str| -> Option<()> {
            let Some(claim) = bound.get(key) else { return Some(()) };
            let object = registry.get("", plural, namespace, claim["name"].as_str()?)?;
            let same = *object.object.meta.uid == *claim["uid"].as_str()?;
            (same && is_alive(registry, &object)).then_some(())
        };
        let account = registry.get("", "serviceaccounts", namespace, name)?;
        if *account.object.meta.uid != *uid || !is_alive(registry, &account) {
            return None;
        }
        check("pods", namespace, "pod")?;
        check("secrets", namespace, "secret")?;
        if bound.get("pod").is_none() {
            check("nodes", "", "node")?;
        }
        let mut user = service_account_user(namespace, name);
        user.uid = uid.to_owned();
        let mut extra = |key: &str, value: &Value| {
            if let Some(value) = value.as_str() {
                user.extra
                    .insert(format!("authentication.kubernetes.io/{key}"), vec![value.to_owned()]);
            }
        };
        if let Some(jti) = claims["jti"].as_str() {
            extra("credential-id", &json!(format!("JTI={jti}")));
        }
        if let Some(pod) = bound.get("pod") {
            extra("pod-name", &pod["name"]);
            extra("pod-uid", &pod["uid"]);
        }
        if let Some(node) = bound.get("node") {
            extra("node-name", &node["name"]);
            extra("node-uid", &node["uid"]);
        }
        Some(user)
    }
}

/// An account as a user, with its groups.
pub(super) fn service_account_user(namespace: &str, name: &str) -> User {
    let all = "system:serviceaccounts";
    User::new(
        User::service_account_name(namespace, name),
        &[all, &format!("{all}:{namespace}")],
    )
}
