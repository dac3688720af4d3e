//! Server-side apply: who manages which field, applying a configuration, and conflicts. KEP-555. The rules are those of
//! structured-merge-diff and of `managedfields` in apimachinery.

mod atomics;
mod compare;
pub mod field_set;
mod last_applied;
mod managed;
mod merge;
mod place;
mod prune;
mod walk;

use serde_json::{Map, Value, json};

use crate::schema::{Schema, TypeId};
pub use atomics::atomics;
use compare::Comparison;
use field_set::{FieldSet, Step};
use managed::Managed;
pub use managed::ManagedFieldsError;
pub use merge::merge_objects;
pub use place::Place;

/// The fields that a path of writing never changes, and that nobody comes to manage by it.
#[derive(Debug, Clone, Copy)]
pub enum Reset {
    /// These and all below them.
    Except(&'static [&'static [&'static str]]),
    /// All but these and what is below them; `*` stands for any step.
    AllBut(&'static [&'static [&'static str]]),
}

impl Reset {
    /// Every field may be written.
    pub const NOTHING: Reset = Reset::Except(&[]);

    fn filter(self, set: &mut FieldSet) {
        match self {
            Reset::Except(paths) => paths.iter().for_each(|path| set.cut(path)),
            Reset::AllBut(paths) => set.keep_below(paths),
        }
    }
}

/// Who writes, and how.
#[derive(Debug, Clone)]
pub struct ManagerContext {
    /// The name of the writer: `fieldManager` of the request, or the beginning of its user agent.
    pub manager: String,
    /// `Apply` or `Update`.
    pub operation: String,
    /// Empty for the object itself.
    pub subresource: String,
    /// The version that the writer speaks, as `apps/v1`.
    pub api_version: String,
    /// RFC 3339.
    pub now: String,
    /// Fields of other managers are taken from them in place of a conflict.
    pub force: bool,
    /// The fields that this way of writing leaves alone.
    pub reset: Reset,
}

/// The other versions of a kind: managed fields are recorded in the version of their writer.
pub trait Versions {
    /// The type of the kind's objects in a version, unless it is served no more.
    fn type_in(&self, api_version: &str) -> Option<(&Schema, TypeId)>;
    /// An object of one version in another; `None` when one of them is served no more.
    ///
    /// # Errors
    /// When who converts it cannot.
    fn convert(&self, tree: Value, from: &str, to: &str) -> Result<Option<Value>, Unconverted>;
}

/// An object cannot be had in another version: the words of the webhook that converts its kind.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Unconverted(pub String);

/// What is written: a type in the version of the request, and its other versions.
#[derive(Clone, Copy)]
pub struct Target<'s> {
    schema: &'s Schema,
    root: TypeId,
    versions: Option<(&'s str, &'s dyn Versions)>,
}

/// The type of a target in one of its versions.
struct Version<'s> {
    place: Place<'s>,
}

impl<'s> Target<'s> {
    /// A kind that has one version.
    pub fn new(schema: &'s Schema, root: TypeId) -> Target<'s> {
        Target {
            schema,
            root,
            versions: None,
        }
    }

    /// A kind in the version `api_version`, with others beside it.
    #[must_use]
    pub fn with_versions(self, api_version: &'s str, versions: &'s dyn Versions) -> Target<'s> {
        let versions = Some((api_version, versions));
        Target { versions, ..self }
    }

    fn place(&self) -> Place<'s> {
        Place::root(self.schema, self.root)
    }

    fn version(&self, api_version: &str) -> Option<Version<'s>> {
        let place = match self.versions {
            None => self.place(),
            Some((own, _)) if own == api_version => self.place(),
            Some((_, versions)) => {
                let (schema, root) = versions.type_in(api_version)?;
                Place::root(schema, root)
            }
        };
        Some(Version { place })
    }

    fn convert(&self, tree: Value, from: &str, to: &str) -> Result<Option<Value>, ApplyError> {
        match self.versions {
            Some((_, versions)) if from != to => Ok(versions.convert(tree, from, to)?),
            _ => Ok(Some(tree)),
        }
    }
}

