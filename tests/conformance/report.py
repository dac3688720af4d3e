#!/usr/bin/env python3
"""Says how a run went: a summary by SIG, what the cluster gave back, docs/conformance.md, the lists of what passes.

report.py --write docs/conformance.md RESULTS.json...: writes the page again from the results of a whole run (or of several).
"""
import json, os, random, subprocess, sys, time

import results

HERE = os.path.dirname(os.path.abspath(__file__))
PAGE = os.path.join(HERE, "../../docs/conformance.md")
PASSING, UPSTREAM, REASONS = (os.path.join(HERE, name) for name in ("passing.txt", "upstream.txt", "reasons.txt"))
# a sample is of what one run takes; a debug build on a machine that has just compiled is slower
SLOWER = 1.5


def minutes(seconds):
    return f"{seconds / 60:.0f} min" if seconds >= 600 else f"{seconds // 60:.0f}:{seconds % 60:02.0f} min"


def by_sig(specs):
    """{sig: (passed, total)}, sorted."""
    table = {}
    for spec in specs:
        passed, total = table.get(results.sig(spec["name"]), (0, 0))
        table[results.sig(spec["name"])] = (passed + (spec["state"] == "passed"), total + 1)
    return dict(sorted(table.items()))


def count(specs):
    return f"{sum(s['state'] == 'passed' for s in specs)} of {len(specs)}"


def print_specs(specs, folder=None):
    for name, (passed, total) in by_sig(specs).items():
        print(f"  {name:28} {passed:4} of {total:4}" + ("" if passed == total else f"   {total - passed} not"))
    missing = sum(spec["state"] == "not run" for spec in specs)
    if missing:
        print(f"{missing} did not run")
    for spec in specs:
        if spec["state"] not in ("passed", "not run"):
            print(f"{'flaky' if spec.get('flaky') else spec['state']}: {spec['name']} ({spec['seconds']:.0f} s)")
            print(f"    {spec.get('why') or 'no reason given'}")
            if folder:
                print(f"    {os.path.join(folder, 'failures', results.slug(spec['name']))}")


def print_run(run, folder):
    print()
    print_specs(run["specs"], folder)
    print(f"\n{run['against']} {run['version']}: {count(run['specs'])} passed in {minutes(run['seconds'])}; {folder}")
    if len(run["holds"]) > 1:
        print_holds(run["holds"])


def print_merged(specs, runs):
    print(f"\n{runs} runs together: {count(specs)} passed in all of them")
    print_specs(specs)


def print_holds(sides):
    """Before the run, after it, and when it was compacted away."""
    for side in sides:
        if "error" in side:
            print(f"what the cluster holds was not measured: {side['error']}")
            return
    titles = ("before", "after", "compacted")[: len(sides)]
    row = lambda name, *values: print(f"  {name:40}" + "".join(f" {value:>12}" for value in values))
    print()
    row("it holds", *titles)
    names = lambda part: sorted({name for side in sides for name in side[part]})
    for name in names("processes"):
        of = [side["processes"].get(name, {}) for side in sides]
        row(f"{name}: processes", *(p.get("count", 0) for p in of))
        for unit, key in (("MiB PSS", "pss"), ("MiB anonymous", "anonymous"), ("MiB RSS", "rss")):
            row(f"    {unit}", *(f"{p.get(key, 0) / 1024:.1f}" for p in of))
        row("    threads", *(p.get("threads", 0) for p in of))
        row("    open files", *(p.get("files", 0) for p in of))
    for name in names("counts"):
        row(name, *(side["counts"].get(name, 0) for side in sides))
    for name in names("disk"):
        sizes = [side["disk"].get(name, 0) for side in sides]
        # only what is more than a few files
        if max(sizes) >= 1024:
            row(f"MiB in {name}", *(size >> 10 for size in sizes))
    for name in names("objects"):
        numbers = [side["objects"].get(name, 0) for side in sides]
        if len(set(numbers)) > 1:
            row(name, *numbers)


def held(runs):
    """What the page says of that, if the last run waited for the compaction: of all runs on its cluster."""
    together = [run for run in runs if run.get("cluster") == runs[-1]["cluster"]]
    sides = [together[0]["holds"][0], *(side for run in together for side in run["holds"][1:])]
    if any(len(run["holds"]) < 3 for run in together) or any("error" in side for side in sides):
        return []
    total = lambda side, key: sum(p.get(key, 0) for p in side["processes"].values())
    rows = [
        ("memory of all processes, PSS", lambda side: f"{total(side, 'pss') / 1024:.0f} MiB"),
        ("of that, of no file", lambda side: f"{total(side, 'anonymous') / 1024:.0f} MiB"),
        ("open files", lambda side: str(total(side, "files"))),
        ("disk", lambda side: f"{side['disk'].get('cluster', 0) >> 10} MiB"),
        *((name, lambda side, name=name: str(side["counts"][name])) for name in ("processes", "mounts", "cgroups", "links")),
    ]
    titles = ["before the run", "after it", "and its revisions are compacted"]
    if len(together) > 1:
        titles = ["before", *(title for number in range(1, len(together) + 1) for title in (f"after run {number}", "compacted"))]
    lines = ["", "## What the cluster holds", "", f"| | {' | '.join(titles)} |", "|---|" + "---:|" * len(titles)]
    return lines + [f"| {name} | " + " | ".join(value(side) for side in sides) + " |" for name, value in rows]


