//! `explain`: what the fields of a resource are, from the server's OpenAPI v3.

use std::sync::Arc;

use serde_json::Value;

use crate::cmd::describe::{items, str_of};
use crate::discovery::{Discovery, ResourceType};
use crate::error::{Error, Result, fail};
use crate::print::go::quote;
use crate::session::Session;

/// Get documentation for a resource
#[derive(Debug, clap::Args)]
pub struct Args {
    args: Vec<String>,
    /// Print the fields of fields. Use --max-depth to cap the recursion depth.
    #[arg(long, short = 'R')]
    recursive: bool,
    /// Maximum recursion depth when printing nested fields with --recursive. 0 means no limit
    #[arg(long, default_value_t = 0, hide_default_value = true, allow_negative_numbers = true)]
    max_depth: i64,
    /// Use given api-version (group/version) of the resource
    #[arg(long)]
    api_version: Option<String>,
    /// plaintext
    #[arg(long, short, default_value = "plaintext", hide_default_value = true)]
    output: String,
}

pub(crate) async fn run(session: &Session, args: &Args) -> Result<()> {
    let path = match &args.args[..] {
        [] => {
            return fail(
                "You must specify the type of resource to explain. Use \"kubectl api-resources\" for a complete list of supported resources.",
            );
        }
        [path] => path,
        _ => return fail("We accept only this format: explain RESOURCE"),
    };
    let max_depth = match usize::try_from(args.max_depth) {
        Ok(depth) if depth > 0 && !args.recursive => return fail("--max-depth requires --recursive"),
        Ok(depth) => depth,
        Err(_) => return fail("--max-depth must be non-negative"),
    };
    if args.output != "plaintext" {
        return fail(format!("unrecognized format: {}", args.output));
    }
    let mut parts = path.split('.');
    let name = parts.next().unwrap_or_default();
    let discovery = session.resources().await?;
    // The fields begin where the name of the resource ends: `deployments.apps.spec` has a group.
    let mut fields: Vec<&str> = parts.collect();
    let mut found = discovery.find(name);
    let wanted = args.api_version.as_deref().filter(|wanted| !wanted.is_empty());
    // with a version of its own a resource has no group in its name
    let longest = if wanted.is_some() { 0 } else { fields.len() };
    for used in (1..=longest).rev() {
        let longer = format!("{name}.{}", fields[..used].join("."));
        if let Some(ty) = discovery
            .find(&longer)
            .filter(|t| longer.ends_with(&t.group) && !t.group.is_empty())
        {
            found = Some(ty);
            fields.drain(..used);
            break;
        }
    }
    let Some(mut ty) = found else {
        let text = format!("the server doesn't have a resource type {}", quote(name));
        return Err(Error::Plain(text));
    };
    if let Some(wanted) = wanted {
        ty = in_version(discovery, &ty, wanted)?;
    }
    let document = match ty.group.as_str() {
        "" => format!("/openapi/v3/api/{}", ty.version),
        group => format!("/openapi/v3/apis/{group}/{}", ty.version),
    };
    let document = session.api()?.get(&document).await?;
    let schemas = &document["components"]["schemas"];
    let is_it = |schema: &&Value| {
        items(&schema["x-kubernetes-group-version-kind"]).any(|g| {
            str_of(&g["group"]) == ty.group && g["version"] == ty.version.as_str() && g["kind"] == ty.kind.as_str()
        })
    };
    let Some(root) = schemas.as_object().into_iter().flat_map(|s| s.values()).find(is_it) else {
        return fail(format!(
            "GVK {}/{}, Kind={} not found in OpenAPI schema",
            ty.group, ty.version, ty.kind
        ));
    };
    let mut text = String::new();
    if !ty.group.is_empty() {
        text.push_str(&format!("GROUP:      {}\n", ty.group));
    }
    text.push_str(&format!("KIND:       {}\nVERSION:    {}\n\n", ty.kind, ty.version));
    let explainer = Explainer {
        schemas,
        recursive: args.recursive,
        max_depth,
    };
    match explainer.at(root, &fields) {
        Some(body) => {
            text.push_str(&body);
            text.push('\n');
            session.print(&text)
        }
        None => {
            // What leads there is said before what is missing.
            session.print(text.trim_end_matches('\n'))?;
            session.print("\n\n")?;
            fail(format!(
                "field {} does not exist",
                quote(fields.last().copied().unwrap_or_default())
            ))
        }
    }
}

