//! A CRI runtime that runs nothing: sandboxes and containers are entries of a table that begin and end when they are told to.

use std::collections::HashMap;
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use cri::v1::image_service_server::ImageService;
use cri::v1::runtime_service_server::RuntimeService;
use cri::{ImageClient, RuntimeClient, v1};
use futures::stream::{BoxStream, StreamExt};
use tokio::sync::broadcast;
use tonic::{Request, Response, Status};

use super::table::{Container, Sandbox, State, absent, now};

/// Events that a kubelet may be behind with. One that is further behind is told that its stream has ended, and looks at everything.
const EVENTS: usize = 1024;

type Answer<T> = Result<Response<T>, Status>;

#[derive(Debug)]
struct Inner {
    state: Mutex<State>,
    events: broadcast::Sender<v1::ContainerEventResponse>,
    /// The first of the 256 addresses of its pods.
    first: Ipv4Addr,
}

/// The runtime of one node.
#[derive(Debug, Clone)]
pub struct HollowRuntime(Arc<Inner>);

fn answer<T>(message: T) -> Answer<T> {
    Ok(Response::new(message))
}

fn nothing() -> Status {
    Status::unimplemented("there is nothing in a container of a hollow node")
}

fn labels_match(labels: &HashMap<String, String>, selector: &HashMap<String, String>) -> bool {
    selector.iter().all(|(name, value)| labels.get(name) == Some(value))
}

fn id_matches(id: &str, wanted: &str) -> bool {
    wanted.is_empty() || id.starts_with(wanted)
}

impl HollowRuntime {
    /// A runtime whose pods have the 256 addresses from `first` on.
    pub fn new(first: Ipv4Addr) -> HollowRuntime {
        let (events, _) = broadcast::channel(EVENTS);
        HollowRuntime(Arc::new(Inner {
            state: Mutex::default(),
            events,
            first,
        }))
    }

    /// Clients in this process.
    pub fn clients(self) -> (RuntimeClient, ImageClient) {
        cri::local(self.clone(), self)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn network(&self, sandbox: &Sandbox) -> Option<v1::PodSandboxNetworkStatus> {
        let address = sandbox.address?;
        Some(v1::PodSandboxNetworkStatus {
            ip: Ipv4Addr::from_bits(self.0.first.to_bits() + u32::from(address)).to_string(),
            additional_ips: Vec::new(),
        })
    }

    fn sandbox_status(&self, id: &str, sandbox: &Sandbox) -> v1::PodSandboxStatus {
        v1::PodSandboxStatus {
            id: id.to_owned(),
            metadata: sandbox.config.metadata.clone(),
            state: sandbox.state().into(),
            created_at: sandbox.created_at,
            network: self.network(sandbox),
            labels: sandbox.config.labels.clone(),
            annotations: sandbox.config.annotations.clone(),
            ..Default::default()
        }
    }

    /// Tells the kubelet, if it listens, that something happened to a pod.
    fn tell(&self, state: &State, container: &str, sandbox: &str, kind: v1::ContainerEventType) {
        if let Some(found) = state.sandboxes.get(sandbox) {
            let event = v1::ContainerEventResponse {
                container_id: container.to_owned(),
                container_event_type: kind.into(),
                created_at: now(),
                pod_sandbox_status: Some(self.sandbox_status(sandbox, found)),
                containers_statuses: Vec::new(),
            };
            // without a listener there is nobody to tell
            drop(self.0.events.send(event));
        }
    }

    fn stats(&self, filter: Option<v1::ContainerStatsFilter>) -> Vec<v1::ContainerStats> {
        let filter = filter.unwrap_or_default();
        let state = self.state();
        let found = state.containers.iter().filter(|(id, container)| {
            container.is_running()
                && id_matches(id, &filter.id)
                && id_matches(&container.sandbox, &filter.pod_sandbox_id)
                && labels_match(&container.config.labels, &filter.label_selector)
        });
        found.map(|(id, container)| used(id, container)).collect()
    }
}

/// A container that runs nothing uses nothing.
fn used(id: &str, container: &Container) -> v1::ContainerStats {
    let timestamp = now();
    let zero = Some(v1::UInt64Value { value: 0 });
    v1::ContainerStats {
        attributes: Some(v1::ContainerAttributes {
            id: id.to_owned(),
            metadata: container.config.metadata.clone(),
            labels: container.config.labels.clone(),
            annotations: container.config.annotations.clone(),
        }),
        cpu: Some(v1::CpuUsage {
            timestamp,
            usage_core_nano_seconds: zero,
            usage_nano_cores: zero,
            ..Default::default()
        }),
        memory: Some(v1::MemoryUsage {
            timestamp,
            working_set_bytes: zero,
            usage_bytes: zero,
            ..Default::default()
        }),
        ..Default::default()
    }
}

#[tonic::async_trait]
impl RuntimeService for HollowRuntime {
    async fn version(&self, _: Request<v1::VersionRequest>) -> Answer<v1::VersionResponse> {
        answer(v1::VersionResponse {
            version: "0.1.0".into(),
            runtime_name: "hollow".into(),
            runtime_version: env!("CARGO_PKG_VERSION").into(),
            runtime_api_version: "v1".into(),
        })
    }