def read_list(path):
    """({key: seconds}, what the first line says) of a list of passing tests."""
    if not os.path.exists(path):
        return {}, ""
    with open(path) as f:
        lines = f.read().splitlines()
    head = lines[0][2:] if lines and lines[0].startswith("# ") else ""
    return {results.key(name): float(seconds) for name, seconds in (line.split("\t") for line in lines if line and not line.startswith("#"))}, head


def write_list(path, names, head=""):
    with open(path, "w") as f:
        f.write(f"# {head}\n" if head else "")
        f.writelines(f"{key}\t{seconds:.0f}\n" for key, seconds in sorted((results.key(name), seconds) for name, seconds in names.items()))


def sample(seconds, procs, seed):
    """Keys of tests known to pass that take so long together, for a seed always the same."""
    known, _ = read_list(PASSING)
    if not known:
        sys.exit(f"{PASSING} names no test")
    # a sample has one node
    names = sorted(set(known) - set(read_reasons()))
    random.Random(seed).shuffle(names)
    chosen, serial, parallel = [], 0.0, 0.0
    for name in names:
        takes = max(known[name], 1) * SLOWER
        alone = results.alone(name)
        if takes <= seconds / 2 and serial + parallel + (takes if alone else takes / procs) <= seconds:
            chosen.append(name)
            serial, parallel = (serial + takes, parallel) if alone else (serial, parallel + takes / procs)
    return chosen


def keep(runs, merged):
    """After a run of everything: the lists and the page."""
    passed = {results.key(s["name"]): s["seconds"] for s in merged if s["state"] == "passed"}
    seconds = sum(run["seconds"] for run in runs) / len(runs)
    head = f"{time.strftime('%Y-%m-%d')}, {runs[0]['version']}, {count(merged)}, {minutes(seconds)}"
    if runs[0]["against"] == "upstream":
        write_list(UPSTREAM, passed, head)
        return
    # it only grows; what takes how long is the latest
    write_list(PASSING, {**read_list(PASSING)[0], **passed})
    write_page(PAGE, runs, merged)


def read_reasons():
    """{key: why} of the tests that one node cannot pass."""
    with open(REASONS) as f:
        lines = (line.rstrip("\n").split("\t", 1) for line in f if "\t" in line)
        return {results.key(name): why for name, why in lines}


def revision():
    """Of the sources, at the moment."""
    return subprocess.run(["git", "-C", HERE, "describe", "--always", "--dirty"], capture_output=True, text=True).stdout.strip()


def write_page(path, runs, merged):
    upstream, head = read_list(UPSTREAM)
    reasons = read_reasons()
    seconds = sum(run["seconds"] for run in runs) / len(runs)
    nodes = {1: "one node", 2: "two nodes"}.get(runs[0].get("nodes", 1), f"{runs[0].get('nodes')} nodes")
    lines = [
        "# Conformance", "",
        f"Written by `make conformance`: every test of upstream's suite that bears `[Conformance]`, on {nodes}, none skipped by us. A test passes",
        f"that passes in {'the run' if len(runs) == 1 else f'all of {len(runs)} runs in a row'}.", "",
        f"- skiff {', '.join(dict.fromkeys(run['revision'] for run in runs))} ({runs[0]['version']}), {time.strftime('%Y-%m-%d')}: {count(merged)} in {minutes(seconds)}",
        f"- upstream's own node on the same machine: {head or 'not run yet'}",
        f"- machine: {os.cpu_count()} cores, {os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') >> 30} GiB, Linux {os.uname().release}", "",
        "| | skiff | upstream | of |", "|---|---:|---:|---:|",
    ]
    for name, (passed, total) in by_sig(merged).items():
        theirs = sum(results.sig(test) == name for test in upstream) if upstream else "–"
        lines.append(f"| {name} | {passed} | {theirs} | {total} |")
    lines.append(f"| all | {sum(s['state'] == 'passed' for s in merged)} | {len(upstream) if upstream else '–'} | {len(merged)} |")
    lines += held(runs)
    failing = sorted((s for s in merged if s["state"] != "passed"), key=lambda s: s["name"])
    lines += ["", "## What does not pass, and what is missing" if failing else "All pass.", ""]
    for spec in failing:
        name = results.key(spec["name"])
        also = "" if not upstream or name in upstream else "; fails on upstream's own node too"
        flaky = "flaky; " if spec.get("flaky") else ""
        unknown = "did not run" if spec["state"] in ("not run", "interrupted") else "cause not known yet"
        lines.append(f"- {spec['name']}: {flaky}{reasons.get(name, unknown)}{also}")
    with open(path, "w") as f:
        f.write("\n".join(lines).rstrip() + "\n")


def main():
    if len(sys.argv) < 4 or sys.argv[1] != "--write":
        sys.exit(__doc__)
    runs = []
    for path in sys.argv[3:]:
        with open(path) as f:
            runs.append(json.load(f))
    write_page(sys.argv[2], runs, results.merge([run["specs"] for run in runs]))


if __name__ == "__main__":
    main()
