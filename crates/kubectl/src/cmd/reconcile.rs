//! `auth reconcile`: roles and bindings that have at least, or exactly, what files give them.

use http::Method;
use serde_json::{Value, json};

use crate::api::{Api, Call};
use crate::change::Changer;
use crate::cmd::describe::{items, str_of};
use crate::error::{Result, fail};
use crate::flags::{Change, DryRun, Files, Output};
use crate::manifest;
use crate::session::Session;

const GROUP: &str = "rbac.authorization.k8s.io";
const PROTECTED: &str = "rbac.authorization.kubernetes.io/autoupdate";
/// Times that something that others change meanwhile is tried again.
const TRIES: usize = 3;

/// Reconciles rules for RBAC role, role binding, cluster role, and cluster role binding objects
#[derive(Debug, clap::Args)]
pub struct Args {
    args: Vec<String>,
    #[command(flatten)]
    files: Files,
    #[command(flatten)]
    output: Output,
    /// Must be "none", "server", or "client"
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "unchanged", default_value = "none", hide_default_value = true, value_parser = crate::flags::dry_run)]
    dry_run: DryRun,
    /// If true, removes extra permissions added to roles
    #[arg(long)]
    remove_extra_permissions: bool,
    /// If true, removes extra subjects added to rolebindings
    #[arg(long)]
    remove_extra_subjects: bool,
}

/// What has to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Operation {
    None,
    Create,
    Update,
    Recreate,
}

/// What reconciling an object comes to.
#[derive(Debug, PartialEq)]
struct Outcome {
    object: Value,
    operation: Operation,
    protected: bool,
    /// Rules or subjects, and what they are called.
    missing: Vec<Value>,
    extra: Vec<Value>,
}

pub(crate) async fn run(session: &Session, args: &Args) -> Result<()> {
    if args.files.is_empty() {
        return fail("must specify one of -f and -k");
    }
    if !args.args.is_empty() {
        return fail("no arguments are allowed");
    }
    if args.dry_run == DryRun::Server {
        return fail("--dry-run=server for command reconcile is not supported yet");
    }
    let change = Change {
        output: args.output.clone(),
        dry_run: args.dry_run,
        field_manager: None,
    };
    let changer = Changer::new(session, &change, "")?;
    for found in manifest::read(&args.files).await? {
        let mut object = found.object;
        let (group, version) = api_group(&object);
        if group != GROUP {
            continue;
        }
        let kind = str_of(&object["kind"]).to_owned();
        if version != "v1" {
            return fail(format!(
                "only rbac.authorization.k8s.io/v1 is supported: not *{version}.{kind}"
            ));
        }
        let namespaced = matches!(kind.as_str(), "Role" | "RoleBinding");
        if namespaced && str_of(&object["metadata"]["namespace"]).is_empty() {
            object["metadata"]["namespace"] = json!(session.namespace()?);
        }
        if !namespaced && !matches!(kind.as_str(), "ClusterRole" | "ClusterRoleBinding") {
            continue;
        }
        let outcome = reconcile(session.api()?, args, &object).await?;
        changer.tell(&outcome.object, "reconciled")?;
        report(session, args, &outcome);
    }
    Ok(())
}

fn api_group(object: &Value) -> (String, String) {
    let (group, version) = ::api::gvk::split_api_version(str_of(&object["apiVersion"]));
    (group.to_owned(), version.to_owned())
}

fn is_binding(object: &Value) -> bool {
    str_of(&object["kind"]).ends_with("Binding")
}

/// The path of a kind's objects.
fn collection(object: &Value) -> String {
    let plural = format!("{}s", str_of(&object["kind"]).to_lowercase());
    match str_of(&object["metadata"]["namespace"]) {
        namespace if !plural.starts_with("cluster") => {
            format!("/apis/{GROUP}/v1/namespaces/{namespace}/{plural}")
        }
        _ => format!("/apis/{GROUP}/v1/{plural}"),
    }
}

