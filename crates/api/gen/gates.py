#!/usr/bin/env python3
"""Writes crates/api/data/gates.txt: upstream's feature gates, one a line: its name, then its stages, each `VERSION:STAGE:on|off`, with
`:locked` where its value may not be changed.

    cd tests/conformance && python3 ../../crates/api/gen/gates.py $(go list -m -f '{{.Dir}}' k8s.io/kubernetes k8s.io/apiserver \\
        k8s.io/apiextensions-apiserver k8s.io/component-base k8s.io/controller-manager) > ../../crates/api/data/gates.txt"""
import glob
import os
import re
import sys


def read(path):
    """{name: stages} of the tables of one file."""
    with open(path, encoding="utf-8") as file:
        text = file.read()
    names = dict(re.findall(r"(\w+)\s+featuregate\.Feature\s*=\s*\"(\w+)\"", text))
    found = {}
    for key, body in re.findall(r"^\t(?:\w+\.)?(\w+): \{\n(.*?)^\t\},", text, re.M | re.S):
        stages = re.findall(r"MustParse\(\"([\d.]+)\"\), (.*?)\}", body)
        stages = [(version, dict(re.findall(r"(\w+): ([\w.]+)", rest))) for version, rest in stages]
        if key in names and stages:
            found[names[key]] = [
                ":".join([version, facts["PreRelease"].split(".")[-1] or "GA", "on" if facts["Default"] == "true" else "off"]
                         + ["locked"] * (facts.get("LockToDefault") == "true"))
                for version, facts in stages
            ]
    return found


def main():
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    gates = {}
    for folder in sys.argv[1:]:
        for path in glob.glob(os.path.join(folder, "**/kube_features.go"), recursive=True):
            if "/vendor/" not in path and "/staging/" not in path:
                gates.update(read(path))
    for name, stages in sorted(gates.items()):
        print(name, *stages)


main()
