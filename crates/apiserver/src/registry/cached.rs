//! One stored version of an object as the watch cache holds it, and its encodings.

use std::io;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use api::go;
use api::object::{Meta, Object};
use api::schema::structural::Nulls;
use bytes::Bytes;
use serde::Serialize;
use serde_json::Value;
use serde_json::ser::Formatter;
use smallvec::SmallVec;

use crate::http::status::{ApiError, Result};
use crate::registry::resource::Resource;

/// Values of the fields that a resource's field selectors know, in the order of its `selectable_stored` list.
pub type Fields = SmallVec<[Box<str>; 4]>;

/// An object with what selectors ask for and, once somebody wanted it, its protobuf form.
#[derive(Debug)]
pub struct Cached {
    pub object: Arc<Object>,
    pub fields: Fields,
    /// Where in `object.bytes` the digits of the resourceVersion begin.
    revision_at: u32,
    protobuf: OnceLock<Bytes>,
    forms: Forms,
}

/// An object in a version that a webhook has converted it to: other fields, and labels may differ too.
#[derive(Debug)]
pub struct Form {
    version: Box<str>,
    pub object: Arc<Object>,
    pub fields: Fields,
}

type Forms = Mutex<Option<Box<Vec<Arc<Form>>>>>;

/// What a writer knows of the object before its revision is assigned; spares the cache parsing the bytes.
#[derive(Debug, Clone)]
pub struct Prepared {
    pub meta: Meta,
    pub fields: Fields,
    pub revision_at: u32,
}

/// Canonical JSON without the digits of its resourceVersion.
#[derive(Debug)]
pub struct Encoded {
    pub bytes: Bytes,
    pub prepared: Prepared,
}

const REVISION: &str = "\"resourceVersion\":\"";

impl Encoded {
    /// Writes the canonical form of a tree: `apiVersion` and `kind` first, then its fields sorted by name,
    /// with room for the resourceVersion.
    pub fn of(resource: &Resource, tree: &mut Value) -> Result<Encoded> {
        let fields = resource.selectable_values(tree);
        let object = tree
            .as_object_mut()
            .ok_or_else(|| ApiError::internal("object is not a JSON object"))?;
        if let Some(meta) = object.get_mut("metadata").and_then(Value::as_object_mut) {
            meta.remove("selfLink");
            meta.insert("resourceVersion".into(), Value::String(String::new()));
        } else {
            return Err(ApiError::internal("object has no metadata"));
        }
        let mut out = Vec::with_capacity(1024);
        write_canonical(tree, &mut out)?;
        let bytes = Bytes::from(out);
        let revision_at = find_revision(&bytes)?;
        let prepared = Prepared {
            meta: Meta::of(tree).map_err(ApiError::internal)?,
            fields,
            revision_at,
        };
        Ok(Encoded { bytes, prepared })
    }

    /// The put of this object.
    pub fn value(&self) -> etcd::Value {
        etcd::Value::Stamped {
            bytes: self.bytes.clone(),
            at: self.prepared.revision_at as usize,
        }
    }

    /// The object as it will be at `revision`, without storing it.
    pub fn at(&self, revision: Option<u64>) -> Cached {
        match revision {
            Some(revision) => Cached::from_prepared(&self.prepared, self.value().stamp(revision), revision),
            None => {
                // what is not stored has no resourceVersion
                let at = self.prepared.revision_at as usize;
                let (mut start, mut end) = (at - REVISION.len(), at + 1);
                if self.bytes.get(end) == Some(&b',') {
                    end += 1;
                } else if self.bytes.get(start - 1) == Some(&b',') {
                    start -= 1;
                }
                let bytes = [&self.bytes[..start], &self.bytes[end..]].concat();
                Cached::from_prepared(&self.prepared, bytes.into(), 0)
            }
        }
    }
}

