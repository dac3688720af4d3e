"""What webhooks of the breaking rig answer: the truth, or one of these lies, or a patch of many operations."""
import base64
import json
import threading

# by name, what becomes of objects that were converted well
LIES = {
    "count less": lambda made: made.pop() and made,
    "count more": lambda made: made + made[:1],
    "none": lambda made: [],
    "order": lambda made: made[::-1],
    "version": lambda made: [{**one, "apiVersion": one["apiVersion"].split("/")[0] + "/v9"} for one in made],
    "group": lambda made: [{**one, "apiVersion": "other.example.org/v1"} for one in made],
    "no version": lambda made: [{k: v for k, v in one.items() if k != "apiVersion"} for one in made],
    "kind": lambda made: [{**one, "kind": "Other"} for one in made],
    "no kind": lambda made: [{k: v for k, v in one.items() if k != "kind"} for one in made],
    "no metadata": lambda made: [{k: v for k, v in one.items() if k != "metadata"} for one in made],
    "odd metadata": lambda made: [{**one, "metadata": "x"} for one in made],
    "null": lambda made: [None for _ in made],
    "text": lambda made: ["x" for _ in made],
    "list": lambda made: [[] for _ in made],
    "no spec": lambda made: [{k: v for k, v in one.items() if k != "spec"} for one in made],
    "odd spec": lambda made: [{**one, "spec": {"a": 1, "n": "x"}} for one in made],
    "text spec": lambda made: [{**one, "spec": "x"} for one in made],
    "more spec": lambda made: [{**one, "spec": {**one.get("spec", {}), "unknown": {"a": 1}}, "more": 1} for one in made],
    "status": lambda made: [{**one, "status": {"s": "lied"}} for one in made],
}
# what a webhook may not change of an object's metadata, and what it may
METADATA = {"name": "other", "namespace": "default", "uid": "00000000-0000-0000-0000-000000000000", "resourceVersion": "1", "generation": 99, "creationTimestamp": "2001-01-01T00:00:00Z", "finalizers": ["a.b/c"],
            "ownerReferences": [{"apiVersion": "v1", "kind": "Pod", "name": "p", "uid": "u"}], "labels": {"lied": "yes"}, "annotations": {"lied": "yes"}, "deletionTimestamp": "2001-01-01T00:00:00Z", "managedFields": [], "generateName": "x-"}
for key, value in METADATA.items():
    LIES[f"metadata {key}"] = lambda made, key=key, value=value: [{**one, "metadata": {**one["metadata"], key: value}} for one in made]
for n, value in enumerate([{"a b": "c"}, {"a": 1}, {"a": None}, "x", [], {"a": "x" * 64}, None]):
    for key in ("labels", "annotations"):
        LIES[f"odd {key} {n}"] = lambda made, key=key, value=value: [{**one, "metadata": {**one["metadata"], key: value}} for one in made]
RESULTS = {"failure": {"status": "Failure", "message": "cannot"}, "failure without a word": {"status": "Failure"}, "no status": {}, "odd status": {"status": "Maybe", "message": "perhaps"}, "reason": {"status": "Failure", "reason": "Invalid", "code": 422, "message": "no"}}
REVIEWS = {"uid": {"uid": "x"}, "no uid": {"uid": None}, "odd result": {"result": "x"}, "no result": {"result": None}, "odd objects": {"convertedObjects": "x"}, "object": {"convertedObjects": {"a": 1}}}
PATCHES = {
    "labels": lambda n: {"op": "add", "path": f"/metadata/labels/l{n % 7}", "value": "x"},
    "same": lambda n: {"op": "replace", "path": "/metadata/name", "value": "a"},
    "test": lambda n: {"op": "test", "path": "/kind", "value": "ConfigMap"},
    "copy": lambda n: {"op": "copy", "from": "/data/a", "path": f"/data/c{n % 100}"},
    "wide": lambda n: {"op": "add", "path": f"/data/k{n}", "value": "v"},
    "front": lambda n: {"op": "add", "path": "/metadata/finalizers/0", "value": "a.b/c"},
    "there and back": lambda n: {"op": "add", "path": "/data/x", "value": "y"} if n % 2 == 0 else {"op": "remove", "path": "/data/x"},
    "wrong at last": lambda n: {"op": "test", "path": "/kind", "value": "ConfigMap"},
}
# made once each
patches, making = {}, threading.Lock()


def patch(kind, count):
    """A patch of so many operations, as a webhook answers it."""
    with making:
        if (kind, count) not in patches:
            first = [{"op": "add", "path": f"/metadata/{key}", "value": value} for key, value in (("labels", {}), ("finalizers", []))] + [{"op": "add", "path": "/data", "value": {"a": "b"}}]
            last = [{"op": "remove", "path": "/nothing"}] if kind == "wrong at last" else []
            made = first + [PATCHES[kind](n) for n in range(count)] + last
            patches[kind, count] = base64.b64encode(json.dumps(made).encode()).decode()
        return patches[kind, count]


def admitted(review, how):
    response = {"uid": review["request"]["uid"], "allowed": how.get("allowed", True)}
    if "patch" in how:
        response |= {"patch": patch(*how["patch"]), "patchType": "JSONPatch"}
    return {"kind": "AdmissionReview", "apiVersion": review["apiVersion"], "response": response}


def converted(review, how):
    wanted, objects = review["request"]["desiredAPIVersion"], review["request"]["objects"]
    made = [{**one, "apiVersion": wanted} for one in objects]
    lie = how.get("lie") if wanted.endswith(how.get("only", "")) else None
    result = RESULTS.get(lie, {"status": "Success"})
    if lie in LIES:
        made = LIES[lie](made)
    response = {"uid": review["request"]["uid"], "result": result, "convertedObjects": made} | REVIEWS.get(lie, {})
    return {"kind": "ConversionReview", "apiVersion": review["apiVersion"], "response": response} | (how.get("review", {}) if wanted.endswith(how.get("only", "")) else {})
