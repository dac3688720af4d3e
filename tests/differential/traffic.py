"""The worker of the Services rig: makes the network of a node with pods, and plays scripts whose steps may be traffic.

Four pods p0 to p3 of this node (10.244.0.10 and so on), each routed by a link of its own; a network beside the node has the client
(198.51.100.20) and the pods far0, far1 of another node (10.244.1.10, .11). Each answers on ports 8080 to 8082 with its name and the address that it sees.
A step with `probe` {from, ip, port, proto} tells who answers; `open` keeps a connection under a name, `again` uses it once more.
"""
import concurrent.futures
import ctypes
import errno
import itertools
import json
import os
import socket
import subprocess
import sys
import threading
import time

PODS = {f"p{n}": f"10.244.0.{10 + n}" for n in range(4)}
FAR = {f"far{n}": f"10.244.1.{10 + n}" for n in range(2)}
NODE, CLIENT = "198.51.100.10", "198.51.100.20"
PORTS = range(8080, 8083)
CLONE_NEWNET = 0x40000000
libc = ctypes.CDLL(None, use_errno=True)


def run(*command):
    subprocess.run(command, check=True, capture_output=True)


def network():
    # a refusal is an ICMP message, of which the kernel sends one a second
    unlimited = ["sysctl", "-qw", "net.ipv4.icmp_ratelimit=0"]
    run(*unlimited)
    for name, address in PODS.items():
        run("ip", "netns", "add", name)
        run("ip", "link", "add", f"v{name}", "type", "veth", "peer", "name", "eth0", "netns", name)
        run("ip", "link", "set", f"v{name}", "address", "02:00:00:00:00:01", "up")
        run("ip", "route", "add", address, "dev", f"v{name}")
        for more in (["link", "set", "lo", "up"], ["link", "set", "eth0", "up"], ["addr", "add", f"{address}/32", "dev", "eth0"], ["route", "add", "169.254.1.1", "dev", "eth0", "scope", "link"],
                     ["route", "add", "default", "via", "169.254.1.1"], ["neigh", "add", "169.254.1.1", "lladdr", "02:00:00:00:00:01", "dev", "eth0", "nud", "permanent"]):
            run("ip", "-n", name, *more)
        run("ip", "netns", "exec", name, *unlimited)
    run("ip", "netns", "add", "client")
    run("ip", "netns", "exec", "client", *unlimited)
    run("ip", "link", "set", "node0p", "netns", "client")
    for more in (["link", "set", "lo", "up"], ["link", "set", "node0p", "up"], ["addr", "add", f"{CLIENT}/24", "dev", "node0p"], ["route", "add", "default", "via", NODE],
                 *(["addr", "add", f"{address}/32", "dev", "lo"] for address in FAR.values())):
        run("ip", "-n", "client", *more)
    run("ip", "route", "add", "10.244.1.0/24", "via", CLIENT)


def enter(space):
    """This thread's sockets belong to another network from here on."""
    file = os.open(f"/run/netns/{space}" if space else "/proc/self/ns/net", os.O_RDONLY)
    if libc.setns(file, CLONE_NEWNET):
        raise OSError(ctypes.get_errno(), f"setns {space}")
    os.close(file)


class Space:
    """A thread whose sockets belong to one network."""

    def __init__(self, name):
        # as many probes wait as are asked
        self.pool = concurrent.futures.ThreadPoolExecutor(12, initializer=enter, initargs=(name,)) if name else concurrent.futures.ThreadPoolExecutor(12)

    def do(self, what, *arguments):
        return self.pool.submit(what, *arguments).result()


def serve(name, address, port, proto):
    """Answers each line or packet with the name of the pod and the address it came from."""
    kind = socket.SOCK_STREAM if proto == "TCP" else socket.SOCK_DGRAM
    with socket.socket(socket.AF_INET, kind) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((address, port))
        if proto == "UDP":
            while True:
                _, peer = listener.recvfrom(2000)
                listener.sendto(f"{name}:{port} {peer[0]}".encode(), peer)
        listener.listen(200)
        while True:
            connection, peer = listener.accept()
            threading.Thread(target=converse, args=(connection, f"{name}:{port} {peer[0]}"), daemon=True).start()


