//! `debug`: a container with tools in a running pod, in a copy of it, or on a node.

mod attach;
mod profile;

use serde_json::{Map, Value, json};

use self::profile::{Keep, Profile, Style};
use crate::api::Call;
use crate::change::STRATEGIC;
use crate::cmd::describe::{items, str_of};
use crate::error::{Result, fail, message};
use crate::flags::Files;
use crate::image_name;
use crate::patch::{Shape, two_way};
use crate::pods::containers;
use crate::print::go::quote;
use crate::select::{Info, Selection};
use crate::session::Session;

/// What suffixes of names are made of: no vowels, and nothing that looks like another.
const LETTERS: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";
const ROOT_NEEDED: &str = "Warning: Non-root user is configured for the entire target Pod, and some capabilities granted by debug \
                           profile may not work. Please consider using \"--custom\" with a custom profile that specifies \
                           \"securityContext.runAsUser: 0\".";

/// Create debugging sessions for troubleshooting workloads and nodes
#[derive(Debug, clap::Args)]
pub struct Args {
    names: Vec<String>,
    #[command(flatten)]
    files: Files,
    /// If specified, everything after -- will be passed to the new container as Args instead of Command
    #[arg(long)]
    arguments_only: bool,
    /// If true, wait for the container to start running, and then attach
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", hide_possible_values = true)]
    attach: Option<bool>,
    /// Container name to use for debug container
    #[arg(long, short, default_value = "", hide_default_value = true)]
    container: String,
    /// Create a copy of the target Pod with this name
    #[arg(long, default_value = "", hide_default_value = true)]
    copy_to: String,
    /// When used with '--copy-to', delete the original Pod
    #[arg(long)]
    replace: bool,
    /// Environment variables to set in the container
    #[arg(long, value_delimiter = ',', value_parser = pair)]
    env: Vec<(String, String)>,
    /// Container image to use for debug container
    #[arg(long, default_value = "", hide_default_value = true)]
    image: String,
    /// If true, keep the original pod labels
    #[arg(long)]
    keep_labels: bool,
    /// If true, keep the original pod annotations
    #[arg(long)]
    keep_annotations: bool,
    /// If true, keep the original pod liveness probes
    #[arg(long)]
    keep_liveness: bool,
    /// If true, keep the original pod readiness probes
    #[arg(long)]
    keep_readiness: bool,
    /// If true, keep the original startup probes
    #[arg(long)]
    keep_startup: bool,
    /// Run the init containers for the pod
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", default_value_t = true, action = clap::ArgAction::Set, hide_default_value = true, hide_possible_values = true)]
    keep_init_containers: bool,
    /// When used with '--copy-to', a list of name=image pairs for changing container images
    #[arg(long, value_delimiter = ',', value_parser = pair)]
    set_image: Vec<(String, String)>,
    /// The image pull policy for the container
    #[arg(long, default_value = "", hide_default_value = true)]
    image_pull_policy: String,
    /// Keep stdin open on the container(s) in the pod, even if nothing is attached
    #[arg(long, short = 'i')]
    stdin: bool,
    /// If true, suppress informational messages
    #[arg(long, short)]
    quiet: bool,
    /// When used with '--copy-to', schedule the copy of target Pod on the same node
    #[arg(long)]
    same_node: bool,
    /// When used with '--copy-to', enable process namespace sharing in the copy
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", hide_possible_values = true)]
    share_processes: Option<bool>,
    /// When using an ephemeral container, target processes in this container name
    #[arg(long, default_value = "", hide_default_value = true)]
    target: String,
    /// Allocate a TTY for the debugging container
    #[arg(long, short)]
    tty: bool,
    /// Options are "general", "baseline", "restricted", "netadmin" or "sysadmin"
    #[arg(long, default_value = "general", hide_default_value = true)]
    profile: String,
    /// Path to a JSON or YAML file containing a partial container spec to customize built-in debug profiles
    #[arg(long, default_value = "", hide_default_value = true)]
    custom: String,
    #[arg(last = true)]
    words: Vec<String>,
}

/// A text has no equals sign in it.
#[derive(Debug, thiserror::Error)]
#[error("{0} must be formatted as key=value")]
struct NoPair(String);

fn pair(text: &str) -> std::result::Result<(String, String), NoPair> {
    match text.split_once('=') {
        Some((name, value)) => Ok((name.to_owned(), value.to_owned())),
        None => Err(NoPair(text.to_owned())),
    }
}

/// A debugging session that is about to begin.
struct Debug<'a> {
    session: &'a Session,
    args: &'a Args,
    profile: Profile,
    /// Fields that the user lays over those of the container.
    custom: Option<Value>,
}

