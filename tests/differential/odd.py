"""Odd values: what a client may write in place of a field's value, by the field's type and name."""
import copy

import schema

INTEGERS = [-1, 0, 1, 2, 5, 65535, 65536, 99999, 2147483647, 2147483648, -2147483649, 9007199254740993, "@raw:9223372036854775808", 1.5, 3.0, "@raw:1e3",
            "5", True, "", "@raw:-0", 100, 101, 511, 512, 3600, 30000, 32768]
BOOLS = [True, False, True, False, "true", 0, 1, "", "yes"]
QUANTITIES = ["1", "0", "-1", "1.5Gi", "1e3", "1E3", "100m", "1n", "1Ki", "1ki", "1 Gi", "", "abc", 5, 1.5, "0.1m", "1e-9", "123456789012345678901234567890", "+1",
              "1.", "0x1", ".5", "1Ei", "16Ei", "1M", "1MiB", "1u", "--1", "1.0", "0.001", "1000m", "1024Ki", "2Gi", "1e", "100", "é", True, "0.5", "@raw:1e2", "1P", "1k", "500Mi"]
INT_OR_STRINGS = [0, 1, -1, 80, 65536, "80", "http", "10%", "101%", "-5%", "0%", "100%", "1.5%", "%", "", "http--x", "HTTP", 2147483648, "a" * 16, "5 %", 1.5, True, "0", "http-1", "1-2", 200]
TIMES = ["2020-01-01T00:00:00Z", "2020-01-01", "", "0001-01-01T00:00:00Z", "2020-01-01T00:00:00+02:00", "2020-13-01T00:00:00Z", "2020-01-01T00:00:00.123Z", 5, "now",
         "2020-01-01t00:00:00z", "9999-12-31T23:59:59Z", "10000-01-01T00:00:00Z", "2020-01-01T00:00:00.123456Z", "2020-01-01T24:00:00Z", "1969-12-31T23:59:59Z", "2020-1-1T00:00:00Z"]
BYTES = ["YQ==", "YQ", "!!", "", "YQ\n==", 5, "YWI", "AAEC", "_-8="]
STRINGS = ["", " ", "a", "A", "a_b", "a.b", "-a", "a-", "a/b", "a/b/c", "é", "名前", "a" * 15, "a" * 16, "a" * 63, "a" * 64, "a" * 253, "a" * 254, "0", "1", "1.2.3.4", "::1", "a b", "a\nb", "..", ".",
           "a..b", "*", "example.org/x", "kubernetes.io/x", "$(A)", "true", "\u0000", "a\\b", "/", "/a/../b", "@", "😀", "Example.org/X", "example.org/", "/x", "a:b", "-1", "~", "null", "_", "a.",
           "k8s.io/y", "x.kubernetes.io/y", "a=b", "%41", "<b>&", "\u2028", "\u007f", "A_B-C.d"]
IPS = ["1.2.3.4", "01.2.3.4", "1.2.3", "::1", "::ffff:1.2.3.4", "2001:DB8::1", "2001:db8:0:0::1", "127.0.0.1", "169.254.1.1", "224.0.0.1", "0.0.0.0", "::", "fe80::1", "fe80::1%eth0", "", "1.2.3.4/24", "a", "255.255.255.255",
       "10.96.0.1", "10.96.7.7", "None", "ff02::1"]
CIDRS = ["10.0.0.0/8", "10.0.0.1/8", "10.0.0.0/33", "::/0", "0.0.0.0/0", "2001:db8::/32", "2001:DB8::/32", "10.0.0.0", "", "10.0.0.0/08", " 10.0.0.0/8", "::ffff:10.0.0.0/104", "10.1.0.0/16", "a/b", "10.96.0.0/16"]
PATHS = ["/a", "a", "../a", "/a/../b", "", "/", "a/b", "/a:b", "//", "..a", "a/..", "./a", ".", "..", "/a*", "/a/", "C:\\x", "a" * 300, "/%2f", "\\\\a\\b", "..data", "a/..b", "/var/run"]
NAMES = ["a", "b", "", "A", "a.b", "a_b", "-", "a" * 63, "a" * 64, "a" * 253, "a" * 254, "x/y", "é", "main", "default", "a..b", "1", "1a", "a-1", ".", "..", "%", "a b", "system:x", "kube-system"]
KEYS = ["a", "", "a/b", "example.org/a", "A/b", "a/", "/a", "a b", "é", "-a", "a-", "a" * 63, "a" * 64, "example.org/" + "a" * 64, "kubernetes.io/hostname", "kubernetes.io/os", "metadata.name", ".", "..", "...", "..x", "a.b", "a_b",
        "app", "pod-template-hash", "node.kubernetes.io/not-ready", "a/b/c", "beta.kubernetes.io/os", "failure-domain.beta.kubernetes.io/zone", "controller-uid"]
