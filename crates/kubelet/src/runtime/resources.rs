//! Changing and reading what running containers may use, and do.

use cri::v1;

use super::{Result, Runtime, TIMEOUT, request};

impl Runtime {
    /// Changes what a running container may use.
    ///
    /// # Errors
    /// What the runtime says.
    pub async fn update_container(&self, id: &str, linux: v1::LinuxContainerResources) -> Result<()> {
        let asked = v1::UpdateContainerResourcesRequest {
            container_id: id.to_owned(),
            linux: Some(linux),
            ..Default::default()
        };
        let mut runtime = self.runtime.clone();
        runtime.update_container_resources(request(asked, TIMEOUT)).await?;
        Ok(())
    }

    /// Tells the runtime of the pod's resources. Older ones need not know.
    pub async fn update_sandbox(&self, id: &str, resources: v1::LinuxContainerResources) -> Result<()> {
        let asked = v1::UpdatePodSandboxResourcesRequest {
            pod_sandbox_id: id.to_owned(),
            resources: Some(resources),
            ..Default::default()
        };
        let mut runtime = self.runtime.clone();
        match runtime.update_pod_sandbox_resources(request(asked, TIMEOUT)).await {
            Err(status) if status.code() != tonic::Code::Unimplemented => Err(status.into()),
            _ => Ok(()),
        }
    }

    /// Bytes of memory that a running container uses, if the runtime says so.
    pub async fn memory_usage(&self, id: &str) -> Result<Option<i64>> {
        let asked = v1::ContainerStatsRequest {
            container_id: id.to_owned(),
        };
        let answer = self.runtime.clone().container_stats(request(asked, TIMEOUT)).await?;
        let memory = answer.into_inner().stats.and_then(|s| s.memory);
        let usage = memory.and_then(|m| m.usage_bytes.or(m.working_set_bytes));
        Ok(usage.and_then(|u| i64::try_from(u.value).ok()))
    }
}
