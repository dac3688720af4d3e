//! The order of keys in YAML as upstream's writer has it: runs of digits by their number, letters after all else.

use std::cmp::Ordering;

/// Compares two keys of a map.
pub fn compare(a: &str, b: &str) -> Ordering {
    // where the first letter is that they do not share: the bytes before it are the same
    let mut letters = a.char_indices().zip(b.chars());
    let Some(((at, x), y)) = letters.find(|((_, x), y)| x != y) else {
        return a.len().cmp(&b.len());
    };
    match (x.is_alphabetic(), y.is_alphabetic()) {
        (true, true) => return x.cmp(&y),
        (false, true) => return Ordering::Less,
        (true, false) => return Ordering::Greater,
        (false, false) => {}
    }
    // A zero inside of a number counts as a digit of it: the digits before are the same in both.
    let digits = a[..at].bytes().rev().take_while(u8::is_ascii_digit);
    let inside = (x == '0' || y == '0') && digits.into_iter().any(|c| c != b'0');
    let number = |text: &str| {
        let run = text[at..].bytes().take_while(u8::is_ascii_digit);
        let start = (u64::from(inside), 0usize);
        let (value, length) = run.fold(start, |(n, length), d| {
            (n.wrapping_mul(10).wrapping_add(u64::from(d - b'0')), length + 1)
        });
        (value as i64, length)
    };
    number(a).cmp(&number(b)).then_with(|| x.cmp(&y))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_in_keys_count_as_numbers_and_letters_come_last() {
        for keys in [
            ["a2", "a10", "b1"],
            ["0o7", "1e3", "a"],
            ["-", ".inf", "1"],
            ["a", "a-b", "ab"],
            ["a1", "a01", "a2"],
            ["a1", "a10", "a100"],
            ["Z", "a", "é"],
        ] {
            let mut sorted = keys;
            sorted.reverse();
            sorted.sort_by(|a, b| compare(a, b));
            assert_eq!(sorted, keys);
        }
    }
}
