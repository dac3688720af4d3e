"""What hostile clients send: one function for each kind of request that costs its server more than its client."""

import base64
import json
import os
import random
import socket
import ssl
import struct
import time

LIMIT = 3 << 20


class Target:
    """How the server is reached: its port, the authority's file, an administrator's certificate and a user's token."""

    def __init__(self, port, ca, cert, key, token):
        self.port, self.ca, self.cert, self.key, self.token = port, ca, cert, key, token

    def context(self, admin=False, h2=False):
        context = ssl.create_default_context(cafile=self.ca)
        context.check_hostname = False
        if admin:
            context.load_cert_chain(self.cert, self.key)
        if h2:
            context.set_alpn_protocols(["h2"])
        return context

    def tcp(self, timeout=20):
        return socket.create_connection(("127.0.0.1", self.port), timeout)

    def tls(self, timeout=20, **how):
        return self.context(**how).wrap_socket(self.tcp(timeout), server_hostname="localhost")

    def request(self, method, path, body=b"", kind="application/json", who="user", headers=(), read=1 << 16, timeout=20):
        """One request on a connection of its own; returns the status, or what went wrong. Much of an answer is not read."""
        if not isinstance(body, (bytes, bytearray)):
            body = json.dumps(body).encode()
        try:
            with self.tls(timeout, admin=who == "admin") as stream:
                head = [f"{method} {path} HTTP/1.1", "Host: localhost", f"Content-Length: {len(body)}", "Connection: close"]
                if body:
                    head.append(f"Content-Type: {kind}")
                if who == "user":
                    head.append(f"Authorization: Bearer {self.token}")
                stream.sendall("\r\n".join(head + list(headers) + ["", ""]).encode() + bytes(body))
                answer = b""
                while len(answer) < read:
                    more = stream.recv(1 << 16)
                    if not more:
                        break
                    answer += more
                return int(answer.split(b" ", 2)[1]) if answer.startswith(b"HTTP/1.1 ") else "no answer"
        except (OSError, ValueError, IndexError) as error:
            return type(error).__name__


DRY = "?dryRun=All"
PODS = "/api/v1/namespaces/hostile/pods"
MAPS = "/api/v1/namespaces/hostile/configmaps"
THINGS = "/apis/hostile.test/v1/namespaces/hostile/things"


def pod(**spec):
    spec.setdefault("containers", [{"name": "c", "image": "i"}])
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": f"p{random.getrandbits(40)}"}, "spec": spec}


def fitting(make, start):
    """The widest that `make` gives below the limit of a body."""
    width = start
    while len(json.dumps(make(width))) > LIMIT - 4096:
        width = width * 3 // 4
    return make(width)


def wide_lists(target, rng):
    name = lambda i: f"n{i}"
    lists = {
        "hostAliases": lambda n: [{"ip": f"10.{i >> 16 & 255}.{i >> 8 & 255}.{i & 255}", "hostnames": ["a"]} for i in range(n)],
        "topologySpreadConstraints": lambda n: [
            {"maxSkew": 1, "topologyKey": name(i), "whenUnsatisfiable": "DoNotSchedule", "matchLabelKeys": ["a"], "labelSelector": {"matchLabels": {"a": "b"}}}
            for i in range(n)
        ],
        "tolerations": lambda n: [{"key": name(i), "operator": "Exists"} for i in range(n)],
        "volumes": lambda n: [{"name": name(i), "emptyDir": {}} for i in range(n)],
        "imagePullSecrets": lambda n: [{"name": name(i)} for i in range(n)],
        "schedulingGates": lambda n: [{"name": name(i)} for i in range(n)],
        "resourceClaims": lambda n: [{"name": name(i), "resourceClaimName": "x"} for i in range(n)],
        "readinessGates": lambda n: [{"conditionType": name(i)} for i in range(n)],
        "containers": lambda n: [{"name": name(i), "image": "i"} for i in range(n)],
    }
    inner = {
        "env": lambda n: [{"name": name(i), "value": "$(n%d)" % (i - 1)} for i in range(n)],
        "ports": lambda n: [{"containerPort": i % 65535 + 1, "name": name(i)} for i in range(n)],
        "volumeMounts": lambda n: [{"name": name(i), "mountPath": f"/{i}"} for i in range(n)],
        "resources": lambda n: {"claims": [{"name": name(i)} for i in range(n)], "limits": {f"a/{i}": 1 for i in range(n)}},
        "args": lambda n: ["a"] * n,
    }
    key = rng.choice(list(lists) + list(inner))
    if key in lists:
        body = fitting(lambda n: pod(**{key: lists[key](n)}), 64000)
    else:
        body = fitting(lambda n: pod(containers=[{"name": "c", "image": "i", key: inner[key](n)}]), 64000)
    how = rng.randrange(3)
    if how == 0:
        return target.request("POST", PODS + DRY, body)
    if how == 1:
        return target.request("PATCH", f"{PODS}/{body['metadata']['name']}{DRY}&fieldManager=h", body, "application/apply-patch+yaml")
    return target.request("PATCH", f"{PODS}/base{DRY}", {"spec": body["spec"]}, "application/strategic-merge-patch+json")


