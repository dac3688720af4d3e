//! Objects in files, directories, on the standard input and behind URLs.

use std::io::Read;
use std::path::{Path, PathBuf};

use api::schema::Document;
use bytes::Bytes;
use client::{Config, HttpsTransport, TlsConfig, Transport};
use http::{Request, header};
use http_body_util::BodyExt;
use serde_json::Value;

use crate::error::{Result, fail, message};
use crate::flags::Files;
use crate::kustomize;
use crate::print::go::quote;

/// Where the trust in the web's certificates is kept on most systems.
const SYSTEM_ROOTS: [&str; 3] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/cert.pem",
];
const REDIRECTS: usize = 10;

/// One object, and where it was read.
#[derive(Debug, Clone, PartialEq)]
pub struct Manifest {
    /// For messages: the file's name, `STDIN` or the URL.
    pub source: String,
    /// The object as JSON has it.
    pub object: Value,
}

/// Every object of the files, lists taken apart.
pub async fn read(files: &Files) -> Result<Vec<Manifest>> {
    let mut all = Vec::new();
    if let Some(dir) = &files.kustomize {
        if !files.files.is_empty() || files.recursive {
            return fail("only one of -f or -k can be specified");
        }
        let objects = kustomize::build(Path::new(dir), &mut |text| eprintln!("{text}"))?;
        let source = dir.clone();
        all.extend(objects.into_iter().map(|object| Manifest {
            source: source.clone(),
            object,
        }));
        return Ok(all);
    }
    for file in &files.files {
        if file == "-" {
            let mut text = String::new();
            std::io::stdin().read_to_string(&mut text)?;
            all.extend(objects("STDIN", &text)?);
        } else if file.starts_with("http://") || file.starts_with("https://") {
            let text = fetch(file).await?;
            all.extend(objects(file, &text)?);
        } else {
            for path in expand(file, files.recursive)? {
                let shown = path.to_string_lossy();
                let text = std::fs::read_to_string(&path)
                    .map_err(|e| message(format!("open {shown}: {}", crate::print::go::io_error(&e))))?;
                all.extend(objects(&shown, &text)?);
            }
        }
    }
    Ok(all)
}

fn expand(file: &str, recursive: bool) -> Result<Vec<PathBuf>> {
    let path = Path::new(file);
    if path.is_file() || (path.exists() && !path.is_dir()) {
        return Ok(vec![path.to_owned()]);
    }
    if path.is_dir() {
        let mut found = Vec::new();
        walk(path, recursive, &mut found)?;
        if found.is_empty() {
            return fail(format!(
                "error reading [{file}]: recognized file extensions are [.json .yaml .yml]"
            ));
        }
        return Ok(found);
    }
    if file.contains(['*', '?', '[']) {
        let found = glob(path)?;
        if !found.is_empty() {
            return Ok(found);
        }
    }
    fail(format!("the path {} does not exist", quote(file)))
}

fn walk(dir: &Path, recursive: bool, found: &mut Vec<PathBuf>) -> Result<()> {
    let mut entries: Vec<PathBuf> = std::fs::read_dir(dir)?
        .map(|e| e.map(|e| e.path()))
        .collect::<std::io::Result<_>>()?;
    entries.sort();
    for path in entries {
        if path.is_dir() {
            if recursive {
                walk(&path, recursive, found)?;
            }
        } else if path
            .extension()
            .is_some_and(|e| e == "json" || e == "yaml" || e == "yml")
        {
            found.push(path);
        }
    }
    Ok(())
}

/// A pattern in the last part of the path.
fn glob(pattern: &Path) -> Result<Vec<PathBuf>> {
    let Some(name) = pattern.file_name().map(|n| n.to_string_lossy().into_owned()) else {
        return Ok(Vec::new());
    };
    let escaped = regex::escape(&name)
        .replace("\\*", ".*")
        .replace("\\?", ".")
        .replace("\\[", "[")
        .replace("\\]", "]");
    let matcher = regex::Regex::new(&format!("^{escaped}$")).map_err(|e| message(format!("{name}: {e}")))?;
    let dir = pattern
        .parent()
        .filter(|p| !p.as_os_str().is_empty())
        .unwrap_or(Path::new("."));
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir)? {
        let entry = entry?;
        if matcher.is_match(&entry.file_name().to_string_lossy()) {
            found.push(entry.path());
        }
    }
    found.sort();
    Ok(found)
}

