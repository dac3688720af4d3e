"""Valid objects of every kind that can be written, from which the API rig makes odd ones. A seed takes one of them by its kind.

In texts `{ns}` and `{id}` stand for the namespace and a name of the script's own, `{byte}` for a number below 250, `{csr}` for a signing request.
"""

DANGEROUS = {"mutatingwebhookconfigurations", "validatingwebhookconfigurations", "mutatingadmissionpolicies", "mutatingadmissionpolicybindings",
             "validatingadmissionpolicies", "validatingadmissionpolicybindings", "flowschemas", "prioritylevelconfigurations", "apiservices",
             "servicecidrs", "priorityclasses"}

PROBE = {"httpGet": {"path": "/healthz", "port": 8080, "scheme": "HTTP", "httpHeaders": [{"name": "X-A", "value": "b"}]}, "initialDelaySeconds": 3,
         "timeoutSeconds": 2, "periodSeconds": 5, "successThreshold": 1, "failureThreshold": 4}

CONTAINER = {
    "name": "main", "image": "registry.example.org/app:1.0", "command": ["/bin/app"], "args": ["--x=$(A)"], "workingDir": "/work",
    "ports": [{"name": "http", "containerPort": 8080, "protocol": "TCP"}, {"name": "dns", "containerPort": 53, "protocol": "UDP"}],
    "envFrom": [{"prefix": "P_", "configMapRef": {"name": "cm", "optional": True}}, {"secretRef": {"name": "s"}}],
    "env": [{"name": "A", "value": "1"}, {"name": "B", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
            {"name": "C", "valueFrom": {"resourceFieldRef": {"containerName": "main", "resource": "limits.cpu", "divisor": "1m"}}},
            {"name": "D", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}}, {"name": "E", "valueFrom": {"configMapKeyRef": {"name": "c", "key": "k"}}}],
    "resources": {"requests": {"cpu": "100m", "memory": "64Mi", "ephemeral-storage": "1Gi"}, "limits": {"cpu": "1", "memory": "128Mi"}},
    "volumeMounts": [{"name": "scratch", "mountPath": "/scratch"}, {"name": "config", "mountPath": "/etc/config", "readOnly": True, "subPath": "a/b"}],
    "livenessProbe": PROBE, "readinessProbe": {"tcpSocket": {"port": "http"}, "periodSeconds": 10}, "startupProbe": {"exec": {"command": ["true"]}},
    "lifecycle": {"postStart": {"exec": {"command": ["a"]}}, "preStop": {"sleep": {"seconds": 5}}},
    "terminationMessagePath": "/dev/log", "terminationMessagePolicy": "File", "imagePullPolicy": "IfNotPresent",
    "securityContext": {"capabilities": {"add": ["NET_ADMIN"], "drop": ["ALL"]}, "privileged": False, "runAsUser": 1000, "runAsGroup": 1000,
                        "runAsNonRoot": True, "readOnlyRootFilesystem": True, "allowPrivilegeEscalation": True, "procMount": "Default",
                        "seccompProfile": {"type": "RuntimeDefault"}, "seLinuxOptions": {"level": "s0"}}, "stdin": True, "tty": False}

