//! What warnings of many kinds have in common. The words are those of upstream's strategies; paths are made only for what is told.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use api::quantity::Quantity;
use serde_json::Value;

use crate::kinds::cursor::quantity;
use crate::tree::text;

/// Whether what the object asks for is new.
pub fn changed(new: &Value, old: Option<&Value>) -> bool {
    let generation = |object: &Value| object["metadata"]["generation"].as_i64();
    old.is_none_or(|old| generation(new) != generation(old))
}

/// The items of a list, none where there is no list.
pub fn items(list: Option<&Value>) -> &[Value] {
    list.and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

/// The keys of a map.
pub fn keys(map: Option<&Value>) -> impl Iterator<Item = &str> {
    map.and_then(Value::as_object)
        .into_iter()
        .flat_map(|map| map.keys().map(String::as_str))
}

/// A text field, empty where it is absent.
pub fn field<'a>(tree: &'a Value, key: &str) -> &'a str {
    tree.get(key).and_then(Value::as_str).unwrap_or_default()
}

/// Whether the field is there and not null.
pub fn has(tree: &Value, key: &str) -> bool {
    tree.get(key).is_some_and(|value| !value.is_null())
}

/// `base.rest`, or `rest` at the root.
pub fn join(base: &str, rest: &str) -> String {
    match base {
        "" => rest.to_owned(),
        base => format!("{base}.{rest}"),
    }
}

/// An amount of bytes that is not whole, as it would be written.
pub fn fraction(amounts: Option<&Value>, name: &str) -> Option<String> {
    let amount: Quantity = quantity(amounts?.get(name)?)?;
    (amount.milli_value() % 1000 != 0).then(|| {
        format!(
            "fractional byte value {:?} is invalid, must be an integer",
            amount.to_string()
        )
    })
}

/// What is to be said of a label of nodes that has a successor.
pub fn deprecated_label(key: &str) -> Option<&'static str> {
    Some(match key {
        "beta.kubernetes.io/arch" => "deprecated since v1.14; use \"kubernetes.io/arch\" instead",
        "beta.kubernetes.io/os" => "deprecated since v1.14; use \"kubernetes.io/os\" instead",
        "failure-domain.beta.kubernetes.io/region" => {
            "deprecated since v1.17; use \"topology.kubernetes.io/region\" instead"
        }
        "failure-domain.beta.kubernetes.io/zone" => {
            "deprecated since v1.17; use \"topology.kubernetes.io/zone\" instead"
        }
        "beta.kubernetes.io/instance-type" => {
            "deprecated since v1.17; use \"node.kubernetes.io/instance-type\" instead"
        }
        "app.kubernetes.io/created-by" => "deprecated since v1.9",
        "scheduler.alpha.kubernetes.io/preferAvoidPods" => "deprecated since v1.22; use Taints and Tolerations instead",
        "node-role.kubernetes.io/master" => "use \"node-role.kubernetes.io/control-plane\" instead",
        _ => return None,
    })
}

/// What is to be said of the expressions of one node selector term; of values where labels are only preferred.
pub fn selector_term(told: &mut Vec<String>, term: &Value, values: bool, at: impl Fn() -> String) {
    for (i, expression) in items(term.get("matchExpressions")).iter().enumerate() {
        let key = field(expression, "key");
        if let Some(why) = deprecated_label(key) {
            told.push(format!("{}.matchExpressions[{i}].key: {key} is {why}", at()));
        }
        let given = items(expression.get("values")).iter().filter(|_| values);
        for (j, value) in given.enumerate() {
            let value = value.as_str().unwrap_or_default();
            for why in api::names::label_value_errors(value) {
                told.push(format!(
                    "{}.matchExpressions[{i}].values[{j}]: {value} is invalid, {why}",
                    at()
                ));
            }
        }
    }
}

/// An IPv6 address that is not written as programs write it. Whatever else could be wrong with an address is refused.
pub fn address(told: &mut Vec<String>, text: &str, at: impl Fn() -> String) {
    if let Some(plain) = nonstandard(text) {
        told.push(format!(
            "{}: non-standard IP address {text:?} is invalid: use \"{plain}\"",
            at()
        ));
    } else if let Ok(ip) = text.parse::<Ipv6Addr>()
        && ip.to_string() != text
    {
        told.push(format!(
            "{}: IPv6 address {text:?} should be in RFC 5952 canonical format ({:?})",
            at(),
            ip.to_string()
        ));
    }
}

/// The standard form of an IPv4 address with leading zeros, or in the form of an IPv6 address: others read these otherwise.
fn nonstandard(text: &str) -> Option<Ipv4Addr> {
    if let Ok(ip) = text.parse::<Ipv6Addr>() {
        return ip.to_ipv4_mapped();
    }
    let parts: Vec<u8> = text.split('.').map(str::parse).collect::<Result<_, _>>().ok()?;
    let parts: [u8; 4] = parts.try_into().ok()?;
    let ip = Ipv4Addr::from(parts);
    (ip.to_string() != text).then_some(ip)
}

