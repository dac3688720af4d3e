//! Operands: what stands between operators, and the selections, calls and indexes after it.

use std::sync::Arc;

use super::lexer::Token;
use super::recovery::OPERAND;
use super::{Built, Enclosing, Kind, Literal, Parsed, Parser};
use crate::ast::{Call, Entry, Expr, Field, Select};

/// Names that no variable may have, though fields may.
const RESERVED: [&str; 21] = [
    "as",
    "break",
    "const",
    "continue",
    "else",
    "false",
    "for",
    "function",
    "if",
    "import",
    "in",
    "let",
    "loop",
    "package",
    "namespace",
    "null",
    "return",
    "true",
    "var",
    "void",
    "while",
];

impl Parser {
    /// An operand and what is selected of it.
    pub(super) fn member(&mut self) -> Parsed<Built> {
        let mut built = self.primary()?;
        loop {
            built = match self.peek() {
                Token::Dot => self.selection(built)?,
                Token::OpenBracket => self.index(built)?,
                _ => return Ok(built),
            };
        }
    }

    fn selection(&mut self, operand: Built) -> Parsed<Built> {
        let optional = self.ahead(1) == Token::Question;
        let name = 1 + usize::from(optional);
        if !matches!(self.ahead(name), Token::Ident | Token::EscapedIdent) {
            if optional {
                self.take();
                self.take();
                self.unexpected_among(&mut [Token::Ident, Token::EscapedIdent])?;
                return Ok(operand);
            }
            self.no_alternative(1)?;
            return Ok(operand);
        }
        let dot = self.take().start;
        if optional {
            self.take();
        }
        let lexeme = self.take();
        let text = self.text(lexeme);
        let field = match lexeme.token {
            Token::EscapedIdent => text.trim_matches('`').to_owned(),
            _ => text,
        };
        if optional {
            if !self.syntax.optional {
                let expr = self.refuse(dot, "unsupported syntax '.?'".into());
                return Ok(Built {
                    expr,
                    height: operand.height,
                });
            }
            let name = self.literal(lexeme.start, Literal::String(field.into()));
            let call = self.call(dot, "_?._", vec![operand.expr, name]);
            return Ok(self.operation(call, operand.height));
        }
        if self.peek() == Token::OpenParen && lexeme.token == Token::Ident {
            let open = self.take().start;
            let (args, height) = self.arguments()?;
            let expr = self.method(open, field, operand.expr, args);
            return Ok(self.operation(expr, operand.height.max(height)));
        }
        let select = Select {
            operand: operand.expr,
            field: field.into(),
            test_only: false,
        };
        let expr = self.new_expr(dot, Kind::Select(Box::new(select)));
        Ok(self.operation(expr, operand.height))
    }

    fn method(&mut self, open: u32, function: String, target: Expr, args: Vec<Expr>) -> Expr {
        match self.expand(open, &function, Some(target), args) {
            Ok(expanded) => expanded,
            Err((target, args)) => {
                let call = Call {
                    function: function.into(),
                    target,
                    args,
                };
                self.new_expr(open, Kind::Call(Box::new(call)))
            }
        }
    }

    /// Arguments and the closing parenthesis; the opening one has been taken.
    fn arguments(&mut self) -> Parsed<(Vec<Expr>, u32)> {
        let mut args = Vec::new();
        let mut height = 0;
        if self.peek() == Token::CloseParen {
            self.take();
            return Ok((args, 0));
        }
        if !OPERAND.contains(&self.peek()) {
            self.enclosing.push(Enclosing::Arguments);
            let mended = self.unexpected(&[Token::CloseParen]);
            self.enclosing.pop();
            if !mended? || self.peek() == Token::CloseParen {
                self.expect(Token::CloseParen)?;
                return Ok((args, 0));
            }
        }
        loop {
            let arg = self.expr(Enclosing::Arguments)?;
            height = height.max(arg.height);
            args.push(arg.expr);
            if self.peek() != Token::Comma {
                break;
            }
            self.take();
        }
        self.expect(Token::CloseParen)?;
        Ok((args, height))
    }

