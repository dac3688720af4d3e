"""Plays scripts of pods on the node of its namespaces.

In and out as worker.py: a script a line. Its steps are requests, or FILE (a static pod's manifest: its text, or null to remove it) and RESTART (of the
kubelet, once all scripts that were sent together have come to it). After each step that is not `now` it waits until the script's pods have not changed for
a while and answers with them, their events, and all that their containers have written.
"""
import concurrent.futures
import contextlib
import http.client
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import kubelet
import node_images
import worker

AT_ONCE = 16
# seconds without a change
QUIET, QUIET_RESTARTED = 4, 8
LONGEST = 60
NODE = worker.folder.parent
HOST = Path("/run/rig")


def containers(pod):
    return [one for kind in ("initContainers", "containers", "ephemeralContainers") for one in pod["spec"].get(kind) or []]


def statuses(pod):
    return [one for kind in ("initContainerStatuses", "containerStatuses", "ephemeralContainerStatuses") for one in pod["status"].get(kind) or []]


def busy(pod, warned):
    """A reason to wait longer though nothing changes."""
    spec, status, meta = pod["spec"], pod["status"], pod["metadata"]
    ended = status.get("phase") in ("Failed", "Succeeded")
    if meta.get("deletionTimestamp"):
        return "is deleted"
    if ended or not spec.get("nodeName"):
        return None
    if 0 < spec.get("activeDeadlineSeconds", 99) < 20:
        return "has a deadline"
    if not statuses(pod):
        return None if warned else "has no status"
    for one in statuses(pod):
        reason = (one["state"].get("waiting") or {}).get("reason")
        if reason == "ContainerCreating" and not warned:
            return f"creates {one['name']}"
    # the next init container begins when the one before it has ended
    waits = [one for one in status.get("containerStatuses") or [] if (one["state"].get("waiting") or {}).get("reason") == "PodInitializing"]
    if waits and not warned and not any("waiting" in one["state"] and one["state"]["waiting"].get("reason") != "PodInitializing" or "running" in one["state"] for one in status.get("initContainerStatuses") or []):
        return "initializes"
    return None


class Restart:
    """Starts the kubelet again when all that were sent together have come to it."""

    def __init__(self):
        self.condition, self.come, self.turn, self.left = threading.Condition(), 0, 0, set()

    def meet(self, together, do):
        with self.condition:
            turn = self.turn
            self.come += 1
            if self.come >= together:
                do()
                self.come, self.turn = 0, turn + 1
                self.condition.notify_all()
            else:
                self.condition.wait_for(lambda: self.turn != turn, timeout=300)


def kubelets():
    """The processes that are a kubelet or have one, and their words."""
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            words = (entry / "cmdline").read_text().split("\0")[:-1]
            if words and (Path(words[0]).name == "kubelet" or Path(words[0]).name == "skiff" and words[1:2] == ["server"]):
                yield entry, words


def restart_kubelet():
    entry, words = next(kubelets())
    environment = dict(one.split("=", 1) for one in (entry / "environ").read_text().split("\0") if "=" in one)
    folder, log = os.readlink(entry / "cwd"), os.readlink(entry / "fd/1")
    groups = [line.split(":", 2)[1:] for line in (entry / "cgroup").read_text().splitlines()]
    procs = [path for kinds, group in groups for path in (Path("/sys/fs/cgroup", kinds.removeprefix("name="), group.strip("/"), "cgroup.procs"), Path("/sys/fs/cgroup", group.strip("/"), "cgroup.procs")) if path.exists()]
    os.kill(int(entry.name), signal.SIGKILL)

    def join():
        for path in procs:
            path.write_text(str(os.getpid()))
    end = time.monotonic() + 60
    while not is_healthy():
        if not any(True for _ in kubelets()):
            # one that was killed keeps its files for a moment: the next may not begin
            with open(log, "a") as out:
                subprocess.run(["setsid", "--fork", *words], cwd=folder, env=environment, stdin=subprocess.DEVNULL, stdout=out, stderr=out, preexec_fn=join)
        if time.monotonic() > end:
            raise RuntimeError("the kubelet did not come back")
        time.sleep(0.3)


