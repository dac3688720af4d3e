//! `loopback`: brings up `lo` in the pod's namespace.

use std::path::Path;

use serde_json::Value;

use crate::exec::{Command, Invocation};
use crate::link::Links;
use crate::netlink;
use crate::netns::{NetnsError, inside};
use crate::types::{AddResult, Interface, IpConfig, PluginError, code};

#[derive(Debug, thiserror::Error)]
pub(crate) enum LoopbackError {
    #[error(transparent)]
    Netns(#[from] NetnsError),
    #[error("bringing up lo: {0}")]
    Link(#[from] netlink::Error),
    #[error("there is no lo")]
    Missing,
    #[error("lo is down")]
    Down,
}

/// Brings up `lo` in the namespace at `netns`.
pub(crate) fn up(netns: &Path) -> Result<(), LoopbackError> {
    inside(netns, || {
        let mut links = Links::open()?;
        let lo = links.by_name("lo")?.ok_or(LoopbackError::Missing)?;
        links.set_up(lo.index)?;
        Ok(())
    })?
}

fn check(netns: &Path) -> Result<(), LoopbackError> {
    inside(netns, || match Links::open()?.by_name("lo")? {
        Some(lo) if lo.up => Ok(()),
        Some(_) => Err(LoopbackError::Down),
        None => Err(LoopbackError::Missing),
    })?
}

pub(crate) fn run(invocation: &Invocation, conf: &Value) -> Result<Value, PluginError> {
    let failed = |e: LoopbackError| PluginError::new(code::IO_FAILURE, e.to_string());
    let Some(netns) = &invocation.netns else {
        return Ok(Value::Null);
    };
    match invocation.command {
        Command::Add => up(netns).map_err(failed)?,
        Command::Check => return check(netns).map(|()| Value::Null).map_err(failed),
        _ => return Ok(Value::Null),
    }
    let previous = conf.get("prevResult").filter(|v| !v.is_null());
    let version = conf.get("cniVersion").and_then(Value::as_str).unwrap_or("1.0.0");
    if let Some(previous) = previous {
        return Ok(previous.clone());
    }
    let ip = |address: &str| IpConfig {
        interface: Some(0),
        address: address.to_owned(),
        ..IpConfig::default()
    };
    let result = AddResult {
        interfaces: vec![Interface {
            name: "lo".into(),
            mac: "00:00:00:00:00:00".into(),
            sandbox: netns.display().to_string(),
            ..Interface::default()
        }],
        ip_configs: vec![ip("127.0.0.1/8"), ip("::1/128")],
        ..AddResult::default()
    };
    result
        .to_value(version)
        .map_err(|e| PluginError::new(code::PLUGIN, e.to_string()))
}
