//! CRI's RuntimeService over the runtime.

use std::sync::Arc;

use cri::v1;
use cri::v1::runtime_service_server::RuntimeService;
use futures::stream::{self, BoxStream, StreamExt};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};

use super::container::Container;
use super::error::RuntimeError;
use super::streams::Task;
use super::{Runtime, container, exec, sandbox, stats, status};

type Answer<T> = Result<Response<T>, Status>;
type Stream<T> = BoxStream<'static, Result<T, Status>>;

/// The services of a runtime. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Service(pub Arc<Runtime>);

fn answer<T>(message: T) -> Answer<T> {
    Ok(Response::new(message))
}

/// A list in one piece.
fn once<T: Send + 'static>(message: T) -> Answer<Stream<T>> {
    Ok(Response::new(stream::iter([Ok(message)]).boxed()))
}

fn unsupported(what: &str) -> Status {
    Status::unimplemented(format!("{what} is not supported by the runtime"))
}

fn must_run(container: &Container) -> Result<(), RuntimeError> {
    if container.is_running() {
        return Ok(());
    }
    let state = container.with(|r| r.state().as_str_name());
    Err(RuntimeError::State(format!(
        "container {} is in {state} state",
        container.id
    )))
}

impl Service {
    fn list_sandboxes(&self, filter: Option<v1::PodSandboxFilter>) -> Vec<v1::PodSandbox> {
        let filter = filter.unwrap_or_default();
        let all = self.0.sandboxes();
        let entries = all.iter().map(|s| s.record()).filter(|r| r.made);
        entries
            .map(|r| status::sandbox_entry(&r))
            .filter(|e| status::sandbox_matches(e, &filter))
            .collect()
    }

    fn list_containers(&self, filter: Option<v1::ContainerFilter>) -> Vec<v1::Container> {
        let filter = filter.unwrap_or_default();
        let entries = self.0.containers();
        entries
            .iter()
            .map(|c| c.with(status::container_entry))
            .filter(|e| status::container_matches(e, &filter))
            .collect()
    }

    async fn container_stats(&self, filter: Option<v1::ContainerStatsFilter>) -> Vec<v1::ContainerStats> {
        let filter = filter.unwrap_or_default();
        let mut found = Vec::new();
        for one in self.0.containers() {
            let labels = one.with(|r| r.config.as_ref().map(|c| c.labels.clone()).unwrap_or_default());
            if one.is_running()
                && status::id_matches(&one.id, &filter.id)
                && status::id_matches(&one.sandbox_id, &filter.pod_sandbox_id)
                && status::labels_match(&labels, &filter.label_selector)
            {
                found.push(stats::container(&self.0, &one).await);
            }
        }
        found
    }

    async fn sandbox_stats(
        &self,
        filter: Option<v1::PodSandboxStatsFilter>,
    ) -> Result<Vec<v1::PodSandboxStats>, Status> {
        let filter = filter.unwrap_or_default();
        let mut found = Vec::new();
        for one in self.0.sandboxes().iter().filter(|s| s.is_ready()) {
            if status::id_matches(&one.id, &filter.id)
                && status::labels_match(&one.config().labels, &filter.label_selector)
            {
                found.push(stats::sandbox(&self.0, one).await?);
            }
        }
        Ok(found)
    }
}

#[tonic::async_trait]
impl RuntimeService for Service {
    async fn version(&self, _: Request<v1::VersionRequest>) -> Answer<v1::VersionResponse> {
        answer(v1::VersionResponse {
            version: "0.1.0".to_owned(),
            runtime_name: "skiff".to_owned(),
            runtime_version: env!("CARGO_PKG_VERSION").to_owned(),
            runtime_api_version: "v1".to_owned(),
        })
    }

    async fn run_pod_sandbox(&self, request: Request<v1::RunPodSandboxRequest>) -> Answer<v1::RunPodSandboxResponse> {
        let request = request.into_inner();
        let config = request
            .config
            .ok_or_else(|| RuntimeError::Invalid("sandbox config is not set".to_owned()))?;
        // A caller that stops waiting must not leave a sandbox half-made.
        let runtime = self.0.clone();
        let made = tokio::spawn(async move { sandbox::run(&runtime, config, request.runtime_handler).await });
        let pod_sandbox_id = made.await.map_err(|e| Status::internal(e.to_string()))??;
        answer(v1::RunPodSandboxResponse { pod_sandbox_id })
    }

