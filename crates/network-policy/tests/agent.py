"""A pod of the test: listens on TCP and UDP ports 80 and 81 of both families, and asks others when told to."""

import json
import selectors
import socket
import sys
import threading
import time

sel = selectors.DefaultSelector()
for port in (80, 81):
    for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
        s = socket.socket(socket.AF_INET6, kind)
        s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        s.bind(("::", port))
        s.setblocking(False)
        if kind == socket.SOCK_STREAM:
            s.listen(256)
        sel.register(s, selectors.EVENT_READ)


def serve():
    while True:
        for key, _ in sel.select():
            s = key.fileobj
            if s.type == socket.SOCK_STREAM:
                s.accept()[0].close()
            else:
                data, who = s.recvfrom(100)
                s.sendto(data, who)


def ask(targets, grace):
    """Which targets answer: those that are expected to are waited for, the others for a while."""
    waiting, reached = {}, set()
    own = selectors.DefaultSelector()
    for n, (ip, protocol, port, expected) in enumerate(targets):
        family = socket.AF_INET6 if ":" in ip else socket.AF_INET
        s = socket.socket(family, socket.SOCK_STREAM if protocol == "TCP" else socket.SOCK_DGRAM)
        s.setblocking(False)
        s.connect_ex((ip, port))
        if protocol == "UDP":
            try:
                s.send(b"x")
            except OSError:
                pass
        own.register(s, selectors.EVENT_WRITE if protocol == "TCP" else selectors.EVENT_READ, n)
        waiting[n] = s
    expected = {n for n, t in enumerate(targets) if t[3]}
    start, late = time.monotonic(), None
    while waiting:
        now = time.monotonic()
        if expected <= reached or now > start + 10:
            late = late or now + grace
            if now > late:
                break
        for key, _ in own.select(0.02):
            n, s = key.data, key.fileobj
            if targets[n][1] == "TCP":
                good = s.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == 0
            else:
                try:
                    good = s.recv(100) == b"x"
                except OSError:
                    good = False
            if good:
                reached.add(n)
            own.unregister(s)
            waiting.pop(n).close()
    for s in waiting.values():
        s.close()
    return sorted(reached)


threading.Thread(target=serve, daemon=True).start()
print("ready", flush=True)
for line in sys.stdin:
    print(json.dumps(ask(json.loads(line), 0.25)), flush=True)
