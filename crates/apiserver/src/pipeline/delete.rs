//! DELETE: at once, gracefully, or waiting for finalizers and dependents.

use std::sync::Arc;

use api::field::FieldError;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::admission::{Attributes, Operation};
use crate::allocator;
use crate::http::request_info::Query;
use crate::http::status::{ApiError, META, Result};
use crate::kinds::kind::Hold;
use crate::pipeline::Write;
use crate::registry::cached::{Cached, Encoded};
use crate::registry::commit::{Claims, Expect};
use crate::registry::resource::Resource;
use crate::registry::{ATTEMPTS, format_time, metadata};

const ORPHAN: &str = "orphan";
const FOREGROUND: &str = "foregroundDeletion";
/// The option to delete what cannot be read.
pub const UNSAFE: &str = "ignoreStoreReadErrorWithClusterBreakingPotential";
/// What takes a right of its own beside that to delete.
const UNSAFE_VERB: &str = "unsafe-delete-ignore-read-errors";

/// `metav1.DeleteOptions`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct DeleteOptions {
    pub grace_period_seconds: Option<i64>,
    pub preconditions: Option<Preconditions>,
    pub orphan_dependents: Option<bool>,
    pub propagation_policy: Option<String>,
    pub dry_run: Vec<String>,
    pub ignore_store_read_error_with_cluster_breaking_potential: Option<bool>,
    /// The request is for all objects of a collection: it names none.
    #[serde(skip)]
    pub of_collection: bool,
}

/// What must be true of the object that is deleted.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Preconditions {
    pub uid: Option<String>,
    pub resource_version: Option<String>,
}

/// The members that are there.
fn without_nulls(mut tree: Value) -> Value {
    if let Some(map) = tree.as_object_mut() {
        map.retain(|_, value| !value.is_null());
    }
    tree
}

impl DeleteOptions {
    /// The options that a tree has, whatever they say.
    pub fn of(tree: Value) -> Result<DeleteOptions> {
        serde_json::from_value(without_nulls(tree)).map_err(|e| ApiError::bad_request(e.to_string()))
    }

    /// Reads the body, or the query where there is no body.
    pub fn read(body: Option<Value>, query: &Query) -> Result<DeleteOptions> {
        let mut options = match body {
            Some(tree) => DeleteOptions::of(tree)?,
            None => DeleteOptions {
                grace_period_seconds: query.number("gracePeriodSeconds")?,
                propagation_policy: query.text("propagationPolicy").map(Into::into),
                orphan_dependents: query.text("orphanDependents").map(|v| v == "true"),
                ..DeleteOptions::default()
            },
        };
        options.dry_run.extend(query.all("dryRun").iter().cloned());
        options.validate()?;
        Ok(options)
    }

    /// Whether the options fit together.
    ///
    /// # Errors
    /// `422` when they do not.
    pub fn validate(&self) -> Result<()> {
        let mut errors = Vec::new();
        if let Some(policy) = self
            .propagation_policy
            .as_ref()
            .filter(|_| self.orphan_dependents.is_some())
        {
            let why = "orphanDependents and deletionPropagation cannot be both set";
            errors.push(FieldError::invalid("propagationPolicy", json!(policy), why));
        }
        if let Some(policy) = &self.propagation_policy
            && !matches!(policy.as_str(), "Orphan" | "Background" | "Foreground")
        {
            let known = ["Foreground", "Background", "Orphan", "nil"];
            errors.push(FieldError::not_supported("propagationPolicy", json!(policy), &known));
        }
        errors.extend(dry_run(&self.dry_run).err());
        if self.is_unsafe() {
            let others = [
                ("propagationPolicy", self.propagation_policy.is_some()),
                ("orphanDependents", self.orphan_dependents.is_some()),
                ("gracePeriodSeconds", self.grace_period_seconds.is_some()),
                ("preconditions", self.preconditions.is_some()),
            ];
            let given = others.iter().filter(|(_, given)| *given);
            errors.extend(given.map(|(other, _)| {
                FieldError::invalid(UNSAFE, json!(true), format!("cannot be set together with .{other}"))
            }));
        }
        match errors.is_empty() {
            true => Ok(()),
            false => Err(ApiError::invalid(META, "DeleteOptions", "", &errors)),
        }
    }
}

impl DeleteOptions {
    /// Whether the object is to be deleted unread, as it cannot be read.
    pub fn is_unsafe(&self) -> bool {
        self.ignore_store_read_error_with_cluster_breaking_potential == Some(true)
    }

    /// Whether the client says nothing of dependents.
    pub fn leaves_dependents_open(&self) -> bool {
        self.propagation_policy.is_none() && self.orphan_dependents.is_none()
    }

