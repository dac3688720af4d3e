//! Field selectors.

use api::selectors::FieldSelector;

use super::text;
use crate::{Form, Target};

pub const TARGET: Target = Target::new("field_selector", Form::Bytes, check);

fn check(input: &[u8]) {
    let Some(text) = text(input) else { return };
    let Ok(selector) = FieldSelector::parse(text) else {
        return;
    };
    let escaped = |value: &str| value.replace('\\', "\\\\").replace(',', "\\,").replace('=', "\\=");
    let term = |t: &api::selectors::FieldTerm| {
        let operator = if t.equal { "==" } else { "!=" };
        format!("{}{operator}{}", t.field, escaped(&t.value))
    };
    let fits = |t: &api::selectors::FieldTerm| {
        !(t.field.contains([',', '\\', '=', '!']) || t.field.is_empty() && t.value.is_empty())
    };
    if !selector.terms().iter().all(fits) {
        return;
    }
    let written: Vec<String> = selector.terms().iter().map(term).collect();
    let again = FieldSelector::parse(&written.join(",")).unwrap_or_else(|error| panic!("{error}: {written:?}"));
    let sorted = |selector: &FieldSelector| {
        let mut terms: Vec<String> = selector.terms().iter().map(term).collect();
        terms.sort();
        terms
    };
    assert_eq!(sorted(&selector), sorted(&again));
}
