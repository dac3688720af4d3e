//! Writes an expression of Go's for the `regex` crate: what is around classes. What cannot be counted or nested so is refused.

use super::{MAX_DEPTH, PatternError, error};

/// What Go allows a counted repetition to come to, nested ones multiplied.
const MAX_REPEAT: u64 = 1000;

/// An expression of Go's as the `regex` crate writes it.
pub(super) fn translated(text: &str) -> Result<String, PatternError> {
    let mut parser = Parser {
        rest: text,
        whole: text,
        out: String::with_capacity(text.len() + 16),
    };
    parser.alternatives(0)?;
    if !parser.rest.is_empty() {
        return Err(error("unexpected )", text));
    }
    Ok(parser.out)
}

/// What was parsed last: where it begins in the output, and how often it may repeat what is in it.
#[derive(Clone, Copy)]
struct Atom {
    start: usize,
    weight: u64,
}

pub(super) struct Parser<'t> {
    pub(super) rest: &'t str,
    whole: &'t str,
    pub(super) out: String,
}

pub(super) type Parsed<T> = Result<T, PatternError>;

impl<'t> Parser<'t> {
    pub(super) fn eat(&mut self, prefix: &str) -> bool {
        match self.rest.strip_prefix(prefix) {
            Some(rest) => {
                self.rest = rest;
                true
            }
            None => false,
        }
    }

    pub(super) fn next(&mut self) -> Option<char> {
        let mut chars = self.rest.chars();
        let c = chars.next()?;
        self.rest = chars.as_str();
        Some(c)
    }

