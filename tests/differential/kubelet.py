"""Plays scripts in a whole control plane and is the kubelet of all its nodes.

In and out as worker.py: a script a line. Its steps are requests, or orders to the kubelet: {"kubelet": what, "labels" or "name": which pods,
"node": which node, ...}. After each step that is not `now` it waits until the script's objects have not changed for a while, and answers with them all.
What a container does is its image: rig/run, rig/unready, rig/exit-CODE, rig/missing, rig/slow (ends when told to), rig/failindex-INDEX-CODE.
A script has the nodes of one slot for itself; one that is `alone` changes nodes and runs when no other does.
"""
import concurrent.futures
import http.client
import json
import queue
import sys
import threading
import time

import worker

SLOTS = 24
# nodes of a slot: CPUs, memory, zone
NODES = {"n1": ("4", "8Gi", "a"), "n2": ("4", "8Gi", "a"), "n3": ("4", "8Gi", "b")}
WATCHED = {
    "/api/v1": ["namespaces", "nodes", "pods", "services", "endpoints", "configmaps", "secrets", "serviceaccounts", "persistentvolumeclaims", "persistentvolumes",
                "resourcequotas", "replicationcontrollers", "events"],
    "/apis/apps/v1": ["deployments", "replicasets", "statefulsets", "daemonsets", "controllerrevisions"],
    "/apis/batch/v1": ["jobs", "cronjobs"],
    "/apis/discovery.k8s.io/v1": ["endpointslices"],
    "/apis/policy/v1": ["poddisruptionbudgets"],
    "/apis/storage.k8s.io/v1": ["storageclasses"],
}
GROUP = {resource: group for group, resources in WATCHED.items() for resource in resources}
MERGE = {"Content-Type": "application/strategic-merge-patch+json"}
# seconds without a change; a pod that no node takes is tried again after some
QUIET, QUIET_UNSCHEDULED = 2.5, 7
# upstream's binder looks again at claims that have no volume
QUIET_UNBOUND = 17
LONGEST = 75


def now():
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


def since(text):
    """Seconds since a time of the API."""
    return time.time() - time.mktime(time.strptime(text, "%Y-%m-%dT%H:%M:%SZ")) + time.timezone


def request(method, path, body=None, headers=None):
    return worker.ask({"method": method, "path": path, "body": body, "headers": headers or {}}, {})


class Cluster:
    """What is stored, by watches of all that is compared."""

    def __init__(self):
        self.lock = threading.Lock()
        self.objects, self.gone, self.changed = {}, {}, {}
        self.pods = queue.Queue()

    def watch(self, resource):
        path, revision = f"{GROUP[resource]}/{resource}", "0"
        while True:
            connection = worker.connect("admin")
            connection.timeout = None
            try:
                connection.request("GET", f"{path}?watch=1&allowWatchBookmarks=true&timeoutSeconds=3600&resourceVersion={revision}")
                for line in connection.getresponse():
                    event = json.loads(line)
                    if event["type"] == "ERROR":
                        print(f"{path}: {event}", file=sys.stderr)
                        revision = "0"
                        break
                    revision = event["object"]["metadata"]["resourceVersion"]
                    if event["type"] != "BOOKMARK":
                        self.saw(resource, event["type"], event["object"])
            except (OSError, http.client.HTTPException, ValueError):
                time.sleep(0.2)

    def saw(self, resource, kind, object_):
        meta = object_["metadata"]
        key = resource, meta.get("namespace"), meta["name"]
        with self.lock:
            if kind == "DELETED":
                self.objects.pop(key, None)
                self.gone.setdefault(key[1], []).append([resource, object_])
            else:
                self.objects[key] = object_
            place = meta.get("namespace") or (meta.get("labels") or {}).get("set") or meta["name"]
            # an event that is told again is no change
            if resource != "events" or kind == "ADDED":
                self.changed[place] = time.monotonic()
        if resource == "pods" and (object_["spec"].get("nodeName") or object_["status"].get("nominatedNodeName")):
            self.pods.put((key[1], key[2]))

    def get(self, resource, namespace, name):
        with self.lock:
            return self.objects.get((resource, namespace, name))

    def of(self, namespace, slot, id_):
        """All objects of a script: in its namespace, of its slot's nodes, and those of the cluster that bear its name."""
        with self.lock:
            return [(resource, one) for (resource, ns, name), one in self.objects.items()
                    if ns == namespace or ns is None and (id_ in name or name == namespace or resource == "nodes" and (one["metadata"].get("labels") or {}).get("set") == slot)
                    or ns == "default" and resource == "events" and (id_ in one["involvedObject"]["name"] or one["involvedObject"]["name"].startswith(slot + "-"))]

    def last_change(self, namespace, slot, id_):
        with self.lock:
            return max((when for place, when in self.changed.items() if place in (namespace, slot) or id_ in place), default=0)


