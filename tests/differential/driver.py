"""Asks upstream's API server and skiff's the same seeded questions and shows what they answer differently.

    driver.py RIG --programs DIR --skiff PROGRAM --out DIR [--seeds 1-100] [--replay FILE]

A rig is a module beside this one. It has:
    fixtures()                  requests that make what every seed finds, sent once
    certificates()              {name: (user, groups)} of clients that requests may come `as`
    world(seed)                 objects of one seed: [{"path": collection, "body": object}], deleted after it
    questions(seed)             requests of one seed; a request is what worker.py sends
    seen(seeds)                 requests whose answers say, once `is_seen` of them is true, that the servers know the worlds
    normal(request, answer)     what is compared of an answer
    kind(request, ours, theirs) the name of the group that a difference belongs to

Differences are grouped by kind; of each kind the simplest is taken, everything of its world that it does not need is left out, and the
rest is written to OUT/RIG/KIND.json, which --replay asks again. `accepted.txt` has a pattern (of `RIG KIND`), a tab and the cause a line;
what matches is counted and not shown.
"""
import argparse
import contextlib
import importlib
import json
import re
import signal
import sys
import time
from collections import defaultdict
from pathlib import Path

from servers import Skiff, Upstream

BATCH = 50


def accepted():
    lines = (Path(__file__).parent / "accepted.txt").read_text().splitlines()
    return [re.compile(line.split("\t")[0]) for line in lines if line and not line.startswith("#")]


class Run:
    def __init__(self, rig, servers):
        self.rig, self.servers = rig, servers

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

    def shrink(self, difference):
        """Leaves out of the seed's world what the difference does not need."""
        seed, kind, needed = difference["seed"], difference["kind"], self.rig.world(difference["seed"])
        for one in list(needed):
            if self.rig.is_needed(one):
                continue
            fewer = [other for other in needed if other is not one]
            if any(d["kind"] == kind for d in self.replay(seed, fewer, difference["question"])):
                needed = fewer
        return {**difference, "world": needed}

    def replay(self, seed, world, question):
        self.make(world)
        self.wait([seed])
        found = list(self.differences([question]))
        self.remove(world)
        return found


def show(kind, all_, smallest):
    print(f"\n== {kind}: {len(all_)} (seeds {', '.join(str(d['seed']) for d in all_[:5])})")
    question = {k: v for k, v in smallest["question"].items() if v is not None}
    print(json.dumps(question, ensure_ascii=False)[:1500])
    for side in ("upstream", "skiff"):
        print(f"  {side}: {json.dumps(smallest[side], ensure_ascii=False)[:700]}")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("rig")
    for name in ("--programs", "--skiff", "--out"):
        parser.add_argument(name, required=True)
    parser.add_argument("--seeds", default="1-100")
    parser.add_argument("--replay")
    options = parser.parse_args()
    # whoever ends a run wants its servers ended too
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    rig = importlib.import_module(options.rig)
    out = Path(options.out) / options.rig
    out.mkdir(parents=True, exist_ok=True)
    servers = [Upstream(out, options.programs), Skiff(out, options.skiff)]
    run = Run(rig, servers)
    found, asked = defaultdict(list), 0
    try:
        for server in servers:
            server.start(options.rig)
            for name, (user, groups) in rig.certificates().items():
                server.certificate(name, user, groups)
        run.must(rig.fixtures())
        if options.replay:
            case = json.loads(Path(options.replay).read_text())
            differences = run.replay(case["seed"], case["world"], case["question"])
            for difference in differences:
                show(difference["kind"], [case], difference)
            return 1 if differences else 0
        first, _, last = options.seeds.partition("-")
        seeds = list(range(int(first), int(last or first) + 1))
        begin = time.monotonic()
        for start in range(0, len(seeds), BATCH):
            asked += run.seeds(seeds[start:start + BATCH], found)
            if sys.stderr.isatty() or start % (BATCH * 20) == 0:
                print(f"{asked} questions in {time.monotonic() - begin:.0f} s, kinds: {len(found)}", file=sys.stderr)
        patterns = accepted()
        known = {kind for kind in found if any(p.search(f"{options.rig} {kind}") for p in patterns)}
        for kind in sorted(set(found) - known):
            simplest = min(found[kind], key=lambda d: len(json.dumps(d["question"])))
            smallest = run.shrink(simplest)
            (out / (re.sub(r"[^\w.-]+", "-", kind)[:100] + ".json")).write_text(json.dumps(smallest, indent=1, ensure_ascii=False))
            show(kind, found[kind], smallest)
        new = sum(len(found[kind]) for kind in set(found) - known)
        old = sum(len(found[kind]) for kind in known)
        print(f"\n{options.rig}: {len(seeds)} seeds, {asked} questions in {time.monotonic() - begin:.0f} s: "
              f"{new} answered differently in {len(set(found) - known)} kinds, {old} in {len(known)} accepted kinds")
        return 1 if new else 0
    finally:
        with contextlib.ExitStack() as stack:
            for server in servers:
                stack.callback(server.stop)


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parent))
    sys.exit(main())
