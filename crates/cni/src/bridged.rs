//! Packets between pods on one bridge, seen by the rules for routed ones.

/// Has packets between ports of one bridge pass the same rules as routed ones: without it the answer of a Service's endpoint on the
/// client's own bridge would bypass NAT, and no network policy would hold between two pods of a node. Where the kernel has no such
/// switch nothing is bridged past the rules, or its module br_netfilter is missing.
pub fn filter_bridged() {
    for name in ["bridge-nf-call-iptables", "bridge-nf-call-ip6tables"] {
        let path = format!("/proc/sys/net/bridge/{name}");
        match std::fs::read_to_string(&path) {
            Ok(value) if value.trim() == "1" => {}
            Ok(_) => {
                if let Err(e) = std::fs::write(&path, "1") {
                    tracing::warn!(
                        "{path}: {e}: between pods on one bridge neither Services nor network policies work"
                    );
                }
            }
            Err(e) => tracing::debug!("{path}: {e}"),
        }
    }
}
