"""The rig of autoscaling: HorizontalPodAutoscalers over all that scales, with metrics that the worker serves (autoscaling_worker.py), in whole control planes.

Compared are autoscalers, their events, and how many replicas their targets are to have, once nothing changes any more.
"""
import datetime
import random
import re

import control_plane
from control_plane import BATCH, CLUSTER, certificates, named  # noqa: F401 (the driver's)
from steps import APPS, CORE, LABELS, MERGE
from steps import Script as Steps

WORKER = "autoscaling_worker.py"
# as fast as can be told apart from at once, and none waits for another's metrics
CONTROLLER_FLAGS = ["--horizontal-pod-autoscaler-sync-period=1s", "--horizontal-pod-autoscaler-downscale-stabilization=3s", "--concurrent-horizontal-pod-autoscaler-syncs=24"]
AUTOSCALERS = "/apis/autoscaling/v2/namespaces/{ns}/horizontalpodautoscalers"
WIDGETS = "/apis/example.org/v1/namespaces/{ns}/widgets"
# how many there are on the way, and when, depends on when each pod is ready; where it ends is compared
ON_THE_WAY = {"SuccessfulRescale"}
# seconds: an autoscaler that is looked at each second has soon told as many events as it may
TELLING = 4
TARGETS = ("deployments", "replicasets", "statefulsets", "replicationcontrollers")


def fixtures():
    services = "/apis/apiregistration.k8s.io/v1/apiservices"
    made = [{"method": "POST", "path": "/api/v1/namespaces/default/services", "body": {"metadata": {"name": "metrics"}, "spec": {"type": "ExternalName", "externalName": "localhost", "ports": [{"port": 8443}]}}}]
    for group, version in (("metrics.k8s.io", "v1beta1"), ("custom.metrics.k8s.io", "v1beta2"), ("external.metrics.k8s.io", "v1beta1")):
        spec = {"group": group, "version": version, "groupPriorityMinimum": 100, "versionPriority": 100, "insecureSkipTLSVerify": True, "service": {"name": "metrics", "namespace": "default", "port": 8443}}
        made.append({"method": "POST", "path": services, "body": {"metadata": {"name": f"{version}.{group}"}, "spec": spec}})
    scale = {"specReplicasPath": ".spec.replicas", "statusReplicasPath": ".status.replicas", "labelSelectorPath": ".status.selector"}
    version = {"name": "v1", "served": True, "storage": True, "subresources": {"status": {}, "scale": scale}, "schema": {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": True, "properties": {
        "spec": {"type": "object", "properties": {"replicas": {"type": "integer"}}}, "status": {"type": "object", "properties": {"replicas": {"type": "integer"}, "selector": {"type": "string"}}}}}}}
    names = {"plural": "widgets", "singular": "widget", "kind": "Widget", "listKind": "WidgetList"}
    made.append({"method": "POST", "path": "/apis/apiextensions.k8s.io/v1/customresourcedefinitions", "body": {"metadata": {"name": "widgets.example.org"}, "spec": {"group": "example.org", "scope": "Namespaced", "names": names, "versions": [version]}}})
    return made


