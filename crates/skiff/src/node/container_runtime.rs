//! skiff's own container runtime as a node opens it.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use runtime::registry::{Proxies, Registries};
use runtime::{Runtime, RuntimeConfig};

use super::NodeError;
use crate::node_paths::NodePaths;

/// The registries' settings of a file and of the usual variables for proxies.
pub fn registries(file: &Path) -> Result<Registries, NodeError> {
    let mut registries = Registries::load(file)?;
    registries.proxies = Proxies::from_variables(|name| std::env::var(name).ok());
    Ok(registries)
}

/// The runtime of this node, opened; archives of images are imported from `images`.
pub async fn open(
    paths: &NodePaths,
    registries: Registries,
    images: Option<PathBuf>,
) -> Result<Arc<Runtime>, NodeError> {
    let cni = cni::Cni::new(cni::CniConfig {
        conf_dir: paths.cni_conf(),
        bin_dirs: vec![paths.agent.join("bin"), "/opt/cni/bin".into()],
        cache_dir: paths.agent.join("cni/cache"),
    });
    let config = RuntimeConfig {
        root: paths.agent.join("runtime"),
        state: paths.run.join("runtime"),
        cgroup_parent: paths.cgroup.clone(),
        shim: vec!["/proc/self/exe".into(), "shim".into()],
        cni: Some(Arc::new(cni)),
        handlers: Vec::new(),
        registries,
        resolve: Arc::new(|host| Box::pin(async move { Ok(client::resolve(&host).await?) })),
        image_dir: images,
    };
    Ok(Runtime::open(config).await?)
}
