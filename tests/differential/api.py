"""The API rig: scripts of a few requests about one object of any kind, one to three of whose values are odd.

Every script has a namespace and names of its own. What is compared of an answer: status, reason, causes, message, warnings, the object with its
managed fields; times, uids and revisions are replaced by what they are.
"""
import base64
import copy
import json
import random
import re
import subprocess
import tempfile
from urllib.parse import quote

import odd
import schema
from objects import DANGEROUS, OBJECTS

KINDS = sorted({(one["gv"], one["resource"]) for one in OBJECTS})
SUBRESOURCES = {(row[0], row[1]): row[4] for row in schema.resources()}
MANAGERS = ["one", "two", "kubectl"]
# the seeds of the sample ask what they asked when it was recorded
SAMPLED = 800


def fixtures():
    def post(path, body):
        return {"method": "POST", "path": path, "body": body}
    return [post("/apis/scheduling.k8s.io/v1/priorityclasses", {"metadata": {"name": "high"}, "value": 1000})]


def certificates():
    # the same name on both sides; what is written bears it
    return {"boss": ("boss", ["system:masters"])}


def signing_request():
    with tempfile.NamedTemporaryFile() as key:
        subprocess.run(["openssl", "ecparam", "-genkey", "-name", "prime256v1", "-noout", "-out", key.name], check=True, capture_output=True)
        made = subprocess.run(["openssl", "req", "-new", "-key", key.name, "-subj", "/O=devs/CN=jane"], check=True, capture_output=True).stdout
    return base64.b64encode(made).decode()


CSR = signing_request()


