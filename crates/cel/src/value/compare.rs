//! Equality and order.

use std::cmp::Ordering;

use super::data::View;
use super::list::List;
use super::map::{DataMap, Map};
use super::{Fault, Value, error, keyed, no_overload};
use crate::work;

impl<'a> Value<'a> {
    /// Whether two values are equal as `==` sees it: numbers by value, whatever their type.
    ///
    /// # Errors
    /// When they cannot be compared.
    pub fn equals(&self, other: &Value<'_>) -> Result<bool, Fault> {
        if matches!(self, Value::Null) || matches!(other, Value::Null) {
            return Ok(matches!((self, other), (Value::Null, Value::Null)));
        }
        self.equals_as_receiver(other)
    }

    /// Equality without the rule that nothing but null is null.
    fn equals_as_receiver(&self, other: &Value<'_>) -> Result<bool, Fault> {
        if !work::look() {
            return Err(Fault::CostLimit);
        }
        Ok(match (self, other) {
            (Value::Bool(a), Value::Bool(b)) => a == b,
            (Value::String(a), Value::String(b)) => **a == **b,
            (Value::Bytes(a), Value::Bytes(b)) => a == b,
            (Value::Duration(a), Value::Duration(b)) => a == b,
            (Value::Timestamp(a), Value::Timestamp(b)) => a.order() == b.order(),
            (Value::Type(a), Value::Type(b)) => a.name() == b.name(),
            (Value::Optional(a), Value::Optional(b)) => match (a, b) {
                (Some(a), Some(b)) => a.equals_as_receiver(b)?,
                (a, b) => a.is_none() && b.is_none(),
            },
            (Value::List(a), Value::List(b)) => lists(a, b)?,
            (Value::Map(a), Value::Map(b)) => maps(a, b)?,
            (Value::List(list), _) if list.is_by_schema() => return no_overload(),
            (Value::Map(Map::Data(DataMap { schema: Some(_), .. })), _) => return no_overload(),
            (Value::Opaque(a), Value::Opaque(b)) => match a.equals(&**b) {
                Some(equal) => equal,
                None => return no_overload(),
            },
            (Value::Opaque(_), _) => return no_overload(),
            (Value::Object(a), Value::Object(b)) => a.equals(b)?,
            (Value::Unknown(a), Value::Unknown(b)) => a.0.same(&b.0),
            (a, b) => match numbers(a, b) {
                Some(order) => order == Some(Ordering::Equal),
                None => false,
            },
        })
    }

    /// The order of two values.
    ///
    /// # Errors
    /// When they have none.
    pub(crate) fn compare(&self, other: &Value<'_>) -> Result<Ordering, Fault> {
        match (self, other) {
            (Value::Bool(a), Value::Bool(b)) => Ok(a.cmp(b)),
            (Value::String(a), Value::String(b)) => Ok((**a).cmp(&**b)),
            (Value::Bytes(a), Value::Bytes(b)) => Ok(a.cmp(b)),
            (Value::Duration(a), Value::Duration(b)) => Ok(a.cmp(b)),
            (Value::Timestamp(a), Value::Timestamp(b)) => Ok(a.order().cmp(&b.order())),
            (Value::Double(n), _) if n.is_nan() => error("NaN values cannot be ordered"),
            (a, b) => match numbers(a, b) {
                Some(Some(order)) => Ok(order),
                Some(None) => error("NaN values cannot be ordered"),
                None => no_overload(),
            },
        }
    }

    /// Whether values of the type have an order.
    pub(crate) fn is_ordered(&self) -> bool {
        matches!(
            self,
            Value::Bool(_)
                | Value::Int(_)
                | Value::Uint(_)
                | Value::Double(_)
                | Value::String(_)
                | Value::Bytes(_)
                | Value::Timestamp(_)
                | Value::Duration(_)
        )
    }
}

