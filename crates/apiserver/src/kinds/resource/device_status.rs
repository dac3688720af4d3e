//! Rules of what was allocated for a claim: the status that schedulers and drivers write. KEP-4381, KEP-4817.

use std::collections::HashSet;

use api::field::FieldError;
use serde_json::{Value, json};

use crate::kinds::conditions::conditions;
use crate::kinds::pod_template::placement;
use crate::kinds::resource::devices::{
    MANY, Requests, binding, configuration, fits, parameters, pool_name, reference, references, request_names, unique,
};
use crate::kinds::rules::{dns_label, immutable, one_of_or_none, require};
use crate::kinds::{Check, Cursor, Errors, volume};

const RESERVATIONS: usize = 256;

const RESULTS: usize = 32;

const CONDITIONS: usize = 8;

const ADDRESSES: usize = 16;

const INTERFACE: usize = 256;

const HARDWARE: usize = 128;

const UUID: usize = 36;

/// Checks what a write of a claim's status changes.
pub fn update(errors: &mut Errors, check: &Check) {
    let root = check.root();
    let status = root.get("status");
    let old = check.before().map(|old| old.get("status"));
    let reserved = status.get("reservedFor");
    if fits(errors, &reserved, RESERVATIONS) {
        for user in reserved.items() {
            for field in ["resource", "name", "uid"] {
                require(errors, &user.get(field));
            }
        }
        unique(errors, &reserved, |user| user.get("uid").text());
    }
    let allocation = status.get("allocation");
    devices(errors, &status.get("devices"), &allocation);
    if !reserved.list().is_empty() {
        let before = old.as_ref().map(|old| old.get("reservedFor"));
        let was = before.as_ref().map_or(&[] as &[Value], Cursor::list);
        if !allocation.is_some() {
            errors.push(reserved.forbidden("may not be specified when `allocated` is not set"));
        } else if root.at(&["metadata", "deletionTimestamp"]).is_some()
            && reserved.list().iter().any(|user| !was.contains(user))
        {
            let why = "new entries may not be added while `deallocationRequested` or `deletionTimestamp` are set";
            errors.push(reserved.forbidden(why));
        }
    }
    match old.map(|old| old.get("allocation")).and_then(Cursor::present) {
        _ if !allocation.is_some() => {}
        Some(was) => immutable(errors, &allocation, &was),
        None => allocated(errors, &allocation, &request_names(&root.at(&["spec", "devices"]))),
    }
}

fn allocated(errors: &mut Errors, at: &Cursor, named: &Requests) {
    let results = at.at(&["devices", "results"]);
    if fits(errors, &results, RESULTS) {
        for result in results.items() {
            reference(errors, &result.get("request"), named);
            volume::driver_name(errors, &result.get("driver"));
            pool_name(errors, &result.get("pool"));
            dns_label(errors, &result.get("device"));
            binding(errors, &result);
            uuid(errors, &result.get("shareID"));
        }
    }
    let configs = at.at(&["devices", "config"]);
    if fits(errors, &configs, 2 * MANY) {
        for config in configs.items() {
            let source = config.get("source");
            if require(errors, &source) {
                one_of_or_none(errors, &source, &["FromClaim", "FromClass"]);
            }
            references(errors, &config.get("requests"), named);
            configuration(errors, &config);
        }
    }
    let selector = at.get("nodeSelector");
    if selector.is_some() {
        placement::node_selector(errors, &selector);
    }
}

/// What drivers say of the devices that were allocated.
fn devices(errors: &mut Errors, list: &Cursor, allocation: &Cursor) {
    let key =
        |device: &Cursor| ["driver", "pool", "device", "shareID"].map(|field| device.get(field).text().to_owned());
    let known: HashSet<[String; 4]> = allocation
        .at(&["devices", "results"])
        .items()
        .map(|r| key(&r))
        .collect();
    for device in list.items() {
        volume::driver_name(errors, &device.get("driver"));
        pool_name(errors, &device.get("pool"));
        dns_label(errors, &device.get("device"));
        uuid(errors, &device.get("shareID"));
        if !known.contains(&key(&device)) {
            errors.push(device.wrong(json!({}), "must be an allocated device in the claim"));
        }
        let list = device.get("conditions");
        if list.list().len() > CONDITIONS {
            errors.push(FieldError::too_many(&list.path, list.list().len(), CONDITIONS));
        }
        conditions(errors, &list);
        if device.get("data").is_some() {
            parameters(errors, &device.get("data"));
        }
        network(errors, &device.get("networkData"));
    }
    let mut seen = HashSet::new();
    for device in list.items().filter(|device| !seen.insert(key(device))) {
        errors.push(device.duplicate(json!({})));
    }
}

fn network(errors: &mut Errors, at: &Cursor) {
    for (field, most) in [("interfaceName", INTERFACE), ("hardwareAddress", HARDWARE)] {
        let name = at.get(field);
        if name.text().len() > most {
            errors.push(FieldError::too_long(&name.path, most));
        }
    }
    let addresses = at.get("ips");
    if fits(errors, &addresses, ADDRESSES) {
        addresses
            .items()
            .for_each(|address| interface_address(errors, &address));
        unique(errors, &addresses, Cursor::text);
    }
}

