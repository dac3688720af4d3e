"""The worker of the aggregation rig: plays scripts as worker.py does, and is the extension server that their APIServices lead to.

It knows a script by the name of the Service that a client wants, SERVICE.default.svc. A step with `serve` starts it with that certificate and key.
One with `behave` says how it answers for a service from now on: by path, `*` for all others, a list of code, headers and body; null ends the
connection, and `echo` in place of a body tells what was asked. A step with `await` asks until the condition Available has that reason, `says` until
the answer has that text; with `settle` for five seconds until the service is known and available.
"""
import concurrent.futures
import http.server
import json
import ssl
import sys
import time

import worker
from https import serve

PORT = 8443
DEADLINE = 45
behaviours = {}
# of the connection, of the client's library, or other on both sides
LEFT_OUT = {"accept-encoding", "user-agent", "audit-id", "content-length", "transfer-encoding", "traceparent"}


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def answer(self):
        length = int(self.headers.get("Content-Length") or 0)
        body = self.rfile.read(length).decode("utf-8", "replace")
        if self.headers.get("Transfer-Encoding") == "chunked":
            while size := int(self.rfile.readline(), 16):
                body += self.rfile.read(size + 2)[:-2].decode("utf-8", "replace")
            self.rfile.readline()
        how = behaviours.get(self.connection.asked, {})
        path = self.path.partition("?")[0]
        answer = how.get(path, how.get("*", [404, {}, "no such path"]))
        if answer is None:
            self.close_connection = True
            return
        code, headers, text = answer
        if text == "echo":
            seen = sorted([name.lower(), value] for name, value in self.headers.items() if name.lower() not in LEFT_OUT)
            text = json.dumps({"method": self.command, "path": self.path, "headers": seen, "body": body})
        elif not isinstance(text, str):
            text = json.dumps(text)
        text = text.encode()
        self.send_response(code)
        for name, value in headers.items():
            self.send_header(name, value)
        if "Content-Length" not in headers:
            self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(text)

    do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = do_OPTIONS = answer

    def log_message(self, *_):
        pass


def know_scripts(context):
    """A script is known by the name that its client asks for."""
    def named(socket, name, _):
        socket.asked = (name or "").split(".")[0]
    context.sni_callback = named
    context.sslsocket_class = type("Socket", (ssl.SSLSocket,), {"asked": ""})


def reason(answer):
    status = answer["body"].get("status") or {} if isinstance(answer["body"], dict) else {}
    return next((c.get("reason") for c in status.get("conditions") or [] if c.get("type") == "Available"), None)


def ask(step, answers, of_server=worker.ask):
    if "serve" in step:
        serve(PORT, *step["serve"], Handler, know_scripts)
        return {"code": 200, "body": {}}
    if "behave" in step:
        behaviours[step["behave"]] = step["how"]
        return {"code": 200, "body": {}}
    answer, end = of_server(step, answers), time.monotonic() + DEADLINE
    while time.monotonic() < end:
        if "await" in step and reason(answer) not in step["await"] or "says" in step and step["says"] not in json.dumps(answer["body"]):
            time.sleep(0.05)
            answer = of_server(step, answers)
        elif step.get("settle") and answer["body"] in ("service unavailable\n", "404 page not found\n") and time.monotonic() < end - DEADLINE + 5:
            # a server learns a moment after its clients that another one is available
            time.sleep(0.05)
            answer = of_server(step, answers)
        else:
            break
    if "pick" in step and isinstance(answer["body"], dict):
        # of a long list only what is of the script
        items = answer["body"].get("items") or answer["body"].get("groups") or []
        answer["body"] = [one for one in items if step["pick"] in json.dumps(one)]
    return answer


if __name__ == "__main__":
    worker.ask = ask
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        for line in sys.stdin:
            pool.submit(worker.play, line)
