"""Counts what makes a house hard to live in, by crate: python3 packaging/house.py [crate ...]. `--list` shows the places."""

import collections
import pathlib
import re
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
STATE = re.compile(r"\bstatic (?:mut )?\w+: [^=]*\b(?:OnceLock|LazyLock|OnceCell|Mutex|RwLock|ArcSwap|Atomic\w+)\b")
ITEM = re.compile(r"\s*pub (?:async |const |unsafe )*(?:fn|struct|enum|trait|const|static|type|mod) (\w+)")
FUNCTION = re.compile(r"(\s*)(?:pub(?:\([^)]*\))? )?(?:async |const |unsafe )*fn (\w+)")
LONG = 100


def kinds():
    """The plurals of the resource table."""
    rows = (ROOT / "crates/api/data/resources.txt").read_text().splitlines()
    return {row.split()[2] for row in rows if not row.startswith(" ")}


def product(path):
    """A file's text without its tests."""
    text = path.read_text()
    at = text.find("#[cfg(test)]\nmod ")
    return text if at < 0 else text[:at]


def blocks(text):
    """The bodies of all matches."""
    for found in re.finditer(r"\bmatch\b[^;{}]*\{", text):
        depth, at = 1, found.end()
        while depth and at < len(text):
            depth += {"{": 1, "}": -1}.get(text[at], 0)
            at += 1
        yield found.start(), text[found.end() : at - 1]


def arms(body):
    """The patterns of a match: what stands before each `=>` at its own depth."""
    depth, start, at = 0, 0, 0
    while at < len(body):
        c = body[at]
        if c in "{([":
            depth += 1
        elif c in "})]":
            depth -= 1
            if depth == 0 and c == "}":
                start = at + 1
        elif depth == 0 and body.startswith("=>", at):
            yield body[start:at].strip(" ,\n")
        elif depth == 0 and c == ",":
            start = at + 1
        at += 1


def default_arms(text, plurals):
    """Matches over kinds that let an unknown one through."""
    for at, body in blocks(text):
        patterns = list(arms(body))
        named = {word for pattern in patterns for word in re.findall(r'"([a-z]+)"', pattern)} & plurals
        if named and any(re.match(r"_( if .*)?$", pattern, re.S) for pattern in patterns):
            yield text.count("\n", 0, at) + 1


def modules(crate):
    """The files of a crate by the path of their module."""
    source = ROOT / "crates" / crate / "src"
    found = {}
    for path in sorted(source.rglob("*.rs")):
        parts = list(path.relative_to(source).with_suffix("").parts)
        if parts[-1] in ("mod", "lib", "main"):
            parts.pop()
        found[tuple(parts)] = path
    return found


def paths(text, module):
    """The paths in the crate that a text names, with the braces of `use` opened."""

    def opened(prefix, rest):
        rest = rest.strip()
        if "{" not in rest:
            for part in rest.split(","):
                yield prefix + re.sub(r" as \w+", "", part).strip()
            return
        depth, part = 0, ""
        for c in rest + ",":
            if c == "," and depth == 0:
                head, brace, inner = part.partition("{")
                if brace:
                    yield from opened(prefix + head.strip(), inner[: inner.rindex("}")])
                elif part.strip():
                    yield from opened(prefix, part)
                part = ""
            else:
                depth += (c == "{") - (c == "}")
                part += c

    for use in re.findall(r"(?m)^\s*(?:pub(?:\([^)]*\))? )?use ([^;]+);", text):
        yield from opened("", re.sub(r"\s+", " ", use))
    for path in re.findall(r"\b(?:crate|super)(?:::\w+)+", text):
        yield path


def circles(crate):
    """The circles of files by use, but for those of a module and the ones inside it."""
    files = modules(crate)
    edges = collections.defaultdict(set)
    for module, path in files.items():
        for name in paths(product(path), module):
            parts = name.split("::")
            if parts[0] == "crate":
                at = parts[1:]
            elif parts[0] == "super":
                up = list(module)
                while parts and parts[0] == "super":
                    parts.pop(0)
                    up = up[:-1]
                at = up + parts
            elif module + (parts[0],) in files:
                at = list(module) + parts
            else:
                continue
            while at and tuple(at) not in files:
                at = at[:-1]
            if tuple(at) != module:
                edges[module].add(tuple(at))

    def kin(circle):
        root = min(circle, key=len)
        return all(module[: len(root)] == root for module in circle)

    return [circle for circle in components(files, edges) if len(circle) > 1 and not kin(circle)]


