//! ServiceCIDRs: ready once they are seen; one that is deleted goes when no address of a Service would be left without a
//! network. KEP-1880.

use std::net::IpAddr;
use std::time::Duration;

use api::object::Object;
use client::{Cache, Client, EventRecorder, Patch};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::networking::v1::{IPAddress, ServiceCIDR};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use serde_json::json;

use crate::Error;
use crate::context::Context;
use crate::error::decode;
use crate::meta::reference;

const MANAGER: &str = "service-cidr-controller";
const FINALIZER: &str = "networking.k8s.io/service-cidr-finalizer";
const MANAGED_BY: (&str, &str) = ("ipaddress.kubernetes.io/managed-by", "ipallocator.k8s.io");
/// Until then an allocator may not have seen that the ServiceCIDR is being deleted.
const DELETION_GRACE: SignedDuration = SignedDuration::from_secs(10);

/// A network of either family.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Prefix {
    v6: bool,
    base: u128,
    /// Bits of the address that are not the network's.
    host: u32,
}

fn bits(address: IpAddr) -> (bool, u128) {
    match address {
        IpAddr::V4(a) => (false, u128::from(u32::from(a))),
        IpAddr::V6(a) => (true, u128::from(a)),
    }
}

impl Prefix {
    fn parse(text: &str) -> Option<Prefix> {
        let (address, length) = text.split_once('/')?;
        let (v6, raw) = bits(address.parse().ok()?);
        let host = (if v6 { 128u32 } else { 32 }).checked_sub(length.parse().ok()?)?;
        let base = raw.checked_shr(host).and_then(|b| b.checked_shl(host)).unwrap_or(0);
        Some(Prefix { v6, base, host })
    }

    fn last(self) -> u128 {
        self.base | (u128::MAX.checked_shr(128 - self.host).unwrap_or(0))
    }

    fn contains_prefix(self, other: Prefix) -> bool {
        self.v6 == other.v6 && self.host >= other.host && (self.base..=self.last()).contains(&other.base)
    }

    fn overlaps(self, other: Prefix) -> bool {
        self.contains_prefix(other) || other.contains_prefix(self)
    }

    /// Whether a Service in this network may have the address: not the network's own, nor the one for broadcasts.
    fn contains(self, address: IpAddr) -> bool {
        let (v6, raw) = bits(address);
        self.v6 == v6 && (self.base + 1..=self.last()).contains(&raw) && (v6 || raw != self.last())
    }
}

/// A ServiceCIDR's name and networks.
type Range = (String, Vec<Prefix>);

fn range_of(cidr: &ServiceCIDR) -> Range {
    let cidrs = cidr.spec.as_ref().and_then(|s| s.cidrs.as_deref()).unwrap_or_default();
    let name = cidr.metadata.name.clone().unwrap_or_default();
    (name, cidrs.iter().filter_map(|c| Prefix::parse(c)).collect())
}

fn ranges(cidrs: &Cache) -> Result<Vec<Range>, Error> {
    let all = cidrs.list();
    all.iter().map(|o| decode(o).map(|c| range_of(&c))).collect()
}

/// Whether every address of a Service that lies in the range lies in another, too.
fn may_go(range: &Range, all: &[Range], addresses: &[IpAddr]) -> bool {
    let (name, prefixes) = range;
    let others = || all.iter().filter(|(n, _)| n != name).flat_map(|(_, p)| p);
    let has_parent = |prefix: &Prefix| others().any(|other| other.contains_prefix(*prefix));
    if prefixes.iter().all(has_parent) {
        return true;
    }
    let inside = |address: &&IpAddr| prefixes.iter().any(|p| p.contains(**address));
    let mut inside = addresses.iter().filter(inside);
    inside.all(|address| others().any(|other| other.contains(*address)))
}

/// The address, if it was given to a Service by the allocator.
fn managed_address(object: &Object) -> Option<IpAddr> {
    let managed = object.meta.label(MANAGED_BY.0) == Some(MANAGED_BY.1);
    managed.then(|| object.meta.name.parse().ok()).flatten()
}

