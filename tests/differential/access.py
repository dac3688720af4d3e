"""The access rig: who may do what. Users, groups, node identities and service accounts against every verb, resource, name,
subresource, selector and form of a path; roles that grant too much; what nodes write; impersonation; reviews. Writes are dry runs.

Every seed has users of its own (u<seed>a, u<seed>b, in group g<seed>) and roles bound to them. Who is asked as comes by impersonation
of the administrator, except where credentials or impersonation themselves are the question.
"""
import json
import random
import re

NS = ["a", "b"]
NODES = ["n1", "n2"]
# clients with certificates that may impersonate this or that
CLIENTS = 8
RBAC = "/apis/rbac.authorization.k8s.io/v1"

# what is asked for: group, version, resource, namespaced, names that are there
RESOURCES = [
    ("", "v1", "pods", True, ["p1", "p2", "free"]),
    ("", "v1", "secrets", True, ["s1", "s2", "s3", "pull"]),
    ("", "v1", "configmaps", True, ["c1", "c2", "kube-root-ca.crt"]),
    ("", "v1", "serviceaccounts", True, ["default", "sa1"]),
    ("", "v1", "services", True, ["svc"]),
    ("", "v1", "endpoints", True, ["ep"]),
    ("", "v1", "persistentvolumeclaims", True, ["claim", "other"]),
    ("", "v1", "events", True, ["e"]),
    ("", "v1", "nodes", False, NODES),
    ("", "v1", "persistentvolumes", False, ["pv1", "pv2"]),
    ("", "v1", "namespaces", False, ["a", "default", "kube-system"]),
    ("apps", "v1", "deployments", True, ["d"]),
    ("coordination.k8s.io", "v1", "leases", True, ["n1", "l"]),
    ("storage.k8s.io", "v1", "csinodes", False, NODES),
    ("storage.k8s.io", "v1", "volumeattachments", False, ["va1", "va2"]),
    ("storage.k8s.io", "v1", "csidrivers", False, ["driver"]),
    ("node.k8s.io", "v1", "runtimeclasses", False, ["rc"]),
    ("resource.k8s.io", "v1", "resourceslices", False, ["slice1"]),
    ("resource.k8s.io", "v1", "resourceclaims", True, ["rclaim"]),
    ("certificates.k8s.io", "v1", "certificatesigningrequests", False, ["csr1"]),
    ("rbac.authorization.k8s.io", "v1", "clusterroles", False, ["view", "cluster-admin"]),
    ("rbac.authorization.k8s.io", "v1", "rolebindings", True, ["rb"]),
]
SUBRESOURCES = ["", "", "", "status", "log", "exec", "attach", "portforward", "proxy", "token", "eviction", "binding", "scale", "approval",
                "finalize", "ephemeralcontainers", "x"]
VERBS = ["get", "list", "watch", "create", "update", "patch", "delete", "deletecollection"]
ODD_VERBS = ["*", "", "escalate", "bind", "impersonate", "approve", "use", "GET", "proxy"]
SELECTORS = ["metadata.name=s1", "metadata.name=n1", "metadata.name==p1", "metadata.name=p1,metadata.name=p2", "spec.nodeName=n1",
             "spec.nodeName=n2", "spec.nodeName==n1,status.phase!=Failed", "spec.nodeName!=n1", " metadata.name=s1", "metadata.name= s1",
             "metadata.name=s1,", "metadata.name", "metadata.name=a\\,b", "metadata.name=a\\b", "metadata.name!=s1", "metadata.name=..",
             "metadata.namespace=a", "spec.nodeName=n1,spec.nodeName=n2", "=", "metadata.name=", "metadata.name=s1=s2"]
PATHS = ["/healthz", "/livez/ping", "/readyz", "/version", "/api", "/apis", "/openapi/v3", "/metrics", "/", "/logs", "/healthz/", "/nothing",
         "/apis/apps", "/.well-known/openid-configuration", "/api/", "/version/", "//version"]