/// A field of an apply that another manager has set otherwise.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Conflict {
    /// `"kubectl" using apps/v1`
    pub manager: String,
    path: Vec<Step>,
}

impl Conflict {
    /// `.spec.replicas`
    pub fn field(&self) -> String {
        field_set::show(&self.path)
    }
}

/// Why a configuration cannot be applied.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ApplyError {
    /// Fields that other managers have would change, and the writer does not force it.
    #[error("{}", conflict_message(.0))]
    Conflicts(Vec<Conflict>),
    /// The configuration has items twice, or values of another type: each with its path.
    #[error("{}", several(.0))]
    Configuration(Vec<String>),
    /// `metadata.managedFields` of the object is not of its shape.
    #[error("failed to decode managed fields: {0}")]
    ManagedFields(#[from] ManagedFieldsError),
    /// The object cannot be had in the version of a manager.
    #[error(transparent)]
    Unconverted(#[from] Unconverted),
}

/// Several problems in one sentence, as structured-merge-diff shows them.
pub fn several(problems: &[String]) -> String {
    match problems {
        [one] => one.clone(),
        many => format!("errors:\n  {}", many.join("\n  ")),
    }
}

/// Says why a configuration is none of a kind: fields that the kind does not have, values of other types, items that stand twice, each
/// with its path. `unknown` are the paths of its fields that a custom resource's decoder drops. `None` where there is nothing.
pub fn unfit(schema: &Schema, root: TypeId, config: &Value, unknown: &[String]) -> Option<String> {
    let found = walk::problems_beside(Place::root(schema, root), config, unknown);
    (!found.is_empty()).then(|| several(&found))
}

/// Upstream's sentence on conflicts.
pub fn conflict_message(conflicts: &[Conflict]) -> String {
    if let [one] = conflicts {
        let field = one.field();
        return format!("Apply failed with 1 conflict: conflict with {}: {field}", one.manager);
    }
    let mut managers: Vec<&str> = conflicts.iter().map(|c| c.manager.as_str()).collect();
    managers.sort_unstable();
    managers.dedup();
    let mut lines = Vec::new();
    for manager in managers {
        lines.push(format!("conflicts with {manager}:"));
        let theirs = conflicts.iter().filter(|c| c.manager == manager);
        lines.extend(theirs.map(|c| format!("- {}", c.field())));
    }
    format!("Apply failed with {} conflicts: {}", conflicts.len(), lines.join("\n"))
}

/// What nobody manages of an object, and of its metadata.
const OF_OBJECT: [&str; 2] = ["apiVersion", "kind"];
const OF_METADATA: [&str; 9] = [
    "name",
    "namespace",
    "creationTimestamp",
    "selfLink",
    "uid",
    "clusterName",
    "generation",
    "managedFields",
    "resourceVersion",
];

/// Takes what nobody manages out of a set.
fn strip(set: &mut FieldSet) {
    OF_OBJECT.iter().for_each(|name| set.cut(&[name]));
    OF_METADATA.iter().for_each(|name| set.cut(&["metadata", name]));
    if let Some(metadata) = set.children.get_mut(&Step::field("metadata")) {
        metadata.own = false;
        if metadata.is_empty() {
            set.children.remove(&Step::field("metadata"));
        }
    }
}

/// The difference of two objects in what somebody may manage.
fn compare(place: Place<'_>, before: &Value, after: &Value, reset: Reset) -> Comparison {
    let (old, new) = (Some(before), Some(after));
    let mut all = Comparison::of_members(place, old, new, |name| name != "metadata" && !OF_OBJECT.contains(&name));
    let (old, new) = (before.get("metadata"), after.get("metadata"));
    let metadata = Comparison::of_members(place.member("metadata"), old, new, |name| !OF_METADATA.contains(&name));
    all.add(Step::field("metadata"), metadata);
    all.each(|set| reset.filter(set));
    all
}

/// Takes from all managers but the writer what a write changes: of conflicts and of what is gone.
///
/// # Errors
/// The fields that others have set otherwise, unless they are overruled.
fn take_over(
    target: &Target<'_>,
    (before, after): (&Value, &Value),
    managed: &mut Managed,
    context: &ManagerContext,
    writer: Option<&ManagerContext>,
    force: bool,
) -> Result<Comparison, ApplyError> {
    let own = compare(target.place(), before, after, context.reset);
    let mut others: Vec<(String, Option<Comparison>)> = Vec::new();
    let mut conflicts = Vec::new();
    let mut taken: Vec<Option<FieldSet>> = Vec::with_capacity(managed.0.len());
    for entry in &managed.0 {
        if writer.is_some_and(|writer| entry.is(writer)) {
            taken.push(Some(FieldSet::default()));
            continue;
        }
        let same = target.versions.is_none() || entry.api_version == context.api_version;
        if !same && !others.iter().any(|(version, _)| *version == entry.api_version) {
            let in_version = |tree: &Value| target.convert(tree.clone(), &context.api_version, &entry.api_version);
            let found = match target.version(&entry.api_version) {
                None => None,
                Some(version) => match (in_version(before)?, in_version(after)?) {
                    (Some(old), Some(new)) => Some(compare(version.place, &old, &new, context.reset)),
                    _ => None,
                },
            };
            others.push((entry.api_version.clone(), found));
        }
        let theirs = match others
            .iter()
            .find(|(version, _)| !same && *version == entry.api_version)
        {
            None => &own,
            Some((_, Some(found))) => found,
            // a version that is served no more
            Some((_, None)) => {
                taken.push(None);
                continue;
            }
        };
        let mut gone = entry.fields.intersection(&theirs.written());
        conflicts.extend(gone.paths().into_iter().map(|path| Conflict {
            manager: entry.shown(),
            path,
        }));
        gone.union(&theirs.removed);
        taken.push(Some(gone));
    }
    if !force && !conflicts.is_empty() {
        return Err(ApplyError::Conflicts(conflicts));
    }
    let mut taken = taken.into_iter();
    managed.0.retain_mut(|entry| match taken.next().flatten() {
        Some(gone) => {
            entry.fields.subtract(&gone);
            !entry.fields.is_empty()
        }
        None => false,
    });
    Ok(own)
}

/// Entries as the schema takes objects apart now.
fn reconcile(target: &Target<'_>, managed: &mut Managed) {
    for entry in &mut managed.0 {
        if let Some(version) = target.version(&entry.api_version) {
            entry.fields = version.place.reconcile(&entry.fields);
        }
    }
}

/// Whether an object asks to forget who manages what: its list of managed fields is there and empty.
pub fn forgets_managers(tree: &Value) -> bool {
    Managed::is_reset(tree)
}

/// Records in `after` who changed what since `before`, for every write that is not an apply. What the writer itself says
/// of managed fields counts, unless a subresource is written. What `before` has stays where the objects cannot be compared.
pub fn track_update(target: &Target<'_>, before: Option<&Value>, after: &mut Value, context: &ManagerContext) {
    // entries that cannot be read count as none, as upstream has it
    let stored = || before.map(Managed::of).transpose().ok().flatten().unwrap_or_default();
    let mut managed = if !context.subresource.is_empty() {
        stored()
    } else if Managed::is_reset(after) {
        Managed::default()
    } else {
        match Managed::of(after) {
            Ok(own) if !own.is_empty() => own,
            _ => stored(),
        }
    };
    // an object whose entries were cleared has none until somebody applies
    if managed.is_empty() && before.is_some() {
        managed.write(after);
        return;
    }
    let is_unfit = |tree: &Value| target.schema.is_structural() && walk::is_unfit(target.place(), tree);
    let compared = !before.is_some_and(is_unfit) && !is_unfit(after);
    if !compared || record(target, before, after, &mut managed, context).is_err() {
        // upstream does not say so either: to lose who manages what would be worse than to miss one change
        return Managed::restore(before, after);
    }
    managed.cap_updaters();
    managed.write(after);
}

fn record(
    target: &Target<'_>,
    before: Option<&Value>,
    after: &Value,
    managed: &mut Managed,
    context: &ManagerContext,
) -> Result<(), ApplyError> {
    // what Go's empty struct has is not set by anybody: required members, as null
    let mut empty = Value::Object(Map::new());
    if before.is_none() && !target.schema.is_structural() {
        target.schema.normalize(target.root, &mut empty);
    }
    reconcile(target, managed);
    let trees = (before.unwrap_or(&empty), after);
    let found = take_over(target, trees, managed, context, None, true)?;
    let mut written = found.written();
    if written.has_keyless() {
        return Err(ApplyError::Configuration(vec![
            "an item of a list has no key".to_owned(),
        ]));
    }
    strip(&mut written);
    if !written.is_empty() {
        let entry = managed.entry(context);
        entry.fields.union(&written);
        entry.time.clone_from(&context.now);
    }
    Ok(())
}

/// Who has the fields of an object that nobody tracked before its first apply.
const BEFORE_FIRST_APPLY: &str = "before-first-apply";

/// Applies a configuration onto the live object, or makes a new one.
///
/// # Errors
/// `Conflicts` when other managers have set fields otherwise that the apply changes, and `force` is off.
pub fn apply(
    target: &Target<'_>,
    live: Option<&Value>,
    config: &Value,
    context: &ManagerContext,
) -> Result<Value, ApplyError> {
    let problems = walk::problems(target.place(), config);
    if !problems.is_empty() {
        return Err(ApplyError::Configuration(problems));
    }
    let mut managed = match live {
        Some(live) => Managed::of(live)?,
        None => Managed::default(),
    };
    if let (true, Some(live)) = (managed.is_empty(), live) {
        let first = ManagerContext {
            manager: BEFORE_FIRST_APPLY.into(),
            operation: "Update".into(),
            ..context.clone()
        };
        record(target, None, live, &mut managed, &first)?;
    }
    reconcile(target, &mut managed);
    let (mut tree, managed) = match lay_over(target, live, config, managed.clone(), context, context.force) {
        Err(ApplyError::Conflicts(conflicts)) if context.manager == last_applied::MANAGER => {
            let own = live.and_then(|live| last_applied::own_fields(target.place(), live, &context.api_version));
            let Some(own) = own else {
                return Err(ApplyError::Conflicts(conflicts));
            };
            let left: Vec<Conflict> = conflicts.into_iter().filter(|c| !own.has(&c.path)).collect();
            if !left.is_empty() {
                return Err(ApplyError::Conflicts(left));
            }
            lay_over(target, live, config, managed, context, true)?
        }
        done => done?,
    };
    if context.manager == last_applied::MANAGER {
        last_applied::refresh(&mut tree, config);
    }
    if !tree.get("metadata").is_some_and(Value::is_object) {
        tree["metadata"] = json!({});
    }
    managed.write(&mut tree);
    Ok(tree)
}

/// The object with the configuration laid over it, and who manages what then.
fn lay_over(
    target: &Target<'_>,
    live: Option<&Value>,
    config: &Value,
    mut managed: Managed,
    context: &ManagerContext,
    force: bool,
) -> Result<(Value, Managed), ApplyError> {
    let empty = Value::Object(Map::new());
    let live = live.unwrap_or(&empty);
    let place = target.place();
    let merged = merge::merge_objects(place, live, config);
    let mut set = walk::fields(place, config);
    context.reset.filter(&mut set);
    let last = managed.find(context).cloned();
    let entry = managed.entry(context);
    entry.fields = set;
    entry.api_version.clone_from(&context.api_version);
    let mut tree = match &last {
        Some(last) => prune::prune(target, merged, &managed, last, &context.api_version)?,
        None => merged,
    };
    take_over(target, (live, &tree), &mut managed, context, Some(context), force)?;
    let changed = tree != *live;
    if !target.schema.is_structural() {
        target.schema.normalize(target.root, &mut tree);
    }
    if let Some(entry) = managed.0.iter_mut().find(|e| e.is(context)) {
        strip(&mut entry.fields);
        // an apply that leaves the object as it is keeps its time
        if changed {
            entry.time.clone_from(&context.now);
        }
    }
    Ok((tree, managed))
}

#[cfg(test)]
mod removals;
pub mod scale;
#[cfg(test)]
mod tests;
