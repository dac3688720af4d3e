"""Holds the dependencies to the project's policy: permissive licences only, and no crate in two versions but those below. Holds
the API server to its floors: a file uses its own floor and those below it."""

import collections
import json
import pathlib
import re
import subprocess
import sys

LICENCES = {
    "0BSD",
    "Apache-2.0",
    "Apache-2.0 WITH LLVM-exception",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "CC0-1.0",
    "ISC",
    "MIT",
    "Unicode-3.0",
    "Unlicense",
    "Zlib",
}

# Crates that come in two versions or more, and whose doing that is.
DUPLICATES = {
    "base64": "pem and serde-saphyr are ahead of the rest",
    "block-buffer": "sha1 is ahead of sha2",
    "cpufeatures": "sha1 is ahead of sha2",
    "crypto-common": "sha1 is ahead of sha2",
    "digest": "sha1 is ahead of sha2",
    "foldhash": "goes with hashbrown",
    "getrandom": "ring is behind, tempfile and rand are ahead",
    "hashbrown": "petgraph is behind (build only)",
    "sha2": "rsa and p521 are ahead",
    "syn": "derive macros change over one by one (build only)",
    "synstructure": "goes with syn (build only)",
    "unicode-width": "miette is behind (build only)",
}


# The floors of the API server, from the ground up, by the first step of a module's path.
FLOORS = [
    {"audit", "egress", "expressions", "http", "kinds", "metrics", "registry", "tree", "webhook"},
    {"admission", "allocator", "authentication", "authorization", "pipeline"},
    {"aggregator", "api_services", "bootstrap_policy", "custom", "flow_control", "repair"},
    {"fuzzing", "server", "subresource", "table"},
]
SOURCE = pathlib.Path(__file__).resolve().parent.parent / "crates/apiserver/src"


def upward():
    """The uses that go up a floor, and the files that stand on none."""
    floor_of = {name: floor for floor, names in enumerate(FLOORS) for name in names}
    for path in sorted(SOURCE.rglob("*.rs")):
        own = path.relative_to(SOURCE).with_suffix("").parts[0]
        if own == "lib":
            continue
        if own not in floor_of:
            yield f"{path.relative_to(SOURCE)}: stands on no floor: add it to FLOORS"
            continue
        text = path.read_text().split("#[cfg(test)]\nmod ")[0]
        for i, line in enumerate(text.splitlines(), 1):
            for name in re.findall(r"\bcrate::(\w+)", line.split("//")[0]):
                if floor_of.get(name, -1) > floor_of[own]:
                    yield f"{path.relative_to(SOURCE)}:{i}: {own} uses {name}, which stands above it"


def permitted(expression):
    """Whether an SPDX expression can be met with LICENCES: an AND needs all its sides, an OR one."""
    words = re.findall(r"\(|\)|[^\s()]+", expression.replace("/", " OR "))

    def alternatives():
        met = together()
        while words and words[0] == "OR":
            words.pop(0)
            met = together() or met
        return met

    def together():
        met = one()
        while words and words[0] == "AND":
            words.pop(0)
            met = one() and met
        return met

    def one():
        word = words.pop(0)
        if word == "(":
            met = alternatives()
            words.pop(0)
            return met
        if words and words[0] == "WITH":
            word = f"{word} {words.pop(0)} {words.pop(0)}"
        return word in LICENCES

    return alternatives()


def main():
    command = ["cargo", "metadata", "--format-version=1", "--locked", "--filter-platform=x86_64-unknown-linux-gnu"]
    metadata = json.loads(subprocess.check_output(command))
    used = {node["id"] for node in metadata["resolve"]["nodes"]}
    packages = [package for package in metadata["packages"] if package["id"] in used]
    faults = []
    versions = collections.defaultdict(set)
    for package in packages:
        name = package["name"]
        versions[name].add(package["version"])
        if package["source"] and not permitted(package["license"] or "none"):
            faults.append(f"{name} {package['version']}: its licence is {package['license']}")
        if package["source"] and not package["source"].startswith("registry+"):
            faults.append(f"{name} {package['version']}: comes from {package['source']}, not from the registry")
    for name, found in sorted(versions.items()):
        if len(found) > 1 and name not in DUPLICATES:
            faults.append(f"{name}: is there in the versions {', '.join(sorted(found))}")
    for name in sorted(DUPLICATES):
        if len(versions[name]) < 2:
            faults.append(f"{name}: is there once: take it off DUPLICATES")
    faults.extend(upward())
    for fault in faults:
        print(fault, file=sys.stderr)
    print(f"{len(packages)} crates, {len(faults)} against the policy")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
