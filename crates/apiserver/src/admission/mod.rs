//! Admission: what is added to an object before it is checked, and what is refused after. One file a plugin.

mod always_deny;
mod always_pull_images;
mod certificate_signers;
pub mod configuration;
mod default_class;
mod default_toleration_seconds;
mod deny_service_external_ips;
pub mod error;
mod event_rate_limit;
mod extended_resource_toleration;
pub mod image_policy_webhook;
mod limit_pod_hard_anti_affinity_topology;
mod limit_ranger;
pub mod matching;
mod namespace_auto_provision;
mod namespace_exists;
mod namespace_lifecycle;
mod node_declared_feature_validator;
mod node_pod_certificate;
mod node_restriction;
mod node_token;
mod owner_references_permission_enforcement;
mod persistent_volume_claim_resize;
pub mod plugins;
mod pod_node_selector;
mod pod_resize_validator;
mod pod_security;
mod pod_toleration_restriction;
mod pod_topology_labels;
mod policy;
mod priority;
mod resource_quota;
mod runtime_class;
mod service_account;
mod storage_object_in_use_protection;
mod taint_nodes_by_condition;
mod terminating_definition;
mod tolerations;
mod webhook;

use std::pin::Pin;
use std::sync::{Arc, OnceLock, Weak};

use api::gvk::GroupVersionKind;
use serde_json::{Value, json};
use tokio::time::Instant;

pub use resource_quota::Charge;

use self::configuration::{Configuration, ConfigurationError};
use self::error::PluginError;
use self::plugins::{Context, KNOWN, OpenReviewer, Steps};

use crate::audit::Trail;
use crate::audit::policy::Level;
use crate::authorization::Authorizer;
use crate::http::status::{ApiError, Result};
use crate::http::user::User;
use crate::http::warnings::Warnings;
use crate::metrics::{PluginTimes, Step};
use crate::pipeline::Pipeline;
use crate::registry::resource::Resource;
use crate::registry::{Registry, metadata};

/// The operation that is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    Create,
    Update,
    Delete,
    Connect,
}

impl Operation {
    /// As upstream writes it.
    pub fn name(self) -> &'static str {
        match self {
            Operation::Create => "CREATE",
            Operation::Update => "UPDATE",
            Operation::Delete => "DELETE",
            Operation::Connect => "CONNECT",
        }
    }
}

/// What is asked, as the plugins see it.
pub struct Attributes<'a> {
    pub registry: &'a Registry,
    pub authorizer: &'a Arc<Authorizer>,
    pub user: &'a Arc<User>,
    pub operation: Operation,
    pub resource: &'a Resource,
    pub subresource: &'a str,
    pub namespace: &'a str,
    pub name: &'a str,
    /// The name as far as it is known: before a new object is made it has none but one that its writer gave.
    pub known_name: &'a str,
    pub dry_run: bool,
    /// The options of the write as its client gave them, without their type.
    pub options: &'a Value,
    /// When the client is told that it took too long.
    pub deadline: Instant,
    pub warnings: &'a Warnings,
    /// The record of the request.
    pub trail: &'a Trail,
}

