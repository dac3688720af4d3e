//! The documents of an image, and its names.

use runtime::image::manifest::{Configuration, Document, choose};
use runtime::image::reference::Reference;
use runtime::image::users::identify;

use super::text;
use crate::{Form, Target};

pub const TARGET: Target = Target::new("image", Form::Trees, check);

fn check(input: &[u8]) {
    if let Ok(document) = serde_json::from_slice::<Document>(input) {
        document.size(input.len());
        choose(document.manifests.as_deref().unwrap_or_default());
    }
    if let Ok(configuration) = serde_json::from_slice::<Configuration>(input) {
        let _ = identify(
            &configuration.config.user,
            "root:x:0:0::/root:/bin/sh\na:x:1000:1000::/:/\n",
            "g:x:7:a\n",
            true,
        );
        let settings = serde_json::to_vec(&configuration.config);
        let again = settings
            .ok()
            .and_then(|bytes| serde_json::from_slice::<runtime::image::manifest::Settings>(&bytes).ok());
        assert!(again.is_some(), "the settings of an image are kept as JSON");
    }
    let Some(text) = text(input) else { return };
    if let Some((user, files)) = text.split_once('\n') {
        let (passwd, groups) = files.split_once("\n\n").unwrap_or((files, ""));
        let _ = identify(user, passwd, groups, false);
    }
    let Ok(reference) = Reference::parse(text) else { return };
    let shown = reference.to_string();
    let again = Reference::parse(&shown).unwrap_or_else(|error| panic!("{error}: {shown}"));
    assert_eq!(shown, again.to_string());
    let _ = (reference.repository(), reference.tagged());
}
