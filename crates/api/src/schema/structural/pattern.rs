//! Regular expressions as Go's `regexp/syntax` reads them (RE2 with Perl's classes), written out for the `regex` crate.
//! Differences between the two are listed in the test table.

use regex::{Regex, RegexBuilder};

/// What Go allows a counted repetition to come to, nested ones multiplied.
const MAX_REPEAT: u64 = 1000;
/// What Go allows groups to nest.
const MAX_DEPTH: usize = 1000;
/// Bytes of a compiled expression: Go takes a million instructions, which no schema comes near.
const MAX_COMPILED: usize = 64 << 20;

/// Why a text is no regular expression, in Go's words.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("error parsing regexp: {why}: `{at}`")]
pub struct PatternError {
    why: &'static str,
    /// The part of the text that is wrong.
    at: String,
}

/// A pattern of a schema.
#[derive(Debug, Clone)]
pub struct Pattern {
    text: Box<str>,
    compiled: Result<Regex, PatternError>,
}

impl Pattern {
    /// Compiles the pattern. One that is none is kept with the reason, which [`Pattern::matches`] tells.
    pub fn new(text: &str) -> Pattern {
        Pattern {
            text: text.into(),
            compiled: compile(text),
        }
    }

    /// The pattern as it was written.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Whether the pattern matches somewhere in a text.
    ///
    /// # Errors
    /// Why it is no pattern, in Go's words.
    pub fn matches(&self, text: &str) -> Result<bool, &PatternError> {
        match &self.compiled {
            Ok(regex) => Ok(regex.is_match(text)),
            Err(why) => Err(why),
        }
    }

    /// Why it is no pattern.
    pub fn problem(&self) -> Option<&PatternError> {
        self.compiled.as_ref().err()
    }
}

/// Compiles an expression of Go's.
///
/// # Errors
/// What Go says of one that it does not take.
pub fn compile(text: &str) -> Result<Regex, PatternError> {
    compile_within(text, MAX_COMPILED)
}

/// Compiles an expression of Go's that may take so many bytes.
///
/// # Errors
/// What Go says of one that it does not take, or of one that is too large.
pub fn compile_within(text: &str, bytes: usize) -> Result<Regex, PatternError> {
    let mut builder = RegexBuilder::new(&translated(text)?);
    builder.nest_limit(2 * MAX_DEPTH as u32).size_limit(bytes);
    builder.build().map_err(|_| error("expression too large", text))
}

/// Says whether an expression is one of Go's, without compiling it.
///
/// # Errors
/// What Go says of one that it does not take.
pub fn check(text: &str) -> Result<(), PatternError> {
    translated(text).map(|_| ())
}

/// An expression of Go's as the `regex` crate writes it.
fn translated(text: &str) -> Result<String, PatternError> {
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

fn error(why: &'static str, at: &str) -> PatternError {
    PatternError { why, at: at.to_owned() }
}

/// What was parsed last: where it begins in the output, and how often it may repeat what is in it.
#[derive(Clone, Copy)]
struct Atom {
    start: usize,
    weight: u64,
}

struct Parser<'t> {
    rest: &'t str,
    whole: &'t str,
    out: String,
}

type Parsed<T> = Result<T, PatternError>;

impl<'t> Parser<'t> {
    fn eat(&mut self, prefix: &str) -> bool {
        match self.rest.strip_prefix(prefix) {
            Some(rest) => {
                self.rest = rest;
                true
            }
            None => false,
        }
    }

    fn next(&mut self) -> Option<char> {
        let mut chars = self.rest.chars();
        let c = chars.next()?;
        self.rest = chars.as_str();
        Some(c)
    }

    /// What was read since `from`.
    fn since(&self, from: &'t str) -> &'t str {
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

    /// `\d`, `\pL` and their like, which stand for classes inside and outside of brackets.
    fn named_class(&mut self, at: &'t str) -> Parsed<Option<String>> {
        const PERL: [(&str, &str); 6] = [
            ("\\d", "[0-9]"),
            ("\\D", "[^0-9]"),
            ("\\s", "[\\t\\n\\x0C\\r ]"),
            ("\\S", "[^\\t\\n\\x0C\\r ]"),
            ("\\w", "[0-9A-Za-z_]"),
            ("\\W", "[^0-9A-Za-z_]"),
        ];
        for (go, ours) in PERL {
            if self.eat(go) {
                return Ok(Some(ours.to_owned()));
            }
        }
        let mut negative = at.starts_with("\\P");
        if !negative && !at.starts_with("\\p") {
            return Ok(None);
        }
        self.rest = &self.rest[2..];
        let name = if self.eat("{") {
            let Some((name, rest)) = self.rest.split_once('}') else {
                return Err(error("invalid character class range", at));
            };
            self.rest = rest;
            name
        } else {
            let from = self.rest;
            self.next();
            self.since(from)
        };
        let bare = name.strip_prefix('^').inspect(|_| negative = !negative).unwrap_or(name);
        let letter = if negative { 'P' } else { 'p' };
        let word = !bare.is_empty()
            && bare
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | ' '));
        let special = ["any", "ascii", "assigned"].contains(&bare.to_ascii_lowercase().as_str());
        let known = |property: &str| Regex::new(&format!("\\p{{{property}{bare}}}")).is_ok();
        let class = match word {
            true if special => format!("\\{letter}{{{bare}}}"),
            true if known("gc=") => format!("\\{letter}{{gc={bare}}}"),
            true if known("sc=") => format!("\\{letter}{{sc={bare}}}"),
            _ => return Err(error("invalid character class range", self.since(at))),
        };
        Ok(Some(class))
    }

