"""The rig of admission policies: validating and mutating ones with generated expressions, their bindings and parameters, and writes in the namespace that they select.

What is wrong with a policy or a binding is asked of dry runs. A validation that denies one name tells when a policy has come into effect.
"""
import copy
import json
import random
import re

import api
from api import certificates, named, normal  # noqa: F401 (the driver's)

BATCH = 40
ADMISSION = "/apis/admissionregistration.k8s.io/v1"
NS = "/api/v1/namespaces/{ns}"
MERGE = {"Content-Type": "application/merge-patch+json"}
# what holds for what is written here, more or less
HOLDS = ["object.data.a == 'b'", "!has(object.data) || object.data.size() < 3", "object.metadata.name != 'x'", "object == null || has(object.metadata.labels)", "oldObject == null || object == null || oldObject.metadata.name == object.metadata.name",
         "request.operation == 'DELETE' || object.kind in ['ConfigMap', 'Deployment', 'Scale']", "request.userInfo.username != 'nobody'", "'system:masters' in request.userInfo.groups", "request.namespace == namespaceObject.metadata.name", "namespaceObject.metadata.labels['kubernetes.io/metadata.name'] == request.namespace",
         "request.resource.resource == 'configmaps' || object.spec.replicas <= 3", "authorizer.group('').resource('configmaps').namespace(request.namespace).check('create').allowed()", "authorizer.requestResource.check('delete').allowed()", "request.dryRun", "!request.dryRun", "has(request.options.fieldManager)", "request.kind.kind == 'ConfigMap'",
         "object.data.all(k, k.matches('^[a-z]+$'))", "int(object.data.n) > 3", "object.data['n'] == '1'", "object.metadata.?labels.?app.orValue('x') == 'x'", "object.data.exists(k, object.data[k] == request.name)", "request.requestKind.version == 'v1' && request.requestResource.group in ['', 'apps']", "object.immutable", "true", "false",
         "namespaceObject.status.phase == 'Active'", "object.metadata.creationTimestamp != ''", "size(object.metadata.uid) > 0", "object.metadata.managedFields.size() > 0", "request.subResource == ''", "object.data.n.split('').size() < 2", "quantity(object.data.n).isLessThan(quantity('1k'))", "variables.a == 'b'", "variables.n > 2", "variables.a + 'x' == 'bx' || variables.l.size() > 0", "variables.bad == 1"]
PARAMS = ["params.data.limit == '3'", "params == null || params.data.size() > 0", "int(params.data.limit) > object.data.size()", "params.metadata.name == 'one'", "params.kind == 'ConfigMap'", "params.data[object.metadata.name] == 'x'"]
VARIABLES = [{"name": "a", "expression": "object.data.a"}, {"name": "n", "expression": "int(object.data.n)"}, {"name": "l", "expression": "[1, variables.n]"}, {"name": "bad", "expression": "object.nope.nope"}]
MESSAGES = ["'told'", "'got ' + object.data.a", "string(variables.n)", "object.data.a", "''", "'  '", "'a\\nb'", "request.name + '!'", "string(1 / 0)", "'%s'.format([object.metadata.name])"]
WRONG = ["", " ", "object.", "nope", "1", "'a'", "request.nope", "request.kind.nope == 1", "namespaceObject.metadata.nope == ''", "params.a == 1", "variables.nope", "authorizer.nope()", "object.all(x,", "request.userInfo.groups == 'a'", "variables.n == 'x'", "namespaceObject.status.phase > 1", "object.includes(1)", "int('a') > 1", "duration('x') > duration('1s')"]
PATCHES = ["[JSONPatch{op: 'add', path: '/data/added', value: 'x'}]", "[JSONPatch{op: 'replace', path: '/data/a', value: object.data.a + 'x'}]", "[JSONPatch{op: 'add', path: '/metadata/labels', value: {'l': 'v'}}]", "[JSONPatch{op: 'test', path: '/data/a', value: 'b'}, JSONPatch{op: 'replace', path: '/data/a', value: 'c'}]", "[JSONPatch{op: 'remove', path: '/data/n'}]",
           "[JSONPatch{op: 'copy', from: '/data/a', path: '/data/copied'}]", "[JSONPatch{op: 'move', from: '/data/a', path: '/data/moved'}]", "has(object.data) ? [JSONPatch{op: 'add', path: '/data/' + jsonpatch.escapeKey('a.b'), value: string(object.data.size())}] : []", "[JSONPatch{op: 'add', path: '/data/n', value: 1}]", "[JSONPatch{op: 'add', path: '/metadata/annotations', value: Object.metadata.annotations{a: 'b'}}]",
           "[]", "[JSONPatch{op: 'nope', path: '/data'}]", "[JSONPatch{op: 'add', path: 'data', value: 'x'}]", "[JSONPatch{op: 'add', path: '/spec/replicas', value: 4}]", "[JSONPatch{op: 'add', path: '/unknown', value: 'x'}]", "[JSONPatch{op: 'add', path: '/data/user', value: request.userInfo.username}]", "variables.a == 'b' ? [JSONPatch{op: 'add', path: '/data/v', value: variables.a}] : []", "object.data.map(k, JSONPatch{op: 'replace', path: '/data/' + k, value: 'all'})"]
