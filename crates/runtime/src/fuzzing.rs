//! The doors of the fuzz targets to parsers that are private otherwise. Not a part of what the crate offers.

use std::io;
use std::path::Path;

use cri::v1;

use crate::image::manifest::Settings;
use crate::service::{container_spec, sandbox};
use crate::shim::log::{Log, Stream};
use crate::spec::Resources;
use crate::{registry, seccomp};

/// Reads what a registry wants to know of a client (`WWW-Authenticate`); how many parameters it has.
pub fn challenge(header: &str) -> Option<usize> {
    registry::auth::Challenge::parse(header).map(|challenge| challenge.parameters.len())
}

/// What becomes of a container's configuration without a look at the node.
pub fn container(config: &v1::ContainerConfig, pod: &v1::PodSandboxConfig) {
    let settings = Settings::default();
    let security = config
        .linux
        .clone()
        .unwrap_or_default()
        .security_context
        .unwrap_or_default();
    let _ = container_spec::arguments(config, &settings);
    let _ = container_spec::environment(config, &settings, &pod.hostname);
    let _ = container_spec::seccomp(&security);
    let _ = container_spec::apparmor(&security);
    let _ = container_spec::user_text(&security, &settings);
    resources(&config.linux.clone().unwrap_or_default().resources.unwrap_or_default());
    sandbox(pod);
}

/// What becomes of a pod's configuration without a look at the node.
pub fn sandbox(config: &v1::PodSandboxConfig) {
    let _ = sandbox::shim_spec("id", config);
    sandbox::resolv_conf(config.dns_config.as_ref(), "");
    sandbox::has_own_network(config);
}

/// The limits of a container.
pub fn resources(resources: &v1::LinuxContainerResources) -> Resources {
    container_spec::resources(resources)
}

/// Compiles a seccomp profile; how many instructions it has.
///
/// # Errors
/// Why it is no profile.
pub fn seccomp(profile: &[u8]) -> Result<usize, seccomp::json_profile::ProfileError> {
    let profile = seccomp::json_profile::parse(profile, 0)?;
    Ok(seccomp::compile(&profile).len())
}

/// The log of a container that wrote these bytes to its output, in a directory.
///
/// # Errors
/// Those of the file system.
pub fn written_log(dir: &Path, output: &[u8]) -> io::Result<Vec<u8>> {
    let path = dir.join("log");
    let mut log = Log::open(&path)?;
    log.write(Stream::Stdout, output, 1_796_083_200_000_000_000)?;
    log.finish(Stream::Stdout, 1_796_083_200_000_000_001)?;
    std::fs::read(&path)
}

/// Removes what a layer left.
///
/// # Errors
/// Those of the file system.
pub fn remove_tree(path: &Path) -> io::Result<()> {
    files::remove_tree(path)
}
