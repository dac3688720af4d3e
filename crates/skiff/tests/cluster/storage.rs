//! Claims and volumes, from what a pod asks for to the bytes it finds.

use crate::cluster::Cluster;

const STORAGE: &str = r#"
apiVersion: storage.k8s.io/v1
kind: StorageClass
metadata: { name: local }
provisioner: kubernetes.io/no-provisioner
volumeBindingMode: WaitForFirstConsumer
---
apiVersion: v1
kind: PersistentVolume
metadata: { name: small }
spec:
  storageClassName: local
  capacity: { storage: 1Gi }
  accessModes: [ReadWriteOnce]
  persistentVolumeReclaimPolicy: Retain
  hostPath: { path: PATH/small, type: DirectoryOrCreate }
---
apiVersion: v1
kind: PersistentVolume
metadata: { name: large }
spec:
  storageClassName: local
  capacity: { storage: 9Gi }
  accessModes: [ReadWriteOnce]
  persistentVolumeReclaimPolicy: Retain
  hostPath: { path: PATH/large, type: DirectoryOrCreate }
---
apiVersion: v1
kind: PersistentVolumeClaim
metadata: { name: data }
spec:
  storageClassName: local
  accessModes: [ReadWriteOnce]
  resources: { requests: { storage: 2Gi } }
"#;

const POD: &str = r#"
apiVersion: v1
kind: Pod
metadata: { name: writer }
spec:
  terminationGracePeriodSeconds: 0
  containers:
    - name: c
      image: busybox:1
      command: [sh, -c, 'echo kept >/data/f; echo scratch >/scratch/f; sleep 1000']
      volumeMounts: [{ name: data, mountPath: /data }, { name: scratch, mountPath: /scratch }]
  volumes:
    - name: data
      persistentVolumeClaim: { claimName: data }
    - name: scratch
      ephemeral:
        volumeClaimTemplate:
          metadata: { labels: { of: writer } }
          spec:
            storageClassName: local
            accessModes: [ReadWriteOnce]
            resources: { requests: { storage: 1Gi } }
"#;

#[test]
fn claims_get_volumes_when_their_pod_has_a_node() {
    let c = Cluster::start("storage", &["busybox"]);
    let path = c.dir.join("volumes");
    c.apply(&STORAGE.replace("PATH", &path.display().to_string()));
    let volume_of =
        |claim: &str| c.kubectl(&["get", "pvc", claim, "-o", "jsonpath={.spec.volumeName}/{.status.phase}"]);
    c.until("the claim says what it waits for", |c| {
        c.kubectl(&["describe", "pvc", "data"])
            .contains("waiting for first consumer")
    });
    assert_eq!(volume_of("data"), "/Pending");

    c.apply(POD);
    c.kubectl(&["wait", "--for=condition=Ready", "pod/writer", "--timeout=60s"]);
    assert_eq!(volume_of("data"), "large/Bound");
    assert_eq!(volume_of("writer-scratch"), "small/Bound");
    let owner = "jsonpath={.metadata.ownerReferences[0].name}/{.metadata.labels.of}";
    assert_eq!(
        c.kubectl(&["get", "pvc", "writer-scratch", "-o", owner]),
        "writer/writer"
    );
    c.until("both are written", |_| {
        let read = |name: &str| std::fs::read_to_string(path.join(name).join("f")).unwrap_or_default();
        read("large") == "kept\n" && read("small") == "scratch\n"
    });

    c.kubectl(&["delete", "pod", "writer"]);
    c.until("the pod's own claim goes with it", |c| {
        c.kubectl(&["get", "pvc", "-o", "name"]) == "persistentvolumeclaim/data"
    });
    c.until("its volume is released", |c| {
        c.kubectl(&["get", "pv", "small", "-o", "jsonpath={.status.phase}"]) == "Released"
    });
    assert_eq!(volume_of("data"), "large/Bound");
}