def wide_objects(target, rng):
    entry = lambda i: f"k{i}"
    kinds = [
        ("/api/v1/namespaces/hostile/services", lambda n: {"metadata": {"name": "s"}, "spec": {"ports": [{"port": i % 65535 + 1, "name": entry(i)} for i in range(n)]}}),
        ("/api/v1/namespaces/hostile/endpoints", lambda n: {"metadata": {"name": "e"}, "subsets": [{"addresses": [{"ip": f"10.{i >> 16}.{i >> 8 & 255}.{i & 255}"} for i in range(n)]}]}),
        ("/apis/discovery.k8s.io/v1/namespaces/hostile/endpointslices", lambda n: {"metadata": {"name": "e"}, "addressType": "IPv4", "endpoints": [{"addresses": ["10.0.0.1"]}] * n}),
        ("/apis/networking.k8s.io/v1/namespaces/hostile/networkpolicies", lambda n: {"metadata": {"name": "n"}, "spec": {"podSelector": {"matchExpressions": [{"key": entry(i), "operator": "Exists"} for i in range(n)]}}}),
        ("/apis/networking.k8s.io/v1/namespaces/hostile/ingresses", lambda n: {"metadata": {"name": "i"}, "spec": {"rules": [{"host": f"{entry(i)}.test"} for i in range(n)], "defaultBackend": {"service": {"name": "s", "port": {"number": 1}}}}}),
        ("/apis/rbac.authorization.k8s.io/v1/namespaces/hostile/roles", lambda n: {"metadata": {"name": "r"}, "rules": [{"apiGroups": [""], "resources": [entry(i)], "verbs": ["get"]} for i in range(n)]}),
        ("/api/v1/namespaces/hostile/resourcequotas", lambda n: {"metadata": {"name": "q"}, "spec": {"hard": {f"count/{entry(i)}": "1" for i in range(n)}}}),
        ("/api/v1/namespaces/hostile/limitranges", lambda n: {"metadata": {"name": "l"}, "spec": {"limits": [{"type": "Pod", "max": {entry(i): "1"}} for i in range(n)]}}),
        ("/apis/batch/v1/namespaces/hostile/jobs", lambda n: {"metadata": {"name": "j"}, "spec": {"template": {"spec": {"restartPolicy": "Never", "containers": [{"name": "c", "image": "i"}]}}, "podFailurePolicy": {"rules": [{"action": "Ignore", "onExitCodes": {"operator": "In", "values": list(range(1, n))}}]}}}),
        (MAPS, lambda n: {"metadata": {"name": "m", "labels": {entry(i): "v" for i in range(n)}, "annotations": {entry(i): "v" for i in range(n)}, "finalizers": [f"a/{i}" for i in range(n)]}}),
        (MAPS, lambda n: {"metadata": {"name": "m", "ownerReferences": [{"apiVersion": "v1", "kind": "Pod", "name": entry(i), "uid": entry(i)} for i in range(n)]}}),
        (MAPS, lambda n: {"metadata": {"name": "m", "managedFields": [{"manager": entry(i), "operation": "Update", "apiVersion": entry(i), "fieldsType": "FieldsV1", "fieldsV1": {"f:data": {}}} for i in range(n)]}}),
        (MAPS, lambda n: {"metadata": {"name": "m"}, "data": {entry(i): "v" for i in range(n)}}),
        (THINGS, lambda n: {"apiVersion": "hostile.test/v1", "kind": "Thing", "metadata": {"name": "t"}, "spec": {"named": [{"name": entry(i)} for i in range(n)], "set": [entry(i) for i in range(n)]}}),
        (THINGS, lambda n: {"apiVersion": "hostile.test/v1", "kind": "Thing", "metadata": {"name": "t"}, "spec": {"any": [0] * n * 8, "nulls": {entry(i): None for i in range(n)}}}),
    ]
    path, make = rng.choice(kinds)
    body = fitting(make, 64000)
    if rng.random() < 0.5:
        return target.request("POST", path + DRY, body)
    body.setdefault("apiVersion", "/".join(path.split("/")[2:4]) if path.startswith("/apis") else "v1")
    kind = {"s": "Service", "e": "Endpoints", "n": "NetworkPolicy", "i": "Ingress", "r": "Role", "q": "ResourceQuota", "l": "LimitRange", "j": "Job", "m": "ConfigMap", "t": "Thing"}
    body.setdefault("kind", "EndpointSlice" if "slices" in path else kind[body["metadata"]["name"]])
    return target.request("PATCH", f"{path}/{body['metadata']['name']}{DRY}&fieldManager=h&force=true", body, "application/apply-patch+yaml")


