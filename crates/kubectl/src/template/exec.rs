//! Runs the tree of a template over an object, with the errors of `text/template`.

use std::collections::HashMap;

use serde_json::Value;

use super::error::{TemplateError, refuse};
use super::functions;
use super::node::{Branch, Command, Node, Number, Operand, Pipeline, Word};
use super::value::Val;

/// As deep as templates may include each other: Go allows more, but has no such small stack.
const DEEPEST: usize = 1000;

/// What a run has made, and the error that ended it.
#[derive(Debug)]
pub struct Failed {
    pub printed: String,
    pub why: TemplateError,
}

/// Runs the template `name` over `object`. Where `missing_ok` is not set, a key that is absent is an error.
pub fn run(
    templates: &HashMap<String, Vec<Node>>,
    name: &str,
    text: &str,
    object: &Value,
    missing_ok: bool,
) -> Result<String, Failed> {
    let mut state = State {
        templates,
        parsed: name,
        name: name.to_owned(),
        text,
        missing_ok,
        out: String::new(),
        variables: vec![("$".to_owned(), Val::from(object))],
        place: None,
        depth: 0,
    };
    let dot = Val::from(object);
    let done = match templates.get(name) {
        Some(list) => state.walk(&dot, list),
        None => Ok(Flow::On),
    };
    match done {
        Ok(_) => Ok(state.out),
        Err(why) => Err(Failed {
            printed: std::mem::take(&mut state.out),
            why: state.located(&why),
        }),
    }
}

enum Flow {
    On,
    Break,
    Continue,
}

/// A place in the text and the part that stands there.
type Place = (usize, String);
/// The error is what stands after the place.
type Ran<T> = Result<T, TemplateError>;

struct State<'t, 'v> {
    templates: &'t HashMap<String, Vec<Node>>,
    /// The name that the text was read under.
    parsed: &'t str,
    /// The template that runs.
    name: String,
    text: &'t str,
    missing_ok: bool,
    out: String,
    variables: Vec<(String, Val<'v>)>,
    place: Option<Place>,
    depth: usize,
}

impl<'v> State<'_, 'v> {
    fn located(&self, why: &TemplateError) -> TemplateError {
        let name = api::go::quote(&self.name);
        let Some((at, part)) = &self.place else {
            return TemplateError(format!("template: {}: {why}", self.name));
        };
        let before = &self.text[..*at];
        let line = 1 + before.matches('\n').count();
        let column = before.rfind('\n').map_or(*at, |newline| at - newline);
        TemplateError(format!(
            "template: {}:{line}:{column}: executing {name} at <{part}>: {why}",
            self.parsed
        ))
    }

    fn at(&mut self, at: usize, part: &dyn std::fmt::Display) {
        self.place = Some((at, part.to_string()));
    }

    fn walk(&mut self, dot: &Val<'v>, list: &[Node]) -> Ran<Flow> {
        for node in list {
            match node {
                Node::Text(text) => self.out.push_str(text),
                Node::Action(pipeline) => {
                    self.at(pipeline.at, pipeline);
                    let value = self.pipeline(dot, pipeline)?;
                    if pipeline.variables.is_empty() {
                        self.out.push_str(&value.printed());
                    }
                }
                Node::If(branch) | Node::With(branch) => {
                    let is_with = matches!(node, Node::With(_));
                    match self.choose(dot, branch, is_with)? {
                        Flow::On => {}
                        flow => return Ok(flow),
                    }
                }
                Node::Range(branch) => self.range(dot, branch)?,
                Node::Template { name, pipeline, at } => self.include(dot, name, pipeline.as_ref(), *at)?,
                Node::Break => return Ok(Flow::Break),
                Node::Continue => return Ok(Flow::Continue),
            }
        }
        Ok(Flow::On)
    }

    fn choose(&mut self, dot: &Val<'v>, branch: &Branch, is_with: bool) -> Ran<Flow> {
        let mark = self.variables.len();
        let value = self.pipeline(dot, &branch.pipeline)?;
        let flow = match (value.is_true(), &branch.otherwise) {
            (true, _) => self.walk(if is_with { &value } else { dot }, &branch.list)?,
            (false, Some(otherwise)) => self.walk(dot, otherwise)?,
            (false, None) => Flow::On,
        };
        self.variables.truncate(mark);
        Ok(flow)
    }

