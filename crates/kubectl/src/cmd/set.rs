//! `set image`, `set resources` and `set serviceaccount`: fields of the pods a workload makes.

use api::gvk::GroupVersionKind;
use api::quantity::Quantity;
use api::schema::Schema;
use serde_json::{Map, Value, json};

use crate::change::{Changer, STRATEGIC};
use crate::error::{Error, Result, all, fail, message};
use crate::flags::{Change, DryRun, Files};
use crate::patch::{Shape, two_way};
use crate::print::go::quote;
use crate::select::{Info, Selection, nothing_meant};
use crate::session::Session;

pub(super) const MANAGER: &str = "kubectl-set";

/// Why a resource cannot be named together with `--local`.
pub(super) const LOCAL: &str = "error: you must specify resources by --filename when --local is set.
Example resource specifications include:
   '-f rsrc.yaml'
   '--filename=rsrc.json'";

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
    Env(super::set_env::Args),
    /// Update resource requests/limits on objects with pod templates
    Resources(Resources),
    /// Set the selector on a resource
    Selector(super::set_selector::Args),
    /// Update the service account of a resource
    #[command(alias = "sa")]
    Serviceaccount(Flags),
    /// Update the user, group, or service account in a role binding or cluster role binding
    Subject(super::set_subject::Args),
}

#[derive(Debug, clap::Args)]
pub(super) struct Flags {
    pub args: Vec<String>,
    #[command(flatten)]
    pub files: Files,
    #[command(flatten)]
    pub change: Change,
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
    pub containers: String,
}

#[derive(Debug, clap::Args)]
struct Resources {
    #[command(flatten)]
    flags: Flags,
    /// The limits of the containers, as cpu=100m,memory=256Mi
    #[arg(long, default_value = "", hide_default_value = true)]
    limits: String,
    /// The requests of the containers, as cpu=100m,memory=256Mi
    #[arg(long, default_value = "", hide_default_value = true)]
    requests: String,
}

pub(super) type Edit = Box<dyn Fn(&mut Value) -> Result<()>>;

pub(crate) async fn run(session: &Session, args: &Args) -> Result<()> {
    match &args.sub {
        Sub::Image(flags) => image(session, flags).await,
        Sub::Env(args) => super::set_env::run(session, args).await,
        Sub::Resources(args) => resources(session, args).await,
        Sub::Selector(args) => super::set_selector::run(session, args).await,
        Sub::Subject(args) => super::set_subject::run(session, args).await,
        Sub::Serviceaccount(flags) => service_account(session, flags).await,
    }
}

/// Resources first, then what is set.
pub(super) fn split(args: &[String], what: &str) -> Result<(Vec<String>, Vec<String>)> {
    let is_pair = |word: &String| (word.contains('=') && !word.starts_with('=')) || word.ends_with('-');
    let at = args.iter().position(is_pair).unwrap_or(args.len());
    match args[at..].iter().find(|w| !is_pair(w)) {
        Some(word) => fail(format!("all resources must be specified before {what} changes: {word}")),
        None => Ok((args[..at].to_vec(), args[at..].to_vec())),
    }
}

pub(super) fn containers(spec: &mut Value) -> impl Iterator<Item = &mut Value> {
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
    if flags.local && flags.files.is_empty() && resources.is_empty() {
        return Err(nothing_meant());
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
                // Go does not write the empty text
                match (image.is_empty(), container.as_object_mut()) {
                    (true, Some(container)) => drop(container.remove("image")),
                    _ => container["image"] = json!(image),
                }
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
        "failed to patch image update to pod template:",
        &edit,
    )
    .await
}

/// `cpu=100m,memory=256Mi`.
fn quantities(text: &str) -> Result<Map<String, Value>> {
    let mut found = Map::new();
    for pair in text.split(',').filter(|_| !text.is_empty()) {
        let Some((name, amount)) = pair.split_once('=').filter(|(_, a)| !a.contains('=')) else {
            return fail(format!("invalid argument syntax {pair}, expected <resource>=<value>"));
        };
        match amount.parse::<Quantity>() {
            Ok(amount) => found.insert(name.to_owned(), json!(amount.to_string())),
            Err(error) => return fail(error.to_string()),
        };
    }
    Ok(found)
}

