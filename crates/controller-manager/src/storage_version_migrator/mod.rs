//! Writes the objects of a resource anew, in the version that they are stored in now, where a StorageVersionMigration asks for it.
//! KEP-4192.

mod conditions;
mod definition;
mod objects;

use std::time::Duration;

use api::object::Object;
use client::Cache;
use http::Method;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::storagemigration::v1::StorageVersionMigration;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::GroupResource;
use serde_json::Value;

use crate::Error;
use crate::context::Context;
use crate::discovery::{ServedResource, Verb, find};
use crate::error::decode;
use crate::meta::name;
use conditions::{Set, is_true, running_message, set};

/// Migrations of different resources that go on at once.
const WORKERS: usize = 5;
/// A resource that is not served yet may be soon: for so long after a migration was asked for.
const PATIENCE: SignedDuration = SignedDuration::from_mins(1);

const RUNNING: &str = "Running";
const SUCCEEDED: &str = "Succeeded";
const FAILED: &str = "Failed";

/// What a migration needs next.
#[derive(Debug, PartialEq, Eq)]
enum Step {
    Nothing,
    /// Its turn has come.
    Begin,
    /// What is written from now on needs no migration.
    Mark,
    /// What was written up to this resourceVersion is written again.
    Migrate(u64),
    /// It has ended.
    Finish,
    /// Its status cannot be read.
    Unreadable(String),
}

fn wanted(migration: &StorageVersionMigration) -> Option<&GroupResource> {
    migration.spec.as_ref().map(|spec| &spec.resource)
}

fn ended(migration: &StorageVersionMigration) -> bool {
    is_true(migration, SUCCEEDED) || is_true(migration, FAILED)
}

fn step(migration: &StorageVersionMigration, all: &[StorageVersionMigration]) -> Step {
    let running = is_true(migration, RUNNING);
    if ended(migration) {
        return if running { Step::Finish } else { Step::Nothing };
    }
    if running {
        let version = migration.status.as_ref().and_then(|s| s.resource_version.as_deref());
        return match version.filter(|v| !v.is_empty()) {
            None => Step::Mark,
            Some(version) => version
                .parse()
                .map_or_else(|_| Step::Unreadable(version.to_owned()), Step::Migrate),
        };
    }
    // one of a resource at a time, the oldest first
    let place = |m: &StorageVersionMigration| (m.metadata.creation_timestamp.clone(), m.metadata.name.clone());
    let same = all.iter().filter(|m| wanted(m) == wanted(migration) && !ended(m));
    let mut before = same.filter(|m| is_true(m, RUNNING) || place(m) < place(migration));
    match before.next() {
        Some(_) => Step::Nothing,
        None => Step::Begin,
    }
}

pub(crate) async fn run(ctx: Context) -> Result<(), Error> {
    let migrations = ctx.informers.get::<StorageVersionMigration>();
    if !ctx.synced(&[&migrations]).await {
        return Ok(());
    }
    let queue = ctx.queue("storage-version-migrator-controller");
    ctx.each_change(&migrations, {
        let (queue, migrations) = (queue.clone(), migrations.clone());
        move |change| {
            // with one that ends the turn of another comes
            let resource = change.object().and_then(|object| resource_of(object));
            for other in migrations.list() {
                if resource_of(&other) == resource {
                    queue.add(other.key());
                }
            }
        }
    });
    let shared = ctx.clone();
    ctx.work(queue, WORKERS, move |key| {
        let (ctx, migrations) = (shared.clone(), migrations.clone());
        async move { sync(&ctx, &migrations, &key).await }
    })
    .await;
    Ok(())
}

fn resource_of(object: &Object) -> Option<Value> {
    let tree: Value = object.decode().ok()?;
    tree.pointer("/spec/resource").cloned()
}

/// A migration that is worked on.
struct Migration<'a> {
    ctx: &'a Context,
    object: StorageVersionMigration,
    wanted: GroupResource,
}