/// An address and the length of its network's prefix, as programs write them.
fn interface_address(errors: &mut Errors, at: &Cursor) {
    let parsed = at.text().split_once('/').and_then(|(address, length)| {
        let length: u8 = length.parse().ok()?;
        let address = api::names::sloppy_ip(address)?;
        let width = if address.is_ipv4() { 32 } else { 128 };
        if length > width {
            return None;
        }
        match address.to_canonical() {
            short if short != address => Some((short, length.saturating_sub(96))),
            _ => Some((address, length)),
        }
    });
    match parsed.map(|(address, length)| format!("{address}/{length}")) {
        None => errors.push(at.invalid("must be a valid address in CIDR form, (e.g. 10.9.8.7/24 or 2001:db8::1/64)")),
        Some(written) if written != at.text() => {
            errors.push(at.invalid(format!("must be in canonical form ({written:?})")));
        }
        Some(_) => {}
    }
}

/// The id of a share of a device, where it has one.
fn uuid(errors: &mut Errors, at: &Cursor) {
    if !at.is_some() {
        return;
    }
    let text = at.text();
    let plain = |text: &str| {
        text.len() == UUID
            && text.bytes().enumerate().all(|(i, c)| match i {
                8 | 13 | 18 | 23 => c == b'-',
                _ => c.is_ascii_hexdigit(),
            })
    };
    let problem = match text.len() {
        UUID if plain(text) => None,
        45 if !text.to_lowercase().starts_with("urn:uuid:") => Some(format!(
            "invalid urn prefix: {:?}",
            text.chars().take(9).collect::<String>()
        )),
        45 if text.get(9..).is_some_and(plain) => None,
        38 if !(text.starts_with('{') && text.ends_with('}')) => Some("invalid bracketed UUID format".into()),
        38 if text.get(1..37).is_some_and(plain) => None,
        32 if text.bytes().all(|c| c.is_ascii_hexdigit()) => None,
        UUID | 45 | 38 | 32 => Some("invalid UUID format".into()),
        other => Some(format!("invalid UUID length: {other}")),
    };
    if let Some(problem) = problem {
        errors.push(at.invalid(format!("error validating uid: {problem}")));
    } else if text.len() != UUID || text.bytes().any(|c| c.is_ascii_uppercase()) {
        errors.push(at.invalid(
            "uid must be in RFC 4122 normalized form, `xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx` with lowercase hexadecimal \
             characters",
        ));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(old: Value, new: Value) -> Vec<String> {
        let spec = json!({ "devices": { "requests": [{ "name": "gpu" }] } });
        let (old, new) = (
            json!({ "spec": spec, "status": old }),
            json!({ "spec": spec, "status": new }),
        );
        let mut errors = Errors::new();
        let check = Check {
            new: &new,
            old: Some(&old),
            subresource: "status",
            custom: None,
            now: 0,
        };
        update(&mut errors, &check);
        errors.iter().map(ToString::to_string).collect()
    }

    fn allocation(device: &str) -> Value {
        json!({ "devices": { "results": [{ "request": "gpu", "driver": "a.b", "pool": "p", "device": device }] } })
    }

    #[test]
    fn devices_are_allocated_once_for_requests_of_the_claim() {
        let fine =
            json!({ "allocation": allocation("d"), "reservedFor": [{ "resource": "pods", "name": "x", "uid": "1" }] });
        assert!(found(json!({}), fine.clone()).is_empty());
        assert_eq!(
            found(fine, json!({ "allocation": allocation("e") })),
            [format!(
                "status.allocation: Invalid value: {}: field is immutable",
                allocation("e")
            )]
        );
        let mut other = allocation("d");
        other["devices"]["results"][0]["request"] = json!("other");
        assert_eq!(found(json!({}), json!({ "allocation": other })).len(), 1);
        assert_eq!(
            found(
                json!({}),
                json!({ "reservedFor": [{ "resource": "pods", "name": "x", "uid": "1" }] })
            ),
            ["status.reservedFor: Forbidden: may not be specified when `allocated` is not set"]
        );
    }

    #[test]
    fn addresses_of_devices_and_ids_of_shares_are_written_as_programs_write_them() {
        let addresses = |text: &str| {
            let device = json!({ "driver": "a.b", "pool": "p", "device": "d", "networkData": { "ips": [text] } });
            found(json!({}), json!({ "allocation": allocation("d"), "devices": [device] })).len()
        };
        assert_eq!(
            [
                "10.0.0.1/24",
                "010.0.0.1/24",
                "10.0.0.1",
                "2001:db8::1/64",
                "2001:DB8::1/64"
            ]
            .map(addresses),
            [0, 1, 1, 0, 1]
        );
        let ids = |text: &str| {
            let (mut errors, id) = (Errors::new(), json!(text));
            uuid(&mut errors, &Cursor::of(Some(&id), "id"));
            errors.len()
        };
        let id = "0123abcd-0123-0123-0123-0123456789ab";
        assert_eq!(
            [id, &id.to_uppercase(), "x", &id.replace('-', "")].map(ids),
            [0, 1, 1, 1]
        );
    }
}
