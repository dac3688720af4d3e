//! `create deployment`, `create job` and `create cronjob`.

use serde_json::{Value, json};

use super::{Common, Draft, name_of};
use crate::error::{Result, fail};
use crate::select::Selection;
use crate::session::Session;

/// Create a deployment with the specified name
#[derive(Debug, clap::Args)]
pub struct Deployment {
    names: Vec<String>,
    /// Image names to run
    #[arg(long, required = true, value_delimiter = ',')]
    image: Vec<String>,
    /// Number of replicas to create
    #[arg(long, short, default_value_t = 1, hide_default_value = true)]
    replicas: i32,
    /// The container port that this deployment exposes
    #[arg(long, default_value_t = -1, hide_default_value = true, allow_negative_numbers = true)]
    port: i32,
    #[command(flatten)]
    pub common: Common,
    #[arg(last = true)]
    command: Vec<String>,
}

/// Create a job with the specified name
#[derive(Debug, clap::Args)]
pub struct Job {
    names: Vec<String>,
    /// Image name to run
    #[arg(long)]
    image: Option<String>,
    /// The name of the resource to create a Job from (only cronjob is supported)
    #[arg(long)]
    from: Option<String>,
    #[command(flatten)]
    pub common: Common,
    #[arg(last = true)]
    command: Vec<String>,
}

/// Create a cron job with the specified name
#[derive(Debug, clap::Args)]
pub struct CronJob {
    names: Vec<String>,
    /// Image name to run
    #[arg(long, required = true)]
    image: String,
    /// A schedule in the Cron format the job should be run with
    #[arg(long, required = true)]
    schedule: String,
    /// Job's restart policy
    #[arg(long, default_value = "OnFailure", hide_default_value = true)]
    restart: String,
    #[command(flatten)]
    pub common: Common,
    #[arg(last = true)]
    command: Vec<String>,
}

/// `registry/app_x:1` is called `app-x-<five random letters>`.
fn container_name(image: &str) -> Result<String> {
    let last = image.rsplit('/').next().unwrap_or(image);
    let name = last.split([':', '@']).next().unwrap_or(last);
    if !name.contains(['_', '.']) {
        return Ok(name.to_owned());
    }
    Ok(format!("{}-{}", name.replace(['_', '.'], "-"), suffix()?))
}

/// Five letters and digits that make no words.
pub fn suffix() -> Result<String> {
    const LETTERS: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";
    let mut random = [0u8; 5];
    if let Err(e) = getrandom::fill(&mut random) {
        return fail(format!("no random numbers: {e}"));
    }
    Ok(random
        .iter()
        .map(|b| char::from(LETTERS[usize::from(*b) % LETTERS.len()]))
        .collect())
}

fn container(name: &str, image: &str, command: &[String]) -> Value {
    let mut container = json!({"name": name, "image": image, "resources": {}});
    if !command.is_empty() {
        container["command"] = json!(command);
    }
    container
}

impl Deployment {
    pub(crate) fn draft(&self, session: &Session) -> Result<Draft> {
        let name = name_of(session, &self.names)?;
        if self.image.len() > 1 && !self.command.is_empty() {
            return fail("cannot specify multiple --image options and command");
        }
        let mut containers = Vec::new();
        for image in &self.image {
            containers.push(container(&container_name(image)?, image, &self.command));
        }
        if self.port >= 0 {
            containers[0]["ports"] = json!([{"containerPort": self.port}]);
        }
        let labels = json!({"app": name});
        Ok(Draft {
            object: json!({
                "apiVersion": "apps/v1",
                "kind": "Deployment",
                "metadata": {"name": name, "labels": labels},
                "spec": {
                    "replicas": self.replicas,
                    "selector": {"matchLabels": labels},
                    "strategy": {},
                    "template": {"metadata": {"labels": labels}, "spec": {"containers": containers}},
                },
                "status": {},
            }),
            plural: "deployments",
            namespaced: true,
            called: "deployment".to_owned(),
        })
    }
}

impl Job {
    pub(crate) async fn draft(&self, session: &Session) -> Result<Draft> {
        let name = name_of(session, &self.names)?;
        let object = match (&self.image, &self.from) {
            (Some(image), None) => json!({
                "apiVersion": "batch/v1",
                "kind": "Job",
                "metadata": {"name": name},
                "spec": {"template": {
                    "metadata": {},
                    "spec": {"containers": [container(name, image, &self.command)], "restartPolicy": "Never"},
                }},
                "status": {},
            }),
            (None, Some(from)) => {
                if !self.command.is_empty() {
                    return fail("cannot specify --from and command");
                }
                from_cron_job(session, name, from).await?
            }
            _ => return fail("either --image or --from must be specified"),
        };
        Ok(Draft {
            object,
            plural: "jobs",
            namespaced: true,
            called: "job".to_owned(),
        })
    }
}

async fn from_cron_job(session: &Session, name: &str, from: &str) -> Result<Value> {
    let args = [from.to_owned()];
    let infos = Selection::new(&args).all(session).await?;
    let [info] = &infos[..] else {
        return fail("from must be an existing cronjob");
    };
    if !info.ty.is("batch", "CronJob") {
        return fail(format!("unknown object type *v1.{}", info.ty.kind));
    }
    let cron = super::only(&info.object, "cronjob")?;
    let template = &cron["spec"]["jobTemplate"];
    let mut annotations = json!({"cronjob.kubernetes.io/instantiate": "manual"});
    for (key, value) in template["metadata"]["annotations"].as_object().into_iter().flatten() {
        annotations[key] = value.clone();
    }
    let mut job = json!({
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {
            "name": name,
            "annotations": annotations,
            "ownerReferences": [{
                "apiVersion": "batch/v1", "kind": "CronJob", "name": cron["metadata"]["name"],
                "uid": cron["metadata"]["uid"], "controller": true,
            }],
        },
        "spec": template["spec"],
        "status": {},
    });
    if template["metadata"]["labels"].is_object() {
        job["metadata"]["labels"] = template["metadata"]["labels"].clone();
    }
    Ok(job)
}

impl CronJob {
    pub(crate) fn draft(&self, session: &Session) -> Result<Draft> {
        let name = name_of(session, &self.names)?;
        Ok(Draft {
            object: json!({
                "apiVersion": "batch/v1",
                "kind": "CronJob",
                "metadata": {"name": name},
                "spec": {
                    "schedule": self.schedule,
                    "jobTemplate": {
                        "metadata": {"name": name},
                        "spec": {"template": {
                            "metadata": {},
                            "spec": {
                                "containers": [container(name, &self.image, &self.command)],
                                "restartPolicy": self.restart,
                            },
                        }},
                    },
                },
                "status": {},
            }),
            plural: "cronjobs",
            namespaced: true,
            called: "cronjob".to_owned(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn containers_are_named_after_their_image() {
        for (image, name) in [("nginx", "nginx"), ("r.io/a/b:1", "b"), ("b@sha256:0", "b")] {
            assert_eq!(container_name(image).unwrap(), name);
        }
        let odd = container_name("r.io/a_b:1").unwrap();
        assert!(odd.starts_with("a-b-") && odd.len() == 9, "{odd}");
    }
}