def wide_updates(target, rng):
    """Lists in which each item is wrong, or each pair of items: also by the rules of an update, which ask the same several times."""
    owner = {"apiVersion": "v1", "kind": "Pod", "controller": True}
    metadata = {
        "ownerReferences": lambda n: [{**owner, "name": f"k{i}", "uid": f"k{i}"} for i in range(n)],
        "labels": lambda n: {f"!{i}": "!" for i in range(n)},
        "finalizers": lambda n: [f"a/{i}" for i in range(n)],
        "managedFields": lambda n: [{"operation": "x"}] * n,
    }
    kind = rng.choice(list(metadata) + ["topologies", "conditions", "path"])
    if kind in metadata:
        # one of the two is being deleted
        name = rng.choice(["base", "ending"])
        body = fitting(lambda n: {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, kind: metadata[kind](n)}}, 256_000)
        return target.request("PUT", f"{MAPS}/{name}{DRY}", body)
    if kind == "topologies":
        body = fitting(lambda n: {"metadata": {"name": "c"}, "provisioner": "p", "allowedTopologies": [{}] * n}, 256_000)
        return target.request("POST", "/apis/storage.k8s.io/v1/storageclasses" + DRY, body, who="admin")
    if kind == "conditions":
        device = lambda n: {"name": "d", "bindingConditions": [f"a{i}" for i in range(n)], "bindingFailureConditions": [f"b{i}" for i in range(n)]}
        body = fitting(lambda n: {"metadata": {"name": "s"}, "spec": {"driver": "d", "allNodes": True, "pool": {"name": "p", "resourceSliceCount": 1}, "devices": [device(n)]}}, 128_000)
        return target.request("POST", "/apis/resource.k8s.io/v1/resourceslices" + DRY, body, who="admin")
    body = pod(containers=[{"name": "n" * 1_000_000, **{f"x{i}": 1 for i in range(60_000)}}])
    return target.request("PATCH", f"{PODS}/{body['metadata']['name']}{DRY}&fieldManager=h", body, "application/apply-patch+yaml")


