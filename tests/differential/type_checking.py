"""The rig of `status.typeChecking`: policies with generated expressions about the fields of built-in and custom kinds, some of which are not there or
of another type. A JSON patch that tests `status.observedGeneration` tells when the controller has looked at a policy, and what it has found.
"""
import random
import re

import api
from api import certificates, named  # noqa: F401 (the driver's)

CLUSTER, BATCH = "control-plane", 40
POLICIES = "/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicies"
JSON_PATCH, MERGE = ({"Content-Type": f"application/{kind}patch+json"} for kind in ("json-", "merge-"))

# rules by the paths that objects of theirs have
META = ["metadata.name", "metadata.labels", "metadata.annotations", "metadata.creationTimestamp", "metadata.generation", "metadata.finalizers", "metadata.ownerReferences", "metadata.managedFields", "metadata.uid", "metadata", "kind", "apiVersion", "metadata.deletionGracePeriodSeconds"]
POD = ["containers", "containers[0].image", "containers[0].resources.limits", "containers[0].resources", "containers[0].ports", "containers[0].env", "containers[0].livenessProbe.httpGet.port", "volumes", "volumes[0].emptyDir.sizeLimit", "volumes[0].configMap.defaultMode", "nodeSelector", "tolerations",
       "affinity.nodeAffinity", "securityContext.runAsUser", "securityContext.runAsNonRoot", "terminationGracePeriodSeconds", "hostNetwork", "restartPolicy", "initContainers[0].command", "overhead", "imagePullSecrets", "dnsConfig.options", "containers[0].securityContext.capabilities.add"]
TEMPLATE = [f"spec.template.spec.{path}" for path in POD] + ["spec.template.metadata.labels", "spec.selector.matchLabels", "spec.selector.matchExpressions", "spec.template"]
WIDGET = ["spec", "spec.size", "spec.share", "spec.name", "spec.on", "spec.port", "spec.when", "spec.day", "spec.wait", "spec.blob", "spec.tags", "spec.grid", "spec.byName", "spec.parts", "spec.parts[0].weight", "spec.free", "spec.free.x", "spec.pod", "spec.pod.metadata.name", "spec.__namespace__", "spec.namespace", "spec.a__dash__b",
          "spec.choice", "spec.maybe", "spec.limits", "spec.any", "status", "status.phase", "spec.byName['a'].weight", "spec.__in__", "spec.v2only"]
