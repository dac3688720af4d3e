#!/usr/bin/env python3
"""The network between two nodes in numbers: skiff's beside upstream's, whose pods flannel connects, one after the other in one run.

Throughput and latency from pod to pod on two nodes, by address and through a Service, what a GB costs the machine, and how long a changed endpoint takes
until both nodes' rules know it, among few Services and among many. Prints a table.
"""
import argparse, json, os, statistics, subprocess, sys, time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [os.path.join(HERE, name) for name in ("../conformance", "../operators", "../../packaging")]
import cluster, oci
import node, workload, world

PORT = 7000
CHANGES = 20


class Flannel(cluster.Cluster):
    """Upstream's nodes, with flannel's vxlan in place of routes by hand."""

    @property
    def settings(self):
        # what vxlan leaves of a packet
        return [*super().settings, "POD_MTU=1450"]

    def wired(self):
        with open(os.path.join(self.folder, "flannel.json"), "w") as f:
            json.dump({"Network": cluster.PODS, "EnableNFTables": True, "Backend": {"Type": "vxlan"}}, f)
        self.flannels = []

    def connect(self):
        for name, folder in [("node", self.folder), *((name, folder) for name, (folder, _) in self.agents.items())]:
            # the administrator's configuration names an address that all nodes reach
            command = cluster.script("namespaces.sh", "in", folder, "env", f"NODE_NAME={name}", os.path.join(self.programs, "flannel"), "--kube-subnet-mgr",
                                     f"--kubeconfig-file={self.kubeconfig}", "--iface=node0", f"--net-config-path={os.path.join(self.folder, 'flannel.json')}")
            with open(os.path.join(self.log, f"flannel-{name}.log"), "w") as out:
                self.flannels.append(subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=out, start_new_session=True))

    def __exit__(self, *error):
        super().__exit__(*error)
        for flannel in getattr(self, "flannels", ()):
            flannel.wait()


class Talker:
    """A process that answers each line it is told with a line of JSON."""

    def __init__(self, command):
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def tell(self, *words):
        self.process.stdin.write(" ".join(words) + "\n")
        self.process.stdin.flush()

    def answer(self):
        line = self.process.stdout.readline()
        if not line:
            raise cluster.Failed(f"{self.process.args}: ended with {self.process.wait()}")
        return json.loads(line)

    def ask(self, *words):
        self.tell(*words)
        return self.answer()

    def end(self):
        self.process.stdin.close()
        self.process.wait()


def traffic(*words):
    return [sys.executable, os.path.join(HERE, "traffic.py"), *map(str, words)]


def pod(name, on):
    command = f"trap 'exit 0' TERM; while :; do sleep 1 & wait; done; : network-{os.getpid()}-{name}"
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": {"app": name}},
            "spec": {"nodeName": on, "terminationGracePeriodSeconds": 1, "containers": [{"name": "main", "image": workload.IMAGE, "command": ["sh", "-c", command]}]}}


def inside_pod(name):
    """How a command gets into a pod's network namespace."""
    marker = f": network-{os.getpid()}-{name} "
    found = [int(p) for p in os.listdir("/proc") if p.isdigit() and node.command_of(int(p)).endswith(marker) and node.command_of(int(p)).startswith("sh ")]
    if len(found) != 1:
        raise cluster.Failed(f"the process of pod {name}: {found}")
    return ["nsenter", "--target", str(found[0]), "--net", "--"]


def busy():
    """Seconds that the machine's processors have worked."""
    with open("/proc/stat") as f:
        fields = list(map(int, f.readline().split()[1:9]))
    return (sum(fields) - fields[3] - fields[4]) / os.sysconf("SC_CLK_TCK")


def ask(way, *words):
    done = subprocess.run([*way, *traffic(*words)], capture_output=True, text=True)
    if done.returncode:
        raise cluster.Failed(f"{' '.join(map(str, words))}: {done.stderr.strip()[-500:]}")
    return json.loads(done.stdout)


def throughput(way, host, seconds):
    """GB/s, and seconds of the machine's processors for a GB; both ends share them."""
    before = busy()
    sent = ask(way, "send", host, PORT, seconds)
    gigabytes = sent["bytes"] / 1e9
    return gigabytes / sent["seconds"], (busy() - before) / gigabytes


def percentile(values, share):
    return sorted(values)[min(len(values) - 1, int(len(values) * share))]


def memory(processes):
    """MiB that these have in memory, without files' pages."""
    total = 0
    for process in processes:
        with open(f"/proc/{process}/status") as f:
            total += sum(int(line.split()[1]) for line in f if line.startswith("RssAnon:"))
    return total / 1024