pub(crate) async fn run(ctx: Context) -> Result<(), Error> {
    let cidrs = ctx.informers.get::<ServiceCIDR>();
    let addresses = ctx.informers.get::<IPAddress>();
    if !ctx.synced(&[&cidrs, &addresses]).await {
        return Ok(());
    }
    let queue = ctx.queue("servicecidrs");
    ctx.each_change(&cidrs, {
        let (queue, cidrs) = (queue.clone(), cidrs.clone());
        move |change| {
            let Some(object) = change.object() else { return };
            queue.add(object.key());
            // one that comes or goes may let another go, or hold it back
            if change.old.is_some() && change.new.is_some() {
                return;
            }
            let (Ok(cidr), Ok(all)) = (decode::<ServiceCIDR>(object), ranges(&cidrs)) else {
                return;
            };
            let (_, own) = range_of(&cidr);
            for (name, prefixes) in all {
                if prefixes.iter().any(|p| own.iter().any(|o| o.overlaps(*p))) {
                    queue.add(name);
                }
            }
        }
    });
    ctx.each_change(&addresses, {
        let (queue, cidrs) = (queue.clone(), cidrs.clone());
        move |change| {
            // addresses come and go with every Service, and matter only to what is being deleted
            if change.old.is_some() && change.new.is_some() {
                return;
            }
            let Some(address) = change.object().and_then(|o| managed_address(o)) else {
                return;
            };
            for object in cidrs.list().iter().filter(|c| c.meta.deleting) {
                let Ok(cidr) = decode::<ServiceCIDR>(object) else {
                    continue;
                };
                if range_of(&cidr).1.iter().any(|p| p.contains(address)) {
                    queue.add(object.key());
                }
            }
        }
    });
    let recorder = ctx.recorder(MANAGER);
    let client = ctx.client.clone();
    ctx.work(queue, 5, move |name| {
        let (client, recorder) = (client.clone(), recorder.clone());
        let (cidrs, addresses) = (cidrs.clone(), addresses.clone());
        async move { sync(&client, &recorder, &cidrs, &addresses, &name).await }
    })
    .await;
    Ok(())
}

async fn sync(
    client: &Client,
    recorder: &EventRecorder,
    cidrs: &Cache,
    addresses: &Cache,
    name: &str,
) -> Result<Option<Duration>, Error> {
    let Some(object) = cidrs.get(name) else { return Ok(None) };
    let cidr: ServiceCIDR = decode(&object)?;
    let finalizers = cidr.metadata.finalizers.as_deref().unwrap_or_default();
    let held = finalizers.iter().any(|f| f == FINALIZER);
    if let Some(deleted) = &cidr.metadata.deletion_timestamp {
        let given: Vec<IpAddr> = addresses.list().iter().filter_map(|o| managed_address(o)).collect();
        if !may_go(&range_of(&cidr), &ranges(cidrs)?, &given) {
            let message = "There are still IPAddresses referencing the ServiceCIDR, please remove them or create a new ServiceCIDR";
            set_ready(client, &cidr, name, "False", "Terminating", message).await?;
            return Ok(None);
        }
        let left = DELETION_GRACE - Timestamp::now().duration_since(deleted.0);
        if left.is_positive() {
            return Ok(Some(left.unsigned_abs()));
        }
        if held {
            let patch = json!({"metadata": {"$deleteFromPrimitiveList/finalizers": [FINALIZER]}});
            change_finalizers(client, name, patch).await?;
        }
        return Ok(None);
    }
    if !held {
        change_finalizers(client, name, json!({"metadata": {"finalizers": [FINALIZER]}})).await?;
    }
    let set = set_ready(client, &cidr, name, "True", "", "Kubernetes Service CIDR is ready").await;
    if let Err(error) = &set
        && !error.is_race()
    {
        let message = "The ServiceCIDR Status can not be set to Ready=True";
        recorder.warning(&reference(&cidr), "KubernetesServiceCIDRError", message);
    }
    set.map(|()| None)
}

async fn change_finalizers(client: &Client, name: &str, patch: serde_json::Value) -> Result<(), Error> {
    match client.patch::<ServiceCIDR>("", name, &Patch::Strategic(patch)).await {
        Err(error) if !error.is_not_found() => Err(error.into()),
        _ => Ok(()),
    }
}

