//! ConfigMaps and Secrets that are made of literals and files.

use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};

use super::file::{Generator, Options};
use super::resource::{Behavior, Resource};
use super::target::read;
use crate::error::{Result, fail, message};

/// Lines of base64 in Secrets and binary data.
const WIDTH: usize = 70;

/// Makes a ConfigMap.
pub fn config_map(dir: &Path, from: &Generator, global: Option<&Options>) -> Result<Resource> {
    let mut made = base("ConfigMap", from, global)?;
    let pairs = pairs(dir, from)?;
    for (key, bytes) in pairs {
        match String::from_utf8(bytes) {
            Ok(text) => made.object["data"][key] = json!(text),
            Err(error) => made.object["binaryData"][key] = json!(encoded(error.as_bytes())),
        }
    }
    Ok(made)
}

/// Makes a Secret.
pub fn secret(dir: &Path, from: &Generator, global: Option<&Options>) -> Result<Resource> {
    let mut made = base("Secret", from, global)?;
    let of_type = if from.of_type.is_empty() {
        "Opaque"
    } else {
        &from.of_type
    };
    made.object["type"] = json!(of_type);
    for (key, bytes) in pairs(dir, from)? {
        made.object["data"][key] = json!(encoded(&bytes));
    }
    Ok(made)
}

/// Long values are broken into lines, as kustomize breaks them.
fn encoded(bytes: &[u8]) -> String {
    let text = STANDARD.encode(bytes);
    if text.len() <= WIDTH {
        return text;
    }
    let lines: Vec<&str> = (0..text.len())
        .step_by(WIDTH)
        .map(|at| &text[at..text.len().min(at + WIDTH)])
        .collect();
    lines.join("\n") + "\n"
}

fn base(kind: &str, from: &Generator, global: Option<&Options>) -> Result<Resource> {
    if from.name.is_empty() {
        return fail("a configmap must have a name");
    }
    let options = merged(from.options.as_ref(), global);
    let mut object = json!({"apiVersion": "v1", "kind": kind, "metadata": {"name": from.name}});
    if !from.namespace.is_empty() {
        object["metadata"]["namespace"] = json!(from.namespace);
    }
    for (field, pairs) in [("labels", &options.labels), ("annotations", &options.annotations)] {
        if !pairs.is_empty() {
            object["metadata"][field] = json!(pairs);
        }
    }
    if options.immutable {
        object["immutable"] = json!(true);
    }
    let behavior = match from.behavior.as_str() {
        "replace" => Behavior::Replace,
        "merge" => Behavior::Merge,
        _ => Behavior::Create,
    };
    Ok(Resource {
        needs_hash: !options.disable_name_suffix_hash,
        behavior,
        ..Resource::new(object)
    })
}

/// What the generator says counts before what all are told.
fn merged(own: Option<&Options>, global: Option<&Options>) -> Options {
    let mut options = own.cloned().unwrap_or_default();
    if let Some(global) = global {
        for (all, more) in [
            (&mut options.labels, &global.labels),
            (&mut options.annotations, &global.annotations),
        ] {
            for (key, value) in more {
                all.entry(key.clone()).or_insert_with(|| value.clone());
            }
        }
        options.disable_name_suffix_hash |= global.disable_name_suffix_hash;
        options.immutable |= global.immutable;
    }
    options
}

