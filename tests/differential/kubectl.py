"""The kubectl rig: upstream's kubectl and ours run the same command lines, each on objects of its own, against upstream's API server and
every fifth time against skiff's. Compared: exit code, standard output and error, and the requests that change something.

A seed takes a template of kubectl_lines.txt and chooses among its alternatives; every eighth seed then spoils a word. A template may have
several lines, ` ;; ` between them, that build on each other. What ours refuses as not built is a group of its own.
"""
import json
import random
import re
from pathlib import Path

import world
from servers import Program
from world import FILES

# lines are short; making them shorter takes as long as all of them
SHRINK = 0
NS = "@@-SIDE"
TEMPLATES = [line for line in (Path(__file__).parent / "kubectl_lines.txt").read_text().splitlines() if line and not line.startswith("#")]
LISTS = dict(re.match(r"(\$\w+) = (.*)", line).groups() for line in TEMPLATES if line.startswith("$"))
TEMPLATES = [line for line in TEMPLATES if not line.startswith("$")]
ODD_WORDS = ["--nope", "-Z", "--output", "-o", "extra", "nope/nope", "--namespace=nope", "-n", "--all", "--dry-run=sometimes", "-l", "a=(", "/", "--",
             "-A", "--selector=x in (", "--field-selector=a", "--request-timeout=x", "--server=http://127.0.0.1:1", "--context=nope",
             "--kubeconfig=nope", "--v=x", "--as=nobody", "pods", "nope.example.org", "--filename=nope.yaml"]


def fixtures():
    return [{"method": "POST", "path": path, "body": body} for path, body in world.FIXTURES]


def certificates():
    return {}


def sides(servers):
    upstream, skiff = servers
    return [Program("upstream", [f"{upstream.programs}/kubectl"], "t", servers), Program("skiff", [skiff.program, "kubectl"], "o", servers)]


def chosen(text, rng):
    """A template with one of each `<a|b>` in it."""
    while True:
        text = re.sub(r"\$[A-Z_]+", lambda m: LISTS[m[0]], text)
        found = re.search(r"<([^<>]*)>", text)
        if not found:
            return text
        text = text[:found.start()] + rng.choice(found[1].split("|")) + text[found.end():]


def script(seed):
    rng = random.Random(f"kubectl {seed}")
    text = chosen(TEMPLATES[(seed - 1) % len(TEMPLATES)], rng)
    lines = [words(line) for line in text.split(" ;; ")]
    if seed % 8 == 0:
        line = rng.choice(lines)["words"]
        at = rng.randrange(len(line))
        if line[0] != "!":
            line[at:at + rng.choice([0, 1])] = rng.choice([[rng.choice(ODD_WORDS)], [], [line[at], line[at]]])
    return made(lines, text, seed)


def words(line):
    """A line's step: `NAME=value` before it is its environment, `STDIN=file` what it reads."""
    step = {"words": [word.replace("~", " ") for word in line.partition(" # ")[0].split()], "env": {}}
    while step["words"] and (match := re.fullmatch(r"([A-Z_]+)=(.*)", step["words"][0])):
        step["words"].pop(0)
        if match[1] == "STDIN":
            step["stdin"] = match[2]
        else:
            step["env"][match[1]] = match[2]
    return step


def made(lines, text, seed):
    """The objects that the lines name, the lines, and what removes it all."""
    text = text + "".join(FILES.get(name, "") for name in re.findall(r"[\w/.-]+", text))
    text = text.replace("NS", NS)
    core = f"/api/v1/namespaces/{NS}"
    steps = [{"setup": True, "method": "POST", "path": "/api/v1/namespaces", "body": {"metadata": {"name": NS, "labels": {"world": NS}}}},
             {"setup": True, "method": "POST", "path": core + "/serviceaccounts", "body": {"metadata": {"name": "default"}}}]
    after = [{"after": True, "method": "DELETE", "path": f"/api/v1/namespaces/{NS}"}]
    for name, (path, body, status) in {**world.NAMESPACED, **world.CLUSTER}.items():
        if not re.search(rf"(?<![\w]){name}(?![\w])", text):
            continue
        cluster = name in world.CLUSTER
        full = f"{name}-{NS}" if cluster else name
        group, _, resource = path.rpartition("/")
        path = f"{group}/{resource}" if cluster else f"{group}/namespaces/{NS}/{resource}"
        labels = {"world": NS, **body.get("metadata", {}).get("labels", {})}
        steps.append({"setup": True, "method": "POST", "path": path,
                      "body": {**body, "metadata": {**body.get("metadata", {}), "name": full, "labels": labels}}})
        if status:
            steps.append({"setup": True, "method": "PATCH", "path": f"{path}/{full}/status", "body": {"status": status},
                          "headers": {"Content-Type": "application/merge-patch+json"}})
        if cluster:
            after.append({"after": True, "method": "DELETE", "path": f"{path}/{full}"})
    for line in lines:
        line.update({"files": FILES, "namespace": NS})
    steps = steps + lines + after
    for number, step in enumerate(steps):
        step["n"] = number
    steps[0]["server"] = 1 if seed % 5 == 0 else 0
    return steps


