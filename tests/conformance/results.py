"""What ginkgo reports of a run: its JSON read, runs merged, a junit file written."""
import datetime, json, os, re
import xml.etree.ElementTree as ElementTree


def name_of(spec):
    return " ".join((spec["ContainerHierarchyTexts"] or []) + [spec["LeafNodeText"]])


TAG = r"\[(?!sig-)[^\]]*\]"


def alone(name):
    return "[Serial]" in name or "[Disruptive]" in name


def key(name):
    """How lists name a test: without its tags, which come, go and change their places with versions; `[Serial]` last, if it runs alone."""
    return " ".join(re.sub(TAG, " ", name).split()) + (" [Serial]" if alone(name) else "")


def pattern(key):
    """A regular expression of the test that a list names so, whatever its tags."""
    words = [re.escape(word) for word in key.removesuffix(" [Serial]").split(" ")]
    return r"( \[[^\]]*\])* ".join(words) + r"( \[[^\]]*\])*$"


def sig(name):
    found = re.match(r"\[(sig-[a-z-]+)\]", name)
    return found[1] if found else "other"


def slug(name):
    """A folder's name: a test's without its tags, short enough for any file system."""
    plain = re.sub(TAG, "", name)
    return re.sub(r"[^A-Za-z0-9]+", "-", plain).strip("-")[:150]


def moment(text):
    """Seconds of a time that may have nine digits after the point."""
    text = re.sub(r"(\.\d{6})\d+", r"\1", text).replace("Z", "+00:00")
    return datetime.datetime.fromisoformat(text).timestamp()


def output(spec):
    """A spec's timeline: what it wrote, its steps at their places, why it failed."""
    written = spec.get("CapturedGinkgoWriterOutput", "").encode()
    events = [e for e in spec.get("SpecEvents") or [] if e["SpecEventType"] in ("By", "Node")]
    parts, last = [], 0
    for event in sorted(events, key=lambda e: e["TimelineLocation"].get("Offset", 0)):
        offset, clock = event["TimelineLocation"].get("Offset", 0), event["TimelineLocation"]["Time"][11:23]
        parts.append(written[last:offset])
        last = max(last, offset)
        if event["SpecEventType"] == "By":
            parts.append(f"STEP: {event.get('Message', '')} {clock}\n".encode())
    text = b"".join(parts + [written[last:]]).decode(errors="replace")
    text += spec.get("CapturedStdOutErr", "")
    for failure in [spec.get("Failure"), *(f["Failure"] for f in spec.get("AdditionalFailures") or [])]:
        if failure:
            place = failure.get("Location") or {}
            text += f"\n[FAILED] {failure.get('Message', '')}\n{failure.get('ForwardedPanic', '')}\n"
            text += f"{place.get('FileName', '')}:{place.get('LineNumber', '')}\n{place.get('FullStackTrace', '')}\n"
    return f"{name_of(spec)}\n{text}"


def namespaces(text):
    """The namespaces that a test made."""
    return sorted(set(re.findall(r'namespace "([a-z0-9-]+-\d+)"', text)))


def why(spec):
    failure = spec.get("Failure") or {}
    text = " ".join((failure.get("Message", "") or failure.get("ForwardedPanic", "")).split())
    return text[:300]


def read(path, phase):
    """The specs of one call of ginkgo that ran."""
    if not os.path.exists(path):
        return []
    with open(path) as f:
        reports = [s for suite in json.load(f) for s in suite["SpecReports"] or []]
    found = []
    for spec in reports:
        if spec["LeafNodeType"] != "It" or spec["State"] == "pending" or not spec.get("NumAttempts"):
            continue
        one = {"name": name_of(spec), "phase": phase, "state": spec["State"], "seconds": round(spec["RunTime"] / 1e9, 1),
               "start": moment(spec["StartTime"]), "end": moment(spec["EndTime"])}
        if spec["State"] != "passed":
            one.update(why=why(spec), output=output(spec))
        found.append(one)
    return found


def complete(specs, wanted):
    """One result for every wanted (name, phase), in order; what never ran says so."""
    seen = {s["name"]: s for s in specs}
    missing = {"state": "not run", "seconds": 0, "why": "did not run: the suite was interrupted or ended early"}
    return [seen.get(name) or {"name": name, "phase": phase, **missing} for name, phase in wanted]


def merge(runs):
    """Specs of several runs of the same tests: passed is what passed in all; `flaky` what passed in some."""
    merged = []
    for name in dict.fromkeys(s["name"] for specs in runs for s in specs):
        of_run = [s for specs in runs for s in specs if s["name"] == name]
        bad = next((s for s in of_run if s["state"] != "passed"), None)
        one = dict(bad or of_run[0])
        one["seconds"] = max(s["seconds"] for s in of_run)
        one["flaky"] = bool(bad) and any(s["state"] == "passed" for s in of_run)
        merged.append(one)
    return merged


def junit(specs, seconds, path):
    root = ElementTree.Element("testsuites")
    failed = [s for s in specs if s["state"] not in ("passed", "skipped")]
    suite = ElementTree.SubElement(root, "testsuite", name="Kubernetes conformance", tests=str(len(specs)), failures=str(len(failed)),
                                   skipped=str(sum(s["state"] == "skipped" for s in specs)), time=str(seconds))
    for spec in specs:
        case = ElementTree.SubElement(suite, "testcase", name=spec["name"], classname=sig(spec["name"]), time=str(spec["seconds"]))
        if spec["state"] != "passed":
            kind = "skipped" if spec["state"] == "skipped" else "failure"
            # a character that XML cannot hold would spoil the file
            text = re.sub(r"[^\t\n\r\x20-\ud7ff\ue000-\ufffd]", "?", spec.get("why", ""))
            ElementTree.SubElement(case, kind, message=text, type=spec["state"])
    ElementTree.ElementTree(root).write(path, encoding="utf-8", xml_declaration=True)
