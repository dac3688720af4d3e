#!/usr/bin/env python3
"""Upstream's kubelet with containerd, kube-proxy and CoreDNS on skiff's server: the node joins by `kubeadm join`: its token, and a certificate that
the cluster signs (TLS bootstrap). Its pods run, are asked, are probed, find each other by name, and go."""
import argparse, base64, json, os, subprocess, sys

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [os.path.join(HERE, name) for name in ("../conformance", "../operators", "../../packaging")]
import cluster, oci
import https_pod, kubeadm, world

IMAGE = https_pod.IMAGE
PROXY = """
apiVersion: kubeproxy.config.k8s.io/v1alpha1
kind: KubeProxyConfiguration
mode: nftables
clientConnection: {{kubeconfig: {folder}/kube-proxy.conf}}
clusterCIDR: 10.244.0.0/16
hostnameOverride: {name}
conntrack: {{maxPerCore: 0, min: 0, tcpEstablishedTimeout: 0s, tcpCloseWaitTimeout: 0s}}
"""
# root without CAP_SYS_RESOURCE may not lower oom_score_adj, and runc fails on it
CONTAINERD = """
version = 3
root = "{folder}/containerd"
state = "/run/containerd"
[grpc]
address = "/run/containerd/containerd.sock"
[plugins."io.containerd.cri.v1.images".pinned_images]
sandbox = "registry.k8s.io/pause:3.10.2"
[plugins."io.containerd.cri.v1.runtime"]
restrict_oom_score_adj = true
[plugins."io.containerd.cri.v1.runtime".cni]
bin_dirs = ["{programs}/cni"]
conf_dir = "{folder}/net.d"
[plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"
[plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc.options]
BinaryName = "{programs}/runc"
SystemdCgroup = false
"""
NETWORK = """
{{"cniVersion": "1.0.0", "name": "pods", "plugins": [
 {{"type": "bridge", "bridge": "cni0", "isGateway": true, "ipMasq": true, "ipMasqBackend": "nftables", "hairpinMode": true,
  "ipam": {{"type": "host-local", "ranges": [[{{"subnet": "{pods}"}}]], "routes": [{{"dst": "0.0.0.0/0"}}]}}}},
 {{"type": "portmap", "capabilities": {{"portMappings": true}}, "backend": "nftables"}}]}}
"""


class Node(kubeadm.Machine):
    def begin(self, archives):
        """The runtime and its images, kube-proxy, and then the kubelet joins."""
        seen, tls = self.seen, os.path.join(self.machines.folder, "data/server/tls")
        seen.kubectl("create", "serviceaccount", "kube-proxy", "-n", "kube-system")
        seen.kubectl("create", "clusterrolebinding", "kube-proxy", "--clusterrole=system:node-proxier", "--serviceaccount=kube-system:kube-proxy")
        with open(os.path.join(tls, "server-ca.crt"), "rb") as f:
            authority = base64.b64encode(f.read()).decode()
        user = {"token": seen.kubectl("create", "token", "kube-proxy", "-n", "kube-system").strip()}
        self.write("kube-proxy.conf", json.dumps({
            "apiVersion": "v1", "kind": "Config", "current-context": "c", "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
            "clusters": [{"name": "c", "cluster": {"server": f"https://{cluster.ADDRESS}:6443", "certificate-authority-data": authority}}],
            "users": [{"name": "u", "user": user}]}))
        values = {"folder": self.folder, "programs": self.machines.programs, "name": "node2", "pods": "10.244.77.0/24"}
        for name, text in (("kube-proxy.yaml", PROXY), ("containerd.toml", CONTAINERD)):
            self.write(name, text.format(**values))
        os.makedirs(os.path.join(self.folder, "net.d"))
        self.write("net.d/10-bridge.conflist", NETWORK.format(**values))
        self.start("containerd", "containerd", "-c", os.path.join(self.folder, "containerd.toml"))
        self.wait_for("containerd answers", "ctr", "version")
        for path in archives:
            self.inside("ctr", "-n", "k8s.io", "images", "import", path)
        self.start("kube-proxy", "kube-proxy", f"--config={self.folder}/kube-proxy.yaml")
        # kubeadm takes the authority of servers for that of clients too, unless there is a file; skiff has one for each, as k3s
        self.inside("install", "-D", "-m", "644", os.path.join(tls, "client-ca.crt"), "/etc/kubernetes/pki/ca.crt")
        self.join("unix:///run/containerd/containerd.sock", "kubelet")