class Kubelet:
    """All nodes' kubelet."""

    def __init__(self, cluster):
        self.cluster = cluster
        self.address = 0
        self.ips, self.orders, self.silent, self.starts = {}, {}, set(), {}
        self.lock = threading.Lock()

    def node(self, slot, name):
        cpu, memory, zone = NODES[name]
        full = f"{slot}-{name}"
        labels = {"set": slot, "kubernetes.io/hostname": full, "kubernetes.io/os": "linux", "kubernetes.io/arch": "amd64", "topology.kubernetes.io/zone": zone, "node": name}
        capacity = {"cpu": cpu, "memory": memory, "pods": "20", "ephemeral-storage": "10Gi"}
        return {"metadata": {"name": full, "labels": labels}, "spec": {}, "status": {
            "capacity": capacity, "allocatable": capacity, "conditions": [self.ready(True)], "addresses": [{"type": "InternalIP", "address": "198.51.100.20"}],
            "nodeInfo": {key: "rig" for key in ("machineID", "systemUUID", "bootID", "kernelVersion", "osImage", "containerRuntimeVersion", "kubeletVersion", "kubeProxyVersion", "operatingSystem", "architecture")}}}

    @staticmethod
    def ready(ready):
        return {"type": "Ready", "status": "True" if ready else "False", "reason": "KubeletReady" if ready else "KubeletNotReady", "message": "", "lastHeartbeatTime": now(), "lastTransitionTime": now()}

    def register(self, slot, name):
        node = self.node(slot, name)
        answer = request("POST", "/api/v1/nodes", node)
        full = node["metadata"]["name"]
        if answer["code"] == 409:
            stored = request("GET", f"/api/v1/nodes/{full}")["body"]
            node["metadata"]["resourceVersion"] = stored["metadata"]["resourceVersion"]
            node["spec"] = {key: value for key, value in stored["spec"].items() if key.startswith("podCIDR")}
            request("PUT", f"/api/v1/nodes/{full}", node)
            request("PATCH", f"/api/v1/nodes/{full}/status", {"status": node["status"]}, MERGE)
        lease = {"metadata": {"name": full}, "spec": {"holderIdentity": full, "leaseDurationSeconds": 40, "renewTime": self.micro()}}
        request("POST", "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases", lease)

    @staticmethod
    def micro():
        return time.strftime("%Y-%m-%dT%H:%M:%S.000000Z", time.gmtime())

    def renew(self):
        while True:
            begin = time.monotonic()
            for slot in range(SLOTS):
                for name in NODES:
                    full = f"s{slot}-{name}"
                    if full not in self.silent:
                        request("PATCH", f"/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases/{full}", {"spec": {"renewTime": self.micro()}}, {"Content-Type": "application/merge-patch+json"})
            time.sleep(max(1, 10 - (time.monotonic() - begin)))

    def work(self):
        while True:
            namespace, name = self.cluster.pods.get()
            try:
                self.sync(namespace, name)
            except Exception as error:
                print(f"kubelet: {namespace}/{name}: {error!r}", file=sys.stderr)

    def behaviour(self, pod, container):
        """What a container does: an order, or its image."""
        order = self.orders.get(pod["metadata"]["uid"])
        if not order and not container["image"].startswith("rig/"):
            return ["exit", "0"]
        words = (order or container["image"].removeprefix("rig/")).split(":")[0].split("-")
        if words[0] == "failindex":
            index = (pod["metadata"].get("annotations") or {}).get("batch.kubernetes.io/job-completion-index")
            return ["exit", words[2] if index == words[1] else "0"]
        return words

    def sync(self, namespace, name):
        pod = self.cluster.get("pods", namespace, name)
        if not pod or not pod["spec"].get("nodeName") or pod["spec"]["nodeName"] in self.silent or not self.cluster.get("nodes", None, pod["spec"]["nodeName"]):
            return
        path, meta = f"/api/v1/namespaces/{namespace}/pods/{name}", pod["metadata"]
        ended = pod["status"].get("phase") in ("Succeeded", "Failed")
        if meta.get("deletionTimestamp"):
            if not ended:
                if any(self.behaviour(pod, one)[0] == "slow" for one in pod["spec"]["containers"]):
                    return
                request("PATCH", path + "/status", {"metadata": {"uid": meta["uid"]}, "status": self.status(pod, "exit", "143")}, MERGE)
            request("DELETE", path, {"gracePeriodSeconds": 0, "preconditions": {"uid": meta["uid"]}})
            return
        if ended:
            return
        order = self.orders.get(meta["uid"])
        if order == "evict":
            status = {"phase": "Failed", "reason": "Evicted", "message": "The node was low on resource: memory."}
        else:
            words = self.behaviour(pod, pod["spec"]["containers"][0])
            status = self.status(pod, *words)
        if any(pod["status"].get(key) != value for key, value in self.plain(status).items()) or self.conditions(pod["status"]) != self.conditions(status):
            request("PATCH", path + "/status", {"metadata": {"uid": meta["uid"]}, "status": status}, MERGE)

    @staticmethod
    def conditions(status):
        return {one["type"]: one["status"] for one in status.get("conditions", []) if one["type"] in ("Ready", "ContainersReady", "Initialized")}

    @staticmethod
    def plain(status):
        return {key: value for key, value in status.items() if key in ("phase", "podIP", "reason")}

    def status(self, pod, what, code="0"):
        """The status of a pod whose containers all do the same."""
        uid, begin = pod["metadata"]["uid"], now()
        with self.lock:
            if uid not in self.ips:
                self.address += 1
                self.ips[uid] = f"10.244.{self.address >> 8 & 255}.{self.address & 255}"
            begin = self.starts.setdefault(uid, begin)
        policy = pod["spec"].get("restartPolicy", "Always")
        again = policy == "Always" or policy == "OnFailure" and code != "0"
        if pod["metadata"].get("deletionTimestamp"):
            again = False
        terminated = {"exitCode": int(code), "reason": "Completed" if code == "0" else "Error", "startedAt": begin, "finishedAt": now()}
        state, last, phase, restarts = {"running": {"startedAt": begin}}, {}, "Running", 0
        if what == "exit":
            state, phase = {"terminated": terminated}, "Succeeded" if code == "0" else "Failed"
            if again:
                state, last, phase, restarts = {"waiting": {"reason": "CrashLoopBackOff"}}, {"terminated": terminated}, "Running", 1
        elif what == "missing":
            state, phase = {"waiting": {"reason": "ImagePullBackOff"}}, "Pending"
        ready = what in ("run", "slow")
        containers = [{"name": one["name"], "image": one["image"], "imageID": "", "ready": ready, "started": what != "missing", "restartCount": restarts, "state": state, "lastState": last}
                      for one in pod["spec"]["containers"]]
        old = {one["type"]: one for one in pod["status"].get("conditions", [])}

        def condition(type_, value, reason=None):
            made = {"type": type_, "status": "True" if value else "False", "lastProbeTime": None, "reason": reason}
            same = old.get(type_, {}).get("status") == made["status"]
            return {**made, "lastTransitionTime": old[type_]["lastTransitionTime"] if same else now()}
        reason = None if ready else "PodCompleted" if phase == "Succeeded" else "PodFailed" if phase == "Failed" else "ContainersNotReady"
        made = {"phase": phase, "startTime": begin, "hostIP": "198.51.100.20", "hostIPs": [{"ip": "198.51.100.20"}], "containerStatuses": containers,
                "conditions": [condition("Initialized", True), condition("Ready", ready, reason), condition("ContainersReady", ready, reason)]}
        if what != "missing":
            made.update(podIP=self.ips[uid], podIPs=[{"ip": self.ips[uid]}])
        return made

    def order(self, step, namespace, slot):
        """Does what a script says."""
        what = step["kubelet"]
        if what in ("ready", "notready", "silent"):
            full = f"{slot}-{step['node']}"
            (self.silent.add if what == "silent" else self.silent.discard)(full)
            if what != "silent":
                return request("PATCH", f"/api/v1/nodes/{full}/status", {"status": {"conditions": [self.ready(what == "ready")]}}, MERGE)
            return {"code": 200, "body": None}
        with self.cluster.lock:
            pods = [one for (resource, ns, name), one in self.cluster.objects.items() if resource == "pods" and ns == namespace]
        chosen = []
        for pod in in_turn(pods):
            labels = pod["metadata"].get("labels") or {}
            if pod["metadata"]["name"] == step.get("name") or "name" not in step and all(labels.get(k) == v for k, v in step.get("labels", {}).items()):
                chosen.append(pod)
        for pod in chosen[:step.get("count", 1000)]:
            self.orders[pod["metadata"]["uid"]] = what
            self.cluster.pods.put((namespace, pod["metadata"]["name"]))
        return {"code": 200, "body": {"pods": len(chosen)}}


