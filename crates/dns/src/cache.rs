//! Answers of upstreams, for as long as they hold, half a minute at most. Time is an argument.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use hickory_proto::op::{Message, ResponseCode};
use hickory_proto::rr::{Record, RecordType};

/// Seconds, as in a cluster's CoreDNS: `cache 30`, whose least is five.
const LONGEST: u32 = 30;
const SHORTEST: u32 = 5;
const MOST: usize = 10_000;

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Key {
    /// Lower case.
    pub name: String,
    pub kind: RecordType,
    /// With DNSSEC records.
    pub dnssec: bool,
    pub checking_disabled: bool,
}

/// What an upstream said, without what belongs to one exchange.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Reply {
    pub code: ResponseCode,
    /// That of a reply from the cache always is: some resolvers discard others.
    pub authoritative: bool,
    pub recursive: bool,
    pub authentic: bool,
    pub truncated: bool,
    pub answers: Vec<Record>,
    pub authorities: Vec<Record>,
    pub additionals: Vec<Record>,
}

impl Reply {
    /// Reads a reply. All its records hold as long as the shortest of them, within the bounds of the cache.
    pub(crate) fn of(message: Message) -> Reply {
        let metadata = &message.metadata;
        let mut reply = Reply {
            code: metadata.response_code,
            authoritative: metadata.authoritative,
            recursive: metadata.recursion_available,
            authentic: metadata.authentic_data,
            truncated: metadata.truncation,
            answers: message.answers,
            authorities: message.authorities,
            additionals: message.additionals,
        };
        let lifetime = reply.lifetime();
        reply.sections().for_each(|record| record.ttl = lifetime);
        reply
    }

    fn sections(&mut self) -> impl Iterator<Item = &mut Record> {
        let rest = self.authorities.iter_mut().chain(self.additionals.iter_mut());
        self.answers.iter_mut().chain(rest)
    }

    fn has_authority(&self, kind: RecordType) -> bool {
        self.authorities.iter().any(|record| record.record_type() == kind)
    }

    /// Seconds that it may be kept.
    fn lifetime(&self) -> u32 {
        let says = match self.code {
            ResponseCode::NoError => !self.answers.is_empty() || !self.is_delegation(),
            ResponseCode::NXDomain => self.answers.is_empty(),
            _ => false,
        };
        let records = [&self.answers, &self.authorities, &self.additionals]
            .into_iter()
            .flatten();
        let shortest = records.map(|record| record.ttl).min().filter(|_| says);
        shortest.unwrap_or(SHORTEST).clamp(SHORTEST, LONGEST)
    }

    fn is_delegation(&self) -> bool {
        self.has_authority(RecordType::NS) && !self.has_authority(RecordType::SOA)
    }

    /// Whether it may be kept at all.
    fn is_kept(&self) -> bool {
        !self.truncated
            && match self.code {
                ResponseCode::NoError | ResponseCode::ServFail | ResponseCode::NotImp => true,
                // RFC 2308: the SOA says for how long there is no such name
                ResponseCode::NXDomain => self.answers.is_empty() && self.has_authority(RecordType::SOA),
                _ => false,
            }
    }
}

struct Kept {
    reply: Reply,
    since: Instant,
    until: Instant,
}

#[derive(Default)]
pub(crate) struct Cache {
    kept: HashMap<Key, Kept>,
}

impl Cache {
    /// With the times that are left.
    pub(crate) fn get(&self, key: &Key, now: Instant) -> Option<Reply> {
        let kept = self.kept.get(key).filter(|k| now < k.until)?;
        let age = now.saturating_duration_since(kept.since).as_secs();
        let age = u32::try_from(age).unwrap_or(u32::MAX);
        let mut reply = kept.reply.clone();
        reply.authoritative = true;
        for record in reply.sections() {
            record.ttl = record.ttl.saturating_sub(age);
        }
        Some(reply)
    }

    pub(crate) fn put(&mut self, key: Key, reply: Reply, now: Instant) {
        if !reply.is_kept() {
            return;
        }
        let lifetime = reply.lifetime();
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
    use hickory_proto::op::OpCode;
    use hickory_proto::rr::rdata::A;
    use hickory_proto::rr::{Name, RData};

    fn key(name: &str) -> Key {
        Key {
            name: name.into(),
            kind: RecordType::A,
            dnssec: false,
            checking_disabled: false,
        }
    }

    fn message(code: ResponseCode, ttls: &[u32]) -> Message {
        let mut message = Message::response(1, OpCode::Query);
        message.metadata.response_code = code;
        let address = |ttl: &u32| Record::from_rdata(Name::root(), *ttl, RData::A(A([192, 0, 2, 1].into())));
        message.add_answers(ttls.iter().map(address));
        message
    }

    fn ttls(reply: &Reply) -> Vec<u32> {
        reply.answers.iter().map(|record| record.ttl).collect()
    }

    #[test]
    fn an_answer_ages_and_ends_with_its_shortest_time_or_after_half_a_minute() {
        let mut cache = Cache::default();
        let start = Instant::now();
        let after = |s: u64| start + Duration::from_secs(s);
        cache.put(key("a"), Reply::of(message(ResponseCode::NoError, &[10, 300])), start);
        cache.put(key("b"), Reply::of(message(ResponseCode::NoError, &[1000])), start);
        cache.put(key("c"), Reply::of(message(ResponseCode::NoError, &[0])), start);
        let get = |name: &str, at: u64| cache.get(&key(name), after(at)).map(|reply| ttls(&reply));
        assert_eq!(get("a", 4), Some(vec![6, 6]));
        assert_eq!(get("a", 10), None);
        assert_eq!(get("b", 29), Some(vec![1]));
        assert_eq!(get("b", 30), None);
        assert_eq!(get("c", 1), Some(vec![4]));
        assert!(cache.get(&key("b"), start).is_some_and(|reply| reply.authoritative));
    }

    #[test]
    fn what_says_nothing_for_sure_is_not_kept() {
        let mut cache = Cache::default();
        let now = Instant::now();
        let mut cut = message(ResponseCode::NoError, &[10]);
        cut.metadata.truncation = true;
        let cases = [
            (cut, false),
            (message(ResponseCode::Refused, &[]), false),
            // without an SOA
            (message(ResponseCode::NXDomain, &[]), false),
            (message(ResponseCode::ServFail, &[]), true),
            (message(ResponseCode::NoError, &[]), true),
        ];
        for (i, (message, kept)) in cases.into_iter().enumerate() {
            let key = key(&i.to_string());
            cache.put(key.clone(), Reply::of(message), now);
            assert_eq!(cache.get(&key, now).is_some(), kept, "{i}");
        }
    }
}
