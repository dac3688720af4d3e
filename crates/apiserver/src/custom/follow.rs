//! What a write does to the server itself: the last layer, above the pipeline, for it writes objects of other kinds.

use std::sync::Arc;

use super::{deleted, object_gone, written};
use crate::api_services;
use crate::http::status::Result;
use crate::kinds::kind::Follow;
use crate::pipeline::Pipeline;
use crate::registry::Served;
use crate::registry::cached::Cached;

/// Follows a write of an object that is there still, or marked as being deleted.
pub async fn write(pipeline: &Arc<Pipeline>, served: &Served, object: &Cached) -> Result<()> {
    let meta = &object.object.meta;
    match served.resource.rules.follow {
        Follow::Definition => written(pipeline, object).await,
        Follow::ApiService => api_services::written(pipeline, object).await,
        Follow::CustomObject if meta.deleting && meta.finalizers.is_empty() => {
            object_gone(pipeline, &served.resource).await
        }
        Follow::CustomObject | Follow::Nothing => Ok(()),
    }
}

/// Follows the end of an object.
pub async fn end(pipeline: &Arc<Pipeline>, served: &Served, object: &Cached) -> Result<()> {
    match served.resource.rules.follow {
        Follow::Definition => {
            deleted(pipeline, object).await;
            Ok(())
        }
        Follow::ApiService => api_services::written(pipeline, object).await,
        Follow::CustomObject => object_gone(pipeline, &served.resource).await,
        Follow::Nothing => Ok(()),
    }
}
