//! Flags that many commands share.

use std::path::PathBuf;

use clap::ArgAction;

use crate::error::{Result, fail, message};
use crate::patch::{Shape, apply_merge_patch, operate};
use crate::select::Selection;

/// Flags of every command: which server, as whom, and where.
#[derive(Debug, Clone, Default, clap::Args)]
#[command(next_help_heading = "Global flags")]
pub struct Globals {
    /// Path to the kubeconfig file to use for CLI requests
    #[arg(long, global = true)]
    pub kubeconfig: Option<PathBuf>,
    /// Path to the kuberc file to use for preferences; KUBERC=off turns them off
    #[arg(long, global = true)]
    pub kuberc: Option<PathBuf>,
    /// The name of the kubeconfig context to use
    #[arg(long, global = true)]
    pub context: Option<String>,
    /// The name of the kubeconfig cluster to use
    #[arg(long, global = true)]
    pub cluster: Option<String>,
    /// The name of the kubeconfig user to use
    #[arg(long, global = true)]
    pub user: Option<String>,
    /// If present, the namespace scope for this CLI request
    #[arg(long, short, global = true)]
    pub namespace: Option<String>,
    /// The address and port of the Kubernetes API server
    #[arg(long, short, global = true)]
    pub server: Option<String>,
    /// A proxy before the API server; none can be used, but it can be written to kubeconfig
    #[arg(long, global = true)]
    pub proxy_url: Option<String>,
    /// Bearer token for authentication to the API server
    #[arg(long, global = true)]
    pub token: Option<String>,
    /// Username for basic authentication to the API server
    #[arg(long, global = true)]
    pub username: Option<String>,
    /// Password for basic authentication to the API server
    #[arg(long, global = true)]
    pub password: Option<String>,
    /// Username to impersonate for the operation
    #[arg(long = "as", global = true)]
    pub as_user: Option<String>,
    /// Group to impersonate for the operation
    #[arg(long, global = true)]
    pub as_group: Vec<String>,
    /// User extras to impersonate for the operation, as key=value
    #[arg(long, global = true)]
    pub as_user_extra: Vec<String>,
    /// UID to impersonate for the operation
    #[arg(long, global = true)]
    pub as_uid: Option<String>,
    /// Path to a cert file for the certificate authority
    #[arg(long, global = true)]
    pub certificate_authority: Option<PathBuf>,
    /// Path to a client certificate file for TLS
    #[arg(long, global = true)]
    pub client_certificate: Option<PathBuf>,
    /// Path to a client key file for TLS
    #[arg(long, global = true)]
    pub client_key: Option<PathBuf>,
    /// Server name to use for server certificate validation
    #[arg(long, global = true)]
    pub tls_server_name: Option<String>,
    /// If true, the server's certificate will not be checked for validity
    #[arg(long, global = true)]
    pub insecure_skip_tls_verify: bool,
    /// The length of time to wait before giving up on a single server request
    #[arg(long, global = true, default_value = "0", hide_default_value = true)]
    pub request_timeout: String,
    /// Number for the log level verbosity; nothing is logged
    #[arg(long, short, global = true, allow_negative_numbers = true)]
    pub v: Option<i32>,
    /// Treat warnings received from the server as errors
    #[arg(long, global = true)]
    pub warnings_as_errors: bool,
    /// Default cache directory; nothing is cached
    #[arg(long, global = true)]
    pub cache_dir: Option<PathBuf>,
    /// Require server version to match client version; without meaning here, as it has become for others
    #[arg(long, global = true)]
    pub match_server_version: bool,
    /// If true, opt-out of response compression for all requests to the server; none is ever asked for
    #[arg(long, global = true)]
    pub disable_compression: bool,
    /// Maximum number of seconds between log flushes; nothing is logged
    #[arg(long, global = true)]
    pub log_flush_frequency: Option<String>,
    /// Log levels of single files; nothing is logged
    #[arg(long, global = true)]
    pub vmodule: Option<String>,
    /// Name of profile to capture; none can be
    #[arg(long, global = true, default_value = "none", hide_default_value = true)]
    pub profile: String,
    /// Name of the file to write the profile to
    #[arg(long, global = true)]
    pub profile_output: Option<PathBuf>,
}

