//! Numbers, strings and bytes as they are written.

use super::lexer::{Lexeme, Token};
use super::unescape::unescape;
use super::{Kind, Literal, Parser};
use crate::ast::Expr;

impl Parser {
    /// A literal that begins with the token; a sign stands before it at `start`.
    pub(super) fn constant(&mut self, lexeme: Lexeme, negative: bool, start: u32) -> Expr {
        let text = self.text(lexeme);
        let literal = match lexeme.token {
            Token::True => Ok(Literal::Bool(true)),
            Token::False => Ok(Literal::Bool(false)),
            Token::Null => Ok(Literal::Null),
            Token::Int => int(&text, negative).ok_or("invalid int literal"),
            Token::Uint => uint(&text).ok_or("invalid uint literal"),
            Token::Double => double(&text, negative).ok_or("invalid double literal"),
            Token::Bytes => unescape(&text[1..], true).map(|bytes| Literal::Bytes(bytes.into())),
            _ => unescape(&text, false).map(|bytes| {
                let text = String::from_utf8_lossy(&bytes);
                Literal::String(text.into())
            }),
        };
        match literal {
            Ok(literal) => self.new_expr(start, Kind::Literal(literal)),
            Err(why) => {
                let message = why.to_owned();
                self.refuse(start, message)
            }
        }
    }
}

fn int(text: &str, negative: bool) -> Option<Literal> {
    let magnitude = match text.strip_prefix("0x") {
        Some(hex) => u64::from_str_radix(hex, 16),
        None => text.parse(),
    };
    let magnitude = i128::from(magnitude.ok()?);
    let signed = if negative { -magnitude } else { magnitude };
    i64::try_from(signed).ok().map(Literal::Int)
}

fn uint(text: &str) -> Option<Literal> {
    let digits = &text[..text.len() - 1];
    let value = match digits.strip_prefix("0x") {
        Some(hex) => u64::from_str_radix(hex, 16),
        None => digits.parse(),
    };
    value.ok().map(Literal::Uint)
}

fn double(text: &str, negative: bool) -> Option<Literal> {
    let value: f64 = text.parse().ok()?;
    let signed = if negative { -value } else { value };
    signed.is_finite().then_some(Literal::Double(signed))
}
