"""The HTTPS server that a rig's worker is besides: what webhooks and extension servers have in common."""
import http.server
import ssl
import subprocess
import tempfile
import threading
from pathlib import Path


def pair(name, alternative):
    """A certificate that is its own authority, and its key."""
    with tempfile.TemporaryDirectory(prefix="skiff-") as folder:
        key, certificate = Path(folder) / "key", Path(folder) / "crt"
        subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-subj", f"/CN={name}", "-addext", f"subjectAltName={alternative}", "-days", "2",
                        "-keyout", key, "-out", certificate], check=True, capture_output=True)
        return certificate.read_text(), key.read_text()


class Threads(http.server.ThreadingHTTPServer):
    request_queue_size = 200
    daemon_threads = True

    def handle_error(self, *_):
        """Clients that do not like the certificate, or no longer wait, end their connections."""


def serve(port, certificate, key, handler, prepare=None):
    """Answers on a port of loopback from now on; `prepare` may change how TLS is spoken."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    with tempfile.NamedTemporaryFile("w") as file:
        file.write(certificate + key)
        file.flush()
        context.load_cert_chain(file.name)
    if prepare:
        prepare(context)
    server = Threads(("127.0.0.1", port), handler)
    server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    threading.Thread(target=server.serve_forever, daemon=True).start()
