//! The tree of a template, and each part as it stood in the text: errors show it.

use std::fmt;

/// A part of a template with its offset in the text.
#[derive(Debug, Clone)]
pub enum Node {
    Text(String),
    Action(Pipeline),
    If(Box<Branch>),
    With(Box<Branch>),
    Range(Box<Branch>),
    Template {
        name: String,
        pipeline: Option<Pipeline>,
        at: usize,
    },
    Break,
    Continue,
}

/// `{{if}}`, `{{with}}` or `{{range}}` with both of its lists.
#[derive(Debug, Clone)]
pub struct Branch {
    pub at: usize,
    pub pipeline: Pipeline,
    pub list: Vec<Node>,
    pub otherwise: Option<Vec<Node>>,
}

#[derive(Debug, Clone, Default)]
pub(crate) struct Pipeline {
    pub at: usize,
    /// The variables that it sets; `assigns` where they exist.
    pub variables: Vec<String>,
    pub assigns: bool,
    pub commands: Vec<Command>,
}

#[derive(Debug, Clone)]
pub(crate) struct Command {
    pub words: Vec<Word>,
}

/// An operand with its offset.
#[derive(Debug, Clone)]
pub struct Word {
    pub at: usize,
    pub operand: Operand,
}

#[derive(Debug, Clone)]
pub(crate) enum Operand {
    Dot,
    Nil,
    Bool(bool),
    Number {
        text: String,
        value: Number,
    },
    String {
        text: String,
        value: String,
    },
    Field(Vec<String>),
    /// A variable and fields below it.
    Variable(String, Vec<String>),
    /// Fields of what a pipeline in parentheses, or a function without arguments, returns.
    Chain(Box<Word>, Vec<String>),
    Function(String),
    Pipeline(Pipeline),
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Number {
    Int(i64),
    Float(f64),
}

fn joined(fields: &[String]) -> String {
    fields.iter().map(|f| format!(".{f}")).collect()
}

impl fmt::Display for Operand {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Operand::Dot => f.write_str("."),
            Operand::Nil => f.write_str("nil"),
            Operand::Bool(b) => write!(f, "{b}"),
            Operand::Number { text, .. } | Operand::String { text, .. } => f.write_str(text),
            Operand::Field(fields) => f.write_str(&joined(fields)),
            Operand::Variable(name, fields) => write!(f, "{name}{}", joined(fields)),
            Operand::Chain(word, fields) => match word.operand {
                Operand::Pipeline(_) => write!(f, "({}){}", word.operand, joined(fields)),
                _ => write!(f, "{}{}", word.operand, joined(fields)),
            },
            Operand::Function(name) => f.write_str(name),
            Operand::Pipeline(pipeline) => write!(f, "{pipeline}"),
        }
    }
}

impl fmt::Display for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, word) in self.words.iter().enumerate() {
            if i > 0 {
                f.write_str(" ")?;
            }
            match &word.operand {
                Operand::Pipeline(pipeline) => write!(f, "({pipeline})")?,
                operand => write!(f, "{operand}")?,
            }
        }
        Ok(())
    }
}

impl fmt::Display for Pipeline {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.variables.is_empty() {
            let sign = if self.assigns { "=" } else { ":=" };
            write!(f, "{} {sign} ", self.variables.join(", "))?;
        }
        for (i, command) in self.commands.iter().enumerate() {
            if i > 0 {
                f.write_str(" | ")?;
            }
            write!(f, "{command}")?;
        }
        Ok(())
    }
}