    /// Of a collection nothing is deleted unread.
    ///
    /// # Errors
    /// `422` where that is asked for.
    pub fn of_collection(self) -> Result<DeleteOptions> {
        if self.is_unsafe() {
            let why = "is not allowed with DELETECOLLECTION, try again after removing the option";
            let error = FieldError::invalid(UNSAFE, json!(true), why);
            return Err(ApiError::invalid(META, "DeleteOptions", "", &[error]));
        }
        Ok(DeleteOptions {
            of_collection: true,
            ..self
        })
    }

    /// The options as admission sees them: with the seconds that an object that ends by itself gets, but of a collection as they came.
    fn given(&self, resource: &Resource, old: &Value) -> Value {
        let mut given = json!({});
        let own = match self.of_collection {
            true => None,
            false => (resource.rules.grace)(old, self.grace_period_seconds),
        };
        let seconds = own.or(self.grace_period_seconds);
        if let Some(seconds) = seconds {
            given["gracePeriodSeconds"] = json!(seconds);
        }
        if let Some(wanted) = &self.preconditions {
            given["preconditions"] = json!({});
            for (key, text) in [("uid", &wanted.uid), ("resourceVersion", &wanted.resource_version)] {
                if let Some(text) = text {
                    given["preconditions"][key] = json!(text);
                }
            }
        }
        if let Some(orphan) = self.orphan_dependents {
            given["orphanDependents"] = json!(orphan);
        }
        if let Some(policy) = &self.propagation_policy {
            given["propagationPolicy"] = json!(policy);
        }
        if !self.dry_run.is_empty() {
            given["dryRun"] = json!(self.dry_run);
        }
        given
    }
}

/// Whether a write is only tried: `dryRun=All`.
pub fn dry_run(values: &[String]) -> std::result::Result<bool, FieldError> {
    let given: Vec<&String> = values.iter().filter(|v| !v.is_empty()).collect();
    if given.iter().any(|v| *v != "All") {
        return Err(FieldError::not_supported("dryRun", json!(values), &["All"]));
    }
    Ok(!given.is_empty())
}

/// What a deletion did.
#[derive(Debug)]
pub enum Deleted {
    /// It is gone.
    Now(Arc<Cached>),
    /// It is marked and goes when whoever it waits for lets it.
    Later(Arc<Cached>),
}

/// The finalizers that the propagation policy asks for, in place of those of another policy.
fn propagation(options: &DeleteOptions, orphan_by_default: bool, present: &[String]) -> Vec<String> {
    let policy = match (options.propagation_policy.as_deref(), options.orphan_dependents) {
        (Some("Orphan"), _) | (None, Some(true)) => Some(ORPHAN),
        (Some("Foreground"), _) => Some(FOREGROUND),
        (Some(_), _) | (None, Some(false)) => None,
        (None, None) if present.iter().any(|f| f == ORPHAN) => Some(ORPHAN),
        (None, None) if present.iter().any(|f| f == FOREGROUND) => Some(FOREGROUND),
        (None, None) => orphan_by_default.then_some(ORPHAN),
    };
    let mut kept: Vec<String> = present
        .iter()
        .filter(|f| *f != ORPHAN && *f != FOREGROUND)
        .cloned()
        .collect();
    kept.extend(policy.map(Into::into));
    // where nothing comes or goes the order stays
    let same = kept.len() == present.len() && kept.iter().all(|name| present.contains(name));
    if same { present.to_vec() } else { kept }
}

