#!/usr/bin/env python3
"""Three agents behind a router that hides them: they can connect to the server, and nobody to them. Asks the API server for all that
it connects to nodes and pods for, while the tunnels are open and after they were cut."""
import argparse, json, os, sys

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [os.path.join(HERE, name) for name in ("../conformance", "../operators", "../../packaging")]
import cluster
import https_pod, node, world

ROUTER, INSIDE = "198.51.100.1", "192.168.77.1"
# no to a ConfigMap called `no`
JUDGE = """
def answer(path, asked, certificate):
    request = asked["request"]
    response = {"uid": request["uid"], "allowed": request["name"] != "no", "status": {"message": "not this one"}}
    return 200, {"apiVersion": asked["apiVersion"], "kind": asked["kind"], "response": response}
"""


class Hidden(cluster.Cluster):
    """Agents on a link of their own, with addresses that mean nothing elsewhere; what they send goes out under the router's."""

    def wired(self):
        self.agents = {name: (folder, f"192.168.77.{n}") for n, (name, (folder, _)) in enumerate(self.agents.items(), 11)}
        with open(os.path.join(self.folder, "switch.pid")) as f:
            switch = f.read().strip()
        ports = "\n".join(f"ip link set port{n} master behind" for n in range(1, len(self.agents) + 1))
        self.run(["nsenter", "--target", switch, "--net", "--", "sh", "-ec", f"""
            ip link add behind type bridge
            {ports}
            ip link set behind up
            ip link set lo up
            ip addr add {INSIDE}/24 dev behind
            ip addr add {ROUTER}/24 dev switch
            sysctl -qw net.ipv4.ip_forward=1
            nft -f - <<'RULES'
            table ip router {{
                chain forward {{
                    type filter hook forward priority filter; policy drop;
                    ct state established,related accept
                    iifname "behind" accept
                }}
                chain out {{
                    type nat hook postrouting priority srcnat;
                    oifname "switch" masquerade
                }}
            }}
RULES"""])
        for folder, address in self.agents.values():
            self.run(cluster.script("namespaces.sh", "as-guest", folder, "sh", "-ec", f"""
                ip addr flush dev node0
                ip addr add {address}/24 dev node0
                ip route replace default via {INSIDE}"""))


