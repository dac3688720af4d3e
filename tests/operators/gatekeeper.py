"""Gatekeeper by its own chart, hooks included: templates in Rego and in CEL, mutation, audit, and what its webhook refuses."""
import os

import cluster, oci
from static_image import static_image

NEEDS = ["kubectl", "helm4", "gatekeeper"]
TEAM = """
apiVersion: constraints.gatekeeper.sh/v1beta1
kind: K8sRequiredLabels
metadata: {name: pods-have-a-team}
spec:
  match: {kinds: [{apiGroups: [""], kinds: [Pod]}], namespaces: [shop]}
  parameters: {labels: [team]}
"""
POD = """
apiVersion: v1
kind: Pod
metadata: {{name: {}, namespace: shop, labels: {{{}}}}}
spec: {{containers: [{{name: c, image: operators.test/nothing:1, imagePullPolicy: Never}}]}}
"""
DEPLOYMENT = """
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, namespace: shop}
spec:
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec: {containers: [{name: c, image: operators.test/nothing:1, imagePullPolicy: Never}]}
"""
TEMPLATE = """
apiVersion: templates.gatekeeper.sh/v1
kind: ConstraintTemplate
metadata: {{name: {lower}}}
spec:
  crd: {{spec: {{names: {{kind: {kind}}}}}}}
  targets:
  - target: admission.k8s.gatekeeper.sh
    {code}
"""
BROKEN_REGO = TEMPLATE.format(lower="broken", kind="Broken", code='rego: "package broken\\nviolation[{\\"msg\\": msg}] { msg := }"')
MISNAMED = TEMPLATE.format(lower="misnamed", kind="Other", code='rego: "package other\\nviolation[{\\"msg\\": \\"no\\"}] { true }"')
# the template's policy in CEL is made into a ValidatingAdmissionPolicy of the API server's
NATIVE = TEMPLATE.format(lower="shortnames", kind="ShortNames", code="""code:
    - engine: K8sNativeValidation
      source:
        generateVAP: true
        validations:
        - expression: "size(object.metadata.name) <= 10"
          messageExpression: "'the name of ' + object.metadata.name + ' is long'"
""")
SHORT = """
apiVersion: constraints.gatekeeper.sh/v1beta1
kind: ShortNames
metadata: {name: short}
spec:
  enforcementAction: scoped
  scopedEnforcementActions: [{action: deny, enforcementPoints: [{name: vap.k8s.io}]}]
  match: {kinds: [{apiGroups: [""], kinds: [ConfigMap]}], namespaces: [shop]}
"""
MAP = """
apiVersion: v1
kind: ConfigMap
metadata: {{name: {}, namespace: shop}}
"""
OWNER = """
apiVersion: mutations.gatekeeper.sh/v1
kind: AssignMetadata
metadata: {name: owner}
spec:
  match: {scope: Namespaced, kinds: [{apiGroups: ["*"], kinds: [Pod]}], namespaces: [shop]}
  location: metadata.labels.owner
  parameters: {assign: {value: shopkeeper}}
"""
POLICY = 'admission webhook "validation.gatekeeper.sh" denied the request: '


def version(programs):
    with open(os.path.join(programs, "versions/gatekeeper")) as f:
        return "v" + f.read().strip()


def images(programs):
    oci.install(["curl", "ca-certificates"])
    released, crds = version(programs), oci.Layer()
    folder = os.path.join(programs, "gatekeeper/gatekeeper/crds")
    for name in os.listdir(folder):
        crds.file(f"crds/{name}", os.path.join(folder, name), 0o644)
    return [
        static_image(f"docker.io/openpolicyagent/gatekeeper:{released}", os.path.join(programs, "gatekeeper/manager")),
        # for the chart's hooks
        static_image(f"docker.io/openpolicyagent/gatekeeper-crds:{released}", os.path.join(programs, "kubectl"), layers=[crds]),
        (["docker.io/curlimages/curl:8.20.0"], [oci.Layer().merged_usr().program("/usr/bin/curl")], {"User": "100"}),
    ]


def status(world, *what):
    return world.get(*what).get("status") or {}


def ignored(world):
    """Requests that went through because a webhook failed whose policy is to ignore that."""
    text = world.kubectl("get", "--raw", "/metrics")
    return [line for line in text.splitlines() if line.startswith("apiserver_admission_webhook_fail_open_count{")]


