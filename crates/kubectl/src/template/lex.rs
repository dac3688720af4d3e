//! Splits a Go template into tokens, by the rules of `text/template/parse`.

use super::error::{TemplateError, refuse};

/// The words of a token's kind are those of Go's lexer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Text,
    LeftDelim,
    RightDelim,
    Field,
    Variable,
    Identifier,
    Keyword,
    Number,
    String,
    RawString,
    CharConstant,
    Bool,
    Nil,
    Dot,
    Assign,
    Declare,
    Pipe,
    LeftParen,
    RightParen,
    Char,
    Space,
    Error,
    End,
}

/// A token with its place: an offset in bytes and a line from 1.
#[derive(Debug, Clone)]
pub struct Token {
    pub kind: Kind,
    pub text: String,
    pub at: usize,
    pub line: usize,
}

const KEYWORDS: [&str; 11] = [
    "block", "break", "continue", "define", "else", "end", "if", "range", "template", "with", "nil",
];

/// All tokens of a template. The last one is the end or an error.
pub fn tokens(input: &str) -> Vec<Token> {
    let mut lexer = Lexer {
        input,
        at: 0,
        line: 1,
        parens: 0,
        out: Vec::new(),
    };
    if let Err(why) = lexer.all() {
        let (at, line) = (lexer.at, lexer.line);
        lexer.out.push(Token {
            kind: Kind::Error,
            text: why.0,
            at,
            line,
        });
    }
    lexer.out
}

struct Lexer<'t> {
    input: &'t str,
    at: usize,
    line: usize,
    parens: usize,
    out: Vec<Token>,
}