/// `apiVersion`, `kind` and `metadata` first, then the other fields sorted by name.
pub fn write_canonical(tree: &Value, out: &mut Vec<u8>) -> Result<()> {
    let object = tree
        .as_object()
        .ok_or_else(|| ApiError::internal("object is not a JSON object"))?;
    const FIRST: [&str; 3] = ["apiVersion", "kind", "metadata"];
    let first = FIRST.iter().filter_map(|key| object.get_key_value(*key));
    let rest = object.iter().filter(|(key, _)| !FIRST.contains(&key.as_str()));
    out.push(b'{');
    for (i, (key, value)) in first.chain(rest).enumerate() {
        if i > 0 {
            out.push(b',');
        }
        serde_json::to_writer(&mut *out, key).map_err(ApiError::internal)?;
        out.push(b':');
        let mut writer = serde_json::Serializer::with_formatter(&mut *out, GoNumbers);
        value.serialize(&mut writer).map_err(ApiError::internal)?;
    }
    out.push(b'}');
    Ok(())
}

/// Compact JSON whose numbers are written as Go writes them.
struct GoNumbers;

impl Formatter for GoNumbers {
    fn write_f64<W: ?Sized + io::Write>(&mut self, writer: &mut W, value: f64) -> io::Result<()> {
        writer.write_all(go::json_float(value).as_bytes())
    }

    fn write_u64<W: ?Sized + io::Write>(&mut self, writer: &mut W, value: u64) -> io::Result<()> {
        match i64::try_from(value) {
            Ok(value) => self.write_i64(writer, value),
            Err(_) => self.write_f64(writer, value as f64),
        }
    }
}

/// `metadata` stands before every field of the kind, and within it only maps of strings can hold the same text, escaped.
fn find_revision(bytes: &[u8]) -> Result<u32> {
    let at = bytes
        .windows(REVISION.len())
        .position(|w| w == REVISION.as_bytes())
        .ok_or_else(|| ApiError::internal("object has no resourceVersion"))?;
    u32::try_from(at + REVISION.len()).map_err(ApiError::internal)
}

impl Cached {
    /// The object as its writer prepared it, at the revision it got.
    pub fn from_prepared(prepared: &Prepared, bytes: Bytes, revision: u64) -> Cached {
        let meta = Meta {
            resource_version: revision,
            ..prepared.meta.clone()
        };
        Cached {
            object: Arc::new(Object { meta, bytes }),
            fields: prepared.fields.clone(),
            revision_at: prepared.revision_at,
            protobuf: OnceLock::new(),
            forms: Forms::default(),
        }
    }

    /// Reads an object back from the store.
    pub fn from_store(resource: &Resource, bytes: Bytes) -> Result<Cached> {
        let mut tree: Value = serde_json::from_slice(&bytes).map_err(ApiError::internal)?;
        let mut bytes = bytes;
        // what is stored in another version is as that version wants it, until it is written again
        let current = tree.get("apiVersion").and_then(Value::as_str) == Some(&resource.stored_as);
        if resource.is_custom() && current {
            // the schema may have changed since: what it does not know is gone, what it adds is there
            let schema = resource.schema.get();
            let decoded = schema.decode_custom(tree.clone(), Nulls::Dropped);
            let mut now = decoded.map_err(ApiError::internal)?.value;
            schema.set_defaults(resource.root, &mut now);
            if now != tree {
                let mut out = Vec::with_capacity(bytes.len() + 64);
                write_canonical(&now, &mut out)?;
                (tree, bytes) = (now, out.into());
            }
        }
        let fields = resource.selectable_values(&tree);
        let revision_at = find_revision(&bytes)?;
        let object = Object::parse(bytes).map_err(ApiError::internal)?;
        Ok(Cached {
            object,
            fields,
            revision_at,
            protobuf: OnceLock::new(),
            forms: Forms::default(),
        })
    }

