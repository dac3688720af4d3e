//! Service-account tokens for the pod's volumes, renewed before they end.

use std::collections::HashMap;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::authentication::v1::{BoundObjectReference, TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::ServiceAccount;

use super::{SyncError, Worker};
use crate::pod::PodExt;
use crate::volumes::{self, TokenKey};

impl Worker {
    pub(super) async fn service_account_tokens(&mut self) -> Result<HashMap<TokenKey, String>, SyncError> {
        let mut tokens = HashMap::new();
        for key in volumes::token_keys(&self.pod) {
            let now = Timestamp::now();
            if self.tokens.get(&key).is_none_or(|(_, renew)| *renew <= now) {
                let issued = self.request_token(&key).await?;
                let ends = issued.1;
                // At four fifths of its life, or after a day.
                let life = ends.duration_since(now);
                let renew = now
                    + (life * 4 / 5)
                        .min(SignedDuration::from_hours(24))
                        .max(SignedDuration::from_secs(10));
                self.tokens.insert(key.clone(), (issued.0, renew));
            }
            if let Some((token, renew)) = self.tokens.get(&key).cloned() {
                self.wake_at(renew);
                tokens.insert(key, token);
            }
        }
        Ok(tokens)
    }

    async fn request_token(&self, key: &TokenKey) -> Result<(String, Timestamp), SyncError> {
        let pod = &self.pod;
        let request = TokenRequest {
            spec: Some(TokenRequestSpec {
                audiences: key.audience.clone().map(|a| vec![a]),
                expiration_seconds: Some(key.expiration_seconds),
                bound_object_ref: Some(BoundObjectReference {
                    api_version: Some("v1".to_owned()),
                    kind: Some("Pod".to_owned()),
                    name: pod.metadata.name.clone(),
                    uid: pod.metadata.uid.clone(),
                }),
                attestations: None,
            }),
            ..TokenRequest::default()
        };
        let account = pod
            .spec
            .as_ref()
            .and_then(|s| s.service_account_name.as_deref())
            .unwrap_or("default");
        let client = &self.node.client;
        let answer: TokenRequest = client
            .create_subresource::<ServiceAccount, _>(pod.namespace(), account, "token", &request)
            .await?;
        let status = answer.status.unwrap_or_default();
        match (status.token, status.expiration_timestamp) {
            (Some(token), Some(ends)) => Ok((token, ends.0)),
            _ => Err(SyncError::NoToken(account.to_owned())),
        }
    }
}
