//! Asks the upstreams, one after the other until one answers, and keeps the answer.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::{DNSClass, RecordType};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};
use tokio::time::timeout;

use crate::cache::{Cache, Key, Reply};
use crate::upstreams::Servers;

/// For one server. All of them are asked twice at most.
const PATIENCE: Duration = Duration::from_secs(2);
const ROUNDS: usize = 2;
/// What is accepted over UDP without fragments on the way: DNS flag day 2020.
const UDP_PAYLOAD: u16 = 1232;

#[derive(Debug, thiserror::Error)]
pub(crate) enum ForwardError {
    #[error("there is no upstream name server")]
    NoServer,
    #[error("{server}: {source}")]
    Io { server: SocketAddr, source: std::io::Error },
    #[error("{0}: no answer")]
    Silent(SocketAddr),
    #[error("{server}: {source}")]
    Message {
        server: SocketAddr,
        source: hickory_proto::ProtoError,
    },
    #[error("random numbers: {0}")]
    Random(getrandom::Error),
}

/// What matters of a client's question to an upstream.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Wish {
    pub op_code: OpCode,
    pub tcp: bool,
    pub dnssec: bool,
    pub authentic: bool,
    pub recursion: bool,
    pub checking_disabled: bool,
}

/// A question on its way: number, name, type.
type OnTheWay = (u16, String, RecordType);

pub(crate) struct Forwarder {
    servers: Servers,
    cache: Mutex<Cache>,
    on_the_way: Mutex<HashSet<OnTheWay>>,
}

impl Forwarder {
    pub(crate) fn new(servers: Servers) -> Forwarder {
        Forwarder {
            servers,
            cache: Mutex::default(),
            on_the_way: Mutex::default(),
        }
    }

    /// Whether this is a question of ours come back: then an upstream leads here.
    pub(crate) fn is_ours(&self, id: u16, query: &Query) -> bool {
        let asked = self.on_the_way.lock().unwrap_or_else(PoisonError::into_inner);
        !asked.is_empty() && asked.contains(&(id, lower(query), query.query_type()))
    }

    pub(crate) async fn ask(&self, query: &Query, wish: Wish) -> Result<Reply, ForwardError> {
        let key = Key {
            name: lower(query),
            kind: query.query_type(),
            dnssec: wish.dnssec,
            checking_disabled: wish.checking_disabled,
        };
        // The key has no class: what another class answers must not be given to those who ask for addresses.
        let may_keep = wish.op_code == OpCode::Query && query.query_class() == DNSClass::IN;
        let cache = || self.cache.lock().unwrap_or_else(PoisonError::into_inner);
        if may_keep && let Some(reply) = cache().get(&key, Instant::now()) {
            return Ok(reply);
        }
        let servers = self.servers.ordered();
        let mut fault = ForwardError::NoServer;
        for server in servers.iter().cycle().take(servers.len() * ROUNDS) {
            match self.ask_one(*server, query, wish, &key.name).await {
                Ok(reply) => {
                    // A server in trouble may have a neighbour that is not.
                    let troubled = matches!(reply.code, ResponseCode::ServFail | ResponseCode::Refused);
                    if troubled && servers.last() != Some(server) && servers.len() > 1 {
                        continue;
                    }
                    self.servers.answered(*server);
                    if may_keep {
                        cache().put(key, reply.clone(), Instant::now());
                    }
                    return Ok(reply);
                }
                Err(e) => fault = e,
            }
        }
        Err(fault)
    }

    async fn ask_one(&self, server: SocketAddr, query: &Query, wish: Wish, name: &str) -> Result<Reply, ForwardError> {
        let mut random = [0; 2];
        getrandom::fill(&mut random).map_err(ForwardError::Random)?;
        let id = u16::from_ne_bytes(random);
        let mut message = Message::new(id, MessageType::Query, wish.op_code);
        message.metadata.recursion_desired = wish.recursion;
        message.metadata.authentic_data = wish.authentic;
        message.metadata.checking_disabled = wish.checking_disabled;
        message.add_query(query.clone());
        let mut edns = Edns::new();
        edns.set_max_payload(UDP_PAYLOAD).set_dnssec_ok(wish.dnssec);
        message.set_edns(edns);
        let bytes = message
            .to_vec()
            .map_err(|source| ForwardError::Message { server, source })?;
        let _on_the_way = Mark::new(&self.on_the_way, (id, name.to_owned(), query.query_type()));
        let exchange = async {
            match wish.tcp {
                true => over_tcp(server, &bytes, |m| is_answer(m, id, query)).await,
                false => over_udp(server, &bytes, |m| is_answer(m, id, query)).await,
            }
        };
        match timeout(PATIENCE, exchange).await {
            Ok(Ok(answer)) => Ok(Reply::of(answer)),
            Ok(Err(source)) => Err(ForwardError::Io { server, source }),
            Err(_) => Err(ForwardError::Silent(server)),
        }
    }
}

fn lower(query: &Query) -> String {
    query.name().to_lowercase().to_ascii()
}

/// Keeps a question in the set while it lives.
struct Mark<'a> {
    set: &'a Mutex<HashSet<OnTheWay>>,
    question: OnTheWay,
}

impl<'a> Mark<'a> {
    fn new(set: &'a Mutex<HashSet<OnTheWay>>, question: OnTheWay) -> Mark<'a> {
        set.lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(question.clone());
        Mark { set, question }
    }
}

impl Drop for Mark<'_> {
    fn drop(&mut self) {
        self.set
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(&self.question);
    }
}

fn is_answer(message: &Message, id: u16, query: &Query) -> bool {
    let same = |q: &Query| q.query_type() == query.query_type() && q.name() == query.name();
    message.metadata.id == id
        && message.metadata.message_type == MessageType::Response
        && message.queries.first().is_none_or(same)
}

/// Every question has a socket, hence a port, of its own: with the number that is what a forger has to guess.
async fn over_udp(server: SocketAddr, query: &[u8], fits: impl Fn(&Message) -> bool) -> std::io::Result<Message> {
    let any = if server.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
    let socket = UdpSocket::bind(any).await?;
    socket.connect(server).await?;
    socket.send(query).await?;
    let mut buffer = [0; 4096];
    loop {
        let len = socket.recv(&mut buffer).await?;
        match Message::from_vec(buffer.get(..len).unwrap_or_default()) {
            Ok(message) if fits(&message) => return Ok(message),
            _ => tracing::debug!("{server}: what came is no answer"),
        }
    }
}

async fn over_tcp(server: SocketAddr, query: &[u8], fits: impl Fn(&Message) -> bool) -> std::io::Result<Message> {
    let mut stream = TcpStream::connect(server).await?;
    let len = u16::try_from(query.len()).map_err(std::io::Error::other)?;
    let mut framed = len.to_be_bytes().to_vec();
    framed.extend(query);
    stream.write_all(&framed).await?;
    let mut answer = vec![0; usize::from(stream.read_u16().await?)];
    stream.read_exact(&mut answer).await?;
    let message = Message::from_vec(&answer).map_err(std::io::Error::other)?;
    if fits(&message) {
        return Ok(message);
    }
    Err(std::io::Error::other("what came is no answer"))
}