def in_turn(objects):
    """Objects in an order that does not depend on random names: pods on the fullest node first."""
    where = [one["spec"].get("nodeName", "") for one in objects]

    def rank(one):
        node = one["spec"].get("nodeName", "")
        ready = any(c["type"] == "Ready" and c["status"] == "True" for c in (one.get("status") or {}).get("conditions") or [])
        owned = one["metadata"].get("ownerReferences")
        return (not node, -where.count(node), not ready, bool(one["metadata"].get("deletionTimestamp")), "" if owned else one["metadata"]["name"], one["metadata"]["creationTimestamp"], one["metadata"]["name"])
    return sorted(objects, key=rank)


def busy(objects):
    """A reason to wait longer though nothing changes: a clock will do something soon."""
    for resource, one in objects:
        meta, spec, status = one["metadata"], one.get("spec") or {}, one.get("status") or {}
        conditions = {c["type"]: c["status"] for c in status.get("conditions") or []}
        if resource == "jobs" and not meta.get("deletionTimestamp") and spec.get("managedBy") is None:
            ended = conditions.get("Complete") == "True" or conditions.get("Failed") == "True"
            if ended and spec.get("ttlSecondsAfterFinished", 99) < 9:
                return f"{resource} {meta['name']}"
            if not ended and not spec.get("suspend") and (not status.get("active") and not status.get("terminating") or spec.get("activeDeadlineSeconds", 99) < 20):
                if spec.get("parallelism") != 0 or spec.get("activeDeadlineSeconds", 99) < 20:
                    return f"{resource} {meta['name']}"
        if resource == "deployments" and not spec.get("paused") and spec.get("progressDeadlineSeconds", 600) < 20 and conditions.get("Progressing") == "True":
            done = any(c["type"] == "Progressing" and c["reason"] == "NewReplicaSetAvailable" for c in status["conditions"])
            if not done and any(status.get(key, 0) != spec["replicas"] for key in ("replicas", "updatedReplicas", "availableReplicas")):
                return f"{resource} {meta['name']}"
        if resource in ("deployments", "replicasets", "statefulsets", "replicationcontrollers") and spec.get("minReadySeconds"):
            if status.get("readyReplicas", 0) != status.get("availableReplicas", 0):
                return f"{resource} {meta['name']}"
        if resource == "daemonsets" and spec.get("minReadySeconds") and status.get("numberReady", 0) != status.get("numberAvailable", 0):
            return f"{resource} {meta['name']}"
        if resource == "cronjobs" and not spec.get("suspend") and spec["schedule"] == "* * * * *":
            # the minute begins soon, or has just begun
            if not status.get("lastScheduleTime") or time.gmtime().tm_sec > 50:
                return f"{resource} {meta['name']}"
        if resource == "namespaces" and meta.get("deletionTimestamp") and since(meta["deletionTimestamp"]) < 25:
            # upstream waits before it begins, and for pods
            return f"{resource} {meta['name']}"
        if resource == "nodes":
            taints = {(t["key"], t["effect"]) for t in spec.get("taints") or []}
            if (conditions.get("Ready") == "True") == (("node.kubernetes.io/not-ready", "NoExecute") in taints or ("node.kubernetes.io/not-ready", "NoSchedule") in taints):
                return f"{resource} {meta['name']}"
        if resource == "pods" and not meta.get("deletionTimestamp"):
            if spec.get("activeDeadlineSeconds", 99) < 20 and status.get("phase") not in ("Failed", "Succeeded"):
                return f"{resource} {meta['name']}"
            if any(t.get("effect") == "NoExecute" and 0 < t.get("tolerationSeconds", 0) < 20 for t in spec.get("tolerations") or []) and status.get("phase") not in ("Failed", "Succeeded"):
                node = next((n for r, n in objects if r == "nodes" and n["metadata"]["name"] == spec.get("nodeName")), None)
                if node and any(t["effect"] == "NoExecute" for t in node["spec"].get("taints") or []):
                    return f"{resource} {meta['name']}"
    return None


