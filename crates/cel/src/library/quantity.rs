//! Quantities: `quantity("1.5Gi")`, comparison, sums. Semver shares its functions' names and their costs.

use std::any::Any;
use std::cmp::Ordering;

use api::quantity::{Format, Quantity};

use crate::cost::{Actual, Estimate, Estimated, Range, STRING};
use crate::environment::Declarations;
use crate::value::{Fault, Opaque, Outcome, Value, error, no_overload};

/// A quantity, and the whole number times a power of ten that upstream keeps it as when it is not too large.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Amount {
    quantity: Quantity,
    scaled: Option<(i64, i32)>,
}

impl Opaque for Amount {
    fn type_name(&self) -> &str {
        "kubernetes.Quantity"
    }

    fn as_any(&self) -> &dyn Any {
        self
    }

    fn equals(&self, other: &dyn Opaque) -> Option<bool> {
        let other = other.as_any().downcast_ref::<Amount>()?;
        Some(self.quantity == other.quantity)
    }

    fn show(&self) -> String {
        self.quantity.to_string()
    }
}

impl Amount {
    fn parse(text: &str) -> Result<Amount, api::quantity::QuantityError> {
        Ok(Amount {
            quantity: text.parse()?,
            scaled: scaled(text),
        })
    }

    fn of(n: i64) -> Amount {
        Amount {
            quantity: Quantity::new(n, Format::DecimalExponent),
            scaled: Some((n, 0)),
        }
    }

    /// The whole number it is, when upstream keeps it as one.
    fn whole(&self) -> Option<i64> {
        let (value, scale) = self.scaled?;
        let power = 10_i64.checked_pow(u32::try_from(scale).ok()?)?;
        value.checked_mul(power)
    }

    fn as_double(&self) -> f64 {
        match self.scaled {
            Some((value, scale)) => value as f64 * 10_f64.powi(scale),
            None => self.quantity.as_f64(),
        }
    }

    fn plus(&self, other: &Amount, negative: bool) -> Amount {
        let quantity = if negative {
            self.quantity.sub(&other.quantity)
        } else {
            self.quantity.add(&other.quantity)
        };
        let sum = || {
            let ((a, scale_a), (mut b, scale_b)) = (self.scaled?, other.scaled?);
            if negative {
                b = b.checked_neg()?;
            }
            if a == 0 {
                return Some((b, scale_b));
            }
            if b == 0 {
                return Some((a, scale_a));
            }
            let scale = scale_a.min(scale_b);
            let at = |n: i64, from: i32| n.checked_mul(10_i64.checked_pow((from - scale) as u32)?);
            Some((at(a, scale_a)?.checked_add(at(b, scale_b)?)?, scale))
        };
        Amount {
            quantity,
            scaled: sum(),
        }
    }
}

/// The number and the power of ten of a text that is a quantity, if upstream reads it so.
fn scaled(text: &str) -> Option<(i64, i32)> {
    if text == "0" {
        return Some((0, 0));
    }
    let (sign, rest) = match text.strip_prefix(['+', '-']) {
        Some(rest) => (if text.starts_with('-') { -1 } else { 1 }, rest),
        None => (1, text),
    };
    let end = rest
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(rest.len());
    let (number, suffix) = rest.split_at(end);
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let whole = whole.trim_start_matches('0');
    let whole = if whole.is_empty() { "0" } else { whole };
    let (multiplier, exponent, precision) = match suffix.strip_suffix('i') {
        Some(binary) => {
            let power = ["K", "M", "G", "T", "P", "E"].iter().position(|s| *s == binary)? as i32 * 10 + 10;
            if !fraction.is_empty() {
                return None;
            }
            let multiplier = 1_i64.checked_shl(power as u32)?;
            (
                multiplier,
                0,
                15 - whole.len() as i32 - (power as f32 * 3.0 / 10.0) as i32 - 1,
            )
        }
        None => {
            let exponent = match suffix {
                "n" => -9,
                "u" => -6,
                "m" => -3,
                "" => 0,
                "k" => 3,
                "M" => 6,
                "G" => 9,
                "T" => 12,
                "P" => 15,
                "E" => 18,
                other => other.get(1..)?.parse().ok()?,
            };
            (1, exponent, 18 - (whole.len() + fraction.len()) as i32)
        }
    };
    let scale = exponent - fraction.len() as i32;
    if precision < 0 || scale < -9 {
        return None;
    }
    let digits: i64 = format!("{whole}{fraction}").parse().ok()?;
    Some((sign * digits.checked_mul(multiplier)?, scale))
}