def rego(world, chart):
    world.kubectl("create", "namespace", "shop")
    world.apply(POD.format("before", ""))
    world.kubectl("apply", "-f", os.path.join(chart, "../basic/templates/k8srequiredlabels_template.yaml"))
    world.wait("jsonpath={.status.created}=true", "constrainttemplate/k8srequiredlabels")
    world.until("the constraint's kind is served", lambda: world.apply(TEAM))
    world.until("each of its pods enforces the constraint", lambda: enforced(world, "k8srequiredlabels.constraints.gatekeeper.sh/pods-have-a-team"))
    world.refused(POD.format("without", ""), POLICY + '[pods-have-a-team] you must provide labels: {"team"}')
    world.apply(POD.format("with", "team: a"))
    world.step("a template and its constraint in Rego refuse a pod without a label, and admit one with it")

    world.apply(DEPLOYMENT)
    failure = lambda: [one["message"] for one in status(world, "deployment", "web", "-n", "shop").get("conditions", []) if one["type"] == "ReplicaFailure"]
    told = world.until("the Deployment tells why it has no pods", failure)
    if POLICY.strip() not in told[0]:
        raise cluster.Failed(f"the condition of the Deployment: {told}")
    world.kubectl("delete", "deployment", "web", "-n", "shop")
    world.step("a Deployment tells that its pods are refused")

    # what the webhook checks of a template is whether it makes a definition; Rego is read by those who enforce it
    world.refused(MISNAMED, POLICY, 'the ConstraintTemplate\'s name "misnamed" is not equal to the lowercase of CRD\'s Kind: "other"')
    world.apply(BROKEN_REGO)
    errors = lambda: {error["code"] for pod in status(world, "constrainttemplate", "broken").get("byPod", []) for error in pod.get("errors", []) if "rego_parse_error" in error["message"]}
    world.until("the template's status tells that its Rego is broken", errors)
    world.kubectl("delete", "constrainttemplate", "broken")
    world.refused(TEAM.replace("labels: [team]", "labels: team"), "spec.parameters.labels", "must be of type array")
    world.step("a template that makes no definition is refused by its webhook, broken Rego told in its status, a constraint with wrong parameters refused by the definition that the template made")

    violations = lambda: [(one["kind"], one["namespace"], one["name"], one["message"]) for one in status(world, "k8srequiredlabels", "pods-have-a-team").get("violations", [])]
    world.until("audit finds the pod that was there before", lambda: violations() == [("Pod", "shop", "before", 'you must provide labels: {"team"}')])
    world.step("audit has found the pod that was there before")


def enforced(world, constraint):
    """Each pod of Gatekeeper says so in the constraint's status."""
    pods = {one["metadata"]["name"] for one in world.get("pods", "-n", "gatekeeper-system", "-l", "gatekeeper.sh/operation in (webhook,audit)")["items"]}
    return {one["id"] for one in status(world, constraint).get("byPod", []) if one.get("enforced")} >= pods


def native(world):
    world.apply(NATIVE)
    world.wait("jsonpath={.status.created}=true", "constrainttemplate/shortnames")
    world.until("the constraint's kind is served", lambda: world.apply(SHORT))
    policy = world.until("the template is made a policy", lambda: world.get("validatingadmissionpolicy", "gatekeeper-shortnames"))
    world.same("the parameters of the policy", policy["spec"]["paramKind"], {"apiVersion": "constraints.gatekeeper.sh/v1beta1", "kind": "ShortNames"})
    world.until("the constraint is made a binding", lambda: world.get("validatingadmissionpolicybinding", "gatekeeper-shortnames-short"))
    refused = "ValidatingAdmissionPolicy 'gatekeeper-shortnames' with binding 'gatekeeper-shortnames-short' denied request: the name of much-too-long is long"

    def refuses():
        world.refused(MAP.format("much-too-long"), refused)
        return True

    world.until("the policy refuses", refuses)
    world.apply(MAP.format("short"))
    world.kubectl("delete", "shortnames", "short")
    world.until("without the constraint nothing refuses", lambda: world.apply(MAP.format("much-too-long")))
    world.step("a template and its constraint in CEL have become a ValidatingAdmissionPolicy and its binding, which refuse")


def mutation(world):
    world.apply(OWNER)
    labels = lambda: world.get("pod", "owned", "-n", "shop")["metadata"].get("labels")

    def owned():
        world.run("kubectl", "delete", "pod", "owned", "-n", "shop", "--now", "--ignore-not-found")
        world.apply(POD.format("owned", "team: a"))
        return labels() == {"owner": "shopkeeper", "team": "a"}

    world.until("a mutator labels pods", owned)
    world.refused(OWNER.replace("metadata.labels.owner", "spec.x"), "denied the request: ")
    world.step("a mutator labels pods; one of a place that it may not change is refused")


def run(world):
    chart = os.path.join(world.programs, "gatekeeper/gatekeeper")
    world.ask("helm4", "install", "gatekeeper", chart, "--namespace=gatekeeper-system", "--create-namespace", "--set=auditInterval=10,defaultWaitForVAPBGeneration=1", "--wait", "--timeout=8m")
    # a hook of the chart's does it
    labels = world.get("namespace", "gatekeeper-system")["metadata"]["labels"]
    world.same("labels of its namespace", (labels.get("admission.gatekeeper.sh/ignore"), labels.get("pod-security.kubernetes.io/enforce")), ("no-self-managing", "restricted"))
    world.wait("condition=Established", "crd", "--all")
    world.step("its chart is installed, its definitions are Established, its Deployments are available")
    # its policy is to ignore a webhook that fails, so that its refusal shows that it is asked
    world.refused(MISNAMED, POLICY)
    world.same("requests for which its webhook has failed", ignored(world), [])
    world.step("its webhook refuses from then on; nothing got by because it did not answer")
    rego(world, chart)
    native(world)
    mutation(world)
    world.ask("helm4", "uninstall", "gatekeeper", "--namespace=gatekeeper-system", "--wait")
    world.apply(POD.format("after", ""))
    world.step("its chart is uninstalled; any pod is admitted")
