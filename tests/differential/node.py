"""The node rig: pods on upstream's node (kubelet with containerd) and on ours. Scripts are pods.py's, node_worker.py plays them.

At each point of rest it compares what the pods' status says, the events about them, what the API says that their containers wrote, and what those told
of themselves. What is chance (ids, addresses, times) is replaced by what it stands for. A difference counts when it is seen twice.
"""
import hashlib
import json
import re
from collections import defaultdict
from pathlib import Path

import control_plane
import driver
import node_images
from pods import IMAGE, script  # noqa: F401 (script is the driver's)

CLUSTER, WORKER = "node", "node_worker.py"
BATCH, SHRINK = 100, 40
TIME = re.compile(r"\b20\d\d-\d\d-\d\d[T ]\d\d:\d\d:\d\d(?:\.\d+)?(?:Z| [+-]\d{4} UTC|[+-]\d\d:\d\d)?")
UID = re.compile(r"\b[0-9a-f]{8}[-_][0-9a-f]{4}[-_][0-9a-f]{4}[-_][0-9a-f]{4}[-_][0-9a-f]{12}\b")
DURATION = re.compile(r"\b(?:\d+h)?(?:\d+m(?!s))?\d+(?:\.\d+)?(?:ms|s|µs)\b")
# seconds that one side may take longer for a deletion
LONGER = 4
digest = None


def prepare(folder, programs):
    """The images; seeds have no end."""
    global digest
    digest = node_images.archive(folder / "images.tar", Path(programs) / "teller")
    return 10 ** 9


def fixtures():
    return []


def certificates():
    return {}