    /// One escaped character; `None` for half of a pair of surrogates.
    fn escaped_char(&mut self, at: &'t str) -> Parsed<Option<char>> {
        self.next();
        let Some(c) = self.next() else {
            return Err(error("trailing backslash at end of expression", ""));
        };
        let code = |code: u32| Ok(char::from_u32(code));
        match c {
            '1'..='7' if !self.rest.starts_with(|c: char| ('0'..='7').contains(&c)) => {}
            '0'..='7' => {
                let mut value = c as u32 - '0' as u32;
                for _ in 0..2 {
                    match self.rest.chars().next().and_then(|c| c.to_digit(8)) {
                        Some(digit) => {
                            value = value * 8 + digit;
                            self.next();
                        }
                        None => break,
                    }
                }
                return code(value);
            }
            'x' => {
                let digits = if self.eat("{") {
                    let (digits, rest) = self.rest.split_once('}').unwrap_or_default();
                    self.rest = rest;
                    digits
                } else {
                    let digits = self.rest.get(..2).unwrap_or_default();
                    self.rest = &self.rest[digits.len()..];
                    digits
                };
                let hex = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_hexdigit());
                if let (true, Ok(value @ 0..=0x10_FFFF)) = (hex, u32::from_str_radix(digits, 16)) {
                    return code(value);
                }
                let read = self.since(at);
                return Err(error("invalid escape sequence", read.strip_suffix('}').unwrap_or(read)));
            }
            'a' => return code(7),
            'f' => return code(12),
            'n' => return code(10),
            'r' => return code(13),
            't' => return code(9),
            'v' => return code(11),
            c if c.is_ascii() && !c.is_ascii_alphanumeric() => return Ok(Some(c)),
            _ => {}
        }
        Err(error("invalid escape sequence", self.since(at)))
    }

    /// A class in brackets.
    fn class(&mut self, at: &'t str) -> Parsed<()> {
        self.next();
        self.out.push('[');
        if self.eat("^") {
            self.out.push('^');
        }
        let mut first = true;
        let mut empty = true;
        loop {
            let from = self.rest;
            let Some(c) = self.rest.chars().next() else {
                return Err(error("missing closing ]", at));
            };
            if c == ']' && !first {
                self.next();
                break;
            }
            first = false;
            if let Some(class) = self.posix_class()? {
                self.out.push_str(&class);
                empty = false;
                continue;
            }
            if c == '\\'
                && let Some(class) = self.named_class(from)?
            {
                self.out.push_str(&class);
                empty = false;
                continue;
            }
            let low = self.class_char(at)?;
            let mut high = low;
            if self.rest.starts_with('-') && !self.rest.starts_with("-]") && self.rest.len() > 1 {
                self.next();
                high = self.class_char(at)?;
                if high < low {
                    return Err(error("invalid character class range", self.since(from)));
                }
            }
            // surrogates are in no text: a range goes around them
            let (low, high) = (char::from_u32(low.max(up(low))), char::from_u32(down(high)));
            if let (Some(low), Some(high)) = (low, high)
                && low <= high
            {
                self.out
                    .push_str(&format!("\\x{{{:X}}}-\\x{{{:X}}}", low as u32, high as u32));
                empty = false;
            }
        }
        if empty {
            // a class of nothing must be written as one
            self.out.push_str("a&&b");
        }
        self.out.push(']');
        Ok(())
    }

    /// One character of a class as its code, which may be a surrogate.
    fn class_char(&mut self, class: &'t str) -> Parsed<u32> {
        let at = self.rest;
        match self.rest.chars().next() {
            None => Err(error("missing closing ]", class)),
            Some('\\') => {
                let read = self.escaped_char(at)?;
                // only `\x{D800}` and its like give no character
                Ok(read.map_or(0xD800, u32::from))
            }
            Some(c) => {
                self.next();
                Ok(c.into())
            }
        }
    }

    /// `[:alpha:]` and its like.
    fn posix_class(&mut self) -> Parsed<Option<String>> {
        const NAMES: [&str; 14] = [
            "alnum", "alpha", "ascii", "blank", "cntrl", "digit", "graph", "lower", "print", "punct", "space", "upper",
            "word", "xdigit",
        ];
        let Some((inside, rest)) = self.rest.strip_prefix("[:").and_then(|r| r.split_once(":]")) else {
            return Ok(None);
        };
        let name = inside.strip_prefix('^').unwrap_or(inside);
        if !NAMES.contains(&name) {
            return Err(error("invalid character class range", &format!("[:{inside}:]")));
        }
        self.rest = rest;
        Ok(Some(format!("[:{inside}:]")))
    }
}

