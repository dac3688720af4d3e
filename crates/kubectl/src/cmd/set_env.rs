//! `set env`: the environment of the containers a workload makes.

use std::io::{BufRead, stdin};

use serde_json::{Value, json};

use super::describe::{entries, items, str_of};
use super::set::{Edit, Flags, Selected, containers, pod_spec, split};
use crate::error::{Result, fail};
use crate::print::go::quote;
use crate::select::Selection;
use crate::session::Session;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    flags: Flags,
    /// A variable to set, as NAME=value
    #[arg(long, short)]
    env: Vec<String>,
    /// The name of a resource from which to take variables, as configmap/NAME or secret/NAME
    #[arg(long, default_value = "", hide_default_value = true)]
    from: String,
    /// Which keys of that resource to take
    #[arg(long, value_delimiter = ',')]
    keys: Vec<String>,
    /// What to put before the names of the variables
    #[arg(long, default_value = "", hide_default_value = true)]
    prefix: String,
    /// List the variables in place of changing them
    #[arg(long)]
    list: bool,
    /// If false, variables that have another value are not changed
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", default_value_t = true, action = clap::ArgAction::Set, hide_default_value = true, hide_possible_values = true)]
    overwrite: bool,
}

/// What becomes of an environment.
struct Change {
    set: Vec<Value>,
    removed: Vec<String>,
}

pub(crate) async fn run(session: &Session, args: &Args) -> Result<()> {
    let flags = &args.flags;
    let (resources, words) = split(&flags.args, "environment")?;
    if resources.is_empty() && flags.files.is_empty() {
        return fail("one or more resources must be specified as <resource> <name> or <resource>/<name>");
    }
    if args.list && flags.change.output.output.is_some() {
        return fail("--list and --output may not be specified together");
    }
    if !args.keys.is_empty() && args.from.is_empty() {
        return fail("when specifying --keys, a configmap or secret must be provided with --from");
    }
    let mut change = parse(args.env.iter().chain(&words))?;
    if !args.from.is_empty() {
        change.set.extend(taken(session, args).await?);
    }
    for variable in &mut change.set {
        variable["name"] = json!(format!("{}{}", args.prefix, str_of(&variable["name"])));
    }
    let selected = Selected::new(session, flags, &resources).await?;
    if args.list {
        return list(session, selected, &flags.containers, &change);
    }
    let (chosen, overwrite) = (flags.containers.clone(), args.overwrite);
    let nothing = change.set.is_empty() && words.is_empty();
    let edit: Edit = Box::new(move |spec| {
        for container in containers(spec).filter(|c| chosen == "*" || c["name"] == chosen.as_str()) {
            if !overwrite {
                refuse_other_values(&container["env"], &change.set)?;
            }
            let env = changed(&container["env"], &change);
            match (env.is_empty(), container.as_object_mut()) {
                (true, Some(container)) => drop(container.remove("env")),
                _ => container["env"] = Value::Array(env),
            }
        }
        Ok(())
    });
    if nothing {
        return fail("at least one environment variable must be provided");
    }
    selected
        .apply(
            session,
            flags,
            "env updated",
            "failed to patch env update to pod template:",
            &edit,
        )
        .await
}

/// `A=b` sets, `A-` takes away, `-` reads lines of the standard input.
fn parse<'a>(words: impl Iterator<Item = &'a String>) -> Result<Change> {
    let (mut set, mut removed) = (Vec::new(), Vec::new());
    for word in words {
        if word == "-" {
            for line in stdin().lock().lines() {
                let line = line?;
                let text = line.split('#').next().unwrap_or_default();
                set.extend(
                    text.split_once('=')
                        .map(|(name, value)| json!({"name": name, "value": value})),
                );
            }
        } else if let Some((name, value)) = word.split_once('=') {
            if name.is_empty() || name.contains(|c: char| c == '=' || c.is_control() || !c.is_ascii()) {
                return fail(format!(
                    "{} is not a valid key name: a valid environment variable name must consist only of printable ASCII characters other than '='",
                    quote(name)
                ));
            }
            set.push(json!({"name": name, "value": value}));
        } else if let Some(name) = word.strip_suffix('-') {
            removed.push(name.to_owned());
        } else {
            return fail(format!("unknown environment variable: {word}"));
        }
    }
    if removed
        .iter()
        .any(|gone| set.iter().any(|v| v["name"] == gone.as_str()))
    {
        return fail("can not both modify and remove the same environment variable in the same command");
    }
    Ok(Change { set, removed })
}

