#!/usr/bin/env python3
"""One end of the network measurements, run inside a pod's or a node's network namespace. Answers are lines of JSON.

  traffic.py serve PORT                      takes connections: what is sent to it goes nowhere (`s`), or comes back (`e`), as their first byte says
  traffic.py send HOST PORT SECONDS          sends as fast as it goes: bytes, and seconds until the other end has them all
  traffic.py echo HOST PORT COUNT            one byte there and back on one connection: microseconds of each
  traffic.py connect HOST PORT COUNT         a new connection each time, to the first byte back: microseconds of each
  traffic.py until                           for each line `HOST PORT` on its input, first that it looks, then when (monotonic seconds) a connection was
                                             first accepted there; for `HOST PORT closed`, when none had been for a quarter of a second
"""
import json, select, socket, sys, threading, time

BLOCK = 256 << 10
# between two attempts to connect, in seconds, and how many may wait for their answer: who is refused on his own node hears of it only a second later
PAUSE, WAITING = 0.0005, 100
# so long nobody accepts a connection to what is closed
CLOSED = 0.25


def address(host, port):
    return host, int(port)


def quick(connection):
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return connection


def take(connection):
    with quick(connection):
        what, buffer = connection.recv(1), bytearray(BLOCK)
        if what == b"s":
            while connection.recv_into(buffer):
                pass
            connection.sendall(b".")
        while what == b"e" and (data := connection.recv(16)):
            connection.sendall(data)


def serve(port):
    with socket.create_server(("", int(port)), backlog=1024) as server:
        print("{}", flush=True)
        while True:
            threading.Thread(target=take, args=(server.accept()[0],), daemon=True).start()


def send(host, port, seconds):
    with quick(socket.create_connection(address(host, port))) as connection:
        connection.sendall(b"s")
        block, sent, began = bytes(BLOCK), 0, time.monotonic()
        while time.monotonic() - began < float(seconds):
            connection.sendall(block)
            sent += BLOCK
        connection.shutdown(socket.SHUT_WR)
        connection.recv(1)
        return {"bytes": sent, "seconds": time.monotonic() - began}


def echo(host, port, count):
    with quick(socket.create_connection(address(host, port))) as connection:
        connection.sendall(b"e")
        return [there_and_back(connection) for _ in range(int(count))]


def there_and_back(connection):
    began = time.perf_counter()
    connection.sendall(b".")
    if connection.recv(1) != b".":
        raise SystemExit("the other end closed the connection")
    return (time.perf_counter() - began) * 1e6


def connect(host, port, count):
    found = []
    for _ in range(int(count)):
        began = time.perf_counter()
        with quick(socket.create_connection(address(host, port), timeout=5)) as connection:
            connection.sendall(b"e.")
            connection.recv(1)
            found.append((time.perf_counter() - began) * 1e6)
    return found


def until():
    for line in sys.stdin:
        host, port, *closed = line.split()
        where, waiting, last = address(host, port), [], time.monotonic()
        print("{}", flush=True)
        while True:
            if accepted(where, waiting):
                last = time.monotonic()
                if not closed:
                    break
            elif closed and time.monotonic() - last > CLOSED:
                break
        print(json.dumps(time.monotonic()), flush=True)
        for attempt in waiting:
            attempt.close()


def accepted(where, waiting):
    """Begins another connection, and tells whether one is there."""
    attempt = socket.socket()
    attempt.setblocking(False)
    attempt.connect_ex(where)
    waiting.append(attempt)
    if len(waiting) > WAITING:
        waiting.pop(0).close()
    ready = select.select([], waiting, [], PAUSE)[1]
    outcomes = [(one, one.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)) for one in ready]
    for one, _ in outcomes:
        waiting.remove(one)
        one.close()
    return any(error == 0 for _, error in outcomes)


def main():
    command = {"serve": serve, "send": send, "echo": echo, "connect": connect, "until": until}[sys.argv[1]]
    answer = command(*sys.argv[2:])
    if answer is not None:
        print(json.dumps(answer))


if __name__ == "__main__":
    main()
