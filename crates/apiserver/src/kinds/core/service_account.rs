//! ServiceAccount. It keeps the names of the secrets that it lists, and nothing else of them.

use serde_json::Value;

use crate::kinds::columns::ONLY_AGE;
use crate::kinds::{Again, Asked, Kind, no_rules};

/// Upstream asks nothing but the rules of metadata of it.
pub(in crate::kinds) const KIND: Kind = Kind {
    prepare_create: |account, _| name_secrets(account),
    prepare_update: |new, _, _| name_secrets(new),
    metadata: Asked::on_update(Again::BOTH),
    returns_deleted: true,
    columns: ONLY_AGE,
    ..Kind::plain("", "serviceaccounts", no_rules)
};

fn name_secrets(account: &mut Value) {
    let secrets = account.get_mut("secrets").and_then(Value::as_array_mut);
    for secret in secrets.into_iter().flatten().filter_map(Value::as_object_mut) {
        secret.retain(|key, _| key == "name");
    }
}
