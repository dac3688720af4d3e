"""The cable is out, at first too short for anybody to act, then for longer. The node's pods go on meanwhile."""
import time

import cluster, silence, workload


def run(failing, nodes, work):
    world, node = work.world, nodes[failing]
    before = {app: workload.identities(work.pods(app)) for app in ("web", "db", "each")}
    node.link("down")
    time.sleep(20)
    node.link("up")
    time.sleep(30)
    world.same("the node's condition", work.state(failing), "True")
    world.same("the pods", {app: workload.identities(work.pods(app)) for app in before}, before)
    world.step("20 s without a cable change nothing")

    clock = workload.Clock()
    node.link("down")
    db = silence.wait_for_silence(failing, work, clock)
    if not node.containers(db["metadata"]["uid"]):
        raise cluster.Failed("a node without its server ended a pod")
    world.step("db-0 still runs where it was")
    clock = workload.Clock()
    node.link("up")
    silence.wait_for_return(failing, work, clock, db)
    work.settle()
