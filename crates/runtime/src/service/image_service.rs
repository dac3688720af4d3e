//! CRI's ImageService over the store.

use cri::v1;
use cri::v1::image_service_server::ImageService;
use futures::stream::{self, BoxStream, StreamExt};
use tonic::{Request, Response, Status};

use super::error::RuntimeError;
use super::runtime_service::Service;
use super::stats;
use crate::image::store::Image;
use crate::registry::Credentials;

type Answer<T> = Result<Response<T>, Status>;

fn to_cri(image: &Image) -> v1::Image {
    let user = image.settings.user.split(':').next().unwrap_or_default();
    let uid = user.parse::<i64>().ok();
    v1::Image {
        id: image.id.clone(),
        repo_tags: image.tags.clone(),
        repo_digests: image.digests.clone(),
        size: image.size,
        username: if uid.is_some() { String::new() } else { user.to_owned() },
        uid: uid.map(|value| v1::Int64Value { value }),
        spec: Some(v1::ImageSpec {
            image: image.id.clone(),
            ..Default::default()
        }),
        pinned: image.pinned,
    }
}

impl Service {
    fn images(&self, filter: Option<v1::ImageFilter>) -> Vec<v1::Image> {
        let name = filter.and_then(|f| f.image).map(|i| i.image).unwrap_or_default();
        if name.is_empty() {
            self.0.images.list().iter().map(to_cri).collect()
        } else {
            self.0.images.find(&name).iter().map(to_cri).collect()
        }
    }
}

fn wanted(spec: Option<v1::ImageSpec>) -> Result<String, Status> {
    let name = spec.map(|s| s.image).unwrap_or_default();
    if name.is_empty() {
        return Err(Status::invalid_argument("image is not set"));
    }
    Ok(name)
}

#[tonic::async_trait]
impl ImageService for Service {
    async fn list_images(&self, request: Request<v1::ListImagesRequest>) -> Answer<v1::ListImagesResponse> {
        let images = self.images(request.into_inner().filter);
        Ok(Response::new(v1::ListImagesResponse { images }))
    }

    async fn stream_images(
        &self,
        request: Request<v1::StreamImagesRequest>,
    ) -> Answer<BoxStream<'static, Result<v1::StreamImagesResponse, Status>>> {
        let images = self.images(request.into_inner().filter);
        let whole = v1::StreamImagesResponse { images };
        Ok(Response::new(stream::iter([Ok(whole)]).boxed()))
    }

    async fn image_status(&self, request: Request<v1::ImageStatusRequest>) -> Answer<v1::ImageStatusResponse> {
        let request = request.into_inner();
        let image = self.0.images.find(&wanted(request.image)?);
        let mut info = std::collections::HashMap::new();
        if let (true, Some(image)) = (request.verbose, &image) {
            let text = serde_json::to_string(&image.settings).map_err(|e| Status::internal(e.to_string()))?;
            info.insert("info".to_owned(), text);
        }
        Ok(Response::new(v1::ImageStatusResponse {
            image: image.as_ref().map(to_cri),
            info,
        }))
    }

    async fn pull_image(&self, request: Request<v1::PullImageRequest>) -> Answer<v1::PullImageResponse> {
        let request = request.into_inner();
        let name = wanted(request.image)?;
        let credentials = request.auth.as_ref().and_then(Credentials::from_cri);
        // A caller that stops waiting must not leave others waiting for what it began.
        let runtime = self.0.clone();
        let pulled = tokio::spawn(async move { runtime.puller.pull(&runtime.images, &name, credentials).await });
        let image = pulled
            .await
            .map_err(|e| Status::internal(e.to_string()))?
            .map_err(RuntimeError::from)?;
        Ok(Response::new(v1::PullImageResponse { image_ref: image.id }))
    }

    async fn remove_image(&self, request: Request<v1::RemoveImageRequest>) -> Answer<v1::RemoveImageResponse> {
        let name = wanted(request.into_inner().image)?;
        let runtime = self.0.clone();
        let removed = tokio::task::spawn_blocking(move || runtime.images.remove(&name, &runtime.used_layers())).await;
        removed
            .map_err(|e| Status::internal(e.to_string()))?
            .map_err(RuntimeError::from)?;
        Ok(Response::new(v1::RemoveImageResponse {}))
    }

    async fn image_fs_info(&self, _: Request<v1::ImageFsInfoRequest>) -> Answer<v1::ImageFsInfoResponse> {
        Ok(Response::new(stats::image_filesystem(&self.0)))
    }
}