VOLUMES = [
    {"name": "scratch", "emptyDir": {"medium": "", "sizeLimit": "1Gi"}},
    {"name": "config", "configMap": {"name": "c", "defaultMode": 420, "items": [{"key": "a", "path": "x/y", "mode": 256}], "optional": True}},
    {"name": "secret", "secret": {"secretName": "s", "items": [{"key": "a", "path": "b"}]}},
    {"name": "host", "hostPath": {"path": "/var/x", "type": "DirectoryOrCreate"}},
    {"name": "api", "projected": {"defaultMode": 292, "sources": [
        {"serviceAccountToken": {"path": "token", "expirationSeconds": 3600, "audience": "x"}}, {"configMap": {"name": "c", "items": [{"key": "a", "path": "c"}]}},
        {"secret": {"name": "s"}}, {"downwardAPI": {"items": [{"path": "labels", "fieldRef": {"fieldPath": "metadata.labels"}}]}}]}},
    {"name": "down", "downwardAPI": {"items": [{"path": "cpu", "resourceFieldRef": {"containerName": "main", "resource": "requests.cpu"}}]}},
    {"name": "claim", "persistentVolumeClaim": {"claimName": "data", "readOnly": True}},
    {"name": "nfs", "nfs": {"server": "nfs.example.org", "path": "/export"}},
    {"name": "csi", "csi": {"driver": "csi.example.org", "fsType": "ext4", "volumeAttributes": {"a": "b"}, "nodePublishSecretRef": {"name": "s"}}},
    {"name": "iscsi", "iscsi": {"targetPortal": "1.2.3.4:3260", "iqn": "iqn.2001-04.com.example:storage", "lun": 0}},
    {"name": "image", "image": {"reference": "registry.example.org/data:1", "pullPolicy": "Always"}},
    {"name": "own", "ephemeral": {"volumeClaimTemplate": {"metadata": {"labels": {"a": "b"}}, "spec": {
        "accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}}}},
    {"name": "fc", "fc": {"targetWWNs": ["500a0982991b8dc5"], "lun": 2}},
    {"name": "git", "gitRepo": {"repository": "https://example.org/x.git", "directory": "d"}},
    {"name": "rbd", "rbd": {"monitors": ["1.2.3.4:6789"], "image": "i", "secretRef": {"name": "s"}}},
    {"name": "ceph", "cephfs": {"monitors": ["1.2.3.4:6789"], "path": "/"}},
    {"name": "flex", "flexVolume": {"driver": "example.org/flex", "options": {"a": "b"}}},
    {"name": "disk", "gcePersistentDisk": {"pdName": "d", "partition": 1}},
    {"name": "ebs", "awsElasticBlockStore": {"volumeID": "vol-1"}},
    {"name": "azure", "azureDisk": {"diskName": "d", "diskURI": "/subscriptions/x"}},
    {"name": "azf", "azureFile": {"secretName": "s", "shareName": "x"}},
    {"name": "cinder", "cinder": {"volumeID": "v"}},
    {"name": "px", "portworxVolume": {"volumeID": "v"}},
    {"name": "vs", "vsphereVolume": {"volumePath": "[d] x"}},
    {"name": "glu", "glusterfs": {"endpoints": "e", "path": "p"}},
    {"name": "quo", "quobyte": {"registry": "r:1", "volume": "v"}},
    {"name": "sio", "scaleIO": {"gateway": "g", "system": "s", "secretRef": {"name": "x"}, "volumeName": "v"}},
    {"name": "flo", "flocker": {"datasetName": "d"}},
    {"name": "sos", "storageos": {"volumeName": "v"}},
    {"name": "pho", "photonPersistentDisk": {"pdID": "p"}},
]

TERM = {"labelSelector": {"matchLabels": {"app": "x"}, "matchExpressions": [{"key": "tier", "operator": "In", "values": ["a", "b"]}]},
        "topologyKey": "kubernetes.io/hostname", "namespaces": ["other"], "namespaceSelector": {"matchLabels": {"team": "a"}}, "matchLabelKeys": ["pod-template-hash"]}

POD_SPEC = {
    "containers": [CONTAINER, {"name": "side", "image": "busybox"}],
    "initContainers": [{"name": "init", "image": "busybox:1", "command": ["true"]},
                       {"name": "sidecar", "image": "proxy", "restartPolicy": "Always", "readinessProbe": {"grpc": {"port": 9000, "service": "s"}}}],
    "volumes": VOLUMES[:6], "nodeSelector": {"disk": "ssd"}, "serviceAccountName": "default", "automountServiceAccountToken": False,
    "securityContext": {"runAsUser": 1000, "fsGroup": 2000, "supplementalGroups": [1, 2], "fsGroupChangePolicy": "OnRootMismatch",
                        "sysctls": [{"name": "kernel.shm_rmid_forced", "value": "0"}], "seccompProfile": {"type": "Localhost", "localhostProfile": "a.json"}},
    "imagePullSecrets": [{"name": "pull"}], "hostname": "h", "subdomain": "sub", "schedulerName": "default-scheduler",
    "affinity": {
        "nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [
            {"matchExpressions": [{"key": "zone", "operator": "In", "values": ["a"]}, {"key": "n", "operator": "Gt", "values": ["5"]}],
             "matchFields": [{"key": "metadata.name", "operator": "NotIn", "values": ["n9"]}]}]},
            "preferredDuringSchedulingIgnoredDuringExecution": [{"weight": 10, "preference": {"matchExpressions": [{"key": "a", "operator": "Exists"}]}}]},
        "podAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [TERM]},
        "podAntiAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [{"weight": 50, "podAffinityTerm": {"topologyKey": "zone"}}]}},
    "tolerations": [{"key": "a", "operator": "Equal", "value": "b", "effect": "NoExecute", "tolerationSeconds": 60}, {"operator": "Exists"}],
    "hostAliases": [{"ip": "10.0.0.1", "hostnames": ["foo.local", "bar"]}], "terminationGracePeriodSeconds": 15, "activeDeadlineSeconds": 600,
    "dnsPolicy": "None", "dnsConfig": {"nameservers": ["1.1.1.1"], "searches": ["a.b"], "options": [{"name": "ndots", "value": "2"}, {"name": "edns0"}]},
    "readinessGates": [{"conditionType": "example.org/ready"}], "enableServiceLinks": False, "preemptionPolicy": "PreemptLowerPriority",
    "shareProcessNamespace": True, "schedulingGates": [{"name": "example.org/gate"}], "os": {"name": "linux"}, "setHostnameAsFQDN": False,
    "topologySpreadConstraints": [{"maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "DoNotSchedule", "labelSelector": {"matchLabels": {"app": "x"}},
                                   "minDomains": 2, "nodeAffinityPolicy": "Honor", "nodeTaintsPolicy": "Ignore", "matchLabelKeys": ["rev"]}],
    "resourceClaims": [{"name": "gpu", "resourceClaimName": "claim"}, {"name": "t", "resourceClaimTemplateName": "template"}],
    "resources": {"requests": {"cpu": "2", "memory": "1Gi"}, "limits": {"cpu": "4"}}, "hostUsers": True}


def without(spec, *names):
    return {k: v for k, v in spec.items() if k not in names}


SIMPLE = {"containers": [{"name": "c", "image": "i"}]}
META = {"labels": {"app": "x", "tier": "a"}, "annotations": {"example.org/note": "n"}}


def template(spec=SIMPLE, labels=None):
    return {"metadata": {"labels": labels or {"app": "x"}}, "spec": spec}


TEMPLATED = without(POD_SPEC, "activeDeadlineSeconds", "schedulingGates")
SELECTOR = {"matchLabels": {"app": "x"}}
CLAIM_SPEC = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}, "limits": {"storage": "2Gi"}}, "storageClassName": "fast",
              "volumeMode": "Filesystem", "selector": {"matchLabels": {"a": "b"}}}
