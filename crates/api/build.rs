//! Packs what OpenAPI and `explain` say about the built-in kinds: taken from the sources of the crate k8s-openapi, as cargo
//! has them, into one compressed file. `src/prose.rs` unpacks it.

use std::collections::{BTreeMap, HashMap};
use std::error::Error;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

/// Texts of one type by field; its own under the empty name.
type Texts = BTreeMap<String, String>;

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=../../Cargo.lock");
    let sources = sources()?.join("src/v1_37");
    let mut types = BTreeMap::new();
    read(&sources, &mut types)?;
    if types.len() < 500 {
        return Err(format!("{}: only {} types have texts", sources.display(), types.len()).into());
    }
    let out = PathBuf::from(env::var_os("OUT_DIR").ok_or("OUT_DIR is not set")?).join("prose.z");
    let mut packed = flate2::write::ZlibEncoder::new(fs::File::create(out)?, flate2::Compression::best());
    packed.write_all(&lay_out(&types))?;
    packed.finish()?;
    Ok(())
}

/// Where cargo keeps the sources of k8s-openapi, in its registry or vendored.
fn sources() -> Result<PathBuf, Box<dyn Error>> {
    let cargo = env::var_os("CARGO").ok_or("CARGO is not set")?;
    let output = Command::new(cargo)
        .args(["metadata", "--format-version=1", "--locked"])
        .output()?;
    if !output.status.success() {
        return Err(format!("cargo metadata: {}", String::from_utf8_lossy(&output.stderr)).into());
    }
    let metadata = String::from_utf8(output.stdout)?;
    let paths = metadata
        .split("\"manifest_path\":\"")
        .filter_map(|rest| rest.split_once('"'));
    let mut dirs = paths.filter_map(|(path, _)| Path::new(path).parent());
    let is_it = |dir: &&Path| {
        let name = dir.file_name().and_then(|n| n.to_str()).unwrap_or_default();
        let version = name.strip_prefix("k8s-openapi").map(|v| v.trim_start_matches('-'));
        version.is_some_and(|v| v.bytes().all(|c| c == b'.' || c.is_ascii_digit()))
    };
    let found = dirs.find(is_it).ok_or("cargo metadata does not name k8s-openapi")?;
    Ok(found.to_owned())
}

fn read(dir: &Path, types: &mut BTreeMap<String, Texts>) -> Result<(), Box<dyn Error>> {
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        if path.is_dir() {
            read(&path, types)?;
            continue;
        }
        let source = fs::read_to_string(&path)?;
        let Some(rest) = source.strip_prefix("// Generated from definition ") else {
            continue;
        };
        let name = rest.lines().next().unwrap_or_default().to_owned();
        if let Some((_, schema)) = rest.split_once("fn json_schema(") {
            types.insert(name, texts(schema));
        }
    }
    Ok(())
}

/// The descriptions in the schema of a type as k8s-openapi writes it, one member a line: those of the type are indented by
/// 12, the names of fields by 16, what belongs to a field by more.
fn texts(schema: &str) -> Texts {
    let mut found = Texts::new();
    let mut field = String::new();
    for line in schema.lines() {
        let text = line.trim_start();
        let indent = line.len() - text.len();
        if indent == 12 {
            field.clear();
        } else if indent == 16
            && let Some((name, _)) = text.strip_prefix('"').and_then(|t| t.split_once("\":"))
        {
            field = name.to_owned();
        }
        let literal = text
            .strip_prefix("\"description\": ")
            .or_else(|| Some(text.split_once("\"description\".into(), ")?.1));
        // what stands deeper belongs to a part of the field without a name of its own
        if let Some(text) = literal.and_then(unquote).filter(|_| indent <= 20) {
            found.entry(field.clone()).or_insert(text);
        }
    }
    found
}

/// The value of the Rust string literal that `source` begins with.
fn unquote(source: &str) -> Option<String> {
    let mut chars = source.strip_prefix('"')?.chars();
    let mut text = String::new();
    loop {
        match chars.next()? {
            '"' => return Some(text),
            '\\' => match chars.next()? {
                'n' => text.push('\n'),
                't' => text.push('\t'),
                'u' => {
                    let code: String = chars.by_ref().skip(1).take_while(|c| *c != '}').collect();
                    text.push(char::from_u32(u32::from_str_radix(&code, 16).ok()?)?);
                }
                other => text.push(other),
            },
            other => text.push(other),
        }
    }
}

/// A line `name=text` a type, a line ` field=text` a field, where `text` is a number; an empty line; the texts, each once,
/// each with a zero byte behind it.
fn lay_out(types: &BTreeMap<String, Texts>) -> Vec<u8> {
    let mut numbers: HashMap<&str, usize> = HashMap::new();
    let mut all = String::new();
    let mut out = String::new();
    for (name, texts) in types {
        // the type comes first: its own name is the empty one
        let own = std::iter::once(("", texts.get("").map_or("", String::as_str)));
        let fields = texts.iter().filter(|(f, _)| !f.is_empty());
        for (field, text) in own.chain(fields.map(|(f, t)| (f.as_str(), t.as_str()))) {
            let next = numbers.len();
            let number = *numbers.entry(text).or_insert_with(|| {
                all.push_str(text);
                all.push('\0');
                next
            });
            let key = if field.is_empty() {
                name.clone()
            } else {
                format!(" {field}")
            };
            out.push_str(&format!("{key}={number}\n"));
        }
    }
    out.push('\n');
    out.push_str(&all);
    out.into_bytes()
}
