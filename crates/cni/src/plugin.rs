//! Our plugins as programs by the specification: parameters in the environment, configuration on standard
//! input, the answer on standard output.

use std::ffi::OsString;
use std::io::{Read, Write};
use std::process::ExitCode;

use serde_json::{Value, json};

use crate::exec::{Command, Invocation};
use crate::plugins;
use crate::types::{PluginError, VERSIONS, code};

pub use plugins::NAMES;

/// Runs plugin `name` as this process.
pub fn main(name: &str) -> ExitCode {
    let mut input = String::new();
    let read = std::io::stdin().read_to_string(&mut input);
    let conf = match read {
        Ok(_) if input.trim().is_empty() => Ok(Value::Null),
        Ok(_) => serde_json::from_str(&input).map_err(|e| PluginError::new(code::DECODING_FAILURE, e.to_string())),
        Err(e) => Err(PluginError::io("standard input", e)),
    };
    let version = conf
        .as_ref()
        .ok()
        .and_then(|c| c.get("cniVersion")?.as_str())
        .unwrap_or("1.1.0")
        .to_owned();
    let answer = conf.and_then(|conf| answer(name, &conf, &|key| std::env::var_os(key)));
    let (text, exit) = match answer {
        Ok(Value::Null) => return ExitCode::SUCCESS,
        Ok(value) => (value, ExitCode::SUCCESS),
        Err(e) => {
            let error = json!({"cniVersion": version, "code": e.code, "msg": e.msg, "details": e.details});
            (error, ExitCode::FAILURE)
        }
    };
    // With standard output gone there is nobody left to tell.
    match writeln!(std::io::stdout(), "{text}") {
        Ok(()) => exit,
        Err(_) => ExitCode::FAILURE,
    }
}

fn answer(name: &str, conf: &Value, env: &dyn Fn(&str) -> Option<OsString>) -> Result<Value, PluginError> {
    let text = |key: &str| env(key).and_then(|v| v.into_string().ok()).unwrap_or_default();
    let invalid = |message: String| PluginError::new(code::INVALID_ENVIRONMENT, message);
    let command = text("CNI_COMMAND");
    let command = Command::parse(&command).ok_or_else(|| invalid(format!("unknown CNI_COMMAND: {command:?}")))?;
    let version = conf.get("cniVersion").and_then(Value::as_str).unwrap_or("0.3.1");
    if command == Command::Version {
        return Ok(json!({"cniVersion": version, "supportedVersions": VERSIONS}));
    }
    if !VERSIONS.contains(&version) {
        let message = format!("CNI version {version} is not supported ({})", VERSIONS.join(", "));
        return Err(PluginError::new(code::INCOMPATIBLE_VERSION, message));
    }
    let needed: &[&str] = match command {
        Command::Add | Command::Check => &["CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME"],
        Command::Del => &["CNI_CONTAINERID", "CNI_IFNAME"],
        _ => &[],
    };
    if let Some(missing) = needed.iter().find(|key| text(key).is_empty()) {
        return Err(invalid(format!("required env variable {missing} is missing")));
    }
    let invocation = Invocation {
        command,
        container_id: text("CNI_CONTAINERID"),
        netns: env("CNI_NETNS").filter(|p| !p.is_empty()).map(Into::into),
        if_name: text("CNI_IFNAME"),
        args: text("CNI_ARGS"),
        path: env("CNI_PATH")
            .map(|p| std::env::split_paths(&p).collect())
            .unwrap_or_default(),
    };
    let plugin = plugins::find(name).ok_or_else(|| invalid(format!("no plugin is named {name}")))?;
    plugin(&invocation, conf)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(vars: &[(&str, &str)], conf: &Value) -> Result<Value, PluginError> {
        let env = |key: &str| vars.iter().find(|(k, _)| *k == key).map(|(_, v)| OsString::from(v));
        answer("bridge", conf, &env)
    }

    #[test]
    fn the_protocol_of_the_specification_is_kept() {
        let conf = json!({"cniVersion": "1.0.0"});
        let versions = ask(&[("CNI_COMMAND", "VERSION")], &conf).unwrap();
        assert_eq!(versions["supportedVersions"][3], "1.1.0");
        assert_eq!(
            ask(&[("CNI_COMMAND", "NEW")], &conf).unwrap_err().code,
            code::INVALID_ENVIRONMENT
        );
        assert_eq!(
            ask(&[("CNI_COMMAND", "ADD")], &conf).unwrap_err().code,
            code::INVALID_ENVIRONMENT
        );
        let old = json!({"cniVersion": "0.2.0"});
        assert_eq!(
            ask(&[("CNI_COMMAND", "DEL")], &old).unwrap_err().code,
            code::INCOMPATIBLE_VERSION
        );
        let vlan = json!({"cniVersion": "1.0.0", "vlan": 5});
        assert_eq!(
            ask(&[("CNI_COMMAND", "STATUS")], &vlan).unwrap_err().code,
            code::UNSUPPORTED_FIELD
        );
    }
}
