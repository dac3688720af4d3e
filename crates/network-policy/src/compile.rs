//! One direction of a policy: the sets it looks into and the chains it becomes. Pure.

use std::sync::Arc;

use api::selectors::LabelSelector;
use cni::nft::{Family, Rule, Verdict};
use sha2::{Digest, Sha256};

use crate::blocks::{Block, Range, ranges};
use crate::members::{Source, Wanted};
use crate::policy::{self, Direction, Namespaces, Peer, Policy, Port, Selection};
use crate::rules::{PeerTest, PortTest, test};

/// A name of the kernel's: short, and the same for the same text.
pub(crate) fn name(prefix: &str, text: &str) -> Arc<str> {
    let digest = Sha256::digest(text.as_bytes());
    let hash: String = digest.iter().take(8).map(|b| format!("{b:02x}")).collect();
    format!("{prefix}-{hash}").into()
}

pub(crate) fn set_name(source: &Source) -> Arc<str> {
    name("s", &source.text())
}

/// A pair of tests; packets that meet both pass.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Pass {
    peer: PeerTest,
    port: PortTest,
}

/// One rule, taken apart.
#[derive(Debug, Default, PartialEq)]
struct Parts {
    pairs: Vec<Pass>,
    /// All of these ports with all of these peers, where there are several of both.
    ports: Vec<PortTest>,
    peers: Vec<PeerTest>,
}

/// What a policy's direction needs.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Compiled {
    pub sources: Vec<Source>,
    /// Sets of address ranges, by name; of IPv4 and IPv6.
    pub blocks: Vec<(Arc<str>, Vec<Range>, Vec<Range>)>,
    rules: Vec<Parts>,
    chain: Option<(Direction, Arc<str>)>,
}

pub(crate) fn chain_name(direction: Direction, policy: &str) -> Arc<str> {
    match direction {
        Direction::Ingress => name("i", policy),
        Direction::Egress => name("e", policy),
    }
}

pub(crate) fn compile(policy: &Policy, direction: Direction) -> Compiled {
    let mut compiled = Compiled {
        chain: Some((direction, chain_name(direction, &policy.key))),
        ..Compiled::default()
    };
    for (at, rule) in policy.rules(direction).into_iter().flatten().enumerate() {
        let parts = compiled.rule(policy, direction, at, rule);
        compiled.rules.push(parts);
    }
    compiled
}

impl Compiled {
    fn source(&mut self, source: Source) -> Arc<str> {
        let name = set_name(&source);
        if !self.sources.contains(&source) {
            self.sources.push(source);
        }
        name
    }

    fn rule(&mut self, policy: &Policy, direction: Direction, at: usize, rule: &policy::Rule) -> Parts {
        let mut selections = Vec::new();
        let mut peers = Vec::new();
        for peer in rule.peers.iter().flatten() {
            if let Peer::Pods(selection) = peer {
                let set = self.source(Source {
                    selection: selection.clone(),
                    wanted: Wanted::Addresses,
                    local: false,
                });
                peers.push(PeerTest::In(set));
                selections.push(selection);
            }
        }
        let blocks: Vec<Block> = rule.peers.iter().flatten().filter_map(block).collect();
        let in_blocks = self.blocks(policy, direction, at, &blocks);
        peers.extend(in_blocks.clone().map(PeerTest::In));
        if rule.peers.is_none() {
            peers.push(PeerTest::Anybody);
        }
        let mut parts = Parts::default();
        let mut ports = Vec::new();
        for port in rule.ports.iter().flatten() {
            match port {
                Port::All { protocol } => ports.push(PortTest::All { protocol: *protocol }),
                Port::Range { protocol, first, last } => ports.push(PortTest::Range {
                    protocol: *protocol,
                    first: *first,
                    last: *last,
                }),
                Port::Named { protocol, name } => {
                    let wanted = Wanted::Port {
                        protocol: *protocol,
                        name: name.clone(),
                    };
                    self.named(policy, direction, &selections, &peers, wanted, &mut parts);
                }
            }
        }
        if rule.ports.is_none() {
            ports.push(PortTest::Any);
        }
        if ports.len() > 1 && peers.len() > 1 {
            (parts.ports, parts.peers) = (ports, peers);
        } else {
            for port in &ports {
                parts.pairs.extend(peers.iter().map(|peer| Pass {
                    peer: peer.clone(),
                    port: port.clone(),
                }));
            }
        }
        parts
    }

