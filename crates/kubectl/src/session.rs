//! What a command has while it runs: its flags, the server, the server's resources, and the standard streams.

use std::io::Write;
use std::path::PathBuf;
use std::sync::OnceLock;
use std::time::Duration;

use client::{Config, Context, Kubeconfig, Token};
use tokio::sync::OnceCell;

use crate::api::Api;
use crate::discovery::Discovery;
use crate::error::{Error, Result, fail};
use crate::flags::Globals;

/// Where `skiff server` leaves the administrator's kubeconfig.
const ADMIN_KUBECONFIG: &str = "/var/lib/skiff/server/cred/admin.kubeconfig";
const SERVICE_ACCOUNT_TOKEN: &str = "/var/run/secrets/kubernetes.io/serviceaccount/token";

#[derive(Debug)]
pub(crate) struct Session {
    pub globals: Globals,
    /// How the program is called in messages: `kubectl get`.
    pub command: String,
    config: OnceLock<Config>,
    api: OnceLock<Api>,
    discovery: OnceCell<Discovery>,
}

impl Session {
    pub(crate) fn new(globals: Globals, command: String) -> Session {
        Session {
            globals,
            command,
            config: OnceLock::new(),
            api: OnceLock::new(),
            discovery: OnceCell::new(),
        }
    }

    /// A wrong use of this command.
    pub fn usage<T>(&self, message: impl Into<String>) -> Result<T> {
        Err(Error::Usage {
            command: self.command.clone(),
            message: message.into(),
        })
    }

    /// A wrong use of a command that shows its help then.
    pub fn usage_with_help<T>(&self, message: impl Into<String>) -> Result<T> {
        crate::command::print_help(&self.command);
        fail(message)
    }

    pub(crate) fn config(&self) -> Result<&Config> {
        if self.config.get().is_none() {
            let config = load(&self.globals)?;
            return Ok(self.config.get_or_init(|| config));
        }
        self.config.get().ok_or(Error::Exit(1))
    }

    /// The namespace that is meant where none is named.
    pub fn namespace(&self) -> Result<String> {
        if let Some(namespace) = self.globals.namespace.as_ref().filter(|n| !n.is_empty()) {
            return Ok(namespace.clone());
        }
        let of_context = self.config()?.namespace.clone();
        Ok(of_context
            .filter(|n| !n.is_empty())
            .unwrap_or_else(|| "default".to_owned()))
    }

    /// Whether the command line names the namespace.
    pub fn explicit_namespace(&self) -> bool {
        self.globals.namespace.as_ref().is_some_and(|n| !n.is_empty())
    }

    pub(crate) fn api(&self) -> Result<&Api> {
        if let Some(api) = self.api.get() {
            return Ok(api);
        }
        let api = Api::new(self.config()?, &self.globals, self.timeout()?)?;
        Ok(self.api.get_or_init(|| api))
    }

    /// What the server serves; asked for once.
    pub async fn resources(&self) -> Result<&Discovery> {
        self.discovery
            .get_or_try_init(|| async { Discovery::load(self.api()?).await })
            .await
    }

    fn timeout(&self) -> Result<Option<Duration>> {
        duration(&self.globals.request_timeout).map_err(|_| {
            Error::Message("Invalid timeout value. Timeout must be a single integer in seconds, or an integer followed by a corresponding time unit (e.g. 1s | 2m | 3h)".to_owned())
        })
    }

    /// Writes to the standard output. A reader that has gone ends the command.
    pub fn print(&self, text: &str) -> Result<()> {
        print(text)
    }

    pub(crate) fn write(&self, bytes: &[u8]) -> Result<()> {
        write(bytes)
    }

    pub(crate) fn println(&self, text: &str) -> Result<()> {
        print(&format!("{text}\n"))
    }

    pub(crate) fn warn(&self, text: &str) {
        eprintln!("{text}");
    }
}

fn print(text: &str) -> Result<()> {
    write(text.as_bytes())
}

fn write(bytes: &[u8]) -> Result<()> {
    let mut out = std::io::stdout().lock();
    let written = out.write_all(bytes).and_then(|()| out.flush());
    match written {
        Err(e) if e.kind() == std::io::ErrorKind::BrokenPipe => Err(Error::Exit(141)),
        other => Ok(other?),
    }
}

/// Seconds, or a Go duration; 0 is none.
pub fn duration(text: &str) -> Result<Option<Duration>> {
    let nanos = match text.parse::<i64>() {
        Ok(seconds) => Some(seconds.saturating_mul(1_000_000_000)),
        Err(_) => api::time::parse_duration(text),
    };
    match nanos.map(u64::try_from) {
        Some(Ok(0)) => Ok(None),
        Some(Ok(nanos)) => Ok(Some(Duration::from_nanos(nanos))),
        _ => fail(format!("time: invalid duration {}", crate::print::go::quote(text))),
    }
}

