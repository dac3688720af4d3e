//! The pipeline: from a decoded tree to a stored object. Every write of a client passes the same sequence of layers
//! (`layers`), then one transaction (`registry::commit`). The server's own small changes of what it keeps itself take the short way
//! (`registry::own`).

pub mod delete;
mod layers;
pub mod owners;
pub mod patch;
pub mod patch_text;
pub mod write;

use std::sync::Arc;

use serde_json::Value;

use crate::admission::{Admission, Attributes, Operation};
use crate::allocator::{Allocator, Ranges};
use crate::authorization::Authorizer;
use crate::http::status::Result;
use crate::registry::commit::Place;
use crate::registry::{Registry, Served};

pub use crate::registry::managed::WriteOptions;

/// The parts of a server that writes pass.
pub struct Pipeline {
    pub registry: Arc<Registry>,
    pub authorizer: Arc<Authorizer>,
    pub admission: Admission,
    pub allocator: Arc<Allocator>,
}

impl Pipeline {
    /// The pipeline of a server with this admission that gives out addresses and ports of these ranges.
    pub fn new(registry: Arc<Registry>, admission: Admission, ranges: Ranges) -> Arc<Pipeline> {
        let pipeline = Arc::new(Pipeline {
            authorizer: Arc::new(Authorizer::new(registry.clone())),
            admission,
            registry,
            allocator: Allocator::new(ranges),
        });
        pipeline.admission.belongs_to(&pipeline);
        pipeline
    }
}

/// How a new object comes about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// A POST to the collection: `create` is what was asked for and allowed.
    Post,
    /// A PUT to a name that is not there.
    Put,
    /// A server-side apply of a name that is not there; the managed fields are written already.
    Apply,
}

/// What a caller made of an object.
pub struct Change {
    pub tree: Value,
    /// Must be the object's uid.
    pub uid: Option<String>,
    /// Must be the object's resourceVersion.
    pub revision: Option<u64>,
    /// The managed fields stay as the tree has them: server-side apply has written them, or nobody is to manage the change.
    pub applied: bool,
    /// What admission sees in place of the object.
    pub seen: Option<Box<dyn View>>,
}

/// An object as admission sees it where a path has a kind of its own, such as `scale`.
pub trait View: Send + Sync {
    /// What is seen of an object.
    ///
    /// # Errors
    /// When it cannot be made of the object.
    fn of(&self, tree: &Value) -> Result<Value>;

    /// What was sent, and what it replaces, where mutating admission sees more than can be seen of the objects.
    fn sent(&self) -> Option<(Value, Value)> {
        None
    }

    /// Brings back into the object what has become of what was seen.
    ///
    /// # Errors
    /// When that makes no object.
    fn put(&self, tree: &mut Value, seen: Value) -> Result<()>;
}

impl Change {
    /// A change of whatever the object is now.
    pub fn to(tree: Value) -> Change {
        Change {
            tree,
            uid: None,
            revision: None,
            applied: false,
            seen: None,
        }
    }
}

/// The parts of a write that a caller's change is made in.
pub struct Write<'a> {
    pub pipeline: &'a Pipeline,
    pub served: &'a Served,
    pub namespace: &'a str,
    pub options: &'a WriteOptions,
}

impl Write<'_> {
    /// Where it writes.
    pub fn place(&self) -> Place<'_> {
        Place {
            registry: &self.pipeline.registry,
            served: self.served,
            namespace: self.namespace,
        }
    }

    /// A write as admission sees it. `known_name` is what is known of the name so far.
    pub fn attributes<'b>(&'b self, operation: Operation, name: &'b str, known_name: &'b str) -> Attributes<'b> {
        Attributes {
            registry: &self.pipeline.registry,
            authorizer: &self.pipeline.authorizer,
            user: &self.options.user,
            operation,
            resource: &self.served.resource,
            subresource: &self.options.subresource,
            namespace: self.namespace,
            name,
            known_name,
            dry_run: self.options.dry_run,
            options: &self.options.given,
            deadline: self.options.deadline,
            warnings: &self.options.warnings,
            trail: &self.options.trail,
        }
    }
}