DEVICES = {"requests": [{"name": "gpu", "exactly": {"deviceClassName": "gpu.example.org", "allocationMode": "ExactCount", "count": 2, "selectors": [
    {"cel": {"expression": "device.driver == 'a'"}}], "tolerations": [{"key": "a", "operator": "Exists", "effect": "NoSchedule"}]}},
    {"name": "or", "firstAvailable": [{"name": "one", "deviceClassName": "a.example.org"}, {"name": "two", "deviceClassName": "b.example.org", "count": 3}]}],
    "constraints": [{"requests": ["gpu"], "matchAttribute": "example.org/numa"}],
    "config": [{"requests": ["gpu"], "opaque": {"driver": "gpu.example.org", "parameters": {"a": 1}}}]}


# resource, group version, kind, namespaced, metadata.name, object
OBJECTS = []


def add(gv, resource, kind, body, namespaced=True, name="{id}", meta=META):
    OBJECTS.append({"gv": gv, "resource": resource, "kind": kind, "namespaced": namespaced,
                    "body": {"apiVersion": gv, "kind": kind, "metadata": {"name": name, **meta}, **body}})


def cluster(gv, resource, kind, body, **more):
    add(gv, resource, kind, body, namespaced=False, **{"name": "{id}", **more})


# several pods, so that each part of a pod is met as often as a small kind
add("v1", "pods", "Pod", {"spec": POD_SPEC})
add("v1", "pods", "Pod", {"spec": SIMPLE})
add("v1", "pods", "Pod", {"spec": {"containers": [CONTAINER], "volumes": VOLUMES[:2]}})
add("v1", "pods", "Pod", {"spec": {"containers": [{"name": "c", "image": "i"}], "volumes": VOLUMES[6:18]}})
add("v1", "pods", "Pod", {"spec": {"containers": [{"name": "c", "image": "i"}], "volumes": VOLUMES[18:]}})
add("v1", "pods", "Pod", {"spec": {"hostNetwork": True, "nodeName": "n1", "restartPolicy": "Never", "priorityClassName": "system-node-critical", "containers": [
    {"name": "c", "image": "i", "ports": [{"containerPort": 80, "hostPort": 80}], "resizePolicy": [{"resourceName": "cpu", "restartPolicy": "NotRequired"}],
     "volumeDevices": [{"name": "raw", "devicePath": "/dev/x"}], "resources": {"limits": {"example.org/gpu": "1", "hugepages-2Mi": "4Mi", "cpu": "1", "memory": "1Gi"}}}],
    "volumes": [{"name": "raw", "persistentVolumeClaim": {"claimName": "raw"}}]}})
add("v1", "pods", "Pod", {"spec": {"restartPolicy": "OnFailure", "os": {"name": "windows"}, "containers": [{"name": "c", "image": "i", "securityContext": {
    "windowsOptions": {"runAsUserName": "x", "gmsaCredentialSpecName": "g"}}}], "overhead": None, "runtimeClassName": None}})
add("apps/v1", "deployments", "Deployment", {"spec": {"replicas": 2, "selector": SELECTOR, "template": template(TEMPLATED), "minReadySeconds": 5, "revisionHistoryLimit": 3,
    "progressDeadlineSeconds": 60, "paused": True, "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": "25%", "maxUnavailable": 1}}}})
add("apps/v1", "deployments", "Deployment", {"spec": {"selector": {"matchExpressions": [{"key": "app", "operator": "In", "values": ["x", "y"]}]}, "template": template()}})
add("apps/v1", "statefulsets", "StatefulSet", {"spec": {"replicas": 3, "serviceName": "svc", "selector": SELECTOR, "template": template({"containers": [
    {"name": "c", "image": "i", "volumeMounts": [{"name": "data", "mountPath": "/d"}]}]}), "podManagementPolicy": "Parallel", "minReadySeconds": 1,
    "volumeClaimTemplates": [{"metadata": {"name": "data"}, "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}}],
    "updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"partition": 1}}, "revisionHistoryLimit": 2, "ordinals": {"start": 1},
    "persistentVolumeClaimRetentionPolicy": {"whenDeleted": "Delete", "whenScaled": "Retain"}}})
add("apps/v1", "daemonsets", "DaemonSet", {"spec": {"selector": SELECTOR, "template": template(), "minReadySeconds": 1, "revisionHistoryLimit": 1,
    "updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": "10%", "maxSurge": 0}}}})