impl Attributes<'_> {
    /// Adds an annotation to the record of the request, if it shows as much as `level`. Its key has a domain and a name.
    pub fn annotate(&self, level: Level, make: impl FnOnce() -> (String, String)) {
        if self.trail.level() < level {
            return;
        }
        let (key, value) = make();
        let problems = api::names::qualified_name_errors(&key);
        if !problems.is_empty() || key.split('/').count() != 2 {
            tracing::warn!(
                key,
                ?problems,
                "an audit annotation's key is not of the form example.org/name"
            );
            return;
        }
        self.trail.annotate(&key, || value);
    }

    /// The refusal of an object by upstream's `admission.NewForbidden`: what has no name yet is called by what it is made from.
    pub fn refuse(&self, tree: &Value, why: &str) -> ApiError {
        let names = [
            self.known_name,
            metadata::text(tree, "name"),
            metadata::text(tree, "generateName"),
            "Unknown",
        ];
        let name = names.into_iter().find(|name| !name.is_empty());
        self.resource.forbidden(name.unwrap_or_default(), why)
    }

    /// Whether this writes the resource itself, not a subresource.
    pub fn is(&self, group: &str, plural: &str, operation: Operation) -> bool {
        self.subresource.is_empty() && self.operation == operation && self.resource.is(group, plural)
    }

    /// Whether this changes the resources of a pod in its place.
    pub fn resizes_pod(&self) -> bool {
        self.subresource == "resize" && self.operation == Operation::Update && self.resource.is("", "pods")
    }

    /// The kind of what is written: a subresource may have one of its own.
    pub fn kind(&self) -> GroupVersionKind {
        self.resource.kind_of(self.subresource)
    }

    /// The namespace, as upstream's plugins are told: a namespace is in that of its own name.
    pub fn namespace_asked(&self) -> &str {
        match self.resource.is("", "namespaces") {
            true => self.known_name,
            false => self.namespace,
        }
    }

    /// The options of the write as an object of their kind; null for a connection, which has none.
    pub fn options(&self) -> Value {
        let kind = match self.operation {
            Operation::Create => "CreateOptions",
            Operation::Update => "UpdateOptions",
            Operation::Delete => "DeleteOptions",
            Operation::Connect => return Value::Null,
        };
        let mut options = self.options.clone();
        if options.is_null() {
            options = json!({});
        }
        options["apiVersion"] = json!("meta.k8s.io/v1");
        options["kind"] = json!(kind);
        options
    }
}

/// An answer that has to be waited for.
pub type Later<'a, T> = Pin<Box<dyn Future<Output = Result<T>> + Send + 'a>>;

/// A plugin: what it looks at, what it adds to an object, and what it refuses. It owns its state.
pub trait Plugin: Send + Sync {
    /// Returns whether it has a say in this at all.
    fn handles(&self, asked: &Attributes<'_>) -> bool;

    /// Adds to an object before its rules are asked, or refuses it; of a deletion the tree is null.
    fn admit(&self, _: &Attributes<'_>, _: &mut Value, _old: Option<&Value>) -> Result<()> {
        Ok(())
    }

    /// Returns whether it asks others what to make of an object: these may change what no plugin does.
    fn asks_others(&self) -> bool {
        false
    }

    /// Adds to an object after waiting for others, or refuses it. `passes` knows what the plugins before have changed.
    fn change<'a>(
        &'a self,
        _: &'a Attributes<'_>,
        _passes: &'a mut Passes,
        _: &'a mut Value,
        _old: Option<&'a Value>,
    ) -> Option<Later<'a, ()>> {
        None
    }

    /// Refuses an object as it will be stored; of a deletion the tree is null.
    fn validate(&self, _: &Attributes<'_>, _: &Value, _old: Option<&Value>) -> Result<()> {
        Ok(())
    }

    /// Refuses an object after waiting for others, and holds what its write needs until that is made.
    fn hold<'a>(&'a self, _: &'a Attributes<'_>, _: &'a Value, _old: Option<&'a Value>) -> Option<Later<'a, Charge>> {
        None
    }
}

/// What plugins that change objects know of each other's changes: when a later one has changed what an earlier one saw, all are
/// asked once more (`k8s.io/apiserver/pkg/admission/reinvocation.go`).
#[derive(Debug, Default)]
pub struct Passes {
    /// This is the second time that they are asked.
    pub is_second: bool,
    /// They are to be asked a second time.
    pub again: bool,
    /// What each plugin that asks others keeps between the two, by its name.
    pub kept: std::collections::BTreeMap<&'static str, Reinvocation>,
}

/// What a plugin has asked others in the first pass, for the second.
#[derive(Debug, Default)]
pub struct Reinvocation {
    /// Who wants to be asked again when something changes after them.
    pub asked: std::collections::BTreeSet<String>,
    /// Of these, those after whom something has changed.
    pub again: std::collections::BTreeSet<String>,
    /// The object as the plugin left it.
    pub left: Value,
}

