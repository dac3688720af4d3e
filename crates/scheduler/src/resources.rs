//! Amounts of resources as small vectors of integers.

use std::collections::{BTreeMap, HashMap};

use api::quantity::Quantity;
use smallvec::SmallVec;

/// Numbers for strings that are compared often: label keys and values, names of extended resources.
#[derive(Debug, Default)]
pub struct Interner {
    ids: HashMap<Box<str>, u32>,
    texts: Vec<Box<str>>,
}

impl Interner {
    pub fn id(&mut self, text: &str) -> u32 {
        if let Some(id) = self.ids.get(text) {
            return *id;
        }
        let id = u32::try_from(self.texts.len()).unwrap_or(u32::MAX);
        self.ids.insert(text.into(), id);
        self.texts.push(text.into());
        id
    }

    pub fn text(&self, id: u32) -> &str {
        self.texts.get(id as usize).map_or("", |t| t)
    }
}

/// CPU in thousandths, memory and storage in bytes, extended resources by number.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Resources {
    pub cpu: i64,
    pub memory: i64,
    pub ephemeral_storage: i64,
    /// Sorted by interned name.
    pub scalars: SmallVec<[(u32, i64); 2]>,
}

impl Resources {
    /// Reads a `ResourceList`. `pods` and what cannot be read as a quantity is left out: the API server validated it.
    pub fn of(list: &BTreeMap<String, String>, interner: &mut Interner) -> Resources {
        let mut resources = Resources::default();
        for (name, text) in list {
            let Ok(quantity) = text.parse::<Quantity>() else {
                continue;
            };
            match name.as_str() {
                "cpu" => resources.cpu = quantity.milli_value(),
                "memory" => resources.memory = quantity.value(),
                "ephemeral-storage" => resources.ephemeral_storage = quantity.value(),
                "pods" => {}
                name => resources.scalars.push((interner.id(name), quantity.value())),
            }
        }
        resources.scalars.sort_unstable();
        resources
    }

    pub fn scalar(&self, id: u32) -> i64 {
        self.scalars.iter().find(|(i, _)| *i == id).map_or(0, |(_, v)| *v)
    }

    fn combine(&mut self, other: &Resources, with: impl Fn(i64, i64) -> i64) {
        self.cpu = with(self.cpu, other.cpu);
        self.memory = with(self.memory, other.memory);
        self.ephemeral_storage = with(self.ephemeral_storage, other.ephemeral_storage);
        for (id, value) in &other.scalars {
            match self.scalars.iter_mut().find(|(i, _)| i == id) {
                Some((_, mine)) => *mine = with(*mine, *value),
                None => self.scalars.push((*id, with(0, *value))),
            }
        }
        self.scalars.sort_unstable();
    }

    pub fn add(&mut self, other: &Resources) {
        self.combine(other, i64::saturating_add);
    }

    pub fn sub(&mut self, other: &Resources) {
        self.combine(other, i64::saturating_sub);
    }

    /// The larger of each.
    pub fn max(&mut self, other: &Resources) {
        self.combine(other, i64::max);
    }
}