add("apps/v1", "replicasets", "ReplicaSet", {"spec": {"replicas": 1, "selector": SELECTOR, "template": template(), "minReadySeconds": 2}})
add("apps/v1", "controllerrevisions", "ControllerRevision", {"data": {"spec": {"a": 1}}, "revision": 3})
add("v1", "replicationcontrollers", "ReplicationController", {"spec": {"replicas": 1, "selector": {"app": "x"}, "template": template(), "minReadySeconds": 2}})
add("v1", "podtemplates", "PodTemplate", {"template": template()})
add("batch/v1", "jobs", "Job", {"spec": {"parallelism": 2, "completions": 3, "backoffLimit": 4, "activeDeadlineSeconds": 100, "ttlSecondsAfterFinished": 10,
    "completionMode": "Indexed", "suspend": True, "backoffLimitPerIndex": 1, "maxFailedIndexes": 2, "podReplacementPolicy": "Failed",
    "template": {"spec": {"restartPolicy": "Never", "containers": [{"name": "c", "image": "i"}]}}, "successPolicy": {"rules": [{"succeededIndexes": "0-1", "succeededCount": 1}]},
    "podFailurePolicy": {"rules": [{"action": "FailJob", "onExitCodes": {"containerName": "c", "operator": "In", "values": [1, 2]}},
                                   {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]}]}}})
add("batch/v1", "jobs", "Job", {"spec": {"template": {"spec": {"restartPolicy": "OnFailure", "containers": [{"name": "c", "image": "i"}]}}, "managedBy": "example.org/mine"}})
add("batch/v1", "cronjobs", "CronJob", {"spec": {"schedule": "*/5 * * * *", "timeZone": "Europe/Berlin", "concurrencyPolicy": "Forbid", "suspend": False, "startingDeadlineSeconds": 30,
    "successfulJobsHistoryLimit": 1, "failedJobsHistoryLimit": 2, "jobTemplate": {"metadata": {"labels": {"a": "b"}}, "spec": {
        "template": {"spec": {"restartPolicy": "Never", "containers": [{"name": "c", "image": "i"}]}}}}}})
add("v1", "services", "Service", {"spec": {"type": "ClusterIP", "selector": {"app": "x"}, "ports": [
    {"name": "http", "port": 80, "targetPort": "http", "protocol": "TCP", "appProtocol": "http"}, {"name": "dns", "port": 53, "targetPort": 5353, "protocol": "UDP"}],
    "sessionAffinity": "ClientIP", "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 60}}, "ipFamilyPolicy": "SingleStack", "ipFamilies": ["IPv4"],
    "internalTrafficPolicy": "Local", "publishNotReadyAddresses": True, "externalIPs": ["1.2.3.4"]}})
add("v1", "services", "Service", {"spec": {"type": "LoadBalancer", "selector": {"app": "x"}, "ports": [{"port": 80}], "externalTrafficPolicy": "Local",
    "loadBalancerSourceRanges": ["10.0.0.0/8"], "loadBalancerClass": "example.org/lb", "allocateLoadBalancerNodePorts": True, "trafficDistribution": "PreferClose"}})
add("v1", "services", "Service", {"spec": {"type": "NodePort", "ports": [{"port": 80}]}})
add("v1", "services", "Service", {"spec": {"clusterIP": "None", "ports": [{"port": 80}], "selector": {"a": "b"}}})
add("v1", "services", "Service", {"spec": {"type": "ExternalName", "externalName": "www.example.org"}})
add("v1", "endpoints", "Endpoints", {"subsets": [{"addresses": [{"ip": "10.1.1.1", "hostname": "h", "nodeName": "n1", "targetRef": {"kind": "Pod", "name": "p", "namespace": "{ns}"}}],
    "notReadyAddresses": [{"ip": "10.1.1.2"}], "ports": [{"name": "http", "port": 80, "protocol": "TCP", "appProtocol": "http"}]}]})
add("discovery.k8s.io/v1", "endpointslices", "EndpointSlice", {"addressType": "IPv4", "ports": [{"name": "http", "port": 80, "protocol": "TCP", "appProtocol": "http"}], "endpoints": [
    {"addresses": ["10.1.1.1"], "conditions": {"ready": True, "serving": True, "terminating": False}, "hostname": "h", "nodeName": "n1", "zone": "a",
     "hints": {"forZones": [{"name": "a"}], "forNodes": [{"name": "n1"}]}, "targetRef": {"kind": "Pod", "name": "p"}, "deprecatedTopology": {"x": "y"}}]})
