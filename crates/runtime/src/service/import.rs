//! What the owner of a node does with its images beside what CRI can: `skiff.runtime.v1.Images` on the same socket, to
//! import archives and to take one name from an image.

use std::convert::Infallible;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::task::{Context, Poll};

use futures::future::BoxFuture;
use http::uri::PathAndQuery;
use tonic::body::Body;
use tonic::codegen::{Service, http};
use tonic::server::{Grpc, NamedService, UnaryService};
use tonic::{Request, Response, Status};
use tonic_prost::ProstCodec;

use super::{Runtime, RuntimeError};

const IMPORT: &str = "/skiff.runtime.v1.Images/Import";
const UNTAG: &str = "/skiff.runtime.v1.Images/Untag";

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct ImportRequest {
    /// On the node.
    #[prost(string, tag = "1")]
    pub path: String,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct ImportResponse {
    /// The names of every image in the archive; of those without a name the id.
    #[prost(string, repeated, tag = "1")]
    pub images: Vec<String>,
}

#[derive(Debug, Clone)]
pub(crate) struct ImportServer(pub Arc<Runtime>);

impl NamedService for ImportServer {
    const NAME: &'static str = "skiff.runtime.v1.Images";
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct UntagRequest {
    #[prost(string, tag = "1")]
    pub image: String,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct UntagResponse {
    /// The image has other names and stays. If not, nothing was done.
    #[prost(bool, tag = "1")]
    pub untagged: bool,
}

struct Untag(Arc<Runtime>);

impl UnaryService<UntagRequest> for Untag {
    type Response = UntagResponse;
    type Future = BoxFuture<'static, Result<Response<UntagResponse>, Status>>;

    fn call(&mut self, request: Request<UntagRequest>) -> Self::Future {
        let runtime = self.0.clone();
        Box::pin(async move {
            let image = request.into_inner().image;
            let untagged = tokio::task::spawn_blocking(move || runtime.images.untag(&image)).await;
            let untagged = untagged
                .map_err(|e| Status::internal(e.to_string()))?
                .map_err(RuntimeError::from)?;
            Ok(Response::new(UntagResponse { untagged }))
        })
    }
}

struct Import(Arc<Runtime>);

impl UnaryService<ImportRequest> for Import {
    type Response = ImportResponse;
    type Future = BoxFuture<'static, Result<Response<ImportResponse>, Status>>;

    fn call(&mut self, request: Request<ImportRequest>) -> Self::Future {
        let runtime = self.0.clone();
        Box::pin(async move {
            let path = PathBuf::from(request.into_inner().path);
            let mut names = Vec::new();
            for image in runtime.import(&path).await? {
                if image.tags.is_empty() {
                    names.push(image.id);
                } else {
                    names.extend(image.tags);
                }
            }
            Ok(Response::new(ImportResponse { images: names }))
        })
    }
}

impl Service<http::Request<Body>> for ImportServer {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let runtime = self.0.clone();
        Box::pin(async move {
            Ok(match request.uri().path() {
                IMPORT => {
                    let codec = ProstCodec::<ImportResponse, ImportRequest>::default();
                    Grpc::new(codec).unary(Import(runtime), request).await
                }
                UNTAG => {
                    let codec = ProstCodec::<UntagResponse, UntagRequest>::default();
                    Grpc::new(codec).unary(Untag(runtime), request).await
                }
                _ => Status::unimplemented("").into_http(),
            })
        })
    }
}

async fn ask<Q, A>(socket: &Path, method: &'static str, question: Q) -> Result<A, Status>
where
    Q: prost::Message + 'static,
    A: prost::Message + Default + 'static,
{
    let socket = socket.to_owned();
    let connector = tower::service_fn(move |_: http::Uri| {
        let socket = socket.clone();
        async move {
            let stream = tokio::net::UnixStream::connect(socket).await;
            stream.map(hyper_util::rt::TokioIo::new)
        }
    });
    let channel = tonic::transport::Endpoint::from_static("http://localhost")
        .connect_with_connector(connector)
        .await
        .map_err(|e| Status::unavailable(e.to_string()))?;
    let mut client = tonic::client::Grpc::new(channel);
    client.ready().await.map_err(|e| Status::unavailable(e.to_string()))?;
    let codec = ProstCodec::<Q, A>::default();
    let answer = client
        .unary(Request::new(question), PathAndQuery::from_static(method), codec)
        .await?;
    Ok(answer.into_inner())
}

/// Asks the runtime at a socket to import an archive of the node; gives the names of its images.
pub async fn import(socket: &Path, archive: &Path) -> Result<Vec<String>, Status> {
    let path = archive.to_string_lossy().into_owned();
    let answer: ImportResponse = ask(socket, IMPORT, ImportRequest { path }).await?;
    Ok(answer.images)
}

/// Asks the runtime at a socket to take a name from an image that has others. Whether it did.
pub async fn untag(socket: &Path, image: &str) -> Result<bool, Status> {
    let image = image.to_owned();
    let answer: UntagResponse = ask(socket, UNTAG, UntagRequest { image }).await?;
    Ok(answer.untagged)
}
