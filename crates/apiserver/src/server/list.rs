//! Lists as bodies: objects of a resource in the form that the client accepts, streamed from the cached bytes where there is a
//! stream of it.

use std::sync::Arc;

use api::schema::envelope;
use bytes::Bytes;
use http::{Response, StatusCode};
use serde_json::{Value, json};

use crate::http::negotiate::{Accept, Encoding, Transform};
use crate::http::status::{ApiError, Result};
use crate::registry::cached::Cached;
use crate::registry::resource::{Resource, internal_package};
use crate::server::body::{
    Body, encode_tree, full, json_of, metadata_of, pieces, protobuf_of, respond, write_metadata_of,
};
use crate::table;

/// What stands in a list's metadata.
#[derive(Debug, Clone, Default)]
pub struct ListMeta {
    /// 0 for what is not stored.
    pub revision: u64,
    pub continue_token: Option<String>,
    pub remaining: Option<usize>,
}

impl ListMeta {
    fn tree(&self, whole_custom: bool) -> Value {
        let mut meta = json!({});
        if self.revision > 0 {
            meta["resourceVersion"] = json!(self.revision.to_string());
        }
        if let Some(token) = &self.continue_token {
            meta["continue"] = json!(token);
        }
        if let Some(remaining) = self.remaining {
            meta["remainingItemCount"] = json!(remaining);
        }
        if whole_custom && self.continue_token.is_none() {
            // lists of custom objects always say so
            meta["continue"] = json!("");
        }
        meta
    }
}

/// A list, streamed from the cached bytes.
///
/// # Errors
/// `406` when it cannot be had in the form that the client accepts, `500` when an object cannot be written.
pub fn list_response(
    resource: &Arc<Resource>,
    items: Vec<Arc<Cached>>,
    meta: &ListMeta,
    accept: Accept,
    table_objects: table::Include,
) -> Result<Response<Body>> {
    if accept.of_list == Some(false) {
        let kind = match resource.is_custom() {
            true => "*unstructured.UnstructuredList".to_owned(),
            false => format!("*{}.{}", internal_package(&resource.group), resource.list_kind),
        };
        return Err(ApiError::no_such_form_of(&format!(
            "you requested PartialObjectMetadata, but the requested object is a list ({kind})"
        )));
    }
    let body = match accept.transform {
        Transform::Whole => whole(resource, items, meta, accept.encoding)?,
        Transform::Metadata => metadata(resource, items, meta, accept)?,
        Transform::Table => table(resource, &items, meta, accept, table_objects)?,
    };
    Ok(respond(StatusCode::OK, accept.encoding.media_type(), body))
}

fn whole(resource: &Arc<Resource>, items: Vec<Arc<Cached>>, meta: &ListMeta, encoding: Encoding) -> Result<Body> {
    let head = || json!({ "kind": resource.list_kind, "apiVersion": resource.api_version(), "metadata": meta.tree(resource.is_custom()) });
    match encoding {
        Encoding::Json => Ok(json_items(&head(), "items", items, whole_item(resource.clone()))),
        Encoding::Protobuf => protobuf(resource, &items, meta),
        Encoding::Yaml => {
            let mut item = whole_item(resource.clone());
            let tree = move |object: &Cached| -> Result<Value> {
                let mut json = Vec::new();
                item(object, &mut json)?;
                serde_json::from_slice(&json).map_err(ApiError::internal)
            };
            Ok(yaml_items(head(), items, tree))
        }
    }
}

fn protobuf(resource: &Resource, items: &[Arc<Cached>], meta: &ListMeta) -> Result<Body> {
    let raw = items
        .iter()
        .map(|o| protobuf_of(resource, o))
        .collect::<Result<Vec<_>>>()?;
    let remaining = meta.remaining.and_then(|n| i64::try_from(n).ok());
    let token = meta.continue_token.as_deref().unwrap_or_default();
    let revision = if meta.revision > 0 {
        meta.revision.to_string()
    } else {
        String::new()
    };
    let head = envelope::list_meta(&revision, token, remaining);
    let lengths = raw.iter().map(Bytes::len);
    let frame = envelope::list_frame(&resource.api_version(), &resource.list_kind, &head, lengths);
    let mut raw = raw.into_iter();
    let write = move |out: &mut Vec<u8>| {
        let Some(item) = raw.next() else { return Ok(false) };
        out.extend(envelope::item_head(item.len()));
        out.extend_from_slice(&item);
        Ok(true)
    };
    Ok(pieces(frame.head, write, frame.tail.to_vec()))
}

