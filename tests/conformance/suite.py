#!/usr/bin/env python3
"""suite.py FOLDER: runs e2e.test inside the cluster's namespaces as FOLDER/suite.json says, and leaves FOLDER/results.json.

While it runs it serves the images for tests that pull, tells how far it is, and keeps what is needed to explain a failure.
"""
import json, os, signal, subprocess, sys, threading, time

import results
from api import Api, Recorder, history, yaml
from progress import Progress
from registry import Registry

SERIAL = "(Serial || Disruptive)"
REGISTRY_PORT = 5000
# ginkgo's first interrupt ends the tests, its second their cleaning up, which a cluster that goes away does not need
SECOND_INTERRUPT_SECONDS, GRACE_SECONDS = 2, 20


class Suite:
    def __init__(self, folder):
        self.folder = folder
        with open(os.path.join(folder, "suite.json")) as f:
            self.plan = json.load(f)
        self.failures = os.path.join(folder, "failures")
        self.logs = self.plan["logs"]
        # (time, sizes of the log files): which part of a log belongs to a span of time
        self.marks = []
        # of the ginkgo that runs
        self.ginkgo, self.printed, self.interrupted = None, None, False

    def path(self, name):
        return os.path.join(self.folder, name)

    def selection(self, labels):
        """e2e.test's own flags; ginkgo hands them on."""
        flags = ["--label-filter=" + " && ".join(filter(None, [self.plan["labels"], labels]))]
        flags += ["--focus=" + f for f in self.plan["focus"]]
        return flags + ["--skip=" + s for s in self.plan["skip"]]

    def names(self, labels):
        """What a selection comes to."""
        report = self.path("dry-run.json")
        flags = [f.replace("--", "--ginkgo.", 1) for f in self.selection(labels)]
        command = [self.plan["e2e"], "--ginkgo.dry-run", "--ginkgo.json-report=" + report, "--provider=local", "--kubeconfig=/dev/null", *flags]
        done = subprocess.run(command, capture_output=True, text=True, cwd=self.folder)
        if not os.path.exists(report):
            sys.exit(f"e2e.test does not list its tests: {done.stdout[-2000:]}{done.stderr[-2000:]}")
        with open(report) as f:
            found = [results.name_of(s) for s in json.load(f)[0]["SpecReports"] if s["LeafNodeType"] == "It" and s["State"] == "passed"]
        os.unlink(report)
        return found

    def run(self):
        phases = [("parallel", "!" + SERIAL, self.plan["procs"]), ("serial", SERIAL, 1)]
        phases = [(name, labels, procs, self.names(labels)) for name, labels, procs in phases]
        wanted = [(name, phase[0]) for phase in phases for name in phase[3]]
        if not wanted:
            sys.exit("no test is selected")
        Registry(self.plan["archive"], REGISTRY_PORT)
        self.api = Api(self.plan["kubeconfig"])
        for kind in ("pods", "events"):
            Recorder(self.api, "/api/v1/" + kind, self.path(kind + ".watch")).start()
        self.progress = Progress([name for name, _ in wanted])
        threading.Thread(target=self.tick, daemon=True).start()
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self.interrupt)
        specs = []
        for name, labels, procs, names in phases:
            if names and not self.interrupted:
                seconds = self.phase(name, labels, procs)
                specs += results.read(self.path(f"{name}.json"), name)
                print(f"\n{name}: {len(names)} in {seconds:.0f} s", flush=True)
        specs = results.complete(specs, wanted)
        for spec in specs:
            if "output" in spec:
                self.keep(spec)
            spec.pop("output", None)
        for kind in ("pods", "events"):
            os.unlink(self.path(kind + ".watch"))
        with open(self.path("specs.json"), "w") as f:
            json.dump({"specs": specs, "seconds": round(time.time() - self.progress.started), "interrupted": self.interrupted}, f)

    def phase(self, name, labels, procs):
        report = self.path(f"{name}.json")
        command = [
            "ginkgo", f"--procs={procs}", *self.selection(labels), "--no-color", "--timeout=6h", "--poll-progress-after=0",
            "--output-dir=" + self.folder, f"--json-report={name}.json", self.plan["e2e"], "--",
            "--provider=local", "--kubeconfig=" + self.plan["kubeconfig"], f"--num-nodes={self.plan['nodes']}", "--allowed-not-ready-nodes=0",
            "--disable-log-dump=true", "--dump-logs-on-failure=false",
        ]
        started = time.time()
        with open(self.path(f"{name}.log"), "w") as log:
            self.printed = log.name
            self.ginkgo = subprocess.Popen(command, stdout=log, stderr=log, cwd=self.folder, start_new_session=True)
            self.ginkgo.wait()
        if not os.path.exists(report) and not self.interrupted:
            with open(self.printed, errors="replace") as log:
                print(f"\nginkgo wrote no report:\n{log.read()[-3000:]}", flush=True)
        return time.time() - started

    def interrupt(self, *_):
        if self.interrupted:
            return
        self.interrupted = True
        print("\ninterrupted", flush=True)
        if self.ginkgo and self.ginkgo.poll() is None:
            os.killpg(self.ginkgo.pid, signal.SIGINT)
            threading.Timer(SECOND_INTERRUPT_SECONDS, os.killpg, (self.ginkgo.pid, signal.SIGINT)).start()
            threading.Timer(GRACE_SECONDS, os.killpg, (self.ginkgo.pid, signal.SIGKILL)).start()

    def tick(self):
        while True:
            sizes = {n: os.path.getsize(os.path.join(self.logs, n)) for n in os.listdir(self.logs)}
            self.marks.append((time.time(), sizes))
            if self.printed:
                for name in self.progress.read(self.printed):
                    self.snapshot(name)
                self.progress.show()
            time.sleep(1)

    def snapshot(self, name):
        """The cluster at the moment a failure is reported."""
        folder = os.path.join(self.failures, results.slug(name))
        os.makedirs(folder, exist_ok=True)
        for kind in ("nodes", "pods", "events"):
            try:
                text = yaml(self.api.get("/api/v1/" + kind))
            except OSError as error:
                text = f"# {error}\n"
            with open(os.path.join(folder, kind + ".yaml"), "w") as f:
                f.write(text)

    def keep(self, spec):
        """What explains a failure: the test's output, what its namespaces held, the logs of its time."""
        folder = os.path.join(self.failures, results.slug(spec["name"]))
        os.makedirs(folder, exist_ok=True)
        with open(os.path.join(folder, "output.txt"), "w") as f:
            f.write(spec["output"])
        namespaces = results.namespaces(spec["output"])
        for kind in ("pods", "events"):
            changes = history(self.path(kind + ".watch"), namespaces)
            with open(os.path.join(folder, f"namespace-{kind}.yaml"), "w") as f:
                for moment, change, thing in changes:
                    clock = time.strftime("%H:%M:%S", time.gmtime(moment))
                    f.write(f"---\n# {clock} {change}\n{yaml(thing)}")
        self.keep_logs(folder, spec["start"], spec["end"])

    def keep_logs(self, folder, start, end):
        before = [sizes for moment, sizes in self.marks if moment <= start - 1]
        after = [sizes for moment, sizes in self.marks if moment >= end + 1]
        for name in os.listdir(self.logs):
            with open(os.path.join(self.logs, name), "rb") as f:
                first = before[-1].get(name, 0) if before else 0
                f.seek(first)
                part = f.read(after[0].get(name, first) - first if after else -1)
            with open(os.path.join(folder, name), "wb") as f:
                f.write(part)


if __name__ == "__main__":
    Suite(sys.argv[1]).run()
    sys.stdout.flush()
    # threads of requests and timers do not hold it up
    os._exit(0)
