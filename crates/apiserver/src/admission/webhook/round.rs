//! What the record of a request shows of the webhooks that were asked (`mutating/dispatcher.go`, `webhookAnnotator`).

use api::go;
use serde::Serialize;
use serde_json::value::RawValue;

use super::hook::Hook;
use crate::admission::Attributes;
use crate::audit::objects;
use crate::audit::policy::Level;

/// Which call of a webhook: in the first pass or the second, and the webhook's place.
#[derive(Debug, Clone, Copy)]
pub struct Round {
    pub second: bool,
    pub place: usize,
}

/// A call of a webhook, in upstream's order of members.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Told<'a> {
    configuration: &'a str,
    webhook: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    mutated: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    patch: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    patch_type: Option<&'a str>,
}

impl<'a> Told<'a> {
    fn of(hook: &'a Hook) -> Told<'a> {
        Told {
            configuration: hook.configuration(),
            webhook: &hook.name,
            mutated: None,
            patch: None,
            patch_type: None,
        }
    }

    fn text(&self) -> String {
        go::html_escaped(serde_json::to_string(self).unwrap_or_default())
    }
}

impl Round {
    fn key(self, prefix: &str) -> String {
        let round = usize::from(self.second);
        format!("{prefix}.webhook.admission.k8s.io/round_{round}_index_{}", self.place)
    }

    /// Shows whether a webhook has changed the object.
    pub fn tell_mutation(self, hook: &Hook, asked: &Attributes<'_>, mutated: bool) {
        asked.annotate(Level::Metadata, || {
            let told = Told {
                mutated: Some(mutated),
                ..Told::of(hook)
            };
            (self.key("mutation"), told.text())
        });
    }

    /// Shows how it has changed it.
    pub fn tell_patch(self, hook: &Hook, asked: &Attributes<'_>, patch: &[u8]) {
        asked.annotate(Level::Request, || {
            // as it was sent, but for blanks
            let compact = objects::compact(patch);
            let told = Told {
                patch: serde_json::from_slice(&compact).ok(),
                patch_type: Some("JSONPatch"),
                ..Told::of(hook)
            };
            (self.key("patch"), told.text())
        });
    }

    /// Shows that a webhook failed and was not waited for.
    pub fn tell_ignored(self, hook: &Hook, asked: &Attributes<'_>, kind: &str) {
        asked.annotate(Level::Metadata, || {
            (self.key(&format!("failed-open.{kind}")), hook.name.clone())
        });
    }
}
