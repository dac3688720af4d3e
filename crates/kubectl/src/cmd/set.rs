//! `set image` and `set env`: fields of the pods a workload makes.

use serde_json::{Value, json};

use crate::change::{Changer, STRATEGIC};
use crate::error::{Error, Result, all, fail, message};
use crate::flags::{Change, Files};
use crate::patch::{Shape, two_way};
use crate::print::go::quote;
use crate::select::{Info, Selection};
use crate::session::Session;

/// Set specific features on objects
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    sub: Sub,
}

#[derive(Debug, clap::Subcommand)]
enum Sub {
    /// Update the image of a pod template
    Image(Flags),
    /// Update environment variables on a pod template
    Env(Flags),
    /// Update the service account of a resource
    #[command(alias = "sa")]
    Serviceaccount(Flags),
}

#[derive(Debug, clap::Args)]
struct Flags {
    args: Vec<String>,
    #[command(flatten)]
    files: Files,
    #[command(flatten)]
    change: Change,
    /// Selector (label query) to filter on
    #[arg(long, short = 'l')]
    selector: Option<String>,
    /// Select all resources, in the namespace of the specified resource types
    #[arg(long)]
    all: bool,
    /// If true, set image will NOT contact api-server but run locally
    #[arg(long)]
    local: bool,
    /// The names of containers in the selected pod templates to change
    #[arg(long, short, default_value = "*", hide_default_value = true)]
    containers: String,
}

type Edit = Box<dyn Fn(&mut Value) -> Result<()>>;

pub async fn run(session: &Session, args: &Args) -> Result<()> {
    match &args.sub {
        Sub::Image(flags) => image(session, flags).await,
        Sub::Env(flags) => env(session, flags).await,
        Sub::Serviceaccount(flags) => service_account(session, flags).await,
    }
}

/// Resources first, then what is set.
fn split(args: &[String], what: &str) -> Result<(Vec<String>, Vec<String>)> {
    let is_pair =
        |word: &String| (word.contains('=') && !word.starts_with('=')) || (word.ends_with('-') && word != "-");
    let at = args.iter().position(is_pair).unwrap_or(args.len());
    match args[at..].iter().find(|w| !is_pair(w)) {
        Some(word) => fail(format!("all resources must be specified before {what} changes: {word}")),
        None => Ok((args[..at].to_vec(), args[at..].to_vec())),
    }
}

fn containers(spec: &mut Value) -> impl Iterator<Item = &mut Value> {
    let fields = spec.as_object_mut().into_iter().flat_map(|spec| spec.iter_mut());
    let lists = fields.filter(|(name, _)| matches!(name.as_str(), "containers" | "initContainers"));
    lists.filter_map(|(_, list)| list.as_array_mut()).flatten()
}

async fn image(session: &Session, flags: &Flags) -> Result<()> {
    let (resources, words) = split(&flags.args, "image")?;
    let mut pairs = Vec::new();
    for word in &words {
        match word.split_once('=') {
            Some((name, image)) => pairs.push((name.to_owned(), image.to_owned())),
            None => return fail(format!("invalid image format: {word}")),
        }
    }
    let mut wrong = Vec::new();
    if flags.all && flags.selector.is_some() {
        wrong.push(message("cannot set --all and --selector at the same time"));
    }
    if resources.is_empty() && flags.files.is_empty() {
        wrong.push(message(
            "one or more resources must be specified as <resource> <name> or <resource>/<name>",
        ));
    }
    if pairs.is_empty() {
        wrong.push(message("at least one image update is required"));
    } else if pairs.len() > 1 && pairs.iter().any(|(name, _)| name == "*") {
        wrong.push(message(
            "all containers are already specified by *, but saw more than one container_name=container_image pairs",
        ));
    }
    all(wrong)?;
    let edit: Edit = Box::new(move |spec| {
        let mut missing = Vec::new();
        for (name, image) in &pairs {
            let mut found = false;
            for container in containers(spec).filter(|c| name == "*" || c["name"] == name.as_str()) {
                container["image"] = json!(image);
                found = true;
            }
            if !found {
                missing.push(message(format!(
                    "error: unable to find container named {}",
                    quote(name)
                )));
            }
        }
        all(missing)
    });
    apply(
        session,
        flags,
        &resources,
        "image updated",
        "failed to patch image update to pod template",
        &edit,
    )
    .await
}

