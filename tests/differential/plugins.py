"""The rig of admission plugins that are off by default: all that can be on together are on at both API servers, and scripts write what they look at.

Each script has a namespace with annotations of its own, some of which cannot be read; a namespace that nobody has made; pods, Services and what has owners,
written by an administrator and by a user who may write configmaps and no more. AlwaysDeny would hide the others; EventRateLimit and ImagePolicyWebhook have a server test.
"""
import json
import random
from pathlib import Path

import api
from api import kinds, named, normal  # noqa: F401 (the driver's)

BATCH = 60
NS = "/api/v1/namespaces/{ns}"
MERGE, STRATEGIC, APPLY = (f"application/{kind}" for kind in ("merge-patch+json", "strategic-merge-patch+json", "apply-patch+yaml"))
ON = ["AlwaysAdmit", "AlwaysPullImages", "DenyServiceExternalIPs", "ExtendedResourceToleration", "LimitPodHardAntiAffinityTopology", "NamespaceAutoProvision", "NamespaceExists",
      "OwnerReferencesPermissionEnforcement", "PodNodeSelector", "PodTolerationRestriction"]
CONFIGURATION = Path(__file__).parent / "admission.yaml"
PREFIX = "scheduler.alpha.kubernetes.io/"
SELECTORS = ["a=b", "a=b,c=d", "a = b , c=d", "", "a", "a=b=c", "a=b,a=c", "-=b", "a=-", "a==b", "a=b,", "x.y/z=w", "a!=b"]
TOLERATIONS = [
    {"key": "a", "operator": "Exists"}, {"key": "a", "operator": "Exists", "effect": "NoSchedule"}, {"key": "a", "operator": "Equal", "value": "v", "effect": "NoSchedule"}, {"key": "a", "value": "v"},
    {"key": "b", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 5}, {"key": "b", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 50}, {"key": "b", "operator": "Exists", "effect": "NoExecute"},
    {"key": "c", "operator": "Exists"}, {"operator": "Exists"}, {"operator": "Exists", "effect": "NoSchedule"}, {"key": "b", "operator": "Equal", "value": "w"}]
TIMED = [one for one in TOLERATIONS if one.get("effect") == "NoExecute"]
LISTS = ["", "[]", "null", "{}", "x", "[1]", '[{"key":1}]', "[", '["a"]', '[{"key":"a","odd":1}]', "5", '"a"', "[null]"]


def flags(server):
    return [f"--admission-control-config-file={CONFIGURATION}", f"--enable-admission-plugins={','.join(['NodeRestriction', *ON])}"]


def certificates():
    return {"boss": ("boss", ["system:masters"]), "maker": ("maker", ["makers"])}


def fixtures():
    rbac = "/apis/rbac.authorization.k8s.io/v1"
    rules = [{"apiGroups": [""], "resources": ["configmaps", "configmaps/status"], "verbs": ["get", "create", "update", "patch"]},
             {"apiGroups": [""], "resources": ["secrets"], "verbs": ["get", "create", "update", "patch", "delete"]},
             {"apiGroups": ["apps"], "resources": ["deployments/finalizers"], "verbs": ["update"]}]
    subject = {"kind": "User", "name": "maker", "apiGroup": "rbac.authorization.k8s.io"}
    role = {"kind": "ClusterRole", "name": "maker", "apiGroup": "rbac.authorization.k8s.io"}
    return [{"as": "boss", "method": "POST", "path": f"{rbac}/clusterroles", "body": {"metadata": {"name": "maker"}, "rules": rules}},
            {"as": "boss", "method": "POST", "path": f"{rbac}/clusterrolebindings", "body": {"metadata": {"name": "maker"}, "roleRef": role, "subjects": [subject]}}]


