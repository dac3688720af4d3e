//! Amounts of resources as integers.

use std::collections::BTreeMap;

use api::quantity::Quantity;

/// CPU in thousandths, memory and storage in bytes, extended resources by name.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Resources {
    pub cpu: i64,
    pub memory: i64,
    pub ephemeral_storage: i64,
    /// Sorted by name.
    pub scalars: Vec<(Box<str>, i64)>,
}

impl Resources {
    /// Reads a `ResourceList`. `pods` and what cannot be read as a quantity is left out: the API server validated it.
    pub fn of(list: &BTreeMap<String, String>) -> Resources {
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
                name => resources.scalars.push((name.into(), quantity.value())),
            }
        }
        resources
    }

    /// The amount of an extended resource; 0 where there is none.
    pub fn scalar(&self, name: &str) -> i64 {
        self.scalars.iter().find(|(n, _)| **n == *name).map_or(0, |(_, v)| *v)
    }

    fn combine(&mut self, other: &Resources, with: impl Fn(i64, i64) -> i64) {
        self.cpu = with(self.cpu, other.cpu);
        self.memory = with(self.memory, other.memory);
        self.ephemeral_storage = with(self.ephemeral_storage, other.ephemeral_storage);
        for (name, value) in &other.scalars {
            match self.scalars.binary_search_by(|(n, _)| n.cmp(name)) {
                Ok(at) => self.scalars[at].1 = with(self.scalars[at].1, *value),
                Err(at) => self.scalars.insert(at, (name.clone(), with(0, *value))),
            }
        }
    }

    /// Adds other amounts to these.
    pub fn add(&mut self, other: &Resources) {
        self.combine(other, i64::saturating_add);
    }

    /// Takes other amounts from these.
    pub fn sub(&mut self, other: &Resources) {
        self.combine(other, i64::saturating_sub);
        // a name is kept for as long as somebody asks for it
        self.scalars.retain(|(_, value)| *value != 0);
    }

    /// The larger of each.
    pub fn max(&mut self, other: &Resources) {
        self.combine(other, i64::max);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resources(list: &[(&str, &str)]) -> Resources {
        Resources::of(&list.iter().map(|(n, q)| ((*n).into(), (*q).into())).collect())
    }

    #[test]
    fn nothing_is_left_of_extended_resources_that_nobody_asks_for() {
        let mut sum = Resources::default();
        let (one, two) = (
            resources(&[("cpu", "1"), ("example.com/b", "2")]),
            resources(&[("example.com/a", "1"), ("example.com/b", "3")]),
        );
        sum.add(&one);
        sum.add(&two);
        assert_eq!((sum.scalar("example.com/a"), sum.scalar("example.com/b")), (1, 5));
        sum.sub(&two);
        assert_eq!(sum, one);
        sum.sub(&one);
        assert_eq!(sum, Resources::default());
    }
}
