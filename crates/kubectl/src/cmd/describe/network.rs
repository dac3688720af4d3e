//! `describe` of ingresses, network policies and endpoints.

use serde_json::Value;

use super::service::endpoints;
use super::text::{Text, head, int, items, joined, list, or, selector, str_of};
use crate::print::go;
use crate::session::Session;

pub(crate) async fn ingress(session: &Session, w: &mut Text, ingress: &Value) {
    let (meta, spec) = (&ingress["metadata"], &ingress["spec"]);
    w.pair(0, "Name", str_of(&meta["name"]));
    w.labels("", "Labels", &meta["labels"]);
    w.pair(0, "Namespace", str_of(&meta["namespace"]));
    let mut addresses: Vec<&str> = items(&ingress["status"]["loadBalancer"]["ingress"])
        .map(|i| or(&i["ip"], str_of(&i["hostname"])))
        .filter(|a| !a.is_empty())
        .collect();
    addresses.sort_unstable();
    addresses.dedup();
    w.pair(0, "Address", &addresses.join(","));
    w.pair(0, "Ingress Class", or(&spec["ingressClassName"], "<none>"));
    let namespace = str_of(&meta["namespace"]);
    let default = match &spec["defaultBackend"] {
        Value::Null => "<default>".to_owned(),
        backend => self::backend(session, namespace, backend).await,
    };
    w.pair(0, "Default backend", &default);
    if items(&spec["tls"]).next().is_some() {
        w.line(0, "TLS:");
    }
    for tls in items(&spec["tls"]) {
        let hosts = joined(&tls["hosts"], ",");
        match str_of(&tls["secretName"]) {
            "" => w.line(1, &format!("SNI routes {hosts}")),
            secret => w.line(1, &format!("{secret} terminates {hosts}")),
        }
    }
    w.line(0, "Rules:");
    w.line(1, "Host\tPath\tBackends");
    w.line(1, "----\t----\t--------");
    let mut rules = items(&spec["rules"]).filter(|r| r["http"].is_object()).peekable();
    if rules.peek().is_none() {
        w.line(1, &format!("*\t*\t{default}"));
    }
    for rule in rules {
        w.line(1, &format!("{}\t", or(&rule["host"], "*")));
        for path in items(&rule["http"]["paths"]) {
            let backend = backend(session, namespace, &path["backend"]).await;
            w.line(2, &format!("\t{} \t{backend}", str_of(&path["path"])));
        }
    }
    w.annotations("Annotations", &meta["annotations"]);
}

/// `web:80 (10.1.0.5:80)`.
async fn backend(session: &Session, namespace: &str, backend: &Value) -> String {
    let service = &backend["service"];
    if !service.is_object() {
        let object = &backend["resource"];
        let group = or(&object["apiGroup"], "<none>");
        return format!(
            "APIGroup: {group}, Kind: {}, Name: {}",
            str_of(&object["kind"]),
            str_of(&object["name"])
        );
    }
    let (name, port) = (str_of(&service["name"]), &service["port"]);
    let called = match int(&port["number"]) {
        0 => str_of(&port["name"]).to_owned(),
        number => number.to_string(),
    };
    match ends(session, namespace, name, port).await {
        Ok(ends) => format!("{name}:{called} ({ends})"),
        Err(error) => format!("{name}:{called} (<error: {error}>)"),
    }
}

async fn ends(session: &Session, namespace: &str, name: &str, port: &Value) -> crate::error::Result<String> {
    let path = format!("/apis/discovery.k8s.io/v1/namespaces/{namespace}/endpointslices");
    let query = vec![("labelSelector", format!("kubernetes.io/service-name={name}"))];
    let slices = list(session, &path, query).await?;
    let service = session
        .api()?
        .get(&format!("/api/v1/namespaces/{namespace}/services/{name}"))
        .await?;
    let is_meant = |p: &&Value| match int(&port["number"]) {
        0 => port["name"] == p["name"],
        number => int(&p["port"]) == number,
    };
    // the last one counts, as upstream goes through all of them
    let port = items(&service["spec"]["ports"]).filter(is_meant).last();
    Ok(endpoints(&slices, port.map_or("", |p| str_of(&p["name"]))))
}

pub(crate) fn class(w: &mut Text, class: &Value) {
    w.pair(0, "Name", str_of(&class["metadata"]["name"]));
    w.labels("", "Labels", &class["metadata"]["labels"]);
    w.annotations("Annotations", &class["metadata"]["annotations"]);
    w.pair(0, "Controller", str_of(&class["spec"]["controller"]));
    let parameters = &class["spec"]["parameters"];
    if parameters.is_object() {
        w.line(0, "Parameters:");
        w.some(1, "APIGroup", &parameters["apiGroup"]);
        w.pair(1, "Kind", str_of(&parameters["kind"]));
        w.pair(1, "Name", str_of(&parameters["name"]));
    }
}

