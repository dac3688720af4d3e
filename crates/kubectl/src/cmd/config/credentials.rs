//! `config set-credentials`: an entry of a user.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde_json::{Map, Value, json};

use super::change::{embeddable, file_or_data, put, upsert};
use crate::cmd::describe::items;
use crate::error::{Result, fail};
use crate::print::go::quote;
use crate::session::Session;

/// The certificate, its key, the token, the name and the password are the global flags of these names.
#[derive(Debug, clap::Args)]
pub struct SetCredentials {
    names: Vec<String>,
    /// Embed client cert/key for the user entry in kubeconfig
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", default_value_t = false, action = clap::ArgAction::Set, hide_default_value = true, hide_possible_values = true)]
    embed_certs: bool,
    /// Auth provider for the user entry in kubeconfig
    #[arg(long)]
    auth_provider: Option<String>,
    /// 'key=value' arguments for the auth provider
    #[arg(long, value_delimiter = ',')]
    auth_provider_arg: Vec<String>,
    /// Command for the exec credential plugin for the user entry in kubeconfig
    #[arg(long)]
    exec_command: Option<String>,
    /// API version of the exec credential plugin for the user entry in kubeconfig
    #[arg(long)]
    exec_api_version: Option<String>,
    /// New arguments for the exec credential plugin command for the user entry in kubeconfig
    #[arg(long, value_delimiter = ',', allow_hyphen_values = true)]
    exec_arg: Vec<String>,
    /// 'key=value' environment values for the exec credential plugin
    #[arg(long)]
    exec_env: Vec<String>,
    /// InteractiveMode of the exec credentials plugin for the user entry in kubeconfig
    #[arg(long)]
    exec_interactive_mode: Option<String>,
    /// ProvideClusterInfo of the exec credentials plugin for the user entry in kubeconfig
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    exec_provide_cluster_info: Option<bool>,
}

/// Keys to set, and keys to take away.
#[derive(Debug, Default, PartialEq)]
struct Pairs {
    set: BTreeMap<String, String>,
    removed: Vec<String>,
}

/// `key=value` sets, `key-` takes away.
fn pairs(words: &[String], flag: &str) -> Result<Pairs> {
    let mut pairs = Pairs::default();
    let mut wrong: Vec<&str> = Vec::new();
    for word in words {
        match (word.split_once('='), word.strip_suffix('-')) {
            (Some((key, value)), _) if !key.is_empty() => drop(pairs.set.insert(key.to_owned(), value.to_owned())),
            (_, Some(key)) if !key.is_empty() => pairs.removed.push(key.to_owned()),
            _ => wrong.push(word),
        }
    }
    match wrong.is_empty() {
        true => Ok(pairs),
        false => fail(format!("invalid {flag} format: {}", wrong.join(", "))),
    }
}

pub(crate) fn set(session: &Session, args: &SetCredentials) -> Result<()> {
    let [name] = &args.names[..] else {
        return session.usage_with_help(format!("unexpected args: [{}]", args.names.join(" ")));
    };
    let provider = pairs(&args.auth_provider_arg, "auth-provider-arg")?;
    let environment = pairs(&args.exec_env, "exec-env")?;
    check(session, args, name)?;
    let flags = &session.globals;
    let mut done = Ok(());
    upsert(session, "users", "user", name, |user| {
        done = file_or_data(
            user,
            "client-certificate",
            flags.client_certificate.as_ref(),
            args.embed_certs,
        )
        .and_then(|()| file_or_data(user, "client-key", flags.client_key.as_ref(), args.embed_certs));
        put(user, "token", flags.token.as_deref());
        put(user, "username", flags.username.as_deref());
        put(user, "password", flags.password.as_deref());
        // who has a token has no password, and the other way round
        let given = |text: Option<&str>| text.is_some_and(|text| !text.is_empty());
        if given(flags.token.as_deref()) {
            user.remove("username");
            user.remove("password");
        } else if given(flags.username.as_deref()) || given(flags.password.as_deref()) {
            user.remove("token");
        }
        set_provider(user, args, &provider);
        set_exec(user, args, &environment);
    })?;
    done?;
    session.println(&format!("User {} set.", quote(name)))
}