def named(script, number):
    """The script with a namespace of its own in place of `@@`, also where a line says NS."""
    name = f"w{number:05}"

    def fill(value, line=False):
        if isinstance(value, dict):
            return {fill(k, line): fill(v, line) for k, v in value.items()}
        if isinstance(value, list):
            return [fill(one, line) for one in value]
        return (value.replace("NS", NS) if line else value).replace("@@", name) if isinstance(value, str) else value
    return [fill(step, "words" in step) for step in script], name


NORMAL = [(re.compile(pattern), by) for pattern, by in [
    (r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}", "UID"),
    (r'(?i)(resourceVersion"?: ?"?|resource version:? +|resourceVersion=)[0-9]+', r"\1V"),
    (r'("path": "/metadata/resourceVersion", "value": ")[0-9]+', r"\1V"),
    (r"[EIW][0-9]{4} [0-9:.]+ +[0-9]+ ", "LOG "),
    (r"[0-9]{4}-[0-9]{2}-[0-9]{2}[T ][0-9:.]+( [+-][0-9]{4}( \w+)?|Z|[+-][0-9:]+)?", "TIME"),
    (r"\w{3}, [0-9]{2} \w{3} [0-9]{4} [0-9:]+ [+-][0-9]{4}", "TIME"),
    # of an event that lies long back: it is a day more tomorrow
    (r"(?<![\w.])[0-9]{3}d(?![\w])", "DAYS"),
    (r"<invalid>|(?<![\w.])[0-9]+m?[0-9]*s(?![\w])", "AGE"),
    (r"\b10\.96\.[0-9]+\.[0-9]+\b *", "IP "), (r"CLUSTER-IP +", "CLUSTER-IP "),
    (r"((?i:node-?port)\W.*?)3[0-9]{4}", r"\1PORT"), (r":3[0-9]{4}/", ":PORT/"),
    (r"(LIVE|MERGED|edit)-[0-9a-zA-Z]+", r"\1"),
    (r"/tmp/[\w.-]+", "TEMPORARY"),
    (r"kube-api-access-\w+", "kube-api-access-X"),
    (r"debugger-\w{5}\b", "debugger-X"),
    (r"eyJ[\w-]+\.[\w-]+\.[\w-]+", "TOKEN"),
]]


def plain(text, name):
    text = re.sub(rf"{name}-[to]", "NS", text)
    for pattern, by in NORMAL:
        text = pattern.sub(by, text)
    return text


def normal(step, answer, name, text):
    if answer.get("code") == -1:
        return {"code": answer["body"]}
    out, err = plain(answer["stdout"], name), plain(answer["stderr"], name)
    if any(word in ("--help", "-h", "options") for word in step["words"]) or re.search(r"(?m)^Usage:", out):
        # the prose is each program's own, also where a wrong use is answered with it
        out = " ".join(sorted(set(re.findall(r"--[a-z][\w-]*", out)) - {"--help", "--version"})) if answer["code"] == 0 or re.search(r"(?m)^Usage:", out) else ""
    # how often and in which order it reads is a program's own affair; what it reads shows in what it says
    asked = [f"{method} {path}?{'&'.join('='.join(pair) for pair in query)} {sorted_text(method, body)}"
             for method, path, query, body in answer["requests"] if method != "GET"]
    return {"code": answer["code"], "stdout": out, "stderr": err, "requests": [plain(one, name) for one in asked]}


def sorted_text(method, body):
    if isinstance(body, str):
        return "protobuf" if body.startswith("k8s\0") else body
    if method == "DELETE":
        body = {name: value for name, value in body.items() if name not in ("kind", "apiVersion")}
    return json.dumps(body, sort_keys=True)


def kinds(step, ours, theirs):
    """A difference belongs to its command and to the first line of the text that differs."""
    command = " ".join(re.split(r"[ /](?=\S*[=@/])", " ".join(word for word in step["words"] if not word.startswith("-")))[0].split(" ")[:2])
    refused = re.search(r'unknown command "?[\w-]+|unknown (shorthand )?flag: \S+|.*not supported[^\n]*', ours.get("stderr", ""))
    if refused and refused[0] not in theirs.get("stderr", ""):
        return [f"not built: {command}: {refused[0]}"]
    for part in ("code", "stderr", "stdout"):
        if ours.get(part) != theirs.get(part):
            return [f"{command}: {part}: {first_difference(ours.get(part), theirs.get(part))}"[:160]]
    # upstream sends some objects as protobuf, which stand here for themselves
    pairs = list(zip(ours["requests"], theirs["requests"]))
    same = all(a == b or b.endswith(" protobuf") and a.partition(" {")[0] == b.removesuffix(" protobuf") for a, b in pairs)
    if same and len(ours["requests"]) == len(theirs["requests"]):
        return []
    return [f"{command}: requests: {first_difference(ours['requests'], theirs['requests'])}"[:160]]


def first_difference(ours, theirs):
    if not isinstance(ours, (str, list)) or type(ours) is not type(theirs):
        return f"{ours} not {theirs}"
    split = (lambda one: one.splitlines()) if isinstance(ours, str) else list
    a, b = split(ours), split(theirs)
    at = next((at for at, (x, y) in enumerate(zip(a, b)) if x != y), min(len(a), len(b)))
    one = (b[at:] or a[at:] or [""])[0]
    return re.sub(r"\s+", " ", re.sub(r'"[^"]*"', '""', one)).strip()
