#!/usr/bin/env python3
"""Writes crates/api/data/openapi.txt: what upstream's OpenAPI documents say of types that is in no struct tag and no published document.

    openapi.py DIR > ../data/openapi.txt, where DIR has what an API server of upstream answers at each path of `/openapi/v3`, as JSON.

A line for each type that has any: its unions, and the fields it requires where their order is not that of their tags; below it a line for each of its
fields whose values are named (`field[]` for the items of a list, `field{}` for those of a map)."""
import json, pathlib, sys

SCHEMA = pathlib.Path(__file__).resolve().parent.parent / "data/schema.txt"


def by_tag():
    """The required fields of each type in the order of their tags, by the type's name in OpenAPI."""
    packages, fields, name = {}, {}, None
    for line in SCHEMA.read_text().splitlines():
        words = line.split()
        if line.startswith(" "):
            fields[name].append((int(words[1]), words[0], words[2], words[3]))
        elif words[0] == "package":
            packages[words[1]] = words[2]
        else:
            package, _, kind = words[1].rpartition(".")
            name = f"{packages[package]}.{kind}"
            fields[name] = []

    def required(name):
        found = []
        for _, field, ty, flags in sorted(fields[name], key=lambda f: f[0]):
            if "i" in flags:
                package, _, kind = ty.lstrip("@").rpartition(".")
                found += required(f"{packages[package]}.{kind}")
            elif "r" in flags:
                found.append(field)
        return found
    return {name: required(name) for name in fields}


types, tagged = {}, by_tag()
for path in sorted(pathlib.Path(sys.argv[1]).glob("*.json")):
    for name, schema in json.loads(path.read_text()).get("components", {}).get("schemas", {}).items():
        said = types.setdefault(name, {"facts": [], "values": {}})
        said["facts"] = []
        if unions := schema.get("x-kubernetes-unions"):
            said["facts"].append("unions=" + json.dumps(unions, separators=(",", ":"), sort_keys=True))
        required = schema.get("required", [])
        if name in tagged and required != tagged[name]:
            said["facts"].append("required=" + ",".join(required))
        for field, of in schema.get("properties", {}).items():
            for mark, within in (("", of), ("[]", of.get("items")), ("{}", of.get("additionalProperties"))):
                if isinstance(within, dict) and within.get("enum"):
                    said["values"][field + mark] = within["enum"]
for name, said in sorted(types.items()):
    if said["facts"] or said["values"]:
        print(" ".join([name, *said["facts"]]))
        for field, values in sorted(said["values"].items()):
            print(f" {field} {'|'.join(values)}")