RULES = [
    ("apps", ["v1"], ["deployments"], TEMPLATE + ["spec.replicas", "spec.paused", "spec.strategy.rollingUpdate.maxSurge", "spec.strategy", "status.conditions", "status.readyReplicas"]),
    ("apps", ["v1"], ["statefulsets", "daemonsets"], TEMPLATE + ["spec.replicas", "spec.volumeClaimTemplates", "spec.updateStrategy.rollingUpdate.partition", "spec.minReadySeconds"]),
    ("", ["v1"], ["pods"], [f"spec.{path}" for path in POD] + ["status.podIPs", "status.startTime", "spec.nodeName"]),
    ("", ["v1"], ["services"], ["spec.ports", "spec.ports[0].targetPort", "spec.ports[0].nodePort", "spec.selector", "spec.type", "spec.clusterIP", "spec.externalIPs", "status.loadBalancer.ingress"]),
    ("", ["v1"], ["configmaps", "secrets"], ["data", "binaryData", "immutable", "data.a", "data['a']", "stringData", "type"]),
    ("", ["v1"], ["persistentvolumes", "nodes"], ["spec.capacity", "spec.claimRef", "status.capacity", "spec.taints", "spec.nodeAffinity.required", "spec.accessModes", "status.addresses"]),
    ("", ["v1"], ["events"], ["reason", "note", "message", "eventTime", "series.count", "involvedObject", "regarding.name", "count"]),
    ("batch", ["v1"], ["jobs", "cronjobs"], TEMPLATE + ["spec.parallelism", "spec.schedule", "spec.jobTemplate.spec.template.spec.containers", "spec.podFailurePolicy.rules", "spec.suspend", "spec.startingDeadlineSeconds"]),
    ("autoscaling", ["v2", "v1"], ["horizontalpodautoscalers"], ["spec.maxReplicas", "spec.metrics", "spec.metrics[0].resource.target.averageValue", "spec.targetCPUUtilizationPercentage", "spec.behavior.scaleUp.policies", "spec.scaleTargetRef"]),
    ("networking.k8s.io", ["v1"], ["networkpolicies", "ingresses"], ["spec.podSelector", "spec.ingress", "spec.ingress[0].ports", "spec.rules", "spec.rules[0].http.paths", "spec.tls", "spec.policyTypes", "spec.ingress[0].from[0].ipBlock.except"]),
    ("apiextensions.k8s.io", ["v1"], ["customresourcedefinitions"], ["spec.versions", "spec.versions[0].schema.openAPIV3Schema", "spec.versions[0].schema.openAPIV3Schema.properties", "spec.versions[0].schema.openAPIV3Schema.items.type", "spec.names.plural", "spec.conversion.webhook.clientConfig.caBundle"]),
    ("rbac.authorization.k8s.io", ["v1"], ["clusterroles", "rolebindings"], ["rules", "rules[0].verbs", "aggregationRule.clusterRoleSelectors", "subjects", "roleRef.name"]),
    ("resource.k8s.io", ["v1"], ["resourceclaims", "resourceslices"], ["spec.devices.requests", "spec.pool.generation", "spec.devices", "status.allocation.devices.results"]),
    ("types.test", ["v1"], ["widgets"], WIDGET),
    ("types.test", ["v2", "v1"], ["widgets"], WIDGET),
    ("none.test", ["v1"], ["things"], ["spec.x"]),
]
# what ends the check of a rule, or is no kind
MORE = {"groups": ["*", "none.test", ""], "versions": ["*", "v9", "v1beta1"], "resources": ["*", "pods/status", "*/scale", "nothings", "pod", "podlists"]}
OTHERS = ["request.operation", "request.userInfo.groups", "request.userInfo.extra", "request.kind.group", "request.options", "request.dryRun", "request.object", "namespaceObject.metadata.labels", "namespaceObject.spec.finalizers", "namespaceObject.status.conditions", "namespaceObject.metadata.creationTimestamp", "namespaceObject.metadata.uid",
          "variables.a", "variables.n", "variables.l", "variables.whole", "variables.bad", "variables.late"]
PARAMS = ["params.data", "params.data.a", "params.metadata.name", "params.nope", "params.spec.size", "params.spec.parts", "params.spec"]
PARAM_KINDS = [{"apiVersion": "v1", "kind": "ConfigMap"}, {"apiVersion": "types.test/v1", "kind": "Widget"}, {"apiVersion": "types.test/v2", "kind": "Widget"}, {"apiVersion": "none.test/v1", "kind": "Thing"}, {"apiVersion": "apps/v1", "kind": "Deployment"}]
VALUES = ["1", "'a'", "true", "1.5", "null", "[1]", "['a']", "{'a': 1}", "b'a'", "2u", "duration('1s')", "timestamp('2026-01-01T00:00:00Z')", "quantity('1')", "[]", "{}"]
TESTS = ["P == V", "P != V", "P > V", "P <= V", "V in P", "P == Q", "P.size() > 1", "size(P) == 0", "has(P)", "!has(P) || P == V", "P.all(x, x == V)", "P.exists(x, x.name == V)", "P.exists_one(x, x > V)", "P.all(k, P[k] == V)", "P.all(k, v, k != '' && v == V)", "P[0] == V", "P['a'] == V", "P.nope == V", "P.name == V", "!P", "P && true", "P ? true : false",
         "P + V == V", "V + P == V", "-P < 1", "P.startsWith('a')", "P.matches('^a')", "P.filter(x, x != V).size() > 0", "P.map(x, x.name).size() > 0", "P.map(x, x.size()).sum() > 1", "P.isSorted()", "P.min() == V", "type(P) == string", "string(P) == 'x'", "int(P) > 1", "double(P) > 1.0", "dyn(P) == V", "duration(P) > duration('1s')", "timestamp(P) > timestamp('2026-01-01T00:00:00Z')",
         "quantity(P).isGreaterThan(quantity('1'))", "P.isGreaterThan(quantity('1'))", "ip(P).family() == 4", "isURL(P)", "url(P).getHost() == 'a'", "P.getHours() == 1", "P.find('a') == 'b'", "P.lowerAscii() == 'a'", "P.join(',') == 'a'", "cel.bind(x, P, x == V)", "[P, Q].size() > 1", "[P][0] == V", "{'k': P}.k == V", "{'k': P, 'l': Q} == {}", "P.?nope.hasValue()", "P[?0].orValue(V) == V", "P[?'a'].orValue(V) == V",
         "optional.of(P).orValue(V) == V", "P.transformMap(k, v, v).size() > 0", "P.x.y.z == V", "P % 2 == 0", "P / 2 > 1", "(P == V ? P : Q) == V", "sets.contains(P, V)", "P.format(['a']) == 'a'", "'%s'.format([P]) == 'a'", "P.includes(V)", "P.reverse() == V", "P.b64 == V", "authorizer.group('').resource('x').check(P).allowed()", "authorizer.requestResource.check('get').allowed()", "P.indexOf(V) > 0", "format.dns1123Label().validate(P).hasValue()", "semver(P).major() > 1"]
