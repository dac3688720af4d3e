//! The layers of a write: what lies between the tree that a client sent and the one that is stored, in upstream's order
//! (`endpoints/handlers`, then `registry/rest` and `registry/generic/registry/store.go`).

use api::field::{FieldError, FieldErrorKind};
use api::schema::rules::Rules;
use api::schema::structural::whole_numbers;
use serde_json::Value;

use crate::admission::{Attributes, Charge, Operation};
use crate::allocator::Reservation;
use crate::authorization::escalation::{self, Author};
use crate::authorization::params;
use crate::authorization::signer::may_sign;
use crate::http::status::{ApiError, Result};
use crate::kinds::check::{Check, Custom};
use crate::kinds::kind::Writer;
use crate::kinds::{self, disabled};
use crate::pipeline::owners::{self, Found};
use crate::pipeline::{Origin, Pipeline, View, Write};
use crate::registry::{managed, metadata};
use crate::tree::take;

/// What a namespace bears whose users may use devices that are in use by others.
const ADMIN_ACCESS: &str = "resource.kubernetes.io/admin-access";

/// What stands in an object's place before it is written.
#[derive(Clone, Copy)]
pub enum Before<'a> {
    Nothing(Origin),
    Object {
        old: &'a Value,
        /// The managed fields stay as the tree has them.
        applied: bool,
        /// What admission sees in place of the object.
        seen: Option<&'a dyn View>,
        /// The writer insists on another resourceVersion: it is told once admission has seen what was sent.
        stale: bool,
    },
}

impl<'a> Before<'a> {
    fn old(self) -> Option<&'a Value> {
        match self {
            Before::Nothing(_) => None,
            Before::Object { old, .. } => Some(old),
        }
    }

    /// Whether the managed fields of what was sent are right already.
    fn is_recorded(self) -> bool {
        match self {
            Before::Nothing(origin) => origin == Origin::Apply,
            Before::Object { applied, .. } => applied,
        }
    }

    fn seen(self) -> Option<&'a dyn View> {
        match self {
            Before::Nothing(_) => None,
            Before::Object { seen, .. } => seen,
        }
    }
}

/// An object that has passed all layers, and what it holds until it is stored.
pub struct Settled {
    pub name: String,
    pub tree: Value,
    pub allocated: Reservation,
    pub charges: Vec<Charge>,
}

