//! Following a resource from within this process: the objects of the watch cache themselves, not copies.

use std::sync::Arc;

use api::object::Object;
use http::{Method, Uri};

use crate::authorization::Attributes;
use crate::http::request_info::{Query, RequestInfo};
use crate::http::status::{ApiError, Result};
use crate::http::user::User;
use crate::registry::cache::Subscription;
use crate::registry::cached::Cached;
use crate::registry::conversion::Conversion;
use crate::registry::resource::Resource;
use crate::registry::selection::Selection;
use crate::server::ApiServer;

/// What happens to a followed collection.
#[derive(Debug, Clone)]
pub enum Followed {
    Applied(Arc<Object>),
    /// The last state of an object that is gone, or no longer selected.
    Deleted(Arc<Object>),
}

/// A place in the changes of a collection.
#[derive(Debug)]
pub struct Follow {
    subscription: Subscription,
    selection: Selection,
    resource: Arc<Resource>,
}

/// The shared object, unless the version asked for is not the one that is stored. What a webhook converts is shown as it is
/// stored: whoever follows all kinds reads their metadata.
fn view(resource: &Resource, object: &Cached) -> Result<Arc<Object>> {
    if resource.is_stored_as_served(object) || matches!(resource.conversion, Conversion::Webhook(_)) {
        return Ok(object.object.clone());
    }
    Object::parse(resource.present(object)?).map_err(ApiError::internal)
}

impl ApiServer {
    /// Whether another server has a collection: its objects are not here to be followed.
    pub fn is_elsewhere(&self, collection: &Uri) -> bool {
        let query = Query::parse(collection.query());
        let info = RequestInfo::parse(&Method::GET, collection.path(), &query);
        info.is_ok_and(|info| self.aggregator.find(&info).is_some())
    }

    /// The objects of a collection, as its path and selectors name it, and the place after them.
    ///
    /// # Errors
    /// As LIST and WATCH: `403` when the user may not do both, `404` when the collection is not served, `400` for
    /// selectors that cannot be read, and for labels and fields of objects that a webhook converts.
    pub fn follow(&self, user: &User, collection: &Uri) -> Result<(Vec<Arc<Object>>, Follow)> {
        let query = Query::parse(collection.query());
        let mut info = RequestInfo::parse(&Method::GET, collection.path(), &query)?;
        for verb in ["list", "watch"] {
            info.verb = verb;
            self.pipeline.authorizer.authorize(user, &Attributes::of(&info))?;
        }
        let catalog = self.registry.catalog();
        let served = catalog
            .find(&info.group, &info.version, &info.resource)
            .filter(|_| info.is_resource && info.subresource.is_empty())
            .ok_or_else(ApiError::no_such_path)?;
        let mut selection = Selection::parse(&served.resource, &info.namespace, &query)?;
        if !info.name.is_empty() {
            selection = selection.with_name(&info.name);
        }
        if selection.is_of_converted() {
            let why = "objects that a webhook converts are followed as a whole, not by labels or fields";
            return Err(ApiError::bad_request(why));
        }
        let scope = selection.scope(&served.resource);
        let (subscription, listing, _) = served.cache.watch(scope, &selection.namespace, None)?;
        let objects = listing
            .items
            .iter()
            .filter(|o| selection.matches(o))
            .map(|o| view(&served.resource, o))
            .collect::<Result<_>>()?;
        let follow = Follow {
            subscription,
            selection,
            resource: served.resource.clone(),
        };
        Ok((objects, follow))
    }
}

impl Follow {
    /// The next change; `None` when this follower fell behind or the resource is no longer served.
    pub async fn next(&mut self) -> Option<Result<Followed>> {
        loop {
            let change = self.subscription.queue.recv().await?;
            let gone = match self.selection.event_type(&change) {
                None => continue,
                Some("DELETED") => true,
                Some(_) => false,
            };
            let seen = view(&self.resource, &change.current);
            return Some(seen.map(if gone { Followed::Deleted } else { Followed::Applied }));
        }
    }
}