class Script(api.Script):
    def __init__(self, seed):
        self.r = random.Random(f"{seed} plugins")
        self.steps, self.made = [], 0

    def some(self, values, most=3):
        return self.r.sample(values, self.r.randint(1, most))

    def options(self):
        return ["dryRun=All"] * self.often(0.1)

    def tolerations(self):
        if self.often(0.3):
            # of one taint, for other times
            return json.dumps(self.some(TIMED, 2))
        return json.dumps(self.some(TOLERATIONS)) if self.often(0.75) else self.r.choice(LISTS)

    def annotations(self):
        made = {}
        if self.often(0.5):
            made[PREFIX + "node-selector"] = self.r.choice(SELECTORS[:3] if self.often(0.6) else SELECTORS)
        if self.often(0.4):
            made[PREFIX + "defaultTolerations"] = self.tolerations()
        if self.often(0.4):
            made[PREFIX + "tolerationsWhitelist"] = self.tolerations()
        return made

    def container(self, name):
        made = {"name": name, "image": self.r.choice(["x", "y:1"])}
        if self.often(0.5):
            made["imagePullPolicy"] = self.r.choice(["Always", "Never", "IfNotPresent"])
        if self.often(0.4):
            amounts = {self.r.choice(["cpu", "example.com/gpu", "example.com/fpga", "kubernetes.io/x", "memory"]): "1"}
            made["resources"] = {"requests": amounts, "limits": amounts} if self.often(0.7) else {"limits": amounts}
        return made

    def pod(self):
        spec = {"containers": [self.container(f"c{n}") for n in range(self.r.choice([1, 1, 2]))]}
        if self.often(0.3):
            spec["initContainers"] = [self.container("i")]
        if self.often(0.4):
            spec["nodeSelector"] = self.r.choice([{"a": "b"}, {"a": "c"}, {"default": "yes"}, {"default": "no"}, {"z": "z"}, {"a": "b", "c": "d"}])
        if self.often(0.6):
            spec["tolerations"] = self.some(TIMED, 2) if self.often(0.3) else self.some(TOLERATIONS)
        if self.often(0.3):
            spec["volumes"] = [{"name": "v", "image": {"reference": "x", **({"pullPolicy": self.r.choice(["Always", "Never", "IfNotPresent"])} if self.often(0.5) else {})}}]
        if self.often(0.3):
            key = self.r.choice(["kubernetes.io/hostname", "topology.kubernetes.io/zone", "odd"])
            term = {"topologyKey": key, "labelSelector": {"matchLabels": {"a": "b"}}}
            how = self.r.choice([{"requiredDuringSchedulingIgnoredDuringExecution": [term]}, {"preferredDuringSchedulingIgnoredDuringExecution": [{"weight": 1, "podAffinityTerm": term}]}])
            spec["affinity"] = {self.r.choice(["podAntiAffinity", "podAntiAffinity", "podAffinity"]): how}
        return spec

    def pods(self, space):
        base = f"/api/v1/namespaces/{space}/pods"
        self.made += 1
        name = f"p{self.made}"
        body = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": self.pod()}
        if self.often(0.15):
            body["metadata"] = {"generateName": "g-"}
        stored = self.step("POST", base, body, self.options())
        if self.often(0.2):
            self.step("PATCH", "/api/v1/namespaces/{ns}", {"metadata": {"annotations": self.annotations()}}, headers={"Content-Type": MERGE})
        for _ in range(self.r.choice([0, 1, 2])):
            how = self.r.random()
            if how < 0.4:
                self.step("PATCH", f"{base}/{name}", {"spec": {"containers": [{"name": "c0", "image": self.r.choice(["x", "z"])}]}}, self.options(), headers={"Content-Type": STRATEGIC})
            elif how < 0.6:
                self.step("PATCH", f"{base}/{name}", {"metadata": {"labels": {"l": "m"}}}, headers={"Content-Type": MERGE})
            elif how < 0.75:
                self.step("PATCH", f"{base}/{name}/ephemeralcontainers", {"spec": {"ephemeralContainers": [{"name": "e", "image": "q", "imagePullPolicy": "Never"}]}}, headers={"Content-Type": STRATEGIC})
            elif how < 0.9:
                self.step("PUT", f"{base}/{name}", None, **{"from": stored}, edits=[[["spec", "tolerations"], "set", self.some(TOLERATIONS)]], needs=stored)
            else:
                self.step("PATCH", f"{base}/{name}/status", {"status": {"phase": "Running"}}, headers={"Content-Type": MERGE})
        self.step("GET", f"{base}/{name}")
        if self.often(0.3):
            self.step("DELETE", f"{base}/{name}", {"gracePeriodSeconds": 0})

    def owner(self):
        version, kind = self.r.choice([("v1", "ConfigMap"), ("v1", "Node"), ("apps/v1", "Deployment"), ("apps/v1", "Deployment"), ("v1", "Nothing"), ("example.org/v1", "Deployment"), ("apps/v2", "Deployment")])
        made = {"apiVersion": version, "kind": kind, "name": "o", "uid": self.r.choice(["u1", "u2", "u3"])}
        if self.often(0.7):
            made["blockOwnerDeletion"] = self.often(0.7)
        return made

    def owned(self, space):
        plural, kind = self.r.choice([("configmaps", "ConfigMap"), ("secrets", "Secret")])
        base = f"/api/v1/namespaces/{space}/{plural}"
        self.made += 1
        name = f"o{self.made}"
        who = {"as": self.r.choice(["maker", "maker", "boss"])}
        owners = [self.owner() for _ in range(self.r.choice([0, 1, 1, 2]))]
        body = {"apiVersion": "v1", "kind": kind, "metadata": {"name": name, **({"ownerReferences": owners} if owners else {})}}
        self.step("POST", base, body, self.options(), **who)
        for _ in range(self.r.choice([0, 1, 2])):
            owners = [self.owner() for _ in range(self.r.choice([0, 1, 2]))]
            self.step("PATCH", f"{base}/{name}", {"metadata": {"ownerReferences": owners}}, self.options(), headers={"Content-Type": MERGE}, **{"as": self.r.choice(["maker", "maker", "boss"])})
        if self.often(0.2):
            self.step("PATCH", f"{base}/{name}", body, ["fieldManager=x", "force=true"], headers={"Content-Type": APPLY}, **who)
        self.step("GET", f"{base}/{name}")

    def services(self, space):
        base = f"/api/v1/namespaces/{space}/services"
        self.made += 1
        name = f"s{self.made}"
        ips = lambda: self.r.choice([[], ["192.0.2.{byte}"], ["192.0.2.{byte}", "198.51.100.7"], ["198.51.100.7"], ["x"]])  # noqa: E731
        spec = {"ports": [{"port": 80}], **({"externalIPs": ips()} if self.often(0.6) else {})}
        self.step("POST", base, {"apiVersion": "v1", "kind": "Service", "metadata": {"name": name}, "spec": spec}, self.options())
        for _ in range(self.r.choice([0, 1, 2])):
            self.step("PATCH", f"{base}/{name}", {"spec": {"externalIPs": ips()}}, self.options(), headers={"Content-Type": MERGE})
        self.step("GET", f"{base}/{name}")

    def play(self):
        self.step("POST", "/api/v1/namespaces", {"metadata": {"name": "{ns}", "annotations": self.annotations()}}, setup=True)
        self.step("POST", f"{NS}/serviceaccounts", {"metadata": {"name": "default"}}, setup=True)
        for _ in range(self.r.choice([2, 3])):
            # one that is not there yet; pods lack their account in it
            space = "{id}" if self.often(0.15) else "{ns}"
            self.r.choice([self.pods, self.pods, self.pods, self.owned, self.services])(space)
        if self.often(0.2):
            self.step("DELETE", "/api/v1/namespaces/{id}/configmaps/none")
            self.step("GET", "/api/v1/namespaces/{id}")
        return self.steps


def script(seed):
    return Script(seed).play()
