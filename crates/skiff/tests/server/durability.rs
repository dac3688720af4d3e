//! No acknowledged write is lost when the server is killed.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::common::Server;
use client::{Client, Kubeconfig, ListParams};
use k8s_openapi::api::core::v1::ConfigMap;

fn client(server: &Server) -> Client {
    Kubeconfig::load(server.kubeconfig())
        .unwrap()
        .config(None)
        .unwrap()
        .client("durability")
        .unwrap()
}

/// Kills while eight writers write, restarts, and counts.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_kills_lose_no_acknowledged_write() {
    let mut server = Server::start();
    let acknowledged = Arc::new(AtomicU64::new(0));
    let mut expected = BTreeMap::new();
    for round in 0..100 {
        let api = client(&server);
        let writers: Vec<_> = (0..8)
            .map(|writer| {
                let (api, acknowledged) = (api.clone(), acknowledged.clone());
                tokio::spawn(async move {
                    let mut written = Vec::new();
                    for n in 0.. {
                        let name = format!("r{round}-w{writer}-{n}");
                        let mut object = ConfigMap::default();
                        object.metadata.name = Some(name.clone());
                        object.metadata.namespace = Some("default".into());
                        object.data = Some(BTreeMap::from([("n".to_owned(), n.to_string())]));
                        match api.create(&object).await {
                            Ok(_) => {
                                acknowledged.fetch_add(1, Ordering::SeqCst);
                                written.push((name, n.to_string()));
                            }
                            Err(_) => break,
                        }
                    }
                    written
                })
            })
            .collect();
        // some writes are in flight at every kill
        let target = acknowledged.load(Ordering::SeqCst) + 20;
        while acknowledged.load(Ordering::SeqCst) < target {
            tokio::task::yield_now().await;
        }
        server.kill();
        for writer in writers {
            expected.extend(writer.await.unwrap());
        }
        server.restart();
    }
    let list = client(&server)
        .list::<ConfigMap>("default", &ListParams::default())
        .await
        .unwrap();
    let found: BTreeMap<_, _> = list
        .items
        .into_iter()
        .filter_map(|c| Some((c.metadata.name?, c.data?.remove("n")?)))
        .collect();
    assert!(expected.len() >= 2000, "only {} writes", expected.len());
    let lost: Vec<_> = expected
        .iter()
        .filter(|(name, n)| found.get(*name) != Some(n))
        .collect();
    assert!(lost.is_empty(), "lost {lost:?}");
}

/// One flipped bit, and the way on that the error names.
#[test]
fn a_damaged_log_is_refused_by_name_and_cut_on_demand() {
    let mut s = Server::start();
    for n in 0..20 {
        s.ok(&[
            "create",
            "configmap",
            &format!("c{n}"),
            "--from-literal",
            &format!("at={n}"),
        ]);
    }
    s.kill();
    let log = s.data().join("server/db/0000000000000000.wal");
    let mut bytes = std::fs::read(&log).unwrap();
    let wanted = b"/configmaps/default/c10";
    let at = bytes.windows(wanted.len()).position(|w| w == wanted).unwrap();
    bytes[at] ^= 4;
    std::fs::write(&log, &bytes).unwrap();

    let (started, said) = s.try_command(&[]);
    assert!(
        !started && said.contains("segment 0000000000000000.wal is damaged at byte "),
        "{said}"
    );
    assert!(
        said.contains("--unsafe-truncate-log") && said.contains("server/db"),
        "{said}"
    );
    assert_eq!(std::fs::read(&log).unwrap(), bytes, "nothing was changed");

    let (cut, said) = s.try_command(&["--unsafe-truncate-log"]);
    assert!(cut && said.contains("given up: revisions "), "{said}");
    let (again, nothing) = s.try_command(&["--unsafe-truncate-log"]);
    assert!(again && nothing.contains("is not damaged"), "{nothing}");
    let kept = std::fs::read_dir(s.data().join("server/db")).unwrap();
    let kept: Vec<_> = kept.map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    assert!(
        kept.iter()
            .any(|n| n.starts_with("0000000000000000.wal.") && n.ends_with(".cut")),
        "{kept:?}"
    );

    s.restart();
    let names = s.ok(&["get", "configmaps", "-o", "name"]);
    assert!(
        names.contains("configmap/c9") && !names.contains("configmap/c10"),
        "{names}"
    );
    s.ok(&["create", "configmap", "c10"]);
    let revision = s.ok(&["get", "configmap", "c10", "-o", "jsonpath={.metadata.resourceVersion}"]);
    let given_up: u64 = said
        .split(" to ")
        .nth(2)
        .unwrap_or_default()
        .lines()
        .next()
        .unwrap()
        .parse()
        .unwrap();
    assert!(revision.parse::<u64>().unwrap() > given_up, "{revision}: {said}");
}
