//! The CNI caller, the default plugins (bridge, host-local, portmap, loopback), and the netlink under them:
//! links and routes, nftables, connection tracking.

mod cache;
mod caller;
mod conf;
pub mod conntrack;
mod default_network;
mod exec;
pub mod link;
pub mod netlink;
pub mod netns;
pub mod nft;
pub mod plugin;
mod plugins;
mod types;

pub use caller::{Bandwidth, Cni, CniConfig, DnsConfig, PodNetwork, PortMapping, Protocol};
pub use conf::ConfError;
pub use default_network::DefaultNetwork;
pub use types::{AddResult, Dns, Error, Interface, IpConfig, PluginError, Route};
