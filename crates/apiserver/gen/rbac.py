"""Writes data/rbac.json: the default roles and bindings that a fresh upstream API server makes.

Usage: KUBECONFIG=... python3 gen/rbac.py > data/rbac.json   (kubectl on the path, the server just started)
"""
import json
import subprocess

KINDS = ["clusterroles", "clusterrolebindings", "roles", "rolebindings"]
out = []
for kind in KINDS:
    text = subprocess.check_output(
        ["kubectl", "get", kind, "-A", "-l", "kubernetes.io/bootstrapping=rbac-defaults", "-o", "json"])
    for item in json.loads(text)["items"]:
        meta = item["metadata"]
        keep = {k: meta[k] for k in ("name", "namespace", "labels", "annotations") if k in meta}
        item["metadata"] = keep
        if item.get("aggregationRule"):
            item["rules"] = []
        out.append(item)
out.sort(key=lambda i: (KINDS.index(i["kind"].lower() + "s"), i["metadata"].get("namespace", ""), i["metadata"]["name"]))
print("[\n" + ",\n".join(json.dumps(i, sort_keys=True, separators=(",", ":")) for i in out) + "\n]")
