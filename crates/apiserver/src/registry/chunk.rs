//! One chunk of a list: a walk over a resource's objects from a key on, as they were before some changes.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

use crate::registry::cached::Cached;

/// The part of a resource that one chunk of a list asks for.
#[derive(Debug, Clone, Copy)]
pub struct Range<'a> {
    /// Empty for all.
    pub namespace: &'a str,
    /// The first key, if not the first of all.
    pub start: Option<&'a str>,
    /// How many objects at most; 0 for all.
    pub limit: usize,
}

/// One chunk of a list.
#[derive(Debug, Default)]
pub struct Chunk {
    pub items: Vec<Arc<Cached>>,
    /// The key that the next chunk begins with, if there is one.
    pub next: Option<String>,
    /// How many objects there are from `next` on, whether they match or not.
    pub rest: usize,
}

/// What objects were before they changed; `None` for one that was not there.
pub type Before = BTreeMap<String, Option<Arc<Cached>>>;

impl Chunk {
    /// The objects of a range that match. Costs what is looked at; `rest` is counted only when it is asked for.
    pub fn of(
        objects: &BTreeMap<Box<str>, Arc<Cached>>,
        before: &Before,
        range: Range<'_>,
        count: bool,
        mut matches: impl FnMut(&Arc<Cached>) -> bool,
    ) -> Chunk {
        let (mut from, to) = match range.namespace {
            "" => (String::new(), Bound::Unbounded),
            // '0' follows '/'
            namespace => (format!("{namespace}/"), Bound::Excluded(format!("{namespace}0"))),
        };
        if let Some(start) = range.start.filter(|s| *s > from.as_str()) {
            start.clone_into(&mut from);
        }
        if let Bound::Excluded(to) = &to
            && from >= *to
        {
            // a client's token may begin anywhere, also after the namespace: no map has such a range
            return Chunk::default();
        }
        let boxed = |bound: &Bound<String>| bound.as_ref().map(|key| Box::<str>::from(key.as_str()));
        let current = objects.range((Bound::Included(Box::from(from.as_str())), boxed(&to)));
        let replaced = before.range((Bound::Included(from), to));
        let whole = range.namespace.is_empty() && range.start.is_none() && before.is_empty();
        let mut seen = Merged {
            current: current.peekable(),
            replaced: replaced.peekable(),
        };
        let mut chunk = Chunk::default();
        let mut passed = 0;
        for object in &mut seen {
            if !matches(object) {
                passed += 1;
                continue;
            }
            if range.limit > 0 && chunk.items.len() == range.limit {
                chunk.next = Some(object.object.key());
                if count {
                    let all = whole.then(|| objects.len() - chunk.items.len() - passed);
                    chunk.rest = all.unwrap_or_else(|| 1 + seen.count());
                }
                break;
            }
            chunk.items.push(object.clone());
        }
        chunk
    }
}

/// Objects by key, some of which are replaced by what they were before, or by nothing.
struct Merged<
    'a,
    C: Iterator<Item = (&'a Box<str>, &'a Arc<Cached>)>,
    R: Iterator<Item = (&'a String, &'a Option<Arc<Cached>>)>,
> {
    current: std::iter::Peekable<C>,
    replaced: std::iter::Peekable<R>,
}

impl<'a, C, R> Iterator for Merged<'a, C, R>
where
    C: Iterator<Item = (&'a Box<str>, &'a Arc<Cached>)>,
    R: Iterator<Item = (&'a String, &'a Option<Arc<Cached>>)>,
{
    type Item = &'a Arc<Cached>;

    fn next(&mut self) -> Option<&'a Arc<Cached>> {
        loop {
            let Some((place, before)) = self.replaced.peek().copied() else {
                return self.current.next().map(|(_, object)| object);
            };
            match self.current.peek() {
                Some((key, _)) if key.as_ref() < place.as_str() => {
                    return self.current.next().map(|(_, object)| object);
                }
                Some((key, _)) if key.as_ref() == place.as_str() => {
                    self.current.next();
                }
                _ => {}
            }
            self.replaced.next();
            if let Some(before) = before {
                return Some(before);
            }
        }
    }
}
