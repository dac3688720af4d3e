"""The book of docs/SUMMARY.md.

  docs.py check [--skiff PROGRAM]   dead links, pages that the summary lacks; with a program also flags that it does not know, and
                                    flags of `skiff server` that docs/configuration.md does not name
  docs.py build OUT                 one HTML page for each page (needs python-markdown)
"""

import argparse
import html
import pathlib
import re
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
FLAG = re.compile(r"(?<![\w-])--[a-z][a-z0-9-]+")
# commands whose flags pages may name, beside kubectl's and those of other programs
COMMANDS = ["server", "agent", "token create", "certificate check", "token rotate", "kube-apiserver", "kubelet", "kube-scheduler", "kube-controller-manager", "kube-proxy", "dns", "container-runtime", "image import", "killall",
            "dev start", "dev load", "dev up"]
OTHERS = {"systemctl": {"--now"}, "kubectl": {"--cpu", "--image", "--max", "--min", "--port", "--previous", "--list", "--raw"}}
STYLE = "body{max-width:52rem;margin:2rem auto;padding:0 1rem;font:16px/1.55 system-ui,sans-serif;color:#222}pre,code{background:#f4f4f2;border-radius:3px}" \
        "pre{padding:.8rem;overflow:auto}code{padding:.1rem .25rem}table{border-collapse:collapse}td,th{border:1px solid #ccc;padding:.3rem .6rem;text-align:left}nav{font-size:.9rem}"


def pages():
    return [path for path in sorted(DOCS.rglob("*.md"))]


def links():
    """Links to files that are not there, and to headings that a page does not have."""
    for page in [*pages(), ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "ARCHITECTURE.md"]:
        for link in LINK.findall(page.read_text()):
            if re.match(r"[a-z]+:", link):
                continue
            file, _, anchor = link.partition("#")
            target = (page.parent / file).resolve() if file else page
            if not target.exists():
                yield f"{page.relative_to(ROOT)}: no such file: {link}"
            elif anchor and anchor not in anchors(target):
                yield f"{page.relative_to(ROOT)}: no such heading: {link}"


def anchors(page):
    heads = re.findall(r"^#+ (.*)$", page.read_text(), re.M)
    return {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads}


def summary():
    """The pages of the book in its order: title, path."""
    return re.findall(r"^- \[([^\]]+)\]\(([^)]+)\)", (DOCS / "SUMMARY.md").read_text(), re.M)


def unlisted():
    listed = {path for _, path in summary()} | {"SUMMARY.md"}
    for page in pages():
        name = str(page.relative_to(DOCS))
        if name not in listed and not name.startswith("decisions/"):
            yield f"docs/{name}: SUMMARY.md lacks it"
    index = (DOCS / "decisions/README.md").read_text()
    for page in sorted((DOCS / "decisions").glob("0*.md")):
        if page.name not in index:
            yield f"docs/decisions/README.md lacks {page.name}"


def known_flags(program, command):
    said = subprocess.run([program, *command.split(), "--help"], capture_output=True, text=True, check=True).stdout
    # what a description mentions is no flag: flags begin a line
    return set(re.findall(r"^ +(?:-\w, )?(--[a-z][a-z0-9-]+)", said, re.M))


def flags(program):
    known = {command: known_flags(program, command) for command in COMMANDS}
    all_ = set().union(*known.values(), *OTHERS.values())
    for _, path in summary():
        for flag in sorted(set(FLAG.findall((DOCS / path).read_text())) - all_):
            if path.startswith(("benchmarks", "conformance", "decisions")):
                continue
            yield f"docs/{path}: no command has {flag}"
    named = set(FLAG.findall((DOCS / "configuration.md").read_text()))
    for flag in sorted(known["server"] - named - {"--help"}):
        yield f"docs/configuration.md does not name {flag}"


def build(out):
    import markdown

    out.mkdir(parents=True, exist_ok=True)
    listed = summary()
    for page in pages():
        name = page.relative_to(DOCS)
        if name.name == "SUMMARY.md":
            continue
        up = "../" * (len(name.parts) - 1)
        items = "".join(f'<li><a href="{up}{html.escape(re.sub("md$", "html", path))}">{html.escape(title)}</a></li>' for title, path in listed)
        body = markdown.markdown(page.read_text(), extensions=["tables", "fenced_code", "toc"])
        body = re.sub(r'href="([^":#]+)\.md(#[^"]*)?"', r'href="\1.html\2"', body)
        title = page.read_text().splitlines()[0].lstrip("# ")
        target = (out / name).with_suffix(".html")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(f'<!doctype html><meta charset="utf-8"><title>{html.escape(title)} - skiff</title><style>{STYLE}</style>{body}<hr><nav><ul>{items}</ul></nav>\n')
    first = re.sub("md$", "html", listed[0][1])
    (out / "index.html").write_text(f'<!doctype html><meta http-equiv="refresh" content="0;url={first}">\n')
    print(f"{len(pages()) - 1} pages in {out}")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("what", choices=["check", "build"])
    parser.add_argument("out", nargs="?", type=pathlib.Path)
    parser.add_argument("--skiff")
    options = parser.parse_args()
    if options.what == "build":
        return build(options.out)
    faults = [*links(), *unlisted(), *(flags(options.skiff) if options.skiff else ())]
    for fault in faults:
        print(fault, file=sys.stderr)
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
