#!/usr/bin/env python3
"""Runs operators that others wrote, as they wrote them, on skiff, each on a new cluster of one node, and says how it went."""
import argparse, os, shutil, sys

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [os.path.join(HERE, "../conformance"), os.path.join(HERE, "../../packaging")]
import cluster, oci
import cert_manager, gatekeeper, helm, metrics_server, prometheus_operator
import world

# each has `NEEDS`, programs of build.sh, `images(programs)`, and `run(world)`
OPERATORS = {
    "cert-manager": cert_manager,
    "helm3": helm.HELM3,
    "helm4": helm.HELM4,
    "metrics-server": metrics_server,
    "gatekeeper": gatekeeper,
    "prometheus-operator": prometheus_operator,
}


def arguments():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="+", metavar="NAME", help=f"one of {', '.join(OPERATORS)}, or all")
    parser.add_argument("--images", required=True, help="a folder for the archives of images that are made here; for all else, too, without --out")
    args = world.arguments(parser)
    args.names = list(OPERATORS) if "all" in args.names else args.names
    for name in args.names:
        if name not in OPERATORS:
            parser.error(f"there is no {name}; there are {', '.join(OPERATORS)}")
        for program in OPERATORS[name].NEEDS:
            if not os.path.exists(os.path.join(args.programs, "versions", program)):
                parser.error(f"{program} is not built: tests/upstream/build.sh {args.programs} operators")
    args.images = os.path.abspath(args.images)
    args.out = args.out or args.images
    return args


def archive(name, args):
    path = os.path.join(args.images, name + ".tar")
    with oci.Archive(path) as images:
        for image in OPERATORS[name].images(args.programs):
            images.image(*image)
    return path


def forget_runs(out, name):
    """Logs of earlier runs of an operator; another run's may be going on."""
    for folder in os.listdir(out):
        path = os.path.join(out, folder)
        if folder.endswith("-" + name) and os.path.isdir(path) and not os.path.exists(os.path.join(path, "cluster/name")):
            shutil.rmtree(path)


def one_run(name, args):
    """Returns what failed, or nothing."""
    forget_runs(args.out, name)
    try:
        with world.started(cluster.Cluster, args, archive(name, args), name) as (_, seen):
            OPERATORS[name].run(seen)
    except cluster.Failed as error:
        return str(error)


def main():
    args = arguments()
    os.makedirs(args.images, exist_ok=True)
    world.prepare(args.out)
    failed = {}
    try:
        for name in args.names:
            error = one_run(name, args)
            print(f"{name}: {'FAILED: ' + error if error else 'works'}", flush=True)
            if error:
                failed[name] = error
    except KeyboardInterrupt:
        sys.exit("interrupted; the cluster is down")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