async fn reconcile(api: &Api, args: &Args, wanted: &Value) -> Result<Outcome> {
    let collection = collection(wanted);
    let path = format!("{collection}/{}", str_of(&wanted["metadata"]["name"]));
    let mut tries = 0;
    loop {
        tries += 1;
        let last = tries > TRIES;
        let outcome = match api.get(&path).await {
            Ok(there) => compute(wanted, &there, args),
            Err(error) if error.is_not_found() => Outcome {
                object: wanted.clone(),
                operation: Operation::Create,
                protected: false,
                missing: items(&wanted[list_of(wanted)]).cloned().collect(),
                extra: Vec::new(),
            },
            Err(error) => return Err(error),
        };
        if outcome.protected || args.dry_run == DryRun::Client {
            return Ok(outcome);
        }
        let done = match outcome.operation {
            Operation::None => return Ok(outcome),
            Operation::Update => api.json(&Call::new(Method::PUT, &*path).json(&outcome.object)).await,
            Operation::Create => create(api, &collection, wanted).await,
            Operation::Recreate => recreate(api, &collection, &path, wanted).await,
        };
        match done {
            Ok(object) => return Ok(Outcome { object, ..outcome }),
            Err(error) if last => return Err(error),
            // it came, went or changed meanwhile
            Err(error) if error.is_already_exists() || error.is_conflict() => {}
            Err(error) if outcome.operation == Operation::Update && error.is_not_found() => {}
            Err(error) => return Err(error),
        }
    }
}

async fn create(api: &Api, collection: &str, wanted: &Value) -> Result<Value> {
    if let Some(namespace) = wanted["metadata"]["namespace"].as_str() {
        ensure_namespace(api, namespace).await?;
    }
    api.json(&Call::new(Method::POST, collection).json(wanted)).await
}

/// What a binding is to cannot be changed: it is made anew.
async fn recreate(api: &Api, collection: &str, path: &str, wanted: &Value) -> Result<Value> {
    let there = api.get(path).await?;
    let options =
        json!({ "apiVersion": "v1", "kind": "DeleteOptions", "preconditions": { "uid": there["metadata"]["uid"] } });
    match api.json(&Call::new(Method::DELETE, path).json(&options)).await {
        Ok(_) => {}
        Err(error) if error.is_not_found() => {}
        Err(error) => return Err(error),
    }
    create(api, collection, wanted).await
}

/// Makes a namespace that is not there; who may not see or make namespaces may still write into one.
async fn ensure_namespace(api: &Api, name: &str) -> Result<()> {
    let forbidden = |error: &crate::error::Error| error.http_code() == Some(403);
    match api.get(&format!("/api/v1/namespaces/{name}")).await {
        Ok(_) => return Ok(()),
        Err(error) if error.is_not_found() || forbidden(&error) => {}
        Err(error) => return Err(error),
    }
    let namespace = json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": name } });
    match api
        .json(&Call::new(Method::POST, "/api/v1/namespaces").json(&namespace))
        .await
    {
        Err(error) if !error.is_already_exists() && !forbidden(&error) => Err(error),
        _ => Ok(()),
    }
}

fn list_of(object: &Value) -> &'static str {
    if is_binding(object) { "subjects" } else { "rules" }
}

