"""metrics-server, by its own manifests: usage of nodes and pods by an APIService, `kubectl top`, and an autoscaler that goes by it."""
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
# it may be much more than a twentieth of what is requested
AUTOSCALER = """
apiVersion: autoscaling/v2
kind: HorizontalPodAutoscaler
metadata: {name: busy}
spec:
  scaleTargetRef: {apiVersion: apps/v1, kind: Deployment, name: busy}
  maxReplicas: 2
  metrics:
  - {type: Resource, resource: {name: cpu, target: {type: Utilization, averageUtilization: 5}}}
"""


def conditions(world):
    status = world.get("hpa", "busy").get("status") or {}
    return {one["type"]: (one["status"], one["reason"], one["message"]) for one in status.get("conditions", [])}


def autoscaling(world):
    world.apply(AUTOSCALER)
    world.until("the autoscaler asks for more", lambda: world.get("deployment", "busy")["spec"]["replicas"] == 2)
    world.kubectl("rollout", "status", "deployment/busy", "--timeout=300s")
    limited = ("True", "TooManyReplicas", "the desired replica count is more than the maximum replica count")
    found = world.until("the autoscaler is at rest", lambda: (now := conditions(world)).get("ScalingLimited") == limited and now["AbleToScale"][1] == "ReadyForNewScale" and now)
    metric = "cpu resource utilization (percentage of request)"
    world.same("its metric", found["ScalingActive"], ("True", "ValidMetricFound", f"the HPA was able to successfully calculate a replica count from {metric}"))
    current = world.get("hpa", "busy")["status"]["currentMetrics"][0]["resource"]["current"]
    if current["averageUtilization"] <= 5 or not re.fullmatch(r"\d+m|1", current["averageValue"]):
        raise cluster.Failed(f"the metric of the autoscaler: {current}")
    told = [one["message"] for one in world.get("events", "--field-selector=reason=SuccessfulRescale")["items"]]
    world.same("its events", told, [f"New size: 2; reason: {metric} above target"])
    world.step(f"an autoscaler scales up at {current['averageUtilization']} %")


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
    autoscaling(world)

    world.kubectl("delete", "-k", os.path.join(world.programs, "metrics-server/base"), "--timeout=120s")
    world.until("kubectl says that there are no metrics", lambda: "Metrics API not available" in world.run("kubectl", "top", "nodes").stderr)
    world.step("with its manifests deleted there are no metrics")
    missing = "unable to fetch metrics from resource metrics API: the server could not find the requested resource (get pods.metrics.k8s.io)"
    message = f"the HPA was unable to compute the replica count: failed to get cpu utilization: unable to get metrics for resource cpu: {missing}"
    world.until("the autoscaler says so", lambda: conditions(world)["ScalingActive"] == ("False", "FailedGetResourceMetric", message))
    world.step("and the autoscaler says so")
