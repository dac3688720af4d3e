"""The rig of upstream's own cases: what its tests ask of its validation and strategies (`recorded/`) is played over HTTP.

A seed is the number of a case. An object is created in a namespace of its own; where there is an old object, that is created, given its
status and, where it is on its way out, deleted; then it is updated with what makes it the new one. A case whose old object upstream
itself does not take cannot be played.
"""
import hashlib
import json
import re
import subprocess
from collections import Counter
from pathlib import Path

import schema
from api import certificates, kinds, named, normal  # the driver asks for them
from objects import DANGEROUS

# admission policies are not built: they are refused as a whole
ROWS = {(row[0], row[2]): row for row in schema.resources() if "create" in row[5] and "admissionpolic" not in row[2].lower()}
NAME = re.compile(r"[a-z0-9]([-a-z0-9.]{,40}[a-z0-9])?")
# their names mean something
KEEP = DANGEROUS | {"ipaddresses"}
# of objects whose status alone a test is about: what the server asks of the rest of them
LABELS = {"matchLabels": {"a": "b"}}
TEMPLATE = {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}}
VOLUME = {"accessModes": ["ReadWriteOnce"], "capacity": {"storage": "1Gi"}, "hostPath": {"path": "/a"}}
REST = {"Deployment": {"selector": LABELS, "template": TEMPLATE}, "DaemonSet": {"selector": LABELS, "template": TEMPLATE},
        "ReplicaSet": {"selector": LABELS, "template": TEMPLATE}, "StatefulSet": {"selector": LABELS, "template": TEMPLATE},
        "ReplicationController": {"selector": LABELS["matchLabels"], "template": TEMPLATE}, "Pod": TEMPLATE["spec"],
        "Job": {"template": {"spec": {**TEMPLATE["spec"], "restartPolicy": "Never"}}}, "PersistentVolume": VOLUME,
        "PersistentVolumeClaim": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}}
CASES, COUNTS, UNSERVED = [], {}, Counter()


def prepare(out, _):
    subprocess.run([Path(__file__).parent / "recorded/record.sh", out], check=True)
    cases = {}
    with (out / "calls.jsonl").open() as calls:
        for line in calls:
            call = json.loads(line)
            row = ROWS.get((call["apiVersion"], call["kind"]))
            case = {"new": call["new"], "old": call.get("old"), "row": row, "part": part(call, row) if row and "old" in call else None}
            key = hashlib.sha256(json.dumps([call["apiVersion"], call["kind"], case["part"], case["new"], case["old"]], sort_keys=True).encode()).hexdigest()
            cases[key] = case if row else call["kind"]
    for _, case in sorted(cases.items()):
        if isinstance(case, str):
            UNSERVED[case] += 1
        else:
            CASES.append(case)
    return len(CASES)


def fixtures():
    return []


def part(call, row):
    """The subresource that a function is about."""
    name = call["function"].replace(call["kind"], "").lower()
    return next((one for one, (_, kind, _) in row[4].items() if kind == call["kind"] and one in name), None)


def cleaned(body, namespaced, resource):
    """The object as a client may create it: with a name, and in the script's namespace."""
    meta = dict(body.get("metadata") or {})
    there = meta.pop("namespace", None)
    for name in ("resourceVersion", "uid", "creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds", "selfLink"):
        meta.pop(name, None)
    if not meta.get("name") and not meta.get("generateName"):
        meta["name"] = "{id}"
    elif not namespaced and resource not in KEEP and NAME.fullmatch(meta.get("name", "")):
        meta["name"] += "{id}"

    def local(value):
        if isinstance(value, dict):
            return {key: "{ns}" if key == "namespace" and there and one == there else local(one) for key, one in value.items()}
        return [local(one) for one in value] if isinstance(value, list) else value
    body = local(body) if namespaced else body
    return {**body, "metadata": {**meta, **({"namespace": "{ns}"} if namespaced else {})}}


def edits(old, new, path=()):
    """What makes an object that began as `old` what `new` is."""
    if isinstance(old, dict) and isinstance(new, dict):
        for key in {**old, **new}:
            if key not in new:
                yield [[*path, key], "remove", None]
            elif key not in old:
                yield [[*path, key], "set", new[key]]
            else:
                yield from edits(old[key], new[key], (*path, key))
    elif isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        for at, (one, other) in enumerate(zip(old, new)):
            yield from edits(one, other, (*path, at))
    elif old != new:
        yield [list(path), "set", new]


