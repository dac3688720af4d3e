"""Scripts of the node rig: a seed's namespace, what its pod needs, the pod, and what is done to it. In all texts {ns} is the namespace, {id} something of the script's own.

The first step has `family`, and `quiet`: how many seconds more than usual nothing may change before the script is at rest. What containers do is teller/'s.
"""
import base64
import random

IMAGE = "127.0.0.1:5000/tell:1"
CORE = "/api/v1/namespaces/{ns}"
POD = f"{CORE}/pods/p"
MERGE = {"Content-Type": "application/strategic-merge-patch+json"}
NONE = object()
CAPABILITIES = ["NET_ADMIN", "SYS_TIME", "CHOWN", "SYS_ADMIN", "NET_RAW", "ALL", "KILL", "SETUID", "MKNOD", "SYS_PTRACE", "NET_BIND_SERVICE", "CAP_SYS_NICE", "SETPCAP", "AUDIT_WRITE"]
FIELDS = ["metadata.name", "metadata.namespace", "metadata.uid", "metadata.labels['app']", "metadata.annotations['note']", "metadata.labels['none']", "spec.nodeName", "spec.serviceAccountName", "status.hostIP", "status.podIP", "status.podIPs", "status.hostIPs"]
VOLUME_FIELDS = ["metadata.name", "metadata.namespace", "metadata.uid", "metadata.labels", "metadata.annotations", "metadata.labels['app']", "metadata.annotations['note']"]
AMOUNTS = ["limits.cpu", "limits.memory", "requests.cpu", "requests.memory", "limits.ephemeral-storage", "requests.ephemeral-storage"]
HOST = "/run/rig/{id}"


def encoded(text):
    return base64.b64encode(text.encode()).decode()


