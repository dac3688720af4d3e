#!/usr/bin/env python3
"""What a cluster holds: processes, memory, open files, disk, mounts, cgroups, links, objects; run inside, it prints that as JSON."""
import collections, json, os, re, subprocess, sys, time

from api import Api

# how long the last test's leftovers may take to go
SETTLE_SECONDS = 60
# until what the tests wrote is compacted away: both servers do that every five minutes, with what is older than five minutes
COMPACTED_SECONDS = 620
# what has to be as before the run
GIVEN_BACK = ("processes", "mounts", "cgroups")


def measure(node):
    done = subprocess.run(node.inside(sys.executable, os.path.abspath(__file__), node.folder, node.kubeconfig, node.name), capture_output=True, text=True)
    return json.loads(done.stdout) if done.returncode == 0 else {"error": done.stderr.strip()[-300:]}


def settled(node, before):
    """Measured when nothing of the tests is left, or when that has not come."""
    deadline = time.monotonic() + SETTLE_SECONDS
    while True:
        now = measure(node)
        if "error" in now or all(now["counts"][k] <= before["counts"][k] for k in GIVEN_BACK) or time.monotonic() > deadline:
            return now
        time.sleep(2)


def compacted(node):
    time.sleep(COMPACTED_SECONDS)
    return measure(node)


def read(path, mode="r"):
    try:
        with open(path, mode) as f:
            return f.read()
    except OSError:  # the process has just ended
        return "" if mode == "r" else b""


def title(command):
    words = command.rstrip(b"\0").decode(errors="replace").split("\0")
    program = os.path.basename(words[0].split(" ")[0])
    if program == "exe" or program == "skiff":
        return "skiff " + (words[1] if len(words) > 1 else "")
    return program.rstrip(":")


def processes():
    """By name: how many, KiB resident, proportional and of no file, open files, threads."""
    found = collections.defaultdict(collections.Counter)
    for pid in filter(str.isdigit, os.listdir("/proc")):
        command = read(f"/proc/{pid}/cmdline", "rb")
        # the namespaces' own first process with its sleep, and this one
        if not command or int(pid) in (1, os.getpid()) or command.startswith((b"sleep\0infinity", b"nsenter\0")):
            continue
        memory = dict(re.findall(r"^(Rss|Pss|Pss_Anon): +(\d+)", read(f"/proc/{pid}/smaps_rollup"), re.M))
        try:
            files = len(os.listdir(f"/proc/{pid}/fd"))
        except OSError:
            continue
        threads = len(os.listdir(f"/proc/{pid}/task"))
        found[title(command)].update(count=1, rss=int(memory.get("Rss", 0)), pss=int(memory.get("Pss", 0)), anonymous=int(memory.get("Pss_Anon", 0)), files=files, threads=threads)
    return found


def cgroups(name):
    roots = ["/sys/fs/cgroup"] if os.path.exists("/sys/fs/cgroup/cgroup.controllers") else [e.path for e in os.scandir("/sys/fs/cgroup") if e.is_dir() and not e.is_symlink()]
    return sum(len(folders) for root in roots for _, folders, _ in os.walk(os.path.join(root, name)))


def objects(kubeconfig):
    api = Api(kubeconfig)
    return {name: len(api.get(path)["items"]) for name, path in api.listable()}


def disk(folder):
    """KiB by folder, two levels deep."""
    lines = subprocess.run(["du", "-x", "-k", "-d", "2", "--exclude=*/agent/images", folder, "/run"], capture_output=True, text=True).stdout.splitlines()
    sizes = {path.replace(folder, "cluster", 1): int(size) for size, path in (line.split("\t") for line in lines)}
    return {path: size for path, size in sizes.items() if not path.startswith(("/run/lock", "cluster/log"))}


def main():
    folder, kubeconfig, name = sys.argv[1:]
    found = processes()
    lines = subprocess.run(["nft", "list", "ruleset"], capture_output=True, text=True).stdout.splitlines()
    links = subprocess.run(["ip", "-o", "link"], capture_output=True, text=True).stdout.splitlines()
    counts = {
        "processes": sum(p["count"] for p in found.values()), "mounts": read("/proc/self/mountinfo").count("\n"), "cgroups": cgroups(name),
        "links": len(links), "network namespaces": len(os.listdir("/run/netns")) if os.path.isdir("/run/netns") else 0,
        "lines of nftables rules": len(lines),
    }
    print(json.dumps({"counts": counts, "processes": found, "disk": disk(folder), "objects": objects(kubeconfig)}))


if __name__ == "__main__":
    main()
