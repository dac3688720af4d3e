//! NetworkPolicy.

use api::names;
use serde_json::Value;

use crate::kinds::columns::{AGE, BuiltinColumn, NAME, selector_text};
use crate::kinds::rules::{cidr, label_selector, one_of_or_none, port_number, problems, require};
use crate::kinds::warnings::{field, items, subnet};
use crate::kinds::{Check, Cursor, Errors, Generation, Kind};

pub(in crate::kinds) const KIND: Kind = Kind {
    generation: Generation::Counted,
    warn: |told, new, _| warn(told, new),
    columns: COLUMNS,
    ..Kind::plain("networking.k8s.io", "networkpolicies", validate)
};

fn warn(told: &mut Vec<String>, policy: &Value) {
    for (rules, peers) in [("ingress", "from"), ("egress", "to")] {
        for (i, rule) in items(policy["spec"].get(rules)).iter().enumerate() {
            for (j, peer) in items(rule.get(peers)).iter().enumerate() {
                let block = &peer["ipBlock"];
                let at = |rest: &str| format!("spec.{rules}[{i}].{peers}[{j}].ipBlock.{rest}");
                subnet(told, field(block, "cidr"), || at("cidr"));
                for (k, except) in items(block.get("except")).iter().enumerate() {
                    let except = except.as_str().unwrap_or_default();
                    subnet(told, except, || at(&format!("except[{k}]")));
                }
            }
        }
    }
}

const COLUMNS: &[BuiltinColumn] = &[
    NAME,
    ("Pod-Selector", "string", 0, |p| {
        selector_text(p, "/spec/podSelector", "<none>")
    }),
    AGE,
];

fn validate(check: &Check) -> Errors {
    let mut errors = Errors::new();
    let spec = check.root().get("spec");
    let old = check.before().map(|o| o.get("spec"));
    let were = old.as_ref().map(blocks).unwrap_or_default();
    label_selector(&mut errors, &spec.get("podSelector"));
    for (list, peers) in [("ingress", "from"), ("egress", "to")] {
        for rule in spec.get(list).items() {
            for port in rule.get("ports").items() {
                policy_port(&mut errors, &port);
            }
            for peer in rule.get(peers).items() {
                policy_peer(&mut errors, &peer, &were);
            }
        }
    }
    let types = spec.get("policyTypes");
    if types.list().len() > 2 {
        errors.push(types.invalid("may not specify more than two policyTypes"));
        return errors;
    }
    for kind in types.items() {
        one_of_or_none(&mut errors, &kind, &["Ingress", "Egress"]);
    }
    errors
}

/// Every network that a policy names.
fn blocks<'a>(spec: &Cursor<'a>) -> Vec<&'a str> {
    let mut out = Vec::new();
    for (list, peers) in [("ingress", "from"), ("egress", "to")] {
        for peer in spec.get(list).items().flat_map(|rule| rule.get(peers).items()) {
            let block = peer.get("ipBlock");
            out.push(block.get("cidr").text());
            out.extend(block.get("except").items().map(|e| e.text()));
        }
    }
    out
}

fn policy_port(errors: &mut Errors, port: &Cursor) {
    let protocol = port.get("protocol");
    one_of_or_none(errors, &protocol, &["TCP", "UDP", "SCTP"]);
    let (number, end) = (port.get("port"), port.get("endPort"));
    match number.value {
        Value::Null => {
            if end.is_some() {
                errors.push(end.invalid("may not be specified when `port` is not specified"));
            }
        }
        Value::String(name) => {
            if end.is_some() {
                errors.push(end.invalid("may not be specified when `port` is non-numeric"));
            }
            problems(errors, &number, names::port_name_errors(name));
        }
        _ => {
            port_number(errors, &number);
            if end.is_some() {
                if end.int() < number.int() {
                    errors.push(end.invalid("must be greater than or equal to `port`"));
                }
                port_number(errors, &end);
            }
        }
    }
}

fn policy_peer(errors: &mut Errors, peer: &Cursor, were: &[&str]) {
    let [pods, namespaces, block] = ["podSelector", "namespaceSelector", "ipBlock"].map(|f| peer.get(f));
    for selector in [&pods, &namespaces] {
        label_selector(errors, selector);
    }
    if block.is_some() {
        ip_block(errors, &block, were);
    }
    if !pods.is_some() && !namespaces.is_some() && !block.is_some() {
        errors.push(peer.required("must specify a peer"));
    } else if block.is_some() && (pods.is_some() || namespaces.is_some()) {
        errors.push(peer.forbidden("may not specify both ipBlock and another peer"));
    }
}

fn ip_block(errors: &mut Errors, block: &Cursor, were: &[&str]) {
    let whole = block.get("cidr");
    if !require(errors, &whole) {
        return;
    }
    cidr(errors, &whole, were);
    let Some((base, bits)) = network(whole.text()) else {
        return;
    };
    for except in block.get("except").items() {
        cidr(errors, &except, were);
        let Some((address, inner)) = network(except.text()) else {
            continue;
        };
        let shift = 128 - bits;
        let same = shift == 128 || address >> shift == base >> shift;
        if !same || bits >= inner {
            errors.push(except.invalid("must be a strict subset of `cidr`"));
        }
    }
}

/// A network as a number of 128 bits and how many of them are its own; IPv4 stands apart from all IPv6.
fn network(text: &str) -> Option<(u128, u32)> {
    let (address, bits) = text.split_once('/')?;
    let bits: u32 = bits.parse().ok()?;
    match address.parse().ok()? {
        std::net::IpAddr::V4(v4) if bits <= 32 => Some((u128::from(v4.to_ipv6_mapped()), bits + 96)),
        std::net::IpAddr::V6(v6) if bits <= 128 => Some((u128::from(v6), bits)),
        _ => None,
    }
}