def is_healthy():
    return kubelet.request("GET", "/api/v1/nodes/node/proxy/healthz")["code"] == 200


def is_ready():
    answer = kubelet.request("GET", "/api/v1/nodes/node")
    conditions = answer["body"]["status"].get("conditions", []) if answer["code"] == 200 else []
    return any(one["type"] == "Ready" and one["status"] == "True" for one in conditions)


class Follower(threading.Thread):
    """All that a container writes until it ends."""

    def __init__(self, path):
        super().__init__(daemon=True)
        self.path, self.text = path, b""
        self.start()

    def run(self):
        try:
            connection = worker.connect("admin")
            connection.request("GET", self.path)
            connection.sock.settimeout(40)
            response = connection.getresponse()
            while part := response.read1(65536):
                self.text += part
        except (OSError, http.client.HTTPException):
            pass


class Player:
    def __init__(self, cluster):
        self.cluster, self.restart = cluster, Restart()
        self.namespaces = {os.readlink(f"/proc/self/ns/{name}"): name for name in ("cgroup", "ipc", "mnt", "net", "pid", "user", "uts")}
        folder = NODE / "data/agent/pod-manifests"
        self.manifests = folder if (NODE / "data").exists() else NODE / "manifests"

    def of(self, namespace):
        with self.cluster.lock:
            found = [(resource, one) for (resource, ns, _), one in self.cluster.objects.items() if ns == namespace]
        return [one for resource, one in found if resource == "pods"], [one for resource, one in found if resource == "events"]

    def rest(self, namespace, quiet):
        begin = time.monotonic()
        while True:
            pods, events = self.of(namespace)
            warned = any(one["type"] == "Warning" for one in events)
            with self.cluster.lock:
                last = self.cluster.changed.get(namespace, 0)
            now = time.monotonic()
            why = next((why for pod in pods if (why := busy(pod, warned))), None)
            if now - max(begin, last) >= quiet and (not why or now - begin > LONGEST) or now - begin > 1.5 * LONGEST:
                return now - begin <= LONGEST
            time.sleep(0.1)

    def written(self, pods):
        """{pod/container: what the API says is its log}."""
        made = {}
        for pod in pods:
            meta = pod["metadata"]
            counts = {one["name"]: one.get("restartCount", 0) for one in statuses(pod)}
            for one in containers(pod) if pod["spec"].get("nodeName") else []:
                path = f"/api/v1/namespaces/{meta['namespace']}/pods/{meta['name']}/log?container={one['name']}"
                name = one["name"]
                made[name] = self.log(path)
                if counts.get(name):
                    made[name + " before"] = self.log(path + "&previous=true")
        return made

    @staticmethod
    def log(path):
        answer = kubelet.request("GET", path)
        body = answer["body"]
        return [answer["code"], body if isinstance(body, str) else json.dumps(body) if answer["code"] == 200 else body.get("message")]

    def host(self, id_):
        """What volumes of kind hostPath find."""
        folder = HOST / id_
        (folder / "dir").mkdir(parents=True)
        (folder / "dir/inside").write_text("inside\n")
        (folder / "file").write_text("a file\n")
        (folder / "link").symlink_to("dir")
        for path, mode in ((folder / "dir/inside", 0o640), (folder / "file", 0o600), (folder / "dir", 0o751)):
            path.chmod(mode)
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(str(folder / "socket"))
        listener.close()

    def ready(self, namespace):
        """What every pod needs of its namespace is made by controllers."""
        end = time.monotonic() + 30
        wanted = [f"/api/v1/namespaces/{namespace}/serviceaccounts/default", f"/api/v1/namespaces/{namespace}/configmaps/kube-root-ca.crt"]
        while not all(kubelet.request("GET", path)["code"] == 200 for path in wanted):
            if time.monotonic() > end:
                raise RuntimeError(f"{namespace} is not ready")
            time.sleep(0.05)

    def step(self, step, known):
        if step["method"] == "FILE":
            path = self.manifests / step["path"]
            if step["body"] is None:
                path.unlink(missing_ok=True)
            else:
                # as a whole at once
                part = NODE / step["path"]
                part.write_text(step["body"] if isinstance(step["body"], str) else json.dumps(step["body"]))
                part.rename(path)
            return {"code": 200, "body": None}
        return worker.ask(step, known)

    def play(self, script):
        steps = script["steps"]
        first = steps[0]
        namespace, id_ = first["namespace"], first["id"]
        self.host(id_)
        answers, known, readied = [], {}, False
        restarted = False
        try:
            for step in steps:
                followers, begin = {}, time.monotonic()
                if not step.get("setup") and not readied:
                    self.ready(namespace)
                    readied = True
                pods = self.of(namespace)[0]
                if step["method"] == "DELETE":
                    running = {one["name"] for pod in pods for one in statuses(pod) if "running" in one["state"]}
                    followers = {one["name"]: Follower(f"/api/v1/namespaces/{namespace}/pods/{pod['metadata']['name']}/log?container={one['name']}&follow=true") for pod in pods for one in containers(pod) if one["name"] in running}
                    time.sleep(0.3 if followers else 0)
                    begin = time.monotonic()
                if step["method"] == "RESTART":
                    restarted = True
                    self.restart.meet(first["together"], restart_kubelet)
                    answer = {"code": 200, "body": None}
                else:
                    answer = self.step(step, known)
                known[step["n"]] = answer
                answers.append({"code": answer["code"], "body": answer["body"]})
                if step.get("now") or step.get("setup"):
                    continue
                rested = self.rest(namespace, (QUIET_RESTARTED if step["method"] == "RESTART" else QUIET) + first["quiet"])
                pods, events = self.of(namespace)
                with self.cluster.lock:
                    gone = [one for resource, one in self.cluster.gone.get(namespace, []) if resource == "pods"]
                    took = self.cluster.changed.get(namespace, begin) - begin
                for follower in followers.values():
                    follower.join(0.5)
                answers[-1].update(rested=rested, pods=pods, events=events, gone=gone, logs=self.written(pods), followed={name: one.text.decode("utf-8", "replace") for name, one in followers.items()})
                if followers:
                    answers[-1]["took"] = took
            return answers
        finally:
            if any(step["method"] == "RESTART" for step in steps) and not restarted:
                self.restart.meet(first["together"], restart_kubelet)
            answers and answers[0].update(folder=str(NODE), namespaces=self.namespaces)
            self.clean(namespace, id_)

    def clean(self, namespace, id_):
        (self.manifests / f"{id_}.json").unlink(missing_ok=True)
        for pod in self.of(namespace)[0]:
            kubelet.request("DELETE", f"/api/v1/namespaces/{namespace}/pods/{pod['metadata']['name']}", {"gracePeriodSeconds": 1})
        kubelet.request("DELETE", f"/api/v1/namespaces/{namespace}", {})
        shutil.rmtree(HOST / id_, ignore_errors=True)
        with self.cluster.lock:
            self.cluster.gone.pop(namespace, None)


