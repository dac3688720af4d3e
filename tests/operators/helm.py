"""Helm 3 and Helm 4 with the small chart beside this file: a page that is served, and a hook for each moment."""
import json, os

import cluster
from static_image import static_image

CHART = os.path.join(os.path.dirname(os.path.abspath(__file__)), "chart")
# hooks may leave their trace
ACCESS = """
apiVersion: v1
kind: ServiceAccount
metadata: {name: hooks}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {name: hooks}
rules: [{apiGroups: [""], resources: [configmaps], verbs: [create, get]}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: hooks}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: hooks}
subjects: [{kind: ServiceAccount, name: hooks}]
"""
OTHER = """
apiVersion: v1
kind: ConfigMap
metadata: {{name: page, namespace: {}}}
data: {{message: other, extra: kept}}
"""
KINDS = "deployments,services,configmaps,notes.operators.test"


class Release:
    """A release named `page` in a namespace of its own."""

    def __init__(self, world, helm, namespace=None):
        self.world, self.helm, self.namespace, self.ran = world, helm, namespace or helm, []

    def all(self):
        # Helm 4 lists all without being asked, and knows no flag for it
        flags = ["-a"] if self.helm == "helm3" else []
        return json.loads(self.world.ask(self.helm, "list", f"--namespace={self.namespace}", *flags, "-o", "json"))

    def ask(self, command, *arguments):
        return self.world.ask(self.helm, *command.split(), "page", f"--namespace={self.namespace}", *arguments)

    def state(self, revision, status):
        history = json.loads(self.ask("history", "-o", "json"))
        self.world.same(f"the last of {len(history)} revisions", (history[-1]["revision"], history[-1]["status"]), (revision, status))
        deployed = [one["revision"] for one in history if one["status"] == "deployed"]
        return deployed

    def page(self):
        return self.world.kubectl("get", "--raw", f"/api/v1/namespaces/{self.namespace}/services/page:80/proxy/page/message")

    def hooks(self, *wanted):
        """Those that ran since the last question, in their order."""
        found = self.world.get("configmaps", "-n", self.namespace)["items"]
        found = [one for one in found if one["metadata"]["name"].startswith("ran-hook-")]
        found.sort(key=lambda one: int(one["metadata"]["resourceVersion"]))
        # without the end that a Job gives its pod's name
        names = [one["metadata"]["name"].removeprefix("ran-hook-").rsplit("-", 1)[0] for one in found]
        new, self.ran = names[len(self.ran):], names
        self.world.same("the hooks that ran", new, list(wanted))
        self.world.same("Jobs of hooks that are left", self.world.get("jobs", "-n", self.namespace)["items"], [])


