//! Asks the rules of a value, of what stands in it, and of how it has changed.

use serde_json::Value;

use crate::features;
use crate::field::{FieldError, FieldErrors};
use crate::schema::rules::{Change, Mode, Rule, Rules};
use crate::schema::{Field, Scalar, Schema, Shape, TypeId};

static NULL: Value = Value::Null;

/// Where a value stands. The text is made for errors alone.
#[derive(Clone, Copy)]
enum Place<'p> {
    Root,
    Field(&'p Place<'p>, &'p str),
    Index(&'p Place<'p>, usize),
    Key(&'p Place<'p>, &'p str),
}

impl Place<'_> {
    fn text(&self) -> String {
        match self {
            Place::Root => String::new(),
            Place::Field(Place::Root, name) => (*name).to_owned(),
            Place::Field(parent, name) => format!("{}.{name}", parent.text()),
            Place::Index(parent, index) => format!("{}[{index}]", parent.text()),
            Place::Key(parent, key) => format!("{}[{key}]", parent.text()),
        }
    }
}

/// A value before and after a write.
#[derive(Clone, Copy)]
struct Pair<'v> {
    new: &'v Value,
    /// What stood here, null included; nothing where this is a creation or a new item.
    old: Option<&'v Value>,
}

impl<'v> Pair<'v> {
    fn get(&self, key: &str) -> Pair<'v> {
        let at = |value: &'v Value| value.get(key).unwrap_or(&NULL);
        Pair {
            new: at(self.new),
            old: self.old.map(at),
        }
    }

    fn is_as_it_was(&self) -> bool {
        self.old == Some(self.new)
    }
}

struct Asking<'s> {
    rules: &'s Rules,
    schema: &'s Schema,
    errors: FieldErrors,
}

pub(super) fn check(rules: &Rules, schema: &Schema, root: TypeId, new: &Value, old: Option<&Value>) -> FieldErrors {
    let errors = FieldErrors::new();
    let mut asking = Asking { rules, schema, errors };
    if asking.has_rules(root) {
        asking.inside(root, &Place::Root, Pair { new, old });
    }
    asking.errors
}

