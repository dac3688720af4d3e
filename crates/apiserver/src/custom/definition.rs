//! A `CustomResourceDefinition` checked and turned into resources.

use std::sync::Arc;

use api::field::FieldError;
use api::schema::Schema;
use serde_json::Value;

use crate::kinds::custom;
use crate::kinds::custom::ScalePaths;
use crate::kinds::custom::rules::Rules;
use crate::registry::Registry;
use crate::registry::conversion::{Conversion, Converter};
use crate::registry::resource::{Column, Resource, SchemaRef, Subresource};

/// Where the objects of a custom resource are kept.
pub fn prefix(group: &str, plural: &str) -> String {
    format!("/registry/{group}/{plural}/")
}

fn text<'a>(tree: &'a Value, path: &str) -> &'a str {
    tree.pointer(path).and_then(Value::as_str).unwrap_or_default()
}

fn strings(tree: &Value, path: &str) -> Vec<String> {
    let list = tree.pointer(path).and_then(Value::as_array).into_iter().flatten();
    list.filter_map(|v| v.as_str().map(Into::into)).collect()
}

/// The served versions of a definition. What is compiled of its generation already is taken from what the registry serves.
pub fn compile(tree: &Value, registry: &Arc<Registry>) -> Result<Vec<Resource>, Vec<FieldError>> {
    let catalog = registry.catalog();
    let group = text(tree, "/spec/group");
    let plural = text(tree, "/spec/names/plural");
    let versions = tree
        .pointer("/spec/versions")
        .and_then(Value::as_array)
        .cloned()
        .unwrap_or_default();
    let stored = versions
        .iter()
        .find(|v| v["storage"] == true)
        .and_then(|v| v["name"].as_str())
        .unwrap_or_default();
    let stored_as = api::gvk::join_api_version(group, stored);
    let generation = tree
        .pointer("/metadata/generation")
        .and_then(Value::as_i64)
        .unwrap_or(0);
    let schema_of = |version: &Value| {
        version
            .pointer("/schema/openAPIV3Schema")
            .filter(|s| s.is_object())
            .cloned()
    };
    let stored_version = versions.iter().find(|v| v["storage"] == true);
    let stored_openapi = stored_version.and_then(schema_of);
    let stored_schema = stored_openapi.as_ref().map(Schema::from_crd);
    let stored_schema = stored_schema.map(|(schema, root)| (Arc::new(schema), root));
    let conversion = match text(tree, "/spec/conversion/strategy") {
        "Webhook" => {
            let webhook = tree.pointer("/spec/conversion/webhook").unwrap_or(&Value::Null);
            Conversion::Webhook(Arc::new(Converter::read(webhook, registry)))
        }
        _ => Conversion::Rename,
    };
    let mut kept: Vec<String> = Vec::new();
    for field in stored_version.into_iter().chain(&versions).flat_map(selectable) {
        if !kept.contains(&field) {
            kept.push(field);
        }
    }
    let mut resources = Vec::new();
    for (i, version) in versions.iter().enumerate() {
        let at = format!("spec.versions[{i}].schema.openAPIV3Schema");
        let Some(openapi) = version.pointer("/schema/openAPIV3Schema").filter(|s| s.is_object()) else {
            return Err(vec![FieldError::required(at, "schemas are required")]);
        };
        let (schema, root) = Schema::from_crd(openapi);
        if version["served"] != true {
            continue;
        }
        let api_version = version["name"].as_str().unwrap_or_default();
        let served = catalog.find(group, api_version, plural).map(|served| &served.resource);
        let validations = match served.filter(|served| served.generation == generation) {
            Some(served) => served.validations.clone(),
            None => Rules::compile(openapi, true, &registry.metrics.expressions).map(Arc::new),
        };
        resources.push(Resource {
            group: group.into(),
            version: api_version.into(),
            kind: text(tree, "/spec/names/kind").into(),
            list_kind: text(tree, "/spec/names/listKind").into(),
            plural: plural.into(),
            singular: text(tree, "/spec/names/singular").into(),
            short_names: strings(tree, "/spec/names/shortNames"),
            categories: strings(tree, "/spec/names/categories"),
            namespaced: text(tree, "/spec/scope") == "Namespaced",
            verbs: [
                "delete",
                "deletecollection",
                "get",
                "list",
                "patch",
                "create",
                "update",
                "watch",
            ]
            .map(Into::into)
            .into(),
            subresources: subresources(tree, version, group, api_version),
            prefix: prefix(group, plural),
            selectable: selectable(version),
            selectable_stored: kept.clone(),
            schema: SchemaRef::Custom(Arc::new(schema)),
            root,
            rules: match version.pointer("/subresources/status").is_some_and(|s| !s.is_null()) {
                true => &custom::WITH_STATUS,
                false => &custom::PLAIN,
            },
            switched_off: Vec::new(),
            columns: Some(columns(version)),
            scale: scale(version),
            validations,
            stored_as: stored_as.clone(),
            // versions with one schema differ in nothing but their name
            stored_schema: stored_schema
                .clone()
                .filter(|_| stored_openapi.as_ref() != Some(openapi)),
            deprecation: custom::deprecated(version, &tree["spec"]),
            conversion: conversion.clone(),
            generation,
        });
    }
    Ok(resources)
}

fn subresources(tree: &Value, version: &Value, group: &str, name: &str) -> Vec<Subresource> {
    let verbs = || vec!["get".to_owned(), "patch".to_owned(), "update".to_owned()];
    let mut all = Vec::new();
    if version.pointer("/subresources/status").is_some_and(|s| !s.is_null()) {
        let kind = text(tree, "/spec/names/kind").into();
        all.push(Subresource {
            name: "status".into(),
            kind,
            group: group.into(),
            version: name.into(),
            verbs: verbs(),
        });
    }
    if scale(version).is_some() {
        all.push(Subresource {
            name: "scale".into(),
            kind: "Scale".into(),
            group: "autoscaling".into(),
            version: "v1".into(),
            verbs: verbs(),
        });
    }
    all
}

fn dotted(path: &str) -> String {
    path.trim_start_matches('.').to_owned()
}

fn selectable(version: &Value) -> Vec<String> {
    let list = version
        .get("selectableFields")
        .and_then(Value::as_array)
        .into_iter()
        .flatten();
    list.map(|f| dotted(text(f, "/jsonPath"))).collect()
}

fn scale(version: &Value) -> Option<ScalePaths> {
    let scale = version.pointer("/subresources/scale").filter(|s| s.is_object())?;
    Some(ScalePaths {
        spec_replicas: dotted(text(scale, "/specReplicasPath")),
        status_replicas: dotted(text(scale, "/statusReplicasPath")),
        label_selector: Some(dotted(text(scale, "/labelSelectorPath"))).filter(|p| !p.is_empty()),
    })
}

fn columns(version: &Value) -> Vec<Column> {
    let list = version
        .get("additionalPrinterColumns")
        .and_then(Value::as_array)
        .into_iter()
        .flatten();
    list.map(|c| Column {
        name: text(c, "/name").into(),
        kind: text(c, "/type").into(),
        format: text(c, "/format").into(),
        description: text(c, "/description").into(),
        priority: c["priority"].as_i64().and_then(|p| i32::try_from(p).ok()).unwrap_or(0),
        json_path: text(c, "/jsonPath").into(),
    })
    .collect()
}
