//! Pods through CRI: a runtime in a process of its own, real containers, and a client that knows only the protocol.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use cri::v1;
use support::{Node, container, log, security};

#[tokio::test]
async fn a_pod_lives_from_its_sandbox_to_its_removal() {
    let mut node = Node::start().await;
    let mut events = node.events().await;
    let sandbox = node.sandbox("web").await;
    let script = "cat /shown; hostname; cat /etc/resolv.conf /etc/hostname; echo $IMAGE $HOSTNAME $HOME; \
        ip addr show lo | grep -o 'inet 127.0.0.1'; ls -d /dev/shm; exec sleep 1000";
    let id = node.run(&sandbox, container("main", script)).await;
    let status = node.status(&id).await;
    assert_eq!(status.state(), v1::ContainerState::ContainerRunning);
    assert!(status.started_at >= status.created_at && status.image_id.starts_with("sha256:"));
    let list = node
        .runtime
        .list_pod_sandbox(v1::ListPodSandboxRequest { filter: None });
    let list = list.await.unwrap().into_inner().items;
    assert_eq!((list.len(), list[0].state()), (1, v1::PodSandboxState::SandboxReady));
    let said = node
        .exec(
            &id,
            "while ! grep -q sleep /proc/1/comm; do :; done; cat /proc/1/cmdline; echo oops >&2; exit 4",
        )
        .await;
    assert_eq!((said.exit_code, said.stderr.as_slice()), (4, b"oops\n".as_slice()));
    assert!(said.stdout.starts_with(b"sleep"));
    let request = v1::StopContainerRequest {
        container_id: id.clone(),
        timeout: 0,
    };
    node.runtime.stop_container(request).await.unwrap();
    let status = node.status(&id).await;
    assert_eq!(
        (status.state(), status.exit_code, status.reason.as_str()),
        (v1::ContainerState::ContainerExited, 137, "Error")
    );
    let said = log(&status.log_path);
    for want in [
        "shown",
        "web",
        "nameserver 10.96.0.10",
        "search svc.cluster.local",
        "options ndots:5",
        "yes web /root",
        "inet 127.0.0.1",
        "/dev/shm",
    ] {
        assert!(said.lines().any(|l| l == want), "{want:?} is not in {said}");
    }
    let stop = v1::StopPodSandboxRequest {
        pod_sandbox_id: sandbox.clone(),
    };
    node.runtime.stop_pod_sandbox(stop.clone()).await.unwrap();
    node.runtime.stop_pod_sandbox(stop).await.unwrap();
    let mut kinds = Vec::new();
    while kinds.len() < 6 {
        let event = events.next().await;
        assert_eq!(event.pod_sandbox_status.as_ref().unwrap().id, sandbox);
        kinds.push((event.container_id == sandbox, event.container_event_type()));
    }
    use v1::ContainerEventType::{ContainerCreatedEvent, ContainerStartedEvent, ContainerStoppedEvent};
    assert_eq!(
        kinds,
        [
            (true, ContainerCreatedEvent),
            (true, ContainerStartedEvent),
            (false, ContainerCreatedEvent),
            (false, ContainerStartedEvent),
            (false, ContainerStoppedEvent),
            (true, ContainerStoppedEvent),
        ]
    );
    node.finish_all().await;
}

#[tokio::test]
async fn users_groups_and_variables_come_from_image_and_pod() {
    let mut node = Node::start().await;
    let sandbox = node.sandbox("users").await;
    let mut config = container(
        "named",
        "id -u; id -g; id -G; echo $HOME $IMAGE; touch /x 2>&1; touch /data/new && cat /data/kept; \
         echo again > /dev/stdout",
    );
    config.envs = vec![v1::KeyValue {
        key: "IMAGE".into(),
        value: b"pod".to_vec(),
    }];
    config.linux.as_mut().unwrap().security_context = Some(v1::LinuxContainerSecurityContext {
        run_as_username: "web".into(),
        supplemental_groups: vec![7],
        readonly_rootfs: true,
        no_new_privs: true,
        ..security()
    });
    let (said, status) = node.finish(&sandbox, config).await;
    assert!(said.starts_with("33\n33\n33 7 44\n/srv pod\n"), "{said}");
    assert!(said.contains("Read-only file system"), "{said}");
    assert!(said.ends_with("kept\nagain\n"), "{said}");
    let user = status.user.unwrap().linux.unwrap();
    assert_eq!(
        (user.uid, user.gid, user.supplemental_groups),
        (33, 33, vec![7, 33, 44])
    );
    let mut config = container("strict", "id -G");
    config.linux.as_mut().unwrap().security_context = Some(v1::LinuxContainerSecurityContext {
        run_as_user: Some(v1::Int64Value { value: 33 }),
        supplemental_groups: vec![9],
        supplemental_groups_policy: v1::SupplementalGroupsPolicy::Strict as i32,
        ..security()
    });
    assert_eq!(node.finish(&sandbox, config).await.0, "33 9\n");
    node.finish_all().await;
}

