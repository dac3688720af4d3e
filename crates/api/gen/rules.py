#!/usr/bin/env python3
"""Writes crates/api/data/rules.txt: what upstream's types say of their values in tags (`+k8s:required`), by which its API server
validates objects: https://kubernetes.io/docs/reference/using-api/declarative-validation/

    rules.py "$(go list -m -f '{{.Dir}}' k8s.io/api)" "$(go list -m -f '{{.Dir}}' k8s.io/apimachinery)" > ../data/rules.txt

`gates=` names the features (`+featureGate`) without which a field is dropped.

Only versions that data/resources.txt serves are read, and only what is enforced: tags without a stage and those of stage beta. One line
`type NAME` a struct, then a line a rule: the field's name, `.` for the struct itself, and the rule as `rules/read.rs` reads it, in
the order in which they are asked."""
import os
import re
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
# these say nothing of values by themselves: they are read by others, name code that upstream has by hand, or are of other generators
SILENT = {"listMapKey", "customUnique", "customValidation", "opaqueType", "supportsSubresource", "isSubresource", "deprecated",
          "deepcopy-gen", "prerelease-lifecycle-gen", "conversion-gen", "conversion-fn", "openapi-gen", "validation-gen",
          "openapi-model-package", "defaulter-gen", "protobuf-gen", "validation", "conversion", "prerelease", "openapi"}
PLAIN = {"required", "optional", "immutable", "forbidden", "maxItems", "minItems", "maxLength", "minLength", "maxBytes", "maxProperties",
         "minProperties", "minimum", "maximum", "format", "monotonic", "update", "neq"}
# of these more than the field is dropped, which is up to the kind
ELSEWHERE = {"CrossNamespaceVolumeDataSource"}
# these end the asking when they find something
FIRST = ("required", "optional", "immutable", "forbidden", "maxItems", "maxProperties", "update")


def served():
    """(group, version) of what is served."""
    found = {("", "v1")}
    with open(os.path.join(HERE, "../data/resources.txt"), encoding="utf-8") as file:
        for line in file:
            if not line.startswith(" "):
                group, version = line.split(" ")[:2]
                found.add((group.removesuffix(".k8s.io").split(".")[0].replace("-", ""), version))
    return found


class Tag:
    """`+k8s:name(arguments)=value`; the value may be another tag."""

    def __init__(self, text):
        match = re.match(r"\+k8s:([A-Za-z-]+)(?:\(([^)]*)\))?(?::[a-z-]+)?(?:=(.*))?$", text)
        if not match:
            sys.exit(f"no tag: {text}")
        self.name, self.arguments, value = match[1], (match[2] or "").strip(), match[3]
        self.inner = Tag(value) if value and value.startswith("+k8s:") else None
        self.value = (value or "").strip('"`')

    def argument(self):
        return self.arguments.strip('"`')


class Package:
    # the values of constants of all packages by their names, as one may be another's: `AddressType(v1.IPv4Protocol)`
    values = {}

    def __init__(self, folder, name):
        self.name = name
        # struct: [(field, Go type, tags, feature gates)]; other named types: (Go type, tags); constants of a type
        self.structs, self.names, self.constants = {}, {}, {}
        with open(os.path.join(folder, "types.go"), encoding="utf-8") as file:
            self.read(file.read().splitlines())

    def read(self, lines):
        tags, gates, struct = [], [], None
        for line in lines:
            text = line.strip()
            if text.startswith("//"):
                comment = text[2:].strip()
                if comment.startswith("+k8s:"):
                    tags.append(Tag(comment))
                elif comment.startswith("+featureGate="):
                    gates.append(comment.removeprefix("+featureGate="))
                continue
            if struct is None:
                opened = re.match(r"type (\w+) struct \{$", text)
                named = re.match(r"type (\w+) ([\[\]\w.*]+)$", text)
                constant = re.match(r"(?:const )?(?P<name>\w+)\s+(?P<type>\w+)\s*=\s*(?:\w+\()?(?P<value>\"[^\"]*\")", text) or \
                    re.match(r"(?:const )?(?P<name>\w+)\s*=\s*(?P<type>\w+)\((?P<value>\"[^\"]*\"|\w+\.\w+)\)", text)
                if opened:
                    struct = opened[1]
                    self.structs[struct] = []
                elif named:
                    self.names[named[1]] = (named[2], tags)
                elif constant:
                    self.constants.setdefault(constant["type"], set()).add(constant["value"])
                    self.values[constant["name"]] = constant["value"]
            elif line == "}":
                struct = None
            else:
                field = re.match(r"(?:(\w+)\s+)?([\w.\[\]*]+)\s+`([^`]*)`", text)
                json = field and re.search(r'json:"([^",]*)', field[3])
                if json:
                    own = field[1] or field[2].split(".")[-1]
                    # an embedded struct has no name in JSON, and the schema calls it by its Go name
                    self.structs[struct].append((json[1] or own[:1].lower() + own[1:], field[2], tags, gates))
            tags, gates = [], []

    def enum(self, go_type):
        """The values of a named type that is marked so."""
        _, tags = self.names.get(go_type, ("", []))
        if any(tag.name == "enum" for tag in map(enforced, tags) if tag):
            values = (self.values.get(value.split(".")[-1], value) for value in self.constants.get(go_type, ()))
            return "enum=" + "|".join(sorted(value.strip('"') for value in values))
        return None


