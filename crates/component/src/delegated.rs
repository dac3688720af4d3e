//! Authentication and authorization by the API server: client certificates of an authority, tokens that it reviews, and permissions that
//! it is asked about. What it said is good for a while.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use client::Client;
use k8s_openapi::api::authentication::v1::{TokenReview, TokenReviewSpec};
use k8s_openapi::api::authorization::v1::{
    NonResourceAttributes, ResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec,
};

/// Upstream's defaults for tokens, yes and no.
const TOKEN_TTL: Duration = Duration::from_secs(120);
const ALLOWED_TTL: Duration = Duration::from_secs(300);
const DENIED_TTL: Duration = Duration::from_secs(30);
const REMEMBERED: usize = 1024;

/// Who asks.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct User {
    /// The user's name, as RBAC knows it.
    pub name: String,
    /// The groups that the user is in.
    pub groups: Vec<String>,
}

/// What somebody wants to do.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Question {
    /// A verb on a path.
    Path {
        /// The method in small letters, as `get`.
        verb: &'static str,
        /// The path of the request.
        path: String,
    },
    /// A verb on a part of a cluster-wide object of the core group.
    Object {
        /// The verb, `get` or another of the API's.
        verb: &'static str,
        /// The resource's plural, as `nodes`.
        resource: &'static str,
        /// The part, as `proxy` or `metrics`; empty is the object itself.
        subresource: &'static str,
        /// The object's name.
        name: String,
    },
}

/// Answers of the API server, and how it is asked.
pub struct Delegated {
    tokens_by: Option<Client>,
    permissions_by: Option<Client>,
    tokens: Mutex<HashMap<String, (Option<User>, Instant)>>,
    decisions: Mutex<HashMap<(User, Question), (bool, Instant)>>,
}

impl User {
    /// Who shows no credentials.
    pub fn anonymous() -> User {
        User {
            name: "system:anonymous".to_owned(),
            groups: vec!["system:unauthenticated".to_owned()],
        }
    }

    /// Whom a certificate's subject names: its common name and organisations; `None` when it names nobody, or in a way that is not
    /// understood.
    pub fn of_certificate(der: &[u8]) -> Option<User> {
        let subject = pki::Subject::of_certificate(der).ok()?;
        if subject.common_name.is_empty() {
            return None;
        }
        let mut groups = subject.organizations;
        groups.push("system:authenticated".to_owned());
        Some(User {
            name: subject.common_name,
            groups,
        })
    }
}

impl Delegated {
    /// Tokens are reviewed and permissions are asked for by these clients; without one no token is known, or nothing is allowed.
    pub fn new(tokens_by: Option<Client>, permissions_by: Option<Client>) -> Delegated {
        Delegated {
            tokens_by,
            permissions_by,
            tokens: Mutex::default(),
            decisions: Mutex::default(),
        }
    }

    /// Whose a token is.
    pub async fn user_of(&self, token: &str) -> Option<User> {
        let client = self.tokens_by.as_ref()?;
        if let Some((user, at)) = self.tokens.lock().unwrap_or_else(PoisonError::into_inner).get(token)
            && at.elapsed() < TOKEN_TTL
        {
            return user.clone();
        }
        let review = TokenReview {
            spec: TokenReviewSpec {
                token: token.to_owned(),
                audiences: None,
            },
            ..TokenReview::default()
        };
        let status = match client.create(&review).await {
            Ok(review) => review.status.unwrap_or_default(),
            Err(error) => {
                tracing::warn!(%error, "token not reviewed");
                return None;
            }
        };
        let user = status
            .user
            .filter(|_| status.authenticated == Some(true))
            .map(|u| User {
                name: u.username.unwrap_or_default(),
                groups: u.groups.unwrap_or_default(),
            });
        let mut tokens = self.tokens.lock().unwrap_or_else(PoisonError::into_inner);
        if tokens.len() >= REMEMBERED {
            tokens.clear();
        }
        tokens.insert(token.to_owned(), (user.clone(), Instant::now()));
        user
    }

    /// Whether a user may do something.
    ///
    /// # Errors
    /// When the API server cannot be asked.
    pub async fn allows(&self, user: &User, question: &Question) -> client::Result<bool> {
        let Some(client) = &self.permissions_by else {
            return Ok(false);
        };
        let key = (user.clone(), question.clone());
        if let Some((allowed, at)) = self.decisions.lock().unwrap_or_else(PoisonError::into_inner).get(&key)
            && at.elapsed() < if *allowed { ALLOWED_TTL } else { DENIED_TTL }
        {
            return Ok(*allowed);
        }
        let (mut path_attributes, mut object_attributes) = (None, None);
        match question {
            Question::Path { verb, path } => {
                path_attributes = Some(NonResourceAttributes {
                    verb: Some((*verb).to_owned()),
                    path: Some(path.clone()),
                });
            }
            Question::Object {
                verb,
                resource,
                subresource,
                name,
            } => {
                object_attributes = Some(ResourceAttributes {
                    verb: Some((*verb).to_owned()),
                    version: Some("v1".to_owned()),
                    resource: Some((*resource).to_owned()),
                    subresource: Some((*subresource).to_owned()),
                    name: Some(name.clone()),
                    ..ResourceAttributes::default()
                });
            }
        }
        let review = SubjectAccessReview {
            spec: SubjectAccessReviewSpec {
                user: Some(user.name.clone()),
                groups: Some(user.groups.clone()),
                resource_attributes: object_attributes,
                non_resource_attributes: path_attributes,
                ..SubjectAccessReviewSpec::default()
            },
            ..SubjectAccessReview::default()
        };
        let allowed = client.create(&review).await?.status.is_some_and(|s| s.allowed);
        let mut decisions = self.decisions.lock().unwrap_or_else(PoisonError::into_inner);
        if decisions.len() >= REMEMBERED {
            decisions.clear();
        }
        decisions.insert(key, (allowed, Instant::now()));
        Ok(allowed)
    }
}