class Script(Steps):
    def __init__(self, seed):
        super().__init__(seed)
        self.r = random.Random(f"{seed} autoscaling")

    def target(self):
        """Makes something that scales; its kind and version, and its path."""
        kind, version, resource, base = self.r.choice([("Deployment", "apps/v1", "deployments", APPS)] * 3 + [("ReplicaSet", "apps/v1", "replicasets", APPS), ("StatefulSet", "apps/v1", "statefulsets", APPS), ("ReplicationController", "v1", "replicationcontrollers", CORE), ("Widget", "example.org/v1", "widgets", WIDGETS)])
        replicas = self.r.choice([0, 1, 1, 2, 2, 3, 6])
        if kind == "Widget":
            self.post(WIDGETS, {"apiVersion": version, "kind": kind, "metadata": {"name": "t"}, "spec": {"replicas": replicas}}, now=True)
            self.merge(f"{WIDGETS}/t/status", {"status": self.some(replicas=[None, replicas, 2], selector=[None, "app=a", "app=a", "app in (a,b),x!=y", "app in a", "app=none"])})
            return kind, version, f"{WIDGETS}/t"
        template = self.template(self.r.choice(["run", "run", "run", "run", "unready", "missing"]))
        if self.often(0.85):
            template["spec"]["containers"][0]["resources"] = self.r.choice([{"requests": {"cpu": "100m", "memory": "10Mi"}}, {"requests": {"cpu": "200m"}}])
        if self.often(0.1):
            template["spec"]["containers"].append({"name": "second", "image": "rig/run", **self.some(resources=[None, {"requests": {"cpu": "100m"}}])})
        spec = {"replicas": replicas, "selector": LABELS if kind == "ReplicationController" else {"matchLabels": LABELS}, "template": template}
        if kind == "StatefulSet":
            spec.update(serviceName="s", podManagementPolicy="Parallel")
        self.post(f"{base}/{resource}", {"metadata": {"name": "t"}, "spec": spec})
        return kind, version, f"{base}/{resource}/t"

    def says(self):
        """What the metrics are."""
        made = self.some(cpu=["100m", "50m", "150m", "90m", "105m", "0", "20m", None], memory=["10Mi", "20Mi", None], pods=["100m", "1", "30", None], object=["10", "25", "0", "1500m", None], external=["10", "30 5", "0", "7500m", "1 2 3", None])
        if self.often(0.1):
            made["missing"] = self.r.choice(["1", "2", "9"])
        if self.often(0.12):
            made |= self.r.choice([{"code": "404"}, {"code": "503"}, {"code": "500"}, {"code": "403"}, {"code": "429"}, {"code": "401"}, {"status": "no such metric"}, {"empty": "yes"}])
        return made

    def metric(self):
        name = self.r.choice(["cpu", "cpu", "cpu", "memory"])
        usage = self.r.choice([{"type": "Utilization", "averageUtilization": self.r.choice([50, 80, 100, 100, 120])}, {"type": "AverageValue", "averageValue": self.r.choice(["100m", "50m"] if name == "cpu" else ["10Mi", "15Mi"])}])
        selector = self.r.choice([None, None, {"matchLabels": {"a": "b"}}, {"matchExpressions": [{"key": "k", "operator": "In", "values": ["x", "y"]}]}])
        metric = {"name": self.r.choice(["m", "q.s"]), **({"selector": selector} if selector else {})}
        value = self.r.choice([{"type": "Value", "value": self.r.choice(["10", "5", "1"])}, {"type": "AverageValue", "averageValue": self.r.choice(["10", "3", "500m"])}])
        described = self.r.choice([{"apiVersion": "v1", "kind": "Service", "name": "svc"}, {"kind": "Namespace", "name": "x"}, {"apiVersion": "networking.k8s.io/v1", "kind": "Ingress", "name": "i"}, {"apiVersion": "none.example.org/v1", "kind": "Nothing", "name": "n"}])
        return self.r.choice([{"type": "Resource", "resource": {"name": name, "target": usage}}] * 4 + [{"type": "ContainerResource", "containerResource": {"name": name, "container": self.r.choice(["c", "c", "second", "none"]), "target": usage}},
                              {"type": "Pods", "pods": {"metric": metric, "target": {"type": "AverageValue", "averageValue": self.r.choice(["100m", "1", "20"])}}}, {"type": "Object", "object": {"metric": metric, "describedObject": described, "target": value}},
                              {"type": "External", "external": {"metric": metric, "target": value}}, {"type": "External", "external": {"metric": metric, "target": value}}])

    def rules(self):
        return self.some(selectPolicy=[None, "Max", "Min", "Disabled"], stabilizationWindowSeconds=[0, 0, 2], policies=[None, [{"type": "Pods", "value": self.r.choice([1, 3]), "periodSeconds": 1}], [{"type": "Percent", "value": self.r.choice([10, 50, 100]), "periodSeconds": 1}, {"type": "Pods", "value": 2, "periodSeconds": 2}]],
                         tolerance=[None, None, "0", "500m"])

    def autoscaler(self, kind, version, name="h", bounded=True):
        ref = {"apiVersion": version, "kind": kind, "name": "t"}
        if self.often(0.1):
            ref = {**ref, **self.r.choice([{"name": "none"}, {"kind": "DaemonSet", "apiVersion": "apps/v1"}, {"kind": "Nothing"}, {"apiVersion": "none.example.org/v1"}, {"apiVersion": version.replace("v1", "v9")}])}
        spec = {"scaleTargetRef": ref, "maxReplicas": self.r.choice([1, 3, 5, 9]), "metrics": [self.metric() for _ in range(self.r.choice([1, 1, 1, 2, 3]))], **self.some(minReplicas=[None, 1, 2, 4, 0])}
        if self.often(0.35):
            spec["behavior"] = self.some(scaleUp=[None, self.rules()], scaleDown=[None, self.rules()])
        spec["maxReplicas"] = max(spec["maxReplicas"], spec.get("minReplicas") or 0)
        if not bounded:
            spec.update(minReplicas=1, maxReplicas=9)
        return {"metadata": {"name": name}, "spec": spec}

    def autoscaling(self):
        self.post(f"{CORE}/configmaps", {"metadata": {"name": "metrics"}, "data": self.says()}, now=True)
        kind, version, path = self.target()
        # of two that have bounds of their own each may undo forever what the other does
        two = self.often(0.12)
        self.post(AUTOSCALERS, self.autoscaler(kind, version, bounded=not two))
        again = f"{AUTOSCALERS}/h"

        def say():
            gone = dict.fromkeys(["cpu", "memory", "pods", "object", "external", "missing", "code", "status", "empty"])
            self.merge(f"{CORE}/configmaps/metrics", {"data": {**gone, **self.says()}})
        self.any_of([say, say, say, say, lambda: self.merge(path, {"spec": {"replicas": self.r.choice([0, 1, 2, 4, 12])}}), *([lambda: self.post(AUTOSCALERS, self.autoscaler(kind, version, "second", False))] * 4 if two else [lambda: self.merge(again, {"spec": {"minReplicas": self.r.choice([1, 2, 3])}}), lambda: self.merge(again, {"spec": {"maxReplicas": self.r.choice([2, 4, 7])}})]),
                     lambda: self.merge(again, {"spec": {"metrics": [self.metric()]}}), lambda: self.merge(again, {"metadata": {"labels": {"x": self.r.choice("yz")}}}), lambda: self.merge(again, {"spec": {"behavior": self.r.choice([None, {"scaleUp": self.rules(), "scaleDown": self.rules()}])}}),
                     self.pods, lambda: self.step("DELETE", f"{AUTOSCALERS}/{self.r.choice(['h', 'second'])}", {}), lambda: self.step("DELETE", path, {"propagationPolicy": "Background"})], 1, 4)
        if kind == "Widget":
            self.step("GET", f"{path}/scale")


