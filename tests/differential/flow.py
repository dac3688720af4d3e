"""The rig of flow control: flow schemas with generated rules, and requests of generated users, whose answers name their schema and level.

Each seed has schemas of its own between the suggested ones, of which some name a level that there is not. Most requests are refused in the end: they are
classified before anybody asks whether they may.
"""
import json
import random

import api

BATCH = 20
FLOW = "/apis/flowcontrol.apiserver.k8s.io/v1"
HEADERS = ("X-Kubernetes-Pf-Flowschema-Uid", "X-Kubernetes-Pf-Prioritylevel-Uid")
USERS = ["ann", "bob", "system:kube-scheduler", "system:kube-controller-manager", "system:node:n1", "system:serviceaccount:kube-system:x", "system:serviceaccount:kube-system:y", "system:serviceaccount:a:x",
         "system:serviceaccount:kube-systemx:x", "system:serviceaccount:a:y", "system:apiserver", "admin"]
GROUPS = ["g", "h", "system:nodes", "system:serviceaccounts", "system:serviceaccounts:a", "system:masters", "system:unauthenticated"]
RESOURCES = [("", "pods"), ("", "nodes"), ("", "configmaps"), ("apps", "deployments"), ("coordination.k8s.io", "leases"), ("", "services"), ("batch", "jobs"), ("example.org", "things")]
SUBRESOURCES = ["status", "scale", "eviction", "token"]
VERBS = ["get", "list", "watch", "create", "update", "patch", "delete", "deletecollection"]
URLS = ["/healthz", "/healthz/etcd", "/livez", "/readyz/ping", "/version", "/metrics", "/api", "/apis/apps", "/openapi/v2", "/nothing", "/nothing/more", "/logs/x"]
names = {}


def fixtures():
    return []


def certificates():
    return {"boss": ("boss", ["system:masters"])}


def some(r, values, most=3):
    return r.sample(values, r.randint(1, min(most, len(values))))


def subject(r):
    return r.choice([
        {"kind": "User", "user": {"name": r.choice([*USERS, "*"])}},
        {"kind": "Group", "group": {"name": r.choice([*GROUPS, "system:authenticated"])}},
        {"kind": "ServiceAccount", "serviceAccount": {"namespace": r.choice(["kube-system", "a"]), "name": r.choice(["x", "y", "*"])}},
    ])


def rule(r):
    made = {"subjects": [subject(r) for _ in range(r.randint(1, 3))]}
    if r.random() < 0.8:
        made["resourceRules"] = []
        for _ in range(r.randint(1, 2)):
            plurals = [plural for _, plural in RESOURCES] + [f"{plural}/{part}" for _, plural in RESOURCES for part in SUBRESOURCES]
            cluster = r.random() < 0.5
            one = {"verbs": r.choice([["*"], some(r, VERBS)]), "apiGroups": r.choice([["*"], some(r, ["", "apps", "coordination.k8s.io", "example.org"])]), "resources": r.choice([["*"], some(r, plurals, 6)]),
                   "namespaces": r.choice([["*"], some(r, ["a", "b", "kube-system"])]), "clusterScope": cluster}
            if cluster and r.random() < 0.3:
                del one["namespaces"]
            made["resourceRules"].append(one)
    if "resourceRules" not in made or r.random() < 0.5:
        made["nonResourceRules"] = [{"verbs": r.choice([["*"], ["get"], ["get", "create"]]), "nonResourceURLs": r.choice([["*"], some(r, [*URLS, "/healthz/*", "/apis/*", "/nothing/*"])])}]
    return made


def world(seed):
    r = random.Random(f"{seed} flow")
    made = []
    level = {"metadata": {"name": f"level-{seed}"}, "spec": {"type": "Limited", "limited": {"nominalConcurrencyShares": r.choice([0, 1, 10]), "limitResponse": r.choice([
        {"type": "Reject"}, {"type": "Queue", "queuing": {"queues": r.choice([1, 16, 64]), "handSize": 1, "queueLengthLimit": 50}}])}}}
    # a request must not be refused for want of seats
    level["spec"]["limited"]["nominalConcurrencyShares"] = r.choice([5, 10])
    made.append({"path": f"{FLOW}/prioritylevelconfigurations", "body": level})
    for n in range(r.randint(1, 3)):
        to = r.choice([f"level-{seed}", f"level-{seed}", "system", "exempt", f"none-{seed}"])
        spec = {"priorityLevelConfiguration": {"name": to}, "matchingPrecedence": r.choice([2, 50, 150, 450, 850, 950, 9500, 10000, r.randint(2, 9999)]), "rules": [rule(r) for _ in range(r.randint(1, 2))]}
        if r.random() < 0.6:
            spec["distinguisherMethod"] = {"type": r.choice(["ByUser", "ByNamespace"])}
        made.append({"path": f"{FLOW}/flowschemas", "body": {"metadata": {"name": f"schema-{seed}-{n}"}, "spec": spec}})
    return made


