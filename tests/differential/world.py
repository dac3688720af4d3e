"""The objects and files of the kubectl rig. An object is made where a line names it; those of the cluster bear the namespace's name too."""
import base64
import json
import subprocess

CONTAINER = {"name": "c", "image": "registry.example.org/web:1", "ports": [{"containerPort": 80, "name": "http"}], "env": [{"name": "E", "value": "1"}],
             "resources": {"requests": {"cpu": "10m"}, "limits": {"memory": "64Mi"}},
             "livenessProbe": {"httpGet": {"path": "/healthz", "port": "http"}, "periodSeconds": 5},
             "volumeMounts": [{"name": "conf", "mountPath": "/conf", "readOnly": True}]}
SPEC = {"containers": [CONTAINER, {"name": "side", "image": "registry.example.org/side:1", "args": ["--a", "b"],
                                   "envFrom": [{"configMapRef": {"name": "conf"}}],
                                   "env": [{"name": "N", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
                                           {"name": "S", "valueFrom": {"secretKeyRef": {"name": "hidden", "key": "password"}}}]}],
        "volumes": [{"name": "conf", "configMap": {"name": "conf"}}, {"name": "scratch", "emptyDir": {}}]}


def template(app, **spec):
    return {"metadata": {"labels": {"app": app}}, "spec": {**SPEC, **spec}}


def workload(app, **spec):
    return {"metadata": {"labels": {"app": app}}, "spec": {"selector": {"matchLabels": {"app": app}}, "template": template(app), **spec}}


def rules(*names):
    return [{"verbs": ["get", "list"], "apiGroups": [""], "resources": list(names)}, {"verbs": ["*"], "apiGroups": ["apps"], "resources": ["deployments"],
                                                                                    "resourceNames": ["web"]}]


STARTED = {"startedAt": "2026-01-02T03:04:05Z"}
READY = [{"type": kind, "status": "True", "lastTransitionTime": "2026-01-02T03:04:05Z"} for kind in ("Initialized", "Ready", "ContainersReady", "PodScheduled")]
RUNNING = {"phase": "Running", "hostIP": "198.51.100.10", "podIP": "10.1.0.5", "podIPs": [{"ip": "10.1.0.5"}], "startTime": "2026-01-02T03:04:05Z",
           "qosClass": "Burstable", "conditions": READY, "containerStatuses": [
               {"name": "c", "image": "registry.example.org/web:1", "imageID": "registry.example.org/web@sha256:aa", "containerID": "containerd://ab",
                "ready": True, "restartCount": 0, "started": True, "state": {"running": STARTED}},
               {"name": "side", "image": "registry.example.org/side:1", "imageID": "x", "containerID": "containerd://cd", "ready": False, "restartCount": 3,
                "state": {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off"}},
                "lastState": {"terminated": {"exitCode": 1, "reason": "Error", **STARTED, "finishedAt": "2026-01-02T03:05:05Z"}}}]}
AVAILABLE = [{"type": "Available", "status": "True", "reason": "MinimumReplicasAvailable", "message": "Deployment has minimum availability.",
              "lastTransitionTime": "2026-01-02T03:04:05Z", "lastUpdateTime": "2026-01-02T03:04:05Z"}]
SUBJECTS = [{"kind": "User", "name": "jane", "apiGroup": "rbac.authorization.k8s.io"}, {"kind": "ServiceAccount", "name": "default", "namespace": "kube-system"}]
RBAC = "/apis/rbac.authorization.k8s.io/v1"
BACKEND = {"service": {"name": "web", "port": {"number": 80}}}


def signing_request():
    new = ["openssl", "req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-keyout", "/dev/null", "-subj", "/O=devs/CN=jane"]
    return base64.b64encode(subprocess.run(new, check=True, capture_output=True).stdout).decode()


# name: collection, object, status
NAMESPACED = {
    "conf": ("/api/v1/configmaps", {"data": {"k": "v", "lines": "a\nb\n"}, "binaryData": {"b": "AAEC"}}, None),
    "hidden": ("/api/v1/secrets", {"data": {"password": "eA=="}, "type": "Opaque"}, None),
    "web": ("/apis/apps/v1/deployments", workload("web", replicas=2),
            {"replicas": 2, "updatedReplicas": 2, "readyReplicas": 2, "availableReplicas": 2, "observedGeneration": 1, "conditions": AVAILABLE}),
    "front": ("/api/v1/services", {"metadata": {"labels": {"app": "web"}}, "spec": {"selector": {"app": "web"}, "ports": [
        {"port": 80, "targetPort": "http", "name": "http"}, {"port": 53, "protocol": "UDP", "name": "dns"}]}}, None),
    "loadb": ("/api/v1/services", {"spec": {"type": "LoadBalancer", "selector": {"app": "web"}, "ports": [{"port": 80}], "sessionAffinity": "ClientIP"}},
              {"loadBalancer": {"ingress": [{"ip": "203.0.113.1"}]}}),
    "pod1": ("/api/v1/pods", {"metadata": {"labels": {"app": "web", "n": "1"}, "annotations": {"note": "x"}}, "spec": {**SPEC, "nodeName": "worker"}}, RUNNING),
    "pod2": ("/api/v1/pods", {"metadata": {"labels": {"app": "web", "n": "2"}}, "spec": {**SPEC, "tolerations": [{"key": "a", "operator": "Exists"}],
                                                                                    "nodeSelector": {"disk": "ssd"}}}, None),
    "rset": ("/apis/apps/v1/replicasets", workload("rset", replicas=3), {"replicas": 3, "readyReplicas": 1, "observedGeneration": 1}),
    "rcon": ("/api/v1/replicationcontrollers", {"spec": {"replicas": 1, "selector": {"app": "rcon"}, "template": template("rcon")}}, None),
    "sset": ("/apis/apps/v1/statefulsets", workload("sset", serviceName="front", replicas=2, volumeClaimTemplates=[
        {"metadata": {"name": "data"}, "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}}]), None),
    "dset": ("/apis/apps/v1/daemonsets", workload("dset"), {"currentNumberScheduled": 1, "desiredNumberScheduled": 2, "numberMisscheduled": 0, "numberReady": 1}),
    "batch": ("/apis/batch/v1/jobs", {"spec": {"completions": 3, "parallelism": 2, "template": template("batch", restartPolicy="Never")}},
              {"active": 1, "succeeded": 1, "startTime": "2026-01-02T03:04:05Z"}),
    "cron": ("/apis/batch/v1/cronjobs", {"spec": {"schedule": "*/5 * * * *", "jobTemplate": {"spec": {"template": template("cron", restartPolicy="Never")}}}},
             {"lastScheduleTime": "2026-01-02T03:04:05Z"}),
    "ingr": ("/apis/networking.k8s.io/v1/ingresses", {"metadata": {"annotations": {"a": "b"}}, "spec": {"ingressClassName": "nginx", "tls": [
        {"hosts": ["a.example.org"], "secretName": "hidden"}], "rules": [{"host": "a.example.org", "http": {"paths": [
            {"path": "/x", "pathType": "Prefix", "backend": BACKEND}]}}], "defaultBackend": BACKEND}}, {"loadBalancer": {"ingress": [{"ip": "203.0.113.2"}]}}),
    "npol": ("/apis/networking.k8s.io/v1/networkpolicies", {"spec": {"podSelector": {"matchLabels": {"app": "web"}}, "policyTypes": ["Ingress", "Egress"], "ingress": [
        {"from": [{"podSelector": {"matchLabels": {"a": "b"}}}, {"ipBlock": {"cidr": "10.0.0.0/8", "except": ["10.1.0.0/16"]}}],
         "ports": [{"port": 80, "protocol": "TCP"}, {"port": 100, "endPort": 200}]}], "egress": [{}]}}, None),
    "scaler": ("/apis/autoscaling/v2/horizontalpodautoscalers", {"spec": {"minReplicas": 2, "maxReplicas": 5, "scaleTargetRef": {
        "apiVersion": "apps/v1", "kind": "Deployment", "name": "web"}, "metrics": [{"type": "Resource", "resource": {"name": "cpu", "target": {
            "type": "Utilization", "averageUtilization": 70}}}, {"type": "Pods", "pods": {"metric": {"name": "hits"}, "target": {"type": "AverageValue", "averageValue": "10"}}}]}},
               {"currentReplicas": 2, "desiredReplicas": 3, "conditions": [{"type": "AbleToScale", "status": "True", "reason": "Ready", "message": "ok"}]}),
    "budget": ("/apis/policy/v1/poddisruptionbudgets", {"spec": {"minAvailable": 1, "selector": {"matchLabels": {"app": "web"}}}},
               {"disruptionsAllowed": 1, "currentHealthy": 2, "desiredHealthy": 1, "expectedPods": 2}),
    "role1": (RBAC + "/roles", {"rules": rules("pods", "services")}, None),
    "bind1": (RBAC + "/rolebindings", {"roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "role1"}, "subjects": SUBJECTS}, None),
    "quota1": ("/api/v1/resourcequotas", {"spec": {"hard": {"pods": "30", "requests.cpu": "4"}, "scopes": ["NotTerminating"]}},
               {"hard": {"pods": "30", "requests.cpu": "4"}, "used": {"pods": "1", "requests.cpu": "10m"}}),
    "limits1": ("/api/v1/limitranges", {"spec": {"limits": [{"type": "Container", "max": {"cpu": "2"}, "min": {"cpu": "1m"}, "default": {"cpu": "1"}, "defaultRequest": {"cpu": "10m"}}]}}, None),
    "claim1": ("/api/v1/persistentvolumeclaims", {"spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}, "storageClassName": "fast"}},
               {"phase": "Pending"}),
    "robot": ("/api/v1/serviceaccounts", {"secrets": [{"name": "hidden"}], "imagePullSecrets": [{"name": "hidden"}]}, None),
    "ends": ("/api/v1/endpoints", {"subsets": [{"addresses": [{"ip": "10.1.0.5"}], "ports": [{"port": 80, "name": "http"}]}]}, None),
    "slice1": ("/apis/discovery.k8s.io/v1/endpointslices", {"addressType": "IPv4", "ports": [{"name": "http", "port": 80, "protocol": "TCP"}], "endpoints": [
        {"addresses": ["10.1.0.5"], "conditions": {"ready": True}, "nodeName": "worker", "targetRef": {"kind": "Pod", "name": "pod1"}}]}, None),
    "lease1": ("/apis/coordination.k8s.io/v1/leases", {"spec": {"holderIdentity": "x", "leaseDurationSeconds": 40}}, None),
    "rev1": ("/apis/apps/v1/controllerrevisions", {"metadata": {"labels": {"app": "dset"}}, "revision": 1, "data": {"spec": {}}}, None),
    "happened": ("/api/v1/events", {"involvedObject": {"kind": "Pod", "name": "pod1", "namespace": "@@-SIDE"}, "reason": "Started", "message": "it started", "type": "Normal",
                                    "source": {"component": "kubelet", "host": "worker"}, "count": 2, "firstTimestamp": "2026-01-02T03:04:05Z", "lastTimestamp": "2026-01-02T03:05:05Z"}, None),
    "warned": ("/api/v1/events", {"involvedObject": {"kind": "Deployment", "name": "web", "namespace": "@@-SIDE", "apiVersion": "apps/v1"}, "reason": "Failed", "message": "it failed",
                                  "type": "Warning", "source": {"component": "x"}, "firstTimestamp": "2026-01-02T03:06:05Z", "lastTimestamp": "2026-01-02T03:06:05Z"}, None),
    "widget1": ("/apis/example.org/v1/widgets", {"apiVersion": "example.org/v1", "kind": "Widget", "spec": {"size": 3, "parts": ["a", "b"]}}, None),
}
CLUSTER = {
    "node": ("/api/v1/nodes", {"metadata": {"labels": {"node-role.kubernetes.io/control-plane": "", "disk": "ssd"}}, "spec": {"podCIDR": "10.1.0.0/24", "taints": [
        {"key": "k", "value": "v", "effect": "NoSchedule"}]}},
             {"capacity": {"cpu": "4", "memory": "8Gi", "pods": "110"}, "allocatable": {"cpu": "4", "memory": "7Gi", "pods": "110"},
              "conditions": [{"type": "Ready", "status": "True", "reason": "KubeletReady", "message": "ready", "lastHeartbeatTime": "2026-01-02T03:04:05Z",
                              "lastTransitionTime": "2026-01-02T03:04:05Z"}], "addresses": [{"type": "InternalIP", "address": "198.51.100.11"}],
              "nodeInfo": {"machineID": "m", "systemUUID": "s", "bootID": "b", "kernelVersion": "6.1", "osImage": "Linux", "containerRuntimeVersion": "containerd://2",
                           "kubeletVersion": "v1.37.2", "kubeProxyVersion": "", "operatingSystem": "linux", "architecture": "amd64"}}),
    "vol": ("/api/v1/persistentvolumes", {"spec": {"capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteOnce"], "hostPath": {"path": "/x"},
                                                  "storageClassName": "fast", "persistentVolumeReclaimPolicy": "Retain"}}, {"phase": "Available"}),
    "sclass": ("/apis/storage.k8s.io/v1/storageclasses", {"provisioner": "example.org/fast", "parameters": {"a": "b"}, "allowVolumeExpansion": True, "mountOptions": ["ro"]}, None),
    "crole": (RBAC + "/clusterroles", {"rules": rules("nodes") + [{"verbs": ["get"], "nonResourceURLs": ["/healthz"]}]}, None),
    "cbind": (RBAC + "/clusterrolebindings", {"roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "view"}, "subjects": SUBJECTS}, None),
    "prio": ("/apis/scheduling.k8s.io/v1/priorityclasses", {"value": 1000, "description": "x"}, None),
    "iclass": ("/apis/networking.k8s.io/v1/ingressclasses", {"spec": {"controller": "example.org/c", "parameters": {"apiGroup": "k.example.org", "kind": "P", "name": "p"}}}, None),
    "rclass": ("/apis/node.k8s.io/v1/runtimeclasses", {"handler": "h"}, None),
    "signing": ("/apis/certificates.k8s.io/v1/certificatesigningrequests", {"spec": {
        "request": signing_request(), "signerName": "example.org/signer", "usages": ["client auth"], "expirationSeconds": 3600}}, None),
    "csidrv": ("/apis/storage.k8s.io/v1/csidrivers", {"spec": {"attachRequired": True}}, None),
    "csinod": ("/apis/storage.k8s.io/v1/csinodes", {"spec": {"drivers": [{"name": "d", "nodeID": "n", "topologyKeys": ["z"], "allocatable": {"count": 3}}]}}, None),
    "attach": ("/apis/storage.k8s.io/v1/volumeattachments", {"spec": {"attacher": "a", "nodeName": "n", "source": {"persistentVolumeName": "v"}}}, None),
}
FIXTURES = [("/apis/apiextensions.k8s.io/v1/customresourcedefinitions", {"metadata": {"name": "widgets.example.org"}, "spec": {
    "group": "example.org", "scope": "Namespaced", "names": {"plural": "widgets", "singular": "widget", "kind": "Widget", "shortNames": ["wd"], "categories": ["all"]},
    "versions": [{"name": "v1", "served": True, "storage": True, "subresources": {"status": {}}, "additionalPrinterColumns": [
        {"name": "Size", "type": "integer", "jsonPath": ".spec.size"}], "schema": {"openAPIV3Schema": {
            "type": "object", "description": "a widget", "properties": {"spec": {"type": "object", "description": "what it is", "properties": {
                "size": {"type": "integer", "description": "how large"}, "parts": {"type": "array", "items": {"type": "string"}}}}, "status": {"type": "object"}}}}}]}})]

DEPLOYMENT = """apiVersion: apps/v1
kind: Deployment
metadata: {name: app, labels: {app: app, set: one}}
spec:
  replicas: 2
  selector: {matchLabels: {app: app}}
  template:
    metadata: {labels: {app: app}}
    spec:
      containers:
      - {name: c, image: "registry.example.org/app:1", env: [{name: A, value: "1"}]}
"""
CONFIG = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: %s, labels: {set: one}}\ndata: {k: v}\n"
FILES = {
    "app.yaml": DEPLOYMENT,
    "app2.yaml": DEPLOYMENT.replace("app:1", "app:2").replace("replicas: 2", "replicas: 3").replace("name: A", "name: B"),
    "app.json": json.dumps({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "jconf"}, "data": {"a": "1"}}),
    "two.yaml": CONFIG % "one" + "---\n" + CONFIG % "two",
    "list.yaml": "apiVersion: v1\nkind: List\nitems:\n- {apiVersion: v1, kind: ConfigMap, metadata: {name: one, labels: {set: one}}}\n- {apiVersion: v1, kind: ConfigMap, metadata: {name: three}}\n",
    "one.yaml": CONFIG % "one",
    "changed.yaml": (CONFIG % "one").replace("k: v", "k: w, l: x"),
    "generated.yaml": "apiVersion: v1\nkind: ConfigMap\nmetadata: {generateName: gen-}\n",
    "other.yaml": "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: o-NS, namespace: kube-public}\n",
    "unknown.yaml": CONFIG % "one" + "unknown: 1\n",
    "kind.yaml": "apiVersion: example.com/v1\nkind: Nope\nmetadata: {name: x}\n",
    "nokind.yaml": "metadata: {name: x}\n",
    "noname.yaml": "apiVersion: v1\nkind: ConfigMap\nmetadata: {}\n",
    "broken.yaml": "a: b: c\n",
    "empty.yaml": "",
    "broken.json": '{"a":',
    "invalid.yaml": "apiVersion: v1\nkind: Service\nmetadata: {name: bad}\nspec: {ports: [{port: 99999}]}\n",
    "wid.yaml": "apiVersion: example.org/v1\nkind: Widget\nmetadata: {name: w}\nspec: {size: 2}\n",
    "pods.yaml": "apiVersion: v1\nkind: Pod\nmetadata: {name: p, labels: {set: one}}\nspec: {containers: [{name: c, image: i}]}\n",
    "role.yaml": "apiVersion: rbac.authorization.k8s.io/v1\nkind: Role\nmetadata: {name: r}\nrules: [{verbs: [get], apiGroups: [\"\"], resources: [pods]}]\n---\n"
                 "apiVersion: rbac.authorization.k8s.io/v1\nkind: RoleBinding\nmetadata: {name: rb}\nsubjects: [{kind: User, name: u, apiGroup: rbac.authorization.k8s.io}]\n"
                 "roleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: r}\n",
    "dir/a.yaml": CONFIG % "dira", "dir/b.json": json.dumps({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "dirb"}}), "dir/c.txt": "no object",
    "dir/sub/d.yaml": CONFIG % "subd",
    "kust/kustomization.yaml": "resources: [cm.yaml]\nnamePrefix: pre-\ncommonLabels: {k: l}\nconfigMapGenerator:\n- {name: g, literals: [a=b]}\n",
    "kust/cm.yaml": CONFIG % "kcm",
    "env": "# a comment\nA=b\nC=d e\n\nE\n", "badenv": "A b\n", "text.txt": "hello\nworld\n",
    "patch.yaml": "data: {k: patched}\n", "patch.json": '{"data":{"k":"patched"}}', "template.txt": "{{.metadata.name}}",
    "columns.txt": "NAME          KIND\n.metadata.name .kind\n",
    "edit.sh": '#!/bin/sh\nsed -i "s/k: v/k: edited/" "$1"\n', "noedit.sh": "#!/bin/sh\n", "break.sh": '#!/bin/sh\necho "x: : y" > "$1"\n',
    "failing.sh": "#!/bin/sh\nexit 3\n",
    "bin/kubectl-hello": "#!/bin/sh\necho hello \"$@\"\n",
}