class Player:
    def __init__(self, cluster, kubelet):
        self.cluster, self.kubelet = cluster, kubelet
        self.condition, self.running, self.alone = threading.Condition(), 0, False
        self.slots = [threading.Lock() for _ in range(SLOTS)]

    def rest(self, namespace, slot, id_):
        """Waits until nothing changes; tells if it came to rest, and the objects."""
        begin = time.monotonic()
        while True:
            objects = self.cluster.of(namespace, slot, id_)
            unscheduled = any(r == "pods" and not one["spec"].get("nodeName") and not one["spec"].get("schedulingGates") for r, one in objects)
            unbound = any(r == "persistentvolumeclaims" and (one.get("status") or {}).get("phase") == "Pending" for r, one in objects)
            quiet = QUIET_UNBOUND if unbound else QUIET_UNSCHEDULED if unscheduled else QUIET
            idle = time.monotonic() - max(begin, self.cluster.last_change(namespace, slot, id_))
            waited = time.monotonic() - begin
            if idle >= quiet and (waited > LONGEST or not busy(objects)) or waited > 2 * LONGEST:
                if waited > LONGEST:
                    waits = busy(objects) or max(((when, place) for place, when in self.cluster.changed.items() if place in (namespace, slot) or id_ in place), default=None)
                    print(f"{worker.folder.parent.name}: {namespace} is not at rest after {waited:.0f} s: {waits}", file=sys.stderr)
                return waited <= LONGEST, objects
            time.sleep(0.2)

    def play(self, script):
        steps = script["steps"]
        first = steps[0]
        namespace, slot, id_, alone = first["namespace"], first["slot"], first["id"], first["alone"]
        with self.condition:
            self.condition.wait_for(lambda: not self.alone and not (alone and self.running))
            self.running, self.alone = self.running + 1, alone
        try:
            with self.slots[int(slot[1:])]:
                answers, known = [], {}
                for step in steps:
                    answer = self.kubelet.order(step, namespace, slot) if "kubelet" in step else self.ask(step, known)
                    known[step["n"]] = answer
                    answers.append({"code": answer["code"], "body": answer["body"]})
                    if not step.get("now"):
                        rested, objects = self.rest(namespace, slot, id_)
                        answers[-1].update(rested=rested, objects=objects, gone=list(self.cluster.gone.get(namespace, [])))
                self.clean(namespace, slot, id_, first["nodes"])
                return answers
        finally:
            with self.condition:
                self.running, self.alone = self.running - 1, False
                self.condition.notify_all()

    def ask(self, step, known):
        """Sends a request; a name that is generated is given by the labels of the first object that bears them."""
        if "{{first:" in step["path"]:
            before, _, rest = step["path"].partition("{{first:")
            label, _, after = rest.partition("}}")
            key, _, value = label.partition("=")
            resource = before.rstrip("/").rsplit("/", 1)[1]
            with self.cluster.lock:
                found = [one for (r, ns, name), one in self.cluster.objects.items() if r == resource and ns == step["ns"] and (one["metadata"].get("labels") or {}).get(key) == value]
            found = in_turn(found)
            if not found:
                return {"code": 404, "body": "none"}
            name = found[0]["metadata"]["name"]
            step = {**step, "path": before + name + after, **({"body": {**step["body"], "metadata": {"name": name}}} if after == "/eviction" else {})}
        return worker.ask(step, known)

    def clean(self, namespace, slot, id_, changed):
        """Removes all of a script and makes its nodes as they were."""
        for name in NODES if changed else ():
            self.kubelet.silent.discard(f"{slot}-{name}")
            self.kubelet.register(slot, name)
        request("DELETE", f"/api/v1/namespaces/{namespace}", {})
        end = time.monotonic() + 60
        while time.monotonic() < end:
            left = [(resource, one) for resource, one in self.cluster.of(namespace, slot, id_) if resource not in ("nodes", "events")]
            if not left:
                break
            for resource, one in left:
                meta = one["metadata"]
                path = f"{GROUP[resource]}/" + (f"namespaces/{namespace}/" if "namespace" in meta else "") + f"{resource}/{meta['name']}"
                if meta.get("finalizers") and meta.get("deletionTimestamp") and time.monotonic() > end - 55:
                    request("PATCH", path, {"metadata": {"finalizers": None}}, {"Content-Type": "application/merge-patch+json"})
                elif resource == "pods" and meta.get("deletionTimestamp") or resource in ("persistentvolumes", "storageclasses"):
                    request("DELETE", path, {"gracePeriodSeconds": 0})
            time.sleep(0.5)
        else:
            print(f"{worker.folder.parent.name}: left of {namespace}: {[(r, o['metadata']['name']) for r, o in left]}", file=sys.stderr)
        with self.cluster.lock:
            self.cluster.gone.pop(namespace, None)