def main():
    cluster = kubelet.Cluster()
    player = None

    def play(line):
        script = json.loads(line)
        try:
            answers = player.play(script)
        except Exception as error:
            answers = [{"code": -1, "body": f"the worker: {error!r}"}]
        with worker.writing:
            print(json.dumps({"id": script["id"], "answers": answers}), flush=True)

    def tell(line):
        # the driver's own questions
        script = json.loads(line)
        answers = [worker.ask(step, {}) for step in script["steps"]]
        with worker.writing:
            print(json.dumps({"id": script["id"], "answers": answers}), flush=True)

    def begin():
        node_images.Odd(NODE.parent / "images.tar")
        for resource in ("pods", "events"):
            threading.Thread(target=cluster.watch, args=(resource,), daemon=True).start()
        end = time.monotonic() + 240
        while not is_ready():
            if time.monotonic() > end:
                raise RuntimeError("the node is not ready")
            time.sleep(0.2)

    # scripts that wait for each other must not wait for a thread
    with concurrent.futures.ThreadPoolExecutor(64) as pool, concurrent.futures.ThreadPoolExecutor(AT_ONCE) as few:
        for line in sys.stdin:
            if '"together"' not in line:
                tell(line)
                continue
            if not player:
                begin()
                player = Player(cluster)
            (pool if '"RESTART"' in line else few).submit(play, line)


if __name__ == "__main__":
    main()
