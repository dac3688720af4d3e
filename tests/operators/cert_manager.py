"""cert-manager: its controller, webhook and cainjector as its own chart installs them."""
import base64, os, shutil, ssl, tempfile

import cluster
from static_image import static_image

NEEDS = ["kubectl", "helm3", "cert-manager"]
PARTS = ["controller", "webhook", "cainjector"]

ROOT = """
apiVersion: cert-manager.io/v1
kind: Issuer
metadata: {name: self, namespace: shop}
spec: {selfSigned: {}}
---
apiVersion: cert-manager.io/v1
kind: Certificate
metadata: {name: root, namespace: shop}
spec:
  isCA: true
  commonName: root of shop
  secretName: root
  privateKey: {algorithm: ECDSA, size: 256}
  issuerRef: {name: self}
"""
WEB = """
apiVersion: cert-manager.io/v1
kind: Issuer
metadata: {name: shop, namespace: shop}
spec: {ca: {secretName: root}}
---
apiVersion: cert-manager.io/v1
kind: Certificate
metadata: {name: web, namespace: shop}
spec:
  dnsNames: [web.shop.test]
  secretName: web
  duration: 24h
  issuerRef: {name: shop}
"""
INGRESS = """
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata:
  name: front
  namespace: shop
  annotations: {cert-manager.io/issuer: shop}
spec:
  tls: [{hosts: [front.shop.test], secretName: front}]
  rules:
  - host: front.shop.test
    http: {paths: [{path: /, pathType: Prefix, backend: {service: {name: web, port: {number: 80}}}}]}
"""
NAMELESS = """
apiVersion: cert-manager.io/v1
kind: Certificate
metadata: {name: nameless, namespace: shop}
spec: {secretName: nameless, issuerRef: {name: shop}}
"""
DOUBLE = """
apiVersion: cert-manager.io/v1
kind: Issuer
metadata: {name: double, namespace: shop}
spec: {selfSigned: {}, ca: {secretName: root}}
"""
UNKNOWN_ALGORITHM = """
apiVersion: cert-manager.io/v1
kind: Certificate
metadata: {name: odd, namespace: shop}
spec: {dnsNames: [a.test], secretName: odd, issuerRef: {name: shop}, privateKey: {algorithm: ROT13}}
"""
LATER = """
apiVersion: cert-manager.io/v1
kind: Certificate
metadata: {name: later, namespace: shop}
spec: {dnsNames: [later.shop.test], secretName: later, issuerRef: {name: shop}}
"""


def version(programs):
    with open(os.path.join(programs, "versions/cert-manager")) as f:
        return "v" + f.read().split()[0]


def images(programs):
    return [
        static_image(f"quay.io/jetstack/cert-manager-{part}:{version(programs)}", os.path.join(programs, "cert-manager", part), user="1000")
        for part in PARTS
    ]


def chart(world):
    """The chart as cert-manager's release makes it of its tree: the definitions become a template."""
    tree, made = os.path.join(world.programs, "cert-manager/deploy"), os.path.join(world.folder, "cert-manager")
    shutil.copytree(os.path.join(tree, "charts/cert-manager"), made)
    os.rename(os.path.join(made, "Chart.template.yaml"), os.path.join(made, "Chart.yaml"))
    definitions = []
    for name in sorted(os.listdir(os.path.join(tree, "crds"))):
        if name.endswith(".yaml"):
            with open(os.path.join(tree, "crds", name)) as f:
                definitions.append(f.read())
    with open(os.path.join(made, "templates/crds.yaml"), "w") as f:
        f.write("{{- if .Values.installCRDs }}\n" + "\n---\n".join(definitions) + "\n{{- end }}\n")
    released = version(world.programs)
    world.ask("helm3", "package", f"--app-version={released}", f"--version={released}", f"--destination={world.folder}", made)
    return os.path.join(world.folder, f"cert-manager-{released}.tgz")


def secret(world, name):
    data = world.get("secret", name, "-n", "shop").get("data", {})
    return {key: base64.b64decode(value).decode() for key, value in data.items()}


def shake_hands(found, trusted, name):
    """A server that has the Secret and a client that trusts the root agree, or ssl.SSLError."""
    server, client = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    with tempfile.NamedTemporaryFile("w") as pair:
        pair.write(found["tls.key"] + found["tls.crt"])
        pair.flush()
        server.load_cert_chain(pair.name)
    client.load_verify_locations(cadata=trusted)
    up, down = ssl.MemoryBIO(), ssl.MemoryBIO()
    sides = [client.wrap_bio(down, up, server_hostname=name), server.wrap_bio(up, down, server_side=True)]
    for _ in range(10):
        for side in list(sides):
            try:
                side.do_handshake()
                sides.remove(side)
            except ssl.SSLWantReadError:
                pass
    if sides:
        raise cluster.Failed(f"{name}: the handshake does not end")