RESOURCES = ["cpu", "memory", "ephemeral-storage", "storage", "pods", "example.org/gpu", "hugepages-2Mi", "hugepages-1Gi", "hugepages-x", "gpu", "", "Cpu", "kubernetes.io/x", "requests.cpu", "limits.memory", "services", "count/pods",
             "requests.storage", "attachable-volumes-x", "requests.example.org/gpu", "a b", "example.org/" + "a" * 64, "configmaps", "count/deployments.apps", "count/", "limits.example.org/gpu", "hugepages-3Mi", "requests.hugepages-2Mi"]
HINTS = {
    "ip": IPS, "ips": IPS, "clusterIP": IPS, "clusterIPs": IPS, "externalIPs": IPS, "loadBalancerIP": IPS, "nameservers": IPS, "podIP": IPS, "hostIP": IPS, "addresses": IPS, "address": IPS,
    "cidr": CIDRS, "except": CIDRS, "podCIDR": CIDRS, "podCIDRs": CIDRS, "loadBalancerSourceRanges": CIDRS, "cidrs": CIDRS,
    "mountPath": PATHS, "subPath": PATHS, "subPathExpr": PATHS + ["$(A)/x", "$(a", "$$(A)"], "path": PATHS, "devicePath": PATHS, "workingDir": PATHS, "terminationMessagePath": PATHS, "localhostProfile": PATHS,
    "name": NAMES, "hostname": NAMES, "subdomain": NAMES, "generateName": NAMES + ["a-", "A-"], "namespace": NAMES, "key": KEYS, "topologyKey": KEYS, "conditionType": KEYS,
    "operator": ["In", "NotIn", "Exists", "DoesNotExist", "Gt", "Lt", "Equal", "", "in", "Foo"], "effect": ["NoSchedule", "PreferNoSchedule", "NoExecute", "", "noschedule", "X"],
    "protocol": ["TCP", "UDP", "SCTP", "tcp", "", "HTTP"], "scheme": ["HTTP", "HTTPS", "http", "", "FTP"], "restartPolicy": ["Always", "OnFailure", "Never", "", "always", "NotRequired", "RestartContainer"],
    "dnsPolicy": ["ClusterFirst", "Default", "ClusterFirstWithHostNet", "None", "", "X"], "imagePullPolicy": ["Always", "Never", "IfNotPresent", "", "x"], "pullPolicy": ["Always", "Never", "IfNotPresent", "", "x"],
    "terminationMessagePolicy": ["File", "FallbackToLogsOnError", "", "x"], "medium": ["", "Memory", "HugePages", "HugePages-2Mi", "HugePages-3Mi", "x"], "preemptionPolicy": ["Never", "PreemptLowerPriority", "", "x"],
    "whenUnsatisfiable": ["DoNotSchedule", "ScheduleAnyway", "", "x"], "nodeAffinityPolicy": ["Honor", "Ignore", "", "x"], "nodeTaintsPolicy": ["Honor", "Ignore", "", "x"],
    "fsGroupChangePolicy": ["Always", "OnRootMismatch", "", "x"], "supplementalGroupsPolicy": ["Merge", "Strict", "", "x"], "seLinuxChangePolicy": ["MountOption", "Recursive", "", "x"], "procMount": ["Default", "Unmasked", "", "x"],
    "mountPropagation": ["None", "HostToContainer", "Bidirectional", "", "x"], "recursiveReadOnly": ["Disabled", "IfPossible", "Enabled", "", "x"], "stopSignal": ["SIGTERM", "SIGKILL", "TERM", "SIGRTMIN+1", "", "x"],
    "accessModes": ["ReadWriteOnce", "ReadOnlyMany", "ReadWriteMany", "ReadWriteOncePod", "", "RWO"], "volumeMode": ["Block", "Filesystem", "", "x"], "persistentVolumeReclaimPolicy": ["Retain", "Delete", "Recycle", "", "x"],
    "reclaimPolicy": ["Retain", "Delete", "Recycle", "", "x"], "volumeBindingMode": ["Immediate", "WaitForFirstConsumer", "", "x"], "concurrencyPolicy": ["Allow", "Forbid", "Replace", "", "x"],
    "schedule": ["* * * * *", "@hourly", "@every 5m", "TZ=UTC * * * * *", "CRON_TZ=UTC 0 0 * * *", "60 * * * *", "* * * * * *", "", "*/0 * * * *", "1-5 * * * mon-fri", "@reboot", "0 0 31 2 *", "? * * * ?", "0 0 * * 7", "a * * * *", "5-1 * * * *"],
    "timeZone": ["UTC", "Europe/Berlin", "Local", "local", "", "Mars/Base", "europe/berlin", "Etc/GMT+5", "../x", "EST"], "completionMode": ["NonIndexed", "Indexed", "", "x"], "podReplacementPolicy": ["TerminatingOrFailed", "Failed", "", "x"],
    "action": ["FailJob", "Ignore", "Count", "FailIndex", "Terminate", "RestartAllContainers", "", "x"], "podManagementPolicy": ["OrderedReady", "Parallel", "", "x"], "whenDeleted": ["Retain", "Delete", "", "x"], "whenScaled": ["Retain", "Delete", "", "x"],
    "sessionAffinity": ["None", "ClientIP", "", "x"], "externalTrafficPolicy": ["Cluster", "Local", "", "x"], "internalTrafficPolicy": ["Cluster", "Local", "", "x"], "ipFamilyPolicy": ["SingleStack", "PreferDualStack", "RequireDualStack", "", "x"],
    "ipFamilies": ["IPv4", "IPv6", "", "ipv4"], "trafficDistribution": ["PreferClose", "PreferSameZone", "PreferSameNode", "", "x"], "addressType": ["IPv4", "IPv6", "FQDN", "", "x"], "pathType": ["Exact", "Prefix", "ImplementationSpecific", "", "x"],
    "policyTypes": ["Ingress", "Egress", "", "x"], "unhealthyPodEvictionPolicy": ["IfHealthyBudget", "AlwaysAllow", "", "x"], "selectPolicy": ["Max", "Min", "Disabled", "", "x"], "fsGroupPolicy": ["None", "File", "ReadWriteOnceWithFSType", "", "x"],
    "volumeLifecycleModes": ["Persistent", "Ephemeral", "", "x"], "scope": ["Cluster", "Namespaced", "Namespace", "*", "", "x"], "failurePolicy": ["Ignore", "Fail", "", "x"], "matchPolicy": ["Exact", "Equivalent", "", "x"],
    "sideEffects": ["None", "NoneOnDryRun", "Some", "Unknown", "", "x"], "reinvocationPolicy": ["Never", "IfNeeded", "", "x"], "allocationMode": ["ExactCount", "All", "", "x"], "scopes": ["Terminating", "NotTerminating", "BestEffort", "NotBestEffort",
        "PriorityClass", "CrossNamespacePodAffinity", "VolumeAttributesClass", "", "x"], "scopeName": ["Terminating", "BestEffort", "PriorityClass", "", "x"], "verbs": ["get", "*", "", "GET", "list"], "operations": ["CREATE", "UPDATE", "*", "", "create"],
    "type": ["Always", "RuntimeDefault", "Localhost", "Unconfined", "RollingUpdate", "Recreate", "OnDelete", "ClusterIP", "NodePort", "LoadBalancer", "ExternalName", "Directory", "File", "Socket", "Container", "Pod", "PersistentVolumeClaim", "Normal", "Warning",
             "Resource", "Pods", "Object", "External", "ContainerResource", "Utilization", "Value", "AverageValue", "Percent", "Ready", "Opaque", "kubernetes.io/tls", "kubernetes.io/ssh-auth", "kubernetes.io/service-account-token", "kubernetes.io/dockercfg",
             "bootstrap.kubernetes.io/token", "", "x", "Limited", "Exempt", "Queue", "Reject", "Approved", "Denied", "integer", "string", "object", "array", "int"],
    "fieldPath": ["metadata.name", "metadata.labels", "metadata.labels['a']", "metadata.annotations['x/y']", "metadata.labels['']", "status.podIP", "status.hostIPs", "spec.nodeName", "spec.serviceAccountName", "metadata.uid", "metadata.x", "", "status.phase", "metadata.labels[a]"],
    "apiVersion": ["v1", "apps/v1", "", "v2", "a/b/c", "metadata"], "apiGroup": ["", "apps", "rbac.authorization.k8s.io", "x", "Snapshot.storage.k8s.io"], "kind": ["Pod", "User", "Group", "ServiceAccount", "Role", "ClusterRole", "PersistentVolumeClaim", "VolumeSnapshot", "", "x", "pod"],
    "resource": ["limits.cpu", "requests.memory", "limits.ephemeral-storage", "cpu", "", "limits.x", "requests.hugepages-2Mi"], "host": ["a.example.org", "*.example.org", "*", "", "1.2.3.4", "A.b", "a.*.b", "*.*.b", "a_b", "a" * 64 + ".b"],
    "hosts": ["a.example.org", "*.example.org", "*", "", "1.2.3.4", "A.b"], "hostnames": ["a.b", "A.b", "", "a_b", "*.b"], "finalizers": ["a", "example.org/x", "kubernetes", "foregroundDeletion", "orphan", "", "a/b/c", "kubernetes.io/pvc-protection"],
    "externalName": ["a.b", "A.b.", "", "1.2.3.4", "a_b", "a" * 254, "a.b."], "appProtocol": ["http", "kubernetes.io/h2c", "example.org/x", "", "HTTP2", "-", "a b"], "url": ["https://a/b", "http://a", "", "https://u:p@a", "https://a?x", "https://a#x", "a", "https://"],
    "expression": ["true", "1", "", "object.x", "(", "device.driver == 'x'", "has(object.spec)", "'a'"], "reason": ["Invalid", "Forbidden", "", "x", "a b"], "succeededIndexes": ["0-1", "0,2", "", "a", "1-0", "0-99", "3"], "request": ["", "YQ==", "!"],
    "signerName": ["example.org/x", "x", "", "kubernetes.io/kube-apiserver-client", "kubernetes.io/kubelet-serving", "kubernetes.io/legacy-unknown", "a/b/c", "A/b", "x.org/é"],
    "usages": ["client auth", "server auth", "digital signature", "any", "", "x"], "strategy": ["OldestEmulationVersion", "example.org/x", "x", "None", "Webhook", ""], "runAsUserName": ["x", "", "a\\b", "a" * 105, "d\\" + "a" * 105, "a\"b"],
    "status": ["True", "False", "Unknown", "", "x"], "phase": ["Pending", "Running", "Succeeded", "Failed", "", "x", "Active", "Terminating", "Bound", "Available"], "jsonPath": [".spec.x", "", ".spec", "spec.size", ".spec.a[0]", "$.x"],
    "pattern": ["^a$", "(", "[a-", ""], "format": ["int32", "date-time", "", "x", "email", "ipv4"], "levels": ["s0"], "user": ["u", ""], "level": ["s0", ""],
    "capabilities": ["NET_ADMIN", "ALL", "CAP_X"], "add": ["NET_ADMIN", "ALL", "CAP_SYS_ADMIN", "sys_time", ""], "drop": ["ALL", "all", "", "x"], "validationActions": ["Deny", "Warn", "Audit", "", "x"],
    "controller": ["example.org/x", "x", "", "a/b/c", "A/x"], "provisioner": ["x", "", "A/b", "kubernetes.io/no-provisioner", "a b"], "attacher": ["x", "", "A/b"], "driver": ["a", "csi.example.org", "A.b", "", "a_b", "a" * 64, "-"],
    "image": ["i", "", " i", "a:b:c", "I", "a@sha256:x", "i "], "clientIP": [None], "roleRef": [None], "storageClassName": ["", "a", "A", "a_b"], "nodeName": ["n1", "", "N", "a_b"], "priorityClassName": ["", "system-node-critical", "system-cluster-critical", "none", "A"],
}
PORT_NAMES = {"port", "containerPort", "hostPort", "nodePort", "targetPort", "endPort", "healthCheckNodePort"}
PORTS = [0, 1, 80, 8080, 65535, 65536, -1, 30000, 30001, 32767, 32768, "80", 53, 443, 8080]


