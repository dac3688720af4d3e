//! The text of an expression, and what is wrong with it: issues with places, shown as `cel-go` shows them.

use std::fmt;

/// How many issues are shown; the rest is counted.
const MAX_ISSUES: usize = 100;
/// Bytes of a line beyond which it is not shown.
const MAX_SNIPPET: usize = 16_384;

/// An expression's text by code points and lines.
#[derive(Debug, Clone)]
pub(crate) struct Source {
    pub chars: Vec<char>,
    /// Where each line begins.
    lines: Vec<u32>,
}

impl Source {
    /// A text with its lines.
    pub fn new(text: &str) -> Source {
        let chars: Vec<char> = text.chars().collect();
        let mut lines = vec![0];
        for (at, c) in chars.iter().enumerate() {
            if *c == '\n' {
                lines.push(at as u32 + 1);
            }
        }
        Source { chars, lines }
    }

    /// The line, from 1, and the column, from 0.
    pub fn location(&self, offset: u32) -> (u32, u32) {
        let line = self.lines.partition_point(|start| *start <= offset);
        (line as u32, offset - self.lines[line - 1])
    }

    fn line(&self, number: u32) -> Option<String> {
        let start = *self.lines.get(number.checked_sub(1)? as usize)?;
        let rest = self.chars.get(start as usize..)?;
        Some(rest.iter().take_while(|c| **c != '\n').collect())
    }
}

/// One thing that is wrong with an expression.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Issue {
    /// The line, from 1, and the column, from 0; `None` for what concerns the whole.
    pub location: Option<(u32, u32)>,
    /// What is wrong, in the words of `cel-go`.
    pub message: String,
}

/// What is wrong with an expression; its text is what `cel-go` reports.
#[derive(Debug, Clone, Default)]
pub struct Issues {
    issues: Vec<Issue>,
    counted: usize,
    shown: Option<Box<Source>>,
}

impl Issues {
    pub(crate) fn new(source: Source) -> Issues {
        Issues {
            issues: Vec::new(),
            counted: 0,
            shown: Some(Box::new(source)),
        }
    }

    pub(crate) fn at(&mut self, offset: u32, message: String) {
        let location = self.shown.as_ref().map(|source| source.location(offset));
        self.push(Issue { location, message });
    }

    pub(crate) fn nowhere(&mut self, message: String) {
        self.push(Issue {
            location: None,
            message,
        });
    }

    fn push(&mut self, issue: Issue) {
        self.counted += 1;
        if self.issues.len() < MAX_ISSUES {
            self.issues.push(issue);
        }
    }

    pub(crate) fn source(&self) -> &[char] {
        self.shown.as_ref().map_or(&[], |source| &source.chars)
    }

    /// Whether nothing is wrong.
    pub fn is_empty(&self) -> bool {
        self.counted == 0
    }

    pub(crate) fn len(&self) -> usize {
        self.counted
    }

    /// The issues in the order they were found; at most a hundred.
    pub fn iter(&self) -> impl Iterator<Item = &Issue> {
        self.issues.iter()
    }

    fn show(&self, issue: &Issue, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some((line, column)) = issue.location else {
            return write!(f, "ERROR: <input>:-1:0: {}", issue.message);
        };
        // in no text there is no place
        if self.source().is_empty() {
            return write!(f, "ERROR: <input>:{line}:0: {}", issue.message);
        }
        write!(f, "ERROR: <input>:{line}:{}: {}", column + 1, issue.message)?;
        let snippet = self.shown.as_ref().and_then(|source| source.line(line));
        let Some(snippet) = snippet.filter(|s| s.len() <= MAX_SNIPPET) else {
            return Ok(());
        };
        write!(f, "\n | {}\n | ", snippet.replace('\t', " "))?;
        let mut rest = snippet.chars();
        for c in rest.by_ref().take(column as usize) {
            f.write_str(if c.is_ascii() { "." } else { "\u{ff0e}" })?;
        }
        let wide = rest.next().is_some_and(|c| !c.is_ascii());
        f.write_str(if wide { "\u{ff3e}" } else { "^" })
    }
}

impl fmt::Display for Issues {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut sorted: Vec<&Issue> = self.issues.iter().collect();
        sorted.sort_by_key(|issue| issue.location.map_or((-1, -1), |(l, c)| (i64::from(l), i64::from(c))));
        for (place, issue) in sorted.into_iter().enumerate() {
            if place > 0 {
                f.write_str("\n")?;
            }
            self.show(issue, f)?;
        }
        match self.counted - self.issues.len() {
            0 => Ok(()),
            more => write!(f, "\n{more} more errors were truncated"),
        }
    }
}

impl std::error::Error for Issues {}
