//! Names: prefixes and suffixes, and the digests of what was generated.

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::resource::Resource;
use crate::error::{Result, fail};
use crate::print::go;

/// Puts a prefix before the names of all but a few kinds.
pub fn add_prefix(resources: &mut [Resource], prefix: &str) {
    rename(resources, prefix, "");
}

/// Puts a suffix behind them.
pub fn add_suffix(resources: &mut [Resource], suffix: &str) {
    rename(resources, "", suffix);
}

fn rename(resources: &mut [Resource], prefix: &str, suffix: &str) {
    for resource in resources {
        let id = resource.original();
        let stays = matches!(id.kind.as_str(), "CustomResourceDefinition" | "Namespace")
            || id.kind == "APIService" && id.group == "apiregistration.k8s.io";
        if stays {
            continue;
        }
        if !prefix.is_empty() {
            resource.prefixes.push(prefix.to_owned());
        }
        if !suffix.is_empty() {
            resource.suffixes.push(suffix.to_owned());
        }
        resource.remember();
        let name = format!("{prefix}{}{suffix}", resource.name());
        resource.set_name(&name);
    }
}

/// Puts digests of their content behind the names of what was generated.
pub fn add_hashes(resources: &mut [Resource]) -> Result<()> {
    for resource in resources.iter_mut().filter(|resource| resource.needs_hash) {
        // kustomize means to count the name too, and looks for it where it never is
        let hash = hash(&resource.object, "")?;
        resource.remember();
        let name = format!("{}-{hash}", resource.name());
        resource.set_name(&name);
    }
    Ok(())
}

/// The digest of an object's content, as kubectl and kustomize have it (`api/hasher`).
pub fn hash(object: &Value, name: &str) -> Result<String> {
    let or_empty = |field: &Value| if field.is_null() { json!("") } else { field.clone() };
    let encoded = match object["kind"].as_str() {
        Some("ConfigMap") => {
            let mut all = json!({"kind": "ConfigMap", "name": name, "data": or_empty(&object["data"])});
            if object["binaryData"].is_object() {
                all["binaryData"] = object["binaryData"].clone();
            }
            all
        }
        Some("Secret") => {
            let mut all = json!({"kind": "Secret", "type": or_empty(&object["type"]), "name": name, "data": or_empty(&object["data"])});
            if object["stringData"].is_object() {
                all["stringData"] = object["stringData"].clone();
            }
            all
        }
        _ => return fail("only ConfigMaps and Secrets get a suffix of their content"),
    };
    let digest = Sha256::digest(go::json(&encoded, None).as_bytes());
    let hex: String = digest.iter().take(5).map(|byte| format!("{byte:02x}")).collect();
    let letter = |c: char| match c {
        '0' => 'g',
        '1' => 'h',
        '3' => 'k',
        'a' => 'm',
        'e' => 't',
        other => other,
    };
    Ok(hex.chars().map(letter).collect())
}