def fixtures():
    def post(path, body):
        return {"method": "POST", "path": path, "body": body}

    def put_status(path, body):
        return {"method": "PATCH", "path": path + "/status", "body": body, "headers": {"Content-Type": "application/merge-patch+json"}}

    made = [post("/api/v1/namespaces", {"metadata": {"name": ns}}) for ns in NS]
    made.append(post("/api/v1/namespaces", {"metadata": {"name": "kube-node-lease"}}))
    for name in NODES:
        made.append(post("/api/v1/nodes", {"metadata": {"name": name}}))
        made.append(post("/apis/storage.k8s.io/v1/csinodes", {"metadata": {"name": name}, "spec": {"drivers": []}}))
    for ns in NS:
        core = f"/api/v1/namespaces/{ns}"
        for name in ("default", "sa1", "sa2"):
            made.append(post(core + "/serviceaccounts", {"metadata": {"name": name}, "automountServiceAccountToken": False}))
        for name in ("s1", "s2", "s3", "s4", "pull", "pvs"):
            made.append(post(core + "/secrets", {"metadata": {"name": name}}))
        for name in ("c1", "c2", "kube-root-ca.crt"):
            made.append(post(core + "/configmaps", {"metadata": {"name": name}}))
        for name in ("claim", "other"):
            spec = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}, "storageClassName": "",
                    "volumeName": f"pv{1 if name == 'claim' else 2}"}
            made.append(post(core + "/persistentvolumeclaims", {"metadata": {"name": name}, "spec": spec}))
        made.append(post(core + "/services", {"metadata": {"name": "svc"}, "spec": {"ports": [{"port": 80}]}}))
        made.append(post(core + "/endpoints", {"metadata": {"name": "ep"}, "subsets": [
            {"addresses": [{"ip": "198.51.100.10", "targetRef": {"kind": "Pod", "namespace": ns, "name": "p1"}}], "ports": [{"port": 1}]}]}))
        made += [post(core + "/pods", pod) for pod in pods(ns)]
        made.append(put_status(core + "/pods/p1", {"status": {"podIPs": [{"ip": "127.0.0.1"}], "podIP": "127.0.0.1"}}))
        made.append(put_status(core + "/pods/p2", {"status": {"podIPs": [{"ip": "169.254.169.254"}], "podIP": "169.254.169.254"}}))
        made.append(post(f"{RBAC}/namespaces/{ns}/roles", {"metadata": {"name": "r"}, "rules": [rule(["get"], [""], ["pods"])]}))
        made.append(post(f"/apis/coordination.k8s.io/v1/namespaces/{ns}/leases", {"metadata": {"name": "l"}}))
        made.append(post(f"/apis/resource.k8s.io/v1/namespaces/{ns}/resourceclaims", {"metadata": {"name": "rclaim"}, "spec": {}}))
    for n, ns in ((1, "a"), (2, "b")):
        spec = {"capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteOnce"], "claimRef": {"namespace": ns, "name": "claim"},
                "csi": {"driver": "driver", "volumeHandle": "x", "nodeStageSecretRef": {"namespace": ns, "name": "pvs"},
                        "controllerPublishSecretRef": {"namespace": ns, "name": "s4"}}}
        made.append(post("/api/v1/persistentvolumes", {"metadata": {"name": f"pv{n}"}, "spec": spec}))
        made.append(post("/apis/storage.k8s.io/v1/volumeattachments", {"metadata": {"name": f"va{n}"}, "spec": {
            "attacher": "driver", "nodeName": f"n{n}", "source": {"persistentVolumeName": f"pv{n}"}}}))
        made.append(post("/apis/resource.k8s.io/v1/resourceslices", {"metadata": {"name": f"slice{n}"}, "spec": {
            "driver": "driver.example.org", "nodeName": f"n{n}", "pool": {"name": "p", "generation": 1, "resourceSliceCount": 1}}}))
        made.append(put_status(f"/api/v1/nodes/n{n}", {"status": {"addresses": [{"type": "InternalIP", "address": ["127.0.0.1", "169.254.1.1"][n - 1]}]}}))
    made.append(post("/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases", {"metadata": {"name": "n1"}, "spec": {"holderIdentity": "n1"}}))
    made.append(post("/apis/storage.k8s.io/v1/csidrivers", {"metadata": {"name": "driver"}, "spec": {"tokenRequests": [{"audience": "vault"}]}}))
    made.append(post("/apis/certificates.k8s.io/v1/certificatesigningrequests", {"metadata": {"name": "csr1"}, "spec": {
        "request": CSRS["jane"], "signerName": "example.org/signer", "usages": ["client auth"]}}))
    for i in range(CLIENTS):
        name, s = f"client{i}", Seed(i, "client")
        rules = [impersonating(s) for _ in range(3)]
        made.append(post(f"{RBAC}/clusterroles", {"metadata": {"name": name}, "rules": rules}))
        made.append(post(f"{RBAC}/clusterrolebindings", {"metadata": {"name": name}, "subjects": [{"kind": "User", "name": name, "apiGroup": "rbac.authorization.k8s.io"}],
                                                         "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": name}}))
    secret = {"token-id": "abcdef", "token-secret": "0123456789abcdef", "usage-bootstrap-authentication": "true"}
    made.append(post("/api/v1/namespaces/kube-system/secrets", {
        "metadata": {"name": "bootstrap-token-abcdef"}, "type": "bootstrap.kubernetes.io/token", "stringData": secret}))
    return made


def certificates():
    known = {"node1": ("system:node:n1", ["system:nodes"]), "plain": ("plain", ["devs"]), "nobody": ("system:node:", ["system:nodes"])}
    return {**known, **{f"client{i}": (f"client{i}", ["devs"]) for i in range(CLIENTS)}}


def pods(ns):
    def pod(name, node, **spec):
        body = {"metadata": {"name": name}, "spec": {"containers": [{"name": "c", "image": "i", **spec.pop("container", {})}], **spec}}
        if node:
            body["spec"]["nodeName"] = node
        return body

    yield pod("p1", "n1", serviceAccountName="sa1", imagePullSecrets=[{"name": "pull"}],
              container={"envFrom": [{"secretRef": {"name": "s1"}}], "env": [{"name": "A", "valueFrom": {"configMapKeyRef": {"name": "c1", "key": "k"}}}]},
              volumes=[{"name": "v", "persistentVolumeClaim": {"claimName": "claim"}}, {"name": "t", "projected": {"sources": [
                  {"serviceAccountToken": {"path": "t", "audience": "api"}}, {"secret": {"name": "s3"}}]}}])
    yield pod("p2", "n2", volumes=[{"name": "v", "secret": {"secretName": "s2"}}, {"name": "w", "configMap": {"name": "c2"}}])
    yield pod("free", None, volumes=[{"name": "v", "secret": {"secretName": "s4"}}])