APPLIED = ["Object{data: {'added': 'x'}}", "Object{metadata: Object.metadata{labels: {'l': 'v'}}}", "Object{metadata: Object.metadata{labels: Object.metadata.labels{l: 'v'}}}", "Object{}", "Object{data: {'n': 1}}", "Object{nope: 1}", "Object{metadata: Object.spec{}}", "Object{spec: Object.spec{replicas: 4}}", "Object{immutable: false}", "Object{metadata: Object.metadata{finalizers: ['a.b/c']}}", "Object{metadata: Object.metadata{annotations: {'who': request.userInfo.username}}}",
           "has(object.data) ? Object{data: {'size': string(object.data.size())}} : Object{}", "Object{data: {'v': variables.a}}", "Object{data: {?'maybe': object.data[?'a']}}", "Object{spec: Object.spec{template: Object.spec.template{spec: Object.spec.template.spec{containers: [Object.spec.template.spec.containers{name: 'd', image: 'j'}]}}}}", "Object{spec: Object.spec{selector: Object.spec.selector{matchLabels: {'a': 'c'}}}}", "Object{metadata: Object.metadata{name: 'other'}}"]
WRONG_MUTATIONS = ["", " ", "1", "Object", "{'a': 'b'}", "JSONPatch{op: 'add'}", "[Object{}]", "[JSONPatch{nope: 1}]", "Object{", "[JSONPatch{op: 1, path: ''}]", "Nope{}", "object"]
ODD = [None, "", "x", 0, 5, -1, True, [], {}, ["a"], [{}], {"a": "b"}]


def fixtures():
    """A policy with parameters that stays: when the last one goes, upstream's informer of their kind stops for good."""
    meta = {"metadata": {"name": "stays"}}
    rule = {"apiGroups": ["nobody"], "apiVersions": ["*"], "operations": ["*"], "resources": ["*"]}
    policy = {**meta, "spec": {"paramKind": {"apiVersion": "v1", "kind": "ConfigMap"}, "matchConstraints": {"resourceRules": [rule]}, "validations": [{"expression": "true"}]}}
    binding = {**meta, "spec": {"policyName": "stays", "validationActions": ["Deny"]}}
    empty = {"patchType": "JSONPatch", "jsonPatch": {"expression": "[JSONPatch{op: 'remove', path: '/nope'}]"}}
    mutating = {**meta, "spec": {**policy["spec"], "mutations": [empty], "reinvocationPolicy": "Never"}}
    del mutating["spec"]["validations"]
    bodies = {"validatingadmissionpolicies": policy, "validatingadmissionpolicybindings": binding, "mutatingadmissionpolicies": mutating, "mutatingadmissionpolicybindings": {**meta, "spec": {"policyName": "stays"}}}
    return [{"method": "POST", "path": f"{ADMISSION}/{plural}", "body": body} for plural, body in bodies.items()]