def webhook(on, folder):
    objects, bundle = https_pod.server("judge", on, folder, JUDGE)
    configuration = {
        "apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingWebhookConfiguration", "metadata": {"name": "judge"},
        "webhooks": [{"name": "judge.nodes.test", "sideEffects": "None", "admissionReviewVersions": ["v1"], "failurePolicy": "Fail",
                      "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "default"}},
                      "rules": [{"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["configmaps"]}],
                      "clientConfig": {"caBundle": bundle,
                                       "service": {"namespace": "default", "name": "judge", "port": 443}}}],
    }
    return objects, json.dumps(configuration)


def forwarded(seen, name):
    """What a pod answers through `kubectl port-forward`, as somebody on the server has it."""
    asked = seen.run("sh", "-c", f"""
        kubectl port-forward pod/{name} 18080:8080 >/dev/null & forward=$!
        for i in $(seq 100); do answer=$(curl -s http://127.0.0.1:18080/) && break; sleep 0.1; done
        kill $forward; echo "$answer" """)
    return asked.stdout.strip()


def ask_everything(seen, agents):
    for name in agents:
        web = f"web-{name}"
        seen.same(f"{web}'s log", seen.kubectl("logs", web).strip(), "serving")
        seen.same("exec", seen.kubectl("exec", web, "--", "cat", "/tmp/index.html").strip(), name)
        seen.same("exec with input", seen.run("kubectl", "exec", "-i", web, "--", "sed", "s/a/b/", text="a\n").stdout, "b\n")
        seen.same("port-forward", forwarded(seen, web), name)
        seen.same("the pod's page", seen.kubectl("get", "--raw", f"/api/v1/namespaces/default/pods/{web}:8080/proxy/").strip(), name)
        seen.same("the Service's page", seen.kubectl("get", "--raw", f"/api/v1/namespaces/default/services/{web}:80/proxy/").strip(), name)
        metrics = seen.kubectl("get", "--raw", f"/api/v1/nodes/{name}/proxy/metrics")
        if "kubelet_running_pods" not in metrics:
            raise cluster.Failed(f"no metrics of the kubelet of {name}: {metrics[:200]}")
        pods = json.loads(seen.kubectl("get", "--raw", f"/api/v1/nodes/{name}/proxy/pods"))["items"]
        if web not in [one["metadata"]["name"] for one in pods]:
            raise cluster.Failed(f"{name}'s kubelet does not know {web}")
        seen.step(f"{name}: log, exec, port-forward, metrics, pages of its pod and its Service")
    large = seen.kubectl("exec", f"web-{agents[0]}", "--", "sh", "-c", "head -c 20000000 /dev/zero | tr '\\0' x")
    seen.same("bytes of a long output", len(large), 20_000_000)
    refused = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "no"}}
    seen.refused(json.dumps(refused), 'admission webhook "judge.nodes.test" denied the request: not this one')
    seen.apply(json.dumps({**refused, "metadata": {"name": "yes"}}))
    seen.kubectl("delete", "configmap", "yes")
    seen.step("a webhook in a pod of an agent is asked")
    for asker in agents:
        for asked in agents:
            fetch = f"import urllib.request as u; print(u.urlopen('http://web-{asked}.default/', timeout=10).read().decode())"
            answer = seen.kubectl("exec", f"web-{asker}", "--", "/usr/bin/python3.11", "-c", fetch)
            seen.same(f"{asked}'s Service, asked on {asker}", answer.strip(), asked)
    seen.step("each agent's pods reach the Services of the others")


def play(machines, seen):
    nodes = {name: node.Node(machines, name, port) for port, name in enumerate(machines.agents, 1)}
    agents = list(nodes)
    if seen.run("curl", "-sk", "-m", "3", f"https://{machines.agents[agents[0]][1]}:10250/").returncode == 0:
        raise cluster.Failed("the router lets the server in")
    pods = [https_pod.pod(f"web-{name}", name, https_pod.page(name)) for name in agents]
    services = [https_pod.service(f"web-{name}", 80, 8080) for name in agents]
    objects, configuration = webhook(agents[1], seen.folder)
    seen.apply(https_pod.items(*pods, *services))
    seen.apply(objects)
    seen.wait("condition=Ready", "pods", "--all", seconds=120)
    seen.apply(configuration)
    seen.step("three agents that nobody can connect to, and pods on each")
    ask_everything(seen, agents)
    # each tunnel ends, and another is opened
    for name in agents:
        nodes[name].kill_skiff()
        nodes[name].start()
    answering(seen, agents)
    ask_everything(seen, agents)
    server = node.Node(machines, "skiff", 0)
    server.kill_skiff()
    server.start()
    answering(seen, agents)
    ask_everything(seen, agents)
    seen.step("all is as before after agents and server were started again")


def answering(seen, agents):
    for name in agents:
        seen.until(f"the kubelet of {name} answers", lambda: seen.kubectl("get", "--raw", f"/api/v1/nodes/{name}/proxy/healthz") == "ok", 60)
        seen.until(f"web-{name} answers", lambda: seen.kubectl("logs", f"web-{name}").strip() == "serving", 60)


def main():
    args = world.arguments(argparse.ArgumentParser(description=__doc__))
    world.prepare(args.out)
    try:
        with world.started(Hidden, args, https_pod.archive(args), nodes=4) as (machines, seen):
            play(machines, seen)
    except cluster.Failed as error:
        sys.exit(f"failed: {error}")
    print("passed", flush=True)


if __name__ == "__main__":
    main()
