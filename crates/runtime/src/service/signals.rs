//! Signals by their names in images (`SIGTERM`, `TERM`, `15`, `SIGRTMIN+3`) and in CRI's enum.

use cri::v1;

const RT_MIN: i32 = 34;
const RT_MAX: i32 = 64;

/// Names without `SIG`, with their numbers on x86-64 and arm64.
const NAMES: [(&str, i32); 36] = [
    ("ABRT", 6),
    ("ALRM", 14),
    ("BUS", 7),
    ("CHLD", 17),
    ("CLD", 17),
    ("CONT", 18),
    ("FPE", 8),
    ("HUP", 1),
    ("ILL", 4),
    ("INT", 2),
    ("IO", 29),
    ("IOT", 6),
    ("KILL", 9),
    ("PIPE", 13),
    ("POLL", 29),
    ("PROF", 27),
    ("PWR", 30),
    ("QUIT", 3),
    ("SEGV", 11),
    ("STKFLT", 16),
    ("STOP", 19),
    ("SYS", 31),
    ("TERM", 15),
    ("TRAP", 5),
    ("TSTP", 20),
    ("TTIN", 21),
    ("TTOU", 22),
    ("URG", 23),
    ("USR1", 10),
    ("USR2", 12),
    ("VTALRM", 26),
    ("WINCH", 28),
    ("XCPU", 24),
    ("XFSZ", 25),
    ("RTMIN", RT_MIN),
    ("RTMAX", RT_MAX),
];

pub(crate) fn number(text: &str) -> Option<i32> {
    if let Ok(number) = text.parse::<i32>() {
        return (1..=RT_MAX).contains(&number).then_some(number);
    }
    let upper = text.to_ascii_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    let relative = |rest: &str, sign: char| rest.strip_prefix(sign).and_then(|n| n.parse::<i32>().ok());
    if let Some(n) = name.strip_prefix("RTMIN").and_then(|rest| relative(rest, '+')) {
        return (n <= RT_MAX - RT_MIN).then_some(RT_MIN + n);
    }
    if let Some(n) = name.strip_prefix("RTMAX").and_then(|rest| relative(rest, '-')) {
        return (n <= RT_MAX - RT_MIN).then_some(RT_MAX - n);
    }
    NAMES.iter().find(|(n, _)| *n == name).map(|(_, number)| *number)
}

/// CRI's enum spells `+` and `-` as words, and its own name before each.
fn spelled(signal: v1::Signal) -> String {
    let name = signal.as_str_name().trim_start_matches("SIGNAL_");
    name.replace("PLUS", "+").replace("MINUS", "-")
}

/// `None` for the runtime's default.
pub fn from_cri(signal: v1::Signal) -> Option<i32> {
    (signal != v1::Signal::RuntimeDefault)
        .then(|| number(&spelled(signal)))
        .flatten()
}

pub(crate) fn to_cri(wanted: i32) -> v1::Signal {
    (1..=65)
        .filter_map(|n| v1::Signal::try_from(n).ok())
        .find(|s| number(&spelled(*s)) == Some(wanted))
        .unwrap_or(v1::Signal::RuntimeDefault)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_have_many_names() {
        for (text, want) in [
            ("SIGTERM", Some(15)),
            ("term", Some(15)),
            ("9", Some(9)),
            ("SIGRTMIN+3", Some(37)),
            ("RTMAX-1", Some(63)),
            ("SIGNOTHING", None),
            ("0", None),
            ("65", None),
        ] {
            assert_eq!(number(text), want, "{text}");
        }
    }

    #[test]
    fn every_signal_of_cri_is_known() {
        for n in 1..=65 {
            let signal = v1::Signal::try_from(n).unwrap();
            let number = from_cri(signal).unwrap_or_else(|| panic!("{signal:?}"));
            assert_eq!(from_cri(to_cri(number)), Some(number));
        }
        assert_eq!(to_cri(15), v1::Signal::Sigterm);
    }
}