#[tokio::test]
async fn what_cannot_be_made_or_started_is_refused_with_its_reason() {
    let mut node = Node::start().await;
    let sandbox = node.sandbox("wrong").await;
    let mut config = container("no-image", "true");
    config.image.as_mut().unwrap().image = "nothing:here".into();
    assert_eq!(
        node.create(&sandbox, config).await.unwrap_err().code(),
        tonic::Code::NotFound
    );
    let mut config = container("no-command", "true");
    config.command = vec!["no-such-program".into()];
    let container_id = node.create(&sandbox, config).await.unwrap();
    let request = v1::StartContainerRequest {
        container_id: container_id.clone(),
    };
    let error = node.runtime.start_container(request).await.unwrap_err();
    assert!(
        error.message().contains("executable file not found in $PATH"),
        "{error}"
    );
    let status = node.status(&container_id).await;
    assert_eq!((status.exit_code, status.reason.as_str()), (128, "StartError"));
    let again = container("no-command", "true");
    assert_eq!(
        node.create(&sandbox, again).await.unwrap_err().code(),
        tonic::Code::AlreadyExists
    );
    let missing = v1::ContainerStatusRequest {
        container_id: "none".into(),
        verbose: false,
    };
    assert_eq!(
        node.runtime.container_status(missing).await.unwrap_err().code(),
        tonic::Code::NotFound
    );
    node.finish_all().await;
}

#[tokio::test]
async fn after_kill_9_pods_go_on_and_what_ended_meanwhile_is_known() {
    let mut node = Node::start().await;
    let sandbox = node.sandbox("kept").await;
    let fifo = node.dir.path().join("fifo");
    nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
    let mut config = container("ends", "cat /fifo; exit 5");
    config.mounts = vec![v1::Mount {
        container_path: "/fifo".into(),
        host_path: fifo.display().to_string(),
        ..Default::default()
    }];
    let ends = node.run(&sandbox, config).await;
    let stays = node.run(&sandbox, container("stays", "exec sleep 1000")).await;
    let never = node.create(&sandbox, container("never", "true")).await.unwrap();
    let lost_pod = node.sandbox("lost").await;
    let lost = node.run(&lost_pod, container("main", "exec sleep 1000")).await;
    let pid_before = pid(&mut node, &stays).await;
    let lost_pid = pid(&mut node, &lost).await;
    node.kill().await;
    std::fs::write(&fifo, "now\n").unwrap();
    // The other pod's shim is the parent of its container.
    let stat = std::fs::read_to_string(format!("/proc/{lost_pid}/stat")).unwrap();
    let shim: i32 = stat
        .rsplit(')')
        .next()
        .unwrap()
        .split_whitespace()
        .nth(1)
        .unwrap()
        .parse()
        .unwrap();
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(shim), nix::sys::signal::Signal::SIGKILL).unwrap();
    let exit = node.dir.path().join("run");
    let gone = std::time::Instant::now();
    // Nobody but the shim knows of the end; its file tells.
    while !walk(&exit).iter().any(|p| p.ends_with(&format!("{ends}.exit"))) {
        assert!(gone.elapsed() < support::PATIENCE);
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    node.launch().await;
    let status = node.status(&ends).await;
    assert_eq!(
        (status.state(), status.exit_code),
        (v1::ContainerState::ContainerExited, 5)
    );
    assert_eq!(log(&status.log_path), "now\n");
    assert_eq!(node.status(&stays).await.state(), v1::ContainerState::ContainerRunning);
    assert_eq!(pid(&mut node, &stays).await, pid_before);
    assert_eq!(node.status(&never).await.state(), v1::ContainerState::ContainerCreated);
    assert_eq!(node.exec(&stays, "exit 6").await.exit_code, 6);
    let status = node.status(&lost).await;
    assert_eq!(
        (status.state(), status.exit_code),
        (v1::ContainerState::ContainerExited, 255)
    );
    let mut events = node.events().await;
    let request = v1::StopContainerRequest {
        container_id: stays.clone(),
        timeout: 0,
    };
    node.runtime.stop_container(request).await.unwrap();
    assert_eq!(events.stopped(&stays).await.containers_statuses.len(), 3);
    node.finish_all().await;
}

