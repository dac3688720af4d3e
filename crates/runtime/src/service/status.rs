//! Records as CRI says them: statuses, list entries, and the filters of lists.

use std::collections::HashMap;

use cri::v1;

use super::record::{ContainerRecord, SandboxRecord};
use super::signals;

pub(crate) fn sandbox_state(record: &SandboxRecord) -> v1::PodSandboxState {
    if record.ready {
        v1::PodSandboxState::SandboxReady
    } else {
        v1::PodSandboxState::SandboxNotready
    }
}

pub(crate) fn sandbox_status(record: &SandboxRecord) -> v1::PodSandboxStatus {
    let config = record.config.clone().unwrap_or_default();
    let options = config
        .linux
        .and_then(|l| l.security_context)
        .and_then(|s| s.namespace_options);
    let mut ips = record.ips.iter().cloned();
    v1::PodSandboxStatus {
        id: record.id.clone(),
        metadata: config.metadata,
        state: sandbox_state(record) as i32,
        created_at: record.created_at,
        network: Some(v1::PodSandboxNetworkStatus {
            ip: ips.next().unwrap_or_default(),
            additional_ips: ips.map(|ip| v1::PodIp { ip }).collect(),
        }),
        linux: Some(v1::LinuxPodSandboxStatus {
            namespaces: Some(v1::Namespace { options }),
        }),
        labels: config.labels,
        annotations: config.annotations,
        runtime_handler: record.runtime_handler.clone(),
    }
}

pub(crate) fn sandbox_entry(record: &SandboxRecord) -> v1::PodSandbox {
    let config = record.config.clone().unwrap_or_default();
    v1::PodSandbox {
        id: record.id.clone(),
        metadata: config.metadata,
        state: sandbox_state(record) as i32,
        created_at: record.created_at,
        labels: config.labels,
        annotations: config.annotations,
        runtime_handler: record.runtime_handler.clone(),
    }
}

pub(crate) fn container_status(record: &ContainerRecord) -> v1::ContainerStatus {
    let config = record.config();
    let exited = record.state() == v1::ContainerState::ContainerExited;
    v1::ContainerStatus {
        id: record.id.clone(),
        metadata: config.metadata,
        state: record.state() as i32,
        created_at: record.created_at,
        started_at: record.started_at,
        finished_at: record.finished_at,
        exit_code: if exited { record.exit_code } else { 0 },
        image: config.image,
        image_ref: record.image_ref.clone(),
        reason: record.reason.clone(),
        message: record.message.clone(),
        labels: config.labels,
        annotations: config.annotations,
        mounts: config.mounts,
        log_path: record.log_path.clone(),
        resources: config
            .linux
            .and_then(|l| l.resources)
            .map(|linux| v1::ContainerResources {
                linux: Some(linux),
                windows: None,
            }),
        image_id: record.image_id.clone(),
        user: Some(v1::ContainerUser {
            linux: record.user.clone(),
        }),
        stop_signal: signals::to_cri(record.stop_signal) as i32,
    }
}

pub(crate) fn container_entry(record: &ContainerRecord) -> v1::Container {
    let config = record.config();
    v1::Container {
        id: record.id.clone(),
        pod_sandbox_id: record.sandbox_id.clone(),
        metadata: config.metadata,
        image: config.image,
        image_ref: record.image_ref.clone(),
        state: record.state() as i32,
        created_at: record.created_at,
        labels: config.labels,
        annotations: config.annotations,
        image_id: record.image_id.clone(),
    }
}

pub(crate) fn labels_match(labels: &HashMap<String, String>, selector: &HashMap<String, String>) -> bool {
    selector.iter().all(|(k, v)| labels.get(k) == Some(v))
}

/// An id or its beginning; an empty one is everybody's.
pub fn id_matches(id: &str, wanted: &str) -> bool {
    wanted.is_empty() || id.starts_with(wanted)
}

pub(crate) fn sandbox_matches(entry: &v1::PodSandbox, filter: &v1::PodSandboxFilter) -> bool {
    id_matches(&entry.id, &filter.id)
        && filter.state.as_ref().is_none_or(|s| s.state == entry.state)
        && labels_match(&entry.labels, &filter.label_selector)
}

pub(crate) fn container_matches(entry: &v1::Container, filter: &v1::ContainerFilter) -> bool {
    id_matches(&entry.id, &filter.id)
        && id_matches(&entry.pod_sandbox_id, &filter.pod_sandbox_id)
        && filter.state.as_ref().is_none_or(|s| s.state == entry.state)
        && labels_match(&entry.labels, &filter.label_selector)
}