def bundles(world):
    """The authorities that cainjector wrote into the configurations of the webhook."""
    found = []
    for kind in ("validatingwebhookconfiguration", "mutatingwebhookconfiguration"):
        found += [hook["clientConfig"].get("caBundle") for hook in world.get(kind, "cert-manager-webhook")["webhooks"]]
    return found


def run(world):
    world.ask(
        "helm3", "install", "cert-manager", chart(world), "--namespace=cert-manager", "--create-namespace", "--set=installCRDs=true",
        # a Job with another program, which asks what is asked here
        "--set=startupapicheck.enabled=false", "--wait", "--timeout=5m",
    )
    world.wait("condition=Established", "crd", "-l", "app.kubernetes.io/instance=cert-manager")
    world.step("its chart is installed, its three Deployments are available")

    world.until("cainjector writes the webhook's authority into its configurations", lambda: all(bundles(world)))
    issued = world.get("secret", "cert-manager-webhook-ca", "-n", "cert-manager")["data"]["ca.crt"]
    world.same("the authorities of the webhooks", set(bundles(world)), {issued})
    world.step("cainjector has written the authority of the webhook")

    world.kubectl("create", "namespace", "shop")
    world.until("the webhook admits an Issuer and a Certificate", lambda: world.apply(ROOT))
    world.wait("condition=Ready", "certificate/root", "-n", "shop")
    root = secret(world, "root")
    world.same("the issuer of a certificate that signs itself", root["tls.crt"], root["ca.crt"])
    world.step("a self-signed Issuer has issued a root; the Certificate is Ready")

    world.apply(WEB)
    world.wait("condition=Ready", "issuer/shop", "certificate/web", "-n", "shop")
    first = secret(world, "web")
    shake_hands(first, root["tls.crt"], "web.shop.test")
    world.step("an Issuer with that root has issued web.shop.test; a client that trusts the root accepts it")

    requests = world.get("certificaterequests", "-n", "shop")["items"]
    world.same("who asked, as the mutating webhook writes it", {one["spec"].get("username") for one in requests}, {"system:serviceaccount:cert-manager:cert-manager"})
    world.step("its mutating webhook has written into the requests who asks")

    by_webhook = 'admission webhook "webhook.cert-manager.io" denied the request'
    world.refused(NAMELESS, by_webhook, "at least one of commonName, dnsNames")
    world.refused(DOUBLE, by_webhook, "may not specify more than one issuer type")
    world.refused(UNKNOWN_ALGORITHM, 'spec.privateKey.algorithm: Unsupported value: "ROT13"')
    request = requests[0]["metadata"]["name"]
    done = world.run("kubectl", "patch", "certificaterequest", request, "-n", "shop", "--type=merge", "-p", '{"spec":{"isCA":true,"duration":"2h"}}')
    if not done.returncode or by_webhook not in done.stderr:
        raise cluster.Failed(f"a request that was made may not change: {done.stdout}{done.stderr}")
    world.step("its webhook refuses a nameless Certificate, an Issuer of two types, another spec of a request; its schema an odd algorithm")

    world.kubectl("delete", "secret", "web", "-n", "shop")
    again = world.until("a deleted Secret is issued again", lambda: secret(world, "web"))
    if again["tls.crt"] == first["tls.crt"]:
        raise cluster.Failed("the Secret that was deleted is the same again")
    shake_hands(again, root["tls.crt"], "web.shop.test")
    world.step("a Secret that was deleted has been issued again")

    world.apply(INGRESS)
    world.until("an Ingress has a Certificate", lambda: world.get("certificate", "front", "-n", "shop"))
    world.wait("condition=Ready", "certificate/front", "-n", "shop")
    shake_hands(secret(world, "front"), root["tls.crt"], "front.shop.test")
    world.step("an Ingress with its annotation has got a certificate")

    newest = world.version_of("cert-manager")[1]
    folder = os.path.join(world.programs, "cert-manager/newest-crds")
    files = [f"--filename={os.path.join(folder, name)}" for name in sorted(os.listdir(folder)) if name.endswith(".yaml")]
    world.kubectl("apply", "--server-side", "--force-conflicts", *files)
    world.wait("condition=Established", *files)
    world.apply(LATER)
    world.wait("condition=Ready", "certificate/later", "certificate/web", "-n", "shop")
    shake_hands(secret(world, "later"), root["tls.crt"], "later.shop.test")
    world.step(f"the definitions of {newest} have replaced its own; what was issued is Ready, and more is issued")

    world.ask("helm3", "uninstall", "cert-manager", "--namespace=cert-manager", "--wait", "--timeout=5m")
    world.until("the definitions and their objects are gone", lambda: "cert-manager.io" not in world.kubectl("get", "crd", "-o", "name") and "gone")
    world.step("its chart is uninstalled")
