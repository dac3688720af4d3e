//! MutatingAdmissionWebhook and ValidatingAdmissionWebhook: what users' own servers say of writes
//! (`k8s.io/apiserver/pkg/admission/plugin/webhook`).

mod call;
mod hook;
mod hooks;
mod patch;
mod review;
mod round;

use std::sync::Arc;

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use serde_json::Value;
use tokio::time::Instant;

use self::call::{Failure, call, concerns, fail, out_of_time, turned};
use self::hook::Hook;
use self::hooks::Hooks;
use self::round::Round;
use crate::admission::matching::{Shown, Version};
use crate::admission::{Attributes, Charge, Later, Passes, Plugin};
use crate::http::status::Result;
use crate::registry::Registry;

/// Asks webhooks that may change objects, one after the other.
pub struct Mutating(Hooks);

/// Asks webhooks that may only refuse, all at once.
pub struct Validating(Hooks);

impl Attributes<'_> {
    /// Counts how long a webhook took.
    fn counted(&self, hook: &Hook, step: &str, begun: Instant, rejected: bool) {
        let counted = &self.registry.metrics.admission;
        counted.webhook(&hook.name, self.operation.name(), step, rejected, begun.elapsed());
    }
}

/// A webhook and its place, kept while it is asked.
fn own((place, hook): (usize, &Arc<Hook>)) -> (usize, Arc<Hook>) {
    (place, hook.clone())
}

/// Whether managed fields bear the time of this request, which is exact until somebody has read it from JSON.
fn times_are_exact(tree: &Value, old: Option<&Value>) -> bool {
    let managed = |tree: &Value| tree.pointer("/metadata/managedFields").cloned();
    let now = managed(tree);
    now.as_ref()
        .and_then(Value::as_array)
        .is_some_and(|list| !list.is_empty())
        && now != old.and_then(managed)
}

impl Mutating {
    const NAME: &'static str = "MutatingAdmissionWebhook";

    /// The webhooks of MutatingWebhookConfigurations.
    pub fn new(registry: Arc<Registry>) -> Mutating {
        Mutating(Hooks::new(registry, "mutatingwebhookconfigurations"))
    }

    async fn dispatch(
        &self,
        asked: &Attributes<'_>,
        passes: &mut Passes,
        tree: &mut Value,
        old: Option<&Value>,
    ) -> Result<()> {
        let hooks: Vec<(usize, Arc<Hook>)> = self.0.current().candidates(asked).map(own).collect();
        let is_second = passes.is_second;
        let mut exact = !is_second && times_are_exact(tree, old);
        let mut kept = passes.begin(Self::NAME, tree);
        let (mut shown, mut dirty) = (None, false);
        for (place, hook) in &hooks {
            let Some(version) = concerns(hook, asked, &mut shown, tree, old).await? else {
                continue;
            };
            if is_second && !kept.again.contains(&hook.key) {
                continue;
            }
            let shown = turned(asked, &mut shown, &version, tree, old).await?;
            let begun = Instant::now();
            let called = call(hook, asked, shown, true).await;
            let round = Round {
                second: is_second,
                place: *place,
            };
            let changed =
                called.and_then(|(response, room)| room.work(|| patch::apply(hook, asked, shown, &response, round)));
            let changed = changed.map(|patched| match patched {
                // the first patch cuts the time of what was just recorded to seconds, which counts as a change
                Some(changed) => changed | std::mem::take(&mut exact),
                None => false,
            });
            asked.counted(hook, "admit", begun, matches!(changed, Err(Failure::Refused(_))));
            round.tell_mutation(hook, asked, matches!(changed, Ok(true)));
            dirty |= matches!(changed, Ok(true));
            if matches!(changed, Ok(true)) {
                kept.changed();
                passes.again = true;
            }
            if hook.again {
                kept.asked.insert(hook.key.clone());
            }
            match changed {
                Ok(_) => {}
                Err(Failure::Refused(error)) => return Err(error),
                Err(Failure::Calling(why)) => fail(hook, asked, &why, "mutation", round)?,
            }
        }
        if let Some(mut shown) = shown.filter(|_| dirty) {
            shown.turn(asked, &Version::Asked).await?;
            *tree = shown.object;
        }
        passes.end(Self::NAME, kept, tree);
        Ok(())
    }
}

impl Plugin for Mutating {
    fn handles(&self, asked: &Attributes<'_>) -> bool {
        self.0.current().candidates(asked).len() > 0
    }

    fn asks_others(&self) -> bool {
        true
    }

    fn change<'a>(
        &'a self,
        asked: &'a Attributes<'_>,
        passes: &'a mut Passes,
        tree: &'a mut Value,
        old: Option<&'a Value>,
    ) -> Option<Later<'a, ()>> {
        Some(Box::pin(self.dispatch(asked, passes, tree, old)))
    }
}

impl Validating {
    /// The webhooks of ValidatingWebhookConfigurations.
    pub fn new(registry: Arc<Registry>) -> Validating {
        Validating(Hooks::new(registry, "validatingwebhookconfigurations"))
    }

    async fn dispatch(&self, asked: &Attributes<'_>, tree: &Value, old: Option<&Value>) -> Result<Charge> {
        let hooks: Vec<(usize, Arc<Hook>)> = self.0.current().candidates(asked).map(own).collect();
        let mut versions: Vec<Shown> = Vec::new();
        let mut concerned = Vec::new();
        for (_, hook) in &hooks {
            let mut own = None;
            let Some(version) = concerns(hook, asked, &mut own, tree, old).await? else {
                continue;
            };
            let place = match versions.iter().position(|shown| shown.version.is(&version)) {
                Some(place) => place,
                None => {
                    turned(asked, &mut own, &version, tree, old).await?;
                    versions.extend(own);
                    versions.len() - 1
                }
            };
            concerned.push((hook, place));
        }
        if concerned.is_empty() {
            return Ok(Charge::default());
        }
        if Instant::now() >= asked.deadline {
            return Err(out_of_time());
        }
        let versions = &versions;
        let calls = concerned.iter().enumerate().map(|(number, (hook, place))| async move {
            let round = Round {
                second: false,
                place: number,
            };
            let begun = Instant::now();
            let called = call(hook, asked, &versions[*place], false).await;
            asked.counted(hook, "validating", begun, matches!(called, Err(Failure::Refused(_))));
            match called {
                Ok(_) => Ok(()),
                Err(Failure::Refused(error)) => Err(error),
                Err(Failure::Calling(why)) => fail(hook, asked, &why, "validating", round),
            }
        });
        let mut calls: FuturesUnordered<_> = calls.collect();
        // all are waited for; of those that refuse, the first is told
        let mut first = Ok(());
        while let Some(done) = calls.next().await {
            first = first.and(done);
        }
        first.map(|()| Charge::default())
    }
}

impl Plugin for Validating {
    fn handles(&self, asked: &Attributes<'_>) -> bool {
        self.0.current().candidates(asked).len() > 0
    }

    fn hold<'a>(
        &'a self,
        asked: &'a Attributes<'_>,
        tree: &'a Value,
        old: Option<&'a Value>,
    ) -> Option<Later<'a, Charge>> {
        Some(Box::pin(self.dispatch(asked, tree, old)))
    }
}