    fn index(&mut self, operand: Built) -> Parsed<Built> {
        let open = self.take().start;
        let optional = self.peek() == Token::Question;
        if optional {
            self.take();
        }
        let index = self.expr(Enclosing::Index)?;
        self.expect(Token::CloseBracket)?;
        let below = operand.height.max(index.height);
        if optional && !self.syntax.optional {
            let expr = self.refuse(open, "unsupported syntax '[?'".into());
            return Ok(Built { expr, height: below });
        }
        let function = if optional { "_[?_]" } else { "_[_]" };
        let call = self.call(open, function, vec![operand.expr, index.expr]);
        Ok(self.operation(call, below))
    }

    fn primary(&mut self) -> Parsed<Built> {
        let lexeme = self.lexeme(0);
        let leaf = |expr| Ok(Built { expr, height: 0 });
        match lexeme.token {
            Token::Dot | Token::Ident => self.named(),
            Token::OpenParen => {
                self.take();
                let inside = self.expr(Enclosing::Parens)?;
                self.expect(Token::CloseParen)?;
                Ok(inside)
            }
            Token::OpenBracket => self.list(),
            Token::OpenBrace => self.map(),
            Token::Minus if matches!(self.ahead(1), Token::Int | Token::Double) => {
                self.take();
                let number = self.take();
                leaf(self.constant(number, true, lexeme.start))
            }
            Token::True
            | Token::False
            | Token::Null
            | Token::Int
            | Token::Uint
            | Token::Double
            | Token::String
            | Token::Bytes => {
                self.take();
                leaf(self.constant(lexeme, false, lexeme.start))
            }
            _ => {
                if self.unexpected(&[])? {
                    // the signs of the operand that was found
                    return self.unary();
                }
                leaf(self.new_expr(lexeme.start, Kind::Unspecified))
            }
        }
    }

    /// A variable, a call of a function, or an object.
    fn named(&mut self) -> Parsed<Built> {
        let start = self.lexeme(0).start;
        let leading = self.peek() == Token::Dot;
        if leading && self.ahead(1) != Token::Ident {
            self.no_alternative(1)?;
            let expr = self.new_expr(start, Kind::Unspecified);
            return Ok(Built { expr, height: 0 });
        }
        let mut end = usize::from(leading) + 1;
        while self.ahead(end) == Token::Dot && self.ahead(end + 1) == Token::Ident {
            end += 2;
        }
        if self.ahead(end) == Token::OpenBrace {
            return self.object(end);
        }
        if leading {
            self.take();
        }
        let lexeme = self.take();
        let word = self.text(lexeme);
        let reserved = RESERVED.contains(&word.as_str());
        let name = if leading { format!(".{word}") } else { word.clone() };
        if self.peek() != Token::OpenParen {
            let expr = if reserved {
                self.refuse(start, format!("reserved identifier: {word}"))
            } else {
                self.ident(lexeme.start, name.into())
            };
            return Ok(Built { expr, height: 0 });
        }
        let open = self.take().start;
        let (args, height) = self.arguments()?;
        if reserved {
            let expr = self.refuse(start, format!("reserved identifier: {word}"));
            return Ok(Built { expr, height });
        }
        let expr = match self.expand(open, &name, None, args) {
            Ok(expanded) => expanded,
            Err((_, args)) => self.call(open, &name, args),
        };
        Ok(Built { expr, height })
    }

    fn list(&mut self) -> Parsed<Built> {
        let open = self.take().start;
        let (mut elements, mut optional, mut height) = (Vec::new(), Vec::new(), 0);
        if !OPERAND.contains(&self.peek())
            && !matches!(self.peek(), Token::Question | Token::Comma | Token::CloseBracket)
        {
            self.enclosing.push(Enclosing::List);
            let mended = self.unexpected(&[Token::Question, Token::Comma, Token::CloseBracket]);
            self.enclosing.pop();
            if !mended? {
                self.expect(Token::CloseBracket)?;
            }
        }
        while !matches!(self.peek(), Token::Comma | Token::CloseBracket) {
            if self.peek() == Token::Question {
                let mark = self.take().start;
                if self.syntax.optional {
                    optional.push(elements.len());
                } else {
                    self.issues.at(mark, "unsupported syntax '?'".into());
                }
            }
            let element = self.expr(Enclosing::List)?;
            height = height.max(element.height);
            elements.push(element.expr);
            if !self.another(Enclosing::List, Token::CloseBracket)? {
                break;
            }
        }
        if self.peek() == Token::Comma {
            self.take();
        }
        self.expect(Token::CloseBracket)?;
        let expr = self.new_expr(open, Kind::List { elements, optional });
        Ok(Built { expr, height })
    }

