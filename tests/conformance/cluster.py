"""A cluster of one node in namespaces of its own: skiff, or upstream's own programs."""
import json, os, shutil, signal, subprocess, time

HERE = os.path.dirname(os.path.abspath(__file__))
UPSTREAM = os.path.join(HERE, "../upstream")
ADDRESS, PODS, SERVICES = "198.51.100.10", "10.244.0.0/16", "10.96.0.0/16"
REGISTRY = "http://127.0.0.1:5000"
# to the node being Ready, the import of the images included; a debug build on a busy machine is the slowest
START_SECONDS = 240


class Failed(Exception):
    pass


def script(name, *arguments):
    return [os.path.join(UPSTREAM, name), *arguments]


class Cluster:
    """`programs` is the folder that build.sh filled, `images` an archive, `skiff` its binary or None for upstream's node."""

    def __init__(self, folder, programs, images, skiff):
        self.folder, self.programs, self.images, self.skiff = folder, programs, images, skiff
        self.name = f"skiff-conformance-{os.getpid()}"
        self.log = os.path.join(folder, "log")
        self.server = None
        self.kubeconfig = os.path.join(folder, "data/server/cred/admin.kubeconfig" if skiff else "admin.conf")

    def __enter__(self):
        os.makedirs(self.log)
        try:
            self._run(script("namespaces.sh", "up", self.name, self.folder))
            self._start_skiff() if self.skiff else self._start_upstream()
            self._wait_until_ready()
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
            if self.server:
                self.server.wait()
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def inside(self, *command):
        """A command inside that is not accounted to the cluster."""
        return script("namespaces.sh", "as-guest", self.folder, "env", f"PATH={self.programs}:{os.environ['PATH']}", "HOME=/root",
                      "KUBECONFIG=" + self.kubeconfig, *command)

    def kubectl(self, *arguments):
        return subprocess.run(self.inside("kubectl", *arguments), capture_output=True, text=True)

    def _run(self, command):
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        if done.returncode:
            raise Failed(f"{' '.join(command)}: {done.stdout.strip()}")

    def _start_skiff(self):
        archives = os.path.join(self.folder, "data/agent/images")
        os.makedirs(archives)
        link_or_copy(self.images, os.path.join(archives, os.path.basename(self.images)))
        # a build while the suite runs would change the binary under the shims
        link_or_copy(self.skiff, os.path.join(self.folder, "skiff"), link=False)
        registries = os.path.join(self.folder, "registries.yaml")
        with open(registries, "w") as f:
            f.write(f'mirrors:\n  registry.k8s.io:\n    endpoint: ["{REGISTRY}"]\n')
        command = script(
            "namespaces.sh", "in", self.folder, os.path.join(self.folder, "skiff"), "server", "--data-dir", os.path.join(self.folder, "data"),
            "--node-name", "node", "--node-ip", ADDRESS, "--cluster-cidr", PODS, "--service-cidr", SERVICES,
            "--private-registry", registries, "--resolv-conf", os.path.join(self.folder, "resolv.conf"),
            *os.environ.get("SKIFF_FLAGS", "").split(),
        )
        with open(os.path.join(self.log, "skiff.log"), "w") as log:
            # away from the terminal, whose Ctrl-C ends the suite first
            self.server = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)

    def _start_upstream(self):
        host = os.path.join(self.folder, "certs.d/registry.k8s.io")
        os.makedirs(host)
        with open(os.path.join(host, "hosts.toml"), "w") as f:
            f.write(f'server = "{REGISTRY}"\n[host."{REGISTRY}"]\ncapabilities = ["pull", "resolve"]\n')
        cluster = os.path.join(UPSTREAM, "cluster.sh")
        self._run(script("namespaces.sh", "as-guest", self.folder, cluster, "prepare", self.programs, self.folder, "node", self.images))
        self._run(script("namespaces.sh", "in", self.folder, cluster, "start", self.programs, self.folder, "node"))

    def _wait_until_ready(self):
        deadline = time.monotonic() + START_SECONDS
        wanted = "the node is Ready"
        while True:
            if self.server and self.server.poll() is not None:
                raise Failed(f"skiff ended with {self.server.returncode}:\n{self._tail()}")
            if self.skiff:
                with open(os.path.join(self.log, "skiff.log")) as f:
                    if wanted in f.read():
                        return
            elif self.kubectl("wait", "--for=condition=Ready", "node/node", "--timeout=10s").returncode == 0:
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


def link_or_copy(source, target, link=True):
    source = os.path.realpath(source)
    try:
        if not link:
            raise OSError
        os.link(source, target)
    except OSError:
        shutil.copy(source, target)


def take_down(folder):
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