/// The resource in another version, maybe of another group.
fn in_version(discovery: &Discovery, ty: &ResourceType, wanted: &str) -> Result<Arc<ResourceType>> {
    if wanted.matches('/').count() > 1 {
        return fail(format!("unexpected GroupVersion string: {wanted}"));
    }
    let (group, version) = api::gvk::split_api_version(wanted);
    let shown = format!("{group}/{version}, Resource={}", ty.plural);
    let of_version = |other: &&Arc<ResourceType>| other.group == group && other.version == version;
    let mut all = discovery.types.iter().filter(of_version).peekable();
    if all.peek().is_none() {
        return fail(format!("couldn't find resource for {}", quote(&shown)));
    }
    match all.find(|other| other.plural == ty.plural) {
        Some(other) => Ok(other.clone()),
        None => fail(format!("GVR ({shown}) not found in OpenAPI schema")),
    }
}

struct Explainer<'a> {
    schemas: &'a Value,
    recursive: bool,
    /// Levels of fields; 0 shows them all.
    max_depth: usize,
}

impl<'a> Explainer<'a> {
    fn resolve(&self, schema: &'a Value) -> &'a Value {
        match schema["$ref"].as_str().and_then(|r| r.rsplit('/').next()) {
            Some(name) if self.schemas[name].is_object() => &self.schemas[name],
            _ => schema,
        }
    }

    /// The text of the field that a path leads to.
    fn at(&self, schema: &'a Value, fields: &[&str]) -> Option<String> {
        let resolved = self.resolve(schema);
        let Some((first, rest)) = fields.split_first() else {
            return Some(self.whole(resolved));
        };
        let property = &resolved["properties"][*first];
        if property.is_object() {
            let head = match rest.is_empty() {
                true => format!(
                    "FIELD: {first} <{}>\n{}\n\n",
                    self.type_of(property),
                    long_enum(property)
                ),
                false => String::new(),
            };
            return Some(head + &self.at(property, rest)?);
        }
        if resolved["items"].is_object() {
            return self.at(&resolved["items"], fields);
        }
        if resolved["additionalProperties"].is_object() {
            return self.at(&resolved["additionalProperties"], fields);
        }
        items(&resolved["allOf"]).find_map(|s| self.at(s, fields))
    }

    fn whole(&self, schema: &'a Value) -> String {
        let mut description = self.description(schema);
        if description.is_empty() {
            description = "<empty>".to_owned();
        }
        let mut text = format!("DESCRIPTION:\n{}\n", indent(&wrap(&description, 76), 4));
        let mut fields = String::new();
        self.fields(schema, 1, &mut Vec::new(), &mut fields);
        if !fields.is_empty() {
            text.push_str("FIELDS:\n");
            text.push_str(&fields);
        }
        text
    }

    fn description(&self, schema: &'a Value) -> String {
        let schema = self.resolve(schema);
        let mut text = String::new();
        if let Some(own) = schema["description"].as_str().filter(|d| !d.is_empty()) {
            text = format!("{own}\n");
        }
        for part in items(&schema["allOf"]) {
            text.push_str(&self.description(part));
        }
        for inner in [&schema["items"], &schema["additionalProperties"]] {
            if inner.is_object() {
                text.push_str(&self.description(inner));
            }
        }
        text
    }

    fn fields(&self, schema: &'a Value, level: usize, seen: &mut Vec<&'a str>, out: &mut String) {
        let reference = schema["$ref"].as_str();
        if let Some(reference) = reference {
            if seen.contains(&reference) {
                return;
            }
            seen.push(reference);
        }
        let resolved = self.resolve(schema);
        for (name, property) in resolved["properties"].as_object().into_iter().flatten() {
            let required = items(&resolved["required"]).any(|r| r == name.as_str());
            self.field(name, property, required, level, out);
            if self.recursive && (self.max_depth == 0 || level < self.max_depth) {
                self.fields(property, level + 1, seen, out);
            }
        }
        for part in items(&resolved["allOf"]) {
            self.fields(part, level, seen, out);
        }
        for inner in [&resolved["items"], &resolved["additionalProperties"]] {
            if inner.is_object() {
                self.fields(inner, level, seen, out);
            }
        }
        if reference.is_some() {
            seen.pop();
        }
    }

    fn field(&self, name: &str, schema: &'a Value, required: bool, level: usize, out: &mut String) {
        let depth = level * 2;
        let mark = if required { " -required-" } else { "" };
        out.push_str(&format!(
            "{}{name}\t<{}>{mark}",
            " ".repeat(depth),
            self.type_of(schema)
        ));
        let values: Vec<String> = items(&schema["enum"]).map(shown).collect();
        if !values.is_empty() {
            let more = if values.len() > 4 { ", ...." } else { "" };
            let first = values[..values.len().min(4)].join(", ");
            out.push_str(&format!("\n{}enum: {first}{more}", " ".repeat(depth)));
        }
        out.push('\n');
        if !self.recursive {
            let description = schema["description"]
                .as_str()
                .filter(|d| !d.is_empty())
                .unwrap_or("<no description>");
            out.push_str(&indent(&wrap(description, 78 - depth), depth + 2));
            out.push_str("\n\n");
        }
    }

    fn type_of(&self, schema: &'a Value) -> String {
        if schema["items"].is_object() {
            return format!("[]{}", self.type_of(&schema["items"]));
        }
        if schema["additionalProperties"].is_object() {
            return format!("map[string]{}", self.type_of(&schema["additionalProperties"]));
        }
        if let (Some([only]), Value::Null) = (schema["allOf"].as_array().map(Vec::as_slice), &schema["properties"]) {
            return self.type_of(only);
        }
        if let Some(reference) = schema["$ref"].as_str() {
            let resolved = self.resolve(schema);
            return match resolved["type"].as_str() {
                Some(plain) if plain != "object" => plain.to_owned(),
                _ => reference.rsplit(['/', '.']).next().unwrap_or("Object").to_owned(),
            };
        }
        match str_of(&schema["type"]) {
            "" | "object" => "Object".to_owned(),
            plain => plain.to_owned(),
        }
    }
}

fn shown(value: &Value) -> String {
    match crate::print::go::sprint(value) {
        empty if empty.is_empty() => "\"\"".to_owned(),
        text => text,
    }
}

fn long_enum(schema: &Value) -> String {
    let values: Vec<String> = items(&schema["enum"]).map(|v| format!("\n    {}", shown(v))).collect();
    if values.is_empty() {
        String::new()
    } else {
        format!("ENUM:{}", values.concat())
    }
}

fn indent(text: &str, by: usize) -> String {
    let pad = " ".repeat(by);
    format!("{pad}{}", text.replace('\n', &format!("\n{pad}")))
}

/// Breaks lines at spaces so that none is longer than it may be.
fn wrap(text: &str, width: usize) -> String {
    let mut lines = Vec::new();
    for line in text.split('\n') {
        let mut current = String::new();
        // the blanks that a line starts with stay
        for (at, word) in line.split(' ').enumerate() {
            if !current.trim().is_empty() && current.chars().count() + 1 + word.chars().count() > width {
                // of two blanks one may be left
                lines.push(std::mem::take(&mut current).trim_end().to_owned());
            } else if at > 0 {
                current.push(' ');
            }
            current.push_str(word);
        }
        lines.push(current);
    }
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn long_lines_are_broken_and_lists_stay_indented() {
        assert_eq!(wrap(" - a bc\nde fg", 5), " - a\nbc\nde fg");
        assert_eq!(wrap("ab.  *s", 5), "ab.\n*s");
    }

    #[test]
    fn a_path_leads_through_references_and_lists() {
        let schemas = json!({
            "x.Spec": {"type": "object", "properties": {"list": {"type": "array", "items": {"$ref": "#/components/schemas/x.Item"}}}},
            "x.Item": {"type": "object", "required": ["a"], "properties": {"a": {"type": "string", "enum": ["", "b"]}}},
        });
        let root = json!({"properties": {"spec": {"allOf": [{"$ref": "#/components/schemas/x.Spec"}]}}});
        let explainer = Explainer {
            schemas: &schemas,
            recursive: false,
            max_depth: 0,
        };
        let text = explainer.at(&root, &["spec", "list"]).unwrap();
        assert_eq!(
            text,
            "FIELD: list <[]Item>\n\n\nDESCRIPTION:\n    <empty>\nFIELDS:\n  a\t<string> -required-\n  enum: \"\", b\n    <no description>\n\n"
        );
        assert!(
            explainer
                .at(&root, &["spec", "list", "a"])
                .unwrap()
                .starts_with("FIELD: a <string>\nENUM:\n    \"\"\n    b\n\n")
        );
        assert_eq!(explainer.at(&root, &["spec", "nope"]), None);
    }

    #[test]
    fn fields_of_fields_are_shown_down_to_a_depth() {
        let schemas = json!({
            "x.A": {"type": "object", "properties": {"b": {"$ref": "#/components/schemas/x.B"}}},
            "x.B": {"type": "object", "properties": {"c": {"type": "string"}}},
        });
        let root = json!({"properties": {"a": {"$ref": "#/components/schemas/x.A"}}});
        for (max_depth, lines) in [(0, 3), (1, 1), (2, 2), (3, 3)] {
            let explainer = Explainer {
                schemas: &schemas,
                recursive: true,
                max_depth,
            };
            let mut fields = String::new();
            explainer.fields(&root, 1, &mut Vec::new(), &mut fields);
            assert_eq!(fields.lines().count(), lines, "{max_depth}: {fields}");
        }
    }

    #[test]
    fn long_lines_are_broken_at_spaces() {
        assert_eq!(wrap("aa bb cc", 5), "aa bb\ncc");
        assert_eq!(indent("a\nb", 2), "  a\n  b");
    }
}
