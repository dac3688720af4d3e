#!/usr/bin/env python3
"""Runs operators that others wrote, as they wrote them, on skiff, each on a new cluster of one node, and says how it went."""
import argparse, os, shutil, signal, sys, time

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
    parser.add_argument("--skiff", required=True, help="skiff's binary")
    parser.add_argument("--programs", required=True, help="the folder that `tests/upstream/build.sh` filled (`operators`)")
    parser.add_argument("--images", required=True, help="a folder for the archives of images that are made here")
    parser.add_argument("--out", help="clusters and logs go into new folders in it; the images' folder unless given")
    args = parser.parse_args()
    args.names = list(OPERATORS) if "all" in args.names else args.names
    for name in args.names:
        if name not in OPERATORS:
            parser.error(f"there is no {name}; there are {', '.join(OPERATORS)}")
        for program in OPERATORS[name].NEEDS:
            if not os.path.exists(os.path.join(args.programs, "versions", program)):
                parser.error(f"{program} is not built: tests/upstream/build.sh {args.programs} operators")
    args.skiff, args.programs, args.images = map(os.path.abspath, (args.skiff, args.programs, args.images))
    args.out = os.path.abspath(args.out or args.images)
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
    folder = os.path.join(args.out, f"{time.strftime('%Y%m%d-%H%M%S')}-{name}")
    images = archive(name, args)
    os.makedirs(folder)
    print(f"{name}: starting a cluster; everything of this run is in {folder}", flush=True)
    try:
        with cluster.Cluster(os.path.join(folder, "cluster"), args.programs, images, args.skiff) as node:
            seen = world.World(node, args.programs, os.path.join(folder, "clients"))
            try:
                OPERATORS[name].run(seen)
            except cluster.Failed:
                with open(os.path.join(node.log, "objects.log"), "w") as f:
                    f.write(seen.describe())
                raise
    except cluster.Failed as error:
        return str(error)
    finally:
        shutil.rmtree(os.path.join(folder, "clients"), ignore_errors=True)


def stop(*_):
    raise KeyboardInterrupt


def main():
    args = arguments()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, stop)
    for folder in (args.images, args.out):
        os.makedirs(folder, exist_ok=True)
    cluster.take_down_abandoned(args.out)
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
