//! The way to the API server for components in its own process: the same requests without a connection, and
//! followed collections that hold the watch cache's own objects.

use std::sync::Arc;
use std::time::Duration;

use apiserver::http::user::User;
use apiserver::server::ApiServer;
use apiserver::server::follow::Followed;
use bytes::Bytes;
use client::{Body, Client, Error, ListWatch, Transport, WatchEvent};
use futures::StreamExt;
use futures::future::BoxFuture;
use futures::stream::{self, BoxStream};
use http_body_util::BodyExt;

const FIRST_DELAY: Duration = Duration::from_millis(100);
const LONGEST_DELAY: Duration = Duration::from_secs(30);

/// Requests of one user.
struct InProcess {
    server: Arc<ApiServer>,
    user: Arc<User>,
}

/// A client that acts as a user.
pub fn client(server: &Arc<ApiServer>, user: User, user_agent: &str) -> Client {
    let transport = InProcess {
        server: server.clone(),
        user: Arc::new(user),
    };
    Client::new(Arc::new(transport), user_agent)
}

impl Transport for InProcess {
    fn call(&self, request: http::Request<Bytes>) -> BoxFuture<'static, Result<http::Response<Body>, Error>> {
        let (server, user) = (self.server.clone(), self.user.clone());
        let path = request.uri().path().to_owned();
        Box::pin(async move {
            let response = server.call(request, user).await;
            let broken = move |source: std::io::Error| Error::Connection {
                path: path.clone(),
                source: Box::new(source),
            };
            Ok(response.map(|body| body.map_err(broken).boxed_unsync()))
        })
    }

    fn list_watch(&self, request: ListWatch) -> BoxStream<'static, WatchEvent> {
        let following = Following {
            server: self.server.clone(),
            user: self.user.clone(),
            request,
            at: At::Nowhere,
            delay: FIRST_DELAY,
        };
        Box::pin(stream::unfold(following, |mut following| async move {
            let event = following.next().await;
            Some((event, following))
        }))
    }
}

/// Where a collection is followed.
enum At {
    Nowhere,
    Here(Box<apiserver::server::follow::Follow>),
    /// Another server has it: it is asked as any client would.
    Elsewhere(BoxStream<'static, WatchEvent>),
}

/// A collection being followed; starts over when it cannot go on.
struct Following {
    server: Arc<ApiServer>,
    user: Arc<User>,
    request: ListWatch,
    at: At,
    delay: Duration,
}

/// Why a collection cannot be followed now.
#[derive(Debug, thiserror::Error)]
enum FollowError {
    #[error(transparent)]
    Path(#[from] http::uri::InvalidUri),
    #[error(transparent)]
    Server(#[from] apiserver::http::status::ApiError),
}

impl Following {
    async fn next(&mut self) -> WatchEvent {
        loop {
            let failure = match &mut self.at {
                At::Elsewhere(events) => match events.next().await {
                    Some(event) => return event,
                    None => None,
                },
                At::Here(follow) => match follow.next().await {
                    Some(Ok(Followed::Applied(object))) => return WatchEvent::Applied(object),
                    Some(Ok(Followed::Deleted(object))) => return WatchEvent::Deleted(object),
                    Some(Err(error)) => Some(error.into()),
                    None => None,
                },
                At::Nowhere => match self.start() {
                    Ok(Some(event)) => {
                        self.delay = FIRST_DELAY;
                        return event;
                    }
                    Ok(None) => continue,
                    Err(error) => Some(error),
                },
            };
            self.at = At::Nowhere;
            if let Some(error) = failure {
                tracing::warn!(path = self.request.path, %error, "cannot follow; trying again");
                tokio::time::sleep(self.delay).await;
                self.delay = (self.delay * 2).min(LONGEST_DELAY);
            }
        }
    }

    /// The collection as it is now, unless another server is to say so.
    fn start(&mut self) -> Result<Option<WatchEvent>, FollowError> {
        let uri = self.request.uri().parse()?;
        if self.server.is_elsewhere(&uri) {
            let transport = InProcess {
                server: self.server.clone(),
                user: self.user.clone(),
            };
            let call = Arc::new(move |request| transport.call(request));
            self.at = At::Elsewhere(client::list_watch_over(call, self.request.clone()));
            return Ok(None);
        }
        let (objects, follow) = self.server.follow(&self.user, &uri)?;
        self.at = At::Here(Box::new(follow));
        Ok(Some(WatchEvent::Restarted(objects)))
    }
}