impl Write<'_> {
    /// Deletes an object as the options say.
    ///
    /// # Errors
    /// `404` when it is not there, `409` when others are faster too often, and whatever admission refuses.
    pub async fn delete(&self, name: &str, options: &DeleteOptions) -> Result<Deleted> {
        for _ in 0..ATTEMPTS {
            let current = self.place().current(name)?;
            // preconditions: the client speaks of this object and no other
            check_preconditions(self, options, &current, name)?;
            self.served.resource.ready_one(&current).await?;
            let old = self.served.resource.served(&current).await?;
            // admission: asked of each version that is tried
            self.admit(name, options, &old).await?;
            if let Some(deleted) = self.end_or_mark(name, options, &current, &old).await? {
                return Ok(deleted);
            }
        }
        Err(self.place().modified(name))
    }

    /// Why an object is not deleted unread (`corrupt_obj_deleter.go`): all that this server has it can read.
    pub fn refuse_unsafe(&self, name: &str) -> ApiError {
        let tried = "apiserver.k8s.io/unsafe-delete-ignore-read-error";
        self.options.trail.annotate(tried, String::new);
        let resource = &self.served.resource;
        let (group, plural) = (resource.group.as_str(), resource.plural.as_str());
        if group == "rbac.authorization.k8s.io" || (group, plural) == ("", "namespaces") {
            return ApiError::internal(format!("no unsafe deleter provided, can not honor {UNSAFE}"));
        }
        let attributes = crate::authorization::Attributes {
            verb: UNSAFE_VERB,
            is_resource: true,
            group,
            namespace: self.namespace,
            resource: plural,
            name,
            ..Default::default()
        };
        if self
            .pipeline
            .authorizer
            .authorize(&self.options.user, &attributes)
            .is_err()
        {
            let why = format!("not permitted to do {UNSAFE_VERB:?}, reason: ");
            return ApiError::forbidden(group, plural, name, &why);
        }
        if let Err(missing) = self.place().current(name) {
            return missing;
        }
        let place = if self.namespace.is_empty() {
            String::new()
        } else {
            format!("{}/", self.namespace)
        };
        let why = format!(
            "StorageError: invalid object, Code: 4, Key: {}{place}{name}, ResourceVersion: 0, AdditionalErrorMsg: \
             unsafe deletion is not allowed because the object is decodable from storage",
            resource.prefix
        );
        ApiError::conflict(group, plural, name, &why)
    }

    /// Asks admission of the end of an object.
    async fn admit(&self, name: &str, options: &DeleteOptions, old: &Value) -> Result<()> {
        if self.options.admitted {
            return Ok(());
        }
        let given = options.given(&self.served.resource, old);
        let attributes = Attributes {
            options: &given,
            ..self.attributes(Operation::Delete, name, if options.of_collection { "" } else { name })
        };
        let admission = &self.pipeline.admission;
        admission.admit(&attributes, &mut Value::Null, Some(old)).await?;
        admission.validate(&attributes, &Value::Null, Some(old)).await?;
        Ok(())
    }

    /// Ends the object, or marks it for those that it waits for; `None` when somebody else was first.
    async fn end_or_mark(
        &self,
        name: &str,
        options: &DeleteOptions,
        current: &Arc<Cached>,
        old: &Value,
    ) -> Result<Option<Deleted>> {
        let resource = &self.served.resource;
        let dry_run = self.options.dry_run;
        let present: Vec<String> = current.object.meta.finalizers.iter().map(|f| f.to_string()).collect();
        let hold = resource.rules.hold.filter(|hold| (hold.holds)(old));
        let finalizers = match hold.and_then(|hold| hold.finalizer) {
            Some(own) => {
                let others = present.iter().filter(|f| *f != own).cloned();
                others.chain([own.to_owned()]).collect()
            }
            None if resource.rules.no_dependents => propagation(&DeleteOptions::default(), false, &present),
            None => propagation(options, resource.rules.orphan_by_default, &present),
        };
        let graceful = (resource.rules.grace)(old, options.grace_period_seconds);
        let grace = graceful.unwrap_or(0);
        let revision = current.revision();
        if finalizers.is_empty() && grace == 0 && hold.is_none() {
            // what is deleted gracefully is shown as it was marked, were there no time to wait for
            let marked = match graceful {
                Some(_) => self.mark(old, &finalizers, grace, None)?,
                None => None,
            };
            // upstream marks it first, and so asks once more
            if let Some(marked) = &marked {
                self.admit(name, options, marked).await?;
            }
            if dry_run {
                return Ok(Some(Deleted::Now(match marked {
                    Some(tree) => {
                        let mut stored = resource.stored(tree).await?;
                        Arc::new(Encoded::of(resource, &mut stored)?.at(Some(revision)))
                    }
                    None => current.clone(),
                })));
            }
            let claims = allocator::release(&self.pipeline.registry, resource, old)?;
            let Some(at) = self.place().end(name, revision, claims).await? else {
                return Ok(None);
            };
            let last = match marked {
                Some(tree) => Encoded::of(resource, &mut resource.stored(tree).await?)?.at(Some(at)),
                None => current.restamped(at),
            };
            return Ok(Some(Deleted::Now(Arc::new(last))));
        }
        let Some(tree) = self.mark(old, &finalizers, grace, hold)? else {
            return Ok(Some(Deleted::Later(current.clone())));
        };
        let encoded = Encoded::of(resource, &mut resource.stored(tree).await?)?;
        if dry_run {
            return Ok(Some(Deleted::Later(Arc::new(encoded.at(Some(revision))))));
        }
        let stored = self
            .place()
            .put(name, Expect::At(revision), &encoded, Claims::default())
            .await?;
        Ok(stored.map(Deleted::Later))
    }

    /// The object marked as being deleted; `None` when it is marked as well as it can be.
    fn mark(&self, old: &Value, finalizers: &[String], grace: i64, hold: Option<Hold>) -> Result<Option<Value>> {
        let mut tree = old.clone();
        let marked = !metadata::text(old, "deletionTimestamp").is_empty();
        // a namespace waits for what is in it, whatever is asked meanwhile
        if marked && hold.is_some_and(|hold| hold.finalizer.is_none()) {
            return Ok(None);
        }
        let now = self.pipeline.registry.environment.now();
        let metadata = metadata::of(&mut tree)?;
        let before = metadata.get("deletionGracePeriodSeconds").and_then(Value::as_i64);
        // a second deletion may only shorten the wait
        if !marked || before.is_some_and(|b| grace < b) {
            let at = now.checked_add(jiff::SignedDuration::from_secs(grace)).unwrap_or(now);
            metadata.insert("deletionTimestamp".into(), json!(format_time(at)));
            if hold.is_none() {
                metadata.insert("deletionGracePeriodSeconds".into(), json!(grace));
            }
            // a deletion is a change that observers of the generation must see; the server's own finalizer is none
            let counts = !marked && hold.is_none_or(|hold| hold.finalizer.is_none());
            if let Some(generation) = metadata.get("generation").and_then(Value::as_i64).filter(|_| counts) {
                metadata.insert("generation".into(), json!(generation + 1));
            }
        }
        if finalizers.is_empty() {
            metadata.remove("finalizers");
        } else {
            metadata.insert("finalizers".into(), json!(finalizers));
        }
        if let Some(hold) = hold {
            (hold.mark)(&mut tree, &format_time(now));
        }
        if tree == *old {
            return Ok(None);
        }
        Ok(Some(tree))
    }
}