    fn range(&mut self, dot: &Val<'v>, branch: &Branch) -> Ran<()> {
        let mark = self.variables.len();
        let value = self.pipeline(dot, &branch.pipeline)?;
        let pairs: Vec<(Val<'v>, Val<'v>)> = match &value {
            Val::Missing => Vec::new(),
            Val::List(list) => {
                let list: &'v [Value] = list;
                let indexes = (0i64..).map(Val::Int);
                indexes.zip(list.iter().map(Val::from)).collect()
            }
            Val::Map(map) => {
                let map: &'v serde_json::Map<String, Value> = map;
                let mut entries: Vec<(&'v String, &'v Value)> = map.iter().collect();
                entries.sort_unstable_by_key(|(key, _)| *key);
                let pair = |(key, value): (&'v String, &'v Value)| (Val::Text(key.as_str().into()), Val::from(value));
                entries.into_iter().map(pair).collect()
            }
            Val::Int(n) => {
                if branch.pipeline.variables.len() > 1 {
                    self.at(branch.at, &format!("range {}", branch.pipeline));
                    return refuse(format!("can't use {n} to iterate over more than one variable"));
                }
                (0..*n).map(|i| (Val::Missing, Val::Int(i))).collect()
            }
            other @ (Val::Bool(_) | Val::Float(_) | Val::Text(_)) => {
                self.at(branch.at, &branch.pipeline);
                return refuse(format!("range can't iterate over {}", other.shown()));
            }
        };
        if pairs.is_empty() {
            if let Some(otherwise) = &branch.otherwise {
                self.walk(dot, otherwise)?;
            }
            self.variables.truncate(mark);
            return Ok(());
        }
        let inner = self.variables.len();
        for (index, element) in pairs {
            match &*branch.pipeline.variables {
                [] => {}
                [one] => self.set(one, element.clone()),
                [first, second, ..] => {
                    self.set(first, index);
                    self.set(second, element.clone());
                }
            }
            let flow = self.walk(&element, &branch.list)?;
            self.variables.truncate(inner);
            if matches!(flow, Flow::Break) {
                break;
            }
        }
        self.variables.truncate(mark);
        Ok(())
    }

    fn include(&mut self, dot: &Val<'v>, name: &str, pipeline: Option<&Pipeline>, at: usize) -> Ran<()> {
        self.at(at, &format!("{{{{template {}}}}}", api::go::quote(name)));
        let Some(list) = self.templates.get(name) else {
            return refuse(format!("template {} not defined", api::go::quote(name)));
        };
        if self.depth == DEEPEST {
            return refuse(format!("exceeded maximum template depth ({DEEPEST})"));
        }
        let dot = match pipeline {
            Some(pipeline) => self.pipeline(dot, pipeline)?,
            None => Val::Missing,
        };
        let outer = std::mem::replace(&mut self.variables, vec![("$".to_owned(), dot.clone())]);
        let outer_name = std::mem::replace(&mut self.name, name.to_owned());
        self.depth += 1;
        self.walk(&dot, list)?;
        self.depth -= 1;
        self.name = outer_name;
        self.variables = outer;
        Ok(())
    }

    fn set(&mut self, name: &str, value: Val<'v>) {
        if let Some(variable) = self.variables.iter_mut().rev().find(|(known, _)| known == name) {
            variable.1 = value;
        }
    }

    fn pipeline(&mut self, dot: &Val<'v>, pipeline: &Pipeline) -> Ran<Val<'v>> {
        let mut value: Option<Val<'v>> = None;
        for command in &pipeline.commands {
            value = Some(self.command(dot, command, value)?);
        }
        let value = value.unwrap_or(Val::Missing);
        for name in &pipeline.variables {
            if pipeline.assigns {
                self.set(name, value.clone());
            } else {
                self.variables.push((name.clone(), value.clone()));
            }
        }
        Ok(value)
    }

    fn command(&mut self, dot: &Val<'v>, command: &Command, last: Option<Val<'v>>) -> Ran<Val<'v>> {
        let Some((first, rest)) = command.words.split_first() else {
            return refuse("empty command");
        };
        if let Operand::Function(name) = &first.operand {
            self.at(first.at, &first.operand);
            return self.call(dot, name, command, rest, last);
        }
        let alone = rest.is_empty() && last.is_none();
        match &first.operand {
            Operand::Field(fields) => {
                self.at(first.at, &first.operand);
                self.fields(dot.clone(), fields, alone)
            }
            Operand::Variable(name, fields) if !fields.is_empty() => {
                self.at(first.at, &first.operand);
                let value = self.variable(name);
                self.fields(value, fields, alone)
            }
            Operand::Chain(inner, fields) => {
                self.at(first.at, &first.operand);
                if matches!(inner.operand, Operand::Nil) {
                    return refuse(format!("indirection through explicit nil in {}", first.operand));
                }
                let value = self.argument(dot, inner)?;
                self.fields(value, fields, alone)
            }
            _ if !alone => {
                self.at(first.at, &first.operand);
                refuse(format!("can't give argument to non-function {}", first.operand))
            }
            Operand::Nil => {
                self.at(first.at, &first.operand);
                refuse("nil is not a command")
            }
            _ => self.argument(dot, first),
        }
    }

