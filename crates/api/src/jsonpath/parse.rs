//! The grammar of JSONPath templates, as `-o jsonpath`, `--sort-by`, custom columns and `wait --for=jsonpath` read it.

use super::JsonPathError;

/// One step of a template.
#[derive(Debug, Clone, PartialEq)]
pub enum Node {
    /// Everything between a pair of braces.
    List(Vec<Node>),
    Text(String),
    Field(String),
    Array {
        start: Option<i64>,
        end: Option<i64>,
        step: Option<i64>,
        /// `[n]`: the end was not written.
        single: bool,
    },
    Filter {
        left: Vec<Node>,
        operator: String,
        right: Vec<Node>,
    },
    Int(i64),
    Float(f64),
    Bool(bool),
    Wildcard,
    Recursive,
    Union(Vec<Vec<Node>>),
    /// `range` or `end`.
    Identifier(String),
}

type Result<T> = std::result::Result<T, JsonPathError>;

fn error(text: impl Into<String>) -> JsonPathError {
    JsonPathError(text.into())
}

/// The nodes of a whole template.
pub fn parse(text: &str) -> Result<Vec<Node>> {
    let mut parser = Parser {
        input: text.chars().collect(),
        at: 0,
    };
    let mut root = Vec::new();
    let mut plain = String::new();
    while let Some(c) = parser.next() {
        if c != '{' {
            plain.push(c);
            continue;
        }
        if !plain.is_empty() {
            root.push(Node::Text(std::mem::take(&mut plain)));
        }
        root.push(Node::List(parser.action(true)?));
    }
    if !plain.is_empty() {
        root.push(Node::Text(plain));
    }
    Ok(root)
}

/// The nodes of the inside of one pair of braces.
fn action(text: &str) -> Result<Vec<Node>> {
    let mut parser = Parser {
        input: text.chars().collect(),
        at: 0,
    };
    parser.action(false)
}

struct Parser {
    input: Vec<char>,
    at: usize,
}

fn terminates(c: char) -> bool {
    matches!(
        c,
        ' ' | '\t' | '\r' | '\n' | '.' | ',' | '[' | ']' | '$' | '@' | '{' | '}'
    )
}

fn word(c: char) -> bool {
    c == '_' || c.is_alphanumeric()
}

impl Parser {
    fn next(&mut self) -> Option<char> {
        let c = self.input.get(self.at).copied();
        self.at += usize::from(c.is_some());
        c
    }

    fn peek(&self) -> Option<char> {
        self.input.get(self.at).copied()
    }

    fn follows(&self, text: &str) -> bool {
        text.chars()
            .enumerate()
            .all(|(i, c)| self.input.get(self.at + i) == Some(&c))
    }

    /// Up to the closing brace, or to the end where there is none to come.
    fn action(&mut self, closed: bool) -> Result<Vec<Node>> {
        let mut nodes = Vec::new();
        loop {
            if self.follows("[?(") {
                self.at += 3;
                nodes.push(self.filter()?);
                continue;
            }
            if self.follows("..") {
                if nodes.last() == Some(&Node::Recursive) {
                    return Err(error("invalid multiple recursive descent"));
                }
                self.at += 2;
                nodes.push(Node::Recursive);
                if self.peek().is_some_and(word) {
                    nodes.push(self.field());
                }
                continue;
            }
            match self.next() {
                None if !closed => return Ok(nodes),
                None | Some('\n' | '\r') => return Err(error("unclosed action")),
                Some('}') if closed => return Ok(nodes),
                Some(' ' | '@' | '$') => {}
                Some('[') => self.array(&mut nodes)?,
                Some(quote @ ('"' | '\'')) => nodes.push(self.quoted(quote)?),
                Some('.') => nodes.push(self.field()),
                Some(c) if c == '+' || c == '-' || c.is_numeric() => {
                    self.at -= 1;
                    nodes.push(self.number()?);
                }
                Some(c) if word(c) => {
                    self.at -= 1;
                    nodes.push(match self.until_terminator().as_str() {
                        "true" => Node::Bool(true),
                        "false" => Node::Bool(false),
                        other => Node::Identifier(other.to_owned()),
                    });
                }
                Some(c) => {
                    return Err(error(format!(
                        "unrecognized character in action: U+{:04X} '{c}'",
                        u32::from(c)
                    )));
                }
            }
        }
    }

    fn until_terminator(&mut self) -> String {
        let mut text = String::new();
        while let Some(c) = self.peek().filter(|c| !terminates(*c)) {
            self.at += 1;
            text.push(c);
        }
        text
    }