pub(crate) async fn run(session: &Session, args: &Args) -> Result<()> {
    let Some(profile) = Profile::named(&args.profile) else {
        return fail(format!("unknown profile: {}", args.profile));
    };
    let custom = custom(&args.custom)?;
    args.check(session, custom.as_ref())?;
    let debug = Debug {
        session,
        args,
        profile,
        custom,
    };
    let mut names: Vec<String> = args.names.clone();
    if args.files.is_empty() {
        // a name alone is a pod's
        let is_typed = names.iter().any(|name| name.contains('/'));
        if !is_typed {
            names.insert(0, "pods".to_owned());
        }
    }
    let mut selection = Selection::new(&names);
    selection.files = Some(&args.files);
    selection.latest = true;
    for info in selection.all(session).await? {
        let (pod, container) = match (info.ty.group.as_str(), info.ty.kind.as_str()) {
            ("", "Node") => debug.node(&info).await?,
            ("", "Pod") if args.copy_to.is_empty() => debug.ephemeral(&info).await?,
            ("", "Pod") => debug.copy(&info).await?,
            _ => {
                let (api_version, kind) = (info.ty.api_version(), &info.ty.kind);
                return fail(format!(
                    "{} not supported by debug",
                    quote(&format!("{api_version}, Kind={kind}"))
                ));
            }
        };
        if args.attach.unwrap_or(args.stdin) && !container.is_empty() {
            debug.attach(&pod, &container).await?;
        }
    }
    Ok(())
}

impl Args {
    fn check(&self, session: &Session, custom: Option<&Value>) -> Result<()> {
        if self.attach == Some(true) && self.image.is_empty() && self.container.is_empty() {
            return fail("you must specify --container or create a new container using --image in order to attach.");
        }
        if self.copy_to.is_empty() {
            self.check_without_copy()?;
        } else if self.image.is_empty() && self.set_image.is_empty() && self.words.is_empty() {
            return fail("you must specify --image, --set-image or command arguments.");
        } else if !self.words.is_empty() && self.container.is_empty() && self.image.is_empty() {
            return fail("you must specify an existing container or a new image when specifying args.");
        }
        if !self.image.is_empty() && !image_name::is_valid(&self.image) {
            return fail(format!(
                "invalid image name {}: invalid reference format",
                quote(&self.image)
            ));
        }
        if self.names.is_empty() && self.files.is_empty() {
            return fail("NAME or filename is required for debug");
        }
        if !matches!(
            self.image_pull_policy.as_str(),
            "" | "Always" | "IfNotPresent" | "Never"
        ) {
            return fail(format!("invalid image pull policy: {}", self.image_pull_policy));
        }
        if let Some((name, image)) = self.set_image.iter().find(|(_, image)| !image_name::is_valid(image)) {
            return fail(format!(
                "invalid image name {} for container {}: invalid reference format",
                quote(image),
                quote(name)
            ));
        }
        if !self.target.is_empty() {
            if !self.copy_to.is_empty() {
                return fail("--target is incompatible with --copy-to. Use --share-processes instead.");
            }
            if !self.quiet {
                session.println(&format!(
                    "Targeting container {}. If you don't see processes from this container it may be because the container \
                     runtime doesn't support this feature.",
                    quote(&self.target)
                ))?;
            }
        }
        if self.tty && !self.stdin {
            return fail("-i/--stdin is required for containers with -t/--tty=true");
        }
        let fixed = ["name", "command", "image", "lifecycle", "volumeDevices"];
        if custom.is_some_and(|custom| fixed.iter().any(|field| !custom[*field].is_null())) {
            return fail("name, command, image, lifecycle and volume devices are not modifiable via custom profile");
        }
        if self.profile == "legacy" {
            session.warn(
                "--profile=legacy is deprecated and planned to be removed in v1.39. It is recommended to specify other profile, \
                 for example \"--profile=general\".",
            );
        }
        Ok(())
    }

    fn check_without_copy(&self) -> Result<()> {
        let only = |flag: &str| fail(format!("{flag} may only be used with --copy-to."));
        if self.replace {
            return only("--replace");
        }
        if self.same_node {
            return only("--same-node");
        }
        if !self.set_image.is_empty() {
            return only("--set-image");
        }
        if self.image.is_empty() {
            return fail("you must specify --image when not using --copy-to.");
        }
        Ok(())
    }

    fn keep(&self) -> Keep {
        Keep {
            labels: self.keep_labels,
            annotations: self.keep_annotations,
            liveness: self.keep_liveness,
            readiness: self.keep_readiness,
            startup: self.keep_startup,
            init_containers: self.keep_init_containers,
        }
    }

    fn environment(&self) -> Vec<Value> {
        self.env
            .iter()
            .map(|(name, value)| json!({"name": name, "value": value}))
            .collect()
    }

