//! Claims, volumes and attribute classes that are being deleted stay until nobody uses them: their finalizers go then.

mod attributes_class;
mod claim;
mod volume;

use std::time::Duration;

use api::object::Object;
use client::{Client, WorkQueue};
use http::Method;
use serde_json::{Value, json};

pub(crate) use attributes_class::run as run_attributes_class;
pub(crate) use claim::run as run_claim;
pub(crate) use volume::run as run_volume;

use crate::Error;
use crate::error::decode;
use crate::status::path_of;

/// What an object's finalizer needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Need {
    Nothing,
    /// It was made before there was an admission plugin.
    Add,
    /// It goes if nobody uses the object.
    Judge,
}

fn need(object: &Object, finalizer: &str) -> Need {
    let has = object.meta.finalizers.iter().any(|f| **f == *finalizer);
    match (object.meta.deleting, has) {
        (true, true) => Need::Judge,
        (false, false) => Need::Add,
        _ => Need::Nothing,
    }
}

/// Writes the object as it was read, with the finalizer or without it.
async fn set(client: &Client, object: &Object, finalizer: &str, on: bool) -> Result<Option<Duration>, Error> {
    let mut tree: Value = decode(object)?;
    let list = tree["metadata"]["finalizers"].as_array().cloned().unwrap_or_default();
    let mut list: Vec<Value> = list.into_iter().filter(|f| f != finalizer).collect();
    if on {
        list.push(json!(finalizer));
    }
    tree["metadata"]["finalizers"] = list.into();
    match client
        .json::<Value>(Method::PUT, &path_of(object)?, &[], Some(&tree))
        .await
    {
        Err(error) if error.is_not_found() => Ok(None),
        other => other.map(|_| None).map_err(Error::from),
    }
}

/// Queues an object whose finalizer needs something.
fn queue_if_needed(queue: &WorkQueue<String>, object: Option<&Object>, finalizer: &str) {
    if let Some(object) = object
        && need(object, finalizer) != Need::Nothing
    {
        queue.add(object.key());
    }
}
