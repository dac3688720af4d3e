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