async fn fetch(url: &str) -> Result<String> {
    let mut url = url.to_owned();
    for _ in 0..REDIRECTS {
        let parsed: http::Uri = url
            .parse()
            .map_err(|e| message(format!("the URL passed to filename {} is not valid: {e}", quote(&url))))?;
        let (Some(scheme), Some(authority)) = (parsed.scheme_str(), parsed.authority()) else {
            return fail(format!("the URL passed to filename {} is not valid", quote(&url)));
        };
        let roots = SYSTEM_ROOTS.iter().find_map(|path| std::fs::read(path).ok());
        let transport = HttpsTransport::new(&Config {
            server: format!("{scheme}://{authority}"),
            tls: TlsConfig {
                ca_pem: roots,
                ..TlsConfig::default()
            },
            ..Config::default()
        })?;
        let path = parsed.path_and_query().map_or("/", |p| p.as_str());
        let request = Request::get(path).body(Bytes::new()).map_err(client::Error::from)?;
        let answer = transport.call(request).await?;
        if answer.status().is_redirection()
            && let Some(to) = answer.headers().get(header::LOCATION).and_then(|l| l.to_str().ok())
        {
            url = match to.starts_with('/') {
                true => format!("{scheme}://{authority}{to}"),
                false => to.to_owned(),
            };
            continue;
        }
        if !answer.status().is_success() {
            return fail(format!(
                "unable to read URL {}, server reported {}, status code={}",
                quote(&url),
                answer.status(),
                answer.status().as_u16()
            ));
        }
        let body = answer.into_body().collect().await?.to_bytes();
        return String::from_utf8(body.to_vec()).map_err(|_| message(format!("{url}: not text")));
    }
    fail(format!("{url}: too many redirects"))
}

/// The objects of a text, lists taken apart.
pub fn objects(source: &str, text: &str) -> Result<Vec<Manifest>> {
    let mut all = Vec::new();
    for object in documents(source, text)? {
        flatten(&mut all, source, object);
    }
    Ok(all)
}

/// What a reader of YAML objects to, in one line, and with the line that it is about where that is not the first, as upstream has it.
fn problem(error: &str) -> String {
    let line = error.lines().next().unwrap_or_default();
    let line = line.strip_prefix("error: ").unwrap_or(line);
    let place = line.strip_prefix("line ").and_then(|rest| rest.split_once(" column "));
    let Some((number, (_, why))) = place.and_then(|(n, rest)| Some((n, rest.split_once(": ")?))) else {
        return line.to_owned();
    };
    match number {
        "1" => why.to_owned(),
        number => format!("line {number}: {why}"),
    }
}

/// The documents of a text: JSON ones after each other, or YAML ones parted by `---`. A text that begins like JSON is
/// YAML in flow style if it is no JSON, also after one document that is.
pub fn documents(source: &str, text: &str) -> Result<Vec<Value>> {
    let parse_error = |e: &dyn std::fmt::Display| message(format!("error parsing {source}: {e}"));
    let (mut found, mut rest, mut not_json) = (Vec::new(), text, None);
    if text.trim_start().starts_with('{') {
        let mut stream = serde_json::Deserializer::from_str(text).into_iter::<Value>();
        loop {
            match stream.next() {
                None => return Ok(found),
                Some(Ok(value)) => found.push(value),
                Some(Err(e)) if found.len() > 1 => return Err(parse_error(&format!("json parse error: {e}"))),
                Some(Err(e)) => {
                    not_json = Some(parse_error(&format!("json parse error: {e}")));
                    break;
                }
            }
        }
        rest = &text[stream.byte_offset()..];
        let blank = rest.len() - rest.trim_start().len();
        rest = &rest[rest[..blank].find('\n').map_or(blank, |newline| newline + 1)..];
    }
    for document in split(rest) {
        let read = document.and_then(|text| {
            Document::from_yaml(text.as_bytes()).map_err(|e| DocumentError::Yaml(problem(&e.to_string())))
        });
        match read {
            Ok(read) => found.extend(Some(read.value).filter(|v| !v.is_null())),
            Err(e) => return Err(not_json.take().unwrap_or_else(|| parse_error(&e))),
        }
        not_json = None;
    }
    Ok(found)
}

/// Why a part of a text is no document, in upstream's words.
#[derive(Debug, thiserror::Error)]
enum DocumentError {
    #[error("invalid Yaml document separator: {0}")]
    Separator(String),
    #[error("error converting YAML to JSON: yaml: {0}")]
    Yaml(String),
}

