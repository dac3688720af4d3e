//! A sandbox's place in the pod network, through CNI.

use std::net::IpAddr;

use cri::v1;

use super::Runtime;
use super::error::{Result, RuntimeError};
use super::sandbox::Sandbox;

fn describe(sandbox: &Sandbox) -> Result<cni::PodNetwork> {
    let config = sandbox.config();
    let metadata = config.metadata.unwrap_or_default();
    let mut port_mappings = Vec::new();
    for mapping in config.port_mappings.iter().filter(|m| m.host_port > 0) {
        let port = |n: i32| u16::try_from(n).map_err(|_| RuntimeError::Invalid(format!("port {n} is out of range")));
        let host_ip = if mapping.host_ip.is_empty() {
            None
        } else {
            let bad = |_| RuntimeError::Invalid(format!("host IP {:?} is not an address", mapping.host_ip));
            Some(mapping.host_ip.parse::<IpAddr>().map_err(bad)?)
        };
        port_mappings.push(cni::PortMapping {
            host_port: port(mapping.host_port)?,
            container_port: port(mapping.container_port)?,
            protocol: match mapping.protocol() {
                v1::Protocol::Tcp => cni::Protocol::Tcp,
                v1::Protocol::Udp => cni::Protocol::Udp,
                v1::Protocol::Sctp => cni::Protocol::Sctp,
            },
            host_ip,
        });
    }
    let dns = config.dns_config.map(|d| cni::DnsConfig {
        servers: d.servers,
        searches: d.searches,
        options: d.options,
    });
    Ok(cni::PodNetwork {
        sandbox_id: sandbox.id.clone(),
        netns: sandbox.shim_dir.join("net"),
        namespace: metadata.namespace,
        name: metadata.name,
        uid: metadata.uid,
        port_mappings,
        dns,
        ..cni::PodNetwork::default()
    })
}

/// Attaches the sandbox and gives its addresses, the primary one first.
pub async fn add(runtime: &Runtime, sandbox: &Sandbox) -> Result<Vec<String>> {
    let Some(cni) = &runtime.config.cni else {
        return Ok(Vec::new());
    };
    let result = cni
        .add(&describe(sandbox)?)
        .await
        .map_err(|e| RuntimeError::Network(format!("failed to setup network for sandbox {:?}: {e}", sandbox.id)))?;
    if result.ips.is_empty() {
        return Err(RuntimeError::Network(format!(
            "failed to setup network for sandbox {:?}: the plugins gave it no address",
            sandbox.id
        )));
    }
    Ok(result.ips.iter().map(IpAddr::to_string).collect())
}

/// Detaches the sandbox; one that is not attached is detached.
pub async fn delete(runtime: &Runtime, sandbox: &Sandbox) -> Result<()> {
    let Some(cni) = &runtime.config.cni else {
        return Ok(());
    };
    let gone = cni.del(&describe(sandbox)?).await;
    gone.map_err(|e| RuntimeError::Network(format!("failed to destroy network for sandbox {:?}: {e}", sandbox.id)))
}

/// Frees what belongs to sandboxes that are no more. What stays is freed at the next start.
pub async fn collect(runtime: &Runtime) {
    let Some(cni) = &runtime.config.cni else { return };
    let known: Vec<String> = runtime.sandboxes().iter().map(|s| s.id.clone()).collect();
    match cni.gc(&known).await {
        // nobody has configured a network yet
        Ok(()) | Err(cni::Error::Conf(cni::ConfError::None(_))) => {}
        Err(error) => tracing::warn!(%error, "the network's leftovers are not collected"),
    }
}