    async fn status(&self, _: Request<v1::StatusRequest>) -> Answer<v1::StatusResponse> {
        let condition = |name: &str| v1::RuntimeCondition {
            r#type: name.into(),
            status: true,
            ..Default::default()
        };
        answer(v1::StatusResponse {
            status: Some(v1::RuntimeStatus {
                conditions: vec![condition("RuntimeReady"), condition("NetworkReady")],
            }),
            runtime_handlers: vec![v1::RuntimeHandler::default()],
            ..Default::default()
        })
    }

    async fn run_pod_sandbox(&self, request: Request<v1::RunPodSandboxRequest>) -> Answer<v1::RunPodSandboxResponse> {
        let config = request.into_inner().config.unwrap_or_default();
        let mut state = self.state();
        let options = config.linux.as_ref().and_then(|linux| linux.security_context.as_ref());
        let namespaces = options.and_then(|context| context.namespace_options.as_ref());
        let on_host = namespaces.is_some_and(|options| options.network() == v1::NamespaceMode::Node);
        let address = match on_host {
            true => None,
            false => {
                let free = (1..=u8::MAX).find(|address| !state.addresses.contains(address));
                let free = free.ok_or_else(|| Status::resource_exhausted("no address is free"))?;
                state.addresses.insert(free);
                Some(free)
            }
        };
        let (id, created_at) = state.id();
        let sandbox = Sandbox {
            config,
            ready: true,
            created_at,
            address,
        };
        state.sandboxes.insert(id.clone(), sandbox);
        self.tell(&state, &id, &id, v1::ContainerEventType::ContainerStartedEvent);
        answer(v1::RunPodSandboxResponse { pod_sandbox_id: id })
    }

    async fn stop_pod_sandbox(
        &self,
        request: Request<v1::StopPodSandboxRequest>,
    ) -> Answer<v1::StopPodSandboxResponse> {
        let id = request.into_inner().pod_sandbox_id;
        let mut state = self.state();
        for container in state.stop_sandbox(&id) {
            self.tell(&state, &container, &id, v1::ContainerEventType::ContainerStoppedEvent);
        }
        self.tell(&state, &id, &id, v1::ContainerEventType::ContainerStoppedEvent);
        answer(v1::StopPodSandboxResponse {})
    }

    async fn remove_pod_sandbox(
        &self,
        request: Request<v1::RemovePodSandboxRequest>,
    ) -> Answer<v1::RemovePodSandboxResponse> {
        let id = request.into_inner().pod_sandbox_id;
        let mut state = self.state();
        state.stop_sandbox(&id);
        self.tell(&state, &id, &id, v1::ContainerEventType::ContainerDeletedEvent);
        state.containers.retain(|_, container| container.sandbox != id);
        state.sandboxes.remove(&id);
        answer(v1::RemovePodSandboxResponse {})
    }

    async fn pod_sandbox_status(
        &self,
        request: Request<v1::PodSandboxStatusRequest>,
    ) -> Answer<v1::PodSandboxStatusResponse> {
        let id = request.into_inner().pod_sandbox_id;
        let state = self.state();
        answer(v1::PodSandboxStatusResponse {
            status: Some(self.sandbox_status(&id, state.sandbox(&id)?)),
            ..Default::default()
        })
    }

