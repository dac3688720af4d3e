"""prometheus-operator by its own manifests, with its admission webhook: a Prometheus that runs, finds its targets and evaluates rules."""
import base64, json, os, subprocess, urllib.parse

from static_image import static_image

NEEDS = ["kubectl", "prometheus-operator", "prometheus"]
# Prometheus' own number, of which its module's leaves out the first
PROMETHEUS = """
apiVersion: monitoring.coreos.com/v1
kind: Prometheus
metadata: {{name: prometheus}}
spec:
  version: v{version}
  serviceAccountName: prometheus
  serviceMonitorSelector: {{}}
  ruleSelector: {{}}
  scrapeInterval: 5s
  evaluationInterval: 5s
  resources: {{requests: {{memory: 100Mi}}}}
"""
RULES = """
apiVersion: monitoring.coreos.com/v1
kind: PrometheusRule
metadata: {name: up}
spec:
  groups:
  - name: up
    rules:
    - {record: operators:up, expr: 'sum(up{job="prometheus-operator"}) + 41'}
    - alert: NothingIsUp
      expr: absent(up)
      annotations: {count: 5, told: true}
"""
BROKEN_RULES = """
apiVersion: monitoring.coreos.com/v1
kind: PrometheusRule
metadata: {name: broken}
spec: {groups: [{name: broken, rules: [{record: a, expr: "sum(up"}]}]}
"""
# the definition wants a list of groups
ODD_RULES = """
apiVersion: monitoring.coreos.com/v1
kind: PrometheusRule
metadata: {name: odd}
spec: {groups: odd}
"""
ALERTS = """
apiVersion: monitoring.coreos.com/v1alpha1
kind: AlertmanagerConfig
metadata: {name: alerts}
spec:
  route: {receiver: nobody, matchers: [{name: team, value: a.*, regex: true}], muteTimeIntervals: [night]}
  receivers: [{name: nobody}]
  muteTimeIntervals: [{name: night, timeIntervals: [{times: [{startTime: "22:00", endTime: "23:59"}]}]}]
"""
BROKEN_ALERTS = """
apiVersion: monitoring.coreos.com/v1beta1
kind: AlertmanagerConfig
metadata: {name: broken}
spec: {route: {receiver: somebody}, receivers: [{name: nobody}]}
"""
SERVICE = "prometheus-operator-admission-webhook"


def versions(programs):
    """The operator's, and Prometheus' as its releases count."""
    read = lambda name: open(os.path.join(programs, "versions", name)).read().strip()
    return read("prometheus-operator"), "3." + read("prometheus").removeprefix("0.3")


def images(programs):
    operator, prometheus = versions(programs)
    made = [
        static_image(f"quay.io/prometheus-operator/{name}:v{operator}", os.path.join(programs, "prometheus-operator", program), user="65534", folder="/bin")
        for name, program in [("prometheus-operator", "operator"), ("prometheus-config-reloader", "prometheus-config-reloader"), ("admission-webhook", "admission-webhook")]
    ]
    return made + [static_image(f"quay.io/prometheus/prometheus:v{prometheus}", os.path.join(programs, "prometheus"), user="65534", folder="/bin")]


def pair(folder, name):
    """A certificate for a name, which is its own authority, and its key."""
    paths = [os.path.join(folder, f"webhook.{kind}") for kind in ("crt", "key")]
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-subj", "/CN=webhook",
                    "-addext", f"subjectAltName=DNS:{name}", "-days", "2", "-out", paths[0], "-keyout", paths[1]], check=True, capture_output=True)
    return paths


def webhook(kind, name, path, versions, resource, bundle):
    """As the operator's documentation has it."""
    hook = {
        "name": f"{name}.monitoring.coreos.com", "failurePolicy": "Fail", "sideEffects": "None", "admissionReviewVersions": ["v1", "v1beta1"],
        "clientConfig": {"service": {"name": SERVICE, "namespace": "default", "path": path}, "caBundle": bundle},
        "rules": [{"apiGroups": ["monitoring.coreos.com"], "apiVersions": versions, "operations": ["CREATE", "UPDATE"], "resources": [resource]}],
    }
    return json.dumps({"apiVersion": "admissionregistration.k8s.io/v1", "kind": kind, "metadata": {"name": f"prometheus-operator-{name}"}, "webhooks": [hook]})