def rule(verbs, groups, resources, names=None, urls=None):
    made = {"verbs": verbs, "apiGroups": groups, "resources": resources}
    if names is not None:
        made["resourceNames"] = names
    if urls is not None:
        made = {"verbs": verbs, "nonResourceURLs": urls}
    return made


class Seed:
    """The choices of one seed, the same every time."""

    def __init__(self, seed, part):
        self.seed, self.r = seed, random.Random(f"{seed} {part}")

    def one(self, *choices):
        return self.r.choice(choices)

    def some(self, of, most=3):
        return self.r.sample(of, self.r.randint(1, min(most, len(of))))

    def often(self, chance=0.5):
        return self.r.random() < chance

    def user(self):
        return f"u{self.seed}{self.one('a', 'b')}"

    def rule(self, paths=True):
        if paths and self.often(0.1):
            return rule(self.some(["get", "post", "*"]), None, None, urls=self.some(["/healthz", "/healthz/*", "/version", "*", "/metrics", "/logs*"]))
        kinds = self.some(RESOURCES, 2)
        resources = [kind[2] + ("/" + sub if (sub := self.r.choice(SUBRESOURCES)) else "") for kind in kinds]
        if self.often(0.1):
            resources.append(self.one("*", "*/log", "*/status", "*/proxy"))
        verbs = self.some(VERBS, 5) + ([self.one(*ODD_VERBS)] if self.often(0.15) else [])
        verbs = [verb for verb in verbs if verb] or ["get"]
        groups = sorted({kind[0] for kind in kinds}) + (["*"] if self.often(0.05) else [])
        names = self.some(self.r.choice(kinds)[4]) if self.often(0.4) else None
        return rule(verbs, groups, resources, names)


def world(seed):
    s = Seed(seed, "world")
    made = []

    def role(kind, ns, name, rules):
        path = f"{RBAC}/{'namespaces/' + ns + '/' if ns else ''}{kind.lower()}s"
        made.append({"path": path, "body": {"metadata": {"name": name}, "rules": rules}})

    def binding(ns, name, kind, of, subjects):
        path = f"{RBAC}/{'namespaces/' + ns + '/rolebindings' if ns else 'clusterrolebindings'}"
        made.append({"path": path, "body": {"metadata": {"name": name}, "subjects": subjects, "roleRef": {
            "apiGroup": "rbac.authorization.k8s.io", "kind": kind, "name": of}}})

    subjects = [{"kind": "User", "apiGroup": "rbac.authorization.k8s.io", "name": f"u{seed}a"},
                {"kind": "Group", "apiGroup": "rbac.authorization.k8s.io", "name": f"g{seed}"},
                {"kind": "ServiceAccount", "namespace": "a", "name": f"sa{seed}"}]
    role("ClusterRole", "", f"r{seed}x", [s.rule() for _ in range(s.r.randint(1, 3))])
    role("ClusterRole", "", f"r{seed}y", [s.rule(), impersonating(s)])
    role("Role", "a", f"r{seed}", [s.rule(paths=False) for _ in range(2)])
    for i in range(s.r.randint(2, 4)):
        kind, of = s.one(("ClusterRole", f"r{seed}x"), ("ClusterRole", f"r{seed}y"), ("Role", f"r{seed}"), ("ClusterRole", f"missing{seed}"))
        ns = "a" if kind == "Role" else s.one("", "", "a", "b")
        binding(ns, f"b{seed}-{i}", kind, of, [s.r.choice(subjects)])
    # what tells that all before it is known
    role("ClusterRole", "", f"z{seed}", [rule(["see"], ["x"], [f"seeds{seed}"])])
    role("Role", "a", f"z{seed}", [rule(["see"], ["x"], [f"seeds{seed}"])])
    watcher = [{"kind": "User", "apiGroup": "rbac.authorization.k8s.io", "name": "watcher"}]
    binding("", f"z{seed}", "ClusterRole", f"z{seed}", watcher)
    binding("a", f"z{seed}", "Role", f"z{seed}", [{**watcher[0], "name": "watcher2"}])
    return made


def is_needed(one):
    return one["body"]["metadata"]["name"].startswith("z")


def seen(seeds):
    ask = lambda user, seed: review({"user": user, "resourceAttributes": {"group": "x", "resource": f"seeds{seed}", "verb": "see", "namespace": "a"}})
    graph = lambda kind, name, node: review({"user": f"system:node:{node}", "groups": ["system:nodes"], "resourceAttributes": {
        "resource": kind, "name": name, "namespace": "b", "verb": "get"}})
    last = [graph("secrets", "s2", "n2"), graph("persistentvolumeclaims", "claim", "n1")]
    return [ask(user, seed) for seed in (min(seeds), max(seeds)) for user in ("watcher", "watcher2")] + last


def is_seen(answers):
    return all(answer["code"] == 201 and answer["body"]["status"]["allowed"] for answer in answers)


def review(spec, kind="SubjectAccessReview", path="/apis/authorization.k8s.io/v1/subjectaccessreviews", **more):
    return {"method": "POST", "path": path, "body": {"apiVersion": "authorization.k8s.io/v1", "kind": kind, "spec": spec, **more}}


