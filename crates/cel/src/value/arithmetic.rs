//! Arithmetic: operators on numbers, times, texts and lists, with overflow as an error.

use std::sync::Arc;

use super::{Outcome, Timestamp, Value, error, no_overload};

/// An operator of arithmetic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Operator {
    Add,
    Subtract,
    Multiply,
    Divide,
    Modulo,
}

const INT: &str = "integer overflow";
const UINT: &str = "unsigned integer overflow";
const DURATION: &str = "duration overflow";
const TIMESTAMP: &str = "timestamp overflow";

impl Operator {
    /// The operator's function.
    pub fn function(self) -> &'static str {
        match self {
            Operator::Add => "_+_",
            Operator::Subtract => "_-_",
            Operator::Multiply => "_*_",
            Operator::Divide => "_/_",
            Operator::Modulo => "_%_",
        }
    }

    /// Whether values of the type may stand on the left.
    fn takes(self, left: &Value<'_>) -> bool {
        match left {
            Value::Int(_) | Value::Uint(_) => true,
            Value::Double(_) => self != Operator::Modulo,
            Value::Timestamp(_) | Value::Duration(_) => matches!(self, Operator::Add | Operator::Subtract),
            Value::String(_) | Value::Bytes(_) | Value::List(_) => self == Operator::Add,
            _ => false,
        }
    }

    /// Applies the operator.
    ///
    /// # Errors
    /// On overflow, division by zero, and for values that it is not for.
    pub fn apply<'a>(self, left: &Value<'a>, right: &Value<'a>) -> Outcome<'a> {
        match (left, right) {
            (Value::Int(a), Value::Int(b)) => self.ints(*a, *b),
            (Value::Uint(a), Value::Uint(b)) => self.uints(*a, *b),
            (Value::Double(a), Value::Double(b)) if self != Operator::Modulo => Ok(Value::Double(match self {
                Operator::Add => a + b,
                Operator::Subtract => a - b,
                Operator::Multiply => a * b,
                _ => a / b,
            })),
            (Value::Duration(a), Value::Duration(b)) if self.takes(left) => {
                let n = if self == Operator::Add {
                    a.checked_add(*b)
                } else {
                    a.checked_sub(*b)
                };
                n.map_or_else(|| error(DURATION), |n| Ok(Value::Duration(n)))
            }
            (Value::Timestamp(t), Value::Duration(d)) if self.takes(left) => shift(
                t,
                if self == Operator::Add {
                    i128::from(*d)
                } else {
                    -i128::from(*d)
                },
            ),
            (Value::Duration(d), Value::Timestamp(t)) if self == Operator::Add => shift(t, i128::from(*d)),
            (Value::Timestamp(a), Value::Timestamp(b)) if self == Operator::Subtract => {
                let n = i64::try_from(a.total() - b.total());
                n.map_or_else(|_| error(DURATION), |n| Ok(Value::Duration(n)))
            }
            (Value::String(a), Value::String(b)) if self == Operator::Add => {
                let mut text = String::with_capacity(a.len() + b.len());
                text.push_str(a);
                text.push_str(b);
                Ok(Value::text(text))
            }
            (Value::Bytes(a), Value::Bytes(b)) if self == Operator::Add => {
                let bytes: Arc<[u8]> = a.iter().chain(b.iter()).copied().collect();
                Ok(Value::Bytes(bytes))
            }
            (Value::List(a), Value::List(b)) if self == Operator::Add => Ok(Value::List(a.join(b)?)),
            _ if self.takes(left) => no_overload(),
            // texts, times and durations receive calls of any function, and know none of these
            (Value::String(_) | Value::Timestamp(_) | Value::Duration(_), _) => no_overload(),
            _ => error(format!("no such overload: {}", self.function())),
        }
    }

    fn ints<'a>(self, a: i64, b: i64) -> Outcome<'a> {
        let n = match self {
            Operator::Add => a.checked_add(b),
            Operator::Subtract => a.checked_sub(b),
            Operator::Multiply => a.checked_mul(b),
            Operator::Divide if b == 0 => return error("division by zero"),
            Operator::Modulo if b == 0 => return error("modulus by zero"),
            Operator::Divide => a.checked_div(b),
            Operator::Modulo => a.checked_rem(b),
        };
        n.map_or_else(|| error(INT), |n| Ok(Value::Int(n)))
    }

    fn uints<'a>(self, a: u64, b: u64) -> Outcome<'a> {
        let n = match self {
            Operator::Add => a.checked_add(b),
            Operator::Subtract => a.checked_sub(b),
            Operator::Multiply => a.checked_mul(b),
            Operator::Divide if b == 0 => return error("division by zero"),
            Operator::Modulo if b == 0 => return error("modulus by zero"),
            Operator::Divide => a.checked_div(b),
            Operator::Modulo => a.checked_rem(b),
        };
        n.map_or_else(|| error(UINT), |n| Ok(Value::Uint(n)))
    }
}

fn shift<'a>(t: &Timestamp, nanos: i128) -> Outcome<'a> {
    match Timestamp::from_total(t.total() + nanos, t.offset) {
        Some(t) => Ok(Value::Timestamp(t)),
        None => error(TIMESTAMP),
    }
}

/// `-x`.
pub(crate) fn negate<'a>(value: &Value<'a>) -> Outcome<'a> {
    match value {
        Value::Int(n) => n.checked_neg().map_or_else(|| error(INT), |n| Ok(Value::Int(n))),
        Value::Double(n) => Ok(Value::Double(-n)),
        Value::Duration(n) => n
            .checked_neg()
            .map_or_else(|| error(DURATION), |n| Ok(Value::Duration(n))),
        Value::Bool(_) | Value::String(_) | Value::Timestamp(_) => no_overload(),
        _ => error("no such overload: -_"),
    }
}
