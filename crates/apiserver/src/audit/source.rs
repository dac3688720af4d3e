//! Where a request comes from, as events name it.

use std::net::{IpAddr, Ipv4Addr};

use http::{HeaderMap, Uri, header};

/// Bytes of what a client calls itself.
const LONGEST_AGENT: usize = 1024;

/// The path and query as they were asked for.
pub fn uri(uri: &Uri) -> String {
    uri.path_and_query()
        .map_or_else(|| uri.path().to_owned(), ToString::to_string)
}

/// What the client calls itself.
pub fn user_agent(headers: &HeaderMap) -> String {
    let text = headers
        .get(header::USER_AGENT)
        .map(|value| String::from_utf8_lossy(value.as_bytes()));
    let text = text.unwrap_or_default();
    match text.len() > LONGEST_AGENT {
        true => format!("{}...TRUNCATED", &text[..text.floor_char_boundary(LONGEST_AGENT)]),
        false => text.into_owned(),
    }
}

/// The addresses that proxies have forwarded for, and last that of the connection (`apimachinery/pkg/util/net`, `SourceIPs`). A
/// component in this process is on this machine.
pub fn addresses(headers: &HeaderMap, peer: Option<IpAddr>) -> Vec<String> {
    let text = |name: &str| {
        headers
            .get(name)
            .and_then(|value| value.to_str().ok())
            .unwrap_or_default()
    };
    let parse = |part: &str| part.trim().parse::<IpAddr>().ok().map(|ip| ip.to_canonical());
    let mut all: Vec<IpAddr> = text("x-forwarded-for").split(',').filter_map(parse).collect();
    if let Some(real) = parse(text("x-real-ip")).filter(|real| !all.contains(real)) {
        all.push(real);
    }
    let peer = peer.map_or(IpAddr::V4(Ipv4Addr::LOCALHOST), |ip| ip.to_canonical());
    if all.last() != Some(&peer) {
        all.push(peer);
    }
    all.iter().map(ToString::to_string).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn proxies_come_before_the_connection() {
        let of = |pairs: &[(&'static str, &str)], peer: &str| {
            let headers = pairs
                .iter()
                .map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap()));
            addresses(&headers.collect(), Some(peer.parse().unwrap())).join(" ")
        };
        assert_eq!(of(&[], "::ffff:10.0.0.1"), "10.0.0.1");
        let proxied = [("x-forwarded-for", "1.1.1.1, x,2.2.2.2"), ("x-real-ip", "3.3.3.3")];
        assert_eq!(of(&proxied, "10.0.0.1"), "1.1.1.1 2.2.2.2 3.3.3.3 10.0.0.1");
        assert_eq!(of(&[("x-forwarded-for", "1.1.1.1")], "1.1.1.1"), "1.1.1.1");
        assert_eq!(addresses(&HeaderMap::new(), None), ["127.0.0.1"]);
    }

    #[test]
    fn a_long_agent_is_cut() {
        let mut headers = HeaderMap::new();
        headers.insert(header::USER_AGENT, "a".repeat(2000).parse().unwrap());
        assert_eq!(user_agent(&headers).len(), LONGEST_AGENT + "...TRUNCATED".len());
    }
}