    /// A backslash takes the next character into the name.
    fn field(&mut self) -> Node {
        let mut text = String::new();
        while let Some(c) = self.peek() {
            if c == '\\' {
                self.at += 1;
                text.extend(self.next());
                continue;
            }
            if terminates(c) {
                break;
            }
            self.at += 1;
            text.push(c);
        }
        if text == "*" { Node::Wildcard } else { Node::Field(text) }
    }

    fn number(&mut self) -> Result<Node> {
        let mut text = String::new();
        if let Some(sign) = self.peek().filter(|c| matches!(c, '+' | '-')) {
            self.at += 1;
            text.push(sign);
        }
        while let Some(c) = self.peek().filter(|c| *c == '.' || c.is_numeric()) {
            self.at += 1;
            text.push(c);
        }
        if let Ok(n) = text.parse::<i64>() {
            return Ok(Node::Int(n));
        }
        text.parse()
            .map(Node::Float)
            .map_err(|_| error(format!("cannot parse number {text}")))
    }

    fn quoted(&mut self, quote: char) -> Result<Node> {
        let mut text = String::new();
        loop {
            match self.next() {
                None | Some('\n') => return Err(error("unterminated quoted string")),
                Some('\\') => text.push(match self.next() {
                    Some('n') => '\n',
                    Some('t') => '\t',
                    Some('r') => '\r',
                    Some('a') => '\u{7}',
                    Some('b') => '\u{8}',
                    Some('f') => '\u{c}',
                    Some('v') => '\u{b}',
                    Some(c @ ('\\' | '\'' | '"')) => c,
                    _ => return Err(error("unquote string error invalid syntax")),
                }),
                Some(c) if c == quote => return Ok(Node::Text(text)),
                Some(c) => text.push(c),
            }
        }
    }

    fn array(&mut self, nodes: &mut Vec<Node>) -> Result<()> {
        let mut text = String::new();
        loop {
            match self.next() {
                None | Some('\n') => return Err(error("unterminated array")),
                Some(']') => break,
                Some(c) => text.push(c),
            }
        }
        if text == "*" {
            text = ":".to_owned();
        }
        if text.contains(',') {
            let parts = text
                .split(',')
                .map(|part| action(&format!("[{}]", part.trim_matches(' '))));
            nodes.push(Node::Union(parts.collect::<Result<_>>()?));
            return Ok(());
        }
        if let Some(key) = text.strip_prefix('\'').and_then(|t| t.strip_suffix('\''))
            && !key.contains('\'')
        {
            nodes.extend(action(&format!(".{key}"))?);
            return Ok(());
        }
        let parts: Vec<&str> = text.split(':').collect();
        if parts.len() > 3 {
            return Err(error(format!("invalid array index {text}")));
        }
        let mut numbers = [None; 3];
        for (place, part) in numbers.iter_mut().zip(&parts) {
            if !part.is_empty() {
                *place = Some(
                    part.parse::<i64>()
                        .map_err(|_| error(format!("invalid array index {text}")))?,
                );
            }
        }
        let [start, mut end, step] = numbers;
        let single = parts.len() == 1;
        if single {
            end = Some(start.unwrap_or(0) + 1);
        }
        nodes.push(Node::Array {
            start,
            end,
            step,
            single,
        });
        Ok(())
    }

    fn filter(&mut self) -> Result<Node> {
        let mut text = String::new();
        let mut quote = None;
        loop {
            match self.next() {
                None | Some('\n') => return Err(error("unterminated filter")),
                Some(')') if quote.is_none() => break,
                Some(c @ ('"' | '\'')) => {
                    match quote {
                        None => quote = Some(c),
                        Some(open) if open == c && !text.ends_with('\\') => quote = None,
                        Some(_) => {}
                    }
                    text.push(c);
                }
                Some(c) => text.push(c),
            }
        }
        if self.next() != Some(']') {
            return Err(error("unclosed array expect ]"));
        }
        let compares = |c: char| matches!(c, '!' | '<' | '>' | '=');
        let split = text.find(compares).filter(|at| *at > 0).and_then(|at| {
            let (left, rest) = text.split_at(at);
            let operator: String = rest.chars().take_while(|c| compares(*c)).collect();
            let right = &rest[operator.len()..];
            (!right.is_empty()).then_some((left, operator, right))
        });
        Ok(match split {
            Some((left, operator, right)) => Node::Filter {
                left: action(left)?,
                operator,
                right: action(right)?,
            },
            None => Node::Filter {
                left: action(&text)?,
                operator: "exists".to_owned(),
                right: Vec::new(),
            },
        })
    }
}