impl Asking<'_> {
    fn has_rules(&self, ty: TypeId) -> bool {
        self.rules.reaching.get(ty.0 as usize).copied().unwrap_or_default()
    }

    /// Asks the rules of a struct and of all that stands in it.
    fn inside(&mut self, ty: TypeId, place: &Place<'_>, pair: Pair<'_>) {
        let (rules, schema) = (self.rules, self.schema);
        let Some(structure) = schema.structure(ty) else { return };
        let own = rules.of.get(&ty);
        if let Some(own) = own {
            self.union(&own.union, place, pair);
            self.modes(&own.modes, schema, ty, place, pair);
        }
        for at in 0..structure.fields.len() {
            let at = own.and_then(|own| own.order.get(at)).copied().unwrap_or(at);
            let Some(field) = structure.fields.get(at) else {
                continue;
            };
            if field.inline {
                self.inside(field.ty, place, pair);
                continue;
            }
            let asked = own
                .and_then(|own| own.fields.get(&field.name))
                .map_or(&[][..], Vec::as_slice);
            if asked.is_empty() && !self.has_rules(field.ty) {
                continue;
            }
            let (place, pair) = (Place::Field(place, &field.name), pair.get(&field.name));
            let before = self.errors.len();
            self.field(field, asked, &place, pair);
            self.forgive(before, pair);
        }
    }

    /// What is as it was may break rules: it is not asked again.
    fn forgive(&mut self, errors_before: usize, pair: Pair<'_>) {
        if self.errors.len() > errors_before && pair.is_as_it_was() {
            self.errors.truncate(errors_before);
        }
    }

    fn field(&mut self, field: &Field, rules: &[Rule], place: &Place<'_>, pair: Pair<'_>) {
        let mut ends = false;
        for rule in rules {
            // those that end the asking come first, and all of them are asked
            if ends && !rule.ends_asking() {
                return;
            }
            ends |= self.rule(rule, field.pointer, field.ty, place, pair) && rule.ends_asking();
        }
        if ends || !self.has_rules(field.ty) || (field.pointer && pair.new.is_null()) {
            return;
        }
        match self.schema.shape(field.ty) {
            Shape::Scalar(_) => {}
            Shape::Struct(_) => self.inside(field.ty, place, pair),
            Shape::List { item, .. } | Shape::WrappedList { item } => {
                let old = pair.old.and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
                let keys = rules.iter().find_map(Rule::keys);
                for (index, new) in pair.new.as_array().into_iter().flatten().enumerate() {
                    let old = keys.and_then(|keys| old.iter().find(|old| alike(keys, old, new)));
                    let pair = Pair { new, old };
                    let before = self.errors.len();
                    self.inside(*item, &Place::Index(place, index), pair);
                    self.forgive(before, pair);
                }
            }
            Shape::Map { value } => {
                for (key, new) in pair.new.as_object().into_iter().flatten() {
                    let pair = Pair {
                        new,
                        old: pair.old.and_then(|old| old.get(key)),
                    };
                    let before = self.errors.len();
                    self.inside(*value, &Place::Key(place, key), pair);
                    self.forgive(before, pair);
                }
            }
        }
    }

    /// Asks one rule; whether it found something, or a value that is asked nothing more.
    fn rule(&mut self, rule: &Rule, pointer: bool, ty: TypeId, place: &Place<'_>, pair: Pair<'_>) -> bool {
        let before = self.errors.len();
        let new = pair.new;
        let absent = self.is_absent(pointer, ty, new);
        match rule {
            Rule::Optional => return absent,
            Rule::Required if absent => self.errors.push(FieldError::required(place.text(), "")),
            Rule::Forbidden if !absent => self.errors.push(FieldError::forbidden(place.text(), "")),
            Rule::Immutable if pair.old.is_some_and(|old| old != new) => self.fixed(place, "field is immutable"),
            Rule::Update(change) => {
                if let Some(old) = pair.old {
                    let was = !self.is_absent(pointer, ty, old);
                    match (change, was, !absent) {
                        (Change::Set, false, true) => self.fixed(place, "field cannot be set once created"),
                        (Change::Unset, true, false) => self.fixed(place, "field cannot be cleared once set"),
                        (Change::Modify, true, true) if old != new => {
                            self.fixed(place, "field cannot be modified once set");
                        }
                        _ => {}
                    }
                }
            }
            Rule::Gated(feature, on, inner) if features::enabled(feature) == *on => {
                return self.rule(inner, pointer, ty, place, pair);
            }
            Rule::Subfield(name, inner) => {
                let schema = self.schema;
                let Some(field) = schema.field(ty, name) else {
                    return false;
                };
                let (place, pair) = (Place::Field(place, name), pair.get(name));
                let found = self.rule(inner, field.pointer, field.ty, &place, pair);
                self.forgive(before, pair);
                return found;
            }
            Rule::EachValue(inner) => self.each_value(inner, ty, place, pair),
            Rule::EachKey(inner) => {
                for (key, _) in new.as_object().into_iter().flatten() {
                    if pair.old.is_none_or(|old| old.get(key).is_none()) {
                        let key = Value::from(key.as_str());
                        self.errors.extend(value_errors(inner, place, &key));
                    }
                }
            }
            Rule::Unique(keys) => self.unique(keys, place, new),
            Rule::AtMostOneItem(items) => self.at_most_one_item(items, place, pair),
            Rule::MaxItems(most) => {
                let count = new.as_array().map_or(0, Vec::len);
                if count > *most {
                    self.errors.push(FieldError::too_many(place.text(), count, *most));
                }
            }
            // the zero of a value that is no pointer is a value
            other if !new.is_null() || !pointer => {
                let zero = self.zero(ty);
                let value = if new.is_null() { &zero } else { new };
                self.errors.extend(value_errors(other, place, value));
            }
            _ => {}
        }
        self.errors.len() > before
    }

    /// The value is fine, its change is not.
    fn fixed(&mut self, place: &Place<'_>, why: &str) {
        self.errors.push(FieldError::unfit(place.text(), why).shown("null"));
    }

    fn zero(&self, ty: TypeId) -> Value {
        match self.schema.shape(ty) {
            Shape::Scalar(Scalar::Int32 | Scalar::Int64) => Value::from(0),
            Shape::Scalar(_) => Value::from(""),
            _ => Value::Null,
        }
    }

    /// Whether Go's zero stands here: no pointer, an empty list or map, an empty text.
    fn is_absent(&self, pointer: bool, ty: TypeId, value: &Value) -> bool {
        if pointer {
            return value.is_null();
        }
        match value {
            Value::Null => !matches!(self.schema.shape(ty), Shape::Struct(_)),
            Value::String(text) => text.is_empty(),
            Value::Array(list) => list.is_empty(),
            Value::Object(map) => map.is_empty() && matches!(self.schema.shape(ty), Shape::Map { .. }),
            Value::Bool(flag) => !flag,
            Value::Number(number) => number.as_i64() == Some(0),
        }
    }

    fn each_value(&mut self, inner: &Rule, ty: TypeId, place: &Place<'_>, pair: Pair<'_>) {
        let old = pair.old.and_then(Value::as_array);
        for (index, value) in pair.new.as_array().into_iter().flatten().enumerate() {
            let Shape::List { item, .. } = self.schema.shape(ty) else {
                return;
            };
            let was_there = old.is_some_and(|old| old.contains(value));
            if !was_there && matches!(self.schema.shape(*item), Shape::Scalar(_)) {
                self.errors
                    .extend(value_errors(inner, &Place::Index(place, index), value));
            }
        }
    }

    fn unique(&mut self, keys: &[Box<str>], place: &Place<'_>, list: &Value) {
        let items = list.as_array().map_or(&[][..], Vec::as_slice);
        for (index, item) in items.iter().enumerate() {
            if items[..index].iter().any(|before| alike(keys, before, item)) {
                let place = Place::Index(place, index);
                self.errors.push(FieldError::duplicate(place.text(), item.clone()));
            }
        }
    }

    fn union(&mut self, members: &[Box<str>], place: &Place<'_>, pair: Pair<'_>) {
        let is_set = |of: &Value, name: &str| match of.get(name) {
            None | Some(Value::Null) => false,
            Some(Value::Array(list)) => !list.is_empty(),
            Some(_) => true,
        };
        let names: Vec<String> = members.iter().map(|name| name.to_string()).collect();
        self.one_of(&names, place, pair, "exactly one of", |of, index| {
            members.get(index).is_some_and(|name| is_set(of, name))
        });
    }

    fn at_most_one_item(&mut self, items: &[(Box<str>, Box<str>)], place: &Place<'_>, pair: Pair<'_>) {
        let last = match place {
            Place::Field(_, name) => name,
            _ => "",
        };
        let name = |(key, value): &(Box<str>, Box<str>)| format!("{last}[{{\"{key}\": \"{value}\"}}]");
        let names: Vec<String> = items.iter().map(name).collect();
        self.one_of(&names, place, pair, "at most one of", |of, index| {
            let has = |item: &Value| {
                items
                    .get(index)
                    .is_some_and(|(key, value)| item.get(&**key) == Some(&Value::from(&**value)))
            };
            of.as_array().is_some_and(|list| list.iter().any(has))
        });
    }

    /// Of some members one is there. Which ones are is asked again only when it changes.
    fn one_of(
        &mut self,
        names: &[String],
        place: &Place<'_>,
        pair: Pair<'_>,
        how_many: &str,
        is_set: impl Fn(&Value, usize) -> bool,
    ) {
        if names.is_empty() {
            return;
        }
        let set = |of: &Value| (0..names.len()).filter(|&i| is_set(of, i)).collect::<Vec<_>>();
        let now = set(pair.new);
        if pair.old.filter(|old| !old.is_null()).is_some_and(|old| set(old) == now) {
            return;
        }
        let all: Vec<String> = names.iter().map(|name| format!("`{name}`")).collect();
        let all = all.join(", ");
        if now.len() > 1 {
            let shown: Vec<&str> = now.iter().filter_map(|&i| names.get(i)).map(String::as_str).collect();
            let shown = Value::from(format!("{{{}}}", shown.join(", ")));
            let why = format!("must specify {how_many}: {all}");
            self.errors.push(FieldError::invalid(place.text(), shown, why));
        } else if now.is_empty() && how_many.starts_with("exactly") {
            let why = format!("must specify one of: {all}");
            self.errors.push(FieldError::invalid(place.text(), "".into(), why));
        }
    }

    fn modes(&mut self, modes: &[Mode], schema: &Schema, ty: TypeId, place: &Place<'_>, pair: Pair<'_>) {
        let mut asked: Vec<&str> = Vec::new();
        for mode in modes {
            if asked.contains(&&*mode.member) {
                continue;
            }
            asked.push(&mode.member);
            let (member, decides) = (pair.get(&mode.member), pair.get(&mode.discriminator));
            let Some(field) = schema.field(ty, &mode.member) else {
                continue;
            };
            if decides.is_as_it_was() && member.is_as_it_was() {
                continue;
            }
            let rule = modes
                .iter()
                .find(|m| m.member == mode.member && decides.new.as_str() == Some(&m.value))
                .map_or(&Rule::Forbidden, |m| &m.rule);
            self.rule(
                rule,
                field.pointer,
                field.ty,
                &Place::Field(place, &mode.member),
                member,
            );
        }
    }
}

