"""The two sides that are compared, each in namespaces of its own: upstream's API server with etcd, and skiff's; or both with scheduler and controllers.
Programs may be compared beside them."""
import base64
import json
import os
import re
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path

UPSTREAM = Path(__file__).resolve().parent.parent / "upstream"
DEADLINE = 120
REGISTRY = "http://127.0.0.1:5000"


class Server:
    """An API server and the process in its namespaces that talks to it."""

    def __init__(self, name, folder, cluster="api-server", worker="worker.py"):
        self.name, self.dir, self.cluster, self.program_of_worker = name, Path(folder) / name, cluster, worker
        self.certificates = self.dir / "certificates"
        self.worker, self.keeper = None, None
        # more flags of the API server, and of the controller manager
        self.flags, self.controller_flags = [], []
        self.playing = threading.Lock()

    def enter(self, how, *command):
        return ["bash", str(UPSTREAM / "namespaces.sh"), how, str(self.dir), *map(str, command)]

    def start(self, run):
        if self.dir.exists():
            shutil.rmtree(self.dir)
        self.certificates.mkdir(parents=True)
        subprocess.run(["bash", UPSTREAM / "namespaces.sh", "up", f"differential-{run}-{self.name}", self.dir], check=True)
        # takes all down when this process ends, however it ends
        self.keeper = subprocess.Popen(["bash", "-c", f"read -r _; {self.end()}", "keeper", str(UPSTREAM), str(self.dir)], stdin=subprocess.PIPE, start_new_session=True)
        self.launch()
        self.worker = subprocess.Popen(
            self.enter("as-guest", sys.executable, Path(__file__).parent / self.program_of_worker, self.certificates),
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.until("the server is ready", [{"method": "GET", "path": "/readyz"}], lambda answers: answers[0]["code"] == 200)

    def stop(self):
        # with its namespaces the worker ends too, whatever it waits for
        if self.worker:
            self.worker.kill()
            self.worker.wait()
        if self.keeper:
            self.keeper.stdin.close()
            if self.keeper.wait():
                raise RuntimeError(f"{self.dir} is not wholly down")

    def end(self):
        """The command that takes all down; $1 is the folder of scripts, $2 the server's."""
        # a node leaves much
        rest = """ && find "$2" -mindepth 1 -maxdepth 1 ! -name '*.log' ! -name log -exec rm -rf {} +""" if self.cluster == "node" else ""
        return 'bash "$1/namespaces.sh" down "$2"' + rest

    def ask(self, requests):
        """Answers in the order of the requests, which are sent one after the other."""
        return self.play([requests])[0]

    def play(self, scripts):
        """The answers of each script; scripts run beside each other."""
        with self.playing:
            return self.play_alone(scripts)

    def play_alone(self, scripts):
        def write():
            for number, steps in enumerate(scripts):
                self.worker.stdin.write(json.dumps({"id": number, "steps": steps}) + "\n")
            self.worker.stdin.flush()
        # a pipe that is full in one direction must not stop the other
        writer = threading.Thread(target=write)
        writer.start()
        answers = [None] * len(scripts)
        for _ in scripts:
            line = self.worker.stdout.readline()
            if not line:
                raise RuntimeError(f"{self.name}: the worker ended")
            answer = json.loads(line)
            answers[answer["id"]] = answer["answers"]
        writer.join()
        return answers

    def found(self, name, find):
        """What `find` finds beside the answers, which a tape has under that name."""
        return find()

    def until(self, what, requests, done):
        end = time.monotonic() + DEADLINE
        while True:
            answers = self.ask(requests)
            if done(answers):
                return
            if time.monotonic() > end:
                raise RuntimeError(f"{self.name}: not within {DEADLINE} s: {what}: {answers}")
            time.sleep(0.02)

    def certificate(self, name, user, groups=()):
        """A client certificate of this cluster's authority, for requests `as` that name."""
        authority, key = self.authority()
        subject = "".join(f"/O={group}" for group in groups) + f"/CN={user}"
        out = self.certificates / name
        new = ["openssl", "req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-subj", subject]
        subprocess.run([*new, "-keyout", f"{out}.key", "-out", f"{out}.csr"], check=True, capture_output=True)
        # a certificate of version 1, without extensions, is no client's for everybody
        (self.certificates / "extensions").write_text("extendedKeyUsage=clientAuth\n")
        sign = ["openssl", "x509", "-req", "-extfile", str(self.certificates / "extensions"), "-days", "1", "-CA", authority, "-CAkey", key, "-CAcreateserial"]
        subprocess.run([*sign, "-in", f"{out}.csr", "-out", f"{out}.crt"], check=True, capture_output=True)


class Upstream(Server):
    def __init__(self, folder, programs, *what):
        super().__init__("upstream", folder, *what)
        self.programs = programs

    def launch(self):
        images = []
        if self.cluster == "node":
            images = [self.dir.parent / "images.tar"]
            host = self.dir / "certs.d" / REGISTRY.removeprefix("http://")
            host.mkdir(parents=True)
            (host / "hosts.toml").write_text(f'server = "{REGISTRY}"\n[host."{REGISTRY}"]\ncapabilities = ["pull", "resolve"]\n')
        what = "kubelet" if self.cluster == "node" else self.cluster
        for step in ("prepare", "start"):
            log = (self.dir / f"{step}.log").open("w")
            command = self.enter("in", "bash", UPSTREAM / "cluster.sh", step, self.programs, self.dir, what, *(images if step == "prepare" else []))
            # as fast as skiff's controllers, which have no limit of requests
            faster = {"CONTROLLER_FLAGS": " ".join(["--kube-api-qps=300", "--kube-api-burst=600", *self.controller_flags])}
            subprocess.run(command, check=True, stdout=log, stderr=subprocess.STDOUT, env={**os.environ, **faster, "API_SERVER_FLAGS": " ".join(self.flags)})
        kubeconfig = (self.dir / "admin.conf").read_text()
        for suffix, field in (("crt", "client-certificate-data"), ("key", "client-key-data")):
            data = re.search(rf"{field}: (\S+)", kubeconfig).group(1)
            (self.certificates / f"admin.{suffix}").write_bytes(base64.b64decode(data))

    def authority(self):
        return self.dir / "pki/ca.crt", self.dir / "pki/ca.key"


class Skiff(Server):
    def __init__(self, folder, program, *what):
        super().__init__("skiff", folder, *what)
        self.program = program

    def launch(self):
        log = (self.dir / "server.log").open("w")
        program = ["kube-apiserver", "--service-cluster-ip-range", "10.96.0.0/16"]
        if self.cluster == "control-plane":
            program = ["server", "--disable-agent", "--disable-kube-proxy", "--disable", "coredns,servicelb", "--service-cidr", "10.96.0.0/16", "--cluster-cidr", "10.244.0.0/16"]
        if self.cluster == "node":
            # what runs is a copy: a build must not change the program under its shims
            self.program = shutil.copy(self.program, self.dir / "skiff")
            archives = self.dir / "data/agent/images"
            archives.mkdir(parents=True)
            (archives / "images.tar").hardlink_to(self.dir.parent / "images.tar")
            program = ["server", "--disable-kube-proxy", "--disable-scheduler", "--disable", "coredns", "--service-cidr", "10.96.0.0/16", "--cluster-cidr", "10.244.0.0/16", "--node-name", "node",
                       "--node-ip", "198.51.100.10", "--resolv-conf", self.dir / "resolv.conf",
                       "--kubelet-arg", "eviction-hard=memory.available<100Mi,nodefs.available<64Mi,imagefs.available<64Mi"]
        more = self.flags
        if program[0] == "server":
            more = [f"--kube-apiserver-arg={flag.lstrip('-')}" for flag in self.flags] + [f"--kube-controller-manager-arg={flag.lstrip('-')}" for flag in self.controller_flags]
        command = self.enter("in", "setsid", self.program, *program, *more, "--data-dir", self.dir / "data", "--advertise-address", "198.51.100.10")
        subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT)
        tls = self.dir / "data/server/tls"
        end = time.monotonic() + DEADLINE
        while not (tls / "serving-kube-apiserver.crt").exists():
            if time.monotonic() > end:
                raise RuntimeError(f"skiff did not start: {(self.dir / 'server.log').read_text()[-2000:]}")
            time.sleep(0.05)
        for suffix in ("crt", "key"):
            (self.certificates / f"admin.{suffix}").symlink_to(tls / f"client-admin.{suffix}")

    def end(self):
        # the cgroups of its pods are in the machine's hierarchy, under a name that only it knows
        killall = '[ ! -e "$2/skiff" ] || bash "$1/namespaces.sh" as-guest "$2" sh "$1/end-skiff.sh" "$2/skiff" "$2/data"; ' if self.cluster == "node" else ""
        return killall + super().end()

    def authority(self):
        tls = self.dir / "data/server/tls"
        return tls / "client-ca.crt", tls / "client-ca.key"


class Program:
    """One of two programs that run the same lines beside each other, each with objects of its own; `mark` stands for it in their names."""

    def __init__(self, name, command, mark, servers):
        self.name, self.command, self.mark, self.servers = name, command, mark, servers

    def play(self, scripts):
        """A script is played on the server that its first step names."""
        answers = [None] * len(scripts)
        for at, server in enumerate(self.servers):
            chosen = [number for number, steps in enumerate(scripts) if steps[0].get("server", 0) == at]
            texts = [json.dumps(scripts[number]).replace("-SIDE", f"-{self.mark}") for number in chosen]
            mine = [[{**step, "program": self.command} if "words" in step else step for step in json.loads(text)] for text in texts]
            for number, answer in zip(chosen, server.play(mine) if mine else []):
                answers[number] = answer
        return answers
