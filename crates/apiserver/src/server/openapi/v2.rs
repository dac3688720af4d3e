//! OpenAPI version 2 out of version 3: what it cannot say is left out as upstream leaves it out.

use serde_json::{Map, Value, json};

use super::REFERENCE;

/// The document of version 2 that says what a document of version 3 says.
pub fn document(v3: &Value) -> Value {
    let mut definitions = Map::new();
    let schemas = v3.pointer("/components/schemas").and_then(Value::as_object);
    for (name, schema) in schemas.into_iter().flatten() {
        definitions.insert(name.clone(), schema_of(schema));
    }
    let mut paths = Map::new();
    for (path, operations) in v3["paths"].as_object().into_iter().flatten() {
        let mut converted = Map::new();
        for (method, of) in operations.as_object().into_iter().flatten() {
            let of = match method.as_str() {
                "parameters" => parameters_of(of).into(),
                _ => operation_of(of),
            };
            converted.insert(method.clone(), of);
        }
        paths.insert(path.clone(), Value::Object(converted));
    }
    json!({
        "swagger": "2.0",
        "info": v3["info"],
        "paths": paths,
        "definitions": definitions,
        "securityDefinitions": v3["components"]["securitySchemes"],
        "security": [{ "BearerToken": [] }],
    })
}

fn parameters_of(v3: &Value) -> Vec<Value> {
    let one = |v3: &Value| {
        let mut parameter = v3.clone();
        if let Some(members) = parameter.as_object_mut()
            && let Some(Value::Object(schema)) = members.remove("schema")
        {
            members.extend(schema);
        }
        parameter
    };
    v3.as_array().into_iter().flatten().map(one).collect()
}

/// The media types of a body, and its schema.
fn body_of(v3: &Value) -> (Vec<&str>, Option<Value>) {
    let content = v3["content"].as_object();
    let media = content.into_iter().flatten().map(|(media, _)| media.as_str()).collect();
    let schema = content
        .and_then(|content| content.values().next())
        .map(|body| schema_of(&body["schema"]));
    (media, schema)
}

fn operation_of(v3: &Value) -> Value {
    let (mut consumes, sent) = body_of(&v3["requestBody"]);
    let mut parameters = parameters_of(&v3["parameters"]);
    if let Some(schema) = sent {
        let mut body = json!({ "name": "body", "in": "body", "schema": schema });
        if v3["requestBody"]["required"] == true {
            body["required"] = json!(true);
        }
        parameters.insert(0, body);
    }
    let mut responses = Map::new();
    let mut produces = Vec::new();
    for (code, response) in v3["responses"].as_object().into_iter().flatten() {
        let mut converted = json!({ "description": response["description"] });
        let (media, schema) = body_of(response);
        if let Some(schema) = schema {
            converted["schema"] = schema;
            produces = media;
        }
        responses.insert(code.clone(), converted);
    }
    let action = v3.get("x-kubernetes-action");
    if consumes.is_empty() {
        consumes = match action {
            Some(_) => vec!["*/*"],
            None => produces.clone(),
        };
    }
    let mut out = json!({
        "description": v3["description"],
        "consumes": consumes,
        "produces": produces,
        "schemes": ["https"],
        "tags": v3["tags"],
        "operationId": v3["operationId"],
        "responses": responses,
    });
    if !parameters.is_empty() {
        out["parameters"] = parameters.into();
    }
    for key in ["x-kubernetes-action", "x-kubernetes-group-version-kind"] {
        if let Some(value) = v3.get(key) {
            out[key] = value.clone();
        }
    }
    out
}