impl Globals {
    /// Refuses to capture a profile of the program, which it cannot.
    pub fn refuse_profile(&self) -> Result<()> {
        match self.profile.as_str() {
            "" | "none" => Ok(()),
            known @ ("cpu" | "heap" | "goroutine" | "threadcreate" | "allocs" | "block" | "mutex" | "trace") => {
                fail(format!("capturing the profile {known:?} is not supported"))
            }
            unknown => fail(format!("unknown profile '{unknown}'")),
        }
    }
}

/// Which files hold the objects.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct Files {
    /// Filename, directory, or URL to files that contain the objects
    #[arg(long = "filename", short = 'f', value_delimiter = ',')]
    pub files: Vec<String>,
    /// Process the directory used in -f, --filename recursively
    #[arg(long, short = 'R')]
    pub recursive: bool,
    /// Process a kustomization directory
    #[arg(long, short = 'k')]
    pub kustomize: Option<String>,
}

impl Files {
    pub(crate) fn is_empty(&self) -> bool {
        self.files.is_empty() && self.kustomize.is_none()
    }
}

/// Which objects of a kind are meant.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct Selecting {
    /// Selector (label query) to filter on
    #[arg(long, short = 'l')]
    pub selector: Option<String>,
    /// Selector (field query) to filter on
    #[arg(long)]
    pub field_selector: Option<String>,
    /// Select all resources, in the namespace of the specified resource types
    #[arg(long)]
    pub all: bool,
    /// If present, select across all namespaces
    #[arg(long, short = 'A')]
    pub all_namespaces: bool,
}

impl Selecting {
    /// All of them, or some: not both.
    pub fn check(&self) -> Result<()> {
        if self.all && self.selector.is_some() {
            return fail("cannot set --all and --selector at the same time");
        }
        if self.all && self.field_selector.is_some() {
            return fail("cannot set --all and --field-selector at the same time");
        }
        Ok(())
    }

    pub(crate) fn selection<'a>(&'a self, args: &'a [String], files: &'a Files) -> Selection<'a> {
        Selection {
            files: Some(files),
            labels: self.selector.as_deref(),
            fields: self.field_selector.as_deref(),
            all_namespaces: self.all_namespaces,
            allow_all: self.all,
            ..Selection::new(args)
        }
    }
}

/// Whether anything is really changed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum DryRun {
    #[default]
    None,
    Client,
    Server,
}

impl DryRun {
    /// What messages end with.
    pub fn suffix(self) -> &'static str {
        match self {
            DryRun::None => "",
            DryRun::Client => " (dry run)",
            DryRun::Server => " (server dry run)",
        }
    }
}

/// A value that `--dry-run` does not have.
#[derive(Debug, thiserror::Error)]
#[error("Invalid dry-run value ({0}). Must be \"none\", \"server\", or \"client\".")]
pub struct DryRunError(String);

/// Reads `--dry-run`.
///
/// # Errors
/// For any other value.
pub fn dry_run(text: &str) -> std::result::Result<DryRun, DryRunError> {
    match text {
        "none" | "false" => Ok(DryRun::None),
        "client" => Ok(DryRun::Client),
        "server" => Ok(DryRun::Server),
        other => Err(DryRunError(other.to_owned())),
    }
}

/// How a changed object is shown.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct Output {
    /// Output format
    #[arg(long, short)]
    pub output: Option<String>,
    /// Template for output formats that take one
    #[arg(long)]
    pub template: Option<String>,
    /// If true, keep the managedFields when printing objects in JSON or YAML format
    #[arg(long)]
    pub show_managed_fields: bool,
    /// If true, ignore any errors in templates when a field or map key is missing
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", default_value_t = true, action = ArgAction::Set, hide_default_value = true, hide_possible_values = true)]
    pub allow_missing_template_keys: bool,
}

