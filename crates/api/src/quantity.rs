//! Resource quantities (`100m`, `1.5Gi`, `2e3`): parsing, arithmetic, and the canonical text.

use std::cmp::Ordering;
use std::fmt;
use std::str::FromStr;

/// The family of suffixes a quantity is written with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// `n u m k M G T P E`
    DecimalSi,
    /// `Ki Mi Gi Ti Pi Ei`
    BinarySi,
    /// `e3`
    DecimalExponent,
}

/// A fixed-point number with nine decimals, and the way it was written.
#[derive(Debug, Clone, Copy)]
pub struct Quantity {
    /// Billionths, times ten to the power of `power`.
    nanos: i128,
    /// Is zero for all amounts whose billionths fit. Upstream has a bound, 2^63-1, for binary suffixes alone.
    power: i32,
    format: Format,
}

/// What upstream says of what is no quantity at all.
pub(crate) const FORMAT: &str =
    "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'";

/// Why a text is not a quantity; the messages are upstream's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum QuantityError {
    /// The text is nothing like a quantity.
    #[error("{FORMAT}")]
    Format,
    /// The suffix is not one of the SI or binary ones, nor an exponent.
    #[error("unable to parse quantity's suffix")]
    Suffix,
    /// The number before the suffix is none.
    #[error("unable to parse numeric part of quantity")]
    Numeric,
}

