//! Unification: which types may stand for which, and what the types are that are still to be found.

use std::sync::Arc;

use crate::types::Type;

/// What is known of the types to be found. A failed attempt leaves it as it was.
#[derive(Debug, Default)]
pub(crate) struct Found {
    types: Vec<Option<Type>>,
    /// What was overwritten, to be put back.
    log: Vec<(u32, Option<Type>)>,
}

impl Found {
    /// A type that nothing is known of yet.
    pub fn fresh(&mut self) -> Type {
        self.types.push(None);
        Type::Variable(self.types.len() as u32 - 1)
    }

    fn get(&self, of: &Type) -> Option<&Type> {
        match of {
            Type::Variable(n) => self.types.get(*n as usize)?.as_ref(),
            _ => None,
        }
    }

    fn set(&mut self, variable: u32, to: Type) {
        let old = self.types[variable as usize].replace(to);
        self.log.push((variable, old));
    }

    /// Whether a value of `from` may stand where `to` is asked for; if so what follows for other types is kept.
    pub fn assignable(&mut self, to: &Type, from: &Type) -> bool {
        self.all_assignable(&[(to, from)])
    }

    /// Whether values of each second type can stand where its first is wanted, all at once; if not, nothing is found out.
    pub fn all_assignable(&mut self, pairs: &[(&Type, &Type)]) -> bool {
        let before = self.log.len();
        let all = pairs.iter().all(|(to, from)| self.try_assign(to, from));
        while !all && self.log.len() > before {
            if let Some((variable, old)) = self.log.pop() {
                self.types[variable as usize] = old;
            }
        }
        if all && before == 0 {
            self.log.clear();
        }
        all
    }

    fn try_assign(&mut self, a: &Type, b: &Type) -> bool {
        if b.is_unknown() {
            let (valid, known) = self.stand_for(a, b);
            if valid || known {
                return valid;
            }
        }
        if a.is_unknown() {
            return self.stand_for(b, a).0;
        }
        if a.is_dyn_or_error() || b.is_dyn_or_error() {
            return true;
        }
        match (a, b) {
            (Type::Null, other) | (other, Type::Null) => matches!(
                other,
                Type::Null | Type::Opaque(..) | Type::Struct(_) | Type::Duration | Type::Timestamp
            ),
            (Type::Type(_), Type::Type(_)) => true,
            (Type::List(x), Type::List(y)) => self.try_assign(x, y),
            (Type::Map(x), Type::Map(y)) => self.try_assign(&x.0, &y.0) && self.try_assign(&x.1, &y.1),
            (Type::Opaque(x, p), Type::Opaque(y, q)) => {
                x == y && p.len() == q.len() && p.iter().zip(q.iter()).all(|(s, t)| self.try_assign(s, t))
            }
            _ => a == b,
        }
    }

    /// Whether `unknown` may stand for a type, and whether it stood for one already.
    fn stand_for(&mut self, t: &Type, unknown: &Type) -> (bool, bool) {
        if t == unknown {
            return (true, true);
        }
        let Type::Variable(n) = unknown else {
            return (false, false);
        };
        if let Some(known) = self.get(unknown).cloned() {
            if *t == known {
                return (true, true);
            }
            if !self.try_assign(t, &known) {
                return (false, true);
            }
            let general = most_general(t, &known);
            if self.absent_from(unknown, &general) {
                self.set(*n, general);
            }
            return (true, true);
        }
        let fits = self.absent_from(unknown, t);
        if fits {
            self.set(*n, t.clone());
        }
        (fits, false)
    }

    /// Whether a type does not contain the unknown one.
    fn absent_from(&self, unknown: &Type, within: &Type) -> bool {
        if unknown == within {
            return false;
        }
        match within {
            Type::Variable(_) => self.get(within).is_none_or(|t| self.absent_from(unknown, t)),
            other => other.params().into_iter().all(|p| self.absent_from(unknown, p)),
        }
    }

    /// The type with what was found in place; what was not is `dyn` when `open` says so.
    pub fn resolve(&self, of: &Type, open: bool) -> Type {
        if let Some(found) = self.get(of) {
            return self.resolve(found, open);
        }
        match of {
            Type::Variable(_) | Type::Param(_) if open => Type::Dyn,
            Type::List(item) => Type::list(self.resolve(item, open)),
            Type::Map(both) => Type::map(self.resolve(&both.0, open), self.resolve(&both.1, open)),
            Type::Type(Some(inner)) => Type::Type(Some(Arc::new(self.resolve(inner, open)))),
            Type::Opaque(name, params) if !params.is_empty() => {
                Type::Opaque(name.clone(), params.iter().map(|p| self.resolve(p, open)).collect())
            }
            other => other.clone(),
        }
    }
}

/// The more general of two types that were found to agree.
pub(crate) fn most_general(a: &Type, b: &Type) -> Type {
    if less_specific(a, b) { a.clone() } else { b.clone() }
}

fn less_specific(a: &Type, b: &Type) -> bool {
    if a.is_dyn() || a.is_unknown() {
        return true;
    }
    if b.is_dyn() || b.is_unknown() {
        return false;
    }
    match (a, b) {
        (Type::Type(_), Type::Type(_)) => true,
        (Type::List(x), Type::List(y)) => less_specific(x, y),
        (Type::Map(x), Type::Map(y)) => less_specific(&x.0, &y.0) && less_specific(&x.1, &y.1),
        (Type::Opaque(x, p), Type::Opaque(y, q)) => {
            x == y && p.len() == q.len() && p.iter().zip(q.iter()).all(|(s, t)| less_specific(s, t))
        }
        _ => a == b,
    }
}

/// A declared type with fresh types for its parameters.
pub(crate) fn instantiate(of: &Type, found: &mut Found, seen: &mut Vec<(Arc<str>, Type)>) -> Type {
    match of {
        Type::Param(name) => {
            if let Some((_, known)) = seen.iter().find(|(n, _)| n == name) {
                return known.clone();
            }
            let fresh = found.fresh();
            seen.push((name.clone(), fresh.clone()));
            fresh
        }
        Type::List(item) => Type::list(instantiate(item, found, seen)),
        Type::Map(both) => {
            let key = instantiate(&both.0, found, seen);
            Type::map(key, instantiate(&both.1, found, seen))
        }
        Type::Type(Some(inner)) => Type::Type(Some(Arc::new(instantiate(inner, found, seen)))),
        Type::Opaque(name, params) => {
            let params = params.iter().map(|p| instantiate(p, found, seen)).collect();
            Type::Opaque(name.clone(), params)
        }
        other => other.clone(),
    }
}
