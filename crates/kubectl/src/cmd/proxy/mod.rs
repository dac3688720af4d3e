//! `proxy`: the API of the cluster at a port of this machine, in the user's name.

mod files;
mod filter;

use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use client::Body;
use http::{HeaderName, Request, Response, StatusCode, header};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use serving::{Activity, Ongoing, Protocol};
use tokio::io::{AsyncRead, AsyncWrite, copy_bidirectional};
use tokio::net::{TcpListener, UnixListener};

use self::filter::{Filter, Patterns, behind};
use crate::api::Api;
use crate::error::{Error, Result, fail, message};
use crate::session::Session;

const DEFAULT_PORT: u16 = 8001;

/// Run a proxy to the Kubernetes API server
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Also serve static files from the given directory under the specified prefix
    #[arg(long, short = 'w', default_value = "", hide_default_value = true)]
    www: String,
    /// Prefix to serve static files under, if static file directory is specified
    #[arg(long, short = 'P', default_value = "/static/", hide_default_value = true)]
    www_prefix: String,
    /// Prefix to serve the proxied API under
    #[arg(long, default_value = "/", hide_default_value = true)]
    api_prefix: String,
    /// Regular expression for paths that the proxy should accept
    #[arg(long, default_value = "^.*", hide_default_value = true)]
    accept_paths: String,
    /// Regular expression for paths that the proxy should reject
    #[arg(
        long,
        default_value = "^/api/.*/pods/.*/exec,^/api/.*/pods/.*/attach",
        hide_default_value = true
    )]
    reject_paths: String,
    /// Regular expression for hosts that the proxy should accept
    #[arg(
        long,
        default_value = r"^localhost$,^127\.0\.0\.1$,^\[::1\]$",
        hide_default_value = true
    )]
    accept_hosts: String,
    /// Regular expression for HTTP methods that the proxy should reject
    #[arg(long, default_value = "^$", hide_default_value = true)]
    reject_methods: String,
    /// The port on which to run the proxy. Set to 0 to pick a random port
    #[arg(long, short, default_value_t = DEFAULT_PORT, hide_default_value = true)]
    port: u16,
    /// The IP address on which to serve on
    #[arg(long, default_value = "127.0.0.1", hide_default_value = true)]
    address: String,
    /// If true, disable request filtering in the proxy
    #[arg(long)]
    disable_filter: bool,
    /// Unix socket on which to run the proxy
    #[arg(long, short, default_value = "", hide_default_value = true)]
    unix_socket: String,
    /// Accepted; connections are kept alive
    #[arg(long, hide = true, default_value = "0s", hide_default_value = true)]
    keepalive: String,
    /// If true, enables automatic path appending of the kube context server path to each request
    #[arg(long)]
    append_server_path: bool,
    #[arg(hide = true)]
    _rest: Vec<String>,
}

/// What is answered.
type Answer = Response<Body>;

struct Proxy {
    api: Api,
    api_prefix: String,
    filter: Option<Filter>,
    files: Option<(String, PathBuf)>,
}

pub(crate) async fn run(session: &Session, args: &Args) -> Result<()> {
    if args.port != DEFAULT_PORT && !args.unix_socket.is_empty() {
        return fail("cannot set --unix-socket and --port at the same time");
    }
    let proxy = Arc::new(Proxy::new(session, args)?);
    if args.unix_socket.is_empty() {
        let listener = TcpListener::bind((args.address.as_str(), args.port))
            .await
            .map_err(|e| {
                let reason = crate::print::go::io_error(&e);
                message(format!("listen tcp {}:{}: bind: {reason}", args.address, args.port))
            })?;
        session.println(&format!("Starting to serve on {}", listener.local_addr()?))?;
        loop {
            let (io, _) = listener.accept().await?;
            tokio::spawn(proxy.clone().connection(io));
        }
    }
    let listener = unix_listener(Path::new(&args.unix_socket))?;
    session.println(&format!("Starting to serve on {}", args.unix_socket))?;
    loop {
        let (io, _) = listener.accept().await?;
        tokio::spawn(proxy.clone().connection(io));
    }
}

