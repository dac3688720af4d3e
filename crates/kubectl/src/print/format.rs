//! `-o`: the formats that objects can be printed in.

use api::gvk::GroupVersionKind;
use api::schema::Schema;
use serde_json::{Value, json};

use super::columns::CustomColumns;
use super::{go, kyaml, yaml};
use crate::error::{Result, fail, message};
use crate::flags::Output;
use crate::jsonpath::JsonPath;
use crate::template::{Failed, Template};

const ALLOWED: &str = "custom-columns,custom-columns-file,go-template,go-template-file,json,jsonpath,jsonpath-as-json,jsonpath-file,kyaml,name,template,templatefile,wide,yaml";
const ALLOWED_FOR_CHANGES: &str =
    "go-template,go-template-file,json,jsonpath,jsonpath-as-json,jsonpath-file,kyaml,name,template,templatefile,yaml";

/// One of the formats, ready to print.
#[derive(Debug, Clone)]
pub enum Format {
    Human {
        wide: bool,
    },
    Name,
    Json {
        managed_fields: bool,
    },
    Yaml {
        managed_fields: bool,
    },
    Kyaml {
        managed_fields: bool,
    },
    JsonPath {
        path: JsonPath,
        template: String,
        as_json: bool,
    },
    GoTemplate(Template),
    Columns(CustomColumns),
}

impl Format {
    /// For commands that show objects.
    pub fn for_get(output: &Output, no_headers: bool) -> Result<Format> {
        Format::parse(output, no_headers, true)
    }

    /// For commands that say what they did.
    pub fn for_change(output: &Output) -> Result<Format> {
        Format::parse(output, false, false)
    }

    fn parse(output: &Output, no_headers: bool, shows: bool) -> Result<Format> {
        let given = output.output.as_deref().unwrap_or_default();
        let (name, argument) = given.split_once('=').map_or((given, None), |(n, a)| (n, Some(a)));
        let template = || argument.map(str::to_owned).or_else(|| output.template.clone());
        let managed_fields = output.show_managed_fields;
        let read = |path: String| {
            std::fs::read_to_string(&path).map_err(|e| {
                message(format!(
                    "error reading template {path}, open {path}: {}",
                    go::io_error(&e)
                ))
            })
        };
        Ok(match name {
            // a template alone is a Go template
            "" if output.template.as_ref().is_some_and(|t| !t.is_empty()) => {
                go_template(output.template.as_deref().unwrap_or_default(), output)?
            }
            "" => Format::Human { wide: false },
            "wide" if shows => Format::Human { wide: true },
            "name" => Format::Name,
            "json" => Format::Json { managed_fields },
            "yaml" => Format::Yaml { managed_fields },
            "kyaml" => Format::Kyaml { managed_fields },
            "jsonpath" | "jsonpath-as-json" | "jsonpath-file" => {
                let Some(mut template) = template().filter(|t| !t.is_empty()) else {
                    return fail("template format specified but no template given");
                };
                if name == "jsonpath-file" {
                    template = read(template)?;
                }
                let path = JsonPath::parse(&template)
                    .map_err(|e| message(format!("error parsing jsonpath {template}, {e}")))?
                    .allow_missing(output.allow_missing_template_keys);
                Format::JsonPath {
                    path,
                    template,
                    as_json: name == "jsonpath-as-json",
                }
            }
            "custom-columns" if shows => {
                Format::Columns(CustomColumns::parse(&template().unwrap_or_default(), no_headers)?)
            }
            "custom-columns-file" if shows => {
                Format::Columns(CustomColumns::template(&read(template().unwrap_or_default())?)?)
            }
            "go-template" | "go-template-file" | "template" | "templatefile" => {
                let Some(mut template) = template().filter(|t| !t.is_empty()) else {
                    return fail("template format specified but no template given");
                };
                if name.ends_with("file") {
                    template = read(template)?;
                }
                go_template(&template, output)?
            }
            other => {
                let allowed = if shows { ALLOWED } else { ALLOWED_FOR_CHANGES };
                return fail(format!(
                    "unable to match a printer suitable for the output format {}, allowed formats are: {allowed}",
                    go::quote(other)
                ));
            }
        })
    }

    pub(crate) fn is_human(&self) -> bool {
        matches!(self, Format::Human { .. })
    }

    /// The text of an object that upstream has as a struct of Go's, whose JSON has the order of its fields; of a `List` the items are
    /// trees.
    pub fn typed(&self, object: &Value) -> Result<String> {
        let Format::Json { managed_fields } = self else {
            return self.object(object);
        };
        let shown = without_managed(object, *managed_fields);
        let text = |key: &str| shown[key].as_str().unwrap_or_default();
        let schema = Schema::builtin();
        let kind = if text("kind") == "List" { "Status" } else { text("kind") };
        match schema.type_for(&GroupVersionKind::from_api_version(text("apiVersion"), kind)) {
            Some(root) => Ok(format!("{}\n", schema.go_text(root, &shown, "    "))),
            None => self.object(object),
        }
    }

