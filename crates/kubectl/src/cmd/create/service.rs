//! `create service` and `create ingress`.

use serde_json::{Map, Value, json};

use super::{Common, Draft, name_of};
use crate::error::{Result, fail, message};
use crate::session::Session;

/// Create a service using a specified subcommand
#[derive(Debug, clap::Args)]
pub struct Service {
    #[command(subcommand)]
    sub: Sub,
}

#[derive(Debug, clap::Subcommand)]
enum Sub {
    /// Create a ClusterIP service
    #[command(name = "clusterip")]
    ClusterIp(Flags),
    /// Create a NodePort service
    #[command(name = "nodeport")]
    NodePort(Flags),
    /// Create a LoadBalancer service
    #[command(name = "loadbalancer")]
    LoadBalancer(Flags),
    /// Create an ExternalName service
    #[command(name = "externalname")]
    ExternalName(Flags),
}

#[derive(Debug, clap::Args)]
struct Flags {
    names: Vec<String>,
    /// Port pairs can be specified as '<port>:<targetPort>'
    #[arg(long, value_delimiter = ',')]
    tcp: Vec<String>,
    /// Assign your own ClusterIP or set to 'None' for a 'headless' service
    #[arg(long)]
    clusterip: Option<String>,
    /// Port used to expose the service on each node in a cluster
    #[arg(long)]
    node_port: Option<u16>,
    /// External name of service
    #[arg(long)]
    external_name: Option<String>,
    #[command(flatten)]
    common: Common,
}

/// Create an ingress with the specified name
#[derive(Debug, clap::Args)]
pub struct Ingress {
    names: Vec<String>,
    /// Ingress Class to be used
    #[arg(long)]
    class: Option<String>,
    /// Rule in format host/path=service:port[,tls=secretname]
    #[arg(long)]
    rule: Vec<String>,
    /// Annotation to insert in the ingress object, in the format annotation=value
    #[arg(long)]
    annotation: Vec<String>,
    /// Default service for backend, in format of svcname:port
    #[arg(long)]
    default_backend: Option<String>,
    #[command(flatten)]
    pub common: Common,
}

/// `80:8080` or `80`; the name is made of the numbers.
fn port(text: &str) -> Result<Value> {
    let (number, target) = text.split_once(':').map_or((text, None), |(n, t)| (n, Some(t)));
    let number: u16 = number.parse().map_err(|e: std::num::ParseIntError| {
        message(format!(
            "strconv.ParseUint: parsing {}: {}",
            crate::print::go::quote(number),
            go_words(&e)
        ))
    })?;
    let target = match target {
        None => json!(number),
        Some(text) => match text.parse::<u16>() {
            Ok(n) => json!(n),
            Err(_) => json!(text),
        },
    };
    let name = text.replace(':', "-");
    Ok(json!({"name": name, "port": number, "protocol": "TCP", "targetPort": target}))
}

fn go_words(error: &std::num::ParseIntError) -> &'static str {
    match error.kind() {
        std::num::IntErrorKind::PosOverflow | std::num::IntErrorKind::NegOverflow => "value out of range",
        _ => "invalid syntax",
    }
}

impl Service {
    pub(crate) fn draft(&self, session: &Session) -> Result<(Draft, &Common)> {
        let (kind, flags) = match &self.sub {
            Sub::ClusterIp(f) => ("ClusterIP", f),
            Sub::NodePort(f) => ("NodePort", f),
            Sub::LoadBalancer(f) => ("LoadBalancer", f),
            Sub::ExternalName(f) => ("ExternalName", f),
        };
        let name = name_of(session, &flags.names)?;
        let headless = flags.clusterip.as_deref() == Some("None");
        if headless && kind != "ClusterIP" {
            return fail("ClusterIP=None can only be used with ClusterIP service type");
        }
        if !headless && flags.tcp.is_empty() && kind != "ExternalName" {
            return fail("at least one tcp port specifier must be provided");
        }
        let mut ports: Vec<Value> = flags.tcp.iter().map(|t| port(t)).collect::<Result<_>>()?;
        if let Some(node_port) = flags.node_port.filter(|p| *p > 0) {
            for port in &mut ports {
                port["nodePort"] = json!(node_port);
            }
        }
        let mut spec = json!({"type": kind, "selector": {"app": name}});
        if !ports.is_empty() {
            spec["ports"] = Value::Array(ports);
        }
        if let Some(ip) = &flags.clusterip {
            spec["clusterIP"] = json!(ip);
        }
        if kind == "ExternalName" {
            let Some(external) = &flags.external_name else {
                return fail("required flag(s) \"external-name\" not set");
            };
            spec["externalName"] = json!(external);
        }
        let draft = Draft {
            object: json!({
                "apiVersion": "v1", "kind": "Service", "metadata": {"name": name, "labels": {"app": name}},
                "spec": spec, "status": {"loadBalancer": {}},
            }),
            plural: "services",
            namespaced: true,
            called: format!("{kind} service"),
        };
        Ok((draft, &flags.common))
    }
}

