//! The row of container runtimes: a container made, started and removed. Ours is asked over its CRI socket, with the root
//! file system mounted and taken down each time; runc and crun by three commands on a folder that is there.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use cri::v1;
use serde_json::{Value, json};

use crate::cluster::{Cluster, Places, run};
use crate::error::{Error, Result};
use crate::inside::Report;
use crate::objects::PAUSE;

const WARM: usize = 5;
const ROUNDS: usize = 40;
/// Version 2 of cgroups beside version 1.
const UNIFIED: &str = "/sys/fs/cgroup/unified";

pub async fn all(cluster: &Cluster, places: &Places, beside: bool, report: &Report) -> Result<()> {
    for took in ours(cluster).await? {
        report.figure("container.ours", took.as_secs_f64());
        report.figure("container.crun", took.as_secs_f64());
    }
    if !beside {
        return Ok(());
    }
    let name = std::fs::read_to_string(places.dir.join("name")).map_err(Error::at(&places.dir))?;
    let bundle = places.dir.join("bundle");
    let rootfs = bundle.join("rootfs");
    std::fs::create_dir_all(&rootfs).map_err(Error::at(&rootfs))?;
    std::fs::copy(places.programs.join("pause"), rootfs.join("pause")).map_err(Error::at(&rootfs))?;
    let runc = places.programs.join("runc");
    run(Command::new(&runc).arg("spec").current_dir(&bundle))?;
    adapt(&bundle.join("config.json"), name.trim())?;
    for (figure, runtime) in [
        ("container.ours", runc.as_path()),
        ("container.crun", Path::new("crun")),
    ] {
        // crun is a package of Debian's that a machine may be without
        if Command::new(runtime).arg("--version").output().is_err() {
            report.say(format_args!("{} is not installed", runtime.display()));
            continue;
        }
        // crun refuses to work when a version 2 hierarchy beside version 1 has controllers; this mount is only our namespace's
        if Path::new(UNIFIED).join("cgroup.controllers").exists() && figure == "container.crun" {
            run(Command::new("umount").args(["--lazy", UNIFIED]))?;
        }
        let command = |args: &[&str]| step(Command::new(runtime).args(args).current_dir(&bundle));
        for round in 0..WARM + ROUNDS {
            let began = Instant::now();
            command(&["create", "--pid-file", "pid", "bench"])?;
            command(&["start", "bench"])?;
            end(&bundle.join("pid"))?;
            command(&["delete", "bench"])?;
            if round >= WARM {
                report.upstream(figure, began.elapsed().as_secs_f64());
            }
        }
    }
    Ok(())
}

/// Kills a container's process and waits until it is gone: `delete --force` would look for that only ten times a second.
fn end(file: &Path) -> Result<()> {
    use nix::sys::signal::{Signal, kill};
    let text = std::fs::read_to_string(file).map_err(Error::at(file))?;
    let pid: i32 = text.trim().parse().map_err(|e| Error::said(format!("{text:?}: {e}")))?;
    kill(nix::unistd::Pid::from_raw(pid), Signal::SIGKILL).map_err(std::io::Error::from)?;
    let deadline = Instant::now() + Duration::from_secs(10);
    // the first process of the namespace reaps it
    while Path::new(&format!("/proc/{pid}")).exists() {
        if Instant::now() > deadline {
            return Err(Error::said("a killed container does not end"));
        }
        std::thread::sleep(Duration::from_micros(200));
    }
    Ok(())
}

/// Runs a command whose output the container would keep open.
fn step(command: &mut Command) -> Result<()> {
    let log = std::env::temp_dir().join(format!("bench-{}.log", std::process::id()));
    let said = std::fs::File::create(&log).map_err(Error::at(&log))?;
    let status = command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(said)
        .status()?;
    let text = std::fs::read_to_string(&log).unwrap_or_default();
    std::fs::remove_file(&log).map_err(Error::at(&log))?;
    match status.success() {
        true => Ok(()),
        false => Err(Error::said(format!("{command:?}: {status}: {text}"))),
    }
}

/// The specification that `runc spec` writes, for a program that waits and has no terminal.
fn adapt(path: &Path, cgroup: &str) -> Result<()> {
    let mut spec: Value = serde_json::from_slice(&std::fs::read(path).map_err(Error::at(path))?)?;
    // crun of Debian 12 knows no later one
    spec["ociVersion"] = json!("1.0.2");
    spec["process"]["terminal"] = json!(false);
    spec["process"]["args"] = json!(["/pause"]);
    spec["linux"]["cgroupsPath"] = json!(format!("/{cgroup}/bench"));
    std::fs::write(path, spec.to_string()).map_err(Error::at(path))
}

async fn ours(cluster: &Cluster) -> Result<Vec<Duration>> {
    let data = cluster.dir.join("data");
    let socket = format!("unix:///run/{}/cri.sock", cluster.groups.own().unwrap_or("skiff"));
    let (mut runtime, _) = cri::connect(&socket).map_err(|e| Error::said(e.to_string()))?;
    // no pod network: it is not part of a container's creation
    let network = v1::NamespaceOption {
        network: v1::NamespaceMode::Node.into(),
        ..Default::default()
    };
    let sandbox = v1::PodSandboxConfig {
        metadata: Some(v1::PodSandboxMetadata {
            name: "bench".to_owned(),
            uid: "bench".to_owned(),
            namespace: "bench".to_owned(),
            attempt: 0,
        }),
        log_directory: data.join("bench-logs").display().to_string(),
        linux: Some(v1::LinuxPodSandboxConfig {
            security_context: Some(v1::LinuxSandboxSecurityContext {
                namespace_options: Some(network.clone()),
                ..Default::default()
            }),
            ..Default::default()
        }),
        ..Default::default()
    };
    let request = v1::RunPodSandboxRequest {
        config: Some(sandbox.clone()),
        runtime_handler: String::new(),
    };
    let id = runtime.run_pod_sandbox(request).await?.into_inner().pod_sandbox_id;
    let mut times = Vec::new();
    for round in 0..WARM + ROUNDS {
        let config = v1::ContainerConfig {
            metadata: Some(v1::ContainerMetadata {
                name: "c".to_owned(),
                attempt: round as u32,
            }),
            image: Some(v1::ImageSpec {
                image: PAUSE.to_owned(),
                ..Default::default()
            }),
            log_path: format!("{round}.log"),
            linux: Some(v1::LinuxContainerConfig {
                security_context: Some(v1::LinuxContainerSecurityContext {
                    namespace_options: Some(network.clone()),
                    ..Default::default()
                }),
                ..Default::default()
            }),
            ..Default::default()
        };
        let began = Instant::now();
        let request = v1::CreateContainerRequest {
            pod_sandbox_id: id.clone(),
            config: Some(config),
            sandbox_config: Some(sandbox.clone()),
        };
        let container_id = runtime.create_container(request).await?.into_inner().container_id;
        let start = v1::StartContainerRequest {
            container_id: container_id.clone(),
        };
        runtime.start_container(start).await?;
        let stop = v1::StopContainerRequest {
            container_id: container_id.clone(),
            timeout: 0,
        };
        runtime.stop_container(stop).await?;
        runtime
            .remove_container(v1::RemoveContainerRequest { container_id })
            .await?;
        if round >= WARM {
            times.push(began.elapsed());
        }
    }
    let stop = v1::StopPodSandboxRequest {
        pod_sandbox_id: id.clone(),
    };
    runtime.stop_pod_sandbox(stop).await?;
    runtime
        .remove_pod_sandbox(v1::RemovePodSandboxRequest { pod_sandbox_id: id })
        .await?;
    Ok(times)
}
