//! `scale`: how many replicas there are to be.

use http::Method;
use serde_json::{Value, json};
use tokio::time::{Instant, timeout_at};

use crate::api::{Call, Query};
use crate::change::{Changer, MERGE};
use crate::error::{Result, all, fail};
use crate::flags::{Change, DryRun, Files};
use crate::select::{Info, Selection};
use crate::session::{Session, duration};
use crate::watch;

/// Set a new size for a deployment, replica set, or replication controller
#[derive(Debug, clap::Args)]
pub struct Args {
    args: Vec<String>,
    #[command(flatten)]
    files: Files,
    #[command(flatten)]
    change: Change,
    /// The new desired number of replicas. Required.
    #[arg(long, required = true, allow_negative_numbers = true)]
    replicas: i64,
    /// Precondition for current size
    #[arg(long, default_value_t = -1, allow_negative_numbers = true, hide_default_value = true)]
    current_replicas: i64,
    /// Precondition for resource version
    #[arg(long)]
    resource_version: Option<String>,
    /// Select all resources in the namespace of the specified resource types
    #[arg(long)]
    all: bool,
    /// Selector (label query) to filter on
    #[arg(long, short = 'l')]
    selector: Option<String>,
    /// The length of time to wait before giving up on a scale operation, zero means don't wait
    #[arg(long, default_value = "0s", hide_default_value = true)]
    timeout: String,
}

pub(crate) async fn run(session: &Session, args: &Args) -> Result<()> {
    if args.replicas < 0 {
        return fail("The --replicas=COUNT flag is required, and COUNT must be greater than or equal to 0");
    }
    if args.current_replicas < -1 {
        return fail("The --current-replicas must specify an integer of -1 or greater");
    }
    let changer = Changer::new(session, &args.change, "")?;
    let mut selection = Selection::new(&args.args);
    selection.files = Some(&args.files);
    selection.labels = args.selector.as_deref();
    selection.allow_all = args.all;
    let (infos, errors) = selection.infos(session).await?;
    if args.resource_version.is_some() && infos.len() > 1 {
        return fail("cannot use --resource-version with multiple resources");
    }
    if infos.is_empty() {
        all(errors)?;
        return fail("no objects passed to scale");
    }
    for mut info in infos {
        if !changer.is_local() {
            let scale = scale(session, args, &info).await?;
            if let Some(limit) = duration(&args.timeout)?.filter(|_| args.change.dry_run == DryRun::None) {
                let waiting = scaled(session, &info, &scale);
                match timeout_at(Instant::now() + limit, waiting).await {
                    Ok(done) => done?,
                    Err(_) => return fail("timed out waiting for the condition"),
                }
            }
        }
        if info.object["spec"].is_object() {
            info.object["spec"]["replicas"] = json!(args.replicas);
        }
        changer.tell(&info.object, "scaled")?;
    }
    all(errors)
}

async fn scale(session: &Session, args: &Args, info: &Info) -> Result<Value> {
    let path = format!("{}/scale", info.path());
    let api = session.api()?;
    let mut query: Query = Vec::new();
    if args.change.dry_run == DryRun::Server {
        query.push(("dryRun", "All".to_owned()));
    }
    if args.current_replicas == -1 && args.resource_version.is_none() {
        let patch = json!({"spec": {"replicas": args.replicas}});
        return api
            .json(&Call::new(Method::PATCH, path).query(query).content(MERGE).json(&patch))
            .await;
    }
    loop {
        let mut scale = api.get(&path).await?;
        let (size, version) = (&scale["spec"]["replicas"], &scale["metadata"]["resourceVersion"]);
        let size = size.as_i64().unwrap_or(0);
        if args.current_replicas != -1 && size != args.current_replicas {
            return fail(format!("Expected replicas to be {}, was {size}", args.current_replicas));
        }
        if let Some(wanted) = args.resource_version.as_deref().filter(|w| version != w) {
            let version = version.as_str().unwrap_or_default();
            return fail(format!("Expected resource version to be {wanted}, was {version}"));
        }
        scale["spec"]["replicas"] = json!(args.replicas);
        match api
            .json(&Call::new(Method::PUT, &path).query(query.clone()).json(&scale))
            .await
        {
            // Somebody else was faster: the conditions are looked at again.
            Err(e) if e.is_conflict() => {}
            other => return other,
        }
    }
}

/// Until as many are there as are wanted.
async fn scaled(session: &Session, info: &Info, scale: &Value) -> Result<()> {
    let wanted = scale["spec"]["replicas"].as_i64().unwrap_or(0);
    let generation = scale["metadata"]["generation"].as_i64().unwrap_or(0);
    watch::follow(session, info, |object| {
        let Some(object) = object else {
            return fail(format!("{} \"{}\" not found", info.ty.group_resource(), info.name));
        };
        let number = |at: &str| object.pointer(at).and_then(Value::as_i64).unwrap_or(0);
        let observed = number("/status/observedGeneration") >= generation;
        Ok((observed && number("/status/replicas") == wanted).then_some(()))
    })
    .await
}
