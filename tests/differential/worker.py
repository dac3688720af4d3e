"""Plays scripts against the API server of its network namespace: a script a line in, its answers a line out.

In: {"id", "steps"}; a step: method, path, headers (each character of a value is a byte), body (a tree or a text), as (the name of a client
certificate in the folder given, or null for none). With `from` the body is the answer of the step with that `n`, with `edits` made in it;
`{{uid:N}}`, `{{rv:N}}` and `{{continue:N}}` in any text stand for what step N was answered. In trees "@raw:1e400" is written as 1e400
and a member `name@twice` as a second one of that name. A step that `needs` another is asked only where that was answered well;
one with `until` is asked until it is answered with that code, one with `holds` until that stands in the answer, for ten seconds at most. The body of one that is `canonical` has no blanks,
and what it is made of an answer stands in one order. Scripts run beside each other, the steps of one in order. A step
with `words` is a program that is run (commands.py), one with `dns` a query that is asked of `port` (resolver.py).
Out: {"id", "answers"}; an answer: code, body (a tree where it is JSON), and what headers mean something.
"""
import concurrent.futures
import http.client
import json
import re
import ssl
import sys
import threading
import time
from pathlib import Path

import commands
import odd
import resolver

folder = Path(sys.argv[1])
local = threading.local()
writing = threading.Lock()


def connect(name):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    if name:
        context.load_cert_chain(folder / f"{name}.crt", folder / f"{name}.key")
    return http.client.HTTPSConnection("198.51.100.10", 6443, timeout=20, context=context)


def written(body, plain=False, canonical=False):
    """The text of a body; `plain` has no escapes but those that JSON must have, `canonical` no blanks, as Go's clients write it."""
    if isinstance(body, str):
        return body
    blanks = {"separators": (",", ":")} if canonical else {}
    text = re.sub(r'"@raw:([^"]*)"', r"\1", json.dumps(body, ensure_ascii=not plain, **blanks))
    return text.replace('@twice":', '":')


def in_order(value):
    if isinstance(value, dict):
        return {key: in_order(value[key]) for key in sorted(value)}
    return [in_order(one) for one in value] if isinstance(value, list) else value


def known(text, answers):
    """A text with what earlier steps were answered in place of its references."""
    def value(match):
        body = answers.get(int(match[2]), {}).get("body")
        meta = body.get("metadata") or {} if isinstance(body, dict) else {}
        return str(meta.get({"rv": "resourceVersion", "uid": "uid", "continue": "continue"}[match[1]]) or "")
    return re.sub(r"\{\{(rv|uid|continue):(\d+)\}\}", value, text)


def send(connection, request, answers):
    body = request.get("body")
    if "from" in request:
        body = odd.apply(answers.get(request["from"], {}).get("body"), request["edits"])
        # of several mistakes the first one is told: what an answer is made of stands in one order
        body = in_order(body) if request.get("canonical") else body
    headers = dict(request.get("headers") or {})
    if body is not None:
        headers.setdefault("Content-Type", "application/json")
        # YAML has no pairs of escapes for one character
        plain = headers["Content-Type"] == "application/apply-patch+yaml"
        body = known(written(body, plain, request.get("canonical")), answers).encode("utf-8", "surrogatepass")
    connection.putrequest(request["method"], known(request["path"], answers), skip_accept_encoding=True)
    for name, value in headers.items():
        for one in value if isinstance(value, list) else [value]:
            connection.putheader(name, one.encode("latin-1"))
    connection.putheader("Content-Length", str(len(body or b"")))
    connection.endheaders(body)
    response = connection.getresponse()
    text = response.read().decode("utf-8", "replace")
    answer = {"code": response.status, "warnings": response.headers.get_all("Warning", []), "type": response.headers.get("Content-Type"),
              "location": response.headers.get("Location"), "retry": response.headers.get("Retry-After")}
    if "show" in request:
        # that is all that is wanted of it
        return {**answer, "shown": [response.headers.get(name, "") for name in request["show"]], "body": ""}
    try:
        return {**answer, "body": json.loads(text)}
    except (ValueError, RecursionError):
        return {**answer, "body": text}


def ask(request, answers):
    if "dns" in request:
        return resolver.ask(request["dns"], ("127.0.0.1", request["port"]))
    name = request.get("as", "admin")
    begin = time.monotonic()
    connections = local.__dict__.setdefault("connections", {})
    for last in (False, True):
        try:
            connection = connections.get(name) or connections.setdefault(name, connect(name))
            answer = send(connection, request, answers)
            break
        except (OSError, http.client.HTTPException) as error:
            # a server may close a connection that has been idle, or that it did not like
            connections.pop(name).close() if name in connections else None
            answer = {"code": 0, "body": f"{type(error).__name__}: {error}"}
            if last:
                break
    if time.monotonic() - begin > 5:
        print(f"{folder.parent.name}: {time.monotonic() - begin:.0f} s, {answer['code']}: {json.dumps(request)[:500]}", file=sys.stderr)
    return answer


def ready(step, answer):
    return answer["code"] == step.get("until", answer["code"]) and step.get("holds", "") in json.dumps(answer.get("body"))


def play(line):
    script, answers, lines = json.loads(line), {}, None
    for at, step in enumerate(script["steps"]):
        try:
            if "words" in step:
                lines = lines or commands.Folder(folder, step)
                answers[step.get("n", at)] = lines.run(step)
                continue
            if "needs" in step and answers[step["needs"]]["code"] not in (200, 201, 202):
                answers[step.get("n", at)] = {"code": 0, "body": "not asked"}
                continue
            end = time.monotonic() + 10
            answer = ask(step, answers)
            while not ready(step, answer) and time.monotonic() < end:
                time.sleep(0.02)
                answer = ask(step, answers)
            answers[step.get("n", at)] = answer
        except Exception as error:
            answers[step.get("n", at)] = {"code": -1, "body": f"the worker: {error!r}"}
    if lines:
        lines.close()
    with writing:
        print(json.dumps({"id": script["id"], "answers": list(answers.values())}), flush=True)


if __name__ == "__main__":
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        for line in sys.stdin:
            pool.submit(play, line)
