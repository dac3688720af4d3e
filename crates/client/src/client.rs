//! Requests to the API, typed by `k8s_openapi` or by path.

use std::sync::Arc;

use bytes::Bytes;
use futures::stream::BoxStream;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::BodyExt;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ListMeta, ObjectMeta, Status};
use k8s_openapi::{Metadata, Resource};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::{Body, Error, ListWatch, Result, Transport, WatchEvent};

/// Everything but RFC 3986's unreserved characters.
const QUERY: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// A text as a part of a path or of a query.
pub fn encode(text: &str) -> String {
    utf8_percent_encode(text, QUERY).to_string()
}

/// What a component asks the API through. Cheap to clone.
#[derive(Clone)]
pub struct Client {
    transport: Arc<dyn Transport>,
    user_agent: Arc<str>,
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client")
            .field("user_agent", &self.user_agent)
            .finish_non_exhaustive()
    }
}

/// Which objects to list.
#[derive(Debug, Clone, Default)]
pub struct ListParams {
    /// Only objects whose labels this selects.
    pub label_selector: Option<String>,
    /// Only objects whose fields this selects.
    pub field_selector: Option<String>,
    /// How many objects at most.
    pub limit: Option<u32>,
    /// Where the list before this one ended.
    pub continue_: Option<String>,
    /// `Some("0")` accepts the server's cache; `None` asks for the newest state.
    pub resource_version: Option<String>,
}

impl ListParams {
    fn query(&self) -> Vec<(&'static str, String)> {
        let limit = self.limit.map(|l| l.to_string());
        [
            ("labelSelector", &self.label_selector),
            ("fieldSelector", &self.field_selector),
            ("limit", &limit),
            ("continue", &self.continue_),
            ("resourceVersion", &self.resource_version),
        ]
        .into_iter()
        .filter_map(|(k, v)| v.clone().map(|v| (k, v)))
        .collect()
    }
}

/// `DeleteOptions`.
#[derive(Debug, Clone, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct DeleteParams {
    /// Seconds that the object has to end by itself; 0 for none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub grace_period_seconds: Option<i64>,
    /// `Foreground`, `Background` or `Orphan`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub propagation_policy: Option<String>,
    /// Nothing is deleted where these do not hold.
    #[serde(skip_serializing_if = "Preconditions::is_empty")]
    pub preconditions: Preconditions,
}

/// What the object must still be for a deletion to happen.
#[derive(Debug, Clone, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Preconditions {
    /// The object's uid.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub uid: Option<String>,
    /// The object's version.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resource_version: Option<String>,
}

impl Preconditions {
    fn is_empty(&self) -> bool {
        self.uid.is_none() && self.resource_version.is_none()
    }
}

impl DeleteParams {
    /// Deletes now, and only the object with this uid.
    pub fn now(uid: impl Into<String>) -> DeleteParams {
        DeleteParams {
            grace_period_seconds: Some(0),
            ..DeleteParams::uid(uid)
        }
    }

    /// Deletes only the object with this uid.
    pub fn uid(uid: impl Into<String>) -> DeleteParams {
        DeleteParams {
            preconditions: Preconditions {
                uid: Some(uid.into()),
                resource_version: None,
            },
            ..DeleteParams::default()
        }
    }

    /// Deletes what depends on the object in this way.
    pub fn propagation(policy: &str) -> DeleteParams {
        DeleteParams {
            propagation_policy: Some(policy.to_owned()),
            ..DeleteParams::default()
        }
    }
}

/// A change of an object, of one of the four kinds.
#[derive(Debug, Clone)]
pub enum Patch<T> {
    /// A list of operations (RFC 6902).
    Json(T),
    /// A part of the object, whose nulls remove (RFC 7386).
    Merge(T),
    /// A part of the object, whose lists are merged as the kind has it.
    Strategic(T),
    /// Server-side apply in the name of a field manager.
    Apply {
        /// The field manager.
        manager: String,
        /// Takes fields over that other managers have set.
        force: bool,
        /// The fields that the manager wants.
        object: T,
    },
}

