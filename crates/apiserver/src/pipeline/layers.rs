//! The layers of a write: what lies between the tree that a client sent and the one that is stored, in upstream's order
//! (`endpoints/handlers`, then `registry/rest` and `registry/generic/registry/store.go`).

use api::field::FieldError;
use serde_json::Value;

use crate::admission::{Charge, Operation};
use crate::allocator::Reservation;
use crate::authorization::escalation::{self, Author};
use crate::http::status::Result;
use crate::kinds::check::{Check, Custom};
use crate::kinds::kind::Writer;
use crate::kinds::{self, disabled};
use crate::pipeline::{Origin, Pipeline, Write};
use crate::registry::metadata;

/// What a namespace bears whose users may use devices that are in use by others.
const ADMIN_ACCESS: &str = "resource.kubernetes.io/admin-access";

/// What stands in an object's place before it is written.
#[derive(Clone, Copy)]
pub enum Before<'a> {
    Nothing(Origin),
    Object {
        old: &'a Value,
        /// Server-side apply has written the managed fields already.
        applied: bool,
    },
}

impl<'a> Before<'a> {
    fn old(self) -> Option<&'a Value> {
        match self {
            Before::Nothing(_) => None,
            Before::Object { old, .. } => Some(old),
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
            registry,
            admission,
            allocator,
            ..
        } = self.pipeline;
        let now = registry.timestamp();
        // a binding leaves a pod as its writers made it: nobody manages more, and no generation counts
        let bound = subresource == "binding";

        // the status of a new object is not its writer's to give, but for the part that its kind takes, which nobody manages
        let status = match (old, tree.as_object_mut()) {
            (None, Some(object)) if rules.has_status => object.remove("status"),
            _ => None,
        };

        // metadata: name, uid and times; first, for every other layer speaks of the object by them
        match old {
            None => metadata::prepare_create(registry, resource, &mut tree, self.namespace)?,
            Some(old) => metadata::prepare_update(&mut tree, old)?,
        }
        let name = metadata::text(&tree, "name").to_owned();

        // managed fields: recorded of what the writer sent, before anybody adds to it
        let recorded = match before {
            Before::Nothing(origin) => origin == Origin::Apply,
            Before::Object { applied, .. } => applied,
        };
        if !recorded && !bound {
            self.place().track(self.options, old, &mut tree);
        }
        if let Some(status) = status.and_then(rules.status_on_create) {
            tree["status"] = status;
        }

        // mutating admission: it reads what was asked for, before the path undoes what it may not change
        let operation = match old {
            None => Operation::Create,
            Some(_) => Operation::Update,
        };
        let attributes = self.attributes(operation, &name);
        admission.admit(&attributes, &mut tree, old)?;

        // the kind's own preparation: the path keeps to its part, features that are off go, the server's own fields come
        match old {
            None => {
                let mut told = Vec::new();
                (rules.warn_before_creation)(&mut told, &tree);
                self.tell(told);
                disabled::drop_disabled(rules, &mut tree, None);
                let user = &self.options.user;
                (rules.prepare_create)(&mut tree, &Writer { now: &now, user });
            }
            Some(old) => {
                rules.confine(subresource, &mut tree, old);
                disabled::drop_disabled(rules, &mut tree, Some(old));
                (rules.prepare_update)(&mut tree, old, &now);
            }
        }

        // defaults again: of what the layers before have added
        if !resource.is_custom() {
            let schema = resource.schema.get();
            schema.set_defaults(resource.root, &mut tree);
            schema.normalize(resource.root, &mut tree);
        }

        // the generation: once everything is in place that it counts
        if let Some(old) = old.filter(|_| !bound) {
            metadata::bump_generation(rules, subresource, &mut tree, old)?;
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
        let charges = admission.validate(&attributes, &tree, old).await?;
        Ok(Settled {
            name,
            tree,
            allocated,
            charges,
        })
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
        // upstream warns of built-in kinds by the writes of the objects themselves alone
        if resource.is_custom() || self.options.subresource.is_empty() {
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
            }),
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
