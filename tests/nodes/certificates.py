#!/usr/bin/env python3
"""Certificates that live two minutes, on a server and two agents: for a quarter of an hour clients ask the API server, and the API server asks
kubelets and an extension server. Every certificate is replaced again and again; no request fails, nothing is restarted, no node is lost."""
import argparse, collections, json, os, re, subprocess, sys, threading, time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [os.path.join(HERE, name) for name in ("../conformance", "../operators", "../../packaging")]
import cluster
import https_pod, world

GROUP = "certificates.nodes.test"
# tells each client which certificate it showed, and knows nobody whose certificate has expired meanwhile
EXTENSION = """
def answer(path, asked, shown):
    known = shown and ssl.cert_time_to_seconds(shown["notAfter"]) > time.time()
    if not known:
        return 401, {"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": 401, "message": "expired"}
    if path.split("?")[0] == "/apis/GROUP/v1":
        return 200, {"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": "GROUP/v1", "resources": []}
    if path == "/apis/GROUP/v1/shown":
        return 200, {"serial": shown["serialNumber"]}
    return 404, {"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": 404, "message": "not found"}
""".replace("GROUP", GROUP)


class Load:
    """Asks three times a second, each question in a thread of its own, and keeps every failure."""

    def __init__(self, seen):
        self.seen, self.over = seen, threading.Event()
        self.asked, self.failures, self.threads = collections.Counter(), [], []
        self.serials = collections.defaultdict(set)

    def ask(self, what, question):
        def loop():
            while not self.over.wait(0.3):
                try:
                    serial = question()
                except Exception as error:
                    self.failures.append(f"{time.strftime('%H:%M:%S')} {what}: {error}")
                    time.sleep(1)
                else:
                    self.asked[what] += 1
                    if serial:
                        self.serials[what].add(serial)
        thread = threading.Thread(target=loop, daemon=True)
        self.threads.append(thread)
        thread.start()

    def stop(self):
        self.over.set()
        for thread in self.threads:
            thread.join()


def extension(seen, folder, authority):
    objects, bundle = https_pod.server("extension", "node3", folder, EXTENSION, authority)
    service = {"apiVersion": "apiregistration.k8s.io/v1", "kind": "APIService", "metadata": {"name": f"v1.{GROUP}"},
               "spec": {"group": GROUP, "version": "v1", "groupPriorityMinimum": 1000, "versionPriority": 10,
                        "caBundle": bundle,
                        "service": {"namespace": "default", "name": "extension", "port": 443}}}
    return objects, json.dumps(service)


def shown(seen, address, port):
    """The serial number of the certificate that a listener shows, which must not have expired."""
    done = seen.run("sh", "-c", f"""
        openssl s_client -connect {address}:{port} </dev/null 2>/dev/null | openssl x509 -noout -serial -checkend 0""")
    if done.returncode or "serial=" not in done.stdout:
        raise cluster.Failed(f"{address}:{port} shows {done.stdout.strip()!r} {done.stderr.strip()!r}")
    return re.search(r"serial=(\w+)", done.stdout)[1]


def files(machines):
    """Each certificate on disk but the authorities' own."""
    folders = [os.path.join(machines.folder, "data", part) for part in ("server/tls", "agent")]
    folders += [os.path.join(folder, "data/agent") for folder, _ in machines.agents.values()]
    return [os.path.join(folder, name) for folder in folders for name in sorted(os.listdir(folder)) if name.endswith(".crt") and not name.endswith("-ca.crt")]


def serial(path):
    done = subprocess.run(["openssl", "x509", "-in", path, "-noout", "-serial", "-checkend", "0"], capture_output=True, text=True)
    if done.returncode:
        raise cluster.Failed(f"{path}: {done.stdout.strip()} {done.stderr.strip()}")
    return done.stdout.split()[0]


def begin(load, machines, seen):
    addresses = {"node": cluster.ADDRESS, **{name: address for name, (_, address) in machines.agents.items()}}
    number = iter(range(10**9))

    def write():
        name = f"written-{next(number)}"
        seen.kubectl("create", "configmap", name)
        seen.kubectl("delete", "configmap", name)

    load.ask("writes of a new kubectl each", write)
    load.ask("the API server's listener", lambda: shown(seen, cluster.ADDRESS, 6443))
    load.ask("the front proxy", lambda: json.loads(seen.kubectl("get", "--raw", f"/apis/{GROUP}/v1/shown"))["serial"])
    for name, address in addresses.items():
        def connect(name=name):
            seen.same("healthz", seen.kubectl("get", "--raw", f"/api/v1/nodes/{name}/proxy/healthz"), "ok")
            seen.same("log", seen.kubectl("logs", f"web-{name}").strip(), "serving")
            seen.same("exec", seen.kubectl("exec", f"web-{name}", "--", "cat", "/tmp/index.html").strip(), name)
        load.ask(f"the API server to {name}", connect)
        load.ask(f"{name}'s listener", lambda address=address: shown(seen, address, 10250))
    for path in files(machines):
        def look(path=path):
            time.sleep(1)
            return serial(path)
        load.ask(os.path.relpath(path, machines.folder), look)


