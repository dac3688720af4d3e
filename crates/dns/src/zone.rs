//! Answers about the cluster's own names. Pure: a function of the index and the question.
//! Kubernetes DNS-Based Service Discovery, version 1.1; where it is silent, as CoreDNS has it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use hickory_proto::rr::rdata::{A, AAAA, CNAME, NS, PTR, SOA, SRV, TXT};
use hickory_proto::rr::{Name, RData, Record, RecordType};

use crate::index::{Entry, Index, Port, undashed};

/// The schema's version, as the specification has it, and how long it holds.
const SCHEMA: &str = "1.1.0";
const SCHEMA_TTL: u32 = 30;
/// Priority of SRV records; the weights of a name's records add up to about 100.
const PRIORITY: u16 = 0;
const WEIGHTS: usize = 100;
/// Names that stand for names that stand for names.
const ALIASES: usize = 10;

#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Lookup {
    Found {
        answers: Vec<Record>,
        additionals: Vec<Record>,
    },
    /// The name is there, but has nothing of this type. The zone's SOA goes with it.
    NoData(Record),
    /// There is no such name. The zone's SOA goes with it.
    NoName(Record),
    /// These records, and whatever the others say about this name.
    Alias(Vec<Record>, Name),
    /// A transfer of the zone, which nobody gets.
    Refused,
    /// Not a name of the cluster.
    Elsewhere,
}

pub(crate) struct Zone {
    apex: Name,
    /// in-addr.arpa and ip6.arpa.
    reverse: [Name; 2],
    ttl: u32,
    /// Addresses that this server is reached at.
    local: Vec<IpAddr>,
}

type Result<T> = std::result::Result<T, hickory_proto::ProtoError>;

/// What a name stands for: an address or another name, the port it is served at, and its own name below the zone.
#[derive(Clone)]
struct Target {
    host: Host,
    port: Option<u16>,
    labels: Vec<String>,
}

#[derive(Clone)]
enum Host {
    Ip(IpAddr),
    Name(Name),
}

/// There is no such name.
struct Missing;

impl Zone {
    /// A zone whose records hold for `ttl` seconds.
    ///
    /// # Errors
    /// When the domain is none.
    pub(crate) fn new(domain: &str, ttl: u32, local: Vec<IpAddr>) -> Result<Zone> {
        let domain = domain.trim_matches('.').to_lowercase();
        Ok(Zone {
            apex: Name::from_ascii(format!("{domain}."))?,
            reverse: [Name::from_ascii("in-addr.arpa.")?, Name::from_ascii("ip6.arpa.")?],
            ttl,
            // nobody else reaches this server there
            local: local.into_iter().filter(|ip| !ip.is_loopback()).collect(),
        })
    }

    /// Looks a name up.
    ///
    /// # Errors
    /// When names become too long.
    pub(crate) fn lookup(&self, index: &Index, name: &Name, kind: RecordType) -> Result<Lookup> {
        let Some(zone) = self.zone_of(name) else {
            return Ok(Lookup::Elsewhere);
        };
        let is_cluster = *zone == self.apex;
        let question = Question {
            zone: self,
            index,
            name,
            kind,
            apex: name.trim_to(usize::from(zone.num_labels())),
        };
        let soa = || question.soa();
        match question.answer(is_cluster)? {
            Ok(Lookup::Found { answers, .. }) if answers.is_empty() => Ok(Lookup::NoData(soa()?)),
            Ok(lookup) => Ok(lookup),
            // addresses that are no Service's are somebody else's to name
            Err(Missing) if !is_cluster => Ok(Lookup::Elsewhere),
            Err(Missing) => Ok(Lookup::NoName(soa()?)),
        }
    }

    fn zone_of(&self, name: &Name) -> Option<&Name> {
        let mut zones = std::iter::once(&self.apex).chain(&self.reverse);
        zones.find(|zone| zone.zone_of(name))
    }

    fn record(&self, name: &Name, data: RData) -> Record {
        Record::from_rdata(name.clone(), self.ttl, data)
    }
}

