"""The server is killed and started twenty times. Pods go on, and so does what they say to each other."""
import json, time

import cluster, workload

TIMES = 20
# asks a Service from a pod every tenth of a second; each failure is a line
ASK = "while :; do printf 'GET / HTTP/1.0\\r\\n\\r\\n' | nc -w 2 %s 80 | grep -q served || echo failed; echo asked >>/tmp/asked; sleep 0.1; done"


def run(failing, nodes, work):
    world, server = work.world, nodes["node"]
    before = {app: workload.identities(work.pods(app)) for app in ("web", "db", "each")}
    address = world.get("service", "web")["spec"]["clusterIP"]
    asking = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "asking", "labels": {"app": "asking"}},
              "spec": workload.template("asking", ASK % address)["spec"] | {"nodeName": failing}}
    world.apply(json.dumps(asking))
    world.wait("condition=Ready", "pod/asking")
    for _ in range(TIMES):
        server.kill_skiff()
        server.start()
        # it is killed in the middle of what a start does, too
        time.sleep(0.5)
    world.step(f"the server was killed and started {TIMES} times")
    for name in nodes:
        world.until(f"{name} is Ready", lambda: work.state(name) == "True", 60)
    world.same("the pods", {app: workload.identities(work.pods(app)) for app in before}, before)
    said = world.kubectl("logs", "asking")
    asked = int(world.kubectl("exec", "asking", "--", "wc", "-l", "/tmp/asked").split()[0])
    if said.strip():
        raise cluster.Failed(f"{len(said.splitlines())} of {asked} requests to a Service failed meanwhile")
    world.step(f"no pod was made anew, none of {asked} requests to a Service failed")
    world.kubectl("scale", "deployment/web", "--replicas=9")
    world.until("what is new is done", lambda: sum(map(workload.ready, work.pods("web"))) == 9, 60)
    world.kubectl("scale", "deployment/web", "--replicas=6")
    world.kubectl("delete", "pod", "asking")
    world.step("the cluster does what is new")
