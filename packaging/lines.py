"""Prints lines of product code (no blanks, comments, test modules) by crate, the longest files and the median."""
import pathlib
import statistics

files = {}
for path in sorted(pathlib.Path("crates").glob("*/src/**/*.rs")):
    if path.name == "tests.rs":
        continue
    count = 0
    for line in path.read_text().splitlines():
        if line.startswith("#[cfg(test)]"):
            break
        text = line.strip()
        count += bool(text) and not text.startswith("//")
    files[path] = count
crates = {}
for path, count in files.items():
    crates[path.parts[1]] = crates.get(path.parts[1], 0) + count
for crate, count in sorted(crates.items(), key=lambda c: -c[1]):
    print(f"{count:6} {crate}")
print(f"{sum(files.values()):6} in all, {len(files)} files, median {statistics.median(files.values()):.0f}")
for path, count in sorted(files.items(), key=lambda f: -f[1])[:8]:
    print(f"{count:6} {path}")