def is_needed(one):
    return False


def asked(r):
    headers = {"Impersonate-User": r.choice(USERS)}
    if r.random() < 0.6:
        headers["Impersonate-Group"] = some(r, GROUPS, 2)
    if r.random() < 0.25:
        return {"method": r.choice(["GET", "GET", "POST"]), "path": r.choice(URLS), "headers": headers}
    group, plural = r.choice(RESOURCES)
    path = f"/apis/{group}/v1" if group else "/api/v1"
    if r.random() < 0.6:
        path += f"/namespaces/{r.choice(['a', 'b', 'kube-system'])}"
    path += f"/{plural}"
    if r.random() < 0.5:
        path += "/x"
        if r.random() < 0.4:
            path += "/" + r.choice(SUBRESOURCES)
    method = r.choice(["GET", "GET", "POST", "PUT", "PATCH", "DELETE"])
    query = []
    if method == "GET" and r.random() < 0.3:
        query = ["watch=1", "timeoutSeconds=1", "resourceVersion=1"]
    # nobody may do anything for good
    if method != "GET":
        query = ["dryRun=All"]
    body = {"metadata": {"name": "x"}} if method in ("POST", "PUT", "PATCH") else None
    if method == "PATCH":
        headers["Content-Type"] = "application/merge-patch+json"
    return {"method": method, "path": path + ("?" + "&".join(query) if query else ""), "headers": headers, "body": body}


def questions(seed):
    r = random.Random(f"{seed} flow questions")
    made = [{"as": "boss", "show": HEADERS, **asked(r)} for _ in range(25)]
    # a tape must know what its uids stand for
    brief = {"headers": {"Accept": "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"}, "names": True}
    made = [{**one, **brief} for one in seen([seed])] + made
    for one in made[2:]:
        if r.random() < 0.05:
            one["as"], one["headers"] = None, {}
    for one in world(seed):
        made.append({"method": "GET", "path": f"{one['path']}/{one['body']['metadata']['name']}", "as": "boss"})
    fixed = ["flowschemas/exempt", "flowschemas/catch-all", "prioritylevelconfigurations/exempt", "prioritylevelconfigurations/workload-low", "flowschemas/system-nodes", "flowschemas/probes", "flowschemas/global-default", "prioritylevelconfigurations/catch-all"]
    made.append({"method": "GET", "path": f"{FLOW}/{fixed[seed % len(fixed)]}", "as": "boss"})
    return made


def note(answer):
    for item in answer["body"]["items"]:
        names[item["metadata"]["uid"]] = item["metadata"]["name"]


def seen(seeds):
    return [{"method": "GET", "path": f"{FLOW}/{plural}", "as": "boss"} for plural in ("flowschemas", "prioritylevelconfigurations")]


def is_seen(answers):
    """Every schema knows whether its level is there; the names of all are noted."""
    for answer in answers:
        note(answer)
    schemas = answers[0]["body"]["items"]
    levels = {item["metadata"]["name"] for item in answers[1]["body"]["items"]}

    def told(one):
        status = {c["type"]: c["status"] for c in (one.get("status") or {}).get("conditions") or []}
        return status.get("Dangling") == str(one["spec"]["priorityLevelConfiguration"]["name"] not in levels)
    return len(schemas) >= 11 and all(told(one) for one in schemas)


def normal(question, answer):
    if question.get("names"):
        note(answer)
        return {}
    if "show" in question:
        return {"class": [names.get(uid, uid) for uid in answer.get("shown", [])]}
    made = api.normal(question, answer, {}, "")
    # by whom these were made is no matter of flow control
    return made


def kind(question, ours, theirs):
    if "show" in question:
        return f"{question['method']}: class {ours['class']} not {theirs['class']}"
    for path, how in api.difference(ours, theirs):
        return f"object {question['path'].split('/')[4]}: {'.'.join(path)} {how}"
    return "object"
