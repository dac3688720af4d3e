//! The runtime on a unix socket, and for callers in the same process.

use std::path::Path;
use std::sync::Arc;

use cri::v1::image_service_server::ImageServiceServer;
use cri::v1::runtime_service_server::RuntimeServiceServer;
use cri::{ImageClient, RuntimeClient};
use tokio::net::UnixListener;
use tokio_stream::wrappers::UnixListenerStream;

use super::Runtime;
use super::error::{Result, RuntimeError, at};
use super::import::ImportServer;
use super::runtime_service::Service;

/// CRI messages may be larger than gRPC's usual 4 MiB; upstream allows 16.
const LARGEST_MESSAGE: usize = 16 << 20;

/// Answers CRI on the socket until `stopped` ends. A socket that an earlier process left is replaced.
pub async fn serve(runtime: Arc<Runtime>, path: &Path, stopped: impl Future<Output = ()>) -> Result<()> {
    if let Some(dir) = path.parent() {
        std::fs::create_dir_all(dir).map_err(at(dir))?;
    }
    match std::fs::remove_file(path) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(at(path)(e)),
        _ => {}
    }
    let listener = UnixListener::bind(path).map_err(at(path))?;
    // Whoever may speak here is root on the node.
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).map_err(at(path))?;
    let import = ImportServer(runtime.clone());
    let service = Service(runtime);
    tonic::transport::Server::builder()
        .add_service(RuntimeServiceServer::new(service.clone()).max_decoding_message_size(LARGEST_MESSAGE))
        .add_service(ImageServiceServer::new(service).max_decoding_message_size(LARGEST_MESSAGE))
        .add_service(import)
        .serve_with_incoming_shutdown(UnixListenerStream::new(listener), stopped)
        .await
        .map_err(|e| RuntimeError::Shim(format!("serve CRI on {}: {e}", path.display())))
}

impl Runtime {
    /// Clients in this process: the same messages without a socket.
    pub fn clients(self: &Arc<Self>) -> (RuntimeClient, ImageClient) {
        let service = Service(self.clone());
        cri::local(service.clone(), service)
    }
}
