"""A read-only image registry inside the cluster's namespaces over an archive of OCI's layout, for tests that pull."""
import http.server, json, os, re, tarfile, threading


class Registry:
    def __init__(self, archive, port):
        with tarfile.open(archive) as tar:
            self.members = {m.name: m for m in tar.getmembers()}
        self.file = os.open(archive, os.O_RDONLY)
        self.tags = {}
        for manifest in json.loads(self.read("index.json"))["manifests"]:
            repository, tag = manifest["annotations"]["io.containerd.image.name"].split("/", 1)[1].rsplit(":", 1)
            self.tags[repository, tag] = manifest["digest"]
        registry = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self):
                registry.answer(self)

            do_HEAD = do_GET

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("0.0.0.0", port), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def read(self, name):
        member = self.members.get(name)
        return os.pread(self.file, member.size, member.offset_data) if member else None

    def answer(self, request):
        """https://github.com/opencontainers/distribution-spec, what a pull needs of it."""
        path = request.path.split("?")[0].rstrip("/")
        body, kind, digest = None, "application/octet-stream", None
        if path == "/v2":
            body = b"{}"
        elif found := re.fullmatch(r"/v2/(.+)/(manifests|blobs)/(.+)", path):
            repository, what, name = found.groups()
            digest = self.tags.get((repository, name), name)
            body = self.read("blobs/sha256/" + digest.removeprefix("sha256:"))
            if what == "manifests":
                kind = "application/vnd.oci.image.manifest.v1+json"
        request.send_response(404 if body is None else 200)
        request.send_header("Content-Type", kind)
        request.send_header("Content-Length", str(len(body or b"")))
        if body is not None and digest:
            request.send_header("Docker-Content-Digest", digest)
        request.end_headers()
        if body and request.command == "GET":
            request.wfile.write(body)
