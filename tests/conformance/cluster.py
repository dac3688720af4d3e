"""A cluster in namespaces of its own, a set for each node: skiff with as many nodes as wanted, or upstream's own programs with one."""
import json, os, shutil, signal, subprocess, time

HERE = os.path.dirname(os.path.abspath(__file__))
UPSTREAM = os.path.join(HERE, "../upstream")
ADDRESS, PODS, SERVICES = "198.51.100.10", "10.244.0.0/16", "10.96.0.0/16"
# of a cluster that has both families
PODS6, SERVICES6 = "fd00:10:244::/56", "fd00:10:96::/112"
REGISTRY = f"http://{ADDRESS}:5000"
# to the node being Ready, the import of the images included; a debug build on a busy machine is the slowest
START_SECONDS = 240


class Failed(Exception):
    pass


def script(name, *arguments):
    return [os.path.join(UPSTREAM, name), *arguments]


class Cluster:
    """`programs` is the folder that build.sh filled, `images` an archive, `skiff` its binary or None for upstream's node. A `dual` one has
    IPv6 beside IPv4."""

    def __init__(self, folder, programs, images, skiff, nodes=1, dual=False):
        self.folder, self.programs, self.images, self.skiff, self.dual = folder, programs, images, skiff, dual
        # by name: the folder and address of each node that joins the first
        self.agents = {f"node{n}": (os.path.join(folder, f"node{n}"), f"198.51.100.{9 + n}") for n in range(2, nodes + 1)}
        # by a node's log, and what it was started with
        self.processes, self.commands = {}, {}
        self.name = f"skiff-conformance-{os.getpid()}"
        self.log = os.path.join(folder, "log")
        self.kubeconfig = os.path.join(folder, "data/server/cred/admin.kubeconfig" if skiff else "admin.conf")

    def __enter__(self):
        os.makedirs(self.log)
        try:
            self.run(script("namespaces.sh", "up", self.name, self.folder, *([ADDRESS, "node", address6(ADDRESS)] if self.dual else [])))
            for name, (folder, address) in self.agents.items():
                os.makedirs(folder)
                self.run(script("namespaces.sh", "up", f"{self.name}-{name}", folder, address, name, *([address6(address)] if self.dual else [])))
            if self.agents:
                self.run(script("namespaces.sh", "join", self.folder, *(folder for folder, _ in self.agents.values())))
                self.wired()
            self._start_skiff() if self.skiff else self._start_upstream()
            self.wait_until_ready()
            for name, (folder, address) in self.agents.items():
                self._start_agent(name, folder, address) if self.skiff else self._join_upstream(name, folder)
            if self.agents and not self.skiff:
                self.connect()
            for name in self.agents:
                self.wait_until_ready(name)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        """Ends all that runs inside; only the logs stay."""
        # what takes it down must not be interrupted by a second Ctrl-C
        before = {s: signal.signal(s, signal.SIG_IGN) for s in (signal.SIGINT, signal.SIGTERM)}
        try:
            take_down(self.folder)
            for process in self.processes.values():
                process.wait()
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def wired(self):
        """The nodes' links are there, and nothing is started yet."""

    def inside(self, *command):
        """A command inside that is not accounted to the cluster."""
        return script("namespaces.sh", "as-guest", self.folder, "env", f"PATH={self.programs}:{os.environ['PATH']}", "HOME=/root",
                      "KUBECONFIG=" + self.kubeconfig, *command)

    def kubectl(self, *arguments):
        return subprocess.run(self.inside("kubectl", *arguments), capture_output=True, text=True)

    def run(self, command):
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        if done.returncode:
            raise Failed(f"{' '.join(command)}: {done.stdout.strip()}")

    def _start_skiff(self):
        # a build while the suite runs would change the binary under the shims
        link_or_copy(self.skiff, os.path.join(self.folder, "skiff"), link=False)
        both = lambda of_ipv4, of_ipv6: f"{of_ipv4},{of_ipv6}" if self.dual else of_ipv4
        flags = ["--cluster-cidr", both(PODS, PODS6), "--service-cidr", both(SERVICES, SERVICES6), *os.environ.get("SKIFF_FLAGS", "").split()]
        self._node("skiff", self.folder, ["server", "--node-name", "node", "--node-ip", self.addresses(ADDRESS), *flags])

    def addresses(self, address):
        """All of the node that has this one."""
        return f"{address},{address6(address)}" if self.dual else address

    @property
    def settings(self):
        """What cluster.sh is told of the cluster's shape."""
        # the ways between nodes are routed: a pod has its own address everywhere
        routed = ["POD_MASQUERADING=false"] if self.agents else []
        return ["env", *routed, *(["FAMILIES=dual"] if self.dual else [])]

    def _join_upstream(self, name, folder):
        """A further node of upstream's."""
        certificates = os.path.join(folder, "certs.d")
        shutil.copytree(os.path.join(self.folder, "certs.d"), certificates)
        number, script_of_cluster = name.removeprefix("node"), os.path.join(UPSTREAM, "cluster.sh")
        self.run(script("namespaces.sh", "as-guest", folder, *self.settings, script_of_cluster, "prepare-join", self.programs, folder, self.folder, number, self.images))
        self.run(script("namespaces.sh", "in", folder, *self.settings, script_of_cluster, "join", self.programs, folder, self.folder, number))
    def connect(self):
        """Makes the ways between the pods of upstream's nodes."""
        nodes = [(self.folder, ADDRESS), *self.agents.values()]
        for here, (there, _) in enumerate(nodes):
            for number, (_, address) in enumerate(nodes):
                if number != here:
                    ways = [(f"10.244.{number}.0/24", address)] + ([(f"fd00:10:244:{number}::/64", address6(address))] if self.dual else [])
                    for pods, way in ways:
                        self.run(script("namespaces.sh", "as-guest", there, "ip", "route", "replace", pods, "via", way))

    def _start_agent(self, name, folder, address):
        with open(os.path.join(self.folder, "data/server/node-token")) as f:
            token = f.read().strip()
        link_or_copy(os.path.join(self.folder, "skiff"), os.path.join(folder, "skiff"))
        flags = ["--server", f"https://{ADDRESS}:6443", "--token", token, "--node-name", name, "--node-ip", self.addresses(address)]
        self._node(name, folder, ["agent", *flags])

    def _node(self, name, folder, arguments):
        """Starts skiff inside a node's namespaces."""
        archives = os.path.join(folder, "data/agent/images")
        os.makedirs(archives)
        link_or_copy(self.images, os.path.join(archives, os.path.basename(self.images)))
        registries = os.path.join(folder, "registries.yaml")
        with open(registries, "w") as f:
            f.write(f'mirrors:\n  registry.k8s.io:\n    endpoint: ["{REGISTRY}"]\n')
        self.commands[name] = script(
            "namespaces.sh", "in", folder, os.path.join(folder, "skiff"), *arguments, "--data-dir", os.path.join(folder, "data"),
            "--private-registry", registries, "--resolv-conf", os.path.join(folder, "resolv.conf"),
            # the share of a disk that is free says nothing of the suite
            "--kubelet-arg", "eviction-hard=memory.available<100Mi,nodefs.available<64Mi,imagefs.available<64Mi",
        )
        self.start_process(name)

    def start_process(self, name):
        """Starts a node's server or agent, whose earlier one has ended."""
        with open(os.path.join(self.log, name + ".log"), "w") as out:
            # away from the terminal, whose Ctrl-C ends the suite first
            self.processes[name] = subprocess.Popen(
                self.commands[name], stdin=subprocess.DEVNULL, stdout=out, stderr=out, start_new_session=True
            )

    def _start_upstream(self):
        host = os.path.join(self.folder, "certs.d/registry.k8s.io")
        os.makedirs(host)
        with open(os.path.join(host, "hosts.toml"), "w") as f:
            f.write(f'server = "{REGISTRY}"\n[host."{REGISTRY}"]\ncapabilities = ["pull", "resolve"]\n')
        cluster = os.path.join(UPSTREAM, "cluster.sh")
        self.run(script("namespaces.sh", "as-guest", self.folder, *self.settings, cluster, "prepare", self.programs, self.folder, "node", self.images))
        self.run(script("namespaces.sh", "in", self.folder, *self.settings, cluster, "start", self.programs, self.folder, "node"))

    def wait_until_ready(self, name="skiff"):
        node = "node" if name == "skiff" else name
        deadline = time.monotonic() + START_SECONDS
        wanted = "the node is Ready"
        while True:
            for process in self.processes.values():
                if process.poll() is not None:
                    raise Failed(f"skiff ended with {process.returncode}:\n{self._tail()}")
            if self.skiff:
                with open(os.path.join(self.log, name + ".log")) as f:
                    if wanted in f.read():
                        return
            elif self.kubectl("wait", "--for=condition=Ready", f"node/{node}", "--timeout=10s").returncode == 0:
                self.kubectl("rollout", "status", "-n", "kube-system", "deployment/coredns", "--timeout=120s")
                return
            if time.monotonic() > deadline:
                raise Failed(f"the node is not Ready after {START_SECONDS} s:\n{self._tail()}")
            time.sleep(0.1)

    def _tail(self):
        lines = []
        for name in sorted(os.listdir(self.log)):
            with open(os.path.join(self.log, name), errors="replace") as f:
                lines += [f"{name}: {line}" for line in f.read().splitlines()[-15:]]
        return "\n".join(lines)