    async fn stop_pod_sandbox(
        &self,
        request: Request<v1::StopPodSandboxRequest>,
    ) -> Answer<v1::StopPodSandboxResponse> {
        match sandbox::stop(&self.0, &request.into_inner().pod_sandbox_id).await {
            Ok(()) | Err(RuntimeError::NotFound { .. }) => answer(v1::StopPodSandboxResponse {}),
            Err(error) => Err(error.into()),
        }
    }

    async fn remove_pod_sandbox(
        &self,
        request: Request<v1::RemovePodSandboxRequest>,
    ) -> Answer<v1::RemovePodSandboxResponse> {
        sandbox::remove(&self.0, &request.into_inner().pod_sandbox_id).await?;
        answer(v1::RemovePodSandboxResponse {})
    }

    async fn pod_sandbox_status(
        &self,
        request: Request<v1::PodSandboxStatusRequest>,
    ) -> Answer<v1::PodSandboxStatusResponse> {
        let sandbox = self.0.sandbox(&request.into_inner().pod_sandbox_id)?;
        let containers = self.0.containers_of(&sandbox.id);
        answer(v1::PodSandboxStatusResponse {
            status: Some(status::sandbox_status(&sandbox.record())),
            info: std::collections::HashMap::new(),
            containers_statuses: containers.iter().map(|c| c.with(status::container_status)).collect(),
            timestamp: crate::sys::now(),
        })
    }

    async fn list_pod_sandbox(
        &self,
        request: Request<v1::ListPodSandboxRequest>,
    ) -> Answer<v1::ListPodSandboxResponse> {
        answer(v1::ListPodSandboxResponse {
            items: self.list_sandboxes(request.into_inner().filter),
        })
    }

    async fn stream_pod_sandboxes(
        &self,
        request: Request<v1::StreamPodSandboxesRequest>,
    ) -> Answer<Stream<v1::StreamPodSandboxesResponse>> {
        once(v1::StreamPodSandboxesResponse {
            pod_sandboxes: self.list_sandboxes(request.into_inner().filter),
        })
    }

    async fn create_container(
        &self,
        request: Request<v1::CreateContainerRequest>,
    ) -> Answer<v1::CreateContainerResponse> {
        let (runtime, request) = (self.0.clone(), request.into_inner());
        // It reads the image's files and makes directories: work for a thread that may wait for a disk.
        let created = tokio::task::spawn_blocking(move || container::create(&runtime, request)).await;
        let container_id = created.map_err(|e| Status::internal(e.to_string()))??;
        answer(v1::CreateContainerResponse { container_id })
    }

    async fn start_container(&self, request: Request<v1::StartContainerRequest>) -> Answer<v1::StartContainerResponse> {
        let (runtime, id) = (self.0.clone(), request.into_inner().container_id);
        let started = tokio::spawn(async move { container::start(&runtime, &id).await });
        started.await.map_err(|e| Status::internal(e.to_string()))??;
        answer(v1::StartContainerResponse {})
    }

    async fn stop_container(&self, request: Request<v1::StopContainerRequest>) -> Answer<v1::StopContainerResponse> {
        let request = request.into_inner();
        container::stop(&self.0, &request.container_id, request.timeout).await?;
        answer(v1::StopContainerResponse {})
    }

    async fn remove_container(
        &self,
        request: Request<v1::RemoveContainerRequest>,
    ) -> Answer<v1::RemoveContainerResponse> {
        container::remove(&self.0, &request.into_inner().container_id).await?;
        answer(v1::RemoveContainerResponse {})
    }

    async fn list_containers(&self, request: Request<v1::ListContainersRequest>) -> Answer<v1::ListContainersResponse> {
        answer(v1::ListContainersResponse {
            containers: self.list_containers(request.into_inner().filter),
        })
    }

    async fn stream_containers(
        &self,
        request: Request<v1::StreamContainersRequest>,
    ) -> Answer<Stream<v1::StreamContainersResponse>> {
        once(v1::StreamContainersResponse {
            containers: self.list_containers(request.into_inner().filter),
        })
    }

    async fn container_status(
        &self,
        request: Request<v1::ContainerStatusRequest>,
    ) -> Answer<v1::ContainerStatusResponse> {
        let request = request.into_inner();
        let container = self.0.container(&request.container_id)?;
        let mut info = std::collections::HashMap::new();
        if request.verbose {
            let text = serde_json::json!({ "pid": container.with(|r| r.pid), "sandboxID": container.sandbox_id });
            info.insert("info".to_owned(), text.to_string());
        }
        answer(v1::ContainerStatusResponse {
            status: Some(container.with(status::container_status)),
            info,
        })
    }

