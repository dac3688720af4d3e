//! `create configmap` and `create secret`: data from literals and files.

use std::collections::BTreeMap;
use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};

use super::{Common, Draft, name_of};
use crate::error::{Result, fail, message};
use crate::print::go::{self, quote};
use crate::session::Session;

/// Create a config map from a local file, directory or literal value
#[derive(Debug, clap::Args)]
pub struct ConfigMap {
    names: Vec<String>,
    #[command(flatten)]
    sources: Sources,
    #[command(flatten)]
    pub common: Common,
    /// Append a hash of the object to its name
    #[arg(long)]
    append_hash: bool,
}

/// Create a secret using a specified subcommand
#[derive(Debug, clap::Args)]
pub struct Secret {
    #[command(subcommand)]
    sub: SecretSub,
}

#[derive(Debug, clap::Subcommand)]
enum SecretSub {
    Generic(Generic),
    Tls(Tls),
    DockerRegistry(DockerRegistry),
}

/// Create a secret from a local file, directory, or literal value
#[derive(Debug, clap::Args)]
struct Generic {
    names: Vec<String>,
    #[command(flatten)]
    sources: Sources,
    /// The type of secret to create
    #[arg(long = "type", default_value = "", hide_default_value = true)]
    of_type: String,
    #[command(flatten)]
    common: Common,
    /// Append a hash of the object to its name
    #[arg(long)]
    append_hash: bool,
}

/// Create a TLS secret
#[derive(Debug, clap::Args)]
struct Tls {
    names: Vec<String>,
    /// Path to PEM encoded public key certificate
    #[arg(long, default_value = "", hide_default_value = true)]
    cert: String,
    /// Path to private key associated with given certificate
    #[arg(long, default_value = "", hide_default_value = true)]
    key: String,
    #[command(flatten)]
    common: Common,
    /// Append a hash of the object to its name
    #[arg(long)]
    append_hash: bool,
}

/// Create a secret for use with a Docker registry
#[derive(Debug, clap::Args)]
struct DockerRegistry {
    names: Vec<String>,
    #[arg(long, default_value = "", hide_default_value = true)]
    docker_username: String,
    #[arg(long, default_value = "", hide_default_value = true)]
    docker_password: String,
    #[arg(long, default_value = "", hide_default_value = true)]
    docker_email: String,
    #[arg(long, default_value = "https://index.docker.io/v1/", hide_default_value = true)]
    docker_server: String,
    /// Key files can be specified using their file path, in which case a default name of .dockerconfigjson will be given to them
    #[arg(long, value_delimiter = ',')]
    from_file: Vec<String>,
    #[command(flatten)]
    common: Common,
    /// Append a hash of the object to its name
    #[arg(long)]
    append_hash: bool,
}

/// The type of a secret for registries, and its one key.
const DOCKER_TYPE: &str = "kubernetes.io/dockerconfigjson";
const DOCKER_KEY: &str = ".dockerconfigjson";

#[derive(Debug, Clone, clap::Args)]
struct Sources {
    /// Key files can be specified using their file path, with a name of their own as key=path
    #[arg(long, value_delimiter = ',')]
    from_file: Vec<String>,
    /// Specify a key and literal value
    #[arg(long)]
    from_literal: Vec<String>,
    /// Specify the path to a file to read lines of key=val pairs
    #[arg(long, value_delimiter = ',')]
    from_env_file: Vec<String>,
}

/// Keys with their bytes, each key once.
struct Data {
    kind: &'static str,
    name: String,
    entries: BTreeMap<String, Vec<u8>>,
}

impl Data {
    fn add(&mut self, key: &str, value: Vec<u8>) -> Result<()> {
        let wrong = api::names::config_map_key_errors(key);
        let secret = self.kind == "Secret";
        if !wrong.is_empty() {
            return match secret {
                true => fail(format!(
                    "{} is not valid key name for a Secret {}",
                    quote(key),
                    wrong.join(";")
                )),
                false => fail(format!(
                    "{} is not a valid key name for a ConfigMap: {}",
                    quote(key),
                    wrong.join(",")
                )),
            };
        }
        if let Some(before) = self.entries.get(key) {
            if secret {
                return fail(format!("cannot add key {key}, another key by that name already exists"));
            }
            let part = if std::str::from_utf8(before).is_ok() {
                "Data"
            } else {
                "BinaryData"
            };
            return fail(format!(
                "cannot add key {}, another key by that name already exists in {part} for ConfigMap {}",
                quote(key),
                quote(&self.name)
            ));
        }
        self.entries.insert(key.to_owned(), value);
        Ok(())
    }