    /// The text of one object, or of a `List` of several. Tables are not made here.
    pub fn object(&self, object: &Value) -> Result<String> {
        Ok(match self {
            Format::Json { managed_fields } => format!(
                "{}\n",
                go::json(&without_managed(object, *managed_fields), Some("    "))
            ),
            Format::Yaml { managed_fields } => yaml::to_string(&without_managed(object, *managed_fields)),
            Format::Kyaml { managed_fields } => kyaml::to_string(&without_managed(object, *managed_fields)),
            Format::JsonPath {
                path,
                template,
                as_json,
            } => {
                let failed = |e: crate::jsonpath::JsonPathError| {
                    message(format!(
                        "error executing jsonpath {}: Error executing template: {e}",
                        go::quote(template)
                    ))
                };
                if *as_json {
                    let found = path.find(object).map_err(failed)?;
                    let groups = found
                        .iter()
                        .map(|g| json!(g.iter().map(|v| (**v).clone()).collect::<Vec<_>>()));
                    groups.map(|g| format!("{}\n", go::json(&g, Some("    ")))).collect()
                } else {
                    path.execute(object).map_err(failed)?
                }
            }
            Format::GoTemplate(template) => template
                .execute(object)
                .map_err(|failed| template_failed(template, object, &failed))?,
            Format::Columns(columns) => columns.print(&items(object))?,
            Format::Name | Format::Human { .. } => {
                let names: Vec<String> = items(object)
                    .into_iter()
                    .map(|o| format!("{}\n", reference(o)))
                    .collect();
                names.concat()
            }
        })
    }
}

fn go_template(text: &str, output: &Output) -> Result<Format> {
    let template = Template::parse(text).map_err(|why| message(format!("error parsing template {text}, {why}\n")))?;
    Ok(Format::GoTemplate(
        template.allow_missing(output.allow_missing_template_keys),
    ))
}

/// The error of a template that failed. What it had printed comes first, and as upstream has it all that helps to find out why.
fn template_failed(template: &Template, object: &Value, failed: &Failed) -> crate::error::Error {
    let text = template.text();
    let shown = format!(
        "{}Error executing template: {}. Printing more information for debugging the template:\n\ttemplate was:\n\t\t{text}\n\traw data was:\n\t\t{}\n\tobject given to template engine was:\n\t\t{}\n\n",
        failed.printed,
        failed.why,
        go::json(object, None),
        template.shown(object),
    );
    let mut out = std::io::stdout();
    match std::io::Write::write_all(&mut out, shown.as_bytes()) {
        Ok(()) => message(format!("error executing template {}: {}", go::quote(text), failed.why)),
        Err(error) => error.into(),
    }
}

/// The items of a list, or the object alone.
pub fn items(object: &Value) -> Vec<&Value> {
    match object["items"].as_array() {
        Some(items) if object["kind"].as_str().is_some_and(|k| k.ends_with("List")) => items.iter().collect(),
        _ => vec![object],
    }
}

/// `deployment.apps/x`.
pub fn reference(object: &Value) -> String {
    let api_version = object["apiVersion"].as_str().unwrap_or_default();
    let (group, _) = api::gvk::split_api_version(api_version);
    let kind = object["kind"].as_str().unwrap_or_default().to_lowercase();
    let name = object["metadata"]["name"].as_str().unwrap_or("<unknown>");
    match group {
        "" => format!("{kind}/{name}"),
        group => format!("{kind}.{group}/{name}"),
    }
}

fn without_managed(object: &Value, keep: bool) -> Value {
    let mut object = object.clone();
    if keep {
        return object;
    }
    let strip = |object: &mut Value| {
        if let Some(meta) = object.get_mut("metadata").and_then(Value::as_object_mut) {
            meta.remove("managedFields");
        }
    };
    strip(&mut object);
    if object["kind"].as_str().is_some_and(|k| k.ends_with("List"))
        && let Some(items) = object.get_mut("items").and_then(Value::as_array_mut)
    {
        items.iter_mut().for_each(strip);
    }
    object
}

#[cfg(test)]
mod tests {
    use super::*;

    fn format(output: &str) -> Result<Format> {
        Format::for_get(
            &Output {
                output: Some(output.to_owned()),
                ..Output::default()
            },
            false,
        )
    }

    #[test]
    fn objects_are_printed_in_the_format_asked_for() {
        let object =
            json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "a", "managedFields": []}});
        for (output, text) in [
            ("name", "deployment.apps/a\n"),
            ("yaml", "apiVersion: apps/v1\nkind: Deployment\nmetadata:\n  name: a\n"),
            (
                "kyaml",
                "---\n{\n  apiVersion: \"apps/v1\",\n  kind: \"Deployment\",\n  metadata: {\n    name: \"a\",\n  },\n}\n",
            ),
            ("jsonpath={.metadata.name}", "a"),
            ("jsonpath-as-json={.metadata.name}", "[\n    \"a\"\n]\n"),
            ("custom-columns=N:.metadata.name", "N\na\n"),
        ] {
            assert_eq!(format(output).unwrap().object(&object).unwrap(), text, "{output}");
        }
        assert!(
            format("foo")
                .unwrap_err()
                .to_string()
                .starts_with("unable to match a printer suitable")
        );
    }
}