/// Holds the preconditions of a deletion against the object.
///
/// # Errors
/// `409` when it is another object, or another version of it.
pub fn check_preconditions(write: &Write<'_>, options: &DeleteOptions, current: &Cached, name: &str) -> Result<()> {
    let Some(wanted) = &options.preconditions else {
        return Ok(());
    };
    let resource = &write.served.resource;
    let conflict = |what: &str, wanted: &str, found: &str, fate: &str| {
        let why = format!(
            "the {what} in the precondition ({wanted}) does not match the {what} in record ({found}). The object might \
             have been {fate}"
        );
        let group = resource.rules.error_group.unwrap_or(&resource.group);
        Err(ApiError::conflict(group, &resource.kind, name, &why))
    };
    let meta = &current.object.meta;
    if let Some(uid) = &wanted.uid
        && **uid != *meta.uid
    {
        return conflict("UID", uid, &meta.uid, "deleted and then recreated");
    }
    if let Some(revision) = &wanted.resource_version
        && *revision != meta.resource_version.to_string()
    {
        return conflict(
            "ResourceVersion",
            revision,
            &meta.resource_version.to_string(),
            "modified",
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `ValidateIgnoreStoreReadError` of `apis/meta/v1/validation`.
    #[test]
    fn what_is_deleted_unread_is_deleted_without_other_options() {
        let read = |options: Value| DeleteOptions::read(Some(options), &Query::default());
        let alone = json!({ "ignoreStoreReadErrorWithClusterBreakingPotential": true });
        assert!(read(alone.clone()).unwrap().is_unsafe());
        let refused = read(alone.clone()).unwrap().of_collection().unwrap_err();
        assert!(refused.message.contains("is not allowed with DELETECOLLECTION"));
        let mut more = alone;
        more["gracePeriodSeconds"] = json!(0);
        let refused = read(more).unwrap_err();
        assert!(
            refused
                .message
                .ends_with("Invalid value: true: cannot be set together with .gracePeriodSeconds")
        );
    }

    #[test]
    fn the_policy_decides_which_finalizer_stays() {
        let options = |policy: Option<&str>| DeleteOptions {
            propagation_policy: policy.map(Into::into),
            ..Default::default()
        };
        let own = |list: &[&str]| list.iter().map(|s| (*s).to_owned()).collect::<Vec<_>>();
        assert_eq!(propagation(&options(None), false, &own(&["a/b"])), ["a/b"]);
        assert_eq!(propagation(&options(None), true, &[]), [ORPHAN]);
        assert_eq!(propagation(&options(Some("Background")), true, &[]), [""; 0]);
        assert_eq!(
            propagation(&options(Some("Foreground")), true, &own(&[ORPHAN, "a/b"])),
            ["a/b", FOREGROUND]
        );
        assert_eq!(
            propagation(&options(Some("Background")), false, &own(&[FOREGROUND])),
            [""; 0]
        );
        assert_eq!(propagation(&options(None), false, &own(&[FOREGROUND])), [FOREGROUND]);
    }
}