/// The same for a subnet, which may also be an address with a length.
pub fn subnet(told: &mut Vec<String>, text: &str, at: impl Fn() -> String) {
    let Some((address, length)) = text.split_once('/') else {
        return;
    };
    let plain = nonstandard(address);
    let ip = address.parse::<IpAddr>().ok().or(plain.map(IpAddr::V4));
    let (Some(ip), Ok(bits)) = (ip, length.parse::<u32>()) else {
        return;
    };
    let all = if ip.is_ipv6() { 128 } else { 32 };
    if bits > all {
        return;
    }
    let net = match ip {
        IpAddr::V4(ip) => IpAddr::V4((u32::from(ip) & u32::MAX.checked_shl(32 - bits).unwrap_or(0)).into()),
        IpAddr::V6(ip) => IpAddr::V6((u128::from(ip) & u128::MAX.checked_shl(128 - bits).unwrap_or(0)).into()),
    };
    // an IPv4 address in the form of an IPv6 one is shown as what it is
    let shown = match net.to_canonical() {
        IpAddr::V4(short) if net.is_ipv6() => format!("{short}/{}", bits.saturating_sub(96)),
        _ => format!("{net}/{bits}"),
    };
    let before = told.len();
    if ip != net {
        let single = format!("{}/{all}", ip.to_canonical());
        told.push(format!(
            "{}: CIDR value {text:?} is ambiguous in this context (should be {shown:?} or {single:?}?)",
            at()
        ));
    }
    let padded = length.len() > 1 && length.starts_with('0');
    if plain.is_some() || padded {
        told.push(format!(
            "{}: non-standard CIDR value {text:?} is invalid: use {shown:?}",
            at()
        ));
    }
    let canonical = format!("{ip}/{bits}");
    if told.len() == before && ip.is_ipv6() && canonical != text {
        told.push(format!(
            "{}: IPv6 CIDR value {text:?} should be in RFC 5952 canonical format ({canonical:?})",
            at()
        ));
    }
}

/// A name that is not a DNS label, of which something that must be one is made.
pub fn hostname(told: &mut Vec<String>, object: &Value, used: &str) {
    let problems = api::names::dns1123_label_errors(field(&object["metadata"], "name"));
    if !problems.is_empty() {
        told.push(format!(
            "metadata.name: this is used in {used}, which can result in surprising behavior; a DNS label is recommended: [{}]",
            problems.join(" ")
        ));
    }
}

/// The same for kinds that name pods after themselves.
pub fn named(told: &mut Vec<String>, object: &Value, old: Option<&Value>) {
    if old.is_none() {
        hostname(told, object, "Pod names and hostnames");
    }
}

/// Whether our own controllers wrote the object, which write addresses well.
pub fn managed_by(object: &Value, label: &str, controllers: &[&str]) -> bool {
    text(object, &["metadata", "labels", label]).is_some_and(|by| controllers.contains(&by))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_and_subnets_that_others_read_otherwise_are_told() {
        for (text, want) in [
            ("1.2.3.4", ""),
            ("2001:db8::1", ""),
            (
                "010.2.3.4",
                "a: non-standard IP address \"010.2.3.4\" is invalid: use \"10.2.3.4\"",
            ),
            (
                "::ffff:1.2.3.4",
                "a: non-standard IP address \"::ffff:1.2.3.4\" is invalid: use \"1.2.3.4\"",
            ),
            (
                "2001:DB8::1",
                "a: IPv6 address \"2001:DB8::1\" should be in RFC 5952 canonical format (\"2001:db8::1\")",
            ),
        ] {
            let mut told = Vec::new();
            address(&mut told, text, || "a".into());
            assert_eq!(told.join("|"), want, "{text}");
        }
        for (text, want) in [
            ("10.0.0.0/8", ""),
            ("0.0.0.0/0", ""),
            ("::/0", ""),
            (
                "10.1.2.3/8",
                "a: CIDR value \"10.1.2.3/8\" is ambiguous in this context (should be \"10.0.0.0/8\" or \"10.1.2.3/32\"?)",
            ),
            (
                "10.0.0.0/08",
                "a: non-standard CIDR value \"10.0.0.0/08\" is invalid: use \"10.0.0.0/8\"",
            ),
            (
                "::ffff:1.2.3.0/120",
                "a: non-standard CIDR value \"::ffff:1.2.3.0/120\" is invalid: use \"1.2.3.0/24\"",
            ),
            (
                "FE80::/64",
                "a: IPv6 CIDR value \"FE80::/64\" should be in RFC 5952 canonical format (\"fe80::/64\")",
            ),
        ] {
            let mut told = Vec::new();
            subnet(&mut told, text, || "a".into());
            assert_eq!(told.join("|"), want, "{text}");
        }
    }
}
