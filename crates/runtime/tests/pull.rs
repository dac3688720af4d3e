//! Pulls: from a real registry that skopeo pushed to, and from one that breaks off, redirects and asks for tokens.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::collections::HashMap;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use cri::v1;
use futures::StreamExt;
use http::{Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper_util::rt::TokioIo;
use runtime::image::store::ImageStore;
use runtime::image::unpack::digest_of;
use runtime::registry::{Credentials, Puller, Registries, Resolved};
use support::{Node, PATIENCE, container};

/// `secret`, as docker-registry's htpasswd file wants it.
const PASSWORD: &str = "user:$2y$05$abcdefghijklmnopqrstuuOQiyCxlgf/oeuTqixKmWdcYUh4Hjl0a\n";

async fn registry(node: &Node, port: u16, auth: bool) -> tokio::process::Child {
    let dir = node.dir.path().join(format!("registry-{port}"));
    std::fs::create_dir(&dir).unwrap();
    std::fs::write(dir.join("htpasswd"), PASSWORD).unwrap();
    let mut config = format!(
        "version: 0.1\nlog: {{level: error}}\nstorage: {{filesystem: {{rootdirectory: {}}}}}\nhttp: {{addr: '127.0.0.1:{port}'}}\n",
        dir.join("data").display()
    );
    if auth {
        config.push_str(&format!(
            "auth: {{htpasswd: {{realm: here, path: {}}}}}\n",
            dir.join("htpasswd").display()
        ));
    }
    std::fs::write(dir.join("config.yml"), config).unwrap();
    let mut command = node.command("docker-registry");
    command.arg("serve").arg(dir.join("config.yml"));
    command
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null());
    let child = command.spawn().unwrap();
    let begun = std::time::Instant::now();
    // It tells nobody when it listens.
    let listening = format!("0100007F:{port:04X}");
    loop {
        let out = node.command("cat").arg("/proc/net/tcp").output().await.unwrap();
        if String::from_utf8_lossy(&out.stdout).contains(&listening) {
            return child;
        }
        assert!(begun.elapsed() < PATIENCE, "docker-registry does not listen");
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
}

async fn push(node: &Node, to: &str, credentials: &[&str]) {
    let from = format!(
        "docker-archive:{}",
        node.dir.path().join("images/busybox.tar").display()
    );
    let out = node
        .command("skopeo")
        .args(["copy", "--insecure-policy", "--dest-tls-verify=false"])
        .args(credentials)
        .args([&from, &format!("docker://{to}")])
        .output()
        .await
        .unwrap();
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
}

fn pull_request(image: &str, auth: Option<v1::AuthConfig>) -> v1::PullImageRequest {
    v1::PullImageRequest {
        image: Some(v1::ImageSpec {
            image: image.into(),
            ..Default::default()
        }),
        auth,
        sandbox_config: None,
    }
}

#[tokio::test]
async fn an_image_is_pulled_from_a_registry_a_mirror_and_one_with_a_password() {
    let mut node = Node::start().await;
    let _open = registry(&node, 5000, false).await;
    let _closed = registry(&node, 5001, true).await;
    push(&node, "127.0.0.1:5000/test/box:v1", &[]).await;
    push(&node, "127.0.0.1:5000/hub/mirrored:v2", &[]).await;
    push(
        &node,
        "127.0.0.1:5001/test/private:v3",
        &["--dest-creds", "user:secret"],
    )
    .await;
    let mirrors = "mirrors: {docker.io: {endpoint: ['http://127.0.0.1:5000'], rewrite: {'^library/(.*)': 'hub/$1'}}}";
    std::fs::write(node.dir.path().join("registries.yaml"), mirrors).unwrap();
    node.kill().await;
    node.launch().await;
    let remove = v1::RemoveImageRequest {
        image: Some(v1::ImageSpec {
            image: "busybox:test".into(),
            ..Default::default()
        }),
    };
    node.image.remove_image(remove.clone()).await.unwrap();
    let layers = node.dir.path().join("root/images/layers");
    assert_eq!(std::fs::read_dir(&layers).unwrap().count(), 0);
    let (socket, archive) = (
        node.dir.path().join("cri.sock"),
        node.dir.path().join("images/busybox.tar"),
    );
    let imported = runtime::import(&socket, &archive).await.unwrap();
    assert_eq!(imported, ["docker.io/library/busybox:test"]);
    let missing = runtime::import(&socket, &node.dir.path().join("none.tar"))
        .await
        .unwrap_err();
    assert!(missing.message().contains("none.tar"), "{missing}");
    node.image.remove_image(remove).await.unwrap();
    let first = node
        .image
        .pull_image(pull_request("127.0.0.1:5000/test/box:v1", None))
        .await;
    let first = first.unwrap().into_inner().image_ref;
    let second = node
        .image
        .pull_image(pull_request("mirrored:v2", None))
        .await
        .unwrap()
        .into_inner()
        .image_ref;
    assert_eq!(first, second);
    assert_eq!(std::fs::read_dir(&layers).unwrap().count(), 2);
    let refused = node
        .image
        .pull_image(pull_request("127.0.0.1:5001/test/private:v3", None))
        .await
        .unwrap_err();
    assert!(refused.message().contains("no basic auth credentials"), "{refused}");
    let auth = |password: &str| {
        Some(v1::AuthConfig {
            username: "user".into(),
            password: password.into(),
            ..Default::default()
        })
    };
    let wrong = pull_request("127.0.0.1:5001/test/private:v3", auth("wrong"));
    let refused = node.image.pull_image(wrong).await.unwrap_err();
    assert!(refused.message().contains("pull access denied"), "{refused}");
    let right = pull_request("127.0.0.1:5001/test/private:v3", auth("secret"));
    node.image.pull_image(right).await.unwrap();
    let missing = node
        .image
        .pull_image(pull_request("127.0.0.1:5000/no/such:tag", None))
        .await
        .unwrap_err();
    assert_eq!(
        (missing.code(), missing.message()),
        (
            tonic::Code::NotFound,
            "failed to pull and unpack image \"127.0.0.1:5000/no/such:tag\": failed to resolve image: \
             127.0.0.1:5000/no/such:tag: not found"
        )
    );
    let nobody = node
        .image
        .pull_image(pull_request("127.0.0.1:9/x:y", None))
        .await
        .unwrap_err();
    assert!(
        nobody
            .message()
            .ends_with("dial tcp 127.0.0.1:9: connect: connection refused"),
        "{nobody}"
    );
    let list = node
        .image
        .list_images(v1::ListImagesRequest { filter: None })
        .await
        .unwrap()
        .into_inner()
        .images;
    assert_eq!(
        (list.len(), list[0].repo_tags.len(), list[0].repo_digests.len()),
        (1, 3, 3),
        "{list:?}"
    );
    let sandbox = node.sandbox("pulled").await;
    let mut config = container("main", "cat /shown");
    config.image.as_mut().unwrap().image = first;
    let (said, status) = node.finish(&sandbox, config).await;
    assert_eq!(said, "shown\n");
    assert!(status.image_ref.contains("@sha256:"), "{}", status.image_ref);
    node.finish_all().await;
}

/// A registry that asks for a token, has an index, sends layers in parts that break off, and takes a while for each.
#[derive(Default)]
struct Moody {
    blobs: HashMap<String, Vec<u8>>,
    manifests: HashMap<String, Vec<u8>>,
    requests: Mutex<Vec<String>>,
    address: Mutex<String>,
}

type Body = http_body_util::combinators::UnsyncBoxBody<Bytes, std::io::Error>;

fn whole(status: StatusCode, bytes: impl Into<Bytes>) -> Response<Body> {
    let body = Full::new(bytes.into())
        .map_err(|never: Infallible| match never {})
        .boxed_unsync();
    let mut response = Response::new(body);
    *response.status_mut() = status;
    response
}

impl Moody {
    fn answer(&self, request: &Request<Incoming>) -> Response<Body> {
        let path = request.uri().path().to_owned();
        let of = |name| request.headers().get(name).map(|v| v.to_str().unwrap().to_owned());
        let range = of(header::RANGE);
        self.requests
            .lock()
            .unwrap()
            .push(format!("{path} {}", range.clone().unwrap_or_default()));
        if path == "/token" {
            assert!(request.uri().query().unwrap().contains("repository%3Amoody%3Apull"));
            let known = of(header::AUTHORIZATION).is_some_and(|a| a == "Basic dTpw");
            let status = if known {
                StatusCode::OK
            } else {
                StatusCode::UNAUTHORIZED
            };
            return whole(status, r#"{"token":"let-me-in"}"#);
        }
        if of(header::AUTHORIZATION).is_none_or(|a| a != "Bearer let-me-in") {
            let mut response = whole(StatusCode::UNAUTHORIZED, "");
            let address = self.address.lock().unwrap().clone();
            let challenge = format!(r#"Bearer realm="http://{address}/token",service="s""#);
            response
                .headers_mut()
                .insert(header::WWW_AUTHENTICATE, challenge.parse().unwrap());
            return response;
        }
        let name = path.rsplit('/').next().unwrap();
        if let Some(manifest) = self.manifests.get(name).filter(|_| path.contains("/manifests/")) {
            return whole(StatusCode::OK, manifest.clone());
        }
        let Some(blob) = self.blobs.get(name) else {
            return whole(StatusCode::NOT_FOUND, "");
        };
        let from = range.map_or(0, |r| {
            r.trim_start_matches("bytes=")
                .trim_end_matches('-')
                .parse::<usize>()
                .unwrap()
        });
        if from >= blob.len() && from > 0 {
            return whole(StatusCode::RANGE_NOT_SATISFIABLE, "");
        }
        let part = &blob[from..];
        let first = Ok(Frame::data(Bytes::copy_from_slice(&part[..part.len().min(200_000)])));
        let breaks = part.len() > 200_000;
        // What was said before the break has to be on its way.
        let pause = std::time::Duration::from_millis(20);
        let rest = futures::stream::iter(breaks.then_some(())).then(move |()| async move {
            tokio::time::sleep(pause).await;
            Err(std::io::Error::other("broken off"))
        });
        let body = StreamBody::new(futures::stream::iter([first]).chain(rest)).boxed_unsync();
        let mut response = Response::new(body);
        *response.status_mut() = if from > 0 {
            StatusCode::PARTIAL_CONTENT
        } else {
            StatusCode::OK
        };
        response.headers_mut().insert(header::CONTENT_LENGTH, part.len().into());
        response
    }

    async fn serve(self: Arc<Self>) -> SocketAddr {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        *self.address.lock().unwrap() = address.to_string();
        tokio::spawn(async move {
            while let Ok((tcp, _)) = listener.accept().await {
                let own = self.clone();
                let service = hyper::service::service_fn(move |request| {
                    let response = own.answer(&request);
                    async move { Ok::<_, Infallible>(response) }
                });
                tokio::spawn(async move {
                    let _ = hyper::server::conn::http1::Builder::new()
                        .serve_connection(TokioIo::new(tcp), service)
                        .await;
                });
            }
        });
        address
    }
}

fn noise(length: usize) -> Vec<u8> {
    let mut state = 1u32;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    };
    (0..length).map(|_| next()).collect()
}

fn moody(corrupt: bool) -> Moody {
    let mut moody = Moody::default();
    let (mut layers, mut diff_ids) = (Vec::new(), Vec::new());
    for n in 0..5 {
        let content = noise(500_000 + n);
        let name = format!("file-{n}");
        let layer = support::tar_of(&[(name.as_str(), content, tar::EntryType::Regular, 0o644)]);
        let digest = digest_of(&layer);
        layers.push(format!(
            r#"{{"mediaType":"x","digest":"{digest}","size":{}}}"#,
            layer.len()
        ));
        diff_ids.push(format!("\"{digest}\""));
        let mut sent = layer;
        if corrupt && n == 3 {
            sent[1000] ^= 1;
        }
        moody.blobs.insert(digest, sent);
    }
    let architecture = runtime::image::manifest::architecture();
    let config = format!(
        r#"{{"architecture":"{architecture}","os":"linux","config":{{}},"rootfs":{{"diff_ids":[{}]}}}}"#,
        diff_ids.join(",")
    );
    let config_digest = digest_of(config.as_bytes());
    let manifest = format!(
        r#"{{"config":{{"digest":"{config_digest}"}},"layers":[{}]}}"#,
        layers.join(",")
    );
    moody.blobs.insert(config_digest, config.into_bytes());
    let manifest_digest = digest_of(manifest.as_bytes());
    let other = "a".repeat(64);
    let index = format!(
        r#"{{"manifests":[{{"digest":"sha256:{other}","platform":{{"architecture":"s390x","os":"linux"}}}},
            {{"digest":"{manifest_digest}","platform":{{"architecture":"{architecture}","os":"linux"}}}}]}}"#
    );
    moody.manifests.insert(manifest_digest, manifest.into_bytes());
    moody.manifests.insert("v1".to_owned(), index.into_bytes());
    moody
}

