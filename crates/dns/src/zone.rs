//! Answers about the cluster's own names. Pure: a function of the index and the question.
//! Kubernetes DNS-Based Service Discovery, version 1.1.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use hickory_proto::rr::rdata::{A, AAAA, CNAME, PTR, SOA, SRV, TXT};
use hickory_proto::rr::{Name, RData, Record, RecordType};

use crate::index::{Endpoint, Entry, Index, Port, undashed};

/// The schema's version, as the specification has it.
const SCHEMA: &str = "1.1.0";
/// Priority of SRV records; the weights of a name's records add up to about 100.
const PRIORITY: u16 = 0;
const WEIGHTS: usize = 100;

#[derive(Debug, Clone, PartialEq)]
pub enum Lookup {
    Found {
        answers: Vec<Record>,
        additionals: Vec<Record>,
    },
    /// The name is there, but has nothing of this type.
    NoData,
    /// There is no such name.
    NoName,
    /// Another name stands for it.
    Alias(Name),
    /// Not a name of the cluster.
    Elsewhere,
}

pub struct Zone {
    domain: String,
    apex: Name,
    ttl: u32,
}

type Result<T> = std::result::Result<T, hickory_proto::ProtoError>;

impl Zone {
    pub fn new(domain: &str, ttl: u32) -> Result<Zone> {
        let domain = domain.trim_matches('.').to_lowercase();
        Ok(Zone {
            apex: Name::from_ascii(format!("{domain}."))?,
            domain,
            ttl,
        })
    }

    pub fn lookup(&self, index: &Index, name: &Name, kind: RecordType) -> Result<Lookup> {
        // as it is, without the escapes of zone files; a dot within a label is none between two
        let label = |bytes: &[u8]| String::from_utf8_lossy(bytes).to_lowercase().replace('.', "\\.");
        let lower = name.iter().map(label).collect::<Vec<_>>().join(".");
        let lower = lower.as_str();
        if lower == self.domain {
            return self.at_apex(kind);
        }
        if let Some(rest) = lower
            .strip_suffix(self.domain.as_str())
            .and_then(|r| r.strip_suffix('.'))
        {
            let labels: Vec<&str> = rest.split('.').collect();
            return Question {
                zone: self,
                index,
                name,
                kind,
            }
            .answer(&labels);
        }
        match arpa(lower) {
            Some(ip) => self.reverse(index, name, kind, ip),
            None => Ok(Lookup::Elsewhere),
        }
    }

    fn at_apex(&self, kind: RecordType) -> Result<Lookup> {
        Ok(match kind {
            RecordType::SOA => found(vec![self.soa()?]),
            _ => Lookup::NoData,
        })
    }

    /// Goes with every answer that there is nothing: says how long that holds.
    pub fn soa(&self) -> Result<Record> {
        let below = |labels: &str| Name::from_ascii(labels)?.append_domain(&self.apex);
        let soa = SOA::new(below("ns.dns")?, below("hostmaster")?, 1, 7200, 1800, 86400, self.ttl);
        Ok(self.record(&self.apex, RData::SOA(soa)))
    }

    fn record(&self, name: &Name, data: RData) -> Record {
        Record::from_rdata(name.clone(), self.ttl, data)
    }

    pub fn alias(&self, name: &Name, target: Name) -> Record {
        self.record(name, RData::CNAME(CNAME(target)))
    }

    /// Addresses that are no Service's are somebody else's to name.
    fn reverse(&self, index: &Index, name: &Name, kind: RecordType, ip: IpAddr) -> Result<Lookup> {
        let mut names = Vec::new();
        for (service, host) in index.by_ip(ip) {
            let target = self.service_name(service, host)?;
            names.push(self.record(name, RData::PTR(PTR(target))));
        }
        if names.is_empty() {
            return Ok(Lookup::Elsewhere);
        }
        Ok(if kind == RecordType::PTR {
            found(names)
        } else {
            Lookup::NoData
        })
    }

    /// `[host.]name.namespace.svc.<domain>` of a Service `namespace/name`.
    fn service_name(&self, service: &str, host: Option<&str>) -> Result<Name> {
        let (namespace, name) = service.split_once('/').unwrap_or(("", service));
        let host = host.map(|h| format!("{h}.")).unwrap_or_default();
        Name::from_ascii(format!("{host}{name}.{namespace}.svc.{}.", self.domain))
    }
}

fn found(answers: Vec<Record>) -> Lookup {
    if answers.is_empty() {
        return Lookup::NoData;
    }
    Lookup::Found {
        answers,
        additionals: Vec::new(),
    }
}