def impersonating(s):
    modes = ["impersonate", "impersonate:user-info", "impersonate:serviceaccount", "impersonate:arbitrary-node", "impersonate:associated-node",
             "impersonate-on:user-info:list", "impersonate-on:user-info:get", "impersonate-on:serviceaccount:get", "impersonate-on:arbitrary-node:get"]
    return rule(s.some(modes, 6), ["", "authentication.k8s.io"], ["users", "groups", "serviceaccounts", "uids", "nodes", "userextras/a.b/c", "pods",
                                                                  "userextras/*", "userextras/scopes", "*"][:s.r.randint(1, 10)], ["x", "n1", "sa1", "g", "*"] if s.often(0.3) else None)


def identity(s):
    """Headers by which the administrator asks as somebody."""
    user, groups = s.user(), [f"g{s.seed}"] if s.often(0.4) else []
    if s.often(0.3):
        user, groups = "system:node:" + s.one("n1", "n2", "n1", "n3", "", "N1"), [s.one("system:nodes", "system:nodes", "system:nodes", "other")]
    elif s.often(0.15):
        user, groups = s.one(f"system:serviceaccount:a:sa{s.seed}", f"system:serviceaccount::sa{s.seed}", "system:serviceaccount:a:x:y"), []
    elif s.often(0.03):
        groups = ["system:masters"]
    headers = {"Impersonate-User": user}
    if groups:
        headers["Impersonate-Group"] = groups
    return headers


def spec_of(s):
    """The user and groups of a review."""
    headers = identity(s)
    return {"user": headers["Impersonate-User"], "groups": headers.get("Impersonate-Group", []) + ["system:authenticated"]}


def attributes(s):
    group, version, resource, namespaced, names = s.r.choice(RESOURCES)
    asked = {"verb": s.one(*VERBS, *VERBS, s.one(*ODD_VERBS)), "group": group, "resource": resource, "subresource": s.r.choice(SUBRESOURCES)}
    asked["namespace"] = s.one("a", "b", "", "kube-node-lease") if namespaced else s.one("", "", "a")
    asked["name"] = s.one(*names, "", "", "absent")
    if s.often(0.25):
        if s.often():
            asked["fieldSelector"] = {"rawSelector": s.r.choice(SELECTORS)}
        else:
            asked["fieldSelector"] = {"requirements": [{"key": s.one("spec.nodeName", "metadata.name", ""), "operator": s.one("In", "NotIn", "Exists", "Gt"),
                                                        "values": s.one(["n1"], ["n1", "n2"], [], None)}]}
    if s.often(0.05):
        asked["labelSelector"] = s.one({"rawSelector": "a in (b"}, {"rawSelector": "a"}, {"requirements": [{"key": "-", "operator": "In", "values": ["x"]}]}, {})
    return asked


def reviews(s):
    for _ in range(8):
        yield review({**spec_of(s), "resourceAttributes": attributes(s)})
    yield review({**spec_of(s), "nonResourceAttributes": {"path": s.r.choice(PATHS), "verb": s.one("get", "post", "*")}})
    broken = s.one({}, {"user": "x"}, {"resourceAttributes": attributes(s)}, {"user": None, "groups": None, "resourceAttributes": None},
                   {**spec_of(s), "resourceAttributes": {"verb": None}, "nonResourceAttributes": {"path": "/"}}, {"user": "x", "extra": None, "resourceAttributes": attributes(s)})
    yield review(broken)
    yield review(broken, metadata={"name": "x"})
    yield {**review({"resourceAttributes": attributes(s)}, "SelfSubjectAccessReview", "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"), "headers": identity(s)}
    yield {**review({"namespace": s.one("a", "b", "")}, "SelfSubjectRulesReview", "/apis/authorization.k8s.io/v1/selfsubjectrulesreviews"), "headers": identity(s)}
    own = {"apiVersion": s.one("authentication.k8s.io/v1", "authorization.k8s.io/v1", None), "kind": s.one("SelfSubjectReview", "SelfSubjectReview", "Pod", None)}
    yield {"method": "POST", "path": "/apis/authentication.k8s.io/v1/selfsubjectreviews", "body": own, "headers": identity(s)}
    local = attributes(s)
    yield review({**spec_of(s), "resourceAttributes": local}, "LocalSubjectAccessReview", "/apis/authorization.k8s.io/v1/namespaces/a/localsubjectaccessreviews",
                 metadata={"namespace": s.one("a", "b", local["namespace"])})


def twisted(s, path):
    """Another way to write a path."""
    parts = path.split("/")
    at = s.r.randrange(2, len(parts))
    return s.one(path + "/", "/" + path, "/".join(parts[:at]) + "//" + "/".join(parts[at:]), "/".join(parts[:at]) + "%2f" + "/".join(parts[at:]),
                 "/".join(parts[:at]) + "/" + "".join(f"%{ord(c):02x}" for c in parts[at]) + ("/" + "/".join(parts[at + 1:]) if parts[at + 1:] else ""),
                 path + "/.", path + "/..", "/".join(parts[:at]) + "/./" + "/".join(parts[at:]))


def escaped(text):
    return "".join(c if c.isalnum() or c in "-._~" else f"%{ord(c):02X}" for c in text)


