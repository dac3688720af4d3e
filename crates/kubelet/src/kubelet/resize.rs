//! Whether a pod gets the resources it asks for anew: at once, later, or as soon as others leave room.

use std::collections::HashMap;
use std::path::Path;

use k8s_openapi::api::core::v1::Pod;

use super::Kubelet;
use crate::admission::{self, Taken};
use crate::allocation::{ACTUATED, ALLOCATED, PodResources, Wish};
use crate::pod::PodExt;
use crate::resources::{QosClass, milli, pod_total, qos_class};
use crate::status::Verdict;
use crate::worker::Message;

/// What was given to each pod, by uid, and who waits for more.
#[derive(Debug, Default)]
pub(super) struct Allocations {
    given: HashMap<String, PodResources>,
    /// Of the pods that have not ended.
    taken: HashMap<String, Taken>,
    /// Longest first.
    waiting: Vec<String>,
}

/// What an earlier kubelet gave a pod.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Restored {
    Nothing,
    AsAsked,
    Other,
}

impl Allocations {
    /// Gives the pod what an earlier kubelet gave it.
    pub(super) fn restore(&mut self, pod_dir: &Path, pod: &mut Pod) -> Restored {
        let Some(given) = PodResources::load(&pod_dir.join(ALLOCATED)) else {
            return Restored::Nothing;
        };
        let other = given.put_into(pod);
        self.given.insert(pod.uid().to_owned(), given);
        if other { Restored::Other } else { Restored::AsAsked }
    }

    pub(super) fn wait(&mut self, uid: &str) {
        if !self.waiting.iter().any(|u| u == uid) {
            self.waiting.push(uid.to_owned());
        }
    }

    pub(super) fn forget(&mut self, uid: &str) {
        self.given.remove(uid);
        self.taken.remove(uid);
        self.waiting.retain(|u| u != uid);
    }

    /// The pod as it was given its resources. Whether it asks for others.
    fn put_into(&self, pod: &mut Pod) -> bool {
        self.given.get(pod.uid()).is_some_and(|g| g.put_into(pod))
    }

    /// Counts the pod, as it was given its resources, among those that take some.
    pub(super) fn note(&mut self, pod: &Pod) {
        if pod.has_ended() {
            self.taken.remove(pod.uid());
        } else {
            self.taken.insert(pod.uid().to_owned(), Taken::by(&in_use(pod.clone())));
        }
    }

    /// What the other pods on the node were given or still use.
    pub(super) fn others<'a>(&'a self, uid: &'a str) -> impl Iterator<Item = &'a Taken> + Clone {
        self.taken
            .iter()
            .filter(move |(other, _)| *other != uid)
            .map(|(_, taken)| taken)
    }
}

/// The pod with the resources that it still has where they are more than it was given.
fn in_use(mut pod: Pod) -> Pod {
    let (Some(spec), Some(status)) = (&mut pod.spec, &pod.status) else {
        return pod;
    };
    let all = [&status.init_container_statuses, &status.container_statuses];
    for container in spec.init_containers.iter_mut().flatten().chain(&mut spec.containers) {
        let status = all.into_iter().flatten().flatten().find(|s| s.name == container.name);
        let used = status.and_then(|s| s.resources.as_ref()?.requests.as_ref());
        let Some(requests) = container.resources.as_mut().and_then(|r| r.requests.as_mut()) else {
            continue;
        };
        for (name, amount) in used.into_iter().flatten() {
            if let Some(given) = requests.get_mut(name).filter(|g| milli(g) < milli(amount)) {
                given.clone_from(amount);
            }
        }
    }
    pod
}

/// Who is asked first among those that wait: who wants no more than it has, then by priority, class and time.
/// Upstream: `sortPendingResizes`.
fn turn(given: &Pod, wanted: &Pod) -> (bool, i64, bool) {
    let more = |name: &str| pod_total(wanted, false, name) > pod_total(given, false, name);
    let priority = wanted.spec.as_ref().and_then(|s| s.priority).unwrap_or_default();
    (
        more("cpu") || more("memory"),
        -i64::from(priority),
        qos_class(wanted) != QosClass::Guaranteed,
    )
}

impl Kubelet {
    /// Remembers that the pod was given what it asks for.
    pub(super) fn give(&mut self, pod: &Pod) {
        let dir = self.context.pod_dir(pod.uid());
        let given = PodResources::of(pod);
        let actuated = dir.join(ACTUATED);
        let kept = match self.allocations.given.get(pod.uid()) {
            // Until the worker has changed the containers, they are as they were made.
            Some(old) if !actuated.exists() => old.save(&actuated),
            _ => Ok(()),
        };
        if let Err(error) = kept.and_then(|()| given.save(&dir.join(ALLOCATED))) {
            tracing::warn!(pod = pod.describe(), %error, "allocated resources not kept on disk");
        }
        self.allocations.given.insert(pod.uid().to_owned(), given);
    }

