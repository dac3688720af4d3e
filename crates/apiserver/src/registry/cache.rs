//! The watch cache of one resource: every object by key, the recent events, and who waits for which.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::ops::Bound;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard, Weak};
use std::time::{Duration, Instant};

use bytes::Bytes;
use etcd::{Event, EventKind, Sink};
use tokio::sync::mpsc;

use crate::http::status::{ApiError, Result};
use crate::registry::cached::{Cached, Change, Prepared};
use crate::registry::chunk::{Before, Chunk, Range};
use crate::registry::resource::Resource;

/// Events that are kept however old they are.
const RING_MIN: usize = 128;
/// Events that are kept at most.
const RING_MAX: usize = 65_536;
/// An event older than this goes when there are more than `RING_MIN`.
const RING_AGE: Duration = Duration::from_secs(180);
/// Events a watcher may be behind before it is dropped.
const WATCHER_QUEUE: usize = 8192;

/// The narrowest index that covers what a watcher can match.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Scope {
    All,
    Namespace(Box<str>),
    /// `namespace/name` or `name`.
    Key(Box<str>),
    /// The first field whose values the resource keeps has this value (`spec.nodeName` of pods).
    Field(Box<str>),
}

#[derive(Debug)]
struct Watcher {
    id: u64,
    queue: mpsc::Sender<Arc<Change>>,
}

#[derive(Debug, Default)]
struct Inner {
    objects: BTreeMap<Box<str>, Arc<Cached>>,
    /// Bytes of the objects.
    bytes: u64,
    ring: VecDeque<(Instant, Arc<Change>)>,
    /// Every event after this revision is in the ring.
    complete_after: u64,
    /// The store has forgotten what was before this revision, and so may nobody ask for it here.
    forgotten: u64,
    watchers: HashMap<Scope, Vec<Watcher>>,
    next_watcher: u64,
}

impl Inner {
    fn insert(&mut self, key: Box<str>, object: Arc<Cached>) {
        self.bytes += object.object.bytes.len() as u64;
        if let Some(before) = self.objects.insert(key, object) {
            self.bytes -= before.object.bytes.len() as u64;
        }
    }
}

/// The cache of one resource.
#[derive(Debug)]
pub struct Cache {
    resource: Arc<Resource>,
    inner: RwLock<Inner>,
    revision: AtomicU64,
    /// The revision of the last change of this resource.
    changed: AtomicU64,
    /// Changes that the store has told.
    events: AtomicU64,
}

/// A registered watcher; unregisters when dropped. The queue ends when the watcher was too slow.
#[derive(Debug)]
pub struct Subscription {
    cache: Arc<Cache>,
    scope: Scope,
    id: u64,
    pub queue: mpsc::Receiver<Arc<Change>>,
}

/// A consistent picture of part of a resource.
#[derive(Debug)]
pub struct Listing {
    pub revision: u64,
    pub items: Vec<Arc<Cached>>,
}

impl Cache {
    fn empty(resource: Arc<Resource>) -> Cache {
        Cache {
            resource,
            inner: RwLock::default(),
            revision: AtomicU64::new(0),
            changed: AtomicU64::new(0),
            events: AtomicU64::new(0),
        }
    }

    /// Fills a cache from the store and keeps it current.
    pub async fn start(resource: Arc<Resource>, store: &dyn etcd::Store) -> Result<Arc<Cache>> {
        let cache = Arc::new(Cache::empty(resource.clone()));
        let range = etcd::KeyRange::prefix(resource.prefix.as_bytes());
        let sink: Weak<Cache> = Arc::downgrade(&cache);
        let content = store.subscribe(range, sink).await?;
        let mut inner = cache.write();
        for kv in content.kvs {
            let Some(key) = cache.object_key(&kv.key) else { continue };
            // an event may have overtaken the content: newer wins
            if inner.objects.get(&key).is_none_or(|o| o.revision() < kv.mod_revision) {
                match cache.decode(kv.value) {
                    Ok(object) => inner.insert(key, Arc::new(object)),
                    Err(error) => {
                        tracing::error!(key = ?kv.key, %error, "stored object cannot be read; it is not served");
                    }
                }
            }
        }
        inner.complete_after = inner.complete_after.max(content.revision);
        drop(inner);
        cache.revision.fetch_max(content.revision, Ordering::AcqRel);
        cache.changed.fetch_max(content.revision, Ordering::AcqRel);
        Ok(cache)
    }