/// The next code that is a character.
fn up(code: u32) -> u32 {
    if (0xD800..0xE000).contains(&code) { 0xE000 } else { code }
}

/// The code before that is a character.
fn down(code: u32) -> u32 {
    if (0xD800..0xE000).contains(&code) { 0xD7FF } else { code }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An expression, texts that it matches and texts that it does not.
    const TAKEN: &[(&str, &[&str], &[&str])] = &[
        // single characters and their classes
        (".", &["a", "é"], &["\n", ""]),
        ("(?s).", &["\n"], &[""]),
        ("[xyz]", &["y"], &["a"]),
        ("[^xyz]", &["a", "\n"], &["x"]),
        ("^[^[\\]]+$", &["a.b"], &["a[", "]"]),
        ("^[]a]+$", &["]a"], &["b"]),
        ("^[^]a]$", &["b"], &["]"]),
        ("^[a-]+$", &["a-"], &["b"]),
        ("^[-a]+$", &["a-"], &["b"]),
        ("^[\\w-.]+$", &["a-."], &["!"]),
        ("^[a&&b]+$", &["a&b"], &["c"]),
        ("^[+--a~~c]+$", &[",", "~"], &["d", "."]),
        ("^[[a]+$", &["[a"], &["]"]),
        ("^[[:alpha:]]$", &["a"], &["1", "é"]),
        ("^[[:^alpha:]1]$", &["1", "é"], &["a"]),
        ("^[[:word:]]$", &["_"], &["-"]),
        ("^\\d$", &["7"], &["٣"]),
        ("^\\D$", &["٣"], &["7"]),
        ("^\\s$", &["\t", "\u{c}"], &["\u{b}", "\u{a0}"]),
        ("^\\S$", &["\u{b}"], &[" "]),
        ("^\\w$", &["a", "_"], &["é"]),
        ("^\\W$", &["é"], &["a"]),
        ("^[\\d\\pL]$", &["1", "é"], &["-"]),
        ("^\\pN$", &["٣"], &["a"]),
        ("^\\pL+$", &["éa"], &["1"]),
        ("^\\PL$", &["1"], &["a"]),
        ("^\\p{Greek}$", &["α"], &["a"]),
        ("^\\P{Greek}$", &["a"], &["α"]),
        ("^\\p{^Greek}$", &["a"], &["α"]),
        ("^\\p{Lu}$", &["A"], &["a"]),
        ("^\\p{Any}$", &["x"], &[""]),
        ("^[^\\x00-\\x{10FFFF}]$", &[], &["a"]),
        // composites and repetitions
        ("^xy$", &["xy"], &["x"]),
        ("^(x|y)$", &["x", "y"], &["z"]),
        ("^x*?$", &["", "xx"], &["y"]),
        ("^x+?y??$", &["x", "xy"], &["y"]),
        ("^x{2}$", &["xx"], &["x"]),
        ("^x{2,}?$", &["xxx"], &["x"]),
        ("^x{1,3}$", &["xxx"], &["xxxx"]),
        ("^(ab){2}$", &["abab"], &["ab"]),
        ("^a{0}$", &[""], &["a"]),
        ("a{", &["a{"], &["a"]),
        ("^a{,2}$", &["a{,2}"], &["aa"]),
        ("^a{x}$", &["a{x}"], &[]),
        ("^a{01}$", &["a{01}"], &["a"]),
        ("^{$", &["{"], &[]),
        ("^}]$", &["}]"], &[]),
        ("^(?:x{10}){100}$", &[], &["x"]),
        ("^*", &["a"], &[]),
        // groups and flags
        ("^(?P<n>a)(?<n>b)$", &["ab"], &["a"]),
        ("^(?:ab)$", &["ab"], &["a"]),
        ("^(?i)ab$", &["AB"], &["A"]),
        ("^(?i:a)b$", &["Ab"], &["AB"]),
        ("^a(?i)b|c$", &["aB", "C"], &["AB"]),
        ("^(?i)a(?-i)b$", &["Ab"], &["aB"]),
        ("(?m)^b$", &["a\nb"], &["ab"]),
        ("^a$", &["a"], &["a\n"]),
        ("(?U)^a+$", &["aa"], &["b"]),
        ("(?i-s)A.", &["ab"], &["a\n"]),
        ("^()$", &[""], &["a"]),
        ("^(|a)$", &["", "a"], &["b"]),
        // empty strings
        ("\\Aab\\z", &["ab"], &["ab\n"]),
        ("\\bé", &["aé"], &["é"]),
        ("^é\\b", &[], &["é"]),
        ("a\\B", &["ab"], &["a"]),
        // escapes
        ("^\\a\\f\\t\\n\\r\\v$", &["\u{7}\u{c}\t\n\r\u{b}"], &[]),
        ("^\\012$", &["\n"], &["2"]),
        ("^\\0$", &["\0"], &["0"]),
        ("^\\141$", &["a"], &[]),
        ("^\\x41$", &["A"], &[]),
        ("^\\x{1F600}$", &["😀"], &[]),
        ("^\\.\\_\\-\\/$", &["._-/"], &["a_-/"]),
        ("^\\Qa.*\\E$", &["a.*"], &["ab"]),
        ("^\\Qab\\E+$", &["abb"], &["abab"]),
        ("^\\Q.$", &[".$"], &["."]),
        ("^[\\]\\-\\\\]+$", &["]-\\"], &["a"]),
        ("^[\\n-\\r]$", &["\u{b}"], &["\u{e}"]),
        ("^#x y$", &["#x y"], &["#xy"]),
    ];

    /// What Go refuses, and its words.
    const REFUSED: &[(&str, &str)] = &[
        ("[a", "missing closing ]: `[a`"),
        ("(a", "missing closing ): `(a`"),
        ("a)", "unexpected ): `a)`"),
        ("*a", "missing argument to repetition operator: `*`"),
        ("(+)", "missing argument to repetition operator: `+`"),
        ("a|?", "missing argument to repetition operator: `?`"),
        ("{2}", "missing argument to repetition operator: `{2}`"),
        ("a**", "invalid nested repetition operator: `**`"),
        ("a*+", "invalid nested repetition operator: `*+`"),
        ("a{2}{3}", "invalid nested repetition operator: `{2}{3}`"),
        ("a{1001}", "invalid repeat count: `{1001}`"),
        ("a{3,2}", "invalid repeat count: `{3,2}`"),
        ("(a{100}){11}", "invalid repeat count: `{11}`"),
        ("[z-a]", "invalid character class range: `z-a`"),
        ("[[:foo:]]", "invalid character class range: `[:foo:]`"),
        ("\\p{Nothing}", "invalid character class range: `\\p{Nothing}`"),
        ("\\p{sc=Greek}", "invalid character class range: `\\p{sc=Greek}`"),
        ("\\p{Alphabetic}", "invalid character class range: `\\p{Alphabetic}`"),
        ("\\8", "invalid escape sequence: `\\8`"),
        ("(a)\\1", "invalid escape sequence: `\\1`"),
        ("\\Z", "invalid escape sequence: `\\Z`"),
        ("\\C", "invalid escape sequence: `\\C`"),
        ("\\h", "invalid escape sequence: `\\h`"),
        ("\\x{110000}", "invalid escape sequence: `\\x{110000`"),
        ("a\\", "trailing backslash at end of expression: ``"),
        ("(?=a)", "invalid or unsupported Perl syntax: `(?=`"),
        ("(?!a)", "invalid or unsupported Perl syntax: `(?!`"),
        ("(?<=a)", "invalid named capture: `(?<=a)`"),
        ("(?x)a", "invalid or unsupported Perl syntax: `(?x`"),
        ("(?i-)a", "invalid or unsupported Perl syntax: `(?i-)`"),
        ("(?P<1 >a)", "invalid named capture: `(?P<1 >`"),
    ];

    #[test]
    fn every_construct_of_gos_syntax_means_what_it_means_there() {
        for (pattern, yes, no) in TAKEN {
            let compiled = compile(pattern).unwrap_or_else(|e| panic!("{pattern}: {e}"));
            for text in *yes {
                assert!(compiled.is_match(text), "{pattern} does not match {text:?}");
            }
            for text in *no {
                assert!(!compiled.is_match(text), "{pattern} matches {text:?}");
            }
        }
    }

    #[test]
    fn what_go_refuses_is_refused_in_its_words() {
        for (pattern, why) in REFUSED {
            let refused = compile(pattern).expect_err(pattern);
            assert_eq!(refused.to_string(), format!("error parsing regexp: {why}"), "{pattern}");
        }
    }
}
