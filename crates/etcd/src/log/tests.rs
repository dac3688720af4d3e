//! Damage of every kind to the files of a store: a start refuses and names the place, or loses nothing that was acknowledged.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;

use super::*;
use crate::disk::MemoryDisk;
use crate::embedded::{Embedded, EmbeddedConfig, OpenError};
use crate::store::{KeyRange, KeyValue, Op, Put, Store, StoreError, Txn, Value};

const SEGMENT: u64 = 4096;

fn config(log_size: u64) -> EmbeddedConfig {
    EmbeddedConfig {
        log_size,
        segment_size: SEGMENT,
    }
}

fn start(disk: &MemoryDisk) -> Result<Embedded, OpenError> {
    Embedded::open(Arc::new(disk.clone()), config(1 << 30))
}

type Content = BTreeMap<Bytes, Bytes>;

async fn content(store: &Embedded) -> Content {
    let all = store.range(KeyRange::prefix(b""), 0, None).await.unwrap();
    all.kvs.into_iter().map(|kv| (kv.key, kv.value)).collect()
}

async fn put(store: &Embedded, key: String, value: Vec<u8>) -> Result<u64, StoreError> {
    let put = Put {
        key: key.into(),
        value: Value::Plain(value.into()),
        lease: 0,
        hint: None,
    };
    let success = vec![Op::Put(put)];
    let txn = Txn {
        success,
        ..Txn::default()
    };
    store.txn(txn).await.map(|done| done.revision)
}

/// Numbers without a pattern, the same in each run.
struct Chance(u64);

impl Chance {
    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % end as u64) as usize
    }
}

/// The offset that an error names.
fn place_in(error: &str) -> usize {
    let (_, after) = error.split_once("at byte ").unwrap();
    after.split(':').next().unwrap().parse().unwrap()
}

/// A store's files, what they were after each write, and what a reader must find at each revision.
struct History {
    disk: MemoryDisk,
    older: Vec<MemoryDisk>,
    at: BTreeMap<u64, Content>,
}

impl History {
    /// `log_size` beyond which a snapshot is taken.
    async fn write(log_size: u64) -> History {
        let disk = MemoryDisk::default();
        let mut chance = Chance(7);
        let (mut at, mut older) = (BTreeMap::from([(1, Content::new())]), Vec::new());
        for opening in 0..3 {
            let store = Embedded::open(Arc::new(disk.clone()), config(log_size)).unwrap();
            for i in 0..24 {
                older.push(disk.fork());
                let value = vec![b'a' + (i % 26) as u8; 1 + chance.below(900)];
                let revision = put(&store, format!("k{:02}", chance.below(40)), value).await.unwrap();
                at.insert(revision, content(&store).await);
            }
            assert_eq!(store.revision(), 1 + 24 * (opening + 1));
        }
        History { disk, older, at }
    }

    fn now(&self) -> (u64, &Content) {
        self.at.last_key_value().map(|(r, c)| (*r, c)).unwrap()
    }

    fn segments(&self) -> Vec<String> {
        let names = self.disk.list().unwrap();
        names.into_iter().filter(|n| n.ends_with(".wal")).collect()
    }

    /// Starts on damaged files. Returns the refusal, if it is one; a start must have lost nothing. A truncation must then lead to a
    /// start that has what was at some revision, and use none of the given up again.
    async fn judge(&self, damaged: &MemoryDisk, what: &str) -> Option<String> {
        let (revision, all) = self.now();
        let before = damaged.list().unwrap();
        let error = match start(damaged) {
            Ok(store) => {
                assert_eq!((store.revision(), &content(&store).await), (revision, all), "{what}");
                put(&store, "next".into(), vec![1]).await.unwrap();
                return None;
            }
            Err(error) => error,
        };
        assert!(error.is_damage(), "{what}: {error}");
        assert_eq!(
            damaged.list().unwrap(),
            before,
            "{what}: a refused start changes nothing"
        );
        match crate::embedded::truncate(damaged, &config(1 << 30)) {
            Ok(Some(done)) => {
                assert_eq!(done.fault, error.to_string(), "{what}");
                let store = start(damaged).unwrap_or_else(|e| panic!("{what}: after {done:?}: {e}"));
                assert_eq!(
                    content(&store).await,
                    self.at
                        .get(&done.kept)
                        .unwrap_or_else(|| panic!("{what}: {done:?}"))
                        .clone(),
                    "{what}: {done:?}"
                );
                let next = put(&store, "next".into(), vec![1]).await.unwrap();
                assert!(next > revision && next > done.revision, "{what}: {next} {done:?}");
                drop(store);
                start(damaged).unwrap_or_else(|e| panic!("{what}: again: {e}"));
                let names = damaged.list().unwrap();
                assert!(
                    done.files.iter().all(|f| names.contains(f)),
                    "{what}: {done:?} {names:?}"
                );
                let again = crate::embedded::truncate(damaged, &config(1 << 30)).unwrap();
                assert_eq!(again, None, "{what}");
            }
            Ok(None) => panic!("{what}: refused, and nothing to cut: {error}"),
            Err(refused) => {
                assert_eq!(damaged.list().unwrap(), before, "{what}: {refused}");
                assert!(refused.to_string().contains("backup"), "{what}: {refused}");
            }
        }
        Some(error.to_string())
    }
}

