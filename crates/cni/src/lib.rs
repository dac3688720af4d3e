//! The CNI caller, the default plugins (bridge, host-local, portmap, loopback), and the netlink under them:
//! links and routes, nftables, connection tracking. `overlay` joins the pod networks of the nodes.

#![deny(missing_docs)]

mod bridged;
mod cache;
mod caller;
mod conf;
pub mod conntrack;
mod default_network;
mod ethtool;
mod exec;
#[doc(hidden)]
pub mod fuzzing;
pub mod link;
mod neighbour;
pub mod netlink;
pub mod netns;
pub mod nft;
pub mod overlay;
pub mod plugin;
mod plugins;
mod route;
pub mod sysctl;
mod types;
mod vxlan;

pub use bridged::filter_bridged;
pub use caller::{Bandwidth, Cni, CniConfig, DnsConfig, PodNetwork, PortMapping, Protocol};
pub use conf::{ConfError, ConfFault};
pub use default_network::DefaultNetwork;
pub use types::{AddResult, Dns, Error, Interface, IpConfig, PluginError, ResultError, Route};
