//! Why admission plugins cannot be as they are configured.

use std::time::Duration;

use serde_json::Value;

/// Why a plugin cannot be as it is configured, in upstream's words.
#[derive(Debug, thiserror::Error)]
pub enum PluginError {
    /// It has a configuration that is not built.
    #[error("a configuration of this plugin is not supported")]
    Unsupported,
    /// It needs a configuration and has none.
    #[error("no config specified")]
    Missing,
    /// Its configuration does not name its kind.
    #[error("Object 'Kind' is missing in '{0}'")]
    NoKind(Value),
    /// Its configuration does not name its version.
    #[error("Object 'apiVersion' is missing in '{0}'")]
    NoVersion(Value),
    /// Its configuration is of another kind.
    #[error("no kind {kind:?} is registered for version {version:?}")]
    Kind {
        /// The kind that it names.
        kind: String,
        /// The group and version that it names.
        version: String,
    },
    /// A field of its configuration has another type.
    #[error("{field}: {source}")]
    Field {
        /// The field.
        field: &'static str,
        /// What is wrong with it.
        source: serde_json::Error,
    },
    /// A time is too short or too long.
    #[error("{field}: valid value is between {least:?} and {most:?}, got {value}")]
    Time {
        /// The field.
        field: &'static str,
        /// The shortest time that it may be.
        least: Duration,
        /// The longest.
        most: Duration,
        /// The number as it is written.
        value: i64,
    },
    /// Limits of events are not valid; told as field errors.
    #[error("{0}")]
    Limits(String),
    /// Tolerations are not valid; told as field errors.
    #[error("invalid config: [{0}]")]
    Tolerations(String),
    /// The server that it asks cannot be reached as its kubeconfig says.
    #[error(transparent)]
    Reviewer(#[from] Box<dyn std::error::Error + Send + Sync>),
}