async fn env(session: &Session, flags: &Flags) -> Result<()> {
    let (resources, words) = split(&flags.args, "environment")?;
    if resources.is_empty() && flags.files.is_empty() {
        return fail("one or more resources must be specified as <resource> <name> or <resource>/<name>");
    }
    if words.is_empty() {
        return fail("at least one environment variable must be provided");
    }
    let chosen = flags.containers.clone();
    let edit: Edit = Box::new(move |spec| {
        for container in containers(spec).filter(|c| chosen == "*" || c["name"] == chosen.as_str()) {
            let mut env = container["env"].as_array().cloned().unwrap_or_default();
            for word in &words {
                match word.split_once('=') {
                    Some((name, value)) => {
                        let entry = json!({"name": name, "value": value});
                        match env.iter_mut().find(|e| e["name"] == name) {
                            Some(old) => *old = entry,
                            None => env.push(entry),
                        }
                    }
                    None => env.retain(|e| e["name"].as_str() != word.strip_suffix('-')),
                }
            }
            match (env.is_empty(), container.as_object_mut()) {
                (true, Some(container)) => drop(container.remove("env")),
                _ => container["env"] = Value::Array(env),
            }
        }
        Ok(())
    });
    apply(
        session,
        flags,
        &resources,
        "env updated",
        "failed to patch env update to pod template",
        &edit,
    )
    .await
}

async fn service_account(session: &Session, flags: &Flags) -> Result<()> {
    let Some((account, resources)) = flags.args.split_last() else {
        return fail("serviceaccount is required");
    };
    let account = account.clone();
    let edit: Edit = Box::new(move |spec| {
        spec["serviceAccountName"] = json!(account);
        spec["serviceAccount"] = json!(account);
        Ok(())
    });
    apply(
        session,
        flags,
        resources,
        "serviceaccount updated",
        "failed to patch ServiceAccountName",
        &edit,
    )
    .await
}

/// The pod's spec inside an object.
fn pod_spec<'a>(info: &Info, object: &'a mut Value) -> Result<&'a mut Value> {
    let path = match info.ty.kind.as_str() {
        "Pod" => "/spec",
        "CronJob" => "/spec/jobTemplate/spec/template/spec",
        _ => "/spec/template/spec",
    };
    let kind = info.ty.kind.clone();
    match object.pointer_mut(path).filter(|spec| spec["containers"].is_array()) {
        Some(spec) => Ok(spec),
        None => fail(format!(
            "the object is not a pod or does not have a pod template: *{}.{kind}",
            info.ty.version
        )),
    }
}

async fn apply(
    session: &Session,
    flags: &Flags,
    resources: &[String],
    done: &str,
    failed: &str,
    edit: &Edit,
) -> Result<()> {
    let changer = Changer::new(session, &flags.change, "kubectl-set")?;
    let mut selection = Selection::new(resources);
    selection.files = Some(&flags.files);
    selection.labels = flags.selector.as_deref();
    selection.allow_all = flags.all;
    (selection.latest, selection.local) = (!flags.local, flags.local);
    let (infos, mut errors) = selection.infos(session).await?;
    for mut info in infos {
        let before = info.object.clone();
        let mut after = before.clone();
        let edited = pod_spec(&info, &mut after).and_then(edit);
        if let Err(error) = edited {
            match error {
                Error::Many(many) => errors.extend(many),
                one => errors.push(one),
            }
            continue;
        }
        if after == before {
            continue;
        }
        if changer.is_local() || flags.local {
            changer.tell(&after, done)?;
            continue;
        }
        let Some(shape) = Shape::of(&info.ty.api_version(), &info.ty.kind) else {
            errors.push(message(format!("{} is not supported", info.ty.kind)));
            continue;
        };
        let patch = two_way(&shape, &before, &after)?;
        match changer.patch(&mut info, STRATEGIC, &patch).await {
            Ok(()) => changer.tell(&info.object, done)?,
            Err(error) => errors.push(message(format!("{failed}: {error}"))),
        }
    }
    all(errors)
}
