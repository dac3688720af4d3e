//! A NetworkPolicy, read. Pure.

use api::object::Object;
use api::selectors::{LabelSelector, SelectorError};
use serde_json::Value;

use crate::blocks::Block;
use crate::pod::protocol_number;

/// Whose traffic a list of rules is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Direction {
    Ingress,
    Egress,
}

pub(crate) const DIRECTIONS: [Direction; 2] = [Direction::Ingress, Direction::Egress];

/// Which namespaces' pods.
#[derive(Debug, Clone, PartialEq)]
pub enum Namespaces {
    One(String),
    Labelled(LabelSelector),
}

/// Pods by labels of theirs and of their namespaces.
#[derive(Debug, Clone, PartialEq)]
pub struct Selection {
    pub namespaces: Namespaces,
    pub pods: LabelSelector,
    /// The selectors as they are written: what says the same twice is one.
    pub text: String,
}

/// One end of allowed traffic.
#[derive(Debug, Clone, PartialEq)]
pub enum Peer {
    Pods(Selection),
    Block(Block),
}

/// Ports of allowed traffic; always those of the destination.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Port {
    All { protocol: u8 },
    Range { protocol: u8, first: u16, last: u16 },
    Named { protocol: u8, name: String },
}

/// What is allowed: all of its ports with all of its peers. Without peers (ports) everybody (everything) is.
#[derive(Debug, Clone, PartialEq)]
pub struct Rule {
    pub peers: Option<Vec<Peer>>,
    pub ports: Option<Vec<Port>>,
}

/// A policy; a direction without rules is none that it is about.
#[derive(Debug, Clone, PartialEq)]
pub struct Policy {
    /// The policy's key, `namespace/name`.
    pub key: String,
    /// The policy's namespace: its pods and those of peers without a namespace selector are of it.
    pub namespace: String,
    /// The pods that the policy is about.
    pub pods: Selection,
    /// What may reach the pods. With no rules at all nothing may; `None`: the policy says nothing of it.
    pub ingress: Option<Vec<Rule>>,
    /// What the pods may reach, in the same way.
    pub egress: Option<Vec<Rule>>,
}

