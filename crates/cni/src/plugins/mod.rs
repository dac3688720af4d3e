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

/// Takes down what the plugins made for a node whose pods are gone: the bridge, and our tables where no pod of anybody
/// has a rule.
pub fn cleanup(bridge: &str) -> Result<(), crate::Error> {
    let failed = |e: &dyn std::fmt::Display| crate::Error::Cleanup(e.to_string());
    let mut links = crate::link::Links::open().map_err(|e| failed(&e))?;
    if let Some(link) = links.by_name(bridge).map_err(|e| failed(&e))? {
        links.del(link.index).map_err(|e| failed(&e))?;
    }
    for (family, table) in [
        (Family::Inet, masquerade::TABLE),
        (Family::Ipv4, portmap::TABLE),
        (Family::Ipv6, portmap::TABLE),
    ] {
        let rules = list_rules(family, table).map_err(|e| failed(&e))?;
        // pods' rules carry comments
        if rules.iter().all(|r| r.comment.is_empty()) {
            let mut batch = Batch::new(family, table);
            batch.add_table();
            batch.del_table();
            batch.commit().map_err(|e| failed(&e))?;
        }
    }
    Ok(())
}
