//! Lists and events of a watch as clients read them.

use bytes::Bytes;

use crate::{Form, Target};

pub const TARGET: Target = Target::new("list", Form::Trees, check);

fn check(input: &[u8]) {
    client::fuzzing::lists(input);
    let Ok(object) = api::object::Object::parse(Bytes::copy_from_slice(input)) else {
        return;
    };
    let _ = (object.key(), object.meta.controller(), object.meta.label("a"));
}