pub(super) fn declare(into: &mut Declarations) {
    into.global(
        "quantity",
        "string_to_quantity",
        "string -> kubernetes.Quantity",
        |args| match args[0].as_str() {
            Some(text) => Amount::parse(text).map_or_else(|e| error(e.to_string()), |q| Ok(Value::opaque(q))),
            None => no_overload(),
        },
    );
    into.global(
        "isQuantity",
        "is_quantity_string",
        "string -> bool",
        |args| match args[0].as_str() {
            Some(text) => Ok(Value::Bool(Amount::parse(text).is_ok())),
            None => no_overload(),
        },
    );
    into.global("sign", "quantity_sign", "kubernetes.Quantity -> int", |args| {
        Ok(Value::Int(order(of(args, 0)?.quantity.cmp(&Quantity::ZERO))))
    });
    let both = "kubernetes.Quantity, kubernetes.Quantity -> ";
    into.member(
        "isGreaterThan",
        "quantity_is_greater_than",
        &format!("{both}bool"),
        |args| Ok(Value::Bool(compare(args)? == Ordering::Greater)),
    );
    into.member("isLessThan", "quantity_is_less_than", &format!("{both}bool"), |args| {
        Ok(Value::Bool(compare(args)? == Ordering::Less))
    });
    into.member("compareTo", "quantity_compare_to", &format!("{both}int"), |args| {
        Ok(Value::Int(order(compare(args)?)))
    });
    into.member(
        "asApproximateFloat",
        "quantity_get_float",
        "kubernetes.Quantity -> double",
        |args| Ok(Value::Double(of(args, 0)?.as_double())),
    );
    into.member(
        "asInteger",
        "quantity_get_int",
        "kubernetes.Quantity -> int",
        |args| match of(args, 0)?.whole() {
            Some(n) => Ok(Value::Int(n)),
            None => error("cannot convert value to integer"),
        },
    );
    into.member(
        "isInteger",
        "quantity_is_integer",
        "kubernetes.Quantity -> bool",
        |args| Ok(Value::Bool(of(args, 0)?.whole().is_some())),
    );
    let sum = format!("{both}kubernetes.Quantity");
    let with_int = "kubernetes.Quantity, int -> kubernetes.Quantity";
    into.member("add", "quantity_add", &sum, |a| plus(a, false));
    into.member("add", "quantity_add_int", with_int, |a| plus(a, false));
    into.member("sub", "quantity_sub", &sum, |a| plus(a, true));
    into.member("sub", "quantity_sub_int", with_int, |a| plus(a, true));
}

fn of<'v>(args: &'v [Value<'_>], at: usize) -> Result<&'v Amount, Fault> {
    args[at].downcast::<Amount>().map_or_else(no_overload, Ok)
}

fn compare(args: &[Value<'_>]) -> Result<Ordering, Fault> {
    Ok(of(args, 0)?.quantity.cmp(&of(args, 1)?.quantity))
}

pub(super) fn order(order: Ordering) -> i64 {
    order as i64
}

fn plus<'a>(args: &[Value<'a>], negative: bool) -> Outcome<'a> {
    let other = match &args[1] {
        Value::Int(n) => Amount::of(*n),
        _ => *of(args, 1)?,
    };
    Ok(Value::opaque(of(args, 0)?.plus(&other, negative)))
}

const PARSERS: [&str; 4] = ["quantity", "isQuantity", "semver", "isSemver"];
const ACCESSORS: [&str; 12] = [
    "sign",
    "asInteger",
    "isInteger",
    "asApproximateFloat",
    "isGreaterThan",
    "isLessThan",
    "compareTo",
    "add",
    "sub",
    "major",
    "minor",
    "patch",
];

pub(super) fn actual(call: &Actual<'_, '_>) -> Option<u64> {
    if ACCESSORS.contains(&call.function) {
        return Some(1);
    }
    let parses = PARSERS.contains(&call.function) && !call.args.is_empty();
    parses.then(|| (call.own_size(0) as f64 * STRING).ceil() as u64)
}

pub(super) fn estimate(call: &Estimated<'_, '_>) -> Option<Estimate> {
    if ACCESSORS.contains(&call.function) {
        return Some(Estimate::cost(Range::fixed(1)));
    }
    let text = call.args.first()?;
    PARSERS
        .contains(&call.function)
        .then(|| Estimate::cost(call.size(text).factor(STRING)))
}