def enforced(tag):
    """The tag without its stage; None where it is only watched."""
    if tag.name == "alpha":
        return None
    return tag.inner if tag.name == "beta" else tag


def rule(tag):
    """How a tag is written; None for one that is silent."""
    if tag.name in SILENT:
        return None
    if tag.name in PLAIN:
        return f"{tag.name}={tag.value}" if tag.value else tag.name
    inner = tag.inner and rule(tag.inner)
    if tag.name in ("eachVal", "eachKey", "subfield", "ifEnabled", "ifDisabled"):
        argument = f" {tag.argument()}" if tag.arguments else ""
        return f"{tag.name}{argument} {inner}" if inner else None
    sys.exit(f"unknown tag {tag.name}")


def field_rules(package, go_type, tags):
    """(rules of the field, unions that it is a member of, modes)."""
    staged = [tag for tag in tags if tag.name == "beta"]
    plain = sorted((tag for tag in tags if tag.name not in ("alpha", "beta")), key=lambda tag: tag.name)
    asked = [tag for tag in (enforced(tag) for tag in staged + plain) if tag]
    keys = [tag.value for tag in asked if tag.name == "listMapKey"]
    custom = any(tag.name == "customUnique" for tag in asked)
    found, members, items = [], [], []
    for tag in asked:
        if tag.name in ("unionMember", "zeroOrOneOfMember", "unionDiscriminator", "modeDiscriminator", "ifMode"):
            members.append(tag)
        elif tag.name == "item" and tag.inner.name == "zeroOrOneOfMember":
            items.append(re.sub(r"\s", "", tag.arguments).replace('"', ""))
        elif tag.name == "listType" and tag.value in ("map", "set") or tag.name == "unique":
            # keys tell which item of the stored list an item is, whether or not uniqueness is asked elsewhere
            word = "match" if custom else "unique"
            found.append(f"{word}={','.join(keys)}")
        elif tag.name != "listType" and (written := rule(tag)):
            found.append(written)
    if items:
        found.append("atMostOneItem " + " ".join(items))
    bare = go_type.lstrip("*")
    if values := package.enum(bare):
        found.append(values)
    elif bare.startswith("[]") and (values := package.enum(bare[2:])):
        found.append(f"eachVal {values}")

    def is_first(text):
        words = text.split(" ")
        return words[-1].split("=")[0] in FIRST and words[0] not in ("eachVal", "eachKey")

    return sorted(found, key=lambda text: not is_first(text)), members


def write(package):
    for struct, fields in sorted(package.structs.items()):
        lines, union, at_most_one, modes, mode = [], [], [], [], None
        for name, go_type, tags, gates in fields:
            rules, members = field_rules(package, go_type, tags)
            gates = [gate for gate in gates if gate not in ELSEWHERE]
            rules += [f"gates={','.join(gates)}"] if gates else []
            lines += [f" {name} {text}" for text in rules]
            for tag in members:
                if tag.arguments and tag.name != "ifMode":
                    sys.exit(f"{struct}.{name}: a union with a name")
                if tag.name == "unionMember":
                    union.append(name)
                elif tag.name == "zeroOrOneOfMember":
                    at_most_one.append(name)
                elif tag.name == "modeDiscriminator":
                    mode = name
                elif tag.name == "ifMode":
                    modes.append(f"{tag.argument()} {name} {rule(tag.inner)}")
                else:
                    sys.exit(f"{struct}.{name}: unknown {tag.name}")
        whole = [f" . union={','.join(union)}"] if union else []
        whole += [f" . atMostOne={','.join(at_most_one)}"] if at_most_one else []
        # upstream asks them by the names of the members
        whole += [f" . mode {mode} {text}" for text in sorted(modes, key=lambda text: text.split(" ")[1])]
        if whole or lines:
            print(f"type {package.name}.{struct}", *whole, *lines, sep="\n")


def main():
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    api, machinery = sys.argv[1:]
    known = served()
    folders = [(os.path.join(machinery, "pkg/apis/meta/v1"), "meta.v1")]
    for group in os.listdir(api):
        for version in os.listdir(os.path.join(api, group)) if os.path.isdir(os.path.join(api, group)) else ():
            if (group if group != "core" else "", version) in known:
                folders.append((os.path.join(api, group, version), f"{group}.{version}"))
    for folder, name in sorted(folders, key=lambda pair: pair[1]):
        write(Package(folder, name))


main()
