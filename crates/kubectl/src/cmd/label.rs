//! `label` and `annotate`: pairs of a key and a value on objects.

use serde_json::{Map, Value, json};

use crate::change::{Changer, MERGE};
use crate::error::{Error, Result, all, fail, message};
use crate::flags::{Change, DryRun, Files, Selecting};
use crate::patch::merge_patch;
use crate::print::go::quote;
use crate::select::Info;
use crate::session::Session;

/// Which of the two.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum What {
    Label,
    Annotation,
}

impl What {
    fn name(self) -> &'static str {
        match self {
            What::Label => "label",
            What::Annotation => "annotation",
        }
    }

    fn field(self) -> &'static str {
        match self {
            What::Label => "labels",
            What::Annotation => "annotations",
        }
    }
}

/// Update the labels or annotations on a resource
#[derive(Debug, clap::Args)]
pub struct Args {
    args: Vec<String>,
    #[command(flatten)]
    files: Files,
    #[command(flatten)]
    change: Change,
    #[command(flatten)]
    which: Selecting,
    /// If true, display what is there
    #[arg(long)]
    list: bool,
    /// If true, will NOT contact api-server but run locally
    #[arg(long)]
    local: bool,
    /// If true, allow existing values to be overwritten
    #[arg(long)]
    overwrite: bool,
    /// If non-empty, the update will only succeed if this is the current resource-version for the object
    #[arg(long)]
    resource_version: Option<String>,
}

/// What is to be set and what to go.
#[derive(Debug, Default, PartialEq, Eq)]
struct Pairs {
    set: Vec<(String, String)>,
    remove: Vec<String>,
}

pub(crate) async fn run(session: &Session, args: &Args, what: What) -> Result<()> {
    let (resources, words) = split(&args.args, what)?;
    let pairs = if what == What::Label {
        labels(&words)?
    } else {
        annotations(&words)?
    };
    check(args, what, &resources, &pairs)?;
    let manager = if what == What::Label {
        "kubectl-label"
    } else {
        "kubectl-annotate"
    };
    let changer = Changer::new(session, &args.change, manager)?;
    let mut selection = args.which.selection(&resources, &args.files);
    (selection.latest, selection.local) = (!args.local, args.local);
    let single = selection.is_single();
    if !single && args.resource_version.is_some() {
        return fail("--resource-version may only be used with a single resource");
    }
    let (infos, mut errors) = selection.infos(session).await?;
    for mut info in infos {
        if let Err(error) = one(&changer, args, what, &pairs, &mut info, single).await {
            errors.push(error);
        }
    }
    all(errors)
}

fn check(args: &Args, what: What, resources: &[String], pairs: &Pairs) -> Result<()> {
    if args.list && args.change.output.output.is_some() {
        return fail("--list and --output may not be specified together");
    }
    args.which.check()?;
    let file = if what == What::Label { "pod" } else { "rsrc" };
    if args.local {
        if args.change.dry_run == DryRun::Server {
            return fail("cannot specify --local and --dry-run=server - did you mean --dry-run=client?");
        }
        if !resources.is_empty() {
            return fail(format!(
                "can only use local files by -f {file}.yaml or --filename={file}.json when --local=true is set"
            ));
        }
        if args.files.is_empty() {
            return fail(format!(
                "one or more files must be specified as -f {file}.yaml or --filename={file}.json"
            ));
        }
    } else if resources.is_empty() && args.files.is_empty() {
        return fail("one or more resources must be specified as <resource> <name> or <resource>/<name>");
    }
    if *pairs == Pairs::default() && !args.list {
        return fail(format!("at least one {} update is required", what.name()));
    }
    if what == What::Annotation {
        let both: Vec<&str> = pairs
            .remove
            .iter()
            .filter(|r| pairs.set.iter().any(|(k, _)| k == *r))
            .map(String::as_str)
            .collect();
        if !both.is_empty() {
            return fail(format!(
                "can not both modify and remove the following annotation(s) in the same command: {}",
                both.join(", ")
            ));
        }
    }
    Ok(())
}

/// Resources first, then pairs.
fn split(args: &[String], what: What) -> Result<(Vec<String>, Vec<String>)> {
    let (mut resources, mut pairs) = (Vec::new(), Vec::new());
    for word in args {
        let is_pair = (word.contains('=') && !word.starts_with('=')) || (word.ends_with('-') && word != "-");
        match (is_pair, pairs.is_empty()) {
            (true, _) => pairs.push(word.clone()),
            (false, true) => resources.push(word.clone()),
            (false, false) => {
                return fail(format!(
                    "all resources must be specified before {} changes: {word}",
                    what.name()
                ));
            }
        }
    }
    Ok((resources, pairs))
}

fn labels(words: &[String]) -> Result<Pairs> {
    let mut pairs = Pairs::default();
    for word in words {
        if word.contains('=') {
            let [key, value] = word.split('=').collect::<Vec<_>>()[..] else {
                return fail(format!("invalid label spec: {word}"));
            };
            let wrong = api::names::label_value_errors(value);
            if !wrong.is_empty() {
                return fail(format!("invalid label value: {}: {}", quote(word), wrong.join(";")));
            }
            pairs.set.push((key.to_owned(), value.to_owned()));
        } else if let Some(key) = word.strip_suffix('-') {
            pairs.remove.push(key.to_owned());
        }
    }
    if pairs.remove.iter().any(|r| pairs.set.iter().any(|(k, _)| k == r)) {
        return fail("can not both modify and remove a label in the same command");
    }
    Ok(pairs)
}