    /// A port's name means the port of the pod that packets go to.
    fn named(
        &mut self,
        policy: &Policy,
        direction: Direction,
        selections: &[&Selection],
        peers: &[PeerTest],
        wanted: Wanted,
        parts: &mut Parts,
    ) {
        if direction == Direction::Ingress {
            let set = self.source(Source {
                selection: policy.pods.clone(),
                wanted,
                local: true,
            });
            parts.pairs.extend(peers.iter().map(|peer| Pass {
                peer: peer.clone(),
                port: PortTest::Services(set.clone()),
            }));
            return;
        }
        for selection in selections {
            let set = self.source(Source {
                selection: (*selection).clone(),
                wanted: wanted.clone(),
                local: false,
            });
            parts.pairs.push(Pass {
                peer: PeerTest::Anybody,
                port: PortTest::Services(set),
            });
        }
        // Who is given by address, or not at all, may be any pod.
        for peer in peers.iter().skip(selections.len()) {
            let set = self.source(Source {
                selection: every_pod(),
                wanted: wanted.clone(),
                local: false,
            });
            parts.pairs.push(Pass {
                peer: peer.clone(),
                port: PortTest::Services(set),
            });
        }
    }

    fn blocks(&mut self, policy: &Policy, direction: Direction, at: usize, blocks: &[Block]) -> Option<Arc<str>> {
        let (v4, v6) = (ranges(blocks, false), ranges(blocks, true));
        if v4.is_empty() && v6.is_empty() {
            return None;
        }
        let name = name("b", &format!("{}\n{direction:?}\n{at}\n{v4:?}{v6:?}", policy.key));
        self.blocks.push((name.clone(), v4, v6));
        Some(name)
    }

    /// The chains of one family, the policy's own first.
    pub(crate) fn chains(&self, family: Family) -> Vec<(Arc<str>, Vec<Rule>)> {
        let Some((direction, own)) = &self.chain else {
            return Vec::new();
        };
        // a set that would be empty is not made, and nobody is in it
        let nobody = |peer: &PeerTest| {
            let PeerTest::In(set) = peer else { return false };
            let block = self.blocks.iter().find(|(name, _, _)| name == set);
            block.is_some_and(|(_, v4, v6)| if family == Family::Ipv6 { v6 } else { v4 }.is_empty())
        };
        let pass = |peer: &PeerTest, port: &PortTest| test(family, *direction, peer, port).verdict(Verdict::Accept);
        let mut rules = Vec::new();
        let mut more = Vec::new();
        for (at, parts) in self.rules.iter().enumerate() {
            let pairs = parts.pairs.iter().filter(|pair| !nobody(&pair.peer));
            rules.extend(pairs.map(|pair| pass(&pair.peer, &pair.port)));
            if !parts.ports.is_empty() {
                let chain: Arc<str> = format!("{own}-{at}").into();
                let to_peers = |port| test(family, *direction, &PeerTest::Anybody, port).jump(&chain);
                rules.extend(parts.ports.iter().map(to_peers));
                let peers = parts.peers.iter().filter(|peer| !nobody(peer));
                let peers = peers.map(|peer| pass(peer, &PortTest::Any)).collect();
                more.push((chain, peers));
            }
        }
        let mut chains = vec![(own.clone(), rules)];
        chains.append(&mut more);
        chains
    }
}

fn block(peer: &Peer) -> Option<Block> {
    match peer {
        Peer::Block(block) => Some(block.clone()),
        Peer::Pods(_) => None,
    }
}

fn every_pod() -> Selection {
    Selection {
        namespaces: Namespaces::Labelled(LabelSelector::default()),
        pods: LabelSelector::default(),
        text: "every pod".into(),
    }
}