/// What becomes of an object that is there.
fn compute(wanted: &Value, there: &Value, args: &Args) -> Outcome {
    let protected = there["metadata"]["annotations"][PROTECTED] == "false";
    let binding = is_binding(wanted);
    if binding && role(wanted) != role(there) {
        return Outcome {
            object: wanted.clone(),
            operation: Operation::Recreate,
            protected,
            missing: Vec::new(),
            extra: Vec::new(),
        };
    }
    let mut object = there.clone();
    for key in ["annotations", "labels"] {
        for (name, value) in wanted["metadata"][key].as_object().into_iter().flatten() {
            // what is there already wins
            if object["metadata"][key].get(name).is_none() {
                object["metadata"][key][name] = value.clone();
            }
        }
    }
    let list = list_of(wanted);
    let (now, then): (Vec<&Value>, Vec<&Value>) = (items(&there[list]).collect(), items(&wanted[list]).collect());
    let aggregated = |object: &Value| object["aggregationRule"].is_object();
    let (missing, extra, remove) = match binding {
        true => (lacking(&then, &now), lacking(&now, &then), args.remove_extra_subjects),
        // the rules of roles that are put together are their controller's
        false if aggregated(wanted) && aggregated(there) => {
            (uncovered(&now, &then), Vec::new(), args.remove_extra_permissions)
        }
        false => (
            uncovered(&now, &then),
            uncovered(&then, &now),
            args.remove_extra_permissions,
        ),
    };
    join(&mut object, wanted, list, &missing, &extra, remove);
    if !binding {
        join_selectors(&mut object, wanted, there, remove);
    }
    let operation = match object == *there {
        true => Operation::None,
        false => Operation::Update,
    };
    Outcome {
        object,
        operation,
        protected,
        missing,
        extra,
    }
}

/// The role of a binding.
fn role(binding: &Value) -> (String, String) {
    let text = |key: &str| str_of(&binding["roleRef"][key]).to_owned();
    (text("kind"), text("name"))
}

/// Adds to a list what it lacks, or takes the wanted one in its place.
fn join(object: &mut Value, wanted: &Value, list: &str, missing: &[Value], extra: &[Value], remove: bool) {
    if remove && !(missing.is_empty() && extra.is_empty()) {
        object[list] = wanted[list].clone();
    } else if !missing.is_empty() {
        let all = items(&object[list]).chain(missing).cloned().collect();
        object[list] = Value::Array(all);
    }
}

fn join_selectors(object: &mut Value, wanted: &Value, there: &Value, remove: bool) {
    let selectors = |object: &Value| -> Vec<Value> {
        items(&object["aggregationRule"]["clusterRoleSelectors"])
            .cloned()
            .collect()
    };
    let (now, then) = (selectors(there), selectors(wanted));
    if !wanted["aggregationRule"].is_object() {
        if let Some(map) = object.as_object_mut() {
            map.remove("aggregationRule");
        }
        return;
    }
    let missing: Vec<Value> = then.iter().filter(|one| !now.contains(one)).cloned().collect();
    let extra = now.iter().any(|one| !then.contains(one));
    if remove && (extra || !missing.is_empty()) {
        object["aggregationRule"] = wanted["aggregationRule"].clone();
    } else if !missing.is_empty() {
        let all = [now, missing].concat();
        object["aggregationRule"] = json!({ "clusterRoleSelectors": all });
    }
}

/// The subjects of a list that another does not have, each once. Who names no group is of the one that its kind is of.
fn lacking(all: &[&Value], other: &[&Value]) -> Vec<Value> {
    let whole = |subject: &Value| {
        let group = match (str_of(&subject["kind"]), subject["apiGroup"].as_str()) {
            (_, Some(group)) if !group.is_empty() => group,
            ("User" | "Group", _) => GROUP,
            _ => "",
        };
        let text = |key: &str| str_of(&subject[key]).to_owned();
        [text("kind"), group.to_owned(), text("name"), text("namespace")]
    };
    let others: Vec<_> = other.iter().map(|subject| whole(subject)).collect();
    let mut found = Vec::new();
    let mut left = Vec::new();
    for subject in all {
        let identity = whole(subject);
        if !others.contains(&identity) && !found.contains(&identity) {
            found.push(identity);
            let mut subject = (*subject).clone();
            if let [_, group, ..] = whole(&subject)
                && !group.is_empty()
            {
                subject["apiGroup"] = json!(group);
            }
            left.push(subject);
        }
    }
    left
}

/// The rules of `servant`, each taken apart, that no rule of `owner` covers.
fn uncovered(owner: &[&Value], servant: &[&Value]) -> Vec<Value> {
    let parts = servant.iter().flat_map(|rule| apart(rule));
    parts
        .filter(|part| !owner.iter().any(|rule| covers(rule, part)))
        .collect()
}

