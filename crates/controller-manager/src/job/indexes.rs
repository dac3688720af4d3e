//! Sets of completion indexes and their text form, `1,3-5,7`.

use std::collections::BTreeSet;

/// Reads the text form; indexes from `limit` on are dropped.
pub(super) fn parse(text: &str, limit: i32) -> BTreeSet<i32> {
    let mut all = BTreeSet::new();
    for part in text.split(',').filter(|p| !p.is_empty()) {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        if let (Ok(first), Ok(last)) = (first.parse::<i32>(), last.parse::<i32>()) {
            all.extend((first..=last).take_while(|i| *i < limit));
        }
    }
    all
}

pub(super) fn text(indexes: &BTreeSet<i32>) -> String {
    let mut parts: Vec<(i32, i32)> = Vec::new();
    for index in indexes {
        match parts.last_mut() {
            Some((_, last)) if *last + 1 == *index => *last = *index,
            _ => parts.push((*index, *index)),
        }
    }
    let parts: Vec<String> = parts
        .into_iter()
        .map(|(first, last)| match last - first {
            0 => first.to_string(),
            1 => format!("{first},{last}"),
            _ => format!("{first}-{last}"),
        })
        .collect();
    parts.join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn indexes_are_written_as_ranges() {
        for words in ["", "0", "0,1", "0-2", "1,3-5,7", "0,1,5-9"] {
            assert_eq!(text(&parse(words, 100)), words);
        }
        assert_eq!(text(&parse("0-9", 5)), "0-4");
    }
}