def ask(world, path, **query):
    """Prometheus' own API, behind the Service that the operator makes."""
    base = "/api/v1/namespaces/default/services/prometheus-operated:9090/proxy/api/v1/"
    return json.loads(world.kubectl("get", "--raw", f"{base}{path}?{urllib.parse.urlencode(query)}"))["data"]


def value(world, query):
    """What a query finds, if it is one number."""
    found = ask(world, "query", query=query)["result"]
    return float(found[0]["value"][1]) if len(found) == 1 else None


def targets(world):
    return sorted((one["labels"]["job"], one["labels"]["pod"], one["health"]) for one in ask(world, "targets", state="active")["activeTargets"])


def pods(world, selector):
    return sorted(one["metadata"]["name"] for one in world.get("pods", "-l", selector)["items"])


def scrapes(world, example):
    world.kubectl("create", "-f", os.path.join(world.programs, "prometheus-operator/bundle.yaml"))
    world.wait("condition=Established", "crd", "--all")
    world.wait("condition=Available", "deployment/prometheus-operator")
    world.step("its manifests are applied, its definitions are Established, its Deployment is available")

    for name in ("cluster-role", "cluster-role-binding", "service-account"):
        world.kubectl("apply", "-f", f"{example}/rbac/prometheus/prometheus-{name}.yaml")
    world.apply(PROMETHEUS.format(version=versions(world.programs)[1]))
    world.wait("condition=Available", "prometheus/prometheus")
    world.same("the pods of the StatefulSet", pods(world, "prometheus=prometheus"), ["prometheus-prometheus-0"])
    owner = world.get("statefulset", "prometheus-prometheus")["metadata"]["ownerReferences"]
    world.same("the owner of the StatefulSet", [(one["kind"], one["name"]) for one in owner], [("Prometheus", "prometheus")])
    world.step("a Prometheus has become a StatefulSet whose pod runs, and is Available")

    world.kubectl("apply", "-f", f"{example}/rbac/prometheus-operator/prometheus-operator-service-monitor.yaml")
    [operator] = pods(world, "app.kubernetes.io/name=prometheus-operator")
    world.until("it scrapes what the ServiceMonitor selects", lambda: targets(world) == [("prometheus-operator", operator, "up")])
    world.until("what is scraped can be asked for", lambda: value(world, "prometheus_operator_spec_replicas") == 1)
    world.step("it scrapes the operator, which a ServiceMonitor selects")

    node = {one["type"]: one["address"] for one in world.get("node", "node")["status"]["addresses"]}["InternalIP"]
    kubelet = world.get("endpoints", "kubelet", "-n", "kube-system")["subsets"]
    world.same("the addresses of kubelets that the operator keeps", [one["ip"] for subset in kubelet for one in subset["addresses"]], [node])


def admits(world, example):
    certificate, key = pair(world.folder, f"{SERVICE}.default.svc")
    with open(certificate, "rb") as f:
        bundle = base64.b64encode(f.read()).decode()
    world.kubectl("create", "secret", "tls", "admission-webhook-certs", f"--cert={certificate}", f"--key={key}")
    for name in ("service-account", "service", "deployment", "pod-disruption-budget"):
        world.kubectl("apply", "-f", f"{example}/admission-webhook/{name}.yaml")
    # of its two pods the second asks for a second node
    world.wait("condition=Available", f"deployment/{SERVICE}")
    world.apply(webhook("MutatingWebhookConfiguration", "rulesmutation", "/admission-prometheusrules/mutate", ["*"], "prometheusrules", bundle))
    world.apply(webhook("ValidatingWebhookConfiguration", "rulesvalidation", "/admission-prometheusrules/validate", ["*"], "prometheusrules", bundle))
    world.apply(webhook("ValidatingWebhookConfiguration", "alertsvalidation", "/admission-alertmanagerconfigs/validate", ["v1alpha1", "v1beta1"], "alertmanagerconfigs", bundle))

    world.until("the webhook admits a PrometheusRule", lambda: world.apply(RULES))
    found = world.get("prometheusrule", "up")
    world.same("annotations of a rule, which the webhook made texts before the definition saw them", found["spec"]["groups"][0]["rules"][1]["annotations"], {"count": "5", "told": "true"})
    world.same("what the webhook notes", found["metadata"]["annotations"]["prometheus-operator-validated"], "true")
    # of what is invalid kubectl shows the causes alone, and these come from the webhook
    world.refused(BROKEN_RULES, '"prometheusrules" is invalid', "could not parse expression", "unclosed left parenthesis")
    world.refused(ODD_RULES, '"prometheusrules" is invalid', "cannot unmarshal string into Go")
    world.step("its webhook has changed a PrometheusRule, and refused broken ones")

    # the pod's file changes when the kubelet looks again
    world.until("Prometheus evaluates the rule", lambda: value(world, "operators:up") == 42)
    world.step("Prometheus evaluates the rule")
    return bundle