/// Why an object is no policy. The API server lets none through.
#[derive(Debug, thiserror::Error)]
pub enum PolicyError {
    /// The object is not the JSON of an object.
    #[error("not JSON: {0}")]
    Json(#[from] serde_json::Error),
    /// A label selector cannot be understood.
    #[error(transparent)]
    Selector(#[from] SelectorError),
    /// A protocol other than TCP, UDP and SCTP.
    #[error("unknown protocol {0:?}")]
    Protocol(String),
    /// A port's number, or the end of a range, is not one from 0 to 65535.
    #[error("port {0} is out of range")]
    Port(String),
    /// A block, or one of its exceptions, is not an address with a prefix length.
    #[error("ipBlock {0:?} is no network")]
    Block(String),
    /// A peer has neither a block nor a selector.
    #[error("a peer that names nobody")]
    Peer,
}

fn items(of: &Value) -> &[Value] {
    of.as_array().map_or(&[], Vec::as_slice)
}

impl Policy {
    /// The rules of a direction, if the policy is about it.
    pub fn rules(&self, direction: Direction) -> Option<&Vec<Rule>> {
        match direction {
            Direction::Ingress => self.ingress.as_ref(),
            Direction::Egress => self.egress.as_ref(),
        }
    }

    /// # Errors
    /// When a part of it means nothing; see [`PolicyError`].
    pub fn read(object: &Object) -> Result<Policy, PolicyError> {
        let tree: Value = object.decode()?;
        let spec = &tree["spec"];
        let namespace = object.meta.namespace.to_string();
        let types: Vec<&str> = items(&spec["policyTypes"]).iter().filter_map(Value::as_str).collect();
        let about = |direction: &str, unsaid: bool| {
            if types.is_empty() {
                unsaid
            } else {
                types.contains(&direction)
            }
        };
        let rules = |list: &str, peers: &str| -> Result<Vec<Rule>, PolicyError> {
            items(&spec[list]).iter().map(|r| rule(r, peers, &namespace)).collect()
        };
        let ingress = about("Ingress", true).then(|| rules("ingress", "from")).transpose()?;
        let unsaid = !items(&spec["egress"]).is_empty();
        let egress = about("Egress", unsaid).then(|| rules("egress", "to")).transpose()?;
        Ok(Policy {
            key: object.key(),
            pods: selection(&namespace, None, Some(&spec["podSelector"]))?,
            namespace,
            ingress,
            egress,
        })
    }
}

fn selection(own: &str, namespaces: Option<&Value>, pods: Option<&Value>) -> Result<Selection, PolicyError> {
    let everything = Value::Null;
    let pods = pods.unwrap_or(&everything);
    let (namespaces, of) = match namespaces {
        Some(selector) => (
            Namespaces::Labelled(LabelSelector::from_tree(selector)?),
            format!("labelled {selector}"),
        ),
        None => (Namespaces::One(own.to_owned()), own.to_owned()),
    };
    Ok(Selection {
        namespaces,
        pods: LabelSelector::from_tree(pods)?,
        text: format!("{of}\n{pods}"),
    })
}

fn rule(rule: &Value, peers: &str, namespace: &str) -> Result<Rule, PolicyError> {
    let some = |list: &Value| Some(items(list).to_vec()).filter(|l| !l.is_empty());
    let peers = some(&rule[peers]).map(|all| all.iter().map(|p| peer(p, namespace)).collect());
    let ports = some(&rule["ports"]).map(|all| all.iter().map(port).collect());
    Ok(Rule {
        peers: peers.transpose()?,
        ports: ports.transpose()?,
    })
}

fn peer(peer: &Value, namespace: &str) -> Result<Peer, PolicyError> {
    let given = |name: &str| peer.get(name).filter(|v| !v.is_null());
    if let Some(block) = given("ipBlock") {
        let net = |text: &Value| {
            let text = text.as_str().unwrap_or_default();
            text.parse().map_err(|_| PolicyError::Block(text.to_owned()))
        };
        let except: Result<_, _> = items(&block["except"]).iter().map(net).collect();
        return Ok(Peer::Block(Block {
            cidr: net(&block["cidr"])?,
            except: except?,
        }));
    }
    match (given("namespaceSelector"), given("podSelector")) {
        (None, None) => Err(PolicyError::Peer),
        (namespaces, pods) => Ok(Peer::Pods(selection(namespace, namespaces, pods)?)),
    }
}

fn port(port: &Value) -> Result<Port, PolicyError> {
    let protocol = port["protocol"].as_str().unwrap_or("TCP");
    let protocol = protocol_number(protocol).ok_or_else(|| PolicyError::Protocol(protocol.to_owned()))?;
    let number = |value: &Value| {
        let number = value.as_u64().and_then(|n| u16::try_from(n).ok());
        number.ok_or_else(|| PolicyError::Port(value.to_string()))
    };
    Ok(match &port["port"] {
        Value::Null => Port::All { protocol },
        Value::String(name) => Port::Named {
            protocol,
            name: name.clone(),
        },
        first => Port::Range {
            protocol,
            first: number(first)?,
            last: match &port["endPort"] {
                Value::Null => number(first)?,
                last => number(last)?,
            },
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn read(spec: &Value) -> Result<Policy, PolicyError> {
        let policy = json!({"metadata": {"namespace": "n", "name": "p"}, "spec": spec});
        Policy::read(&Object::parse(serde_json::to_vec(&policy).unwrap().into()).unwrap())
    }

    #[test]
    fn a_policy_that_does_not_say_is_about_egress_only_with_rules_for_it() {
        for (spec, ingress, egress) in [
            (json!({}), Some(0), None),
            (json!({"egress": [{}]}), Some(0), Some(1)),
            (json!({"egress": []}), Some(0), None),
            (json!({"policyTypes": ["Egress"]}), None, Some(0)),
            (json!({"policyTypes": ["Egress"], "ingress": [{}]}), None, Some(0)),
            (
                json!({"policyTypes": ["Ingress", "Egress"], "ingress": [{}, {}]}),
                Some(2),
                Some(0),
            ),
        ] {
            let policy = read(&spec).unwrap();
            let count = |rules: &Option<Vec<Rule>>| rules.as_ref().map(Vec::len);
            assert_eq!(
                (count(&policy.ingress), count(&policy.egress)),
                (ingress, egress),
                "{spec}"
            );
        }
    }

    #[test]
    fn empty_lists_allow_everybody_and_empty_selectors_every_pod() {
        let policy = read(
            &json!({"ingress": [{"from": [], "ports": []}, {"from": [{"podSelector": {}}, {"namespaceSelector": {}}]}]}),
        );
        let rules = policy.unwrap().ingress.unwrap();
        assert_eq!(
            rules[0],
            Rule {
                peers: None,
                ports: None
            }
        );
        let peers = rules[1].peers.as_ref().unwrap();
        let [Peer::Pods(own), Peer::Pods(all)] = &peers[..] else {
            panic!("{peers:?}")
        };
        assert_eq!(own.namespaces, Namespaces::One("n".into()));
        assert!(own.pods.is_empty() && all.pods.is_empty());
        assert!(matches!(&all.namespaces, Namespaces::Labelled(s) if s.is_empty()));
    }

    #[test]
    fn ports_are_a_protocol_a_number_a_range_or_a_name() {
        let ports = json!([{}, {"protocol": "UDP", "port": 53}, {"port": 80, "endPort": 90}, {"protocol": "SCTP", "port": "x"}]);
        let rules = read(&json!({"ingress": [{"ports": ports}]})).unwrap().ingress.unwrap();
        let want = [
            Port::All { protocol: 6 },
            Port::Range {
                protocol: 17,
                first: 53,
                last: 53,
            },
            Port::Range {
                protocol: 6,
                first: 80,
                last: 90,
            },
            Port::Named {
                protocol: 132,
                name: "x".into(),
            },
        ];
        assert_eq!(rules[0].ports.as_deref(), Some(&want[..]));
    }

    #[test]
    fn what_means_nothing_is_an_error() {
        for (rule, error) in [
            (json!({"from": [{}]}), "a peer that names nobody"),
            (json!({"ports": [{"protocol": "ICMP"}]}), "unknown protocol \"ICMP\""),
            (json!({"ports": [{"port": 70000}]}), "port 70000 is out of range"),
            (
                json!({"from": [{"ipBlock": {"cidr": "10.0.0.0"}}]}),
                "ipBlock \"10.0.0.0\" is no network",
            ),
        ] {
            assert_eq!(read(&json!({"ingress": [rule]})).unwrap_err().to_string(), error);
        }
    }
}
