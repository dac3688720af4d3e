//! Holds what is decided here against what upstream decides: its own tests' cases and random ones, as `tests/upstream/record.sh` records them.
//! `SKIFF_TEST_AUTOSCALER` names a file of more of them than the sample that is here.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use api::object::Object;
use api::selectors::LabelSelector;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::autoscaling::v2::{HPAScalingRules, HorizontalPodAutoscaler, HorizontalPodAutoscalerBehavior};
use serde_json::{Value, json};

use super::answers::Told;
use super::behavior::{History, Wanted, limit};
use super::decision::{Course, Known, with_scale, without_scale};
use super::draft::Draft;
use super::pods::{Pod, Youth, group};
use super::proposal::{Reported, Scene, propose, question, sum_without_sign, tolerances};
use super::replicas::{Held, Sample, Samples, Tolerances, for_average, for_share, for_utilization, for_value};
use super::settings::AutoscalerSettings;
use crate::meta::selects;

const SAMPLE: &str = include_str!("../../tests/upstream/autoscaler.jsonl");

fn int(value: &Value) -> i64 {
    value.as_i64().unwrap()
}

fn small(value: &Value) -> i32 {
    int(value).try_into().unwrap()
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

fn at(value: &Value) -> Timestamp {
    text(value).parse().unwrap()
}

fn nanos(value: &Value) -> SignedDuration {
    SignedDuration::from_nanos(int(value))
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn pods(value: &Value) -> Vec<Pod> {
    selected(value, "")
}

/// The pods that a target's selector selects.
fn selected(value: &Value, selector: &str) -> Vec<Pod> {
    let selector = LabelSelector::parse(selector).unwrap();
    let objects = list(value)
        .iter()
        .map(|pod| Object::parse(pod.to_string().into()).unwrap());
    let objects = objects.filter(|pod| selects(&selector, pod));
    let mut pods: Vec<Pod> = objects.map(|pod| Pod::read(&pod).unwrap()).collect();
    pods.sort_by(|a, b| a.name.cmp(&b.name));
    pods
}

fn samples(value: &Value) -> Samples {
    let all = value.as_object().into_iter().flatten();
    let sample = |one: &Value| Sample {
        value: int(&one["value"]),
        at: at(&one["at"]),
        window: nanos(&one["window"]),
    };
    all.map(|(name, one)| (name.clone(), sample(one))).collect()
}

fn history(value: &Value) -> History {
    let events = |key: &str| {
        list(&value[key])
            .iter()
            .map(|one| (small(&one[0]), at(&one[1])))
            .collect()
    };
    History {
        recommendations: events("recommendations"),
        ups: events("ups"),
        downs: events("downs"),
    }
}

fn youth(case: &Value) -> Youth {
    Youth {
        cpu_initialization_period: nanos(&case["cpuInitializationPeriod"]),
        initial_readiness_delay: nanos(&case["initialReadinessDelay"]),
        now: at(&case["now"]),
    }
}

fn wanted(case: &Value) -> Wanted {
    Wanted {
        current: small(&case["current"]),
        desired: small(&case["desired"]),
        min: small(&case["min"]),
        max: small(&case["max"]),
    }
}

fn answer(value: &Value) -> Result<Reported, Told> {
    if let Some(error) = value["error"].as_str() {
        return Err(error.into());
    }
    Ok(match (value.get("object"), value.get("external")) {
        (Some(object), _) => Reported::Object(int(object)),
        (_, Some(values)) => Reported::External(list(values).iter().map(int).collect()),
        _ => Reported::Pods(samples(&value["pods"])),
    })
}

/// Which pod without a request is seen first is chance to upstream.
fn first_pod(error: &str, pods: usize) -> String {
    let of_requests =
        error.starts_with("missing ") || error.ends_with("not found in Pod") || error.contains(" not found in Pod ");
    if of_requests && pods > 1 {
        "a request is missing".to_owned()
    } else {
        error.to_owned()
    }
}

/// What a question to the calculation of replicas came to, ours and upstream's; `None` for one that never came to it.
fn calculated(case: &Value) -> Option<(Value, Value)> {
    let pods = pods(&case["pods"]);
    let (current, target) = (small(&case["current"]), int(&case["target"]));
    let tolerances = Tolerances {
        down: case["down"].as_f64().unwrap(),
        up: case["up"].as_f64().unwrap(),
    };
    let held = Held {
        current,
        pods: &pods,
        tolerances,
        youth: youth(case),
    };
    let reported = answer(&case["answer"]).ok()?;
    let resource = text(&case["resource"]);
    let usage = match &reported {
        Reported::Object(usage) => *usage,
        Reported::External(values) if case["fn"] == "share" => sum_without_sign(values),
        Reported::External(values) => values.iter().fold(0i64, |sum, value| sum.saturating_add(*value)),
        Reported::Pods(_) => 0,
    };
    let ours = match (text(&case["fn"]), reported) {
        ("utilization", Reported::Pods(samples)) => {
            let percent = target.try_into().unwrap();
            let found = for_utilization(&held, &samples, (resource, text(&case["container"])), percent);
            found.map(|f| json!([f.replicas, [f.percent, f.average]]))
        }
        ("average", Reported::Pods(samples)) => {
            for_average(&held, &samples, resource, target).map(|(replicas, average)| json!([replicas, average]))
        }
        ("value", _) => for_value(&held, usage, target).map(|replicas| json!([replicas, usage])),
        _ => {
            let (replicas, share) = for_share(tolerances, current, usage, target);
            Ok(json!([replicas, if usage == i64::MAX { usage } else { share }]))
        }
    };
    let theirs = match case["error"].as_str() {
        Some(error) => json!(first_pod(error, pods.len())),
        None => json!([case["replicas"], case["usage"]]),
    };
    Some((
        ours.unwrap_or_else(|e| json!(first_pod(&e.to_string(), pods.len()))),
        theirs,
    ))
}

/// A status as far as it is the same each time.
fn plain(status: &Value) -> Value {
    let mut status = status.clone();
    for condition in status["conditions"].as_array_mut().into_iter().flatten() {
        condition.as_object_mut().unwrap().remove("lastTransitionTime");
    }
    status["lastScaleTime"] = json!(!status["lastScaleTime"].is_null());
    if status["currentMetrics"].as_array().is_none_or(Vec::is_empty) {
        status.as_object_mut().unwrap().remove("currentMetrics");
    }
    if status["currentReplicas"].is_null() {
        status["currentReplicas"] = json!(0);
    }
    status
}

/// What was made of an autoscaler: status, events and the replicas that were written.
fn reconciled(case: &Value) -> Option<(Value, Value)> {
    let mut tree = case["autoscaler"].clone();
    tree["apiVersion"] = json!("autoscaling/v2");
    tree["kind"] = json!("HorizontalPodAutoscaler");
    let autoscaler: HorizontalPodAutoscaler = serde_json::from_value(tree).unwrap();
    let told = |reason: &str| list(&case["events"]).iter().find(|event| event[1] == reason);
    let by_shell = ["SelectorRequired", "InvalidSelector", "AmbiguousSelector"];
    if case["scaleToZero"] == false || by_shell.iter().any(|reason| told(reason).is_some()) || case["status"].is_null()
    {
        return None;
    }
    let mut draft = Draft::new(&autoscaler, at(&case["now"]));
    let mut history = history(&case["history"]);
    let mut written = None;
    if case["scale"].is_null() {
        without_scale(text(&told("FailedGetScale")?[2]), &mut draft);
    } else {
        let number = |path: &str| case["scale"].pointer(path).map_or(0, small);
        with_scale(&mut draft);
        let known = Known::new(&autoscaler, number("/spec/replicas"));
        if case["history"]["begun"] != true {
            history.begin(known.current, draft.now);
        }
        let settings = AutoscalerSettings {
            downscale_stabilization: Duration::from_secs_f64(case["downscaleStabilization"].as_f64().unwrap()),
            ..AutoscalerSettings::default()
        };
        let (mut rescale, mut statuses, mut measured) = (None, Vec::new(), true);
        match known.course() {
            Course::Disabled => known.disabled(&mut draft),
            Course::Bound(to) => rescale = Some(to),
            Course::Measure => {
                let pods = selected(&case["pods"], text(&case["scale"]["status"]["selector"]));
                let scene = Scene {
                    namespace: autoscaler.metadata.namespace.as_deref().unwrap(),
                    held: Held {
                        current: known.current,
                        pods: &pods,
                        tolerances: tolerances(&autoscaler, case["tolerance"].as_f64().unwrap()),
                        youth: youth(case),
                    },
                    there: number("/status/replicas"),
                };
                let mut answers = list(&case["answers"]).iter().map(answer);
                let all = autoscaler.spec.metrics.iter().flatten();
                let proposals = all.map(|spec| propose(spec, question(spec).and_then(|_| answers.next()), &scene));
                let made = known.measured(proposals.collect(), &mut draft);
                statuses = made.statuses;
                match made.proposal {
                    Some((replicas, metric)) => {
                        rescale = known.decide((replicas, &metric), &mut history, &settings, &mut draft);
                    }
                    None => {
                        measured = false;
                        known.unmeasured(statuses.clone(), &made.error.unwrap(), &mut draft);
                    }
                }
                if measured && rescale.is_none() {
                    known.rests(statuses.clone(), &mut draft);
                }
            }
        }
        if let Some(to) = rescale {
            written = Some(to.replicas);
            match case["refused"].as_str() {
                Some(error) => known.not_rescaled(&to, error, statuses, &mut draft),
                None => known.rescaled(&to, statuses, &mut history, &mut draft),
            }
        }
    }
    let events: Vec<Value> = draft
        .told
        .iter()
        .map(|told| {
            json!([
                if told.warning { "Warning" } else { "Normal" },
                told.reason,
                told.message
            ])
        })
        .collect();
    let status = plain(&serde_json::to_value(&draft.status).unwrap());
    let ours = json!({"status": status, "events": events, "written": written});
    let theirs = json!({"status": plain(&case["status"]), "events": list(&case["events"]), "written": case["written"]});
    Some((ours, theirs))
}

fn compared(case: &Value) -> Option<(Value, Value)> {
    let now = || at(&case["now"]);
    let behavior = || -> HorizontalPodAutoscalerBehavior { serde_json::from_value(case["behavior"].clone()).unwrap() };
    let explained = || json!([case["replicas"], case["reason"], case["message"]]);
    Some(match text(&case["fn"]) {
        "reconcile" => return reconciled(case),
        "group" => {
            let (pods, samples) = (pods(&case["pods"]), samples(&case["samples"]));
            let groups = group(&pods, &samples, text(&case["resource"]), youth(case));
            let set = |key: &str| list(&case[key]).iter().map(text).collect::<BTreeSet<_>>();
            let ours = json!([groups.ready, groups.unready, groups.missing, groups.ignored]);
            (
                ours,
                json!([case["ready"], set("unready"), set("missing"), set("ignored")]),
            )
        }
        "requests" => {
            let pods = pods(&case["pods"]);
            let request = |pod: &Pod| {
                Ok((
                    pod.name.clone(),
                    pod.request(text(&case["container"]), text(&case["resource"]))?,
                ))
            };
            let ours: Result<BTreeMap<String, i64>, Told> = pods.iter().map(request).collect();
            let theirs = match case["error"].as_str() {
                Some(error) => json!(first_pod(error, pods.len())),
                None => case["requests"].clone(),
            };
            (
                ours.map_or_else(
                    |e| json!(first_pod(&e.to_string(), pods.len())),
                    |requests| json!(requests),
                ),
                theirs,
            )
        }
        "highest" => {
            let window = Duration::from_secs_f64(case["window"].as_f64().unwrap());
            let (replicas, _) = history(&case["history"]).highest(small(&case["desired"]), window, now());
            (json!(replicas), case["replicas"].clone())
        }
        "stabilize" => {
            let window = AutoscalerSettings::default().downscale_stabilization;
            let (replicas, (reason, message)) =
                history(&case["history"]).stabilize(wanted(case), &behavior(), window, now());
            (json!([replicas, reason, message]), explained())
        }
        "rate" => {
            let wanted = wanted(case);
            let (replicas, (reason, message)) =
                history(&case["history"]).limit_rate(wanted, wanted.desired, &behavior(), now());
            (json!([replicas, reason, message]), explained())
        }
        "limit" => {
            let wanted = wanted(case);
            let (replicas, (reason, message)) = limit(wanted, wanted.desired);
            (json!([replicas, reason, message]), explained())
        }
        "most" | "least" => {
            let rules: HPAScalingRules = serde_json::from_value(case["rules"].clone()).unwrap();
            let (history, current) = (history(&case["history"]), small(&case["current"]));
            let ours = match text(&case["fn"]) {
                "most" => history.most(current, Some(&rules), now()),
                _ => history.least(current, Some(&rules), now()),
            };
            (json!(ours), case["replicas"].clone())
        }
        _ => return calculated(case),
    })
}

#[test]
fn upstream_decides_the_same() {
    let more = std::env::var_os("SKIFF_TEST_AUTOSCALER").map(|path| std::fs::read_to_string(path).unwrap());
    let (mut counts, mut different) = (BTreeMap::<String, usize>::new(), Vec::new());
    for line in more.as_deref().unwrap_or(SAMPLE).lines() {
        let case: Value = serde_json::from_str(line).unwrap();
        let Some((ours, theirs)) = compared(&case) else {
            continue;
        };
        *counts.entry(text(&case["fn"]).to_owned()).or_default() += 1;
        if ours != theirs {
            different.push(format!("{line}\nours:   {ours}\ntheirs: {theirs}"));
        }
    }
    eprintln!("{counts:?}");
    assert!(
        different.is_empty(),
        "{} differ, as\n{}",
        different.len(),
        different[..different.len().min(5)].join("\n\n")
    );
    for what in [
        "reconcile",
        "utilization",
        "average",
        "value",
        "share",
        "group",
        "requests",
        "highest",
        "stabilize",
        "rate",
        "limit",
        "most",
        "least",
    ] {
        assert!(counts.get(what).is_some_and(|n| *n >= 5), "{what}: {counts:?}");
    }
}