add("v1", "configmaps", "ConfigMap", {"data": {"a": "b", "x.y_z-1": "multi\nline"}, "binaryData": {"bin": "AAEC"}, "immutable": False})
add("v1", "secrets", "Secret", {"type": "Opaque", "data": {"a": "Yg=="}, "stringData": {"c": "d"}})
add("v1", "secrets", "Secret", {"type": "kubernetes.io/tls", "data": {"tls.crt": "YQ==", "tls.key": "Yg=="}, "immutable": True})
add("v1", "secrets", "Secret", {"type": "kubernetes.io/dockerconfigjson", "data": {".dockerconfigjson": "eyJhdXRocyI6e319"}})
add("v1", "secrets", "Secret", {"type": "kubernetes.io/basic-auth", "stringData": {"username": "u", "password": "p"}})
add("v1", "serviceaccounts", "ServiceAccount", {"secrets": [{"name": "s"}], "imagePullSecrets": [{"name": "p"}], "automountServiceAccountToken": True})
add("v1", "events", "Event", {"involvedObject": {"kind": "Pod", "namespace": "{ns}", "name": "p", "uid": "u", "apiVersion": "v1", "resourceVersion": "1", "fieldPath": "spec"},
    "reason": "Started", "message": "m", "source": {"component": "kubelet", "host": "n"}, "firstTimestamp": "2020-01-02T03:04:05Z", "lastTimestamp": "2020-01-02T03:04:06Z", "count": 2, "type": "Normal"})
add("events.k8s.io/v1", "events", "Event", {"eventTime": "2020-01-02T03:04:05.678901Z", "reportingController": "example.org/c", "reportingInstance": "i", "action": "Do", "reason": "R",
    "regarding": {"kind": "Pod", "namespace": "{ns}", "name": "p"}, "related": {"kind": "Node", "name": "n"}, "note": "n", "type": "Warning",
    "series": {"count": 2, "lastObservedTime": "2020-01-02T03:04:06.000000Z"}})
add("v1", "limitranges", "LimitRange", {"spec": {"limits": [
    {"type": "Container", "max": {"cpu": "4"}, "min": {"cpu": "10m"}, "default": {"cpu": "1"}, "defaultRequest": {"cpu": "100m"}, "maxLimitRequestRatio": {"cpu": "20"}},
    {"type": "PersistentVolumeClaim", "max": {"storage": "10Gi"}, "min": {"storage": "1Gi"}}, {"type": "Pod", "max": {"memory": "1Gi"}}]}})
add("v1", "resourcequotas", "ResourceQuota", {"spec": {"hard": {"pods": "10", "requests.cpu": "4", "limits.memory": "1Gi", "count/deployments.apps": "3", "requests.storage": "5Gi",
    "fast.storageclass.storage.k8s.io/persistentvolumeclaims": "2", "services.nodeports": "1"}}})
add("v1", "resourcequotas", "ResourceQuota", {"spec": {"hard": {"pods": "10"}, "scopes": ["NotBestEffort"], "scopeSelector": {"matchExpressions": [
    {"scopeName": "PriorityClass", "operator": "In", "values": ["high"]}]}}})
add("v1", "persistentvolumeclaims", "PersistentVolumeClaim", {"spec": CLAIM_SPEC})
add("v1", "persistentvolumeclaims", "PersistentVolumeClaim", {"spec": {"accessModes": ["ReadWriteMany", "ReadOnlyMany"], "resources": {"requests": {"storage": "1Gi"}}, "storageClassName": "",
    "volumeName": "v", "dataSource": {"apiGroup": "snapshot.storage.k8s.io", "kind": "VolumeSnapshot", "name": "s"}, "volumeAttributesClassName": "gold"}})
cluster("v1", "persistentvolumes", "PersistentVolume", {"spec": {"capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteOnce"], "persistentVolumeReclaimPolicy": "Retain",
    "storageClassName": "fast", "volumeMode": "Filesystem", "mountOptions": ["ro"], "claimRef": {"namespace": "x", "name": "c", "kind": "PersistentVolumeClaim"},
    "nodeAffinity": {"required": {"nodeSelectorTerms": [{"matchExpressions": [{"key": "a", "operator": "In", "values": ["b"]}]}]}}, "local": {"path": "/mnt/x", "fsType": "ext4"}}})
cluster("v1", "persistentvolumes", "PersistentVolume", {"spec": {"capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteOncePod"], "csi": {"driver": "csi.example.org", "volumeHandle": "h",
    "readOnly": True, "fsType": "xfs", "volumeAttributes": {"a": "b"}, "controllerPublishSecretRef": {"name": "s", "namespace": "n"}, "nodeStageSecretRef": {"name": "s", "namespace": "n"}}}})
cluster("v1", "persistentvolumes", "PersistentVolume", {"spec": {"capacity": {"storage": "1Gi"}, "accessModes": ["ReadOnlyMany"], "persistentVolumeReclaimPolicy": "Recycle", "nfs": {"server": "s", "path": "/p"}}})
cluster("v1", "persistentvolumes", "PersistentVolume", {"spec": {"capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteOnce"], "hostPath": {"path": "/tmp/x", "type": "Directory"}}})
cluster("v1", "nodes", "Node", {"spec": {"podCIDR": "10.9.0.0/24", "podCIDRs": ["10.9.0.0/24"], "providerID": "x://y", "unschedulable": True, "taints": [
    {"key": "a", "value": "b", "effect": "NoSchedule"}, {"key": "c", "effect": "NoExecute", "timeAdded": "2020-01-01T00:00:00Z"}]}, "status": {
    "capacity": {"cpu": "4", "memory": "8Gi", "pods": "110"}, "allocatable": {"cpu": "3"}, "conditions": [{"type": "Ready", "status": "True", "reason": "R", "message": "m"}],
    "addresses": [{"type": "InternalIP", "address": "10.0.0.9"}], "nodeInfo": {"kubeletVersion": "v1.37.2", "architecture": "amd64"}, "images": [{"names": ["a"], "sizeBytes": 5}]}})
