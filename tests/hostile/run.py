"""Hostile clients against a server whose memory is limited: it must not die, and answer others throughout.

  run.py --skiff PROGRAM [--seeds 1-1000] [--clients 4] [--memory 256] [--only KIND]

The server runs in a memory cgroup of its own (version 1 or 2) and in a folder of its own; both are gone afterwards.
"""

import argparse
import base64
import json
import multiprocessing
import os
import pathlib
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, str(pathlib.Path(__file__).parent))
import clients  # noqa: E402

DEFINITION = {
    "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition", "metadata": {"name": "things.hostile.test"},
    "spec": {"group": "hostile.test", "scope": "Namespaced", "names": {"plural": "things", "kind": "Thing", "singular": "thing", "listKind": "ThingList"},
             "versions": [{"name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": {"type": "object", "properties": {"spec": {"type": "object", "properties": {
                 "any": {"x-kubernetes-preserve-unknown-fields": True},
                 "map": {"type": "object", "additionalProperties": {"type": "array", "items": {"type": "string"}}},
                 "nulls": {"type": "object", "additionalProperties": {"type": "string"}},
                 "set": {"type": "array", "x-kubernetes-list-type": "set", "items": {"type": "string"}},
                 "named": {"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"], "items": {"type": "object", "required": ["name"], "properties": {"name": {"type": "string"}}}}}}}}}}]},
}


class Cage:
    """A memory cgroup of our own."""

    def __init__(self, mebibytes):
        v2 = os.path.exists("/sys/fs/cgroup/cgroup.controllers")
        root = "/sys/fs/cgroup" if v2 else "/sys/fs/cgroup/memory"
        self.path = pathlib.Path(root) / f"skiff-hostile-{os.getpid()}"
        self.path.mkdir()
        self.peak_file = "memory.peak" if v2 else "memory.max_usage_in_bytes"
        (self.path / ("memory.max" if v2 else "memory.limit_in_bytes")).write_text(str(mebibytes << 20))

    def enter(self):
        (self.path / "cgroup.procs").write_text(str(os.getpid()))

    def peak(self):
        return int((self.path / self.peak_file).read_text()) >> 20

    def remove(self):
        for _ in range(100):
            try:
                return self.path.rmdir()
            except OSError as error:
                left = error
                time.sleep(0.05)
        print(f"hostile: {self.path} is left: {left}", file=sys.stderr)


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def start(skiff, folder, cage, port):
    log = open(folder / "log", "ab")
    return subprocess.Popen([skiff, "kube-apiserver", "--data-dir", folder / "data", "--secure-port", str(port), "--bind-address", "127.0.0.1"],
                            stdout=log, stderr=log, preexec_fn=cage.enter)


def until(deadline, what, condition):
    end = time.time() + deadline
    while time.time() < end:
        found = condition()
        if found:
            return found
        time.sleep(0.05)
    raise SystemExit(f"hostile: {what} did not happen in {deadline} s")


