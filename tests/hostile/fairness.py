"""One user who lists without pause by 200 clients, beside another who gets single objects and a node that renews its lease.

  fairness.py --skiff PROGRAM [--clients 200] [--seconds 10] [--factor 5]

The 99th percentile of the other's GETs may be FACTOR times what it is in quiet at most; no request of the node is ever queued; and
every mutating request of the run is in the audit log with its stages and level.
"""

import argparse
import asyncio
import base64
import json
import multiprocessing
import os
import pathlib
import re
import socket
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, str(pathlib.Path(__file__).parent))
import clients  # noqa: E402
import run  # noqa: E402

POLICY = """apiVersion: audit.k8s.io/v1
kind: Policy
rules:
- {level: Request, verbs: [create, update, patch, delete], resources: [{group: ""}]}
- {level: Metadata, verbs: [create, update, patch, delete]}
"""
MAPS = "/api/v1/namespaces/hostile/configmaps"
LEASE = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases"
USERS = {"flood": ("flood", []), "other": ("other", []), "node": ("system:node:n1", ["system:nodes"])}


def certificate(folder, name, user, groups):
    """A client certificate of the server's authority."""
    tls = folder / "data/server/tls"
    subject = "".join(f"/O={group}" for group in groups) + f"/CN={user}"
    key, request, out = folder / f"{name}.key", folder / f"{name}.csr", folder / f"{name}.crt"
    (folder / "extensions").write_text("extendedKeyUsage=clientAuth\n")
    new = ["openssl", "req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-subj", subject, "-keyout", key, "-out", request]
    sign = ["openssl", "x509", "-req", "-extfile", folder / "extensions", "-days", "1", "-CA", tls / "client-ca.crt", "-CAkey", tls / "client-ca.key", "-CAcreateserial", "-in", request, "-out", out]
    for command in (new, sign):
        subprocess.run([str(part) for part in command], check=True, capture_output=True)
    return clients.Target(None, folder / "ca", out, key, "")


