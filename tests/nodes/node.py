"""A node of the cluster as a machine: its processes, its link, its power."""
import os, signal, subprocess, time

UPSTREAM = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../upstream")


def children():
    """The processes of this machine by their parent."""
    found = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                with open(f"/proc/{entry}/stat") as f:
                    parent = int(f.read().rpartition(")")[2].split()[1])
            except (FileNotFoundError, ProcessLookupError):
                continue
            found.setdefault(parent, []).append(int(entry))
    return found


def below(process):
    """All that descend from a process."""
    by_parent, found, todo = children(), [], [process]
    while todo:
        added = by_parent.get(todo.pop(), ())
        # what a node's first process waits with
        found += [child for child in added if command_of(child) != "sleep infinity "]
        todo += added
    return found


def command_of(process):
    try:
        with open(f"/proc/{process}/cmdline", "rb") as f:
            return f.read().replace(b"\0", b" ").decode(errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return ""


class Node:
    """`name` is the server's, `skiff`, or an agent's; `port` is the one of the switch that its link goes to."""

    def __init__(self, cluster, name, port):
        self.cluster, self.name, self.port = cluster, name, port
        self.folder = cluster.folder if name == "skiff" else cluster.agents[name][0]

    def processes(self):
        """All that run on it but its first one, which holds its namespaces."""
        with open(os.path.join(self.folder, "init.pid")) as f:
            first = int(f.read())
        # what skiff started, and what is an orphan
        return below(first) + below(self.entrance())

    def entrance(self):
        """The process outside whose child skiff is."""
        return self.cluster.processes[self.name].pid

    def containers(self, text):
        """Processes of containers whose command says so."""
        return [p for p in self.processes() if text in command_of(p)]

    def freeze(self):
        # a process that starts another between the look and the signal is seen the next time
        for _ in range(3):
            self.send(signal.SIGSTOP)

    def thaw(self):
        self.send(signal.SIGCONT)
        # it stands still with its child, and does not go on with it
        os.kill(self.entrance(), signal.SIGCONT)

    def kill(self):
        """As if its power went: nothing can say good-bye."""
        while self.processes():
            self.send(signal.SIGKILL)
            time.sleep(0.05)
        self.cluster.processes[self.name].wait()

    def kill_skiff(self):
        for process in children().get(self.entrance(), ()):
            os.kill(process, signal.SIGKILL)
        self.cluster.processes[self.name].wait()

    def start(self):
        self.cluster.start_process(self.name)
        self.cluster.wait_until_ready(self.name)

    def move_to_disk(self, mebibytes):
        """Ends it, gives it a small disk of its own for its data, and starts it."""
        skiff, data, disk = (os.path.join(self.folder, name) for name in ("skiff", "data", "disk"))
        self.inside(os.path.join(UPSTREAM, "end-skiff.sh"), skiff, data)
        self.cluster.processes[self.name].wait()
        self.inside("sh", "-ec", f"""
            truncate -s {mebibytes}M {disk}.img
            mkfs.ext4 -q -m 0 {disk}.img
            mkdir {disk}
            mount -o loop {disk}.img {disk}
            cp -a {data}/. {disk}
            mount --bind {disk} {data}
            umount {disk}""")
        # upstream keeps the pressure up for five minutes
        self.cluster.commands[self.name] += ["--kubelet-arg", "eviction-pressure-transition-period=5s"]
        self.start()

    def send(self, number):
        for process in self.processes():
            try:
                os.kill(process, number)
            except ProcessLookupError:
                pass

    def link(self, state):
        """Plugs its cable in (`up`) or out (`down`)."""
        with open(os.path.join(self.cluster.folder, "switch.pid")) as f:
            switch = f.read().strip()
        subprocess.run(["nsenter", "--target", switch, "--net", "--", "ip", "link", "set", f"port{self.port}", state], check=True)

    def inside(self, *command):
        self.cluster.run([os.path.join(UPSTREAM, "namespaces.sh"), "as-guest", self.folder, *command])
