#!/usr/bin/env python3
"""What many nodes cost: a server, and so many hollow nodes that take pods and replace them all once. Prints a table of times, memory and processor time.

It starts itself again in namespaces of its own, so that nothing of it stays, whatever ends it.
"""
import argparse, contextlib, fcntl, glob, os, re, shutil, subprocess, sys, tempfile, time

NAME, PREFIX = "hollow", "skiff-test-hollow-"
DEPLOYMENT = """
apiVersion: apps/v1
kind: Deployment
metadata: {{ name: crowd-{number} }}
spec:
  replicas: {replicas}
  selector: {{ matchLabels: {{ app: crowd-{number} }} }}
  template:
    metadata: {{ labels: {{ app: crowd-{number} }} }}
    spec:
      nodeSelector: {{ node.skiff.io/hollow: "true" }}
      containers:
      - {{ name: c, image: "registry.example/crowd:1", resources: {{ requests: {{ cpu: 10m }} }} }}
"""


def arguments():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--skiff", required=True, help="skiff's binary")
    parser.add_argument("--programs", required=True, help="the folder that `tests/upstream/build.sh` filled (`kubectl`)")
    parser.add_argument("--nodes", type=int, default=200, help="hollow nodes")
    parser.add_argument("--pods", type=int, default=5000, help="pods, in deployments of 500 at most")
    parser.add_argument("--quiet", type=int, default=60, help="seconds over which an idle cluster is measured")
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    args.skiff, args.programs = map(os.path.abspath, (args.skiff, args.programs))
    return args


def processes(holder):
    """A process and all below it."""
    found, parents = [holder], {}
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/stat") as f:
                parents.setdefault(int(f.read().rpartition(")")[2].split()[1]), []).append(int(pid))
        except OSError:
            pass
    for pid in found:
        found += parents.get(pid, [])
    return found


class Part:
    """A process of the cluster: what it has used of a processor, in seconds, and what it has in memory, in MiB."""

    def __init__(self, folder):
        with open(os.path.join(folder, "pid")) as f:
            self.pids = processes(int(f.read()))

    def cpu(self):
        total = 0
        for pid in self.pids:
            with open(f"/proc/{pid}/stat") as f:
                fields = f.read().rpartition(")")[2].split()
            total += int(fields[11]) + int(fields[12])
        return total / os.sysconf("SC_CLK_TCK")

    def memory(self):
        total = 0
        for pid in self.pids:
            with open(f"/proc/{pid}/status") as f:
                total += int(re.search(r"VmRSS:\s*(\d+)", f.read()).group(1))
        return total / 1024


class Trial:
    def __init__(self, args, home):
        self.args, self.home = args, home
        self.environment = {**os.environ, "SKIFF_DEV_DIR": os.path.join(home, "dev"), "HOME": home}
        self.environment.pop("KUBECONFIG", None)

    def run(self, *words):
        done = subprocess.run(words, env=self.environment, capture_output=True, text=True)
        if done.returncode:
            raise SystemExit(f"{' '.join(words)}: {done.stderr or done.stdout}")
        return done.stdout

    def skiff(self, *words):
        return self.run(self.args.skiff, "dev", *words)

    def kubectl(self, *words):
        return self.run(os.path.join(self.args.programs, "kubectl"), *words)

    def step(self, what, work):
        """Does something and prints how long it took and what it cost."""
        before, began = [part.cpu() for part in self.parts], time.monotonic()
        work()
        took = time.monotonic() - began
        cells = [f"{part.cpu() - used:8.1f} s {part.memory():6.0f} MiB" for part, used in zip(self.parts, before)]
        print(f"{what:44} {took:7.1f} s  {'  '.join(cells)}", flush=True)
        return took

    def start(self):
        began = time.monotonic()
        self.skiff("start", NAME, f"--hollow={self.args.nodes}", "--timeout=10m", "--node-arg=--kubelet-arg=eviction-hard=memory.available<1Mi", "--server-arg=--cluster-cidr=10.0.0.0/9", "--server-arg=--service-cidr=10.200.0.0/16")
        print(f"{'all nodes are Ready':44} {time.monotonic() - began:7.1f} s", flush=True)
        folder = os.path.join(self.home, "dev", NAME)
        self.parts = [Part(os.path.join(folder, f"{NAME}-{part}")) for part in ("server", "hollow")]
        print(f"{'':57}{'server':>21}  {'hollow nodes':>21}")

    def renewed(self):
        """The versions of the hollow nodes' leases, each of which changes when it is renewed."""
        text = self.kubectl("get", "leases", "-n", "kube-node-lease", "-o", "jsonpath={range .items[*]}{.metadata.name} {.metadata.resourceVersion}{'\\n'}{end}")
        return {name: version for name, version in map(str.split, text.splitlines()) if name.startswith(f"{NAME}-hollow-")}

    def trial(self):
        pods, sizes = self.args.pods, []
        while pods > 0:
            sizes.append(min(500, pods))
            pods -= sizes[-1]
        names = [f"deployment/crowd-{number}" for number in range(len(sizes))]
        manifest = os.path.join(self.home, "crowd.yaml")
        with open(manifest, "w") as f:
            f.write("---".join(DEPLOYMENT.format(number=number, replicas=size) for number, size in enumerate(sizes)))

        def rolled_out():
            for name in names:
                self.kubectl("rollout", "status", name, "--timeout=30m")

        def gone():
            while self.kubectl("get", "pods", "-o", "name"):
                time.sleep(0.2)

        def create():
            self.kubectl("apply", "-f", manifest)
            rolled_out()

        def replace():
            self.kubectl("set", "image", *names, "c=registry.example/crowd:2")
            rolled_out()

        def delete():
            self.kubectl("delete", *names)
            gone()
        quiet = lambda: time.sleep(self.args.quiet)
        before = self.renewed()
        self.step("idle", quiet)
        after = self.renewed()
        still = [name for name in before if after.get(name) == before[name]]
        if len(before) != self.args.nodes or still:
            raise SystemExit(f"leases: {len(before)} nodes have one, not renewed in {self.args.quiet} s: {still}")
        self.step(f"{self.args.pods} pods are made", create)
        self.step("idle with them", quiet)
        self.step("a rolling update of all", replace)
        self.step("all are deleted", delete)
        ready = self.kubectl("get", "nodes", "-o", "jsonpath={.items[*].status.conditions[?(@.type=='Ready')].status}").split()
        if ready != ["True"] * (self.args.nodes + 1):
            raise SystemExit(f"nodes: {ready.count('True')} of {self.args.nodes + 1} are Ready")


@contextlib.contextmanager
def held(home):
    """Tells whether nobody else has this folder, and has it."""
    with open(os.path.join(home, "lock"), "w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            yield True
        except BlockingIOError:
            yield False


def remove(args, home):
    """Takes away a cluster with its cgroups, also one whose processes have ended."""
    trial = Trial(args, home)
    if os.path.exists(os.path.join(home, "dev", NAME)):
        trial.skiff("delete", NAME)
    shutil.rmtree(home)


def main():
    args = arguments()
    if not args.inside:
        words = ["unshare", "--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "--propagation=private", sys.executable, os.path.abspath(__file__), *sys.argv[1:], "--inside"]
        os.execvp(words[0], words)
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    for home in glob.glob(os.path.join(tempfile.gettempdir(), PREFIX + "*")):
        with held(home) as free:
            if free:
                remove(args, home)
    home = tempfile.mkdtemp(prefix=PREFIX)
    with held(home):
        try:
            trial = Trial(args, home)
            trial.start()
            trial.trial()
        finally:
            remove(args, home)


if __name__ == "__main__":
    main()
