//! Makes the tree of a template, with the errors of `text/template/parse`.

use std::collections::HashMap;

use super::functions;
use super::lex::{Kind, Token, tokens};
use super::node::{Branch, Command, Node, Number, Operand, Pipeline, Word};

/// Nested parentheses and lists that a template may have: they are read by recursion.
const DEEPEST: usize = 200;

/// The templates of a text by their names; the text's own is `name`.
///
/// # Errors
/// `template: NAME:LINE: ...`
pub fn parse(name: &str, text: &str) -> Result<HashMap<String, Vec<Node>>, String> {
    let mut parser = Parser {
        tokens: tokens(text),
        next: 0,
        variables: vec!["$".to_owned()],
        ranges: 0,
        depth: 0,
        action: 0,
        templates: HashMap::new(),
    };
    let parsed = parser.whole().and_then(|list| parser.add(name, list));
    match parsed {
        Ok(()) => Ok(parser.templates),
        Err(why) => {
            let last = parser.next.saturating_sub(1).min(parser.tokens.len() - 1);
            let line = parser.tokens[last].line;
            Err(format!("template: {name}:{line}: {why}"))
        }
    }
}

struct Parser {
    tokens: Vec<Token>,
    next: usize,
    variables: Vec<String>,
    ranges: usize,
    depth: usize,
    /// The line that the action began on; 0 outside of one.
    action: usize,
    templates: HashMap<String, Vec<Node>>,
}

/// What ends a list.
enum End {
    End,
    Else,
}

/// The error is what stands after the template's name and line.
type Parsed<T> = Result<T, String>;

impl Parser {
    fn peek(&self) -> &Token {
        &self.tokens[self.next.min(self.tokens.len() - 1)]
    }

    fn take(&mut self) -> Token {
        let token = self.peek().clone();
        self.next += 1;
        token
    }

    fn pass_space(&mut self) {
        while self.peek().kind == Kind::Space {
            self.next += 1;
        }
    }

    fn take_word(&mut self) -> Token {
        self.pass_space();
        self.take()
    }

    fn is_keyword(&self, word: &str) -> bool {
        self.peek().kind == Kind::Keyword && self.peek().text == word
    }

    fn expect(&mut self, kind: Kind, context: &str) -> Parsed<Token> {
        let token = self.take_word();
        if token.kind == kind {
            Ok(token)
        } else {
            Err(self.unexpected(&token, context))
        }
    }

    fn unexpected(&self, token: &Token, context: &str) -> String {
        if token.kind != Kind::Error {
            return format!("unexpected {} in {context}", shown(token));
        }
        // Go tells where the action began, if that is elsewhere; the template's name is not known here
        token.text.clone()
    }

    fn deeper<T>(&mut self, inner: impl FnOnce(&mut Parser) -> Parsed<T>) -> Parsed<T> {
        self.depth += 1;
        if self.depth > DEEPEST {
            return Err("max expression depth exceeded".to_owned());
        }
        let made = inner(self);
        self.depth -= 1;
        made
    }

    fn whole(&mut self) -> Parsed<Vec<Node>> {
        let mut list = Vec::new();
        while self.peek().kind != Kind::End {
            if self.peek().kind == Kind::LeftDelim {
                let before = self.next;
                self.take();
                self.pass_space();
                if self.is_keyword("define") {
                    self.take();
                    self.definition()?;
                    continue;
                }
                self.next = before;
            }
            match self.item()? {
                Item::Node(node) => list.push(node),
                Item::End(End::End) => return Err("unexpected {{end}}".to_owned()),
                Item::End(End::Else) => return Err("unexpected {{else}}".to_owned()),
            }
        }
        Ok(list)
    }

