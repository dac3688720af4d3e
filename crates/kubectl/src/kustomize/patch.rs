//! Patches of a kustomization: strategic merges and lists of JSON operations, each for one object or for those that a selector chooses.

use std::path::Path;

use api::selectors::LabelSelector;
use regex::Regex;
use serde_json::Value;

use super::file::{Patch, PatchOptions, Selector};
use super::merge::merge;
use super::resource::{Id, Resource};
use super::target::{documents, load};
use crate::error::{Result, fail, message};
use crate::print::go::quote;

/// Applies `patchesStrategicMerge`: each is a file, or a patch itself.
pub fn strategic(resources: &mut Vec<Resource>, dir: &Path, patches: &[String]) -> Result<()> {
    for text in patches {
        let inline = text.contains('\n');
        let text = if inline { text.clone() } else { load(dir, text)? };
        for patch in documents("patch", &text)? {
            apply_to_named(resources, &Resource::new(patch), PatchOptions::default())?;
        }
    }
    Ok(())
}

/// Applies one of `patches` or `patchesJson6902`.
pub fn apply(resources: &mut Vec<Resource>, dir: &Path, patch: &Patch) -> Result<()> {
    let inline = patch.patch.trim();
    let (text, source) = match (inline.is_empty(), patch.path.is_empty()) {
        (true, true) => return fail("must specify one of patch and path"),
        (false, false) => return fail("patch and path can't be set at the same time"),
        (false, true) => (inline.to_owned(), format!("[patch: {}]", quote(inline))),
        (true, false) => {
            let text = load(dir, &patch.path)
                .map_err(|e| message(format!("failed to get the patch file from path({}): {e}", patch.path)))?;
            (text, format!("[path: {}]", quote(&patch.path)))
        }
    };
    let tree: Value = serde_saphyr::from_str(&text).unwrap_or(Value::Null);
    if tree.is_array() {
        return operations(resources, patch.target.as_ref(), tree, &source);
    }
    let patches =
        documents("patch", &text).map_err(|_| message(format!("unable to parse SM or JSON patch from {source}")))?;
    if patches.is_empty() {
        return fail(format!("unable to parse SM or JSON patch from {source}"));
    }
    let Some(target) = &patch.target else {
        return patches
            .into_iter()
            .try_for_each(|tree| apply_to_named(resources, &Resource::new(tree), patch.options));
    };
    let [tree] = patches.as_slice() else {
        return fail(format!(
            "Multiple Strategic-Merge Patches in one `patches` entry is not allowed to set `patches.target` field: {source}"
        ));
    };
    for index in selected(resources, target)? {
        let mut tree = tree.clone();
        // it is for whatever kind was chosen
        tree["apiVersion"] = resources[index].object["apiVersion"].clone();
        merge_into(&mut resources[index], &tree, patch.options);
    }
    resources.retain(|resource| !resource.object.is_null());
    Ok(())
}

/// Merges a patch into the object that it names.
fn apply_to_named(resources: &mut Vec<Resource>, patch: &Resource, options: PatchOptions) -> Result<()> {
    let id = patch.id();
    let found: Vec<usize> = (0..resources.len())
        .filter(|at| resources[*at].was(|other| other.equals(&id)))
        .collect();
    let index = match found.as_slice() {
        [one] => *one,
        [] => return unmatched(&id, "no matches"),
        _ => return unmatched(&id, "multiple matches"),
    };
    merge_into(&mut resources[index], &patch.object, options);
    resources.retain(|resource| !resource.object.is_null());
    Ok(())
}

fn unmatched(id: &Id, why: &str) -> Result<()> {
    fail(format!(
        "no resource matches strategic merge patch \"{id}\": {why} for Id {id}; failed to find unique target for patch {id}"
    ))
}

/// An object that its patch deletes is null afterwards.
fn merge_into(resource: &mut Resource, patch: &Value, options: PatchOptions) {
    if options.allow_name_change || options.allow_kind_change {
        resource.remember();
    }
    let before = resource.object.clone();
    let Some(mut merged) = merge(&before, patch) else {
        resource.object = Value::Null;
        return;
    };
    if !options.allow_kind_change {
        merged["kind"] = before["kind"].clone();
    }
    if !options.allow_name_change {
        merged["metadata"]["name"] = before["metadata"]["name"].clone();
    }
    match before["metadata"].get("namespace") {
        Some(namespace) => merged["metadata"]["namespace"] = namespace.clone(),
        None => {
            if let Some(metadata) = merged["metadata"].as_object_mut() {
                metadata.remove("namespace");
            }
        }
    }
    resource.object = merged;
}

fn operations(resources: &mut [Resource], target: Option<&Selector>, tree: Value, source: &str) -> Result<()> {
    let Some(target) = target else {
        return fail(format!("must specify a target for JSON patch {source}"));
    };
    let patch: json_patch::Patch =
        serde_json::from_value(tree).map_err(|_| message(format!("unable to parse SM or JSON patch from {source}")))?;
    for index in selected(resources, target)? {
        resources[index].remember();
        json_patch::patch(&mut resources[index].object, &patch).map_err(|e| message(e.to_string()))?;
    }
    Ok(())
}

/// The places of the objects that a selector chooses, by their first name or the one they have now.
fn selected(resources: &[Resource], selector: &Selector) -> Result<Vec<usize>> {
    let whole = |pattern: &str| {
        let pattern = if pattern.is_empty() {
            String::new()
        } else {
            format!("^(?:{pattern})$")
        };
        Regex::new(&pattern).map_err(|e| message(e.to_string()))
    };
    let [group, version, kind, name, namespace] = [
        &selector.group,
        &selector.version,
        &selector.kind,
        &selector.name,
        &selector.namespace,
    ]
    .map(|text| whole(text));
    let (group, version, kind, name, namespace) = (group?, version?, kind?, name?, namespace?);
    let labels = |text: &str| LabelSelector::parse(text).map_err(|e| message(e.to_string()));
    let (by_label, by_annotation) = (
        labels(&selector.label_selector)?,
        labels(&selector.annotation_selector)?,
    );
    let mut found = Vec::new();
    for (index, resource) in resources.iter().enumerate() {
        let (now, first) = (resource.id(), resource.original());
        let metadata = &resource.object["metadata"];
        let is = (namespace.is_match(first.effective_namespace()) || namespace.is_match(now.effective_namespace()))
            && (name.is_match(&first.name) || name.is_match(&now.name))
            && group.is_match(&now.group)
            && version.is_match(&now.version)
            && kind.is_match(&now.kind)
            && by_label.matches(|key| metadata["labels"][key].as_str())
            && by_annotation.matches(|key| metadata["annotations"][key].as_str());
        if is {
            found.push(index);
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn ids_are_written_as_kustomize_writes_them() {
        let object = json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "a"}});
        assert_eq!(Resource::new(object).id().to_string(), "Deployment.v1.apps/a.[noNs]");
    }
}
