//! The plugins that are part of this program.

pub mod loopback;

use serde_json::Value;

use crate::exec::Invocation;
use crate::types::PluginError;

pub(crate) type Plugin = fn(&Invocation, &Value) -> Result<Value, PluginError>;

/// Our own plugin of this name.
pub(crate) fn find(name: &str) -> Option<Plugin> {
    match name {
        "loopback" => Some(loopback::run),
        _ => None,
    }
}
