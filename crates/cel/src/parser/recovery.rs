//! What the parser does with a token that does not fit: the token is left out, or the missing one is thought there, or tokens are
//! left out up to one that some enclosing construct can go on with. That is how upstream's parser generator does it, so that the
//! errors of a text are the same.

use super::lexer::Token;
use super::{Enclosing, GaveUp, Parsed, Parser, operator};

/// How often the parser may recover, and how many tokens it may leave out at once.
const MAX_RECOVERIES: usize = 30;
const MAX_LEFT_OUT: usize = 256;

/// The tokens that an operand may begin with.
pub(super) const OPERAND: [Token; 15] = [
    Token::OpenBracket,
    Token::OpenBrace,
    Token::OpenParen,
    Token::Dot,
    Token::Minus,
    Token::Exclam,
    Token::True,
    Token::False,
    Token::Null,
    Token::Double,
    Token::Int,
    Token::Uint,
    Token::String,
    Token::Bytes,
    Token::Ident,
];

/// Text in messages, with its line breaks written out.
pub(super) fn shown(chars: &[char]) -> String {
    let text: String = chars.iter().collect();
    text.replace('\t', "\\t").replace('\n', "\\n").replace('\r', "\\r")
}

impl Parser {
    fn token_shown(&self) -> String {
        let lexeme = self.lexeme(0);
        match lexeme.token {
            Token::End => "'<EOF>'".into(),
            _ => format!(
                "'{}'",
                shown(&self.issues.source()[lexeme.start as usize..lexeme.end as usize])
            ),
        }
    }

    pub(super) fn syntax_error(&mut self, message: &str) {
        if self.recovering {
            return;
        }
        self.recovering = true;
        let at = self.lexeme(0).start;
        self.issues.at(at, format!("Syntax error: {message}"));
    }

    /// Takes a token that must stand here.
    pub(super) fn expect(&mut self, token: Token) -> Parsed<()> {
        self.expect_in(token, true)
    }

    /// Takes the colon of a choice, which is no part of an operand: nothing that follows operands goes on after it, but for those around.
    pub(super) fn expect_colon(&mut self) -> Parsed<()> {
        let outside = |e: &Enclosing| matches!(e, Enclosing::Whole | Enclosing::Choice);
        let in_operand = !self.enclosing.iter().all(outside);
        self.expect_in(Token::Colon, in_operand)
    }

    fn expect_in(&mut self, token: Token, in_operand: bool) -> Parsed<()> {
        if self.peek() == token {
            self.take();
            return Ok(());
        }
        self.attempt()?;
        let found = self.token_shown();
        if self.ahead(1) == token && self.peek() != Token::End {
            self.syntax_error(&format!("extraneous input {found} expecting {}", token.name()));
            self.at += 1;
            self.take();
            return Ok(());
        }
        if token != Token::End && self.fits_after(token) {
            self.syntax_error(&format!("missing {} at {found}", token.name()));
            return Ok(());
        }
        self.syntax_error(&format!("mismatched input {found} expecting {}", token.name()));
        self.leave_out_in(in_operand)
    }

    /// Whether the token that stands here could follow one that is missing.
    fn fits_after(&self, missing: Token) -> bool {
        let here = self.peek();
        match missing {
            Token::CloseParen | Token::CloseBracket | Token::CloseBrace => self.may_follow_operand(here),
            Token::Colon => OPERAND.contains(&here),
            _ => false,
        }
    }

    fn may_follow_operand(&self, token: Token) -> bool {
        let enclosing = self.enclosing.last().copied().unwrap_or(Enclosing::Whole);
        operator(token).is_some()
            || matches!(token, Token::Dot | Token::OpenBracket)
            || (token == Token::Question && enclosing != Enclosing::Choice)
            || follow(enclosing).contains(&token)
    }

