//! One question about a name in a zone: what the name stands for, and the records that tell it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use hickory_proto::rr::rdata::{CNAME, NS, PTR, SOA, SRV, TXT};
use hickory_proto::rr::{Name, RData, Record, RecordType};

use super::{ALIASES, Lookup, PRIORITY, Result, SCHEMA, SCHEMA_TTL, WEIGHTS, Zone, address, found, is_of, labels};
use crate::index::{Entry, Index, Port, undashed};

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
pub(super) struct Missing;

/// A question, and who answers it.
pub(super) struct Question<'a> {
    pub(super) zone: &'a Zone,
    pub(super) index: &'a Index,
    pub(super) name: &'a Name,
    pub(super) kind: RecordType,
    /// The zone's name, as the client wrote it.
    pub(super) apex: Name,
}

impl Question<'_> {
    pub(super) fn answer(&self, is_cluster: bool) -> Result<std::result::Result<Lookup, Missing>> {
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
    pub(super) fn soa(&self) -> Result<Record> {
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
