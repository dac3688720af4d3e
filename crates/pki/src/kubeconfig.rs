//! A kubeconfig with one cluster, one user and everything inside.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

/// The text of a kubeconfig for `server` as a user with a client certificate; all arguments but the names are PEM.
pub fn kubeconfig(name: &str, server: &str, authority: &str, certificate: &str, key: &str) -> String {
    let authority = STANDARD.encode(authority);
    let certificate = STANDARD.encode(certificate);
    let key = STANDARD.encode(key);
    format!(
        "apiVersion: v1
kind: Config
clusters:
- name: {name}
  cluster:
    server: {server}
    certificate-authority-data: {authority}
users:
- name: {name}
  user:
    client-certificate-data: {certificate}
    client-key-data: {key}
contexts:
- name: {name}
  context:
    cluster: {name}
    user: {name}
current-context: {name}
preferences: {{}}
"
    )
}