    /// What was read since `from`.
    pub(super) fn since(&self, from: &'t str) -> &'t str {
        &from[..from.len() - self.rest.len()]
    }

    /// Everything up to the end or the parenthesis that closes the group; returns its weight.
    fn alternatives(&mut self, depth: usize) -> Parsed<u64> {
        if depth > MAX_DEPTH {
            return Err(error("expression nests too deeply", self.whole));
        }
        let mut weight = 1;
        let mut last: Option<Atom> = None;
        let mut repeated: Option<&'t str> = None;
        loop {
            let at = self.rest;
            let start = self.out.len();
            let Some(c) = self.rest.chars().next() else { break };
            match c {
                ')' => break,
                '|' => {
                    self.next();
                    self.out.push('|');
                    (last, repeated) = (None, None);
                    continue;
                }
                '*' | '+' | '?' => {
                    self.next();
                    self.eat("?");
                    self.repeat(at, last, repeated, None)?;
                    repeated = Some(at);
                    weight = weight.max(last.map_or(1, |a| a.weight));
                    continue;
                }
                '{' => {
                    if let Some(counts) = self.counts() {
                        self.eat("?");
                        let heavier = self.repeat(at, last, repeated, Some(counts))?;
                        if let Some(atom) = &mut last {
                            atom.weight = heavier;
                        }
                        weight = weight.max(heavier);
                        repeated = Some(at);
                        continue;
                    }
                    self.next();
                    self.out.push_str("\\{");
                }
                '(' => {
                    self.next();
                    // flags are no operand
                    if let Some(inner) = self.group(at, depth)? {
                        weight = weight.max(inner);
                        last = Some(Atom { start, weight: inner });
                        repeated = None;
                    }
                    continue;
                }
                '[' => self.class(at)?,
                '.' | '^' | '$' => {
                    self.next();
                    self.out.push(c);
                }
                '\\' => {
                    if self.eat("\\Q") {
                        let (text, rest) = self.rest.split_once("\\E").unwrap_or((self.rest, ""));
                        self.rest = rest;
                        for c in text.chars() {
                            last = Some(Atom {
                                start: self.out.len(),
                                weight: 1,
                            });
                            self.literal(c);
                        }
                        if !text.is_empty() {
                            repeated = None;
                        }
                        continue;
                    }
                    self.escape(at)?;
                }
                c => {
                    self.next();
                    self.literal(c);
                }
            }
            last = Some(Atom { start, weight: 1 });
            repeated = None;
        }
        Ok(weight)
    }

    /// `{n}`, `{n,}` or `{n,m}`; anything else that begins so is text.
    fn counts(&mut self) -> Option<(u64, Option<u64>)> {
        let (inside, rest) = self.rest.strip_prefix('{')?.split_once('}')?;
        let number = |text: &str| -> Option<u64> {
            let plain = text.bytes().all(|b| b.is_ascii_digit()) && (text.len() == 1 || !text.starts_with('0'));
            // what does not fit is more than is allowed anyway
            (plain && !text.is_empty()).then(|| text.parse().unwrap_or(u64::MAX))
        };
        let counts = match inside.split_once(',') {
            None => (number(inside)?, Some(number(inside)?)),
            Some((least, "")) => (number(least)?, None),
            Some((least, most)) => (number(least)?, Some(number(most)?)),
        };
        self.rest = rest;
        Some(counts)
    }

    /// Writes a repetition of what was parsed last, and returns how often all in it may be repeated.
    fn repeat(
        &mut self,
        at: &'t str,
        last: Option<Atom>,
        repeated: Option<&'t str>,
        counts: Option<(u64, Option<u64>)>,
    ) -> Parsed<u64> {
        let operator = self.since(at);
        let Some(atom) = last else {
            return Err(error("missing argument to repetition operator", operator));
        };
        if let Some(before) = repeated {
            return Err(error("invalid nested repetition operator", self.since(before)));
        }
        let Some((least, most)) = counts else {
            self.out.push_str(operator);
            return Ok(atom.weight);
        };
        let bad = least > MAX_REPEAT || most.is_some_and(|most| most > MAX_REPEAT || least > most);
        let times = most.unwrap_or(least);
        let weight = match (most, times) {
            (Some(0), _) => 1,
            (_, 0) => atom.weight,
            _ => times.saturating_mul(atom.weight),
        };
        let counted = least >= 2 || most.is_some_and(|most| most >= 2);
        if bad || (counted && weight > MAX_REPEAT) {
            return Err(error("invalid repeat count", operator));
        }
        // the whole of an atom is repeated, however it is written
        let inner = self.out.split_off(atom.start);
        let most = most.map(|m| m.to_string()).unwrap_or_default();
        let lazy = if operator.ends_with('?') { "?" } else { "" };
        self.out.push_str(&format!("(?:{inner}){{{least},{most}}}{lazy}"));
        Ok(weight)
    }

    /// A group, or flags: `None` if it is flags alone. The parenthesis has been read.
    fn group(&mut self, at: &'t str, depth: usize) -> Parsed<Option<u64>> {
        let mut open = "(?:".to_owned();
        if self.rest.starts_with('?') {
            if let Some(named) = self.rest.strip_prefix("?P<").or_else(|| self.rest.strip_prefix("?<")) {
                let Some((name, rest)) = named.split_once('>') else {
                    return Err(error("invalid named capture", at));
                };
                let head = &at[..at.len() - rest.len()];
                let word = !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
                if !word {
                    return Err(error("invalid named capture", head));
                }
                self.rest = rest;
            } else {
                self.next();
                let flags = self.flags(at)?;
                if self.since(at).ends_with(')') {
                    self.out.push_str(&format!("(?{flags})"));
                    return Ok(None);
                }
                open = format!("(?{flags}:");
            }
        }
        self.out.push_str(&open);
        let weight = self.alternatives(depth + 1)?;
        if !self.eat(")") {
            return Err(error("missing closing )", self.whole));
        }
        self.out.push(')');
        Ok(Some(weight))
    }

    /// The flags of a group, up to and with the `:` or `)` after them.
    fn flags(&mut self, at: &'t str) -> Parsed<String> {
        let mut flags = String::new();
        let (mut negative, mut seen) = (false, false);
        loop {
            let c = self.next();
            match c {
                Some(flag @ ('i' | 'm' | 's' | 'U')) => {
                    if !flags.rsplit('-').next().unwrap_or_default().contains(flag) {
                        flags.push(flag);
                    }
                    seen = true;
                }
                Some('-') if !negative => {
                    flags.push('-');
                    (negative, seen) = (true, false);
                }
                Some(':' | ')') if !negative || seen => {
                    // a flag that is set and unset again is unset
                    if let Some((on, off)) = flags.split_once('-') {
                        let on: String = on.chars().filter(|f| !off.contains(*f)).collect();
                        return Ok(format!("{on}-{off}"));
                    }
                    if flags.is_empty() && c == Some(')') {
                        return Ok("-x".into());
                    }
                    return Ok(flags);
                }
                _ => return Err(error("invalid or unsupported Perl syntax", self.since(at))),
            }
        }
    }

    fn literal(&mut self, c: char) {
        let mut buffer = [0; 4];
        self.out.push_str(&regex::escape(c.encode_utf8(&mut buffer)));
    }

    /// An escape outside of classes.
    fn escape(&mut self, at: &'t str) -> Parsed<()> {
        if let Some(class) = self.named_class(at)? {
            self.out.push_str(&class);
            return Ok(());
        }
        let zero_width = [
            ("\\A", "\\A"),
            ("\\z", "\\z"),
            ("\\b", "(?-u:\\b)"),
            ("\\B", "(?-u:\\B)"),
        ];
        for (go, ours) in zero_width {
            if self.eat(go) {
                self.out.push_str(ours);
                return Ok(());
            }
        }
        match self.escaped_char(at)? {
            Some(c) => self.literal(c),
            // half of a pair of surrogates is in no text
            None => self.out.push_str("[^\\x00-\\x{10FFFF}]"),
        }
        Ok(())
    }
}
