//! kube-proxy: service rules as nftables.