    async fn update_container_resources(
        &self,
        request: Request<v1::UpdateContainerResourcesRequest>,
    ) -> Answer<v1::UpdateContainerResourcesResponse> {
        container::update_resources(&self.0, request.into_inner()).await?;
        answer(v1::UpdateContainerResourcesResponse {})
    }

    async fn reopen_container_log(
        &self,
        request: Request<v1::ReopenContainerLogRequest>,
    ) -> Answer<v1::ReopenContainerLogResponse> {
        container::reopen_log(&self.0, &request.into_inner().container_id).await?;
        answer(v1::ReopenContainerLogResponse {})
    }

    async fn exec_sync(&self, request: Request<v1::ExecSyncRequest>) -> Answer<v1::ExecSyncResponse> {
        answer(exec::sync(&self.0, request.into_inner()).await?)
    }

    async fn exec(&self, request: Request<v1::ExecRequest>) -> Answer<v1::ExecResponse> {
        let mut request = request.into_inner();
        let container = self.0.container(&request.container_id)?;
        must_run(&container)?;
        if !(request.stdin || request.stdout || request.stderr) {
            return Err(Status::invalid_argument("one of stdin, stdout or stderr must be set"));
        }
        if request.tty && request.stderr {
            return Err(Status::invalid_argument("tty and stderr cannot both be true"));
        }
        request.container_id.clone_from(&container.id);
        let url = self.0.streams.expect(Task::Exec(request))?;
        answer(v1::ExecResponse { url })
    }

    async fn attach(&self, request: Request<v1::AttachRequest>) -> Answer<v1::AttachResponse> {
        let mut request = request.into_inner();
        let container = self.0.container(&request.container_id)?;
        must_run(&container)?;
        if !(request.stdin || request.stdout || request.stderr) {
            return Err(Status::invalid_argument("one of stdin, stdout or stderr must be set"));
        }
        if request.tty && request.stderr {
            return Err(Status::invalid_argument("tty and stderr cannot both be true"));
        }
        request.container_id.clone_from(&container.id);
        let url = self.0.streams.expect(Task::Attach(request))?;
        answer(v1::AttachResponse { url })
    }

    async fn port_forward(&self, request: Request<v1::PortForwardRequest>) -> Answer<v1::PortForwardResponse> {
        let request = request.into_inner();
        let sandbox = self.0.sandbox(&request.pod_sandbox_id)?;
        sandbox.shim()?;
        let url = self.0.streams.expect(Task::PortForward(request))?;
        answer(v1::PortForwardResponse { url })
    }

    async fn container_stats(&self, request: Request<v1::ContainerStatsRequest>) -> Answer<v1::ContainerStatsResponse> {
        let container = self.0.container(&request.into_inner().container_id)?;
        answer(v1::ContainerStatsResponse {
            stats: Some(stats::container(&self.0, &container).await),
        })
    }

    async fn list_container_stats(
        &self,
        request: Request<v1::ListContainerStatsRequest>,
    ) -> Answer<v1::ListContainerStatsResponse> {
        answer(v1::ListContainerStatsResponse {
            stats: self.container_stats(request.into_inner().filter).await,
        })
    }

    async fn stream_container_stats(
        &self,
        request: Request<v1::StreamContainerStatsRequest>,
    ) -> Answer<Stream<v1::StreamContainerStatsResponse>> {
        once(v1::StreamContainerStatsResponse {
            container_stats: self.container_stats(request.into_inner().filter).await,
        })
    }

    async fn pod_sandbox_stats(
        &self,
        request: Request<v1::PodSandboxStatsRequest>,
    ) -> Answer<v1::PodSandboxStatsResponse> {
        let sandbox = self.0.sandbox(&request.into_inner().pod_sandbox_id)?;
        answer(v1::PodSandboxStatsResponse {
            stats: Some(stats::sandbox(&self.0, &sandbox).await?),
        })
    }

    async fn list_pod_sandbox_stats(
        &self,
        request: Request<v1::ListPodSandboxStatsRequest>,
    ) -> Answer<v1::ListPodSandboxStatsResponse> {
        answer(v1::ListPodSandboxStatsResponse {
            stats: self.sandbox_stats(request.into_inner().filter).await?,
        })
    }

    async fn stream_pod_sandbox_stats(
        &self,
        request: Request<v1::StreamPodSandboxStatsRequest>,
    ) -> Answer<Stream<v1::StreamPodSandboxStatsResponse>> {
        once(v1::StreamPodSandboxStatsResponse {
            pod_sandbox_stats: self.sandbox_stats(request.into_inner().filter).await?,
        })
    }

