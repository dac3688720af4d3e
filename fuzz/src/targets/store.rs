//! The files of a store: the first byte picks what the rest is. Whatever they hold, a store opens or says why not; what `truncate` leaves opens.

use std::sync::Arc;

use bytes::Bytes;
use etcd::disk::MemoryDisk;
use etcd::fuzzing;
use etcd::{Embedded, EmbeddedConfig, Store, truncate};

use crate::{Form, Target};

pub const TARGET: Target = Target::new("store", Form::Bytes, check);

fn check(input: &[u8]) {
    let Some((first, rest)) = input.split_first() else {
        return;
    };
    let disk = MemoryDisk::default();
    match first % 4 {
        // the bytes are the log
        0 => disk.set_content(&fuzzing::segment_name(1), rest.to_vec()),
        // the bytes are the snapshot
        1 => disk.set_content(fuzzing::SNAPSHOT, rest.to_vec()),
        // the bytes are records that somebody has sealed, in the log and in the snapshot
        2 => disk.set_content(&fuzzing::segment_name(1), fuzzing::segment(1, rest)),
        _ => disk.set_content(fuzzing::SNAPSHOT, fuzzing::snapshot(rest)),
    }
    let config = EmbeddedConfig::default();
    match Embedded::open(Arc::new(disk.fork()), config.clone()) {
        Ok(store) => {
            let (revision, keys) = (store.revision(), store.key_count());
            drop(store);
            let again =
                Embedded::open(Arc::new(disk.fork()), config).unwrap_or_else(|error| panic!("opened once: {error}"));
            assert_eq!((revision, keys), (again.revision(), again.key_count()));
        }
        Err(error) => {
            assert!(error.is_damage(), "{error}");
            if let Ok(Some(_)) = truncate(&disk, &config) {
                let opened = Embedded::open(Arc::new(disk), config);
                opened
                    .map(drop)
                    .unwrap_or_else(|error| panic!("what truncate leaves opens: {error}"));
            }
        }
    }
    fuzzing::entries(&Bytes::copy_from_slice(rest));
}
