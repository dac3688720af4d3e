"""The Services rig: upstream's kube-proxy in its nftables mode beside ours. A script makes Services and slices, changes them, and sends traffic
after each change from pods, from the node and from outside; who answers, and which address it sees, is compared (traffic.py).

A change is known to be in force when a Service that was made after it answers.
"""
import json
import random
import re
import subprocess

from api import certificates  # noqa: F401 (the driver's)
from traffic import CLIENT, FAR, NODE, PODS

WORKER, BATCH, SHRINK = "traffic.py", 48, 24
PORT_TYPES = [("TCP", 80), ("TCP", 443), ("UDP", 53)]


def started(server):
    if server.name == "upstream":
        # a network namespace may not set the limits of connection tracking
        (server.dir / "proxy.yaml").write_text(json.dumps({
            "apiVersion": "kubeproxy.config.k8s.io/v1alpha1", "kind": "KubeProxyConfiguration", "mode": "nftables", "clientConnection": {"kubeconfig": str(server.dir / "admin.conf")},
            "clusterCIDR": "10.244.0.0/16", "detectLocalMode": "ClusterCIDR", "hostnameOverride": "node", "nftables": {"minSyncPeriod": "20ms"}, "conntrack": {"maxPerCore": 0, "min": 0, "tcpEstablishedTimeout": "0s", "tcpCloseWaitTimeout": "0s"}}))
        command = [f"{server.programs}/kube-proxy", "--config", server.dir / "proxy.yaml"]
    else:
        command = [server.program, "kube-proxy", "--kubeconfig", server.dir / "data/server/cred/admin.kubeconfig", "--hostname-override", "node", "--cluster-cidr", "10.244.0.0/16", "--bind-address", NODE]
    log = (server.dir / "proxy.log").open("w")
    subprocess.Popen(server.enter("in", "setsid", *command), stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT)


def fixtures():
    made = []
    for name, address, zone in (("node", NODE, "a"), ("other", CLIENT, "b")):
        made.append({"method": "POST", "path": "/api/v1/nodes", "body": {"metadata": {"name": name, "labels": {"topology.kubernetes.io/zone": zone}}, "spec": {"podCIDR": f"10.244.{0 if zone == 'a' else 1}.0/24"}}})
        made.append({"method": "PATCH", "path": f"/api/v1/nodes/{name}/status", "body": {"status": {"addresses": [{"type": "InternalIP", "address": address}], "conditions": [{"type": "Ready", "status": "True"}]}},
                     "headers": {"Content-Type": "application/merge-patch+json"}})
    return made