const MODES: &str = r#"
apiVersion: v1
kind: ConfigMap
metadata: { name: plain }
data: { a: "1" }
---
apiVersion: v1
kind: Secret
metadata: { name: hidden }
stringData: { a: "1", b: "2" }
---
apiVersion: v1
kind: Pod
metadata: { name: modes }
spec:
  terminationGracePeriodSeconds: 0
  containers:
    - name: c
      image: busybox:1
      command: [sh, -c, 'umask >/scratch/umask; touch /scratch/made; sleep 1000']
      volumeMounts:
        - { name: scratch, mountPath: /scratch }
        - { name: scratch, mountPath: /part, subPath: part/below }
        - { name: plain, mountPath: /plain }
        - { name: hidden, mountPath: /hidden }
        - { name: host, mountPath: /host }
  volumes:
    - { name: scratch, emptyDir: {} }
    - { name: plain, configMap: { name: plain } }
    - name: hidden
      secret: { secretName: hidden, defaultMode: 0400, items: [{ key: a, path: deep/a }, { key: b, path: b, mode: 0644 }] }
    - { name: host, hostPath: { path: PATH/host, type: DirectoryOrCreate } }
"#;

/// What the container finds, by upstream's defaults.
const SEEN: [(&str, &str); 16] = [
    ("/", "755"),
    ("/bin", "755"),
    ("/scratch", "777"),
    ("/scratch/made", "644"),
    ("/part", "777"),
    ("/plain/", "777"),
    ("/plain/..data/", "755"),
    ("/plain/..data/a", "644"),
    ("/hidden/..data/deep/", "755"),
    ("/hidden/..data/deep/a", "400"),
    ("/hidden/..data/b", "644"),
    ("/host", "755"),
    ("/etc/hosts", "644"),
    ("/etc/hostname", "644"),
    ("/etc/resolv.conf", "644"),
    ("/dev/termination-log", "666"),
];

#[test]
fn files_have_their_modes_whatever_the_umask_of_who_starts_skiff() {
    use std::os::unix::fs::PermissionsExt;
    for umask in ["000", "077"] {
        let mut c = Cluster::empty("modes", &["busybox"]);
        c.umask = Some(umask);
        c.restart();
        c.until_ready();
        c.apply(&MODES.replace("PATH", &c.dir.display().to_string()));
        c.kubectl(&["wait", "--for=condition=Ready", "pod/modes", "--timeout=60s"]);
        assert_eq!(
            c.exec("modes", &["cat", "/scratch/umask"]).unwrap().trim(),
            "0022",
            "umask {umask}"
        );
        for (path, mode) in SEEN {
            let seen = c.exec("modes", &["stat", "-L", "-c", "%a", path]).unwrap();
            assert_eq!(seen.trim(), mode, "umask {umask}: {path} in the container");
        }
        let data = c.dir.join("data");
        let mode = |path: &std::path::Path| std::fs::symlink_metadata(path).unwrap().permissions().mode() & 0o7777;
        let mut left = vec![data.clone()];
        let mut secrets = 0;
        while let Some(dir) = left.pop() {
            for entry in std::fs::read_dir(&dir).unwrap() {
                let path = entry.unwrap().path();
                let meta = std::fs::symlink_metadata(&path).unwrap();
                // what containers and volumes hold has the modes that they want
                let theirs = path.ends_with("agent/runtime") || path.ends_with("agent/kubelet/pods");
                if meta.is_dir() && !theirs {
                    left.push(path.clone());
                }
                if meta.is_symlink() || path.starts_with(data.join("agent/images")) {
                    continue;
                }
                assert_eq!(
                    mode(&path) & 0o022,
                    0,
                    "umask {umask}: others write {}: {:o}",
                    path.display(),
                    mode(&path)
                );
                let name = path.file_name().unwrap().to_string_lossy().into_owned();
                let in_log = path.parent().unwrap().ends_with("server/db");
                let secret = [".key", ".kubeconfig", ".wal", ".conflist"]
                    .iter()
                    .any(|end| name.ends_with(end));
                if meta.is_file() && (secret || in_log || name == "token" || path == data.join("lock")) {
                    secrets += 1;
                    assert_eq!(mode(&path), 0o600, "umask {umask}: {}", path.display());
                }
            }
        }
        assert!(secrets > 12, "{secrets}");
        for (dir, wanted) in [
            ("server", 0o700),
            ("server/db", 0o700),
            ("server/tls", 0o700),
            ("server/cred", 0o700),
            ("agent/runtime", 0o700),
            ("agent/kubelet", 0o750),
            ("agent/kubelet/pods", 0o750),
        ] {
            assert_eq!(mode(&data.join(dir)), wanted, "umask {umask}: {dir}");
        }
    }
}