    fn read(kind: &'static str, name: &str, sources: &Sources) -> Result<Data> {
        let mut data = Data {
            kind,
            name: name.to_owned(),
            entries: BTreeMap::new(),
        };
        let others = !sources.from_file.is_empty() || !sources.from_literal.is_empty();
        if others && !sources.from_env_file.is_empty() {
            return fail("from-env-file cannot be combined with from-file or from-literal");
        }
        for source in &sources.from_file {
            data.file(source)?;
        }
        for source in &sources.from_literal {
            match source.split_once('=') {
                Some((key, value)) if !key.is_empty() => data.add(key, value.as_bytes().to_vec())?,
                _ => return fail(format!("invalid literal source {source}, expected key=value")),
            }
        }
        for path in &sources.from_env_file {
            data.env_file(path)?;
        }
        Ok(data)
    }

    fn file(&mut self, source: &str) -> Result<()> {
        let (key, path) = match source.split('=').collect::<Vec<_>>()[..] {
            [path] => (None, path),
            ["", path] => return fail(format!("key name for file path {path} missing")),
            [key, ""] => return fail(format!("file path for key name {key} missing")),
            [key, path] => (Some(key), path),
            _ => return fail("key names or file paths cannot contain '='"),
        };
        let meta =
            std::fs::metadata(path).map_err(|e| message(format!("error reading {path}: {}", go::io_error(&e))))?;
        if !meta.is_dir() {
            let own = Path::new(path)
                .file_name()
                .map(|n| n.to_string_lossy().into_owned())
                .unwrap_or_default();
            return self.add(key.unwrap_or(&own), std::fs::read(path)?);
        }
        if key.is_some() {
            return fail("cannot give a key name for a directory path");
        }
        let mut entries: Vec<_> = std::fs::read_dir(path)?.collect::<std::io::Result<_>>()?;
        entries.sort_by_key(std::fs::DirEntry::file_name);
        for entry in entries.into_iter().filter(|e| e.file_type().is_ok_and(|t| t.is_file())) {
            self.add(&entry.file_name().to_string_lossy(), std::fs::read(entry.path())?)?;
        }
        Ok(())
    }

    fn env_file(&mut self, path: &str) -> Result<()> {
        let meta =
            std::fs::metadata(path).map_err(|e| message(format!("error reading {path}: {}", go::io_error(&e))))?;
        if meta.is_dir() {
            let what = if self.kind == "Secret" { "secret" } else { "config" };
            return fail(format!("env {what} file cannot be a directory"));
        }
        for line in std::fs::read_to_string(path)?.lines() {
            let line = line.trim_start();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            match line.split_once('=') {
                Some((key, value)) => self.add(key, value.as_bytes().to_vec())?,
                // A name alone takes the value of our own environment.
                None => match std::env::var(line) {
                    Ok(value) => self.add(line, value.into_bytes())?,
                    Err(_) => self.add(line, Vec::new())?,
                },
            }
        }
        Ok(())
    }

    fn encoded(&self) -> Map<String, Value> {
        self.entries
            .iter()
            .map(|(k, v)| (k.clone(), json!(STANDARD.encode(v))))
            .collect()
    }
}

/// Gives an object a name that says what is in it.
fn with_hash(object: &mut Value) -> Result<()> {
    let name = object["metadata"]["name"].as_str().unwrap_or_default().to_owned();
    let hash = crate::kustomize::hash(object, &name)?;
    object["metadata"]["name"] = json!(format!("{name}-{hash}"));
    Ok(())
}