impl<'t> Lexer<'t> {
    fn rest(&self) -> &'t str {
        &self.input[self.at..]
    }

    fn push(&mut self, kind: Kind, length: usize) {
        let text = &self.rest()[..length];
        self.out.push(Token {
            kind,
            text: text.to_owned(),
            at: self.at,
            line: self.line,
        });
        self.skip(length);
    }

    fn skip(&mut self, length: usize) {
        self.line += self.rest()[..length].matches('\n').count();
        self.at += length;
    }

    fn all(&mut self) -> Result<(), TemplateError> {
        loop {
            let Some(length) = self.rest().find("{{") else {
                if !self.rest().is_empty() {
                    self.push(Kind::Text, self.rest().len());
                }
                self.push(Kind::End, 0);
                return Ok(());
            };
            let trims = marks_left(&self.rest()[length + 2..]);
            let text = &self.rest()[..length];
            let kept = if trims { text.trim_end_matches(blank) } else { text }.len();
            if kept > 0 {
                self.push(Kind::Text, kept);
            }
            self.skip(length - kept);
            let marker = if trims { 2 } else { 0 };
            if self.rest()[2 + marker..].starts_with("/*") {
                self.comment(2 + marker)?;
                continue;
            }
            self.push(Kind::LeftDelim, 2);
            self.skip(marker);
            self.parens = 0;
            self.action()?;
        }
    }

    fn comment(&mut self, opening: usize) -> Result<(), TemplateError> {
        self.skip(opening);
        let Some(end) = self.rest().find("*/") else {
            return refuse("unclosed comment");
        };
        self.skip(end + 2);
        self.closing(true)
            .then_some(())
            .ok_or_else(|| TemplateError("comment ends before closing delimiter".to_owned()))
    }

    /// Passes a closing delimiter if it is here, with the blanks that it trims.
    fn closing(&mut self, silent: bool) -> bool {
        let rest = self.rest();
        let trims = rest.starts_with(blank) && rest[1..].starts_with("-}}");
        let length = if trims { 2 } else { 0 };
        if !rest[length..].starts_with("}}") {
            return false;
        }
        self.skip(length);
        if silent {
            self.skip(2);
        } else {
            self.push(Kind::RightDelim, 2);
        }
        if trims {
            let blanks = self.rest().len() - self.rest().trim_start_matches(blank).len();
            self.skip(blanks);
        }
        true
    }

    fn action(&mut self) -> Result<(), TemplateError> {
        loop {
            let before = self.at;
            if self.parens == 0 && self.closing(false) {
                return Ok(());
            }
            if self.parens > 0 && (self.rest().starts_with("}}") || self.rest().starts_with(" -}}")) {
                return refuse("unclosed left paren");
            }
            self.at = before;
            let rest = self.rest();
            let Some(c) = rest.chars().next() else {
                return refuse("unclosed action");
            };
            match c {
                c if blank(c) => {
                    let mut length = rest.len() - rest.trim_start_matches(blank).len();
                    // the last blank may belong to the delimiter
                    if rest[length..].starts_with("-}}") {
                        length -= 1;
                    }
                    if length > 0 {
                        self.push(Kind::Space, length);
                    }
                }
                '=' => self.push(Kind::Assign, 1),
                ':' if rest.starts_with(":=") => self.push(Kind::Declare, 2),
                ':' => return refuse("expected :="),
                '|' => self.push(Kind::Pipe, 1),
                '"' => self.quoted('"', Kind::String, "unterminated quoted string")?,
                '\'' => self.quoted('\'', Kind::CharConstant, "unterminated character constant")?,
                '`' => {
                    let Some(length) = rest[1..].find('`') else {
                        return refuse("unterminated raw quoted string");
                    };
                    self.push(Kind::RawString, length + 2);
                }
                '$' => self.named(Kind::Variable)?,
                '.' if !rest[1..].starts_with(|c: char| c.is_ascii_digit()) => self.named(Kind::Field)?,
                '(' => {
                    self.push(Kind::LeftParen, 1);
                    self.parens += 1;
                }
                ')' => {
                    self.push(Kind::RightParen, 1);
                    let Some(open) = self.parens.checked_sub(1) else {
                        return refuse("unexpected right paren");
                    };
                    self.parens = open;
                }
                '.' | '+' | '-' | '0'..='9' => self.number()?,
                c if letter(c) => self.word()?,
                c if c.is_ascii_graphic() => self.push(Kind::Char, 1),
                c => return refuse(format!("unrecognized character in action: {}", shown(c))),
            }
        }
    }

    fn quoted(&mut self, quote: char, kind: Kind, open: &str) -> Result<(), TemplateError> {
        let mut escaped = false;
        for (i, c) in self.rest().char_indices().skip(1) {
            match c {
                '\n' => break,
                _ if escaped => escaped = false,
                '\\' => escaped = true,
                c if c == quote => {
                    self.push(kind, i + 1);
                    return Ok(());
                }
                _ => {}
            }
        }
        refuse(open)
    }

    /// A field or a variable: a sign and a name. The sign alone is the dot, or the variable of the whole.
    fn named(&mut self, kind: Kind) -> Result<(), TemplateError> {
        let name = word_length(&self.rest()[1..]);
        self.ends_at(1 + name)?;
        let kind = match (kind, name) {
            (Kind::Field, 0) => Kind::Dot,
            (kind, _) => kind,
        };
        self.push(kind, 1 + name);
        Ok(())
    }

    fn word(&mut self) -> Result<(), TemplateError> {
        let length = word_length(self.rest());
        self.ends_at(length)?;
        let kind = match &self.rest()[..length] {
            "nil" => Kind::Nil,
            "true" | "false" => Kind::Bool,
            word if KEYWORDS.contains(&word) => Kind::Keyword,
            _ => Kind::Identifier,
        };
        self.push(kind, length);
        Ok(())
    }

    /// A name must end where something else can begin.
    fn ends_at(&self, length: usize) -> Result<(), TemplateError> {
        let after = &self.rest()[length..];
        match after.chars().next() {
            None | Some('.' | ',' | '|' | ':' | ')' | '(') => Ok(()),
            Some(c) if blank(c) => Ok(()),
            _ if after.starts_with("}}") => Ok(()),
            Some(c) => refuse(format!("bad character {}", shown(c))),
        }
    }

    fn number(&mut self) -> Result<(), TemplateError> {
        let rest = self.rest().as_bytes();
        let digit = |i: usize, set: &[u8]| rest.get(i).is_some_and(|b| set.contains(&b.to_ascii_lowercase()));
        let mut i = usize::from(matches!(rest.first(), Some(b'+' | b'-')));
        let mut digits: &[u8] = b"0123456789_";
        if rest.get(i) == Some(&b'0') {
            digits = match rest.get(i + 1).map(u8::to_ascii_lowercase) {
                Some(b'x') => b"0123456789abcdef_",
                Some(b'o') => b"01234567_",
                Some(b'b') => b"01_",
                _ => digits,
            };
            if digits.len() != 11 {
                i += 2;
            }
        }
        while digit(i, digits) {
            i += 1;
        }
        if rest.get(i) == Some(&b'.') {
            i += 1;
            while digit(i, digits) {
                i += 1;
            }
        }
        let exponent: &[u8] = if digits.len() == 11 { b"e" } else { b"p" };
        if digits.len() != 9 && digits.len() != 3 && digit(i, exponent) {
            i += 1;
            if digit(i, b"+-") {
                i += 1;
            }
            while digit(i, b"0123456789_") {
                i += 1;
            }
        }
        let beyond = self.rest()[i..]
            .chars()
            .next()
            .filter(|c| letter(*c) || c.is_ascii_digit());
        if let Some(c) = beyond {
            let text = &self.rest()[..i + c.len_utf8()];
            return refuse(format!("bad number syntax: {}", api::go::quote(text)));
        }
        self.push(Kind::Number, i);
        Ok(())
    }
}

fn marks_left(text: &str) -> bool {
    text.strip_prefix('-').is_some_and(|rest| rest.starts_with(blank))
}

fn blank(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\r' | '\n')
}

fn letter(c: char) -> bool {
    c == '_' || c.is_alphabetic()
}

fn word_length(text: &str) -> usize {
    text.find(|c: char| !(c == '_' || c.is_alphanumeric()))
        .unwrap_or(text.len())
}

/// `%#U`
fn shown(c: char) -> String {
    format!("U+{:04X} '{c}'", u32::from(c))
}