impl<T: Serialize> Patch<T> {
    fn parts(&self) -> (&'static str, &T, Vec<(&'static str, String)>) {
        match self {
            Patch::Json(t) => ("application/json-patch+json", t, vec![]),
            Patch::Merge(t) => ("application/merge-patch+json", t, vec![]),
            Patch::Strategic(t) => ("application/strategic-merge-patch+json", t, vec![]),
            Patch::Apply { manager, force, object } => (
                "application/apply-patch+yaml",
                object,
                vec![("fieldManager", manager.clone()), ("force", force.to_string())],
            ),
        }
    }
}

/// A list as the server answers it.
#[derive(Debug, Clone, Deserialize)]
#[serde(bound = "T: DeserializeOwned")]
pub struct ApiList<T> {
    /// The list's resource version, and where it goes on.
    pub metadata: ListMeta,
    /// The objects.
    #[serde(default = "Vec::new", deserialize_with = "null_as_empty")]
    pub items: Vec<T>,
}

fn null_as_empty<'de, D: serde::Deserializer<'de>, T: Deserialize<'de>>(d: D) -> std::result::Result<Vec<T>, D::Error> {
    Ok(Option::deserialize(d)?.unwrap_or_default())
}

/// The path of a collection; `namespace` is empty for cluster-scoped kinds and for all namespaces.
fn collection<K: Resource>(namespace: &str) -> String {
    let group = if K::GROUP.is_empty() {
        "/api".to_owned()
    } else {
        format!("/apis/{}", K::GROUP)
    };
    let scope = if namespace.is_empty() {
        String::new()
    } else {
        format!("/namespaces/{namespace}")
    };
    format!("{group}/{}{scope}/{}", K::VERSION, K::URL_PATH_SEGMENT)
}

impl Client {
    /// A client that talks through `transport` and calls itself `user_agent`.
    pub fn new(transport: Arc<dyn Transport>, user_agent: &str) -> Client {
        Client {
            transport,
            user_agent: user_agent.into(),
        }
    }

    /// The same way to the server under another name.
    pub fn with_user_agent(&self, user_agent: &str) -> Client {
        Client {
            transport: self.transport.clone(),
            user_agent: user_agent.into(),
        }
    }

    /// What the client calls itself.
    pub fn user_agent(&self) -> &str {
        &self.user_agent
    }

