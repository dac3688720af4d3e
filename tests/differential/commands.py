"""Runs a program against the API server of its network namespace and records what it sends.

A step of worker.py with `words` is run: program (words that come first), words, files ({name: text}, once a script, in a folder of the
script's own that is the home and the working folder), stdin (a file's name), env, limit (seconds). With `!` as the first word the rest is a
line of the shell's. Answer: code, stdout, stderr, requests ([method, path, query, body], in the order in which they came).
"""
import json
import os
import shutil
import signal
import socketserver
import ssl
import socket
import subprocess
import tempfile
import threading
import urllib.parse
from pathlib import Path

SERVER = ("198.51.100.10", 6443)
KUBECONFIG = """apiVersion: v1
kind: Config
clusters:
- name: c
  cluster: {{server: "http://127.0.0.1:{port}"}}
contexts:
- name: ctx
  context: {{cluster: c, user: u, namespace: {namespace}}}
users:
- name: u
  user: {{}}
current-context: ctx
"""


class Recorder(socketserver.StreamRequestHandler):
    """Passes one request on, in the name of the administrator, and writes it down."""

    def handle(self):
        line = self.rfile.readline()
        if not line.strip():
            return
        method, target, _ = line.decode().split(" ", 2)
        head, headers = [line], {}
        for field in iter(self.rfile.readline, b"\r\n"):
            name, _, value = field.decode("latin-1").partition(":")
            headers[name.lower()] = value.strip()
            if name.lower() != "connection":
                head.append(field)
        body = sent = self.rfile.read(int(headers.get("content-length", 0)))
        if headers.get("transfer-encoding", "") == "chunked":
            body = sent = b""
            while True:
                size = self.rfile.readline()
                chunk = self.rfile.read(int(size, 16) + 2)
                body, sent = body + chunk[:-2], sent + size + chunk
                if int(size, 16) == 0:
                    break
        path, _, query = target.partition("?")
        self.server.requests.append([method, path, sorted(urllib.parse.parse_qsl(query, keep_blank_values=True)), tree(body)])
        with self.server.context.wrap_socket(socket.create_connection(SERVER, timeout=30)) as upstream:
            upstream.sendall(b"".join(head) + b"Connection: close\r\n\r\n" + sent)
            while part := upstream.recv(65536):
                self.wfile.write(part)


def tree(body):
    text = body.decode("utf-8", "replace")
    try:
        return json.loads(text)
    except ValueError:
        return text


class Proxy(socketserver.ThreadingTCPServer):
    daemon_threads = True

    def __init__(self, certificates):
        super().__init__(("127.0.0.1", 0), Recorder)
        self.requests = []
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        self.context.check_hostname = False
        self.context.verify_mode = ssl.CERT_NONE
        self.context.load_cert_chain(certificates / "admin.crt", certificates / "admin.key")
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def handle_error(self, request, address):
        """A program may go before it has read its answer."""


class Folder:
    """Where the lines of one script run, and the proxy that they talk to."""

    def __init__(self, certificates, step):
        self.path = Path(tempfile.mkdtemp(prefix="lines-", dir=certificates.parent))
        self.proxy = Proxy(certificates)
        for name, text in step["files"].items():
            file = self.path / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text)
            file.chmod(0o755)
        (self.path / ".kube").mkdir()
        (self.path / ".kube/config").write_text(KUBECONFIG.format(port=self.proxy.server_address[1], namespace=step["namespace"]))

    def run(self, step):
        self.proxy.requests.clear()
        words = step["words"]
        command = ["sh", "-c", " ".join(words[1:])] if words[:1] == ["!"] else [*step["program"], *words]
        env = {"HOME": str(self.path), "PATH": os.environ["PATH"], "EDITOR": "false", **step.get("env", {})}
        stdin = open(self.path / step["stdin"]) if step.get("stdin") else subprocess.DEVNULL
        process = subprocess.Popen(command, cwd=self.path, env=env, stdin=stdin, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True)
        try:
            out, err = process.communicate(timeout=step.get("limit", 10))
            code = process.returncode
        except subprocess.TimeoutExpired:
            # what it has started holds its output open
            os.killpg(process.pid, signal.SIGKILL)
            out, err = process.communicate()
            code = "ended"
        texts = [text.decode("utf-8", "replace").replace(str(self.path), "FOLDER") for text in (out, err)]
        texts = [text.replace(f"127.0.0.1:{self.proxy.server_address[1]}", "SERVER") for text in texts]
        return {"code": code, "stdout": texts[0], "stderr": texts[1], "requests": list(self.proxy.requests)}

    def close(self):
        self.proxy.shutdown()
        self.proxy.server_close()
        shutil.rmtree(self.path)
