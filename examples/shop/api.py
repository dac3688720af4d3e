"""The shop's API: counts visits in the database and says who answered."""
import http.server, json, os, signal, socket, threading

DATABASE = (os.environ["DATABASE_HOST"], 6379)


def ask(*words):
    """One command to the database (RESP)."""
    with socket.create_connection(DATABASE, timeout=2) as connection:
        stream = connection.makefile("rwb")
        for command in (("AUTH", os.environ["DATABASE_PASSWORD"]), words):
            parts = [str(word).encode() for word in command]
            stream.write(b"*%d\r\n" % len(parts) + b"".join(b"$%d\r\n%s\r\n" % (len(p), p) for p in parts))
            stream.flush()
            answer = stream.readline().decode().strip()
            if answer.startswith("-"):
                raise RuntimeError(answer)
        return int(answer[1:]) if answer.startswith(":") else answer[1:]


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        try:
            if self.path == "/healthz":
                body, code = {"database": ask("PING")}, 200
            else:
                body = {"greeting": os.environ["GREETING"], "visits": ask("INCR", "visits"), "pod": socket.gethostname()}
                code = 200
        except (OSError, RuntimeError) as error:
            body, code = {"error": str(error)}, 503
        data = json.dumps(body).encode() + b"\n"
        self.send_response(code)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *words):
        pass


server = http.server.ThreadingHTTPServer(("", 8000), Handler)
# a pod that goes answers what it has begun
signal.signal(signal.SIGTERM, lambda *_: threading.Thread(target=server.shutdown).start())
server.serve_forever()
