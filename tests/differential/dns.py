"""The DNS rig: CoreDNS with its kubernetes plugin, as kubeadm and k3s set it up, beside ours; both read an API server that has the same Services.

A seed's world is a few Services with slices; its questions are names of these, of nothing, and odd packets, over UDP and TCP. All other names
are asked of one server inside the namespaces, whose answers follow from the name (resolver.py). Order within a section is not compared.
"""
import json
import random
import re
import subprocess
import sys
from pathlib import Path

BATCH = 40
# `resolv.conf` names no ports
PORT, OTHERS = 5300, "127.0.0.53"
COREFILE = """.:%d {
    bind 127.0.0.1
    errors
    kubernetes cluster.local in-addr.arpa ip6.arpa {
        kubeconfig %s
        pods insecure
        fallthrough in-addr.arpa ip6.arpa
    }
    forward . %s
    cache 30 {
        disable success cluster.local in-addr.arpa ip6.arpa
        disable denial cluster.local in-addr.arpa ip6.arpa
    }
    loadbalance
}
"""
NAMESPACES = ["a", "b-1", "default"]


def started(server):
    """Starts the DNS server of a side."""
    def start(name, *command):
        log = (server.dir / f"{name}.log").open("w")
        subprocess.Popen(server.enter("in", "setsid", *command), stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT)
    start("others", sys.executable, Path(__file__).parent / "resolver.py", OTHERS)
    if server.name == "upstream":
        (server.dir / "Corefile").write_text(COREFILE % (PORT, server.dir / "admin.conf", OTHERS))
        start("coredns", f"{server.programs}/coredns", "-conf", server.dir / "Corefile")
    else:
        (server.dir / "dns.conf").write_text(f"nameserver {OTHERS}\n")
        start("dns", server.program, "dns", "--kubeconfig", server.dir / "data/server/cred/admin.kubeconfig", "--listen", f"127.0.0.1:{PORT}", "--resolv-conf", server.dir / "dns.conf")
    server.until("the DNS server answers", [query("kubernetes.default.svc.cluster.local")], lambda answers: answers[0]["code"] == 200 and answers[0]["body"]["answer"])


def query(name, type_="A", **more):
    return {"method": "DNS", "path": "", "dns": {"name": name, "type": type_, **more}, "port": PORT}


def fixtures():
    return [{"method": "POST", "path": "/api/v1/namespaces", "body": {"metadata": {"name": name}}} for name in NAMESPACES if name != "default"]


def certificates():
    return {}


class Seed:
    def __init__(self, seed, part):
        self.seed, self.r = seed, random.Random(f"{seed} dns {part}")


def address(seed, n):
    return f"10.96.{100 + seed % 150}.{(seed // 150 * 20 + n) % 250 + 2}"


def endpoint(seed, n, family):
    return f"10.244.{seed % 250}.{n + 1}" if family == "IPv4" else f"fd00::{seed % 9999 + 1}:{n + 1}"


def services(seed):
    """What the seed's Services are: (namespace, name, kind, ports, endpoints by family)."""
    r = random.Random(f"{seed} dns world")
    made = []
    for n in range(r.randint(1, 4)):
        ports = [{"name": name, "port": port, "protocol": protocol} for name, port, protocol in r.choice([
            [("", 80, "TCP")], [("http", 80, "TCP")], [("http", 80, "TCP"), ("dns", 53, "UDP")], [("dns", 53, "UDP"), ("dns-tcp", 53, "TCP")], [("s", 9, "SCTP")], [("http", 80, "TCP"), ("https", 443, "TCP")], []])]
        kind = r.choice(["cluster", "cluster", "headless", "headless", "headless", "external", "lonely"])
        if kind in ("cluster", "lonely") and not ports:
            ports = [{"name": "", "port": 80, "protocol": "TCP"}]
        families = r.choice([["IPv4"], ["IPv4"], ["IPv4", "IPv6"], ["IPv6"]]) if kind == "headless" else ["IPv4"]
        many = r.choice([0, 1, 2, 3, 3, 60 if r.random() < 0.3 else 4])
        endpoints = []
        for e in range(many):
            one = {"hostname": r.choice(["", "", f"h{e}", "web-0"]), "ready": r.choice([True, True, True, False, None]), "serving": r.choice([True, None, False]), "target": r.choice(["", f"pod-{e}"]), "node": r.choice(["", "n1"])}
            endpoints.append(one)
        made.append({"ns": r.choice(NAMESPACES), "name": f"s{seed}x{n}", "kind": kind, "ports": ports, "families": families, "endpoints": endpoints, "n": n, "publish": r.random() < 0.3,
                     "external": r.choice(["one.example.org", "alias.example.org", "nx.example.org", f"s{seed}x0.a.svc.cluster.local", "EXAMPLE.org"]), "two": r.random() < 0.2})
    return made