cluster("v1", "namespaces", "Namespace", {"spec": {"finalizers": ["kubernetes"]}})
add("rbac.authorization.k8s.io/v1", "roles", "Role", {"rules": [{"verbs": ["get", "list"], "apiGroups": ["", "apps"], "resources": ["pods", "pods/log"], "resourceNames": ["a"]}]})
add("rbac.authorization.k8s.io/v1", "rolebindings", "RoleBinding", {"subjects": [{"kind": "User", "name": "u", "apiGroup": "rbac.authorization.k8s.io"},
    {"kind": "ServiceAccount", "name": "s", "namespace": "n"}, {"kind": "Group", "name": "g"}], "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "view"}})
cluster("rbac.authorization.k8s.io/v1", "clusterroles", "ClusterRole", {"rules": [{"verbs": ["get"], "nonResourceURLs": ["/x/*"]}, {"verbs": ["*"], "apiGroups": ["x.example.org"], "resources": ["*"]}]})
cluster("rbac.authorization.k8s.io/v1", "clusterroles", "ClusterRole", {"aggregationRule": {"clusterRoleSelectors": [{"matchLabels": {"nothing": "here"}}]}, "rules": None})
cluster("rbac.authorization.k8s.io/v1", "clusterrolebindings", "ClusterRoleBinding", {"subjects": [{"kind": "Group", "name": "nobody-{id}", "apiGroup": "rbac.authorization.k8s.io"}],
    "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "view"}})
add("networking.k8s.io/v1", "ingresses", "Ingress", {"spec": {"ingressClassName": "nginx", "tls": [{"hosts": ["a.example.org"], "secretName": "s"}], "defaultBackend": {
    "service": {"name": "d", "port": {"number": 80}}}, "rules": [{"host": "*.example.org", "http": {"paths": [
        {"path": "/a", "pathType": "Prefix", "backend": {"service": {"name": "s", "port": {"name": "http"}}}},
        {"path": "/b", "pathType": "Exact", "backend": {"resource": {"apiGroup": "x.example.org", "kind": "Bucket", "name": "b"}}}]}}]}})
add("networking.k8s.io/v1", "networkpolicies", "NetworkPolicy", {"spec": {"podSelector": SELECTOR, "policyTypes": ["Ingress", "Egress"], "ingress": [
    {"from": [{"podSelector": SELECTOR}, {"namespaceSelector": {}}, {"ipBlock": {"cidr": "10.0.0.0/8", "except": ["10.1.0.0/16"]}}], "ports": [{"protocol": "TCP", "port": 80, "endPort": 90}]}],
    "egress": [{"to": [{"ipBlock": {"cidr": "2001:db8::/32"}}], "ports": [{"port": "http"}]}]}})
cluster("networking.k8s.io/v1", "ingressclasses", "IngressClass", {"spec": {"controller": "example.org/ingress", "parameters": {"apiGroup": "x.example.org", "kind": "P", "name": "p", "scope": "Namespace", "namespace": "n"}}})
cluster("networking.k8s.io/v1", "ipaddresses", "IPAddress", {"spec": {"parentRef": {"group": "", "resource": "services", "namespace": "x", "name": "s"}}}, name="192.0.2.{byte}")
cluster("networking.k8s.io/v1", "servicecidrs", "ServiceCIDR", {"spec": {"cidrs": ["192.0.2.0/24"]}})
add("policy/v1", "poddisruptionbudgets", "PodDisruptionBudget", {"spec": {"minAvailable": "50%", "selector": SELECTOR, "unhealthyPodEvictionPolicy": "AlwaysAllow"}})
add("policy/v1", "poddisruptionbudgets", "PodDisruptionBudget", {"spec": {"maxUnavailable": 1, "selector": {}}})
add("autoscaling/v2", "horizontalpodautoscalers", "HorizontalPodAutoscaler", {"spec": {"scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "d"}, "minReplicas": 2, "maxReplicas": 5,
    "metrics": [{"type": "Resource", "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 50}}},
                {"type": "Pods", "pods": {"metric": {"name": "q", "selector": SELECTOR}, "target": {"type": "AverageValue", "averageValue": "100m"}}},
                {"type": "Object", "object": {"describedObject": {"kind": "Service", "name": "s"}, "metric": {"name": "m"}, "target": {"type": "Value", "value": "5"}}},
                {"type": "External", "external": {"metric": {"name": "m"}, "target": {"type": "Value", "value": "5"}}},
                {"type": "ContainerResource", "containerResource": {"name": "memory", "container": "c", "target": {"type": "Utilization", "averageUtilization": 60}}}],
    "behavior": {"scaleUp": {"stabilizationWindowSeconds": 10, "selectPolicy": "Max", "policies": [{"type": "Pods", "value": 2, "periodSeconds": 15}]},
                 "scaleDown": {"policies": [{"type": "Percent", "value": 10, "periodSeconds": 60}], "tolerance": "100m"}}}})
add("autoscaling/v1", "horizontalpodautoscalers", "HorizontalPodAutoscaler", {"spec": {"scaleTargetRef": {"kind": "Deployment", "name": "d", "apiVersion": "apps/v1"}, "minReplicas": 1, "maxReplicas": 3,
    "targetCPUUtilizationPercentage": 70}})
cluster("certificates.k8s.io/v1", "certificatesigningrequests", "CertificateSigningRequest", {"spec": {"request": "{csr}", "signerName": "example.org/signer", "expirationSeconds": 3600,
    "usages": ["digital signature", "client auth"]}})
cluster("storage.k8s.io/v1", "csidrivers", "CSIDriver", {"spec": {"attachRequired": False, "podInfoOnMount": True, "volumeLifecycleModes": ["Persistent", "Ephemeral"], "storageCapacity": True,
    "fsGroupPolicy": "File", "tokenRequests": [{"audience": "a", "expirationSeconds": 3600}], "requiresRepublish": True, "seLinuxMount": False, "nodeAllocatableUpdatePeriodSeconds": 60}})
cluster("storage.k8s.io/v1", "csinodes", "CSINode", {"spec": {"drivers": [{"name": "csi.example.org", "nodeID": "n", "topologyKeys": ["zone", "host"], "allocatable": {"count": 5}}]}})
add("storage.k8s.io/v1", "csistoragecapacities", "CSIStorageCapacity", {"storageClassName": "fast", "capacity": "1Gi", "maximumVolumeSize": "500Mi", "nodeTopology": SELECTOR})
cluster("storage.k8s.io/v1", "storageclasses", "StorageClass", {"provisioner": "csi.example.org", "parameters": {"a": "b"}, "reclaimPolicy": "Retain", "mountOptions": ["ro"], "allowVolumeExpansion": True,
    "volumeBindingMode": "WaitForFirstConsumer", "allowedTopologies": [{"matchLabelExpressions": [{"key": "zone", "values": ["a", "b"]}]}]})
cluster("storage.k8s.io/v1", "volumeattachments", "VolumeAttachment", {"spec": {"attacher": "csi.example.org", "nodeName": "n1", "source": {"persistentVolumeName": "pv"}}})
cluster("storage.k8s.io/v1", "volumeattributesclasses", "VolumeAttributesClass", {"driverName": "csi.example.org", "parameters": {"iops": "5"}})
cluster("scheduling.k8s.io/v1", "priorityclasses", "PriorityClass", {"value": 100, "description": "d", "preemptionPolicy": "Never", "globalDefault": False})
add("coordination.k8s.io/v1", "leases", "Lease", {"spec": {"holderIdentity": "h", "leaseDurationSeconds": 15, "acquireTime": "2020-01-02T03:04:05.678901Z", "renewTime": "2020-01-02T03:04:05.000000Z",
    "leaseTransitions": 1, "strategy": "OldestEmulationVersion", "preferredHolder": "p"}})
cluster("node.k8s.io/v1", "runtimeclasses", "RuntimeClass", {"handler": "runc", "overhead": {"podFixed": {"cpu": "10m"}}, "scheduling": {"nodeSelector": {"a": "b"}, "tolerations": [{"key": "k", "operator": "Exists"}]}})
cluster("resource.k8s.io/v1", "deviceclasses", "DeviceClass", {"spec": {"selectors": [{"cel": {"expression": "device.driver == 'gpu.example.org'"}}], "extendedResourceName": "example.org/gpu",
    "config": [{"opaque": {"driver": "gpu.example.org", "parameters": {"a": 1}}}]}})
add("resource.k8s.io/v1", "resourceclaims", "ResourceClaim", {"spec": {"devices": DEVICES}})
add("resource.k8s.io/v1", "resourceclaimtemplates", "ResourceClaimTemplate", {"spec": {"metadata": {"labels": {"a": "b"}}, "spec": {"devices": DEVICES}}})
cluster("resource.k8s.io/v1", "resourceslices", "ResourceSlice", {"spec": {"driver": "gpu.example.org", "nodeName": "n1", "pool": {"name": "p", "generation": 1, "resourceSliceCount": 1}, "devices": [
    {"name": "d0", "attributes": {"model": {"string": "x"}, "numa": {"int": 1}, "ok": {"bool": True}, "v": {"version": "1.2.3"}}, "capacity": {"memory": {"value": "1Gi"}},
     "taints": [{"key": "a", "effect": "NoSchedule"}]}, {"name": "d1"}]}})
RULE = {"operations": ["CREATE"], "apiGroups": ["nothing.example.org"], "apiVersions": ["v1"], "resources": ["nothings"], "scope": "*"}
WEBHOOK = {"name": "a.example.org", "clientConfig": {"url": "https://hook.example.org/x"}, "rules": [RULE], "sideEffects": "None", "admissionReviewVersions": ["v1", "v1beta1"],
           "failurePolicy": "Fail", "matchPolicy": "Exact", "timeoutSeconds": 5, "namespaceSelector": {"matchLabels": {"none": "such"}}, "objectSelector": SELECTOR}
cluster("admissionregistration.k8s.io/v1", "validatingwebhookconfigurations", "ValidatingWebhookConfiguration", {"webhooks": [WEBHOOK]})
cluster("admissionregistration.k8s.io/v1", "mutatingwebhookconfigurations", "MutatingWebhookConfiguration", {"webhooks": [{**WEBHOOK, "reinvocationPolicy": "IfNeeded", "clientConfig": {
    "service": {"namespace": "n", "name": "s", "path": "/x", "port": 443}}}]})
cluster("admissionregistration.k8s.io/v1", "validatingadmissionpolicies", "ValidatingAdmissionPolicy", {"spec": {"failurePolicy": "Fail", "matchConstraints": {"resourceRules": [RULE]},
    "validations": [{"expression": "object.spec.replicas < 5", "message": "m", "reason": "Invalid"}], "variables": [{"name": "a", "expression": "1"}],
    "matchConditions": [{"name": "c", "expression": "true"}], "auditAnnotations": [{"key": "k", "valueExpression": "'x'"}]}})
cluster("admissionregistration.k8s.io/v1", "validatingadmissionpolicybindings", "ValidatingAdmissionPolicyBinding", {"spec": {"policyName": "p", "validationActions": ["Deny", "Audit"],
    "matchResources": {"namespaceSelector": {"matchLabels": {"none": "such"}}}, "paramRef": {"name": "x", "namespace": "n", "parameterNotFoundAction": "Deny"}}})
cluster("flowcontrol.apiserver.k8s.io/v1", "flowschemas", "FlowSchema", {"spec": {"priorityLevelConfiguration": {"name": "workload-low"}, "matchingPrecedence": 9000, "distinguisherMethod": {"type": "ByUser"},
    "rules": [{"subjects": [{"kind": "User", "user": {"name": "nobody"}}, {"kind": "ServiceAccount", "serviceAccount": {"name": "s", "namespace": "n"}}],
               "resourceRules": [{"verbs": ["get"], "apiGroups": ["x"], "resources": ["y"], "namespaces": ["z"]}], "nonResourceRules": [{"verbs": ["get"], "nonResourceURLs": ["/x"]}]}]}})
cluster("flowcontrol.apiserver.k8s.io/v1", "prioritylevelconfigurations", "PriorityLevelConfiguration", {"spec": {"type": "Limited", "limited": {"nominalConcurrencyShares": 5, "lendablePercent": 10,
    "borrowingLimitPercent": 50, "limitResponse": {"type": "Queue", "queuing": {"queues": 16, "handSize": 4, "queueLengthLimit": 5}}}}})
cluster("apiregistration.k8s.io/v1", "apiservices", "APIService", {"spec": {"group": "{id}.example.org", "version": "v1", "groupPriorityMinimum": 100, "versionPriority": 10, "insecureSkipTLSVerify": True,
    "service": {"namespace": "x", "name": "y", "port": 443}}}, name="v1.{id}.example.org")
CRD_SCHEMA = {"type": "object", "required": ["spec"], "properties": {"spec": {"type": "object", "properties": {
    "size": {"type": "integer", "minimum": 1, "maximum": 10, "default": 3}, "mode": {"type": "string", "enum": ["a", "b"]}, "tags": {"type": "array", "items": {"type": "string", "pattern": "^[a-z]+$"},
        "x-kubernetes-list-type": "set", "maxItems": 5}, "ports": {"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"], "items": {
            "type": "object", "required": ["name"], "properties": {"name": {"type": "string", "maxLength": 5}, "port": {"x-kubernetes-int-or-string": True}}}},
    "free": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}, "map": {"type": "object", "additionalProperties": {"type": "number", "nullable": True}}}},
    "status": {"type": "object", "properties": {"replicas": {"type": "integer"}, "selector": {"type": "string"}}}}}
cluster("apiextensions.k8s.io/v1", "customresourcedefinitions", "CustomResourceDefinition", {"spec": {"group": "{id}.example.org", "scope": "Namespaced", "names": {
    "plural": "widgets", "singular": "widget", "kind": "Widget", "listKind": "WidgetList", "shortNames": ["wd{id}"], "categories": ["all"]}, "versions": [
        {"name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": CRD_SCHEMA}, "subresources": {"status": {}, "scale": {
            "specReplicasPath": ".spec.size", "statusReplicasPath": ".status.replicas", "labelSelectorPath": ".status.selector"}},
         "additionalPrinterColumns": [{"name": "Size", "type": "integer", "jsonPath": ".spec.size", "priority": 1, "format": "int32", "description": "d"}],
         "selectableFields": [{"jsonPath": ".spec.mode"}]},
        {"name": "v1beta1", "served": True, "storage": False, "deprecated": True, "deprecationWarning": "old", "schema": {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}}}],
    "conversion": {"strategy": "None"}}}, name="widgets.{id}.example.org")