fn pairs(dir: &Path, from: &Generator) -> Result<Vec<(String, Vec<u8>)>> {
    let mut all: Vec<(String, Vec<u8>)> = Vec::new();
    for path in &from.envs {
        let bytes = read(dir, path)?;
        let text =
            String::from_utf8(bytes).map_err(|_| message(format!("env source files: {path}: invalid utf8 bytes")))?;
        for line in text.trim_start_matches('\u{feff}').lines() {
            let line = line.trim_start();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let (key, value) = line.split_once('=').unwrap_or((line, ""));
            all.push((key.to_owned(), value.into()));
        }
    }
    for text in &from.literals {
        let invalid = || {
            message(format!(
                "literal sources {:?}: invalid literal source {text}, expected key=value",
                from.literals
            ))
        };
        let (key, value) = text
            .split_once('=')
            .filter(|(key, _)| !key.is_empty())
            .ok_or_else(invalid)?;
        all.push((key.to_owned(), unquoted(value).into()));
    }
    for text in &from.files {
        let (key, path) = file_source(text)?;
        all.push((key, read(dir, &path)?));
    }
    let mut seen = std::collections::HashSet::new();
    for (key, _) in &all {
        let legal = !key.is_empty() && key.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c));
        if !legal {
            return fail(format!("{key:?} is not a valid key name"));
        }
        if !seen.insert(key.clone()) {
            return fail(format!("configmap {} illegally repeats the key `{key}`", from.name));
        }
    }
    Ok(all)
}

fn unquoted(text: &str) -> &str {
    let inner = |quote: char| text.strip_prefix(quote)?.strip_suffix(quote);
    inner('"').or_else(|| inner('\'')).unwrap_or(text)
}

/// `path`, whose last part is the key, or `key=path`.
fn file_source(text: &str) -> Result<(String, String)> {
    let parts: Vec<&str> = text.split('=').collect();
    match parts.as_slice() {
        [path] => Ok((path.rsplit('/').next().unwrap_or(path).to_owned(), (*path).to_owned())),
        ["", path] => fail(format!(
            "missing key name for file path \"{path}\" in source \"{text}\""
        )),
        [key, ""] => fail(format!("missing file path for key name \"{key}\" in source \"{text}\"")),
        [key, path] => Ok(((*key).to_owned(), (*path).to_owned())),
        _ => fail(format!("source \"{text}\" key name or file path contains '='")),
    }
}

/// Takes a generated object in: beside the others, in place of one, or over it.
pub fn absorb(resources: &mut Vec<Resource>, mut new: Resource) -> Result<()> {
    let id = new.id();
    let found: Vec<usize> = (0..resources.len())
        .filter(|at| resources[*at].was(|other| other.equals(&id)))
        .collect();
    let index = match (found.as_slice(), new.behavior) {
        ([], Behavior::Create) => {
            resources.push(new);
            return Ok(());
        }
        ([], _) => return fail(format!("id {id} does not exist; cannot merge or replace")),
        ([_], Behavior::Create) => {
            return fail(format!(
                "id {id} exists; can not use behavior: 'create', behavior must be merge or replace"
            ));
        }
        ([one], _) => *one,
        _ => return fail(format!("found multiple objects that could accept merge of {id}")),
    };
    let old = &resources[index];
    for field in ["labels", "annotations"] {
        let mut pairs = old.object["metadata"][field].as_object().cloned().unwrap_or_default();
        pairs.extend(new.object["metadata"][field].as_object().cloned().unwrap_or_default());
        if !pairs.is_empty() {
            new.object["metadata"][field] = Value::Object(pairs);
        }
    }
    if new.behavior == Behavior::Merge {
        for field in ["data", "binaryData"] {
            let mut pairs: Map<String, Value> = old.object[field].as_object().cloned().unwrap_or_default();
            pairs.extend(new.object[field].as_object().cloned().unwrap_or_default());
            if !pairs.is_empty() {
                new.object[field] = Value::Object(pairs);
            }
        }
    }
    // it goes on under the names of the one it replaces
    let name = old.name().to_owned();
    new.set_name(&name);
    let namespace = old.object["metadata"].get("namespace").cloned();
    if let Some(namespace) = namespace {
        new.object["metadata"]["namespace"] = namespace;
    }
    new.previous.clone_from(&old.previous);
    new.prefixes.clone_from(&old.prefixes);
    new.suffixes.clone_from(&old.suffixes);
    resources[index] = new;
    Ok(())
}
