//! HorizontalPodAutoscalers: as many replicas of something that scales as its metrics ask for. `decision` and what it uses are pure; here
//! scales and metrics are read, and what was decided is done.

mod answers;
mod behavior;
mod decision;
mod draft;
mod metrics_api;
mod pods;
mod proposal;
#[cfg(test)]
mod recorded;
mod replicas;
mod selectors;
mod settings;
mod target;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use api::object::Object;
use client::{Cache, Change, Client, EventRecorder, WorkQueue};
use http::Method;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler;
use k8s_openapi::api::core::v1::Pod as ApiPod;
use serde::Deserialize;
use serde_json::Value;
use tokio::sync::OnceCell;

use self::behavior::History;
use self::decision::{Course, Known, Measured, Rescale, with_scale, without_scale};
use self::draft::Draft;
use self::metrics_api::Metrics;
use self::pods::{Pod, Youth};
use self::proposal::{Scene, propose, question, tolerances};
use self::replicas::Held;
use self::selectors::Selectors;
pub use self::settings::AutoscalerSettings;
use self::target::{Mapper, Scale, scale};
use crate::Error;
use crate::context::Context;
use crate::error::{decode, tree};
use crate::informers::BY_NAMESPACE;
use crate::meta::reference;
use crate::metrics::ControllerMetrics;

/// Who does it, to events.
const COMPONENT: &str = "horizontal-pod-autoscaler";

struct Controller {
    client: Client,
    autoscalers: Cache,
    pods: Cache,
    recorder: EventRecorder,
    settings: AutoscalerSettings,
    mapper: Mapper,
    selectors: Selectors,
    histories: Mutex<HashMap<String, History>>,
    /// The uid and the resource version of the last status that was written.
    written: Mutex<HashMap<String, (String, u64)>>,
    counted: Arc<ControllerMetrics>,
}

pub(crate) async fn run(ctx: Context) -> Result<(), Error> {
    let controller = Arc::new(Controller {
        client: ctx.client.clone(),
        autoscalers: ctx.informers.get::<HorizontalPodAutoscaler>(),
        pods: ctx.informers.get::<ApiPod>(),
        recorder: ctx.recorder(COMPONENT),
        settings: ctx.config.autoscaler,
        mapper: Mapper::new(ctx.client.clone()),
        selectors: Selectors::default(),
        histories: Mutex::default(),
        written: Mutex::default(),
        counted: ctx.counted.clone(),
    });
    if !ctx.synced(&[&controller.autoscalers, &controller.pods]).await {
        return Ok(());
    }
    let queue = ctx.queue("horizontalpodautoscaler");
    ctx.each_change(&controller.autoscalers, {
        let (queue, controller) = (queue.clone(), controller.clone());
        move |change| controller.changed(&change, &queue)
    });
    let workers = ctx.config.concurrent_horizontal_pod_autoscaler_syncs;
    ctx.work(queue, workers, move |key| {
        let controller = controller.clone();
        async move { Ok(controller.sync(&key).await) }
    })
    .await;
    Ok(())
}

/// How it went, as it is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    None,
    Spec,
    Internal,
}

impl Fault {
    fn name(self) -> &'static str {
        match self {
            Fault::None => "none",
            Fault::Spec => "spec",
            Fault::Internal => "internal",
        }
    }
}

/// What it did, as it is counted.
fn action(before: i32, after: i32) -> &'static str {
    match after.cmp(&before) {
        std::cmp::Ordering::Greater => "scale_up",
        std::cmp::Ordering::Less => "scale_down",
        std::cmp::Ordering::Equal => "none",
    }
}

/// An autoscaler while it is looked at.
struct Look<'a> {
    object: &'a Object,
    autoscaler: &'a HorizontalPodAutoscaler,
    draft: Draft,
}

impl Controller {
    /// A new autoscaler and one that is to do something else are looked at now, all others when their time comes.
    fn changed(&self, change: &Change, queue: &WorkQueue<String>) {
        let Some(object) = change.object() else { return };
        let (namespace, name) = (&object.meta.namespace, &object.meta.name);
        match (&change.old, &change.new) {
            (_, None) => {
                self.selectors.remove(namespace, name);
                self.counted.autoscalers.gone(namespace, name);
            }
            (Some(old), Some(new))
                if old.meta.uid == new.meta.uid
                    && (old.meta.generation == new.meta.generation || !api::features::enabled("HPAGeneration")) =>
            {
                queue.add_after(new.key(), self.settings.sync_period);
            }
            (_, Some(new)) => {
                self.selectors.add(namespace, name);
                queue.add(new.key());
            }
        }
        self.counted.autoscalers.number(self.selectors.len());
    }