/// A rule as rules of one verb of one resource or path each.
fn apart(rule: &Value) -> Vec<Value> {
    let texts = |key: &str| items(&rule[key]).map(str_of).collect::<Vec<_>>();
    let mut made = Vec::new();
    for group in texts("apiGroups") {
        for resource in texts("resources") {
            for verb in texts("verbs") {
                let one = json!({ "apiGroups": [group], "resources": [resource], "verbs": [verb] });
                let names = texts("resourceNames");
                if names.is_empty() {
                    made.push(one.clone());
                }
                for name in names {
                    let mut one = one.clone();
                    one["resourceNames"] = json!([name]);
                    made.push(one);
                }
            }
        }
    }
    for path in texts("nonResourceURLs") {
        let verbs = texts("verbs").into_iter();
        made.extend(verbs.map(|verb| json!({ "nonResourceURLs": [path], "verbs": [verb] })));
    }
    made
}

fn covers(owner: &Value, part: &Value) -> bool {
    let has = |key: &str, text: &str| items(&owner[key]).any(|one| one == text);
    let all = |key: &str| has(key, "*") || items(&part[key]).all(|one| has(key, str_of(one)));
    let resource = |name: &str| {
        let any = name
            .split_once('/')
            .is_some_and(|(_, sub)| has("resources", &format!("*/{sub}")));
        has("resources", name) || any
    };
    let path = |path: &str| {
        items(&owner["nonResourceURLs"]).map(str_of).any(|own| {
            let prefix = own.strip_suffix('*');
            own == path || prefix.is_some_and(|prefix| path.starts_with(prefix))
        })
    };
    let resources = has("resources", "*") || items(&part["resources"]).all(|one| resource(str_of(one)));
    let paths = items(&part["nonResourceURLs"]).all(|one| path(str_of(one)));
    let names = |rule: &Value| items(&rule["resourceNames"]).count();
    let named = names(owner) == 0 || names(part) > 0 && all("resourceNames");
    all("verbs") && all("apiGroups") && resources && paths && named
}

fn report(session: &Session, args: &Args, outcome: &Outcome) {
    let caveat = match outcome.protected {
        true => format!(", but object opted out ({PROTECTED}: false)"),
        false => String::new(),
    };
    let what = match outcome.operation {
        Operation::None => return,
        Operation::Create => "create",
        Operation::Update => "update",
        Operation::Recreate => "recreate",
    };
    session.warn(&format!("\treconciliation required {what}{caveat}"));
    let binding = is_binding(&outcome.object);
    let (called, remove) = match binding {
        true => ("subjects", args.remove_extra_subjects),
        false => ("rules", args.remove_extra_permissions),
    };
    let lists = [
        ("missing", "added", &outcome.missing),
        ("extra", "removed", &outcome.extra),
    ];
    for (which, done, list) in lists {
        if list.is_empty() || which == "extra" && !remove {
            continue;
        }
        session.warn(&format!("\t{which} {called} {done}:"));
        list.iter()
            .for_each(|one| session.warn(&format!("\t\t{}", shown(one, binding))));
    }
}