def pods(text, replicas):
    template = {"metadata": {"labels": {"app": "web"}}, "spec": {
        "nodeName": "node2", "terminationGracePeriodSeconds": 1,
        "volumes": [{"name": "told", "configMap": {"name": "told"}}, {"name": "kept", "emptyDir": {"medium": "Memory"}}],
        "containers": [{"name": "main", "image": IMAGE, "command": ["sh", "-c", "cp /told/index.html /kept; echo serving; exec httpd -f -p 8080 -h /kept"],
                        "volumeMounts": [{"name": "told", "mountPath": "/told"}, {"name": "kept", "mountPath": "/kept"}],
                        "resources": {"requests": {"cpu": "10m", "memory": "16Mi"}, "limits": {"memory": "64Mi"}},
                        "readinessProbe": {"httpGet": {"path": "/", "port": 8080}, "periodSeconds": 1}}]}}
    items = [
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "told"}, "data": {"index.html": text}},
        {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"},
         "spec": {"replicas": replicas, "selector": {"matchLabels": {"app": "web"}}, "template": template}},
        {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "web"},
         "spec": {"type": "NodePort", "selector": {"app": "web"}, "ports": [{"port": 80, "targetPort": 8080, "nodePort": 30080}]}},
    ]
    return json.dumps({"apiVersion": "v1", "kind": "List", "items": items})


def play(machines, seen, archives):
    node = Node(machines, seen)
    node.begin(archives)
    seen.until("the node is there", lambda: seen.get("node", "node2"))
    seen.wait("condition=Ready", "node/node2", seconds=90)
    requests = seen.get("csr")["items"]
    seen.same("who signed the node's certificate", {r["spec"]["signerName"] for r in requests if r["status"].get("certificate")},
              {"kubernetes.io/kube-apiserver-client-kubelet"})
    seen.step("upstream's kubelet joined by kubeadm's token, and is Ready")
    node.approve_serving()
    seen.apply(pods("upstream's node\n", 2))
    seen.kubectl("rollout", "status", "deployment/web", "--timeout=120s")
    pod = seen.get("pods", "-l", "app=web")["items"][0]
    name = pod["metadata"]["name"]
    seen.same("the log", seen.until("the log is read", lambda: seen.kubectl("logs", name), 60).strip(), "serving")
    seen.same("exec", seen.kubectl("exec", name, "--", "cat", "/told/index.html"), "upstream's node\n")
    seen.same("its page", seen.kubectl("get", "--raw", f"/api/v1/nodes/node2/proxy/healthz"), "ok")
    seen.step("pods run, are probed; log and exec")
    for url in (f"http://{seen.get('service', 'web')['spec']['clusterIP']}/", f"http://{node.address}:30080/"):
        seen.until(f"{url} is answered on the node", lambda: fetched(node, url) == "upstream's node\n", 30)
    seen.step("upstream's kube-proxy follows Services and slices of ours")
    seen.apply(kubeadm.addon(node))
    seen.kubectl("patch", "deployment", "coredns", "-n", "kube-system", "-p", json.dumps({"spec": {"replicas": 1, "template": {"spec": {"nodeName": "node2"}}}}))
    seen.kubectl("rollout", "status", "deployment/coredns", "-n", "kube-system", "--timeout=120s")
    fetch = "import urllib.request as u; print(u.urlopen('http://web.default.svc.cluster.local/', timeout=10).read().decode(), end='')"
    seen.until("the Service's name leads to it", lambda: seen.kubectl("exec", name, "--", "/usr/bin/python3.11", "-c", fetch) == "upstream's node\n", 60)
    seen.step("CoreDNS answers names of the cluster")
    seen.kubectl("delete", "deployment", "coredns", "-n", "kube-system")
    seen.kubectl("scale", "deployment/web", "--replicas=0")
    seen.until("the pods are gone", lambda: not seen.get("pods", "-l", "app=web")["items"])
    seen.kubectl("drain", "node2", "--ignore-daemonsets", "--delete-emptydir-data", "--timeout=60s")
    seen.kubectl("delete", "node", "node2")
    seen.step("the pods go, the node is drained and deleted")
    refused = [line for line in open(os.path.join(machines.log, "kubelet.log"), errors="replace") if "forbidden" in line and "node2" not in line]
    if refused:
        raise cluster.Failed(f"upstream's kubelet may not do what it must: {refused[0][:300]}")


def fetched(node, url):
    return subprocess.run(node.guest("curl", "-sS", "-m", "2", url), capture_output=True, text=True).stdout


def archives(args):
    """Those of the pods, and those of upstream's own."""
    own = os.path.join(args.out, "upstream-node.tar")
    with open(os.path.join(args.programs, "versions", "coredns")) as f:
        version = f.read().split()[-1]
    with oci.Archive(own) as images:
        for name, program in (("pause:3.10.2", "pause"), (f"coredns/coredns:v{version}", "coredns")):
            layer = oci.Layer().file(program, os.path.join(args.programs, program), 0o755)
            images.image([f"registry.k8s.io/{name}"], [layer], {"Entrypoint": [f"/{program}"]})
    return [https_pod.archive(args), own]


def main():
    args = world.arguments(argparse.ArgumentParser(description=__doc__))
    world.prepare(args.out)
    # the cluster's names are CoreDNS's here
    # and kubeadm asks for the cluster's signed address without credentials
    os.environ["SKIFF_FLAGS"] = "--disable coredns --kube-apiserver-arg anonymous-auth=true"
    images = archives(args)
    try:
        with world.started(kubeadm.Mixed, args, images[0], nodes=2) as (machines, seen):
            play(machines, seen, images)
    except cluster.Failed as error:
        sys.exit(f"failed: {error}")
    print("passed", flush=True)


if __name__ == "__main__":
    main()