    /// What the command line says of a container.
    fn describe(&self, container: &mut Map<String, Value>) {
        if !self.words.is_empty() {
            let field = if self.arguments_only { "args" } else { "command" };
            if field == "command" {
                container.remove("args");
            }
            container.insert(field.to_owned(), json!(self.words));
        }
        if !self.env.is_empty() {
            container.insert("env".to_owned(), json!(self.environment()));
        }
        let mut set = |field: &str, text: &str| {
            if !text.is_empty() {
                container.insert(field.to_owned(), json!(text));
            }
        };
        set("image", &self.image);
        set("imagePullPolicy", &self.image_pull_policy);
        for (field, is) in [("stdin", self.stdin), ("tty", self.tty)] {
            match is {
                true => container.insert(field.to_owned(), json!(true)),
                false => container.remove(field),
            };
        }
    }

    fn new_container(&self, name: &str) -> Value {
        let mut container = Map::new();
        container.insert("name".to_owned(), json!(name));
        container.insert("resources".to_owned(), json!({}));
        container.insert("terminationMessagePolicy".to_owned(), json!("File"));
        self.describe(&mut container);
        Value::Object(container)
    }
}

/// Reads a partial container.
fn custom(path: &str) -> Result<Option<Value>> {
    if path.is_empty() {
        return Ok(None);
    }
    let text = std::fs::read_to_string(path).map_err(|e| {
        message(format!(
            "must pass a container spec json file for custom profile: open {path}: {}",
            crate::print::go::io_error(&e)
        ))
    })?;
    let unfit = |why: String| message(format!("{path} does not contain a valid container spec: {why}"));
    let read: Value = serde_saphyr::from_str(&text).map_err(|e| unfit(e.to_string()))?;
    match read {
        Value::Object(_) => Ok(Some(read)),
        other => Err(unfit(format!(
            "cannot unmarshal {} into a container",
            crate::print::go::type_of(&other)
        ))),
    }
}

fn suffix() -> Result<String> {
    let mut random = [0u8; 5];
    getrandom::fill(&mut random).map_err(|e| message(format!("no random numbers: {e}")))?;
    let letter = |byte: &u8| LETTERS.get(usize::from(*byte) % LETTERS.len()).copied().map(char::from);
    Ok(random.iter().filter_map(letter).collect())
}

