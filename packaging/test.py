"""Runs the workspace's tests. Those that fail run once more, alone: what passes then failed by the company of others, or by chance, and is named so
that it is mended; what fails again fails the run.

    test.py [ARGUMENT OF cargo test...]
"""
import re
import subprocess
import sys

FAILED = re.compile(r"^test (\S+)(?: - .*)? \.\.\. FAILED$")
RESULT = re.compile(r"^test result: \w+\. (\d+) passed; (\d+) failed; (\d+) ignored")


def run(*arguments):
    """Runs tests, shows what they print, and returns the exit code, those that failed, and the three counts."""
    command = ["cargo", "test", "--workspace", "--locked", "--no-fail-fast", *arguments]
    failed, counts = [], [0, 0, 0]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, errors="replace") as tests:
        for line in tests.stdout:
            print(line, end="", flush=True)
            if one := FAILED.match(line):
                failed.append(one[1])
            elif some := RESULT.match(line):
                counts = [have + int(more) for have, more in zip(counts, some.groups())]
    return tests.returncode, failed, counts


def main():
    code, failed, (passed, bad, ignored) = run(*sys.argv[1:])
    # a program that ended without naming a test, or did not build
    if code and (not failed or len(failed) != bad):
        return code
    alone = 0
    if failed:
        print(f"\n{len(failed)} failed and run again alone: {', '.join(failed)}", flush=True)
        code, again, (alone, _, _) = run(*sys.argv[1:], "--", "--test-threads=1", "--exact", *failed)
        for name in failed:
            print(f"{name}: {'failed again' if name in again else 'passed alone'}")
        if not code and alone < len(failed):
            print("not all of them were found again")
            code = 1
    print(f"{passed + alone} passed, {bad - alone} failed, {ignored} skipped" + (f"; {alone} passed only alone" if alone else ""))
    return code


sys.exit(main())
