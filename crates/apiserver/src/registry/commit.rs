//! The transaction that stores an object, or ends it.

use std::sync::Arc;

use etcd::{Compare, CompareTarget, KeyRange, Op, OpResponse, Put, Txn};
use serde_json::Value;

use crate::http::status::{ApiError, Result};
use crate::registry::cached::{Cached, Encoded};
use crate::registry::resource::Resource;
use crate::registry::{Registry, Served};

/// What else a transaction of an object does, and only if it can.
#[derive(Default)]
pub struct Claims {
    pub compare: Vec<Compare>,
    pub operations: Vec<Op>,
}

impl Claims {
    /// Adds them to a transaction, behind what it does already.
    pub fn join(self, txn: &mut Txn) {
        txn.compare.extend(self.compare);
        txn.success.extend(self.operations);
    }
}

/// The state of the key that a write was decided on.
#[derive(Debug, Clone, Copy)]
pub enum Expect {
    Absent,
    At(u64),
}

/// The place of a kind's objects in a namespace.
#[derive(Clone, Copy)]
pub struct Place<'a> {
    pub registry: &'a Registry,
    pub served: &'a Served,
    pub namespace: &'a str,
}

impl Place<'_> {
    /// The object as it is now.
    ///
    /// # Errors
    /// `404`.
    pub fn current(&self, name: &str) -> Result<Arc<Cached>> {
        let found = self.served.cache.get(self.namespace, name);
        found.ok_or_else(|| self.served.resource.not_found(name))
    }

    /// The error of a write that another was faster than.
    pub fn modified(&self, name: &str) -> ApiError {
        let resource = &self.served.resource;
        ApiError::modified(&resource.group, &resource.plural, name)
    }

    /// Stores the encoded object in place of what was expected there; `None` when another writer was first.
    pub async fn put(
        &self,
        name: &str,
        expect: Expect,
        encoded: &Encoded,
        claims: Claims,
    ) -> Result<Option<Arc<Cached>>> {
        let store = &*self.registry.store;
        let resource = &self.served.resource;
        let put = Op::Put(Put {
            key: resource.key(self.namespace, name),
            value: encoded.value(),
            lease: self.registry.event_lease.of(resource, store).await?,
            hint: Some(Arc::new(encoded.prepared.clone())),
        });
        let Some((responses, revision)) = self.commit(name, expect, put, claims).await? else {
            return Ok(None);
        };
        match responses.first() {
            Some(OpResponse::Put { value, .. }) => {
                let stored = Cached::from_prepared(&encoded.prepared, value.clone(), revision);
                Ok(Some(Arc::new(stored)))
            }
            _ => Err(ApiError::internal("the store answered a put with something else")),
        }
    }

    /// Deletes the object as it was read; the revision of its end, `None` when another writer was first.
    pub async fn end(&self, name: &str, at: u64, claims: Claims) -> Result<Option<u64>> {
        let key = self.served.resource.key(self.namespace, name);
        let done = self.commit(name, Expect::At(at), Op::Delete(KeyRange::One(key)), claims);
        Ok(done.await?.map(|(_, revision)| revision))
    }

    async fn commit(
        &self,
        name: &str,
        expect: Expect,
        op: Op,
        claims: Claims,
    ) -> Result<Option<(Vec<OpResponse>, u64)>> {
        let revision = match expect {
            Expect::Absent => 0,
            Expect::At(revision) => revision,
        };
        let mut txn = Txn {
            compare: vec![Compare {
                key: self.served.resource.key(self.namespace, name),
                target: CompareTarget::ModRevision(revision),
            }],
            success: vec![op],
            failure: Vec::new(),
        };
        claims.join(&mut txn);
        let result = self.registry.store.txn(txn).await?;
        Ok(result.succeeded.then_some((result.responses, result.revision)))
    }
}

/// Whether an update removes the last thing that a deletion waited for.
pub fn ends_now(resource: &Resource, new: &Value, old: &Value) -> bool {
    let any = |list: Option<&Value>| list.and_then(Value::as_array).is_some_and(|l| !l.is_empty());
    let waits = |tree: &Value| {
        any(tree.pointer("/metadata/finalizers")) || resource.rules.hold.is_some_and(|hold| (hold.holds)(tree))
    };
    let grace = new
        .pointer("/metadata/deletionGracePeriodSeconds")
        .and_then(Value::as_i64)
        .unwrap_or(0);
    let deleted = old.pointer("/metadata/deletionTimestamp").and_then(Value::as_str);
    deleted.is_some_and(|at| !at.is_empty()) && waits(old) && !waits(new) && grace == 0
}
