"""metrics-server, by its own manifests: usage of nodes and pods by an APIService, and `kubectl top`."""
import os, re

import cluster, oci
from static_image import static_image

NEEDS = ["kubectl", "metrics-server"]
# never idle, and held at a fifth of a core
BUSY = """
apiVersion: apps/v1
kind: Deployment
metadata: {name: busy}
spec:
  selector: {matchLabels: {app: busy}}
  template:
    metadata: {labels: {app: busy}}
    spec:
      terminationGracePeriodSeconds: 0
      containers:
      - name: busy
        image: operators.test/busybox:1
        command: [sh, -c, "while :; do :; done"]
        resources: {limits: {cpu: 200m}}
"""


def images(programs):
    oci.install(["busybox-static"])
    return [
        # the name is the manifests'
        static_image("gcr.io/k8s-staging-metrics-server/metrics-server:master", os.path.join(programs, "metrics-server/metrics-server")),
        (["operators.test/busybox:1"], [oci.Layer().merged_usr().busybox()], {"Cmd": ["sh"]}),
    ]


def rows(world, *arguments):
    """The lines of `kubectl top` as words by their first."""
    return {line.split()[0]: line.split()[1:] for line in world.kubectl("top", *arguments, "--no-headers").splitlines()}


def run(world):
    world.kubectl("apply", "-k", os.path.join(world.programs, "metrics-server/base"))
    world.apply(BUSY)
    world.kubectl("rollout", "status", "deployment/metrics-server", "-n", "kube-system", "--timeout=300s")
    world.wait("condition=Available", "apiservice/v1beta1.metrics.k8s.io")
    world.step("its manifests are applied, its APIService is Available")

    node = world.until("kubectl top nodes", lambda: rows(world, "nodes").get("node"))
    if len(node) != 4 or not re.fullmatch(r"[1-9]\d*m", node[0]) or not re.fullmatch(r"[1-9]\d*Mi", node[2]):
        raise cluster.Failed(f"kubectl top nodes: {node}")
    world.step(f"kubectl top nodes: {' '.join(node)}")

    def busy():
        return next(((name, words) for name, words in rows(world, "pods").items() if name.startswith("busy-")), None)

    name, words = world.until("kubectl top pods", busy)
    # on a busy machine it may get less than its limit; windows add some
    if not 20 <= int(words[0].removesuffix("m")) <= 300:
        raise cluster.Failed(f"a pod that does nothing but turn, in 200m: {words}")
    world.step(f"kubectl top pods: {name} {' '.join(words)}")
    pods = rows(world, "pods", "-n", "kube-system", "--containers")
    if not any(pod.startswith("metrics-server-") and words[0] == "metrics-server" for pod, words in pods.items()):
        raise cluster.Failed(f"kubectl top pods --containers: {pods}")

    listed = world.get("pods.metrics.k8s.io")
    world.same("the kind that discovery and the list give", listed["items"][0]["kind"], "PodMetrics")
    world.same("the pod's own object", [c["name"] for c in world.get("pods.metrics.k8s.io", name)["containers"]], ["busy"])
    world.step("containers, lists and single objects are served")

    world.kubectl("delete", "-k", os.path.join(world.programs, "metrics-server/base"), "--timeout=120s")
    world.until("kubectl says that there are no metrics", lambda: "Metrics API not available" in world.run("kubectl", "top", "nodes").stderr)
    world.step("with its manifests deleted there are no metrics")
