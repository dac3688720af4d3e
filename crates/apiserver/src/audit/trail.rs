//! The record of one request while it is answered. Where nothing is recorded it is empty, and costs nothing.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::audit::backend::Delivery;
use crate::audit::event::{Event, Impersonated, Moment, ObjectReference};
use crate::audit::policy::{Applied, Level, Stage};
use crate::audit::{Audit, objects};
use crate::http::request_info::RequestInfo;
use crate::http::status::{ApiError, Result};
use crate::http::user::User;

/// The record of a request; copies are the same. An answer that lasts ends when the last copy goes.
#[derive(Clone, Default)]
pub struct Trail(Option<Arc<Record>>);

struct Record {
    audit: Arc<Audit>,
    state: Mutex<State>,
}

/// How far a record is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// The policy has not been asked yet.
    Begun,
    /// The request goes on.
    Received,
    /// It was refused before anybody knew whose it is: one event tells of that.
    Refused,
    /// The head of its answer is out, the rest is sent as long as its client wants.
    Lasting,
    /// No event follows.
    Over,
}

struct State {
    event: Event,
    applied: Applied,
    phase: Phase,
}

impl std::fmt::Debug for Trail {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Trail").field(&self.level()).finish()
    }
}

impl Record {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes the event of a stage, unless the policy leaves it out.
    fn process(&self, state: &State, stage: Stage) -> (bool, Vec<Delivery<'static>>) {
        if state.applied.level == Level::None || state.applied.omit.has(stage) {
            return (true, Vec::new());
        }
        let at = match stage {
            Stage::RequestReceived => state.event.received,
            _ => Timestamp::now(),
        };
        self.audit.process(&state.event, Moment { stage, at })
    }
}

