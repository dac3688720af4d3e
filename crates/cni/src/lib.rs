//! The CNI caller, the default plugins (bridge, host-local, portmap, loopback) and the nftables encoder.