def requests(s):
    for _ in range(10):
        group, version, resource, namespaced, names = s.r.choice(RESOURCES)
        base = f"/apis/{group}/{version}" if group else f"/api/{version}"
        if s.often(0.12):
            base += s.one("/watch", "/watch", "/proxy")
        path = base + (f"/namespaces/{s.one('a', 'b', 'kube-node-lease')}" if namespaced and s.often(0.85) else "") + f"/{resource}"
        method = s.one("GET", "GET", "GET", "GET", "DELETE", "DELETE", "HEAD", "POST", "OPTIONS")
        if s.often(0.6):
            path += "/" + s.one(*names, "absent")
            if s.often(0.3):
                path += "/" + (s.r.choice(SUBRESOURCES) or "status")
        if s.often(0.15):
            path = twisted(s, path)
        query = []
        if s.often(0.4):
            query.append("fieldSelector=" + escaped(s.r.choice(SELECTORS)))
        if s.often(0.1):
            query.append(s.one("labelSelector=a%20in%20(", "limit=x", "limit=1", "timeoutSeconds=x", "watch=false", "%zz=1", "a;b=c", "timeout=5", "timeout=x", "timeout=5s"))
        if s.often(0.2) and method == "GET":
            query.append("watch=" + s.one("1", "true", "") + "&resourceVersion=x&timeoutSeconds=1")
        if "/watch/" in path:
            query.append("resourceVersion=x&timeoutSeconds=1")
        if method in ("DELETE", "POST"):
            query.append("dryRun=All")
        path += "?" + "&".join(query) if query else ""
        yield {"method": method, "path": path, "headers": identity(s), "body": {} if method == "POST" else None}
    yield {"method": s.one("GET", "GET", "POST"), "path": s.r.choice(PATHS), "headers": identity(s)}