impl Passes {
    /// What a plugin kept of the pass before. If others have changed what it left, all whom it asked are to be asked again.
    pub fn begin(&mut self, plugin: &'static str, tree: &Value) -> Reinvocation {
        let mut kept = self.kept.remove(plugin).unwrap_or_default();
        if self.is_second && kept.left != *tree {
            kept.changed();
        }
        kept
    }

    /// Keeps it for the next pass.
    pub fn end(&mut self, plugin: &'static str, mut kept: Reinvocation, tree: &Value) {
        if !kept.asked.is_empty() || !kept.again.is_empty() {
            kept.left = tree.clone();
        }
        self.kept.insert(plugin, kept);
    }
}

impl Reinvocation {
    /// Something has changed: all who were asked so far are to be asked again.
    pub fn changed(&mut self) {
        self.again.append(&mut self.asked);
    }
}

/// A plugin that is on, and how long it has taken so far.
struct Entry {
    name: &'static str,
    steps: Steps,
    plugin: Box<dyn Plugin>,
    times: PluginTimes,
}

impl Entry {
    fn begin(&self, step: Step) -> Option<Instant> {
        let has_a_word = match self.steps {
            Steps::Both => true,
            Steps::Admit => step == Step::Admit,
            Steps::Validate => step == Step::Validate,
        };
        has_a_word.then(Instant::now)
    }

    /// Counts what has begun.
    fn end(&self, begun: Option<Instant>, step: Step, asked: &Attributes<'_>, rejected: bool) {
        if let Some(begun) = begun {
            asked.took(&self.times, Some(self.name), step, begun, rejected);
        }
    }
}

impl Attributes<'_> {
    fn took(&self, times: &PluginTimes, plugin: Option<&str>, step: Step, begun: Instant, rejected: bool) {
        let operation = (self.operation as usize, self.operation.name());
        let counted = &self.registry.metrics.admission;
        counted.took(times, plugin, step, operation, rejected, begun.elapsed());
    }
}

/// The plugins of a server that are on, in upstream's order.
pub struct Admission {
    plugins: Vec<Entry>,
    times: PluginTimes,
    pipeline: Arc<OnceLock<Weak<Pipeline>>>,
}

impl Admission {
    /// The plugins of a server with this registry.
    ///
    /// # Errors
    /// When a plugin cannot be as it is configured.
    pub fn new(
        registry: &Arc<Registry>,
        configuration: &Configuration,
        open_reviewer: OpenReviewer<'_>,
    ) -> std::result::Result<Admission, ConfigurationError> {
        let pipeline = Arc::default();
        // a custom resource that ends takes nothing in: this cannot be switched off
        let mut plugins = vec![Entry {
            name: "CustomResourceDefinition",
            steps: Steps::Admit,
            plugin: Box::new(terminating_definition::TerminatingDefinition),
            times: PluginTimes::default(),
        }];
        for known in KNOWN.iter().filter(|known| configuration.is_on(known.name, known.on)) {
            let context = Context {
                registry,
                pipeline: &pipeline,
                config: configuration.of(known.name),
                open_reviewer,
            };
            let name = known.name;
            let made = (known.make)(&context).map_err(|source| ConfigurationError::Plugin { name, source })?;
            plugins.extend(made.map(|plugin| Entry {
                name,
                steps: known.steps,
                plugin,
                times: PluginTimes::default(),
            }));
        }
        Ok(Admission {
            plugins,
            times: PluginTimes::default(),
            pipeline,
        })
    }

    /// Lets plugins write by the pipeline that they are part of.
    pub fn belongs_to(&self, pipeline: &Arc<Pipeline>) {
        // the first holds
        let _ = self.pipeline.set(Arc::downgrade(pipeline));
    }

