//! Answers about the cluster's own names. Pure: a function of the index and the question.
//! Kubernetes DNS-Based Service Discovery, version 1.1; where it is silent, as CoreDNS has it.

mod question;

use std::net::IpAddr;

use hickory_proto::rr::rdata::{A, AAAA};
use hickory_proto::rr::{Name, RData, Record, RecordType};

use self::question::{Missing, Question};
use crate::index::Index;

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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::index::{Endpoint, Entry, Port, Slice};

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
