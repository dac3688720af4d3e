#!/usr/bin/env python3
"""What a fresh cluster has, of upstream's programs and of skiff: every object of every kind, the pages that say what there is, and what OpenAPI says.
Prints what differs; what is each cluster's own (keys, times, names that are made up) is left out, and so are the sentences of OpenAPI.

    fresh.py --programs DIR --skiff BINARY --out DIR     (make fresh)"""
import argparse, json, os, pathlib, re, sys, time

from servers import Skiff, Upstream

OWN = {"uid", "resourceVersion", "creationTimestamp", "lastTransitionTime", "time"}
PAGES = ["/", "/api", "/apis", "/api/v1", "/healthz?verbose", "/livez?verbose", "/readyz?verbose"]
# what is told apart by a number or a hash
MADE_UP = re.compile(r"(?<=[.:-])(?:[0-9a-f]{16,}|[0-9a-z]{26})$")
SECONDS = 15


def arguments():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--programs", required=True, help="the folder that `tests/upstream/build.sh` filled (`control-plane`)")
    parser.add_argument("--skiff", required=True, help="skiff's binary")
    parser.add_argument("--out", required=True, help="a folder for the two clusters")
    return parser.parse_args()


def plain(tree, key=""):
    """A tree without what is its cluster's own."""
    if isinstance(tree, dict):
        return {k: plain(v, k) for k, v in tree.items() if k not in OWN}
    if isinstance(tree, list):
        made = [plain(one) for one in tree]
        return sorted(made, key=lambda one: json.dumps(one, sort_keys=True)) if key in ("managedFields", "resources") else made
    if isinstance(tree, str):
        if "BEGIN CERTIFICATE" in tree:
            return "<certificate>"
        return re.sub(r"hash=[0-9A-F]+", "hash=...", tree) if key == "serverRelativeURL" else MADE_UP.sub("...", tree)
    return tree


def silent(tree):
    """A document of OpenAPI without its sentences."""
    if isinstance(tree, dict):
        return {k: silent(v) for k, v in tree.items() if k != "description" or not isinstance(v, str)}
    return [silent(one) for one in tree] if isinstance(tree, list) else tree


def document(side, path):
    body = side.ask([{"method": "GET", "path": path}])[0]["body"]
    return json.loads(body) if isinstance(body, str) else body


def holdings(side):
    """Everything, by where it stands."""
    found = {}
    groups = ["/api/v1"] + [f"/apis/{v['groupVersion']}" for g in document(side, "/apis")["groups"] for v in g["versions"]]
    for group in groups:
        for resource in document(side, group)["resources"]:
            if "list" in resource["verbs"]:
                for one in document(side, f"{group}/{resource['name']}")["items"] or ():
                    name = MADE_UP.sub("...", one["metadata"]["name"])
                    found[f"{group} {resource['name']} {one['metadata'].get('namespace', '')}/{name}"] = plain(one)
    for page in PAGES:
        answer = side.ask([{"method": "GET", "path": page}])[0]
        body = answer["body"]
        found[page] = plain(body) if isinstance(body, dict) else {line: "" for line in str(body).splitlines() if not line.startswith("#")}
    for place, at in document(side, "/openapi/v3")["paths"].items():
        found[f"/openapi/v3/{place}"] = silent(document(side, at["serverRelativeURL"]))
    found["/openapi/v2"] = {k: silent(v) for k, v in document(side, "/openapi/v2").items() if k in ("definitions", "security", "info")}
    return found


def differences(theirs, ours, path=""):
    if isinstance(theirs, dict) and isinstance(ours, dict):
        for key in sorted(theirs.keys() | ours.keys()):
            at = f"{path}.{key}" if path else key
            if key not in ours:
                yield at, theirs[key], None
            elif key not in theirs:
                yield at, None, ours[key]
            else:
                yield from differences(theirs[key], ours[key], at)
    elif theirs != ours:
        yield path, theirs, ours


def main():
    args = arguments()
    pathlib.Path(args.out).mkdir(parents=True, exist_ok=True)
    sides = [Upstream(args.out, args.programs, "control-plane"), Skiff(args.out, os.path.abspath(args.skiff), "control-plane")]
    try:
        for side in sides:
            side.start(f"fresh-{os.getpid()}")
        # the controllers' first work
        time.sleep(SECONDS)
        theirs, ours = map(holdings, sides)
    finally:
        for side in sides:
            side.stop()
    count = 0
    for at, upstream, skiff in differences(theirs, ours):
        count += 1
        print(f"{at}\n  upstream: {json.dumps(upstream)[:300]}\n  skiff:    {json.dumps(skiff)[:300]}")
    print(f"{len(theirs)} objects, pages and documents of upstream's, {len(ours)} of skiff's: {count} differences")


if __name__ == "__main__":
    sys.exit(main())
