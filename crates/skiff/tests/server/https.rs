//! A small HTTPS server of a test's own, with a certificate of an authority of its own.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;

use base64::Engine;
use rustls::server::WebPkiClientVerifier;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

/// A connection of a client.
pub type Stream = BufReader<rustls::StreamOwned<rustls::ServerConnection, TcpStream>>;

/// A request as the server saw it.
#[derive(Debug, Clone)]
pub struct Seen {
    /// `GET /path?query`.
    pub line: String,
    /// Names in small letters, and values.
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
    /// Whether the connection showed a certificate that the authority of clients vouches for.
    pub proved: bool,
}

impl Seen {
    /// The values of a header.
    pub fn all(&self, name: &str) -> Vec<&str> {
        let named = self.headers.iter().filter(|(n, _)| n == name);
        named.map(|(_, value)| value.as_str()).collect()
    }
}

/// A server that serves until the test ends.
pub struct Https {
    pub port: u16,
    authority: pki::Authority,
}

fn now() -> time::OffsetDateTime {
    time::OffsetDateTime::now_utc()
}

/// A certificate and a key in PEM, for a server of these names.
pub fn certificate(authority: &pki::Authority, names: &[&str]) -> (String, String) {
    let identity = pki::Identity {
        common_name: "server",
        organizations: &[],
    };
    let usage = pki::Usage::Server(names.iter().map(|name| (*name).to_owned()).collect());
    authority
        .issue(&identity, &usage, time::Duration::days(1), now())
        .unwrap()
}

/// A new authority.
pub fn authority() -> pki::Authority {
    let dir = tempfile::tempdir().unwrap();
    pki::Authority::load_or_create(dir.path(), "ca", now()).unwrap()
}

impl Https {
    /// Has each connection served on a thread of its own. `clients` is the authority, in PEM, of certificates that clients may show.
    pub fn start(names: &[&str], clients: Option<&str>, serve: impl Fn(Stream) + Send + Sync + 'static) -> Https {
        let authority = authority();
        let (certificate, key) = certificate(&authority, names);
        let chain = vec![CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap()];
        let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let verifier = match clients {
            None => WebPkiClientVerifier::no_client_auth(),
            Some(pem) => {
                let mut roots = rustls::RootCertStore::empty();
                roots
                    .add(CertificateDer::from_pem_slice(pem.as_bytes()).unwrap())
                    .unwrap();
                WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone())
                    .allow_unauthenticated()
                    .build()
                    .unwrap()
            }
        };
        let config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_client_cert_verifier(verifier)
            .with_single_cert(chain, key)
            .unwrap();
        let (config, serve) = (Arc::new(config), Arc::new(serve));
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let (config, serve) = (config.clone(), serve.clone());
                std::thread::spawn(move || {
                    let session = rustls::ServerConnection::new(config).unwrap();
                    let stream = rustls::StreamOwned::new(session, stream.unwrap());
                    serve(BufReader::new(stream));
                });
            }
        });
        Https { port, authority }
    }

    /// The server's authority, as a `caBundle`.
    pub fn bundle(&self) -> String {
        base64::engine::general_purpose::STANDARD.encode(self.authority.certificate())
    }
}

/// The next request of a connection; `None` once its client has ended it.
pub fn read(stream: &mut Stream) -> Option<Seen> {
    let mut lines = Vec::new();
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line).unwrap_or(0) == 0 {
            return None;
        }
        if line == "\r\n" {
            break;
        }
        lines.push(line.trim_end().to_owned());
    }
    let line = lines.remove(0).trim_end_matches(" HTTP/1.1").to_owned();
    let headers = lines.iter().filter_map(|line| line.split_once(": "));
    let headers: Vec<(String, String)> = headers.map(|(n, v)| (n.to_ascii_lowercase(), v.to_owned())).collect();
    let length = headers.iter().find(|(name, _)| name == "content-length");
    let mut body = vec![0; length.map_or(0, |(_, n)| n.parse().unwrap())];
    stream.read_exact(&mut body).ok()?;
    Some(Seen {
        line,
        headers,
        body,
        proved: stream.get_ref().conn.peer_certificates().is_some(),
    })
}

/// Answers a request. Whether the connection goes on.
pub fn reply(stream: &mut Stream, status: &str, headers: &str, body: &str) -> bool {
    let (out, length) = (stream.get_mut(), body.len());
    let text = format!("HTTP/1.1 {status}\r\n{headers}content-length: {length}\r\n\r\n{body}");
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).is_ok()
}
