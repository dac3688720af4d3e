//! Every kind of `k8s.io/api` against upstream's golden files: JSON, YAML and protobuf, each from each of the others.
//! The files are in the module `k8s.io/api` of our version; `K8S_API_TESTDATA` names the directory if it is elsewhere.

use std::path::PathBuf;

use api::gvk::GroupVersionKind;
use api::schema::{Schema, envelope};
use api::version::VERSION;
use serde_json::Value;

fn directory() -> Option<PathBuf> {
    if let Some(dir) = std::env::var_os("K8S_API_TESTDATA") {
        return Some(dir.into());
    }
    let cache = std::env::var_os("GOMODCACHE").map(PathBuf::from).or_else(|| {
        let home = PathBuf::from(std::env::var_os("HOME")?);
        Some(home.join("go/pkg/mod"))
    })?;
    let staging = VERSION.trim_start_matches("v1.");
    let dir = cache.join(format!("k8s.io/api@v0.{staging}/testdata/HEAD"));
    dir.is_dir().then_some(dir)
}

fn check(schema: &Schema, dir: &std::path::Path, name: &str) -> Result<(), String> {
    let read = |ext: &str| std::fs::read(dir.join(format!("{name}.{ext}"))).map_err(|e| format!("{name}.{ext}: {e}"));
    let (json, yaml, proto) = (read("json")?, read("yaml")?, read("pb")?);
    let expected: Value = serde_json::from_slice(&json).map_err(|e| e.to_string())?;
    let text = |key: &str| expected[key].as_str().unwrap_or_default().to_owned();
    // A watch event carries neither, in JSON.
    let event = name == "core.v1.WatchEvent";
    let (api_version, kind) = (text("apiVersion"), text("kind"));
    let gvk = if event {
        GroupVersionKind::new("", "v1", "WatchEvent")
    } else {
        GroupVersionKind::from_api_version(&api_version, &kind)
    };
    let ty = schema.type_for(&gvk).ok_or_else(|| format!("no type for {gvk}"))?;

    let mut decoded = schema.decode_json(ty, &json).map_err(|e| format!("json: {e}"))?;
    if !decoded.strict_errors().is_empty() {
        return Err(format!("strict: {:?}", decoded.strict_errors()));
    }
    schema.normalize(ty, &mut decoded.value);
    if decoded.value != expected {
        return Err(format!("normalized differs:\n{}\n{expected}", decoded.value));
    }
    let mut from_yaml = schema.decode_yaml(ty, &yaml).map_err(|e| format!("yaml: {e}"))?.value;
    schema.normalize(ty, &mut from_yaml);
    if from_yaml != expected {
        return Err(format!("from YAML differs:\n{from_yaml}\n{expected}"));
    }
    let message = schema
        .encode_proto(ty, &decoded.value)
        .map_err(|e| format!("encode: {e}"))?;
    if envelope::wrap_unknown(&api_version, &kind, &message) != proto {
        let at = envelope::wrap_unknown(&api_version, &kind, &message)
            .iter()
            .zip(&proto)
            .take_while(|(a, b)| a == b)
            .count();
        let around = String::from_utf8_lossy(&proto[at.saturating_sub(60)..(at + 40).min(proto.len())]).into_owned();
        return Err(format!("protobuf differs at {at}: {around:?}"));
    }
    let unknown = envelope::unwrap_unknown(&proto)
        .ok_or("no envelope")?
        .map_err(|e| e.to_string())?;
    let mut back = schema
        .decode_proto(ty, unknown.raw)
        .map_err(|e| format!("decode: {e}"))?;
    if !event {
        back["apiVersion"] = unknown.api_version.into();
        back["kind"] = unknown.kind.into();
    }
    if back != expected {
        return Err(format!("from protobuf differs:\n{back}\n{expected}"));
    }
    Ok(())
}

#[test]
fn every_kind_round_trips_through_json_yaml_and_protobuf() {
    let dir = directory().expect("k8s.io/api is not in the module cache: tests/upstream/build.sh fetches it");
    let schema = Schema::builtin();
    let mut kinds = 0;
    let mut failures = Vec::new();
    for entry in std::fs::read_dir(&dir).unwrap() {
        let file = entry.unwrap().file_name().into_string().unwrap();
        let Some(name) = file.strip_suffix(".json") else {
            continue;
        };
        kinds += 1;
        if let Err(e) = check(schema, &dir, name) {
            failures.push(format!("{name}: {e}"));
        }
    }
    failures.sort();
    assert!(
        failures.is_empty(),
        "{} of {kinds}:\n{}",
        failures.len(),
        failures.join("\n")
    );
    assert!(kinds >= 180, "only {kinds} kinds in {}", dir.display());
}