    fn definition(&mut self) -> Parsed<()> {
        let context = "define clause";
        let token = self.take_word();
        let name = self.template_name(&token, context)?;
        self.expect(Kind::RightDelim, context)?;
        let variables = std::mem::replace(&mut self.variables, vec!["$".to_owned()]);
        let (list, end) = self.list()?;
        if matches!(end, End::Else) {
            return Err(format!("unexpected {{{{else}}}} in {context}"));
        }
        self.variables = variables;
        self.add(&name, list)
    }

    fn add(&mut self, name: &str, list: Vec<Node>) -> Parsed<()> {
        let empty = |list: &[Node]| {
            list.iter()
                .all(|node| matches!(node, Node::Text(text) if text.trim().is_empty()))
        };
        match self.templates.get(name) {
            Some(there) if !empty(there) && !empty(&list) => Err(format!(
                "template: multiple definition of template {}",
                api::go::quote(name)
            )),
            Some(there) if !empty(there) => Ok(()),
            _ => {
                self.templates.insert(name.to_owned(), list);
                Ok(())
            }
        }
    }

    /// Reads up to `{{end}}` or `{{else}}`.
    fn list(&mut self) -> Parsed<(Vec<Node>, End)> {
        self.deeper(|parser| {
            let mut list = Vec::new();
            while parser.peek().kind != Kind::End {
                match parser.item()? {
                    Item::Node(node) => list.push(node),
                    Item::End(end) => return Ok((list, end)),
                }
            }
            parser.take();
            Err("unexpected EOF".to_owned())
        })
    }

    fn item(&mut self) -> Parsed<Item> {
        let token = self.take_word();
        match token.kind {
            Kind::Text => Ok(Item::Node(Node::Text(token.text))),
            Kind::LeftDelim => {
                self.action = token.line;
                let made = self.action();
                if made.is_ok() {
                    self.action = 0;
                }
                made
            }
            _ => Err(self.unexpected(&token, "input")),
        }
    }

    fn action(&mut self) -> Parsed<Item> {
        self.pass_space();
        let before = self.next;
        let token = self.take();
        let node = match (token.kind, token.text.as_str()) {
            (Kind::Keyword, "block") => self.block()?,
            (Kind::Keyword, word @ ("break" | "continue")) => {
                let context = format!("{{{{{word}}}}}");
                let end = self.take_word();
                if end.kind != Kind::RightDelim {
                    return Err(self.unexpected(&end, &context));
                }
                if self.ranges == 0 {
                    return Err(format!("{context} outside {{{{range}}}}"));
                }
                if word == "break" { Node::Break } else { Node::Continue }
            }
            (Kind::Keyword, "else") => {
                self.pass_space();
                if !self.is_keyword("if") && !self.is_keyword("with") {
                    self.expect(Kind::RightDelim, "else")?;
                }
                return Ok(Item::End(End::Else));
            }
            (Kind::Keyword, "end") => {
                self.expect(Kind::RightDelim, "end")?;
                return Ok(Item::End(End::End));
            }
            (Kind::Keyword, "if") => Node::If(self.branch("if")?),
            (Kind::Keyword, "range") => Node::Range(self.branch("range")?),
            (Kind::Keyword, "with") => Node::With(self.branch("with")?),
            (Kind::Keyword, "template") => self.template()?,
            _ => {
                self.next = before;
                Node::Action(self.pipeline("command", Kind::RightDelim)?)
            }
        };
        Ok(Item::Node(node))
    }

    fn branch(&mut self, context: &str) -> Parsed<Box<Branch>> {
        let variables = self.variables.len();
        let pipeline = self.pipeline(context, Kind::RightDelim)?;
        let ranges = self.ranges;
        self.ranges += usize::from(context == "range");
        let (list, end) = self.list()?;
        self.ranges = ranges;
        let otherwise = match end {
            End::End => None,
            End::Else if matches!(context, "if" | "with") && self.is_keyword(context) => {
                // `{{else if x}}` is an `if` in the other list, which ends with it
                self.take();
                let inner = self.deeper(|parser| parser.branch(context))?;
                Some(vec![if context == "if" {
                    Node::If(inner)
                } else {
                    Node::With(inner)
                }])
            }
            End::Else => {
                let (list, end) = self.list()?;
                if matches!(end, End::Else) {
                    return Err("expected end; found {{else}}".to_owned());
                }
                Some(list)
            }
        };
        self.variables.truncate(variables);
        Ok(Box::new(Branch {
            at: pipeline.at,
            pipeline,
            list,
            otherwise,
        }))
    }

