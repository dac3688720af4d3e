#!/usr/bin/env python3
"""Has a node fail in every way that machines fail, and looks at what the cluster makes of it. Three nodes; a server and two agents."""
import argparse, os, sys

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
    args = world.arguments(parser)
    args.names = list(FAILURES) if "all" in args.names else args.names
    for name in args.names:
        if name not in FAILURES:
            parser.error(f"there is no {name}; there are {', '.join(FAILURES)}")
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


def main():
    args = arguments()
    world.prepare(args.out)
    try:
        with world.started(cluster.Cluster, args, archive(args), nodes=3) as (machines, seen):
            fail_in_turn(args, machines, seen)
    except cluster.Failed as error:
        sys.exit(f"failed: {error}")
    print("passed", flush=True)


if __name__ == "__main__":
    main()
