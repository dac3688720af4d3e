#!/usr/bin/env python3
"""Runs upstream's conformance suite against a cluster, skiff's or upstream's own, and says how it went."""
import argparse, json, os, re, shutil, signal, subprocess, sys, threading, time

import cluster, holds, report, results

# results of runs that are kept
KEPT_RUNS = 20
HERE = os.path.dirname(os.path.abspath(__file__))


def against(args):
    return "skiff" if args.skiff else "upstream"


def arguments():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--programs", required=True, help="the folder that tests/upstream/build.sh filled")
    parser.add_argument("--images", required=True, help="the archive that images.py made")
    parser.add_argument("--out", required=True, help="results and clusters go into a new folder in it")
    parser.add_argument("--skiff", help="skiff's binary; without it upstream's own node is judged")
    parser.add_argument("--focus", default="", help="a regular expression: only tests with such names")
    parser.add_argument("--skip", default="", help="a regular expression: no tests with such names")
    parser.add_argument("--labels", default="Conformance", help="ginkgo's filter by label; empty for every test of e2e.test")
    parser.add_argument("--procs", type=int, default=6, help="tests at a time, where they allow it")
    parser.add_argument("--nodes", type=int, default=1, help="nodes of the cluster")
    parser.add_argument("--dual", action="store_true", help="IPv6 beside IPv4")
    parser.add_argument("--runs", type=int, default=1, help="so many times, each with a new cluster; a test passes that passes in all")
    parser.add_argument("--same-cluster", action="store_true", help="the runs have one cluster, whose memory is to end each time where it did")
    parser.add_argument("--sample", type=float, help="so many minutes of what is known to pass, another part for each commit")
    args = parser.parse_args()
    if args.nodes < 1:
        parser.error("--nodes: a cluster has one or more")
    return args


def start(args, folder):
    os.makedirs(folder)
    print(f"{against(args)}: starting a cluster; everything of this run is in {folder}", flush=True)
    return cluster.Cluster(os.path.join(folder, "cluster"), args.programs, args.images, args.skiff, args.nodes, args.dual)


def one_run(args, node, folder, focus, patient):
    """Runs the suite on the cluster; returns what it found. A patient one waits for what the cluster gives back later."""
    os.makedirs(folder, exist_ok=True)
    plan = {
        "e2e": os.path.join(args.programs, "e2e.test"), "archive": args.images, "kubeconfig": node.kubeconfig, "logs": node.log,
        "labels": args.labels, "focus": focus, "skip": [args.skip] if args.skip else [], "procs": args.procs, "nodes": args.nodes,
    }
    with open(os.path.join(folder, "suite.json"), "w") as f:
        json.dump(plan, f)
    found = {"against": against(args), "version": cluster.version(node), "revision": report.revision(), "nodes": args.nodes, "cluster": node.folder}
    before = holds.measure(node)
    suite = subprocess.Popen(node.inside(sys.executable, os.path.join(HERE, "suite.py"), folder), start_new_session=True)
    if "skiff" in node.processes:
        threading.Thread(target=watch, args=(node, suite), daemon=True).start()
    try:
        code = suite.wait()
    except KeyboardInterrupt:
        interrupt(suite)
        code = suite.wait()
    if not os.path.exists(os.path.join(folder, "specs.json")):
        raise cluster.Failed(f"the suite ended with {code} and no results")
    with open(os.path.join(folder, "specs.json")) as f:
        found.update(json.load(f))
    found["holds"] = [before]
    if not found["interrupted"]:
        found["holds"].append(holds.settled(node, before))
        if patient:
            found["holds"].append(holds.compacted(node))
    os.unlink(os.path.join(folder, "specs.json"))
    for name in ("parallel.json", "serial.json", "suite.json"):
        if os.path.exists(os.path.join(folder, name)):
            os.unlink(os.path.join(folder, name))
    results.junit(found["specs"], found["seconds"], os.path.join(folder, "junit.xml"))
    with open(os.path.join(folder, "results.json"), "w") as f:
        json.dump(found, f, indent=1)
    return found


def interrupt(suite):
    """Tells the suite itself: what entered the namespaces for it only waits, and would die of the signal."""
    with open(f"/proc/{suite.pid}/task/{suite.pid}/children") as f:
        for child in f.read().split():
            os.kill(int(child), signal.SIGINT)


def watch(node, suite):
    """A server that ends in the middle fails every test after it, each after minutes: the run ends too."""
    code = node.processes["skiff"].wait()
    if suite.poll() is None:
        print(f"\nskiff ended with {code} in the middle of the run; its log is in {node.log}", flush=True)
        interrupt(suite)


def prune(out):
    runs = sorted(name for name in os.listdir(out) if re.match(r"\d{8}-\d{6}-", name))
    for name in runs[:-KEPT_RUNS]:
        # another run's may be going on
        if not os.path.exists(os.path.join(out, name, "cluster/name")):
            shutil.rmtree(os.path.join(out, name))


def stop(*_):
    raise KeyboardInterrupt


def main():
    args = arguments()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, stop)
    args.programs, args.images, args.out = map(os.path.abspath, (args.programs, args.images, args.out))
    os.makedirs(args.out, exist_ok=True)
    cluster.take_down_abandoned(args.out)
    prune(args.out)
    focus = [args.focus] if args.focus else []
    if args.sample:
        commit = subprocess.run(["git", "-C", HERE, "rev-parse", "HEAD"], capture_output=True, text=True).stdout.strip()
        names = report.sample(args.sample * 60, args.procs, commit)
        focus = [results.pattern(name) for name in names]
        print(f"{len(names)} of the tests that pass, chosen by {commit[:12]}", flush=True)
    everything = args.labels == "Conformance" and not (args.focus or args.skip or args.sample or args.dual)
    name = f"{time.strftime('%Y%m%d-%H%M%S')}-{against(args)}"
    folders = [os.path.join(args.out, name + (f"-{number}" if args.runs > 1 else "")) for number in range(1, args.runs + 1)]
    runs = []
    try:
        for share in [folders] if args.same_cluster else [[folder] for folder in folders]:
            with start(args, share[0]) as node:
                for folder in share:
                    runs.append(one_run(args, node, folder, focus, everything and (args.same_cluster or folder == folders[-1])))
                    report.print_run(runs[-1], folder)
                    if runs[-1]["interrupted"]:
                        break
            if runs[-1]["interrupted"]:
                break
    except KeyboardInterrupt:
        sys.exit("interrupted; the cluster is down")
    except cluster.Failed as error:
        sys.exit(str(error))
    merged = results.merge([run["specs"] for run in runs])
    if len(runs) > 1:
        report.print_merged(merged, len(runs))
    interrupted = any(run["interrupted"] for run in runs)
    if everything and not interrupted:
        report.keep(runs, merged)
    sys.exit(1 if interrupted or any(s["state"] != "passed" for s in merged) else 0)


if __name__ == "__main__":
    main()