def value(r, type_, name, body=None, depth=0):
    """A value of a type, valid or odd."""
    if type_ == "string":
        if name in HINTS and r.random() < 0.75:
            return r.choice(HINTS[name])
        return r.choice(STRINGS)
    if type_ in ("int32", "int64"):
        if name in PORT_NAMES and r.random() < 0.8:
            return r.choice(PORTS)
        return r.choice(INTEGERS)
    if type_ == "float64":
        return r.choice(INTEGERS + [0.5, "@raw:1e300", "@raw:1E-5"])
    if type_ == "bool":
        return r.choice(BOOLS)
    if type_ == "quantity":
        return r.choice(QUANTITIES)
    if type_ == "intorstring":
        return r.choice(INT_OR_STRINGS)
    if type_ in ("time", "microtime"):
        return r.choice(TIMES)
    if type_ == "bytes":
        return r.choice(BYTES)
    if type_.startswith("^"):
        return value(r, type_[1:], name, body, depth)
    if type_.startswith("[]"):
        return [value(r, schema.item(type_), name, body, depth + 1) for _ in range(r.choice([0, 1, 1, 1, 2, 2, 3]))]
    if type_.startswith("{}"):
        keys = RESOURCES if schema.item(type_) == "quantity" else KEYS
        return {r.choice(keys): value(r, schema.item(type_), "", body, depth + 1) for _ in range(r.choice([0, 1, 1, 2]))}
    if type_.startswith("@"):
        known = schema.fields(type_[1:])
        chance = r.choice([0, 0.3, 0.6]) if depth < 3 else 0.15
        some = [field for field in known if r.random() < chance] or ([r.choice(list(known))] if known and r.random() < 0.6 else [])
        return {field: value(r, known[field], field, body, depth + 1) for field in some if depth < 5}
    # raw, json, fieldsv1, schemaorbool and their like
    return r.choice([{}, [], "x", 5, None, True, {"a": 1}, {"type": "string"}, {"apiVersion": "v1", "kind": "Pod"}])