def address6(address):
    """The IPv6 address of the node that has this one."""
    return "2001:db8::" + address.rsplit(".", 1)[1]


def link_or_copy(source, target, link=True):
    source = os.path.realpath(source)
    try:
        if not link:
            raise OSError
        os.link(source, target)
    except OSError:
        shutil.copy(source, target)


def take_down(folder):
    for name in sorted(os.listdir(folder)):
        if os.path.exists(os.path.join(folder, name, "name")):
            take_down(os.path.join(folder, name))
    if os.path.exists(os.path.join(folder, "name")):
        skiff, data = os.path.join(folder, "skiff"), os.path.join(folder, "data")
        if os.path.exists(skiff):
            # the cgroups of its pods are in the machine's hierarchy, under a name that only skiff knows
            end = script("namespaces.sh", "as-guest", folder, *script("end-skiff.sh", skiff, data))
            left = subprocess.run(end, capture_output=True, text=True)
            if left.returncode:
                print(f"skiff killall: {left.stderr.strip()}", flush=True)
        done = subprocess.run(script("namespaces.sh", "down", folder), capture_output=True, text=True, start_new_session=True)
        if done.returncode:
            print(f"{folder} is not wholly down: {done.stderr.strip()}", flush=True)
    for name in os.listdir(folder):
        path = os.path.join(folder, name)
        if name != "log":
            shutil.rmtree(path) if os.path.isdir(path) and not os.path.islink(path) else os.unlink(path)


def take_down_abandoned(root):
    """Clusters of runs that were killed."""
    for run in os.listdir(root) if os.path.isdir(root) else ():
        folder = os.path.join(root, run, "cluster")
        name = os.path.join(folder, "name")
        if not os.path.exists(name):
            continue
        with open(name) as f:
            owner = f.read().strip().rsplit("-", 1)[1]
        if not os.path.exists(f"/proc/{owner}"):
            take_down(folder)


def version(cluster):
    return json.loads(cluster.kubectl("version", "-o", "json").stdout or "{}").get("serverVersion", {}).get("gitVersion", "unknown")