/// Without a snapshot, and with one and some segments after it.
async fn histories() -> [History; 2] {
    let (plain, covered) = (History::write(1 << 30).await, History::write(14 << 10).await);
    assert!(plain.segments().len() >= 5, "{:?}", plain.segments());
    assert!(covered.segments().len() >= 2, "{:?}", covered.segments());
    assert!(covered.disk.list().unwrap().contains(&"snapshot".to_owned()));
    [plain, covered]
}

#[tokio::test]
async fn a_flipped_bit_is_refused_by_file_and_offset_or_loses_nothing() {
    let mut chance = Chance(11);
    let mut refused = 0;
    for history in histories().await {
        let names = history.disk.list().unwrap();
        for _ in 0..500 {
            let name = &names[chance.below(names.len())];
            let mut bytes = history.disk.content(name).unwrap();
            let (at, bit) = (chance.below(bytes.len()), chance.below(8));
            bytes[at] ^= 1 << bit;
            let damaged = history.disk.fork();
            damaged.set_content(name, bytes);
            let what = format!("bit {bit} of byte {at} of {name}");
            let Some(error) = history.judge(&damaged, &what).await else {
                continue;
            };
            refused += 1;
            assert!(error.contains(name), "{what}: {error}");
            let offset = place_in(&error);
            assert!(
                offset <= at && (name == "snapshot" || at < offset + SEGMENT as usize),
                "{what}: {error}"
            );
        }
    }
    assert!(refused > 500, "{refused}");
}

#[tokio::test]
async fn every_set_of_missing_segments_is_refused() {
    for history in histories().await {
        let names = history.segments();
        for set in 1..1_u32 << names.len().min(7) {
            let damaged = history.disk.fork();
            let missing: Vec<_> = (0..names.len()).filter(|i| set & (1 << i) != 0).collect();
            missing.iter().for_each(|i| damaged.remove(&names[*i]).unwrap());
            let what = format!("without {missing:?} of {}", names.len());
            let error = history.judge(&damaged, &what).await.expect(&what);
            let expected = format!("segment {} is missing", names[missing[0]]);
            assert!(error.contains(&expected), "{what}: {error}");
        }
        let damaged = history.disk.fork();
        for name in damaged.list().unwrap().iter().filter(|n| *n != "head") {
            damaged.remove(name).unwrap();
        }
        let error = history.judge(&damaged, "only the head").await.unwrap();
        assert!(error.contains("0000000000000000.wal is missing"), "{error}");
    }
}

#[tokio::test]
async fn emptied_shortened_and_older_segments_are_refused_by_file_and_offset() {
    for history in histories().await {
        for (i, name) in history.segments().iter().enumerate() {
            let now = history.disk.content(name).unwrap();
            let used = now.iter().rposition(|b| *b != 0).unwrap() + 1;
            let refuse = async |bytes: Vec<u8>, at: usize, what: &str| {
                let what = format!("segment {i} {what}");
                let damaged = history.disk.fork();
                damaged.set_content(name, bytes);
                let error = history.judge(&damaged, &what).await.expect(&what);
                assert!(
                    error.contains(&format!("{name} is damaged at byte ")),
                    "{what}: {error}"
                );
                let offset = place_in(&error);
                assert!(offset <= at, "{what}: {error}");
            };
            refuse(Vec::new(), 0, "emptied").await;
            refuse(vec![0; now.len()], 0, "zeroed").await;
            for len in (1..used).step_by(211).chain([used - 1]) {
                refuse(now[..len].to_vec(), len, &format!("cut at {len} of {used}")).await;
                let mut zeroed = now.clone();
                zeroed[len..].fill(0);
                refuse(zeroed, len, &format!("zeroed from {len} of {used}")).await;
            }
            for (write, older) in history.older.iter().enumerate().step_by(3) {
                let Some(bytes) = older.content(name).filter(|b| *b != now) else {
                    continue;
                };
                let differs = bytes.iter().zip(&now).position(|(a, b)| a != b).unwrap_or(bytes.len());
                refuse(bytes, differs, &format!("as it was before write {write}")).await;
            }
            // what was never written is not missed
            let damaged = history.disk.fork();
            damaged.set_content(name, now[..used].to_vec());
            assert_eq!(history.judge(&damaged, "without what it has reserved").await, None);
        }
    }
}

