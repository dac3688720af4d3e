//! Which endpoints a Service's traffic may go to from this node: traffic policies, topology hints, and those that
//! are terminating when there are no others. Pure.

use crate::model::{Endpoint, ServicePort};

/// Where this node is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Place {
    pub node: String,
    /// Its label `topology.kubernetes.io/zone`.
    pub zone: String,
}

#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Choice<'a> {
    /// For traffic policy Cluster.
    pub cluster: Vec<&'a Endpoint>,
    /// For traffic policy Local.
    pub local: Vec<&'a Endpoint>,
    /// The two together.
    pub reachable: Vec<&'a Endpoint>,
    /// There is an endpoint somewhere, though perhaps none that a policy allows.
    pub any: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    Everywhere,
    SameZone,
    SameNode,
}

impl Mode {
    /// Hints hold only if all ready endpoints have them and one is meant for this place.
    fn of(endpoints: &[Endpoint], place: &Place) -> Mode {
        let ready = || endpoints.iter().filter(|e| e.ready);
        if ready().next().is_none() {
            return Mode::Everywhere;
        }
        if ready().all(|e| !e.nodes.is_empty()) && ready().any(|e| e.nodes.contains(&place.node)) {
            return Mode::SameNode;
        }
        if ready().all(|e| !e.zones.is_empty()) && ready().any(|e| e.zones.contains(&place.zone)) {
            return Mode::SameZone;
        }
        Mode::Everywhere
    }

    fn allows(self, endpoint: &Endpoint, place: &Place) -> bool {
        match self {
            Mode::Everywhere => true,
            Mode::SameZone => endpoint.zones.contains(&place.zone),
            Mode::SameNode => endpoint.nodes.contains(&place.node),
        }
    }
}

fn dying(endpoint: &Endpoint) -> bool {
    endpoint.serving && endpoint.terminating
}

pub(crate) fn choose<'a>(port: &ServicePort, endpoints: &'a [Endpoint], place: &Place) -> Choice<'a> {
    let mut choice = Choice::default();
    if port.uses_cluster_endpoints() {
        let mode = Mode::of(endpoints, place);
        let usable = |e: &&Endpoint| e.ready && mode.allows(e, place);
        choice.cluster = endpoints.iter().filter(usable).collect();
        if choice.cluster.is_empty() {
            choice.cluster = endpoints.iter().filter(|e| dying(e)).collect();
        }
        choice.any = !choice.cluster.is_empty();
    }
    if port.uses_local_endpoints() {
        choice.any |= endpoints.iter().any(|e| e.ready || dying(e));
        choice.local = endpoints.iter().filter(|e| e.local && e.ready).collect();
        if choice.local.is_empty() {
            choice.local = endpoints.iter().filter(|e| e.local && dying(e)).collect();
        }
    }
    choice.reachable = choice.cluster.clone();
    for endpoint in &choice.local {
        if !choice.reachable.iter().any(|e| std::ptr::eq(*e, *endpoint)) {
            choice.reachable.push(endpoint);
        }
    }
    choice
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::tests::{endpoint, service_port};

    fn place() -> Place {
        Place {
            node: "here".into(),
            zone: "z1".into(),
        }
    }

    fn ends(of: &[&Endpoint]) -> Vec<u8> {
        of.iter()
            .filter_map(|e| e.ip.to_string().rsplit('.').next()?.parse().ok())
            .collect()
    }

    #[test]
    fn terminating_endpoints_serve_only_when_no_other_is_ready() {
        let port = service_port();
        let mut all = vec![endpoint(1, false), endpoint(2, false)];
        all[1].ready = false;
        all[1].terminating = true;
        assert_eq!(ends(&choose(&port, &all, &place()).cluster), [1]);
        all[0].ready = false;
        all[0].serving = false;
        assert_eq!(ends(&choose(&port, &all, &place()).cluster), [2]);
        all[1].serving = false;
        let choice = choose(&port, &all, &place());
        assert!(choice.cluster.is_empty() && !choice.any);
    }

    #[test]
    fn hints_hold_only_when_every_ready_endpoint_has_one_and_one_fits() {
        let port = service_port();
        let mut all = vec![endpoint(1, false), endpoint(2, false)];
        all[0].zones = vec!["z1".into()];
        assert_eq!(
            ends(&choose(&port, &all, &place()).cluster),
            [1, 2],
            "one without a hint"
        );
        all[1].zones = vec!["z2".into()];
        assert_eq!(ends(&choose(&port, &all, &place()).cluster), [1]);
        all[0].zones = vec!["z3".into()];
        assert_eq!(
            ends(&choose(&port, &all, &place()).cluster),
            [1, 2],
            "none for this zone"
        );
        all[0].nodes = vec!["there".into()];
        all[1].nodes = vec!["here".into()];
        assert_eq!(
            ends(&choose(&port, &all, &place()).cluster),
            [2],
            "the node before the zone"
        );
    }

    #[test]
    fn policy_local_takes_local_endpoints_alone() {
        let mut port = service_port();
        port.internal_local = true;
        let all = [endpoint(1, false), endpoint(2, true)];
        let choice = choose(&port, &all, &place());
        assert_eq!((ends(&choice.cluster), ends(&choice.local)), (vec![], vec![2]));
        let remote = [endpoint(1, false)];
        let choice = choose(&port, &remote, &place());
        assert!(choice.local.is_empty() && choice.any, "there is one elsewhere");
        port.node_port = Some(30000);
        let choice = choose(&port, &all, &place());
        assert_eq!(
            ends(&choice.cluster),
            [1, 2],
            "external traffic still has policy Cluster"
        );
    }
}
