//! UDP and TCP: reads questions, answers from the cluster or asks on.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

use hickory_proto::op::{OpCode, Query, ResponseCode};
use hickory_proto::rr::{DNSClass, Record, RecordType};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::Semaphore;
use tokio::time::timeout;

use crate::answer::Answer;
use crate::cache::Reply;
use crate::forward::{Forwarder, Wish};
use crate::index::Index;
use crate::metrics::{Asked, DnsMetrics};
use crate::request::{Received, Request, bit, read};
use crate::zone::{Lookup, Zone};

/// Questions on their way to upstreams, and connections, at a time: more are refused.
const AT_ONCE: usize = 1000;
const TCP_IDLE: Duration = Duration::from_secs(10);

pub(crate) struct Server {
    zone: Zone,
    index: Arc<RwLock<Index>>,
    forwarder: Forwarder,
    forwards: Semaphore,
    connections: Arc<Semaphore>,
    turn: AtomicUsize,
    counted: Arc<DnsMetrics>,
}

/// What is known without asking anybody else.
enum Step {
    Done(Answer),
    /// These records, and then what upstreams say about this question.
    Ask(Answer, Query),
}

impl Server {
    pub(crate) fn new(zone: Zone, index: Arc<RwLock<Index>>, forwarder: Forwarder, counted: Arc<DnsMetrics>) -> Server {
        Server {
            zone,
            index,
            forwarder,
            forwards: Semaphore::new(AT_ONCE),
            connections: Arc::new(Semaphore::new(AT_ONCE)),
            turn: AtomicUsize::new(0),
            counted,
        }
    }

    /// Answers on a socket for good. The cluster's own names are answered on the spot.
    pub(crate) async fn serve_udp(self: Arc<Self>, socket: UdpSocket) {
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
            let request = match read(buffer.get(..len).unwrap_or_default()) {
                Received::Request(request) => request,
                Received::Refused(answer) => {
                    send(&socket, Some(answer), client).await;
                    continue;
                }
                Received::Nothing => continue,
            };
            let begun = Instant::now();
            let limit = request.edns.as_ref().map_or(0, |edns| edns.size);
            let asked = asked(&request, client, false);
            match self.step(&request) {
                Step::Done(answer) => {
                    let bytes = answer.encode(limit);
                    self.count(asked, &answer, false, bytes.as_deref(), begun);
                    send(&socket, bytes, client).await;
                }
                Step::Ask(so_far, query) => {
                    let (server, socket) = (self.clone(), socket.clone());
                    tokio::spawn(async move {
                        let answer = server.ask(&request, so_far, query, false).await;
                        let bytes = answer.encode(limit);
                        server.count(asked, &answer, true, bytes.as_deref(), begun);
                        send(&socket, bytes, client).await;
                    });
                }
            }
        }
    }

    pub(crate) async fn serve_tcp(self: Arc<Self>, listener: TcpListener) {
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
                if let Err(e) = server.connection(stream, client).await {
                    tracing::debug!("{client}: {e}");
                }
                drop(permit);
            });
        }
    }

    /// Counts an answer that can be made.
    fn count(&self, asked: Asked, answer: &Answer, forwarded: bool, bytes: Option<&[u8]>, begun: Instant) {
        if let Some(bytes) = bytes {
            let code = answer.message.metadata.response_code;
            self.counted
                .answered(asked, code, forwarded, bytes.len(), begun.elapsed());
        }
    }

    async fn connection(&self, mut stream: TcpStream, client: SocketAddr) -> std::io::Result<()> {
        loop {
            let len = match timeout(TCP_IDLE, stream.read_u16()).await {
                Ok(Ok(len)) => len,
                Ok(Err(e)) if e.kind() == std::io::ErrorKind::UnexpectedEof => return Ok(()),
                Ok(Err(e)) => return Err(e),
                Err(_) => return Ok(()),
            };
            let mut bytes = vec![0; usize::from(len)];
            timeout(TCP_IDLE, stream.read_exact(&mut bytes)).await??;
            let answer = match read(&bytes) {
                Received::Request(request) => {
                    let begun = Instant::now();
                    let (answer, forwarded) = match self.step(&request) {
                        Step::Done(answer) => (answer, false),
                        Step::Ask(so_far, query) => (self.ask(&request, so_far, query, true).await, true),
                    };
                    let bytes = answer.encode(u16::MAX);
                    self.count(
                        asked(&request, client, true),
                        &answer,
                        forwarded,
                        bytes.as_deref(),
                        begun,
                    );
                    bytes
                }
                Received::Refused(answer) => Some(answer),
                // the next one may be a request
                Received::Nothing => continue,
            };
            let Some(bytes) = answer else {
                return Ok(());
            };
            let len = u16::try_from(bytes.len()).unwrap_or(u16::MAX);
            let mut framed = len.to_be_bytes().to_vec();
            framed.extend(bytes);
            stream.write_all(&framed).await?;
        }
    }

    fn step(&self, request: &Request) -> Step {
        let failed = |code| Step::Done(Answer::failed(request, code));
        let Some(question) = &request.question else {
            return failed(ResponseCode::ServFail);
        };
        if request.edns.as_ref().is_some_and(|edns| edns.version > 0) {
            return Step::Done(Answer::bad_version(request));
        }
        let mut query = Query::query(question.name.clone(), question.kind);
        // Names of the cluster are the same in every class, as CoreDNS has it.
        query.set_query_class(DNSClass::from(question.class));
        if self.forwarder.is_ours(request.id, &query) {
            tracing::warn!("{}: an upstream name server sends questions back here", query.name());
            return failed(ResponseCode::ServFail);
        }
        self.local(request, query).unwrap_or_else(|e| {
            tracing::warn!("{} {}: {e}", question.name, question.kind);
            failed(ResponseCode::ServFail)
        })
    }

    /// Answers from what is known of the cluster.
    fn local(&self, request: &Request, mut query: Query) -> Result<Step, hickory_proto::ProtoError> {
        let mut answer = Answer::to(request);
        let message = &mut answer.message;
        message.metadata.authoritative = true;
        let found = {
            let index = self.index.read().unwrap_or_else(PoisonError::into_inner);
            self.zone.lookup(&index, query.name(), query.query_type())?
        };
        match found {
            Lookup::Found { answers, additionals } => {
                message.answers = self.rotated(answers);
                message.additionals = additionals;
            }
            Lookup::NoData(soa) => message.authorities.push(soa),
            Lookup::NoName(soa) => {
                message.metadata.response_code = ResponseCode::NXDomain;
                message.authorities.push(soa);
            }
            Lookup::Refused => return Ok(Step::Done(Answer::failed(request, ResponseCode::Refused))),
            Lookup::Alias(chain, name) => {
                message.answers = chain;
                query.set_name(name);
                return Ok(Step::Ask(answer, query));
            }
            Lookup::Elsewhere => {
                message.metadata.authoritative = false;
                return Ok(Step::Ask(answer, query));
            }
        }
        Ok(Step::Done(answer))
    }

    /// Clients take the first address: each is it in turn. What stands for another name stays before it.
    fn rotated(&self, mut answers: Vec<Record>) -> Vec<Record> {
        let first = answers.iter().position(|r| r.record_type().is_ip_addr()).unwrap_or(0);
        let addresses = answers.get_mut(first..).unwrap_or_default();
        if addresses.len() > 1 {
            let turn = self.turn.fetch_add(1, Ordering::Relaxed);
            addresses.rotate_left(turn % addresses.len());
        }
        answers
    }

    async fn ask(&self, request: &Request, mut answer: Answer, query: Query, tcp: bool) -> Answer {
        let Ok(_permit) = self.forwards.try_acquire() else {
            answer.message.metadata.response_code = ResponseCode::Refused;
            return answer;
        };
        let wish = Wish {
            op_code: OpCode::from_u8(request.op_code()),
            tcp,
            dnssec: request.edns.as_ref().is_some_and(|edns| edns.dnssec()),
            authentic: request.has(bit::AUTHENTIC),
            recursion: request.has(bit::RECURSION_DESIRED),
            checking_disabled: request.has(bit::CHECKING_DISABLED),
        };
        match self.forwarder.ask(&query, wish).await {
            Ok(reply) if answer.message.answers.is_empty() => add(&mut answer, reply, request.asks_for_authenticity()),
            Ok(reply) => add_to_alias(&mut answer, reply),
            Err(e) => {
                tracing::debug!("{} {}: {e}", query.name(), query.query_type());
                answer.message.metadata.response_code = ResponseCode::ServFail;
            }
        }
        answer
    }
}

