#!/usr/bin/env python3
"""images.py PROGRAMS OUT: one archive, OUT/conformance.tar, with the images that pods of the conformance suite use.

PROGRAMS is the folder that `tests/upstream/build.sh` filled (`conformance`). Upstream's images are Alpine with tools; these are
busybox with Debian's tools, under the names and tags that `e2e.test --list-images` gives.
"""
import os, sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../../packaging"))
import oci

E2E = "registry.k8s.io/e2e-test-images/"
PACKAGES = [
    "nginx-light", "nginx-common", "nginx-core", "nginx", "bash", "curl", "bind9-dnsutils", "bind9-host", "netcat-openbsd", "iproute2",
    "iperf", "util-linux", "mount", "perl-base", "libc-bin",
]
# what upstream's agnhost has of Alpine: bind-tools curl netcat-openbsd iproute2 iperf bash util-linux-misc, and musl's getent
TOOLS = [
    "/bin/bash", "/usr/bin/curl", "/usr/bin/dig", "/usr/bin/nslookup", "/usr/bin/host", "/usr/bin/getent", "/usr/bin/iperf",
    "/usr/bin/unshare", "/usr/bin/nsenter", "/usr/bin/lsns", "/usr/bin/ipcs", "/usr/bin/ipcmk", "/usr/bin/ipcrm", "/usr/bin/findmnt",
    "/bin/nc.openbsd", "/bin/ip", "/bin/ss", "/bin/mount", "/bin/umount",
]
PASSWD = """root:x:0:0:root:/root:/bin/sh
daemon:x:1:1::/:/bin/false
www-data:x:33:33::/var/www:/bin/false
nobody:x:65534:65534:nobody:/home:/bin/false
user-defined-in-image:x:1000:1000::/home:/bin/sh
"""
GROUP = """root:x:0:
daemon:x:1:
tty:x:5:
www-data:x:33:
nogroup:x:65534:
user-defined-in-image:x:1000:
group-defined-in-image:x:50000:user-defined-in-image
"""
NGINX = """user root;
worker_processes 1;
error_log /dev/stderr notice;
pid /run/nginx.pid;
events { worker_connections 1024; }
http { access_log /dev/stdout; server { listen 80; root /usr/share/nginx/html; index index.html; } }
"""
WELCOME = "<!DOCTYPE html><html><head><title>Welcome to nginx!</title></head><body><h1>Welcome to nginx!</h1></body></html>\n"


def base(programs):
    """A root file system with a shell and the users that tests name."""
    layer = oci.Layer().merged_usr()
    for path in ("root", "home", "var/log", "etc", "proc", "sys", "dev", "run", "mnt", "opt", "srv"):
        layer.directory(path)
    layer.directory("tmp", 0o1777).directory("var/tmp", 0o1777)
    layer.text("etc/passwd", PASSWD).text("etc/group", GROUP).text("etc/shadow", "root:*:::::::\n", 0o640)
    layer.text("etc/nsswitch.conf", "passwd: files\ngroup: files\nhosts: files dns\n")
    # a test of image volumes looks for it
    layer.text("etc/os-release", 'NAME="Alpine Linux"\nID=alpine\nPRETTY_NAME="busybox in place of Alpine Linux"\n')
    # in its default configuration: Debian's own drops variables such as `data-1` and prefers its applets (nc, env) to programs
    return layer.busybox(os.path.join(programs, "busybox"))


def tools():
    layer = oci.Layer()
    for path in TOOLS:
        layer.program(path)
    layer.link("usr/bin/nc", "nc.openbsd").link("usr/local/bin/iperf", "/usr/bin/iperf")
    # curl wants the file, also where it is told not to look at certificates
    return layer.text("etc/ssl/certs/ca-certificates.crt", "")


