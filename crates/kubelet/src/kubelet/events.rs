//! What the runtime says of its pods: by events, or by being asked again and again where there are none.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use cri::v1;
use tokio::sync::{Notify, mpsc};

use crate::cri_config::POD_UID;
use crate::runtime::Runtime;

/// How often a runtime without events is asked.
const RELIST: Duration = Duration::from_secs(1);

/// Something happened in the runtime.
#[derive(Debug)]
pub(super) enum RuntimeEvent {
    Pod(String),
    /// Anything may have happened.
    Anything,
}

/// Listens to the runtime's events; asks again and again where there are none.
pub(super) async fn follow_runtime(runtime: Runtime, events: mpsc::Sender<RuntimeEvent>, nudge: Arc<Notify>) {
    loop {
        let mut client = runtime.runtime.clone();
        match client.get_container_events(v1::GetEventsRequest {}).await {
            Ok(stream) => {
                let mut stream = stream.into_inner();
                if events.send(RuntimeEvent::Anything).await.is_err() {
                    return;
                }
                while let Ok(Some(event)) = stream.message().await {
                    let sandbox = event.pod_sandbox_status.and_then(|s| s.metadata).map(|m| m.uid);
                    let uid = sandbox.or_else(|| {
                        event
                            .containers_statuses
                            .iter()
                            .find_map(|c| c.labels.get(POD_UID).cloned())
                    });
                    let event = uid
                        .filter(|u| !u.is_empty())
                        .map_or(RuntimeEvent::Anything, RuntimeEvent::Pod);
                    if events.send(event).await.is_err() {
                        return;
                    }
                }
            }
            Err(status) if status.code() == tonic::Code::Unimplemented => return relist(runtime, events).await,
            Err(error) => tracing::debug!(%error, "no runtime events"),
        }
        nudge.notify_one();
        tokio::time::sleep(RELIST).await;
    }
}

/// For runtimes without events: compares what is listed with what was listed before.
async fn relist(runtime: Runtime, events: mpsc::Sender<RuntimeEvent>) {
    let mut before: HashMap<String, (String, i32)> = HashMap::new();
    loop {
        if let (Ok(sandboxes), Ok(containers)) =
            (runtime.list_sandboxes(None).await, runtime.list_containers(None).await)
        {
            let uid = |labels: &HashMap<String, String>| labels.get(POD_UID).cloned().unwrap_or_default();
            let sandboxes = sandboxes.into_iter().map(|s| (s.id.clone(), (uid(&s.labels), s.state)));
            let now: HashMap<String, (String, i32)> = sandboxes
                .chain(
                    containers
                        .into_iter()
                        .map(|c| (c.id.clone(), (uid(&c.labels), c.state))),
                )
                .collect();
            let changed = now
                .iter()
                .filter(|(id, v)| before.get(*id) != Some(*v))
                .chain(before.iter().filter(|(id, _)| !now.contains_key(*id)));
            let uids: HashSet<String> = changed.map(|(_, (uid, _))| uid.clone()).collect();
            for uid in uids {
                if events.send(RuntimeEvent::Pod(uid)).await.is_err() {
                    return;
                }
            }
            before = now;
        }
        tokio::time::sleep(RELIST).await;
    }
}