    fn of<'a>(&'a self, asked: &'a Attributes<'_>) -> impl Iterator<Item = &'a Entry> {
        self.plugins.iter().filter(|entry| entry.plugin.handles(asked))
    }

    /// Returns whether somebody outside is asked what to make of this.
    pub fn asks_others(&self, asked: &Attributes<'_>) -> bool {
        let mut plugins = self.plugins.iter().map(|entry| &entry.plugin);
        plugins.any(|plugin| plugin.asks_others() && plugin.handles(asked))
    }

    /// Asks all plugins before the rules of a kind are asked; twice when one has changed what an earlier one wants to see.
    ///
    /// # Errors
    /// `403` from the first that refuses, and what those say that it asked.
    pub async fn admit(&self, asked: &Attributes<'_>, tree: &mut Value, old: Option<&Value>) -> Result<()> {
        let begun = Instant::now();
        let admitted = self.admitted(asked, tree, old).await;
        asked.took(&self.times, None, Step::Admit, begun, admitted.is_err());
        admitted
    }

    async fn admitted(&self, asked: &Attributes<'_>, tree: &mut Value, old: Option<&Value>) -> Result<()> {
        let mut passes = Passes::default();
        loop {
            for entry in self.of(asked) {
                let begun = entry.begin(Step::Admit);
                let mut admitted = entry.plugin.admit(asked, tree, old);
                if admitted.is_ok()
                    && let Some(changing) = entry.plugin.change(asked, &mut passes, tree, old)
                {
                    admitted = changing.await;
                }
                entry.end(begun, Step::Admit, asked, admitted.is_err());
                admitted?;
            }
            if passes.is_second || !passes.again {
                return Ok(());
            }
            passes.is_second = true;
        }
    }

    /// Asks all plugins of an object as it will be stored. What they hold is to be kept when the write is made, else given back.
    ///
    /// # Errors
    /// `403` from the first that refuses.
    pub async fn validate(&self, asked: &Attributes<'_>, tree: &Value, old: Option<&Value>) -> Result<Vec<Charge>> {
        let begun = Instant::now();
        let validated = self.validated(asked, tree, old).await;
        asked.took(&self.times, None, Step::Validate, begun, validated.is_err());
        validated
    }

    async fn validated(&self, asked: &Attributes<'_>, tree: &Value, old: Option<&Value>) -> Result<Vec<Charge>> {
        let mut held = Vec::new();
        for entry in self.of(asked) {
            let begun = entry.begin(Step::Validate);
            let mut validated = entry.plugin.validate(asked, tree, old);
            if validated.is_ok()
                && let Some(holding) = entry.plugin.hold(asked, tree, old)
            {
                validated = holding.await.map(|charge| held.push(charge));
            }
            entry.end(begun, Step::Validate, asked, validated.is_err());
            validated?;
        }
        Ok(held)
    }
}

/// Several messages as one (`utilerrors.NewAggregate`).
fn aggregate(messages: &[String]) -> String {
    let mut distinct: Vec<&str> = Vec::new();
    for message in messages {
        if !distinct.contains(&message.as_str()) {
            distinct.push(message);
        }
    }
    match distinct[..] {
        [one] => one.to_owned(),
        _ => format!("[{}]", distinct.join(", ")),
    }
}

/// Whether the configuration of a plugin is of its kind.
///
/// # Errors
/// In upstream's words, when it is of another.
fn check_kind(config: &Value, version: &str, kind: &str) -> std::result::Result<(), PluginError> {
    let own = |key: &str| config.get(key).and_then(Value::as_str).unwrap_or_default();
    match (own("kind"), own("apiVersion")) {
        ("", _) => Err(PluginError::NoKind(config.clone())),
        (_, "") => Err(PluginError::NoVersion(config.clone())),
        (its, of) if its == kind && of == version => Ok(()),
        (its, of) => Err(PluginError::Kind {
            kind: its.to_owned(),
            version: of.to_owned(),
        }),
    }
}
