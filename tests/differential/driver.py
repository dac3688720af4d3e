"""Asks upstream's API server and skiff's the same seeded questions and shows what they answer differently.

    driver.py RIG --programs DIR --skiff PROGRAM --out DIR [--seeds 1-100,120] [--replay FILE or folder]
    driver.py RIG --programs DIR --skiff PROGRAM --out DIR --seeds 1-100 --record FILE
    driver.py RIG --skiff PROGRAM --out DIR --tape FILE

A rig is a module beside this one. It has:
    fixtures()                  requests that make what every seed finds, sent once
    certificates()              {name: (user, groups)} of clients that requests may come `as`
    started(server)             if it is there: starts what else a side has
    flags(server)               if it is there: more flags of a side's API server
    CONTROLLER_FLAGS            if it is there: more flags of both sides' controller managers
and either questions, each asked of what stands there and asked by itself:
    world(seed)                 objects of one seed: [{"path": collection, "body": object}], deleted after it
    questions(seed)             requests of one seed; a request is what worker.py sends
    seen(seeds)                 requests whose answers say, once `is_seen` of them is true, that the servers know the worlds
    normal(request, answer)     what is compared of an answer
    kind(request, ours, theirs) the name of the group that a difference belongs to
or scripts, whose steps build on each other; what differs is the first step that is answered differently:
    script(seed)                steps of one seed; `setup` marks those that may not fail, `after` those that clean up; neither are compared
    named(script, number)       the script with names of its own, and what stands for what
    normal(step, answer, names, text), kinds(step, ours, theirs)   as above; a difference may belong to several groups
where two programs are compared and not two servers:
    sides(servers)              what plays the scripts, instead of the servers
and, where seeds are the numbers of cases:
    prepare(folder, programs)   makes the cases, answers how many there are
    tally(seed, answers, difference), report()      counts what upstream answered to a script and whether ours differs; all counts as text
It may have a class Runner in place of the ones here, and say which CLUSTER it asks (servers.py), which WORKER does so, and in what BATCH.

Differences are grouped by kind; of each kind the simplest is taken, everything that it does not need is left out, and the rest is written
to OUT/RIG/KIND.json, which --replay asks again (of a folder all). `accepted.txt` has a pattern (of `RIG KIND`), a tab and the cause a line; what matches is
counted and not shown.

--record keeps upstream's answers to those of the seeds that show no difference which is not accepted, and begins anew with these alone, as a
tape does, until none is left out; --tape plays them to skiff alone (tape.py).

--again asks everything once more, of new servers, when something differs: some answers hang on time. What differs at the same seed both times is a difference.
"""
import argparse
import concurrent.futures
import contextlib
import importlib
import json
import os
import re
import signal
import sys
import time
from collections import defaultdict
from pathlib import Path

from servers import Skiff, Upstream
from tape import Recorder, Tape

BATCH = 50


def accepted():
    lines = (Path(__file__).parent / "accepted.txt").read_text().splitlines()
    return [re.compile(line.split("\t")[0]) for line in lines if line and not line.startswith("#")]


