"""The rig of aggregation: APIServices, right and wrong ones, whose extension server answers well, badly or not at all, and requests of all ways that go there.

Each script has a group and a Service of its own; all Services lead to the worker's extension server (aggregation_worker.py). What is compared
is what clients are answered, what the extension server was asked, what the condition Available says and what discovery tells.
"""
import base64
import json
import random
import re

import api
from https import pair

BATCH = 24
WORKER = "aggregation_worker.py"
SERVICES = "/apis/apiregistration.k8s.io/v1/apiservices"
GROUP = "g{id}.example.org"
AGGREGATED = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"
PROTOBUF = "application/com.github.proto-openapi.spec.v2@v1.0+protobuf"
MERGE, JSON, APPLY = (f"application/{kind}" for kind in ("merge-patch+json", "json-patch+json", "apply-patch+yaml"))


CERTIFICATE, KEY = pair("extension", "DNS:*.default.svc")
BUNDLE = base64.b64encode(CERTIFICATE.encode()).decode()
OTHER = base64.b64encode(pair("extension", "DNS:*.default.svc")[0].encode()).decode()


def certificates():
    return {**api.certificates(), "jane": ("jane", ["devs", "a b"])}


def fixtures():
    rbac = "/apis/rbac.authorization.k8s.io/v1"
    rules = [{"verbs": ["*"], "apiGroups": ["*"], "resources": ["things", "things/status"]}]
    binding = {"metadata": {"name": "things"}, "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "things"}, "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "Group", "name": "devs"}]}
    return [{"method": "SERVE", "path": "", "serve": [CERTIFICATE, KEY]},
            {"method": "POST", "path": f"{rbac}/clusterroles", "body": {"metadata": {"name": "things"}, "rules": rules}},
            {"method": "POST", "path": f"{rbac}/clusterrolebindings", "body": binding}]


def named(script, number):
    made, names = api.named(script, number)
    return json.loads(json.dumps(made).replace("{bundle}", BUNDLE).replace("{other}", OTHER)), names


