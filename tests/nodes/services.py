#!/usr/bin/env python3
"""services.py KUBECONFIG: makes Services and changes their endpoints, as the lines on its input say. Answers are lines of JSON.

  fill FROM TO       makes the Services crowd-FROM to crowd-TO, each with a slice of two endpoints: seconds
  watched            makes the Service `watched` whose port 7000 leads to no endpoint: its cluster address
  endpoint ADDRESS   gives it this one (`none`: takes it away): when (monotonic seconds) that was asked
"""
import concurrent.futures, http.client, json, os, sys, threading, time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../conformance"))
from api import Api

WRITERS = 16
SERVICES = "/api/v1/namespaces/default/services"
SLICES = "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices"


class Writer:
    def __init__(self, api):
        self.connection = http.client.HTTPSConnection(api.server.hostname, api.server.port, context=api.context, timeout=120)

    def send(self, method, path, thing):
        self.connection.request(method, path, json.dumps(thing), {"Content-Type": "application/json", "Accept": "application/json"})
        answer = self.connection.getresponse()
        body = answer.read()
        if answer.status not in (200, 201):
            raise SystemExit(f"{method} {path}: {answer.status} {body[:500].decode(errors='replace')}")
        return json.loads(body)


def service(name):
    return {"apiVersion": "v1", "kind": "Service", "metadata": {"name": name}, "spec": {"ports": [{"port": 7000, "protocol": "TCP"}]}}


def slice_of(name, addresses):
    return {"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
            "metadata": {"name": name, "labels": {"kubernetes.io/service-name": name}},
            "endpoints": [{"addresses": [address], "conditions": {"ready": True}} for address in addresses],
            "ports": [{"name": "", "port": 7000, "protocol": "TCP"}]}


def fill(api, first, last):
    own, began = threading.local(), time.monotonic()

    def write(number):
        if not hasattr(own, "writer"):
            own.writer = Writer(api)
        name, hosts = f"crowd-{number}", [f"10.{250 + more}.{number // 250}.{number % 250 + 1}" for more in range(2)]
        own.writer.send("POST", SERVICES, service(name))
        own.writer.send("POST", SLICES, slice_of(name, hosts))
    with concurrent.futures.ThreadPoolExecutor(WRITERS) as writers:
        # the first that fails ends it
        for _ in writers.map(write, range(int(first), int(last) + 1)):
            pass
    return time.monotonic() - began


def watched(api):
    writer = Writer(api)
    made = writer.send("POST", SERVICES, service("watched"))
    writer.send("POST", SLICES, slice_of("watched", []))
    return made["spec"]["clusterIP"]


def endpoint(writer, address):
    began = time.monotonic()
    writer.send("PUT", f"{SLICES}/watched", slice_of("watched", [] if address == "none" else [address]))
    return began


def main():
    api = Api(sys.argv[1])
    writer = Writer(api)
    for line in sys.stdin:
        command, *words = line.split()
        if command == "fill":
            answer = fill(api, *words)
        elif command == "watched":
            answer = watched(api)
        elif command == "endpoint":
            answer = endpoint(writer, *words)
        else:
            raise SystemExit(f"what is {line!r}?")
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
