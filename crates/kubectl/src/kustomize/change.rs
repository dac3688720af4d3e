//! Namespaces, labels, annotations, images and counts of replicas.

use std::sync::LazyLock;

use regex::Regex;
use serde_json::{Map, Value, json};

use super::fields::{Field, at};
use super::file::{Image, Kustomization, Labels, Pairs, Replica};
use super::resource::Resource;
use super::tables;
use crate::error::{Result, fail, message};

/// Puts all that can be into a namespace.
pub fn set_namespace(resources: &mut [Resource], namespace: &str) -> Result<()> {
    for index in 0..resources.len() {
        let resource = &mut resources[index];
        resource.remember();
        let id = resource.id();
        if !id.is_cluster_scoped() {
            resource.object["metadata"]["namespace"] = json!(namespace);
        }
        if matches!(id.kind.as_str(), "RoleBinding" | "ClusterRoleBinding") {
            let subjects = resource.object["subjects"].as_array_mut();
            for subject in subjects
                .into_iter()
                .flatten()
                .filter(|subject| subject["name"] == "default")
            {
                subject["namespace"] = json!(namespace);
            }
        }
        for field in tables::namespaces().iter().filter(|field| field.is_of(&id)) {
            at(&mut resource.object, field, Some(&json!("")), &mut |value| {
                *value = json!(namespace);
                Ok(())
            })?;
        }
        let now = resources[index].id();
        let same = resources.iter().filter(|other| other.id().equals(&now)).count();
        if same != 1 {
            return fail(format!("namespace transformation produces ID conflict: {now}"));
        }
    }
    Ok(())
}

/// Adds the labels of `labels` and `commonLabels`.
pub fn add_labels(resources: &mut [Resource], file: &Kustomization) -> Result<()> {
    for labels in &file.labels {
        set_pairs(resources, &labels.pairs, &fields_of(labels))?;
    }
    match &file.common_labels {
        Some(pairs) => set_pairs(resources, pairs, &tables::all_labels()),
        None => Ok(()),
    }
}

fn fields_of(labels: &Labels) -> Vec<Field> {
    let known = match (labels.include_selectors, labels.include_templates) {
        (true, _) => tables::all_labels(),
        (false, true) => tables::template_labels(),
        (false, false) => tables::own_labels(),
    };
    labels.fields.iter().map(Field::from).chain(known).collect()
}

pub(crate) fn add_annotations(resources: &mut [Resource], pairs: &Pairs) -> Result<()> {
    set_pairs(resources, pairs, &tables::annotations())
}

fn set_pairs(resources: &mut [Resource], pairs: &Pairs, fields: &[Field]) -> Result<()> {
    let empty = Value::Object(Map::new());
    for resource in resources {
        let id = resource.id();
        for field in fields.iter().filter(|field| field.is_of(&id)) {
            at(&mut resource.object, field, Some(&empty), &mut |value| {
                if value.is_null() {
                    *value = empty.clone();
                }
                let Some(map) = value.as_object_mut() else {
                    return fail(format!(
                        "considering field '{}' of object {id}: wrong node kind",
                        field.path
                    ));
                };
                map.extend(pairs.iter().map(|(key, value)| (key.clone(), json!(value))));
                Ok(())
            })?;
        }
    }
    Ok(())
}

/// Changes the images of this name.
pub fn set_image(resources: &mut [Resource], image: &Image) -> Result<()> {
    let pattern = format!("^{}(:[a-zA-Z0-9_.{{}}-]*)?(@sha256:[a-zA-Z0-9_.{{}}-]*)?$", image.name);
    let pattern = Regex::new(&pattern).map_err(|e| message(format!("image {}: {e}", image.name)))?;
    for resource in resources {
        if resource.kind() != "CustomResourceDefinition" {
            in_containers(&mut resource.object, &mut |value| replace(value, image, &pattern));
        }
        for field in tables::images() {
            at(&mut resource.object, &field, None, &mut |value| {
                replace(value, image, &pattern);
                Ok(())
            })?;
        }
    }
    Ok(())
}

/// Calls `set` with the images in all lists called containers or initContainers, wherever they are.
fn in_containers(value: &mut Value, set: &mut dyn FnMut(&mut Value)) {
    match value {
        Value::Object(map) => {
            for (key, inner) in map {
                in_containers(inner, set);
                if matches!(key.as_str(), "containers" | "initContainers") {
                    let images = inner.as_array_mut().into_iter().flatten();
                    images
                        .filter_map(|container| container.get_mut("image"))
                        .for_each(&mut *set);
                }
            }
        }
        Value::Array(list) => list.iter_mut().for_each(|item| in_containers(item, set)),
        _ => {}
    }
}

