//! The order of keys in YAML as upstream's writer has it: runs of digits by their number, letters after all else.

use std::cmp::Ordering;

/// Compares two keys of a map.
pub fn compare(a: &str, b: &str) -> Ordering {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let Some(at) = a.iter().zip(&b).position(|(a, b)| a != b) else {
        return a.len().cmp(&b.len());
    };
    match (a[at].is_alphabetic(), b[at].is_alphabetic()) {
        (true, true) => return a[at].cmp(&b[at]),
        (false, true) => return Ordering::Less,
        (true, false) => return Ordering::Greater,
        (false, false) => {}
    }
    // A zero inside of a number counts as a digit of it: the digits before are the same in both.
    let digits = a[..at].iter().rev().take_while(|c| c.is_ascii_digit());
    let inside = (a[at] == '0' || b[at] == '0') && digits.into_iter().any(|c| *c != '0');
    let number = |chars: &[char]| {
        let run: Vec<u32> = chars[at..].iter().map_while(|c| c.to_digit(10)).collect();
        let start = u64::from(inside);
        let value = run
            .iter()
            .fold(start, |n, d| n.wrapping_mul(10).wrapping_add(u64::from(*d)));
        (value as i64, run.len())
    };
    number(&a).cmp(&number(&b)).then_with(|| a[at].cmp(&b[at]))
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
