//! Match conditions: names and expressions.

use std::collections::HashSet;

use api::field::FieldError;

use crate::kinds::Cursor;
use crate::kinds::admissionregistration::expression::{self, Setting};
use crate::kinds::rules::{Errors, qualified_name};

const MOST: usize = 64;

/// The conditions at a place. `known` are expressions that were accepted before.
pub fn match_conditions(errors: &mut Errors, at: &Cursor, known: &HashSet<&str>, params: bool) {
    let count = at.list().len();
    if count > MOST {
        errors.push(FieldError::too_many(&at.path, count, MOST));
    }
    let mut names = HashSet::new();
    for condition in at.items() {
        let expression = condition.get("expression");
        let text = expression.text().trim();
        if text.is_empty() {
            errors.push(expression.required(""));
        } else {
            let stored = known.contains(text);
            if let Err(why) = expression::condition(text, Setting { stored, params }) {
                errors.push(expression::unfit(&expression, text, &why));
            }
        }
        let name = condition.get("name");
        if name.text().is_empty() {
            errors.push(name.required(""));
            continue;
        }
        qualified_name(errors, &name);
        if !names.insert(name.text()) {
            errors.push(name.duplicate(name.text()));
        }
    }
}