impl Rule {
    /// Whether nothing more is asked of a value of which this found something.
    fn ends_asking(&self) -> bool {
        match self {
            Rule::Required
            | Rule::Optional
            | Rule::Forbidden
            | Rule::Immutable
            | Rule::Update(_)
            | Rule::MaxItems(_) => true,
            Rule::Subfield(_, inner) | Rule::Gated(_, _, inner) => inner.ends_asking(),
            _ => false,
        }
    }

    fn keys(&self) -> Option<&[Box<str>]> {
        match self {
            Rule::Unique(keys) | Rule::Match(keys) => Some(keys),
            _ => None,
        }
    }
}

/// Whether two items are the same by these keys; without keys, whether they are equal.
fn alike(keys: &[Box<str>], one: &Value, other: &Value) -> bool {
    match keys {
        [] => one == other,
        keys => keys.iter().all(|key| one.get(&**key) == other.get(&**key)),
    }
}

/// What a rule of a value by itself finds.
fn value_errors(rule: &Rule, place: &Place<'_>, value: &Value) -> Vec<FieldError> {
    let text = value.as_str().unwrap_or_default();
    let broken = match rule {
        Rule::MaxLength(most) => {
            (text.chars().count() > *most).then(|| FieldError::too_many_characters(place.text(), *most))
        }
        Rule::MaxBytes(most) => (text.len() > *most).then(|| FieldError::too_long(place.text(), *most)),
        Rule::Minimum(least) => value.as_i64().filter(|n| n < least).map(|n| {
            FieldError::invalid(
                place.text(),
                n.into(),
                format!("must be greater than or equal to {least}"),
            )
        }),
        Rule::Maximum(most) => value
            .as_i64()
            .filter(|n| n > most)
            .map(|n| FieldError::invalid(place.text(), n.into(), format!("must be less than or equal to {most}"))),
        Rule::Enum(values) => (!values.iter().any(|known| **known == *text)).then(|| {
            let values: Vec<&str> = values.iter().map(|v| &**v).collect();
            FieldError::not_supported(place.text(), text.into(), &values)
        }),
        Rule::Format(format) => return format.errors(&place.text(), text),
        _ => None,
    };
    broken.into_iter().collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::gvk::GroupVersionKind;

    fn found(group: &str, kind: &str, new: &Value, old: Option<&Value>) -> Vec<String> {
        let schema = Schema::builtin();
        let root = schema.type_for(&GroupVersionKind::new(group, "v1", kind)).unwrap();
        let errors = Rules::builtin().unwrap().check(schema, root, new, old);
        errors.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn fields_are_asked_in_the_order_of_upstreams_source() {
        let slice = json!({ "metadata": { "name": "s" }, "addressType": "IPv9", "endpoints": [{}] });
        assert_eq!(
            found("discovery.k8s.io", "EndpointSlice", &slice, None),
            [
                "addressType: Unsupported value: \"IPv9\": supported values: \"FQDN\", \"IPv4\", \"IPv6\"",
                "endpoints[0].addresses: Required value"
            ]
        );
    }

    fn claim(devices: Value) -> Value {
        json!({ "metadata": { "name": "c" }, "spec": { "devices": devices } })
    }

    #[test]
    fn lists_are_short_and_their_items_differ() {
        let request =
            |name: &str| json!({ "name": name, "exactly": { "deviceClassName": "c", "allocationMode": "All" } });
        let of = |list: Vec<Value>| claim(json!({ "requests": list }));
        assert!(
            found(
                "resource.k8s.io",
                "ResourceClaim",
                &of(vec![request("a"), request("b")]),
                None
            )
            .is_empty()
        );
        let errors = found(
            "resource.k8s.io",
            "ResourceClaim",
            &of(vec![request("a"), request("a")]),
            None,
        );
        assert!(
            errors[0].starts_with("spec.devices.requests[1]: Duplicate value: {"),
            "{errors:?}"
        );
        let errors = found(
            "resource.k8s.io",
            "ResourceClaim",
            &of((0..33).map(|i| request(&format!("r{i}"))).collect()),
            None,
        );
        assert_eq!(
            errors,
            ["spec.devices.requests: Too many: 33: must have at most 32 items"]
        );
    }

    #[test]
    fn what_is_fixed_stays_and_what_was_there_is_not_asked_again() {
        let bad = claim(
            json!({ "requests": [{ "name": "a", "firstAvailable": [{ "name": "b", "deviceClassName": "_" }] }] }),
        );
        let errors = found("resource.k8s.io", "ResourceClaim", &bad, None);
        assert!(
            errors
                .iter()
                .any(|e| e.starts_with("spec.devices.requests[0].firstAvailable[0].deviceClassName: Invalid value"))
        );
        assert_eq!(found("resource.k8s.io", "ResourceClaim", &bad, Some(&bad)), [""; 0]);
        let other = claim(json!({}));
        let errors = found("resource.k8s.io", "ResourceClaim", &other, Some(&bad));
        assert_eq!(errors, ["spec: Invalid value: null: field is immutable"]);
    }

    #[test]
    fn a_member_of_a_union_is_there_by_itself() {
        let slice = |attribute: Value| {
            json!({ "spec": { "driver": "a.b", "pool": { "name": "p", "resourceSliceCount": 1 }, "nodeName": "n",
                "devices": [{ "name": "d", "attributes": { "x": attribute } }] } })
        };
        assert!(found("resource.k8s.io", "ResourceSlice", &slice(json!({ "int": 1 })), None).is_empty());
        let place = "spec.devices[0].attributes[x]: Invalid value:";
        let errors = found("resource.k8s.io", "ResourceSlice", &slice(json!({})), None);
        assert!(
            errors[0].starts_with(&format!("{place} \"\": must specify one of: `int`")),
            "{errors:?}"
        );
        let errors = found(
            "resource.k8s.io",
            "ResourceSlice",
            &slice(json!({ "int": 1, "bool": true })),
            None,
        );
        assert!(
            errors[0].starts_with(&format!("{place} \"{{int, bool}}\": must specify exactly one of")),
            "{errors:?}"
        );
    }

    #[test]
    fn a_mode_decides_who_is_there() {
        let level = |spec: Value| json!({ "spec": spec });
        let group = "flowcontrol.apiserver.k8s.io";
        let errors = found(
            group,
            "PriorityLevelConfiguration",
            &level(json!({ "type": "Limited" })),
            None,
        );
        assert_eq!(errors, ["spec.limited: Required value"]);
        let errors = found(
            group,
            "PriorityLevelConfiguration",
            &level(json!({ "type": "Limited", "limited": {}, "exempt": {} })),
            None,
        );
        assert_eq!(
            errors,
            [
                "spec.exempt: Forbidden",
                "spec.limited.limitResponse.type: Required value"
            ]
        );
    }

    #[test]
    fn a_value_has_its_format_range_and_place_among_few() {
        let taint = |effect: &str| json!({ "spec": { "taint": { "key": "k", "effect": effect } } });
        let errors = found("resource.k8s.io", "DeviceTaintRule", &taint("Other"), None);
        let want = "spec.taint.effect: Unsupported value: \"Other\": supported values: \"NoExecute\", \"NoSchedule\", \"None\"";
        assert_eq!(errors, [want]);
        let errors = found(
            "",
            "ReplicationController",
            &json!({ "metadata": { "name": "A" }, "spec": { "replicas": -1 } }),
            None,
        );
        assert!(
            errors[0].starts_with("metadata.name: Invalid value: \"A\": a lowercase RFC 1123 subdomain"),
            "{errors:?}"
        );
        assert_eq!(
            errors[1],
            "spec.replicas: Invalid value: -1: must be greater than or equal to 0"
        );
    }
}