fn address(ip: IpAddr) -> RData {
    match ip {
        IpAddr::V4(ip) => RData::A(A(ip)),
        IpAddr::V6(ip) => RData::AAAA(AAAA(ip)),
    }
}

fn is_of(ip: IpAddr, kind: RecordType) -> bool {
    kind == if ip.is_ipv4() { RecordType::A } else { RecordType::AAAA }
}

struct Question<'a> {
    zone: &'a Zone,
    index: &'a Index,
    name: &'a Name,
    kind: RecordType,
}

impl Question<'_> {
    /// `labels` are those before the cluster's domain.
    fn answer(&self, labels: &[&str]) -> Result<Lookup> {
        match labels {
            ["dns-version"] => Ok(match self.kind {
                RecordType::TXT => found(vec![self.record(RData::TXT(TXT::new(vec![SCHEMA.to_owned()])))]),
                // CoreDNS has the name for this type alone
                _ => Lookup::NoName,
            }),
            ["svc" | "pod"] => Ok(Lookup::NoData),
            [namespace, "svc" | "pod"] => Ok(self.if_namespace(namespace)),
            [pod, namespace, "pod"] => Ok(self.pod(pod, namespace)),
            [service, namespace, "svc"] => self.service(service, namespace),
            [host, service, namespace, "svc"] => self.endpoint(host, service, namespace),
            [port, protocol, service, namespace, "svc"] => match (port.strip_prefix('_'), protocol.strip_prefix('_')) {
                (Some(port), Some(protocol)) => self.named_port(port, protocol, service, namespace),
                _ => Ok(Lookup::NoName),
            },
            _ => Ok(Lookup::NoName),
        }
    }

    fn record(&self, data: RData) -> Record {
        self.zone.record(self.name, data)
    }

    fn if_namespace(&self, namespace: &str) -> Lookup {
        if self.index.has_namespace(namespace) {
            Lookup::NoData
        } else {
            Lookup::NoName
        }
    }

    fn pod(&self, label: &str, namespace: &str) -> Lookup {
        match undashed(label) {
            Some(ip) if self.index.has_namespace(namespace) => self.addresses(&[ip]),
            _ => Lookup::NoName,
        }
    }

    fn addresses(&self, ips: &[IpAddr]) -> Lookup {
        let of_kind = ips.iter().filter(|ip| is_of(**ip, self.kind));
        found(of_kind.map(|ip| self.record(address(*ip))).collect())
    }

    fn service(&self, service: &str, namespace: &str) -> Result<Lookup> {
        let Some(entry) = self.index.service(namespace, service) else {
            return Ok(Lookup::NoName);
        };
        match entry {
            Entry::ExternalName(target) => match self.kind {
                RecordType::A | RecordType::AAAA | RecordType::CNAME => {
                    Ok(Lookup::Alias(Name::from_ascii(format!("{target}."))?))
                }
                _ => Ok(Lookup::NoData),
            },
            // A headless Service without endpoints has no records, hence no name.
            Entry::Headless { endpoints } if endpoints.is_empty() => Ok(Lookup::NoName),
            entry if self.kind == RecordType::SRV => self.srv(service, namespace, entry, |_| true),
            Entry::ClusterIp { ips, .. } => Ok(self.addresses(ips)),
            Entry::Headless { endpoints } => {
                let mut ips: Vec<IpAddr> = endpoints.iter().map(|e| e.ip).collect();
                ips.dedup();
                Ok(self.addresses(&ips))
            }
        }
    }

    fn endpoint(&self, host: &str, service: &str, namespace: &str) -> Result<Lookup> {
        let Some(Entry::Headless { endpoints } | Entry::ClusterIp { endpoints, .. }) =
            self.index.service(namespace, service)
        else {
            return Ok(Lookup::NoName);
        };
        let these: Vec<Endpoint> = endpoints.iter().filter(|e| e.host == host).cloned().collect();
        if these.is_empty() {
            return Ok(Lookup::NoName);
        }
        if self.kind == RecordType::SRV {
            return self.srv(service, namespace, &Entry::Headless { endpoints: these }, |_| true);
        }
        Ok(self.addresses(&these.iter().map(|e| e.ip).collect::<Vec<_>>()))
    }

    fn named_port(&self, port: &str, protocol: &str, service: &str, namespace: &str) -> Result<Lookup> {
        let wanted = |p: &Port| p.name == port && p.protocol == protocol;
        let Some(entry) = self.index.service(namespace, service) else {
            return Ok(Lookup::NoName);
        };
        let there = match entry {
            Entry::ClusterIp { ports, .. } => ports.iter().any(wanted),
            Entry::Headless { endpoints } => endpoints.iter().flat_map(|e| &e.ports).any(wanted),
            Entry::ExternalName(_) => false,
        };
        match (there, self.kind) {
            (false, _) => Ok(Lookup::NoName),
            (true, RecordType::SRV) => self.srv(service, namespace, entry, wanted),
            // CoreDNS does not look at the port then
            (true, _) => self.service(service, namespace),
        }
    }

    fn srv(&self, service: &str, namespace: &str, entry: &Entry, wanted: impl Fn(&Port) -> bool) -> Result<Lookup> {
        let key = format!("{namespace}/{service}");
        // Target, its addresses, port.
        let mut targets: Vec<(Name, Vec<IpAddr>, u16)> = Vec::new();
        match entry {
            Entry::ClusterIp { ips, ports, .. } => {
                for port in ports.iter().filter(|p| wanted(p)) {
                    targets.push((self.zone.service_name(&key, None)?, ips.clone(), port.port));
                }
            }
            Entry::Headless { endpoints } => {
                for endpoint in endpoints {
                    for port in endpoint.ports.iter().filter(|p| wanted(p)) {
                        let target = self.zone.service_name(&key, Some(&endpoint.host))?;
                        targets.push((target, vec![endpoint.ip], port.port));
                    }
                }
            }
            Entry::ExternalName(_) => {}
        }
        let weight = u16::try_from((WEIGHTS / targets.len().max(1)).max(1)).unwrap_or(1);
        let mut answers: Vec<Record> = Vec::new();
        let mut additionals: Vec<Record> = Vec::new();
        for (target, ips, port) in targets {
            for ip in ips {
                let record = self.zone.record(&target, address(ip));
                if !additionals.contains(&record) {
                    additionals.push(record);
                }
            }
            let record = self.record(RData::SRV(SRV::new(PRIORITY, weight, port, target)));
            if !answers.contains(&record) {
                answers.push(record);
            }
        }
        if answers.is_empty() {
            return Ok(Lookup::NoData);
        }
        Ok(Lookup::Found { answers, additionals })
    }
}