    fn read(&self) -> RwLockReadGuard<'_, Inner> {
        self.inner.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Inner> {
        self.inner.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// An object as the store has it, read as this cache reads them.
    pub fn decode(&self, stored: Bytes) -> Result<Cached> {
        Cached::from_store(&self.resource, stored)
    }

    fn object_key(&self, key: &[u8]) -> Option<Box<str>> {
        std::str::from_utf8(key.strip_prefix(self.resource.prefix.as_bytes())?)
            .ok()
            .map(Into::into)
    }

    /// The revision that this cache reflects.
    pub fn revision(&self) -> u64 {
        self.revision.load(Ordering::Acquire)
    }

    /// The revision of the last change of this resource: what is compiled from it is current while this stays.
    pub fn changed(&self) -> u64 {
        self.changed.load(Ordering::Acquire)
    }

    /// How many changes the store has told since the start.
    pub fn events(&self) -> u64 {
        self.events.load(Ordering::Relaxed)
    }

    /// An object by its name.
    pub fn get(&self, namespace: &str, name: &str) -> Option<Arc<Cached>> {
        let inner = self.read();
        if namespace.is_empty() {
            inner.objects.get(name).cloned()
        } else {
            inner.objects.get(&*format!("{namespace}/{name}")).cloned()
        }
    }

    /// All objects of a namespace, or of all.
    pub fn list(&self, namespace: &str) -> Listing {
        let inner = self.read();
        let items = if namespace.is_empty() {
            inner.objects.values().cloned().collect()
        } else {
            within(&inner.objects, namespace).map(|(_, o)| o.clone()).collect()
        };
        Listing {
            revision: self.revision(),
            items,
        }
    }

    /// The objects of a range that match, as they were at a revision. Costs what is looked at and what has changed since
    /// then, whatever else there is; `rest` is counted only when it is asked for.
    ///
    /// `None` when the events since that revision are no longer here: the store may still know.
    pub fn chunk(
        &self,
        range: Range<'_>,
        revision: Option<u64>,
        count: bool,
        matches: impl FnMut(&Arc<Cached>) -> bool,
    ) -> Option<(u64, Chunk)> {
        let inner = self.read();
        let now = self.revision();
        let mut before = Before::new();
        if let Some(revision) = revision {
            if revision < inner.complete_after.max(inner.forgotten) {
                return None;
            }
            let first = inner.ring.partition_point(|(_, c)| c.revision <= revision);
            // the oldest change of an object, which is seen last, says what it was
            for (_, change) in inner.ring.range(first..).rev() {
                before.insert(change.current.object.key(), change.previous.clone());
            }
        }
        let chunk = Chunk::of(&inner.objects, &before, range, count, matches);
        Some((revision.unwrap_or(now), chunk))
    }

    /// All objects, and the revision of the last change that they reflect: what `changes_after` goes on from.
    pub fn snapshot(&self) -> (u64, Vec<Arc<Cached>>) {
        let inner = self.read();
        let newest = inner.ring.back().map(|(_, change)| change.revision);
        let revision = newest.unwrap_or_default().max(inner.complete_after);
        (revision, inner.objects.values().cloned().collect())
    }

    /// The changes after a revision in their order, and the revision of the last one; `None` when some are forgotten.
    pub fn changes_after(&self, since: u64) -> Option<(u64, Vec<Arc<Change>>)> {
        // nothing new is told without a lock
        if self.changed() <= since {
            return Some((since, Vec::new()));
        }
        let inner = self.read();
        if since < inner.complete_after {
            return None;
        }
        let first = inner.ring.partition_point(|(_, change)| change.revision <= since);
        let changes: Vec<Arc<Change>> = inner.ring.range(first..).map(|(_, change)| change.clone()).collect();
        Some((changes.last().map_or(since, |change| change.revision), changes))
    }

    /// How many objects there are.
    pub fn len(&self) -> usize {
        self.read().objects.len()
    }

    /// How many objects there are, and their bytes.
    pub fn size(&self) -> (u64, u64) {
        let inner = self.read();
        (inner.objects.len() as u64, inner.bytes)
    }

    /// How many watchers are told when an object changes; of a collection when it has no name.
    pub fn interested(&self, namespace: &str, name: &str) -> usize {
        let inner = self.read();
        if inner.watchers.is_empty() {
            return 0;
        }
        let count = |scope: Scope| inner.watchers.get(&scope).map_or(0, Vec::len);
        let mut all = count(Scope::All);
        if !namespace.is_empty() {
            all += count(Scope::Namespace(namespace.into()));
        }
        match (namespace, name) {
            (_, "") => all,
            ("", name) => all + count(Scope::Key(name.into())),
            (namespace, name) => all + count(Scope::Key(format!("{namespace}/{name}").into())),
        }
    }

    /// Whether there are no objects.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Registers a watcher for everything after `since`, which is handed out at once, or for everything after now
    /// together with the present objects when `since` is `None`.
    ///
    /// # Errors
    /// `410` when events after `since` are gone.
    pub fn watch(
        self: &Arc<Self>,
        scope: Scope,
        namespace: &str,
        since: Option<u64>,
    ) -> Result<(Subscription, Listing, Vec<Arc<Change>>)> {
        let mut inner = self.write();
        let mut backlog = Vec::new();
        let mut items = Vec::new();
        match since {
            Some(since) => {
                if since < inner.complete_after {
                    return Err(ApiError::too_old(since, inner.complete_after));
                }
                let first = inner.ring.partition_point(|(_, c)| c.revision <= since);
                backlog.extend(inner.ring.range(first..).map(|(_, c)| c.clone()));
            }
            None if namespace.is_empty() => items.extend(inner.objects.values().cloned()),
            None => items.extend(within(&inner.objects, namespace).map(|(_, o)| o.clone())),
        }
        let (sender, queue) = mpsc::channel(WATCHER_QUEUE);
        let id = inner.next_watcher;
        inner.next_watcher += 1;
        inner
            .watchers
            .entry(scope.clone())
            .or_default()
            .push(Watcher { id, queue: sender });
        let listing = Listing {
            revision: self.revision(),
            items,
        };
        Ok((
            Subscription {
                cache: self.clone(),
                scope,
                id,
                queue,
            },
            listing,
            backlog,
        ))
    }

    /// Forgets events that the store has forgotten: what was current at `revision` can no longer be asked for.
    pub fn compact(&self, revision: u64) {
        let mut inner = self.write();
        inner.forgotten = inner.forgotten.max(revision);
        let old = inner.ring.partition_point(|(_, c)| c.revision <= revision);
        let newest = inner.ring.drain(..old).next_back();
        if let Some((_, newest)) = newest {
            inner.complete_after = newest.revision;
            inner.ring.shrink_to_fit();
        }
    }

    /// Ends all watches: the resource is no longer served.
    pub fn close(&self) {
        self.write().watchers.clear();
    }

    fn apply_one(&self, inner: &mut Inner, event: &Event, now: Instant) {
        let Some(key) = self.object_key(&event.kv.key) else {
            return;
        };
        let previous = inner.objects.get(&key).cloned();
        let revision = event.kv.mod_revision;
        let change = match event.kind {
            EventKind::Put => {
                let hint = event.hint.as_ref().and_then(|h| h.downcast_ref::<Prepared>());
                let made = match hint {
                    Some(prepared) => Ok(Cached::from_prepared(prepared, event.kv.value.clone(), revision)),
                    None => self.decode(event.kv.value.clone()),
                };
                let current = match made {
                    Ok(current) => Arc::new(current),
                    Err(error) => {
                        tracing::error!(key = ?event.kv.key, %error, "stored object cannot be read; it is not served");
                        return;
                    }
                };
                inner.insert(key.clone(), current.clone());
                Change {
                    revision,
                    current,
                    previous,
                    deleted: false,
                    frame: OnceLock::new(),
                }
            }
            EventKind::Delete => {
                let Some(last) = inner.objects.remove(&key) else { return };
                inner.bytes -= last.object.bytes.len() as u64;
                let current = Arc::new(last.restamped(revision));
                Change {
                    revision,
                    current,
                    previous: Some(last),
                    deleted: true,
                    frame: OnceLock::new(),
                }
            }
        };
        let change = Arc::new(change);
        notify(&mut inner.watchers, &key, &change);
        inner.ring.push_back((now, change));
        while inner.ring.len() > RING_MIN {
            let Some((at, oldest)) = inner.ring.front() else { break };
            if inner.ring.len() <= RING_MAX && now.duration_since(*at) < RING_AGE {
                break;
            }
            inner.complete_after = oldest.revision;
            inner.ring.pop_front();
        }
    }

    fn unsubscribe(&self, scope: &Scope, id: u64) {
        let mut inner = self.write();
        if let Some(watchers) = inner.watchers.get_mut(scope) {
            watchers.retain(|w| w.id != id);
            if watchers.is_empty() {
                inner.watchers.remove(scope);
            }
        }
    }
}

fn within<'a>(
    objects: &'a BTreeMap<Box<str>, Arc<Cached>>,
    namespace: &str,
) -> impl Iterator<Item = (&'a Box<str>, &'a Arc<Cached>)> {
    let start: Box<str> = format!("{namespace}/").into();
    // '0' follows '/'
    let end: Box<str> = format!("{namespace}0").into();
    objects.range((Bound::Included(start), Bound::Excluded(end)))
}