    /// The same object under another resourceVersion: what a deletion reports.
    pub fn restamped(&self, revision: u64) -> Cached {
        let at = self.revision_at as usize;
        let bytes = &self.object.bytes;
        let end = at + bytes[at..].iter().take_while(|b| b.is_ascii_digit()).count();
        let mut out = Vec::with_capacity(bytes.len() + 4);
        out.extend_from_slice(&bytes[..at]);
        out.extend_from_slice(revision.to_string().as_bytes());
        out.extend_from_slice(&bytes[end..]);
        Cached {
            object: Arc::new(Object {
                meta: Meta {
                    resource_version: revision,
                    ..self.object.meta.clone()
                },
                bytes: Bytes::from(out),
            }),
            fields: self.fields.clone(),
            revision_at: self.revision_at,
            protobuf: OnceLock::new(),
            forms: Forms::default(),
        }
    }

    /// The object in a version that it was converted to.
    pub fn form(&self, version: &str) -> Option<Arc<Form>> {
        let forms = self.forms.lock().unwrap_or_else(PoisonError::into_inner);
        let mut all = forms.iter().flat_map(|all| all.iter());
        all.find(|form| *form.version == *version).cloned()
    }

    /// Keeps what a webhook made of the object for the version of a resource.
    ///
    /// # Errors
    /// When that is no object.
    pub fn keep_form(&self, resource: &Resource, tree: &Value) -> Result<()> {
        let mut out = Vec::with_capacity(self.object.bytes.len() + 64);
        write_canonical(tree, &mut out)?;
        let form = Form {
            version: resource.version.as_str().into(),
            object: Object::parse(out.into()).map_err(ApiError::internal)?,
            fields: resource.selectable_values(tree),
        };
        let mut forms = self.forms.lock().unwrap_or_else(PoisonError::into_inner);
        let forms = forms.get_or_insert_default();
        if forms.iter().all(|kept| kept.version != form.version) {
            forms.push(Arc::new(form));
        }
        Ok(())
    }

    /// The revision that it was written at.
    pub fn revision(&self) -> u64 {
        self.object.meta.resource_version
    }

    /// The object as a tree.
    pub fn tree(&self) -> Result<Value> {
        serde_json::from_slice(&self.object.bytes).map_err(ApiError::internal)
    }

    /// The object's own protobuf message, made once.
    pub fn protobuf(&self, resource: &Resource) -> Result<Bytes> {
        if let Some(done) = self.protobuf.get() {
            return Ok(done.clone());
        }
        let made = resource.encode_protobuf(&self.tree()?)?;
        Ok(self.protobuf.get_or_init(|| made).clone())
    }
}

/// A change of one object.
#[derive(Debug)]
pub struct Change {
    pub revision: u64,
    /// The object after the change; for a deletion, its last state under the deletion's revision.
    pub current: Arc<Cached>,
    pub previous: Option<Arc<Cached>>,
    pub deleted: bool,
    /// The JSON watch frame of this change for a watcher whose selector does not change the event's type.
    pub(super) frame: OnceLock<Bytes>,
}

impl Change {
    /// The type of the event for a watch that selects all objects.
    pub fn natural_type(&self) -> &'static str {
        match (self.deleted, &self.previous) {
            (true, _) => "DELETED",
            (false, None) => "ADDED",
            (false, Some(_)) => "MODIFIED",
        }
    }

    /// `{"type":...,"object":...}` and a line end, encoded once for all watchers.
    pub fn json_frame(&self) -> Bytes {
        self.frame
            .get_or_init(|| json_frame(self.natural_type(), &self.current.object.bytes))
            .clone()
    }
}

/// One JSON watch event.
pub fn json_frame(kind: &str, object: &[u8]) -> Bytes {
    let mut out = Vec::with_capacity(object.len() + 40);
    out.extend_from_slice(b"{\"type\":\"");
    out.extend_from_slice(kind.as_bytes());
    out.extend_from_slice(b"\",\"object\":");
    out.extend_from_slice(object);
    out.extend_from_slice(b"}\n");
    Bytes::from(out)
}
