//! Import of archives into a running runtime: one call beside CRI's on the same socket, `skiff.runtime.v1.Images/Import`.

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

use super::Runtime;

const METHOD: &str = "/skiff.runtime.v1.Images/Import";

#[derive(Clone, PartialEq, prost::Message)]
pub struct ImportRequest {
    /// On the node.
    #[prost(string, tag = "1")]
    pub path: String,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct ImportResponse {
    /// The names of every image in the archive; of those without a name the id.
    #[prost(string, repeated, tag = "1")]
    pub images: Vec<String>,
}

#[derive(Debug, Clone)]
pub struct ImportServer(pub Arc<Runtime>);

impl NamedService for ImportServer {
    const NAME: &'static str = "skiff.runtime.v1.Images";
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
            if request.uri().path() != METHOD {
                return Ok(Status::unimplemented("").into_http());
            }
            let codec = ProstCodec::<ImportResponse, ImportRequest>::default();
            Ok(Grpc::new(codec).unary(Import(runtime), request).await)
        })
    }
}

/// Asks the runtime at a socket to import an archive of the node; gives the names of its images.
pub async fn import(socket: &Path, archive: &Path) -> Result<Vec<String>, Status> {
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
    let request = ImportRequest {
        path: archive.to_string_lossy().into_owned(),
    };
    let codec = ProstCodec::<ImportRequest, ImportResponse>::default();
    let answer = client
        .unary(Request::new(request), PathAndQuery::from_static(METHOD), codec)
        .await?;
    Ok(answer.into_inner().images)
}
