//! The parser: recursive descent, bounded in depth, with upstream's recovery so that one text gives the same errors.
//! Grammar: <https://github.com/google/cel-spec/blob/master/doc/langdef.md#syntax>.

mod fold_macros;
mod lexer;
mod literal;
mod macros;
mod operand;
mod recovery;
mod unescape;

use std::sync::Arc;

use self::lexer::{Lexeme, Token};
pub(crate) use self::macros::ACCUMULATOR;
use crate::ast::{Ast, Call, Expr, Id, Kind, Literal};
use crate::source::{Issues, Source};

/// Code points an expression may have.
const MAX_SIZE: usize = 100_000;
/// How deep brackets, and how deep operations, may nest.
const MAX_DEPTH: u32 = 250;

/// The parts of the syntax that depend on the version of Kubernetes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Syntax {
    /// `a.?b`, `a[?b]`, `[?a]`, `{?a: b}`, `optMap` and `optFlatMap`.
    pub optional: bool,
    /// `all(i, v, ...)`, `transformList` and their like.
    pub two_variables: bool,
    /// `sortBy`.
    pub sort_by: bool,
    /// `cel.bind(name, value, inside)`.
    pub bindings: bool,
}

/// Parses a text.
///
/// # Errors
/// Everything that is wrong with its syntax and the use of macros.
pub(crate) fn parse(text: &str, syntax: Syntax) -> Result<Ast, Issues> {
    let source = Source::new(text);
    let size = source.chars.len();
    let (tokens, bad) = lexer::tokens(&source.chars);
    let mut parser = Parser {
        tokens,
        at: 0,
        issues: Issues::new(source),
        offsets: vec![0],
        syntax,
        depth: 0,
        enclosing: Vec::new(),
        recovering: false,
        recoveries: 0,
        last_error: None,
        too_deep: false,
    };
    if size > MAX_SIZE {
        let message = format!("expression code point size exceeds limit: size: {size}, limit {MAX_SIZE}");
        parser.issues.nowhere(message);
        return Err(parser.issues);
    }
    for bad in bad {
        let text = recovery::shown(&parser.issues.source()[bad.start as usize..bad.end as usize]);
        let message = format!("Syntax error: token recognition error at: '{text}'");
        parser.issues.at(bad.start, message);
    }
    let expr = parser.start();
    if parser.too_deep {
        parser.issues.nowhere("max recursion depth exceeded".into());
    }
    match expr {
        Ok(expr) if parser.issues.is_empty() => Ok(Ast {
            expr,
            offsets: parser.offsets,
        }),
        _ => Err(parser.issues),
    }
}

/// The parser gave up; why has been reported.
struct GaveUp;

type Parsed<T> = Result<T, GaveUp>;

/// What the parser stands in, by which it knows what may follow an operand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Enclosing {
    Whole,
    Parens,
    Arguments,
    List,
    Index,
    Key,
    Value,
    /// Between `?` and `:`.
    Choice,
}

/// An expression, and how deep operations nest in it.
struct Built {
    expr: Expr,
    height: u32,
}

pub(crate) struct Parser {
    tokens: Vec<Lexeme>,
    at: usize,
    pub(crate) issues: Issues,
    offsets: Vec<u32>,
    syntax: Syntax,
    depth: u32,
    enclosing: Vec<Enclosing>,
    /// No errors are reported between one and the next token that fits.
    recovering: bool,
    recoveries: usize,
    last_error: Option<usize>,
    too_deep: bool,
}

impl Parser {
    fn start(&mut self) -> Parsed<Expr> {
        let built = self.expr(Enclosing::Whole)?;
        self.expect(Token::End)?;
        Ok(built.expr)
    }

    fn peek(&self) -> Token {
        self.ahead(0)
    }

    fn ahead(&self, n: usize) -> Token {
        self.lexeme(n).token
    }

    fn lexeme(&self, n: usize) -> Lexeme {
        self.tokens[(self.at + n).min(self.tokens.len() - 1)]
    }

    /// Takes the token that stands here, which ends a recovery.
    fn take(&mut self) -> Lexeme {
        let lexeme = self.lexeme(0);
        self.at = (self.at + 1).min(self.tokens.len() - 1);
        self.recovering = false;
        lexeme
    }

    fn text(&self, lexeme: Lexeme) -> String {
        self.issues.source()[lexeme.start as usize..lexeme.end as usize]
            .iter()
            .collect()
    }

    pub(crate) fn new_id(&mut self, offset: u32) -> Id {
        self.offsets.push(offset);
        self.offsets.len() as Id - 1
    }

    pub(crate) fn new_expr(&mut self, offset: u32, kind: Kind) -> Expr {
        Expr {
            id: self.new_id(offset),
            kind,
        }
    }

    pub(crate) fn offset_of(&self, id: Id) -> u32 {
        self.offsets[id as usize]
    }

    pub(crate) fn call(&mut self, offset: u32, function: &str, args: Vec<Expr>) -> Expr {
        let call = Call {
            function: function.into(),
            target: None,
            args,
        };
        self.new_expr(offset, Kind::Call(Box::new(call)))
    }

    pub(crate) fn literal(&mut self, offset: u32, literal: Literal) -> Expr {
        self.new_expr(offset, Kind::Literal(literal))
    }

    /// Reports an error of meaning, for which a node of no kind stands.
    pub(crate) fn refuse(&mut self, offset: u32, message: String) -> Expr {
        self.issues.at(offset, message);
        self.new_expr(offset, Kind::Unspecified)
    }