class Run:
    def __init__(self, rig, servers):
        self.rig, self.servers, self.count = rig, servers, 0

    def both(self, requests):
        return [server.ask(requests) for server in self.servers]

    def must(self, requests):
        """Fixtures are made on both servers or the comparison is of nothing."""
        for server in self.servers:
            for request, answer in zip(requests, server.ask(requests)):
                if answer["code"] not in (200, 201, 409):
                    raise RuntimeError(f"{server.name}: {request['method']} {request['path']}: {answer}")

    def make(self, objects):
        self.must([{"method": "POST", **one} for one in objects])

    def remove(self, objects):
        gone = [{"method": "DELETE", "path": f"{one['path']}/{one['body']['metadata']['name']}"} for one in reversed(objects)]
        self.both(gone)

    def wait(self, seeds):
        for server in self.servers:
            server.until(f"seeds {seeds} are seen", self.rig.seen(seeds), self.rig.is_seen)

    def differences(self, questions):
        theirs, ours = self.both(questions)
        for question, theirs, ours in zip(questions, theirs, ours):
            a, b = self.rig.normal(question, theirs), self.rig.normal(question, ours)
            if a != b:
                yield {"question": question, "upstream": a, "skiff": b, "kind": self.rig.kind(question, b, a)}

    def seeds(self, seeds, found):
        worlds = {seed: self.rig.world(seed) for seed in seeds}
        objects = [one for world in worlds.values() for one in world]
        self.make(objects)
        self.wait(seeds)
        asked = 0
        for seed in seeds:
            questions = self.rig.questions(seed)
            asked += len(questions)
            for difference in self.differences(questions):
                found[difference["kind"]].append({"seed": seed, **difference})
        self.remove(objects)
        return asked

    def shrink_all(self, some, cases):
        """Makes some of the cases smaller."""
        for kind, case in some.items():
            cases[kind] = self.shrink(case)

    def shrink(self, difference):
        """Leaves out of the seed's world what the difference does not need."""
        seed, kind, needed = difference["seed"], difference["kind"], self.rig.world(difference["seed"])
        for one in list(needed):
            if self.rig.is_needed(one):
                continue
            fewer = [other for other in needed if other is not one]
            if any(d["kind"] == kind for d in self.ask_again(seed, fewer, difference["question"])):
                needed = fewer
        return {**difference, "world": needed}

    def replay(self, case):
        return self.ask_again(case["seed"], case["world"], case["question"])

    def ask_again(self, seed, world, question):
        self.make(world)
        self.wait([seed])
        found = list(self.differences([question]))
        self.remove(world)
        return found


class Scripts(Run):
    """A run of a rig that has scripts."""

    def compare(self, scripts):
        """For each script what differs at its first step that does, or None."""
        made = []
        for script in scripts:
            self.count += 1
            made.append(self.rig.named(script, self.count))
        asked = [steps for steps, _ in made]
        with concurrent.futures.ThreadPoolExecutor(2) as pool:
            self.theirs, ours = pool.map(lambda server: server.play(asked), self.servers)
        return [self.first(script, *one) for script, one in zip(scripts, zip(made, ours, self.theirs))]

    def first(self, script, made, ours, theirs):
        text = json.dumps(made[0])
        for step, our, their in zip(script, ours, theirs):
            if step.get("after"):
                continue
            if step.get("setup"):
                if any(answer["code"] not in (200, 201) for answer in (our, their)):
                    raise RuntimeError(f"{step['method']} {step['path']}: {our} {their}")
                continue
            a, b = (self.rig.normal(step, answer, made[1], text) for answer in (our, their))
            if a != b and (groups := self.rig.kinds(step, a, b)):
                return {"script": script, "step": step["n"], "question": step, "kinds": groups, "skiff": a, "upstream": b}
        return None

    def seeds(self, seeds, found):
        scripts = [self.rig.script(seed) for seed in seeds]
        compared = self.compare(scripts)
        for seed, script, one, answers in zip(seeds, scripts, compared, self.theirs):
            if hasattr(self.rig, "tally"):
                self.rig.tally(seed, [answer for step, answer in zip(script, answers) if not step.get("after")], one)
            for kind in one["kinds"] if one else ():
                found[kind].append({"seed": seed, **one, "kind": kind})
        return sum(len(script) for script in scripts)

    def shrink(self, difference):
        """Leaves out steps, edits and members of objects that the difference does not need."""
        kind = difference["kind"]
        script = [step for step in difference["script"] if step["n"] <= difference["step"] or step.get("after")]
        best = difference

        def all_smaller(script):
            for at, step in enumerate(script):
                if not step.get("setup") and not step.get("after") and step["n"] != difference["step"]:
                    yield [one for one in script if one is not step]
            for at, step in enumerate(script):
                if step.get("setup") or step.get("after"):
                    continue
                for name in ("edits", "body", "headers", "words"):
                    for part in smaller(step.get(name)) if name in step else ():
                        yield [*script[:at], {**step, name: part}, *script[at + 1:]]
                path, _, query = step.get("path", "").partition("?")
                parts = query.split("&") if query else []
                # some objects must never be stored, and a watch without an end is waited for
                for part in (part for part in parts if part != "dryRun=All" and not part.startswith("timeoutSeconds=")):
                    rest = "&".join(one for one in parts if one is not part)
                    yield [*script[:at], {**step, "path": path + ("?" + rest if rest else "")}, *script[at + 1:]]

        # a pass that finds nothing ends it; many are asked at once, as most do not show the difference any more
        for _ in range(60):
            candidates = list(all_smaller(script))
            for start in range(0, len(candidates), 24):
                some = candidates[start:start + 24]
                hit = next(((one, new) for one, new in zip(some, self.compare(some)) if new and kind in new["kinds"]), None)
                if hit:
                    script, best = hit
                    break
            else:
                break
        return {"seed": difference["seed"], **best, "script": script, "kind": kind}

    def replay(self, case):
        one = self.compare([case["script"]])[0]
        return [{**one, "kind": kind} for kind in one["kinds"]] if one else []