fn replace(value: &mut Value, image: &Image, pattern: &Regex) {
    let Some(text) = value.as_str().filter(|text| pattern.is_match(text)) else {
        return;
    };
    let (mut name, mut tag, mut digest) = split(text);
    if !image.new_name.is_empty() {
        name = image.new_name.clone();
    }
    match (image.new_tag.is_empty(), image.digest.is_empty()) {
        (false, false) => (tag, digest) = (image.new_tag.clone(), image.digest.clone()),
        (false, true) => (tag, digest) = (image.new_tag.clone(), String::new()),
        (true, false) => (tag, digest) = (String::new(), image.digest.clone()),
        (true, true) if !image.tag_suffix.is_empty() => {
            tag.push_str(&image.tag_suffix);
            digest.clear();
        }
        (true, true) => {}
    }
    if !tag.is_empty() {
        name = format!("{name}:{tag}");
    }
    if !digest.is_empty() {
        name = format!("{name}@{digest}");
    }
    *value = json!(name);
}

static TAGGED: LazyLock<Option<Regex>> = LazyLock::new(|| {
    // what comes before the first slash may be a host with a port
    Regex::new(r"^(?P<name>(?:[^/]*/)?[^:@]*)(?::(?P<tag>[^@]*))?(?:@(?P<digest>.*))?$").ok()
});

/// Name, tag and digest of an image.
fn split(image: &str) -> (String, String, String) {
    let parts = TAGGED.as_ref().and_then(|pattern| pattern.captures(image));
    let part = |name: &str| parts.as_ref().and_then(|p| p.name(name)).map(|m| m.as_str().to_owned());
    match part("name") {
        Some(name) => (
            name,
            part("tag").unwrap_or_default(),
            part("digest").unwrap_or_default(),
        ),
        None => (image.to_owned(), String::new(), String::new()),
    }
}

/// Sets the count of what has this name.
pub fn set_replicas(resources: &mut [Resource], replica: &Replica) -> Result<()> {
    let mut found = false;
    for field in tables::replicas() {
        for resource in resources.iter_mut() {
            if !resource.was(|id| id.name == replica.name && field.is_of(id)) {
                continue;
            }
            found = true;
            at(&mut resource.object, &field, Some(&json!(0)), &mut |value| {
                *value = json!(replica.count);
                Ok(())
            })?;
        }
    }
    if found {
        return Ok(());
    }
    let kinds: Vec<String> = tables::replicas()
        .iter()
        .map(|field| format!("{}.[noVer].[noGrp]", field.kind))
        .collect();
    fail(format!(
        "resource with name {} does not match a config with the following GVK [{}]",
        replica.name,
        kinds.join(" ")
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_are_taken_apart_and_put_together() {
        let parts = |image: &str| {
            let (name, tag, digest) = split(image);
            [name, tag, digest].join("|")
        };
        assert_eq!(parts("nginx"), "nginx||");
        assert_eq!(parts("host:5000/a/nginx:1@sha256:x"), "host:5000/a/nginx|1|sha256:x");
        assert_eq!(parts("nginx@sha256:x"), "nginx||sha256:x");
        let changed = |from: &str, image: Image| {
            let mut pods = [Resource::new(
                json!({"kind": "Pod", "spec": {"containers": [{"image": from}]}}),
            )];
            set_image(&mut pods, &image).unwrap();
            pods[0].object["spec"]["containers"][0]["image"]
                .as_str()
                .unwrap()
                .to_owned()
        };
        let named = |name: &str| Image {
            name: name.into(),
            ..Image::default()
        };
        assert_eq!(
            changed(
                "nginx:1",
                Image {
                    new_tag: "2".into(),
                    ..named("nginx")
                }
            ),
            "nginx:2"
        );
        assert_eq!(
            changed(
                "nginx:1",
                Image {
                    new_name: "x/y".into(),
                    ..named("nginx")
                }
            ),
            "x/y:1"
        );
        assert_eq!(
            changed(
                "nginx:1",
                Image {
                    digest: "sha256:a".into(),
                    ..named("nginx")
                }
            ),
            "nginx@sha256:a"
        );
        assert_eq!(
            changed(
                "other/nginx:1",
                Image {
                    new_tag: "2".into(),
                    ..named("nginx")
                }
            ),
            "other/nginx:1"
        );
    }
}