/// The kubeconfig files that count, first ones first.
pub fn kubeconfig_paths(globals: &Globals) -> Vec<PathBuf> {
    if let Some(path) = &globals.kubeconfig {
        return vec![path.clone()];
    }
    match std::env::var_os("KUBECONFIG").filter(|v| !v.is_empty()) {
        Some(list) => std::env::split_paths(&list)
            .filter(|p| !p.as_os_str().is_empty())
            .collect(),
        None => home_kubeconfig().into_iter().collect(),
    }
}

pub(crate) fn home_kubeconfig() -> Option<PathBuf> {
    let home = std::env::var_os("HOME").filter(|h| !h.is_empty())?;
    Some(PathBuf::from(home).join(".kube/config"))
}

/// The files as one. A file that is named but not there is an error only with `--kubeconfig`.
pub fn kubeconfig(globals: &Globals) -> Result<Option<Kubeconfig>> {
    let mut merged: Option<Kubeconfig> = None;
    let mut paths = kubeconfig_paths(globals);
    if globals.kubeconfig.is_none() && !paths.iter().any(|p| p.exists()) {
        let in_pod =
            std::env::var_os("KUBERNETES_SERVICE_HOST").is_some() && PathBuf::from(SERVICE_ACCOUNT_TOKEN).exists();
        if !in_pod {
            paths = vec![PathBuf::from(ADMIN_KUBECONFIG)];
        }
    }
    for path in paths {
        if !path.exists() {
            if globals.kubeconfig.is_some() {
                return fail(format!("stat {}: no such file or directory", path.display()));
            }
            continue;
        }
        let file = Kubeconfig::load(&path).map_err(|e| {
            Error::Message(format!(
                "error loading config file {}: {e}",
                crate::print::go::quote(&path.to_string_lossy())
            ))
        })?;
        match &mut merged {
            Some(merged) => merged.merge(file),
            None => merged = Some(file),
        }
    }
    Ok(merged)
}

fn load(globals: &Globals) -> Result<Config> {
    let file = kubeconfig(globals)?;
    let mut config = match &file {
        Some(file) => of_context(file, globals)?,
        None if std::env::var_os("KUBERNETES_SERVICE_HOST").is_some() && globals.server.is_none() => {
            Config::in_cluster()?
        }
        None => Config::default(),
    };
    if globals.proxy_url.as_ref().is_some_and(|proxy| !proxy.is_empty()) {
        return fail("--proxy-url is not supported");
    }
    if let Some(server) = &globals.server {
        config.server.clone_from(server);
    }
    if config.server.is_empty() {
        config.server = "http://localhost:8080".to_owned();
    }
    if !config.server.contains("://") {
        let scheme = if config.tls.ca_pem.is_some() || config.tls.cert_pem.is_some() {
            "https"
        } else {
            "http"
        };
        config.server = format!("{scheme}://{}", config.server);
    }
    if let Some(token) = &globals.token {
        config.token = Some(Token::Value(token.clone()));
    } else if let Some(username) = &globals.username {
        config.token = Some(Token::Password {
            username: username.clone(),
            password: globals.password.clone().unwrap_or_default(),
        });
    }
    let read = |path: &PathBuf| {
        std::fs::read(path)
            .map(Some)
            .map_err(|e| Error::Message(format!("unable to read {}: {e}", path.display())))
    };
    if let Some(path) = &globals.certificate_authority {
        config.tls.ca_pem = read(path)?;
    }
    if let Some(path) = &globals.client_certificate {
        config.tls.cert_pem = read(path)?;
    }
    if let Some(path) = &globals.client_key {
        config.tls.key_pem = read(path)?;
    }
    if let Some(name) = &globals.tls_server_name {
        config.tls.server_name = Some(name.clone());
    }
    config.tls.insecure |= globals.insecure_skip_tls_verify;
    Ok(config)
}

fn of_context(file: &Kubeconfig, globals: &Globals) -> Result<Config> {
    let name = globals.context.as_deref().unwrap_or(&file.current_context);
    let invalid = |text: String| Error::Plain(format!("Error in configuration: {text}"));
    let mut context = match file.contexts.iter().find(|c| c.name == name) {
        Some(found) => found.value.clone(),
        None if name.is_empty() => Context::default(),
        None if globals.context.is_some() => {
            return Err(invalid(format!("context was not found for specified context: {name}")));
        }
        None => return Err(invalid(format!("context was not found for specified context: {name}"))),
    };
    if let Some(cluster) = &globals.cluster {
        context.cluster.clone_from(cluster);
    }
    if let Some(user) = &globals.user {
        context.user.clone_from(user);
    }
    if context.cluster.is_empty() {
        let user_only = Config {
            namespace: context.namespace.clone(),
            ..Config::default()
        };
        return Ok(user_only);
    }
    file.config_of(&context).map_err(|e| invalid(e.to_string()))
}