def named(script, number):
    digits = "0123456789abcdefghijklmnopqrstuvwxyz"
    text = "".join(digits[number // 36 ** i % 36] for i in range(3))
    names = {"{ns}": f"nsq{text}", "{id}": f"idq{text}"}
    made = json.dumps(script).replace("@DIGEST", f"@{digest}")
    for place, name in names.items():
        made = made.replace(place, name)
    steps = json.loads(made)
    steps[0].update(namespace=names["{ns}"], id=names["{id}"])
    return steps, names


class Masks:
    """What texts of one side stand for."""

    def __init__(self, names, answer):
        self.names = {name: place for place, name in names.items()}
        self.folder = answer.get("folder", "/none")
        self.spaces = {inode: f"the node's {name}" for inode, name in answer.get("namespaces", {}).items()}

    def of(self, text):
        for name, place in self.names.items():
            text = text.replace(name, place)
        text = text.replace(self.folder + "/data/agent/kubelet", "<kubelet>").replace(self.folder + "/kubelet", "<kubelet>")
        text = UID.sub("<uid>", text)
        text = re.sub(r"\.\.\d{4}_\d\d_\d\d_\d\d_\d\d_\d\d\.\d+", "..<time>", text)
        text = TIME.sub("<time>", text)
        text = re.sub(r"\b(?:containerd|skiff|cri-o)://[0-9a-f]{64}", "<container>", text)
        text = re.sub(r"(?<!sha256:)\b[0-9a-f]{64}\b", "<id>", text)
        text = re.sub(r"\([0-9a-f]{32}\)", "(<uid>)", text)
        text = re.sub(r"(?<![\d.])10\.244\.\d+\.\d+", "<pod ip>", re.sub(r"(?<![\d.])10\.96\.(?!0\.1\b|0\.10\b)\d+\.\d+", "<service ip>", text))
        text = re.sub(r"\bfe80::[0-9a-f:]+", "<link local>", text)
        text = re.sub(r"/[\w./-]*?/kubepods", "<cgroups>/kubepods", text)
        text = re.sub(r"\b(kube-api-access-)[bcdfghjklmnpqrstvwxz2456789]{5}\b", r"\1*", text)
        text = re.sub(r" (?:grpc-go|tonic)/[\d.]+", " <client>", text)
        text = re.sub(r"(?<=<pod ip>:)\d{5}\b|(?<=127\.0\.0\.1:)\d{5}(?=->)", "<port>", text)
        if re.fullmatch(r"[a-z]+:\[\d+\]", text):
            # namespaces of a pod are told apart by the order in which they are seen
            kind = text.split(":")[0]
            return self.spaces.setdefault(text, f"{kind} {sum(one.startswith(kind + ' ') for one in self.spaces.values())}")
        return text

    def tree(self, value):
        if isinstance(value, dict):
            return {self.of(key): self.tree(one) for key, one in value.items() if key not in ("managedFields", "resourceVersion")}
        if isinstance(value, list):
            return [self.tree(one) for one in value]
        return self.of(value) if isinstance(value, str) else value


def shortened(text):
    return text if len(text) < 300 else f"{text[:60]}... {len(text)} letters {hashlib.sha1(text.encode()).hexdigest()[:8]}"


def message(text):
    """Of an event or a state: times that things took are chance."""
    text = re.sub(r"used: \d+(?=, capacity)", "used: <others too>", text)
    text = re.sub(r"(?<=storage, requested: )(\d+)(, used: .*, capacity: )\d+", r"\1\2<of the disk>", text)
    # runtimes name themselves and their steps
    text = text.replace("failed to create containerd container: ", "")
    text = re.sub(r"failed to create containerd task: .*?(?=exec: )|failed to start container \"<id>\": ", "<runtime>: ", text)
    text = re.sub(r'^Back-off pulling image "[^"]*": ErrImagePull: ', "", text)
    text = re.sub("(?<=waiting to start: )(?:CreateContainer(?:Config)?Error|PodInitializing|ErrImageNeverPull)", "ContainerCreating", text)
    text = re.sub("trying and failing to pull image|image can't be pulled", "<no image>", text)
    if "pulled image" in text:
        text = re.sub(r" in .* \(.* including waiting\)", " in <duration> (<duration> including waiting)", text)
    return re.sub(r"back-off \S+ restarting", "back-off <duration> restarting", text)


def written(text, masks):
    """What a container wrote: its lines, and by what they are about those that told something."""
    lines, told = [], defaultdict(list)
    parts = text.split("\n")
    for at, line in enumerate(parts):
        try:
            one = json.loads(line) if line.startswith('{"value"') else None
        except ValueError:
            one = None
        if one is None:
            # a last line without an end is another one than with it
            if line or at < len(parts) - 1:
                lines.append(shortened(message(masks.of(line))) + ("" if at < len(parts) - 1 else "<no end>"))
            continue
        what, value = masks.of(one["what"]), one["value"]
        lines.append(f"<{what}>")
        told[what].append(masks.tree(seen(what, value)))
    return lines, told


def seen(what, value):
    """What a container told, without what is chance."""
    if what == "mounts":
        for path, mount in value.items():
            mount["root"] = re.sub(r"^/.*/sandboxes/", "<sandboxes>/", mount["root"])
            mount["root"] = re.sub(r"(containers/\w+/)[0-9a-f]+$", r"\1<run>", mount["root"])
            if mount["type"] == "overlay":
                mount["super"] = [one.split("=")[0] for one in mount["super"]]
            if mount["type"] in ("ext4", "xfs", "btrfs"):
                # which of the machine's folders it is: what tells is at its end
                mount["root"] = re.sub(r"^.*?/(?=(volumes|volume-subpaths|containers|etc-hosts|plugins)\b)", "", mount["root"])
        return value
    if what == "ids":
        # others are chance where processes are shared
        return {**value, "pid": value["pid"] == 1, "session": value["session"] == 1}
    if what == "network" and "node0" in value:
        return "the node's"
    if what == "cgroup":
        return {**value, "of": sorted(value["of"]), "devices/devices.list": dict.fromkeys(value.get("devices/devices.list", []), True)}
    return value


def state(value):
    def one(members):
        if members.get("reason") == "ImagePullBackOff":
            # when it is which depends on when the kubelet looks again
            members["reason"] = "ErrImagePull"
        if "restartCount" in members and (members["state"].get("waiting") or {}).get("reason") == "CrashLoopBackOff" and "terminated" in members["lastState"]:
            # that it waits is said when the kubelet looks again
            members.update(state=members["lastState"], lastState={})
        elif "restartCount" in members and "terminated" in members["state"]:
            members["lastState"] = {}
        if members.get("reason") in ("CreateContainerConfigError", "CreateContainerError", "ErrImageNeverPull"):
            # so is what kept it from being made, which an event tells at once
            members = {"reason": "ContainerCreating"}
        if members.get("reason") == "PodInitializing":
            members["reason"] = "ContainerCreating"
        if members.get("memory") == "9007199254740988Ki":
            # upstream's reading of no limit
            del members["memory"]
        return {key: message(part) if key == "message" and isinstance(part, str) else part for key, part in members.items() if not (key == "limits" and part == {})}
    return json.loads(json.dumps(value), object_hook=one)


def pod(one, masks):
    meta = one["metadata"]
    status = {**one["status"], "conditions": sorted(one["status"].get("conditions") or [], key=lambda c: c["type"])}
    made = {"status": status, "meta": {key: meta.get(key) for key in ("labels", "annotations", "deletionGracePeriodSeconds", "finalizers", "ownerReferences", "generation")}}
    # whether a static pod's manifest is the same is told by a digest
    for key in ("kubernetes.io/config.hash", "kubernetes.io/config.mirror"):
        if (meta.get("annotations") or {}).get(key):
            made["meta"]["annotations"] = {**made["meta"]["annotations"], key: "<digest>"}
    made["spec"] = one["spec"] if one["metadata"]["name"].startswith("s-") else None
    return masks.tree(state(made))


def normal(answer, first, names):
    """A step's answer as what is compared: {what: [objects]}."""
    masks, made = Masks(names, first), defaultdict(list)
    body = answer["body"] if isinstance(answer["body"], dict) else {}
    refusal = {key: body.get(key) for key in ("message", "reason")} if answer["code"] >= 400 else {}
    made["answer"] = [masks.tree({"code": answer["code"], **refusal})]
    for one in answer.get("pods", []):
        made["pod"].append(pod(one, masks))
    for one in answer.get("gone", []):
        made["gone"].append(pod(one, masks))
    for one in answer.get("events", []):
        if one["message"] in ("Error: ErrImagePull", "Error: ImagePullBackOff") or one["message"].startswith("Back-off pulling image"):
            continue
        about = {"type": one["type"], "message": shortened(message(masks.of(one["message"]))), "on": masks.of(one["involvedObject"].get("fieldPath", "")), "by": (one.get("source") or {}).get("component"), "reporter": one.get("reportingComponent"), "kind": one["involvedObject"]["kind"]}
        about = {key: value for key, value in about.items() if value}
        if about not in made[f"event {one['reason']}"]:
            made[f"event {one['reason']}"].append(about)
    for kind, logs in (("log", answer.get("logs", {})), ("followed", {name: [200, text] for name, text in answer.get("followed", {}).items()})):
        for name, (code, text) in logs.items():
            lines, told = written(text or "", masks)
            made[f"{kind} {name}"] = [{"code": code, "lines": lines}]
            if kind == "log":
                for what, values in told.items():
                    made[f"told {name}: {what}"] = values
    return made


def asked(answer, names, first):
    """An answer to a question about a log."""
    body = answer["body"]
    if isinstance(body, dict):
        body = body.get("message")
    lines, told = written(body or "", Masks(names, first))
    return {"answer": [{"code": answer["code"], "lines": lines}]}


def masked(value):
    """A value as the name of a group has it: of what has parts only that it is there."""
    if isinstance(value, (dict, list)):
        return ("an object" if isinstance(value, dict) else "a list") if value else "empty"
    return control_plane.masked(re.sub(r"sha256:[0-9a-f]{64}", "<digest>", value) if isinstance(value, str) else value)


def kinds(key, ours, theirs):
    """The groups that a difference belongs to."""
    what = re.sub(r" (?:[cdijs]|x\d)(?= |:|$)", "", key)
    what = re.sub(r"(tree|try|cat|write) .*", r"\1", what)
    ours, theirs = list(ours), list(theirs)
    while ours and theirs:
        one, other = min(((a, b) for a in ours for b in theirs), key=lambda pair: len(list(control_plane.paths(*pair))))
        ours.remove(one)
        theirs.remove(other)
        for path, a, b in control_plane.paths(one, other):
            if all(isinstance(x, list) and all(isinstance(y, str) for y in x) for x in (a, b)) and not what.startswith(("log", "followed")):
                a, b = (" ".join(sorted(set(x) - set(y))) for x, y in ((a, b), (b, a)))
            yield re.sub(r"\d+", "N", f"{what}: {'.'.join(path)}") + f": {masked(a)} not {masked(b)}"
    for left, word in ((ours, "too much"), (theirs, "missing")):
        for one in left:
            yield f"{what}: {word}" + (f": {masked(one.get('message', ''))}" if isinstance(one, dict) and key.startswith("event") else "")


class Runner(control_plane.Runner):
    """Plays the scripts that start the kubelet again by themselves, and those that differ twice."""

    def compare(self, scripts):
        again = [number for number, script in enumerate(scripts) if any(step["method"] == "RESTART" for step in script)]
        plain = [number for number in range(len(scripts)) if number not in again]
        results = [None] * len(scripts)
        for chosen in (plain, again):
            if chosen:
                told = [[{**scripts[number][0], "together": len(chosen)}, *scripts[number][1:]] for number in chosen]
                for number, one in zip(chosen, super().compare(told)):
                    results[number] = one
        return results

    def first(self, script, made, ours, theirs):
        for side, answers in (("skiff", ours), ("upstream", theirs)):
            if answers[0]["code"] < 0:
                kind = f"the rig: {side}: {answers[0]['body']}"
                return {"script": script, "question": script[-1], "step": 0, "kinds": [kind], "at": {kind: 10 ** 6}, "shown": {kind: {"skiff": ours[0]["body"], "upstream": theirs[0]["body"]}}}
        groups, shown = {}, {}

        def note(kind, step, pair):
            if kind not in groups:
                groups[kind] = step["n"]
                shown[kind] = {"skiff": pair[0], "upstream": pair[1]}
        for step, our, their in zip(script, ours, theirs):
            if step.get("compared"):
                a, b = asked(our, made[1], ours[0]), asked(their, made[1], theirs[0])
                if "unable to retrieve container logs" in json.dumps([a, b]):
                    continue
            elif "rested" in our:
                a, b = normal(our, ours[0], made[1]), normal(their, theirs[0], made[1])
                for key in {*a, *b}:
                    if key.startswith(("log ", "told ")) and "unable to retrieve container logs" in json.dumps([a.get(key.split(":")[0].replace("told", "log")), b.get(key.split(":")[0].replace("told", "log"))]):
                        # containers that ended are cleaned away when the kubelet likes
                        a.pop(key, None), b.pop(key, None)
                if our.get("took") and their.get("took") and abs(our["took"] - their["took"]) > LONGER:
                    note("deletion: takes " + ("longer" if our["took"] > their["took"] else "shorter"), step, (our["took"], their["took"]))
            else:
                continue
            for key, pair in control_plane.differences(a, b, [{}]).items():
                for kind in kinds(key, *pair):
                    note(kind if not step.get("compared") else "query " + kind, step, pair)
        if not groups:
            return None
        return {"script": script, "question": script[-1], "step": script[-1]["n"], "kinds": sorted(groups), "at": groups, "shown": shown, "family": script[0].get("family")}

    def seeds(self, seeds, found):
        scripts = {seed: self.rig.script(seed) for seed in seeds}
        once = {seed: one for seed, one in zip(seeds, self.compare([scripts[seed] for seed in seeds])) if one}
        twice = dict(zip(once, self.compare([scripts[seed] for seed in once])))
        for seed, one in once.items():
            # what is not seen again is chance
            for kind in set(one["kinds"]) & set((twice[seed] or {"kinds": []})["kinds"]):
                found[kind].append({"seed": seed, **one, "kind": kind, **one["shown"][kind]})
        return len(seeds)

    def shrink_all(self, simplest, cases):
        """Leaves out of the pods of some groups what the difference does not need, all at once and then what was not needed together."""
        for case in simplest.values():
            case.update(script=[step for step in case["script"] if step["n"] <= case["at"][case["kind"]] or step["method"] == "FILE" and step["body"] is None])
        left = dict(simplest)
        for _ in range(3):
            tries = [(kind, path, without(case["script"], [path])) for kind, case in left.items() for path in parts(case["script"])]
            hits = defaultdict(list)
            for (kind, path, _), new in zip(tries, self.compare([script for _, _, script in tries])):
                if new and kind in new["kinds"]:
                    hits[kind].append(path)
            left = {kind: case for kind, case in left.items() if hits[kind]}
            if not left:
                break
            whole = {kind: without(case["script"], hits[kind]) for kind, case in left.items()}
            single = {kind: without(case["script"], hits[kind][:1]) for kind, case in left.items()}
            both = [(kind, script) for made in (single, whole) for kind, script in made.items()]
            for (kind, script), new in zip(both, self.compare([script for _, script in both])):
                if new and kind in new["kinds"]:
                    simplest[kind].update(new, kind=kind, **new["shown"][kind])
        for case in cases.values():
            case["shown"] = None

    def replay(self, case):
        one = self.compare([case["script"]])[0]
        return [{**one, "kind": kind, **one["shown"][kind]} for kind in one["kinds"]] if one else []


def parts(script):
    """Paths of what may be left out: steps, and members of pods and of their containers."""
    found = []
    for step in script[1:]:
        spec = (step["body"] or {}).get("spec") if isinstance(step["body"], dict) and step["method"] in ("POST", "FILE") else None
        if step.get("setup"):
            found.append((step["n"],))
        if not spec or "containers" not in spec:
            if not step.get("setup") and step["method"] not in ("POST", "FILE"):
                found.append((step["n"],))
            continue
        for key in spec:
            if key not in ("containers", "nodeName"):
                found.append((step["n"], key))
            if key in ("containers", "initContainers"):
                for at, one in enumerate(spec[key]):
                    if len(spec[key]) > 1:
                        found.append((step["n"], key, at))
                    found += [(step["n"], key, at, member) for member in one if member not in ("name", "image")]
    return found


def without(script, paths):
    made = json.loads(json.dumps(script))
    steps = {path[0] for path in paths if len(path) == 1}
    for path in sorted((path for path in paths if len(path) > 1), key=lambda path: [str(part) for part in path], reverse=True):
        step = next(one for one in made if one["n"] == path[0])
        value = step["body"]["spec"]
        for part in path[1:-1]:
            value = value[part] if isinstance(value, dict) and part in value or isinstance(value, list) and part < len(value) else {}
        if isinstance(value, list):
            if len(value) > 1 and path[-1] < len(value):
                del value[path[-1]]
        else:
            value.pop(path[-1], None)
    return [step for step in made if step["n"] not in steps]
