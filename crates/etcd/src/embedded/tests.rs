use super::*;
use crate::disk::MemoryDisk;
use crate::store::{Event, Op, Put, Value};
use bytes::Bytes;

fn put(key: String, value: impl Into<Bytes>, lease: i64) -> Txn {
    let put = Put {
        key: key.into(),
        value: Value::Plain(value.into()),
        lease,
        hint: None,
    };
    Txn {
        success: vec![Op::Put(put)],
        ..Txn::default()
    }
}

fn open(disk: &MemoryDisk) -> Embedded {
    Embedded::open(
        Arc::new(disk.clone()),
        EmbeddedConfig {
            log_size: 16 << 20,
            ..EmbeddedConfig::default()
        },
    )
    .unwrap()
}

async fn keys(store: &Embedded) -> Vec<String> {
    let all = store.range(KeyRange::prefix(b""), 0, None).await.unwrap();
    all.kvs
        .iter()
        .map(|kv| String::from_utf8_lossy(&kv.key).into_owned())
        .collect()
}

#[tokio::test]
async fn every_acknowledged_write_survives_power_loss_wherever_the_record_tears() {
    for torn in [0, 1, 7, 8, 9, 40, 4096] {
        let disk = MemoryDisk::default();
        let store = open(&disk);
        for i in 0..5 {
            store.txn(put(format!("k{i}"), "v", 0)).await.unwrap();
        }
        let crashed = disk.after_power_loss(torn);
        drop(store);
        let again = open(&crashed);
        assert_eq!(keys(&again).await, ["k0", "k1", "k2", "k3", "k4"]);
        assert_eq!(again.revision(), 6);
        again.txn(put("k5".into(), "v", 0)).await.unwrap();
        assert_eq!(again.revision(), 7);
    }
}

#[tokio::test]
async fn a_full_disk_refuses_writes_keeps_reads_and_recovers() {
    let disk = MemoryDisk::default();
    let store = open(&disk);
    store.txn(put("a".into(), "v", 0)).await.unwrap();
    disk.set_room(Some(1000));
    let refused = store.txn(put("b".into(), vec![0; 2 << 20], 0)).await;
    assert!(matches!(refused, Err(StoreError::NoSpace(_))), "{refused:?}");
    assert_eq!(keys(&store).await, ["a"]);
    disk.set_room(None);
    store.txn(put("c".into(), "v", 0)).await.unwrap();
    drop(store);
    assert_eq!(keys(&open(&disk)).await, ["a", "c"]);
}

#[tokio::test]
async fn a_failed_sync_stops_the_store() {
    let disk = MemoryDisk::default();
    let store = open(&disk);
    store.txn(put("first".into(), "v", 0)).await.unwrap();
    disk.fail_sync();
    assert!(matches!(
        store.txn(put("a".into(), "v", 0)).await,
        Err(StoreError::Unavailable(_))
    ));
    assert!(matches!(
        store.txn(put("b".into(), "v", 0)).await,
        Err(StoreError::Unavailable(_))
    ));
}

#[tokio::test]
async fn snapshots_replace_the_log_and_lose_nothing() {
    let disk = MemoryDisk::default();
    let store = open(&disk);
    for i in 0..50 {
        store
            .txn(put(format!("k{:02}", i % 40), vec![b'x'; 1 << 20], 0))
            .await
            .unwrap();
    }
    let revision = store.revision();
    drop(store);
    let names = disk.list().unwrap();
    assert!(names.contains(&"snapshot".to_owned()), "{names:?}");
    assert!(!names.contains(&"0000000000000000.wal".to_owned()), "{names:?}");
    let again = open(&disk);
    assert_eq!(again.key_count(), 40);
    assert_eq!(again.revision(), revision);
}

#[tokio::test]
async fn a_compaction_gives_the_disk_back() {
    let disk = MemoryDisk::default();
    let store = open(&disk);
    for i in 0..8 {
        store
            .txn(put(format!("k{}", i % 2), vec![b'x'; 1 << 20], 0))
            .await
            .unwrap();
    }
    assert!(!disk.list().unwrap().contains(&"snapshot".to_owned()));
    store.compact(store.revision()).await.unwrap();
    let revision = store.revision();
    drop(store);
    assert_eq!(disk.list().unwrap(), ["0000000000000001.wal", "head", "snapshot"]);
    let again = open(&disk);
    assert_eq!((again.key_count(), again.revision()), (2, revision));
    again.compact(again.revision()).await.unwrap_err();
    again.txn(put("k2".into(), "v", 0)).await.unwrap();
    again.compact(again.revision()).await.unwrap();
    drop(again);
    let names = disk.list().unwrap();
    assert_eq!(names, ["0000000000000001.wal", "head", "snapshot"], "a short log stays");
    assert_eq!(keys(&open(&disk)).await, ["k0", "k1", "k2"]);
}

#[tokio::test]
async fn a_lease_that_ends_deletes_its_keys() {
    struct Deleted(std::sync::mpsc::Sender<Bytes>);
    impl Sink for Deleted {
        fn apply(&self, _: u64, events: &[Event]) {
            for event in events.iter().filter(|e| e.kind == EventKind::Delete) {
                self.0.send(event.kv.key.clone()).unwrap();
            }
        }
    }
    let store = open(&MemoryDisk::default());
    let (sender, deleted) = channel();
    let sink = Arc::new(Deleted(sender));
    let told: Weak<Deleted> = Arc::downgrade(&sink);
    store.subscribe(KeyRange::prefix(b""), told.clone()).await.unwrap();
    assert!(matches!(
        store.txn(put("a".into(), "v", 9)).await,
        Err(StoreError::LeaseNotFound(9))
    ));
    let lease = store.lease_grant(0, 1).await.unwrap();
    store.txn(put("a".into(), "v", lease)).await.unwrap();
    assert_eq!(deleted.recv_timeout(Duration::from_secs(10)).unwrap(), "a");
    assert!(keys(&store).await.is_empty());
    drop(sink);
    store.txn(put("a".into(), "v", 0)).await.unwrap();
    assert_eq!(told.strong_count(), 0, "a sink ends when its owner drops it");
}

#[tokio::test]
async fn sinks_see_every_change_after_the_content_they_were_given() {
    struct Count(AtomicU64);
    impl Sink for Count {
        fn apply(&self, _: u64, events: &[Event]) {
            self.0.fetch_add(events.len() as u64, Ordering::SeqCst);
        }
    }
    let store = Arc::new(open(&MemoryDisk::default()));
    let writers: Vec<_> = (0..4)
        .map(|w| {
            let store = store.clone();
            tokio::spawn(async move {
                for i in 0..200 {
                    store.txn(put(format!("w{w}/{i}"), "v", 0)).await.unwrap();
                }
            })
        })
        .collect();
    let sink = Arc::new(Count(AtomicU64::new(0)));
    let told: Weak<Count> = Arc::downgrade(&sink);
    let content = store.subscribe(KeyRange::prefix(b"w"), told).await.unwrap();
    for writer in writers {
        writer.await.unwrap();
    }
    assert_eq!(content.kvs.len() as u64 + sink.0.load(Ordering::SeqCst), 800);
}
