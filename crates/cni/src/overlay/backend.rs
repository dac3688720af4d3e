//! How packets travel from node to node, by k3s's names of `--flannel-backend`.

use std::str::FromStr;

/// A way from node to node.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Backend {
    /// In UDP packets between the nodes: any network will do.
    #[default]
    Vxlan,
    /// Routed by the nodes: they must be neighbours on one link.
    HostGw,
    /// The pod network is somebody else's: no CNI configuration is written either.
    None,
}

/// Why a back end cannot be had.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BackendError {
    /// Not a name of `--flannel-backend`.
    #[error("unknown flannel backend {0:?}: there are vxlan, host-gw and none")]
    Unknown(String),
    /// A name of k3s's that skiff does not have.
    #[error("flannel backend {0:?} is not built: there are vxlan, host-gw and none")]
    NotBuilt(String),
}

impl Backend {
    /// k3s's word, which is the annotation's too.
    pub fn name(self) -> &'static str {
        match self {
            Backend::Vxlan => "vxlan",
            Backend::HostGw => "host-gw",
            Backend::None => "none",
        }
    }

    /// What the back end adds to each packet.
    pub(super) fn overhead(self, outer_v6: bool) -> u32 {
        match (self, outer_v6) {
            // Ethernet, VXLAN, UDP and IP headers
            (Backend::Vxlan, false) => 14 + 8 + 8 + 20,
            (Backend::Vxlan, true) => 14 + 8 + 8 + 40,
            (Backend::HostGw | Backend::None, _) => 0,
        }
    }
}

impl FromStr for Backend {
    type Err = BackendError;

    fn from_str(text: &str) -> Result<Backend, BackendError> {
        match text {
            "vxlan" => Ok(Backend::Vxlan),
            "host-gw" => Ok(Backend::HostGw),
            "none" => Ok(Backend::None),
            "wireguard-native" | "tailscale" => Err(BackendError::NotBuilt(text.to_owned())),
            other => Err(BackendError::Unknown(other.to_owned())),
        }
    }
}

impl std::fmt::Display for Backend {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn back_ends_go_by_the_names_of_k3s_and_others_are_refused() {
        for backend in [Backend::Vxlan, Backend::HostGw, Backend::None] {
            assert_eq!(backend.name().parse(), Ok(backend));
        }
        assert_eq!(
            "wireguard-native".parse::<Backend>().unwrap_err().to_string(),
            "flannel backend \"wireguard-native\" is not built: there are vxlan, host-gw and none"
        );
        assert_eq!("vlan".parse::<Backend>(), Err(BackendError::Unknown("vlan".into())));
    }
}