fn schema_of(v3: &Value) -> Value {
    let Some(object) = v3.as_object() else {
        return v3.clone();
    };
    let mut out = Map::new();
    for (key, value) in object {
        match (key.as_str(), value) {
            ("$ref", Value::String(reference)) => {
                let name = reference.trim_start_matches(REFERENCE);
                out.insert("$ref".into(), format!("#/definitions/{name}").into());
            }
            // one reference with something said beside it
            ("allOf", Value::Array(all)) => {
                if let [one] = all.as_slice()
                    && let Value::Object(inner) = schema_of(one)
                {
                    out.extend(inner);
                }
            }
            // version 2 names no defaults
            ("default", _) => {}
            // quantities and integers that may be strings: strings
            ("oneOf", _) => {
                out.insert("type".into(), "string".into());
            }
            ("properties", Value::Object(properties)) => {
                let converted = properties.iter().map(|(name, p)| (name.clone(), schema_of(p)));
                out.insert(key.clone(), Value::Object(converted.collect()));
            }
            ("items" | "additionalProperties", _) => {
                out.insert(key.clone(), schema_of(value));
            }
            _ => {
                out.insert(key.clone(), value.clone());
            }
        }
    }
    Value::Object(out)
}

/// Takes out of a structural schema what version 2, or the clients that read it, cannot cope with.
pub fn simplify(schema: &mut Value) {
    let Some(object) = schema.as_object_mut() else { return };
    for key in ["allOf", "anyOf", "oneOf", "not"] {
        object.remove(key);
    }
    let nullable = object.remove("nullable") == Some(Value::Bool(true));
    let open = object.get("x-kubernetes-preserve-unknown-fields") == Some(&Value::Bool(true));
    if nullable || open {
        object.remove("items");
        object.remove("properties");
    }
    let ty = object
        .get("type")
        .and_then(Value::as_str)
        .unwrap_or_default()
        .to_owned();
    if nullable || (ty == "array" && !object.contains_key("items")) || (open && ty == "object") {
        object.remove("type");
    }
    let mut optional = Vec::new();
    for (name, property) in object
        .get("properties")
        .and_then(Value::as_object)
        .into_iter()
        .flatten()
    {
        if property["nullable"] == true {
            optional.push(name.clone());
        }
    }
    if let Some(Value::Array(required)) = object.get_mut("required") {
        required.retain(|r| !optional.iter().any(|o| r == o));
        if required.is_empty() {
            object.remove("required");
        }
    }
    for key in ["items", "additionalProperties"] {
        if let Some(inner) = object.get_mut(key) {
            simplify(inner);
        }
    }
    for (_, property) in object
        .get_mut("properties")
        .and_then(Value::as_object_mut)
        .into_iter()
        .flatten()
    {
        simplify(property);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_version_2_cannot_say_is_left_out() {
        let mut schema = json!({
            "type": "object",
            "required": ["a", "b"],
            "properties": {
                "a": { "type": "object", "nullable": true, "properties": { "x": { "type": "string" } } },
                "b": { "type": "array", "items": { "anyOf": [{ "minimum": 1 }], "type": "integer" } },
                "c": { "type": "object", "x-kubernetes-preserve-unknown-fields": true, "properties": { "x": {} } },
            },
        });
        simplify(&mut schema);
        assert_eq!(
            schema,
            json!({
                "type": "object",
                "required": ["b"],
                "properties": {
                    "a": {},
                    "b": { "type": "array", "items": { "type": "integer" } },
                    "c": { "x-kubernetes-preserve-unknown-fields": true },
                },
            })
        );
    }

    #[test]
    fn references_and_alternatives_are_said_in_version_2() {
        let quantity = json!({ "oneOf": [{ "type": "string" }, { "type": "number" }] });
        let port = json!({ "format": "int-or-string", "oneOf": [{ "type": "integer" }, { "type": "string" }] });
        let reference = json!({ "default": {}, "allOf": [{ "$ref": "#/components/schemas/x.Y" }] });
        let converted = schema_of(&json!({ "properties": { "q": quantity, "p": port, "r": reference } }));
        assert_eq!(
            converted,
            json!({ "properties": {
                "q": { "type": "string" },
                "p": { "format": "int-or-string", "type": "string" },
                "r": { "$ref": "#/definitions/x.Y" },
            }})
        );
    }
}
