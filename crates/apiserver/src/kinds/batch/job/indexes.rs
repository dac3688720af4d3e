//! Indexes of a job as text: `1,3-5`.

/// Why a text names no indexes, in upstream's words.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum IndexError {
    /// An index does not come after the one before it.
    #[error("non-increasing order, previous: {previous}, current: {current}")]
    Order {
        /// The one before it.
        previous: i64,
        /// The index.
        current: i64,
    },
    /// An index is no number.
    #[error("cannot convert string to integer for index: {0:?}")]
    NoNumber(String),
    /// An index is not below the completions.
    #[error("too large index: {0:?}")]
    TooLarge(String),
    /// An interval has more than two ends.
    #[error(
        "the fragment {0:?} violates the requirement that an index interval can have at most two parts separated by '-'"
    )]
    Interval(String),
}

/// How many indexes a text names, all below the completions and in order.
pub fn count(text: &str, completions: i64) -> Result<i64, IndexError> {
    let (mut last, mut total) = (None, 0);
    for part in parts(text) {
        let (first, end) = interval(part, completions)?;
        if let Some(previous) = last.filter(|last| *last >= first) {
            let current = first;
            return Err(IndexError::Order { previous, current });
        }
        total += end - first + 1;
        last = Some(end);
    }
    Ok(total)
}

/// The first index that two texts both name; what cannot be read of them does not count.
pub fn overlap(one: &str, other: &str, completions: i64) -> Option<i64> {
    let readable = |text: &'_ str| {
        let all: Vec<(i64, i64)> = parts(text)
            .filter_map(|part| interval(part, completions).ok())
            .collect();
        all
    };
    let (one, other) = (readable(one), readable(other));
    let (mut a, mut b) = (one.iter().peekable(), other.iter().peekable());
    while let (Some((first, end)), Some((other_first, other_end))) = (a.peek(), b.peek()) {
        if first <= other_end && other_first <= end {
            return Some(*first.max(other_first));
        }
        if first <= other_first {
            a.next();
        } else {
            b.next();
        }
    }
    None
}

fn parts(text: &str) -> impl Iterator<Item = &str> {
    text.split(',').filter(|_| !text.is_empty())
}

fn interval(part: &str, completions: i64) -> Result<(i64, i64), IndexError> {
    let index = |text: &str| -> Result<i64, IndexError> {
        let n: i64 = text.parse().map_err(|_| IndexError::NoNumber(text.to_owned()))?;
        if n >= completions {
            return Err(IndexError::TooLarge(text.to_owned()));
        }
        Ok(n)
    };
    let ends: Vec<&str> = part.split('-').collect();
    match ends.as_slice() {
        [one] => index(one).map(|n| (n, n)),
        [first, end] => match (index(first)?, index(end)?) {
            (previous, current) if previous >= current => Err(IndexError::Order { previous, current }),
            both => Ok(both),
        },
        _ => Err(IndexError::Interval(part.to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn indexes_are_counted_if_they_are_in_order_and_below_the_completions() {
        assert_eq!((count("", 5), count("1,3-4", 5)), (Ok(0), Ok(3)));
        assert_eq!(count("5", 5), Err(IndexError::TooLarge("5".into())));
        assert_eq!(
            count("3,2", 5),
            Err(IndexError::Order {
                previous: 3,
                current: 2
            })
        );
        assert_eq!(
            count("x", 5).unwrap_err().to_string(),
            "cannot convert string to integer for index: \"x\""
        );
        assert!(count("1-2-3", 5).is_err() && count("2-2", 5).is_err());
    }

    #[test]
    fn two_texts_overlap_at_the_first_index_that_both_name() {
        assert_eq!(overlap("0-2,7", "3,6-8", 10), Some(7));
        assert_eq!(overlap("0-2", "x,2", 10), Some(2));
        assert_eq!((overlap("0-2", "3", 10), overlap("", "3", 10)), (None, None));
    }
}