MESSAGES = ["'a' + string(P)", "'a' + P", "string(P)", "P + 'x'", "P.join(', ')", "P", "'%d'.format([P])", "P.name", "'is ' + request.operation", "request.nope", "''"]


def schema(second):
    text = {"type": "string"}
    part = {"type": "object", "properties": {"name": text, "weight": {"type": "integer", "format": "int64"}, "labels": {"type": "object", "additionalProperties": text}}}
    spec = {
        "size": {"type": "integer"}, "share": {"type": "number"}, "name": text, "on": {"type": "boolean"}, "port": {"x-kubernetes-int-or-string": True}, "when": {"type": "string", "format": "date-time"}, "day": {"type": "string", "format": "date"},
        "wait": {"type": "string", "format": "duration"}, "blob": {"type": "string", "format": "byte"}, "tags": {"type": "array", "items": text}, "grid": {"type": "array", "items": {"type": "array", "items": {"type": "integer"}}},
        "byName": {"type": "object", "additionalProperties": part}, "parts": {"type": "array", "items": part, "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"]}, "free": {"type": "object", "x-kubernetes-preserve-unknown-fields": True},
        "pod": {"type": "object", "x-kubernetes-embedded-resource": True, "x-kubernetes-preserve-unknown-fields": True}, "namespace": text, "a-b": text, "in": {"type": "integer"}, "choice": {"type": "string", "enum": ["a", "b"]}, "maybe": {"type": "string", "nullable": True},
        "limits": {"type": "object", "additionalProperties": {"x-kubernetes-int-or-string": True}}, "any": {"x-kubernetes-preserve-unknown-fields": True},
    }
    part["required"] = ["name"]
    if second:
        spec.update(size=text, v2only={"type": "integer"})
    return {"type": "object", "properties": {"spec": {"type": "object", "properties": spec}, "status": {"type": "object", "properties": {"phase": text}}}}


def fixtures():
    versions = [{"name": name, "served": True, "storage": name == "v1", "schema": {"openAPIV3Schema": schema(name == "v2")}, "subresources": {"status": {}}} for name in ("v1", "v2")]
    definition = {"metadata": {"name": "widgets.types.test"}, "spec": {"group": "types.test", "scope": "Namespaced", "names": {"plural": "widgets", "kind": "Widget"}, "versions": versions}}
    # types that are not published yet are not checked
    published = [{"method": "GET", "path": f"/openapi/v3/apis/types.test/{name}", "until": 200, "holds": "test.types"} for name in ("v1", "v2")]
    return [{"method": "POST", "path": "/apis/apiextensions.k8s.io/v1/customresourcedefinitions", "body": definition}, *published]


