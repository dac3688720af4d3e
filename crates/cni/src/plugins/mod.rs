//! The plugins that are part of this program, and what they share.

mod bridge;
mod host_local;
pub(crate) mod loopback;
mod masquerade;
mod pod_link;
mod portmap;
mod ranges;

use nix::errno::Errno;
use serde_json::Value;

use crate::exec::Invocation;
use crate::nft::{self, Batch, Family, list_rules};
use crate::types::PluginError;

pub(crate) type Plugin = fn(&Invocation, &Value) -> Result<Value, PluginError>;

/// The names that `find` knows.
pub const NAMES: [&str; 4] = ["bridge", "host-local", "loopback", "portmap"];

/// Our own plugin of this name.
pub(crate) fn find(name: &str) -> Option<Plugin> {
    match name {
        "bridge" => Some(bridge::run),
        "host-local" => Some(host_local::run),
        "loopback" => Some(loopback::run),
        "portmap" => Some(portmap::run),
        _ => None,
    }
}

/// Removes the rules of a table whose comment is picked. A rule that another plugin's run removed meanwhile
/// makes the kernel refuse the batch: then the rules are read again.
fn remove_rules(family: Family, table: &str, picked: impl Fn(&str) -> bool) -> Result<(), nft::Error> {
    const TRIES: usize = 5;
    for attempt in 1..=TRIES {
        let mut batch = Batch::new(family, table);
        for rule in list_rules(family, table)?.iter().filter(|r| picked(&r.comment)) {
            batch.del_rule(&rule.chain, rule.handle);
        }
        match batch.commit() {
            Err(e) if e.errno() == Some(Errno::ENOENT) && attempt < TRIES => {}
            other => return other,
        }
    }
    Ok(())
}