/// How a request came. One without a question is counted as one for anything.
fn asked(request: &Request, client: SocketAddr, tcp: bool) -> Asked {
    let room = request.edns.as_ref().map_or(512, |edns| edns.size);
    Asked {
        tcp,
        client: client.ip(),
        kind: request
            .question
            .as_ref()
            .map_or(RecordType::ANY, |question| question.kind),
        room: if tcp { u16::MAX } else { room },
    }
}

/// Passes on what an upstream said.
pub(crate) fn add(answer: &mut Answer, reply: Reply, authenticity: bool) {
    let message = &mut answer.message;
    message.metadata.response_code = reply.code;
    message.metadata.authoritative = reply.authoritative;
    message.metadata.recursion_available = reply.recursive;
    message.metadata.authentic_data = reply.authentic && authenticity;
    message.metadata.truncation = reply.truncated;
    message.answers = reply.answers;
    message.authorities = reply.authorities;
    message.additionals = reply.additionals;
}

/// Adds what an upstream says of the name that a name of the cluster stands for. That name is there even if the other is not.
fn add_to_alias(answer: &mut Answer, reply: Reply) {
    let message = &mut answer.message;
    if reply.code != ResponseCode::NXDomain {
        message.metadata.response_code = reply.code;
    }
    message.metadata.truncation = reply.truncated;
    message.answers.extend(reply.answers);
    // the records of one answer hold equally long
    let shortest = message.answers.iter().map(|record| record.ttl).min().unwrap_or(0);
    message.answers.iter_mut().for_each(|record| record.ttl = shortest);
}

async fn send(socket: &UdpSocket, answer: Option<Vec<u8>>, client: SocketAddr) {
    if let Some(bytes) = answer
        && let Err(e) = socket.send_to(&bytes, client).await
    {
        tracing::debug!("{client}: {e}");
    }
}
