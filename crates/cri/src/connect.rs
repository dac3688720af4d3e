//! Clients of a runtime behind one type, whatever carries the messages.

use std::path::PathBuf;

use tonic::body::Body;
use tonic::transport::{Endpoint, Uri};
use tower::ServiceExt;
use tower::util::BoxCloneSyncService;

use crate::v1::image_service_client::ImageServiceClient;
use crate::v1::image_service_server::{ImageService, ImageServiceServer};
use crate::v1::runtime_service_client::RuntimeServiceClient;
use crate::v1::runtime_service_server::{RuntimeService, RuntimeServiceServer};

/// Why a message could not be carried. A type of its own: a boxed error here makes futures of calls fail to be `Send`.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub struct ChannelError(#[from] tonic::transport::Error);

/// What carries a client's messages.
pub type Channel = BoxCloneSyncService<http::Request<Body>, http::Response<Body>, ChannelError>;
/// Calls the `RuntimeService` of a runtime.
pub type RuntimeClient = RuntimeServiceClient<Channel>;
/// Calls the `ImageService` of a runtime.
pub type ImageClient = ImageServiceClient<Channel>;

/// Why an endpoint cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The endpoint is no `unix:///path`.
    #[error("runtime endpoint {0:?}: only unix:///path is supported")]
    Scheme(String),
}

/// CRI messages may be larger than gRPC's usual 4 MiB; upstream allows 16.
const LARGEST_MESSAGE: usize = 16 << 20;

fn clients(channel: Channel) -> (RuntimeClient, ImageClient) {
    (
        RuntimeServiceClient::new(channel.clone()).max_decoding_message_size(LARGEST_MESSAGE),
        ImageServiceClient::new(channel).max_decoding_message_size(LARGEST_MESSAGE),
    )
}

/// Clients of the runtime at `unix:///path`. Connects when first used, and again when the connection broke.
pub fn connect(endpoint: &str) -> Result<(RuntimeClient, ImageClient), ConnectError> {
    let path = endpoint.strip_prefix("unix://").filter(|p| p.starts_with('/'));
    let path = PathBuf::from(path.ok_or_else(|| ConnectError::Scheme(endpoint.to_owned()))?);
    let connector = tower::service_fn(move |_: Uri| {
        let path = path.clone();
        async move {
            tokio::net::UnixStream::connect(path)
                .await
                .map(hyper_util::rt::TokioIo::new)
        }
    });
    let channel = Endpoint::from_static("http://localhost").connect_with_connector_lazy(connector);
    Ok(clients(BoxCloneSyncService::new(channel.map_err(ChannelError::from))))
}

/// Clients of services in this process: the same messages without a socket.
pub fn local(runtime: impl RuntimeService, image: impl ImageService) -> (RuntimeClient, ImageClient) {
    let runtime = RuntimeServiceServer::new(runtime).max_decoding_message_size(LARGEST_MESSAGE);
    let image = ImageServiceServer::new(image).max_decoding_message_size(LARGEST_MESSAGE);
    (clients(boxed(runtime)).0, clients(boxed(image)).1)
}

fn boxed<S>(service: S) -> Channel
where
    S: tower::Service<http::Request<Body>, Response = http::Response<Body>, Error = std::convert::Infallible>,
    S: Clone + Send + Sync + 'static,
    S::Future: Send,
{
    BoxCloneSyncService::new(service.map_err(|never| match never {}))
}
