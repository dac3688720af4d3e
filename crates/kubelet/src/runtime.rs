//! The runtime through CRI: what it says about pods, and the calls that change them.

mod resources;

use std::collections::HashMap;
use std::time::Duration;

use cri::v1;
use cri::{ImageClient, RuntimeClient};

use crate::cri_config::{CONTAINER_NAME, POD_UID};
use crate::runtime_pod::{RuntimeContainer, RuntimeLimits, RuntimePod, Sandbox, State};

/// A call that the runtime refused or did not answer.
#[derive(Debug, thiserror::Error, Clone)]
#[error("rpc error: code = {code:?} desc = {message}")]
pub struct RuntimeError {
    pub code: tonic::Code,
    /// The runtime's own words.
    pub message: String,
}

impl From<tonic::Status> for RuntimeError {
    fn from(status: tonic::Status) -> RuntimeError {
        RuntimeError {
            code: status.code(),
            message: status.message().to_owned(),
        }
    }
}

impl RuntimeError {
    /// Whether the runtime knows no such container, sandbox or image.
    pub fn is_not_found(&self) -> bool {
        self.code == tonic::Code::NotFound
    }
}

type Result<T> = std::result::Result<T, RuntimeError>;

/// Two minutes, as upstream's `runtimeRequestTimeout`.
const TIMEOUT: Duration = Duration::from_secs(120);

fn request<T>(message: T, timeout: Duration) -> tonic::Request<T> {
    let mut request = tonic::Request::new(message);
    request.set_timeout(timeout);
    request
}

/// A runtime. Cheap to clone.
#[derive(Clone)]
pub struct Runtime {
    pub runtime: RuntimeClient,
    pub image: ImageClient,
}

impl std::fmt::Debug for Runtime {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Runtime")
    }
}

impl Runtime {
    /// Asks over these connections.
    pub fn new(runtime: RuntimeClient, image: ImageClient) -> Runtime {
        Runtime { runtime, image }
    }

    /// The runtime's name and version.
    ///
    /// # Errors
    /// What the runtime says.
    pub async fn version(&self) -> Result<v1::VersionResponse> {
        Ok(self
            .runtime
            .clone()
            .version(request(
                v1::VersionRequest {
                    version: "0.1.0".to_owned(),
                },
                TIMEOUT,
            ))
            .await?
            .into_inner())
    }

    /// Whether the runtime and its network are ready.
    ///
    /// # Errors
    /// What the runtime says.
    pub async fn status(&self) -> Result<v1::StatusResponse> {
        Ok(self
            .runtime
            .clone()
            .status(request(v1::StatusRequest { verbose: false }, TIMEOUT))
            .await?
            .into_inner())
    }

    /// The sandboxes of a pod, or all.
    ///
    /// # Errors
    /// What the runtime says.
    pub async fn list_sandboxes(&self, uid: Option<&str>) -> Result<Vec<v1::PodSandbox>> {
        let filter = uid.map(|uid| v1::PodSandboxFilter {
            label_selector: [(POD_UID.to_owned(), uid.to_owned())].into(),
            ..Default::default()
        });
        Ok(self
            .runtime
            .clone()
            .list_pod_sandbox(request(v1::ListPodSandboxRequest { filter }, TIMEOUT))
            .await?
            .into_inner()
            .items)
    }

    /// The containers of a pod, or all.
    ///
    /// # Errors
    /// What the runtime says.
    pub async fn list_containers(&self, uid: Option<&str>) -> Result<Vec<v1::Container>> {
        let filter = uid.map(|uid| v1::ContainerFilter {
            label_selector: [(POD_UID.to_owned(), uid.to_owned())].into(),
            ..Default::default()
        });
        Ok(self
            .runtime
            .clone()
            .list_containers(request(v1::ListContainersRequest { filter }, TIMEOUT))
            .await?
            .into_inner()
            .containers)
    }