def named(script, number):
    """The script with a namespace, addresses and ports of its own."""
    number = number % 600
    names = {"{ns}": f"ns{number:03}", "{net}": str(100 + number // 4), "{own}": str(number % 4 * 50)}
    text = json.dumps(script)
    for place, name in names.items():
        text = text.replace(place, name)
    text = re.sub(r'"@port:(\d)"', lambda m: str(30000 + number * 4 + int(m[1])), text)
    # an address is a number of its own in one of four parts of a network
    text = re.sub(r"@ip:(10\.96\.\d+|203\.\d+\.113|192\.\d+\.2):(\d+):(\d+)", lambda m: f"{m[1]}.{(int(m[2]) + int(m[3])) % 250 + 2}", text)
    steps = json.loads(text)
    return [{"as": "boss", **step} if "method" in step else step for step in steps], names


class Script:
    def __init__(self, seed):
        self.r, self.steps, self.marks = random.Random(f"{seed} services"), [], 0
        self.services, self.slices, self.open = {}, {}, []
        self.step(method="POST", path="/api/v1/namespaces", body={"metadata": {"name": "{ns}"}}, setup=True)
        for n in range(self.r.choice([1, 1, 2])):
            self.service(n)
        self.in_force()
        self.look()
        for _ in range(self.r.randint(1, 3)):
            self.change()
            self.in_force()
            self.look()
        for name in self.services:
            self.step(method="DELETE", path=f"/api/v1/namespaces/{{ns}}/services/{name}", after=True)
        self.step(method="DELETE", path="/apis/discovery.k8s.io/v1/namespaces/{ns}/endpointslices", after=True)
        for n in range(self.marks):
            self.step(method="DELETE", path=f"/api/v1/namespaces/{{ns}}/services/mark{n}", after=True)

    def often(self, chance):
        return self.r.random() < chance

    def step(self, **step):
        # what a step says does not change with what comes later
        self.steps.append(json.loads(json.dumps({"n": len(self.steps), **step})))

    def ports(self, n):
        some = self.r.sample(PORT_TYPES, self.r.choice([1, 1, 2]))
        return [{"name": f"{proto.lower()}{port}", "port": port, "protocol": proto, "targetPort": 8080 + at} for at, (proto, port) in enumerate(some)]

    def service(self, n):
        r = self.r
        kind = r.choice(["ClusterIP", "ClusterIP", "NodePort", "LoadBalancer"])
        spec = {"type": kind, "clusterIP": f"@ip:10.96.{{net}}:{{own}}:{n}", "ports": self.ports(n)}
        if kind != "ClusterIP":
            for at, port in enumerate(spec["ports"]):
                port["nodePort"] = f"@port:{n * 2 + at}"
        if self.often(0.25):
            spec["externalIPs"] = [f"@ip:203.{{net}}.113:{{own}}:{n}"]
        if self.often(0.3) and kind != "ClusterIP":
            spec["externalTrafficPolicy"] = "Local"
        if self.often(0.25):
            spec["internalTrafficPolicy"] = "Local"
        if self.often(0.2):
            spec["sessionAffinity"] = "ClientIP"
        if self.often(0.2):
            spec["trafficDistribution"] = r.choice(["PreferClose", "PreferSameZone", "PreferSameNode"])
        if kind == "LoadBalancer" and self.often(0.4):
            spec["loadBalancerSourceRanges"] = r.choice([["198.51.100.0/24"], ["203.0.113.0/24"], ["198.51.100.20/32", "10.244.0.0/16"], ["10.244.0.10/32"]])
        if kind == "LoadBalancer" and self.often(0.2):
            spec["allocateLoadBalancerNodePorts"] = False
            for port in spec["ports"]:
                port.pop("nodePort", None)
        self.services[f"s{n}"] = spec
        self.step(method="POST", path="/api/v1/namespaces/{ns}/services", body={"metadata": {"name": f"s{n}"}, "spec": spec}, quiet=True)
        if kind == "LoadBalancer":
            ingress = {"ip": f"@ip:192.{{net}}.2:{{own}}:{n}", **({"ipMode": "Proxy"} if self.often(0.15) else {})}
            spec["ingress"] = ingress["ip"]
            spec["mode"] = ingress.get("ipMode", "VIP")
            self.step(method="PATCH", path=f"/api/v1/namespaces/{{ns}}/services/s{n}/status", body={"status": {"loadBalancer": {"ingress": [ingress]}}}, headers={"Content-Type": "application/merge-patch+json"}, quiet=True)
        if self.often(0.92):
            self.slices[f"s{n}"] = self.endpoints()
            self.write(f"s{n}", "POST")

    def endpoints(self):
        r = self.r
        where = r.sample([*PODS.items(), *FAR.items(), ("host", NODE)], r.choice([0, 1, 1, 2, 3, 4]))
        made = []
        for name, address in where:
            far = name in FAR
            one = {"addresses": [address], "nodeName": "other" if far else "node", "conditions": r.choice([{}, {"ready": True}, {"ready": True}, {"ready": True}, {"ready": False}, {"ready": False, "serving": True, "terminating": True}, {"ready": False, "serving": False, "terminating": True}]),
                   "zone": "b" if far else "a"}
            if self.often(0.25):
                one["hints"] = {"forZones": [{"name": r.choice("ab")}], **({"forNodes": [{"name": r.choice(["node", "other"])}]} if self.often(0.5) else {})}
            made.append(one)
        return made

    def write(self, name, method="PUT"):
        ports = [{"name": port["name"], "port": port["targetPort"], "protocol": port["protocol"]} for port in self.services[name]["ports"]]
        body = {"metadata": {"name": name, "labels": {"kubernetes.io/service-name": name}}, "addressType": "IPv4", "endpoints": self.slices[name], "ports": ports}
        path = "/apis/discovery.k8s.io/v1/namespaces/{ns}/endpointslices"
        self.step(method=method, path=path if method == "POST" else f"{path}/{name}", body=body, quiet=True)

    def in_force(self):
        n = self.marks
        self.marks += 1
        ip = f"@ip:10.96.{{net}}:{{own}}:{10 + n}"
        self.step(method="POST", path="/apis/discovery.k8s.io/v1/namespaces/{ns}/endpointslices", setup=True, body={"metadata": {"name": f"mark{n}", "labels": {"kubernetes.io/service-name": f"mark{n}"}}, "addressType": "IPv4",
                  "endpoints": [{"addresses": [PODS["p0"]], "nodeName": "node", "conditions": {"ready": True}}], "ports": [{"name": "", "port": 8080, "protocol": "TCP"}]})
        self.step(method="POST", path="/api/v1/namespaces/{ns}/services", body={"metadata": {"name": f"mark{n}"}, "spec": {"clusterIP": ip, "ports": [{"port": 80, "targetPort": 8080}]}}, setup=True)
        self.step(probe={"from": "node", "ip": ip, "port": 80, "proto": "TCP", "until": True})

    def look(self):
        for kept in self.open:
            self.step(again=kept)
        for name, spec in self.services.items():
            for port in spec["ports"]:
                places = [(spec["clusterIP"], port["port"])] * 3 + [(spec["clusterIP"], port["port"] + 1)]
                if "nodePort" in port:
                    places += [(NODE, port["nodePort"])] * 3 + [("127.0.0.1", port["nodePort"]), (spec["clusterIP"], port["nodePort"])]
                if "externalIPs" in spec:
                    places += [(spec["externalIPs"][0], port["port"])] * 2
                if "ingress" in spec:
                    places += [(spec["ingress"], port["port"])] * 3
                for ip, number in self.r.sample(places, min(len(places), 4)):
                    source = self.r.choice(["p0", "p1", "node", "client", "client"])
                    if ip == "127.0.0.1":
                        source = "node"
                    self.step(probe={"from": source, "ip": ip, "port": number, "proto": port["protocol"]}, affinity=spec.get("sessionAffinity") == "ClientIP")
                if self.often(0.3):
                    kept = f"c{len(self.steps)}"
                    self.open.append(kept)
                    ip, number = self.r.choice(places[:1] + places[4:])
                    self.step(open={"name": kept, "from": "node" if ip == "127.0.0.1" else self.r.choice(["p0", "client", "node"]), "ip": ip, "port": number, "proto": port["protocol"]})

    def change(self):
        name = self.r.choice(sorted(self.services))
        spec = self.services[name]
        path = f"/api/v1/namespaces/{{ns}}/services/{name}"
        merge = {"Content-Type": "application/merge-patch+json"}
        how = self.r.choice(["endpoints", "endpoints", "endpoints", "one", "one", "policy", "affinity", "port", "gone", "slice"])
        if name in self.slices and how == "endpoints":
            self.slices[name] = self.endpoints()
            self.write(name)
        elif name in self.slices and how == "one" and self.slices[name]:
            one = self.r.choice(self.slices[name])
            one["conditions"] = self.r.choice([{"ready": False}, {"ready": True}, {"ready": False, "serving": True, "terminating": True}, {"ready": False, "serving": False, "terminating": True}])
            self.slices[name] = json.loads(json.dumps(self.slices[name]))
            self.write(name)
        elif how == "policy":
            field = "internalTrafficPolicy" if spec["type"] == "ClusterIP" or self.often(0.4) else "externalTrafficPolicy"
            spec[field] = "Cluster" if spec.get(field) == "Local" else "Local"
            self.step(method="PATCH", path=path, body={"spec": {field: spec[field]}}, headers=merge, quiet=True)
        elif how == "affinity":
            spec["sessionAffinity"] = "None" if spec.get("sessionAffinity") == "ClientIP" else "ClientIP"
            self.step(method="PATCH", path=path, body={"spec": {"sessionAffinity": spec["sessionAffinity"]}}, headers=merge, quiet=True)
        elif how == "port":
            spec["ports"] = [{**port, "port": port["port"] + 1000} for port in spec["ports"]]
            self.step(method="PATCH", path=path, body={"spec": {"ports": spec["ports"]}}, headers=merge, quiet=True)
        elif how == "gone":
            self.step(method="DELETE", path=path, quiet=True)
        elif how == "slice" and name in self.slices:
            self.slices.pop(name)
            self.step(method="DELETE", path=f"/apis/discovery.k8s.io/v1/namespaces/{{ns}}/endpointslices/{name}", quiet=True)
        else:
            self.slices[name] = self.slices.get(name) or []
            if self.slices[name] == []:
                self.step(method="DELETE", path=f"/apis/discovery.k8s.io/v1/namespaces/{{ns}}/endpointslices/{name}", quiet=True)
                self.slices[name] = self.endpoints()
                self.write(name, "POST")


def script(seed):
    made = json.loads(json.dumps(Script(seed).steps))
    for step in made:
        spec = (step.get("body") or {}).get("spec") if isinstance(step.get("body"), dict) else None
        for name in ("ingress", "mode") if isinstance(spec, dict) else ():
            spec.pop(name, None)
    return made


def normal(step, answer, names, text):
    if step.get("quiet"):
        return {"code": answer["code"], "body": answer["body"].get("message", "") if answer["code"] >= 400 else ""}
    body = answer["body"]
    if isinstance(body, list):
        # an address that nobody has is unreachable after a while; a message that refuses may be lost
        body = sorted({"nothing" if one.startswith("OSError 113") else one for one in body})
        body = ["refused"] if body == ["nothing", "refused"] else body
    elif body == "OSError 113":
        body = "nothing"
    if step.get("affinity") and isinstance(body, list) and any(":" in one for one in body):
        # which one it stays with is chance, and so is the address that this one sees
        body = [f"{len({one.split(' ')[0] for one in body})} of them"]
    return {"code": answer["code"], "body": body}


def kinds(step, ours, theirs):
    if "probe" in step:
        one = step["probe"]
        where = "mark" if one.get("until") else place(one)
        def sort(body):
            return sorted({re.sub(r"\b(p|far)\d:", r"\1:", re.sub(r"10\.244\.0\.\d+", "pod", text)).replace(NODE, "node").replace(CLIENT, "client") for text in body}) if isinstance(body, list) else body
        return [f"{one['proto']} from {one['from'].rstrip('0123')} to {where}: {sort(ours['body'])} not {sort(theirs['body'])}"[:170]]
    if "again" in step:
        return [f"open connection: {ours['body']} not {theirs['body']}"]
    if "open" in step:
        return [f"opening: {ours['body']} not {theirs['body']}"]
    return [f"{step['method']} {ours['code']} not {theirs['code']}"]


def place(one):
    ip = one["ip"]
    return "node port" if ip in (NODE, "127.0.0.1") and one["port"] != 80 else "cluster address" if ip.startswith("@ip:10.96") else "external address" if ip.startswith("@ip:203") else "load balancer"
