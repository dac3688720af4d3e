//! The doors of the fuzz targets to parsers that are private otherwise. Not a part of what the crate offers.

use crate::config::KubeletConfig;
use crate::image_credentials;
use crate::logs::{self, LogOptions};
use crate::static_pods;
use std::collections::BTreeMap;
use std::path::Path;

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;

/// The lines of a log as a client of `kubectl logs` gets them.
pub fn log_lines(log: &[u8], timestamps: bool) -> Vec<u8> {
    let options = LogOptions {
        timestamps,
        ..LogOptions::default()
    };
    let mut continued = false;
    let whole = log
        .split_inclusive(|byte| *byte == b'\n')
        .filter(|line| line.ends_with(b"\n"));
    whole
        .filter_map(|line| logs::format_line(line, &options, &mut continued))
        .flatten()
        .collect()
}

/// Reads a KubeletConfiguration and applies it.
pub fn configuration(text: &str) -> bool {
    let mut config = KubeletConfig::new("node");
    config.apply_text(Path::new("config"), text).is_ok() && config.check().is_ok()
}

/// Reads a manifest of a static pod; the pod's key.
pub fn static_pod(text: &str) -> Option<String> {
    static_pods::parse(text, "node").ok().map(|(key, _)| key)
}

/// Reads the credentials in a secret of type `kubernetes.io/dockerconfigjson`; how many fit an image.
pub fn logins(config: &[u8]) -> Option<usize> {
    let data = BTreeMap::from([(".dockerconfigjson".to_owned(), ByteString(config.to_vec()))]);
    let secret = Secret {
        type_: Some("kubernetes.io/dockerconfigjson".into()),
        data: Some(data),
        ..Secret::default()
    };
    image_credentials::logins("registry.k8s.io/pause:3.10", &[secret])
        .ok()
        .map(|logins| logins.len())
}