    fn template_name(&mut self, token: &Token, context: &str) -> Parsed<String> {
        match token.kind {
            Kind::String | Kind::RawString => unquoted(&token.text),
            _ => Err(self.unexpected(token, context)),
        }
    }

    fn template(&mut self) -> Parsed<Node> {
        let context = "template clause";
        let token = self.take_word();
        let at = token.at;
        let name = self.template_name(&token, context)?;
        self.pass_space();
        let pipeline = if self.peek().kind == Kind::RightDelim {
            self.take();
            None
        } else {
            Some(self.pipeline(context, Kind::RightDelim)?)
        };
        Ok(Node::Template { name, pipeline, at })
    }

    fn block(&mut self) -> Parsed<Node> {
        let context = "block clause";
        let named = self.take_word();
        let name = self.template_name(&named, context)?;
        let pipeline = self.pipeline(context, Kind::RightDelim)?;
        let variables = std::mem::replace(&mut self.variables, vec!["$".to_owned()]);
        let (list, end) = self.list()?;
        if matches!(end, End::Else) {
            return Err(format!("unexpected {{{{else}}}} in {context}"));
        }
        self.variables = variables;
        self.add(&name, list)?;
        Ok(Node::Template {
            name,
            pipeline: Some(pipeline),
            at: named.at,
        })
    }

    fn pipeline(&mut self, context: &str, end: Kind) -> Parsed<Pipeline> {
        self.pass_space();
        let mut made = Pipeline {
            at: self.peek().at,
            ..Pipeline::default()
        };
        self.declarations(context, &mut made)?;
        loop {
            let before = self.next;
            let token = self.take_word();
            match token.kind {
                kind if kind == end => break,
                Kind::Bool
                | Kind::CharConstant
                | Kind::Dot
                | Kind::Field
                | Kind::Identifier
                | Kind::Number
                | Kind::Nil
                | Kind::RawString
                | Kind::String
                | Kind::Variable
                | Kind::LeftParen => {
                    self.next = before;
                    made.commands.push(self.command()?);
                }
                _ => return Err(self.unexpected(&token, context)),
            }
        }
        if made.commands.is_empty() {
            return Err(format!("missing value for {context}"));
        }
        for (i, command) in made.commands.iter().enumerate().skip(1) {
            let executable = match &command.words[0].operand {
                Operand::Bool(_) | Operand::Dot | Operand::Nil | Operand::Number { .. } | Operand::String { .. } => {
                    false
                }
                Operand::Field(_)
                | Operand::Variable(..)
                | Operand::Chain(..)
                | Operand::Function(_)
                | Operand::Pipeline(_) => true,
            };
            if !executable {
                return Err(format!("non executable command in pipeline stage {}", i + 1));
            }
        }
        Ok(made)
    }

    /// `$x :=`, `$x =`, and in a range `$i, $x :=`.
    fn declarations(&mut self, context: &str, made: &mut Pipeline) -> Parsed<()> {
        loop {
            self.pass_space();
            if self.peek().kind != Kind::Variable {
                return Ok(());
            }
            let before = self.next;
            let variable = self.take();
            self.pass_space();
            match (self.peek().kind, self.peek().text.as_str()) {
                (kind @ (Kind::Assign | Kind::Declare), _) => {
                    self.take();
                    made.assigns = kind == Kind::Assign;
                    made.variables.push(variable.text.clone());
                    self.variables.push(variable.text);
                    return Ok(());
                }
                (Kind::Char, ",") => {
                    self.take();
                    made.variables.push(variable.text.clone());
                    self.variables.push(variable.text);
                    if context != "range" || made.variables.len() > 1 {
                        return Err(format!("too many declarations in {context}"));
                    }
                    self.pass_space();
                    if !matches!(self.peek().kind, Kind::Variable | Kind::RightDelim | Kind::RightParen) {
                        return Err("range can only initialize variables".to_owned());
                    }
                }
                _ => {
                    self.next = before;
                    return Ok(());
                }
            }
        }
    }

