//! Label selectors as text and as objects have them.

use api::selectors::LabelSelector;
use serde_json::Value;

use super::text;
use crate::{Form, Target};

pub const TARGET: Target = Target::new("label_selector", Form::Bytes, check);

fn check(input: &[u8]) {
    if let Ok(tree) = serde_json::from_slice::<Value>(input)
        && let Ok(selector) = LabelSelector::from_tree(&tree)
    {
        selector.matches(|_| Some("a"));
    }
    let Some(text) = text(input) else { return };
    let Ok(selector) = LabelSelector::parse(text) else {
        return;
    };
    assert_eq!(
        Some(&selector),
        LabelSelector::parse(&format!(" {text} ")).as_ref().ok(),
        "blanks around a selector"
    );
    let labels = |key: &str| (key.len().is_multiple_of(2)).then_some("b");
    if selector.is_empty() {
        assert!(selector.matches(labels), "an empty selector selects everything");
    }
    selector.matches(labels);
}