#[tokio::test]
async fn a_head_that_is_gone_is_refused_and_an_older_one_is_not() {
    let [history, _] = histories().await;
    let gone = history.disk.fork();
    gone.remove("head").unwrap();
    let error = history.judge(&gone, "no head").await.unwrap();
    assert!(error.contains("the file head"), "{error}");
    let emptied = history.disk.fork();
    emptied.set_content("head", Vec::new());
    assert!(history.judge(&emptied, "empty head").await.is_some());
    let mut filled = vec![0xff; 8192];
    filled[0] = 1;
    let other = history.disk.fork();
    other.set_content("head", filled);
    assert!(history.judge(&other, "other head").await.is_some());
    for older in history.older.iter().skip(1) {
        let damaged = history.disk.fork();
        damaged.set_content("head", older.content("head").unwrap());
        assert_eq!(history.judge(&damaged, "older head").await, None);
    }
}

#[tokio::test]
async fn a_write_that_lost_power_is_dropped_whatever_sectors_of_it_are_there() {
    for seed in 1..400 {
        let mut chance = Chance(seed * 7919);
        let disk = MemoryDisk::default();
        let store = start(&disk).unwrap();
        for i in 0..chance.below(12) {
            put(&store, format!("k{i}"), vec![b'x'; chance.below(900)])
                .await
                .unwrap();
        }
        let (revision, all) = (store.revision(), content(&store).await);
        disk.fail_sync();
        put(&store, "lost".into(), vec![b'y'; chance.below(6000)])
            .await
            .unwrap_err();
        let after = disk.after_torn_writes(|_, _| chance.below(2) == 0);
        drop(store);
        let store = start(&after).unwrap_or_else(|e| panic!("seed {seed}: {e}"));
        let mut found = content(&store).await;
        if found.remove(&b"lost"[..]).is_none() {
            assert_eq!(store.revision(), revision, "seed {seed}");
        }
        assert_eq!(found, all, "seed {seed}");
        for i in 0..8 {
            put(&store, format!("n{i}"), vec![b'z'; 300]).await.unwrap();
        }
        drop(store);
        start(&after).unwrap_or_else(|e| panic!("seed {seed}, again: {e}"));
    }
}

/// A log as it was written before there was a head: no file `head`, no entry that begins a segment.
fn old_log(segments: usize, records: usize) -> (MemoryDisk, Vec<usize>) {
    let disk = MemoryDisk::default();
    let (mut sum, mut revision, mut places) = (0, 1, Vec::new());
    for sequence in 0..segments as u64 {
        let mut out = MAGIC.to_vec();
        out.extend_from_slice(&sequence.to_le_bytes());
        out.extend_from_slice(&u32::to_le_bytes(sum));
        out.extend_from_slice(&crc32c::crc32c(&out).to_le_bytes());
        for _ in 0..records {
            revision += 1;
            places.push(out.len());
            let start = record::begin(&mut out);
            let kv = KeyValue {
                key: format!("k{revision}").into(),
                value: vec![b'v'; 200].into(),
                create_revision: revision,
                mod_revision: revision,
                version: 1,
                lease: 0,
            };
            Entry::Put(kv).encode(&mut out);
            sum = record::seal(&mut out, start, sum);
        }
        out.resize(1 << 13, 0);
        disk.set_content(&name(sequence), out);
    }
    (disk, places)
}