    /// Whether a comma with another entry after it stands here; if so takes the comma.
    fn another(&mut self, enclosing: Enclosing, close: Token) -> Parsed<bool> {
        if self.peek() != Token::Comma {
            return Ok(false);
        }
        let next = self.ahead(1);
        if next == close {
            return Ok(false);
        }
        let field = enclosing == Enclosing::Value && next == Token::EscapedIdent;
        if OPERAND.contains(&next) || next == Token::Question || field {
            self.take();
            return Ok(true);
        }
        self.enclosing.push(enclosing);
        let gave_up = self.no_alternative(1);
        self.enclosing.pop();
        gave_up?;
        Ok(false)
    }

    fn map(&mut self) -> Parsed<Built> {
        let open = self.take().start;
        let (mut entries, mut height) = (Vec::new(), 0);
        if !OPERAND.contains(&self.peek()) && !matches!(self.peek(), Token::Question | Token::Comma | Token::CloseBrace)
        {
            self.enclosing.push(Enclosing::Value);
            let mended = self.unexpected(&[Token::Question, Token::Comma, Token::CloseBrace]);
            self.enclosing.pop();
            if !mended? {
                self.expect(Token::CloseBrace)?;
            }
        }
        while !matches!(self.peek(), Token::Comma | Token::CloseBrace) {
            let optional = self.optional_mark();
            let key = self.expr(Enclosing::Key)?;
            let colon = self.lexeme(0).start;
            self.expect(Token::Colon)?;
            let value = self.expr(Enclosing::Value)?;
            height = height.max(key.height).max(value.height);
            entries.push(Entry {
                id: self.new_id(colon),
                key: key.expr,
                value: value.expr,
                optional,
            });
            if !self.another(Enclosing::Value, Token::CloseBrace)? {
                break;
            }
        }
        if self.peek() == Token::Comma {
            self.take();
        }
        self.expect(Token::CloseBrace)?;
        let expr = self.new_expr(open, Kind::Map(entries));
        Ok(Built { expr, height })
    }

    fn optional_mark(&mut self) -> bool {
        if self.peek() != Token::Question {
            return false;
        }
        let mark = self.take().start;
        if !self.syntax.optional {
            self.issues.at(mark, "unsupported syntax '?'".into());
        }
        true
    }

    /// `a.b.Type{field: value}`; the brace is `brace` tokens further on.
    fn object(&mut self, brace: usize) -> Parsed<Built> {
        let mut name = String::new();
        for _ in 0..brace {
            let lexeme = self.take();
            name.push_str(&self.text(lexeme));
        }
        let open = self.take().start;
        let (mut fields, mut height) = (Vec::new(), 0);
        let may_begin = [
            Token::CloseBrace,
            Token::Comma,
            Token::Question,
            Token::Ident,
            Token::EscapedIdent,
        ];
        if !may_begin.contains(&self.peek()) {
            self.enclosing.push(Enclosing::Value);
            let mended = self.unexpected_among(&mut may_begin.clone());
            self.enclosing.pop();
            if !mended? {
                self.expect(Token::CloseBrace)?;
            }
        }
        while !matches!(self.peek(), Token::Comma | Token::CloseBrace) {
            let optional = self.optional_mark();
            if !matches!(self.peek(), Token::Ident | Token::EscapedIdent) {
                self.unexpected_among(&mut [Token::Ident, Token::EscapedIdent])?;
                break;
            }
            let lexeme = self.take();
            let field: Arc<str> = self.text(lexeme).trim_matches('`').into();
            let colon = self.lexeme(0).start;
            self.expect(Token::Colon)?;
            let value = self.expr(Enclosing::Value)?;
            height = height.max(value.height);
            fields.push(Field {
                id: self.new_id(colon),
                name: field,
                value: value.expr,
                optional,
            });
            if !self.another(Enclosing::Value, Token::CloseBrace)? {
                break;
            }
        }
        if self.peek() == Token::Comma {
            self.take();
        }
        self.expect(Token::CloseBrace)?;
        let kind = Kind::Struct {
            name: name.into(),
            fields,
        };
        let expr = self.new_expr(open, kind);
        Ok(Built { expr, height })
    }
}
