"""The schema table of the `api` crate, read for the rigs: which fields a kind has, of which type."""
from functools import lru_cache
from pathlib import Path

DATA = Path(__file__).resolve().parents[2] / "crates/api/data"


class Field:
    def __init__(self, line):
        name, tag, type_, flags, *more = line.split()
        self.name, self.tag, self.type, self.flags = name, int(tag), type_, flags
        self.more = dict(part.partition("=")[::2] for part in more)


@lru_cache(maxsize=None)
def types():
    """Fields by the name of a type, and the names of types by `apiVersion/kind`."""
    by_name, by_kind, current = {}, {}, None
    for line in (DATA / "schema.txt").read_text().splitlines():
        if line.startswith("type "):
            _, name, *marks = line.split()
            current = by_name[name] = []
            for mark in marks:
                if mark.startswith("kind="):
                    by_kind[mark[5:]] = name
        elif line.startswith(" "):
            current.append(Field(line))
    return by_name, by_kind


@lru_cache(maxsize=None)
def fields(name):
    """The members of a type as JSON has them: name to type; inlined types are opened."""
    made = {}
    for field in types()[0].get(name, []):
        if "i" in field.flags and field.type.startswith("@"):
            made.update(fields(field.type[1:]))
        else:
            made[field.name] = field.type
    return made


def of_kind(api_version, kind):
    group, _, version = api_version.rpartition("/")
    return "@" + types()[1][f"{group}/{version}/{kind}"]


def item(type_):
    """The type of what a list or map holds, or None."""
    for prefix in ("[]", "{}"):
        if type_.startswith(prefix):
            return type_[2:].lstrip("^")
    return item(type_[1:]) if type_.startswith("^") else None


def walk(value, type_, path=()):
    """Every value in a tree with its path and type, the tree itself first."""
    yield path, type_, value
    if type_.startswith("@") and isinstance(value, dict):
        known = fields(type_[1:])
        for name, one in value.items():
            if name in known:
                yield from walk(one, known[name], path + (name,))
    elif type_.startswith("{}") and isinstance(value, dict):
        for name, one in value.items():
            yield from walk(one, item(type_), path + (name,))
    elif type_.startswith("[]") and isinstance(value, list):
        for index, one in enumerate(value):
            yield from walk(one, item(type_), path + (index,))


def resources():
    """Rows of the resource table: (group version, resource, kind, namespaced, {subresource: (group version, kind, verbs)}, verbs)."""
    rows = []
    for line in (DATA / "resources.txt").read_text().splitlines():
        parts = line.split(" ")
        if line.startswith(" "):
            _, name, group, version, kind, verbs = parts[:6]
            rows[-1][4][name] = (version if group == "-" else f"{group}/{version}", kind, verbs.split(","))
        else:
            group, version, resource, kind, _, scope = parts[:6]
            rows.append((version if group == "-" else f"{group}/{version}", resource, kind, scope == "Namespaced", {}, parts[8].split(",")))
    return rows