/// The texts between lines that begin with `---`, which only a comment may follow.
fn split(text: &str) -> Vec<std::result::Result<String, DocumentError>> {
    let mut parts = vec![Ok(String::new())];
    for line in text.lines() {
        if let Some(after) = line.strip_prefix("---") {
            let after = after.trim();
            if !after.is_empty() && !after.starts_with('#') {
                parts.push(Err(DocumentError::Separator(after.to_owned())));
                break;
            }
            parts.push(Ok(String::new()));
        } else if let Some(Ok(last)) = parts.last_mut() {
            last.push_str(line);
            last.push('\n');
        }
    }
    let has_content = |part: &std::result::Result<String, DocumentError>| {
        let Ok(part) = part else { return true };
        part.lines()
            .any(|l| !l.trim().is_empty() && !l.trim_start().starts_with('#'))
    };
    parts.retain(has_content);
    parts
}

fn flatten(all: &mut Vec<Manifest>, source: &str, object: Value) {
    let is_list = object["kind"].as_str().is_some_and(|k| k.ends_with("List")) && object["items"].is_array();
    if !is_list {
        all.push(Manifest {
            source: source.to_owned(),
            object,
        });
        return;
    }
    let (api_version, kind) = (object["apiVersion"].clone(), object["kind"].clone());
    let Value::Object(mut list) = object else { return };
    if let Some(Value::Array(items)) = list.remove("items") {
        for mut item in items {
            // Items of a typed list may leave out what the list says.
            if let (Some(item), Some(kind)) = (item.as_object_mut(), kind.as_str().and_then(|k| k.strip_suffix("List")))
                && !kind.is_empty()
            {
                item.entry("apiVersion").or_insert_with(|| api_version.clone());
                item.entry("kind").or_insert_with(|| Value::from(kind));
            }
            flatten(all, source, item);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn documents_are_parted_and_lists_taken_apart() {
        let text = "# c\n---\na: 1\n---\n\n---\nkind: List\napiVersion: v1\nitems:\n- kind: A\n- kind: B\n";
        let objects: Vec<Value> = objects("x", text).unwrap().into_iter().map(|m| m.object).collect();
        assert_eq!(objects, [json!({"a": 1}), json!({"kind": "A"}), json!({"kind": "B"})]);
        assert_eq!(documents("x", "{\"a\":1}\n{\"a\":2}").unwrap().len(), 2);
    }

    #[test]
    fn a_text_that_begins_like_json_may_be_yaml_in_flow_style() {
        let kyaml =
            "---\n{\n  kind: \"A\", # comment\n  a: {\n    \"NO\": [\n      \"x\",\n    ],\n  },\n}\n---\n{kind: B}\n";
        let both = [json!({"kind": "A", "a": {"NO": ["x"]}}), json!({"kind": "B"})];
        assert_eq!(documents("x", kyaml).unwrap(), both);
        assert_eq!(documents("x", &kyaml[4..]).unwrap(), both);
        let folded = "{a: \"\\\n     one\\n\\\n    \\  two\\\n    \"}";
        assert_eq!(documents("x", folded).unwrap(), [json!({"a": "one\n  two"})]);
        let mixed = "{\"a\":1}\n---\n{a: 2}\n---  # next\na: 3\n";
        assert_eq!(
            documents("x", mixed).unwrap(),
            [json!({"a": 1}), json!({"a": 2}), json!({"a": 3})]
        );
        let refused = |text: &str| documents("x", text).unwrap_err().to_string();
        assert!(refused("{\"a\":1}{\"a\":2}{a: 3}").starts_with("error parsing x: json parse error: "));
        assert!(refused("{\"a\": ").starts_with("error parsing x: json parse error: "));
        assert_eq!(
            refused("a: 1\n--- b: 2\n"),
            "error parsing x: invalid Yaml document separator: b: 2"
        );
    }

    #[test]
    fn what_cannot_be_read_names_its_file() {
        let error = documents("f.yaml", "a: [").unwrap_err().to_string();
        assert!(
            error.starts_with("error parsing f.yaml: error converting YAML to JSON: yaml: "),
            "{error}"
        );
        assert_eq!(
            expand("/nope", false).unwrap_err().to_string(),
            "the path \"/nope\" does not exist"
        );
    }
}