class Script:
    def __init__(self, seed):
        self.r = random.Random(f"node {seed}")
        self.steps, self.quiet, self.alone = [], 0, False
        self.step("POST", "/api/v1/namespaces", {"metadata": {"name": "{ns}"}}, setup=True)

    # parts

    def often(self, share):
        return self.r.random() < share

    def one(self, *values):
        return self.r.choice(values)

    def few(self, values, most):
        return self.r.sample(values, self.r.randint(0, min(most, len(values))))

    def some(self, share=1.0, **choices):
        """Fields with one of their values each; None leaves a field out."""
        made = {name: self.r.choice(values) for name, values in choices.items() if self.often(share)}
        return {name: value() if callable(value) else value for name, value in made.items() if value is not None}

    def step(self, method, path, body=None, **more):
        self.steps.append({"n": len(self.steps), "method": method, "path": path, "body": body, **more})

    def setup(self, resource, name, body):
        self.step("POST", f"{CORE}/{resource}", {"metadata": {"name": name}, **body}, setup=True)

    def objects(self):
        """What references find."""
        self.setup("configmaps", "conf", {"data": {"a": "1", "b.txt": "two\nlines\n", "long": "x" * 300, "key-1": "dash", "1digit": "digit", "SHOUT": "$(a)"}, "binaryData": {"bin": "AAEC/w=="}})
        self.setup("secrets", "hidden", {"data": {"user": encoded("jane"), "pass.word": encoded("p$$w"), "blank": ""}})
        self.setup("configmaps", "empty", {})
        self.step("POST", f"{CORE}/services", {"metadata": {"name": "front-end"}, "spec": {"selector": {"app": "none"}, "clusterIP": "None" if self.often(0.3) else None, "ports": [{"port": 80, "name": "http"}, {"port": 53, "protocol": "UDP", "name": "dns-udp"}]}}, setup=True)

    def do(self, what, name="c", **more):
        """A container that does these."""
        return {"name": name, "image": IMAGE, "args": list(what), **more}

    def pod(self, spec, now=False, **meta):
        full = {"nodeName": "node", "terminationGracePeriodSeconds": self.one(1, 2, 3), "automountServiceAccountToken": self.often(0.15), **spec}
        full = {key: value for key, value in full.items() if value is not NONE}
        self.step("POST", f"{CORE}/pods", {"metadata": {"name": "p", "labels": {"app": "a", "tier": "x"}, "annotations": {"note": "a \"note\"\nof two lines"}, **meta}, "spec": full}, **({"now": True} if now else {}))

    def delete(self, **options):
        self.step("DELETE", POD, options or {})

    def end(self):
        """How a container ends that has told what it sees."""
        return self.one(["stay:"], ["exit:0"], ["exit:0"], ["end:TERM=0", "stay:"], ["exit:3"])

    # what a container sees

    def security(self, pod=False):
        made = self.some(0.4, runAsUser=[0, 1000, 1234, 65534], runAsGroup=[0, 2000, 3000], runAsNonRoot=[True, False, None, None, None],
                         seccompProfile=[{"type": "RuntimeDefault"}, {"type": "Unconfined"}, {"type": "Localhost", "localhostProfile": "rig/none.json"}] if self.often(0.5) else [None],
                         appArmorProfile=[None, None, None, {"type": "Unconfined"}, {"type": "RuntimeDefault"}])
        if "runAsGroup" in made and "runAsUser" not in made and self.often(0.7):
            made["runAsUser"] = 1000
        if pod:
            if "runAsGroup" in made:
                # containerd makes no sandbox of a group without a user
                made.setdefault("runAsUser", 1000)
            made |= self.some(0.35, supplementalGroups=[[4000], [5000, 1, 4000], []], fsGroup=[0, 2000, 3000], supplementalGroupsPolicy=["Merge", "Strict"], fsGroupChangePolicy=["Always", "OnRootMismatch"],
                              sysctls=[[{"name": "net.ipv4.ip_unprivileged_port_start", "value": "99"}], [{"name": "kernel.shm_rmid_forced", "value": "1"}, {"name": "net.ipv4.tcp_keepalive_time", "value": "300"}], [{"name": "net.ipv4.ping_group_range", "value": "0 5"}], None, None])
            return made
        made |= self.some(0.3, privileged=[True, False], readOnlyRootFilesystem=[True, True, False], allowPrivilegeEscalation=[True, False, False], procMount=[None, None, None, "Default", "Unmasked"])
        if self.often(0.4):
            made["capabilities"] = {key: value for key, value in (("add", self.few(CAPABILITIES, 3)), ("drop", self.few(CAPABILITIES, 3))) if value}
        if made.get("privileged") or "SYS_ADMIN" in str(made) or "ALL" in str(made.get("capabilities", {}).get("add")):
            made.pop("allowPrivilegeEscalation", None)
        return made

    def resources(self):
        cpu, memory = self.one(None, "10m", "100m", "250m", "1", "1.5"), self.one(None, "32Mi", "64M", "100Mi", "67108865")
        made = {}
        limits = {key: value for key, value in (("cpu", cpu), ("memory", memory)) if value and self.often(0.8)}
        requests = {key: {"cpu": self.one("5m", "1m", "10m"), "memory": self.one("8Mi", "16Mi", "1")}[key] for key in ("cpu", "memory") if self.often(0.5)}
        if self.often(0.3):
            requests = dict(limits)
        if self.often(0.15):
            limits["ephemeral-storage"] = "1Gi"
        if self.often(0.05):
            limits["hugepages-2Mi"] = "0"
        if limits:
            made["limits"] = limits
        if requests:
            made["requests"] = requests
        return made

    def environment(self):
        """A variable."""
        r = self.r
        name = self.one("A", "B", "A", "PATH", "HOME", "EMPTY", "with-dash", "dot.name", "HOSTNAME", "KUBERNETES_PORT", "FRONT_END_SERVICE_HOST", "1X", "a b")
        kind = r.random()
        if kind < 0.4:
            return {"name": name, "value": self.one("1", "", "$(A)", "$(NONE)", "$$(A)", "$(B) and $(A)", "a=b", "$A", "$(", "äö", "x\ny", "$(FRONT_END_SERVICE_PORT)", "$(KUBERNETES_SERVICE_HOST)", " ")}
        if kind < 0.6:
            return {"name": name, "valueFrom": {"fieldRef": {"fieldPath": self.one(*FIELDS), **self.some(0.1, apiVersion=["v1"])}}}
        if kind < 0.75:
            return {"name": name, "valueFrom": {"resourceFieldRef": {"resource": self.one(*AMOUNTS), **self.some(0.6, divisor=["1", "1m", "1Mi", "1k", "0"]), **self.some(0.3, containerName=["c"])}}}
        if kind < 0.88:
            return {"name": name, "valueFrom": {"configMapKeyRef": {"name": self.one("conf", "conf", "none", "empty"), "key": self.one("a", "b.txt", "none", "bin"), "optional": self.one(True, True, None, False)}}}
        return {"name": name, "valueFrom": {"secretKeyRef": {"name": self.one("hidden", "hidden", "none"), "key": self.one("user", "pass.word", "blank", "none"), "optional": self.one(True, True, None)}}}

    def volume(self, name):
        """A volume."""
        mode = {} if self.often(0.6) else {"defaultMode": self.one(0o400, 0o644, 0o777, 0o640, 0o444, 0)}
        kind = self.one("configMap", "secret", "downwardAPI", "projected", "emptyDir", "emptyDir", "hostPath", "image")
        if kind == "configMap":
            source = {"name": self.one("conf", "conf", "conf", "empty", "none"), **mode, **self.some(0.4, items=[lambda: self.items(["a", "b.txt", "bin", "long", "none"])]), **self.some(0.3, optional=[True, True, False])}
        elif kind == "secret":
            source = {"secretName": self.one("hidden", "hidden", "none"), **mode, **self.some(0.4, items=[lambda: self.items(["user", "pass.word", "blank"])]), **self.some(0.3, optional=[True])}
        elif kind == "downwardAPI":
            source = {**mode, "items": self.downward()}
        elif kind == "projected":
            parts = [{"configMap": {"name": "conf", **self.some(0.5, items=[lambda: self.items(["a", "b.txt"])])}}, {"secret": {"name": "hidden", **self.some(0.3, optional=[True])}}, {"downwardAPI": {"items": self.downward()}},
                     {"serviceAccountToken": {"path": "token", **self.some(0.5, audience=["x"], expirationSeconds=[600, 7200])}}, {"configMap": {"name": "none", "optional": True}}]
            source = {**mode, "sources": self.r.sample(parts, self.r.randint(1, 3))}
        elif kind == "emptyDir":
            source = self.some(0.3, medium=["Memory", ""], sizeLimit=["1Mi", "10M", "0"])
        elif kind == "hostPath":
            source = {"path": HOST + self.one("/dir", "/dir", "/file", "/new", "/link", "/socket", "/none"), **self.some(0.7, type=["", "Directory", "DirectoryOrCreate", "File", "FileOrCreate", "Socket", "CharDevice", "BlockDevice"])}
        else:
            source = {"reference": self.one("127.0.0.1:5000/volume:1", "127.0.0.1:5000/tell:1", "127.0.0.1:5000/absent/{id}:1"), **self.some(0.3, pullPolicy=["IfNotPresent", "Never", "Always"])}
        return {"name": name, kind: source}

    def items(self, keys):
        return [{"key": key, "path": self.one(key, "sub/" + key, "deep/er/" + key), **self.some(0.4, mode=[0o400, 0o777, 0o640])} for key in self.r.sample(keys, self.r.randint(1, 2))]

    def downward(self):
        made = []
        for at in range(self.r.randint(1, 3)):
            if self.often(0.7):
                made.append({"path": self.one("", "sub/") + f"f{at}", "fieldRef": {"fieldPath": self.one(*VOLUME_FIELDS)}, **self.some(0.3, mode=[0o400, 0o600])})
            else:
                made.append({"path": f"r{at}", "resourceFieldRef": {"containerName": "c", "resource": self.one(*AMOUNTS), **self.some(0.5, divisor=["1", "1m", "1Mi"])}})
        return made

    def mounts(self, volumes):
        made = []
        for volume in volumes:
            for at in range(self.one(1, 1, 1, 2)):
                path = f"/m/{volume['name']}{at}" if self.often(0.9) else self.one("/data", "/etc/conf", "/tmp", "/m/link/../x", "/work")
                mount = {"name": volume["name"], "mountPath": path, **self.some(0.3, readOnly=[True, False])}
                file = "image" not in volume and self.often(0.25)
                if file:
                    mount[self.one("subPath", "subPath", "subPathExpr")] = self.one("a", "sub", "sub/deep", "none", "$(A)", "f0", "user", "../x" if self.often(0.1) else "b.txt")
                elif self.often(0.1):
                    mount["mountPropagation"] = self.one("None", "HostToContainer")
                if mount.get("readOnly") and self.often(0.2) and "image" not in volume:
                    mount["recursiveReadOnly"] = self.one("Disabled", "IfPossible")
                if not any(one["mountPath"] == mount["mountPath"] for one in made):
                    made.append(mount)
        return made

    # families

    def sees(self):
        self.objects()
        spec = {"securityContext": self.security(True), **self.some(0.25, shareProcessNamespace=[True], hostname=["hosty", "long-" + "x" * 50], subdomain=["sub"], setHostnameAsFQDN=[True], restartPolicy=["Never", "OnFailure"], enableServiceLinks=[True, False])}
        spec |= self.some(0.2, hostNetwork=[True], hostPID=[True], hostIPC=[True], dnsPolicy=["Default", "ClusterFirst", "ClusterFirstWithHostNet", "None"],
                          dnsConfig=[{"nameservers": ["198.51.100.7"], "searches": ["x.example", "cluster.local"], "options": [{"name": "ndots", "value": "2"}, {"name": "edns0"}]}, {"searches": ["a.example"]}, {"options": [{"name": "ndots", "value": "1"}]}],
                          hostAliases=[[{"ip": "198.51.100.8", "hostnames": ["foo", "bar.example"]}, {"ip": "2001:db8::1", "hostnames": ["six"]}]])
        if spec.get("hostPID"):
            spec.pop("shareProcessNamespace", None)
        if spec.get("dnsPolicy") == "None" and "nameservers" not in spec.get("dnsConfig", {}):
            spec["dnsConfig"] = {"nameservers": ["198.51.100.7"]}
        if "runAsNonRoot" in spec["securityContext"] and self.often(0.5):
            spec["securityContext"]["runAsUser"] = 1000
        spec.setdefault("restartPolicy", "Never")
        spec["containers"] = [self.do(["report:", *(self.end() if at == 0 else ["stay:"])], "cd"[at], securityContext=self.security(), resources=self.resources(), **self.some(0.15, tty=[True], stdin=[True], workingDir=["/tmp", "/none/deep", "/m"])) for at in range(self.one(1, 1, 2))]
        if self.often(0.2):
            spec["initContainers"] = [self.do(["report:ids,cgroup,status,namespaces", "exit:0"], "i", securityContext=self.security(), resources=self.resources())]
        if self.often(0.2):
            spec["resources"] = {"limits": {"cpu": "1", "memory": "200Mi"}} if self.often(0.6) else {"requests": {"cpu": "20m", "memory": "32Mi"}}
        self.pod(spec)

    def variables(self):
        self.objects()
        containers = []
        for at in range(self.one(1, 1, 2)):
            more = {"env": [self.environment() for _ in range(self.r.randint(1, 6))], "resources": self.resources()}
            if self.often(0.4):
                more["envFrom"] = [{self.one("configMapRef", "secretRef"): {"name": self.one("conf", "hidden", "empty", "none"), **self.some(0.7, optional=[True])}, **self.some(0.4, prefix=["P_", "p-", "1"])} for _ in range(self.r.randint(1, 2))]
            words = ["report:env,args", *self.r.sample(["out:$(A)\\n", "out:$(B)$(A)\\n", "out:$$(A)\\n", "out:$(NONE)\\n", "out:$(PATH\\n"], 2), *self.one(["exit:0"], ["stay:"])]
            container = self.do(words, "cd"[at], **more)
            kind = self.r.random()
            if kind < 0.15:
                container["command"] = ["/tell", "out:command $(A)\\n"]
            elif kind < 0.3:
                container["image"] = self.one("127.0.0.1:5000/env:1", "127.0.0.1:5000/both:1", "127.0.0.1:5000/cmd:1", "127.0.0.1:5000/bare:1", "127.0.0.1:5000/none:1")
                if self.often(0.5):
                    container.pop("args")
            containers.append(container)
        self.pod({"restartPolicy": self.one("Never", "Never", "OnFailure"), "containers": containers, **self.some(0.2, enableServiceLinks=[False], hostNetwork=[True])})

    def volumes(self):
        self.objects()
        volumes = [self.volume(f"v{at}") for at in range(self.r.randint(1, 4))]
        mounts = self.mounts(volumes)
        folders = ",".join(one["mountPath"] for one in mounts)
        words = ["report:mounts", f"tree:{folders}", *(f"try:{one['mountPath']}" for one in mounts), *self.one(["exit:0"], ["stay:"])]
        security = self.some(0.5, runAsUser=[1000, None], fsGroup=[2000, None, 0], fsGroupChangePolicy=["OnRootMismatch", None])
        containers = [self.do(words, volumeMounts=mounts, env=[{"name": "A", "value": self.one("sub", "a")}], resources=self.resources(), **self.some(0.2, securityContext=[{"runAsUser": 1234}, {"privileged": True}]))]
        if self.often(0.25):
            containers.append(self.do([f"tree:{folders}", "stay:"], "d", volumeMounts=mounts, env=[{"name": "A", "value": "sub"}]))
        more = {"initContainers": [self.do([f"write:{one['mountPath']}/made={at}" for at, one in enumerate(mounts)], "i", volumeMounts=mounts, env=[{"name": "A", "value": "sub"}])]} if self.often(0.3) else {}
        self.pod({"restartPolicy": "Never", "securityContext": security, "volumes": volumes, "containers": containers, **more})
        self.quiet += 1

    def ends(self):
        """Containers that exit, in all orders."""
        empty = [{"name": "e", "emptyDir": {}}]
        mount = {"volumeMounts": [{"name": "e", "mountPath": "/e"}]}

        def doing(name):
            return self.one(["exit:0"], ["exit:1"], ["exit:137"], ["stay:"], [f"runs:/e/{name}=1,0"], [f"runs:/e/{name}=1,stay"], [f"runs:/e/{name}=2,3,stay"], ["sleep:1500", "exit:0"], ["sleep:1500", "exit:4"], ["kill:KILL"], ["kill:SEGV"], ["end:TERM=0", "stay:"], ["kill:TERM"])

        def message():
            kind = self.r.random()
            made, more = [], {}
            if kind < 0.4:
                made, more = [self.one("write:/dev/termination-log=the end", "write:/dev/termination-log=" + "z" * 100, "out:last words\\n", "write:/t/message=\\tx\\n")], self.some(0.6, terminationMessagePolicy=["FallbackToLogsOnError", "File"], terminationMessagePath=["/t/message", "/dev/termination-log"])
            elif kind < 0.5:
                made, more = [self.one("long:5000", "lines:300", "err:bad\\n")], {"terminationMessagePolicy": "FallbackToLogsOnError"}
            return made, more

        def container(name, **given):
            words, more = message()
            return self.do([*words, *doing(name)], name, **mount, **more, **given)

        def rules():
            return self.some(0.12, restartPolicy=["Never", "Always", "OnFailure"], restartPolicyRules=[None, [{"action": "Restart", "exitCodes": {"operator": "In", "values": [1, 4]}}], [{"action": "Restart", "exitCodes": {"operator": "NotIn", "values": [0]}}]])
        init = [container(name, **({"restartPolicy": "Always"} if self.often(0.4) else {})) for name in self.few(["i", "j"], 2)] if self.often(0.6) else []
        for one in init:
            if one.get("restartPolicy") and one["args"][-1].startswith(("exit", "sleep", "kill")) and self.often(0.6):
                one["args"] = ["end:TERM=0", "stay:"]
            elif not one.get("restartPolicy") and self.often(0.7):
                one["args"][-1:] = ["exit:0"]
        containers = [container(name, **{key: value for key, value in rules().items() if not (key == "restartPolicyRules" and False)}) for name in "cd"[:self.one(1, 1, 2)]]
        for one in containers:
            if "restartPolicyRules" in one:
                one.setdefault("restartPolicy", "Never")
        self.pod({"restartPolicy": self.one("Always", "OnFailure", "Never"), "volumes": empty, "initContainers": init, "containers": containers})
        self.quiet += 2
        if self.often(0.3):
            self.delete()

    def probe(self):
        made = self.some(0.4, initialDelaySeconds=[1, 2], timeoutSeconds=[1, 2], failureThreshold=[1, 2, 3])
        made["periodSeconds"] = self.one(1, 1, 2)
        kind = self.r.random()
        if kind < 0.25:
            made["exec"] = {"command": self.one(["/tell", "exit:0"], ["/tell", "out:it is bad\\n", "exit:1"], ["/tell", "there:/e/up"], ["/none"], ["/tell", "sleep:4000"], ["/tell", "err:oops", "long:12000", "exit:2"], ["/tell", "exit:0"], ["tell", "report:"])}
        elif kind < 0.75:
            made["httpGet"] = {"path": self.one("/", "/code/200", "/code/404", "/code/500", "/code/399", "/code/301", "/to/302/code/200", "/to/302/code/500", "/to/307/x", "/to/302/x?http://198.51.100.99/", "/loop", "/slow/3000", "/header", "/big", "/bigfail", "/there/e/up", "/hangup", "/code/200?x=1", "x", "//y"),
                               "port": self.one(8080, 8080, 8080, "web", "web", "none", 8081), **self.some(0.3, httpHeaders=[[{"name": "X-Wanted", "value": "1"}], [{"name": "User-Agent", "value": "mine"}, {"name": "Accept", "value": ""}], [{"name": "Host", "value": "example.org"}, {"name": "X-A", "value": "1"}, {"name": "X-A", "value": "2"}]], scheme=["HTTP", "HTTPS"], host=["127.0.0.1", None])}
        elif kind < 0.85:
            made["tcpSocket"] = {"port": self.one(8080, 8081, "web"), **self.some(0.2, host=["127.0.0.1"])}
        else:
            made["grpc"] = {"port": self.one(9090, 9090, 9091, 8080), **self.some(0.6, service=["", "good", "bad"])}
        return made

    def probes(self):
        empty = [{"name": "e", "emptyDir": {}}]
        mounts = [{"name": "e", "mountPath": "/e"}]
        which = self.one(["readinessProbe"], ["readinessProbe"], ["livenessProbe"], ["startupProbe"], ["livenessProbe", "readinessProbe"], ["startupProbe", "livenessProbe"], ["startupProbe", "readinessProbe"])
        probes = {name: self.probe() for name in which}
        if "readinessProbe" in probes and self.often(0.2):
            probes["readinessProbe"]["successThreshold"] = 2
        for name in ("livenessProbe", "startupProbe"):
            if name in probes and self.often(0.15):
                probes[name]["terminationGracePeriodSeconds"] = 1
        words = [*self.one(["touch:/e/up"], ["touch:/e/up"], []), "http:8080", f"grpc:9090={self.one('', 'good', 'down-good', 'unimplemented')}", "catch:HUP,USR1", *self.one(["end:TERM=0"], ["end:TERM=5"], []), *self.one(["stay:"], ["stay:"], ["sleep:2500", "remove:/e/up", "stay:"], ["sleep:2500", "touch:/e/up", "stay:"])]
        ports = [{"name": "web", "containerPort": 8080}]
        container = self.do(words, volumeMounts=mounts, ports=ports, **probes)
        spec = {"restartPolicy": self.one("Always", "Never"), "volumes": empty, "containers": [container], **self.some(0.1, hostNetwork=[None], readinessGates=[[{"conditionType": "example.org/gate"}]])}
        if self.often(0.2):
            sidecar = self.do(["http:8081", *self.one(["touch:/e/up"], []), "end:TERM=0", "stay:"], "i", restartPolicy="Always", volumeMounts=mounts, startupProbe={"periodSeconds": 1, "failureThreshold": self.one(2, 5), "httpGet": {"path": self.one("/", "/code/500", "/there/e/up"), "port": 8081}})
            spec["initContainers"] = [sidecar]
        self.pod(spec)
        self.quiet += 3
        if self.often(0.2):
            self.step("PATCH", f"{POD}/status", {"status": {"conditions": [{"type": "example.org/gate", "status": "True"}]}}, headers=MERGE)

    def hook(self, when):
        kind = self.one("exec", "exec", "exec", "httpGet", "sleep", "tcpSocket")
        if kind == "exec":
            words = self.one(["write:/e/hook=" + when, "exit:0"], ["sleep:800", "write:/e/hook=slow", "exit:0"], ["out:said\\n", "exit:7"], ["there:/e/none"], ["sleep:20000"] if when == "preStop" else ["exit:0"])
            return {"exec": {"command": self.one(["/tell", *words], ["/tell", *words], ["/tell", *words], ["/none"])}}
        if kind == "httpGet":
            return {"httpGet": {"path": self.one("/hook", "/code/500", "/header", "/slow/500"), "port": self.one(8080, 8080, "web", 8085), **self.some(0.3, httpHeaders=[[{"name": "X-Wanted", "value": "1"}]], scheme=["HTTP", "HTTPS"])}}
        if kind == "sleep":
            return {"sleep": {"seconds": self.one(0, 1, 2, 5)}}
        return {"tcpSocket": {"port": 8080}}

    def stops(self):
        """Hooks, grace and signals."""
        mounts = [{"name": "e", "mountPath": "/e"}]

        def container(name, **given):
            hooks = {}
            if self.often(0.55):
                hooks["preStop"] = self.hook("preStop")
            if self.often(0.3):
                hooks["postStart"] = self.hook("postStart")
            if self.often(0.15):
                hooks["stopSignal"] = self.one("SIGUSR1", "SIGTERM", "SIGINT", "SIGKILL")
            words = ["http:808" + ("0" if name == "c" else "2"), "catch:HUP,USR1,INT,QUIT", *self.one(["end:TERM=0"], ["end:TERM=3"], ["end:TERM=0@700"], ["end:TERM=0@9000"], ["catch:TERM"], ["end:USR1=2"], []), "stay:"]
            return self.do(words, name, ports=[{"name": "web" if name == "c" else "web-" + name, "containerPort": 8080}], volumeMounts=mounts, **({"lifecycle": hooks} if hooks else {}), **given)
        init = [container(name, restartPolicy="Always") for name in self.few(["i", "j"], 2)] if self.often(0.4) else []
        grace = self.one(0, 1, 2, 4, 4, 8)
        spec = {"restartPolicy": self.one("Always", "Never"), "terminationGracePeriodSeconds": grace, "volumes": [{"name": "e", "emptyDir": {}}], "initContainers": init, "containers": [container(name) for name in "cd"[:self.one(1, 1, 2)]]}
        if any("stopSignal" in (one.get("lifecycle") or {}) for one in [*spec["containers"], *init]):
            spec["os"] = {"name": "linux"}
        if self.often(0.2):
            spec["containers"][0]["image"] = "127.0.0.1:5000/stop:1"
        if self.often(0.2):
            spec["activeDeadlineSeconds"] = self.one(8, 10)
        self.pod(spec)
        self.quiet += 2
        self.step("DELETE", POD, self.one({}, {}, {}, {"gracePeriodSeconds": 1}, {"gracePeriodSeconds": 3}, {"gracePeriodSeconds": 0}))

    def images(self):
        policy = self.some(0.7, imagePullPolicy=["Always", "IfNotPresent", "Never"])
        image = self.one("127.0.0.1:5000/ok/{id}:1", "127.0.0.1:5000/ok/{id}", "127.0.0.1:5000/ok/{id}:1", "127.0.0.1:5000/absent/{id}:1", "127.0.0.1:5000/denied/{id}:1", "127.0.0.1:5000/forbidden/{id}:1", "127.0.0.1:5000/e500/{id}:1", "127.0.0.1:5000/e503/{id}:1", "127.0.0.1:5000/e429/{id}:1", "127.0.0.1:5000/html/{id}:1", "127.0.0.1:5000/emptied/{id}:1", "127.0.0.1:5000/cut/{id}:1",
                         "127.0.0.1:5000/wrong/{id}:1", "127.0.0.1:5000/slow/{id}:1", "127.0.0.1:5000/moved/{id}:1", "127.0.0.1:5000/arm/{id}:1", "127.0.0.1:5000/multi/{id}:1", "127.0.0.1:5000/badconfig/{id}:1", "127.0.0.1:5000/badlayer/{id}:1", "127.0.0.1:5000/basic/{id}:1", "127.0.0.1:5000/token/{id}:1", "127.0.0.1:5000/flaky/{id}:1", "127.0.0.1:5000/badtype/{id}:1", "127.0.0.1:5000/nolayer/{id}:1", "127.0.0.1:5000/text/{id}:1",
                         "127.0.0.1:5000/Upper:1", "127.0.0.1:5000/tell:1:2", " 127.0.0.1:5000/tell:1", "127.0.0.1:5000/tell:", "127.0.0.1:5000//tell:1", "127.0.0.1:5000/tell@sha256:1234", "127.0.0.1:5000/tell@sha256:" + "0" * 64, "127.0.0.1:5000/tell:1@sha256:" + "0" * 64, "127.0.0.1:5000/tell@DIGEST", "127.0.0.1:5000/tell:other@DIGEST", "127.0.0.1:5000/tell", "127.0.0.1:5999/x:1", "127.0.0.1:5000/tell:1", "http://127.0.0.1:5000/tell:1", "127.0.0.1:5000/té:1", "127.0.0.1:5000/ok/{id}@DIGEST",
                         "127.0.0.1:5000/user:1", "127.0.0.1:5000/numeric:1", "127.0.0.1:5000/nouser:1", "127.0.0.1:5000/usergrp:1", "127.0.0.1:5000/workdir:1", "127.0.0.1:5000/volume:1", "127.0.0.1:5000/rootuser:1", "127.0.0.1:5000/badgroup:1", "127.0.0.1:5000/none:1", "127.0.0.1:5000/mid:1")
        preloaded = image.startswith(("127.0.0.1:5000/user", "127.0.0.1:5000/num", "127.0.0.1:5000/nouser", "127.0.0.1:5000/work", "127.0.0.1:5000/vol", "127.0.0.1:5000/root", "127.0.0.1:5000/badg", "127.0.0.1:5000/mid"))
        words = ["report:ids,env,folder,root,args,status"] + (["tree:/data", "tree:/work"] if preloaded else []) + self.one(["exit:0"], ["stay:"])
        container = {"name": "c", "image": image, "args": words, **policy}
        if preloaded:
            container |= self.some(0.4, securityContext=[{"runAsUser": 1000}, {"runAsNonRoot": True}, {"runAsGroup": 3000}, {"runAsUser": 7777}, {"runAsUser": 1234, "runAsGroup": 1}])
        spec = {"restartPolicy": self.one("Never", "Always"), "containers": [container]}
        if preloaded and self.often(0.3):
            spec["securityContext"] = self.some(supplementalGroupsPolicy=["Strict", "Merge"], supplementalGroups=[[4000], None])
        if self.often(0.4) or "basic" in image or "token" in image:
            auth = {"auths": {self.one("127.0.0.1:5000", "127.0.0.1:5000", "https://127.0.0.1:5000/v1/", "other.test"): {"username": "bob", "password": self.one("right", "right", "wrong"), "auth": ""}}}
            import json
            name = self.one("pull", "pull", "pull", "nosuch")
            self.setup("secrets", "pull", {"type": "kubernetes.io/dockerconfigjson", "data": {".dockerconfigjson": encoded(json.dumps(auth))}})
            spec["imagePullSecrets"] = [{"name": name}]
        if self.often(0.15):
            spec["initContainers"] = [self.do(["exit:0"], "i")]
        self.pod(spec)
        if "flaky" in image:
            self.quiet += 4

    def resizes(self):
        def amounts(big):
            return {"cpu": self.one("20m", "50m", "100m"), "memory": self.one("24Mi", "32Mi")} if not big else {"cpu": self.one("60m", "200m", "1"), "memory": self.one("48Mi", "64Mi")}
        resources = self.one({"requests": amounts(False), "limits": amounts(True)}, {"requests": amounts(False)}, {"limits": amounts(True), "requests": {}}, {"limits": {"memory": "64Mi"}, "requests": {"cpu": "10m"}})
        policy = self.some(0.5, resizePolicy=[[{"resourceName": "cpu", "restartPolicy": "RestartContainer"}], [{"resourceName": "memory", "restartPolicy": "RestartContainer"}], [{"resourceName": "cpu", "restartPolicy": "NotRequired"}, {"resourceName": "memory", "restartPolicy": "NotRequired"}]])
        words = ["report:cgroup", "end:TERM=0", "stay:"]
        spec = {"restartPolicy": self.one("Always", "Never", "OnFailure"), "containers": [self.do(words, resources=resources, **policy), *([self.do(words, "d", resources=self.resources())] if self.often(0.3) else [])]}
        if self.often(0.25):
            spec["initContainers"] = [self.do(words, "i", restartPolicy="Always", resources={"requests": amounts(False), "limits": amounts(True)})]
        self.pod(spec)
        for _ in range(self.r.randint(1, 2)):
            new = {key: {name: self.one("30m", "70m", "1", "900") if name == "cpu" else self.one("40Mi", "56Mi", "90Mi", "1Mi", "900Gi") for name in value if self.often(0.7)} for key, value in resources.items()}
            self.step("PATCH", f"{POD}/resize", {"spec": {"containers": [{"name": "c", "resources": new}]}}, headers=MERGE)
        self.quiet += 2

    def debugs(self):
        """Ephemeral containers."""
        self.objects()
        spec = {"restartPolicy": self.one("Always", "Never"), "containers": [self.do(["http:8080", "end:TERM=0", *self.one(["stay:"], ["stay:"], ["exit:0"])], resources=self.resources())], "volumes": [{"name": "e", "emptyDir": {}}, {"name": "k", "configMap": {"name": "conf"}}], **self.some(0.3, shareProcessNamespace=[True], securityContext=[{"runAsUser": 1000}], hostNetwork=[None])}
        self.pod(spec)
        for at in range(self.one(1, 1, 2)):
            more = self.some(0.5, targetContainerName=["c", "c", "none"], securityContext=[{"privileged": True}, {"runAsUser": 7}, {"capabilities": {"add": ["SYS_PTRACE"]}}], env=[[{"name": "X", "value": "$(HOME)"}]], volumeMounts=[[{"name": "k", "mountPath": "/k"}]], image=[IMAGE, "127.0.0.1:5000/absent/{id}:1"], tty=[True], stdin=[True])
            words = ["report:env,ids,status,namespaces,processes,cgroup,mounts,terminal", *self.one(["exit:0"], ["exit:5"], ["stay:"])]
            body = {"spec": {"ephemeralContainers": [{"name": f"x{at}", "image": IMAGE, "args": words, **more}]}}
            self.step("PATCH", f"{POD}/ephemeralcontainers", body, headers=MERGE)
        if self.often(0.4):
            self.delete()

    def logs(self):
        parts = ["lines:30", "out:no end", "err:on stderr\\n", "out:a\\r\\nb\\rc\\n", "long:20000", "long:16384", "long:16385", "out:äöü 漢字\\n", "out:\\n\\n", "out:\\x00\\xff\\n", "err:partial", "out:one\\n", "sleep:300", "lines:5"]
        words = [*self.r.sample(parts, self.r.randint(1, 5)), *self.one(["exit:0"], ["exit:1"], ["stay:"])]
        container = self.do(words, **self.some(0.2, tty=[True]))
        self.pod({"restartPolicy": self.one("Never", "Never", "Always"), "containers": [container, *([self.do(["out:other\\n", "stay:"], "d")] if self.often(0.2) else [])]})
        for _ in range(self.r.randint(2, 5)):
            query = "&".join(self.r.sample(["tailLines=3", "tailLines=0", "tailLines=1", "limitBytes=10", "limitBytes=1", "limitBytes=20000", "timestamps=true", "previous=true", "sinceSeconds=1000", "sinceTime=2020-01-01T00:00:00Z", "sinceTime=2090-01-01T00:00:00Z", "container=c", "container=none", "stream=Stdout&container=c", "stream=Stderr&container=c", "tailLines=-1", "limitBytes=0", "sinceSeconds=0", "sinceSeconds=1&sinceTime=2020-01-01T00:00:00Z", "follow=false", "insecureSkipTLSVerifyBackend=true"], self.one(1, 2, 2, 3)))
            self.step("GET", f"{POD}/log?{query}", now=True, compared=True)
        self.quiet += 1

    def refused(self):
        """What a node does not run, or runs not at once."""
        base = {"containers": [self.do(["http:8080", "end:TERM=0", "stay:"])]}
        kind = self.r.randrange(16)
        spec = dict(base)
        c = spec["containers"][0]
        if kind == 0:
            spec["nodeSelector"] = {"none": "x"}
        elif kind == 1:
            c["resources"] = {"requests": self.one({"cpu": "900"}, {"memory": "9000Gi"}, {"ephemeral-storage": "9000Gi"}, {"cpu": "900", "memory": "9000Gi"})}
        elif kind == 2:
            c["resources"] = {"limits": {"example.org/none": "1"}}
        elif kind == 3:
            c["command"] = self.one(["/none"], ["none"], ["/etc"], ["/etc/passwd"], [""])
        elif kind == 4:
            spec["securityContext"] = {"sysctls": [{"name": self.one("kernel.msgmax", "net.core.somaxconn", "vm.swappiness", "net/ipv4/ip_local_port_range"), "value": "1"}]}
        elif kind == 5:
            spec["os"] = {"name": "windows"}
        elif kind == 6:
            spec["runtimeClassName"] = "none"
        elif kind == 7:
            spec["serviceAccountName"] = "default"
            spec["automountServiceAccountToken"] = True
            spec["securityContext"] = {"runAsNonRoot": True}
        elif kind == 8:
            spec["volumes"] = [{"name": "n", "persistentVolumeClaim": {"claimName": "none"}}]
        elif kind == 9:
            spec["hostUsers"] = False
            c["args"] = ["report:ids,mounts,namespaces,status", "stay:"]
        elif kind == 10:
            spec["affinity"] = {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [{"matchExpressions": [{"key": "kubernetes.io/os", "operator": self.one("In", "NotIn"), "values": ["linux"]}]}]}}}
        elif kind == 11:
            c["securityContext"] = {"seccompProfile": {"type": "Localhost", "localhostProfile": "none.json"}}
        elif kind == 12:
            c["args"] = ["use:80", "stay:"]
            c["resources"] = {"limits": {"memory": "40Mi"}}
            spec["restartPolicy"] = self.one("Never", "Always")
        elif kind == 13:
            spec["volumes"] = [{"name": "n", self.one("nfs", "csi", "ephemeral"): {}}]
            source = self.one({"nfs": {"server": "198.51.100.99", "path": "/"}}, {"csi": {"driver": "none.example.org"}}, {"emptyDir": {"medium": "HugePages"}})
            spec["volumes"] = [{"name": "n", **source}]
            c["volumeMounts"] = [{"name": "n", "mountPath": "/n"}]
        elif kind == 14:
            spec["schedulingGates"] = [{"name": "x"}]
            spec["nodeName"] = NONE
        else:
            c["ports"] = [{"containerPort": 8080, "hostPort": self.one(18080, 10250), "hostIP": self.one("", "127.0.0.1")}]
            spec["hostNetwork"] = self.one(True, False)
            if spec["hostNetwork"]:
                c["ports"][0].update(containerPort=10250, hostPort=10250)
                c["args"] = ["stay:"]
        self.pod(spec)
        if self.often(0.4):
            self.delete()

    def static(self):
        spec = {"terminationGracePeriodSeconds": 1, "restartPolicy": self.one("Always", "Always", "OnFailure", "Never"), "containers": [self.do(["report:env,ids", "end:TERM=0", *self.one(["stay:"], ["exit:0"], ["exit:1"])], **self.some(0.3, resources=[{"limits": {"cpu": "50m"}}], livenessProbe=[{"exec": {"command": ["/tell", "exit:1"]}, "periodSeconds": 1, "failureThreshold": 1}], image=["127.0.0.1:5000/absent/{id}:1"]))], **self.some(0.3, hostNetwork=[True], nodeSelector=[{"none": "x"}], priorityClassName=["system-node-critical"], serviceAccountName=["x"], volumes=[[{"name": "n", "configMap": {"name": "n"}}]])}
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "s-{id}", "namespace": "{ns}", **self.some(0.4, labels=[{"a": "b"}], annotations=[{"x": "y"}], uid=["given"])}, "spec": spec}
        self.step("FILE", "{id}.json", pod)
        kind = self.r.random()
        if kind < 0.25:
            self.step("DELETE", f"{CORE}/pods/s-{{id}}-node", {})
        elif kind < 0.5:
            changed = {**pod, "spec": {**spec, "containers": [{**spec["containers"][0], "args": ["report:ids", "out:changed\\n", "stay:"]}]}}
            self.step("FILE", "{id}.json", changed)
        elif kind < 0.6:
            self.step("FILE", "{id}.json", "{not a pod")
        elif kind < 0.7:
            self.step("PATCH", f"{CORE}/pods/s-{{id}}-node", {"metadata": {"labels": {"new": "x"}}}, headers=MERGE)
        self.step("FILE", "{id}.json", None)
        self.quiet += 6

    def restarts(self):
        """The kubelet is started again under a running pod."""
        family = self.one(Script.ends, Script.probes, Script.volumes, Script.resizes, Script.debugs, Script.sees, Script.images)
        family(self)
        at = next((number for number, step in enumerate(self.steps) if step["path"].endswith("/pods")), 0) + 1
        del self.steps[at:]
        self.step("RESTART", "")
        if self.often(0.5):
            self.delete()

    def changes(self):
        """Fields of a pod that may change while it runs."""
        self.objects()
        volumes = [{"name": "d", "downwardAPI": {"items": [{"path": "l", "fieldRef": {"fieldPath": "metadata.labels"}}]}}]
        self.pod({"restartPolicy": self.one("Always", "Never"), "volumes": volumes, "containers": [self.do(["http:8080", "end:TERM=0", "stay:"], volumeMounts=[{"name": "d", "mountPath": "/d"}])]})
        for _ in range(self.r.randint(1, 2)):
            body = self.one({"spec": {"containers": [{"name": "c", "image": self.one("127.0.0.1:5000/both:1", "127.0.0.1:5000/absent/{id}:1", "127.0.0.1:5000/user:1")}]}}, {"spec": {"activeDeadlineSeconds": self.one(1, 1000)}}, {"metadata": {"labels": {"new": "x"}, "annotations": {"other": "y"}}}, {"spec": {"terminationGracePeriodSeconds": 1}}, {"spec": {"tolerations": [{"key": "x", "operator": "Exists"}]}})
            self.step("PATCH", POD, body, headers=MERGE)
        self.quiet += 1
        if self.often(0.3):
            self.delete()


FAMILIES = [(Script.sees, 10), (Script.variables, 7), (Script.volumes, 10), (Script.ends, 11), (Script.probes, 10), (Script.stops, 9), (Script.images, 10), (Script.resizes, 5), (Script.debugs, 4), (Script.logs, 6), (Script.refused, 7), (Script.static, 3),
            (Script.restarts, 3), (Script.changes, 4)]


def script(seed):
    made = Script(seed)
    family = made.r.choices([part for part, _ in FAMILIES], [weight for _, weight in FAMILIES])[0]
    family(made)
    made.steps[0].update(family=family.__name__, quiet=made.quiet)
    return made.steps
