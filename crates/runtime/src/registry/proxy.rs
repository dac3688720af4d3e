//! Proxies on the way to registries: which one by the usual variables, and the tunnel for HTTPS.

use std::net::IpAddr;

use http::Uri;
use percent_encoding::percent_decode_str;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::auth::basic;

/// A longer answer of a proxy is no answer. Bytes.
const LONGEST_ANSWER: usize = 16 * 1024;

/// `HTTP_PROXY`, `HTTPS_PROXY` and `NO_PROXY`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Proxies {
    http: Option<String>,
    https: Option<String>,
    except: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Proxy {
    pub host: String,
    pub port: u16,
    /// `Proxy-Authorization`.
    pub authorization: Option<String>,
}

impl Proxies {
    /// From variables by name; those of K3s for its runtime win, then upper case.
    pub fn from_variables(variable: impl Fn(&str) -> Option<String>) -> Self {
        let get = |name: &str| {
            let names = [format!("CONTAINERD_{name}"), name.to_owned(), name.to_ascii_lowercase()];
            names.iter().find_map(|n| variable(n).filter(|v| !v.is_empty()))
        };
        let except = get("NO_PROXY").unwrap_or_default();
        Self {
            http: get("HTTP_PROXY"),
            https: get("HTTPS_PROXY"),
            except: except.split(',').map(|e| e.trim().to_ascii_lowercase()).collect(),
        }
    }

    /// The proxy for an address. Never one for the node itself.
    pub(crate) fn of(&self, uri: &Uri) -> Option<Proxy> {
        let secure = uri.scheme_str() == Some("https");
        let proxy = if secure { &self.https } else { &self.http };
        let host = uri
            .host()?
            .trim_start_matches('[')
            .trim_end_matches(']')
            .to_ascii_lowercase();
        let ip = host.parse::<IpAddr>().ok();
        if host == "localhost" || ip.is_some_and(|ip| ip.is_loopback()) || self.excepts(&host, ip) {
            return None;
        }
        Proxy::parse(proxy.as_deref()?)
    }

    fn excepts(&self, host: &str, ip: Option<IpAddr>) -> bool {
        self.except.iter().filter(|e| !e.is_empty()).any(|entry| {
            if entry == "*" {
                return true;
            }
            if let (Some(ip), Some((network, bits))) = (ip, entry.split_once('/')) {
                return within(ip, network, bits);
            }
            let name = entry.trim_start_matches("*.").trim_start_matches('.');
            host == name || host.strip_suffix(name).is_some_and(|rest| rest.ends_with('.'))
        })
    }
}

fn within(ip: IpAddr, network: &str, bits: &str) -> bool {
    let (Ok(network), Ok(bits)) = (network.parse::<IpAddr>(), bits.parse::<u32>()) else {
        return false;
    };
    match (ip, network) {
        (IpAddr::V4(a), IpAddr::V4(b)) if bits <= 32 => {
            let differ = u32::from(a) ^ u32::from(b);
            differ.checked_shr(32 - bits).unwrap_or(0) == 0
        }
        (IpAddr::V6(a), IpAddr::V6(b)) if bits <= 128 => {
            let differ = u128::from(a) ^ u128::from(b);
            differ.checked_shr(128 - bits).unwrap_or(0) == 0
        }
        _ => false,
    }
}

/// Why a proxy does not lead to a host.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TunnelError {
    #[error(transparent)]
    Io(#[from] std::io::Error),
    #[error("the proxy's answer is too long")]
    Long,
    /// The status with its reason.
    #[error("{0}")]
    Refused(String),
}