def smaller(value):
    """A value with one part left out, the largest parts first."""
    if isinstance(value, dict):
        for key in sorted(value, key=lambda k: -len(json.dumps(value[k]))):
            yield {k: v for k, v in value.items() if k != key}
        for key, one in value.items():
            for part in smaller(one):
                yield {**value, key: part}
    elif isinstance(value, list):
        for at in range(len(value)):
            yield value[:at] + value[at + 1:]
        for at, one in enumerate(value):
            for part in smaller(one):
                yield [*value[:at], part, *value[at + 1:]]


def show(kind, all_, smallest):
    print(f"\n== {kind}: {len(all_)} (seeds {', '.join(str(d['seed']) for d in all_[:5])})")
    for step in smallest.get("script", [smallest["question"]]):
        if not step.get("setup") and not step.get("after"):
            print(json.dumps({k: v for k, v in step.items() if v not in (None, {}) and k not in ("n", "files", "namespace")}, ensure_ascii=False)[:1500])
    for side in ("upstream", "skiff"):
        print(f"  {side}: {json.dumps(smallest[side], ensure_ascii=False)[:700]}")


def numbers(text, most):
    """The seeds of `1-100,120`."""
    made = []
    for part in text.split(","):
        first, _, last = part.partition("-")
        made += range(int(first), min(int(last or first), most) + 1)
    return made


def record(run, theirs, seeds, batch, known, path):
    """Keeps upstream's answers to the seeds if all are answered alike, else says which are."""
    found = defaultdict(list)
    for start in range(0, len(seeds), batch):
        run.seeds(seeds[start:start + batch], found)
    differ = {one["seed"] for kind, all_ in found.items() if not known(kind) for one in all_}
    print(f"{run.rig.__name__}: {len(seeds)} seeds, {len(differ)} of them differ", flush=True)
    if not differ:
        theirs.write(path, seeds, 0)
    return [seed for seed in seeds if seed not in differ]