class Connection:
    """Requests of one user, one after the other."""

    def __init__(self, target, port):
        self.context, self.port = target.context(admin=True), port
        self.reader = None

    async def ask(self, method, path, body=None, headers=()):
        if self.reader is None:
            self.reader, self.writer = await asyncio.open_connection("127.0.0.1", self.port, ssl=self.context, server_hostname="localhost")
        text = json.dumps(body).encode() if body is not None else b""
        kind = "application/merge-patch+json" if method == "PATCH" else "application/json"
        more = "".join(f"{name}: {value}\r\n" for name, value in headers)
        self.writer.write(f"{method} {path} HTTP/1.1\r\nHost: a\r\nContent-Type: {kind}\r\n{more}Content-Length: {len(text)}\r\n\r\n".encode() + text)
        head = (await self.reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        fields = {name.lower(): value for name, _, value in (line.partition(": ") for line in head.split("\r\n")[1:])}
        if "content-length" in fields:
            answer = await self.reader.readexactly(int(fields["content-length"]))
        else:
            answer = b""
            while (size := int((await self.reader.readline()).strip(), 16)) > 0:
                answer += (await self.reader.readexactly(size + 2))[:-2]
            await self.reader.readexactly(2)
        return int(head.split()[1]), fields, answer


def flood(target, port, count, stop, told):
    """All clients of a process ask, then all read, and so on: what costs the server much and its clients little."""
    # their own work shall not be what slows the server down
    os.nice(19)
    context, counts = target.context(admin=True), {}

    def connect():
        stream = context.wrap_socket(socket.create_connection(("127.0.0.1", port), timeout=60), server_hostname="localhost")
        return stream, stream.makefile("rb")

    def read(reader):
        head = reader.readline()
        length, chunked = 0, False
        while line := reader.readline().strip().lower():
            if line.startswith(b"content-length:"):
                length = int(line.split(b":")[1])
            chunked |= line.startswith(b"transfer-encoding:")
        reader.read(length)
        while chunked and (size := int(reader.readline(), 16) + 2) > 2:
            reader.read(size)
        if chunked:
            reader.readline()
        return int(head.split()[1])

    text = f"GET {MAPS}?labelSelector=none%3D1 HTTP/1.1\r\nHost: a\r\n\r\n".encode()
    streams = [connect() for _ in range(count)]
    while not stop.is_set():
        for stream, _ in streams:
            stream.sendall(text)
        for _, reader in streams:
            code = read(reader)
            counts[code] = counts.get(code, 0) + 1
    told.put(counts)


def percentile(times, part):
    return sorted(times)[min(len(times) - 1, int(len(times) * part))]


async def measure(connection, seconds):
    """Times of GETs, with a pause between them, as a person's tools ask."""
    times, end = [], time.monotonic() + seconds
    while time.monotonic() < end:
        began = time.monotonic()
        code, _, _ = await connection.ask("GET", f"{MAPS}/m0")
        assert code == 200, code
        times.append(time.monotonic() - began)
        await asyncio.sleep(0.01)
    return times


async def renew(connection, seconds, sent):
    """Renews a lease all the while."""
    times, end = [], time.monotonic() + seconds
    while time.monotonic() < end:
        began, name = time.monotonic(), f"lease-{len(sent)}"
        code, _, _ = await connection.ask("PATCH", f"{LEASE}/n1", {"spec": {"leaseDurationSeconds": 40 + len(sent) % 2}}, [("Audit-ID", name)])
        assert code == 200, code
        sent.append(name)
        times.append(time.monotonic() - began)
        await asyncio.sleep(0.05)
    return times


async def watch_queues(connection, seconds):
    """Samples of who waits: schemas of requests in queues."""
    seen, end = set(), time.monotonic() + seconds
    most = 0
    while time.monotonic() < end:
        _, _, text = await connection.ask("GET", "/debug/api_priority_and_fairness/dump_requests")
        rows = [[cell.strip() for cell in line.split(",")] for line in text.decode().splitlines()[1:]]
        waiting = [row[1] for row in rows if len(row) > 3 and row[3] != "-1"]
        seen |= set(waiting)
        most = max(most, len(waiting))
        # reading these must not be what makes the others wait
        await asyncio.sleep(0.5)
    return seen, most


def check_audit(log, sent):
    """Every request that was sent is there, with both stages and its level."""
    end, missing = time.monotonic() + 20, sent
    while missing and time.monotonic() < end:
        stages = {}
        for line in log.read_text().splitlines():
            event = json.loads(line)
            stages.setdefault(event["auditID"], []).append((event["stage"], event["level"]))
        missing = {name: (stages.get(name), level) for name, level in sent.items() if stages.get(name) != [("RequestReceived", level), ("ResponseComplete", level)]}
    return missing


async def play(options, folder, port):
    admin = Connection(clients.Target(None, folder / "ca", folder / "cert", folder / "key", ""), port)
    sent = {}

    async def make(path, body, level="Request"):
        name = f"make-{len(sent)}"
        code, _, answer = await admin.ask("POST", path, body, [("Audit-ID", name)])
        assert code == 201, (path, answer)
        sent[name] = level

    await make("/api/v1/namespaces", {"metadata": {"name": "hostile"}})
    for n in range(1000):
        await make(MAPS, {"metadata": {"name": f"m{n}"}, "data": {"a": "x" * 1000}})
    rule = {"apiGroups": [""], "resources": ["configmaps"], "verbs": ["get", "list"]}
    await make("/apis/rbac.authorization.k8s.io/v1/clusterroles", {"metadata": {"name": "reader"}, "rules": [rule]}, "Metadata")
    subjects = [{"kind": "User", "name": name} for name in ("flood", "other")]
    await make("/apis/rbac.authorization.k8s.io/v1/clusterrolebindings", {"metadata": {"name": "reader"}, "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "reader"}, "subjects": subjects}, "Metadata")
    targets = {name: certificate(folder, name, user, groups) for name, (user, groups) in USERS.items()}
    node, other = Connection(targets["node"], port), Connection(targets["other"], port)
    await make("/api/v1/nodes", {"metadata": {"name": "n1"}})
    code, _, answer = await node.ask("POST", LEASE, {"metadata": {"name": "n1"}, "spec": {"holderIdentity": "n1"}}, [("Audit-ID", "lease")])
    assert code == 201, answer
    sent["lease"] = "Metadata"

    quiet = await measure(other, options.seconds)
    stop, told = multiprocessing.Event(), multiprocessing.Queue()
    groups = 4
    workers = [multiprocessing.Process(target=flood, args=(targets["flood"], port, options.clients // groups, stop, told)) for _ in range(groups)]
    for worker in workers:
        worker.start()
    await asyncio.sleep(2)
    leases = []
    busy, renewed, (waited, most) = await asyncio.gather(measure(other, options.seconds), renew(node, options.seconds, leases), watch_queues(admin, options.seconds))
    stop.set()
    counts = {}
    for _ in workers:
        for code, count in told.get().items():
            counts[code] = counts.get(code, 0) + count
    for worker in workers:
        worker.join()
    sent |= {name: "Metadata" for name in leases}
    missing = check_audit(folder / "audit.log", sent)
    p = {name: percentile(times, 0.99) * 1000 for name, times in (("quiet", quiet), ("busy", busy), ("lease", renewed))}
    print(f"GET p99: quiet {p['quiet']:.1f} ms ({len(quiet)}), beside {options.clients} clients {p['busy']:.1f} ms ({len(busy)}): {p['busy'] / p['quiet']:.1f} times; p50 {percentile(quiet, 0.5) * 1000:.1f} and {percentile(busy, 0.5) * 1000:.1f} ms")
    print(f"the lists were answered {counts}; at most {most} requests waited, of the schemas {sorted(waited)}; lease p99 {p['lease']:.1f} ms ({len(renewed)})")
    print(f"audit: {len(sent)} mutating requests, {len(missing)} without their events {dict(list(missing.items())[:3])}")
    failed = []
    if p["busy"] > options.factor * p["quiet"]:
        failed.append(f"GETs take more than {options.factor} times as long")
    if {"system-node-high", "system-nodes"} & waited:
        failed.append("requests of the node were queued")
    if missing:
        failed.append("events are missing")
    return failed


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--skiff", required=True)
    parser.add_argument("--clients", type=int, default=200)
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--factor", type=float, default=5)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="skiff-fairness-") as name:
        folder, port = pathlib.Path(name), run.free_port()
        (folder / "policy.yaml").write_text(POLICY)
        log = open(folder / "log", "ab")
        command = [options.skiff, "kube-apiserver", "--data-dir", folder / "data", "--secure-port", str(port), "--bind-address", "127.0.0.1",
                   f"--audit-policy-file={folder}/policy.yaml", f"--audit-log-path={folder}/audit.log"]
        server = subprocess.Popen(command, stdout=log, stderr=log)
        try:
            config = run.until(60, "a kubeconfig", lambda: next((p for p in (folder / "data").glob("server/cred/admin.kubeconfig") if p.stat().st_size), None))
            text = config.read_text()
            for file, key in [("ca", "certificate-authority-data"), ("cert", "client-certificate-data"), ("key", "client-key-data")]:
                (folder / file).write_bytes(base64.b64decode(re.search(rf"{key}: *\"?([A-Za-z0-9+/=]+)", text).group(1)))
            failed = asyncio.run(play(options, folder, port))
        finally:
            server.terminate()
            server.wait()
    for why in failed:
        print(f"fairness: {why}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