class Script(api.Script):
    def __init__(self, seed):
        self.r = random.Random(f"{seed} aggregation")
        self.steps = []

    def resources(self, version):
        verbs = ["create", "delete", "get", "list", "watch"]
        things = {"name": "things", "singularName": "thing", "namespaced": True, "kind": "Thing", "verbs": verbs}
        status = {"name": "things/status", "singularName": "", "namespaced": True, "kind": "Thing", "verbs": ["get", "update"]}
        more = self.r.choice([[], [status], [{**status, "name": "orphans/x", "namespaced": False}], [{"name": "wide", "singularName": "", "namespaced": False, "kind": "Wide", "group": "other.example.org", "version": "v3", "verbs": ["list"], "shortNames": ["w"], "categories": ["all"]}]])
        return {"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": f"{GROUP}/{version}", "resources": [things, *more]}

    def discovered(self, version):
        kind = {"group": GROUP, "version": version, "kind": "Thing"}
        thing = {"resource": "things", "responseKind": kind, "scope": "Namespaced", "singularResource": "thing", "verbs": ["get", "list"], "shortNames": ["t"]}
        if self.often(0.3):
            thing.pop("responseKind")
        if self.often(0.4):
            thing["subresources"] = [{"subresource": "status", "verbs": ["get"], **({"responseKind": kind} if self.often(0.5) else {})}]
        return {"metadata": {"name": self.r.choice([GROUP, GROUP, GROUP, "other.example.org"])}, "versions": [{"version": self.r.choice([version, version, "v9"]), "resources": [thing], "freshness": "Current"}]}

    def how(self, versions):
        """How the server answers."""
        json_ = {"Content-Type": "application/json"}
        how = {"*": [200, json_, "echo"]}
        for version in versions:
            path = f"/apis/{GROUP}/{version}"
            how[path] = self.r.choice([[200, json_, self.resources(version)]] * 6 + [[503, {}, "busy"], [404, json_, {"kind": "Status", "code": 404}], [302, {"Location": "/elsewhere"}, ""], [500, {}, ""], None, [200, json_, "{"], [299, {}, "x"]])
        lists = {"kind": "APIGroupDiscoveryList", "apiVersion": "apidiscovery.k8s.io/v2", "metadata": {}, "items": [self.discovered(v) for v in versions]}
        how["/apis"] = self.r.choice([[404, {}, ""], [200, json_, "{}"], [200, {"Content-Type": AGGREGATED, "Etag": '"a"'}, lists], [200, {"Content-Type": AGGREGATED}, lists], [503, {}, ""], [406, {}, ""], [200, {"Content-Type": AGGREGATED.replace("v2", "v2beta1")}, lists]])
        how["/openapi/v3"] = self.r.choice([[404, {}, ""], [200, json_, {"paths": {f"apis/{GROUP}/{v}": {"serverRelativeURL": f"/openapi/v3/apis/{GROUP}/{v}?hash=1"} for v in versions}}]])
        how["/openapi/v2"] = [404, {}, ""]
        return how

    def service(self, version):
        priority = self.r.choice([[1000, 15], [2000, 15], [1000, 100], [17800, 20], [18001, 1], [20000, 1000]])
        spec = {"group": GROUP, "version": version, "groupPriorityMinimum": priority[0], "versionPriority": priority[1], "caBundle": "{bundle}", "service": {"name": "s{id}", "namespace": "default", "port": 8443}}
        if self.often(0.1):
            spec = self.r.choice([{**spec, "caBundle": "{other}"}, {**spec, "caBundle": "eA=="}, {k: v for k, v in spec.items() if k != "caBundle"} | {"insecureSkipTLSVerify": True}, {k: v for k, v in spec.items() if k != "caBundle"},
                                  {**spec, "insecureSkipTLSVerify": True}, {**spec, "service": {**spec["service"], "port": 1}}, {**spec, "service": {**spec["service"], "name": "none"}}, {k: v for k, v in spec.items() if k not in ("service", "caBundle")}])
        if self.often(0.1):
            spec = {**spec, **self.r.choice([{"groupPriorityMinimum": self.r.choice([0, -1, 20001, "1"])}, {"versionPriority": self.r.choice([0, 1001, 1.5])}, {"group": "A.b"}, {"group": ""}, {"version": "V1"}, {"version": ""}, {"service": {}}, {"service": None},
                                             {"service": {"name": "", "namespace": "default"}}, {"service": {"name": "s{id}", "namespace": "default", "port": 70000}}, {"caBundle": "%"}, {"insecureSkipTLSVerify": "x"}])}
        return {"metadata": {"name": f"{version}.{GROUP}", **({"labels": {"kube-aggregator.kubernetes.io/automanaged": self.r.choice(["true", "onstart", "x"])}} if self.often(0.05) else {})}, "spec": spec}

    def request(self, version):
        base = f"/apis/{GROUP}/{version}"
        path = self.r.choice([f"{base}/namespaces/default/things", f"{base}/things", f"{base}/namespaces/default/things/a", f"{base}/namespaces/default/things/a/status", f"{base}/namespaces/default/things/a%2Fb", f"{base}/namespaces/default/things/a b%C3%BC".replace(" ", "%20"),
                              f"{base}/", base, f"{base}/namespaces/default/things/a/", f"{base}//things", f"{base}/other", f"{base}/namespaces/x/things/a!b(c)'*", f"{base}/watch/things", f"{base}/proxy/things/a"])
        query = self.r.sample(["b=2", "a=%20x", "a=+", "limit=5", "c;d=1", "%zz=1", "labelSelector=a%3Db", "e", "fieldSelector=metadata.name%3Da", "dryRun=All", "timeoutSeconds=x", "timeout=x", "watch=0"], self.r.choice([0, 0, 1, 2, 4]))
        method = self.r.choice(["GET", "GET", "GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"])
        headers = {}
        for name, values in {"Accept": ["application/json", "text/html", "application/vnd.kubernetes.protobuf", "*/*", "rubbish"], "X-Remote-User": ["root"], "X-Remote-Group": ["system:masters"], "X-Remote-Extra-A": ["b"], "X-Forwarded-For": ["192.0.2.1", "192.0.2.1, 192.0.2.2"],
                             "X-Forwarded-Proto": ["http"], "Connection": ["keep-alive, X-Mine", "close"], "X-Mine": ["1"], "Te": ["trailers", "gzip"], "Cookie": ["a=b"], "Upgrade": ["h2c"], "Impersonate-User": ["jane"], "Range": ["bytes=0-1"], "Keep-Alive": ["x"], "Origin": ["http://a"]}.items():
            if self.often(0.1):
                headers[name] = self.r.choice(values)
        if headers.get("Impersonate-User") and self.often(0.5):
            headers |= self.r.choice([{"Impersonate-Group": "devs"}, {"Impersonate-Uid": "7"}, {"Impersonate-Extra-A%2fB": "c", "Impersonate-Group": "devs"}])
        body = None
        if method in ("POST", "PUT", "PATCH"):
            body = self.r.choice([{"kind": "Thing", "apiVersion": f"{GROUP}/{version}", "metadata": {"name": "a"}}, "rubbish", "", {"a": "ü" * 3000}])
            headers["Content-Type"] = self.r.choice(["application/json", MERGE, APPLY, "text/plain"])
        self.step(method, path, body, query, headers=headers, **{"as": self.r.choice(["boss", "jane", "jane", None])})

    def tell(self):
        """What is told of the group, and of what nobody has."""
        nowhere = ["/apis/none.example.org", "/apis/none.example.org/v1", f"/apis/{GROUP}/v7", "/apis/apps/v9", "/apis/apps/v1/", "/api/v2", "/apis/apps/v1/nothing", "/apis/none.example.org/v1/things", "/openapi/v3/apis/none.example.org/v1"]
        self.step(self.r.choice(["GET", "GET", "POST"]), self.r.choice(nowhere))
        self.step("GET", "/apis", None, pick=GROUP)
        self.step("GET", f"/apis/{GROUP}", None)
        self.step("GET", f"/apis/{GROUP}/", None)

    def play(self):
        versions = self.r.choice([["v1"], ["v1"], ["v1", "v2"], ["v1alpha1", "v1beta1"], ["v1beta1", "v1"]])
        external = {"metadata": {"name": "s{id}"}, "spec": {"type": "ExternalName", "externalName": "localhost", "ports": [{"port": 8443}]}}
        if self.often(0.15):
            external["spec"] = self.r.choice([{"type": "ClusterIP", "clusterIP": "None"}, {"ports": [{"port": 8443}]}, {"ports": [{"port": 443, "name": "a"}]}, {"ports": [{"port": 8443, "name": "b"}], "type": "NodePort"}])
        self.step("BEHAVE", "", behave="s{id}", how=self.how(versions), setup=True)
        late = self.often(0.2)
        if not late:
            self.step("POST", "/api/v1/namespaces/default/services", external, setup=True)
        made = []
        for version in versions:
            made.append(self.service(version))
            self.step("POST", SERVICES, made[-1])
        reasons = ["Passed", "Local", "FailedDiscoveryCheck", "ServiceNotFound", "ServicePortError", "EndpointsNotFound", "MissingEndpoints"]
        for one in made:
            self.step("GET", f"{SERVICES}/{one['metadata']['name']}", **{"await": reasons})
        if late:
            self.step("POST", "/api/v1/namespaces/default/services", external, setup=True)
            for one in made:
                self.step("GET", f"{SERVICES}/{one['metadata']['name']}", **{"await": [r for r in reasons if r != "ServiceNotFound"]})
        for one in made:
            self.step("GET", f"/apis/{GROUP}/{one['spec'].get('version')}/things", settle="service" in one["spec"], after=True)
        for _ in range(6):
            self.request(self.r.choice(versions + ["v7"]) if self.often(0.1) else versions[0])
        self.tell()
        self.step("GET", "/apis", None, headers={"Accept": AGGREGATED}, pick=f'"{GROUP}"', says="freshness")
        self.step("GET", f"{SERVICES}/{made[0]['metadata']['name']}", None, headers={"Accept": "application/json;as=Table;g=meta.k8s.io;v=v1"})
        change = self.r.choice(["down", "down", "spec", "local", "delete", "none"])
        path = f"{SERVICES}/{made[0]['metadata']['name']}"
        if change == "down":
            self.step("BEHAVE", "", behave="s{id}", how={"*": self.r.choice([None, [500, {}, "x"], [503, {}, "x"]])}, setup=True)
            self.step("PATCH", "/api/v1/namespaces/default/services/s{id}", {"metadata": {"annotations": {"a": "b"}}}, headers={"Content-Type": MERGE}, after=True)
            self.step("GET", path, **{"await": [r for r in reasons if r != "Passed" and not (late and r == "ServiceNotFound")]})
            self.request(versions[0])
            self.tell()
            self.step("GET", "/apis", None, headers={"Accept": AGGREGATED}, pick=f'"{GROUP}"', says="Stale")
        elif change == "spec":
            self.step("PATCH", path, {"spec": {"service": {"port": 2}}}, headers={"Content-Type": MERGE})
            self.step("GET", path, **{"await": ["FailedDiscoveryCheck"], "says": ":2/"} if external["spec"].get("externalName") and made[0]["spec"].get("caBundle") == "{bundle}" else {"after": True})
            self.request(versions[0])
        elif change == "local":
            self.step("PATCH", path, {"spec": {"service": None, "caBundle": None}}, headers={"Content-Type": MERGE})
            self.step("GET", path, **{"await": ["Local"]})
            self.request(versions[0])
            self.tell()
        elif change == "delete":
            self.step("DELETE", path)
            self.step("GET", f"/apis/{GROUP}/{versions[0]}/things", until=404)
            self.tell()
        for one in made:
            self.step("DELETE", f"{SERVICES}/{one['metadata']['name']}", after=True)
        self.step("DELETE", "/api/v1/namespaces/default/services/s{id}", after=True)
        return self.steps