impl ConfigMap {
    pub(crate) fn draft(&self, session: &Session) -> Result<Draft> {
        let name = name_of(session, &self.names)?;
        let data = Data::read("ConfigMap", name, &self.sources)?;
        let mut object = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}});
        let (mut text, mut binary) = (Map::new(), Map::new());
        for (key, value) in data.entries {
            match String::from_utf8(value) {
                Ok(value) => text.insert(key, json!(value)),
                Err(e) => binary.insert(key, json!(STANDARD.encode(e.into_bytes()))),
            };
        }
        if !text.is_empty() {
            object["data"] = Value::Object(text);
        }
        if !binary.is_empty() {
            object["binaryData"] = Value::Object(binary);
        }
        if self.append_hash {
            with_hash(&mut object)?;
        }
        Ok(Draft {
            object,
            plural: "configmaps",
            namespaced: true,
            called: "configmap".to_owned(),
        })
    }
}

impl Secret {
    pub(crate) fn draft(&self, session: &Session) -> Result<(Draft, &Common)> {
        let secret = |name: &str, of_type: &str, data: Map<String, Value>, hashed: bool| -> Result<Draft> {
            let mut object = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}});
            if !data.is_empty() {
                object["data"] = Value::Object(data);
            }
            if !of_type.is_empty() {
                object["type"] = json!(of_type);
            }
            if hashed {
                with_hash(&mut object)?;
            }
            Ok(Draft {
                object,
                plural: "secrets",
                namespaced: true,
                called: "secret".to_owned(),
            })
        };
        match &self.sub {
            SecretSub::Generic(args) => {
                let name = name_of(session, &args.names)?;
                let data = Data::read("Secret", name, &args.sources)?;
                Ok((
                    secret(name, &args.of_type, data.encoded(), args.append_hash)?,
                    &args.common,
                ))
            }
            SecretSub::Tls(args) => {
                let name = name_of(session, &args.names)?;
                if args.key.is_empty() || args.cert.is_empty() {
                    return fail("key and cert must be specified");
                }
                let mut data = Map::new();
                for (key, path) in [("tls.crt", &args.cert), ("tls.key", &args.key)] {
                    let bytes = std::fs::read(path)
                        .map_err(|e| message(format!("Cannot read file {path}, open {path}: {}", go::io_error(&e))))?;
                    data.insert(key.to_owned(), json!(STANDARD.encode(bytes)));
                }
                Ok((secret(name, "kubernetes.io/tls", data, args.append_hash)?, &args.common))
            }
            SecretSub::DockerRegistry(args) => {
                let name = name_of(session, &args.names)?;
                if !args.from_file.is_empty() {
                    let named = |source: &String| match source.contains('=') {
                        true => source.clone(),
                        false => format!("{DOCKER_KEY}={source}"),
                    };
                    let sources = Sources {
                        from_file: args.from_file.iter().map(named).collect(),
                        from_literal: Vec::new(),
                        from_env_file: Vec::new(),
                    };
                    let data = Data::read("Secret", name, &sources)?.encoded();
                    return Ok((secret(name, DOCKER_TYPE, data, args.append_hash)?, &args.common));
                }
                if args.docker_username.is_empty() || args.docker_password.is_empty() || args.docker_server.is_empty() {
                    return fail(
                        "either --from-file or the combination of --docker-username, --docker-password and --docker-server is required",
                    );
                }
                let login = STANDARD.encode(format!("{}:{}", args.docker_username, args.docker_password));
                // In the order of Go's struct, so that the bytes are the same.
                let text = |value: &str| go::json(&json!(value), None);
                let email = match args.docker_email.as_str() {
                    "" => String::new(),
                    email => format!("\"email\":{},", text(email)),
                };
                let config = format!(
                    "{{\"auths\":{{{}:{{\"username\":{},\"password\":{},{email}\"auth\":{}}}}}}}",
                    text(&args.docker_server),
                    text(&args.docker_username),
                    text(&args.docker_password),
                    text(&login)
                );
                let mut data = Map::new();
                data.insert(DOCKER_KEY.to_owned(), json!(STANDARD.encode(config)));
                Ok((secret(name, DOCKER_TYPE, data, args.append_hash)?, &args.common))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_may_say_what_is_in_the_object() {
        let mut object = json!({"kind": "ConfigMap", "metadata": {"name": "c1"}, "data": {"a": "b"}});
        with_hash(&mut object).unwrap();
        // what upstream's calls it
        assert_eq!(object["metadata"]["name"], "c1-522f9g5kh5");
    }
}