    async fn list_pod_sandbox(
        &self,
        request: Request<v1::ListPodSandboxRequest>,
    ) -> Answer<v1::ListPodSandboxResponse> {
        let filter = request.into_inner().filter.unwrap_or_default();
        let state = self.state();
        let found = state.sandboxes.iter().filter(|(id, sandbox)| {
            id_matches(id, &filter.id)
                && filter
                    .state
                    .as_ref()
                    .is_none_or(|wanted| wanted.state == i32::from(sandbox.state()))
                && labels_match(&sandbox.config.labels, &filter.label_selector)
        });
        answer(v1::ListPodSandboxResponse {
            items: found.map(|(id, sandbox)| sandbox.entry(id)).collect(),
        })
    }

    async fn create_container(
        &self,
        request: Request<v1::CreateContainerRequest>,
    ) -> Answer<v1::CreateContainerResponse> {
        let request = request.into_inner();
        let mut state = self.state();
        state.sandbox(&request.pod_sandbox_id)?;
        let config = request.config.unwrap_or_default();
        let (id, created_at) = state.id();
        let container = Container {
            sandbox: request.pod_sandbox_id.clone(),
            resources: config.linux.as_ref().and_then(|linux| linux.resources.clone()),
            config,
            state: v1::ContainerState::ContainerCreated,
            created_at,
            started_at: 0,
            finished_at: 0,
        };
        state.containers.insert(id.clone(), container);
        let kind = v1::ContainerEventType::ContainerCreatedEvent;
        self.tell(&state, &id, &request.pod_sandbox_id, kind);
        answer(v1::CreateContainerResponse { container_id: id })
    }

    async fn start_container(&self, request: Request<v1::StartContainerRequest>) -> Answer<v1::StartContainerResponse> {
        let id = request.into_inner().container_id;
        let mut state = self.state();
        let container = state.container(&id)?;
        if container.state != v1::ContainerState::ContainerCreated {
            return Err(Status::failed_precondition(format!(
                "container {id} is in {} state",
                container.state.as_str_name()
            )));
        }
        container.state = v1::ContainerState::ContainerRunning;
        container.started_at = now();
        let sandbox = container.sandbox.clone();
        self.tell(&state, &id, &sandbox, v1::ContainerEventType::ContainerStartedEvent);
        answer(v1::StartContainerResponse {})
    }

    async fn stop_container(&self, request: Request<v1::StopContainerRequest>) -> Answer<v1::StopContainerResponse> {
        let id = request.into_inner().container_id;
        let mut state = self.state();
        let container = state.container(&id)?;
        let (ran, sandbox) = (container.stop(), container.sandbox.clone());
        if ran {
            self.tell(&state, &id, &sandbox, v1::ContainerEventType::ContainerStoppedEvent);
        }
        answer(v1::StopContainerResponse {})
    }

    async fn remove_container(
        &self,
        request: Request<v1::RemoveContainerRequest>,
    ) -> Answer<v1::RemoveContainerResponse> {
        let id = request.into_inner().container_id;
        let mut state = self.state();
        if let Some(container) = state.containers.remove(&id) {
            let kind = v1::ContainerEventType::ContainerDeletedEvent;
            self.tell(&state, &id, &container.sandbox, kind);
        }
        answer(v1::RemoveContainerResponse {})
    }

    async fn list_containers(&self, request: Request<v1::ListContainersRequest>) -> Answer<v1::ListContainersResponse> {
        let filter = request.into_inner().filter.unwrap_or_default();
        let state = self.state();
        let found = state.containers.iter().filter(|(id, container)| {
            id_matches(id, &filter.id)
                && id_matches(&container.sandbox, &filter.pod_sandbox_id)
                && filter
                    .state
                    .as_ref()
                    .is_none_or(|wanted| wanted.state == i32::from(container.state))
                && labels_match(&container.config.labels, &filter.label_selector)
        });
        answer(v1::ListContainersResponse {
            containers: found.map(|(id, container)| container.entry(id)).collect(),
        })
    }

    async fn container_status(
        &self,
        request: Request<v1::ContainerStatusRequest>,
    ) -> Answer<v1::ContainerStatusResponse> {
        let id = request.into_inner().container_id;
        let state = self.state();
        let container = state.containers.get(&id).ok_or_else(|| absent("container", &id))?;
        let directory = state.sandbox(&container.sandbox)?.config.log_directory.as_str();
        answer(v1::ContainerStatusResponse {
            status: Some(container.status(&id, directory)),
            ..Default::default()
        })
    }

