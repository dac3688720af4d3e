//! Archives of images, imported into a store.

use std::fs;

use runtime::image::archive::{import, is_archive};
use runtime::image::store::ImageStore;

use crate::{Form, Target};

pub const TARGET: Target = Target::new("archive", Form::Bytes, check);

fn check(input: &[u8]) {
    let Ok(dir) = tempfile::tempdir() else { return };
    let path = dir.path().join("images.tar");
    if fs::write(&path, input).is_err() {
        return;
    }
    is_archive(&path);
    let root = dir.path().join("store");
    let store = ImageStore::open(&root).unwrap_or_else(|error| panic!("{error}"));
    if let Ok(images) = import(&store, &path) {
        assert!(!images.is_empty());
        assert_eq!(
            store.list().len(),
            ImageStore::open(&root)
                .map(|store| store.list().len())
                .unwrap_or_default()
        );
    }
    drop(store);
    runtime::fuzzing::remove_tree(&root).unwrap_or_else(|error| panic!("{error}"));
}