#[tokio::test]
async fn a_lost_shim_is_told_at_once_and_its_containers_do_not_survive_it() {
    let mut node = Node::start().await;
    let sandbox = node.sandbox("gone").await;
    let id = node.run(&sandbox, container("main", "exec sleep 1000")).await;
    let mut events = node.events().await;
    let pid = pid(&mut node, &id).await;
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let shim: i32 = stat
        .rsplit(')')
        .next()
        .unwrap()
        .split_whitespace()
        .nth(1)
        .unwrap()
        .parse()
        .unwrap();
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(shim), nix::sys::signal::Signal::SIGKILL).unwrap();
    events.stopped(&id).await;
    let event = events.stopped(&sandbox).await;
    assert_eq!(
        event.pod_sandbox_status.unwrap().state(),
        v1::PodSandboxState::SandboxNotready
    );
    let status = node.status(&id).await;
    assert_eq!((status.exit_code, status.reason.as_str()), (255, "Unknown"));
    node.finish_all().await;
}

#[tokio::test]
async fn what_a_container_uses_is_told_and_limits_change_while_it_runs() {
    let mut node = Node::start().await;
    let sandbox = node.sandbox("stats").await;
    let script = "dd if=/dev/zero of=/file bs=1024 count=512 2>/dev/null; echo ready; exec sleep 1000";
    let id = node.run(&sandbox, container("main", script)).await;
    // Of this answer the container's own file is the event.
    let said = node
        .exec(&id, "while ! cat /file | wc -c | grep -q 524288; do :; done")
        .await;
    assert_eq!(said.exit_code, 0);
    let request = v1::ContainerStatsRequest {
        container_id: id.clone(),
    };
    let stats = node
        .runtime
        .container_stats(request)
        .await
        .unwrap()
        .into_inner()
        .stats
        .unwrap();
    assert!(stats.cpu.unwrap().usage_core_nano_seconds.unwrap().value > 0);
    assert!(stats.memory.unwrap().working_set_bytes.unwrap().value > 0);
    assert!(stats.writable_layer.unwrap().used_bytes.unwrap().value >= 512 << 10);
    let request = v1::UpdateContainerResourcesRequest {
        container_id: id.clone(),
        linux: Some(v1::LinuxContainerResources {
            memory_limit_in_bytes: 32 << 20,
            ..Default::default()
        }),
        ..Default::default()
    };
    node.runtime.update_container_resources(request).await.unwrap();
    let limit = "cat /sys/fs/cgroup/memory.max /sys/fs/cgroup/memory/memory.limit_in_bytes 2>/dev/null";
    assert_eq!(node.exec(&id, limit).await.stdout, b"33554432\n");
    let resources = node.status(&id).await.resources.unwrap().linux.unwrap();
    assert_eq!((resources.memory_limit_in_bytes, resources.cpu_shares), (32 << 20, 100));
    let request = v1::PodSandboxStatsRequest {
        pod_sandbox_id: sandbox,
    };
    let stats = node.runtime.pod_sandbox_stats(request).await.unwrap().into_inner();
    assert_eq!(stats.stats.unwrap().linux.unwrap().containers.len(), 1);
    let info = node
        .image
        .image_fs_info(v1::ImageFsInfoRequest {})
        .await
        .unwrap()
        .into_inner();
    assert!(info.image_filesystems[0].used_bytes.unwrap().value > 0);
    node.finish_all().await;
}

async fn pid(node: &mut Node, id: &str) -> i32 {
    let request = v1::ContainerStatusRequest {
        container_id: id.into(),
        verbose: true,
    };
    let answer = node.runtime.container_status(request).await.unwrap().into_inner();
    let info: serde_json::Value = serde_json::from_str(&answer.info["info"]).unwrap();
    i32::try_from(info["pid"].as_i64().unwrap()).unwrap()
}

fn walk(dir: &std::path::Path) -> Vec<String> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).unwrap().flatten() {
        if entry.file_type().unwrap().is_dir() {
            found.extend(walk(&entry.path()));
        }
        found.push(entry.path().display().to_string());
    }
    found
}

