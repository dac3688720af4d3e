//! The runtime alone: `skiff-runtime serve <root> <state> <socket>` answers CRI until it is told to end,
//! `skiff-runtime shim <directory>` is what it starts for a pod.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use runtime::registry::{Proxies, Registries};
use runtime::{Runtime, RuntimeConfig};
use tokio::signal::unix::{SignalKind, signal};

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match args.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["shim", ..] => runtime::shim::main(&args[1..]),
        ["serve", root, state, socket] => match serve(Path::new(root), Path::new(state), Path::new(socket)) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                eprintln!("error: {error}");
                ExitCode::FAILURE
            }
        },
        _ => {
            eprintln!("usage: skiff-runtime serve <root> <state> <socket>");
            ExitCode::FAILURE
        }
    }
}

/// A program of its own has no resolver: registries are named by their addresses.
fn localhost(host: &str) -> runtime::registry::Resolved {
    if host == "localhost" {
        return Ok(vec![std::net::Ipv4Addr::LOCALHOST.into()]);
    }
    Err("only addresses are known here".into())
}

/// With CNI where `CNI_CONF_DIR` and `CNI_BIN_DIR` say where it is; containers without a parent go below `CGROUP_PARENT`;
/// `HANDLERS` are further names of this runtime, parted by commas, `REGISTRIES` is a registries.yaml, `IMAGE_DIR` holds archives to import.
#[tokio::main]
async fn serve(root: &Path, state: &Path, socket: &Path) -> Result<(), Box<dyn std::error::Error>> {
    let var = |name: &str| std::env::var(name).ok();
    let cni = var("CNI_CONF_DIR").map(|conf_dir| {
        std::sync::Arc::new(cni::Cni::new(cni::CniConfig {
            conf_dir: conf_dir.into(),
            bin_dirs: var("CNI_BIN_DIR").map(PathBuf::from).into_iter().collect(),
            cache_dir: root.join("cni"),
        }))
    });
    let mut registries =
        var("REGISTRIES").map_or_else(|| Ok(Registries::default()), |p| Registries::load(Path::new(&p)))?;
    registries.proxies = Proxies::from_variables(var);
    let config = RuntimeConfig {
        root: root.to_owned(),
        state: state.to_owned(),
        cgroup_parent: var("CGROUP_PARENT").unwrap_or_else(|| "/skiff".to_owned()),
        shim: vec!["/proc/self/exe".to_owned(), "shim".to_owned()],
        cni,
        handlers: var("HANDLERS").map_or_else(Vec::new, |h| h.split(',').map(str::to_owned).collect()),
        registries,
        resolve: std::sync::Arc::new(|host| Box::pin(async move { localhost(&host) })),
        image_dir: var("IMAGE_DIR").map(PathBuf::from),
    };
    let runtime = Runtime::open(config).await?;
    let mut end = signal(SignalKind::terminate())?;
    runtime::serve(runtime, socket, async move {
        end.recv().await;
    })
    .await?;
    Ok(())
}