impl Debug<'_> {
    async fn ephemeral(&self, info: &Info) -> Result<(Value, String)> {
        let name = self.container_name(&info.object)?;
        let mut container = self.args.new_container(&name);
        if !self.args.target.is_empty() {
            container["targetContainerName"] = json!(self.args.target);
        }
        let mut pod = info.object.clone();
        match pod["spec"].get_mut("ephemeralContainers").and_then(Value::as_array_mut) {
            Some(all) => all.push(container),
            None => pod["spec"]["ephemeralContainers"] = json!([container]),
        }
        self.profile.apply(&mut pod, &name, Style::Ephemeral, self.args.keep());
        self.customize(&mut pod, &name)?;
        self.warn_of_user(&pod, &name);
        let shape = shape("Pod")?;
        let patch = two_way(&shape, &info.object, &pod)?;
        let call = Call::new(http::Method::PATCH, format!("{}/ephemeralcontainers", info.path()))
            .content(STRATEGIC)
            .json(&patch);
        let patched = self.session.api()?.json(&call).await?;
        Ok((patched, name))
    }

    async fn copy(&self, info: &Info) -> Result<(Value, String)> {
        let old = &info.object;
        let mut pod = json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": self.args.copy_to, "namespace": info.namespace},
            "spec": old["spec"],
            "status": {},
        });
        for field in ["annotations", "labels"] {
            if !old["metadata"][field].is_null() {
                pod["metadata"][field] = old["metadata"][field].clone();
            }
        }
        if let Some(spec) = pod["spec"].as_object_mut() {
            spec.remove("ephemeralContainers");
            if !self.args.same_node {
                spec.remove("nodeName");
            }
        }
        if let Some(share) = self.args.share_processes {
            pod["spec"]["shareProcessNamespace"] = json!(share);
        }
        let name = self.change_copy(&mut pod)?;
        if !name.is_empty() {
            self.warn_of_user(&pod, &name);
        }
        let created = self.create(&info.namespace, &pod).await?;
        if self.args.replace {
            let now = json!({"kind": "DeleteOptions", "apiVersion": "v1", "gracePeriodSeconds": 0});
            let call = Call::new(http::Method::DELETE, info.path()).json(&now);
            self.session.api()?.bytes(&call).await?;
        }
        Ok((created, name))
    }

    /// Changes the images and containers of a copy; returns the name of the container that is for debugging, if any is.
    fn change_copy(&self, pod: &mut Value) -> Result<String> {
        let args = self.args;
        let image_of = |name: &str| {
            args.set_image
                .iter()
                .rev()
                .find(|(n, _)| n == name)
                .map(|(_, image)| image)
        };
        let listed = pod["spec"]["containers"].as_array_mut();
        for container in listed.into_iter().flatten() {
            let name = str_of(&container["name"]).to_owned();
            if let Some(image) = image_of(&name).or_else(|| image_of("*")) {
                container["image"] = json!(image);
            }
        }
        let mut name = args.container.clone();
        let known = containers(pod).iter().any(|(_, n)| *n == name);
        if known {
            for field in ["containers", "initContainers"] {
                let all = pod["spec"].get_mut(field).and_then(Value::as_array_mut);
                let found = all.into_iter().flatten().find(|c| c["name"] == name.as_str());
                if let Some(container) = found.and_then(Value::as_object_mut) {
                    args.describe(container);
                }
            }
        } else {
            if args.image.is_empty() {
                if !args.set_image.is_empty() {
                    return Ok(String::new());
                }
                return fail("you must specify image when creating new container");
            }
            if name.is_empty() {
                name = self.container_name(pod)?;
            }
            if let Some(all) = pod["spec"]["containers"].as_array_mut() {
                all.push(args.new_container(&name));
            }
        }
        self.profile.apply(pod, &name, Style::Copy, args.keep());
        self.customize(pod, &name)?;
        Ok(name)
    }

    async fn node(&self, info: &Info) -> Result<(Value, String)> {
        let args = self.args;
        let container = if args.container.is_empty() {
            "debugger"
        } else {
            &args.container
        };
        let name = format!("node-debugger-{}-{}", info.name, suffix()?);
        if !args.quiet {
            self.session.println(&format!(
                "Creating debugging pod {name} with container {container} on node {}.",
                info.name
            ))?;
        }
        let mut pod = json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": name, "labels": {"app.kubernetes.io/managed-by": "kubectl-debug"}},
            "spec": {
                "containers": [args.new_container(container)],
                "nodeName": info.name,
                "restartPolicy": "Never",
                "tolerations": [{"operator": "Exists"}],
            },
            "status": {},
        });
        self.profile.apply(&mut pod, container, Style::Node, args.keep());
        self.customize(&mut pod, container)?;
        let created = self.create(&self.session.namespace()?, &pod).await?;
        Ok((created, container.to_owned()))
    }

    async fn create(&self, namespace: &str, pod: &Value) -> Result<Value> {
        let path = format!("/api/v1/namespaces/{namespace}/pods");
        let call = Call::new(http::Method::POST, path).json(pod);
        self.session.api()?.json(&call).await
    }

    /// The name that the user gives, or a new one.
    fn container_name(&self, pod: &Value) -> Result<String> {
        if !self.args.container.is_empty() {
            return Ok(self.args.container.clone());
        }
        let known = containers(pod);
        loop {
            let name = format!("debugger-{}", suffix()?);
            if known.iter().any(|(_, other)| *other == name) {
                continue;
            }
            if !self.args.quiet {
                self.session
                    .println(&format!("Defaulting debug container name to {name}."))?;
            }
            return Ok(name);
        }
    }

    /// Lays the user's fields over the container's.
    fn customize(&self, pod: &mut Value, name: &str) -> Result<()> {
        let Some(custom) = &self.custom else {
            return Ok(());
        };
        for field in ["containers", "ephemeralContainers"] {
            let listed = pod["spec"][field]
                .as_array()
                .is_some_and(|all| all.iter().any(|c| c["name"] == name));
            if !listed {
                continue;
            }
            let mut custom = custom.clone();
            custom["name"] = json!(name);
            // the container is merged as part of its pod, whose type says how
            let mut patch = json!({"spec": {}});
            patch["spec"][field] = json!([custom]);
            *pod = shape("Pod")?.merge(pod, &patch)?;
            return Ok(());
        }
        fail(format!(
            "unable to find the {name} container in the pod {}",
            str_of(&pod["metadata"]["name"])
        ))
    }

    /// Capabilities are of no use to a user who is not root.
    fn warn_of_user(&self, pod: &Value, name: &str) {
        let user = |context: &Value| context["runAsUser"].as_i64();
        if user(&pod["spec"]["securityContext"]).is_none_or(|user| user == 0) {
            return;
        }
        let all = ["containers", "ephemeralContainers"].into_iter();
        let context = all
            .flat_map(|field| items(&pod["spec"][field]))
            .find(|c| c["name"] == name)
            .map_or(&Value::Null, |c| &c["securityContext"]);
        let needs = context["privileged"] == true || items(&context["capabilities"]["add"]).next().is_some();
        if needs && user(context) != Some(0) {
            self.session.warn(ROOT_NEEDED);
        }
    }
}

fn shape(kind: &str) -> Result<Shape> {
    Shape::of("v1", kind).ok_or_else(|| message(format!("{kind} is not a known kind")))
}