    fn command(&mut self) -> Parsed<Command> {
        let mut words = Vec::new();
        loop {
            self.pass_space();
            if let Some(word) = self.operand()? {
                words.push(word);
            }
            let before = self.next;
            let token = self.take();
            match token.kind {
                Kind::Space => continue,
                Kind::RightDelim | Kind::RightParen => self.next = before,
                Kind::Pipe => {}
                _ => return Err(self.unexpected(&token, "operand")),
            }
            break;
        }
        if words.is_empty() {
            return Err("empty command".to_owned());
        }
        Ok(Command { words })
    }

    /// A term, and fields of it.
    fn operand(&mut self) -> Parsed<Option<Word>> {
        let Some(word) = self.term()? else { return Ok(None) };
        if self.peek().kind != Kind::Field {
            return Ok(Some(word));
        }
        let at = self.peek().at;
        let mut fields = Vec::new();
        while self.peek().kind == Kind::Field {
            fields.push(self.take().text[1..].to_owned());
        }
        let operand = match word.operand {
            Operand::Field(mut first) => {
                first.extend(fields);
                Operand::Field(first)
            }
            Operand::Variable(name, _) => Operand::Variable(name, fields),
            operand @ (Operand::Bool(_)
            | Operand::String { .. }
            | Operand::Number { .. }
            | Operand::Nil
            | Operand::Dot) => {
                return Err(format!(
                    "unexpected . after term {}",
                    api::go::quote(&operand.to_string())
                ));
            }
            operand => Operand::Chain(Box::new(Word { at: word.at, operand }), fields),
        };
        Ok(Some(Word { at, operand }))
    }

    fn term(&mut self) -> Parsed<Option<Word>> {
        let before = self.next;
        let token = self.take_word();
        let operand = match token.kind {
            Kind::Identifier => {
                if !functions::NAMES.contains(&token.text.as_str()) {
                    return Err(format!("function {} not defined", api::go::quote(&token.text)));
                }
                Operand::Function(token.text)
            }
            Kind::Dot => Operand::Dot,
            Kind::Nil => Operand::Nil,
            Kind::Variable => {
                if !self.variables.contains(&token.text) {
                    return Err(format!("undefined variable {}", api::go::quote(&token.text)));
                }
                Operand::Variable(token.text, Vec::new())
            }
            Kind::Field => Operand::Field(vec![token.text[1..].to_owned()]),
            Kind::Bool => Operand::Bool(token.text == "true"),
            Kind::Number | Kind::CharConstant => Operand::Number {
                value: number(&token)?,
                text: token.text,
            },
            Kind::LeftParen => {
                let inner = self.deeper(|parser| parser.pipeline("parenthesized pipeline", Kind::RightParen))?;
                Operand::Pipeline(inner)
            }
            Kind::String | Kind::RawString => Operand::String {
                value: unquoted(&token.text)?,
                text: token.text,
            },
            _ => {
                self.next = before;
                return Ok(None);
            }
        };
        Ok(Some(Word { at: token.at, operand }))
    }
}

enum Item {
    Node(Node),
    End(End),
}

/// A token as Go names it in an error.
fn shown(token: &Token) -> String {
    match token.kind {
        Kind::End => "EOF".to_owned(),
        Kind::Keyword | Kind::Nil | Kind::Dot => format!("<{}>", token.text),
        _ if token.text.len() > 10 => {
            let cut: String = token.text.chars().take(10).collect();
            format!("{}...", api::go::quote(&cut))
        }
        _ => api::go::quote(&token.text),
    }
}

