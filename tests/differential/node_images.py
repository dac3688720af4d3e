"""The images of the node rig, and a registry that has them and misbehaves as the first part of a repository's name says."""
import base64
import hashlib
import io
import json
import sys
import threading
import time
import urllib.parse
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parent.parent / "conformance"), str(Path(__file__).parent.parent.parent / "packaging")]
import oci
import registry

PORT = 5000
PASSWD = "root:x:0:0:root:/root:/tell\napp:x:1000:1000::/home/app:/tell\nlonely:x:1500:1600::/:/tell\nnobody:x:65534:65534:nobody:/:/tell\n"
GROUP = "root:x:0:\napp:x:1000:\nextra:x:2000:app\nmore:x:50000:app,lonely\nnobody:x:65534:\n"
TELL = {"Entrypoint": ["/tell"]}
# name: what its configuration has
CONFIGS = {
    "tell": TELL,
    "both": {**TELL, "Cmd": ["report:args", "out:from cmd\\n", "stay:"]},
    "cmd": {"Cmd": ["/tell", "report:args", "exit:0"]},
    "none": {},
    "bare": {**TELL, "Env": []},
    "env": {**TELL, "Env": ["PATH=/x:/usr/bin", "A=image", "B=$(A)", "EMPTY=", "HOME=/of/image", "with-dash=1"]},
    "user": {**TELL, "User": "app"},
    "rootuser": {**TELL, "User": "root"},
    "numeric": {**TELL, "User": "1234:5678"},
    "mid": {**TELL, "User": "1500"},
    "usergrp": {**TELL, "User": "app:extra"},
    "nouser": {**TELL, "User": "absent"},
    "badgroup": {**TELL, "User": "app:absent"},
    "workdir": {**TELL, "WorkingDir": "/work/deep"},
    "stop": {**TELL, "StopSignal": "SIGUSR1"},
    "volume": {**TELL, "Volumes": {"/data": {}, "/new/one": {}}},
}
MANIFEST, INDEX = "application/vnd.oci.image.manifest.v1+json", "application/vnd.oci.image.index.v1+json"


def archive(path, tell):
    """Writes them all; the digest of the first."""
    layer = oci.Layer().file("tell", tell, 0o755).text("etc/passwd", PASSWD).text("etc/group", GROUP).directory("tmp", 0o1777).directory("home/app")
    layer.text("data/seed", "seed\n", 0o640).directory("data/deep", 0o711).directory("m").link("m/link", "../data")
    with oci.Archive(str(path)) as made:
        for name, config in CONFIGS.items():
            made.image([f"127.0.0.1:5000/{name}:1"], [layer], config)
    return made.manifests[0]["digest"]


def digest(content):
    return "sha256:" + hashlib.sha256(content).hexdigest()


