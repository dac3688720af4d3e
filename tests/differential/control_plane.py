"""The control plane rig: users' steps in a whole control plane with scripted nodes. Steps are steps.py's, kubelet.py plays them.

Where nothing changes any more the script's objects are compared: spec, status, conditions, owners, events, who was deleted, on which node. What is
generated (names, hashes, uids, addresses, times) is replaced by what it belongs to; nodes that are alike may be swapped.
"""
import hashlib
import itertools
import json
import re
from collections import Counter, defaultdict

import driver
from steps import script  # noqa: F401 (the driver's)

CLUSTER, WORKER, SLOTS = "control-plane", "kubelet.py", 24
BATCH = 240
TIME = re.compile(r"\b20\d\d-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?Z")
UID = re.compile(r"\b[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\b")
RANDOM = "[bcdfghjklmnpqrstvwxz2456789]{5}"
# how often these are seen depends on how fast the scheduler and the binder try again
REPEATED = {"FailedScheduling", "WaitForFirstConsumer", "FailedBinding", "ProvisioningFailed", "WaitForPodScheduled", "ExternalProvisioning", "ClaimNotFound", "FailedCreate", "FailedMount", "NoPods", "VolumeMismatch", "ExternalExpanding", "UnmanagedPods", "InvalidSchedule", "CalculateExpectedPodCountFailed", "Preempted", "NotTriggerScaleUp"}
# not in every order the same
# nodes of other scripts, which may be tainted just then, count here
FOREIGN = re.compile(r"\d+ node\(s\) (?:didn't match Pod's node affinity/selector|had untolerated taint\(s\)|were unschedulable)(?:, |(?=\.))|: (?=\. )")
# scripts in which it matters where a pod is
PLACED = {"scheduling", "daemon_set", "nodes"}
UNORDERED = {"conditions", "endpoints", "addresses", "notReadyAddresses", "finalizers", "taints", "ownerReferences", "ports", "managedFields"}


def fixtures():
    return []


def certificates():
    return {}