def odd_fields(target, rng):
    n = rng.choice([1000, 60000])
    unknown = {f"x{i}": 1 for i in range(n)}
    review = {"apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectAccessReview", "spec": {"resourceAttributes": {"verb": "get"}, **unknown}}
    repeated = ('{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"a"},"data":{' + ",".join(f'"k{i}":"a","k{i}":"b"' for i in range(n)) + "}}").encode()
    same = ('{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"a"},' + ",".join('"x":1' for _ in range(n)) + "}").encode()
    long_key = json.dumps({"apiVersion": "hostile.test/v1", "kind": "Thing", "metadata": {"name": "t"}, "spec": {"map": {"k" * 1_000_000: ["x", 1] * 200_000}}}).encode()
    choice = rng.randrange(5)
    validate = rng.choice(["Strict", "Warn", "Ignore"])
    if choice == 0:
        return target.request("POST", f"/apis/authorization.k8s.io/v1/selfsubjectaccessreviews?fieldValidation={validate}", review)
    if choice == 1:
        return target.request("POST", f"{MAPS}{DRY}&fieldValidation={validate}", repeated)
    if choice == 2:
        return target.request("POST", f"{MAPS}{DRY}&fieldValidation={validate}", same)
    if choice == 3:
        return target.request("POST", f"{THINGS}{DRY}&fieldValidation={validate}", long_key)
    return target.request("POST", f"{THINGS}{DRY}&fieldValidation={validate}", {"apiVersion": "hostile.test/v1", "kind": "Thing", "metadata": {"name": "t"}, "spec": unknown})


def patches(target, rng):
    doubling = [{"op": "copy", "from": "/data", "path": f"/data/{i}"} for i in range(21)]
    appending = [{"op": "add", "path": "/metadata/finalizers", "value": ["a/b"]}] + [{"op": "copy", "from": "/metadata", "path": "/metadata/x/-"}] * 21
    array = [{"op": "add", "path": "/spec", "value": {"any": ["x" * 100]}}] + [{"op": "copy", "from": "/spec/any", "path": "/spec/any/-"}] * 25
    inserting = [{"op": "add", "path": "/spec", "value": {"any": [0] * 500_000}}] + [{"op": "add", "path": "/spec/any/0", "value": 0}] * 9_000
    same = {"spec": {"containers": [{"name": "c", "env": [{"name": f"e{i}", "value": "v"} for i in range(2000)]}] + [{"name": "c"}] * 20_000}}
    merge = {"metadata": {"annotations": {f"k{i}": None for i in range(60_000)}}}
    choice = rng.randrange(6)
    if choice < 2:
        return target.request("PATCH", f"{MAPS}/base{DRY}", [doubling, appending][choice], "application/json-patch+json")
    if choice < 4:
        return target.request("PATCH", f"{THINGS}/base{DRY}", [array, inserting][choice - 2], "application/json-patch+json")
    if choice == 4:
        return target.request("PATCH", f"{PODS}/base{DRY}", same, "application/strategic-merge-patch+json")
    return target.request("PATCH", f"{MAPS}/base{DRY}", merge, "application/merge-patch+json")