    /// Decides on what the pod asks for, and leaves it with what it was given.
    pub(super) fn resize(&mut self, pod: &mut Pod) -> Wish {
        let wish = self.decide(pod);
        self.allocations.note(pod);
        wish
    }

    fn decide(&mut self, pod: &mut Pod) -> Wish {
        let mut given = pod.clone();
        if !self.allocations.put_into(&mut given) {
            self.allocations.waiting.retain(|u| u != pod.uid());
            return Wish::Met;
        }
        if pod.has_ended() {
            *pod = given;
            return Wish::Met;
        }
        let room = admission::has_room(pod, &self.allocations.others(pod.uid()), &self.context.allocatable);
        match room {
            Ok(()) => {
                self.give(pod);
                self.allocations.waiting.retain(|u| u != pod.uid());
                Wish::Granted
            }
            Err(verdict) => {
                self.allocations.wait(pod.uid());
                let asked = PodResources::of(pod);
                *pod = given;
                let reason = "Deferred".to_owned();
                let verdict = Verdict { reason, ..verdict };
                Wish::Refused { verdict, asked }
            }
        }
    }

    /// Asks again for those that wait.
    pub(super) fn retry_resizes(&mut self) {
        if self.allocations.waiting.is_empty() || !self.cleaned {
            return;
        }
        let waiting = std::mem::take(&mut self.allocations.waiting);
        let active = self.table.active();
        let mut pods: Vec<((bool, i64, bool), Pod)> = Vec::new();
        for uid in waiting {
            if let Some(pod) = active.iter().find(|p| p.uid() == uid) {
                let mut given = pod.clone();
                self.allocations.put_into(&mut given);
                self.allocations.wait(&uid);
                pods.push((turn(&given, pod), pod.clone()));
            }
        }
        pods.sort_by_key(|(turn, _)| *turn);
        for (_, mut pod) in pods {
            let wish = self.resize(&mut pod);
            // One that still waits has been told so.
            if let (Wish::Granted, Some(worker)) = (&wish, self.workers.get(pod.uid())) {
                worker.send(Message::Pod(Box::new(pod), wish));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(requests: &str, priority: i32, status: &str) -> Pod {
        serde_json::from_str(&format!(
            r#"{{"metadata":{{"uid":"u"}},"spec":{{"priority":{priority},"containers":[{{"name":"a","resources":{{"requests":{requests}}}}}]}},
                "status":{{"containerStatuses":[{{"name":"a","image":"","imageID":"","ready":true,"restartCount":0,"resources":{{"requests":{status}}}}}]}}}}"#
        ))
        .unwrap()
    }

    #[test]
    fn a_pod_that_shrinks_uses_what_it_has_until_it_has_less() {
        let cpu = |pod| pod_total(&in_use(pod), false, "cpu");
        assert_eq!(cpu(pod(r#"{"cpu":"1"}"#, 0, r#"{"cpu":"2"}"#)), 2000);
        assert_eq!(cpu(pod(r#"{"cpu":"2"}"#, 0, r#"{"cpu":"1"}"#)), 2000);
    }

    #[test]
    fn who_wants_no_more_comes_first_then_who_matters_more() {
        let given = pod(r#"{"cpu":"1"}"#, 0, "{}");
        let less = turn(&given, &pod(r#"{"cpu":"500m"}"#, 0, "{}"));
        let more = turn(&given, &pod(r#"{"cpu":"2"}"#, 0, "{}"));
        let important = turn(&given, &pod(r#"{"cpu":"2"}"#, 9, "{}"));
        assert!(less < important && important < more);
    }

    #[test]
    fn what_an_earlier_kubelet_gave_is_given_again() {
        let dir = tempfile::tempdir().unwrap();
        let given = pod(r#"{"cpu":"1"}"#, 0, "{}");
        let mut all = Allocations::default();
        let mut asks = pod(r#"{"cpu":"2"}"#, 0, "{}");
        assert_eq!(all.restore(dir.path(), &mut asks), Restored::Nothing);
        PodResources::of(&given).save(&dir.path().join(ALLOCATED)).unwrap();
        assert_eq!(all.restore(dir.path(), &mut asks), Restored::Other);
        assert_eq!(asks, given);
        assert_eq!(all.restore(dir.path(), &mut asks), Restored::AsAsked);
    }
}