def lives(world, helm):
    release = Release(world, helm)
    world.kubectl("create", "namespace", release.namespace)
    world.apply(ACCESS, "-n", release.namespace)

    release.ask("install", CHART, "--wait", "--timeout=5m")
    release.hooks("install-early", "install-late", "installed")
    release.state(1, "deployed")
    world.same("the page", release.page(), "first")
    told = world.get("configmap", "page", "-n", release.namespace)["data"]
    served = json.loads(world.kubectl("version", "-o", "json"))["serverVersion"]["gitVersion"]
    world.same("what the chart was told", told, {"message": "first", "version": served, "policies": "true", "namespace": release.namespace})
    world.same("the custom resource of the chart", world.get("note", "page", "-n", release.namespace)["spec"], {"text": "first"})
    world.step(f"{helm} has installed a chart with a definition and hooks, the hooks in the order of their weights; its page is served")

    release.ask("test", "--timeout=5m")
    release.hooks("test")

    release.ask("upgrade", CHART, "--set=message=second,replicas=2", "--wait", "--timeout=5m")
    release.hooks("upgrade", "upgraded")
    release.state(2, "deployed")
    world.same("the page", release.page(), "second")
    world.same("replicas that are available", world.get("deployment", "page", "-n", release.namespace)["status"]["availableReplicas"], 2)
    world.step(f"{helm} has upgraded it")

    failing = world.run(helm, "upgrade", "page", CHART, f"--namespace={release.namespace}", "--set=message=third,failing=upgrade", "--wait", "--timeout=5m")
    if not failing.returncode or "pre-upgrade hooks failed" not in failing.stderr:
        raise cluster.Failed(f"an upgrade whose hook fails: {failing.stdout}{failing.stderr}")
    release.state(3, "failed")
    world.same("the page", release.page(), "second")
    # Jobs that fail stay, to be looked at
    world.kubectl("delete", "jobs", "--all", "-n", release.namespace)
    world.step(f"an upgrade whose hook fails has failed in {helm}, and the page is as before")

    release.ask("rollback", "1", "--wait", "--timeout=5m")
    release.hooks("roll", "rolled")
    world.same("the revision that is deployed", release.state(4, "deployed"), [4])
    world.same("the page", release.page(), "first")
    world.same("replicas", world.get("deployment", "page", "-n", release.namespace)["spec"]["replicas"], 1)
    world.same("the custom resource", world.get("note", "page", "-n", release.namespace)["spec"], {"text": "first"})
    world.step(f"{helm} has rolled it back")

    release.ask("uninstall", "--wait", "--timeout=5m")
    release.hooks("remove", "removed")
    left = world.get(KINDS, "-n", release.namespace, "-l", "release=page")["items"]
    world.same("what is left of the release", [(one["kind"], one["metadata"]["name"]) for one in left], [])
    world.same("releases", release.all(), [])
    world.step(f"{helm} has uninstalled it; nothing is left but its definition")
    world.kubectl("delete", "namespace", release.namespace, "--timeout=120s")


def conflicts(world, helm):
    """What Helm 4 does that Helm 3 does not: it applies on the server, beside others who do."""
    release = Release(world, helm, "shared")
    page = ["configmap", "page", "-n", release.namespace]
    world.kubectl("create", "namespace", release.namespace)
    world.apply(ACCESS, "-n", release.namespace)
    # as Helm 3 does, which is the owner of its fields by updates
    release.ask("install", CHART, "--set=message=old", "--no-hooks", "--server-side=false")
    release.ask("upgrade", CHART, "--set=message=new", "--no-hooks", "--server-side=true", "--force-conflicts")
    world.same("the method of the release", json.loads(release.ask("get metadata", "-o", "json"))["applyMethod"], "ssa")
    told = world.get(*page, "--show-managed-fields")["metadata"]["managedFields"]
    world.same("who has fields of the ConfigMap", [(one["manager"], one["operation"]) for one in told], [("helm", "Apply")])
    world.step(f"{helm} has taken over a release that a client applied, and applies it on the server")

    world.kubectl("apply", "--server-side", "--force-conflicts", "--field-manager=other", "-f", "-", text=OTHER.format(release.namespace))
    failing = world.run(helm, "upgrade", "page", CHART, f"--namespace={release.namespace}", "--set=message=newer", "--no-hooks")
    if not failing.returncode or 'conflict with "other"' not in failing.stderr or ".data.message" not in failing.stderr:
        raise cluster.Failed(f"an upgrade of a field that another has taken: {failing.stdout}{failing.stderr}")
    world.same("the field of the other", world.get(*page)["data"]["message"], "other")
    release.ask("upgrade", CHART, "--set=message=newest", "--no-hooks", "--force-conflicts")
    world.same("the ConfigMap", {key: world.get(*page)["data"].get(key) for key in ("message", "extra")}, {"message": "newest", "extra": "kept"})
    world.step("a field that another applied is a conflict, and is taken by force; what the other added stays")
    release.ask("uninstall", "--no-hooks", "--wait")
    world.kubectl("delete", "namespace", release.namespace, "--timeout=120s")


class Helm:
    """One version of it."""

    def __init__(self, program, *more):
        self.program, self.more = program, more
        self.NEEDS = ["kubectl", program]

    def images(self, programs):
        return [static_image("operators.test/kubectl:1", os.path.join(programs, "kubectl"))]

    def run(self, world):
        lives(world, self.program)
        for more in self.more:
            more(world, self.program)


HELM3, HELM4 = Helm("helm3"), Helm("helm4", conflicts)
