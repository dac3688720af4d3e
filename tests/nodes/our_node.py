#!/usr/bin/env python3
"""skiff's kubelet with its runtime, its kube-proxy and its DNS in upstream's own cluster: the node joins by `kubeadm join`, has its certificates signed
by upstream's controllers, and runs pods beside upstream's node."""
import argparse, json, os, subprocess, sys

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [os.path.join(HERE, name) for name in ("../conformance", "../operators", "../../packaging")]
import cluster
import behind_nat, https_pod, kubeadm, world

FETCH = "import sys, urllib.request as u; print(u.urlopen(sys.argv[1], timeout=10).read().decode(), end='')"


class Node(kubeadm.Machine):
    def begin(self, skiff, pods, archive):
        data = os.path.join(self.folder, "data")
        socket = "/run/skiff-cri.sock"
        images = os.path.join(data, "agent/images")
        os.makedirs(images)
        cluster.link_or_copy(archive, os.path.join(images, os.path.basename(archive)))
        cluster.link_or_copy(skiff, os.path.join(self.folder, "skiff"), link=False)
        self.skiff = os.path.join(self.folder, "skiff")
        self.start("runtime", self.skiff, "container-runtime", "--data-dir", data, "--listen", socket, "--pod-cidr", pods)
        self.wait_for("the runtime listens", "test", "-S", socket)
        # what kubeadm makes for upstream's kube-proxy
        self.kubeconfig = os.path.join(self.machines.folder, "kube-proxy.conf")
        self.start("kube-proxy", self.skiff, "kube-proxy", "--kubeconfig", self.kubeconfig, "--hostname-override", "node2", "--cluster-cidr", cluster.PODS)
        self.join(f"unix://{socket}", self.skiff, "kubelet")


def route(machines, node, ours, theirs):
    """The way between the nodes' pods, which a CNI plugin's daemon makes elsewhere."""
    machines.run(cluster.script("namespaces.sh", "as-guest", machines.folder, "ip", "route", "add", ours, "via", node.address))
    node.inside("ip", "route", "add", theirs, "via", cluster.ADDRESS)


def play(machines, seen, args, archive):
    theirs = seen.get("node", "node")["spec"]["podCIDR"]
    ours = "10.244.77.0/24"
    node = Node(machines, seen)
    node.begin(args.skiff, ours, archive)
    route(machines, node, ours, theirs)
    seen.until("the node is there", lambda: seen.get("node", "node2"), 60)
    seen.wait("condition=Ready", "node/node2", seconds=90)
    version = seen.get("node", "node2")["status"]["nodeInfo"]
    if not version["containerRuntimeVersion"].startswith("skiff://"):
        raise cluster.Failed(f"another node than ours: {version}")
    requests = [r for r in seen.get("csr")["items"] if r["spec"]["signerName"] == "kubernetes.io/kube-apiserver-client-kubelet"]
    seen.same("who asked for the node's certificate", [r["spec"]["username"].split(":")[:2] for r in requests], [["system", "bootstrap"]])
    node.approve_serving()
    seen.step("our kubelet joined by kubeadm's token, and is Ready")

    pods = [https_pod.pod(f"web-{name}", name, https_pod.page(name)) for name in ("node", "node2")]
    pods[1]["spec"]["containers"][0]["readinessProbe"] = {"httpGet": {"path": "/", "port": 8080}, "periodSeconds": 1}
    services = [https_pod.service(f"web-{name}", 80, 8080) for name in ("node", "node2")]
    services[0]["spec"].update(type="NodePort")
    services[0]["spec"]["ports"][0]["nodePort"] = 30080
    seen.apply(https_pod.items(*pods, *services))
    seen.wait("condition=Ready", "pods", "--all", seconds=120)
    seen.same("the log", seen.kubectl("logs", "web-node2").strip(), "serving")
    seen.same("exec", seen.kubectl("exec", "web-node2", "--", "cat", "/tmp/index.html").strip(), "node2")
    seen.same("port-forward", behind_nat.forwarded(seen, "web-node2"), "node2")
    shown = subprocess.run(node.guest("sh", "-c", f"openssl s_client -connect {node.address}:10250 </dev/null 2>/dev/null | openssl x509 -noout -issuer -subject"),
                           capture_output=True, text=True).stdout
    if "CN = kubernetes" not in shown or "system:node:node2" not in shown:
        raise cluster.Failed(f"the kubelet shows another certificate than the one that was signed: {shown!r}")
    seen.step("pods run, are probed; log, exec, port-forward, over a certificate that upstream signed")

    address = seen.get("service", "web-node")["spec"]["clusterIP"]
    for url in (f"http://{address}/", f"http://{node.address}:30080/"):
        def answered(url=url):
            return subprocess.run(node.guest("curl", "-sS", "-m", "2", url), capture_output=True, text=True).stdout.strip() == "node"
        seen.until(f"{url} is answered on our node", answered, 30)
    for asker, asked in (("node", "node2"), ("node2", "node")):
        fetched(seen, asker, f"web-{asked}.default.svc.cluster.local", asked)
    seen.step("our kube-proxy leads to upstream's pods, and upstream's to ours; CoreDNS answers our pods")

    node.start("dns", node.skiff, "dns", "--kubeconfig", os.path.join(machines.folder, "admin.conf"), "--listen", f"{node.address}:53",
               "--resolv-conf", os.path.join(node.folder, "resolv.conf"), "--metrics-bind-address", "")
    seen.kubectl("scale", "deployment/coredns", "-n", "kube-system", "--replicas=0")
    seen.until("CoreDNS is gone", lambda: not seen.get("pods", "-n", "kube-system", "-l", "k8s-app=kube-dns")["items"], 60)
    seen.apply(json.dumps({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
        "metadata": {"name": "our-dns", "namespace": "kube-system", "labels": {"kubernetes.io/service-name": "kube-dns"}},
        "endpoints": [{"addresses": [node.address], "conditions": {"ready": True}}],
        "ports": [{"name": "dns", "port": 53, "protocol": "UDP"}, {"name": "dns-tcp", "port": 53, "protocol": "TCP"}]}))
    for asker, asked in (("node", "node2"), ("node2", "node")):
        fetched(seen, asker, f"web-{asked}", asked)
    seen.step("our DNS in place of CoreDNS answers the pods of both nodes")

    seen.kubectl("delete", "pods", "--all", "--timeout=60s")
    seen.kubectl("drain", "node2", "--ignore-daemonsets", "--timeout=60s")
    seen.kubectl("delete", "node", "node2")
    seen.step("the pods go, the node is drained and deleted")
    with open(os.path.join(machines.log, "kubelet.log"), errors="replace") as log:
        refused = [line for line in log if "forbidden" in line]
    if refused:
        raise cluster.Failed(f"our kubelet asks for what it may not have: {refused[0][:300]}")


def fetched(seen, asker, host, wanted):
    ask = lambda: seen.kubectl("exec", f"web-{asker}", "--", "/usr/bin/python3.11", "-c", FETCH, f"http://{host}/").strip() == wanted
    seen.until(f"http://{host}/ is answered in a pod of {asker}", ask, 60)


def main():
    args = world.arguments(argparse.ArgumentParser(description=__doc__))
    world.prepare(args.out)
    skiff, args.skiff = args.skiff, None
    archive = https_pod.archive(args)
    try:
        with world.started(kubeadm.Mixed, args, archive, nodes=2) as (machines, seen):
            args.skiff = skiff
            play(machines, seen, args, archive)
    except cluster.Failed as error:
        sys.exit(f"failed: {error}")
    print("passed", flush=True)


if __name__ == "__main__":
    main()
