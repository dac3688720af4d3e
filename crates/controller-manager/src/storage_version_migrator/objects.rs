//! The objects of a resource as a migration sees them: by name and resourceVersion, and written without a change.

use bytes::Bytes;
use client::Client;
use http::Method;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::Error;
use crate::discovery::ServedResource;

const MANAGER: &str = "storage-version-migrator-controller";
/// Objects that are asked for at once.
const PAGE: usize = 500;
const METADATA: &str = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1";

#[derive(Deserialize)]
struct List {
    metadata: ListMeta,
    #[serde(default)]
    items: Vec<Item>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ListMeta {
    #[serde(default)]
    resource_version: String,
    #[serde(default, rename = "continue")]
    next: String,
}

#[derive(Deserialize)]
struct Item {
    metadata: Place,
}

/// Where an object is, and since when it is as it is.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Place {
    #[serde(default)]
    namespace: Box<str>,
    name: Box<str>,
    resource_version: Box<str>,
}

/// The objects of a resource.
pub(super) struct Found {
    pub total: usize,
    pub old: Vec<Place>,
}

async fn page(client: &Client, resource: &ServedResource, limit: usize, next: &str) -> Result<List, Error> {
    let mut uri = format!("{}?limit={limit}", resource.collection(""));
    if !next.is_empty() {
        uri.push_str(&format!("&continue={next}"));
    }
    Ok(client.document(&uri, METADATA).await?)
}

/// The resourceVersion of now.
pub(super) async fn newest(client: &Client, resource: &ServedResource) -> Result<String, Error> {
    Ok(page(client, resource, 1, "").await?.metadata.resource_version)
}

/// The objects that have not been written after a resourceVersion.
pub(super) async fn written_until(client: &Client, resource: &ServedResource, until: u64) -> Result<Found, Error> {
    let (mut next, mut found) = (
        String::new(),
        Found {
            total: 0,
            old: Vec::new(),
        },
    );
    loop {
        let list = page(client, resource, PAGE, &next).await?;
        found.total += list.items.len();
        let items = list.items.into_iter().map(|item| item.metadata);
        found
            .old
            .extend(items.filter(|place| place.resource_version.parse().is_ok_and(|at: u64| at <= until)));
        next = list.metadata.next;
        if next.is_empty() {
            return Ok(found);
        }
    }
}

/// Writes an object, if it is as it was, without a change: the server stores it in the version of now.
pub(super) async fn rewrite(client: &Client, resource: &ServedResource, place: &Place) -> Result<(), client::Error> {
    let body: Value = json!({ "apiVersion": resource.api_version(), "kind": resource.kind,
        "metadata": { "resourceVersion": place.resource_version } });
    let path = resource.object(&place.namespace, &place.name);
    let manager = [("fieldManager", MANAGER.to_owned())];
    let body = Bytes::from(body.to_string());
    client
        .raw(Method::PATCH, &path, &manager, "application/merge-patch+json", body)
        .await?;
    Ok(())
}