fn notify(watchers: &mut HashMap<Scope, Vec<Watcher>>, key: &str, change: &Arc<Change>) {
    if watchers.is_empty() {
        return;
    }
    let mut send = |scope: Scope| {
        if let Some(list) = watchers.get_mut(&scope) {
            // a full queue: the watcher is too slow and is told so by the end of its queue
            list.retain(|w| w.queue.try_send(change.clone()).is_ok());
        }
    };
    send(Scope::All);
    if let Some((namespace, _)) = key.split_once('/') {
        send(Scope::Namespace(namespace.into()));
    }
    send(Scope::Key(key.into()));
    let field = change.current.fields.first();
    if let Some(value) = field {
        send(Scope::Field(value.clone()));
    }
    if let Some(before) = change.previous.as_ref().and_then(|p| p.fields.first())
        && Some(before) != field
    {
        send(Scope::Field(before.clone()));
    }
}

impl Sink for Cache {
    fn apply(&self, revision: u64, events: &[Event]) {
        if !events.is_empty() {
            self.events.fetch_add(events.len() as u64, Ordering::Relaxed);
            let now = Instant::now();
            let mut inner = self.write();
            for event in events {
                self.apply_one(&mut inner, event, now);
            }
            drop(inner);
            self.changed.store(revision, Ordering::Release);
        }
        self.revision.store(revision, Ordering::Release);
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        self.cache.unsubscribe(&self.scope, self.id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry::builtin_resources;

    fn configmaps() -> Arc<Cache> {
        let all = builtin_resources().unwrap();
        Arc::new(Cache::empty(Arc::new(
            all.into_iter().find(|r| r.is("", "configmaps")).unwrap(),
        )))
    }

    /// An object of a namespace and name is written, or deleted, at a revision.
    fn change(cache: &Cache, revision: u64, name: &str, written: bool) {
        let object = serde_json::json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": {
            "name": name.split('/').nth(1), "namespace": name.split('/').next(), "uid": "u", "resourceVersion": revision.to_string() } });
        let event = Event {
            kind: if written { EventKind::Put } else { EventKind::Delete },
            kv: etcd::KeyValue {
                key: Bytes::from(format!("{}{name}", cache.resource.prefix)),
                value: if written {
                    Bytes::from(object.to_string())
                } else {
                    Bytes::new()
                },
                create_revision: 3,
                mod_revision: revision,
                version: 1,
                lease: 0,
            },
            previous: None,
            hint: None,
        };
        cache.apply(revision, &[event]);
    }

    #[test]
    fn a_list_in_chunks_is_what_was_there_when_it_began() {
        let cache = configmaps();
        for (i, name) in ["a/a", "a/b", "b/a", "b/b", "b/c"].iter().enumerate() {
            change(&cache, 10 + i as u64, name, true);
        }
        let chunk = |namespace, start: Option<&str>, limit, at| {
            let range = Range {
                namespace,
                start,
                limit,
            };
            let (revision, chunk) = cache.chunk(range, at, true, |o| &*o.object.meta.name != "b")?;
            let seen: Vec<String> = chunk
                .items
                .iter()
                .map(|o| format!("{}@{}", o.object.key(), o.revision()))
                .collect();
            Some((revision, seen.join(" "), chunk.next, chunk.rest))
        };
        let next = |key: &str| Some(key.to_owned());
        assert_eq!(
            chunk("", None, 2, None),
            Some((14, "a/a@10 b/a@12".into(), next("b/c"), 1))
        );
        assert_eq!(chunk("b", None, 1, None), Some((14, "b/a@12".into(), next("b/c"), 1)));

        change(&cache, 15, "b/c", false);
        change(&cache, 16, "a/c", true);
        change(&cache, 17, "b/a", true);
        change(&cache, 18, "b/a", true);
        change(&cache, 19, "b/aa", true);
        change(&cache, 20, "b/aa", false);
        assert_eq!(
            chunk("", None, 0, Some(14)),
            Some((14, "a/a@10 b/a@12 b/c@14".into(), None, 0))
        );
        assert_eq!(
            chunk("", Some("b/a"), 1, Some(14)),
            Some((14, "b/a@12".into(), next("b/c"), 1))
        );
        assert_eq!(
            chunk("b", Some("a/a"), 0, Some(14)),
            Some((14, "b/a@12 b/c@14".into(), None, 0))
        );
        assert_eq!(
            chunk("", None, 0, Some(17)),
            Some((17, "a/a@10 a/c@16 b/a@17".into(), None, 0))
        );
        assert_eq!(
            chunk("b", None, 0, Some(19)),
            Some((19, "b/a@18 b/aa@19".into(), None, 0))
        );
        assert_eq!(
            chunk("", None, 0, None),
            Some((20, "a/a@10 a/c@16 b/a@18".into(), None, 0))
        );

        assert_eq!(chunk("a", Some("b/a"), 0, Some(14)), Some((14, String::new(), None, 0)));
        assert_eq!(chunk("a", Some("z"), 1, None), Some((20, String::new(), None, 0)));

        cache.compact(16);
        assert_eq!(
            chunk("", None, 0, Some(14)),
            None,
            "the store may know, or say that it is too old"
        );
        assert!(chunk("", None, 0, Some(17)).is_some());
        cache.compact(30);
        assert_eq!(chunk("", None, 0, Some(20)), None, "though nothing has changed since");
    }

    #[test]
    fn what_the_store_has_forgotten_cannot_be_watched_from() {
        let cache = configmaps();
        for revision in [3, 5, 9] {
            change(&cache, revision, "n/a", true);
        }
        let seen = |since| {
            let (_, _, backlog) = cache.watch(Scope::All, "", Some(since))?;
            Ok::<_, ApiError>(backlog.iter().map(|c| c.revision).collect::<Vec<_>>())
        };
        assert_eq!(seen(3).unwrap(), [5, 9]);
        cache.compact(6);
        assert_eq!(seen(3).unwrap_err().code, 410);
        assert_eq!(
            seen(5).unwrap(),
            [9],
            "who has seen the last of what is forgotten misses nothing"
        );
        cache.compact(20);
        assert_eq!(seen(9).unwrap(), [0; 0]);
        assert!(cache.get("n", "a").is_some());
    }
}