/// A socket that its owner alone may use. One that stands there is replaced, another file is not.
fn unix_listener(path: &Path) -> Result<UnixListener> {
    let is_socket = std::fs::symlink_metadata(path).is_ok_and(|m| m.file_type().is_socket());
    if is_socket {
        std::fs::remove_file(path)?;
    }
    let before = nix::sys::stat::umask(nix::sys::stat::Mode::from_bits_truncate(0o077));
    let listener = UnixListener::bind(path);
    nix::sys::stat::umask(before);
    listener.map_err(|e| {
        let reason = crate::print::go::io_error(&e);
        message(format!("listen unix {}: bind: {reason}", path.display()))
    })
}

impl Proxy {
    fn new(session: &Session, args: &Args) -> Result<Proxy> {
        let slash = |prefix: &str| {
            if prefix.ends_with('/') {
                prefix.to_owned()
            } else {
                format!("{prefix}/")
            }
        };
        let api = session.api()?.clone();
        let path = api
            .url
            .parse::<http::Uri>()
            .map(|uri| uri.path().to_owned())
            .unwrap_or_default();
        let has_path = !matches!(path.as_str(), "" | "/");
        if has_path && !args.append_server_path {
            return fail(format!(
                "the kube context's server has the path {path}; use --append-server-path to append it to each request"
            ));
        }
        let filter = if args.disable_filter {
            if args.unix_socket.is_empty() {
                session.warn("Request filter disabled, your proxy is vulnerable to XSRF attacks, please be cautious");
            }
            None
        } else {
            if args.reject_paths.is_empty() || args.reject_methods.is_empty() {
                session.warn(
                    "Request filter has been relaxed, your proxy may be vulnerable to attacks, please be cautious",
                );
            }
            Some(Filter {
                accept_paths: Patterns::parse(&args.accept_paths)?,
                reject_paths: Patterns::parse(&args.reject_paths)?,
                accept_hosts: Patterns::parse(&args.accept_hosts)?,
                reject_methods: Patterns::parse(&args.reject_methods)?,
            })
        };
        if !args.www.is_empty() && !Path::new(&args.www).is_dir() {
            session.warn(&format!("Static file directory {} is not a directory", args.www));
        }
        Ok(Proxy {
            api,
            api_prefix: slash(&args.api_prefix),
            filter,
            files: (!args.www.is_empty()).then(|| (slash(&args.www_prefix), PathBuf::from(&args.www))),
        })
    }

    async fn connection(self: Arc<Self>, io: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) {
        let answer = |request: Request<Incoming>, ongoing: Ongoing| {
            let proxy = self.clone();
            async move { proxy.answer(request).await.map(|body| ongoing.answer(body, (), None)) }
        };
        // a connection that breaks off is its client's affair
        let _ended = serving::serve(io, Protocol::Http1, &Activity::start(), answer, std::future::pending()).await;
    }

    async fn answer(&self, request: Request<Incoming>) -> Answer {
        let path = request.uri().path();
        // of two prefixes the longer one counts
        if let Some((prefix, folder)) = &self.files
            && let Some(file) = path.strip_prefix(prefix.as_str())
            && (prefix.len() >= self.api_prefix.len() || !path.starts_with(&self.api_prefix))
        {
            return files::serve(folder, file);
        }
        let Some(path) = behind(path, &self.api_prefix) else {
            return plain(StatusCode::NOT_FOUND, "404 page not found\n");
        };
        let host = request.headers().get(header::HOST).and_then(|host| host.to_str().ok());
        let is_accepted = |filter: &Filter| filter.accepts(request.method().as_str(), &path, host.unwrap_or_default());
        if self.filter.as_ref().is_some_and(|filter| !is_accepted(filter)) {
            return plain(StatusCode::FORBIDDEN, "Forbidden\n");
        }
        let target = match request.uri().query() {
            Some(query) => format!("{path}?{query}"),
            None => path.into_owned(),
        };
        let answered = match request.headers().contains_key(header::UPGRADE) {
            true => self.upgrade(request, target).await,
            false => self.forward(request, target).await,
        };
        answered.unwrap_or_else(|error| plain(StatusCode::INTERNAL_SERVER_ERROR, &format!("{error}\n")))
    }

