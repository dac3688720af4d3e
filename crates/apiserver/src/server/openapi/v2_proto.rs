//! A document of OpenAPI version 2 in protobuf: messages of `openapi.v2` as gnostic defines them, by field number.

use serde_json::Value;

/// The message `Document`.
pub fn encode(document: &Value) -> Vec<u8> {
    let mut out = Message::default();
    out.text(1, &document["swagger"]);
    out.message(2, |info| {
        info.text(1, &document["info"]["title"]);
        info.text(2, &document["info"]["version"]);
    });
    out.message(8, |paths| {
        for (path, item) in members(&document["paths"]) {
            paths.named(2, path, |out| path_item(item, out));
        }
    });
    out.message(9, |definitions| {
        for (name, schema) in members(&document["definitions"]) {
            definitions.named(1, name, |out| self::schema(schema, out));
        }
    });
    out.0
}

fn members(value: &Value) -> impl Iterator<Item = (&String, &Value)> {
    value.as_object().into_iter().flatten()
}

fn items(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

fn path_item(item: &Value, out: &mut Message) {
    for (tag, method) in [(2, "get"), (3, "put"), (4, "post"), (5, "delete"), (8, "patch")] {
        if let Some(operation) = item.get(method) {
            out.message(tag, |out| self::operation(operation, out));
        }
    }
    for parameter in items(&item["parameters"]) {
        out.message(9, |out| self::parameter(parameter, out));
    }
}

fn operation(operation: &Value, out: &mut Message) {
    out.text(5, &operation["operationId"]);
    out.texts(6, &operation["produces"]);
    out.texts(7, &operation["consumes"]);
    for parameter in items(&operation["parameters"]) {
        out.message(8, |out| self::parameter(parameter, out));
    }
    out.message(9, |responses| {
        for (code, response) in members(&operation["responses"]) {
            responses.named(1, code, |value| {
                value.message(1, |out| {
                    out.text(1, &response["description"]);
                    if let Some(schema) = response.get("schema") {
                        out.message(2, |item| item.message(1, |out| self::schema(schema, out)));
                    }
                });
            });
        }
    });
    extensions(13, operation, out);
}

/// A `ParametersItem` around a parameter in the body, the query or the path.
fn parameter(parameter: &Value, out: &mut Message) {
    out.message(1, |out| match parameter["in"].as_str() {
        Some("body") => out.message(1, |out| {
            out.text(2, &parameter["name"]);
            out.text(3, &parameter["in"]);
            out.flag(4, &parameter["required"]);
            out.message(5, |out| schema(&parameter["schema"], out));
        }),
        place => {
            // the fields of both kinds are numbered apart by one behind the name
            let (kind, ty, unique) = if place == Some("path") { (4, 5, 19) } else { (3, 6, 20) };
            out.message(2, |out| {
                out.message(kind, |out| {
                    out.flag(1, &parameter["required"]);
                    out.text(2, &parameter["in"]);
                    out.text(4, &parameter["name"]);
                    out.text(ty, &parameter["type"]);
                    out.flag(unique, &parameter["uniqueItems"]);
                });
            });
        }
    });
}

fn schema(schema: &Value, out: &mut Message) {
    for (tag, key) in [
        (1, "$ref"),
        (2, "format"),
        (3, "title"),
        (4, "description"),
        (13, "pattern"),
    ] {
        out.text(tag, &schema[key]);
    }
    if let Some(default) = schema.get("default") {
        out.message(5, |out| any(default, out));
    }
    for (tag, key) in [(6, "multipleOf"), (7, "maximum"), (9, "minimum")] {
        out.double(tag, &schema[key]);
    }
    for (tag, key) in [(8, "exclusiveMaximum"), (10, "exclusiveMinimum"), (16, "uniqueItems")] {
        out.flag(tag, &schema[key]);
    }
    for (tag, key) in [
        (11, "maxLength"),
        (12, "minLength"),
        (14, "maxItems"),
        (15, "minItems"),
        (17, "maxProperties"),
        (18, "minProperties"),
    ] {
        out.integer(tag, &schema[key]);
    }
    out.texts(19, &schema["required"]);
    for value in items(&schema["enum"]) {
        out.message(20, |out| any(value, out));
    }
    match schema.get("additionalProperties") {
        Some(Value::Bool(allowed)) => out.message(21, |out| out.flag(2, &Value::Bool(*allowed))),
        Some(inner) => out.message(21, |out| out.message(1, |out| self::schema(inner, out))),
        None => {}
    }
    if schema["type"].is_string() {
        out.message(22, |out| out.text(1, &schema["type"]));
    }
    if let Some(inner) = schema.get("items") {
        out.message(23, |out| out.message(1, |out| self::schema(inner, out)));
    }
    for inner in items(&schema["allOf"]) {
        out.message(24, |out| self::schema(inner, out));
    }
    if schema["properties"].is_object() {
        out.message(25, |out| {
            for (name, property) in members(&schema["properties"]) {
                out.named(1, name, |out| self::schema(property, out));
            }
        });
    }
    extensions(31, schema, out);
}

/// `x-…` keys as `NamedAny`.
fn extensions(tag: u32, of: &Value, out: &mut Message) {
    for (name, value) in members(of).filter(|(name, _)| name.starts_with("x-")) {
        out.named(tag, name, |out| any(value, out));
    }
}

/// `Any`: a value as YAML, which JSON is.
fn any(value: &Value, out: &mut Message) {
    out.bytes(2, value.to_string().as_bytes());
}

/// A message being written.
#[derive(Default)]
struct Message(Vec<u8>);

impl Message {
    fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push((value & 0x7f) as u8 | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
    }

    fn bytes(&mut self, tag: u32, bytes: &[u8]) {
        self.varint(u64::from(tag << 3 | 2));
        self.varint(bytes.len() as u64);
        self.0.extend_from_slice(bytes);
    }

    fn message(&mut self, tag: u32, write: impl FnOnce(&mut Message)) {
        let mut inner = Message::default();
        write(&mut inner);
        self.bytes(tag, &inner.0);
    }

    /// A name and a value, as the maps of OpenAPI are written.
    fn named(&mut self, tag: u32, name: &str, write: impl FnOnce(&mut Message)) {
        self.message(tag, |out| {
            out.bytes(1, name.as_bytes());
            out.message(2, write);
        });
    }

    fn text(&mut self, tag: u32, value: &Value) {
        if let Some(text) = value.as_str() {
            self.bytes(tag, text.as_bytes());
        }
    }

    fn texts(&mut self, tag: u32, values: &Value) {
        for value in items(values) {
            self.text(tag, value);
        }
    }

    fn flag(&mut self, tag: u32, value: &Value) {
        if value == &Value::Bool(true) {
            self.varint(u64::from(tag << 3));
            self.varint(1);
        }
    }

    fn integer(&mut self, tag: u32, value: &Value) {
        if let Some(number) = value.as_u64() {
            self.varint(u64::from(tag << 3));
            self.varint(number);
        }
    }

    fn double(&mut self, tag: u32, value: &Value) {
        if let Some(number) = value.as_f64() {
            self.varint(u64::from(tag << 3 | 1));
            self.0.extend_from_slice(&number.to_le_bytes());
        }
    }
}