def wrong(r, type_):
    """A value of another type."""
    return r.choice([None, None, None, "", "x", 0, 5, -1, True, [], {}, [None], {"a": None}, {"x": "y"}, ["a"], 1.5, [[]], [{}], "@raw:1e300"])


def get(body, path):
    for part in path:
        body = body[part]
    return body


def change(r, body, type_, where=None):
    """One odd edit of an object of a type: [path, "set" or "remove" or "twice", value]."""
    places = []
    for path, of, one in schema.walk(body, type_):
        if where and not where(path):
            continue
        places.append((path, of, True))
        if of.startswith("@") and isinstance(one, dict):
            places += [(path + (name,), field, False) for name, field in schema.fields(of[1:]).items() if name not in one and (not where or where(path + (name,)))]
    heavy = [p for p in places if p[0] and p[0][0] not in ("metadata", "status", "apiVersion", "kind")]
    light = [p for p in places if p[0] and p[0][0] in ("metadata", "status")]
    for _ in range(20):
        pool = heavy if heavy and (not light or r.random() < 0.85) else light
        if not pool:
            return [[], "set", wrong(r, type_)]
        path, of, there = r.choice(pool)
        if path[:2] in (("metadata", "name"), ("metadata", "namespace")) and r.random() < 0.8:
            continue
        break
    name = next((part for part in reversed(path) if isinstance(part, str)), "")
    how = r.random()
    if there and how < 0.1:
        return [list(path), "remove", None]
    if how < 0.22:
        return [list(path), "set", wrong(r, of)]
    if how < 0.25:
        return [list(path) + [r.choice(["unknown", "Name", "x-y", "é"])], "set", r.choice([1, None, {}, "x"])] if of.startswith("@") else [list(path), "twice", value(r, of, name, body)]
    if there and isinstance(path[-1], int) and how < 0.35:
        return [list(path[:-1]) + ["-"], "set", get(body, path)]
    if there and of.startswith("[]") and how < 0.6:
        one = get(body, path)
        if isinstance(one, list) and one:
            new = copy.deepcopy(r.choice(one))
            if isinstance(new, dict) and new:
                field = r.choice(list(new))
                new[field] = value(r, schema.fields(schema.item(of)[1:]).get(field, "string"), field, body)
            return [list(path) + ["-"], "set", new]
    if of == "string" and how < 0.45:
        others = [one for _, kind, one in schema.walk(body, type_) if kind == "string" and isinstance(one, str)]
        if others:
            return [list(path), "set", r.choice(others)]
    if of.startswith("{}") and isinstance(get(body, path) if there else None, dict) and how < 0.8:
        keys = RESOURCES if schema.item(of) == "quantity" else KEYS
        return [list(path) + [r.choice(keys)], "set", value(r, schema.item(of), "", body)]
    return [list(path), "set", value(r, of, name, body)]


def apply(body, edits):
    """The object with edits made; one that finds no place is left out."""
    body = copy.deepcopy(body)
    for path, how, what in edits:
        if not path:
            body = copy.deepcopy(what)
            continue
        try:
            at = get(body, path[:-1])
            last = path[-1]
            if last == "-" and isinstance(at, list):
                at.append(copy.deepcopy(what))
            elif how == "remove":
                del at[last]
            elif how == "twice":
                # a marker that becomes a second member of the same name when the body is written
                at[f"{last}@twice"] = copy.deepcopy(what)
            elif isinstance(at, (dict, list)):
                at[last] = copy.deepcopy(what)
        except (KeyError, IndexError, TypeError):
            pass
    return body