def ready_since(seen):
    return {node["metadata"]["name"]: next((c["status"], c["lastTransitionTime"]) for c in node["status"]["conditions"] if c["type"] == "Ready")
            for node in seen.get("nodes")["items"]}


def roll(seen, generation):
    """A change that every node's kubelet and proxy must hear of."""
    seen.kubectl("set", "env", "deployment/rolling", f"GENERATION={generation}")
    seen.kubectl("rollout", "status", "deployment/rolling", "--timeout=100s")
    address = seen.get("service", "rolling")["spec"]["clusterIP"]
    for on in ("node", "node2", "node3"):
        wanted = f"{generation}"
        fetch = f"import urllib.request as u; print(u.urlopen('http://{address}/', timeout=5).read().decode())"
        seen.until(f"the Service has generation {generation} on {on}", lambda: seen.kubectl("exec", f"web-{on}", "--", "/usr/bin/python3.11", "-c", fetch).strip() == wanted, 20)


def rolling():
    command = "echo $GENERATION >/tmp/index.html; exec httpd -f -p 8080 -h /tmp"
    container = {"name": "main", "image": https_pod.IMAGE, "command": ["sh", "-c", command],
                 "readinessProbe": {"httpGet": {"path": "/", "port": 8080}, "periodSeconds": 1}}
    template = {"metadata": {"labels": {"app": "rolling"}}, "spec": {"terminationGracePeriodSeconds": 1, "containers": [container]}}
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "rolling"},
            "spec": {"replicas": 3, "selector": {"matchLabels": {"app": "rolling"}}, "template": template}}


def play(machines, seen, minutes):
    names = ["node", *machines.agents]
    pods = [https_pod.pod(f"web-{name}", name, https_pod.page(name)) for name in names]
    with open(os.path.join(machines.folder, "data/server/tls/request-header-ca.crt")) as f:
        authority = f.read()
    objects, service = extension(seen, seen.folder, authority)
    seen.apply(https_pod.items(*pods, rolling(), https_pod.service("rolling", 80, 8080)))
    seen.apply(objects)
    seen.wait("condition=Ready", "pods", "--all", seconds=120)
    seen.apply(service)
    seen.wait("condition=Available", f"apiservice/v1.{GROUP}", seconds=60)
    before = ready_since(seen)
    seen.step("a server and two agents, a pod on each, and an extension server")
    load, end, rolled = Load(seen), time.monotonic() + 60 * minutes, 0
    begin(load, machines, seen)
    try:
        while time.monotonic() < end:
            rolled += 1
            roll(seen, rolled)
            time.sleep(5)
    finally:
        load.stop()
    seen.step(f"{sum(load.asked.values())} questions in {minutes} minutes, {len(load.failures)} failed; {rolled} updates rolled out")
    for what in sorted(load.asked):
        told = f", {len(load.serials[what])} certificates" if what in load.serials else ""
        print(f"           {what}: asked {load.asked[what]} times{told}", flush=True)
    if load.failures:
        raise cluster.Failed("\n".join([f"{len(load.failures)} questions failed:", *load.failures[:20]]))
    # renewed after seven to nine tenths of two minutes, and not before
    least, most = int(minutes * 60 / 110), int(minutes * 60 / 60) + 2
    for what, serials in load.serials.items():
        if not least <= len(serials) <= most:
            raise cluster.Failed(f"{what}: {len(serials)} certificates in {minutes} minutes, wanted {least} to {most}")
    seen.same("when the nodes became Ready", ready_since(seen), before)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=15)
    args = world.arguments(parser)
    world.prepare(args.out)
    os.environ["SKIFF_FLAGS"] = "--certificate-lifetime=2m"
    try:
        with world.started(cluster.Cluster, args, https_pod.archive(args), nodes=3) as (machines, seen):
            started = {name: process.pid for name, process in machines.processes.items()}
            play(machines, seen, args.minutes)
            ended = [name for name, process in machines.processes.items() if process.poll() is not None]
            seen.same("processes that ended", ended, [])
            seen.same("what was started", {name: process.pid for name, process in machines.processes.items()}, started)
    except cluster.Failed as error:
        sys.exit(f"failed: {error}")
    print("passed", flush=True)


if __name__ == "__main__":
    main()
