//! `set selector`: which pods a Service means.

use serde_json::{Value, json};

use super::set::{LOCAL, MANAGER};
use crate::change::{Changer, STRATEGIC};
use crate::error::{Result, all, fail};
use crate::flags::{Change, Files};
use crate::patch::{Shape, two_way};
use crate::select::{Selection, nothing_meant};
use crate::session::Session;

/// Set the selector on a resource
#[derive(Debug, clap::Args)]
pub struct Args {
    args: Vec<String>,
    #[command(flatten)]
    files: Files,
    #[command(flatten)]
    change: Change,
    /// Select all resources in the namespace of the specified resource types
    #[arg(long)]
    all: bool,
    /// If true, set selector will NOT contact api-server but run locally
    #[arg(long)]
    local: bool,
    /// The selector is changed only if this is the object's resource version
    #[arg(long, default_value = "", hide_default_value = true)]
    resource_version: String,
}

pub(crate) async fn run(session: &Session, args: &Args) -> Result<()> {
    let Some((text, resources)) = args.args.split_last() else {
        return fail("one selector is required");
    };
    if args.local && !resources.is_empty() {
        return fail(LOCAL);
    }
    if resources.is_empty() && args.files.is_empty() {
        return Err(nothing_meant());
    }
    let labels = labels(text)?;
    let changer = Changer::new(session, &args.change, MANAGER)?;
    let mut selection = Selection::new(resources);
    selection.files = Some(&args.files);
    selection.allow_all = args.all;
    (selection.latest, selection.local) = (!args.local, args.local);
    let (infos, mut errors) = selection.infos(session).await?;
    for mut info in infos {
        if !info.ty.is("", "Service") {
            errors.push(crate::error::message(
                "setting a selector is only supported for Services",
            ));
            continue;
        }
        let mut after = info.object.clone();
        after["spec"]["selector"] = labels.clone();
        if changer.is_local() || args.local {
            changer.tell_typed(&after, "selector updated")?;
            continue;
        }
        let Some(shape) = Shape::of("v1", "Service") else {
            return fail("Service is not supported");
        };
        let mut patch = two_way(&shape, &info.object, &after)?;
        if !args.resource_version.is_empty() {
            patch["metadata"]["resourceVersion"] = json!(args.resource_version);
        }
        match changer.patch(&mut info, STRATEGIC, &patch).await {
            Ok(()) => changer.tell_typed(&info.object, "selector updated")?,
            Err(error) => errors.push(error),
        }
    }
    all(errors)
}

/// Equalities only: a Service knows no other terms.
fn labels(text: &str) -> Result<Value> {
    let refuse = |why: String| fail(format!("couldn't parse the selector string \"{text}\": {why}"));
    if let Err(error) = api::selectors::LabelSelector::parse(text) {
        return refuse(error.to_string());
    }
    let mut labels = serde_json::Map::new();
    for term in text.split(',').filter(|t| !t.trim().is_empty()) {
        let pair = term.split_once("==").or_else(|| term.split_once('='));
        match pair.filter(|(key, _)| !key.trim().contains(['!', ' ', '('])) {
            Some((key, value)) => labels.insert(key.trim().to_owned(), json!(value.trim())),
            // a word alone asks for a label of any value
            None if !term.trim().contains(['!', ' ', '(', ',']) => {
                return fail(format!(
                    "match expression [{{{} Exists []}}] not supported on this object",
                    term.trim()
                ));
            }
            None => return fail(format!("match expression {term} not supported on this object")),
        };
    }
    Ok(Value::Object(labels))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_is_given_equalities() {
        assert_eq!(labels("a=b,c==d").unwrap(), json!({"a": "b", "c": "d"}));
        assert_eq!(labels("").unwrap(), json!({}));
        assert!(labels("a in (b)").is_err());
        assert!(labels("a!=b").is_err());
    }
}
