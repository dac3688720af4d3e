//! The load's side of a connection: one HTTP/2 connection over TLS, the same against every server.

use std::sync::Arc;

use bytes::Bytes;
use client::Kubeconfig;
use http::{Method, Request, StatusCode, header};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http2::{Builder, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls_pki_types::ServerName;
use serde_json::Value;
use std::path::Path;
use tokio::net::TcpStream;

use crate::error::{Error, Result};

/// A flow-control window that a list or a fast watch does not fill.
const WINDOW: u32 = 4 << 20;

/// An API server, and who we are to it.
#[derive(Clone)]
pub struct Endpoint {
    authority: String,
    name: ServerName<'static>,
    tls: tokio_rustls::TlsConnector,
}

/// What a request may carry.
#[derive(Clone)]
pub struct Call {
    pub method: Method,
    pub path: String,
    pub body: Bytes,
}

impl Call {
    pub fn get(path: impl Into<String>) -> Call {
        Call {
            method: Method::GET,
            path: path.into(),
            body: Bytes::new(),
        }
    }

    pub fn post(path: impl Into<String>, body: &Value) -> Call {
        Call {
            method: Method::POST,
            path: path.into(),
            body: Bytes::from(body.to_string()),
        }
    }

    pub fn put(path: impl Into<String>, body: &Value) -> Call {
        Call {
            method: Method::PUT,
            ..Call::post(path, body)
        }
    }

    pub fn delete(path: impl Into<String>, options: &Value) -> Call {
        Call {
            method: Method::DELETE,
            ..Call::post(path, options)
        }
    }
}

impl Endpoint {
    pub fn of(kubeconfig: &Path) -> Result<Endpoint> {
        let config = Kubeconfig::load(kubeconfig)?.config(None)?;
        let mut tls = config.tls.rustls()?;
        tls.alpn_protocols = vec![b"h2".to_vec()];
        let authority = config.server.trim_start_matches("https://").to_owned();
        let host = authority.rsplit_once(':').map_or(authority.as_str(), |(host, _)| host);
        let name = ServerName::try_from(host.to_owned()).map_err(|e| Error::said(format!("{host}: {e}")))?;
        Ok(Endpoint {
            authority,
            name,
            tls: Arc::new(tls).into(),
        })
    }

    pub async fn connect(&self) -> Result<Connection> {
        let stream = TcpStream::connect(&self.authority).await?;
        stream.set_nodelay(true)?;
        let stream = self.tls.connect(self.name.clone(), stream).await?;
        let (sender, connection) = Builder::new(TokioExecutor::new())
            .initial_stream_window_size(WINDOW)
            .initial_connection_window_size(WINDOW)
            .handshake(TokioIo::new(stream))
            .await?;
        // ends when the sender is dropped; what breaks it is seen by the requests
        tokio::spawn(connection);
        Ok(Connection {
            sender,
            base: format!("https://{}", self.authority),
        })
    }
}

pub struct Connection {
    sender: SendRequest<Full<Bytes>>,
    base: String,
}

impl Connection {
    async fn answer(&mut self, call: Call) -> Result<http::Response<Incoming>> {
        let request = Request::builder()
            .method(call.method)
            .uri(format!("{}{}", self.base, call.path))
            .header(header::CONTENT_TYPE, "application/json")
            .header(header::ACCEPT, "application/json")
            .header(header::USER_AGENT, "bench")
            .body(Full::new(call.body))
            .map_err(|e| Error::said(format!("{}: {e}", call.path)))?;
        Ok(self.sender.send_request(request).await?)
    }

    /// The status, and the length of the body, which is thrown away as it comes.
    pub async fn measure(&mut self, call: Call) -> Result<(StatusCode, usize)> {
        let response = self.answer(call).await?;
        let status = response.status();
        let mut body = response.into_body();
        let mut length = 0;
        while let Some(frame) = body.frame().await {
            length += frame?.data_ref().map_or(0, Bytes::len);
        }
        Ok((status, length))
    }

    pub async fn send(&mut self, call: Call) -> Result<(StatusCode, Bytes)> {
        let response = self.answer(call).await?;
        let status = response.status();
        Ok((status, response.into_body().collect().await?.to_bytes()))
    }

    /// The answer's JSON; it must be a success.
    pub async fn json(&mut self, call: Call) -> Result<Value> {
        let request = format!("{} {}", call.method, call.path);
        let (status, body) = self.send(call).await?;
        if !status.is_success() {
            let message = serde_json::from_slice::<Value>(&body)
                .ok()
                .and_then(|s| Some(s["message"].as_str()?.to_owned()))
                .unwrap_or_else(|| String::from_utf8_lossy(&body).into_owned());
            return Err(Error::Refused {
                request,
                status,
                message,
            });
        }
        Ok(serde_json::from_slice(&body)?)
    }

    /// The body of a watch, as it comes.
    pub async fn stream(&mut self, path: &str) -> Result<Incoming> {
        let response = self.answer(Call::get(path)).await?;
        let status = response.status();
        if !status.is_success() {
            return Err(Error::Refused {
                request: format!("watch {path}"),
                status,
                message: String::new(),
            });
        }
        Ok(response.into_body())
    }
}
