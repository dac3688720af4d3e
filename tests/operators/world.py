"""A cluster as its administrator has it: kubectl, Helm, and patience. What does not come is a failure that says what was there last."""
import contextlib, json, os, shutil, signal, subprocess, time

import cluster

# a debug build on a busy machine is the slowest
PATIENCE = 300


class World:
    def __init__(self, node, programs, folder):
        self.node, self.programs, self.folder = node, programs, folder
        self.home = os.path.join(folder, "home")
        self.began = time.monotonic()
        os.makedirs(self.home, exist_ok=True)

    def version_of(self, program):
        """The versions of a program that build.sh built."""
        with open(os.path.join(self.programs, "versions", program)) as f:
            return f.read().split()

    def step(self, sentence):
        print(f"{time.monotonic() - self.began:7.1f} s  {sentence}", flush=True)

    def run(self, *command, text=None):
        # caches of clients stay in our folder
        home = [f"HOME={self.home}", *(f"HELM_{kind}_HOME={self.home}/{kind.lower()}" for kind in ("CACHE", "CONFIG", "DATA"))]
        return subprocess.run(self.node.inside("env", *home, *command), input=text, capture_output=True, text=True)

    def ask(self, *command, text=None):
        done = self.run(*command, text=text)
        if done.returncode:
            raise cluster.Failed(f"{' '.join(command)}: {done.stderr.strip() or done.stdout.strip()}")
        return done.stdout

    def kubectl(self, *arguments, text=None):
        return self.ask("kubectl", *arguments, text=text)

    def apply(self, text, *arguments):
        return self.kubectl("apply", "-f", "-", *arguments, text=text)

    def get(self, *arguments):
        return json.loads(self.kubectl("get", *arguments, "-o", "json"))

    def wait(self, condition, *what, seconds=PATIENCE):
        return self.kubectl("wait", f"--for={condition}", f"--timeout={seconds}s", *what)

    def refused(self, text, *saying):
        """What apply is told of objects that must not be taken: by whom and why."""
        done = self.run("kubectl", "apply", "-f", "-", text=text)
        if not done.returncode:
            raise cluster.Failed(f"accepted, though it must be refused with {saying}: {done.stdout.strip()}")
        missing = [part for part in saying if part not in done.stderr]
        if missing:
            raise cluster.Failed(f"refused, but without {missing}: {done.stderr.strip()}")

    def until(self, what, question, seconds=PATIENCE):
        """Asks until the answer is true, and returns it; a failure of kubectl is an answer that is not."""
        deadline = time.monotonic() + seconds
        while True:
            try:
                answer = question()
            except cluster.Failed as error:
                answer, said = None, str(error)
            else:
                said = repr(answer)
            if answer:
                return answer
            if time.monotonic() > deadline:
                raise cluster.Failed(f"{what}: not after {seconds} s; at last: {said}")
            time.sleep(0.5)

    def same(self, what, found, wanted):
        if found != wanted:
            raise cluster.Failed(f"{what}: {found!r}, wanted {wanted!r}")

    def describe(self):
        """What is worth reading after a failure."""
        parts = []
        for command in (
            ["get", "nodes,pods,deployments,statefulsets,jobs,apiservices", "-A", "-o", "wide"],
            ["get", "events", "-A", "--sort-by=.lastTimestamp"],
            ["describe", "nodes"],
            ["describe", "pods", "-A"],
        ):
            done = self.run("kubectl", *command)
            parts.append(f"$ kubectl {' '.join(command)}\n{done.stdout}{done.stderr}")
        pods = self.run("kubectl", "get", "pods", "-A", "-o", "json").stdout
        for pod in json.loads(pods or "{}").get("items", ()):
            name, namespace = pod["metadata"]["name"], pod["metadata"]["namespace"]
            done = self.run("kubectl", "logs", "-n", namespace, name, "--all-containers", "--prefix", "--tail=400")
            parts.append(f"$ kubectl logs -n {namespace} {name}\n{done.stdout}{done.stderr}")
        return "\n".join(parts)


def stop(*_):
    raise KeyboardInterrupt


def arguments(parser):
    """Reads the command line, with what every cluster needs."""
    parser.add_argument("--skiff", required=True, help="skiff's binary")
    parser.add_argument("--programs", required=True, help="the folder that `tests/upstream/build.sh` filled")
    parser.add_argument("--out", help="clusters and logs go into new folders in it")
    args = parser.parse_args()
    args.skiff, args.programs = os.path.abspath(args.skiff), os.path.abspath(args.programs)
    args.out = args.out and os.path.abspath(args.out)
    return args


def prepare(out):
    """Before the first cluster below this folder: those of runs that were killed go, and a signal takes down what is started."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, stop)
    os.makedirs(out, exist_ok=True)
    cluster.take_down_abandoned(out)


@contextlib.contextmanager
def started(kind, args, images, name="", **settings):
    """A new cluster and its administrator. Whatever ends it, only the logs stay; a failure leaves there what the cluster looked like."""
    folder = os.path.join(args.out, time.strftime("%Y%m%d-%H%M%S") + (name and "-" + name))
    os.makedirs(folder)
    print(f"{name + ': ' if name else ''}starting a cluster; everything of this run is in {folder}", flush=True)
    try:
        with kind(os.path.join(folder, "cluster"), args.programs, images, args.skiff, **settings) as machines:
            seen = World(machines, args.programs, os.path.join(folder, "clients"))
            try:
                yield machines, seen
            except cluster.Failed:
                with open(os.path.join(machines.log, "objects.log"), "w") as f:
                    f.write(seen.describe())
                raise
    finally:
        shutil.rmtree(os.path.join(folder, "clients"), ignore_errors=True)