/// The address that a name below in-addr.arpa or ip6.arpa stands for.
fn arpa(name: &str) -> Option<IpAddr> {
    if let Some(rest) = name.strip_suffix(".in-addr.arpa") {
        let parts: Option<Vec<u8>> = rest.rsplit('.').map(|p| p.parse().ok()).collect();
        let octets: [u8; 4] = parts?.try_into().ok()?;
        return Some(Ipv4Addr::from(octets).into());
    }
    let nibbles: Vec<&str> = name.strip_suffix(".ip6.arpa")?.rsplit('.').collect();
    if nibbles.len() != 32 || nibbles.iter().any(|n| n.len() != 1) {
        return None;
    }
    let number = u128::from_str_radix(&nibbles.concat(), 16).ok()?;
    Some(Ipv6Addr::from(number).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn index() -> Index {
        let mut index = Index::default();
        let ports = || {
            vec![Port {
                name: "http".into(),
                protocol: "tcp".into(),
                port: 80,
            }]
        };
        index.set_namespace("ns", true);
        let ips = vec!["10.43.0.5".parse().unwrap(), "fd43::5".parse().unwrap()];
        let endpoints = vec![Endpoint {
            ip: "10.42.0.7".parse().unwrap(),
            host: "10-42-0-7".into(),
            ports: ports(),
        }];
        let ports_of_web = ports();
        index.set_service(
            "ns/web",
            Some(Entry::ClusterIp {
                ips,
                ports: ports_of_web,
                endpoints,
            }),
        );
        let endpoint = |ip: &str, host: &str| Endpoint {
            ip: ip.parse().unwrap(),
            host: host.into(),
            ports: ports(),
        };
        let endpoints = vec![endpoint("10.42.0.2", "db-0"), endpoint("10.42.0.3", "10-42-0-3")];
        index.set_service("ns/db", Some(Entry::Headless { endpoints }));
        index.set_service("ns/none", Some(Entry::Headless { endpoints: vec![] }));
        index.set_service("ns/out", Some(Entry::ExternalName("example.org".into())));
        index
    }

    /// The answer in the words of a zone file.
    fn ask(name: &str, kind: RecordType) -> Vec<String> {
        let zone = Zone::new("cluster.local", 5).unwrap();
        // as a message has it: a label may begin with a dash
        let labels = name.trim_end_matches('.').split('.').map(str::as_bytes);
        let name = Name::from_labels(labels).unwrap();
        match zone.lookup(&index(), &name, kind).unwrap() {
            Lookup::Found { answers, .. } => answers.iter().map(|r| r.data.to_string()).collect(),
            Lookup::Alias(name) => vec![format!("-> {name}")],
            other => vec![format!("{other:?}")],
        }
    }

    #[test]
    fn names_are_answered_as_the_specification_has_them() {
        use RecordType::{A, AAAA, MX, NS, PTR, SOA, SRV, TXT};
        let cases: &[(&str, RecordType, &[&str])] = &[
            ("web.ns.svc.cluster.local.", A, &["10.43.0.5"]),
            ("WEB.ns.Svc.cluster.LOCAL.", A, &["10.43.0.5"]),
            ("web.ns.svc.cluster.local.", AAAA, &["fd43::5"]),
            ("web.ns.svc.cluster.local.", MX, &["NoData"]),
            (
                "web.ns.svc.cluster.local.",
                SRV,
                &["0 100 80 web.ns.svc.cluster.local."],
            ),
            (
                "_http._tcp.web.ns.svc.cluster.local.",
                SRV,
                &["0 100 80 web.ns.svc.cluster.local."],
            ),
            ("_http._udp.web.ns.svc.cluster.local.", SRV, &["NoName"]),
            ("_http._tcp.web.ns.svc.cluster.local.", A, &["10.43.0.5"]),
            ("10-42-0-7.web.ns.svc.cluster.local.", A, &["10.42.0.7"]),
            ("7.0.42.10.in-addr.arpa.", PTR, &["10-42-0-7.web.ns.svc.cluster.local."]),
            ("out.ns.svc.cluster.local.", TXT, &["NoData"]),
            ("_tcp.web.ns.svc.cluster.local.", A, &["NoName"]),
            ("none.ns.svc.cluster.local.", A, &["NoName"]),
            ("db.ns.svc.cluster.local.", A, &["10.42.0.2", "10.42.0.3"]),
            ("db.ns.svc.cluster.local.", AAAA, &["NoData"]),
            ("db-0.db.ns.svc.cluster.local.", A, &["10.42.0.2"]),
            ("db-1.db.ns.svc.cluster.local.", A, &["NoName"]),
            (
                "_http._tcp.db.ns.svc.cluster.local.",
                SRV,
                &[
                    "0 50 80 db-0.db.ns.svc.cluster.local.",
                    "0 50 80 10-42-0-3.db.ns.svc.cluster.local.",
                ],
            ),
            ("out.ns.svc.cluster.local.", A, &["-> example.org."]),
            ("10-42-0-9.ns.pod.cluster.local.", A, &["10.42.0.9"]),
            ("fd42--9.ns.pod.cluster.local.", AAAA, &["fd42::9"]),
            ("--1.ns.pod.cluster.local.", AAAA, &["::1"]),
            ("10-42-0-9.absent.pod.cluster.local.", A, &["NoName"]),
            ("nonsense.ns.pod.cluster.local.", A, &["NoName"]),
            ("ns.svc.cluster.local.", A, &["NoData"]),
            ("absent.svc.cluster.local.", A, &["NoName"]),
            ("svc.cluster.local.", A, &["NoData"]),
            ("absent.ns.svc.cluster.local.", A, &["NoName"]),
            ("x.y.web.ns.svc.cluster.local.", A, &["NoName"]),
            ("dns-version.cluster.local.", TXT, &["1.1.0"]),
            ("cluster.local.", NS, &["NoData"]),
            (
                "cluster.local.",
                SOA,
                &["ns.dns.cluster.local. hostmaster.cluster.local. 1 7200 1800 86400 5"],
            ),
            ("cluster.local.", A, &["NoData"]),
            ("5.0.43.10.in-addr.arpa.", PTR, &["web.ns.svc.cluster.local."]),
            ("2.0.42.10.in-addr.arpa.", PTR, &["db-0.db.ns.svc.cluster.local."]),
            ("9.9.9.9.in-addr.arpa.", PTR, &["Elsewhere"]),
            (
                "5.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.3.4.d.f.ip6.arpa.",
                PTR,
                &["web.ns.svc.cluster.local."],
            ),
            ("example.org.", A, &["Elsewhere"]),
            ("notcluster.local.", A, &["Elsewhere"]),
        ];
        for (name, kind, expected) in cases {
            assert_eq!(ask(name, *kind), *expected, "{name} {kind}");
        }
    }

    #[test]
    fn a_changed_service_leaves_nothing_of_its_old_self() {
        let mut index = index();
        index.set_service("ns/web", Some(Entry::ExternalName("x.y".into())));
        assert_eq!(index.by_ip("10.43.0.5".parse().unwrap()).count(), 0);
        index.set_service("ns/db", None);
        assert_eq!(index.by_ip("10.42.0.2".parse().unwrap()).count(), 0);
        assert_eq!(index.service("ns", "db"), None);
    }
}
