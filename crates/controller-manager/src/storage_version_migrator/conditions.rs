//! The conditions of a migration, in upstream's words.

use jiff::Timestamp;
use k8s_openapi::api::storagemigration::v1::StorageVersionMigration;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

pub(super) fn is_true(migration: &StorageVersionMigration, kind: &str) -> bool {
    let conditions = migration.status.iter().flat_map(|s| s.conditions.iter().flatten());
    conditions.into_iter().any(|c| c.type_ == kind && c.status == "True")
}

/// A condition as it is to be.
pub(super) struct Set {
    pub kind: &'static str,
    pub status: &'static str,
    pub reason: &'static str,
    pub message: String,
    pub generation: Option<i64>,
}

/// Its time moves with its status.
pub(super) fn set(migration: &mut StorageVersionMigration, wanted: Set, now: Timestamp) {
    let status = migration.status.get_or_insert_default();
    let conditions = status.conditions.get_or_insert_default();
    let there = conditions.iter_mut().find(|c| c.type_ == wanted.kind);
    let since = there.as_ref().filter(|c| c.status == wanted.status);
    let condition = Condition {
        type_: wanted.kind.to_owned(),
        status: wanted.status.to_owned(),
        reason: wanted.reason.to_owned(),
        message: wanted.message,
        observed_generation: wanted.generation,
        last_transition_time: since.map_or(Time(now), |c| c.last_transition_time.clone()),
    };
    match there {
        Some(there) => *there = condition,
        None => conditions.push(condition),
    }
}

/// `counted` are the objects that are left, and all; `error` is what stopped it for now.
pub(super) fn running_message(counted: Option<(usize, usize)>, error: Option<&str>) -> String {
    let mut message = "The migration is running".to_owned();
    match counted {
        None | Some((_, 0)) => {}
        Some((0, total)) => message.push_str(&format!(", {total} objects verified migrated")),
        Some((left, total)) => message.push_str(&format!(", {left}/{total} objects not yet migrated")),
    }
    if let Some(error) = error {
        message.push_str(&format!("; transient error: {error}"));
    }
    message
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_counts_what_is_left() {
        assert_eq!(running_message(None, None), "The migration is running");
        assert_eq!(running_message(Some((0, 0)), None), "The migration is running");
        assert_eq!(
            running_message(Some((0, 3)), None),
            "The migration is running, 3 objects verified migrated"
        );
        assert_eq!(
            running_message(Some((2, 3)), Some("slow")),
            "The migration is running, 2/3 objects not yet migrated; transient error: slow"
        );
    }
}
