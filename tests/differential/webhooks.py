"""The rig of admission webhooks: configurations whose webhooks allow, deny, patch, warn, fail and answer rubbish, and writes of all ways that pass them.

Each script has a namespace that its webhooks select. What is compared besides answers and stored objects is what the webhooks were asked (webhooks_worker.py).
Of validating webhooks, which are asked all at once, one at most does not allow: which of two refusals is told is a matter of luck.
"""
import base64
import json
import random
import re

import api
from api import certificates  # noqa: F401 (the driver's)
from https import pair

BATCH = 40
WORKER = "webhooks_worker.py"
ADMISSION = "/apis/admissionregistration.k8s.io/v1"
NS = "/api/v1/namespaces/{ns}"
MERGE, STRATEGIC, JSON, APPLY = (f"application/{kind}" for kind in ("merge-patch+json", "strategic-merge-patch+json", "json-patch+json", "apply-patch+yaml"))
POD = {"spec": {"containers": [{"name": "c", "image": "i"}], "terminationGracePeriodSeconds": 5}}
TEMPLATE = {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}}
EVENT = {"involvedObject": {"namespace": "{ns}", "name": "x", "kind": "Pod"}, "reason": "r", "message": "m", "type": "Normal"}
METRIC = {"type": "Resource", "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 50}}}
HPA = {"scaleTargetRef": {"kind": "Deployment", "name": "d", "apiVersion": "apps/v1"}, "maxReplicas": 3}
# what is written: group and version, plural, what makes it
THINGS = {
    "configmaps": ("v1", {"data": {"a": "b"}}),
    "secrets": ("v1", {"stringData": {"a": "b"}}),
    "pods": ("v1", POD),
    "services": ("v1", {"spec": {"ports": [{"port": 80}], "selector": {"a": "b"}}}),
    "serviceaccounts": ("v1", {}),
    "deployments": ("apps/v1", {"spec": {"selector": {"matchLabels": {"a": "b"}}, "template": TEMPLATE}}),
    "horizontalpodautoscalers": ("autoscaling/v2", {"spec": {**HPA, "metrics": [METRIC]}}),
    "horizontalpodautoscalers v1": ("autoscaling/v1", {"spec": {**HPA, "targetCPUUtilizationPercentage": 50}}),
    "events": ("v1", EVENT),
}
KIND = {"configmaps": "ConfigMap", "secrets": "Secret", "pods": "Pod", "services": "Service", "serviceaccounts": "ServiceAccount", "deployments": "Deployment", "horizontalpodautoscalers": "HorizontalPodAutoscaler", "events": "Event"}


CERTIFICATE, KEY = pair("webhook", "IP:127.0.0.1")
BUNDLE = base64.b64encode(CERTIFICATE.encode()).decode()
OTHER = base64.b64encode(pair("webhook", "IP:127.0.0.1")[0].encode()).decode()


def fixtures():
    return [{"method": "SERVE", "path": "", "serve": [CERTIFICATE, KEY]}]


def named(script, number):
    made, names = api.named(script, number)
    text = json.dumps(made).replace("{bundle}", BUNDLE).replace("{other}", OTHER)
    return json.loads(text), {**names, "{bundle}": BUNDLE, "{other}": OTHER}


class Script(api.Script):
    def __init__(self, seed):
        self.r = random.Random(f"{seed} webhooks")
        self.steps, self.hooks, self.refusing, self.made = [], 0, 0, 0
        self.things = self.r.sample(sorted(THINGS), 2)

    # configurations

    def patch(self):
        """Operations that mostly fit."""
        return self.r.choice([
            [{"op": "add", "path": "/metadata/labels", "value": {"hook": self.word()}}],
            [{"op": "add", "path": "/metadata/annotations", "value": {"hook": self.word()}}],
            [{"op": "add", "path": "/metadata/annotations", "value": {"hook": "a"}}, {"op": "add", "path": "/metadata/annotations/b", "value": self.word()}],
            [{"op": "replace", "path": "/metadata/name", "value": "other"}],
            [{"op": "add", "path": "/metadata/finalizers", "value": ["example.org/x"]}],
            [{"op": "add", "path": "/metadata/generateName", "value": "g-"}],
            [{"op": "add", "path": "/metadata/uid", "value": "x"}],
            [{"op": "add", "path": "/metadata/managedFields", "value": self.r.choice([[], [{"manager": "x", "operation": "Update", "apiVersion": "v1", "fieldsType": "FieldsV1", "fieldsV1": {}}], [{"manager": "x"}]])}],
            [{"op": "add", "path": "/data", "value": self.r.choice([{"a": "patched"}, {"a": 1}, "x", None])}],
            [{"op": "add", "path": "/spec/replicas", "value": 2}],
            [{"op": "add", "path": "/spec/unknown", "value": 2}],
            [{"op": "add", "path": "/unknown", "value": {"a": 1}}],
            [{"op": "replace", "path": "/kind", "value": "Other"}],
            [{"op": "replace", "path": "/apiVersion", "value": "v2"}],
            [{"op": "remove", "path": self.r.choice(["/metadata/labels", "/nothing", "/metadata/nothing", "/spec", "/metadata", "/apiVersion"])}],
            [{"op": "replace", "path": self.r.choice(["/nothing", "/metadata/nothing", "/a/b", "/spec/containers/0/image", "/spec/containers/9/image"]), "value": "x"}],
            [{"op": "test", "path": self.r.choice(["/kind", "/nothing"]), "value": self.r.choice(["x", None])}],
            [{"op": self.r.choice(["copy", "move"]), "from": self.r.choice(["/metadata/name", "/nothing"]), "path": self.r.choice(["/metadata/generateName", "/a/b", "/metadata/labels"])}],
            [{"op": "add", "path": "/spec/containers/-", "value": {"name": "side", "image": "s"}}],
            [{"op": "add", "path": "/spec/containers/0/env", "value": [{"name": "A", "value": self.word()}]}],
            [{"op": "x", "path": "/a"}], [], {}, "x", [1], [{"op": "add"}], [{"op": "add", "path": "a", "value": 1}], [{"op": "add", "path": "/metadata/labels/x"}],
        ])

    def word(self):
        return self.r.choice(["a", "b", "c"])

    def status(self):
        made = {}
        for key, values in {"code": [403, 400, 422, 500, 200, 0, 409, 451, 999, -1], "reason": ["Forbidden", "Odd", "", "AlreadyExists"], "message": ["no", "", "a\nb", "x" * 300], "status": ["Failure", "Success", "", "Odd"],
                            "details": [{"name": "a", "causes": [{"field": "spec.x", "message": "m", "reason": "r"}], "retryAfterSeconds": 5}, {}, {"odd": 1}], "metadata": [{}, {"resourceVersion": "5"}], "odd": [1]}.items():
            if self.often(0.5 if key in ("code", "message") else 0.2):
                made[key] = self.r.choice(values)
        return made

    def how(self, mutating):
        """How a webhook answers."""
        made = {}
        if self.often(0.15):
            made["warnings"] = self.r.choice([["w"], ["w", "w"], ["a\nb"], ["x" * 300], [""], ["quoted \"w\" and \\"]])
        kind = self.r.choices(["allow", "patch" if mutating else "allow", "deny", "rubbish", "slow"], [4, 5, 2, 2, 0.15])[0]
        if kind == "patch":
            made["patch"] = self.patch()
        if kind in ("deny", "rubbish", "slow") and not mutating:
            if self.refusing:
                return made
            self.refusing += 1
        if kind == "deny":
            made["allowed"] = False
            if self.often(0.8):
                made["status"] = self.status()
        elif kind == "slow":
            made["sleep"] = 2
        elif kind == "rubbish":
            made |= self.r.choice([
                {"text": ""}, {"text": "x"}, {"text": "{}"}, {"text": "[]"}, {"text": "null"}, {"text": "<html></html>"}, {"text": "{\"a\":"}, {"text": "5"},
                {"http": 500, "text": ""}, {"http": 500, "text": "it broke", "headers": {"Content-Type": "text/plain"}}, {"http": 404, "text": "x"}, {"http": 403, "text": "why", "headers": {"Content-Type": "text/plain"}}, {"http": 503, "text": ""}, {"http": 204, "text": ""},
                {"http": 429, "text": "", "headers": {"Retry-After": "x"}}, {"http": 201}, {"http": 400, "text": json.dumps({"kind": "Status", "apiVersion": "v1", "status": "Failure", "message": "said so", "code": 400})},
                {"http": 500, "text": json.dumps({"kind": "Status", "apiVersion": "v1", "status": "Success", "message": "said so"})}, {"text": json.dumps({"kind": "Status", "apiVersion": "v1", "status": "Failure", "message": "m"})},
                {"headers": {"Content-Type": self.r.choice(["text/plain", "application/yaml", "x", "", None, "application/json; charset=utf-8"])}},
                {"response": {"uid": self.r.choice(["x", "", None, 5])}}, {"response": {"allowed": self.r.choice(["true", None, 1])}}, {"response": {"status": self.r.choice(["x", None, {"code": "x"}, []])}}, {"response": {"patch": self.r.choice(["%", "W10=", "", None, 5])}},
                {"response": {"patchType": self.r.choice(["JSONPatch", "", "MergePatch", None])}}, {"response": {"warnings": self.r.choice(["x", [1], None, [None]])}}, {"response": {"auditAnnotations": self.r.choice([{"a": "b"}, {"a": 1}, "x", None])}}, {"response": {"odd": 1}},
                {"review": {"response": self.r.choice([None, {}, [], "x"])}}, {"review": {"kind": self.r.choice(["", "Other", "Status", None, 5])}}, {"review": {"apiVersion": self.r.choice(["admission.k8s.io/v1beta1", "admission.k8s.io/v1", "admission.k8s.io/v2", "v1", "", None])}}, {"review": {"kind": "", "apiVersion": ""}},
                {"patch": [{"op": "add", "path": "/metadata/labels", "value": {"a": "b"}}], "patchType": self.r.choice(["", "MergePatch", "JSONPatch"])},
            ])
        return made

    def rules(self):
        made = []
        for _ in range(self.r.choice([1, 1, 1, 2])):
            thing = self.r.choice(self.things)
            gv, plural = THINGS[thing][0], thing.split()[0]
            group, _, version = gv.rpartition("/")
            version = {"horizontalpodautoscalers": self.r.choice(["v1", "v2"])}.get(plural, version)
            if plural == "events" and self.often(0.5):
                group = "events.k8s.io"
            resource = self.r.choice([plural, plural, "*", "*/*", plural + "/*", plural + "/status", "*/scale", "pods/binding", "pods/eviction"])
            # upstream keeps addresses of Services as objects of their own, which are no business of who writes a Service
            anything = resource in ("*", "*/*")
            made.append({"operations": self.r.choice([["*"], ["CREATE"], ["CREATE", "UPDATE"], ["UPDATE"], ["DELETE"], ["CONNECT", "CREATE"]]), "apiGroups": self.r.choice([[group], [group], [group, "apps"]] if anything else [[group], ["*"], [group, "apps"]]),
                         "apiVersions": self.r.choice([[version], ["*"]]), "resources": [resource], **({"scope": self.r.choice(["Namespaced", "*", "Cluster"])} if self.often(0.2) else {})})
        return made

    def condition(self):
        return self.r.choice(["true", "false", "object.metadata.name == 'a'", "request.operation == 'CREATE'", "request.kind.group == ''", "has(object.metadata.labels)", "object.metadata.labels.x == 'y'", "oldObject == null",
                              "request.userInfo.username == 'boss'", "request.options.fieldManager == 'one'", "request.name.startsWith('a')", "object.nothing == 1", "authorizer.group('').resource('pods').namespace('default').check('get').allowed()",
                              "authorizer.requestResource.check('delete').allowed()", "namespaceObject == null", "request.dryRun", "request.requestKind.version == request.kind.version", "!has(request.subResource)", "[1,2,3].all(x, x > 0)"])

    def hook(self, mutating):
        self.hooks += 1
        name = f"{'m' if mutating else 'v'}{self.hooks}"
        how = base64.urlsafe_b64encode(json.dumps(self.how(mutating)).encode()).decode().rstrip("=")
        config = {"url": f"https://127.0.0.1:8443/{{ns}}/{name}/{how}", "caBundle": "{bundle}"}
        if self.often(0.06) and (mutating or not self.refusing):
            self.refusing += not mutating
            config = self.r.choice([{**config, "caBundle": "{other}"}, {"url": "https://127.0.0.1:1/x", "caBundle": "{bundle}"}, {"service": {"name": "none", "namespace": "{ns}"}}, {**config, "caBundle": "eA=="},
                                    {"service": {"name": "none", "namespace": "{ns}", "path": "/a/", "port": 8443}, "caBundle": "{bundle}"}])
        made = {"name": f"{name}.{{id}}.example.org", "sideEffects": self.r.choice(["None", "NoneOnDryRun"]), "admissionReviewVersions": self.r.choice([["v1"], ["v1"], ["v1beta1"], ["v1beta1", "v1"], ["v2", "v1"]]), "clientConfig": config,
                "rules": self.rules(), "namespaceSelector": {"matchLabels": {"ns": "{ns}"}}, "timeoutSeconds": self.r.choice([1, 5, 10]) if "sleep" not in self.text(how) else 1}
        if self.often(0.25):
            made["failurePolicy"] = self.r.choice(["Ignore", "Fail"])
        if self.often(0.3):
            made["matchPolicy"] = self.r.choice(["Exact", "Equivalent"])
        if mutating and self.often(0.4):
            made["reinvocationPolicy"] = self.r.choice(["IfNeeded", "Never"])
        if self.often(0.15):
            made["objectSelector"] = self.r.choice([{"matchLabels": {"x": "y"}}, {"matchExpressions": [{"key": "x", "operator": "DoesNotExist"}]}, {"matchExpressions": [{"key": "hook", "operator": "Exists"}]}])
        if self.often(0.2):
            made["matchConditions"] = [{"name": f"c{n}", "expression": self.condition()} for n in range(self.r.choice([1, 1, 2]))]
        return made

    @staticmethod
    def text(how):
        return base64.urlsafe_b64decode(how + "=" * (-len(how) % 4)).decode()

    def again(self):
        """Webhooks of which one is to be asked again when a later one has changed what it saw."""
        made = [self.hook(True) for _ in range(self.r.choice([2, 2, 3]))]
        gv, plural = THINGS[self.things[0]][0], self.things[0].split()[0]
        changes = base64.urlsafe_b64encode(json.dumps({"patch": [{"op": "add", "path": "/metadata/labels", "value": {"hook": self.word()}}]}).encode()).decode().rstrip("=")
        for hook in made:
            hook["rules"] = [{"operations": ["CREATE", "UPDATE"], "apiGroups": ["*"], "apiVersions": ["*"], "resources": [plural]}]
            hook["reinvocationPolicy"] = self.r.choice(["IfNeeded", "IfNeeded", "Never"])
            hook.pop("matchConditions", None)
        last = made[-1]
        last["clientConfig"] = {"url": f"https://127.0.0.1:8443/{{ns}}/{last['name'].split('.')[0]}/{changes}", "caBundle": "{bundle}"}
        return made

    def configuration(self, mutating, n):
        kind = "mutating" if mutating else "validating"
        probe = base64.urlsafe_b64encode(json.dumps({"allowed": False, "status": {"code": 418}}).encode()).decode().rstrip("=")
        name = f"{kind[0]}{n}.{{id}}"
        asked = {"name": f"probe.{{id}}.example.org", "sideEffects": "None", "admissionReviewVersions": ["v1"], "clientConfig": {"url": f"https://127.0.0.1:8443/probe/p/{probe}", "caBundle": "{bundle}"},
                 "rules": [{"operations": ["CREATE"], "apiGroups": [""], "apiVersions": ["v1"], "resources": ["limitranges"]}], "namespaceSelector": {"matchLabels": {"ns": "{ns}"}}, "objectSelector": {"matchLabels": {"probe": f"{kind[0]}{n}"}}}
        body = {"metadata": {"name": name}, "webhooks": (self.again() if mutating and self.often(0.2) else [self.hook(mutating) for _ in range(self.r.choice([1, 1, 2]))]) + [asked]}
        self.step("POST", f"{ADMISSION}/{kind}webhookconfigurations", body, setup=True)
        # once one of its webhooks is asked all are
        probe = {"metadata": {"name": "probe", "labels": {"probe": f"{kind[0]}{n}"}}, "spec": {"limits": []}}
        self.step("POST", f"{NS}/limitranges", probe, ["dryRun=All"], until=418, after=True)
        return f"{ADMISSION}/{kind}webhookconfigurations/{name}"

    # writes

    def reviews(self):
        self.step("REVIEWS", "", reviews="{ns}")

    def write(self, *arguments, **more):
        step = self.step(*arguments, **more)
        self.reviews()
        return step

    def options(self):
        made = ["dryRun=All"] * self.often(0.12) + ["fieldManager=one"] * self.often(0.2)
        return made + ["fieldValidation=" + self.r.choice(["Strict", "Warn", "Ignore"])] * self.often(0.2)

    def once(self, thing):
        (gv, body), plural = THINGS[thing], thing.split()[0]
        base = ("/api/v1" if gv == "v1" else f"/apis/{gv}") + "/namespaces/{ns}/" + plural
        self.made += 1
        name = f"a{self.made}"
        body = {"apiVersion": gv, "kind": KIND[plural], **json.loads(json.dumps(body)), "metadata": {"name": name, **({"labels": {"x": "y"}} if self.often(0.3) else {})}}
        if plural == "events":
            body["involvedObject"]["name"] = name
        if self.often(0.15):
            body["metadata"] = {"generateName": "g-"}
            self.write("POST", base, body, self.options())
            return
        if self.often(0.1):
            body["status"] = {"phase": "Running"}
        path = f"{base}/{name}"
        how = self.r.random()
        if how < 0.12:
            stored = self.write("PATCH", path, body, ["fieldManager=one"], headers={"Content-Type": APPLY})
        else:
            stored = self.write("POST", base, body, self.options())
        for _ in range(self.r.choice([0, 1, 1, 2])):
            self.change(base, path, plural, body, stored)
        if self.often(0.35):
            self.end(base, path, plural)
        self.step("GET", path)

    def change(self, base, path, plural, body, stored):
        label = {"metadata": {"labels": {"changed": self.word()}}}
        ways = ["put", "merge", "strategic", "json", "apply"] + {"pods": ["status", "bind", "evict", "exec", "ephemeral", "proxy", "attach"], "deployments": ["scale", "rescale", "status"], "services": ["status"], "serviceaccounts": ["token"]}.get(plural, [])
        way = self.r.choice(ways)
        if way == "put":
            self.write("PUT", path, None, self.options(), **{"from": stored}, edits=[[["metadata", "labels"], "set", {"put": self.word()}]], needs=stored)
        elif way in ("merge", "strategic"):
            self.write("PATCH", path, label, self.options(), headers={"Content-Type": MERGE if way == "merge" else STRATEGIC})
        elif way == "json":
            self.write("PATCH", path, [{"op": "add", "path": "/metadata/annotations", "value": {"j": self.word()}}], self.options(), headers={"Content-Type": JSON})
        elif way == "apply":
            self.write("PATCH", path, {"apiVersion": body["apiVersion"], "kind": body["kind"], **label}, ["fieldManager=two", "force=true"], headers={"Content-Type": APPLY})
        elif way == "status":
            self.write("PATCH", path + "/status", {"status": {"conditions": []}, **label}, self.options(), headers={"Content-Type": MERGE})
        elif way == "bind":
            self.write("POST", path + "/binding", {"metadata": {"name": path.rsplit("/", 1)[1]}, "target": {"kind": "Node", "name": "none"}}, self.options())
        elif way == "evict":
            self.write("POST", path + "/eviction", {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": path.rsplit("/", 1)[1]}, **({"deleteOptions": {"gracePeriodSeconds": 0}} if self.often(0.5) else {})}, self.options())
        elif way == "exec":
            self.write("POST", path + "/exec?command=a&command=b&stdout=true&container=c")
        elif way == "attach":
            self.write("POST", path + "/attach?stdin=1&tty=true")
        elif way == "proxy":
            self.write("POST", path + "/proxy/a/b")
        elif way == "ephemeral":
            self.write("PATCH", path + "/ephemeralcontainers", {"spec": {"ephemeralContainers": [{"name": "e", "image": "i"}]}}, self.options(), headers={"Content-Type": STRATEGIC})
        elif way == "scale":
            self.write("PATCH", path + "/scale", {"spec": {"replicas": self.r.choice([0, 3])}}, self.options(), headers={"Content-Type": MERGE})
        elif way == "rescale":
            self.write("PUT", path + "/scale", {"metadata": {"name": path.rsplit("/", 1)[1], "namespace": "{ns}"}, "spec": {"replicas": 2}}, self.options())
        elif way == "token":
            self.write("POST", path + "/token", {"spec": {"audiences": ["a"], "expirationSeconds": 3600}})

    def end(self, base, path, plural):
        options = self.r.choice([None, {"gracePeriodSeconds": 0}, {"propagationPolicy": "Foreground"}, {"propagationPolicy": "Orphan"}, {"dryRun": ["All"]}, {"gracePeriodSeconds": 3, "preconditions": {"uid": "x"}}])
        if self.often(0.2):
            self.write("DELETE", f"{base}?labelSelector=x%3Dy")
        else:
            self.write("DELETE", path, options)

    def play(self):
        self.step("POST", "/api/v1/namespaces", {"metadata": {"name": "{ns}", "labels": {"ns": "{ns}"}}}, setup=True)
        self.step("POST", f"{NS}/serviceaccounts", {"metadata": {"name": "default"}}, setup=True)
        gone = [self.configuration(mutating, n) for n, mutating in enumerate(self.r.choice([[True], [False], [True, False], [True, True], [True, True, False], [False, False]]))]
        self.step("REVIEWS", "", reviews="{ns}", after=True)
        for thing in self.things:
            self.once(thing)
        if self.often(0.1):
            self.write("PATCH", "/api/v1/namespaces/{ns}", {"metadata": {"annotations": {"a": "b"}}}, headers={"Content-Type": MERGE})
        for path in gone:
            self.step("DELETE", path, after=True)
        return self.steps


def script(seed):
    return Script(seed).play()


def normal(step, answer, names, asked):
    if "reviews" in step and isinstance(answer.get("body"), list):
        # those that are asked all at once come in any order
        order = lambda one: (one["name"][0] == "v", one["name"] if one["name"][0] == "v" else "")
        reviews = sorted(answer["body"], key=order)
        answer = {**answer, "body": reviews}
        step = {**step, "path": "reviews"}
    made = api.normal(step, answer, names, asked)
    # what Go guesses of a certificate that it does not believe
    return json.loads(re.sub(r" \(possibly because of [^)]*\)", "", json.dumps(made)))


def written(request):
    """The resource of a request, with its subresource."""
    return "/".join(filter(None, [request.get("resource", {}).get("resource"), request.get("subResource")]))


def began_anew(ours, theirs):
    """Whether upstream only asked more often: it decides on the object of its cache first, and asks again when that was not the last one."""
    asked = lambda one: (one["name"], one["review"]["request"]["operation"], one["review"]["request"].get("name"))
    at = 0
    for one, following in zip(theirs, [*theirs[1:], None]):
        if at < len(ours) and one == ours[at]:
            at += 1
        elif not following or asked(following) != asked(one):
            return False
    return at == len(ours)


def kinds(step, ours, theirs):
    if "reviews" not in step:
        return sorted(set(api.kinds(step, ours, theirs)))
    if began_anew(ours["body"], theirs["body"]):
        return []
    names = lambda side: [one["name"][0] for one in side["body"]]
    if names(ours) != names(theirs):
        one = (theirs["body"] + ours["body"])[0]["review"]["request"]
        what = written(one)
        return [f"reviews: {''.join(names(ours)) or 'none'} not {''.join(names(theirs)) or 'none'}: {one['operation']} {what}"]
    made = []
    for our, their in zip(ours["body"], theirs["body"]):
        request = their["review"].get("request", {})
        what = written(request)
        for path, how in list(api.difference(our, their))[:2]:
            where = api.managed(path[2:]) if "managedFields" in path else ".".join(path)
            made.append(f"review {our['name'][0]} {request.get('operation')} {what}: {where} {how}")
    return sorted(set(made))