    /// Reports a token where one of some is expected, and recovers; true if leaving the token out mends it.
    pub(super) fn unexpected(&mut self, also: &[Token]) -> Parsed<bool> {
        let mut expected: Vec<Token> = OPERAND.iter().chain(also).copied().collect();
        self.unexpected_among(&mut expected)
    }

    pub(super) fn unexpected_among(&mut self, expected: &mut [Token]) -> Parsed<bool> {
        expected.sort_unstable();
        let names: Vec<&str> = expected.iter().map(|t| t.name()).collect();
        let names = match &names[..] {
            [one] => (*one).to_owned(),
            _ => format!("{{{}}}", names.join(", ")),
        };
        let found = self.token_shown();
        if self.peek() != Token::End && expected.contains(&self.ahead(1)) {
            self.syntax_error(&format!("extraneous input {found} expecting {names}"));
            self.at += 1;
            self.recovering = false;
            return Ok(true);
        }
        self.syntax_error(&format!("mismatched input {found} expecting {names}"));
        self.attempt()?;
        self.leave_out()?;
        Ok(false)
    }

    /// Reports that nothing fits the tokens from here to the one `tokens` further on.
    pub(super) fn no_alternative(&mut self, tokens: usize) -> Parsed<()> {
        let (first, last) = (self.lexeme(0), self.lexeme(tokens));
        let end = if last.token == Token::End {
            self.lexeme(tokens - 1).end
        } else {
            last.end
        };
        let input = shown(&self.issues.source()[first.start as usize..end as usize]);
        let message = match input.strip_prefix('.') {
            Some(word @ ("true" | "false" | "null")) => format!("mismatched input '{word}' expecting IDENTIFIER"),
            _ => format!("no viable alternative at input '{input}'"),
        };
        if !self.recovering {
            self.recovering = true;
            self.issues.at(last.start, format!("Syntax error: {message}"));
        }
        self.attempt()?;
        self.leave_out()
    }

    fn attempt(&mut self) -> Parsed<()> {
        if self.recoveries == MAX_RECOVERIES {
            let at = self.lexeme(0).start;
            let message = format!("Syntax error: error recovery attempt limit exceeded: {MAX_RECOVERIES}");
            self.issues.at(at, message);
            return Err(GaveUp);
        }
        self.recoveries += 1;
        Ok(())
    }

    /// Leaves tokens out up to one that something around can go on with.
    fn leave_out(&mut self) -> Parsed<()> {
        self.leave_out_in(true)
    }

    fn leave_out_in(&mut self, in_operand: bool) -> Parsed<()> {
        if self.last_error == Some(self.at) && self.peek() != Token::End {
            self.at += 1;
        }
        self.last_error = Some(self.at);
        let mut left_out = 0;
        while !self.goes_on(self.peek(), in_operand) {
            left_out += 1;
            if left_out > MAX_LEFT_OUT {
                let message = format!("error recovery token lookahead limit exceeded: {MAX_LEFT_OUT}");
                self.issues.nowhere(message);
                return Err(GaveUp);
            }
            self.at += 1;
        }
        Ok(())
    }

    fn goes_on(&self, token: Token, in_operand: bool) -> bool {
        let after_operand =
            || operator(token).is_some() || matches!(token, Token::Dot | Token::OpenBracket | Token::Question);
        token == Token::End
            || in_operand && after_operand()
            || self.enclosing.iter().any(|e| follow(*e).contains(&token))
    }
}

/// The tokens after an expression in a construct.
fn follow(enclosing: Enclosing) -> &'static [Token] {
    match enclosing {
        Enclosing::Whole => &[Token::End],
        Enclosing::Parens => &[Token::CloseParen],
        Enclosing::Arguments => &[Token::Comma, Token::CloseParen],
        Enclosing::List => &[Token::Comma, Token::CloseBracket],
        Enclosing::Index => &[Token::CloseBracket],
        Enclosing::Key | Enclosing::Choice => &[Token::Colon],
        Enclosing::Value => &[Token::Comma, Token::CloseBrace],
    }
}