fn number(token: &Token) -> Parsed<Number> {
    let text = token.text.as_str();
    let illegal = || format!("illegal number syntax: {}", api::go::quote(text));
    if token.kind == Kind::CharConstant {
        let inner = unquoted(&format!("\"{}\"", text.trim_matches('\'').replace('"', "\\\"")))?;
        let mut chars = inner.chars();
        return match (chars.next(), chars.next()) {
            (Some(c), None) => Ok(Number::Int(i64::from(u32::from(c)))),
            _ => Err(format!("malformed character constant: {text}")),
        };
    }
    let (sign, digits) = match text.strip_prefix(['+', '-']) {
        Some(digits) => (if text.starts_with('-') { -1 } else { 1 }, digits),
        None => (1, text),
    };
    let plain = digits.replace('_', "").to_lowercase();
    let radix = match plain.as_bytes() {
        [b'0', b'x', ..] => 16,
        [b'0', b'o', ..] => 8,
        [b'0', b'b', ..] => 2,
        [b'0', b'0'..=b'7', ..] if plain.bytes().all(|b| b.is_ascii_digit()) => 8,
        _ => 10,
    };
    let body = plain
        .trim_start_matches("0x")
        .trim_start_matches("0o")
        .trim_start_matches("0b");
    if radix != 10 {
        let value = i64::from_str_radix(body, radix).map_err(|_| illegal())?;
        return Ok(Number::Int(sign * value));
    }
    match plain.parse::<i64>() {
        Ok(value) => Ok(Number::Int(sign * value)),
        Err(_) if plain.bytes().all(|b| b.is_ascii_digit()) => {
            Err(format!("integer overflow: {}", api::go::quote(text)))
        }
        Err(_) => {
            let value: f64 = plain.parse().map_err(|_| illegal())?;
            Ok(Number::Float(sign as f64 * value))
        }
    }
}

/// `strconv.Unquote` of a string in either kind of quotes.
fn unquoted(text: &str) -> Parsed<String> {
    if let Some(raw) = text.strip_prefix('`').and_then(|t| t.strip_suffix('`')) {
        return Ok(raw.replace('\r', ""));
    }
    let invalid = || "invalid syntax".to_owned();
    let inner = text
        .strip_prefix('"')
        .and_then(|t| t.strip_suffix('"'))
        .ok_or_else(invalid)?;
    let mut out: Vec<u8> = Vec::new();
    let mut rest = inner.chars();
    while let Some(c) = rest.next() {
        if c != '\\' {
            out.extend(c.to_string().bytes());
            continue;
        }
        let plain = match rest.next().ok_or_else(invalid)? {
            'a' => 7,
            'b' => 8,
            'f' => 12,
            'n' => b'\n',
            'r' => b'\r',
            't' => b'\t',
            'v' => 11,
            c @ ('\\' | '"' | '\'') => c as u8,
            c @ ('x' | 'u' | 'U') => {
                let digits: String = rest
                    .by_ref()
                    .take(match c {
                        'x' => 2,
                        'u' => 4,
                        _ => 8,
                    })
                    .collect();
                let code = u32::from_str_radix(&digits, 16).map_err(|_| invalid())?;
                match (c, u8::try_from(code)) {
                    ('x', Ok(byte)) => out.push(byte),
                    _ => out.extend(char::from_u32(code).ok_or_else(invalid)?.to_string().bytes()),
                }
                continue;
            }
            first @ '0'..='7' => {
                let digits: String = std::iter::once(first).chain(rest.by_ref().take(2)).collect();
                u8::from_str_radix(&digits, 8).map_err(|_| invalid())?
            }
            _ => return Err(invalid()),
        };
        out.push(plain);
    }
    Ok(String::from_utf8_lossy(&out).into_owned())
}
