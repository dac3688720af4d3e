//! `cordon`, `uncordon` and `taint`.

use serde_json::{Value, json};

use crate::change::{Changer, STRATEGIC};
use crate::cmd::describe::{items, str_of};
use crate::error::{Result, all, fail, message};
use crate::flags::{Change, Validate};
use crate::patch::{Shape, two_way};
use crate::print::go::quote;
use crate::select::{Info, Selection};
use crate::session::Session;

/// Mark node as schedulable or unschedulable
#[derive(Debug, clap::Args)]
pub struct Cordon {
    pub nodes: Vec<String>,
    #[command(flatten)]
    pub change: Change,
    /// Selector (label query) to filter on
    #[arg(long, short = 'l')]
    pub selector: Option<String>,
}

/// Update the taints on one or more nodes
#[derive(Debug, clap::Args)]
pub struct Taint {
    args: Vec<String>,
    #[command(flatten)]
    change: Change,
    #[command(flatten)]
    validate: Validate,
    /// Selector (label query) to filter on
    #[arg(long, short = 'l')]
    selector: Option<String>,
    /// Select all nodes in the cluster
    #[arg(long)]
    all: bool,
    /// If true, allow taints to be overwritten
    #[arg(long)]
    overwrite: bool,
}

/// The nodes of a command line, by their names or a selector.
///
/// # Errors
/// When one of them cannot be had: then nothing is done to the others.
pub async fn nodes(session: &Session, names: &[String], selector: Option<&str>) -> Result<Vec<Info>> {
    if names.is_empty() && selector.is_none() {
        return session.usage(format!(
            "USAGE: {} NODE [flags]",
            session.command.trim_start_matches("kubectl ")
        ));
    }
    if !names.is_empty() && selector.is_some() {
        return session.usage("error: cannot specify both a node name and a --selector option");
    }
    let mut args = vec!["nodes".to_owned()];
    if selector.is_none() {
        args.extend(names.iter().map(|n| {
            n.strip_prefix("node/")
                .or(n.strip_prefix("nodes/"))
                .unwrap_or(n)
                .to_owned()
        }));
    }
    let mut selection = Selection::new(&args);
    selection.labels = selector;
    selection.all(session).await
}

pub(crate) async fn cordon(session: &Session, args: &Cordon, unschedulable: bool) -> Result<()> {
    let changer = Changer::new(session, &args.change, "")?;
    for info in &mut nodes(session, &args.nodes, args.selector.as_deref()).await? {
        set_unschedulable(&changer, info, unschedulable).await?;
    }
    Ok(())
}

/// What cannot be changed is said, and does not keep the other nodes.
pub async fn set_unschedulable(changer: &Changer<'_>, info: &mut Info, unschedulable: bool) -> Result<()> {
    let verb = if unschedulable { "cordon" } else { "uncordon" };
    if (info.object["spec"]["unschedulable"] == true) == unschedulable {
        return changer.tell(&info.object, &format!("already {verb}ed"));
    }
    if !changer.is_local() {
        let wanted = if unschedulable { json!(true) } else { Value::Null };
        let patch = json!({"spec": {"unschedulable": wanted}});
        if let Err(error) = changer.patch(info, STRATEGIC, &patch).await {
            changer
                .session
                .warn(&format!("error: unable to {verb} node {}: {error}", quote(&info.name)));
            return Ok(());
        }
    }
    changer.tell(&info.object, &format!("{verb}ed"))
}