    async fn forward(&self, request: Request<Incoming>, target: String) -> Result<Answer> {
        let (parts, body) = request.into_parts();
        let body = body.collect().await.map_err(|e| message(e.to_string()))?.to_bytes();
        let mut forwarded = Request::builder()
            .method(parts.method)
            .uri(target)
            .body(body)
            .map_err(client::Error::from)?;
        *forwarded.headers_mut() = parts.headers;
        of_one_connection(forwarded.headers_mut());
        forwarded.headers_mut().remove(header::CONTENT_LENGTH);
        let mut answer = self.api.forward(forwarded).await?;
        of_one_connection(answer.headers_mut());
        Ok(answer)
    }

    /// Joins the client's connection with one to the server.
    async fn upgrade(&self, request: Request<Incoming>, target: String) -> Result<Answer> {
        let mut forwarded = Request::builder()
            .method(request.method())
            .uri(target)
            .body(Bytes::new())
            .map_err(client::Error::from)?;
        *forwarded.headers_mut() = request.headers().clone();
        forwarded.headers_mut().remove(header::HOST);
        let (headers, mut server) = match self.api.forward_upgrade(forwarded).await {
            Ok(upgraded) => upgraded,
            Err(Error::Api(client::Error::Api(status))) => {
                let code = status.code.and_then(|code| u16::try_from(code).ok());
                let code = code.and_then(|code| StatusCode::from_u16(code).ok());
                let text = serde_json::to_string(&status).map_err(|e| message(e.to_string()))?;
                return Ok(plain(code.unwrap_or(StatusCode::BAD_GATEWAY), &text));
            }
            Err(Error::Api(client::Error::Http { code, body, .. })) => {
                return Ok(plain(
                    StatusCode::from_u16(code).unwrap_or(StatusCode::BAD_GATEWAY),
                    &body,
                ));
            }
            Err(other) => return Err(other),
        };
        let client = hyper::upgrade::on(request);
        tokio::spawn(async move {
            if let Ok(client) = client.await {
                // how the stream ends is for both ends to see
                let _ended = copy_bidirectional(&mut TokioIo::new(client), &mut server).await;
            }
        });
        let mut answer = Response::new(client::body_of(Bytes::new()));
        *answer.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        *answer.headers_mut() = headers;
        Ok(answer)
    }
}

/// Takes out what belongs to one connection and not to the request (RFC 9110, 7.6.1).
fn of_one_connection(headers: &mut http::HeaderMap) {
    let named = headers
        .get_all(header::CONNECTION)
        .into_iter()
        .filter_map(|value| value.to_str().ok());
    let named: Vec<HeaderName> = named
        .flat_map(|value| value.split(','))
        .filter_map(|name| name.trim().parse().ok())
        .collect();
    for name in named {
        headers.remove(name);
    }
    let keep_alive = HeaderName::from_static("keep-alive");
    let always = [
        header::CONNECTION,
        header::HOST,
        header::PROXY_AUTHENTICATE,
        header::PROXY_AUTHORIZATION,
        header::TE,
        header::TRAILER,
        header::TRANSFER_ENCODING,
        header::UPGRADE,
        keep_alive,
    ];
    for name in always {
        headers.remove(name);
    }
}

fn plain(code: StatusCode, text: &str) -> Answer {
    let mut answer = Response::new(client::body_of(Bytes::from(text.to_owned())));
    *answer.status_mut() = code;
    let kind = http::HeaderValue::from_static("text/plain; charset=utf-8");
    answer.headers_mut().insert(header::CONTENT_TYPE, kind);
    answer
}