async fn resources(session: &Session, args: &Resources) -> Result<()> {
    let flags = &args.flags;
    let changed = Selected::new(session, flags, &flags.args).await?;
    if flags.local && flags.change.dry_run == DryRun::Server {
        return fail("cannot specify --local and --dry-run=server - did you mean --dry-run=client?");
    }
    if flags.all && flags.selector.is_some() {
        return fail("cannot set --all and --selector at the same time");
    }
    if args.limits.is_empty() && args.requests.is_empty() {
        return fail("you must specify an update to requests or limits (in the form of --requests/--limits)");
    }
    let wanted = [
        ("limits", quantities(&args.limits)?),
        ("requests", quantities(&args.requests)?),
    ];
    let chosen = flags.containers.clone();
    let edit: Edit = Box::new(move |spec| {
        let mut found = false;
        for container in containers(spec).filter(|c| chosen == "*" || c["name"] == chosen.as_str()) {
            found = true;
            for (field, amounts) in wanted.iter().filter(|(_, amounts)| !amounts.is_empty()) {
                for (name, amount) in amounts {
                    container["resources"][*field][name] = amount.clone();
                }
            }
        }
        match found {
            true => Ok(()),
            false => fail(format!("error: unable to find container named {chosen}")),
        }
    });
    changed
        .apply(
            session,
            flags,
            "resource requirements updated",
            "failed to patch resources update to pod template",
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
pub(super) fn pod_spec<'a>(info: &Info, object: &'a mut Value) -> Result<&'a mut Value> {
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

/// The objects that the command line chooses, and what was wrong with some.
pub(super) struct Selected {
    pub infos: Vec<Info>,
    pub errors: Vec<Error>,
}

async fn apply(
    session: &Session,
    flags: &Flags,
    resources: &[String],
    done: &str,
    failed: &str,
    edit: &Edit,
) -> Result<()> {
    let selected = Selected::new(session, flags, resources).await?;
    selected.apply(session, flags, done, failed, edit).await
}

impl Selected {
    pub(crate) async fn new(session: &Session, flags: &Flags, resources: &[String]) -> Result<Selected> {
        if flags.local && !resources.is_empty() {
            return fail(LOCAL);
        }
        let mut selection = Selection::new(resources);
        selection.files = Some(&flags.files);
        selection.labels = flags.selector.as_deref();
        selection.allow_all = flags.all;
        (selection.latest, selection.local) = (!flags.local, flags.local);
        let (infos, errors) = selection.infos(session).await?;
        Ok(Selected { infos, errors })
    }

    pub(crate) async fn apply(
        self,
        session: &Session,
        flags: &Flags,
        done: &str,
        failed: &str,
        edit: &Edit,
    ) -> Result<()> {
        let Selected { infos, mut errors } = self;
        let changer = Changer::new(session, &flags.change, MANAGER)?;
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
            if let Err(error) = send(&changer, flags.local, &mut info, after, done, failed).await {
                errors.push(error);
            }
        }
        all(errors)
    }
}

/// Sends what differs from the object as it was, and tells of it; nothing where nothing does.
pub(super) async fn send(
    changer: &Changer<'_>,
    local: bool,
    info: &mut Info,
    after: Value,
    done: &str,
    failed: &str,
) -> Result<()> {
    if after == info.object {
        return Ok(());
    }
    if local {
        // what stands in a file is read into a struct, and has all of its fields
        let mut whole = after;
        let schema = Schema::builtin();
        let text = |key: &str| whole[key].as_str().unwrap_or_default();
        if let Some(root) = schema.type_for(&GroupVersionKind::from_api_version(text("apiVersion"), text("kind"))) {
            schema.normalize(root, &mut whole);
        }
        return changer.tell(&whole, done);
    }
    if changer.is_local() {
        return changer.tell(&after, done);
    }
    let Some(shape) = Shape::of(&info.ty.api_version(), &info.ty.kind) else {
        return fail(format!("{} is not supported", info.ty.kind));
    };
    let patch = two_way(&shape, &info.object, &after)?;
    match changer.patch(info, STRATEGIC, &patch).await {
        Ok(()) => changer.tell(&info.object, done),
        Err(error) if failed.is_empty() => Err(error),
        Err(error) => fail(format!("{failed} {error}")),
    }
}
