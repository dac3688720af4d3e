//! Answers of upstreams, for as long as they hold, half a minute at most. Time is an argument.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use hickory_proto::op::{Message, ResponseCode};
use hickory_proto::rr::{RData, Record, RecordType};

/// CoreDNS' default in a cluster: `cache 30`.
const LONGEST: u32 = 30;
const OF_FAILURES: u32 = 5;
const MOST: usize = 10_000;

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Key {
    /// Lower case.
    pub name: String,
    pub kind: RecordType,
    /// With DNSSEC records.
    pub dnssec: bool,
    pub checking_disabled: bool,
}

/// What an upstream said, without what belongs to one exchange.
#[derive(Debug, Clone, PartialEq)]
pub struct Reply {
    pub code: ResponseCode,
    pub authentic: bool,
    pub truncated: bool,
    pub answers: Vec<Record>,
    pub authorities: Vec<Record>,
    pub additionals: Vec<Record>,
}

impl Reply {
    pub fn of(message: Message) -> Reply {
        Reply {
            code: message.metadata.response_code,
            authentic: message.metadata.authentic_data,
            truncated: message.metadata.truncation,
            answers: message.answers,
            authorities: message.authorities,
            additionals: message.additionals,
        }
    }

    fn sections(&mut self) -> impl Iterator<Item = &mut Record> {
        let rest = self.authorities.iter_mut().chain(self.additionals.iter_mut());
        self.answers.iter_mut().chain(rest)
    }

    /// Seconds that it may be kept; zero is not at all.
    fn lifetime(&self) -> u32 {
        match self.code {
            _ if self.truncated => 0,
            ResponseCode::ServFail => OF_FAILURES,
            ResponseCode::NoError if !self.answers.is_empty() => {
                let shortest = self.answers.iter().map(|r| r.ttl).min().unwrap_or(0);
                shortest.min(LONGEST)
            }
            // RFC 2308: the lesser of the SOA's own time and its minimum.
            ResponseCode::NoError | ResponseCode::NXDomain => {
                let soa = self.authorities.iter().find_map(|r| match &r.data {
                    RData::SOA(soa) => Some(r.ttl.min(soa.minimum)),
                    _ => None,
                });
                soa.unwrap_or(OF_FAILURES).min(LONGEST)
            }
            _ => 0,
        }
    }
}

struct Kept {
    reply: Reply,
    since: Instant,
    until: Instant,
}

#[derive(Default)]
pub struct Cache {
    kept: HashMap<Key, Kept>,
}

impl Cache {
    /// With the times that are left.
    pub fn get(&self, key: &Key, now: Instant) -> Option<Reply> {
        let kept = self.kept.get(key).filter(|k| now < k.until)?;
        let age = now.saturating_duration_since(kept.since).as_secs();
        let age = u32::try_from(age).unwrap_or(u32::MAX);
        let mut reply = kept.reply.clone();
        for record in reply.sections() {
            record.ttl = record.ttl.saturating_sub(age);
        }
        Some(reply)
    }

    pub fn put(&mut self, key: Key, reply: Reply, now: Instant) {
        let lifetime = reply.lifetime();
        if lifetime == 0 {
            return;
        }
        if self.kept.len() >= MOST {
            self.kept.retain(|_, k| now < k.until);
        }
        if self.kept.len() >= MOST
            && let Some(first) = self.kept.keys().next().cloned()
        {
            self.kept.remove(&first);
        }
        let until = now + Duration::from_secs(u64::from(lifetime));
        let since = now;
        self.kept.insert(key, Kept { reply, since, until });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hickory_proto::rr::Name;
    use hickory_proto::rr::rdata::A;

    #[test]
    fn an_answer_ages_and_ends_with_its_time_or_after_half_a_minute() {
        let mut cache = Cache::default();
        let key = |name: &str| Key {
            name: name.into(),
            kind: RecordType::A,
            dnssec: false,
            checking_disabled: false,
        };
        let reply = |ttl: u32| Reply {
            code: ResponseCode::NoError,
            authentic: false,
            truncated: false,
            answers: vec![Record::from_rdata(
                Name::root(),
                ttl,
                RData::A(A([192, 0, 2, 1].into())),
            )],
            authorities: Vec::new(),
            additionals: Vec::new(),
        };
        let start = Instant::now();
        let after = |s: u64| start + Duration::from_secs(s);
        cache.put(key("a"), reply(10), start);
        cache.put(key("b"), reply(1000), start);
        cache.put(key("c"), reply(0), start);
        assert_eq!(cache.get(&key("a"), after(4)), Some(reply(6)));
        assert_eq!(cache.get(&key("a"), after(10)), None);
        assert_eq!(cache.get(&key("b"), after(29)), Some(reply(971)));
        assert_eq!(cache.get(&key("b"), after(30)), None);
        assert_eq!(cache.get(&key("c"), start), None);
        let mut cut = reply(10);
        cut.truncated = true;
        cache.put(key("d"), cut, start);
        assert_eq!(cache.get(&key("d"), start), None);
    }
}
