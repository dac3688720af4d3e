"""The power goes. Who knows that the machine is off says so by a taint; then it is switched on again."""
import silence, workload

OFF = "node.kubernetes.io/out-of-service=nodeshutdown:NoExecute"


def run(failing, nodes, work):
    world, node, clock = work.world, nodes[failing], workload.Clock()
    node.kill()
    before = silence.wait_for_silence(failing, work, clock)
    clock = workload.Clock()
    world.kubectl("taint", "node", failing, OFF)
    uid = before["metadata"]["uid"]
    world.until("db-0 runs elsewhere", lambda: work.db() and work.db()["metadata"]["uid"] != uid and workload.ready(work.db()), 60)
    world.step(f"db-0 runs elsewhere {clock} after the node was said to be off")

    world.kubectl("taint", "node", failing, OFF.partition("=")[0] + "-")
    clock = workload.Clock()
    node.start()
    world.until(f"{failing} is Ready", lambda: work.state(failing) == "True" and not work.taints(failing), 60)
    world.step(f"{failing} is Ready without taints {clock} after it was switched on")
    work.settle()