def named(script, number):
    """The script with names of its own in place of the placeholders, and what these are."""
    digits = "0123456789abcdefghijklmnopqrstuvwxyz"
    text = "".join(digits[number // 36 ** i % 36] for i in range(5))
    names = {"{ns}": f"ns{text}", "{id}": f"id{text}", "{byte}": str(number % 240 + 10), "{csr}": CSR}
    made = json.dumps(script)
    for place, name in names.items():
        made = made.replace(place, name)
    return [{"as": "boss", **step} for step in json.loads(made)], names


class Script:
    """Makes the steps of one seed."""

    def __init__(self, seed):
        self.r = random.Random(f"{seed} api")
        gv, resource = self.r.choice(KINDS)
        # pods and what has pods in it are half of what users write
        if self.r.random() < 0.2:
            gv, resource = self.r.choice([("v1", "pods"), ("v1", "services"), ("apps/v1", "deployments"), ("apps/v1", "statefulsets"), ("batch/v1", "jobs")])
        self.take(self.r.choice([one for one in OBJECTS if (one["gv"], one["resource"]) == (gv, resource)]))

    def often(self, chance):
        return self.r.random() < chance

    def step(self, method, path, body=None, query=(), **more):
        step = {"n": len(self.steps), "method": method, "path": path + ("?" + "&".join(query) if query else ""), "body": body, **more}
        self.steps.append(step)
        return step["n"]

    def query(self, dangerous=True):
        made = []
        if self.often(0.5):
            made.append("fieldValidation=" + self.r.choice(["Strict", "Strict", "Warn", "Ignore", "Warn", "strict", ""][:5 if self.often(0.9) else 7]))
        if self.often(0.1) or dangerous and self.resource in DANGEROUS:
            made.append("dryRun=All")
        if self.often(0.1):
            made.append("fieldManager=" + self.r.choice(["one", "", "a%20b", "x" * 129, "%C3%A9", "a%00b"]))
        return made

    def edits(self, body=None, where=None, most=3):
        body = copy.deepcopy(body or self.object["body"])
        made = []
        for _ in range(self.r.choice([1, 1, 1, 2, 3][:most + 2])):
            one = odd.change(self.r, body, self.type, where)
            made.append(one)
            if one[1] != "twice":
                body = odd.apply(body, [one])
            if not isinstance(body, dict):
                break
        return made

    def setup(self):
        if self.object["namespaced"]:
            self.step("POST", "/api/v1/namespaces", {"metadata": {"name": "{ns}"}}, setup=True)
            if self.resource in ("pods", "serviceaccounts"):
                self.step("POST", "/api/v1/namespaces/{ns}/serviceaccounts", {"metadata": {"name": "default"}}, setup=True)

    # whether a script waits for what a controller of the server's own writes once into a new object
    settles = False
    SOON = {"customresourcedefinitions": "InitialNamesAccepted", "flowschemas": "Dangling", "apiservices": "Available"}

    def create(self):
        # a range that is stored is used by all Services
        made = self.step("POST", self.collection, self.object["body"], ["dryRun=All"] * (self.resource == "servicecidrs"))
        return self.settled(made)

    def settled(self, made):
        """The step after which an object that step `made` has written is as its controller leaves it."""
        soon = self.SOON.get(self.resource) if self.settles else None
        return self.step("GET", self.path, needs=made, holds=soon) if soon else made

    def odd_create(self):
        self.step("POST", self.collection, odd.apply(self.object["body"], self.edits()), self.query())

    def unknowns(self):
        """Several fields at once that nobody knows or that are given twice, also in later items of lists: each is told, with its place."""
        body = copy.deepcopy(self.object["body"])
        for _, of, value in list(schema.walk(body, self.type)):
            if isinstance(value, list) and value and isinstance(value[0], dict) and self.often(0.5):
                value.append(copy.deepcopy(value[-1]))
        places = [value for _, of, value in schema.walk(body, self.type) if isinstance(value, dict) and of.startswith("@")]
        for _ in range(self.r.randint(2, 5)):
            place = self.r.choice(places)
            known = [key for key in place if not key.endswith("@twice")]
            if known and self.often(0.4):
                key = self.r.choice(known)
                place[key + "@twice"] = place[key]
            else:
                place[self.r.choice(["unknown", "Name", "x-y", "é", "a.b", "q\"q"])] = self.r.choice([1, None, {}, "x", [1]])
        query = ["fieldValidation=" + self.r.choice(["Warn", "Warn", "Strict"])] + ["dryRun=All"] * (self.resource in DANGEROUS or self.often(0.1))
        if self.often(0.6):
            self.step("POST", self.collection, body, query)
        else:
            self.create()
            self.step("PUT", self.path, body, query)

    def update(self):
        stored = self.create()
        for _ in range(self.r.choice([1, 1, 2])):
            if self.often(0.6):
                self.step("PUT", self.path, None, self.query(), **{"from": stored}, edits=self.edits())
            else:
                self.step("PUT", self.path, odd.apply(self.object["body"], self.edits()), self.query())

    def patch(self):
        self.create()
        for _ in range(self.r.choice([1, 1, 2])):
            edits = self.edits()
            kind = self.r.choice(["merge", "strategic", "json"])
            if kind == "json":
                body, type_ = json_patch(self.r, edits), "application/json-patch+json"
            else:
                body, type_ = merge_patch(self.object["body"], edits), f"application/{'merge' if kind == 'merge' else 'strategic-merge'}-patch+json"
                if kind == "strategic" and self.often(0.2):
                    directive(self.r, body)
            self.step("PATCH", self.path, body, self.query(), headers={"Content-Type": type_})

    def applied(self):
        body = self.object["body"]
        for _ in range(self.r.randint(1, 3)):
            part = odd.apply(body, self.edits())
            if isinstance(part, dict):
                for key in [key for key in part if key not in ("apiVersion", "kind", "metadata")]:
                    part = self.some(part, key)
            query = [one for one in self.query() if not one.startswith("fieldManager")]
            query.append("fieldManager=" + self.r.choice(MANAGERS))
            if self.often(0.4):
                query.append("force=true")
            made = self.step("PATCH", self.path, part, query, headers={"Content-Type": "application/apply-patch+yaml"})
            if "dryRun=All" not in query:
                self.settled(made)

    def contested(self):
        """A few fields that several managers want, one after the other, until some have none of them left."""
        if self.resource in DANGEROUS:
            return self.applied()
        self.create()
        gv, kind = self.object["gv"], self.object["kind"]
        for _ in range(self.r.randint(3, 6)):
            wanted = {key: self.r.choice("12") for key in self.r.sample("abc", self.r.choice([0, 1, 1, 2]))}
            part = {self.r.choice(["labels", "labels", "annotations"]): wanted}
            manager = "fieldManager=" + self.r.choice(MANAGERS)
            if self.often(0.6):
                body = {"apiVersion": gv, "kind": kind, "metadata": {"name": self.name, **part}}
                self.step("PATCH", self.path, body, [manager] + ["force=true"] * self.often(0.7), headers={"Content-Type": "application/apply-patch+yaml"})
            else:
                gone = {key: None for key in self.r.sample("abc", self.r.choice([0, 0, 1]))}
                body = {"metadata": {name: {**values, **gone} for name, values in part.items()}}
                self.step("PATCH", self.path, body, [manager], headers={"Content-Type": "application/merge-patch+json"})
        self.step("GET", self.path)

    def some(self, body, key):
        """The object with parts of a member left out."""
        def less(value, depth):
            if isinstance(value, dict):
                return {k: less(v, depth + 1) for k, v in value.items() if depth > 3 or self.often(0.85)}
            return [less(one, depth + 1) for one in value] if isinstance(value, list) else value
        return {**body, key: less(body[key], 1)} if self.often(0.5) else body

    def status(self):
        if self.often(0.2):
            # whose generation counts annotations too
            self.take(next(one for one in OBJECTS if one["resource"] == "deployments"))
        if "status" not in SUBRESOURCES[(self.object["gv"], self.resource)]:
            return self.update()
        stored = self.create()
        made = self.edits({**self.object["body"], "status": self.object["body"].get("status", {})}, where=lambda path: path[:1] == ("status",))
        if self.often(0.3):
            # what a status brings with it: some of it is taken, some is left alone, and none of it counts as a change of what is wanted
            made += self.r.choice([[[["metadata", "annotations"], "set", {"with": "status"}]], [[["metadata", "labels"], "set", {"with": "status"}]], [[["metadata", "finalizers"], "set", ["example.org/x"]]], self.edits(most=1)])
        if self.often(0.5):
            self.step("PUT", self.path + "/status", None, self.query(), **{"from": stored}, edits=[[["status"], "set", {}]] * self.often(0.2) + made)
        else:
            body = merge_patch({**self.object["body"], "status": {}}, made)
            self.step("PATCH", self.path + "/status", body, self.query(), headers={"Content-Type": f"application/{self.r.choice(['merge', 'strategic-merge'])}-patch+json"})

    # what a list may be asked for; `{n}` is a number
    ACCEPT = ["application/json", "application/json;as=Table;v=v1;g=meta.k8s.io,application/json", "application/json;as=PartialObjectMetadata;v=v1;g=meta.k8s.io",
              "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io", "application/yaml", "application/json;as=Table;v=v1beta1;g=meta.k8s.io", "application/cbor", "text/html",
              "application/json;as=Table;v=v2;g=meta.k8s.io,application/json", "*/*", "application/json;as=Foo;v=v1;g=meta.k8s.io"]
    LABELS = ["app=x", "app!=x", "app", "!app", "app in (x,y)", "app notin (x)", "app==x,tier=a", "tier=b", "app=x,", "=", "app in ()", "a b", "app=é", "app>1", "app<1", "x/y/z=1", "", "app in (x", "n>1", "n<3", "app=x,app=y"]
    FIELDS = ["metadata.name={id}0", "metadata.name!={id}0", "metadata.namespace={ns}", "metadata.name={id}0,metadata.namespace={ns}", "metadata.name", "spec.nodeName=", "spec.nodeName=n1", "status.phase=Pending", "type=Opaque", "spec.type=NodePort",
              "metadata.labels=x", "involvedObject.kind=Pod", "reason=R", "status.successful=1", "spec.unschedulable=true", "metadata.name=a\\,b", "metadata.name==", "x=y,", "spec.restartPolicy=Always", "metadata.name in (a)"]

    def several(self):
        """Two or three objects with labels; the labels of the steps that made them."""
        made = []
        for n in range(self.r.randint(2, 3)):
            body = copy.deepcopy(self.object["body"])
            body["metadata"]["name"] = self.name.replace("{id}", "{id}" + str(n))
            body["metadata"]["labels"] = {"app": self.r.choice("xy"), "n": str(n), "of": "{id}"}
            made.append(self.step("POST", self.collection, body))
        return made

    def listed(self):
        if self.resource in DANGEROUS or self.resource == "ipaddresses" or "{id}" not in self.name:
            return self.odd_create()
        made = self.several()
        for _ in range(self.r.randint(1, 3)):
            query = []
            if self.often(0.5):
                query.append("labelSelector=" + quote(self.r.choice(self.LABELS)))
            elif not self.object["namespaced"]:
                query.append("labelSelector=" + quote("of={id}", safe="{}"))
            if self.often(0.4):
                query.append("fieldSelector=" + quote(self.r.choice(self.FIELDS), safe="{}"))
            if self.often(0.4):
                query.append("limit=" + self.r.choice(["1", "2", "0", "-1", "x", "500", ""]))
            if self.often(0.3):
                query.append("resourceVersion=" + self.r.choice(["0", "1", "x", "", "{{rv:%d}}" % made[-1], "{{rv:%d}}" % made[0], "99999999", "-1"]))
            if self.often(0.2):
                query.append("resourceVersionMatch=" + self.r.choice(["Exact", "NotOlderThan", "", "x"]))
            if self.often(0.1):
                query.append(self.r.choice(["continue=x", "continue=", "timeoutSeconds=x", "timeoutSeconds=1", "pretty=true", "includeObject=Object", "includeObject=None", "includeObject=x", "sendInitialEvents=true", "allowWatchBookmarks=true"]))
            if not self.object["namespaced"] and not any("labelSelector" in one and "of%3D" in one for one in query):
                query = [one for one in query if "labelSelector" not in one] + ["labelSelector=" + quote("of={id}", safe="{}")]
            path = self.path.replace("{id}", "{id}0") if self.often(0.25) else self.collection
            got = self.step("GET", path, None, query, headers={"Accept": self.r.choice(self.ACCEPT) if self.often(0.6) else "application/json"})
            if "limit=1" in query and path == self.collection:
                self.step("GET", path, None, [one for one in query if "resourceVersion" not in one] + ["continue={{continue:%d}}" % got])

    def watched(self):
        if self.resource in DANGEROUS or self.resource == "ipaddresses":
            return self.update()
        first = self.create()
        self.step("PATCH", self.path, merge_patch(self.object["body"], self.edits(most=1)), headers={"Content-Type": "application/merge-patch+json"})
        self.step("PATCH", self.path, {"metadata": {"labels": {"app": "z"}}}, headers={"Content-Type": "application/merge-patch+json"})
        if self.often(0.7):
            self.step("DELETE", self.path, self.r.choice([None, {"gracePeriodSeconds": 0}]))
        query = ["watch=" + self.r.choice(["1", "true"]), "timeoutSeconds=1", "resourceVersion={{rv:%d}}" % first, "fieldSelector=" + quote(f"metadata.name={self.name}", safe="{}")]
        if self.often(0.4):
            query.append("labelSelector=" + quote(self.r.choice(self.LABELS[:8])))
        if self.often(0.2):
            query.append(self.r.choice(["sendInitialEvents=true", "resourceVersionMatch=NotOlderThan", "allowWatchBookmarks=false", "limit=1"]))
        self.step("GET", self.collection, None, query, headers={"Accept": self.r.choice(self.ACCEPT[:4]) if self.often(0.5) else "application/json"})

    OPTIONS = [{}, {"gracePeriodSeconds": 0}, {"gracePeriodSeconds": -1}, {"gracePeriodSeconds": 5}, {"propagationPolicy": "Foreground"}, {"propagationPolicy": "Orphan"}, {"propagationPolicy": "Background"}, {"propagationPolicy": "x"},
               {"orphanDependents": True}, {"orphanDependents": False}, {"orphanDependents": True, "propagationPolicy": "Orphan"}, {"preconditions": {"uid": "x"}}, {"preconditions": {"resourceVersion": "1"}}, {"dryRun": ["All"]}, {"dryRun": ["x"]},
               {"preconditions": {"uid": "{{uid:N}}"}}, {"preconditions": {"resourceVersion": "{{rv:N}}"}}, {"unknown": 1}, {"kind": "DeleteOptions", "apiVersion": "v1"}, {"kind": "Pod", "apiVersion": "v1"}, {"gracePeriodSeconds": "x"}, {"dryRun": None},
               {"ignoreStoreReadErrorWithClusterBreakingPotential": True}, [], "x"]

    def deleted(self):
        if self.resource in DANGEROUS or self.resource == "ipaddresses":
            return self.update()
        # a definition goes when its controller has looked at what is left of its objects
        if self.settles and self.resource == "customresourcedefinitions":
            return self.update()
        object_ = copy.deepcopy(self.object["body"])
        if self.often(0.4):
            object_["metadata"]["finalizers"] = self.r.choice([["example.org/x"], ["example.org/x", "orphan"], ["foregroundDeletion"]])
        made = self.settled(self.step("POST", self.collection, object_))
        for _ in range(self.r.randint(1, 3)):
            options = json.loads(json.dumps(self.r.choice(self.OPTIONS)).replace(":N}}", f":{made}}}}}"))
            query = [self.r.choice(["gracePeriodSeconds=0", "gracePeriodSeconds=x", "propagationPolicy=Orphan", "propagationPolicy=x", "dryRun=All", "orphanDependents=true", "gracePeriodSeconds=3"])] if self.often(0.3) else []
            collection = self.often(0.2) and self.object["namespaced"]
            self.step("DELETE", self.collection if collection else self.path, options if self.often(0.7) else None, query)
            if self.often(0.5):
                self.step("GET", self.path)
        if self.often(0.6):
            self.step("PATCH", self.path, {"metadata": {"finalizers": self.r.choice([None, [], ["example.org/y"]])}}, headers={"Content-Type": "application/merge-patch+json"})
        self.step("GET", self.path)

    def scaled(self):
        name = self.r.choice(["deployments", "statefulsets", "replicasets", "replicationcontrollers"])
        self.take(next(one for one in OBJECTS if one["resource"] == name))
        made = self.create()
        for _ in range(self.r.randint(1, 2)):
            how = self.r.choice(["get", "put", "merge", "apply", "json"])
            spec = self.r.choice([{"replicas": 5}, {"replicas": -1}, {}, {"replicas": None}, {"replicas": "3"}, {"replicas": 1.5}, None, {"x": 1, "replicas": 2}])
            body = {"apiVersion": self.r.choice(["autoscaling/v1", "autoscaling/v1", "apps/v1", "v1"]), "kind": self.r.choice(["Scale", "Scale", "Deployment"]), "metadata": {"name": self.r.choice(["{id}", "{id}", "x", ""]), "namespace": "{ns}"}, "spec": spec}
            if self.often(0.2):
                body["metadata"]["resourceVersion"] = self.r.choice(["{{rv:%d}}" % made, "1"])
            if self.often(0.1):
                body["metadata"]["labels"] = {"a": "b c"}
            path = self.path + "/scale"
            if how == "get":
                self.step("GET", path, headers={"Accept": self.r.choice(self.ACCEPT[:4])})
            elif how == "put":
                self.step("PUT", path, body, self.query())
            elif how == "merge":
                self.step("PATCH", path, {"spec": spec}, self.query(), headers={"Content-Type": f"application/{self.r.choice(['merge', 'strategic-merge'])}-patch+json"})
            elif how == "json":
                self.step("PATCH", path, [{"op": self.r.choice(["replace", "add", "remove"]), "path": "/spec/replicas", "value": self.r.choice([3, -1, None, "x"])}], self.query(), headers={"Content-Type": "application/json-patch+json"})
            else:
                self.step("PATCH", path, body, ["fieldManager=one"] + ["force=true"] * self.often(0.5), headers={"Content-Type": "application/apply-patch+yaml"})
        self.step("GET", self.path)

    def pod_parts(self):
        self.take(next(one for one in OBJECTS if one["resource"] == "pods" and len(one["body"]["spec"]) == 1), account=True)
        pod = copy.deepcopy(self.object["body"])
        pod["spec"]["containers"][0]["resources"] = {"requests": {"cpu": "1", "memory": "1Gi"}, "limits": {"cpu": "2", "memory": "2Gi"}}
        made = self.step("POST", self.collection, pod)
        merge = {"Content-Type": f"application/{self.r.choice(['merge', 'strategic-merge'])}-patch+json"}
        for _ in range(self.r.randint(1, 3)):
            what = self.r.choice(["binding", "eviction", "resize", "ephemeral", "status", "token", "get"])
            if what == "binding":
                target = self.r.choice([{"name": "n1"}, {"kind": "Node", "name": "n1"}, {}, {"kind": "Pod", "name": "x"}, {"name": ""}, None, {"name": "n1", "apiVersion": "v1"}])
                body = {"apiVersion": "v1", "kind": self.r.choice(["Binding", "Binding", "Pod"]), "metadata": {"name": self.r.choice(["{id}", "{id}", "x", ""]), **self.r.choice([{}, {"uid": "x"}, {"resourceVersion": "1"}, {"annotations": {"a": "b"}}, {"labels": {"a": "b"}}])}, "target": target}
                self.step("POST", self.r.choice([self.path + "/binding", self.collection.replace("/pods", "/bindings")]), body, self.query())
            elif what == "eviction":
                options = self.r.choice([None, *self.OPTIONS[:17]])
                body = {"apiVersion": self.r.choice(["policy/v1", "policy/v1", "policy/v1beta1", None]), "kind": self.r.choice(["Eviction", "Eviction", "Pod", None]), "metadata": {"name": self.r.choice(["{id}", "{id}", "x", ""])}, "deleteOptions": options}
                self.step("POST", self.path + "/eviction", json.loads(json.dumps(body).replace(":N}}", f":{made}}}}}")), self.query())
            elif what == "resize":
                container = {"name": self.r.choice(["c", "c", "x"]), "resources": self.r.choice([{"requests": {"cpu": "500m"}}, {"limits": {"cpu": "3"}}, {"requests": {"memory": "2Gi"}}, {"requests": {"cpu": "5"}}, {"requests": {}, "limits": {}}, None, {"limits": {"memory": "1Gi"}}, {"requests": {"example.org/x": "1"}}])}
                self.step("PATCH", self.path + "/resize", {"spec": {"containers": [container]}}, self.query(), headers=merge)
            elif what == "ephemeral":
                container = {"name": self.r.choice(["e", "c", "", "E"]), "image": self.r.choice(["i", ""]), **self.r.choice([{}, {"targetContainerName": "c"}, {"targetContainerName": "x"}, {"ports": [{"containerPort": 80}]}, {"livenessProbe": {}}, {"resources": {"limits": {"cpu": "1"}}}, {"stdin": True, "tty": True}])}
                self.step("PATCH", self.path + "/ephemeralcontainers", {"spec": {"ephemeralContainers": [container]}}, self.query(), headers=merge)
            elif what == "token":
                spec = self.r.choice([{}, {"audiences": ["a"]}, {"expirationSeconds": 10}, {"expirationSeconds": 3600}, {"expirationSeconds": 2 ** 33}, {"boundObjectRef": {"kind": "Pod", "apiVersion": "v1", "name": "{id}"}}, {"boundObjectRef": {"kind": "x", "name": "y"}}, {"boundObjectRef": {"kind": "Secret", "apiVersion": "v1", "name": "none"}}, {"audiences": None, "expirationSeconds": "x"}])
                self.step("POST", "/api/v1/namespaces/{ns}/serviceaccounts/" + self.r.choice(["default", "none"]) + "/token", {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": spec}, self.query())
            elif what == "status":
                status = {"phase": self.r.choice(["Running", "Failed", "x"]), **self.r.choice([{}, {"podIP": "1.2.3.4"}, {"podIPs": [{"ip": "1.2.3.4"}, {"ip": "::1"}]}, {"conditions": [{"type": "Ready", "status": "True"}]}, {"containerStatuses": [{"name": "c", "ready": True}]}, {"qosClass": "x"}, {"observedGeneration": 5}, {"resize": "x"}])}
                self.step("PATCH", self.path + "/status", {"status": status}, self.query(), headers=merge)
            else:
                self.step("GET", self.path, headers={"Accept": self.r.choice(self.ACCEPT)})
        self.step("GET", self.path)

    def take(self, object_, account=False):
        """Makes the script about another object than the seed's."""
        self.object, self.resource, self.steps = object_, object_["resource"], []
        gv = object_["gv"]
        self.type = schema.of_kind(gv, object_["kind"])
        self.collection = (f"/api/{gv}" if "/" not in gv else f"/apis/{gv}") + ("/namespaces/{ns}" if object_["namespaced"] else "") + f"/{self.resource}"
        self.name = object_["body"]["metadata"]["name"]
        self.path = f"{self.collection}/{self.name}"
        self.setup()


PARTS = [(Script.odd_create, 10), (Script.unknowns, 2), (Script.update, 4), (Script.patch, 4), (Script.applied, 3), (Script.contested, 2), (Script.status, 2), (Script.listed, 2), (Script.watched, 1), (Script.deleted, 2),
         (Script.scaled, 1), (Script.pod_parts, 2)]


def script(seed):
    made = Script(seed)
    made.settles = seed > SAMPLED
    made.r.choices([part for part, _ in PARTS], [weight for _, weight in PARTS])[0](made)
    if not made.object["namespaced"]:
        # what is everybody's does not stay
        for name in ("{id}", "{id}0", "{id}1", "{id}2"):
            made.step("DELETE", made.path.replace("{id}", name), {"gracePeriodSeconds": 0}, after=True)
            if "{id}" not in made.path:
                break
    if not made.settles:
        return made.steps
    # upstream compares the raw JSON in some objects byte for byte, blanks too
    return [{**step, "canonical": True} for step in made.steps]


def merge_patch(body, edits):
    """The merge patch that makes the edits; lists are given whole."""
    changed = odd.apply(body, edits)
    if not isinstance(changed, dict):
        return changed

    def between(old, new):
        made = {}
        for key in {**old, **new}:
            if key not in new:
                made[key] = None
            elif key not in old or old[key] != new[key] or type(old[key]) is not type(new[key]):
                made[key] = between(old[key], new[key]) if isinstance(new[key], dict) and isinstance(old.get(key), dict) else new[key]
        return made
    return between(body, changed)


def directive(r, body):
    """Puts a directive of strategic merge somewhere into a patch."""
    places = [body]

    def collect(value):
        if isinstance(value, dict):
            places.append(value)
        for one in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
            collect(one)
    collect(body)
    place = r.choice([one for one in places if isinstance(one, dict)] or [{}])
    key = next(iter(place), "x")
    name, value = r.choice([("$patch", "replace"), ("$patch", "delete"), ("$patch", "x"), ("$patch", 5), ("$retainKeys", [key]), ("$retainKeys", ["x"]), (f"$deleteFromPrimitiveList/{key}", ["a", "x"]),
                            (f"$setElementOrder/{key}", ["a"]), (f"$setElementOrder/{key}", [{"name": "a"}]), ("$retainKeys", None), ("$x", 1)])
    place[name] = value


def json_patch(r, edits):
    made = []
    for path, how, value in edits:
        at = "".join("/" + str(part).replace("~", "~0").replace("/", "~1") for part in path)
        made.append({"op": "remove", "path": at} if how == "remove" else {"op": "replace" if r.random() < 0.4 else "add", "path": at, "value": value})
    if r.random() < 0.25:
        path = made[0]["path"]
        made.append(r.choice([{"op": "test", "path": path, "value": made[0].get("value")}, {"op": "copy", "from": path, "path": path + "x"}, {"op": "move", "from": path, "path": "/metadata/labels/m"}, {"op": "x", "path": path},
                              {"op": "add", "path": "metadata"}, {"op": "add", "path": "/metadata/labels/~2", "value": "x"}, {"op": "remove", "path": path + "/99"}, {"op": "replace", "path": "", "value": {}}, {"path": path}, {"op": "test", "path": "/x", "value": None}]))
    return made


UID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
NOW = re.compile(r"20(?:2[6-9]|3\d)-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?(?:Z|[+-]\d\d:\d\d)")
ALLOCATED = re.compile(r"10\.96\.\d+\.\d+")


def normal(step, answer, names, asked):
    """What is compared of an answer; `asked` is the text of the whole script."""
    generated = re.compile("(?:" + "|".join([r"(kube-api-access-)"] + [f"({re.escape(json.loads(name))})" for name in re.findall(r'"generateName": ("(?:[^"\\]|\\.)+")', asked)]) + ")[bcdfghjklmnpqrstvwxz2456789]{5}")

    def text(value):
        for place, name in names.items():
            value = value.replace(*(f"192.0.2.{one}" for one in (name, place)) if place == "{byte}" else (name, place))
        # the object in a decoder's message; Go's names of types, and of structs inside structs, are not known to the schema table
        value = re.sub(r'(resourceVersion\\*":\\*")\d+', r"\1<revision>", value)
        value = re.sub(r'(\bresourceVersion: "|ResourceVersion in record \(|ResourceVersion in object meta: )\d+', r"\1<revision>", value)
        value = re.sub(r"(Too large resource version: \d+, current: )\d+", r"\1<revision>", value)
        value = re.sub(r'(?<=Invalid value: )"\{(?:[^"\\]|\\.)*\}"', document, value)
        if "json: cannot unmarshal" in value:
            value = re.sub(r"number -?[0-9][^ ]* into", "number <number> into", re.sub(r" of type \S+", " of type <type>", re.sub(r"\.[A-Z]\w+(?=\.)", "", value)))
        value = structs(value)
        value = re.sub(r"X509SHA256=[0-9a-f]{64}", "<certificate>", value)
        value = re.sub(r"LS0tLS1[\w+/=]{40,}", "{csr}", value)
        value = UID.sub(lambda m: m[0] if m[0] in asked else "<uid>", value)
        value = NOW.sub(lambda m: m[0] if m[0] in asked else "<time>", value)
        value = ALLOCATED.sub(lambda m: m[0] if m[0] in asked else "<ip>", value)
        value = generated.sub(lambda m: m[0][:-5] + "<random>", value)
        return re.sub(r"0xc[0-9a-f]{9,}", "<pointer>", value)

    def document(match):
        """A whole object in a message, which the two write in other orders and with other escapes."""
        quoted = re.sub(r"\\x([0-9a-f]{2})", r"\\u00\1", match[0]).replace("\\a", "\\u0007").replace("\\v", "\\u000b")
        try:
            return json.dumps(tree(json.loads(json.loads(quoted))), sort_keys=True)
        except ValueError:
            return match[0]

    def tree(value, key=""):
        if key == "token" and isinstance(value, str) and value.count(".") == 2:
            return "<token>"
        if key == "continue" and value:
            return "<continue>"
        if key == "cells" and isinstance(value, list):
            return [re.sub(r"^\d+s$", "<age>", text(one)) if isinstance(one, str) else one for one in value]
        if isinstance(value, dict):
            return {text(k): tree(v, k) for k, v in value.items()}
        if isinstance(value, list):
            made = [tree(one, key) for one in value]
            return sorted(made, key=lambda one: json.dumps(one, sort_keys=True)) if key in ("managedFields", "causes", "warnings") else made
        if isinstance(value, str):
            return "<revision>" if key == "resourceVersion" and value.isdigit() and f'"{value}"' not in asked else text(value)
        if key in ("nodePort", "healthCheckNodePort") and isinstance(value, int) and 30000 <= value < 32768 and str(value) not in asked:
            return "<port>"
        return value

    body = answer["body"]
    if isinstance(body, str) and "watch=" in step["path"]:
        try:
            body = [json.loads(line) for line in body.splitlines()]
        except ValueError:
            pass
    made = {"code": answer["code"], "body": tree(body), "warnings": tree(answer.get("warnings", []), "warnings")}
    for name in ("type", "location", "retry"):
        if answer.get(name):
            made[name] = text(answer[name])
    return made


def structs(message):
    """A message without what it prints of whole structs: upstream prints its internal types, field for field."""
    made, at = "", 0
    for match in re.finditer(r"(?:Invalid|Duplicate) value: (?=[\[{])", message):
        if match.start() < at:
            continue
        try:
            tree, end = json.JSONDecoder().raw_decode(message, match.end())
        except ValueError:
            continue
        if isinstance(tree, dict) or any(isinstance(one, dict) for one in tree):
            made, at = made + message[at:match.end()] + "<struct>", end
    # a diff of two such values
    return re.sub(r"\n@@.*?(?=, [\w.\[\]]+: (?:Invalid|Duplicate|Required|Unsupported|Forbidden|Too|Not found|Internal)|\]$|$)", "", made + message[at:], flags=re.S)


def words(message):
    return sorted(re.findall(r"\w+|[^\w\s]", message)) if isinstance(message, str) else message


def difference(ours, theirs, path=()):
    """Paths at which two trees differ, and how."""
    if isinstance(ours, dict) and isinstance(theirs, dict):
        for key in sorted({**ours, **theirs}):
            if key not in ours:
                yield path + (key,), "lacks"
            elif key not in theirs:
                yield path + (key,), "has"
            else:
                yield from difference(ours[key], theirs[key], path + (key,))
    elif isinstance(ours, list) and isinstance(theirs, list):
        if len(ours) != len(theirs):
            yield path, "of another length"
        else:
            for a, b in zip(ours, theirs):
                yield from difference(a, b, path)
    elif type(ours) is not type(theirs) or ours != theirs:
        if not (path and path[-1] in ("message", "warnings") and words(ours) == words(theirs)):
            yield path, "another value"


def fields_of(answer):
    """Causes of a failure as (field without indexes and keys, type)."""
    details = answer["body"].get("details") or {} if isinstance(answer["body"], dict) else {}
    return [(re.sub(r"\[[^\]]*\]", "[]", cause.get("field", "")), cause.get("reason", "")) for cause in details.get("causes") or [] if isinstance(cause, dict)]


POD_SPEC = re.compile(r"^(?:spec\.)?(?:jobTemplate\.spec\.)?template\.spec\.")


def place(resource, field):
    """What a difference at a field belongs to: a pod's specification wherever it stands, the metadata of all kinds, or the kind."""
    field = field.replace("[]", "")
    if POD_SPEC.match(field) or resource == "pods" and field.startswith("spec."):
        return "podspec " + re.sub(r"(?:initC|ephemeralC|c)ontainers\b", "containers", POD_SPEC.sub("", field) if POD_SPEC.match(field) else field[5:])
    if field.startswith("metadata.") or field in ("metadata", "patch", "fieldManager"):
        return field
    return f"{resource} {field}"


def masked(message):
    """A message without its values."""
    if not isinstance(message, str):
        return ""
    # what failed to be read is at the end of these, whatever the object
    for sign in ("json: cannot unmarshal", "parsing time", "quantities must match", "unrecognized type", "cannot restore", "cannot convert", "strconv"):
        if sign in message:
            message = message[message.index(sign):]
    message = re.sub(r"Go struct field \S+", "a field", re.sub(r" of type .*", " of a type", message))
    return re.sub(r"\"(?:[^\"\\]|\\.)*\"|'[^']*'|`[^`]*`|-?\d+(?:\.\d+)?|\{.*\}|\[.*?\]", "_", message)[:110]


def verb(step):
    """The verb of a step, with its subresource and the form of a patch."""
    parts = step["path"].split("?")[0].split("/")
    at = next((i for i, part in enumerate(parts) if "{id}" in part or "{byte}" in part), len(parts))
    kind = {"POST": "create", "PUT": "update", "GET": "get", "DELETE": "delete", "PATCH": (step.get("headers") or {}).get("Content-Type", "patch").removeprefix("application/").split("-patch")[0]}[step["method"]]
    return kind + "".join("/" + part for part in parts[at + 1:])


def kinds(step, ours, theirs):
    """The groups a difference belongs to."""
    parts = step["path"].split("?")[0].split("/")
    resource = parts[parts.index("{ns}") + 1] if "{ns}" in parts and parts[-1] != "{ns}" else parts[3] if parts[1] == "api" else parts[4]
    if 0 in (ours["code"], theirs["code"]):
        return [f"{verb(step)}: {ours['code']} not {theirs['code']}"]
    made = []
    if ours["code"] >= 400 or theirs["code"] >= 400:
        codes = f"{ours['code']} not {theirs['code']}" if ours["code"] != theirs["code"] else str(ours["code"])
        a, b = fields_of(ours), fields_of(theirs)
        for field, reason in sorted(set(a + b)):
            if a.count((field, reason)) != b.count((field, reason)):
                made.append(f"{place(resource, field)}: {codes} {reason} {'missing' if b.count((field, reason)) > a.count((field, reason)) else 'too much'}")
        if not made and ours["code"] != theirs["code"]:
            worse = ours if ours["code"] >= 400 else theirs
            message = worse["body"].get("message", "") if isinstance(worse["body"], dict) else str(worse["body"])
            made.append(f"{verb(step)}: {codes}: {masked(message)}")
        if not made:
            for path, how in difference(ours["body"], theirs["body"]):
                if a and path in (("details", "causes", "message"), ("message",)):
                    continue
                message = theirs["body"].get("message", "") if isinstance(theirs["body"], dict) else str(theirs["body"])
                made.append(f"{verb(step)}: {codes}: {'.'.join(path)} {how}: {masked(message)}")
                break
            causes = [[(c or {}).get("message", "") for c in ((one["body"].get("details") or {}).get("causes") or [])] if isinstance(one["body"], dict) else [] for one in (ours, theirs)]
            for field, one, other in zip([f for f, _ in fields_of(theirs)], *causes):
                if words(one) != words(other):
                    # what is printed of a value does not matter to whom the message belongs
                    made = [f"{place(resource, field)}: message: {masked(other)}" if field != "patch" else f"{verb(step)}: 422: {masked(other)}"]
                    break
    else:
        if ours["code"] != theirs["code"]:
            made.append(f"{resource} {verb(step)}: {ours['code']} not {theirs['code']}")
        for path, how in difference(ours["body"], theirs["body"]):
            where = ".".join(path)
            if where.startswith("metadata.managedFields"):
                made.append(f"{verb(step)}: managedFields {how}: {managed(path)}")
            else:
                made.append(f"{place(resource, where)}: {how} ({verb(step)})")
            if len(made) > 2:
                break
    for path, how in difference(ours["warnings"], theirs["warnings"]):
        both = {json.dumps(w) for w in ours["warnings"]} ^ {json.dumps(w) for w in theirs["warnings"]}
        made.append(f"warnings {how}: {masked(min(both, key=len) if both else '')}")
        break
    for name in ("type", "location", "retry"):
        if ours.get(name) != theirs.get(name):
            made.append(f"{verb(step)}: header {name}: {ours.get(name)} not {theirs.get(name)}")
    return made or ["?"] if list(difference(ours, theirs)) else []


def managed(path):
    """A path in managed fields without what stands for one item."""
    return ".".join(re.sub(r"^[kv]:.*", "k:", part) for part in path[2:])