    /// Everything about one pod. Containers in `known` that have ended are not asked about again.
    pub async fn pod(&self, uid: &str, known: &RuntimePod) -> Result<RuntimePod> {
        let (sandboxes, containers) =
            tokio::try_join!(self.list_sandboxes(Some(uid)), self.list_containers(Some(uid)))?;
        let mut pod = RuntimePod::default();
        for sandbox in sandboxes {
            let ready = sandbox.state() == v1::PodSandboxState::SandboxReady;
            let seen = known
                .sandboxes
                .iter()
                .find(|s| s.id == sandbox.id && s.ready == ready && (!s.ips.is_empty() || !ready));
            if let Some(seen) = seen {
                pod.sandboxes.push(seen.clone());
                continue;
            }
            let asked = v1::PodSandboxStatusRequest {
                pod_sandbox_id: sandbox.id.clone(),
                verbose: false,
            };
            let status = match self.runtime.clone().pod_sandbox_status(request(asked, TIMEOUT)).await {
                Ok(answer) => answer.into_inner().status.unwrap_or_default(),
                Err(status) if status.code() == tonic::Code::NotFound => continue,
                Err(status) => return Err(status.into()),
            };
            let network = status.network.clone().unwrap_or_default();
            let ips = std::iter::once(network.ip)
                .chain(network.additional_ips.into_iter().map(|i| i.ip))
                .filter(|ip| !ip.is_empty());
            pod.sandboxes.push(Sandbox {
                id: status.id.clone(),
                attempt: status.metadata.as_ref().map_or(0, |m| m.attempt),
                ready: status.state() == v1::PodSandboxState::SandboxReady,
                created_at: status.created_at,
                ips: ips.collect(),
            });
        }
        for container in containers {
            if let Some(seen) = known
                .containers
                .iter()
                .find(|c| c.id == container.id && c.state == State::Exited)
            {
                pod.containers.push(seen.clone());
                continue;
            }
            match self.container(&container.id, &container.pod_sandbox_id).await {
                Ok(status) => pod.containers.push(status),
                Err(error) if error.is_not_found() => {}
                Err(error) => return Err(error),
            }
        }
        pod.sandboxes
            .sort_by_key(|s| std::cmp::Reverse((s.created_at, s.attempt)));
        pod.containers
            .sort_by_key(|c| std::cmp::Reverse((c.created_at, c.attempt)));
        Ok(pod)
    }

    /// The state of a container.
    ///
    /// # Errors
    /// What the runtime says.
    pub async fn container(&self, id: &str, sandbox: &str) -> Result<RuntimeContainer> {
        Ok(from_status(self.container_status(id).await?, sandbox))
    }

    async fn container_status(&self, id: &str) -> Result<v1::ContainerStatus> {
        let asked = v1::ContainerStatusRequest {
            container_id: id.to_owned(),
            verbose: false,
        };
        let answer = self.runtime.clone().container_status(request(asked, TIMEOUT)).await?;
        Ok(answer.into_inner().status.unwrap_or_default())
    }

    /// The images that a container has as volumes.
    pub async fn image_mounts(&self, id: &str) -> Result<Vec<String>> {
        let mounts = self.container_status(id).await?.mounts;
        Ok(mounts.into_iter().filter_map(|m| m.image).map(|i| i.image).collect())
    }

    /// Makes a sandbox with its network, and returns its id.
    ///
    /// # Errors
    /// What the runtime says.
    pub async fn run_sandbox(&self, config: v1::PodSandboxConfig, handler: &str) -> Result<String> {
        // Twice the usual: the network may take its time.
        let asked = v1::RunPodSandboxRequest {
            config: Some(config),
            runtime_handler: handler.to_owned(),
        };
        Ok(self
            .runtime
            .clone()
            .run_pod_sandbox(request(asked, TIMEOUT * 2))
            .await?
            .into_inner()
            .pod_sandbox_id)
    }

    /// Stops a sandbox and all in it; one that is gone is stopped.
    ///
    /// # Errors
    /// What the runtime says.
    pub async fn stop_sandbox(&self, id: &str) -> Result<()> {
        gone(
            self.runtime
                .clone()
                .stop_pod_sandbox(request(
                    v1::StopPodSandboxRequest {
                        pod_sandbox_id: id.to_owned(),
                    },
                    TIMEOUT,
                ))
                .await,
        )
    }

