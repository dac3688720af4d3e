//! Go templates: `-o go-template`. The language of `text/template` over an object as JSON has it.

mod error;
mod exec;
mod functions;
mod lex;
mod literal;
mod node;
mod parse;
mod printf;
mod value;

#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::sync::Arc;

use serde_json::Value;

pub use error::TemplateError;
pub use exec::Failed;

/// The name that kubectl gives a template, which its errors show.
const NAME: &str = "output";

/// A template that was read.
#[derive(Debug, Clone)]
pub struct Template {
    text: Arc<str>,
    templates: Arc<HashMap<String, Vec<node::Node>>>,
    missing_ok: bool,
}

impl Template {
    /// Reads a template.
    ///
    /// # Errors
    /// `template: output:LINE: ...` for a text that is no template.
    pub fn parse(text: &str) -> Result<Template, TemplateError> {
        Ok(Template {
            text: text.into(),
            templates: Arc::new(parse::parse(NAME, text)?),
            missing_ok: true,
        })
    }

    /// Sets that an absent key has no value, instead of being an error.
    #[must_use]
    pub fn allow_missing(mut self, yes: bool) -> Template {
        self.missing_ok = yes;
        self
    }

    /// The text that it was read from.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// An object as templates print it.
    pub fn shown(&self, object: &Value) -> String {
        value::Val::from(object).shown()
    }

    /// The text that the template makes of an object.
    ///
    /// # Errors
    /// The reason, and the text made up to there.
    pub fn execute(&self, object: &Value) -> Result<String, Failed> {
        exec::run(&self.templates, NAME, &self.text, object, self.missing_ok)
    }
}