def completed(body, kind):
    """An object of which the server takes more than its status."""
    def there(value):
        return any(map(there, value.values())) if isinstance(value, dict) else value not in (None, [], "")
    spec = {key: value for key, value in (body.get("spec") or {}).items() if there(value)}
    return {**body, "spec": {**REST.get(kind, {}), **spec}}


def pod_spec(body):
    spec = body.get("spec") or {}
    while isinstance(spec, dict) and "containers" not in spec:
        spec = next((spec[key].get("spec") or {} for key in ("template", "jobTemplate") if isinstance(spec.get(key), dict)), None)
    return spec or {}


def script(seed):
    case = CASES[seed - 1]
    gv, resource, kind, namespaced, parts, _ = case["row"]
    steps = []

    def step(method, path, body=None, **more):
        steps.append({"n": len(steps), "method": method, "path": path, "body": body, **more})
        return len(steps) - 1

    collection = (f"/api/{gv}" if "/" not in gv else f"/apis/{gv}") + ("/namespaces/{ns}" if namespaced else "") + f"/{resource}"
    old = case["old"]
    if old is not None and case["part"] == "status":
        old = completed(old, kind)
    first = cleaned(old or case["new"], namespaced, resource)
    if kind == "Event" and old and "namespace" not in first["involvedObject"]:
        first["involvedObject"]["namespace"] = "{ns}"
    # these come later
    ephemeral = first.get("spec", {}).pop("ephemeralContainers", None) if kind == "Pod" and old else None
    if namespaced:
        step("POST", "/api/v1/namespaces", {"metadata": {"name": "{ns}"}}, setup=True)
    if resource == "pods":
        for account in {"default", pod_spec(first).get("serviceAccountName", "default")}:
            if NAME.fullmatch(account):
                step("POST", "/api/v1/namespaces/{ns}/serviceaccounts", {"metadata": {"name": account}}, setup=True)
    harmful = resource in DANGEROUS
    made = step("POST", collection + ("?dryRun=All" if harmful else ""), first)
    path = f"{collection}/{first['metadata'].get('name', '{id}')}"
    if case["old"] is not None and not harmful:
        status, meta = case["old"].get("status"), case["old"].get("metadata") or {}
        if meta.get("deletionTimestamp"):
            first["metadata"].setdefault("finalizers", ["example.org/case"])
        if ephemeral:
            made = step("PUT", path + "/ephemeralcontainers", **{"from": made}, edits=[[["spec", "ephemeralContainers"], "set", ephemeral]], needs=made)
        if status and "status" in parts:
            made = step("PUT", path + "/status", **{"from": made}, edits=[[["status"], "set", status]], needs=made)
        if meta.get("deletionTimestamp"):
            made = step("DELETE", path, needs=made)
        made = step("GET", path, needs=made)
        change = [one for one in edits(case["old"], case["new"]) if one[0] not in (["metadata", "resourceVersion"], ["metadata", "namespace"])]
        step("PUT", path + (f"/{case['part']}" if case["part"] else ""), **{"from": made}, edits=change, needs=made)
    if not namespaced and not harmful:
        step("DELETE", path, {"gracePeriodSeconds": 0}, after=True)
    address = ((old or {}).get("spec") or {}).get("clusterIP", "")
    if kind == "Service" and re.fullmatch(r"[1-9]\d*(\.[1-9]\d*){3}", address):
        # what upstream's tests have is of no cluster
        steps = json.loads(json.dumps(steps).replace(f'"{address}"', '"10.96.200.{byte}"'))
    return steps


def tally(seed, answers, difference):
    """Counts a case: recorded, played, equal, different."""
    case = CASES[seed - 1]
    counts = COUNTS.setdefault(case["row"][2], [0, 0, 0, 0])
    played = answers[-1]["code"] > 0 and not (case["old"] is not None and case["row"][1] in DANGEROUS)
    for at, one in enumerate((True, played or difference, (played and not difference), difference)):
        counts[at] += bool(one)


def report():
    lines = [("kind", "recorded", "played", "equal", "different"), *((kind, *counts) for kind, counts in sorted(COUNTS.items(), key=lambda one: -one[1][3])),
             ("all", *map(sum, zip(*COUNTS.values())))]
    return "\n".join(f"{line[0]:28}" + "".join(f"{one:>10}" for one in line[1:]) for line in lines) + \
        f"\nof kinds that are not served or not built: {sum(UNSERVED.values())} ({', '.join(sorted(UNSERVED))})"