    /// Follows a collection; see [`Transport::list_watch`].
    pub fn list_watch(&self, request: ListWatch) -> BoxStream<'static, WatchEvent> {
        self.transport.list_watch(request)
    }

    /// The collection of a kind, to be followed. An empty namespace means all.
    pub fn collection<K: Resource>(namespace: &str) -> ListWatch {
        ListWatch::path(collection::<K>(namespace))
    }

    /// Sends a request as it is and gives the answer, whatever its status, with the body still to be read.
    pub async fn send(&self, mut request: Request<Bytes>) -> Result<Response<Body>> {
        if let Ok(agent) = header::HeaderValue::from_str(&self.user_agent) {
            request.headers_mut().entry(header::USER_AGENT).or_insert(agent);
        }
        self.transport.call(request).await
    }

    /// Sends a request and gives the body of a successful answer. `content_type` goes with a body that is not empty.
    pub async fn raw(
        &self,
        method: Method,
        path: &str,
        query: &[(&str, String)],
        content_type: &str,
        body: Bytes,
    ) -> Result<Bytes> {
        let mut uri = path.to_owned();
        for (i, (k, v)) in query.iter().enumerate() {
            uri.push(if i == 0 && !path.contains('?') { '?' } else { '&' });
            uri.push_str(k);
            uri.push('=');
            uri.push_str(&encode(v));
        }
        let mut request = Request::builder()
            .method(method.clone())
            .uri(&uri)
            .header(header::ACCEPT, "application/json");
        if !body.is_empty() {
            request = request.header(header::CONTENT_TYPE, content_type);
        }
        let response = self.send(request.body(body)?).await?;
        read_all(method.as_str(), &uri, response).await
    }

    /// A request with an optional JSON body and a JSON answer, by path: for kinds without a Rust type.
    pub async fn json<R: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        query: &[(&str, String)],
        body: Option<&impl Serialize>,
    ) -> Result<R> {
        let body = match body {
            Some(body) => Bytes::from(serde_json::to_vec(body).map_err(|source| Error::Encode {
                what: "request",
                source,
            })?),
            None => Bytes::new(),
        };
        let answer = self.raw(method, path, query, "application/json", body).await?;
        serde_json::from_slice(&answer).map_err(|source| Error::Decode {
            path: path.to_owned(),
            source,
        })
    }

    /// A document in a form of its own.
    pub async fn document<R: DeserializeOwned>(&self, path: &str, accept: &str) -> Result<R> {
        let request = Request::builder().uri(path).header(header::ACCEPT, accept);
        let response = self.send(request.body(Bytes::new())?).await?;
        let answer = read_all("GET", path, response).await?;
        serde_json::from_slice(&answer).map_err(|source| Error::Decode {
            path: path.to_owned(),
            source,
        })
    }

    /// Returns an object.
    ///
    /// # Errors
    /// Those of [`Error`]; `is_not_found` when there is none.
    pub async fn get<K: Resource + DeserializeOwned>(&self, namespace: &str, name: &str) -> Result<K> {
        self.json(
            Method::GET,
            &format!("{}/{name}", collection::<K>(namespace)),
            &[],
            None::<&()>,
        )
        .await
    }

    /// Returns the objects of a collection.
    pub async fn list<K: Resource + DeserializeOwned>(
        &self,
        namespace: &str,
        params: &ListParams,
    ) -> Result<ApiList<K>> {
        self.json(Method::GET, &collection::<K>(namespace), &params.query(), None::<&()>)
            .await
    }

    /// Creates the object in its own namespace.
    pub async fn create<K>(&self, object: &K) -> Result<K>
    where
        K: Resource + Metadata<Ty = ObjectMeta> + Serialize + DeserializeOwned,
    {
        let namespace = object.metadata().namespace.as_deref().unwrap_or_default();
        self.json(Method::POST, &collection::<K>(namespace), &[], Some(object))
            .await
    }

    /// Replaces the object; with a `resourceVersion` in it only that version.
    pub async fn update<K>(&self, object: &K) -> Result<K>
    where
        K: Resource + Metadata<Ty = ObjectMeta> + Serialize + DeserializeOwned,
    {
        self.json(Method::PUT, &path_of(object)?, &[], Some(object)).await
    }

    /// Replaces the object's status.
    pub async fn update_status<K>(&self, object: &K) -> Result<K>
    where
        K: Resource + Metadata<Ty = ObjectMeta> + Serialize + DeserializeOwned,
    {
        self.json(Method::PUT, &format!("{}/status", path_of(object)?), &[], Some(object))
            .await
    }

    /// Patches an object, and returns what became of it.
    pub async fn patch<K: Resource + DeserializeOwned>(
        &self,
        namespace: &str,
        name: &str,
        patch: &Patch<impl Serialize>,
    ) -> Result<K> {
        self.patch_path(&format!("{}/{name}", collection::<K>(namespace)), patch)
            .await
    }

    /// Patches an object's status, and returns what became of it.
    pub async fn patch_status<K: Resource + DeserializeOwned>(
        &self,
        namespace: &str,
        name: &str,
        patch: &Patch<impl Serialize>,
    ) -> Result<K> {
        self.patch_path(&format!("{}/{name}/status", collection::<K>(namespace)), patch)
            .await
    }

    /// Patches whatever is at a path.
    pub async fn patch_path<R: DeserializeOwned>(&self, path: &str, patch: &Patch<impl Serialize>) -> Result<R> {
        let (content_type, body, query) = patch.parts();
        let body = serde_json::to_vec(body).map_err(|source| Error::Encode { what: "patch", source })?;
        let answer = self.raw(Method::PATCH, path, &query, content_type, body.into()).await?;
        serde_json::from_slice(&answer).map_err(|source| Error::Decode {
            path: path.to_owned(),
            source,
        })
    }

    /// Deletes an object, or begins to.
    pub async fn delete<K: Resource>(&self, namespace: &str, name: &str, params: &DeleteParams) -> Result<()> {
        self.delete_path(&format!("{}/{name}", collection::<K>(namespace)), params)
            .await
    }

    /// Deletes whatever is at a path.
    pub async fn delete_path(&self, path: &str, params: &DeleteParams) -> Result<()> {
        let body = serde_json::to_vec(params).map_err(|source| Error::Encode {
            what: "delete options",
            source,
        })?;
        self.raw(Method::DELETE, path, &[], "application/json", body.into())
            .await?;
        Ok(())
    }

    /// Posts to a subresource, such as `token`, `eviction` or `binding`.
    pub async fn create_subresource<K: Resource, R: DeserializeOwned>(
        &self,
        namespace: &str,
        name: &str,
        subresource: &str,
        body: &impl Serialize,
    ) -> Result<R> {
        let path = format!("{}/{name}/{subresource}", collection::<K>(namespace));
        self.json(Method::POST, &path, &[], Some(body)).await
    }
}

