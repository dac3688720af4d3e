//! `certificate approve` and `deny`: what becomes of a request for a certificate.

use http::Method;
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::api::Call;
use crate::change::Changer;
use crate::cmd::describe::{items, str_of};
use crate::error::{Result, all, fail};
use crate::flags::{Change, Files, Output};
use crate::print::go::quote;
use crate::select::{Info, Selection};
use crate::session::Session;

/// How often a write is tried that others come before.
const TRIES: usize = 11;

/// Modify certificate resources
#[derive(Debug, clap::Args)]
#[command(arg_required_else_help = true)]
pub struct Args {
    #[command(subcommand)]
    sub: Sub,
}

#[derive(Debug, clap::Subcommand)]
enum Sub {
    /// Approve a certificate signing request
    Approve(Flags),
    /// Deny a certificate signing request
    Deny(Flags),
}

#[derive(Debug, clap::Args)]
struct Flags {
    names: Vec<String>,
    #[command(flatten)]
    files: Files,
    #[command(flatten)]
    output: Output,
    /// Write the decision even if it has been made already
    #[arg(long)]
    force: bool,
}

/// A condition of a request, and the one that excludes it.
struct Decision {
    condition: &'static str,
    excluded_by: &'static str,
    reason: &'static str,
    message: &'static str,
    told: &'static str,
}

const APPROVAL: Decision = Decision {
    condition: "Approved",
    excluded_by: "Denied",
    reason: "KubectlApprove",
    message: "This CSR was approved by kubectl certificate approve.",
    told: "approved",
};

const DENIAL: Decision = Decision {
    condition: "Denied",
    excluded_by: "Approved",
    reason: "KubectlDeny",
    message: "This CSR was denied by kubectl certificate deny.",
    told: "denied",
};

pub(crate) async fn run(session: &Session, args: &Args) -> Result<()> {
    let (flags, decision) = match &args.sub {
        Sub::Approve(flags) => (flags, &APPROVAL),
        Sub::Deny(flags) => (flags, &DENIAL),
    };
    let change = Change {
        output: flags.output.clone(),
        ..Change::default()
    };
    let changer = Changer::new(session, &change, "")?;
    if flags.names.is_empty() && flags.files.is_empty() {
        return fail("one or more CSRs must be specified as <name> or -f <filename>");
    }
    let named: Vec<String> = flags
        .names
        .iter()
        .map(|name| match name.contains('/') {
            true => name.clone(),
            false => format!("certificatesigningrequests/{name}"),
        })
        .collect();
    let mut selection = Selection::new(&named);
    selection.files = Some(&flags.files);
    selection.latest = true;
    let (infos, mut errors) = selection.infos(session).await?;
    if infos.is_empty() && errors.is_empty() {
        session.println("No resources found")?;
    }
    for info in infos {
        match decide(session, flags.force, decision, &info).await {
            Ok(()) => changer.tell(&info.object, decision.told)?,
            Err(error) => errors.push(error),
        }
    }
    all(errors)
}

async fn decide(session: &Session, force: bool, decision: &Decision, info: &Info) -> Result<()> {
    if !info.ty.is("certificates.k8s.io", "CertificateSigningRequest") {
        return fail(format!(
            "can only handle CertificateSigningRequest.certificates.k8s.io objects, got {}",
            super::rollout::group_kind(info)
        ));
    }
    let api = session.api()?;
    let path = format!("/apis/certificates.k8s.io/v1/certificatesigningrequests/{}", info.name);
    for tried in 1.. {
        let mut request = api.get(&path).await?;
        let made = add(&mut request, decision)?;
        if made && !force {
            return Ok(());
        }
        let call = Call::new(Method::PUT, format!("{path}/approval")).json(&request);
        match api.json(&call).await {
            Err(error) if error.is_conflict() && tried < TRIES => {}
            other => return other.map(drop),
        }
    }
    Ok(())
}

/// Adds the condition; true where it was there.
fn add(request: &mut Value, decision: &Decision) -> Result<bool> {
    for condition in items(&request["status"]["conditions"]) {
        let kind = str_of(&condition["type"]);
        if kind == decision.excluded_by {
            let name = quote(str_of(&request["metadata"]["name"]));
            return fail(format!("certificate signing request {name} is already {kind}"));
        }
        if kind == decision.condition {
            return Ok(true);
        }
    }
    let now = Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
    let condition = json!({"type": decision.condition, "status": "True", "reason": decision.reason,
        "message": decision.message, "lastUpdateTime": now});
    match request["status"]["conditions"].as_array_mut() {
        Some(list) => list.push(condition),
        None => request["status"]["conditions"] = json!([condition]),
    }
    Ok(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_decision_is_made_once_and_never_against_the_other() {
        let mut request = json!({"metadata": {"name": "r"}, "status": {}});
        assert!(!add(&mut request, &APPROVAL).unwrap());
        assert!(add(&mut request, &APPROVAL).unwrap());
        let error = add(&mut request, &DENIAL).unwrap_err();
        assert_eq!(
            error.to_string(),
            "certificate signing request \"r\" is already Approved"
        );
    }
}