class Odd(registry.Registry):
    def __init__(self, path, port=PORT):
        super().__init__(path, port)
        self.lock, self.asked = threading.Lock(), {}
        self.server.RequestHandlerClass.do_POST = self.post
        self.whole = self.tags["tell", "1"]

    def count(self, path):
        with self.lock:
            self.asked[path] = self.asked.get(path, 0) + 1
            return self.asked[path]

    def own(self, repository):
        """The blobs of a repository's own image, the manifest first: as all others have it and a layer that nobody has pulled yet."""
        repository = repository.replace("moving/", "moved/")
        real = json.loads(self.read("blobs/sha256/" + self.whole.removeprefix("sha256:")))
        config = json.loads(self.read("blobs/sha256/" + real["config"]["digest"].removeprefix("sha256:")))
        file = io.BytesIO()
        oci.Layer().text("of", repository).write(file)
        layer = file.getvalue()
        config["rootfs"]["diff_ids"].append(digest(layer))
        written = json.dumps(config).encode()
        real["config"] = {**real["config"], "digest": digest(written), "size": len(written)}
        real["layers"].append({**real["layers"][0], "digest": digest(layer), "size": len(layer)})
        manifest = json.dumps(real).encode()
        return {digest(manifest): manifest, digest(written): written, digest(layer): layer}

    @staticmethod
    def send(request, code, body=b"", kind="application/json", **headers):
        request.send_response(code)
        request.send_header("Content-Type", kind)
        request.send_header("Content-Length", str(len(body)))
        for name, value in headers.items():
            request.send_header(name.replace("_", "-"), value)
        request.end_headers()
        if request.command != "HEAD":
            request.wfile.write(body)

    def error(self, request, code, reason, message, **headers):
        self.send(request, code, json.dumps({"errors": [{"code": reason, "message": message, "detail": None}]}).encode(), **headers)

    def document(self, request, value, kind=MANIFEST):
        body = value if isinstance(value, bytes) else json.dumps(value).encode()
        self.send(request, 200, body, kind, Docker_Content_Digest=digest(body))

    def answer(self, request):
        path, _, query = request.path.partition("?")
        parts = path.strip("/").split("/")
        if parts == ["v2"]:
            return self.send(request, 200, b"{}")
        if parts == ["token"]:
            return self.token(request, query)
        kind = parts[1] if len(parts) > 1 else ""
        what, name = (parts[-2], parts[-1]) if len(parts) > 4 else ("", "")
        manifest = what == "manifests"
        bearer = {"WWW_Authenticate": f'Bearer realm="http://127.0.0.1:{PORT}/token",service="127.0.0.1:5000",scope="repository:{"/".join(parts[1:-2])}:pull"'}
        if kind == "absent":
            return self.error(request, 404, "MANIFEST_UNKNOWN", "manifest unknown")
        if kind == "denied":
            return self.error(request, 401, "UNAUTHORIZED", "authentication required", **bearer)
        if kind == "forbidden":
            return self.error(request, 403, "DENIED", "requested access to the resource is denied")
        if kind in ("e500", "e503", "e429"):
            return self.error(request, int(kind[1:]), "TOOMANYREQUESTS" if kind == "e429" else "UNKNOWN", "not now", **({"Retry_After": "1"} if kind == "e429" else {}))
        if kind == "html":
            return self.send(request, 200, b"<html>Welcome</html>", "text/html")
        if kind == "text":
            return self.send(request, 500, b"<html>a gateway</html>", "text/html")
        if kind == "emptied":
            return self.send(request, 200, b"", MANIFEST)
        if kind == "basic" and request.headers.get("Authorization") != "Basic " + base64.b64encode(b"bob:right").decode():
            return self.error(request, 401, "UNAUTHORIZED", "authentication required", WWW_Authenticate='Basic realm="rig"')
        if kind == "token" and request.headers.get("Authorization") != "Bearer yes":
            return self.error(request, 401, "UNAUTHORIZED", "authentication required", **bearer)
        if kind == "flaky" and manifest and self.count(path) <= 6 and request.command == "GET" or kind == "flaky" and manifest and request.command == "HEAD" and self.asked.get(path, 0) < 1 and self.count(path + " head") <= 3:
            return self.error(request, 503, "UNAVAILABLE", "a moment please")
        if kind == "slow" and manifest:
            time.sleep(1.5)
        if len(parts) < 5 and not (len(parts) == 4 and (parts[1], parts[3]) in self.tags) and not (len(parts) == 4 and parts[3].startswith("sha256:")):
            return self.error(request, 404, "NAME_UNKNOWN", "repository name not known to registry")
        if len(parts) == 4:
            # an image under its own name
            return super().answer(request)
        blobs = self.own("/".join(parts[1:-2]))
        whole = next(iter(blobs))
        real = json.loads(blobs[whole])
        if kind == "arm" and manifest and not name.startswith("sha256:"):
            return self.document(request, self.index(real, ("arm64",)), INDEX)
        if kind == "multi" and manifest and not name.startswith("sha256:"):
            return self.document(request, self.index(real, ("arm64", "amd64", "unknown")), INDEX)
        if kind == "badtype" and manifest:
            return self.document(request, {**real, "mediaType": "application/vnd.example.thing+json"}, "application/vnd.example.thing+json")
        made = {"badconfig": ("config", b"{not json"), "badlayer": ("layers", b"this is no archive")}.get(kind)
        if made and manifest:
            described = {"mediaType": real["config"]["mediaType"] if made[0] == "config" else real["layers"][0]["mediaType"], "digest": digest(made[1]), "size": len(made[1])}
            return self.document(request, {**real, made[0]: described if made[0] == "config" else [described]})
        if kind == "nolayer" and manifest:
            return self.document(request, {**real, "layers": []})
        if made and name == digest(made[1]):
            return self.send(request, 200, made[1], "application/octet-stream")
        wanted = whole if manifest and not name.startswith("sha256:") else name
        body = blobs.get(wanted) or self.read("blobs/sha256/" + wanted.removeprefix("sha256:"))
        if body is None:
            return self.error(request, 404, "BLOB_UNKNOWN", "blob unknown to registry")
        if manifest:
            return self.document(request, body)
        layer = wanted == real["layers"][-1]["digest"]
        if kind == "moved" and layer:
            return self.send(request, 307, b"", Location=f"http://127.0.0.1:{PORT}/v2/moving/{'/'.join(parts[2:-2])}/blobs/{wanted}")
        if kind == "wrong" and layer:
            body = body[:-1] + b"x"
        request.send_response(200)
        request.send_header("Content-Type", "application/octet-stream")
        request.send_header("Content-Length", str(len(body)))
        request.send_header("Docker-Content-Digest", wanted)
        request.end_headers()
        if request.command == "GET":
            request.wfile.write(body[:len(body) // 2] if kind == "cut" and layer else body)
        if kind == "cut" and layer:
            request.close_connection = True

    @staticmethod
    def post(request):
        """A token by OAuth 2, which is tried first by who has a password."""
        form = urllib.parse.parse_qs(request.rfile.read(int(request.headers.get("Content-Length", 0))).decode())
        if form.get("username") != ["bob"] or form.get("password") != ["right"]:
            return Odd.error(request, 401, "UNAUTHORIZED", "incorrect username or password")
        return Odd.send(request, 200, b'{"token": "yes", "access_token": "yes", "expires_in": 300}')

    def token(self, request, query):
        if "denied" in query or request.headers.get("Authorization") != "Basic " + base64.b64encode(b"bob:right").decode():
            return self.error(request, 401, "UNAUTHORIZED", "incorrect username or password")
        return self.send(request, 200, b'{"token": "yes", "access_token": "yes", "expires_in": 300}')

    @staticmethod
    def index(real, architectures):
        body = json.dumps(real).encode()
        return {"schemaVersion": 2, "mediaType": INDEX, "manifests": [{"mediaType": MANIFEST, "digest": digest(body), "size": len(body), "platform": {"os": "linux" if one != "unknown" else "unknown", "architecture": one}} for one in architectures]}
