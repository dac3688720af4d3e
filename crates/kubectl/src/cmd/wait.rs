//! `wait`: until objects are as they are wanted.

use std::time::Duration;

use serde_json::Value;
use tokio::time::{Instant, timeout_at};

use super::delete::timed_out;
use crate::change::Changer;
use crate::error::{Result, all, fail, message};
use crate::flags::{Change, Files, Selecting};
use crate::jsonpath::{JsonPath, relaxed};
use crate::print::go::{self, quote};
use crate::select::{Info, Selection, Target};
use crate::session::Session;
use crate::watch;

const WEEK: Duration = Duration::from_secs(168 * 3600);

/// Wait for a specific condition on one or many resources
#[derive(Debug, clap::Args)]
pub struct Args {
    args: Vec<String>,
    #[command(flatten)]
    files: Files,
    #[command(flatten)]
    change: Change,
    /// The condition to wait on: [create|delete|condition=condition-name[=condition-value]|jsonpath='{JSONPath expression}'=[JSONPath value]]
    #[arg(long = "for")]
    conditions: Vec<String>,
    /// The length of time to wait before giving up. Zero means check once and don't wait, negative means wait for a week.
    #[arg(
        long,
        default_value = "30s",
        allow_negative_numbers = true,
        hide_default_value = true
    )]
    timeout: String,
    #[command(flatten)]
    which: Selecting,
}

/// What is waited for.
#[derive(Debug, Clone)]
enum Condition {
    Delete,
    Create,
    Status { name: String, value: String },
    Path { path: JsonPath, value: Option<String> },
}

impl Condition {
    fn parse(text: &str) -> Result<Condition> {
        match text.to_lowercase().as_str() {
            "delete" => return Ok(Condition::Delete),
            "create" => return Ok(Condition::Create),
            _ => {}
        }
        if let Some(rest) = text.strip_prefix("condition=") {
            let (name, value) = rest.split_once('=').unwrap_or((rest, "true"));
            return Ok(Condition::Status {
                name: name.to_owned(),
                value: value.to_owned(),
            });
        }
        let Some(rest) = text.strip_prefix("jsonpath=") else {
            return fail(format!("unrecognized condition: {}", quote(text)));
        };
        let parts = split(rest);
        let (path, value) = match &parts[..] {
            [path] => (path, None),
            [path, value] => (path, Some(value.trim_matches(['\'', '"']).to_owned())),
            _ => {
                return fail(
                    "jsonpath wait format must be --for=jsonpath='{.status.readyReplicas}'=3 or --for=jsonpath='{.status.readyReplicas}'",
                );
            }
        };
        if value.as_deref() == Some("") {
            return fail(
                "jsonpath wait has to have a value after equal sign, like --for=jsonpath='{.status.readyReplicas}'=3",
            );
        }
        let path = relaxed(path)?;
        if path.is_empty() {
            return fail("jsonpath expression cannot be empty");
        }
        Ok(Condition::Path {
            path: JsonPath::parse(&path)?.allow_missing(true),
            value,
        })
    }

    fn is_met(&self, object: &Value) -> Result<bool> {
        match self {
            Condition::Create => Ok(true),
            Condition::Delete => Ok(false),
            Condition::Status { name, value } => Ok(status_is(object, name, value)),
            Condition::Path { path, value } => {
                let found: Vec<_> = path.find(object)?.into_iter().flatten().collect();
                match (&found[..], value) {
                    ([], _) => Ok(false),
                    ([one], None) => Ok(!one.is_null()),
                    ([one], Some(value)) if !one.is_object() && !one.is_array() => {
                        Ok(go::sprint(one).trim() == value.trim())
                    }
                    ([_], Some(_)) => fail("jsonpath leads to a nested object or list which is not supported"),
                    (..) => fail("given jsonpath expression matches more than one value"),
                }
            }
        }
    }
}

/// At single `=`; `==` belongs to an expression.
fn split(text: &str) -> Vec<String> {
    let mut parts = vec![String::new()];
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        if c == '=' && chars.peek() != Some(&'=') {
            parts.push(String::new());
            continue;
        }
        if let Some(last) = parts.last_mut() {
            last.push(c);
            if c == '=' {
                last.extend(chars.next());
            }
        }
    }
    parts
}

fn status_is(object: &Value, name: &str, value: &str) -> bool {
    let same = |v: &Value, text: &str| v.as_str().is_some_and(|v| v.to_lowercase() == text.to_lowercase());
    let conditions = object["status"]["conditions"].as_array();
    let Some(condition) = conditions.into_iter().flatten().find(|c| same(&c["type"], name)) else {
        return false;
    };
    let seen = condition["observedGeneration"]
        .as_i64()
        .or_else(|| object["status"]["observedGeneration"].as_i64());
    let generation = object["metadata"]["generation"].as_i64();
    if let (Some(seen), Some(generation)) = (seen, generation)
        && seen < generation
    {
        return false;
    }
    same(&condition["status"], value)
}

