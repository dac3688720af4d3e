#!/usr/bin/env python3
"""Has a node fail in every way that machines fail, and looks at what the cluster makes of it. Three nodes; a server and two agents."""
import argparse, os, shutil, signal, sys, time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [os.path.join(HERE, name) for name in ("../conformance", "../operators", "../../packaging")]
import cluster, oci
import cut_off, frozen, full_disk, killed, server_restarts
import node, workload, world

# each has `run(failing, nodes, work)`, after which all is as before
FAILURES = {"cut-off": cut_off, "frozen": frozen, "server-restarts": server_restarts, "killed": killed, "full-disk": full_disk}
SERVER, FAILING = "node", "node3"


def arguments():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="+", metavar="NAME", help=f"one of {', '.join(FAILURES)}, or all")
    parser.add_argument("--skiff", required=True, help="skiff's binary")
    parser.add_argument("--programs", required=True, help="the folder that `tests/upstream/build.sh` filled (`kubectl`)")
    parser.add_argument("--out", required=True, help="clusters and logs go into new folders in it")
    args = parser.parse_args()
    args.names = list(FAILURES) if "all" in args.names else args.names
    for name in args.names:
        if name not in FAILURES:
            parser.error(f"there is no {name}; there are {', '.join(FAILURES)}")
    args.skiff, args.programs, args.out = map(os.path.abspath, (args.skiff, args.programs, args.out))
    return args


def archive(args):
    path = os.path.join(args.out, "nodes.tar")
    with oci.Archive(path) as images:
        for image in workload.images(args.programs):
            images.image(*image)
    return path


def fail_in_turn(args, machines, seen):
    nodes = {SERVER: node.Node(machines, "skiff", 0)}
    for port, name in enumerate(machines.agents, 1):
        nodes[name] = node.Node(machines, name, port)
    work = workload.Workload(seen, nodes)
    work.start(FAILING)
    seen.step("three nodes, and pods on each")
    for name in args.names:
        print(f"{name}:", flush=True)
        work.spread(FAILING)
        FAILURES[name].run(FAILING, nodes, work)
        work.settle()
        seen.step("all is as before")


def stop(*_):
    raise KeyboardInterrupt


def main():
    args = arguments()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, stop)
    os.makedirs(args.out, exist_ok=True)
    cluster.take_down_abandoned(args.out)
    folder = os.path.join(args.out, time.strftime("%Y%m%d-%H%M%S"))
    os.makedirs(folder)
    print(f"starting a cluster; everything of this run is in {folder}", flush=True)
    try:
        with cluster.Cluster(os.path.join(folder, "cluster"), args.programs, archive(args), args.skiff, nodes=3) as machines:
            seen = world.World(machines, args.programs, os.path.join(folder, "clients"))
            try:
                fail_in_turn(args, machines, seen)
            except cluster.Failed:
                with open(os.path.join(machines.log, "objects.log"), "w") as f:
                    f.write(seen.describe())
                raise
    except cluster.Failed as error:
        sys.exit(f"failed: {error}")
    finally:
        shutil.rmtree(os.path.join(folder, "clients"), ignore_errors=True)
    print("passed", flush=True)


if __name__ == "__main__":
    main()
