//! UDP and TCP: reads questions, answers from the cluster or asks on.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::{DNSClass, Name, Record, RecordType};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::Semaphore;
use tokio::time::timeout;

use crate::cache::Reply;
use crate::forward::{Forwarder, UDP_PAYLOAD, Wish};
use crate::index::Index;
use crate::zone::{Lookup, Zone};

/// Questions on their way to upstreams, and connections, at a time: more are refused.
const AT_ONCE: usize = 1000;
const TCP_IDLE: Duration = Duration::from_secs(10);
/// Names that stand for names that stand for names.
const ALIASES: usize = 8;

pub struct Server {
    zone: Zone,
    index: Arc<RwLock<Index>>,
    forwarder: Forwarder,
    forwards: Semaphore,
    connections: Arc<Semaphore>,
    turn: AtomicUsize,
}

/// What is known without asking anybody else.
enum Step {
    Done(Message),
    /// These records, and then what upstreams say about this question.
    Ask(Message, Query),
}

impl Server {
    pub fn new(zone: Zone, index: Arc<RwLock<Index>>, forwarder: Forwarder) -> Server {
        Server {
            zone,
            index,
            forwarder,
            forwards: Semaphore::new(AT_ONCE),
            connections: Arc::new(Semaphore::new(AT_ONCE)),
            turn: AtomicUsize::new(0),
        }
    }

    /// Answers on a socket for good. The cluster's own names are answered on the spot.
    pub async fn serve_udp(self: Arc<Self>, socket: UdpSocket) {
        let socket = Arc::new(socket);
        let mut buffer = vec![0; 4096];
        loop {
            let (len, client) = match socket.recv_from(&mut buffer).await {
                Ok(received) => received,
                // An ICMP error of an earlier answer.
                Err(e) => {
                    tracing::debug!("receiving: {e}");
                    continue;
                }
            };
            let Some(request) = read(buffer.get(..len).unwrap_or_default()) else {
                continue;
            };
            let limit = usize::from(request.max_payload().clamp(512, UDP_PAYLOAD));
            match self.step(&request) {
                Step::Done(answer) => send(&socket, answer, limit, client).await,
                Step::Ask(so_far, query) => {
                    let (server, socket) = (self.clone(), socket.clone());
                    tokio::spawn(async move {
                        let answer = server.ask(&request, so_far, query, false).await;
                        send(&socket, answer, limit, client).await;
                    });
                }
            }
        }
    }

    pub async fn serve_tcp(self: Arc<Self>, listener: TcpListener) {
        loop {
            let (stream, client) = match listener.accept().await {
                Ok(accepted) => accepted,
                Err(e) => {
                    tracing::warn!("accepting DNS connections: {e}");
                    // Out of descriptors, most likely: others must end first.
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    continue;
                }
            };
            let Ok(permit) = self.connections.clone().try_acquire_owned() else {
                continue;
            };
            let server = self.clone();
            tokio::spawn(async move {
                if let Err(e) = server.connection(stream).await {
                    tracing::debug!("{client}: {e}");
                }
                drop(permit);
            });
        }
    }

    async fn connection(&self, mut stream: TcpStream) -> std::io::Result<()> {
        loop {
            let len = match timeout(TCP_IDLE, stream.read_u16()).await {
                Ok(Ok(len)) => len,
                Ok(Err(e)) if e.kind() == std::io::ErrorKind::UnexpectedEof => return Ok(()),
                Ok(Err(e)) => return Err(e),
                Err(_) => return Ok(()),
            };
            let mut bytes = vec![0; usize::from(len)];
            timeout(TCP_IDLE, stream.read_exact(&mut bytes)).await??;
            let Some(request) = read(&bytes) else {
                return Ok(());
            };
            let answer = match self.step(&request) {
                Step::Done(answer) => answer,
                Step::Ask(so_far, query) => self.ask(&request, so_far, query, true).await,
            };
            let Some(bytes) = encode(answer, usize::from(u16::MAX)) else {
                return Ok(());
            };
            let len = u16::try_from(bytes.len()).unwrap_or(u16::MAX);
            let mut framed = len.to_be_bytes().to_vec();
            framed.extend(bytes);
            stream.write_all(&framed).await?;
        }
    }

    fn step(&self, request: &Message) -> Step {
        let mut answer = answer_to(request);
        let (code, query) = match (request.metadata.op_code, request.queries.as_slice()) {
            (OpCode::Query, [query]) => (ResponseCode::NoError, Some(query)),
            (OpCode::Query, _) => (ResponseCode::FormErr, None),
            _ => (ResponseCode::NotImp, None),
        };
        answer.metadata.response_code = code;
        let Some(query) = query else {
            // what is no question has no answer that repeats it
            answer.queries.clear();
            answer.edns = None;
            return Step::Done(answer);
        };
        if request.version() > 0 {
            answer.metadata.response_code = ResponseCode::BADVERS;
            answer.set_edns(Edns::new());
            return Step::Done(answer);
        }
        if query.query_class() != DNSClass::IN {
            answer.metadata.response_code = ResponseCode::Refused;
            return Step::Done(answer);
        }
        if self.forwarder.is_ours(request.metadata.id, query) {
            tracing::warn!("{}: an upstream name server sends questions back here", query.name());
            answer.metadata.response_code = ResponseCode::ServFail;
            return Step::Done(answer);
        }
        match self.local(answer, query) {
            Ok(step) => step,
            Err(e) => {
                tracing::warn!("{} {}: {e}", query.name(), query.query_type());
                let mut answer = answer_to(request);
                answer.metadata.response_code = ResponseCode::ServFail;
                Step::Done(answer)
            }
        }
    }