/// Applies the condition `Ready` unless it says this already.
async fn set_ready(
    client: &Client,
    cidr: &ServiceCIDR,
    name: &str,
    status: &str,
    reason: &str,
    message: &str,
) -> Result<(), Error> {
    let conditions = cidr
        .status
        .as_ref()
        .and_then(|s| s.conditions.as_deref())
        .unwrap_or_default();
    let said = |c: &Condition| c.status == status && c.reason == reason && c.message == message;
    if conditions.iter().any(|c| c.type_ == "Ready" && said(c)) {
        return Ok(());
    }
    let condition = Condition {
        type_: "Ready".into(),
        status: status.into(),
        reason: reason.into(),
        message: message.into(),
        last_transition_time: Time(Timestamp::now()),
        observed_generation: None,
    };
    let patch = Patch::Apply {
        manager: MANAGER.into(),
        force: true,
        object: json!({
            "apiVersion": "networking.k8s.io/v1", "kind": "ServiceCIDR", "metadata": {"name": name},
            "status": {"conditions": [condition]},
        }),
    };
    match client.patch_status::<ServiceCIDR>("", name, &patch).await {
        Err(error) if !error.is_not_found() => Err(error.into()),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr};

    use super::*;

    fn range(name: &str, cidrs: &[&str]) -> Range {
        (name.into(), cidrs.iter().map(|c| Prefix::parse(c).unwrap()).collect())
    }

    #[test]
    fn a_range_goes_when_no_address_is_left_without_a_network() {
        let own = range("own", &["10.0.0.0/24"]);
        let addresses = |list: &[&str]| list.iter().map(|a| a.parse().unwrap()).collect::<Vec<IpAddr>>();
        let used = addresses(&["10.0.0.7"]);
        for (others, used, goes) in [
            (vec![], &[][..], true),
            (vec![], &used[..], false),
            (vec![range("far", &["10.1.0.0/24"])], &used[..], false),
            (vec![range("parent", &["10.0.0.0/16"])], &used[..], true),
            (vec![range("same", &["10.0.0.0/24"])], &used[..], true),
            (vec![range("part", &["10.0.0.0/29"])], &used[..], false),
            (vec![range("part", &["10.0.0.0/28"])], &used[..], true),
        ] {
            let mut all = others.clone();
            all.push(own.clone());
            assert_eq!(may_go(&own, &all, used), goes, "{others:?}");
        }
        let both = range("both", &["10.0.0.0/24", "fd00::/64"]);
        let all = [both.clone(), own.clone()];
        assert!(may_go(&both, &all, &used));
        assert!(!may_go(&both, &all, &addresses(&["fd00::1"])));
    }

    #[test]
    fn a_network_holds_networks_and_addresses_of_its_family() {
        let prefix = |text: &str| Prefix::parse(text).unwrap();
        assert!(prefix("0.0.0.0/0").contains_prefix(prefix("10.0.0.0/8")));
        assert!(!prefix("10.0.0.0/8").contains_prefix(prefix("0.0.0.0/0")));
        assert!(prefix("10.0.0.0/8").overlaps(prefix("0.0.0.0/0")));
        assert!(!prefix("::/0").overlaps(prefix("0.0.0.0/0")));
        for (network, address, inside) in [
            ("10.0.0.0/30", IpAddr::V4(Ipv4Addr::new(10, 0, 0, 0)), false),
            ("10.0.0.0/30", IpAddr::V4(Ipv4Addr::new(10, 0, 0, 2)), true),
            ("10.0.0.0/30", IpAddr::V4(Ipv4Addr::new(10, 0, 0, 3)), false),
            (
                "fd00::/126",
                IpAddr::V6(Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 3)),
                true,
            ),
            ("::/0", IpAddr::V6(Ipv6Addr::from(u128::MAX)), true),
        ] {
            assert_eq!(prefix(network).contains(address), inside, "{network} {address}");
        }
        assert!(
            ["10.0.0.0", "10.0.0.0/33", "x/1"]
                .iter()
                .all(|t| Prefix::parse(t).is_none())
        );
    }
}
