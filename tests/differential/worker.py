"""Sends requests to the API server of its network namespace: a JSON request a line in, a JSON answer a line out.

A request: method, path, headers (each character of a value is a byte), body (a tree or a text), as (the name of a client certificate
in the folder given, or null for none). An answer: code, body (a tree where it is JSON).
"""
import http.client
import json
import ssl
import sys
import time
from pathlib import Path

folder = Path(sys.argv[1])
connections = {}


def connect(name):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    if name:
        context.load_cert_chain(folder / f"{name}.crt", folder / f"{name}.key")
    return http.client.HTTPSConnection("198.51.100.10", 6443, timeout=20, context=context)


def send(connection, request):
    body = request.get("body")
    headers = dict(request.get("headers") or {})
    if body is not None:
        headers.setdefault("Content-Type", "application/json")
        body = (body if isinstance(body, str) else json.dumps(body)).encode()
    connection.putrequest(request["method"], request["path"], skip_accept_encoding=True)
    for name, value in headers.items():
        for one in value if isinstance(value, list) else [value]:
            connection.putheader(name, one.encode("latin-1"))
    connection.putheader("Content-Length", str(len(body or b"")))
    connection.endheaders(body)
    response = connection.getresponse()
    text = response.read().decode("utf-8", "replace")
    try:
        return {"code": response.status, "body": json.loads(text)}
    except ValueError:
        return {"code": response.status, "body": text}


for line in sys.stdin:
    request = json.loads(line)
    name = request.get("as", "admin")
    begin = time.monotonic()
    for last in (False, True):
        try:
            connection = connections.get(name) or connections.setdefault(name, connect(name))
            answer = send(connection, request)
            break
        except (OSError, http.client.HTTPException) as error:
            # a server may close a connection that has been idle, or that it did not like
            connections.pop(name).close() if name in connections else None
            answer = {"code": 0, "body": f"{type(error).__name__}: {error}"}
            if last:
                break
    if time.monotonic() - begin > 5:
        print(f"{folder.parent.name}: {time.monotonic() - begin:.0f} s, {answer['code']}: {line.strip()[:500]}", file=sys.stderr)
    print(json.dumps(answer), flush=True)