class Trial:
    def __init__(self, args, machines, seen, rows):
        self.args, self.machines, self.seen, self.rows = args, machines, seen, rows

    def row(self, what, value, unit):
        self.rows.setdefault(what, (unit, []))[1].append(value)
        print(f"  {what}: {value:.3g} {unit}", flush=True)

    def play(self):
        self.seen.until("there are the pods' accounts", lambda: self.seen.get("serviceaccount", "default"), 60)
        self.seen.apply(json.dumps({"apiVersion": "v1", "kind": "List", "items": [
            pod("client", "node"), pod("server", "node2"),
            {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "server"}, "spec": {"selector": {"app": "server"}, "ports": [{"port": PORT}]}}]}))
        self.seen.wait("condition=Ready", "pods", "--all", seconds=120)
        direct, service = self.seen.get("pod", "server")["status"]["podIP"], self.seen.get("service", "server")["spec"]["clusterIP"]
        way = inside_pod("client")
        server = Talker([*inside_pod("server"), *traffic("serve", PORT)])
        try:
            server.answer()
            self.seen.until("the server is reached", lambda: ask(way, "connect", direct, PORT, 1), 30)
            self.seen.until("the server is reached through its Service", lambda: ask(way, "connect", service, PORT, 1), 30)
            self.numbers(way, direct, service)
            self.changes(direct)
        finally:
            server.process.kill()

    def numbers(self, way, direct, service):
        for name, host in (("pod to pod", direct), ("through a Service", service)):
            rate, cost = throughput(way, host, self.args.seconds)
            self.row(f"{name}: throughput of one connection", rate, "GB/s")
            self.row(f"{name}: processor time for a GB, both ends and both nodes", cost, "s")
            trips = ask(way, "echo", host, PORT, 5000)
            self.row(f"{name}: there and back, p50", percentile(trips, 0.5), "us")
            self.row(f"{name}: there and back, p99", percentile(trips, 0.99), "us")
            new = ask(way, "connect", host, PORT, 1000)
            self.row(f"{name}: a new connection to its first byte back, p50", percentile(new, 0.5), "us")
            self.row(f"{name}: a new connection to its first byte back, p99", percentile(new, 0.99), "us")

    def changes(self, endpoint):
        folders = [self.machines.folder, *(folder for folder, _ in self.machines.agents.values())]
        nodes = [Talker(cluster.script("namespaces.sh", "as-guest", folder, *traffic("until"))) for folder in folders]
        writer = Talker(self.machines.inside(sys.executable, os.path.join(HERE, "services.py"), self.machines.kubeconfig))
        try:
            watched, made = writer.ask("watched"), 0
            for wanted in self.args.services:
                if wanted > made:
                    seconds = writer.ask("fill", str(made + 1), str(wanted))
                    print(f"  {wanted - made} Services made in {seconds:.0f} s", flush=True)
                    made = wanted
                took = [self.change(writer, nodes, watched, endpoint) for _ in range(CHANGES + 1)]
                # the first waits for what is behind
                self.row(f"an endpoint changed among {wanted} Services: both nodes know it, p50", statistics.median(took[1:]) * 1e3, "ms")
                self.row(f"an endpoint changed among {wanted} Services: both nodes know it, slowest", max(took[1:]) * 1e3, "ms")
                self.row(f"memory of the proxy, or of the agent that is one too, with {wanted} Services", self.proxy_memory(), "MiB")
        finally:
            for talker in (writer, *nodes):
                talker.end()

    def change(self, writer, nodes, watched, endpoint):
        writer.ask("endpoint", "none")
        for talker in nodes:
            talker.ask(watched, str(PORT), "closed")
        for talker in nodes:
            talker.answer()
        for talker in nodes:
            talker.ask(watched, str(PORT))
        asked = writer.ask("endpoint", endpoint)
        return max(talker.answer() for talker in nodes) - asked

    def proxy_memory(self):
        folder, _ = self.machines.agents["node2"]
        with open(os.path.join(folder, "init.pid")) as f:
            first = int(f.read())
        # what skiff started stands below what entered the namespaces for it
        entrance = self.machines.processes.get("node2")
        processes = node.below(first) + (node.below(entrance.pid) if entrance else [])
        program = "skiff agent" if entrance else "kube-proxy"
        return memory([p for p in processes if program in node.command_of(p).replace("/", " ")])


def archive(args):
    path = os.path.join(args.out, "network.tar")
    with oci.Archive(path) as images:
        for image in workload.images(args.programs):
            images.image(*image)
    return path


def table(rows, sides):
    print("\n| figure | " + " | ".join(sides) + " | ratio |\n|" + " --- |" * (len(sides) + 2))
    for what, (unit, values) in rows.items():
        ratio = f"{values[1] / values[0]:.2f}" if len(values) == 2 else ""
        print(f"| {what} | " + " | ".join(f"{value:.3g} {unit}" for value in values) + f" | {ratio} |")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--against", choices=["upstream", "none"], default="upstream")
    parser.add_argument("--seconds", type=float, default=5, help="of sending as fast as it goes")
    parser.add_argument("--services", type=lambda text: sorted(map(int, text.split(","))), default=[10, 10000], help="numbers of Services, as 10,10000,44000")
    args = world.arguments(parser)
    world.prepare(args.out)
    images, rows = archive(args), {}
    skiff, sides = args.skiff, ["skiff"] + (["upstream"] if args.against == "upstream" else [])
    try:
        for side in sides:
            args.skiff = skiff if side == "skiff" else None
            with world.started(cluster.Cluster if args.skiff else Flannel, args, images, side, nodes=2) as (machines, seen):
                Trial(args, machines, seen, rows).play()
    except cluster.Failed as error:
        sys.exit(f"failed: {error}")
    table(rows, sides)


if __name__ == "__main__":
    main()