def documents(target, rng):
    deep = 200_000
    bombs = [
        (b'{"a":' * deep + b"1" + b"}" * deep, "application/json"),
        (b"[" * (LIMIT - 10), "application/json"),
        (b"a: " + b"[" * 100_000, "application/yaml"),
        (b"apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\nx0: &x0 [a,a,a,a,a,a,a,a,a]\n" + b"".join(b"x%d: &x%d [%s]\n" % (i, i, b",".join([b"*x%d" % (i - 1)] * 9)) for i in range(1, 12)), "application/yaml"),
        (b"k8s\x00" + os.urandom(100_000), "application/vnd.kubernetes.protobuf"),
        (b"k8s\x00\x12" + b"\xff\xff\xff\xff\x0f" + b"a" * 1000, "application/vnd.kubernetes.protobuf"),
        (b"k8s\x00" + b"\x0a\x80\x80\x80\x01" * 50_000, "application/vnd.kubernetes.protobuf"),
        (json.dumps({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "n" * 2_000_000}}).encode(), "application/json"),
        (json.dumps(pod(containers=[{"name": "c", "image": "i", "resources": {"limits": {"cpu": rng.choice(["1e999999999", "9" * 2_000_000, "1" + "0" * 1_000_000 + "n", "1e-999999999"])}}}])).encode(), "application/json"),
        (b'{"apiVersion":"v1","kind":"Pod","metadata":{"name":"a"},"spec":{"activeDeadlineSeconds":1e400000000}}', "application/json"),
        (b'{"apiVersion":"v1","kind":"Pod","metadata":{"name":"a"},"spec":{"priority":' + b"9" * 2_000_000 + b"}}", "application/json"),
        (("# " + "c" * (LIMIT - 1000) + "\n").encode(), "application/yaml"),
        (b"\xff\xfe" * 1_000_000, "application/yaml"),
        (b"- a\n" * 700_000, "application/yaml"),
    ]
    body, kind = rng.choice(bombs)
    return target.request("POST", (PODS if b"Pod" in body else MAPS) + DRY, body, kind)


def definitions(target, rng):
    nested = {"type": "string"}
    for _ in range(rng.choice([10, 60])):
        nested = {"type": "object", "properties": {"a": nested}}
    schemas = [
        {"type": "object", "properties": {f"p{i}": {"type": "string", "pattern": "^(a+)+$"} for i in range(3000)}},
        {"type": "object", "properties": {"p": {"type": "string", "pattern": rng.choice(["(a{1000}){1000}", "(((a*)*)*)*b", "(x" * 5000, "[" * 100_000, "a{0,1000}" * 500, "(?:\\pL{1000}){1000}"])}}},
        nested,
        {"type": "object", "properties": {"e": {"type": "string", "enum": [f"v{i}" for i in range(20_000)]}}},
        {"type": "object", "required": [f"r{i}" for i in range(50_000)], "properties": {f"r{i}": {"type": "string"} for i in range(10_000)}},
        {"type": "object", "properties": {"a": {"type": "string"}}, "anyOf": [{"required": [f"r{i}"]} for i in range(20_000)]},
    ]
    name = f"d{rng.randrange(4)}"
    body = {"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition", "metadata": {"name": f"{name}s.hostile.test"},
            "spec": {"group": "hostile.test", "scope": "Namespaced", "names": {"plural": f"{name}s", "kind": name.title()},
                     "versions": [{"name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": rng.choice(schemas)}}]}}
    return target.request("POST", "/apis/apiextensions.k8s.io/v1/customresourcedefinitions" + DRY, body, who="admin")


def selectors(target, rng):
    many = ",".join(f"k{i}!=v" for i in range(rng.choice([100, 1500])))
    values = "a in (" + ",".join(f"v{i}" for i in range(2000)) + ")"
    paths = [
        f"{MAPS}?labelSelector={many}", f"{MAPS}?labelSelector={values.replace(' ', '%20')}",
        f"{MAPS}?fieldSelector=" + ",".join(f"metadata.name!=n{i}" for i in range(500)),
        f"{MAPS}?labelSelector=" + "(" * 5000, f"{MAPS}?labelSelector=" + "!" * 5000,
        f"{MAPS}?limit=-1", f"{MAPS}?limit=99999999999999999999", f"{MAPS}?limit=1&continue=" + "A" * 4000,
        f"{MAPS}?limit=1&continue=" + base64.urlsafe_b64encode(json.dumps({"v": "meta.k8s.io/v1", "rv": rng.choice([-1, 1, 2**62, 5]), "start": "a" * 2000, "rest": 2**60}).encode()).decode(),
        f"{MAPS}?resourceVersion={rng.choice(['18446744073709551615', '-1', 'a' * 3000, '1'])}&resourceVersionMatch=Exact",
        f"{MAPS}?watch=1&timeoutSeconds=1&resourceVersion=1", f"{MAPS}?watch=1&timeoutSeconds=99999999999",
        "/api/v1/" + "a/" * 2000, "/" + "%2f" * 2000, "/openapi/v3/" + "a" * 5000, "/apis/" + "../" * 1000,
    ]
    headers = rng.choice([(), ("Accept: " + ",".join(["application/json;as=Table;v=v1;g=meta.k8s.io"] * 200),), ("Impersonate-User: " + "u" * 5000,), tuple(f"Impersonate-Extra-A{i}: b" for i in range(60)), ("Authorization: Bearer " + "a." * 3000,)])
    return target.request("GET", rng.choice(paths), headers=headers, read=1000)