def named(script, number):
    digits = "0123456789abcdefghijklmnopqrstuvwxyz"
    text = "".join(digits[number // 36 ** i % 36] for i in range(4))
    # nothing that a random word or a digest has in it
    names = {"{ns}": f"ns{text}", "{id}": f"id{text}", "{slot}": f"s{number % SLOTS}"}
    made = json.dumps(script)
    for place, name in names.items():
        made = made.replace(place, name)
    steps = json.loads(made)
    steps[0].update(namespace=names["{ns}"], id=names["{id}"], slot=names["{slot}"])
    return steps, names


def digest(value):
    return hashlib.sha1(json.dumps(value, sort_keys=True).encode()).hexdigest()[:5]


class Names:
    """What names, hashes and uids of one side stand for."""

    def __init__(self, names, objects, gone, alone):
        self.alone = alone
        self.text, self.uids = {name: place for place, name in names.items()}, {}
        every = [(resource, one) for resource, one in [*objects, *gone] if resource != "events"]
        for resource, one in every:
            meta = one["metadata"]
            owner = next((ref for ref in meta.get("ownerReferences") or [] if ref.get("controller")), None)
            labels = meta.get("labels") or {}
            if resource == "replicasets" and "pod-template-hash" in labels:
                self.hash(meta, labels["pod-template-hash"], self.clean(one["spec"]["template"], names))
            elif resource == "controllerrevisions":
                self.hash(meta, labels.get("controller-revision-hash", "") or labels.get("controller.kubernetes.io/hash", ""), self.clean(one["data"], names))
            elif resource == "jobs" and owner and owner["kind"] == "CronJob":
                self.text[meta["name"]] = owner["name"] + "-@"
        # what is called after these; more than one level deep
        for resource, one in every:
            meta = one["metadata"]
            before = meta.get("generateName")
            if before and re.fullmatch(re.escape(before) + RANDOM, meta["name"]):
                self.text[meta["name"]] = next((known for name, known in self.text.items() if before == name + "-"), before[:-1]) + "-*"
            self.uids[meta["uid"]] = f"<uid {self.text.get(meta['name'], meta['name'])}>"
        whole = sorted(self.text, key=len, reverse=True)
        # a slot is no part of a random word
        self.pattern = re.compile("|".join(f"\\b{name}\\b" if self.text[name] == "{slot}" else re.escape(name) for name in whole))

    @staticmethod
    def clean(value, names):
        text = json.dumps(value, sort_keys=True)
        for place, name in names.items():
            text = text.replace(name, place)
        return re.sub(r'"pod-template-hash": "[^"]*"(, )?|"creationTimestamp": null(, )?', "", text)

    def hash(self, meta, hash_, content):
        made = "#" + digest(content)
        if hash_ and meta["name"].endswith("-" + hash_):
            self.text[meta["name"]] = meta["name"].removesuffix(hash_) + made
            self.text[hash_] = made

    def of(self, value):
        value = UID.sub(lambda m: self.uids.get(m[0], m[0] if m[0][0] * 8 == m[0][:8] else "<uid>"), value)
        value = self.pattern.sub(lambda m: self.text[m[0]], value)
        value = TIME.sub("<time>", value)
        if not self.alone and "nodes are available: " in value:
            # other scripts delete nodes
            value = re.sub(r"\b0/\d+ nodes|\d+ (?=Preemption is not helpful)", lambda m: "0/all nodes" if "/" in m[0] else "", FOREIGN.sub("", value))
        value = re.sub(r"\b10\.244\.\d+\.\d+", "<pod ip>", re.sub(r"\b10\.96\.\d+\.\d+", "<service ip>", value))
        # pods that were refused too
        return re.sub(f"\\b(kube-api-access-|by-hand-|(?:d|w|e|r|j|k|ds|j-\\d+)-(?:#[0-9a-f]{{5}}-)?){RANDOM}\\b", r"\1*", value)


def tree(value, names, key=""):
    if isinstance(value, dict):
        made = {names.of(k): tree(v, names, k) for k, v in value.items() if k not in ("time", "resourceVersion", "selfLink")}
        for key in ("token", "ca.crt"):
            if len(made.get(key) or "") > 100:
                made[key] = f"<{key}>"
        return made
    if isinstance(value, list):
        made = [tree(one, names, key) for one in value]
        return sorted(made, key=lambda one: json.dumps(one, sort_keys=True)) if key in UNORDERED else made
    if isinstance(value, str):
        return names.of(value)
    if key in ("nodePort", "healthCheckNodePort"):
        return "<port>"
    return value


def event(one):
    if one["reason"] == "FailedScheduling":
        # what the scheduler said last is in the pod's condition; what it said on the way is chance
        one = {**one, "message": ""}
    made = {key: one.get(key) for key in ("reason", "message", "type", "action", "reportingComponent") if one.get(key)}
    made["on"] = {key: value for key, value in one["involvedObject"].items() if key in ("kind", "name", "fieldPath", "apiVersion")}
    made["source"] = one.get("source")
    if one.get("related"):
        made["related"] = f"{one['related'].get('kind')} {one['related'].get('name')}"
    if one["reason"] not in REPEATED:
        made["count"] = (one.get("series") or {}).get("count") or one.get("count")
    return made


def normal(answer, names, alone):
    """A step's answer as what is compared: {resource name: [objects]}."""
    known = Names(names, answer.get("objects", []), answer.get("gone", []), alone)
    made = defaultdict(list)
    waiting = {one["metadata"]["name"] for resource, one in answer.get("objects", []) if resource == "pods" and not one["spec"].get("nodeName")}
    body = answer["body"] if answer["code"] >= 400 and isinstance(answer["body"], dict) else {}
    made["answer"] = [{"code": answer["code"], "message": known.of(body.get("message", "")), "reason": body.get("reason"), "causes": tree((body.get("details") or {}).get("causes"), known), "rested": answer.get("rested")}]
    for resource, one in answer.get("objects", []):
        meta = one["metadata"]
        if resource == "events":
            if one["reason"] == "FailedScheduling" and one["involvedObject"]["name"] not in waiting or "Operation cannot be fulfilled" in one["message"]:
                continue
            if one["involvedObject"]["kind"] == "Node" and one["reason"] in ("RegisteredNode", "RemovingNode", "CIDRAssignmentFailed"):
                continue
            one = event(one)
            told = made[f"event of {one['on']['kind']} {known.of(one['on'].get('name', ''))}: {one['reason']}"]
            one = tree(one, known)
            if one["reason"] not in REPEATED or one not in told:
                told.append(one)
            continue
        if resource == "nodes":
            one = {"metadata": {"labels": meta.get("labels"), "annotations": meta.get("annotations"), "deleted": "deletionTimestamp" in meta}, "spec": {k: v for k, v in one["spec"].items() if "podCIDR" not in k},
                   "conditions": [(c["type"], c["status"], c["reason"]) for c in one["status"].get("conditions", [])]}
        made[f"{resource} {known.of(meta['name'])}"].append(tree(one, known))
    return made


def placeless(objects):
    """What is compared where nothing tells the nodes from each other: which of them a later pod gets is chance."""
    def without(ones):
        text = re.sub(r"\{slot\}-n\d", "NODE", json.dumps(ones))
        return json.loads(re.sub(r'("zone": |topology.kubernetes.io/zone": |"forZones": \[\{"name": )"[abc]"', r'\1"<zone>"', text))
    return {key: ones if key.startswith("nodes ") else without(ones) for key, ones in objects.items()}


def swaps(steps):
    """The ways in which nodes may be swapped; where no step tells nodes from each other all may, with their zones."""
    text = json.dumps(steps[1:])
    if re.search(r"\{slot\}-n|\"node\":|\"n1\"", text):
        return [{}]
    alike = ["n1", "n2"] if has_zones(text) else ["n1", "n2", "n3"]
    return [dict(zip(alike, other)) for other in itertools.permutations(alike)]


def has_zones(text):
    return re.search(r"zone|Prefer|\{slot\}-n|\"node\":|\"n1\"", text)


def swapped(value, swap):
    def other(text):
        return re.sub(r"\{slot\}-(n\d)", lambda m: "{slot}-" + swap.get(m[1], m[1]), text)
    return {key: ones if key.startswith("nodes ") else json.loads(other(json.dumps(ones))) for key, ones in value.items()}


def resorted(value):
    if isinstance(value, dict):
        return {k: sorted((resorted(one) for one in v), key=lambda one: json.dumps(one, sort_keys=True)) if k in UNORDERED and isinstance(v, list) else resorted(v) for k, v in value.items()}
    return [resorted(one) for one in value] if isinstance(value, list) else value


def differences(ours, theirs, ways):
    """What is only ours, what only theirs, with the swap of nodes that leaves the least."""
    best = None
    theirs = {key: Counter(json.dumps(resorted(one), sort_keys=True) for one in ones) for key, ones in theirs.items()}
    for swap in ways:
        mine = {key: Counter(json.dumps(resorted(one), sort_keys=True) for one in ones) for key, ones in swapped(ours, swap).items()}
        left = {key: (list((mine.get(key, Counter()) - theirs.get(key, Counter())).elements()), list((theirs.get(key, Counter()) - mine.get(key, Counter())).elements())) for key in {**mine, **theirs}}
        left = {key: tuple([json.loads(one) for one in side] for side in pair) for key, pair in left.items() if pair != ([], [])}
        size = sum(len(list(kinds(key, *pair))) for key, pair in left.items()) if len(ways) > 1 else 0
        if best is None or size < best[0]:
            best = size, left
    return best[1]


def paths(ours, theirs, path=()):
    if isinstance(ours, dict) and isinstance(theirs, dict):
        for key in sorted({**ours, **theirs}):
            if ours.get(key) != theirs.get(key):
                yield from paths(ours.get(key), theirs.get(key), (*path, key))
    elif isinstance(ours, list) and isinstance(theirs, list) and all(isinstance(one, dict) and "type" in one for one in ours + theirs) and path[-1:] == ("conditions",):
        yield from paths({one["type"]: one for one in ours}, {one["type"]: one for one in theirs}, path)
    elif isinstance(ours, list) and isinstance(theirs, list) and path[-1:] in (("endpoints",), ("addresses",)) and all("targetRef" in one for one in ours + theirs if isinstance(one, dict)) and isinstance((ours + theirs + [""])[0], dict):
        yield from paths(*({one["targetRef"]["name"]: one for one in ones} for ones in (ours, theirs)), path)
    elif isinstance(ours, list) and isinstance(theirs, list) and len(ours) == len(theirs):
        for one, other in zip(ours, theirs):
            if one != other:
                yield from paths(one, other, (*path, "[]"))
    else:
        yield path, ours, theirs


def masked(value):
    if value is None or isinstance(value, (bool, int)):
        return "nothing" if value is None else "number" if not isinstance(value, bool) else str(value)
    text = value if isinstance(value, str) else json.dumps(value, sort_keys=True)
    return re.sub(r"\d+", "N", re.sub(r"\{slot\}-n\d", "NODE", re.sub(r"#[0-9a-f]{5}", "#", text)))[:90]


def kinds(key, ours, theirs):
    """The groups that a difference of one name's objects belongs to."""
    what = re.sub(r"#[0-9a-f]{5}", "#", key)
    what = what if key.startswith("event") or key == "answer" else what.split(" ")[0]
    what = re.sub(r"^event of (\w+) [^:]*:", r"event of \1:", what)
    ours, theirs = list(ours), list(theirs)
    while ours and theirs:
        one, other = min(((a, b) for a in ours for b in theirs), key=lambda pair: len(list(paths(*pair))))
        ours.remove(one)
        theirs.remove(other)
        for path, a, b in paths(one, other):
            yield f"{what}: {'.'.join(path)}: {masked(a)} not {masked(b)}"
    if ours:
        yield f"{what}: too much"
    if theirs:
        yield f"{what}: missing"


class Runner(driver.Scripts):
    """Compares all that is stored after each step, and shrinks all groups together, as a try is dear."""
    normal = staticmethod(normal)

    def first(self, script, made, ours, theirs):
        groups, shown = {}, {}
        if len(ours) != len(theirs) or ours[0]["code"] < 0 or theirs[0]["code"] < 0:
            raise RuntimeError(f"{[one['body'] for one in (ours[0], theirs[0]) if one['code'] < 0]}")
        before = set()
        for step, our, their in zip(script, ours, theirs):
            if "rested" not in our:
                continue
            a, b = (self.normal(one, made[1], script[0]["alone"]) for one in (our, their))
            if script[0]["family"] not in PLACED:
                a, b = (placeless(one) for one in (a, b))
            now = set()
            for key, pair in differences(a, b, swaps(script)).items():
                for kind in kinds(key, *pair):
                    now.add(kind)
                    if kind not in groups:
                        groups[kind] = step["n"]
                        shown[kind] = {"skiff": pair[0], "upstream": pair[1]}
            before |= now
        if not groups:
            return None
        return {"script": script, "question": script[-1], "step": script[-1]["n"], "kinds": sorted(groups), "at": groups, "shown": shown, "family": script[0].get("family")}

    def seeds(self, seeds, found):
        scripts = {seed: self.rig.script(seed) for seed in seeds}
        # those that need the cluster for themselves come last
        order = sorted(seeds, key=lambda seed: scripts[seed][0]["alone"])
        for seed, one in zip(order, self.compare([scripts[seed] for seed in order])):
            for kind in one["kinds"] if one else ():
                found[kind].append({"seed": seed, **one, "kind": kind, **one["shown"][kind]})
        return len(seeds)

    def shrink_all(self, simplest, cases):
        """Plays the scripts of some groups again up to where they differed, and leaves out steps as long as they still do."""
        if not simplest:
            return
        for case in simplest.values():
            case.update(script=[step for step in case["script"] if step["n"] <= case["at"][case["kind"]]], again=False)
        for turn in range(4):
            tries = []
            for kind, case in simplest.items():
                if turn == 0:
                    tries.append((kind, case["script"]))
                elif case["again"] and not case.get("smallest"):
                    tries += [(kind, [one for one in case["script"] if one is not step]) for step in case["script"][1:] if len(case["script"]) > 2][:BATCH]
            hit = set()
            for (kind, script), new in zip(tries, self.compare([script for _, script in tries])):
                if new and kind in new["kinds"] and kind not in hit:
                    hit.add(kind)
                    simplest[kind].update(new, kind=kind, **new["shown"][kind], again=True)
            for kind, case in simplest.items():
                case["smallest"] = case["again"] and turn > 0 and kind not in hit
        for case in cases.values():
            case["shown"] = None

    def replay(self, case):
        one = self.compare([case["script"]])[0]
        return [{**one, "kind": kind, **one["shown"][kind]} for kind in one["kinds"]] if one else []
