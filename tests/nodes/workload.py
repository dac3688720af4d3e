"""What runs on the nodes while they fail: copies that may move at once, one that may never run twice, and one on each node."""
import json, time

import cluster, oci
from node import command_of

IMAGE = "nodes.test/busybox:1"
# seconds for which pods bear with a node that is not heard of; five minutes unless a pod says otherwise
TOLERATED = 10
# a process that says whose it is
STAY = "trap 'exit 0' TERM; while :; do sleep 1 & wait; done; : $(POD_NAME) $(POD_UID)"
SERVE = "echo served >/tmp/index.html; trap 'exit 0' TERM; httpd -f -p 80 -h /tmp & wait; : $(POD_NAME) $(POD_UID)"


def template(app, command, node=None):
    tolerations = [{"key": f"node.kubernetes.io/{key}", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": TOLERATED}
                   for key in ("not-ready", "unreachable")]
    fields = [{"name": name, "valueFrom": {"fieldRef": {"fieldPath": path}}}
              for name, path in (("POD_NAME", "metadata.name"), ("POD_UID", "metadata.uid"))]
    container = {"name": "main", "image": IMAGE, "command": ["sh", "-c", command], "env": fields}
    spec = {"tolerations": tolerations, "containers": [container], "terminationGracePeriodSeconds": 2}
    if node:
        term = {"weight": 100, "preference": {"matchExpressions": [{"key": "kubernetes.io/hostname", "operator": "In", "values": [node]}]}}
        spec["affinity"] = {"nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [term]}}
    else:
        spec["topologySpreadConstraints"] = [{"maxSkew": 1, "topologyKey": "kubernetes.io/hostname", "whenUnsatisfiable": "ScheduleAnyway",
                                              "labelSelector": {"matchLabels": {"app": app}}}]
    return {"metadata": {"labels": {"app": app}}, "spec": spec}


def objects(node):
    """`node` is the one that will fail."""
    def workload(kind, app, command, preferred=None, **spec):
        return {"apiVersion": "apps/v1", "kind": kind, "metadata": {"name": app},
                "spec": {"selector": {"matchLabels": {"app": app}}, "template": template(app, command, preferred), **spec}}

    def service(app, **spec):
        return {"apiVersion": "v1", "kind": "Service", "metadata": {"name": app}, "spec": {"selector": {"app": app}, "ports": [{"port": 80}], **spec}}

    items = [
        workload("Deployment", "web", SERVE, replicas=6), service("web"),
        workload("StatefulSet", "db", STAY, node, replicas=1, serviceName="db"), service("db", clusterIP="None"),
        workload("DaemonSet", "each", STAY),
    ]
    return json.dumps({"apiVersion": "v1", "kind": "List", "items": items})


def images(_programs):
    oci.install(["busybox-static"])
    return [([IMAGE], [oci.Layer().merged_usr().directory("tmp", 0o1777).busybox()], {"Cmd": ["sh"]})]


class Workload:
    def __init__(self, world, nodes):
        self.world, self.nodes = world, nodes

    def start(self, node):
        self.world.apply(objects(node))
        self.settle()

    def pods(self, app):
        return self.world.get("pods", "-l", f"app={app}")["items"]

    def db(self):
        """Its pod, which may be on its way out; None while there is none."""
        found = [pod for pod in self.pods("db") if pod["metadata"]["name"] == "db-0"]
        return found[0] if found else None

    def settled(self):
        """All is there, once, and ready."""
        for app, count in (("web", 6), ("db", 1), ("each", len(self.nodes))):
            pods = self.pods(app)
            if len(pods) != count or not all(ready(pod) for pod in pods):
                return False
        return True

    def settle(self, seconds=120):
        self.world.until("all pods run and are ready", self.settled, seconds)
        self.twice()

    def spread(self, node):
        """A node that was away has lost its pods of the Deployment; it gets some again."""
        self.world.kubectl("rollout", "restart", "deployment/web")
        self.world.kubectl("rollout", "status", "deployment/web", "--timeout=120s")
        self.settle()
        if not self.on(node, "web"):
            raise cluster.Failed(f"no pod of a Deployment of six is on {node}, one of three")

    def on(self, node, app):
        return [pod for pod in self.pods(app) if pod["spec"].get("nodeName") == node]

    def twice(self):
        """No node has a process of a pod that is not, or that is another node's; and of db there is one."""
        known = {pod["metadata"]["uid"]: pod["spec"].get("nodeName") for app in ("web", "db", "each") for pod in self.pods(app)}
        for name, node in self.nodes.items():
            for app in ("web-", "db-", "each-"):
                for process in node.containers(f": {app}"):
                    uid = command_of(process).split()[-1]
                    if known.get(uid) != name:
                        raise cluster.Failed(f"{name} runs a container of a pod that is not its own: {command_of(process)}")

    def state(self, name):
        """The status of a node's condition Ready."""
        conditions = self.world.get("node", name)["status"]["conditions"]
        return next(condition["status"] for condition in conditions if condition["type"] == "Ready")

    def taints(self, name):
        return {(taint["key"].rpartition("/")[2], taint["effect"]) for taint in self.world.get("node", name)["spec"].get("taints", ())}



def ready(pod):
    conditions = pod["status"].get("conditions", ())
    return "deletionTimestamp" not in pod["metadata"] and any(c["type"] == "Ready" and c["status"] == "True" for c in conditions)


def restarts(pod):
    return sum(status["restartCount"] for status in pod["status"].get("containerStatuses", ()))


def identities(pods):
    """What changes when a pod or its container is made anew."""
    return sorted((pod["metadata"]["uid"], restarts(pod)) for pod in pods)


class Clock:
    def __init__(self):
        self.began = time.monotonic()

    def seconds(self):
        return time.monotonic() - self.began

    def __str__(self):
        return f"{self.seconds():.0f} s"