#[tokio::test]
async fn pods_of_a_bridge_reach_each_other_and_host_ports_reach_them() {
    let mut node = Node::start().await;
    let conf = node.dir.path().join("cni");
    std::fs::create_dir(&conf).unwrap();
    let ipam = format!(
        r#"{{"type":"host-local","dataDir":"{}","ranges":[[{{"subnet":"10.77.0.0/24"}}]],"routes":[{{"dst":"0.0.0.0/0"}}]}}"#,
        node.dir.path().join("ipam").display()
    );
    let list = format!(
        r#"{{"cniVersion":"1.0.0","name":"test","plugins":[
            {{"type":"bridge","bridge":"skiff-test0","isGateway":true,"ipMasq":true,"hairpinMode":true,"ipam":{ipam}}},
            {{"type":"portmap","capabilities":{{"portMappings":true}}}}]}}"#
    );
    std::fs::write(conf.join("10-test.conflist"), list).unwrap();
    node.cni = Some(conf);
    node.kill().await;
    node.launch().await;
    let status = node
        .runtime
        .status(v1::StatusRequest { verbose: false })
        .await
        .unwrap()
        .into_inner();
    assert!(status.status.unwrap().conditions.iter().all(|c| c.status));
    let mut config = node.sandbox_config("server");
    config.port_mappings = vec![v1::PortMapping {
        container_port: 8080,
        host_port: 9090,
        ..Default::default()
    }];
    let request = v1::RunPodSandboxRequest {
        config: Some(config),
        ..Default::default()
    };
    let server = node
        .runtime
        .run_pod_sandbox(request)
        .await
        .unwrap()
        .into_inner()
        .pod_sandbox_id;
    let serve = "while true; do nc -l -p 8080 -e sh -c 'hostname'; done";
    let main = node.run(&server, container("main", serve)).await;
    let ready = "while ! grep -q :1F90 /proc/net/tcp /proc/net/tcp6; do :; done";
    assert_eq!(node.exec(&main, ready).await.exit_code, 0);
    let ip = ip_of(&mut node, &server).await;
    assert!(ip.starts_with("10.77.0."), "{ip}");
    let other = node.sandbox("client").await;
    let client = node.run(&other, container("main", "exec sleep 1000")).await;
    let said = node.exec(&client, &format!("mkfifo /open; nc {ip} 8080 <>/open")).await;
    assert_eq!(String::from_utf8_lossy(&said.stdout), "server\n", "{said:?}");
    assert_eq!(node.exec(&main, ready).await.exit_code, 0);
    let said = node.exec(&client, "nc 10.77.0.1 9090 <>/open").await;
    assert_eq!(String::from_utf8_lossy(&said.stdout), "server\n", "{said:?}");
    node.kill().await;
    node.launch().await;
    assert_eq!(ip_of(&mut node, &server).await, ip);
    let stop = v1::StopPodSandboxRequest {
        pod_sandbox_id: server.clone(),
    };
    node.runtime.stop_pod_sandbox(stop).await.unwrap();
    let next = node.sandbox("next").await;
    assert_ne!(ip_of(&mut node, &next).await, ip_of(&mut node, &other).await);
    node.finish_all().await;
}

async fn ip_of(node: &mut Node, sandbox: &str) -> String {
    let request = v1::PodSandboxStatusRequest {
        pod_sandbox_id: sandbox.into(),
        verbose: false,
    };
    let answer = node.runtime.pod_sandbox_status(request).await.unwrap().into_inner();
    answer.status.unwrap().network.unwrap().ip
}

