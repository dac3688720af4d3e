"""A small client of the API: lists, watches that are recorded, and YAML of what came."""
import base64, http.client, json, os, ssl, subprocess, tempfile, threading, time, urllib.parse


class Api:
    def __init__(self, kubeconfig):
        config = json.loads(subprocess.check_output(["kubectl", "--kubeconfig", kubeconfig, "config", "view", "--raw", "--flatten", "-o", "json"]))
        cluster, user = config["clusters"][0]["cluster"], config["users"][0]["user"]
        self.server = urllib.parse.urlsplit(cluster["server"])
        self.context = ssl.create_default_context(cadata=base64.b64decode(cluster["certificate-authority-data"]).decode())
        self.context.check_hostname = False
        with tempfile.NamedTemporaryFile() as pem:
            pem.write(base64.b64decode(user["client-certificate-data"]) + b"\n" + base64.b64decode(user["client-key-data"]))
            pem.flush()
            self.context.load_cert_chain(pem.name)

    def open(self, path, timeout=30):
        connection = http.client.HTTPSConnection(self.server.hostname, self.server.port, context=self.context, timeout=timeout)
        connection.request("GET", path, headers={"Accept": "application/json"})
        answer = connection.getresponse()
        if answer.status != 200:
            raise OSError(f"GET {path}: {answer.status} {answer.read(500).decode(errors='replace')}")
        return answer

    def get(self, path):
        return json.load(self.open(path))

    def listable(self):
        """(name, path) of every resource that can be listed."""
        found = []
        paths = ["/api/v1"] + ["/apis/" + g["preferredVersion"]["groupVersion"] for g in self.get("/apis")["groups"]]
        for path in paths:
            try:
                resources = self.get(path)["resources"]
            except OSError:
                continue  # an aggregated group whose server has gone
            group = path.removeprefix("/apis/").split("/")[0] if path != "/api/v1" else ""
            found += [(f"{r['name']}.{group}".rstrip("."), f"{path}/{r['name']}") for r in resources if "list" in r["verbs"]]
        return found


class Recorder(threading.Thread):
    """Follows a collection and appends `time line` of every change to a file, so that what a namespace held can be told afterwards."""

    def __init__(self, api, path, file):
        super().__init__(daemon=True)
        self.api, self.path, self.file = api, path, file

    def run(self):
        with open(self.file, "ab") as out:
            while True:
                try:
                    for line in self.api.open(self.path + "?watch=true&timeoutSeconds=3600", timeout=4000):
                        out.write(b"%.3f " % time.time() + line)
                        out.flush()
                except (OSError, http.client.HTTPException):
                    # the server restarts, or has gone for good with the run
                    time.sleep(1)


def history(file, namespaces):
    """The recorded changes of some namespaces: [(time, type, object)]."""
    wanted = [f'"namespace":"{n}"'.encode() for n in namespaces]
    found = []
    if not wanted or not os.path.exists(file):
        return found
    with open(file, "rb") as f:
        for line in f:
            if any(w in line for w in wanted):
                moment, change = line.split(b" ", 1)
                try:
                    change = json.loads(change)
                except ValueError:
                    continue  # cut short by a restart
                if change["object"]["metadata"].get("namespace") in namespaces:
                    found.append((float(moment), change["type"], change["object"]))
    return found


def yaml(value, indent=""):
    """Block YAML of what JSON can hold but who set which field; scalars stay JSON, which YAML includes."""
    if isinstance(value, dict) and value:
        lines = []
        for key, inner in value.items():
            if key == "managedFields":
                continue
            key = json.dumps(key) if not key.replace("-", "a").replace("_", "a").isalnum() else key
            if isinstance(inner, (dict, list)) and inner:
                lines.append(f"{indent}{key}:\n{yaml(inner, indent + '  ')}")
            else:
                lines.append(f"{indent}{key}: {json.dumps(inner)}\n")
        return "".join(lines)
    if isinstance(value, list) and value:
        lines = []
        for inner in value:
            text = yaml(inner, indent + "  ") if isinstance(inner, (dict, list)) and inner else indent + "  " + json.dumps(inner) + "\n"
            lines.append(indent + "- " + text[len(indent) + 2:])
        return "".join(lines)
    return indent + json.dumps(value) + "\n"