pub(crate) fn policy(w: &mut Text, policy: &Value) {
    let (meta, spec) = (&policy["metadata"], &policy["spec"]);
    w.pair(0, "Name", str_of(&meta["name"]));
    w.pair(0, "Namespace", str_of(&meta["namespace"]));
    w.pair(0, "Created on", &created(&meta["creationTimestamp"]));
    w.labels("", "Labels", &meta["labels"]);
    w.annotations("Annotations", &meta["annotations"]);
    w.line(0, "Spec:");
    // upstream indents what stands behind the title too
    match selector(&spec["podSelector"]).as_str() {
        "" => w.line(
            1,
            "PodSelector:     <none> (Allowing the specific traffic to all pods in this namespace)",
        ),
        pods => w.line(1, &format!("PodSelector:     {pods}")),
    }
    let types: Vec<&str> = items(&spec["policyTypes"]).map(str_of).collect();
    for (kind, field, end, word, preposition) in [
        ("Ingress", "ingress", "from", "From", "source"),
        ("Egress", "egress", "to", "To", "destination"),
    ] {
        if !types.contains(&kind) {
            w.line(1, &format!("Not affecting {field} traffic"));
            continue;
        }
        w.line(1, &format!("Allowing {field} traffic:"));
        let rules: Vec<&Value> = items(&spec[field]).collect();
        if rules.is_empty() {
            w.line(
                2,
                &format!("<none> (Selected pods are isolated for {field} connectivity)"),
            );
        }
        for (at, rule) in rules.iter().enumerate() {
            ports(w, &rule["ports"]);
            if items(&rule[end]).next().is_none() {
                w.line(2, &format!("{word}: <any> (traffic not restricted by {preposition})"));
            }
            for peer in items(&rule[end]) {
                w.line(2, &format!("{word}:"));
                self::peer(w, peer);
            }
            if at + 1 < rules.len() {
                w.line(2, "----------");
            }
        }
    }
    let types = types.join(", ");
    w.line(
        1,
        &format!("Policy Types: {}", if types.is_empty() { "<none>" } else { &types }),
    );
}

/// `2026-11-21 01:02:03 +0000 UTC`, in the zone of the machine.
fn created(at: &Value) -> String {
    match str_of(at).parse::<jiff::Timestamp>() {
        Ok(at) => at
            .to_zoned(jiff::tz::TimeZone::system())
            .strftime("%Y-%m-%d %H:%M:%S %z %Z")
            .to_string(),
        Err(_) => "0001-01-01 00:00:00 +0000 UTC".to_owned(),
    }
}

fn ports(w: &mut Text, ports: &Value) {
    if items(ports).next().is_none() {
        w.line(2, "To Port: <any> (traffic allowed to all ports)");
    }
    for port in items(ports) {
        let protocol = or(&port["protocol"], "TCP");
        let number = match &port["port"] {
            Value::Null => "<nil>".to_owned(),
            number => go::sprint(number),
        };
        match port["endPort"].as_i64() {
            None => w.line(2, &format!("To Port: {number}/{protocol}")),
            Some(end) => w.line(2, &format!("To Port Range: {number}-{end}/{protocol}")),
        }
    }
}

fn peer(w: &mut Text, peer: &Value) {
    let shown = |tree: &Value| match selector(tree) {
        text if text.is_empty() => "<none>".to_owned(),
        text => text,
    };
    let block = &peer["ipBlock"];
    for (title, field) in [
        ("NamespaceSelector", "namespaceSelector"),
        ("PodSelector", "podSelector"),
    ] {
        if peer[field].is_object() {
            w.line(3, &format!("{title}: {}", shown(&peer[field])));
        }
    }
    if block.is_object() {
        w.line(3, "IPBlock:");
        w.line(4, &format!("CIDR: {}", str_of(&block["cidr"])));
        w.line(4, &format!("Except: {}", joined(&block["except"], ", ")));
    }
}

pub(crate) fn endpoint_lists(w: &mut Text, object: &Value) {
    head(w, object);
    w.line(0, "Subsets:");
    for subset in items(&object["subsets"]) {
        for (title, field) in [("Addresses", "addresses"), ("NotReadyAddresses", "notReadyAddresses")] {
            let list: Vec<&str> = items(&subset[field]).map(|a| str_of(&a["ip"])).collect();
            w.pair(
                1,
                title,
                if list.is_empty() {
                    "<none>".to_owned()
                } else {
                    list.join(",")
                }
                .as_str(),
            );
        }
        if items(&subset["ports"]).next().is_some() {
            w.line(1, "Ports:");
            port_table(w, 2, &subset["ports"]);
        }
        w.line(0, "");
    }
}

fn port_table(w: &mut Text, depth: usize, ports: &Value) {
    w.line(depth, "Name\tPort\tProtocol");
    w.line(depth, "----\t----\t--------");
    for port in items(ports) {
        let number = match &port["port"] {
            Value::Null => "<unset>".to_owned(),
            number => number.to_string(),
        };
        w.line(
            depth,
            &format!(
                "{}\t{number}\t{}",
                or(&port["name"], "<unset>"),
                str_of(&port["protocol"])
            ),
        );
    }
}

pub(crate) fn slice(w: &mut Text, slice: &Value) {
    head(w, slice);
    w.pair(0, "AddressType", str_of(&slice["addressType"]));
    if items(&slice["ports"]).next().is_none() {
        w.line(0, "Ports: <unset>");
    } else {
        w.line(0, "Ports:");
        port_table(w, 1, &slice["ports"]);
    }
    if items(&slice["endpoints"]).next().is_none() {
        w.line(0, "Endpoints: <none>");
        return;
    }
    w.line(0, "Endpoints:");
    for endpoint in items(&slice["endpoints"]) {
        let addresses = match joined(&endpoint["addresses"], ", ") {
            text if text.is_empty() => "<none>".to_owned(),
            text => text,
        };
        w.pair(1, "- Addresses", &addresses);
        w.line(2, "Conditions:");
        let ready = &endpoint["conditions"]["ready"];
        w.pair(
            3,
            "Ready",
            &ready.as_bool().map_or("<unset>".to_owned(), |r| r.to_string()),
        );
        w.pair(2, "Hostname", or(&endpoint["hostname"], "<unset>"));
        let target = &endpoint["targetRef"];
        if target.is_object() {
            let kind = str_of(&target["kind"]);
            w.pair(2, "TargetRef", &format!("{kind}/{}", str_of(&target["name"])));
        }
        w.pair(2, "NodeName", or(&endpoint["nodeName"], "<unset>"));
        w.pair(2, "Zone", or(&endpoint["zone"], "<unset>"));
    }
}
