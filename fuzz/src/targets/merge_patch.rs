//! JSON merge patches, on an object of a built-in kind.

use api::gvk::GroupVersionKind;
use apiserver::pipeline::patch::{Patch, PatchKind};
use apiserver::registry::resource::Resource;
use apiserver::server::decode::{decode_tree, foreign};
use serde_json::Value;

use crate::{Form, Target};

pub const TARGET: Target = Target::new("merge_patch", Form::Trees, check);

fn check(input: &[u8]) {
    let Some((patch, once)) = patched(input, |body| Patch::parse(PatchKind::Merge, body).ok()) else {
        return;
    };
    let Some(resource) = resource_of(&once) else { return };
    let twice = patch
        .apply(&resource, &once)
        .unwrap_or_else(|error| panic!("{error:?}: {once}"));
    assert_eq!(once, twice, "merging twice is once");
}

pub fn resource_of(tree: &Value) -> Option<Resource> {
    let text = |key: &str| tree.get(key).and_then(Value::as_str).unwrap_or_default();
    Resource::of_body(&GroupVersionKind::from_api_version(text("apiVersion"), text("kind")))
}

/// Applies the second part of an input as a patch to the first, and returns what became of it.
pub fn patched(input: &[u8], parse: impl Fn(&[u8]) -> Option<(Patch, Vec<String>)>) -> Option<(Patch, Value)> {
    let mut parts = input.splitn(2, |byte| *byte == 0);
    let tree: Value = serde_json::from_slice(parts.next()?).ok()?;
    let resource = resource_of(&tree)?;
    let (patch, _) = parse(parts.next()?)?;
    let changed = patch.apply(&resource, &tree).ok()?;
    foreign(&resource, &changed);
    match decode_tree(&resource, changed.clone(), patch.voice()) {
        Ok(decoded) => drop(decoded.strict_errors()),
        Err(why) => drop(patch.unfit(&resource, &tree, &changed, &why.to_string())),
    }
    Some((patch, changed))
}
