"""The rig of audit: scripts of the rigs api, webhooks and policies under one policy, compared event by event.

Each step names its request by an `Audit-ID` of its own; what is compared are the events of that name in the two logs. Steps that are answered
with different codes are left to the other rigs.
"""
import json
import random
import re
import time
from collections import Counter, defaultdict
from pathlib import Path

import api
import policies
import webhooks
from api import certificates  # noqa: F401 (the driver's)
from driver import Scripts

BATCH = 40
WORKER = webhooks.WORKER
POLICY = Path(__file__).parent / "audit_policy.yaml"
LAST = ("ResponseComplete", "Panic")
# of requests that change something: the level and the stages that our log has of them
ASKED = Counter()
PATIENCE = 10


def flags(server):
    return [f"--audit-policy-file={POLICY}", f"--audit-log-path={server.dir}/audit.log", "--audit-log-maxsize=0"]


def fixtures():
    return [*webhooks.fixtures(), *api.fixtures(), *policies.fixtures()]


def rig_of(seed):
    return (api, webhooks, policies)[seed % 3]


def script(seed):
    steps = rig_of(seed).script(seed)
    r = random.Random(f"{seed} audit")
    for step in steps:
        if step["method"] in ("REVIEWS", "SERVE") or step.get("setup") or step.get("after"):
            continue
        headers = dict(step.get("headers") or {}) | {"Audit-ID": f"{{id}}-{step['n']}"}
        if r.random() < 0.1:
            headers["User-Agent"] = r.choice(["one/1", "x" * 1100, ""])
        if r.random() < 0.1:
            headers["X-Forwarded-For"] = r.choice(["10.1.1.1", "10.1.1.1, 10.2.2.2", "x", "2001:db8::1"])
        if r.random() < 0.1:
            headers["Impersonate-User"] = r.choice(["joe", "system:serviceaccount:default:x", "system:node:n"])
            if r.random() < 0.5:
                # by which mode a user becomes another depends on what the same user did before, unless one mode alone can
                headers["Impersonate-Group"] = "g"
        if r.random() < 0.05:
            step["as"] = None
            if r.random() < 0.5:
                headers["Authorization"] = "Bearer nonsense"
        if r.random() < 0.1:
            tables = ["application/json;as=Table;v=v1;g=meta.k8s.io"] if step["method"] == "GET" else []
            headers["Accept"] = r.choice(["application/yaml", "application/vnd.kubernetes.protobuf", "x/y", *tables])
        step["headers"] = headers
    return steps


def named(steps, number):
    return webhooks.named(steps, number)


class Runner(Scripts):
    def __init__(self, rig, servers):
        super().__init__(rig, servers)
        self.theirs_side, self.ours_side = servers
        self.logs = {}

    def first(self, script, made, ours, theirs):
        for step, sent, our, their in zip(script, made[0], ours, theirs):
            name = (sent.get("headers") or {}).get("Audit-ID")
            # how often a step is asked again until something holds is a matter of luck
            if not name or "until" in step or "holds" in step or their["code"] <= 0 or their.get("body") == "not asked":
                continue
            text = json.dumps(made[0])
            # also of what is answered otherwise: a recording is for when that is mended
            b = self.events(self.theirs_side, name, step, made[1], text)
            if our["code"] != their["code"] or our.get("body") == "not asked":
                ASKED["answered otherwise"] += step["method"] != "GET"
                continue
            # what is answered differently is shown differently
            if webhooks.normal(step, our, made[1], text) != webhooks.normal(step, their, made[1], text):
                continue
            a = self.events(self.ours_side, name, step, made[1], text)
            if step["method"] != "GET":
                ASKED[" ".join([a[0]["level"], *(one["stage"] for one in a)]) if a else "nothing, as the policy has it" if not b else "nothing"] += 1
            if a != b and (groups := kinds(step, a, b)):
                return {"script": script, "step": step["n"], "question": step, "kinds": groups, "skiff": a, "upstream": b}
        return None

    def log(self, side):
        return self.logs.setdefault(side.name, Log(side.dir / "audit.log"))

    def events(self, side, name, step, names, asked):
        found = json.loads(json.dumps(side.found(name, lambda: self.log(side).of(name))))
        for one in found:
            for key in ("requestReceivedTimestamp", "stageTimestamp"):
                one.pop(key)
            # how long the parts of a slow request took
            annotations = {k: v for k, v in (one.get("annotations") or {}).items() if not k.startswith("apiserver.latency.k8s.io/")}
            one["annotations"] = placed(annotations)
            # revisions are the servers' own
            one["requestURI"] = re.sub(r"(?<=resourceVersion=)\d+", "<revision>", one["requestURI"])
            for column in (one.get("responseObject") or {}).get("columnDefinitions") or []:
                column["description"] = ""
        answer = {"code": 200, "body": {"items": found}, "warnings": [], "type": None, "location": None, "retry": None}
        return webhooks.normal({**step, "path": "/events"}, answer, names, asked)["body"]["items"]


def placed(annotations):
    """Annotations whose webhooks are counted among those of their event: upstream counts all that there are, also of other scripts."""
    place = re.compile(r"(?<=/)round_(\d+)_index_(\d+)$")
    known = sorted({(int(m[1]), int(m[2])) for key in annotations if (m := place.search(key))})
    rank = lambda m: f"round_{m[1]}_index_{sum(one[0] == int(m[1]) for one in known[:known.index((int(m[1]), int(m[2])))])}"
    return {place.sub(rank, key): value for key, value in annotations.items()}


def report():
    return "\n".join(["requests that change something, by level and stages in our log:", *(f"{count}\t{what}" for what, count in ASKED.most_common())])


class Log:
    """The events of a log, by the name of their request; read on as it grows."""

    def __init__(self, path):
        self.path, self.at, self.known, self.rest = path, 0, defaultdict(list), b""

    def read(self):
        if not self.path.exists():
            return
        with self.path.open("rb") as file:
            file.seek(self.at)
            text = self.rest + file.read()
            self.at = file.tell()
        *lines, self.rest = text.split(b"\n")
        for line in lines:
            event = json.loads(line)
            self.known[event["auditID"]].append(event)

    def of(self, name):
        """All events of a request. The last may be written after its answer; a request whose user nobody knows has one event, and some none."""
        end = time.monotonic() + PATIENCE
        seen = None
        while True:
            self.read()
            found = self.known[name]
            stages = [one["stage"] for one in found]
            complete = any(stage in LAST for stage in stages) or stages == ["ResponseStarted"]
            # what has no event after all others of its time has none
            if complete or (not found and seen is not None) or time.monotonic() > end:
                return self.known.pop(name, [])
            seen = len(found)
            time.sleep(0.05)


def kinds(step, ours, theirs):
    what = f"{step['method']}"
    if [one["stage"] for one in ours] != [one["stage"] for one in theirs]:
        stages = lambda side: ",".join(one["stage"] for one in side) or "nothing"
        return [f"{what}: stages {stages(ours)} not {stages(theirs)}"]
    made = []
    for our, their in zip(ours, theirs):
        for path, how in list(api.difference(our, their))[:3]:
            where = ".".join(path[:4])
            made.append(f"{what} {their['level']} {their['stage']}: {where} {how}")
    return sorted(set(made))