class Script:
    def __init__(self, seed):
        self.r = random.Random(f"{seed} types")
        self.rules = [self.r.choice(RULES) for _ in range(self.r.choice([1, 1, 1, 2, 3]))]
        self.paths = META + 3 * [path for rule in self.rules for path in rule[3]]
        self.params = self.r.choice(PARAM_KINDS) if self.often(0.35) else None

    def often(self, chance):
        return self.r.random() < chance

    def path(self):
        """A field, or what looks like one."""
        if self.often(0.2):
            return self.r.choice(OTHERS + 3 * PARAMS * bool(self.params))
        path = self.r.choice(["object."] * 4 + ["oldObject."]) + self.r.choice(self.paths)
        if self.often(0.12):
            words = path.split(".")
            at = self.r.randrange(1, len(words))
            words[at] = self.r.choice([words[at] + "s", words[at][:-1] or "x", words[at].capitalize(), "nope"])
            path = ".".join(words)
        return path

    def fill(self, pattern):
        values = {"P": self.path(), "Q": self.path(), "V": self.r.choice(VALUES)}
        return re.sub(r"\b[PQV]\b", lambda m: values[m[0]], pattern)

    def test(self):
        made = self.fill(self.r.choice(TESTS))
        if self.often(0.2):
            made, other = f"({made})", self.fill(self.r.choice(TESTS))
            made = self.r.choice([f"{made} && {other}", f"{made} || {other}", f"!{made}", f"has(object.spec) ? {made} : ({other})", f"{made} &&\n  {other}"])
        return made

    def rule(self, rule):
        group, versions, resources, _ = rule
        made = {"groups": [group], "versions": versions, "resources": resources}
        if self.often(0.12):
            which = self.r.choice(list(made))
            more = self.r.choice(MORE[which])
            made[which] = self.r.choice([[more], [*made[which], more], [more, *made[which]]])
            if "*" in made[which]:
                made[which] = ["*"]
        return {"apiGroups": made["groups"], "apiVersions": made["versions"], "resources": made["resources"], "operations": ["*"]}

    def validations(self):
        made = []
        for _ in range(self.r.choice([1, 1, 2, 4])):
            one = {"expression": self.test()}
            if self.often(0.3):
                one["messageExpression"] = self.fill(self.r.choice(MESSAGES))
            made.append(one)
        return made

    def policy(self):
        spec = {"matchConstraints": {"resourceRules": [self.rule(rule) for rule in self.rules]}, "validations": self.validations()}
        if self.params:
            spec["paramKind"] = self.params
        variables = [{"name": "n", "expression": self.fill("P")}, {"name": "a", "expression": "object.metadata.name"}, {"name": "l", "expression": "[variables.a]"}, {"name": "whole", "expression": "object"}, {"name": "bad", "expression": "object.nope.nope"}, {"name": "m", "expression": self.test()}]
        if self.often(0.6):
            spec["variables"] = variables[:self.r.randint(1, 6)] + [{"name": "late", "expression": self.fill("P.size()")}] * self.often(0.3)
        if self.often(0.2):
            spec["matchConditions"] = [{"name": "c", "expression": self.test()}]
        if self.often(0.2):
            spec["auditAnnotations"] = [{"key": "k", "valueExpression": "string(" + self.path() + ")"}]
        return {"metadata": {"name": "{id}"}, "spec": spec}

    def play(self):
        path, steps = f"{POLICIES}/{{id}}", []

        def step(method, path, body, **more):
            steps.append({"n": len(steps), "method": method, "path": path, "body": body, **more})

        def looked(generation, after):
            step("PATCH", path, [{"op": "test", "path": "/status/observedGeneration", "value": generation}], headers=JSON_PATCH, needs=after, until=200)
        step("POST", POLICIES, self.policy())
        looked(1, 0)
        if self.often(0.3):
            step("PATCH", path, {"spec": {"validations": self.validations()}}, headers=MERGE, needs=0)
            looked(2, 2)
        elif self.often(0.2):
            step("PATCH", path, {"metadata": {"labels": {"a": "b"}}}, headers=MERGE, needs=0)
            looked(1, 2)
        step("DELETE", path, None, needs=0, after=True)
        return steps


def script(seed):
    return Script(seed).play()


def normal(step, answer, names, asked):
    made = api.normal(step, answer, names, asked)
    # upstream's names of types end with the nanosecond
    text = lambda value: re.sub(r"\b([A-Z][A-Za-z]+)\d+(?=[.,()' ])", r"\1<n>", value)
    status = made["body"].get("status") if isinstance(made["body"], dict) else None
    for warning in ((status or {}).get("typeChecking") or {}).get("expressionWarnings") or [] if isinstance(status, dict) else []:
        warning["warning"] = text(warning["warning"])
    return made


def warnings(one):
    status = one["body"].get("status") if isinstance(one["body"], dict) else None
    found = (status.get("typeChecking") or {}).get("expressionWarnings") or [] if isinstance(status, dict) else []
    return {(warning["fieldRef"], line) for warning in found for line in re.findall(r"ERROR: <input>:(.*)", warning["warning"]) or [warning["warning"]]}


def kinds(step, ours, theirs):
    a, b = warnings(ours), warnings(theirs)
    mask = lambda line: re.sub(r"'[^']*'|\d+", "_", line)
    made = {f"too much: {mask(line)}" for _, line in a - b} | {f"missing: {mask(line)}" for _, line in b - a}
    return sorted(made) or api.kinds(step, ours, theirs)