fn puller() -> Arc<Puller> {
    let resolve =
        Arc::new(|_| -> futures::future::BoxFuture<'static, Resolved> { Box::pin(async { Err("none".into()) }) });
    Arc::new(Puller::new(Registries::default(), resolve))
}

fn password() -> Option<Credentials> {
    Credentials::from_parts("u", "p", "", "", "")
}

#[tokio::test(flavor = "multi_thread")]
async fn broken_transfers_are_resumed_and_two_pulls_share_one_download() {
    let dir = tempfile::Builder::new().prefix("skiff-").tempdir().unwrap();
    let store = Arc::new(ImageStore::open(dir.path()).unwrap());
    let moody = Arc::new(moody(false));
    let name = format!("{}/moody:v1", moody.clone().serve().await);
    let puller = puller();
    let (one, two) = tokio::join!(
        puller.pull(&store, &name, password()),
        puller.pull(&store, &name, password())
    );
    let (one, two) = (one.unwrap(), two.unwrap());
    assert_eq!((&one.id, one.layers.len()), (&two.id, 5));
    let top = dir.path().join("layers").join(&one.layers[0]).join("file-4");
    assert_eq!(std::fs::read(top).unwrap(), noise(500_004));
    let requests = moody.requests.lock().unwrap().clone();
    let ranges = requests.iter().filter(|r| r.contains("bytes=200000-")).count();
    assert_eq!(ranges, 5, "{requests:?}");
    assert_eq!(std::fs::read_dir(store.ingest_dir()).unwrap().count(), 0);
    assert_eq!(std::fs::read_dir(store.layer_dir()).unwrap().count(), 5);
    assert_eq!(puller.pull(&store, &name, password()).await.unwrap().id, one.id);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_does_not_have_its_digest_is_refused_and_leaves_nothing() {
    let dir = tempfile::Builder::new().prefix("skiff-").tempdir().unwrap();
    let store = Arc::new(ImageStore::open(dir.path()).unwrap());
    let name = format!("{}/moody:v1", Arc::new(moody(true)).serve().await);
    let error = puller().pull(&store, &name, password()).await.unwrap_err().to_string();
    assert!(error.contains("digest"), "{error}");
    assert!(store.list().is_empty());
    let error = puller().pull(&store, &name, None).await.unwrap_err().to_string();
    assert!(
        error.contains("failed to authorize: failed to fetch anonymous token"),
        "{error}"
    );
}