/// Waits for backends; whether all have what they were handed.
async fn wait((mut all, pending): (bool, Vec<Delivery<'static>>)) -> bool {
    for delivery in pending {
        all &= match delivery {
            Delivery::Done(done) => done,
            Delivery::Pending(pending) => pending.await,
        };
    }
    all
}

impl Drop for Record {
    fn drop(&mut self) {
        let state = self.state();
        if state.phase != Phase::Lasting {
            return;
        }
        let processed = self.process(&state, Stage::ResponseComplete);
        if !processed.1.is_empty()
            && let Ok(runtime) = tokio::runtime::Handle::try_current()
        {
            runtime.spawn(wait(processed));
        }
    }
}

impl Trail {
    pub(super) fn begin(audit: Arc<Audit>, event: Event) -> Trail {
        let state = State {
            event,
            applied: Applied::default(),
            phase: Phase::Begun,
        };
        Trail(Some(Arc::new(Record {
            audit,
            state: Mutex::new(state),
        })))
    }

    /// Whether there may be anything to record.
    pub fn is_kept(&self) -> bool {
        self.0.is_some()
    }

    /// How much is recorded.
    pub fn level(&self) -> Level {
        self.0
            .as_ref()
            .map_or(Level::None, |record| record.state().applied.level)
    }

    /// The state of a record that is kept.
    fn kept(&self) -> Option<(&Record, MutexGuard<'_, State>)> {
        let record = self.0.as_deref()?;
        let state = record.state();
        (state.applied.level > Level::None).then_some((record, state))
    }

    /// Adds what else is to be known of the request; what was said first stands. `value` is made only where it is kept.
    pub fn annotate(&self, key: &str, value: impl FnOnce() -> String) {
        let Some(record) = self.0.as_deref() else { return };
        let mut state = record.state();
        // authentication speaks before the policy does
        if state.applied.level == Level::None && state.phase != Phase::Begun {
            return;
        }
        let value = value();
        match state.event.annotations.get(key) {
            None => drop(state.event.annotations.insert(key.to_owned(), value)),
            Some(told) if *told == value => {}
            Some(told) => tracing::warn!(key, value, told, "an audit annotation was set before"),
        }
    }

    /// Asks the policy, and writes that the request was received.
    ///
    /// # Errors
    /// `500` when that has to be recorded and cannot be.
    pub async fn received(&self, info: &RequestInfo, user: &Arc<User>) -> Result<()> {
        let Some(record) = self.0.as_deref() else { return Ok(()) };
        let processed = {
            let mut state = record.state();
            state.fill(&record.audit, info, Some(user));
            state.phase = Phase::Received;
            record.process(&state, Stage::RequestReceived)
        };
        if wait(processed).await {
            return Ok(());
        }
        record.audit.rejected.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        record.state().phase = Phase::Over;
        let why = "failed to store audit event";
        Err(ApiError::plain(format!(
            "Internal Server Error: {:?}: {why}",
            info.path
        )))
    }

    /// The request is refused before anybody knows whose it is.
    pub fn refused(&self, info: &RequestInfo) {
        if let Some(record) = self.0.as_deref() {
            let mut state = record.state();
            state.fill(&record.audit, info, None);
            state.phase = Phase::Refused;
        }
    }

    /// The request is made as another user.
    pub fn impersonated(&self, user: &Arc<User>, constraint: &'static str) {
        if let Some((_, mut state)) = self.kept() {
            let user = user.clone();
            state.event.impersonated = Some(Impersonated { user, constraint });
        }
    }

    /// Notes the object that was sent: what it is called, and, where the policy wants it, all of it. `whole` makes of the
    /// tree what would be stored of it.
    pub fn request_object(&self, tree: &Value, whole: impl FnOnce(&mut Value)) {
        let Some((_, mut state)) = self.kept() else { return };
        let object = state.event.object.get_or_insert_default();
        let text = |key: &str| tree["metadata"][key].as_str().unwrap_or_default();
        for (field, key) in [
            (&mut object.namespace, "namespace"),
            (&mut object.name, "name"),
            (&mut object.uid, "uid"),
            (&mut object.resource_version, "resourceVersion"),
        ] {
            if field.is_empty() {
                text(key).clone_into(field);
            }
        }
        if state.applied.level >= Level::Request {
            let mut tree = tree.clone();
            whole(&mut tree);
            if state.applied.omit_managed_fields {
                objects::without_managed_fields(&mut tree);
            }
            state.event.request_object = serde_json::to_vec(&tree).ok().map(Bytes::from);
        }
    }

    /// Notes the patch that was sent, in JSON.
    pub fn request_patch(&self, patch: impl FnOnce() -> Bytes) {
        if let Some((_, mut state)) = self.kept()
            && state.applied.level >= Level::Request
        {
            state.event.request_object = Some(objects::compact(&patch()));
        }
    }

    /// Notes the `Status` that is answered.
    pub fn status(&self, status: &Value) {
        if let Some((_, mut state)) = self.kept() {
            let mut told = status.clone();
            if let Some(members) = told.as_object_mut() {
                members.retain(|key, _| !matches!(key.as_str(), "kind" | "apiVersion"));
                members.insert("metadata".into(), json!({}));
            }
            state.event.status = Some(told);
        }
    }

    /// Notes the object that is answered, in whatever form the client gets it.
    pub fn response_object(&self, media_type: &str, body: &Bytes) {
        let Some((_, mut state)) = self.kept() else { return };
        let mut object = objects::of_answer(media_type, body);
        if state.applied.omit_managed_fields
            && let Some(text) = &object
            && let Ok(mut tree) = serde_json::from_slice(text)
        {
            objects::without_managed_fields(&mut tree);
            object = serde_json::to_vec(&tree).ok().map(Bytes::from);
        }
        state.event.response_object = object;
    }

    /// Writes that the answer begins, or, unless it may last, that it is complete.
    pub async fn answered(&self, code: u16, lasts: bool) {
        let Some(record) = self.0.as_deref() else { return };
        let processed = {
            let mut state = record.state();
            let status = state.event.status.get_or_insert_with(|| json!({ "metadata": {} }));
            status["code"] = json!(code);
            let (stage, after) = match state.phase {
                Phase::Refused => (Stage::ResponseStarted, Phase::Over),
                Phase::Received if lasts => (Stage::ResponseStarted, Phase::Lasting),
                Phase::Received => (Stage::ResponseComplete, Phase::Over),
                Phase::Begun | Phase::Lasting | Phase::Over => return,
            };
            state.phase = after;
            record.process(&state, stage)
        };
        wait(processed).await;
    }
}

impl State {
    fn fill(&mut self, audit: &Audit, info: &RequestInfo, user: Option<&Arc<User>>) {
        self.applied = audit.evaluate(info, user.map(|user| &**user));
        let event = &mut self.event;
        event.level = self.applied.level;
        if self.applied.level == Level::None {
            event.annotations.clear();
            return;
        }
        event.verb = info.verb;
        event.user = user.cloned().unwrap_or_default();
        event.object = info.is_resource.then(|| ObjectReference {
            resource: info.resource.clone(),
            namespace: info.namespace.clone(),
            name: info.name.clone(),
            api_group: info.group.clone(),
            api_version: info.version.clone(),
            subresource: info.subresource.clone(),
            ..ObjectReference::default()
        });
    }
}