/// `key=value:Effect`, `key:Effect`, or for removal `key`.
fn parse(text: &str) -> Result<Value> {
    let (pair, effect) = text.split_once(':').map_or((text, ""), |(p, e)| (p, e));
    if effect.contains(':') {
        return fail(format!("invalid taint spec: {text}"));
    }
    if text.contains(':') && !matches!(effect, "NoSchedule" | "PreferNoSchedule" | "NoExecute") {
        return fail(format!("invalid taint effect: {effect}, unsupported taint effect"));
    }
    let (key, value) = match (effect, pair.split('=').collect::<Vec<_>>().as_slice()) {
        ("", _) => (pair, ""),
        (_, [key]) => (*key, ""),
        (_, [key, value]) => (*key, *value),
        _ => return fail(format!("invalid taint spec: {text}")),
    };
    for wrong in [
        api::names::label_value_errors(value),
        api::names::qualified_name_errors(key),
    ] {
        if !wrong.is_empty() {
            return fail(format!("invalid taint spec: {text}, {}", wrong.join("; ")));
        }
    }
    let mut taint = json!({"key": key});
    if !value.is_empty() {
        taint["value"] = json!(value);
    }
    if !effect.is_empty() {
        taint["effect"] = json!(effect);
    }
    Ok(taint)
}

/// The taints to add and those to remove.
fn changes(words: &[String]) -> Result<(Vec<Value>, Vec<Value>)> {
    let (mut add, mut remove) = (Vec::new(), Vec::new());
    for word in words {
        if let Some(gone) = word.strip_suffix('-') {
            remove.push(parse(gone)?);
            continue;
        }
        let taint = parse(word)?;
        if taint["effect"].is_null() {
            return fail(format!("invalid taint spec: {word}"));
        }
        if add.iter().any(|other| same(other, &taint)) {
            let shown = ["key", "value", "effect"].map(|field| str_of(&taint[field])).join(" ");
            return fail(format!(
                "duplicated taints with the same key and effect: {{{shown} <nil>}}"
            ));
        }
        add.push(taint);
    }
    Ok((add, remove))
}

fn refuse_both(add: &[Value], remove: &[Value]) -> Result<()> {
    let mut both = Vec::new();
    for taint in add {
        let meant = |gone: &&Value| gone["key"] == taint["key"] && (gone["effect"].is_null() || same(gone, taint));
        let shown = |gone: &Value| format!("{}={}", str_of(&gone["key"]), str_of(&gone["effect"]));
        both.extend(remove.iter().filter(meant).map(shown));
    }
    match both.is_empty() {
        true => Ok(()),
        false => fail(format!(
            "can not both modify and remove the following taint(s) in the same command: {}",
            both.join(", ")
        )),
    }
}

fn same(a: &Value, b: &Value) -> bool {
    a["key"] == b["key"] && a["effect"] == b["effect"]
}

pub(crate) async fn taint(session: &Session, args: &Taint) -> Result<()> {
    let is_taint = |w: &String| w.contains('=') || w.contains(':') || w.ends_with('-');
    let at = args.args.iter().position(is_taint).unwrap_or(args.args.len());
    let (resources, words) = args.args.split_at(at);
    if let Some(word) = words.iter().find(|w| !is_taint(w)) {
        return fail(format!("all resources must be specified before taint changes: {word}"));
    }
    let Some((kind, names)) = resources.split_first() else {
        return fail("one or more resources must be specified as <resource> <name>");
    };
    if words.is_empty() {
        return fail("at least one taint update is required");
    }
    let (add, remove) = match changes(words) {
        Ok(changes) => changes,
        Err(error) => return session.usage(error.to_string()),
    };
    let kind = &kind.to_lowercase();
    let ty = session.resources().await?.require(kind)?;
    if !ty.is("", "Node") {
        return fail(format!("invalid resource type {kind}, only node types are supported"));
    }
    refuse_both(&add, &remove)?;
    if args.all && args.selector.is_some() {
        return fail("setting 'all' parameter with a non empty selector is prohibited");
    }
    if !args.all && args.selector.is_none() && names.is_empty() {
        return fail("at least one resource name must be specified since 'all' parameter is not set");
    }
    let changer = Changer::new(session, &args.change, "kubectl-taint")?.validation(args.validate.field_validation()?);
    let by_name = !args.all && args.selector.is_none();
    let mut words = vec!["nodes".to_owned()];
    words.extend(names.iter().filter(|_| by_name).cloned());
    let mut selection = Selection::new(&words);
    selection.labels = args.selector.as_deref();
    selection.allow_all = args.all;
    let (infos, mut errors) = selection.infos(session).await?;
    for mut info in infos {
        if let Err(error) = one(&changer, args, &mut info, &add, &remove).await {
            errors.push(error);
        }
    }
    all(errors)
}

