//! JSON of built-in kinds.

use api::schema::{Document, Schema};
use serde_json::Value;

use super::object;
use crate::{Form, Target, trees};

pub const TARGET: Target = Target::new("json", Form::Trees, check);

fn check(input: &[u8]) {
    let _ = Document::from_json(input);
    let Ok(tree) = serde_json::from_slice::<Value>(input) else {
        let why = apiserver::http::json_text::problem(input);
        assert!(!why.is_empty());
        return;
    };
    let Some(root) = trees::type_of(&tree) else { return };
    match Schema::builtin().decode_json(root, input) {
        Ok(decoded) => {
            decoded.strict_errors();
            object::laws(root, &decoded.value);
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}
