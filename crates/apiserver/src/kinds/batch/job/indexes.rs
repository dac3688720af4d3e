//! Indexes of a job as text: `1,3-5`.

/// How many indexes a text names, all below the completions and in order.
pub fn count(text: &str, completions: i64) -> Result<i64, String> {
    let (mut last, mut total) = (None, 0);
    for part in parts(text) {
        let (first, end) = interval(part, completions)?;
        if let Some(last) = last.filter(|last| *last >= first) {
            return Err(format!("non-increasing order, previous: {last}, current: {first}"));
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

fn interval(part: &str, completions: i64) -> Result<(i64, i64), String> {
    let index = |text: &str| -> Result<i64, String> {
        let n: i64 = text
            .parse()
            .map_err(|_| format!("cannot convert string to integer for index: {text:?}"))?;
        if n >= completions {
            return Err(format!("too large index: {text:?}"));
        }
        Ok(n)
    };
    let ends: Vec<&str> = part.split('-').collect();
    match ends.as_slice() {
        [one] => index(one).map(|n| (n, n)),
        [first, end] => match (index(first)?, index(end)?) {
            (first, end) if first >= end => Err(format!("non-increasing order, previous: {first}, current: {end}")),
            both => Ok(both),
        },
        _ => Err(format!(
            "the fragment {part:?} violates the requirement that an index interval can have at most two parts separated \
             by '-'"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn indexes_are_counted_if_they_are_in_order_and_below_the_completions() {
        assert_eq!((count("", 5), count("1,3-4", 5)), (Ok(0), Ok(3)));
        assert_eq!(count("5", 5), Err("too large index: \"5\"".into()));
        assert_eq!(
            count("3,2", 5),
            Err("non-increasing order, previous: 3, current: 2".into())
        );
        assert_eq!(
            count("x", 5),
            Err("cannot convert string to integer for index: \"x\"".into())
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