def converse(connection, answer):
    try:
        with connection:
            while connection.recv(100):
                connection.sendall(answer.encode())
    except OSError:
        pass


def serve_all(space, addresses):
    def start():
        enter(space)
        for name, address in addresses.items():
            for port in PORTS:
                for proto in ("TCP", "UDP"):
                    # a thread is born into its parent's network
                    threading.Thread(target=serve, args=(name, address, port, proto), daemon=True).start()
    thread = threading.Thread(target=start)
    thread.start()
    thread.join()


# a UDP flow outlives the rule it was made by, so that a packet from a port that was used lately may still go where the flow goes: no port comes twice in a while
ports = itertools.cycle(range(32768, 61000))


def bind(peer):
    while True:
        try:
            return peer.bind(("", next(ports)))
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise


def connected(ip, port, proto, wait):
    peer = socket.socket(socket.AF_INET, socket.SOCK_STREAM if proto == "TCP" else socket.SOCK_DGRAM)
    peer.settimeout(wait)
    if proto == "UDP":
        bind(peer)
    peer.connect((ip, port))
    return peer


def said(peer):
    peer.sendall(b"?")
    answer = peer.recv(200).decode()
    if not answer:
        raise ConnectionError
    return answer


def failure(error):
    return "nothing" if isinstance(error, TimeoutError) else "refused" if isinstance(error, ConnectionRefusedError) else "closed" if isinstance(error, ConnectionError) else f"{type(error).__name__} {error.errno}"


def once(ip, port, proto, wait=0.4):
    try:
        peer = connected(ip, port, proto, wait)
        with peer:
            return said(peer)
    except OSError as error:
        return failure(error)


def probe(step):
    """All the answers to so many tries, each once."""
    answers = []
    for _ in range(step.get("times", 24)):
        answers.append(once(step["ip"], step["port"], step["proto"]))
        # silence is dear, and a refusal stays one
        if answers.count("nothing") >= 2 or answers == ["refused"] * 3:
            break
    return sorted(set(answers))


def until(step):
    """Waits until somebody answers, as the rules are changed at the proxy's own time."""
    end = time.monotonic() + 20
    while time.monotonic() < end:
        one = once(step["ip"], step["port"], "TCP", 0.2)
        if ":" in one:
            return [one]
        time.sleep(0.02)
    return ["never"]


def play(steps, spaces, kept):
    """One traffic step."""
    if "probe" in steps:
        one = steps["probe"]
        return {"code": 200, "body": spaces[one["from"]].do(until if one.get("until") else probe, one)}
    if "open" in steps:
        one = steps["open"]

        def opened():
            try:
                peer = connected(one["ip"], one["port"], one["proto"], 0.4)
                kept[one["name"]] = peer, said(peer)
                return "open"
            except OSError as error:
                return failure(error)
        return {"code": 200, "body": spaces[one["from"]].do(opened)}
    peer, before = kept.get(steps["again"], (None, None))
    if peer is None:
        return {"code": 200, "body": "was not open"}
    try:
        return {"code": 200, "body": "the same" if said(peer) == before else "another"}
    except OSError as error:
        return {"code": 200, "body": failure(error)}


def main():
    import worker
    network()
    for name, address in PODS.items():
        serve_all(name, {name: address})
    serve_all("client", FAR)
    # pods on the node's own network
    for port in PORTS:
        for proto in ("TCP", "UDP"):
            threading.Thread(target=serve, args=("host", NODE, port, proto), daemon=True).start()
    spaces = {"node": Space(None), "client": Space("client"), **{name: Space(name) for name in PODS}}

    def play_script(line):
        script, answers, kept = json.loads(line), {}, {}
        for at, step in enumerate(script["steps"]):
            try:
                answers[step.get("n", at)] = play(step, spaces, kept) if {"probe", "open", "again"} & set(step) else worker.ask(step, answers)
            except Exception as error:
                answers[step.get("n", at)] = {"code": -1, "body": f"the worker: {error!r}"}
        for peer, _ in kept.values():
            peer.close()
        with worker.writing:
            print(json.dumps({"id": script["id"], "answers": list(answers.values())}), flush=True)

    with concurrent.futures.ThreadPoolExecutor(24) as pool:
        for line in sys.stdin:
            pool.submit(play_script, line)


if __name__ == "__main__":
    main()
