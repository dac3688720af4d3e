//! What ends Events: a lease of the store, shared by those written in the same minute.

use std::time::Duration;

use etcd::Store;
use tokio::sync::Mutex;
use tokio::time::Instant;

use crate::http::status::Result;
use crate::registry::resource::Resource;

/// How long an Event lives after it was last written.
const TTL: Duration = Duration::from_secs(3600);
/// A lease lasts longer by this, and is given to what is written in the meantime; both numbers are upstream's.
const SHARED: Duration = Duration::from_secs(60);
/// Keys that one lease's end deletes.
const MOST_KEYS: u32 = 1000;

/// The lease that the next Event gets.
#[derive(Debug, Default)]
pub struct EventLease(Mutex<Option<Current>>);

#[derive(Debug)]
struct Current {
    id: i64,
    granted: Instant,
    keys: u32,
}

impl EventLease {
    /// The lease for an object of this resource: 0, none, for kinds that do not expire.
    pub async fn of(&self, resource: &Resource, store: &dyn Store) -> Result<i64> {
        if !resource.rules.expires {
            return Ok(0);
        }
        let mut current = self.0.lock().await;
        let now = Instant::now();
        if let Some(id) = current.as_mut().and_then(|lease| lease.join(now)) {
            return Ok(id);
        }
        let seconds = (TTL + SHARED).as_secs().cast_signed();
        let id = store.lease_grant(0, seconds).await?;
        *current = Some(Current {
            id,
            granted: now,
            keys: 1,
        });
        Ok(id)
    }
}

impl Current {
    fn join(&mut self, now: Instant) -> Option<i64> {
        let open = now.duration_since(self.granted) < SHARED && self.keys < MOST_KEYS;
        self.keys += u32::from(open);
        open.then_some(self.id)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use etcd::disk::MemoryDisk;
    use serde_json::json;

    use super::*;
    use crate::registry::cached::Encoded;
    use crate::registry::commit::{Claims, Expect, Place};
    use crate::registry::{Environment, Registry};

    struct Still;

    impl Environment for Still {
        fn now(&self) -> jiff::Timestamp {
            jiff::Timestamp::UNIX_EPOCH
        }

        fn random(&self, into: &mut [u8]) {
            into.fill(7);
        }
    }

    #[tokio::test]
    async fn an_event_that_is_told_again_still_ends() {
        let disk = Arc::new(MemoryDisk::default());
        let store = Arc::new(etcd::Embedded::open(disk, etcd::EmbeddedConfig::default()).unwrap());
        let registry = Arc::new(Registry::start(store.clone(), Arc::new(Still)).await.unwrap());
        let catalog = registry.catalog();
        let place = Place {
            registry: &registry,
            served: catalog.stored("", "events").unwrap(),
            namespace: "default",
        };
        let event = |count: u64| {
            let mut event = json!({"apiVersion": "v1", "kind": "Event", "metadata": {"name": "e", "namespace": "default", "uid": "u"},
                "involvedObject": {"kind": "Pod", "name": "p", "namespace": "default"}, "count": count});
            Encoded::of(&place.served.resource, &mut event).unwrap()
        };
        let made = place
            .put("e", Expect::Absent, &event(1), Claims::default())
            .await
            .unwrap()
            .unwrap();
        let again = Expect::At(made.revision());
        place
            .put("e", again, &event(2), Claims::default())
            .await
            .unwrap()
            .unwrap();
        let lease = registry.event_lease.0.lock().await.as_ref().unwrap().id;
        store.lease_revoke(lease).await.unwrap();
        assert!(registry.get("", "events", "default", "e").is_none());
    }

    #[test]
    fn a_lease_is_shared_for_a_minute_by_so_many() {
        let granted = Instant::now();
        let lease = |keys| Current { id: 7, granted, keys };
        let after = |seconds| granted + Duration::from_secs(seconds);
        assert_eq!(lease(1).join(after(59)), Some(7));
        assert_eq!(lease(1).join(after(60)), None);
        let mut nearly_full = lease(MOST_KEYS - 1);
        assert_eq!(nearly_full.join(granted), Some(7));
        assert_eq!(nearly_full.join(granted), None);
    }
}