    /// An operation over parts of which the deepest has a height.
    fn operation(&mut self, expr: Expr, below: u32) -> Built {
        let height = below + 1;
        if height > MAX_DEPTH {
            self.too_deep = true;
            let id = expr.id;
            return Built {
                expr: Expr::unspecified(id),
                height: 0,
            };
        }
        Built { expr, height }
    }

    fn expr(&mut self, enclosing: Enclosing) -> Parsed<Built> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            let message = format!("expression recursion limit exceeded: {MAX_DEPTH}");
            self.issues.nowhere(message);
            return Err(GaveUp);
        }
        self.enclosing.push(enclosing);
        let built = self.choice();
        self.enclosing.pop();
        self.depth -= 1;
        built
    }

    /// `a ? b : c`, or what may stand for `a`.
    fn choice(&mut self) -> Parsed<Built> {
        let condition = self.binary(1)?;
        if self.peek() != Token::Question {
            return Ok(condition);
        }
        let offset = self.take().start;
        self.enclosing.push(Enclosing::Choice);
        let yes = self.binary(1);
        self.enclosing.pop();
        let yes = yes?;
        self.expect_colon()?;
        let enclosing = self.enclosing.last().copied().unwrap_or(Enclosing::Whole);
        let no = self.expr(enclosing)?;
        let below = condition.height.max(yes.height).max(no.height);
        let call = self.call(offset, "_?_:_", vec![condition.expr, yes.expr, no.expr]);
        Ok(self.operation(call, below))
    }

    /// Operators that bind at least as tightly as `least`, over operands.
    fn binary(&mut self, least: u8) -> Parsed<Built> {
        let mut left = self.unary()?;
        loop {
            let Some((tightness, function)) = operator(self.peek()).filter(|(t, _)| *t >= least) else {
                return Ok(left);
            };
            left = if tightness < 3 {
                self.logical(left, tightness, function)?
            } else {
                let offset = self.take().start;
                let right = self.binary(tightness + 1)?;
                let below = left.height.max(right.height);
                let call = self.call(offset, function, vec![left.expr, right.expr]);
                self.operation(call, below)
            };
        }
    }

    /// `a && b && c`: a balanced tree, so that the order of evaluation is upstream's.
    fn logical(&mut self, first: Built, tightness: u8, function: &str) -> Parsed<Built> {
        let operator = self.peek();
        let mut height = first.height;
        let mut terms = vec![Some(first.expr)];
        let mut offsets = Vec::new();
        while self.peek() == operator {
            offsets.push(self.take().start);
            let term = self.binary(tightness + 1)?;
            height = height.max(term.height);
            terms.push(Some(term.expr));
        }
        let expr = self.balanced(function, &mut terms, &offsets, 0, offsets.len() - 1);
        Ok(Built { expr, height })
    }

    fn balanced(
        &mut self,
        function: &str,
        terms: &mut [Option<Expr>],
        offsets: &[u32],
        low: usize,
        high: usize,
    ) -> Expr {
        let middle = (low + high).div_ceil(2);
        let mut side = |parser: &mut Parser, term: usize, leaf: bool, range: (usize, usize)| {
            if leaf {
                let offset = offsets[middle];
                let taken = terms[term].take();
                taken.unwrap_or_else(|| parser.new_expr(offset, Kind::Unspecified))
            } else {
                parser.balanced(function, terms, offsets, range.0, range.1)
            }
        };
        let left = side(self, middle, middle == low, (low, middle.saturating_sub(1)));
        let right = side(self, middle + 1, middle == high, (middle + 1, high));
        self.call(offsets[middle], function, vec![left, right])
    }

    /// Repeated `!` or `-` before an operand.
    fn unary(&mut self) -> Parsed<Built> {
        let sign = self.peek();
        let function = match sign {
            Token::Exclam => "!_",
            Token::Minus if !matches!(self.ahead(1), Token::Int | Token::Double) => "-_",
            _ => return self.member(),
        };
        let offset = self.lexeme(0).start;
        let mut odd = false;
        // the last sign before a number belongs to it only when it is the only one
        while self.peek() == sign {
            self.take();
            odd = !odd;
        }
        let operand = self.member()?;
        if !odd {
            return Ok(operand);
        }
        let expr = self.call(offset, function, vec![operand.expr]);
        Ok(Built {
            expr,
            height: operand.height,
        })
    }

    fn ident(&mut self, offset: u32, name: Arc<str>) -> Expr {
        self.new_expr(offset, Kind::Ident(name))
    }
}

/// How tightly an operator binds, and the function that it calls.
fn operator(token: Token) -> Option<(u8, &'static str)> {
    Some(match token {
        Token::Or => (1, "_||_"),
        Token::And => (2, "_&&_"),
        Token::Less => (3, "_<_"),
        Token::LessEquals => (3, "_<=_"),
        Token::Greater => (3, "_>_"),
        Token::GreaterEquals => (3, "_>=_"),
        Token::Equals => (3, "_==_"),
        Token::NotEquals => (3, "_!=_"),
        Token::In => (3, "@in"),
        Token::Plus => (4, "_+_"),
        Token::Minus => (4, "_-_"),
        Token::Star => (5, "_*_"),
        Token::Slash => (5, "_/_"),
        Token::Percent => (5, "_%_"),
        _ => return None,
    })
}

#[cfg(test)]
mod tests;