    fn histories(&self) -> MutexGuard<'_, HashMap<String, History>> {
        self.histories.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn written(&self) -> MutexGuard<'_, HashMap<String, (String, u64)>> {
        self.written.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Looks at an autoscaler, and says when to look again.
    async fn sync(&self, key: &str) -> Option<Duration> {
        let Some(object) = self.autoscalers.get(key) else {
            self.histories().remove(key);
            self.written().remove(key);
            return None;
        };
        if self.is_stale(key, &object) {
            self.counted.autoscalers.stale();
        } else {
            let started = Instant::now();
            let (action, fault) = match self.look(key, &object).await {
                Ok(done) => done,
                Err(error) => {
                    tracing::warn!(key, %error, "cannot reconcile");
                    ("none", Fault::Internal)
                }
            };
            self.counted
                .autoscalers
                .reconciled(action, fault.name(), started.elapsed());
        }
        Some(self.settings.sync_period)
    }

    /// The cache does not have yet what was written last.
    fn is_stale(&self, key: &str, object: &Object) -> bool {
        let written = self.written();
        let newer =
            |(uid, version): &(String, u64)| **uid == *object.meta.uid && object.meta.resource_version < *version;
        written.get(key).is_some_and(newer) && api::features::enabled("StaleControllerConsistencyHPA")
    }

    async fn look(&self, key: &str, object: &Object) -> Result<(&'static str, Fault), Error> {
        let autoscaler: HorizontalPodAutoscaler = decode(object)?;
        let mut look = Look {
            object,
            autoscaler: &autoscaler,
            draft: Draft::new(&autoscaler, Timestamp::now()),
        };
        // nobody else looks at this one meanwhile
        let mut history = self.histories().remove(key).unwrap_or_default();
        let done = self.decide(&mut look, &mut history).await;
        self.histories().insert(key.to_owned(), history);
        let about = reference(&autoscaler);
        for told in &look.draft.told {
            match told.warning {
                true => self.recorder.warning(&about, told.reason, &told.message),
                false => self.recorder.normal(&about, told.reason, &told.message),
            }
        }
        if look.draft.changes(&autoscaler)
            && let Err(error) = self.write(key, &look).await
        {
            self.recorder.warning(&about, "FailedUpdateStatus", error.to_string());
            return Err(error);
        }
        done
    }

    /// Writes the status, and remembers which version of the object has it.
    async fn write(&self, key: &str, look: &Look<'_>) -> Result<(), Error> {
        #[derive(Deserialize)]
        struct Written {
            metadata: Metadata,
        }
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Metadata {
            uid: String,
            resource_version: String,
        }
        let mut whole: Value = decode(look.object)?;
        whole["status"] = tree("status", &look.draft.status)?;
        let path = format!("{}/status", crate::status::path_of(look.object)?);
        let Written { metadata } = self.client.json(Method::PUT, &path, &[], Some(&whole)).await?;
        if let Ok(version) = metadata.resource_version.parse() {
            self.written().insert(key.to_owned(), (metadata.uid, version));
        }
        Ok(())
    }

