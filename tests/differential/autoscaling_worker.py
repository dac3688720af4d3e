"""The worker of the autoscaling rig: plays scripts as kubelet.py does, and serves metrics.k8s.io, custom.metrics.k8s.io and external.metrics.k8s.io.

What it says is in the ConfigMap `metrics` of a namespace: `cpu` and `memory` of each container, `pods` of each pod, `object` and `external` (several
values, by spaces); `missing` so many pods have none; `code` is a status without a body, `status` a message of a Status, `empty` a list of nothing.
"""
import http.server
import json
import re
import time
from urllib.parse import parse_qs, unquote, urlsplit

import kubelet
from https import pair, serve

PORT = 8443
BEGIN = time.monotonic()
VERSIONS = {"metrics.k8s.io": "v1beta1", "custom.metrics.k8s.io": "v1beta2", "external.metrics.k8s.io": "v1beta1"}
# each is looked at every second
kubelet.QUIET = 4.5
kubelet.WATCHED["/apis/autoscaling/v2"] = ["horizontalpodautoscalers"]
kubelet.GROUP["horizontalpodautoscalers"] = "/apis/autoscaling/v2"


def handler(cluster):
    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self):
            url = urlsplit(self.path)
            code, body = answer(cluster, unquote(url.path), {key: values[0] for key, values in parse_qs(url.query).items()})
            text = (json.dumps(body) if isinstance(body, dict) else body).encode()
            self.send_response(code)
            self.send_header("Content-Type", "application/json" if isinstance(body, dict) else "text/plain")
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        def log_message(self, *_):
            pass
    return Handler


def answer(cluster, path, query):
    found = re.fullmatch(r"/apis/([\w.]+)/(v\w+)(?:/namespaces/([^/]+)/(.*))?", path)
    if not found or VERSIONS.get(found[1]) != found[2]:
        return 404, "404 page not found\n"
    group, version, namespace, rest = found.groups()
    if not namespace:
        resources = [{"name": "pods", "singularName": "", "namespaced": True, "kind": "PodMetrics", "verbs": ["get", "list"]}] if group == "metrics.k8s.io" else []
        return 200, {"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": f"{group}/{version}", "resources": resources}
    config = cluster.get("configmaps", namespace, "metrics")
    says = (config or {}).get("data") or {}
    if "code" in says:
        return int(says["code"]), f"the code {says['code']}\n"
    if "status" in says:
        return 422, {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "message": says["status"], "reason": "Invalid", "code": 422}
    at = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    pods = [] if "empty" in says else chosen(cluster, namespace, query.get("labelSelector", ""))[int(says.get("missing", 0)):]
    if group == "metrics.k8s.io":
        # what has no window is never too young
        items = [{"metadata": {"name": pod["metadata"]["name"], "namespace": namespace}, "timestamp": at, "window": "0s",
                  "containers": [{"name": one["name"], "usage": {name: says[name] for name in ("cpu", "memory") if name in says}} for one in pod["spec"]["containers"]]} for pod in pods]
        return 200, {"kind": "PodMetricsList", "apiVersion": f"{group}/{version}", "metadata": {}, "items": items}
    if group == "external.metrics.k8s.io":
        values = [] if "empty" in says else says.get("external", "").split()
        items = [{"metricName": rest, "metricLabels": {}, "timestamp": at, "value": value} for value in values]
        return 200, {"kind": "ExternalMetricValueList", "apiVersion": f"{group}/{version}", "metadata": {}, "items": items}
    resource, name, metric = ("namespaces", namespace, rest.split("/")[1]) if rest.startswith("metrics/") else rest.split("/")
    of = [pod["metadata"]["name"] for pod in pods] if name == "*" else [] if "empty" in says else [name]
    value = says.get("pods" if name == "*" else "object")
    items = [{"describedObject": {"kind": "Pod" if name == "*" else "Thing", "namespace": namespace, "name": one, "apiVersion": "v1"}, "metric": {"name": metric, "selector": None}, "timestamp": at, "windowSeconds": 0, "value": value} for one in of if value]
    return 200, {"kind": "MetricValueList", "apiVersion": f"{group}/{version}", "metadata": {}, "items": items}


def chosen(cluster, namespace, selector):
    """The pods of a namespace with these labels that run."""
    labels = dict(part.split("=") for part in selector.split(",") if part)
    with cluster.lock:
        pods = [one for (resource, ns, _), one in cluster.objects.items() if resource == "pods" and ns == namespace]
    return kubelet.in_turn([pod for pod in pods if labels.items() <= (pod["metadata"].get("labels") or {}).items() and pod["status"].get("phase") == "Running"])


def later(play):
    """Upstream's controllers learn of new kinds twice a minute."""
    def played(*arguments):
        time.sleep(max(0, BEGIN + 45 - time.monotonic()))
        return play(*arguments)
    return played


if __name__ == "__main__":
    kubelet.Player.play = later(kubelet.Player.play)
    kubelet.main(lambda cluster: serve(PORT, *pair("metrics", "DNS:*.default.svc"), handler(cluster)))