def components(nodes, edges):
    """Strongly connected components."""
    order, seen = [], set()
    for root in nodes:
        stack = [(root, iter(edges[root]))] if root not in seen else []
        seen.add(root)
        while stack:
            node, rest = stack[-1]
            step = next((n for n in rest if n not in seen), None)
            if step is None:
                order.append(node)
                stack.pop()
            else:
                seen.add(step)
                stack.append((step, iter(edges[step])))
    back = collections.defaultdict(set)
    for a, targets in edges.items():
        for b in targets:
            back[b].add(a)
    seen, found = set(), []
    for root in reversed(order):
        if root in seen:
            continue
        seen.add(root)
        group, stack = [], [root]
        while stack:
            node = stack.pop()
            group.append(node)
            new = back[node] - seen
            seen |= new
            stack.extend(new)
        found.append(group)
    return found


def undocumented(lines):
    for i, line in enumerate(lines):
        item = ITEM.match(line)
        before = i - 1
        while item and before >= 0 and lines[before].strip().startswith("#["):
            before -= 1
        # a module that has a file says on top of it what it owns
        if item and " mod " not in line and not lines[before].strip().startswith("///"):
            yield i + 1


def long_functions(lines):
    for i, line in enumerate(lines):
        start = FUNCTION.match(line)
        if not start or line.rstrip().endswith(";"):
            continue
        end = next((j for j in range(i, len(lines)) if lines[j].startswith(start[1] + "}")), i)
        if end - i + 1 > LONG:
            yield i + 1


def string_errors(lines):
    """Results whose error is a bare text, and not those whose value is made of texts."""
    for i, line in enumerate(lines):
        for found in re.finditer(r"\bResult<", line):
            depth, parts = 1, [""]
            for c in line[found.end() :].replace("->", "  "):
                depth += {"<": 1, "(": 1, "[": 1, ">": -1, ")": -1, "]": -1}.get(c, 0)
                if not depth:
                    break
                if c == "," and depth == 1:
                    parts.append("")
                else:
                    parts[-1] += c
            if not depth and len(parts) > 1 and parts[-1].strip() == "String":
                yield i + 1


def main():
    shown = "--list" in sys.argv
    names = [a for a in sys.argv[1:] if a != "--list"]
    names = names or sorted(p.parent.name for p in (ROOT / "crates").glob("*/src"))
    plurals = kinds()
    print(f"{'crate':20} {'lines':>7} {'default arms':>13} {'files in circles':>17} {'largest':>8} {'statics':>8} {'>100 lines':>11} {'String errors':>14} {'undocumented':>13}")
    for name in names:
        counts = collections.Counter()
        places = []
        for path in modules(name).values():
            text = product(path)
            lines = text.splitlines()
            counts["lines"] += sum(1 for line in lines if line.strip() and not line.strip().startswith("//"))
            for what, found in (
                ("default", default_arms(text, plurals)),
                ("static", (i + 1 for i, line in enumerate(lines) if STATE.search(line))),
                ("long", long_functions(lines)),
                ("string", string_errors(lines)),
                ("undocumented", undocumented(lines)),
            ):
                for line in found:
                    counts[what] += 1
                    places.append(f"{what}: {path.relative_to(ROOT)}:{line}")
        groups = circles(name)
        for group in groups:
            places.append("circle: " + " ".join(sorted("::".join(module) or "lib" for module in group)))
        inside = sum(map(len, groups))
        largest = max(map(len, groups), default=0)
        print(
            f"{name:20} {counts['lines']:7} {counts['default']:13} {inside:17} {largest:8} {counts['static']:8} "
            f"{counts['long']:11} {counts['string']:14} {counts['undocumented']:13}"
        )
        if shown:
            print("\n".join(places))


if __name__ == "__main__":
    main()