/// The labels of a name in lower case, without those of its zone; a dot within a label is none between two.
fn labels(name: &Name, zone: &Name) -> Vec<String> {
    let count = usize::from(name.num_labels().saturating_sub(zone.num_labels()));
    let label = |bytes: &[u8]| String::from_utf8_lossy(bytes).to_lowercase().replace('.', "\\.");
    name.iter().take(count).map(label).collect()
}

fn found(answers: Vec<Record>) -> Lookup {
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
    /// The zone's name, as the client wrote it.
    apex: Name,
}

impl Question<'_> {
    fn answer(&self, is_cluster: bool) -> Result<std::result::Result<Lookup, Missing>> {
        let below = labels(self.name, &self.apex);
        let at_apex = below.is_empty();
        match self.kind {
            RecordType::AXFR | RecordType::IXFR => return Ok(Ok(Lookup::Refused)),
            RecordType::SOA if at_apex => return Ok(Ok(found(vec![self.soa()?]))),
            // whatever the name, as CoreDNS has it
            RecordType::SOA => return Ok(Ok(found(Vec::new()))),
            RecordType::NS if at_apex => return Ok(Ok(self.name_servers()?)),
            RecordType::PTR if !is_cluster => {
                if let Some(ip) = arpa(&below, &self.apex) {
                    return self.pointers(ip);
                }
            }
            RecordType::TXT => return Ok(self.text(&below, is_cluster)),
            _ => {}
        }
        let targets = match self.targets(&below, is_cluster) {
            Ok(targets) => targets,
            Err(missing) => return Ok(Err(missing)),
        };
        Ok(Ok(match self.kind {
            RecordType::A | RecordType::AAAA => self.addresses(targets)?,
            RecordType::CNAME => found(self.alias_of(&targets)),
            RecordType::SRV => self.services(&targets)?,
            _ => found(Vec::new()),
        }))
    }

    /// What the labels before a zone's name stand for. Nothing where they are a name that has no records of its own.
    fn targets(&self, below: &[String], is_cluster: bool) -> std::result::Result<Vec<Target>, Missing> {
        let below: Vec<&str> = below.iter().map(String::as_str).collect();
        if !is_cluster {
            return if below.is_empty() { Ok(Vec::new()) } else { Err(Missing) };
        }
        match *below.as_slice() {
            [] | ["svc" | "pod"] => Ok(Vec::new()),
            ["ns", "dns"] => Ok(self.own_addresses()),
            [.., namespace, "svc" | "pod"] if !self.index.has_namespace(namespace) => Err(Missing),
            [_, "svc" | "pod"] => Ok(Vec::new()),
            // what stands before a pod's address is not looked at, as CoreDNS has it
            [pod, namespace, "pod"] | [_, pod, namespace, "pod"] | [_, _, pod, namespace, "pod"] => {
                let ip = undashed(pod).ok_or(Missing)?;
                Ok(vec![Target {
                    host: Host::Ip(ip),
                    port: Some(0),
                    labels: [pod, namespace, "pod"].map(str::to_owned).into(),
                }])
            }
            [service, namespace, "svc"] => self.of_service(service, namespace, None, &|_| true),
            [host, service, namespace, "svc"] => self.of_service(service, namespace, Some(host), &|_| true),
            [port, protocol, service, namespace, "svc"] => {
                let bare = |label: &str| label.strip_prefix('_').unwrap_or(label).to_owned();
                let (port, protocol) = (bare(port), bare(protocol));
                let is = |asked: &str, has: &str| asked.is_empty() || asked == has;
                let wanted = |p: &Port| is(&port, &p.name) && is(&protocol, &p.protocol);
                match self.index.service(&format!("{namespace}/{service}")) {
                    Some(Entry::ExternalName(_)) if !(port.is_empty() && protocol.is_empty()) => Err(Missing),
                    _ => self.of_service(service, namespace, None, &wanted),
                }
            }
            _ => Err(Missing),
        }
    }

    fn of_service(
        &self,
        service: &str,
        namespace: &str,
        host: Option<&str>,
        wanted: &dyn Fn(&Port) -> bool,
    ) -> std::result::Result<Vec<Target>, Missing> {
        let key = format!("{namespace}/{service}");
        let labels = |host: Option<&str>| {
            let below = [service, namespace, "svc"];
            host.into_iter().chain(below).map(str::to_owned).collect::<Vec<_>>()
        };
        let mut targets = Vec::new();
        match (self.index.service(&key).ok_or(Missing)?, host) {
            (Entry::ExternalName(_), Some(_)) => {}
            (Entry::ExternalName(name), None) => targets.push(Target {
                host: Host::Name(Name::from_ascii(format!("{name}.")).map_err(|_| Missing)?),
                port: Some(0),
                labels: labels(None),
            }),
            (Entry::ClusterIp { ips, ports }, None) => {
                for port in ports.iter().filter(|port| wanted(port)) {
                    targets.extend(ips.iter().map(|ip| Target {
                        host: Host::Ip(*ip),
                        port: port.number,
                        labels: labels(None),
                    }));
                }
            }
            // the endpoints of any Service have names, not only those of headless ones
            (_, host) => {
                for slice in self.index.slices(&key) {
                    for endpoint in slice
                        .endpoints
                        .iter()
                        .filter(|e| host.is_none_or(|host| e.host == host))
                    {
                        targets.extend(slice.ports.iter().filter(|port| wanted(port)).map(|port| Target {
                            host: Host::Ip(endpoint.ip),
                            port: port.number,
                            labels: labels(Some(&endpoint.host)),
                        }));
                    }
                }
            }
        }
        if targets.is_empty() {
            return Err(Missing);
        }
        Ok(targets)
    }

    /// Follows names through the cluster as far as they lead.
    fn addresses(&self, mut targets: Vec<Target>) -> Result<Lookup> {
        let mut chain: Vec<Record> = Vec::new();
        let mut name = self.name.clone();
        loop {
            let Some(Target {
                host: Host::Name(next), ..
            }) = targets.first()
            else {
                let mut answers: Vec<Record> = Vec::new();
                for target in &targets {
                    match target.host {
                        Host::Ip(ip) if is_of(ip, self.kind) => answers.push(self.zone.record(&name, address(ip))),
                        _ => {}
                    }
                }
                dedup(&mut answers);
                // a name that stands for nothing has nothing
                let chain = if answers.is_empty() { Vec::new() } else { chain };
                return Ok(found(chain.into_iter().chain(answers).collect()));
            };
            let next = next.clone();
            let known = chain
                .iter()
                .any(|record| record.data == RData::CNAME(CNAME(next.clone())));
            if name.zone_of(&next) || known || chain.len() > ALIASES {
                return Ok(found(Vec::new()));
            }
            chain.push(self.zone.record(&name, RData::CNAME(CNAME(next.clone()))));
            if !self.zone.apex.zone_of(&next) {
                return Ok(Lookup::Alias(chain, next));
            }
            targets = match self.targets(&labels(&next, &self.zone.apex), true) {
                Ok(targets) => targets,
                Err(Missing) => return Ok(found(Vec::new())),
            };
            name = next;
        }
    }

    fn alias_of(&self, targets: &[Target]) -> Vec<Record> {
        match targets.first() {
            Some(Target {
                host: Host::Name(name), ..
            }) => vec![self.record(RData::CNAME(CNAME(name.clone())))],
            _ => Vec::new(),
        }
    }

    fn services(&self, targets: &[Target]) -> Result<Lookup> {
        let of_addresses: Vec<(&Target, IpAddr)> = targets
            .iter()
            .filter_map(|target| match target.host {
                Host::Ip(ip) => Some((target, ip)),
                Host::Name(_) => None,
            })
            .collect();
        let weight = u16::try_from((WEIGHTS / of_addresses.len().max(1)).max(1)).unwrap_or(1);
        let mut answers = Vec::new();
        let mut additionals = Vec::new();
        for (target, ip) in of_addresses {
            let Some(port) = target.port else { continue };
            let name = self.below(&target.labels)?;
            additionals.push(self.zone.record(&name, address(ip)));
            answers.push(self.record(RData::SRV(SRV::new(PRIORITY, weight, port, name))));
        }
        dedup(&mut answers);
        dedup(&mut additionals);
        Ok(Lookup::Found { answers, additionals })
    }

    fn text(&self, below: &[String], is_cluster: bool) -> std::result::Result<Lookup, Missing> {
        if is_cluster && below == ["dns-version"] {
            let text = RData::TXT(TXT::new(vec![SCHEMA.to_owned()]));
            return Ok(found(vec![Record::from_rdata(self.name.clone(), SCHEMA_TTL, text)]));
        }
        let is_own = below == ["ns", "dns"];
        match self.targets(below, is_cluster) {
            Ok(targets) if !targets.is_empty() && !is_own => Ok(found(Vec::new())),
            // CoreDNS has names without records of another type for none
            _ => Err(Missing),
        }
    }

    fn pointers(&self, ip: IpAddr) -> Result<std::result::Result<Lookup, Missing>> {
        let mut names = Vec::new();
        for (service, host) in self.index.by_ip(ip) {
            let (namespace, name) = service.split_once('/').unwrap_or(("", service));
            let labels: Vec<&str> = host.into_iter().chain([name, namespace, "svc"]).collect();
            let target = Name::from_labels(labels.iter().map(|label| label.as_bytes()))?;
            names.push(self.record(RData::PTR(PTR(target.append_domain(&self.zone.apex)?))));
        }
        dedup(&mut names);
        Ok(if names.is_empty() {
            Err(Missing)
        } else {
            Ok(found(names))
        })
    }

    /// The addresses of this server: those of the Service that it is an endpoint of, else its own.
    fn own_addresses(&self) -> Vec<Target> {
        let target = |ip: IpAddr, labels: Vec<String>| Target {
            host: Host::Ip(ip),
            port: None,
            labels,
        };
        let mut targets = Vec::new();
        for local in &self.zone.local {
            for (service, host) in self.index.by_ip(*local) {
                let (namespace, name) = service.split_once('/').unwrap_or(("", service));
                let labels = |host: Option<&str>| {
                    let labels = host.into_iter().chain([name, namespace, "svc"]);
                    labels.map(str::to_owned).collect::<Vec<_>>()
                };
                match self.index.service(service) {
                    Some(Entry::ClusterIp { ips, .. }) => {
                        targets.extend(ips.iter().map(|ip| target(*ip, labels(None))));
                    }
                    Some(Entry::Headless) => targets.push(target(*local, labels(host))),
                    _ => {}
                }
            }
        }
        if targets.is_empty() {
            let labels = || ["ns", "dns"].map(str::to_owned).to_vec();
            targets = self.zone.local.iter().map(|ip| target(*ip, labels())).collect();
        }
        targets
    }

    fn name_servers(&self) -> Result<Lookup> {
        let mut answers = Vec::new();
        let mut additionals = Vec::new();
        for target in self.own_addresses() {
            let name = self.below(&target.labels)?;
            if let Host::Ip(ip) = target.host {
                additionals.push(self.zone.record(&name, address(ip)));
            }
            answers.push(self.record(RData::NS(NS(name))));
        }
        dedup(&mut answers);
        Ok(Lookup::Found { answers, additionals })
    }

    /// Goes with every answer that there is nothing: says how long that holds.
    fn soa(&self) -> Result<Record> {
        let below = |labels: &str| Name::from_ascii(labels)?.append_domain(&self.apex);
        let ttl = self.zone.ttl;
        let soa = SOA::new(
            below("ns.dns")?,
            below("hostmaster")?,
            self.index.modified,
            7200,
            1800,
            86400,
            ttl,
        );
        Ok(self.zone.record(&self.apex, RData::SOA(soa)))
    }

    fn record(&self, data: RData) -> Record {
        self.zone.record(self.name, data)
    }

    /// A name below the zone. A label may begin with a dash, which is not read from text.
    fn below(&self, labels: &[String]) -> Result<Name> {
        Name::from_labels(labels.iter().map(String::as_bytes))?.append_domain(&self.apex)
    }
}