def world(seed):
    made = []
    for one in services(seed):
        spec = {"ports": one["ports"] or None, "type": "ClusterIP"}
        if one["kind"] == "external":
            spec = {"type": "ExternalName", "externalName": one["external"].lower(), "ports": one["ports"] or None}
        elif one["kind"] == "headless":
            spec.update(clusterIP="None", publishNotReadyAddresses=one["publish"])
        else:
            spec["clusterIP"] = address(seed, one["n"])
        made.append({"path": f"/api/v1/namespaces/{one['ns']}/services", "body": {"metadata": {"name": one["name"]}, "spec": spec}})
        if one["kind"] == "lonely":
            continue
        for family in one["families"] if one["kind"] != "external" else []:
            endpoints = []
            for e, point in enumerate(one["endpoints"]):
                conditions = {key: point[key] for key in ("ready", "serving") if point[key] is not None}
                body = {"addresses": [endpoint(seed, one["n"] * 64 + e, family)], "conditions": conditions}
                if point["hostname"]:
                    body["hostname"] = point["hostname"]
                if point["node"]:
                    body["nodeName"] = point["node"]
                if point["target"]:
                    body["targetRef"] = {"kind": "Pod", "name": point["target"], "namespace": one["ns"]}
                endpoints.append(body)
            halves = [endpoints[:len(endpoints) // 2], endpoints[len(endpoints) // 2:]] if one["two"] else [endpoints]
            for h, half in enumerate(halves):
                ports = [{"name": p["name"], "port": p["port"] + 8000, "protocol": p["protocol"]} for p in one["ports"]]
                made.append({"path": f"/apis/discovery.k8s.io/v1/namespaces/{one['ns']}/endpointslices", "body": {
                    "metadata": {"name": f"{one['name']}-{family.lower()}-{h}", "labels": {"kubernetes.io/service-name": one["name"]}}, "addressType": family, "endpoints": half, "ports": ports}})
    # it tells that all before it is known, of Services and of slices
    made.append({"path": "/api/v1/namespaces/default/services", "body": {"metadata": {"name": f"z{seed}"}, "spec": {"clusterIP": "None", "ports": [{"port": 1}]}}})
    made.append({"path": "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices", "body": {"metadata": {"name": f"z{seed}", "labels": {"kubernetes.io/service-name": f"z{seed}"}},
                 "addressType": "IPv4", "endpoints": [{"addresses": ["10.244.255.1"]}], "ports": [{"port": 1}]}})
    return made


def is_needed(one):
    return one["body"]["metadata"]["name"].startswith("z")


def seen(seeds):
    return [query(f"z{seed}.default.svc.cluster.local") for seed in (min(seeds), max(seeds))]


def is_seen(answers):
    return all(answer["code"] == 200 and answer["body"]["answer"] for answer in answers)


def reverse(ip):
    return ".".join(reversed(ip.split("."))) + ".in-addr.arpa"


def reverse6(ip):
    import ipaddress
    return ipaddress.ip_address(ip).reverse_pointer


OTHER = ["one.example.org", "nx.example.org", "empty.example.org", "fail.example.org", "refused.example.org", "alias.example.org", "many.example.org", "trunc.example.org", "four.example.org", "short.example.org", "notimp.example.org", ".", "org", "localhost", "cluster.local.example.org", "xcluster.local", "local"]
RAW = ["", "00", "1092", "109201000001000000000000", "10920100000100000000000003", "109201000001000000000000c00c00010001", "109281000001000000000000016100000100010000", "1092010000010000000000000161000001", "109201000000000000000000", "109201000001000100000000" + "0161000001000101610000010001000000050004010203040000",
       "1092010000010000000000013f" + "61" * 63 + "00000100010000", "1092010000010000000000000161" + "c000" + "00010001"]


def questions(seed):
    r = random.Random(f"{seed} dns questions")
    all_ = services(seed)
    made = []

    def name():
        one = r.choice(all_)
        base = f"{one['name']}.{one['ns']}.svc.cluster.local"
        ip = endpoint(seed, one["n"] * 64 + r.randrange(4), "IPv4")
        six = endpoint(seed, one["n"] * 64 + r.randrange(2), "IPv6")
        port = r.choice(one["ports"] or [{"name": "http", "protocol": "TCP"}])
        srv = f"_{port['name'] or 'http'}._{port['protocol'].lower()}.{base}"
        of = [(base, 6), (srv, 3), (base.upper(), 0.5), (base.replace(".cluster", ".Cluster"), 0.5), (f"{ip.replace('.', '-')}.{base}", 2), (f"h{r.randrange(3)}.{base}", 2), (f"web-0.{base}", 1), (f"{six.replace(':', '-')}.{base}", 0.5),
              (f"_tcp.{base}", 0.3), (f"_http.{base}", 0.3), (f"*.{one['ns']}.svc.cluster.local", 0.3), (f"*.{base}", 0.3), (f"_*._*.{base}", 0.3), (f"a.b.{base}", 0.5), (f"_x._tcp.h0.{base}", 0.2), (f"absent.{one['ns']}.svc.cluster.local", 1), (f"{one['name']}.absent.svc.cluster.local", 0.5),
              (f"{one['ns']}.svc.cluster.local", 0.7), ("svc.cluster.local", 0.5), ("cluster.local", 0.7), ("pod.cluster.local", 0.3), (f"{one['ns']}.pod.cluster.local", 0.4), (f"{ip.replace('.', '-')}.{one['ns']}.pod.cluster.local", 1), (f"1-2-3-4.absent.pod.cluster.local", 0.4),
              (f"1-2-3.{one['ns']}.pod.cluster.local", 0.3), (f"--1.{one['ns']}.pod.cluster.local", 0.3), (f"fd00--1.{one['ns']}.pod.cluster.local", 0.3), (f"x.1-2-3-4.{one['ns']}.pod.cluster.local", 0.2), ("dns-version.cluster.local", 0.4), ("ns.dns.cluster.local", 0.4), ("x.ns.dns.cluster.local", 0.2), ("kubernetes.default.svc.cluster.local", 0.4),
              (f"{one['name']}.{one['ns']}.cluster.local", 0.3), (f"{one['name']}.{one['ns']}.foo.cluster.local", 0.3), (f"{one['name']}.{one['ns']}.svc", 0.2), (reverse(address(seed, one["n"])), 1), (reverse(ip), 1.5), (reverse6(six), 0.7), (reverse("10.96.0.1"), 0.3), (reverse("192.0.2.77"), 0.3), ("1.2.in-addr.arpa", 0.2), ("x.y.z.w.in-addr.arpa", 0.2), ("in-addr.arpa", 0.2), ("ip6.arpa", 0.2),
              (r.choice(OTHER), 3), ("a" * 63 + "." + base, 0.2), (f"{one['name']}..{one['ns']}", 0.0), (base + ".", 0.2), (f"_http._tcp.absent.{one['ns']}.svc.cluster.local", 0.2)]
        return r.choices([text for text, _ in of], [weight for _, weight in of])[0]

    for _ in range(12):
        if r.random() < 0.06:
            made.append({"method": "DNS", "path": "", "port": PORT, "dns": {"raw": r.choice(RAW), "tcp": r.random() < 0.4, "name": "raw", "type": "A"}})
            continue
        text = name()
        type_ = "PTR" if text.endswith("arpa") and r.random() < 0.8 else "SRV" if text.startswith("_") and r.random() < 0.8 else r.choices(
            ["A", "AAAA", "SRV", "PTR", "TXT", "NS", "SOA", "CNAME", "ANY", "MX", "HTTPS", "AXFR", "NAPTR", "X", "DS", "HINFO"], [10, 4, 3, 0.5, 1, 0.8, 0.8, 0.8, 0.5, 0.4, 0.4, 0.2, 0.2, 0.2, 0.2, 0.2])[0]
        more = {}
        if r.random() < 0.25:
            more["tcp"] = True
        if r.random() < 0.3:
            more["edns"] = {"size": r.choice([512, 100, 0, 1232, 4096, 65535]), **({"do": True} if r.random() < 0.3 else {}), **({"version": 1} if r.random() < 0.1 else {}), **({"options": r.choice(["000a00081122334455667788", "00080007000118000a0000", "000c00020000", "fde900016a"])} if r.random() < 0.2 else {})}
        if r.random() < 0.1:
            more["flags"] = r.choice([0x0000, 0x0110, 0x0120, 0x0180, 0x0500, 0x0900, 0x1100, 0x2100, 0x2900, 0x0300, 0x8100, 0x0140])
        if r.random() < 0.05:
            more["class"] = r.choice(["CH", "HS", "ANY", "NONE", "X"])
        if r.random() < 0.02:
            more["count"] = r.choice([0, 2])
        made.append(query(text, type_, **more))
    return made


def normal(request, answer):
    body = answer["body"]
    if not isinstance(body, dict):
        return {"code": answer["code"], "body": body}
    made = dict(body)
    # how a message is compressed is a program's own affair; how much of a long one fits follows from it
    made.pop("long")
    cut = "tc" in made["flags"]
    asked = request["dns"]["name"].lower().rstrip(".")
    other = not asked.endswith(("cluster.local", ".arpa"))
    if other:
        # what a cache has is answered as whoever came first was, and holds as long as is left
        made["flags"], made["opcode"] = [one for one in made["flags"] if one not in ("aa", "rd")], None
    for section in ("answer", "authority", "additional"):
        records = [{**one, "ttl": "<cached>" if other or "example.org" in one.get("name", "") or one.get("type") == "SOA" else one.get("ttl")} for one in made[section] if one["type"] != "OPT"]
        made[section] = "<cut>" if cut else sorted(records, key=lambda one: json.dumps(one, sort_keys=True))
    made["edns"] = next((one for one in body["additional"] if one["type"] == "OPT"), None)
    for one in (made["authority"] if not cut else []):
        if one["type"] == "SOA":
            one["value"][2] = "<serial>"
    return {"code": answer["code"], "body": made}


def form(name):
    """A name's form, without what is the seed's."""
    name = re.sub(r"s\d+x\d+", "SERVICE", name.lower())
    name = re.sub(r"\b(a|b-1|default)\.(svc|pod)", r"NS.\2", name)
    name = re.sub(r"\b10-244-\d+-\d+|1-2-3-4", "IP", re.sub(r"\bh\d+\b|web-0", "HOST", name))
    name = re.sub(r"fd00--[\d-]+", "IP6", name)
    name = re.sub(r"(\d+\.){4}in-addr", "IP.in-addr", re.sub(r"([0-9a-f]\.){32}", "IP6.", name))
    return re.sub(r"a{20,}", "LONG", re.sub(r"_[a-z-]+\._(tcp|udp|sctp)", "_PORT._PROTO", name))


def kind(request, ours, theirs):
    asked = request["dns"]
    what = f"{'raw ' + asked['raw'][:12] if 'raw' in asked else asked['type'] + ' ' + form(asked['name'])}" + "".join(f" {key}={json.dumps(asked[key])}" for key in ("flags", "class", "count") if key in asked)
    if ours["code"] != theirs["code"] or not isinstance(ours["body"], dict) or not isinstance(theirs["body"], dict):
        return f"{what}: {ours['body'] if not isinstance(ours['body'], dict) else 'answered'} not {theirs['body'] if not isinstance(theirs['body'], dict) else 'answered'}"
    for key in ("rcode", "opcode", "flags", "question", "answer", "authority", "additional", "edns", "left", "id"):
        a, b = ours["body"].get(key), theirs["body"].get(key)
        if a != b:
            if key in ("rcode", "flags", "opcode", "left", "id"):
                return f"{what}: {key} {a} not {b}"
            if key == "edns":
                return f"edns {'lacks' if not a else 'has' if not b else 'differs ' + str(sorted(k for k in a if a[k] != b[k]))} ({'with' if asked.get('edns') else 'without'}{' ' + json.dumps(asked['edns'].get('options')) if (asked.get('edns') or {}).get('options') else ''})"
            if isinstance(a, list) and isinstance(b, list) and len(a) == len(b):
                fields = sorted({field for one, other in zip(a, b) if isinstance(one, dict) for field in one if one.get(field) != other.get(field)})
                return f"{what}: {key}: {fields}"
            return f"{what}: {key}: {len(a) if isinstance(a, list) else a} not {len(b) if isinstance(b, list) else b}"
    return f"{what}: ?"
