//! CreateOptions, UpdateOptions, PatchOptions and DeleteOptions as they stand in the query of a write.

use std::time::Duration;

use api::field::FieldError;
use serde_json::json;
use tokio::time::Instant;

use crate::http::status::{ApiError, META, Result};
use crate::pipeline::WriteOptions;
use crate::pipeline::delete::dry_run;
use crate::registry::managed::LONGEST;
use crate::server::Request;

/// Bytes of a field manager's name.
const MANAGER: usize = 128;
/// How bad fields in a body are met.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FieldValidation {
    Ignore,
    Warn,
    Strict,
}

impl Request {
    /// How unknown and repeated fields are treated; they are warned of unless the client says otherwise.
    pub fn field_validation(&self) -> FieldValidation {
        match self.query.text("fieldValidation") {
            Some("Strict") => FieldValidation::Strict,
            Some("Ignore") => FieldValidation::Ignore,
            _ => FieldValidation::Warn,
        }
    }

    fn options_kind(&self) -> &'static str {
        match self.info.verb {
            "update" => "UpdateOptions",
            "patch" => "PatchOptions",
            "delete" | "deletecollection" => "DeleteOptions",
            _ => "CreateOptions",
        }
    }

    /// When the client is told that it took too long: it may ask for less time than it would have.
    fn deadline(&self) -> Instant {
        let asked = self
            .query
            .text("timeout")
            .and_then(|text| api::duration::parse_go(text).ok());
        let asked = asked
            .and_then(|nanos| u64::try_from(nanos).ok())
            .filter(|nanos| *nanos > 0);
        Instant::now() + asked.map_or(LONGEST, |nanos| LONGEST.min(Duration::from_nanos(nanos)))
    }

    /// Reads and checks the options; those of a deletion are checked with its body.
    pub fn write_options(&self) -> Result<WriteOptions> {
        let agent = self.header("user-agent").filter(|agent| !agent.is_empty());
        let agent = agent.unwrap_or("unknown");
        let default = agent.split('/').next().unwrap_or(agent);
        let given = self.query.text("fieldManager");
        let mut errors = Vec::new();
        if given.is_some_and(|m| m.len() > MANAGER) {
            errors.push(FieldError::too_long("fieldManager", MANAGER));
        }
        for (i, c) in given.unwrap_or_default().char_indices().filter(|(_, c)| c.is_control()) {
            let why = format!("invalid character U+{:04X} (at position {i})", u32::from(c));
            errors.push(FieldError::invalid("fieldManager", json!(given), why));
        }
        let tried = match dry_run(self.query.all("dryRun")) {
            Ok(tried) => tried,
            Err(error) => {
                errors.push(error);
                false
            }
        };
        let validation = self.query.text("fieldValidation").unwrap_or_default();
        let known = ["", "Ignore", "Strict", "Warn"];
        if !known.contains(&validation) {
            errors.push(FieldError::not_supported("fieldValidation", json!(validation), &known));
        }
        let kind = self.options_kind();
        if !errors.is_empty() && kind != "DeleteOptions" {
            return Err(ApiError::invalid(META, kind, "", &errors));
        }
        let mut options = json!({});
        let dry: Vec<&String> = self.query.all("dryRun").iter().filter(|v| !v.is_empty()).collect();
        if !dry.is_empty() {
            options["dryRun"] = json!(dry);
        }
        for key in ["fieldManager", "fieldValidation"] {
            if let Some(text) = self.query.text(key) {
                options[key] = json!(text);
            }
        }
        Ok(WriteOptions {
            given: options,
            deadline: self.deadline(),
            admitted: false,
            user: self.user.clone(),
            dry_run: tried,
            // upstream cuts what a client calls itself, and refuses what it gives as its name
            manager: given.map_or_else(|| default.chars().take(MANAGER).collect(), str::to_owned),
            subresource: self.info.subresource.clone(),
            warnings: self.warnings.clone(),
            trail: self.trail.clone(),
        })
    }
}