def nginx():
    layer = oci.Layer().program("/usr/sbin/nginx").copy("/etc/nginx/mime.types")
    layer.text("etc/nginx/nginx.conf", NGINX).text("usr/share/nginx/html/index.html", WELCOME)
    for path in ("var/lib/nginx/body", "var/log/nginx", "var/cache/nginx"):
        layer.directory(path, 0o777)
    return layer


def perl():
    layer = oci.Layer().program("/usr/bin/perl")
    for folder, _, files in os.walk("/usr/lib/x86_64-linux-gnu/perl-base"):
        for name in files:
            layer.copy(os.path.join(folder, name))
    return layer


def images(programs):
    """(names, layers, config) of each image."""

    def built(folder, *names, mode=0o755):
        layer = oci.Layer()
        for name in names:
            layer.file(folder + os.path.basename(name), os.path.join(programs, name), mode)
        return layer

    shell, debian, welcome = base(programs), tools(), nginx()
    files = "test-images/"
    coredns, etcd = built("", "coredns"), built("usr/local/bin/", "etcd", "etcdctl", "etcdutl")
    agnhost = built("", "agnhost").link("agnhost-2", "agnhost").directory("uploads", 0o777)
    keys = built("", files + "agnhost/localhost.crt", files + "agnhost/localhost.key", mode=0o644)
    nautilus = built("", files + "nautilus/nautilus.jpg", files + "nautilus/data.json", mode=0o644)
    kitten = built("", files + "kitten/kitten.jpg", files + "kitten/data.json", mode=0o644)
    host = [shell, debian, coredns, agnhost, keys]
    server = {"Cmd": ["nginx", "-g", "daemon off;"], "StopSignal": "SIGQUIT"}
    site = {"Entrypoint": ["/agnhost"], "Cmd": ["test-webserver"]}
    return [
        (["registry.k8s.io/pause:3.10.2"], [built("", "pause")], {"Entrypoint": ["/pause"], "User": "65535:65535"}),
        ([E2E + "busybox:1.37.0-2", E2E + "busybox:1.36.1-1"], [shell], {"Cmd": ["sh"]}),
        ([E2E + "agnhost:2.66.1", E2E + "agnhost:2.55"], host, {"Entrypoint": ["/agnhost"], "Cmd": ["pause"]}),
        ([E2E + "nginx:1.27.0-2", E2E + "nginx:1.28.0-2"], [shell, welcome], server),
        ([E2E + "nonroot:1.5"], [shell], {"Cmd": ["sh"], "User": "1234"}),
        ([E2E + "nonewprivs:1.4"], [shell, built("usr/local/bin/", "nnp", mode=0o6755)], {"Cmd": ["nnp"]}),
        ([E2E + "ipc-utils:1.4"], [shell, debian], {"Cmd": ["sh"]}),
        ([E2E + "glibc-dns-testing:2.1.1"], [shell, debian, coredns], {"Cmd": ["bash"]}),
        ([E2E + "nautilus:1.8"], [*host, nautilus], site),
        ([E2E + "kitten:1.8"], [*host, kitten], site),
        ([E2E + "regression-issue-74839:1.5"], [shell, built("", "regression-issue-74839")], {"Entrypoint": ["/regression-issue-74839"]}),
        ([E2E + "sample-apiserver:1.29.2"], [built("", "sample-apiserver")], {"Entrypoint": ["/sample-apiserver"]}),
        ([E2E + "perl:5.26"], [shell, perl()], {"Cmd": ["perl"]}),
        (["registry.k8s.io/etcd:3.7.0-0"], [etcd], {}),
    ]


def main():
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    programs, out = sys.argv[1:]
    os.makedirs(out, exist_ok=True)
    oci.install(PACKAGES)
    path = os.path.join(out, "conformance.tar")
    with oci.Archive(path) as archive:
        for names, layers, config in images(programs):
            archive.image(names, layers, config)
    print(f"{path}  {os.path.getsize(path) >> 20} MiB")


if __name__ == "__main__":
    main()