impl Write<'_> {
    /// Takes a tree of the served version, decoded and defaulted, through all layers.
    pub async fn settle(&self, mut tree: Value, before: Before<'_>) -> Result<Settled> {
        let resource = &self.served.resource;
        let (rules, subresource, old) = (resource.rules, self.options.subresource.as_str(), before.old());
        let Pipeline {
            registry, allocator, ..
        } = self.pipeline;
        let seen = before.seen();
        let now = registry.timestamp();
        // a binding leaves a pod as its writers made it: nobody manages more, and no generation counts
        let bound = subresource == "binding";

        // the status of a new object is not its writer's to give, but for the part that its kind takes, which nobody manages
        let status = match old {
            None if rules.has_status => take(&mut tree, "status"),
            _ => None,
        };

        // metadata: name, uid and times; first, for every other layer speaks of the object by them
        let given = metadata::text(&tree, "name").to_owned();
        self.identify(&mut tree, old)?;
        let name = metadata::text(&tree, "name").to_owned();

        // managed fields: recorded of what the writer sent, before anybody adds to it
        if !before.is_recorded() && !bound {
            self.record(&mut tree, status.as_ref(), old);
        }

        // mutating admission: it reads what was asked for, before the path undoes what it may not change
        let (operation, known) = match old {
            None => (Operation::Create, &given),
            Some(_) => (Operation::Update, &name),
        };
        let attributes = self.attributes(operation, &name, known);
        self.mutate(&attributes, &mut tree, status, old, seen).await?;
        owners::once(&mut tree, Found::AfterAdmission, &self.options.warnings);
        if let Some(old) = old {
            metadata::keep_times(&mut tree, old)?;
        }
        if matches!(before, Before::Object { stale: true, .. }) {
            return Err(self.place().modified(&name));
        }
        let name = metadata::text(&tree, "name").to_owned();

        // the generation of kinds that count what is sent, before any of it goes
        let counts = |tree: &Value| old.is_some_and(|old| metadata::is_counted(rules, subresource, tree, old));
        let sent_counts = rules.counts_sent && subresource.is_empty() && counts(&tree);

        // the kind's own preparation: the path keeps to its part, features that are off go, the server's own fields come
        self.prepare(&mut tree, old, &now);

        // defaults again: of what the layers before have added
        self.fill(&mut tree);

        // the generation: once everything is in place that it counts
        if let Some(old) = old.filter(|_| !bound)
            && (sent_counts || !rules.counts_sent && counts(&tree))
        {
            metadata::bump_generation(&mut tree, old)?;
        }

        // escalation: of roles as they will be stored, and before anything is said of them that their writer may not know
        let requested = match before {
            Before::Nothing(Origin::Post) => "",
            _ => name.as_str(),
        };
        escalation::check(&self.author(requested), &tree, old)?;

        // addresses and ports: held from here until the object is stored, so that validation sees them
        let allocated = allocator.allocate(registry, resource, &mut tree, old, self.options.dry_run)?;

        // the rules of the kind: everything that a client can see of the object is in place
        self.check(&tree, old)?;

        // the right to create: who may change an object may not therefore make one; asked late, as upstream does
        if matches!(before, Before::Nothing(Origin::Put | Origin::Apply)) {
            self.authorize_create(&name)?;
        }

        // warnings: of an object that is well formed
        self.warn(&tree, old);

        // validating admission: last, of what will be stored; quotas are charged for nothing that is refused
        // by the name that was asked for, whatever became of it
        let told = match old {
            None if !given.is_empty() => &given,
            _ => &name,
        };
        let attributes = self.attributes(operation, told, told);
        let charges = self.validate(&attributes, &tree, old, seen).await?;

        // storage: a tree as it will be read again
        self.shed(&mut tree);
        Ok(Settled {
            name,
            tree,
            allocated,
            charges,
        })
    }

    /// Gives an object what the server says of it: a name where it has none, a uid, times.
    fn identify(&self, tree: &mut Value, old: Option<&Value>) -> Result<()> {
        let Some(old) = old else {
            let taken = |name: &str| self.served.cache.get(self.namespace, name).is_some();
            return metadata::prepare_create(
                &self.pipeline.registry,
                &self.served.resource,
                tree,
                self.namespace,
                taken,
            );
        };
        metadata::keep_place(tree, old)
    }

    /// Records who manages which fields. `status` is what was taken out of a new object.
    fn record(&self, tree: &mut Value, status: Option<&Value>, old: Option<&Value>) {
        match status {
            // an object that cannot be taken apart has no managers, be it for what it loses
            Some(status) if self.served.resource.is_custom() => {
                tree["status"] = status.clone();
                self.place().track(self.options, old, tree);
                take(tree, "status");
            }
            _ => self.place().track(self.options, old, tree),
        }
    }

    fn fill(&self, tree: &mut Value) {
        let resource = &self.served.resource;
        if !resource.is_custom() {
            let schema = resource.schema.get();
            schema.set_defaults(resource.root, tree);
            schema.normalize(resource.root, tree);
        }
    }

    fn shed(&self, tree: &mut Value) {
        let resource = &self.served.resource;
        if resource.is_custom() {
            whole_numbers(tree);
        } else if resource.is_protobuf() {
            resource.schema.get().forget_empty(resource.root, tree);
        }
    }

    fn prepare(&self, tree: &mut Value, old: Option<&Value>, now: &str) {
        let rules = self.served.resource.rules;
        match old {
            None => {
                let mut told = Vec::new();
                (rules.warn_before_creation)(&mut told, tree);
                self.tell(told);
                disabled::drop_disabled(rules, &self.served.resource.switched_off, tree, None);
                let user = &self.options.user;
                (rules.prepare_create)(tree, &Writer { now, user });
            }
            Some(old) => {
                rules.confine(&self.options.subresource, tree, old);
                disabled::drop_disabled(rules, &self.served.resource.switched_off, tree, Some(old));
                (rules.prepare_update)(tree, old, now);
            }
        }
    }

    /// Lets admission change the object, or what it sees of it: with the status that a writer gave, without what only the
    /// server sets.
    async fn mutate(
        &self,
        attributes: &Attributes<'_>,
        tree: &mut Value,
        status: Option<Value>,
        old: Option<&Value>,
        seen: Option<&dyn View>,
    ) -> Result<()> {
        let rules = self.served.resource.rules;
        if let Some(status) = status {
            tree["status"] = status;
        }
        match (seen, old) {
            _ if self.options.admitted => {}
            (Some(view), Some(old)) => self.mutate_seen(attributes, tree, old, view).await?,
            _ => self.mutate_whole(attributes, tree, old).await?,
        }
        if old.is_none() && rules.has_status {
            let status = take(tree, "status");
            if let Some(status) = status.and_then(rules.status_on_create) {
                tree["status"] = status;
            }
        }
        Ok(())
    }

    async fn mutate_seen(
        &self,
        attributes: &Attributes<'_>,
        tree: &mut Value,
        old: &Value,
        view: &dyn View,
    ) -> Result<()> {
        let (mut shown, old) = match view.sent() {
            Some(sent) => sent,
            None => (view.of(tree)?, view.of(old)?),
        };
        let before = shown.clone();
        let admission = &self.pipeline.admission;
        admission.admit(attributes, &mut shown, Some(&old)).await?;
        match shown == before {
            true => Ok(()),
            false => view.put(tree, shown),
        }
    }

    async fn mutate_whole(&self, attributes: &Attributes<'_>, tree: &mut Value, old: Option<&Value>) -> Result<()> {
        let outside = self.pipeline.admission.asks_others(attributes);
        let managers = tree.pointer("/metadata/managedFields").filter(|_| outside).cloned();
        let withheld = match old {
            None => Some(metadata::withhold(
                tree,
                attributes.known_name,
                self.served.resource.rules,
            )?),
            Some(_) => None,
        };
        self.pipeline.admission.admit(attributes, tree, old).await?;
        match (withheld, old) {
            (Some(withheld), _) => {
                withheld.give_back(tree)?;
                self.keep_namespace(tree)?;
            }
            (None, Some(old)) => {
                self.keep_name(tree, old)?;
            }
            (None, None) => {}
        }
        let now = tree.pointer("/metadata/managedFields").filter(|_| outside);
        if now != managers.as_ref()
            && let Some(why) = now.and_then(managed::unfit)
        {
            self.options.warnings.add(format!(
                ".metadata.managedFields was in an invalid state after admission; this could be caused by an outdated \
                 mutating admission controller; please fix your requests: {why}"
            ));
            match managers {
                Some(managers) => tree["metadata"]["managedFields"] = managers,
                None => drop(metadata::of(tree)?.remove("managedFields")),
            }
        }
        Ok(())
    }

    /// A new object is of the namespace that it is made in, whatever became of its metadata.
    fn keep_namespace(&self, tree: &mut Value) -> Result<()> {
        if !self.served.resource.namespaced {
            return Ok(());
        }
        match metadata::text(tree, "namespace") {
            "" => drop(metadata::of(tree)?.insert("namespace".into(), self.namespace.into())),
            own if own == self.namespace => {}
            _ => {
                let why = "the namespace of the provided object does not match the namespace sent on the request";
                return Err(ApiError::bad_request(why));
            }
        }
        Ok(())
    }

    /// Nobody gives an object another name or namespace.
    fn keep_name(&self, tree: &Value, old: &Value) -> Result<()> {
        let text = |tree: &Value, key: &str| metadata::text(tree, key).to_owned();
        let changed = ["name", "namespace"]
            .into_iter()
            .filter(|key| text(tree, key) != text(old, key));
        let error = |key: &str| {
            let now = text(tree, key).into();
            FieldError::invalid(format!("metadata.{key}"), now, "field is immutable")
        };
        let errors: Vec<FieldError> = changed.map(error).collect();
        match errors.is_empty() {
            true => Ok(()),
            false => Err(self.served.resource.invalid(&text(tree, "name"), &errors)),
        }
    }

    /// Asks admission of the object as it will be stored, or of what it sees of it.
    async fn validate(
        &self,
        attributes: &Attributes<'_>,
        tree: &Value,
        old: Option<&Value>,
        seen: Option<&dyn View>,
    ) -> Result<Vec<Charge>> {
        let admission = &self.pipeline.admission;
        match (seen, old) {
            _ if self.options.admitted => Ok(Vec::new()),
            (Some(view), Some(old)) => {
                let (shown, old) = (view.of(tree)?, view.of(old)?);
                admission.validate(attributes, &shown, Some(&old)).await
            }
            _ => admission.validate(attributes, tree, old).await,
        }
    }

    fn author<'b>(&'b self, requested: &'b str) -> Author<'b> {
        Author {
            authorizer: &self.pipeline.authorizer,
            user: &self.options.user,
            resource: &self.served.resource,
            namespace: self.namespace,
            requested,
        }
    }

    /// Who may change an object that is there may not therefore make one that is not.
    fn authorize_create(&self, name: &str) -> Result<()> {
        let resource = &self.served.resource;
        let attributes = crate::authorization::Attributes {
            verb: "create",
            is_resource: true,
            group: &resource.group,
            namespace: self.namespace,
            resource: &resource.plural,
            subresource: &self.options.subresource,
            name,
            ..Default::default()
        };
        self.pipeline.authorizer.authorize(&self.options.user, &attributes)
    }

    fn warn(&self, tree: &Value, old: Option<&Value>) {
        let resource = &self.served.resource;
        // upstream warns of built-in kinds by the writes of the objects themselves alone, of which a scale is one
        if resource.is_custom() || matches!(self.options.subresource.as_str(), "" | "scale") {
            let mut told = Vec::new();
            (resource.rules.warn)(&mut told, tree, old);
            self.tell(told);
        }
    }

    fn tell(&self, told: Vec<String>) {
        told.into_iter().for_each(|text| self.options.warnings.add(text));
    }

    fn check(&self, tree: &Value, old: Option<&Value>) -> Result<()> {
        let resource = &self.served.resource;
        let subresource = self.options.subresource.as_str();
        let rules = resource.rules;
        let mut errors = kinds::metadata::validate(rules, tree, old, subresource);
        let check = Check {
            new: tree,
            old,
            subresource,
            custom: resource.is_custom().then(|| Custom {
                schema: resource.schema.get(),
                scale: resource.scale.as_ref(),
                rules: resource.validations.as_deref(),
                blocked: errors.iter().any(kinds::custom::blocks_rules),
                warnings: &self.options.warnings,
            }),
            now: self.pipeline.registry.instant().seconds,
        };
        if let Some(at) = (rules.admin_access)(&check) {
            let namespace = self.pipeline.registry.get("", "namespaces", "", self.namespace);
            if namespace.is_none_or(|namespace| namespace.object.meta.label(ADMIN_ACCESS) != Some("true")) {
                let why = format!(
                    "admin access to devices requires the `{ADMIN_ACCESS}: true` label on the containing namespace"
                );
                errors.push(FieldError::forbidden(at, why));
            }
        }
        let found = (rules.validate)(&check);
        if old.is_none() && rules.metadata.last && !found.is_empty() {
            errors.clear();
        }
        errors.extend(found);
        if !resource.is_custom() {
            // what the types declare stands for what is found by hand of the same kind at the same place
            let declared = Rules::builtin().map_err(ApiError::internal)?;
            let declared = declared.check(resource.schema.get(), resource.root, tree, old);
            errors.retain(|by_hand| !declared.iter().any(|declared| stands_for(declared, by_hand)));
            if resource.is_declared() {
                errors.distinct();
            }
            errors.extend(declared);
        }
        if errors.is_empty()
            && let Some(signer) = (rules.signs)(&check)
            && !may_sign(&self.pipeline.authorizer, &self.options.user, "sign", &signer)
        {
            let user = &self.options.user.name;
            let why = format!("User {user:?} is not permitted to \"sign\" for signer {signer:?}");
            errors.push(FieldError::forbidden("spec.signerName", why));
        }
        if errors.is_empty() && subresource.is_empty() {
            errors.extend(params::refusal(&self.author(""), &self.pipeline.registry, tree, old));
        }
        if errors.is_empty() {
            return Ok(());
        }
        if !resource.is_custom() {
            let schema = resource.schema.get();
            for error in errors.iter_mut().filter(|e| e.bad_value == Some(Value::Null)) {
                if let Some(zero) = schema.zero_at(resource.root, &error.field) {
                    error.bad_value = Some(zero);
                }
            }
        }
        Err(resource.invalid(metadata::text(tree, "name"), &errors))
    }
}

/// Whether an error that a type declares is the same as one that is found by hand: its words may be others where they are of a format.
fn stands_for(declared: &FieldError, by_hand: &FieldError) -> bool {
    let of_format = |error: &FieldError| {
        let told = &error.detail;
        told.contains("regex used for validation") || told.starts_with("must be no more than")
    };
    // the value may stand before the words; what is fixed is declared without one
    let words = declared.detail.strip_prefix("null: ").unwrap_or(&declared.detail);
    let said = by_hand.detail.strip_suffix(words);
    let is_said = said.is_some_and(|value| value.is_empty() || by_hand.bad_value.is_none() && value.ends_with(": "));
    declared.kind == by_hand.kind
        && declared.field == by_hand.field
        && (declared.kind != FieldErrorKind::Invalid || is_said || of_format(declared) && of_format(by_hand))
}
