//! The way to the API server for components in its own process: the same requests without a connection, and
//! followed collections that hold the watch cache's own objects.

use std::sync::Arc;
use std::time::Duration;

use apiserver::http::user::User;
use apiserver::server::ApiServer;
use apiserver::server::follow::Followed;
use bytes::Bytes;
use client::{Body, Client, Error, ListWatch, Transport, WatchEvent};
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
            at: None,
            delay: FIRST_DELAY,
        };
        Box::pin(stream::unfold(following, |mut following| async move {
            let event = following.next().await;
            Some((event, following))
        }))
    }
}

/// A collection being followed; starts over when it cannot go on.
struct Following {
    server: Arc<ApiServer>,
    user: Arc<User>,
    request: ListWatch,
    at: Option<apiserver::server::follow::Follow>,
    delay: Duration,
}

impl Following {
    async fn next(&mut self) -> WatchEvent {
        loop {
            let failure = match &mut self.at {
                Some(follow) => match follow.next().await {
                    Some(Ok(Followed::Applied(object))) => return WatchEvent::Applied(object),
                    Some(Ok(Followed::Deleted(object))) => return WatchEvent::Deleted(object),
                    Some(Err(error)) => Some(error.to_string()),
                    None => None,
                },
                None => match self.start() {
                    Ok(event) => {
                        self.delay = FIRST_DELAY;
                        return event;
                    }
                    Err(error) => Some(error),
                },
            };
            self.at = None;
            if let Some(error) = failure {
                tracing::warn!(path = self.request.path, %error, "cannot follow; trying again");
                tokio::time::sleep(self.delay).await;
                self.delay = (self.delay * 2).min(LONGEST_DELAY);
            }
        }
    }

    fn start(&mut self) -> Result<WatchEvent, String> {
        let uri = self.request.uri().parse().map_err(|e| format!("{e}"))?;
        let (objects, follow) = self.server.follow(&self.user, &uri).map_err(|e| e.to_string())?;
        self.at = Some(follow);
        Ok(WatchEvent::Restarted(objects))
    }
}
