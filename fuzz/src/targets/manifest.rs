//! Manifests as kubectl reads them: JSON documents after each other, or YAML ones parted by `---`.

use super::text;
use crate::{Form, Target};

pub const TARGET: Target = Target::new("manifest", Form::Bytes, check);

fn check(input: &[u8]) {
    let Some(text) = text(input) else { return };
    let Ok(objects) = kubectl::manifest::objects("fuzz", text) else {
        return;
    };
    for manifest in &objects {
        let again = kubectl::manifest::documents("fuzz", &api::yaml::to_string(&manifest.object));
        let again = again.unwrap_or_else(|error| panic!("{error:?}: {}", manifest.object));
        assert!(again.len() <= 1);
    }
}
