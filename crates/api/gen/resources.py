#!/usr/bin/env python3
"""Writes crates/api/data/resources.txt from the aggregated discovery documents of a running upstream API server:
GET /api and /apis with Accept: application/json;v=v2;g=apidiscovery.k8s.io;as=APIGroupDiscoveryList.

    resources.py api.json apis.json > ../data/resources.txt

One line per resource: group version plural kind singular scope shortNames categories verbs field-selectors, then one
indented line per subresource: name group version kind verbs. An empty list is "-", the core group is "-"."""
import json
import sys

EVENT = ["involvedObject.kind", "involvedObject.namespace", "involvedObject.name", "involvedObject.uid",
         "involvedObject.apiVersion", "involvedObject.resourceVersion", "involvedObject.fieldPath", "reason",
         "reportingComponent", "type", "source"]
# From AddFieldLabelConversionFunc of k8s.io/kubernetes/pkg/apis/*/v1/conversion.go; the names every resource has
# (metadata.name, metadata.namespace) are not repeated.
FIELDS = {
    ("", "pods"): ["spec.nodeName", "spec.restartPolicy", "spec.schedulerName", "spec.serviceAccountName", "spec.hostNetwork",
                   "status.phase", "status.podIP", "status.podIPs", "status.nominatedNodeName"],
    ("", "nodes"): ["spec.unschedulable"],
    ("", "replicationcontrollers"): ["status.replicas"],
    ("", "events"): EVENT,
    ("", "namespaces"): ["status.phase"],
    ("", "secrets"): ["type"],
    ("", "services"): ["spec.clusterIP", "spec.type"],
    ("events.k8s.io", "events"): [f.replace("involvedObject", "regarding").replace("reportingComponent", "reportingController")
                                  for f in EVENT if f != "source"],
    ("apps", "replicasets"): ["status.replicas"],
    ("batch", "jobs"): ["status.successful"],
    ("certificates.k8s.io", "certificatesigningrequests"): ["spec.signerName"],
    ("certificates.k8s.io", "clustertrustbundles"): ["spec.signerName"],
    ("certificates.k8s.io", "podcertificaterequests"): ["spec.nodeName", "spec.podName", "spec.signerName"],
    ("resource.k8s.io", "resourceslices"): ["spec.nodeName", "spec.driver", "spec.pool.name"],
}


def names(items):
    return ",".join(items) if items else "-"


def main():
    for path in sys.argv[1:]:
        with open(path, encoding="utf-8") as file:
            document = json.load(file)
        for group in document["items"]:
            name = group["metadata"].get("name", "")
            for version in group["versions"]:
                for r in version["resources"]:
                    kind = r["responseKind"]
                    print(name or "-", version["version"], r["resource"], kind["kind"], r["singularResource"] or "-",
                          r["scope"], names(r.get("shortNames")), names(r.get("categories")), names(r["verbs"]),
                          names(FIELDS.get((name, r["resource"]))))
                    for s in r.get("subresources", []):
                        k = s.get("responseKind") or {}
                        print("", s["subresource"], k.get("group") or name or "-", k.get("version") or version["version"],
                              k.get("kind") or "-", names(s["verbs"]))


main()