def converts(world, example, bundle):
    definition = f"{example}/prometheus-operator-crd-full/monitoring.coreos.com_alertmanagerconfigs.yaml"
    world.kubectl("apply", "--server-side", "--force-conflicts", "-f", definition)
    service = {"name": SERVICE, "namespace": "default", "path": "/convert", "port": 443}
    conversion = {"strategy": "Webhook", "webhook": {"clientConfig": {"service": service, "caBundle": bundle}, "conversionReviewVersions": ["v1beta1", "v1alpha1"]}}
    world.kubectl("patch", "crd/alertmanagerconfigs.monitoring.coreos.com", "--type=merge", "-p", json.dumps({"spec": {"conversion": conversion}}))
    world.until("an AlertmanagerConfig of an old version", lambda: world.apply(ALERTS))
    newer = world.until("it is converted", lambda: (one := world.get("alertmanagerconfigs.v1beta1.monitoring.coreos.com", "alerts"))["spec"].get("timeIntervals") and one)
    world.same("its matcher in the newer version", newer["spec"]["route"]["matchers"], [{"matchType": "=~", "name": "team", "value": "a.*"}])
    world.same("its intervals in the newer version", [one["name"] for one in newer["spec"]["timeIntervals"]], ["night"])
    listed = world.get("alertmanagerconfigs.v1beta1.monitoring.coreos.com")["items"]
    world.same("what is listed in the newer version", [one["spec"] for one in listed], [newer["spec"]])
    world.kubectl("annotate", "alertmanagerconfigs.v1beta1.monitoring.coreos.com/alerts", "seen=true")
    older = world.get("alertmanagerconfigs.v1alpha1.monitoring.coreos.com", "alerts")
    world.same("its matcher in the older version", older["spec"]["route"]["matchers"][0].get("matchType"), "=~")
    world.same("its intervals in the older version", [one["name"] for one in older["spec"]["muteTimeIntervals"]], ["night"])
    world.same("what was written in the newer version", older["metadata"]["annotations"].get("seen"), "true")
    world.refused(BROKEN_ALERTS, '"alertmanagerconfigs" is invalid', "somebody")
    world.step("its webhook converts an AlertmanagerConfig between both versions")


def run(world):
    example = os.path.join(world.programs, "prometheus-operator/example")
    scrapes(world, example)
    bundle = admits(world, example)
    converts(world, example, bundle)

    world.kubectl("delete", "servicemonitor", "prometheus-operator")
    world.until("it forgets the target", lambda: targets(world) == [])
    world.step("without the ServiceMonitor it scrapes nothing")

    # what the definition calls replicas are shards
    world.kubectl("scale", "prometheus/prometheus", "--replicas=2")
    world.until("the second pod is available", lambda: world.get("prometheus", "prometheus")["status"].get("availableReplicas") == 2)
    world.same("the pods", pods(world, "prometheus=prometheus"), ["prometheus-prometheus-0", "prometheus-prometheus-shard-1-0"])
    world.step("`kubectl scale` has given it a second shard")
    world.kubectl("delete", "prometheus", "prometheus")
    world.until("its StatefulSets and pods go", lambda: not pods(world, "prometheus=prometheus") and not world.get("statefulsets")["items"])
    world.step("with the Prometheus its StatefulSets and pods are gone")
    # also the versions that are new
    world.kubectl("apply", "--server-side", "--force-conflicts", "-f", f"{example}/prometheus-operator-crd-full")
    world.wait("condition=Established", "crd", "--all")
    world.step("its full definitions are accepted")