    async fn update_runtime_config(
        &self,
        _: Request<v1::UpdateRuntimeConfigRequest>,
    ) -> Answer<v1::UpdateRuntimeConfigResponse> {
        // The pod's network range is the CNI configuration's own matter, as in upstream's runtimes without a template.
        answer(v1::UpdateRuntimeConfigResponse {})
    }

    async fn status(&self, _: Request<v1::StatusRequest>) -> Answer<v1::StatusResponse> {
        let condition = |kind: &str, problem: Option<(&str, String)>| {
            let (reason, message) = problem.unwrap_or_default();
            v1::RuntimeCondition {
                r#type: kind.to_owned(),
                status: reason.is_empty(),
                reason: reason.to_owned(),
                message,
            }
        };
        let network = match &self.0.config.cni {
            Some(cni) => cni.status().await.err().map(|e| e.to_string()),
            None => Some("no pod network is configured".to_owned()),
        };
        let network = network.map(|text| {
            let message = format!("Network plugin returns error: {text}");
            ("NetworkPluginNotReady", message)
        });
        let handlers = std::iter::once("").chain(self.0.config.handlers.iter().map(String::as_str));
        let handlers = handlers.map(|name| v1::RuntimeHandler {
            name: name.to_owned(),
            features: Some(v1::RuntimeHandlerFeatures {
                recursive_read_only_mounts: true,
                user_namespaces: false,
            }),
        });
        answer(v1::StatusResponse {
            status: Some(v1::RuntimeStatus {
                conditions: vec![condition("RuntimeReady", None), condition("NetworkReady", network)],
            }),
            info: std::collections::HashMap::new(),
            runtime_handlers: handlers.collect(),
            features: Some(v1::RuntimeFeatures {
                supplemental_groups_policy: true,
                mount_options: false,
                user_namespaces_host_network: false,
            }),
        })
    }

    async fn checkpoint_container(
        &self,
        _: Request<v1::CheckpointContainerRequest>,
    ) -> Answer<v1::CheckpointContainerResponse> {
        Err(unsupported("checkpoint"))
    }

    async fn checkpoint_pod(&self, _: Request<v1::CheckpointPodRequest>) -> Answer<v1::CheckpointPodResponse> {
        Err(unsupported("checkpoint"))
    }

    async fn restore_pod(&self, _: Request<v1::RestorePodRequest>) -> Answer<v1::RestorePodResponse> {
        Err(unsupported("restoration of a checkpoint"))
    }

    async fn get_container_events(
        &self,
        _: Request<v1::GetEventsRequest>,
    ) -> Answer<Stream<v1::ContainerEventResponse>> {
        let events = ReceiverStream::new(self.0.subscribe());
        Ok(Response::new(events.map(Ok).boxed()))
    }

    async fn list_metric_descriptors(
        &self,
        _: Request<v1::ListMetricDescriptorsRequest>,
    ) -> Answer<v1::ListMetricDescriptorsResponse> {
        Err(unsupported("metrics"))
    }

    async fn list_pod_sandbox_metrics(
        &self,
        _: Request<v1::ListPodSandboxMetricsRequest>,
    ) -> Answer<v1::ListPodSandboxMetricsResponse> {
        Err(unsupported("metrics"))
    }

    async fn stream_pod_sandbox_metrics(
        &self,
        _: Request<v1::StreamPodSandboxMetricsRequest>,
    ) -> Answer<Stream<v1::StreamPodSandboxMetricsResponse>> {
        Err(unsupported("metrics"))
    }

    async fn runtime_config(&self, _: Request<v1::RuntimeConfigRequest>) -> Answer<v1::RuntimeConfigResponse> {
        answer(v1::RuntimeConfigResponse {
            linux: Some(v1::LinuxRuntimeConfiguration {
                cgroup_driver: v1::CgroupDriver::Cgroupfs as i32,
            }),
        })
    }

    async fn update_pod_sandbox_resources(
        &self,
        request: Request<v1::UpdatePodSandboxResourcesRequest>,
    ) -> Answer<v1::UpdatePodSandboxResourcesResponse> {
        let request = request.into_inner();
        let sandbox = self.0.sandbox(&request.pod_sandbox_id)?;
        // The pod's group is the kubelet's; the runtime only remembers.
        sandbox.update(|r| {
            let linux = r.config.get_or_insert_default().linux.get_or_insert_default();
            linux.overhead = request.overhead.or(linux.overhead.take());
            linux.resources = request.resources.or(linux.resources.take());
        })?;
        answer(v1::UpdatePodSandboxResourcesResponse {})
    }
}