fn metadata(resource: &Arc<Resource>, items: Vec<Arc<Cached>>, meta: &ListMeta, accept: Accept) -> Result<Body> {
    let mut head = json!({ "kind": "PartialObjectMetadataList", "apiVersion": accept.version.api_version(), "metadata": meta.tree(false) });
    if items.is_empty() {
        // upstream's never begins a list of none
        head["items"] = Value::Null;
        return Ok(full(encode_tree(&head, accept.encoding)?));
    }
    let (of, version) = (resource.clone(), accept.version);
    let tree = move |object: &Cached| -> Result<Value> {
        let json = metadata_of(&of, object, version)?;
        serde_json::from_slice(&json).map_err(ApiError::internal)
    };
    match accept.encoding {
        Encoding::Json => {
            let of = resource.clone();
            let write = move |object: &Cached, out: &mut Vec<u8>| write_metadata_of(&of, object, version, out);
            Ok(json_items(&head, "items", items, write))
        }
        Encoding::Yaml => Ok(yaml_items(head, items, tree)),
        Encoding::Protobuf => {
            let items = items
                .iter()
                .map(|object| tree(object))
                .collect::<Result<Vec<Value>>>()?;
            head["items"] = Value::Array(items);
            Ok(full(encode_tree(&head, accept.encoding)?))
        }
    }
}

fn table(
    resource: &Arc<Resource>,
    items: &[Arc<Cached>],
    meta: &ListMeta,
    accept: Accept,
    objects: table::Include,
) -> Result<Body> {
    let rows = table::Rows::of_list(resource, items, objects, accept.version);
    if accept.encoding == Encoding::Json {
        let head = json!({ "kind": "Table", "apiVersion": accept.version.api_version(), "metadata": meta.tree(false), "columnDefinitions": rows.definitions() });
        let resource = resource.clone();
        let write = move |object: &Cached, out: &mut Vec<u8>| rows.write(&json_of(&resource, object)?, out);
        return Ok(json_items(&head, "rows", items.to_vec(), write));
    }
    let objects = items.iter().map(|o| json_of(resource, o)).collect::<Result<Vec<_>>>()?;
    let mut tree = table::of_included(&rows, &objects, true)?;
    tree["metadata"] = meta.tree(false);
    Ok(full(encode_tree(&tree, accept.encoding)?))
}

/// Writes an item of a list of whole objects: the cached bytes.
fn whole_item(resource: Arc<Resource>) -> impl FnMut(&Cached, &mut Vec<u8>) -> Result<()> + Send + 'static {
    let type_prefix = format!(
        "\"apiVersion\":\"{}\",\"kind\":\"{}\",",
        resource.api_version(),
        resource.kind
    );
    let strip = !resource.is_custom();
    move |object, out| {
        let bytes = json_of(&resource, object)?;
        // items of a built-in list do not repeat their type
        match bytes.get(1..).and_then(|b| b.strip_prefix(type_prefix.as_bytes())) {
            Some(rest) if strip => {
                out.push(b'{');
                out.extend_from_slice(rest);
            }
            _ => out.extend_from_slice(&bytes),
        }
        Ok(())
    }
}

/// An object whose last member is an array with one item for each cached object, streamed: memory does not grow with the
/// list. `head` has the other members.
fn json_items(
    head: &Value,
    member: &str,
    items: Vec<Arc<Cached>>,
    mut write: impl FnMut(&Cached, &mut Vec<u8>) -> Result<()> + Send + 'static,
) -> Body {
    let mut first = head.to_string();
    // the head is an object: its last character is the brace that the items go before
    first.pop();
    first.push_str(&format!(",\"{member}\":["));
    let mut rest = items.into_iter();
    let mut begun = false;
    let next = move |out: &mut Vec<u8>| {
        let Some(object) = rest.next() else { return Ok(false) };
        if begun {
            out.push(b',');
        }
        begun = true;
        write(&object, out).map(|()| true)
    };
    pieces(first.into_bytes(), next, b"]}\n".to_vec())
}

/// The same in YAML, whose members are sorted: some stand before the items, some after them.
fn yaml_items(
    mut list: Value,
    items: Vec<Arc<Cached>>,
    mut tree: impl FnMut(&Cached) -> Result<Value> + Send + 'static,
) -> Body {
    const MARK: &str = "\nitems: []\n";
    list["items"] = json!([]);
    let text = api::yaml::to_string(&list);
    let Some((before, after)) = text.split_once(MARK).filter(|_| !items.is_empty()) else {
        return full(text);
    };
    let mut rest = items.into_iter();
    let next = move |out: &mut Vec<u8>| {
        let Some(object) = rest.next() else { return Ok(false) };
        // an item looks the same in a list of its own
        let item = api::yaml::to_string(&Value::Array(vec![tree(&object)?]));
        out.extend_from_slice(item.as_bytes());
        Ok(true)
    };
    pieces(
        format!("{before}\nitems:\n").into_bytes(),
        next,
        after.as_bytes().to_vec(),
    )
}
