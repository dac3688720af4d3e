"""A pod fills its node's disk, which is a small one of its own here. It goes, the others stay, and the node recovers."""
import json

import cluster, workload

MEBIBYTES, PRESSED = 700, "node.kubernetes.io/disk-pressure"
FILL = "dd if=/dev/zero of=/fill/file bs=1M count=600; sleep 1000"


def run(failing, nodes, work):
    world, node = work.world, nodes[failing]
    node.move_to_disk(MEBIBYTES)
    world.until(f"{failing} is Ready", lambda: work.state(failing) == "True" and not work.taints(failing), 60)
    work.settle()
    before = workload.identities(work.on(failing, "each") + work.on(failing, "db"))
    filling = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "filling"},
               "spec": workload.template("filling", FILL)["spec"] | {"nodeName": failing, "volumes": [{"name": "fill", "emptyDir": {}}]}}
    filling["spec"]["containers"][0]["volumeMounts"] = [{"name": "fill", "mountPath": "/fill"}]
    clock = workload.Clock()
    world.apply(json.dumps(filling))
    world.until("the node has no room", lambda: ("disk-pressure", "NoSchedule") in work.taints(failing), 60)
    world.step(f"its disk is full after {clock}")
    pod = world.until("the pod that fills it is evicted", lambda: failed(world), 60)
    world.same("why", pod["status"]["reason"], "Evicted")
    if "The node was low on resource: ephemeral-storage" not in pod["status"]["message"]:
        raise cluster.Failed(f"an evicted pod says {pod['status']['message']!r}")
    world.step(f"the pod that filled it is evicted after {clock}: {pod['status']['message']}")
    world.until("the node recovers", lambda: not work.taints(failing), 120)
    world.step(f"{failing} has room again after {clock}")
    world.same("the other pods", workload.identities(work.on(failing, "each") + work.on(failing, "db")), before)
    world.kubectl("delete", "pod", "filling")


def failed(world):
    pod = world.get("pod", "filling")
    return pod if pod["status"]["phase"] == "Failed" else None
