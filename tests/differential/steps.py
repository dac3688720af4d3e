"""What users do in a cluster: the steps of one seed for the control plane rig.

In every text {ns}, {id} and {slot} stand for the script's own namespace, name and nodes ({slot}-n1 and so on).
"""
import random

MERGE, STRATEGIC = ({"Content-Type": f"application/{kind}-patch+json"} for kind in ("merge", "strategic-merge"))
APPS, BATCH, CORE = "/apis/apps/v1/namespaces/{ns}", "/apis/batch/v1/namespaces/{ns}", "/api/v1/namespaces/{ns}"
POLICY = "/apis/policy/v1/namespaces/{ns}/poddisruptionbudgets"
IMAGES = ["run", "run", "run", "run:2", "unready", "missing", "exit-1"]
LABELS = {"app": "a"}


class Script:
    def __init__(self, seed):
        self.r = random.Random(f"{seed} control plane")
        self.steps, self.alone = [], False
        self.step("POST", "/api/v1/namespaces", {"metadata": {"name": "{ns}"}})

    def often(self, chance):
        return self.r.random() < chance

    def some(self, **choices):
        """Some of the members, each with one of its values; None is none."""
        made = {key: self.r.choice(values) for key, values in choices.items()}
        return {key: value for key, value in made.items() if value is not None}

    def step(self, method, path, body=None, headers=None, **more):
        self.steps.append({"n": len(self.steps), "method": method, "path": path, "body": body, **({"headers": headers} if headers else {}), **more})

    def post(self, path, body, **more):
        self.step("POST", path, body, **more)

    def merge(self, path, body, **more):
        self.step("PATCH", path, body, MERGE, **more)

    def delete(self, path, **more):
        self.step("DELETE", path, {"propagationPolicy": self.r.choice(["Background", "Background", "Foreground", "Orphan"])}, **more)

    def kubelet(self, what, **more):
        self.steps.append({"n": len(self.steps), "kubelet": what, **more})

    def any_of(self, parts, least, most):
        for _ in range(self.r.randint(least, most)):
            self.r.choice(parts)()

    # parts of objects

    def pod_spec(self, image="run", **more):
        container = {"name": "c", "image": f"rig/{image}"}
        if self.often(0.4):
            container["resources"] = self.r.choice([{"requests": {"cpu": "100m", "memory": "10Mi"}}, {"requests": {"cpu": "1"}, "limits": {"cpu": "2"}}, {"limits": {"cpu": "500m", "memory": "64Mi"}}])
        if self.often(0.3):
            container["ports"] = [{"containerPort": 80, "name": "http"}]
        spec = {"nodeSelector": {"set": "{slot}"}, "containers": [container], **more}
        if self.often(0.2):
            spec["terminationGracePeriodSeconds"] = self.r.choice([1, 0, 60])
        return spec

    def template(self, image="run", labels=None, **more):
        return {"metadata": {"labels": labels or LABELS}, "spec": self.pod_spec(image, **more)}

    def image(self, path, name=None):
        image = name or self.r.choice(IMAGES)
        self.step("PATCH", path, {"spec": {"template": {"spec": {"containers": [{"name": "c", "image": f"rig/{image}"}]}}}}, STRATEGIC)

    def scale(self, path, most=5):
        replicas = self.r.randint(0, most)
        if self.often(0.5):
            self.merge(path + "/scale", {"spec": {"replicas": replicas}})
        else:
            self.merge(path, {"spec": {"replicas": replicas}})

    def pods(self, **more):
        """Pods of the script do something else than before."""
        what = self.r.choice(["run", "unready", "unready", "exit-1", "exit-0", "evict", "slow"])
        self.kubelet(what, labels=LABELS, count=self.r.choice([1, 1, 2, 10]), **more)

    def delete_pod(self, label="app=a"):
        self.step("DELETE", f"{CORE}/pods/{{{{first:{label}}}}}", self.r.choice([None, None, {"gracePeriodSeconds": 0}]), ns="{ns}")

    def relabel_pod(self):
        self.merge(f"{CORE}/pods/{{{{first:app=a}}}}", {"metadata": {"labels": {"app": self.r.choice(["b", None])}}}, ns="{ns}")

    def service(self, **more):
        spec = {"selector": LABELS, "ports": [{"port": 80, "targetPort": self.r.choice([80, "http"]), **({"name": "web"} if self.often(0.3) else {})}],
                **self.some(clusterIP=[None, None, "None"], publishNotReadyAddresses=[None, None, True], type=[None, None, "NodePort", "LoadBalancer"], trafficDistribution=[None, None, None, "PreferClose", "PreferSameNode"],
                            sessionAffinity=[None, None, "ClientIP"], internalTrafficPolicy=[None, None, "Local"]), **more}
        if spec.get("clusterIP") == "None":
            spec.pop("type", None)
        self.post(f"{CORE}/services", {"metadata": {"name": "svc", "labels": self.r.choice([{}, {"x": "y"}])}, "spec": spec}, now=self.often(0.5))

    def budget(self):
        spec = {"selector": {"matchLabels": LABELS}, **self.r.choice([{"minAvailable": 1}, {"minAvailable": "50%"}, {"maxUnavailable": 1}, {"maxUnavailable": "30%"}, {"maxUnavailable": 0}, {"minAvailable": 3}, {"minAvailable": "100%"}]),
                **self.some(unhealthyPodEvictionPolicy=[None, None, "AlwaysAllow", "IfHealthyBudget"])}
        self.post(POLICY, {"metadata": {"name": "budget"}, "spec": spec})

    def evict(self):
        self.post(f"{CORE}/pods/{{{{first:app=a}}}}/eviction", {"apiVersion": "policy/v1", "kind": "Eviction"}, ns="{ns}")

    # families

    def deployment(self, beside=()):
        path = f"{APPS}/deployments/d"
        strategy = self.r.choice([None, {"type": "Recreate"}, {"type": "RollingUpdate", "rollingUpdate": self.some(maxSurge=[None, 0, 1, "50%", 2], maxUnavailable=[1, 1, "25%", 2, "100%"])}])
        spec = {"replicas": self.r.randint(0, 4), "selector": {"matchLabels": LABELS}, "template": self.template(self.r.choice(IMAGES[:5] if self.often(0.9) else IMAGES)),
                **self.some(minReadySeconds=[None, None, 2], revisionHistoryLimit=[None, None, 0, 1], progressDeadlineSeconds=[None, 4], paused=[None, None, None, None, True])}
        if strategy:
            spec["strategy"] = strategy
        self.post(f"{APPS}/deployments", {"metadata": {"name": "d", "annotations": {"kubernetes.io/change-cause": "first"}}, "spec": spec})
        self.any_of([lambda: self.scale(path), lambda: self.scale(path), lambda: self.image(path), lambda: self.image(path), lambda: self.image(path, "run"), lambda: self.image(path, "run:2"), self.pods, self.delete_pod, self.relabel_pod,
                     lambda: self.merge(path, {"spec": {"paused": self.r.choice([True, None])}}), lambda: self.merge(path, {"metadata": {"annotations": {"kubernetes.io/change-cause": "again", "x": "y"}, "labels": {"l": "m"}}}),
                     lambda: self.merge(path, {"spec": {"revisionHistoryLimit": self.r.choice([0, 1])}}), lambda: self.merge(path, {"spec": {"strategy": {"type": "Recreate", "rollingUpdate": None}}}),
                     lambda: self.merge(path, {"spec": {"template": {"metadata": {"annotations": {"at": self.r.choice("xy")}}}}}), lambda: self.merge(path, {"spec": {"template": {"spec": {"nodeSelector": {"node": self.r.choice(["n1", "n9"])}}}}}),
                     lambda: self.scale(f"{APPS}/replicasets/{{{{first:app=a}}}}"), lambda: self.step("DELETE", f"{APPS}/replicasets/{{{{first:app=a}}}}", {}, ns="{ns}"), *beside], 1, 4)
        for step in self.steps:
            if "replicasets/{{first" in step.get("path", ""):
                step["ns"] = "{ns}"
        if self.often(0.25):
            self.delete(path)

    def replica_set(self):
        resource, base = self.r.choice([("replicasets", APPS), ("replicasets", APPS), ("replicationcontrollers", CORE)])
        path = f"{base}/{resource}/r"
        if self.often(0.3):
            for name in "xyz"[:self.r.randint(1, 3)]:
                self.post(f"{CORE}/pods", {"metadata": {"name": f"bare-{name}", "labels": LABELS}, "spec": self.pod_spec()}, now=name == "x" and self.often(0.5))
        selector = {"matchLabels": LABELS} if base == APPS else LABELS
        self.post(f"{base}/{resource}", {"metadata": {"name": "r"}, "spec": {"replicas": self.r.randint(0, 4), "selector": selector, "template": self.template(self.r.choice(IMAGES)), **self.some(minReadySeconds=[None, None, 2])}})
        self.any_of([lambda: self.scale(path), lambda: self.scale(path), self.pods, self.pods, self.delete_pod, self.relabel_pod, self.evict,
                     lambda: self.merge(f"{CORE}/pods/{{{{first:app=a}}}}", {"metadata": {"annotations": {"controller.kubernetes.io/pod-deletion-cost": self.r.choice(["-5", "7"])}}}, ns="{ns}"),
                     lambda: self.image(path), lambda: self.merge(path, {"metadata": {"labels": {"x": "y"}}}),
                     lambda: self.post(f"{CORE}/pods", {"metadata": {"name": "stray", "labels": LABELS}, "spec": self.pod_spec()})], 1, 4)
        if self.often(0.35):
            self.delete(path)

    def stateful_set(self):
        path = f"{APPS}/statefulsets/s"
        rolling = self.r.choice([None, {"type": "OnDelete"}, {"type": "RollingUpdate", "rollingUpdate": {"partition": self.r.choice([0, 1, 2, 5])}}, {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 2}}])
        spec = {"replicas": self.r.randint(0, 3), "serviceName": "svc", "selector": {"matchLabels": LABELS}, "template": self.template(self.r.choice(IMAGES)),
                **self.some(podManagementPolicy=[None, "Parallel"], minReadySeconds=[None, None, 2], ordinals=[None, None, {"start": 2}], revisionHistoryLimit=[None, 0],
                            persistentVolumeClaimRetentionPolicy=[None, {"whenDeleted": "Delete"}, {"whenScaled": "Delete"}, {"whenDeleted": "Delete", "whenScaled": "Delete"}])}
        if rolling:
            spec["updateStrategy"] = rolling
        if self.often(0.5):
            spec["volumeClaimTemplates"] = [{"metadata": {"name": "data", "labels": {"of": "s"}}, "spec": {"accessModes": ["ReadWriteOnce"], "storageClassName": "{id}", "resources": {"requests": {"storage": "1Gi"}}}}]
            if self.often(0.7):
                # the smallest is taken first
                for n in range(4):
                    self.volume(f"{n}", now=True, capacity={"storage": f"{1024 + n}Mi"})
        if self.often(0.3):
            self.service()
        self.post(f"{APPS}/statefulsets", {"metadata": {"name": "s"}, "spec": spec})
        self.any_of([lambda: self.scale(path, 4), lambda: self.scale(path, 4), lambda: self.image(path), lambda: self.image(path, "run:2"), lambda: self.image(path, "run"), self.pods, self.delete_pod, self.relabel_pod, self.evict,
                     lambda: self.merge(path, {"spec": {"updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"partition": self.r.choice([0, 1])}}}}),
                     lambda: self.merge(path, {"spec": {"persistentVolumeClaimRetentionPolicy": self.r.choice([{"whenDeleted": "Delete", "whenScaled": "Delete"}, {"whenDeleted": "Retain", "whenScaled": "Retain"}])}}),
                     lambda: self.merge(path, {"spec": {"ordinals": {"start": self.r.choice([0, 1])}}}), lambda: self.merge(path, {"metadata": {"labels": {"x": "y"}}}),
                     lambda: self.step("DELETE", f"{CORE}/persistentvolumeclaims/data-s-0", {})], 1, 4)
        if self.often(0.35):
            self.delete(path)

    def volume(self, name, now=False, **more):
        spec = {"capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteOnce"], "storageClassName": "{id}", "hostPath": {"path": "/tmp"}, "persistentVolumeReclaimPolicy": self.r.choice(["Retain", "Retain", "Delete"]), **more}
        self.post("/api/v1/persistentvolumes", {"metadata": {"name": "{id}-" + name, "labels": {"size": self.r.choice(["s", "m"])}}, "spec": spec}, now=now)

    def daemon_set(self):
        path = f"{APPS}/daemonsets/ds"
        strategy = self.r.choice([None, {"type": "OnDelete"}, {"type": "RollingUpdate", "rollingUpdate": self.r.choice([{"maxUnavailable": 2}, {"maxUnavailable": "50%"}, {"maxSurge": 1, "maxUnavailable": 0}, {"maxSurge": "100%", "maxUnavailable": 0}])}])
        spec = {"selector": {"matchLabels": LABELS}, "template": self.template(self.r.choice(IMAGES)), **self.some(minReadySeconds=[None, None, 2], revisionHistoryLimit=[None, 0])}
        if strategy:
            spec["updateStrategy"] = strategy
        if self.often(0.3):
            spec["template"]["spec"]["affinity"] = {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [{"matchExpressions": [{"key": "node", "operator": self.r.choice(["In", "NotIn"]), "values": ["n1"]}]}]}}}
        self.post(f"{APPS}/daemonsets", {"metadata": {"name": "ds"}, "spec": spec})
        node = "/api/v1/nodes/{slot}-n2"

        def relabel():
            self.alone = True
            self.merge(node, {"metadata": {"labels": {"set": self.r.choice(["{slot}", "x"]), "node": self.r.choice(["n1", "n2"])}}})

        def taint():
            self.alone = True
            self.merge(node, {"spec": {"taints": self.r.choice([None, [{"key": "k", "value": "v", "effect": self.r.choice(["NoSchedule", "NoExecute", "PreferNoSchedule"])}]])}})

        def cordon():
            self.alone = True
            self.merge(node, {"spec": {"unschedulable": self.r.choice([True, None])}})
        self.any_of([lambda: self.image(path), lambda: self.image(path, "run:2"), lambda: self.image(path, "run"), self.pods, self.pods, self.delete_pod, self.relabel_pod, relabel, taint, cordon, self.evict,
                     lambda: self.merge(path, {"spec": {"updateStrategy": {"type": "OnDelete", "rollingUpdate": None}}}), lambda: self.merge(path, {"spec": {"template": {"spec": {"nodeSelector": {"node": "n1"}}}}}),
                     lambda: self.post(f"{CORE}/pods", {"metadata": {"name": "stray", "labels": LABELS}, "spec": self.pod_spec(nodeName="{slot}-n1")})], 1, 4)
        if self.often(0.3):
            self.delete(path)

    def job(self):
        path = f"{BATCH}/jobs/j"
        image = self.r.choice(["exit-0", "exit-0", "exit-1", "run", "exit-3", "failindex-1-1", "failindex-0-3", "missing"])
        spec = {"template": self.template(image, restartPolicy=self.r.choice(["Never", "Never", "OnFailure"])),
                **self.some(parallelism=[None, 1, 2, 3, 0], completions=[None, None, 1, 2, 3, 4], backoffLimit=[0, 1, 1, 2], suspend=[None, None, None, True], ttlSecondsAfterFinished=[None, None, None, 1], activeDeadlineSeconds=[None, None, None, 5],
                            podReplacementPolicy=[None, None, "Failed"])}
        if self.often(0.45):
            spec.update(completionMode="Indexed", completions=self.r.randint(1, 4))
            if self.often(0.4):
                spec.update(backoffLimitPerIndex=self.r.choice([0, 0, 1]), **self.some(maxFailedIndexes=[None, 0, 1, 2]))
                spec.pop("backoffLimit")
                spec["template"]["spec"]["restartPolicy"] = "Never"
            if self.often(0.3):
                spec["successPolicy"] = {"rules": [self.r.choice([{"succeededCount": 1}, {"succeededIndexes": "0"}, {"succeededIndexes": "0-1", "succeededCount": 1}])]}
        if self.often(0.35):
            rule = self.r.choice([{"onExitCodes": {"operator": "In", "values": [1]}}, {"onExitCodes": {"operator": "NotIn", "values": [1]}}, {"onExitCodes": {"containerName": "c", "operator": "In", "values": [1, 3]}}, {"onPodConditions": [{"type": "DisruptionTarget"}]}])
            actions = ["FailJob", "Ignore", "Count"] + ["FailIndex"] * ("backoffLimitPerIndex" in spec)
            spec["podFailurePolicy"] = {"rules": [{"action": self.r.choice(actions), **rule}]}
            spec["template"]["spec"]["restartPolicy"] = "Never"
            if spec.get("podReplacementPolicy"):
                spec["podReplacementPolicy"] = "Failed"
        if spec.get("podFailurePolicy", {}).get("rules", [{}])[0].get("action") == "Ignore" and "onExitCodes" in spec["podFailurePolicy"]["rules"][0]:
            # pods that fail without end
            spec["template"]["spec"]["containers"][0]["image"] = "rig/run"
        self.post(f"{BATCH}/jobs", {"metadata": {"name": "j"}, "spec": spec})

        def jobs_pods():
            self.kubelet(self.r.choice(["exit-0", "exit-0", "exit-1", "exit-3", "evict", "unready", "slow"]), labels={"job-name": "j"}, count=self.r.choice([1, 1, 2, 10]))
        self.any_of([jobs_pods, jobs_pods, jobs_pods, lambda: self.delete_pod("job-name=j"), lambda: self.merge(path, {"spec": {"suspend": self.r.choice([True, False])}}), lambda: self.merge(path, {"spec": {"parallelism": self.r.randint(0, 4)}}),
                     lambda: self.post(f"{CORE}/pods/{{{{first:job-name=j}}}}/eviction", {"apiVersion": "policy/v1", "kind": "Eviction"}, ns="{ns}"),
                     lambda: self.merge(path, {"spec": {"completions": self.r.randint(1, 4), "parallelism": self.r.randint(1, 4)}})], 0, 3)
        if self.often(0.25):
            self.delete(path)

    def cron_job(self):
        path = f"{BATCH}/cronjobs/c"
        spec = {"schedule": self.r.choice(["* * * * *", "* * * * *", "0 0 31 2 *", "@yearly", "0 0 1 1 *"]), "jobTemplate": {"metadata": {"labels": {"of": "c"}, "annotations": {"a": "b"}}, "spec": {"template": self.template(self.r.choice(["run", "exit-0", "exit-1"]), restartPolicy="Never"), "backoffLimit": 0}},
                **self.some(concurrencyPolicy=[None, "Forbid", "Replace"], suspend=[None, None, True], successfulJobsHistoryLimit=[None, 0, 1], failedJobsHistoryLimit=[None, 0], startingDeadlineSeconds=[None, None, 200], timeZone=[None, None, "Etc/UTC", "Europe/Berlin"])}
        self.post(f"{BATCH}/cronjobs", {"metadata": {"name": "c"}, "spec": spec})
        self.any_of([lambda: self.merge(path, {"spec": {"suspend": self.r.choice([True, False])}}), lambda: self.kubelet(self.r.choice(["exit-0", "exit-1"]), labels=LABELS), lambda: self.step("DELETE", f"{BATCH}/jobs/{{{{first:of=c}}}}", {"propagationPolicy": "Background"}, ns="{ns}"),
                     lambda: self.post(f"{BATCH}/jobs", {"metadata": {"name": "by-hand", "annotations": {"cronjob.kubernetes.io/instantiate": "manual"}}, "spec": spec["jobTemplate"]["spec"]})], 0, 2)
        if self.often(0.4):
            self.delete(path)

    def services(self):
        names = "xyz"[:self.r.randint(1, 3)]
        for name in names:
            more = self.some(hostname=[None, None, f"h-{name}"], subdomain=[None, None, "svc"])
            self.post(f"{CORE}/pods", {"metadata": {"name": name, "labels": LABELS}, "spec": self.pod_spec(self.r.choice(["run", "run", "unready", "slow", "missing", "exit-0"]), **self.some(restartPolicy=[None, None, "Never"]), **more)}, now=name != names[-1])
        path = f"{CORE}/services/svc"
        if self.often(0.75):
            self.service()
        else:
            self.post(f"{CORE}/services", {"metadata": {"name": "svc"}, "spec": {"ports": [{"port": 80, "name": "p"}], **self.some(clusterIP=[None, "None"])}})
            self.post(f"{CORE}/endpoints", {"metadata": {"name": "svc", "labels": self.r.choice([{}, {"endpointslice.kubernetes.io/skip-mirror": "true"}]), "annotations": {"a": "b"}}, "subsets": [
                {"addresses": [{"ip": "192.0.2.1"}, {"ip": "192.0.2.2", "hostname": "h", "nodeName": "{slot}-n1"}], "notReadyAddresses": [{"ip": "192.0.2.3"}], "ports": [{"port": 80, "name": "p"}]}]})
        self.any_of([self.pods, self.pods, self.delete_pod, self.relabel_pod, lambda: self.merge(path, {"spec": {"selector": self.r.choice([{"app": "b"}, {"app": "a"}, None])}}), lambda: self.merge(path, {"metadata": {"labels": {"z": "1"}, "annotations": {"q": "r"}}}),
                     lambda: self.merge(path, {"spec": {"publishNotReadyAddresses": True}}), lambda: self.step("DELETE", f"{CORE}/endpoints/svc", {}), lambda: self.merge(path, {"spec": {"ports": [{"port": 81, "targetPort": "http", "name": "two", "protocol": self.r.choice(["TCP", "UDP"])}]}}),
                     lambda: self.merge(path, {"spec": {"type": "ExternalName", "externalName": "a.b", "clusterIP": None, "clusterIPs": None}}), lambda: self.merge(f"{CORE}/endpoints/svc", {"subsets": self.r.choice([[], [{"addresses": [{"ip": "192.0.2.9"}], "ports": [{"port": 9}]}]])}),
                     lambda: self.step("DELETE", "/apis/discovery.k8s.io/v1/namespaces/{ns}/endpointslices", None), lambda: self.merge(f"{CORE}/endpoints/svc", {"metadata": {"labels": {"endpointslice.kubernetes.io/skip-mirror": self.r.choice(["true", None])}}})], 1, 4)
        if self.often(0.3):
            self.delete(path)

    def budgets(self):
        if self.often(0.3):
            self.budget()
        if self.often(0.5):
            self.post(f"{APPS}/{self.r.choice(['deployments', 'replicasets'])}", {"metadata": {"name": "w"}, "spec": {"replicas": self.r.randint(1, 4), "selector": {"matchLabels": LABELS}, "template": self.template(self.r.choice(["run", "run", "unready"]))}})
        else:
            for name in "xyz"[:self.r.randint(1, 3)]:
                self.post(f"{CORE}/pods", {"metadata": {"name": name, "labels": LABELS}, "spec": self.pod_spec(self.r.choice(["run", "run", "unready", "slow"]))}, now=True)
        if self.steps[1].get("path") != POLICY:
            self.budget()
        self.any_of([self.evict, self.evict, self.evict, self.pods, lambda: self.merge(POLICY + "/budget", {"spec": self.r.choice([{"maxUnavailable": 2, "minAvailable": None}, {"minAvailable": 1, "maxUnavailable": None}, {"selector": {}}, {"selector": {"matchLabels": {"app": "none"}}}])}), self.delete_pod, self.relabel_pod,
                     lambda: self.step("DELETE", POLICY + "/budget", {})], 1, 5)

    def quota(self):
        hard = {}
        for key, values in [("pods", ["1", "2", "3"]), ("requests.cpu", ["1", "250m"]), ("limits.memory", ["128Mi"]), ("count/deployments.apps", ["1"]), ("services", ["0", "1"]), ("requests.storage", ["1Gi", "3Gi"]), ("persistentvolumeclaims", ["1"]), ("configmaps", ["3"]), ("secrets", ["1"]),
                            ("count/jobs.batch", ["1"]), ("services.nodeports", ["0", "1"]), ("{id}.storageclass.storage.k8s.io/requests.storage", ["1Gi"])]:
            if self.often(0.3):
                hard[key] = self.r.choice(values)
        spec = {"hard": hard or {"pods": "2"}}
        if self.often(0.25):
            spec = {"hard": {"pods": "2"}, "scopes": [self.r.choice(["Terminating", "NotTerminating", "BestEffort", "NotBestEffort"])]}
        path = f"{CORE}/resourcequotas/q"
        self.post(f"{CORE}/resourcequotas", {"metadata": {"name": "q"}, "spec": spec})
        self.any_of([lambda: self.post(f"{APPS}/deployments", {"metadata": {"name": self.r.choice("de")}, "spec": {"replicas": self.r.randint(1, 3), "selector": {"matchLabels": LABELS}, "template": self.template()}}), self.service, self.delete_pod, self.pods,
                     lambda: self.post(f"{CORE}/pods", {"metadata": {"name": self.r.choice("xy"), "labels": LABELS}, "spec": self.pod_spec(self.r.choice(["run", "exit-0"]), restartPolicy="Never", **self.some(activeDeadlineSeconds=[None, 300]))}),
                     lambda: self.post(f"{CORE}/persistentvolumeclaims", self.claim(self.r.choice("xy"))), lambda: self.post(f"{CORE}/configmaps", {"metadata": {"name": self.r.choice("xyz")}}), lambda: self.merge(path, {"spec": {"hard": {"pods": "5", "requests.cpu": None, "limits.memory": None}}}),
                     lambda: self.post(f"{BATCH}/jobs", {"metadata": {"name": self.r.choice("jk")}, "spec": {"template": self.template("exit-0", restartPolicy="Never"), "backoffLimit": 0}}), lambda: self.step("DELETE", f"{CORE}/services/svc", {}),
                     lambda: self.scale(f"{APPS}/deployments/d")], 2, 5)

    def owners(self):
        def config(name, owner=None, **more):
            meta = {"name": name, **more}
            if owner:
                meta["ownerReferences"] = [{"apiVersion": "v1", "kind": "ConfigMap", "name": owner, "uid": "{{uid:%d}}" % made[owner], **self.some(blockOwnerDeletion=[None, True], controller=[None, None, True])}]
            made[name] = len(self.steps)
            self.post(f"{CORE}/configmaps", {"metadata": meta}, now=True)
        made = {}
        config("a", **self.some(finalizers=[None, None, None, ["example.org/x"]]))
        config("b", "a", **self.some(finalizers=[None, None, None, ["example.org/x"]]))
        config("c", self.r.choice("ab"), **self.some(finalizers=[None, None, None, ["foregroundDeletion"], ["orphan"], ["example.org/x"]]))
        if self.often(0.4):
            # an owner that is not there, in another namespace, of another kind, of the cluster
            owner = self.r.choice([{"apiVersion": "v1", "kind": "ConfigMap", "name": "a", "uid": "11111111-1111-1111-1111-111111111111"}, {"apiVersion": "v1", "kind": "Secret", "name": "a", "uid": "{{uid:%d}}" % made["a"]}, {"apiVersion": "example.org/v1", "kind": "Foo", "name": "a", "uid": "x"},
                                   {"apiVersion": "v1", "kind": "Namespace", "name": "{ns}", "uid": "{{uid:0}}"}, {"apiVersion": "v1", "kind": "Namespace", "name": "{ns}", "uid": "22222222-1111-1111-1111-111111111111"}])
            both = [owner, {"apiVersion": "v1", "kind": "ConfigMap", "name": "b", "uid": "{{uid:%d}}" % made["b"]}]
            self.post(f"{CORE}/secrets", {"metadata": {"name": "s", "ownerReferences": self.r.choice([[owner], both])}})
        self.any_of([lambda: self.delete(f"{CORE}/configmaps/{self.r.choice('aab')}"), lambda: self.delete(f"{CORE}/configmaps/a"), lambda: self.merge(f"{CORE}/configmaps/{self.r.choice('abc')}", {"metadata": {"finalizers": None}}),
                     lambda: self.merge(f"{CORE}/configmaps/{self.r.choice('bc')}", {"metadata": {"ownerReferences": None}})], 1, 4)

    def namespaces(self):
        self.post(f"{CORE}/configmaps", {"metadata": {"name": "held", **self.some(finalizers=[None, ["example.org/x"]])}}, now=True)
        self.post(f"{CORE}/secrets", {"metadata": {"name": "held", **self.some(finalizers=[None, None, ["example.org/y"]])}}, now=True)
        self.post(f"{CORE}/pods", {"metadata": {"name": "p", "labels": LABELS}, "spec": self.pod_spec(self.r.choice(["run", "slow"]))})
        if self.often(0.5):
            self.post(f"{APPS}/deployments", {"metadata": {"name": "d"}, "spec": {"replicas": 2, "selector": {"matchLabels": {"app": "d"}}, "template": self.template(labels={"app": "d"})}})
        self.step("DELETE", "/api/v1/namespaces/{ns}", {})
        self.any_of([lambda: self.merge(f"{CORE}/{self.r.choice(['secrets', 'configmaps'])}/held", {"metadata": {"finalizers": None}}), lambda: self.kubelet("run", labels=LABELS), lambda: self.post(f"{CORE}/configmaps", {"metadata": {"name": "late"}})], 1, 3)

    def accounts(self):
        def secret(account):
            meta = {"name": self.r.choice(["t", "u"]), "annotations": self.some(**{"kubernetes.io/service-account.name": [account, account, account, "none", None], "kubernetes.io/service-account.uid": [None, None, None, "x"]})}
            self.post(f"{CORE}/secrets", {"metadata": meta, "type": "kubernetes.io/service-account-token"})
        self.any_of([lambda: self.post(f"{CORE}/serviceaccounts", {"metadata": {"name": "sa"}, **self.some(secrets=[None, [{"name": "t"}]])}), lambda: secret("sa"), lambda: secret("default"), lambda: secret("sa"),
                     lambda: self.step("DELETE", f"{CORE}/serviceaccounts/{self.r.choice(['sa', 'default'])}", {}), lambda: self.step("DELETE", f"{CORE}/secrets/t", {}), lambda: self.step("DELETE", f"{CORE}/configmaps/kube-root-ca.crt", {}),
                     lambda: self.merge(f"{CORE}/configmaps/kube-root-ca.crt", {"data": {"ca.crt": "x", "more": "y"}}), lambda: self.merge(f"{CORE}/secrets/t", {"data": self.r.choice([{"token": None}, {"ca.crt": "eA=="}, {"namespace": None}, {"more": "eA=="}])}),
                     lambda: self.merge(f"{CORE}/secrets/t", {"metadata": {"annotations": {"kubernetes.io/service-account.uid": self.r.choice([None, "x"])}}})], 3, 6)

    def claim(self, name, **more):
        return {"metadata": {"name": name}, "spec": {"accessModes": [self.r.choice(["ReadWriteOnce", "ReadWriteOnce", "ReadOnlyMany", "ReadWriteOncePod"])], "storageClassName": self.r.choice(["{id}", "{id}", "{id}", ""]), "resources": {"requests": {"storage": self.r.choice(["1Gi", "500Mi", "2Gi"])}},
                                                     **self.some(selector=[None, None, None, {"matchLabels": {"size": "s"}}], volumeName=[None, None, None, "{id}-v"], volumeMode=[None, None, None, "Block"]), **more}}

    def claims(self):
        def storage_class():
            self.post("/apis/storage.k8s.io/v1/storageclasses", {"metadata": {"name": "{id}"}, "provisioner": self.r.choice(["kubernetes.io/no-provisioner", "example.org/p"]), **self.some(volumeBindingMode=[None, "WaitForFirstConsumer"], reclaimPolicy=[None, "Retain"], allowVolumeExpansion=[None, True])})

        def volume():
            affinity = {"required": {"nodeSelectorTerms": [{"matchExpressions": [{"key": "kubernetes.io/hostname", "operator": "In", "values": ["{slot}-n1"]}]}]}}
            self.volume(self.r.choice(["v", "w"]), capacity={"storage": self.r.choice(["1Gi", "2Gi", "3Gi"])}, accessModes=self.r.choice([["ReadWriteOnce"], ["ReadWriteOnce", "ReadOnlyMany"], ["ReadWriteMany"]]),
                        **self.some(claimRef=[None, None, None, {"namespace": "{ns}", "name": "x"}, {"namespace": "{ns}", "name": "x", "uid": "33333333-1111-1111-1111-111111111111"}], nodeAffinity=[None, None, affinity], volumeMode=[None, None, None, "Block"]))

        def pod():
            self.post(f"{CORE}/pods", {"metadata": {"name": self.r.choice("pq"), "labels": LABELS}, "spec": self.pod_spec(self.r.choice(["run", "exit-0"]), restartPolicy="Never", volumes=[{"name": "v", "persistentVolumeClaim": {"claimName": self.r.choice("xxy")}}])})
        parts = [volume, volume, lambda: self.post(f"{CORE}/persistentvolumeclaims", self.claim("x")), lambda: self.post(f"{CORE}/persistentvolumeclaims", self.claim(self.r.choice("xy"))), pod, storage_class]
        self.r.shuffle(parts)
        for part in parts[:self.r.randint(3, 6)]:
            part()
        self.any_of([lambda: self.step("DELETE", f"{CORE}/persistentvolumeclaims/x", {}), lambda: self.step("DELETE", "/api/v1/persistentvolumes/{id}-v", {}), self.delete_pod, pod, volume, lambda: self.merge(f"{CORE}/persistentvolumeclaims/x", {"spec": {"resources": {"requests": {"storage": "5Gi"}}}}),
                     lambda: self.merge("/api/v1/persistentvolumes/{id}-v", {"spec": {"persistentVolumeReclaimPolicy": self.r.choice(["Delete", "Retain"])}}), lambda: self.merge("/api/v1/persistentvolumes/{id}-v", {"spec": {"claimRef": None}}),
                     lambda: self.post(f"{CORE}/pods", {"metadata": {"name": "e", "labels": LABELS}, "spec": self.pod_spec(volumes=[{"name": "v", "ephemeral": {"volumeClaimTemplate": {"spec": self.claim("x")["spec"]}}}])})], 1, 4)

    def scheduling(self):
        def pod(name=None, now=False):
            term = {"labelSelector": {"matchLabels": LABELS}, "topologyKey": self.r.choice(["kubernetes.io/hostname", "topology.kubernetes.io/zone", "none"])}
            match = {"matchExpressions": [{"key": "node", "operator": self.r.choice(["In", "NotIn"]), "values": self.r.choice([["n1"], ["n1", "n2"], ["n9"]])}]}
            affinity = self.r.choice([None, None, {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [match]}}}, {"podAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [term]}}, {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [term]}},
                                      {"nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [{"weight": 100, "preference": match}]}}, {"podAntiAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [{"weight": 100, "podAffinityTerm": term}]}},
                                      {"podAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [{"weight": 100, "podAffinityTerm": term}]}}])
            spread = self.r.choice([None, None, None, [{"maxSkew": 1, "topologyKey": self.r.choice(["kubernetes.io/hostname", "topology.kubernetes.io/zone", "none"]), "whenUnsatisfiable": self.r.choice(["DoNotSchedule", "DoNotSchedule", "ScheduleAnyway"]), "labelSelector": {"matchLabels": LABELS}, **self.some(minDomains=[None, None, 3])}]])
            if spread and spread[0]["whenUnsatisfiable"] == "ScheduleAnyway":
                spread[0].pop("minDomains", None)
            requests = self.r.choice([{"cpu": "1500m"}, {"cpu": "2500m"}, {"cpu": "3"}, {"cpu": "9"}, {"memory": "5Gi"}, {"cpu": "100m"}, {"example.org/none": "1"}, {"cpu": "9", "memory": "90Gi"}])
            container = {"name": "c", "image": "rig/run", "resources": {"requests": requests, **({"limits": requests} if "example.org/none" in requests else {})}}
            if self.often(0.15):
                container["ports"] = [{"containerPort": 80, "hostPort": 80}]
            more = {key: value for key, value in (("affinity", affinity), ("topologySpreadConstraints", spread)) if value}
            spec = {"nodeSelector": {"set": "{slot}"}, "containers": [container], **more, **self.some(priorityClassName=[None, None, "{id}-low", "{id}-high", "{id}-never"], schedulingGates=[None] * 7 + [[{"name": "g"}]], nodeName=[None] * 9 + ["{slot}-n1"], schedulerName=[None] * 12 + ["other"], terminationGracePeriodSeconds=[None, None, 0],
                                                                                                      tolerations=[None, None, None, [{"key": "k", "operator": "Exists"}]], preemptionPolicy=[None])}
            if spec.get("nodeName"):
                spec.pop("schedulingGates", None)
            self.post(f"{CORE}/pods", {"metadata": {"name": name or "p" + str(len(self.steps)), "labels": self.r.choice([LABELS, LABELS, {"app": "b"}])}, "spec": spec}, now=now)
        for name, value, more in (("low", 10, {}), ("high", 1000, {}), ("never", 500, {"preemptionPolicy": "Never"})):
            self.post("/apis/scheduling.k8s.io/v1/priorityclasses", {"metadata": {"name": "{id}-" + name}, "value": value, **more}, now=True)
        if self.often(0.2):
            self.budget()

        def node(body):
            self.alone = True
            self.merge("/api/v1/nodes/{slot}-" + self.r.choice(["n1", "n2", "n3"]), body)
        for _ in range(self.r.randint(2, 5)):
            pod()
        self.any_of([pod, pod, self.delete_pod, lambda: self.kubelet("exit-0", labels=LABELS, count=1), lambda: self.merge(f"{CORE}/pods/{{{{first:app=a}}}}", {"spec": {"schedulingGates": None}}, ns="{ns}"), lambda: node({"spec": {"taints": [{"key": "k", "effect": self.r.choice(["NoSchedule", "NoExecute", "PreferNoSchedule"])}]}}),
                     lambda: node({"spec": {"unschedulable": True}}), lambda: node({"metadata": {"labels": {"topology.kubernetes.io/zone": "c"}}}), lambda: self.relabel_pod()], 1, 4)

    def nodes(self):
        self.alone = True
        name = self.r.choice(["n1", "n3"])
        path = "/api/v1/nodes/{slot}-" + name
        for at in range(self.r.randint(1, 3)):
            tolerations = self.r.choice([None, [{"key": "k", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": self.r.choice([0, 3, 300])}], [{"operator": "Exists"}], [{"key": "node.kubernetes.io/not-ready", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 2}]])
            more = {"tolerations": tolerations} if tolerations else {}
            self.post(f"{CORE}/pods", {"metadata": {"name": "xyz"[at], "labels": LABELS}, "spec": self.pod_spec(self.r.choice(["run", "slow"]), **more, **self.some(nodeName=[None, "{slot}-" + name]))}, now=self.often(0.5))
        if self.often(0.5):
            self.post(f"{APPS}/deployments", {"metadata": {"name": "d"}, "spec": {"replicas": 3, "selector": {"matchLabels": {"app": "d"}}, "template": self.template(labels={"app": "d"})}})
        if self.often(0.3):
            self.service()
        self.any_of([lambda: self.kubelet("notready", node=name), lambda: self.kubelet("notready", node=name), lambda: self.kubelet("ready", node=name), lambda: self.merge(path, {"spec": {"unschedulable": self.r.choice([True, None])}}), self.evict,
                     lambda: self.merge(path, {"spec": {"taints": self.r.choice([[{"key": "k", "value": "v", "effect": "NoExecute"}], [{"key": "k", "effect": "NoSchedule"}], [{"key": "node.kubernetes.io/out-of-service", "effect": "NoExecute"}]])}}),
                     lambda: self.step("DELETE", path, {})], 1, 4)


FAMILIES = [(Script.deployment, 6), (Script.replica_set, 3), (Script.stateful_set, 5), (Script.daemon_set, 3), (Script.job, 6), (Script.cron_job, 1), (Script.services, 4), (Script.budgets, 3), (Script.quota, 3), (Script.owners, 3), (Script.namespaces, 1),
            (Script.accounts, 2), (Script.claims, 4), (Script.scheduling, 5), (Script.nodes, 2)]


def script(seed):
    made = Script(seed)
    family = made.r.choices([part for part, _ in FAMILIES], [weight for _, weight in FAMILIES])[0]
    family(made)
    made.steps[0].update(family=family.__name__, alone=made.alone and seed % 40 == 0, nodes=made.alone)
    return made.steps
