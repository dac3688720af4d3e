//! Reads `data/rules.txt`. Regenerate with `gen/rules.py`.

use std::collections::HashMap;

use crate::schema::rules::{Change, Format, Mode, Rule, Rules, TypeRules};
use crate::schema::{Field, Schema, Shape, TypeId};

/// Why the table cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TableError {
    /// It has rules of a type that the schema does not have.
    #[error("no type {0}")]
    NoType(String),
    /// A rule stands before the first type.
    #[error("a rule of no type")]
    OfNoType,
    /// A line says what no rule says.
    #[error("cannot read {0:?}")]
    Line(String),
}

/// Reads the table. A line that cannot be read is an error: a rule that is passed over would let everything through.
pub(super) fn read(table: &str, schema: &Schema) -> Result<Rules, TableError> {
    let mut of = HashMap::new();
    let mut current = None;
    let mut names: HashMap<TypeId, Vec<&str>> = HashMap::new();
    for line in table.lines() {
        if let Some(name) = line.strip_prefix("type ") {
            let id = schema
                .type_named(name)
                .ok_or_else(|| TableError::NoType(name.to_owned()))?;
            of.insert(id, TypeRules::default());
            current = Some(id);
            continue;
        }
        let rules = current.and_then(|id| of.get_mut(&id)).ok_or(TableError::OfNoType)?;
        line_of(rules, line).ok_or_else(|| TableError::Line(line.to_owned()))?;
        if let Some((id, (name, _))) = current.zip(line.trim_start().split_once(' ')) {
            names.entry(id).or_default().push(name);
        }
    }
    for (id, rules) in &mut of {
        let names = names.remove(id).unwrap_or_default();
        rules.order = order(&names, schema, *id);
    }
    let mut rules = Rules {
        of,
        reaching: Vec::new(),
    };
    rules.reaching = reaching(&rules, schema);
    Ok(rules)
}

fn line_of(rules: &mut TypeRules, line: &str) -> Option<()> {
    let (field, text) = line.strip_prefix(' ')?.split_once(' ')?;
    if let Some(features) = text.strip_prefix("gates=") {
        rules.gates.insert(field.into(), names(features));
        return Some(());
    }
    if field != "." {
        rules.fields.entry(field.into()).or_default().push(rule(text)?);
        return Some(());
    }
    if let Some(members) = text.strip_prefix("union=") {
        rules.union = names(members);
    } else {
        let mut words = text.strip_prefix("mode ")?.splitn(4, ' ');
        let (discriminator, value, member) = (words.next()?, words.next()?, words.next()?);
        let mode = Mode {
            discriminator: discriminator.into(),
            value: value.into(),
            member: member.into(),
            rule: rule(words.next()?)?,
        };
        rules.modes.push(mode);
    }
    Some(())
}

fn names(list: &str) -> Vec<Box<str>> {
    list.split(',')
        .filter(|name| !name.is_empty())
        .map(Into::into)
        .collect()
}

fn rule(text: &str) -> Option<Rule> {
    let nested = |inner: &str| Some(Box::new(rule(inner)?));
    if let Some((word, rest)) = text.split_once(' ') {
        return Some(match word {
            "eachVal" => Rule::EachValue(nested(rest)?),
            "eachKey" => Rule::EachKey(nested(rest)?),
            "atMostOneItem" => {
                let items = rest.split(' ').map(|item| item.split_once(':'));
                let items = items.map(|item| item.map(|(key, value)| (key.into(), value.into())));
                Rule::AtMostOneItem(items.collect::<Option<_>>()?)
            }
            _ => {
                let (name, inner) = rest.split_once(' ')?;
                match word {
                    "subfield" => Rule::Subfield(name.into(), nested(inner)?),
                    "ifEnabled" => Rule::Gated(name.into(), true, nested(inner)?),
                    "ifDisabled" => Rule::Gated(name.into(), false, nested(inner)?),
                    _ => return None,
                }
            }
        });
    }
    let (word, value) = text.split_once('=').unwrap_or((text, ""));
    Some(match word {
        "required" => Rule::Required,
        "optional" => Rule::Optional,
        "forbidden" => Rule::Forbidden,
        "immutable" => Rule::Immutable,
        "update" => Rule::Update(match value {
            "NoSet" => Change::Set,
            "NoUnset" => Change::Unset,
            "NoModify" => Change::Modify,
            _ => return None,
        }),
        "maxItems" => Rule::MaxItems(value.parse().ok()?),
        "maxLength" => Rule::MaxLength(value.parse().ok()?),
        "maxBytes" => Rule::MaxBytes(value.parse().ok()?),
        "minimum" => Rule::Minimum(value.parse().ok()?),
        "maximum" => Rule::Maximum(value.parse().ok()?),
        "format" => Rule::Format(Format::named(value)?),
        "enum" => Rule::Enum(value.split('|').map(Into::into).collect()),
        "unique" => Rule::Unique(names(value)),
        "match" => Rule::Match(names(value)),
        _ => return None,
    })
}

/// The places of a struct's fields, of which those that are named stand in the order of their names.
fn order(names: &[&str], schema: &Schema, id: TypeId) -> Vec<usize> {
    let Some(structure) = schema.structure(id) else {
        return Vec::new();
    };
    let place = |name: &&str| names.iter().position(|other| other == name);
    let mut named: Vec<(usize, usize)> = Vec::new();
    for (at, field) in structure.fields.iter().enumerate() {
        named.extend(place(&&*field.name).map(|rank| (rank, at)));
    }
    named.sort_unstable();
    let mut named = named.into_iter().map(|(_, at)| at);
    let next = |(at, field): (usize, &Field)| match place(&&*field.name) {
        Some(_) => named.next().unwrap_or(at),
        None => at,
    };
    structure.fields.iter().enumerate().map(next).collect()
}

/// Of each type, whether it or a type in it has rules.
fn reaching(rules: &Rules, schema: &Schema) -> Vec<bool> {
    let mut found: Vec<bool> = (0..schema.types.len())
        .map(|i| rules.of.contains_key(&TypeId(i as u32)))
        .collect();
    loop {
        let reaches = |shape: &Shape, found: &[bool]| match shape {
            Shape::Scalar(_) => false,
            Shape::List { item, .. } | Shape::WrappedList { item } => found[item.0 as usize],
            Shape::Map { value } => found[value.0 as usize],
            Shape::Struct(s) => s.fields.iter().any(|f| found[f.ty.0 as usize]),
        };
        let more: Vec<usize> = (0..found.len())
            .filter(|&i| !found[i] && reaches(&schema.types[i].shape, &found))
            .collect();
        if more.is_empty() {
            return found;
        }
        more.into_iter().for_each(|i| found[i] = true);
    }
}