fn annotations(words: &[String]) -> Result<Pairs> {
    let mut pairs = Pairs::default();
    for word in words {
        match word.split_once('=') {
            Some((key, value)) => pairs.set.push((key.to_owned(), value.to_owned())),
            None => pairs.remove.push(word.strip_suffix('-').unwrap_or(word).to_owned()),
        }
    }
    Ok(pairs)
}

/// Whether anything was set, and whether anything went.
fn update(object: &mut Value, args: &Args, what: What, pairs: &Pairs) -> Result<(bool, bool)> {
    let empty = Map::new();
    let mut entries = object["metadata"][what.field()].as_object().unwrap_or(&empty).clone();
    if !args.overwrite {
        no_overwrites(&entries, what, pairs)?;
    }
    let (mut set, mut removed) = (false, false);
    for (key, value) in &pairs.set {
        if entries.get(key).and_then(Value::as_str) != Some(value) {
            entries.insert(key.clone(), json!(value));
            set = true;
        }
    }
    for key in &pairs.remove {
        removed |= entries.remove(key).is_some();
    }
    if let Some(version) = &args.resource_version {
        object["metadata"]["resourceVersion"] = json!(version);
    }
    if entries.is_empty() {
        if let Some(meta) = object["metadata"].as_object_mut() {
            meta.remove(what.field());
        }
    } else {
        object["metadata"][what.field()] = Value::Object(entries);
    }
    Ok((set, removed))
}

fn no_overwrites(entries: &Map<String, Value>, what: What, pairs: &Pairs) -> Result<()> {
    let mut found = Vec::new();
    for (key, value) in &pairs.set {
        // The cause of a change may always be given anew.
        if what == What::Annotation && key == "kubernetes.io/change-cause" {
            continue;
        }
        if let Some(old) = entries.get(key).and_then(Value::as_str).filter(|old| old != value) {
            found.push(format!("'{key}' already has a value ({old})"));
        }
    }
    match (what, &found[..]) {
        (_, []) => Ok(()),
        (What::Label, [one]) => fail(format!("{one}, and --overwrite is false")),
        (What::Label, many) => Err(Error::Many(
            many.iter()
                .map(|f| message(format!("{f}, and --overwrite is false")))
                .collect(),
        )),
        (What::Annotation, many) => fail(format!(
            "--overwrite is false but found the following declared annotation(s): {}",
            many.join("; ")
        )),
    }
}

async fn one(
    changer: &Changer<'_>,
    args: &Args,
    what: What,
    pairs: &Pairs,
    info: &mut Info,
    single: bool,
) -> Result<()> {
    let session = changer.session;
    let mut before = info.object.clone();
    if args.resource_version.is_some()
        && let Some(meta) = before["metadata"].as_object_mut()
    {
        // The patch then always carries the version.
        meta.remove("resourceVersion");
    }
    let local = changer.is_local() || args.local || args.list;
    if what == What::Label && !local {
        for key in pairs
            .remove
            .iter()
            .filter(|k| before["metadata"]["labels"][k.as_str()].is_null())
        {
            session.println(&format!("label {} not found.", quote(key)))?;
        }
    }
    let (set, removed) = update(&mut info.object, args, what, pairs)?;
    if !local && (set || removed || what == What::Annotation) {
        let patch = merge_patch(&before, &info.object);
        changer.patch(info, MERGE, &patch).await?;
    }
    if args.list {
        return list(session, what, info, single);
    }
    let said = match (what, set, removed) {
        (What::Annotation, ..) => "annotated",
        (_, true, true) => "modified",
        (_, true, false) => "labeled",
        (_, false, true) => "unlabeled",
        (_, false, false) => "not labeled",
    };
    changer.tell(&info.object, said)
}

fn list(session: &Session, what: What, info: &Info, single: bool) -> Result<()> {
    let mut text = String::new();
    if !single {
        text = format!(
            "Listing {} for {}.{}/{}:\n",
            what.field(),
            info.ty.kind,
            info.ty.group,
            info.name
        );
    }
    let indent = if single { "" } else { " " };
    for (key, value) in info.object["metadata"][what.field()].as_object().into_iter().flatten() {
        text.push_str(&format!("{indent}{key}={}\n", value.as_str().unwrap_or_default()));
    }
    session.print(&text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<String> {
        text.split(' ').map(str::to_owned).collect()
    }

    #[test]
    fn resources_come_before_pairs() {
        let (resources, pairs) = split(&words("pod x a=1 b-"), What::Label).unwrap();
        assert_eq!((resources, pairs.clone()), (words("pod x"), words("a=1 b-")));
        let pairs = labels(&pairs).unwrap();
        assert_eq!(pairs.set, [("a".to_owned(), "1".to_owned())]);
        assert_eq!(pairs.remove, ["b"]);
        assert!(split(&words("pod a=1 x"), What::Label).is_err());
        assert!(labels(&words("a=1 a-")).is_err());
    }

    #[test]
    fn a_value_is_not_overwritten_unasked() {
        let entries = json!({"a": "1"});
        let pairs = labels(&words("a=2")).unwrap();
        let error = no_overwrites(entries.as_object().unwrap(), What::Label, &pairs).unwrap_err();
        assert_eq!(
            error.to_string(),
            "'a' already has a value (1), and --overwrite is false"
        );
    }
}
