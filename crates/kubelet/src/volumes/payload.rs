//! What files a ConfigMap, Secret, downward API or projected volume shows.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{DownwardAPIVolumeFile, KeyToPath, ServiceAccountTokenProjection, Volume};

use super::Setup;
use super::atomic_writer::{File, Payload};
use crate::env::{self, EnvError};
use crate::pod_certificates::CertificateError;
use crate::trust_bundles::TrustError;

/// Which token: audience and lifetime in seconds.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct TokenKey {
    pub audience: Option<String>,
    pub expiration_seconds: i64,
}

impl TokenKey {
    pub(super) fn of(source: &ServiceAccountTokenProjection) -> TokenKey {
        let audience = source.audience.clone().filter(|a| !a.is_empty());
        TokenKey {
            audience,
            expiration_seconds: source.expiration_seconds.unwrap_or(3600),
        }
    }
}

pub(super) fn mode(set: Option<i32>, default: Option<i32>) -> u32 {
    set.or(default).and_then(|m| u32::try_from(m).ok()).unwrap_or(0o644) & 0o777
}

fn file(content: Vec<u8>, mode: u32) -> File {
    File {
        content,
        mode,
        owner: None,
    }
}

/// Why a volume's files cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum PayloadError {
    #[error(transparent)]
    Env(#[from] EnvError),
    #[error("no service account token was issued")]
    NoToken,
    #[error("configmap references non-existent config key: {0}")]
    ConfigMapKey(String),
    #[error("references non-existent secret key: {0}")]
    SecretKey(String),
    #[error(transparent)]
    Trust(#[from] Arc<TrustError>),
    #[error(transparent)]
    Certificate(#[from] CertificateError),
}

/// A key that an item names and that is not there.
struct Missing(String);

/// `None` when the volume is of another type; else the plugin's name, whether it lives in memory, and its files.
type Found = Option<(&'static str, bool, Payload)>;

/// The plugin that fills a volume with files of ours.
pub(super) fn plugin_of(volume: &Volume) -> Option<&'static str> {
    let (map, secret) = (volume.config_map.is_some(), volume.secret.is_some());
    let kinds = [
        (map, "configmap"),
        (secret, "secret"),
        (volume.downward_api.is_some(), "downward-api"),
        (volume.projected.is_some(), "projected"),
    ];
    kinds.into_iter().find(|(is, _)| *is).map(|(_, plugin)| plugin)
}

impl Setup<'_> {
    pub(super) fn payload(&self, volume: &Volume) -> Result<Found, PayloadError> {
        let mut files = Payload::new();
        if let Some(source) = &volume.config_map {
            let optional = source.optional == Some(true);
            self.config_map(
                &source.name,
                source.items.as_deref(),
                optional,
                source.default_mode,
                &mut files,
            )?;
            return Ok(Some(("configmap", false, files)));
        }
        if let Some(source) = &volume.secret {
            let name = source.secret_name.as_deref().unwrap_or_default();
            let optional = source.optional == Some(true);
            self.secret(name, source.items.as_deref(), optional, source.default_mode, &mut files)?;
            return Ok(Some(("secret", true, files)));
        }
        if let Some(source) = &volume.downward_api {
            self.downward(source.items.as_deref(), source.default_mode, &mut files)?;
            return Ok(Some(("downward-api", true, files)));
        }
        let Some(projected) = &volume.projected else {
            return Ok(None);
        };
        let default = projected.default_mode;
        for (index, source) in projected.sources.iter().flatten().enumerate() {
            if let Some(s) = &source.config_map {
                self.config_map(
                    &s.name,
                    s.items.as_deref(),
                    s.optional == Some(true),
                    default,
                    &mut files,
                )?;
            }
            if let Some(s) = &source.secret {
                self.secret(
                    &s.name,
                    s.items.as_deref(),
                    s.optional == Some(true),
                    default,
                    &mut files,
                )?;
            }
            if let Some(s) = &source.downward_api {
                self.downward(s.items.as_deref(), default, &mut files)?;
            }
            if let Some(s) = &source.service_account_token {
                let token = self.tokens.get(&TokenKey::of(s)).ok_or(PayloadError::NoToken)?;
                let (owner, mode) = self.private(default);
                let content = token.clone().into_bytes();
                files.insert(s.path.clone(), File { content, mode, owner });
            }
            let place = (volume.name.clone(), index);
            if let Some(s) = &source.cluster_trust_bundle {
                self.trust_bundle(&place, s, default, &mut files)?;
            }
            if let Some(s) = &source.pod_certificate {
                self.pod_certificate(&place, s, default, &mut files)?;
            }
        }
        Ok(Some(("projected", true, files)))
    }

    fn config_map(
        &self,
        name: &str,
        items: Option<&[KeyToPath]>,
        optional: bool,
        default: Option<i32>,
        files: &mut Payload,
    ) -> Result<(), PayloadError> {
        let data = match self.sources.config_maps.get(name).and_then(Option::as_ref) {
            Some(map) => {
                let text = map
                    .data
                    .iter()
                    .flatten()
                    .map(|(k, v)| (k.clone(), v.clone().into_bytes()));
                let binary = map.binary_data.iter().flatten().map(|(k, v)| (k.clone(), v.0.clone()));
                text.chain(binary).collect()
            }
            None if optional => return Ok(()),
            None => return Err(EnvError::NoConfigMap(name.to_owned()).into()),
        };
        project(&data, items, optional, default, files).map_err(|Missing(key)| PayloadError::ConfigMapKey(key))
    }

    fn secret(
        &self,
        name: &str,
        items: Option<&[KeyToPath]>,
        optional: bool,
        default: Option<i32>,
        files: &mut Payload,
    ) -> Result<(), PayloadError> {
        let data = match self.sources.secrets.get(name).and_then(Option::as_ref) {
            Some(secret) => secret
                .data
                .iter()
                .flatten()
                .map(|(k, v)| (k.clone(), v.0.clone()))
                .collect(),
            None if optional => return Ok(()),
            None => return Err(EnvError::NoSecret(name.to_owned()).into()),
        };
        project(&data, items, optional, default, files).map_err(|Missing(key)| PayloadError::SecretKey(key))
    }

    fn downward(
        &self,
        items: Option<&[DownwardAPIVolumeFile]>,
        default: Option<i32>,
        files: &mut Payload,
    ) -> Result<(), PayloadError> {
        let none = k8s_openapi::api::core::v1::Container::default();
        for item in items.unwrap_or_default() {
            let text = match (&item.field_ref, &item.resource_field_ref) {
                (Some(field), _) => env::field_value(self.pod, field, self.sources)?,
                (None, Some(resource)) => env::resource_value(self.pod, &none, resource, &self.sources.allocatable)?,
                (None, None) => String::new(),
            };
            files.insert(item.path.clone(), file(text.into_bytes(), mode(item.mode, default)));
        }
        Ok(())
    }
}

/// All keys, or the chosen ones under their paths; the missing key otherwise.
fn project(
    data: &BTreeMap<String, Vec<u8>>,
    items: Option<&[KeyToPath]>,
    optional: bool,
    default: Option<i32>,
    files: &mut Payload,
) -> Result<(), Missing> {
    let Some(items) = items.filter(|i| !i.is_empty()) else {
        files.extend(
            data.iter()
                .map(|(k, v)| (k.clone(), file(v.clone(), mode(None, default)))),
        );
        return Ok(());
    };
    for item in items {
        match data.get(&item.key) {
            Some(content) => {
                files.insert(item.path.clone(), file(content.clone(), mode(item.mode, default)));
            }
            None if optional => {}
            None => return Err(Missing(item.key.clone())),
        }
    }
    Ok(())
}
