use super::*;

fn pod(uid: &str, on_host: bool) -> v1::PodSandboxConfig {
    let network = match on_host {
        true => v1::NamespaceMode::Node,
        false => v1::NamespaceMode::Pod,
    };
    v1::PodSandboxConfig {
        metadata: Some(v1::PodSandboxMetadata {
            uid: uid.into(),
            ..Default::default()
        }),
        labels: [("uid".to_owned(), uid.to_owned())].into(),
        linux: Some(v1::LinuxPodSandboxConfig {
            security_context: Some(v1::LinuxSandboxSecurityContext {
                namespace_options: Some(v1::NamespaceOption {
                    network: network.into(),
                    ..Default::default()
                }),
                ..Default::default()
            }),
            ..Default::default()
        }),
        ..Default::default()
    }
}

async fn sandbox(client: &mut RuntimeClient, uid: &str, on_host: bool) -> String {
    let asked = v1::RunPodSandboxRequest {
        config: Some(pod(uid, on_host)),
        ..Default::default()
    };
    client.run_pod_sandbox(asked).await.unwrap().into_inner().pod_sandbox_id
}

async fn ip(client: &mut RuntimeClient, id: &str) -> Option<String> {
    let asked = v1::PodSandboxStatusRequest {
        pod_sandbox_id: id.to_owned(),
        verbose: false,
    };
    let status = client.pod_sandbox_status(asked).await.unwrap().into_inner().status;
    status.unwrap().network.map(|network| network.ip)
}

#[tokio::test]
async fn an_address_is_free_again_after_its_sandbox() {
    let (mut client, _) = HollowRuntime::new(Ipv4Addr::new(100, 64, 7, 0)).clients();
    let first = sandbox(&mut client, "a", false).await;
    let second = sandbox(&mut client, "b", false).await;
    let host = sandbox(&mut client, "c", true).await;
    assert_eq!(ip(&mut client, &first).await.as_deref(), Some("100.64.7.1"));
    assert_eq!(ip(&mut client, &second).await.as_deref(), Some("100.64.7.2"));
    assert_eq!(ip(&mut client, &host).await, None);
    let stop = v1::StopPodSandboxRequest {
        pod_sandbox_id: first.clone(),
    };
    client.stop_pod_sandbox(stop).await.unwrap();
    let third = sandbox(&mut client, "d", false).await;
    assert_eq!(ip(&mut client, &third).await.as_deref(), Some("100.64.7.1"));
}

#[tokio::test]
async fn a_container_lives_as_it_is_told_and_says_so() {
    let (mut client, mut images) = HollowRuntime::new(Ipv4Addr::new(100, 64, 0, 0)).clients();
    let mut events = client
        .get_container_events(v1::GetEventsRequest {})
        .await
        .unwrap()
        .into_inner();
    let sandbox = sandbox(&mut client, "a", false).await;
    let spec = v1::ImageSpec {
        image: "registry.example/app:1".into(),
        ..Default::default()
    };
    let pulled = v1::PullImageRequest {
        image: Some(spec.clone()),
        ..Default::default()
    };
    images.pull_image(pulled).await.unwrap();
    let asked = v1::CreateContainerRequest {
        pod_sandbox_id: sandbox.clone(),
        config: Some(v1::ContainerConfig {
            image: Some(spec),
            ..Default::default()
        }),
        sandbox_config: None,
    };
    let id = client
        .create_container(asked.clone())
        .await
        .unwrap()
        .into_inner()
        .container_id;
    let run = v1::StartContainerRequest {
        container_id: id.clone(),
    };
    client.start_container(run.clone()).await.unwrap();
    assert!(client.start_container(run).await.is_err(), "it runs already");
    let stop = v1::StopContainerRequest {
        container_id: id.clone(),
        timeout: 30,
    };
    client.stop_container(stop).await.unwrap();
    let status = v1::ContainerStatusRequest {
        container_id: id,
        verbose: false,
    };
    let status = client
        .container_status(status)
        .await
        .unwrap()
        .into_inner()
        .status
        .unwrap();
    assert_eq!(status.state(), v1::ContainerState::ContainerExited);
    assert!(status.started_at >= status.created_at && status.finished_at >= status.started_at);
    let mut kinds = Vec::new();
    for _ in 0..4 {
        kinds.push(events.message().await.unwrap().unwrap().container_event_type());
    }
    let (created, started, stopped) = (
        v1::ContainerEventType::ContainerCreatedEvent,
        v1::ContainerEventType::ContainerStartedEvent,
        v1::ContainerEventType::ContainerStoppedEvent,
    );
    assert_eq!(kinds, [started, created, started, stopped]);
    let remove = v1::RemovePodSandboxRequest {
        pod_sandbox_id: sandbox,
    };
    client.remove_pod_sandbox(remove).await.unwrap();
    let refused = client.create_container(asked).await.unwrap_err();
    assert_eq!(refused.code(), tonic::Code::NotFound);
}