/// The variables that stand for the keys of a config map or secret.
async fn taken(session: &Session, args: &Args) -> Result<Vec<Value>> {
    let from = [args.from.clone()];
    let selection = Selection::new(&from);
    let (infos, errors) = selection.infos(session).await?;
    crate::error::all(errors)?;
    let mut found = Vec::new();
    for info in infos {
        let reference = match info.ty.kind.as_str() {
            "Secret" if info.ty.group.is_empty() => "secretKeyRef",
            "ConfigMap" if info.ty.group.is_empty() => "configMapKeyRef",
            _ => return fail("unsupported resource specified in --from"),
        };
        for (key, _) in entries(&info.object["data"]) {
            if args.keys.is_empty() || args.keys.iter().any(|k| k == key) {
                let name = variable(key);
                if name != key {
                    session.warn(&format!("Warning: key {key} transferred to {name}"));
                }
                found.push(json!({"name": name, "valueFrom": {reference: {"name": info.name, "key": key}}}));
            }
        }
    }
    Ok(found)
}

/// `a.b` is `A_B`.
fn variable(key: &str) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() { c } else { '_' };
    key.chars().map(plain).collect::<String>().to_uppercase()
}

fn refuse_other_values(existing: &Value, set: &[Value]) -> Result<()> {
    for variable in set {
        if let Some(old) = items(existing).find(|e| e["name"] == variable["name"])
            && str_of(&old["value"]) != str_of(&variable["value"])
        {
            let (name, value) = (str_of(&old["name"]), str_of(&old["value"]));
            return fail(format!(
                "'{name}' already has a value ({value}), and --overwrite is false"
            ));
        }
    }
    Ok(())
}

/// Variables keep their places; new ones come last.
fn changed(existing: &Value, change: &Change) -> Vec<Value> {
    let mut env: Vec<Value> = items(existing)
        .filter(|old| !change.removed.iter().any(|gone| old["name"] == gone.as_str()))
        .cloned()
        .collect();
    for variable in &change.set {
        match env.iter_mut().find(|old| old["name"] == variable["name"]) {
            Some(old) => *old = variable.clone(),
            None => env.push(variable.clone()),
        }
    }
    env
}

fn list(session: &Session, selected: Selected, chosen: &str, change: &Change) -> Result<()> {
    for mut info in selected.infos {
        let mut object = info.object.take();
        for container in containers(pod_spec(&info, &mut object)?).filter(|c| chosen == "*" || c["name"] == chosen) {
            let (kind, container_name) = (&info.ty.kind, str_of(&container["name"]));
            session.println(&format!("# {kind} {}, container {container_name}", info.name))?;
            for variable in changed(&container["env"], change) {
                let name = str_of(&variable["name"]);
                match &variable["valueFrom"] {
                    Value::Null => session.println(&format!("{name}={}", str_of(&variable["value"])))?,
                    from => session.println(&format!("# {name} from {}", source(from)))?,
                }
            }
        }
    }
    crate::error::all(selected.errors)
}

/// Where a value comes from, in upstream's words.
fn source(from: &Value) -> String {
    let keyed = |of: &Value| format!("{}, key {}", str_of(&of["name"]), str_of(&of["key"]));
    if from["configMapKeyRef"].is_object() {
        return format!("configmap {}", keyed(&from["configMapKeyRef"]));
    }
    if from["secretKeyRef"].is_object() {
        return format!("secret {}", keyed(&from["secretKeyRef"]));
    }
    if from["fieldRef"].is_object() {
        return format!("field path {}", str_of(&from["fieldRef"]["fieldPath"]));
    }
    let field = &from["resourceFieldRef"];
    if field.is_object() {
        let container = match str_of(&field["containerName"]) {
            "" => String::new(),
            name => format!("{name}/"),
        };
        return format!("resource field {container}{}", str_of(&field["resource"]));
    }
    "invalid valueFrom".to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_keep_their_places() {
        let words = ["A=2", "C=3", "B-"].map(str::to_owned);
        let change = parse(words.iter()).unwrap();
        let env = json!([{"name": "A", "value": "1"}, {"name": "B", "value": "1"}]);
        assert_eq!(
            changed(&env, &change),
            [json!({"name": "A", "value": "2"}), json!({"name": "C", "value": "3"})]
        );
        assert!(refuse_other_values(&env, &change.set).is_err());
        assert!(parse(["A=1", "A-"].map(str::to_owned).iter()).is_err());
    }

    #[test]
    fn where_a_value_comes_from_is_said() {
        assert_eq!(variable("a.b-c"), "A_B_C");
        assert_eq!(
            source(&json!({"configMapKeyRef": {"name": "c", "key": "k"}})),
            "configmap c, key k"
        );
        assert_eq!(
            source(&json!({"fieldRef": {"fieldPath": "metadata.name"}})),
            "field path metadata.name"
        );
    }
}