    /// Removes a sandbox; one that is gone is removed.
    ///
    /// # Errors
    /// What the runtime says.
    pub async fn remove_sandbox(&self, id: &str) -> Result<()> {
        gone(
            self.runtime
                .clone()
                .remove_pod_sandbox(request(
                    v1::RemovePodSandboxRequest {
                        pod_sandbox_id: id.to_owned(),
                    },
                    TIMEOUT,
                ))
                .await,
        )
    }

    /// Makes a container that does not run yet, and returns its id.
    ///
    /// # Errors
    /// What the runtime says.
    pub async fn create_container(
        &self,
        sandbox: &str,
        config: v1::ContainerConfig,
        sandbox_config: v1::PodSandboxConfig,
    ) -> Result<String> {
        let asked = v1::CreateContainerRequest {
            pod_sandbox_id: sandbox.to_owned(),
            config: Some(config),
            sandbox_config: Some(sandbox_config),
        };
        Ok(self
            .runtime
            .clone()
            .create_container(request(asked, TIMEOUT))
            .await?
            .into_inner()
            .container_id)
    }

    /// Starts a container.
    ///
    /// # Errors
    /// What the runtime says.
    pub async fn start_container(&self, id: &str) -> Result<()> {
        self.runtime
            .clone()
            .start_container(request(
                v1::StartContainerRequest {
                    container_id: id.to_owned(),
                },
                TIMEOUT,
            ))
            .await?;
        Ok(())
    }

    /// Waits at most `grace` seconds for the container to end by itself.
    pub async fn stop_container(&self, id: &str, grace: i64) -> Result<()> {
        let grace = grace.max(0);
        let asked = v1::StopContainerRequest {
            container_id: id.to_owned(),
            timeout: grace,
        };
        let timeout = TIMEOUT + Duration::from_secs(grace.unsigned_abs());
        gone(self.runtime.clone().stop_container(request(asked, timeout)).await)
    }

    /// Removes a container; one that is gone is removed.
    ///
    /// # Errors
    /// What the runtime says.
    pub async fn remove_container(&self, id: &str) -> Result<()> {
        gone(
            self.runtime
                .clone()
                .remove_container(request(
                    v1::RemoveContainerRequest {
                        container_id: id.to_owned(),
                    },
                    TIMEOUT,
                ))
                .await,
        )
    }

    /// Has the runtime write a container's log to a new file.
    ///
    /// # Errors
    /// What the runtime says.
    pub async fn reopen_log(&self, id: &str) -> Result<()> {
        self.runtime
            .clone()
            .reopen_container_log(request(
                v1::ReopenContainerLogRequest {
                    container_id: id.to_owned(),
                },
                TIMEOUT,
            ))
            .await?;
        Ok(())
    }

    /// Runs a command in a container: exit code and output, both streams together.
    pub async fn exec(&self, id: &str, command: Vec<String>, timeout: Duration) -> Result<(i32, Vec<u8>)> {
        let seconds = i64::try_from(timeout.as_secs()).unwrap_or(i64::MAX);
        let asked = v1::ExecSyncRequest {
            container_id: id.to_owned(),
            cmd: command,
            timeout: seconds,
        };
        let limit = if timeout.is_zero() {
            TIMEOUT
        } else {
            timeout + Duration::from_secs(10)
        };
        let mut answer = self
            .runtime
            .clone()
            .exec_sync(request(asked, limit))
            .await?
            .into_inner();
        answer.stdout.append(&mut answer.stderr);
        Ok((answer.exit_code, answer.stdout))
    }

    /// The image of a reference, if it is there.
    ///
    /// # Errors
    /// What the runtime says.
    pub async fn image_status(&self, image: &str) -> Result<Option<v1::Image>> {
        let spec = v1::ImageSpec {
            image: image.to_owned(),
            ..Default::default()
        };
        let asked = v1::ImageStatusRequest {
            image: Some(spec),
            verbose: false,
        };
        Ok(self
            .image
            .clone()
            .image_status(request(asked, TIMEOUT))
            .await?
            .into_inner()
            .image)
    }

    /// No time limit: a large image on a slow line is no error.
    pub async fn pull(
        &self,
        image: &str,
        auth: Option<v1::AuthConfig>,
        sandbox_config: Option<v1::PodSandboxConfig>,
    ) -> Result<String> {
        let spec = v1::ImageSpec {
            image: image.to_owned(),
            user_specified_image: image.to_owned(),
            ..Default::default()
        };
        let asked = v1::PullImageRequest {
            image: Some(spec),
            auth,
            sandbox_config,
        };
        Ok(self.image.clone().pull_image(asked).await?.into_inner().image_ref)
    }