#[tokio::test]
async fn a_log_of_before_there_was_a_head_is_read_and_watched_from_the_first_write_on() {
    let (disk, _) = old_log(2, 9);
    let store = start(&disk).unwrap();
    assert_eq!((store.key_count(), store.revision()), (18, 19));
    assert!(
        !disk.list().unwrap().contains(&"head".to_owned()),
        "a start writes nothing"
    );
    put(&store, "new".into(), vec![1]).await.unwrap();
    drop(store);
    assert_eq!(start(&disk).unwrap().key_count(), 19);
    let (old, _) = old_log(2, 9);
    disk.set_content(&name(1), old.content(&name(1)).unwrap());
    let error = start(&disk).map(|_| ()).unwrap_err().to_string();
    assert!(error.contains("durable beyond this place"), "{error}");
}

#[test]
fn a_flipped_bit_in_a_log_of_before_there_was_a_head_is_refused_too() {
    let (disk, places) = old_log(1, 20);
    let bytes = disk.content(&name(0)).unwrap();
    let used = bytes.iter().rposition(|b| *b != 0).unwrap() + 1;
    // every kind of place within a record, in different records
    for at in (24..used).step_by(7) {
        for bit in 0..8 {
            let mut flipped = bytes.clone();
            flipped[at] ^= 1 << bit;
            let damaged = disk.fork();
            damaged.set_content(&name(0), flipped);
            let error = start(&damaged)
                .map(|_| ())
                .expect_err(&format!("bit {bit} of byte {at}"))
                .to_string();
            let place = places.iter().rfind(|p| **p <= at).unwrap();
            assert!(
                error.contains(&format!("is damaged at byte {place}:")),
                "{at}.{bit}: {error}"
            );
        }
    }
}

#[tokio::test]
async fn a_full_disk_does_not_stop_a_start() {
    let [history, covered] = histories().await;
    let (old, _) = old_log(1, 20);
    // the file of a segment that was being made, and a write that was cut short
    let unmade = history.disk.fork();
    unmade.set_content(&name(history.segments().len() as u64), vec![0; 100]);
    let torn = history.disk.fork();
    let newest = history.segments().pop().unwrap();
    let mut bytes = torn.content(&newest).unwrap();
    let used = bytes.iter().rposition(|b| *b != 0).unwrap() + 1;
    bytes.resize(bytes.len() + 4096, 0);
    bytes[used..used + 4].copy_from_slice(&2000_u32.to_le_bytes());
    bytes[used + 4..used + 300].fill(9);
    torn.set_content(&newest, bytes);
    for (what, disk) in [
        ("segments", history.disk.fork()),
        ("snapshot", covered.disk.fork()),
        ("no head", old),
        ("a segment being made", unmade),
        ("a torn write", torn),
        ("nothing", MemoryDisk::default()),
    ] {
        disk.set_room(Some(0));
        let files = disk.list().unwrap();
        let store = start(&disk).unwrap_or_else(|e| panic!("{what}: {e}"));
        assert_eq!(disk.list().unwrap(), files, "{what}");
        let before = content(&store).await;
        let refused = put(&store, "big".into(), vec![1; 1 << 16]).await;
        assert!(matches!(refused, Err(StoreError::NoSpace(_))), "{what}: {refused:?}");
        assert_eq!(content(&store).await, before, "{what}");
        disk.set_room(None);
        put(&store, "big".into(), vec![1; 1 << 16]).await.unwrap();
        drop(store);
        let again = start(&disk).unwrap_or_else(|e| panic!("{what}, again: {e}"));
        assert_eq!(content(&again).await.len(), before.len() + 1, "{what}");
    }
}

#[tokio::test]
async fn a_truncation_without_damage_changes_nothing_and_tells_what_it_gave_up() {
    let [history, _] = histories().await;
    let sound = history.disk.fork();
    assert_eq!(crate::embedded::truncate(&sound, &config(1 << 30)).unwrap(), None);
    assert_eq!(sound.list().unwrap(), history.disk.list().unwrap());
    let names = history.segments();
    let damaged = history.disk.fork();
    damaged.remove(&names[2]).unwrap();
    let done = crate::embedded::truncate(&damaged, &config(1 << 30)).unwrap().unwrap();
    let (revision, _) = history.now();
    assert_eq!(done.lost, Some(revision));
    assert_eq!(
        done.files,
        names[3..].iter().map(|n| format!("{n}.cut")).collect::<Vec<_>>()
    );
    for name in &names[3..] {
        let kept = damaged.content(&format!("{name}.cut"));
        assert_eq!(kept, history.disk.content(name), "{name}");
    }
}
