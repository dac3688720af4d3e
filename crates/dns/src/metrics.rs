//! What the DNS server counts, under CoreDNS' names and labels (`plugin/metrics/vars`). There is one zone, the root, and no views.

use std::net::IpAddr;
use std::time::Duration;

use hickory_proto::op::ResponseCode;
use hickory_proto::rr::RecordType;
use metrics::{Counter, Family, Histogram, Metric, Page, Source, exponential};

/// Seconds.
const DURATIONS: [f64; 16] = exponential(0.000_25, 2.0);
/// Bytes.
const SIZES: [f64; 14] = [
    0.0, 100.0, 200.0, 300.0, 400.0, 511.0, 1023.0, 2047.0, 4095.0, 8291.0, 16e3, 32e3, 48e3, 64e3,
];
const ZONE: &str = ".";
const VIEW: &str = "";

const REQUESTS: Metric = Metric::foreign(
    "coredns_dns_requests_total",
    "DNS requests by protocol, family of addresses and type of record.",
);
const DURATION: Metric = Metric::foreign(
    "coredns_dns_request_duration_seconds",
    "Seconds that DNS requests took.",
);
const REQUEST_SIZE: Metric = Metric::foreign(
    "coredns_dns_request_size_bytes",
    "Bytes of an answer that clients take (64 KiB by TCP), by protocol.",
);
const RESPONSE_SIZE: Metric = Metric::foreign("coredns_dns_response_size_bytes", "Bytes of DNS answers, by protocol.");
const RESPONSES: Metric = Metric::foreign(
    "coredns_dns_responses_total",
    "DNS answers by their code and by who knew it: kubernetes, or forward.",
);

/// How a request came.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Asked {
    pub tcp: bool,
    pub client: IpAddr,
    pub kind: RecordType,
    /// Bytes that the client takes.
    pub room: u16,
}

/// What is counted of all requests at one port.
pub(crate) struct DnsMetrics {
    server: String,
    requests: Family<6, Counter>,
    durations: Family<3, Histogram>,
    request_sizes: Family<4, Histogram>,
    response_sizes: Family<4, Histogram>,
    responses: Family<5, Counter>,
}

impl DnsMetrics {
    /// Of a server at this port.
    pub(crate) fn new(port: u16) -> DnsMetrics {
        let sizes = ["proto", "server", "view", "zone"];
        DnsMetrics {
            server: format!("dns://:{port}"),
            requests: Family::counters(REQUESTS, ["family", "proto", "server", "type", "view", "zone"]),
            durations: Family::histograms(DURATION, ["server", "view", "zone"], &DURATIONS),
            request_sizes: Family::histograms(REQUEST_SIZE, sizes, &SIZES),
            response_sizes: Family::histograms(RESPONSE_SIZE, sizes, &SIZES),
            responses: Family::counters(RESPONSES, ["plugin", "rcode", "server", "view", "zone"]),
        }
    }

    /// A request was answered by so many bytes.
    pub(crate) fn answered(&self, asked: Asked, code: ResponseCode, forwarded: bool, size: usize, took: Duration) {
        let proto = if asked.tcp { "tcp" } else { "udp" };
        let family = if asked.client.is_ipv4() { "1" } else { "2" };
        let plugin = if forwarded { "forward" } else { "kubernetes" };
        let server = &self.server;
        let kind = type_name(asked.kind);
        self.requests
            .with([family, proto, server, kind, VIEW, ZONE])
            .increment();
        self.durations.with([server, VIEW, ZONE]).observe_time(took);
        let of_size = [proto, server, VIEW, ZONE];
        self.request_sizes.with(of_size).observe(f64::from(asked.room));
        self.response_sizes
            .with(of_size)
            .observe(f64::from(u16::try_from(size).unwrap_or(u16::MAX)));
        self.responses
            .with([plugin, code_name(code), server, VIEW, ZONE])
            .increment();
    }
}

/// The types that are counted by their name: no client can make the series many.
fn type_name(kind: RecordType) -> &'static str {
    match kind {
        RecordType::A => "A",
        RecordType::AAAA => "AAAA",
        RecordType::ANY => "ANY",
        RecordType::AXFR => "AXFR",
        RecordType::CNAME => "CNAME",
        RecordType::DNSKEY => "DNSKEY",
        RecordType::DS => "DS",
        RecordType::HTTPS => "HTTPS",
        RecordType::IXFR => "IXFR",
        RecordType::MX => "MX",
        RecordType::NS => "NS",
        RecordType::NSEC => "NSEC",
        RecordType::NSEC3 => "NSEC3",
        RecordType::PTR => "PTR",
        RecordType::RRSIG => "RRSIG",
        RecordType::SOA => "SOA",
        RecordType::SRV => "SRV",
        RecordType::SVCB => "SVCB",
        RecordType::TXT => "TXT",
        _ => "other",
    }
}

fn code_name(code: ResponseCode) -> &'static str {
    match code {
        ResponseCode::NoError => "NOERROR",
        ResponseCode::FormErr => "FORMERR",
        ResponseCode::ServFail => "SERVFAIL",
        ResponseCode::NXDomain => "NXDOMAIN",
        ResponseCode::NotImp => "NOTIMP",
        ResponseCode::Refused => "REFUSED",
        ResponseCode::BADVERS => "BADVERS",
        _ => "other",
    }
}

impl Source for DnsMetrics {
    fn show(&self, page: &mut Page) {
        self.requests.show(page);
        self.durations.show(page);
        self.request_sizes.show(page);
        self.response_sizes.show(page);
        self.responses.show(page);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_counted_under_few_names() {
        let metrics = DnsMetrics::new(53);
        let asked = Asked {
            tcp: false,
            client: IpAddr::from([10, 0, 0, 1]),
            kind: RecordType::from(4711),
            room: 1232,
        };
        metrics.answered(asked, ResponseCode::NXDomain, false, 90, Duration::from_micros(100));
        let mut page = Page::default();
        metrics.show(&mut page);
        let text = page.text();
        for line in [
            "coredns_dns_requests_total{family=\"1\",proto=\"udp\",server=\"dns://:53\",type=\"other\",view=\"\",zone=\".\"} 1",
            "coredns_dns_responses_total{plugin=\"kubernetes\",rcode=\"NXDOMAIN\",server=\"dns://:53\",view=\"\",zone=\".\"} 1",
            "coredns_dns_response_size_bytes_bucket{proto=\"udp\",server=\"dns://:53\",view=\"\",zone=\".\",le=\"100\"} 1",
        ] {
            assert!(text.lines().any(|l| l == line), "{line} in {text}");
        }
    }
}