def prepare(folder, port):
    """The administrator's files, a namespace, a user who may do everything in it, and something to change and to list."""
    config = until(30, "a kubeconfig", lambda: next((p for p in (folder / "data").glob("server/cred/admin.kubeconfig") if p.stat().st_size), None))
    text = config.read_text()
    for name, key in [("ca", "certificate-authority-data"), ("cert", "client-certificate-data"), ("key", "client-key-data")]:
        (folder / name).write_bytes(base64.b64decode(re.search(rf"{key}: *\"?([A-Za-z0-9+/=]+)", text).group(1)))
    target = clients.Target(port, folder / "ca", folder / "cert", folder / "key", "")
    until(30, "readiness", lambda: target.request("GET", "/readyz", who="admin") == 200)

    def make(path, body):
        status = target.request("POST", path, body, who="admin")
        if status != 201:
            raise SystemExit(f"hostile: POST {path} gave {status}")

    make("/api/v1/namespaces", {"metadata": {"name": "hostile"}})
    for account in ("default", "user"):
        make("/api/v1/namespaces/hostile/serviceaccounts", {"metadata": {"name": account}})
    make("/apis/rbac.authorization.k8s.io/v1/namespaces/hostile/rolebindings", {
        "metadata": {"name": "user"}, "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "cluster-admin"},
        "subjects": [{"kind": "ServiceAccount", "name": "user", "namespace": "hostile"}]})
    make("/apis/apiextensions.k8s.io/v1/customresourcedefinitions", DEFINITION)
    make(clients.PODS, {**clients.pod(), "metadata": {"name": "base"}})
    for i in range(200):
        make(clients.MAPS, {"metadata": {"name": f"m{i}"}, "data": {"a": "x" * 50_000}})
    make(clients.MAPS, {"metadata": {"name": "base"}, "data": {"seed": "x" * 2000}})
    make(clients.MAPS, {"metadata": {"name": "ending", "finalizers": ["hostile.test/never"]}})
    target.request("DELETE", f"{clients.MAPS}/ending", who="admin")
    until(10, "the definition", lambda: target.request("POST", clients.THINGS, {"apiVersion": "hostile.test/v1", "kind": "Thing", "metadata": {"name": "base"}}, who="admin") in (201, 409))
    context = target.context(admin=True)
    with context.wrap_socket(target.tcp(), server_hostname="localhost") as stream:
        body = b'{"apiVersion":"authentication.k8s.io/v1","kind":"TokenRequest","spec":{"expirationSeconds":86400}}'
        stream.sendall(b"POST /api/v1/namespaces/hostile/serviceaccounts/user/token HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))
        answer = b""
        while more := stream.recv(1 << 16):
            answer += more
    target.token = json.loads(answer[answer.index(b"\r\n\r\n") + 4:])["status"]["token"]
    return target


def client(target, seeds, told):
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    for seed in seeds:
        began = time.time()
        kind, result = clients.send(target, seed)
        told.put((seed, kind, str(result), time.time() - began))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--skiff", required=True)
    parser.add_argument("--seeds", default="1-1000")
    parser.add_argument("--clients", type=int, default=4)
    parser.add_argument("--memory", type=int, default=256)
    parser.add_argument("--only", help="one kind of request, by the name of its function")
    parser.add_argument("--patience", type=float, default=1.0, help="seconds in which /readyz must answer")
    options = parser.parse_args()
    first, _, last = options.seeds.partition("-")
    seeds = list(range(int(first), int(last or first) + 1))
    if options.only:
        seeds = [s for s in seeds if clients.KINDS[s % len(clients.KINDS)].__name__ == options.only]
    # whoever ends a run wants what it made gone too
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    folder = pathlib.Path(tempfile.mkdtemp(prefix="skiff-hostile-"))
    cage, server, workers = Cage(options.memory), None, []
    try:
        port = free_port()
        server = start(options.skiff, folder, cage, port)
        target = prepare(folder, port)
        told = multiprocessing.Queue()
        workers = [multiprocessing.Process(target=client, args=(target, seeds[i::options.clients], told)) for i in range(options.clients)]
        for worker in workers:
            worker.start()
        slowest, asked, failures, results = 0.0, 0, [], {}
        running = []
        while any(w.is_alive() for w in workers) or not told.empty():
            began = time.time()
            status = target.request("GET", "/readyz", who="nobody", timeout=10)
            took = time.time() - began
            asked += 1
            slowest = max(slowest, took)
            while not told.empty():
                seed, kind, result, lasted = told.get()
                results.setdefault(kind, {}).setdefault(result, 0)
                results[kind][result] += 1
                running = (running + [(seed, kind, round(lasted, 1))])[-8:]
            if status not in (200, 401) or took > options.patience:
                failures.append(f"/readyz gave {status} after {took:.2f} s, shortly before ended {running}")
            if server.poll() is not None:
                failures.append(f"the server ended with {server.returncode}, shortly before ended {running}")
                break
            time.sleep(0.1)
        # A debug build goes on after a panic, one for users does not. What h2 asserts when a connection breaks off it does in debug builds alone.
        panics = [line for line in (folder / "log").read_text(errors="replace").splitlines() if "panicked at" in line and "/h2-" not in line]
        failures += [f"the server's log: {line}" for line in panics]
        for kind, counts in sorted(results.items()):
            print(f"{kind:14} " + ", ".join(f"{result} {count}" for result, count in sorted(counts.items())))
        print(f"{len(seeds)} seeds by {options.clients} clients; /readyz asked {asked} times, slowest {slowest * 1000:.0f} ms; memory at most {cage.peak()} of {options.memory} MiB")
        for failure in failures[:20]:
            print("FAILED", failure)
        if failures:
            kept = pathlib.Path(tempfile.gettempdir()) / "skiff-hostile.log"
            shutil.copy(folder / "log", kept)
            print("the server's log:", kept)
        print(f"{asked - len(failures)} passed, {len(failures)} failed")
        return 1 if failures else 0
    finally:
        for worker in workers:
            worker.kill()
            worker.join()
        if server:
            server.kill()
            server.wait()
        cage.remove()
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main())