    /// Figures of containers: of one pod, or of all.
    pub async fn container_stats(&self, uid: Option<&str>) -> Result<Vec<v1::ContainerStats>> {
        let filter = uid.map(|uid| v1::ContainerStatsFilter {
            label_selector: [(POD_UID.to_owned(), uid.to_owned())].into(),
            ..Default::default()
        });
        let asked = v1::ListContainerStatsRequest { filter };
        let answer = self
            .runtime
            .clone()
            .list_container_stats(request(asked, TIMEOUT))
            .await?;
        Ok(answer.into_inner().stats)
    }

    /// The use of the disk that images are on.
    ///
    /// # Errors
    /// What the runtime says.
    pub async fn image_fs_info(&self) -> Result<v1::ImageFsInfoResponse> {
        let asked = v1::ImageFsInfoRequest {};
        Ok(self
            .image
            .clone()
            .image_fs_info(request(asked, TIMEOUT))
            .await?
            .into_inner())
    }

    /// Removes an image.
    ///
    /// # Errors
    /// What the runtime says.
    pub async fn remove_image(&self, id: &str) -> Result<()> {
        let spec = v1::ImageSpec {
            image: id.to_owned(),
            ..Default::default()
        };
        let asked = v1::RemoveImageRequest { image: Some(spec) };
        gone(self.image.clone().remove_image(request(asked, TIMEOUT)).await)
    }

    /// All images.
    ///
    /// # Errors
    /// What the runtime says.
    pub async fn list_images(&self) -> Result<Vec<v1::Image>> {
        Ok(self
            .image
            .clone()
            .list_images(request(v1::ListImagesRequest { filter: None }, TIMEOUT))
            .await?
            .into_inner()
            .images)
    }
}

/// What is not there any more needs no stopping.
fn gone<T>(answer: std::result::Result<T, tonic::Status>) -> Result<()> {
    match answer {
        Ok(_) => Ok(()),
        Err(status) if status.code() == tonic::Code::NotFound => Ok(()),
        Err(status) => Err(status.into()),
    }
}

fn from_status(s: v1::ContainerStatus, sandbox: &str) -> RuntimeContainer {
    let state = match s.state() {
        v1::ContainerState::ContainerCreated => State::Created,
        v1::ContainerState::ContainerRunning => State::Running,
        v1::ContainerState::ContainerExited => State::Exited,
        v1::ContainerState::ContainerUnknown => State::Unknown,
    };
    let labels: HashMap<String, String> = s.labels;
    let image_id = if s.image_id.is_empty() {
        s.image_ref.clone()
    } else {
        s.image_id.clone()
    };
    let image = s.image.unwrap_or_default();
    let named = if image.user_specified_image.is_empty() {
        image.image
    } else {
        image.user_specified_image
    };
    RuntimeContainer {
        id: s.id,
        name: labels
            .get(CONTAINER_NAME)
            .cloned()
            .or_else(|| s.metadata.as_ref().map(|m| m.name.clone()))
            .unwrap_or_default(),
        sandbox_id: sandbox.to_owned(),
        attempt: s.metadata.as_ref().map_or(0, |m| m.attempt),
        state,
        created_at: s.created_at,
        started_at: s.started_at,
        finished_at: s.finished_at,
        exit_code: s.exit_code,
        reason: s.reason,
        message: s.message,
        image: named,
        image_id: if s.image_ref.is_empty() { image_id } else { s.image_ref },
        log_path: s.log_path,
        annotations: s.annotations,
        limits: s.resources.and_then(|r| r.linux).map(|l| RuntimeLimits {
            cpu_shares: l.cpu_shares,
            cpu_quota: l.cpu_quota,
            cpu_period: l.cpu_period,
            memory: l.memory_limit_in_bytes,
        }),
        user: s
            .user
            .and_then(|u| u.linux)
            .map(|l| (l.uid, l.gid, l.supplemental_groups)),
    }
}
