"""The worker of the breaking rig: plays scripts as worker.py does, and is what their webhooks and extension servers lead to, on one port.

A step with `serve` starts it with that certificate and key; one with `behave` says how it behaves for a script from now on. A behaviour has of:
sleep (seconds), http and text (another answer altogether), cut (how much of the answer comes before the connection ends: none, head, half; `reset` breaks it off),
trickle (the answer never ends, a byte now and then); of admission: allowed, patch (a kind of the ones below and how many operations); of conversion: lie (one
of the ones below) and only (the version that is wanted then); of an extension server: events (how many a watch sends before what `cut` says).
A step with `burst` is asked so often at once, each on a connection of its own; its answer is which answers there were, and whether others were answered meanwhile.
One with `stream` tells what came of a stream and how it ended; one with `settle` is asked until the answer is not that the server is unavailable.
One with `says` is asked until the answer says that, for forty seconds at most, one with `unlike` until its code is another, for ten.
"""
import concurrent.futures
import http.client
import http.server
import json
import re
import resource
import socket
import ssl
import struct
import sys
import threading
import time

import worker
from https import serve
from lies import admitted, converted

PORT = 8443
behaviours = {}


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def answer(self):
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        named = getattr(self.connection, "asked", "")
        script, what = (named, "served") if named else (self.path.split("/")[1], self.path.split("/")[2].partition("?")[0])
        how = behaviours.get(script, {})
        if what == "probe":
            review = json.loads(body)
            return self.tell(200, json.dumps({"kind": "AdmissionReview", "apiVersion": review["apiVersion"], "response": {"uid": review["request"]["uid"], "allowed": False, "status": {"code": 418}}}))
        if what == "served" and self.path.count("/") < 4 or "/openapi" in self.path:
            # what is asked of the server itself is answered whatever happens to its resources
            group = self.path.split("/")[2:3]
            things = {"name": "things", "singularName": "thing", "namespaced": True, "kind": "Thing", "verbs": ["get", "list", "watch"]}
            found = {"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": f"{group[0]}/v1", "resources": [things]} if self.path.endswith("/v1") and group else None
            return self.tell(200 if found else 404, json.dumps(found or {"kind": "Status", "code": 404}))
        time.sleep(how.get("sleep", 0))
        text = how.get("text")
        if text is None:
            text = self.events(how) if what == "served" else json.dumps((admitted if what == "a" else converted)(json.loads(body), how))
        self.tell(how.get("http", 200), text, how)

    def events(self, how):
        thing = {"kind": "Thing", "apiVersion": "x/v1", "metadata": {"name": "a"}}
        if "watch=" not in self.path:
            return json.dumps({"kind": "ThingList", "apiVersion": "x/v1", "items": [thing] * 3})
        return "".join(json.dumps({"type": "ADDED", "object": thing}) + "\n" for _ in range(how.get("events", 2)))

    def tell(self, code, text, how={}):
        cut, text = how.get("cut"), text.encode()
        if cut == "none":
            return self.end(how)
        self.send_response(code)
        self.send_header("Content-Type", how.get("type", "application/json"))
        chunked = "watch=" in self.path or how.get("trickle")
        self.send_header(*(("Transfer-Encoding", "chunked") if chunked else ("Content-Length", str(len(text)))))
        self.end_headers()
        if cut == "head":
            return self.end(how)
        if how.get("trickle"):
            # longer than anybody waits
            for _ in range(200):
                self.wfile.write(b"1\r\n \r\n")
                self.wfile.flush()
                time.sleep(0.1)
            return self.end(how)
        half = text[:len(text) // 2] if cut == "half" else text
        if chunked:
            for line in half.splitlines(True):
                self.wfile.write(b"%x\r\n%s\r\n" % (len(line), line))
                self.wfile.flush()
            if cut is None:
                self.wfile.write(b"0\r\n\r\n")
        else:
            self.wfile.write(half)
        if cut:
            self.end(how)

    def end(self, how):
        self.close_connection = True
        if how.get("reset"):
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.connection.close()
        else:
            self.connection.shutdown(socket.SHUT_RDWR)

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = answer

    def log_message(self, *_):
        pass


def know_scripts(context):
    """The script of an extension server is known by the name that its client asks for."""
    def named(stream, name, _):
        stream.asked = (name or "").removesuffix(".default.svc") if (name or "").endswith(".svc") else ""
    context.sni_callback = named
    context.sslsocket_class = type("Socket", (ssl.SSLSocket,), {"asked": ""})


def burst(step):
    """Sends all requests before it reads any answer, and asks for other things meanwhile."""
    request, answers, others, done = {k: v for k, v in step.items() if k not in ("burst", "says", "until", "unlike")}, [], [], threading.Event()
    ready = threading.Barrier(step["burst"])

    def one():
        connection = worker.connect(request.get("as", "admin"))
        connection.timeout = 90
        try:
            connection.connect()
            ready.wait(120)
            answer = worker.send(connection, request, {})
        except (OSError, http.client.HTTPException, threading.BrokenBarrierError) as error:
            answer = {"code": 0, "body": f"{type(error).__name__}: {error}"}
        finally:
            connection.close()
        answers.append(answer)

    def meanwhile():
        slowest, codes = 0, set()
        while not done.is_set():
            for path in ("/readyz", "/api/v1/namespaces/default"):
                begin = time.monotonic()
                codes.add(worker.ask({"method": "GET", "path": path}, {})["code"])
                slowest = max(slowest, time.monotonic() - begin)
            time.sleep(0.1)
        others.append([sorted(codes), "late" if slowest > 15 else "in time"])

    beside = threading.Thread(target=meanwhile)
    beside.start()
    threads = [threading.Thread(target=one) for _ in range(step["burst"])]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    done.set()
    beside.join()
    told = {}
    for answer in answers:
        body = answer["body"]
        text = body.get("message", body.get("kind", "")) if isinstance(body, dict) else str(body)
        told.setdefault(json.dumps([answer["code"], deadline(text)]), []).append(answer)
    return {"code": 200, "body": {"answers": sorted(map(json.loads, told)), "others": others[0], "count": len(answers)}}


def deadline(text):
    """Which of Go's clocks runs out first is a matter of luck."""
    return re.sub(r"(context deadline exceeded|net/http: request canceled|net/http: TLS handshake timeout|i/o timeout)( while waiting for connection| while awaiting headers)?( \((Client\.Timeout|client\.Timeout)[^)]*\))?", "<deadline>", text)


def stream(step):
    """Reads what comes until it ends, and says how it ended."""
    connection = worker.connect(step.get("as", "admin"))
    try:
        connection.request(step["method"], step["path"], headers=step.get("headers") or {})
        response = connection.getresponse()
        came = b""
        try:
            while more := response.read1(1 << 16):
                came += more
                # of a body that is chunked what is left is not known: there the end that does not come is an error
            how = "cut" if response.length else "ended"
        except (OSError, http.client.HTTPException):
            how = "cut"
        return {"code": response.status, "type": response.headers.get("Content-Type"), "body": {"came": came.decode("utf-8", "replace"), "how": how}}
    except (OSError, http.client.HTTPException):
        return {"code": 0, "body": {"came": "", "how": "no answer"}}
    finally:
        connection.close()


def ask(step, answers, of_server=worker.ask):
    if "serve" in step:
        hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        serve(PORT, *step["serve"], Handler, know_scripts)
        return {"code": 200, "body": {}}
    if "behave" in step:
        behaviours[step["behave"]] = step["how"]
        return {"code": 200, "body": {}}
    if "burst" in step:
        return burst(step)
    if "stream" in step:
        return stream(step)
    answer, end = of_server(step, answers), time.monotonic() + (40 if "says" in step else 10)
    while time.monotonic() < end:
        text = json.dumps(answer["body"])
        if "says" in step and step["says"] not in text or step.get("unlike") == answer["code"] or step.get("settle") and ("service unavailable" in text or answer["code"] in (404, 503)):
            time.sleep(0.05)
            answer = of_server(step, answers)
        else:
            break
    if isinstance(answer["body"], dict) and isinstance(answer["body"].get("message"), str):
        answer["body"]["message"] = deadline(answer["body"]["message"])
    return answer


if __name__ == "__main__":
    worker.ask = ask
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        for line in sys.stdin:
            pool.submit(worker.play, line)