    async fn update_container_resources(
        &self,
        request: Request<v1::UpdateContainerResourcesRequest>,
    ) -> Answer<v1::UpdateContainerResourcesResponse> {
        let request = request.into_inner();
        self.state().container(&request.container_id)?.resources = request.linux;
        answer(v1::UpdateContainerResourcesResponse {})
    }

    async fn update_pod_sandbox_resources(
        &self,
        request: Request<v1::UpdatePodSandboxResourcesRequest>,
    ) -> Answer<v1::UpdatePodSandboxResourcesResponse> {
        self.state().sandbox(&request.into_inner().pod_sandbox_id)?;
        answer(v1::UpdatePodSandboxResourcesResponse {})
    }

    /// Commands of probes and hooks succeed and say nothing.
    async fn exec_sync(&self, request: Request<v1::ExecSyncRequest>) -> Answer<v1::ExecSyncResponse> {
        let id = request.into_inner().container_id;
        match self.state().container(&id)?.is_running() {
            true => answer(v1::ExecSyncResponse::default()),
            false => Err(Status::failed_precondition(format!("container {id} is not running"))),
        }
    }

    async fn exec(&self, _: Request<v1::ExecRequest>) -> Answer<v1::ExecResponse> {
        Err(nothing())
    }

    async fn attach(&self, _: Request<v1::AttachRequest>) -> Answer<v1::AttachResponse> {
        Err(nothing())
    }

    async fn port_forward(&self, _: Request<v1::PortForwardRequest>) -> Answer<v1::PortForwardResponse> {
        Err(nothing())
    }

    async fn container_stats(&self, request: Request<v1::ContainerStatsRequest>) -> Answer<v1::ContainerStatsResponse> {
        let id = request.into_inner().container_id;
        let mut state = self.state();
        let container = state.container(&id)?;
        answer(v1::ContainerStatsResponse {
            stats: Some(used(&id, container)),
        })
    }

    async fn list_container_stats(
        &self,
        request: Request<v1::ListContainerStatsRequest>,
    ) -> Answer<v1::ListContainerStatsResponse> {
        answer(v1::ListContainerStatsResponse {
            stats: self.stats(request.into_inner().filter),
        })
    }

    async fn get_container_events(
        &self,
        _: Request<v1::GetEventsRequest>,
    ) -> Answer<BoxStream<'static, Result<v1::ContainerEventResponse, Status>>> {
        let events = self.0.events.subscribe();
        let stream = futures::stream::unfold(events, |mut events| async move {
            // a listener that lags asks anew
            let event = events.recv().await.ok()?;
            Some((Ok(event), events))
        });
        answer(stream.boxed())
    }
}

fn image(name: &str) -> v1::Image {
    v1::Image {
        id: name.to_owned(),
        repo_tags: vec![name.to_owned()],
        spec: Some(v1::ImageSpec {
            image: name.to_owned(),
            ..Default::default()
        }),
        ..Default::default()
    }
}

/// Every image can be pulled; none has a byte.
#[tonic::async_trait]
impl ImageService for HollowRuntime {
    async fn list_images(&self, request: Request<v1::ListImagesRequest>) -> Answer<v1::ListImagesResponse> {
        let wanted = request.into_inner().filter.and_then(|filter| filter.image);
        let state = self.state();
        let found = state
            .images
            .iter()
            .filter(|name| wanted.as_ref().is_none_or(|wanted| wanted.image == **name));
        answer(v1::ListImagesResponse {
            images: found.map(|name| image(name)).collect(),
        })
    }

    async fn image_status(&self, request: Request<v1::ImageStatusRequest>) -> Answer<v1::ImageStatusResponse> {
        let wanted = request.into_inner().image.unwrap_or_default().image;
        answer(v1::ImageStatusResponse {
            image: self.state().images.get(&wanted).map(|name| image(name)),
            ..Default::default()
        })
    }

    async fn pull_image(&self, request: Request<v1::PullImageRequest>) -> Answer<v1::PullImageResponse> {
        let name = request.into_inner().image.unwrap_or_default().image;
        self.state().images.insert(name.clone());
        answer(v1::PullImageResponse { image_ref: name })
    }

    async fn remove_image(&self, request: Request<v1::RemoveImageRequest>) -> Answer<v1::RemoveImageResponse> {
        let name = request.into_inner().image.unwrap_or_default().image;
        self.state().images.remove(&name);
        answer(v1::RemoveImageResponse {})
    }
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
