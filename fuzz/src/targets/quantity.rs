//! Quantities.

use api::quantity::Quantity;

use super::text;
use crate::{Form, Target};

pub const TARGET: Target = Target::new("quantity", Form::Bytes, check);

fn check(input: &[u8]) {
    let Some(text) = text(input) else { return };
    let mut all = text.split(' ').map(str::parse::<Quantity>);
    let Some(Ok(quantity)) = all.next() else { return };
    let shown = quantity.to_string();
    let again: Quantity = shown.parse().unwrap_or_else(|error| panic!("{error}: {shown}"));
    assert_eq!(quantity, again, "{shown}");
    assert_eq!(shown, again.to_string(), "canonical form");
    let _ = (quantity.value(), quantity.milli_value(), quantity.as_f64());
    assert_eq!(quantity.is_zero(), quantity == Quantity::ZERO);
    let Some(Ok(other)) = all.next() else { return };
    let (sum, difference) = (quantity.add(&other), quantity.sub(&other));
    let _ = (sum.to_string(), difference.to_string(), sum.cmp(&difference));
    assert_eq!(quantity.cmp(&other), other.cmp(&quantity).reverse());
}