/// Pods are made while the runtime is killed at ever later moments of it.
#[tokio::test]
async fn killed_at_any_moment_it_keeps_whole_pods_and_clears_half_made_ones() {
    let mut node = Node::start().await;
    for round in 0..40u64 {
        let mut making = tokio::task::JoinSet::new();
        for n in 0..3 {
            let mut runtime = node.runtime.clone();
            let sandbox_config = node.sandbox_config(&format!("pod-{round}-{n}"));
            making.spawn(async move {
                let request = v1::RunPodSandboxRequest {
                    config: Some(sandbox_config),
                    ..Default::default()
                };
                let pod_sandbox_id = runtime.run_pod_sandbox(request).await?.into_inner().pod_sandbox_id;
                let request = v1::CreateContainerRequest {
                    pod_sandbox_id: pod_sandbox_id.clone(),
                    config: Some(container("main", "exec sleep 1000")),
                    sandbox_config: None,
                };
                let container_id = runtime.create_container(request).await?.into_inner().container_id;
                runtime
                    .start_container(v1::StartContainerRequest { container_id })
                    .await?;
                let request = v1::RemovePodSandboxRequest { pod_sandbox_id };
                runtime.remove_pod_sandbox(request).await.map(drop)
            });
        }
        tokio::time::sleep(std::time::Duration::from_millis(round * 3 % 60)).await;
        node.kill().await;
        // Whoever was served meanwhile was lucky.
        while making.join_next().await.is_some() {}
        node.launch().await;
        let list = node.runtime.list_containers(v1::ListContainersRequest { filter: None });
        for one in list.await.unwrap().into_inner().containers {
            if one.state() != v1::ContainerState::ContainerRunning {
                continue;
            }
            let request = v1::ExecSyncRequest {
                container_id: one.id.clone(),
                cmd: ["sh", "-c", "exit 3"].map(str::to_owned).to_vec(),
                timeout: 10,
            };
            match node.runtime.exec_sync(request).await {
                Ok(answer) if answer.get_ref().exit_code == 3 => {}
                // The signal of its removal was on its way when the runtime was killed.
                _ => while node.status(&one.id).await.state() == v1::ContainerState::ContainerRunning {},
            }
        }
        let list = node
            .runtime
            .list_pod_sandbox(v1::ListPodSandboxRequest { filter: None });
        for sandbox in list.await.unwrap().into_inner().items {
            let request = v1::RemovePodSandboxRequest {
                pod_sandbox_id: sandbox.id,
            };
            node.runtime.remove_pod_sandbox(request).await.unwrap();
        }
    }
    node.finish_all().await;
}

#[tokio::test]
async fn privileges_host_namespaces_and_images_as_volumes_are_as_asked() {
    let mut node = Node::start().await;
    let mut config = node.sandbox_config("host");
    let host = v1::NamespaceOption {
        network: v1::NamespaceMode::Node as i32,
        pid: v1::NamespaceMode::Node as i32,
        ipc: v1::NamespaceMode::Node as i32,
        ..Default::default()
    };
    let linux = config.linux.as_mut().unwrap();
    linux.security_context.as_mut().unwrap().namespace_options = Some(host.clone());
    config.hostname = String::new();
    let request = v1::RunPodSandboxRequest {
        config: Some(config),
        ..Default::default()
    };
    let sandbox = node
        .runtime
        .run_pod_sandbox(request)
        .await
        .unwrap()
        .into_inner()
        .pod_sandbox_id;
    let script = "readlink /proc/self/ns/net; hostname; ls /dev | grep -c kmsg; mount -t tmpfs t /tmp && echo mounted; \
        grep -c . /proc/1/cmdline; ls /volume/bin/sh /volume/hidden 2>&1; touch /volume/x 2>&1";
    let mut config = container("main", script);
    config.linux.as_mut().unwrap().security_context = Some(v1::LinuxContainerSecurityContext {
        privileged: true,
        namespace_options: Some(host),
        ..Default::default()
    });
    config.mounts = vec![v1::Mount {
        container_path: "/volume".into(),
        image: Some(v1::ImageSpec {
            image: "busybox:test".into(),
            ..Default::default()
        }),
        readonly: true,
        ..Default::default()
    }];
    let (said, _) = node.finish(&sandbox, config).await;
    let net = std::fs::read_link(node.net_namespace()).unwrap().display().to_string();
    let hostname = nix::unistd::gethostname().unwrap().into_string().unwrap();
    for want in [net.as_str(), hostname.as_str(), "1", "mounted", "/volume/bin/sh"] {
        assert!(said.lines().any(|l| l == want), "{want:?} is not in {said}");
    }
    assert!(said.contains("/volume/hidden: No such file"), "{said}");
    assert!(said.contains("/volume/x: Read-only file system"), "{said}");
    node.finish_all().await;
}

