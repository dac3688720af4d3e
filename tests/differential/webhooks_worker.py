"""The worker of the webhooks rig: plays scripts as worker.py does, and is the server that their webhooks lead to.

A webhook's path is /SCRIPT/NAME/HOW: how it answers is a JSON text in base64. It has of: allowed, status, patch, patchType, warnings (of the response);
review (members of the answer that are others), response (the same of the response), text and http (another answer altogether), sleep (seconds), headers.
A step with `serve` starts the server with that certificate and key; one with `reviews` tells what was asked of a script's webhooks since
the last such step.
"""
import base64
import concurrent.futures
import http.server
import json
import sys
import threading
import time

import worker
from https import serve

PORT = 8443
asked, asking = {}, threading.Lock()


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def do_POST(self):
        review = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        path, _, query = self.path.partition("?")
        _, script, name, how = path.split("/")
        how = json.loads(base64.urlsafe_b64decode(how + "=" * (-len(how) % 4)))
        with asking:
            asked.setdefault(script, []).append({"name": name, "query": query, "type": self.headers["Content-Type"], "host": self.headers["Host"], "review": review})
        time.sleep(how.get("sleep", 0))
        text = how.get("text")
        if text is None:
            text = json.dumps(answer(review, how))
        self.send_response(how.get("http", 200))
        for key, value in {"Content-Type": "application/json", **how.get("headers", {})}.items():
            if value is not None:
                self.send_header(key, value)
        body = text.encode()
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


def answer(review, how):
    response = {"uid": review["request"]["uid"], "allowed": how.get("allowed", True)}
    for key in ("status", "warnings", "auditAnnotations"):
        if key in how:
            response[key] = how[key]
    if "patch" in how:
        patch = how["patch"] if isinstance(how["patch"], str) else json.dumps(how["patch"])
        response |= {"patch": base64.b64encode(patch.encode()).decode(), "patchType": how.get("patchType", "JSONPatch")}
    response |= how.get("response", {})
    return {"kind": "AdmissionReview", "apiVersion": review["apiVersion"], "response": response} | how.get("review", {})


def ask(step, answers, of_server=worker.ask):
    if "serve" in step:
        serve(PORT, *step["serve"], Handler)
        return {"code": 200, "body": {}}
    if "reviews" in step:
        with asking:
            return {"code": 200, "body": asked.pop(step["reviews"], [])}
    return of_server(step, answers)


if __name__ == "__main__":
    worker.ask = ask
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        for line in sys.stdin:
            pool.submit(worker.play, line)