    fn variable(&self, name: &str) -> Val<'v> {
        let found = self.variables.iter().rev().find(|(known, _)| known == name);
        found.map_or(Val::Missing, |(_, value)| value.clone())
    }

    /// The value of one word that stands alone.
    fn argument(&mut self, dot: &Val<'v>, word: &Word) -> Ran<Val<'v>> {
        self.at(word.at, &word.operand);
        match &word.operand {
            Operand::Dot => Ok(dot.clone()),
            Operand::Nil => Ok(Val::Missing),
            Operand::Bool(b) => Ok(Val::Bool(*b)),
            Operand::Number { value, .. } => Ok(match value {
                Number::Int(n) => Val::Int(*n),
                Number::Float(f) => Val::Float(*f),
            }),
            Operand::String { value, .. } => Ok(Val::Text(value.clone().into())),
            Operand::Field(fields) => self.fields(dot.clone(), fields, true),
            Operand::Variable(name, fields) => {
                let value = self.variable(name);
                self.fields(value, fields, true)
            }
            Operand::Chain(inner, fields) => {
                let value = self.argument(dot, inner)?;
                self.at(word.at, &word.operand);
                self.fields(value, fields, true)
            }
            Operand::Function(name) => {
                let command = Command {
                    words: vec![word.clone()],
                };
                self.call(dot, name, &command, &[], None)
            }
            Operand::Pipeline(pipeline) => self.pipeline(dot, pipeline),
        }
    }

    /// Follows fields below a value. `alone` says that nothing is given to the last one: it is no function.
    fn fields(&self, mut value: Val<'v>, fields: &[String], alone: bool) -> Ran<Val<'v>> {
        // of a null that is there nothing can be asked, of what is not there everything
        let mut absent = false;
        for (i, field) in fields.iter().enumerate() {
            let last = i + 1 == fields.len();
            match value {
                Val::Missing if i == 0 || absent => {
                    if !self.missing_ok {
                        return refuse(format!("nil data; no entry for key {}", api::go::quote(field)));
                    }
                    absent = true;
                }
                Val::Missing => return refuse(format!("nil pointer evaluating interface {{}}.{field}")),
                Val::Map(map) => {
                    let map: &'v serde_json::Map<String, Value> = map;
                    if last && !alone {
                        return refuse(format!("{field} is not a method but has arguments"));
                    }
                    let found = map.get(field);
                    absent = found.is_none();
                    if absent && !self.missing_ok {
                        return refuse(format!("map has no entry for key {}", api::go::quote(field)));
                    }
                    value = found.map_or(Val::Missing, Val::from);
                }
                _ if i == 0 => {
                    return refuse(format!("can't evaluate field {field} in type {}", value.type_name()));
                }
                _ => return refuse(format!("can't evaluate field {field} in type interface {{}}")),
            }
        }
        Ok(value)
    }

    fn call(
        &mut self,
        dot: &Val<'v>,
        name: &str,
        command: &Command,
        words: &[Word],
        last: Option<Val<'v>>,
    ) -> Ran<Val<'v>> {
        let given = words.len() + usize::from(last.is_some());
        functions::check_count(name, given)?;
        let place = self.place.clone();
        if matches!(name, "and" | "or") {
            let mut value = Val::Missing;
            for word in words {
                value = self.argument(dot, word)?;
                if value.is_true() == (name == "or") {
                    return Ok(value);
                }
            }
            return Ok(last.unwrap_or(value));
        }
        let mut arguments = Vec::with_capacity(given);
        for word in words {
            let value = self.argument(dot, word)?;
            if arguments.is_empty() && matches!(name, "printf" | "base64decode") && !matches!(value, Val::Text(_)) {
                return refuse(not_text(word, &value));
            }
            arguments.push(value);
        }
        if let Some(value) = last {
            if arguments.is_empty() && matches!(name, "printf" | "base64decode") && !matches!(value, Val::Text(_)) {
                self.place = place;
                return refuse(match value {
                    Val::Missing => "invalid value; expected string".to_owned(),
                    other => format!("wrong type for value; expected string; got {}", other.type_name()),
                });
            }
            arguments.push(value);
        }
        functions::call(name, arguments).map_err(|why| {
            self.place = Some((command.words[0].at, command.to_string()));
            TemplateError(format!("error calling {name}: {why}"))
        })
    }
}

fn not_text(word: &Word, value: &Val<'_>) -> String {
    match (&word.operand, value) {
        (Operand::Number { text, .. }, _) => format!("expected string; found {text}"),
        (Operand::Bool(_) | Operand::Nil, _) => format!("expected string; found {}", word.operand),
        (_, Val::Missing) => "invalid value; expected string".to_owned(),
        (_, other) => format!("wrong type for value; expected string; got {}", other.type_name()),
    }
}