def script(seed):
    return Script(seed).play()


def normal(step, answer, names, asked):
    made = api.normal(step, answer, names, asked)
    if isinstance(made["body"], dict) and made["body"].get("kind") == "Table":
        # the columns of built-in kinds have no descriptions here
        made["body"]["columnDefinitions"] = [{**one, "description": ""} for one in made["body"]["columnDefinitions"]]
    # connections, and what Go guesses of a certificate that it does not believe
    text = re.sub(r" \(possibly because of [^)]*\)", "", json.dumps(made))
    text = re.sub(r"\b(?:\d+\.){3}\d+:\d+(?:->(?:\d+\.){3}\d+:\d+)?|\[::1\]:\d+(?:->\[::1\]:\d+)?", "<address>", text)
    return json.loads(text)


def kinds(step, ours, theirs):
    path = re.sub(r"(?<=\.example\.org/)v\w+", "v", step["path"].split("?")[0].replace(GROUP, "G"))
    made = []
    if ours["code"] != theirs["code"]:
        made.append(f"{step['method']} {path}: {ours['code']} not {theirs['code']}: {api.masked(str(theirs['body']))}")
    else:
        for where, how in api.difference(ours["body"], theirs["body"]):
            made.append(f"{step['method']} {path}: {'.'.join(where)} {how}: {api.masked(str(theirs['body'])) if not where else ''}")
            break
    for name in ("type", "location", "retry", "warnings") if ours["code"] == theirs["code"] else ():
        if ours.get(name) != theirs.get(name):
            made.append(f"{step['method']}: {name}: {ours.get(name)} not {theirs.get(name)}")
    return made or ["?"]
