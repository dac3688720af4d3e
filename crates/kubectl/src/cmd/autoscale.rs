//! `autoscale`: an autoscaler for a workload.

use api::quantity::Quantity;
use serde_json::{Value, json};

use crate::change::Changer;
use crate::cmd::apply::record;
use crate::discovery::ResourceType;
use crate::error::{Result, all, fail, message};
use crate::flags::{Change, Files};
use crate::select::{Info, Selection};
use crate::session::Session;

/// Auto-scale a deployment, replica set, stateful set, or replication controller
#[derive(Debug, clap::Args)]
pub struct Args {
    args: Vec<String>,
    #[command(flatten)]
    files: Files,
    #[command(flatten)]
    change: Change,
    /// The lower limit for the number of pods; the server has a default
    #[arg(long, default_value_t = -1, allow_negative_numbers = true, hide_default_value = true)]
    min: i32,
    /// The upper limit for the number of pods. Required.
    #[arg(long, required = true, allow_negative_numbers = true)]
    max: i32,
    /// The average CPU utilization to aim at, in percent of what is requested. Use --cpu.
    #[arg(long, default_value_t = -1, allow_negative_numbers = true, hide = true)]
    cpu_percent: i32,
    /// CPU to aim at: a percentage of what is requested, or a quantity (500 is 500m)
    #[arg(long)]
    cpu: Option<String>,
    /// Memory to aim at: a percentage of what is requested, or a quantity (200 is 200Mi)
    #[arg(long)]
    memory: Option<String>,
    /// The name of the new object; that of the workload if not given
    #[arg(long)]
    name: Option<String>,
    /// If true, the configuration of current object will be saved in its annotation
    #[arg(long)]
    save_config: bool,
}

pub(crate) async fn run(session: &Session, args: &Args) -> Result<()> {
    if args.cpu_percent != -1 {
        session.warn("Flag --cpu-percent has been deprecated, Use --cpu with percentage or resource quantity format (e.g., '70%' for utilization or '500m' for milliCPU).");
    }
    let changer = Changer::new(session, &args.change, "kubectl-autoscale")?;
    if args.max < 1 {
        return fail(format!(
            "--max=MAXPODS is required and must be at least 1, max: {}",
            args.max
        ));
    }
    if args.max < args.min {
        return fail(format!(
            "--max=MAXPODS must be larger or equal to --min=MINPODS, max: {}, min: {}",
            args.max, args.min
        ));
    }
    let metrics = metrics(args)?;
    let mut selection = Selection::new(&args.args);
    selection.files = Some(&args.files);
    let (infos, mut errors) = selection.infos(session).await?;
    if infos.is_empty() && errors.is_empty() {
        return fail("no objects passed to autoscale");
    }
    for info in infos {
        if let Err(error) = autoscale(session, args, &changer, &metrics, &info).await {
            errors.push(error);
        }
    }
    all(errors)
}

async fn autoscale(
    session: &Session,
    args: &Args,
    changer: &Changer<'_>,
    metrics: &[Value],
    info: &Info,
) -> Result<()> {
    let ty = &info.ty;
    if !ty.subresources.iter().any(|s| s == "scale") {
        return Err(message(format!(
            "cannot autoscale a {}: could not find scale subresource for {}, Resource={} in discovery information",
            ty.kind,
            // Go prints a version with its group
            if ty.group.is_empty() {
                format!("/{}", ty.version)
            } else {
                ty.api_version()
            },
            ty.plural
        )));
    }
    let mut object = autoscaler(args, metrics, info);
    if session.explicit_namespace() {
        object["metadata"]["namespace"] = json!(session.namespace()?);
    }
    if changer.is_local() {
        return changer.tell_typed(&object, "created");
    }
    if args.save_config {
        record(&mut object)?;
    }
    let ty = ResourceType {
        plural: "horizontalpodautoscalers".to_owned(),
        namespaced: true,
        ..ResourceType::named("autoscaling/v2", "HorizontalPodAutoscaler")
    };
    let mut created = Info::of(&std::sync::Arc::new(ty), object);
    created.namespace = session.namespace()?;
    changer.create(&mut created).await?;
    changer.tell_typed(&created.object, "autoscaled")
}

fn autoscaler(args: &Args, metrics: &[Value], info: &Info) -> Value {
    let mut object = json!({
        "apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler",
        "metadata": {"name": args.name.as_ref().unwrap_or(&info.name)},
        "spec": {
            "scaleTargetRef": {"kind": info.ty.kind, "name": info.name, "apiVersion": info.ty.api_version()},
            "maxReplicas": args.max,
        },
        "status": {"desiredReplicas": 0, "currentMetrics": null},
    });
    if args.min > 0 {
        object["spec"]["minReplicas"] = json!(args.min);
    }
    if !metrics.is_empty() {
        object["spec"]["metrics"] = json!(metrics);
    }
    object
}

fn metrics(args: &Args) -> Result<Vec<Value>> {
    let mut found = Vec::new();
    if args.cpu_percent > 0 {
        if args.cpu.as_deref().is_some_and(|c| !c.is_empty()) {
            return fail("--cpu-percent and --cpu are mutually exclusive");
        }
        found.push(metric(
            "cpu",
            &json!({"type": "Utilization", "averageUtilization": args.cpu_percent}),
        ));
    }
    for (resource, unit, text) in [("cpu", "m", &args.cpu), ("memory", "Mi", &args.memory)] {
        if let Some(text) = text.as_deref().filter(|t| !t.is_empty()) {
            found.push(metric(resource, &target(resource, unit, text.trim())?));
        }
    }
    Ok(found)
}

fn metric(name: &str, target: &Value) -> Value {
    json!({"type": "Resource", "resource": {"name": name, "target": target}})
}

/// `70%` is of what is requested; a bare number has the resource's usual unit.
fn target(resource: &str, unit: &str, text: &str) -> Result<Value> {
    if text.is_empty() {
        return fail("empty input");
    }
    if let Some(percent) = text.strip_suffix('%') {
        return match percent.parse::<i32>() {
            Ok(value) if value >= 0 => Ok(json!({"type": "Utilization", "averageUtilization": value})),
            _ => fail(format!("invalid percentage value: {percent}")),
        };
    }
    let quantity = match text.parse::<f64>() {
        Ok(number) => format!("{}{unit}", crate::print::go::float(number))
            .parse::<Quantity>()
            .map_err(|e| message(e.to_string()))?,
        Err(_) => text
            .parse::<Quantity>()
            .map_err(|_| message(format!("invalid resource {resource} value: {text}")))?,
    };
    Ok(json!({"type": "AverageValue", "averageValue": quantity.to_string()}))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_are_percentages_or_quantities() {
        let value = |text: &str| target("cpu", "m", text).unwrap();
        assert_eq!(value("70%"), json!({"type": "Utilization", "averageUtilization": 70}));
        assert_eq!(value("500"), json!({"type": "AverageValue", "averageValue": "500m"}));
        assert_eq!(value("2"), json!({"type": "AverageValue", "averageValue": "2m"}));
        assert_eq!(value("1"), json!({"type": "AverageValue", "averageValue": "1m"}));
        assert!(target("cpu", "m", "x").is_err());
        assert!(target("cpu", "m", "-1%").is_err());
    }
}
