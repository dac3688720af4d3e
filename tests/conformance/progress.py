"""How far a run is, read from what ginkgo prints: e2e.test's own reports by URL do not name the tests."""
import os, re, sys, time

# the mark of a test that has ended, and for one that failed the line after it
ENDED = re.compile(r"•(?: \[(?:FAILED|PANICKED!|TIMEDOUT|INTERRUPTED|ABORTED)\][^\n]*\n([^\n]*)\n)?|^S \[SKIPPED\]", re.M)
# between lines where there is no terminal to write one line again and again
INTERVAL_SECONDS = 30


class Progress:
    def __init__(self, names):
        # the longest first: a name may be the beginning of another
        self.names = sorted(names, key=len, reverse=True)
        self.started, self.shown = time.time(), 0
        self.terminal = sys.stdout.isatty()
        # by file, as there is one for each call of ginkgo: its size when it was read, how many ended, who failed
        self.logs = {}

    def read(self, path):
        """Takes in what ginkgo has printed to a file; returns the names of the tests that have failed since the last time."""
        size, _, before = self.logs.get(path, (0, 0, []))
        if os.path.getsize(path) == size:
            return []
        with open(path, errors="replace") as f:
            text = f.read()
        found = list(ENDED.finditer(text))
        failed = [self.name(one[1]) for one in found if one[1]]
        self.logs[path] = (len(text.encode()), len(found), failed)
        for name in failed[len(before):]:
            print(("\r\x1b[K" if self.terminal else "") + "FAILED " + name, flush=True)
        return failed[len(before):]

    def name(self, line):
        """A test by the line that ginkgo prints, which names the kind of node that failed and has the labels at its end."""
        plain = re.sub(r"\[(It|(Just)?(Before|After)Each|DeferCleanup[^\]]*)\] ", "", line)
        return next((name for name in self.names if plain.startswith(name)), plain)

    def show(self):
        now = time.time()
        if not self.terminal and now - self.shown < INTERVAL_SECONDS:
            return
        self.shown = now
        ended, failed = sum(log[1] for log in self.logs.values()), sum(len(log[2]) for log in self.logs.values())
        seconds = int(now - self.started)
        line = f"{ended}/{len(self.names)} done, {failed} failed, {seconds // 60}:{seconds % 60:02}"
        print("\r\x1b[K" + line if self.terminal else line, end="" if self.terminal else "\n", flush=True)