class Script(api.Script):
    def __init__(self, seed):
        self.r = random.Random(f"{seed} policies")
        self.steps = []
        self.params, self.mutating = self.often(0.35), self.often(0.4)

    def expression(self):
        pool = HOLDS + PARAMS * self.params
        one = self.r.choice(pool)
        if self.often(0.25):
            other = self.r.choice(pool)
            one = self.r.choice([f"{one} && {other}", f"{one} || {other}", f"!({one})", f"({one}) ? {other} : true"])
        return one

    def mutation(self, wrong=False):
        patch = self.often(0.5)
        pool = PATCHES if patch else APPLIED
        expression = self.r.choice(WRONG_MUTATIONS) if wrong and self.often(0.6) else self.r.choice(pool)
        made = {"patchType": "JSONPatch", "jsonPatch": {"expression": expression}} if patch else {"patchType": "ApplyConfiguration", "applyConfiguration": {"expression": expression}}
        if wrong and self.often(0.3):
            made[self.r.choice(["patchType", "jsonPatch", "applyConfiguration"])] = self.r.choice(["", "x", "JSONPatch", "ApplyConfiguration", {"expression": "Object{}"}, {}, None])
        return made

    def refusal(self):
        """A validation that seldom holds, with all that its refusal says."""
        made = {"expression": self.r.choice(["object != null && object.metadata.name == 'probe'", "object == null || object.metadata.name == 'probe' || object.metadata.name == 'b'", "request.name in ['', 'probe', 'b']"]),
                "reason": self.r.choice(["Forbidden", "Invalid", "RequestEntityTooLarge", "Unauthorized"])}
        if self.often(0.7):
            made["messageExpression"] = self.r.choice(["'refused ' + request.operation", "'  trimmed '", "''", "'a\\nb'", "string(1 / 0)"])
        if self.often(0.6):
            made["message"] = self.r.choice(["said", " trimmed ", "x" * 300])
        return made

    def validation(self, wrong=False):
        if not wrong and self.often(0.2):
            return self.refusal()
        made = {"expression": self.r.choice(WRONG) if wrong and self.often(0.7) else self.expression()}
        if self.often(0.4):
            made["message"] = self.r.choice(["must be so", " trimmed "] + ["", " ", "two\nlines"] * wrong)
        if self.often(0.35):
            made["messageExpression"] = self.r.choice(MESSAGES + ["", " ", "1", "authorizer.group('').resource('x').check('y').reason()", "nope"] * wrong)
        if self.often(0.3):
            made["reason"] = self.r.choice(["Forbidden", "Invalid", "RequestEntityTooLarge"] + ["Unauthorized", "", "x", "Conflict"] * wrong)
        return made

    def policy(self, wrong=False):
        probe = {"expression": "object == null || object.metadata.name != 'probe'", "message": "probe"}
        validations = [self.validation(wrong) for _ in range(self.r.choice([1, 1, 2, 3]))]
        text = json.dumps(validations)
        variables = copy.deepcopy(VARIABLES) if "variables." in text or self.often(0.3) else []
        if wrong and self.often(0.3):
            variables = self.r.choice([[], [{"name": "a-b", "expression": "1"}], [{"name": "", "expression": "1"}], [{"name": "in", "expression": "1"}], [{"name": "n", "expression": ""}], [{"name": "n", "expression": "variables.m"}, {"name": "m", "expression": "1"}]])
        rule = {"apiGroups": ["", "apps"], "apiVersions": ["*"], "operations": self.r.choice([["*"], ["CREATE", "UPDATE"], ["CREATE", "UPDATE", "DELETE"]]), "resources": self.r.choice([["configmaps", "deployments"], ["configmaps", "deployments", "deployments/scale"], ["*/*"]])}
        spec = {"matchConstraints": {"resourceRules": [rule], "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "{ns}"}}}, "validations": [probe] + validations}
        if variables:
            spec["variables"] = variables
        if self.params:
            spec["paramKind"] = {"apiVersion": "v1", "kind": "ConfigMap"}
        if self.often(0.3):
            spec["failurePolicy"] = self.r.choice(["Ignore", "Fail"])
        if self.often(0.25):
            # one that a probe passes
            spec["matchConditions"] = [{"name": "c", "expression": self.r.choice(["true", "request.operation != 'DELETE'", "object == null || !has(object.data) || object.data.size() < 9", "object == null || object.metadata.name == 'probe' || object.data.a != 'skip'"] + WRONG * wrong)}]
        if self.often(0.2):
            spec["auditAnnotations"] = [{"key": self.r.choice(["k", "a.b", *(["", "a b"] * wrong)]), "valueExpression": self.r.choice(["'x'", "null", "string(object.data.n)", *(WRONG * wrong)])}]
        if self.often(0.1):
            spec["matchConstraints"]["excludeResourceRules"] = [{**copy.deepcopy(rule), "resourceNames": ["skipped"]}]
        if self.often(0.15):
            spec["matchConstraints"]["objectSelector"] = {"matchExpressions": [{"key": "skip", "operator": "DoesNotExist"}]}
        if self.mutating:
            for key in ("validations", "auditAnnotations"):
                spec.pop(key, None)
            # what fails on a probe is told, so it must not be ignored
            spec.pop("failurePolicy", None)
            probe = {"patchType": "JSONPatch", "jsonPatch": {"expression": "object.metadata.name == 'probe' ? [JSONPatch{op: 'remove', path: '/nope'}] : []"}}
            spec["mutations"] = [probe] + [self.mutation(wrong) for _ in range(self.r.choice([1, 1, 2, 3]))]
            if "variables." in json.dumps(spec["mutations"]) and not wrong:
                spec["variables"] = copy.deepcopy(VARIABLES)
            spec["reinvocationPolicy"] = self.r.choice(["Never", "IfNeeded"] + ["", "x"] * wrong)
            rule["operations"] = ["CREATE", "UPDATE"] if not wrong else self.r.choice([["CREATE", "UPDATE"], ["*"], ["DELETE"], ["CREATE", "DELETE"]])
        return {"apiVersion": "admissionregistration.k8s.io/v1", "kind": self.kind(), "metadata": {"name": "p-{id}"}, "spec": spec}

    def kind(self):
        return "MutatingAdmissionPolicy" if self.mutating else "ValidatingAdmissionPolicy"

    def binding(self):
        spec = {"policyName": "p-{id}", "validationActions": self.r.choice([["Deny"], ["Deny"], ["Deny", "Audit"]])}
        if self.params and self.often(0.85):
            spec["paramRef"] = self.r.choice([{"name": "one", "namespace": "{ns}", "parameterNotFoundAction": "Deny"}, {"name": "one", "parameterNotFoundAction": "Allow"}, {"selector": {"matchLabels": {"param": "yes"}}, "parameterNotFoundAction": "Deny"}])
        if self.often(0.2):
            spec["matchResources"] = {"objectSelector": {"matchExpressions": [{"key": "unbound", "operator": "DoesNotExist"}]}}
        if self.mutating:
            del spec["validationActions"]
        return {"apiVersion": "admissionregistration.k8s.io/v1", "kind": self.kind() + "Binding", "metadata": {"name": "b-{id}"}, "spec": spec}

    def broken(self, body):
        """The same with something odd in it."""
        body = copy.deepcopy(body)
        spots = [(body["spec"], key) for key in body["spec"]] + [(body["spec"]["matchConstraints"], key) for key in body["spec"].get("matchConstraints", ())] + [(body["spec"]["paramRef"], key) for key in body["spec"].get("paramRef", ())]
        rules = body["spec"].get("matchConstraints", {}).get("resourceRules", [])
        spots += [(rule, key) for rule in rules for key in [*rule, "resourceNames", "scope"]]
        spots += [(body["spec"], key) for key in ("paramKind", "matchResources", "paramRef", "failurePolicy")]
        where, key = self.r.choice(spots)
        if self.often(0.25):
            where.pop(key, None)
        else:
            where[key] = self.r.choice(ODD + [{"apiVersion": "a/b/c", "kind": "X"}, {"apiVersion": "apps/v1", "kind": "x y"}, {"apiVersion": "v1"}, {"name": "a/b"}, {"name": "a", "selector": {}}, ["Deny", "Warn"], ["Deny", "Deny"], ["Nope"]])
        return body

    def object(self, name):
        data = {key: self.r.choice(["b", "1", "5", "x", "", "skip", "1Gi"]) for key in self.r.sample(["a", "n", "c", "D"], self.r.choice([0, 1, 2, 2, 3]))}
        meta = {"name": name}
        if self.often(0.3):
            meta["labels"] = self.r.choice([{"app": "x"}, {"app": "y"}, {"skip": "1"}, {"unbound": "1"}])
        return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta, **({"data": data} if data or self.often(0.5) else {}), **({"immutable": True} if self.often(0.1) else {})}

    def play(self):
        self.step("POST", "/api/v1/namespaces", {"metadata": {"name": "{ns}"}}, setup=True)
        kind = "mutating" if self.mutating else "validating"
        policies, bindings = f"{ADMISSION}/{kind}admissionpolicies", f"{ADMISSION}/{kind}admissionpolicybindings"
        for _ in range(self.r.choice([1, 2, 2])):
            wrong = self.policy(wrong=True)
            self.step("POST", policies, self.broken(wrong) if self.often(0.4) else wrong, ["dryRun=All"])
        if self.often(0.5):
            self.step("POST", bindings, self.broken(self.binding()), ["dryRun=All"])
        if self.params and self.often(0.8):
            self.step("POST", f"{NS}/configmaps", {"metadata": {"name": "one", "labels": {"param": "yes"}}, "data": self.r.choice([{"limit": "3"}, {"limit": "1", "a": "x"}, {}])})
        policy = self.step("POST", policies, self.policy())
        binding = self.step("POST", bindings, self.binding(), needs=policy)
        probe = self.step("POST", f"{NS}/configmaps", {"metadata": {"name": "probe", "labels": {"app": "x"}}, "data": {"a": "b"}}, ["dryRun=All"], needs=binding, until=403 if self.mutating else 422)
        for _ in range(self.r.randint(3, 7)):
            name = self.r.choice(["a", "a", "b", "skipped"])
            path, query = f"{NS}/configmaps/{name}", ["dryRun=All"] * self.often(0.15) + ["fieldManager=one"] * self.often(0.2)
            how = self.r.choice(["create", "create", "update", "merge", "delete", "apply", "deployment", "scale", "collection"])
            if how == "create":
                self.step("POST", f"{NS}/configmaps", self.object(name), query, needs=binding)
            elif how == "update":
                self.step("PUT", path, self.object(name), query, needs=binding)
            elif how == "merge":
                self.step("PATCH", path, {"data": {"a": self.r.choice(["b", "x", None]), "n": self.r.choice(["1", "7", None])}}, query, headers=MERGE, needs=binding)
            elif how == "apply":
                self.step("PATCH", path, self.object(name), ["fieldManager=one", "force=true"], headers={"Content-Type": "application/apply-patch+yaml"}, needs=binding)
            elif how == "delete":
                self.step("DELETE", path, None, query, needs=binding)
            elif how == "collection":
                self.step("DELETE", f"{NS}/configmaps", None, ["labelSelector=app%3Dx"], needs=binding)
            elif how == "deployment":
                labels = {"matchLabels": {"a": "b"}}
                template = {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}}
                self.step("POST", "/apis/apps/v1/namespaces/{ns}/deployments", {"metadata": {"name": "d"}, "spec": {"replicas": self.r.choice([1, 3, 5]), "selector": labels, "template": template}}, query, needs=binding)
            else:
                self.step("PATCH", "/apis/apps/v1/namespaces/{ns}/deployments/d/scale", {"spec": {"replicas": self.r.choice([2, 9])}}, query, headers=MERGE, needs=binding)
        if self.often(0.3):
            changed = copy.deepcopy(self.policy(wrong=self.often(0.5)))
            key = "mutations" if self.mutating else "validations"
            self.step("PATCH", f"{policies}/p-{{id}}", {"spec": {key: changed["spec"][key]}}, ["dryRun=All"], headers=MERGE, needs=policy)
        self.step("DELETE", f"{bindings}/b-{{id}}", after=True)
        self.step("DELETE", f"{policies}/p-{{id}}", after=True)
        return self.steps


def script(seed):
    return Script(seed).play()


def kinds(step, ours, theirs):
    if theirs["code"] == 0 and "mutatingadmissionpolicies" in step["path"] and "{?'" in json.dumps(step["body"]):
        return [f"mutatingadmissionpolicies optional fields: {ours['code']} not 0"]
    return sorted({re.sub(r"\[\d+\]", "[]", one) for one in api.kinds(step, ours, theirs)})
