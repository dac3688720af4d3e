//! Host names to addresses: literals, the hosts file, then DNS. A static program must not use libc's resolver.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use hickory_proto::op::{Message, MessageType, OpCode, Query};
use hickory_proto::rr::{Name, RData, RecordType};
use tokio::net::UdpSocket;

/// Why a name has no address.
#[derive(Debug, thiserror::Error)]
pub enum ResolveError {
    /// The text is no name.
    #[error("host {0:?} is not a valid name")]
    Name(String),
    /// There is no such name.
    #[error("host {0} not found")]
    NotFound(String),
    /// A name server does not answer, or refuses.
    #[error("host {host}: name server {server}: {reason}")]
    Server {
        /// The name.
        host: String,
        /// The name server.
        server: IpAddr,
        /// What it did.
        reason: String,
    },
    /// Nobody can be asked.
    #[error("host {0}: /etc/resolv.conf names no server")]
    NoServers(String),
}

/// Why a name server gave no addresses.
#[derive(Debug, thiserror::Error)]
enum AskError {
    #[error(transparent)]
    Message(#[from] hickory_proto::ProtoError),
    #[error("{0}")]
    Random(getrandom::Error),
    #[error(transparent)]
    Io(#[from] std::io::Error),
    #[error("no answer in time")]
    Silent,
}

const ATTEMPT: Duration = Duration::from_secs(3);

/// The addresses of a host, best first.
pub async fn resolve(host: &str) -> Result<Vec<IpAddr>, ResolveError> {
    let host = host.trim_start_matches('[').trim_end_matches(']');
    if let Ok(ip) = host.parse() {
        return Ok(vec![ip]);
    }
    let hosts = tokio::fs::read_to_string("/etc/hosts").await.unwrap_or_default();
    let found = in_hosts_file(&hosts, host);
    if !found.is_empty() {
        return Ok(found);
    }
    if host == "localhost" {
        return Ok(vec![IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)]);
    }
    let conf = tokio::fs::read_to_string("/etc/resolv.conf").await.unwrap_or_default();
    let (servers, search) = parse_resolv_conf(&conf);
    let mut last = ResolveError::NoServers(host.to_owned());
    for name in candidates(host, &search) {
        for server in &servers {
            match ask_both(&name, *server).await {
                Ok(ips) if !ips.is_empty() => return Ok(ips),
                Ok(_) => {
                    last = ResolveError::NotFound(host.to_owned());
                    break;
                }
                Err(error) => {
                    last = ResolveError::Server {
                        host: host.to_owned(),
                        server: *server,
                        reason: error.to_string(),
                    }
                }
            }
        }
    }
    Err(last)
}

fn in_hosts_file(text: &str, host: &str) -> Vec<IpAddr> {
    let mut found = Vec::new();
    for line in text.lines() {
        let mut words = line.split('#').next().unwrap_or_default().split_whitespace();
        let Some(Ok(ip)) = words.next().map(str::parse) else {
            continue;
        };
        if words.any(|w| w.eq_ignore_ascii_case(host)) {
            found.push(ip);
        }
    }
    found
}

fn parse_resolv_conf(text: &str) -> (Vec<IpAddr>, Vec<String>) {
    let (mut servers, mut search) = (Vec::new(), Vec::new());
    for line in text.lines() {
        let mut words = line.split_whitespace();
        match words.next() {
            Some("nameserver") => servers.extend(words.next().and_then(|w| w.parse::<IpAddr>().ok())),
            Some("search" | "domain") => search = words.map(str::to_owned).collect(),
            _ => {}
        }
    }
    (servers, search)
}

/// A name with a dot is tried as it is first (`ndots:1`).
fn candidates(host: &str, search: &[String]) -> Vec<String> {
    if host.ends_with('.') {
        return vec![host.to_owned()];
    }
    let mut names: Vec<String> = search
        .iter()
        .map(|s| format!("{host}.{}.", s.trim_end_matches('.')))
        .collect();
    names.insert(if host.contains('.') { 0 } else { names.len() }, format!("{host}."));
    names
}

async fn ask_both(name: &str, server: IpAddr) -> Result<Vec<IpAddr>, AskError> {
    let (v4, v6) = tokio::join!(ask(name, RecordType::A, server), ask(name, RecordType::AAAA, server));
    match (v4, v6) {
        (Ok(mut a), Ok(b)) => {
            a.extend(b);
            Ok(a)
        }
        (Ok(a), Err(_)) if !a.is_empty() => Ok(a),
        (Err(_), Ok(b)) if !b.is_empty() => Ok(b),
        (Err(e), _) | (_, Err(e)) => Err(e),
    }
}

async fn ask(name: &str, kind: RecordType, server: IpAddr) -> Result<Vec<IpAddr>, AskError> {
    let name = Name::from_ascii(name)?;
    let id = (getrandom::u32().map_err(AskError::Random)? & 0xffff) as u16;
    let mut query = Message::new(id, MessageType::Query, OpCode::Query);
    query.metadata.recursion_desired = true;
    query.add_query(Query::query(name, kind));
    let query = query.to_vec()?;
    let local: SocketAddr = if server.is_ipv4() {
        (Ipv4Addr::UNSPECIFIED, 0).into()
    } else {
        (Ipv6Addr::UNSPECIFIED, 0).into()
    };
    let exchange = async {
        let socket = UdpSocket::bind(local).await?;
        socket.connect((server, 53)).await?;
        socket.send(&query).await?;
        let mut buffer = [0u8; 4096];
        loop {
            let n = socket.recv(&mut buffer).await?;
            if let Ok(answer) = Message::from_vec(&buffer[..n])
                && answer.metadata.id == id
            {
                return Ok::<_, std::io::Error>(answer);
            }
        }
    };
    let answer = match tokio::time::timeout(ATTEMPT, exchange).await {
        Ok(answer) => answer?,
        Err(_) => return Err(AskError::Silent),
    };
    Ok(answer
        .answers
        .iter()
        .filter_map(|r| match &r.data {
            RData::A(a) => Some(IpAddr::V4(a.0)),
            RData::AAAA(a) => Some(IpAddr::V6(a.0)),
            _ => None,
        })
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hosts_file_is_read_with_comments_and_aliases() {
        let text = "127.0.0.1 localhost lo # x\n# 1.1.1.1 a\n10.0.0.1\tAPI api.local\n";
        assert_eq!(in_hosts_file(text, "api"), vec![IpAddr::from([10, 0, 0, 1])]);
        assert!(in_hosts_file(text, "a").is_empty());
    }

    #[test]
    fn search_domains_come_first_for_short_names_only() {
        let search = vec!["x.y".to_owned()];
        assert_eq!(candidates("a", &search), ["a.x.y.", "a."]);
        assert_eq!(candidates("a.b", &search), ["a.b.", "a.b.x.y."]);
        assert_eq!(candidates("a.", &search), ["a."]);
    }
}