/// `service:port`, the port a number or a name.
fn backend(text: &str) -> Option<Value> {
    let mut parts = text.split(':');
    // what follows a second colon is nobody's
    let (service, port) = (parts.next()?, parts.next()?);
    let port = match port.parse::<u16>() {
        Ok(number) => json!({"number": number}),
        Err(_) => json!({"name": port}),
    };
    Some(json!({"service": {"name": service, "port": port}}))
}

impl Ingress {
    pub(crate) fn draft(&self, session: &Session) -> Result<Draft> {
        let name = name_of(session, &self.names)?;
        if self.default_backend.is_none() && self.rule.is_empty() {
            return fail(
                "not enough information provided: every ingress has to either specify a default-backend (which catches all traffic) or a list of rules (which catch specific paths)",
            );
        }
        let mut spec = json!({});
        if let Some(class) = &self.class {
            spec["ingressClassName"] = json!(class);
        }
        if let Some(text) = &self.default_backend {
            let found = backend(text);
            spec["defaultBackend"] =
                found.ok_or_else(|| message("default-backend should be in format servicename:serviceport"))?;
        }
        let mut rules: Vec<(String, Vec<Value>)> = Vec::new();
        let mut tls: Vec<Value> = Vec::new();
        for text in &self.rule {
            let invalid = || {
                message(format!(
                    "rule {text} is invalid and should be in format host/path=svcname:svcport[,tls[=secret]]"
                ))
            };
            let (place, target) = text.split_once('=').ok_or_else(invalid)?;
            let (host, path) = place.split_once('/').ok_or_else(invalid)?;
            let (service, secret) = target.split_once(',').map_or((target, None), |(s, t)| (s, Some(t)));
            let (path, kind) = match path.strip_suffix('*') {
                Some(prefix) => (prefix, "Prefix"),
                None => (path, "Exact"),
            };
            let entry =
                json!({"path": format!("/{path}"), "pathType": kind, "backend": backend(service).ok_or_else(invalid)?});
            match rules.iter_mut().find(|(h, _)| h == host) {
                Some((_, paths)) => paths.push(entry),
                None => rules.push((host.to_owned(), vec![entry])),
            }
            if let Some(secret) = secret {
                let mut one = Map::new();
                if !host.is_empty() {
                    one.insert("hosts".to_owned(), json!([host]));
                }
                if let Some((_, secret)) = secret.split_once('=') {
                    one.insert("secretName".to_owned(), json!(secret));
                }
                tls.push(Value::Object(one));
            }
        }
        if !rules.is_empty() {
            let rule = |(host, paths): (String, Vec<Value>)| {
                let mut rule = json!({"http": {"paths": paths}});
                if !host.is_empty() {
                    rule["host"] = json!(host);
                }
                rule
            };
            spec["rules"] = rules.into_iter().map(rule).collect();
        }
        if !tls.is_empty() {
            spec["tls"] = Value::Array(tls);
        }
        let mut object = json!({
            "apiVersion": "networking.k8s.io/v1", "kind": "Ingress", "metadata": {"name": name},
            "spec": spec, "status": {"loadBalancer": {}},
        });
        for text in &self.annotation {
            let Some((key, value)) = text.split_once('=') else {
                return fail(format!(
                    "annotation {text} is invalid and should be in format key=[value]"
                ));
            };
            object["metadata"]["annotations"][key] = json!(value);
        }
        Ok(Draft {
            object,
            plural: "ingresses",
            namespaced: true,
            called: "ingress".to_owned(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_named_after_their_numbers() {
        assert_eq!(port("80:90").unwrap()["name"], "80-90");
        assert_eq!(port("80").unwrap()["targetPort"], 80);
        assert_eq!(
            port("80:http").unwrap(),
            json!({"name": "80-http", "port": 80, "protocol": "TCP", "targetPort": "http"})
        );
        assert!(port("x").is_err());
    }
}