/// Flags of commands that change objects.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct Change {
    #[command(flatten)]
    pub output: Output,
    /// Must be "none", "server", or "client"
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "unchanged", default_value = "none", hide_default_value = true, value_parser = dry_run)]
    pub dry_run: DryRun,
    /// Name of the manager used to track field ownership
    #[arg(long)]
    pub field_manager: Option<String>,
}

/// `--validate`.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct Validate {
    /// Must be one of: strict (or true), warn, ignore (or false)
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "strict", default_value = "strict", hide_default_value = true)]
    pub validate: String,
}

impl Validate {
    /// What the server is asked to do about fields it does not know.
    pub fn field_validation(&self) -> crate::error::Result<&'static str> {
        match self.validate.as_str() {
            "strict" | "true" => Ok("Strict"),
            "warn" => Ok("Warn"),
            "ignore" | "false" => Ok("Ignore"),
            other => crate::error::fail(format!(
                "invalid - validate option {}; must be one of: strict (or true), warn, ignore (or false)",
                crate::print::go::quote(other)
            )),
        }
    }
}

/// What a user changes in an object that flags describe.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct Overrides {
    /// An inline JSON override for the generated object
    #[arg(long)]
    pub overrides: Option<String>,
    /// The method used to override the generated object: json, merge, or strategic
    #[arg(long, default_value = "merge", hide_default_value = true)]
    pub override_type: String,
}

impl Overrides {
    /// Changes an object.
    ///
    /// # Errors
    /// When the overrides are no patch of their type, or do not fit.
    pub fn apply(&self, object: &mut serde_json::Value) -> Result<()> {
        let Some(text) = self.overrides.as_deref().filter(|text| !text.is_empty()) else {
            return Ok(());
        };
        let invalid = || message("Invalid JSON Patch");
        let patch: serde_json::Value = serde_json::from_str(text).map_err(|_| invalid())?;
        match self.override_type.as_str() {
            "merge" if patch.is_object() => apply_merge_patch(object, &patch),
            "merge" => return Err(invalid()),
            "json" => operate(object, &patch)?,
            "strategic" => {
                let text = |key: &str| object[key].as_str().unwrap_or_default();
                let shape = Shape::of(text("apiVersion"), text("kind")).ok_or_else(invalid)?;
                *object = shape.merge(object, &patch)?;
            }
            other => return fail(format!("invalid override type: {other}")),
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn overrides_change_an_object_as_their_type_says() {
        let pod =
            json!({"apiVersion": "v1", "kind": "Pod", "spec": {"containers": [{"name": "a", "image": "b"}], "x": 1}});
        let changed = |overrides: &str, of: &str| {
            let mut pod = pod.clone();
            let overrides = Overrides {
                overrides: Some(overrides.into()),
                override_type: of.into(),
            };
            overrides.apply(&mut pod).map(|()| pod["spec"].clone())
        };
        let containers = r#"{"spec":{"containers":[{"name":"a","tty":true}]}}"#;
        let merged = changed(containers, "merge").unwrap();
        assert_eq!(merged, json!({"containers": [{"name": "a", "tty": true}], "x": 1}));
        let strategic = changed(containers, "strategic").unwrap();
        assert_eq!(
            strategic["containers"],
            json!([{"name": "a", "image": "b", "tty": true}])
        );
        let operated = changed(r#"[{"op":"remove","path":"/spec/x"}]"#, "json").unwrap();
        assert_eq!(operated.get("x"), None);
        for (overrides, of) in [("[]", "merge"), ("{", "merge"), ("{}", "json"), ("{}", "other")] {
            assert!(changed(overrides, of).is_err(), "{overrides} {of}");
        }
    }
}