/// The order of two numbers; `Some(None)` when one is not a number.
fn numbers(a: &Value<'_>, b: &Value<'_>) -> Option<Option<Ordering>> {
    Some(match (a, b) {
        (Value::Int(a), Value::Int(b)) => Some(a.cmp(b)),
        (Value::Uint(a), Value::Uint(b)) => Some(a.cmp(b)),
        (Value::Int(a), Value::Uint(b)) => Some(i128::from(*a).cmp(&i128::from(*b))),
        (Value::Uint(a), Value::Int(b)) => Some(i128::from(*a).cmp(&i128::from(*b))),
        (Value::Double(a), Value::Double(b)) => a.partial_cmp(b),
        (Value::Double(a), Value::Int(b)) => with_int(*a, *b),
        (Value::Int(a), Value::Double(b)) => with_int(*b, *a).map(Ordering::reverse),
        (Value::Double(a), Value::Uint(b)) => with_uint(*a, *b),
        (Value::Uint(a), Value::Double(b)) => with_uint(*b, *a).map(Ordering::reverse),
        _ => return None,
    })
}

fn with_int(a: f64, b: i64) -> Option<Ordering> {
    if a < i64::MIN as f64 {
        return Some(Ordering::Less);
    }
    if a > i64::MAX as f64 {
        return Some(Ordering::Greater);
    }
    a.partial_cmp(&(b as f64))
}

fn with_uint(a: f64, b: u64) -> Option<Ordering> {
    if a < 0.0 {
        return Some(Ordering::Less);
    }
    if a > u64::MAX as f64 {
        return Some(Ordering::Greater);
    }
    a.partial_cmp(&(b as f64))
}

fn lists(a: &List<'_>, b: &List<'_>) -> Result<bool, Fault> {
    if let Some(keys) = a.keys() {
        return keyed::equal(a, b, keys);
    }
    if a.len() != b.len() {
        return Ok(false);
    }
    let strict = a.is_by_schema();
    for (x, y) in a.iter().zip(b.iter()) {
        let equal = match (x, y) {
            (Ok(x), Ok(y)) if strict => x.equals_as_receiver(&y),
            (Ok(x), Ok(y)) => x.equals(&y),
            (Err(fault), _) | (_, Err(fault)) => Err(fault),
        };
        match equal {
            Ok(true) => {}
            Ok(false) => return Ok(false),
            // only lists of a schema report what cannot be compared
            Err(fault) if strict => return Err(fault),
            Err(_) => {}
        }
    }
    Ok(true)
}

fn maps(a: &Map<'_>, b: &Map<'_>) -> Result<bool, Fault> {
    if a.len() != b.len() {
        return Ok(false);
    }
    if let Map::Data(data) = a
        && data.schema.is_some()
    {
        return data_maps(data, b);
    }
    for key in a.keys() {
        let (Some(x), Some(y)) = (a.find(&key), b.find(&key)) else {
            return Ok(false);
        };
        if let (Ok(x), Ok(y)) = (x, y)
            && x.equals(&y) == Ok(false)
        {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Members that the schema knows are compared as values, others as they are.
fn data_maps(a: &DataMap<'_>, other: &Map<'_>) -> Result<bool, Fault> {
    let Some(schema) = a.schema else { return Ok(false) };
    let ours = Map::Data(*a);
    for (name, view) in a.members.members() {
        if schema.member(name).is_some() {
            // upstream looks the name up as it is, as if it were an identifier
            let key = Value::text(name);
            let (mine, theirs) = (ours.find(&key), other.find(&key));
            match (mine, theirs) {
                (Some(x), Some(y)) => {
                    if !x?.equals_as_receiver(&y?)? {
                        return Ok(false);
                    }
                }
                (None, None) => {}
                _ => return Ok(false),
            }
            continue;
        }
        let Map::Data(theirs) = other else {
            return no_overload();
        };
        if let Some(found) = theirs.members.member(name)
            && !same(&view, &found)
        {
            return Ok(false);
        }
    }
    Ok(true)
}

fn same(a: &View<'_>, b: &View<'_>) -> bool {
    a.same(b)
}
