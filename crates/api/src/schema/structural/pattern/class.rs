//! Classes and escaped characters, inside and outside of brackets.

use regex::Regex;

use super::error;
use super::translate::{Parsed, Parser};

impl<'t> Parser<'t> {
    /// `\d`, `\pL` and their like, which stand for classes inside and outside of brackets.
    pub(super) fn named_class(&mut self, at: &'t str) -> Parsed<Option<String>> {
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
    pub(super) fn escaped_char(&mut self, at: &'t str) -> Parsed<Option<char>> {
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
    pub(super) fn class(&mut self, at: &'t str) -> Parsed<()> {
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
