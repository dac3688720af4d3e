//! How many replicas bring usage to its target. Upstream: `podautoscaler/replica_calculator.go`.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};

use super::answers::Told;
use super::pods::{Groups, Pod, Youth, group};

/// What a metrics API says of one pod.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Sample {
    /// In thousandths.
    pub value: i64,
    pub at: Timestamp,
    /// The time before `at` that it is the average of.
    pub window: SignedDuration,
}

/// Samples by the names of pods.
pub(super) type Samples = BTreeMap<String, Sample>;

/// How far the ratio of usage to target may be from 1.0 without anything being scaled.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Tolerances {
    pub down: f64,
    pub up: f64,
}

impl Tolerances {
    fn covers(self, ratio: f64) -> bool {
        1.0 - self.down <= ratio && ratio <= 1.0 + self.up
    }
}

/// What pods of a target are held against.
#[derive(Debug, Clone, Copy)]
pub(super) struct Held<'a> {
    /// How many replicas the target is to have now.
    pub current: i32,
    pub pods: &'a [Pod],
    pub tolerances: Tolerances,
    pub youth: Youth,
}

/// The replicas for a target of utilization.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Utilized {
    pub replicas: i32,
    /// Usage in percent of what is requested.
    pub percent: i32,
    /// The average usage of a pod, in thousandths.
    pub average: i64,
}

const NO_PODS: &str = "no pods returned by selector while calculating replica count";
const NO_SAMPLES: &str = "did not receive metrics for targeted pods (pods might be unready)";

#[allow(clippy::cast_possible_truncation)]
fn rounded_up(replicas: f64) -> i32 {
    // too many are as many as there can be
    replicas.ceil() as i32
}

#[allow(clippy::cast_precision_loss)]
fn ratio(usage: i64, target: i64) -> f64 {
    usage as f64 / target as f64
}

#[allow(clippy::cast_possible_truncation)]
fn clamped(value: i128) -> i64 {
    value.clamp(i64::MIN.into(), i64::MAX.into()) as i64
}

fn sum(values: impl Iterator<Item = i64>) -> i128 {
    values.map(i128::from).sum()
}

/// What the samples that count come to.
struct Usage {
    ratio: f64,
    percent: i32,
    average: i64,
}

/// In percent of what the same pods request.
fn utilization(samples: &Samples, requests: &BTreeMap<&str, i64>, target: i32) -> Result<Usage, Told> {
    let both = || {
        samples
            .iter()
            .filter_map(|(name, sample)| Some((sample.value, *requests.get(name.as_str())?)))
    };
    let (used, requested) = (
        sum(both().map(|(used, _)| used)),
        sum(both().map(|(_, requested)| requested)),
    );
    if requested == 0 {
        return Err("no metrics returned matched known pods".into());
    }
    let percent = i32::try_from(clamped(used * 100 / requested)).unwrap_or(i32::MAX);
    Ok(Usage {
        ratio: ratio(percent.into(), target.into()),
        percent,
        average: clamped(used / both().count() as i128),
    })
}

/// On the average.
fn average(samples: &Samples, target: i64) -> Usage {
    let average = clamped(sum(samples.values().map(|s| s.value)) / samples.len().max(1) as i128);
    Usage {
        ratio: ratio(average, target),
        percent: 0,
        average,
    }
}

/// Samples of pods that count, and how the pods do.
fn counting<'a>(held: &Held<'a>, samples: &Samples, resource: &str) -> Result<(Groups<'a>, Samples), Told> {
    if held.pods.is_empty() {
        return Err(NO_PODS.into());
    }
    let groups = group(held.pods, samples, resource, held.youth);
    let mut samples = samples.clone();
    samples.retain(|name, _| !groups.ignored.contains(name.as_str()) && !groups.unready.contains(name.as_str()));
    if samples.is_empty() {
        return Err(NO_SAMPLES.into());
    }
    Ok((groups, samples))
}

