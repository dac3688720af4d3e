//! The doors of the fuzz targets to parsers that are private otherwise. Not a part of what the crate offers.

use hickory_proto::op::Message;
use std::net::IpAddr;
use std::sync::OnceLock;

use crate::answer::Answer;
use crate::cache::Reply;
use crate::index::{Entry, Index};
use crate::request::{self, Received, Request};
use crate::zone::{Lookup, Zone};

fn index() -> Index {
    let mut index = Index::default();
    index.set_namespace("default", true);
    let ports = Vec::new();
    index.set_service(
        "default/a",
        Some(Entry::ClusterIp {
            ips: vec![IpAddr::from([10, 96, 0, 1])],
            ports,
        }),
    );
    index.set_service("default/b", Some(Entry::Headless));
    index.set_service("default/c", Some(Entry::ExternalName("c.example.com".into())));
    index
}

/// Answers a datagram of a client as the server does, from a zone with a few Services.
pub fn answered(datagram: &[u8]) -> Option<Vec<u8>> {
    static ZONE: OnceLock<(Option<Zone>, Index)> = OnceLock::new();
    let request = match request::read(datagram) {
        Received::Nothing => return None,
        Received::Refused(refusal) => return Some(refusal),
        Received::Request(request) => request,
    };
    let local = vec![IpAddr::from([10, 96, 0, 10])];
    let (zone, index) = ZONE.get_or_init(|| (Zone::new("cluster.local", 5, local).ok(), index()));
    let mut answer = Answer::to(&request);
    if let (Some(zone), Some(question)) = (zone, &request.question)
        && let Ok(Lookup::Found { answers, .. } | Lookup::Alias(answers, _)) =
            zone.lookup(index, &question.name, question.kind)
    {
        answer.message.add_answers(answers);
    }
    answer.encode(512)
}

/// Reads what another server answered, and answers a client with it.
pub fn forwarded(datagram: &[u8]) -> Option<Vec<u8>> {
    let reply = Reply::of(Message::from_vec(datagram).ok()?);
    let request = Request {
        id: 1,
        bits: 0,
        question: None,
        edns: None,
    };
    let mut answer = Answer::to(&request);
    crate::server::add(&mut answer, reply, true);
    answer.encode(u16::MAX)
}