    /// Follows names through the cluster as far as they lead.
    fn local(&self, mut answer: Message, query: &Query) -> Result<Step, hickory_proto::ProtoError> {
        let index = self.index.read().unwrap_or_else(PoisonError::into_inner);
        let kind = query.query_type();
        let mut name: Name = query.name().clone();
        for _ in 0..ALIASES {
            let found = self.zone.lookup(&index, &name, kind)?;
            if found != Lookup::Elsewhere {
                answer.metadata.authoritative = true;
            }
            match found {
                Lookup::Found {
                    mut answers,
                    additionals,
                } => {
                    let turn = self.turn.fetch_add(1, Ordering::Relaxed);
                    let by = turn % answers.len().max(1);
                    answers.rotate_left(by);
                    answer.answers.extend(answers);
                    answer.additionals.extend(additionals);
                    return Ok(Step::Done(answer));
                }
                Lookup::NoData | Lookup::NoName => {
                    if found == Lookup::NoName {
                        answer.metadata.response_code = ResponseCode::NXDomain;
                    }
                    answer.authorities.push(self.zone.soa()?);
                    return Ok(Step::Done(answer));
                }
                Lookup::Alias(target) if target == name => {
                    answer.authorities.push(self.zone.soa()?);
                    return Ok(Step::Done(answer));
                }
                Lookup::Alias(target) => {
                    answer.answers.push(self.zone.alias(&name, target.clone()));
                    if kind == RecordType::CNAME {
                        return Ok(Step::Done(answer));
                    }
                    name = target;
                }
                Lookup::Elsewhere => {
                    let mut next = query.clone();
                    next.set_name(name);
                    return Ok(Step::Ask(answer, next));
                }
            }
        }
        answer.metadata.response_code = ResponseCode::ServFail;
        Ok(Step::Done(answer))
    }

    async fn ask(&self, request: &Message, mut answer: Message, query: Query, tcp: bool) -> Message {
        let Ok(_permit) = self.forwards.try_acquire() else {
            answer.metadata.response_code = ResponseCode::Refused;
            return answer;
        };
        let wish = Wish {
            tcp,
            dnssec: request.edns.as_ref().is_some_and(|e| e.flags().dnssec_ok),
            checking_disabled: request.metadata.checking_disabled,
        };
        match self.forwarder.ask(&query, wish).await {
            Ok(reply) => add(&mut answer, reply),
            Err(e) => {
                tracing::debug!("{} {}: {e}", query.name(), query.query_type());
                answer.metadata.response_code = ResponseCode::ServFail;
            }
        }
        answer
    }
}

fn add(answer: &mut Message, reply: Reply) {
    // only an upstream recurses: answers about the cluster are final
    answer.metadata.recursion_available = true;
    // a name of the cluster that stands for an unknown one is there all the same
    let aliased = !answer.answers.is_empty();
    if aliased && reply.code == ResponseCode::NXDomain {
        answer.metadata.recursion_available = false;
        return;
    }
    answer.metadata.response_code = reply.code;
    answer.metadata.authentic_data = reply.authentic && answer.answers.is_empty();
    answer.metadata.truncation = reply.truncated;
    answer.answers.extend(reply.answers);
    answer.authorities.extend(reply.authorities);
    answer.additionals.extend(reply.additionals);
}

/// A question. What is none gets no answer: it could be an answer, and so on for ever.
fn read(bytes: &[u8]) -> Option<Message> {
    match Message::from_vec(bytes) {
        Ok(message) if message.metadata.message_type == MessageType::Query => Some(message),
        Ok(_) => None,
        Err(e) => {
            tracing::debug!("not a DNS message: {e}");
            None
        }
    }
}

fn answer_to(request: &Message) -> Message {
    let mut answer = Message::new(request.metadata.id, MessageType::Response, request.metadata.op_code);
    answer.metadata.recursion_desired = request.metadata.recursion_desired;
    answer.metadata.checking_disabled = request.metadata.checking_disabled;
    answer.add_queries(request.queries.iter().cloned());
    if let Some(asked) = &request.edns {
        let mut edns = Edns::new();
        edns.set_max_payload(UDP_PAYLOAD).set_dnssec_ok(asked.flags().dnssec_ok);
        answer.set_edns(edns);
    }
    answer
}

async fn send(socket: &UdpSocket, answer: Message, limit: usize, client: SocketAddr) {
    if let Some(bytes) = encode(answer, limit)
        && let Err(e) = socket.send_to(&bytes, client).await
    {
        tracing::debug!("{client}: {e}");
    }
}

/// Leaves out what the client has no room for, the additional records first; the client is told to ask by TCP.
fn encode(mut answer: Message, limit: usize) -> Option<Vec<u8>> {
    loop {
        let bytes = match answer.to_vec() {
            Ok(bytes) => bytes,
            Err(e) => {
                tracing::warn!("encoding an answer: {e}");
                return None;
            }
        };
        if bytes.len() <= limit {
            return Some(bytes);
        }
        if !answer.additionals.is_empty() {
            answer.additionals.clear();
            continue;
        }
        answer.metadata.truncation = true;
        if shorten(&mut answer.answers, bytes.len(), limit) || shorten(&mut answer.authorities, bytes.len(), limit) {
            continue;
        }
        return None;
    }
}

fn shorten(records: &mut Vec<Record>, len: usize, limit: usize) -> bool {
    let count = records.len();
    records.truncate((count * limit / len).min(count.saturating_sub(1)));
    count > 0
}
