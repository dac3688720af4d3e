//! Lists of the parts of one text: a split text takes eight bytes a part, not a value.

use std::sync::Arc;

use super::{Text, Value};

/// Parts of a text, by where each begins and ends.
#[derive(Debug)]
pub struct Parts<'a> {
    text: Text<'a>,
    bounds: Vec<(u32, u32)>,
}

impl<'a> Parts<'a> {
    /// The parts of a text of less than 4 GiB between these places, which are borders of characters.
    pub(crate) fn new(text: Text<'a>, bounds: Vec<(u32, u32)>) -> Arc<Parts<'a>> {
        Arc::new(Parts { text, bounds })
    }

    pub(super) fn len(&self) -> usize {
        self.bounds.len()
    }

    pub(super) fn get(&self, at: usize) -> Option<Value<'a>> {
        let (start, end) = *self.bounds.get(at)?;
        let (start, end) = (start as usize, end as usize);
        Some(match &self.text {
            Text::Borrowed(text) => Value::String(Text::Borrowed(&text[start..end])),
            Text::Owned(text) => Value::text(&text[start..end]),
        })
    }
}