pub(crate) async fn run(session: &Session, args: &Args) -> Result<()> {
    let changer = Changer::new(session, &args.change, "")?;
    if args.conditions.is_empty() {
        return fail("unrecognized condition: []");
    }
    let conditions: Vec<Condition> = args
        .conditions
        .iter()
        .map(|c| Condition::parse(c))
        .collect::<Result<_>>()?;
    let once = matches!(args.timeout.as_str(), "0" | "0s");
    let limit = match crate::session::duration(args.timeout.trim_start_matches('-')) {
        Ok(limit) if !args.timeout.starts_with('-') => limit.unwrap_or_default(),
        Ok(_) => WEEK,
        Err(_) => {
            return fail(format!(
                "invalid argument {} for \"--timeout\" flag: time: invalid duration {}",
                quote(&args.timeout),
                quote(&args.timeout)
            ));
        }
    };
    let deadline = Instant::now() + limit;
    let deletes = conditions.iter().any(|c| matches!(c, Condition::Delete));
    let creates = conditions.iter().any(|c| matches!(c, Condition::Create));
    let mut selection = args.which.selection(&args.args, &args.files);
    selection.latest = true;
    if creates {
        appear(session, &selection, deadline).await?;
    }
    let (mut errors, mut visited) = (Vec::new(), 0);
    // each is asked for when those before it are as they are wanted, or too late
    for target in selection.targets(session).await? {
        for mut info in selection.found(session, target, &mut errors).await {
            visited += 1;
            for condition in &conditions {
                match met(session, &mut info, condition, deadline, once).await {
                    Ok(()) => changer.tell(&info.object, "condition met")?,
                    Err(error) => {
                        errors.push(error);
                        break;
                    }
                }
            }
        }
    }
    errors.retain(|error| !(deletes && error.is_not_found()));
    if visited == 0 && errors.is_empty() && !deletes {
        return fail("no matching resources found");
    }
    all(errors)
}

/// Until what is named is there. Upstream waits while one object alone is missing, and tells of several that are.
async fn appear(session: &Session, selection: &Selection<'_>, deadline: Instant) -> Result<()> {
    let targets = selection.targets(session).await?;
    loop {
        let (mut errors, mut missing, mut found) = (Vec::new(), targets.first(), 0);
        for target in &targets {
            let mut infos = Vec::new();
            if let Err(error) = selection.fetch(session, target.clone(), &mut infos).await {
                missing = Some(target);
                errors.push(error);
            }
            found += infos.len();
        }
        let awaited = match (&errors[..], missing) {
            ([], _) if found > 0 => return Ok(()),
            ([], Some(target)) => target,
            ([one], Some(target)) if one.is_not_found() => target,
            _ => return all(errors),
        };
        timeout_at(deadline, appears(session, selection, awaited))
            .await
            .unwrap_or_else(|_| fail("timed out waiting for the condition"))?;
    }
}

/// Until one target is there, or the first object of it.
async fn appears(session: &Session, selection: &Selection<'_>, target: &Target) -> Result<()> {
    let (ty, namespace) = match target {
        Target::Named(info) => return watch::follow(session, info, |object| Ok(object.map(drop))).await,
        Target::Collection { ty, namespace } => (ty, namespace),
    };
    let page = selection.page(session, ty, namespace, "").await?;
    if page["items"].as_array().is_some_and(|items| !items.is_empty()) {
        return Ok(());
    }
    let mut query = selection.selectors();
    let version = page["metadata"]["resourceVersion"].as_str().unwrap_or_default();
    query.push(("resourceVersion", version.to_owned()));
    let mut events = watch::open(session.api()?, &ty.collection(namespace), query, crate::api::JSON).await?;
    while let Some(event) = events.next().await? {
        if event.kind == "ADDED" {
            return Ok(());
        }
    }
    fail("the server ended the watch")
}

async fn met(session: &Session, info: &mut Info, condition: &Condition, deadline: Instant, once: bool) -> Result<()> {
    let shown = info.clone();
    if let Condition::Delete = condition {
        let uid = info.object["metadata"]["uid"].as_str().unwrap_or_default().to_owned();
        if once {
            return fail(format!(
                "condition not met for {}",
                info.ty.plural.clone() + "/" + &info.name
            ));
        }
        return super::delete::until_gone(session, &shown, &uid, Some(deadline)).await;
    }
    if once {
        info.refresh(session).await?;
        return match condition.is_met(&info.object)? {
            true => Ok(()),
            false => fail(format!("condition not met for {}/{}", info.ty.plural, info.name)),
        };
    }
    let missing = || message(format!("{} {} not found", info.ty.group_resource(), quote(&info.name)));
    let mut was_there = false;
    let waiting = watch::follow(session, &shown, |object| match object {
        None if was_there => Ok(None),
        None => Err(missing()),
        Some(object) => {
            was_there = true;
            Ok(condition.is_met(object)?.then(|| object.clone()))
        }
    });
    match timeout_at(deadline, waiting).await {
        Ok(object) => {
            info.object = object?;
            crate::resolve::with_type(&mut info.object, &shown.ty);
            Ok(())
        }
        Err(_) => Err(timed_out(&shown)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn conditions_are_met_by_what_the_object_says() {
        let object = json!({"metadata": {"generation": 2}, "status": {"observedGeneration": 2, "n": 3,
            "conditions": [{"type": "Ready", "status": "True"}, {"type": "Old", "status": "True", "observedGeneration": 1}]}});
        for (text, met) in [
            ("condition=ready", true),
            ("condition=Ready=False", false),
            ("condition=Old", false),
            ("condition=None", false),
            ("jsonpath={.status.n}=3", true),
            ("jsonpath={.status.n}=4", false),
            ("jsonpath=.status.n", true),
            ("jsonpath={.status.x}", false),
            ("jsonpath={.status.conditions[?(@.type==\"Ready\")].status}=True", true),
        ] {
            assert_eq!(Condition::parse(text).unwrap().is_met(&object).unwrap(), met, "{text}");
        }
        assert!(Condition::parse("foo").is_err());
    }
}
