//! The environments that expressions of definitions, policies and webhooks are compiled in.

use std::sync::LazyLock;

use cel::Environment;

/// The minor version whose functions new expressions may use: the one before the server's, so that a rollback still knows them.
const COMPATIBILITY: u32 = api::version::MINOR - 1;

static FOR_NEW: LazyLock<Environment> = LazyLock::new(|| Environment::kubernetes(COMPATIBILITY));
static FOR_STORED: LazyLock<Environment> = LazyLock::new(Environment::stored);

/// For expressions that are written now.
pub fn for_new() -> &'static Environment {
    &FOR_NEW
}

/// For expressions that were accepted before, perhaps by a newer server.
pub fn for_stored() -> &'static Environment {
    &FOR_STORED
}