#[tokio::test]
async fn a_container_is_asked_to_stop_by_its_own_signal_and_its_log_can_be_rotated() {
    let mut node = Node::start().await;
    let sandbox = node.sandbox("stop").await;
    let mut config = container(
        "main",
        "trap 'echo bye; exit 9' USR1; echo hello; while true; do sleep 0.05; done",
    );
    config.stop_signal = v1::Signal::Sigusr1 as i32;
    let id = node.run(&sandbox, config).await;
    let path = node.status(&id).await.log_path;
    // Its first word says that the trap is set.
    let begun = std::time::Instant::now();
    while !std::fs::read_to_string(&path).unwrap_or_default().contains("hello") {
        assert!(begun.elapsed() < support::PATIENCE);
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    std::fs::rename(&path, format!("{path}.1")).unwrap();
    let request = v1::ReopenContainerLogRequest {
        container_id: id.clone(),
    };
    node.runtime.reopen_container_log(request).await.unwrap();
    let request = v1::StopContainerRequest {
        container_id: id.clone(),
        timeout: 20,
    };
    node.runtime.stop_container(request).await.unwrap();
    let status = node.status(&id).await;
    assert_eq!((status.exit_code, status.stop_signal()), (9, v1::Signal::Sigusr1));
    assert_eq!(log(&path), "bye\n");
    assert_eq!(log(&format!("{path}.1")), "hello\n");
    node.finish_all().await;
}

#[tokio::test]
async fn an_image_may_go_before_its_container_and_a_directory_has_one_runtime() {
    let mut node = Node::start().await;
    let sandbox = node.sandbox("image").await;
    let id = node.run(&sandbox, container("main", "exec sleep 1000")).await;
    let image = Some(v1::ImageSpec {
        image: "busybox:test".into(),
        ..Default::default()
    });
    node.image.remove_image(v1::RemoveImageRequest { image }).await.unwrap();
    let layers = node.dir.path().join("root/images/layers");
    assert_eq!(std::fs::read_dir(&layers).unwrap().count(), 2);
    assert_eq!(node.exec(&id, "cat /shown").await.stdout, b"shown\n");
    let request = v1::RemoveContainerRequest { container_id: id };
    node.runtime.remove_container(request).await.unwrap();
    assert_eq!(std::fs::read_dir(&layers).unwrap().count(), 0);
    let second = node
        .command(env!("CARGO_BIN_EXE_skiff-runtime"))
        .args(["serve".as_ref(), node.dir.path().join("root").as_os_str()])
        .args([node.dir.path().join("run2"), node.dir.path().join("cri2.sock")])
        .output()
        .await
        .unwrap();
    use std::os::unix::fs::PermissionsExt;
    let mode = std::fs::metadata(node.dir.path().join("root"))
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o700, "other users reach the programs of images");
    let said = String::from_utf8_lossy(&second.stderr);
    assert!(said.contains("another runtime uses the directory"), "{said}");
    node.finish_all().await;
}

#[tokio::test]
async fn after_a_reboot_pods_have_ended_and_can_be_removed() {
    let mut node = Node::start().await;
    let sandbox = node.sandbox("before").await;
    let id = node.run(&sandbox, container("main", "exec sleep 1000")).await;
    node.kill().await;
    for shim in node.shims() {
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(shim), nix::sys::signal::Signal::SIGKILL).unwrap();
    }
    let run = node.dir.path().join("run");
    let out = node
        .command("sh")
        .arg("-c")
        .arg(format!("umount {0}/*/*; rm -r {0}", run.display()))
        .output();
    out.await.unwrap();
    assert!(!run.exists());
    node.launch().await;
    let status = node.status(&id).await;
    assert_eq!(
        (status.state(), status.exit_code, status.reason.as_str()),
        (v1::ContainerState::ContainerExited, 255, "Unknown")
    );
    let list = node
        .runtime
        .list_pod_sandbox(v1::ListPodSandboxRequest { filter: None });
    let list = list.await.unwrap().into_inner().items;
    assert_eq!((list.len(), list[0].state()), (1, v1::PodSandboxState::SandboxNotready));
    let stop = v1::StopPodSandboxRequest {
        pod_sandbox_id: sandbox,
    };
    node.runtime.stop_pod_sandbox(stop).await.unwrap();
    node.finish_all().await;
}

#[tokio::test]
async fn a_network_that_fails_leaves_a_sandbox_to_be_removed_later() {
    let mut node = Node::start().await;
    let conf = node.dir.path().join("cni");
    std::fs::create_dir(&conf).unwrap();
    node.cni = Some(conf.clone());
    node.kill().await;
    node.launch().await;
    let request = v1::RunPodSandboxRequest {
        config: Some(node.sandbox_config("early")),
        ..Default::default()
    };
    let error = node.runtime.run_pod_sandbox(request.clone()).await.unwrap_err();
    assert!(
        error.message().contains("failed to setup network for sandbox"),
        "{error}"
    );
    let status = node
        .runtime
        .status(v1::StatusRequest { verbose: false })
        .await
        .unwrap()
        .into_inner();
    let network = status.status.unwrap().conditions.remove(1);
    assert_eq!(
        (network.status, network.reason.as_str()),
        (false, "NetworkPluginNotReady")
    );
    node.kill().await;
    node.launch().await;
    node.finish_all().await;
}