const NANO: i128 = 1_000_000_000;
/// Above it there is no room for another digit.
const HUGE: i128 = i128::MAX / 10;
const MAX: i128 = i64::MAX as i128 * NANO;
const DECIMAL: [(&str, i32); 10] = [
    ("n", -9),
    ("u", -6),
    ("m", -3),
    ("", 0),
    ("k", 3),
    ("M", 6),
    ("G", 9),
    ("T", 12),
    ("P", 15),
    ("E", 18),
];
const BINARY: [&str; 7] = ["", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei"];

impl Quantity {
    /// Nothing, written `0`.
    pub const ZERO: Quantity = Quantity {
        nanos: 0,
        power: 0,
        format: Format::DecimalSi,
    };

    /// A whole number.
    pub fn new(value: i64, format: Format) -> Self {
        Self {
            nanos: i128::from(value) * NANO,
            power: 0,
            format,
        }
    }

    /// So many thousandths, as `100m` of a core.
    pub fn from_milli(milli: i64, format: Format) -> Self {
        Self {
            nanos: i128::from(milli) * 1_000_000,
            power: 0,
            format,
        }
    }

    /// Returns whether it is nothing.
    pub fn is_zero(&self) -> bool {
        self.nanos == 0
    }

    /// Returns whether it is less than nothing.
    pub fn is_negative(&self) -> bool {
        self.nanos < 0
    }

    /// The suffixes that it is written with.
    pub fn format(&self) -> Format {
        self.format
    }

    fn scaled_up(&self, unit: i128) -> i64 {
        if self.power > 0 {
            return if self.nanos < 0 { i64::MIN } else { i64::MAX };
        }
        let quotient = self.nanos / unit;
        let away = (self.nanos % unit).signum();
        (quotient + away).clamp(i64::MIN.into(), i64::MAX.into()) as i64
    }

    /// Whole units, rounded away from zero.
    pub fn value(&self) -> i64 {
        self.scaled_up(NANO)
    }

    /// Thousandths, rounded away from zero.
    pub fn milli_value(&self) -> i64 {
        self.scaled_up(1_000_000)
    }

    /// Units as a float, for ratios.
    pub fn as_f64(&self) -> f64 {
        self.nanos as f64 / NANO as f64 * 10f64.powi(self.power)
    }

    /// The sum; a zero takes over the other's format. Digits that there is no room for beside those of the larger amount are lost.
    pub fn add(&self, other: &Quantity) -> Quantity {
        let format = if self.is_zero() { other.format } else { self.format };
        let (large, small) = match self.power >= other.power {
            true => (self, other),
            false => (other, self),
        };
        let unit = 10_i128.checked_pow((large.power - small.power) as u32);
        let added = unit.map_or(0, |unit| small.nanos / unit);
        let (nanos, power) = match large.nanos.checked_add(added) {
            Some(sum) => (sum, large.power),
            None => (large.nanos / 10 + added / 10, large.power.saturating_add(1)),
        };
        let (nanos, power) = widest(nanos, power.into());
        let power = i32::try_from(power).unwrap_or(i32::MAX);
        Quantity { nanos, power, format }
    }

    /// Rounded away from zero to thousandths.
    #[must_use]
    pub fn round_up_to_milli(&self) -> Quantity {
        const MILLI: i128 = 1_000_000;
        let rest = if self.power > 0 { 0 } else { self.nanos % MILLI };
        Quantity {
            nanos: self.nanos - rest + rest.signum() * MILLI,
            ..*self
        }
    }

    /// The first less the second, as [`Quantity::add`] adds.
    pub fn sub(&self, other: &Quantity) -> Quantity {
        self.add(&Quantity {
            nanos: -other.nanos,
            ..*other
        })
    }
}

/// A quantity's text as upstream writes what it has read: the canonical one, but where it takes the text for that already
/// (`ParseQuantity`) as it came: `+5`, `05`, `1.500`, `1E3`.
///
/// # Errors
/// When it is no quantity.
pub fn rewritten(text: &str) -> Result<String, QuantityError> {
    let quantity = text.parse::<Quantity>()?;
    Ok(match is_taken_for_canonical(text) {
        true => text.to_owned(),
        false => quantity.to_string(),
    })
}

/// Whether upstream keeps the text of a quantity: it looks at a few digits alone.
fn is_taken_for_canonical(text: &str) -> bool {
    /// Digits that certainly fit into 64 bits.
    const DIGITS: usize = 18;
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    let (whole, fraction, tail) = parts(unsigned.trim_start_matches('0'));
    let Ok((format, _, exponent)) = suffix(tail) else {
        return false;
    };
    if whole.is_empty() {
        return false;
    }
    if format == Format::BinarySi {
        let room = 14 - 3 * exponent / 10;
        let odd = whole.parse::<u64>().is_ok_and(|number| number % 8 != 0);
        return fraction.is_empty() && whole.len() as i32 <= room && odd;
    }
    let digits = whole.len() + fraction.len();
    let scale = i64::from(exponent) - fraction.len() as i64;
    digits <= DIGITS && scale >= -9 && scale % 3 == 0 && !format!("{whole}{fraction}").ends_with("000")
}

impl PartialEq for Quantity {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Quantity {}

impl PartialOrd for Quantity {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Quantity {
    fn cmp(&self, other: &Self) -> Ordering {
        let rank = |q: &Quantity| (if q.nanos < 0 { -q.power } else { q.power }, q.nanos);
        rank(self).cmp(&rank(other))
    }
}

/// What a suffix multiplies by: `base` to the power of `exponent`.
fn suffix(text: &str) -> Result<(Format, i32, i32), QuantityError> {
    if let Some((_, exponent)) = DECIMAL.iter().find(|(s, _)| *s == text) {
        return Ok((Format::DecimalSi, 10, *exponent));
    }
    if let Some(power) = BINARY.iter().position(|s| *s == text) {
        return Ok((Format::BinarySi, 2, power as i32 * 10));
    }
    match text.as_bytes() {
        [b'e' | b'E', digits @ ..] if !digits.is_empty() => {
            let exponent = text[1..].parse::<i64>().map_err(|_| QuantityError::Suffix)?;
            // as upstream cuts it
            Ok((Format::DecimalExponent, 10, exponent as i32))
        }
        _ => Err(QuantityError::Suffix),
    }
}

impl FromStr for Quantity {
    type Err = QuantityError;

    fn from_str(text: &str) -> Result<Self, QuantityError> {
        let (negative, unsigned) = match text.as_bytes().first().ok_or(QuantityError::Format)? {
            b'-' => (true, &text[1..]),
            b'+' => (false, &text[1..]),
            _ => (false, text),
        };
        // Upstream's scanner: digits, a point and digits, letters of suffixes, a sign and digits. None of them must be there.
        let (whole, fraction, tail) = parts(unsigned);
        let (_, exponent) = cut(tail, |c| "eEinumkKMGTP".contains(c));
        let digits = exponent.strip_prefix(['+', '-']).unwrap_or(exponent);
        if !digits.bytes().all(|c| c.is_ascii_digit()) {
            return Err(QuantityError::Format);
        }
        let (format, base, exponent) = suffix(tail)?;
        // Digits beyond what an amount can hold only decide the rounding.
        let most = if base == 2 { 28 } else { 37 };
        let mut digits = whole.trim_start_matches('0').to_owned();
        digits.push_str(fraction);
        let mut scale = -(fraction.len() as i64) + 9 + if base == 10 { i64::from(exponent) } else { 0 };
        let significant = digits.trim_start_matches('0').trim_end_matches('0');
        scale += (digits.len() - digits.trim_end_matches('0').len()) as i64;
        if significant.is_empty() {
            return Ok(Quantity {
                format,
                ..Quantity::ZERO
            });
        }
        let mut round_up = false;
        let kept = if significant.len() > most {
            round_up = true;
            scale += (significant.len() - most) as i64;
            &significant[..most]
        } else {
            significant
        };
        let mut value: i128 = kept.parse().map_err(|_| QuantityError::Numeric)?;
        if base == 2 {
            value = value.checked_mul(1i128 << exponent).unwrap_or(HUGE);
        }
        (value, scale) = widest(value, scale);
        while scale < 0 && value > 0 {
            round_up |= value % 10 != 0;
            value /= 10;
            scale += 1;
        }
        let mut power = i32::try_from(scale.max(0)).unwrap_or(i32::MAX);
        // A non-zero amount is never rounded to nothing.
        let mut nanos = value + i128::from(round_up && power == 0);
        if base == 2 && (power > 0 || nanos > MAX) {
            (nanos, power) = (MAX, 0);
        }
        Ok(Quantity {
            nanos: if negative { -nanos } else { nanos },
            power,
            format,
        })
    }
}

/// The same amount with as many digits as there is room for, so that the larger of two is the one with the larger power.
fn widest(mut nanos: i128, mut power: i64) -> (i128, i64) {
    while power > 0 && nanos.unsigned_abs() <= HUGE.unsigned_abs() {
        nanos *= 10;
        power -= 1;
    }
    (nanos, power)
}

/// The digits before the point and after it, and what follows.
fn parts(unsigned: &str) -> (&str, &str, &str) {
    let (whole, rest) = cut(unsigned, |c| c.is_ascii_digit());
    let Some(rest) = rest.strip_prefix('.') else {
        return (whole, "", rest);
    };
    let (fraction, tail) = cut(rest, |c| c.is_ascii_digit());
    (whole, fraction, tail)
}

/// The characters at the beginning that are wanted, and the rest.
fn cut(text: &str, wanted: impl Fn(char) -> bool) -> (&str, &str) {
    text.split_at(text.find(|c| !wanted(c)).unwrap_or(text.len()))
}

impl fmt::Display for Quantity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.nanos == 0 {
            return f.write_str("0");
        }
        let whole = self.nanos % NANO == 0 || self.power > 0;
        let small = self.nanos.abs() < 1024 * NANO;
        if self.format == Format::BinarySi && whole && !small {
            let mut value = self.nanos / NANO;
            let mut power = 0;
            while value % 1024 == 0 && power < 6 {
                value /= 1024;
                power += 1;
            }
            return write!(f, "{value}{}", BINARY[power]);
        }
        let mut value = self.nanos;
        let mut exponent = self.power - 9;
        while value % 10 == 0 {
            value /= 10;
            exponent += 1;
        }
        // There is no suffix above `E`.
        let most = match self.format {
            Format::DecimalExponent => i32::MAX,
            _ => 18,
        };
        let zeros = exponent - (exponent.div_euclid(3) * 3).min(most);
        exponent -= zeros;
        let value = format!("{value}{:0>1$}", "", zeros as usize);
        if self.format == Format::DecimalExponent {
            return if exponent == 0 {
                write!(f, "{value}")
            } else {
                write!(f, "{value}e{exponent}")
            };
        }
        let name = DECIMAL.iter().find(|(_, e)| *e == exponent).map_or("", |(s, _)| s);
        write!(f, "{value}{name}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_are_written_in_canonical_form() {
        for (text, canonical) in [
            ("0", "0"),
            ("0Gi", "0"),
            ("100m", "100m"),
            ("0.5", "500m"),
            (".5", "500m"),
            ("1.", "1"),
            ("1000", "1k"),
            ("1000m", "1"),
            ("1024Mi", "1Gi"),
            ("1.5Gi", "1536Mi"),
            ("0.1Ki", "102400m"),
            ("1023", "1023"),
            ("512Ki", "512Ki"),
            ("1e3", "1e3"),
            ("100E", "100E"),
            ("100Ei", "9223372036854775807"),
            ("1E", "1E"),
            ("1.23456789E", "1234567890G"),
            ("1e19", "10e18"),
            ("1e99", "1e99"),
            ("-1e99", "-1e99"),
            ("10e-10", "1e-9"),
            ("1e-300", "1e-9"),
            ("123456789012345678901234567890", "123456789012345678901234567890"),
            // nothing is missing that upstream's scanner wants
            (".", "0"),
            ("+", "0"),
            ("-", "0"),
            ("m", "0"),
            ("Ki", "0"),
            ("E5", "0"),
            ("-1.5", "-1500m"),
            ("1.0000000001", "1000000001n"),
            ("+3", "3"),
            ("12e-1", "1200e-3"),
        ] {
            assert_eq!(text.parse::<Quantity>().unwrap().to_string(), canonical, "{text}");
        }
    }

    #[test]
    fn a_text_that_upstream_takes_for_canonical_stays_as_it_is() {
        for text in [
            "+5", "05", "-1.500", "1.500k", "1.", "1E3", "1e03", "1e0", "+3Ki", "007Mi", "1.001", "5m", "1e-9",
        ] {
            assert_eq!(rewritten(text).as_deref(), Ok(text));
        }
        for (text, canonical) in [
            ("0.500", "500m"),
            ("1.5", "1500m"),
            ("1000m", "1"),
            ("+1000", "1k"),
            ("1e4", "10e3"),
            ("00", "0"),
            ("+0", "0"),
            ("+8Ki", "8Ki"),
            ("1024Ki", "1Mi"),
            ("1.0Ki", "1Ki"),
            ("+1234567890123456789", "1234567890123456789"),
            ("+3Ei", "3Ei"),
        ] {
            assert_eq!(rewritten(text).as_deref(), Ok(canonical), "{text}");
        }
        assert_eq!(rewritten("5x"), Err(QuantityError::Format));
    }

    #[test]
    fn what_is_no_quantity_is_refused_in_upstreams_words() {
        for (text, error) in [
            ("", QuantityError::Format),
            ("x", QuantityError::Format),
            ("1 Gi", QuantityError::Format),
            ("1.1.1", QuantityError::Format),
            ("--1", QuantityError::Suffix),
            ("1Kib", QuantityError::Format),
            ("1mm", QuantityError::Suffix),
            ("1e", QuantityError::Suffix),
        ] {
            assert_eq!(text.parse::<Quantity>(), Err(error), "{text:?}");
        }
    }

    #[test]
    fn values_round_away_from_zero_and_sums_keep_the_format() {
        let q = |s: &str| s.parse::<Quantity>().unwrap();
        assert_eq!(
            (q("1100m").value(), q("100m").milli_value(), q("1n").value()),
            (2, 100, 1)
        );
        assert_eq!(q("0").add(&q("1Gi")).to_string(), "1Gi");
        assert_eq!(q("2Gi").sub(&q("1Gi")).to_string(), "1Gi");
        assert!(q("1Gi") > q("1G") && q("1000m") == q("1"));
        assert!(q("1e99") > q("1e98") && q("-1e99") < q("1") && q("1e99").add(&q("1")) == q("1e99"));
        assert_eq!(q("1e99").value(), i64::MAX);
        let nines = q("9999999999999999999999999999999999999");
        assert!(nines.add(&q("1")) < nines.add(&q("2")));
        assert_eq!(nines.add(&q("1")).to_string(), "10000000000000000000E");
        assert!(nines.sub(&nines).is_zero() && nines.add(&q("1")).sub(&nines) == q("1"));
    }

    #[test]
    fn amounts_round_up_to_thousandths() {
        let rounded = |s: &str| s.parse::<Quantity>().unwrap().round_up_to_milli().to_string();
        for (text, round) in [
            ("1u", "1m"),
            ("-0.1u", "-1m"),
            ("1.0000000001", "1001m"),
            ("1500m", "1500m"),
            ("0.0001Ki", "103m"),
            ("1e99", "1e99"),
            ("1e-9", "1e-3"),
        ] {
            assert_eq!(rounded(text), round, "{text}");
        }
    }
}