def granting(s):
    """Roles and bindings that may grant too much; nulls and empties are written out."""
    rules = [s.rule() for _ in range(s.r.randint(1, 2))]
    if s.often(0.3):
        rules = [rule(["*"], ["*"], ["*"])]
    for one in rules:
        if s.often(0.4):
            one[s.one("resourceNames", "nonResourceURLs", "apiGroups", "resources")] = s.one(None, [], None)
    kind, where = s.one(("clusterroles", RBAC), ("roles", f"{RBAC}/namespaces/a"))
    name = s.one(f"new{s.seed}", f"r{s.seed}x" if kind == "clusterroles" else f"r{s.seed}")
    body = {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole" if kind == "clusterroles" else "Role", "metadata": {"name": name}, "rules": rules}
    if kind == "clusterroles" and s.often(0.2):
        body["aggregationRule"] = s.one(None, {}, {"clusterRoleSelectors": []}, {"clusterRoleSelectors": [{"matchLabels": {"a": "b"}}]})
    if s.often(0.05):
        body["rules"] = s.one(None, [], "x", {})
    yield write(s, f"{where}/{kind}", name, body)
    kind, where = s.one(("clusterrolebindings", RBAC), ("rolebindings", f"{RBAC}/namespaces/a"))
    of = s.one(("ClusterRole", "cluster-admin"), ("ClusterRole", f"r{s.seed}x"), ("Role", f"r{s.seed}"), ("ClusterRole", "absent"), ("Group", "x"), (None, None))
    body = {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding" if kind == "clusterrolebindings" else "RoleBinding",
            "metadata": {"name": f"nb{s.seed}"}, "subjects": s.one([], None, [{"kind": "User", "name": "x", "apiGroup": "rbac.authorization.k8s.io"}]),
            "roleRef": {"apiGroup": s.one("rbac.authorization.k8s.io", "rbac.authorization.k8s.io", "", None), "kind": of[0], "name": of[1]}}
    yield write(s, f"{where}/{kind}", f"nb{s.seed}", body)


def write(s, collection, name, body):
    """A write of an object, as one of all kinds; the author holds what writing takes."""
    how = s.one("create", "update", "apply", "patch")
    headers = {**identity(s)}
    query = "?dryRun=All"
    if how == "create":
        return {"method": "POST", "path": collection + query, "headers": headers, "body": body}
    if how == "update":
        return {"method": "PUT", "path": f"{collection}/{name}{query}", "headers": headers, "body": body}
    kind = {"apply": "application/apply-patch+yaml", "patch": s.one("application/merge-patch+json", "application/strategic-merge-patch+json")}[how]
    query += "&fieldManager=m" + ("&force=true" if how == "apply" else "")
    return {"method": "PATCH", "path": f"{collection}/{name}{query}", "headers": {**headers, "Content-Type": kind}, "body": body}


def creating(s):
    """Writes to names that are not there."""
    path, body = s.one(
        ("/apis/coordination.k8s.io/v1/namespaces/a/leases", {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease"}),
        ("/api/v1/namespaces/a/configmaps", {"apiVersion": "v1", "kind": "ConfigMap"}),
        ("/api/v1/namespaces/a/endpoints", {"apiVersion": "v1", "kind": "Endpoints"}),
        ("/api/v1/namespaces/a/secrets", {"apiVersion": "v1", "kind": "Secret"}),
        ("/api/v1/nodes", {"apiVersion": "v1", "kind": "Node"}),
        ("/api/v1/namespaces/a/serviceaccounts", {"apiVersion": "v1", "kind": "ServiceAccount"}))
    name = s.one("fresh", "n3", "n1")
    yield write(s, path, name, {**body, "metadata": {"name": name}})


def node_writes(s):
    node = s.one("n1", "n1", "n2", "")
    headers = {"Impersonate-User": f"system:node:{node}", "Impersonate-Group": ["system:nodes"]}
    merge = {"Content-Type": "application/merge-patch+json"}
    target = s.one("n1", "n2", "n3")
    label = s.one("x", "kubernetes.io/hostname", "node-restriction.kubernetes.io/a", "k8s.io/x", "node.kubernetes.io/x", "a.kubelet.kubernetes.io/x",
                  "node-role.kubernetes.io/x", "topology.kubernetes.io/zone")
    change = s.one({"metadata": {"labels": {label: "y"}}}, {"metadata": {"labels": None}}, {"spec": {"taints": [{"key": "a", "effect": "NoSchedule"}]}},
                   {"spec": {"taints": None}}, {"metadata": {"ownerReferences": [{"apiVersion": "v1", "kind": "Pod", "name": "x", "uid": "y"}]}},
                   {"status": {"phase": "Running"}}, {"spec": {"configSource": {"configMap": {"name": "x", "namespace": "a", "kubeletConfigKey": "k"}}}}, {"spec": {"unschedulable": True}})
    sub = s.one("", "/status")
    yield {"method": "PATCH", "path": f"/api/v1/nodes/{target}{sub}?dryRun=All", "headers": {**headers, **merge}, "body": change}
    yield {"method": "POST", "path": "/api/v1/nodes?dryRun=All", "headers": headers, "body": {"metadata": {"name": s.one("n3", node or "n3"), "labels": {label: "y"}}}}
    pod = s.one("p1", "p2", "free", "absent")
    ns = s.one("a", "b")
    change = s.one({"status": {"phase": "Running"}}, {"metadata": {"labels": {"a": "b"}}}, {"metadata": {"labels": {}}}, {"metadata": {"labels": None}},
                   {"metadata": {"annotations": {"a": "b"}}}, {"status": {"resourceClaimStatuses": [{"name": "x", "resourceClaimName": "y"}]}},
                   {"status": {"extendedResourceClaimStatus": {"resourceClaimName": "rclaim", "requestMappings": []}}}, {"status": {"resourceClaimStatuses": None}})
    sub = s.one("/status", "/status", "", "/ephemeralcontainers", "/resize")
    yield {"method": "PATCH", "path": f"/api/v1/namespaces/{ns}/pods/{pod}{sub}?dryRun=All", "headers": {**headers, **merge}, "body": change}
    yield {"method": "DELETE", "path": f"/api/v1/namespaces/{ns}/pods/{pod}?dryRun=All", "headers": headers}
    yield {"method": "POST", "path": f"/api/v1/namespaces/{ns}/pods/{pod}/eviction?dryRun=All", "headers": headers,
           "body": {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": s.one(pod, "")}}}
    volume = s.one({"hostPath": {"path": "/"}}, {"secret": {"secretName": "s1"}}, {"projected": {"sources": [{"serviceAccountToken": {"path": "t"}}]}},
                   {"configMap": {"name": "c1"}}, {"csi": {"driver": "d"}}, {"persistentVolumeClaim": {"claimName": "claim"}}, {"emptyDir": {}})
    mirror = {"metadata": {"name": "m", "annotations": s.one({"kubernetes.io/config.mirror": "x"}, {"kubernetes.io/config.mirror": ""}, {}, None),
                           "ownerReferences": s.one([], None, [{"apiVersion": "v1", "kind": "Node", "name": node or "n1", "uid": "x", "controller": True}])},
              "spec": {"nodeName": s.one(node or "n1", "n2"), "containers": [{"name": "c", "image": "i"}], "volumes": [{"name": "v", **volume}]}}
    yield {"method": "POST", "path": f"/api/v1/namespaces/{ns}/pods?dryRun=All", "headers": headers, "body": mirror}
    signer = s.one("kubernetes.io/kubelet-serving", "kubernetes.io/kube-apiserver-client-kubelet", "kubernetes.io/kube-apiserver-client", "example.org/x")
    yield {"method": "POST", "path": "/apis/certificates.k8s.io/v1/certificatesigningrequests?dryRun=All", "headers": s.one(headers, {}), "body": {
        "metadata": {"name": "new"}, "spec": {"request": CSRS[s.r.choice(sorted(CSRS))], "signerName": signer, "usages": s.one(["client auth"], ["digital signature", "client auth"])}}}
    audience = s.one([], None, ["api"], ["vault"], ["other"], ["api", "vault"])
    bound = s.one(None, {"kind": "Pod", "apiVersion": "v1", "name": pod, "uid": s.one("x", None)}, {"kind": "Secret", "apiVersion": "v1", "name": "s1"})
    yield {"method": "POST", "path": f"/api/v1/namespaces/{ns}/serviceaccounts/{s.one('sa1', 'default', 'absent')}/token?dryRun=All", "headers": headers,
           "body": {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {"audiences": audience, "boundObjectRef": bound}}}
    lease = s.one("kube-node-lease", "a")
    yield {"method": s.one("POST", "PUT"), "path": f"/apis/coordination.k8s.io/v1/namespaces/{lease}/leases{{}}?dryRun=All", "headers": headers,
           "body": {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": target}}}
    grown = s.one({"status": {"capacity": {"storage": "2Gi"}}}, {"metadata": {"labels": {"a": "b"}}}, {"status": {"phase": "Lost"}}, {"status": {"conditions": None}},
                  {"spec": {"volumeName": "x"}}, {"metadata": {"finalizers": None}})
    yield {"method": "PATCH", "path": f"/api/v1/namespaces/{ns}/persistentvolumeclaims/{s.one('claim', 'other')}{s.one('/status', '/status', '')}?dryRun=All",
           "headers": {**headers, **merge}, "body": grown}
    yield {"method": "POST", "path": "/apis/resource.k8s.io/v1/resourceslices?dryRun=All", "headers": headers, "body": {"metadata": {"name": "new"}, "spec": {
        "driver": "driver.example.org", "nodeName": s.one("n1", "n2"), "pool": {"name": "p", "generation": 1, "resourceSliceCount": 1}}}}
    yield {"method": "DELETE", "path": f"/apis/resource.k8s.io/v1/resourceslices{s.one('', '/slice1', '/slice2')}?dryRun=All" +
           s.one("", "&fieldSelector=spec.nodeName%3Dn1", "&fieldSelector=spec.nodeName%3Dn2"), "headers": headers}


def others(s):
    ns = s.one("default", "kube-system", "kube-public", "kube-node-lease", "a", "absent")
    yield {"method": "DELETE", "path": f"/api/v1/namespaces/{ns}?dryRun=All", "headers": s.one({}, identity(s))}
    yield {"method": "DELETE", "path": "/api/v1/namespaces?dryRun=All", "headers": s.one({}, identity(s))}
    target = s.one("namespaces/a/pods/p1", "namespaces/a/pods/p2", "namespaces/a/pods/free", "namespaces/a/pods/https:p1:1", "nodes/n1", "nodes/n2", "nodes/n1:1",
                   "namespaces/a/services/svc", "namespaces/a/services/ep:1", "namespaces/a/services/x:y:z:1", "namespaces/a/pods/ftp:p1:1", "nodes/absent")
    yield {"method": s.one("GET", "POST"), "path": f"/api/v1/{target}/proxy{s.one('', '/', '/x')}"}
    stream = s.one("exec", "attach", "portforward")
    yield {"method": s.one("GET", "POST", "PUT"), "path": f"/api/v1/namespaces/a/pods/{s.one('free', 'absent')}/{stream}?command=x&stdin=1", "headers": identity(s)}
    options = s.one("", "container=x", "container=c", "tailLines=x", "tailLines=-1", "limitBytes=0", "sinceSeconds=0", "sinceTime=x", "stream=x", "follow=0", "previous=true")
    yield {"method": "GET", "path": f"/api/v1/namespaces/a/pods/{s.one('free', 'absent')}/log?{options}"}


def credentials(s):
    token = "abcdef.0123456789abcdef"
    form = s.one("Bearer {}", "bearer {}", "BEARER {}", "Bearer  {}", " Bearer {} ", "Bearer {} x", "Bearer", "Bearer ", "Basic {}", "Bearer x{}", "Bearer {}\xff", "{}", "Bearer\t{}")
    yield {"method": "GET", "path": s.one("/api", "/healthz", "/api/v1/namespaces"), "headers": {"Authorization": form.format(token)}, "as": None}
    yield {"method": "GET", "path": "/api/v1/nodes", "as": s.one("node1", "plain", "nobody")}


def impersonation(s):
    """Impersonation by somebody who is not the administrator: a client certificate, or a name that the administrator takes first."""
    name = s.one("x", "n1", "system:node:n1", "system:node:N", "system:serviceaccount:a:sa1", "system:serviceaccount:a", "system:anonymous", "d\xc3\xa4ve", "d\xe4ve", "")
    headers = {"Impersonate-User": name}
    if s.often(0.4):
        headers["Impersonate-Group"] = s.some(["g", "", "system:masters", "system:nodes", "h", "i", "j", "\xff", "system:unauthenticated"], 5)
    if s.often(0.2):
        headers["Impersonate-Uid"] = s.one("u", "", "\xfc")
    if s.often(0.3):
        key = s.one("a.b%2fc", "scopes", "A.b%2fC", "%zz", "a.b%2f", "a.b%2fc%20")
        headers["Impersonate-Extra-" + key] = s.some(["v", "w", "", "x", "\xff"], 4)
    if s.often(0.1):
        del headers["Impersonate-User"]
    path = s.one("/api/v1/namespaces/a/pods", "/api/v1/namespaces/a/pods/p1", "/apis/authentication.k8s.io/v1/selfsubjectreviews", "/version")
    method, body = ("POST", {"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"}) if "reviews" in path else ("GET", None)
    yield {"method": method, "path": path, "headers": headers, "body": body, "as": s.one("admin", "plain", *(f"client{i}" for i in range(CLIENTS)))}


def nearly(s):
    """Asks for what the seed's own roles grant, and for what is just beside it in one way."""
    objects = world(s.seed)
    rules = {(one["path"].rsplit("/", 1)[1], one["body"]["metadata"]["name"]): one["body"]["rules"] for one in objects if "rules" in one["body"]}
    bindings = [one for one in objects if "roleRef" in one["body"]]
    for _ in range(6):
        binding = s.r.choice(bindings)
        of, subject = binding["body"]["roleRef"], binding["body"]["subjects"][0]
        granted = [one for one in rules.get((of["kind"].lower() + "s", of["name"]), []) if "resources" in one]
        if not granted:
            continue
        one = s.r.choice(granted)
        resource, _, sub = s.r.choice(one["resources"]).partition("/")
        asked = {"verb": s.r.choice(one["verbs"]), "group": s.r.choice(one["apiGroups"]), "resource": resource, "subresource": sub, "name": s.r.choice(one.get("resourceNames") or ["", "x"]),
                 "namespace": binding["path"].split("/namespaces/")[1].split("/")[0] if "/namespaces/" in binding["path"] else s.one("a", "b", "")}
        other = {"verb": s.r.choice([verb for verb in VERBS if verb]), "group": s.one("", "apps", "x"), "resource": s.r.choice(RESOURCES)[2], "subresource": s.one("", "status", "log", "scale"), "name": s.one("", "absent"), "namespace": s.one("a", "b", "")}
        for key in s.one([], ["name"], ["name"], ["subresource"], ["subresource", "name"], ["namespace"], ["verb"], ["group"], ["resource"]):
            asked[key] = other[key]
        name = {"User": subject["name"], "Group": "somebody", "ServiceAccount": f"system:serviceaccount:a:{subject['name']}"}[subject["kind"]]
        yield review({"user": name, "groups": [subject["name"]] if subject["kind"] == "Group" else [], "resourceAttributes": asked})


def questions(seed):
    made = []
    for part in (reviews, nearly, requests, granting, creating, node_writes, others, credentials, impersonation):
        made += part(Seed(seed, part.__name__))
    for one in made:
        if "{}" in one["path"]:
            name = one["body"]["metadata"]["name"]
            one["path"] = one["path"].format("" if one["method"] == "POST" else f"/{name}")
    return made


HEX = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")


def plain(text):
    """A text without what differs from run to run, and with lists that have no order in one."""
    text = HEX.sub("<uid>", text)
    text = re.sub(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", "<time>", text)
    # a byte that is no text is written by Go as its number
    text = re.sub(r"\\x[89a-f][0-9a-f]|\ufffd", "<byte>", text)
    text = re.sub(r"RBAC: allowed by .*", "RBAC: allowed by <binding>", text)
    return re.sub(r"\[([^\[\]]*, [^\[\]]*)\]", lambda m: "[" + ", ".join(sorted(m.group(1).split(", "))) + "]", text)


def normal(request, answer):
    code, body = answer["code"], answer["body"]
    if not isinstance(body, dict):
        return {"code": code, "text": plain(body)[:300] if code >= 400 and request["method"] != "HEAD" else ""}
    if body.get("kind") == "Status" and code >= 400:
        details = body.get("details") or {}
        return {"code": code, "reason": body.get("reason", ""), "message": plain(body.get("message", "")), "name": details.get("name", ""), "of": details.get("kind", "")}
    if body.get("kind", "").endswith("Review"):
        status = dict(body.get("status") or {})
        for key in ("reason", "evaluationError"):
            if key in status:
                status[key] = plain(status[key])
        # each side has its own name for the administrator
        if (status.get("userInfo") or {}).get("username") in ("kubernetes-super-admin", "system:admin"):
            status["userInfo"] = {**status["userInfo"], "username": "<admin>"}
        for key in ("resourceRules", "nonResourceRules"):
            if key in status:
                status[key] = sorted((json.dumps(one, sort_keys=True) for one in status[key] or []))
        shown = json.dumps(status, sort_keys=True)
        return {"code": code, "status": json.loads(re.sub(r"X509SHA256=[0-9a-f]+", "<certificate>", shown))}
    return {"code": code}


def shape(path):
    path = path.split("?")[0]
    return re.sub(r"/(?:[a-z0-9:.-]*\d[a-z0-9:.-]*|absent|free|claim|other|fresh)(?=/|$)", "/NAME", path)


def kind(request, ours, theirs):
    what = shape(request["path"])
    if "code" in ours and ours["code"] == theirs["code"] == 201 and "status" in ours:
        keys = sorted(k for k in {**ours["status"], **theirs["status"]} if ours["status"].get(k) != theirs["status"].get(k))
        asked = (request["body"].get("spec") or {}).get("resourceAttributes") or {}
        return f"{what} {','.join(keys)} {asked.get('resource', '')}"
    if ours["code"] == theirs["code"]:
        return f"{request['method']} {what} {ours['code']} said otherwise"
    return f"{request['method']} {what} {theirs['code']} not {ours['code']}"


CSRS = {}


def _csrs():
    import base64
    import subprocess
    import tempfile
    from pathlib import Path
    with tempfile.TemporaryDirectory() as folder:
        key = Path(folder) / "key"
        subprocess.run(["openssl", "ecparam", "-genkey", "-name", "prime256v1", "-noout", "-out", key], check=True, capture_output=True)
        for name, subject in {"jane": "/O=devs/CN=jane", "masters": "/O=system:masters/CN=jane", "n1": "/O=system:nodes/CN=system:node:n1",
                              "n2": "/O=system:nodes/CN=system:node:n2"}.items():
            made = subprocess.run(["openssl", "req", "-new", "-key", key, "-subj", subject], check=True, capture_output=True).stdout
            CSRS[name] = base64.b64encode(made).decode()
    CSRS["broken"] = base64.b64encode(b"no request").decode()


_csrs()
