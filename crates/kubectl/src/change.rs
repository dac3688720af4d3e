//! What commands that change objects share: the request's options, and how they say what they did.

use std::cell::Cell;

use http::Method;
use serde_json::{Value, json};

use crate::api::{Call, Query};
use crate::error::Result;
use crate::flags::{Change, DryRun};
use crate::print::Format;
use crate::print::format::reference;
use crate::select::Info;
use crate::session::Session;

pub(crate) const STRATEGIC: &str = "application/strategic-merge-patch+json";
pub(crate) const MERGE: &str = "application/merge-patch+json";
pub(crate) const JSON_PATCH: &str = "application/json-patch+json";
pub(crate) const APPLY: &str = "application/apply-patch+yaml";

/// Sends changes in the name of a field manager, and tells of them.
#[derive(Debug)]
pub struct Changer<'a> {
    pub session: &'a Session,
    pub dry_run: DryRun,
    /// Empty leaves it to the server, which takes the program's name.
    pub manager: String,
    /// `Strict`, `Warn` or `Ignore`; empty does not say.
    pub validation: &'static str,
    pub format: Format,
    shown: Cell<usize>,
}

impl<'a> Changer<'a> {
    pub(crate) fn new(session: &'a Session, change: &Change, manager: &str) -> Result<Changer<'a>> {
        Ok(Changer {
            session,
            dry_run: change.dry_run,
            manager: change.field_manager.clone().unwrap_or_else(|| manager.to_owned()),
            validation: "",
            format: Format::for_change(&change.output)?,
            shown: Cell::new(0),
        })
    }

    pub(crate) fn validation(mut self, validation: &'static str) -> Self {
        self.validation = validation;
        self
    }

    /// Whether nothing is sent at all.
    pub fn is_local(&self) -> bool {
        self.dry_run == DryRun::Client
    }

    fn query(&self) -> Query {
        let mut query = Vec::new();
        if self.dry_run == DryRun::Server {
            query.push(("dryRun", "All".to_owned()));
        }
        if !self.manager.is_empty() {
            query.push(("fieldManager", self.manager.clone()));
        }
        if !self.validation.is_empty() {
            query.push(("fieldValidation", self.validation.to_owned()));
        }
        query
    }

    /// Creates the object of `info`; the answer takes its place.
    pub async fn create(&self, info: &mut Info) -> Result<()> {
        let call = Call::new(Method::POST, info.ty.collection(&info.namespace))
            .query(self.query())
            .json(&info.object);
        let object = self.session.api()?.json(&call).await?;
        info.replace(object);
        Ok(())
    }

    /// Writes the object of `info` over what is there, of whichever version that is where `info` names none: some kinds take no
    /// update without a version.
    pub async fn update(&self, info: &mut Info) -> Result<()> {
        let unversioned = info.object["metadata"]["resourceVersion"]
            .as_str()
            .is_none_or(str::is_empty);
        if unversioned {
            let now = self.session.api()?.get(&info.path()).await?;
            if let Some(version) = now["metadata"]["resourceVersion"].as_str() {
                info.object["metadata"]["resourceVersion"] = json!(version);
            }
        }
        let call = Call::new(Method::PUT, info.path())
            .query(self.query())
            .json(&info.object);
        let object = self.session.api()?.json(&call).await?;
        info.replace(object);
        Ok(())
    }

    pub(crate) async fn patch(&self, info: &mut Info, content_type: &'static str, patch: &Value) -> Result<()> {
        let path = info.path();
        let object = self.patch_path(&path, content_type, patch, Vec::new()).await?;
        info.replace(object);
        Ok(())
    }

    pub(crate) async fn patch_path(
        &self,
        path: &str,
        content_type: &'static str,
        patch: &Value,
        more: Query,
    ) -> Result<Value> {
        let call = Call::new(Method::PATCH, path)
            .query(self.query())
            .query(more)
            .content(content_type)
            .json(patch);
        self.session.api()?.json(&call).await
    }

    pub(crate) async fn apply(&self, info: &mut Info, object: &Value, force: bool, subresource: &str) -> Result<()> {
        let mut path = info.path();
        if !subresource.is_empty() {
            path = format!("{path}/{subresource}");
        }
        let object = self
            .patch_path(&path, APPLY, object, vec![("force", force.to_string())])
            .await?;
        info.replace(object);
        Ok(())
    }

    /// Applies in the name of another manager, without force.
    pub async fn apply_as(&self, manager: &str, info: &mut Info, object: &Value) -> Result<()> {
        let mut query = self.query();
        query.retain(|(name, _)| *name != "fieldManager");
        query.push(("fieldManager", manager.to_owned()));
        let call = Call::new(Method::PATCH, info.path())
            .query(query)
            .content(APPLY)
            .json(object);
        let object = self.session.api()?.json(&call).await?;
        info.replace(object);
        Ok(())
    }

    /// Deletes; the answer is the object or a `Status`.
    pub async fn delete(&self, info: &Info, grace: Option<i64>, propagation: &str) -> Result<Value> {
        let mut options = json!({"apiVersion": "v1", "kind": "DeleteOptions", "propagationPolicy": propagation});
        if let Some(grace) = grace {
            options["gracePeriodSeconds"] = json!(grace);
        }
        if self.dry_run == DryRun::Server {
            options["dryRun"] = json!(["All"]);
        }
        let call = Call::new(Method::DELETE, info.path()).json(&options);
        self.session.api()?.json(&call).await
    }

    /// Prints what was done, or the object where a format is asked for.
    pub fn tell(&self, object: &Value, operation: &str) -> Result<()> {
        self.tell_as(object, operation, Format::object)
    }

    /// The same of an object that flags describe: upstream has it as a struct.
    pub fn tell_typed(&self, object: &Value, operation: &str) -> Result<()> {
        self.tell_as(object, operation, Format::typed)
    }

    fn tell_as(&self, object: &Value, operation: &str, text: fn(&Format, &Value) -> Result<String>) -> Result<()> {
        let text = match &self.format {
            Format::Human { .. } => {
                let operation = if operation.is_empty() {
                    String::new()
                } else {
                    format!(" {operation}")
                };
                format!("{}{operation}{}\n", reference(object), self.dry_run.suffix())
            }
            format => {
                let text = text(format, object)?;
                let again = self.shown.replace(self.shown.get() + 1) > 0;
                match format {
                    Format::Yaml { .. } if again => format!("---\n{text}"),
                    _ => text,
                }
            }
        };
        self.session.print(&text)
    }
}

/// Drops `null` members everywhere.
pub fn prune_nulls(value: &mut Value) {
    match value {
        Value::Object(map) => {
            map.retain(|_, v| !v.is_null());
            map.values_mut().for_each(prune_nulls);
        }
        Value::Array(list) => list.iter_mut().for_each(prune_nulls),
        _ => {}
    }
}