/// Leaves out records that are there already.
fn dedup(records: &mut Vec<Record>) {
    let mut seen = std::collections::HashSet::new();
    records.retain(|record| seen.insert((record.name.clone(), record.data.clone())));
}

/// The address that labels below in-addr.arpa or ip6.arpa stand for.
fn arpa(below: &[String], apex: &Name) -> Option<IpAddr> {
    let reversed: Vec<&str> = below.iter().rev().map(String::as_str).collect();
    if apex.num_labels() == 2
        && apex
            .iter()
            .next()
            .is_some_and(|label| label.eq_ignore_ascii_case(b"in-addr"))
    {
        return reversed.join(".").parse::<Ipv4Addr>().ok().map(IpAddr::V4);
    }
    if reversed.len() != 32 || reversed.iter().any(|nibble| nibble.len() != 1) {
        return None;
    }
    let number = u128::from_str_radix(&reversed.concat(), 16).ok()?;
    Some(Ipv6Addr::from(number).into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::index::{Endpoint, Slice};

    fn port(name: &str, number: u16) -> Port {
        Port {
            name: name.into(),
            protocol: "tcp".into(),
            number: Some(number),
        }
    }

    fn slice(service: &str, endpoints: &[(&str, &str)]) -> Slice {
        let endpoint = |(ip, host): &(&str, &str)| Endpoint {
            ip: ip.parse().unwrap(),
            host: (*host).into(),
        };
        Slice {
            service: service.into(),
            endpoints: endpoints.iter().map(endpoint).collect(),
            ports: vec![port("http", 80)],
        }
    }

    fn index() -> Index {
        let mut index = Index::default();
        index.modified = 1_795_981_988;
        index.set_namespace("ns", true);
        let ips = vec!["10.43.0.5".parse().unwrap(), "fd43::5".parse().unwrap()];
        let ports = vec![port("http", 80)];
        index.set_service("ns/web", Some(Entry::ClusterIp { ips, ports }));
        index.set_slice("ns/web-1", Some(slice("ns/web", &[("10.42.0.7", "10-42-0-7")])));
        index.set_service("ns/db", Some(Entry::Headless));
        index.set_slice("ns/db-1", Some(slice("ns/db", &[("10.42.0.2", "db-0")])));
        index.set_slice("ns/db-2", Some(slice("ns/db", &[("10.42.0.3", "10-42-0-3")])));
        index.set_service("ns/none", Some(Entry::Headless));
        let external = |name: &str| Some(Entry::ExternalName(name.into()));
        index.set_service("ns/out", external("example.org"));
        index.set_service("ns/in", external("web.ns.svc.cluster.local"));
        index.set_service("ns/loop", external("loop.ns.svc.cluster.local"));
        index.set_service("ns/lost", external("absent.ns.svc.cluster.local"));
        index
    }

    /// The answer in the words of a zone file.
    fn ask(name: &str, kind: RecordType) -> Vec<String> {
        let zone = Zone::new("cluster.local", 5, vec!["10.42.0.7".parse().unwrap()]).unwrap();
        // as a message has it: a label may begin with a dash
        let labels = name.trim_end_matches('.').split('.').map(str::as_bytes);
        let name = Name::from_labels(labels).unwrap();
        let words = |records: &[Record]| records.iter().map(|r| r.data.to_string()).collect::<Vec<_>>();
        match zone.lookup(&index(), &name, kind).unwrap() {
            Lookup::Found { answers, .. } => words(&answers),
            Lookup::Alias(chain, name) => [words(&chain), vec![format!("-> {name}")]].concat(),
            Lookup::NoData(_) => vec!["NoData".into()],
            Lookup::NoName(_) => vec!["NoName".into()],
            other => vec![format!("{other:?}")],
        }
    }

    #[test]
    fn names_are_answered_as_the_specification_has_them() {
        use RecordType::{A, AAAA, CNAME, MX, NS, PTR, SOA, SRV, TXT};
        let cases: &[(&str, RecordType, &[&str])] = &[
            ("web.ns.svc.cluster.local.", A, &["10.43.0.5"]),
            ("WEB.ns.Svc.cluster.LOCAL.", A, &["10.43.0.5"]),
            ("web.ns.svc.cluster.local.", AAAA, &["fd43::5"]),
            ("web.ns.svc.cluster.local.", MX, &["NoData"]),
            ("web.ns.svc.cluster.local.", SRV, &["0 50 80 web.ns.svc.cluster.local."]),
            (
                "_http._tcp.web.ns.svc.cluster.local.",
                SRV,
                &["0 50 80 web.ns.svc.cluster.local."],
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
            ("10-42-0-9.ns.pod.cluster.local.", A, &["10.42.0.9"]),
            ("x.10-42-0-9.ns.pod.cluster.local.", A, &["10.42.0.9"]),
            (
                "10-42-0-9.ns.pod.cluster.local.",
                SRV,
                &["0 100 0 10-42-0-9.ns.pod.cluster.local."],
            ),
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
            ("dns-version.cluster.local.", A, &["NoName"]),
            ("cluster.local.", TXT, &["NoName"]),
            ("cluster.local.", A, &["NoData"]),
            (
                "cluster.local.",
                SOA,
                &["ns.dns.cluster.local. hostmaster.cluster.local. 1795981988 7200 1800 86400 5"],
            ),
            ("web.ns.svc.cluster.local.", SOA, &["NoData"]),
            ("5.0.43.10.in-addr.arpa.", PTR, &["web.ns.svc.cluster.local."]),
            ("5.0.43.10.in-addr.arpa.", A, &["Elsewhere"]),
            ("2.0.42.10.in-addr.arpa.", PTR, &["db-0.db.ns.svc.cluster.local."]),
            ("9.9.9.9.in-addr.arpa.", PTR, &["Elsewhere"]),
            (
                "5.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.3.4.d.f.ip6.arpa.",
                PTR,
                &["web.ns.svc.cluster.local."],
            ),
            ("example.org.", A, &["Elsewhere"]),
            ("notcluster.local.", A, &["Elsewhere"]),
            ("cluster.local.", RecordType::AXFR, &["Refused"]),
            // this server is an endpoint of web
            ("ns.dns.cluster.local.", A, &["10.43.0.5"]),
            ("cluster.local.", NS, &["web.ns.svc.cluster.local."]),
            ("ns.dns.cluster.local.", TXT, &["NoName"]),
            ("out.ns.svc.cluster.local.", CNAME, &["example.org."]),
            ("out.ns.svc.cluster.local.", A, &["example.org.", "-> example.org."]),
            (
                "in.ns.svc.cluster.local.",
                A,
                &["web.ns.svc.cluster.local.", "10.43.0.5"],
            ),
            ("in.ns.svc.cluster.local.", CNAME, &["web.ns.svc.cluster.local."]),
            ("loop.ns.svc.cluster.local.", A, &["NoData"]),
            ("lost.ns.svc.cluster.local.", A, &["NoData"]),
        ];
        for (name, kind, expected) in cases {
            assert_eq!(ask(name, *kind), *expected, "{name} {kind}");
        }
    }

    #[test]
    fn a_changed_service_or_slice_leaves_nothing_of_its_old_self() {
        let mut index = index();
        let ip = |text: &str| text.parse::<IpAddr>().unwrap();
        index.set_service("ns/web", Some(Entry::ExternalName("x.y".into())));
        assert_eq!(index.by_ip(ip("10.43.0.5")), []);
        index.set_slice("ns/db-1", None);
        assert_eq!(index.by_ip(ip("10.42.0.2")), []);
        assert_eq!(index.slices("ns/db").count(), 1);
        index.set_slice("ns/db-2", Some(slice("ns/other", &[("10.42.0.3", "a")])));
        assert_eq!(index.by_ip(ip("10.42.0.3")), [("ns/other", Some("a"))]);
        assert_eq!(index.slices("ns/db").count(), 0);
    }
}