impl Proxy {
    /// `[http://][user:password@]host[:port]`.
    fn parse(text: &str) -> Option<Self> {
        let rest = text.split_once("://").map_or(text, |(_, rest)| rest);
        let rest = rest.trim_end_matches('/');
        let (user, place) = rest.rsplit_once('@').map_or((None, rest), |(u, p)| (Some(u), p));
        let uri: Uri = format!("http://{place}/").parse().ok()?;
        let decoded = |text: &str| percent_decode_str(text).decode_utf8_lossy().into_owned();
        let authorization = user.map(|u| {
            let (name, password) = u.split_once(':').unwrap_or((u, ""));
            basic(&decoded(name), &decoded(password))
        });
        Some(Self {
            host: uri.host()?.trim_start_matches('[').trim_end_matches(']').to_owned(),
            port: uri.port_u16().unwrap_or(80),
            authorization,
        })
    }

    /// Asks for a way through to the host.
    pub(crate) async fn tunnel(
        &self,
        io: &mut (impl AsyncRead + AsyncWrite + Unpin),
        host: &str,
        port: u16,
    ) -> Result<(), TunnelError> {
        let target = if host.contains(':') {
            format!("[{host}]:{port}")
        } else {
            format!("{host}:{port}")
        };
        let mut request = format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n");
        if let Some(authorization) = &self.authorization {
            request.push_str(&format!("Proxy-Authorization: {authorization}\r\n"));
        }
        request.push_str("\r\n");
        io.write_all(request.as_bytes()).await?;
        let mut answer = Vec::new();
        // Byte by byte: what follows the empty line belongs to the host.
        while !answer.ends_with(b"\r\n\r\n") {
            if answer.len() > LONGEST_ANSWER {
                return Err(TunnelError::Long);
            }
            answer.push(io.read_u8().await?);
        }
        let line = answer.split(|b| *b == b'\r').next().unwrap_or_default();
        let line = String::from_utf8_lossy(line).into_owned();
        let status = line.split(' ').nth(1).unwrap_or_default();
        if status.starts_with('2') {
            Ok(())
        } else {
            let status = line.split_once(' ').map_or(line.as_str(), |(_, rest)| rest);
            Err(TunnelError::Refused(status.to_owned()))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_usual_variables_choose_a_proxy() {
        let proxies = Proxies::from_variables(|name| {
            let value = match name {
                "HTTPS_PROXY" => "http://u:p%40@proxy:3128",
                "http_proxy" => "plain",
                "NO_PROXY" => "10.0.0.0/8, .corp,exact.org",
                _ => return None,
            };
            Some(value.to_owned())
        });
        let host = |uri: &str| proxies.of(&uri.parse().unwrap()).map(|p| (p.host, p.port));
        let proxy = Some(("proxy".to_owned(), 3128));
        for (uri, want) in [
            ("https://registry.example/x", proxy.clone()),
            ("http://registry.example/x", Some(("plain".to_owned(), 80))),
            ("https://10.1.2.3/x", None),
            ("https://11.1.2.3/x", proxy.clone()),
            ("https://a.corp/x", None),
            ("https://notcorp/x", proxy.clone()),
            ("https://www.exact.org", None),
            ("https://127.0.0.1:5000/", None),
        ] {
            assert_eq!(host(uri), want, "{uri}");
        }
        let found = proxies.of(&"https://x".parse().unwrap()).unwrap();
        assert_eq!(found.authorization, Some(basic("u", "p@")));
    }

    #[tokio::test]
    async fn a_tunnel_reads_no_further_than_its_answer() {
        let (mut ours, mut theirs) = tokio::io::duplex(4096);
        let proxy = Proxy::parse("proxy:1").unwrap();
        theirs.write_all(b"HTTP/1.1 200 OK\r\nX: y\r\n\r\nTLS").await.unwrap();
        proxy.tunnel(&mut ours, "host", 443).await.unwrap();
        let mut rest = [0; 3];
        ours.read_exact(&mut rest).await.unwrap();
        assert_eq!(&rest, b"TLS");
        theirs
            .write_all(b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n")
            .await
            .unwrap();
        let refused = proxy.tunnel(&mut ours, "host", 443).await;
        assert_eq!(refused.unwrap_err().to_string(), "407 Proxy Authentication Required");
    }
}
