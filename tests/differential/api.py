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

import odd
import schema
from objects import DANGEROUS, OBJECTS

KINDS = sorted({(one["gv"], one["resource"]) for one in OBJECTS})
SUBRESOURCES = {(row[0], row[1]): row[4] for row in schema.resources()}
MANAGERS = ["one", "two", "kubectl"]


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
        self.object = self.r.choice([one for one in OBJECTS if (one["gv"], one["resource"]) == (gv, resource)])
        self.resource = resource
        self.type = schema.of_kind(gv, self.object["kind"])
        base = f"/api/{gv}" if "/" not in gv else f"/apis/{gv}"
        self.collection = base + ("/namespaces/{ns}" if self.object["namespaced"] else "") + f"/{resource}"
        self.name = self.object["body"]["metadata"]["name"]
        self.path = f"{self.collection}/{self.name}"
        self.steps = []

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

    def create(self):
        # a range that is stored is used by all Services
        return self.step("POST", self.collection, self.object["body"], ["dryRun=All"] * (self.resource == "servicecidrs"))

    def odd_create(self):
        self.step("POST", self.collection, odd.apply(self.object["body"], self.edits()), self.query())

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
            self.step("PATCH", self.path, part, query, headers={"Content-Type": "application/apply-patch+yaml"})

    def some(self, body, key):
        """The object with parts of a member left out."""
        def less(value, depth):
            if isinstance(value, dict):
                return {k: less(v, depth + 1) for k, v in value.items() if depth > 3 or self.often(0.85)}
            return [less(one, depth + 1) for one in value] if isinstance(value, list) else value
        return {**body, key: less(body[key], 1)} if self.often(0.5) else body

    def status(self):
        if "status" not in SUBRESOURCES[(self.object["gv"], self.resource)]:
            return self.update()
        stored = self.create()
        made = self.edits({**self.object["body"], "status": self.object["body"].get("status", {})}, where=lambda path: path[:1] == ("status",))
        if self.often(0.5):
            self.step("PUT", self.path + "/status", None, self.query(), **{"from": stored}, edits=[[["status"], "set", {}]] * self.often(0.2) + made)
        else:
            body = merge_patch({**self.object["body"], "status": {}}, made)
            self.step("PATCH", self.path + "/status", body, self.query(), headers={"Content-Type": f"application/{self.r.choice(['merge', 'strategic-merge'])}-patch+json"})


PARTS = [(Script.odd_create, 10), (Script.update, 4), (Script.patch, 4), (Script.applied, 3), (Script.status, 2)]


def script(seed):
    made = Script(seed)
    made.setup()
    made.r.choices([part for part, _ in PARTS], [weight for _, weight in PARTS])[0](made)
    if not made.object["namespaced"]:
        # what is everybody's does not stay
        made.step("DELETE", made.path, after=True)
    return made.steps


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
    generated = re.compile("|".join([r"(kube-api-access-)"] + [f"({re.escape(json.loads(name))})" for name in re.findall(r'"generateName": ("(?:[^"\\\\]|\\\\.)+")', asked)]) + "[bcdfghjklmnpqrstvwxz2456789]{5}")

    def text(value):
        for place, name in names.items():
            value = value.replace(*(f"192.0.2.{one}" for one in (name, place)) if place == "{byte}" else (name, place))
        # the object in a decoder's message; Go's names of types, and of structs inside structs, are not known to the schema table
        value = re.sub(r'(resourceVersion\\*":\\*")\d+', r"\1<revision>", value)
        if "json: cannot unmarshal" in value:
            value = re.sub(r"number -?[0-9][^ ]* into", "number <number> into", re.sub(r" of type \S+", " of type <type>", re.sub(r"\.[A-Z]\w+(?=\.)", "", value)))
        value = structs(value)
        value = re.sub(r"X509SHA256=[0-9a-f]{64}", "<certificate>", value)
        value = UID.sub(lambda m: m[0] if m[0] in asked else "<uid>", value)
        value = NOW.sub(lambda m: m[0] if m[0] in asked else "<time>", value)
        value = ALLOCATED.sub(lambda m: m[0] if m[0] in asked else "<ip>", value)
        value = generated.sub(lambda m: m[0][:-5] + "<random>", value)
        return re.sub(r"0xc[0-9a-f]{9,}", "<pointer>", value)

    def tree(value, key=""):
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

    made = {"code": answer["code"], "body": tree(answer["body"]), "warnings": tree(answer.get("warnings", []), "warnings")}
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
    return re.sub(r"\n@@.*?(?=, \w+(?:\.\w+)+: |\]$|$)", "", made + message[at:], flags=re.S)


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
