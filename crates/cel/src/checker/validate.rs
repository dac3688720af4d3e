//! What is checked of literals once types are known: times, durations and patterns, and that lists and maps are of one type.

use super::Checked;
use crate::ast::{Call, Expr, Kind};
use crate::environment::Environment;
use crate::library;
use crate::source::Issues;
use crate::types::Type;
use crate::value::{Target, Value};

/// Reports what is wrong with literals.
pub(super) fn validate(checked: &Checked, environment: &Environment, issues: &mut Issues) {
    let mut found = Vec::new();
    walk(&checked.ast.expr, checked, environment.validates(), false, &mut found);
    for (at, message) in found {
        issues.at(checked.ast.offset(at), message);
    }
}

type Found = Vec<(crate::ast::Id, String)>;

/// `fully`: also what versions before 1.29 did not check.
fn walk(expr: &Expr, checked: &Checked, fully: bool, formatted: bool, found: &mut Found) {
    let mut formatted = formatted;
    match &expr.kind {
        Kind::Call(call) if fully => {
            literal_argument(call, found);
            if &*call.function == "format" {
                formatted = true;
                found.extend(library::format_problem(call, expr.id, checked));
            }
        }
        // what is formatted may be of several types
        Kind::List { elements, optional } if !formatted => {
            let mut first = None;
            for (at, element) in elements.iter().enumerate() {
                let t = of(element, optional.contains(&at), checked);
                let first = first.get_or_insert(t);
                if !first.equivalent(t) {
                    found.push((element.id, mismatch(first, t)));
                    break;
                }
            }
        }
        Kind::Map(entries) if !formatted => {
            let mut first = None;
            for entry in entries {
                let (key, value) = (
                    of(&entry.key, false, checked),
                    of(&entry.value, entry.optional, checked),
                );
                let (first_key, first_value) = *first.get_or_insert((key, value));
                if !first_key.equivalent(key) {
                    found.push((entry.key.id, mismatch(first_key, key)));
                }
                if !first_value.equivalent(value) {
                    found.push((entry.value.id, mismatch(first_value, value)));
                }
            }
        }
        _ => {}
    }
    expr.children(&mut |child| walk(child, checked, fully, formatted, found));
}

fn of<'c>(expr: &Expr, optional: bool, checked: &'c Checked) -> &'c Type {
    let t = checked.type_of(expr);
    match t.unwrap_optional() {
        Some(inner) if optional => inner,
        _ => t,
    }
}

fn mismatch(expected: &Type, actual: &Type) -> String {
    format!("expected type '{expected}' but found '{actual}'")
}

fn literal_argument(call: &Call, found: &mut Found) {
    let Some(arg) = call.args.first() else { return };
    let Kind::Literal(literal) = &arg.kind else { return };
    let convert = |target: Target| {
        let value = match literal {
            crate::ast::Literal::String(text) => Value::text(text.clone()),
            crate::ast::Literal::Int(n) => Value::Int(*n),
            _ => return true,
        };
        value.convert(target).is_ok()
    };
    let holds = match &*call.function {
        "duration" => convert(Target::Duration),
        "timestamp" => convert(Target::Timestamp),
        "matches" => arg
            .as_text()
            .is_none_or(|pattern| library::check_pattern(pattern).is_ok()),
        _ => true,
    };
    if !holds {
        found.push((arg.id, format!("invalid {} argument", call.function)));
    }
}