def main(started=lambda cluster: None):
    cluster = Cluster()
    started(cluster)
    kubelet = Kubelet(cluster)
    player = Player(cluster, kubelet)

    def play(line):
        script = json.loads(line)
        try:
            answers = player.play(script)
        except Exception as error:
            answers = [{"code": -1, "body": f"the worker: {error!r}"}]
        with worker.writing:
            print(json.dumps({"id": script["id"], "answers": answers}), flush=True)

    def tell(line):
        # the first questions are the driver's own, before there is a cluster
        script = json.loads(line)
        answers = [worker.ask(step, {}) for step in script["steps"]]
        with worker.writing:
            print(json.dumps({"id": script["id"], "answers": answers}), flush=True)

    def begin():
        for resource in GROUP:
            threading.Thread(target=cluster.watch, args=(resource,), daemon=True).start()
        for slot in range(SLOTS):
            for name in NODES:
                kubelet.register(f"s{slot}", name)
        threading.Thread(target=kubelet.renew, daemon=True).start()
        for _ in range(6):
            threading.Thread(target=kubelet.work, daemon=True).start()
        end = time.monotonic() + 120
        while True:
            with cluster.lock:
                nodes = [one for (resource, _, _), one in cluster.objects.items() if resource == "nodes"]
            if len(nodes) == SLOTS * len(NODES) and not any(one["spec"].get("taints") for one in nodes):
                return
            if time.monotonic() > end:
                raise RuntimeError(f"nodes are not ready: {[(n['metadata']['name'], n['spec']) for n in nodes]}")
            time.sleep(0.2)

    began = False
    with concurrent.futures.ThreadPoolExecutor(SLOTS * 2) as pool:
        for line in sys.stdin:
            if '"slot"' in line:
                if not began:
                    begin()
                    began = True
                pool.submit(play, line)
            else:
                tell(line)


if __name__ == "__main__":
    main()