fn path_of<K: Resource + Metadata<Ty = ObjectMeta>>(object: &K) -> Result<String> {
    let meta = object.metadata();
    let name = meta.name.as_deref().ok_or(Error::NoName(K::KIND))?;
    Ok(format!(
        "{}/{name}",
        collection::<K>(meta.namespace.as_deref().unwrap_or_default())
    ))
}

/// The body of a successful answer; the error in an unsuccessful one.
pub(crate) async fn read_all(method: &str, path: &str, response: Response<Body>) -> Result<Bytes> {
    if !response.status().is_success() {
        return Err(error_of(method, path, response).await);
    }
    Ok(response.into_body().collect().await?.to_bytes())
}

/// The error that an unsuccessful answer is.
pub async fn error_of(method: &str, path: &str, response: Response<Body>) -> Error {
    let code = response.status();
    let body = match response.into_body().collect().await {
        Ok(body) => body.to_bytes(),
        Err(error) => return error,
    };
    status_error(method, path, code, &body)
}

fn status_error(method: &str, path: &str, code: StatusCode, body: &[u8]) -> Error {
    match serde_json::from_slice::<Status>(body) {
        Ok(mut status) if status.status.is_some() => {
            status.code.get_or_insert(i32::from(code.as_u16()));
            Error::Api(Box::new(status))
        }
        _ => {
            let body = String::from_utf8_lossy(body).chars().take(1024).collect();
            Error::Http {
                method: method.to_owned(),
                path: path.to_owned(),
                code: code.as_u16(),
                body,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::api::apps::v1::Deployment;
    use k8s_openapi::api::core::v1::{Node, Pod};

    #[test]
    fn collections_have_the_paths_of_kubernetes() {
        assert_eq!(collection::<Pod>("a"), "/api/v1/namespaces/a/pods");
        assert_eq!(collection::<Pod>(""), "/api/v1/pods");
        assert_eq!(collection::<Node>(""), "/api/v1/nodes");
        assert_eq!(collection::<Deployment>("a"), "/apis/apps/v1/namespaces/a/deployments");
    }

    #[test]
    fn a_status_body_becomes_an_api_error() {
        let body = br#"{"kind":"Status","apiVersion":"v1","status":"Failure","reason":"NotFound","message":"pods \"x\" not found","code":404}"#;
        let error = status_error("GET", "/x", StatusCode::NOT_FOUND, body);
        assert!(error.is_not_found() && !error.is_conflict());
        assert_eq!(error.to_string(), "pods \"x\" not found");
        let error = status_error("GET", "/x", StatusCode::BAD_GATEWAY, b"oops");
        assert_eq!(error.to_string(), "GET /x: http status 502: oops");
        assert!(error.is_transient());
    }

    #[test]
    fn delete_options_carry_only_what_was_asked() {
        assert_eq!(serde_json::to_string(&DeleteParams::default()).unwrap(), "{}");
        assert_eq!(
            serde_json::to_string(&DeleteParams::now("u")).unwrap(),
            r#"{"gracePeriodSeconds":0,"preconditions":{"uid":"u"}}"#
        );
    }
}
