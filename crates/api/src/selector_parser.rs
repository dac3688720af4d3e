//! The text form of label selectors: `a=b,c!=d,e in (f,g),!h,i,j>1`, read as upstream reads it and refused in its words.

/// Why a text is no selector, in upstream's words.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum SyntaxError {
    #[error("found '{found}', expected: {expected}")]
    Unexpected { found: String, expected: &'static str },
    /// A list of values begins otherwise.
    #[error("found '{0}' expected: '('")]
    NoSet(String),
    #[error("unable to parse requirement: {0}")]
    Requirement(#[source] Box<SyntaxError>),
}

fn unexpected(found: Token<'_>, expected: &'static str) -> SyntaxError {
    SyntaxError::Unexpected {
        found: found.text().to_owned(),
        expected,
    }
}

/// A requirement as it is written.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Written<'a> {
    pub key: &'a str,
    /// `""` for mere presence, `"!"` for absence.
    pub operator: &'a str,
    pub values: Vec<&'a str>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Token<'a> {
    End,
    /// One of `( ) , ! = == != < >`.
    Symbol(&'a str),
    Word(&'a str),
}

impl<'a> Token<'a> {
    fn text(self) -> &'a str {
        match self {
            Token::End => "",
            Token::Symbol(s) | Token::Word(s) => s,
        }
    }
}

fn is_special(c: char) -> bool {
    matches!(c, '=' | '!' | '(' | ')' | ',' | '>' | '<')
}

fn tokens(text: &str) -> Vec<Token<'_>> {
    const SYMBOLS: [&str; 9] = ["==", "!=", "(", ")", ",", "!", "=", ">", "<"];
    let mut out = Vec::new();
    let mut rest = text.trim_start();
    while !rest.is_empty() {
        let length = match SYMBOLS.iter().find(|s| rest.starts_with(**s)) {
            Some(symbol) => {
                out.push(Token::Symbol(&rest[..symbol.len()]));
                symbol.len()
            }
            None => {
                let end = rest
                    .find(|c: char| c.is_whitespace() || is_special(c))
                    .unwrap_or(rest.len());
                out.push(Token::Word(&rest[..end]));
                end
            }
        };
        rest = rest[length..].trim_start();
    }
    out
}

struct Parser<'a> {
    tokens: Vec<Token<'a>>,
    at: usize,
}

impl<'a> Parser<'a> {
    fn look(&self) -> Token<'a> {
        self.tokens.get(self.at).copied().unwrap_or(Token::End)
    }

    fn next(&mut self) -> Token<'a> {
        let token = self.look();
        self.at += 1;
        token
    }

    fn requirement(&mut self) -> Result<Written<'a>, SyntaxError> {
        let mut first = self.next();
        let absent = first == Token::Symbol("!");
        if absent {
            first = self.next();
        }
        let Token::Word(key) = first else {
            return Err(unexpected(first, "identifier"));
        };
        let written = |operator, values| Ok(Written { key, operator, values });
        if absent {
            return written("!", Vec::new());
        }
        if matches!(self.look(), Token::End | Token::Symbol(",")) {
            return written("", Vec::new());
        }
        let operator = match self.next() {
            Token::Symbol(s @ ("=" | "==" | "!=" | "<" | ">")) => s,
            Token::Word(s @ ("in" | "notin")) => s,
            other => {
                return Err(unexpected(other, "in, notin, =, ==, !=, gt, lt"));
            }
        };
        let values = if matches!(operator, "in" | "notin") {
            self.set()?
        } else {
            match self.look() {
                Token::End | Token::Symbol(",") => vec![""],
                _ => match self.next() {
                    Token::Word(value) => vec![value],
                    other => return Err(unexpected(other, "identifier")),
                },
            }
        };
        written(operator, values)
    }

    /// `(a,b)`; nothing between two commas is the empty value.
    fn set(&mut self) -> Result<Vec<&'a str>, SyntaxError> {
        let open = self.next();
        if open != Token::Symbol("(") {
            return Err(SyntaxError::NoSet(open.text().to_owned()));
        }
        let mut values = Vec::new();
        if self.look() == Token::Symbol(")") {
            self.next();
            return Ok(values);
        }
        loop {
            match self.next() {
                Token::Word(value) => {
                    values.push(value);
                    match self.next() {
                        Token::Symbol(",") => {
                            if self.look() == Token::Symbol(")") {
                                values.push("");
                                self.next();
                                return Ok(values);
                            }
                        }
                        Token::Symbol(")") => return Ok(values),
                        other => return Err(unexpected(other, "',' or ')'")),
                    }
                }
                Token::Symbol(",") => {
                    values.push("");
                    if self.look() == Token::Symbol(")") {
                        values.push("");
                        self.next();
                        return Ok(values);
                    }
                }
                other => return Err(unexpected(other, "',', ')' or identifier")),
            }
        }
    }
}

/// Reads a selector's text.
///
/// # Errors
/// What was found and what was expected.
pub(crate) fn parse(text: &str) -> Result<Vec<Written<'_>>, SyntaxError> {
    let mut parser = Parser {
        tokens: tokens(text),
        at: 0,
    };
    let mut out = Vec::new();
    loop {
        match parser.look() {
            Token::End => return Ok(out),
            Token::Word(_) | Token::Symbol("!") => {
                let one = parser
                    .requirement()
                    .map_err(|e| SyntaxError::Requirement(Box::new(e)))?;
                out.push(one);
                match parser.next() {
                    Token::End => return Ok(out),
                    Token::Symbol(",") => {
                        let after = parser.look();
                        if !matches!(after, Token::Word(_) | Token::Symbol("!")) {
                            return Err(unexpected(after, "identifier after ','"));
                        }
                    }
                    other => {
                        return Err(unexpected(other, "',' or 'end of string'"));
                    }
                }
            }
            other => {
                return Err(unexpected(other, "!, identifier, or 'end of string'"));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn selectors_that_cannot_be_read_are_refused_in_upstreams_words() {
        let cases = [
            ("a===b", "unable to parse requirement: found '=', expected: identifier"),
            ("a in b", "unable to parse requirement: found 'b' expected: '('"),
            (
                "a b",
                "unable to parse requirement: found 'b', expected: in, notin, =, ==, !=, gt, lt",
            ),
            ("a,,b", "found ',', expected: identifier after ','"),
            ("a=b c", "found 'c', expected: ',' or 'end of string'"),
            ("=a", "found '=', expected: !, identifier, or 'end of string'"),
            ("a in (b", "unable to parse requirement: found '', expected: ',' or ')'"),
        ];
        for (text, want) in cases {
            assert_eq!(parse(text).unwrap_err().to_string(), want, "{text}");
        }
        let set = parse("a in (b,,c),!d").unwrap();
        assert_eq!(set[0].values, ["b", "", "c"]);
        assert_eq!(set[1].operator, "!");
    }
}
