//! Makes the tree of a template, with the errors of `text/template/parse`.

use std::collections::HashMap;

use super::error::{TemplateError, refuse};
use super::functions;
use super::lex::{Kind, Token, tokens};
use super::literal::{number, unquoted};
use super::node::{Branch, Command, Node, Operand, Pipeline, Word};

/// Nested parentheses and lists that a template may have: they are read by recursion.
const DEEPEST: usize = 200;

/// The templates of a text by their names; the text's own is `name`.
///
/// # Errors
/// `template: NAME:LINE: ...`
pub fn parse(name: &str, text: &str) -> Result<HashMap<String, Vec<Node>>, TemplateError> {
    let mut parser = Parser {
        tokens: tokens(text),
        next: 0,
        variables: vec!["$".to_owned()],
        ranges: 0,
        depth: 0,
        templates: HashMap::new(),
    };
    let parsed = parser.whole().and_then(|list| parser.add(name, list));
    match parsed {
        Ok(()) => Ok(parser.templates),
        Err(why) => {
            let last = parser.next.saturating_sub(1).min(parser.tokens.len() - 1);
            let line = parser.tokens[last].line;
            refuse(format!("template: {name}:{line}: {why}"))
        }
    }
}

struct Parser {
    tokens: Vec<Token>,
    next: usize,
    variables: Vec<String>,
    ranges: usize,
    depth: usize,
    templates: HashMap<String, Vec<Node>>,
}

/// What ends a list.
enum End {
    End,
    Else,
}

/// The error is what stands after the template's name and line.
type Parsed<T> = Result<T, TemplateError>;

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
            Err(Parser::unexpected(&token, context))
        }
    }

    fn unexpected(token: &Token, context: &str) -> TemplateError {
        TemplateError(match token.kind {
            Kind::Error => token.text.clone(),
            _ => format!("unexpected {} in {context}", shown(token)),
        })
    }

    fn deeper<T>(&mut self, inner: impl FnOnce(&mut Parser) -> Parsed<T>) -> Parsed<T> {
        self.depth += 1;
        if self.depth > DEEPEST {
            return refuse("max expression depth exceeded");
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
                Item::End(End::End) => return refuse("unexpected {{end}}"),
                Item::End(End::Else) => return refuse("unexpected {{else}}"),
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
            return refuse(format!("unexpected {{{{else}}}} in {context}"));
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
            Some(there) if !empty(there) && !empty(&list) => refuse(format!(
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
            refuse("unexpected EOF")
        })
    }

    fn item(&mut self) -> Parsed<Item> {
        let token = self.take_word();
        match token.kind {
            Kind::Text => Ok(Item::Node(Node::Text(token.text))),
            Kind::LeftDelim => self.action(),
            _ => Err(Parser::unexpected(&token, "input")),
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
                    return Err(Parser::unexpected(&end, &context));
                }
                if self.ranges == 0 {
                    return refuse(format!("{context} outside {{{{range}}}}"));
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
                    return refuse("expected end; found {{else}}");
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
            _ => Err(Parser::unexpected(token, context)),
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
            return refuse(format!("unexpected {{{{else}}}} in {context}"));
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
                _ => return Err(Parser::unexpected(&token, context)),
            }
        }
        if made.commands.is_empty() {
            return refuse(format!("missing value for {context}"));
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
                return refuse(format!("non executable command in pipeline stage {}", i + 1));
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
                        return refuse(format!("too many declarations in {context}"));
                    }
                    self.pass_space();
                    if !matches!(self.peek().kind, Kind::Variable | Kind::RightDelim | Kind::RightParen) {
                        return refuse("range can only initialize variables");
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
                _ => return Err(Parser::unexpected(&token, "operand")),
            }
            break;
        }
        if words.is_empty() {
            return refuse("empty command");
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
                return refuse(format!(
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
                    return refuse(format!("function {} not defined", api::go::quote(&token.text)));
                }
                Operand::Function(token.text)
            }
            Kind::Dot => Operand::Dot,
            Kind::Nil => Operand::Nil,
            Kind::Variable => {
                if !self.variables.contains(&token.text) {
                    return refuse(format!("undefined variable {}", api::go::quote(&token.text)));
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