async fn sync(ctx: &Context, migrations: &Cache, key: &str) -> Result<Option<Duration>, Error> {
    let Some(object) = migrations.get(key) else {
        return Ok(None);
    };
    let object: StorageVersionMigration = decode(&object)?;
    let all = migrations.list();
    let all = all.iter().map(|object| decode(object)).collect::<Result<Vec<_>, _>>()?;
    let step = step(&object, &all);
    let Some(wanted) = wanted(&object).cloned() else {
        return Ok(None);
    };
    let mut migration = Migration { ctx, object, wanted };
    match step {
        Step::Nothing => Ok(()),
        Step::Begin => migration.begin().await,
        Step::Mark => migration.mark().await,
        Step::Migrate(until) => migration.migrate(until).await,
        Step::Finish => migration.finish().await,
        Step::Unreadable(version) => {
            let why = format!("resource version is not well formed: {version}");
            migration
                .fail(format!("migration encountered unhandled error: {why}"))
                .await
        }
    }?;
    Ok(None)
}

impl Migration<'_> {
    async fn begin(&mut self) -> Result<(), Error> {
        let message = format!("Migration {} is running", name(&self.object));
        definition::mark_running(&self.ctx.client, &self.wanted, &message).await?;
        self.set(RUNNING, "MigrationRunning", running_message(None, None));
        self.write().await
    }

    async fn finish(&mut self) -> Result<(), Error> {
        let succeeded = is_true(&self.object, SUCCEEDED);
        definition::mark_ended(&self.ctx.client, &self.wanted, succeeded).await?;
        let over = Set {
            kind: RUNNING,
            status: "False",
            reason: "MigrationCompleted",
            message: "Migration completed".to_owned(),
            generation: self.object.metadata.generation,
        };
        set(&mut self.object, over, Timestamp::now());
        self.write().await
    }

    /// The resource in the version that its group prefers. `None` when the migration has failed for want of it.
    async fn resource(&mut self, failure: &str) -> Result<Option<ServedResource>, Error> {
        let wanted = &self.wanted;
        if let Some(found) = find(&self.ctx.client, &wanted.group, &wanted.resource).await? {
            return Ok(Some(found));
        }
        let created = self.object.metadata.creation_timestamp.as_ref().map(|t| t.0);
        if created.is_some_and(|created| created + PATIENCE > Timestamp::now()) {
            let (group, plural) = (&wanted.group, &wanted.resource);
            return Err(Error::State(format!("{plural}.{group} is not served yet")));
        }
        self.fail(failure.to_owned()).await?;
        Ok(None)
    }

    async fn mark(&mut self) -> Result<(), Error> {
        let Some(resource) = self.resource("resource does not exist in discovery").await? else {
            return Ok(());
        };
        if ![Verb::Update, Verb::Patch, Verb::List]
            .iter()
            .all(|verb| resource.can(*verb))
        {
            let (group, version, plural) = (&resource.group, &resource.version, &resource.plural);
            return self
                .fail(format!(
                    "resource \"{group}/{version}, Resource={plural}\" does not support discovery operations: [update patch list]"
                ))
                .await;
        }
        let version = objects::newest(&self.ctx.client, &resource).await?;
        self.object.status.get_or_insert_default().resource_version = Some(version);
        self.write().await
    }

    async fn migrate(&mut self, until: u64) -> Result<(), Error> {
        let failure = "migration encountered unhandled error: unable to obtain GVR from discovery";
        let Some(resource) = self.resource(failure).await? else {
            return Ok(());
        };
        let client = &self.ctx.client;
        let found = objects::written_until(client, &resource, until).await?;
        let (total, mut left) = (found.total, found.old.len());
        for object in &found.old {
            match objects::rewrite(client, &resource, object).await {
                // it was written since, or is gone
                Err(error) if error.is_conflict() || error.is_not_found() => {}
                Err(error) if error.is_transient() => {
                    let message = running_message(Some((left, total)), Some(&error.to_string()));
                    self.set(RUNNING, "MigrationRunning", message);
                    self.write().await?;
                    return Err(error.into());
                }
                Err(error) => {
                    self.set(RUNNING, "MigrationRunning", running_message(Some((left, total)), None));
                    let what =
                        format!("{left}/{total} not yet migrated. migration encountered unhandled error: {error}");
                    return self.fail(what).await;
                }
                Ok(()) => {}
            }
            left -= 1;
        }
        self.set(RUNNING, "MigrationRunning", running_message(Some((left, total)), None));
        self.set(
            SUCCEEDED,
            "StorageVersionMigrationSucceeded",
            "Migration completed".to_owned(),
        );
        self.write().await
    }

    fn set(&mut self, kind: &'static str, reason: &'static str, message: String) {
        let condition = Set {
            kind,
            status: "True",
            reason,
            message,
            generation: None,
        };
        set(&mut self.object, condition, Timestamp::now());
    }

    async fn fail(&mut self, message: String) -> Result<(), Error> {
        self.set(FAILED, "StorageVersionMigrationFailed", message);
        self.write().await
    }

    async fn write(&mut self) -> Result<(), Error> {
        let path = format!(
            "/apis/storagemigration.k8s.io/v1/storageversionmigrations/{}/status",
            name(&self.object)
        );
        let written = self
            .ctx
            .client
            .json::<StorageVersionMigration>(Method::PUT, &path, &[], Some(&self.object));
        match written.await {
            Ok(written) => {
                self.object = written;
                Ok(())
            }
            Err(error) if error.is_not_found() => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn migration(name: &str, age: u8, plural: &str, conditions: &[&str]) -> StorageVersionMigration {
        let conditions: Vec<Value> = conditions
            .iter()
            .map(|kind| json!({ "type": kind, "status": "True", "reason": "R", "message": "", "lastTransitionTime": "2026-01-01T00:00:00Z" }))
            .collect();
        let object = json!({
            "metadata": { "name": name, "creationTimestamp": format!("2026-01-01T00:00:{age:02}Z") },
            "spec": { "resource": { "group": "example.org", "resource": plural } },
            "status": { "conditions": conditions },
        });
        serde_json::from_value(object).unwrap()
    }

    #[test]
    fn one_migration_of_a_resource_goes_on_at_a_time_and_the_oldest_first() {
        let (old, new) = (migration("b", 1, "as", &[]), migration("a", 2, "as", &[]));
        let other = migration("c", 3, "bs", &[]);
        let all = [new.clone(), old.clone(), other.clone()];
        assert_eq!(step(&old, &all), Step::Begin);
        assert_eq!(step(&new, &all), Step::Nothing);
        assert_eq!(step(&other, &all), Step::Begin);
        let running = migration("a", 2, "as", &[RUNNING]);
        assert_eq!(step(&old, &[running.clone(), old.clone()]), Step::Nothing);
        let over = migration("a", 2, "as", &[RUNNING, SUCCEEDED]);
        assert_eq!(step(&old, &[over.clone(), old.clone()]), Step::Begin);
        assert_eq!(step(&over, &[]), Step::Finish);
    }

    #[test]
    fn a_migration_marks_its_beginning_before_it_writes() {
        let mut running = migration("a", 1, "as", &[RUNNING]);
        assert_eq!(step(&running, &[]), Step::Mark);
        running.status.as_mut().unwrap().resource_version = Some("12".to_owned());
        assert_eq!(step(&running, &[]), Step::Migrate(12));
        running.status.as_mut().unwrap().resource_version = Some("x".to_owned());
        assert_eq!(step(&running, &[]), Step::Unreadable("x".to_owned()));
        assert_eq!(step(&migration("a", 1, "as", &[FAILED]), &[]), Step::Nothing);
    }
}
