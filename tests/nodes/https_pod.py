"""Pods that answer: pages by busybox, and small HTTPS servers in Python behind a Service."""
import base64, json, os, subprocess

import oci

IMAGE = "nodes.test/python:1"
# `answer` says, of a request's path and body (None without one) and its client's certificate, the status and the tree of the answer
SERVER = """
import http.server, json, os, ssl, time
class Answer(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_GET(self):
        length = int(self.headers.get("Content-Length", 0))
        asked = json.loads(self.rfile.read(length)) if length else None
        status, tree = answer(self.path, asked, self.connection.getpeercert())
        body = json.dumps(tree).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    do_POST = do_GET
server = http.server.ThreadingHTTPServer(("", 8443), Answer)
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain("/tls/tls.crt", "/tls/tls.key")
if os.path.exists("/tls/clients.crt"):
    context.load_verify_locations("/tls/clients.crt")
    context.verify_mode = ssl.CERT_OPTIONAL
server.socket = context.wrap_socket(server.socket, server_side=True)
server.serve_forever()
"""


def archive(args):
    """The image of these pods."""
    oci.install(["busybox-static", "python3.11-minimal", "libpython3.11-minimal", "libpython3.11-stdlib"])
    path = os.path.join(args.out, "python.tar")
    python = oci.Layer().merged_usr().directory("tmp", 0o1777).busybox()
    for package in ("python3.11-minimal", "libpython3.11-minimal", "libpython3.11-stdlib"):
        python.package(package)
    with oci.Archive(path) as images:
        images.image([IMAGE], [python], {"Cmd": ["/usr/bin/python3.11"]})
    return path


def pod(name, on, command, **spec):
    container = {"name": "main", "image": IMAGE, "command": ["sh", "-c", command]}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": {"app": name}},
            "spec": {"nodeName": on, "terminationGracePeriodSeconds": 1, "containers": [container], **spec}}


def page(on):
    """The command of a pod whose page is the name of its node."""
    return f"echo {on} >/tmp/index.html; echo serving; exec httpd -f -p 8080 -h /tmp"


def service(name, port, target):
    return {"apiVersion": "v1", "kind": "Service", "metadata": {"name": name},
            "spec": {"selector": {"app": name}, "ports": [{"port": port, "targetPort": target}]}}


def items(*objects):
    return json.dumps({"apiVersion": "v1", "kind": "List", "items": objects})


def certificate(folder, name):
    """A certificate that is its own authority, and its key."""
    key, made = (os.path.join(folder, f"{name}.{kind}") for kind in ("key", "crt"))
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2", "-subj", f"/CN={name}",
                    "-addext", f"subjectAltName=DNS:{name}", "-keyout", key, "-out", made], check=True, capture_output=True)
    return [open(path).read() for path in (made, key)]


def server(name, on, folder, answer, clients=None):
    """The objects of a server on a node that answers as a function `answer` of Python's does, and the bundle that vouches for it.
    `clients` is the authority of certificates that its clients may show."""
    crt, key = certificate(folder, f"{name}.default.svc")
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name},
              "stringData": {"tls.crt": crt, "tls.key": key, **({"clients.crt": clients} if clients else {})}}
    answering = pod(name, on, "", volumes=[{"name": "tls", "secret": {"secretName": name}}])
    answering["spec"]["containers"][0].update(command=["/usr/bin/python3.11", "-u", "-c", answer + SERVER],
                                              volumeMounts=[{"name": "tls", "mountPath": "/tls"}],
                                              readinessProbe={"tcpSocket": {"port": 8443}, "periodSeconds": 1})
    return items(secret, answering, service(name, 443, 8443)), base64.b64encode(crt.encode()).decode()