    /// Reads what is needed, decides and scales. The rest is in the draft.
    async fn decide(&self, look: &mut Look<'_>, history: &mut History) -> Result<(&'static str, Fault), Error> {
        let target = &look.autoscaler.spec.scale_target_ref;
        let namespace = &*look.object.meta.namespace;
        let version = target.api_version.as_deref().unwrap_or_default();
        let group = match version.split('/').collect::<Vec<_>>()[..] {
            [_] => "",
            [group, _] => group,
            _ => {
                without_scale(&format!("unexpected GroupVersion string: {version}"), &mut look.draft);
                return Ok(("none", Fault::Spec));
            }
        };
        let found = scale(
            &self.mapper,
            &self.client,
            (namespace, &target.name),
            (group, &target.kind),
        )
        .await;
        let mut scale = match found {
            Ok(scale) => scale,
            Err(error) => {
                without_scale(&error.to_string(), &mut look.draft);
                return Ok(("none", Fault::Internal));
            }
        };
        with_scale(&mut look.draft);
        let known = Known::new(look.autoscaler, scale.wanted());
        history.begin(known.current, look.draft.now);
        let (rescale, statuses, fault) = match known.course() {
            Course::Disabled => {
                known.disabled(&mut look.draft);
                (None, Vec::new(), Fault::None)
            }
            Course::Bound(to) => (Some(to), Vec::new(), Fault::None),
            Course::Measure => {
                let measured = self.measure(&known, &scale, namespace, &mut look.draft).await?;
                let Measured {
                    proposal,
                    statuses,
                    error,
                    by_spec,
                } = measured;
                let fault = match error {
                    None => Fault::None,
                    Some(_) if by_spec => Fault::Spec,
                    Some(_) => Fault::Internal,
                };
                let Some((replicas, metric)) = proposal else {
                    known.unmeasured(statuses, &error.unwrap_or_default(), &mut look.draft);
                    return Ok(("none", fault));
                };
                let to = known.decide((replicas, &metric), history, &self.settings, &mut look.draft);
                if to.is_none() {
                    known.rests(statuses.clone(), &mut look.draft);
                }
                (to, statuses, fault)
            }
        };
        let Some(to) = rescale else {
            self.desires(look, known.current);
            return Ok(("none", fault));
        };
        if let Err(error) = scale.write(&self.client, to.replicas).await {
            known.not_rescaled(&to, &error.to_string(), statuses, &mut look.draft);
            return Ok(("none", Fault::Internal));
        }
        let Rescale { replicas, reason } = &to;
        tracing::info!(namespace, name = %look.object.meta.name, from = known.current, to = replicas, reason, "rescaled");
        known.rescaled(&to, statuses, history, &mut look.draft);
        self.desires(look, to.replicas);
        Ok((action(known.current, to.replicas), fault))
    }

    fn desires(&self, look: &Look<'_>, replicas: i32) {
        let meta = &look.object.meta;
        self.counted.autoscalers.desires(&meta.namespace, &meta.name, replicas);
    }

    /// Asks for all metrics of an autoscaler and holds them against their targets.
    async fn measure(
        &self,
        known: &Known<'_>,
        scale: &Scale,
        namespace: &str,
        draft: &mut Draft,
    ) -> Result<Measured, Error> {
        let objects = self.pods.by_index(BY_NAMESPACE, namespace);
        let name = known.autoscaler.metadata.name.as_deref().unwrap_or_default();
        let selected = match self.selectors.pods(scale.selector(), (namespace, name), &objects) {
            Ok(selected) => selected,
            Err(refused) => {
                draft.warning(refused.told, refused.error.clone());
                draft.inactive(refused.condition);
                return Ok(Measured {
                    proposal: None,
                    statuses: Vec::new(),
                    error: Some(refused.error),
                    by_spec: false,
                });
            }
        };
        let pods = selected
            .iter()
            .map(|pod| Pod::read(pod))
            .collect::<Result<Vec<_>, _>>()?;
        let settings = &self.settings;
        let duration = |d: Duration| SignedDuration::try_from(d).unwrap_or(SignedDuration::MAX);
        let scene = Scene {
            namespace,
            held: Held {
                current: known.current,
                pods: &pods,
                tolerances: tolerances(known.autoscaler, settings.tolerance),
                youth: Youth {
                    cpu_initialization_period: duration(settings.cpu_initialization_period),
                    initial_readiness_delay: duration(settings.initial_readiness_delay),
                    now: draft.now,
                },
            },
            there: scale.there(),
        };
        let metrics = Metrics {
            client: &self.client,
            mapper: &self.mapper,
            namespace,
            selector: scale.selector(),
            usage: OnceCell::new(),
        };
        let before = known
            .autoscaler
            .status
            .as_ref()
            .and_then(|s| s.current_replicas)
            .unwrap_or(0);
        let mut proposals = Vec::new();
        for spec in known.autoscaler.spec.metrics.iter().flatten() {
            let started = Instant::now();
            let answer = match question(spec) {
                Some(question) => Some(metrics.ask(&question).await),
                None => None,
            };
            let proposal = propose(spec, answer, &scene);
            let (action, fault) = match &proposal {
                Ok(proposal) => (action(before, proposal.replicas), Fault::None),
                Err(failed) if failed.by_spec => ("none", Fault::Spec),
                Err(_) => ("none", Fault::Internal),
            };
            self.counted
                .autoscalers
                .computed(action, fault.name(), &spec.type_, started.elapsed());
            proposals.push(proposal);
        }
        Ok(known.measured(proposals, draft))
    }
}