fn check(session: &Session, args: &SetCredentials, name: &str) -> Result<()> {
    if name.is_empty() {
        return fail("you must specify a non-empty user name");
    }
    let flags = &session.globals;
    let given = |text: Option<&str>| text.is_some_and(|text| !text.is_empty());
    let basic = given(flags.username.as_deref()) || given(flags.password.as_deref());
    if given(flags.token.as_deref()) && basic {
        return fail(
            "you cannot specify more than one authentication method at the same time: --token, --username/--password",
        );
    }
    if args.embed_certs {
        let given = |path: &Option<PathBuf>| path.as_ref().is_some_and(|path| !path.as_os_str().is_empty());
        if !given(&flags.client_certificate) && !given(&flags.client_key) {
            return fail("you must specify a --client-certificate or --client-key to embed");
        }
        embeddable("client-certificate", flags.client_certificate.as_ref())?;
        embeddable("client-key", flags.client_key.as_ref())?;
    }
    match args.exec_interactive_mode.as_deref() {
        None | Some("IfAvailable" | "Always" | "Never") => Ok(()),
        Some(_) => fail("invalid interactive mode type, can be only IfAvailable, Never, Always"),
    }
}

fn set_provider(user: &mut Map<String, Value>, args: &SetCredentials, pairs: &Pairs) {
    if let Some(name) = &args.auth_provider
        && user.get("auth-provider").is_none_or(|old| old["name"] != name.as_str())
    {
        user.insert("auth-provider".into(), json!({ "name": name }));
    }
    let Some(provider) = user.get_mut("auth-provider").filter(|provider| provider.is_object()) else {
        return;
    };
    if !provider["config"].is_object() {
        provider["config"] = json!({});
    }
    if let Some(config) = provider["config"].as_object_mut() {
        config.retain(|key, _| !pairs.removed.contains(key));
        config.extend(pairs.set.iter().map(|(key, value)| (key.clone(), json!(value))));
    }
}

fn set_exec(user: &mut Map<String, Value>, args: &SetCredentials, pairs: &Pairs) {
    if let Some(command) = &args.exec_command {
        let exec = user.entry("exec").or_insert(Value::Null);
        if !exec.is_object() {
            *exec = json!({ "env": null, "provideClusterInfo": false });
        }
        exec["command"] = json!(command);
        exec["args"] = Value::Null;
    }
    // without a command there is nothing to change
    let Some(Value::Object(exec)) = user.get_mut("exec") else {
        return;
    };
    put(exec, "apiVersion", args.exec_api_version.as_deref());
    put(exec, "interactiveMode", args.exec_interactive_mode.as_deref());
    if !args.exec_arg.is_empty() {
        exec.insert("args".into(), json!(args.exec_arg));
    }
    if let Some(provide) = args.exec_provide_cluster_info {
        exec.insert("provideClusterInfo".into(), json!(provide));
    }
    if args.exec_env.is_empty() {
        return;
    }
    let mut all: Vec<Value> = items(&exec["env"]).cloned().collect();
    all.retain(|one| !pairs.removed.iter().any(|gone| one["name"] == gone.as_str()));
    for (name, value) in &pairs.set {
        match all.iter_mut().find(|one| one["name"] == name.as_str()) {
            Some(one) => one["value"] = json!(value),
            None => all.push(json!({ "name": name, "value": value })),
        }
    }
    exec.insert("env".into(), json!(all));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_set_and_take_away() {
        let read = |words: &[&str]| {
            pairs(
                &words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>(),
                "exec-env",
            )
        };
        let both = read(&["a=b=c", "gone-"]).unwrap();
        assert_eq!(both.set, BTreeMap::from([("a".to_owned(), "b=c".to_owned())]));
        assert_eq!(both.removed, ["gone"]);
        let error = read(&["=x", "-", "a=b", "y"]).unwrap_err().to_string();
        assert_eq!(error, "invalid exec-env format: =x, -, y");
    }
}