async fn one(changer: &Changer<'_>, args: &Taint, info: &mut Info, add: &[Value], remove: &[Value]) -> Result<()> {
    let old: Vec<Value> = items(&info.object["spec"]["taints"]).cloned().collect();
    let there: Vec<&str> = add
        .iter()
        .filter(|a| old.iter().any(|o| same(a, o)))
        .map(|a| str_of(&a["key"]))
        .collect();
    if !args.overwrite && !there.is_empty() {
        return fail(format!(
            "node {} already has {} taint(s) with same effect(s) and --overwrite is false",
            info.name,
            there.join(",")
        ));
    }
    let (taints, said) = reorganize(&old, add, remove, args.overwrite)?;
    let mut after = info.object.clone();
    after["spec"]["taints"] = Value::Array(taints);
    if !changer.is_local()
        && let Some(shape) = Shape::of("v1", "Node")
    {
        let patch = two_way(&shape, &info.object, &after)?;
        changer.patch(info, STRATEGIC, &patch).await?;
    } else {
        info.object = after;
    }
    changer.tell(&info.object, said)
}

fn reorganize(old: &[Value], add: &[Value], remove: &[Value], overwrite: bool) -> Result<(Vec<Value>, &'static str)> {
    let mut taints = add.to_vec();
    taints.extend(old.iter().filter(|o| !add.iter().any(|a| same(a, o))).cloned());
    let added = taints.len() != old.len();
    let mut deleted = false;
    let mut missing = Vec::new();
    for gone in remove {
        let before = taints.len();
        taints.retain(|t| !(t["key"] == gone["key"] && (gone["effect"].is_null() || same(t, gone))));
        deleted = taints.len() != before;
        if !deleted {
            let shown = match (str_of(&gone["key"]), str_of(&gone["effect"])) {
                (key, "") => key.to_owned(),
                (key, effect) => format!("{key}:{effect}"),
            };
            missing.push(message(format!("taint {} not found", quote(&shown))));
        }
    }
    all(missing)?;
    let said = match (added, deleted) {
        (true, true) => "modified",
        _ if overwrite => "modified",
        (true, false) => "tainted",
        _ => "untainted",
    };
    Ok((taints, said))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn taints_come_and_go() {
        let taint = |text: &str| parse(text).unwrap();
        assert_eq!(
            taint("k=v:NoSchedule"),
            json!({"key": "k", "value": "v", "effect": "NoSchedule"})
        );
        assert!(parse("k=v:Nope").is_err());
        let old = [taint("k=v:NoSchedule")];
        let (taints, said) = reorganize(&old, &[taint("l:NoExecute")], &[], false).unwrap();
        assert_eq!((taints.len(), said), (2, "tainted"));
        let (taints, said) = reorganize(&old, &[], &[taint("k")], false).unwrap();
        assert_eq!((taints.len(), said), (0, "untainted"));
        let error = reorganize(&old, &[], &[taint("x:NoExecute")], false).unwrap_err();
        assert_eq!(error.to_string(), "taint \"x:NoExecute\" not found");
    }

    /// `pkg/cmd/taint` of kubectl.
    #[test]
    fn a_taint_is_named_once() {
        let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
        let told = |all: &[&str]| changes(&words(all)).unwrap_err().to_string();
        assert_eq!(
            told(&["a=b:NoSchedule", "a:NoSchedule"]),
            "duplicated taints with the same key and effect: {a  NoSchedule <nil>}"
        );
        let (add, remove) = changes(&words(&["a=b:NoSchedule", "a-", "a:NoExecute-"])).unwrap();
        assert_eq!(
            refuse_both(&add, &remove).unwrap_err().to_string(),
            "can not both modify and remove the following taint(s) in the same command: a="
        );
    }
}