/// A rule or a subject as Go shows its fields.
fn shown(one: &Value, subject: bool) -> String {
    const RULE: [(&str, &str); 5] = [
        ("Verbs", "verbs"),
        ("APIGroups", "apiGroups"),
        ("Resources", "resources"),
        ("ResourceNames", "resourceNames"),
        ("NonResourceURLs", "nonResourceURLs"),
    ];
    const SUBJECT: [(&str, &str); 4] = [
        ("Kind", "kind"),
        ("APIGroup", "apiGroup"),
        ("Name", "name"),
        ("Namespace", "namespace"),
    ];
    let list = |key: &str| format!("[{}]", items(&one[key]).map(str_of).collect::<Vec<_>>().join(" "));
    let fields: Vec<String> = match subject {
        true => SUBJECT
            .iter()
            .map(|(name, key)| format!("{name}:{}", str_of(&one[*key])))
            .collect(),
        false => RULE.iter().map(|(name, key)| format!("{name}:{}", list(key))).collect(),
    };
    format!("{{{}}}", fields.join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(permissions: bool, subjects: bool) -> Args {
        Args {
            args: Vec::new(),
            files: Files::default(),
            output: Output::default(),
            dry_run: DryRun::None,
            remove_extra_permissions: permissions,
            remove_extra_subjects: subjects,
        }
    }

    fn rule(verbs: &[&str], resources: &[&str]) -> Value {
        json!({ "verbs": verbs, "apiGroups": [""], "resources": resources })
    }

    #[test]
    fn a_role_gets_what_it_lacks_and_keeps_more_unless_told_otherwise() {
        let of = |rules: Value| json!({ "kind": "Role", "metadata": { "name": "r" }, "rules": rules });
        let wanted = of(json!([rule(&["get", "list"], &["pods", "pods/log"])]));
        let there = of(json!([
            rule(&["get"], &["pods", "*/log"]),
            rule(&["delete"], &["secrets"])
        ]));
        let outcome = compute(&wanted, &there, &args(false, false));
        let missing = [rule(&["list"], &["pods"]), rule(&["list"], &["pods/log"])];
        assert_eq!(
            (outcome.operation, &outcome.missing[..]),
            (Operation::Update, &missing[..])
        );
        assert_eq!(outcome.object["rules"].as_array().unwrap().len(), 4);
        assert_eq!(
            compute(&wanted, &there, &args(true, false)).object["rules"],
            wanted["rules"]
        );
        assert_eq!(compute(&wanted, &wanted, &args(true, true)).operation, Operation::None);
        let all = of(json!([{ "verbs": ["*"], "apiGroups": ["*"], "resources": ["*"] }]));
        assert_eq!(compute(&wanted, &all, &args(false, false)).operation, Operation::None);
    }

    #[test]
    fn a_binding_to_another_role_is_made_anew() {
        let of = |role: &str, subjects: Value| {
            json!({ "kind": "ClusterRoleBinding", "metadata": { "name": "b" },
                "roleRef": { "apiGroup": GROUP, "kind": "ClusterRole", "name": role }, "subjects": subjects })
        };
        let (jane, joe) = (
            json!({ "kind": "User", "name": "jane" }),
            json!({ "kind": "User", "name": "joe", "apiGroup": GROUP }),
        );
        let wanted = of("a", json!([jane]));
        assert_eq!(
            compute(&wanted, &of("b", json!([])), &args(false, false)).operation,
            Operation::Recreate
        );
        let outcome = compute(&wanted, &of("a", json!([joe])), &args(false, false));
        assert_eq!(outcome.object["subjects"].as_array().unwrap().len(), 2);
        assert_eq!(
            shown(&outcome.missing[0], true),
            format!("{{Kind:User APIGroup:{GROUP} Name:jane Namespace:}}")
        );
        let outcome = compute(&wanted, &of("a", json!([joe])), &args(false, true));
        assert_eq!(outcome.object["subjects"], wanted["subjects"]);
    }

    #[test]
    fn names_and_paths_are_covered_as_far_as_they_go() {
        let named = json!({ "verbs": ["get"], "apiGroups": [""], "resources": ["pods"], "resourceNames": ["a"] });
        let any = rule(&["get"], &["pods"]);
        assert_eq!(
            (uncovered(&[&any], &[&named]).len(), uncovered(&[&named], &[&any]).len()),
            (0, 1)
        );
        let path = |path: &str| json!({ "verbs": ["get"], "nonResourceURLs": [path] });
        assert_eq!(uncovered(&[&path("/a/*")], &[&path("/a/b"), &path("/c")]), [path("/c")]);
    }

    #[test]
    fn what_says_that_it_must_stay_is_told_and_left() {
        let of = |rules: Value, auto: &str| json!({ "kind": "ClusterRole", "metadata": { "name": "r", "annotations": { PROTECTED: auto } }, "rules": rules });
        let outcome = compute(
            &of(json!([rule(&["get"], &["pods"])]), "true"),
            &of(json!([]), "false"),
            &args(false, false),
        );
        assert!(outcome.protected);
    }
}
