//! What follows once a debugging container is asked for: its terminal, or its log.

use serde_json::Value;

use super::Debug;
use crate::api::Call;
use crate::cmd::describe::{items, str_of};
use crate::cmd::exec::attach_to;
use crate::error::{Error, Result, fail};
use crate::print::go::quote;
use crate::select::Info;
use crate::watch;

impl Debug<'_> {
    /// Attaches to the container as soon as it runs; what has ended before has its log instead.
    pub(super) async fn attach(&self, pod: &Value, container: &str) -> Result<()> {
        let info = Info::of(&pod_type(), pod.clone());
        let mut told = String::new();
        let pod = watch::follow(self.session, &info, |pod| {
            let Some(pod) = pod else {
                return fail(format!("pods {} not found", quote(&info.name)));
            };
            let state = &status_of(pod, container)["state"];
            if !state["running"].is_null() || !state["terminated"].is_null() {
                return Ok(Some(pod.clone()));
            }
            let why = str_of(&state["waiting"]["message"]);
            if !why.is_empty() && !self.args.quiet && told != why {
                why.clone_into(&mut told);
                self.session.warn(&format!("Warning: container {container}: {why}"));
            }
            Ok(None)
        })
        .await?;
        if !status_of(&pod, container)["state"]["terminated"].is_null() {
            return self.log(&info, container).await;
        }
        let attached = attach_to(
            self.session,
            &pod,
            container,
            self.args.stdin,
            self.args.tty,
            self.args.quiet,
        )
        .await;
        match attached {
            Err(error @ (Error::Message(_) | Error::Api(_) | Error::Unreachable { .. })) => {
                self.session.warn(&format!(
                    "warning: couldn't attach to pod/{}, falling back to streaming logs: {error}",
                    info.name
                ));
                self.log(&info, container).await
            }
            other => other,
        }
    }

    async fn log(&self, info: &Info, container: &str) -> Result<()> {
        let call = Call::get(format!("{}/log", info.path())).query(vec![("container", container.to_owned())]);
        let text = self.session.api()?.bytes(&call).await?;
        self.session.write(&text)
    }
}

fn pod_type() -> std::sync::Arc<crate::discovery::ResourceType> {
    std::sync::Arc::new(crate::discovery::ResourceType {
        version: "v1".to_owned(),
        kind: "Pod".to_owned(),
        plural: "pods".to_owned(),
        namespaced: true,
        ..Default::default()
    })
}

fn status_of<'a>(pod: &'a Value, container: &str) -> &'a Value {
    let lists = [
        "initContainerStatuses",
        "containerStatuses",
        "ephemeralContainerStatuses",
    ]
    .into_iter();
    let mut all = lists.flat_map(|list| items(&pod["status"][list]));
    all.find(|status| status["name"] == container).unwrap_or(&Value::Null)
}