class Again(list):
    """That all is to be asked once more of servers that have been asked nothing yet, with these seeds in a flag."""

    def __init__(self, flag, seeds):
        super().__init__([flag, ",".join(map(str, seeds))])


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("rig")
    for name in ("--skiff", "--out"):
        parser.add_argument(name, required=True)
    parser.add_argument("--programs")
    parser.add_argument("--seeds", default="1-100")
    parser.add_argument("--replay")
    parser.add_argument("--record", type=Path)
    parser.add_argument("--tape", type=Path)
    parser.add_argument("--again", action="store_true")
    parser.add_argument("--only", help="the seeds whose differences count")
    parser.add_argument("--shrink", type=int, help="of how many groups, the largest first, the simplest case is made smaller")
    options = parser.parse_args()
    servers = []

    def end(*_):
        # whoever ends a run wants its servers ended too; threads that wait for answers end with the workers
        for server in servers:
            if server.worker:
                server.worker.kill()
        sys.exit(143)
    signal.signal(signal.SIGTERM, end)
    rig = importlib.import_module(options.rig)
    out = Path(options.out) / options.rig
    out.mkdir(parents=True, exist_ok=True)
    most = rig.prepare(out, options.programs) if hasattr(rig, "prepare") else sys.maxsize
    what = getattr(rig, "CLUSTER", "api-server"), getattr(rig, "WORKER", "worker.py")
    theirs = Tape(options.tape) if options.tape else Upstream(out, options.programs, *what)
    servers += [theirs, Skiff(out, options.skiff, *what)]
    sides = rig.sides(servers) if hasattr(rig, "sides") else servers
    if options.tape:
        sides = [theirs, *sides[1:]]

    def made(sides):
        return getattr(rig, "Runner", Scripts if hasattr(rig, "script") else Run)(rig, sides)
    run = made(sides)
    run.count = theirs.count if options.tape else 0
    batch = getattr(rig, "BATCH", BATCH)
    found, asked = defaultdict(list), 0
    try:
        for server in servers:
            if hasattr(rig, "flags"):
                server.flags = rig.flags(server)
            server.controller_flags = getattr(rig, "CONTROLLER_FLAGS", [])
            server.start(options.rig)
            for name, (user, groups) in rig.certificates().items():
                server.certificate(name, user, groups)
            if hasattr(rig, "started") and not isinstance(server, Tape):
                rig.started(server)
        Run(rig, servers[1:] if options.tape else servers).must(rig.fixtures())
        if options.replay:
            path, left = Path(options.replay), 0
            for file in sorted(path.glob("*.json")) if path.is_dir() else [path]:
                case = json.loads(file.read_text())
                for difference in run.replay(case):
                    left += 1
                    show(difference["kind"], [case], difference)
            print(f"{left} differences")
            return 1 if left else 0
        seeds = theirs.seeds if options.tape else numbers(options.seeds, most)
        begin = time.monotonic()
        patterns = accepted()
        if options.record:
            if not seeds:
                raise RuntimeError("no seed is answered alike each time: there is nothing to keep")
            theirs = Recorder(sides[0])
            alike = record(made([theirs, *sides[1:]]), theirs, seeds, batch, lambda kind: any(p.search(f"{options.rig} {kind}") for p in patterns), options.record)
            return 0 if alike == seeds else Again("--seeds", alike)
        for start in range(0, len(seeds), batch):
            asked += run.seeds(seeds[start:start + batch], found)
            if sys.stderr.isatty() or start % (batch * 20) == 0:
                print(f"{asked} questions in {time.monotonic() - begin:.0f} s, kinds: {len(found)}", file=sys.stderr)
        if options.only:
            chance = {one["seed"] for all_ in found.values() for one in all_} - {int(seed) for seed in options.only.split(",")}
            print(f"\nseeds that differ this time alone: {sorted(chance) or 'none'}")
            found = defaultdict(list, {kind: left for kind, all_ in found.items() if (left := [one for one in all_ if one["seed"] not in chance])})
        most_shrunk = options.shrink if options.shrink is not None else getattr(rig, "SHRINK", 150)
        known = {kind for kind in found if any(p.search(f"{options.rig} {kind}") for p in patterns)}
        (out / "groups.txt").write_text("".join(f"{len(found[kind])}\t{kind}\n" for kind in sorted(found, key=lambda kind: (-len(found[kind]), kind))))
        new = sorted(set(found) - known, key=lambda kind: (-len(found[kind]), kind))
        simplest = {kind: dict(min(found[kind], key=lambda d: len(json.dumps(d.get("script", d["question"]))))) for kind in new}
        run.shrink_all({kind: simplest[kind] for kind in new[:most_shrunk]}, simplest)
        for kind, smallest in simplest.items():
            file = out / (re.sub(r"[^\w.-]+", "-", kind)[:100] + ".json")
            file.write_text(json.dumps(smallest, indent=1, ensure_ascii=False))
            show(kind, found[kind], smallest)
            print(f"  make differential RIG={options.rig} REPLAY={file}", flush=True)
        if hasattr(rig, "report"):
            (out / "counts.txt").write_text(rig.report() + "\n")
            print("\n" + rig.report())
        new = sum(len(found[kind]) for kind in set(found) - known)
        old = sum(len(found[kind]) for kind in known)
        print(f"\n{options.rig}: {len(seeds)} seeds, {asked} questions in {time.monotonic() - begin:.0f} s: "
              f"{new} answered differently in {len(set(found) - known)} kinds, {old} in {len(known)} accepted kinds")
        differ = sorted({one["seed"] for kind in set(found) - known for one in found[kind]})
        return Again("--only", differ) if differ and options.again and not options.only else 1 if new else 0
    finally:
        with contextlib.ExitStack() as stack:
            for server in servers:
                stack.callback(server.stop)


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parent))
    left = main()
    if isinstance(left, Again):
        sys.stdout.flush()
        os.execv(sys.executable, [sys.executable, *sys.argv, *left])
    sys.exit(left)
