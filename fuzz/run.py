"""Runs targets under libFuzzer: python3 fuzz/run.py [TARGET ...] [--seconds 60]. What it finds is written to fuzz/seeds, where every later test run
tries it. The corpora that grow meanwhile are kept in the cache.

No nightly compiler is needed: coverage is asked of LLVM by flags that every compiler has, and memory is counted by our own allocator. With
nightly and cargo-fuzz, `cd fuzz/driver && FUZZ_TARGET=yaml cargo +nightly fuzz run fuzz` does the same with AddressSanitizer.
"""

import argparse
import os
import pathlib
import re
import shutil
import subprocess
import sys
import time

HERE = pathlib.Path(__file__).resolve().parent
CACHE = pathlib.Path(os.environ.get("XDG_CACHE_HOME", pathlib.Path.home() / ".cache")) / "skiff" / "fuzz"
TRIPLE = "x86_64-unknown-linux-gnu"
COVERAGE = [
    "-Cpasses=sancov-module",
    "-Cllvm-args=-sanitizer-coverage-level=4",
    "-Cllvm-args=-sanitizer-coverage-inline-8bit-counters",
    "-Cllvm-args=-sanitizer-coverage-pc-table",
    "-Cllvm-args=-sanitizer-coverage-trace-compares",
]
# megabytes of the whole process; seconds of one input
MEMORY = 2048
TIMEOUT = 20


def targets():
    """The names of all targets, in their order."""
    return re.findall(r"^    (\w+)::TARGET,$", (HERE / "src/targets/mod.rs").read_text(), re.M)


def build(folder):
    """Builds the driver with the versions of the product's own lock file and returns the program."""
    driver = HERE / "driver"
    shutil.copy(HERE.parent / "Cargo.lock", driver / "Cargo.lock")
    environment = {**os.environ, "RUSTFLAGS": " ".join(COVERAGE + ["--cfg=fuzzing"]), "CARGO_TARGET_DIR": str(folder)}
    subprocess.run(["cargo", "build", "--release", "--target", TRIPLE], cwd=driver, env=environment, check=True)
    return folder / TRIPLE / "release/fuzz"


def run(program, target, seconds):
    """Runs a target; returns how many inputs it tried, and the files of those that it failed for."""
    seeds, corpus = HERE / "seeds" / target, CACHE / "corpus" / target
    corpus.mkdir(parents=True, exist_ok=True)
    before = set(seeds.iterdir())
    command = [
        program, corpus, seeds, f"-max_total_time={seconds}", f"-artifact_prefix={seeds}/", f"-timeout={TIMEOUT}",
        f"-rss_limit_mb={MEMORY}", "-max_len=16384", "-print_final_stats=1", "-use_value_profile=1", "-verbosity=1",
    ]
    environment = {**os.environ, "FUZZ_TARGET": target}
    log = CACHE / f"{target}.log"
    with log.open("w") as out:
        code = subprocess.run(command, env=environment, stdout=out, stderr=out).returncode
    text = log.read_text(errors="replace")
    tried = [int(n) for n in re.findall(r"stat::number_of_executed_units: (\d+)", text)]
    tried += [int(n) for n in re.findall(r"^#(\d+)", text, re.M)]
    found = sorted(path for path in set(seeds.iterdir()) - before if not path.name.startswith("slow-unit"))
    for path in set(seeds.iterdir()) - before - set(found):
        path.unlink()
    if code and not found:
        print(text[-2000:])
    return max(tried, default=0), found, code


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("target", nargs="*")
    parser.add_argument("--seconds", type=int, default=60, help="for each target")
    arguments = parser.parse_args()
    wanted = arguments.target or targets()
    for name in wanted:
        if name not in targets():
            sys.exit(f"no such target: {name}; there are {', '.join(targets())}")
    program = build(pathlib.Path(os.environ.get("CARGO_TARGET_DIR", CACHE / "target")))
    bad = 0
    for name in wanted:
        begun = time.monotonic()
        tried, found, code = run(program, name, arguments.seconds)
        print(f"{name}: {tried} inputs in {time.monotonic() - begun:.0f} s, {len(found)} found", flush=True)
        for path in found:
            print(f"  {path.relative_to(HERE.parent)}")
        bad += bool(code)
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
