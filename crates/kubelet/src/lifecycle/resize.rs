//! Which running containers have yet to get the resources that the node gave them, and how.

use k8s_openapi::api::core::v1::{Container, Pod, ResourceRequirements};

use super::{Step, StopCause};
use crate::allocation::{PodResources, same};
use crate::pod::{Kind, PodExt};
use crate::resources::{milli, value};
use crate::runtime_pod::{RuntimeContainer, RuntimePod, State};

/// CPU in thousandths and memory in bytes; 0 for none.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Amounts {
    pub cpu_request: i64,
    pub cpu_limit: i64,
    pub memory_request: i64,
    pub memory_limit: i64,
}

/// A running container that gets other resources without a restart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resize {
    pub id: String,
    pub name: String,
    pub now: Amounts,
    pub wanted: Amounts,
}

impl Amounts {
    /// Of a container; where it has no limit, the pod's is its own.
    pub fn new(pod: Option<&ResourceRequirements>, container: Option<&ResourceRequirements>) -> Amounts {
        let request = |name: &str| container?.requests.as_ref()?.get(name);
        let own = |name: &str| container?.limits.as_ref()?.get(name);
        let limit = |name: &str| own(name).or_else(|| pod?.limits.as_ref()?.get(name));
        Amounts {
            cpu_request: request("cpu").map_or(0, milli),
            cpu_limit: limit("cpu").map_or(0, milli),
            memory_request: request("memory").map_or(0, value),
            memory_limit: limit("memory").map_or(0, value),
        }
    }

    fn wanted(pod: &Pod, container: &Container) -> Amounts {
        let of_pod = pod.spec.as_ref().and_then(|s| s.resources.as_ref());
        Amounts::new(of_pod, container.resources.as_ref())
    }

    fn actuated(actuated: &PodResources, name: &str) -> Amounts {
        Amounts::new(actuated.pod.as_ref(), actuated.containers.get(name))
    }
}

/// Whether a running container, or the pod, has yet to follow what was given. Upstream: `IsPodResizeInProgress`.
pub fn in_progress(pod: &Pod, runtime: &RuntimePod, actuated: &PodResources) -> bool {
    let running = |name: &str| runtime.newest(name).is_some_and(|c| c.state == State::Running);
    let mut all = pod.init_containers().iter().chain(pod.containers());
    all.any(|c| running(&c.name) && Amounts::wanted(pod, c) != Amounts::actuated(actuated, &c.name))
        || pod_differs(pod, runtime, actuated)
}

fn pod_differs(pod: &Pod, runtime: &RuntimePod, actuated: &PodResources) -> bool {
    let wanted = pod.spec.as_ref().and_then(|s| s.resources.as_ref());
    wanted.is_some() && !runtime.containers.is_empty() && !same(wanted, actuated.pod.as_ref())
}

impl Step<'_> {
    /// Plans what a running container needs to get its resources. Whether it may stay as it is otherwise.
    pub(super) fn resize(&mut self, kind: Kind, container: &Container, status: &RuntimeContainer) -> bool {
        let (now, wanted) = (
            Amounts::actuated(self.actuated, &container.name),
            Amounts::wanted(self.pod, container),
        );
        if now == wanted {
            return true;
        }
        self.plan.resize_pod = true;
        let restarts = |name: &str| {
            let policies = container.resize_policy.iter().flatten();
            policies
                .filter(|p| p.resource_name == name)
                .any(|p| p.restart_policy == "RestartContainer")
        };
        let cpu = (now.cpu_request, now.cpu_limit) != (wanted.cpu_request, wanted.cpu_limit);
        let memory = (now.memory_request, now.memory_limit) != (wanted.memory_request, wanted.memory_limit);
        if cpu && restarts("cpu") || memory && restarts("memory") {
            let message = format!("Container {} resize requires restart", container.name);
            self.stop(kind, status, StopCause::Resized, message);
            // Whatever its restart policy and its exit code say, and with no back-off.
            self.plan.start.push(super::Start {
                kind,
                name: container.name.clone(),
                attempt: status.attempt + 1,
            });
            return false;
        }
        self.plan.resize.push(Resize {
            id: status.id.clone(),
            name: container.name.clone(),
            now,
            wanted,
        });
        true
    }

    pub(super) fn resize_pod(&mut self) {
        self.plan.resize_pod |= pod_differs(self.pod, self.runtime, self.actuated);
    }
}
