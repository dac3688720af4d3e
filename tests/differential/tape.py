"""Upstream's answers to a sample of seeds, kept in `sample/RIG.jsonl.xz`: a run on a tape asks skiff alone.

The first line of a file has the seeds and the number after which scripts count; each further line is one call: a digest of what was asked and the answers, or what was found beside the
answers, by a name. What is generated anew in each run (signing requests) does not count in the digest. A rig that asks otherwise than it did is told so: its tape must be recorded again.
"""
import hashlib
import json
import lzma
import re


def digest(scripts):
    text = re.sub(r"LS0tLS1[\w+/=]+", "", json.dumps(scripts, sort_keys=True))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


class Recorder:
    """Plays on upstream's side and keeps what it answers."""

    def __init__(self, side):
        self.side, self.calls = side, []

    def __getattr__(self, name):
        return getattr(self.side, name)

    def play(self, scripts):
        answers = self.side.play(scripts)
        self.calls.append({"asked": digest(scripts), "answers": answers})
        return answers

    def ask(self, requests):
        return self.play([requests])[0]

    def found(self, name, find):
        value = self.side.found(name, find)
        self.calls.append({"found": name, "value": value})
        return value

    def write(self, path, seeds, count):
        path.parent.mkdir(parents=True, exist_ok=True)
        with lzma.open(path, "wt", preset=9) as out:
            for line in ({"seeds": seeds, "count": count}, *self.calls):
                out.write(json.dumps(line, separators=(",", ":"), sort_keys=True) + "\n")


class Tape:
    """Stands where upstream's side does, and answers as it did."""
    name, worker, program, programs, dir = "upstream", None, None, None, None

    def __init__(self, path):
        with lzma.open(path, "rt") as lines:
            head = json.loads(next(lines))
            self.seeds, self.count = head["seeds"], head["count"]
            calls = [json.loads(line) for line in lines]
        self.calls = [call for call in calls if "asked" in call]
        self.beside = {call["found"]: call["value"] for call in calls if "found" in call}
        self.path, self.at = path, 0

    def play(self, scripts):
        call = self.calls[self.at] if self.at < len(self.calls) else {"asked": None}
        self.at += 1
        if call["asked"] != digest(scripts):
            raise RuntimeError(f"{self.path}: call {self.at} is another one than was recorded: record the sample again")
        return call["answers"]

    def ask(self, requests):
        return self.play([requests])[0]

    def found(self, name, find):
        if name not in self.beside:
            raise RuntimeError(f"{self.path}: {name} was not recorded: record the sample again")
        return self.beside[name]

    def start(self, run):
        pass

    def stop(self):
        pass

    def certificate(self, name, user, groups=()):
        pass

    def until(self, what, requests, done):
        """It has seen everything long ago."""