def reviews(target, rng):
    pem = base64.b64encode(b"-----BEGIN CERTIFICATE REQUEST-----\n" + b"A" * 2_000_000 + b"\n-----END CERTIFICATE REQUEST-----\n").decode()
    choices = [
        ("/apis/authentication.k8s.io/v1/tokenreviews", {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview", "spec": {"token": rng.choice(["a" * 2_000_000, "." * 2_000_000, "e30." + "A" * 2_000_000 + ".A"])}}, "admin"),
        ("/apis/authorization.k8s.io/v1/subjectaccessreviews", {"apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview", "spec": {"user": "u", "groups": [f"g{i}" for i in range(100_000)], "resourceAttributes": {"verb": "get", "resource": "pods"}}}, "admin"),
        ("/apis/authorization.k8s.io/v1/selfsubjectrulesreviews", {"apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectRulesReview", "spec": {"namespace": "hostile"}}, "user"),
        ("/apis/certificates.k8s.io/v1/certificatesigningrequests" + DRY, {"apiVersion": "certificates.k8s.io/v1", "kind": "CertificateSigningRequest", "metadata": {"name": "c"}, "spec": {"request": pem, "signerName": "a/b", "usages": ["digital signature"] * 50_000}}, "admin"),
    ]
    path, body, who = rng.choice(choices)
    return target.request("POST", path, body, who=who)


def held_open(target, rng):
    """Connections that say nothing, too little, or do not read what they asked for; a few of each, for a few seconds."""
    held = []
    try:
        for _ in range(rng.choice([5, 25])):
            kind = rng.randrange(6)
            if kind == 0:
                held.append(target.tcp())
                continue
            stream = target.tls()
            held.append(stream)
            token = f"Authorization: Bearer {target.token}\r\n"
            if kind == 1:
                stream.sendall(b"GET /api HTTP/1.1\r\nHost: a\r\nX-Slow: ")
            elif kind == 2:
                stream.sendall(f"POST {MAPS} HTTP/1.1\r\nHost: a\r\n{token}Content-Type: application/json\r\nContent-Length: 3000000\r\n\r\n".encode() + b" " * 2_900_000)
            elif kind == 3:
                stream.sendall(f"GET {MAPS}?watch=1 HTTP/1.1\r\nHost: a\r\n{token}\r\n".encode())
            elif kind == 4:
                accept = rng.choice(["application/json", "application/json;as=Table;v=v1;g=meta.k8s.io", "application/vnd.kubernetes.protobuf", "application/yaml"])
                stream.sendall(f"GET {MAPS} HTTP/1.1\r\nHost: a\r\n{token}Accept: {accept}\r\n\r\n".encode())
            else:
                stream.sendall(f"DELETE {MAPS}/none?dryRun=All HTTP/1.1\r\nHost: a\r\n{token}Upgrade: websocket\r\nConnection: Upgrade\r\nContent-Length: 400\r\n\r\n{{".encode())
        time.sleep(rng.random() * 2)
        return "held"
    except OSError as error:
        return type(error).__name__
    finally:
        for stream in held:
            stream.close()


def _frame(kind, flags, stream, payload):
    return struct.pack(">I", len(payload))[1:] + bytes([kind, flags]) + struct.pack(">I", stream) + payload


def _literal(name, value):
    def text(s):
        assert len(s) < 16000
        size = bytes([len(s)]) if len(s) < 127 else bytes([127, (len(s) - 127) & 127 | 128, (len(s) - 127) >> 7])
        return size + s
    return b"\x00" + text(name) + text(value)


def streams(target, rng):
    """One HTTP/2 connection of 250 streams, each with the head of a large body and as much of it as the windows allow."""
    who = rng.choice(["user", "user", "nobody", "admin"])
    begin = b'{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"a"},"data":{"a":"'
    sent, answered = 0, 0
    try:
        with target.tls(10, admin=who == "admin", h2=True) as stream:
            stream.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + _frame(4, 0, 0, b""))
            head = [(b":method", b"POST"), (b":scheme", b"https"), (b":path", (MAPS + DRY).encode()), (b":authority", b"localhost"), (b"content-type", b"application/json")]
            if who == "user":
                head.append((b"authorization", b"Bearer " + target.token.encode()))
            block = b"".join(_literal(*pair) for pair in head)
            first, whole, each = 65535, 65535, {}
            for id in range(1, 501, 2):
                stream.sendall(_frame(1, 4, id, block))
                each[id] = [first, 2_900_000]
            stream.settimeout(0.3)
            heard, until = b"", time.time() + 4
            while each and time.time() < until:
                for id, (window, left) in list(each.items()):
                    size = min(window, whole, left, 16_000)
                    if size > 0:
                        data = begin if left == 2_900_000 and size > len(begin) else b""
                        stream.sendall(_frame(0, 0, id, data + b"x" * (size - len(data))))
                        each[id] = [window - size, left - size]
                        whole, sent = whole - size, sent + size
                try:
                    more = stream.recv(1 << 16)
                    if not more:
                        break
                    heard += more
                except TimeoutError:
                    pass
                while len(heard) >= 9 and len(heard) >= 9 + int.from_bytes(heard[:3], "big"):
                    size, kind, flags, id = int.from_bytes(heard[:3], "big"), heard[3], heard[4], int.from_bytes(heard[5:9], "big")
                    payload, heard = heard[9:9 + size], heard[9 + size:]
                    if kind == 4 and not flags & 1:
                        for at in range(0, size, 6):
                            if payload[at:at + 2] == b"\x00\x04":
                                now = int.from_bytes(payload[at + 2:at + 6], "big")
                                for entry in each.values():
                                    entry[0] += now - first
                                first = now
                        stream.sendall(_frame(4, 1, 0, b""))
                    elif kind == 8 and id == 0:
                        whole += int.from_bytes(payload, "big")
                    elif kind == 8 and id in each:
                        each[id][0] += int.from_bytes(payload, "big")
                    elif kind == 3 or (kind in (0, 1) and flags & 1):
                        answered += each.pop(id, None) is not None
                    elif kind == 6 and not flags & 1:
                        stream.sendall(_frame(6, 1, 0, payload))
                    elif kind == 7:
                        return f"{who}: sent away"
        return f"{who}: held" if sent > 1 << 20 else f"{who}: {answered} refused"
    except OSError as error:
        return type(error).__name__


def resets(target, rng):
    """Streams that are opened and given up at once."""
    try:
        with target.tls(10, h2=True) as stream:
            stream.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + _frame(4, 0, 0, b""))
            block = b"".join(_literal(*pair) for pair in [(b":method", b"GET"), (b":scheme", b"https"), (b":path", MAPS.encode()), (b":authority", b"a"), (b"authorization", b"Bearer " + target.token.encode())])
            for id in range(1, 6000, 2):
                stream.sendall(_frame(1, 5, id, block) + _frame(3, 0, id, struct.pack(">I", 8)))
        return "sent"
    except OSError as error:
        return type(error).__name__


KINDS = [wide_lists, wide_objects, wide_updates, odd_fields, patches, documents, definitions, selectors, reviews, held_open, streams, resets]


def send(target, seed):
    """What a seed stands for: a kind of request and what came of it."""
    rng = random.Random(seed)
    kind = KINDS[seed % len(KINDS)]
    return kind.__name__, kind(target, rng)