def script(seed):
    made = Script(seed)
    made.autoscaling()
    made.steps[0].update(family="autoscaling", alone=False, nodes=False)
    return made.steps


def in_order(value):
    """Which of two autoscalers upstream names first is chance."""
    if isinstance(value, dict):
        return {key: in_order(one) for key, one in value.items()}
    if isinstance(value, list):
        return [in_order(one) for one in value]
    return re.sub(r"\(e\.g\. \[(.*?)\]\)", lambda m: f"(e.g. {sorted(m[1].split())})", value) if isinstance(value, str) else value


def moment(text):
    return datetime.datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp()


def told(answer):
    """The answer with those events of autoscalers alone that each told when it was new."""
    born = {one["metadata"]["uid"]: moment(one["metadata"]["creationTimestamp"]) for resource, one in [*answer.get("objects", []), *answer.get("gone", [])] if resource == "horizontalpodautoscalers"}

    def early(one):
        of = one["involvedObject"]
        return of["kind"] != "HorizontalPodAutoscaler" or of.get("uid") in born and moment(one["firstTimestamp"]) - born[of["uid"]] <= TELLING
    return {**answer, "objects": [[resource, one] for resource, one in answer.get("objects", []) if resource != "events" or early(one)]} if "objects" in answer else answer


def normal(answer, names, alone):
    """Of what the control plane rig compares, autoscalers, what is told of them, and how many replicas there are to be."""
    made, answer = {}, told(answer)
    for key, ones in control_plane.normal(answer, names, alone).items():
        kind = key.split(" ")[0]
        if key == "answer":
            scale = answer["body"] if isinstance(answer["body"], dict) and answer["body"].get("kind") == "Scale" else {}
            made[key] = [{**ones[0], "replicas": (scale.get("spec") or {}).get("replicas")}]
        elif kind == "horizontalpodautoscalers":
            made[key] = in_order(ones)
        elif kind in TARGETS and key.endswith(" t"):
            made[key] = [{"replicas": one["spec"].get("replicas")} for one in ones]
        elif key.startswith("event of HorizontalPodAutoscaler"):
            reason = key.rsplit(" ", 1)[1]
            if reason in ON_THE_WAY:
                continue
            ones = [in_order({name: value for name, value in one.items() if name != "count"}) for one in ones]
            # what was told while pods came and went hangs on when it was asked
            made[key] = [one for at, one in enumerate(ones) if one not in ones[:at]]
    return made


class Runner(control_plane.Runner):
    normal = staticmethod(normal)
