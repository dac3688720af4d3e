//! A `CustomResourceDefinition` checked and turned into resources.

use std::sync::Arc;

use api::field::FieldError;
use api::schema::{Schema, TypeId};
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

/// What the versions of a definition share.
struct Shared<'t> {
    tree: &'t Value,
    group: &'t str,
    plural: &'t str,
    generation: i64,
    /// The version in which objects are stored.
    stored_as: String,
    /// Its schema, as it is written and as it is compiled.
    stored_openapi: Option<Value>,
    stored_schema: Option<(Arc<Schema>, TypeId)>,
    conversion: Conversion,
    /// The fields that a version selects by.
    selectable: Vec<String>,
}

impl<'t> Shared<'t> {
    fn of(tree: &'t Value, versions: &[Value], registry: &Arc<Registry>) -> Shared<'t> {
        let group = text(tree, "/spec/group");
        let stored = versions.iter().find(|v| v["storage"] == true);
        let stored_name = stored.and_then(|v| v["name"].as_str()).unwrap_or_default();
        let stored_openapi = stored.and_then(openapi_of).cloned();
        let stored_schema = stored_openapi.as_ref().map(Schema::from_crd);
        let mut selected: Vec<String> = Vec::new();
        for field in stored.into_iter().chain(versions).flat_map(selectable) {
            if !selected.contains(&field) {
                selected.push(field);
            }
        }
        Shared {
            tree,
            group,
            plural: text(tree, "/spec/names/plural"),
            generation: tree
                .pointer("/metadata/generation")
                .and_then(Value::as_i64)
                .unwrap_or(0),
            stored_as: api::gvk::join_api_version(group, stored_name),
            stored_schema: stored_schema.map(|(schema, root)| (Arc::new(schema), root)),
            stored_openapi,
            conversion: match text(tree, "/spec/conversion/strategy") {
                "Webhook" => {
                    let webhook = tree.pointer("/spec/conversion/webhook").unwrap_or(&Value::Null);
                    Conversion::Webhook(Arc::new(Converter::read(webhook, registry)))
                }
                _ => Conversion::Rename,
            },
            selectable: selected,
        }
    }
}

fn openapi_of(version: &Value) -> Option<&Value> {
    let schema = version.pointer("/schema/openAPIV3Schema");
    schema.filter(|schema| schema.is_object())
}

/// The served versions of a definition. What is compiled of its generation already is taken from what the registry serves.
pub fn compile(tree: &Value, registry: &Arc<Registry>) -> Result<Vec<Resource>, Vec<FieldError>> {
    let catalog = registry.catalog();
    let versions = tree.pointer("/spec/versions").and_then(Value::as_array);
    let versions = versions.map(Vec::as_slice).unwrap_or_default();
    let shared = Shared::of(tree, versions, registry);
    let mut resources = Vec::new();
    for (i, version) in versions.iter().enumerate() {
        let Some(openapi) = openapi_of(version) else {
            let at = format!("spec.versions[{i}].schema.openAPIV3Schema");
            return Err(vec![FieldError::required(at, "schemas are required")]);
        };
        if version["served"] != true {
            continue;
        }
        let name = text(version, "/name");
        let served = catalog.find(shared.group, name, shared.plural);
        let served = served.map(|served| &served.resource);
        let validations = match served.filter(|served| served.generation == shared.generation) {
            Some(served) => served.validations.clone(),
            None => Rules::compile(openapi, true, &registry.metrics.expressions).map(Arc::new),
        };
        resources.push(shared.resource(version, openapi, validations));
    }
    Ok(resources)
}

impl Shared<'_> {
    /// A version as it is served.
    fn resource(&self, version: &Value, openapi: &Value, validations: Option<Arc<Rules>>) -> Resource {
        let (tree, group, plural) = (self.tree, self.group, self.plural);
        let name = text(version, "/name");
        let (schema, root) = Schema::from_crd(openapi);
        Resource {
            group: group.into(),
            version: name.into(),
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
            subresources: subresources(tree, version, group, name),
            prefix: prefix(group, plural),
            selectable: selectable(version),
            selectable_stored: self.selectable.clone(),
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
            stored_as: self.stored_as.clone(),
            // versions with one schema differ in nothing but their name
            stored_schema: self
                .stored_schema
                .clone()
                .filter(|_| self.stored_openapi.as_ref() != Some(openapi)),
            deprecation: custom::deprecated(version, &tree["spec"]),
            conversion: self.conversion.clone(),
            generation: self.generation,
        }
    }
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