/// The replicas for a usage. What is not known is taken for what keeps the change small: with `asleep`, the usage of a pod without a
/// sample when scaling down, and none when scaling up, as for pods that are not ready.
fn replicas(
    held: &Held,
    (groups, mut samples): (Groups, Samples),
    usage: &Usage,
    asleep: impl Fn(&str) -> i64,
    again: impl FnOnce(&Samples) -> Result<Usage, Told>,
) -> Result<i32, Told> {
    let up_with_unready = !groups.unready.is_empty() && usage.ratio > 1.0;
    if !up_with_unready && groups.missing.is_empty() {
        if held.tolerances.covers(usage.ratio) {
            return Ok(held.current);
        }
        #[allow(clippy::cast_precision_loss)]
        return Ok(rounded_up(usage.ratio * groups.ready as f64));
    }
    let guessed = |value| Sample {
        value,
        at: held.youth.now,
        window: SignedDuration::ZERO,
    };
    if usage.ratio < 1.0 {
        samples.extend(
            groups
                .missing
                .iter()
                .map(|name| ((*name).to_owned(), guessed(asleep(name)))),
        );
    } else if usage.ratio > 1.0 {
        samples.extend(groups.missing.iter().map(|name| ((*name).to_owned(), guessed(0))));
    }
    if up_with_unready {
        samples.extend(groups.unready.iter().map(|name| ((*name).to_owned(), guessed(0))));
    }
    let new = again(&samples)?.ratio;
    let turned = usage.ratio < 1.0 && new > 1.0 || usage.ratio > 1.0 && new < 1.0;
    if held.tolerances.covers(new) || turned {
        return Ok(held.current);
    }
    #[allow(clippy::cast_precision_loss)]
    let replicas = rounded_up(new * samples.len() as f64);
    let against = new < 1.0 && replicas > held.current || new > 1.0 && replicas < held.current;
    Ok(if against { held.current } else { replicas })
}

/// For a utilization in percent of the pods' requests, or of those of one container of each.
pub(super) fn for_utilization(
    held: &Held,
    samples: &Samples,
    (resource, container): (&str, &str),
    target: i32,
) -> Result<Utilized, Told> {
    let counting = counting(held, samples, resource)?;
    let mut requests = BTreeMap::new();
    for pod in held.pods {
        requests.insert(pod.name.as_str(), pod.request(container, resource)?);
    }
    let usage = utilization(&counting.1, &requests, target)?;
    let asleep = |name: &str| {
        let request = requests.get(name).copied().unwrap_or(0);
        clamped(i128::from(request) * i128::from(target.max(100)) / 100)
    };
    let replicas = replicas(held, counting, &usage, asleep, |samples| {
        utilization(samples, &requests, target)
    })?;
    Ok(Utilized {
        replicas,
        percent: usage.percent,
        average: usage.average,
    })
}

/// For an average value of each pod, in thousandths: the replicas and the average. `resource` is empty for metrics of other kinds.
pub(super) fn for_average(held: &Held, samples: &Samples, resource: &str, target: i64) -> Result<(i32, i64), Told> {
    let counting = counting(held, samples, resource)?;
    let usage = average(&counting.1, target);
    let replicas = replicas(
        held,
        counting,
        &usage,
        |_| target,
        |samples| Ok(average(samples, target)),
    )?;
    Ok((replicas, usage.average))
}

/// For one value of something else, in thousandths, that falls as replicas are added.
pub(super) fn for_value(held: &Held, usage: i64, target: i64) -> Result<i32, Told> {
    let ratio = ratio(usage, target);
    if held.current == 0 {
        return Ok(rounded_up(ratio));
    }
    if held.tolerances.covers(ratio) {
        return Ok(held.current);
    }
    if held.pods.is_empty() {
        return Err(format!("unable to calculate ready pods: {NO_PODS}").into());
    }
    #[allow(clippy::cast_precision_loss)]
    let ready = held.pods.iter().filter(|pod| pod.serves()).count() as f64;
    Ok(rounded_up(ratio * ready))
}

/// For a value of something else that all replicas share, `target` thousandths each: the replicas, and what each of the `replicas` that there
/// are has now.
#[allow(clippy::cast_precision_loss, clippy::cast_possible_truncation)]
pub(super) fn for_share(tolerances: Tolerances, replicas: i32, usage: i64, target: i64) -> (i32, i64) {
    let ratio = usage as f64 / (target as f64 * f64::from(replicas));
    let wanted = match tolerances.covers(ratio) {
        true => replicas,
        false => rounded_up(usage as f64 / target as f64),
    };
    (wanted, (usage as f64 / f64::from(replicas)).ceil() as i64)
}
